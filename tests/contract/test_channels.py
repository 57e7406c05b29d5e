"""What every channel keeps: never an exception, never a touchpoint without key and time; the same bytes, the same events.

A new channel is tested here by being there. Give it samples of its vendor in `SAMPLES`: a body and its headers.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import domain.touchpoints  # noqa: F401 - registers every declared type
from adapters.channels import CHANNELS, Delivery, Translated, Untranslated
from adapters.cloudevents import Receipt, draft
from adapters.signatures import SCHEMES
from domain.errors import Invalid

PAYLOADS = Path(__file__).resolve().parents[3] / "shared" / "payloads"
RECEIVED = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json"}

_SHOPIFY = {
    "orders_create__test_notification.json": "orders/create",
    "customers_create.json": "customers/create",
    "carts_create.json": "carts/create",
    "checkouts_update.json": "checkouts/update",
    "fulfillments_create.json": "fulfillments/create",
}


def shared(folder: str, pattern: str) -> Iterator[bytes]:
    for file in sorted((PAYLOADS / folder).glob(pattern)):
        yield file.read_bytes()


def samples() -> Iterator[tuple[str, str, bytes, dict[str, str]]]:
    """(channel, call, body, headers): what vendors really send, and like ones of our own where none is at hand."""
    order = {
        "id": 820982911946154508,
        "email": "a@example.com",
        "created_at": "2020-09-10T04:26:51-04:00",
        "currency": "USD",
        "total_price": "254.98",
    }
    yield (
        "shopify",
        "",
        json.dumps(order).encode(),
        {**JSON, "x-shopify-topic": "orders/create", "x-shopify-event-id": "e-1"},
    )
    for name, topic in _SHOPIFY.items():
        for body in shared("shopify", name):
            for each in (topic, "orders/cancelled", "refunds/create", "products/update"):
                yield "shopify", "", body, {**JSON, "x-shopify-topic": each}
    charge = {
        "id": "ch_1",
        "object": "charge",
        "amount": 1000,
        "currency": "eur",
        "customer": "cus_1",
        "receipt_email": "a@example.com",
    }
    event = {
        "id": "evt_1",
        "object": "event",
        "created": 1621683300,
        "type": "charge.succeeded",
        "data": {"object": charge},
    }
    yield "stripe", "", json.dumps(event).encode(), JSON
    for thing in shared("stripe", "*.json"):
        for kind in (
            "charge.succeeded",
            "invoice.paid",
            "customer.created",
            "customer.subscription.deleted",
            "charge.refunded",
        ):
            yield (
                "stripe",
                "",
                json.dumps({**event, "type": kind, "data": {"object": json.loads(thing)}}).encode(),
                JSON,
            )
    for body in shared("stripe", "event_*.json"):
        yield "stripe", "", body, JSON
    for body in shared("twilio", "*.form"):
        yield "twilio", "", body, FORM
    yield (
        "twilio",
        "",
        b"MessageSid=SM1&From=%2B15550100001&To=%2B15550100002&Body=hello&NumMedia=0&SmsStatus=received",
        FORM,
    )
    yield (
        "twilio",
        "",
        b"CallSid=CA1&From=%2B15550100001&To=%2B15550100002&CallStatus=ringing&Direction=inbound",
        FORM,
    )
    call = {
        "type": "track",
        "userId": "u",
        "event": "Order Completed",
        "messageId": "m",
        "timestamp": "2026-11-22T11:00:00Z",
        "properties": {
            "total": 39.9,
            "currency": "EUR",
            "products": [{"sku": "S", "price": 1, "quantity": 1}],
        },
    }
    yield "segment", "batch", json.dumps({"batch": [call], "sentAt": "2026-11-22T11:00:00Z"}).encode(), JSON
    for body in shared("_wire", "*batch_all_calls.http"):
        yield "segment", "batch", body.partition(b"\r\n\r\n")[2], JSON
    for body in shared("segment", "*.json"):
        yield "segment", "identify", body, JSON  # no event has a name in it
    event = {
        "specversion": "1.0",
        "id": "e-1",
        "source": "them",
        "type": "loyalty.card_swiped",
        "time": "2026-11-22T11:00:00Z",
        "subject": "loyalty_card:1",
        "data": {"store": "12"},
    }
    structured = json.dumps(event).encode()
    yield "cloudevents", "", structured, {}
    yield "cloudevents", "", structured, {"content-type": "application/cloudevents+json; charset=utf-8"}
    yield "cloudevents", "", b"[" + structured + b"," + structured.replace(b"e-1", b"e-2") + b"]", {}
    binary = {f"ce-{name}": str(value) for name, value in event.items() if name != "data"}
    yield "cloudevents", "", b'{"store": "12"}', {**binary, "ce-datacontenttype": "application/json"}
    yield (
        "webhook",
        "",
        b'{"id": "evt-1", "type": "invoice.paid", "timestamp": "2022-11-03T20:26:10.344522Z", "data": {"id": "1"}}',
        JSON,
    )


SAMPLES = list(samples())


def delivery(body: bytes, headers: dict[str, str], call: str = "") -> Delivery:
    return Delivery(body=body, headers=headers, received_at=RECEIVED, source="them", unique="u", call=call)


def checked(channel: str, one: Delivery) -> list[Translated | Untranslated]:
    """Translate, and hold the result to the contract."""
    found = CHANNELS[channel].read(one)
    for each in found:
        if isinstance(each, Untranslated):
            assert each.problems
            assert all(problem.code != "channel_failed" for problem in each.problems), each
            continue
        event = each.event
        assert isinstance(event["id"], str)
        assert event["id"].strip()
        if channel != "cloudevents":  # whose events name their source themselves
            assert event["source"] == "them"
        assert event["type"]
        assert each.occurred_at.tzinfo is not None
        assert each.canonical
        try:
            draft(each.payload, Receipt.of(RECEIVED))
        except (
            Invalid
        ) as refused:  # ingest refuses it with a reason: it is kept; our own fields are never the reason
            ours = [p for p in refused.problems if p.pointer.startswith("/data/")]
            assert not ours, (event["type"], ours)
    return found


@pytest.mark.parametrize("name", sorted(CHANNELS))
def test_a_channel_says_what_it_is_and_how_it_is_signed(name: str) -> None:
    channel = CHANNELS[name]
    assert channel.meaning
    assert channel.scheme in {"", *SCHEMES}
    assert all(setting.meaning for setting in channel.settings)


@pytest.mark.parametrize("name", sorted(CHANNELS))
@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b"\xff\xfe", b"a=b&c=d", b"[" * 5000, b'{"id": 1e999}', b'{"a": "\\ud800"}'],
)
def test_whatever_comes_no_channel_raises(name: str, body: bytes) -> None:
    for headers in (
        {},
        JSON,
        FORM,
        {"content-type": "multipart/form-data; boundary=x"},
        {"x-shopify-topic": "orders/create"},
    ):
        checked(name, delivery(body, headers))


@pytest.mark.parametrize(("channel", "call", "body", "headers"), SAMPLES)
def test_a_sample_is_translated_whole_and_the_same_each_time(
    channel: str, call: str, body: bytes, headers: dict[str, str]
) -> None:
    one = delivery(body, headers, call)
    found = checked(channel, one)
    assert found
    assert all(isinstance(each, Translated) for each in found), found
    assert CHANNELS[channel].read(one) == found


# ---- mutated ones ---------------------------------------------------------------------------------------

ODD: list[Any] = [
    None, True, False, 0, -1, 1.5, 1e300, 2**53 + 1, 2**64, -(2**70), "", " ", "x", "\x00", "2026-13-45T99:99:99Z",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "1e5", "NaN", "Infinity", "12.345678901234567890123", [], {}, [[]], [None],
    {"id": {}}, "usd", "EURO", "+", "a,b", "é" * 2000, 1621683300, "1621683300123", -99999999999999,
]  # fmt: skip


def mutated(value: Any, chance: random.Random) -> Any:
    """A JSON value with some of its parts replaced, dropped, doubled or nested."""
    if chance.random() < 0.06:
        return copy.deepcopy(chance.choice(ODD))
    if isinstance(value, dict):
        found = {}
        for key, inner in value.items():
            lot = chance.random()
            if lot < 0.04:
                continue
            found[key if lot > 0.06 else key + "_"] = mutated(inner, chance)
        return found
    if isinstance(value, list):
        found_items = [mutated(inner, chance) for inner in value]
        return found_items * 2 if chance.random() < 0.05 else found_items
    return value


def mutated_body(body: bytes, chance: random.Random) -> bytes:
    """The bytes of a sample, changed: by its JSON, by its fields, or by its bits."""
    if chance.random() < 0.75 and body[:1] in b"{[":
        return json.dumps(mutated(json.loads(body), chance)).encode()
    raw = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        if raw:
            at = chance.randrange(len(raw))
            if chance.random() < 0.5:
                raw[at] ^= 1 << chance.randrange(8)
            else:
                raw[at : at + chance.randint(0, 8)] = chance.randbytes(chance.randint(0, 3))
    return bytes(raw)


@given(sample=st.sampled_from(SAMPLES), seed=st.integers(0, 2**32))
@settings(max_examples=1500)
def test_a_mutated_payload_never_raises_and_never_loses_key_or_time(
    sample: tuple[str, str, bytes, dict[str, str]], seed: int
) -> None:
    channel, call, body, headers = sample
    chance = random.Random(seed)
    for _ in range(3):
        checked(channel, delivery(mutated_body(body, chance), headers, call))
