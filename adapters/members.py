"""The subjects of many persons at once, as resolved now: what lists are made from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

__all__ = ["members_now"]


async def members_now(pool: AsyncConnectionPool[Any], persons: Iterable[UUID]) -> dict[UUID, list[UUID]]:
    """The subjects of each person (named by its smallest subject); one that was never linked is its own."""
    found: dict[UUID, list[UUID]] = {person: [] for person in persons}
    async with pool.connection() as conn:
        rows = await (
            await conn.execute(
                "SELECT person, subject FROM read.identities WHERE person = ANY(%s) ORDER BY subject",
                (list(found),),
                prepare=True,
            )
        ).fetchall()
    for person, subject in rows:
        found[person].append(subject)
    return {person: subjects or [person] for person, subjects in found.items()}
