"""The way in for those who must buffer: messages lie in work queues until the log has committed them.

Two streams in an account: `<PREFIX>_INBOUND` on `<prefix>.inbound`, where adapters publish by JetStream, and
`$MQTT_msgs`, where nats-server itself stores what MQTT clients publish at QoS 1 or 2, before it
acknowledges. Both keep a message until touchlog acknowledges it, which it does after the commit; what comes
again is told by its key and recorded once. What is no event is kept as a dead letter, whole.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)
from nats.js.errors import NotFoundError

from adapters.channels.channel import Delivery
from adapters.channels.cloudevents import CLOUDEVENTS
from adapters.deliveries import letter, take
from adapters.http.auth import bearer_of
from adapters.intake.ingest import Ingest
from adapters.nats.streams import add_fitting
from adapters.postgres.api_keys import ApiKeys
from adapters.postgres.channel_counts import ChannelCounts
from adapters.postgres.outage import through_outages
from adapters.postgres.rejected import Kept, Rejected
from adapters.principal import Principal
from domain.errors import Problem

__all__ = ["Inbound", "inbound_stream", "inbound_subject", "prepare"]

DURABLE = "touchlog"
MQTT_STREAM = "$MQTT_msgs"
MOST_BYTES = 8 * 2**30
"""Of one account's queue; beyond it the publisher is refused, nothing is dropped."""
MOST_IN_FLIGHT = 256
AGAIN_AFTER_S = 10
"""When a message that was handed out and not acknowledged is handed out again."""
_SOON_AGAIN_S = 1.0
_UNFIT = re.compile(r"[^A-Za-z0-9_-]")
_MQTT_HEADER = "Nmqtt-Pub"
"""Set by nats-server on what came by MQTT; its first character is the QoS."""

log = structlog.get_logger()


def inbound_subject(prefix: str) -> str:
    """Where adapters publish."""
    return f"{prefix}.inbound"


def inbound_stream(prefix: str) -> str:
    """The work queue of an account."""
    return f"{_UNFIT.sub('_', prefix).upper()}_INBOUND"


def _deliver_to(stream: str) -> str:
    return f"_touchlog.{stream.replace('$', '')}"


async def prepare(client: Client, prefix: str, *, mqtt: bool) -> None:
    """See to it that the streams of an account stand, each with touchlog's consumer; may be done again.

    Args:
        mqtt: also the stream in which nats-server stores what MQTT clients publish. It drops what has no
            consumer, so this comes before the first client.

    Raises:
        nats.errors.Error: the server is away, or does not let us.
    """
    js = client.jetstream(timeout=5)
    await _stands(
        js,
        StreamConfig(
            name=inbound_stream(prefix),
            description="Messages on their way into the log; deleted once they are in it",
            subjects=[inbound_subject(prefix)],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            max_bytes=MOST_BYTES,
        ),
    )
    if mqtt:
        await _stands(
            js,
            StreamConfig(  # as nats-server would make it with the first client
                name=MQTT_STREAM,
                subjects=["$MQTT.msgs.>"],
                retention=RetentionPolicy.INTEREST,
                storage=StorageType.FILE,
            ),
        )


async def _stands(js: JetStreamContext, stream: StreamConfig) -> None:
    assert stream.name is not None
    try:
        await js.stream_info(stream.name)
    except NotFoundError:
        await add_fitting(js, stream)
    await js.add_consumer(
        stream.name,
        ConsumerConfig(
            durable_name=DURABLE,
            deliver_subject=_deliver_to(stream.name),
            deliver_group=DURABLE,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=AGAIN_AFTER_S,
            max_ack_pending=MOST_IN_FLIGHT,
        ),
    )


class Inbound:
    """Takes the messages of one account into the log, several at once.

    Args:
        key_id: of the key whose account it is; None on a server without accounts of ours, where each message
            names its key in the header `Authorization: Bearer …`.
    """

    def __init__(
        self,
        client: Client,
        prefix: str,
        ingest: Ingest,
        rejected: Rejected,
        keys: ApiKeys,
        counts: ChannelCounts,
        *,
        key_id: str | None,
    ) -> None:
        self._client = client
        self._prefix = prefix
        self._ingest = ingest
        self._rejected = rejected
        self._keys = keys
        self._counts = counts
        self._key_id = key_id
        self._taking: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to take; the subscriptions outlive a lost connection."""
        for stream in (inbound_stream(self._prefix), MQTT_STREAM):
            await self._client.subscribe(_deliver_to(stream), queue=DURABLE, cb=self._heard)

    async def finish(self) -> None:
        """Take to the end what was begun; what is cut off comes again."""
        if self._taking:
            await asyncio.wait(self._taking, timeout=5)

    async def _heard(self, message: Msg) -> None:
        task = asyncio.create_task(self._take(message))
        self._taking.add(task)
        task.add_done_callback(self._taking.discard)

    async def _take(self, message: Msg) -> None:
        try:
            headers = {name.lower(): value for name, value in (message.headers or {}).items()}
            qos = (message.headers or {}).get(_MQTT_HEADER, "")[:1]
            stored_by_mqtt = message.subject.startswith("$MQTT.")
            # At QoS 1 and 2 the same message lies in the stream of MQTT, which was written before its sender was told.
            if stored_by_mqtt or qos not in ("1", "2"):
                await self._record(message, headers, way_in="mqtt" if qos else "nats")
        except Exception as error:  # noqa: BLE001 - database away, or a fault of ours: it comes again
            log.warning("message_not_taken", key_id=self._key_id, reason=type(error).__name__)
            await _told(message.nak(delay=_SOON_AGAIN_S))
        else:
            await _told(message.ack())

    async def _record(self, message: Msg, headers: dict[str, str], *, way_in: str) -> None:
        stored = message.metadata
        delivery = Delivery(
            body=message.data,
            headers={n: v for n, v in headers.items() if not n.startswith(("nats-", "nmqtt-"))},
            received_at=stored.timestamp,  # as the server stored it: the same however often it is handed out
            source="",
            unique=f"{stored.stream}/{stored.sequence.stream}",
            method="",
        )
        principal = await through_outages(lambda: self._who(headers), within_s=20)
        if principal is None or principal.role not in ("adapter", "admin"):
            await self._keep(delivery, way_in)
            return
        taken = await take(self._ingest, self._rejected, CLOUDEVENTS, delivery, principal, way_in=way_in)
        self._counts.count(way_in, principal.key_id, taken.counted)

    async def _who(self, headers: dict[str, str]) -> Principal | None:
        if self._key_id is not None:
            return await self._keys.principal(self._key_id)
        key = bearer_of(headers.get("authorization"))
        return await self._keys.authenticate(key) if key is not None else None

    async def _keep(self, delivery: Delivery, way_in: str) -> None:
        """Keep a message of nobody who may append: it was acknowledged to its sender, and is no longer theirs to send."""
        problem = Problem(
            "",
            f"The key {self._key_id} was revoked before this message was taken."
            if self._key_id is not None
            else "The message names no key in force in its header Authorization: Bearer tl_….",
            "unauthorised",
        )
        kept = Kept(
            status="rejected",
            source=None,
            source_id=None,
            type=None,
            way_in=way_in,
            principal=self._key_id or "",
            place=None,
            problems=[problem],
            payload=letter(CLOUDEVENTS, delivery),
        )
        await through_outages(lambda: self._rejected.keep([kept]), within_s=20)


async def _told(telling: Awaitable[None]) -> None:
    """An acknowledgement that is lost with the connection: the message comes again, and is a duplicate then."""
    try:
        await telling
    except Error:
        log.debug("message_not_acknowledged")
