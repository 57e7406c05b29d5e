"""persons merge, split, link, why, refused, kinds: who is who, decided and explained."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

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

if TYPE_CHECKING:
    from adapters.answers.identity_why import Refusals, Why
    from adapters.intake.identity_changes import Change, IdentityChanges, Side
    from bin.compose import Core

READ_MODELS = ("contact_history", "identities")
REASON_OPTION = typer.Option(..., "--reason", metavar="TEXT", help="Why; goes on record.")
DRY_RUN_OPTION = typer.Option(False, "--dry-run", help="Only show what it would change.")


def _refs(subjects: list[dict[str, Any]], most: int = 5) -> str:
    from bin.commands.history import shown_ref

    named = [shown_ref(one) for one in subjects]
    more = f"\nand {len(named) - most:,} more" if len(named) > most else ""
    return "\n".join(named[:most]) + more


def _end(end: dict[str, Any]) -> str:
    return str(end["ref"] or f"{end['subject']} (erased)")


def show_change(change: Change, zone: ZoneInfo, ref: str) -> None:
    """Print what a command has changed, or would change."""
    from rich.markup import escape

    out = console()
    verb = {"merge": "Merge", "split": "Split", "link": "Link"}[change.change]
    said = {
        "recorded": f"recorded at position {change.position or 0:,}",
        "duplicate": f"was recorded before, at position {change.position or 0:,}; nothing was added",
        "dry_run": "dry run, nothing was recorded",
    }[change.status]
    out.print(f"{verb}: {said}", style="bold")
    rows = table(
        "", "identifiers", "events", "consents", f"first ({zone.key})", "last", right=("events", "consents")
    )

    def row(name: str, side: Side) -> None:
        rows.add_row(
            name,
            escape(_refs(side.identifiers)),
            f"{side.events:,}",
            f"{side.consents:,}",
            when(side.first_at, zone),
            when(side.last_at, zone),
        )

    row("one side", change.a)
    row("other side", change.b)
    out.print(rows)
    for told in change.told:
        out.print(escape(told), soft_wrap=True)
    if change.undo is not None:
        out.print(
            f"Undo it: touchlog persons split {escape(ref)} --merge {change.undo['merge']} --reason …",
            soft_wrap=True,
        )


def show_why(why: Why, zone: ZoneInfo) -> None:
    """Print why somebody is one person."""
    from rich.markup import escape

    out = console()
    out.print(f"Person {why.person}", style="bold")
    out.print(escape(_refs(why.identifiers, 50)), soft_wrap=True)
    if why.links:
        rows = table(
            f"linked since ({zone.key})", "these two", "stated by", "event", "position", right=("position",)
        )
        for link in why.links:
            first = link["evidence"][0]
            by = (
                f"command of {first['principal']}" if link["stated_by"] == "command" else str(first["source"])
            )
            rows.add_row(
                when(link["since"], zone),
                escape(f"{_end(link['a'])}\n{_end(link['b'])}"),
                escape(by),
                escape(f"{first['type']}\n{first['event_id']}"),
                f"{first['position']:,}",
            )
        out.print(rows)
    else:
        out.print("No link: nothing ever named this identifier together with another.")
    for merge in why.merges:
        stands = "" if merge["stands"] else f", undone at position {merge['undone_by']['position']:,}"
        out.print(
            escape(
                f"Merged {when(merge['since'], zone)}{stands}: {_end(merge['a'])} and {_end(merge['b'])}, by {merge['event']['principal']}: "
                f"{_words(merge['event'])} (event {merge['event']['event_id']})"
            ),
            soft_wrap=True,
        )
    for split in why.splits:
        event = split["event"]
        out.print(
            escape(
                f"Split {when(event['occurred_at'], zone)}: {_end(split['subject'])} taken out, by {event['principal']}: {_words(event)}"
            ),
            soft_wrap=True,
        )
    if why.refused:
        _print_refused(why.refused, zone)
        links = "link concerns" if why.refused_total == 1 else "links concern"
        out.print(f"{why.refused_total:,} refused {links} this person")
    cut = f" · as of {why.as_of}" if why.as_of else ""
    out.print(f"known at position {why.known_at:,}{cut}", style="dim")


def _words(event: dict[str, Any]) -> str:
    reason = event.get("reason")
    return reason if isinstance(reason, str) else "(erased)"


def _print_refused(refused: list[dict[str, Any]], zone: ZoneInfo) -> None:
    from rich.markup import escape

    rows = table(f"refused since ({zone.key})", "these two", "why", "position", right=("position",))
    for one in refused:
        rows.add_row(
            when(one["since"], zone),
            escape(f"{_end(one['a'])}\n{_end(one['b'])}"),
            escape(one["words"]),
            f"{one['position']:,}",
        )
    console().print(rows)


def _change(
    data: Path | None,
    json: bool,
    ref: str,
    others: list[str],
    work: Callable[[IdentityChanges, Any], Awaitable[Change]],
) -> None:
    """Change, with the disclosure of both sides' identifiers on record, and print."""
    from bin.principal import principal

    settings, zone = data_zone(data)

    async def run(parts: Core) -> Change:
        from adapters.intake.identity_changes import IdentityChanges

        changes = IdentityChanges(parts.pool, parts.ingest, parts.histories, parts.subjects)
        change = await work(changes, principal())
        about = [s["subject"] for side in (change.a, change.b) for s in side.identifiers]
        await on_record(
            parts, f"persons {change.change}", about=about, query=" ".join([ref, *others]), count=2
        )
        return change

    change = asked(settings, "persons", READ_MODELS, run)
    if json:
        print_json(change)
    else:
        show_change(change, zone, ref)


def add_to(persons: typer.Typer) -> None:
    """Add `merge|split|link|why|refused|kinds` to `touchlog persons`."""
    _add_changes(persons)
    _add_questions(persons)


def _add_changes(persons: typer.Typer) -> None:

    @persons.command(
        "merge",
        epilog='Example: touchlog persons merge email:ann@example.com crm:42 --reason "same customer" --dry-run',
    )
    def merge_command(
        a: str = typer.Argument(..., metavar="A", help="A REF of the one person."),
        b: str = typer.Argument(..., metavar="B", help="A REF of the other."),
        reason: str = REASON_OPTION,
        dry_run: bool = DRY_RUN_OPTION,
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Join two persons in spite of any guard. A merge is an event: split --merge undoes it exactly."""
        readable_ref(a)
        readable_ref(b)
        _change(data, json, a, [b], lambda c, p: c.merge(a, b, p, reason=reason, dry_run=dry_run))

    @persons.command(
        "split",
        epilog='Example: touchlog persons split email:ann@example.com --merge @123 --reason "two customers"',
    )
    def split_command(
        ref: str = typer.Argument(..., metavar="REF", help="Whose person."),
        merge: str | None = typer.Option(
            None, "--merge", metavar="EVENT", help="Undo this merge: its event's id, or its position as @123."
        ),
        subject: str | None = typer.Option(
            None, "--subject", metavar="S", help="Take this out: a subject id, or a REF."
        ),
        reason: str = REASON_OPTION,
        dry_run: bool = DRY_RUN_OPTION,
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Undo a merge, or take one identifier out of a person for good."""
        readable_ref(ref)
        if (merge is None) == (subject is None):
            raise typer.BadParameter("name one: --merge EVENT, or --subject S", param_hint="--merge")
        if merge is not None:
            undone = merge
            _change(
                data, json, ref, [], lambda c, p: c.undo(undone, p, reason=reason, of=ref, dry_run=dry_run)
            )
            return
        readable_ref(subject)
        leaves = str(subject)
        _change(
            data, json, ref, [leaves], lambda c, p: c.part(ref, leaves, p, reason=reason, dry_run=dry_run)
        )

    @persons.command(
        "link",
        epilog='Example: touchlog persons link email:ann@example.com phone:+442079460123 --reason "told on the phone"',
    )
    def link_command(
        a: str = typer.Argument(..., metavar="A", help="A REF."),
        b: str = typer.Argument(..., metavar="B", help="A REF of the same person."),
        reason: str = REASON_OPTION,
        dry_run: bool = DRY_RUN_OPTION,
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """State that two identifiers are of one person: evidence, which limits and splits may refuse."""
        readable_ref(a)
        readable_ref(b)
        _change(data, json, a, [b], lambda c, p: c.link(a, b, p, reason=reason, dry_run=dry_run))


def _add_questions(persons: typer.Typer) -> None:
    @persons.command("why", epilog="Example: touchlog persons why email:ann@example.com --as-of 2026-01-31")
    def why_command(
        ref: str = typer.Argument(..., metavar="REF", help="Who."),
        as_of: str | None = typer.Option(
            None, "--as-of", metavar="T|@P", help="Only what had happened by then."
        ),
        known_at: str | None = typer.Option(
            None, "--known-at", metavar="T|@P", help="As known then: a time, or a position such as @123."
        ),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Tell why somebody is one person: identifiers, links and their evidence, merges, splits, refused links."""
        from bin.commands.history import happened_by_then, known_at_of

        settings, zone = data_zone(data)
        readable_ref(ref)
        happened_by = None if as_of is None else known_at_of(as_of, zone)
        known_by = None if known_at is None else known_at_of(known_at, zone)

        async def work(parts: Core) -> Why:
            from adapters.answers.identity_why import Whys

            why = await Whys(parts.pool, parts.histories, parts.subjects).why(
                ref, as_of=await happened_by_then(parts, happened_by), known_at=known_by
            )
            await on_record(
                parts, "persons why", about=[s["subject"] for s in why.identifiers], query=ref, count=1
            )
            return why

        why = asked(settings, "persons", READ_MODELS, work)
        if json:
            print_json(why)
        else:
            show_why(why, zone)

    @persons.command("refused", epilog="Example: touchlog persons refused --limit 200")
    def refused_command(
        limit: int = typer.Option(50, min=1, max=1000, help="At most so many links."),
        cursor: str | None = typer.Option(None, help="Where the last list ended."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """List the links that limits or splits refuse, as resolved now, each with its reason."""
        settings, zone = data_zone(data)

        async def work(parts: Core) -> Refusals:
            from adapters.answers.identity_why import Whys

            page = await Whys(parts.pool, parts.histories, parts.subjects).refused(limit=limit, cursor=cursor)
            about = list(dict.fromkeys(end["subject"] for r in page.refused for end in (r["a"], r["b"])))
            await on_record(parts, "persons refused", about=about, query=None, count=len(page.refused))
            return page

        page = asked(settings, "persons", READ_MODELS, work)
        if json:
            print_json(page)
            return
        if not page.refused:
            console().print("No link is refused.")
            return
        _print_refused(page.refused, zone)
        more = f", there are more: --cursor {page.next}" if page.next else ""
        console().print(
            f"{len(page.refused):,} of {page.total:,} refused links{more} · at position {page.head:,}. "
            "A merge joins in spite of it: touchlog persons merge --help",
            style="dim",
            soft_wrap=True,
        )

    @persons.command("kinds", epilog="Example: touchlog persons kinds")
    def kinds_command(data: Path | None = DATA_OPTION, json: bool = JSON_OPTION) -> None:
        """Show what holds for each kind of identifier: priority, limit, namespace, reference."""
        del data  # the same in every installation
        from adapters.answers.identity_why import kinds_table

        kinds = kinds_table()
        if json:
            print_json(kinds)
            return
        rows = table(
            "kind",
            "priority",
            "values by evidence",
            "namespaces",
            "",
            right=("priority", "values by evidence"),
        )
        for one in kinds.kinds:
            rows.add_row(
                one["kind"],
                str(one["priority"]),
                "–" if one["limit"] is None else f"{one['limit']:,}",
                "yes" if one["namespace"] else "",
                "a reference: joins nobody" if one["reference"] else "",
            )
        console().print(rows)
