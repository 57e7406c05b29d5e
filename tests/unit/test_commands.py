"""Commands: every one explains itself with an example, and fails in one clear line."""

import errno
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
import typer
from typer.testing import CliRunner

from adapters.columns.sql import Result
from adapters.embedded import prepare_folders
from adapters.embedded.postgres import _reason
from adapters.http.reading import local_time_of
from adapters.postgres.api_keys import ApiKey
from adapters.postgres.channel_counts import ChannelShown
from adapters.postgres.rejected import Shown
from bin import cli, soak_run
from bin.commands import channels, keys, projections, rejected, serve, sql, status
from bin.commands.funnel import question_of
from bin.commands.history import known_at_of
from bin.commands.reading import columns_told
from bin.settings import Settings
from domain.entry import moment
from domain.errors import FutureTime, Invalid, Misconfigured, NotFound, Problem, TouchlogError

ALONE = {"serve"}
"""Commands that print no data to speak of, so that `--json` has no meaning."""
BEGIN = {("serve",), ("ingest",), ("migrate",), ("keys", "add"), ("endpoints", "add"), ("bench",)}
"""Commands that begin an installation where there is none, or work in a folder of their own."""


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Walk all commands, with the words that call them."""
    below = getattr(group, "commands", None)
    if below is None:
        yield path, group
        return
    for name, command in below.items():
        yield from commands(command, (*path, name))


ALL = dict(commands(typer.main.get_command(cli.app)))


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_ends_in_an_example(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(cli.app, [*words, "--help"])
    assert result.exit_code == 0
    last = result.output.strip().splitlines()[-1].strip()
    example = re.sub(r"\s+", " ", ALL[words].epilog or "")
    assert example.startswith(f"Example: touchlog {' '.join(words)}")
    assert example.endswith(last)


def test_help_of_every_group_of_commands_ends_in_an_example() -> None:
    for name in {words[0] for words in ALL if len(words) > 1}:
        result = CliRunner().invoke(cli.app, [name, "--help"])
        last = result.output.strip().splitlines()[-1].strip()
        assert (name, last.startswith(f"Example: touchlog {name}")) == (name, True)


def test_help_of_every_group_tells_each_command_in_a_whole_sentence() -> None:
    groups = [(cli.app, words) for words in {words[:1] for words in ALL if len(words) > 1}]
    for app, words in [(cli.app, ()), (soak_run.app, ()), *groups]:
        # when a group's help is read at the usual width
        result = CliRunner().invoke(app, [*words, "--help"], terminal_width=80)

        # then none of its commands ends in an ellipsis, and none is wider than the terminal
        assert (words, "..." in result.output.partition("Commands:")[2]) == (words, False)
        assert max(map(len, result.output.splitlines())) <= 80


@pytest.mark.parametrize(
    ("zone", "day", "ends"),
    [
        ("UTC", "2026-04-04", "2026-04-04T23:59:59.999999Z"),
        ("Europe/Berlin", "2026-10-25", "2026-10-25T22:59:59.999999Z"),
        # clocks go back at midnight: the hour before it comes twice
        ("America/Santiago", "2026-04-04", "2026-04-05T03:59:59.999999Z"),
        ("Africa/Cairo", "2026-10-29", "2026-10-29T21:59:59.999999Z"),
        # clocks go forward at midnight: the day after begins at one o'clock
        ("America/Santiago", "2026-09-05", "2026-09-06T03:59:59.999999Z"),
    ],
)
def test_a_day_ends_with_its_last_hour_also_where_that_hour_comes_twice(
    zone: str, day: str, ends: str
) -> None:
    for ends_at in (
        known_at_of(day, ZoneInfo(zone)),  # --as-of and --known-at of a command
        local_time_of(day, ZoneInfo(zone), "/until", ends=True),  # the same, and To, on a page
    ):
        assert isinstance(ends_at, datetime)
        assert moment(ends_at) == ends


def test_what_the_columns_lack_is_told_only_where_they_lack_something() -> None:
    assert columns_told(7, 7) == "columns: in files up to 7"
    assert (
        columns_told(1_000, 3_500)
        == "columns: in files up to 1,000; questions read the 2,500 behind from the log"
    )


def test_channels_keys_and_what_was_refused_are_told_in_the_installations_zone_whatever_the_machines_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a delivery, a refusal, a key made and taken back at one moment, in a shell whose clock is that of Tokyo
    at = datetime(2026, 7, 1, 12, tzinfo=UTC)
    came = ChannelShown(
        channel="shopify", name="main", paused=True, last_at=at, recorded=12_345, rate_per_hour=1_234.0,
        duplicates=6_789, conflicts=1, rejected=2, rejected_open=3, mean_lag_s=75.0,
    )  # fmt: skip
    refused = Shown(
        id=17, received_at=at, status="rejected", state="open", source=None, source_id=None, type=None,
        way_in="http", principal="tl_1", place=None, problems=[], position=None, brought_by=(None,), payload=b"{}",
    )  # fmt: skip
    key = ApiKey(key_id="tl_1", name="", role="agent", sources=(), created_at=at, revoked_at=at)
    with monkeypatch.context() as shell:
        shell.setenv("TZ", "Asia/Tokyo")
        shell.setenv("COLUMNS", "120")
        time.tzset()
        # when an installation of Berlin tells of both
        channels.show([came], ZoneInfo("Europe/Berlin"))
        rejected.show_list([refused], "open", 1, ZoneInfo("Europe/Berlin"))
        rejected.show_one(refused, ZoneInfo("Europe/Berlin"))
        keys.show([key], ZoneInfo("Europe/Berlin"))
        swept = projections.swept_of({"swept_at": at}, ZoneInfo("Europe/Berlin"))
    time.tzset()

    # then it is its own time, and the zone stands there each time
    printed = capsys.readouterr().out
    assert (printed.count("2026-07-01 14:00"), printed.count("Europe/Berlin")) == (5, 4)
    assert swept == "07-01 14:00"
    # and a figure ends where the title of its column ends
    title, figure = (line for line in printed.splitlines() if "recorded" in line or "12,345" in line)
    assert title.index("recorded") + len("recorded") == figure.index("12,345") + len("12,345")


def test_channels_are_a_table_also_in_a_terminal_of_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a channel with long figures and a conflict
    one = ChannelShown(
        channel="shopify", name="main", paused=True, last_at=datetime(2026, 7, 1, 12, tzinfo=UTC), recorded=1_234_567,
        rate_per_hour=1_234.0, duplicates=12_345, conflicts=1, rejected=2, rejected_open=3, mean_lag_s=75.0,
    )  # fmt: skip
    monkeypatch.setenv("COLUMNS", "80")
    # when it is told
    channels.show([one], ZoneInfo("UTC"))
    # then its titles stand in one line, and conflicts count as rejected, as on the page
    printed = capsys.readouterr().out
    assert any(
        {"channel", "recorded", "duplicates", "holes"} <= set(line.split()) for line in printed.splitlines()
    )
    assert re.search(r"1,234,567 .* 12,345 +3 ", printed)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_takes_the_installations_folder(words: tuple[str, ...]) -> None:
    assert "--data" in {option for parameter in ALL[words].params for option in parameter.opts}


@pytest.mark.parametrize("words", [words for words in ALL if words not in BEGIN], ids=" ".join)
def test_a_mistyped_folder_is_told_and_no_installation_begun_there(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a folder that is not there
    monkeypatch.delenv("TOUCHLOG_DATABASE_URL", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "mistyped"

    # when a command's own example is run on it
    example = shlex.split((ALL[words].epilog or "").removeprefix("Example: touchlog "), comments=True)
    result = CliRunner().invoke(cli.app, [*example, "--data", str(folder)])

    # then nothing is there, and who has no reason of its own to end says what to do
    assert not folder.exists()
    if words in {
        ("status",),
        ("history",),
        ("imports", "list"),
        ("keys", "list"),
        ("projections",),
        ("replay",),
    }:
        assert f"There is no installation in {folder}" in str(result.exception)
        assert "--data DIR" in str(result.exception)


@pytest.mark.parametrize("words", [words for words in ALL if words[0] not in ALONE], ids=" ".join)
def test_every_command_that_prints_data_prints_json(words: tuple[str, ...]) -> None:
    assert "--json" in {option for parameter in ALL[words].params for option in parameter.opts}


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_wrong_use_exits_2(words: tuple[str, ...]) -> None:
    assert CliRunner().invoke(cli.app, [*words, "--no-such-option"]).exit_code == 2


def test_no_such_part_is_wrong_use() -> None:
    result = CliRunner().invoke(cli.app, ["serve", "--only", "http,mail"])
    assert result.exit_code == 2
    assert "no such part: mail" in result.output


def test_an_error_of_ours_is_one_line_and_exit_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["touchlog", "settings", "--data", "x"])
    monkeypatch.setenv("TOUCHLOG_PORT", "none")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert "TOUCHLOG_PORT is 'none'" in str(ended.value.code)
    assert "\n" not in str(ended.value.code)
    assert isinstance(ended.value.__context__, Misconfigured)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (Invalid([Problem("/known_at", "Position 99 is not in the log; its newest is 7.")]), "/known_at: Position 99"),
        (Invalid("A subject cannot be split from itself."), "touchlog: A subject cannot be split from itself."),
        (FutureTime("Nobody knows yet what will be known then."), "Nobody knows yet what will be known then."),
    ],
    ids=["a position that is not there", "the whole", "a moment to come"],
)  # fmt: skip
def test_what_cannot_be_asked_is_wrong_use_and_never_reads_as_the_answer_no(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refused: TouchlogError, said: str
) -> None:
    # given a question that the parts find to be none
    def fails(**_: Any) -> None:
        raise refused

    monkeypatch.setattr(cli, "app", fails)
    # when it is asked
    with pytest.raises(SystemExit) as ended:
        cli.main()
    # then it exits as any wrong use does, and says in one line what is wrong
    assert ended.value.code == 2
    shown = capsys.readouterr()
    assert (said in shown.err, shown.err.count("\n"), shown.out) == (True, 1, "")


def test_what_is_well_asked_and_not_there_fails_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_: Any) -> None:
        raise NotFound("There is no event with this id.")

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == "touchlog: There is no event with this id."


MANY = "events|rows|persons|pairs|messages|conversations|positions|files|times|things|others|entries|facts|paths|units|values"


@pytest.mark.parametrize(
    "file",
    [f for folder in ("commands", "importing") for f in sorted((Path(cli.__file__).parent / folder).glob("*.py"))],
    ids=lambda file: f"{file.parent.name}.{file.stem}",
)  # fmt: skip
def test_no_command_says_one_of_a_thing_in_the_plural(file: Path) -> None:
    """`1 events` is said by who writes the number and the noun apart; `domain.units.count` knows both."""
    told = re.findall(rf"(?<!of )\{{[^{{}}]+:,\}} (?:{MANY})\b", file.read_text("utf-8"))
    assert not told


def test_a_database_that_does_not_answer_is_one_line_and_exit_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["touchlog", "migrate"])
    monkeypatch.setenv("TOUCHLOG_DATABASE_URL", "postgresql://ann:s3cret@127.0.0.1:1/none")
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert "the database does not answer" in str(ended.value.code)
    assert "s3cret" not in str(ended.value.code)


@pytest.mark.parametrize(
    "full", [OSError(errno.ENOSPC, "No space left on device", "/d/run/x"), psycopg.errors.DiskFull("no room")]
)
def test_a_full_disk_is_one_line_that_says_what_to_do_and_exit_1(
    monkeypatch: pytest.MonkeyPatch, full: Exception
) -> None:
    # given a command that meets a full disk, its own or the database's
    def fails(**_: Any) -> None:
        raise full

    monkeypatch.setattr(cli, "app", fails)
    # when it is given
    with pytest.raises(SystemExit) as ended:
        cli.main()
    # then no traceback is shown, but what is wrong and what to do next
    assert "The disk is full: make room, then give the same command again" in str(ended.value.code)


@pytest.mark.parametrize(
    ("failed", "told"),
    [
        (OSError(errno.EROFS, "Read-only file system", "/d/x"), "/d/x: Read-only file system. The disk can only be read"),
        (PermissionError(errno.EACCES, "Permission denied", "/d/x"), "/d/x: Permission denied. Whoever gives this command"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "touchlog: Disk quota exceeded. The disk is full: make room"),
    ],
)  # fmt: skip
def test_what_the_operating_system_refuses_is_told_with_its_file_and_a_way_out(
    monkeypatch: pytest.MonkeyPatch, failed: OSError, told: str
) -> None:
    def fails(**_: Any) -> None:
        raise failed

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert told in str(ended.value.code)
    # what nobody foresaw keeps its traceback
    failed.errno = errno.EIO
    with pytest.raises(OSError, match=str(failed.strerror)):
        cli.main()


def test_serve_says_at_its_start_that_the_bus_does_not_answer_without_its_password_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # given a bus at which nobody listens, nor can: its port is held, so that it is no other process's meanwhile
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    url = f"nats://ann:s3cret@127.0.0.1:{held.getsockname()[1]}"
    settings = Settings.load({}, data=tmp_path, database_url="postgresql://none", nats_url=url)
    prepare_folders(tmp_path)
    for place in ("adapters.postgres.schema.migrate", "adapters.keys.check_keys"):
        monkeypatch.setattr(place, lambda *_: None)
    parts: Any = SimpleNamespace(children=[], watch_until_stopped=lambda: None)
    # when it is started
    with held, ExitStack() as stack:
        serve._run(settings, (), {}, demo=False, supervisor=parts, stack=stack)
    # then it is told, and runs
    told = capsys.readouterr()
    assert "does not answer: is TOUCHLOG_NATS_URL right? All else works" in told.err
    assert "s3cret" not in told.err + told.out
    assert (parts.was_ready, "touchlog runs" in told.out) == (True, True)


def test_of_all_that_a_program_of_the_server_says_its_complaint_is_told() -> None:
    said = "creating files ... ok\nFATAL:  could not extend file\nHINT:  Check free disk space.\nAborted\ninitdb: removing contents"
    assert _reason(said) == "FATAL:  could not extend file  Check free disk space."
    assert (_reason("a\nb"), _reason("")) == ("b", "it said nothing")


def test_where_no_database_is_named_a_lost_one_is_not_blamed_on_a_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The embedded one goes with the command that ran it: what helps is to say it again."""

    def lost(**_: object) -> None:
        raise psycopg.OperationalError("terminating connection due to administrator command")

    monkeypatch.delenv("TOUCHLOG_DATABASE_URL", raising=False)
    monkeypatch.setattr(cli, "app", lost)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert "give the same command again" in str(ended.value.code)
    assert "TOUCHLOG_DATABASE_URL" not in str(ended.value.code)


def test_help_is_quick_for_it_imports_nothing_heavy() -> None:
    """Of what is not Python's own only the command line's library and the two that decode; of ours no adapter."""
    question = """
import sys, bin.cli
print(*sorted({
    name.partition(".")[0] for name, module in sys.modules.items()
    if "site-packages" in (getattr(module, "__file__", None) or "") or name.startswith(("adapters", "projections"))
}))
"""
    answer = subprocess.run([sys.executable, "-c", question], capture_output=True, text=True, check=True)
    light = {"annotated_doc", "click", "msgspec", "orjson", "shellingham", "typer", "typing_extensions"}
    assert set(answer.stdout.split()) - {"_distutils_hack"} <= light


def test_a_command_that_is_interrupted_while_it_is_read_says_so_in_one_line_and_exits_130() -> None:
    # given Ctrl-C in the first second, when the commands are still being imported
    hurried = """
import os, runpy, signal, sys
class Hurried:
    def find_spec(self, name, *_):
        if name == "bin.commands.status":
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Hurried())
sys.argv = ["touchlog", "status"]
runpy.run_module("bin.cli", run_name="__main__")
"""
    # when it comes
    done = subprocess.run([sys.executable, "-c", hurried], capture_output=True, text=True, check=False)
    # then there is no traceback
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "touchlog: interrupted\n")


def test_a_question_in_a_file_is_toml_or_the_body_of_the_route(tmp_path: Path) -> None:
    # given one question in both spellings, and a text that is neither
    toml, body, broken = (tmp_path / name for name in ("q.toml", "q.json", "broken.json"))
    toml.write_text(
        'window = "14d"\n[[steps]]\ntype = "order.placed"\nwhere = { amount_minor = { op = ">", value = 0 } }\n'
    )
    body.write_text(
        '\n {"window":"14d","steps":[{"type":"order.placed","where":{"amount_minor":{"op":">","value":0}}}]}'
    )
    broken.write_text('{"window": "14d",')

    # then both are read as the same, and what is wrong is told with its place
    assert question_of(body) == question_of(toml)
    with pytest.raises(typer.BadParameter, match=r"broken.json is no JSON: .*line 1"):
        question_of(broken)


@pytest.mark.parametrize("drawn", [True, False], ids=["a table", "lines"])
def test_numbers_of_an_answer_of_sql_end_below_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, drawn: bool
) -> None:
    # given an answer with a column of text, one of numbers and one of both
    rows: list[tuple[Any, ...]] = [("shop", 4_776, 1), ("web", None, "x"), ("case", Decimal("12.5"), True)]
    monkeypatch.setattr(sql, "asked", lambda *_: Result(["channel", "persons", "mixed"], rows, 7))
    monkeypatch.setattr(sql, "_MOST_DRAWN", 1_000 if drawn else 1)

    # when it is told
    done = CliRunner().invoke(cli.app, ["sql", "SELECT 1", "--data", str(tmp_path)])

    # then the numbers end where their title ends, and texts begin where theirs begins
    lines = [line for line in done.stdout.splitlines() if re.match(r" ?(channel|shop|web|case)", line)]
    ends = lines[0].index("persons") + len("persons")
    assert [line[:ends].split()[-1] for line in lines] == ["persons", "4776", "web", "12.5"]
    assert all(line[ends - 1] != " " for line in (lines[0], lines[1], lines[3]))
    assert {line.index(word) for line, word in zip(lines, ("mixed", "1", "x", "True"), strict=True)} == {
        lines[0].index("mixed")
    }


def test_a_long_answer_of_sql_is_written_line_by_line_and_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def drawn(*_: str) -> Any:
        raise AssertionError("A table of so many rows takes long to draw.")

    rows: list[tuple[Any, ...]] = [(n, None, f"line\n{n}") for n in range(2_000)]
    monkeypatch.setattr(sql, "asked", lambda *_: Result(["n", "nothing", "text"], rows, 7))
    monkeypatch.setattr(sql, "table", drawn)

    done = CliRunner().invoke(cli.app, ["sql", "SELECT 1", "--data", str(tmp_path)])

    lines = done.stdout.splitlines()
    assert done.exit_code == 0, done.exception
    assert lines[0].split() == ["n", "nothing", "text"]
    assert lines[2_000].split() == ["1999", "line", "1999"]
    assert lines[2_001:] == ["2,000 rows · known at position 7"]


@pytest.mark.parametrize(
    ("nats_url", "answers", "told"),
    [
        ("nats://touchlog:***@127.0.0.1:4222", True, "bus        nats://127.0.0.1:4222 (NATS)"),
        ("nats://bus.example:4222", False, "bus        nats://bus.example:4222 does not answer"),
        (None, None, "bus        NATS off"),
    ],
)
def test_the_status_tells_where_the_bus_and_the_tills_are_reached(
    nats_url: str | None, answers: bool | None, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # given an installation, and a bus that answers, does not, or is off
    servers = {"run_by": "serve", "http_url": "http://127.0.0.1:8080", "database": "embedded"}
    bus = {"nats_url": nats_url, "nats_answers": answers, "mqtt_url": "mqtt://127.0.0.1:1883"}
    counts = dict.fromkeys(("head", "recorded_last_minute", "imports", "subjects", "links_refused"), 0)
    sizes = dict.fromkeys(("database_bytes", "log_bytes", "data_bytes", "disk_free_bytes"), 0)
    versions = {"touchlog": "1", "postgres": "18", "python": "3"}
    # when its status is printed
    status.render(
        {
            **counts,
            **sizes,
            "recorded_at": None,
            "rejected": {},
            "servers": servers | bus,
            "data": "data",
            "versions": versions,
            "projections": [{}],
        }
    )
    # then a stranger finds there both addresses that the README speaks of
    printed = capsys.readouterr().out
    assert told in printed
    assert "tills      mqtt://127.0.0.1:1883" in printed
