"""What integration tests share: one embedded PostgreSQL a session, a migrated database a test module."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from adapters.embedded import servers
from adapters.postgres.schema import migrate
from bin.settings import Settings

TEMPLATE = "touchlog_template"
_numbers = count(1)


def other_database(url: str, name: str) -> str:
    """Give *url* with another database of the same server."""
    head, mark, query = url.partition("?")
    return f"{re.sub(r'/[^/]*$', '', head)}/{name}{mark}{query}"


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run an embedded PostgreSQL for the length of the session; its URL names a database of no use."""
    settings = Settings.load({}, data=tmp_path_factory.mktemp("postgres") / "data")
    with servers(settings, by="the tests") as (url, _):
        yield url


@pytest.fixture(scope="session")
def template_url(postgres_url: str) -> str:
    """Migrate one database, of which the others are copies."""
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    url = other_database(postgres_url, TEMPLATE)
    migrate(url)
    return url


def copy_of(template_url: str) -> str:
    """Make a database of its own; gives its URL."""
    name = f"test_{next(_numbers)}"
    server = other_database(template_url, str(conninfo_to_dict(template_url).get("user")))
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY WAL_LOG").format(
                sql.Identifier(name), sql.Identifier(TEMPLATE)
            )
        )
    return other_database(template_url, name)


@pytest.fixture(scope="module")
def database_url(template_url: str) -> str:
    """Give a fresh, migrated database to each test module."""
    return copy_of(template_url)


@pytest.fixture
def fresh_database_url(template_url: str) -> str:
    """Give a fresh, migrated database to each test that asks."""
    return copy_of(template_url)
