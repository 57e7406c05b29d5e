"""rebuild: fold the log into a read model anew, beside the one that answers, or as of another moment."""

from __future__ import annotations

from pathlib import Path

import typer

from bin.settings import DATA_OPTION, Settings

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add `touchlog rebuild`, `touchlog projections` is beside it in bin/commands/projections.py."""

    @app.command("rebuild", epilog="Example: touchlog rebuild contact_history --compare --swap")
    def rebuild(
        name: str = typer.Argument(help="The projection, as `touchlog projections` lists it."),
        known_at: str | None = typer.Option(
            None,
            "--known-at",
            metavar="T|@P",
            help="Only what was known by then: a time with zone, or a position.",
        ),
        as_of: str | None = typer.Option(
            None, "--as-of", metavar="T|@P", help="Only what had happened by then."
        ),
        compare: bool = typer.Option(
            False, "--compare", help="Show the rows that differ from the read model that answers."
        ),
        swap: bool = typer.Option(
            False, "--swap", help="Put the rebuilt rows in the place of those that answer."
        ),
        drop: str | None = typer.Option(
            None,
            "--drop",
            metavar="SCHEMA",
            help="Drop a rebuilt, retired or side schema instead of building.",
        ),
        data: Path | None = DATA_OPTION,
        json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    ) -> None:
        """Fold the log into a read model anew.

        The read model that answers goes on answering. The rebuilt one lives in a schema of its own: compare it,
        swap it in, or (with --known-at or --as-of) ask it in SQL and drop it.
        """
        from bin.commands.rebuilding import Wish, run

        outcome = run(
            Settings.load(data=data),
            Wish(name=name, known_at=known_at, as_of=as_of, compare=compare, swap=swap, drop=drop),
            quiet=json,
        )
        if json:
            import orjson

            typer.echo(orjson.dumps(outcome, default=str, option=orjson.OPT_INDENT_2).decode())
        if outcome.get("differences_total") and not swap:
            raise typer.Exit(1)
