"""What the compiled functions share: where they are kept once compiled, and how work is shared out.

They are kept in the user's cache folder (or `NUMBA_CACHE_DIR`), or where there is none to write to, in the system's
temporary folder.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numba.core.config as numba_config
import numpy as np
from numpy.typing import NDArray

__all__ = ["in_halves", "only_one"]

T = TypeVar("T")


def _cache_folder() -> Path:
    """A folder of ours alone."""
    try:
        folder = Path.home() / ".cache" / "touchlog" / "compiled"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # no home, or none that we may write to
        return Path(tempfile.mkdtemp(prefix=f"touchlog-compiled-{os.getuid()}-"))
    if os.access(folder, os.W_OK | os.X_OK):
        return folder
    return Path(tempfile.mkdtemp(prefix=f"touchlog-compiled-{os.getuid()}-"))


if not numba_config.CACHE_DIR:  # type: ignore[attr-defined]  # else compiled code would be put beside the source
    numba_config.CACHE_DIR = str(_cache_folder())  # type: ignore[attr-defined]


@contextmanager
def only_one() -> Iterator[bool]:
    """Whether this process is the only one that compiles; the system lets go of it when the process ends."""
    with (Path(numba_config.CACHE_DIR) / "compiling.lock").open("w") as lock:  # type: ignore[attr-defined]
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def in_halves(starts: NDArray[np.int64], threads: Any, work: Callable[[int, int], T]) -> list[T]:
    """Do some work on the groups from one to another: at once on two halves of the events where there are threads.

    Args:
        starts: begin of each group, and the end of the last.
        threads: an executor; what is compiled needs no lock of Python.
    """
    groups = len(starts) - 1
    if threads is None or groups < 1000:
        return [work(0, groups)]
    middle = int(np.searchsorted(starts, starts[-1] // 2))
    tasks = [threads.submit(work, a, b) for a, b in ((0, middle), (middle, groups))]
    return [task.result() for task in tasks]
