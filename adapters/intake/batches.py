"""Batches: many payloads recorded in order, in parts, and through a short outage of the database."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.intake.ingest import Answer, Ingest
from adapters.intake.payloads import Payload
from adapters.postgres.outage import DATABASE_BACK_WITHIN_S, through_outages
from adapters.principal import Principal

__all__ = ["accept"]

_AT_ONCE = 1_000
"""Events prepared between two breaths of the event loop: a large batch must not hold up the small ones."""


async def accept(
    ingest: Ingest,
    items: Sequence[bytes | Payload],
    principal: Principal,
    *,
    way_in: str,
    keep: bool = True,
) -> Answer:
    """Record *items* in order; a long batch in parts, and through a short outage of the database.

    Raises:
        Unavailable: the same items may be sent again: what was recorded answers `duplicate` then.
    """
    whole: Answer | None = None
    for start in range(0, max(len(items), 1), _AT_ONCE):
        part = items[start : start + _AT_ONCE]
        places = [f"item {start + i + 1}" for i in range(len(part))] if start else None

        async def record_part(
            part: Sequence[bytes | Payload] = part, places: list[str] | None = places
        ) -> Answer:
            return await ingest.accept(part, principal, way_in=way_in, places=places, keep=keep)

        answer = await through_outages(record_part, within_s=DATABASE_BACK_WITHIN_S)
        if whole is None:
            whole = answer
        else:
            whole.results += answer.results
            whole.recorded += answer.recorded
            whole.duplicates += answer.duplicates
            whole.conflicts += answer.conflicts
            whole.rejected += answer.rejected
            whole.head = max(whole.head, answer.head)
    assert whole is not None
    return whole
