"""Publishing many messages with headers at once.

The library's `publish` checks and copies each header of each message (10 µs, half of what the relay
cost). Here the headers of all messages come from one pattern, checked once, and a page of messages is
one write. The bytes are those that the library itself would send; a test compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nats.aio.client import Client
from nats.errors import ConnectionClosedError

__all__ = ["headers_of", "publish_all"]


def headers_of(headers: Mapping[str, str]) -> bytes:
    """The header block of a message (NATS client protocol, HPUB), names and values as they stand."""
    lines = [": ".join(header) for header in headers.items()]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("A header holds a line break.")
    return "\r\n".join(["NATS/1.0", *lines, "", ""]).encode()


async def publish_all(client: Client, messages: Iterable[tuple[str, str, bytes, bytes]]) -> None:
    """Publish (subject, reply or "", header block, payload) in order.

    The payloads must fit the server's `max_payload`.

    Raises:
        ConnectionClosedError: there is no connection now; nothing was sent.
    """
    if not client.is_connected:
        raise ConnectionClosedError
    frames = [
        b"HPUB %b %b %d %d\r\n%b%b\r\n"
        % (subject.encode(), reply.encode(), len(headers), len(headers) + len(payload), headers, payload)
        for subject, reply, headers, payload in messages
    ]
    await client._send_command(b"".join(frames))  # noqa: SLF001 - the library has no public way for a page
    await client.flush()
