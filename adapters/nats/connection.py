"""One connection to the bus, kept for as long as its owner lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import nats
import nats.errors
import structlog
from nats.aio.client import Client

__all__ = ["connected", "connected_at_once"]

log = structlog.get_logger()


async def connected_at_once(url: str, *, timeout_s: float = 3) -> Client:
    """Connect, or raise; a connection that is lost later is not made again.

    The library leaves the socket of a connection open that the server refused: here it is closed.

    Raises:
        OSError, TimeoutError, nats.errors.Error: nobody is there, or the server refused it.
    """

    async def quiet(_error: Exception) -> None:
        """Whoever asked is told by what is raised."""

    client = Client()
    try:
        await client.connect(url, allow_reconnect=False, connect_timeout=int(timeout_s), error_cb=quiet)
    except BaseException:
        await client.close()
        raise
    return client


async def connected(url: str, *, name: str, on_return: Callable[[], None] = lambda: None) -> Client:
    """Connect, and try until it is done; a connection that is lost later comes back by itself.

    Args:
        name: how the server lists this connection.
        on_return: called whenever a lost connection is back.
    """
    pause_s = 0.1
    told = opened = False

    async def lost() -> None:
        log.warning("bus_lost", connection=name)

    async def back() -> None:
        log.info("bus_back", connection=name)
        on_return()

    async def failed(error: Exception) -> None:
        nonlocal told
        if not opened and not told:  # the library goes on trying, and raises nothing
            told = True
            log.warning("bus_away", connection=name, reason=str(error) or type(error).__name__)
        log.debug("bus_error", connection=name, reason=type(error).__name__)

    while True:
        try:
            client = await nats.connect(
                url,
                name=name,
                connect_timeout=3,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.25,
                ping_interval=20,
                disconnected_cb=lost,
                reconnected_cb=back,
                error_cb=failed,
                allow_reconnect=True,
            )
            opened = True
            return client  # noqa: TRY300 - behind the one statement that may fail
        except (OSError, TimeoutError, nats.errors.Error) as error:
            if not told:
                log.warning("bus_away", connection=name, reason=type(error).__name__)
                told = True
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, 2.0)
