"""Conversations asked: those of a person, and one with everything that was said."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.history import Histories
from domain.correction import Amendment, amended
from domain.entry import Recorded, decode_body, moment
from domain.errors import Invalid, NotFound, Problem

__all__ = ["ConversationAnswer", "Conversations", "ConversationsPage"]

READ_MODELS = ("contact_history", "conversations", "identities")


class ConversationsPage(msgspec.Struct, frozen=True):
    """Some conversations, the latest first."""

    conversations: list[dict[str, Any]]
    next: str | None
    about: list[str]  # the subjects of the person that was asked for
    head: int


class ConversationAnswer(msgspec.Struct, frozen=True):
    """One conversation, with its events in the order in which they happened."""

    conversation: dict[str, Any]
    entries: list[dict[str, Any]]
    head: int


class _Place(msgspec.Struct, frozen=True):
    at: datetime
    conversation: str


_COLUMNS = (
    "conversation",
    "subject",
    "channels",
    "first_type",
    "last_type",
    "started_at",
    "last_at",
    "events",
    "inbound",
    "outbound",
    "last_position",
)
_PAGE = f"""
SELECT {", ".join(_COLUMNS)} FROM read.conversations
 WHERE (%(subjects)s::uuid[] IS NULL OR subject = ANY(%(subjects)s))
   AND (%(at)s::timestamptz IS NULL OR (last_at, conversation) < (%(at)s, %(conversation)s))
 ORDER BY last_at DESC, conversation DESC LIMIT %(limit)s
"""  # noqa: S608 - names of our own
_EVENTS = """
SELECT e.position, e.recorded_at, e.body, ARRAY(
           SELECT c.body FROM touchlog.amendments a JOIN touchpoint_log.events c ON c.position = a.position
            WHERE a.target = e.stream AND a.position <= %(until)s)
  FROM read.conversations_events v JOIN touchpoint_log.events e ON e.position = v.position
 WHERE v.key = %(key)s
"""


class Conversations:
    """Answers what was said, as known now."""

    def __init__(self, pool: AsyncConnectionPool[Any], histories: Histories) -> None:
        self._pool = pool
        self._histories = histories

    async def page(
        self, ref: str | None = None, *, limit: int = 50, cursor: str | None = None, after: int = 0
    ) -> ConversationsPage:
        """Conversations of the person whom *ref* names, or of everybody; the one with the latest contact first.

        Raises:
            Invalid, NotFound, Behind.
        """
        limit = max(1, min(limit, 1000))
        place = _read_cursor(cursor) if cursor else None
        if after:
            await self._histories.wait_until(after, models=READ_MODELS)
        about: list[str] = []
        if ref is not None:
            about = [s["subject"] for s in (await self._histories.person(ref)).subjects]
        parameters = {
            "subjects": [UUID(s) for s in about] if ref is not None else None,
            "at": place.at if place else None,
            "conversation": place.conversation if place else None,
            "limit": limit + 1,
        }
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(_PAGE, parameters)).fetchall()
        found = [_told(row) for row in rows[:limit]]
        following = (
            _write_cursor(_Place(rows[limit - 1][6].astimezone(UTC), rows[limit - 1][0]))
            if len(rows) > limit
            else None
        )
        return ConversationsPage(found, following, about, await self._histories.seen(READ_MODELS))

    async def one(self, key: str, *, after: int = 0) -> ConversationAnswer:
        """One conversation by its key (`conversation:…`, `thread:…`, `case:…`), with its events out of the log, corrected.

        Raises:
            NotFound: there is none with this key.
            Behind: the read models do not come to *after* in time.
        """
        if after:
            await self._histories.wait_until(after, models=READ_MODELS)
        async with self._pool.connection() as conn, conn.transaction():
            await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            position = await (
                await conn.execute(
                    "SELECT position FROM touchlog.projections WHERE name = 'conversations' AND state = 'live'"
                )
            ).fetchone()
            row = await (
                await conn.execute(
                    f"SELECT {', '.join(_COLUMNS)} FROM read.conversations WHERE conversation = %s".encode(),  # noqa: S608 - names of our own
                    (key,),
                )
            ).fetchone()
            if row is None or position is None:
                raise NotFound(
                    f"There is no conversation '{key[:80]}'. A key is what joins it and its value: conversation:…, thread:… or case:…; "
                    "GET /v1/conversations or `touchlog conversations` lists them."
                )
            curs = conn.cursor(binary=True)
            await curs.execute(_EVENTS, {"key": key, "until": position[0]})
            events = await curs.fetchall()
        rows: list[Any] = []
        for at, recorded_at, body, patches in events:
            recorded = Recorded(at, recorded_at, decode_body(bytes(body)))
            stated = [Amendment(Recorded(0, recorded_at, decode_body(bytes(p))), bytes(p)) for p in patches]
            held = amended(
                recorded, stated
            )  # that it stands in the conversation says that it was not taken back
            if held is not None:
                event = held[0].event
                rows.append(
                    (at, recorded_at, event.occurred_at, event.source, event.id, bytes(body), held[1])
                )
        rows.sort(key=lambda r: (r[2], r[3], r[4]))
        return ConversationAnswer(_told(row), await self._histories.entries(rows), position[0])


def _told(row: Any) -> dict[str, Any]:
    shown = dict(zip(_COLUMNS, row, strict=True))
    return shown | {
        "subject": str(shown["subject"]) if shown["subject"] else None,
        "started_at": moment(shown["started_at"]),
        "last_at": moment(shown["last_at"]),
    }


def _write_cursor(place: _Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def _read_cursor(cursor: str) -> _Place:
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), type=_Place)
    except (ValueError, msgspec.DecodeError):
        raise Invalid(
            [
                Problem(
                    "/cursor",
                    "This cursor was not made here; use `next` of the page before as it is.",
                    "cursor",
                )
            ]
        ) from None
