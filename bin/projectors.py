"""projectors: one process that keeps every read model up with the log."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from typing import Any

import structlog

import domain.touchpoints  # noqa: F401 - registers every declared type
import projections  # noqa: F401 - registers every projection
from adapters.nats.heads import HeadListener
from adapters.postgres.event_log import connect_log
from adapters.postgres.read_models import ReadModels
from adapters.postgres.schema import APP_ROLE
from bin import memory
from bin.rebuilder import Rebuilder
from bin.settings import Settings
from projections.projection import PROJECTIONS, load_foreign
from projections.projector import Projector

__all__ = ["run_projectors"]

BUSY_WAIT_S = 0.05
IDLE_WAIT_S = 0.25
IDLE_AFTER_S = 10.0
RENEW_EVERY_S = 2.5
"""Leases last 10 s: three renewals may fail before another projector takes over."""
ASK_EVERY_S = 0.5
"""How often a lease is asked for that another projector holds; it may have been killed."""
LONGEST_PAUSE_S = 5.0

log = structlog.get_logger()


def run_projectors(settings: Settings) -> None:
    """Project until SIGTERM; a lost database or lease is waited for, a bus that is down only makes it less quick."""
    load_foreign()
    memory.settle()
    stopping = threading.Event()
    listener = HeadListener(settings.nats_url, settings.subject_prefix)

    def stop(*_: Any) -> None:
        stopping.set()
        listener.news.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    Rebuilder(settings, stopping).start()
    first = True
    pause_s = 0.1
    while not stopping.is_set():
        started_s = time.monotonic()
        try:
            if first:
                _release_of_the_dead(settings.database_url or "")
                first = False
            _project(settings.database_url or "", listener, stopping)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told and tried again
            if time.monotonic() - started_s > LONGEST_PAUSE_S:
                pause_s = 0.1
            _tell(error)
        if not stopping.is_set():
            stopping.wait(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


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


def _project(database_url: str, listener: HeadListener, stopping: threading.Event) -> None:
    """Take the leases and fold, until told to stop or until something fails."""
    store = ReadModels(database_url)
    reader = connect_log(database_url, role=APP_ROLE, pool=1)
    projector = Projector(reader, store, PROJECTIONS.values())
    try:
        _fold_onward(projector, listener, stopping)
        projector.release_leases()
    except BaseException:
        projector.abandon()
        raise
    finally:
        with suppress(Exception):
            store.close()
        with suppress(Exception):
            reader.datastore.close()


def _fold_onward(projector: Projector, listener: HeadListener, stopping: threading.Event) -> None:
    has_all = projector.take_leases()
    renewed_s = asked_s = active_s = time.monotonic()
    while not stopping.is_set():
        count = projector.step()
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
        if not count:
            listener.wait(BUSY_WAIT_S if now_s - active_s < IDLE_AFTER_S else IDLE_WAIT_S)
