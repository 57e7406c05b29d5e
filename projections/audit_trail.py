"""Audit trail: who recorded what and when, by which key, source and channel, and because of which event."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, ClassVar
from uuid import UUID

import msgspec
from msgspec import Meta

from domain.entry import surrogate_of, uuid_of
from projections.projection import Effective, Index, PerEvent, Table, indexable, projection

__all__ = ["TABLE", "AuditTrail", "Trace"]


class Trace(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One recorded event and where it came from."""

    position: Annotated[int, Meta(description="Place in the log")]
    event_id: Annotated[UUID, Meta(description="Id of the event")]
    type: Annotated[str, Meta(description="Stored name of the event")]
    recorded_at: Annotated[datetime, Meta(description="When the log took it")]
    occurred_at: Annotated[datetime, Meta(description="When it happened, as the source says")]
    principal: Annotated[str, Meta(description="The key or person that recorded it")]
    on_behalf_of: Annotated[str | None, Meta(description="The actor that the event itself names")]
    source: Annotated[str, Meta(description="Who reported it")]
    source_id: Annotated[str, Meta(description="The event's id at its source")]
    channel: Annotated[str, Meta(description="Channel of the contact")]
    direction: Annotated[str | None, Meta(description="inbound, outbound or internal")]
    subject: Annotated[UUID | None, Meta(description="First subject, or first reference, of the event")]
    correlation: Annotated[str | None, Meta(description="The conversation or process it belongs to")]
    causation: Annotated[str | None, Meta(description="The event because of which it was recorded")]
    import_id: Annotated[str | None, Meta(description="The import that brought it")]


TABLE = Table(
    "audit_trail",
    Trace,
    indexes=(
        Index(("position",)),
        Index(("recorded_at",), "brin"),
        Index(("occurred_at",), "brin"),
        Index(("subject",)),
        Index(("principal", "position")),
        Index(("on_behalf_of", "position")),
        Index(("causation",)),
    ),
    known=True,
)


@projection
class AuditTrail(PerEvent):
    """One row for every event, whoever it is about."""

    name = "audit_trail"
    version = 3
    tables: ClassVar[tuple[Table[Trace], ...]] = (TABLE,)

    def rows(self, event: Effective) -> Iterable[tuple[Table[Trace], Trace]]:
        """The row of one event."""
        recorded = event.recorded
        told = recorded.event
        owners = told.subjects or told.references
        return (
            (
                TABLE,
                Trace(
                    position=recorded.position,
                    event_id=uuid_of(told.event_id),
                    type=told.type,
                    recorded_at=recorded.recorded_at,
                    occurred_at=told.occurred_at,
                    principal=told.principal,
                    on_behalf_of=None if told.on_behalf_of is None else indexable(told.on_behalf_of),
                    source=told.source,
                    source_id=told.id,
                    channel=told.channel,
                    direction=told.direction,
                    subject=surrogate_of(owners[0][0]) if owners else None,
                    correlation=told.correlation,
                    causation=None if told.causation is None else indexable(told.causation),
                    import_id=told.import_id,
                ),
            ),
        )
