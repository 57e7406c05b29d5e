"""Publishing at once: the bytes are those that the library itself would send."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.errors import ConnectionClosedError

from adapters.nats.publishing import headers_of, publish_all


class _Unconnected(Client):
    """Keeps what would be sent."""

    connected = True

    @property
    def is_connected(self) -> bool:
        return self.connected

    async def flush(self, timeout: int = 10) -> None:  # noqa: ASYNC109 - the library's own
        """Nothing to flush to."""

    def sent(self) -> bytes:
        return b"".join(self._pending)


_WORD = st.text("abcXYZ019-", min_size=1, max_size=12)
_MESSAGES = st.lists(
    st.tuples(
        _WORD,
        st.one_of(st.just(""), _WORD),
        st.dictionaries(_WORD, _WORD, min_size=1, max_size=4),
        st.binary(max_size=40),
    ),
    min_size=1,
    max_size=5,
)


@given(_MESSAGES)
def test_a_page_has_the_bytes_of_its_messages_published_one_by_one(
    messages: list[tuple[str, str, dict[str, str], bytes]],
) -> None:
    async def both() -> tuple[bytes, bytes]:
        # given any messages with headers
        theirs, ours = _Unconnected(), _Unconnected()
        # when the library publishes each, and we all of them at once
        for subject, reply, headers, payload in messages:
            await theirs._send_publish(subject, reply, payload, len(payload), headers)
        await publish_all(ours, [(s, r, headers_of(h), p) for s, r, h, p in messages])
        return theirs.sent(), ours.sent()

    # then the server sees the same
    theirs, ours = asyncio.run(both())
    assert ours == theirs


def test_without_a_connection_nothing_is_sent_and_it_is_told() -> None:
    client = _Unconnected()
    client.connected = False
    with pytest.raises(ConnectionClosedError):
        asyncio.run(publish_all(client, [("a", "", headers_of({"b": "c"}), b"d")]))
    assert not client.sent()


def test_a_header_cannot_begin_another() -> None:
    with pytest.raises(ValueError, match="line break"):
        headers_of({"a": "b\r\nc: d"})
