"""paths: what people do after an event and before it, in the terminal, as JSON or as a diagram."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bin.commands.funnel import narrow, question_of, wrong_use
from bin.commands.reading import JSON_OPTION, asked, console, data_zone, print_json, table
from bin.settings import DATA_OPTION
from domain.units import count

if TYPE_CHECKING:
    from bin.compose import Core
    from domain.paths.answer import Answer, Level, WholePath


def show(answer: Answer, unit: str) -> None:
    """Print the levels, and the most frequent whole paths."""
    from rich.markup import escape

    from adapters.analysis.path_chart import naming

    out, name = console(), naming(answer)
    one, many = ("person", "persons") if unit == "person" else (f"value of {unit}", f"values of {unit}")
    out.print(f"{count(answer.paths, 'path')} of {count(answer.units, one, many)}", soft_wrap=True)
    for level in answer.levels if answer.paths else []:
        rows = table(_titled(level), "paths", "share", right=("paths", "share"))
        for step in level.steps:
            rows.add_row(escape(name(step)), f"{step.count:,}", f"{step.share:.1%}")
        if level.rest:
            rows.add_row(
                f"({count(level.rest.names, 'other')})",
                f"{level.rest.count:,}",
                f"{level.rest.count / answer.paths:.1%}",
            )
        if level.ended:
            word = "(no later step)" if level.level > 0 else "(no earlier step)"
            rows.add_row(word, f"{level.ended:,}", f"{level.ended / answer.paths:.1%}")
        out.print(rows)

    def whole(path: WholePath) -> str:
        names = [*path.before, path.around, *path.after]
        told = [name(n) for n in names]
        told[len(path.before)] = f"[{told[len(path.before)]}]"
        return " → ".join(told)

    if answer.sequences:
        rows = table("whole paths", "paths", "share", right=("paths", "share"))
        for path in answer.sequences:
            rows.add_row(escape(whole(path)), f"{path.count:,}", f"{path.count / answer.paths:.1%}")
        if rest := answer.sequences_rest:
            rows.add_row(
                f"({count(rest.names, 'other')})", f"{rest.count:,}", f"{rest.count / answer.paths:.1%}"
            )
        out.print(rows)
    for note in answer.notes:
        out.print(escape(note), soft_wrap=True)
    if answer.segment is not None:
        out.print(f"only the {count(answer.segment.persons, 'person')} of the segment", soft_wrap=True)
    as_of = f" · as of {answer.as_of}" if answer.as_of else ""
    out.print(f"known at position {answer.known_at:,}{as_of}", style="dim", soft_wrap=True)


def _titled(level: Level) -> str:
    if not level.level:
        return "the event"
    steps = f"{abs(level.level)} step{'s' if abs(level.level) > 1 else ''}"
    return f"{steps} {'after' if level.level > 0 else 'before'}"


def register(app: typer.Typer) -> None:
    """Add `touchlog paths`."""

    @app.command(
        "paths",
        epilog="Example: touchlog paths --around order.placed --before 3 --gap 1d --svg paths.svg",
    )
    def paths_command(
        file: Path | None = typer.Argument(None, metavar="[FILE.toml]", help="A question, with the names of the HTTP body; that body as JSON will do."),  # noqa: B008
        around: str | None = typer.Option(None, metavar="TYPE", help="The event in the middle; filters stand in a file."),
        before: int | None = typer.Option(None, metavar="N", help="Steps before it, 0 to 10 (default: 0)."),
        after: int | None = typer.Option(None, metavar="N", help="Steps after it, 0 to 10 (default: 3, or 0 with --before)."),
        top: int | None = typer.Option(None, metavar="N", help="Steps told of each level, 1 to 50 (default: 5)."),
        only: str | None = typer.Option(None, metavar="A,B,…", help="Only events of these types are steps."),
        leave_out: str | None = typer.Option(None, "--leave-out", metavar="A,B,…", help="Events of these types are none."),
        by: str | None = typer.Option(None, metavar="PROPERTY", help="Tells steps of one type apart: channel, data.path, …"),
        gap: str | None = typer.Option(None, metavar="SPAN", help="A longer rest between two steps ends a path, e.g. 30m."),
        window: str | None = typer.Option(None, metavar="SPAN", help="Steps within this span of the event, e.g. 7d."),
        occurrence: str | None = typer.Option(None, metavar="first|last|every", help="Which event of a person, if there are several."),
        loops: str | None = typer.Option(None, metavar="repeats|loops|keep", help="What is taken once: a step that follows itself, also ways back, nothing."),
        unit: str | None = typer.Option(None, metavar="person|data.FIELD", help="Whose paths they are."),
        segment: str | None = typer.Option(None, metavar="NAME[@VERSION]", help="Only persons of this saved segment."),
        from_: str | None = typer.Option(None, "--from", metavar="T", help="Events from this time on; a date is its begin."),
        to: str | None = typer.Option(None, "--to", metavar="T", help="Events before this time; a date is its begin."),
        as_of: str | None = typer.Option(None, "--as-of", metavar="T|@P", help="What had happened by then."),
        known_at: str | None = typer.Option(None, "--known-at", metavar="T|@P", help="What was known by then: a time, or a position."),
        svg: Path | None = typer.Option(None, metavar="FILE", help="Draw the answer as SVG."),  # noqa: B008
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:  # fmt: skip
        """Tell which steps follow an event, and which lead to it."""
        if (file is None) == (around is None):
            raise typer.BadParameter("give a FILE.toml, or --around TYPE", param_hint="FILE")
        settings, zone = data_zone(data)
        question: dict[str, Any] = question_of(file) if file else {"around": around}
        given = {
            "before": before, "after": after, "top": top, "by": by, "gap": gap, "window": window,
            "occurrence": occurrence, "loops": loops, "unit": unit, "segment": segment,
        }  # fmt: skip
        question |= {k: v for k, v in given.items() if v is not None}
        listed = {"type": only, "leave_out": leave_out}
        if steps := {k: [t.strip() for t in v.split(",") if t.strip()] for k, v in listed.items() if v}:
            question["steps"] = steps
        narrow(question, zone, None, None, from_, to, as_of, known_at)

        async def work(parts: Core) -> Answer:
            with wrong_use(file):
                return await parts.segments.paths(question)

        answer = asked(settings, "paths", ("identities",), work)
        if svg is not None:
            from adapters.analysis import charts
            from adapters.analysis.path_chart import path_chart

            svg.write_text(charts.svg(path_chart(answer, question.get("unit") or "person")), "utf-8")
        if json:
            print_json(answer)
            return
        show(answer, question.get("unit") or "person")
        if svg is not None:
            console().print(f"drawn: {svg}", style="dim", soft_wrap=True)
