"""imports: what was imported, and taking an import back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec
import typer

from bin.commands.reading import table
from bin.settings import DATA_OPTION, Settings

if TYPE_CHECKING:
    from adapters.intake.import_runs import ImportRun, Retraction

JSON_OPTION = typer.Option(False, "--json", help="Print JSON.")


def show_list(runs: Sequence[ImportRun], zone: ZoneInfo) -> None:
    """Print a table of imports, or how to begin."""
    from rich.console import Console
    from rich.markup import escape

    out = Console(highlight=False)
    if not runs:
        out.print("Nothing was imported yet. Begin with: touchlog ingest FILE --dry-run")
        return
    rows = table(f"import, started ({zone.key})", "files, format, by", "rows", "state", right=("rows",))
    for run in runs:
        counts = {
            "recorded": run.recorded,
            "corrected": run.corrected,
            "duplicates": run.duplicates,
            "refused": run.conflicts + run.rejected,
        }
        rows.add_row(
            f"{run.import_id[:13]}\n{_when(run.started_at, zone)}",
            escape("\n".join([*run.files, f"{run.format or 'no format yet'}, {run.principal}"])),
            "\n".join(f"{count:,} {name}" for name, count in counts.items() if count)
            or ("none" if run.finished_at else "not counted yet"),
            f"retracted\n{_when(run.retracted_at, zone)}"
            if run.retracted_at
            else ("stands" if run.finished_at else "running, or cut off"),
            end_section=True,
        )
    out.print(rows)
    out.print("The beginning of an id is enough: touchlog imports retract ID --dry-run", style="dim")


def show_retraction(found: Retraction, zone: ZoneInfo, *, dry_run: bool) -> None:
    """Print what taking the import back changes."""
    from rich.console import Console
    from rich.table import Table

    out = Console(highlight=False, soft_wrap=True)
    if found.retracted_at is not None and not found.events:
        out.print(
            f"Import {found.import_id} was taken back {_when(found.retracted_at, zone)} ({zone.key}); nothing of it holds."
        )
        return
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    table.add_row(
        "events taken back", f"{found.events:,}", f"of {found.recorded_events:,} that the import recorded"
    )
    if found.corrected_events:
        table.add_row("of these corrected", f"{found.corrected_events:,}", "their corrections apply no more")
    table.add_row(
        "persons", f"{found.persons:,}", f"{found.persons_left_empty:,} of them keep no other event"
    )
    table.add_row("conversations", f"{found.conversations:,}", "lose events")
    if found.first_at and found.last_at:
        table.add_row(
            "happened", "", f"{_when(found.first_at, zone)} to {_when(found.last_at, zone)} ({zone.key})"
        )
    for title, counts in (("type", found.types), ("channel", found.channels)):
        for name, count in counts.items():
            table.add_row(f"{title} {name}", f"{count:,}", "events")
    out.print(table)
    if dry_run:
        out.print("This was a dry run: nothing was recorded.")
    else:
        out.print(
            f"Recorded at position {found.position:,}. Known before it, everything answers as it did: --known-at @{(found.position or 1) - 1}"
        )


def _when(at: datetime, zone: ZoneInfo) -> str:
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M}"


def register(app: typer.Typer) -> None:
    """Add `touchlog imports list|retract`."""
    imports = typer.Typer(
        help="Imports: what came in by `touchlog ingest`, and taking it back.",
        epilog="Example: touchlog imports list",
        no_args_is_help=True,
    )

    @imports.command("list", epilog="Example: touchlog imports list --json")
    def list_command(
        limit: int = typer.Option(1000, min=1, help="At most so many."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """List imports, the newest first, with their counts and whether they were taken back."""
        from adapters.intake.import_runs import ImportRuns
        from bin.commands.rejected import on_core, print_json

        zone = ZoneInfo(Settings.load(data=data).timezone)
        runs = on_core(
            data,
            "imports list",
            lambda core: ImportRuns(core.pool, core.ingest, core.histories).list(limit=limit),
        )
        if json:
            print_json({"imports": msgspec.to_builtins(runs)})
        else:
            show_list(runs, zone)

    @imports.command(
        "retract", epilog="Example: touchlog imports retract 8e1f0c52 --reason 'wrong file' --dry-run"
    )
    def retract_command(
        id: str = typer.Argument(..., metavar="ID", help="The import, as `imports list` shows it."),
        reason: str | None = typer.Option(None, help="Why; it is kept in the log. Needed but for a dry run."),
        dry_run: bool = typer.Option(False, "--dry-run", help="Tell what would change; record nothing."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Take an import back: from now on none of its events holds. Nothing is deleted; the same again changes nothing."""
        from adapters.embedded import servers
        from adapters.intake.import_runs import ImportRuns
        from adapters.postgres.schema import migrate
        from bin import logs
        from bin.commands.rejected import print_json
        from bin.compose import core, project_once
        from bin.principal import principal

        if not dry_run and not (reason or "").strip():
            raise typer.BadParameter(
                "say why: --reason 'wrong file'; or look first: --dry-run.", param_hint="--reason"
            )
        settings = Settings.load(data=data)
        logs.of_command(settings.log_level, part="imports")

        async def work(database_url: str) -> Retraction:
            async with core(settings, database_url) as parts:
                runs = ImportRuns(parts.pool, parts.ingest, parts.histories)
                return await runs.retract(id, principal(), reason=(reason or "").strip(), dry_run=dry_run)

        with servers(settings, by="imports", begins=False) as (database_url, _):
            migrate(database_url)
            project_once(database_url)
            found = asyncio.run(work(database_url))
        if json:
            print_json({**msgspec.to_builtins(found), "dry_run": dry_run})
        else:
            show_retraction(found, ZoneInfo(settings.timezone), dry_run=dry_run)

    app.add_typer(imports, name="imports")
