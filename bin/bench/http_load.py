"""A load process: posts batches of events over HTTP on so many connections, and sums the answers.

Run as `python -m bin.bench.http_load`; reads one JSON order a line from standard input, answers one a line.
Raw sockets and requests made before the clock starts, so that the load costs the machine little.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import orjson
import uvloop

from bin.bench.load import payloads

__all__ = ["Done", "Order"]

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_RECORDED = re.compile(rb'"recorded":(\d+)')
_HEAD = re.compile(rb'"head":(\d+)')


class Order(msgspec.Struct, kw_only=True):
    """What is to be posted."""

    host: str
    port: int
    key: str
    start: int  # number of the first event
    requests: int
    batch: int = 100
    connections: int = 16
    new_subjects: bool = False  # every event names two identifiers that were never seen
    new_identifier: bool = False  # every event names one
    every_s: float | None = None  # one request at a time so often, instead of as fast as can be


class Done(msgspec.Struct, kw_only=True):
    """What came of it."""

    seconds: float
    posted: int
    recorded: int
    p50_ms: float
    p99_ms: float
    acknowledged: list[
        tuple[float, int, int]
    ] = []  # (time of the answer, head it told, events); only where paced


def _requests(order: Order) -> Iterator[bytes]:
    for number in range(order.requests):
        start = order.start + number * order.batch
        made = payloads(
            start, order.batch, new_subjects=order.new_subjects, new_identifier=order.new_identifier
        )
        body = b"[" + b",".join(made) + b"]"
        yield (
            f"POST /v1/events HTTP/1.1\r\nHost: {order.host}\r\nAuthorization: Bearer {order.key}\r\n"
            f"Content-Type: application/cloudevents-batch+json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode() + body


class _Connection(asyncio.Protocol):
    """Posts one request after the other on one connection."""

    def __init__(self, posting: _Posting) -> None:
        self.posting = posting
        self.received = b""
        self.expected = -1
        self.sent_at = 0.0
        self.transport: Any = None
        self.idle = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def post(self) -> None:
        """Send the next request, if there is one and it is due."""
        request = next(self.posting.requests, None)
        if request is None:
            self.transport.close()
            return
        self.idle = False
        self.sent_at = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.expected < 0:
            head, found, _ = self.received.partition(b"\r\n\r\n")
            length = _LENGTH.search(head)
            if not found or length is None:
                return
            self.expected = len(head) + 4 + int(length[1])
        if len(self.received) >= self.expected:
            answer, self.received, self.expected = self.received, b"", -1
            self.idle = True
            self.posting.answered(self, answer, time.perf_counter() - self.sent_at)

    def connection_lost(self, _error: Exception | None) -> None:
        self.posting.lost(self)


class _Posting:
    def __init__(self, order: Order) -> None:
        self.order = order
        self.requests = iter(list(_requests(order)))
        self.latencies: list[float] = []
        self.acknowledged: list[tuple[float, int, int]] = []
        self.recorded = 0
        self.open: list[_Connection] = []
        self.finished = asyncio.get_running_loop().create_future()

    def answered(self, connection: _Connection, answer: bytes, took_s: float) -> None:
        recorded, head = _RECORDED.search(answer), _HEAD.search(answer)
        if not answer.startswith(b"HTTP/1.1 200") or recorded is None or head is None:
            self.finished.set_exception(RuntimeError(f"answered {answer[:500]!r}"))
            return
        self.recorded += int(recorded[1])
        self.latencies.append(took_s)
        if self.order.every_s is None:
            connection.post()
        else:
            self.acknowledged.append((time.time(), int(head[1]), int(recorded[1])))

    def lost(self, connection: _Connection) -> None:
        self.open.remove(connection)
        if not self.open and not self.finished.done():
            self.finished.set_result(None)

    async def run(self) -> Done:
        loop, order = asyncio.get_running_loop(), self.order
        for _ in range(order.connections):
            _, connection = await loop.create_connection(lambda: _Connection(self), order.host, order.port)
            self.open.append(connection)
        started = time.perf_counter()
        if order.every_s is None:
            for connection in list(self.open):
                connection.post()
        else:
            for number in range(order.requests):
                await asyncio.sleep(max(0.0, started + number * order.every_s - time.perf_counter()))
                idle = next((each for each in self.open if each.idle), None)
                while idle is None:
                    await asyncio.sleep(0.001)
                    idle = next((each for each in self.open if each.idle), None)
                idle.post()
            while not all(each.idle for each in self.open):  # noqa: ASYNC110 - a load's last answers
                await asyncio.sleep(0.001)
            for connection in list(self.open):
                connection.post()
        await self.finished
        took_s = time.perf_counter() - started
        times = sorted(self.latencies)
        return Done(
            seconds=took_s,
            posted=order.requests * order.batch,
            recorded=self.recorded,
            p50_ms=times[len(times) // 2] * 1000,
            p99_ms=times[len(times) * 99 // 100] * 1000,
            acknowledged=self.acknowledged,
        )


async def _post(order: Order) -> Done:
    posting = _Posting(order)
    print(orjson.dumps({"ready": True}).decode(), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    return await posting.run()


def main() -> None:
    """Take orders until standard input ends."""
    for line in iter(sys.stdin.readline, ""):
        done = uvloop.run(_post(msgspec.json.decode(line, type=Order)))
        print(msgspec.json.encode(done).decode(), flush=True)


if __name__ == "__main__":
    main()
