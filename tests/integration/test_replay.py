"""Replay: the history leaves the log in log order, as it held at one position, whole or not at all."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from adapters.replays import parquet as replay_parquet
from adapters.replays.parquet import ParquetFolder
from adapters.replays.text import Csv
from domain.errors import FutureTime, Invalid, NotFound
from tests.integration.replaying import MIXED, NOON, House, correction, event, house, line, story

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
