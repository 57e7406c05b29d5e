"""Hours in which nobody may be called or texted, by the clock of the person who is called (47 CFR 64.1200(c)(1))."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from domain.consent.policies import policy_of

__all__ = ["in_quiet_hours"]

US_ZONES = (
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Phoenix",
    "America/Los_Angeles",
    "America/Anchorage",
    "Pacific/Honolulu",
)
"""Where nothing is known of where a person is, any of these may be the place: the strictest decides."""


def in_quiet_hours(jurisdiction: str | None, channel: str, at: datetime, zones: Collection[str] = ()) -> bool:
    """Whether a solicitation at *at* falls into the quiet hours of the person called.

    Independent of consent. An hour that a change of the clock repeats is quiet both times.

    Args:
        zones: where the person may be; of several, or of none known, the strictest decides.
    """
    policy = policy_of(jurisdiction, channel, at.astimezone(UTC).date())
    if policy is None or policy.quiet_from is None or policy.quiet_to is None:
        return False
    for zone in zones or US_ZONES:
        local = at.astimezone(ZoneInfo(zone)).time()
        if local >= policy.quiet_from or local < policy.quiet_to:
            return True
    return False
