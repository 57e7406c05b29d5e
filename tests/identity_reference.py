"""Who is one person, worked out in the plainest way: what the read model and every question about it are held against.

Written from SEMANTICS §2 alone; it shares nothing with domain/resolution.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

LIMITS = {"user": 1, "crm": 1, "anonymous": 100}


@dataclass
class Named:
    """An event that names several subjects, as recorded at a position."""

    position: int
    subjects: list[str]
    time: datetime
    source: str
    id: str
    times: list[tuple[int, datetime]] = field(default_factory=list)  # (position, time) of what corrected it
    gone_at: int | None = None  # position of the retraction of its import


@dataclass
class Joined:
    """A merge."""

    position: int
    a: str
    b: str
    time: datetime
    source: str
    id: str
    undone_at: int | None = None


@dataclass
class Parted:
    """A split of a subject from its person."""

    position: int
    subject: str
    others: frozenset[str]


@dataclass
class Reference:
    """Everything that was recorded."""

    kinds: dict[str, str] = field(default_factory=dict)
    events: list[Named] = field(default_factory=list)
    merges: list[Joined] = field(default_factory=list)
    splits: list[Parted] = field(default_factory=list)

    def persons(self, known_at: int | None = None, as_of: datetime | None = None) -> set[frozenset[str]]:
        """Who is one person at one moment of both axes."""
        known_at = 10**9 if known_at is None else known_at
        steps: list[tuple[datetime, str, str, int, str, str, int | None]] = []
        for event in self.events:
            if event.position > known_at or (event.gone_at is not None and event.gone_at <= known_at):
                continue
            time = event.time
            for position, corrected in event.times:
                if position <= known_at:
                    time = corrected
            first, *others = event.subjects
            steps += [
                (time, event.source, event.id, n, first, other, None) for n, other in enumerate(others, 1)
            ]
        for merge in self.merges:
            if merge.position <= known_at and (merge.undone_at is None or merge.undone_at > known_at):
                steps.append((merge.time, merge.source, merge.id, 0, merge.a, merge.b, merge.position))
        splits = [s for s in self.splits if s.position <= known_at]
        groups = [{subject} for subject in self.kinds]
        lifted: set[int] = set()
        for time, _, _, _, a, b, merged_at in sorted(steps):
            if as_of is not None and time > as_of:
                continue
            one = next(g for g in groups if a in g)
            other = next(g for g in groups if b in g)
            if one is other:
                continue
            apart = [s for s in splits if s.position not in lifted and self._brings(s, one, other)]
            if merged_at is None:
                if apart or self._too_many(one, other):
                    continue
            elif any(s.position >= merged_at for s in apart):
                continue
            lifted |= {s.position for s in apart}
            one |= other
            groups.remove(other)
        return {frozenset(g) for g in groups}

    @staticmethod
    def _brings(split: Parted, one: set[str], other: set[str]) -> bool:
        return (split.subject in one and bool(split.others & other)) or (
            split.subject in other and bool(split.others & one)
        )

    def _too_many(self, one: set[str], other: set[str]) -> bool:
        for kind in set(self.kinds.values()):
            here = sum(self.kinds[s] == kind for s in one)
            there = sum(self.kinds[s] == kind for s in other)
            if here and there and here + there > LIMITS.get(kind, 5):
                return True
        return False
