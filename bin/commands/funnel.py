"""funnel: who went through which steps, in the terminal, as JSON or as a chart."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import typer

from bin.commands.reading import JSON_OPTION, asked, console, data_zone, print_json, table
from bin.settings import DATA_OPTION
from domain.funnels.naming import step_names as step_names  # noqa: PLC0414 - others print funnels, too
from domain.units import count

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from bin.compose import Core
    from domain.funnels.answer import Answer, StepFigures

_SHOWN_VALUES = 20


def question_of(file: Path) -> dict[str, Any]:
    """A question with the names of the HTTP body: written as TOML, or that very body (RFC 8259).

    Raises:
        typer.BadParameter: it cannot be read.
    """
    try:
        text = file.read_text("utf-8")
        if text.lstrip().startswith("{"):  # no line of TOML begins so
            question: dict[str, Any] = orjson.loads(text)
            return question
        return tomllib.loads(text)
    except OSError as failed:
        raise typer.BadParameter(f"{file} cannot be read: {failed.strerror}", param_hint="FILE") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as wrong:
        raise typer.BadParameter(f"{file} is no TOML: {wrong}", param_hint="FILE") from None
    except orjson.JSONDecodeError as wrong:
        raise typer.BadParameter(f"{file} is no JSON: {wrong}", param_hint="FILE") from None


def narrow(
    question: dict[str, Any],
    zone: ZoneInfo,
    breakdown: str | None,
    attribution: str | None,
    from_: str | None,
    to: str | None,
    as_of: str | None,
    known_at: str | None,
) -> None:
    """Put into a question what was said on the command line; dates are days of *zone*.

    Raises:
        typer.BadParameter: something of it cannot be read.
    """
    from bin.commands.history import known_at_of, moment_of

    if breakdown is not None:
        question["breakdown"] = {"by": breakdown}
    if attribution is not None:
        if not isinstance(question.get("breakdown"), dict):
            raise typer.BadParameter("needs --breakdown", param_hint="--attribution")
        question["breakdown"]["attribution"] = attribution
    span = {k: moment_of(v, zone, ends=False) for k, v in (("from", from_), ("to", to)) if v is not None}
    if span:
        question["range"] = {**question.get("range", {}), **span}
    if as_of is not None:
        happened = known_at_of(as_of, zone)
        question["as_of"] = f"@{happened}" if isinstance(happened, int) else happened
    if known_at is not None:
        known = known_at_of(known_at, zone)
        question["known_at"] = f"@{known}" if isinstance(known, int) else known


@contextmanager
def wrong_use(file: Path | None) -> Iterator[None]:
    """Tell every mistake of a question as wrong use of the command; it stands in *file* where there is one."""
    from domain.errors import Invalid

    try:
        yield
    except Invalid as wrong:
        told = "\n".join(f"{p.pointer or '(whole)'}: {p.detail}" for p in wrong.problems)
        raise typer.BadParameter(told, param_hint=str(file) if file else "the question") from None


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _share(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def show(answer: Answer, names: list[str]) -> None:
    """Print the figures of a funnel."""
    from rich.markup import escape

    out = console()
    rows = table("step", "reached", "of first", "of last", "median to next", "90 %",
                 right=("reached", "of first", "of last", "median to next", "90 %"))  # fmt: skip
    for i, (name, step) in enumerate(zip(names, answer.steps, strict=True), start=1):
        times = step.time_to_next
        rows.add_row(
            escape(f"{i}. {name}"), f"{step.count:,}", _share(step.conversion), _share(step.relative),
            _span(times.median_s if times else None), _span(times.p90_s if times else None),
        )  # fmt: skip
    out.print(rows)
    whole = answer.time_to_convert
    out.print(
        f"First to last step: median {_span(whole.median_s)}, 90 % within {_span(whole.p90_s)}",
        soft_wrap=True,
    )
    if answer.breakdown is not None:
        told = [
            ("(none)" if v.value is None else str(v.value), v.steps) for v in answer.breakdown[:_SHOWN_VALUES]
        ]
        _lines("value", told, len(names))
        if len(answer.breakdown) > _SHOWN_VALUES:
            out.print(
                f"… and {len(answer.breakdown) - _SHOWN_VALUES} more values; --json tells them", style="dim"
            )
    if answer.trend is not None:
        _lines(
            "begin", [(p.period + (" (open)" if p.open else ""), p.steps) for p in answer.trend], len(names)
        )
    for note in answer.notes:
        out.print(escape(note), soft_wrap=True)
    if answer.segment is not None:
        out.print(f"only the {count(answer.segment.persons, 'person')} of the segment", soft_wrap=True)
    as_of = f" · as of {answer.as_of}" if answer.as_of else ""
    out.print(f"known at position {answer.known_at:,}{as_of}", style="dim", soft_wrap=True)


def _lines(what: str, told: list[tuple[str, list[StepFigures]]], n: int) -> None:
    from rich.markup import escape

    titles = [f"step {i}" for i in range(1, n + 1)]
    rows = table(what, *titles, "converted", right=(*titles, "converted"))
    for name, steps in told:
        rows.add_row(escape(name), *(f"{s.count:,}" for s in steps), _share(steps[-1].conversion))
    console().print(rows)


def register(app: typer.Typer) -> None:
    """Add `touchlog funnel`."""

    @app.command(
        "funnel",
        epilog="Example: touchlog funnel --steps web.page_viewed,cart.updated,order.placed --window 14d --breakdown channel",
    )
    def funnel_command(
        file: Path | None = typer.Argument(None, metavar="[FILE.toml]", help="A question, with the names of the HTTP body; that body as JSON will do."),  # noqa: B008
        steps: str | None = typer.Option(None, metavar="A,B,…", help="Types of the steps, with commas between them."),
        window: str | None = typer.Option(None, metavar="SPAN", help="From the entry on, e.g. 14d or P14D (default: 14d)."),
        entry: str | None = typer.Option(None, metavar="latest|first", help="Which entry an attempt begins with."),
        order: str | None = typer.Option(None, metavar="ordered|strict|any", help="How the steps follow one another."),
        count: str | None = typer.Option(None, metavar="unique|total", help="Units, or all their attempts."),
        unit: str | None = typer.Option(None, metavar="person|data.FIELD", help="Whose steps they are."),
        breakdown: str | None = typer.Option(None, metavar="PROPERTY", help="channel, direction, source or data.FIELD."),
        attribution: str | None = typer.Option(None, metavar="first|last|step:K|all_steps", help="Whose value of the breakdown counts."),
        segment: str | None = typer.Option(None, metavar="NAME[@VERSION]", help="Only persons of this saved segment."),
        trend: str | None = typer.Option(None, metavar="day|week|month", help="Each interval a funnel of its own."),
        from_: str | None = typer.Option(None, "--from", metavar="T", help="Entries from this time on; a date is its begin."),
        to: str | None = typer.Option(None, "--to", metavar="T", help="Entries before this time; a date is its begin."),
        as_of: str | None = typer.Option(None, "--as-of", metavar="T|@P", help="What had happened by then."),
        known_at: str | None = typer.Option(None, "--known-at", metavar="T|@P", help="What was known by then: a time, or a position."),
        svg: Path | None = typer.Option(None, metavar="FILE", help="Draw the answer as SVG."),  # noqa: B008
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:  # fmt: skip
        """Tell how many went through some steps, how long they took, and where the others stayed."""
        if (file is None) == (steps is None):
            raise typer.BadParameter("give a FILE.toml, or --steps a,b,c", param_hint="FILE")
        settings, zone = data_zone(data)
        question: dict[str, Any] = (
            question_of(file)
            if file
            else {"steps": [s.strip() for s in (steps or "").split(",") if s.strip()]}
        )
        given = {
            "window": window,
            "entry": entry,
            "order": order,
            "count": count,
            "unit": unit,
            "trend": trend,
            "segment": segment,
        }
        question |= {k: v for k, v in given.items() if v is not None}
        question.setdefault("window", "14d")
        question.setdefault("timezone", zone.key)
        narrow(question, zone, breakdown, attribution, from_, to, as_of, known_at)

        async def work(parts: Core) -> Answer:
            with wrong_use(file):
                return await parts.funnels.query(question)

        answer = asked(settings, "funnel", ("identities",), work)
        names = step_names(question)
        if svg is not None:
            from adapters.analysis import charts

            svg.write_text(charts.svg(charts.funnel_chart(answer, names)), "utf-8")
        if json:
            print_json(answer)
        else:
            show(answer, names)
            if svg is not None:
                console().print(f"drawn: {svg}", style="dim", soft_wrap=True)
