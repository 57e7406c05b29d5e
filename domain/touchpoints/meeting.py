"""Meetings and events, in person or on a screen."""

from __future__ import annotations

from domain.event import Instant, Other, Participant, Personal, Ref, Touchpoint, event
from domain.units import Seconds, span, tell, words


@event("meeting.held", channel="meeting")
class MeetingHeld(Touchpoint, frozen=True, kw_only=True):
    """Somebody of ours met the customer."""

    contact: Other[Ref] | None = None
    meeting_id: str | None = None
    conversation_id: str | None = None
    case_id: str | None = None
    lead_id: str | None = None
    opportunity_id: str | None = None
    agent: str | None = None
    participants: list[Other[Participant]] | None = None
    subject: Personal[str] | None = None
    notes: Personal[str] | None = None
    place: Personal[str] | None = None
    store: str | None = None
    online: bool | None = None
    starts_at: Instant | None = None
    duration_s: Seconds | None = None
    outcome: str | None = None

    def headline(self) -> str:
        what = "Meeting held" if self.duration_s is None else f"Meeting of {span(self.duration_s)}"
        return tell(what, self.subject, words(self.outcome), self.agent)


@event("event.attended", channel="meeting", direction="inbound")
class EventAttended(Touchpoint, frozen=True, kw_only=True):
    """A customer came to an event: a fair, a workshop, an evening in a store."""

    name: str | None = None  # of the event
    place: str | None = None
    store: str | None = None
    campaign_id: str | None = None
    agent: str | None = None
    online: bool | None = None
    duration_s: Seconds | None = None
    notes: Personal[str] | None = None

    def headline(self) -> str:
        return tell("Event attended", self.name, self.place or self.store, span(self.duration_s))
