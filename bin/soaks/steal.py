"""steal: two projectors of the same read models under load, the lease stolen from one by the other every second."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import psycopg

import projections  # noqa: F401 - registers every projection
from adapters.postgres.event_log import Item, connect_log
from adapters.postgres.read_models import LeaseLost, ReadModels, Tracking
from adapters.postgres.schema import APP_ROLE
from bin import logs
from bin.compose import core
from bin.settings import Settings
from bin.soaks.mixed import mixed, prepared
from bin.soaks.rows import differing, digests, from_zero
from projections.projection import PROJECTIONS, Projection
from projections.projector import BATCH_EVENTS, Projector

__all__ = ["Steal", "run_steal"]

BATCH = 50
START_S = 60
CATCH_UP_S = 600
PROJECTORS = 2


class Steal(NamedTuple):
    """What a trial found."""

    events: int
    seconds: float
    rate: float  # events per second that were recorded
    steals: int
    lost: int  # batches that failed because the lease was gone
    batches: int  # that were written
    differs: list[str]  # tables that differ from those built from zero


class _Thief(ReadModels):
    """Takes leases from whoever holds them, while it is told to."""

    stealing = False

    def take(self, projection: Projection) -> Tracking | None:
        return self.steal(projection) if self.stealing else super().take(projection)


def run_steal(
    url: str,
    folder: Path,
    *,
    seconds: float,
    rate: float = 1000,
    every_s: float = 1.0,
    apart: bool = False,
    batch: int = BATCH_EVENTS,
) -> Steal:
    """Record for so long while two processes project and steal from each other in turns; then compare.

    Args:
        url: a migrated database of its own.
        folder: where its key file is made.
        rate: events per second that are recorded: late ones, links, corrections and retractions among them.
        every_s: between two steals.
        apart: each steal takes one read model only, so that the two projectors hold some each.
        batch: events that are folded per transaction at most.
    """
    items = asyncio.run(_items(url, folder, int(seconds * rate)))
    spawning = multiprocessing.get_context("spawn")
    ready, stop = spawning.Semaphore(0), spawning.Event()
    turns = [spawning.Semaphore(0) for _ in range(PROJECTORS)]
    told: Any = spawning.Queue()
    with psycopg.connect(url, autocommit=True) as conn:
        processes = [
            spawning.Process(
                target=_project, args=(url, apart, batch, turns[n], ready, stop, told), daemon=True
            )
            for n in range(PROJECTORS)
        ]
        for process in processes:
            process.start()
        try:
            for _ in processes:
                if not ready.acquire(timeout=START_S):
                    raise TimeoutError(f"A projector did not start within {START_S} s.")
            started = time.monotonic()
            _write(url, items, rate, every_s, turns)
            took = time.monotonic() - started
            deadline = time.monotonic() + CATCH_UP_S
            while not _done(conn, len(items)):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"The projectors did not reach the head within {CATCH_UP_S} s.")
                time.sleep(0.02)
            stop.set()
            found = [told.get(timeout=START_S) for _ in processes]
        finally:
            stop.set()
            for process in processes:
                process.join(10)
                if process.is_alive():
                    process.kill()
                    process.join()
            told.close()
        raced = digests(conn)
    return Steal(
        events=len(items),
        seconds=round(took, 1),
        rate=round(len(items) / took, 1),
        steals=sum(f[0] for f in found),
        lost=sum(f[1] for f in found),
        batches=sum(f[2] for f in found),
        differs=differing(raced, from_zero(url, batch=4000)),
    )


async def _items(url: str, folder: Path, count: int) -> list[Item]:
    async with core(Settings.load({}, data=folder), url) as parts:
        return await prepared(parts, mixed(11, count, persons=max(20, count // 12), retracted=0.0005))


def _write(url: str, items: list[Item], rate: float, every_s: float, turns: list[Any]) -> None:
    """Record at a steady rate, and give each projector in turn the word to steal."""
    log = connect_log(url, pool=1, role=APP_ROLE)
    try:
        started = next_s = time.monotonic()
        whole = iter(items)
        steals = 0
        while batch := list(islice(whole, BATCH)):
            log.append(batch)
            now = time.monotonic()
            if now - started >= (steals + 1) * every_s:
                turns[steals % PROJECTORS].release()
                steals += 1
            next_s += BATCH / rate
            time.sleep(max(0.0, next_s - now))
    finally:
        log.datastore.close()


def _done(conn: psycopg.Connection[Any], head: int) -> bool:
    row = conn.execute("SELECT count(*) FROM touchlog.projections WHERE position = %s", (head,)).fetchone()
    return row == (len(PROJECTIONS),)


def _project(url: str, apart: bool, batch: int, turn: Any, ready: Any, stop: Any, told: Any) -> None:
    """One projector process: folds what it holds, and steals when it is its turn."""
    logs.configure(
        "warning", part="soak", form="pairs"
    )  # a process of its own: else each lease is told among the figures
    reader, store = connect_log(url, pool=1, role=APP_ROLE), _Thief(url)
    projector = Projector(reader, store, [type(each)() for each in PROJECTIONS.values()], batch=batch)
    steals = lost = batches = 0
    projector.take_leases()
    ready.release()
    while not stop.is_set():
        try:
            if turn.acquire(block=False):
                others = [name for name in PROJECTIONS if name not in projector.positions]
                if apart and others:
                    store.steal(PROJECTIONS[others[steals % len(others)]])
                elif not apart:
                    projector.abandon()
                    store.stealing = True
                projector.take_leases()
                store.stealing = False
                steals += 1
            elif len(projector.positions) < len(PROJECTIONS):
                projector.take_leases()
            if projector.step():
                batches += 1
            else:
                projector.renew_leases()
                stop.wait(0.01)
        except (LeaseLost, psycopg.errors.DeadlockDetected):
            lost += 1
            projector.abandon()
    projector.release_leases()
    told.put((steals, lost, batches))
    store.close()
    reader.datastore.close()
