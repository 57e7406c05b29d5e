"""The news that the log has grown: said at most every few milliseconds, heard by projectors and the relay."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Self

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error

from adapters.nats.connection import connected

__all__ = ["AGAIN_AFTER_S", "HeadListener", "announce", "head_subject"]

AGAIN_AFTER_S = 0.005
"""At most one announcement in so many seconds: a thousand commits are one piece of news."""

ENDS_WITHIN_S = 5.0

log = structlog.get_logger()


def head_subject(prefix: str) -> str:
    """Where the newest position is told; the message is its digits."""
    return f"{prefix}.head"


async def announce(url: str, prefix: str, head: Callable[[], int]) -> None:
    """Tell each new value of *head*, until cancelled. Whoever misses one looks by itself a little later."""
    client = await connected(url, name="touchlog head")
    told = 0
    try:
        while True:
            position = head()
            if position > told and client.is_connected:
                try:
                    await client.publish(head_subject(prefix), str(position).encode())
                    told = position
                except Error:
                    log.debug("head_not_told", position=position)
            await asyncio.sleep(AGAIN_AFTER_S)
    finally:
        await _closed(client)


async def _closed(client: Client) -> None:
    """Close without waiting for a server that is gone."""
    try:
        async with asyncio.timeout(1):
            await client.close()
    except (TimeoutError, Error):
        pass


class HeadListener:
    """Hears announcements on a thread of its own, and sets an event for one that works without an event loop.

    A context: the thread and its connection end with it.
    """

    def __init__(self, url: str | None, prefix: str) -> None:
        self.news = threading.Event()
        self.head = 0  # the newest position that was told; 0 before any was
        self._prefix = prefix
        self._over = asyncio.Event()
        self._thread: threading.Thread | None = None
        if url:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._run, args=(url,), name="head-listener", daemon=True)
            self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(ENDS_WITHIN_S)

    def wait(self, at_most_s: float) -> bool:
        """Wait for news; True when there are some."""
        heard = self.news.wait(at_most_s)
        self.news.clear()
        return heard

    def _run(self, url: str) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_over(url))

    async def _until_over(self, url: str) -> None:
        listening = asyncio.create_task(self._listen(url))
        await self._over.wait()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, url: str) -> None:
        client = await connected(url, name="touchlog projectors")

        async def heard(told: Msg) -> None:
            if told.data.isdigit():
                self.head = int(told.data)
            self.news.set()

        try:
            await client.subscribe(head_subject(self._prefix), cb=heard)
            await asyncio.Event().wait()
        finally:
            await _closed(client)
