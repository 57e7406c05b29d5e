"""The thread that brings the search index on behind the profiles, beside the later projectors."""

from __future__ import annotations

import asyncio
import threading

import structlog

from adapters.profiles import Profiles
from adapters.search_index import SearchIndex
from bin.compose import Core, core
from bin.settings import Settings

__all__ = ["Indexer", "search_index"]

LOOK_EVERY_S = 1.0
LONGEST_PAUSE_S = 10.0

log = structlog.get_logger()


def search_index(parts: Core) -> SearchIndex:
    """The index of an installation."""
    return SearchIndex(
        parts.pool,
        parts.keys,
        Profiles(parts.pool, parts.histories),
        region=parts.settings.phone_region,
    )


class Indexer(threading.Thread):
    """Follows until *stopping* is set; a lost database is waited for."""

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        super().__init__(name="indexer", daemon=True)
        self._settings = settings
        self._stopping = stopping

    def run(self) -> None:
        """Follow, and begin again after whatever fails."""
        pause_s = LOOK_EVERY_S
        while not self._stopping.is_set():
            try:
                asyncio.run(self._follow())
                pause_s = LOOK_EVERY_S
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told and tried again
                log.warning("search_index_interrupted", reason=f"{type(error).__name__}: {error}"[:300])
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            self._stopping.wait(pause_s)

    async def _follow(self) -> None:
        async with core(self._settings, self._settings.database_url or "", pool_size=2) as parts:
            index = search_index(parts)
            while not self._stopping.is_set():
                if await index.catch_up(windows=1):
                    await asyncio.to_thread(self._stopping.wait, LOOK_EVERY_S)
