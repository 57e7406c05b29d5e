"""Short outages of the database: waited for, not passed on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import psycopg
from psycopg_pool import PoolTimeout

from domain.errors import NoRoom, Unavailable

__all__ = ["DATABASE_AWAY", "DATABASE_BACK_WITHIN_S", "through_outages"]

T = TypeVar("T")
DATABASE_AWAY = (psycopg.OperationalError, PoolTimeout)
"""What a database that is starting, stopping or gone makes of a statement."""
DATABASE_BACK_WITHIN_S = 20.0
"""How long a door waits for a database that went away, before it asks its caller to come again."""


async def through_outages(call: Callable[[], Awaitable[T]], *, within_s: float) -> T:
    """Do *call*, and again for *within_s* while the database is away; for calls that may be repeated.

    Raises:
        Unavailable: the database did not come back in time.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    pause_s = 0.02
    while True:
        try:
            return await call()
        except DATABASE_AWAY as error:
            if isinstance(error, psycopg.errors.DiskFull):
                raise NoRoom from None
            if loop.time() + pause_s > deadline:
                raise Unavailable(
                    "The database does not answer; send the same request again in a moment."
                ) from None
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.5)
