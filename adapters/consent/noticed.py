"""The purposes that published notices name: the company's own part of the catalogue, remembered between questions."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from psycopg_pool import AsyncConnectionPool

__all__ = ["named_by_notices"]

_NOTICED = """
SELECT purpose, position, known_from, known_to FROM read.consent_facts
 WHERE (known_from > %(seen)s OR known_to > %(seen)s) AND state = 'published' AND purpose IS NOT NULL
"""


class _Noticed:
    """Between which positions notices name a purpose, as far as the log was looked at; those taken back, too."""

    def __init__(self) -> None:
        self.seen = 0
        self.until: dict[tuple[str, int, int], int | None] = {}  # by purpose, position and known from


_noticed: WeakKeyDictionary[AsyncConnectionPool[Any], _Noticed] = WeakKeyDictionary()


async def named_by_notices(pool: AsyncConnectionPool[Any], known_at: int) -> set[str]:
    """The purposes that notices name which were known at a position; of a million facts only the new are looked at."""
    noticed = _noticed.setdefault(pool, _Noticed())
    if noticed.seen < known_at:
        async with pool.connection() as conn:
            rows = await (await conn.execute(_NOTICED, {"seen": noticed.seen}, prepare=True)).fetchall()
        noticed.until.update({(purpose, at, since): until for purpose, at, since, until in rows})
        noticed.seen = max(noticed.seen, known_at)
    return {
        purpose
        for (purpose, _, since), until in noticed.until.items()
        if since <= known_at and (until is None or until > known_at)
    }
