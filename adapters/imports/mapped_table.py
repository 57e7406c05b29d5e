"""A whole table by its map: its layout, its rows one by one or in groups, as events or rejections."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import orjson

from adapters.imports.cells import BadCellError
from adapters.imports.format import Format, Options, Rejection, Row, Rows, register
from adapters.imports.mapped_row import Mapped
from adapters.imports.maps import Map, load_map
from adapters.imports.source_file import LONGEST_LINE, SourceFile
from adapters.imports.table import DELIMITERS, TableRow, is_cut, rows_of
from adapters.intake.payloads import event_of
from domain.errors import Invalid, Problem, Refused

__all__ = ["header_matches", "read_table"]

_MOST_REMARKS = 20
"""Of one event, however many rows it has."""
_FOLD = str.maketrans("", "", " _-.")


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
    lines = file.lines("utf-8-sig" if encoding == "utf-8" else encoding)
    begun: list[
        str
    ] = []  # read whole: a table of very many columns names them beyond what is looked at of a file
    for line in lines:
        begun.append(line)
        if line.strip():
            break
    first = begun[-1] if begun else ""
    if is_cut(first):
        raise Refused(
            f"{file.name}: its first line is longer than {LONGEST_LINE:,} characters, which is not taken; is a line end missing?"
        )
    delimiter, places, width, skip_header = _layout(file, map_, first.rstrip("\r\n"))
    mapped = Mapped(map_, places, source)
    rows = rows_of(itertools.chain(begun, lines), delimiter, width)
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
            _once(file, fields, places)
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


def _once(file: SourceFile, fields: Sequence[str], places: dict[str, int]) -> None:
    """Refuse a table in which a column that is read stands twice; the same name for two things tells neither.

    Raises:
        Refused: which it is.
    """
    names = [name.strip().strip("\ufeff") for name in fields]
    twice = [name for name in places if names.count(name) > 1]
    if twice:
        raise Refused(
            f"{file.name}: its first line names {', '.join(twice)} twice; which of the two is meant cannot be known. Rename one of them."
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


def _each(file: SourceFile, rows: Iterator[TableRow], mapped: Mapped) -> Rows:
    """One event a row."""
    for number, row in enumerate(rows, start=1):
        place = _place(file, row)
        if row.problem is not None:
            yield Rejection(place, _raw(row), [row.problem], mapped.source)
            continue
        mapped.remarks()  # those of a row that was refused
        try:
            event = mapped.event(row, number)
            line = mapped.line(row)
            if line is not None:
                event["data"]["lines"] = [line]
            totals: dict[str, Decimal] = {}
            mapped.add_totals(row, totals)
            mapped.finish(event, totals)
            yield Row(place, event_of(event), mapped.remarks())
        except BadCellError as bad:
            yield Rejection(place, _raw(row), [bad.problem], mapped.source)
        except Invalid as wrong:
            yield Rejection(place, _raw(row), wrong.problems, mapped.source)


class _Group:
    """The rows of one event, as they come; lines are kept encoded, which takes a third of the memory."""

    __slots__ = ("bad", "event", "first", "last", "lines", "remarks", "totals")

    def __init__(self, first: int) -> None:
        self.first = first
        self.last = first
        self.event: dict[str, Any] | None = None
        self.lines = bytearray()
        self.remarks: tuple[Problem, ...] = ()
        self.totals: dict[str, Decimal] = {}
        self.bad: list[tuple[TableRow, Problem]] = []


def _grouped(file: SourceFile, rows: Iterator[TableRow], mapped: Mapped, column: str, place: int) -> Rows:
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
        mapped.remarks()  # those of a row that was refused
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
            if remarks := mapped.remarks():
                group.remarks = tuple(dict.fromkeys((*group.remarks, *remarks)))[:_MOST_REMARKS]
        except BadCellError as bad:
            group.bad.append((row, bad.problem))
        except TypeError as wrong:  # orjson: a text that is no Unicode
            group.bad.append((row, Problem("", f"The row cannot be written as JSON: {wrong}.", "encoding")))
    file.expected = len(groups)
    for key in list(groups):
        yield _event_of_group(file, groups.pop(key), mapped, column)


def _event_of_group(file: SourceFile, group: _Group, mapped: Mapped, column: str) -> Row | Rejection:
    where = f"line {group.first}" if group.first == group.last else f"lines {group.first}-{group.last}"
    bad = group.bad
    if not bad and group.event is not None:
        try:
            if group.lines:
                group.event["data"]["lines"] = orjson.loads(b"[" + group.lines[:-1] + b"]")
            mapped.finish(group.event, group.totals)
            return Row(f"{file.name} {where}", event_of(group.event), group.remarks)
        except BadCellError as wrong:
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
