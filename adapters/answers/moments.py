"""Moments of a question: how far the read models are, and the position that a `known_at` means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import psycopg
from psycopg_pool import AsyncConnectionPool

from adapters.postgres.event_log import refusal
from domain.errors import Behind, Invalid, Problem

__all__ = ["READ_MODELS", "WAIT_S", "Moment", "Moments"]

READ_MODELS = ("contact_history", "identities")
WAIT_S = 5.0
"""How long a question waits for a read model that has not yet seen the position asked for."""


class Moment(msgspec.Struct, frozen=True):
    """Both axes of time, resolved: what had happened by `as_of` (None: no cut), known by position `known_at`."""

    as_of: datetime | None
    known_at: int


class Moments:
    """Resolves moments, and waits for the read models to come to them."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def seen(self, models: Sequence[str] = READ_MODELS) -> int:
        """The position that every one of *models* has seen; by default those behind histories."""
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(
                    "SELECT min(position), count(*) FROM touchlog.projections WHERE name = ANY(%s) AND state = 'live'",
                    (list(models),),
                    prepare=True,
                )
            ).fetchone()
        return int(row[0]) if row is not None and row[1] == len(models) else 0

    async def wait_until(
        self, position: int, *, at_most_s: float = WAIT_S, models: Sequence[str] = READ_MODELS
    ) -> int:
        """Wait until the read models have seen *position*; returns how far they are.

        Raises:
            Behind: they did not come so far in time.
        """
        seen = await self.waited(lambda: self.seen(models), position, at_most_s)
        if seen < position:
            raise self.behind(seen, position)
        return seen

    @staticmethod
    async def waited(asked: Callable[[], Awaitable[int]], position: int, at_most_s: float) -> int:
        """Ask again and again until *position* is reached or the time is over; returns the last answer."""
        deadline = asyncio.get_running_loop().time() + at_most_s
        while True:
            seen = await asked()
            if seen >= position or asyncio.get_running_loop().time() >= deadline:
                return seen
            await asyncio.sleep(0.01)

    @staticmethod
    def behind(seen: int, position: int) -> Behind:
        """What to raise where *position* was not seen in time."""
        return Behind(
            f"The read models have seen position {seen:,}, asked was {position:,}; ask again in a moment. "
            "If this stays, look at `touchlog status`: a projector may not be running.",
            lag_positions=position - seen,
        )

    async def resolve_known_at(self, known_at: datetime | int | None) -> int | None:
        """`known_at` as a position; a time is resolved once and for ever, the log being closed up to it.

        Raises:
            FutureTime: the time lies in the future.
            Invalid: the position lies beyond the head.
        """
        if known_at is None:
            return None
        async with self._pool.connection() as conn:
            if isinstance(known_at, int):
                row = await (await conn.execute("SELECT position FROM touchpoint_log.head")).fetchone()
                assert row is not None
                if not 0 <= known_at <= row[0]:
                    raise Invalid(
                        [
                            Problem(
                                "/known_at",
                                f"Position {known_at:,} is not in the log; its newest is {row[0]:,}.",
                                "out_of_range",
                            )
                        ]
                    )
                return known_at
            try:
                row = await (await conn.execute("SELECT touchpoint_log.known_at(%s)", (known_at,))).fetchone()
            except psycopg.Error as error:
                raise refusal(error) from None
        assert row is not None
        return int(row[0])

    async def recorded_at(self, position: int, place: str) -> datetime:
        """When the event at *position* was recorded.

        Args:
            place: where the position was asked for, a JSON pointer for the error.

        Raises:
            Invalid: the position is not in the log.
        """
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(
                    "SELECT e.recorded_at, h.position FROM touchpoint_log.head h "
                    "LEFT JOIN touchpoint_log.events e ON e.position = %s",
                    (position,),
                )
            ).fetchone()
        assert row is not None
        if row[0] is None:
            detail = f"Position {position:,} is not in the log; its newest is {row[1]:,}."
            raise Invalid([Problem(place, detail, "out_of_range")])
        at: datetime = row[0]
        return at

    async def at(self, as_of: datetime | None, known_at: datetime | int | None) -> Moment:
        """Both axes as one moment, which the read models have seen.

        Raises:
            Invalid, FutureTime, Behind.
        """
        position = await self.resolve_known_at(known_at)
        if position is None:
            position = await self.seen()
        else:
            await self.wait_until(position)
        return Moment(as_of, position)
