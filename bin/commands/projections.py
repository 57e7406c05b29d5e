"""projections and parked: how far every read model has come, and what it could not fold."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import typer

from bin.commands.reading import columns_told, data_zone
from bin.settings import DATA_OPTION, Settings
from domain.entry import in_zone
from domain.units import count

__all__ = ["register"]

NAMES_ARGUMENT = typer.Argument(None, metavar="[NAME]...", help="Only these; default: all.")
JSON_OPTION = typer.Option(False, "--json", help="Print JSON.")


def register(app: typer.Typer) -> None:  # noqa: C901 - a command after the other
    """Add `touchlog projections` and `touchlog parked`."""

    projections = typer.Typer(
        help="How far every read model has come, and whether it agrees with the log.",
        epilog="Example: touchlog projections --json",
        invoke_without_command=True,
    )
    app.add_typer(projections, name="projections")

    @projections.command("check", epilog="Example: touchlog projections check contact_history --json")
    def check(
        names: list[str] = NAMES_ARGUMENT,
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Compare the whole of every read model with the log, now; exit 1 where a row differs."""
        from bin.processes.checking import check_on_demand

        outcome = check_on_demand(Settings.load(data=data), names or [], quiet=json)
        if json:
            _print(outcome)
        else:
            _tell(outcome)
        if outcome["rows"]:
            raise typer.Exit(1)

    @projections.callback(invoke_without_command=True)
    def projections_command(
        context: typer.Context, data: Path | None = DATA_OPTION, json: bool = JSON_OPTION
    ) -> None:
        """Show every read model: state, version, position, lag, what is parked, which rows differ from the log."""
        if context.invoked_subcommand is not None:
            return
        settings, zone = data_zone(data)
        found = _ask(settings)
        if json:
            _print(found)
            return
        from rich.console import Console
        from rich.table import Table

        out = Console(highlight=False)
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
        for title, justify in (  # at most 79 columns wide: a terminal's width
            ("projection", "left"),
            ("state", "left"),
            ("position", "right"),
            ("lag", "right"),
            ("", "right"),
            ("parked", "right"),
            ("differ", "right"),
            ("swept", "left"),
        ):
            table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
        beside = [row for row in found["projections"] if row["schema"] != "read"]
        for row in found["projections"]:
            if row in beside:
                continue
            table.add_row(
                f"{row['name']} {row['version']}",
                row["state"],
                f"{row['position']:,}",
                f"{row['lag_positions']:,}",
                f"{row['lag_s']:,.1f} s",
                f"{row['parked']:,}" if row["parked"] else "none",
                f"{row['differences']:,}" if row["differences"] else "none",
                swept_of(row, zone),
            )
        out.print(table)
        out.print(f"\nhead {found['head']:,} · times in {zone.key}")
        for row in found["projections"]:
            if (written := row.get("written_position")) is not None:
                out.print(
                    columns_told(written, found["head"]),
                    soft_wrap=True,
                )
        for row in beside:
            out.print(
                f"schema {row['schema']}: {row['name']} version {row['version']}, {row['state']}, position {row['position']:,}",
                soft_wrap=True,
            )
        for run in found["rebuilds"]:
            out.print(_rebuild(run), soft_wrap=True)
        for line in found["not_loaded"]:
            typer.echo(line, err=True)

    parked = typer.Typer(
        help="Events that a projection could not fold, with the later ones of their subject.",
        epilog="Example: touchlog parked retry",
        invoke_without_command=True,
    )
    app.add_typer(parked, name="parked")

    @parked.callback(invoke_without_command=True)
    def show(context: typer.Context, data: Path | None = DATA_OPTION, json: bool = JSON_OPTION) -> None:
        """Show what is parked, in log order."""
        if context.invoked_subcommand is not None:
            return
        rows = _parked(Settings.load(data=data))
        if json:
            _print(rows)
            return
        if not rows:
            typer.echo("Nothing is parked: every read model folded every event.")
            return
        for row in rows:
            typer.echo(
                f"{row['name']}  position {row['position']:,}  {'failed' if row['culprit'] else 'waits'}  {row['reason']}"
            )
        typer.echo(f"\n{len(rows):,} parked. Mend the projection, then: touchlog parked retry")

    @parked.command("retry", epilog="Example: touchlog parked retry --name conversations")
    def retry(
        name: str | None = typer.Option(None, "--name", help="Only those of this projection."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Fold what is parked again, in order; what fails again stays parked."""
        outcome = _retry(Settings.load(data=data), name)
        if json:
            _print(outcome)
        else:
            typer.echo(f"{outcome['healed']:,} healed, {outcome['left']:,} still parked.")
        if outcome["left"]:
            raise typer.Exit(1)


def swept_of(row: dict[str, Any], zone: ZoneInfo) -> str:
    """When the whole of a read model was last compared; the columns are when somebody asks for it."""
    if row["swept_at"]:
        return f"{in_zone(row['swept_at'], zone):%m-%d %H:%M}"
    return "on demand" if "written_position" in row else "not yet"


def _rebuild(run: dict[str, Any]) -> str:
    """One rebuild as a line."""
    told = f"rebuild {run['id']} of {run['name']} into {run['schema']}: {run['state'].replace('_', ' ')}"
    if run["progress"] is not None:
        told += f", {run['position'] or 0:,} of {run['target']:,} positions"
    if run["events_per_s"]:
        told += f", {run['events_per_s']:,}/s, {run['remaining_s']:,.0f} s remain"
    if run["outcome"] and "differences_total" in run["outcome"]:
        told += f", {count(run['outcome']['differences_total'], 'row')} differed"
    return told + (f": {run['reason']}" if run["reason"] else "")


def _print(found: Any) -> None:
    import orjson

    typer.echo(orjson.dumps(found, default=str, option=orjson.OPT_INDENT_2).decode())


def _tell(outcome: dict[str, Any]) -> None:
    for each in outcome["projections"]:
        typer.echo(
            f"{each['name']}: {count(each['rows'], 'row')} {'differs' if each['rows'] == 1 else 'differ'} from the log"
            if each["rows"]
            else f"{each['name']}: agrees with the log up to position {each['position']:,}"
        )
        for difference in each["differences"][:20]:
            typer.echo(f"  {difference['table']}, {difference['bucket']}: {difference['rows']:,}")
            for row in difference["examples"][:10]:
                key = ", ".join(f"{name}={value}" for name, value in row["key"].items())
                columns = f" ({', '.join(row['columns'])})" if row.get("columns") else ""
                typer.echo(f"    {row['kind']}: {key}{columns}")
        if each["rows"]:
            mend = f"touchlog rebuild {each['name']} --compare --swap"
            if each["name"] == "columns":
                mend = "stop serve, remove the folder columns in the data folder, start serve: it is written anew"
            typer.echo(f"  Rebuild it: {mend}")
    if not outcome["projections"]:
        typer.echo("No read model of this version answers yet; start touchlog serve.")


def _ask(settings: Settings) -> dict[str, Any]:
    import msgspec
    import psycopg

    from adapters.columns.following import head_of
    from adapters.columns.manifest import columns_differ
    from adapters.embedded import servers
    from adapters.postgres.schema import migrate
    from adapters.rebuilds.runs import runs
    from bin.commands.status import columns_of
    from projections.projection import load_foreign

    not_loaded = load_foreign()
    with servers(settings, by="projections", begins=False) as found:
        migrate(found.database_url)
        with psycopg.connect(found.database_url, autocommit=True) as conn:
            rows = conn.execute(
                "SELECT p.name, p.schema, p.version, p.state, p.position, h.position, "
                "CASE WHEN p.position >= h.position THEN 0 ELSE extract(epoch FROM clock_timestamp() - coalesce((SELECT e.recorded_at "
                "FROM touchpoint_log.events e WHERE e.position = p.position + 1), clock_timestamp())) END, "
                "(SELECT count(*) FROM touchlog.parked k WHERE k.name = p.name AND k.schema = p.schema), "
                "CASE WHEN p.schema = 'read' THEN (SELECT coalesce(sum(d.rows), 0)::bigint FROM touchlog.differences d WHERE d.name = p.name) ELSE 0 END, "
                "c.position, c.checked_at, c.swept_at "
                "FROM touchpoint_log.head h LEFT JOIN touchlog.projections p ON true "
                "LEFT JOIN touchlog.checks c ON c.name = p.name AND p.schema = 'read' ORDER BY p.schema <> 'read', p.name, p.schema"
            ).fetchall()
            rebuilds = [msgspec.to_builtins(run) for run in runs(conn)]
            log_id = head_of(conn)[1]
            columns = columns_differ(conn)
    head = rows[0][5] if rows else 0
    return {
        "projections": [
            {
                "name": r[0],
                "schema": r[1],
                "version": r[2],
                "state": r[3],
                "position": r[4],
                "lag_positions": max(0, r[5] - r[4]),
                "lag_s": round(float(r[6]), 3),
                "parked": r[7],
                "differences": r[8],
                "checked_position": r[9],
                "checked_at": r[10],
                "swept_at": r[11],
            }
            for r in rows
            if r[0] is not None
        ]
        + [
            {
                **columns_of(settings.data / "columns", log_id, head, columns),
                "schema": "read",
            }
        ],
        "head": head,
        "rebuilds": rebuilds,
        "not_loaded": not_loaded,
        "asked_at": datetime.now(UTC),
    }


def _parked(settings: Settings) -> list[dict[str, Any]]:
    from adapters.embedded import servers
    from adapters.postgres.read_models import ReadModels
    from adapters.postgres.schema import migrate

    with servers(settings, by="parked", begins=False) as found:
        migrate(found.database_url)
        store = ReadModels(found.database_url)
        try:
            return [row._asdict() for row in store.parked()]
        finally:
            store.close()


def _retry(settings: Settings, name: str | None) -> dict[str, Any]:
    import time

    from adapters.embedded import servers
    from adapters.postgres.read_models import ReadModels
    from adapters.postgres.schema import migrate
    from bin import logs
    from bin.compose import act_recorded, project_once
    from bin.principal import principal

    logs.of_command(settings.log_level, part="parked")
    with servers(settings, by="parked retry", begins=False) as found:
        migrate(found.database_url)
        store = ReadModels(found.database_url)
        try:
            before = len(store.parked(name))
            store.ask_retry(name)
            project_once(found.database_url)  # does it, unless a running projector holds the leases
            deadline = time.monotonic() + 30
            while store.parked(name, retry=True) and time.monotonic() < deadline:
                time.sleep(0.1)  # a running projector looks every second
            left = len(store.parked(name))
        finally:
            store.close()
        told = {"name": name, "healed": before - left, "left": left}
        act_recorded(settings, found.database_url, "parked.retried", principal().key_id, told)
    return {"healed": before - left, "left": left}
