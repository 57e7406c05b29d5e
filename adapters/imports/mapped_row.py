"""A map on the columns of one file: from a row to an event."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo

from adapters.imports.cells import BadCellError, Rounded, converter, float_of, minor_of, number_of, whole_of
from adapters.imports.maps import Field, Map, Rule, Who
from adapters.imports.table import TableRow
from domain.entry import moment
from domain.errors import Problem, Refused, pointed

__all__ = ["Mapped"]

Read = Callable[[list[str]], Any]
_MOST_REMEMBERED = 50_000
_OF_THE_DAY = ("%H", "%I", "%c", "%X")
"""What a format of strptime says of the time of the day."""


def joined(parts: list[str]) -> str:
    """One id of the parts of a key, which no other parts have: `shop:17`.

    Only the last may hold a colon as it is. Where another does, none is left in the id, so that it is like none of those.
    """
    if not any(":" in part for part in parts[:-1]):
        return ":".join(parts)
    return "%;".join(part.replace("%", "%25").replace(":", "%3A") for part in parts)


class Mapped:
    """A map on the columns of one file."""

    def __init__(self, map_: Map, places: dict[str, int], source: str) -> None:
        self._places = places
        self.source = source
        self._ids = [places[c] for c in ([map_.id] if isinstance(map_.id, str) else map_.id or [])]
        self._id_names = [map_.id] if isinstance(map_.id, str) else list(map_.id or [])
        self._type = self._rule(map_.type)
        self._channel = self._rule(map_.channel)
        self._direction = self._rule(map_.direction)
        self._time = (
            None if map_.time is None else self._time_of(map_.time.column, map_.time.format, map_.time.zone)
        )
        self._subject = None if map_.subject is None else self._who(map_.subject)
        self._identifiers = [self._who(who) for who in map_.identifiers]
        self._data = self._fields({k: f for k, f in map_.data.items() if not _is_total(f)})
        self._totals = {k: f for k, f in map_.data.items() if isinstance(f, Field) and f.total}
        self._lines = self._fields(map_.lines)
        self._factors = {k: [(c, places[c]) for c in f.total or []] for k, f in self._totals.items()}
        self._numbers: dict[str, Decimal] = {}
        self._remarks: list[Problem] = []

    def remarks(self) -> tuple[Problem, ...]:
        """What was to be told of the rows read since this was asked last."""
        told = tuple(self._remarks)
        self._remarks.clear()
        return told

    def event(self, row: TableRow, number: int) -> dict[str, Any]:
        """All of an event but its lines and totals, from one row; *number* is the row's, from 1."""
        fields = row.fields
        if self._ids:
            parts = [fields[i].strip() for i in self._ids]
            for name, part in zip(self._id_names, parts, strict=True):
                if not part:
                    raise BadCellError(
                        name,
                        f"'{name}' is empty; it makes the event's id, so it must name the event.",
                        "missing",
                    )
            id_ = joined(parts)
        else:
            id_ = str(number)
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": id_,
            "source": self.source,
            "type": self._type(fields),
        }
        if self._time is not None:
            at = self._time(fields)
            if at is not None:
                event["time"] = at
        if self._subject is not None and (ref := self._subject(fields)) is not None:
            event["subject"] = f"{ref[0]}:{ref[1]}"
        for name, rule in (("channel", self._channel), ("direction", self._direction)):
            if (word := rule(fields)) is not None:
                event[name] = word
        data = self.filled(self._data, fields)
        named: dict[str, list[str]] = {}
        for who in self._identifiers:
            if (ref := who(fields)) is not None:
                named.setdefault(ref[0], []).append(ref[1])
        if named:
            data["identifiers"] = named
        event["data"] = data
        return event

    def line(self, row: TableRow) -> dict[str, Any] | None:
        """One of the lines of an event."""
        return self.filled(self._lines, row.fields) if self._lines else None

    @staticmethod
    def filled(readers: list[tuple[str, Read]], fields: list[str]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for name, read in readers:
            value = read(fields)
            if value is not None:
                if type(value) is Rounded:
                    data[name.removesuffix("_minor") if name.endswith("_minor") else f"{name}_exact"] = (
                        value.exact
                    )
                    value = value.minor
                data[name] = value
        return data

    def add_totals(self, row: TableRow, totals: dict[str, Decimal]) -> None:
        """Add a row's products; the sum is exact, whatever the digits."""
        for name, factors in self._factors.items():
            product = Decimal(1)
            for column, place in factors:
                text = row.fields[place]
                number = self._numbers.get(text)
                if number is None:
                    if not text.strip():
                        product = Decimal(0)
                        break
                    number = number_of(column, text)
                    self._remember(self._numbers, text, number)
                product *= number
            totals[name] = totals.get(name, Decimal(0)) + product

    def finish(self, event: dict[str, Any], totals: dict[str, Decimal]) -> None:
        """Put the totals in their fields."""
        for name, total in totals.items():
            field = self._totals[name]
            value: Any = total
            if field.type == "money":
                value = minor_of("*".join(field.total or []), total, field)
                value = value.minor if type(value) is Rounded else value
            elif field.type == "whole":
                value = int(total)
            elif field.type == "float":
                value = float_of("*".join(field.total or []), total)
            else:
                value = str(total)
            event["data"][name] = value

    # -- from a declaration to a function of the fields --------------------------------------------

    @staticmethod
    def _remember(known: dict[str, Any], text: str, value: Any) -> None:
        if len(known) >= _MOST_REMEMBERED:
            known.clear()
        known[text] = value

    def _rule(self, rule: str | Rule | None) -> Callable[[list[str]], str | None]:
        if not isinstance(rule, Rule):
            return lambda _fields: rule
        place = self._places[rule.column]
        prefixes = sorted(rule.prefixes.items(), key=lambda p: -len(p[0]))

        def choose(fields: list[str]) -> str | None:
            text = fields[place].strip()
            if text in rule.equals:
                return rule.equals[text]
            for prefix, word in prefixes:
                if text.startswith(prefix):
                    return word
            if rule.otherwise is None:
                known = [*rule.equals, *(f"{p}…" for p in rule.prefixes)]
                raise BadCellError(
                    rule.column,
                    f"'{rule.column}' holds none of: {', '.join(known)}; add it to the map, or give the rule an `otherwise`.",
                    "not_allowed",
                )
            return rule.otherwise

        return choose

    def _who(self, who: Who) -> Callable[[list[str]], tuple[str, str] | None]:
        place = self._places[who.column]

        def name(fields: list[str]) -> tuple[str, str] | None:
            text = fields[place].strip()
            if not text:
                return None
            if who.type == "whole":
                text = str(whole_of(who.column, text))
            return who.kind, text

        return name

    def _fields(self, declared: dict[str, str | Field]) -> list[tuple[str, Read]]:
        return [(name, self._field(field)) for name, field in declared.items()]

    def _field(self, declared: str | Field) -> Read:
        field = Field(column=declared) if isinstance(declared, str) else declared
        if field.column is None:
            return lambda _fields: field.value
        column, place = field.column, self._places[field.column]
        if field.type == "time":
            read = self._time_of(column, field.format, field.zone)
        else:
            read = self._cell(column, place, field)
        if not field.required:
            return read

        def required(fields: list[str]) -> Any:
            value = read(fields)
            if value is None:
                raise BadCellError(
                    column, f"'{column}' is empty; the map says that it is required.", "missing"
                )
            return value

        return required

    def _cell(self, column: str, place: int, field: Field) -> Read:
        if field.type == "text":
            return lambda fields: fields[place].strip() or None
        known: dict[str, Any] = {}
        remember = self._remember
        convert = converter(column, field)

        def read(fields: list[str]) -> Any:
            text = fields[place]
            value = known.get(text)
            if value is None and (stripped := text.strip()):
                value = convert(stripped)
                remember(known, text, value)
            return value

        return read

    def _time_of(self, column: str, form: str, zone_name: str | None) -> Callable[[list[str]], str | None]:
        place = self._places[column]
        zone = None
        if zone_name is not None:
            try:
                zone = ZoneInfo(zone_name)
            except (ValueError, OSError, KeyError):
                raise Refused(
                    f"The map names the zone '{zone_name}', which is no IANA time zone; write e.g. Europe/London."
                ) from None
        shown = {
            "iso": f"2026-01-31 12:00:00{'' if zone else 'Z'}",
            "unix": "1769860800",
            "unix_ms": "1769860800000",
        }.get(form)
        shown = shown or datetime(2026, 1, 31, 12, tzinfo=zone or UTC).strftime(form)

        def read(fields: list[str]) -> str | None:
            text = fields[place].strip()
            if not text:
                return None
            try:
                if form == "iso":
                    at = datetime.fromisoformat(text)
                elif form in ("unix", "unix_ms"):
                    at = datetime.fromtimestamp(
                        float(Decimal(text) / (1000 if form == "unix_ms" else 1)), UTC
                    )
                else:
                    at = datetime.strptime(text, form)  # noqa: DTZ007 - the zone follows
                if at.tzinfo is None:
                    if zone is None:
                        raise BadCellError(
                            column,
                            f"'{column}' names no zone, so the instant is unknown; give the map's time a `zone`, e.g. Europe/London.",
                            "no_zone",
                        )
                    at = at.replace(tzinfo=zone)
                    if at.utcoffset() != at.replace(fold=1).utcoffset() and _has_time_of_day(form, text):
                        self._remarks.append(_at_a_change(column, at))
                return moment(at)
            except (ValueError, OverflowError, OSError, InvalidOperation):
                raise BadCellError(
                    column, f"'{column}' is no time as the map says; right would be {shown}.", "not_a_time"
                ) from None

        return read


def _has_time_of_day(form: str, text: str) -> bool:
    """Whether a time says more than its day; a day begins at its first instant, whatever the clocks do at midnight."""
    return len(text) > 10 if form == "iso" else any(sign in form for sign in _OF_THE_DAY)


def _at_a_change(column: str, at: datetime) -> Problem:
    """What to tell of a local time that the clocks of its zone showed twice, of which the first is taken.

    Raises:
        BadCellError: they were put forward over it.
    """
    first, second = at.isoformat(), at.replace(fold=1).isoformat()
    shown = f"'{column}' says {at.replace(tzinfo=None).isoformat(' ')}, which the clocks of {at.tzinfo}"
    if at.astimezone(UTC) > at.replace(fold=1).astimezone(UTC):
        raise BadCellError(
            column,
            f"{shown} never showed: they were put forward over it. Name in the map the zone in which the clock of the source runs "
            f"(UTC, if it knows no summer time), or write times with their offset ({first} or {second}; format iso, or %z).",
            "no_such_time",
        )
    return Problem(
        f"/{pointed(column)}",
        f"{shown} showed twice; taken is the first of the two, {first}. If it was the second, write times with their offset "
        f"({second}; format iso, or %z).",
        "time_shown_twice",
    )


def _is_total(field: str | Field) -> bool:
    return isinstance(field, Field) and field.total is not None
