"""columns: the process that keeps the analysts' columns up with the log, behind everything that people wait for."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

import structlog

from adapters.columns.following import connected
from adapters.columns.shelf import Shelf, Taken
from adapters.columns.writer import Columns
from bin import memory
from bin.settings import Settings

__all__ = ["run_columns"]

NICENESS = 15
LOOK_EVERY_S = 1.0
LONGEST_PAUSE_S = 30.0

log = structlog.get_logger()


def run_columns(settings: Settings) -> None:
    """Write columns until SIGTERM; first compile what answers funnels, so that no question waits for it."""
    os.nice(NICENESS)
    memory.settle()
    stopping = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    threading.Thread(target=_compile, name="compile", daemon=True).start()
    pause_s = 1.0
    while not stopping.is_set():
        try:
            shelf = Shelf(settings.data / "columns")
            with shelf.written(), connected(settings.database_url or "") as conn:
                columns = Columns(conn, shelf)
                while not stopping.is_set():
                    columns.step(stopped=stopping.is_set)
                    pause_s = 1.0
                    stopping.wait(LOOK_EVERY_S)
        except Taken:
            stopping.wait(pause_s)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told and tried again
            log.warning("columns_interrupted", reason=f"{type(error).__name__}: {error}"[:300])
            stopping.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _compile() -> None:
    """In a process of its own, which gives its memory back."""
    import subprocess
    import sys

    subprocess.run([sys.executable, "-c", "from adapters.columns.kernel import warm; warm()"], check=False)
