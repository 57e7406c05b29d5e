"""Who a REF names: the person at one moment of both axes.

As of now and known now from the read model, in one statement; at every other moment the evidence is cut first and
the person resolved from what is left, by the same function that keeps the read model (SEMANTICS §§2, 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.answers.moments import READ_MODELS, Moment, Moments
from adapters.answers.resolution import Resolutions
from adapters.identifiers import normalised
from adapters.postgres.subjects import Subjects, told_subjects
from domain.entry import decode_body, moment
from domain.errors import NotFound
from domain.identity import Identifier, parse_ref

__all__ = ["Identities", "Person"]


class Person(msgspec.Struct, frozen=True):
    """Who a REF names at one moment."""

    id: str
    subjects: list[dict[str, Any]]  # {"subject", "kind", "namespace", "value"}
    as_of: str | None
    known_at: int
    head: int


_WHO = """
WITH seen AS MATERIALIZED (
    SELECT min(position) AS least, max(position) AS most, count(*) AS models
      FROM touchlog.projections WHERE name = ANY(%(models)s) AND state = 'live'
), named AS MATERIALIZED (
    SELECT coalesce((SELECT r.subject FROM read.references r WHERE r.reference = %(subject)s AND r.known_to IS NULL
                      ORDER BY r.occurred_at, r.source, r.source_id LIMIT 1), %(subject)s::uuid) AS subject
)
SELECT least, most, models, (SELECT array_agg(subject) FROM (
    SELECT i.subject FROM read.identities i
     WHERE i.person = (SELECT m.person FROM read.identities m WHERE m.subject = (SELECT subject FROM named))
    UNION SELECT subject FROM named) AS members) FROM seen
"""
_PERSONS_OF = """
SELECT (SELECT min(position) FROM touchlog.projections WHERE name = 'identities' AND state = 'live'),
       s.subject, CASE WHEN i.subject IS NOT NULL OR o.subject IS NOT NULL  -- who is only mentioned is nobody yet
                         OR EXISTS (SELECT FROM read.contact_history h WHERE h.subject = s.subject)
                         OR EXISTS (SELECT FROM read.references e WHERE e.reference = s.subject)
                       THEN coalesce(i.person, o.subject, s.subject) END
  FROM (VALUES (1)) AS once (one) LEFT JOIN unnest(%s::uuid[]) AS u (subject) ON true
       LEFT JOIN touchlog.subjects s ON s.subject = u.subject
       LEFT JOIN LATERAL (SELECT r.subject FROM read.references r WHERE r.reference = s.subject AND r.known_to IS NULL
                           ORDER BY r.occurred_at, r.source, r.source_id LIMIT 1) o ON true
       LEFT JOIN read.identities i ON i.subject = coalesce(o.subject, s.subject)
"""

_EVER = """
SELECT EXISTS (SELECT FROM read.contact_history WHERE subject = ANY(%(members)s) AND known_from <= %(known_at)s)
    OR EXISTS (SELECT FROM read.links l
                WHERE l.cluster IN (SELECT i.cluster FROM read.identities i WHERE i.subject = ANY(%(members)s))
                  AND l.known_from <= %(known_at)s AND (l.a = ANY(%(members)s) OR l.b = ANY(%(members)s)))
    OR EXISTS (SELECT FROM read.references WHERE reference = ANY(%(members)s) AND known_from <= %(known_at)s)
"""

_AHEAD = """
SELECT body FROM touchpoint_log.events
 WHERE position IN (SELECT position FROM touchlog.named_ahead WHERE subject = ANY(%(members)s) AND position <= %(known_at)s)
"""


def _unknown(identifier: Identifier, position: int | None = None) -> NotFound:
    """Nobody is known so, or nobody was at a position: the same words before somebody comes and after."""
    then = f" at position {position:,}" if position is not None else ""
    if identifier.kind == "subject":
        return NotFound(f"No subject {identifier.value} is known here{then}.")
    return NotFound(
        f"Nobody was recorded under this {identifier.kind}{then}. Check the spelling and the kind, or search."
    )


class Identities:
    """Answers who somebody is.

    Args:
        region: for phone numbers without a country code.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Any],
        subjects: Subjects,
        moments: Moments,
        *,
        region: str | None = None,
    ) -> None:
        self._pool = pool
        self._subjects = subjects
        self._moments = moments
        self._region = region
        self.resolutions = Resolutions(pool)

    async def subject_of(self, ref: str) -> UUID:
        """The subject (or surrogate of a reference) that a REF names.

        Raises:
            Invalid: this is no REF.
            NotFound: nobody was ever recorded under it.
        """
        identifier: Identifier | None = parse_ref(ref)
        assert identifier is not None
        if identifier.kind == "subject":
            subject = UUID(identifier.value)
            if not await self._subjects.describe([subject]):
                raise _unknown(identifier)
            return subject
        identifier = normalised(identifier, self._region)
        if identifier is None:
            raise NotFound(
                "This value names nobody: it is a placeholder, blank, too long to be an identifier, or holds control characters."
            )
        found = await self._subjects.find((identifier.kind, identifier.namespace, identifier.value))
        if found is None:
            raise _unknown(identifier)
        return found

    async def person(
        self,
        ref: str,
        *,
        as_of: datetime | None = None,
        known_at: datetime | int | None = None,
        after: int = 0,
        known: bool = True,
    ) -> Person:
        """Who *ref* names, with all identifiers, at one moment.

        Args:
            known: whether an event of theirs must have been known by then, as it holds; a replay of what was recorded
                asks for whoever was named, wherever a correction put the event.
            after: wait until the read models have seen this position.

        Raises:
            Invalid, NotFound, FutureTime, Behind.
        """
        if after:
            await self._moments.wait_until(after)
        subject = await self.subject_then(ref, known_at)
        members, at = await self.who(subject, as_of, known_at)
        if known and not await self.known(ref, members, at.known_at, waits=known_at is None):
            members, at = await self.who(subject, as_of, known_at)
            await self.known(ref, members, at.known_at)
        described = await self._subjects.describe(members)
        subjects = told_subjects(described.values())
        return Person(str(min(members)), subjects, moment(as_of) if as_of else None, at.known_at, at.known_at)

    async def who(
        self, subject: UUID, as_of: datetime | None, known_at: datetime | int | None
    ) -> tuple[list[UUID], Moment]:
        """(the subjects of the person whom *subject* names at a moment, that moment)."""
        found = await self._who_now(subject) if as_of is None and known_at is None else None
        if found is not None:
            return found
        at = await self._moments.at(as_of, known_at)
        return await self._members(await self._owner(subject, at), at), at

    async def _who_now(self, subject: UUID) -> tuple[list[UUID], Moment] | None:
        """(the subjects of the person as the read model holds it, that moment), in one statement.

        None where the read models stand at different positions, so that no one moment could be told.
        """
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(_WHO, {"subject": subject, "models": list(READ_MODELS)}, prepare=True)
            ).fetchone()
        if row is None or row[2] != len(READ_MODELS) or row[0] != row[1]:
            return None
        return row[3], Moment(None, row[0])

    async def _owner(self, subject: UUID, at: Moment) -> UUID:
        """The subject whose person a reference belongs to; *subject* itself when it is no reference."""
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(
                    "SELECT subject FROM read.references WHERE reference = %s AND known_from <= %s AND (known_to IS NULL OR known_to > %s) "
                    "AND (%s::timestamptz IS NULL OR occurred_at <= %s) ORDER BY occurred_at, source, source_id LIMIT 1",
                    (subject, at.known_at, at.known_at, at.as_of, at.as_of),
                    prepare=True,
                )
            ).fetchone()
        return row[0] if row else subject

    async def known(self, ref: str, members: list[UUID], position: int, *, waits: bool = False) -> bool:
        """Make sure that somebody was known by then: whoever came later is answered as when nobody had come.

        Known is who was named, also by an event that belongs to another: its link was refused, or taken back, or it was
        corrected, be the correction recorded behind the event or ahead of it. Who is only mentioned, as a contact point or by the correction of an event that has not come, is not known yet.

        Args:
            waits: no moment was asked for, so that who was just recorded is waited for.

        Returns:
            False: the read models have come to where the log was; ask again.

        Raises:
            NotFound: in the very words of before the first event.
            Behind: the read models did not come to where the log was in time.
        """
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(
                    _EVER,
                    {"members": members, "known_at": position},
                    prepare=True,
                )
            ).fetchone()
            if row is None or row[0]:
                return True
            if await self._named_ahead(conn, members, position):
                return True
            head = await (await conn.execute("SELECT position FROM touchpoint_log.head")).fetchone()
        if waits and head is not None and head[0] > position:
            await self._moments.wait_until(head[0])
            return False
        identifier = parse_ref(ref)
        assert identifier is not None
        raise _unknown(identifier, position)

    async def _named_ahead(self, conn: Any, members: Sequence[UUID], position: int) -> set[UUID]:
        """Those of *members* whom events name that were corrected before they came: no read model ever held these so."""
        curs = conn.cursor(binary=True)
        await curs.execute(_AHEAD, {"members": list(members), "known_at": position}, prepare=True)
        named = set()
        for (body,) in await curs.fetchall():
            event = decode_body(body)
            named |= {UUID(surrogate) for surrogate, _, _ in (*event.subjects, *event.references)}
        return named & set(members)

    async def subject_then(self, ref: str, known_at: datetime | int | None) -> UUID:
        """The subject that *ref* names; who names nobody is told so of the moment that was asked for.

        Raises:
            Invalid, NotFound, FutureTime.
        """
        try:
            return await self.subject_of(ref)
        except NotFound:
            identifier, position = parse_ref(ref), await self._moments.resolve_known_at(known_at)
            if position is None or identifier is None:
                raise
            raise _unknown(identifier, position) from None

    async def _members(self, subject: UUID, at: Moment) -> list[UUID]:
        """The subjects of the person at one moment, from the evidence, merges and splits in force and known."""
        return await self.resolutions.members(subject, as_of=at.as_of, known_at=at.known_at)

    async def persons_of(self, refs: Sequence[str]) -> tuple[dict[str, UUID | None], int]:
        """(the person whom each REF names, None where nobody was recorded under it; the position), as of now.

        All in two statements, however many they are.

        Raises:
            Invalid: one of them is no REF; says which.
        """
        wanted: dict[str, UUID | tuple[str, str, str] | None] = {}
        for place, ref in enumerate(refs):
            if ref not in wanted:
                identifier: Identifier | None = parse_ref(ref, pointer=f"/refs/{place}")
                if identifier is not None and identifier.kind == "subject":
                    wanted[ref] = UUID(identifier.value)
                    continue
                identifier = normalised(identifier, self._region) if identifier is not None else None
                wanted[ref] = (
                    (identifier.kind, identifier.namespace, identifier.value) if identifier else None
                )
        named = await self._subjects.find_all({w for w in wanted.values() if isinstance(w, tuple)})
        subjects = {
            ref: named.get(w) if isinstance(w, tuple) else w for ref, w in wanted.items() if w is not None
        }
        async with self._pool.connection() as conn:
            curs = conn.cursor(binary=True)
            await curs.execute(
                _PERSONS_OF, (list({s for s in subjects.values() if s is not None}),), prepare=True
            )
            rows = await curs.fetchall()
            position = rows[0][0] if rows else 0
            person = {row[1]: row[2] for row in rows if row[1] is not None}
            nobody = [subject for subject, found in person.items() if found is None]
            if nobody:
                named_ahead = await self._named_ahead(conn, nobody, position or 0)
                person |= {subject: subject for subject in named_ahead}
        return {
            ref: person.get(s) if (s := subjects.get(ref)) is not None else None for ref in wanted
        }, position
