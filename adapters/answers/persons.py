"""Persons asked: who they are, their first and last contact, and how much came over each channel."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.answers.history import Histories
from adapters.answers.identities import Person
from adapters.answers.members import OWNERS_AT
from adapters.answers.profiles import Profile, Profiles
from adapters.postgres.subjects import Subjects, told_subjects
from domain.entry import moment
from domain.errors import Invalid, Problem

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
    """Some persons, in the order of their ids."""

    persons: list[Summary]
    next: str | None
    head: int


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
        """Persons as resolved now, in the order of their ids, with the sums of their subjects.

        Args:
            limit: at most so many, 1,000 at a time.
            cursor: `next` of the page before: the id of its last person.
            after: wait until the read models have seen this position.

        Raises:
            Invalid, Behind.
        """
        limit = max(1, min(limit, 1000))
        try:
            behind = UUID(cursor) if cursor else UUID(int=0)
        except ValueError:
            raise Invalid(
                [
                    Problem(
                        "/cursor",
                        "This cursor was not made here; use `next` of the page before as it is.",
                        "cursor",
                    )
                ]
            ) from None
        if after:
            await self._histories.moments.wait_until(after, models=READ_MODELS)
        async with self._pool.connection() as conn, conn.transaction():
            await conn.execute(
                "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
            )  # counts and spans of one moment
            row = await (
                await conn.execute(
                    "SELECT coalesce(min(position), 0) FROM touchlog.projections WHERE name = ANY(%s) AND state = 'live'",
                    (list(READ_MODELS),),
                )
            ).fetchone()
            head = row[0] if row else 0
            found = [
                r[0]
                for r in await (await conn.execute(_LIST, {"cursor": behind, "limit": limit + 1})).fetchall()
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
            mine = by_person.get(person, [])
            summaries[person] = Summary(
                id=str(person),
                subjects=told_subjects([described[s] for s in members if s in described]),
                events=sum(r[2] for r in mine),
                first_at=moment(first_at) if first_at else None,
                last_at=moment(last_at) if last_at else None,
                channels={r[1]: {"events": r[2], "inbound": r[3], "outbound": r[4]} for r in mine},
            )
        following = str(persons[-1]) if len(found) > limit else None
        return PersonsPage([summaries[p] for p in persons], following, head)
