"""Daily volumes: how many events of each type and direction came over each channel, hour by hour."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from projections.projection import Counting, Effective, Index, Table, projection

__all__ = ["TABLE", "DailyVolumes", "Volume"]


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one hour, channel, type and direction."""

    hour: Annotated[datetime, Meta(description="Begin of the hour in which they happened, UTC")]
    channel: Annotated[str, Meta(description="Channel of the contact")]
    type: Annotated[str, Meta(description="Stored name of the event")]
    direction: Annotated[
        str, Meta(description="inbound, outbound or internal; empty where the source said none")
    ]
    events: Annotated[int, Meta(description="How many")]


TABLE = Table(
    "daily_volumes",
    Volume,
    key=("hour", "channel", "type", "direction"),
    sums=("events",),
    indexes=(Index(("type", "hour")),),
)


@projection
class DailyVolumes(Counting):
    """Counts every event in the hour in which it happened."""

    name = "daily_volumes"
    version = 1
    tables: ClassVar[tuple[Table[Volume], ...]] = (TABLE,)

    def counts(self, event: Effective) -> Iterable[Volume]:
        """One, in its hour."""
        told = event.recorded.event
        yield Volume(
            hour=told.occurred_at.replace(minute=0, second=0, microsecond=0),
            channel=told.channel,
            type=told.type,
            direction=told.direction or "",
            events=1,
        )
