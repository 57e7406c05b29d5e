"""Chains tell of a plain funnel what the kernel of all modes tells, group by group, period by period, value by value."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.columns.kernel import Attempts, Plan, run, run_by_value
from adapters.columns.sorting import split

NOTHING = np.empty((0, 3), np.int64)


def streams(random: np.random.Generator, groups: int, longest: int, steps: int) -> Any:
    """(begins, times, the one step of each event, values): few instants, so that windows end and instants are shared."""
    sizes = random.integers(1, longest, groups)
    starts = np.append(0, np.cumsum(sizes)).astype(np.int64)
    n = int(starts[-1])
    at = random.integers(0, 30, n)
    group = np.repeat(np.arange(groups), sizes)
    bits = np.uint32(1) << random.integers(0, steps, n).astype(np.uint32)
    order = np.lexsort((bits, at, group))
    return starts, at[order].astype(np.int64), bits[order], random.integers(-1, 40, n).astype(np.int32)


def told(found: Attempts, *more: Any) -> list[Any]:
    rows = zip(
        *(a.tolist() for a in (found.group, found.period, found.reached, found.places, *more)), strict=True
    )
    return sorted(rows)


@given(
    seed=st.integers(0, 10_000),
    steps=st.integers(2, 5),
    longest=st.sampled_from([2, 8, 40]),
    window=st.integers(1, 25),
    first=st.booleans(),
    within=st.lists(st.sampled_from([-1, -1, 3, 8]), min_size=5, max_size=5),
    edges=st.lists(st.integers(0, 31), min_size=2, max_size=5, unique=True).map(sorted),
)
@settings(max_examples=300, deadline=None)
def test_chains_tell_what_the_kernel_of_all_modes_tells(
    seed: int, steps: int, longest: int, window: int, first: bool, within: list[int], edges: list[int]
) -> None:
    starts, at, bits, codes = streams(np.random.default_rng(seed), 12, longest, steps)
    plan = Plan(steps, window, np.array([-1, *within[1:steps]], np.int64), 0, first, False, NOTHING)
    at_edges, none = np.array(edges, np.int64), np.zeros(len(at), np.uint32)

    chained = run(plan, starts, at, bits, none, at_edges, overlap=False)
    by_value, code = run_by_value(plan, starts, at, bits, at_edges, codes, 40)

    assert told(chained) == told(run(plan, starts, at, bits, none, at_edges))
    order, begins, group = split(starts, codes, 40)
    parts = run(plan, begins, at[order], bits[order], none, at_edges)
    whole = parts._replace(
        group=group[parts.group], places=np.where(parts.places < 0, -1, order[parts.places])
    )
    assert told(by_value, code) == told(whole, codes[order][begins[parts.group]])


@pytest.mark.parametrize("values", [3, 40])
def test_two_threads_find_the_chains_that_one_finds(values: int) -> None:
    starts, at, bits, codes = streams(np.random.default_rng(5), 3000, 9, 3)
    plan = Plan(3, 9, np.full(3, -1, np.int64), 0, False, False, NOTHING)
    edges = np.array([0, 10, 31], np.int64)
    few = np.minimum(codes, np.int32(values - 1))

    with ThreadPoolExecutor(2) as threads:
        found, code = run_by_value(plan, starts, at, bits, edges, few, values, threads)

    alone, alone_code = run_by_value(plan, starts, at, bits, edges, few, values)
    assert told(found, code) == told(alone, alone_code)
