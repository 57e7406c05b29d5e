"""rebuild: contact_history built anew and swapped in while events arrive over HTTP and histories are read."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import psycopg
import uvloop
from psycopg import sql

from adapters.answers.moments import READ_MODELS
from adapters.postgres.declared_tables import make_indexes, make_tables
from adapters.postgres.event_log import connect_log
from bin.bench.command import run_command
from bin.bench.load import (
    PERSONS,
    PRINCIPAL,
    described,
    payload,
    payloads,
    person_of,
    template_numbers,
    templates,
)
from bin.bench.project import RUNNER_EVENTS, fill_library, runner_rate
from bin.bench.report import Report
from bin.bench.scratch import Scratch
from bin.bench.serving import Serving
from bin.compose import core
from bin.settings import Settings
from projections.contact_history import TABLE, ContactHistory

ARRIVING_PER_S = 1_000
ARRIVING_BATCH = 20
SENDERS = 4
"""So many clients share the rate: one that waits for an answer does not hold up what the others bring."""
READ_PER_S = 50
READERS = 2
FILL_BATCH = 5_000
PERSONS_READ = 2_000
FIRST_ARRIVING = 10_000_000
"""Number of the first event that arrives over HTTP: a key that nothing before it has."""
CHUNK_BYTES = 1 << 20


def bench(report: Report, scratch: Scratch) -> None:
    """Measure `rebuild`."""
    library_url = scratch.database(migrated=False)
    report.say("rebuild: starting serve")
    with Serving(scratch.folder / "served", read_models=READ_MODELS) as serving:
        made = _fill(report, serving)
        fill_library(
            library_url, [(UUID(bytes=item.stream), item.body) for item in made.items(RUNNER_EVENTS)]
        )
        with psycopg.connect(serving.database_url, autocommit=True) as conn:
            report.say("rebuild: waiting for the read models")
            report.figure("read_models_lag_s", serving.drained_s(conn, within_s=600 + report.events / 1000))
            # What autovacuum would do in the minutes behind such a rush is done before, not while rates are taken.
            report.say("rebuild: vacuuming the log and the histories")
            conn.execute("VACUUM ANALYZE touchpoint_log.events, touchpoint_log.keys, read.contact_history")
            conn.execute("CHECKPOINT")
            traffic = _Traffic(serving)
            for number in range(report.rounds):
                report.say(f"rebuild: round {number + 1} of {report.rounds}")
                _round(report, scratch.folder, serving, conn, traffic, library_url)
            if traffic.failures:
                report.notes.append(f"failed reads, the first: {traffic.failures[0]}")
    report.load = described(
        report.events,
        made.stored_bytes,
        arriving_per_s=ARRIVING_PER_S,
        read_per_s=READ_PER_S,
        runner_events=RUNNER_EVENTS,
    )
    report.ratio("rebuild.over_copy", "rebuild", "copy")
    report.ratio("rebuild.quiet_over_copy_quiet", "rebuild_quiet", "copy_quiet")
    report.ratio("rebuild.over_runner", "rebuild", "runner")
    report.ratio("rebuild.quiet_over_runner_quiet", "rebuild_quiet", "runner_quiet")
    report.notes += [
        (
            f"rebuild: positions/s of `touchlog rebuild contact_history --swap`, from the first read to tables with all indexes, while "
            f"{ARRIVING_PER_S:,} events/s are offered over HTTP by {SENDERS} clients and {READ_PER_S} histories/s are read over HTTP; swap_ms: how long the one "
            "that answers was locked; failed_reads: answers to a history other than 200, through the swap."
        ),
        (
            "copy: the finished rows as packed binary COPY out of a file into an empty table of the same shape, then its indexes, under "
            "the same load; rebuild_quiet, copy_quiet: without it."
        ),
        (
            f"runner: the library's ProjectionRunner as in `bench project`, {RUNNER_EVENTS:,} events, under the same load on a PostgreSQL of its "
            "own; runner_quiet: without it."
        ),
        (
            f"The read models kept up meanwhile are those that histories are read from: {', '.join(READ_MODELS)}. peak_memory_mb: the most of each "
            "process of the rebuild, together."
        ),
    ]


def read_numbers() -> list[int]:
    """Numbers of payloads about persons whom no template names: their histories are read."""
    told = set(template_numbers())
    return [number for number in range(PERSONS_READ * 2) if number not in told][:PERSONS_READ]


def _fill(report: Report, serving: Serving) -> Any:
    """Fill the log; gives what made the events."""
    url = serving.database_url

    async def prepared() -> Any:
        async with core(Settings.load(environ={}, data=serving.data), url) as parts:
            # What is read back must open: events of templates have other ids than they were sealed for.
            whole = [payload(number + more) for number in read_numbers() for more in (0, PERSONS)]
            for start in range(0, len(whole), FILL_BATCH):
                await parts.ingest.accept(whole[start : start + FILL_BATCH], PRINCIPAL, way_in="bench")
            return await templates(parts)

    made = uvloop.run(prepared())
    report.say(f"rebuild: filling the log with {report.events:,} events")
    log = connect_log(url, pool=2, role="touchlog_app")
    left = report.events
    while left > 0:
        log.append(made.items(min(FILL_BATCH, left)))
        left -= FILL_BATCH
    log.datastore.close()
    return made


def _round(
    report: Report,
    folder: Path,
    serving: Serving,
    conn: psycopg.Connection[Any],
    traffic: _Traffic,
    library_url: str,
) -> None:
    with traffic.flowing(report):
        ran = run_command("rebuild", "contact_history", "--swap", "--json", data=serving.data)
        done = orjson.loads(ran.said)
        report.figure("rebuild", done["position"] / done["seconds"])
        report.figure("swap_ms", done["waited_s"] * 1000)
        report.figure("peak_memory_mb", done["peak_memory_mb"])
        report.figure("command_s", ran.seconds)
    run_command("rebuild", "contact_history", "--drop", "retired_contact_history", data=serving.data)
    rows = folder / "rows.copy"
    _spooled(conn, rows)
    with traffic.flowing(None) as posted:
        report.baseline("copy", _copied(serving.database_url, rows))
        report.figure("arrived_beside_copy_per_s", posted())
        report.baseline("runner", runner_rate(library_url))
    serving.drained_s(conn)
    ran = run_command("rebuild", "contact_history", "--json", data=serving.data)
    done = orjson.loads(ran.said)
    report.figure("rebuild_quiet", done["position"] / done["seconds"])
    run_command("rebuild", "contact_history", "--drop", done["schema"], data=serving.data)
    report.baseline("copy_quiet", _copied(serving.database_url, rows))
    report.baseline("runner_quiet", runner_rate(library_url))
    rows.unlink()


def _spooled(conn: psycopg.Connection[Any], file: Path) -> None:
    """Write the finished rows out, packed as COPY wants them."""
    with (
        file.open("wb", buffering=CHUNK_BYTES) as out,
        conn.cursor() as curs,
        curs.copy(
            sql.SQL("COPY {} TO STDOUT (FORMAT binary)").format(sql.Identifier("read", TABLE.name))
        ) as copy,
    ):
        for block in copy:
            out.write(block)


def _copied(url: str, file: Path) -> float:
    """Rows a second of the packed rows into an empty table, its indexes included."""
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("DROP SCHEMA IF EXISTS copied CASCADE")
        conn.execute("CREATE SCHEMA copied")
        make_tables(conn, ContactHistory(), schema="copied", indexed=False)
        started = time.perf_counter()
        with conn.cursor() as curs, file.open("rb") as rows:
            with curs.copy(
                sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(sql.Identifier("copied", TABLE.name))
            ) as copy:
                while block := rows.read(CHUNK_BYTES):
                    copy.write(block)
            count = curs.rowcount
        make_indexes(conn, ContactHistory(), schema="copied")
        took = time.perf_counter() - started
        conn.execute("DROP SCHEMA copied CASCADE")
        return count / took


class _Traffic:
    """Events that arrive and histories that are read, over HTTP, at a steady rate."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._persons = read_numbers()
        self._numbers = itertools.count(FIRST_ARRIVING, ARRIVING_BATCH)
        self._posted = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._reads: list[float] = []
        self._post_failures = 0
        self.failures: list[str] = []

    @contextmanager
    def flowing(self, report: Report | None) -> Iterator[Callable[[], float]]:
        """Let it flow for the length of the block, and tell *report* what became of it.

        Gives what tells how many events a second have arrived so far.
        """
        self._stop.clear()
        self._reads, posted, failed, unposted = [], self._posted, len(self.failures), self._post_failures
        with ThreadPoolExecutor(SENDERS + READERS) as threads:
            every_s = SENDERS * ARRIVING_BATCH / ARRIVING_PER_S
            flows = [threads.submit(self._flow, every_s, self._post) for _ in range(SENDERS)]
            flows += [threads.submit(self._flow, READERS / READ_PER_S, self._read) for _ in range(READERS)]
            started = time.perf_counter()
            try:
                yield lambda: (self._posted - posted) / (time.perf_counter() - started)
            finally:
                self._stop.set()
                took = time.perf_counter() - started
                for flow in flows:
                    flow.result()
        if report is not None:
            times = sorted(self._reads)
            report.figure("arrived_per_s", (self._posted - posted) / took)
            report.figure("failed_posts", self._post_failures - unposted)
            report.figure("reads", len(times))
            report.figure("failed_reads", len(self.failures) - failed)
            report.figure("read_p50_ms", times[len(times) // 2] * 1000)
            report.figure("read_p99_ms", times[len(times) * 99 // 100] * 1000)
            report.figure("read_longest_ms", times[-1] * 1000)

    def _flow(self, every_s: float, once: Callable[[http.client.HTTPConnection, int], None]) -> None:
        """Do *once* at a steady rate; where it falls behind it does not catch up, as separate clients would not."""
        host, port = self._serving.address()
        connection = http.client.HTTPConnection(host, port, timeout=60)
        due, number = time.perf_counter(), 0
        while not self._stop.is_set():
            once(connection, number)
            number += 1
            due = max(due + every_s, time.perf_counter() - 1)
            self._stop.wait(max(0.0, due - time.perf_counter()))
        connection.close()

    def _post(self, connection: http.client.HTTPConnection, _number: int) -> None:
        body = b"[" + b",".join(payloads(next(self._numbers), ARRIVING_BATCH)) + b"]"
        status, _ = self._asked(connection, "POST", "/v1/events", body)
        with self._lock:
            if status == 200:
                self._posted += ARRIVING_BATCH
            else:
                self._post_failures += 1

    def _read(self, connection: http.client.HTTPConnection, number: int) -> None:
        person = person_of(self._persons[number % len(self._persons)])
        started = time.perf_counter()
        path = f"/v1/persons/{person}/history?limit=20"
        status, answer = self._asked(connection, "GET", path, None)
        with self._lock:
            self._reads.append(time.perf_counter() - started)
            if status != 200:
                self.failures.append(f"{status}: {answer[:300]!r}")

    def _asked(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None
    ) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self._serving.key}"}
        if body is not None:
            headers["Content-Type"] = "application/cloudevents-batch+json"
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            with suppress(OSError):
                connection.close()
            return 0, repr(error).encode()
