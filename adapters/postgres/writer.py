"""Group commit: many callers, one statement and one fsync for all who wait.

Each caller's items are kept together and in order. While a group is being committed the next one
gathers; two groups may be in flight, so that packing one overlaps with the commit of the other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec
import psycopg
import structlog

from adapters.postgres.event_log import (
    Appended,
    ErasedMeanwhile,
    Item,
    append_parameters,
    outcomes,
    refusal,
    with_repeats,
    without_repeats,
)
from adapters.postgres.lane import Lane
from domain.errors import NoRoom, TouchlogError, Unavailable

__all__ = ["Writer"]

log = structlog.get_logger()

WORTH_A_COMMIT = 24
"""Items; fewer do not begin a commit of their own while another is under way."""
RETRY_WITHIN_S = 20.0
"""How long a lost connection is tried again before a caller is told; safe, because a repeat is told by its key."""


class _Waiting(msgspec.Struct):  # made per call: at half the price of a tuple with names
    items: Sequence[Item]
    count: int
    erasures: int | None
    strict: bool
    answer: asyncio.Future[list[Appended]]
    repeats: bool = False
    """Whether one key stood twice in the group that was committed."""


class Writer:
    """Appends to one log for many callers of one event loop.

    Args:
        group: how many items one commit takes at most, unless one caller brings more.
        in_flight: how many commits may be under way at once.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "touchpoint_log",
        role: str | None = "touchlog_app",
        group: int = 1000,
        in_flight: int = 2,
    ) -> None:
        self._url = url
        self._schema = schema
        self._options = "-c default_transaction_isolation=read\\ committed" + (
            f" -c role={role}" if role else ""
        )
        self._group = group
        self._queue: deque[_Waiting] = deque()
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._lanes = [
            asyncio.create_task(self._run(), name=f"writer-{schema}-{i}") for i in range(in_flight)
        ]
        self._closed = False
        self._waiting_items = 0
        self._under_way = 0  # items that are being committed
        self.commits = 0
        self.appended = 0
        self.head = 0

    async def append(
        self, items: Sequence[Item], *, erasures: int | None = None, strict: bool = False
    ) -> list[Appended]:
        """Append *items* durably; answers for each in order, after the commit.

        Raises:
            Unavailable: nothing is known of these items; send them again.
            ErasedMeanwhile, ClockBehind, StaleEpoch: nothing was recorded.
            psycopg.errors.UniqueViolation: with *strict*, a place in a stream is taken.
        """
        if self._closed:
            raise Unavailable("The writer is closing; send the events again.")
        if not items:
            return []
        count = len(items)
        waiting = _Waiting(items, count, erasures, strict, self._loop.create_future())
        self._queue.append(waiting)
        self._waiting_items += count
        self._wake.set()
        results = await waiting.answer
        if not waiting.repeats:
            return results
        asked = [i for i, result in enumerate(results) if result.status == "ask"]
        if asked:
            for i, result in zip(
                asked, await self.append([items[i] for i in asked], erasures=erasures), strict=True
            ):
                results[i] = result
        return results

    async def close(self) -> None:
        """Finish what waits, then let go of the connections."""
        self._closed = True
        while self._queue:
            self._wake.set()
            await asyncio.sleep(0.01)
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)

    def _next_group(self) -> list[_Waiting]:
        """Callers that can share a commit: whole callers, in order, as many as fit.

        A commit costs as much as some dozens of items and the next one waits for its end anyway (the counter row),
        so few items go in one commit, all of them. Of many a group takes its share, so that one half is prepared
        while the other half is being committed; and a further commit begins only when as many wait.
        """
        if self._under_way and self._waiting_items < max(self._under_way, WORTH_A_COMMIT):
            return []
        there = self._waiting_items + self._under_way
        share = -(-there // len(self._lanes)) if there >= 2 * WORTH_A_COMMIT else there
        most = max(1, min(share, self._group))
        group: list[_Waiting] = []
        size = 0
        while self._queue and size < most:
            waiting = self._queue[0]
            if waiting.answer.done():
                self._waiting_items -= self._queue.popleft().count
                continue
            if group and (size + waiting.count > self._group or waiting.strict or group[0].strict):
                break
            group.append(self._queue.popleft())
            size += waiting.count
        self._waiting_items -= size
        self._under_way += size
        return group

    async def _run(self) -> None:
        lane = Lane(self._url, self._schema, self._options)
        busy: list[_Waiting] = []
        try:
            while True:
                await self._wake.wait()
                busy = self._next_group()
                if not busy or not self._queue:
                    self._wake.clear()
                if busy:
                    try:
                        await self._commit_or_refuse(lane, busy)
                    finally:
                        self._under_way -= sum([w.count for w in busy])
                    busy = []
                    if self._queue:
                        self._wake.set()
        finally:
            for waiting in busy:
                if not waiting.answer.done():
                    waiting.answer.set_exception(
                        Unavailable("The writer was closed before the commit; send the events again.")
                    )
            await lane.close()

    async def _commit_or_refuse(self, lane: Lane, group: list[_Waiting]) -> None:
        """Commit *group*; what cannot be sent at all spoils neither its neighbours nor this lane."""
        try:
            await self._commit(lane, group)
        except Exception as error:
            if len(group) == 1:
                log.exception("append_failed", schema=self._schema, items=len(group[0].items))
                self._refuse(group, error)
            else:
                for waiting in group:
                    await self._commit_or_refuse(lane, [waiting])

    async def _commit(self, lane: Lane, group: list[_Waiting]) -> None:
        """Commit *group* and answer its callers; a lost connection is tried again, which is safe by key."""
        items = group[0].items if len(group) == 1 else [i for w in group for i in w.items]
        fresh, places = without_repeats(items)
        erasures = min((w.erasures for w in group if w.erasures is not None), default=None)
        parameters = append_parameters(fresh, epoch=None, erasures=erasures, strict=group[0].strict)
        deadline = self._loop.time() + RETRY_WITHIN_S
        pause = 0.05
        answer: tuple[Any, ...] | None = None
        while answer is None:
            try:
                answer = await lane.append(parameters)
            except psycopg.Error as error:
                told = refusal(error)
                if isinstance(told, ErasedMeanwhile | psycopg.DataError) and len(group) > 1:
                    # One caller's stale resolution, or bad item, must not refuse the others.
                    for waiting in group:
                        await self._commit(lane, [waiting])
                    return
                lost = lane.lost or isinstance(error, psycopg.OperationalError)
                if isinstance(told, TouchlogError) or not lost or isinstance(error, psycopg.errors.DiskFull):
                    self._refuse(
                        group,
                        told if isinstance(told, TouchlogError) else _unavailable(error, group[0].strict),
                    )
                    return
                if self._loop.time() > deadline:
                    self._refuse(
                        group,
                        Unavailable(
                            "The database does not answer; nothing was acknowledged, send the events again."
                        ),
                    )
                    return
                log.warning(
                    "append_retried", schema=self._schema, items=len(items), reason=type(error).__name__
                )
                await lane.close()
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
        results = with_repeats(items, fresh, places, outcomes(len(fresh), answer))
        self.commits += 1
        recorded = len(fresh) if not answer[2] else sum(r.status == "recorded" for r in results)
        self.appended += recorded
        if recorded:
            self.head = max(self.head, answer[0] + recorded - 1)
        at = 0
        for waiting in group:
            waiting.repeats = bool(places)
            if not waiting.answer.done():
                waiting.answer.set_result(results[at : at + waiting.count])
            at += waiting.count

    @staticmethod
    def _refuse(group: list[_Waiting], error: Exception) -> None:
        for waiting in group:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)


def _unavailable(error: psycopg.Error, strict: bool) -> Exception:
    """What a caller is told of a database error that a repeat will not mend by itself."""
    if strict and isinstance(error, psycopg.errors.UniqueViolation):
        return error
    if isinstance(error, psycopg.errors.DiskFull):
        return NoRoom(
            "The disk of the database is full: nothing was recorded. Make room; appends go on by themselves."
        )
    return Unavailable(
        f"The database refused the append ({type(error).__name__}); nothing was recorded, send the events again."
    )
