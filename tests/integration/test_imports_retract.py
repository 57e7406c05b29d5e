"""Imports are taken back as one, and what is taken back can be restored."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
import structlog
from typer.testing import CliRunner

from adapters.answers.conversations import Conversations
from adapters.checking.checker import check_now
from adapters.intake.correcting import Corrections
from adapters.intake.import_runs import ImportRuns
from adapters.mending import retried
from adapters.postgres.amendments import StoredAmendments
from adapters.postgres.api_keys import ApiKeys
from bin import cli
from bin.compose import core
from bin.settings import Settings
from domain.entry import event_id_of, moment, uuid_text
from domain.errors import NotFound
from tests.integration.reading_house import OFFICE, House, correction, event, story

A = "aaaaaaaa-0000-4000-8000-000000000001"
B = "bbbbbbbb-0000-4000-8000-000000000002"
C = "cccccccc-0000-4000-8000-000000000003"


def runs(it: House) -> ImportRuns:
    """Give the imports of a house."""
    return ImportRuns(it.core.pool, it.core.ingest, it.core.histories)


async def imported(it: House, import_id: str, *events: dict[str, Any], projected: bool = True) -> None:
    """Bring events in as one import, as `touchlog ingest` does."""
    await it.rows(
        "INSERT INTO touchlog.imports (import_id, principal, format, files) VALUES (%s, 'cli:x', 'test', '{f.csv}') RETURNING 1",
        import_id,
    )
    await runs(it).started(import_id, OFFICE, format_name="test", files=["f.csv"])
    await it.given(*events, import_id=import_id, projected=projected)


async def retracted(it: House, import_id: str) -> Any:
    """Take an import back."""
    found = await runs(it).retract(import_id, OFFICE, reason="wrong file")
    await it.projected()
    return found


async def counts(it: House) -> list[Any]:
    """Give what is counted of calls, all read models together."""
    return [
        await it.rows("SELECT sum(events)::int FROM read.daily_volumes WHERE channel = 'phone'"),
        await it.rows("SELECT sum(events)::int FROM read.person_activity WHERE channel = 'phone'"),
        await it.rows("SELECT conversation, events FROM read.conversations ORDER BY 1"),
        await it.rows(
            "SELECT person, channels->'phone' FROM read.persons WHERE channels ? 'phone' ORDER BY 1"
        ),
    ]


@story
async def test_a_retraction_takes_events_out_of_every_read_model_and_of_no_earlier_knowledge(
    it: House,
) -> None:
    """As if they had never been, from then on."""
    await it.given(event("kept", data={"conversation_id": "k"}))
    before = await counts(it)
    await imported(
        it,
        A,
        event("1", data={"conversation_id": "k"}),
        event("2", data={"conversation_id": "m"}),
        event("3", subject="email:bob@example.com"),
    )
    there = (await it.rows("SELECT position FROM touchpoint_log.head"))[0][0]
    assert await it.ids() == ["kept", "2", "1"]

    found = await retracted(it, A)

    assert (found.applied, found.events, found.persons, found.persons_left_empty, found.conversations) == (
        True,
        3,
        2,
        1,
        2,
    )
    assert await it.ids() == ["kept"]
    assert await it.ids("email:bob@example.com") == []
    assert await it.ids(known_at=there) == ["kept", "2", "1"]
    assert await counts(it) == before
    assert await it.built_anew(batch=2) == await it.digests()


@story
async def test_a_link_stated_only_by_a_retracted_event_is_gone_and_one_stated_twice_stays(it: House) -> None:
    """Persons follow from what holds."""
    once = event("once", identifiers="phone:+4420111111")
    await it.given(event("p1", subject="phone:+4420111111"), event("p2", subject="phone:+4420222222"))
    await imported(it, A, once, event("first", identifiers="phone:+4420222222", time="2026-03-04T12:00:00Z"))
    await it.given(event("second", identifiers="phone:+4420222222", time="2026-03-05T12:00:00Z"))
    assert len(await it.ids()) == 5

    await retracted(it, A)

    assert sorted(await it.ids()) == ["p2", "second"]
    assert await it.ids("phone:+4420111111") == ["p1"]
    live = await it.digests()
    for batch in (1, 2, 50):
        assert await it.built_anew(batch=batch) == live


@story
async def test_the_same_payload_sent_with_correct_restores_what_was_taken_back(it: House) -> None:
    """In every read model, and only that."""
    call = event("1", identifiers="phone:+4420111111", data={"conversation_id": "k", "summary": "tea"})
    await it.given(event("p1", subject="phone:+4420111111"))
    await imported(it, A, call, event("2"))
    whole = await counts(it)
    await retracted(it, A)
    assert await it.ids() == []

    corrector = Corrections(it.core.ingest, it.core.histories, it.core.pool)
    sent = [orjson.dumps(call), orjson.dumps(event("2"))]
    answer = await it.core.ingest.accept(sent, OFFICE, way_in="test", corrector=corrector)
    again = await it.core.ingest.accept(sent, OFFICE, way_in="test", corrector=corrector)
    await it.projected()

    assert [r.status for r in answer.results] == ["corrected", "corrected"]
    assert [r.status for r in again.results] == ["duplicate", "duplicate"]
    assert sorted(await it.ids()) == ["1", "2", "p1"]
    assert (await it.entries())[-1]["data"] is not None
    assert await counts(it) == whole
    live = await it.digests()
    for batch in (1, 4, 50):
        assert await it.built_anew(batch=batch) == live


@story
async def test_to_take_back_twice_changes_nothing_and_after_a_restore_it_takes_back_again(it: House) -> None:
    """Idempotent, and never stuck."""
    await imported(it, A, event("1"))
    first = await retracted(it, A)
    head = await it.rows("SELECT position FROM touchpoint_log.head")
    second = await retracted(it, A)

    assert (first.applied, second.applied, second.events) == (True, False, 0)
    assert second.retracted_at is not None
    assert await it.rows("SELECT position FROM touchpoint_log.head") == head

    later = moment(datetime.now(UTC) + timedelta(days=1))
    await it.given(correction("restore", "1", {"channel": "store"}, time=later))
    assert await it.ids() == ["1"]
    third = await retracted(it, A)
    assert (third.applied, third.corrected_events) == (True, 1)
    assert await it.ids() == [], "also behind a correction of a later time"


@story
async def test_an_import_is_named_by_the_beginning_of_its_id_where_no_other_begins_so(it: House) -> None:
    await imported(it, A, event("1"))
    await imported(it, f"{A[:-1]}9", event("2"))

    for named, why in ((A[:8], "Several imports"), ("c", "There is no import"), (" ", "There is no import")):
        with pytest.raises(NotFound, match=why):
            await runs(it).retract(named, OFFICE, reason="wrong file")
    assert (await runs(it).retract(A.upper(), OFFICE, reason="wrong file", dry_run=True)).import_id == A


@story
async def test_a_correction_before_the_retraction_restores_nothing(it: House) -> None:
    """Order is by time, source, id."""
    await imported(it, A, event("1"), event("2"))
    await it.given(correction("before", "1", {"channel": "store"}))
    await retracted(it, A)
    await it.given(correction("late", "2", {"channel": "store"}, time="2026-03-02T09:00:00Z"))

    assert await it.ids() == []
    assert await it.built_anew(batch=1) == await it.digests()


@story
async def test_events_of_a_retracted_import_that_come_later_do_not_hold_either(it: House) -> None:
    """An import taken back while it runs."""
    await imported(it, A, event("1"))
    await retracted(it, A)
    await it.given(event("2"), import_id=A)
    await imported(it, B, event("3"))

    assert await it.ids() == ["3"]
    live = await it.digests()
    assert await it.built_anew(batch=2) == await it.built_anew(batch=100) == live


@story
async def test_a_dry_run_tells_and_changes_nothing(it: House) -> None:
    """Counts, persons, first and last."""
    await imported(it, A, event("1"), event("2", type="order.placed", time="2026-03-09T12:00:00Z", data={}))
    head = await it.rows("SELECT position FROM touchpoint_log.head")

    found = await runs(it).retract(A[:8], OFFICE, reason="", dry_run=True)

    assert (found.applied, found.events, found.recorded_events, found.persons) == (False, 2, 2, 1)
    assert found.types == {"call.ended": 1, "order.placed": 1}
    assert found.first_at is not None
    assert found.last_at is not None
    assert (found.first_at.day, found.last_at.day) == (1, 9)
    assert await it.rows("SELECT position FROM touchpoint_log.head") == head
    with pytest.raises(NotFound, match="imports list"):
        await runs(it).retract(B, OFFICE, reason="", dry_run=True)


# -- the commands ---------------------------------------------------------------------------------------


@pytest.fixture
def touchlog(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give commands of an installation with a database of its own."""
    monkeypatch.setenv("TOUCHLOG_DATABASE_URL", database_url)
    handlers, level = logging.root.handlers[:], logging.root.level
    before = structlog.get_config()

    def run(*words: object) -> Any:
        result = CliRunner().invoke(
            cli.app, [*map(str, words), "--data", str(tmp_path / "data")], env={"COLUMNS": "200"}
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    yield run
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.configure(**before)


def test_a_file_is_imported_listed_taken_back_and_restored_by_commands(
    touchlog: Any, tmp_path: Path, database_url: str
) -> None:
    """From beginning to end."""
    assert "touchlog ingest" in touchlog("imports", "list").stdout
    file = tmp_path / "calls of ann@example.com.jsonl"
    file.write_text("".join(json.dumps(event(str(n), data={"duration_s": n})) + "\n" for n in range(3)))
    assert touchlog("ingest", file).exit_code == 0
    (run,) = json.loads(touchlog("imports", "list", "--json").stdout)["imports"]
    assert (run["recorded"], run["files"], run["format"], run["retracted_at"]) == (
        3,
        [file.name],
        "cloudevents",
        None,
    )

    assert touchlog("imports", "retract", run["import_id"][:8]).exit_code == 2
    assert "dry run" in touchlog("imports", "retract", run["import_id"][:8], "--dry-run").stdout
    assert len(json.loads(touchlog("history", "email:ann@example.com", "--json").stdout)["entries"]) == 3
    told = touchlog("imports", "retract", run["import_id"][:8], "--reason", "wrong file")
    assert told.exit_code == 0
    assert "Recorded at position 5" in told.stdout
    assert "taken back" in touchlog("imports", "retract", run["import_id"], "--reason", "again").stdout
    assert json.loads(touchlog("history", "email:ann@example.com", "--json").stdout)["entries"] == []
    assert "retracted" in touchlog("imports", "list").stdout

    also = [
        event(str(n), data={"duration_s": 7}, **({"identifiers": "phone:+442079460018"} if n else {}))
        for n in range(3)
    ]
    file.write_text("".join(json.dumps(one) + "\n" for one in also))
    assert touchlog("ingest", file).exit_code == 1, "conflicts, without --correct"
    tried = json.loads(touchlog("ingest", file, "--correct", "--dry-run", "--json").stdout)
    assert (tried["corrected"], tried["conflicts"], tried["remarks"]) == (3, 0, 2)
    made = json.loads(touchlog("ingest", file, "--correct", "--json").stdout)
    assert (made["corrected"], made["conflicts"], made["duplicates"], made["remarks"]) == (3, 0, 0, 2)
    assert [(p["status"], p["errors"][0]["code"]) for p in made["problems"]] == [("remark", "left_out")] * 2
    shown = touchlog("history", "email:ann@example.com")
    assert shown.stdout.count("corrected ") == 3

    latest = json.loads(touchlog("imports", "list", "--json").stdout)["imports"][0]
    assert (latest["corrected"], latest["import_id"]) == (3, made["import_id"])
    again = json.loads(
        touchlog("imports", "retract", made["import_id"], "--reason", "too soon", "--json").stdout
    )
    assert (again["applied"], again["events"]) == (True, 3), "what a run corrected or restored goes with it"
    assert json.loads(touchlog("history", "email:ann@example.com", "--json").stdout)["entries"] == []
    assert json.loads(touchlog("ingest", file, "--correct", "--json").stdout)["corrected"] == 3

    async def names() -> str:
        async with core(Settings.load({}, data=tmp_path / "data"), database_url) as parts:
            return str(
                (
                    await House(parts).rows(
                        "SELECT string_agg(convert_from(body, 'UTF8'), '') FROM touchpoint_log.events"
                    )
                )[0][0]
            )

    assert "ann@example.com" not in asyncio.run(names()), "a file's name may be a person's, and is sealed"


def test_a_dry_run_with_correct_tells_what_would_be_restored_corrected_or_stay_a_conflict(
    touchlog: Any, tmp_path: Path
) -> None:
    """The very counts of the run that follows it, of an import that was taken back and of events as corrected."""
    file, more = tmp_path / "calls.jsonl", tmp_path / "more.jsonl"
    file.write_text("".join(json.dumps(event(str(n))) + "\n" for n in range(2)))
    assert touchlog("ingest", file).exit_code == 0
    (run,) = json.loads(touchlog("imports", "list", "--json").stdout)["imports"]
    assert touchlog("imports", "retract", run["import_id"], "--reason", "wrong file").exit_code == 0
    consent = event("c", type="consent.withdrawn", data={"purpose": "news"})
    more.write_text(json.dumps(consent) + "\n")
    assert touchlog("ingest", more).exit_code == 0
    consent["data"] = {"purpose": "ads"}
    file.write_text(file.read_text() + json.dumps(consent) + "\n")

    def counted(*how: str) -> tuple[int, ...]:
        told = json.loads(touchlog("ingest", file, "--correct", "--json", *how).stdout)
        return told["corrected"], told["duplicates"], told["conflicts"]

    assert counted("--dry-run") == (2, 0, 1)
    assert counted() == (2, 0, 1)
    assert counted("--dry-run") == counted() == (0, 2, 1)


def test_a_dry_run_with_correct_tells_of_a_key_that_comes_again_and_again_what_the_run_makes_of_it(
    touchlog: Any, tmp_path: Path
) -> None:
    """Each row is compared with what the one before made of the event, as the run that follows does."""
    file = tmp_path / "calls.jsonl"

    def counted(rows: str, *how: str) -> list[str | int]:
        lines = (event(row[0], data={"duration_s": ord(row[1])}) for row in rows.split())
        file.write_text("".join(json.dumps(one) + "\n" for one in lines))
        told = json.loads(touchlog("ingest", file, "--correct", "--json", *how).stdout)
        return [told[what] for what in ("recorded", "corrected", "duplicates", "conflicts")]

    # given an event, and rows that say it otherwise: the same twice, another, the first again; and a new one as well
    assert counted("1a") == [1, 0, 0, 0]
    (first,) = json.loads(touchlog("imports", "list", "--json").stdout)["imports"]
    for rows, becomes in (
        ("1b 1b 1c 1b 1a 2a 2b 2b 2a", [1, 4, 4, 0]),
        ("1c 1b 1b", [0, 2, 1, 0]),  # back to what held before the first of them
        ("1d 1a", [0, 1, 1, 0]),  # restored by the one before
    ):
        if "d" in rows:
            assert touchlog("imports", "retract", first["import_id"], "--reason", "x").exit_code == 0
        # when they are tried, and then imported
        # then the trial told what became of them
        assert counted(rows, "--dry-run") == becomes
        assert counted(rows) == becomes


@story
async def test_what_a_correction_of_a_retracted_import_said_is_corrected_anew_when_it_is_sent_again(
    it: House,
) -> None:
    """Also where the read models have not seen the retraction yet."""
    await it.given(event("call", data={"duration_s": 1}))
    await imported(it, A, correction("theirs", "call", {"data": {"duration_s": 99}}))
    changed = [orjson.dumps(event("call", data={"duration_s": 99}))]

    async def sent() -> str:
        corrector = Corrections(it.core.ingest, it.core.histories, it.core.pool)
        answer = await it.core.ingest.accept(changed, OFFICE, way_in="test", corrector=corrector)
        return answer.results[0].status

    assert await sent() == "duplicate"  # that is what holds
    await runs(it).retract(A, OFFICE, reason="wrong file")
    assert await sent() == "corrected"
    await it.projected()
    assert await sent() == "duplicate"
    (entry,) = await it.entries()
    assert entry["data"]["duration_s"] == 99


@pytest.mark.parametrize("of_it_too", [False, True], ids=["of an event before", "of an event of the import"])
def test_a_correction_that_came_with_an_import_goes_with_it(
    tmp_path: Path, database_url: str, of_it_too: bool
) -> None:
    @story
    async def told(it: House) -> None:
        # given a call, and an import that corrects it, beside a correction that came by itself
        await it.given(event("call"))
        await it.given(correction("mine", "call", {"data": {"duration_s": 61}}))
        before = (await it.rows("SELECT position FROM touchpoint_log.head"))[0][0]
        more = [event("new")] if of_it_too else []
        theirs = correction(
            "theirs", "call", {"channel": "fax", "data": {"duration_s": 99}}, time="2026-04-01T00:00:00Z"
        )
        also = [correction("also", "new", {"channel": "fax"})] if of_it_too else []
        await imported(it, A, *more, theirs, *also)
        there = (await it.rows("SELECT position FROM touchpoint_log.head"))[0][0]
        (entry,) = [e for e in await it.entries() if e["provenance"]["source_id"] == "call"]
        assert (entry["channel"], entry["data"]["duration_s"]) == ("fax", 99)
        # when the import is taken back
        await retracted(it, A)
        # then the call holds as corrected by the other one alone, and as known before as it was known
        (entry,) = await it.entries()
        assert (entry["channel"], entry["data"]["duration_s"], len(entry["corrections"])) == ("phone", 61, 1)
        (entry,) = [e for e in await it.entries(known_at=there) if e["provenance"]["source_id"] == "call"]
        assert (entry["channel"], entry["data"]["duration_s"], len(entry["corrections"])) == ("fax", 99, 2)
        (entry,) = await it.entries(known_at=before)
        assert (entry["channel"], entry["data"]["duration_s"]) == ("phone", 61)
        # and so does every read model, built anew in any batches, by the check, and in a replay
        live = await it.digests()
        for batch in (1, 2, 50):
            assert await it.built_anew(batch=batch) == live
        assert not [one for one in check_now(database_url) if one.differences]

    told(tmp_path, database_url)


@story
async def test_what_is_known_of_corrections_and_retractions_at_a_position_is_what_stands_up_to_it(
    it: House,
) -> None:
    """Also where a read model that is further on has noted more."""
    # given (1) a call, an import (2) with (3) a correction of it, (4) an event and (5) a correction of one to come,
    # (6) all taken back, (7) the event restored as of tomorrow, (8) taken back again, and (9) the one to come, which but names the import
    await it.given(event("call"))
    await imported(it, A, correction("c", "call", {"channel": "fax"}), event("mine"), correction("d", "later", {"channel": "fax"}))  # fmt: skip
    await retracted(it, A)
    tomorrow = moment(datetime.now(UTC) + timedelta(days=1))
    await it.given(correction("e", "mine", {"channel": "web"}, time=tomorrow))
    await retracted(it, A)
    await it.given(event("later", data={"import": A}))
    call, mine, later = (uuid_text(event_id_of("test/calls", id_)) for id_ in ("call", "mine", "later"))

    def known(until: int) -> tuple[Any, ...]:
        with psycopg.connect(it.core.database_url, autocommit=True) as conn:
            asked = StoredAmendments(lambda: conn)
            stated = asked.of([call, mine, A], until)
            return (
                {of: [(a.recorded.position, a.undone) for a in told] for of, told in stated.items()},
                asked.waiting(until),
                asked.retracted(until),
                sorted(recorded.position for recorded, _ in asked.events([call, mine, later], until).values()),
                [recorded.position for recorded, _ in asked.of_import(A, until)],
                {e.recorded.position: e.recorded.event.channel for e in asked.effective(range(1, 10), until) if e.recorded.position in (1, 4, 9)},
            )  # fmt: skip

    # when it is asked as known at each, then only what stands up to there is told
    at = {until: await asyncio.to_thread(known, until) for until in range(10)}
    assert at[0] == ({}, set(), set(), [], [], {})
    assert at[2] == ({}, set(), set(), [1], [], {1: "phone"})
    assert at[3] == ({call: [(3, None)]}, set(), set(), [1], [3], {1: "fax"})
    assert at[5] == ({call: [(3, None)]}, {later}, set(), [1, 4], [3, 4, 5], {1: "fax", 4: "phone"})
    gone = {call: [(3, 6)], A: [(6, None)]}
    assert at[6] == (gone, {later}, {A}, [1, 4], [3, 4, 5], {1: "phone"})
    assert at[7] == (gone | {mine: [(7, None)]}, {later}, {A}, [1, 4], [3, 4, 5], {1: "phone", 4: "web"})
    gone |= {A: [(6, None), (8, None)], mine: [(7, None)]}
    assert at[8] == (gone, {later}, {A}, [1, 4], [3, 4, 5], {1: "phone"})
    assert at[9] == (gone, set(), {A}, [1, 4, 9], [3, 4, 5], {1: "phone", 9: "phone"})


@story
async def test_conversations_leave_a_correction_out_that_went_with_its_import(it: House) -> None:
    # given a call of a conversation, which an import said came by fax; and that import taken back
    await it.given(event("call", data={"duration_s": 60, "conversation_id": "c1"}))
    await imported(it, A, correction("theirs", "call", {"channel": "fax", "data": {"duration_s": 99}}))
    there = (await it.rows("SELECT position FROM touchpoint_log.head"))[0][0]
    await retracted(it, A)
    # when conversations are asked by each route
    asked = Conversations(it.core.pool, it.core.histories)
    one = await asked.one("conversation:c1")
    (mine,) = (await asked.page("email:ann@example.com")).conversations
    (everybodys,) = (await asked.page()).conversations
    # then all tell the call as the history does, and as it was known while the import stood
    assert [c["channels"] for c in (one.conversation, mine, everybodys)] == [["phone"]] * 3
    assert one.entries == await it.entries()
    assert (one.entries[0]["data"]["duration_s"], one.entries[0].get("corrections")) == (60, None)
    one = await asked.one("conversation:c1", known_at=there)
    assert (one.conversation["channels"], one.entries) == (["fax"], await it.entries(known_at=there))


async def refused(it: House, import_id: str | None, *ids: str) -> None:
    """Bring events in that are too far ahead now, and not any more when they are tried again."""
    now, it.core.ingest.clock = it.core.ingest.clock, lambda: datetime(2024, 1, 1, tzinfo=UTC)
    try:
        answer = await it.core.ingest.accept(
            [orjson.dumps(event(id_)) for id_ in ids], OFFICE, way_in="test", import_id=import_id
        )
    finally:
        it.core.ingest.clock = now
    assert answer.rejected == len(ids)


async def tried(it: House, id_: str, corrected: dict[str, Any] | None = None) -> tuple[str, list[str]]:
    """Try the refused row of an event again; gives its status, and why not."""
    (one,) = [row for row in await it.core.rejected.list(state=None) if row.source_id == id_]
    shown = await it.core.rejected.show(one.id)
    payload = None if corrected is None else orjson.dumps(corrected)
    outcome = await retried(it.core.ingest, it.core.rejected, ApiKeys(it.core.pool), shown, OFFICE, payload)
    return outcome["status"], [error.get("code", "invalid") for error in outcome["errors"]]


@story
async def test_a_refused_row_that_came_several_times_is_tried_again_while_one_of_these_stands(
    it: House,
) -> None:
    # given refused rows that came by an import, and one that came by no import, all then by two more, the last of which is taken back
    for import_id in (A, B, C):
        await imported(it, import_id)
    for import_id in (A, B, A, C, B):
        await refused(it, import_id, "1", "2")
        await refused(it, None if import_id == A else import_id, "3")
    await retracted(it, C)
    # when one is tried again, then it is recorded, as part of the first that stands
    assert await tried(it, "1") == ("recorded", [])
    await it.projected()
    await retracted(it, B)
    assert await it.ids() == ["1"]
    await retracted(it, A)
    assert await it.ids() == []
    # and while none but those taken back brought it, it is not
    assert await tried(it, "2") == ("rejected", ["retracted"])
    # and what came by another way, too, is recorded for itself
    assert await tried(it, "3") == ("recorded", [])
    await it.projected()
    assert await it.ids() == ["3"]


@story
async def test_a_refused_row_that_is_recorded_later_goes_with_its_import_and_of_one_taken_back_none_is_tried_again(
    it: House,
) -> None:
    # given an import of which one row was recorded and three were refused, and two of these recorded later
    await imported(it, A, event("1"))
    await refused(it, A, "2", "3", "4")
    assert await tried(it, "2") == ("recorded", [])
    assert await tried(it, "3", event("3", data={"duration_s": 7})) == ("recorded", [])
    await it.projected()
    assert sorted(await it.ids()) == ["1", "2", "3"]
    # when it is taken back
    found = await retracted(it, A)
    # then all three are, and what it left is tried again no more, but as somebody's own
    assert (found.events, await it.ids()) == (3, [])
    assert await tried(it, "4") == ("rejected", ["retracted"])
    # and with another import that brings the same row it may be
    await imported(it, B)
    await refused(it, B, "4")
    assert await tried(it, "4") == ("recorded", [])
    await refused(it, A, "5")
    assert await tried(it, "5", event("5", data={"duration_s": 8})) == ("recorded", [])
    await it.projected()
    assert sorted(await it.ids()) == ["4", "5"]
    assert await it.built_anew(batch=2) == await it.digests()


@story
async def test_a_refused_row_is_settled_once_and_what_is_refused_again_is_kept_no_second_time(
    it: House,
) -> None:
    # given three refused rows, of which one was recorded by itself since
    await imported(it, A)
    await refused(it, A, "1", "2", "3")
    await it.given(event("1"))
    # when it is tried, then it is a duplicate, and stays one whatever is given for it
    assert await tried(it, "1") == ("duplicate", [])
    assert await tried(it, "1", event("9")) == ("duplicate", [])
    # and what is given for another and is wrong itself is refused, and not kept beside it
    assert await tried(it, "2", event("2", data={"duration_s": "x"})) == ("rejected", ["invalid"])
    assert await it.core.rejected.counts() == {"open": 2, "duplicate": 1}
    # and of rows whose key was destroyed nothing can be tried, but what is given for them
    with psycopg.connect(it.core.database_url, autocommit=True) as owner:
        owner.execute("DELETE FROM touchlog.subjects")
    await it.core.subjects.forget()
    assert await tried(it, "3") == ("rejected", ["erased"])
    assert await tried(it, "3", event("3", subject="email:bea@example.com")) == ("recorded", [])
    await it.projected()
    assert await it.ids("email:bea@example.com") == ["3"]
