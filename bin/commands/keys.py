"""keys: API keys are made, listed and revoked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import typer

from bin.commands.reading import data_zone
from bin.settings import DATA_OPTION, Settings
from domain.entry import in_zone

if TYPE_CHECKING:
    from adapters.postgres.api_keys import ApiKey

T = TypeVar("T")
SOURCE_OPTION = typer.Option(
    [], help="Of an adapter: a source it may append from; * at the end stands for all that begin so."
)
JSON_OPTION = typer.Option(False, "--json", help="Print JSON.")


def show(found: Sequence[ApiKey], zone: ZoneInfo) -> None:
    """Print a table of keys, in times of the installation's zone."""

    def when(at: datetime | None) -> str:
        return f"{in_zone(at, zone):%Y-%m-%d %H:%M}" if at else "-"

    rows = [("id", "role", "sources", "name", f"made ({zone.key})", "revoked")]
    rows += [
        (
            key.key_id,
            key.role,
            ", ".join(key.sources) or "-",
            key.name or "-",
            when(key.created_at),
            when(key.revoked_at),
        )
        for key in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def register(app: typer.Typer) -> None:
    """Add `touchlog keys add|list|revoke`."""
    keys = typer.Typer(
        help="API keys: who may append, and who may ask.",
        epilog="Example: touchlog keys add --role adapter --source shop",
        no_args_is_help=True,
    )

    @keys.command(
        "add", epilog="Example: touchlog keys add --role adapter --source 'tills/*' --name 'tills of London'"
    )
    def add_command(
        role: str = typer.Option(..., help="adapter (appends), agent, analyst, officer or admin (all)."),
        source: list[str] = SOURCE_OPTION,
        name: str = typer.Option("", help="What it is for, for people."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Make a key and print it: the only time that it is seen."""
        from domain.errors import Invalid

        try:
            made = _with_keys(
                Settings.load(data=data),
                lambda keys: keys.add(role, sources=source, name=name),
                "keys add",
                lambda made: ("key.added", {"key_id": made.key_id, "role": role, "sources": source}),
            )
        except Invalid as wrong:  # exit 2: the command was put wrongly
            raise typer.BadParameter(" ".join(p.detail for p in wrong.problems)) from None
        if json:
            _print({"key_id": made.key_id, "key": made.key, "role": role, "sources": source, "name": name})
        else:
            typer.echo(made.key)
            typer.echo("Keep it now: it is not shown again.", err=True)

    @keys.command("list", epilog="Example: touchlog keys list --json")
    def list_command(data: Path | None = DATA_OPTION, json: bool = JSON_OPTION) -> None:
        """List all keys, revoked ones too; the keys themselves are known to nobody."""
        settings, zone = data_zone(data)
        found = _with_keys(settings, lambda keys: keys.list(), "keys list")
        if json:
            _print(found)
            return
        show(found, zone)

    @keys.command("revoke", epilog="Example: touchlog keys revoke tl_1a2b3c4d")
    def revoke_command(
        key: str = typer.Argument(..., help="The key's id, as `keys list` shows it."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Take a key back; it works no longer within five seconds. What it recorded stays."""
        _with_keys(
            Settings.load(data=data),
            lambda keys: keys.revoke(key),
            "keys revoke",
            lambda _: ("key.revoked", {"key_id": key[:11]}),
        )
        if json:
            _print({"key_id": key[:11], "revoked": True})
        else:
            typer.echo(f"{key[:11]} is revoked")

    app.add_typer(keys, name="keys")


def _with_keys(
    settings: Settings,
    work: Callable[[Any], Awaitable[T]],
    by: str,
    act: Callable[[T], tuple[str, dict[str, Any]]] | None = None,
) -> T:
    """Do *work* with the keys of the installation, record the *act* it was, and let a running bus know them."""
    from adapters.embedded import servers
    from adapters.nats.doors import let_in
    from adapters.postgres.schema import migrate
    from bin import logs
    from bin.compose import act_recorded
    from bin.principal import principal

    logs.of_command(settings.log_level, part=by)
    with servers(settings, by=by, begins=by == "keys add") as (database_url, _):
        migrate(database_url)
        done = asyncio.run(_done(database_url, work))
        if act is not None:
            type_, told = act(done)
            act_recorded(settings, database_url, type_, principal().key_id, told)
        if by != "keys list":
            let_in(settings.data, secret_file=settings.secret_file, subject_prefix=settings.subject_prefix)
    return done


async def _done(database_url: str, work: Callable[[Any], Awaitable[T]]) -> T:
    from psycopg_pool import AsyncConnectionPool

    from adapters.postgres.api_keys import ApiKeys
    from adapters.postgres.schema import APP_ROLE

    async with AsyncConnectionPool(
        database_url,
        min_size=1,
        max_size=1,
        open=False,
        kwargs={"autocommit": True, "options": f"-c role={APP_ROLE}"},
    ) as pool:
        return await work(ApiKeys(pool))


def _print(value: Any) -> None:
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())
