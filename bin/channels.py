"""channels: how each channel does, and which there are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bin.rejected import on_core, print_json
from bin.settings import DATA_OPTION

if TYPE_CHECKING:
    from adapters.postgres.channel_counts import ChannelShown
    from bin.compose import Core


def register(app: typer.Typer) -> None:
    """Add `touchlog channels`."""

    @app.command("channels", epilog="Example: touchlog channels --json")
    def channels_command(
        known: bool = typer.Option(
            False, "--known", help="List the channels there are, and their settings, instead."
        ),
        data: Path | None = DATA_OPTION,
        json: bool = typer.Option(False, "--json", help="Print JSON."),
    ) -> None:
        """Show how each channel does: last delivery, rate, duplicates, rejected, lag, missing numbers."""
        if known:
            _known(json)
            return

        async def work(core: Core) -> list[ChannelShown]:
            from adapters.postgres.channel_counts import channels_shown

            return await channels_shown(core.pool)

        found = on_core(data, "channels", work)
        if json:
            import msgspec

            print_json({"channels": msgspec.to_builtins(found)})
        else:
            _show(found)


def _known(json: bool) -> None:
    import msgspec

    from adapters.channels import CHANNELS

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


def _show(found: list[ChannelShown]) -> None:
    from domain.units import span

    if not found:
        typer.echo(
            "Nothing came through a channel yet. Make an endpoint: touchlog endpoints add shopify main"
        )
        return
    rows = [
        (
            "channel",
            "last",
            "recorded",
            "per hour",
            "duplicates",
            "conflicts",
            "rejected",
            "mean lag",
            "holes",
        )
    ]
    for one in found:
        last = one.last_at.astimezone().strftime("%Y-%m-%d %H:%M") if one.last_at else "-"
        kept = f"{one.rejected:,}" + (f" ({one.rejected_open:,} open)" if one.rejected_open else "")
        rows.append(
            (
                f"{one.channel}/{one.name}" + (" (paused)" if one.paused else ""),
                last,
                f"{one.recorded:,}",
                f"{one.rate_per_hour:,.0f}",
                f"{one.duplicates:,}",
                f"{one.conflicts:,}",
                kept,
                span(one.mean_lag_s) or "-",
                f"{one.holes:,}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
