"""What the commands that ask read models share: the parts, caught up with the log; tables; access on record."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import typer

from bin.settings import Settings
from domain.entry import in_zone

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from bin.compose import Core

T = TypeVar("T")
JSON_OPTION = typer.Option(False, "--json", help="Print one JSON object, as HTTP answers.")


def asked(settings: Settings, by: str, models: Sequence[str], work: Callable[[Core], Awaitable[T]]) -> T:
    """Ask the parts of the installation, beside a running serve or alone, once *models* have seen the head."""
    from adapters.embedded import servers
    from adapters.postgres.schema import migrate
    from bin import logs
    from bin.commands.history import catch_up
    from bin.compose import core

    logs.of_command(settings.log_level, part=by)

    async def run(database_url: str) -> T:
        async with core(settings, database_url) as parts:
            return await work(parts)

    with servers(settings, by=by, begins=False) as (database_url, _):
        migrate(database_url)
        catch_up(database_url, models)
        return asyncio.run(run(database_url))


async def on_record(parts: Core, action: str, *, about: Sequence[str], query: str | None, count: int) -> None:
    """Record that personal data is about to be shown."""
    from bin.principal import principal

    await parts.access(principal().key_id, action=action, about=tuple(about), query=query, count=count)


def readable_ref(text: str | None) -> None:
    """Check a REF before anything is started.

    Raises:
        typer.BadParameter: it is none; says how to write one.
    """
    from domain.errors import Invalid
    from domain.identity import parse_ref

    if text is None:
        return
    try:
        parse_ref(text)
    except Invalid as wrong:
        raise typer.BadParameter(wrong.problems[0].detail, param_hint="REF") from None


def print_json(value: Any) -> None:
    """Print one JSON document."""
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def console() -> Console:
    """The terminal, as tables are printed to it."""
    from rich.console import Console

    return Console(highlight=False)


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """A table with these columns, in which no word is broken; those of *right* hold numbers."""
    from bin.commands.fitting import Fitting

    return Fitting(columns, right=right)


def when(text: str | None, zone: ZoneInfo) -> str:
    """A time of an answer in the installation's zone, to the minute."""
    return f"{in_zone(datetime.fromisoformat(text), zone):%Y-%m-%d %H:%M}" if text else "–"


def columns_told(written: int, head: int) -> str:
    """How far the columns stand in files, and who answers for what does not."""
    behind = f"; questions read the {head - written:,} behind from the log" if head > written else ""
    return f"columns: in files up to {written:,}{behind}"


def data_zone(data: Path | None) -> tuple[Settings, ZoneInfo]:
    """The settings, and the zone in which days are cut."""
    settings = Settings.load(data=data)
    return settings, ZoneInfo(settings.timezone)
