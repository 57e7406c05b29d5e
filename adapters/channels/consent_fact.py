"""Facts about consent that vendors' payloads state: one event each, beside the touchpoint that brought it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from adapters.channels.channel import Delivery, Translated, compared, touchpoint

__all__ = ["State", "consent_fact"]

State = Literal["requested", "refused", "given", "withdrawn", "objected"]


def consent_fact(
    delivery: Delivery,
    *,
    id: str,
    state: State,
    at: datetime | None,
    whom: Iterable[tuple[str, object]],
    contact: Iterable[tuple[str, object]],
    purpose: str,
    channel: str,
    method: str,
    evidence: Mapping[str, Any] | None = None,
    place: str = "",
) -> Translated:
    """The fact that somebody allowed or forbade something, as a vendor tells it.

    A vendor's "subscribed" names no notice: it is recorded, never valid, and listed as unevidenced.

    Args:
        id: the same for every delivery that repeats the same statement.
        contact: (kind, value) of the contact point; of several the first; where its value is missing, all are meant.
    """
    refs = [f"{kind}:{value}" for kind, value in contact if value]
    data = {
        "contact": refs[0] if refs else None,
        "purpose": purpose,
        "channel": channel,
        "method": method,
        "evidence": dict(evidence) if evidence else None,
        "legal_basis": "consent" if state == "given" else None,
    }
    told = {**data, "state": state, "at": None if at is None else at.isoformat()}
    return touchpoint(
        delivery,
        id=id,
        type=f"consent.{state}",
        at=at,
        data=data,
        canonical=compared(told, but=("evidence",)),
        identifiers=whom,
        place=place,
    )
