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

__all__ = ["Pressure", "stand_back", "stand_back_in_database"]


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

    def is_high(self) -> bool:
        """Whether somebody waited for a processor most of the time since this was last asked."""
        waited_us, looked_s = self._look(), self._clock()
        share = (waited_us - self._waited_us) / max((looked_s - self._looked_s) * 1e6, 1.0)
        self._waited_us, self._looked_s = waited_us, looked_s
        return share >= self._high
