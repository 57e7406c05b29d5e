"""Doors: one for each API key's account on the embedded server, through which its messages are taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import psycopg
import structlog
from nats.aio.client import Client
from nats.errors import Error

from adapters.embedded import running
from adapters.embedded.nats import Nats, reload_users, users_of
from adapters.nats.connection import connected, connected_at_once
from adapters.nats.inbound import Inbound, prepare

__all__ = ["Doors", "let_in"]

WITHIN_S = 10.0
TOLD_EVERY = 20
"""Tries after which the server is told once more to read its users."""

log = structlog.get_logger()


class Doors:
    """Keeps a connection into the account of every key, and takes what lies there.

    Args:
        taker: makes what takes the messages of a connection; its second argument is the key's id.
        told: lets the running server read its configuration again.
    """

    def __init__(
        self, server: Nats, prefix: str, taker: Callable[[Client, str], Inbound], told: Callable[[], object]
    ) -> None:
        self._server = server
        self._prefix = prefix
        self._taker = taker
        self._told = told
        self._open: dict[str, tuple[Client, Inbound]] = {}
        self._back: set[str] = (
            set()
        )  # whose connection was lost: the server may have lost its streams meanwhile

    async def keep(self, key_ids: Iterable[str]) -> None:
        """Have a door for each of these keys and no others; one that fails is tried again with the next call."""
        wanted = set(key_ids)
        for key_id, (client, inbound) in list(self._open.items()):
            if key_id not in wanted or client.is_closed:
                del self._open[key_id]
                await _shut(client, inbound)
        for key_id in sorted(wanted - self._open.keys()):
            try:
                async with asyncio.timeout(WITHIN_S):
                    client = await connected(
                        self._server.url_in_account(key_id),
                        name=f"touchlog door {key_id}",
                        on_return=partial(self._back.add, key_id),
                    )
                    await prepare(client, self._prefix, mqtt=True)
                    inbound = self._taker(client, key_id)
                    await inbound.start()
            except (OSError, TimeoutError, Error) as error:
                log.warning("door_not_opened", key_id=key_id, reason=type(error).__name__)
                continue
            self._open[key_id] = (client, inbound)
        await self._prepare_again()
        standing = {key_id for key_id, (client, _) in self._open.items() if client.is_connected} - self._back
        if not standing <= self._server.opened:
            self._server.open(standing)
            await asyncio.to_thread(self._told)

    async def _prepare_again(self) -> None:
        """See to the streams of those who were away; what fails is tried again with the next call."""
        for key_id in sorted(self._back & self._open.keys()):
            self._back.discard(key_id)  # before it is looked at: it may be lost again meanwhile
            try:
                async with asyncio.timeout(WITHIN_S):
                    await prepare(self._open[key_id][0], self._prefix, mqtt=True)
            except (OSError, TimeoutError, Error) as error:
                self._back.add(key_id)
                log.warning("door_not_opened", key_id=key_id, reason=type(error).__name__)

    async def shut(self) -> None:
        """Take to the end what was begun, and let go."""
        opened, self._open = self._open, {}
        await asyncio.gather(*(_shut(client, inbound) for client, inbound in opened.values()))


async def _shut(client: Client, inbound: Inbound) -> None:
    await inbound.finish()
    with suppress(Exception):
        async with asyncio.timeout(2):
            await client.close()


def let_in(data: Path, *, secret_file: Path, subject_prefix: str) -> None:
    """Let the embedded server know the API keys as they are now, and open MQTT to the new ones before anybody uses them.

    Where no `serve` runs its next start does all this.
    """

    def told() -> bool:
        return reload_users(data, secret_file=secret_file, subject_prefix=subject_prefix)

    found = running(data)
    if not told() or found is None:
        return
    server = Nats(data, secret_file=secret_file, subject_prefix=subject_prefix)
    with suppress(OSError, psycopg.Error):
        new = [user.name for user in users_of(found.database_url) if user.name not in server.opened]
        if asyncio.run(_prepared(server, subject_prefix, new, told)):
            told()


async def _prepared(
    server: Nats, prefix: str, key_ids: Iterable[str], told: Callable[[], object]
) -> list[str]:
    """Those of *key_ids* that the server let in within a while; the others the relay opens, a little later.

    By a clock of its own: a client that connects may swallow the cancelling that a timeout is.
    """
    done = []
    for key_id in key_ids:
        until_s = time.monotonic() + WITHIN_S
        tries = 0
        while time.monotonic() < until_s:
            if await _prepared_now(server.url_in_account(key_id), prefix):
                done.append(key_id)
                break
            tries += 1
            if tries % TOLD_EVERY == 0:
                # Another process may have written the users as they were before this key; its own reading came last.
                await asyncio.to_thread(told)
            await asyncio.sleep(0.05)  # the server is reading its configuration; nothing tells when it has
    if done:
        server.open(done)
    return done


async def _prepared_now(url: str, prefix: str) -> bool:
    try:
        client = await connected_at_once(url)
        try:
            await prepare(client, prefix, mqtt=True)
        finally:
            await client.close()
    except (OSError, TimeoutError, Error):
        return False
    return True
