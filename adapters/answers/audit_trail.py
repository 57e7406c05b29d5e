"""The audit trail asked: who recorded what and when, about whom, because of what, known as when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.answers.cursors import hold_moment, read_cursor, write_cursor
from adapters.answers.history import Histories
from domain.entry import LAST_INSTANT, moment, within_calendar
from domain.errors import Invalid, NotFound, Problem

__all__ = ["AuditTrails", "TrailPage"]

READ_MODELS = ("audit_trail", "contact_history", "identities")


class TrailPage(msgspec.Struct, frozen=True):
    """Some rows of the trail, newest first."""

    entries: list[dict[str, Any]]
    next: str | None
    about: list[str]  # the subjects of the person that was asked for
    as_of: str | None
    known_at: int
    head: int


_PAGE = """
SELECT position, event_id, type, recorded_at, occurred_at, principal, on_behalf_of, source, source_id, channel, subject,
       correlation, causation, import_id, known_from,
       ARRAY(SELECT a.position FROM touchlog.amendments a WHERE a.target = t.event_id AND a.position <= %(known_at)s
              UNION ALL
             SELECT a.position FROM touchlog.amendments a WHERE a.target = t.import_id::uuid AND a.position <= %(known_at)s
              ORDER BY 1)
  FROM {rows} t
 ORDER BY position DESC LIMIT %(limit)s
"""
# Each page is a range of an index, however long the trail is: by position, or by who recorded it and position.
_ROWS = """(SELECT * FROM read.audit_trail
             WHERE known_from <= %(known_at)s AND (known_to IS NULL OR known_to > %(known_at)s) {filters}
             ORDER BY {order} DESC LIMIT %(limit)s)"""
_OF_ACTOR = "(TABLE recorded UNION ALL TABLE in_their_name)"
_AS_ACTOR = {
    "recorded": "AND principal = %(actor)s",
    "in_their_name": "AND on_behalf_of = %(actor)s AND principal <> %(actor)s",
}
_FILTERS = {
    # The event itself, what was recorded because of it, and what corrects it or takes it back.
    "event": """AND (position = ANY(%(positions)s) OR (causation = ANY(%(names)s) AND position > %(first)s))""",
    "subjects": """AND subject IN (
        SELECT unnest(%(subjects)s::uuid[]) UNION SELECT o.reference FROM (
            SELECT DISTINCT ON (r.reference) r.reference, r.subject FROM read.references r
             WHERE r.reference IN (SELECT c.reference FROM read.references c WHERE c.subject = ANY(%(subjects)s))
               AND r.known_from <= %(known_at)s AND (r.known_to IS NULL OR r.known_to > %(known_at)s)
               AND (%(as_of)s::timestamptz IS NULL OR r.occurred_at <= %(as_of)s)
             ORDER BY r.reference, r.occurred_at, r.source, r.source_id) o
         WHERE o.subject = ANY(%(subjects)s))""",
    "day": "AND position > touchpoint_log.position_at(%(from)s::timestamptz - interval '1 microsecond') "
    "AND position <= touchpoint_log.position_at(%(to)s::timestamptz - interval '1 microsecond')",
    "as_of": "AND occurred_at <= %(as_of)s",
    "cursor": "AND position < %(before)s",
}


class _Place(msgspec.Struct, frozen=True):
    known_at: int
    before: int
    as_of: datetime | None = None


class AuditTrails:
    """Answers questions about the audit trail.

    Args:
        zone: in which days are cut.
    """

    def __init__(self, pool: AsyncConnectionPool[Any], histories: Histories, *, zone: ZoneInfo) -> None:
        self._pool = pool
        self._histories = histories
        self._zone = zone

    async def page(
        self,
        *,
        event: str | None = None,
        person: str | None = None,
        actor: str | None = None,
        day: date | None = None,
        as_of: datetime | None = None,
        known_at: datetime | int | None = None,
        limit: int = 50,
        cursor: str | None = None,
        after: int = 0,
    ) -> TrailPage:
        """Rows of the trail, newest first; several filters hold together.

        Args:
            event: an event id or a position (`@123`): that event, its corrections and retractions, and what names it as cause.
            person: a REF: events of all subjects of the person, as resolved at *known_at*.
            actor: who recorded it (a key's id, `cli:…`), or in whose name.
            day: the day, in the installation's zone, on which it was recorded.
            as_of: only what had happened by then, whenever it was recorded.
            after: wait until the read models have seen this position.

        Raises:
            Invalid, NotFound, FutureTime, Behind.
        """
        place = read_cursor(cursor, _Place) if cursor else None
        limit = max(1, min(limit, 1000))
        if place is not None:
            known = await self._histories.moments.resolve_known_at(known_at)
            hold_moment((place.as_of, place.known_at), as_of, known)
            known_at, as_of = place.known_at, place.as_of
        if after:
            await self._histories.moments.wait_until(after, models=READ_MODELS)
        position = await self._histories.moments.resolve_known_at(known_at)
        if position is None:
            position = await self._histories.moments.seen(READ_MODELS)
        else:
            await self._histories.moments.wait_until(position, models=READ_MODELS)
        parameters: dict[str, Any] = {"known_at": position, "as_of": as_of, "limit": limit + 1}
        filters = []
        about: list[str] = []
        if event is not None:
            parameters |= await self._of_event(event, position)
            filters.append("event")
        if person is not None:
            found = await self._histories.identities.person(person, as_of=as_of, known_at=position)
            about = [s["subject"] for s in found.subjects]
            parameters["subjects"] = [UUID(s) for s in about]
            filters.append("subjects")
        if actor is not None:
            parameters["actor"] = actor
        if day is not None:
            last = day == date.max  # nothing can lie behind it
            parameters["from"] = within_calendar(datetime.combine(day, time(), self._zone))
            parameters["to"] = (
                LAST_INSTANT
                if last
                else within_calendar(datetime.combine(day + timedelta(days=1), time(), self._zone))
            )
            filters.append("day")
        if as_of is not None:
            filters.append("as_of")
        if place is not None:
            parameters["before"] = place.before
            filters.append("cursor")
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(_statement(filters, actor is not None), parameters)).fetchall()
        entries = [_entry(row) for row in rows[:limit]]
        following = write_cursor(_Place(position, rows[limit - 1][0], as_of)) if len(rows) > limit else None
        return TrailPage(entries, following, about, moment(as_of) if as_of else None, position, position)

    async def _of_event(self, text: str, known_at: int) -> dict[str, Any]:
        """The positions of an event and of what amends it, and the names by which others call it their cause."""
        text = text.strip()
        wanted: tuple[str, int | UUID]
        if text.startswith("@") and text[1:].isascii() and text[1:].isdigit() and len(text) < 20:
            wanted = ("position = %s", int(text[1:]))
        else:
            try:
                event_id = UUID(text)
            except ValueError:
                raise Invalid(
                    [
                        Problem(
                            "/event",
                            "An event is named by its id, as history shows it, or by its position, e.g. @123.",
                            "not_an_event",
                        )
                    ]
                ) from None
            wanted = (
                "position = (SELECT k.position FROM touchpoint_log.keys k WHERE k.stream = %s AND k.version = 1)",
                event_id,
            )
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(
                    f"SELECT position, event_id, source_id, import_id FROM read.audit_trail WHERE {wanted[0]} AND known_from <= %s LIMIT 1".encode(),  # noqa: S608
                    (wanted[1], known_at),
                )
            ).fetchone()
            if row is None:
                raise NotFound(f"No event {text[:60]} was known at position {known_at:,}.")
            amending = await (
                await conn.execute(
                    "SELECT position FROM touchlog.amendments WHERE (target = %s OR target = %s::uuid) AND position <= %s",
                    (row[1], row[3], known_at),
                )
            ).fetchall()
        return {
            "positions": [row[0], *(p for (p,) in amending)],
            "names": [str(row[1]), row[2]],
            "first": row[0],
        }


def _statement(filters: Sequence[str], by_actor: bool) -> bytes:
    """The question for one page."""
    told = " ".join(_FILTERS[each] for each in filters)
    # What concerns one person or event is little: it is found by that, and not by looking through the log for it.
    order = "position + 0" if {"event", "subjects"} & set(filters) else "position"
    rows = _ROWS.replace("{order}", order)
    if not by_actor:
        return _PAGE.replace("{rows}", rows.replace("{filters}", told)).encode()
    parts = ", ".join(
        f"{name} AS {rows.replace('{filters}', f'{told} {whose}')}" for name, whose in _AS_ACTOR.items()
    )
    return f"WITH {parts} {_PAGE.replace('{rows}', _OF_ACTOR)}".encode()


def _entry(row: Any) -> dict[str, Any]:
    return {
        "position": row[0],
        "event_id": str(row[1]),
        "type": row[2],
        "recorded_at": moment(row[3]),
        "occurred_at": moment(row[4]),
        "principal": row[5],
        "on_behalf_of": row[6],
        "source": row[7],
        "source_id": row[8],
        "channel": row[9],
        "subject": str(row[10]) if row[10] else None,
        "correlation": row[11],
        "causation": row[12],
        "import": row[13],
        "known_from": row[14],
        "amended_by": row[15] or [],
    }
