"""consent: how quickly messages are judged, one late withdrawal is followed, recipients are checked and a person is shown."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg
import uvloop

from adapters.consent.consents import Asked, Consents
from bin.bench.load import PRINCIPAL, described, parts_of
from bin.bench.report import Report
from bin.bench.scratch import Scratch
from bin.compose import Core, project_once
from bin.processes.judging import judge_of
from domain.entry import moment

OFTEN = 10_000
"""Messages to the one person whose withdrawal comes late."""
RECIPIENTS = 10_000
SHOWN = 500
BATCH = 1_000
IN_FLIGHT = 4
_MODELS = ("consent", "identities")
_PURPOSE, _CHANNEL = "marketing.news", "email"


def bench(report: Report, scratch: Scratch) -> None:
    """Measure `consent`."""
    url = scratch.database()

    async def measured() -> None:
        async with parts_of(scratch.folder, url) as parts:
            await _fill(report, parts)
            report.say("consent: projecting")
            await asyncio.to_thread(project_once, url, _MODELS)
            with psycopg.connect(url, autocommit=True) as conn:
                conn.execute("ANALYZE read.consent_facts, read.consent_messages")
            await _judged(report, parts)
            for number in range(report.rounds):
                report.say(f"consent: round {number + 1} of {report.rounds}")
                await _withdrawn(report, parts, number)
                await _checked(report, parts, number)
                await _shown(report, parts, number)

    uvloop.run(measured())
    report.ratio("consent.judgements_over_touched", "judgements_of_a_late_fact", "messages_touched")
    report.load = described(2 * report.events + OFTEN, 0, messages_of_one_person=OFTEN)
    report.load |= {"distinct_subjects": report.events, "stored_bytes_per_event": None, "sealed_fields": 0}
    report.notes += [
        (
            f"{report.events:,} consents of as many persons and a message to each, recorded by the whole way in, and {OFTEN:,} more messages "
            "to one of them. judged_per_s: from the read models to the committed verdicts, once for all of them."
        ),
        (
            "late_fact_s: the judge, from a withdrawal (or its invalidation) that the read model has seen, until the "
            f"{OFTEN:,} verdicts that it changes are committed. check_ms: {RECIPIENTS:,} recipients in one call. show_…: one person, purpose, channel and "
            "contact point with at and known_at. In one process beside the database, without HTTP."
        ),
    ]


def _fact(person: int, at: datetime, id_: str, type_: str, **data: Any) -> bytes:
    ref = f"email:person{person:07}@example.com"
    told = {"contact": ref, "purpose": _PURPOSE, "channel": _CHANNEL} | data
    event = {"specversion": "1.0", "id": id_, "source": "bench/consents", "type": type_}
    return orjson.dumps(event | {"time": moment(at), "subject": ref, "data": told})


def _given(number: int, at: datetime) -> bytes:
    notice = {"id": "privacy", "version": "3", "language": "en", "sha256": "0" * 64}
    return _fact(number, at, f"g{number}", "consent.given", notice=notice, method="form", jurisdiction="DE")


def _sent(number: int, person: int) -> bytes:
    ref = f"email:person{person:07}@example.com"
    event = {"specversion": "1.0", "id": f"m{number}", "source": "bench/mail", "type": "email.sent"}
    event |= {"time": moment(datetime.now(UTC)), "subject": ref, "purpose": _PURPOSE}
    return orjson.dumps(event | {"data": {"contact": ref, "campaign_id": f"c{number % 20}"}})


async def _fill(report: Report, parts: Core) -> None:
    count = report.events
    begun = datetime.now(UTC) - timedelta(days=30)
    report.say(f"consent: recording {count:,} consents and {count + OFTEN:,} messages by the whole way in")
    await _recorded(parts, count, lambda n: _given(n, begun))
    await _recorded(parts, count + OFTEN, lambda n: _sent(n, n if n < count else 0))


async def _recorded(parts: Core, count: int, made: Callable[[int], bytes]) -> None:
    starts = iter(range(0, count, BATCH))

    async def lane() -> None:
        for start in starts:
            events = [made(number) for number in range(start, min(start + BATCH, count))]
            answer = await parts.ingest.accept(events, PRINCIPAL, way_in="http")
            if answer.recorded != len(events):
                raise AssertionError(f"{answer.recorded} of {len(events)} events were recorded.")

    await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))


async def _judged(report: Report, parts: Core) -> None:
    report.say("consent: judging")
    judge = judge_of(parts)
    started = time.perf_counter()
    await judge.catch_up()
    report.figure("judged_per_s", (report.events + OFTEN) / (time.perf_counter() - started))
    if judge.recorded != report.events + OFTEN:
        raise AssertionError(f"{judge.recorded} verdicts were recorded.")


async def _withdrawn(report: Report, parts: Core, number: int) -> None:
    """A withdrawal of weeks ago comes in, or it turns out that there was none."""
    at = datetime.now(UTC) - timedelta(days=10)
    told = _fact(0, at, f"w{number}", "consent.withdrawn")
    if number % 2:
        of = {"source": "bench/consents", "id": f"w{number - 1}"}
        told = _fact(0, at, f"i{number}", "consent.invalidated", of=of)
    await asyncio.to_thread(project_once, parts.database_url, _MODELS)
    judge = judge_of(parts)
    await judge.catch_up()  # the verdicts of before are no work
    before = judge.judged
    await parts.ingest.accept([told], PRINCIPAL, way_in="http")
    await asyncio.to_thread(project_once, parts.database_url, _MODELS)
    started = time.perf_counter()
    await judge.catch_up()
    report.figure("late_fact_s", time.perf_counter() - started)
    report.figure("judgements_of_a_late_fact", judge.judged - before)
    report.figure("messages_touched", OFTEN + 1)


async def _checked(report: Report, parts: Core, number: int) -> None:
    chance = random.Random(number)  # noqa: S311 - a load, not a secret
    consents = Consents(parts.pool, parts.subjects, parts.histories)
    persons = chance.sample(range(1, report.events), min(RECIPIENTS, report.events - 1))
    asked = [
        Asked(contact=f"email:person{p:07}@example.com", purpose=_PURPOSE, channel=_CHANNEL) for p in persons
    ]
    started = time.perf_counter()
    found = await consents.check(asked)
    report.figure("check_ms", (time.perf_counter() - started) * 1000)
    if found.allowed_count != len(asked):
        raise AssertionError(f"{found.refused_count} of {len(asked)} recipients were refused.")


async def _shown(report: Report, parts: Core, number: int) -> None:
    chance = random.Random(1000 + number)  # noqa: S311
    consents = Consents(parts.pool, parts.subjects, parts.histories)
    known_at = await parts.histories.moments.seen(_MODELS)
    times = []
    for _ in range(max(20, SHOWN // report.rounds)):
        ref = f"email:person{chance.randrange(1, report.events):07}@example.com"
        at = datetime.now(UTC)
        started = time.perf_counter()
        found = await consents.person(
            ref, purpose=_PURPOSE, channel=_CHANNEL, contact=ref, at=at, known_at=known_at
        )
        times.append((time.perf_counter() - started) * 1000)
        if not found.answers[0]["valid"]:
            raise AssertionError("A consent that was given does not hold.")
    times.sort()
    report.figure("show_p50_ms", times[len(times) // 2])
    report.figure("show_p99_ms", times[len(times) * 99 // 100])
