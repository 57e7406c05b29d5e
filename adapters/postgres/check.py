"""The check of a log against itself: what the columns say must follow from the body, and nothing may be missing.

The body is what proofs hash; stream, type and key row are derived from it, so that a difference is
damage (or a hand in the database), never a matter of opinion.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import orjson
import psycopg
from psycopg import sql

from adapters.postgres.schema import LOGS
from domain.entry import decode_body, event_id_of

__all__ = ["Difference", "check_log"]

READ_ROWS = 5000


class Difference(NamedTuple):
    """One thing about one row that does not follow from its body, or from the rows before it."""

    position: int
    what: str


def check_log(
    conn: psycopg.Connection[Any], schema: str = "touchpoint_log", *, after: int = 0
) -> Iterator[Difference]:
    """Every difference behind position *after*; none in a sound log. Rows of the library's raw path have no body of ours.

    Reads one snapshot, so that it may run beside writers.
    """
    assert schema in LOGS
    with conn.transaction():
        conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        rows, expected, clock = 0, after + 1, None
        with conn.cursor(name="check", binary=True) as curs:
            curs.itersize = READ_ROWS
            curs.execute(
                sql.SQL(
                    "SELECT e.position, e.recorded_at, e.stream, e.version, e.type, e.body, k.position "
                    "FROM {schema}.events e LEFT JOIN {schema}.keys k ON k.stream = e.stream AND k.version = e.version "
                    "WHERE e.position > %s ORDER BY e.position"
                ).format(schema=sql.Identifier(schema)),
                (after,),
            )
            for position, recorded_at, stream, version, type_, body, key in curs:
                rows += 1
                if position != expected:
                    yield Difference(position, f"follows position {expected - 1}: there is a gap")
                expected = position + 1
                if clock is not None and recorded_at < clock:
                    yield Difference(position, "its recorded_at is before that of the event before it")
                clock = recorded_at
                if key is not None and key != position:
                    yield Difference(position, f"its key row names position {key}")
                for what in _body_differences(stream, version, type_, body):
                    yield Difference(position, what)
        head, keys = _counts(conn, schema)
        if head != expected - 1:
            yield Difference(expected - 1, f"is the last event, the head says {head}")
        if keys > after + rows:
            yield Difference(head, f"there are {keys} key rows and {after + rows} events")


def _body_differences(stream: UUID, version: int, type_: str, body: bytes) -> Iterator[str]:
    try:
        event = decode_body(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return
    if orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS) != body:
        yield "its body is not canonical JSON"
    if event.type != type_:
        yield f"its type is {event.type} by its body and {type_} by its column"
    if UUID(event.event_id).bytes != event_id_of(event.source, event.id):
        yield "its event id does not follow from its source and id"
    if str(stream) != (event.stream or event.event_id):
        yield "its stream column does not follow from its body"
    if event.stream is None and version != 1:
        yield f"it is a touchpoint and has version {version} in its stream"


def _counts(conn: psycopg.Connection[Any], schema: str) -> tuple[int, int]:
    row = conn.execute(
        sql.SQL("SELECT (SELECT position FROM {0}.head), (SELECT count(*) FROM {0}.keys)").format(
            sql.Identifier(schema)
        )
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])
