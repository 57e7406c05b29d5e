"""consent questions: the officer's twelve, asked in the terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import typer

from bin.commands.reading import JSON_OPTION, asked, console, data_zone, on_record, print_json, table, when
from bin.settings import DATA_OPTION
from domain.units import count

if TYPE_CHECKING:
    from adapters.consent.questions import Answered, Question
    from bin.compose import Core

_TIMES = frozenset(
    ("sent_at", "since", "valid_until", "took_effect", "recorded", "at", "first_at", "last_at")
)


def show_list() -> None:
    """Print the twelve questions and what each wants to know."""
    from rich.markup import escape

    from adapters.consent.questions import QUESTIONS

    rows = table("no.", "name", "question", "wants to know", right=("no.",))
    for one in QUESTIONS:
        wants = " ".join(_option(p.name) if p.required else f"[{_option(p.name)}]" for p in one.parameters)
        rows.add_row(str(one.number), one.name, one.asks, escape(wants) or "nothing")
    console().print(rows)
    console().print("Ask one: touchlog consent questions 5 --by 2026-12-31", style="dim")


def show(found: Answered, zone: ZoneInfo) -> None:
    """Print one answer."""
    from rich.markup import escape

    from adapters.consent.questions import told
    from domain.entry import moment

    out = console()
    out.print(f"{found.question}. {escape(found.asks)}", style="dim", soft_wrap=True)
    out.print(escape(found.answer), style="bold", soft_wrap=True)
    for name, figure in found.figures.items():
        out.print(f"{name.replace('_', ' ')}: {escape(told(figure, name))}", soft_wrap=True)
    if found.rows:
        rows = table(*(name.removesuffix("_s").replace("_", " ") for name in found.columns))
        for row in found.rows:
            rows.add_row(
                *(
                    escape(when(row[name], zone) if name in _TIMES else told(row[name], name))
                    for name in found.columns
                )
            )
        out.print(rows)
    for note in found.notes:
        out.print(escape(note), style="dim", soft_wrap=True)
    more = f"{count(len(found.rows), 'row')} shown, there are more · " if found.more else ""
    at = f"at {found.at} · " if found.at else ""
    out.print(
        f"{more}{at}head and known at position {found.known_at:,} · asked {when(moment(datetime.now(UTC)), zone)}",
        style="dim",
        soft_wrap=True,
    )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _given(question: Question, options: dict[str, str | None]) -> dict[str, str | None]:
    """The options of a question; one that it does not take is refused by name."""
    taken = {one.name for one in question.parameters}
    for name, value in options.items():
        if value is not None and name not in taken:
            takes = ", ".join(map(_option, sorted(taken))) or "none"
            raise typer.BadParameter(
                f"Question {question.number} does not take it; it takes {takes}.", param_hint=_option(name)
            )
    return {name: value for name, value in options.items() if name in taken}


def register(consent: typer.Typer) -> None:
    """Add `touchlog consent questions`."""

    @consent.command(
        "questions",
        epilog="Example: touchlog consent questions changed --from 2026-10-01 --to 2026-11-01 --said 2026-11-05",
    )
    def questions_command(
        question: str | None = typer.Argument(
            None, metavar="[N|NAME]", help="Which one; without, all are listed."
        ),
        person: str | None = typer.Option(None, metavar="REF", help="Whom it is about."),
        purpose: str | None = typer.Option(None, metavar="P", help="What for, e.g. marketing.news."),
        channel: str | None = typer.Option(None, metavar="C", help="By which channel."),
        contact: str | None = typer.Option(None, metavar="REF", help="To which contact point."),
        at: str | None = typer.Option(None, metavar="T", help="The moment asked about; now by default."),
        known_at: str | None = typer.Option(
            None, "--known-at", metavar="T|@P", help="As known then: a time, or a position such as @123."
        ),
        source: str | None = typer.Option(None, metavar="S", help="Who reported the message."),
        id_: str | None = typer.Option(None, "--id", metavar="ID", help="The message's id there."),
        begin: str | None = typer.Option(None, "--from", metavar="T", help="The first day or instant."),
        end: str | None = typer.Option(
            None, "--to", metavar="T", help="The first day or instant behind the span."
        ),
        notice: str | None = typer.Option(None, metavar="N", help="The notice."),
        version: str | None = typer.Option(None, metavar="V", help="Only this version of it."),
        by: str | None = typer.Option(None, metavar="T", help="By when."),
        minutes: str | None = typer.Option(
            None, metavar="N", help="Later than so many minutes; 60 by default."
        ),
        said: str | None = typer.Option(None, metavar="T|@P", help="The day of the report, or its position."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """List the officer's twelve questions, or answer one; exits 1 where the answer is no."""
        from adapters.consent.questions import QUESTIONS, parsed, question_of
        from domain.errors import Invalid, NotFound

        if question is None:
            if json:
                print_json({"questions": QUESTIONS})
            else:
                show_list()
            return
        try:
            wanted = question_of(question)
        except NotFound as missing:
            raise typer.BadParameter(str(missing), param_hint="N|NAME") from None
        options = {
            "person": person,
            "purpose": purpose,
            "channel": channel,
            "contact": contact,
            "at": at,
            "known_at": known_at,
            "source": source,
            "id": id_,
            "from": begin,
            "to": end,
            "notice": notice,
            "version": version,
            "by": by,
            "minutes": minutes,
            "said": said,
        }
        settings, zone = data_zone(data)

        def time(text: str, place: str) -> datetime:
            from bin.commands.history import moment_of

            return moment_of(text, zone, ends=place not in ("/from", "/to"))

        def known(text: str) -> datetime | int | None:
            from bin.commands.history import known_at_of

            return known_at_of(text, zone)

        try:
            values = parsed(wanted, _given(wanted, options), time, known)
        except Invalid as wrong:
            problem = wrong.problems[0]
            hint = _option(problem.pointer.removeprefix("/"))
            raise typer.BadParameter(problem.detail, param_hint=hint) from None

        async def work(parts: Core) -> Answered:
            from adapters.consent.answers import ask
            from adapters.consent.questions import Parts

            reading = Parts(parts.pool, parts.subjects, parts.histories, settings.phone_region)
            found = await ask(reading, wanted, values)
            query = f"{wanted.number} " + " ".join(str(v) for v in values.values() if v is not None)
            await on_record(parts, "consent questions", about=found.about, query=query, count=len(found.rows))
            return found

        from adapters.consent.questions import MODELS

        found = asked(settings, "consent", MODELS, work)
        if json:
            print_json(found)
        else:
            show(found, zone)
        if found.says_no:
            raise typer.Exit(1)
