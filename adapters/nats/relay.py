"""The way out over the bus: every recorded event, in log order, into one JetStream stream.

The stream is a copy for those who listen, never the record: it is bounded, and what it lost is published
again from the log. It says itself how far it is: the id of its last message holds the position. Each
message is published under the expectation of the sequence before it, so that two relays cannot mix,
double or skip events.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, Header, PersistMode, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError
from psycopg_pool import AsyncConnectionPool

from adapters.answers.feed import Encoded, Feed
from adapters.nats.heads import head_subject
from adapters.nats.publishing import headers_of, publish_all
from adapters.nats.streams import add_fitting
from adapters.priority import LOOKED_AT_EVERY_S, Rush

__all__ = ["Relay", "stream_name", "subject_of"]

MAX_BYTES = 2**30
MAX_AGE = timedelta(days=7)
_BATCH = 500
_LOOK_AGAIN_S = 0.25
_GATHER_S = 0.02
"""While events keep coming they are taken some at a time: a page of few costs as much as one of many."""
MOST_BEHIND = 250_000
"""Events; a relay that is further behind waits no more: a rush is let pass, a rate that lasts is kept up with."""
_HEADERS_BYTES = 1024  # more than they ever take
_encode = msgspec.json.Encoder().encode
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")

log = structlog.get_logger()


def stream_name(prefix: str) -> str:
    """The stream of an installation."""
    return f"{_UNFIT.sub('_', prefix).upper()}_EVENTS"


@lru_cache(maxsize=4096)
def subject_of(prefix: str, type_: str) -> str:
    """The subject of an event: its type, with `_` for what no subject may hold."""
    tokens = [_UNFIT.sub("_", token) or "_" for token in type_.split(".")]
    return f"{prefix}.events.{'.'.join(tokens)}"


class Relay:
    """Publishes the log onward, for as long as it runs; appends never wait for it.

    Args:
        back: set when a lost connection is back: the server may have lost the stream meanwhile, or its end.
    """

    def __init__(
        self,
        client: Client,
        prefix: str,
        feed: Feed,
        pool: AsyncConnectionPool[Any],
        rush: Rush | None = None,
        back: asyncio.Event | None = None,
    ) -> None:
        self._client = client
        self._back = back or asyncio.Event()
        self._prefix = prefix
        self._stream = stream_name(prefix)
        self._feed = feed
        self._pool = pool
        self._news = asyncio.Event()
        self._rush = rush or Rush()
        self._head = 0  # the newest position that is known
        self._headers = b""  # with a place for the position, and for the sequence before
        self.position = 0
        self.published = 0

    async def run(self) -> None:
        """Relay until cancelled; after any failure the stream is asked anew how far it is."""

        async def heard(told: Msg) -> None:
            if told.data.isdigit():
                self._head = int(told.data)
            self._news.set()

        await self._client.subscribe(head_subject(self._prefix), cb=heard)
        pause_s = 0.1
        while True:
            try:
                js = self._client.jetstream(timeout=5)
                sequence = await self._resume(js)
                log.info("relay_resumed", position=self.position, sequence=sequence)
                pause_s = 0.1
                acks = _Acks(self._client)
                await acks.start()
                try:
                    while True:
                        sequence = await self._step(acks, sequence)
                finally:
                    await acks.stop()
            except _NotStored as refused:
                log.info("relay_overtaken", position=self.position, reason=str(refused))
            except Exception as error:  # noqa: BLE001 - bus or database away: both come back
                log.warning("relay_interrupted", reason=type(error).__name__, position=self.position)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 2.0)

    async def _resume(self, js: JetStreamContext) -> int:
        """Make the stream where there is none, and find how far it is; gives its last sequence."""
        self._back.clear()
        config = StreamConfig(
            name=self._stream,
            description="Every recorded event in log order; a copy, the log is the record",
            subjects=[f"{self._prefix}.events.>"],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            persist_mode=PersistMode.ASYNC,  # not one fsync a message: what is lost is published again
            discard=DiscardPolicy.OLD,
            max_bytes=MAX_BYTES,
            max_age=MAX_AGE.total_seconds(),
            duplicate_window=120,
            allow_direct=True,
        )
        try:
            info = await js.stream_info(self._stream)
        except NotFoundError:
            info = await add_fitting(js, config)
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(
                    "SELECT log_id, position, touchpoint_log.position_at(%s) FROM touchpoint_log.head",
                    (datetime.now(UTC) - MAX_AGE,),
                )
            ).fetchone()
        assert row is not None
        self._headers = headers_of(
            {
                "Content-Type": "application/cloudevents+json",
                Header.EXPECTED_STREAM: self._stream,
                Header.MSG_ID: f"{row[0]}:%d",
                Header.EXPECTED_LAST_SEQUENCE: "%d",
            }
        )
        head, oldest = int(row[1]), int(row[2])
        state = info.state
        self.position = oldest  # what is older would be discarded at once
        if state.messages:
            last = await js.get_msg(self._stream, state.last_seq)
            log_id, position = _message_id(last.headers)
            if log_id == row[0] and position is not None:
                self.position = min(position, head)
            else:
                log.warning("relay_stream_of_another_log", stream=self._stream, log_id=str(log_id))
        return state.last_seq

    async def _step(self, acks: _Acks, sequence: int) -> int:
        """Publish what is new, or wait for it; gives the stream's last sequence."""
        self._news.clear()
        if self._back.is_set():
            raise _NotStored("the bus was away")
        if self._rush.is_on(self._head) and self._head - self.position < MOST_BEHIND:
            await asyncio.sleep(LOOKED_AT_EVERY_S)
            return sequence
        events, following, self._head = await self._feed.encoded(after=self.position, limit=_BATCH)
        if not events:
            self.position = following
            try:
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._news.wait()
            except TimeoutError:
                pass
            return sequence
        # Each is stored only behind the one before it: the acknowledgement of the last speaks for all.
        reply, stored = acks.expected()
        last = len(events) - 1
        await publish_all(
            self._client,
            [
                (
                    subject_of(self._prefix, event.type),
                    reply if number == last else "",
                    self._headers % (event.position, sequence + number),
                    event.json,
                )
                for number, event in enumerate(map(self._fitting, events))
            ],
        )
        async with asyncio.timeout(10):
            await stored
        self.published += len(events)
        self.position = following
        if len(events) < _BATCH:
            await asyncio.sleep(_GATHER_S)
        return sequence + len(events)

    def _fitting(self, event: Encoded) -> Encoded:
        """The event; without its data, which GET /v1/events has at its position, where the server takes no more."""
        if len(event.json) + _HEADERS_BYTES <= self._client.max_payload:
            return event
        whole = msgspec.json.decode(event.json)
        return event._replace(json=_encode({**whole, "data": None, "datatoolarge": True}))


class _NotStored(Exception):
    """The stream did not take a message, or may not: another relay was quicker, or it is another than was thought."""


class _Reply(msgspec.Struct):
    seq: int = 0
    duplicate: bool = False
    error: dict[str, Any] | None = None


class _Acks:
    """Acknowledgements of the stream, awaited by reply subject.

    The library's own `publish_async` never ends the future of a message that the stream refused (seen with
    2.16), so that a lost race would be noticed after a timeout only.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._next = 0
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        """Begin to hear acknowledgements."""
        self._subscription = await self._client.subscribe(f"{self._inbox}.*", cb=self._heard)

    async def stop(self) -> None:
        """Forget those that did not come."""
        for waiting in self._waiting.values():
            waiting.cancel()
        self._waiting = {}
        if self._subscription is not None:
            with suppress(Error):
                await self._subscription.unsubscribe()

    def expected(self) -> tuple[str, asyncio.Future[None]]:
        """A reply subject, and the future of the acknowledgement that comes there."""
        self._next += 1
        reply = f"{self._inbox}.{self._next}"
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.add_done_callback(_looked_at)
        self._waiting[reply] = waiting
        return reply, waiting

    async def _heard(self, message: Msg) -> None:
        waiting = self._waiting.pop(message.subject, None)
        if waiting is None or waiting.done():
            return
        try:
            reply = (
                msgspec.json.decode(message.data, type=_Reply)
                if message.data
                else _Reply(error={"code": 503})
            )
        except msgspec.DecodeError:
            reply = _Reply(error={"description": "no acknowledgement"})
        if reply.error is not None or reply.duplicate:
            waiting.set_exception(_NotStored(str(reply.error or "it is in the stream already")))
        else:
            waiting.set_result(None)


def _looked_at(waiting: asyncio.Future[None]) -> None:
    """Of a batch that failed only the first failure is told; the others are not forgotten by accident."""
    if not waiting.cancelled():
        waiting.exception()


def _message_id(headers: Mapping[str, str] | None) -> tuple[UUID | None, int | None]:
    """The log and the position that a message of ours names in its id."""
    log_id, _, position = (headers or {}).get(Header.MSG_ID, "").partition(":")
    try:
        return UUID(log_id), int(position)
    except ValueError:
        return None, None
