"""channels: how each channel does, which there are, and what one makes of a payload."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bin.commands.reading import console, data_zone, table
from bin.commands.rejected import on_core, print_json
from bin.settings import DATA_OPTION, Settings
from domain.entry import in_zone
from domain.errors import Refused

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from adapters.postgres.channel_counts import ChannelShown
    from bin.compose import Core


BODY = typer.Argument(
    None, metavar="FILE", help="A body as the vendor sends it; - is standard input.", show_default=False
)
HEADERS = typer.Option([], "--header", help="A header of the delivery, 'Name: value'.")
SET = typer.Option([], "--set", metavar="NAME=VALUE", help="A setting of the channel.")


def register(app: typer.Typer) -> None:
    """Add `touchlog channels`."""
    group = typer.Typer(invoke_without_command=True)

    @group.callback(epilog="Example: touchlog channels --json")
    def channels_command(
        context: typer.Context,
        known: bool = typer.Option(
            False, "--known", help="List the channels there are, and their settings, instead."
        ),
        data: Path | None = DATA_OPTION,
        json: bool = typer.Option(False, "--json", help="Print JSON."),
    ) -> None:
        """Show how each channel does: last delivery, rate, duplicates, rejected, lag, missing numbers."""
        if context.invoked_subcommand is not None:
            return
        if known:
            _known(json)
            return

        async def work(core: Core) -> list[ChannelShown]:
            from adapters.postgres.channel_counts import channels_shown

            return await channels_shown(core.pool)

        _, zone = data_zone(data)
        found = on_core(data, "channels", work)
        if json:
            import msgspec

            print_json({"channels": msgspec.to_builtins(found)})
        else:
            show(found, zone)

    @group.command(
        "try",
        epilog="Example: touchlog channels try shopify order.json --header 'X-Shopify-Topic: orders/create'",
    )
    def try_command(
        channel: str = typer.Argument(..., help="The channel; `touchlog channels --known` lists them."),
        file: Path | None = BODY,
        header: list[str] = HEADERS,
        settings: list[str] = SET,
        call: str = typer.Option("", help="Which call of an API it was, where a channel has several."),
        data: Path | None = DATA_OPTION,
        json: bool = typer.Option(False, "--json", help="Print JSON."),
    ) -> None:
        """Tell what a channel makes of a payload, as it would be recorded; no server is asked, nothing is written."""
        from adapters.channels import CHANNELS

        if channel not in CHANNELS:
            known = ", ".join(sorted(CHANNELS))
            raise Refused(f"There is no channel '{channel}'; there are {known}.")
        found = tried(
            channel,
            body_of(file),
            pairs(header, "--header", ":"),
            settings=pairs(settings, "--set", "="),
            call=call,
            region=Settings.load(data=data).phone_region,
        )
        tell_tried(channel, found, json=json)

    app.add_typer(group, name="channels")


def pairs(given: Sequence[str], option: str, between: str) -> dict[str, str]:
    """Options such as 'Name: value' or NAME=VALUE as an object; names of headers in lower case."""
    found = {}
    for each in given:
        name, parted, value = each.partition(between)
        if not parted:
            right = "'Name: value'" if between == ":" else "NAME=VALUE"
            raise typer.BadParameter(f"{option} {each!r}: write {right}.")
        found[name.strip().lower() if between == ":" else name] = value.strip() if between == ":" else value
    return found


def body_of(file: Path | None) -> bytes:
    """The bytes of *file*, or of standard input; an empty object where none is named."""
    if file is None:
        return b"{}"
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}.") from None


def tried(
    channel: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    source: str = "",
    settings: Mapping[str, str],
    call: str = "",
    region: str | None = None,
) -> list[dict[str, Any]]:
    """What *channel* makes of a delivery, item by item, and what ingest would say of it; nothing is recorded."""
    from datetime import UTC, datetime

    from adapters.channels import CHANNELS, Delivery
    from adapters.mending import tried as tried_by

    media_type = (
        "application/json" if body.lstrip()[:1] in (b"{", b"[") else "application/x-www-form-urlencoded"
    )
    delivery = Delivery(
        body=body,
        headers={"content-type": media_type, **headers},
        received_at=datetime.now(UTC),
        source=source or f"{channel}/try",
        unique="test",
        settings=settings,
        call=call,
    )
    return tried_by(CHANNELS[channel], delivery, region=region)


def tell_tried(what: str, found: list[dict[str, Any]], *, json: bool) -> None:
    """Print what `tried` found; exits 1 when it holds what is no touchpoint."""
    import orjson

    if json:
        print_json({"endpoint" if "/" in what else "channel": what, "items": found})
    elif not found:
        typer.echo("The delivery holds nothing to record.")
    for item in [] if json else found:
        for error in item.get("errors", ()):
            place = f"{item['place']}{error['pointer']}"
            typer.echo(f"would be kept as rejected: {place + ': ' if place else ''}{error['detail']}")
        if "errors" in item:
            continue
        typer.echo(f"would be recorded: {item['type']} {item['id']} at {item['time'] or 'its receipt'}")
        event = item["event"]
        refs = [event.get("subject"), event.get("identifiers")]
        typer.echo(f"    whose: {', '.join(filter(None, refs)) or 'nobody is named'}")
        for name, value in event["data"].items():
            typer.echo(f"    {name}: {value if isinstance(value, str) else orjson.dumps(value).decode()}")
        for warning in item["warnings"]:
            typer.echo(f"    dropped: {warning['pointer']} {warning['detail']}")
    raise typer.Exit(1 if any("errors" in each for each in found) else 0)


def _known(json: bool) -> None:
    import msgspec

    from adapters.channels import CHANNELS
    from adapters.channels.channel import NAMESPACE

    if json:
        print_json(
            {
                "channels": [
                    {
                        "name": c.name,
                        "meaning": c.meaning,
                        "scheme": c.scheme,
                        "settings": msgspec.to_builtins(c.settings),
                    }
                    for c in CHANNELS.values()
                ]
            }
        )
        return
    for channel in sorted(CHANNELS.values(), key=lambda c: c.name):
        typer.echo(f"{channel.name:<12} {channel.meaning}")
        for setting in channel.settings:
            default = f" (default {setting.default})" if setting.default else ""
            typer.echo(f"    {setting.name}: {setting.meaning}{default}")
    typer.echo(f"every channel\n    {NAMESPACE.name}: {NAMESPACE.meaning}")


def show(found: Sequence[ChannelShown], zone: ZoneInfo) -> None:
    """Print a table of channels, or how to begin."""
    from rich.markup import escape

    from domain.units import span

    if not found:
        typer.echo(
            "Nothing came through a channel yet. Make an endpoint: touchlog endpoints add shopify main"
        )
        return
    numbers = ("recorded", "per hour", "duplicates", "rejected", "mean lag", "holes")
    rows = table("channel", "last", *numbers, right=numbers)
    for one in found:
        kept = f"{one.rejected + one.conflicts:,}" + (
            f" ({one.rejected_open:,} open)" if one.rejected_open else ""
        )
        rows.add_row(
            escape(f"{one.channel}/{one.name}" + (" (paused)" if one.paused else "")),
            f"{in_zone(one.last_at, zone):%Y-%m-%d %H:%M}" if one.last_at else "–",
            f"{one.recorded:,}",
            f"{one.rate_per_hour:,.0f}",
            f"{one.duplicates:,}",
            kept,
            span(one.mean_lag_s) or "–",
            f"{one.holes:,}",
        )
    console().print(rows)
    console().print(
        f"times in {zone.key} · rejected counts conflicts too · holes: numbers missing in a source's own numbering",
        style="dim",
    )
