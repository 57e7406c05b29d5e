"""Replay: personal fields are on record before they leave, a file is whole or not at all, in constant memory; the command."""

from __future__ import annotations

import asyncio
import io
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from typer.testing import CliRunner

from adapters.answers.history import Filters
from adapters.destination import Destination
from adapters.postgres.reading_pool import ReadingPool
from adapters.replays import parquet as replay_parquet
from adapters.replays import replay as machinery
from adapters.replays.parquet import ArrowStream, ParquetFile, ParquetFolder
from adapters.replays.replay import Line, Replay, Selection, Stopped
from adapters.replays.text import Csv, JsonLines, Sink
from bin import cli
from bin.commands.history import catch_up
from bin.commands.replay import Outcome
from domain.errors import Refused, Unavailable
from tests.integration.replaying import MIXED, House, correction, event, house, line, story

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
    page = await it.core.histories.page("email:ann@example.com", only=Filters(type_="call.ended"))

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
