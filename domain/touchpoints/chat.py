"""Live chat on our pages and in our app."""

from __future__ import annotations

from domain.event import Other, Participant, Personal, Ref, Touchpoint, event
from domain.units import Count, Seconds, count, span, tell, words


class _Chat(Touchpoint, frozen=True, kw_only=True):
    contact: Other[Ref] | None = None
    conversation_id: str | None = None
    case_id: str | None = None
    order_id: str | None = None
    agent: str | None = None
    bot: bool | None = None  # True when a program speaks for us
    queue: str | None = None
    participants: list[Other[Participant]] | None = None


class _Message(_Chat, frozen=True, kw_only=True):
    message_id: str | None = None
    text: Personal[str] | None = None
    language: str | None = None


@event("chat.started", channel="chat", direction="inbound")
class ChatStarted(_Chat, frozen=True, kw_only=True):
    """A visitor opened a chat."""

    topic: str | None = None
    path: str | None = None  # the page the chat was opened on
    wait_s: Seconds | None = None

    def headline(self) -> str:
        return tell("Chat started", words(self.topic), self.path and f"on {self.path}", self.agent)


@event("chat.message_sent", channel="chat", direction="outbound")
class ChatMessageSent(_Message, frozen=True, kw_only=True):
    """We wrote in a chat."""

    def headline(self) -> str:
        return tell(f"Chat, {'bot' if self.bot else self.agent or 'we'}", self.text)


@event("chat.message_received", channel="chat", direction="inbound")
class ChatMessageReceived(_Message, frozen=True, kw_only=True):
    """The customer wrote in a chat."""

    def headline(self) -> str:
        return tell("Chat, customer", self.text)


@event("chat.ended", channel="chat")
class ChatEnded(_Chat, frozen=True, kw_only=True):
    """A chat was closed."""

    duration_s: Seconds | None = None
    message_count: Count | None = None
    outcome: str | None = None
    summary: Personal[str] | None = None

    def headline(self) -> str:
        what = "Chat ended" if self.duration_s is None else f"Chat of {span(self.duration_s)}"
        return tell(what, self.summary, count(self.message_count, "message"), words(self.outcome), self.agent)
