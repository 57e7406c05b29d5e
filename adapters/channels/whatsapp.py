"""WhatsApp Cloud, and Messenger and Instagram by the same webhooks of Meta: messages, what became of ours, calls, wishes.

One body nests many: entry → changes → messages, statuses, calls … The key of a message is its id, of what became of one
id and status. Times are seconds, mostly as text; Messenger's are milliseconds. A person may hide the number: then
only Meta's own id of them is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from adapters.channels.channel import (
    Channel,
    Delivery,
    Found,
    Setting,
    Untranslated,
    compared,
    items_in,
    register,
    touchpoint,
    unnamed,
)
from adapters.channels.consent_fact import State, consent_fact
from adapters.channels.values import at_epoch, first, inside, listed, seconds, text
from adapters.intake.payloads import members_of
from domain.errors import Invalid, Problem

__all__ = ["WHATSAPP"]

_MILLISECOND = Decimal("0.001")
_MEDIA = ("image", "video", "audio", "document", "sticker")
_NO_MESSAGES = ("system", "revoke", "edit")
"""Kinds of message that say something of another, or of the person's account."""
_WISHES: dict[str | None, State] = {"stop": "withdrawn", "resume": "given"}
_OUTCOMES = {"COMPLETED": "answered", "FAILED": "failed", "REJECTED": "rejected"}


def _number(wa_id: str | None) -> str | None:
    """A number as E.164 has it: Meta writes it without the +."""
    return f"+{wa_id}" if wa_id is not None and wa_id.isascii() and wa_id.isdigit() else wa_id


def _whom(wa_id: Any, user_id: Any = None) -> list[tuple[str, object]]:
    number = _number(text(wa_id))
    return [
        ("whatsapp", number),
        ("phone", number if number is not None and number.startswith("+") else None),
        ("user@whatsapp", text(user_id)),
    ]


def _said(message: Any) -> str | None:
    """What a message says in words, of whatever kind it is."""
    kind = text(inside(message, "type")) or ""
    reply = inside(message, "interactive")
    return first(
        inside(message, "text", "body"),
        inside(message, "button", "text"),
        inside(reply, "button_reply", "title"),
        inside(reply, "list_reply", "title"),
        inside(reply, "nfm_reply", "body"),
        inside(message, "reaction", "emoji"),
        inside(message, "order", "text"),
        inside(message, kind, "caption"),
        inside(message, "location", "name"),
    )


def _written(message: Any, ours: Any) -> dict[str, Any]:
    kind = text(inside(message, "type"))
    return {
        "service": "whatsapp",
        "message_id": text(inside(message, "id")),
        "from_number": _number(text(inside(message, "from"))),
        "to_number": _number(first(inside(message, "to"), inside(ours, "display_phone_number"))),
        "text": _said(message),
        "media_count": 1 if kind in _MEDIA else None,
        "reply_to": first(inside(message, "context", "id"), inside(message, "reaction", "message_id")),
        "kind": kind,
        "content": inside(message, kind) if kind is not None and kind != "text" else None,
        "referral": inside(message, "referral"),
        "errors": inside(message, "errors"),
    }


class _Change:
    """One change of one entry: its value, and who stands beside it."""

    def __init__(self, delivery: Delivery, value: dict[str, Any], place: str) -> None:
        self.delivery = delivery
        self.value = value
        self.place = place
        self.ours = value.get("metadata")
        contacts = [each for each in listed(value.get("contacts")) if isinstance(each, dict)]
        self._ids = {text(each.get("wa_id")): text(each.get("user_id")) for each in contacts}
        self._only = contacts[0] if len(contacts) == 1 else None

    def whom(self, wa_id: Any, user_id: Any = None) -> list[tuple[str, object]]:
        """The person with this number; without one, the only one who stands beside."""
        given = text(wa_id)
        if given is None and text(user_id) is None and self._only is not None:
            return _whom(self._only.get("wa_id"), self._only.get("user_id"))
        return _whom(given, text(user_id) or self._ids.get(given))

    def items(self, name: str) -> Iterator[tuple[dict[str, Any], str]]:
        """The objects of a list of the value, with their places."""
        for number, item in enumerate(listed(self.value.get(name))):
            if isinstance(item, dict):
                yield item, f"{self.place}/{name}/{number}"

    def touchpoint(self, item: dict[str, Any], place: str, **more: Any) -> Found:
        """One of this change's; without an id of its own by what it says."""
        canonical = compared(item)
        id_ = more.pop("id", None) or unnamed(canonical)
        more.setdefault("at", at_epoch(item.get("timestamp")))
        return touchpoint(self.delivery, id=id_, canonical=canonical, place=place, **more)


def _messages(change: _Change) -> Iterator[Found]:
    for message, place in change.items("messages"):
        kind = text(message.get("type"))
        whom = change.whom(message.get("from"), message.get("from_user_id"))
        if kind in _NO_MESSAGES:
            told = {"payload": message}
            yield change.touchpoint(
                message,
                place,
                id=text(message.get("id")),
                type=f"whatsapp.{kind}",
                data=told,
                identifiers=whom,
            )
            continue
        yield change.touchpoint(
            message,
            place,
            id=text(message.get("id")),
            type="message.received",
            data=_written(message, change.ours),
            identifiers=whom,
            channel="whatsapp",
        )


def _echoes(change: _Change) -> Iterator[Found]:
    """What was written to customers in the WhatsApp Business app."""
    for message, place in change.items("message_echoes"):
        yield change.touchpoint(
            message,
            place,
            id=text(message.get("id")),
            type="message.sent",
            data=_written(message, change.ours),
            identifiers=change.whom(message.get("to"), message.get("to_user_id")),
            channel="whatsapp",
        )


def _statuses(change: _Change) -> Iterator[Found]:
    for status, place in change.items("statuses"):
        id_, kind = text(status.get("id")), first(status.get("status"), "unknown")
        of_a_call = status.get("type") == "call"
        number = _number(text(status.get("recipient_id")))
        data = {
            "service": "whatsapp",
            "message_id": id_,
            "to_number": number,
            "from_number": _number(text(inside(change.ours, "display_phone_number"))),
            "conversation_id": text(inside(status, "conversation", "id")),
            "category": text(inside(status, "pricing", "category")),
            "errors": status.get("errors"),
            "callback_data": text(status.get("biz_opaque_callback_data")),
        }
        sent = kind == "sent" and not of_a_call
        yield change.touchpoint(
            status,
            place,
            id=f"{id_}:{kind}" if id_ is not None else None,
            type="message.sent"
            if sent
            else f"whatsapp.{'call' if of_a_call else 'message'}.{str(kind).lower()}",
            data=data,
            identifiers=change.whom(status.get("recipient_id"), status.get("recipient_user_id")),
            channel="whatsapp",
            direction="outbound" if sent else None,
        )


def _calls(change: _Change) -> Iterator[Found]:
    for call, place in change.items("calls"):
        id_, happened = text(call.get("id")), first(call.get("event"), "unknown")
        outbound = text(call.get("direction")) == "BUSINESS_INITIATED"
        type_ = {"connect": "call.started", "terminate": "call.ended"}.get(str(happened))
        data: dict[str, Any] = {
            "conversation_id": id_,
            "from_number": _number(text(call.get("from"))),
            "to_number": _number(text(call.get("to"))),
            "errors": change.value.get("errors"),
        }
        if type_ == "call.ended":
            status = call.get("status")  # "COMPLETED", or a list of one in older deliveries
            outcome = first(inside(status, 0), status)
            data |= {
                "duration_s": seconds(call.get("duration")),
                "outcome": _OUTCOMES.get(outcome or "", outcome),
            }
        yield change.touchpoint(
            call,
            place,
            id=f"{id_}:{happened}" if id_ is not None else None,
            type=type_ or f"whatsapp.call.{happened}",
            data=data if type_ else {"payload": call},
            identifiers=change.whom(call.get("to" if outbound else "from")),
            channel="whatsapp",
            direction="outbound" if outbound else "inbound",
        )


def _wishes(change: _Change) -> Iterator[Found]:
    """Whether somebody wants marketing messages."""
    for wish, place in change.items("user_preferences"):
        number, at = _number(text(wish.get("wa_id"))), at_epoch(wish.get("timestamp"))
        whom = change.whom(wish.get("wa_id"), wish.get("user_id"))
        value = text(wish.get("value"))
        state = _WISHES.get(value)
        key = f"preference:{number or ''}:{first(wish.get('category')) or ''}:{value}:{first(wish.get('timestamp')) or ''}"
        if state is None or text(wish.get("category")) not in (None, "marketing_messages"):
            yield change.touchpoint(
                wish, place, id=key, type="whatsapp.preference", data={"payload": wish}, identifiers=whom
            )
            continue
        yield consent_fact(
            change.delivery,
            id=key,
            state=state,
            at=at,
            whom=whom,
            contact=[("whatsapp", number)],
            purpose="marketing",
            channel="whatsapp",
            method="whatsapp_preferences",
            evidence={"detail": text(wish.get("detail"))},
            place=place,
        )


_LISTS: dict[str, Callable[[_Change], Iterator[Found]]] = {
    "messages": _messages,
    "message_echoes": _echoes,
    "statuses": _statuses,
    "calls": _calls,
    "user_preferences": _wishes,
}


def _change(delivery: Delivery, entry: dict[str, Any], change: Any, place: str) -> Iterator[Found]:
    value, field = inside(change, "value"), first(inside(change, "field"), "change")
    if not isinstance(value, dict):
        yield Untranslated(place, [Problem(f"{place}/value", "A change has an object 'value'.", "missing")])
        return
    one, told = _Change(delivery, value, f"{place}/value"), False
    for name, read in _LISTS.items():
        for found in read(one) if name in value else ():
            told = True
            yield found
    if not told:  # of the account, of templates, of a field that came later
        whole = {"id": entry.get("id"), "time": entry.get("time"), "change": change}
        canonical = compared(whole)
        yield touchpoint(
            delivery,
            id=unnamed(canonical),
            type=f"whatsapp.{field}",
            at=at_epoch(entry.get("time")),
            data={"payload": change},
            canonical=canonical,
            place=place,
        )


def _messaging(delivery: Delivery, service: str, item: dict[str, Any], place: str) -> Found:
    """One event of Messenger or Instagram."""
    message = item.get("message")
    ours = inside(message, "is_echo") is True
    sender, recipient = text(inside(item, "sender", "id")), text(inside(item, "recipient", "id"))
    canonical = compared(item)
    message_id = text(inside(message, "mid"))
    gone = inside(message, "is_deleted") is True
    if message_id is not None and not gone:
        type_ = "message.sent" if ours else "message.received"
        data: dict[str, Any] = {
            "service": service,
            "message_id": message_id,
            "text": text(inside(message, "text")),
            "media_count": len(listed(inside(message, "attachments"))) or None,
            "reply_to": text(inside(message, "reply_to", "mid")),
            "content": inside(message, "attachments"),
        }
    else:
        kinds = (name for name in item if name not in ("sender", "recipient", "timestamp"))
        type_ = f"{service}.{'message_deleted' if gone else next(kinds, 'event')}"
        data = {"payload": item}
    return touchpoint(
        delivery,
        id=message_id if message_id is not None and not gone else unnamed(canonical),
        type=type_,
        at=at_epoch(item.get("timestamp"), unit_s=_MILLISECOND),
        data=data,
        canonical=canonical,
        identifiers=[(f"user@{service}", recipient if ours else sender)],
        place=place,
        channel=service,
    )


def _service(body: bytes) -> str:
    """Whose messages they are; of a body that need not be decodable. Looked for once: it is read whole for that."""
    return "instagram" if members_of(body).get("object") == b'"instagram"' else "messenger"


def _translate(delivery: Delivery) -> Iterator[Found]:
    service = ""
    for place, entry in items_in(delivery.body, "entry"):
        if place == "/entry":
            raise Invalid(
                [Problem("/entry", "The body has no list 'entry': it is no webhook of Meta.", "missing")]
            )
        if isinstance(entry, Untranslated):
            yield entry
            continue
        if not isinstance(entry, dict):
            yield Untranslated(place, [Problem(place, "An entry is a JSON object.", "not_an_object")])
            continue
        for at, change in enumerate(listed(entry.get("changes"))):
            yield from _change(delivery, entry, change, f"{place}/changes/{at}")
        for at, item in enumerate(listed(entry.get("messaging"))):
            if isinstance(item, dict):
                service = service or _service(delivery.body)
                yield _messaging(delivery, service, item, f"{place}/messaging/{at}")


WHATSAPP = register(
    Channel(
        name="whatsapp",
        meaning="WhatsApp Cloud, Messenger and Instagram: messages, statuses, calls",
        translate=_translate,
        scheme="whatsapp",
        settings=(Setting("verify_token", "the token that Meta's handshake must name", secret=True),),
    )
)
