"""CloudEvents as messages of a bus or of MQTT: structured, batch, or binary by `ce-…` headers.

CloudEvents 1.0.2, NATS protocol binding (structured) and its later drafts (binary). A message without
headers, such as one of MQTT 3.1.1, is one event or an array of events as JSON.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from adapters.channels.channel import Channel, Delivery, Found, Translated, Untranslated, register
from adapters.intake.bodies import events_of_message
from adapters.intake.cloudevents import Receipt, draft
from adapters.intake.payloads import read_payload
from adapters.refusal import Refusal
from domain.errors import Invalid, Problem

__all__ = ["CLOUDEVENTS"]


def _translate(delivery: Delivery) -> Iterator[Found]:
    try:
        items = events_of_message(delivery.headers, delivery.body)
    except Refusal as refused:
        yield Untranslated("", refused.errors or [Problem("", refused.detail, refused.kind)])
        return
    receipt = Receipt.of(delivery.received_at)
    for number, item in enumerate(items):
        place = f"/{number}" if len(items) > 1 else ""
        try:
            payload = read_payload(item)
            occurred_at = datetime.fromisoformat(draft(payload, receipt).occurred_at)
        except Invalid as wrong:
            yield Untranslated(place, wrong.problems)
        else:
            yield Translated(place, payload.event, payload.canonical, occurred_at)


CLOUDEVENTS = register(
    Channel(
        name="cloudevents",
        meaning="CloudEvents as messages (NATS, MQTT): structured, batch, binary",
        translate=_translate,
    )
)
