"""http: one process that serves the API and the pages, also while its database is away."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from types import FrameType
from typing import Any

import structlog
import uvicorn
import uvloop

from adapters.http.app import build
from adapters.http.house import House
from adapters.nats.heads import announce
from adapters.postgres.api_keys import ApiKeys
from adapters.postgres.outage import DATABASE_AWAY
from bin import __version__
from bin.compose import core
from bin.settings import Settings
from domain.errors import Misconfigured

__all__ = ["HttpPart", "run", "serve_http"]

log = structlog.get_logger()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run *main* on the fast event loop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@asynccontextmanager
async def _opened(house: House, settings: Settings, database_url: str) -> AsyncIterator[None]:
    """Open *house* on a database that is there."""
    async with core(settings, database_url) as parts:
        keys = ApiKeys(parts.pool)
        await keys.ensure_admin(settings.data / "admin.key")
        telling = None
        if settings.nats_url:
            writer = parts.writer
            telling = asyncio.create_task(
                announce(settings.nats_url, settings.subject_prefix, lambda: writer.head)
            )
        counting = asyncio.create_task(house.channels.keep_writing(parts.pool))
        house.opened(parts, keys)
        try:
            yield
        finally:
            house.shut()
            for task in (counting, telling):
                if task is not None:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)


class HttpPart(uvicorn.Server):
    """The server of one process; when it begins to close, open streams end and what waits is answered."""

    def __init__(self, settings: Settings) -> None:
        self.house = House(__version__)
        self.settings = settings
        self.closed = asyncio.Event()
        super().__init__(
            uvicorn.Config(
                build(self.house),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                http="httptools",
                timeout_keep_alive=75,
                timeout_graceful_shutdown=int(max(1, settings.stop_timeout_s - 2)),
            )
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to close, because of a signal."""
        self.house.closing.set()
        super().handle_exit(sig, frame)

    async def serve_on(self, listener: socket.socket) -> None:
        """Serve until a signal comes or `should_exit` is set."""
        keeping = asyncio.create_task(_keep_open(self.house, self.settings, self.closed))
        try:
            await self.serve(sockets=[listener])
        finally:
            self.house.closing.set()
            self.closed.set()
            await keeping


def serve_http(settings: Settings, listener: socket.socket) -> None:
    """Serve on *listener* until SIGTERM or SIGINT; what waits for its commit then is still answered."""
    # uvicorn raises the signal again once it has closed: then there is still our own to close.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    async def serve() -> None:
        await HttpPart(settings).serve_on(listener)

    run(serve)


async def _keep_open(house: House, settings: Settings, closed: asyncio.Event) -> None:
    """Open the house as soon as its database answers, and keep it open until *closed*."""
    pause_s = 0.1
    while not closed.is_set():
        try:
            async with _opened(house, settings, settings.database_url or ""):
                log.info("http_opened")
                await closed.wait()
        except Misconfigured as error:
            log.error("http_not_opened", reason=str(error))  # noqa: TRY400 - expected: its text is enough
            pause_s = 5.0
        except DATABASE_AWAY as error:
            log.warning("http_waits_for_database", reason=type(error).__name__)
        except Exception:
            log.exception("http_not_opened")
            pause_s = 2.0
        with suppress(TimeoutError):
            await asyncio.wait_for(closed.wait(), pause_s)
        pause_s = min(pause_s * 2, 5.0)
