"""kill -9 under load: nothing acknowledged is lost, nothing is there twice. The long trial is `bin/soak kill`."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bin.soaks.kill import run_kill


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.mark.parametrize("target", ["http", "postgres", "projectors", "serve"])
def test_what_was_acknowledged_is_in_the_log_once_although_a_part_is_killed(
    tmp_path: Path, target: str
) -> None:
    """Clients send again what was not acknowledged, with the same ids."""
    found = run_kill(tmp_path, target, kills=2, rate=400, port=free_port(), gap_s=(0.3, 1.0))

    assert found.kills == 2
    assert found.acknowledged > 200
    assert (found.lost, found.doubled, found.unknown, found.misplaced, found.gaps) == (0, 0, 0, 0, 0), found
    assert (found.contradicted, found.damaged) == (0, 0), found
    assert found.differing == [], found
