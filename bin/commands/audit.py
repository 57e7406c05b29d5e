"""audit: what can be proven about the log: who recorded what, when, and because of what."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING
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

if TYPE_CHECKING:
    from adapters.answers.audit_trail import TrailPage
    from bin.compose import Core


def show(page: TrailPage, zone: ZoneInfo, *, filtered: bool) -> None:
    """Print the trail, or what an empty one means."""
    from rich.markup import escape

    out = console()
    if not page.entries:
        out.print(
            "Nothing was recorded that fits. Leave out --event, --person, --actor, --day or --known-at to see more."
            if filtered
            else "The log is empty. Record something: touchlog ingest --help"
        )
    else:
        rows = table(
            "position",
            f"recorded ({zone.key})",
            "by",
            "type",
            "source",
            "id there",
            "because of",
            right=("position",),
        )
        for entry in page.entries:
            who = entry["principal"] + (f" for {entry['on_behalf_of']}" if entry["on_behalf_of"] else "")
            amended = (
                f" [dim](amended by {', '.join(f'@{p:,}' for p in entry['amended_by'])})[/dim]"
                if entry["amended_by"]
                else ""
            )
            cause = entry["causation"] or (f"import {entry['import'][:8]}" if entry["import"] else "")
            rows.add_row(
                f"{entry['position']:,}",
                when(entry["recorded_at"], zone),
                escape(who),
                escape(entry["type"]) + amended,
                escape(entry["source"]),
                escape(entry["source_id"]),
                escape(cause),
            )
        out.print(rows)
    more = ", there are more: --limit shows them" if page.next else ""
    out.print(
        f"{len(page.entries):,} shown{more} · known at position {page.known_at:,}",
        style="dim",
        soft_wrap=True,
    )


def register(app: typer.Typer) -> None:
    """Add `touchlog audit trail`."""
    audit = typer.Typer(
        help="Audit: who recorded what, and that nothing was altered.",
        epilog="Example: touchlog audit trail --day 2026-01-31",
        no_args_is_help=True,
    )

    @audit.callback()
    def group() -> None:
        """Hold the commands of the group, so that one alone keeps its name."""

    @audit.command(
        "trail", epilog="Example: touchlog audit trail --person email:ann@example.com --known-at @1200"
    )
    def trail_command(
        event: str | None = typer.Option(
            None, metavar="ID|@P", help="One event with what amends it and what it caused."
        ),
        person: str | None = typer.Option(None, metavar="REF", help="Only events of this person."),
        actor: str | None = typer.Option(None, metavar="KEY", help="Only what this key or person recorded."),
        day: str | None = typer.Option(
            None, metavar="D", help="Only what was recorded on this day, e.g. 2026-01-31."
        ),
        as_of: str | None = typer.Option(None, "--as-of", metavar="T|@P", help="What had happened by then."),
        known_at: str | None = typer.Option(
            None, "--known-at", metavar="T|@P", help="As known then: a time, or a position such as @123."
        ),
        limit: int = typer.Option(50, min=1, help="At most so many events."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Tell who recorded what and when, by which key and source, and because of which event; the newest first."""
        from adapters.answers.audit_trail import READ_MODELS, AuditTrails
        from bin.commands.history import happened_by_then, known_at_of

        settings, zone = data_zone(data)
        readable_ref(person)
        happened = None if as_of is None else known_at_of(as_of, zone)
        known_by = None if known_at is None else known_at_of(known_at, zone)
        try:
            of_day = None if day is None else date.fromisoformat(day)
        except ValueError:
            raise typer.BadParameter(f"'{day}' is no day; write 2026-01-31.", param_hint="--day") from None

        async def work(parts: Core) -> TrailPage:
            trails = AuditTrails(parts.pool, parts.histories, zone=zone)
            found: TrailPage | None = None
            while found is None or (found.next and len(found.entries) < limit):
                page = await trails.page(
                    event=event,
                    person=person,
                    actor=actor,
                    day=of_day,
                    as_of=await happened_by_then(parts, happened),
                    known_at=known_by,
                    limit=min(limit - (len(found.entries) if found else 0), 1000),
                    cursor=found.next if found else None,
                )
                before = found.entries if found else []
                found = msgspec.structs.replace(page, entries=[*before, *page.entries])
            await on_record(
                parts,
                "audit trail",
                about=found.about,
                query=person or event or actor or day,
                count=len(found.entries),
            )
            return found

        page = asked(settings, "audit", READ_MODELS, work)
        if json:
            print_json(page)
        else:
            show(page, zone, filtered=any((event, person, actor, day, as_of, known_at)))

    app.add_typer(audit, name="audit")
