"""retention: of those who did one thing, how many did another again; in the terminal, as JSON or as a chart."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bin.commands.funnel import narrow, question_of, wrong_use
from bin.commands.reading import JSON_OPTION, asked, console, data_zone, print_json, table
from bin.settings import DATA_OPTION
from domain.units import count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bin.compose import Core
    from domain.retention.answer import Cell, Retained

_SHOWN = 40
"""Rows that a terminal shows; `--json` tells them all."""


def _cells(cells: Sequence[Cell], across: int) -> list[str]:
    told = ["–" if c.share is None else f"{c.share:.1%}" + ("*" if c.open else "") for c in cells]
    return [*told, *[""] * (across - len(told))][:across]


def show(answer: Retained) -> None:
    """Print the grid of a retention, as wide as the terminal is."""
    from rich.markup import escape

    out = console()
    reached = max((len(c.intervals) for c in answer.cohorts), default=0)
    across = max(1, min(reached, (out.width - 22) // 9)) if reached else 0
    names = [str(k) for k in range(across)]
    if answer.cohorts:
        rows = table("started", "of", *names, right=("of", *names))
        for cohort in answer.cohorts[:_SHOWN]:
            rows.add_row(cohort.cohort, f"{cohort.size:,}", *_cells(cohort.intervals, across))
        rows.add_section()
        rows.add_row("all", f"{answer.total.size:,}", *_cells(answer.total.intervals, across))
        out.print(rows)
    if len(answer.cohorts) > _SHOWN:
        out.print(f"… and {len(answer.cohorts) - _SHOWN:,} more cohorts; --json tells them", style="dim")
    if across < reached:
        out.print(f"… and {reached - across} more {answer.interval}s across; --json tells them", style="dim")
    if answer.breakdown is not None:
        values = table("value", "of", *names, right=("of", *names))
        for value in answer.breakdown[:_SHOWN]:
            told = "(none)" if value.value is None else str(value.value)
            values.add_row(escape(told), f"{value.size:,}", *_cells(value.intervals, across))
        if (rest := answer.breakdown_rest) is not None:
            values.add_row(
                f"({count(rest.values, 'other')})", f"{rest.size:,}", *_cells(rest.intervals, across)
            )
        out.print(values)
    if answer.cohorts:
        spans = (
            f"{answer.interval}s from each start on"
            if answer.mode == "rolling"
            else f"calendar {answer.interval}s after the start"
        )
        is_open = any(cell.open for cohort in answer.cohorts for cell in cohort.intervals)
        told = " * not over yet; the line of all counts only what is over." if is_open else ""
        out.print(f"Share of those who started that returned, by {spans}.{told}", soft_wrap=True)
    for note in answer.notes:
        out.print(escape(note), soft_wrap=True)
    as_of = f" · as of {answer.as_of}" if answer.as_of else ""
    out.print(f"known at position {answer.known_at:,}{as_of}", style="dim", soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add `touchlog retention`."""

    @app.command(
        "retention",
        epilog="Example: touchlog retention --start order.placed --interval month --intervals 12 --svg retention.svg",
    )
    def retention_command(
        file: Path | None = typer.Argument(None, metavar="[FILE.toml]", help="A question, with the names of the HTTP body; that body as JSON will do."),  # noqa: B008
        start: str | None = typer.Option(None, metavar="TYPE", help="The event with which a unit starts."),
        back: str | None = typer.Option(None, "--return", metavar="TYPE", help="The event with which it returns (default: as --start)."),
        interval: str | None = typer.Option(None, metavar="day|week|month", help="How long an interval is (default: month)."),
        intervals: int | None = typer.Option(None, metavar="N", help="How many are told, up to 60 (default: 14 days, 12 weeks, 12 months)."),
        entry: str | None = typer.Option(None, metavar="first|any", help="Only the very first start of each, or one in every interval."),
        returns: str | None = typer.Option(None, metavar="any|first|on_or_after", help="Which returns count, and where."),
        mode: str | None = typer.Option(None, metavar="calendar|rolling", help="Intervals of the calendar, or spans from each start on."),
        unit: str | None = typer.Option(None, metavar="person|data.FIELD", help="Whose events they are."),
        breakdown: str | None = typer.Option(None, metavar="PROPERTY", help="channel, direction, source or data.FIELD."),
        attribution: str | None = typer.Option(None, metavar="first|last|all_steps", help="Whose value of the breakdown counts."),
        from_: str | None = typer.Option(None, "--from", metavar="T", help="Starts from this time on; a date is its begin."),
        to: str | None = typer.Option(None, "--to", metavar="T", help="Starts before this time; a date is its begin."),
        as_of: str | None = typer.Option(None, "--as-of", metavar="T|@P", help="What had happened by then."),
        known_at: str | None = typer.Option(None, "--known-at", metavar="T|@P", help="What was known by then: a time, or a position."),
        svg: Path | None = typer.Option(None, metavar="FILE", help="Draw the answer as SVG."),  # noqa: B008
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:  # fmt: skip
        """Tell how many of those who started returned, by the interval of their start and the intervals after it."""
        if (file is None) == (start is None):
            raise typer.BadParameter("give a FILE.toml, or --start TYPE", param_hint="FILE")
        settings, zone = data_zone(data)
        question: dict[str, Any] = question_of(file) if file else {"start": start}
        given = {
            "return": back,
            "interval": interval,
            "intervals": intervals,
            "entry": entry,
            "returns": returns,
            "mode": mode,
            "unit": unit,
        }
        question |= {k: v for k, v in given.items() if v is not None}
        question.setdefault("timezone", zone.key)
        narrow(question, zone, breakdown, attribution, from_, to, as_of, known_at)

        async def work(parts: Core) -> Retained:
            with wrong_use(file):
                return await parts.retentions.query(question)

        answer = asked(settings, "retention", ("identities",), work)
        if svg is not None:
            from adapters.analysis import charts

            svg.write_text(charts.svg(charts.retention_chart(answer)), "utf-8")
        if json:
            print_json(answer)
        else:
            show(answer)
            if svg is not None:
                console().print(f"drawn: {svg}", style="dim", soft_wrap=True)
