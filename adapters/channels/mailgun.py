"""Mailgun: what became of each mail (JSON, or the forms of older webhooks), and mails that its routes pass on.

The key is `event-data.id`; a mail's is its Message-Id. The signature inside the body says nothing of it, and is
another one at each attempt: it is left aside.
"""

from __future__ import annotations

from collections.abc import Iterator
from email import message_from_string
from email.policy import default
from typing import Any

from adapters.channels.channel import (
    Channel,
    Delivery,
    Found,
    compared,
    json_of,
    register,
    touchpoint,
    unnamed,
)
from adapters.channels.forms import fields_of
from adapters.channels.values import at_epoch, at_mail_date, first, inside, text
from domain.errors import Invalid, Problem

__all__ = ["MAILGUN"]

_TYPES = {
    "accepted": "email.sent",
    "delivered": "email.delivered",
    "opened": "email.opened",
    "clicked": "email.clicked",
    "failed": "email.bounced",
    "bounced": "email.bounced",  # of older webhooks, as is dropped
    "dropped": "email.bounced",
    "complained": "email.complained",
    "unsubscribed": "email.unsubscribed",
}
_OF_THE_DELIVERY = ("signature", "token", "timestamp")


def _bare(message_id: Any) -> str | None:
    found = text(message_id)
    return found.strip().strip("<>") or None if found is not None else None


def _event(delivery: Delivery, told: dict[str, Any], canonical: bytes) -> Found:
    kind = text(told.get("event"))
    if kind is None:
        raise Invalid([Problem("/event-data/event", "The body names no event.", "missing")])
    headers = inside(told, "message", "headers")
    status = told.get("delivery-status")
    client = told.get("client-info")
    message_id = _bare(first(inside(headers, "message-id"), told.get("Message-Id"), told.get("message-id")))
    type_ = _TYPES.get(kind)
    data: dict[str, Any] = {
        "message_id": message_id,
        "subject": text(inside(headers, "subject")),
        "campaign_id": text(inside(told, "campaigns", 0, "id")),
        "ip": text(told.get("ip")),
        "user_agent": first(inside(client, "user-agent"), told.get("user-agent")),
        "reason": text(told.get("reason")),
        "response": first(inside(status, "message"), inside(status, "description"), told.get("error")),
        "context": told.get("user-variables") or None,
        "tags": told.get("tags") or None,
    }
    if type_ == "email.bounced":
        severity = text(told.get("severity"))
        data["bounce"] = severity if severity in ("permanent", "temporary") else "permanent"
        data["smtp_code"] = first(inside(status, "code"), told.get("code"))
    elif type_ == "email.clicked":
        data["url"] = text(told.get("url"))
    elif type_ == "email.unsubscribed":
        data["method"] = "link"
        data["list_id"] = text(inside(told, "mailing-list", "address"))
    at = at_epoch(told.get("timestamp"))
    return touchpoint(
        delivery,
        id=text(told.get("id")) or unnamed(canonical),
        type=type_ or f"mailgun.{kind}",
        at=at,
        data=data if type_ else {"payload": told},
        canonical=canonical,
        identifiers=[("email", text(told.get("recipient")))],
    )


def _mail(delivery: Delivery, form: dict[str, Any]) -> Found:
    """A mail that came in by a route, parsed by Mailgun or whole."""
    get = form.get
    told = {name: text(value) for name, value in form.items()}
    if told.get("body-mime"):
        message = message_from_string(str(told["body-mime"]), policy=default)
        for ours, theirs in (("Message-Id", "message-id"), ("subject", "subject"), ("Date", "date")):
            with_header = message.get(theirs)
            told[ours] = told.get(ours) or (text(str(with_header)) if with_header is not None else None)
    message_id = _bare(told.get("Message-Id"))
    canonical = compared(form, but=_OF_THE_DELIVERY)
    return touchpoint(
        delivery,
        id=message_id or unnamed(canonical),
        type="email.received",
        at=at_mail_date(told.get("Date")) or at_epoch(get("timestamp")),
        data={
            "message_id": message_id,
            "in_reply_to": _bare(told.get("In-Reply-To")),
            "subject": told.get("subject"),
            "body": first(told.get("stripped-text"), told.get("body-plain"), told.get("body-html")),
            "from_address": first(told.get("from"), told.get("sender")),
            "to_address": told.get("recipient"),
            "mailbox": told.get("recipient"),
            "mime": told.get("body-mime"),
        },
        canonical=canonical,
        identifiers=[("email", told.get("sender"))],
    )


def _translate(delivery: Delivery) -> Iterator[Found]:
    content_type = delivery.headers.get("content-type", "")
    if "form" in content_type.lower():
        form = dict(fields_of(delivery.body, content_type))
        if "recipient" not in form:
            raise Invalid(
                [
                    Problem(
                        "",
                        "The form names no recipient: it is neither a mail nor what became of one.",
                        "missing",
                    )
                ]
            )
        if "event" in form:
            yield _event(delivery, form, compared(form, but=_OF_THE_DELIVERY[:2]))
        else:
            yield _mail(delivery, form)
        return
    told = inside(json_of(delivery.body), "event-data")
    if not isinstance(told, dict):
        raise Invalid([Problem("/event-data", "The body has no object 'event-data'.", "missing")])
    yield _event(delivery, told, compared(told))


MAILGUN = register(
    Channel(
        name="mailgun",
        meaning="Mailgun: what became of each mail, and mails that came in",
        translate=_translate,
        scheme="mailgun",
    )
)
