"""Conversations asked: those of a person, and one with everything that was said, at any moment of both axes.

A conversation at a moment is joined again from its events as they were known then (`conversations_events` says which).
That holds for one conversation and for those of a person; everybody's, newest first, are kept as known now only.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.answers.cursors import hold_moment, read_cursor, write_cursor
from adapters.answers.history import Histories
from adapters.answers.members import OWNERS_AT
from domain.correction import RETRACTION, Amendment, amended, undone_with
from domain.entry import Recorded, decode_body, moment
from domain.errors import Invalid, NotFound, Problem
from projections.conversations import Conversation, conversation_key
from projections.conversations import Conversations as Joining
from projections.projection import Effective

__all__ = ["ConversationAnswer", "Conversations", "ConversationsPage"]

READ_MODELS = ("contact_history", "conversations", "identities")


class ConversationsPage(msgspec.Struct, frozen=True):
    """Some conversations, the latest first."""

    conversations: list[dict[str, Any]]
    next: str | None
    about: list[str]  # the subjects of the person that was asked for
    as_of: str | None
    known_at: int
    head: int


class ConversationAnswer(msgspec.Struct, frozen=True):
    """One conversation, with its events in the order in which they happened."""

    conversation: dict[str, Any]
    entries: list[dict[str, Any]]
    as_of: str | None
    known_at: int
    head: int


class _Place(msgspec.Struct, frozen=True):
    at: datetime
    conversation: str
    known_at: int | None = None  # of a person's: a cursor carries its moment, so that pages never shift
    as_of: datetime | None = None


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
 WHERE (%(at)s::timestamptz IS NULL OR (last_at, conversation) < (%(at)s, %(conversation)s))
 ORDER BY last_at DESC, conversation DESC LIMIT %(limit)s
"""  # noqa: S608 - names of our own
_KEYS = (
    OWNERS_AT
    + """
SELECT DISTINCT v.key FROM owner o JOIN read.contact_history h ON h.subject = o.subject
       JOIN read.conversations_events v ON v.position = h.position
 WHERE h.known_from <= %(known_at)s AND (h.known_to IS NULL OR h.known_to > %(known_at)s)
   AND v.known_from <= %(known_at)s AND (v.known_to IS NULL OR v.known_to > %(known_at)s)
   AND (%(as_of)s::timestamptz IS NULL OR h.occurred_at <= %(as_of)s)
"""
)
_OWNERS = """
SELECT DISTINCT ON (reference) reference, subject FROM read.references
 WHERE reference = ANY(%(references)s) AND known_from <= %(known_at)s AND (known_to IS NULL OR known_to > %(known_at)s)
   AND (%(as_of)s::timestamptz IS NULL OR occurred_at <= %(as_of)s)
 ORDER BY reference, occurred_at, source, source_id
"""
_EVENTS = """
SELECT v.key, e.position, e.recorded_at, e.body, ARRAY(
           SELECT c.body FROM touchlog.amendments a JOIN touchpoint_log.events c ON c.position = a.position
            WHERE a.target = e.stream AND a.position <= %(known_at)s)
  FROM read.conversations_events v JOIN touchpoint_log.events e ON e.position = v.position
 WHERE v.key = ANY(%(keys)s) AND v.known_from <= %(known_at)s AND (v.known_to IS NULL OR v.known_to > %(known_at)s)
"""
_RETRACTED = """
SELECT a.target::text, min(a.position) FROM touchlog.amendments a JOIN touchpoint_log.events r ON r.position = a.position
 WHERE a.target = ANY(%(imports)s::uuid[]) AND a.position <= %(known_at)s AND r.type = %(type)s GROUP BY a.target
"""
_joining = Joining()


class Conversations:
    """Answers what was said."""

    def __init__(self, pool: AsyncConnectionPool[Any], histories: Histories) -> None:
        self._pool = pool
        self._histories = histories

    async def page(
        self,
        ref: str | None = None,
        *,
        as_of: datetime | None = None,
        known_at: datetime | int | None = None,
        limit: int = 50,
        cursor: str | None = None,
        after: int = 0,
    ) -> ConversationsPage:
        """Conversations of the person whom *ref* names, or of everybody; the one with the latest contact first.

        Args:
            as_of, known_at: the moment; of everybody's conversations only now is kept.

        Raises:
            Invalid, NotFound, FutureTime, Behind.
        """
        limit = max(1, min(limit, 1000))
        place = read_cursor(cursor, _Place) if cursor else None
        if after:
            await self._histories.moments.wait_until(after, models=READ_MODELS)
        if place is not None and (ref is None) != (place.known_at is None):
            raise _other_list()
        if ref is None:
            return await self._everybodys(place, limit, as_of, known_at)
        if place is not None:
            known = await self._histories.moments.resolve_known_at(known_at)
            hold_moment((place.as_of, place.known_at), as_of, known)
            as_of, known_at = place.as_of, place.known_at
        position = await self._position(known_at)
        about = [
            s["subject"]
            for s in (await self._histories.identities.person(ref, as_of=as_of, known_at=position)).subjects
        ]
        mine = {UUID(s) for s in about}
        async with self._pool.connection() as conn:
            keys = await (
                await conn.execute(
                    _KEYS, {"subjects": list(mine), "known_at": position, "as_of": as_of}, prepare=True
                )
            ).fetchall()
        found = await self._at([k for (k,) in keys], position, as_of)
        owners = await self._owners(found.values(), position, as_of)
        told = [
            row
            for row, _ in found.values()
            if (row.subject or owners.get(row.conversation)) in mine
            and (place is None or (row.last_at, row.conversation) < (place.at, place.conversation))
        ]
        told.sort(key=lambda row: (row.last_at, row.conversation), reverse=True)
        following = None
        if len(told) > limit:
            last = told[limit - 1]
            following = write_cursor(_Place(last.last_at, last.conversation, position, as_of))
        shown = [_told(tuple(getattr(row, c) for c in _COLUMNS)) for row in told[:limit]]
        return ConversationsPage(
            shown, following, about, moment(as_of) if as_of else None, position, position
        )

    async def _everybodys(
        self,
        place: _Place | None,
        limit: int,
        as_of: datetime | None,
        known_at: datetime | int | None,
    ) -> ConversationsPage:
        position = await self._histories.moments.resolve_known_at(known_at)
        if position is not None:
            await self._histories.moments.wait_until(position, models=("conversations",))
        parameters = {
            "at": place.at if place else None,
            "conversation": place.conversation if place else None,
            "limit": limit + 1,
        }
        async with self._pool.connection() as conn, conn.transaction():
            await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            seen = await (
                await conn.execute(
                    "SELECT position FROM touchlog.projections WHERE name = 'conversations' AND state = 'live'"
                )
            ).fetchone()
            rows = await (await conn.execute(_PAGE, parameters)).fetchall()
        now = seen[0] if seen else 0
        if as_of is not None or (position is not None and position != now):
            raise _only_now(as_of, position)
        following = (
            write_cursor(_Place(rows[limit - 1][6].astimezone(UTC), rows[limit - 1][0]))
            if len(rows) > limit
            else None
        )
        return ConversationsPage([_told(row) for row in rows[:limit]], following, [], None, now, now)

    async def one(
        self,
        key: str,
        *,
        as_of: datetime | None = None,
        known_at: datetime | int | None = None,
        after: int = 0,
    ) -> ConversationAnswer:
        """One conversation by its key (`conversation:…`, `thread:…`, `case:…`), with its events out of the log, corrected.

        Raises:
            NotFound: there is none with this key, or was none then.
            Invalid, FutureTime: as_of or known_at is no moment of this log.
            Behind: the read models do not come to *after* or *known_at* in time.
        """
        if after:
            await self._histories.moments.wait_until(after, models=READ_MODELS)
        position = await self._position(known_at)
        key = conversation_key(key)
        found = await self._at([key], position, as_of)
        if key not in found:
            then = "" if as_of is None and known_at is None else " at that moment"
            raise NotFound(
                f"There is no conversation '{key[:80]}'{then}. A key is what joins it and its value: conversation:…, thread:… or case:…; "
                "GET /v1/conversations or `touchlog conversations` lists them."
            )
        row, events = found[key]
        rows = [
            (
                e.recorded.position,
                e.recorded.recorded_at,
                e.recorded.event.occurred_at,
                e.recorded.event.source,
                e.recorded.event.id,
                e.body,
                e.patches,
            )
            for e in events
        ]
        return ConversationAnswer(
            _told(tuple(getattr(row, c) for c in _COLUMNS)),
            await self._histories.entries.of(rows),
            moment(as_of) if as_of else None,
            position,
            position,
        )

    async def _position(self, known_at: datetime | int | None) -> int:
        """The position of the moment asked for, once the read models have seen it; without one, what they have seen."""
        position = await self._histories.moments.resolve_known_at(known_at)
        if position is None:
            return await self._histories.moments.seen(READ_MODELS)
        await self._histories.moments.wait_until(position, models=READ_MODELS)
        return position

    async def _owners(
        self,
        conversations: Iterable[tuple[Conversation, list[Effective]]],
        position: int,
        as_of: datetime | None,
    ) -> dict[str, UUID]:
        """Whose each conversation is in which nobody is named: of the first order or case that belongs to somebody."""
        references = {
            row.conversation: [
                UUID(named[0][0]) for event in events if (named := event.recorded.event.references)
            ]
            for row, events in conversations
            if row.subject is None
        }
        every = {reference for named in references.values() for reference in named}
        if not every:
            return {}
        asked = {"references": list(every), "known_at": position, "as_of": as_of}
        async with self._pool.connection() as conn:
            owners = dict(await (await conn.execute(_OWNERS, asked, prepare=True)).fetchall())
        return {
            key: owners[first]
            for key, named in references.items()
            if (first := next((r for r in named if r in owners), None)) is not None
        }

    async def _at(
        self, keys: list[str], position: int, as_of: datetime | None
    ) -> dict[str, tuple[Conversation, list[Effective]]]:
        """Each conversation of *keys* with its events, in the order in which they happened, as known at *position*."""
        async with self._pool.connection() as conn:
            curs = conn.cursor(binary=True)
            await curs.execute(_EVENTS, {"keys": keys, "known_at": position}, prepare=True)
            stated = [
                (
                    key,
                    Recorded(at, recorded_at, decode_body(bytes(body))),
                    bytes(body),
                    [Amendment(Recorded(0, recorded_at, decode_body(bytes(p))), bytes(p)) for p in patches],
                )
                for key, at, recorded_at, body, patches in await curs.fetchall()
            ]
            imports = {a.recorded.event.import_id for *_, patches in stated for a in patches} - {None}
            retracted: dict[str, int] = {}
            if imports:  # a correction that came with an import goes with it
                await curs.execute(
                    _RETRACTED, {"imports": list(imports), "known_at": position, "type": RETRACTION}
                )
                retracted = dict(await curs.fetchall())
        events: dict[str, list[Effective]] = {}
        for key, recorded, body, patches in stated:
            # that it stands in the conversation says that it was not taken back
            held = amended(recorded, undone_with(patches, retracted))
            if held is not None and (as_of is None or held[0].event.occurred_at <= as_of):
                events.setdefault(key, []).append(Effective(held[0], body, held[1]))
        found = {}
        for key, told in events.items():
            told.sort(
                key=lambda e: (e.recorded.event.occurred_at, e.recorded.event.source, e.recorded.event.id)
            )
            row = _joining.whole(key, told)
            if row is not None:
                found[key] = (row, told)
        return found


def _only_now(as_of: datetime | None, position: int | None) -> Invalid:
    """Why everybody's conversations of another moment are not answered directly, and what gives them."""
    asked = f" --known-at @{position}" if position is not None else ""
    asked += f" --as-of {moment(as_of)}" if as_of is not None else ""
    return Invalid(
        [
            Problem(
                "/as_of" if as_of is not None else "/known_at",
                "Everybody's conversations are kept as known now; those of one person, or one conversation, are answered at any moment. "
                f"`touchlog rebuild conversations{asked}` gives them all, in a schema of their own.",
                "only_now",
            )
        ]
    )


def _other_list() -> Invalid:
    """A person's conversations and everybody's are two lists: a place in one is none in the other."""
    return Invalid(
        [
            Problem(
                "/cursor",
                "This cursor goes on with another list: everybody's conversations, or those of a person. Ask as the page before was asked.",
                "cursor",
            )
        ]
    )


def _told(row: Any) -> dict[str, Any]:
    shown = dict(zip(_COLUMNS, row, strict=True))
    return shown | {
        "subject": str(shown["subject"]) if shown["subject"] else None,
        "started_at": moment(shown["started_at"]),
        "last_at": moment(shown["last_at"]),
    }
