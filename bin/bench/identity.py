"""identity: how quickly many REFs are resolved and a merge is seen, and what a new identifier on every event costs."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import orjson
import psycopg
import uvloop

from adapters.intake.identity_changes import IdentityChanges
from bin.bench.load import PRINCIPAL, described, know_persons
from bin.bench.report import Report
from bin.bench.scratch import Scratch
from bin.bench.serving import Load, Serving
from bin.compose import Core, core
from bin.settings import Settings

REFS = 1_000
LONG = 10_000
"""Events of each of the two persons that are joined."""
BATCH = 1_000
IN_FLIGHT = 4
ROUND_EVENTS = 20_000
WARM_EVENTS = 100_000


def bench(report: Report, scratch: Scratch) -> None:
    """Measure `identity`."""
    load = Load()
    try:
        report.say("identity: starting serve")
        with Serving(scratch.folder / "served") as serving:
            uvloop.run(_measure(report, serving, load))
    finally:
        load.close()
    report.ratio("identity.new_over_known", "http_new_identifier", "http_known")
    report.ratio("identity.two_new_over_known", "http_two_new_identifiers", "http_known")
    report.notes += [
        (
            f"resolve_1000_ms: {REFS:,} REFs drawn from all identifiers, in one call, by a process that has seen none of them: "
            "read, normalised, looked up, and the person of each as resolved now."
        ),
        (
            f"merge_seen_ms: from the call of the merge of two persons of {LONG:,} events each until a history shows both, through the "
            "projector of a real serve; merge_ms of it is the command itself, which counts the events of both sides first."
        ),
        (
            "http_…: batches of 100 events on 16 connections to the same serve, as bench ingest; new_identifier: every event names one "
            "identifier that was never seen; two_new_identifiers: two, which it links."
        ),
    ]


def _identifiers(person: int) -> list[str]:
    """Three or four identifiers of one person: 1,000,000 of 300,000."""
    found = [f"user:u{person}", f"email:somebody{person}@example.com", f"anonymous:a{person}"]
    return [*found, f"loyalty_card:l{person}"] if person % 3 == 0 else found


def _event(id_: str, refs: list[str]) -> bytes:
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": id_,
        "source": "bench/web",
        "type": "web.signed_in",
        "time": "2026-03-01T12:00:00Z",
        "subject": refs[0],
    }
    if len(refs) > 1:
        event["identifiers"] = ",".join(refs[1:])
    return orjson.dumps(event)


async def _fill(parts: Core, events: list[bytes]) -> None:
    starts = iter(range(0, len(events), BATCH))

    async def lane() -> None:
        for start in starts:
            batch = events[start : start + BATCH]
            answer = await parts.ingest.accept(batch, PRINCIPAL, way_in="http")
            if answer.recorded != len(batch):
                raise AssertionError(f"{answer.recorded} of {len(batch)} events were recorded.")

    await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))


async def _measure(report: Report, serving: Serving, load: Load) -> None:
    persons = report.events
    every = [ref for person in range(persons) for ref in _identifiers(person)]
    settings = Settings.load(environ={}, data=serving.data)
    with psycopg.connect(serving.database_url, autocommit=True) as conn:
        async with core(settings, serving.database_url) as parts:
            report.say(f"identity: recording {len(every):,} identifiers of {persons:,} persons")
            for start in range(0, persons, 50_000):
                await _fill(
                    parts,
                    [_event(f"p{n}", _identifiers(n)) for n in range(start, min(persons, start + 50_000))],
                )
            pairs = [(f"user:long{2 * n}", f"user:long{2 * n + 1}") for n in range(report.rounds)]
            await _fill(
                parts, [_event(f"{ref}-{n}", [ref]) for pair in pairs for ref in pair for n in range(LONG)]
            )
            await know_persons(parts)
            report.say("identity: waiting for the read models")
            await asyncio.to_thread(serving.drained_s, conn)
            conn.execute("ANALYZE")
        report.say("identity: warming up")  # serve comes to know the 100,000 persons of the load
        await asyncio.to_thread(load.prepare, serving.order(start=0, requests=WARM_EVENTS // 100))
        await asyncio.to_thread(load.go)
        await asyncio.to_thread(serving.drained_s, conn)
        chance = random.Random(7)  # noqa: S311 - a load, not a secret
        for number in range(report.rounds):
            report.say(f"identity: round {number + 1} of {report.rounds}")
            async with core(settings, serving.database_url) as parts:
                await parts.histories.identities.persons_of(every[:REFS])  # the connection and its statements
                refs = chance.sample(every, REFS)
                started = time.perf_counter()
                found, _ = await parts.histories.identities.persons_of(refs)
                report.figure("resolve_1000_ms", (time.perf_counter() - started) * 1000)
                if None in found.values():
                    raise AssertionError("An identifier was not found.")
                await _join(report, parts, *pairs[number])
            for name, how in (
                ("http_known", {}),
                ("http_new_identifier", {"new_identifier": True}),
                ("http_two_new_identifiers", {"new_subjects": True}),
            ):
                start = 10_000_000 * (1 + number) + 1_000_000 * len(name)
                order = serving.order(
                    start=start, requests=ROUND_EVENTS // 100, batch=100, connections=16, **how
                )
                await asyncio.to_thread(load.prepare, order)
                done = await asyncio.to_thread(load.go)
                report.figure(name, done.posted / done.seconds)
                await asyncio.to_thread(serving.drained_s, conn)
    report.load = described(persons, 0, identifiers=len(every), events_of_a_long_person=LONG)
    report.load |= {"distinct_subjects": len(every), "stored_bytes_per_event": None}


async def _join(report: Report, parts: Core, a: str, b: str) -> None:
    """Merge two long persons, and look until a history shows both."""
    changes = IdentityChanges(parts.pool, parts.ingest, parts.histories, parts.subjects)
    whose = {(await parts.histories.page(ref, limit=1)).person for ref in (a, b)}
    started = time.perf_counter()
    done = await changes.merge(a, b, PRINCIPAL, reason="a bench")
    report.figure("merge_ms", (time.perf_counter() - started) * 1000)
    while True:
        one, other = [(await parts.histories.page(ref, limit=50)).person for ref in (a, b)]
        if one == other:
            break
    report.figure("merge_seen_ms", (time.perf_counter() - started) * 1000)
    if len(whose) != 2 or done.status != "recorded":
        raise AssertionError("The two were one person before.")
