"""Profiles: what every update said of a subject, from which the traits of a person are folded when it is asked.

Names and values of traits are sealed in the event, and a fold holds no keys: a row keeps the sealed update of
one subject, and the question unseals the rows of the person's subjects and folds them (`domain/profile.py`). So
nothing is rewritten when persons merge, and what was forgotten is forgotten here.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, ClassVar
from uuid import UUID

import msgspec
from msgspec import Meta

from domain.entry import surrogate_of
from domain.touchpoints.identity import ProfileUpdated
from projections.projection import Effective, Index, PerEvent, Table, projection

__all__ = ["TABLE", "Profiles", "Update"]


class Update(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One update of somebody's profile."""

    subject: Annotated[
        UUID, Meta(description="The first subject of the event, or its first reference when it names nobody")
    ]
    position: Annotated[int, Meta(description="Place in the log")]
    recorded_at: Annotated[datetime, Meta(description="When the log took it")]
    occurred_at: Annotated[datetime, Meta(description="From when it holds, as the source says")]
    source: Annotated[str, Meta(description="Who reported it")]
    source_id: Annotated[str, Meta(description="The event's id at its source")]
    body: Annotated[bytes, Meta(description="The event as the log holds it, traits sealed")]
    patches: Annotated[
        list[bytes], Meta(description="Bodies of its corrections, in the order in which they apply")
    ]


TABLE = Table(
    "profile_updates",
    Update,
    indexes=(
        Index(("subject", "occurred_at")),
        Index(("position",), "brin"),
        # What changed between two positions: the search index follows by these.
        Index(("known_from",), "brin"),
        Index(("known_to",), "brin"),
    ),
    known=True,
)


@projection
class Profiles(PerEvent):
    """Files every update of a profile under the subject (or reference) that it belongs to."""

    name = "profiles"
    version = 1
    pace = "live"
    tables: ClassVar[tuple[Table[Update], ...]] = (TABLE,)
    handles = (ProfileUpdated,)

    def rows(self, event: Effective) -> Iterable[tuple[Table[Update], Update]]:
        """One row, for an update that names somebody."""
        recorded = event.recorded
        told = recorded.event
        owners = told.subjects or told.references
        if not owners:
            return ()
        return (
            (
                TABLE,
                Update(
                    subject=surrogate_of(owners[0][0]),
                    position=recorded.position,
                    recorded_at=recorded.recorded_at,
                    occurred_at=told.occurred_at,
                    source=told.source,
                    source_id=told.id,
                    body=event.body,
                    patches=list(event.patches),
                ),
            ),
        )
