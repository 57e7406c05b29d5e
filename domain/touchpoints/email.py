"""E-mail: what was sent and received, and what became of it."""

from __future__ import annotations

import msgspec

from domain.event import Other, Personal, Ref, Touchpoint, event
from domain.units import Bytes, count, tell, words


class Attachment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file that came with a message; its bytes are kept apart, sealed, under their hash."""

    name: str | None = None
    media_type: str | None = None
    size_bytes: Bytes | None = None
    sha256: str | None = None


class _Email(Touchpoint, frozen=True, kw_only=True):
    contact: Other[Ref] | None = None  # the customer's address, as a REF
    message_id: str | None = None  # RFC 5322 Message-ID: joins a mail to what became of it
    thread_id: str | None = None
    conversation_id: str | None = None
    case_id: str | None = None
    order_id: str | None = None
    campaign_id: str | None = None
    agent: str | None = None
    mailbox: str | None = None  # ours: service@, returns@ …
    from_address: Personal[str] | None = None
    to_address: Personal[str] | None = None
    subject: Personal[str] | None = None


class _Letter(_Email, frozen=True, kw_only=True):
    in_reply_to: str | None = None
    cc: list[Other[Ref]] | None = None
    body: Personal[str] | None = None
    language: str | None = None
    attachments: Personal[list[Attachment]] | None = None
    template: str | None = None


class _Outcome(_Email, frozen=True, kw_only=True):
    user_agent: Personal[str] | None = None
    ip: Personal[str] | None = None
    reason: str | None = None
    response: Personal[str] | None = None  # the other server's words, which often repeat the address


@event("email.sent", channel="email", direction="outbound")
class EmailSent(_Letter, frozen=True, kw_only=True):
    """We sent an e-mail: it was handed over to the carrier."""

    def headline(self) -> str:
        return tell("E-mail sent", self.subject or words(self.template), self.agent)


@event("email.received", channel="email", direction="inbound")
class EmailReceived(_Letter, frozen=True, kw_only=True):
    """A customer's e-mail arrived."""

    def headline(self) -> str:
        attached = ""
        if isinstance(self.attachments, list) and self.attachments:
            attached = count(len(self.attachments), "attachment")
        return tell("E-mail received", self.subject, attached)


@event("email.delivered", channel="email")
class EmailDelivered(_Outcome, frozen=True, kw_only=True):
    """The receiving server accepted our e-mail."""

    def headline(self) -> str:
        return tell("E-mail delivered", self.subject)


@event("email.opened", channel="email", direction="inbound")
class EmailOpened(_Outcome, frozen=True, kw_only=True):
    """Our e-mail was opened, as far as its images tell."""

    def headline(self) -> str:
        return tell("E-mail opened", self.subject)


@event("email.clicked", channel="email", direction="inbound")
class EmailClicked(_Outcome, frozen=True, kw_only=True):
    """A link in our e-mail was followed."""

    url: Personal[str] | None = None
    link: str | None = None  # the name of the link in the mail: hero, offer, footer …

    def headline(self) -> str:
        return tell("Link clicked in e-mail", self.link or self.url, self.subject)


@event("email.bounced", channel="email")
class EmailBounced(_Outcome, frozen=True, kw_only=True):
    """Our e-mail could not be delivered."""

    bounce: str | None = None  # permanent or temporary
    smtp_code: str | None = None

    def headline(self) -> str:
        return tell("E-mail bounced", words(self.bounce), words(self.reason), self.subject)


@event("email.complained", channel="email", direction="inbound")
class EmailComplained(_Outcome, frozen=True, kw_only=True):
    """The customer marked our e-mail as spam."""

    def headline(self) -> str:
        return tell("E-mail marked as spam", self.subject)


@event("email.unsubscribed", channel="email", direction="inbound")
class EmailUnsubscribed(_Outcome, frozen=True, kw_only=True):
    """The customer left a mailing list; the withdrawal of consent is a fact of its own."""

    list_id: str | None = None
    method: str | None = None  # one_click, link, reply …

    def headline(self) -> str:
        return tell("Unsubscribed from e-mail", self.list_id, words(self.method))
