"""A log with its read models for one test, and the digest by which two builds of them are compared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
import psycopg
from psycopg import sql

import projections  # noqa: F401 - registers every projection
from adapters.intake.ingest import Answer
from adapters.postgres.event_log import connect_log
from adapters.postgres.read_models import ReadModels
from adapters.principal import Principal
from bin.compose import Core, core, project_once
from bin.settings import Settings
from projections.projection import PROJECTIONS
from projections.projector import Projector

OFFICE = Principal("key:test", "admin")
NOON = "2026-03-01T12:00:00Z"


def event(id_: str, **more: Any) -> dict[str, Any]:
    """Give a call from ann at noon, with whatever else is asked for."""
    return {
        "specversion": "1.0",
        "id": id_,
        "source": "test/calls",
        "type": "call.ended",
        "time": NOON,
        "subject": "email:ann@example.com",
        "data": {"duration_s": 60},
    } | more


def correction(id_: str, of: str, patch: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Give a correction of an event of test/calls."""
    source = more.pop("of_source", "test/calls")
    return {
        "specversion": "1.0",
        "id": id_,
        "source": "test/office",
        "type": "correction.recorded",
        "time": "2026-03-02T09:00:00Z",
        "data": {"of": {"source": source, "id": of}, "patch": patch},
    } | more


class House:
    """A log with its read models."""

    def __init__(self, parts: Core) -> None:
        self.core = parts

    async def given(
        self,
        *events: dict[str, Any],
        projected: bool = True,
        import_id: str | None = None,
        by: Principal = OFFICE,
    ) -> Answer:
        """Record events, and let the projector see them."""
        answer = await self.core.ingest.accept(
            [orjson.dumps(e) for e in events], by, way_in="test", import_id=import_id
        )
        assert answer.rejected == 0, answer.results
        if projected:
            await self.projected()
        return answer

    async def projected(self) -> None:
        """Bring the read models up to the head."""
        await asyncio.to_thread(project_once, self.core.database_url)

    async def entries(self, ref: str = "email:ann@example.com", **asked: Any) -> list[dict[str, Any]]:
        """Give the entries of a history, the corrections' own left out."""
        page = await self.core.histories.page(ref, **asked)
        return [e for e in page.entries if e["type"] != "correction.recorded"]

    async def ids(self, ref: str = "email:ann@example.com", **asked: Any) -> list[str]:
        """Give the source ids of the entries of a history, as shown."""
        return [entry["provenance"]["source_id"] for entry in await self.entries(ref, **asked)]

    async def rows(self, question: str, *parameters: Any) -> list[Any]:
        """Ask the database."""
        async with self.core.pool.connection() as conn:
            found: list[Any] = await (await conn.execute(question.encode(), parameters)).fetchall()
        return found

    async def digests(self) -> dict[str, str]:
        """Give a digest of every table of every read model."""
        return await asyncio.to_thread(digests, self.core.database_url)

    async def built_anew(self, *, batch: int = 3) -> dict[str, str]:
        """Empty every read model, project the same log again in batches of *batch*, and give the digests."""
        return await asyncio.to_thread(built_anew, self.core.database_url, batch)


def digests(url: str) -> dict[str, str]:
    """Give a digest of every table of schema `read`."""
    found = {}
    with psycopg.connect(url, autocommit=True) as conn:
        for (name,) in conn.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'read' AND table_type = 'BASE TABLE' ORDER BY 1"
        ).fetchall():
            row = conn.execute(
                sql.SQL(
                    "SELECT count(*) || ' ' || coalesce(md5(string_agg(t::text, E'\\n' ORDER BY t::text)), '') FROM {} t"
                ).format(sql.Identifier("read", name))
            ).fetchone()
            assert row
            found[name] = row[0]
    return found


def built_anew(url: str, batch: int) -> dict[str, str]:
    """Empty every read model, project the same log again, and give the digests."""
    with psycopg.connect(url, autocommit=True) as conn:
        for name in digests(url):
            conn.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier("read", name)))
        conn.execute("TRUNCATE touchlog.projections, touchlog.amendments, touchlog.parked")
    reader = connect_log(url, pool=1, role="touchlog_app")
    store = ReadModels(url)
    projector = Projector(reader, store, [type(p)() for p in PROJECTIONS.values()], batch=batch)
    try:
        assert projector.take_leases()
        projector.catch_up()
        projector.release_leases()
        assert store.parked() == []
    finally:
        store.close()
        reader.datastore.close()
    return digests(url)


def story(test: Callable[[House], Coroutine[Any, Any, None]]) -> Callable[[Path, str], None]:
    """Run an asynchronous test on a house of its own."""

    def run(tmp_path: Path, database_url: str) -> None:
        async def whole() -> None:
            async with core(Settings.load({}, data=tmp_path), database_url) as parts:
                await test(House(parts))

        asyncio.run(whole())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run
