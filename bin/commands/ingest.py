"""ingest: import files, with progress, a dry run, and every refused row kept with its reasons."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import msgspec
import typer

from bin.importing.outcome import Outcome, Told, rejected_file, rejected_line, show_summary
from bin.importing.progress import Progress
from bin.importing.run import Log, send_all
from bin.importing.trial import trial
from bin.settings import DATA_OPTION, Settings
from domain.errors import TouchlogError, Unavailable

if TYPE_CHECKING:
    from adapters.imports import Options

EXIT_INTERRUPTED = 130
GOES_ON = "The same command goes on from here: what is recorded already is told as a duplicate and skipped."
INTERRUPTED = f"touchlog: interrupted. What the summary calls recorded is in the log. {GOES_ON}"
BROKEN_OFF = (
    "touchlog: broken off: {reason} What the summary calls recorded is in the log, and what was under way may be. "
    f"{GOES_ON} "
)
ITS_SERVER = {
    True: "First see to it that the server that TOUCHLOG_DATABASE_URL names answers again.",
    False: "Where `serve` was ended, start it again first, or leave it: a command alone starts the database itself.",
}
"""Which database it was: one's own, or the one that comes along."""


def ingest(
    settings: Settings,
    paths: Sequence[Path],
    *,
    format_name: str,
    options: Options,
    dry_run: bool,
    rejected: Path | None,
    quiet: bool,
    correct: bool = False,
    each: bool = False,
) -> Outcome:
    """Import *paths*; see the command.

    Args:
        each: a dry run tells what would become of every row, not only of those with problems.

    Raises:
        TouchlogError: the servers do not come up, or the database went away before anything came of it.
    """
    from adapters.embedded import running, servers
    from adapters.postgres import outage
    from adapters.postgres.schema import migrate
    from bin.compose import core

    outcome = Outcome(
        [path.name if str(path) != "-" else "standard input" for path in paths], dry_run=dry_run
    )
    if dry_run and each:
        outcome.rows = []
    progress = Progress(quiet=quiet)
    started_s = time.monotonic()

    async def work(database_url: str | None, plain: TextIO | None) -> None:
        nonlocal started_s

        def told(one: Told, raw: bytes | None, event: Any) -> None:
            outcome.problems.append(one)
            if plain is not None and one.status != "remark":
                plain.write(rejected_line(one, raw, event))

        if dry_run:
            async with trial(settings, database_url, correct=correct) as target:
                started_s = time.monotonic()
                await send_all(target, paths, format_name, options, outcome, told=told, progress=progress)
            return
        assert database_url is not None
        async with core(settings, database_url) as parts:
            log = Log(parts, outcome, correct=correct)
            started_s = time.monotonic()
            async with log.import_on_record():
                await send_all(log, paths, format_name, options, outcome, told=told, progress=progress)

    no_log_yet = (
        not settings.database_url
        and running(settings.data) is None
        and not (settings.data / "postgres").exists()
    )
    try:
        with rejected_file(rejected, paths) as plain:
            reached: Any = (
                nullcontext((None, None)) if dry_run and no_log_yet else servers(settings, by="ingest")
            )
            with reached as (database_url, _):
                if not dry_run:
                    migrate(database_url)
                asyncio.run(work(database_url, plain))
    except KeyboardInterrupt:
        outcome.interrupted = True
    except (Unavailable, *outage.DATABASE_AWAY) as error:
        if not outcome.handled:  # nothing came of it: the error is all there is to tell
            raise
        outcome.broken_off = (
            str(error) if isinstance(error, TouchlogError) else "The database does not answer any more."
        )
    outcome.seconds = round(time.monotonic() - started_s, 3)
    outcome.events_per_s = round(outcome.handled / max(outcome.seconds, 1e-3), 1)
    return outcome


FILES = typer.Argument(
    ..., metavar="FILE...", help="Files, packed (.gz .xz .bz2) or not; - is standard input."
)
MAP = typer.Option(None, "--map", metavar="FILE.toml", help="Which column of a table is what.")
REJECTED = typer.Option(
    None, "--rejected", metavar="FILE", help="Write refused rows there in plain text, as JSON lines."
)


def register(app: typer.Typer) -> None:
    """Add `touchlog ingest`."""

    @app.command("ingest", epilog="Example: touchlog ingest orders.csv.gz --map orders.toml --dry-run")
    def ingest_command(
        files: list[Path] = FILES,
        format: str = typer.Option(
            "auto",
            help="auto, cloudevents, segment, csv:consents, csv:online_retail, csv:cdnow, csv (with --map) …",
        ),
        map: Path | None = MAP,
        source: str | None = typer.Option(
            None, help="The events' source, in place of the map's; for events without one."
        ),
        encoding: str | None = typer.Option(
            None, help="The files' encoding (default: found by their first bytes, else utf-8)."
        ),
        dry_run: bool = typer.Option(
            False, "--dry-run", help="Tell what would become of the rows (--json: of each); write nothing."
        ),
        correct: bool = typer.Option(
            False,
            "--correct",
            help="Where a key stands with other data, record a correction; restore what was retracted.",
        ),
        rejected: Path | None = REJECTED,
        data: Path | None = DATA_OPTION,
        json: bool = typer.Option(False, "--json", help="Print one JSON object instead of tables."),
    ) -> None:
        """Import files: what is recorded already is skipped, what is wrong is told and kept, the rest goes on.

        Exits 0 when everything is recorded, 1 when something was refused. A map for --map says which column is which:

        \b
          source   = "webshop"
          id       = "order_no"          # without it: the row's number
          type     = "order.placed"
          time     = { column = "ordered_at", format = "%d.%m.%Y %H:%M", zone = "Europe/Berlin" }
          subject  = { column = "customer", kind = "crm" }
          group_by = "order_no"          # rows of one order make one event
        \b
          [data]
          order_id     = "order_no"
          currency     = { value = "EUR" }
          amount_minor = { total = ["quantity", "price"], type = "money", currency = "EUR" }
        \b
          [lines]
          sku              = "article"
          quantity         = { column = "quantity", type = "whole" }
          unit_price_minor = { column = "price", type = "money", currency = "EUR" }
        """
        from adapters.imports import FORMATS, Options
        from bin import logs

        if map is not None and format not in ("auto", "csv"):
            raise typer.BadParameter(f"--map goes with --format csv, not with {format}.")
        if format != "auto" and format not in FORMATS:
            raise typer.BadParameter(
                f"There is no format '{format}'; there are: auto, {', '.join(sorted(FORMATS))}."
            )
        settings = Settings.load(data=data)
        logs.of_command(settings.log_level, part="ingest")
        options = Options(source=source, encoding=encoding, map_file=map)
        outcome = ingest(
            settings,
            files,
            format_name=format,
            options=options,
            dry_run=dry_run,
            rejected=rejected,
            quiet=False,
            correct=correct,
            each=json,
        )
        if json:
            import orjson

            shown = msgspec.to_builtins(outcome)
            if outcome.rows is None:
                del shown["rows"]
            typer.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
        else:
            from rich.console import Console

            show_summary(outcome, Console(soft_wrap=False))
        if outcome.interrupted:
            with suppress(OSError):
                print(INTERRUPTED, file=sys.stderr)
            raise typer.Exit(EXIT_INTERRUPTED)
        if outcome.broken_off:
            told = BROKEN_OFF.format(reason=outcome.broken_off) + ITS_SERVER[bool(settings.database_url)]
            print(told, file=sys.stderr)
        raise typer.Exit(0 if outcome.is_clean else 1)
