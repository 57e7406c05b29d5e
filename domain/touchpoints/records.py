"""Records about the log itself: who looked, what was judged, corrected, imported."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from domain.event import Direction, FactRef, Instant, Personal, Ref, Touchpoint, event
from domain.units import Count, count, tell, words

Verdict = Literal[
    "compliant",
    "unproven_at_send",
    "late_known_breach",
    "breach",
    "breach_in_grace",
    "undeterminable",
    "not_consent_based",
]


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the consent behind a message: with what was known when."""

    valid: bool | None = None
    reason: str | None = None
    position: int | None = None
    evidence_positions: list[int] | None = None


class Patch(msgspec.Struct, frozen=True, kw_only=True):
    """What a correction replaces; never type, source or id."""

    time: Instant | None = None
    channel: str | None = None
    direction: Direction | None = None
    subject: Ref | None = None
    data: dict[str, Any] | None = None


@event("access.recorded", channel="records", touchpoint=False, internal=True)
class AccessRecorded(Touchpoint, frozen=True, kw_only=True):
    """Somebody asked for personal data; recorded before it left, and when it was denied."""

    actor: str | None = None
    on_behalf_of: str | None = None
    role: str | None = None
    purpose: str | None = None
    action: str | None = None  # history, search, export, stream …
    subjects: list[str] | None = None
    fields: list[str] | None = None
    query: Personal[str] | None = None
    result_count: Count | None = None
    denied: bool | None = None
    reason: str | None = None

    def headline(self) -> str:
        found = count(self.result_count, "result")
        return tell(
            "Access denied" if self.denied else "Access", self.actor, words(self.action), self.purpose, found
        )


@event("verdict.recorded", channel="records", touchpoint=False, internal=True)
class VerdictRecorded(Touchpoint, frozen=True, kw_only=True):
    """An outbound touchpoint was judged against the consent behind it."""

    of: FactRef | None = None
    verdict: Verdict | None = None
    reason: str | None = None
    actual: Look | None = None
    known: Look | None = None
    snapshot: Look | None = None
    supersedes: str | None = None  # the event id of the verdict that this one replaces
    evidence_positions: list[int] | None = None
    known_at_position: int | None = (
        None  # by whose knowledge: the message's own, or that of what changed the verdict
    )
    policy_version: str | None = None
    purpose: str | None = None
    channel: str | None = None

    def headline(self) -> str:
        return tell("Verdict", words(self.verdict), words(self.reason), self.purpose)


@event("correction.recorded", channel="records", touchpoint=False)
class CorrectionRecorded(Touchpoint, frozen=True, kw_only=True):
    """An event was recorded wrongly; this says how it was."""

    of: FactRef
    patch: Patch  # parted field by field at ingest: what any type declares personal is sealed
    reason: str | None = None
    actor: str | None = None
    note: Personal[str] | None = None

    def headline(self) -> str:
        return tell("Correction", words(self.reason) or self.note, self.actor)


@event("import.started", channel="records", touchpoint=False, internal=True)
class ImportStarted(Touchpoint, frozen=True, kw_only=True):
    """A file began to be imported."""

    import_id: str | None = None
    format: str | None = None
    file: str | None = None  # its name, without folders
    files: Personal[list[str]] | None = None  # their names, without folders; a name may be a person's
    sha256: str | None = None
    actor: str | None = None

    def headline(self) -> str:
        named = ", ".join(self.files) if isinstance(self.files, list) else None
        return tell("Import started", self.file or named, self.format, self.actor)


@event("import.retracted", channel="records", touchpoint=False, internal=True)
class ImportRetracted(Touchpoint, frozen=True, kw_only=True):
    """A whole import was taken back: from now on its events are known not to hold."""

    import_id: str | None = None
    event_count: Count | None = None
    reason: str | None = None
    actor: str | None = None

    def headline(self) -> str:
        return tell("Import retracted", self.import_id, count(self.event_count, "event"), words(self.reason))
