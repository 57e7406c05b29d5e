"""Threads that follow the read models stand still while they are told to."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bin.processes import follower
from bin.settings import Settings


@asynccontextmanager
async def nothing(*_: Any, **__: Any) -> AsyncIterator[None]:
    yield None


def test_a_follower_does_nothing_while_it_waits_and_goes_on_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    # given a follower, and something that others need the processors for
    monkeypatch.setattr(follower, "core", nothing)
    stopping, waiting, done, paused = (threading.Event() for _ in range(4))
    waiting.set()
    wait = stopping.wait

    def pausing(span_s: float | None = None) -> bool:
        paused.set()
        return wait(span_s)

    monkeypatch.setattr(stopping, "wait", pausing)

    async def work() -> bool:
        done.set()
        return True

    one = follower.Follower(
        Settings.load(environ={}),
        stopping,
        name="work",
        making=lambda _: work,
        look_every_s=0.001,
        waiting=waiting,
    )
    # when it runs
    one.start()
    assert paused.wait(30)
    # then nothing is done until that is over
    assert not done.is_set()
    waiting.clear()
    assert done.wait(30)
    stopping.set()
    one.join(30)
    assert not one.is_alive()
