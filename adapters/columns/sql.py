"""SQL over the columns: DuckDB with views by the names that analysts know from PostgreSQL."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.dataset as ds  # type: ignore[import-untyped]

from adapters.columns.library import Library
from adapters.columns.view import View
from domain.errors import Invalid, Problem

__all__ = ["Result", "Running", "ask_sql"]


class Result:
    """Rows of an answer, with the names of their columns, and the position that was known."""

    def __init__(self, columns: list[str], rows: list[tuple[Any, ...]], head: int) -> None:
        self.columns = columns
        self.rows = rows
        self.head = head


class Running:
    """A statement at work in a thread, as whoever waits for it holds it."""

    def __init__(self) -> None:
        self._conn: duckdb.DuckDBPyConnection | None = None

    def begins(self, conn: duckdb.DuckDBPyConnection) -> None:
        """Be told on which connection it runs."""
        self._conn = conn

    def ends(self) -> None:
        """Let go of the connection: what outlives it is complained of by DuckDB at the end of the process."""
        self._conn = None

    def interrupt(self) -> None:
        """End the statement, if it runs at this moment; to be said again until its thread has ended."""
        conn = self._conn
        if conn is not None:
            with suppress(duckdb.Error):  # closed by then
                conn.interrupt()


# Each is cut at the moment asked for: the files hold what became known, and who came, behind it.
_VIEWS = """
CREATE SCHEMA read;
CREATE VIEW read.columns AS
SELECT c.*, (SELECT min(e.known_to) FROM ends e
              WHERE e.position = c.position AND e.known_to > c.known_from AND e.known_to <= {known_at}) AS known_to
  FROM ({rows}) c WHERE c.known_from <= {known_at};
CREATE VIEW read.persons AS
SELECT o.owner, o.person FROM owners o
 WHERE o.person IS NOT NULL AND o.owner IN (SELECT c.owner FROM read.columns c WHERE true {happened});
CREATE VIEW read.event_log AS
SELECT c.* EXCLUDE (known_from, known_to), o.person
  FROM read.columns c LEFT JOIN owners o USING (owner)
 WHERE c.known_to IS NULL {happened};
"""


def ask_sql(
    library: Library,
    query: str,
    *,
    known_at: int,
    as_of: datetime | None = None,
    running: Running | None = None,
) -> Result:
    """Run one statement that reads; it sees the columns and nothing else of this machine.

    Raises:
        Invalid: DuckDB refuses the statement; in its words.
    """
    if not query.strip(" \t\r\n;"):
        raise Invalid([Problem("/query", "The statement is empty; write one that reads.", "sql")])
    view, owners, _ = library.view(known_at, as_of)
    for chunk in view.chunks:
        chunk.codes("owner")
    values = view.vocabularies["owner"].values if "owner" in view.vocabularies else []
    codes, names = owners(values)
    persons = [names[c] if c >= 0 else None for c in codes]
    found = _answered(
        view,
        pa.table({"owner": pa.array(values, pa.string()), "person": pa.array(persons, pa.string())}),
        query,
        as_of,
        running or Running(),
    )
    if isinstance(
        found, str
    ):  # raised here: an error that holds on to DuckDB's own is complained of at the end
        raise Invalid([Problem("/query", found, "sql")])
    return found


def _answered(
    view: View, persons: pa.Table, query: str, as_of: datetime | None, running: Running
) -> Result | str:
    """The answer, or why there is none."""
    with duckdb.connect(config={"threads": 2}) as conn:
        conn.execute("SET TimeZone = 'UTC'")
        conn.register("owners", persons)
        pairs = [(p, to) for p, ends in view.closed.items() for to in ends]
        conn.register(
            "ends",
            pa.table(
                {
                    "position": pa.array([p for p, _ in pairs], pa.int64()),
                    "known_to": pa.array([t for _, t in pairs], pa.int64()),
                }
            ),
        )
        parts = _registered(conn, view)
        if not parts:
            return "The log is empty: there is nothing to ask yet."
        happened = "" if as_of is None else f"AND c.occurred_at <= TIMESTAMPTZ '{as_of.isoformat()}'"
        conn.execute(
            _VIEWS.format(rows=" UNION ALL BY NAME ".join(parts), known_at=view.known_at, happened=happened)
        )
        conn.execute("SET enable_external_access = false")
        conn.execute("SET lock_configuration = true")
        running.begins(conn)
        try:
            if several := _unheard(conn, query):
                return several
            found: Any = conn.sql(query)
            if found is None:  # a statement that answers nothing
                return Result([], [], view.known_at)
            if any("TIME ZONE" in str(type_) for type_ in found.types):
                return Result(found.columns, _by_arrow(found.to_arrow_table()), view.known_at)
            return Result(found.columns, found.fetchall(), view.known_at)
        except duckdb.Error as refused:
            return str(refused)
        except (OverflowError, ValueError) as beyond:
            return (
                f"A time of the answer cannot be shown ({beyond}): years are 1 to 9999. Cast it to VARCHAR."
            )
        finally:
            running.ends()


def _unheard(conn: duckdb.DuckDBPyConnection, query: str) -> str:
    """Why a text is refused of which only the last answer would be shown; '' where nothing is left out."""
    answering = [
        duckdb.ExpectedResultType.QUERY_RESULT
    ]  # and nothing else: what only prepares may stand before
    stated = conn.extract_statements(query)
    if not any(each.expected_result_type == answering for each in stated[:-1]):
        return ""
    return f"Only the answer of the last of {len(stated):,} statements would be shown: ask them one by one."


def _by_arrow(table: pa.Table) -> list[tuple[Any, ...]]:
    """The rows of an answer with times: DuckDB itself would want a library of time zones of its own for them."""

    def read(value: Any) -> Any:  # DuckDB's sums of whole numbers
        whole = isinstance(value, Decimal) and value.as_tuple().exponent == 0
        return int(value) if whole else value

    return list(zip(*([read(v) for v in _micros(c).to_pylist()] for c in table.columns), strict=True))


def _micros(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Times to the microsecond, which is all that Python's know."""
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        return column.cast(pa.timestamp("us", column.type.tz), safe=False)
    return column


def _registered(conn: duckdb.DuckDBPyConnection, view: View) -> list[str]:
    """Statements that read all rows. Files are read by Arrow: a statement itself can open, and overwrite, none."""
    files = [c for c in view.chunks if c.file is not None]
    parts = []
    if files:
        schema = pa.unify_schemas([c.schema for c in files], promote_options="permissive")
        conn.register("shelf", ds.dataset([str(c.file) for c in files], schema=schema))
        parts.append("SELECT * FROM shelf")
    for i, chunk in enumerate(c for c in view.chunks if c.table is not None):
        conn.register(f"tail_{i}", chunk.table)
        parts.append(f"SELECT * FROM tail_{i}")  # noqa: S608 - our own words
    return parts
