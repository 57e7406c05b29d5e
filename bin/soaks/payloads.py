"""Payloads that vendors really send, of each channel; and like ones of our own where none is at hand.

A new channel's stand in `tests/contract/samples/<channel>/`: `.json` and `.form` are bodies, `.http` is a whole request
with its headers. Nobody writes them down here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.parser import BytesParser
from pathlib import Path
from typing import NamedTuple

__all__ = ["FORM", "JSON", "Sample", "added", "samples", "strangers"]

ROOT = Path(__file__).resolve().parents[2]

PAYLOADS = ROOT.parent / "shared" / "payloads"
ADDED = ROOT / "tests" / "contract" / "samples"

FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json"}

_SHOPIFY = {
    "orders_create__test_notification.json": "orders/create",
    "customers_create.json": "customers/create",
    "carts_create.json": "carts/create",
    "checkouts_update.json": "checkouts/update",
    "fulfillments_create.json": "fulfillments/create",
}


_VENDORS = {
    "chatwoot": "chatwoot/*.json",
    "customerio": "customerio/*.json",
    "hubspot": "hubspot/*.json",
    "intercom": "intercom/*.json",
    "mailgun": "email-mailgun/*_event.json",
    "sendgrid": "email-sendgrid/*_event*.*",
    "sns": "email-amazon_ses/*_event.json",
    "square": "square/webhooks*.json",
    "whatsapp": "whatsapp/[a-z]*.json",
    "zendesk": "zendesk/*.json",
}
"""Where the bodies of these stand, that say all by themselves."""


def shared(folder: str, pattern: str) -> Iterator[bytes]:
    for file in sorted((PAYLOADS / folder).glob(pattern)):
        yield file.read_bytes()


class Sample(NamedTuple):
    """One delivery of a channel."""

    channel: str
    call: str  # which call of an API it was, where a channel has several
    body: bytes
    headers: dict[str, str]


def samples() -> Iterator[Sample]:
    """Those of every channel."""
    for known in _known():
        yield Sample(*known)
    yield from added(ADDED)


def added(folder: Path) -> Iterator[Sample]:
    """Those that stand as files in *folder*, one folder a channel; raises ValueError at a file of another kind."""
    for file in sorted(folder.glob("*/*")):
        raw = file.read_bytes()
        if file.suffix == ".http":
            head, _, body = raw.replace(b"\r\n", b"\n").partition(b"\n\n")
            if b"\r\n\r\n" in raw:
                body = raw.partition(b"\r\n\r\n")[2]
            fields = BytesParser().parsebytes(head.partition(b"\n")[2] + b"\n\n")
            headers = {name.lower(): str(value) for name, value in fields.items()}
            yield Sample(file.parent.name, "", body, headers)
        elif file.suffix in (".json", ".form"):
            yield Sample(file.parent.name, "", raw, JSON if file.suffix == ".json" else FORM)
        elif not file.name.startswith("."):
            raise ValueError(f"{file.name}: a sample is a .json or .form body, or a whole request, .http.")


def strangers() -> Iterator[bytes]:
    """Bodies of all vendors there are, those without a channel too: whatever comes, no channel may fail at it."""
    for file in sorted(PAYLOADS.rglob("*")):
        if file.suffix in (".json", ".form", ".http", ".csv", ".eml") and file.stat().st_size < 100_000:
            yield file.read_bytes()


def _known() -> Iterator[tuple[str, str, bytes, dict[str, str]]]:
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
    for channel, pattern in _VENDORS.items():
        folder, _, names = pattern.partition("/")
        for body in shared(folder, names):
            yield channel, "", body, JSON
    for body in shared("slack", "*.form"):
        yield "slack", "", body, FORM
    for body in shared("woocommerce", "order*.json"):
        for topic in ("order.created", "order.updated"):
            yield "woocommerce", "", body, {**JSON, "x-wc-webhook-topic": topic}
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
