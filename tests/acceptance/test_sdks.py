"""The clients of others, unmodified, while serve and its HTTP process are killed; the long trial is `bin/soak sdks`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bin.soaks.sdks import CLIENTS, counted, run_sdks
from tests.acceptance.test_kill import free_port


def test_every_call_of_every_client_is_in_the_log_once_although_serve_is_killed(tmp_path: Path) -> None:
    found = run_sdks(tmp_path, clients=list(CLIENTS), calls=60, seconds=3, kills=2, port=free_port())

    assert found.kills == ["http", "serve"], found
    assert found.broken == [], found
    assert {one.client for one in found.clients} | found.not_run.keys() == set(CLIENTS)
    assert all(one.events == one.calls for one in found.clients), found
    if found.not_run:
        pytest.skip(f"the others passed; not run: {found.not_run}")


@pytest.mark.parametrize(
    ("numbers", "others", "missing", "doubled", "unknown"),
    [
        ([0, 1, 2], 5, 0, 0, 0),
        ([0, 2], 5, 1, 0, 0),
        ([0, 1, 1, 2], 5, 0, 1, 0),
        ([0, 1, 2, 3], 5, 0, 0, 1),
        ([0, 1, 2], 4, 1, 0, 0),
        ([0, 1, 2], 6, 0, 0, 1),
    ],
)
def test_what_is_missing_doubled_or_unknown_is_told(
    numbers: list[int], others: int, missing: int, doubled: int, unknown: int
) -> None:
    events: list[dict[str, Any]] = [{"data": {"properties": {"n": n}}} for n in numbers]
    events += [{"data": {"traits": {}}}] * others

    told = counted(CLIENTS["segment_python"], 3, events)

    assert (told.missing, told.doubled, told.unknown) == (missing, doubled, unknown)
