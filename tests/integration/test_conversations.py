"""Conversations joined in any order have the rows of those told from their first event to their last."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import orjson
import psycopg
import pytest

import projections  # noqa: F401 - registers every projection
from adapters.postgres.event_log import Item, LogRecorder, connect_log
from adapters.postgres.read_models import ReadModels
from domain.correction import CORRECTION, RETRACTION
from domain.entry import event_id_of, moment, uuid_text
from projections.conversations import Conversation, Conversations
from projections.projection import Effective, Projection, Story, Table
from projections.projector import Projector

START = datetime(2026, 1, 1, tzinfo=UTC)
SOURCES = ("desk", "desk 2", "shop")
IMPORTS = tuple(str(UUID(int=n, version=4)) for n in range(1, 4))
TOLD = (
    "conversation, subject, channels, first_type, last_type, started_at, last_at, events, inbound, outbound, "
    "last_position"
)


class InOrder(Story):
    """The plain telling: each conversation from its first event to its last, and again where one comes late."""

    name = "in_order"
    tables: ClassVar[tuple[Table[Conversation], ...]] = (
        Table("in_order", Conversation, key=("conversation",)),
    )

    def keys(self, event: Effective) -> Iterable[str]:
        data = event.recorded.event.data
        if event.recorded.event.type.startswith(("call.", "chat.")):
            for field in ("case_id", "conversation_id"):
                if data.get(field):
                    yield f"{field.removesuffix('_id')}:{data[field]}"

    def told(self, row: Conversation | None, key: str, event: Effective) -> Conversation:
        told = event.recorded.event
        subject = UUID(told.subjects[0][0]) if told.subjects else None
        before = row or Conversation(
            key, None, [], told.type, "", told.occurred_at, told.occurred_at, 0, 0, 0, 0, "", "", None, []
        )
        return msgspec.structs.replace(
            before,
            subject=before.subject or subject,
            channels=list(dict.fromkeys((*before.channels, told.channel))),
            last_type=told.type,
            last_at=told.occurred_at,
            events=before.events + 1,
            inbound=before.inbound + (told.direction == "inbound"),
            outbound=before.outbound + (told.direction == "outbound"),
            last_position=event.recorded.position,
        )


def history(chance: random.Random, events: int) -> list[Item]:
    """Make calls and chats of few moments, so that many are late or stand at one time; corrected and taken back, too."""
    subjects = [str(UUID(int=chance.getrandbits(128), version=4)) for _ in range(4)]
    items = []
    for number in range(events):
        source, source_id = chance.choice(SOURCES), str(number)
        body: dict[str, Any] = {
            "type": chance.choice(("call.ended", "chat.ended", "order.placed")),
            "channel": chance.choice(("phone", "chat", "web")),
            "data": {"case_id": chance.choice((*(f"k{n}" for n in range(5)), f"alone-{number}"))},
        }
        if chance.random() < 0.5:
            body["data"]["conversation_id"] = chance.randrange(1, 4)
        if chance.random() < 0.4:
            body["subjects"] = [(chance.choice(subjects), "email", "")]
        if chance.random() < 0.6:
            body["direction"] = chance.choice(("inbound", "outbound"))
        if chance.random() < 0.3:
            body["import"] = chance.choice(IMPORTS)
        kind = chance.random()
        if kind < 0.2:
            of = {"source": chance.choice(SOURCES), "id": str(chance.randrange(events))}
            patch = chance.choice(
                (
                    {"channel": "sms"},
                    {"time": moment(START + timedelta(minutes=chance.randrange(40)))},
                    {"data": {"case_id": f"k{chance.randrange(5)}"}},
                    {"data": {"case_id": None, "conversation_id": None}},
                )
            )
            body = {"type": CORRECTION, "channel": "records", "data": {"of": of, "patch": patch}}
            if chance.random() < 0.3:
                body["patched_subject"] = (chance.choice(subjects), "email", "")
        elif kind < 0.23:
            body = {
                "type": RETRACTION,
                "channel": "records",
                "data": {"import_id": chance.choice(IMPORTS)},
            }
        raw = event_id_of(source, source_id)
        body |= {
            "event_id": uuid_text(raw),
            "source": source,
            "id": source_id,
            "version": 1,
            "occurred_at": moment(START + timedelta(minutes=chance.randrange(40))),
            "principal": "key:test",
        }
        items.append(Item(raw, body["type"], orjson.dumps(body, option=orjson.OPT_SORT_KEYS), b"\x00" * 16))
    return items


@pytest.fixture
def log(database_url: str) -> Iterator[LogRecorder]:
    found = connect_log(database_url, role="touchlog_app")
    yield found
    found.datastore.close()


@pytest.mark.parametrize("seed", range(4))
def test_joined_in_batches_of_any_size_they_equal_those_told_in_order(
    log: LogRecorder, database_url: str, seed: int
) -> None:
    # given a log in which events come late, are corrected, moved to other conversations and taken back
    chance = random.Random(seed)
    log.append(history(chance, 400))
    # when both are projected, each in batches of its own size
    store = ReadModels(database_url)
    by: tuple[tuple[Projection, int], ...] = ((Conversations(), (1, 7, 60, 4000)[seed]), (InOrder(), 50))
    for one, batch in by:
        projector = Projector(log, store, [one], batch=batch)
        assert projector.take_leases()
        projector.catch_up()
        projector.release_leases()
    store.close()
    # then the rows are the same, and so is what belongs to each
    with psycopg.connect(database_url) as conn:
        assert conn.execute("SELECT count(*) FROM touchlog.parked").fetchone() == (0,)
        pairs = (
            (f"SELECT {TOLD} FROM read.conversations", f"SELECT {TOLD} FROM read.in_order"),  # noqa: S608
            ("SELECT * FROM read.conversations_events", "SELECT * FROM read.in_order_events"),
        )
        for joined, told in pairs:
            rows = [conn.execute(f"{asked} ORDER BY 1, 2, 3".encode()).fetchall() for asked in (joined, told)]
            assert rows[0] == rows[1]
            assert len(rows[0]) > 5
