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
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error, MaxPayloadError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, Header, PersistMode, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError
from psycopg_pool import AsyncConnectionPool

from adapters.feed import Feed
from adapters.nats.heads import head_subject

__all__ = ["Relay", "stream_name", "subject_of"]

MAX_BYTES = 2**30
MAX_AGE = timedelta(days=7)
_BATCH = 500
_LOOK_AGAIN_S = 0.25
_encode = msgspec.json.Encoder().encode
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")

log = structlog.get_logger()


def stream_name(prefix: str) -> str:
    """The stream of an installation."""
    return f"{_UNFIT.sub('_', prefix).upper()}_EVENTS"


def subject_of(prefix: str, type_: str) -> str:
    """The subject of an event: its type, with `_` for what no subject may hold."""
    tokens = [_UNFIT.sub("_", token) or "_" for token in type_.split(".")]
    return f"{prefix}.events.{'.'.join(tokens)}"


class Relay:
    """Publishes the log onward, for as long as it runs; appends never wait for it."""

    def __init__(self, client: Client, prefix: str, feed: Feed, pool: AsyncConnectionPool[Any]) -> None:
        self._client = client
        self._prefix = prefix
        self._stream = stream_name(prefix)
        self._feed = feed
        self._pool = pool
        self._news = asyncio.Event()
        self._log_id = ""
        self.position = 0
        self.published = 0

    async def run(self) -> None:
        """Relay until cancelled; after any failure the stream is asked anew how far it is."""

        async def heard(_: Msg) -> None:
            self._news.set()

        await self._client.subscribe(head_subject(self._prefix), cb=heard)
        pause_s = 0.1
        while True:
            try:
                js = self._client.jetstream(timeout=5)
                sequence = await self._resume(js)
                log.info("relay_resumed", position=self.position, sequence=sequence)
                pause_s = 0.1
                while True:
                    sequence = await self._step(js, sequence)
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - bus or database away: both come back
                log.warning("relay_interrupted", reason=type(error).__name__, position=self.position)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, 2.0)

    async def _resume(self, js: JetStreamContext) -> int:
        """Make the stream where there is none, and find how far it is; gives its last sequence."""
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
            info = await js.add_stream(config)
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(
                    "SELECT log_id, position, touchpoint_log.position_at(%s) FROM touchpoint_log.head",
                    (datetime.now(UTC) - MAX_AGE,),
                )
            ).fetchone()
        assert row is not None
        self._log_id = str(row[0])
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

    async def _step(self, js: JetStreamContext, sequence: int) -> int:
        """Publish what is new, or wait for it; gives the stream's last sequence."""
        self._news.clear()
        page = await self._feed.page(after=self.position, limit=_BATCH, unseal_fields=False)
        if not page.events:
            self.position = page.next
            try:
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._news.wait()
            except TimeoutError:
                pass
            return sequence
        acks: list[asyncio.Future[Any]] = []
        for event in page.events:
            acks.append(await self._publish(js, event, sequence))
            sequence += 1
        for event, ack in zip(page.events, acks, strict=True):
            async with asyncio.timeout(10):
                done = await ack
            if done.duplicate:
                raise RuntimeError(f"position {event['position']} is in the stream already")
            self.position = event["position"]
            self.published += 1
        self.position = max(self.position, page.next)
        return sequence

    async def _publish(
        self, js: JetStreamContext, event: dict[str, Any], sequence: int
    ) -> asyncio.Future[Any]:
        headers = {
            Header.MSG_ID: f"{self._log_id}:{event['position']}",
            Header.EXPECTED_LAST_SEQUENCE: str(sequence),
            "Content-Type": "application/cloudevents+json",
        }
        subject = subject_of(self._prefix, event["type"])
        try:
            return await js.publish_async(
                subject, _encode(event), wait_stall=10, stream=self._stream, headers=headers
            )
        except MaxPayloadError:
            # Larger than the server takes: the event without its data, which GET /v1/events has at its position.
            return await js.publish_async(
                subject,
                _encode({**event, "data": None, "datatoolarge": True}),
                wait_stall=10,
                stream=self._stream,
                headers=headers,
            )
        except Error:
            raise


def _message_id(headers: Mapping[str, str] | None) -> tuple[UUID | None, int | None]:
    """The log and the position that a message of ours names in its id."""
    log_id, _, position = (headers or {}).get(Header.MSG_ID, "").partition(":")
    try:
        return UUID(log_id), int(position)
    except ValueError:
        return None, None
