"""Intercom: conversations, contacts, tickets and ratings.

`topic` says what; the key is the id of the notification (`notif_…`), which every attempt of its delivery has. Texts are
HTML. `user_id` and `external_id` are the company's own ids of a person, `id` is Intercom's.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
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
from adapters.channels.values import at_epoch, first, inside, text, within
from domain.errors import Invalid, Problem

__all__ = ["INTERCOM"]

_OF_THE_DELIVERY = ("delivery_status", "delivery_attempts", "delivered_at", "first_sent_at")
_TAG = re.compile(r"<[^<>]{0,2000}>")
_BREAK = re.compile(r"<(?:br|/p|/div|/li)\b[^<>]{0,200}>", re.IGNORECASE)

_TYPES = {
    "conversation.user.created": "chat.started",
    "conversation.user.replied": "chat.message_received",
    "conversation.admin.replied": "chat.message_sent",
    "conversation.admin.single.created": "chat.message_sent",
    "conversation.admin.closed": "chat.ended",
    "conversation.rating.added": "survey.answered",
    "contact.created": "profile.updated",
    "contact.user.created": "profile.updated",
    "contact.lead.created": "profile.updated",
    "contact.user.updated": "profile.updated",
    "contact.lead.updated": "profile.updated",
    "contact.email.updated": "profile.updated",
    "user.created": "profile.updated",
    "user.email.updated": "profile.updated",
    "contact.unsubscribed": "email.unsubscribed",
    "contact.user.unsubscribed": "email.unsubscribed",
    "user.unsubscribed": "email.unsubscribed",
    "ticket.created": "case.opened",
    "ticket.closed": "case.closed",
}
_TRAITS = (
    "name",
    "email",
    "phone",
    "role",
    "location_data",
    "custom_attributes",
    "signed_up_at",
    "browser_language",
)


def _words(value: Any) -> str | None:
    """What a text of HTML says."""
    given = text(value)
    if given is None:
        return None
    return text(html.unescape(_TAG.sub("", _BREAK.sub("\n", given[:200_000]))).strip())


def _person(contact: Any) -> list[tuple[str, object]]:
    phone = text(inside(contact, "phone"))
    return [
        ("user", first(inside(contact, "user_id"), inside(contact, "external_id"))),
        ("user@intercom", text(inside(contact, "id"))),
        ("email", text(inside(contact, "email"))),
        ("phone", phone if phone is not None and phone.startswith("+") else None),
    ]


def _whom(topic: str, item: Any) -> list[tuple[str, object]]:
    if topic.startswith(("contact.", "user.")) and inside(item, "type") not in (
        "conversation",
        "contact_tag",
    ):
        return _person(inside(item, "contact") or item)
    contact = (
        inside(item, "user") or inside(item, "contacts", "contacts", 0) or inside(item, "source", "author")
    )
    return _person(contact if inside(contact, "type") not in ("admin", "bot", "team") else None)


def _part(item: Any) -> Any:
    """The newest thing that was said: the part that the notification is about, or the first message."""
    parts = inside(item, "conversation_parts", "conversation_parts")
    return inside(parts, -1) or inside(item, "source") or inside(item, "conversation_message")


def _data(type_: str, item: Any) -> dict[str, Any]:
    part = _part(item)
    author = inside(part, "author")
    if type_.startswith("chat."):
        data: dict[str, Any] = {"conversation_id": text(inside(item, "id"))}
        if type_ == "chat.started":
            return data | {"topic": _words(first(inside(item, "source", "subject"), inside(part, "subject")))}
        if type_ == "chat.ended":
            return data | {"agent": text(inside(author, "name")), "outcome": text(inside(item, "state"))}
        data |= {"message_id": text(inside(part, "id")), "text": _words(inside(part, "body"))}
        if type_ == "chat.message_sent":
            data |= {
                "agent": text(inside(author, "name")),
                "bot": True if inside(author, "type") == "bot" else None,
            }
        return data
    if type_ == "survey.answered":
        rating = inside(item, "conversation_rating")
        return {
            "metric": "csat",
            "score": within(inside(rating, "rating"), 1, 5),
            "comment": _words(inside(rating, "remark")),
            "conversation_id": text(inside(item, "id")),
        }
    if type_ == "profile.updated":
        contact = inside(item, "contact") or item
        traits = (
            {name: contact[name] for name in _TRAITS if contact.get(name) not in (None, "", {}, [])}
            if isinstance(contact, dict)
            else {}
        )
        return {"traits": traits or None, "method": "intercom"}
    if type_ == "email.unsubscribed":
        return {"method": "link"}
    attributes = inside(item, "ticket_attributes")
    return {
        "case_id": first(inside(item, "ticket_id"), inside(item, "id")),
        "subject": text(inside(attributes, "_default_title_")),
        "description": _words(inside(attributes, "_default_description_"))
        if type_ == "case.opened"
        else None,
        "category": text(inside(item, "ticket_type", "name")),
        "status": first(inside(item, "ticket_state"), inside(item, "state")),
    }


def _translate(delivery: Delivery) -> Iterator[Found]:
    body = json_of(delivery.body)
    topic, item = text(inside(body, "topic")), inside(body, "data", "item")
    if topic is None:
        raise Invalid([Problem("/topic", "The body names no topic.", "missing")])
    canonical = compared(body, but=_OF_THE_DELIVERY)
    id_ = text(inside(body, "id")) or unnamed(canonical)
    at = at_epoch(inside(body, "created_at"))
    type_, whom = _TYPES.get(topic), _whom(topic, item)
    case = first(inside(item, "ticket_id"), inside(item, "id")) if topic.startswith("ticket.") else None
    data = _data(type_, item) if type_ else {"payload": item}
    if type_ == "survey.answered" and data["score"] is None:
        type_, data = None, {"payload": item}
    yield touchpoint(
        delivery,
        id=id_,
        type=type_ or f"intercom.{topic}",
        at=at,
        data=data,
        canonical=canonical,
        identifiers=[*whom, ("case", case)],
    )
    if type_ == "chat.started" and (said := _words(inside(_part(item), "body"))) is not None:
        yield touchpoint(  # what it began with
            delivery,
            id=f"{id_}:message",
            type="chat.message_received",
            at=at,
            data=_data("chat.message_received", item) | {"text": said},
            canonical=canonical,
            identifiers=whom,
            place="/data/item",
        )


INTERCOM = register(
    Channel(
        name="intercom",
        meaning="Intercom: conversations, contacts, tickets, ratings",
        translate=_translate,
        scheme="intercom",
    )
)
