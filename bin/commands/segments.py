"""segments: who belongs to a segment, how they came and went; segments kept under names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from bin.commands.funnel import narrow, question_of, wrong_use
from bin.commands.reading import JSON_OPTION, asked, console, data_zone, on_record, print_json, table, when
from bin.settings import DATA_OPTION
from domain.units import count

if TYPE_CHECKING:
    from adapters.analysis.saved_segments import SavedSegment
    from adapters.analysis.segments import Members
    from bin.compose import Core
    from bin.settings import Settings
    from domain.segments.answer import Answer

T = TypeVar("T")
_SHOWN_SPELLS = 3
_EVER = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def segment_of(text: str) -> Any:
    """A segment as it is told on the command line: a TOML file, or the name of a kept one."""
    return question_of(Path(text)) if text.endswith(".toml") else text


def _answered(settings: Settings, file: Path | None, work: Callable[[Core], Awaitable[T]]) -> T:
    async def told(parts: Core) -> T:
        with wrong_use(file):
            return await work(parts)

    return asked(settings, "segments", ("identities",), told)


def show(answer: Answer, zone: Any) -> None:
    """Print the figures of a segment."""
    from rich.markup import escape

    out = console()
    name = f"{answer.name}, version {answer.version}: " if answer.name else ""
    out.print(
        f"{escape(name)}{count(answer.members, 'person')} {'belongs' if answer.members == 1 else 'belong'} to it at {when(answer.at, zone)}",
        soft_wrap=True,
    )
    out.print(
        f"{answer.ever:,} ever did; {count(answer.entered, 'time')} somebody came in, {count(answer.left, 'time')} went out",
        soft_wrap=True,
    )
    if answer.trend:
        columns = ("came in", "went out", "at its end")
        rows = table("begin", *columns, right=columns)
        for p in answer.trend:
            rows.add_row(
                p.period + (" (open)" if p.open else ""), f"{p.entered:,}", f"{p.left:,}", f"{p.members:,}"
            )
        out.print(rows)
    for note in answer.notes:
        out.print(escape(note), soft_wrap=True)
    _known(answer.known_at, answer.as_of)


def _known(position: int, as_of: str | None) -> None:
    told = f" · as of {as_of}" if as_of else ""
    console().print(f"known at position {position:,}{told}", style="dim", soft_wrap=True)


def show_members(found: Members, zone: Any, entered: Mapping[str, datetime] | None = None) -> None:
    """Print persons with their spells, the last ones of each; of a cohort those that began in the span *entered*."""
    rows = table("person", "came in", "went out")
    span = entered or {}
    begin, end = span.get("from", _EVER[0]), span.get("to", _EVER[1])
    for member in found.persons:
        mine = [s for s in member.spells if begin <= datetime.fromisoformat(str(s["entered"])) < end]
        for spell in mine[-_SHOWN_SPELLS:]:
            rows.add_row(member.person, when(spell["entered"], zone), when(spell["left"], zone))
    if found.persons:
        console().print(rows)
    more = f", the first {len(found.persons):,} are shown; --limit shows more" if found.next else ""
    console().print(f"{count(found.count, 'person')} at {when(found.at, zone)}{more}", soft_wrap=True)
    _known(found.known_at, found.as_of)


def register(app: typer.Typer) -> None:
    """Add `touchlog segments`."""
    group = typer.Typer(
        help="Segments: persons told apart by what they did and did not do.",
        epilog="Example: touchlog segments show silent.toml",
        no_args_is_help=True,
    )
    app.add_typer(group, name="segments")
    what = typer.Argument(metavar="NAME[@VERSION]|FILE.toml", help="A saved segment, or rules in a file.")

    @group.command(
        "show", epilog="Example: touchlog segments show loyal.toml --trend month --as-of 2026-06-30"
    )
    def show_command(
        segment: str = what,
        trend: str | None = typer.Option(None, metavar="day|week|month", help="Who came and went in each interval."),
        from_: str | None = typer.Option(None, "--from", metavar="T", help="Comings and goings from this time on; a date is its begin."),
        to: str | None = typer.Option(None, "--to", metavar="T", help="Comings and goings before this time; a date is its begin."),
        as_of: str | None = typer.Option(None, "--as-of", metavar="T|@P", help="Who belonged then, from what had happened by then."),
        known_at: str | None = typer.Option(None, "--known-at", metavar="T|@P", help="What was known by then: a time, or a position."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:  # fmt: skip
        """Tell how many belong to a segment, and how they came and went."""
        settings, zone = data_zone(data)
        question = {"segment": segment_of(segment), "timezone": zone.key}
        narrow(question, zone, None, None, from_, to, as_of, known_at)
        if trend is not None:
            question["trend"] = trend
        answer = _answered(settings, Path(segment), lambda parts: parts.segments.query(question))
        if json:
            print_json(answer)
        else:
            show(answer, zone)

    @group.command(
        "persons",
        epilog="Example: touchlog segments persons loyal --entered-from 2026-01-01 --entered-to 2026-02-01",
    )
    def persons_command(
        segment: str = what,
        state: str | None = typer.Option(None, metavar="member|left|ever", help="Who belongs to it, did and does no more, or both; member by default, of a cohort ever."),
        entered_from: str | None = typer.Option(None, "--entered-from", metavar="T", help="The cohort of those who came in from then on; a date is its begin."),
        entered_to: str | None = typer.Option(None, "--entered-to", metavar="T", help="The cohort of those who came in before; a date is its begin."),
        limit: int = typer.Option(50, metavar="N", help="How many."),
        as_of: str | None = typer.Option(None, "--as-of", metavar="T|@P", help="Who belonged then, from what had happened by then."),
        known_at: str | None = typer.Option(None, "--known-at", metavar="T|@P", help="What was known by then: a time, or a position."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:  # fmt: skip
        """List the persons of a segment with the times at which they came in and went out; it is recorded who asked."""
        settings, zone = data_zone(data)
        given = segment_of(segment)
        entered: dict[str, Any] = {}
        narrow(entered, zone, None, None, entered_from, entered_to, None, None)
        if entered:
            given = {**(given if isinstance(given, dict) else {"name": given}), "entered": entered["range"]}
        question = {"segment": given, "limit": limit}
        narrow(question, zone, None, None, None, None, as_of, known_at)
        if state is not None:
            question["state"] = state

        async def work(parts: Core) -> Members:
            found = await parts.segments.members(question)
            about = [m.person for m in found.persons]
            await on_record(parts, "segment", about=about, query=segment, count=found.count)
            return found

        found = _answered(settings, Path(segment), work)
        if json:
            print_json(found)
        else:
            show_members(found, zone, entered.get("range"))

    @group.command("save", epilog="Example: touchlog segments save loyal loyal.toml")
    def save_command(
        name: str = typer.Argument(metavar="NAME", help="Of small letters, digits, _ and -."),
        file: Path = typer.Argument(metavar="FILE.toml", help='Rules: [[all]] did = "order.placed", at_least = 3, within = "90d".'),  # noqa: B008
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:  # fmt: skip
        """Keep a segment under a name; a changed one is a new version, none is overwritten."""
        from bin.principal import principal

        settings, _ = data_zone(data)
        rules = question_of(file)
        kept = _answered(
            settings,
            file,
            lambda parts: parts.segments.save(name, rules, principal().key_id),
        )
        if json:
            print_json(kept)
        else:
            console().print(f"kept: {kept.name}, version {kept.version}", soft_wrap=True)

    @group.command("list", epilog="Example: touchlog segments list")
    def list_command(data: Path | None = DATA_OPTION, json: bool = JSON_OPTION) -> None:
        """List the saved segments, each in its newest version."""
        settings, zone = data_zone(data)

        async def work(parts: Core) -> list[SavedSegment]:
            return list(await parts.segments.every())

        kept = _answered(settings, None, work)
        if json:
            print_json({"segments": kept})
            return
        if not kept:
            console().print(
                "No segment is saved yet; `touchlog segments save NAME FILE.toml` keeps one.", soft_wrap=True
            )
            return
        rows = table("name", "version", "saved", "by", right=("version",))
        for one in kept:
            rows.add_row(one.name, str(one.version), when(one.saved_at, zone), one.saved_by)
        console().print(rows)
