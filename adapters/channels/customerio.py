"""Customer.io's reporting webhooks: what became of each mail, text and push, and who subscribed or unsubscribed.

`object_type` and `metric` say what; the key is `event_id`. Ids of customers are the company's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapters.channels.channel import Channel, Delivery, Found, compared, json_of, register, touchpoint
from adapters.channels.values import at_epoch, first, inside, text
from domain.errors import Invalid, Problem

__all__ = ["CUSTOMERIO"]

_TYPES = {
    ("email", "sent"): "email.sent",
    ("email", "delivered"): "email.delivered",
    ("email", "opened"): "email.opened",
    ("email", "clicked"): "email.clicked",
    ("email", "bounced"): "email.bounced",
    ("email", "dropped"): "email.bounced",
    ("email", "spammed"): "email.complained",
    ("email", "unsubscribed"): "email.unsubscribed",
    ("customer", "unsubscribed"): "email.unsubscribed",
    ("sms", "sent"): "sms.sent",
}


def _data(type_: str, thing: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "message_id": text(inside(thing, "delivery_id")),
        "campaign_id": first(
            inside(thing, "campaign_id"), inside(thing, "broadcast_id"), inside(thing, "newsletter_id")
        ),
    }
    if type_ == "sms.sent":
        return data | {"to_number": text(inside(thing, "recipient")), "text": text(inside(thing, "body"))}
    data |= {"subject": text(inside(thing, "subject")), "to_address": text(inside(thing, "recipient"))}
    if type_ == "email.sent":
        data["body"] = text(inside(thing, "body"))
    elif type_ == "email.clicked":
        data |= {"url": text(inside(thing, "href")), "link": text(inside(thing, "link_id"))}
    elif type_ == "email.bounced":
        data |= {"bounce": "permanent", "response": text(inside(thing, "failure_message"))}
    elif type_ == "email.unsubscribed":
        data["method"] = "link"
    return data


def _translate(delivery: Delivery) -> Iterator[Found]:
    body = json_of(delivery.body)
    event_id, kind, metric = (text(inside(body, name)) for name in ("event_id", "object_type", "metric"))
    if event_id is None or kind is None or metric is None:
        raise Invalid([Problem("", "The body has not all of event_id, object_type and metric.", "missing")])
    thing = inside(body, "data")
    known, recipient = inside(thing, "identifiers"), text(inside(thing, "recipient"))
    by_phone = kind in ("sms", "whatsapp")
    type_ = _TYPES.get((kind, metric))
    yield touchpoint(
        delivery,
        id=event_id,
        type=type_ or f"customerio.{kind}.{metric}",
        at=at_epoch(inside(body, "timestamp")),
        data=_data(type_, thing) if type_ else {"payload": thing},
        canonical=compared(body),
        identifiers=[
            ("user", first(inside(known, "id"), inside(thing, "customer_id"))),
            (
                "email",
                first(
                    inside(known, "email"),
                    inside(thing, "email_address"),
                    recipient if kind == "email" else None,
                ),
            ),
            ("phone", recipient if by_phone and (recipient or "").startswith("+") else None),
        ],
    )


CUSTOMERIO = register(
    Channel(
        name="customerio",
        meaning="Customer.io: what became of each message, who unsubscribed",
        translate=_translate,
        scheme="customerio",
    )
)
