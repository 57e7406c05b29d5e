"""A command of touchlog as people run it, in a process of its own: what it said, how long, how much memory."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from bin.settings import Settings
from domain.errors import Unavailable

__all__ = ["Ran", "run_command"]

ROOT = Path(__file__).resolve().parents[2]
_WATCH = (
    "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode; "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr); sys.exit(code)"
)
"""A small process between: what a child inherits of its parent's peak is then as good as nothing."""
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class Ran(NamedTuple):
    """What came of a command."""

    said: str  # on standard output
    seconds: float  # the start of the process included
    peak_mb: float  # most memory that it held at once


def run_command(*arguments: object, data: Path, database_url: str | None = None) -> Ran:
    """Run `touchlog ARGUMENTS --data DATA`.

    Raises:
        Unavailable: it failed; with the last it said.
    """
    settings = Settings.load(
        environ={}, data=data, **({"database_url": database_url} if database_url else {})
    )
    kept = settings.environment()
    if database_url is None:
        kept = {name: value for name, value in kept.items() if not name.startswith("TOUCHLOG_")}
    started = time.perf_counter()
    done = subprocess.run(
        [
            *(sys.executable, "-I", "-S", "-c", _WATCH),
            *(sys.executable, "-m", "bin.cli", *map(str, arguments), "--data", str(data)),
        ],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**kept, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "TOUCHLOG_LOG_LEVEL": "warning"},
    )
    took = time.perf_counter() - started
    *lines, peak = done.stderr.strip().splitlines() or [""]
    if done.returncode:
        raise Unavailable(f"touchlog {arguments[0]} failed: {' / '.join(lines[-3:])}")
    return Ran(done.stdout, took, int(peak) * _RSS_UNIT / 1e6)
