"""replay: how fast history comes out of the log, in order and decoded."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import psycopg
import uvloop
from eventsourcing.persistence import StoredEvent

from adapters.postgres.event_log import LogRecorder, connect_log
from bin.bench.append import library_recorder
from bin.bench.command import run_command
from bin.bench.load import data_of, described, parts_of, templates
from bin.bench.report import Report
from bin.bench.scratch import Scratch
from domain.entry import recorded

ROUND_EVENTS = 200_000
LIBRARY_EVENTS = 40_000
PAGE = 5_000
LIBRARY_PAGE = 1_000


def bench(report: Report, scratch: Scratch) -> None:
    """Measure `replay`."""
    url, library_url = scratch.database(), scratch.database(migrated=False)

    async def prepared() -> Any:
        async with parts_of(scratch.folder, url) as parts:
            return await templates(parts)

    made = uvloop.run(prepared())
    log, library = connect_log(url, pool=4, role="touchlog_app"), library_recorder(library_url)
    events = report.events // (2 * PAGE) * 2 * PAGE
    report.say(f"replay: filling the log with {events:,} events")
    with ThreadPoolExecutor(2) as threads:
        for _ in range(0, events, 2 * PAGE):
            list(threads.map(log.append, made.batches(2, PAGE)))
    for batch in made.batches(LIBRARY_EVENTS // 200, 200):
        library.insert_events([StoredEvent(UUID(bytes=i.stream), 1, i.type, i.body) for i in batch])
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE touchpoint_log.events")
        _ours(log, events, decode=False)  # into memory
        for number in range(report.rounds):
            report.say(f"replay: round {number + 1} of {report.rounds}")
            report.baseline("library", _library(library))
            report.figure("read_and_decoded", _ours(log, events, decode=True))
            report.figure("read", _ours(log, events, decode=False))
            report.baseline("copy_out", _copied_out(conn, min(events, ROUND_EVENTS)))
            for form, output in (("jsonl", "one.jsonl"), ("parquet", "columns")):
                _replayed(report, scratch, url, form, scratch.folder / output, events)
            report.baseline("copy_out_whole", _copied_out(conn, events))
    log.datastore.close()
    library.datastore.close()
    report.load = described(events, made.stored_bytes, library_events=LIBRARY_EVENTS)
    report.ratio("replay.over_library", "read_and_decoded", "library")
    report.ratio("replay.read_over_copy_out", "read", "copy_out")
    report.ratio("replay.jsonl_over_copy", "jsonl", "copy_out_whole")
    report.ratio("replay.parquet_over_copy", "parquet", "copy_out_whole")
    report.ratio("replay.jsonl_over_library", "jsonl", "library")
    report.notes += [
        f"read_and_decoded: pages of {PAGE:,} behind the last position, each body and its data decoded (LogRecorder.bodies).",
        f"library: select_notifications of the library's recorder, {LIBRARY_PAGE:,} at a time, and orjson, on the same bodies.",
        f"copy_out: binary COPY of the same columns to the client, nothing decoded, {ROUND_EVENTS:,} events. Everything is in memory.",
        (
            "jsonl, parquet: `touchlog replay` in a process of its own, the whole log decoded, corrections looked for, written to a file "
            "(CloudEvents JSON lines) or a folder (a file per type with typed columns); peak memory is that process's."
        ),
        (
            "copy_out_whole: COPY (SELECT position, recorded_at, body … ORDER BY position) TO STDOUT (FORMAT binary) of the same events, read by "
            "psycopg message by message and thrown away."
        ),
    ]


def _ours(log: LogRecorder, events: int, *, decode: bool) -> float:
    wanted = min(events, ROUND_EVENTS)

    def read() -> int:
        last = count = 0
        while count < wanted:
            rows = log.bodies(last, PAGE)
            if decode:
                for row in rows:
                    _ = recorded(*row).event.data
            last, count = rows[-1][0], count + len(rows)
        return count

    return _rate(read)


def _library(recorder: Any) -> float:
    def read() -> int:
        last = count = 0
        while rows := recorder.select_notifications(last, LIBRARY_PAGE, inclusive_of_start=False):
            for row in rows:
                orjson.loads(row.state)
            last, count = rows[-1].id, count + len(rows)
        return count

    return _rate(read)


def _replayed(report: Report, scratch: Scratch, url: str, form: str, output: Path, events: int) -> None:
    """The command as people run it, the whole log to files."""
    ran = run_command(
        "replay",
        "--format",
        form,
        "-o",
        output,
        "--json",
        data=data_of(scratch.folder, url),
        database_url=url,
    )
    done = orjson.loads(ran.said)
    assert done["events"] == events, done
    report.figure(form, events / done["seconds"])
    report.figure(f"{form}_peak_memory_mb", ran.peak_mb)
    shutil.rmtree(output) if output.is_dir() else output.unlink()


def _copied_out(conn: psycopg.Connection[Any], wanted: int) -> float:
    def read() -> int:
        statement = (
            f"COPY (SELECT position, recorded_at, body FROM touchpoint_log.events WHERE position <= {wanted} "  # noqa: S608 - a number of ours
            "ORDER BY position) TO STDOUT (FORMAT binary)"
        )
        with conn.cursor() as curs, curs.copy(statement.encode()) as copy:
            for _ in copy:
                pass
        return wanted

    return _rate(read)


def _rate(read: Callable[[], int]) -> float:
    started = time.perf_counter()
    count = read()
    return count / (time.perf_counter() - started)
