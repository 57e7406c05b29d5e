"""Serve: one command brings everything up, keeps it up, and takes it down."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

import projections  # noqa: F401 - registers every projection
from adapters.embedded.processes import Footprint, footprint
from adapters.postgres.event_log import Item, connect_log
from domain.entry import event_id_of, uuid_text
from projections.projection import PROJECTIONS
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
CALL = Item(
    event_id_of("desk", "1"),
    "call.ended",
    orjson.dumps(
        {
            "channel": "phone",
            "event_id": uuid_text(event_id_of("desk", "1")),
            "id": "1",
            "occurred_at": "2026-01-01T00:00:00.000000Z",
            "principal": "key:test",
            "source": "desk",
            "subjects": [("01234567-89ab-4def-8123-456789abcdef", "email", "")],
            "type": "call.ended",
            "version": 1,
        }
    ),
    b"\x00" * 16,
)


class Serve:
    """One `touchlog serve`, as somebody at a terminal would start it."""

    def __init__(self, data: Path, *arguments: str, cwd: Path | None = None) -> None:
        self.data = data if cwd is None else cwd / data
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TOUCHLOG_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bin.cli", "serve", "--data", str(data), "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd or ROOT,
            env={**kept, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"},
        )

    def ready_line(self) -> str:
        """Wait for the line that says where it is."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.outcome()
        return line.strip()

    def outcome(self) -> str:
        """Wait for the end; gives the exit code and all that was said."""
        said, complained = self.process.communicate(timeout=240)
        return f"exit {self.process.returncode}: {said}{complained}"

    def told(self) -> dict[str, Any]:
        """Read what serve tells other commands."""
        answer: dict[str, Any] = json.loads((self.data / "run" / "servers.json").read_bytes())
        return answer

    def stop(self, how: signal.Signals = signal.SIGTERM) -> str:
        """End it, and give the outcome."""
        self.process.send_signal(how)
        return self.outcome()


@pytest.fixture
def servings() -> Iterator[list[Serve]]:
    """Hold those that a test started, so that none outlives it."""
    begun: list[Serve] = []
    yield begun
    for each in begun:
        if each.process.poll() is None:
            each.process.kill()
        each.process.communicate()


def answers(url: str, *, path: str = "/readyz", within_s: float = 10) -> bool:
    try:
        with urllib.request.urlopen(f"{url}{path}", timeout=within_s) as answer:
            return bool(answer.status == 200)
    except (OSError, HTTPException):
        return False


def greets(nats_url: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", int(nats_url.rpartition(":")[2])), timeout=10) as greeted:
            return greeted.recv(4, socket.MSG_WAITALL) == b"INFO"
    except OSError:
        return False


def stores(database_url: str) -> bool:
    try:
        with psycopg.connect(database_url, connect_timeout=10) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def has_ended(process: Footprint) -> bool:
    return not process.is_alive()


def test_it_starts_heals_stops_and_continues(tmp_path: Path, servings: list[Serve]) -> None:
    data = tmp_path / "with a space" / "data"
    serve = Serve(data)
    servings.append(serve)
    line = serve.ready_line()
    told = serve.told()
    assert told["http_url"] in line
    assert str(data / "admin.key") in line
    wait_until(lambda: answers(told["http_url"]), "HTTP to answer")
    assert greets(told["nats_url"])
    assert stores(told["database_url"])
    for secret in ("run/servers.json", "nats.key", "nats.password", "postgres.password", "nats/nats.conf"):
        assert stat.S_IMODE((data / secret).stat().st_mode) == 0o600, secret
    with psycopg.connect(told["database_url"], autocommit=True) as connection:
        connection.execute("CREATE TABLE public.kept AS SELECT 42 AS answer")

    # A second one is told who is there.
    second = Serve(data)
    servings.append(second)
    outcome = second.outcome()
    assert outcome.startswith("exit 1: touchlog: Another serve")
    assert str(serve.process.pid) in outcome

    # Each child is killed, and comes again where it was.
    for name, lives in (
        ("http", lambda: answers(told["http_url"])),
        ("relay", lambda: True),
        ("projectors", lambda: True),
        ("projectors-later", lambda: True),
        ("nats", lambda: greets(told["nats_url"])),
        ("postgres", lambda: stores(told["database_url"])),
    ):
        pid = told["pids"][name]
        os.kill(pid, signal.SIGKILL)
        if name == "http":
            assert answers(told["http_url"], path="/healthz", within_s=60), (
                "a connection waits while its process is started again"
            )

        def is_another(name: str = name, pid: int = pid) -> bool:
            return bool(serve.told()["pids"].get(name, pid) != pid)

        wait_until(is_another, f"{name} has another process")
        wait_until(lives, f"{name} answers again")

    outcome = serve.stop(signal.SIGINT)
    assert outcome.startswith("exit 0"), outcome
    assert not (data / "run" / "servers.json").exists()

    again = Serve(data)
    servings.append(again)
    again.ready_line()
    with psycopg.connect(again.told()["database_url"]) as connection:
        assert connection.execute("SELECT answer FROM public.kept").fetchone() == (42,)
    # The same places as before: who had remembered them finds them.
    assert again.told()["database_url"] == told["database_url"]
    assert again.told()["nats_url"] == told["nats_url"]
    assert again.stop().startswith("exit 0")


def test_after_a_kill_nothing_is_left_and_the_next_start_continues(
    tmp_path: Path, servings: list[Serve]
) -> None:
    first = Serve(Path("data"), cwd=tmp_path)
    servings.append(first)
    first.ready_line()
    told = first.told()
    with psycopg.connect(told["database_url"], autocommit=True) as connection:
        connection.execute("CREATE TABLE public.kept AS SELECT 42 AS answer")
    children = {name: footprint(pid) for name, pid in told["pids"].items()}
    first.process.kill()
    first.process.communicate()

    second = Serve(Path("data"), cwd=tmp_path)
    servings.append(second)
    second.ready_line()
    for name, child in children.items():  # by number and start: another may have the number by now
        wait_until(partial(has_ended, child), f"{name} of the killed serve ended")
    with psycopg.connect(second.told()["database_url"]) as connection:
        assert connection.execute("SELECT answer FROM public.kept").fetchone() == (42,)
    assert second.stop().startswith("exit 0")


def test_two_stand_side_by_side_and_parts_can_be_chosen(tmp_path: Path, servings: list[Serve]) -> None:
    one = Serve(tmp_path / "one", "--workers", "2")
    two = Serve(tmp_path / "two", "--only", "projectors")
    servings.extend((one, two))
    assert "is ready at" in one.ready_line()
    assert two.ready_line() == "touchlog runs projectors"
    assert {"http", "http-2", "projectors", "projectors-later", "relay"} < one.told()["pids"].keys()
    assert two.told()["pids"].keys() == {"postgres", "nats", "projectors", "projectors-later"}
    assert one.told()["database_url"] != two.told()["database_url"]
    assert one.stop().startswith("exit 0")
    assert two.stop().startswith("exit 0")


def test_what_must_be_fresh_does_not_wait_for_what_comes_later(tmp_path: Path, servings: list[Serve]) -> None:
    # given read models that follow the log
    serve = Serve(tmp_path / "data", "--only", "projectors")
    servings.append(serve)
    serve.ready_line()
    with psycopg.connect(serve.told()["database_url"], autocommit=True) as connection:

        def positions() -> dict[str, int]:
            return dict(connection.execute("SELECT name, position FROM touchlog.projections").fetchall())

        wait_until(lambda: set(positions()) == set(PROJECTIONS), "all read models were begun")
        log = connect_log(serve.told()["database_url"], role="touchlog_app", pool=1)
        # when one that may come later cannot be written
        with psycopg.connect(serve.told()["database_url"]) as other:
            other.execute("LOCK TABLE read.daily_volumes")
            log.append([CALL])
            # then those that are live go on, and it comes to the end when it can
            wait_until(lambda: positions()["contact_history"] == 1, "the history is at the head")
            wait_until(lambda: positions()["identities"] == 1, "the identities are at the head")
            assert positions()["daily_volumes"] == 0
        wait_until(lambda: set(positions().values()) == {1}, "all read models are at the head")
        log.datastore.close()


def test_projections_can_be_chosen(tmp_path: Path, servings: list[Serve]) -> None:
    one = Serve(tmp_path / "one", "--only", "projectors", "--projections", "persons,conversations")
    wrong = Serve(tmp_path / "two", "--only", "projectors", "--projections", "persons,nobody")
    servings.extend((one, wrong))
    one.ready_line()
    assert one.told()["pids"].keys() == {"postgres", "nats", "projectors-later"}
    with psycopg.connect(one.told()["database_url"], autocommit=True) as connection:

        def begun() -> list[tuple[str]]:
            return connection.execute("SELECT name FROM touchlog.projections ORDER BY 1").fetchall()

        wait_until(lambda: begun() == [("conversations",), ("persons",)], "the chosen ones run")
    outcome = wrong.outcome()
    assert outcome.startswith("exit 2"), outcome
    assert "There is no projection 'nobody'; there are: audit_trail" in " ".join(
        outcome.replace("│", " ").split()
    )
    assert one.stop().startswith("exit 0")


def test_a_taken_port_is_named(tmp_path: Path, servings: list[Serve]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        serve = Serve(tmp_path / "data", "--port", str(port))
        servings.append(serve)
        outcome = serve.outcome()
    assert outcome.startswith(f"exit 1: touchlog: Cannot listen on 127.0.0.1 port {port}"), outcome
