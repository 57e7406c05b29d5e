"""Whether the processors are short, as the kernel counts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.priority import Pressure, Rush


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


class Pressed:
    """Processors for which somebody waits for a share of the time."""

    def __init__(self, share: float) -> None:
        self.now = share

    def share(self) -> float:
        return self.now


def rush_of(pressed: Pressed, now_s: list[float]) -> Rush:
    return Rush(pressed, clock=lambda: now_s[0])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("grew", "share", "is_on"), [(600, 0.3, True), (400, 0.9, False), (600, 0.29, False)]
)
def test_a_rush_is_a_log_that_grows_fast_while_processors_are_short(
    grew: int, share: float, is_on: bool
) -> None:
    # given a log that was looked at before
    now_s = [10.0]
    rush = rush_of(Pressed(share), now_s)
    now_s[0] += 0.25
    assert not rush.is_on(5_000), "of the first look nothing follows"
    # when it is looked at again a quarter of a second later, 2,000 events a second are 500
    now_s[0] += 0.25
    # then it is a rush or none, and is over with the look at which nothing came
    assert rush.is_on(5_000 + grew) is is_on
    assert rush.is_on(5_000 + grew) is is_on, "not looked at again so soon"
    now_s[0] += 0.25
    assert not rush.is_on(5_000 + grew)


def test_a_rush_lasts_while_processors_are_a_little_short() -> None:
    # given a rush that is on
    now_s, head, pressed = [10.0], 0, Pressed(0.5)
    rush = rush_of(pressed, now_s)
    rush.look(head)
    seen = []
    # when processors are less and less short, and then again more
    for share in (0.5, 0.2, 0.14, 0.2, 0.3):
        now_s[0] += 0.25
        head += 5_000
        pressed.now = share
        seen.append(rush.is_on(head))
    # then it ends below where it began, and does not begin there again
    assert seen == [True, True, False, False, True]


def test_a_look_parts_what_comes_from_the_quiet_before() -> None:
    # given a log that was quiet for a second
    now_s = [10.0]
    rush = rush_of(Pressed(0.9), now_s)
    rush.look(0)
    now_s[0] += 1.0
    # when it is looked at where the first events come, and 600 more come in a quarter of a second
    assert not rush.look(10)
    now_s[0] += 0.25
    # then these alone count
    assert rush.is_on(610)
