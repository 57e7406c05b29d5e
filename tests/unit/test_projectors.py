"""Paces of projections: a declared one only, and events gather only while they come."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from adapters.nats.heads import HeadListener
from bin import memory
from bin.processes import projectors
from bin.settings import Settings
from projections.projection import PROJECTIONS, Projection, projection

LONG_S = 60.0


def gathered_s(listener: HeadListener, stopping: threading.Event, *, enough: int) -> float:
    """Gather for a long time; how long it took."""
    started_s = time.monotonic()
    projectors._gather(enough, LONG_S, listener, stopping)
    return time.monotonic() - started_s


def test_a_pace_that_nobody_runs_is_refused() -> None:
    with pytest.raises(ValueError, match="The pace of hasty is 'soon'; write one of live, later"):

        @projection
        class Hasty(Projection):
            name = "hasty"
            pace: ClassVar[Any] = "soon"

    assert "hasty" not in PROJECTIONS


def test_a_projection_comes_later_unless_it_says_otherwise() -> None:
    assert Projection.pace == "later"
    live = {each.name for each in projectors.chosen_projections("live")}
    assert live == {"contact_history", "identities", "profiles", "consent", "verdicts"}
    assert live.isdisjoint(each.name for each in projectors.chosen_projections("later"))


def test_gathering_ends_when_the_log_is_quiet() -> None:
    assert gathered_s(HeadListener(None, "t"), threading.Event(), enough=10) < LONG_S / 2


@pytest.mark.parametrize("ends_by", ["a whole batch", "the wish to stop"])
def test_gathering_ends_with_a_whole_batch_and_with_the_wish_to_stop(ends_by: str) -> None:
    # given a log to which something has come whenever it is looked at, however late that is
    stopping = threading.Event()
    looks: list[int] = []

    class Busy(HeadListener):
        def wait(self, at_most_s: float) -> bool:
            looks.append(self.head)
            self.news.set()
            if ends_by == "a whole batch":
                self.head += 25
            elif len(looks) == 4:
                stopping.set()
            return super().wait(at_most_s)

    # when, then
    listener = Busy(None, "t")
    assert gathered_s(listener, stopping, enough=100) < LONG_S / 2
    assert looks == ([0, 25, 50, 75] if ends_by == "a whole batch" else [0] * 4)
    assert (listener.head == 100) is not stopping.is_set()


@pytest.mark.parametrize("waits", ["itself", "the listener's end"])
def test_a_projector_that_is_told_to_end_while_it_waits_for_a_database_that_is_away_ends_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: str
) -> None:
    went_on: list[str] = []

    def wait_long() -> None:
        threading.Event().wait(20)  # as the pool of the library does, which nothing wakes
        went_on.append(waits)

    def project(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        if waits == "itself":
            wait_long()

    class Listener(HeadListener):
        def __exit__(self, *_: object) -> None:
            if waits != "itself":
                wait_long()

    # given a projector that waits for what does not come
    for name, stub in (
        ("_release_of_the_dead", lambda _: None),
        ("_project", project),
        ("HeadListener", Listener),
        ("Rebuilder", lambda *_: SimpleNamespace(start=lambda: None)),
    ):
        monkeypatch.setattr(projectors, name, stub)
    monkeypatch.setattr(memory, "settle", lambda: None)
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
    settings = Settings.load({"TOUCHLOG_STOP_TIMEOUT_S": "0.6"}, data=tmp_path)
    try:
        # when it is told to end
        projectors.run_projectors(settings, "live")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    # then it waits no longer than it has time for, and no alarm is left
    assert went_on == []
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
