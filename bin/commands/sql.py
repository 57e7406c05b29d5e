"""sql: any question over the columns of the whole log, in DuckDB's SQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bin.commands.reading import JSON_OPTION, asked, console, data_zone, print_json, table
from bin.settings import DATA_OPTION
from domain.units import count

if TYPE_CHECKING:
    from bin.compose import Core

_MOST_DRAWN = 1_000
"""Rows that are drawn as a table that fits the terminal; more would take a minute for 100,000."""


def _numeric(rows: Sequence[Sequence[Any]]) -> list[bool]:
    """Which columns hold numbers and nothing else: these end where their title ends."""
    return [
        all(v is None or (isinstance(v, int | float | Decimal) and not isinstance(v, bool)) for v in column)
        for column in zip(*rows, strict=True)
    ]


def _lines(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    """A long answer, a line for each row, the columns one below the other."""
    texts = [[*columns], *(["" if v is None else " ".join(str(v).split("\n")) for v in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    put = [str.rjust if numeric else str.ljust for numeric in _numeric(rows)]
    for line in texts:
        yield "  ".join(at(text, width) for at, text, width in zip(put, line, widths, strict=True)).rstrip()


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
        from bin.commands.history import happened_by_then, known_at_of
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
        if len(result.rows) > _MOST_DRAWN:
            for line in _lines(result.columns, result.rows):
                typer.echo(line)
            typer.echo(f"{count(len(result.rows), 'row')} · known at position {result.head:,}")
            return
        from rich.markup import escape

        rows = table(*map(escape, result.columns))
        for column, numeric in zip(rows.columns, _numeric(result.rows), strict=False):
            column.justify = "right" if numeric else "left"
        for row in result.rows:
            rows.add_row(*("" if v is None else escape(str(v)) for v in row))
        console().print(rows)
        console().print(f"{count(len(result.rows), 'row')} · known at position {result.head:,}", style="dim")
