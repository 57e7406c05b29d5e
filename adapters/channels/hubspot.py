"""HubSpot's webhooks: a list of changes of contacts, deals, tickets and other objects.

`eventId` alone is not unique: the key is eventId, subscriptionId and occurredAt. A change names its object by HubSpot's id
only, and one property with its new value, as a text.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from adapters.channels.channel import (
    Channel,
    Delivery,
    Found,
    Untranslated,
    compared,
    items_in,
    register,
    touchpoint,
)
from adapters.channels.values import at_epoch, first, text
from domain.errors import Problem

__all__ = ["HUBSPOT"]

_MILLISECOND = Decimal("0.001")
_OBJECTS = {"0-1": "contact", "0-2": "company", "0-3": "deal", "0-5": "ticket"}
"""Of subscriptions to `object.…`, which name the kind of object by a number."""
_STAGES = {"closedwon": "opportunity.won", "closedlost": "opportunity.lost"}
_TICKETS = {"4": "case.closed"}  # of the pipeline that every account begins with


def _told(kind: str, item: dict[str, Any], object_id: str | None) -> tuple[str, dict[str, Any]]:
    name, value = text(item.get("propertyName")), text(item.get("propertyValue"))
    if kind == "contact.propertyChange" and name is not None:
        return "profile.updated", {"traits": {name: value}, "method": "hubspot"}
    if kind == "deal.creation":
        return "opportunity.opened", {"opportunity_id": object_id}
    if kind == "deal.propertyChange" and name == "dealstage":
        return _STAGES.get(value or "", "opportunity.stage_changed"), {
            "opportunity_id": object_id,
            "stage": value,
        }
    if kind == "ticket.creation":
        return "case.opened", {"case_id": object_id}
    if kind == "ticket.propertyChange" and name == "hs_pipeline_stage" and value in _TICKETS:
        return _TICKETS[value], {"case_id": object_id, "status": value}
    return f"hubspot.{kind}", {"payload": item}


def _item(delivery: Delivery, item: dict[str, Any], kind: str, place: str) -> Found:
    family, dot, happened = kind.partition(".")
    if family == "object":
        kind = f"{_OBJECTS.get(text(item.get('objectTypeId')) or '', 'object')}{dot}{happened}"
        family = kind.partition(".")[0]
    object_id = text(item.get("objectId"))
    whom: list[tuple[str, object]] = []
    if family == "contact":
        whom = [("crm@hubspot", object_id)]
        if text(item.get("propertyName")) == "email":
            whom.append(("email", text(item.get("propertyValue"))))
        elif text(item.get("propertyName")) in ("phone", "mobilephone"):
            phone = text(item.get("propertyValue"))
            whom.append(("phone", phone if phone is not None and phone.startswith("+") else None))
    elif family == "ticket":
        whom = [("case", object_id)]
    type_, data = _told(kind, item, object_id)
    parts = (first(item.get(name)) or "" for name in ("eventId", "subscriptionId", "occurredAt"))
    return touchpoint(
        delivery,
        id=":".join(parts),
        type=type_,
        at=at_epoch(item.get("occurredAt"), unit_s=_MILLISECOND),
        data=data,
        canonical=compared(item, but=("attemptNumber",)),
        identifiers=whom,
        place=place,
    )


def _translate(delivery: Delivery) -> Iterator[Found]:
    for place, item in items_in(delivery.body):
        if isinstance(item, Untranslated):
            yield item
            continue
        kind = first(item.get("subscriptionType"), item.get("eventType")) if isinstance(item, dict) else None
        if kind is None or item.get("eventId") is None:
            problem = Problem(place, "A change has subscriptionType and eventId.", "missing")
            yield Untranslated(place, [problem])
            continue
        yield _item(delivery, item, kind, place)


HUBSPOT = register(
    Channel(
        name="hubspot",
        meaning="HubSpot's webhooks: changes of contacts, deals, tickets",
        translate=_translate,
        scheme="hubspot",
    )
)
