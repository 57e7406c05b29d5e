"""The columns held against the log: every row made anew from the log, counted and compared in buckets of positions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from adapters.checking.findings import Checked, keep
from adapters.checking.rows import Found
from adapters.columns.following import followed, head_of
from adapters.columns.manifest import Manifest, Segment, read_manifest
from adapters.columns.rows import ENVELOPE_SCHEMA, MORE, Row, path_of_column
from domain.funnels.property import kind_of_value, shown

__all__ = ["NAME", "check"]

NAME = "columns"
BUCKET = 10_000
"""Positions."""
_AT_ONCE = 20_000
Key = tuple[int, int]
"""(position of the event, position from which the row counts)"""
Sums = dict[tuple[str, int], tuple[int, int]]
"""By table and bucket: how many rows, and the sum of their hashes."""


def check(
    conn: psycopg.Connection[Any],
    folder: Path,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[int, int]:
    """Compare what stands on the shelf with the log; what differs is kept as for read models.

    Args:
        progress: called with (stage, position, position to reach).

    Returns:
        (the position up to which columns are written and were compared, how many rows differ)
    """
    head, log_id = head_of(conn)
    manifest = read_manifest(folder)
    if manifest is None or not manifest.is_of(log_id, head):
        manifest = Manifest(log_id)
    until = manifest.position
    expected: Sums = {}
    for batch in followed(conn, 0, until):
        for table, key, body in _of_log(batch.rows, batch.closed):
            _count(expected, table, key, body)
        if progress is not None:
            progress("positions", batch.position, until)
    stored: Sums = {}
    for table, key, body in _of_shelf(folder, manifest):
        _count(stored, table, key, body)
    if progress is not None:
        progress("what differs is named", until, until)
    differing = {at for at in expected.keys() | stored.keys() if expected.get(at) != stored.get(at)}
    found = list(_named(conn, folder, manifest, differing)) if differing else []
    buckets = sorted({_bucket(bucket) for _, bucket in expected.keys() | stored.keys()})
    known = conn.execute("SELECT DISTINCT bucket FROM touchlog.differences WHERE name = %s", (NAME,))
    buckets = sorted({*buckets, *(bucket for (bucket,) in known)})
    rows = keep(conn, Checked(NAME, ("rows", "closed"), found, buckets))
    return until, rows


def _bucket(number: int) -> str:
    return f"positions {number * BUCKET + 1} to {(number + 1) * BUCKET}"


def _count(sums: Sums, table: str, key: Key, body: bytes) -> None:
    at = (table, (key[1] - 1) // BUCKET)
    rows, total = sums.get(at, (0, 0))
    hashed = int.from_bytes(hashlib.blake2b(body, digest_size=8).digest())
    sums[at] = (rows + 1, (total + hashed) & 0xFFFFFFFFFFFFFFFF)


def _of_log(rows: Iterable[Row], closed: Iterable[tuple[int, int]]) -> Iterator[tuple[str, Key, bytes]]:
    for row in rows:
        told = msgspec.structs.asdict(row)
        properties = told.pop("properties")
        yield "rows", (row.position, row.known_from), _encoded(told, properties)
    for position, to in closed:
        yield "closed", (position, to), msgspec.json.encode((position, to))


def _of_shelf(folder: Path, manifest: Manifest) -> Iterator[tuple[str, Key, bytes]]:
    for segment in manifest.segments:
        for told, properties in _rows_of(folder, segment):
            yield "rows", (told["position"], told["known_from"]), _encoded(told, properties)
    for segment in manifest.closed:
        if (folder / segment.name).exists():
            table = pq.read_table(folder / segment.name)
            for position, to in zip(
                table["position"].to_pylist(), table["known_to"].to_pylist(), strict=True
            ):
                yield "closed", (position, to), msgspec.json.encode((position, to))


def _rows_of(folder: Path, segment: Segment) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(envelope, properties) of each row of a segment; none where the file is gone."""
    if not (folder / segment.name).exists():
        return
    with pq.ParquetFile(folder / segment.name) as file:
        names = [n for n in file.schema_arrow.names if n not in ENVELOPE_SCHEMA.names]
        paths = {name: path_of_column(name) for name in names}
        for batch in file.iter_batches(_AT_ONCE):
            plain = {
                f.name: (
                    batch[f.name].cast(pa.int64()) if pa.types.is_timestamp(f.type) else batch[f.name]
                ).to_pylist()
                for f in ENVELOPE_SCHEMA
            }
            more = {name: batch[name].to_pylist() for name in names}
            for i in range(batch.num_rows):
                properties: dict[str, Any] = {}
                for name, values in more.items():
                    if (value := values[i]) is None:
                        continue
                    if name == MORE:
                        properties |= msgspec.json.decode(value)
                    else:
                        path, kind = paths[name]
                        properties[path] = json.loads(value) if kind == "list" else value
                yield {name: values[i] for name, values in plain.items()}, properties


def _encoded(told: dict[str, Any], properties: dict[str, Any]) -> bytes:
    """One text for rows that are the same: 1 and 1.0 are."""
    values = {path: (kind_of_value(value), shown(value)) for path, value in properties.items()}
    return msgspec.json.encode((told, values), order="sorted")


def _named(
    conn: psycopg.Connection[Any], folder: Path, manifest: Manifest, differing: set[tuple[str, int]]
) -> Iterator[Found]:
    """The rows that differ in some buckets."""

    def mine(rows: Iterable[tuple[str, Key, bytes]]) -> Iterator[tuple[tuple[str, Key], bytes]]:
        return (
            ((table, key), body) for table, key, body in rows if (table, (key[1] - 1) // BUCKET) in differing
        )

    expected: dict[tuple[str, Key], bytes] = {}
    for batch in followed(conn, 0, manifest.position):
        expected.update(mine(_of_log(batch.rows, batch.closed)))
    stored: dict[tuple[str, Key], list[bytes]] = {}
    for at, body in mine(_of_shelf(folder, manifest)):
        stored.setdefault(at, []).append(body)
    for at in sorted(expected.keys() | stored.keys()):
        table, (position, since) = at
        bucket, key = _bucket((since - 1) // BUCKET), {"position": position, "known_from": since}
        rows = stored.get(at, [])
        if at not in expected:
            yield from (Found(table, bucket, "extra", key) for _ in rows)
        elif not rows:
            yield Found(table, bucket, "missing", key)
        else:
            yield from (Found(table, bucket, "extra", key) for _ in rows[1:])
            if rows[0] != expected[at]:
                yield Found(table, bucket, "changed", key, _columns(expected[at], rows[0]))


def _columns(expected: bytes, stored: bytes) -> tuple[str, ...]:
    """The columns in which two rows differ."""
    (told, values), (other, others) = msgspec.json.decode(expected), msgspec.json.decode(stored)
    a, b = {**told, **values}, {**other, **others}
    return tuple(sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name)))
