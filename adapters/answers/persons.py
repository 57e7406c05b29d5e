"""Persons asked: who they are, their first and last contact, and how much came over each channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.answers.cursors import read_cursor, write_cursor
from adapters.answers.history import Histories
from adapters.answers.identities import Person
from adapters.answers.members import OWNERS_AT
from adapters.answers.profiles import Profile, Profiles
from adapters.postgres.subjects import Subjects, told_subjects
from domain.entry import moment

__all__ = ["Persons", "PersonsPage", "Summary"]

READ_MODELS = ("contact_history", "identities", "persons", "profiles")


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A person with what happened, in numbers."""

    id: str
    subjects: list[dict[str, Any]]  # {"subject", "kind", "namespace", "value"}; a value of null is erased
    events: int
    first_at: str | None
    last_at: str | None
    channels: dict[str, dict[str, int]]  # channel -> {"events", "inbound", "outbound"}


class Known(Summary, frozen=True, kw_only=True):
    """A person at one moment of both axes."""

    profile: Profile
    as_of: str | None
    known_at: int
    head: int


class PersonsPage(msgspec.Struct, frozen=True):
    """Some persons, in the order of their ids; all pages of one list are of one moment, its position `head`."""

    persons: list[Summary]
    next: str | None
    head: int


class _Place(msgspec.Struct, frozen=True):
    """Where a page ended, and the moment that its list is of."""

    behind: UUID
    known_at: Annotated[int, msgspec.Meta(ge=0)]


# A person is listed by its smallest subject, if anything happened with any of its subjects.
_LIST = """
SELECT s.subject FROM touchlog.subjects s LEFT JOIN read.identities i ON i.subject = s.subject
 WHERE s.subject > %(cursor)s AND s.kind NOT IN ('source_day', 'order', 'case') AND (i.subject IS NULL OR i.person = s.subject)
   AND (EXISTS (SELECT FROM read.person_activity a WHERE a.subject = s.subject)
        OR EXISTS (SELECT FROM read.identities m JOIN read.person_activity a ON a.subject = m.subject WHERE m.person = s.subject))
 ORDER BY s.subject LIMIT %(limit)s
"""
_OWNERS = """
WITH member AS MATERIALIZED (
    SELECT p.person, p.person AS subject FROM unnest(%(persons)s::uuid[]) AS p (person)
     UNION SELECT i.person, i.subject FROM read.identities i WHERE i.person = ANY(%(persons)s)
), owned AS MATERIALIZED (
    SELECT DISTINCT ON (r.reference) r.reference, r.subject FROM read.references r
     WHERE r.reference IN (SELECT c.reference FROM read.references c JOIN member m ON m.subject = c.subject) AND r.known_to IS NULL
     ORDER BY r.reference, r.occurred_at, r.source, r.source_id
), owner AS MATERIALIZED (
    SELECT person, subject FROM member UNION SELECT m.person, o.reference FROM owned o JOIN member m ON m.subject = o.subject
)
"""
_COUNTS = (
    _OWNERS
    + """
SELECT o.person, a.channel, sum(a.events)::bigint, sum(a.inbound)::bigint, sum(a.outbound)::bigint
  FROM owner o JOIN read.person_activity a ON a.subject = o.subject GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2
"""
)
_SPANS = (
    _OWNERS  # noqa: S608 - a constant of ours
    + """
SELECT o.person, min(f.occurred_at), max(l.occurred_at), (SELECT array_agg(m.subject) FROM member m WHERE m.person = o.person)
  FROM owner o
       LEFT JOIN LATERAL (SELECT h.occurred_at FROM read.contact_history h WHERE h.subject = o.subject AND h.known_to IS NULL
                           ORDER BY h.occurred_at LIMIT 1) f ON true
       LEFT JOIN LATERAL (SELECT h.occurred_at FROM read.contact_history h WHERE h.subject = o.subject AND h.known_to IS NULL
                           ORDER BY h.occurred_at DESC LIMIT 1) l ON true
 GROUP BY o.person
"""
)
# The same of a moment that has passed, from what is kept of every moment.
_SUBJECTS = """
SELECT subject FROM touchlog.subjects
 WHERE subject > %(behind)s AND kind NOT IN ('source_day', 'order', 'case') ORDER BY subject LIMIT %(limit)s
"""
_COUNTS_THEN = """
WITH member AS MATERIALIZED (
    SELECT m.person, m.subject FROM unnest(%(persons)s::uuid[], %(subjects)s::uuid[]) AS m (person, subject)
), owned AS MATERIALIZED (
    SELECT DISTINCT ON (r.reference) r.reference, r.subject FROM read.references r
     WHERE r.reference IN (SELECT c.reference FROM read.references c JOIN member m ON m.subject = c.subject)
       AND r.known_from <= %(known_at)s AND (r.known_to IS NULL OR r.known_to > %(known_at)s)
     ORDER BY r.reference, r.occurred_at, r.source, r.source_id
), owner AS MATERIALIZED (
    SELECT person, subject, true AS own FROM member
     UNION SELECT m.person, o.reference, false FROM owned o JOIN member m ON m.subject = o.subject
)
SELECT o.person, h.channel, count(*), count(*) FILTER (WHERE h.direction = 'inbound'), count(*) FILTER (WHERE h.direction = 'outbound'),
       min(h.occurred_at), max(h.occurred_at), bool_or(o.own)
  FROM owner o JOIN read.contact_history h ON h.subject = o.subject
 WHERE h.known_from <= %(known_at)s AND (h.known_to IS NULL OR h.known_to > %(known_at)s)
 GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2
"""
_AT = (
    OWNERS_AT
    + """
SELECT h.channel, count(*), count(*) FILTER (WHERE h.direction = 'inbound'), count(*) FILTER (WHERE h.direction = 'outbound'),
       min(h.occurred_at), max(h.occurred_at)
  FROM owner o JOIN read.contact_history h ON h.subject = o.subject
 WHERE h.known_from <= %(known_at)s AND (h.known_to IS NULL OR h.known_to > %(known_at)s)
   AND (%(as_of)s::timestamptz IS NULL OR h.occurred_at <= %(as_of)s)
 GROUP BY h.channel ORDER BY 2 DESC, 1
"""
)


class Persons:
    """Answers who there is, and how one person stands."""

    def __init__(self, pool: AsyncConnectionPool[Any], subjects: Subjects, histories: Histories) -> None:
        self._pool = pool
        self._subjects = subjects
        self._histories = histories
        self._profiles = Profiles(pool, histories)

    async def one(
        self,
        ref: str,
        *,
        as_of: datetime | None = None,
        known_at: datetime | int | None = None,
        after: int = 0,
    ) -> Known:
        """The person whom *ref* names, with its numbers at one moment; asked again with what it answers, it answers the same.

        Raises:
            Invalid, NotFound, FutureTime, Behind.
        """
        return await self.of(
            await self._histories.identities.person(ref, as_of=as_of, known_at=known_at, after=after),
            as_of=as_of,
        )

    async def of(self, person: Person, *, as_of: datetime | None = None) -> Known:
        """The numbers and the profile of a person that was resolved at *as_of* and its own `known_at`."""
        profile = await self._profiles.of(person, as_of=as_of)
        async with self._pool.connection() as conn:
            rows = await (
                await conn.execute(
                    _AT,
                    {
                        "subjects": [UUID(s["subject"]) for s in person.subjects],
                        "known_at": person.known_at,
                        "as_of": as_of,
                    },
                )
            ).fetchall()
        return Known(
            id=person.id,
            subjects=person.subjects,
            events=sum(r[1] for r in rows),
            first_at=moment(min(r[4] for r in rows)) if rows else None,
            last_at=moment(max(r[5] for r in rows)) if rows else None,
            channels={r[0]: {"events": r[1], "inbound": r[2], "outbound": r[3]} for r in rows},
            profile=profile,
            as_of=person.as_of,
            known_at=person.known_at,
            head=person.head,
        )

    async def page(self, *, limit: int = 50, cursor: str | None = None, after: int = 0) -> PersonsPage:
        """Persons in the order of their ids, with the sums of their subjects: as resolved now, or when the list began.

        A merge between two pages makes nobody come twice or not at all: all pages are of the moment of the first.

        Args:
            limit: at most so many, 1,000 at a time.
            cursor: `next` of the page before.
            after: wait until the read models have seen this position.

        Raises:
            Invalid, Behind.
        """
        limit = max(1, min(limit, 1000))
        place = read_cursor(cursor, _Place) if cursor else None
        behind = place.behind if place else UUID(int=0)
        if after or place:
            await self._histories.moments.wait_until(
                max(after, place.known_at if place else 0), models=READ_MODELS
            )
        async with self._pool.connection() as conn, conn.transaction():
            await conn.execute(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
            )  # counts and spans of one moment
            row = await (
                await conn.execute(
                    "SELECT coalesce(min(position), 0), coalesce(max(position), 0) FROM touchlog.projections "
                    "WHERE name = ANY(%s) AND state = 'live'",
                    (list(READ_MODELS),),
                )
            ).fetchone()
            seen, furthest = row or (0, 0)
            known_at = place.known_at if place else seen
            if known_at == seen == furthest:
                return await self._now(conn, behind, limit, known_at)
        return await self._then(behind, limit, known_at)

    async def _now(self, conn: Any, behind: UUID, limit: int, known_at: int) -> PersonsPage:
        """A page as all read models have it at this very moment."""
        found = [
            r[0] for r in await (await conn.execute(_LIST, {"cursor": behind, "limit": limit + 1})).fetchall()
        ]
        persons = found[:limit]
        counts = await (await conn.execute(_COUNTS, {"persons": persons})).fetchall()
        spans = await (await conn.execute(_SPANS, {"persons": persons})).fetchall()
        by_person: dict[UUID, list[Any]] = {}
        for one in counts:
            by_person.setdefault(one[0], []).append(one)
        described = await self._subjects.describe([s for r in spans for s in r[3]])
        summaries: dict[UUID, Summary] = {}
        for person, first_at, last_at, members in spans:
            summaries[person] = _summary(
                person, members, described, by_person.get(person, []), first_at, last_at
            )
        following = write_cursor(_Place(persons[-1], known_at)) if len(found) > limit else None
        return PersonsPage([summaries[p] for p in persons], following, known_at)

    async def _then(self, behind: UUID, limit: int, known_at: int) -> PersonsPage:
        """A page as it was known at a position that not all read models are at (any more)."""
        found: list[tuple[UUID, Sequence[UUID], list[Any]]] = []
        at_once = min(1000, 50 + 4 * limit)  # a person has some subjects, of which the smallest names it
        while len(found) <= limit:
            async with self._pool.connection() as conn:
                rows = await (await conn.execute(_SUBJECTS, {"behind": behind, "limit": at_once})).fetchall()
            if not rows:
                break
            subjects = [r[0] for r in rows]
            resolved = await (
                await self._histories.identities.resolutions.reach(subjects, known_at)
            ).persons()
            persons = {s: members for s in subjects if min(members := tuple(resolved.of(s))) == s}
            counts = await self._counts_then(persons, known_at)
            found += [
                (p, members, counts[p])
                for p, members in persons.items()
                if any(r[7] for r in counts.get(p, ()))
            ]
            behind = subjects[-1]
        shown = found[:limit]
        described = await self._subjects.describe([s for _, members, _ in shown for s in members])
        summaries = [
            _summary(p, members, described, rows, min(r[5] for r in rows), max(r[6] for r in rows))
            for p, members, rows in shown
        ]
        following = write_cursor(_Place(shown[-1][0], known_at)) if len(found) > limit else None
        return PersonsPage(summaries, following, known_at)

    async def _counts_then(
        self, persons: Mapping[UUID, Sequence[UUID]], known_at: int
    ) -> dict[UUID, list[Any]]:
        """What happened with each person by channel, as known at a position."""
        pairs = [(p, s) for p, members in persons.items() for s in members]
        asked = {"persons": [p for p, _ in pairs], "subjects": [s for _, s in pairs], "known_at": known_at}
        by_person: dict[UUID, list[Any]] = {}
        async with self._pool.connection() as conn:
            for row in await (await conn.execute(_COUNTS_THEN, asked)).fetchall():
                by_person.setdefault(row[0], []).append(row)
        return by_person


def _summary(
    person: UUID,
    members: Sequence[UUID],
    described: Mapping[UUID, Any],
    counts: Sequence[Any],
    first_at: datetime | None,
    last_at: datetime | None,
) -> Summary:
    """One person of a list, of rows (person, channel, events, inbound, outbound, …)."""
    return Summary(
        id=str(person),
        subjects=told_subjects([described[s] for s in members if s in described]),
        events=sum(r[2] for r in counts),
        first_at=moment(first_at) if first_at else None,
        last_at=moment(last_at) if last_at else None,
        channels={r[1]: {"events": r[2], "inbound": r[3], "outbound": r[4]} for r in counts},
    )
