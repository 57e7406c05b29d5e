"""The events of `bench funnel`: as the shelf of an installation, and as one plain Parquet file for the baselines."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from adapters.columns.manifest import MANIFEST, Manifest, Segment
from adapters.columns.rows import ENVELOPE_SCHEMA, in_order

__all__ = ["CHANNELS", "EVENTS_FILE", "OTHER_STEPS", "STEPS", "TYPES", "WINDOW_S", "fill"]

TYPES = [f"custom.type_{i:02}" for i in range(40)]
STEPS = TYPES[:5]
OTHER_STEPS = TYPES[3:8]
CHANNELS = ["app", "call", "chat", "email", "shop", "web"]
WINDOW_S = 14 * 86_400
EVENTS_FILE = "events.parquet"
SPAN_S = 90 * 86_400
SEGMENT_ROWS = 1_048_576


def _dictionary(codes: np.ndarray, values: list[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(values))


def fill(folder: Path, events: int, log_id: str) -> None:
    """Make *events* of a fiftieth as many persons over 90 days, in the order in which they happened, as of a log."""
    random = np.random.default_rng(2026)
    persons = max(1, events // 50)
    at = np.sort(random.integers(0, SPAN_S, events)) + 1_750_000_000
    person = random.integers(0, persons, events)
    weights = np.array([8, 6, 5, 4, 3] + [1] * 35, float)
    type_ = random.choice(40, events, p=weights / weights.sum())
    channel = random.choice(6, events, p=[0.35, 0.05, 0.1, 0.2, 0.1, 0.2])
    plain = pa.table(
        {
            "person": pa.array(person.astype(np.uint32)),
            "at": pa.array(at.astype(np.uint32)),
            "type": _dictionary(type_, TYPES),
            "channel": _dictionary(channel, CHANNELS),
        }
    )
    pq.write_table(plain, folder / EVENTS_FILE, compression="zstd")
    names = [f"00000000-0000-4000-8000-{i:012}" for i in range(persons)]
    segments = []
    for start in range(0, events, SEGMENT_ROWS):
        part = slice(start, min(start + SEGMENT_ROWS, events))
        n = part.stop - part.start
        position = np.arange(part.start + 1, part.stop + 1)
        time = pa.array(at[part] * 1_000_000).cast(pa.timestamp("us", "UTC"))
        mine, codes = np.unique(person[part], return_inverse=True)
        owner = _dictionary(codes, [names[p] for p in mine])
        columns = {
            "position": pa.array(position), "occurred_at": time, "recorded_at": time,
            "type": _dictionary(type_[part], TYPES), "channel": _dictionary(channel[part], CHANNELS),
            "direction": pa.nulls(n, pa.string()).dictionary_encode(), "source": _dictionary(np.zeros(n), ["bench"]),
            "source_id": pa.array(position).cast(pa.string()), "subject": owner, "owner": owner,
            "known_from": pa.array(position),
        }  # fmt: skip
        table = pa.table([columns[f.name] for f in ENVELOPE_SCHEMA], names=ENVELOPE_SCHEMA.names)
        segments.append(Segment(f"rows-{start:010}.parquet", n, part.start + 1, part.stop))
        pq.write_table(in_order(table), folder / segments[-1].name, compression="zstd")
    manifest = Manifest(log_id, position=events, segments=tuple(segments))
    (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
