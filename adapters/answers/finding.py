"""Finding persons: by a REF, by the bare value of an identifier in any spelling, or by words of a name.

Identifiers are looked up by keyed hash. Names are looked up by keyed tokens of their words and of the beginnings
of these; what a beginning may mean is told apart by unsealing the candidates, in memory (SEMANTICS §7).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.answers.cursors import read_cursor, write_cursor
from adapters.answers.history import Histories
from adapters.answers.identities import Person
from adapters.answers.members import members_now
from adapters.answers.moments import WAIT_S
from adapters.answers.profiles import Profiles, traits_of
from adapters.answers.search_index import SearchIndex, prefix_length
from adapters.keys import KeyFile
from domain.errors import Invalid, NotFound
from domain.portrait import portrait_of, spellings

__all__ = ["Finding", "Found", "FoundPage"]

READ_MODELS = ("contact_history", "identities", "profiles")
_KINDS_TRIED = ("email", "phone", "loyalty_card", "user", "crm", "whatsapp", "anonymous", "order", "case")
_CANDIDATES = 200
"""Persons whose names are unsealed at a time."""
_MOST_CANDIDATES = 4_000
"""Persons whose names are unsealed for one page; behind that the page ends, with a cursor."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A person that a text names.

    Attributes:
        name: as the profile says it; empty where it says none.
        matched: `identifier` or `name`; `former_name` where the name that matched is no longer the profile's.
    """

    id: str
    name: str
    matched: str
    subjects: list[dict[str, Any]]
    as_of: None = None
    known_at: int
    head: int


class FoundPage(msgspec.Struct, frozen=True):
    """Some of the persons that a text names."""

    persons: list[Found]
    next: str | None
    head: int


class _Place(msgspec.Struct, frozen=True):
    rank: int  # -1: named by an identifier; 0: every word is a whole word of the name
    person: UUID


_BY_NAME = """
WITH hit AS (
    SELECT n.place, w.subject, coalesce(i.person, o.subject, w.subject) AS person, w.names && n.whole AS is_whole
      FROM (SELECT place, whole, begins FROM jsonb_to_recordset(%(words)s::jsonb) AS r (place int, whole bigint[], begins bigint[])) n
           JOIN touchlog.search_words w ON w.names && (n.whole || n.begins)
           LEFT JOIN LATERAL (SELECT r.subject FROM read.references r WHERE r.reference = w.subject AND r.known_to IS NULL
                               ORDER BY r.occurred_at, r.source, r.source_id LIMIT 1) o ON true
           LEFT JOIN read.identities i ON i.subject = coalesce(o.subject, w.subject)
), ranked AS (
    SELECT person, CASE WHEN count(DISTINCT place) FILTER (WHERE is_whole) = %(count)s THEN 0 ELSE 1 END AS rank
      FROM hit GROUP BY person HAVING count(DISTINCT place) = %(count)s
)
SELECT rank, person FROM ranked
 WHERE %(person)s::uuid IS NULL OR (rank, person) > (%(rank)s, %(person)s)
 ORDER BY rank, person LIMIT %(limit)s
"""


class Finding:
    """Answers whom a text names.

    Args:
        region: for phone numbers without a country code.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Any],
        keys: KeyFile,
        histories: Histories,
        *,
        region: str | None = None,
    ) -> None:
        self._pool = pool
        self._histories = histories
        self._profiles = Profiles(pool, histories)
        self._index = SearchIndex(pool, keys, self._profiles, region=region)

    async def page(
        self,
        text: str,
        *,
        limit: int = 20,
        cursor: str | None = None,
        after: int = 0,
        within_s: float | None = WAIT_S,
        progress: Callable[[int, int], None] | None = None,
    ) -> FoundPage:
        """Persons whom *text* names, those named by an identifier first, then by whole words, then by beginnings.

        Args:
            limit: at most so many, 200 at a time.
            cursor: `next` of the page before.
            after: wait until the read models have seen this position.
            within_s: how long the search index may take to come to where the profiles are; None: as long as it takes.
            progress: called with (position of the index, position of the profiles) meanwhile.

        Raises:
            Invalid: the cursor was not made here.
            Behind: the read models do not come to *after*, or the index to the profiles, in time.
        """
        limit = max(1, min(limit, 200))
        place = read_cursor(cursor, _Place) if cursor else None
        if after:
            await self._histories.moments.wait_until(after, models=READ_MODELS)
        text = text.strip()
        found: dict[str, Found] = {}
        named = await self._by_identifier(text) if text else []
        if place is None or place.rank < 0:
            shown = [person.id for person in named]
            rest = (
                named[shown.index(str(place.person)) + 1 :] if place and str(place.person) in shown else named
            )
            for person in rest[:limit]:
                found[person.id] = await self._shown(person, "identifier")
                place = _Place(-1, UUID(person.id))
            if len(rest) > limit and place is not None:
                return FoundPage(
                    list(found.values()), write_cursor(place), max(p.head for p in found.values())
                )
        following = None
        if _may_be_a_name(text):
            await self._index.catch_up(within_s=within_s, progress=progress)
            skipped = {person.id for person in named}
            following = await self._by_name(text, limit, place, skipped, found)
        head = max((one.head for one in found.values()), default=0) or await self._histories.moments.seen()
        return FoundPage(list(found.values()), following, head)

    async def _by_identifier(self, text: str) -> list[Person]:
        tried = [text] if ":" in text or text.count("-") == 4 else []
        if "\n" not in text:
            tried += [f"{kind}:{_spelt(kind, text)}" for kind in _KINDS_TRIED]
        found: dict[str, Person] = {}
        for ref in tried:
            try:
                person = await self._histories.identities.person(ref)
            except (Invalid, NotFound):
                continue
            found.setdefault(person.id, person)
        return list(found.values())

    async def _by_name(
        self, text: str, limit: int, place: _Place | None, skipped: set[str], found: dict[str, Found]
    ) -> str | None:
        """Add persons by name until *found* holds *limit*; answers with the cursor of what comes behind them."""
        asked = spellings(text)
        words = [
            {
                "place": n,
                "whole": [self._index.word_token(word) for word in both],
                "begins": [t for word in both if (t := self._index.beginning_token(word)) is not None],
            }
            for n, both in enumerate(asked)
        ]
        looked_at = 0
        while looked_at < _MOST_CANDIDATES:
            async with self._pool.connection() as conn:
                rows = await (
                    await conn.execute(
                        _BY_NAME,
                        {
                            "words": msgspec.json.encode(words).decode(),
                            "count": len(words),
                            "rank": place.rank if place else None,
                            "person": place.person if place else None,
                            "limit": _CANDIDATES,
                        },
                    )
                ).fetchall()
            matches = await self._matching(rows, asked)
            looked_at += len(rows)
            for rank, subject in rows:
                if subject in matches:
                    if len(found) == limit:
                        return write_cursor(place) if place is not None else None
                    person = await self._histories.identities.person(str(subject))
                    if person.id not in skipped:
                        found.setdefault(person.id, _found(person, *matches[subject]))
                place = _Place(rank, subject)
            if len(rows) < _CANDIDATES:
                return None
        return write_cursor(place) if place is not None else None

    async def _matching(
        self, rows: Sequence[tuple[int, UUID]], asked: list[list[str]]
    ) -> dict[UUID, tuple[str, str]]:
        """(name, how it matched) of those candidates that are called what was asked for."""
        members = await members_now(self._pool, [subject for _, subject in rows])
        updates = await self._profiles.now(
            [s for subjects in members.values() for s in subjects], with_owned=True
        )
        found = {}
        for rank, person in rows:
            told = [updates[s] for s in members[person] if s in updates]
            today = portrait_of(traits_of(update for each in told for update in each))
            if _names(today.names, asked):
                found[person] = (today.name, "name")
                continue
            # What one subject is called may differ from what the person is: an earlier name, or one said elsewhere.
            once = [name for each in told for name in portrait_of(traits_of(each)).names]
            if rank == 0 or _names(once, asked):
                found[person] = (today.name, "former_name")
        return found

    async def _shown(self, person: Person, matched: str) -> Found:
        updates = await self._profiles.now([UUID(s["subject"]) for s in person.subjects], with_owned=True)
        every = [update for told in updates.values() for update in told]
        return _found(person, portrait_of(traits_of(every)).name, matched)


def _found(person: Person, name: str, matched: str) -> Found:
    return Found(
        id=person.id,
        name=name,
        matched=matched,
        subjects=person.subjects,
        known_at=person.known_at,
        head=person.head,
    )


def _may_be_a_name(text: str) -> bool:
    """Whether the words of *text* are looked for: an address with @, a REF or a bare number is no name."""
    if "@" in text or ":" in text or not text:
        return False
    words = [word for both in spellings(text) for word in both]
    return any(not word.isdigit() for word in words) and len(text) <= 200


def _names(names: Sequence[str], asked: list[list[str]]) -> bool:
    """Whether each word that was asked for is, or begins, a word of *names*."""
    said = [word for name in names for both in spellings(name) for word in both]
    return all(
        any(each == word or (prefix_length(word) and each.startswith(word)) for word in both for each in said)
        for both in asked
    )


def _spelt(kind: str, text: str) -> str:
    """A phone number that begins with the international 00 as its plus."""
    if kind in ("phone", "whatsapp") and re.match(r"\(?00[1-9\s]", text):
        return "+" + text.lstrip("(").removeprefix("00").lstrip()
    return text
