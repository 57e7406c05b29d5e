"""How a retention is told: cohorts down, intervals across."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Cell", "Cohort", "Rest", "Retained", "Total", "Value"]


class Cell(msgspec.Struct, frozen=True):
    """Units that count in one interval, of how many; `open`: the interval is not over for all of them.

    The share is null where nothing is divided by nothing.
    """

    count: int
    of: int
    share: float | None
    open: bool = False


class Cohort(msgspec.Struct, frozen=True):
    """Those that started in one calendar interval; `intervals` are those that have begun, from 0 on."""

    cohort: str
    size: int
    intervals: list[Cell]


class Total(msgspec.Struct, frozen=True):
    """All cohorts together; each interval over only those cohorts for which it is over."""

    size: int
    intervals: list[Cell]


class Value(msgspec.Struct, frozen=True):
    """The same for one value of the breakdown; null: the property is absent."""

    value: Any
    size: int
    intervals: list[Cell]


class Rest(msgspec.Struct, frozen=True):
    """The values of a breakdown beyond the fifty most frequent, together."""

    values: int
    size: int
    intervals: list[Cell]


class Retained(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer; asked again with its `as_of` and `known_at`, it is the same, byte for byte."""

    interval: str
    mode: str
    cohorts: list[Cohort]
    total: Total
    notes: list[str]
    as_of: str | None
    known_at: int
    head: int
    breakdown: list[Value] | None = None
    breakdown_rest: Rest | None = None

    def __post_init__(self) -> None:
        assert self.known_at == self.head, "`head` is the position that `known_at` resolved to"
