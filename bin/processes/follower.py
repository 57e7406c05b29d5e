"""Threads that follow the read models beside the later projectors, until told to stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import structlog

from bin.compose import Core, core
from bin.settings import Settings

__all__ = ["Follower"]

LONGEST_PAUSE_S = 10.0
_OPENING = threading.Lock()
"""Of two threads that start at once the first makes what an installation has one of, its key file, say."""

log = structlog.get_logger()


class Follower(threading.Thread):
    """Does a little again and again until *stopping* is set; a lost database is waited for.

    Args:
        name: what is done, for the log: `<name>_interrupted`.
        making: gives what does a little, and answers True when there is nothing more to do for now.
        look_every_s: how long to wait then.
        waiting: while it is set nothing is done: others have the processors first.
    """

    def __init__(
        self,
        settings: Settings,
        stopping: threading.Event,
        *,
        name: str,
        making: Callable[[Core], Callable[[], Awaitable[bool]]],
        look_every_s: float,
        waiting: threading.Event | None = None,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._settings = settings
        self._stopping = stopping
        self._making = making
        self._look_every_s = look_every_s
        self._waiting = waiting or threading.Event()

    def run(self) -> None:
        """Follow, and begin again after whatever fails."""
        pause_s = self._look_every_s
        while not self._stopping.is_set():
            try:
                asyncio.run(self._follow())
                pause_s = self._look_every_s
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told and tried again
                log.warning(f"{self.name}_interrupted", reason=f"{type(error).__name__}: {error}"[:300])
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            self._stopping.wait(pause_s)

    async def _follow(self) -> None:
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(_OPENING.acquire)
            try:
                url = self._settings.database_url or ""
                parts = await stack.enter_async_context(core(self._settings, url, pool_size=2))
            finally:
                _OPENING.release()
            done = self._making(parts)
            while not self._stopping.is_set():
                if self._waiting.is_set() or await done():
                    await asyncio.to_thread(self._stopping.wait, self._look_every_s)
