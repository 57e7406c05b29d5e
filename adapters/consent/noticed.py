"""The purposes that published notices name: the company's own part of the catalogue, remembered between questions."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from psycopg_pool import AsyncConnectionPool

__all__ = ["named_by_notices"]

_NOTICED = (
    "SELECT purpose, known_from FROM read.consent_facts "
    "WHERE known_from > %s AND state = 'published' AND purpose IS NOT NULL"
)


class _Noticed:
    """From which position on notices name a purpose, as far as the log was looked at."""

    def __init__(self) -> None:
        self.seen = 0
        self.since: dict[str, int] = {}


_noticed: WeakKeyDictionary[AsyncConnectionPool[Any], _Noticed] = WeakKeyDictionary()


async def named_by_notices(pool: AsyncConnectionPool[Any], known_at: int) -> set[str]:
    """The purposes that notices name which were known at a position; of a million facts only the new are looked at."""
    noticed = _noticed.setdefault(pool, _Noticed())
    if noticed.seen < known_at:
        async with pool.connection() as conn:
            rows = await (await conn.execute(_NOTICED, [noticed.seen], prepare=True)).fetchall()
        for purpose, known_from in rows:
            noticed.since[purpose] = min(known_from, noticed.since.get(purpose, known_from))
        noticed.seen = max(noticed.seen, known_at)
    return {purpose for purpose, since in noticed.since.items() if since <= known_at}
