"""persons: who there is, and how one of them stands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
import typer

from bin.commands import finding, identity
from bin.commands.reading import (
    JSON_OPTION,
    asked,
    console,
    data_zone,
    on_record,
    print_json,
    table,
    when,
)
from bin.settings import DATA_OPTION
from domain.units import count

if TYPE_CHECKING:
    from adapters.answers.persons import Known, PersonsPage, Summary
    from bin.compose import Core


def identifiers(subjects: Sequence[dict[str, Any]]) -> list[str]:
    """Identifiers as REFs, in the order of their kinds' priority."""
    from bin.commands.history import shown_ref

    return [shown_ref(subject) for subject in subjects]


def channels(summary: Summary) -> str:
    """`phone 12, email 3`: events by channel, the most first."""
    most = sorted(summary.channels.items(), key=lambda item: (-item[1]["events"], item[0]))
    return ", ".join(f"{name} {told['events']:,}" for name, told in most)


def show_list(page: PersonsPage, zone: ZoneInfo) -> None:
    """Print persons, or how to begin."""
    from rich.markup import escape

    out = console()
    if not page.persons:
        out.print("Nobody is known yet. Record something that names somebody: touchlog ingest --help")
        return
    rows = table(
        "person", "identifiers", f"first ({zone.key})", "last", "events", "by channel", right=("events",)
    )
    for one in page.persons:
        named = identifiers(one.subjects)
        more = f" [dim]and {len(named) - 3:,} more[/dim]" if len(named) > 3 else ""
        rows.add_row(
            one.id[:8],
            escape("\n".join(named[:3])) + more,
            when(one.first_at, zone),
            when(one.last_at, zone),
            f"{one.events:,}",
            escape(channels(one)),
        )
    out.print(rows)
    more = f", there are more: --limit, or --cursor {page.next}" if page.next else ""
    out.print(
        f"{count(len(page.persons), 'person')}{more} · at position {page.head:,}", style="dim", soft_wrap=True
    )


def show_one(known: Known, zone: ZoneInfo) -> None:
    """Print one person."""
    from rich.markup import escape

    out = console()
    out.print(f"Person {known.id}", style="bold")
    for ref, subject in zip(identifiers(known.subjects), known.subjects, strict=True):
        out.print(f"  {escape(ref)}  [dim]subject {subject['subject']}[/dim]", soft_wrap=True)
    if not known.events:
        out.print(
            "Nothing has happened with this person, as known and cut here. See all: leave out --as-of and --known-at.",
            soft_wrap=True,
        )
        return
    first, last = when(known.first_at, zone), when(known.last_at, zone)
    span = f"from {first} to {last}" if first != last else f"at {first}"
    out.print(f"{count(known.events, 'event')} {span} ({zone.key})")
    rows = table(
        "channel",
        "events",
        "from the customer",
        "to the customer",
        right=("events", "from the customer", "to the customer"),
    )
    for name, told in sorted(known.channels.items(), key=lambda item: (-item[1]["events"], item[0])):
        rows.add_row(escape(name), f"{told['events']:,}", f"{told['inbound']:,}", f"{told['outbound']:,}")
    out.print(rows)
    if known.profile.updates:
        finding.show_profile(known.profile, zone)
    cut = f" · as of {known.as_of}" if known.as_of else ""
    out.print(f"known at position {known.known_at:,}{cut}", style="dim")


def register(app: typer.Typer) -> None:
    """Add `touchlog persons list|show`, and what bin/commands/identity.py and bin/commands/finding.py have."""
    persons = typer.Typer(
        help="Persons: identifiers that belong together, and what happened with them.",
        epilog="Example: touchlog persons list",
        no_args_is_help=True,
    )

    @persons.command("list", epilog="Example: touchlog persons list --limit 200")
    def list_command(
        limit: int = typer.Option(50, min=1, help="At most so many persons."),
        cursor: str | None = typer.Option(None, help="Where the last list ended."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """List persons with their identifiers, first and last contact, and events by channel."""
        from adapters.answers.persons import READ_MODELS, Persons

        settings, zone = data_zone(data)

        async def work(parts: Core) -> PersonsPage:
            asking = Persons(parts.pool, parts.subjects, parts.histories)
            page = await asking.page(limit=limit, cursor=cursor)
            while page.next and len(page.persons) < limit:
                more = await asking.page(limit=limit - len(page.persons), cursor=page.next)
                page = msgspec.structs.replace(more, persons=[*page.persons, *more.persons])
            about = [s["subject"] for person in page.persons for s in person.subjects]
            await on_record(parts, "persons list", about=about, query=None, count=len(page.persons))
            return page

        page = asked(settings, "persons", READ_MODELS, work)
        if json:
            print_json(page)
        else:
            show_list(page, zone)

    @persons.command("show", epilog="Example: touchlog persons show email:ann@example.com --as-of 2026-01-31")
    def show_command(
        ref: str = typer.Argument(
            ..., metavar="REF", help="Who: email:…, phone:+…, crm:…, user:… or a subject id."
        ),
        as_of: str | None = finding.AS_OF_OPTION,
        known_at: str | None = finding.KNOWN_AT_OPTION,
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Tell who a REF names, with all identifiers, profile, first and last contact, and events by channel."""
        known, zone = finding.known_person("persons show", ref, as_of, known_at, data)
        if json:
            print_json(known)
        else:
            show_one(known, zone)

    identity.add_to(persons)
    finding.add_to(persons)
    app.add_typer(persons, name="persons")
