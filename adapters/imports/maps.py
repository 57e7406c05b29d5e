"""Maps: which column of a table becomes which field of an event, declared as data.

A map is written in TOML for `touchlog ingest orders.csv --map orders.toml`:

    source   = "webshop"                      # with the id it makes the key of each event
    id       = "order_no"                     # a column, or several: ["shop", "order_no"]; without it, the row number
    type     = "order.placed"                 # or a rule on a column, see below
    time     = { column = "ordered_at", format = "%d.%m.%Y %H:%M", zone = "Europe/Berlin" }
    subject  = { column = "customer", kind = "crm" }
    group_by = "order_no"                     # rows of one order become one event, with `lines`

    [data]                                    # fields of the event, from the first row of a group
    order_id     = "order_no"                 # a text from this column
    currency     = { value = "EUR" }          # a constant
    amount_minor = { total = ["quantity", "price"], type = "money", currency = "EUR" }

    [lines]                                   # fields of each line
    sku              = "article"
    quantity         = { column = "quantity", type = "whole" }
    unit_price_minor = { column = "price", type = "money", currency = "EUR" }

A rule chooses by what a column holds: `type = { column = "no", prefixes = { C = "order.cancelled" },
otherwise = "order.placed" }`, or `equals = { in = "inbound", out = "outbound" }`; type, channel and
direction take one. An empty cell leaves its field out. Money is read as a decimal number of the
currency's unit and kept in whole minor units, exactly: more digits than the currency has are refused, or,
with `rounding = "half_even"`, rounded, with the number as given kept beside it (`unit_price` beside
`unit_price_minor`). Rows of a group need not stand together. A group one of whose rows cannot be read is
not recorded at all, for half an order could never be mended: put the row right and repeat the command.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import msgspec
import orjson

from adapters.cloudevents import event_of
from adapters.imports.format import Format, Options, Rejection, Row, Rows, register
from adapters.imports.source_file import SourceFile
from adapters.imports.table import DELIMITERS, TableRow, rows_of
from domain.entry import moment
from domain.errors import Invalid, Problem, Refused
from domain.units import money

__all__ = ["Field", "Map", "Rule", "Time", "Who", "header_matches", "read_table"]


class _Declared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a map is made of; a word that is not known is refused by name."""


class Field(_Declared, frozen=True, kw_only=True):
    """Where the value of one field comes from, and what it is."""

    column: str | None = None
    value: Any = None  # a constant
    total: list[str] | None = None  # the product of these columns, summed over the lines of an event
    type: Literal["text", "whole", "decimal", "float", "money", "time", "yes_no"] = "text"
    currency: str | None = None  # of money: ISO 4217, says how many digits the minor unit has
    rounding: Literal["refuse", "half_even"] = "refuse"
    format: str = "iso"  # of a time
    zone: str | None = None
    required: bool = False


class Rule(_Declared, frozen=True, kw_only=True):
    """A word chosen by what a column holds: an equal text first, then the longest prefix, then `otherwise`."""

    column: str
    equals: dict[str, str] = {}
    prefixes: dict[str, str] = {}
    otherwise: str | None = None


class Time(_Declared, frozen=True, kw_only=True):
    """When it happened: `format` as strptime has it, or `iso`, `unix`, `unix_ms`; `zone` where the text names none.

    A local time that the clocks show twice is taken as the first of the two.
    """

    column: str
    format: str = "iso"
    zone: str | None = None


class Who(_Declared, frozen=True, kw_only=True):
    """An identifier: the kind (`crm`, `email`, `user@shop`, …) of what a column holds; empty cells name nobody."""

    column: str
    kind: str
    type: Literal["text", "whole"] = "text"  # whole: 17850.0 is 17850


class Map(_Declared, frozen=True, kw_only=True):
    """How the rows of a table become events."""

    type: str | Rule
    source: str | None = None
    id: str | list[str] | None = None
    time: Time | None = None
    subject: Who | None = None
    identifiers: list[Who] = []
    channel: str | Rule | None = None
    direction: str | Rule | None = None
    group_by: str | None = None
    data: dict[str, str | Field] = {}
    lines: dict[str, str | Field] = {}
    delimiter: str = "auto"
    encoding: str | None = None
    columns: list[str] | None = None  # names of the columns of a file that has no header
    header: Literal["yes", "no", "optional"] | None = None  # by default yes, or no where `columns` are given

    def wanted(self) -> list[str]:
        """The columns that the map speaks of, each once."""
        named: list[str | None] = [self.id] if isinstance(self.id, str) else list(self.id or [])
        named += [part.column for part in (self.time, self.subject, *self.identifiers) if part is not None]
        named += [rule.column for rule in (self.type, self.channel, self.direction) if isinstance(rule, Rule)]
        named.append(self.group_by)
        for field in (*self.data.values(), *self.lines.values()):
            if isinstance(field, str):
                named.append(field)
            else:
                named += [field.column, *(field.total or [])]
        return list(dict.fromkeys(name for name in named if name is not None))


class _BadError(Exception):
    """A cell is not what the map says."""

    def __init__(self, column: str, detail: str, code: str = "invalid") -> None:
        super().__init__(detail)
        self.problem = Problem(f"/{column}", detail, code)


def load_map(path: Path) -> Map:
    """Read a map from a TOML file.

    Raises:
        Refused: it cannot be read, or is no map; says which word is wrong.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8-sig")), Map)
    except OSError as error:
        raise Refused(f"The map {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"The map {path} is not TOML: {error}.") from None
    except msgspec.ValidationError as error:
        raise Refused(
            f"The map {path} is not as it should be: {error}. A map has type, and may have "
            f"{', '.join(f for f in Map.__struct_fields__ if f != 'type')}; `touchlog ingest --help` shows one."
        ) from None


Read = Callable[[list[str]], Any]
_FOLD = str.maketrans("", "", " _-.")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\Z")
_MOST_REMEMBERED = 50_000


def _folded(name: str) -> str:
    return name.strip().strip("\ufeff").casefold().translate(_FOLD)


def header_matches(fields: Sequence[str], wanted: Sequence[str]) -> dict[str, int] | None:
    """The place of each wanted column among *fields*, or None where one is missing.

    Upper and lower case, blanks, `_`, `-` and `.` are not told apart, unless two columns differ in them only.
    """
    exact = {name.strip().strip("\ufeff"): i for i, name in reversed(list(enumerate(fields)))}
    folded: dict[str, list[int]] = {}
    for i, name in enumerate(fields):
        folded.setdefault(_folded(name), []).append(i)
    places = {}
    for name in wanted:
        near = folded.get(_folded(name), [])
        if name in exact:
            places[name] = exact[name]
        elif len(near) == 1:
            places[name] = near[0]
        else:
            return None
    return places


class _Mapped:
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

    def event(self, row: TableRow, number: int) -> dict[str, Any]:
        """All of an event but its lines and totals, from one row; *number* is the row's, from 1."""
        fields = row.fields
        if self._ids:
            parts = [fields[i].strip() for i in self._ids]
            for name, part in zip(self._id_names, parts, strict=True):
                if not part:
                    raise _BadError(
                        name,
                        f"'{name}' is empty; it makes the event's id, so it must name the event.",
                        "missing",
                    )
            id_ = ":".join(parts)
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
                if type(value) is _Rounded:
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
                    number = _number(column, text)
                    self._remember(self._numbers, text, number)
                product *= number
            totals[name] = totals.get(name, Decimal(0)) + product

    def finish(self, event: dict[str, Any], totals: dict[str, Decimal]) -> None:
        """Put the totals in their fields."""
        for name, total in totals.items():
            field = self._totals[name]
            value: Any = total
            if field.type == "money":
                value = _minor("*".join(field.total or []), total, field)
                value = value.minor if type(value) is _Rounded else value
            elif field.type == "whole":
                value = int(total)
            elif field.type == "float":
                value = float(total)
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
                raise _BadError(
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
                text = str(_whole(who.column, text))
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
                raise _BadError(column, f"'{column}' is empty; the map says that it is required.", "missing")
            return value

        return required

    def _cell(self, column: str, place: int, field: Field) -> Read:
        if field.type == "text":
            return lambda fields: fields[place].strip() or None
        known: dict[str, Any] = {}
        remember = self._remember
        convert = _converter(column, field)

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
        shown = {"iso": "2026-01-31 12:00:00", "unix": "1769860800", "unix_ms": "1769860800000"}.get(form)
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
                        raise _BadError(
                            column,
                            f"'{column}' names no zone, so the instant is unknown; give the map's time a `zone`, e.g. Europe/London.",
                            "no_zone",
                        )
                    at = at.replace(tzinfo=zone)
                return moment(at)
            except (ValueError, OverflowError, OSError, InvalidOperation):
                raise _BadError(
                    column, f"'{column}' is no time as the map says; right would be {shown}.", "not_a_time"
                ) from None

        return read


def _is_total(field: str | Field) -> bool:
    return isinstance(field, Field) and field.total is not None


class _Rounded(msgspec.Struct, frozen=True):
    """Money that has more digits than its currency."""

    minor: int
    exact: str


def _number(column: str, text: str) -> Decimal:
    """A plain decimal number; `1,234.50` is taken, a comma as decimal sign is not: it would be a guess."""
    stripped = text.strip()
    if _NUMBER.match(stripped):
        return Decimal(stripped)
    plain = stripped.replace(",", "")
    if re.match(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?\Z", stripped):
        return Decimal(plain)
    if re.match(r"[+-]?\d+,\d+\Z", stripped):
        raise _BadError(
            column, f"'{column}' has a comma where a decimal point should be, such as 12.50.", "not_a_number"
        )
    raise _BadError(
        column,
        f"'{column}' is no number; right would be digits such as 12 or 12.50, without signs of currency.",
        "not_a_number",
    )


def _whole(column: str, text: str) -> int:
    number = _number(column, text)
    if number != number.to_integral_value():
        raise _BadError(column, f"'{column}' has a fraction; it should be a whole number.", "not_whole")
    if not -(2**63) <= number < 2**63:
        raise _BadError(column, f"'{column}' is beyond 64 bits; read it as a text.", "too_large")
    return int(number)


def _minor(column: str, number: Decimal, field: Field) -> int | _Rounded:
    # domain.units knows the digits of each currency, and shows them: 0.00 GBP, 0 JPY.
    digits = len(money(0, field.currency).split()[0].partition(".")[2])
    scaled = number.scaleb(digits)
    whole = scaled.to_integral_value(ROUND_HALF_EVEN)
    if not -(2**63) <= whole < 2**63:
        raise _BadError(column, f"'{column}' is beyond 64 bits; this is no amount of money.", "too_large")
    if whole == scaled:
        return int(whole)
    if field.rounding == "refuse":
        raise _BadError(
            column,
            f"'{column}' has more than {digits} digits behind the point, which {field.currency} does not have; or say rounding = \"half_even\" in the map.",
            "too_precise",
        )
    return _Rounded(int(whole), str(number))


_YES = frozenset(("true", "yes", "y", "1", "t"))
_NO = frozenset(("false", "no", "n", "0", "f"))


def _converter(column: str, field: Field) -> Callable[[str], Any]:
    match field.type:
        case "whole":
            return lambda text: _whole(column, text)
        case "money":
            return lambda text: _minor(column, _number(column, text), field)
        case "float":
            return lambda text: float(_number(column, text))
        case "decimal":
            return lambda text: str(_number(column, text))
        case _:

            def yes_no(text: str) -> bool:
                word = text.lower()
                if word in _YES or word in _NO:
                    return word in _YES
                raise _BadError(
                    column,
                    f"'{column}' is neither yes nor no; right would be one of true, false, yes, no, 1, 0.",
                    "not_allowed",
                )

            return yes_no


# -- a whole file ---------------------------------------------------------------------------------


def read_table(file: SourceFile, map_: Map, options: Options) -> Rows:
    """The events of a table.

    Raises:
        Refused: the file is empty, or its columns are not those of the map; names what is expected and found.
    """
    if file.is_empty:
        raise Refused(f"{file.name} is empty: there is nothing to import.")
    source = options.source or map_.source
    if not source:
        raise Refused(
            'The map names no source; add source = "…" to it, or give --source. Source and id are the key of an event.'
        )
    encoding = file.encoding(options.encoding or map_.encoding)
    errors = "replace" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    head = file.head.decode("utf-8-sig" if encoding == "utf-8" else encoding, errors)
    first = next((line for line in re.split(r"[\r\n]+", head) if line.strip()), "")
    delimiter, places, width, skip_header = _layout(file, map_, first)
    mapped = _Mapped(map_, places, source)
    rows = rows_of(file.lines("utf-8-sig" if encoding == "utf-8" else encoding), delimiter, width)
    if skip_header:
        next(rows, None)
    checked = _checked(rows, width)
    if map_.group_by is None:
        return _each(file, checked, mapped)
    return _grouped(file, checked, mapped, map_.group_by, places[map_.group_by])


def _layout(file: SourceFile, map_: Map, first: str) -> tuple[str, dict[str, int], int, bool]:
    """(delimiter, place of each column, fields a row has, whether the first row is a header)."""
    wanted = map_.wanted()
    header = map_.header or ("no" if map_.columns else "yes")
    if map_.delimiter == "auto":
        tried = [",", ";", "\t", "|"]
    else:
        tried = [DELIMITERS.get(map_.delimiter, map_.delimiter)]
        if tried[0] != "whitespace" and len(tried[0]) != 1:
            raise Refused(
                f"The map's delimiter '{map_.delimiter}' is none; write one character, or one of auto, {', '.join(DELIMITERS)}."
            )
    found: list[list[str]] = []
    for delimiter in tried:
        row = next(rows_of([first], delimiter), None)
        fields = row.fields if row is not None else []
        found.append(fields)
        if header != "no" and (places := header_matches(fields, wanted)) is not None:
            return delimiter, places, len(fields), True
        if header != "yes" and map_.columns and len(fields) == len(map_.columns):
            if header == "optional" and header_matches(fields, map_.columns) is not None:
                return delimiter, {c: i for i, c in enumerate(map_.columns)}, len(fields), True
            if (places := header_matches(map_.columns, wanted)) is None:
                missing = [c for c in wanted if c not in map_.columns]
                raise Refused(f"The map speaks of {', '.join(missing)}, which its `columns` do not name.")
            return delimiter, places, len(fields), False
    fields = max(found, key=len)
    if header != "yes" and map_.columns:
        raise Refused(
            f"{file.name}: a row has {len(map_.columns)} columns ({', '.join(map_.columns)}), its first one has {len(fields)}."
        )
    have = {_folded(f) for f in fields}
    missing = [c for c in wanted if _folded(c) not in have] or wanted
    shown = ", ".join(" ".join(f.split())[:40] for f in fields[:30]).encode("utf-8", "replace").decode()
    raise Refused(
        f"{file.name}: its first line should name the columns. Missing: {', '.join(missing)}. Expected: {', '.join(wanted)}. "
        f"Found: {shown}. Is this the right file, --format or --map, and --encoding?"
    )


def _checked(rows: Iterator[TableRow], width: int) -> Iterator[TableRow]:
    """Rows of another number of fields get their problem."""
    for row in rows:
        if row.problem is None and len(row.fields) != width:
            few = (
                "missing at its end, or is the row cut off?"
                if len(row.fields) < width
                else "too many: does a field hold an unquoted delimiter?"
            )
            told = f"The row has {len(row.fields)} fields, the table {width}; is something {few}"
            row = row._replace(problem=Problem("", told, "ragged"))  # noqa: PLW2901 - the same row, told
        yield row


def _raw(row: TableRow) -> bytes:
    return row.text.rstrip("\r\n").encode("utf-8", "surrogateescape")


def _place(file: SourceFile, row: TableRow) -> str:
    return (
        f"{file.name} line {row.line}" if row.line == row.last else f"{file.name} lines {row.line}-{row.last}"
    )


def _each(file: SourceFile, rows: Iterator[TableRow], mapped: _Mapped) -> Rows:
    """One event a row."""
    for number, row in enumerate(rows, start=1):
        place = _place(file, row)
        if row.problem is not None:
            yield Rejection(place, _raw(row), [row.problem], mapped.source)
            continue
        try:
            event = mapped.event(row, number)
            line = mapped.line(row)
            if line is not None:
                event["data"]["lines"] = [line]
            totals: dict[str, Decimal] = {}
            mapped.add_totals(row, totals)
            mapped.finish(event, totals)
            yield Row(place, event_of(event))
        except _BadError as bad:
            yield Rejection(place, _raw(row), [bad.problem], mapped.source)
        except Invalid as wrong:
            yield Rejection(place, _raw(row), wrong.problems, mapped.source)


class _Group:
    """The rows of one event, as they come; lines are kept encoded, which takes a third of the memory."""

    __slots__ = ("bad", "event", "first", "last", "lines", "totals")

    def __init__(self, first: int) -> None:
        self.first = first
        self.last = first
        self.event: dict[str, Any] | None = None
        self.lines = bytearray()
        self.totals: dict[str, Decimal] = {}
        self.bad: list[tuple[TableRow, Problem]] = []


def _grouped(file: SourceFile, rows: Iterator[TableRow], mapped: _Mapped, column: str, place: int) -> Rows:
    """One event a group, in the order of their first rows; the whole file is read before the first one leaves."""
    groups: dict[str, _Group] = {}
    for number, row in enumerate(rows, start=1):
        key = row.fields[place].strip() if len(row.fields) > place else ""
        problem = row.problem
        if not key:
            problem = problem or Problem(
                f"/{column}", f"'{column}' is empty; it says which rows are one event.", "missing"
            )
            yield Rejection(_place(file, row), _raw(row), [problem], mapped.source)
            continue
        group = groups.get(key)
        if group is None:
            group = groups[key] = _Group(row.line)
        group.last = row.last
        try:
            if problem is not None:
                group.bad.append((row, problem))
                continue
            if group.event is None:
                group.event = mapped.event(row, number)
            line = mapped.line(row)
            if line is not None:
                group.lines += orjson.dumps(line) + b","
            mapped.add_totals(row, group.totals)
        except _BadError as bad:
            group.bad.append((row, bad.problem))
        except TypeError as wrong:  # orjson: a text that is no Unicode
            group.bad.append((row, Problem("", f"The row cannot be written as JSON: {wrong}.", "encoding")))
    file.expected = len(groups)
    for key in list(groups):
        yield _event_of_group(file, groups.pop(key), mapped, column)


def _event_of_group(file: SourceFile, group: _Group, mapped: _Mapped, column: str) -> Row | Rejection:
    where = f"line {group.first}" if group.first == group.last else f"lines {group.first}-{group.last}"
    bad = group.bad
    if not bad and group.event is not None:
        try:
            if group.lines:
                group.event["data"]["lines"] = orjson.loads(b"[" + group.lines[:-1] + b"]")
            mapped.finish(group.event, group.totals)
            return Row(f"{file.name} {where}", event_of(group.event))
        except _BadError as wrong:
            return Rejection(
                f"{file.name} {where}", orjson.dumps(group.event), [wrong.problem], mapped.source
            )
        except Invalid as wrong:
            return Rejection(
                f"{file.name} {where}",
                str(group.event).encode("utf-8", "replace"),
                wrong.problems,
                mapped.source,
            )
    problems = [
        Problem(
            p.pointer,
            f"Line {row.line}: {p.detail} No row with the same {column} was recorded: put this one right and repeat the command.",
            p.code,
        )
        for row, p in bad[:20]
    ]
    raw = b"\n".join(_raw(row) for row, _ in bad)
    return Rejection(f"{file.name} line {bad[0][0].line}", raw, problems, mapped.source)


def _read_with_map(file: SourceFile, options: Options) -> Rows:
    if options.map_file is None:
        raise Refused(
            "The format csv wants a map that says which column is which: --map FILE.toml (touchlog ingest --help shows one)."
        )
    return read_table(file, load_map(options.map_file), options)


register(Format(name="csv", meaning="any table, with --map FILE.toml", read=_read_with_map))
