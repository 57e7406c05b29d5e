"""The loader of ClickHouse: each row once wherever it is cut off, and over HTTP the answers of the columns."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import psycopg
import pytest
from typer.testing import CliRunner

from adapters.clickhouse import loader as loading
from adapters.clickhouse.loader import Loader
from adapters.clickhouse.server import HttpServer, rows_of
from adapters.columns.following import connected
from bin import cli
from domain.errors import Refused, Unavailable
from tests.integration.running import Served, served_http
from tests.integration.test_columns import DAY, given, viewed, web
from tests.unit.test_clickhouse import Engine
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Served]:
    with served_http(tmp_path_factory.mktemp("clickhouse") / "data", module_database_url) as running:
        yield running


@pytest.fixture(scope="module")
def clickhouse() -> Iterator[str]:
    """ClickHouse's engine behind the HTTP interface of a server; its URL."""
    engine = Engine()
    one_at_a_time = threading.Lock()

    class Interface(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            query = parse_qs(urlsplit(self.path).query).get("query")
            status = 200
            with one_at_a_time:
                try:
                    told = engine.run(query[0], body) if query else engine.run(body.decode())
                except Exception as refused:  # noqa: BLE001 - as the server tells it
                    status, told = 500, str(refused).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(told)))
            self.end_headers()
            self.wfile.write(told)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Interface) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://user:secret@127.0.0.1:{listening.server_port}/touchlog"
        listening.shutdown()
        thread.join()
    engine.close()


class Cut(Exception):
    """The loader is killed here."""


class Cutting:
    """A server that is reached only so many times."""

    def __init__(self, server: HttpServer, times: int) -> None:
        self._server = server
        self.left = times

    def run(self, statement: str, rows: bytes = b"") -> bytes:
        if statement.startswith("INSERT"):
            if not self.left:
                raise Cut
            self.left -= 1
        return self._server.run(statement, rows)


@contextmanager
def alone(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Connect once no loader is at work: the server hears of a connection that was closed a moment later."""
    with connected(url) as conn:
        held = (
            "SELECT FROM pg_locks WHERE locktype = 'advisory' "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        wait_until(lambda: not conn.execute(held).fetchall(), "the loader before to be gone")
        yield conn


def test_each_row_is_loaded_once_wherever_the_loader_is_cut_off_and_the_answers_are_the_same(
    served: Served, clickhouse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given persons of two names, an order that names nobody, corrections, a retraction of a path
    monkeypatch.setattr(loading, "BATCH_ROWS", 7)
    monkeypatch.setattr("adapters.columns.following.BATCH_EVENTS", 3)
    with served.client() as http:
        before = given(
            http,
            *(web(f"c{i}", f"user:c-{i % 5}", f"/c/{'ab'[i % 2]}", 1 + i) for i in range(20)),
            web("c90", "anonymous:c-9", "/c/a", 1), web("c91", "user:c-8", "/c/b", 2),
            web("c92", "user:c-8", "/c/z", 3, identifiers="anonymous:c-9"),
        )  # fmt: skip
        correction = {
            "specversion": "1.0", "id": "cc", "source": "test/office", "type": "correction.recorded", "time": DAY.format(9),
            "data": {"of": {"source": "test/web", "id": "c1"}, "patch": {"data": {"path": "/elsewhere"}}},
        }  # fmt: skip
        head = given(http, correction, web("c93", "user:c-4", "/c/b", 28))
        served.project()

        # when the loader is cut off at each of its writes
        server = HttpServer(clickhouse)
        cuts = 0
        for times in range(60):
            with alone(served.database_url) as conn:
                try:
                    assert Loader(conn, Cutting(server, times % 5)).load() == head
                    break
                except Cut:
                    cuts += 1
        assert cuts > 3

        # then everything is there once
        assert rows_of(server, "SELECT count(), uniqExact(position, known_from) FROM events") == [[26, 26]]
        assert rows_of(server, "SELECT position, known_to FROM closed") == [[2, head - 1]]

        # and answers are those of the columns, at any moment
        for question in (
            {"steps": viewed("/c/a", "/c/b"), "window": "P14D", "breakdown": "data.path", "trend": "week"},
            {"steps": viewed("/c/a", "/c/b"), "window": "P1D", "known_at": f"@{before}"},
            {"steps": viewed("/c/a", "/c/b"), "window": "P1D", "as_of": DAY.format(2), "count": "total"},
        ):
            expected = http.post("/v1/funnels/query", json=question)
            assert expected.status_code == 200, expected.text
            assert asked(served, clickhouse, question) == expected.json()
    with alone(served.database_url) as one, connected(served.database_url) as other:
        Loader(one, server)
        with pytest.raises(Unavailable, match="Another loader"):
            Loader(other, server)
        server.run(f"INSERT INTO loaded (position, log_id) VALUES ({head + 1}, 'another')")  # noqa: S608
    with alone(served.database_url) as conn, pytest.raises(Refused, match="another log"):
        Loader(conn, server)


def asked(served: Served, clickhouse: str, question: dict[str, Any]) -> Any:
    """Ask by the command."""
    file = served.settings.data / "question.toml"
    file.write_text(toml(question))
    environment = {"TOUCHLOG_DATABASE_URL": served.database_url, "TOUCHLOG_CLICKHOUSE_URL": clickhouse}
    command = ["clickhouse", "funnel", str(file), "--json", "--data", str(served.settings.data)]
    done = CliRunner().invoke(cli.app, command, env=environment)
    assert done.exit_code == 0, done.output
    return orjson.loads(done.stdout)


def toml(question: dict[str, Any]) -> str:
    steps = ", ".join(
        f'{{type = "{s["type"]}", where = {{path = "{s["where"]["path"]}"}}}}' for s in question["steps"]
    )
    return "\n".join([f"steps = [{steps}]", *(f'{k} = "{v}"' for k, v in question.items() if k != "steps")])


def test_a_server_that_is_not_there_is_told_with_its_name() -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 does not answer"):
        HttpServer("http://127.0.0.1:1/touchlog").run("SELECT 1")
