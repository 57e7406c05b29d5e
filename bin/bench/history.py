"""history: how quickly somebody's last 50 contacts are there, unsealed, out of a full log."""

from __future__ import annotations

import asyncio
import random
import time

import uvloop

from adapters.answers.moments import READ_MODELS
from bin.bench.load import PRINCIPAL, described, parts_of, payloads
from bin.bench.report import Report
from bin.bench.scratch import Scratch
from bin.compose import Core, project_once
from domain.entry import decode_body

ENTRIES = 50
ASKED = 2_000
BATCH = 1_000
IN_FLIGHT = 4


def bench(report: Report, scratch: Scratch) -> None:
    """Measure `history`."""
    url = scratch.database()

    async def fill() -> None:
        async with parts_of(scratch.folder, url) as parts:
            starts = iter(range(0, report.events, BATCH))

            async def lane() -> None:
                for start in starts:
                    answer = await parts.ingest.accept(
                        payloads(start, BATCH, persons=persons), PRINCIPAL, way_in="http"
                    )
                    if answer.recorded != BATCH:
                        raise AssertionError(f"{answer.recorded} of {BATCH} events were recorded.")

            await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))

    persons = max(1, report.events // ENTRIES)
    report.say(f"history: recording {report.events:,} events of {persons:,} persons by the whole way in")
    uvloop.run(fill())
    report.say("history: projecting")
    project_once(url, READ_MODELS)

    async def ask() -> None:
        async with parts_of(scratch.folder, url) as parts:
            chance = random.Random(7)  # noqa: S311 - a load, not a secret
            for number in range(report.rounds):
                report.say(f"history: round {number + 1} of {report.rounds}")
                chosen = [chance.randrange(persons) for _ in range(max(100, ASKED // report.rounds))]
                await _times(parts, chosen)  # into memory
                times = await _statement_times(parts, chosen)
                report.figure("statement_p50_ms", times[len(times) // 2])
                report.figure("statement_p99_ms", times[len(times) * 99 // 100])
                times = await _times(parts, chosen)
                report.figure("p50_ms", times[len(times) // 2])
                report.figure("p99_ms", times[len(times) * 99 // 100])
                report.figure("asked_per_s", 1000 * len(times) / sum(times))

    uvloop.run(ask())
    report.load = described(report.events, 0, entries=ENTRIES)
    report.load |= {"distinct_subjects": persons, "stored_bytes_per_event": None}
    report.notes += [
        (
            f"The newest {ENTRIES} entries of a random person, warm: every person was asked for once before. statement: the one "
            "statement, its rows fetched and decoded. The others, the whole query: identifier to "
            f"subject, person, rows, unsealing and headlines, in one process beside the database; {ASKED:,} persons in all."
        )
    ]


async def _statement_times(parts: Core, persons: list[int]) -> list[float]:
    """The one statement of a history, its rows fetched and their bodies decoded; nothing unsealed."""
    times = []
    for person in persons:
        subject = await parts.histories.identities.subject_of(f"email:person{person:06}@example.com")
        started = time.perf_counter()
        rows = await parts.histories.rows_now(subject, limit=ENTRIES)
        for row in rows:
            decode_body(row[5])
        times.append((time.perf_counter() - started) * 1000)
        if len(rows) < ENTRIES:
            raise AssertionError(f"Person {person} has {len(rows)} entries.")
    return sorted(times)


async def _times(parts: Core, persons: list[int]) -> list[float]:
    times = []
    for person in persons:
        started = time.perf_counter()
        page = await parts.histories.page(f"email:person{person:06}@example.com", limit=ENTRIES)
        times.append((time.perf_counter() - started) * 1000)
        if not page.entries:
            raise AssertionError(f"Person {person} has no history.")
    return sorted(times)
