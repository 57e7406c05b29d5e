"""What tests of replays share: a log for one test, and events of many kinds."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import orjson
import psycopg

from adapters.intake.ingest import Answer
from adapters.principal import Principal
from adapters.replays.replay import Line
from bin.commands.history import catch_up
from bin.commands.replay import Asked, Outcome, run
from bin.compose import Core, core
from bin.settings import Settings
from domain.correction import RETRACTION
from domain.entry import event_id_of

__all__ = ["MIXED", "NOON", "OFFICE", "House", "correction", "event", "house", "line", "story"]

OFFICE = Principal("key:test", "admin")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event(id_: str, **more: Any) -> dict[str, Any]:
    """Give a call from ann at noon, with whatever else is asked for."""
    at = more.pop("at", NOON)
    return {
        "specversion": "1.0",
        "id": id_,
        "source": "test/calls",
        "type": "call.ended",
        "time": at.isoformat().replace("+00:00", "Z"),
        "subject": "email:ann@example.com",
        "data": {"duration_s": 60},
    } | more


def correction(of: str, **patch: Any) -> dict[str, Any]:
    """Give a correction of the event with this id."""
    return event(
        f"correction of {of} at {patch.pop('at', NOON).isoformat()}",
        type="correction.recorded",
        subject=None,
        data={"of": {"source": "test/calls", "id": of}, "patch": patch},
    )


class House:
    """A log, for one test."""

    def __init__(self, parts: Core, folder: Path) -> None:
        self.core = parts
        self.folder = folder

    async def given(self, *events: dict[str, Any], import_id: str | None = None) -> Answer:
        """Record events."""
        bodies = [orjson.dumps({k: v for k, v in e.items() if v is not None}) for e in events]
        answer = await self.core.ingest.accept(bodies, OFFICE, way_in="test", import_id=import_id)
        assert answer.rejected == 0, answer.results
        return answer

    async def given_retraction(self, import_id: str) -> None:
        """Take an import back, as the command will."""
        from adapters.postgres.event_log import Item

        id_ = f"retraction of {import_id}"
        body = {
            "channel": "records", "data": {"import_id": import_id}, "event_id": str(_uuid("touchlog/imports", id_)),
            "id": id_, "occurred_at": "2026-03-02T00:00:00.000000Z", "principal": "key:test",
            "source": "touchlog/imports", "type": RETRACTION, "version": 1,
        }  # fmt: skip
        raw = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        await self.core.writer.append(
            [Item(event_id_of("touchlog/imports", id_), RETRACTION, raw, b"\0" * 16)]
        )

    async def replayed(self, **asked: Any) -> Outcome:
        """Do what the command does."""
        if asked.get("person"):
            await asyncio.to_thread(catch_up, self.core.database_url)
        settings = Settings.load({}, data=self.folder)
        return await run(settings, self.core.database_url, Asked(**asked), lambda *_: None)

    async def bytes_of(self, format_: str = "jsonl", **asked: Any) -> bytes:
        """Replay into a file; gives what stands in it."""
        file = self.folder / ("out.parquet" if format_ == "parquet" else "out")
        await self.replayed(format=format_, output=file, force=True, **asked)
        return file.read_bytes()

    async def events(self, **asked: Any) -> list[dict[str, Any]]:
        """Replay as JSON lines; gives the events."""
        return [json.loads(line) for line in (await self.bytes_of(**asked)).splitlines()]

    async def ids(self, **asked: Any) -> list[str]:
        """Replay as JSON lines; gives the ids at the source."""
        return [one["id"] for one in await self.events(**asked)]

    def records(self) -> list[dict[str, Any]]:
        """Give the records of access, oldest first."""
        with psycopg.connect(self.core.database_url) as conn:
            rows = conn.execute("SELECT body FROM records_log.events ORDER BY position").fetchall()
        return [json.loads(body) for (body,) in rows]


def _uuid(source: str, id_: str) -> Any:
    from uuid import UUID

    return UUID(bytes=event_id_of(source, id_))


@asynccontextmanager
async def house(tmp_path: Path, url: str) -> AsyncIterator[House]:
    """Put the parts together on a database."""
    async with core(Settings.load({}, data=tmp_path), url) as parts:
        yield House(parts, tmp_path)


def story(test: Callable[[House], Coroutine[Any, Any, None]]) -> Callable[[Path, str], None]:
    """Run an asynchronous test on a house of its own."""

    def run_it(tmp_path: Path, database_url: str) -> None:
        async def whole() -> None:
            async with house(tmp_path, database_url) as it:
                await test(it)

        asyncio.run(whole())

    run_it.__name__, run_it.__doc__ = test.__name__, test.__doc__
    return run_it


MIXED = (
    event(
        "call",
        data={"duration_s": 60, "agent": "bob", "summary": "asked about the kettle"},
        traceparent="00-ab-cd-01",
    ),
    event(
        "order",
        type="order.placed",
        identifiers="crm:7,order:9",
        direction="inbound",
        data={
            "order_id": "9",
            "amount_minor": 1290,
            "currency": "EUR",
            "gift": True,
            "lines": [{"sku": "k-1", "quantity": 2}],
        },
    ),
    event('odd, "quoted" id é☎😀/', type="cart.moved", subject=None, data={"anything": [1, {"x": None}]}),
    event("case", type="case.opened", at=NOON + timedelta(days=1), data={"case_id": "c-1"}),
)


def line(**more: Any) -> Line:
    """Give a line, as read from the log."""
    data = more.pop("data", {})
    given: dict[str, Any] = {
        "event_id": "e", "source": "s", "id": "i", "type": "order.placed", "version": 1, "position": 1,
        "occurred_at": "2026-03-01T12:00:00.000000Z", "channel": "shop", "data": msgspec.Raw(orjson.dumps(data)),
    }  # fmt: skip
    return Line(**given | more)
