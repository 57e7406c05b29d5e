"""What is answered directly for another moment equals what a read model rebuilt for that moment answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch
from zoneinfo import ZoneInfo

import msgspec
import psycopg
import pytest
from psycopg import sql

from adapters.answers.audit_trail import AuditTrails
from adapters.answers.conversations import Conversations
from adapters.answers.persons import Persons
from adapters.answers.volumes import Volumes
from adapters.postgres.declared_tables import tables_of
from adapters.postgres.event_log import connect_log
from adapters.rebuilds.rebuild import Rebuild, drop
from domain.entry import moment
from domain.errors import Behind, Invalid, NotFound
from projections.projection import PROJECTIONS
from tests.integration.reading_house import House, correction, event, story
from tests.integration.test_imports_retract import imported, retracted

REFS = ("email:ann@example.com", "email:bob@example.com", "user:u1", "user:u2", "phone:+442079460018")
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


async def given_anything(it: House, chance: Random) -> None:
    """Record a random log: late, corrected, retracted and linking events."""
    known: list[str] = []
    imports: list[str] = []
    for turn in range(9):
        events = []
        for number in range(chance.randrange(3, 8)):
            type_ = chance.choice(("call.ended", "chat.message_received", "email.sent", "order.placed"))
            named = chance.sample(REFS, chance.choice((1, 1, 2)))
            known.append(f"{turn}.{number}")
            events.append(
                event(
                    known[-1],
                    type=type_,
                    subject=named[0],
                    time=moment(BEGIN + timedelta(minutes=chance.randrange(3000))),
                    direction=chance.choice(("inbound", "outbound")),
                    data=chance.choice(
                        ({}, {"conversation_id": f"k{chance.randrange(3)}"}, {"case_id": "c"})
                    ),
                )
                | ({"identifiers": ",".join(named[1:])} if named[1:] else {})
            )
        if chance.random() < 0.5:
            imports.append(f"{turn:08d}-0000-4000-8000-{chance.randrange(10**12):012d}")
            await imported(it, imports[-1], *events)
        else:
            await it.given(*events, projected=False)
        change = chance.choice(
            (
                {"time": moment(BEGIN + timedelta(minutes=chance.randrange(3000)))},
                {"channel": "fax"},
                {"direction": "inbound"},
                {"subject": chance.choice(REFS)},
                {"data": {"conversation_id": f"k{chance.randrange(3)}"}},
            )
        )
        await it.given(correction(f"c{turn}", chance.choice(known), change))
        if imports and chance.random() < 0.3:
            await retracted(it, imports.pop(chance.randrange(len(imports))))


ROWS = {"history": "entries", "trail": "entries", "conversations": "conversations"}
"""Where the rows of an answer are."""


async def answers(it: House, known_at: int | None, as_of: datetime | None) -> dict[str, Any]:
    """Ask everything at one moment, and give what was answered but for the moment itself."""
    when: dict[str, Any] = {"known_at": known_at, "as_of": as_of}
    pool, histories, utc = it.core.pool, it.core.histories, ZoneInfo("UTC")
    conversations = Conversations(pool, histories)
    found: dict[str, Any] = {
        "volumes": await Volumes(pool, histories, zone=utc).of(
            by=("hour", "channel", "type", "direction"), **when
        ),
        "trail": await AuditTrails(pool, histories, zone=utc).page(limit=1000, **when),
    }
    for ref in REFS:
        try:
            found[f"{ref} history"] = await histories.page(ref, limit=1000, **when)
            found[f"{ref} person"] = await Persons(pool, it.core.subjects, histories).one(ref, **when)
            found[f"{ref} trail"] = await AuditTrails(pool, histories, zone=utc).page(
                person=ref, limit=1000, **when
            )
            found[f"{ref} conversations"] = await conversations.page(ref, limit=1000, **when)
        except (NotFound, Behind):  # read models of an earlier moment are waited for where they know nobody
            found[ref] = "nobody"
    for key in ("conversation:k0", "conversation:k1", "conversation:k2", "case:c"):
        try:
            found[key] = await conversations.one(key, **when)
        except NotFound:
            found[key] = "none"
    told: dict[str, Any] = msgspec.to_builtins(found)
    for one in told.values():
        if isinstance(one, dict):
            for name in ("as_of", "known_at", "head"):
                one.pop(name, None)
    return told


@contextmanager
def rebuilt(url: str, known_at: int, as_of: datetime | None) -> Iterator[None]:
    """Let read models that were rebuilt for a moment answer for now."""
    log = connect_log(url, pool=1, role="touchlog_app")
    schemas = {}
    for name in sorted(PROJECTIONS):
        one = Rebuild(url, log, name, until=known_at, as_of=as_of)
        try:
            assert one.build() == known_at
        finally:
            one.close()
        schemas[name] = one.schema
    log.datastore.close()

    def move(table: str, old: str, new: str) -> None:
        conn.execute(
            sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(sql.Identifier(old, table), sql.Identifier(new))
        )

    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE SCHEMA kept")
        tables = [(t.name, schemas[name]) for name in schemas for t in tables_of(PROJECTIONS[name])]
        heads = conn.execute(
            "SELECT name, position FROM touchlog.projections WHERE schema = 'read'"
        ).fetchall()
        for table, schema in tables:
            move(table, "read", "kept")
            move(table, schema, "read")
        conn.execute("UPDATE touchlog.projections SET position = %s WHERE schema = 'read'", (known_at,))
        yield
        for table, schema in tables:
            move(table, "read", schema)
            move(table, "kept", "read")
        for name, position in heads:
            conn.execute(
                "UPDATE touchlog.projections SET position = %s WHERE schema = 'read' AND name = %s",
                (position, name),
            )
        conn.execute("DROP SCHEMA kept")
        for name, schema in schemas.items():
            drop(conn, name, schema)


@pytest.mark.parametrize("seed", range(1))
def test_direct_answers_of_any_moment_equal_those_of_read_models_rebuilt_for_it(
    tmp_path: Path, database_url: str, seed: int
) -> None:
    chance = Random(seed)

    @story
    async def run(it: House) -> None:
        await given_anything(it, chance)
        ((head,),) = await it.rows("SELECT position FROM touchpoint_log.head")
        for as_of in (None, BEGIN + timedelta(minutes=chance.randrange(3000)), None):
            known_at = chance.randrange(head // 3, head + 1)
            direct = await answers(it, known_at, as_of)
            with_rebuilt = rebuilt(database_url, known_at, as_of)
            await asyncio.to_thread(with_rebuilt.__enter__)

            def waited(position: int, until: int = known_at, **_: Any) -> int:
                if position > until:
                    raise Behind("These read models are of an earlier moment.", lag_positions=1)
                return until

            with patch.object(it.core.histories.moments, "wait_until", side_effect=waited):
                from_rebuilt = await answers(it, None, None)
            everybodys = await Conversations(it.core.pool, it.core.histories).page(limit=1000)
            await asyncio.to_thread(with_rebuilt.__exit__, None, None, None)

            nobody = [r for r in REFS if "nobody" in (direct.get(r), from_rebuilt.get(r))]
            for ref in nobody:  # not known by then, or nothing had happened by then: no rows either way
                for told in (direct, from_rebuilt):
                    told.pop(ref, None)
                    told.pop(f"{ref} person", None)
                    for what in ("history", "trail", "conversations"):
                        answer = told.pop(f"{ref} {what}", None)
                        assert answer is None or not answer[ROWS[what]], (ref, what, known_at, as_of)
            assert direct.keys() == from_rebuilt.keys()
            for question, answer in direct.items():
                assert answer == from_rebuilt[question], (question, known_at, as_of)
            rows = {c["conversation"]: c for c in everybodys.conversations}
            stories = {
                key: a["conversation"]
                for key, a in direct.items()
                if key[:4] in ("conv", "case") and a != "none"
            }
            assert stories == rows, "as the fold of the projection itself tells them"
        assert await answers(it, head, None) == await answers(it, None, None)

    run(tmp_path, database_url)


@story
async def test_a_conversation_in_which_only_an_order_is_named_is_of_the_person_of_the_order(
    it: House,
) -> None:
    """As the history of that person has its events; whose order it is may become known later."""
    asking = Conversations(it.core.pool, it.core.histories)

    async def keys(ref: str, **asked: Any) -> list[str]:
        page = await asking.page(ref, **asked)
        return [c["conversation"] for c in page.conversations]

    await it.given(
        event("1", data={}),
        event("2", subject="email:bob@example.com", data={}),
        event("3", subject="order:7", data={"conversation_id": "k"}),
        event("4", subject="order:8", data={"conversation_id": "m"}),
        event("5", subject="order:7", data={"conversation_id": "m"}, time="2026-03-01T13:00:00Z"),
    )
    assert await keys("email:ann@example.com") == []
    await it.given(event("6", identifiers="order:7", time="2026-03-02T12:00:00Z"))

    assert await keys("email:ann@example.com") == ["conversation:m", "conversation:k"]
    assert await keys("order:7") == ["conversation:m", "conversation:k"]
    assert await keys("email:ann@example.com", known_at=5) == []
    assert await keys("email:ann@example.com", as_of=BEGIN + timedelta(hours=14)) == []
    page = await asking.page("email:ann@example.com", limit=1)
    assert await keys("email:ann@example.com", limit=1, cursor=page.next) == ["conversation:k"]

    await it.given(event("7", subject="email:bob@example.com", identifiers="order:8"))
    assert await keys("email:ann@example.com") == ["conversation:k"], "its first event is of bob's order"
    assert await keys("email:bob@example.com") == ["conversation:m"]
    await it.given(event("8", data={"conversation_id": "m"}, time="2026-03-03T12:00:00Z"))
    assert await keys("email:ann@example.com") == ["conversation:m", "conversation:k"], (
        "who is named goes first"
    )


@story
async def test_everybodys_conversations_of_another_moment_name_the_rebuild_that_gives_them(it: House) -> None:
    """One person's, and one conversation, are answered."""
    await it.given(event("1", data={"conversation_id": "k"}), event("2", data={"conversation_id": "m"}))
    asking = Conversations(it.core.pool, it.core.histories)
    assert len((await asking.page(known_at=2)).conversations) == 2, "nothing was recorded since"
    with pytest.raises(Invalid, match="touchlog rebuild conversations --known-at @1`"):
        await asking.page(known_at=1)
    with pytest.raises(Invalid, match=r"--as-of 2026-03-01T00:00:00\.000000Z`"):
        await asking.page(as_of=BEGIN)
    (one,) = (await asking.page("email:ann@example.com", known_at=1)).conversations
    assert one["conversation"] == "conversation:k"
    with pytest.raises(NotFound, match="at that moment"):
        await asking.one("conversation:m", known_at=1)
    page = await asking.page("email:ann@example.com", limit=1)
    await it.given(event("3", data={"conversation_id": "z"}, time="2026-03-09T12:00:00Z"))
    following = await asking.page("email:ann@example.com", limit=1, cursor=page.next)
    assert {c["conversation"] for c in (*page.conversations, *following.conversations)} == {
        "conversation:k",
        "conversation:m",
    }, "a cursor carries its moment"
