"""What every room of HTTP works with: the core, once the database is there, the keys, and the figures."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from psycopg_pool import AsyncConnectionPool

from adapters.analysis.funnels import Funnels
from adapters.analysis.retentions import Retentions
from adapters.analysis.segments import Segments
from adapters.analysis.snapshots import Snapshots
from adapters.answers.feed import Feed
from adapters.answers.history import Histories
from adapters.endpoints import Endpoints
from adapters.http.figures import Figures
from adapters.intake.ingest import Ingest
from adapters.keys import KeyFile
from adapters.postgres.api_keys import ApiKeys
from adapters.postgres.channel_counts import ChannelCounts
from adapters.postgres.rejected import Rejected
from adapters.postgres.subjects import Subjects
from adapters.postgres.writer import Writer
from adapters.records import Records
from adapters.refusal import Refusal

__all__ = ["Core", "House", "HttpSettings"]


REFUSAL_TOLD_S = 30.0
"""How long a refusal is told of while nobody tries anew: where nothing is sent, nobody knows whether there is room again."""


class HttpSettings(Protocol):
    """The settings that matter here (`bin.settings.Settings` has them)."""

    @property
    def data(self) -> Path: ...
    @property
    def public_url(self) -> str: ...
    @property
    def timezone(self) -> str: ...


class Core(Protocol):
    """The parts that requests use (`bin.compose.Core` has them)."""

    @property
    def settings(self) -> HttpSettings: ...
    @property
    def database_url(self) -> str: ...
    @property
    def pool(self) -> AsyncConnectionPool[Any]: ...
    @property
    def keys(self) -> KeyFile: ...
    @property
    def subjects(self) -> Subjects: ...
    @property
    def writer(self) -> Writer: ...
    @property
    def records(self) -> Records: ...
    @property
    def rejected(self) -> Rejected: ...
    @property
    def ingest(self) -> Ingest: ...
    @property
    def feed(self) -> Feed: ...
    @property
    def histories(self) -> Histories: ...
    @property
    def funnels(self) -> Funnels: ...
    @property
    def snapshots(self) -> Snapshots: ...
    @property
    def retentions(self) -> Retentions: ...
    @property
    def segments(self) -> Segments: ...


class House:
    """One HTTP process: what it serves from, and whether it is closing.

    It stands before the database does: until `opened` was called every answer but /healthz is 503.
    """

    def __init__(self, version: str) -> None:
        self.version = version
        self.figures = Figures()
        self.channels = ChannelCounts()
        self.closing = asyncio.Event()
        self._opened = asyncio.Event()
        self._core: Core | None = None
        self._keys: ApiKeys | None = None
        self._endpoints: Endpoints | None = None
        self._refused: tuple[str, float, int] | None = None

    def opened(self, core: Core, keys: ApiKeys) -> None:
        """Serve from *core* from now on."""
        self._core, self._keys = core, keys
        self._endpoints = None
        self._opened.set()

    def shut(self) -> None:
        """The core is being taken apart: no request may use it any more."""
        self._core = self._keys = self._endpoints = None
        self._opened.clear()

    async def until_open(self, at_most_s: float) -> None:
        """Wait until there is something to serve from; after *at_most_s* the first use tells that there is not."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._opened.wait(), at_most_s)

    @property
    def is_open(self) -> bool:
        """Whether there is something to serve from."""
        return self._core is not None

    def append_refused(self, error: Exception) -> None:
        """Note that an append was refused, as any other would have been."""
        if self._core is not None:
            self._refused = (str(error), time.monotonic(), self._core.writer.commits)

    @property
    def appends_refused(self) -> str | None:
        """Why appends are refused, by the last that was; None once another was recorded, or nobody tried for a while."""
        if self._core is None or self._refused is None:
            return None
        why, at_s, commits = self._refused
        if self._core.writer.commits > commits or time.monotonic() - at_s > REFUSAL_TOLD_S:
            return None
        return why

    @property
    def core(self) -> Core:
        """The parts behind; raises a 503 while there are none."""
        if self._core is None:
            raise _not_yet()
        return self._core

    @property
    def keys(self) -> ApiKeys:
        """The API keys; raises a 503 while there are none."""
        if self._keys is None:
            raise _not_yet()
        return self._keys

    @property
    def endpoints(self) -> Endpoints:
        """The endpoints of webhooks; raises a 503 while there are none."""
        if self._endpoints is None:
            core = self.core
            self._endpoints = Endpoints(core.pool, core.subjects, core.keys)
        return self._endpoints


def _not_yet() -> Refusal:
    return Refusal(
        503,
        "unavailable",
        "touchlog is starting and waits for its database; ask again in a moment.",
        headers={"Retry-After": "1"},
    )
