"""kill: `serve` under load while its parts, and itself, are killed with -9 at random moments.

A client posts batches over HTTP and sends every batch again, with the same ids, until it is acknowledged.
At the end every acknowledged event must be in the log exactly once, at the position that was answered,
positions must be gap-free, and the read models must equal ones that are built from zero.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import orjson
import psycopg
from psycopg import sql

from adapters.embedded import RunningServers, running
from adapters.postgres.check import check_log

__all__ = ["TARGETS", "Kill", "Serve", "ask", "run_kill"]

TARGETS = ("postgres", "nats", "http", "projectors", "projectors-later", "relay", "serve")
BATCH_EVENTS = 50
CLIENTS = 12
START_S = 120.0
REPEATED_ONE_IN = 5
"""Batches that were answered are sent once more, as by a sender that forgot."""
GAP_S = (1.0, 4.0)
"""Between two kills: random within these, in seconds."""


class Kill(NamedTuple):
    """What a trial found."""

    target: str
    kills: int
    seconds: float
    acknowledged: int  # events that were answered `recorded` or `duplicate`
    sent_again: int  # requests that failed or were not answered, and were sent again
    rate: float  # acknowledged events per second, the outages included
    rows: int
    lost: int  # acknowledged, and not in the log
    doubled: int  # in the log more than once
    unknown: int  # in the log, and never sent
    misplaced: int  # acknowledged at another position than they have
    gaps: int  # positions that no event has
    contradicted: int  # events that were sent once more after their answer, and answered otherwise than as a duplicate there
    damaged: int  # differences that the log's own check finds
    slowest_s: float  # longest time until a batch was acknowledged
    differing: list[str]  # tables of read models that are not those built from zero


class Serve:
    """One `bin/touchlog serve` as a process of its own, killed and started again as asked."""

    def __init__(self, data: Path, port: int) -> None:
        self.data = data
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it is ready."""
        root = Path(__file__).resolve().parents[2]
        with (self.data.parent / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "bin.cli",
                    "serve",
                    "--data",
                    str(self.data),
                    "--port",
                    str(self.port),
                ],
                cwd=root,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until /readyz answers 200; raises TimeoutError with the end of serve's output."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            with suppress(OSError, http.client.HTTPException):
                if ask(self.port, "GET", "/readyz", timeout_s=5)[0] == 200:
                    return
            time.sleep(0.05)
        output = (self.data.parent / "serve.log").read_text(errors="replace")[-2000:]
        raise TimeoutError(f"serve did not become ready within {START_S:.0f} s:\n{output}")

    def servers(self) -> RunningServers | None:
        """Who runs what now."""
        return running(self.data)

    def kill(self, target: str) -> bool:
        """Kill a part, or serve itself, with -9; False where it is not there just now."""
        if target == "serve":
            assert self._process is not None
            self._process.kill()
            self._process.wait()
            self.start()
            return True
        found = self.servers()
        pid = found.pids.get(target) if found else None
        if pid is None:
            return False
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def stop(self) -> None:
        """Stop cleanly."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(timeout=60)


class _Load:
    """Clients that post at a steady rate and never give a batch up."""

    def __init__(self, port: int, key: Callable[[], str], rate: float) -> None:
        self.port = port
        self.key = key
        self.acknowledged: dict[str, int] = {}
        self.sent: set[str] = set()
        self.sent_again = 0
        self.contradicted = 0
        self.slowest_s = 0.0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._every_s = BATCH_EVENTS * CLIENTS / rate
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(CLIENTS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let every client finish its batch."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=START_S)

    def _run(self, number: int) -> None:
        batch = 0
        next_s = time.monotonic()
        while not self._stop.is_set():
            events = [_event(f"{number}-{batch}-{i}") for i in range(BATCH_EVENTS)]
            body = orjson.dumps(events)
            with self._lock:
                self.sent.update(e["id"] for e in events)
            began = time.monotonic()
            answer = self._posted(body)
            with self._lock:
                self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                for result in answer["results"]:
                    if result["status"] not in ("recorded", "duplicate"):
                        raise AssertionError(f"The load is sound, and yet: {result}")
                    self.acknowledged[result["id"]] = result["position"]
            batch += 1
            if batch % REPEATED_ONE_IN == 0:
                again = self._posted(body)
                with self._lock:
                    self.contradicted += sum(
                        result["status"] != "duplicate"
                        or result["position"] != self.acknowledged[result["id"]]
                        for result in again["results"]
                    )
            next_s += self._every_s  # what an outage held up is posted behind it: the rate offered is kept
            time.sleep(max(0.0, next_s - time.monotonic()))

    def _posted(self, body: bytes) -> dict[str, Any]:
        """Post until it is answered."""
        while (answer := self._post(body)) is None:
            with self._lock:
                self.sent_again += 1
            time.sleep(0.05)
        return answer

    def _post(self, body: bytes) -> dict[str, Any] | None:
        headers = {
            "Authorization": f"Bearer {self.key()}",
            "Content-Type": "application/cloudevents-batch+json",
        }
        try:
            status, content = ask(self.port, "POST", "/v1/events", body, headers)
            if status != 200:
                return None
            answer: dict[str, Any] = orjson.loads(content)
        except (OSError, http.client.HTTPException, ValueError):
            return None
        else:
            return answer


def ask(
    port: int,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    timeout_s: float = 60,
) -> tuple[int, bytes]:
    """Ask once; raises OSError or HTTPException, and leaves no socket open."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)) as connection:
        connection.request(method, path, body, headers or {})
        with closing(connection.getresponse()) as response:
            return response.status, response.read()


def _event(id_: str) -> dict[str, Any]:
    person = hash(id_) % 500
    return {
        "specversion": "1.0",
        "id": id_,
        "source": "soak/kill",
        "type": "order.placed",
        "time": "2026-01-31T12:00:00Z",
        "subject": f"email:person{person}@example.com",
        "identifiers": f"user:u-{person}" if person % 3 else f"user:u-{person},order:o-{person}",
        "data": {"order_id": id_, "amount_minor": 1999, "currency": "EUR", "note": "please ring twice"},
    }


def run_kill(
    folder: Path,
    target: str,
    *,
    kills: int,
    rate: float,
    port: int,
    progress: Callable[[int], None] | None = None,
    gap_s: tuple[float, float] = GAP_S,
) -> Kill:
    """Start a `serve` in *folder*, load it, kill *target* so many times, and check what is left.

    Args:
        target: one of `TARGETS`, or `all` for each of them once in a round, rounds in random orders.
        rate: events per second that the clients offer.
        gap_s: least and most time between two kills, in seconds.
    """
    chance = random.Random()  # noqa: S311 - moments, not secrets
    serve = Serve(folder / "data", port)
    serve.start()
    key_file = serve.data / "admin.key"
    load = _Load(port, lambda: key_file.read_text().strip(), rate)
    load.start()
    began = time.monotonic()
    done = 0
    round_: list[str] = []
    try:
        while done < kills:
            time.sleep(chance.uniform(*gap_s))
            round_ = round_ or (chance.sample(TARGETS, len(TARGETS)) if target == "all" else [target])
            if serve.kill(round_[-1]):
                round_.pop()
                done += 1
                if progress is not None:
                    progress(done)
        time.sleep(1)
        load.stop()
        seconds = time.monotonic() - began
        serve.wait_until_ready()
        found = serve.servers()
        assert found is not None
        return _checked(found.database_url, target, done, seconds, load)
    finally:
        load.stop()
        serve.stop()


def _checked(url: str, target: str, kills: int, seconds: float, load: _Load) -> Kill:
    with psycopg.connect(url, autocommit=True) as conn:
        rows = conn.execute(
            "SELECT position, convert_from(body, 'UTF8')::jsonb ->> 'id' FROM touchpoint_log.events ORDER BY position"
        ).fetchall()
        position = {id_: at for at, id_ in rows}
        head = rows[-1][0] if rows else 0
        _wait_for(conn, head)
        differing = _differing(conn, url)
        damaged = len(list(check_log(conn)))
    return Kill(
        target=target,
        kills=kills,
        seconds=round(seconds, 1),
        acknowledged=len(load.acknowledged),
        sent_again=load.sent_again,
        rate=round(len(load.acknowledged) / seconds, 1),
        rows=len(rows),
        lost=sum(id_ not in position for id_ in load.acknowledged),
        doubled=len(rows) - len(position),
        unknown=sum(id_ not in load.sent for id_ in position),
        misplaced=sum(position.get(id_, at) != at for id_, at in load.acknowledged.items()),
        gaps=head - len(rows),
        contradicted=load.contradicted,
        damaged=damaged,
        slowest_s=round(load.slowest_s, 2),
        differing=differing,
    )


def _wait_for(conn: psycopg.Connection[Any], head: int) -> None:
    import projections  # noqa: F401 - registers every projection
    from projections.projection import PROJECTIONS

    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        row = conn.execute(
            "SELECT min(position), count(*) FROM touchlog.projections WHERE state = 'live' AND schema = 'read'"
        ).fetchone()
        if row is not None and row[1] == len(PROJECTIONS) and row[0] >= head:
            return
        time.sleep(0.05)
    raise TimeoutError("The projectors did not reach the head.")


def _differing(conn: psycopg.Connection[Any], url: str) -> list[str]:
    """The tables that differ from those that a projector builds from zero in a database of its own."""
    import projections  # noqa: F401 - registers every projection
    from adapters.postgres.declared_tables import tables_of
    from adapters.postgres.event_log import connect_log
    from adapters.postgres.read_models import ReadModels
    from adapters.postgres.schema import migrate
    from projections.projection import PROJECTIONS
    from projections.projector import Projector

    parts = urlsplit(url)
    name = f"rebuilt_{os.getpid()}_{time.monotonic_ns()}"
    conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    other = urlunsplit(parts._replace(path=f"/{name}"))
    reader = connect_log(url, pool=2)
    try:
        migrate(other)
        store = ReadModels(other, role=None)
        projector = Projector(reader, store, [type(each)() for each in PROJECTIONS.values()], batch=997)
        projector.take_leases()
        projector.catch_up()
        with psycopg.connect(other, autocommit=True) as rebuilt:
            differing = [
                table.name
                for each in PROJECTIONS.values()
                for table in tables_of(each)
                if _digest(conn, table.name) != _digest(rebuilt, table.name)
            ]
        store.close()
    finally:
        reader.datastore.close()
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
    return differing


def _digest(conn: psycopg.Connection[Any], table: str) -> Any:
    return conn.execute(
        sql.SQL("SELECT count(*), md5(string_agg(md5(t::text), '' ORDER BY md5(t::text))) FROM {} t").format(
            sql.Identifier("read", table)
        )
    ).fetchone()
