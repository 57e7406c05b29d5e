"""Reading a question: what somebody wrote becomes a `Funnel`, or every mistake in it is told at its place.

Nothing is guessed silently: a type or property that nobody has ever recorded is refused with the nearest names,
because a funnel of a misspelt step would be a zero that looks like an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, get_args
from zoneinfo import ZoneInfo

import msgspec

from domain.errors import Invalid, Problem
from domain.event import DIRECTIONS, TYPES
from domain.funnels.declared import declared_kinds
from domain.funnels.property import ENVELOPE, OPS, Condition, kind_of_value, path_of
from domain.funnels.question import Count, Entry, Exclusion, Funnel, Order, Policy, Step, Trend
from domain.funnels.span import NO_SPAN, read_span

__all__ = ["MOMENT", "Known", "Reader", "micros", "read_funnel"]

MOST_STEPS, MOST_TYPES, MOST_VALUES, MOST_HELD, MOST_EXCLUDED = 20, 100, 1000, 3, 20
MOMENT = frozenset({"as_of", "known_at"})
"""Keys of a question that say as of when it is asked; they are no part of the funnel."""
_KEYS = (
    "steps", "window", "entry", "order", "count", "unit", "exclude", "hold", "breakdown", "range", "trend", "timezone",
)  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = 1_000_000
MINUTE_US = 60 * _MICROSECOND


class Known(msgspec.Struct, frozen=True):
    """What there is to ask for: types that were recorded, and the kinds of value seen under each path."""

    types: frozenset[str]
    paths: Mapping[str, frozenset[str]]


def micros(at: datetime) -> int:
    """Microseconds since 1970-01-01 UTC, exactly."""
    span = at - _EPOCH
    return (span.days * 86_400 + span.seconds) * _MICROSECOND + span.microseconds


def _nearest(name: str, names: Iterable[str], of: str, first: Iterable[str] = ()) -> str:
    near = [*first, *get_close_matches(name, sorted(names), n=3, cutoff=0.5)]
    return f"; did you mean {' or '.join(dict.fromkeys(near[:3]))}?" if near else f". {of}"


class Reader:
    """One reading; problems are gathered, so that all are told at once."""

    def __init__(self, known: Known) -> None:
        self._types = known.types | frozenset(TYPES)
        self._seen = known.paths
        self.problems: list[Problem] = []

    def wrong(self, pointer: str, detail: str, code: str = "invalid") -> None:
        self.problems.append(Problem(pointer, detail, code))

    def keys(self, raw: Mapping[str, Any], pointer: str, allowed: Iterable[str]) -> None:
        """Tell of keys that mean nothing here."""
        for key in raw:
            if key not in allowed:
                near = _nearest(str(key), allowed, f"There are: {', '.join(allowed)}.")
                self.wrong(f"{pointer}/{key}", f"'{str(key)[:60]}' is no option here{near}", "unknown")

    def one_of(
        self, raw: Mapping[str, Any], key: str, kind: Any, default: str | None, pointer: str = ""
    ) -> Any:
        """One of the words of a Literal."""
        value = raw.get(key)
        value = default if value is None else value
        words = get_args(kind)
        if value is not None and value not in words:
            self.wrong(f"{pointer}/{key}", f"'{key}' is one of {', '.join(words)}.", "not_allowed")
            return default
        return value

    def span(self, raw: Any, pointer: str) -> int:
        """A span that is longer than nothing."""
        us = read_span(raw) if isinstance(raw, str) else None
        if us is None:
            if isinstance(raw, str) and raw.strip().startswith("-"):
                self.wrong(pointer, f"A span runs forward: it cannot be negative. {NO_SPAN}", "negative")
            else:
                self.wrong(pointer, f"This is no span of time. {NO_SPAN}", "not_a_span")
        elif us == 0:
            self.wrong(pointer, f"A span of nothing lets no step follow. {NO_SPAN}", "zero")
        elif us > 100 * 366 * 86_400 * _MICROSECOND:
            self.wrong(
                pointer, "A span of more than a hundred years is none of a customer. " + NO_SPAN, "too_long"
            )
        else:
            return us
        return 1

    def types(self, raw: Any, pointer: str) -> tuple[str, ...]:
        """A type, or a list of types."""
        listed = [raw] if isinstance(raw, str) else raw
        if not isinstance(listed, list) or not listed or not all(isinstance(t, str) for t in listed):
            self.wrong(
                pointer, "'type' is the name of a type, or a list of names, e.g. web.page_viewed.", "missing"
            )
            return ()
        if len(listed) > MOST_TYPES:
            self.wrong(pointer, f"At most {MOST_TYPES} types make a step.", "too_many")
        for i, name in enumerate(listed):
            if name not in self._types:
                where = pointer if isinstance(raw, str) else f"{pointer}/{i}"
                near = _nearest(name, self._types, "GET /v1/types lists the declared ones.")
                self.wrong(
                    where,
                    f"No event of type '{name[:80]}' is declared or was ever recorded{near}",
                    "unknown_type",
                )
        return tuple(dict.fromkeys(listed))

    def path(
        self, raw: Any, pointer: str, types: tuple[str, ...] = (), *, also: tuple[str, ...] = ENVELOPE
    ) -> str:
        """The path of a property that there is, and that is not sealed; *also* are the words beside those of data."""
        if not isinstance(raw, str) or not raw or raw == "data.":
            self.wrong(
                pointer, "A property is named channel, direction, source or data.<path>.", "not_a_property"
            )
            return "channel"
        path = path_of(raw)
        if path in ENVELOPE:
            if path not in also:
                self.wrong(
                    pointer, "Only properties of data, such as data.session_id, go here.", "not_allowed"
                )
            return path
        if path in self._seen:
            return path
        field = path.removeprefix("data.").split(".")[0]
        declared = [TYPES[t] for t in types or self._types if t in TYPES]
        if any(field in t.personal | t.others for t in declared):
            self.wrong(
                pointer,
                f"'{path}' is personal: it is sealed, and no analysis reads it. Ask by another property.",
                "personal",
            )
        elif not any(declared_kinds(t, path) for t in types or self._types):
            names = {
                f"data.{f}"
                for t in declared
                for f in t.fields - t.personal
                if declared_kinds(t.name, f"data.{f}")
            }
            near = _nearest(
                path,
                names | set(self._seen),
                "GET /v1/types/{name} lists the fields of a type.",
                get_close_matches(raw, also, n=1),
            )
            self.wrong(pointer, f"No event was ever recorded with '{path[:80]}'{near}", "unknown_property")
        return path

    def where(self, raw: Any, pointer: str, types: tuple[str, ...]) -> tuple[Condition, ...]:
        """Conditions on properties: a constant, a list, or an operator with its value."""
        if raw is None:
            return ()
        if not isinstance(raw, dict):
            self.wrong(pointer, '\'where\' is an object of property and value, e.g. {"path": "/pricing"}.')
            return ()
        found = []
        for key, value in raw.items():
            at = f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"
            path = self.path(key, at, types)
            op = "="
            if isinstance(value, list):
                op = "in"
            elif isinstance(value, dict):
                self.keys(value, at, ("op", "value"))
                op = value.get("op", "=")
                value = value.get("value", True if op == "exists" else None)  # noqa: PLW2901 - as it was meant
            if op not in OPS:
                self.wrong(f"{at}/op", f"'op' is one of {' '.join(OPS)}.", "not_allowed")
                continue
            if self._comparable(path, op, value, at, types):
                found.append(Condition(path, op, value))
        return tuple(found)

    def _comparable(self, path: str, op: str, value: Any, at: str, types: tuple[str, ...]) -> bool:
        """Whether this operator can say anything about values of this property."""
        if op == "exists":
            if not isinstance(value, bool):
                self.wrong(at, "'exists' asks true or false.", "wrong_type")
            return isinstance(value, bool)
        values = value if op == "in" else [value]
        if op == "in" and (not isinstance(value, list) or not value or len(value) > MOST_VALUES):
            self.wrong(at, f"'in' wants a list of 1 to {MOST_VALUES} values.", "wrong_type")
            return False
        if any(v is None or isinstance(v, dict | list) for v in values):
            self.wrong(at, "A filter compares with a text, a number, or true or false; absence is asked by "
                           '{"op": "exists", "value": false}.', "wrong_type")  # fmt: skip
            return False
        given = {kind_of_value(v) for v in values}
        if op in ("<", "<=", ">", ">=") and given == {"flag"}:
            self.wrong(at, f"'{op}' compares numbers or texts, not true and false.", "wrong_type")
            return False
        kinds = self._kinds(path, types)
        if op == "contains":
            if kinds and not kinds & {"text", "list"}:
                self.wrong(
                    at,
                    f"'contains' looks into texts and lists; '{path}' is a {' or '.join(sorted(kinds))}.",
                    "wrong_type",
                )
                return False
            if kinds and "list" not in kinds and given != {"text"}:
                self.wrong(
                    at, f"'contains' looks for a text in '{path}'; a {min(given)} was given.", "wrong_type"
                )
                return False
            return True
        if kinds and (off := given - kinds):
            self.wrong(
                at,
                f"'{path}' is a {' or '.join(sorted(kinds))}; a {min(off)} was given, which no value equals.",
                "wrong_type",
            )
            return False
        if path == "direction" and (bad := [v for v in values if v not in DIRECTIONS]):
            self.wrong(at, f"'{bad[0]}' is no direction; there are {', '.join(DIRECTIONS)}.", "not_allowed")
            return False
        return True

    def _kinds(self, path: str, types: tuple[str, ...]) -> set[str]:
        """The kinds of value that a property was seen with, or is declared to have; empty: any."""
        if path in ENVELOPE:
            return {"text"}
        return set(self._seen.get(path, ())).union(*(declared_kinds(t, path) for t in types))

    def steps(self, raw: Any) -> tuple[Step, ...]:
        """2 to 20 steps."""
        if not isinstance(raw, list):
            self.wrong("/steps", "'steps' is a list of 2 to 20 steps, each with a 'type'.", "missing")
            return ()
        if not 2 <= len(raw) <= MOST_STEPS:
            self.wrong("/steps", f"A funnel has 2 to {MOST_STEPS} steps; {len(raw)} was given.", "steps")
        found = []
        for i, one in enumerate(raw[: MOST_STEPS + 1]):
            at = f"/steps/{i}"
            if isinstance(one, str):
                one = {"type": one}  # noqa: PLW2901 - the short form of a step
            if not isinstance(one, dict):
                self.wrong(at, "A step is an object with a 'type'.")
                continue
            self.keys(one, at, ("type", "where", "within", "name"))
            types = self.types(one.get("type"), f"{at}/type")
            within = None
            if one.get("within") is not None:
                if i == 0:
                    self.wrong(f"{at}/within", "The first step has no step before it to be within a span of.")
                within = self.span(one["within"], f"{at}/within")
            found.append(
                Step(types=types, where=self.where(one.get("where"), f"{at}/where", types), within_us=within)
            )
        return tuple(found)

    def exclusions(self, raw: Any, steps: int) -> tuple[Exclusion, ...]:
        """Events that may not lie between two steps."""
        if raw is None:
            return ()
        if not isinstance(raw, list) or len(raw) > MOST_EXCLUDED:
            self.wrong("/exclude", f"'exclude' is a list of at most {MOST_EXCLUDED} exclusions.")
            return ()
        found = []
        for i, one in enumerate(raw):
            at = f"/exclude/{i}"
            if not isinstance(one, dict):
                self.wrong(at, "An exclusion is an object with a 'type'.")
                continue
            self.keys(one, at, ("type", "where", "from", "to", "policy"))
            types = self.types(one.get("type"), f"{at}/type")
            begin, end = one.get("from", 1), one.get("to", steps)
            numbers = all(isinstance(n, int) and not isinstance(n, bool) for n in (begin, end))
            if not numbers or not 1 <= begin < end <= max(steps, 2):
                self.wrong(at, f"'from' and 'to' are steps, 1 to {steps}, 'from' before 'to'.", "steps")
                begin, end = 1, 2
            policy = self.one_of(one, "policy", Policy, "remove", at)
            where = self.where(one.get("where"), f"{at}/where", types)
            found.append(Exclusion(types=types, where=where, from_step=begin, to_step=end, policy=policy))
        return tuple(found)

    def time(self, raw: Any, pointer: str) -> int | None:
        """An instant; null is no bound."""
        if raw is None:
            return None
        if isinstance(raw, datetime):  # TOML has times of its own
            at = raw
        else:
            try:
                at = msgspec.convert(raw, datetime)
            except msgspec.ValidationError:
                self.wrong(
                    pointer, "This is no RFC 3339 time; right would be 2026-01-31T12:00:00Z.", "not_a_time"
                )
                return None
        if at.tzinfo is None:
            self.wrong(
                pointer,
                "The time has no zone, so the instant is unknown; add Z for UTC or an offset.",
                "no_zone",
            )
            return None
        try:
            return micros(at.astimezone(UTC))
        except OverflowError:  # within the first or last day of the calendar
            self.wrong(pointer, "The time lies outside the years 1 to 9999 in UTC.", "out_of_range")
            return None

    def range_of(self, raw: Mapping[str, Any]) -> tuple[int | None, int | None]:
        """The range [from, to) of a question."""
        span = raw.get("range") or {}
        if not isinstance(span, dict):
            self.wrong("/range", "'range' is an object with 'from' and 'to'.")
            span = {}
        self.keys(span, "/range", ("from", "to"))
        begin, end = self.time(span.get("from"), "/range/from"), self.time(span.get("to"), "/range/to")
        if begin is not None and end is not None and begin >= end:
            self.wrong("/range", "'from' must lie before 'to': the range [from, to) is empty.", "empty_range")
        return begin, end

    def unit(self, raw: Mapping[str, Any]) -> str:
        """Whose events are looked at: a person's, or those that share the value of a property of data."""
        unit = raw.get("unit") or "person"
        return unit if unit == "person" else self.path(unit, "/unit", also=("person",))

    def zone(self, raw: Any) -> str:
        """A time zone by its name."""
        try:
            return ZoneInfo(raw).key
        except (ValueError, OSError, TypeError, LookupError):
            self.wrong(
                "/timezone",
                f"There is no time zone '{str(raw)[:60]}'; right would be UTC or Europe/London.",
                "unknown",
            )
            return "UTC"


_REFUSED: tuple[tuple[Callable[[Funnel], Any], str, str], ...] = (
    (lambda f: f.order == "any" and f.entry == "first", "/entry", "`entry: first` is not together with `order: any`, where every window stands."),
    (lambda f: f.hold and f.order != "ordered", "/hold", "`hold` is not together with `strict` or `any`."),
    (lambda f: f.exclude and f.order == "any", "/exclude", "Exclusions are not together with `any`."),
    (lambda f: f.count == "total" and f.order == "any", "/count", "`total` is not together with `any`."),
    (lambda f: any(s.within_us for s in f.steps) and f.order != "ordered", "/steps", "`within` is only together with `order: ordered`."),
)  # fmt: skip


def read_funnel(raw: Any, known: Known) -> Funnel:
    """Read a question; its `as_of` and `known_at` are left to whoever resolves them.

    Raises:
        Invalid: with a problem for every mistake, each with a pointer to its place.
    """
    reader = Reader(known)
    if not isinstance(raw, dict):
        raise Invalid([Problem("", 'A funnel is an object with "steps" and "window".', "not_an_object")])
    reader.keys(raw, "", (*_KEYS, *sorted(MOMENT), "name", "snapshot"))
    if raw.get("snapshot") is not None and 1 < reader.span(raw["snapshot"], "/snapshot") < MINUTE_US:
        reader.wrong("/snapshot", "Snapshots are at least a minute apart; right would be P1D.", "too_short")
    steps = reader.steps(raw.get("steps"))
    if raw.get("window") is None:
        reader.wrong(
            "/window",
            f"'window' is missing: the span from the entry within which steps count. {NO_SPAN}",
            "missing",
        )
        window_us = 1
    else:
        window_us = reader.span(raw["window"], "/window")
    unit = reader.unit(raw)
    held = raw.get("hold") or []
    held = [held] if isinstance(held, str) else held
    if not isinstance(held, list) or len(held) > MOST_HELD:
        reader.wrong("/hold", f"'hold' is a list of at most {MOST_HELD} properties.", "too_many")
        held = []
    breakdown, attribution, step = _breakdown(reader, raw.get("breakdown"), len(steps))
    begin, end = reader.range_of(raw)
    funnel = Funnel(
        steps=steps,
        window_us=window_us,
        entry=reader.one_of(raw, "entry", Entry, "latest"),
        order=reader.one_of(raw, "order", Order, "ordered"),
        count=reader.one_of(raw, "count", Count, "unique"),
        unit=unit,
        exclude=reader.exclusions(raw.get("exclude"), len(steps)),
        hold=tuple(dict.fromkeys(reader.path(h, f"/hold/{i}") for i, h in enumerate(held))),
        breakdown=breakdown,
        attribution=attribution,
        step=step,
        from_us=begin,
        to_us=end,
        trend=reader.one_of(raw, "trend", Trend, None),
        timezone=reader.zone(raw.get("timezone") or "UTC"),
    )
    for refuses, pointer, sentence in _REFUSED:
        if refuses(funnel):
            reader.wrong(pointer, sentence, "not_together")
    if reader.problems:
        raise Invalid(reader.problems)
    return funnel


def _breakdown(reader: Reader, raw: Any, steps: int) -> tuple[str | None, Any, int]:
    """(property, attribution, its step)."""
    if raw is None:
        return None, "first", 1
    if isinstance(raw, str):
        raw = {"by": raw}
    if not isinstance(raw, dict):
        reader.wrong("/breakdown", "'breakdown' is an object with 'by' and 'attribution'.")
        return None, "first", 1
    reader.keys(raw, "/breakdown", ("by", "attribution"))
    path = reader.path(raw.get("by"), "/breakdown/by")
    word = raw.get("attribution") or "first"
    if word in ("first", "last", "all_steps"):
        return path, word, 1
    number = word.removeprefix("step:") if isinstance(word, str) and word.startswith("step:") else ""
    if number.isascii() and number.isdigit() and 1 <= int(number[:4]) <= steps:
        return path, "step", int(number)
    reader.wrong(
        "/breakdown/attribution",
        f"'attribution' is first, last, all_steps, or step:k with k from 1 to {steps}.",
        "not_allowed",
    )
    return path, "first", 1
