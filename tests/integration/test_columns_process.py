"""The process that keeps the columns: it writes what has come, and stays small."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

from adapters.columns.manifest import read_manifest
from bin.processes.columns import ENOUGH_EVENTS
from tests.integration.reading_house import OFFICE, House, event, story
from tests.waiting import wait_until


@contextmanager
def kept(data: Path, url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the process as `serve` runs it."""
    environment = {**os.environ, "TOUCHLOG_DATABASE_URL": url}
    command = [sys.executable, "-m", "bin.parts", "columns", "--data", str(data)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(120)


def heavy_in(process: subprocess.Popen[bytes]) -> list[str]:
    """Give what a process has loaded of the large libraries, where the machine tells."""
    try:
        loaded = Path(f"/proc/{process.pid}/maps").read_text()
    except FileNotFoundError:  # no Linux
        return []
    return [heavy for heavy in ("libarrow", "llvmlite", "duckdb") if heavy in loaded]


@story
async def test_it_writes_down_what_has_come_and_loads_none_of_what_does_it(it: House) -> None:
    folder = it.core.settings.data / "columns"
    calls = [orjson.dumps(event(str(n))) for n in range(ENOUGH_EVENTS)]

    def written() -> int:
        found = read_manifest(folder)
        return found.position if found else 0

    with kept(it.core.settings.data, it.core.database_url) as process:
        for start in range(0, ENOUGH_EVENTS, 10_000):
            answer = await it.core.ingest.accept(calls[start : start + 10_000], OFFICE, way_in="test")
            assert answer.recorded == 10_000
        wait_until(lambda: written() == ENOUGH_EVENTS, "the columns to be written", within_s=300)
        assert heavy_in(process) == []
    assert process.returncode == 0


_FORGETFUL = """
import os, threading
from bin.processes.columns import _in_a_child

def work():
    print(os.getpid(), flush=True)
    while True:
        pass

_in_a_child(work, threading.Event())
"""


def test_what_a_killed_process_had_begun_ends_with_it() -> None:
    # given a child at work that never looks up
    with subprocess.Popen([sys.executable, "-c", _FORGETFUL], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        # when its parent is killed
        process.kill()
    # then it ends, too
    try:
        wait_until(lambda: not _is_alive(child), "the end of the child")
    finally:
        if _is_alive(child):
            os.kill(child, signal.SIGKILL)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
