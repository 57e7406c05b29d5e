"""history: everything that happened with one person, newest first, over all channels."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import msgspec
import typer

from bin.settings import DATA_OPTION, Settings

if TYPE_CHECKING:
    from adapters.answers.history import Filters, Page
    from adapters.answers.identities import Person
    from bin.compose import Core

_POSITION = re.compile(r"@(\d{1,18})\Z")
_ARROWS = {"inbound": "→", "outbound": "←", "internal": "·"}
"""Seen from the company: towards us, from us, within."""
# Okabe and Ito's colours for the colour-blind; the word stands beside each, so none is needed.
_COLOURS = {
    "phone": "#0072B2",
    "email": "#E69F00",
    "chat": "#56B4E9",
    "sms": "#56B4E9",
    "web": "#009E73",
    "shop": "#CC79A7",
    "store": "#CC79A7",
    "case": "#D55E00",
}


def moment_of(text: str, zone: ZoneInfo, *, ends: bool = True) -> datetime:
    """Read a time: RFC 3339, or a date or local time in the installation's zone.

    Args:
        ends: a date stands for its last microsecond; False: for its first.

    Raises:
        typer.BadParameter: it is no time; says how to write one.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"'{text}' is no time; write 2026-01-31, 2026-01-31T12:00 or 2026-01-31T12:00:00Z."
        ) from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=zone)
        if len(text) == 10 and ends:  # a whole day has happened by its end
            last = at + (timedelta(days=1) - timedelta(microseconds=1))
            at = last.replace(fold=1)  # where clocks go back at midnight, the second of two
    try:
        return at.astimezone(UTC)
    except OverflowError:  # within the first or last day of the calendar
        raise typer.BadParameter(f"'{text}' lies outside the years 1 to 9999 in UTC.") from None


def known_at_of(text: str, zone: ZoneInfo) -> datetime | int:
    """Read what --known-at and --as-of take: a time, or a position as `@123`."""
    if found := _POSITION.match(text):
        return int(found[1])
    return moment_of(text, zone)


async def happened_by_then(parts: Core, asked: datetime | int | None) -> datetime | None:
    """The cut that --as-of names; a position stands for the time at which it was recorded, as over HTTP.

    Raises:
        typer.BadParameter: the position is not in the log.
    """
    from domain.errors import Invalid

    if not isinstance(asked, int):
        return asked
    try:
        return await parts.histories.moments.recorded_at(asked, "/as_of")
    except Invalid as wrong:
        raise typer.BadParameter(wrong.problems[0].detail, param_hint="--as-of") from None


async def ask(
    settings: Settings,
    database_url: str,
    ref: str,
    *,
    as_of: datetime | int | None,
    known_at: datetime | int | None,
    only: Filters,
    limit: int,
) -> tuple[Page, Person]:
    """Ask for the history, page by page, and who the person is at that moment; the disclosure is on record first."""
    from bin.compose import core
    from bin.principal import principal

    async with core(settings, database_url) as parts:
        happened = await happened_by_then(parts, as_of)
        page = await parts.histories.page(
            ref,
            as_of=happened,
            known_at=known_at,
            only=only,
            limit=min(limit, 1000),
        )
        entries = list(page.entries)
        following = page.next
        while following and len(entries) < limit:
            more = await parts.histories.page(
                ref,
                as_of=happened,
                known_at=known_at,
                only=only,
                limit=min(limit - len(entries), 1000),
                cursor=following,
            )
            entries += more.entries
            following = more.next
        page = msgspec.structs.replace(page, entries=entries, next=following)
        person = await parts.histories.identities.person(ref, as_of=happened, known_at=page.known_at)
        about = tuple(str(subject["subject"]) for subject in person.subjects)
        asked = f"{ref} {only.q}" if only.q else ref
        await parts.access(principal().key_id, action="history", about=about, query=asked, count=len(entries))
    return page, person


def catch_up(database_url: str, models: Sequence[str] = ()) -> None:
    """Bring the read models (those of histories, unless told) to the head where no serve does; a running projector is left alone."""
    import psycopg

    from adapters.answers.moments import READ_MODELS
    from bin.compose import project_once

    models = models or READ_MODELS

    with psycopg.connect(database_url, autocommit=True) as conn:
        row = conn.execute(
            "SELECT (SELECT position FROM touchpoint_log.head), min(position), count(*) "
            "FROM touchlog.projections WHERE name = ANY(%s) AND state = 'live'",
            (list(models),),
        ).fetchone()
    if row is not None and (row[2] < len(models) or row[1] < row[0]):
        project_once(database_url)


def shown_ref(subject: dict[str, Any]) -> str:
    """A subject as a REF; an erased one says so."""
    namespace = f"@{subject['namespace']}" if subject["namespace"] else ""
    return f"{subject['kind']}{namespace}:{subject['value'] if subject['value'] is not None else '(erased)'}"


def belongs(entry: dict[str, Any]) -> str:
    """What order, case or conversation an entry is part of, unless its headline says so."""
    found = {**entry.get("belongs_to", {})}
    return ", ".join(
        f"{name.removesuffix('_id').replace('_', ' ')} {value}"
        for name, value in found.items()
        if str(value) not in entry["headline"]
    )


def render(page: Page, person: Person, *, ref: str, zone: ZoneInfo, filtered: bool) -> None:
    """Print the history for a person to read."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    out = Console(highlight=False)
    identifiers = [shown_ref(subject) for subject in person.subjects]
    out.print(Text(identifiers[0] if identifiers else ref, style="bold"), soft_wrap=True)
    if len(identifiers) > 1:
        out.print(Text("also " + ", ".join(identifiers[1:]), style="dim"), soft_wrap=True)
    out.print()
    if not page.entries:
        said = "Nothing matches these cuts and filters. Leave some of them out to see more."
        out.print(
            said
            if filtered
            else "Nothing has happened with this person yet. Record something: touchlog ingest --help"
        )
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    for entry in page.entries:
        table.add_row(*cells(entry, zone, escape))
    out.print(table)
    out.print()
    out.print(Text(footer(page, zone), style="dim"), soft_wrap=True)


def cells(entry: dict[str, Any], zone: ZoneInfo, escape: Any) -> tuple[str, str, str, str]:
    """When, channel, direction, and what happened, as one row."""
    at = datetime.fromisoformat(entry["occurred_at"]).astimezone(zone)
    colour = _COLOURS.get(entry["channel"])
    channel = escape(entry["channel"])
    words = [escape(entry["headline"])]
    # What the headline says already is not said again.
    told = entry["headline"].casefold()
    outcome = entry.get("outcome")
    if outcome and str(outcome).replace("_", " ").casefold() not in told:
        words.append(escape(str(outcome).replace("_", " ")))
    handled = entry.get("handled_by")
    if handled and str(handled).casefold() not in told:
        words.append(f"[dim]by {escape(str(handled))}[/dim]")
    if part_of := belongs(entry):
        words.append(f"[dim]{escape(part_of)}[/dim]")
    if entry.get("future"):
        words.append("[dim](in the future)[/dim]")
    text = " · ".join(words)
    for line in corrected(entry, zone):
        text += f"\n[dim italic]{escape(line)}[/]"
    return (
        at.strftime("%Y-%m-%d %H:%M"),
        f"[{colour}]{channel}[/]" if colour else channel,
        _ARROWS.get(entry["direction"] or "", " "),
        text,
    )


def corrected(entry: dict[str, Any], zone: ZoneInfo) -> list[str]:
    """Who corrected an entry, when, and which fields: one line for each correction, in the order in which they apply."""
    lines = []
    for one in entry.get("corrections", ()):
        at = datetime.fromisoformat(one["at"]).astimezone(zone)
        fields = (
            ", ".join(f.removeprefix("data.").replace("_", " ") for f in one["fields"])
            or "fields unknown (erased)"
        )
        why = f" ({one['reason']})" if one.get("reason") else ""
        lines.append(f"✎ corrected {at:%Y-%m-%d %H:%M} by {one['principal']}: {fields}{why}")
    return lines


def footer(page: Page, zone: ZoneInfo) -> str:
    """What the answer rests on, so that it can be asked again."""
    parts = [f"{len(page.entries):,} shown" + (", there are more: --limit shows them" if page.next else "")]
    parts.append(f"known at position {page.known_at:,}")
    if page.as_of:
        parts.append(f"as of {page.as_of}")
    parts.append(f"head {page.head:,}")
    parts.append(f"times in {zone.key}")
    return " · ".join(parts)


def register(app: typer.Typer) -> None:
    """Add `touchlog history`."""

    @app.command("history", epilog="Example: touchlog history email:ann@example.com --as-of 2026-01-31")
    def history_command(
        ref: str = typer.Argument(
            ..., metavar="REF", help="Who: email:…, phone:+…, crm:…, user:… or a subject id."
        ),
        as_of: str | None = typer.Option(
            None, "--as-of", metavar="T|@P", help="Only what had happened by then."
        ),
        known_at: str | None = typer.Option(
            None,
            "--known-at",
            metavar="T|@P",
            help="Only what was known by then, a time or a position such as @123.",
        ),
        channel: str | None = typer.Option(None, help="Only this channel."),
        direction: str | None = typer.Option(None, help="inbound, outbound or internal."),
        type: str | None = typer.Option(None, help="Only this type, e.g. order.placed."),
        since: str | None = typer.Option(
            None, metavar="T", help="Only what happened from this time on; a date is its begin."
        ),
        until: str | None = typer.Option(
            None, metavar="T", help="Only what happened before this time; a date is its begin."
        ),
        q: str | None = typer.Option(
            None, "--q", metavar="TEXT", help="Only entries whose headline or data hold this text."
        ),
        limit: int = typer.Option(50, min=1, help="At most so many entries."),
        data: Path | None = DATA_OPTION,
        json: bool = typer.Option(
            False, "--json", help="Print one JSON object, as GET /v1/persons/{ref}/history answers."
        ),
    ) -> None:
        """Tell everything that happened with one person, newest first."""
        from adapters.answers.history import Filters
        from adapters.embedded import servers
        from adapters.postgres.schema import migrate
        from bin import logs
        from domain.errors import Invalid
        from domain.identity import parse_ref

        settings = Settings.load(data=data)
        logs.of_command(settings.log_level, part="history")
        zone = ZoneInfo(settings.timezone)
        happened_by = None if as_of is None else known_at_of(as_of, zone)
        known_by = None if known_at is None else known_at_of(known_at, zone)
        only = Filters(
            channel=channel,
            direction=direction,
            type_=type,
            since=None if since is None else moment_of(since, zone, ends=False),
            until=None if until is None else moment_of(until, zone, ends=False),
            q=q or None,
        )
        try:
            parse_ref(ref)
        except Invalid as wrong:
            raise typer.BadParameter(wrong.problems[0].detail, param_hint="REF") from None
        try:
            only.check()
        except Invalid as wrong:
            hint = "--" + wrong.problems[0].pointer[1:]
            raise typer.BadParameter(wrong.problems[0].detail, param_hint=hint) from None
        with servers(settings, by="history", begins=False) as (database_url, _):
            migrate(database_url)
            catch_up(database_url)
            page, person = asyncio.run(
                ask(
                    settings,
                    database_url,
                    ref,
                    as_of=happened_by,
                    known_at=known_by,
                    only=only,
                    limit=limit,
                )
            )
        if json:
            print_page(page, person.subjects)
        else:
            render(page, person, ref=ref, zone=zone, filtered=bool(as_of or known_at or q or only.stored))


def print_page(page: Page, subjects: Sequence[dict[str, Any]]) -> None:
    """Print the answer as the HTTP route gives it, with the person's identifiers beside it."""
    import orjson

    answer = {**msgspec.to_builtins(page), "subjects": list(subjects)}
    typer.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode())
