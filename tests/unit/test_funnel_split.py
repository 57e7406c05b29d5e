"""Events of units are split by a value as plain sorting splits them, few values or many, alone or in halves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from adapters.columns.sorting import split


@pytest.mark.parametrize("values", [0, 1, 6, 64, 65, 3000])
@pytest.mark.parametrize("longest", [5, 200])
@pytest.mark.parametrize("groups", [0, 1, 1500])
def test_each_part_is_one_group_and_one_value_in_order(values: int, longest: int, groups: int) -> None:
    random = np.random.default_rng(values + longest)
    sizes = random.integers(1, longest, groups)
    starts = np.append(0, np.cumsum(sizes)).astype(np.int64)
    codes = random.integers(-1, max(values, 0), int(starts[-1])).astype(np.int32)
    group = np.repeat(np.arange(groups), sizes)
    expected = np.lexsort((codes, group))
    pairs = np.stack([group, codes])[:, expected]
    begins = np.flatnonzero(np.insert((np.diff(pairs) != 0).any(axis=0), 0, np.True_))[: len(codes)]

    with ThreadPoolExecutor(2) as threads:
        for helpers in (None, threads):
            order, found, owner = split(starts, codes, values, helpers)

            assert order.tolist() == expected.tolist()
            assert found.tolist() == [*begins.tolist(), len(codes)]
            assert owner.tolist() == group[expected][begins].tolist()
