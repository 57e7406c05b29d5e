"""Rows of the columns: what of an event is plain, and from which to which position it was known so."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute  # type: ignore[import-untyped]

from domain.event import upcast
from domain.funnels.property import flat, kind_of_value
from domain.funnels.reading import micros
from projections.projection import Effective, Step

__all__ = [
    "ENVELOPE_SCHEMA",
    "MORE",
    "MOST_COLUMNS",
    "Row",
    "changes_of",
    "counted",
    "in_order",
    "merged",
    "narrowed",
    "path_of_column",
    "table_of",
    "without_column",
]

_TEXT = pa.dictionary(pa.int32(), pa.string())
_TIME = pa.timestamp("us", "UTC")
ENVELOPE_SCHEMA = pa.schema(
    [
        ("position", pa.int64()), ("occurred_at", _TIME), ("recorded_at", _TIME), ("type", _TEXT),
        ("channel", _TEXT), ("direction", _TEXT), ("source", _TEXT), ("source_id", pa.string()),
        ("subject", _TEXT), ("owner", _TEXT), ("known_from", pa.int64()),
    ]
)  # fmt: skip
"""`owner` is the subject, or of an event that names nobody `reference:` and the order or case it belongs to."""
SORTED_BY = ("owner", "occurred_at", "source", "source_id", "known_from")
REFERENCE = "reference:"
MORE = "more"
"""The column of what an event has of properties without a column of their own: one JSON object, values by path."""
MOST_COLUMNS = 1_000
"""So many properties of a table have columns of their own, those that most rows have, then the least deep, then by name.

Each column costs every row of its table and every reader; nothing is lost by those that have none.
"""
_EXACT = 2**53
_LARGEST = 2**63 - 1


class Row(msgspec.Struct, gc=False, kw_only=True):
    """One event as it was known from position `known_from` on; `properties` are its plain data by path."""

    position: int
    occurred_at: int
    recorded_at: int
    type: str
    channel: str
    direction: str | None
    source: str
    source_id: str
    subject: str | None
    owner: str | None
    known_from: int
    properties: dict[str, Any]


def _row(held: Effective, since: int) -> Row:
    recorded = held.recorded
    event = recorded.event
    owner = event.subjects[0][0] if event.subjects else None
    if owner is None and event.references:
        owner = f"{REFERENCE}{event.references[0][0]}"
    return Row(
        position=recorded.position,
        occurred_at=micros(event.occurred_at),
        recorded_at=micros(recorded.recorded_at),
        type=event.type,
        channel=event.channel,
        direction=event.direction,
        source=event.source,
        source_id=event.id,
        subject=event.subjects[0][0] if event.subjects else None,
        owner=owner,
        known_from=since,
        properties=flat(upcast(event.type, event.version, event.data)),
    )


def changes_of(steps: Iterable[Step]) -> tuple[list[Row], list[tuple[int, int]]]:
    """(rows that become known, (position of the event, position from which its row before is no longer known))."""
    rows: list[Row] = []
    closed: list[tuple[int, int]] = []
    for step in steps:
        if step.before is not None:
            closed.append((step.before.recorded.position, step.position))
        if step.after is not None:
            rows.append(_row(step.after, step.position))
    return rows, closed


def path_of_column(name: str) -> tuple[str, str]:
    """(path, kind) of a column of a property; the kind is empty where only the column's type tells it."""
    path, mark, kind = name.rpartition("#")
    return (path, kind) if mark and kind in ("number", "real", "flag", "list", "text") else (name, "")


def _typed(path: str, n: int, found: Sequence[tuple[int, Any]]) -> Iterable[tuple[str, pa.Array]]:
    """The columns of one property: one for each kind of value that occurs, the first under the plain name."""
    by_kind: dict[str, list[tuple[int, Any]]] = {}
    for place, value in found:
        kind = kind_of_value(value)
        if kind == "number" and isinstance(value, float):
            kind = "real"
        elif kind == "number" and value > _LARGEST:
            kind = "list"  # written as JSON: exact, where a column of whole numbers ends before the log does
        by_kind.setdefault(kind, []).append((place, value))
    whole = by_kind.get("number", [])
    if "real" in by_kind and all(abs(v) <= _EXACT for _, v in whole):
        by_kind["real"] += [(place, float(v)) for place, v in by_kind.pop("number", [])]
    kinds = {
        "text": pa.string(),
        "number": pa.int64(),
        "real": pa.float64(),
        "flag": pa.bool_(),
        "list": pa.string(),
    }
    plain = next((k for k in ("text", "number", "real", "flag") if k in by_kind), None)
    if path_of_column(path)[1]:  # a key of the sender's own that ends as a kind does: never a plain name
        plain = None
    for kind, values in sorted(by_kind.items()):
        cells: list[Any] = [None] * n
        for place, value in values:
            cells[place] = msgspec.json.encode(value, order="sorted").decode() if kind == "list" else value
        yield path if kind == plain else f"{path}#{kind}", pa.array(cells, kinds[kind])


def without_column(counts: Mapping[str, int]) -> list[str]:
    """The properties that have no column of their own, of these, each with how many rows have it."""
    if len(counts) <= MOST_COLUMNS:
        return []
    return sorted(counts, key=lambda path: (-counts[path], path.count("."), path))[MOST_COLUMNS:]


def counted(table: pa.Table) -> dict[str, int]:
    """The properties that have columns, each with how many rows have it."""
    counts: dict[str, int] = {}
    for name in table.schema.names:
        if name not in ENVELOPE_SCHEMA.names and name != MORE:
            path, _ = path_of_column(name)
            counts[path] = counts.get(path, 0) + len(table) - table[name].null_count
    return counts


def narrowed(table: pa.Table, paths: Collection[str]) -> pa.Table:
    """A table in which these properties have no column of their own."""
    names = [n for n in table.schema.names if n != MORE and n not in ENVELOPE_SCHEMA.names]
    told = [(n, *path_of_column(n)) for n in names]
    taken = [(name, path, kind) for name, path, kind in told if path in paths]
    if not taken:
        return table
    rest: dict[int, dict[str, Any]] = {}
    if MORE in table.schema.names:
        for place, text in _cells_of(table[MORE]):
            rest[place] = msgspec.json.decode(text)
    for name, path, kind in taken:
        for place, value in _cells_of(table[name]):
            rest.setdefault(place, {})[path] = msgspec.json.decode(value) if kind == "list" else value
    table = table.drop_columns([n for n in (*(t[0] for t in taken), MORE) if n in table.schema.names])
    return table.append_column(MORE, _together(rest, len(table)))


def _cells_of(column: pa.ChunkedArray) -> Iterable[tuple[int, Any]]:
    """(row, value) of the rows that have one."""
    places = pa.compute.indices_nonzero(column.is_valid())
    return zip(places.to_pylist(), column.drop_null().to_pylist(), strict=True)


def _together(rest: Mapping[int, dict[str, Any]], n: int) -> pa.Array:
    """The column of properties without one, of *n* rows."""
    cells: list[str | None] = [None] * n
    for place, properties in rest.items():
        cells[place] = msgspec.json.encode(properties, order="sorted").decode()
    return pa.array(cells, pa.string())


def table_of(rows: Sequence[Row]) -> pa.Table:
    """Rows as columns, in the order in which segments keep them."""
    names = list(ENVELOPE_SCHEMA.names)
    arrays = [_cells([getattr(r, f.name) for r in rows], f.type) for f in ENVELOPE_SCHEMA]
    found: dict[str, list[tuple[int, Any]]] = {}
    for place, row in enumerate(rows):
        for path, value in row.properties.items():
            found.setdefault(path, []).append((place, value))
    rest: dict[int, dict[str, Any]] = {}
    for path in without_column({path: len(values) for path, values in found.items()}):
        for place, value in found.pop(path):
            rest.setdefault(place, {})[path] = value
    for path in sorted(found):
        for name, array in _typed(path, len(rows), found[path]):
            names.append(name)
            arrays.append(array)
    if rest:
        names.append(MORE)
        arrays.append(_together(rest, len(rows)))
    return in_order(pa.table(arrays, names=names))


def _cells(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(type_):
        return pa.array(values, pa.string()).dictionary_encode()
    return pa.array(values, type_)


def merged(tables: Sequence[pa.Table]) -> pa.Table:
    """One table of the rows of all; a property that has another type in each gets the columns of all of its kinds."""
    counts: Counter[str] = Counter()
    for table in tables:
        counts.update(counted(table))
    beyond = set(without_column(counts))
    tables = [narrowed(table, beyond) for table in tables]
    types: dict[str, set[pa.DataType]] = {}
    for table in tables:
        for field in table.schema:
            if not pa.types.is_dictionary(field.type):
                types.setdefault(field.name, set()).add(field.type)
    mixed = {name for name, found in types.items() if len(found) > 1}
    named = {pa.int64(): "number", pa.float64(): "real", pa.bool_(): "flag", pa.string(): "text"}
    renamed = [
        table.rename_columns(
            [f"{f.name}#{named[f.type]}" if f.name in mixed else f.name for f in table.schema]
        )
        for table in tables
    ]
    return (
        pa.concat_tables([t.unify_dictionaries() for t in renamed], promote_options="default")
        .unify_dictionaries()
        .combine_chunks()
    )


def in_order(table: pa.Table) -> pa.Table:
    """A table in the order of segments: what belongs to one owner stands together, as it happened."""
    plain = table.select(SORTED_BY)
    for name in ("owner", "source"):
        plain = plain.set_column(plain.column_names.index(name), name, plain[name].cast(pa.string()))
    order = pa.compute.sort_indices(plain, [(name, "ascending") for name in SORTED_BY])
    return table.take(order)
