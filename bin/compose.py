"""Putting the parts together: the only place that knows which part is built from which."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from psycopg_pool import AsyncConnectionPool

import domain.touchpoints  # noqa: F401 - registers every declared type
from adapters.analysis.funnels import Funnels
from adapters.analysis.retentions import Retentions
from adapters.analysis.segments import Segments
from adapters.analysis.snapshots import Snapshots
from adapters.answers.feed import Feed
from adapters.answers.history import Histories
from adapters.intake.ingest import Ingest
from adapters.keys import FINGERPRINT, KeyFile
from adapters.postgres.event_log import connect_log
from adapters.postgres.read_models import ReadModels
from adapters.postgres.reading_pool import ReadingPool
from adapters.postgres.rejected import Rejected
from adapters.postgres.schema import APP_ROLE
from adapters.postgres.subjects import Subjects
from adapters.postgres.writer import Writer
from adapters.rebuilds.runs import connected, set_aside_misread
from adapters.records import Records
from bin import memory
from bin.settings import Settings
from projections.projection import PROJECTIONS

__all__ = ["Core", "act_recorded", "core", "project_once"]


@dataclass(frozen=True)
class Core:
    """What every asynchronous part works with."""

    settings: Settings
    database_url: str
    pool: AsyncConnectionPool[Any]
    keys: KeyFile
    subjects: Subjects
    writer: Writer
    records: Records
    rejected: Rejected
    ingest: Ingest
    histories: Histories
    feed: Feed
    funnels: Funnels
    snapshots: Snapshots
    retentions: Retentions
    segments: Segments

    @property
    def access(self) -> Any:
        """Record a disclosure of personal data, to be awaited before it leaves (`Records.access`)."""
        return self.records.access


@asynccontextmanager
async def core(settings: Settings, database_url: str, *, pool_size: int = 8) -> AsyncIterator[Core]:
    """Build the parts on a migrated database, and let go of them at the end.

    Raises:
        Misconfigured: the key file is not there, or does not belong to this database.
    """
    memory.settle()
    pool: AsyncConnectionPool[Any] = ReadingPool(
        database_url,
        min_size=1,
        max_size=pool_size,
        open=False,
        kwargs={
            "autocommit": True,
            "options": f"-c role={APP_ROLE} -c default_transaction_isolation=read\\ committed",
        },
    )
    writer = acts = funnels = None
    try:
        # Opened in here: one that Ctrl-C cuts off is closed, too, for its tasks hear no other end.
        await pool.open(wait=True, timeout=30)
        keys = await keys_of(pool, settings.secret_file)
        await misread_set_aside(pool, database_url)
        subjects = Subjects(pool, keys)
        await subjects.forget()
        writer = Writer(database_url)
        acts = Writer(database_url, schema="records_log", in_flight=1)
        records = Records(acts, subjects, keys)
        rejected = Rejected(pool, subjects, keys)
        ingest = Ingest(subjects, writer, keys, rejected, region=settings.phone_region)
        histories = Histories(pool, subjects, region=settings.phone_region)
        feed = Feed(pool, subjects)
        funnels = Funnels(pool, histories, database_url=database_url, folder=settings.data / "columns")
        yield Core(
            settings, database_url, pool, keys, subjects, writer, records, rejected, ingest, histories, feed, funnels,
            Snapshots(pool, funnels, records),
            Retentions(pool, funnels),
            Segments(pool, funnels),
        )  # fmt: skip
    finally:
        if funnels is not None:
            funnels.close()
        for one in (writer, acts):
            if one is not None:
                await one.close()
        await pool.close()


async def misread_set_aside(pool: AsyncConnectionPool[Any], database_url: str) -> None:
    """Set aside, before anybody asks, read models of another version whose rows this code would misread."""
    async with pool.connection() as conn:
        rows = await (
            await conn.execute("SELECT name, version FROM touchlog.projections WHERE schema = 'read'")
        ).fetchall()
    if any(PROJECTIONS[name].version != version for name, version in rows if name in PROJECTIONS):

        def set_aside() -> None:
            with connected(database_url) as conn:
                set_aside_misread(conn)

        await asyncio.to_thread(set_aside)


async def keys_of(pool: AsyncConnectionPool[Any], path: Path) -> KeyFile:
    """The key file of this database, and of no other: what another sealed could never be opened again.

    Raises:
        Misconfigured: it is not there, or another's.
    """
    async with pool.connection() as conn:
        row = await (await conn.execute(FINGERPRINT)).fetchone()
        if row is not None:
            return KeyFile.of_database(path, row[0])
        keys = KeyFile.of_database(path, None)
        await conn.execute(
            "INSERT INTO touchlog.facts (name, value) VALUES ('key_file', %s) ON CONFLICT DO NOTHING",
            (keys.fingerprint,),
        )
        row = await (await conn.execute(FINGERPRINT)).fetchone()
    return KeyFile.of_database(path, row[0] if row is not None else None)


def act_recorded(
    settings: Settings, database_url: str, type_: str, principal: str, told: Mapping[str, Any]
) -> None:
    """Put an act of operation (a rebuild, a swap, a key) into the records log; not from within an event loop.

    It is recorded when it has taken effect, before it is told; what is refused leaves nothing.
    """

    async def record() -> None:
        async with core(settings, database_url, pool_size=2) as parts:
            await parts.records.record(type_, principal=principal, data=told)

    asyncio.run(record())


def project_once(database_url: str, names: Sequence[str] = ()) -> dict[str, int]:
    """Bring every read model (or those of *names*) to the head, unless a running projector does; returns how far each is."""
    import projections  # noqa: F401 - registers every projection
    from projections.projection import load_foreign
    from projections.projector import Projector

    load_foreign()
    log = connect_log(database_url, pool=1, role=APP_ROLE)
    store = ReadModels(database_url)
    chosen = [each for name, each in PROJECTIONS.items() if not names or name in names]
    projector = Projector(log, store, chosen)
    try:
        projector.take_leases()
        projector.catch_up()
        projector.retry_parked()
        return {t.name: t.position for t in store.tracking() if t.schema == "read"}
    finally:
        projector.release_leases()
        store.close()
        log.datastore.close()
