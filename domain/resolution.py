"""Who is who: persons as sets of linked subjects, resolved from evidence, merges and splits (SEMANTICS §2).

Persons are never stored as truth: they are computed, and arrival order cannot matter.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from datetime import datetime
from typing import Generic, Literal, TypeVar

import msgspec

from domain.errors import Invalid
from domain.identity import kind_of

__all__ = ["Link", "Merge", "Order", "Persons", "RefusedLink", "Split", "order_of", "persons", "split_sides"]

S = TypeVar("S", bound=Hashable)

Order = tuple[datetime, str, str, int]
"""The place of a link or merge among all: (earliest time of its evidence, source, source id, place in the event)."""


class Link(msgspec.Struct, Generic[S], frozen=True, gc=False):
    """Evidence that two subjects are one person: an event named both, or a command said so."""

    a: S
    b: S
    occurred_at: datetime
    source: str
    source_id: str
    place: int = 0  # within the event: an event that names n subjects states n - 1 links
    position: int = 0  # in the log


class Merge(msgspec.Struct, Generic[S], frozen=True, gc=False):
    """Somebody's decision that the persons of two subjects are one, in spite of the guards."""

    a: S
    b: S
    occurred_at: datetime
    source: str
    source_id: str
    event_id: Hashable
    position: int = 0


class Split(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """Somebody's decision that one person is two: it undoes a merge, or keeps a subject from others.

    It acts on what is known: once recorded, at every `as_of`.
    """

    position: int = 0
    merge: Hashable = None  # the event id of the merge that was never in force
    subject: S | None = None
    person_side: frozenset[S] = frozenset()  # those whom evidence never again brings together with *subject*


class RefusedLink(msgspec.Struct, Generic[S], frozen=True):
    """A link or merge that was not followed, and why."""

    evidence: Link[S] | Merge[S]
    reason: Literal["limit", "split"]
    kind: str = ""  # whose limit
    namespace: str = ""
    limit: int = 0
    would_be: int = 0  # values of that kind in one person


class Persons(msgspec.Struct, Generic[S], frozen=True):
    """What a resolution found."""

    members: tuple[frozenset[S], ...]  # in the order in which their first subjects were given
    refused: tuple[RefusedLink[S], ...]  # in the order in which they were looked at
    index: dict[S, int]  # subject -> place in *members*
    joining: tuple[Link[S] | Merge[S], ...]  # those that joined two groups into one, in that order

    def of(self, subject: S) -> frozenset[S]:
        """All subjects of the person whom *subject* names."""
        return self.members[self.index[subject]]


def persons(
    subjects: Mapping[S, tuple[str, str]],
    links: Iterable[Link[S]],
    *,
    merges: Iterable[Merge[S]] = (),
    splits: Collection[Split[S]] = (),
    as_of: datetime | None = None,
    known_at: int | None = None,
    limits: Mapping[str, int] | None = None,
    joined: Iterable[Collection[S]] = (),
) -> Persons[S]:
    """Resolve *subjects* (each with its kind and namespace) to persons.

    Links and merges are followed in the order of (earliest time of their evidence, source, source id,
    place), whatever the order in which they are given, and never by surrogate. A link is refused where
    it would give a person more values of a kind than its limit, counting only kinds of which both sides
    hold one, or where a split forbids it. References (order, case) join nobody.

    Args:
        links: evidence, in any order, several for one pair if so; without what was retracted.
        as_of: evidence and merges after this time have not happened yet (splits are not asked).
        known_at: what stands at a later position is not known yet.
        limits: values per kind that differ from `KINDS`.
        joined: groups that were resolved before, where a resolution is continued: everything that is given now
            must come behind the last step that joined any of them.
    """
    group = _Grouping(subjects, limits or {}, _known(splits, known_at))
    undone = {split.merge for split in splits if split.merge is not None and _seen(split, known_at)}
    for members in joined:
        group.begin_with(members)
    earliest: dict[tuple[int, int], Link[S]] = {}
    for link in links:
        if (as_of is not None and link.occurred_at > as_of) or not _seen(link, known_at) or link.a == link.b:
            continue
        pair = group.pair(link.a, link.b)
        before = earliest.get(pair)
        if before is None or order_of(link) < order_of(before):
            earliest[pair] = link
    steps: list[Link[S] | Merge[S]] = [*earliest.values()]
    steps += (
        m
        for m in merges
        if m.event_id not in undone and _seen(m, known_at) and (as_of is None or m.occurred_at <= as_of)
    )
    steps.sort(key=order_of)
    refused: list[RefusedLink[S]] = []
    joining: list[Link[S] | Merge[S]] = []
    for step in steps:
        outcome = group.follow(step)
        if outcome is True:
            joining.append(step)
        elif outcome is not None:
            refused.append(outcome)
    return group.persons(tuple(refused), tuple(joining))


def split_sides(
    person: S,
    subject: S,
    subjects: Mapping[S, tuple[str, str]],
    links: Iterable[Link[S]],
    *,
    merges: Iterable[Merge[S]] = (),
    splits: Collection[Split[S]] = (),
) -> tuple[frozenset[S], frozenset[S]]:
    """The two sides that a split of *subject* from its person stores: (of *person*, of *subject*).

    The person's side is what evidence and merges that do not touch *subject* keep together with *person*;
    what hung on *subject* alone goes with it.

    Raises:
        Invalid: where the two are not one person, or are one and the same subject.
    """
    links, merges = list(links), list(merges)
    whole = persons(subjects, links, merges=merges, splits=splits).of(subject)
    if person not in whole:
        raise Invalid("There is nothing to split: the subject does not belong to this person.")
    if person == subject:
        raise Invalid("A subject cannot be split from itself; name the person by another of its identifiers.")
    without = persons(
        {s: subjects[s] for s in subjects if s in whole},
        [link for link in links if subject not in (link.a, link.b) and link.a in whole and link.b in whole],
        merges=[m for m in merges if subject not in (m.a, m.b) and m.a in whole and m.b in whole],
        splits=splits,
    )
    side = without.of(person)
    return side, whole - side


def order_of(step: Link[S] | Merge[S]) -> Order:
    """In which order links and merges are followed."""
    return step.occurred_at, step.source, step.source_id, step.place if isinstance(step, Link) else 0


def _seen(fact: Link[S] | Merge[S] | Split[S], known_at: int | None) -> bool:
    return known_at is None or fact.position <= known_at


def _known(splits: Iterable[Split[S]], known_at: int | None) -> list[Split[S]]:
    return [split for split in splits if split.subject is not None and _seen(split, known_at)]


_SUBJECT_SIDE, _PERSON_SIDE, _BOTH = 1, 2, 3


class _Grouping(Generic[S]):
    """A union-find whose groups know how many values of each kind they hold, and which splits bind them."""

    def __init__(
        self, subjects: Mapping[S, tuple[str, str]], limits: Mapping[str, int], splits: list[Split[S]]
    ) -> None:
        self._subjects = list(subjects)
        self._number = {subject: n for n, subject in enumerate(self._subjects)}
        self._parent = list(range(len(self._subjects)))
        self._size = [1] * len(self._subjects)
        self._kinds = list(subjects.values())
        self._counts: list[dict[tuple[str, str], int] | None] = [None] * len(self._subjects)
        self._limits = limits
        self._splits = splits
        self._sides: dict[int, dict[int, int]] = {}  # group -> split -> sides of it that the group holds
        for number, split in enumerate(splits):
            for subject in split.person_side:
                self._mark(subject, number, _PERSON_SIDE)
            if split.subject is not None:
                self._mark(split.subject, number, _SUBJECT_SIDE)

    def _mark(self, subject: S, split: int, side: int) -> None:
        n = self._number.get(subject)
        if n is not None:
            self._sides.setdefault(n, {})[split] = side

    def pair(self, a: S, b: S) -> tuple[int, int]:
        """One key for a link, whichever side is named first."""
        x, y = self._number[a], self._number[b]
        return (x, y) if x < y else (y, x)

    def begin_with(self, members: Collection[S]) -> None:
        """Take *members* as one group, whatever joined them."""
        first, *others = (self._number[s] for s in members)
        for other in others:
            x, y = self._root(first), self._root(other)
            if x != y:
                self._join(x, y)

    def follow(self, step: Link[S] | Merge[S]) -> RefusedLink[S] | Literal[True] | None:
        """Join the groups of a link or merge (True), or say why not; None where there is nothing to do."""
        x, y = self._root(self._number[step.a]), self._root(self._number[step.b])
        if x == y:
            return None
        merge = isinstance(step, Merge)
        if self._sides and self._kept_apart(x, y, step.position if merge else None):
            return RefusedLink(step, "split")
        if not merge:
            if kind_of(self._kinds[self._number[step.a]][0]).reference:
                return None
            if kind_of(self._kinds[self._number[step.b]][0]).reference:
                return None
            refused = self._over_limit(x, y, step)
            if refused is not None:
                return refused
        self._join(x, y)
        return True

    def _root(self, n: int) -> int:
        parent = self._parent
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    def _counted(self, group: int) -> dict[tuple[str, str], int]:
        counts = self._counts[group]
        if counts is None:
            counts = self._counts[group] = {self._kinds[group]: 1}
        return counts

    def _limit(self, kind: str) -> int:
        return self._limits.get(kind, kind_of(kind).limit)

    def _over_limit(self, x: int, y: int, step: Link[S] | Merge[S]) -> RefusedLink[S] | None:
        few, many = self._counted(x), self._counted(y)
        if len(few) > len(many):
            few, many = many, few
        over = [k for k, n in few.items() if k in many and n + many[k] > self._limit(k[0])]
        if not over:
            return None
        kind, namespace = worst = min(over, key=lambda k: (kind_of(k[0]).priority, k))
        would_be = few[worst] + many[worst]
        return RefusedLink(step, "limit", kind, namespace, self._limit(kind), would_be)

    def _kept_apart(self, x: int, y: int, merged_at: int | None) -> bool:
        """Whether a split forbids the two groups to join; a merge recorded after the split may."""
        few, many = self._sides.get(x, {}), self._sides.get(y, {})
        if len(few) > len(many):
            few, many = many, few
        for number, side in few.items():
            other = many.get(number, 0)
            # A group that holds both sides was joined by a later merge, which lifted the split.
            newly = side | other == _BOTH and _BOTH not in (side, other)
            if newly and (merged_at is None or merged_at <= self._splits[number].position):
                return True
        return False

    def _join(self, x: int, y: int) -> None:
        if self._size[x] < self._size[y]:
            x, y = y, x
        self._parent[y] = x
        self._size[x] += self._size[y]
        few, many = self._counted(x), self._counted(y)
        if len(few) > len(many):
            few, many = many, few
        for key, n in few.items():
            many[key] = many.get(key, 0) + n
        self._counts[x], self._counts[y] = many, None
        if self._sides and (sides := self._sides.pop(y, None)):
            mine = self._sides.setdefault(x, {})
            for number, side in sides.items():
                mine[number] = mine.get(number, 0) | side

    def persons(
        self, refused: tuple[RefusedLink[S], ...], joining: tuple[Link[S] | Merge[S], ...]
    ) -> Persons[S]:
        """The groups as they stand."""
        places: dict[int, int] = {}
        members: list[list[S]] = []
        index: dict[S, int] = {}
        for n, subject in enumerate(self._subjects):
            root = self._root(n)
            place = places.setdefault(root, len(members))
            if place == len(members):
                members.append([])
            members[place].append(subject)
            index[subject] = place
        return Persons(tuple(frozenset(m) for m in members), refused, index, joining)
