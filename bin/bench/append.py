"""append: how fast events become durable, by the recorder in batches and by callers with one event each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import uvloop
from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresFactory
from eventsourcing.utils import Environment
from psycopg.conninfo import conninfo_to_dict

from adapters.postgres.event_log import Item, LogRecorder, connect_log
from adapters.postgres.writer import Writer
from bin import memory
from bin.bench.load import (
    PRINCIPAL,
    Templates,
    copy_rows,
    described,
    know_persons,
    make_baseline_tables,
    packed_batches,
    parts_of,
    payloads,
    templates,
)
from bin.bench.processes import Spawned, accepting, appending, called
from bin.bench.report import Report
from bin.bench.scratch import Scratch, fdatasyncs_per_s
from bin.compose import Core

WARM_EVENTS = 150_000
"""Written after the last checkpoint before anything warm is measured: by then most pages went to the log whole."""
CELLS = {1: 400, 10: 3_000, 100: 15_000, 1000: 40_000}
"""Batch size: events a round."""
CALLERS = {1: 1_000, 16: 5_000, 256: 20_000, 512: 20_000}
"""Callers: events a round."""
TOLD_BY_TWO = 256
"""From so many callers on they are measured in two processes too."""
LIBRARY_BATCH = 200  # beyond it the library's recorder hangs (reference/performance.md, F1)
WRITER_PROCESSES = 4
ACCEPTING_PROCESSES = 2
"""As `serve --workers 2`."""
FILL_BATCH = 5_000

T = TypeVar("T")


def bench(report: Report, scratch: Scratch) -> None:
    """Measure `append`."""
    memory.settle()  # as the product's processes are that do this; the baselines gain as much
    url = scratch.database()
    make_baseline_tables(url)
    library_url = scratch.database(migrated=False)
    report.say("append: preparing events")
    with ExitStack() as undo:
        runner = undo.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))
        opened = AsyncExitStack()
        parts = runner.run(opened.enter_async_context(parts_of(scratch.folder, url)))
        undo.callback(lambda: runner.run(opened.aclose()))
        made = runner.run(templates(parts))
        trial = _Trial(report, scratch, url, library_url, made, runner, parts)
        undo.callback(trial.close)
        trial.warm_up()
        for number in range(report.rounds):
            report.say(f"append: round {number + 1} of {report.rounds}")
            trial.round()
        for number in range(report.rounds):
            report.say(f"append: right after a checkpoint, {number + 1} of {report.rounds}")
            trial.round_after_checkpoint()
        trial.full()
        rows = trial.rows()
    report.load = described(rows, made.stored_bytes)
    for name, over, under in (
        ("append.b1000_over_copy", "b1000", "copy"),
        ("append.b1000_over_copy_packed_before", "b1000", "copy_packed_before"),
        ("append.two_in_flight_over_copy", "two_in_flight", "copy"),
        ("append.c16_over_library", "c16", "library_c16"),
        ("append.c16_over_fdatasync", "c16", "fdatasync_per_s"),
        ("append.c16_full_over_library", "c16_full", "library_c16"),
        ("append.c16_full_over_fdatasync", "c16_full", "fdatasync_per_s"),
        ("append.c256_over_b1000", "c256", "b1000"),
        ("append.c256_over_copy", "c256", "copy"),
        ("append.c256_full_over_copy", "c256_full", "copy"),
        ("append.c256_full_two_processes_over_copy", "c256_full_two_processes", "copy"),
        ("append.four_processes_over_copy", "four_processes_b1000", "copy"),
        ("append.four_processes_b100_over_copy", "four_processes_b100", "copy"),
        ("append.four_processes_b1_over_copy", "four_processes_b1", "copy"),
        ("append.b1000_over_copy_after_checkpoint", "b1000_after_checkpoint", "copy_after_checkpoint"),
        ("append.full_over_empty", "b1000_full", "b1000"),
    ):
        report.ratio(name, over, under)
    report.notes += [
        (
            "copy: binary COPY packed by struct, one per 1,000 rows and table, into an events and a keys table of the log's "
            "shape and indexes, both in one transaction (one wait for the disk); packing is inside the time, as ours is. "
            "copy_packed_before leaves packing out."
        ),
        (
            "b1 to b1000: LogRecorder.append, one call at a time, bodies prepared before. c1 to c512: so many asyncio callers "
            "with one event each through the group-commit writer, bodies prepared before, as the library's are. c1_full to "
            "c512_full: the same through Ingest.accept (reading, checking, subjects, sealing, group commit), one process; "
            "_two_processes: the same callers shared by two processes, as serve --workers 2 has them."
        ),
        (
            "library: PostgresApplicationRecorder of eventsourcing at its defaults, which tells no repeats; batches of "
            f"{LIBRARY_BATCH}; library_c16 is 16 threads."
        ),
        (
            f"warm: {WARM_EVENTS:,} events and more since the last checkpoint; after_checkpoint: the first {CELLS[1000]:,} "
            "behind one."
        ),
        "fdatasync_per_s: 8 kB written and synced, one after the other, on the disk of the database.",
    ]


class _Trial:
    """All that the rounds share."""

    def __init__(
        self,
        report: Report,
        scratch: Scratch,
        url: str,
        library_url: str,
        made: Templates,
        runner: asyncio.Runner,
        parts: Core,
    ) -> None:
        self.report = report
        self.scratch = scratch
        self.url = url
        self.made = made
        self.runner = runner
        self.parts = parts
        self.log: LogRecorder = connect_log(url, pool=2, role="touchlog_app")
        self.library = library_recorder(library_url)
        self.copying = psycopg.connect(url, autocommit=True)
        self.copied = 1
        self.called = 0
        self.writers = [Spawned(appending, url, made.another()) for _ in range(WRITER_PROCESSES)]
        self.accepters = [Spawned(accepting, scratch.folder, url) for _ in range(ACCEPTING_PROCESSES)]

    def close(self) -> None:
        """Let go of processes and connections."""
        for each in (*self.writers, *self.accepters):
            each.close()
        self.log.datastore.close()
        self.library.datastore.close()
        self.copying.close()

    def rows(self) -> int:
        """How many events the log holds."""
        return self.log.head().position

    def warm_up(self) -> None:
        """Fill what is empty, and let pages go to the write-ahead log whole."""
        self.report.say(f"append: warming up with {WARM_EVENTS:,} events each")
        self.scratch.checkpoint()
        for _ in range(WARM_EVENTS // 10_000):
            self._append(1000, 10_000)
            self._copy(10_000)
        self.runner.run(know_persons(self.parts))
        for size in (1, 16):
            self._write(size, 500)
            self._call(size, 500)
        self._library(LIBRARY_BATCH, 400)
        self._processes(100, 2_000)
        self._call_two(256, 2_000)

    def round(self) -> None:
        """Measure every cell once, ours and the baselines in turns."""
        report = self.report
        report.baseline("fdatasync_per_s", fdatasyncs_per_s(self.scratch.folder))
        report.baseline("copy", self._copy(CELLS[1000]))
        report.figure("b1000", self._append(1000, CELLS[1000]))
        report.figure("two_in_flight", self._two_in_flight(CELLS[1000]))
        report.baseline("copy_packed_before", self._copy(CELLS[1000], packed_before=True))
        for size in (100, 10, 1):
            report.figure(f"b{size}", self._append(size, CELLS[size]))
        for callers, events in CALLERS.items():
            cells = [(f"c{callers}", self._write), (f"c{callers}_full", self._call)]
            if callers >= TOLD_BY_TWO:
                cells.append((f"c{callers}_full_two_processes", self._call_two))
            for name, call in cells:
                rate, latencies = call(callers, events)
                report.figure(name, rate)
                for part in (50, 99):
                    place = min(len(latencies) - 1, len(latencies) * part // 100)
                    report.figure(f"{name}_p{part}_ms", latencies[place] * 1000)
        report.baseline("library_b1", self._library(1, 150))
        report.baseline(f"library_b{LIBRARY_BATCH}", self._library(LIBRARY_BATCH, 2_000))
        report.baseline("library_c16", self._library_callers(16, 240))
        for size, events in ((1000, 20_000), (100, 8_000), (1, 400)):
            report.figure(f"four_processes_b{size}", self._processes(size, events))

    def round_after_checkpoint(self) -> None:
        """Measure both behind a checkpoint each."""
        self.scratch.checkpoint()
        self.report.figure("b1000_after_checkpoint", self._append(1000, CELLS[1000]))
        self.scratch.checkpoint()
        self.report.baseline("copy_after_checkpoint", self._copy(CELLS[1000]))

    def full(self) -> None:
        """Fill the log through the append function, and measure again."""
        wanted = self.report.events - self.rows()
        if wanted > 0:
            self.report.say(f"append: filling the log to {self.report.events:,} events")
            with ThreadPoolExecutor(2) as threads:
                for _ in range(0, wanted, 2 * FILL_BATCH):
                    list(threads.map(self.log.append, self.made.batches(2, FILL_BATCH)))
        for _ in range(self.report.rounds):
            self.report.figure("b1000_full", self._append(1000, CELLS[1000]))

    # ---- cells ----------------------------------------------------------------------------------------

    def _append(self, size: int, events: int) -> float:
        batches = self.made.batches(events // size, size)
        return _rate(events, lambda: [self.log.append(batch) for batch in batches])

    def _copy(self, events: int, *, packed_before: bool = False) -> float:
        streams: Any = packed_batches(self.made.batches(events // 1000, 1000), self.copied)
        self.copied += events
        if packed_before:
            streams = list(streams)

        def copy() -> None:
            for each in streams:
                copy_rows(self.copying, each)

        return _rate(events, copy)

    def _two_in_flight(self, events: int) -> float:
        batches = self.made.batches(events // 1000, 1000)

        async def write() -> float:
            writer = Writer(self.url, group=1000, in_flight=2)
            await writer.append(self.made.items(1000))
            await asyncio.gather(writer.append(self.made.items(1000)), writer.append(self.made.items(1000)))
            turns = iter(batches)

            async def caller() -> None:
                for batch in turns:
                    await writer.append(batch)

            started = time.perf_counter()
            await asyncio.gather(*(caller() for _ in range(3)))
            took = time.perf_counter() - started
            await writer.close()
            return events / took

        return self.runner.run(write())

    def _write(self, callers: int, events: int) -> tuple[float, list[float]]:
        """(events a second, sorted latencies in seconds) of single prepared events by the group-commit writer."""

        async def one(item: Item) -> bool:
            (answer,) = await self.parts.writer.append([item])
            return answer.status == "recorded"

        return self._callers(callers, self.made.items(events), one)

    def _call(self, callers: int, events: int) -> tuple[float, list[float]]:
        """The same of single events by the whole way in."""
        raw = payloads(self.called, events)
        self.called += events

        async def one(item: bytes) -> bool:
            return (await self.parts.ingest.accept([item], PRINCIPAL, way_in="http")).recorded == 1

        return self._callers(callers, raw, one)

    def _callers(
        self, callers: int, items: Sequence[T], one: Callable[[T], Awaitable[bool]]
    ) -> tuple[float, list[float]]:
        started = time.perf_counter()
        latencies = self.runner.run(called(callers, items, one))
        return len(items) / (time.perf_counter() - started), sorted(latencies)

    def _call_two(self, callers: int, events: int) -> tuple[float, list[float]]:
        """The whole way in again, the callers shared by two processes."""
        share = events // ACCEPTING_PROCESSES
        for process in self.accepters:
            process.prepare(callers // ACCEPTING_PROCESSES, self.called, share)
            self.called += share
        started = time.perf_counter()
        for process in self.accepters:
            process.go()
        latencies = [latency for process in self.accepters for latency in process.finished()]
        return len(latencies) / (time.perf_counter() - started), sorted(latencies)

    def _library(self, size: int, events: int) -> float:
        batches = [_stored(self.made.items(size)) for _ in range(events // size)]
        return _rate(events, lambda: [self.library.insert_events(batch) for batch in batches])

    def _library_callers(self, callers: int, events: int) -> float:
        batches = [_stored(self.made.items(1)) for _ in range(events)]
        with ThreadPoolExecutor(callers) as threads:
            return _rate(events, lambda: list(threads.map(self.library.insert_events, batches)))

    def _processes(self, size: int, events: int) -> float:
        before = self.rows()
        for writer in self.writers:
            writer.prepare(size, events // WRITER_PROCESSES // size)
        started = time.perf_counter()
        for writer in self.writers:
            writer.go()
        for writer in self.writers:
            writer.finished()
        took = time.perf_counter() - started
        return (self.rows() - before) / took


def _stored(items: Sequence[Item]) -> list[StoredEvent]:
    return [StoredEvent(UUID(bytes=item.stream), item.version, item.type, item.body) for item in items]


def _rate(events: int, work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return events / (time.perf_counter() - started)


def library_recorder(url: str) -> Any:
    info = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    env = {
        "POSTGRES_DBNAME": info["dbname"],
        "POSTGRES_HOST": info["host"],
        "POSTGRES_PORT": info.get("port", "5432"),
        "POSTGRES_USER": info["user"],
        "POSTGRES_PASSWORD": info.get("password", ""),
        "POSTGRES_ORIGINATOR_ID_TYPE": "uuid",
    }
    return PostgresFactory(Environment("", env)).application_recorder()
