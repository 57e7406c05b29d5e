"""columns: the log for other tools, as a folder of Parquet."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bin.commands.reading import JSON_OPTION, asked, console, data_zone, print_json
from bin.settings import DATA_OPTION
from domain.units import count

if TYPE_CHECKING:
    from bin.compose import Core


def register(app: typer.Typer) -> None:
    """Add `touchlog columns`."""
    columns = typer.Typer(
        help="The plain columns of the log, for DuckDB, Polars, pandas and Spark.",
        epilog="Example: touchlog columns export ./events-2026-11",
        no_args_is_help=True,
    )
    app.add_typer(columns, name="columns")

    @columns.callback()
    def columns_group() -> None:
        """Hold the group together, of which there is one command yet."""

    @columns.command(
        "export", epilog="Example: touchlog columns export ./events-2026-11 --known-at 2026-11-30"
    )
    def export_command(
        folder: Path = typer.Argument(..., metavar="DIR", help="A new folder, an empty one, or an earlier export, which is replaced."),  # noqa: B008
        known_at: str | None = typer.Option(None, "--known-at", metavar="T|@P", help="What was known by then: a time, or a position."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:  # fmt: skip
        """Write the events as they hold to a folder of Parquet with one schema; no personal field is in it.

        The folder appears whole or not at all. An export that was cut off goes on where it was when it is asked for again.
        """
        from bin.commands.history import known_at_of

        settings, zone = data_zone(data)
        known = None if known_at is None else known_at_of(known_at, zone)
        started_s = time.monotonic()
        place = folder.absolute()

        async def work(parts: Core) -> Any:
            return await parts.funnels.export(place, known_at=known, progress=None if json else _progress())

        made = asked(settings, "columns export", ("identities",), work)
        if json:
            print_json({"folder": str(folder), "rows": made.rows, "files": made.files, "known_at": made.known_at, "head": made.known_at})  # fmt: skip
            return
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[2K")
        console().print(
            f"{count(made.rows, 'event')} in {count(len(made.files), 'file')} under {folder}/events, "
            f"known at position {made.known_at:,}, in {time.monotonic() - started_s:,.1f} s. How to read them: {folder}/README.txt",
            soft_wrap=True,
            markup=False,
        )


def _progress() -> Any:
    told_s = [time.monotonic()]

    def show(position: int, target: int) -> None:
        now_s = time.monotonic()
        if now_s - told_s[0] < (0.3 if sys.stderr.isatty() else 5):
            return
        told_s[0] = now_s
        line = f"{position:,} of {target:,} positions"
        sys.stderr.write(f"\r\x1b[2K{line}" if sys.stderr.isatty() else line + "\n")
        sys.stderr.flush()

    return show
