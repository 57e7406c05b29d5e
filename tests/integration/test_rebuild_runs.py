"""Rebuilds that nobody waits for: asked over HTTP, cut off and gone on with, built for a deployed version; acts on record."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from adapters.postgres.event_log import connect_log
from adapters.rebuilds import rebuild as rebuilding
from adapters.rebuilds import runs as rebuild_runs
from adapters.rebuilds.rebuild import Rebuild
from adapters.rebuilds.runs import RebuildRun, ask, connected, next_run, running, runs
from bin.commands.rebuilding import perform
from bin.compose import act_recorded
from bin.processes.rebuilder import Rebuilder
from bin.settings import Settings
from domain.errors import NotFound, Underway
from tests.integration.foreign_distribution import installed, visits
from tests.integration.running import Served, served_http
from tests.integration.test_imports_retract import touchlog
from tests.integration.test_projector import history
from tests.integration.test_rebuild import projected
from tests.waiting import wait_until

__all__ = ["touchlog"]

ROOT = Path(__file__).resolve().parents[2]


def acts(url: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Give (type, who, what) of the records log but for access."""
    with psycopg.connect(url) as conn:
        bodies = conn.execute("SELECT body FROM records_log.events ORDER BY position").fetchall()
    told = [orjson.loads(bytes(body)) for (body,) in bodies]
    return [(t["type"], t["principal"], t.get("data", {})) for t in told if t["type"] != "access.recorded"]


def of(url: str, name: str) -> RebuildRun:
    """Give the last rebuild of one projection."""
    with connected(url) as conn:
        return next(run for run in runs(conn) if run.name == name)


def let_go(url: str) -> None:
    """Wait until nobody holds a rebuild: the server hears of a connection that was closed a moment later."""
    with connected(url) as conn:
        held = (
            "SELECT FROM pg_locks WHERE locktype = 'advisory' "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        wait_until(lambda: not conn.execute(held).fetchall(), "the rebuild to be let go of")


@contextmanager
def rebuilder(settings: Settings) -> Iterator[None]:
    """Run what the projectors part runs beside."""
    stopping = threading.Event()
    thread = Rebuilder(settings, stopping)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(60)
        assert not thread.is_alive()


# -- over HTTP -------------------------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path, database_url: str) -> Iterator[Served]:
    """Run HTTP on a log of 200 events whose read models are at the head."""
    log = connect_log(database_url, role="touchlog_app")
    log.append(history(8, 200))
    projected(log, database_url)
    log.datastore.close()
    with served_http(tmp_path / "data", database_url) as it:
        yield it


def test_a_rebuild_over_http_is_shown_compared_swapped_and_on_record(served: Served) -> None:
    url = served.database_url
    with served.client() as client:
        answer = client.post("/v1/projections/conversations/rebuild", json={"compare": True, "swap": True})
        assert (answer.status_code, answer.json()["look"]) == (202, "/v1/projections")
        again = client.post("/v1/projections/conversations/rebuild")
        assert (again.status_code, again.json()["type"]) == (409, "/docs#underway")
        assert f"Rebuild {answer.json()['rebuild']['id']} of conversations" in again.json()["detail"]
        other = client.post("/v1/projections/daily_volumes/rebuild", json={"known_at": "@90"})
        assert other.status_code == 202, "another projection is not in the way"

        with rebuilder(served.settings):
            wait_until(
                lambda: of(url, "conversations").state == of(url, "daily_volumes").state == "done",
                "both rebuilds to end", within_s=180,
            )  # fmt: skip

        shown = {run["name"]: run for run in client.get("/v1/projections").json()["rebuilds"]}
    one = shown["conversations"]
    assert (one["outcome"]["differences_total"], one["outcome"]["swapped"]) == (0, True)
    assert (one["state"], one["position"], one["remaining_s"]) == ("done", 200, None)
    assert (shown["daily_volumes"]["outcome"]["position"], shown["daily_volumes"]["known_at"]) == (90, 90)
    who = served.key[:11]
    assert [(kind, by, told["name"]) for kind, by, told in acts(url)] == [
        ("rebuild.started", who, "conversations"),
        ("rebuild.started", who, "daily_volumes"),
        ("rebuild.swapped", who, "conversations"),
    ]


@pytest.mark.parametrize(
    ("name", "body", "status", "word"),
    [
        ("nothing", "", 404, "there are: audit_trail"),
        ("conversations", '{"swop": true}', 400, "swop"),
        ("conversations", "{", 400, "right would be"),
        ("conversations", '{"known_at": "@9", "swap": true}', 400, "another moment"),
        ("conversations", '{"known_at": "@999"}', 400, "not in the log"),
        ("conversations", '{"as_of": "2026-01-01T00:00:00"}', 400, "no zone"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_and_leaves_nothing(
    served: Served, name: str, body: str, status: int, word: str
) -> None:
    with served.client() as client:
        answer = client.post(f"/v1/projections/{name}/rebuild", content=body)
    assert answer.status_code == status
    assert word in answer.text
    with connected(served.database_url) as conn:
        assert runs(conn) == []
    assert acts(served.database_url) == []


def test_only_an_admin_rebuilds(served: Served, touchlog: Callable[..., Any]) -> None:
    made = json.loads(touchlog("keys", "add", "--role", "analyst", "--json").stdout)
    for key, status in (("", 401), (made["key"], 403)):
        with served.client(key) as client:
            assert client.post("/v1/projections/persons/rebuild").status_code == status


# -- cut off ---------------------------------------------------------------------------------------------


def cut_off(url: str, run_id: int, name: str, at: int, by: type[BaseException] = SystemExit) -> None:
    """Run a rebuild up to position *at* and leave it as a killed process does."""
    log = connect_log(url, role="touchlog_app")

    def stop(position: int, _: int) -> None:
        if position >= at:
            raise by

    with suppress(by), running(url, run_id):
        rebuild = Rebuild(url, log, name)
        try:
            rebuild.build(progress=stop)
        finally:
            rebuild.close()
    log.datastore.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rebuilds fold 50 events at a time, and go on at once."""
    monkeypatch.setattr(rebuilding, "BATCH_EVENTS", 50)
    monkeypatch.setattr(rebuild_runs, "_AGAIN_AFTER", "interval '0'")


@pytest.mark.usefixtures("small")
def test_a_rebuild_that_was_cut_off_is_told_so_and_goes_on_where_it_stood(
    served: Served,
) -> None:
    url = served.database_url
    with connected(url) as conn:
        run_id = ask(conn, "audit_trail", by="key:test", compare=True)
        cut_off(url, run_id, "audit_trail", 100)

        # the server hears of the lost connection, which held the run, a moment later
        wait_until(lambda: of(url, "audit_trail").state == "cut_off", "the run to be told as cut off")
        assert of(url, "audit_trail").position == 100
        with pytest.raises(Underway, match="was cut off at position 100 and goes on"):
            ask(conn, "audit_trail", by="key:other")
        assert next_run(conn) == run_id
    outcome = perform(served.settings, url, run_id)

    with connected(url) as conn:
        assert conn.execute("SELECT from_position FROM touchlog.rebuilds").fetchone() == (100,)
        assert next_run(conn) is None
    assert (outcome["position"], outcome["differences_total"]) == (200, 0)


@pytest.mark.usefixtures("small")
def test_a_command_that_was_cut_off_is_told_so_and_may_be_given_again(served: Served) -> None:
    url = served.database_url
    with connected(url) as conn:
        first = ask(conn, "persons", by="cli:ann", goes_on=False)
        cut_off(url, first, "persons", 100)
        assert (of(url, "persons").state, of(url, "persons").reason) == (
            "failed", "It was cut off; start it again.",
        )  # fmt: skip
        second = ask(conn, "persons", by="cli:ann", goes_on=False)
        # Killed with -9, it could say nothing.
        conn.execute("UPDATE touchlog.rebuilds SET state = 'running' WHERE id = %s", (second,))
        third = ask(conn, "persons", by="cli:bob", goes_on=False)
        assert next_run(conn) is None, "what a command began is not gone on with behind its back"
    assert perform(served.settings, url, third)["position"] == 200


def test_two_processes_never_run_one_rebuild(served: Served) -> None:
    url = served.database_url
    with connected(url) as conn:
        run_id = ask(conn, "persons", by="key:test")
    with running(url, run_id):
        assert of(url, "persons").state == "running"
        with pytest.raises(Underway), running(url, run_id):
            pass
    let_go(url)
    with pytest.raises(ValueError, match="planted"), running(url, run_id):
        raise ValueError("planted")
    assert (of(url, "persons").state, of(url, "persons").reason) == ("failed", "planted")
    let_go(url)
    with pytest.raises(NotFound), running(url, run_id):
        pass


# -- acts of operation -----------------------------------------------------------------------------------


def test_each_act_of_operation_leaves_one_record(touchlog: Callable[..., Any], database_url: str) -> None:
    log = connect_log(database_url, role="touchlog_app")
    log.append(history(8, 30))
    projected(log, database_url)
    log.datastore.close()

    def did(*command: str) -> list[tuple[str, dict[str, Any]]]:
        before = len(acts(database_url))
        done = touchlog(*command)
        assert done.exit_code == 0, done.output
        found = acts(database_url)[before:]
        assert all(by.startswith("cli:") for _, by, _ in found)
        return [(kind, told) for kind, _, told in found]

    (key,) = did("keys", "add", "--role", "adapter", "--source", "shop", "--json")
    assert (key[0], key[1]["role"], key[1]["sources"]) == ("key.added", "adapter", ["shop"])
    assert did("keys", "revoke", key[1]["key_id"]) == [("key.revoked", {"key_id": key[1]["key_id"]})]
    before = acts(database_url)
    with pytest.raises(NotFound):
        touchlog("keys", "revoke", key[1]["key_id"])
    assert acts(database_url) == before, "what is refused leaves nothing"
    assert did("keys", "list") == did("projections") == did("parked") == []
    assert [kind for kind, _ in did("rebuild", "conversations")] == ["rebuild.started"]
    assert [kind for kind, _ in did("rebuild", "conversations", "--swap")] == [
        "rebuild.started", "rebuild.swapped",
    ]  # fmt: skip
    assert did("rebuild", "conversations", "--drop", "retired_conversations") == [
        ("rebuild.dropped", {"name": "conversations", "schema": "retired_conversations"})
    ]
    assert did("rebuild", "conversations", "--drop", "retired_conversations") == []
    assert did("parked", "retry") == [("parked.retried", {"name": None, "healed": 0, "left": 0})]


# -- another version -------------------------------------------------------------------------------------


class Parts:
    """The projectors part as `serve` starts it, with another's distribution beside it."""

    def __init__(self, settings: Settings, folder: Path, said: Path) -> None:
        self.said = said
        with said.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bin.parts", "projectors", "--data", str(settings.data)],
                stdout=out, stderr=out, cwd="/",
                env={**settings.environment(), "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
            )  # fmt: skip

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it."""
        self.process.send_signal(how)
        self.process.wait(120)


def live(url: str, name: str) -> tuple[int, int] | None:
    """Give (version, position) of what answers."""
    with psycopg.connect(url) as conn:
        row: tuple[int, int] | None = conn.execute(
            "SELECT version, position FROM touchlog.projections WHERE name = %s AND schema = 'read'", (name,)
        ).fetchone()
    return row


@pytest.mark.parametrize(
    ("change", "how"),
    [
        ({"column": "channel"}, signal.SIGTERM),
        ({"kind": "int", "value": "len(told.channel)"}, signal.SIGKILL),
    ],
    ids=["other_column", "other_type"],
)
def test_a_deployed_version_builds_itself_beside_and_takes_over(
    tmp_path: Path, database_url: str, change: dict[str, str], how: signal.Signals
) -> None:
    """Its rows are the new code's, the old are kept, and an act tells of both."""
    settings = Settings.load({}, data=tmp_path / "data", database_url=database_url)
    act_recorded(settings, database_url, "test.begun", "test", {})
    log = connect_log(database_url, role="touchlog_app")
    log.append(history(8, 200))
    folder = installed(tmp_path / "site", "their_pages", visits(1))
    part = Parts(settings, folder, tmp_path / "said.log")
    try:
        wait_until(lambda: live(database_url, "pages_seen") == (1, 200), "version 1 to answer", within_s=180)
    finally:
        part.end(how)
    log.append(history(9, 220)[200:])

    installed(folder, "their_pages", visits(2, **change))
    part = Parts(settings, folder, tmp_path / "said.log")
    try:
        wait_until(lambda: live(database_url, "pages_seen") == (2, 220), "version 2 to answer", within_s=180)
        log.append(history(10, 230)[220:])
        wait_until(lambda: live(database_url, "pages_seen") == (2, 230), "it to be kept up", within_s=180)
        wait_until(
            lambda: any(kind == "rebuild.swapped" for kind, _, _ in acts(database_url)),
            "the swap, which comes first, to be on record",
            within_s=180,
        )
    finally:
        part.end()
        log.datastore.close()

    column = change.get("column", "path")
    with psycopg.connect(database_url) as conn:
        now = conn.execute(f"SELECT count(*), count({column}) FROM read.pages_seen").fetchone()  # noqa: S608 - one of two
        then = conn.execute("SELECT count(*), min(path) FROM retired_pages_seen.pages_seen").fetchone()
    assert now
    assert then
    assert now[0] == now[1] > then[0] > 0
    assert then[1] in ("phone", "web")
    kinds = [(kind, by) for kind, by, told in acts(database_url) if told.get("name") == "pages_seen"]
    assert kinds == [("rebuild.started", "serve"), ("rebuild.swapped", "serve")]


def test_questions_that_the_version_before_can_answer_are_answered_and_others_told_the_lag(
    served: Served,
) -> None:
    """As after a deploy, while the new version is built beside."""
    with psycopg.connect(served.database_url, autocommit=True) as conn:
        conn.execute("ALTER TABLE read.daily_volumes RENAME COLUMN direction TO way")
        conn.execute("UPDATE touchlog.projections SET version = 0 WHERE name = 'daily_volumes'")
    with served.client() as client:
        by_type = client.get("/v1/volumes?by=type")
        by_direction = client.get("/v1/volumes?by=direction")
        later = client.get("/v1/volumes?by=type", headers={"Touchlog-After": "201"})
        trail = client.get("/v1/audit/trail")

        assert (by_type.status_code, by_type.json()["events"], by_type.json()["head"]) == (200, 200, 200)
        assert (by_direction.status_code, by_direction.json()["type"]) == (503, "/docs#behind")
        assert by_direction.json()["lag_positions"] == 200
        assert "daily_volumes version 1 (position 0 of 200)" in by_direction.json()["detail"]
        assert (later.status_code, later.json()["lag_positions"]) == (503, 1)
        assert trail.status_code == 200

        with rebuilder(served.settings):
            wait_until(
                lambda: live(served.database_url, "daily_volumes") == (1, 200), "the swap", within_s=180
            )
        assert client.get("/v1/volumes?by=direction").json()["events"] == 200


def test_a_version_that_another_process_keeps_up_is_left_alone(served: Served) -> None:
    """An older touchlog still runs: two versions do not take turns."""
    with connected(served.database_url) as conn:
        conn.execute("UPDATE touchlog.projections SET version = 0 WHERE name = 'persons'")
        assert [p.name for p in rebuild_runs.outgrown(conn)] == ["persons"]
        conn.execute("UPDATE touchlog.projections SET leased_to = clock_timestamp() + interval '1 hour'")
        assert rebuild_runs.outgrown(conn) == []
