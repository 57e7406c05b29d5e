"""Whether the processors are short, as the kernel counts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.priority import Pressure


def counted(path: Path, waited_us: int) -> None:
    path.write_text(
        f"some avg10=21.59 avg60=31.91 avg300=38.34 total={waited_us}\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=99999999\n"
    )


@pytest.mark.parametrize(("waited_us", "is_high"), [(0, False), (700_000, False), (800_000, True)])
def test_processors_are_short_where_somebody_waited_two_fifths_of_the_time(
    tmp_path: Path, waited_us: int, is_high: bool
) -> None:
    # given a kernel that has counted some waiting before
    path, now_s = tmp_path / "cpu", [100.0]
    counted(path, 5_000_000)
    pressure = Pressure(counted=path, clock=lambda: now_s[0])
    # when two seconds later it has counted so much more
    now_s[0] += 2.0
    counted(path, 5_000_000 + waited_us)
    # then that span alone tells
    assert pressure.is_high() is is_high
    now_s[0] += 2.0
    assert pressure.is_high() is False


def test_where_nothing_is_counted_processors_are_never_short(tmp_path: Path) -> None:
    assert Pressure(counted=tmp_path / "none").is_high() is False
    (tmp_path / "odd").write_text("nothing of the kind")
    assert Pressure(counted=tmp_path / "odd").is_high() is False
