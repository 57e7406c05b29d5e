"""A question as somebody wrote it, resolved to one moment and answered by ClickHouse."""

from __future__ import annotations

import asyncio
from typing import Any

from adapters.analysis.funnels import Funnels
from adapters.clickhouse.funnels import ask, known
from adapters.clickhouse.loader import reached
from adapters.clickhouse.server import Server, make_tables
from domain.entry import moment
from domain.errors import Behind
from domain.funnels.answer import Answer
from domain.funnels.reading import micros, read_funnel

__all__ = ["query"]


async def query(funnels: Funnels, server: Server, raw: dict[str, Any]) -> Answer:
    """Answer a question; without `known_at` as of the position up to which the log is loaded.

    Raises:
        Invalid: the question is not valid; a problem for each mistake.
        Refused: ClickHouse cannot be asked so.
        Behind: the log is not loaded so far yet.
        Unavailable: the server is away.
    """

    def look() -> tuple[int, Any]:
        make_tables(server)
        return reached(server)[0], known(server)

    loaded, there = await asyncio.to_thread(look)
    if raw.get("known_at") is None:
        raw = {**raw, "known_at": f"@{loaded}"}
    as_of, position = await funnels.moment(raw, 0)
    if position > loaded:
        raise Behind(
            f"ClickHouse is loaded up to position {loaded:,}, asked was {position:,}: touchlog clickhouse load",
            lag_positions=position - loaded,
        )
    funnel = read_funnel(raw, there)
    known_us = await funnels.recorded_us(position)

    def work(library: Any) -> Answer:
        return ask(
            funnel, server, lambda: library.whose(position, as_of), known_at=position,
            as_of=moment(as_of) if as_of else None, as_of_us=micros(as_of) if as_of else None, known_us=known_us,
        )  # fmt: skip

    return await funnels.at(work)
