"""Replay: the history leaves the log in log order, as it held at one position, whole or not at all."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import orjson
import psycopg
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from typer.testing import CliRunner

from adapters.destination import Destination
from adapters.intake.ingest import Answer
from adapters.postgres.reading_pool import ReadingPool
from adapters.principal import Principal
from adapters.replays import parquet as replay_parquet
from adapters.replays import replay as machinery
from adapters.replays.parquet import ArrowStream, ParquetFile, ParquetFolder
from adapters.replays.replay import Line, Replay, Selection, Stopped
from adapters.replays.text import Csv, JsonLines, Sink
from bin import cli
from bin.commands.history import catch_up
from bin.commands.replay import Asked, Outcome, run
from bin.compose import Core, core
from bin.settings import Settings
from domain.correction import RETRACTION
from domain.entry import event_id_of
from domain.errors import FutureTime, Invalid, NotFound, Refused, Unavailable

OFFICE = Principal("key:test", "admin")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event(id_: str, **more: Any) -> dict[str, Any]:
    """Give a call from ann at noon, with whatever else is asked for."""
    at = more.pop("at", NOON)
    return {
        "specversion": "1.0",
        "id": id_,
        "source": "test/calls",
        "type": "call.ended",
        "time": at.isoformat().replace("+00:00", "Z"),
        "subject": "email:ann@example.com",
        "data": {"duration_s": 60},
    } | more


def correction(of: str, **patch: Any) -> dict[str, Any]:
    """Give a correction of the event with this id."""
    return event(
        f"correction of {of} at {patch.pop('at', NOON).isoformat()}",
        type="correction.recorded",
        subject=None,
        data={"of": {"source": "test/calls", "id": of}, "patch": patch},
    )


class House:
    """A log, for one test."""

    def __init__(self, parts: Core, folder: Path) -> None:
        self.core = parts
        self.folder = folder

    async def given(self, *events: dict[str, Any], import_id: str | None = None) -> Answer:
        """Record events."""
        bodies = [orjson.dumps({k: v for k, v in e.items() if v is not None}) for e in events]
        answer = await self.core.ingest.accept(bodies, OFFICE, way_in="test", import_id=import_id)
        assert answer.rejected == 0, answer.results
        return answer

    async def given_retraction(self, import_id: str) -> None:
        """Take an import back, as the command will."""
        from adapters.postgres.event_log import Item

        id_ = f"retraction of {import_id}"
        body = {
            "channel": "records", "data": {"import_id": import_id}, "event_id": str(_uuid("touchlog/imports", id_)),
            "id": id_, "occurred_at": "2026-03-02T00:00:00.000000Z", "principal": "key:test",
            "source": "touchlog/imports", "type": RETRACTION, "version": 1,
        }  # fmt: skip
        raw = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        await self.core.writer.append(
            [Item(event_id_of("touchlog/imports", id_), RETRACTION, raw, b"\0" * 16)]
        )

    async def replayed(self, **asked: Any) -> Outcome:
        """Do what the command does."""
        if asked.get("person"):
            await asyncio.to_thread(catch_up, self.core.database_url)
        settings = Settings.load({}, data=self.folder)
        return await run(settings, self.core.database_url, Asked(**asked), lambda *_: None)

    async def bytes_of(self, format_: str = "jsonl", **asked: Any) -> bytes:
        """Replay into a file; gives what stands in it."""
        file = self.folder / ("out.parquet" if format_ == "parquet" else "out")
        await self.replayed(format=format_, output=file, force=True, **asked)
        return file.read_bytes()

    async def events(self, **asked: Any) -> list[dict[str, Any]]:
        """Replay as JSON lines; gives the events."""
        return [json.loads(line) for line in (await self.bytes_of(**asked)).splitlines()]

    async def ids(self, **asked: Any) -> list[str]:
        """Replay as JSON lines; gives the ids at the source."""
        return [one["id"] for one in await self.events(**asked)]

    def records(self) -> list[dict[str, Any]]:
        """Give the records of access, oldest first."""
        with psycopg.connect(self.core.database_url) as conn:
            rows = conn.execute("SELECT body FROM records_log.events ORDER BY position").fetchall()
        return [json.loads(body) for (body,) in rows]


def _uuid(source: str, id_: str) -> Any:
    from uuid import UUID

    return UUID(bytes=event_id_of(source, id_))


@asynccontextmanager
async def house(tmp_path: Path, url: str) -> AsyncIterator[House]:
    """Put the parts together on a database."""
    async with core(Settings.load({}, data=tmp_path), url) as parts:
        yield House(parts, tmp_path)


def story(test: Callable[[House], Coroutine[Any, Any, None]]) -> Callable[[Path, str], None]:
    """Run an asynchronous test on a house of its own."""

    def run_it(tmp_path: Path, database_url: str) -> None:
        async def whole() -> None:
            async with house(tmp_path, database_url) as it:
                await test(it)

        asyncio.run(whole())

    run_it.__name__, run_it.__doc__ = test.__name__, test.__doc__
    return run_it


MIXED = (
    event(
        "call",
        data={"duration_s": 60, "agent": "bob", "summary": "asked about the kettle"},
        traceparent="00-ab-cd-01",
    ),
    event(
        "order",
        type="order.placed",
        identifiers="crm:7,order:9",
        direction="inbound",
        data={
            "order_id": "9",
            "amount_minor": 1290,
            "currency": "EUR",
            "gift": True,
            "lines": [{"sku": "k-1", "quantity": 2}],
        },
    ),
    event('odd, "quoted" id é☎😀/', type="cart.moved", subject=None, data={"anything": [1, {"x": None}]}),
    event("case", type="case.opened", at=NOON + timedelta(days=1), data={"case_id": "c-1"}),
)


# -- formats ---------------------------------------------------------------------------------------------


@story
async def test_json_lines_are_the_events_of_the_feed(it: House) -> None:
    """The same attributes, in the same order, without sealed fields."""
    await it.given(*MIXED)
    relayed, _, _ = await it.core.feed.encoded(after=0, limit=100)

    lines = (await it.bytes_of()).splitlines()

    assert [list(orjson.loads(e.json).items()) for e in relayed] == [
        list(orjson.loads(n).items()) for n in lines
    ]
    assert b"kettle" not in b"".join(lines)
    assert b"traceparent" in lines[0]
    assert [json.loads(line)["position"] for line in lines] == [1, 2, 3, 4]


@story
async def test_csv_reads_back_with_the_envelope_and_data_as_json(it: House) -> None:
    """Quotes and commas in an id included."""
    await it.given(*MIXED)
    events = await it.events()

    rows = list(csv.DictReader(io.StringIO((await it.bytes_of("csv")).decode(), newline="")))

    assert list(rows[0]) == list(Csv.COLUMNS)
    assert [r["source_id"] for r in rows] == [e["id"] for e in events]
    assert [json.loads(r["data"]) for r in rows] == [e["data"] for e in events]
    assert [r["occurred_at"] for r in rows] == [e["time"] for e in events]
    assert [r["recorded_at"] for r in rows] == [e["recordedtime"] for e in events]
    assert [len(r["subjects"].split()) for r in rows] == [1, 2, 0, 1]
    assert rows[1]["subject"] == rows[1]["subjects"].split()[0] == events[1]["subject"]


@story
async def test_a_spreadsheet_takes_no_cell_of_the_csv_for_a_formula(it: House) -> None:
    """Ids, sources and channels are the sender's choice; JSON lines give them as they are."""
    evil = ('=HYPERLINK("http://evil.example","x")', "+1", "-1", "@SUM(A1)", "a=1")
    await it.given(*(event(id_, source=id_) for id_ in evil))

    rows = list(csv.DictReader(io.StringIO((await it.bytes_of("csv")).decode(), newline="")))

    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "+", "-", "@"))]
    assert [row["source_id"].removeprefix("'") for row in rows] == [*evil] == await it.ids()
    assert rows[-1]["source_id"] == "a=1"


@story
async def test_one_parquet_file_and_an_arrow_stream_hold_the_envelope_and_data_as_json(it: House) -> None:
    """Both read back with what anybody reads them with."""
    await it.given(*MIXED)
    events = await it.events()

    table = pq.read_table(pa.BufferReader(await it.bytes_of("parquet")))
    stream = pa.ipc.open_stream(await it.bytes_of("arrow")).read_all()

    assert table.equals(stream)
    assert table.schema.names == [*Csv.COLUMNS]
    rows = table.to_pylist()
    assert [json.loads(r["data"]) for r in rows] == [e["data"] for e in events]
    assert [r["occurred_at"] for r in rows] == [datetime.fromisoformat(e["time"]) for e in events]
    assert [r["recorded_at"] for r in rows] == [datetime.fromisoformat(e["recordedtime"]) for e in events]
    assert [r["subject"] for r in rows] == [e.get("subject") for e in events]


@story
async def test_a_parquet_folder_has_a_file_per_type_with_typed_columns(it: House) -> None:
    """What the type declares is a column; what nobody declared stands in `more`; sealed fields nowhere."""
    await it.given(*MIXED)
    folder = it.folder / "columns"

    outcome = await it.replayed(format="parquet", output=folder)

    files = sorted(file.name for file in folder.iterdir())
    assert files == [
        "call.ended.parquet",
        "case.opened.parquet",
        "custom.cart.moved.parquet",
        "order.placed.parquet",
    ]
    assert outcome.files == 4
    assert outcome.types == {"call.ended": 1, "case.opened": 1, "custom.cart.moved": 1, "order.placed": 1}
    order = pq.read_table(folder / "order.placed.parquet")
    assert order.schema.field("amount_minor").type == pa.int64()
    assert order.schema.field("occurred_at").type == pa.timestamp("us", tz="UTC")
    assert order.schema.names[:2] == ["position", "event_id"]
    assert "delivery_address" not in order.schema.names, "a sealed field has no column"
    (row,) = order.to_pylist()
    assert (row["amount_minor"], row["currency"], row["position"]) == (1290, "EUR", 2)
    assert row["lines"][0]["sku"] == "k-1"
    assert row["lines"][0]["quantity"] == 2
    assert json.loads(row["more"]) == {"gift": True}
    (call,) = pq.read_table(folder / "call.ended.parquet").to_pylist()
    assert (call["duration_s"], call["agent"], call["more"]) == (60.0, "bob", None)
    assert "summary" not in call


def line(**more: Any) -> Line:
    """Give a line, as read from the log."""
    data = more.pop("data", {})
    given: dict[str, Any] = {
        "event_id": "e", "source": "s", "id": "i", "type": "order.placed", "version": 1, "position": 1,
        "occurred_at": "2026-03-01T12:00:00.000000Z", "channel": "shop", "data": msgspec.Raw(orjson.dumps(data)),
    }  # fmt: skip
    return Line(**given | more)


@pytest.mark.parametrize(
    "data",
    [
        {"amount_minor": 12.5},
        {"amount_minor": True},
        {"amount_minor": 2**63},
        {"currency": 7},
        {"lines": [{"sku": "k", "undeclared": 1}]},
        {"lines": [{"quantity": 1.5}]},
        {"lines": "none"},
    ],
    ids=str,
)
def test_a_value_that_does_not_fit_its_column_is_kept_whole_beside_it(
    data: dict[str, Any], tmp_path: Path
) -> None:
    """Never bent, cut or lost."""
    sink = ParquetFolder(tmp_path, personal=False)
    sink.write([line(data={"order_id": "fits"}), line(data=data)])
    sink.finish()
    sink.close()

    _, row = pq.read_table(tmp_path / "order.placed.parquet").to_pylist()

    (field,) = data
    assert row[field] is None
    assert json.loads(row["more"]) == data


def test_a_field_named_as_a_column_of_the_envelope_has_a_column_of_its_own(tmp_path: Path) -> None:
    """A verdict speaks of a channel too."""
    sink = ParquetFolder(tmp_path, personal=False)
    sink.write([line(type="verdict.recorded", channel="records", data={"channel": "email"})])
    sink.finish()
    sink.close()

    (row,) = pq.read_table(tmp_path / "verdict.recorded.parquet").to_pylist()

    assert (row["channel"], row["data_channel"]) == ("records", "email")


def test_types_that_only_differ_by_case_or_hold_slashes_get_files_of_their_own(tmp_path: Path) -> None:
    """A name from outside never leaves the folder."""
    names = ["custom.a", "custom.A", "custom.../../x", "custom." + "y" * 900]
    (tmp_path / "in").mkdir()
    sink = ParquetFolder(tmp_path / "in", personal=False)
    sink.write([line(type=name, data={"n": name}) for name in names])
    sink.finish()
    sink.close()

    files = list((tmp_path / "in").iterdir())

    assert len({file.name.lower() for file in files}) == len(names)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    assert {pq.read_table(f)["type"][0].as_py() for f in files} == set(names)


def test_ever_more_undeclared_types_share_one_file(tmp_path: Path) -> None:
    """Open files are bounded, whatever comes in."""
    sink = ParquetFolder(tmp_path, personal=False)
    sink.write([line(type=f"custom.t{n}") for n in range(replay_parquet.UNDECLARED_FILES + 5)])
    sink.finish()
    sink.close()

    assert sink.files == replay_parquet.UNDECLARED_FILES + 1
    assert pq.read_table(tmp_path / "undeclared.parquet").num_rows == 5


# -- filters -----------------------------------------------------------------------------------------------


@story
async def test_a_replay_is_cut_by_position_time_type_and_channel(it: House) -> None:
    """Positions are inclusive, times half-open; the kinds of cut go together."""
    await it.given(*MIXED)
    everything = ["call", "order", MIXED[2]["id"], "case"]

    assert await it.ids() == everything
    assert await it.ids(first=2, last=3) == everything[1:3]
    assert await it.ids(last=99) == everything
    assert await it.ids(since=NOON + timedelta(days=1)) == ["case"]
    assert await it.ids(until=NOON + timedelta(days=1)) == everything[:3]
    assert await it.ids(since=NOON, until=NOON) == []
    assert await it.ids(types=("call.ended", "case.opened")) == ["call", "case"]
    assert await it.ids(channels=("phone",)) == ["call"]
    assert await it.ids(channels=("phone", "shop"), first=2) == ["order"]
    assert await it.ids(types=("custom.cart.moved",)) == [MIXED[2]["id"]]


@story
async def test_the_summary_counts_and_names_what_repeats_it(it: House) -> None:
    """So that it can be asked again."""
    await it.given(*MIXED)

    outcome = await it.replayed(
        format="jsonl", output=it.folder / "out", first=2, types=("order.placed", "case.opened")
    )

    assert (outcome.events, outcome.first_position, outcome.last_position) == (2, 2, 4)
    assert (outcome.known_at, outcome.repeat) == (4, "--known-at @4")
    assert outcome.seconds > 0
    assert outcome.events_per_s > 0


@story
async def test_rows_that_touchlog_did_not_write_are_left_out_and_counted(it: House) -> None:
    """The library's raw path may hold any bytes."""
    from adapters.postgres.event_log import Item

    await it.given(event("a"))
    await it.core.writer.append([Item(b"\1" * 16, "foreign", b"\x80\x04pickled", b"\0" * 16)])
    await it.given(event("b"))

    outcome = await it.replayed(format="jsonl", output=it.folder / "out")

    assert (outcome.events, outcome.unreadable, outcome.last_position) == (2, 1, 3)


# -- what was known when -------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", ["jsonl", "csv", "parquet", "arrow"])
def test_the_same_moment_gives_the_same_bytes_whatever_came_later(
    format_: str, tmp_path: Path, database_url: str
) -> None:
    """Late, corrected and retracted events come afterwards, and change nothing of what was known."""

    async def whole() -> None:
        async with house(tmp_path, database_url) as it:
            await it.given(*MIXED)
            await it.given(
                event("imported"), event("imported too"), import_id="11111111-1111-4111-8111-111111111111"
            )
            await it.given(correction("call", channel="desk"))
            then = datetime.now(UTC)
            before = {
                "@7": await it.bytes_of(format_, known_at=7),
                "now": await it.bytes_of(format_),
                "then": await it.bytes_of(format_, known_at=then),
                "@6": await it.bytes_of(format_, known_at=6),
            }
            assert before["@7"] == before["now"] == before["then"]
            assert before["@6"] != before["@7"]

            await it.given(
                event("late", at=NOON - timedelta(days=900)), correction("order", data={"amount_minor": 1})
            )
            await it.given(correction("imported", at=NOON + timedelta(hours=1), direction="outbound"))
            await it.given_retraction("11111111-1111-4111-8111-111111111111")

            assert await it.bytes_of(format_, known_at=7) == before["@7"]
            assert await it.bytes_of(format_, known_at=then) == before["then"]
            assert await it.bytes_of(format_, known_at=6) == before["@6"]
            assert await it.bytes_of(format_) != before["@7"]

    asyncio.run(whole())


@story
async def test_events_come_as_they_hold_and_retracted_ones_not_at_all(it: House) -> None:
    """No projector has run: the log alone says what holds."""
    import_id = "22222222-2222-4222-8222-222222222222"
    await it.given(
        correction("call", time="2025-01-01T00:00:00Z", channel="desk", data={"agent": "eve"})
    )  # before its event
    await it.given(event("call", data={"duration_s": 60, "agent": "bob"}), event("other"))
    await it.given(event("wrong"), event("restored"), import_id=import_id)
    await it.given_retraction(import_id)
    await it.given(event("restores", type="correction.recorded", subject=None, at=NOON + timedelta(days=9),
                         data={"of": {"source": "test/calls", "id": "restored"}, "patch": {"channel": "desk"}}))  # fmt: skip

    events = {e["id"]: e for e in await it.events()}
    outcome = await it.replayed(format="jsonl", output=it.folder / "again")
    raw = {e["id"]: e for e in await it.events(as_recorded=True)}

    assert "wrong" not in events
    assert events["call"]["data"] == {"agent": "eve", "duration_s": 60}
    assert (events["call"]["channel"], events["call"]["time"]) == ("desk", "2025-01-01T00:00:00.000000Z")
    assert events["restored"]["channel"] == "desk"
    assert events["other"]["channel"] == "phone"
    assert (outcome.corrected, outcome.retracted) == (2, 1)
    assert raw["call"]["data"] == {"agent": "bob", "duration_s": 60}
    assert {"wrong", "restored"} <= raw.keys()
    assert raw["restored"]["channel"] == "phone"
    assert len(raw) == len(events) + 1


@story
async def test_cuts_look_at_events_as_they_hold(it: House) -> None:
    """A corrected time or channel counts, not the one that was wrong; as recorded it is the other way."""
    await it.given(
        event("call"), event("other"), correction("call", time="2025-01-01T00:00:00Z", channel="desk")
    )
    cut = NOON - timedelta(days=1)

    assert await it.ids(types=("call.ended",), until=cut) == ["call"]
    assert await it.ids(types=("call.ended",), channels=("desk",)) == ["call"]
    assert await it.ids(types=("call.ended",), channels=("phone",)) == ["other"]
    assert await it.ids(types=("call.ended",), until=cut, as_recorded=True) == []
    assert await it.ids(types=("call.ended",), until=cut, known_at=2) == []


@story
async def test_a_moment_that_is_not_there_is_refused(it: House) -> None:
    """Neither the future, nor a position beyond the head."""
    await it.given(event("a"))

    with pytest.raises(Invalid, match="not in the log"):
        await it.ids(known_at=2)
    with pytest.raises(FutureTime):
        await it.ids(known_at=datetime.now(UTC) + timedelta(hours=1))


# -- persons ---------------------------------------------------------------------------------------------------


PEOPLE = (
    event("call"),
    event("visit", type="web.page_viewed", subject="anonymous:x-1", data={"path": "/"}),
    event(
        "login",
        type="web.signed_in",
        subject="user:u-1",
        identifiers="anonymous:x-1,email:ann@example.com",
        data={},
    ),
    event("placed", type="order.placed", identifiers="order:9", data={}),
    event("shipped", type="order.shipped", subject="order:9", data={}),
    event("other", subject="email:bob@example.com"),
    event("nobody's", subject=None),
)


@story
async def test_a_person_is_all_its_subjects_and_what_is_its_own(it: House) -> None:
    """As the history has it, in log order; the disclosure is on record, the REF sealed."""
    await it.given(*PEOPLE)

    assert await it.ids(person="user:u-1") == ["call", "visit", "login", "placed", "shipped"]
    assert await it.ids(person="anonymous:x-1", types=("web.page_viewed",)) == ["visit"]
    assert await it.ids(person="email:bob@example.com") == ["other"]
    assert await it.ids(person="order:9") == ["call", "visit", "login", "placed", "shipped"]
    with pytest.raises(NotFound):
        await it.ids(person="email:nobody@example.com")
    records = it.records()
    assert [r["data"]["action"] for r in records] == ["replay"] * 4
    assert len(records[0]["subjects"]) == 3
    assert b"u-1" not in orjson.dumps(records)


@story
async def test_a_person_is_who_it_was_known_to_be(it: House) -> None:
    """A link that came later, and a correction of whom it was about, count from then on."""
    await it.given(PEOPLE[0], PEOPLE[1])
    before = await it.bytes_of(person="email:ann@example.com", known_at=2)
    await it.given(*PEOPLE[2:], correction("other", subject="email:ann@example.com"))

    everything = await it.ids(person="email:ann@example.com")

    assert everything == ["call", "visit", "login", "placed", "shipped", "other"]
    assert await it.ids(person="email:bob@example.com") == []
    assert await it.ids(person="email:bob@example.com", as_recorded=True) == ["other"]
    assert await it.ids(person="email:ann@example.com", as_recorded=True) == everything[:-1]
    assert await it.bytes_of(person="email:ann@example.com", known_at=2) == before
    assert [json.loads(line)["id"] for line in before.splitlines()] == ["call"]


@story
async def test_an_event_that_was_corrected_before_it_came_is_found_by_whom_it_named(it: House) -> None:
    """As recorded it was bob's, although no history ever showed it there."""
    await it.given(correction("other", subject="email:ann@example.com"), PEOPLE[0], PEOPLE[5])

    assert await it.ids(person="email:ann@example.com") == ["call", "other"]
    assert await it.ids(person="email:bob@example.com") == []
    assert await it.ids(person="email:bob@example.com", as_recorded=True) == ["other"]


@story
async def test_an_event_of_an_import_that_was_taken_back_before_it_came_is_found_as_recorded(
    it: House,
) -> None:
    """No history ever showed it, but it was recorded, and about ann."""
    import_id = "22222222-2222-4222-8222-222222222222"
    await it.given(PEOPLE[0], PEOPLE[5], event("before"), import_id=import_id)
    await it.given_retraction(import_id)
    await it.given(event("after"), event("bob's", subject="email:bob@example.com"), import_id=import_id)

    assert await it.ids(person="email:ann@example.com") == []
    assert await it.ids(person="email:ann@example.com", as_recorded=True) == ["call", "before", "after"]
    assert await it.ids(person="email:ann@example.com", as_recorded=True, known_at=4) == ["call", "before"]


# -- personal fields ----------------------------------------------------------------------------------------------


@story
async def test_personal_fields_leave_only_when_asked_for_and_the_access_is_on_record_before(
    it: House,
) -> None:
    """With its purpose and its cuts."""
    await it.given(*MIXED)
    await it.given(correction("call", data={"summary": "asked about the teapot"}))

    plain = await it.bytes_of(types=("call.ended",))
    opened = await it.events(personal=True, purpose="moving house", types=("call.ended", "custom.cart.moved"))

    assert b"asked" not in plain
    assert opened[0]["data"] == {"agent": "bob", "duration_s": 60, "summary": "asked about the teapot"}
    assert opened[1]["data"] == {"anything": [1, {"x": None}]}
    (record,) = it.records()
    assert record["data"]["purpose"] == "moving house"
    assert record["data"]["action"] == "replay"
    assert record["data"]["types"] == ["call.ended", "custom.cart.moved"]
    assert record["data"]["known_at"] == 5
    assert record["data"]["count_known"] is False


@story
async def test_what_a_correction_took_away_is_absent_also_with_personal_fields(it: House) -> None:
    """As the history shows it, and as the replay without them does."""
    await it.given(*MIXED)
    await it.given(correction("call", data={"summary": None, "agent": None, "outcome": "sold"}))

    (plain,) = await it.events(types=("call.ended",))
    (opened,) = await it.events(personal=True, types=("call.ended",))
    await asyncio.to_thread(catch_up, it.core.database_url)
    page = await it.core.histories.page("email:ann@example.com", type_="call.ended")

    assert plain["data"] == {"duration_s": 60, "outcome": "sold"}
    assert opened["data"] == page.entries[0]["data"] == plain["data"]


@story
async def test_nothing_leaves_when_the_access_cannot_be_recorded(it: House) -> None:
    """The record comes first."""
    await it.given(*MIXED)
    with psycopg.connect(it.core.database_url, autocommit=True) as conn:
        conn.execute("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA records_log FROM touchlog_app")

    with pytest.raises(Unavailable, match="refused the append"):
        await it.replayed(personal=True, purpose="x", output=it.folder / "out")

    assert not [p for p in it.folder.iterdir() if "out" in p.name]


@story
async def test_a_parquet_folder_with_personal_fields_has_columns_for_them_and_is_its_owners_only(
    it: House,
) -> None:
    """Unsealed under their declared names."""
    await it.given(*MIXED)

    await it.replayed(format="parquet", output=it.folder / "columns", personal=True, purpose="x")
    await it.replayed(format="jsonl", output=it.folder / "lines", personal=True, purpose="x")

    (call,) = pq.read_table(it.folder / "columns" / "call.ended.parquet").to_pylist()
    assert call["summary"] == "asked about the kettle"
    assert (it.folder / "columns").stat().st_mode & 0o077 == 0
    assert (it.folder / "lines").stat().st_mode & 0o077 == 0


@story
async def test_what_was_erased_reads_as_erased(it: House) -> None:
    """Whose key is gone is told, and the rest leaves as ever."""
    await it.given(*MIXED)
    with psycopg.connect(it.core.database_url, autocommit=True) as conn:
        conn.execute("DELETE FROM touchlog.subjects")

    (call,) = await it.events(personal=True, purpose="x", types=("call.ended",))

    assert call["data"] == {"agent": "bob", "duration_s": 60, "erased": True}


# -- whole or not at all ------------------------------------------------------------------------------------------


class Breaking:
    """A sink that breaks at its second batch."""

    buffered = 0

    def __init__(self) -> None:
        self.batches = 0

    def write(self, lines: Sequence[Line]) -> None:
        """Take one batch, and no more."""
        self.batches += 1
        if self.batches > 1:
            raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    "asked", [{"format": "jsonl"}, {"format": "csv"}, {"format": "arrow"}, {"format": "parquet"}], ids=str
)
def test_a_run_that_breaks_leaves_nothing(
    asked: dict[str, Any], tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither at its place nor beside it; what stood there before stays."""
    monkeypatch.setattr(machinery, "BATCH_EVENTS", 2)
    place = tmp_path / "out"
    old = place
    if asked["format"] == "parquet":
        place.mkdir()
        old = place / "old.parquet"
    old.write_text("what stood there")

    async def whole() -> None:
        async with house(tmp_path, database_url) as it:
            await it.given(*MIXED)
            breaking = Breaking()
            for sink in (JsonLines, Csv, ArrowStream, ParquetFile, ParquetFolder):
                monkeypatch.setattr(sink, "write", lambda _, lines: breaking.write(lines))
            with pytest.raises(Refused, match="No space left"):
                await it.replayed(output=place, force=True, **asked)
            assert breaking.batches == 2

    asyncio.run(whole())

    assert old.read_text() == "what stood there"
    assert [p.name for p in tmp_path.iterdir() if "out" in p.name] == ["out"]


def test_an_interrupted_run_leaves_nothing_and_says_so(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ctrl-C does it: the task is cancelled while a batch is on its way."""
    monkeypatch.setattr(machinery, "BATCH_EVENTS", 1)
    writing, go_on = threading.Event(), threading.Event()
    write = JsonLines.write

    def slowly(self: JsonLines, lines: Sequence[Line]) -> None:
        writing.set()
        assert go_on.wait(30)
        write(self, lines)

    monkeypatch.setattr(JsonLines, "write", slowly)
    stop = Replay.stop

    def stop_it(self: Replay) -> None:
        stop(self)
        go_on.set()

    monkeypatch.setattr(Replay, "stop", stop_it)

    async def whole() -> Outcome:
        async with house(tmp_path, database_url) as it:
            await it.given(*MIXED)
            task = asyncio.ensure_future(it.replayed(output=tmp_path / "out"))
            await asyncio.to_thread(writing.wait, 30)
            task.cancel()
            return await task

    outcome = asyncio.run(whole())

    assert outcome.interrupted
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]


def test_what_is_interrupted_while_it_reaches_for_the_database_lets_go_of_it(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ctrl-C does it: the tasks of a pool that is left open would keep the process for ever."""

    async def whole() -> None:
        reached: asyncio.Future[ReadingPool] = asyncio.get_running_loop().create_future()

        async def never(pool: ReadingPool, timeout: float = 30) -> None:  # noqa: ASYNC109 - as the library has it
            reached.set_result(pool)
            await asyncio.Event().wait()

        async def given() -> None:
            async with house(tmp_path, database_url):
                raise AssertionError("The database was reached.")

        monkeypatch.setattr(ReadingPool, "wait", never)
        task = asyncio.ensure_future(given())
        pool = await asyncio.wait_for(reached, 30)
        task.cancel()
        try:
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool.closed
        finally:
            await pool.close()

    asyncio.run(whole())


@story
async def test_what_stands_there_is_replaced_only_by_force(it: House) -> None:
    """And of folders only what a replay could have written."""
    await it.given(*MIXED)
    await it.replayed(output=it.folder / "file")
    await it.replayed(format="parquet", output=it.folder / "folder")
    precious = it.folder / "precious"
    precious.mkdir()
    (precious / "letters").write_text("dear ann")

    for asked in ({"output": it.folder / "file"}, {"format": "parquet", "output": it.folder / "folder"}):
        with pytest.raises(Refused, match="--force"):
            await it.replayed(**asked)
        await it.replayed(**asked, force=True)
    with pytest.raises(Refused, match="more than Parquet"):
        await it.replayed(format="parquet", output=precious, force=True)
    with pytest.raises(Refused, match="not a file"):
        await it.replayed(output=precious, force=True)
    with pytest.raises(Refused, match="make it"):
        await it.replayed(output=it.folder / "no" / "where")

    assert (precious / "letters").read_text() == "dear ann"
    assert not [p for p in it.folder.iterdir() if ".part-" in p.name or ".before-" in p.name]


@pytest.mark.parametrize("force", [False, True])
def test_a_device_or_a_pipe_is_never_replaced(tmp_path: Path, force: bool) -> None:
    """`-o /dev/stdout --force` would take the device away."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")

    for name in ("pipe", "link"):
        with pytest.raises(Refused, match="device or a pipe"):
            Destination(tmp_path / name, folder=False, force=force)


def test_a_file_that_appeared_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    """Looked at again at the end."""
    destination = Destination(tmp_path / "out", folder=False)

    with pytest.raises(Refused, match="--force"), destination.opened() as place:
        place.write_text("mine")
        (tmp_path / "out").write_text("another's")

    assert (tmp_path / "out").read_text() == "another's"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


# -- constant memory ------------------------------------------------------------------------------------------------


def test_few_events_are_held_however_long_the_log(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted at every batch, in every format; limits made small so that a small log passes them many times."""
    monkeypatch.setattr(machinery, "BATCH_EVENTS", 10)
    monkeypatch.setattr(replay_parquet, "ARRAY_EVENTS", 20)
    monkeypatch.setattr(replay_parquet, "ROW_GROUP_EVENTS", 50)

    async def given() -> None:
        async with house(tmp_path, database_url) as it:
            await it.given(
                *(event(f"{n}", type=("call.ended", "order.placed", "cart.moved")[n % 3]) for n in range(600))
            )

    asyncio.run(given())
    folder = tmp_path / "columns"
    folder.mkdir()
    sinks: list[Sink] = [
        JsonLines(io.BytesIO()),
        Csv(io.BytesIO()),
        ArrowStream(io.BytesIO()),
        ParquetFile(tmp_path / "one.parquet"),
        ParquetFolder(folder, personal=False),
    ]
    replay = Replay(database_url, Selection(known_at=600))
    most_read, most_held = 0, [0] * len(sinks)
    for lines in replay.batches():
        most_read = max(most_read, len(lines))
        for place, sink in enumerate(sinks):
            sink.write(lines)
            most_held[place] = max(most_held[place], sink.buffered)
    for sink in sinks:
        sink.finish()
        sink.close()

    assert replay.tally.events == 600
    assert most_read == 10
    assert most_held[0] == most_held[1] == 0
    assert most_held[2] < 20
    assert most_held[3] <= 70
    assert most_held[4] <= 3 * 50 + 20
    assert pq.ParquetFile(tmp_path / "one.parquet").num_row_groups >= 12
    assert sum(pq.read_table(f).num_rows for f in folder.iterdir()) == 600


def test_all_types_together_hold_no_more_bytes_than_one_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many types do not mean much memory."""
    monkeypatch.setattr(replay_parquet, "ARRAY_EVENTS", 1)
    monkeypatch.setattr(replay_parquet, "LARGEST_BUFFER_BYTES", 50_000)
    sink = ParquetFolder(tmp_path, personal=False)
    most = 0
    for n in range(400):
        sink.write([line(type=f"custom.t{n % 40}", data={"text": "x" * 1000})])
        most = max(most, sink.buffered)
    sink.finish()
    sink.close()

    assert most < 60
    assert sum(pq.read_table(f).num_rows for f in tmp_path.iterdir()) == 400


def test_large_events_are_read_fewer_at_a_time(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes count too."""
    monkeypatch.setattr(machinery, "BATCH_BYTES", 20_000)

    async def given() -> None:
        async with house(tmp_path, database_url) as it:
            await it.given(*(event(f"{n}", data={"agent": "x" * 9_000}) for n in range(10)))

    asyncio.run(given())

    sizes = [len(lines) for lines in Replay(database_url, Selection(known_at=10)).batches()]

    assert sum(sizes) == 10
    assert max(sizes) == 3


def test_a_replay_can_be_stopped_from_another_thread(tmp_path: Path, database_url: str) -> None:
    """It ends with the batch under way."""

    async def given() -> None:
        async with house(tmp_path, database_url) as it:
            await it.given(*MIXED)

    asyncio.run(given())
    replay = Replay(database_url, Selection(known_at=4))
    replay.stop()

    with pytest.raises(Stopped):
        list(replay.batches())


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def installation(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an installation whose log holds a few events."""

    async def given() -> None:
        async with house(tmp_path / "data", database_url) as it:
            await it.given(*MIXED)

    (tmp_path / "data").mkdir()
    asyncio.run(given())
    monkeypatch.setenv("TOUCHLOG_DATABASE_URL", database_url)
    monkeypatch.setenv("TOUCHLOG_DATA", str(tmp_path / "data"))
    return tmp_path


def test_the_command_writes_events_to_standard_output_and_its_summary_beside(installation: Path) -> None:
    """So that a pipe gets events and nothing else."""
    result = CliRunner().invoke(cli.app, ["replay", "--from", "2", "--json"])

    assert result.exit_code == 0, result.output
    assert [json.loads(one)["position"] for one in result.stdout.splitlines()] == [2, 3, 4]
    told = json.loads(result.stderr)
    assert (told["events"], told["first_position"], told["known_at"], told["repeat"]) == (
        3,
        2,
        4,
        "--known-at @4",
    )


def test_a_date_is_the_begin_of_its_day_where_the_installation_stands(
    installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for every other command; a time may say its zone."""
    # given an installation where the second of March begins an hour before NOON in Greenwich
    monkeypatch.setenv("TOUCHLOG_TIMEZONE", "Pacific/Auckland")

    def told(*words: str) -> list[int]:
        result = CliRunner().invoke(cli.app, ["replay", *words])
        assert result.exit_code == 0, result.output
        return [json.loads(one)["position"] for one in result.stdout.splitlines()]

    # when that day is asked for, then it begins there, and ends where the next begins
    assert told("--since", "2026-03-02", "--until", "2026-03-03") == [1, 2, 3]
    assert told("--since", "2026-03-02T00:00:00Z") == [4]
    # and what was known by a day is what was known by its end
    assert told("--known-at", "2026-03-02") == []


def test_the_command_tells_its_summary_where_events_go_to_a_file(installation: Path) -> None:
    """With the --known-at that repeats it."""
    out = installation / "orders"
    result = CliRunner().invoke(
        cli.app, ["replay", "--type", "order.placed", "--format", "parquet", "-o", str(out)]
    )

    assert result.exit_code == 0, result.output
    assert "1 event, " in result.stdout
    assert "--known-at @4 gives the same bytes again" in result.stdout
    assert [f.name for f in out.iterdir()] == ["order.placed.parquet"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--since", "noon"], "is no time"),
        (["--until", "31.01.2026"], "is no time"),
        (["--known-at", "@x"], "is no time"),
        (["--since", "2026-02-01", "--until", "2026-02-01"], "not later than --since"),
        (["--type", "order.place"], "order.placed"),
        (["--format", "xml"], "jsonl, csv, parquet, arrow"),
        (["--format", "parquet"], "name a folder"),
        (["--personal"], "--purpose"),
        (["--personal", "--purpose", " "], "--purpose"),
        (["--purpose", "why"], "--personal"),
        (["--from", "9", "--to", "3"], "before"),
        (["--person", "ann"], "--person"),
    ],
    ids=" ".join,
)
def test_wrong_use_is_told_before_anything_is_opened(words: list[str], said: str, tmp_path: Path) -> None:
    """No server is started for it."""
    result = CliRunner().invoke(cli.app, ["replay", "--data", str(tmp_path / "data"), *words])

    assert result.exit_code == 2
    assert said in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / "data").exists()
