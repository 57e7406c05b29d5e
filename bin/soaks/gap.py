"""gap: many writer processes, one live reader that follows the log by position; it must never miss an event.

The same trial runs on the eventsourcing library's recorder with POSTGRES_ENABLE_DB_FUNCTIONS=y, which is
known to lose events for such a reader: a trial that could not find a loss would prove nothing.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Sequence
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event as EventFlag
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg
from psycopg import sql

__all__ = ["Gap", "run_gap"]

LARGEST_BATCH = 40
PAGE_ROWS = 5000
HOLES_LOOKED_AT_EVERY_S = 0.25
START_S = 60


class Gap(NamedTuple):
    """What a trial found."""

    events: int  # rows in the log at the end
    acknowledged: int
    head: int
    seen: int
    missed: int  # events that the reader passed before they could be seen
    out_of_order: int  # events that the reader met at or below a position it had passed
    jumps: int  # times that the reader met a position that was not the next
    seconds: float


def run_gap(
    url: str, *, writers: int, seconds: float, library: bool = False, until_missed: bool = False
) -> Gap:
    """Write from so many processes for so long while one reader follows; *url* is a database of its own, migrated unless *library*.

    Args:
        library: write with the library's recorder and its database functions instead of ours.
        until_missed: stop as soon as a loss is certain.
    """
    spawning = multiprocessing.get_context("spawn")
    ready, start, stop = spawning.Semaphore(0), spawning.Event(), spawning.Event()
    acknowledged: Queue[int] = spawning.Queue()
    if library:
        _library_recorder(url, create=True).datastore.close()
    table = (
        sql.Identifier("public", "stored_events") if library else sql.Identifier("touchpoint_log", "events")
    )
    column = sql.Identifier("notification_id" if library else "position")
    processes = [
        spawning.Process(target=_write, args=(url, library, ready, start, stop, acknowledged), daemon=True)
        for _ in range(writers)
    ]
    for process in processes:
        process.start()
    try:
        for _ in processes:
            if not ready.acquire(timeout=START_S):
                raise TimeoutError(f"A writer process did not start within {START_S} s.")
        with psycopg.connect(url, autocommit=True) as conn:
            started = time.monotonic()
            start.set()
            seen, jumps, out_of_order = _follow(
                conn, table, column, stop, started + seconds, until_missed=until_missed
            )
            took = time.monotonic() - started
            acks = sum(acknowledged.get(timeout=START_S) for _ in processes)
            for process in processes:
                process.join(START_S)
            # What the writers finished while they were told to stop.
            late, more_jumps, more_out_of_order = _page(conn, table, column, seen[-1] if seen else 0, 2**31)
            seen += late
            rows = {row[0] for row in conn.execute(sql.SQL("SELECT {} FROM {}").format(column, table))}
            head = max(rows, default=0) if library else _head(conn)
    finally:
        stop.set()
        for process in processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
        acknowledged.close()
    return Gap(
        len(rows),
        acks,
        head,
        len(seen),
        len(rows - set(seen)),
        out_of_order + more_out_of_order,
        jumps + more_jumps,
        took,
    )


def _head(conn: psycopg.Connection[Any]) -> int:
    row = conn.execute("SELECT position FROM touchpoint_log.head").fetchone()
    assert row is not None
    return int(row[0])


def _page(
    conn: psycopg.Connection[Any], table: sql.Identifier, column: sql.Identifier, last: int, limit: int
) -> tuple[list[int], int, int]:
    """(positions behind *last*, jumps among them, those out of order)."""
    statement = sql.SQL("SELECT {0} FROM {1} WHERE {0} > %s ORDER BY {0} LIMIT %s").format(column, table)
    found = [row[0] for row in conn.execute(statement, (last, limit), prepare=True)]
    jumps = out_of_order = 0
    for position in found:
        jumps += position > last + 1
        out_of_order += position <= last
        last = position
    return found, jumps, out_of_order


def _follow(
    conn: psycopg.Connection[Any],
    table: sql.Identifier,
    column: sql.Identifier,
    stop: EventFlag,
    deadline: float,
    *,
    until_missed: bool,
) -> tuple[list[int], int, int]:
    """Follow the log as a projector does until *deadline*, then tell the writers to stop."""
    seen: list[int] = []
    holes: set[int] = set()
    jumps = out_of_order = last = 0
    look_at = 0.0
    while (now := time.monotonic()) < deadline:
        found, more_jumps, more_out_of_order = _page(conn, table, column, last, PAGE_ROWS)
        jumps, out_of_order = jumps + more_jumps, out_of_order + more_out_of_order
        if until_missed and more_jumps:
            holes.update(set(range(last + 1, found[-1])) - set(found))
        if found:
            seen += found
            last = found[-1]
        if holes and now > look_at:
            statement = sql.SQL("SELECT count(*) FROM {} WHERE {} = ANY(%s)").format(table, column)
            row = conn.execute(statement, (list(holes),)).fetchone()
            if row and row[0]:
                break
            look_at = now + HOLES_LOOKED_AT_EVERY_S
    stop.set()
    return seen, jumps, out_of_order


def _library_recorder(url: str, *, create: bool) -> Any:
    """The library's own recorder with its database functions, which lose events for a reader that follows."""
    from eventsourcing.postgres import PostgresFactory
    from eventsourcing.utils import Environment
    from psycopg.conninfo import conninfo_to_dict

    info = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    env = Environment(
        "",
        {
            "POSTGRES_DBNAME": info["dbname"],
            "POSTGRES_HOST": info["host"],
            "POSTGRES_PORT": info.get("port", "5432"),
            "POSTGRES_USER": info["user"],
            "POSTGRES_PASSWORD": info.get("password", ""),
            "POSTGRES_ENABLE_DB_FUNCTIONS": "y",
            "POSTGRES_ORIGINATOR_ID_TYPE": "uuid",
            "CREATE_TABLE": "y" if create else "n",
        },
    )
    return PostgresFactory(env).application_recorder()


def _write(
    url: str,
    library: bool,
    ready: Any,
    start: EventFlag,
    stop: EventFlag,
    acknowledged: Queue[int],
) -> None:
    """One writer process: batches of random sizes until it is told to stop."""
    chance = random.Random(os.urandom(8))  # noqa: S311 - sizes of batches
    recorder: Any
    batch: Callable[[int], Sequence[Any]]
    append: Callable[[Sequence[Any]], int]
    if library:
        from eventsourcing.persistence import StoredEvent

        recorder = _library_recorder(url, create=False)

        def batch(size: int) -> Sequence[Any]:
            stream = uuid4()
            return [StoredEvent(stream, version, "topic", b"x" * 600) for version in range(1, size + 1)]

        def append(items: Sequence[Any]) -> int:
            recorder.insert_events(items)
            return len(items)
    else:
        from adapters.postgres.event_log import Item, connect_log

        recorder = connect_log(url, pool=1, role="touchlog_app")

        def batch(size: int) -> Sequence[Any]:
            return [
                Item(uuid4().bytes, "gap.tried", b"x" * 600, hashlib.md5(usedforsecurity=False).digest())
                for _ in range(size)
            ]

        def append(items: Sequence[Any]) -> int:
            return sum(answer.status == "recorded" for answer in recorder.append(items))

    append(batch(1))  # connected, and plans made
    total = 1
    ready.release()
    start.wait()
    while not stop.is_set():
        total += append(batch(chance.choice((1, 1, 2, chance.randint(1, LARGEST_BATCH)))))
    acknowledged.put(total)
    recorder.datastore.close()
