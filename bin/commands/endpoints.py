"""endpoints: where vendors deliver webhooks to, made, listed, given another secret, paused and tried."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bin.commands.channels import BODY, HEADERS, SET, body_of, pairs, tell_tried, tried
from bin.commands.rejected import on_core, print_json
from bin.settings import DATA_OPTION, Settings

if TYPE_CHECKING:
    from adapters.endpoints import Endpoint, Endpoints
    from bin.compose import Core

CHANNEL = typer.Argument(
    ..., help="The vendor's channel, e.g. shopify; `touchlog channels --known` lists them."
)
NAME = typer.Argument(..., help="The endpoint's name, e.g. main; its address is /hooks/CHANNEL/NAME.")
SECRET = typer.Option(
    None,
    help="What the vendor shows; without it (or as -) it is read from standard input, which leaves no trace in the shell.",
)
JSON = typer.Option(False, "--json", help="Print JSON.")
SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def endpoints_of(core: Core) -> Endpoints:
    """The endpoints of the installation."""
    from adapters.endpoints import Endpoints

    return Endpoints(core.pool, core.subjects, core.keys)


def as_json(settings: Settings, one: Endpoint) -> dict[str, Any]:
    """An endpoint without its secrets, and with its address."""
    import msgspec

    shown: dict[str, Any] = msgspec.to_builtins(one)
    del shown["secrets"]
    return {**shown, "address": address(settings, one)}


def address(settings: Settings, one: Endpoint) -> str:
    """Where the vendor delivers to; where nobody said, by the address of the serve that runs."""
    from adapters.embedded import running

    base = settings.public_url
    if settings.given_public_url is None and (found := running(settings.data)) and found.http_url:
        base = found.http_url.rstrip("/")
    return one.url or f"{base}/hooks/{one.channel}/{one.name}"


def span(text: str) -> timedelta:
    """`24h`, `7d`, `90s` as a span."""
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is no span such as 24h, 7d or 0s.")
    return timedelta(seconds=int(found[1]) * SPANS[found[2]])


def read_secret(given: str | None) -> str:
    """The secret as given, or a line of standard input."""
    if given not in (None, "-"):
        assert given is not None
        return given
    if sys.stdin.isatty():
        import getpass

        return getpass.getpass("Secret: ").strip()
    return sys.stdin.read().strip()


async def acted(core: Core, type_: str, told: dict[str, Any]) -> None:
    """Put the act into the records log; never a secret."""
    from bin.principal import principal

    await core.records.record(type_, principal=principal().key_id, data=told)


def register(app: typer.Typer) -> None:
    """Add `touchlog endpoints add|list|rotate|pause|test`."""
    group = typer.Typer(
        help="Endpoints: where vendors deliver webhooks to.",
        epilog="Example: touchlog endpoints add shopify main < secret.txt",
        no_args_is_help=True,
    )
    _register_add(group)
    _register_list(group)
    _register_rotate(group)
    _register_pause(group)
    _register_test(group)
    app.add_typer(group, name="endpoints")


def _register_add(group: typer.Typer) -> None:
    @group.command(
        "add",
        epilog="Example: touchlog endpoints add twilio calls --url https://shop.example/hooks/twilio/calls < token.txt",
    )
    def add_command(
        channel: str = CHANNEL,
        name: str = NAME,
        secret: str | None = SECRET,
        scheme: str | None = typer.Option(
            None,
            help="How it is signed, where not as the channel's vendor does; `basic` and `token` are for those who cannot sign.",
        ),
        source: str | None = typer.Option(None, help="Source of its events; CHANNEL/NAME by default."),
        url: str = typer.Option("", help="Its address as the vendor knows it, where the vendor signs that."),
        tolerance_s: float | None = typer.Option(
            None, help="Seconds that the time of signing may be from now; 0 is any."
        ),
        settings: list[str] = SET,
        data: Path | None = DATA_OPTION,
        json: bool = JSON,
    ) -> None:
        """Make an endpoint; its secret is kept sealed and never shown again."""
        given = read_secret(secret)
        told = pairs(settings, "--set", "=")

        async def work(core: Core) -> Endpoint:
            made = await endpoints_of(core).add(
                channel,
                name,
                given,
                scheme=scheme,
                source=source,
                url=url,
                tolerance_s=tolerance_s,
                settings=told,
            )
            await acted(core, "endpoint.added", {"channel": channel, "name": name, "scheme": made.scheme})
            return made

        _tell(data, on_core(data, "endpoints", work, begins=True), json, "deliver to")


def _tell(data: Path | None, one: Endpoint, json: bool, what: str) -> None:
    settings = Settings.load(data=data)
    if json:
        print_json(as_json(settings, one))
    else:
        typer.echo(f"{one.channel}/{one.name}: {what} {address(settings, one)}")


def _register_list(group: typer.Typer) -> None:
    @group.command("list", epilog="Example: touchlog endpoints list --json")
    def list_command(data: Path | None = DATA_OPTION, json: bool = JSON) -> None:
        """List all endpoints; secrets are counted, never shown."""

        async def work(core: Core) -> list[Endpoint]:
            return await endpoints_of(core).list()

        found = on_core(data, "endpoints", work)
        settings = Settings.load(data=data)
        if json:
            print_json({"endpoints": [as_json(settings, one) for one in found]})
            return
        if not found:
            typer.echo("There is no endpoint. Make one: touchlog endpoints add shopify main")
            return
        for one in found:
            state = "paused" if one.paused_at else "takes deliveries"
            secrets = f"{one.secret_count} secret" + ("s" if one.secret_count != 1 else "")
            typer.echo(
                f"{one.channel}/{one.name}  {state}, signed by {one.scheme}, {secrets}, source {one.source}"
            )
            typer.echo(f"    {address(settings, one)}")


def _register_rotate(group: typer.Typer) -> None:
    @group.command(
        "rotate", epilog="Example: touchlog endpoints rotate shopify main --keep 48h < new-secret.txt"
    )
    def rotate_command(
        channel: str = CHANNEL,
        name: str = NAME,
        secret: str | None = SECRET,
        keep: str = typer.Option("24h", help="How long the old secrets are still taken: 24h, 7d, 0s."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON,
    ) -> None:
        """Give an endpoint another secret; the old ones are taken beside it for a while."""
        given, kept = read_secret(secret), span(keep)

        async def work(core: Core) -> Endpoint:
            one = await endpoints_of(core).rotate(channel, name, given, keep=kept)
            told = {"channel": channel, "name": name, "keep_s": int(kept.total_seconds())}
            await acted(core, "endpoint.rotated", told)
            return one

        _tell(data, on_core(data, "endpoints", work), json, f"{keep} more for the old secrets at")


def _register_pause(group: typer.Typer) -> None:
    @group.command(
        "pause",
        epilog="Example: touchlog endpoints pause shopify main; touchlog endpoints pause shopify main --off",
    )
    def pause_command(
        channel: str = CHANNEL,
        name: str = NAME,
        off: bool = typer.Option(False, "--off", help="Take deliveries again."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON,
    ) -> None:
        """Take no deliveries for now: they are answered 503, and the vendor tries again later."""

        async def work(core: Core) -> Endpoint:
            one = await endpoints_of(core).pause(channel, name, paused=not off)
            await acted(core, "endpoint.paused", {"channel": channel, "name": name, "paused": not off})
            return one

        _tell(
            data, on_core(data, "endpoints", work), json, "takes deliveries again at" if off else "paused at"
        )


def _register_test(group: typer.Typer) -> None:
    @group.command(
        "test",
        epilog="Example: touchlog endpoints test shopify main --header 'X-Shopify-Topic: orders/create' order.json",
    )
    def test_command(
        channel: str = CHANNEL,
        name: str = NAME,
        file: Path | None = BODY,
        header: list[str] = HEADERS,
        data: Path | None = DATA_OPTION,
        json: bool = JSON,
    ) -> None:
        """Tell what would become of a delivery, and record nothing; exits 1 when it holds what is no touchpoint."""
        body, headers = body_of(file), pairs(header, "--header", ":")

        async def work(core: Core) -> Endpoint:
            return await endpoints_of(core).get(channel, name)

        one = on_core(data, "endpoints", work)
        found = tried(
            one.channel,
            body,
            headers,
            source=one.source,
            settings=one.settings,
            region=Settings.load(data=data).phone_region,
        )
        tell_tried(f"{one.channel}/{one.name}", found, json=json)
