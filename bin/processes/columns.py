"""columns: the process that keeps the analysts' columns up with the log, behind everything that people wait for.

It takes the snapshots of saved funnels, too, when they are due.

It only looks, and is small; what it finds to do is done in a child, which gives its memory back when it ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import structlog

from adapters.analysis.snapshot_schedule import any_due
from adapters.columns.following import connected, head_of
from adapters.columns.manifest import read_manifest
from adapters.priority import stand_back
from bin.settings import Settings

__all__ = ["Pace", "run_columns"]

NICENESS = 15
LOOK_EVERY_S = 1.0
LOOK_AT_WORK_EVERY_S = 0.25
"""Who is at work makes way sooner than who is not comes back."""
LONGEST_PAUSE_S = 30.0
ENOUGH_EVENTS = 20_000
"""So many events behind, and they are written down; fewer are read from the log by whoever asks."""
LONGEST_TAIL_S = 600.0
"""Fewer are written down after so long."""
BUSY_EVENTS_PER_S = 500
"""Where the log grows as fast as this, others have the machine first."""
MOST_BEHIND = 500_000
"""Events; whoever is further behind waits no more: a rush is let pass, a rate that lasts is kept up with."""
REST = 4.0
"""So many times as long as some work took is left to others, while the log is written to."""
LONGEST_REST_S = 2.5
SNAPSHOTS_EVERY_S = 15.0
"""Saved funnels are looked at so often; a snapshot speaks of the moment it was due, however late it is taken."""
LONGEST_SNAPSHOTS_PAUSE_S = 900.0

log = structlog.get_logger()


class Pace:
    """When to write columns, by what is seen of the log from look to look."""

    def __init__(self) -> None:
        self._head: int | None = None
        self._looked_s = 0.0
        self._behind_since_s: float | None = None
        self.is_busy = True

    def looked(self, head: int, now_s: float) -> None:
        """Note where the head of the log is."""
        before, span_s = self._head, now_s - self._looked_s
        self.is_busy = before is None or head - before > BUSY_EVENTS_PER_S * span_s
        self._head, self._looked_s = head, now_s

    def is_due(self, position: int) -> bool:
        """Whether to write, with columns that reach to *position*."""
        behind = (self._head or 0) - position
        if behind <= 0:
            self._behind_since_s = None
            return False
        if self._behind_since_s is None:
            self._behind_since_s = self._looked_s
        is_long = self._looked_s - self._behind_since_s > LONGEST_TAIL_S
        return behind >= MOST_BEHIND or (not self.is_busy and (behind >= ENOUGH_EVENTS or is_long))

    def rest_s(self, position: int, worked_s: float) -> float:
        """How long to leave the machine to others behind some work."""
        if not self.is_busy or (self._head or 0) - position >= MOST_BEHIND:
            return 0.0
        return min(REST * worked_s, LONGEST_REST_S)


def run_columns(settings: Settings) -> None:
    """Write columns until SIGTERM; first compile what answers funnels, so that no question waits for it."""
    stand_back(NICENESS)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    _in_a_child(_compile, stopping)  # at once, also while the log is written to: somebody may ask soon
    pause_s = LOOK_EVERY_S
    snapshots = Schedule(settings, stopping)
    while not stopping.is_set():
        try:
            pace = Pace()
            with connected(settings.database_url or "") as conn:
                while not stopping.wait(pause_s):
                    snapshots.look(conn)
                    head, log_id = head_of(conn)
                    pace.looked(head, time.monotonic())
                    found = read_manifest(settings.data / "columns")
                    reaches = found.position if found is not None and found.is_of(log_id, head) else 0
                    if not pace.is_due(reaches) or _in_a_child(lambda: _write(settings, stopping), stopping):
                        pause_s = LOOK_EVERY_S
                    else:
                        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told and tried again
            log.warning("columns_interrupted", reason=f"{type(error).__name__}: {error}"[:300])
            stopping.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


class Schedule:
    """Lets a child take the snapshots that are due; where some cannot be taken it comes back ever later."""

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self._zone = ZoneInfo(settings.timezone)
        self._pause_s = SNAPSHOTS_EVERY_S
        self._next_s = 0.0

    def look(self, conn: psycopg.Connection[Any]) -> None:
        """Take what is due, if it is time to look."""
        if time.monotonic() < self._next_s:
            return
        if any_due(conn, self._zone):
            _in_a_child(lambda: _take_snapshots(self._settings), self._stopping)
            left = any_due(conn, self._zone)
            self._pause_s = min(2 * self._pause_s, LONGEST_SNAPSHOTS_PAUSE_S) if left else SNAPSHOTS_EVERY_S
        self._next_s = time.monotonic() + self._pause_s


def _take_snapshots(settings: Settings) -> None:
    """Take the snapshots that are due."""
    from bin.compose import core

    async def take() -> None:
        async with core(settings, settings.database_url or "", pool_size=2) as parts:
            await parts.snapshots.take_due(ZoneInfo(settings.timezone))

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # a snapshot that is cut off is taken again
    asyncio.run(take())


def _in_a_child(work: Callable[[], None], stopping: threading.Event) -> bool:
    """Let a child do some work; returns whether it has. It is told to stop when this process is, and ends with it."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        done = 1
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
        try:
            work()
            done = 0
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told and tried again
            log.warning("columns_interrupted", reason=f"{type(error).__name__}: {error}"[:300])
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(done)
    is_told = False
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status) == 0
        if stopping.is_set() and not is_told:
            is_told = True
            os.kill(child, signal.SIGTERM)
        time.sleep(0.05) if is_told else stopping.wait(LOOK_EVERY_S)


def _write(settings: Settings, stopping: threading.Event) -> None:
    """Write down whatever there is."""
    from adapters.columns.shelf import Shelf, Taken
    from adapters.columns.writer import Columns

    parent, pace = os.getppid(), Pace()
    worked_from_s = looked_s = time.monotonic()

    def is_stopped() -> bool:
        return stopping.is_set() or os.getppid() != parent

    def rest(position: int) -> None:
        nonlocal worked_from_s, looked_s
        now_s = time.monotonic()
        if now_s - looked_s >= LOOK_AT_WORK_EVERY_S:
            pace.looked(head_of(conn)[0], now_s)
            looked_s = now_s
        stopping.wait(pace.rest_s(position, now_s - worked_from_s))
        worked_from_s = time.monotonic()

    shelf = Shelf(settings.data / "columns")
    try:
        with shelf.written(), connected(settings.database_url or "") as conn:
            Columns(conn, shelf).step(all_of_it=True, stopped=is_stopped, rest=rest)
    except Taken:  # by a command that works alone, or by the child of one that was killed
        stopping.wait(LOOK_EVERY_S)


def _compile() -> None:
    """Compile, once for all installations of this user: who comes while another is at it leaves it to that one."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)  # a compiler asks for no signals

    from adapters.columns import chains, gathering, kernel, retention_kernel, spells, walking
    from adapters.columns.compiled import only_one

    with only_one() as is_ours:
        if is_ours:
            for one in (kernel, gathering, chains, retention_kernel, walking, spells):
                one.warm()


def _end_with(parent: int) -> None:
    """End this process when its parent has, even where that was killed."""
    never = threading.Event()
    while os.getppid() == parent:
        never.wait(0.5)
    os._exit(1)
