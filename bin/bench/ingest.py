"""ingest: HTTP to durable, all steps, through a real `serve` whose projectors keep up beside it."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import uvloop

from bin.bench.load import (
    copy_rows,
    described,
    know_persons,
    know_users,
    make_baseline_tables,
    packed_batches,
    parts_of,
    templates,
)
from bin.bench.report import Report
from bin.bench.scratch import Scratch, make_database
from bin.bench.serving import Load, Serving

BATCH = 100
CONNECTIONS = 16
ROUND_EVENTS = 40_000
NEW_SUBJECTS_ROUND_EVENTS = 8_000
WARM_EVENTS = 100_000


def bench(report: Report, scratch: Scratch) -> None:
    """Measure `ingest`."""
    load = Load()
    try:
        report.say("ingest: starting serve")
        with Serving(scratch.folder / "served") as serving:
            _measure(report, scratch, serving, load)
    finally:
        load.close()
    report.ratio("ingest.http_over_copy", "http", "copy")
    report.ratio("ingest.new_subjects_over_copy", "http_new_subjects", "copy")
    report.ratio("ingest.segment_over_http", "segment", "http")
    report.notes += [
        (
            f"http: a load process posts batches of {BATCH} events on {CONNECTIONS} connections to a real serve (one HTTP process, "
            "projectors and relay running); the clock stops at the last answer, each of which leaves after its commit. "
            "Requests are made before; all processes share this machine's cores."
        ),
        "copy: as in append, on the same PostgreSQL, while nothing else runs.",
        (
            "lag_positions: histories and identities behind the log at the last answer; drained_s: until they are at its head. "
            "later_: the same of all read models, those that follow at a lower priority included."
        ),
        (
            f"segment: {BATCH} calls of 600 bytes a request to POST /v1/batch, pages, orders and other tracks; ratio to http of the same "
            "run. Its users are in memory as the addresses of http are: each was met while warming up."
        ),
        "http_new_subjects: every event names two identifiers that were never seen.",
        "The recorded counts of all answers were summed and are equal to the rows of the log.",
    ]


def _measure(report: Report, scratch: Scratch, serving: Serving, load: Load) -> None:
    url = serving.database_url
    baseline_url = make_database(url, "bench_copy")
    make_baseline_tables(baseline_url)

    async def prepared() -> Any:
        async with parts_of(scratch.folder, baseline_url) as parts:
            return await templates(parts)

    made = uvloop.run(prepared())
    posted = recorded = copied = 0

    def post(
        events: int, conn: psycopg.Connection[Any], *, new_subjects: bool = False, segment: bool = False
    ) -> Any:
        nonlocal posted, recorded
        load.prepare(
            serving.order(
                start=posted,
                requests=events // BATCH,
                batch=BATCH,
                connections=CONNECTIONS,
                new_subjects=new_subjects,
                segment=segment,
            )
        )
        posted += events
        done = load.go()
        recorded += done.recorded
        lags = serving.lag_positions(conn, "live"), serving.lag_positions(conn)
        return done, lags, (serving.drained_s(conn, "live"), serving.drained_s(conn))

    with (
        psycopg.connect(url, autocommit=True) as conn,
        psycopg.connect(baseline_url, autocommit=True) as copying,
    ):
        report.say("ingest: making the subjects of 100,000 persons, warming up")
        _make_persons(serving)
        post(WARM_EVENTS, conn)
        post(WARM_EVENTS, conn, segment=True)  # all users are known, too, as all addresses are

        def copy(events: int) -> float:
            nonlocal copied
            batches = made.batches(events // 1000, 1000)
            started = time.perf_counter()
            for streams in packed_batches(batches, copied + 1):
                copy_rows(copying, streams)
            copied += events
            return events / (time.perf_counter() - started)

        copy(WARM_EVENTS)
        for number in range(report.rounds):
            report.say(f"ingest: round {number + 1} of {report.rounds}")
            report.baseline("copy", copy(ROUND_EVENTS))
            done, lags, drained = post(ROUND_EVENTS, conn)
            report.figure("http", done.posted / done.seconds)
            report.figure("http_p50_ms", done.p50_ms)
            report.figure("http_p99_ms", done.p99_ms)
            report.figure("lag_positions", lags[0])
            report.figure("drained_s", drained[0])
            report.figure("later_lag_positions", lags[1])
            report.figure("later_drained_s", sum(drained))
            done, _, _ = post(ROUND_EVENTS, conn, segment=True)
            report.figure("segment", done.posted / done.seconds)
            report.figure("segment_p99_ms", done.p99_ms)
            done, _, _ = post(NEW_SUBJECTS_ROUND_EVENTS, conn, new_subjects=True)
            report.figure("http_new_subjects", done.posted / done.seconds)
        row = conn.execute("SELECT count(*) FROM touchpoint_log.events").fetchone()
    rows = row[0] if row else 0
    if not rows == recorded == posted:
        raise AssertionError(
            f"{posted} events were posted, {recorded} answered as recorded, {rows} stand in the log."
        )
    report.load = described(rows, made.stored_bytes, batch=BATCH, connections=CONNECTIONS)


def _make_persons(serving: Serving) -> None:
    """Make all subjects through a process of our own, as a log of some age has them."""
    from bin.compose import core
    from bin.settings import Settings

    async def make() -> None:
        settings = Settings.load(environ={}, data=serving.data)
        async with core(settings, serving.database_url) as parts:
            await know_persons(parts)
            await know_users(parts)

    uvloop.run(make())
