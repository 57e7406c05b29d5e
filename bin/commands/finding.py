"""persons find, profile, duplicates: whom a text names, what is known of somebody, and who may be one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
import typer

from bin.commands.reading import (
    JSON_OPTION,
    asked,
    console,
    data_zone,
    on_record,
    print_json,
    readable_ref,
    table,
    when,
)
from bin.settings import DATA_OPTION
from domain.units import count

if TYPE_CHECKING:
    from adapters.answers.duplicates import DuplicatesPage, Progress, Side
    from adapters.answers.finding import FoundPage
    from adapters.answers.persons import Known
    from adapters.answers.profiles import Profile
    from bin.compose import Core

TRAITS_SHOWN = 100
"""Traits that the terminal shows: a profile may have any number of them."""
AS_OF_OPTION = typer.Option(None, "--as-of", metavar="T|@P", help="Only what had happened by then.")
KNOWN_AT_OPTION = typer.Option(
    None, "--known-at", metavar="T|@P", help="As known then: a time, or a position such as @123."
)


def refs(subjects: Sequence[Mapping[str, Any]], most: int = 3) -> str:
    """Identifiers as REFs, one a line, the first *most* of them."""
    from bin.commands.history import shown_ref

    more = f"\nand {len(subjects) - most:,} more" if len(subjects) > most else ""
    return "\n".join(shown_ref(dict(subject)) for subject in subjects[:most]) + more


def trait_value(value: Any) -> str:
    """The value of a trait in one line."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and all(not isinstance(v, dict | list) for v in value.values()):
        return ", ".join(str(v) for v in value.values() if v not in (None, ""))
    return msgspec.json.encode(value).decode()


def show_profile(profile: Profile, zone: ZoneInfo) -> None:
    """Print traits with their provenance, or that there are none."""
    from rich.markup import escape

    out = console()
    if profile.traits:
        rows = table("trait", "value", f"since ({zone.key})", "said by", "position", right=("position",))
        for name, trait in islice(profile.traits.items(), TRAITS_SHOWN):
            rows.add_row(
                escape(name),
                escape(trait_value(trait.value)),
                when(trait.occurred_at, zone),
                escape(trait.source),
                f"{trait.position:,}",
            )
        out.print(rows)
        if (more := len(profile.traits) - TRAITS_SHOWN) > 0:
            out.print(f"… and {more:,} more traits; --json gives all.", style="dim")
    elif not profile.updates:
        out.print("No profile is known: no profile.updated names this person.", style="dim")
    if profile.erased_updates:
        out.print(f"{profile.erased_updates:,} of {profile.updates:,} updates were erased.", style="dim")


def show_found(page: FoundPage, text: str) -> None:
    """Print whom a text names, or how to look on."""
    from rich.markup import escape

    out = console()
    if not page.persons:
        out.print(
            f"Nobody is known as “{escape(text)}”. Identifiers are looked up whole, names also by the first three letters of a word or more; "
            "a phone number needs its country code, a namespace or a kind of your own is written as REF: user@shop:1.",
            soft_wrap=True,
        )
        return
    rows = table("person", "name", "identifiers", "found by")
    for one in page.persons:
        rows.add_row(
            one.id, escape(one.name or "–"), escape(refs(one.subjects)), one.matched.replace("_", " ")
        )
    out.print(rows)
    more = f", there are more: --cursor {page.next}" if page.next else ""
    out.print(f"{len(page.persons):,} found{more} · at position {page.head:,}", style="dim", soft_wrap=True)


def show_duplicates(page: DuplicatesPage) -> None:
    """Print pairs with their reasons, the likeliest first."""
    from rich.markup import escape

    out = console()
    if not page.pairs:
        out.print(
            f"No two persons look like one: {count(page.candidates, 'pair')} {'shares' if page.candidates == 1 else 'share'} something, none enough to be listed."
        )
    for pair in page.pairs:
        out.print(
            f"[bold]{pair.score:.2f}[/bold]  {_called(pair.a)}  [dim]and[/dim]  {_called(pair.b)}",
            soft_wrap=True,
        )
        for reason in pair.reasons:
            sign = f"× {reason.weight:.2f}  against:" if reason.against else f"+ {reason.weight:.2f} "
            out.print(f"      {sign} {reason.what.replace('_', ' ')}: {escape(reason.told)}", soft_wrap=True)
        out.print(f"      [dim]{escape(pair.merge)}[/dim]\n", soft_wrap=True)
    large = (
        f" · {count(page.left_out, 'thing')} that more than 50 persons share {'was' if page.left_out == 1 else 'were'} left out"
        if page.left_out
        else ""
    )
    out.print(
        f"{count(len(page.pairs), 'pair')} shown · {page.compared:,} of {count(page.candidates, 'candidate')} compared{large} · at position {page.head:,}\n"
        "Nothing is merged by this list.",
        style="dim",
        soft_wrap=True,
    )


def _called(side: Side) -> str:
    from rich.markup import escape

    from bin.commands.history import shown_ref

    first = [shown_ref(subject) for subject in side.subjects[:2]]
    more = f" +{len(side.subjects) - 2}" if len(side.subjects) > 2 else ""
    return escape(f"{side.name or '–'} ({', '.join(first)}{more})")


@contextmanager
def on_terminal(*, quiet: bool) -> Iterator[Progress]:
    """Progress on standard error while something takes long; silent where nobody looks."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    screen = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=screen,
        transient=True,
        disable=quiet or not screen.is_terminal,
    ) as bars:
        tasks: dict[str, Any] = {}

        def told(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=of)
            bars.update(tasks[what], completed=done, total=of)

        yield told


def known_person(
    action: str, ref: str, as_of: str | None, known_at: str | None, data: Path | None
) -> tuple[Known, ZoneInfo]:
    """The person whom *ref* names at one moment, with the installation's zone; the look is on record.

    Raises:
        typer.BadParameter: a REF or time that is none.
    """
    from adapters.answers.persons import READ_MODELS, Persons
    from bin.commands.history import happened_by_then, known_at_of

    settings, zone = data_zone(data)
    readable_ref(ref)
    happened_by = None if as_of is None else known_at_of(as_of, zone)
    known_by = None if known_at is None else known_at_of(known_at, zone)

    async def work(parts: Core) -> Known:
        known = await Persons(parts.pool, parts.subjects, parts.histories).one(
            ref, as_of=await happened_by_then(parts, happened_by), known_at=known_by
        )
        await on_record(parts, action, about=[s["subject"] for s in known.subjects], query=ref, count=1)
        return known

    return asked(settings, "persons", READ_MODELS, work), zone


def add_to(persons: typer.Typer) -> None:
    """Add find, profile and duplicates to `touchlog persons`."""

    @persons.command("find", epilog="Example: touchlog persons find 'müller'")
    def find_command(
        text: str = typer.Argument(
            ...,
            metavar="TEXT",
            help="A REF, an e-mail, phone, card, customer, order or case number, or words of a name.",
        ),
        limit: int = typer.Option(20, min=1, max=200, help="At most so many persons."),
        cursor: str | None = typer.Option(None, help="Where the last list ended."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Find persons by any identifier, or by words of a name or their beginnings, without case and accents."""
        from adapters.answers.finding import READ_MODELS, Finding

        settings, _ = data_zone(data)

        async def work(parts: Core) -> FoundPage:
            finding = Finding(parts.pool, parts.keys, parts.histories, region=settings.phone_region)
            with on_terminal(quiet=json) as tell:
                page = await finding.page(
                    text,
                    limit=limit,
                    cursor=cursor,
                    within_s=None,
                    progress=lambda done, of: tell("reading profiles", done, of),
                )
            about = [s["subject"] for person in page.persons for s in person.subjects]
            await on_record(parts, "persons find", about=about, query=text, count=len(page.persons))
            return page

        page = asked(settings, "persons", READ_MODELS, work)
        if json:
            print_json(page)
        else:
            show_found(page, text)
        if not page.persons:
            raise typer.Exit(1)

    @persons.command(
        "profile", epilog="Example: touchlog persons profile email:ann@example.com --known-at @120"
    )
    def profile_command(
        ref: str = typer.Argument(
            ..., metavar="REF", help="Who: email:…, phone:+…, crm:…, user:… or a subject id."
        ),
        as_of: str | None = AS_OF_OPTION,
        known_at: str | None = KNOWN_AT_OPTION,
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Tell what is known of a person: each trait as it was said last, by whom and when."""
        known, zone = known_person("persons profile", ref, as_of, known_at, data)
        if json:
            print_json(
                {
                    "id": known.id,
                    "profile": known.profile,
                    "as_of": known.as_of,
                    "known_at": known.known_at,
                    "head": known.head,
                }
            )
            return
        console().print(f"Person {known.id}", style="bold")
        show_profile(known.profile, zone)
        cut = f" · as of {known.as_of}" if known.as_of else ""
        console().print(f"known at position {known.known_at:,}{cut}", style="dim")

    @persons.command("duplicates", epilog="Example: touchlog persons duplicates --limit 20")
    def duplicates_command(
        limit: int = typer.Option(50, min=1, max=1000, help="At most so many pairs, the likeliest first."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """List persons that may be one, each pair with its reasons and a score; nothing is merged."""
        from adapters.answers.duplicates import READ_MODELS, Duplicates

        settings, _ = data_zone(data)

        async def work(parts: Core) -> DuplicatesPage:
            asking = Duplicates(
                parts.pool, parts.keys, parts.subjects, parts.histories, region=settings.phone_region
            )
            with on_terminal(quiet=json) as progress:
                page = await asking.page(
                    await asking.candidates(progress=progress), limit=limit, progress=progress
                )
            about = list(
                dict.fromkeys(
                    s["subject"] for pair in page.pairs for side in (pair.a, pair.b) for s in side.subjects
                )
            )
            await on_record(parts, "persons duplicates", about=about, query=None, count=len(page.pairs))
            return page

        page = asked(settings, "persons", READ_MODELS, work)
        if json:
            print_json(page)
        else:
            show_duplicates(page)
