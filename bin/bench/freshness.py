"""freshness: how long after its acknowledgement an event stands in its person's history, under a steady load."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left

import psycopg

from bin.bench.load import described, payload
from bin.bench.report import Report
from bin.bench.scratch import Scratch
from bin.bench.serving import Load, Serving

RATE_PER_S = 2_000
BATCH = 20


def bench(report: Report, scratch: Scratch) -> None:
    """Measure `freshness`."""
    load = Load()
    try:
        report.say("freshness: starting serve")
        with Serving(scratch.folder / "served") as serving:
            _measure(report, serving, load)
    finally:
        load.close()
    report.notes += [
        (
            f"{RATE_PER_S:,} events a second in batches of {BATCH} over HTTP to a real serve. From the moment the answer has reached the "
            "sender until the history's tracking position, which moves in the transaction that writes the rows, is at or behind the "
            "event; asked every millisecond or so. An event that was there before its answer counts as 0."
        ),
    ]


def _measure(report: Report, serving: Serving, load: Load) -> None:
    seen: list[tuple[float, int]] = []  # (when, position of the history), ascending
    finished = threading.Event()

    def watch() -> None:
        with psycopg.connect(serving.database_url, autocommit=True) as conn:
            while not finished.is_set():
                row = conn.execute(
                    "SELECT position FROM touchlog.projections WHERE name = 'contact_history'", prepare=True
                ).fetchone()
                if row and (not seen or row[0] > seen[-1][1]):
                    seen.append((time.time(), row[0]))
                time.sleep(0.001)

    watching = threading.Thread(target=watch)
    watching.start()
    posted = 0
    try:
        with psycopg.connect(serving.database_url, autocommit=True) as conn:
            for number, seconds in enumerate([3.0, *[report.seconds / report.rounds] * report.rounds]):
                report.say(
                    "freshness: warming up" if not number else f"freshness: round {number} of {report.rounds}"
                )
                requests = int(seconds * RATE_PER_S / BATCH)
                load.prepare(
                    serving.order(start=posted, requests=requests, batch=BATCH, every_s=BATCH / RATE_PER_S)
                )
                posted += requests * BATCH
                done = load.go()
                serving.drained_s(conn)
                if number:
                    _note(report, done.acknowledged, seen)
                    report.figure("posted_per_s", done.posted / done.seconds)
                    report.figure("answer_p50_ms", done.p50_ms)
                    report.figure("answer_p99_ms", done.p99_ms)
    finally:
        finished.set()
        watching.join()
    report.load = described(posted, 0, batch=BATCH, rate_per_s=RATE_PER_S)
    report.load["stored_bytes_per_event"] = None
    assert len(payload(1)) == report.load["bytes_per_event"]


def _note(report: Report, acknowledged: list[tuple[float, int, int]], seen: list[tuple[float, int]]) -> None:
    """Note the spans between answer and sight; an answer's head stands for its events."""
    positions = [position for _, position in seen]
    spans: list[float] = []
    for answered_at, head, events in acknowledged:
        place = bisect_left(positions, head)
        if place < len(seen):
            spans += [max(0.0, seen[place][0] - answered_at)] * events
    spans.sort()
    report.figure("p50_ms", spans[len(spans) // 2] * 1000)
    report.figure("p99_ms", spans[len(spans) * 99 // 100] * 1000)
    report.figure("longest_ms", spans[-1] * 1000)
