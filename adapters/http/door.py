"""A thin route in front of the framework: reads a body within limits, answers after the commit, tells errors.

Shared by every door through which events come over HTTP; what a door makes of a body is its own.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from adapters.http.house import House
from adapters.http.problems import MEDIA_TYPE, document, of_exception
from adapters.refusal import Refusal
from domain.errors import ClockBehind, NoRoom, Unavailable

__all__ = [
    "LARGEST_BODY_BYTES",
    "Answered",
    "Door",
    "Headers",
    "Incoming",
    "Receive",
    "Scope",
    "Send",
]

LARGEST_BODY_BYTES = 16 * 2**20
MOST_WAITING_REQUESTS = 2_000
MOST_WAITING_BYTES = 512 * 2**20
_DRAINED_BYTES = 64 * 2**20
"""How much of a body that was refused is still read, so that its sender hears why instead of a broken pipe."""

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Answered(msgspec.Struct, frozen=True):
    """What a door answers: the status, the media type and the body."""

    body: bytes
    status: int = 200
    media_type: bytes = b"application/json"


class Headers:
    """The headers of a request that every door asks for, found in one pass."""

    __slots__ = ("authorization", "content_type", "encoding", "length")

    def __init__(self, headers: list[tuple[bytes, bytes]]) -> None:
        self.authorization: str | None = None
        self.content_type: str | None = None
        self.length: bytes | None = None
        self.encoding = ""
        for name, value in headers:
            if name == b"authorization":
                self.authorization = value.decode("latin-1")
            elif name == b"content-type":
                self.content_type = value.decode("latin-1")
            elif name == b"content-length":
                self.length = value
            elif name == b"content-encoding":
                text = value.decode("latin-1")
                self.encoding = f"{self.encoding},{text}" if self.encoding else text


_CLOSING = "touchlog is stopping: nothing of this request was acknowledged; send the same again in a moment."


class Door:
    """The ASGI application of one route, or of a family of them.

    Args:
        most_waiting: requests that may wait for a commit at once; the next one is answered 429.
    """

    def __init__(self, house: House, *, most_waiting: int = MOST_WAITING_REQUESTS) -> None:
        self._house = house
        self._most_waiting = most_waiting
        self._waiting = 0
        self._waiting_bytes = 0

    def route(self, scope: Scope) -> str:
        """The route, as figures and logs name it; never with what a caller made up."""
        raise NotImplementedError

    async def answer(self, scope: Scope, receive: Receive) -> Answered:
        """Answer one request; raises what `of_exception` tells."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        extra: list[tuple[bytes, bytes]] = []
        incoming = Incoming(receive)
        try:
            answered = await self.answer(scope, incoming)
        except _Gone:
            return
        except (Exception, asyncio.CancelledError) as error:  # every error becomes a problem document
            if isinstance(error, asyncio.CancelledError):
                if not self._house.closing.is_set():
                    raise
                error = Unavailable(_CLOSING)  # the server's own answer would be 500, in plain text
            if isinstance(error, NoRoom | ClockBehind):
                self._house.append_refused(error)
            refused = of_exception(error, where=self.route(scope))
            answered = Answered(document(refused), refused.status, MEDIA_TYPE.encode())
            extra = [(n.lower().encode(), v.encode()) for n, v in refused.headers.items()]
            # Who waits for 100 (RFC 9110 §10.1.1) has sent nothing yet, and is told before it does.
            waits = not incoming.begun and any(
                name == b"expect" and value.lower() == b"100-continue" for name, value in scope["headers"]
            )
            if waits or self._house.closing.is_set() or not await incoming.drained():
                extra.append((b"connection", b"close"))
        self._house.figures.requests.labels(self.route(scope), str(answered.status)).inc()
        headers = [
            (b"content-type", answered.media_type),
            (b"content-length", str(len(answered.body)).encode()),
            *extra,
        ]
        await send({"type": "http.response.start", "status": answered.status, "headers": headers})
        await send({"type": "http.response.body", "body": answered.body})

    async def read_and(
        self,
        receive: Receive,
        headers: Headers,
        work: Callable[[bytes], Awaitable[Answered]],
        *,
        largest: int = LARGEST_BODY_BYTES,
    ) -> Answered:
        """Read the whole body, decompressed, and let *work* answer; at most so many at once.

        Raises:
            Refusal: 413, 415, 429, or 400 for a body that does not decompress.
        """
        if self._waiting >= self._most_waiting or self._waiting_bytes >= MOST_WAITING_BYTES:
            raise Refusal(
                429,
                "too-many-waiting",
                f"{self._waiting:,} requests wait for a commit already. Nothing was recorded: send the same request again in a moment.",
                headers={"Retry-After": "1"},
            )
        self._waiting += 1
        size = 0
        try:
            body = await _read_body(receive, headers.encoding, headers.length, largest)
            size = len(body)
            self._waiting_bytes += size
            return await work(body)
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size


class Incoming:
    """The messages of one request's body."""

    __slots__ = ("_receive", "begun", "ended")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.begun = False
        self.ended = False

    async def __call__(self) -> MutableMapping[str, Any]:
        self.begun = True
        message = await self._receive()
        self.ended = not message.get("more_body")
        return message

    async def drained(self) -> bool:
        """Read on what is left, so that the sender can hear the answer; True when the body came to its end."""
        left = _DRAINED_BYTES
        try:
            async with asyncio.timeout(10):
                while not self.ended and left > 0:
                    left -= len((await self()).get("body", b""))
        except TimeoutError:
            pass
        return self.ended


# ---- the body on its way in -----------------------------------------------------------------------------


def _too_large(largest: int) -> Refusal:
    size = f"{largest // 2**20} MiB" if largest >= 2**20 else f"{largest // 2**10} KiB"
    return Refusal(
        413,
        "too-large",
        f"The body is larger than {size} (after decompression). Nothing was recorded: "
        "split the batch and send the parts one after the other.",
    )


class _Inflating:
    """A compressed body, inflated as it comes and never beyond the limit."""

    def __init__(self, coding: str, largest: int) -> None:
        self._largest = largest
        self._gzip = coding in ("gzip", "x-gzip")
        self._inflate = zlib.decompressobj(31 if self._gzip else 15)
        self._chunks: list[bytes] = []
        self._size = 0
        self._begun = False

    def feed(self, data: bytes) -> None:
        while data:
            if not self._begun and not self._gzip and (data[0] & 0x0F != 8 or data[0] >> 4 > 7):
                self._inflate = zlib.decompressobj(-15)  # deflate without its wrapper, as some senders do
            self._begun = True
            try:
                out = self._inflate.decompress(data, self._largest + 1 - self._size)
            except zlib.error as wrong:
                raise _not_compressed(str(wrong)) from None
            self._size += len(out)
            self._chunks.append(out)
            if self._size > self._largest:
                raise _too_large(self._largest)
            if self._inflate.eof:
                data = self._inflate.unused_data
                if data and self._gzip:  # RFC 1952 §2.2: members one after the other
                    self._inflate = zlib.decompressobj(31)
                elif data:
                    raise _not_compressed("something follows its end")
            else:
                data = self._inflate.unconsumed_tail

    def whole(self) -> bytes:
        if self._begun and not self._inflate.eof:
            raise _not_compressed("it ends too early")
        return b"".join(self._chunks)


def _not_compressed(why: str) -> Refusal:
    return Refusal(
        400, "not-json", f"The body is not what its Content-Encoding says: {why}. Nothing was recorded."
    )


async def _read_body(receive: Receive, encoding: str, length: bytes | None, largest: int) -> bytes:
    """The whole body, decompressed.

    Raises:
        Refusal: 413, 415, or 400 for a body that does not decompress.
    """
    coding = encoding.strip().lower()
    if coding in ("", "identity"):
        if length is not None and length.isdigit() and int(length) > largest:
            raise _too_large(largest)
        message = await receive()
        body: bytes = message.get("body", b"")
        if message["type"] == "http.disconnect":
            raise _Gone
        if not message.get("more_body"):
            if len(body) > largest:
                raise _too_large(largest)
            return body
        chunks, size = [body], len(body)
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > largest:
                raise _too_large(largest)
            chunks.append(chunk)
            if not message.get("more_body"):
                return b"".join(chunks)
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise Refusal(
            415,
            "unsupported",
            f"Content-Encoding {coding[:40]!r} is not taken; send gzip, deflate or none.",
            headers={"Accept-Encoding": "gzip, deflate, identity"},
        )
    inflating = _Inflating(coding, largest)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Gone
        inflating.feed(message.get("body", b""))
        if not message.get("more_body"):
            return inflating.whole()


class _Gone(Exception):
    """The sender went away; nobody hears an answer."""
