"""How processes that nobody waits for let those go first that somebody does."""

from __future__ import annotations

import os
import re
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg

__all__ = ["LOOKED_AT_EVERY_S", "Pressure", "Rush", "stand_back", "stand_back_in_database"]


def stand_back(niceness: int) -> None:
    """Let others have the processors first.

    Args:
        niceness: as of nice(2): 0 changes nothing, 19 takes what nobody else wants.
    """
    if not niceness:
        return
    os.nice(niceness)
    # Linux shares processors out among sessions first, and only within one by niceness; ours is our own.
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness))


def stand_back_in_database(conn: psycopg.Connection[Any], niceness: int) -> bool:
    """Have the database's process that serves *conn* let others go first, where it runs beside us on Linux.

    PostgreSQL has no priority of its own: what a session does costs the others' answers their turn on the processors.
    A server on another machine, in another container or of another user is left as it is.

    Returns:
        whether it could be done.
    """
    try:
        if not conn.info.host.startswith("/") or not hasattr(socket, "SO_PEERCRED"):
            return False
        with socket.socket(fileno=os.dup(conn.fileno())) as peer:
            credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        postmaster = struct.unpack("3i", credentials)[0]
        backend = conn.info.backend_pid
        # The number is one of our own system's only if it is a child of whom the socket belongs to.
        parent = Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1]
        if int(parent) != postmaster:
            return False
        os.setpriority(os.PRIO_PROCESS, backend, niceness)
    except (OSError, ValueError, psycopg.Error):
        return False
    return True


_WAITED = re.compile(r"^some .*total=(\d+)", re.MULTILINE)


class Pressure:
    """Tells whether the processors are short: whether who has work to do waits for one.

    By what Linux counts (pressure stall information, Documentation/accounting/psi.rst); where nothing is counted
    they are never short.

    Args:
        high: the share of the time since the last look in which somebody waited, from which on they are short.
    """

    def __init__(
        self,
        *,
        high: float = 0.4,
        counted: Path = Path("/proc/pressure/cpu"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._high = high
        self._counted = counted
        self._clock = clock
        self._waited_us, self._looked_s = self._look(), clock()

    def _look(self) -> int:
        try:
            found = _WAITED.search(self._counted.read_text())
        except OSError:
            return 0
        return int(found[1]) if found else 0

    def share(self) -> float:
        """The share of the time since this was last asked in which somebody waited for a processor, 0 to 1."""
        waited_us, looked_s = self._look(), self._clock()
        share = (waited_us - self._waited_us) / max((looked_s - self._looked_s) * 1e6, 1.0)
        self._waited_us, self._looked_s = waited_us, looked_s
        return share

    def is_high(self) -> bool:
        """Whether somebody waited for a processor much of the time since this was last asked."""
        return self.share() >= self._high


RUSH_EVENTS_PER_S = 2_000
"""Where the log grows as fast as this and processors are short, what nobody waits for waits for the lull behind it."""
LOOKED_AT_EVERY_S = 0.25
BEGINS_AT, LASTS_ABOVE = 0.3, 0.15
"""Shares of the time in which somebody waits for a processor: as events come in groups it goes up and down."""


class Rush:
    """Tells whether the log is in a rush for which processors are short.

    Args:
        pressure: tells whether they are.
        clock: seconds, of a clock that only goes forward.
    """

    def __init__(self, pressure: Pressure | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._pressure = pressure or Pressure()
        self._clock = clock
        self._looked_s = clock()
        self._head: int | None = None
        self._is_on = False

    def is_on(self, head: int) -> bool:
        """Whether it is, with the newest position at *head*; looked at anew a few times a second."""
        if self._clock() - self._looked_s >= LOOKED_AT_EVERY_S:
            self.look(head)
        return self._is_on

    def look(self, head: int) -> bool:
        """Whether it is, by what came since the last look; the next look begins here."""
        now_s = self._clock()
        grew = 0 if self._head is None else head - self._head
        is_short = self._pressure.share() >= (LASTS_ABOVE if self._is_on else BEGINS_AT)
        self._is_on = is_short and grew > RUSH_EVENTS_PER_S * (now_s - self._looked_s)
        self._looked_s, self._head = now_s, head
        return self._is_on
