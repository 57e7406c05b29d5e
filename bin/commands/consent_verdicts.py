"""consent verdicts, consent changes: what was said of a message and by a report, when, and why it has changed."""

from __future__ import annotations

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
    table,
    when,
)
from bin.settings import DATA_OPTION
from domain.units import count

if TYPE_CHECKING:
    from adapters.consent.ledger import Changes, MessageVerdicts
    from bin.compose import Core

__all__ = ["MODELS", "add"]

MODELS = ("consent", "identities", "verdicts")


def _said(verdict: str | None, reason: str | None) -> str:
    told = (verdict or "not judged").replace("_", " ")
    return f"{told}: {reason.replace('_', ' ')}" if reason else told


def _late(one: dict[str, Any]) -> str:
    from domain.units import span

    return f", {span(one['late_s'])} late" if one["late_s"] >= 60 else ""


def _event(one: dict[str, Any], zone: ZoneInfo) -> str:
    about = f" of {one['purpose']}" if one["purpose"] else ""
    return (
        f"@{one['position']:,} {one['type']}{about}: took effect {when(one['occurred_at'], zone)}, "
        f"told {when(one['recorded_at'], zone)}{_late(one)} ({one['source']} {one['id']})"
    )


def show_verdicts(found: MessageVerdicts, zone: ZoneInfo) -> None:
    """Print what was said of a message."""
    from rich.markup import escape

    out = console()
    message = found.message
    out.print(
        escape(
            f"{message['source']} {message['id']}: {message['type']} @{message['position']:,}, handed over "
            f"{when(message['sent_at'], zone)}, {message['purpose'] or 'no purpose told'} by {message['channel']}"
        ),
        soft_wrap=True,
    )
    if not found.verdicts:
        out.print(f"Not judged yet; the judge is at position {found.known_at:,}. Ask again in a moment.")
    for one in found.verdicts:
        out.print(
            f"[bold]{escape(_said(one['verdict'], one['reason']))}[/bold]  as known from @{one['known_at']:,} on, "
            f"recorded {when(one['recorded_at'], zone)}, by {' '.join(f'@{p:,}' for p in one['evidence']) or 'no fact'}",
            soft_wrap=True,
        )
        if one["because"] and one["supersedes"]:
            out.print(escape(f"  because of {_event(one['because'], zone)}"), soft_wrap=True)


def show_changes(found: Changes, zone: ZoneInfo) -> None:
    """Print how a report differs from what it said."""
    from rich.markup import escape

    out = console()
    if not (found.said or found.says):
        out.print("Nothing went out in this span. Take a longer one.")
        return
    counts = table("verdict", "said then", "says now", right=("said then", "says now"))
    for name in sorted({*found.said, *found.says}):
        counts.add_row(name.replace("_", " "), f"{found.said.get(name, 0):,}", f"{found.says.get(name, 0):,}")
    out.print(counts)
    if not found.changed:
        out.print("The report says what it said.")
    else:
        out.print(
            f"{count(found.changed, 'message')} {'is' if found.changed == 1 else 'are'} judged otherwise, because of what was learnt since:"
        )
        for one in found.because:
            out.print(
                escape(f"  {_event(one, zone)} → {one['verdicts']:,} verdict{'s' * (one['verdicts'] != 1)}"),
                soft_wrap=True,
            )
        rows = table(f"sent ({zone.key})", "message", "said then", "says now", "because of", "event id")
        for one in found.changes:
            rows.add_row(
                when(one["sent_at"], zone),
                escape(f"{one['source']} {one['id']}"),
                _said(one["said"]["verdict"], one["said"]["reason"]) if one["said"] else "not recorded yet",
                _said(one["says"]["verdict"], one["says"]["reason"]) if one["says"] else "taken back",
                " ".join(f"@{p:,}" for p in one["because"]),
                one["event_id"],
            )
        out.print(rows)
        if found.more:
            out.print("There are more; --limit lists them.", style="dim")
    out.print(
        f"Said at position {found.said_at:,} · known at position {found.known_at:,}",
        style="dim",
        soft_wrap=True,
    )


def add(consent: typer.Typer) -> None:
    """Add `touchlog consent verdicts|changes`."""

    @consent.command(
        "verdicts", epilog="Example: touchlog consent verdicts 0b1c2d3e-4f50-8617-8293-a4b5c6d7e8f9"
    )
    def verdicts_command(
        event: str = typer.Argument(
            metavar="EVENT",
            help="The event id of a message that went out, as `consent breaches --json` lists it.",
        ),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Tell every verdict on a message, the oldest first: what was said when, and which event changed it."""
        from adapters.consent.ledger import Ledger
        from bin.processes.judging import judged_once

        settings, zone = data_zone(data)

        async def work(parts: Core) -> MessageVerdicts:
            await judged_once(parts)
            found = await Ledger(parts.pool, parts.histories).of(event)
            about = [found.message["person"]] if found.message["person"] else []
            await on_record(parts, "consent verdicts", about=about, query=event, count=len(found.verdicts))
            return found

        found = asked(settings, "consent", MODELS, work)
        if json:
            print_json(found)
        else:
            show_verdicts(found, zone)

    @consent.command(
        "changes",
        epilog="Example: touchlog consent changes --from 2026-10-01 --to 2026-11-01 --said-at 2026-11-05",
    )
    def changes_command(
        begin: str = typer.Option(..., "--from", metavar="T", help="The first day or instant of sending."),
        end: str = typer.Option(..., "--to", metavar="T", help="The first day or instant behind the span."),
        said_at: str = typer.Option(
            ...,
            "--said-at",
            metavar="T|@P",
            help="When the report was read: a day (its end), a time, or @123.",
        ),
        known_at: str | None = typer.Option(
            None, "--known-at", metavar="T|@P", help="The later moment; now by default."
        ),
        limit: int = typer.Option(50, min=1, help="List so many messages; all are counted."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Tell what the report of breaches said before, what it says now, and which late facts have changed it."""
        from adapters.consent.ledger import Ledger
        from bin.commands.history import known_at_of, moment_of
        from bin.processes.judging import judged_once

        settings, zone = data_zone(data)
        first, behind = moment_of(begin, zone, ends=False), moment_of(end, zone, ends=False)
        then = known_at_of(said_at, zone)
        now = None if known_at is None else known_at_of(known_at, zone)

        async def work(parts: Core) -> Changes:
            await judged_once(parts)
            found = await Ledger(parts.pool, parts.histories).changes(
                first, behind, said_at=then, known_at=now, limit=limit
            )
            about = list(dict.fromkeys(one["person"] for one in found.changes if one["person"]))
            query = f"{begin} {end} {said_at}"
            await on_record(parts, "consent changes", about=about, query=query, count=len(found.changes))
            return found

        found = asked(settings, "consent", MODELS, work)
        if json:
            print_json(found)
        else:
            show_changes(found, zone)
