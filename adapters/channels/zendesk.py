"""Zendesk's events: tickets and what is said in them, messaging, users.

`type` is `zen:event-type:…`, the key is `id`, times have nanoseconds. Only the event that opens a ticket names its
requester in `detail` surely; all of them name the ticket, which attaches them to that person.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapters.channels.channel import Channel, Delivery, Found, compared, json_of, register, touchpoint
from adapters.channels.values import at_time, first, inside, text
from domain.errors import Invalid, Problem

__all__ = ["ZENDESK"]

_PREFIX = "zen:event-type:"
_CLOSED = {"SOLVED": "case.resolved", "CLOSED": "case.closed"}
_TRAITS = ("name", "email", "phone", "role", "locale", "time_zone", "tags", "notes", "external_id")


def _case(detail: Any) -> dict[str, Any]:
    return {
        "case_id": text(inside(detail, "id")),
        "subject": text(inside(detail, "subject")),
        "category": text(inside(detail, "type")),
        "priority": text(inside(detail, "priority")),
        "status": text(inside(detail, "status")),
        "team": text(inside(detail, "group_id")),
        "agent": text(inside(detail, "assignee_id")),
        "via": text(inside(detail, "via", "channel")),
        "tags": inside(detail, "tags") or None,
    }


def _ticket(kind: str, detail: Any, event: Any) -> tuple[str, dict[str, Any]]:
    data = _case(detail)
    current, before = (text(inside(event, name)) or "" for name in ("current", "previous"))
    if kind == "ticket.created":
        return "case.opened", data | {"description": text(inside(detail, "description"))}
    if kind == "ticket.comment_added":
        comment = inside(event, "comment")
        ours = inside(comment, "author", "is_staff")
        return "case.replied", data | {
            "author": "agent" if ours is True else "customer" if ours is False else None,
            "agent": text(inside(comment, "author", "name")) if ours is True else data["agent"],
            "text": text(inside(comment, "body")),
            "private": True if inside(comment, "is_public") is False else None,
        }
    if kind == "ticket.status_changed":
        type_ = _CLOSED.get(current.upper())
        if type_ is not None:
            return type_, data
        if before.upper() == "SOLVED":
            return "case.reopened", data
    if kind in ("ticket.agent_assignment_changed", "ticket.group_assignment_changed"):
        name = "agent" if "agent" in kind else "team"
        return "case.assigned", data | {name: text(inside(event, "current"))}
    return f"zendesk.{kind}", {"payload": {"detail": detail, "event": event}}


def _message(detail: Any, event: Any) -> tuple[str, dict[str, Any]]:
    actor = inside(event, "actor")
    by = (text(inside(actor, "type")) or "").lower()
    theirs = by in ("end_user", "end-user", "customer", "user")
    data = {
        "conversation_id": text(inside(event, "conversation_id")),
        "case_id": text(inside(detail, "id")),
        "message_id": text(inside(event, "message", "id")),
        "text": text(inside(event, "message", "body")),
    }
    if theirs:
        return "chat.message_received", data
    bot = by in ("system", "bot", "business") or None
    return "chat.message_sent", data | {"agent": text(inside(actor, "name")), "bot": bot}


def _whom(kind: str, detail: Any, event: Any) -> list[tuple[str, object]]:
    if kind.startswith("user."):
        return [
            ("user", text(inside(detail, "external_id"))),
            ("user@zendesk", text(inside(detail, "id"))),
            ("email", text(inside(detail, "email"))),
        ]
    actor = inside(event, "actor")
    by_them = (text(inside(actor, "type")) or "").lower() in ("end_user", "end-user", "customer", "user")
    author = inside(event, "comment", "author")
    asked = first(
        inside(detail, "requester_id"),
        inside(actor, "id") if by_them else None,
        inside(author, "id") if inside(author, "is_staff") is False else None,
    )
    return [("user@zendesk", asked)]


def _translate(delivery: Delivery) -> Iterator[Found]:
    body = json_of(delivery.body)
    id_, type_ = text(inside(body, "id")), text(inside(body, "type"))
    if id_ is None or type_ is None:
        raise Invalid(
            [Problem("", "The body is no event of Zendesk: it has not both id and type.", "missing")]
        )
    kind = type_.removeprefix(_PREFIX)
    detail, event = inside(body, "detail"), inside(body, "event")
    if kind.startswith("ticket."):
        ours, data = _ticket(kind, detail, event)
    elif kind == "messaging_ticket.message_added":
        ours, data = _message(detail, event)
    elif kind == "user.created" and isinstance(detail, dict):
        traits = {name: detail[name] for name in _TRAITS if detail.get(name) not in (None, "", {}, [])}
        ours, data = "profile.updated", {"traits": traits or None, "method": "zendesk"}
    else:
        ours, data = f"zendesk.{kind}", {"payload": {"detail": detail, "event": event}}
    case = text(inside(detail, "id")) if "ticket" in kind.partition(".")[0] else None
    yield touchpoint(
        delivery,
        id=id_,
        type=ours,
        at=at_time(inside(body, "time")),
        data=data,
        canonical=compared(body),
        identifiers=[*_whom(kind, detail, event), ("case", case)],
    )


ZENDESK = register(
    Channel(
        name="zendesk",
        meaning="Zendesk's events: tickets, messaging, users",
        translate=_translate,
        scheme="zendesk",
    )
)
