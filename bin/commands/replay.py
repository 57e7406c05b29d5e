"""replay: history out of the log, in log order, in a form that other tools read."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
import typer

from bin.settings import DATA_OPTION, Settings
from domain.errors import Refused
from domain.units import count

if TYPE_CHECKING:
    from adapters.replays.replay import Replay, Selection
    from adapters.replays.text import Sink
    from bin.compose import Core

FORMATS = ("jsonl", "csv", "parquet", "arrow")
EXIT_INTERRUPTED = 130
PLAIN_EVERY_S = 5.0
_BAR_EVERY_S = 0.1


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The question, as the command line put it."""

    first: int = 1
    last: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    types: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    person: str | None = None
    known_at: datetime | int | None = None
    as_recorded: bool = False
    format: str = "jsonl"
    output: Path | None = None
    force: bool = False
    personal: bool = False
    purpose: str | None = None

    @property
    def is_folder(self) -> bool:
        """Whether the answer is a folder of files, one per type."""
        return self.format == "parquet" and self.output is not None and self.output.suffix != ".parquet"

    @property
    def filters(self) -> dict[str, Any]:
        """What cuts the log, in words for the record of access; the REF stands there sealed."""
        from domain.entry import moment

        found: dict[str, Any] = {
            "from": self.first,
            "to": self.last,
            "types": self.types,
            "channels": self.channels,
        }
        found |= {"since": self.since and moment(self.since), "until": self.until and moment(self.until)}
        found |= {"format": self.format, "personal": self.personal, "as_recorded": self.as_recorded}
        return {name: value for name, value in found.items() if value}


class Outcome(msgspec.Struct):
    """What left, and what repeats it."""

    events: int = 0
    first_position: int | None = None
    last_position: int | None = None
    known_at: int = 0
    as_recorded: bool = False
    personal: bool = False
    read: int = 0
    corrected: int = 0
    retracted: int = 0
    unreadable: int = 0
    types: dict[str, int] = {}
    format: str = ""
    output: str | None = None
    files: int | None = None
    seconds: float = 0.0
    events_per_s: float = 0.0
    interrupted: bool = False
    repeat: str = ""


# -- what the arguments mean ---------------------------------------------------------------------------


def checked_type(name: str) -> str:
    """A type that is declared, or may be: an undeclared one begins with `custom.`.

    Raises:
        typer.BadParameter: there is no such type; names those that are spelled alike.
    """
    import domain.touchpoints  # noqa: F401 - registers every declared type
    from domain.event import TYPES

    if name in TYPES or name.startswith("custom."):
        return name
    alike = get_close_matches(name, TYPES, n=3)
    hint = f"did you mean {' or '.join(alike)}?" if alike else "GET /v1/types lists them."
    raise typer.BadParameter(
        f"There is no type '{name}'; {hint} Undeclared ones are called custom.{name}.", param_hint="--type"
    )


def check(asked: Asked) -> None:
    """Refuse a question that cannot be answered, before anything is opened.

    Raises:
        typer.BadParameter: says what is wrong and what would be right.
    """
    if asked.format not in FORMATS:
        raise typer.BadParameter(
            f"There is no format '{asked.format}'; there are: {', '.join(FORMATS)}.", param_hint="--format"
        )
    if asked.personal and not (asked.purpose or "").strip():
        raise typer.BadParameter(
            "--personal discloses personal data and wants to know why: add --purpose TEXT, which goes on record.",
            param_hint="--purpose",
        )
    if asked.purpose and not asked.personal:
        raise typer.BadParameter(
            "--purpose goes with --personal; without it no personal field leaves.", param_hint="--purpose"
        )
    if asked.last is not None and asked.last < asked.first:
        raise typer.BadParameter(f"--to {asked.last} lies before --from {asked.first}.", param_hint="--to")
    if asked.since and asked.until and asked.until <= asked.since:
        raise typer.BadParameter("--until is not later than --since.", param_hint="--until")
    if asked.output is None and asked.format == "parquet":
        raise typer.BadParameter(
            "Parquet is files: name a folder (one file per type), or one FILE.parquet.", param_hint="-o"
        )
    if asked.output is None and asked.format == "arrow" and sys.stdout.isatty():
        raise typer.BadParameter("Arrow is not for the eye: name a file, or pipe it on.", param_hint="-o")


# -- doing it ------------------------------------------------------------------------------------------


@contextmanager
def sink_of(asked: Asked) -> Iterator[Sink]:
    """Open the sink; what it writes stands at its place only when all of it is written.

    Raises:
        Refused: nothing can be written there.
    """
    from adapters.destination import Destination
    from adapters.replays.text import Csv, JsonLines

    def to_stream(out: BinaryIO) -> Sink:
        if asked.format == "jsonl":
            return JsonLines(out)
        if asked.format == "csv":
            return Csv(out)
        from adapters.replays.parquet import ArrowStream

        return ArrowStream(out)

    @contextmanager
    def closed(sink: Sink) -> Iterator[Sink]:
        try:
            yield sink
            sink.finish()
        finally:
            sink.close()

    if asked.output is None:
        with closed(to_stream(sys.stdout.buffer)) as sink:
            yield sink
        sys.stdout.buffer.flush()
        return
    destination = Destination(asked.output, folder=asked.is_folder, force=asked.force, private=asked.personal)
    try:
        with destination.opened() as place:
            if asked.format == "parquet":
                from adapters.replays.parquet import ParquetFile, ParquetFolder

                folder = asked.is_folder
                with closed(
                    ParquetFolder(place, personal=asked.personal) if folder else ParquetFile(place)
                ) as sink:
                    yield sink
            else:
                with place.open("wb") as out, closed(to_stream(out)) as sink:
                    yield sink
    except OSError as error:
        raise Refused(f"{asked.output} cannot be written: {error.strerror or error}.") from None


async def selection_of(core: Core, asked: Asked) -> Selection:
    """Resolve the moment and the person, and put the disclosure on record, before anything leaves."""
    from adapters.replays.replay import Selection, owners_of
    from bin.principal import principal

    resolved = await core.histories.moments.resolve_known_at(asked.known_at)
    known_at = await core.feed.head() if resolved is None else resolved
    owners: frozenset[str] | None = None
    about: tuple[str, ...] = ()
    if asked.person is not None:
        person, owners = await owners_of(core.pool, core.histories, asked.person, known_at)
        about = tuple(str(subject["subject"]) for subject in person.subjects)
    if asked.personal or asked.person is not None:
        detail = {**asked.filters, "known_at": known_at, "count_known": False}
        await core.access(
            principal().key_id,
            action="replay",
            about=about,
            query=asked.person,
            purpose=asked.purpose,
            detail=detail,
        )
    return Selection(
        known_at=known_at,
        first=asked.first,
        last=asked.last,
        since=asked.since,
        until=asked.until,
        types=asked.types,
        channels=asked.channels,
        owners=owners,
        as_recorded=asked.as_recorded,
    )


async def run(
    settings: Settings, database_url: str, asked: Asked, told: Callable[[Replay, bool], None]
) -> Outcome:
    """Do the replay; an interruption leaves nothing behind, and is told in the outcome.

    Args:
        told: called behind each batch, and once at the end.
    """
    from adapters.replays.replay import Replay, Stopped
    from bin.compose import core

    outcome = Outcome(format=asked.format, as_recorded=asked.as_recorded, personal=asked.personal)
    outcome.output = None if asked.output is None else str(asked.output)
    async with core(settings, database_url, pool_size=2) as parts:
        loop = asyncio.get_running_loop()
        selection = await selection_of(parts, asked)

        def ciphers(key_ids: set[str]) -> Any:
            return asyncio.run_coroutine_threadsafe(parts.subjects.ciphers(key_ids), loop).result()

        replay = Replay(database_url, selection, ciphers=ciphers if asked.personal else None)
        started_s = time.monotonic()

        def work() -> None:
            with sink_of(asked) as sink:
                for lines in replay.batches():
                    sink.write(lines)
                    told(replay, False)
            outcome.files = getattr(sink, "files", None)

        working = asyncio.ensure_future(asyncio.to_thread(work))
        task = asyncio.current_task()
        assert task is not None
        with suppress(NotImplementedError):  # Windows knows no such handlers
            loop.add_signal_handler(signal.SIGTERM, task.cancel)
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError:  # Ctrl-C: the thread ends at its next batch, and cleans up
            task.uncancel()
            outcome.interrupted = True
            replay.stop()
            with suppress(Stopped):
                await working
                outcome.interrupted = False  # it was done already
        outcome.seconds = round(time.monotonic() - started_s, 3)
        told(replay, True)
    tally = replay.tally
    for name in ("events", "first_position", "last_position", "read", "corrected", "retracted", "unreadable"):
        setattr(outcome, name, getattr(tally, name))
    outcome.types = dict(sorted(tally.types.items()))
    outcome.known_at = selection.known_at
    outcome.events_per_s = round(tally.events / max(outcome.seconds, 1e-3), 1)
    outcome.repeat = f"--known-at @{selection.known_at}"
    return outcome


# -- what the person sees ------------------------------------------------------------------------------


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Callable[[Replay, bool], None]]:
    """A bar on a terminal, a line every few seconds elsewhere; on standard error."""
    started_s = told_s = time.monotonic()
    bar: Any = None
    task: Any = None

    def told(replay: Replay, is_last: bool) -> None:
        nonlocal told_s
        now_s = time.monotonic()
        if quiet or (not is_last and now_s - told_s < (PLAIN_EVERY_S if bar is None else _BAR_EVERY_S)):
            return
        told_s = now_s
        asked = replay.selection
        total = max(asked.end - asked.first + 1, 1)
        done = min(max(replay.position - asked.first + 1, 0), total)
        spent_s = max(now_s - started_s, 1e-6)
        parts = [count(replay.tally.events, "event"), f"{replay.tally.events / spent_s:,.0f}/s"]
        if not is_last and done:
            parts.append(f"about {spent_s * total / done - spent_s:,.0f} s left")
        if bar is not None:
            bar.update(task, completed=total if is_last else done, total=total, told=", ".join(parts))
        elif not is_last:
            print(f"replay: {', '.join(parts)}", file=sys.stderr, flush=True)

    if quiet or not sys.stderr.isatty():
        yield told
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("replay"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("{task.fields[told]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        bar, task = shown, shown.add_task("replay", total=1, told="")
        yield told


def summary(outcome: Outcome) -> list[str]:
    """The outcome in a few lines."""
    if outcome.interrupted and outcome.output is None:
        return [f"Interrupted behind position {outcome.last_position or 0:,}; --from goes on from there."]
    if outcome.interrupted:
        return ["Interrupted: nothing was left at the destination. Give the same command again."]
    span = (
        ""
        if outcome.first_position is None
        else f", positions {outcome.first_position:,} to {outcome.last_position:,}"
    )
    lines = [
        f"{count(outcome.events, 'event')}{span}, in {outcome.seconds:,.1f} s ({outcome.events_per_s:,.0f}/s)"
    ]
    if outcome.output is not None:
        lines[0] += f" → {outcome.output}" + (
            f" ({count(outcome.files, 'file')})" if outcome.files is not None else ""
        )
    if outcome.as_recorded:
        lines.append("as recorded: corrections and retractions are events of their own, and change nothing")
    elif outcome.corrected or outcome.retracted:
        lines.append(
            f"{outcome.corrected:,} of them corrected; {outcome.retracted:,} left out, their import was taken back"
        )
    if outcome.unreadable:
        lines.append(f"{count(outcome.unreadable, 'row')} left out that touchlog did not write")
    lines.append(
        f"known at position {outcome.known_at:,}; {outcome.repeat} gives the same bytes again"
        + (", but for what is erased until then" if outcome.personal else "")
    )
    return lines


TYPE = typer.Option([], "--type", metavar="NAME", help="Only this type; may be given again.")
CHANNEL = typer.Option([], "--channel", metavar="C", help="Only this channel; may be given again.")
OUTPUT = typer.Option(
    None, "-o", "--output", metavar="FILE|DIR", help="Where to; parquet: a folder, or one FILE.parquet."
)


def register(app: typer.Typer) -> None:
    """Add `touchlog replay`."""

    @app.command("replay", epilog="Example: touchlog replay --type order.placed --format parquet -o orders")
    def replay_command(
        first: int = typer.Option(1, "--from", metavar="P", min=1, help="From this position on."),
        last: int | None = typer.Option(
            None, "--to", metavar="P", min=1, help="Up to this position, inclusive."
        ),
        since: str | None = typer.Option(None, metavar="T", help="Only what happened at or after this time."),
        until: str | None = typer.Option(None, metavar="T", help="Only what happened before this time."),
        type: list[str] = TYPE,
        channel: list[str] = CHANNEL,
        person: str | None = typer.Option(
            None, metavar="REF", help="Only this person's events, as known at the moment."
        ),
        known_at: str | None = typer.Option(
            None,
            "--known-at",
            metavar="T|@P",
            help="As known by then, a time or a position such as @123 (default: now).",
        ),
        as_recorded: bool = typer.Option(
            False, "--as-recorded", help="Every event as it came, corrections not applied."
        ),
        format: str = typer.Option("jsonl", help="jsonl (CloudEvents), csv, parquet or arrow."),
        output: Path | None = OUTPUT,
        force: bool = typer.Option(False, "--force", help="Replace what stands there."),
        personal: bool = typer.Option(False, "--personal", help="With personal fields; wants --purpose."),
        purpose: str | None = typer.Option(
            None, metavar="TEXT", help="Why personal data leaves; goes on record first."
        ),
        data: Path | None = DATA_OPTION,
        json: bool = typer.Option(False, "--json", help="Print the summary as one JSON object."),
    ) -> None:
        """Give the history out of the log, in log order, streamed.

        Events come as they hold: corrected, and without those whose import was taken back. The summary names the
        --known-at that gives the same bytes again, whatever is recorded later. It goes to standard error where the
        events go to standard output. A date is the begin of its day in the installation's time zone.
        """
        from bin import logs
        from bin.commands.history import known_at_of, moment_of
        from bin.commands.reading import data_zone

        settings, zone = data_zone(data)
        asked = Asked(
            first=first,
            last=last,
            since=None if since is None else moment_of(since, zone, ends=False),
            until=None if until is None else moment_of(until, zone, ends=False),
            types=tuple(checked_type(name) for name in type),
            channels=tuple(channel),
            person=person,
            known_at=None if known_at is None else known_at_of(known_at, zone),
            as_recorded=as_recorded,
            format=format,
            output=output,
            force=force,
            personal=personal,
            purpose=purpose,
        )
        check(asked)
        logs.of_command(settings.log_level, part="replay")
        outcome = answer(settings, asked)
        out = sys.stderr if output is None else sys.stdout
        if json:
            import orjson

            print(
                orjson.dumps(outcome, option=orjson.OPT_INDENT_2, default=msgspec.to_builtins).decode(),
                file=out,
            )
        else:
            for line in summary(outcome):
                print(line, file=out)
        if outcome.interrupted:
            raise typer.Exit(EXIT_INTERRUPTED)


def answer(settings: Settings, asked: Asked) -> Outcome:
    """Reach the servers and do the replay.

    Raises:
        Refused: the destination cannot be written, or the person or moment is not known.
        typer.Exit: whoever read standard output has gone.
    """
    from adapters.destination import Destination
    from adapters.embedded import servers
    from adapters.postgres.schema import migrate
    from bin.commands.history import catch_up
    from domain.errors import Invalid
    from domain.identity import parse_ref

    if asked.person is not None:
        try:
            parse_ref(asked.person)
        except Invalid as wrong:
            raise typer.BadParameter(wrong.problems[0].detail, param_hint="--person") from None
    if asked.output is not None:  # told before servers are started and a disclosure goes on record
        Destination(asked.output, folder=asked.is_folder, force=asked.force)
    with servers(settings, by="replay", begins=False) as (database_url, _):
        migrate(database_url)
        if asked.person is not None:
            catch_up(database_url)
        # A bar would draw over events that go to the same terminal.
        quiet = asked.output is None and sys.stdout.isatty()
        with progress(quiet=quiet) as told:
            try:
                return asyncio.run(run(settings, database_url, asked, told))
            except BrokenPipeError:  # `| head` has seen enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(1) from None
