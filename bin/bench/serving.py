"""A real `touchlog serve` on a scratch folder, and a load process beside it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
import psycopg

import projections  # noqa: F401 - registers every projection
from bin.bench.http_load import Done, Order
from bin.settings import Settings
from domain.errors import Unavailable
from projections.projection import PROJECTIONS

__all__ = ["Load", "Serving"]

ROOT = Path(__file__).resolve().parents[2]
DRAINED_WITHIN_S = 600


class Serving:
    """One `touchlog serve` in a process of its own: PostgreSQL, NATS, HTTP, projectors, relay.

    Args:
        read_models: keep up these only; all by default.
    """

    def __init__(self, folder: Path, *arguments: str, read_models: Sequence[str] = ()) -> None:
        self.data = folder
        self._arguments = arguments
        if read_models:
            self._arguments += ("--projections", ",".join(read_models))
        self._read_models = tuple(read_models) or tuple(PROJECTIONS)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, and wait until it is ready.

        Raises:
            Unavailable: it ended instead; with the last it said.
        """
        environment = Settings.load(environ={}, data=self.data).environment()
        kept = {name: value for name, value in environment.items() if not name.startswith("TOUCHLOG_")}
        self.data.parent.mkdir(parents=True, exist_ok=True)
        said = (self.data.parent / f"{self.data.name}.said").open("ab")
        with said:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "bin.cli",
                    "serve",
                    "--data",
                    str(self.data),
                    "--port",
                    "0",
                    *self._arguments,
                ],
                stdout=subprocess.PIPE,
                stderr=said,
                cwd=ROOT,
                env={**kept, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", "TOUCHLOG_LOG_LEVEL": "warning"},
                start_new_session=True,
            )
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            last = Path(said.name).read_text(errors="replace").strip().splitlines()[-3:]
            raise Unavailable(f"serve did not come up: {' / '.join(last)}")

    @property
    def pid(self) -> int:
        """The process of serve itself."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """End serve itself at once, and only it."""
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def stop(self) -> None:
        """Stop it as a person would."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                self.kill()

    def told(self) -> dict[str, Any]:
        """What serve tells other commands: URLs and process numbers."""
        found: dict[str, Any] = json.loads((self.data / "run" / "servers.json").read_bytes())
        return found

    @property
    def database_url(self) -> str:
        """The database of the log."""
        return str(self.told()["database_url"])

    @property
    def key(self) -> str:
        """The administrator's key."""
        return (self.data / "admin.key").read_text().strip()

    def address(self) -> tuple[str, int]:
        """Host and port of HTTP."""
        parts = urlsplit(self.told()["http_url"])
        return parts.hostname or "", parts.port or 0

    def order(self, **more: Any) -> Order:
        """An order for the load process."""
        host, port = self.address()
        return Order(host=host, port=port, key=self.key, **more)

    def lag_positions(self, conn: psycopg.Connection[Any], pace: str | None = None) -> int:
        """How many events the slowest read model (of *pace*; default: of all) is behind the log."""
        names = [name for name in self._read_models if pace in (None, PROJECTIONS[name].pace)]
        row = conn.execute(
            "SELECT h.position - coalesce((SELECT min(position) FROM touchlog.projections "
            "WHERE state = 'live' AND name = ANY(%s)), 0) FROM touchpoint_log.head h",
            (names,),
        ).fetchone()
        assert row is not None
        return int(row[0])

    def drained_s(
        self, conn: psycopg.Connection[Any], pace: str | None = None, *, within_s: float = DRAINED_WITHIN_S
    ) -> float:
        """Wait until every read model is at the head; how long that took."""
        started = time.perf_counter()
        while self.lag_positions(conn, pace):
            if time.perf_counter() - started > within_s:
                raise Unavailable(f"The read models did not come to the head within {within_s:,.0f} s.")
            time.sleep(0.005)
        return time.perf_counter() - started


class Load:
    """The load process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bin.bench.http_load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )

    def prepare(self, order: Order) -> None:
        """Have it make its requests; returns when they are there."""
        self._say(msgspec.json.encode(order))
        self._answer()

    def go(self) -> Done:
        """Have it post them; returns when all are answered."""
        self.begin()
        return self.done()

    def begin(self) -> None:
        """Have it post them, and do not wait."""
        self._say(b"go")

    def done(self) -> Done:
        """Wait until all are answered."""
        return msgspec.json.decode(self._answer(), type=Done)

    def _say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def _answer(self) -> bytes:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Unavailable("The load process ended; what it said stands above.")
        return line

    def close(self) -> None:
        """End it, also where it is in the middle of posting."""
        with suppress(OSError, subprocess.TimeoutExpired):
            self._process.communicate(timeout=2)
        self._process.kill()
        self._process.wait()
