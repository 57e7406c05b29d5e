"""Corrections and retractions: what an event is taken to have been, as known at a position (SEMANTICS §1).

An event is never changed. A correction replaces fields of it, a retraction of its import takes it away;
of several the one that is greatest in (time, source, id) wins, field by field, in whatever order
they arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from domain.entry import Body, Recorded
from domain.event import TYPES

__all__ = [
    "CONSENT_CORRECTION",
    "CORRECTION",
    "RETRACTION",
    "Amendment",
    "amended",
    "correctable",
    "patched",
    "target_of",
    "undone_with",
]

CORRECTION = "correction.recorded"
CONSENT_CORRECTION = "consent.corrected"
RETRACTION = "import.retracted"
_BEYOND = (
    *("identity.", "verdict.", "erasure.", "import.", "access.", "hold.", "correction."),
    *("consent.", "contact."),  # facts about consent, which consent.corrected corrects
)


class Amendment(msgspec.Struct, frozen=True):
    """A correction of one event, or a retraction of its import.

    `undone` is the position at which the import that a correction itself came with was taken back, where that is known:
    such a correction is none any more.
    """

    recorded: Recorded
    body: bytes
    undone: int | None = None

    @property
    def order(self) -> tuple[datetime, str, str]:
        """Its place among the amendments of one event."""
        event = self.recorded.event
        return event.occurred_at, event.source, event.id

    @property
    def retracts(self) -> bool:
        """Whether it takes the event away."""
        return self.recorded.event.type == RETRACTION


def _has_contact(type_: str) -> bool:
    """Whether events of this type name a contact point, which the log keeps as a surrogate."""
    declared = TYPES.get(type_)
    return declared is not None and "contact" in declared.others


def correctable(type_: str) -> bool:
    """Whether events of this type can be corrected: facts about consent, identity and the log itself cannot."""
    return not type_.startswith(_BEYOND)


def target_of(correction: Body) -> tuple[str, str] | None:
    """(source, id) of the event that a correction speaks of."""
    of = correction.data.get("of")
    if isinstance(of, dict) and isinstance(of.get("source"), str) and isinstance(of.get("id"), str):
        return of["source"], of["id"]
    return None


def undone_with(amendments: Iterable[Amendment], retracted: Mapping[str, int]) -> list[Amendment]:
    """*amendments*, with those marked that came with an import which was taken back.

    Args:
        retracted: the position at which each import was first taken back.
    """
    if not retracted:
        return list(amendments)
    return [
        msgspec.structs.replace(a, undone=retracted.get(a.recorded.event.import_id or "")) for a in amendments
    ]


def amended(recorded: Recorded, amendments: Iterable[Amendment]) -> tuple[Recorded, tuple[bytes, ...]] | None:
    """(the event as it holds, bodies of the corrections that apply), or None where it was taken back.

    A correction that comes behind a retraction in (time, source, id) restores the event. A null in the
    `data` of a patch takes the value away.
    """
    present = True
    patches: list[Amendment] = []
    for amendment in sorted(amendments, key=lambda a: a.order):
        if amendment.undone is not None:
            continue
        if amendment.retracts:
            present = False
        elif correctable(recorded.event.type):
            present = True
            patches.append(amendment)
    if not present:
        return None
    if not patches:
        return recorded, ()
    event = recorded.event
    changes: dict[str, Any] = {}
    data: dict[str, Any] = {}
    for patch in patches:
        plain = patch.recorded.event.data.get("patch")
        if not isinstance(plain, dict):
            continue
        if isinstance(plain.get("time"), str):
            changes["occurred_at"] = msgspec.convert(plain["time"], datetime).astimezone(UTC)
            changes["occurred_at_given"] = True
            changes["future"] = changes["occurred_at"] > recorded.recorded_at
        if isinstance(plain.get("channel"), str):
            changes["channel"] = plain["channel"]
        if plain.get("direction") in ("inbound", "outbound", "internal"):
            changes["direction"] = plain["direction"]
        subject = patch.recorded.event.patched_subject
        if subject is not None:
            changes["subjects"] = (subject,)
        if isinstance(plain.get("data"), dict):
            data |= plain["data"]
            if "contact" in plain["data"] and _has_contact(event.type):
                changes["contact"] = patch.recorded.event.contact
    if data:
        changes["data_json"] = msgspec.Raw(msgspec.json.encode(patched(event.data, data)))
    corrected = msgspec.structs.replace(event, **changes) if changes else event
    return msgspec.structs.replace(recorded, event=corrected), tuple(p.body for p in patches)


def patched(data: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """*data* with the fields of *patch* in their places; a null takes the field away."""
    return {k: v for k, v in {**data, **patch}.items() if not (v is None and k in patch)}
