"""The shelf: the segments of an installation on disk, and the one file that says which of them count.

A segment is written whole, forced to disk and renamed before the manifest names it; the manifest is replaced in
one step. Whoever is killed leaves the manifest of before or of after, and at most files that nobody names, which
the next writer clears away. Segments never change: small ones are merged into larger ones, and what was replaced
stays for a while, for readers that have just looked at the manifest of before.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from adapters.columns.manifest import MANIFEST, Manifest, Segment, read_manifest
from adapters.columns.rows import Row, in_order, merged, table_of

__all__ = ["FULL_ROWS", "Shelf", "Taken"]

FULL_ROWS = 1_048_576
"""A segment of so many rows is full, and is never merged again."""
MERGED_AT_ONCE = 8
"""Segments of one size that are merged into one of the next."""
KEPT_S = 600.0


class Taken(Exception):
    """Another process writes these columns."""


class Shelf:
    """The folder of the columns of one installation."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._manifest = folder / MANIFEST

    def read(self) -> Manifest | None:
        """What counts now; None where there is nothing yet."""
        return read_manifest(self.folder)

    @contextmanager
    def written(self) -> Iterator[None]:
        """Be the one who writes.

        Raises:
            Taken: somebody else is.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise Taken(f"{self.folder} is written by another process") from None
            yield

    def begin(self, log_id: str, head: int) -> Manifest:
        """The manifest to go on from: an empty one where that on disk is of another log, version or history."""
        found = self.read()
        if found is None or not found.is_of(log_id, head):
            found = Manifest(log_id, next=found.next if found is not None else 1)
            self._put(found)
        named = {s.name for s in (*found.segments, *found.closed)} | {name for name, _ in found.gone}
        for file in self.folder.glob("*.parquet*"):
            if file.name not in named:
                file.unlink()
        return found

    def add(
        self, manifest: Manifest, rows: Sequence[Row], closed: Sequence[tuple[int, int]], position: int
    ) -> Manifest:
        """Put rows on the shelf: the columns now reach to *position*."""
        number = manifest.next
        segments, ends = manifest.segments, manifest.closed
        if rows:
            known = [r.known_from for r in rows]
            segments = (*segments, self._write(f"rows-{number:08}", table_of(rows), min(known), max(known)))
        if closed:
            table = pa.table({"position": [p for p, _ in closed], "known_to": [to for _, to in closed]})
            to = [t for _, t in closed]
            ends = (*ends, self._write(f"closed-{number:08}", table, min(to), max(to)))
        made = msgspec.structs.replace(
            manifest, position=position, next=number + 1, segments=segments, closed=ends
        )
        self._put(made)
        return made

    def tidy(self, manifest: Manifest, *, now_s: Callable[[], float] = time.time) -> Manifest:
        """Merge small segments where there are many of one size, and clear away what was replaced a while ago."""
        for kind in ("segments", "closed"):
            manifest = self._merge(manifest, kind, now_s)
        late = [name for name, at in manifest.gone if now_s() - at > KEPT_S]
        if late:
            for name in late:
                (self.folder / name).unlink(missing_ok=True)
            kept = tuple(g for g in manifest.gone if g[0] not in late)
            manifest = msgspec.structs.replace(manifest, gone=kept)
            self._put(manifest)
        return manifest

    def _merge(self, manifest: Manifest, kind: str, now_s: Callable[[], float]) -> Manifest:
        while True:
            files: tuple[Segment, ...] = getattr(manifest, kind)
            sizes: dict[int, list[Segment]] = {}
            for one in files:
                if one.rows < FULL_ROWS:
                    sizes.setdefault(len(f"{one.rows:o}"), []).append(one)  # digits to the base 8
            many = next((some for _, some in sorted(sizes.items()) if len(some) >= MERGED_AT_ONCE), None)
            if many is None:
                return manifest
            tables = [pq.read_table(self.folder / one.name) for one in many]
            table = in_order(merged(tables)) if kind == "segments" else pa.concat_tables(tables)
            stem = f"{'rows' if kind == 'segments' else 'closed'}-{manifest.next:08}"
            whole = self._write(stem, table, min(o.first for o in many), max(o.last for o in many))
            kept = tuple(one for one in files if one not in many)
            gone = (*manifest.gone, *((one.name, now_s()) for one in many))
            manifest = msgspec.structs.replace(
                manifest, next=manifest.next + 1, gone=gone, **{kind: (*kept, whole)}
            )
            self._put(manifest)

    def _write(self, stem: str, table: pa.Table, first: int, last: int) -> Segment:
        name = f"{stem}.parquet"
        draft = self.folder / f"{name}.part"
        pq.write_table(table, draft, compression="zstd", compression_level=3, row_group_size=FULL_ROWS)
        _to_disk(draft)
        draft.replace(self.folder / name)
        return Segment(name, table.num_rows, first, last)

    def _put(self, manifest: Manifest) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        draft = self.folder / f"{MANIFEST}.part"
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
        _to_disk(draft)
        _to_disk(self.folder)  # the segments are named on disk before the manifest names them
        draft.replace(self._manifest)
        _to_disk(self.folder)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # a folder cannot be forced everywhere
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
