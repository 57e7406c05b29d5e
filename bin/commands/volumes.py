"""volumes: how much came over each channel, day by day or hour by hour."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import typer

from bin.commands.reading import JSON_OPTION, asked, console, data_zone, print_json, table, when
from bin.settings import DATA_OPTION
from domain.units import count

if TYPE_CHECKING:
    from adapters.answers.volumes import VolumesAnswer
    from bin.compose import Core


def show(answer: VolumesAnswer, zone: ZoneInfo) -> None:
    """Print a table of volumes, or what an empty one means."""
    from rich.markup import escape

    out = console()
    if not answer.rows:
        out.print(
            "Nothing happened then, or nothing that fits. Widen --from and --to, leave out the filters, or record something: touchlog ingest --help",
            soft_wrap=True,
        )
        return
    titles = [f"{b} ({zone.key})" if b in ("day", "hour") else b for b in answer.by]
    rows = table(*titles, "events", right=("events",))
    for row in answer.rows:
        shown = [when(row[b], zone) if b == "hour" else str(row[b]) or "(none)" for b in answer.by]
        rows.add_row(*map(escape, shown), f"{row['events']:,}")
    out.print(rows)
    span = f" · from {when(answer.from_, zone)}" if answer.from_ else ""
    span += f" · to {when(answer.to, zone)}" if answer.to else ""
    span += f" · as of {when(answer.as_of, zone)}" if answer.as_of else ""
    out.print(
        f"{count(answer.events, 'event')}{span} · known at position {answer.known_at:,}",
        style="dim",
        soft_wrap=True,
    )


def register(app: typer.Typer) -> None:
    """Add `touchlog volumes`."""

    @app.command(
        "volumes", epilog="Example: touchlog volumes --from 2026-01-01 --to 2026-02-01 --by day,channel"
    )
    def volumes_command(
        from_: str | None = typer.Option(
            None, "--from", metavar="T", help="From this time on; a date is its begin."
        ),
        to: str | None = typer.Option(
            None, "--to", metavar="T", help="Before this time; a date is its begin."
        ),
        by: str = typer.Option(
            "day",
            metavar="day|hour|channel|type|direction",
            help="By what; several with commas, e.g. day,channel.",
        ),
        channel: str | None = typer.Option(None, help="Only this channel."),
        type: str | None = typer.Option(None, help="Only this type, e.g. call.ended."),
        direction: str | None = typer.Option(None, help="inbound, outbound or internal."),
        as_of: str | None = typer.Option(None, "--as-of", metavar="T|@P", help="What had happened by then."),
        known_at: str | None = typer.Option(
            None, "--known-at", metavar="T|@P", help="What was known by then: a time, or a position."
        ),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Tell how many events happened, by day or hour of the installation's time zone, channel, type and direction."""
        from adapters.answers.volumes import READ_MODELS, READ_MODELS_OF_A_MOMENT, Volumes
        from bin.commands.history import happened_by_then, known_at_of, moment_of
        from domain.errors import Invalid

        settings, zone = data_zone(data)

        def time_of(text: str | None) -> datetime | None:
            return None if text is None else moment_of(text, zone, ends=False)

        begin, end = time_of(from_), time_of(to)
        happened = None if as_of is None else known_at_of(as_of, zone)
        known = None if known_at is None else known_at_of(known_at, zone)

        async def work(parts: Core) -> VolumesAnswer:
            wanted = [b.strip() for b in by.split(",") if b.strip()]
            try:
                return await Volumes(parts.pool, parts.histories, zone=zone).of(
                    by=wanted,
                    from_=begin,
                    to=end,
                    channel=channel,
                    type_=type,
                    direction=direction,
                    as_of=await happened_by_then(parts, happened),
                    known_at=known,
                )
            except Invalid as wrong:
                raise typer.BadParameter(
                    wrong.problems[0].detail, param_hint="--" + wrong.problems[0].pointer[1:]
                ) from None

        answer = asked(settings, "volumes", (*READ_MODELS, *READ_MODELS_OF_A_MOMENT), work)
        if json:
            print_json(answer)
        else:
            show(answer, zone)
