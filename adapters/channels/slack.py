"""Slack: messages of a workspace's Events API, slash commands and interactions.

The key of an event is `event_id`, whatever the number of the attempt; of a command or interaction its `trigger_id`. An app
that is mentioned is told so beside the message itself, which is the touchpoint.
"""

from __future__ import annotations

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
from adapters.channels.forms import fields_of
from adapters.channels.values import at_epoch, first, inside, text
from domain.errors import Invalid, Problem

__all__ = ["SLACK"]

_WORDS = (None, "bot_message", "file_share", "thread_broadcast", "me_message")
"""Subtypes of a message that say something; the others tell of another one, or of the channel."""
_OF_THE_DELIVERY = ("token", "authorizations", "is_ext_shared_channel", "event_context")


def _event(delivery: Delivery, body: dict[str, Any], event: dict[str, Any]) -> Found:
    kind = first(event.get("type"), "event")
    user = first(event.get("user"), inside(event, "user", "id"), inside(event, "message", "user"))
    at = at_epoch(event.get("event_ts")) or at_epoch(event.get("ts")) or at_epoch(body.get("event_time"))
    canonical = compared(body, but=_OF_THE_DELIVERY)
    room = text(event.get("channel"))
    ours = text(event.get("bot_id")) is not None
    if kind == "message" and event.get("subtype") in _WORDS:
        type_ = "chat.message_sent" if ours else "chat.message_received"
        thread = first(event.get("thread_ts"), event.get("ts"))
        data: dict[str, Any] = {
            "conversation_id": f"{room or ''}:{thread or ''}",
            "message_id": f"{room or ''}:{text(event.get('ts')) or ''}",
            "text": text(event.get("text")),
            "queue": room,
            "bot": True if ours else None,
            "files": event.get("files"),
        }
    else:
        subtype = text(event.get("subtype"))
        type_ = f"slack.{kind}" + (f".{subtype}" if subtype is not None else "")
        data = {"payload": event}
    return touchpoint(
        delivery,
        id=text(body.get("event_id")) or unnamed(canonical),
        type=type_,
        at=at,
        data=data,
        canonical=canonical,
        identifiers=[("user@slack", None if ours else user)],
    )


def _form(delivery: Delivery) -> Found:
    form = dict(fields_of(delivery.body, delivery.headers.get("content-type", "")))
    told: Any = form
    kind, user = "command", form.get("user_id")
    if "payload" in form:
        told = json_of(form["payload"].encode("utf-8", "replace"))
        kind = first(inside(told, "type"), "interaction") or ""
        user = text(inside(told, "user", "id"))
    elif "command" not in form:
        raise Invalid([Problem("", "The form is neither a command nor an interaction.", "missing")])
    told = (
        {name: value for name, value in told.items() if name not in ("token", "response_url")}
        if isinstance(told, dict)
        else {}
    )
    canonical = compared(told)
    return touchpoint(
        delivery,
        id=text(told.get("trigger_id")) or unnamed(canonical),
        type=f"slack.{kind}",
        at=at_epoch(told.get("action_ts")) or at_epoch(inside(told, "actions", 0, "action_ts")),
        data={"payload": told},
        canonical=canonical,
        identifiers=[("user@slack", user)],
    )


def _translate(delivery: Delivery) -> Iterator[Found]:
    if "form" in delivery.headers.get("content-type", "").lower():
        yield _form(delivery)
        return
    body = json_of(delivery.body)
    event = inside(body, "event")
    if isinstance(body, dict) and isinstance(event, dict):
        yield _event(delivery, body, event)
        return
    kind = text(inside(body, "type"))
    if kind is None or not isinstance(body, dict):
        raise Invalid([Problem("/type", "The body names no type: it is no event of Slack.", "missing")])
    told = {name: value for name, value in body.items() if name != "token"}
    yield touchpoint(  # of the app itself, as app_rate_limited
        delivery,
        id=unnamed(compared(told)),
        type=f"slack.{kind}",
        at=at_epoch(body.get("minute_rate_limited")),
        data={"payload": told},
        canonical=compared(told),
    )


SLACK = register(
    Channel(
        name="slack",
        meaning="Slack: messages, commands, interactions",
        translate=_translate,
        scheme="slack",
    )
)
