"""Waiting for a condition with a deadline, so that no test sleeps for a guess."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
EVERY_S = 0.02


def wait_until(condition: Callable[[], T], what: str, *, within_s: float = 60) -> T:
    """Ask *condition* until it gives something true, and give that.

    Raises:
        AssertionError: it was never true *within_s*; says *what* was waited for.
    """
    deadline = time.monotonic() + within_s
    while True:
        if answer := condition():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {within_s} s in vain: {what}.")
        time.sleep(EVERY_S)
