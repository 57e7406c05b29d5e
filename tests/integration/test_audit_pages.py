"""A page of the audit trail is a range of an index: it costs what it shows, however long the trail is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from adapters.answers.audit_trail import _statement
from adapters.postgres.event_log import Item, connect_log
from bin.compose import project_once
from tests.integration.test_projector import history

EVENTS = 4_000
LIMIT = 20
CAUSE = "11111111-1111-4111-8111-111111111111"


def told(number: int, item: Item) -> Item:
    """Give an event an actor: half of them recorded by Ann, some in her name, a few because of another."""
    by = b"key:ann" if number % 2 else b"key:bob"
    body = item.body.replace(b'"principal":"key:test"', b'"principal":"' + by + b'"')
    if number % 3 == 0:
        body = body.replace(b'"occurred_at"', b'"on_behalf_of":"key:ann","occurred_at"')
    if number % 500 == 7:
        body = body.replace(b'"channel"', b'"causation":"' + CAUSE.encode() + b'","channel"', 1)
    return item._replace(body=body)


@pytest.fixture(scope="module")
def conn(module_database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Give a long trail with many corrections."""
    log = connect_log(module_database_url, role="touchlog_app")
    log.append([told(number, item) for number, item in enumerate(history(3, EVENTS))])
    log.datastore.close()
    project_once(module_database_url, ["audit_trail"])
    with psycopg.connect(module_database_url, autocommit=True) as found:
        found.execute(
            "INSERT INTO touchlog.amendments SELECT event_id, position + 1 FROM read.audit_trail WHERE position % 3 = 0"
        )
        found.execute("VACUUM ANALYZE read.audit_trail, touchlog.amendments")
        yield found


def looked_at(plan: dict[str, Any], table: str) -> int:
    """Count the rows that a plan took in hand of one table, those it threw away included."""
    mine = 0
    if plan.get("Relation Name") == table:
        kept = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
        mine = int((kept + plan.get("Rows Removed by Index Recheck", 0)) * plan["Actual Loops"])
    return mine + sum(looked_at(part, table) for part in plan.get("Plans", ()))


@pytest.mark.parametrize(
    ("filters", "actor", "asked"),
    [
        ([], None, {}),
        (["cursor"], None, {"before": 200}),
        (["as_of"], None, {"as_of": "2026-02-01T00:00:00Z"}),
        ([], "key:ann", {}),
        (["cursor"], "key:ann", {"before": 3_000}),
        (["event"], None, {"positions": [9, 10], "names": [CAUSE], "first": 9}),
    ],
    ids=["all", "further on", "as of", "actor", "actor, further on", "event"],
)
def test_a_page_takes_about_as_many_rows_in_hand_as_it_shows(
    conn: psycopg.Connection[Any], filters: list[str], actor: str | None, asked: dict[str, Any]
) -> None:
    parameters = {"known_at": EVENTS, "limit": LIMIT, "as_of": None, "actor": actor} | asked
    row = conn.execute(
        b"EXPLAIN (ANALYZE, FORMAT JSON) " + _statement(filters, actor is not None), parameters
    ).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    assert 0 < looked_at(plan, "audit_trail") <= 3 * LIMIT
    assert looked_at(plan, "amendments") <= 3 * LIMIT


def test_an_actor_is_who_recorded_it_or_in_whose_name_each_once_newest_first(
    conn: psycopg.Connection[Any],
) -> None:
    expected = [
        position
        for (position,) in conn.execute(
            "SELECT position FROM read.audit_trail WHERE principal = 'key:ann' OR on_behalf_of = 'key:ann' ORDER BY 1 DESC"
        )
    ]
    found: list[int] = []
    before = EVENTS + 1
    while page := conn.execute(
        _statement(["cursor"], True),
        {"known_at": EVENTS, "limit": 333, "actor": "key:ann", "before": before},
    ).fetchall():
        found += [row[0] for row in page]
        before = found[-1]
    assert found == expected
    assert len(found) > EVENTS / 2
