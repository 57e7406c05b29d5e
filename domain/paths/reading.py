"""Reading a question about paths: what somebody wrote becomes `Paths`, or every mistake in it is told at its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.errors import Invalid, Problem
from domain.event import TYPES
from domain.funnels.question import Matcher
from domain.funnels.reading import MOMENT, Known, Reader
from domain.paths.question import Loops, Occurrence, Paths

__all__ = ["read_paths"]

MOST_LEVELS, MOST_TOP = 10, 50
DEFAULT_LEVELS, DEFAULT_TOP = 3, 5
_KEYS = (
    "around", "before", "after", "top", "steps", "by", "gap", "window", "occurrence", "loops", "unit", "range",
)  # fmt: skip


def read_paths(raw: Any, known: Known) -> Paths:
    """Read a question; its `as_of` and `known_at` are left to whoever resolves them.

    Raises:
        Invalid: with a problem for every mistake, each with a pointer to its place.
    """
    reader = Reader(known)
    if not isinstance(raw, dict):
        raise Invalid([Problem("", 'A question about paths is an object with "around".', "not_an_object")])
    reader.keys(raw, "", (*_KEYS, *sorted(MOMENT), "name"))
    before = _number(reader, raw, "before", 0, 0, MOST_LEVELS)
    after = _number(reader, raw, "after", DEFAULT_LEVELS if raw.get("before") is None else 0, 0, MOST_LEVELS)
    if before == after == 0:
        reader.wrong(
            "/after", f"'before' and 'after' are both 0; ask for 1 to {MOST_LEVELS} levels of one.", "levels"
        )
    begin, end = reader.range_of(raw)
    found = Paths(
        around=_matcher(reader, raw.get("around"), "/around"),
        steps=_steps(reader, raw.get("steps"), known),
        by=None if raw.get("by") is None else reader.path(raw["by"], "/by"),
        before=before,
        after=after,
        top=_number(reader, raw, "top", DEFAULT_TOP, 1, MOST_TOP),
        gap_us=None if raw.get("gap") is None else reader.span(raw["gap"], "/gap"),
        window_us=None if raw.get("window") is None else reader.span(raw["window"], "/window"),
        occurrence=reader.one_of(raw, "occurrence", Occurrence, "first"),
        loops=reader.one_of(raw, "loops", Loops, "repeats"),
        unit=reader.unit(raw),
        from_us=begin,
        to_us=end,
    )
    if (
        found.loops == "loops"
        and found.occurrence == "every"
        and found.gap_us is None
        and found.window_us is None
    ):
        reader.wrong(
            "/occurrence",
            "`every` with `loops: loops` wants a 'gap' or a 'window', within which a path ends.",
            "not_together",
        )
    if reader.problems:
        raise Invalid(reader.problems)
    return found


def _number(reader: Reader, raw: Mapping[str, Any], key: str, default: int, low: int, high: int) -> int:
    value = raw.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        reader.wrong(f"/{key}", f"'{key}' is a whole number from {low} to {high}.", "number")
        return default
    return value


def _matcher(reader: Reader, raw: Any, pointer: str) -> Matcher:
    """An event: the name of its type, or an object of type and filters."""
    if isinstance(raw, str | list):
        raw = {"type": raw}
    if not isinstance(raw, dict):
        reader.wrong(
            pointer,
            "This names an event: a type, or an object with 'type' and 'where', e.g. order.placed.",
            "missing",
        )
        return Matcher(types=())
    reader.keys(raw, pointer, ("type", "where"))
    types = reader.types(raw.get("type"), f"{pointer}/type")
    return Matcher(types=types, where=reader.where(raw.get("where"), f"{pointer}/where", types))


def _steps(reader: Reader, raw: Any, known: Known) -> Matcher:
    """Which events are steps: of the types named, or all touchpoints but those left out, that pass the filters."""
    raw = {} if raw is None else raw
    if isinstance(raw, str | list):
        raw = {"type": raw}
    if not isinstance(raw, dict):
        reader.wrong(
            "/steps", "'steps' is an object with 'type' or 'leave_out', and 'where'.", "not_an_object"
        )
        return Matcher(types=())
    reader.keys(raw, "/steps", ("type", "leave_out", "where"))
    if raw.get("type") is not None and raw.get("leave_out") is not None:
        reader.wrong(
            "/steps/leave_out",
            "'type' says which events are steps, 'leave_out' which are not: give one.",
            "not_together",
        )
    if raw.get("type") is not None:
        types = reader.types(raw["type"], "/steps/type")
    else:
        out = () if raw.get("leave_out") is None else reader.types(raw["leave_out"], "/steps/leave_out")
        touchpoints = {t for t in known.types if t not in TYPES or TYPES[t].touchpoint}
        types = tuple(sorted(touchpoints.difference(out)))
    return Matcher(types=types, where=reader.where(raw.get("where"), "/steps/where", types))
