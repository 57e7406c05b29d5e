"""Why an answer has changed: the same question at moments between the two, each of which adds one kind of entry.

Begun is with what was known then. Added, in this order: touchpoints that happened after that moment (`new_events`),
touchpoints that had happened by then and were recorded later (`late_events`), both as they were first recorded;
then what corrections and retractions made of all events (`corrections`); then who is who, and whose an order or case
is, as known now (`identity`). Each part is the difference of the answers before and behind it, so that the parts add
up to the whole; what two kinds do only together counts for the later of the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np

from adapters.columns.chunk import Chunk, Ints
from adapters.columns.funnels import Found, attempts_of, told
from adapters.columns.kernel import NEVER
from adapters.columns.rows import REFERENCE
from adapters.columns.view import Owners, View
from domain.funnels.answer import Answer
from domain.funnels.question import Funnel

__all__ = ["PARTS", "Part", "Why", "concerned", "why_changed"]

PARTS = ("new_events", "late_events", "corrections", "identity")
Outcomes = dict[Any, list[tuple[int, ...]]]
"""Of each unit its counted attempts, by the positions of their events."""


class Part(NamedTuple):
    """The answer behind one kind of entry, whose attempts it changed, and the entries that did it.

    `owners` are those concerned of the subjects and references: only of `identity`, whose entries stand in its read
    model.
    """

    answer: Answer
    units: int
    positions: list[int]
    owners: frozenset[str] = frozenset()


class Why(NamedTuple):
    """The answer of then, and one part after the other; that of the last is the answer of now."""

    then: Answer
    parts: dict[str, Part]


class _Between(View):
    """Events as first recorded, of those that the log took behind *since*; of those before, as they were known then.

    Args:
        until_us: unless *late*, of the later ones only those that happened behind this.
    """

    def __init__(self, whole: View, since: int, until_us: int, *, late: bool) -> None:
        super().__init__(
            whole.chunks, whole.vocabularies, known_at=whole.known_at,
            closed=whole.closed, closed_version=whole.closed_version, closed_to=whole.closed_to,
            beside=whole.beside, lanes=whole.lanes,
        )  # fmt: skip
        self._since = since
        self._until_us = until_us
        self._late = late

    def _sight(self) -> None:
        """Seen once: nobody asks the same again."""

    def _known(self, chunk: Chunk) -> tuple[Ints, Ints]:
        known_from = chunk.ints("known_from")
        ends = chunk.ends(self.closed, self.closed_version)
        if not len(ends):
            ends = np.full(chunk.rows, NEVER, np.int64)
        behind = known_from > self._since
        counts = behind & (chunk.ints("position") == known_from)
        if not self._late:
            counts &= chunk.ints("occurred_at") > self._until_us
        return (
            np.where(behind & ~counts, NEVER, known_from),
            np.where(behind | (ends > self._since), NEVER, ends),
        )


class _Asked(NamedTuple):
    """An answer, and what is behind it."""

    answer: Answer
    view: View
    found: Found
    outcomes: Outcomes


def why_changed(
    funnel: Funnel,
    then: View,
    then_owners: Owners,
    now: View,
    now_owners: Owners,
    *,
    then_us: int,
    now_us: int,
    narrow: Callable[[View, Owners], Owners] = lambda _, owners: owners,
    threads: Executor | None = None,
) -> Why:
    """Split the difference between two answers.

    Args:
        narrow: leaves a view's events to the persons of a segment; who belongs is told of each view anew.
        then_us: the moment that the report of then spoke of; what happened later is new, not late.
        now_us: when the last position that *now* knows was recorded.
    """

    def asked(view: View, owners: Owners, cut_us: int) -> _Asked:
        found = attempts_of(funnel, view, narrow(view, owners), threads)
        values = view.all_values(funnel.breakdown) if funnel.breakdown is not None else []
        answer = told(
            funnel, found, values, as_of=None, known_at=view.known_at, cut_us=cut_us, threads=threads
        )
        return _Asked(answer, view, found.whole, _outcomes(view, found.whole))

    since = then.known_at
    began = asked(then, then_owners, then_us)
    new = asked(_Between(now, since, then_us, late=False), then_owners, now_us)
    late = asked(_Between(now, since, then_us, late=True), then_owners, now_us)
    corrected = asked(now, then_owners, now_us)
    resolved = asked(now, now_owners, now_us)

    parts: dict[str, Part] = {}
    units = _changed(began.outcomes, new.outcomes)
    arrived = _recorded(new, units, lambda p, at: (p > since) & (at > then_us))
    parts["new_events"] = Part(new.answer, len(units), arrived)
    units = _changed(new.outcomes, late.outcomes)
    arrived = _recorded(late, units, lambda p, at: (p > since) & (at <= then_us))
    parts["late_events"] = Part(late.answer, len(units), arrived)
    units = _changed(late.outcomes, corrected.outcomes)
    parts["corrections"] = Part(corrected.answer, len(units), _amending(late, corrected, units, since))
    moved, whose = _moved(corrected, resolved, then_owners, now_owners)
    parts["identity"] = Part(resolved.answer, moved, [], whose)
    return Why(began.answer, parts)


def _outcomes(view: View, found: Found) -> Outcomes:
    a = found.attempts
    flat = a.places.ravel()
    positions = np.full(len(flat), -1, np.int64)
    positions[flat >= 0] = view.positions(found.stream, flat[flat >= 0])
    told_of: Outcomes = {}
    rows = positions.reshape(a.places.shape)
    for number, row in zip(found.stream.unit[a.group].tolist(), rows, strict=True):
        told_of.setdefault(found.stream.names[number], []).append(tuple(row.tolist()))
    return told_of


def _changed(before: Outcomes, after: Outcomes) -> set[Any]:
    return {
        unit
        for unit in before.keys() | after.keys()
        if sorted(before.get(unit, ())) != sorted(after.get(unit, ()))
    }


def _events_of(asked: _Asked, units: set[Any]) -> Ints:
    """The events of some units that the question looks at."""
    stream = asked.found.stream
    mine = np.array([stream.names[u] in units for u in stream.unit.tolist()], np.bool_)
    return np.flatnonzero(np.repeat(mine, np.diff(stream.starts)))


def _recorded(asked: _Asked, units: set[Any], counts: Callable[[Ints, Ints], Any]) -> list[int]:
    """The positions of those events of some units that *counts* says of (positions, times)."""
    events = _events_of(asked, units)
    position = asked.view.positions(asked.found.stream, events)
    return sorted(set(position[counts(position, asked.found.stream.at[events])].tolist()))


def _amending(before: _Asked, after: _Asked, units: set[Any], since: int) -> list[int]:
    """The positions of what corrected or took back events of some units."""
    events = _events_of(before, units)
    stream, view = before.found.stream, after.view

    def ends(chunk: Chunk) -> Ints:
        told_of = chunk.ends(view.closed, view.closed_version)
        return told_of if len(told_of) else np.full(chunk.rows, NEVER, np.int64)

    until = view.of_events(stream, events, ends)
    found = set(until[(until > since) & (until <= view.known_at)].tolist())
    events = _events_of(after, units)
    position = view.positions(after.found.stream, events)
    known_from = view.of_events(after.found.stream, events, lambda chunk: chunk.ints("known_from"))
    return sorted(found | set(known_from[(known_from > since) & (known_from != position)].tolist()))


def _moved(
    before: _Asked, after: _Asked, then_owners: Owners, now_owners: Owners
) -> tuple[int, frozenset[str]]:
    """(persons whose attempts are others since it is known who they are, the owners whose events these are)."""
    vocabulary = after.view.vocabularies.get("owner")
    if vocabulary is None:
        return 0, frozenset()
    values = list(vocabulary.values)
    persons_then, persons_now = _persons(then_owners, values), _persons(now_owners, values)
    changed = _changed(before.outcomes, after.outcomes)
    moved = {
        value
        for value, was, is_ in zip(values, persons_then, persons_now, strict=True)
        if (was in changed or is_ in changed)
        and sorted(before.outcomes.get(was, ())) != sorted(after.outcomes.get(is_, ()))
    }
    people = {p for v, p in zip(values, persons_now, strict=True) if v in moved and p is not None}
    return len(people & changed) or len(changed), frozenset(moved)


def _persons(owners: Owners, values: Sequence[str]) -> list[str | None]:
    codes, names = owners(values)
    return [names[c] if c >= 0 else None for c in codes[: len(values)].tolist()]


def concerned(
    owners: Iterable[str], then: Mapping[str, str], now: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """(the subjects of everybody to whom some owners belonged then or belong now, the references among the owners).

    Args:
        then, now: the person of each subject that is not its own.
    """
    owners = set(owners)
    references = [o.removeprefix(REFERENCE) for o in owners if o.startswith(REFERENCE)]
    subjects = {o for o in owners if not o.startswith(REFERENCE)}
    people = {p for s in subjects for p in (s, then.get(s, s), now.get(s, s))}
    members = {s for persons in (then, now) for s, p in persons.items() if p in people}
    return sorted(subjects | people | members), sorted(references)
