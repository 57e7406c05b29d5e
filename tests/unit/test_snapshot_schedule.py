"""When saved funnels are asked by themselves: the same moments, whoever looks and however late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.analysis.snapshot_schedule import due_of
from domain.errors import Invalid
from domain.funnels.reading import Known, read_funnel
from domain.funnels.schedule import MOST_AT_ONCE, moments_due

DAY_US = 86_400_000_000
BERLIN = ZoneInfo("Europe/Berlin")


def test_a_day_begins_at_midnight_of_the_zone_also_where_the_clock_is_changed() -> None:
    found = moments_due(
        DAY_US,
        BERLIN,
        after=datetime(2026, 3, 27, 23, tzinfo=UTC),
        until=datetime(2026, 3, 30, 0, tzinfo=UTC),
    )

    assert [at.isoformat() for at in found] == [
        "2026-03-28T23:00:00+00:00",
        "2026-03-29T22:00:00+00:00",
    ]


@given(
    every_us=st.sampled_from([60_000_000, 3_600_000_000, DAY_US, 7 * DAY_US]),
    looks=st.lists(st.integers(0, 40 * 86_400), min_size=1, max_size=8),
)
def test_whoever_looks_often_finds_what_one_look_finds(every_us: int, looks: list[int]) -> None:
    begin = datetime(2026, 10, 1, 7, 7, 7, tzinfo=UTC)
    span_s = min(40 * 86_400, every_us * MOST_AT_ONCE // 1_000_000)
    until = begin + timedelta(seconds=span_s)
    at, seen = begin, []
    for look in [*sorted(min(s, span_s) for s in looks), span_s]:
        seen += moments_due(every_us, BERLIN, after=at, until=begin + timedelta(seconds=look))
        at = seen[-1] if seen else begin

    assert seen == moments_due(every_us, BERLIN, after=begin, until=until)
    assert all(begin < each <= until for each in seen)
    assert seen == sorted(set(seen))


def test_only_funnels_that_say_how_often_are_due() -> None:
    now = datetime(2026, 1, 1, 2, 30, tzinfo=UTC)
    rows = [
        ("hourly", 2, {"snapshot": "1h"}, now - timedelta(hours=2)),
        ("never", 1, {}, now - timedelta(hours=9)),
    ]

    found = due_of(rows, ZoneInfo("UTC"), now)

    assert found == [("hourly", 2, now.replace(hour=hour, minute=0)) for hour in (1, 2)]


@pytest.mark.parametrize("every", ["30s", "soon", "0d"])
def test_snapshots_less_than_a_minute_apart_are_refused(every: str) -> None:
    question = {"steps": ["order.placed", "order.paid"], "window": "1d", "snapshot": every}

    with pytest.raises(Invalid) as refused:
        read_funnel(question, Known(frozenset(), {}))

    assert [p.pointer for p in refused.value.problems] == ["/snapshot"]
