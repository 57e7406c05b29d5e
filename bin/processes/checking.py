"""check: one process that compares the log with every read model, on a tenth of a core; and the same on demand."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from bin.settings import Settings

if TYPE_CHECKING:
    from adapters.checking.checker import Outcome

__all__ = ["check_on_demand", "run_checking"]

LONGEST_PAUSE_S = 60.0
COLUMNS = "columns"
"""No read model of the database, but checked as one."""

log = structlog.get_logger()


def run_checking(settings: Settings) -> None:
    """Check until SIGTERM; a database that is away is waited for, and of several processes one checks."""
    import domain.touchpoints  # noqa: F401 - registers every declared type
    import projections  # noqa: F401 - registers every projection
    from adapters.priority import stand_back
    from bin import memory
    from projections.projection import load_foreign

    stand_back(19)  # whatever else has to be done goes first
    load_foreign()
    memory.settle()
    stopping = threading.Event()

    def stop(*_: Any) -> None:
        """End in the midst of a piece, be it folded here or a statement, which is cancelled; it is compared anew next time."""
        if not stopping.is_set():
            stopping.set()
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        _check_until(stopping, settings)


def _check_until(stopping: threading.Event, settings: Settings) -> None:
    from adapters.checking.checker import Checker
    from adapters.postgres.outage import DATABASE_AWAY

    pause_s = 1.0
    while not stopping.is_set():
        started_s = time.monotonic()
        try:
            checker = Checker(
                settings.database_url or "",
                period_s=settings.check_period_h * 3600,
                stopping=stopping,
            )
            try:
                if checker.alone():
                    checker.run()
            finally:
                with suppress(Exception):
                    checker.close()
        except DATABASE_AWAY as error:
            log.warning("checking_waits", reason=type(error).__name__)
        except Exception:
            log.exception("checking_failed")
        pause_s = 1.0 if time.monotonic() - started_s > LONGEST_PAUSE_S else min(pause_s * 2, LONGEST_PAUSE_S)
        stopping.wait(pause_s)


def check_on_demand(settings: Settings, names: list[str], *, quiet: bool) -> dict[str, Any]:
    """Compare the whole of these read models, or of all, now; returns what differs.

    Raises:
        NotFound: there is no projection of a name.
    """
    import domain.touchpoints  # noqa: F401 - registers every declared type
    import projections  # noqa: F401 - registers every projection
    from adapters.checking.checker import check_now, chosen
    from adapters.embedded import servers
    from adapters.postgres.schema import migrate
    from bin import logs
    from projections.projection import load_foreign

    logs.configure("debug" if settings.log_level == "debug" else "critical", part="check", form="pairs")
    load_foreign()
    models = [name for name in names if name != COLUMNS]
    chosen(models)
    with servers(settings, by="projections check", begins=False) as found:
        migrate(found.database_url)
        started_s = time.monotonic()
        progress = None if quiet else _progress(started_s)
        outcomes = check_now(found.database_url, models, progress=progress) if models or not names else []
        if COLUMNS in names or not names:
            outcomes.append(_check_columns(found.database_url, settings.data / "columns", progress))
    return {
        "projections": [each._asdict() for each in outcomes],
        "rows": sum(each.rows for each in outcomes),
        "seconds": round(time.monotonic() - started_s, 3),
    }


def _check_columns(url: str, folder: Path, progress: Callable[[str, int, int], None] | None) -> Outcome:
    """Compare the columns with the log; what stands in no file yet is read from the log and needs no check."""
    from adapters.checking.checker import Outcome, told
    from adapters.columns.check import check
    from adapters.columns.following import connected

    with connected(url) as conn:
        position, _ = check(conn, folder, progress=progress)
        return Outcome(COLUMNS, position, *told(conn, COLUMNS))


def _progress(started_s: float) -> Callable[[str, int, int], None]:
    told_s = [started_s]

    def show(stage: str, position: int, target: int) -> None:
        now_s = time.monotonic()
        if now_s - told_s[0] < (0.5 if sys.stderr.isatty() else 5):
            return
        told_s[0] = now_s
        if stage == "positions":
            rate = position / max(now_s - started_s, 0.001)
            left_s = (target - position) / rate if rate else 0
            line = f"{position:,} of {target:,} positions, {rate:,.0f}/s, {left_s:,.0f} s remain"
        else:
            line = f"{target:,} positions compared; {stage} ..."
        sys.stderr.write(f"\r\x1b[2K{line}" if sys.stderr.isatty() else line + "\n")
        sys.stderr.flush()

    return show
