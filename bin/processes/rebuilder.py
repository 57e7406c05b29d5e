"""What rebuilds while nobody waits for it: asked for over HTTP, cut off, or of another version than the code's.

A thread of the projectors part looks once a second; each rebuild is a process of its own, so that it has a core
to itself and nothing else waits. It ends with the projectors part, and goes on with the next one from where it
stood. What answers meanwhile stands in adapters/rebuilds/runs.py.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import Any

import structlog

from adapters.embedded.processes import end, spawn
from adapters.rebuilds.runs import (
    ask,
    connected,
    failed_lately,
    next_run,
    outgrown,
    set_aside_misread,
)
from bin.settings import Settings
from domain.errors import Underway

__all__ = ["Rebuilder", "run_one"]

LOOK_EVERY_S = 1.0
ROOT = Path(__file__).resolve().parents[2]
_ONE_WATCHES = (7_021_905, 0)
"""The advisory lock of whoever watches: of several projectors parts one does."""
_BY = "serve"

log = structlog.get_logger()


class Rebuilder(threading.Thread):
    """Starts rebuilds until *stopping* is set."""

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        super().__init__(name="rebuilder", daemon=True)
        self._settings = settings
        self._stopping = stopping
        self._child: Popen[bytes] | None = None

    def run(self) -> None:
        """Watch; a lost database is waited for."""
        while not self._stopping.is_set():
            try:
                self._watch()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told and tried again
                log.warning("rebuilds_interrupted", reason=f"{type(error).__name__}: {error}"[:300])
            self._stopping.wait(LOOK_EVERY_S)
        if self._child is not None:
            end(self._child, (signal.SIGTERM,), 10)

    def _watch(self) -> None:
        with connected(self._settings.database_url or "") as conn:
            row = conn.execute("SELECT pg_try_advisory_lock(%s, %s)", _ONE_WATCHES).fetchone()
            if not row or not row[0]:
                return
            while not self._stopping.is_set():
                if self._child is None or self._child.poll() is not None:
                    self._child = None
                    self._ask_for_versions(conn)
                    run_id = next_run(conn)
                    if run_id is not None:
                        self._child = self._spawned(run_id)
                self._stopping.wait(LOOK_EVERY_S)

    def _ask_for_versions(self, conn: Any) -> None:
        """Ask for a rebuild of every read model that is of another version than the code."""
        from bin.commands.rebuilding import asked
        from bin.compose import act_recorded

        lagging = outgrown(conn)
        if not lagging:
            return
        set_aside_misread(conn)
        for projection in lagging:
            name = projection.name
            if failed_lately(conn, name):
                continue
            with suppress(Underway):
                run_id = ask(conn, name, by=_BY, swap=True)
                log.info("new_version_builds", projection=name, version=projection.version, rebuild=run_id)
                told = asked(run_id, name, None, None, True) | {"version": projection.version}
                act_recorded(self._settings, self._settings.database_url or "", "rebuild.started", _BY, told)

    def _spawned(self, run_id: int) -> Popen[bytes]:
        environment = self._settings.environment()
        paths = [str(ROOT), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
        return spawn(
            [
                sys.executable,
                "-m",
                "bin.parts",
                "rebuild",
                "--data",
                self._settings.data,
                "--id",
                str(run_id),
            ],
            log=2,
            death_signal=signal.SIGTERM,
            env={
                **environment,
                "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
                "PYTHONSAFEPATH": "1",
            },
        )


def run_one(settings: Settings, run_id: int) -> None:
    """Run one rebuild; SIGTERM leaves it where it stands."""
    import domain.touchpoints  # noqa: F401 - registers every declared type
    import projections  # noqa: F401 - registers every projection
    from bin.commands.rebuilding import perform
    from projections.projection import load_foreign

    def stop(*_: Any) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    load_foreign()
    outcome = perform(settings, settings.database_url or "", run_id)
    log.info(
        "rebuild_done",
        projection=outcome["name"],
        schema=outcome["schema"],
        position=outcome["position"],
        seconds=outcome["seconds"],
        swapped=outcome.get("swapped", False),
        differences=outcome.get("differences_total"),
    )
