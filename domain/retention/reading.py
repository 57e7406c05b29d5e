"""Reading a question: what somebody wrote becomes a `Retention`, or every mistake in it is told at its place."""

from __future__ import annotations

from typing import Any

from domain.errors import Invalid, Problem
from domain.funnels.question import Matcher
from domain.funnels.reading import MOMENT, Known, Reader
from domain.retention.question import Attribution, Entry, Interval, Mode, Retention, Returns

__all__ = ["MOST_INTERVALS", "read_retention"]

MOST_INTERVALS = 60
USUAL_INTERVALS = {"day": 14, "week": 12, "month": 12}
"""How many intervals are told where nobody says."""
_KEYS = (
    "start", "return", "interval", "intervals", "entry", "returns", "mode", "unit", "breakdown", "range", "timezone",
)  # fmt: skip


def read_retention(raw: Any, known: Known) -> Retention:
    """Read a question; its `as_of` and `known_at` are left to whoever resolves them.

    Raises:
        Invalid: with a problem for every mistake, each with a pointer to its place.
    """
    reader = Reader(known)
    if not isinstance(raw, dict):
        raise Invalid([Problem("", 'A retention is an object with "start" and "interval".', "not_an_object")])
    reader.keys(raw, "", (*_KEYS, *sorted(MOMENT), "name"))
    start = _matcher(reader, raw.get("start"), "/start")
    back = start if raw.get("return") is None else _matcher(reader, raw["return"], "/return")
    interval = reader.one_of(raw, "interval", Interval, "month")
    breakdown, attribution = _breakdown(reader, raw.get("breakdown"))
    begin, end = reader.range_of(raw)
    retention = Retention(
        start=start,
        back=back,
        interval=interval,
        intervals=_intervals(reader, raw.get("intervals"), interval),
        entry=reader.one_of(raw, "entry", Entry, "first"),
        returns=reader.one_of(raw, "returns", Returns, "any"),
        mode=reader.one_of(raw, "mode", Mode, "calendar"),
        unit=reader.unit(raw),
        breakdown=breakdown,
        attribution=attribution,
        from_us=begin,
        to_us=end,
        timezone=reader.zone(raw.get("timezone") or "UTC"),
    )
    if reader.problems:
        raise Invalid(reader.problems)
    return retention


def _matcher(reader: Reader, raw: Any, pointer: str) -> Matcher:
    """What starts or returns: a type, or an object with `type` and `where`."""
    if raw is None:
        reader.wrong(
            pointer, "'start' is missing: the event with which a unit begins, e.g. order.placed.", "missing"
        )
        return Matcher(types=())
    one = {"type": raw} if isinstance(raw, str | list) else raw
    if not isinstance(one, dict):
        reader.wrong(pointer, "Right would be the name of a type, or an object with 'type' and 'where'.")
        return Matcher(types=())
    reader.keys(one, pointer, ("type", "where", "name"))
    types = reader.types(one.get("type"), f"{pointer}/type" if isinstance(raw, dict) else pointer)
    return Matcher(types=types, where=reader.where(one.get("where"), f"{pointer}/where", types))


def _intervals(reader: Reader, raw: Any, interval: Interval) -> int:
    """How many intervals are told."""
    if raw is None:
        return USUAL_INTERVALS[interval]
    if isinstance(raw, bool) or not isinstance(raw, int):
        reader.wrong(
            "/intervals",
            f"'intervals' is how many {interval}s are told: a number from 1 to {MOST_INTERVALS}.",
            "wrong_type",
        )
    elif raw < 1:
        told = "negative" if raw < 0 else "zero"
        reader.wrong(
            "/intervals",
            f"{raw} intervals leave no time to return in; right would be 1 to {MOST_INTERVALS}.",
            told,
        )
    elif raw > MOST_INTERVALS:
        reader.wrong(
            "/intervals",
            f"At most {MOST_INTERVALS} intervals are told; {raw:,} {interval}s were asked. Take longer ones.",
            "too_many",
        )
    else:
        return raw
    return 1


def _breakdown(reader: Reader, raw: Any) -> tuple[str | None, Any]:
    """(property, attribution)."""
    if raw is None:
        return None, "first"
    one = {"by": raw} if isinstance(raw, str) else raw
    if not isinstance(one, dict):
        reader.wrong("/breakdown", "'breakdown' is an object with 'by' and 'attribution'.")
        return None, "first"
    reader.keys(one, "/breakdown", ("by", "attribution"))
    path = reader.path(one.get("by"), "/breakdown/by")
    return path, reader.one_of(one, "attribution", Attribution, "first", "/breakdown")
