"""Mandrill: what became of each mail, mails that came in, and changes of its deny and allow lists.

A form with the field `mandrill_events`, a list. `_id` is the mail's, and is told again at every open and click: the
key is `_id`, event and time.
"""

from __future__ import annotations

from collections.abc import Iterator
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
from adapters.channels.forms import fields_of
from adapters.channels.values import at_epoch, first, inside, text
from domain.errors import Invalid, Problem

__all__ = ["MANDRILL"]

_TYPES = {
    "send": "email.sent",
    "delivered": "email.delivered",
    "open": "email.opened",
    "click": "email.clicked",
    "hard_bounce": "email.bounced",
    "soft_bounce": "email.bounced",
    "reject": "email.bounced",
    "spam": "email.complained",
    "unsub": "email.unsubscribed",
}


def _outcome(type_: str, kind: str, item: dict[str, Any], message: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "message_id": text(inside(message, "_id")),
        "subject": text(inside(message, "subject")),
        "campaign_id": text(inside(message, "subaccount")),
        "from_address": text(inside(message, "sender")),
        "ip": text(item.get("ip")),
        "user_agent": text(item.get("user_agent")),
        "reason": text(inside(message, "bounce_description")),
        "response": text(inside(message, "diag")),
        "context": inside(message, "metadata") or None,
        "tags": inside(message, "tags") or None,
    }
    if type_ == "email.bounced":
        data["bounce"] = "temporary" if kind == "soft_bounce" else "permanent"
        data["reason"] = data["reason"] or (kind if kind == "reject" else None)
    elif type_ == "email.clicked":
        data["url"] = text(item.get("url"))
    elif type_ == "email.unsubscribed":
        data["method"] = "link"
    return data


def _item(delivery: Delivery, item: dict[str, Any], place: str) -> Found:
    message, at = item.get("msg"), text(item.get("ts")) or ""
    kind = text(item.get("event"))
    if kind is None:  # a list was changed: type is blacklist, allowlist …; action is add, change, remove
        kind = f"{first(item.get('type'), 'sync')}.{first(item.get('action'), 'changed')}"
        entry = item.get("reject") or item.get("entry")
        return touchpoint(
            delivery,
            id=f"{kind}:{first(inside(entry, 'email')) or ''}:{at}",
            type=f"mandrill.{kind}",
            at=at_epoch(item.get("ts")),
            data={"payload": item},
            canonical=compared(item),
            identifiers=[("email", text(inside(entry, "email")))],
            place=place,
        )
    if kind == "inbound":
        message_id = text(inside(message, "headers", "Message-Id"))
        return touchpoint(
            delivery,
            id=message_id.strip("<> ") or at
            if message_id
            else f"inbound:{first(inside(message, 'from_email')) or ''}:{at}",
            type="email.received",
            at=at_epoch(item.get("ts")),
            data={
                "message_id": message_id.strip("<> ") or None if message_id else None,
                "subject": text(inside(message, "subject")),
                "body": first(inside(message, "text"), inside(message, "html")),
                "from_address": text(inside(message, "from_email")),
                "to_address": text(inside(message, "email")),
                "mailbox": text(inside(message, "email")),
            },
            canonical=compared(item),
            identifiers=[("email", text(inside(message, "from_email")))],
            place=place,
        )
    type_ = _TYPES.get(kind)
    return touchpoint(
        delivery,
        id=f"{first(item.get('_id'), inside(message, '_id')) or ''}:{kind}:{at}",
        type=type_ or f"mandrill.{kind}",
        at=at_epoch(item.get("ts")),
        data=_outcome(type_, kind, item, message) if type_ else {"payload": item},
        canonical=compared(item),
        identifiers=[("email", text(inside(message, "email")))],
        place=place,
    )


def _translate(delivery: Delivery) -> Iterator[Found]:
    form = dict(fields_of(delivery.body, delivery.headers.get("content-type", "")))
    for place, item in items_in(form.get("mandrill_events", "").encode("utf-8", "replace")):
        if not place:
            raise Invalid([Problem("", "The field 'mandrill_events' is no list.", "wrong_type")])
        if isinstance(item, Untranslated):
            yield item
        elif isinstance(item, dict):
            yield _item(delivery, item, place)
        else:
            yield Untranslated(place, [Problem(place, "An event is a JSON object.", "not_an_object")])


MANDRILL = register(
    Channel(
        name="mandrill",
        meaning="Mandrill: what became of each mail, and mails that came in",
        translate=_translate,
        scheme="mandrill",
    )
)
