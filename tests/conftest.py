"""What all tests share: one embedded PostgreSQL for the run, and a fresh migrated database for each test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import Protocol
from urllib.parse import urlsplit

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql

from adapters.embedded.postgres import Postgres
from adapters.embedded.processes import end
from adapters.postgres.schema import migrate

settings.register_profile(
    "touchlog",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("touchlog")

OF_TERMINALS = {
    "COLUMNS",
    "LINES",
    "FORCE_COLOR",
    "NO_COLOR",
    "PY_COLORS",
    "TERMINAL_WIDTH",
    "TTY_COMPATIBLE",
}
for _name in list(os.environ):
    # What the caller has set for a touchlog, a database or a terminal of theirs is no matter of the tests.
    if _name.startswith(("TOUCHLOG_", "PG")) or _name in OF_TERMINALS:
        del os.environ[_name]

TEMPLATE = "migrated"
_numbers = itertools.count(1)


class NewDatabase(Protocol):
    """Makes a database; gives its URL."""

    def __call__(self, *, migrated: bool = True) -> str: ...


def _named(url: str, database: str) -> str:
    """Give the URL of another database of the same server."""
    return urlsplit(url)._replace(path=f"/{database}").geturl()


@pytest.fixture(scope="session")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run the embedded PostgreSQL for the whole run; gives the URL of its owner."""
    data = tmp_path_factory.mktemp("server")
    (data / "run").mkdir()
    log = data / "postgres.log"
    postgres = Postgres(data)
    postgres.prepare(log)
    process = postgres.start(log)
    try:
        postgres.wait_until_ready(process, log)
        with psycopg.connect(postgres.url, autocommit=True) as conn:
            # Each test drops its databases, and each drop waits until everything is on the disk: a fifth of the run.
            # What must outlive a kill is tested on servers of its own, which wait for the disk as users' do.
            conn.execute("ALTER SYSTEM SET fsync = off")
            conn.execute("SELECT pg_reload_conf()")
            conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
        migrate(_named(postgres.url, TEMPLATE))
        yield postgres.url
    finally:
        end(process, postgres.stop_signals, timeout_s=30)


@pytest.fixture
def new_database(database_server: str) -> Iterator[NewDatabase]:
    """Make migrated databases, each as fresh as the first; all are gone when the test ends."""
    made: list[str] = []
    with psycopg.connect(database_server, autocommit=True) as conn:

        def make(*, migrated: bool = True) -> str:
            name = f"test_{next(_numbers)}"
            template = TEMPLATE if migrated else "template0"
            conn.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
            made.append(name)
            return _named(database_server, name)

        yield make
        for name in made:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database_url(new_database: NewDatabase) -> str:
    """Give the URL of a fresh, migrated database, as its owner."""
    return new_database()
