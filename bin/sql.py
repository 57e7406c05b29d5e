"""sql: any question over the columns of the whole log, in DuckDB's SQL."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bin.reading import JSON_OPTION, asked, console, data_zone, print_json, table
from bin.settings import DATA_OPTION

if TYPE_CHECKING:
    from bin.compose import Core


def register(app: typer.Typer) -> None:
    """Add `touchlog sql`."""

    @app.command(
        "sql",
        epilog="Example: touchlog sql 'SELECT channel, count(DISTINCT person) FROM read.event_log GROUP BY ALL ORDER BY 2 DESC'",
    )
    def sql_command(
        query: str = typer.Argument(
            ...,
            help='A statement that reads: read.event_log (as it holds), read.columns (with known_from and known_to), read.persons. Properties are columns such as "data.path".',
        ),
        as_of: str | None = typer.Option(None, "--as-of", metavar="T|@P", help="What had happened by then."),
        known_at: str | None = typer.Option(
            None, "--known-at", metavar="T|@P", help="What was known by then: a time, or a position."
        ),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Ask the columns of the log in SQL (DuckDB); no personal field is in them."""
        from bin.history import happened_by_then, known_at_of
        from domain.errors import Invalid

        settings, zone = data_zone(data)
        happened = None if as_of is None else known_at_of(as_of, zone)
        known = None if known_at is None else known_at_of(known_at, zone)

        async def work(parts: Core) -> Any:
            return await parts.funnels.sql(
                query, as_of=await happened_by_then(parts, happened), known_at=known
            )

        try:
            result = asked(settings, "sql", ("identities",), work)
        except Invalid as wrong:
            raise typer.BadParameter(wrong.problems[0].detail, param_hint="QUERY") from None
        if json:
            print_json(
                {
                    "columns": result.columns,
                    "rows": [list(r) for r in result.rows],
                    "known_at": result.head,
                    "head": result.head,
                }
            )
            return
        from rich.markup import escape

        rows = table(*map(escape, result.columns))
        for row in result.rows:
            rows.add_row(*("" if v is None else escape(str(v)) for v in row))
        console().print(rows)
        console().print(f"{len(result.rows):,} rows · known at position {result.head:,}", style="dim")
