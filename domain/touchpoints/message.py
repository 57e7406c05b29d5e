"""Short messages: SMS, and WhatsApp and its like (`channel` in the event names which)."""

from __future__ import annotations

from domain.event import Other, Personal, Ref, Touchpoint, event
from domain.units import Count, count, tell, words


class _Message(Touchpoint, frozen=True, kw_only=True):
    contact: Other[Ref] | None = None
    message_id: str | None = None
    conversation_id: str | None = None
    case_id: str | None = None
    order_id: str | None = None
    campaign_id: str | None = None
    agent: str | None = None
    from_number: Personal[str] | None = None
    to_number: Personal[str] | None = None
    text: Personal[str] | None = None
    language: str | None = None
    template: str | None = None
    reply_to: str | None = None  # the message id that this one answers
    media_count: Count | None = None
    opt_out_type: str | None = None  # STOP, START, HELP: what the carrier has acted on already


class _Sms(_Message, frozen=True, kw_only=True):
    part_count: Count | None = None  # as billed


class _Messenger(_Message, frozen=True, kw_only=True):
    service: str | None = None  # whatsapp, messenger, telegram …


@event("sms.sent", channel="sms", direction="outbound")
class SmsSent(_Sms, frozen=True, kw_only=True):
    """We sent a text message."""

    def headline(self) -> str:
        return tell("SMS sent", self.text or words(self.template))


@event("sms.received", channel="sms", direction="inbound")
class SmsReceived(_Sms, frozen=True, kw_only=True):
    """A customer's text message arrived."""

    def headline(self) -> str:
        return tell("SMS received", self.text)


@event("message.sent", channel="message", direction="outbound")
class MessageSent(_Messenger, frozen=True, kw_only=True):
    """We wrote through a messenger service."""

    def headline(self) -> str:
        return tell(
            f"{(self.service or 'message').capitalize()} sent", self.text or words(self.template), self.agent
        )


@event("message.received", channel="message", direction="inbound")
class MessageReceived(_Messenger, frozen=True, kw_only=True):
    """A customer wrote through a messenger service."""

    def headline(self) -> str:
        media = count(self.media_count, "picture or file", "pictures or files") if self.media_count else ""
        return tell(f"{(self.service or 'message').capitalize()} received", self.text, media)
