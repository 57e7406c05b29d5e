"""What is held on a person, what remains of it after erasure, who looked, and what shows that the log is whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.answers.members import OWNERS_AT
from domain.entry import moment

__all__ = ["Wholeness", "erased_of", "held", "looks", "wholeness"]

_HELD = (
    OWNERS_AT  # noqa: S608 - a constant of ours
    + """
SELECT h.channel, h.type, count(*)::bigint, min(h.occurred_at), max(h.occurred_at), min(h.position), max(h.position)
  FROM read.contact_history h WHERE h.subject IN (SELECT subject FROM owner)
   AND h.known_from <= %(known_at)s AND (h.known_to IS NULL OR h.known_to > %(known_at)s)
 GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
"""
)
_LOOKS = """
SELECT position, recorded_at, body FROM records_log.events
 WHERE type = 'access.recorded' AND convert_from(body, 'UTF8') LIKE ANY(%(names)s)
 ORDER BY position DESC LIMIT %(limit)s
"""
_ERASED = "SELECT subject, kind, lookup IS NULL FROM touchlog.subjects WHERE subject = ANY(%s) ORDER BY kind, subject"
_WHOLE = """
SELECT %(known_at)s::bigint, (SELECT count(*) FROM touchpoint_log.events WHERE position <= %(known_at)s),
       (SELECT min(c.swept_at) FROM touchlog.checks c),
       (SELECT coalesce(sum(rows), 0)::bigint FROM touchlog.differences)
"""


async def held(
    pool: AsyncConnectionPool[Any], subjects: Sequence[UUID], known_at: int
) -> list[dict[str, Any]]:
    """Events of a person by channel and type, as known at a position."""
    asked = {"subjects": list(subjects), "known_at": known_at, "as_of": None}
    async with pool.connection() as conn:
        rows = await (await conn.execute(_HELD.encode(), asked)).fetchall()
    return [
        {
            "channel": channel,
            "type": type_,
            "events": count,
            "first_at": moment(first_at),
            "last_at": moment(last_at),
            "first_position": first,
            "last_position": last,
        }
        for channel, type_, count, first_at, last_at, first, last in rows
    ]


class _Access(msgspec.Struct):
    principal: str = ""
    data: dict[str, Any] = {}
    subjects: list[tuple[str, str, str]] = []


async def looks(
    pool: AsyncConnectionPool[Any], subjects: Sequence[UUID], *, limit: int
) -> list[dict[str, Any]]:
    """Who looked at a person, when, by which action and for what declared reason; the newest first."""
    names = [f"%{subject}%" for subject in subjects]
    async with pool.connection() as conn:
        rows = await (await conn.execute(_LOOKS.encode(), {"names": names, "limit": limit})).fetchall()
    wanted = {str(subject) for subject in subjects}
    found = []
    for position, recorded_at, body in rows:
        access = msgspec.json.decode(body, type=_Access)
        if wanted.isdisjoint(subject for subject, _, _ in access.subjects):
            continue
        found.append(
            {
                "at": moment(recorded_at),
                "who": access.principal,
                "action": access.data.get("action"),
                "reason": access.data.get("purpose"),
                "denied": bool(access.data.get("denied")),
                "record": position,
            }
        )
    return found


async def erased_of(pool: AsyncConnectionPool[Any], subjects: Sequence[UUID]) -> list[tuple[UUID, str, bool]]:
    """(subject, kind, whether it was erased) of the subjects of a person."""
    async with pool.connection() as conn:
        rows = await (await conn.execute(_ERASED, (list(subjects),))).fetchall()
    return [(subject, kind, erased) for subject, kind, erased in rows]


class Wholeness(msgspec.Struct, frozen=True):
    """What shows that the log and its read models are whole, short of a signature.

    Attributes:
        counted: events from the first position to the one asked about; equal to it where none is missing.
        swept_at: when every read model was last compared with the log as a whole; None where never.
        differences: rows of read models that differ from what follows from the log.
    """

    position: int
    counted: int
    swept_at: datetime | None
    differences: int


async def wholeness(pool: AsyncConnectionPool[Any], known_at: int) -> Wholeness:
    """Look whether a position up to *known_at* is missing, and what the last checks of the read models found."""
    async with pool.connection() as conn:
        row = await (await conn.execute(_WHOLE.encode(), {"known_at": known_at})).fetchone()
    assert row is not None
    return Wholeness(*row)
