"""Lanes: the rows of some chunks by whose they are and as they happened, kept from one question to the next.

Segments never change, so what was put in order once stays in order: a question reads the types of a lane one after
the other and takes what it looks at, without sorting. Who is who is not in it. A lane is by owner (subject, order,
case) or by another property, and a person's events are those of its owners, put together when they are asked for;
so no link, merge, split or correction that comes later makes a lane anew.

There is a lane for each size of chunk, full ones, large ones, small ones, and one for the fresh tail: what comes
in every minute changes the small lanes only.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from threading import RLock

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute  # type: ignore[import-untyped]
from numpy.typing import NDArray

from adapters.columns.chunk import Chunk, Codes, Ints, Vocabulary
from adapters.columns.shelf import FULL_ROWS
from adapters.columns.sorting import by_unit, taken

__all__ = ["OWNER", "Lane", "Lanes"]

OWNER = "owner"
KEPT_BYTES = 512 * 1024 * 1024
"""What is kept beyond what the last question looked at is less than this."""
_LARGE_ROWS = FULL_ROWS // 4
_TIERS = 4
_KEPT_SIGHTS = 2
Column = NDArray[np.uint16] | NDArray[np.uint32]
"""Of each row one more than the code of its value; 0: it has none."""
Mask = Callable[[Chunk], "NDArray[np.bool_] | None"]
"""Which rows of a chunk are seen; None: all."""


class Lane:
    """Rows of chunks by the codes of a property, each as it happened; those of one instant by (source, source id).

    Attributes:
        begins: places at which chunks begin, were they one after the other, and the end of the last.
        starts: begin of each code's rows, and the end of the last.
        at: of each row when it happened, in µs.
        place: of each row its place in the chunks, were they one after the other.
    """

    def __init__(
        self,
        chunks: Sequence[Chunk],
        path: str,
        vocabularies: dict[str, Vocabulary],
        threads: Executor | None,
    ) -> None:
        self.chunks = tuple(chunks)
        self.path = path
        self.used = 0
        self.begins: Ints = np.cumsum([0, *(c.rows for c in chunks)])
        codes = self._joined([c.codes(path, keep=False) for c in chunks])
        at = np.concatenate([np.empty(0, np.int64), *(c.ints("occurred_at", keep=False) for c in chunks)])
        units = len(vocabularies[path].values) if path in vocabularies else 0
        self.place, self.starts, self.at, ties = by_unit(codes, units, at, threads)
        self._columns: dict[str, Column] = {}
        self._used: dict[str, int] = {}
        self._sights: dict[Hashable, Column] = {}
        if ties:
            self._settle()

    def __len__(self) -> int:
        return len(self.place)

    @staticmethod
    def _joined(codes: Sequence[Codes]) -> Codes:
        return np.concatenate([np.empty(0, np.int32), *codes])

    @property
    def bytes(self) -> int:
        """Memory held."""
        held = [self.starts, self.at, self.place, *self._columns.values(), *self._sights.values()]
        return sum(array.nbytes for array in held)

    def column(self, path: str, tick: int = 0, threads: Executor | None = None) -> Column:
        """A property of every row."""
        found = self._columns.get(path)
        if found is None:
            more = self._joined([c.codes(path, keep=False) for c in self.chunks]) + 1
            kind = np.uint16 if more.max(initial=0) <= np.iinfo(np.uint16).max else np.uint32
            found = self._columns[path] = taken(more.astype(kind), self.place, threads)
        self._used[path] = tick
        return found

    def seen(
        self, key: Hashable | None, mask: Mask, tick: int = 0, threads: Executor | None = None
    ) -> Column:
        """The types of the rows that are seen; 0 for others.

        Args:
            key: under which it is kept; None: under none.
        """
        types = self.column("type", tick, threads)
        found = self._sights.get(key) if key is not None else None
        if found is None:
            masks = [mask(chunk) for chunk in self.chunks]
            if all(m is None for m in masks):
                return types
            every = np.concatenate(
                [
                    np.ones(c.rows, np.bool_) if m is None else m
                    for c, m in zip(self.chunks, masks, strict=True)
                ]
            )
            found = np.where(taken(every, self.place, threads), types, types.dtype.type(0))
            if key is not None:
                kept = list(self._sights.items())[-_KEPT_SIGHTS + 1 :]
                self._sights = dict([*kept, (key, found)])
        return found

    def forget(self, before: int) -> None:
        """Let go of properties that were last looked at before a tick."""
        self._columns = {p: c for p, c in self._columns.items() if self._used[p] >= before}

    def located(self, rows: Ints) -> tuple[Ints, Ints]:
        """(of each of some rows the number of its chunk, the row there)."""
        place = self.place[rows].astype(np.int64)
        chunk = np.searchsorted(self.begins, place, side="right") - 1
        return chunk, place - self.begins[chunk]

    def _settle(self) -> None:
        """Put what happened to one unit at one instant in order of (source, source id); a chunk keeps owners so."""
        same = self.at[1:] == self.at[:-1]
        inner = self.starts[(self.starts > 0) & (self.starts < len(self.at))]
        same[inner - 1] = False
        pairs = np.flatnonzero(same)
        rows = np.union1d(pairs, pairs + 1)
        run = np.cumsum(~np.insert(same, 0, np.False_)[rows])
        chunk, row = self.located(rows)
        if self.path == OWNER:
            crossing = (run[1:] == run[:-1]) & (chunk[1:] != chunk[:-1])
            mixed = np.isin(run, run[1:][crossing])
            rows, run, chunk, row = rows[mixed], run[mixed], chunk[mixed], row[mixed]
        if not len(rows):
            return
        back = np.argsort(chunk, kind="stable")
        counts = np.bincount(chunk, minlength=len(self.chunks))
        parts = np.split(row[back], np.cumsum(counts)[:-1])
        columns = {"run": pa.array(run[back])}
        for name in ("source", "source_id"):
            texts = [c.taken(name, p) for c, p in zip(self.chunks, parts, strict=True) if len(p)]
            columns[name] = pa.concat_arrays(texts)
        table = pa.table({**columns, "back": pa.array(back)})
        keys = [(name, "ascending") for name in ("run", "source", "source_id", "back")]
        order = back[pa.compute.sort_indices(table, keys).to_numpy()]
        self.place[rows] = self.place[rows][order]


class Lanes:
    """The lanes of the chunks of one shelf, or of whatever chunks are asked together."""

    def __init__(self, budget: int = KEPT_BYTES) -> None:
        self._budget = budget
        self._lock = RLock()
        self._kept: dict[tuple[str, int], Lane] = {}
        self._tick = 0

    def of(
        self,
        path: str,
        chunks: Sequence[Chunk],
        vocabularies: dict[str, Vocabulary],
        threads: Executor | None = None,
    ) -> list[Lane]:
        """The lanes of some chunks by a property, one of each size there is."""
        tiers: list[list[Chunk]] = [[] for _ in range(_TIERS)]
        for chunk in chunks:
            tiers[_tier(chunk)].append(chunk)
        found = []
        with self._lock:
            self._tick += 1
            for tier, mine in enumerate(tiers):
                if not mine:
                    continue
                lane = self._kept.get((path, tier))
                if lane is None or lane.chunks != tuple(mine):
                    self._kept.pop((path, tier), None)
                    lane = self._kept[path, tier] = Lane(mine, path, vocabularies, threads)
                lane.used = self._tick
                found.append(lane)
        return found

    def column(self, lane: Lane, path: str, threads: Executor | None = None) -> Column:
        """A property of the rows of a lane."""
        with self._lock:
            return lane.column(path, self._tick, threads)

    def seen(self, lane: Lane, key: Hashable | None, mask: Mask, threads: Executor | None = None) -> Column:
        """See `Lane.seen`."""
        with self._lock:
            return lane.seen(key, mask, self._tick, threads)

    def trim(self) -> None:
        """Let go of what was not looked at lately, where more is kept than shall be."""
        with self._lock:
            if self._bytes() <= self._budget:
                return
            for key, lane in sorted(self._kept.items(), key=lambda item: item[1].used):
                if lane.used == self._tick:
                    lane.forget(self._tick - 1)  # a breakdown is looked at only after this
                else:
                    del self._kept[key]
                if self._bytes() <= self._budget:
                    return

    def _bytes(self) -> int:
        return sum(lane.bytes for lane in self._kept.values())


def _tier(chunk: Chunk) -> int:
    if chunk.file is None:
        return 3
    return 0 if chunk.rows >= FULL_ROWS else 1 if chunk.rows >= _LARGE_ROWS else 2
