"""Reading a segment: what somebody wrote becomes rules, or every mistake in it is told at its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.errors import Invalid, Problem
from domain.funnels.reading import Known, Reader
from domain.segments.question import MOST_RULES, Joined, Rule, Scope, Segment

__all__ = ["DEFINITION", "read_scope", "read_segment"]

MOST_EVENTS, MOST_DEPTH = 1_000_000, 5
DEFINITION = ("all", "any", "name", "note")
"""Keys of a segment as it is kept: its rules under `all` or `any`, and words about it."""
_RULE = ("did", "where", "at_least", "at_most", "within", "since", "name")


def read_segment(raw: Any, known: Known, pointer: str = "") -> Segment:
    """Read the rules of a segment.

    Args:
        pointer: where they stand in what was written.

    Raises:
        Invalid: with a problem for every mistake, each with a pointer to its place.
    """
    reader = Reader(known)
    found = _segment(reader, raw, pointer, DEFINITION)
    if reader.problems:
        raise Invalid(reader.problems)
    return found


def read_scope(raw: Any, known: Known, pointer: str) -> Scope:
    """Read whose events are looked at: a segment, or with `entered` the cohort of those who entered it in a range.

    Raises:
        Invalid: as `read_segment`.
    """
    reader = Reader(known)
    segment = _segment(reader, raw, pointer, (*DEFINITION, "entered"))
    span = raw.get("entered") if isinstance(raw, dict) else None
    if span is not None and not isinstance(span, dict):
        reader.wrong(f"{pointer}/entered", "'entered' is an object with 'from' and 'to'.")
        span = {}
    begin = end = None
    if span is not None:
        reader.keys(span, f"{pointer}/entered", ("from", "to"))
        begin = reader.time(span.get("from"), f"{pointer}/entered/from")
        end = reader.time(span.get("to"), f"{pointer}/entered/to")
        if begin is not None and end is not None and begin >= end:
            reader.wrong(
                f"{pointer}/entered",
                "'from' must lie before 'to': the range [from, to) is empty.",
                "empty_range",
            )
    if reader.problems:
        raise Invalid(reader.problems)
    return Scope(segment=segment, cohort=span is not None, from_us=begin, to_us=end)


def _segment(reader: Reader, raw: Any, pointer: str, keys: tuple[str, ...]) -> Segment:
    if not isinstance(raw, dict):
        raise Invalid(
            [
                Problem(
                    pointer, 'A segment is an object with "all" or "any", a list of rules.', "not_an_object"
                )
            ]
        )
    reader.keys(raw, pointer, keys)
    words = [word for word in ("all", "any") if raw.get(word) is not None]
    if len(words) != 1:
        reader.wrong(
            f"{pointer}/all",
            'A segment has "all" or "any", one of them, a list of rules such as {"did": "order.placed", "at_least": 3, "within": "90d"}.',
            "missing",
        )
        return Segment(rules=(), joined=("all", ()))
    rules: list[tuple[dict[str, Any], str]] = []
    joined = _joined(reader, {words[0]: raw[words[0]]}, pointer, rules, 0)
    if len(rules) > MOST_RULES:
        reader.wrong(
            f"{pointer}/{words[0]}",
            f"A segment has at most {MOST_RULES} rules; {len(rules)} were given.",
            "too_many",
        )
        return Segment(rules=(), joined=("all", ()))
    names: dict[str, int] = {}
    for i, (rule, at) in enumerate(rules):
        name = rule.get("name")
        if name is None:
            continue
        if not isinstance(name, str) or not name or name in names:
            reader.wrong(f"{at}/name", "A rule's name is a text that no other rule has.", "name")
        else:
            names[name] = i
    return Segment(
        rules=tuple(_rule(reader, rule, at, i, len(rules), names) for i, (rule, at) in enumerate(rules)),
        joined=joined,
    )


def _joined(
    reader: Reader, raw: Mapping[str, Any], pointer: str, rules: list[tuple[dict[str, Any], str]], depth: int
) -> Joined:
    """How rules are joined; each rule is put into *rules*, with its place."""
    word = next(w for w in ("all", "any", "not") if w in raw)
    at = f"{pointer}/{word}"
    parts = [raw[word]] if word == "not" else raw[word]
    if not isinstance(parts, list) or not parts:
        reader.wrong(at, f"'{word}' is a list of rules, one at least.", "missing")
        return "all", ()
    if depth >= MOST_DEPTH:
        reader.wrong(at, f"Rules are joined at most {MOST_DEPTH} deep.", "too_deep")
        return "all", ()
    found: list[Joined] = []
    for i, part in enumerate(parts):
        place = at if word == "not" else f"{at}/{i}"
        if not isinstance(part, dict):
            reader.wrong(
                place, "A rule is an object with 'did', or with 'all', 'any' or 'not'.", "not_an_object"
            )
        elif any(w in part for w in ("all", "any", "not")):
            if len(part) > 1:
                reader.wrong(
                    place,
                    "Rules that are joined stand under one word, 'all', 'any' or 'not', alone.",
                    "not_together",
                )
            found.append(_joined(reader, part, place, rules, depth + 1))
        else:
            rules.append((part, place))
            found.append(len(rules) - 1)
    return word, tuple(found)  # type: ignore[return-value]  # one of three words


def _rule(
    reader: Reader, raw: dict[str, Any], at: str, own: int, rules: int, names: Mapping[str, int]
) -> Rule:
    reader.keys(raw, at, _RULE)
    types = reader.types(raw.get("did"), f"{at}/did")
    most = _count(reader, raw, "at_most", at)
    least = _count(reader, raw, "at_least", at)
    if least is None:
        least = 1 if most is None else 0
    if least == 0 and most is None:
        reader.wrong(
            f"{at}/at_least",
            "At least 0 holds of everybody; say 'at_most': 0 for what was not done.",
            "number",
        )
    if most is not None and least > most:
        reader.wrong(f"{at}/at_least", "'at_least' is above 'at_most': no count lies between them.", "number")
    return Rule(
        types=types,
        where=reader.where(raw.get("where"), f"{at}/where", types),
        at_least=least,
        at_most=most,
        within_us=None if raw.get("within") is None else reader.span(raw["within"], f"{at}/within"),
        since=None
        if raw.get("since") is None
        else _other(reader, raw["since"], f"{at}/since", own, rules, names),
    )


def _count(reader: Reader, raw: dict[str, Any], key: str, at: str) -> int | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_EVENTS:
        reader.wrong(f"{at}/{key}", f"'{key}' is a whole number from 0 to {MOST_EVENTS:,}.", "number")
        return None
    return value


def _other(reader: Reader, raw: Any, at: str, own: int, rules: int, names: Mapping[str, int]) -> int | None:
    """The place of the rule since whose last event is counted: told by its name, or its number from 1."""
    place = names.get(raw) if isinstance(raw, str) else None
    if isinstance(raw, int) and not isinstance(raw, bool) and 1 <= raw <= rules:
        place = raw - 1
    if place is None:
        there = f" Named are: {', '.join(names)}." if names else ""
        reader.wrong(at, f"'since' is the name of a rule, or its number from 1 to {rules}.{there}", "unknown")
    elif place == own:
        reader.wrong(at, "A rule counts since another one, not since itself.", "not_allowed")
        return None
    return place
