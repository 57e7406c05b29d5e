"""projectors: processes that keep the read models up with the log, those that must be fresh apart from the others."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import structlog

import domain.touchpoints  # noqa: F401 - registers every declared type
import projections  # noqa: F401 - registers every projection
from adapters.nats.heads import HeadListener
from adapters.postgres.event_log import connect_log
from adapters.postgres.read_models import ReadModels
from adapters.postgres.schema import APP_ROLE
from adapters.priority import LOOKED_AT_EVERY_S, Rush, stand_back
from bin import memory
from bin.processes.indexer import indexer
from bin.processes.judging import judging
from bin.processes.rebuilder import Rebuilder
from bin.settings import Settings
from domain.errors import Misconfigured
from projections.projection import PROJECTIONS, Pace, Projection, load_foreign
from projections.projector import Projector

__all__ = ["chosen_projections", "run_projectors"]

BUSY_WAIT_S = 0.05
IDLE_WAIT_S = 0.25
IDLE_AFTER_S = 10.0
RENEW_EVERY_S = 2.5
"""Leases last 10 s: three renewals may fail before another projector takes over."""
ASK_EVERY_S = 0.5
"""How often a lease is asked for that another projector holds; it may have been killed."""
LONGEST_PAUSE_S = 5.0

LOOK_EVERY_S = 0.05
"""While events are gathered: nothing new for so long, and the log is quiet."""

log = structlog.get_logger()


class _Way(NamedTuple):
    """How the projections of one pace are run.

    `gather_s` tells how long to let events gather behind a step of so many events that was no full batch.
    `rest` times as long as a full batch took is left to others, while the log is written to.
    """

    niceness: int
    batch_events: int
    gather_s: Callable[[int], float]
    rest: float = 0.0


# A transaction costs the same for few events as for many. Live: above some 5,000 events/s steps grow until there are
# ten a second, which spares a quarter of what they cost (measured); below that nothing waits. Later: above 100 events/s steps grow until there is one a second.
_WAYS: dict[Pace, _Way] = {
    "live": _Way(0, 4000, lambda events: min(0.1, events / 5_000) if events >= 100 else 0.0),
    "later": _Way(15, 5000, lambda events: min(1.0, events / 100), rest=4.0),
}
MOST_BEHIND = 500_000
"""Positions; whoever is further behind rests no more: a rush is let pass, a rate that lasts is kept up with."""


def chosen_projections(pace: Pace | None = None, names: Sequence[str] = ()) -> list[Projection]:
    """The projections of one pace, those of *names* only where there are any.

    Raises:
        Misconfigured: there is no projection of such a name; lists those there are.
    """
    load_foreign()
    unknown = [name for name in names if name not in PROJECTIONS]
    if unknown:
        raise Misconfigured(
            f"There is no projection '{', '.join(unknown)}'; there are: {', '.join(sorted(PROJECTIONS))}."
        )
    return [
        each
        for each in PROJECTIONS.values()
        if pace in (None, each.pace) and (not names or each.name in names)
    ]


def run_projectors(settings: Settings, pace: Pace | None = None, names: Sequence[str] = ()) -> None:
    """Project until SIGTERM; a lost database or lease is waited for, a bus that is down only makes it less quick.

    Args:
        pace: run the projections of this pace, and as it needs; None runs all as if they were live.
        names: run these projections only.
    """
    chosen = chosen_projections(pace, names)
    way = _WAYS[pace or "live"]
    stand_back(way.niceness)
    memory.settle()
    stopping = threading.Event()
    waiting = threading.Event()  # set while a rush is let pass
    with (
        _until_late(),
        HeadListener(settings.nats_url, settings.subject_prefix) as listener,
    ):

        def stop(*_: Any) -> None:
            stopping.set()
            listener.news.set()
            signal.setitimer(signal.ITIMER_REAL, settings.stop_timeout_s / 2)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        Rebuilder(settings, stopping).start()
        if pace != "live":
            indexer(settings, stopping, waiting).start()
            judging(settings, stopping, waiting).start()
        first = True
        pause_s = 0.1
        while not stopping.is_set():
            started_s = time.monotonic()
            try:
                if first:
                    _release_of_the_dead(settings.database_url or "")
                    first = False
                _project(settings.database_url or "", chosen, way, listener, stopping, waiting)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told and tried again
                if time.monotonic() - started_s > LONGEST_PAUSE_S:
                    pause_s = 0.1
                _tell(error)
            if not stopping.is_set():
                stopping.wait(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


@contextmanager
def _until_late() -> Iterator[None]:
    """What lasts longer than the timer of whoever was told to end is left as it is: a database that is away, say, is
    waited for by the library for half a minute, and nothing that was folded is lost.
    """

    def late(*_: Any) -> None:
        raise KeyboardInterrupt  # which psycopg takes as the wish to cancel a statement

    signal.signal(signal.SIGALRM, late)
    try:
        yield
    except KeyboardInterrupt:
        log.warning("projecting_cut_off")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _release_of_the_dead(database_url: str) -> None:
    """Give back, once at the start, the leases of a projector of this machine that was killed."""
    store = ReadModels(database_url)
    mine, _, _ = store.holder.rpartition(":")
    try:
        for tracking in list(store.tracking()):
            machine, _, pid = (tracking.holder or "").rpartition(":")
            if machine == mine and pid.isdigit() and not _is_alive(int(pid)):
                log.info("lease_of_the_dead_released", projection=tracking.name, holder=tracking.holder)
                store.release(tracking)
    finally:
        store.close()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _tell(error: Exception) -> None:
    """Log why projecting stopped: briefly where the database is away, whole where a fold failed."""
    from eventsourcing.persistence import PersistenceError
    from psycopg import OperationalError
    from psycopg_pool import PoolTimeout

    from domain.errors import Unavailable

    if isinstance(error, OperationalError | PoolTimeout | PersistenceError | Unavailable):
        log.warning("projecting_interrupted", reason=type(error).__name__)
    else:
        log.error("projecting_failed", exc_info=error)


def _project(
    database_url: str,
    chosen: Sequence[Projection],
    way: _Way,
    listener: HeadListener,
    stopping: threading.Event,
    waiting: threading.Event,
) -> None:
    """Take the leases and fold, until told to stop or until something fails."""
    store = ReadModels(database_url)
    reader = connect_log(database_url, role=APP_ROLE, pool=1)
    projector = Projector(reader, store, chosen, batch=way.batch_events)
    try:
        _fold_onward(projector, way, listener, stopping, waiting)
        projector.release_leases()
    except BaseException:
        projector.abandon()
        raise
    finally:
        waiting.clear()
        with suppress(Exception):
            store.close()
        with suppress(Exception):
            reader.datastore.close()


def _fold_onward(
    projector: Projector,
    way: _Way,
    listener: HeadListener,
    stopping: threading.Event,
    waiting: threading.Event,
) -> None:
    has_all = projector.take_leases()
    renewed_s = asked_s = active_s = time.monotonic()
    rush = Rush() if way.rest else None
    while not stopping.is_set():
        began_s = time.monotonic()
        behind = listener.head - min(projector.positions.values(), default=0)
        if rush is not None and rush.is_on(listener.head) and behind < MOST_BEHIND:
            waiting.set()
        else:
            waiting.clear()
        count = 0 if waiting.is_set() else projector.step()
        now_s = time.monotonic()
        if count:
            active_s = now_s
        if now_s - renewed_s > RENEW_EVERY_S:
            projector.renew_leases()
            renewed_s = now_s
            projector.retry_parked()
        if not has_all and now_s - asked_s > ASK_EVERY_S:
            has_all = projector.take_leases()
            asked_s = now_s
        if waiting.is_set():
            stopping.wait(LOOKED_AT_EVERY_S)
        elif not count:
            listener.wait(BUSY_WAIT_S if now_s - active_s < IDLE_AFTER_S else IDLE_WAIT_S)
        elif count < way.batch_events:
            if rush is not None:
                rush.look(listener.head)  # what gathers from here on is told apart from the quiet before
            enough = min(projector.positions.values(), default=0) + way.batch_events
            _gather(enough, way.gather_s(count), listener, stopping)
        elif way.rest and listener.head - min(projector.positions.values(), default=0) < MOST_BEHIND:
            _gather(sys.maxsize, min(way.rest * (now_s - began_s), RENEW_EVERY_S), listener, stopping)


def _gather(enough: int, span_s: float, listener: HeadListener, stopping: threading.Event) -> None:
    """Wait until the head is at *enough*, nothing new comes any more, or *span_s* is over."""
    deadline_s = time.monotonic() + span_s
    while (left_s := deadline_s - time.monotonic()) > 0 and listener.head < enough:
        if stopping.wait(min(left_s, LOOK_EVERY_S)) or not listener.wait(0):
            return
