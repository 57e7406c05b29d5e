"""What integration tests share beyond tests/conftest.py: one database for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from tests.conftest import TEMPLATE

_numbers = count(1)


@pytest.fixture(scope="module")
def module_database_url(database_server: str) -> Iterator[str]:
    """Give a fresh, migrated database to all tests of a module that share one running part."""
    name = f"module_{next(_numbers)}"
    database = sql.Identifier(name)
    with psycopg.connect(database_server, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(database, sql.Identifier(TEMPLATE))
        )
        yield urlsplit(database_server)._replace(path=f"/{name}").geturl()
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))
