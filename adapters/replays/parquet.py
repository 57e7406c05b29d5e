"""Replay into columns: Parquet, one file per type with typed columns or one file in all, and Arrow streams.

A value that does not fit its declared column (older data, a correction) is never bent: it goes, as
everything that nobody declared, into the JSON of the column `more`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

import msgspec
import orjson
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from msgspec import inspect

from adapters.replays.replay import BATCH_BYTES, Line
from domain.event import TYPES, EventType, upcast

__all__ = [
    "LARGEST_BUFFER_BYTES",
    "ROW_GROUP_EVENTS",
    "ArrowStream",
    "ParquetFile",
    "ParquetFolder",
    "columns_of",
]

ROW_GROUP_EVENTS = 50_000
"""Events of one type that are held before they are written as a row group."""
LARGEST_BUFFER_BYTES = 48 << 20
"""Bytes that all types together may hold; beyond it the fullest is written."""
ARRAY_EVENTS = 5_000
"""Events that are made into arrays at one go."""
UNDECLARED_FILES = 100
"""Undeclared types that get a file of their own; the events of any further ones share `undeclared.parquet`."""

_TIME = pa.timestamp("us", tz="UTC")
ENVELOPE = pa.schema(
    [
        pa.field("position", pa.int64(), nullable=False),
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("type", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_id", pa.string(), nullable=False),
        pa.field("channel", pa.string(), nullable=False),
        pa.field("direction", pa.string()),
        pa.field("occurred_at", _TIME, nullable=False),
        pa.field("recorded_at", _TIME, nullable=False),
        pa.field("subject", pa.string()),
        pa.field("subjects", pa.list_(pa.string()), nullable=False),
    ]
)
WITH_DATA = ENVELOPE.append(pa.field("data", pa.string(), nullable=False))


def _envelope(lines: Sequence[Line]) -> list[Any]:
    return [
        pa.array([line.position for line in lines], pa.int64()),
        pa.array([line.event_id for line in lines], pa.string()),
        pa.array([line.type for line in lines], pa.string()),
        pa.array([line.source for line in lines], pa.string()),
        pa.array([line.id for line in lines], pa.string()),
        pa.array([line.channel for line in lines], pa.string()),
        pa.array([line.direction for line in lines], pa.string()),
        pa.array([line.occurred_at for line in lines], pa.string()).cast(_TIME),
        pa.array([line.recorded_us for line in lines], pa.int64()).cast(_TIME),
        pa.array([line.subject for line in lines], pa.string()),
        pa.array([[one.surrogate for one in line.subjects] for line in lines], pa.list_(pa.string())),
    ]


def _with_data(lines: Sequence[Line]) -> Any:
    data = pa.array([bytes(line.data) for line in lines], pa.binary()).cast(pa.string())
    return pa.RecordBatch.from_arrays([*_envelope(lines), data], schema=WITH_DATA)


# -- columns of a declared type ------------------------------------------------------------------------

_MISFIT = object()
_Fit = Callable[[Any], Any]
"""Gives a value the form of its column, or `_MISFIT`; never sees None."""


class Column(NamedTuple):
    """One declared field as a column of a file."""

    name: str
    field: str
    type: Any  # pa.DataType
    fit: _Fit
    exact: frozenset[type]  # values of these types fit as they are


def _fits(*types: type) -> _Fit:
    return lambda value: value if type(value) in types else _MISFIT


def _int(value: Any) -> Any:
    return value if type(value) is int and -(2**63) <= value < 2**63 else _MISFIT


def _float(value: Any) -> Any:
    if type(value) is int:
        return float(value) if -(2**53) <= value <= 2**53 else _MISFIT
    return value if type(value) is float else _MISFIT


def _instant(value: Any) -> Any:
    try:
        at = msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        return _MISFIT
    return at.astimezone(UTC) if at.tzinfo is not None else _MISFIT


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _list_of(fit: _Fit) -> _Fit:
    def whole(value: Any) -> Any:
        if not isinstance(value, list):
            return _MISFIT
        items = [None if one is None else fit(one) for one in value]
        return _MISFIT if any(one is _MISFIT for one in items) else items

    return whole


def _struct_of(fits: dict[str, _Fit]) -> _Fit:
    def whole(value: Any) -> Any:
        if not isinstance(value, dict) or not value.keys() <= fits.keys():
            return _MISFIT  # what nobody declared would be lost
        items = {k: None if v is None else fits[k](v) for k, v in value.items()}
        return _MISFIT if any(one is _MISFIT for one in items.values()) else items

    return whole


_SCALARS: dict[type[inspect.Type], tuple[Any, _Fit, frozenset[type]]] = {
    inspect.BoolType: (pa.bool_(), _fits(bool), frozenset({bool})),
    inspect.IntType: (pa.int64(), _int, frozenset({int})),
    inspect.FloatType: (pa.float64(), _float, frozenset({int, float})),
    inspect.StrType: (pa.string(), _fits(str), frozenset({str})),
    inspect.DateTimeType: (_TIME, _instant, frozenset()),
}
_AS_JSON: tuple[Any, _Fit, frozenset[type]] = (pa.string(), _json, frozenset())


def _bare(node: inspect.Type) -> inspect.Type:
    """The type without its annotations, and without null."""
    while isinstance(node, inspect.Metadata):
        node = node.type
    if isinstance(node, inspect.UnionType):
        members = [m for m in node.types if not isinstance(m, inspect.NoneType)]
        if len(members) == 1:
            return _bare(members[0])
        if {type(_bare(m)) for m in members} == {inspect.IntType, inspect.FloatType}:
            return inspect.FloatType()
    return node


def _column_type(node: inspect.Type) -> tuple[Any, _Fit, frozenset[type]] | None:
    """(type of the column, fit, exact types) of one field; None where only JSON can hold it."""
    node = _bare(node)
    if type(node) in _SCALARS:
        return _SCALARS[type(node)]
    if isinstance(node, inspect.LiteralType) and all(isinstance(v, str) for v in node.values):
        return _SCALARS[inspect.StrType]
    if isinstance(node, inspect.ListType | inspect.VarTupleType):
        inner = _column_type(node.item_type)
        return None if inner is None else (pa.list_(inner[0]), _list_of(inner[1]), frozenset())
    if isinstance(node, inspect.StructType):
        members = {f.encode_name: _column_type(f.type) for f in node.fields}
        if not members or any(m is None for m in members.values()):
            return None
        known = {name: m for name, m in members.items() if m is not None}
        return (
            pa.struct([(n, m[0]) for n, m in known.items()]),
            _struct_of({n: m[1] for n, m in known.items()}),
            frozenset(),
        )
    return None


def columns_of(declared: EventType, *, personal: bool) -> list[Column]:
    """The columns of a type's data, in the order of its declaration; sealed fields only where asked for.

    A field whose name the envelope has taken is called `data_<field>`.
    """
    info = inspect.type_info(declared.cls)
    assert isinstance(info, inspect.StructType)
    taken = {*ENVELOPE.names, "more"}
    columns = []
    for field in info.fields:
        name = field.encode_name
        if not personal and (name in declared.personal or name in declared.others):
            continue
        type_, fit, exact = _column_type(field.type) or _AS_JSON
        columns.append(Column(f"data_{name}" if name in taken else name, name, type_, fit, exact))
    return columns


_NONE = frozenset({type(None)})


def _filled(column: Column, values: list[Any], rows: list[dict[str, Any]]) -> Any:
    """The values as an array; what does not fit is put back into its row."""
    if set(map(type, values)) <= column.exact | _NONE:
        try:
            return pa.array(values, column.type)
        except (pa.ArrowException, OverflowError):
            pass  # a number too great: looked at one by one
    for i, value in enumerate(values):
        if value is None:
            continue
        values[i] = column.fit(value)
        if values[i] is _MISFIT:
            values[i] = None
            rows[i][column.field] = value
    return pa.array(values, column.type)


class Shape:
    """How the events of one file become rows."""

    def __init__(self, declared: EventType | None, *, personal: bool) -> None:
        self._declared = declared
        self._columns = columns_of(declared, personal=personal) if declared is not None else []
        fields = [pa.field(c.name, c.type) for c in self._columns]
        self.schema = pa.schema([*ENVELOPE, *fields, pa.field("more", pa.string())])

    def batch(self, lines: Sequence[Line]) -> Any:
        """The events as a record batch; data older than its type is brought to the shape of today."""
        rows: list[dict[str, Any]] = [orjson.loads(bytes(line.data)) for line in lines]
        declared = self._declared
        if declared is not None:
            rows = [
                dict(upcast(line.type, line.version, row)) if line.version != declared.version else row
                for line, row in zip(lines, rows, strict=True)
            ]
        arrays = _envelope(lines)
        for column in self._columns:
            field = column.field
            arrays.append(_filled(column, [row.pop(field, None) for row in rows], rows))
        arrays.append(pa.array([_json(row) if row else None for row in rows], pa.string()))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


# -- sinks ---------------------------------------------------------------------------------------------


class _Lines:
    """Gathers lines until it is worth making arrays of them."""

    def __init__(self) -> None:
        self.held: list[Line] = []
        self._size_bytes = 0

    def take(self, lines: Sequence[Line]) -> list[Line]:
        """Hold *lines*; gives all that is held once it is enough, and lets go of it."""
        self.held.extend(lines)
        self._size_bytes += sum([len(line.body) for line in lines])
        return self.rest() if len(self.held) >= ARRAY_EVENTS or self._size_bytes >= BATCH_BYTES else []

    def rest(self) -> list[Line]:
        """Give all that is held, and let go of it."""
        lines, self.held, self._size_bytes = self.held, [], 0
        return lines


class _Group:
    """Record batches on their way to one row group, and the file that they go to."""

    def __init__(self, schema: Any, path: Path) -> None:
        self._schema = schema
        self._batches: list[Any] = []
        self.rows = 0
        self.size_bytes = 0
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", version="2.6")

    def add(self, batch: Any) -> None:
        """Hold a batch."""
        self._batches.append(batch)
        self.rows += batch.num_rows
        self.size_bytes += batch.nbytes

    def flush(self) -> None:
        """Write what is held as one row group."""
        if self.rows:
            table = pa.Table.from_batches(self._batches, self._schema)
            self._writer.write_table(table, row_group_size=self.rows)
        self._batches, self.rows, self.size_bytes = [], 0, 0

    def close(self) -> None:
        """Write the end of the file."""
        self._writer.close()


class ParquetFile:
    """One file: the envelope, and data as JSON."""

    def __init__(self, path: Path) -> None:
        self._lines = _Lines()
        self._group = _Group(WITH_DATA, path)

    @property
    def buffered(self) -> int:
        """Events taken and not yet written."""
        return len(self._lines.held) + self._group.rows

    def write(self, lines: Sequence[Line]) -> None:
        """Take some events."""
        self._add(self._lines.take(lines))

    def _add(self, lines: Sequence[Line]) -> None:
        if lines:
            group = self._group
            if group.rows + len(lines) > ROW_GROUP_EVENTS or group.size_bytes >= LARGEST_BUFFER_BYTES:
                group.flush()
            group.add(_with_data(lines))

    def finish(self) -> None:
        """Write the last row group."""
        self._add(self._lines.rest())
        self._group.flush()

    def close(self) -> None:
        """Write the end of the file."""
        self._group.close()


class ParquetFolder:
    """One file per type of event, its data in typed columns.

    Args:
        folder: where the files go; it is there, and empty.
        personal: whether there are columns for personal fields.
    """

    def __init__(self, folder: Path, *, personal: bool) -> None:
        self._folder = folder
        self._personal = personal
        self._lines = _Lines()
        self._groups: dict[str, tuple[Shape, _Group]] = {}
        self._undeclared = 0

    @property
    def buffered(self) -> int:
        """Events taken and not yet written."""
        return len(self._lines.held) + sum(group.rows for _, group in self._groups.values())

    @property
    def files(self) -> int:
        """Files begun so far."""
        return len(self._groups)

    def _group_of(self, type_: str) -> tuple[Shape, _Group]:
        found = self._groups.get(type_)
        if found is not None:
            return found
        declared = TYPES.get(type_)
        if declared is None and type_:
            if self._undeclared >= UNDECLARED_FILES:
                return self._group_of("")
            self._undeclared += 1
        shape = Shape(declared, personal=self._personal)
        found = self._groups[type_] = shape, _Group(shape.schema, self._folder / _file_name(type_))
        return found

    def write(self, lines: Sequence[Line]) -> None:
        """Take some events."""
        self._add(self._lines.take(lines))

    def _add(self, lines: Sequence[Line]) -> None:
        by_type: dict[str, list[Line]] = {}
        for line in lines:
            by_type.setdefault(line.type, []).append(line)
        for type_, some in by_type.items():
            shape, group = self._group_of(type_)
            if group.rows + len(some) > ROW_GROUP_EVENTS:
                group.flush()
            group.add(shape.batch(some))
        while sum(group.size_bytes for _, group in self._groups.values()) >= LARGEST_BUFFER_BYTES:
            max((group for _, group in self._groups.values()), key=lambda group: group.size_bytes).flush()

    def finish(self) -> None:
        """Write the last row groups."""
        self._add(self._lines.rest())
        for _, group in self._groups.values():
            group.flush()

    def close(self) -> None:
        """Write the ends of the files."""
        for _, group in self._groups.values():
            group.close()


def _file_name(type_: str) -> str:
    """The file of a type; names from outside are quoted, and told apart by case on every file system."""
    if not type_:
        return "undeclared.parquet"
    name = quote(type_, safe="")
    if type_ not in TYPES and (name != name.lower() or len(name) > 200 or name == "undeclared"):
        name = f"{name[:120]}-{sha256(type_.encode()).hexdigest()[:16]}"
    return f"{name}.parquet"


class ArrowStream:
    """An Arrow IPC stream of the envelope, and data as JSON."""

    def __init__(self, out: BinaryIO) -> None:
        self._lines = _Lines()
        self._writer = pa.ipc.new_stream(out, WITH_DATA)

    @property
    def buffered(self) -> int:
        """Events taken and not yet written."""
        return len(self._lines.held)

    def write(self, lines: Sequence[Line]) -> None:
        """Take some events."""
        self._add(self._lines.take(lines))

    def _add(self, lines: Sequence[Line]) -> None:
        if lines:
            self._writer.write_batch(_with_data(lines))

    def finish(self) -> None:
        """Write the last batch."""
        self._add(self._lines.rest())

    def close(self) -> None:
        """Write the end of the stream."""
        self._writer.close()
