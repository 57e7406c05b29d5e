"""A ClickHouse server, as far as it is needed: a statement in, rows out."""

from __future__ import annotations

import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit

import msgspec

from domain.errors import Misconfigured, Unavailable

__all__ = ["HttpServer", "Server", "literal", "make_tables", "rows_of"]

TIMEOUT_S = 600.0


class Server(Protocol):
    """Where statements run. Tests run them in ClickHouse's own engine within their process."""

    def run(self, statement: str, rows: bytes = b"") -> bytes:
        """Run one statement; *rows* follow an INSERT.

        Raises:
            Unavailable: the server is away, or refuses; in its words.
        """


class HttpServer:
    """A server by its HTTP interface.

    Args:
        url: `http://user:password@host:8123/database`.

    Raises:
        Misconfigured: the URL names no database.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        database = parts.path.strip("/")
        if not parts.hostname or not database:
            raise Misconfigured(
                "TOUCHLOG_CLICKHOUSE_URL names server and database, such as http://user:password@host:8123/touchlog."
            )
        port = f":{parts.port}" if parts.port else ""
        self._url = f"{parts.scheme}://{parts.hostname}{port}/?database={quote(database)}"
        self._shown = f"{parts.hostname}{port}"
        user = f"{unquote(parts.username or 'default')}:{unquote(parts.password or '')}"
        self._headers = {"Authorization": f"Basic {b64encode(user.encode()).decode()}"}
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def run(self, statement: str, rows: bytes = b"") -> bytes:
        """Run one statement; see `Server`."""
        url = f"{self._url}&query={quote(statement)}" if rows else self._url
        request = urllib.request.Request(url, data=rows or statement.encode(), headers=self._headers)  # noqa: S310 - http or https, of the settings
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                found: bytes = answer.read()
                return found
        except urllib.error.HTTPError as refused:
            with refused:
                told = refused.read(500).decode(errors="replace").strip()
            raise Unavailable(f"ClickHouse at {self._shown} refuses: {told}") from None
        except OSError as away:
            raise Unavailable(f"ClickHouse at {self._shown} does not answer ({away}).") from None


def literal(text: str) -> str:
    """A text as a literal of SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0") + "'"


_SETTINGS = "output_format_json_quote_64bit_integers = 0, precise_float_parsing = 1"
"""Integers as they are, and texts read as the floating point next to them: a server that is not told may round in a faster way."""


def rows_of(server: Server, query: str) -> list[list[Any]]:
    """The rows of a query."""
    told = server.run(f"{query} SETTINGS {_SETTINGS} FORMAT JSONCompact")
    rows: list[list[Any]] = msgspec.json.decode(told)["data"]
    return rows


def make_tables(server: Server) -> None:
    """Make the tables that are not there yet."""
    text = Path(__file__).with_name("tables.sql").read_text("utf-8")
    for statement in text.split(";\n"):
        if "CREATE" in statement:
            server.run(statement.strip().rstrip(";"))
