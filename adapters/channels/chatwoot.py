"""Chatwoot: messages, conversations, contacts and answers to its surveys.

There is no id of the event: the key is account, event and id of what it is about, with the time of the change where it may
change again. `private` messages are notes among agents. Ids of contacts are Chatwoot's own; `identifier` is the company's.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from adapters.channels.channel import Channel, Delivery, Found, compared, json_of, register, touchpoint
from adapters.channels.values import at_epoch, at_time, first, inside, text, within
from domain.errors import Invalid, Problem

__all__ = ["CHATWOOT"]

_ONCE = {"message_created", "conversation_created", "contact_created"}
_BY_US = ("outgoing", "template", 1, 3)
_FROM_THEM = ("incoming", 0)


def _at(value: Any) -> datetime | None:
    return at_time(value, zone=UTC) if isinstance(value, str) else at_epoch(value)


def _changed(body: dict[str, Any]) -> Any:
    """When a thing changed: as a text, in seconds, or with a fraction of one."""
    return next((body[name] for name in ("updated_at", "timestamp") if body.get(name) is not None), None)


def _person(contact: Any) -> list[tuple[str, object]]:
    phone = text(inside(contact, "phone_number"))
    return [
        ("user", text(inside(contact, "identifier"))),
        ("user@chatwoot", text(inside(contact, "id"))),
        ("email", text(inside(contact, "email"))),
        ("phone", phone if phone is not None and phone.startswith("+") else None),
    ]


def _message(body: dict[str, Any]) -> tuple[str, dict[str, Any], list[tuple[str, object]]]:
    conversation, sender = body.get("conversation"), body.get("sender")
    contact = inside(conversation, "meta", "sender")
    kind = body.get("message_type")
    data: dict[str, Any] = {
        "conversation_id": first(inside(conversation, "id"), inside(conversation, "display_id")),
        "message_id": text(body.get("id")),
        "text": text(body.get("content")),
        "queue": text(inside(body, "inbox", "name")),
        "attachments": body.get("attachments") or None,
        "service": text(inside(conversation, "channel")),
    }
    if kind in _BY_US and not isinstance(kind, bool) and body.get("private") is not True:
        bot = kind in ("template", 3) or text(inside(sender, "type")) == "agent_bot"
        data |= {"agent": text(inside(sender, "name")), "bot": True if bot else None}
        return "chat.message_sent", data, _person(contact)
    if kind in _FROM_THEM and not isinstance(kind, bool):
        return "chat.message_received", data, _person(sender if inside(sender, "id") is not None else contact)
    return (
        "chatwoot.note" if body.get("private") is True else "chatwoot.activity",
        {"payload": body},
        _person(contact),
    )


def _conversation(body: dict[str, Any], event: str) -> tuple[str, dict[str, Any], list[tuple[str, object]]]:
    status = text(body.get("status"))
    data: dict[str, Any] = {
        "conversation_id": text(body.get("id")),
        "agent": text(inside(body, "meta", "assignee", "name")),
        "service": text(body.get("channel")),
    }
    whom = _person(inside(body, "meta", "sender"))
    if event == "conversation_created":
        return "chat.started", data, whom
    if event == "conversation_status_changed" and status == "resolved":
        return "chat.ended", data | {"outcome": status}, whom
    return f"chatwoot.{event}", {"payload": body}, whom


def _contact(body: dict[str, Any]) -> tuple[str, dict[str, Any], list[tuple[str, object]]]:
    names = ("name", "email", "phone_number", "custom_attributes", "additional_attributes")
    traits = {name: body[name] for name in names if body.get(name) not in (None, "", {}, [])}
    return "profile.updated", {"traits": traits or None, "method": "chatwoot"}, _person(body)


def _translate(delivery: Delivery) -> Iterator[Found]:
    body = json_of(delivery.body)
    event = text(inside(body, "event"))
    if event is None or not isinstance(body, dict):
        raise Invalid([Problem("/event", "The body names no event.", "missing")])
    about = first(
        body.get("id"),
        inside(body, "conversation", "id"),
        inside(body, "contact", "id"),
        body.get("source_id"),
    )
    given = body.get("created_at") if event in _ONCE else _changed(body)
    at = _at(given) or _at(inside(body, "event_info", "initiated_at", "timestamp"))
    key = f"{first(inside(body, 'account', 'id'), inside(body, 'account_id')) or ''}:{event}:{about or ''}"
    if event not in _ONCE:  # the same thing may change again
        changed = at.isoformat() if at is not None else first(body.get("last_activity_at")) or ""
        key += f":{first(body.get('status')) or ''}:{changed}"
    if event == "message_created":
        type_, data, whom = _message(body)
    elif event.startswith("conversation_") and "typing" not in event:
        type_, data, whom = _conversation(body, event)
    elif event in ("contact_created", "contact_updated"):
        type_, data, whom = _contact(body)
    else:
        contact = inside(body, "conversation", "meta", "sender") or body.get("contact")
        type_, data, whom = f"chatwoot.{event}", {"payload": body}, _person(contact)
    yield touchpoint(
        delivery, id=key, type=type_, at=at, data=data, canonical=compared(body), identifiers=whom
    )
    rating = inside(body, "content_attributes", "submitted_values", "csat_survey_response")
    score = within(inside(rating, "rating"), 1, 5)
    if event == "message_updated" and score is not None:
        answered = {
            "conversation_id": text(inside(body, "conversation", "id")),
            "metric": "csat",
            "score": score,
        }
        comment = text(inside(rating, "feedback_message"))
        yield touchpoint(
            delivery,
            id=f"{key}:csat",
            type="survey.answered",
            at=at,
            data=answered | {"comment": comment},
            canonical=compared(answered | {"comment": comment}),
            identifiers=whom,
            place="/content_attributes",
        )


CHATWOOT = register(
    Channel(
        name="chatwoot",
        meaning="Chatwoot: messages, conversations, contacts",
        translate=_translate,
        scheme="chatwoot",
    )
)
