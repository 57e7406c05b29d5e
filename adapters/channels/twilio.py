"""Twilio: status callbacks of calls and messages, and messages that came in; forms.

There is no event id in the body: the key of a call's callback is CallSid and SequenceNumber, of a message its
Sid and status. CallDuration is in seconds; Duration is in billed minutes, and is left aside. Callbacks of conferences,
conversations, tasks and verifications are recorded whole, as Twilio's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
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
from adapters.channels.consent_fact import consent_fact
from adapters.channels.forms import fields_of
from adapters.channels.values import at_epoch, at_mail_date, at_time, first, seconds, text, whole
from domain.errors import Invalid, Problem

__all__ = ["TWILIO"]

_ENDED = {
    "completed": "answered",
    "busy": "busy",
    "no-answer": "no_answer",
    "failed": "failed",
    "canceled": "cancelled",
}
_OPTED_OUT = "21610"
"""The carrier refused the message, for its recipient had answered STOP: what we did not know, it did."""
_MILLISECOND = Decimal("0.001")
_BEGUN = {"queued", "initiated", ""}
_ON_THE_WAY = {"ringing", "in-progress", "answered"}
_CAME_IN = {"received", "receiving"}
"""The statuses of a message that came in; every other is of one that goes out."""
_OTHERS = (
    ("ConferenceSid", "conference", "StatusCallbackEvent"),
    ("ConversationSid", "conversation", "EventType"),
    ("TaskSid", "task", "EventType"),
    ("WorkerSid", "worker", "EventType"),
    ("VerificationSid", "verification", "Status"),
    ("ChannelSid", "channel", "EventType"),
)
"""Whose callbacks they are: the field that tells so, a word for it, the field that says what happened."""


def _form(delivery: Delivery) -> dict[str, Any]:
    content_type = delivery.headers.get("content-type", "")
    if "json" in content_type.lower():
        body = json_of(delivery.body)
        return body if isinstance(body, dict) else {}
    return dict(fields_of(delivery.body, content_type))


def _party(number: str | None) -> list[tuple[str, object]]:
    """A telephone number, or an address of another network: whatsapp:+4420…, sip:…, client:…"""
    if number is None:
        return []
    network, colon, rest = number.partition(":")
    if not colon:
        return [("phone", number)] if number.startswith("+") else []
    if network == "whatsapp":
        return [("whatsapp", rest), ("phone", rest)]
    if network == "rcs" and rest.startswith("+"):
        return [("phone", rest)]
    return []


def _translate(delivery: Delivery) -> Iterator[Found]:
    form = _form(delivery)
    get = {name: text(value) for name, value in form.items()}.get
    other = next((each for each in _OTHERS if get(each[0])), None)
    if other is not None:
        yield _other(delivery, form, *other)
    elif get("CallSid"):
        yield _call(delivery, form)
    elif get("MessageSid") or get("SmsSid"):
        yield from _message(delivery, form)
    elif first(*(value for name, value in form.items() if name.endswith("Sid") and name != "AccountSid")):
        yield _other(delivery, form, "", "callback", "EventType")
    else:
        raise Invalid([Problem("", "The form names neither a CallSid nor a MessageSid.", "missing")])


def _other(delivery: Delivery, form: dict[str, Any], sid: str, family: str, said: str) -> Found:
    """What is neither a call nor a message: recorded whole."""
    get = {name: text(value) for name, value in form.items()}.get
    canonical = compared(form)
    happened = (first(get(said), get("EventType"), get("Status")) or "callback").lower().replace("-", "_")
    key = (
        get(sid),
        happened,
        first(get("SequenceNumber"), get("Sid"), get("EventSid"), get("MessageSid"), get("Timestamp")),
    )
    return touchpoint(
        delivery,
        id=":".join(part for part in key if part) if key[0] and key[2] else unnamed(canonical),
        type=f"twilio.{family}.{happened.removeprefix('on').removeprefix(f'{family}_')}",
        at=at_mail_date(get("Timestamp"))
        or at_time(get("DateCreated"))
        or at_epoch(form.get("TimestampMs"), unit_s=_MILLISECOND),
        data={"payload": form},
        canonical=canonical,
        identifiers=_party(first(get("From"), get("MessagingBinding.Address"), get("To"))),
    )


def _call(delivery: Delivery, form: dict[str, Any]) -> Found:
    get = {name: text(value) for name, value in form.items()}.get
    sid, status = get("CallSid"), (get("CallStatus") or "").lower()
    inbound = (get("Direction") or "inbound").startswith("inbound")
    sequence = whole(form.get("SequenceNumber"))
    answered = status == "completed"
    ours, theirs = (get("To"), get("From")) if inbound else (get("From"), get("To"))
    if get("RecordingSid"):
        type_ = "call.recorded"
    elif status in _BEGUN or (inbound and status == "ringing" and sequence is None):
        type_ = "call.started"
    elif status in _ON_THE_WAY or status not in _ENDED:
        type_ = f"twilio.call.{status}"  # nothing begins or ends by it
    else:
        type_ = "call.missed" if inbound and not answered else "call.ended"
    data: dict[str, Any] = {
        "conversation_id": first(get("ParentCallSid"), sid),
        "from_number": get("From"),
        "to_number": get("To"),
        "queue": ours,
        "call_sid": sid,
        "status": status or None,
        "answered_by": get("AnsweredBy"),
        "sip_code": get("SipResponseCode"),
    }
    if type_ == "call.ended":
        data |= {"duration_s": seconds(form.get("CallDuration")), "outcome": _ENDED.get(status)}
    elif type_ == "call.missed":
        data |= {"reason": _ENDED.get(status)}
    elif type_ == "call.recorded":
        data |= {
            "duration_s": seconds(form.get("RecordingDuration")),
            "recording": get("RecordingUrl"),
            "transcript": get("TranscriptionText"),
        }
    own = first(get("TranscriptionSid"), get("RecordingSid"), status)
    last = str(sequence) if sequence is not None else own or "0"
    return touchpoint(
        delivery,
        id=f"{sid}:{last}",
        type=type_,
        at=at_mail_date(get("Timestamp")),
        data=data,
        canonical=compared(form),
        identifiers=_party(theirs),
        direction="inbound" if inbound else "outbound",
    )


def _message(delivery: Delivery, form: dict[str, Any]) -> Iterator[Found]:
    get = {name: text(value) for name, value in form.items()}.get
    sid = first(get("MessageSid"), get("SmsSid"))
    status = (first(get("MessageStatus"), get("SmsStatus")) or "received").lower()
    inbound = status in _CAME_IN
    theirs = get("From") if inbound else get("To")
    whatsapp = (theirs or "").startswith("whatsapp:")
    family = "message" if whatsapp else "sms"
    kind = "received" if inbound else "sent"
    data = {
        "message_id": sid,
        "from_number": get("From"),
        "to_number": get("To"),
        "text": get("Body"),
        "media_count": whole(form.get("NumMedia")),
        "status": status,
        "error_code": get("ErrorCode"),
        "opt_out_type": get("OptOutType"),
        "service": "whatsapp" if whatsapp else None,
        "part_count": None if whatsapp else whole(form.get("NumSegments")),
    }
    if kind == "sent" and status != "sent":
        yield touchpoint(  # what became of it is no second message
            delivery,
            id=f"{sid}:{status}",
            type=f"twilio.message.{status}",
            at=at_mail_date(get("Timestamp")),
            data=data,
            canonical=compared(form),
            identifiers=_party(theirs),
            channel="message" if whatsapp else "sms",
        )
        if get("ErrorCode") == _OPTED_OUT:
            yield consent_fact(
                delivery,
                id=f"{sid}:{_OPTED_OUT}",
                state="withdrawn",
                at=at_mail_date(get("Timestamp")),
                whom=_party(theirs),
                contact=_party(theirs)[:1],
                purpose="*",
                channel="whatsapp" if whatsapp else "sms",
                method="carrier",
                evidence={"error_code": _OPTED_OUT, "message_id": sid},
            )
        return
    yield touchpoint(
        delivery,
        id=f"{sid}:{status}",
        type=f"{family}.{kind}",
        at=at_mail_date(get("Timestamp")),
        data=data,
        canonical=compared(form),
        identifiers=_party(theirs),
        channel="whatsapp" if whatsapp else None,
    )


TWILIO = register(
    Channel(
        name="twilio",
        meaning="Twilio: calls and messages, by their callbacks",
        translate=_translate,
        scheme="twilio",
    )
)
