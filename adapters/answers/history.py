"""A person's history: everything that happened with that person, newest first.

Without cuts the answer is one statement on the read models, so that positions, person and entries
are of one moment. With `as_of` or `known_at` the person is resolved first, as of then (`adapters/answers/identities.py`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import orjson
from psycopg_pool import AsyncConnectionPool

from adapters.answers.cursors import hold_moment, read_cursor, write_cursor
from adapters.answers.entries import Entries
from adapters.answers.identities import Identities
from adapters.answers.moments import READ_MODELS, Moments
from adapters.postgres.subjects import Subjects
from domain.entry import moment
from domain.errors import Invalid, Problem
from domain.event import direction_problems

__all__ = ["ALL", "LARGEST_PAGE", "Filters", "Histories", "Page"]

LARGEST_PAGE = 1000
"""Entries; whoever asks for more is given so many."""
_SEARCHED = 400
"""Entries unsealed at a time while a text is looked for."""


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries of a history are shown; None shows all (SEMANTICS §3).

    Attributes:
        since: only what happened at or after this time, as corrected.
        until: only what happened before this time; the history's own end, where `as_of` also cuts links and patches.
        q: only entries whose headline or data hold this text, in any case.
    """

    channel: str | None = None
    direction: str | None = None
    type_: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    q: str | None = None

    def check(self) -> None:
        """See that there is something to choose.

        Raises:
            Invalid: a direction that is none, or a span of time that is empty.
        """
        problems = direction_problems(self.direction)
        if self.since is not None and self.until is not None and self.since >= self.until:
            detail = "'until' must lie behind 'since'; the span is [since, until)."
            problems.append(Problem("/until", detail, "empty_interval"))
        if problems:
            raise Invalid(problems)

    @property
    def stored(self) -> dict[str, Any]:
        """The filters that rows are chosen by, by name; the text is looked for in what was unsealed."""
        given = {
            "channel": self.channel, "direction": self.direction, "type": self.type_, "since": self.since, "until": self.until,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}


ALL = Filters()


class Page(msgspec.Struct, frozen=True):
    """Some entries of a history, newest first."""

    entries: list[dict[str, Any]]
    next: str | None
    person: str
    as_of: str | None
    known_at: int
    head: int


_NOW = """
WITH seen AS MATERIALIZED (
    SELECT min(position) AS least, max(position) AS most, count(*) AS models
      FROM touchlog.projections WHERE name = ANY(%(models)s) AND state = 'live'
), named AS MATERIALIZED (  -- a reference stands for the person it belongs to
    SELECT coalesce((SELECT r.subject FROM read.references r WHERE r.reference = %(subject)s AND r.known_to IS NULL
                      ORDER BY r.occurred_at, r.source, r.source_id LIMIT 1), %(subject)s::uuid) AS subject
), person AS MATERIALIZED (
    SELECT i.subject FROM read.identities i
     WHERE i.person = (SELECT m.person FROM read.identities m WHERE m.subject = (SELECT subject FROM named))
    UNION SELECT subject FROM named
), owned AS MATERIALIZED (
    SELECT o.reference FROM (
        SELECT DISTINCT ON (r.reference) r.reference, r.subject FROM read.references r
         WHERE r.reference IN (SELECT c.reference FROM read.references c WHERE c.subject IN (SELECT subject FROM person))
           AND r.known_to IS NULL
         ORDER BY r.reference, r.occurred_at, r.source, r.source_id) o
     WHERE o.subject IN (SELECT subject FROM person)
), owners AS MATERIALIZED (
    SELECT subject FROM person UNION SELECT reference FROM owned
)
SELECT seen.least, seen.most, seen.models, (SELECT array_agg(subject) FROM person), e.*
  FROM seen LEFT JOIN LATERAL (
    SELECT h.position, h.recorded_at, h.occurred_at, h.source, h.source_id, h.body, h.patches
      FROM owners CROSS JOIN LATERAL ({entries}) h
     ORDER BY h.occurred_at DESC, h.source DESC, h.source_id DESC LIMIT %(limit)s
  ) e ON true
"""

_ENTRIES = """
    SELECT position, recorded_at, occurred_at, source, source_id, body, patches FROM read.contact_history
     WHERE subject = owners.subject {filters}
     ORDER BY occurred_at DESC, source DESC, source_id DESC LIMIT %(limit)s
"""

_CUT = """
WITH person AS MATERIALIZED (SELECT unnest(%(subjects)s::uuid[]) AS subject
), owned AS MATERIALIZED (
    SELECT o.reference FROM (
        SELECT DISTINCT ON (r.reference) r.reference, r.subject FROM read.references r
         WHERE r.reference IN (SELECT c.reference FROM read.references c WHERE c.subject IN (SELECT subject FROM person))
           AND r.known_from <= %(known_at)s AND (r.known_to IS NULL OR r.known_to > %(known_at)s)
           AND (%(as_of)s::timestamptz IS NULL OR r.occurred_at <= %(as_of)s)
         ORDER BY r.reference, r.occurred_at, r.source, r.source_id) o
     WHERE o.subject IN (SELECT subject FROM person)
), owners AS MATERIALIZED (
    SELECT subject FROM person UNION SELECT reference FROM owned
)
SELECT h.position, h.recorded_at, h.occurred_at, h.source, h.source_id, h.body, h.patches
  FROM owners CROSS JOIN LATERAL ({entries}) h
 ORDER BY h.occurred_at DESC, h.source DESC, h.source_id DESC LIMIT %(limit)s
"""

_FILTERS = {
    "now": "AND known_to IS NULL",
    "known_at": "AND known_from <= %(known_at)s AND (known_to IS NULL OR known_to > %(known_at)s)",
    "as_of": "AND occurred_at <= %(as_of)s",
    "channel": "AND channel = %(channel)s",
    "direction": "AND direction = %(direction)s",
    "type": "AND type = %(type)s",
    "since": "AND occurred_at >= %(since)s",
    "until": "AND occurred_at < %(until)s",
    "cursor": "AND occurred_at <= %(c_at)s AND (occurred_at, source, source_id) < (%(c_at)s, %(c_source)s, %(c_id)s)",
}


def _statement(template: str, filters: Sequence[str]) -> str:
    return template.replace(
        "{entries}", _ENTRIES.replace("{filters}", " ".join(_FILTERS[f] for f in filters))
    )


class Histories:
    """Answers questions about what happened with a person.

    Args:
        region: for phone numbers without a country code.
    """

    def __init__(
        self, pool: AsyncConnectionPool[Any], subjects: Subjects, *, region: str | None = None
    ) -> None:
        self._pool = pool
        self.moments = Moments(pool)
        self.identities = Identities(pool, subjects, self.moments, region=region)
        self.entries = Entries(subjects)

    async def page(
        self,
        ref: str,
        *,
        as_of: datetime | None = None,
        known_at: datetime | int | None = None,
        only: Filters = ALL,
        limit: int = 50,
        cursor: str | None = None,
        after: int = 0,
    ) -> Page:
        """Entries of the history of the person whom *ref* names, newest first.

        Args:
            cursor: `next` of the page before; it carries that page's moment, so that pages never shift; another
                moment beside it is refused.

        Raises:
            Invalid, NotFound, FutureTime, Behind.
        """
        only.check()
        limit = max(1, min(limit, LARGEST_PAGE))
        place = read_cursor(cursor, _Place) if cursor else None
        if place is not None:
            hold_moment((place.as_of, place.known_at), as_of, await self.moments.resolve_known_at(known_at))
            known_at = place.known_at
            as_of = place.as_of
        if after:
            await self.moments.wait_until(after)
        subject = await self.identities.subject_then(ref, known_at)
        parameters: dict[str, Any] = {
            "subject": subject,
            "as_of": as_of,
            "models": list(READ_MODELS),
            **only.stored,
        }
        filters = [*only.stored, *(["as_of"] if as_of is not None else [])]
        if place is not None:
            parameters |= {"c_at": place.at, "c_source": place.source, "c_id": place.id}
            filters.append("cursor")
        wanted = limit + 1 if only.q is None else _SEARCHED
        asked = (as_of, known_at, filters, parameters | {"limit": wanted})
        rows, position, members = await self._newest(subject, *asked)
        first = place is None
        if (
            not rows
            and first
            and not await self.identities.known(ref, members, position, waits=known_at is None)
        ):
            rows, position, members = await self._newest(subject, *asked)
            if not rows:
                await self.identities.known(ref, members, position)
        parameters |= {"subjects": members, "known_at": position}
        if only.q is None:
            shown = rows[:limit]
            entries = await self.entries.of(shown)
            more = len(rows) > limit
        else:
            entries, shown, more = await self._search(only.q, limit, rows, filters, parameters)
        following = _cursor(position, as_of, shown[-1]) if more and shown else None
        return Page(
            entries, following, str(min(members)), moment(as_of) if as_of else None, position, position
        )

    async def _newest(
        self,
        subject: UUID,
        as_of: datetime | None,
        known_at: datetime | int | None,
        filters: list[str],
        parameters: dict[str, Any],
    ) -> tuple[list[Any], int, list[UUID]]:
        """(rows, position, subjects of the person) of a moment."""
        if known_at is None and as_of is None:
            rows, position, members = await self._now(subject, [*filters, "now"], parameters)
            if rows is not None:
                return rows, position, members
        members, at = await self.identities.who(subject, as_of, known_at)
        cut = parameters | {"subjects": members, "known_at": at.known_at}
        return await self._cut([*filters, "known_at"], cut), at.known_at, members

    async def rows_now(self, subject: UUID, *, limit: int) -> list[Any]:
        """The rows of the newest entries of a person, as the read model holds them: what `page` begins with."""
        rows, _, _ = await self._now(
            subject, [], {"subject": subject, "models": list(READ_MODELS), "limit": limit}
        )
        return rows or []

    async def _now(
        self, subject: UUID, filters: list[str], parameters: dict[str, Any]
    ) -> tuple[list[Any] | None, int, list[UUID]]:
        """(rows, position, subjects of the person) of this moment; no rows where the read models stand at different positions."""
        async with self._pool.connection() as conn:
            curs = conn.cursor(binary=True)
            await curs.execute(_statement(_NOW, filters), parameters, prepare=True)
            rows = await curs.fetchall()
            if rows and rows[0][2] == len(READ_MODELS) and rows[0][0] == rows[0][1]:
                return [r[4:] for r in rows if r[4] is not None], rows[0][0], rows[0][3]
        return None, 0, [subject]

    async def _cut(self, filters: list[str], parameters: dict[str, Any]) -> list[Any]:
        async with self._pool.connection() as conn:
            curs = conn.cursor(binary=True)
            await curs.execute(_statement(_CUT, filters), parameters, prepare=True)
            rows: list[Any] = await curs.fetchall()
            return rows

    async def _search(
        self,
        q: str,
        limit: int,
        rows: list[Any],
        filters: list[str],
        parameters: dict[str, Any],
    ) -> tuple[list[dict[str, Any]], list[Any], bool]:
        """Unseal and look, batch by batch, until a page is full: no index holds personal words in plain."""
        needle = q.casefold()
        spelt = json.dumps(needle, ensure_ascii=False)[1:-1]  # as it stands within a text of the data
        found: list[dict[str, Any]] = []
        shown: list[Any] = []
        filters = [f for f in filters if f != "cursor"] + ["known_at", "cursor"]
        while rows:
            for row, entry in zip(rows, await self.entries.of(rows), strict=True):
                if (
                    needle in entry["headline"].casefold()
                    or spelt in orjson.dumps(entry["data"]).decode().casefold()
                ):
                    if len(found) == limit:
                        return found, shown, True
                    found.append(entry)
                    shown.append(row)
            if len(rows) < _SEARCHED:
                break
            last = rows[-1]
            rows = await self._cut(
                filters,
                parameters | {"limit": _SEARCHED, "c_at": last[2], "c_source": last[3], "c_id": last[4]},
            )
        return found, shown, False


class _Place(msgspec.Struct, frozen=True):
    known_at: int
    as_of: datetime | None
    at: datetime
    source: str
    id: str


def _cursor(known_at: int, as_of: datetime | None, row: Any) -> str:
    return write_cursor(_Place(known_at, as_of, row[2].astimezone(UTC), row[3], row[4]))
