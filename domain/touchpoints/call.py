"""Voice calls."""

from __future__ import annotations

from domain.event import Other, Participant, Personal, Ref, Touchpoint, event
from domain.units import Bytes, Seconds, span, tell, words


class _Call(Touchpoint, frozen=True, kw_only=True):
    contact: Other[Ref] | None = None  # the number that was called or that called, as a REF
    conversation_id: str | None = None  # joins the legs of one call, and the chat or mail it came from
    case_id: str | None = None
    order_id: str | None = None
    campaign_id: str | None = None
    agent: str | None = None
    queue: str | None = None
    from_number: Personal[str] | None = None
    to_number: Personal[str] | None = None
    participants: list[Other[Participant]] | None = None


@event("call.started", channel="phone")
class CallStarted(_Call, frozen=True, kw_only=True):
    """A call began to ring or was dialled."""

    reason: str | None = None

    def headline(self) -> str:
        return tell("Call started", words(self.reason), self.queue, self.agent)


@event("call.ended", channel="phone")
class CallEnded(_Call, frozen=True, kw_only=True):
    """A call ended, answered or not."""

    duration_s: Seconds | None = None  # talk time; 0 when nobody answered
    wait_s: Seconds | None = None
    hold_s: Seconds | None = None
    outcome: str | None = None  # answered, resolved, no_answer, busy, callback_agreed …
    reason: str | None = None  # what the call was about: delivery, billing …
    summary: Personal[str] | None = None

    def headline(self) -> str:
        what = "Call ended" if self.duration_s is None else f"Call of {span(self.duration_s)}"
        return tell(what, self.summary or words(self.reason), words(self.outcome), self.agent)


@event("call.missed", channel="phone", direction="inbound")
class CallMissed(_Call, frozen=True, kw_only=True):
    """A customer's call reached nobody."""

    wait_s: Seconds | None = None
    reason: str | None = None  # abandoned, busy, closed, no_agent …

    def headline(self) -> str:
        waited = f"after {span(self.wait_s)} of waiting" if self.wait_s else ""
        return tell("Call missed", words(self.reason), waited, self.queue)


@event("call.transferred", channel="phone")
class CallTransferred(_Call, frozen=True, kw_only=True):
    """A call went on to another agent or queue."""

    to_agent: str | None = None
    to_queue: str | None = None
    reason: str | None = None

    def headline(self) -> str:
        target = self.to_agent or self.to_queue
        return tell("Call transferred" + (f" to {target}" if target else ""), words(self.reason))


@event("call.recorded", channel="phone")
class CallRecorded(_Call, frozen=True, kw_only=True):
    """The recording or the transcript of a call became available."""

    duration_s: Seconds | None = None
    recording: Personal[str] | None = None  # where the sound is kept
    sha256: str | None = None
    size_bytes: Bytes | None = None
    transcript: Personal[str] | None = None
    language: str | None = None

    def headline(self) -> str:
        return tell("Call recording", span(self.duration_s), self.agent)
