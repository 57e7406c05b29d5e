"""What a check found, kept and told: table `touchlog.differences`, and one line in the log for what is new."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import orjson
import psycopg
import structlog

from adapters.checking.rows import Found

__all__ = ["Checked", "forget", "keep", "remembered"]

log = structlog.get_logger()

EXAMPLES = 20
IN_A_LINE = 5
BUCKETS_KEPT = 10_000
"""Of one read model; more of them tell nothing more."""


class Checked(NamedTuple):
    """What was compared: these buckets of these tables, and the rows in them that differ."""

    name: str
    tables: tuple[str, ...]
    found: list[Found]
    buckets: list[str]


def keep(conn: psycopg.Connection[Any], checked: Checked) -> int:
    """Keep what was found in the place of what was found before; returns how many rows differ. New ones are logged."""
    by_bucket: dict[tuple[str, str], list[Found]] = {}
    for one in checked.found:
        by_bucket.setdefault((one.table, one.bucket), []).append(one)
    known: dict[tuple[str, str], int] = {
        (table, bucket): rows
        for table, bucket, rows in conn.execute(
            "SELECT table_name, bucket, rows FROM touchlog.differences WHERE name = %s AND table_name = ANY(%s)",
            (checked.name, list(checked.tables)),
        )
    }
    if not known and not by_bucket:
        return 0
    with conn.transaction():
        wanted = set(checked.buckets)
        gone = [key for key in known if key not in by_bucket and key[1] in wanted]
        conn.execute(
            "DELETE FROM touchlog.differences d USING unnest(%s::text[], %s::text[]) AS g (table_name, bucket) "
            "WHERE d.name = %s AND d.table_name = g.table_name AND d.bucket = g.bucket",
            ([t for t, _ in gone], [b for _, b in gone], checked.name),
        )
        for (table, bucket), rows in by_bucket.items():
            if (table, bucket) not in known and len(known) >= BUCKETS_KEPT:
                continue
            conn.execute(
                "INSERT INTO touchlog.differences (name, table_name, bucket, rows, examples) VALUES (%s, %s, %s, %s, %s) "
                "ON CONFLICT (name, table_name, bucket) DO UPDATE SET rows = excluded.rows, examples = excluded.examples, seen_at = clock_timestamp()",
                (
                    checked.name,
                    table,
                    bucket,
                    len(rows),
                    orjson.dumps([f.told() for f in rows[:EXAMPLES]], default=str).decode(),
                ),
            )
    for (table, bucket), rows in by_bucket.items():
        if known.get((table, bucket)) != len(rows):
            log.error(
                "read_model_differs",
                projection=checked.name,
                table=table,
                bucket=bucket,
                rows=len(rows),
                examples=[f.told() for f in rows[:IN_A_LINE]],
                advice=f"touchlog projections check {checked.name} looks again; touchlog rebuild {checked.name} --compare --swap mends it",
            )
    for table, bucket in gone:
        log.info("read_model_agrees_again", projection=checked.name, table=table, bucket=bucket)
    return len(checked.found)


def remembered(conn: psycopg.Connection[Any], name: str, prefix: str) -> dict[str, list[dict[str, Any]]]:
    """The rows that were found to differ, by what follows *prefix* in the names of their buckets."""
    found: dict[str, list[dict[str, Any]]] = {}
    for bucket, table, examples in conn.execute(
        "SELECT bucket, table_name, examples FROM touchlog.differences WHERE name = %s AND starts_with(bucket, %s)",
        (name, prefix),
    ):
        found.setdefault(bucket.removeprefix(prefix), []).extend({**e, "table": table} for e in examples)
    return found


def forget(conn: psycopg.Connection[Any], names: Iterable[str]) -> None:
    """Drop what was found of read models that were put in the place of others since."""
    conn.execute("DELETE FROM touchlog.differences WHERE name = ANY(%s)", (list(names),))
