"""Spans of time as people and ISO 8601 write them: `P14D`, `PT30M`, `14d`; in microseconds."""

from __future__ import annotations

import re
from decimal import Decimal

__all__ = ["NO_SPAN", "read_span"]

NO_SPAN = (
    "Right would be an ISO 8601 duration such as P14D or PT30M, or a short one such as 14d, 36h, 30m, 45s."
)
_ISO = re.compile(
    r"P(?:(\d+)W)?(?:(\d+)D)?(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d{1,6})?)S)?)?", re.ASCII
)
_SHORT = re.compile(r"(\d+) ?(w|d|h|m|s)", re.ASCII)
_US = {"w": 604_800_000_000, "d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000}


def read_span(text: str) -> int | None:
    """Microseconds of a span, which may be zero; None where this is none. Days are 24 hours, a month is no span."""
    if short := _SHORT.fullmatch(text.strip()):
        return int(short[1]) * _US[short[2]]
    iso = _ISO.fullmatch(text.strip())
    if iso is None or not any(iso.groups()):
        return None
    amounts = zip(iso.groups(), _US.values(), strict=True)
    return sum(int(Decimal(amount) * us) for amount, us in amounts if amount)
