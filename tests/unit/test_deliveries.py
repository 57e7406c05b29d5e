"""Letters: a delivery that is kept comes back byte for byte; an event is never taken for one."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from adapters.channels import CHANNELS, Delivery
from adapters.deliveries import delivery_of, is_letter, letter

AT = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    "body", [b'{"id": 820982911946154508}', b"", b"a=b\r\n", b"\xff\x00\xfe", "zoë".encode()]
)
def test_a_kept_delivery_comes_back_as_it_came_without_its_credentials(body: bytes) -> None:
    came = Delivery(
        body=body,
        headers={"x-shopify-topic": "orders/create", "authorization": "Basic c2VjcmV0", "cookie": "a=b"},
        received_at=AT,
        source="shopify/main",
        unique="u-1",
        url="https://shop.example/hooks/shopify/main?x=1",
        call="batch",
        settings={"email": "person.email"},
    )
    kept = letter(CHANNELS["shopify"], came)

    read = delivery_of(kept)

    assert b"c2VjcmV0" not in kept
    assert read is not None
    name, back = read
    assert name == "shopify"
    assert back.headers == {"x-shopify-topic": "orders/create"}
    for field in ("body", "received_at", "source", "unique", "method", "url", "call", "settings"):
        assert getattr(back, field) == getattr(came, field), field


def test_the_first_letters_which_did_not_say_what_they_are_are_letters_too() -> None:
    came = Delivery(body=b"{}", headers={}, received_at=AT, source="s", unique="u")
    told = json.loads(letter(CHANNELS["shopify"], came))
    assert told.pop("touchlog_delivery") == 1
    assert is_letter(json.dumps(told).encode())


@pytest.mark.parametrize(
    "payload",
    [
        b'{"specversion":"1.0","id":"1","source":"s","type":"order.placed","unique":"u","received_at":"2026-01-01T00:00:00Z"}',
        b"{}",
        b"2020-01-01;received_at;unique",
        b"",
    ],
)
def test_an_event_or_a_row_is_no_letter(payload: bytes) -> None:
    assert not is_letter(payload)
