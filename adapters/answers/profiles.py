"""Profiles asked: the traits of a person with where each comes from, at any moment of both axes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.answers.history import Histories
from adapters.answers.identities import Person
from adapters.answers.members import OWNERS_AT
from domain.entry import moment
from domain.profile import ProfileUpdate, Trait, folded_profile

__all__ = ["Profile", "Profiles", "ShownTrait", "shown_traits", "traits_of"]

READ_MODELS = ("contact_history", "identities", "profiles")


class ShownTrait(msgspec.Struct, frozen=True, kw_only=True):
    """A trait with its provenance."""

    value: Any
    position: int
    event_id: str
    source: str
    source_id: str
    occurred_at: str
    recorded_at: str


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a person.

    Attributes:
        traits: by name; a trait whose last value is null is absent.
        updates: how many events said something of the person.
        erased_updates: how many of them can no longer be read.
    """

    traits: dict[str, ShownTrait]
    updates: int
    erased_updates: int


_AT = (
    OWNERS_AT
    + """
SELECT p.position, p.recorded_at, p.occurred_at, p.source, p.source_id, p.body, p.patches
  FROM owner o JOIN read.profile_updates p ON p.subject = o.subject
 WHERE p.known_from <= %(known_at)s AND (p.known_to IS NULL OR p.known_to > %(known_at)s)
   AND (%(as_of)s::timestamptz IS NULL OR p.occurred_at <= %(as_of)s)
"""
)
_NOW = """
SELECT position, recorded_at, occurred_at, source, source_id, body, patches, subject
  FROM read.profile_updates WHERE subject = ANY(%(subjects)s) AND known_to IS NULL
"""
_NOW_WITH_OWNED = """
WITH owner AS MATERIALIZED (
    SELECT subject, subject AS whose FROM unnest(%(subjects)s::uuid[]) AS s (subject) UNION SELECT o.reference, o.subject FROM (
        SELECT DISTINCT ON (r.reference) r.reference, r.subject FROM read.references r
         WHERE r.reference IN (SELECT c.reference FROM read.references c WHERE c.subject = ANY(%(subjects)s)) AND r.known_to IS NULL
         ORDER BY r.reference, r.occurred_at, r.source, r.source_id) o
     WHERE o.subject = ANY(%(subjects)s)
)
SELECT p.position, p.recorded_at, p.occurred_at, p.source, p.source_id, p.body, p.patches, o.whose
  FROM owner o JOIN read.profile_updates p ON p.subject = o.subject AND p.known_to IS NULL
"""


class Profiles:
    """Answers what is known of a person."""

    def __init__(self, pool: AsyncConnectionPool[Any], histories: Histories) -> None:
        self._pool = pool
        self._histories = histories

    async def of(self, person: Person, *, as_of: datetime | None = None) -> Profile:
        """The profile of a person that was resolved at *as_of* and its own `known_at`.

        Raises:
            Behind: the profiles have not yet seen that position.
        """
        await self._histories.moments.wait_until(person.known_at, models=("profiles",))
        async with self._pool.connection() as conn:
            curs = conn.cursor(binary=True)
            await curs.execute(
                _AT,
                {
                    "subjects": [UUID(s["subject"]) for s in person.subjects],
                    "known_at": person.known_at,
                    "as_of": as_of,
                },
                prepare=True,
            )
            rows = await curs.fetchall()
        updates, erased = await self._opened(rows)
        return Profile(traits=shown_traits(folded_profile(updates)), updates=len(rows), erased_updates=erased)

    async def now(
        self, subjects: Sequence[UUID], *, with_owned: bool = False
    ) -> dict[UUID, list[ProfileUpdate]]:
        """The updates of each subject as known now, unsealed; those that were erased are left out.

        Args:
            with_owned: also those of the orders and cases that belong to each.
        """
        async with self._pool.connection() as conn:
            curs = conn.cursor(binary=True)
            await curs.execute(
                _NOW_WITH_OWNED if with_owned else _NOW, {"subjects": list(subjects)}, prepare=True
            )
            rows = await curs.fetchall()
        found: dict[UUID, list[ProfileUpdate]] = {}
        opened, _ = await self._opened(rows)
        of_position = {row[0]: row[7] for row in rows}
        for update in opened:
            found.setdefault(of_position[update.position], []).append(update)
        return found

    async def _opened(self, rows: Sequence[Any]) -> tuple[list[ProfileUpdate], int]:
        """(updates that can be read, how many cannot) of rows as `Entries.of` takes them."""
        entries = await self._histories.entries.of(rows)
        updates = []
        erased = 0
        for entry in entries:
            traits = entry["data"].get("traits")
            if isinstance(traits, dict):
                updates.append(_update(entry, traits))
            elif entry["data"].get("erased"):
                erased += 1
        return updates, erased


def _update(entry: Mapping[str, Any], traits: Mapping[str, Any]) -> ProfileUpdate:
    return ProfileUpdate(
        position=entry["position"],
        event_id=entry["event_id"],
        source=entry["provenance"]["source"],
        source_id=entry["provenance"]["source_id"],
        occurred_at=datetime.fromisoformat(entry["occurred_at"]),
        recorded_at=datetime.fromisoformat(entry["recorded_at"]),
        traits=traits,
    )


def shown_traits(traits: Mapping[str, Trait]) -> dict[str, ShownTrait]:
    """Traits as answers hold them."""
    return {
        name: ShownTrait(
            value=trait.value,
            position=trait.position,
            event_id=trait.event_id,
            source=trait.source,
            source_id=trait.source_id,
            occurred_at=moment(trait.occurred_at),
            recorded_at=moment(trait.recorded_at),
        )
        for name, trait in traits.items()
    }


def traits_of(updates: Iterable[ProfileUpdate]) -> dict[str, Any]:
    """The values alone of the profile that follows from *updates*."""
    return {name: trait.value for name, trait in folded_profile(updates).items()}
