"""The way in over the bus: a request with events is answered after the log's commit.

On `<prefix>.append` the header `Authorization: Bearer …` says who asks; on `<prefix>.append.<key id>`,
where the embedded server delivers what each key's own account asks, the subject says so.
Payload and answer are those of POST /v1/events; an error is its problem document, with the status in
the headers `Nats-Service-Error-Code` and `Nats-Service-Error`.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error

from adapters.answers.feed import Feed
from adapters.http.auth import bearer_of, unauthorised
from adapters.http.events import LARGEST_BODY_BYTES, encode_answer, may_append, tell_head
from adapters.http.problems import MEDIA_TYPE, document, of_exception
from adapters.intake.batches import accept
from adapters.intake.bodies import events_of_message
from adapters.intake.ingest import Ingest
from adapters.postgres.api_keys import ApiKeys
from adapters.postgres.outage import through_outages
from adapters.principal import Principal
from adapters.refusal import Refusal
from domain.units import count

__all__ = ["QUEUE", "Responder"]

QUEUE = "touchlog-append"
"""The queue group: several responders share the requests, each is answered once."""
MOST_WAITING = 1_000
_HEADERS_BYTES = 1024  # more than they ever take


class Responder:
    """Answers requests on the bus.

    Args:
        subject_names_key: True where the server itself puts the key's id into the subject; elsewhere anybody could.
    """

    def __init__(
        self,
        client: Client,
        prefix: str,
        ingest: Ingest,
        keys: ApiKeys,
        feed: Feed,
        *,
        subject_names_key: bool,
    ) -> None:
        self._client = client
        self._subject = f"{prefix}.append"
        self._ingest = ingest
        self._keys = keys
        self._feed = feed
        self._subject_names_key = subject_names_key
        self._waiting: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to answer; the subscriptions outlive a lost connection."""
        await self._client.subscribe(self._subject, queue=QUEUE, cb=self._heard)
        if self._subject_names_key:
            await self._client.subscribe(f"{self._subject}.*", queue=QUEUE, cb=self._heard)

    async def finish(self) -> None:
        """Answer what waits."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=5)

    async def _heard(self, message: Msg) -> None:
        if not message.reply:
            return  # nobody would hear whether it was recorded
        if len(self._waiting) >= MOST_WAITING:
            refused = Refusal(
                429,
                "too-many-waiting",
                f"{len(self._waiting):,} requests wait for a commit already; send it again in a moment.",
            )
            await self._reply_problem(message, refused)
            return
        task = asyncio.create_task(self._answer(message))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _answer(self, message: Msg) -> None:
        try:
            principal = await through_outages(lambda: self._who(message), within_s=20)
            may_append(principal)
            if len(message.data) > LARGEST_BODY_BYTES:
                raise Refusal(413, "too-large", "The request is larger than 16 MiB; split it.")
            headers = {name.lower(): value for name, value in (message.headers or {}).items()}
            items = events_of_message(headers, message.data)
            answer = await accept(self._ingest, items, principal, way_in="nats")
            await tell_head(answer, self._feed)
            body = encode_answer(answer)
            if len(body) + _HEADERS_BYTES > self._client.max_payload:
                raise Refusal(
                    413,
                    "too-large",
                    f"The answer is larger than this server's max_payload of {self._client.max_payload:,} bytes. All the same "
                    f"{count(answer.recorded, 'event')} {'was' if answer.recorded == 1 else 'were'} recorded, "
                    f"{count(answer.duplicates, 'duplicate')}, {answer.conflicts:,} in conflict, {answer.rejected:,} rejected: send the same in smaller batches to hear of each.",
                )
        except Exception as error:  # noqa: BLE001 - every error becomes a problem document
            await self._reply_problem(message, of_exception(error, where=self._subject))
        else:
            await self._reply(message, body, {"Content-Type": "application/json"})

    async def _who(self, message: Msg) -> Principal:
        headers = {name.lower(): value for name, value in (message.headers or {}).items()}
        key = bearer_of(headers.get("authorization"))
        principal = None
        if key is not None:
            principal = await self._keys.authenticate(key)
        elif message.subject != self._subject:
            principal = await self._keys.principal(message.subject.rpartition(".")[2])
        if principal is None:
            raise unauthorised(
                "Send a key that is in force: header Authorization: Bearer tl_…; `touchlog keys add --role adapter` makes one."
            )
        return principal

    async def _reply_problem(self, message: Msg, refused: Refusal) -> None:
        headers = {
            "Content-Type": MEDIA_TYPE,
            "Nats-Service-Error-Code": str(refused.status),
            "Nats-Service-Error": refused.kind,
            **{name: value for name, value in refused.headers.items() if name == "Retry-After"},
        }
        await self._reply(message, document(refused), headers)

    async def _reply(self, message: Msg, body: bytes, headers: dict[str, str]) -> None:
        with suppress(Error):  # the bus went away: its requester sends again, and is told `duplicate`
            await self._client.publish(message.reply, body, headers=headers)
