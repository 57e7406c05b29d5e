"""demo: loads the demonstration history into an empty log, with progress."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

import orjson
import structlog

from adapters.principal import Principal
from bin.compose import Core, core
from bin.demo import demo_events, demo_late_facts, demo_mailing
from bin.demo.catalogue import Event
from bin.settings import Settings

__all__ = ["load_demo"]

BATCH = 500

log = structlog.get_logger()


def load_demo(settings: Settings) -> None:
    """Load it when the log is empty; a log that holds something is left alone."""
    asyncio.run(_load(settings))


async def _load(settings: Settings) -> None:
    async with core(settings, settings.database_url or "") as parts:
        if await parts.feed.head():
            log.info("demo_left_out", reason="the log is not empty")
            return
        now = datetime.now(UTC)
        recorded = await _recorded(parts, demo_events(now=now))
        # What came before is known from now on: of this mailing its sender could know. Then letters are opened.
        mailing = list(demo_mailing(now=now, sent_at=datetime.now(UTC)))
        recorded += await _recorded(parts, iter(mailing))
        log.info("demo_mailing_sent", head=await parts.feed.head())
        recorded += await _recorded(parts, demo_late_facts(mailing, now=now))
        print(f"{recorded} events recorded", file=sys.stderr)
        log.info("demo_loaded", events=recorded)


async def _recorded(parts: Core, events: Iterator[Event]) -> int:
    """Record *events* in batches; tells how many were."""
    principal = Principal("demo", "admin")
    recorded = 0
    while batch := [orjson.dumps(event) for event in islice(events, BATCH)]:
        answer = await parts.ingest.accept(batch, principal, way_in="demo", keep=False)
        if answer.rejected or answer.conflicts:
            wrong = next(r for r in answer.results if r.status in ("rejected", "conflict"))
            log.warning("demo_refused", id=wrong.id, problems=[p.detail for p in wrong.errors])
        recorded += answer.recorded
        if recorded % 10_000 < BATCH:
            log.info("demo_loading", events=recorded)
    return recorded
