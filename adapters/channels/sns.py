"""Amazon SNS, and SES by it: what became of each mail, for each of its recipients; mails that came in; any other message.

SES writes JSON into the text `Message`; `eventType` is what configuration sets say, `notificationType` what identities
do. One of its messages may speak of many recipients: the key is MessageId and address.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapters.channels.channel import Channel, Delivery, Found, compared, json_of, register, touchpoint
from adapters.channels.values import at_mail_date, at_time, first, inside, listed, text
from domain.errors import Invalid, Problem

__all__ = ["SNS"]

_TYPES = {
    "Send": "email.sent",
    "Delivery": "email.delivered",
    "Open": "email.opened",
    "Click": "email.clicked",
    "Bounce": "email.bounced",
    "Reject": "email.bounced",
    "Complaint": "email.complained",
    "Subscription": "email.unsubscribed",
}
_MEMBERS = {"Rendering Failure": "failure", "DeliveryDelay": "deliveryDelay"}
_OF_THE_DELIVERY = ("Signature", "SignatureVersion", "SigningCertURL", "UnsubscribeURL", "UnsubscribeUrl")
"""Members of which a certificate that was renewed between two attempts changes some."""


def _recipients(kind: str, told: Any, mail: Any) -> list[tuple[str | None, Any]]:
    """(address, what is said of it alone) of all of whom the message speaks."""
    name = {
        "Bounce": "bouncedRecipients",
        "Complaint": "complainedRecipients",
        "DeliveryDelay": "delayedRecipients",
    }.get(kind)
    found: list[tuple[str | None, Any]]
    if name is not None:
        found = [(text(inside(one, "emailAddress")), one) for one in listed(inside(told, name))]
    elif kind == "Delivery":
        found = [(text(one), None) for one in listed(inside(told, "recipients"))]
    else:
        found = []
    return found or [(text(one), None) for one in listed(inside(mail, "destination"))] or [(None, None)]


def _outcome(kind: str, told: Any, mail: Any, alone: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "message_id": text(inside(mail, "messageId")),
        "subject": text(inside(mail, "commonHeaders", "subject")),
        "campaign_id": text(inside(mail, "tags", "campaign", 0)),
        "from_address": text(inside(mail, "source")),
        "ip": text(inside(told, "ipAddress")),
        "user_agent": text(inside(told, "userAgent")),
        "context": inside(mail, "tags") or None,
    }
    if kind in ("Bounce", "Reject"):
        data["bounce"] = "temporary" if text(inside(told, "bounceType")) == "Transient" else "permanent"
        data["reason"] = first(inside(told, "bounceSubType"), inside(told, "reason"))
        data["smtp_code"] = text(inside(alone, "status"))
        data["response"] = text(inside(alone, "diagnosticCode"))
    elif kind == "Complaint":
        data["reason"] = text(inside(told, "complaintFeedbackType"))
    elif kind == "Click":
        data["url"] = text(inside(told, "link"))
    elif kind == "Delivery":
        data["response"] = text(inside(told, "smtpResponse"))
    elif kind == "Subscription":
        data["list_id"] = text(inside(told, "contactList"))
        data["method"] = first(inside(told, "source"), "link")
    return data


def _received(delivery: Delivery, id_: str, message: dict[str, Any], canonical: bytes) -> Found:
    mail = message.get("mail")
    common = inside(mail, "commonHeaders")
    return touchpoint(
        delivery,
        id=id_,
        type="email.received",
        at=at_mail_date(inside(common, "date")) or at_time(inside(mail, "timestamp")),
        data={
            "message_id": first(inside(common, "messageId"), inside(mail, "messageId")),
            "subject": text(inside(common, "subject")),
            "from_address": first(inside(common, "from", 0), inside(mail, "source")),
            "to_address": first(inside(common, "to", 0), inside(mail, "destination", 0)),
            "mailbox": text(inside(mail, "destination", 0)),
            "receipt": message.get("receipt"),
            "mime": text(message.get("content")),
        },
        canonical=canonical,
        identifiers=[("email", text(inside(mail, "source")))],
    )


def _translate(delivery: Delivery) -> Iterator[Found]:
    envelope = json_of(delivery.body)
    id_ = text(inside(envelope, "MessageId"))
    if id_ is None:
        raise Invalid([Problem("/MessageId", "The body is no message of Amazon SNS.", "missing")])
    canonical = compared(envelope, but=_OF_THE_DELIVERY)
    given = text(inside(envelope, "Message"))
    try:
        message = json_of(given.encode("utf-8", "replace")) if given is not None else None
    except Invalid:
        message = None
    kind = first(inside(message, "eventType"), inside(message, "notificationType"))
    mail = inside(message, "mail")
    if kind is None or not isinstance(mail, dict) or not isinstance(message, dict):
        yield touchpoint(
            delivery,
            id=id_,
            type="sns.notification",
            at=at_time(inside(envelope, "Timestamp")),
            data={
                "topic": text(inside(envelope, "TopicArn")),
                "payload": message if message is not None else given,
            },
            canonical=canonical,
        )
        return
    if kind == "Received":
        yield _received(delivery, id_, message, canonical)
        return
    told = message.get(_MEMBERS.get(kind, kind.lower()))
    type_ = _TYPES.get(kind)
    if kind == "Subscription" and inside(told, "newTopicPreferences", "unsubscribeAll") is not True:
        type_ = None  # preferences were changed, nobody left
    at = at_time(inside(told, "timestamp")) or at_time(inside(mail, "timestamp"))
    recipients = dict.fromkeys(address for address, _ in _recipients(kind, told, mail))
    alone = dict(_recipients(kind, told, mail))
    for address in recipients:
        yield touchpoint(
            delivery,
            id=id_ if address is None else f"{id_}:{address}",
            type=type_ or "ses." + kind.lower().replace(" ", "_"),
            at=at,
            data=_outcome(kind, told, mail, alone[address]) if type_ else {"payload": message},
            canonical=canonical,
            identifiers=[("email", address)],
        )


SNS = register(
    Channel(
        name="sns",
        meaning="Amazon SNS, and SES by it: what became of each mail, mails that came in",
        translate=_translate,
        scheme="sns",
    )
)
