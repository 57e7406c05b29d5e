"""A person's history: who the REF names, and everything that happened with that person.

Without cuts the answer is one statement on the read models, so that positions, person and entries
are of one moment. With `as_of` or `known_at` the evidence is cut first and the person resolved from
what is left, by the same function that keeps the read model (SEMANTICS §§2, 3).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
import orjson
import psycopg
from psycopg_pool import AsyncConnectionPool

from adapters.cursors import hold_moment, read_cursor, write_cursor
from adapters.identifiers import normalised
from adapters.postgres.event_log import refusal
from adapters.postgres.subjects import Subjects, told_subjects
from adapters.resolution import Resolutions
from adapters.unsealing import unseal
from domain.correction import Amendment, amended, patched
from domain.entry import Body, Recorded, decode_body, moment
from domain.errors import Behind, Invalid, NotFound, Problem
from domain.event import headline, upcast
from domain.identity import Identifier, parse_ref

__all__ = ["Histories", "Page", "Person"]

READ_MODELS = ("contact_history", "identities")
WAIT_S = 5.0
"""How long a question waits for a read model that has not yet seen the position asked for."""
_SEARCHED = 400
"""Entries unsealed at a time while a text is looked for."""


class Moment(msgspec.Struct, frozen=True):
    """Both axes of time, resolved: what had happened by `as_of` (None: no cut), known by position `known_at`."""

    as_of: datetime | None
    known_at: int


class Person(msgspec.Struct, frozen=True):
    """Who a REF names at one moment."""

    id: str
    subjects: list[dict[str, Any]]  # {"subject", "kind", "namespace", "value"}
    as_of: str | None
    known_at: int
    head: int


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

_FILTERS = {
    "now": "AND known_to IS NULL",
    "known_at": "AND known_from <= %(known_at)s AND (known_to IS NULL OR known_to > %(known_at)s)",
    "as_of": "AND occurred_at <= %(as_of)s",
    "channel": "AND channel = %(channel)s",
    "direction": "AND direction = %(direction)s",
    "type": "AND type = %(type)s",
    "cursor": "AND occurred_at <= %(c_at)s AND (occurred_at, source, source_id) < (%(c_at)s, %(c_source)s, %(c_id)s)",
}


def _statement(template: str, filters: Sequence[str]) -> str:
    return template.replace(
        "{entries}", _ENTRIES.replace("{filters}", " ".join(_FILTERS[f] for f in filters))
    )


def _unknown(identifier: Identifier, position: int | None = None) -> NotFound:
    """Nobody is known so, or nobody was at a position: the same words before somebody comes and after."""
    then = f" at position {position:,}" if position is not None else ""
    if identifier.kind == "subject":
        return NotFound(f"No subject {identifier.value} is known here{then}.")
    return NotFound(
        f"Nobody was recorded under this {identifier.kind}{then}. Check the spelling and the kind, or search."
    )


class Histories:
    """Answers questions about persons and their histories.

    Args:
        region: for phone numbers without a country code.
    """

    def __init__(
        self, pool: AsyncConnectionPool[Any], subjects: Subjects, *, region: str | None = None
    ) -> None:
        self._pool = pool
        self._subjects = subjects
        self._region = region
        self.resolutions = Resolutions(pool)

    # -- who ------------------------------------------------------------------------------------

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

    async def seen(self, models: Sequence[str] = READ_MODELS) -> int:
        """The position that every one of *models* has seen; by default those behind histories."""
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(
                    "SELECT min(position), count(*) FROM touchlog.projections WHERE name = ANY(%s) AND state = 'live'",
                    (list(models),),
                    prepare=True,
                )
            ).fetchone()
        return int(row[0]) if row is not None and row[1] == len(models) else 0

    async def wait_until(
        self, position: int, *, at_most_s: float = WAIT_S, models: Sequence[str] = READ_MODELS
    ) -> int:
        """Wait until the read models have seen *position*; returns how far they are.

        Raises:
            Behind: they did not come so far in time.
        """
        seen = await self.waited(lambda: self.seen(models), position, at_most_s)
        if seen < position:
            raise self.behind(seen, position)
        return seen

    @staticmethod
    async def waited(asked: Callable[[], Awaitable[int]], position: int, at_most_s: float) -> int:
        """Ask again and again until *position* is reached or the time is over; returns the last answer."""
        deadline = asyncio.get_running_loop().time() + at_most_s
        while True:
            seen = await asked()
            if seen >= position or asyncio.get_running_loop().time() >= deadline:
                return seen
            await asyncio.sleep(0.01)

    @staticmethod
    def behind(seen: int, position: int) -> Behind:
        """What to raise where *position* was not seen in time."""
        return Behind(
            f"The read models have seen position {seen:,}, asked was {position:,}; ask again in a moment. "
            "If this stays, look at `touchlog status`: a projector may not be running.",
            lag_positions=position - seen,
        )

    async def resolve_known_at(self, known_at: datetime | int | None) -> int | None:
        """`known_at` as a position; a time is resolved once and for ever, the log being closed up to it.

        Raises:
            FutureTime: the time lies in the future.
            Invalid: the position lies beyond the head.
        """
        if known_at is None:
            return None
        async with self._pool.connection() as conn:
            if isinstance(known_at, int):
                row = await (await conn.execute("SELECT position FROM touchpoint_log.head")).fetchone()
                assert row is not None
                if not 0 <= known_at <= row[0]:
                    raise Invalid(
                        [
                            Problem(
                                "/known_at",
                                f"Position {known_at:,} is not in the log; its newest is {row[0]:,}.",
                                "out_of_range",
                            )
                        ]
                    )
                return known_at
            try:
                row = await (await conn.execute("SELECT touchpoint_log.known_at(%s)", (known_at,))).fetchone()
            except psycopg.Error as error:
                raise refusal(error) from None
        assert row is not None
        return int(row[0])

    async def recorded_at(self, position: int, place: str) -> datetime:
        """When the event at *position* was recorded.

        Args:
            place: where the position was asked for, a JSON pointer for the error.

        Raises:
            Invalid: the position is not in the log.
        """
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(
                    "SELECT e.recorded_at, h.position FROM touchpoint_log.head h "
                    "LEFT JOIN touchpoint_log.events e ON e.position = %s",
                    (position,),
                )
            ).fetchone()
        assert row is not None
        if row[0] is None:
            detail = f"Position {position:,} is not in the log; its newest is {row[1]:,}."
            raise Invalid([Problem(place, detail, "out_of_range")])
        at: datetime = row[0]
        return at

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
            await self.wait_until(after)
        subject = await self.subject_then(ref, known_at)
        members, at = await self._who(subject, as_of, known_at)
        if known and not await self.known(ref, members, at.known_at, waits=known_at is None):
            members, at = await self._who(subject, as_of, known_at)
            await self.known(ref, members, at.known_at)
        described = await self._subjects.describe(members)
        subjects = told_subjects(described.values())
        return Person(str(min(members)), subjects, moment(as_of) if as_of else None, at.known_at, at.known_at)

    async def _who(
        self, subject: UUID, as_of: datetime | None, known_at: datetime | int | None
    ) -> tuple[list[UUID], Moment]:
        """(the subjects of the person whom *subject* names at a moment, that moment)."""
        found = await self._who_now(subject) if as_of is None and known_at is None else None
        if found is not None:
            return found
        at = await self._moment(as_of, known_at)
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

    async def _moment(self, as_of: datetime | None, known_at: datetime | int | None) -> Moment:
        position = await self.resolve_known_at(known_at)
        if position is None:
            position = await self.seen()
        else:
            await self.wait_until(position)
        return Moment(as_of, position)

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
            await self.wait_until(head[0])
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
            identifier, position = parse_ref(ref), await self.resolve_known_at(known_at)
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

    # -- what happened ----------------------------------------------------------------------------

    async def page(
        self,
        ref: str,
        *,
        as_of: datetime | None = None,
        known_at: datetime | int | None = None,
        channel: str | None = None,
        direction: str | None = None,
        type_: str | None = None,
        q: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
        after: int = 0,
    ) -> Page:
        """Entries of the history of the person whom *ref* names, newest first.

        Args:
            q: only entries whose headline or data hold this text, in any case.
            cursor: `next` of the page before; it carries that page's moment, so that pages never shift; another
                moment beside it is refused.

        Raises:
            Invalid, NotFound, FutureTime, Behind.
        """
        limit = max(1, min(limit, 1000))
        place = read_cursor(cursor, _Place) if cursor else None
        if place is not None:
            hold_moment((place.as_of, place.known_at), as_of, await self.resolve_known_at(known_at))
            known_at = place.known_at
            as_of = place.as_of
        if after:
            await self.wait_until(after)
        subject = await self.subject_then(ref, known_at)
        parameters: dict[str, Any] = {
            "subject": subject,
            "channel": channel,
            "type": type_,
            "direction": direction,
            "as_of": as_of,
            "models": list(READ_MODELS),
        }
        filters = [
            name
            for name, value in (
                ("channel", channel),
                ("type", type_),
                ("direction", direction),
                ("as_of", as_of),
            )
            if value is not None
        ]
        if place is not None:
            parameters |= {"c_at": place.at, "c_source": place.source, "c_id": place.id}
            filters.append("cursor")
        wanted = limit + 1 if q is None else _SEARCHED
        asked = (as_of, known_at, filters, parameters | {"limit": wanted})
        rows, position, members = await self._newest(subject, *asked)
        first = place is None
        if not rows and first and not await self.known(ref, members, position, waits=known_at is None):
            rows, position, members = await self._newest(subject, *asked)
            if not rows:
                await self.known(ref, members, position)
        parameters |= {"subjects": members, "known_at": position}
        if q is None:
            shown = rows[:limit]
            entries = await self.entries(shown)
            more = len(rows) > limit
        else:
            entries, shown, more = await self._search(q, limit, rows, filters, parameters)
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
        members, at = await self._who(subject, as_of, known_at)
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
            for row, entry in zip(rows, await self.entries(rows), strict=True):
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

    async def entries(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """Entries as a page shows them, of rows (position, recorded_at, _, _, _, body, bodies of its corrections)."""
        found = [
            (Recorded(row[0], row[1], decode_body(bytes(row[5]))), [decode_body(bytes(p)) for p in row[6]])
            for row in rows
        ]
        every = [event for recorded, patches in found for event in (recorded.event, *patches)]
        opened = iter(await unseal(self._subjects, every))
        entries = []
        for recorded, patches in found:
            data, extensions = next(opened)
            if not patches:
                entries.append(
                    _entry(recorded.position, recorded.recorded_at, recorded.event, data, extensions)
                )
                continue
            corrections = [Amendment(Recorded(0, recorded.recorded_at, patch), b"") for patch in patches]
            held = amended(recorded, corrections)
            assert held is not None, "a correction never takes an event away"
            markers = []
            changes: dict[str, Any] = {}
            erased = False
            for patch in patches:
                told, _ = next(opened)
                change = told.get("patch") or {}
                changes |= change.get("data") or {}
                erased = erased or "erased" in told
                fields = sorted(
                    {*(k for k in change if k != "data"), *(f"data.{k}" for k in change.get("data") or {})}
                )
                markers.append(
                    {
                        "event_id": patch.event_id,
                        "at": moment(patch.occurred_at),
                        "source": patch.source,
                        "source_id": patch.id,
                        "principal": patch.principal,
                        "fields": fields,
                        "reason": told.get("reason"),
                    }
                )
            data = patched(data, changes)
            if erased:
                data["erased"] = True
            entry = _entry(recorded.position, recorded.recorded_at, held[0].event, data, extensions)
            entry["corrections"] = markers
            entries.append(entry)
        return entries


_HANDLERS = ("agent", "assignee", "owner", "technician", "handled_by", "host", "sales_rep")
_OUTCOMES = ("outcome", "status", "result", "resolution", "disposition")
_BELONGS = (
    "order_id",
    "case_id",
    "conversation_id",
    "thread_id",
    "campaign_id",
    "visit_id",
    "opportunity_id",
    "subscription_id",
)


def _entry(
    position: int, recorded_at: datetime, event: Body, data: dict[str, Any], extensions: dict[str, Any]
) -> dict[str, Any]:
    """One entry as INTERFACES writes it; `headline` is told in today's words."""
    today = upcast(event.type, event.version, data)
    entry: dict[str, Any] = {
        "position": position,
        "event_id": event.event_id,
        "type": event.type,
        "channel": event.channel,
        "direction": event.direction,
        "occurred_at": moment(event.occurred_at),
        "recorded_at": moment(recorded_at),
        "headline": headline(event.type, today),
        "handled_by": next((today[k] for k in _HANDLERS if isinstance(today.get(k), str)), None),
        "outcome": next((today[k] for k in _OUTCOMES if isinstance(today.get(k), str)), None),
        "belongs_to": {k: today[k] for k in _BELONGS if isinstance(today.get(k), str | int)},
        "data": today,
        "provenance": {
            "position": position,
            "source": event.source,
            "source_id": event.id,
            "version": event.version,
            "principal": event.principal,
            "on_behalf_of": event.on_behalf_of,
            "correlation": event.correlation,
            "causation": event.causation,
            "import": event.import_id,
            "occurred_at_given": event.occurred_at_given,
            "extensions": extensions,
        },
    }
    if event.future:
        entry["future"] = True
    return entry


class _Place(msgspec.Struct, frozen=True):
    known_at: int
    as_of: datetime | None
    at: datetime
    source: str
    id: str


def _cursor(known_at: int, as_of: datetime | None, row: Any) -> str:
    return write_cursor(_Place(known_at, as_of, row[2].astimezone(UTC), row[3], row[4]))
