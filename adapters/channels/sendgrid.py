"""SendGrid's event webhook: what became of each mail, many in one body; the key is `sg_event_id`.

The field `event` says what; `dropped` is a mail that SendGrid did not send, for its recipient had bounced before.
Custom arguments of the sender stand among the fields, and are kept.
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
    unnamed,
)
from adapters.channels.values import at_epoch, first, text
from domain.errors import Problem

__all__ = ["SENDGRID"]

_TYPES = {
    "processed": "email.sent",
    "delivered": "email.delivered",
    "open": "email.opened",
    "click": "email.clicked",
    "bounce": "email.bounced",
    "dropped": "email.bounced",
    "spamreport": "email.complained",
    "unsubscribe": "email.unsubscribed",
    "group_unsubscribe": "email.unsubscribed",
}
_READ = frozenset("email timestamp event sg_event_id smtp-id url useragent ip reason response status".split())


def _message_id(item: dict[str, Any]) -> str | None:
    """The Message-ID of the mail; without it the part of SendGrid's own id that all its events share."""
    given = text(item.get("smtp-id"))
    if given is not None:
        return given.strip().strip("<>") or None
    own = text(item.get("sg_message_id"))
    return own.partition(".")[0] or None if own is not None else None


def _data(type_: str, kind: str, item: dict[str, Any]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "message_id": _message_id(item),
        "campaign_id": first(item.get("singlesend_id"), item.get("marketing_campaign_id")),
        "ip": text(item.get("ip")),
        "user_agent": text(item.get("useragent")),
        "reason": text(item.get("reason")),
        "response": text(item.get("response")),
        "context": {name: value for name, value in item.items() if name not in _READ} or None,
    }
    if type_ == "email.bounced":
        blocked = text(item.get("type")) == "blocked"
        data["bounce"] = "temporary" if blocked else "permanent"
        data["smtp_code"] = text(item.get("status"))
    elif type_ == "email.clicked":
        data["url"] = text(item.get("url"))
    elif type_ == "email.unsubscribed":
        data["list_id"] = text(item.get("asm_group_id")) if kind == "group_unsubscribe" else None
        data["method"] = "link"
    return data


def _translate(delivery: Delivery) -> Iterator[Found]:
    for place, item in items_in(delivery.body):
        if isinstance(item, Untranslated):
            yield item
            continue
        kind = text(item.get("event")) if isinstance(item, dict) else None
        if kind is None:
            yield Untranslated(place, [Problem(f"{place}/event", "An event has 'event'.", "missing")])
            continue
        canonical = compared(item)
        type_ = _TYPES.get(kind)
        yield touchpoint(
            delivery,
            id=text(item.get("sg_event_id")) or unnamed(canonical),
            type=type_ or f"sendgrid.{kind}",
            at=at_epoch(item.get("timestamp")),
            data=_data(type_, kind, item) if type_ else {"payload": item},
            canonical=canonical,
            identifiers=[("email", text(item.get("email")))],
            place=place,
        )


SENDGRID = register(
    Channel(
        name="sendgrid",
        meaning="SendGrid's event webhook: what became of each mail",
        translate=_translate,
        scheme="sendgrid",
    )
)
