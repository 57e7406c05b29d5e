"""equal: read models live, rebuilt beside, and built from zero in other batches, on histories that others made."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import psycopg

import projections  # noqa: F401 - registers every projection
from adapters.imports import FORMATS, Options, Row, open_file
from adapters.postgres.event_log import connect_log
from adapters.postgres.schema import APP_ROLE
from adapters.rebuilds.rebuild import Rebuild
from bin.compose import Core, core
from bin.demo import demo_events
from bin.settings import Settings
from bin.soaks.following import Following
from bin.soaks.mixed import OFFICE
from bin.soaks.rows import Digest, differing, digests, from_zero
from projections.projection import PROJECTIONS

__all__ = ["FILES", "Equal", "run_equal"]

FILES = (
    ("csv:online_retail", ("online_retail/online_retail.csv.xz", "online_retail.csv")),
    ("csv:cdnow", ("cdnow/CDNOW_master.txt", "CDNOW_master.txt")),
    ("csv:cdnow", ("cdnow/CDNOW_sample.txt", "CDNOW_sample.txt")),
)
"""Format, and where in a folder of data sets the file is looked for."""
BATCH = 1000
NOW = datetime(2026, 7, 1, tzinfo=UTC)
CORRECTED_ONE_IN = 40


class Equal(NamedTuple):
    """What a trial found."""

    events: int
    rows: int
    live_s: float  # recording and projecting together
    rebuilt_s: float
    from_zero_s: float
    rebuilt_differs: list[str]  # tables that differ from live
    from_zero_differs: list[str]


def run_equal(
    url: str,
    folder: Path,
    datasets: Path,
    *,
    most: int | None = None,
    persons: int = 1200,
    rebuild_batch: int = 10_000,
    zero_batch: int = 997,
    progress: Callable[[str], None] | None = None,
) -> Equal:
    """Record the histories while a projector follows, then build the read models twice more and compare digests.

    Args:
        url: a migrated database of its own.
        folder: where its key file is made.
        datasets: the folder of the data sets.
        most: at most so many rows of each file.
        persons: of the demonstration history.
    """
    say = progress or (lambda _text: None)
    started = time.monotonic()
    events = asyncio.run(_recorded(url, folder, datasets, most, persons, say))
    with psycopg.connect(url, autocommit=True) as conn:
        live = digests(conn)
    live_s, started = time.monotonic() - started, time.monotonic()
    say(f"rebuilding beside, {rebuild_batch:,} events a batch")
    rebuilt = _rebuilt(url, rebuild_batch)
    rebuilt_s, started = time.monotonic() - started, time.monotonic()
    say(f"building from zero, {zero_batch:,} events a batch")
    zero = from_zero(url, batch=zero_batch)
    return Equal(
        events=events,
        rows=sum(count for count, _ in live.values()),
        live_s=round(live_s, 1),
        rebuilt_s=round(rebuilt_s, 1),
        from_zero_s=round(time.monotonic() - started, 1),
        rebuilt_differs=differing(live, rebuilt),
        from_zero_differs=differing(live, zero),
    )


async def _recorded(
    url: str, folder: Path, datasets: Path, most: int | None, persons: int, say: Callable[[str], None]
) -> int:
    async with core(Settings.load({}, data=folder), url) as parts:
        following = Following(url)
        try:
            for number, (format_name, places) in enumerate(FILES):
                path = next((datasets / place for place in places if (datasets / place).is_file()), None)
                if path is None:
                    continue
                say(f"importing {path.name}")
                await _imported(parts, path, format_name, _import_id(number), most)
            say("telling the demonstration history")
            told: list[dict[str, Any]] = []
            for event in demo_events(now=NOW, persons=persons):
                told.append(event)
                if len(told) % BATCH == 0:
                    await _accepted(parts, told[-BATCH:])
            await _accepted(parts, told[len(told) // BATCH * BATCH :])
            say("correcting, and taking an import back")
            await _accepted(parts, list(_corrections(told)))
            await _accepted(parts, [_retraction()])
            return await parts.feed.head()
        finally:
            await asyncio.to_thread(following.end)


def _import_id(number: int) -> str:
    return str(UUID(int=0xE9 << 120 | 4 << 76 | 2 << 62 | number))


async def _imported(parts: Core, path: Path, format_name: str, import_id: str, most: int | None) -> None:
    await _accepted(
        parts,
        [
            {
                "id": import_id,
                "source": "touchlog/imports",
                "type": "import.started",
                "data": {
                    "import_id": import_id,
                    "format": format_name,
                    "files": [path.name],
                    "actor": "soak",
                },
            }
        ],
    )
    with open_file(path) as file:
        rows: Iterator[Row] = (
            row for row in FORMATS[format_name].read(file, Options()) if isinstance(row, Row)
        )
        if most is not None:
            rows = islice(rows, most)
        while batch := list(islice(rows, BATCH)):
            answer = await parts.ingest.accept(
                [row.item for row in batch], OFFICE, way_in=format_name, import_id=import_id, keep=False
            )
            assert answer.rejected == 0, answer.results
        file.stop()


def _corrections(told: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    correctable = [
        e for e in told if e["type"].startswith(("call.", "email.", "order.", "web.", "chat.", "case."))
    ]
    for number, event in enumerate(correctable[::CORRECTED_ONE_IN]):
        patch = (
            {"channel": "store"},
            {"time": "2026-01-31T12:00:00Z"},
            {"subject": f"email:moved{number % 50}@example.com"},
            {"data": {"case_id": f"moved-{number % 50}"}},
        )[number % 4]
        yield {
            "id": f"correction-{number}",
            "source": "soak/office",
            "type": "correction.recorded",
            "time": "2026-06-01T12:00:00Z",
            "data": {"of": {"source": event["source"], "id": event["id"]}, "patch": patch},
        }


def _retraction() -> dict[str, Any]:
    import_id = _import_id(len(FILES) - 1)
    return {
        "id": f"retraction-{import_id}",
        "source": "touchlog/imports",
        "type": "import.retracted",
        "data": {"import_id": import_id, "reason": "soak", "event_count": 0, "actor": "soak"},
    }


async def _accepted(parts: Core, events: list[dict[str, Any]]) -> None:
    for start in range(0, len(events), BATCH):
        answer = await parts.ingest.accept(
            [orjson.dumps({"specversion": "1.0", **event}) for event in events[start : start + BATCH]],
            OFFICE,
            way_in="soak",
            keep=False,
        )
        wrong = next((r for r in answer.results if r.status != "recorded"), None)
        assert wrong is None, wrong


def _rebuilt(url: str, batch: int) -> dict[str, Digest]:
    """Rebuild every read model beside the one that answers, as `touchlog rebuild` does, and give the digests."""
    reader = connect_log(url, pool=2, role=APP_ROLE)
    schemas = {}
    try:
        for name in PROJECTIONS:
            rebuild = Rebuild(url, reader, name, batch=batch)
            try:
                rebuild.build()
                schemas[name] = rebuild.schema
            finally:
                rebuild.close()
    finally:
        reader.datastore.close()
    with psycopg.connect(url, autocommit=True) as conn:
        return digests(conn, schemas=schemas)
