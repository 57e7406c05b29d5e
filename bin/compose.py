"""Putting the parts together: the only place that knows which part is built from which."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from psycopg_pool import AsyncConnectionPool

import domain.touchpoints  # noqa: F401 - registers every declared type
from adapters.ingest import Ingest
from adapters.keys import KeyFile
from adapters.postgres.rejected import Rejected
from adapters.postgres.schema import APP_ROLE
from adapters.postgres.subjects import Subjects
from adapters.postgres.writer import Writer
from bin.settings import Settings

__all__ = ["Core", "core"]


@dataclass(frozen=True)
class Core:
    """What every asynchronous part works with."""

    settings: Settings
    database_url: str
    pool: AsyncConnectionPool[Any]
    keys: KeyFile
    subjects: Subjects
    writer: Writer
    records: Writer
    rejected: Rejected
    ingest: Ingest


@asynccontextmanager
async def core(settings: Settings, database_url: str, *, pool_size: int = 8) -> AsyncIterator[Core]:
    """Build the parts on a migrated database, and let go of them at the end.

    Raises:
        Misconfigured: the key file does not belong to this database.
    """
    keys = KeyFile.open_or_make(settings.secret_file)
    pool: AsyncConnectionPool[Any] = AsyncConnectionPool(
        database_url,
        min_size=1,
        max_size=pool_size,
        open=False,
        kwargs={"autocommit": True, "options": f"-c role={APP_ROLE} -c default_transaction_isolation=read\\ committed"},
    )
    await pool.open(wait=True, timeout=30)
    writer = records = None
    try:
        await keys_belong(pool, keys)
        subjects = Subjects(pool, keys)
        await subjects.forget()
        writer = Writer(database_url)
        records = Writer(database_url, schema="records_log", in_flight=1)
        rejected = Rejected(pool, subjects, keys)
        ingest = Ingest(subjects, writer, keys, rejected, region=settings.phone_region)
        yield Core(settings, database_url, pool, keys, subjects, writer, records, rejected, ingest)
    finally:
        for one in (writer, records):
            if one is not None:
                await one.close()
        await pool.close()


async def keys_belong(pool: AsyncConnectionPool[Any], keys: KeyFile) -> None:
    """Refuse to work with another installation's key file: what it sealed could never be opened again."""
    from domain.errors import Misconfigured

    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO touchlog.facts (name, value) VALUES ('key_file', %s) ON CONFLICT DO NOTHING", (keys.fingerprint,)
        )
        row = await (await conn.execute("SELECT value FROM touchlog.facts WHERE name = 'key_file'")).fetchone()
    if row is not None and row[0] != keys.fingerprint:
        raise Misconfigured(
            f"The key file {keys.path} does not belong to this database (fingerprint {keys.fingerprint}, "
            f"the database's is {row[0]}). Restore the right file, or set TOUCHLOG_SECRET_FILE to it."
        )
