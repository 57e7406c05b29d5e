"""Field service: visits at the customer's place."""

from __future__ import annotations

from typing import Annotated

import msgspec

from domain.event import Instant, Other, Personal, Ref, Touchpoint, event
from domain.touchpoints.order import Line
from domain.units import Seconds, count, span, tell, words

Kilometres = Annotated[float, msgspec.Meta(ge=0, description="a distance in kilometres")]


class _FieldVisit(Touchpoint, frozen=True, kw_only=True):
    contact: Other[Ref] | None = None
    visit_id: str | None = None
    case_id: str | None = None
    order_id: str | None = None
    agent: str | None = None  # the technician
    team: str | None = None
    task: str | None = None  # install, repair, measure …
    address: Personal[str] | None = None


@event("visit.scheduled", channel="field")
class VisitScheduled(_FieldVisit, frozen=True, kw_only=True):
    """A visit was agreed on."""

    starts_at: Instant | None = None
    ends_at: Instant | None = None
    skills: list[str] | None = None
    note: Personal[str] | None = None

    def headline(self) -> str:
        when = f"for {str(self.starts_at)[:16].replace('T', ' ')}" if self.starts_at else ""
        return tell("Visit scheduled", words(self.task), when, self.agent)


@event("visit.dispatched", channel="field", direction="internal")
class VisitDispatched(_FieldVisit, frozen=True, kw_only=True):
    """A technician was sent out."""

    distance_km: Kilometres | None = None
    arrives_at: Instant | None = None  # expected
    reason: str | None = None  # why this technician: skills, distance, parts …

    def headline(self) -> str:
        far = "" if self.distance_km is None else f"{self.distance_km:,.1f} km"
        return tell("Technician dispatched", self.agent, words(self.task), far)


@event("visit.started", channel="field")
class VisitStarted(_FieldVisit, frozen=True, kw_only=True):
    """The technician arrived."""

    late_s: Seconds | None = None

    def headline(self) -> str:
        late = f"{span(self.late_s)} late" if self.late_s else ""
        return tell("Visit started", words(self.task), self.agent, late)


@event("visit.completed", channel="field")
class VisitCompleted(_FieldVisit, frozen=True, kw_only=True):
    """The technician was done."""

    duration_s: Seconds | None = None
    outcome: str | None = None
    parts: list[Line] | None = None
    report: Personal[str] | None = None
    signed_by: Personal[str] | None = None

    def headline(self) -> str:
        what = "Visit completed" if self.duration_s is None else f"Visit of {span(self.duration_s)} completed"
        parts = count(len(self.parts), "part") if self.parts else ""
        return tell(what, self.report or words(self.task), words(self.outcome), parts, self.agent)


@event("visit.cancelled", channel="field")
class VisitCancelled(_FieldVisit, frozen=True, kw_only=True):
    """A visit was called off."""

    reason: str | None = None
    cancelled_by: str | None = None

    def headline(self) -> str:
        by = f"by {words(self.cancelled_by)}" if self.cancelled_by else ""
        return tell("Visit cancelled", words(self.task), words(self.reason), by)
