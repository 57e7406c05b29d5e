"""kill -9 under load: nothing acknowledged is lost, nothing is there twice. The long trial is `bin/soak kill`."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bin.soaks.kill import TARGETS, run_kill


@contextmanager
def held_port() -> Iterator[int]:
    """Give a port that no other process is given meanwhile, not even while serve, killed, has left it.

    Linux lets serve listen beside a socket that only holds the port; elsewhere it is free, and no more.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        if sys.platform != "linux":
            held.close()
        yield port


def test_what_was_acknowledged_is_in_the_log_once_although_each_part_is_killed(tmp_path: Path) -> None:
    """Clients send again what was not acknowledged, with the same ids."""
    with held_port() as port:
        found = run_kill(tmp_path, "all", kills=len(TARGETS), rate=400, port=port, gap_s=(0.3, 1.0))

    assert found.kills == len(TARGETS)
    assert found.acknowledged > 500
    assert (found.lost, found.doubled, found.unknown, found.misplaced, found.gaps) == (0, 0, 0, 0, 0), found
    assert (found.contradicted, found.damaged) == (0, 0), found
    assert found.differing == [], found
