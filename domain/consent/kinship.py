"""Which subjects are one person as consent asks it, and whom a restriction binds (SEMANTICS §§2, 5).

Links count by knowledge alone, whatever their time; only whether a grant lifts another subject's restriction
asks who was one person when the grant took effect. Where persons that were one are parted (a split, a link
taken back), restrictions recorded before keep binding both sides until an officer's review.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from domain.consent.facts import Fact
from domain.resolution import Link, Merge, Split, persons

__all__ = ["Kin", "Tie"]


class Tie(msgspec.Struct, frozen=True, gc=False):
    """Evidence of a link, or a merge, with the positions between which it is known; `known_to` null: it still is."""

    by: Link[UUID] | Merge[UUID]
    known_from: int
    known_to: int | None = None


class Kin:
    """The persons of some subjects, at any knowledge.

    Args:
        kinds: (kind, namespace) of every subject that is named.
        ties: all evidence and merges about them, also what was taken back or undone since.
        splits: of subjects from their persons.
        owners: whose a reference is: (reference, subject, known from, known to), the earliest told first.
        told_under: references that facts name as their subject.
    """

    def __init__(
        self,
        kinds: Mapping[UUID, tuple[str, str]],
        ties: Sequence[Tie] = (),
        *,
        splits: Sequence[Split[UUID]] = (),
        owners: Sequence[tuple[UUID, UUID, int, int | None]] = (),
        told_under: Collection[UUID] = (),
    ) -> None:
        self._kinds = kinds
        self._ties = ties
        self._splits = splits
        self._owners: dict[UUID, list[tuple[UUID, int, int | None]]] = {}
        for reference, subject, known_from, known_to in owners:
            self._owners.setdefault(reference, []).append((subject, known_from, known_to))
        self._told_under = [reference for reference in self._owners if reference in told_under]
        self._partings = sorted(
            {tie.known_to for tie in ties if tie.known_to is not None} | {s.position for s in splits}
        )
        self.changes = sorted(
            {tie.known_from for tie in ties}
            | {p for _, _, a, b in owners for p in (a, b) if p is not None}
            | set(self._partings)
        )
        self._found: dict[tuple[int, datetime | None], Mapping[UUID, frozenset[UUID]]] = {}

    def person(self, subject: UUID, known_at: int, as_of: datetime | None = None) -> frozenset[UUID]:
        """All subjects of the person whom *subject* names, and references under which something was told; of a reference the same of the person it belongs to."""
        owner = self._owner(subject, known_at)
        if owner is not None:
            return self.person(owner, known_at, as_of) | {subject}
        found = self._linked(subject, known_at, as_of)
        if not self._told_under:
            return found
        return found.union(ref for ref in self._told_under if self._owner(ref, known_at) in found)

    def _owner(self, reference: UUID, known_at: int) -> UUID | None:
        for owner, known_from, known_to in self._owners.get(reference, ()):
            if known_from <= known_at and (known_to is None or known_to > known_at):
                return owner
        return None

    def _linked(self, subject: UUID, known_at: int, as_of: datetime | None) -> frozenset[UUID]:
        if not self._ties:
            return frozenset((subject,))
        place = bisect_right(self.changes, known_at)
        found = self._found.get((place, as_of))
        if found is None:
            found = self._found[place, as_of] = self._resolved(known_at, as_of)
        return found.get(subject) or frozenset((subject,))

    def _resolved(self, known_at: int, as_of: datetime | None) -> Mapping[UUID, frozenset[UUID]]:
        known = [
            t.by
            for t in self._ties
            if t.known_from <= known_at and (t.known_to is None or t.known_to > known_at)
        ]
        found = persons(
            {s: self._kinds.get(s, ("", "")) for one in known for s in (one.a, one.b)},
            [one for one in known if isinstance(one, Link)],
            merges=[one for one in known if isinstance(one, Merge)],
            splits=[s for s in self._splits if s.position <= known_at],
            as_of=as_of,
        )
        return {subject: members for members in found.members for subject in members}

    def bound(self, restriction: Fact, reviews: Iterable[Fact], known_at: int) -> frozenset[UUID]:
        """Subjects by whom a restriction is held to its persons: its own, or those a review names.

        At every parting that is known the restriction keeps all whom it bound just before, until a review.
        The persons of these subjects at *known_at* are those whom it binds.
        """
        steps: list[tuple[int, tuple[UUID, ...] | None]] = [
            (position, None) for position in self._partings if restriction.known_from < position <= known_at
        ]
        steps += [(review.known_from, review.reviewed) for review in reviews]
        held = frozenset(() if restriction.subject is None else (restriction.subject,))
        for position, reviewed in sorted(steps, key=lambda step: step[0]):
            if reviewed is not None:
                held = frozenset(reviewed)
            else:
                before = held.union(*(self.person(subject, position - 1) for subject in held))
                after = held.union(*(self.person(subject, position) for subject in held))
                if not before <= after:
                    held = before
        return held

    @staticmethod
    def owners_of(restriction: Fact, reviews: Sequence[Fact]) -> frozenset[UUID]:
        """Whose a restriction is: its own subject's, or theirs whom the last review names."""
        if reviews and reviews[-1].reviewed is not None:
            return frozenset(reviews[-1].reviewed)
        return frozenset(() if restriction.subject is None else (restriction.subject,))
