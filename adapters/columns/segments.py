"""Segments over columns: every spell of every person, from which counts, lists and whose events are looked at follow."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from adapters.columns.kernel import NEVER
from adapters.columns.spells import Spells, spells_of
from adapters.columns.view import Owners, View
from domain.entry import moment
from domain.errors import Invalid, Problem
from domain.funnels.answer import MOST_PERIODS, periods
from domain.funnels.question import Trend
from domain.segments.answer import Answer, Member, Period
from domain.segments.question import Scope, Segment

__all__ = ["STATES", "Found", "ask_segment", "found_in", "instant", "members_of", "narrowed"]

State = Literal["member", "left", "ever"]
STATES: tuple[str, ...] = get_args(State)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Found(NamedTuple):
    """Spells of persons: `person` by their place in `names`."""

    spells: Spells
    person: NDArray[np.int64]
    names: Sequence[str]


def found_in(
    segment: Segment, view: View, owners: Owners, until_us: int, threads: Executor | None = None
) -> Found:
    """Every spell of every person, as of *until_us*."""
    stream = view.stream(segment.looked_at, owners, threads)
    spells = spells_of(segment, stream.starts, stream.at, stream.steps, until_us, threads)
    return Found(spells, stream.unit[spells.group], stream.names)


def _persons(scope: Scope, found: Found) -> NDArray[np.int64]:
    """The persons of a scope."""
    spells = found.spells
    if not scope.cohort:
        return np.unique(found.person[spells.left == NEVER])
    begin = -NEVER if scope.from_us is None else scope.from_us
    end = NEVER if scope.to_us is None else scope.to_us
    return np.unique(found.person[(spells.entered >= begin) & (spells.entered < end)])


def narrowed(
    scope: Scope, view: View, owners: Owners, until_us: int, threads: Executor | None = None
) -> tuple[Owners, int]:
    """(*owners* that give events to persons of the scope only, how many these are)."""
    found = found_in(scope.segment, view, owners, until_us, threads)
    persons = {found.names[p] for p in _persons(scope, found).tolist()}

    def owned(values: Sequence[str]) -> tuple[NDArray[np.int32], list[str]]:
        codes, names = owners(values)
        mine = np.array([*(name in persons for name in names), False], np.bool_)
        return np.where(mine[codes], codes, np.int32(-1)), names

    return owned, len(persons)


def instant(us: int) -> str:
    """An instant in µs as answers tell it."""
    return moment(_EPOCH + timedelta(microseconds=us))


def ask_segment(
    segment: Segment,
    view: View,
    owners: Owners,
    *,
    until_us: int,
    from_us: int | None,
    to_us: int | None,
    trend: Trend | None,
    zone: ZoneInfo,
    as_of: str | None,
    name: str | None = None,
    version: int | None = None,
    threads: Executor | None = None,
) -> Answer:
    """Answer how many belong to a segment, and how they came and went.

    Raises:
        Invalid: the trend has too many intervals.
    """
    found = found_in(segment, view, owners, until_us, threads)
    spells = found.spells
    begin = -NEVER if from_us is None else from_us
    end = NEVER if to_us is None else to_us
    came = spells.entered[(spells.entered >= begin) & (spells.entered < end)]
    went = spells.left[(spells.left >= begin) & (spells.left < end)]
    told = None
    if trend is not None:
        told = _trend(spells, trend, zone, begin, end, until_us)
    notes = []
    if not len(spells.group):
        notes.append(f"Nobody ever belonged to this segment by {instant(until_us)}.")
    elif not (spells.left == NEVER).any():
        last = int(spells.left.max())
        notes.append(
            f"Nobody belongs to it at {instant(until_us)}; the last left at {instant(last)}: 'as_of' asks of a time before."
        )
    return Answer(
        name=name,
        version=version,
        at=instant(until_us),
        members=int((spells.left == NEVER).sum()),
        ever=len(np.unique(found.person)),
        entered=len(came),
        left=len(went),
        notes=notes,
        as_of=as_of,
        known_at=view.known_at,
        head=view.known_at,
        trend=told,
    )


def _trend(spells: Spells, trend: Trend, zone: ZoneInfo, begin: int, end: int, until: int) -> list[Period]:
    """The intervals from the first entry, or the begin of the range, to the instant of which it is told."""
    if not len(spells.group):
        return []
    begin = max(begin, int(spells.entered.min()))
    end = min(end, until + 1)
    if begin >= end:
        return []
    edges = periods(trend, zone, begin, end)
    if edges[-1][1]:
        raise Invalid(
            [
                Problem(
                    "/trend",
                    f"More than {MOST_PERIODS:,} intervals; take longer ones, or a shorter range.",
                    "too_many",
                )
            ]
        )
    starts = np.array([begin, *(at for at, _ in edges[1:-1])], np.int64)
    ends = np.append(starts[1:], min(edges[-1][0], end))
    entered, left = np.sort(spells.entered), np.sort(spells.left[spells.left < NEVER])

    def before(times: NDArray[np.int64], edge: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(times, edge, "left").astype(np.int64)

    came, gone = before(entered, ends), before(left, ends)
    came_in, went_out = came - before(entered, starts), gone - before(left, starts)
    return [
        Period(name, edges[i + 1][0] > until, int(came_in[i]), int(went_out[i]), int(came[i] - gone[i]))
        for i, (_, name) in enumerate(edges[:-1])
    ]


def members_of(
    scope: Scope, view: View, owners: Owners, until_us: int, state: str, threads: Executor | None = None
) -> list[Member]:
    """The persons of a segment with their spells, in order of their ids.

    Args:
        state: `member`: who belongs to it, `left`: who did and does no more, `ever`: all of these; of a cohort only
            its own.
    """
    found = found_in(scope.segment, view, owners, until_us, threads)
    spells = found.spells
    still = np.unique(found.person[spells.left == NEVER])
    keep = (
        np.isin(found.person, _persons(scope, found))
        if scope.cohort
        else np.ones(len(found.person), np.bool_)
    )
    if state != "ever":
        keep &= np.isin(found.person, still, invert=state == "left")
    told: dict[int, list[dict[str, str | None]]] = {}
    for i in np.flatnonzero(keep).tolist():
        left = int(spells.left[i])
        spell = {"entered": instant(int(spells.entered[i])), "left": None if left == NEVER else instant(left)}
        told.setdefault(int(found.person[i]), []).append(spell)
    return sorted((Member(found.names[p], s) for p, s in told.items()), key=lambda m: m.person)
