"""Likely duplicates: pairs of persons that may be one, each with its reasons and a score; nothing is merged.

Pairs come together by what they share in keyed form: an e-mail address or phone number (said in a profile, or an
identifier of the other), a name that sounds alike with a postcode, house or birth date, a WhatsApp number that is
the other's phone, or an event that named both where the link was refused. Only then are the two unsealed and
compared, in memory (`domain/likeness.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import Any
from uuid import UUID

import msgspec
from psycopg.errors import UndefinedTable
from psycopg_pool import AsyncConnectionPool
from rapidfuzz.fuzz import token_sort_ratio

from adapters.answers.history import Histories
from adapters.answers.members import members_now
from adapters.answers.profiles import Profiles, traits_of
from adapters.answers.search_index import SearchIndex, contacts_of
from adapters.identifiers import normalised
from adapters.keys import KeyFile
from adapters.postgres.subjects import Subject, Subjects
from domain.identity import Identifier, kind_of
from domain.likeness import Facts, Likeness, Reason, compared
from domain.portrait import portrait_of

__all__ = ["Candidates", "Duplicates", "DuplicatesPage", "Pair", "Side"]

READ_MODELS = ("contact_history", "identities", "profiles")
MOST_OF_ONE_TOKEN = 50
"""Persons that share one token; larger groups say little of each pair, and are counted only."""
COMPARED_AT_ONCE = 500  # pairs
_CONTACTS = ("email", "phone", "phone_raw", "whatsapp")

Pairing = tuple[UUID, UUID]
Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is, and how much there is."""


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One person of a pair."""

    id: str
    name: str
    subjects: list[dict[str, Any]]


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two persons that may be one."""

    score: float
    reasons: tuple[Reason, ...]
    a: Side
    b: Side
    merge: str  # the command that would merge them


class DuplicatesPage(msgspec.Struct, frozen=True, kw_only=True):
    """Pairs, the likeliest first.

    Attributes:
        candidates: pairs that share something.
        compared: how many of them were unsealed and compared; fewer where the caller said how many at most,
            or where those were looked at again that were likely a moment ago.
        left_out: groups of more than 50 persons that share one token; a common landline, say.
    """

    pairs: list[Pair]
    candidates: int
    compared: int
    left_out: int
    head: int


# What the profile of an order or a case says is said of the person that it belongs to.
_OWNER_OF = """
WITH owner_of AS MATERIALIZED (
    SELECT DISTINCT ON (r.reference) r.reference, r.subject
      FROM touchlog.search_words w JOIN read.references r ON r.reference = w.subject AND r.known_to IS NULL
     ORDER BY r.reference, r.occurred_at, r.source, r.source_id
), words AS MATERIALIZED (
    SELECT w.contacts, w.sounds, w.places, w.births, coalesce(i.person, o.subject, w.subject) AS person
      FROM touchlog.search_words w LEFT JOIN owner_of o ON o.reference = w.subject
           LEFT JOIN read.identities i ON i.subject = coalesce(o.subject, w.subject)
)"""
# Whose each contact is: of those who said it in a profile, and of whom it identifies.
_SHARED_CONTACTS = (
    _OWNER_OF  # noqa: S608 - a constant of ours
    + """, said AS MATERIALIZED (
    SELECT unnest(w.contacts) AS lookup, w.person FROM words w WHERE w.contacts <> '{}'
), owned AS (
    SELECT s.lookup, coalesce(i.person, s.subject) AS person
      FROM touchlog.subjects s LEFT JOIN read.identities i ON i.subject = s.subject
     WHERE s.lookup IN (SELECT lookup FROM said)
       AND (i.subject IS NOT NULL OR EXISTS (SELECT FROM read.contact_history h WHERE h.subject = s.subject))
)
SELECT array_agg(DISTINCT person) FROM (SELECT * FROM said UNION SELECT * FROM owned) AS whose
 GROUP BY lookup HAVING count(DISTINCT person) > 1
"""
)
_NAMED_ALIKE = (
    _OWNER_OF  # noqa: S608 - a constant of ours
    + """, person_of AS MATERIALIZED (
    SELECT DISTINCT n.person, s.sound FROM words n CROSS JOIN LATERAL unnest(n.sounds) AS s (sound)
), place_of AS (
    SELECT DISTINCT n.person, p.place FROM words n CROSS JOIN LATERAL unnest(n.places || n.births) AS p (place)
)
SELECT array_agg(p.person) FROM person_of s JOIN place_of p ON p.person = s.person
 GROUP BY s.sound, p.place HAVING count(*) > 1
"""
)
# An event named a contact together with somebody else's identifier, and the guards refused the link.
_NAMED_TOGETHER = """
SELECT ia.person, ib.person, l.a, l.b FROM read.links l
       JOIN read.identities ia ON ia.subject = l.a JOIN read.identities ib ON ib.subject = l.b
 WHERE l.known_to IS NULL AND ia.person <> ib.person AND (ia.kind = ANY(%(contacts)s) OR ib.kind = ANY(%(contacts)s))
   AND ia.kind <> 'anonymous' AND ib.kind <> 'anonymous'
"""
_WHATSAPP = """
SELECT s.subject, coalesce(i.person, s.subject) FROM touchlog.subjects s LEFT JOIN read.identities i ON i.subject = s.subject
 WHERE s.kind = 'whatsapp' AND s.subject > %s ORDER BY s.subject LIMIT 5000
"""
_WHOSE = """
SELECT s.lookup, coalesce(i.person, s.subject) FROM touchlog.subjects s LEFT JOIN read.identities i ON i.subject = s.subject
 WHERE s.lookup = ANY(%s)
"""


def _silent(_what: str, _done: int, _of: int) -> None:
    """Nobody wants to know how far it is."""


class Candidates:
    """Pairs that share something, with what brought them together; surrogates only, nothing personal."""

    def __init__(self) -> None:
        self.pairs: dict[Pairing, int] = {}
        self.named: dict[Pairing, set[UUID]] = {}
        self.left_out = 0
        self.head = 0
        self.count = 0

    def likeliest(self, pairs: Iterable[Pairing]) -> Candidates:
        """These *pairs* alone, in their order: what is worth to be looked at again soon."""
        fewer = Candidates()
        fewer.pairs = {pair: n for n, pair in enumerate(pairs)}
        fewer.named = {pair: self.named[pair] for pair in fewer.pairs if pair in self.named}
        fewer.left_out, fewer.head, fewer.count = self.left_out, self.head, self.count
        return fewer

    def add(self, one: UUID, other: UUID, rank: int) -> Pairing:
        pair = (one, other) if one < other else (other, one)
        self.pairs[pair] = min(rank, self.pairs.get(pair, rank))
        return pair

    def group(self, persons: Sequence[UUID], rank: int) -> None:
        if len(persons) > MOST_OF_ONE_TOKEN:
            self.left_out += 1
            return
        for one, other in combinations(persons, 2):
            self.add(one, other, rank)


_KEPT_APART = """
SELECT coalesce(i.person, d.one), coalesce(j.person, d.other)
  FROM (SELECT s.subject AS one, unnest(s.person_side) AS other FROM read.splits s
         UNION SELECT m.a, m.b FROM read.merges m WHERE m.known_to IS NOT NULL) d
       LEFT JOIN read.identities i ON i.subject = d.one LEFT JOIN read.identities j ON j.subject = d.other
"""


class Duplicates:
    """Answers which persons may be one.

    Args:
        region: for phone numbers without a country code.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Any],
        keys: KeyFile,
        subjects: Subjects,
        histories: Histories,
        *,
        region: str | None = None,
    ) -> None:
        self._pool = pool
        self._subjects = subjects
        self._histories = histories
        self._profiles = Profiles(pool, histories)
        self._index = SearchIndex(pool, keys, self._profiles, region=region)
        self._region = region

    async def page(
        self,
        candidates: Candidates,
        *,
        limit: int = 50,
        most_compared: int | None = None,
        progress: Progress | None = None,
    ) -> DuplicatesPage:
        """The likeliest pairs among *candidates*, as known now.

        Args:
            limit: at most so many pairs, 1,000 at a time.
            most_compared: compare so many candidates at most, those with the most telling thing in common first.
        """
        limit = max(1, min(limit, 1000))
        tell = progress or _silent
        ordered = sorted(candidates.pairs, key=lambda pair: (candidates.pairs[pair], pair))
        chosen = ordered[:most_compared]
        found: list[tuple[float, Pairing, Likeness]] = []
        for at in range(0, len(chosen), COMPARED_AT_ONCE):
            tell("comparing pairs", at, len(chosen))
            found += await self._compared(chosen[at : at + COMPARED_AT_ONCE], candidates)
            found.sort(key=lambda each: (-each[0], each[1]))
            del found[limit:]
        tell("comparing pairs", len(chosen), len(chosen))
        return DuplicatesPage(
            pairs=await self._shown(found),
            candidates=candidates.count,
            compared=len(chosen),
            left_out=candidates.left_out,
            head=candidates.head,
        )

    # -- which pairs -------------------------------------------------------------------------------

    async def candidates(
        self, *, after: int = 0, within_s: float | None = None, progress: Progress | None = None
    ) -> Candidates:
        """All pairs that share something, as known now.

        Args:
            after: wait until the read models have seen this position.
            within_s: how long the search index may take to come to where the profiles are; None: as long as it takes.

        Raises:
            Behind: the read models do not come to *after*, or the index to the profiles, in time.
        """
        tell = progress or _silent
        if after:
            await self._histories.moments.wait_until(after, models=READ_MODELS)
        await self._index.catch_up(
            within_s=within_s, progress=lambda done, of: tell("reading profiles", done, of)
        )
        found = Candidates()
        found.head = await self._histories.moments.seen(READ_MODELS)
        tell("looking for what is shared", 0, 4)
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(_NAMED_TOGETHER, {"contacts": list(_CONTACTS)})).fetchall()
        for one, other, a, b in rows:
            found.named.setdefault(found.add(one, other, 1), set()).update((a, b))
        for done, rank, question in ((1, 0, _SHARED_CONTACTS), (2, 2, _NAMED_ALIKE)):
            tell("looking for what is shared", done, 4)
            async with self._pool.connection() as conn:
                groups = await (await conn.execute(question)).fetchall()
            for (persons,) in groups:
                found.group(persons, rank)
        tell("looking for what is shared", 3, 4)
        await self._same_whatsapp(found)
        tell("looking for what is shared", 4, 4)
        found.count = len(found.pairs)
        return found

    async def _same_whatsapp(self, found: Candidates) -> None:
        """A WhatsApp id is a phone number, under another kind: its subject may be another person than the phone's."""
        last = UUID(int=0)
        while True:
            async with self._pool.connection() as conn:
                rows = await (await conn.execute(_WHATSAPP, (last,), prepare=True)).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            described = await self._subjects.describe([subject for subject, _ in rows])
            persons: dict[bytes, UUID] = {}
            for subject, person in rows:
                value = described[subject].value
                if value is not None:
                    persons[self._index.contact_lookup(Identifier("phone", value))] = person
            async with self._pool.connection() as conn:
                whose = await (await conn.execute(_WHOSE, (list(persons),))).fetchall()
            for lookup, owner in whose:
                if owner != persons[bytes(lookup)]:
                    found.add(owner, persons[bytes(lookup)], 0)

    # -- how alike ---------------------------------------------------------------------------------

    async def _compared(
        self, pairs: Sequence[Pairing], candidates: Candidates
    ) -> list[tuple[float, Pairing, Likeness]]:
        pairs = await self._still_two(pairs)
        persons = list(dict.fromkeys(person for pair in pairs for person in pair))
        members = await members_now(self._pool, persons)
        every = [subject for subjects in members.values() for subject in subjects]
        described = await self._subjects.describe(every)
        updates = await self._profiles.now(every, with_owned=True)
        facts: dict[UUID, Facts] = {}
        for person, subjects in members.items():
            portrait = portrait_of(traits_of(u for s in subjects for u in updates.get(s, ())))
            contacts = [
                *contacts_of(portrait, self._region),
                *_own_contacts(described, subjects, self._region),
            ]
            facts[person] = Facts(
                portrait=portrait,
                emails={c.value for c in contacts if c.kind == "email"},
                phones={c.value for c in contacts if c.kind == "phone"},
            )
        found = []
        for pair in pairs:
            one, other = facts[pair[0]], facts[pair[1]]
            named = [
                str(Identifier(s.kind, s.value, s.namespace))
                for subject in candidates.named.get(pair, ())
                if (s := described.get(subject)) is not None and s.value is not None and s.kind in _CONTACTS
            ]
            if named:
                one = msgspec.structs.replace(one, named=named)
            likeness = compared(one, other, token_sort_ratio)
            if likeness is not None:
                found.append((likeness.score, pair, likeness))
        return found

    async def _still_two(self, pairs: Sequence[Pairing]) -> list[Pairing]:
        """Those *pairs* whose persons have not become others since they were found."""
        async with self._pool.connection() as conn:
            rows = await (
                await conn.execute(
                    "SELECT subject FROM read.identities WHERE subject = ANY(%s) AND person <> subject",
                    ([person for pair in pairs for person in pair],),
                    prepare=True,
                )
            ).fetchall()
        others = {subject for (subject,) in rows}
        apart = await self._kept_apart()
        return [pair for pair in pairs if others.isdisjoint(pair) and frozenset(pair) not in apart]

    async def _kept_apart(self) -> set[frozenset[UUID]]:
        """Pairs of persons of whom somebody said that they are two: by a split, or by undoing a merge."""
        async with self._pool.connection() as conn:
            try:
                rows = await (await conn.execute(_KEPT_APART, prepare=True)).fetchall()
            except UndefinedTable:  # the version that knows of decisions is being built
                return set()
        return {frozenset(row) for row in rows}

    async def _shown(self, found: Sequence[tuple[float, Pairing, Likeness]]) -> list[Pair]:
        persons = list(dict.fromkeys(person for _, pair, _ in found for person in pair))
        members = await members_now(self._pool, persons)
        every = [subject for subjects in members.values() for subject in subjects]
        described = await self._subjects.describe(every)
        updates = await self._profiles.now(every, with_owned=True)
        sides = {}
        for person, subjects in members.items():
            told = sorted(
                (described[s] for s in subjects if s in described),
                key=lambda s: (kind_of(s.kind).priority, s.kind, s.namespace, s.value or "", s.subject),
            )
            sides[person] = Side(
                id=str(person),
                name=portrait_of(traits_of(u for s in subjects for u in updates.get(s, ()))).name,
                subjects=[
                    {"subject": str(s.subject), "kind": s.kind, "namespace": s.namespace, "value": s.value}
                    for s in told
                ],
            )
        return [
            Pair(
                score=score,
                reasons=likeness.reasons,
                a=sides[one],
                b=sides[other],
                merge=f"touchlog persons merge {one} {other} --reason '…'",
            )
            for score, (one, other), likeness in found
        ]


def _own_contacts(
    described: dict[UUID, Subject], subjects: Iterable[UUID], region: str | None
) -> Iterable[Identifier]:
    """The e-mail addresses and phone numbers by which a person is identified; WhatsApp ids count as phones."""
    for each in subjects:
        subject = described.get(each)
        if subject is None or subject.value is None:
            continue
        if subject.kind in ("email", "phone"):
            yield Identifier(subject.kind, subject.value)
        elif subject.kind == "whatsapp":
            number = normalised(Identifier("phone", subject.value), region)
            if number is not None and number.kind == "phone":
                yield number
