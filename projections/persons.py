"""Persons: what each subject has done over each channel; the persons are its sums over linked subjects.

A row is of a subject, not of a person, so that a merge rewrites nothing: `read.persons` adds the
subjects of a person up when it is asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar
from uuid import UUID

import msgspec
from msgspec import Meta

from domain.entry import surrogate_of
from projections.projection import Counting, Effective, Table, projection

__all__ = ["TABLE", "Activity", "Persons"]


class Activity(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one subject over one channel."""

    subject: Annotated[UUID, Meta(description="First subject of the events, or their first reference")]
    channel: Annotated[str, Meta(description="Channel of the contacts")]
    events: Annotated[int, Meta(description="How many")]
    inbound: Annotated[int, Meta(description="How many of them came from the customer")]
    outbound: Annotated[int, Meta(description="How many of them went to the customer")]


TABLE = Table("person_activity", Activity, key=("subject", "channel"), sums=("events", "inbound", "outbound"))


@projection
class Persons(Counting):
    """Counts the contacts of every subject."""

    name = "persons"
    version = 1
    tables: ClassVar[tuple[Table[Activity], ...]] = (TABLE,)

    def counts(self, event: Effective) -> Iterable[Activity]:
        """One contact of the event's first subject (or reference)."""
        told = event.recorded.event
        owners = told.subjects or told.references
        if owners:
            yield Activity(
                subject=surrogate_of(owners[0][0]),
                channel=told.channel,
                events=1,
                inbound=int(told.direction == "inbound"),
                outbound=int(told.direction == "outbound"),
            )
