"""Connections for those who ask: a read model that has not what this version asks for is told as one that lags.

After a deploy the read model of the version before answers until the new one is built beside it and swapped
in (adapters/rebuilds/runs.py). A question for a column or table that it has not is answered 503 with the lag.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from psycopg import errors
from psycopg_pool import AsyncConnectionPool

from domain.errors import Behind
from projections.projection import PROJECTIONS

__all__ = ["ReadingPool"]

_OF_ANOTHER_SHAPE = (
    errors.UndefinedColumn,
    errors.UndefinedTable,
    errors.UndefinedFunction,
    errors.DatatypeMismatch,
)


class ReadingPool(AsyncConnectionPool[Any]):
    """A pool whose questions to a read model of another shape raise `Behind`."""

    @asynccontextmanager
    async def connection(  # the signature is the library's
        self,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        """A connection of the pool, as `AsyncConnectionPool.connection` gives it.

        Raises:
            Behind: a read model lacks what was asked for, because it is of another version or not built yet.
        """
        async with super().connection(timeout) as conn:
            try:
                yield conn
            except _OF_ANOTHER_SHAPE as error:
                behind = await _behind(conn)
                if behind is None:
                    raise
                raise behind from error


async def _behind(conn: psycopg.AsyncConnection[Any]) -> Behind | None:
    """How far those are that are built; None where all read models are of this version."""
    rows = await (
        await conn.execute(
            "SELECT p.name, p.version, b.position, h.position FROM touchpoint_log.head h CROSS JOIN touchlog.projections p "
            "LEFT JOIN touchlog.projections b ON b.name = p.name AND b.schema = 'build_' || p.name "
            "WHERE p.schema = 'read' ORDER BY p.name"
        )
    ).fetchall()
    lagging = [r for r in rows if r[0] in PROJECTIONS and PROJECTIONS[r[0]].version != r[1]]
    lacking = [name for name in PROJECTIONS if name not in {r[0] for r in rows}]
    if not lagging and not lacking:
        return None
    if not lagging:
        return Behind(
            f"The read models {', '.join(lacking)} are not built yet: no projector has run. Ask again in a moment, or start `touchlog serve`.",
            lag_positions=max((r[3] for r in rows), default=0),
        )
    told = ", ".join(
        f"{name} version {PROJECTIONS[name].version} (position {built or 0:,} of {head:,})"
        for name, _, built, head in lagging
    )
    return Behind(
        f"This asks for what the read models of the version before do not hold. Being built: {told}. "
        "Ask again when it has been swapped in; `touchlog projections` shows how far it is.",
        lag_positions=max(head - (built or 0) for _, _, built, head in lagging),
    )
