"""The read models asked: audit trail, persons, volumes, conversations; by query, by command, over HTTP."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import orjson
import psycopg
import pytest
from psycopg import sql

from adapters.answers.audit_trail import AuditTrails
from adapters.answers.conversations import Conversations
from adapters.answers.persons import Persons
from adapters.answers.volumes import Volumes
from adapters.intake import cloudevents
from adapters.principal import Principal
from domain.errors import Invalid, NotFound
from tests.integration.reading_house import House, correction, event, story
from tests.integration.running import Served, served_http
from tests.integration.test_imports_retract import A, imported, retracted, touchlog

__all__ = ["touchlog"]

UTC_ZONE = ZoneInfo("UTC")


def trails(it: House, zone: str = "UTC") -> AuditTrails:
    """Give the audit trail of a house."""
    return AuditTrails(it.core.pool, it.core.histories, zone=ZoneInfo(zone))


async def positions(it: House, **asked: Any) -> list[int]:
    """Give the positions that a page of the trail shows."""
    return [e["position"] for e in (await trails(it).page(**asked)).entries]


# -- audit trail ----------------------------------------------------------------------------------------


@story
async def test_the_trail_answers_by_event_person_actor_and_day(it: House) -> None:
    """Alone, and together."""
    await it.given(event("1"), event("2", subject="email:bob@example.com"))
    event_id = (await it.entries())[0]["event_id"]
    await it.given(
        event("3", causationid=event_id, subject="user:u1", identifiers="email:bob@example.com"),
        by=Principal("key:other", "admin"),
    )
    await it.given(correction("c", "1", {"channel": "fax"}))

    assert await positions(it) == [4, 3, 2, 1]
    assert await positions(it, event=event_id) == [4, 3, 1], "what amends it, and what it caused"
    assert await positions(it, event="@2") == [2]
    assert await positions(it, person="email:bob@example.com") == [3, 2], "all subjects of the person"
    assert await positions(it, actor="key:other") == [3]
    assert await positions(it, actor="key:other", person="email:ann@example.com") == []
    days = await it.rows(
        "SELECT DISTINCT (recorded_at AT TIME ZONE 'UTC')::date FROM touchpoint_log.events ORDER BY 1 DESC"
    )  # one, but for a run at midnight
    assert [p for (day,) in days for p in await positions(it, day=day)] == [4, 3, 2, 1]
    assert await positions(it, day=date(2020, 1, 1)) == []
    with pytest.raises(NotFound, match="No event"):
        await positions(it, event="@99")
    with pytest.raises(Invalid, match="@123"):
        await positions(it, event="call")


@story
async def test_the_trail_stands_as_known_then(it: House) -> None:
    """A correction and a retraction change it from their recording on."""
    await imported(it, A, event("1"))
    await it.given(correction("c", "1", {"channel": "fax"}))
    await retracted(it, A)

    def channel(page: Any) -> list[str]:
        return [e["channel"] for e in page.entries if e["type"] == "call.ended"]

    assert channel(await trails(it).page(known_at=2)) == ["phone"]
    assert channel(await trails(it).page(known_at=3)) == ["fax"]
    assert channel(await trails(it).page()) == []
    (row,) = [e for e in (await trails(it).page(known_at=3)).entries if e["type"] == "call.ended"]
    assert (row["known_from"], row["amended_by"]) == (3, [3])


@story
async def test_pages_of_the_trail_do_not_shift_while_events_arrive(it: House) -> None:
    """A cursor carries its moment."""
    await it.given(*(event(str(n)) for n in range(25)))
    page = await trails(it).page(limit=10)
    await it.given(event("new"), correction("c", "3", {"channel": "fax"}))

    seen = [e["position"] for e in page.entries]
    while page.next:
        page = await trails(it).page(limit=10, cursor=page.next)
        seen += [e["position"] for e in page.entries]

    assert seen == list(range(25, 0, -1))
    with pytest.raises(Invalid, match="cursor"):
        await positions(it, cursor="nonsense")


@story
async def test_a_cursor_of_times_that_the_calendar_does_not_have_was_not_made_here(it: House) -> None:
    """It is refused by name, as any other cursor that somebody made; nothing fails."""
    # given a page of each list whose cursor holds times
    ann = "email:ann@example.com"
    await it.given(*(event(f"{n}", data={"conversation_id": f"{n}"}) for n in range(2)))
    told = Conversations(it.core.pool, it.core.histories)
    for asked in (it.core.histories.page, told.page, lambda _, **more: trails(it).page(**more)):
        following = (await asked(ann, limit=1)).next
        assert following is not None
        place = orjson.loads(base64.urlsafe_b64decode(following + "=" * (-len(following) % 4)))
        # when somebody changes its times
        for name in place.keys() & {"as_of", "at"}:
            for at in ("9999-12-31T23:59:59-23:00", "0001-01-01T00:00:00+23:00", "2026-01-01T00:00:00"):
                forged = base64.urlsafe_b64encode(orjson.dumps(place | {name: at})).decode().rstrip("=")
                # then it is refused
                with pytest.raises(Invalid, match="not made here"):
                    await asked(ann, limit=1, cursor=forged)


@story
async def test_a_cursor_of_the_trail_or_of_conversations_is_not_mixed_with_another_moment(it: House) -> None:
    """Refused by name, as is a place in everybody's conversations among a person's."""
    # given two conversations of one person
    await it.given(
        event("1", type="chat.started", data={"conversation_id": "k"}),
        event("2", type="chat.started", data={"conversation_id": "z"}),
    )
    told, ann = Conversations(it.core.pool, it.core.histories), "email:ann@example.com"
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    trail, hers, everybodys = (
        (await trails(it).page(limit=1)).next,
        (await told.page(ann, limit=1)).next,
        (await told.page(limit=1)).next,
    )

    # when / then
    assert len((await trails(it).page(cursor=trail, known_at=2)).entries) == 1
    assert len((await told.page(ann, cursor=hers, known_at=2)).conversations) == 1
    for asked in (
        trails(it).page(cursor=trail, known_at=1),
        trails(it).page(cursor=trail, as_of=noon),
        told.page(ann, cursor=hers, known_at=1),
        told.page(ann, cursor=hers, as_of=noon),
        told.page(cursor=hers),
        told.page(ann, cursor=everybodys, known_at=1),
    ):
        with pytest.raises(Invalid, match="cursor goes on with"):
            await asked


# -- persons ---------------------------------------------------------------------------------------------


@story
async def test_a_person_sums_all_its_subjects_and_orders(it: House) -> None:
    """First and last contact, and events by channel."""
    await it.given(
        event("call", direction="inbound", time="2026-01-01T12:00:00Z"),
        event("login", type="web.signed_in", subject="user:u1", identifiers="email:ann@example.com", data={}),
        event("placed", type="order.placed", identifiers="order:9", data={}),
        event("shipped", type="order.shipped", subject="order:9", data={}, time="2026-04-01T12:00:00Z"),
        event("bob", subject="email:bob@example.com"),
        event("nobody", type="order.shipped", subject="order:10", data={}),
        event(
            "news",
            type="email.sent",
            subject="email:bob@example.com",
            data={"cc": ["email:carl@example.com"]},
        ),
    )
    persons = Persons(it.core.pool, it.core.subjects, it.core.histories)

    page = await persons.page()
    one = await persons.one("user:u1")

    (ann,) = [p for p in page.persons if len(p.subjects) == 2]
    assert len(page.persons) == 2, "who only stands in copy, or only an order, is no person here"
    assert [s["value"] for s in ann.subjects] == ["u1", "ann@example.com"]
    assert (ann.events, ann.first_at, ann.last_at) == (
        4,
        "2026-01-01T12:00:00.000000Z",
        "2026-04-01T12:00:00.000000Z",
    )
    assert ann.channels["phone"] == {"events": 1, "inbound": 1, "outbound": 0}
    assert (one.id, one.events, one.first_at, one.last_at, one.channels) == (
        ann.id,
        ann.events,
        ann.first_at,
        ann.last_at,
        ann.channels,
    )
    assert (await persons.one("email:ann@example.com", known_at=1)).subjects == [
        s for s in ann.subjects if s["kind"] == "email"
    ]
    with pytest.raises(NotFound):
        await persons.one("user:u1", known_at=1)
    view = await it.rows(
        "SELECT person::text, subjects::int, events::int, channels FROM read.persons ORDER BY 3 DESC"
    )
    assert view[0] == (ann.id, 2, 4, {name: told["events"] for name, told in ann.channels.items()})
    assert len(view) == 2
    async with it.core.pool.connection() as conn, conn.transaction(force_rollback=True):
        await conn.execute("SET LOCAL ROLE touchlog_analyst")
        told = await (await conn.execute("SELECT source_id, person::text FROM read.event_log")).fetchall()
    log = dict(told)
    assert [id_ for id_, person in log.items() if person == ann.id] == ["call", "login", "placed", "shipped"]
    assert log["nobody"] is None, "an order that is nobody's"


@story
async def test_persons_are_listed_page_by_page(it: House) -> None:
    """Each once."""
    await it.given(*(event(str(n), subject=f"email:p{n}@example.com") for n in range(7)))
    persons = Persons(it.core.pool, it.core.subjects, it.core.histories)
    page = await persons.page(limit=3)
    seen = [p.id for p in page.persons]
    while page.next:
        page = await persons.page(limit=3, cursor=page.next)
        seen += [p.id for p in page.persons]

    assert seen == sorted(set(seen))
    assert len(seen) == 7
    with pytest.raises(Invalid, match="cursor"):
        await persons.page(cursor="x")


@story
async def test_a_list_of_persons_goes_on_as_of_the_moment_it_began(it: House) -> None:
    """Whatever is linked, merged, corrected or new between two pages: nobody comes twice, nobody is left out."""
    # given persons of one to three identifiers, some with an order
    dice = random.Random(7)
    await it.given(
        *(event(f"p{n}", subject=f"email:p{n}@example.com") for n in range(14)),
        *(
            event(f"u{n}", subject=f"user:u{n}", identifiers=f"email:p{n}@example.com")
            for n in range(0, 14, 3)
        ),
        *(
            event(f"c{n}", subject=f"email:p{n}@example.com", identifiers=f"order:{n}")
            for n in range(0, 14, 2)
        ),
        *(event(f"o{n}", type="order.shipped", subject=f"order:{n}", data={}) for n in range(0, 14, 2)),
    )
    persons = Persons(it.core.pool, it.core.subjects, it.core.histories)
    whole = await persons.page()
    assert len(whole.persons) == 14

    # when between any two pages others are linked to them, corrected, merged, and come anew
    page = await persons.page(limit=2)
    seen = list(page.persons)
    turn = 0
    while page.next:
        turn += 1
        one, two = (f"email:p{n}@example.com" for n in dice.sample(range(14), 2))
        await it.given(
            event(f"link{turn}", subject=f"crm:k{turn}", identifiers=f"{one},{two}"),
            correction(f"cor{turn}", f"p{dice.randrange(14)}", {"channel": f"fax{turn}"}),
            event(f"new{turn}", subject=f"email:new{turn}@example.com"),
        )
        page = await persons.page(limit=2, cursor=page.next)
        seen += page.persons

    # then the pages together are the list as it was when it began, its figures included
    assert turn > 1
    assert page.head == whole.head
    assert seen == whole.persons
    assert [p.id for p in (await persons.page()).persons] != [p.id for p in whole.persons]


@story
async def test_an_analyst_reads_every_view_with_the_rights_of_an_analyst(it: House) -> None:
    """Role touchlog_analyst reads all of schema `read` but sealed columns, and is told what each column is."""
    # given read models of somebody with an order
    await it.given(event("1", subject="user:u1", identifiers="email:ann@example.com,order:7"))

    # when an analyst asks each table and view for the columns that hold nothing sealed
    columns = await it.rows(
        "SELECT table_name, column_name, udt_name IN ('bytea', '_bytea'), col_description(('read.' || quote_ident(table_name))::regclass, "
        "ordinal_position::int) FROM information_schema.columns WHERE table_schema = 'read' ORDER BY 1, ordinal_position"
    )
    names = sorted({table for table, *_ in columns})
    async with it.core.pool.connection() as conn, conn.transaction():
        await conn.execute("SET LOCAL ROLE touchlog_analyst")
        counts = {}
        for name in names:
            plain = [column for table, column, sealed, _ in columns if table == name and not sealed]
            question = sql.SQL("SELECT {} FROM read.{}").format(
                sql.SQL(", ").join(map(sql.Identifier, plain)), sql.Identifier(name)
            )
            counts[name] = len(await (await conn.execute(question)).fetchall())

    # then each is answered, and each column explains itself
    assert (counts["event_log"], counts["persons"], counts["contact_history"] > 0) == (1, 1, True)
    assert [(table, column) for table, column, _, comment in columns if not comment] == []


# -- volumes ---------------------------------------------------------------------------------------------


@story
async def test_volumes_are_cut_in_the_zone_of_the_installation(it: House) -> None:
    """A day of Berlin is not one of London."""
    await it.given(
        event("1", time="2026-06-01T21:30:00Z"),
        event("2", time="2026-06-01T22:30:00Z"),
        event("3", type="email.sent", data={}, time="2026-06-02T12:00:00Z"),
    )

    async def of(zone: str, **asked: Any) -> list[tuple[Any, ...]]:
        answer = await Volumes(it.core.pool, it.core.histories, zone=ZoneInfo(zone)).of(**asked)
        return [tuple(row.values()) for row in answer.rows]

    assert await of("UTC") == [("2026-06-01", 2), ("2026-06-02", 1)]
    assert await of("Europe/Berlin") == [("2026-06-01", 1), ("2026-06-02", 2)]
    assert await of("UTC", by=["channel", "type"]) == [("email", "email.sent", 1), ("phone", "call.ended", 2)]
    assert await of("UTC", by=["hour"], channel="phone") == [
        ("2026-06-01T21:00:00.000000Z", 1),
        ("2026-06-01T22:00:00.000000Z", 1),
    ]
    assert await of(
        "UTC", by=[], from_=datetime(2026, 6, 1, 22, tzinfo=UTC), to=datetime(2026, 6, 2, 12, tzinfo=UTC)
    ) == [(1,)]
    assert await of("UTC", type_="none") == []
    with pytest.raises(Invalid, match="none of these"):
        await of("UTC", by=["person"])
    with pytest.raises(Invalid, match="must lie before"):
        await of("UTC", from_=datetime(2026, 6, 2, tzinfo=UTC), to=datetime(2026, 6, 2, tzinfo=UTC))


# -- conversations ---------------------------------------------------------------------------------------


@story
async def test_a_conversation_is_told_with_what_was_said_as_corrected(it: House) -> None:
    """Out of the log, unsealed, in the order in which it happened."""
    await it.given(
        event(
            "2",
            type="chat.message_received",
            data={"conversation_id": "k/1", "text": "hello"},
            time="2026-03-01T12:01:00Z",
        ),
        event("1", type="chat.started", data={"conversation_id": "k/1"}, time="2026-03-01T12:00:00Z"),
        event("3", type="chat.ended", subject="email:bob@example.com", data={"conversation_id": "z"}),
    )
    await it.given(correction("c", "2", {"data": {"text": "hello there"}}))
    asking = Conversations(it.core.pool, it.core.histories)

    answer = await asking.one("conversation:k/1")

    assert [e["provenance"]["source_id"] for e in answer.entries] == ["1", "2"]
    assert answer.entries[1]["data"]["text"] == "hello there"
    assert answer.entries[1]["corrections"][0]["fields"] == ["data.text"]
    assert answer.conversation["events"] == 2
    assert [c["conversation"] for c in (await asking.page("email:ann@example.com")).conversations] == [
        "conversation:k/1"
    ]
    first = await asking.page(limit=1)
    second = await asking.page(limit=1, cursor=first.next)
    assert [c["conversation"] for c in (*first.conversations, *second.conversations)] == [
        "conversation:k/1",
        "conversation:z",
    ]
    with pytest.raises(NotFound, match="There is no conversation"):
        await asking.one("conversation:none")


# -- over HTTP -------------------------------------------------------------------------------------------


@story
async def test_a_thread_of_any_length_is_a_conversation_and_stops_no_read_model(it: House) -> None:
    """What no index of PostgreSQL holds is kept by its SHA-256."""
    # given mails of a thread whose id is longer than an entry of an index, and cannot be made shorter
    chance = random.Random(5)
    thread = "".join(chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(3_000))
    mail = {"type": "email.received", "data": {"thread_id": thread}}
    await it.given(event("1", **mail), event("2", **mail), event("3"))

    # when the conversation is asked for by the key that its sender knows
    conversations = Conversations(it.core.pool, it.core.histories)
    told = await conversations.one(f"thread:{thread}")

    # then both mails are there, and every other read model stands at the head
    assert [e["provenance"]["source_id"] for e in told.entries] == ["1", "2"]
    assert await it.rows("SELECT count(*) FROM touchlog.projections WHERE position <> 3") == [(0,)]
    assert len(await it.ids()) == 3


@story
async def test_what_was_recorded_with_more_than_an_index_holds_is_in_every_read_model(it: House) -> None:
    """As before the door refused it."""
    # given an actor and a cause that were taken at their full length
    chance = random.Random(6)
    novel = "".join(chr(chance.randrange(0x4E00, 0x9FFF)) for _ in range(3_000))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(cloudevents, "_LONGEST_ACTOR", 10_000)
        patched.setattr(cloudevents, "_LONGEST_INDEXED_BYTES", 10_000)
        await it.given(
            event("1", causationid=novel[:1_000], data={"actor": novel}, type="my.own"), event("2")
        )

    # then the trail has both, and nothing is parked
    assert await it.rows("SELECT count(*), count(on_behalf_of), count(causation) FROM read.audit_trail") == [
        (2, 1, 1)
    ]
    assert await it.rows("SELECT * FROM touchlog.parked") == []


@pytest.fixture
def served(tmp_path: Path, database_url: str) -> Iterator[Served]:
    """Run HTTP."""
    with served_http(tmp_path / "data", database_url) as running:
        yield running


def test_every_read_model_answers_over_http_and_each_disclosure_is_on_record_first(served: Served) -> None:
    """But volumes, which tell of nobody."""
    with served.client() as http:
        posted = http.post(
            "/v1/events",
            json=[
                event("1", data={"conversation_id": "k/1"}),
                correction("c", "1", {"channel": "fax"}),
                event("2", subject="email:bob@example.com"),
            ],
            headers={"content-type": "application/cloudevents-batch+json"},
        )
        assert posted.json()["recorded"] == 3, posted.text
        served.project()
        before = served.records()
        asked: dict[str, Callable[[Any], Any]] = {
            "/v1/audit/trail?person=email:ann@example.com": lambda b: (
                [e["channel"] for e in b["entries"]] == ["fax"]
            ),
            "/v1/persons?limit=1": lambda b: len(b["persons"]) == 1 and b["next"],
            "/v1/persons/email:ann@example.com": lambda b: (
                b["channels"]["fax"]["events"] == 1 and b["first_at"]
            ),
            "/v1/conversations?person=email:ann@example.com": lambda b: (
                b["conversations"][0]["channels"] == ["fax"]
            ),
            "/v1/conversations/conversation:k%2F1": lambda b: b["entries"][0]["channel"] == "fax",
        }
        for n, (path, holds) in enumerate(asked.items(), start=1):
            answer = http.get(path)
            assert answer.status_code == 200, (path, answer.text)
            assert holds(answer.json()), (path, answer.json())
            assert served.records() == before + n, path
        volumes = http.get("/v1/volumes?by=channel&from=2026-03-01T00:00:00Z")
        assert volumes.json()["rows"] == [
            {"channel": "fax", "events": 1},
            {"channel": "phone", "events": 1},
            {"channel": "records", "events": 1},
        ]
        assert volumes.json()["from"] == "2026-03-01T00:00:00.000000Z"
        assert served.records() == before + len(asked)


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/v1/audit/trail?event=x", 400, "@123"),
        ("/v1/audit/trail?day=x", 400, "2026-01-31"),
        ("/v1/audit/trail?person=email:none@example.com", 404, "Nobody was recorded"),
        ("/v1/persons?cursor=x", 400, "next"),
        ("/v1/volumes?by=person", 400, "day, hour"),
        ("/v1/volumes?from=yesterday", 400, "RFC 3339"),
        ("/v1/conversations?cursor=x", 400, "next"),
        ("/v1/conversations/thread:none", 404, "There is no conversation"),
    ],
)
def test_what_cannot_be_answered_is_a_problem_document(
    served: Served, path: str, status: int, says: str
) -> None:
    """Says what, where, and what would be right."""
    served.project()
    with served.client() as http:
        answer: httpx.Response = http.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert says in answer.text


def test_who_may_not_read_is_refused(served: Served) -> None:
    """Without a key."""
    with served.client("") as http:
        for path in (
            "/v1/audit/trail",
            "/v1/persons",
            "/v1/volumes",
            "/v1/conversations",
            "/v1/conversations/thread:x",
        ):
            assert http.get(path).status_code == 401, path


# -- the commands -----------------------------------------------------------------------------------------


def test_the_commands_tell_what_the_read_models_know(
    touchlog: Any, tmp_path: Path, database_url: str
) -> None:
    """In tables with units, and in JSON."""
    for words in (["audit", "trail"], ["persons", "list"], ["volumes"], ["conversations"]):
        empty = touchlog(*words)
        assert empty.exit_code == 0, words
        assert "touchlog ingest" in empty.stdout or "data.conversation_id" in empty.stdout, "says what to do"
    file = tmp_path / "e.jsonl"
    file.write_text(
        "".join(json.dumps(event(str(n), data={"conversation_id": "k"})) + "\n" for n in range(1200))
    )
    assert touchlog("ingest", file).exit_code == 0

    assert "1,201" in touchlog("volumes", "--by", "day").stdout
    assert "1,200" in touchlog("volumes", "--from", "2026-03-01", "--to", "2026-03-02").stdout
    assert "phone 1,200" in touchlog("persons", "list").stdout
    shown = touchlog("persons", "show", "email:ann@example.com").stdout
    assert "1,200 events at 2026-03-01 12:00 (UTC)" in shown
    assert "1,200" in touchlog("conversations", "email:ann@example.com").stdout
    assert "Call" in touchlog("conversations", "conversation:k").stdout
    trail = json.loads(
        touchlog("audit", "trail", "--person", "email:ann@example.com", "--limit", "1100", "--json").stdout
    )
    assert len(trail["entries"]) == 1100
    assert "import" in touchlog("audit", "trail", "--event", "@2").stdout
    assert touchlog("audit", "trail", "--day", "x").exit_code == 2
    assert touchlog("volumes", "--by", "person").exit_code == 2
    assert touchlog("persons", "show", "ann").exit_code == 2
    with psycopg.connect(database_url) as conn:
        row = conn.execute(
            "SELECT count(*) FROM records_log.events WHERE type = 'access.recorded'"
        ).fetchone()
    assert row is not None
    assert row[0] >= 6, "each disclosure is on record"
