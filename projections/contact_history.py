"""Contact history: every event of a person over all channels, newest first, with its provenance.

A row belongs to the first subject that its event names, or, when it names only references (an order,
a case), to the first of those. Who a person is, is asked when the history is: no row is rewritten
when persons merge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, ClassVar
from uuid import UUID

import msgspec
from msgspec import Meta

from domain.entry import surrogate_of
from projections.projection import Effective, Index, PerEvent, Table, projection

__all__ = ["TABLE", "ContactHistory", "Entry"]


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of somebody's history."""

    subject: Annotated[
        UUID, Meta(description="The first subject of the event, or its first reference when it names nobody")
    ]
    occurred_at: Annotated[datetime, Meta(description="When it happened, as the source says")]
    position: Annotated[int, Meta(description="Place in the log")]
    recorded_at: Annotated[datetime, Meta(description="When the log took it")]
    type: Annotated[str, Meta(description="Stored name of the event")]
    channel: Annotated[str, Meta(description="Channel of the contact")]
    direction: Annotated[str | None, Meta(description="inbound, outbound or internal")]
    source: Annotated[str, Meta(description="Who reported it")]
    source_id: Annotated[str, Meta(description="The event's id at its source")]
    body: Annotated[bytes, Meta(description="The event as the log holds it, personal fields sealed")]
    patches: Annotated[
        list[bytes], Meta(description="Bodies of its corrections, in the order in which they apply")
    ]


TABLE = Table(
    "contact_history",
    Entry,
    indexes=(Index(("subject", "occurred_at")), Index(("position",), "brin")),
    known=True,
)


@projection
class ContactHistory(PerEvent):
    """Files every event that names somebody under the subject (or reference) it belongs to."""

    name = "contact_history"
    version = 2
    pace = "live"
    tables: ClassVar[tuple[Table[Entry], ...]] = (TABLE,)

    def rows(self, event: Effective) -> Iterable[tuple[Table[Entry], Entry]]:
        """One row, for an event that names somebody or something of somebody's."""
        recorded = event.recorded
        told = recorded.event
        owners: Sequence[tuple[str, str, str]] = told.subjects or told.references
        if not owners:
            return ()
        return (
            (
                TABLE,
                Entry(
                    subject=surrogate_of(owners[0][0]),
                    occurred_at=told.occurred_at,
                    position=recorded.position,
                    recorded_at=recorded.recorded_at,
                    type=told.type,
                    channel=told.channel,
                    direction=told.direction,
                    source=told.source,
                    source_id=told.id,
                    body=event.body,
                    patches=list(event.patches),
                ),
            ),
        )
