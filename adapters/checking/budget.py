"""A share of one core: what was used is counted in CPU time, of this process and of the database's for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

__all__ = ["Budget"]

BURST_S = 0.5
"""CPU seconds that may be used at once: what a tenth of a core gives in five seconds. A longer burst would be felt by
those who append at that time."""
PRESSED_REST = 4.0


class Budget:
    """Tells how long to rest so that no more than *share* of a core is used.

    Args:
        share: of one core; None rests never.
        cpu_s: the CPU time of this process; replaced in tests.
        clock_s: the time; replaced in tests.
    """

    def __init__(
        self,
        share: float | None,
        *,
        cpu_s: Callable[[], float] = time.process_time,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._share = share
        self._cpu_s = cpu_s
        self._clock_s = clock_s
        self._backend: Path | None = None
        self._backend_used_s = 0.0
        self.used_s = 0.0
        self._credit_s = BURST_S
        self._seen_s = (cpu_s(), clock_s())

    def watch(self, conn: psycopg.Connection[Any]) -> None:
        """Count the work of *conn*'s server process too, where it runs on this machine; else the time it takes counts."""
        row = conn.execute("SELECT pg_backend_pid()").fetchone()
        self._backend = None
        if row is not None:
            process = Path(f"/proc/{row[0]}")
            try:
                if process.joinpath("cmdline").read_bytes().startswith(b"postgres"):
                    self._backend = process / "schedstat"
                    self._backend_used_s = self._backend_s()
            except OSError:
                self._backend = None
        self._seen_s = (self._cpu_s(), self._clock_s())

    def _backend_s(self) -> float:
        if self._backend is not None:
            try:
                return int(self._backend.read_text().split()[0]) / 1e9
            except (OSError, ValueError, IndexError):
                self._backend = None
        return self._backend_used_s

    def rest_s(self, *, is_short: bool = False) -> float:
        """Note what was used since the last call; returns how long to rest now.

        Args:
            is_short: others wait for processors: nothing is used at once beyond what was rested for, and rests are
                PRESSED_REST times as long.
        """
        cpu_s, clock_s = self._cpu_s(), self._clock_s()
        backend_s = self._backend_s()
        waited_s = clock_s - self._seen_s[1]
        used_s = cpu_s - self._seen_s[0]
        used_s = (
            used_s + backend_s - self._backend_used_s if self._backend is not None else max(used_s, waited_s)
        )
        self._backend_used_s = backend_s
        self.used_s += used_s
        self._seen_s = (cpu_s, clock_s)
        if self._share is None:
            return 0.0
        most_s = 0.0 if is_short else BURST_S
        self._credit_s = min(self._credit_s + waited_s * self._share, most_s) - used_s
        if self._credit_s >= 0:
            return 0.0
        return -self._credit_s / self._share * (PRESSED_REST if is_short else 1.0)

    def rested(self) -> None:
        """Note that nothing was done since the last call: a rest gives credit and costs nothing."""
        clock_s = self._clock_s()
        if self._share is not None:
            self._credit_s = min(self._credit_s + (clock_s - self._seen_s[1]) * self._share, BURST_S)
        self._seen_s = (self._seen_s[0], clock_s)
