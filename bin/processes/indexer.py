"""The search index, brought on behind the profiles by a thread beside the later projectors."""

from __future__ import annotations

import threading
from functools import partial

from adapters.answers.profiles import Profiles
from adapters.answers.search_index import SearchIndex
from bin.compose import Core
from bin.processes.follower import Follower
from bin.settings import Settings

__all__ = ["indexer", "search_index"]

LOOK_EVERY_S = 1.0


def search_index(parts: Core) -> SearchIndex:
    """The index of an installation."""
    return SearchIndex(
        parts.pool,
        parts.keys,
        Profiles(parts.pool, parts.histories),
        region=parts.settings.phone_region,
    )


def indexer(settings: Settings, stopping: threading.Event, waiting: threading.Event) -> Follower:
    """The thread that follows the profiles until *stopping* is set; it stands still while *waiting* is."""
    return Follower(
        settings,
        stopping,
        name="search_index",
        making=lambda parts: partial(search_index(parts).catch_up, windows=1),
        look_every_s=LOOK_EVERY_S,
        waiting=waiting,
    )
