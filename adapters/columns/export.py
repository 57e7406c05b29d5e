"""The export: the log as it holds at one moment, as a folder of Parquet that other tools read as it is.

All files share one schema, so that nobody has to merge any. The folder is made beside its place and put there in one
step; an export that was cut off goes on with the files it has, at the moment it had begun with.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from adapters.columns.chunk import Chunk, Ints
from adapters.columns.rows import (
    ENVELOPE_SCHEMA,
    MORE,
    MOST_COLUMNS,
    counted,
    narrowed,
    path_of_column,
    without_column,
)
from adapters.columns.view import Owners, View
from domain.errors import Refused

__all__ = ["Exported", "begun_at", "export"]

FILE_POSITIONS = 1_000_000
MANIFEST = "export.json"
_EXACT = 2**53
_DROPPED = ("owner", "known_from")
_KINDS = {pa.int64(): "number", pa.float64(): "real", pa.bool_(): "flag", pa.string(): "text"}
_MEANINGS = {
    "position": "place in the log, from 1; unique",
    "occurred_at": "when it happened (UTC)",
    "recorded_at": "when the log took it (UTC)",
    "type": "e.g. order.placed",
    "channel": "e.g. web, email, phone",
    "direction": "inbound, outbound or internal; null: none",
    "source": "who told it",
    "source_id": "its id there; unique with source",
    "subject": "the identifier it names first, as a random surrogate; null: it names nobody",
    "person": "all identifiers that belong together share one; null: nobody's",
    MORE: f"of more than {MOST_COLUMNS:,} properties those that the fewest events have, without a column: a JSON object, values by path",
}
_README = """touchlog: the events of the log as they hold at position {known_at:,} ({rows:,} rows in {files:,} files)

Corrections are applied, what was taken back is left out, and `person` is who is who at that position. There is no
personal field: subjects and persons are random surrogates, and what is sealed in the log is not here at all.

  events/*.parquet   all with the same columns; schema.json tells what they mean
  export.json        the position, the rows of each file

DuckDB   SELECT type, count(*) FROM 'events/*.parquet' GROUP BY ALL
Polars   pl.scan_parquet("events/*.parquet")
pandas   pd.read_parquet("events")
Spark    spark.read.parquet("events")

Properties are columns named by their path, such as "data.path" (quote the name; in Spark with `backticks`). One that has
values of several kinds has a column for each, the kind behind a #: "data.size#text", "data.size#number". Where there are
more than {most:,} properties, those that the fewest events have stand in the column "more": a JSON object, values by path.
"""


class File(msgspec.Struct, frozen=True):
    """A file of an export; rows of positions from `first` to `last`."""

    name: str
    rows: int
    first: int
    last: int


class Exported(msgspec.Struct, frozen=True):
    """An export, finished or begun: of which log, as known at which position."""

    log_id: str
    known_at: int
    files: tuple[File, ...] = ()

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(file.rows for file in self.files)


def _beside(folder: Path, what: str) -> Path:
    return folder.parent / f".{folder.name}.{what}"


def _manifest(folder: Path) -> Exported | None:
    try:
        return msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Exported)
    except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
        return None


def begun_at(folder: Path, log_id: str) -> int | None:
    """The position of an export into *folder* that was cut off; None where there is none of this log.

    Raises:
        Refused: the folder holds something else.
    """
    if folder.exists() and _manifest(folder) is None and (not folder.is_dir() or any(folder.iterdir())):
        what = "holds something that is no export" if folder.is_dir() else "is no folder"
        raise Refused(f"{folder} {what}; name a new or an empty folder.")
    if file := next((above for above in folder.parents if above.exists() and not above.is_dir()), None):
        raise Refused(f"{file} is no folder; name a new or an empty folder elsewhere.")
    found = _manifest(_beside(folder, "part"))
    return found.known_at if found is not None and found.log_id == log_id else None


def export(
    folder: Path,
    view: View,
    owners: Owners,
    log_id: str,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write what *view* sees; an export of the same position that was cut off goes on.

    Args:
        progress: called with (position, position to reach).

    Raises:
        Refused: the folder holds something else.
    """
    begun_at(folder, log_id)
    staged = _beside(folder, "part")
    made = _manifest(staged)
    if made is None or (made.log_id, made.known_at) != (log_id, view.known_at):
        shutil.rmtree(staged, ignore_errors=True)
        made = Exported(log_id, view.known_at)
        (staged / "events").mkdir(parents=True)
        _put(staged / MANIFEST, msgspec.json.encode(made))
    beyond = _beyond(view)
    schema, mixed = _schema(view, beyond)
    persons = _persons(view, owners)
    done = made.files[-1].last if made.files else 0
    while done < view.known_at or not made.files:
        last = min(done + FILE_POSITIONS, view.known_at)
        parts = list(_parts(view, done, last, persons, schema, mixed, beyond))
        table = pa.concat_tables(parts).sort_by("position") if parts else schema.empty_table()
        if table.num_rows or (last == view.known_at and not made.files):
            name = f"events-{done + 1:012}.parquet"
            draft = staged / "events" / f".{name}.part"
            pq.write_table(table, draft, compression="zstd")
            _to_disk(draft)
            draft.replace(staged / "events" / name)
            made = msgspec.structs.replace(
                made, files=(*made.files, File(name, table.num_rows, done + 1, last))
            )
            _put(staged / MANIFEST, msgspec.json.encode(made))
        done = last
        if progress is not None:
            progress(done, view.known_at)
        if done >= view.known_at:
            break
    _put(
        staged / "README.txt",
        _README.format(
            known_at=made.known_at, rows=made.rows, files=len(made.files), most=MOST_COLUMNS
        ).encode(),
    )
    _put(staged / "schema.json", msgspec.json.format(msgspec.json.encode(_described(schema))))
    _put(staged / MANIFEST, msgspec.json.format(msgspec.json.encode(made)))
    _swap(staged, folder)
    return made


def _beyond(view: View) -> set[str]:
    """The properties that have no column of their own in the export."""
    paths = {path_of_column(name)[0] for chunk in view.chunks for name in chunk.schema.names}
    if len(paths - {*ENVELOPE_SCHEMA.names, MORE}) <= MOST_COLUMNS:
        return set()
    counts: Counter[str] = Counter()
    for chunk in view.chunks:
        counts.update(counted(_table(chunk)))
    return set(without_column(counts))


def _schema(view: View, beyond: set[str]) -> tuple[pa.Schema, dict[str, pa.DataType | None]]:
    """(the one schema, of properties with several types the one they share, None: each keeps a column of its own)."""
    types: dict[str, set[pa.DataType]] = {MORE: {pa.string()}} if beyond else {}
    for chunk in view.chunks:
        for field in chunk.schema:
            if field.name not in ENVELOPE_SCHEMA.names and path_of_column(field.name)[0] not in beyond:
                types.setdefault(field.name, set()).add(field.type)
    mixed: dict[str, pa.DataType | None] = {}
    columns: dict[str, pa.DataType] = {}
    for name in sorted(types):
        found = types[name]
        if len(found) == 1:
            columns[name] = next(iter(found))
        elif found == {pa.int64(), pa.float64()} and all(_is_exact(chunk, name) for chunk in view.chunks):
            columns[name] = mixed[name] = pa.float64()
        else:
            mixed[name] = None
            columns |= {f"{name}#{_KINDS[type_]}": type_ for type_ in found}
    fields = [pa.field(f.name, _plain(f.type)) for f in ENVELOPE_SCHEMA if f.name not in _DROPPED]
    fields.append(pa.field("person", pa.string()))
    fields += [pa.field(name, columns[name]) for name in sorted(columns)]
    return pa.schema(fields), mixed


def _plain(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pa.types.is_dictionary(type_) else type_


def _is_exact(chunk: Chunk, name: str) -> bool:
    """Whether the whole numbers of a property are the same as floating point."""
    if name not in chunk.schema.names or chunk.schema.field(name).type != pa.int64():
        return True
    column = _table(chunk, [name])[name]
    found = pc.min_max(column).as_py()
    return all(abs(v or 0) <= _EXACT for v in found.values())


def _table(chunk: Chunk, columns: Sequence[str] | None = None) -> pa.Table:
    if chunk.table is not None:
        return chunk.table if columns is None else chunk.table.select(columns)
    return pq.read_table(chunk.file, columns=columns)


def _persons(view: View, owners: Owners) -> pa.Array:
    """The person of each owner, by the owner's code."""
    for chunk in view.chunks:
        chunk.codes("owner")
    values = view.vocabularies["owner"].values if "owner" in view.vocabularies else []
    codes, names = owners(values)
    return pa.array([names[c] if c >= 0 else None for c in codes[: len(values)].tolist()], pa.string())


def _parts(
    view: View,
    after: int,
    until: int,
    persons: pa.Array,
    schema: pa.Schema,
    mixed: dict[str, Any],
    beyond: set[str],
) -> Iterator[pa.Table]:
    """What each chunk holds of some positions, in the one schema."""
    for chunk in view.chunks:
        position = chunk.ints("position")
        mine = (position > after) & (position <= until) & _visible(view, chunk)
        if not mine.any():
            continue
        rows = pa.array(np.flatnonzero(mine))
        table = narrowed(_table(chunk).take(rows), beyond)
        codes = chunk.codes("owner")[mine]
        whose = pa.array(codes, mask=codes < 0)
        table = table.append_column("person", persons.take(whose))
        names = [
            f"{f.name}#{_KINDS[f.type]}" if f.name in mixed and mixed[f.name] is None else f.name
            for f in table.schema
        ]
        table = table.rename_columns(names)
        there = set(names)
        yield pa.table(
            [
                table[f.name].cast(f.type) if f.name in there else pa.nulls(table.num_rows, f.type)
                for f in schema
            ],
            schema=schema,
        )


def _visible(view: View, chunk: Chunk) -> Any:
    known_from: Ints = chunk.ints("known_from")
    ends = chunk.ends(view.closed, view.closed_version)
    return (known_from <= view.known_at) & (ends > view.known_at if len(ends) else True)


def _described(schema: pa.Schema) -> list[dict[str, str]]:
    return [
        {
            "column": f.name,
            "type": str(f.type),
            "meaning": _MEANINGS.get(f.name, "property of the event; null: it has none"),
        }
        for f in schema
    ]


def _put(path: Path, body: bytes) -> None:
    draft = path.with_name(f".{path.name}.part")
    draft.write_bytes(body)
    _to_disk(draft)
    draft.replace(path)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(staged: Path, folder: Path) -> None:
    """Put the new folder in its place; who reads the old one has it open or finds the new one."""
    old = _beside(folder, "old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    staged.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
