"""The verdict ledger: every verdict on a message that went out, in the order in which they supersede one another.

Verdicts are events, recorded by the judge; this files them. Building it anew files the same verdicts and judges
nothing. The verdict in force at a position is the one with the greatest `knowledge` at or below it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from msgspec import Meta

from domain.entry import event_id_of, uuid_of
from domain.touchpoints.records import VerdictRecorded
from projections.projection import Effective, Index, PerEvent, Table, projection

__all__ = ["VERDICTS", "LedgerEntry", "Verdicts"]


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One verdict on a message that went out."""

    position: Annotated[int, Meta(description="Place in the log")]
    recorded_at: Annotated[datetime, Meta(description="When the log took it")]
    event_id: Annotated[UUID, Meta(description="Id of the verdict")]
    message: Annotated[UUID, Meta(description="Id of the message's event")]
    knowledge: Annotated[int, Meta(description="Position by whose knowledge it was judged")]
    verdict: Annotated[str, Meta(description="compliant, breach …")]
    reason: Annotated[str | None, Meta(description="Why, of a breach")]
    supersedes: Annotated[UUID | None, Meta(description="Id of the verdict that it replaces")]
    evidence: Annotated[list[int], Meta(description="Positions of the facts that decided")]
    looks: Annotated[str, Meta(description="JSON of the three looks: actual, known, snapshot")]
    policy: Annotated[str, Meta(description="Version of the policy tables")]


VERDICTS = Table(
    "consent_verdicts",
    LedgerEntry,
    indexes=(Index(("message", "knowledge")), Index(("event_id",)), Index(("position",), "brin")),
    known=True,
)


class _Of(msgspec.Struct, frozen=True):
    source: str
    id: str


class _Told(msgspec.Struct, frozen=True):
    """The data of a verdict, as the judge writes it."""

    of: _Of
    verdict: str
    known_at_position: int
    policy_version: str
    reason: str | None = None
    supersedes: str | None = None
    evidence_positions: list[int] = []
    actual: msgspec.Raw = msgspec.Raw(b"null")
    known: msgspec.Raw = msgspec.Raw(b"null")
    snapshot: msgspec.Raw = msgspec.Raw(b"null")


_told = msgspec.json.Decoder(_Told).decode


@projection
class Verdicts(PerEvent):
    """Files every verdict under its message."""

    name = "verdicts"
    version = 1
    pace = "live"
    tables: ClassVar[tuple[Table[Any], ...]] = (VERDICTS,)
    handles = (VerdictRecorded,)

    def rows(self, event: Effective) -> Iterable[tuple[Table[Any], msgspec.Struct]]:
        """The row of one verdict."""
        recorded = event.recorded
        told = _told(recorded.event.data_json)
        looks = ",".join(
            f'"{name}":{bytes(look).decode()}'
            for name, look in (("actual", told.actual), ("known", told.known), ("snapshot", told.snapshot))
        )
        row = LedgerEntry(
            position=recorded.position,
            recorded_at=recorded.recorded_at,
            event_id=uuid_of(recorded.event.event_id),
            message=UUID(bytes=event_id_of(told.of.source, told.of.id)),
            knowledge=told.known_at_position,
            verdict=told.verdict,
            reason=told.reason,
            supersedes=None if told.supersedes is None else uuid_of(told.supersedes),
            evidence=told.evidence_positions,
            looks=f"{{{looks}}}",
            policy=told.policy_version,
        )
        return ((VERDICTS, row),)
