"""A person's profile: for each trait the value that was said last, with where it comes from (SEMANTICS §2).

A trait is whatever a source calls it: `first_name`, `language`, `vip`. Of several updates the one that
happened last holds, trait by trait; ties in time are broken by (source, id), never by arrival. A trait that
is updated to null is removed: it is absent, until a later update says it again. An update of a trait replaces
its value whole, also where that is an object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

__all__ = ["PROFILE_UPDATED", "ProfileUpdate", "Trait", "folded_profile"]

PROFILE_UPDATED = "profile.updated"


class ProfileUpdate(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one event says of a person, corrected and unsealed."""

    position: int
    event_id: str
    source: str
    source_id: str
    occurred_at: datetime
    recorded_at: datetime
    traits: Mapping[str, Any]

    @property
    def order(self) -> tuple[datetime, str, str]:
        """Its place among the updates of a person."""
        return self.occurred_at, self.source, self.source_id


class Trait(msgspec.Struct, frozen=True, kw_only=True):
    """The value of one trait, and the update that it comes from."""

    value: Any
    position: int
    event_id: str
    source: str
    source_id: str
    occurred_at: datetime
    recorded_at: datetime


def folded_profile(updates: Iterable[ProfileUpdate]) -> dict[str, Trait]:
    """The profile that follows from *updates*, given in any order: traits by name, in the order of names."""
    last: dict[str, ProfileUpdate] = {}
    for update in updates:
        for name in update.traits:
            known = last.get(name)
            if known is None or known.order < update.order:
                last[name] = update
    return {
        name: Trait(
            value=update.traits[name],
            position=update.position,
            event_id=update.event_id,
            source=update.source,
            source_id=update.source_id,
            occurred_at=update.occurred_at,
            recorded_at=update.recorded_at,
        )
        for name, update in sorted(last.items())
        if update.traits[name] is not None
    }
