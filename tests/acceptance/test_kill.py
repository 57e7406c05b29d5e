"""kill -9 under load: nothing acknowledged is lost, nothing is there twice. The long trial is `bin/soak kill`."""

from __future__ import annotations

import socket
from pathlib import Path

from bin.soaks.kill import TARGETS, run_kill


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def test_what_was_acknowledged_is_in_the_log_once_although_each_part_is_killed(tmp_path: Path) -> None:
    """Clients send again what was not acknowledged, with the same ids."""
    found = run_kill(tmp_path, "all", kills=len(TARGETS), rate=400, port=free_port(), gap_s=(0.3, 1.0))

    assert found.kills == len(TARGETS)
    assert found.acknowledged > 500
    assert (found.lost, found.doubled, found.unknown, found.misplaced, found.gaps) == (0, 0, 0, 0, 0), found
    assert (found.contradicted, found.damaged) == (0, 0), found
    assert found.differing == [], found
