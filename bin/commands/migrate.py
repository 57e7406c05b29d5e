"""migrate: bring the log's database to the form that this touchlog needs."""

from __future__ import annotations

from pathlib import Path

import typer

from bin.settings import DATA_OPTION, Settings


def register(app: typer.Typer) -> None:
    """Add `touchlog migrate`."""

    @app.command("migrate", epilog="Example: touchlog migrate --data ./data")
    def migrate_command(
        data: Path | None = DATA_OPTION,
        json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    ) -> None:
        """Migrate the database, as `serve` does at each start; what is done already is left alone."""
        from adapters.embedded import servers
        from adapters.postgres import schema
        from bin import logs

        settings = Settings.load(data=data)
        logs.of_command(settings.log_level, part="migrate")
        with servers(settings, by="migrate") as (database_url, _):
            applied = schema.migrate(database_url)
        names = [str(name) for name in applied or ()]
        if json:
            import orjson

            typer.echo(orjson.dumps({"applied": names}).decode())
        elif names:
            typer.echo(f"applied {', '.join(names)}")
        else:
            typer.echo("nothing to do: the database is up to date")
