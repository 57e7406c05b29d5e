"""The search index: keyed tokens of names, addresses and contacts, which follow the profiles.

A fold holds no keys, so this is no projection: it reads what the profiles have gained or lost since a position,
opens it, and keeps of each subject only tokens under the pepper (SEMANTICS §7). It can be thrown away: it is made
again from the profiles. Whoever comes first brings it on: the thread beside the projectors, or a question that
finds it behind. Two at once do no harm: the progress moves by compare-and-set with the rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.answers.profiles import Profiles, traits_of
from adapters.identifiers import normalised
from adapters.keys import KeyFile
from domain.errors import Behind
from domain.identity import Identifier
from domain.portrait import Portrait, portrait_of, sound_of, spellings

__all__ = ["SearchIndex", "Words", "contacts_of", "prefix_length"]

RULE = 1
"""Version of the rule that makes tokens; raise it, and they are made anew."""
WINDOW_POSITIONS = 5_000
"""Positions that are gone through at a time: at most half a second of work."""
PREFIXES = (3, 5)
"""Letters. Of a beginning only these tokens are kept: enough to look for, little to learn from."""
_OPENED_AT_ONCE = 1_000  # subjects


class Words(msgspec.Struct, frozen=True):
    """The tokens of one subject."""

    names: list[int]
    sounds: list[int]
    places: list[int]
    births: list[int]
    contacts: list[bytes]


_CHANGED = """
SELECT DISTINCT subject FROM read.profile_updates
 WHERE (known_from > %(after)s AND known_from <= %(until)s) OR (known_to > %(after)s AND known_to <= %(until)s)
"""
_WRITE = """
INSERT INTO touchlog.search_words (subject, names, sounds, places, births, contacts) VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (subject) DO UPDATE SET names = EXCLUDED.names, sounds = EXCLUDED.sounds, places = EXCLUDED.places,
       births = EXCLUDED.births, contacts = EXCLUDED.contacts
"""


class SearchIndex:
    """Brings the index on, and makes the tokens by which it is asked.

    Args:
        region: for phone numbers without a country code.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Any],
        keys: KeyFile,
        profiles: Profiles,
        *,
        region: str | None = None,
        window: int = WINDOW_POSITIONS,
    ) -> None:
        self._pool = pool
        self._keys = keys
        self._profiles = profiles
        self._region = region
        self._window = window

    # -- tokens ------------------------------------------------------------------------------------

    def name_tokens(self, word: str) -> list[int]:
        """The tokens that are kept of one folded word of a name."""
        token = self._keys.token
        beginnings = [token("begins", word[:length]) for length in PREFIXES if len(word) >= length]
        return [token("word", word), *beginnings]

    def word_token(self, word: str) -> int:
        """The token of a whole folded word."""
        return self._keys.token("word", word)

    def beginning_token(self, word: str) -> int | None:
        """The token of those words that may begin with *word*; None where it is too short to be looked for."""
        length = prefix_length(word)
        return self._keys.token("begins", word[:length]) if length else None

    def words_of(self, portrait: Portrait) -> Words:
        """The tokens of what one subject's profile says."""
        token = self._keys.token
        written = [word for name in portrait.names for both in spellings(name) for word in both]
        address = portrait.address
        places = [f"code {address.postcode}"] if address.postcode else []
        number = next((word for word in address.street.split() if word[0].isdigit()), "")
        if address.city and number:
            places.append(f"city {address.city} {number}")
        return Words(
            names=sorted({t for word in written for t in self.name_tokens(word)}),
            sounds=sorted({token("sound", sound_of(word)) for word in portrait.words if len(word) > 1}),
            places=sorted({token("place", place) for place in places}),
            births=[token("birth", portrait.birth)] if portrait.birth else [],
            contacts=sorted(
                {self.contact_lookup(one) for one in contacts_of(portrait, self._region)},
            ),
        )

    def contact_lookup(self, contact: Identifier) -> bytes:
        """The keyed hash of a normalised contact, as `touchlog.subjects` knows it."""
        return self._keys.lookup(contact.kind, contact.namespace, contact.value)

    # -- following ---------------------------------------------------------------------------------

    async def catch_up(
        self,
        *,
        within_s: float | None = None,
        windows: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> bool:
        """Follow the profiles to where they are now; False where that is not reached in so many windows.

        Args:
            within_s: how long it may take; None: as long as it takes.
            progress: called with (position reached, position of the profiles).

        Raises:
            Behind: it takes longer than that; what was done is kept.
        """
        started_s = time.monotonic()
        while True:
            after, seen = await self._positions()
            if progress is not None:
                progress(after, seen)
            if after >= seen:
                return True
            if windows is not None:
                if windows == 0:
                    return False
                windows -= 1
            if within_s is not None and time.monotonic() - started_s > within_s:
                raise Behind(
                    f"The search index has seen position {after:,}, the profiles are at {seen:,}; ask again in a moment.",
                    lag_positions=seen - after,
                )
            await self._advance(after, min(seen, after + self._window))

    async def _positions(self) -> tuple[int, int]:
        """(how far the index is, how far the profiles are); an index of another rule is emptied."""
        async with self._pool.connection() as conn, conn.transaction():
            row = await (
                await conn.execute(
                    "SELECT s.position, s.rule, coalesce((SELECT min(p.position) FROM touchlog.projections p "
                    "WHERE p.name = 'profiles' AND p.state = 'live'), 0) FROM touchlog.search_progress s"
                )
            ).fetchone()
            assert row is not None, "the migration made the row"
            if row[1] == RULE:
                return row[0], row[2]
            await conn.execute(
                "UPDATE touchlog.search_progress SET position = 0, rule = %s WHERE rule = %s", (RULE, row[1])
            )
            await conn.execute("DELETE FROM touchlog.search_words")
            return 0, row[2]

    async def _advance(self, after: int, until: int) -> None:
        async with self._pool.connection() as conn:
            rows = await (
                await conn.execute(_CHANGED, {"after": after, "until": until}, prepare=True)
            ).fetchall()
        changed = [row[0] for row in rows]
        made: list[tuple[UUID, Words]] = []
        for at in range(0, len(changed), _OPENED_AT_ONCE):
            made += await self._made(changed[at : at + _OPENED_AT_ONCE])
        async with self._pool.connection() as conn, conn.transaction():
            moved = await conn.execute(
                "UPDATE touchlog.search_progress SET position = %s WHERE position = %s AND rule = %s",
                (until, after, RULE),
            )
            if moved.rowcount != 1:
                return  # somebody else was first
            gone = set(changed) - {subject for subject, _ in made}
            if gone:
                await conn.execute("DELETE FROM touchlog.search_words WHERE subject = ANY(%s)", (list(gone),))
            if made:
                async with conn.cursor() as curs:
                    await curs.executemany(
                        _WRITE,
                        [(s, w.names, w.sounds, w.places, w.births, w.contacts) for s, w in made],
                    )

    async def _made(self, subjects: Sequence[UUID]) -> list[tuple[UUID, Words]]:
        """The tokens of each subject that has any; of one whose updates were taken back or erased there are none."""
        updates = await self._profiles.now(subjects)
        found = []
        for subject, told in updates.items():
            words = self.words_of(portrait_of(traits_of(told)))
            if words.names or words.places or words.births or words.contacts:
                found.append((subject, words))
        return found


def prefix_length(word: str) -> int:
    """Of how many letters the beginning is by which *word* is looked for; 0: too short."""
    return max((length for length in PREFIXES if length <= len(word)), default=0)


def contacts_of(portrait: Portrait, region: str | None) -> Iterable[Identifier]:
    """The e-mail addresses and phone numbers of a profile, normalised; what cannot be read is left out."""
    said = [("email", value) for value in portrait.emails] + [("phone", value) for value in portrait.phones]
    for kind, value in said:
        found = normalised(Identifier(kind, value), region)
        if found is not None and found.kind == kind:
            yield found
