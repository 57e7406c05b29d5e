"""Rows of the columns: what of an event is plain, and from which to which position it was known so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
    "in_order",
    "merged",
    "path_of_column",
    "table_of",
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
"""The column of what one event has beyond `MOST_COLUMNS` properties: one JSON object, values by path."""
MOST_COLUMNS = 1_000
"""So many properties of one event have columns of their own, those that lie least deep first, then by name.

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


def table_of(rows: Sequence[Row]) -> pa.Table:
    """Rows as columns, in the order in which segments keep them."""
    names = list(ENVELOPE_SCHEMA.names)
    arrays = [_cells([getattr(r, f.name) for r in rows], f.type) for f in ENVELOPE_SCHEMA]
    found: dict[str, list[tuple[int, Any]]] = {}
    more: list[str | None] = [None] * len(rows)
    for place, row in enumerate(rows):
        paths: Iterable[str] = row.properties
        if len(row.properties) > MOST_COLUMNS:
            by_depth = sorted(paths, key=lambda path: (path.count("."), path))
            paths, beyond = by_depth[:MOST_COLUMNS], by_depth[MOST_COLUMNS:]
            rest = {path: row.properties[path] for path in beyond}
            more[place] = msgspec.json.encode(rest, order="sorted").decode()
        for path in paths:
            found.setdefault(path, []).append((place, row.properties[path]))
    for path in sorted(found):
        for name, array in _typed(path, len(rows), found[path]):
            names.append(name)
            arrays.append(array)
    if any(cell is not None for cell in more):
        names.append(MORE)
        arrays.append(pa.array(more, pa.string()))
    return in_order(pa.table(arrays, names=names))


def _cells(values: Sequence[Any], type_: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(type_):
        return pa.array(values, pa.string()).dictionary_encode()
    return pa.array(values, type_)


def merged(tables: Sequence[pa.Table]) -> pa.Table:
    """One table of the rows of all; a property that has another type in each gets the columns of all of its kinds."""
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
