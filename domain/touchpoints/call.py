"""Voice calls."""

from __future__ import annotations

from typing import Annotated

import msgspec

from domain.event import Direction, Other, Participant, Personal, Ref, Touchpoint, event

Seconds = Annotated[float, msgspec.Meta(ge=0)]


class _Call(Touchpoint, kw_only=True):
    contact: Other[Ref] | None = None
    conversation_id: str | None = None
    case_id: str | None = None
    agent: str | None = None
    queue: str | None = None
    from_number: Personal[str] | None = None
    to_number: Personal[str] | None = None
    participants: list[Other[Participant]] | None = None


@event("call.started", channel="phone")
class CallStarted(_Call, kw_only=True):
    """A call began to ring or was dialled."""

    def headline(self) -> str:
        return "Call started" + (f" with {self.agent}" if self.agent else "")


@event("call.ended", channel="phone")
class CallEnded(_Call, kw_only=True):
    """A call ended, answered or not."""

    duration_s: Seconds  # talk time in seconds; 0 when nobody answered
    outcome: str | None = None
    wait_s: Seconds | None = None
    summary: Personal[str] | None = None

    def headline(self) -> str:
        minutes, seconds = divmod(round(self.duration_s or 0), 60)
        talked = f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
        return f"Call of {talked}" + (f": {self.outcome}" if self.outcome else "") + (f", {self.agent}" if self.agent else "")
