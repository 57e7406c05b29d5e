"""Spans between steps, summarised; the same figures by whatever way the spans were found."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise

import msgspec

__all__ = ["Bar", "Times", "summary"]


class Bar(msgspec.Struct, frozen=True):
    """Spans in [from_s, to_s); of the last bar also `to_s` itself."""

    from_s: int
    to_s: int
    count: int


class Times(msgspec.Struct, frozen=True):
    """Average, median, 90th percentile (nearest rank) and histogram of spans, in seconds; null of none."""

    avg_s: float | None
    median_s: float | None
    p90_s: float | None
    histogram: list[Bar]


def _seconds(us: float) -> float:
    return round(us / 1_000_000, 6)


def summary(ordered_us: Sequence[int], total_us: int) -> Times:
    """Summarise spans given in ascending order, in microseconds, with their sum.

    The histogram has ⌈∛n⌉ bars, at most 60, of whole seconds, and begins at the smallest span; equal spans make
    one bar of a minute (as PostHog does).
    """
    n = len(ordered_us)
    if not n:
        return Times(None, None, None, [])
    low, high = int(ordered_us[0]), int(ordered_us[-1])
    median = (int(ordered_us[(n - 1) // 2]) + int(ordered_us[n // 2])) / 2
    p90 = int(ordered_us[-(-n * 9 // 10) - 1])
    bars = next(b for b in range(1, 61) if b**3 >= n or b == 60)
    begin = low // 1_000_000
    span = -(-high // 1_000_000) - begin
    width = -(-span // bars) if span else 60
    edges = [begin + i * width for i in range(bars + 1)] if span else [begin, begin + 60]
    below = [bisect_left(ordered_us, edge * 1_000_000) for edge in edges[:-1]] + [n]
    histogram = [Bar(a, b, below[i + 1] - below[i]) for i, (a, b) in enumerate(pairwise(edges))]
    return Times(_seconds(total_us / n), _seconds(median), _seconds(p90), histogram)
