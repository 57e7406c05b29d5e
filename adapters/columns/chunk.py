"""A chunk: the columns of one segment or of the fresh tail in memory, each read when it is first asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import RLock
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from numpy.typing import NDArray

from adapters.columns.rows import ENVELOPE_SCHEMA, MORE, path_of_column
from domain.funnels.property import identity, kind_of_value, shown

__all__ = ["Chunk", "Vocabulary"]

Codes = NDArray[np.int32]
Ints = NDArray[np.int64]
_NEVER = np.iinfo(np.int64).max
_READING = RLock()
"""Questions are answered side by side; columns are read by one of them at a time."""
_KINDS: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
    (pa.types.is_boolean, "flag"),
    (pa.types.is_integer, "number"),
    (pa.types.is_floating, "number"),
)


class Vocabulary:
    """The values of one property over all chunks, each with a code; values that are the same share one."""

    def __init__(self) -> None:
        self._codes: dict[Hashable, int] = {}
        self.values: list[Any] = []

    def codes(self, values: Iterable[Any]) -> Codes:
        """The code of each value, made where it is new."""
        found = []
        for value in values:
            key = value if isinstance(value, str) else identity(value)
            code = self._codes.get(key)
            if code is None:
                code = self._codes[key] = len(self.values)
                self.values.append(shown(value))
            found.append(code)
        return np.array(found, np.int32)


class Chunk:
    """Rows of the columns, in any order.

    Args:
        source: a Parquet file, or a table.
        vocabularies: by property, shared by all chunks that are asked together.
    """

    def __init__(self, source: Path | pa.Table, vocabularies: dict[str, Vocabulary]) -> None:
        self.file = source if isinstance(source, Path) else None
        self.table = None if isinstance(source, Path) else source
        self._vocabularies = vocabularies
        self._codes: dict[str, Codes] = {}
        self._ints: dict[str, Ints] = {}
        self._types: list[int] | None = None
        self._newest: int | None = None
        self._ends: tuple[int, Ints] | None = None
        schema = pq.read_schema(source) if isinstance(source, Path) else source.schema
        self.schema: pa.Schema = schema
        self.rows = pq.read_metadata(source).num_rows if isinstance(source, Path) else source.num_rows
        self._columns: dict[str, list[str]] = {}
        self._kinds: dict[str, frozenset[str]] | None = None
        for name in schema.names:
            if name not in ENVELOPE_SCHEMA.names and name != MORE:
                self._columns.setdefault(path_of_column(name)[0], []).append(name)

    @property
    def types(self) -> list[int]:
        """The codes of the types that occur."""
        if self._types is None:
            self._types = np.flatnonzero(np.bincount(self.codes("type", keep=False))).tolist()
        return self._types

    @property
    def newest(self) -> int:
        """The last position from which a row is known."""
        if self._newest is None:
            self._newest = (
                pa.compute.max(self._read("known_from")).as_py() or 0
            )  # not kept: few ask for each row's
        return self._newest

    @property
    def kinds(self) -> dict[str, frozenset[str]]:
        """The kinds of value that each property has here."""
        if self._kinds is None:
            found = {path: {self._kind(n) for n in names} for path, names in self._columns.items()}
            for _, properties in self._more():
                for path, value in properties.items():
                    found.setdefault(path, set()).add(kind_of_value(value))
            self._kinds = {path: frozenset(kinds) for path, kinds in found.items()}
        return self._kinds

    def _kind(self, name: str) -> str:
        told = path_of_column(name)[1]
        if told:
            return "number" if told == "real" else told
        return next((kind for test, kind in _KINDS if test(self.schema.field(name).type)), "text")

    def _more(self, path: str | None = None) -> Iterator[tuple[int, dict[str, Any]]]:
        """(row, properties that have no column) of rows that have such; with a path those that may hold it."""
        if MORE not in self.schema.names:
            return
        cells = self._read(MORE)
        is_there = cells.is_valid()
        if path is not None:
            spelt = msgspec.json.encode(path).decode()
            is_there = pa.compute.fill_null(pa.compute.match_substring(cells, spelt), fill_value=False)
        for row in np.flatnonzero(is_there.to_numpy(zero_copy_only=False)).tolist():
            yield row, msgspec.json.decode(cells[row].as_py())

    def _read(self, name: str) -> pa.Array:
        table = (
            self.table
            if self.table is not None
            else pq.read_table(self.file, columns=[name], memory_map=True)
        )
        column = table[name]
        return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column

    def ints(self, name: str, *, keep: bool = True) -> Ints:
        """A column of positions or times (µs since 1970); null is for ever.

        Args:
            keep: for the next who asks.
        """
        found = self._ints.get(name)
        if found is None:
            with _READING:
                array = self._read(name)
                array = array.cast(pa.int64()) if array.type != pa.int64() else array
                found = array.fill_null(_NEVER).to_numpy(zero_copy_only=False)
                if keep:
                    self._ints[name] = found
        return found

    def codes(self, path: str, *, keep: bool = True) -> Codes:
        """The code of each row's value of a property; -1: it has none.

        Args:
            keep: for the next who asks.
        """
        found = self._codes.get(path)
        if found is None:
            with _READING:  # a vocabulary gives every value one code, whoever asks first
                found = self._codes.get(path)
                if found is None:
                    found = self._coded(path)
                    if keep:
                        self._codes[path] = found
        return found

    def _coded(self, path: str) -> Codes:
        found = np.full(self.rows, -1, np.int32)
        names = [path] if path in ENVELOPE_SCHEMA.names else self._columns.get(path, [])
        for name in names:
            array = self._read(name)
            if not pa.types.is_dictionary(array.type):
                array = array.dictionary_encode()
            if isinstance(array, pa.ChunkedArray):
                array = array.combine_chunks()
            values = array.dictionary.to_pylist()
            if name not in ENVELOPE_SCHEMA.names and self._kind(name) == "list":
                values = [json.loads(v) for v in values]
            mine = array.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            vocabulary = self._vocabularies.setdefault(path, Vocabulary())
            shared = np.append(vocabulary.codes(values), np.int32(-1))
            found = np.where(mine >= 0, shared[mine], found) if len(names) > 1 else shared[mine]
        if path not in ENVELOPE_SCHEMA.names:
            rest = [(row, told[path]) for row, told in self._more(path) if path in told]
            if rest:
                vocabulary = self._vocabularies.setdefault(path, Vocabulary())
                found[[row for row, _ in rest]] = vocabulary.codes([value for _, value in rest])
        return found

    def taken(self, name: str, places: Ints) -> pa.Array:
        """The texts of one column at some places, as Arrow holds them."""
        found = self._read(name).take(pa.array(places, pa.int64()))
        return found.cast(pa.string()) if pa.types.is_dictionary(found.type) else found

    def ends(self, closed: Mapping[int, Sequence[int]], version: int) -> Ints:
        """The positions from which rows are no longer known; empty where all are, for ever.

        Args:
            closed: by position of the event, the positions from which a row before was no longer known.
            version: of *closed*; a larger one may say more.
        """
        if self._ends is None or self._ends[0] != version:
            ends = np.empty(0, np.int64)
            if closed:
                position, known_from = self.ints("position"), self.ints("known_from")
                touched = np.flatnonzero(np.isin(position, np.fromiter(closed, np.int64, len(closed))))
                if len(touched):
                    ends = np.full(self.rows, _NEVER, np.int64)
                    for i in touched:
                        later = [to for to in closed[int(position[i])] if to > known_from[i]]
                        ends[i] = min(later, default=_NEVER)
            self._ends = (version, ends)
        return self._ends[1]

    @property
    def bytes(self) -> int:
        """Memory held by what was read so far."""
        return sum(a.nbytes for a in self._codes.values()) + sum(a.nbytes for a in self._ints.values())
