"""Rows of read models compared: by digest, and but for what the order of arrival may change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql

import projections  # noqa: F401 - registers every projection
from adapters.postgres.declared_tables import tables_of
from adapters.postgres.event_log import connect_log
from adapters.postgres.read_models import ReadModels
from adapters.postgres.schema import APP_ROLE
from projections.projection import PROJECTIONS, Table
from projections.projector import Projector

__all__ = ["as_arrived_otherwise", "differing", "digests", "from_zero"]

Digest = tuple[int, str]
"""(rows, sum of their hashes): the order of rows does not matter, and a table of any size is read once."""

_NOT_COMPARED = ("recorded_at", "known_from", "known_to", "cluster", "a_cluster", "b_cluster")
_POSITIONS = ("position", "last_position")


def digests(
    conn: psycopg.Connection[Any],
    *,
    schemas: dict[str, str] | None = None,
    names: Sequence[str] | None = None,
) -> dict[str, Digest]:
    """The digest of every table of every read model.

    Args:
        names: of these read models only.
        schemas: projection -> the schema that is looked at, `read` where it is not named.
    """
    found: dict[str, Digest] = {}
    for name in names or PROJECTIONS:
        for table in tables_of(PROJECTIONS[name]):
            row = conn.execute(
                sql.SQL(
                    "SELECT count(*), coalesce(sum(hashtextextended(t::text, 0)::numeric), 0)::text || ' ' || "
                    "coalesce(sum(hashtextextended(t::text, 1)::numeric), 0)::text FROM {} t"
                ).format(sql.Identifier((schemas or {}).get(name, "read"), table.name))
            ).fetchone()
            assert row is not None
            found[table.name] = (int(row[0]), str(row[1]))
    return found


def differing(one: dict[str, Digest], other: dict[str, Digest]) -> list[str]:
    """Names of the tables of which two digests are not equal."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def from_zero(url: str, *, batch: int) -> dict[str, Digest]:
    """Empty every read model and all that projectors noted, fold the log again, and give the digests.

    Raises:
        AssertionError: an event was parked.
    """
    with psycopg.connect(url, autocommit=True) as conn:
        for each in PROJECTIONS.values():
            for table in tables_of(each):
                conn.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier("read", table.name)))
        conn.execute("TRUNCATE touchlog.projections, touchlog.amendments, touchlog.parked")
        reader = connect_log(url, pool=1, role=APP_ROLE)
        store = ReadModels(url)
        projector = Projector(reader, store, [type(each)() for each in PROJECTIONS.values()], batch=batch)
        try:
            assert projector.take_leases()
            projector.catch_up()
            projector.release_leases()
            assert store.parked() == []
        finally:
            store.close()
            reader.datastore.close()
        return digests(conn)


def as_arrived_otherwise(conn: psycopg.Connection[Any]) -> dict[str, list[Any]]:
    """What the read models say now that any order of arrival must make them say (SEMANTICS §1).

    Positions are told as the events that stand there. Left out are the times of recording; rows that are no
    longer known; clusters, which only say where evidence ever known is looked for; evidence that is later
    than another of the same link; and persons of one subject, which need no row.
    """
    found = {}
    for each in PROJECTIONS.values():
        for table in tables_of(each):
            found[table.name] = conn.execute(_settled(table)).fetchall()
    return found


def _settled(table: Table[Any]) -> sql.Composed | sql.SQL:
    if (
        table.name == "clusters"
    ):  # how many links are refused; by which cluster follows from what was ever known
        return sql.SQL("SELECT coalesce(sum(refused), 0)::bigint FROM read.clusters")
    columns: list[sql.Composable] = [
        sql.SQL(
            "(SELECT k.stream FROM touchpoint_log.keys k WHERE k.position = t.{} AND k.version = 1)"
        ).format(sql.Identifier(column))
        if column in _POSITIONS
        else sql.SQL("t.{}").format(sql.Identifier(column))
        for column in table.columns
        if column not in _NOT_COMPARED
    ]
    rows: sql.Composable = sql.Identifier("read", table.name)
    if table.name == "links":
        rows = sql.SQL(
            "(SELECT DISTINCT ON (a, b) * FROM {} WHERE known_to IS NULL ORDER BY a, b, occurred_at, source, source_id, place)"
        ).format(rows)
    elif table.name == "identities":
        rows = sql.SQL("(SELECT i.*, count(*) OVER (PARTITION BY person) AS subjects FROM {} i)").format(rows)
    where = sql.SQL("")
    if table.known:
        where = sql.SQL(" WHERE t.known_to IS NULL")
    elif table.name == "identities":
        where = sql.SQL(" WHERE t.subjects > 1")
    order = sql.SQL(", ").join(sql.SQL(str(place)) for place in range(1, len(columns) + 1))
    return sql.SQL("SELECT {} FROM {} t{} ORDER BY {}").format(
        sql.SQL(", ").join(columns), rows, where, order
    )
