"""relay: one process between log and bus: every event out in order, requests with events in."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress

import structlog
from nats.aio.client import Client
from nats.errors import Error

from adapters.embedded.nats import Nats, reload_users
from adapters.nats.connection import connected
from adapters.nats.doors import Doors
from adapters.nats.heads import announce
from adapters.nats.inbound import Inbound, prepare
from adapters.nats.relay import Relay
from adapters.nats.requests import Responder
from adapters.postgres.api_keys import ApiKeys
from adapters.postgres.channel_counts import ChannelCounts
from adapters.postgres.outage import DATABASE_AWAY
from bin.compose import core
from bin.processes.http import run
from bin.settings import Settings
from domain.errors import TouchlogError

__all__ = ["relay"]

KEYS_LOOKED_AT_EVERY_S = 2.0

log = structlog.get_logger()


def relay(settings: Settings) -> None:
    """Relay until SIGTERM or SIGINT; a database or a bus that is away is waited for."""
    if hasattr(os, "nice"):
        os.nice(10)  # the bus is a copy: appends and read models go first when the processors are all at work
    run(lambda: _relay(settings))


async def _relay(settings: Settings) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    if not settings.nats_url:
        log.info("relay_without_bus")
        await stopping.wait()
        return
    pause_s = 0.1
    while not stopping.is_set():
        working = asyncio.create_task(_work(settings, settings.nats_url, stopping))
        until = asyncio.create_task(stopping.wait())
        await asyncio.wait((working, until), return_when=asyncio.FIRST_COMPLETED)
        until.cancel()
        if stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(
                    asyncio.gather(working, return_exceptions=True), settings.stop_timeout_s - 2
                )
            return
        error = working.exception()
        if isinstance(error, (*DATABASE_AWAY, TouchlogError)):
            log.warning(
                "relay_waits", reason=str(error) if isinstance(error, TouchlogError) else type(error).__name__
            )
        else:
            log.error("relay_failed", exc_info=error)
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), pause_s)
        pause_s = min(pause_s * 2, 5.0)


async def _work(settings: Settings, nats_url: str, stopping: asyncio.Event) -> None:
    """Do all of it until *stopping*."""
    prefix = settings.subject_prefix
    embedded = _is_embedded(settings, nats_url)
    async with core(settings, settings.database_url or "", pool_size=4) as parts:
        keys = ApiKeys(parts.pool)
        relay_back, inbound_back = asyncio.Event(), asyncio.Event()

        def returned() -> None:
            relay_back.set()
            inbound_back.set()

        client = await connected(nats_url, name="touchlog relay", on_return=returned)
        responder = Responder(client, prefix, parts.ingest, keys, parts.feed, subject_names_key=embedded)
        await responder.start()
        counts = ChannelCounts()

        def taker(opened: Client, key_id: str | None) -> Inbound:
            return Inbound(opened, prefix, parts.ingest, parts.rejected, keys, counts, key_id=key_id)

        tasks = [
            asyncio.create_task(counts.keep_writing(parts.pool)),
            asyncio.create_task(Relay(client, prefix, parts.feed, parts.pool, back=relay_back).run()),
            asyncio.create_task(announce(nats_url, prefix, lambda: parts.writer.head)),
        ]
        if embedded:
            tasks.append(asyncio.create_task(_keep_users(settings, keys, taker)))
        else:
            tasks.append(
                asyncio.create_task(_take_inbound(client, prefix, taker(client, None), inbound_back))
            )
        try:
            waiting = asyncio.create_task(stopping.wait())
            await asyncio.wait((waiting, *tasks), return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            await responder.finish()
            with suppress(Exception):
                async with asyncio.timeout(2):
                    await client.close()
        for end in ended:
            if isinstance(end, Exception):
                raise end


def _is_embedded(settings: Settings, nats_url: str) -> bool:
    """Whether the bus is our own server, which puts the id of each key into the subject of its requests."""
    with suppress(OSError):
        password = (settings.data / "nats.password").read_text().strip()
        return bool(password) and f":{password}@" in nats_url
    return False


async def _take_inbound(client: Client, prefix: str, inbound: Inbound, back: asyncio.Event) -> None:
    """Take what adapters leave on a server that is not ours, until cancelled.

    Args:
        back: set when a lost connection is back: the server may have lost the queue meanwhile.
    """
    await inbound.start()
    try:
        while True:
            back.clear()
            try:
                await prepare(client, prefix, mqtt=False)
                await back.wait()
            except Error as error:
                log.warning("inbound_waits", reason=type(error).__name__)
                await asyncio.sleep(KEYS_LOOKED_AT_EVERY_S)
    finally:
        await inbound.finish()


async def _keep_users(settings: Settings, keys: ApiKeys, taker: Callable[[Client, str], Inbound]) -> None:
    """Let the embedded server know the keys whenever one was added or revoked, and take what they leave there."""

    def tell() -> None:
        reload_users(settings.data, secret_file=settings.secret_file, subject_prefix=settings.subject_prefix)

    server = Nats(settings.data, secret_file=settings.secret_file, subject_prefix=settings.subject_prefix)
    doors = Doors(server, settings.subject_prefix, taker, tell)
    known: dict[str, str] | None = None
    try:
        while True:
            try:
                found = await keys.nats_users()
                if found != known:
                    for _ in range(
                        2
                    ):  # nats-server joins a new account's import with its service at the second
                        await asyncio.to_thread(tell)
                        await asyncio.sleep(0.25)
                    known = found
                    log.info("bus_users_told", keys=len(found))
                await doors.keep(found)
            except DATABASE_AWAY as error:
                log.debug("bus_users_not_read", reason=type(error).__name__)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told and tried again
                log.warning("bus_users_not_told", reason=type(error).__name__)
            await asyncio.sleep(KEYS_LOOKED_AT_EVERY_S)
    finally:
        await doors.shut()
