"""statements: a projector killed with -9 at every statement that it sends for one batch, and what is left of it.

Each process that dies is a real one. It dies before it sends the k-th statement, once it is sent, or when it
is answered, for every k: what PostgreSQL shows afterwards must be the rows before the batch or those behind it,
with the position that belongs to them; and when a projector is started again, the rows that were due.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Generator, Sequence
from pathlib import Path
from random import randrange
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

import projections  # noqa: F401 - registers every projection
from adapters.postgres.event_log import connect_log
from adapters.postgres.read_models import ReadModels, Tracking
from adapters.postgres.schema import APP_ROLE
from bin import logs
from bin.soaks.rows import Digest, digests
from projections.projection import PROJECTIONS
from projections.projector import Projector

__all__ = ["MOMENTS", "Statements", "run_statements"]

MOMENTS = ("before", "sent", "answered")
ROOT = Path(__file__).resolve().parents[2]
HOLDER = "soak:statements"
"""All of them are one projector, killed and started again."""
COMMIT = 0
"""Stands for the commit: how many exchanges come before it depends on how the server takes what it is sent."""
HEALED_ONE_IN = 8
"""Where nothing of the batch is left, a start goes on from the same rows each time: it is tried at some deaths only."""
GONE_S = 20


class Statements(NamedTuple):
    """What a trial found."""

    statements: (
        int  # exchanges with the server that the batch takes, those of its COPYs and the commit included
    )
    killed: int
    before: int  # deaths that left the rows as they were before the batch
    behind: int  # deaths that left all of the batch
    torn: list[str]  # deaths that left anything else: which exchange, and when
    not_healed: list[str]  # deaths behind which a projector, started again, did not come to the right rows


class _Mortal(psycopg.Connection[Any]):
    """A connection of a process that dies at its k-th exchange with the server."""

    mortal = False
    exchanges = 0
    dies_at = -1
    dies = ""

    def wait(self, gen: Generator[Any, Any, Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        if not _Mortal.mortal:
            return super().wait(gen, interval, timeout)
        _Mortal.exchanges += 1
        commits = getattr(gen, "__qualname__", "") == "BaseTransaction._exit_gen"  # a pipeline has one, too
        if _Mortal.exchanges != _Mortal.dies_at and not (commits and _Mortal.dies_at == COMMIT):
            return super().wait(gen, interval, timeout)
        if _Mortal.dies == "sent":
            next(gen, None)  # it yields when all is sent, to wait for the answer
        elif _Mortal.dies == "answered":
            super().wait(gen, interval, timeout)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("the dead do not go on")


class _MortalModels(ReadModels):
    @property
    def connection(self) -> psycopg.Connection[Any]:
        if self._conn is None:
            self._conn = _Mortal.connect(self.url, autocommit=True, options=self.options)
            self._conn.prepare_threshold = 0
        return self._conn

    def save(self, *moves: Any, **more: Any) -> list[Tracking]:
        _Mortal.mortal = True  # what was read before the transaction changes nothing
        saved = super().save(*moves, **more)
        _Mortal.mortal = False
        return saved


_State = tuple[list[tuple[Any, ...]], dict[str, Digest]]
"""Positions of the read models, and their rows."""


def run_statements(
    url: str, *, batch: int, after: int, moments: Sequence[str] = ("before", "sent"), every: int = 1
) -> Statements:
    """Kill a projector at every exchange of the batch behind position *after*, and start it again.

    Args:
        moments: of `MOMENTS`, when it dies; to die when one is answered is to die before the next, but for the commit,
            at which all of them are tried.
        every: dies at every so many exchanges only, from a random one of the first on.
        url: a database with a log of at least `after + 2 * batch` events and no read models; others are made beside it.
    """
    parts = urlsplit(url)
    tried_url, right_url = (parts._replace(path=f"{parts.path}_{n}").geturl() for n in ("tried", "right"))
    _fold(url, batch=after, steps=1)
    with psycopg.connect(parts._replace(path="/postgres").geturl(), autocommit=True) as server:
        _copied(server, url, right_url)
        before = _state(right_url)
        _fold(right_url, batch=batch, steps=1)
        behind = _state(right_url)
        _fold(right_url, batch=batch)
        end = _state(right_url)
        assert before[0] != behind[0] != end[0], "the log is too short"
        _copied(server, url, tried_url)
        found: dict[str, list[str]] = {"before": [], "behind": [], "torn": [], "not_healed": []}

        def died(when: str, statement: int) -> None:
            name = f"{when} {statement or 'commit'}"
            _wait_until_gone(server, tried_url)
            state = _state(tried_url)
            kind = "before" if state == before else "behind" if state == behind else "torn"
            found[kind].append(name)
            if kind != "before" or len(found["before"]) % HEALED_ONE_IN == 1:
                _fold(tried_url, batch=batch)
                if _state(tried_url) != end:
                    found["not_healed"].append(name)
                _copied(server, url, tried_url)

        dying = subprocess.Popen(
            [sys.executable, "-m", "bin.soaks.statements", tried_url, str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        try:
            statements = randrange(every)  # noqa: S311 - no secret
            while _killed(dying, statements + 1, "before"):
                statements += 1
                died("before", statements)
                for when in moments:
                    if when != "before" and _killed(dying, statements, when):
                        died(when, statements)
                statements += every - 1
            _copied(server, url, tried_url)
            for when in MOMENTS:
                assert _killed(dying, COMMIT, when), when
                died(when, COMMIT)
        finally:
            dying.communicate(timeout=30)
        for each in (tried_url, right_url):
            _dropped(server, each)
    return Statements(
        statements=statements,
        killed=sum(len(found[kind]) for kind in ("before", "behind", "torn")),
        before=len(found["before"]),
        behind=len(found["behind"]),
        torn=found["torn"],
        not_healed=found["not_healed"],
    )


def _killed(dying: subprocess.Popen[str], statement: int, when: str) -> bool:
    """Have a projector killed; False where its batch needs fewer statements, and it came to the end of it."""
    assert dying.stdin is not None
    assert dying.stdout is not None
    dying.stdin.write(f"{statement} {when}\n")
    dying.stdin.flush()
    answer = dying.stdout.readline().strip()
    if answer not in ("killed", "lived"):
        raise AssertionError(
            f"The projector was to die {when} statement {statement}, and answered {answer!r}."
        )
    return answer == "killed"


def _name(url: str) -> str:
    return urlsplit(url).path.lstrip("/")


def _copied(server: psycopg.Connection[Any], url: str, to: str) -> None:
    _dropped(server, to)
    _wait_until_gone(server, url)
    server.execute(
        sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
            sql.Identifier(_name(to)), sql.Identifier(_name(url))
        )
    )


def _dropped(server: psycopg.Connection[Any], url: str) -> None:
    server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(_name(url))))


def _wait_until_gone(server: psycopg.Connection[Any], url: str) -> None:
    """Wait until the server has noticed the death: until then it may still be at the last statement."""
    deadline = time.monotonic() + GONE_S
    while server.execute(
        "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend'", (_name(url),)
    ).fetchone():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Somebody is still connected to {_name(url)}.")
        time.sleep(0.002)


def _state(url: str) -> _State:
    with psycopg.connect(url, autocommit=True) as conn:
        positions = conn.execute("SELECT name, position FROM touchlog.projections ORDER BY name").fetchall()
        noted = conn.execute("SELECT target, position FROM touchlog.amendments ORDER BY 1, 2").fetchall()
        return [*positions, *noted], digests(conn)


def _fold(url: str, *, batch: int, steps: int | None = None, store: type[ReadModels] = ReadModels) -> None:
    """Run a projector to the head, or so many batches."""
    reader, models = connect_log(url, pool=1, role=APP_ROLE), store(url)
    models.holder = HOLDER
    projector = Projector(reader, models, [type(each)() for each in PROJECTIONS.values()], batch=batch)
    try:
        assert projector.take_leases()
        while projector.step() and (steps is None or (steps := steps - 1)):
            pass
        projector.release_leases()
    finally:
        models.close()
        reader.datastore.close()


def main() -> None:
    """Fork a projector for each line of standard input, `STATEMENT MOMENT`, and say what became of it."""
    logs.configure("error", part="soak", form="pairs")
    url, batch = sys.argv[1], int(sys.argv[2])
    for line in sys.stdin:
        statement, when = line.split()
        child = os.fork()
        if child == 0:
            _Mortal.dies_at, _Mortal.dies = int(statement), when
            try:
                _fold(url, batch=batch, steps=1, store=_MortalModels)
            except BaseException:  # noqa: BLE001 - a fork must not go on as its parent would
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print("killed" if killed else "lived" if status == 0 else "failed", flush=True)


if __name__ == "__main__":
    main()
