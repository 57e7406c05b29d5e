"""The commands that bring data in and look at it: ingest, history, rejected, status."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
import structlog
import structlog.testing
from typer.testing import CliRunner

from adapters.embedded import servers
from adapters.keys import KeyFile
from adapters.nats import connection
from bin import cli
from bin.commands import ingest
from bin.importing import run as import_run
from bin.importing.run import Log, send_all
from bin.settings import Settings
from domain.errors import Misconfigured, NotFound, Refused, Unavailable
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
DATASETS = ROOT.parent / "shared" / "datasets"


class Answered:
    """What a command answered."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Touchlog = Callable[..., Answered]


@pytest.fixture
def touchlog(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Touchlog]:
    """Give commands of an installation with a database of its own."""
    monkeypatch.setenv("TOUCHLOG_DATABASE_URL", database_url)
    handlers, level = logging.root.handlers[:], logging.root.level
    before = structlog.get_config()

    def run(*words: object, input: str | None = None) -> Answered:
        arguments = [*map(str, words), "--data", str(tmp_path / "data")]
        result = CliRunner().invoke(cli.app, arguments, input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Answered(result.exit_code, result.stdout, result.stderr)

    yield run
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.configure(**before)


@pytest.fixture
def ask(database_url: str) -> Callable[[LiteralString], Any]:
    def question(text: LiteralString) -> Any:
        with psycopg.connect(database_url) as conn:
            row = conn.execute(text).fetchone()
        return row[0] if row else None

    return question


def event(id: object, **other: Any) -> str:
    return json.dumps(
        {
            "specversion": "1.0",
            "id": str(id),
            "source": "shop",
            "type": "call.ended",
            "time": "2026-01-31T12:00:00Z",
            "subject": "email:ann@example.com",
            "data": {"duration_s": 60, "agent": "bob"},
            **other,
        }
    )


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Two good events, one sent again, one in conflict with the first, two that are wrong."""
    path = tmp_path / "mixed.jsonl"
    lines = [
        event(1),
        event(2),
        event(2),
        event(1, data={"duration_s": 5}),
        event(3, data={"duration_s": "x"}),
        "no",
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


# -- ingest ---------------------------------------------------------------------------------------------


def test_a_file_is_recorded_once_however_often_it_is_ingested(touchlog: Touchlog, ask: Any) -> None:
    first = touchlog("ingest", DATA / "online_retail.csv", "--json")
    assert first.code == 0
    assert {k: first.json[k] for k in ("recorded", "duplicates", "conflicts", "rejected", "formats")} == {
        "recorded": 14,
        "duplicates": 0,
        "conflicts": 0,
        "rejected": 0,
        "formats": ["csv:online_retail"],
    }
    again = touchlog("ingest", DATA / "online_retail.csv", "--format", "csv:online_retail")
    assert again.code == 0
    assert ["duplicates", "14"] in [line.split() for line in again.out.splitlines()]
    assert ask("SELECT count(*) FROM touchpoint_log.events WHERE type <> 'import.started'") == 14
    assert ask("SELECT count(*) FROM touchpoint_log.events WHERE type = 'import.started'") == 2, (
        "each run is on record"
    )
    assert ask(
        "SELECT array_agg(recorded ORDER BY started_at) FROM touchlog.imports WHERE finished_at IS NOT NULL"
    ) == [14, 0]
    stored = (
        "SELECT count(DISTINCT convert_from(body, 'utf8')::jsonb ->> 'import') FROM touchpoint_log.events"
    )
    assert ask(stored) == 1


def test_a_database_that_was_away_meanwhile_takes_neither_summary_nor_counts(
    touchlog: Touchlog, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool's connections from before it was started again are dead; the import ends as if nothing had been."""
    # given an import whose connections are all cut behind its last event
    file = tmp_path / "one.jsonl"
    file.write_text(
        '{"specversion":"1.0","id":"1","source":"s","type":"call.ended","subject":"user:u1","data":{"duration_s":1}}\n'
    )

    async def cut_off_behind(*arguments: Any, **more: Any) -> None:
        await send_all(*arguments, **more)
        with psycopg.connect(database_url, autocommit=True) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    monkeypatch.setattr(ingest, "send_all", cut_off_behind)

    # when
    told = touchlog("ingest", file, "--json")

    # then it is told as recorded, and the import as finished
    assert (told.code, told.json["recorded"]) == (0, 1)
    (listed,) = touchlog("imports", "list", "--json").json["imports"]
    assert (listed["recorded"], listed["finished_at"] is not None) == (1, True)


def test_an_import_that_was_killed_is_listed_with_what_it_had_recorded(
    touchlog: Touchlog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a file of three batches, and nobody left to note the counts at the end
    file = tmp_path / "three.jsonl"
    file.write_text("".join(event(n) + "\n" for n in range(3)))
    for name, value in (("BATCH_EVENTS", 1), ("IN_FLIGHT", 1), ("NOTED_EVERY_S", 0)):
        monkeypatch.setattr(import_run, name, value)
    noted = Log._note_counts

    async def alive(log: Log, *, within_s: float, is_over: bool) -> None:
        if not is_over:
            await noted(log, within_s=within_s, is_over=False)

    monkeypatch.setattr(Log, "_note_counts", alive)

    # when
    assert touchlog("ingest", file, "--json").json["recorded"] == 3

    # then what was recorded before the last batch is told, and that it did not end
    (listed,) = touchlog("imports", "list", "--json").json["imports"]
    assert (listed["recorded"], listed["finished_at"]) == (2, None)


def test_what_is_wrong_is_told_kept_and_stops_nothing(
    touchlog: Touchlog, mixed: Path, tmp_path: Path, ask: Any
) -> None:
    answer = touchlog("ingest", mixed, "--rejected", tmp_path / "refused.jsonl")
    assert answer.code == 1
    assert "mixed.jsonl line 5: rejected /data/duration_s: 'duration_s' is a text" in answer.out
    assert "mixed.jsonl line 4: conflict" in answer.out
    assert "touchlog rejected list" in answer.out
    assert ask("SELECT count(*) FROM touchpoint_log.events WHERE type <> 'import.started'") == 2
    kept = touchlog("rejected", "list", "--json").json
    assert sorted((one["status"], one["place"], one["way_in"]) for one in kept["rejected"]) == [
        ("conflict", "mixed.jsonl line 4", "cloudevents"),
        ("rejected", "mixed.jsonl line 5", "cloudevents"),
        ("rejected", "mixed.jsonl line 6", "cloudevents"),
    ]
    refused = [json.loads(line) for line in (tmp_path / "refused.jsonl").read_text().splitlines()]
    assert [line["place"] for line in refused] == [
        "mixed.jsonl line 4",
        "mixed.jsonl line 5",
        "mixed.jsonl line 6",
    ]
    assert refused[1]["payload"]["data"] == {"duration_s": "x"}
    assert refused[2]["payload"] == "no"
    assert stat.S_IMODE((tmp_path / "refused.jsonl").stat().st_mode) == 0o600


def test_a_dry_run_tells_what_the_run_would_and_writes_nothing(
    touchlog: Touchlog, mixed: Path, ask: Any
) -> None:
    tables = (
        "touchpoint_log.events",
        "touchlog.subjects",
        "touchlog.rejected",
        "touchlog.imports",
        "touchlog.facts",
    )
    sums = " + ".join(f"(SELECT count(*) FROM {table})" for table in tables)  # noqa: S608

    def told(answer: Answered) -> tuple[Any, ...]:
        found = answer.json
        counts = tuple(found[k] for k in ("recorded", "duplicates", "conflicts", "rejected"))
        return counts, [(p["place"], p["status"]) for p in found["problems"]]

    first = touchlog("ingest", mixed, "--dry-run", "--json")
    assert first.code == 1
    assert ask(f"SELECT {sums}") == 0
    real = touchlog("ingest", mixed, "--json")
    assert told(first) == told(real)
    assert told(real)[0] == (2, 1, 1, 2)
    rows = ask(f"SELECT {sums}")
    second = touchlog("ingest", mixed, "--dry-run", "--json")
    assert [(r["place"], r["status"], r.get("id"), r.get("position")) for r in second.json["rows"]] == [
        ("mixed.jsonl line 1", "duplicate", "1", 2),
        ("mixed.jsonl line 2", "duplicate", "2", 3),
        ("mixed.jsonl line 3", "duplicate", "2", 3),
        ("mixed.jsonl line 4", "conflict", "1", 2),
        ("mixed.jsonl line 5", "rejected", "3", None),
        ("mixed.jsonl line 6", "rejected", None, None),
    ], "row by row"
    assert "rows" not in real.json
    assert told(second)[0] == (0, 3, 1, 2)
    assert ask(f"SELECT {sums}") == rows


def test_a_dry_run_without_an_installation_makes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TOUCHLOG_DATABASE_URL", raising=False)
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "bin.cli",
            "ingest",
            DATA / "CDNOW_master.txt",
            "--dry-run",
            "--json",
            "--data",
            tmp_path / "none",
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert json.loads(result.stdout)["recorded"] == 30
    assert not (tmp_path / "none").exists()


def test_a_file_that_cannot_be_read_stops_no_other(touchlog: Touchlog, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    answer = touchlog(
        "ingest", tmp_path / "empty.csv", tmp_path / "none", DATA / "CDNOW_sample.txt", "--json"
    )
    assert answer.code == 1
    assert answer.json["recorded"] == 31
    assert ["empty.csv is empty" in f or "There is no file" in f for f in answer.json["failed"]] == [
        True,
        True,
    ]


def test_files_of_which_none_can_be_read_make_no_import(touchlog: Touchlog, tmp_path: Path) -> None:
    told = touchlog("ingest", tmp_path / "none", "--json")
    assert (told.code, told.json["import_id"], len(told.json["failed"])) == (1, None, 1)
    assert touchlog("imports", "list", "--json").json["imports"] == []


def test_an_import_of_refused_rows_only_is_listed_with_them(touchlog: Touchlog, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("{\n")
    told = touchlog("ingest", tmp_path / "bad.jsonl", "--format", "cloudevents", "--json")
    (listed,) = touchlog("imports", "list", "--json").json["imports"]
    assert (told.code, listed["import_id"], listed["rejected"]) == (1, told.json["import_id"], 1)


def test_a_database_that_stays_away_ends_an_import_with_its_summary_and_how_to_go_on(
    touchlog: Touchlog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given an import that loses the database for good behind its first file
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_text(event(1) + "\n")
    two.write_text(event(2) + "\n")
    take = Log.take
    taken: list[object] = []

    async def until_it_is_gone(self: Log, rows: Any, format_name: str) -> Any:
        taken.append(rows)
        if len(taken) == 2:
            raise Unavailable(
                "The database does not answer; nothing was acknowledged, send the events again."
            )
        return await take(self, rows, format_name)

    monkeypatch.setattr(Log, "take", until_it_is_gone)

    # when
    told = touchlog("ingest", one, two, "--json")

    # then the summary tells what is in the log, why it ended, and how to go on
    assert (told.code, told.json["recorded"]) == (1, 1)
    assert "does not answer" in told.json["broken_off"]
    assert "The same command goes on from here" in told.err
    assert "the server that TOUCHLOG_DATABASE_URL names" in told.err  # `serve` would not start this one
    assert "serve" not in told.err.replace("server", "")
    assert touchlog("ingest", one, two, "--json").json["duplicates"] == 1


def test_imports_are_listed_within_a_terminal_of_eighty_columns(
    touchlog: Touchlog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    file = tmp_path / "events of [b]January 2026.jsonl"
    file.write_text(event(1) + "\n")
    touchlog("ingest", file)
    lines = touchlog("imports", "list").out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [
        word for word in (file.name, "1 recorded", "stands") if not any(word in line for line in lines)
    ] == []


def test_wrong_use_is_told_before_anything_is_opened(touchlog: Touchlog, mixed: Path, tmp_path: Path) -> None:
    assert touchlog("ingest", mixed, "--format", "csv:nope").code == 2
    assert touchlog("ingest", mixed, "--format", "cloudevents", "--map", "m.toml").code == 2
    assert touchlog("ingest").code == 2
    with pytest.raises(Refused, match="which is to be imported"):
        touchlog("ingest", mixed, "--rejected", mixed)
    assert mixed.stat().st_size > 0


def test_a_map_of_ones_own_brings_in_any_table(touchlog: Touchlog, tmp_path: Path) -> None:
    (tmp_path / "calls.toml").write_text(
        'source = "pbx"\nid = "no"\ntype = "call.ended"\n'
        'time = { column = "at", zone = "Europe/London" }\nsubject = { column = "number", kind = "phone" }\n'
        '[data]\nduration_s = { column = "seconds", type = "whole" }\n'
    )
    (tmp_path / "calls.csv").write_text("no,at,number,seconds\n1,2026-07-01 12:00:00,+442071838750,60\n")
    assert touchlog("ingest", tmp_path / "calls.csv", "--map", tmp_path / "calls.toml").code == 0
    (entry,) = touchlog("history", "phone:+442071838750", "--json").json["entries"]
    assert (entry["type"], entry["occurred_at"]) == ("call.ended", "2026-07-01T11:00:00.000000Z")
    # a time that the clocks of London showed twice is told, also by a dry run
    (tmp_path / "night.csv").write_text("no,at,number,seconds\n2,2026-10-25 01:30:00,+442071838750,60\n")
    for words, told in ((["--dry-run"], "line 2: remark /at"), (["--json"], '"remarks": 1')):
        night = touchlog("ingest", tmp_path / "night.csv", "--map", tmp_path / "calls.toml", *words)
        assert (night.code, told in night.out) == (0, True), night.out


def test_no_personal_text_of_a_refused_row_or_in_the_name_of_its_file_is_at_rest(
    touchlog: Touchlog, tmp_path: Path, database_url: str
) -> None:
    secret = "Zebediah Quill"
    (tmp_path / f"{secret}.csv").write_text(
        "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
        f"1,S,{secret},{secret},2026-01-01 00:00:00,1,{secret},UK\n"
    )
    assert touchlog("ingest", tmp_path / f"{secret}.csv").code == 1
    with psycopg.connect(database_url) as conn:
        rows = conn.execute(
            "SELECT row_to_json(r)::text FROM touchlog.rejected r UNION ALL SELECT row_to_json(i)::text FROM touchlog.imports i"
        ).fetchall()
    assert len(rows) == 2
    for (row,) in rows:
        assert secret not in row
        assert secret.encode().hex() not in row
    assert secret in touchlog("rejected", "show", 1).out.partition("payload")[2]
    # who may look is told the name all the same
    (item,) = touchlog("rejected", "list", "--json").json["rejected"]
    (run,) = touchlog("imports", "list", "--json").json["imports"]
    assert (item["place"], run["files"]) == (f"{secret}.csv line 2", [f"{secret}.csv"])


def test_alone_in_its_own_folder_and_interrupted_it_goes_on_where_it_was(tmp_path: Path) -> None:
    """Embedded PostgreSQL, another process holding it, Ctrl-C in the middle, then the same command again."""
    path = tmp_path / "many.jsonl"
    lines = [event(n) + "\n" for n in range(40_000)]
    path.write_text("".join(lines))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TOUCHLOG_")}
    command = [
        sys.executable,
        "-m",
        "bin.cli",
        "ingest",
        str(path),
        "--json",
        "--data",
        str(tmp_path / "data"),
    ]
    with servers(Settings.load({}, data=tmp_path / "data"), by="the test") as (url, _):
        # The first time it comes by a pipe that stays open, so that the end cannot be reached before the interruption.
        piped = [*command[:4], "-", *command[5:]]
        process = subprocess.Popen(
            piped,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
            # Where the tests run in the background, Ctrl-C is ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads are forked
        )
        assert process.stdin is not None
        process.stdin.writelines(lines[:20_000])
        process.stdin.flush()

        def recorded() -> int:
            try:
                with psycopg.connect(url) as conn:
                    row = conn.execute(
                        "SELECT count(*) FROM touchpoint_log.events WHERE type <> 'import.started'"
                    ).fetchone()
            except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
                return 0
            return int(row[0]) if row else 0

        try:
            wait_until(lambda: recorded() > 1000, "some events are recorded")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=240)
        finally:
            process.kill()
            process.communicate()
        before = recorded()
        assert process.returncode == 130
        assert "The same command goes on from here" in err
        assert json.loads(out)["recorded"] == before <= 20_000
        again = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=True)
        counts = json.loads(again.stdout)
        assert (counts["recorded"], counts["duplicates"]) == (40_000 - before, before)
        assert recorded() == 40_000


# -- rejected ---------------------------------------------------------------------------------------------


def test_rejected_items_are_listed_shown_corrected_and_dismissed(
    touchlog: Touchlog, mixed: Path, tmp_path: Path
) -> None:
    touchlog("ingest", mixed)
    listed = touchlog("rejected", "list", "--json").json
    numbers = {one["place"].rpartition(" ")[2]: one["id"] for one in listed["rejected"]}
    assert listed["counts"] == {"open": 3}
    told = touchlog("rejected", "list").out
    assert "mixed.jsonl line 5" in told
    assert f"by {listed['rejected'][0]['principal']}" in told
    shown = touchlog("rejected", "show", numbers["5"], "--json").json
    assert json.loads(shown["payload"])["data"] == {"duration_s": "x"}

    assert touchlog("rejected", "retry", numbers["5"]).code == 1
    (tmp_path / "right.json").write_text(event(3))
    right = touchlog("rejected", "retry", numbers["5"], "--with", tmp_path / "right.json", "--json")
    assert (right.code, right.json["results"][0]["status"], right.json["results"][0]["position"]) == (
        0,
        "recorded",
        4,
    )
    # Settled is settled: trying it again changes nothing.
    assert touchlog("rejected", "retry", numbers["5"]).code == 0

    still = touchlog("rejected", "retry", "--all")
    assert still.code == 1
    assert "0 settled, 2 still open" in still.out
    assert "not JSON" in still.out
    assert (
        touchlog("rejected", "dismiss", numbers["4"], numbers["6"], numbers["5"]).out
        == "2 dismissed, 1 closed before\n"
    )
    assert touchlog("rejected", "list").out.startswith("Nothing is open.")
    states = {
        one["state"] for one in touchlog("rejected", "list", "--state", "all", "--json").json["rejected"]
    }
    assert states == {"recorded", "dismissed"}


def test_who_looked_at_a_rejected_payload_and_what_became_of_it_is_on_record(
    touchlog: Touchlog, mixed: Path, tmp_path: Path, database_url: str
) -> None:
    # given rows that were refused
    touchlog("ingest", mixed)
    listed = touchlog("rejected", "list", "--json").json
    numbers = {one["place"].rpartition(" ")[2]: one["id"] for one in listed["rejected"]}

    # when one is looked at, one corrected (and tried again, which changes nothing), one dismissed
    touchlog("rejected", "show", numbers["5"])
    (tmp_path / "right.json").write_text(event(3))
    touchlog("rejected", "retry", numbers["5"], numbers["5"], "--json")
    touchlog("rejected", "retry", numbers["5"], "--with", tmp_path / "right.json")
    touchlog("rejected", "retry", numbers["5"])
    touchlog("rejected", "dismiss", numbers["4"])

    # then each stands in the records log once
    with psycopg.connect(database_url) as conn:
        rows = conn.execute(
            "SELECT type, convert_from(body, 'utf8') FROM records_log.events ORDER BY position"
        ).fetchall()
    told = [(type_, json.loads(body)["data"]) for type_, body in rows if type_ != "key.added"]
    assert [type_ for type_, _ in told] == ["access.recorded", "rejected.settled", "rejected.settled"]
    assert told[0][1]["action"] == "rejected show"
    assert [(data["number"], data["change"]) for _, data in told[1:]] == [
        (numbers["5"], "retry"),
        (numbers["4"], "dismiss"),
    ]


def test_a_corrected_row_is_a_duplicate_when_it_was_recorded_meanwhile(
    touchlog: Touchlog, mixed: Path, tmp_path: Path
) -> None:
    touchlog("ingest", mixed)
    (tmp_path / "right.json").write_text(event(2))
    number = next(
        o["id"]
        for o in touchlog("rejected", "list", "--json").json["rejected"]
        if o["place"].endswith("line 6")
    )
    again = touchlog("rejected", "retry", number, "--with", tmp_path / "right.json")
    assert again.code == 0
    assert f"{number}: duplicate at position 3" in again.out


def test_retry_wants_to_know_which(touchlog: Touchlog) -> None:
    assert touchlog("rejected", "retry").code == 2
    assert touchlog("rejected", "retry", "1", "--all").code == 2
    assert touchlog("rejected", "list", "--state", "lost").code == 2


# -- history ------------------------------------------------------------------------------------------------


def test_a_history_is_told_newest_first_with_who_it_is_about(touchlog: Touchlog, tmp_path: Path) -> None:
    (tmp_path / "e.jsonl").write_text(
        event(1, identifiers="loyalty_card:99")
        + "\n"
        + event(
            2,
            type="order.placed",
            time="2026-02-01T09:30:00Z",
            data={"order_id": "A7", "amount_minor": 1250, "currency": "GBP"},
        )
    )
    touchlog("ingest", tmp_path / "e.jsonl")
    answer = touchlog("history", "loyalty_card:99")
    assert answer.code == 0
    lines = [line.rstrip() for line in answer.out.splitlines() if line.strip()]
    assert lines[:2] == ["loyalty_card:99", "also email:ann@example.com"]
    assert lines[2].startswith("2026-02-01 09:30  shop   →  Order A7: 12.50 GBP")
    assert lines[3].startswith("2026-01-31 12:00  phone")
    assert "by bob" in lines[3] or "bob" in lines[3]
    assert "2 shown" in lines[4]
    assert "head 3" in lines[4]

    only = touchlog("history", "email:ann@example.com", "--channel", "shop", "--limit", "1", "--json").json
    assert [entry["type"] for entry in only["entries"]] == ["order.placed"]
    assert only["head"] == 3
    before = touchlog("history", "email:ann@example.com", "--as-of", "2026-01-31", "--json").json
    assert [entry["type"] for entry in before["entries"]] == ["call.ended"]
    known = touchlog("history", "email:ann@example.com", "--known-at", "@2", "--json").json
    assert ([entry["type"] for entry in known["entries"]], known["known_at"]) == (["call.ended"], 2)
    assert "Nothing matches" in touchlog("history", "email:ann@example.com", "--channel", "fax").out
    for words, types in {
        ("--since", "2026-02-01"): ["order.placed"],
        ("--until", "2026-02-01"): ["call.ended"],
        ("--since", "2026-01-31T12:00:00Z", "--until", "2026-02-01T09:30:00Z"): ["call.ended"],
        ("--q", "order a7"): ["order.placed"],
        ("--direction", "outbound"): [],
    }.items():
        chosen = touchlog("history", "email:ann@example.com", *words, "--json").json
        assert [entry["type"] for entry in chosen["entries"]] == types
    wrong = touchlog("history", "email:ann@example.com", "--since", "2026-02-01", "--until", "2026-02-01")
    assert (wrong.code, "--until" in wrong.err) == (2, True)


@pytest.mark.parametrize(
    "words",
    [
        ("history", "user:u1"),
        ("persons", "show", "user:u1"),
        ("persons", "why", "user:u1"),
        ("conversations", "user:u1"),
        ("audit", "trail"),
        ("volumes",),
        ("sql", "SELECT count(*) FROM read.event_log"),
        ("funnel", "--steps", "call.ended,call.ended", "--window", "1d"),
        ("paths", "--around", "call.ended"),
        ("retention", "--start", "call.ended", "--interval", "day"),
    ],
    ids=lambda words: words[0],
)
def test_what_had_happened_may_be_cut_at_a_position_which_is_the_time_it_was_recorded(
    touchlog: Touchlog, tmp_path: Path, ask: Any, words: tuple[str, ...]
) -> None:
    # given an event that has no time of its own, and another from behind that
    file = tmp_path / "calls.jsonl"
    call = {"specversion": "1.0", "source": "s", "type": "call.ended", "subject": "user:u1", "data": {}}
    file.write_text(json.dumps({**call, "id": "1", "time": "2026-01-01T00:00:00Z"}) + "\n")
    touchlog("ingest", file)
    file.write_text(json.dumps({**call, "id": "2"}) + "\n")
    touchlog("ingest", file)
    recorded_at = ask("SELECT recorded_at FROM touchpoint_log.events WHERE position = 2")

    # when it is cut at a position, and at the time of that position
    by_position = touchlog(*words, "--as-of", "@2", "--known-at", "@4", "--json")
    by_time = touchlog(*words, "--as-of", recorded_at.isoformat(), "--known-at", "@4", "--json")

    # then the answers are the same, and no position beyond the log is taken
    assert (by_position.code, by_time.code) == (0, 0), by_position.err
    assert by_position.out == by_time.out
    assert by_position.out != touchlog(*words, "--known-at", "@4", "--json").out
    beyond = touchlog(*words, "--as-of", "@99", "--json")
    assert (beyond.code, "is not in the log" in beyond.err) == (2, True)


def test_a_history_is_on_record_as_looked_at(touchlog: Touchlog, tmp_path: Path, ask: Any) -> None:
    (tmp_path / "e.jsonl").write_text(event(1))
    touchlog("ingest", tmp_path / "e.jsonl")
    touchlog("history", "email:ann@example.com")
    body = ask("SELECT convert_from(body, 'utf8') FROM records_log.events ORDER BY position DESC LIMIT 1")
    assert json.loads(body)["data"]["action"] == "history"
    assert "ann@example.com" not in body


def test_who_is_not_known_or_cannot_be_named_is_told(touchlog: Touchlog) -> None:
    with pytest.raises(NotFound, match="Nobody was recorded"):
        touchlog("history", "email:nobody@example.com")
    unnamed = touchlog("history", "ann@example.com")
    assert unnamed.code == 2
    assert "'email:' before the address" in unnamed.err
    assert touchlog("history", "email:a@b.cc", "--as-of", "yesterday").code == 2
    assert touchlog("history", "email:a@b.cc", "--as-of", "0001-01-01T00:00:00+14:00").code == 2


def test_a_key_that_cannot_be_made_is_wrong_use(touchlog: Touchlog) -> None:
    # given no such role, and an adapter without a source of its own
    # when a key for it is asked for
    unknown, sourceless = (
        touchlog("keys", "add", "--role", "nobody"),
        touchlog("keys", "add", "--role", "adapter"),
    )

    # then the command was put wrongly, and says what would be right
    assert (unknown.code, sourceless.code) == (2, 2)
    assert "adapter, agent, analyst, officer, admin" in " ".join(unknown.err.split())
    assert "--source shop" in " ".join(sourceless.err.split())


# -- status -------------------------------------------------------------------------------------------------


def test_a_bus_that_does_not_answer_is_told_by_status_and_in_the_log(
    touchlog: Touchlog, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given an installation whose bus is named by a URL at which nobody listens
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"nats://ann:s3cret@127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("TOUCHLOG_NATS_URL", url)
    touchlog("ingest", mixed)
    # when its state is asked for, then the bus and the setting are named, and no password
    told = touchlog("status").out
    assert "does not answer: is TOUCHLOG_NATS_URL right?" in told
    assert "s3cret" not in told
    assert touchlog("status", "--json").json["servers"]["nats_answers"] is False

    # and whoever connects to it says once in its log why it waits, though the library only goes on trying
    # (a logger that an earlier test of this process used keeps what was configured then: a new one listens here)
    monkeypatch.setattr(connection, "log", structlog.get_logger())

    async def waits() -> list[Any]:
        with structlog.testing.capture_logs() as said:
            trying = asyncio.create_task(connection.connected(url, name="test"))
            while not [each for each in said if each["event"] == "bus_away"]:
                await asyncio.sleep(0.01)
            trying.cancel()
        return said

    said = asyncio.run(asyncio.wait_for(waits(), 60))
    assert [each["log_level"] for each in said if each["event"] == "bus_away"] == ["warning"]


def test_the_status_tells_head_rate_lags_and_what_was_refused(touchlog: Touchlog, mixed: Path) -> None:
    touchlog("ingest", mixed)
    status = touchlog("status", "--json").json
    assert status["head"] == status["recorded_last_minute"] == 3
    assert status["rejected"] == {"open": 3}
    assert status["imports"] == 1
    assert status["versions"]["postgres"]
    assert "password" not in json.dumps(status["servers"]).lower().replace("***", "")
    touchlog("history", "email:ann@example.com")
    later = touchlog("status", "--json").json
    assert {p["name"]: p["lag_positions"] for p in later["projections"]}["contact_history"] == 0
    told = touchlog("status").out
    assert "rejected   3 open" in told
    assert "contact_history" in told


# -- the data sets of others, whole ---------------------------------------------------------------------------


def whole(name: str) -> Path:
    path = DATASETS / name
    if not path.exists():
        pytest.skip(f"not run: the data set {name} is not beside this checkout")
    return path


def test_online_retail_gives_its_known_counts(touchlog: Touchlog, ask: Any) -> None:
    counts = touchlog(
        "ingest", whole("online_retail/online_retail.csv.xz"), "--format", "csv:online_retail", "--json"
    ).json
    assert (counts["recorded"], counts["duplicates"], counts["conflicts"], counts["rejected"]) == (
        25_900,
        0,
        0,
        0,
    )
    assert ask("SELECT count(*) FROM touchpoint_log.events WHERE type = 'order.placed'") == 22_064
    assert ask("SELECT count(*) FROM touchpoint_log.events WHERE type = 'order.cancelled'") == 3_836
    assert ask("SELECT count(*) FROM touchlog.subjects WHERE kind = 'crm'") == 4_372


def test_cdnow_gives_its_known_counts(touchlog: Touchlog, ask: Any) -> None:
    counts = touchlog("ingest", whole("cdnow/CDNOW_master.txt"), "--json").json
    assert (counts["recorded"], counts["rejected"]) == (69_659, 0)
    assert ask("SELECT count(*) FROM touchlog.subjects WHERE kind = 'crm'") == 23_570
    assert touchlog("ingest", whole("cdnow/CDNOW_sample.txt"), "--json").json["recorded"] == 6_919


def test_a_lost_key_file_is_told_by_every_command_and_no_other_is_made_in_its_place(
    touchlog: Touchlog, mixed: Path, tmp_path: Path
) -> None:
    # given an installation with events, whose key file is gone
    touchlog("ingest", mixed)
    key_file = tmp_path / "data" / "secret.key"
    kept = key_file.read_bytes()
    key_file.unlink()
    # when commands are given, serve among them
    for words in (
        ["history", "email:ann@example.com"],
        ["ingest", mixed],
        ["ingest", mixed, "--dry-run"],
        ["serve", "--port", "0"],
    ):
        with pytest.raises(Misconfigured, match=r"secret\.key is not there.*Restore it from its backup"):
            touchlog(*words)
    # then each says so, and leaves the place free for the file that comes back
    assert not key_file.exists()
    key_file.write_bytes(kept)
    key_file.chmod(0o600)
    assert touchlog("history", "email:ann@example.com").code == 0
    # and serve does not wait for ever with the key file of another database, either
    KeyFile.open_or_make(tmp_path / "other.key").path.replace(key_file)
    with pytest.raises(Misconfigured, match="does not belong to this database"):
        touchlog("serve", "--port", "0")


def test_a_database_that_a_newer_version_migrated_is_left_alone(
    touchlog: Touchlog, database_url: str
) -> None:
    # given a database with a migration that this version does not carry
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(
            "INSERT INTO touchlog.migrations (name, digest) VALUES ('touchlog/9999_of_a_later_version', '')"
        )
        conn.execute("DELETE FROM touchlog.migrations WHERE name = 'touchlog/0114_file_names_sealed'")
        # when this version is told to migrate it, or to work with it
        for words in (["migrate"], ["serve", "--port", "0"], ["history", "email:ann@example.com"]):
            with pytest.raises(
                Misconfigured, match=r"newer touchlog.*touchlog/9999_of_a_later_version.*nothing was changed"
            ):
                touchlog(*words)
        # then it says which version is wanted, and applies nothing of its own beside it
        row = conn.execute(
            "SELECT count(*) FROM touchlog.migrations WHERE name = 'touchlog/0114_file_names_sealed'"
        ).fetchone()
        assert row == (0,)
