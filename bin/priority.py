"""How processes that nobody waits for let those go first that somebody does."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

__all__ = ["stand_back"]


def stand_back(niceness: int) -> None:
    """Let others have the processors first."""
    if not niceness:
        return
    os.nice(niceness)
    # Linux shares processors out among sessions first, and only within one by niceness; ours is our own.
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness))
