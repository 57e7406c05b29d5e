"""Processes of a bench: each makes its events when told to, and writes them when told to go."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from adapters.postgres.event_log import connect_log
from bin import memory
from bin.bench.load import PRINCIPAL, Templates, know_persons, parts_of, payloads

__all__ = ["Spawned", "accepting", "appending", "called"]

T = TypeVar("T")


class Spawned:
    """Another process that runs *work* over a pipe, with what it needs for itself."""

    def __init__(self, work: Callable[..., None], *needed: Any) -> None:
        spawning = multiprocessing.get_context("spawn")
        self._pipe, other = spawning.Pipe()
        self._process = spawning.Process(target=work, args=(*needed, other), daemon=True)
        self._process.start()

    def prepare(self, *told: int) -> None:
        """Have it make its events; returns when they are there."""
        self._pipe.send(told)
        self._pipe.recv()

    def go(self) -> None:
        """Have it write them."""
        self._pipe.send("go")

    def finished(self) -> Any:
        """Wait until it has; what it tells of it."""
        return self._pipe.recv()

    def close(self) -> None:
        """End it."""
        self._pipe.send(None)
        self._process.join(10)
        self._process.kill()


def appending(url: str, made: Templates, pipe: Connection) -> None:
    """Append batches through a recorder of its own; told (batch size, batches)."""
    memory.settle()
    log = connect_log(url, pool=1, role="touchlog_app")
    while (told := pipe.recv()) is not None:
        size, count = told
        batches = made.batches(count, size)
        pipe.send("prepared")
        pipe.recv()
        for batch in batches:
            log.append(batch)
        pipe.send("finished")
    log.datastore.close()


def accepting(folder: Path, url: str, pipe: Connection) -> None:
    """Record single events of many callers by the whole way in; told (callers, number of the first event, events).

    Tells the latencies in seconds.
    """
    memory.settle()  # as the product's process is that does this
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        opened = AsyncExitStack()
        parts = runner.run(opened.enter_async_context(parts_of(folder, url)))
        runner.run(know_persons(parts))

        async def one(item: bytes) -> bool:
            return (await parts.ingest.accept([item], PRINCIPAL, way_in="http")).recorded == 1

        while (told := pipe.recv()) is not None:
            callers, first, events = told
            raw = payloads(first, events)
            pipe.send("prepared")
            pipe.recv()
            pipe.send(runner.run(called(callers, raw, one)))
        runner.run(opened.aclose())


async def called(callers: int, items: Sequence[T], one: Callable[[T], Awaitable[bool]]) -> list[float]:
    """Have so many callers take turns with *items*, one each at a time; the latencies in seconds.

    Raises:
        AssertionError: not every event was recorded.
    """
    turns, latencies, recorded = iter(items), [], 0

    async def caller() -> None:
        nonlocal recorded
        for item in turns:
            began = time.perf_counter()
            done = await one(item)
            latencies.append(time.perf_counter() - began)
            recorded += done

    await asyncio.gather(*(caller() for _ in range(callers)))
    if recorded != len(items):
        raise AssertionError(f"{recorded} of {len(items)} events were recorded.")
    return latencies
