"""rejected: what could not be recorded, to be looked at, corrected, tried again or dismissed."""

from __future__ import annotations

import asyncio
import base64
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import typer

from bin.commands.reading import data_zone
from bin.settings import DATA_OPTION, Settings
from domain.entry import in_zone
from domain.errors import Refused

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from adapters.postgres.rejected import Shown
    from bin.compose import Core

T = TypeVar("T")
PAGE = 500

NUMBERS = typer.Argument(..., metavar="NUMBER...", help="Their numbers in the list.")
NUMBERS_OR_ALL = typer.Argument(
    None, metavar="[NUMBER...]", help="Their numbers in the list.", show_default=False
)
WITH = typer.Option(None, "--with", metavar="FILE", help="The corrected event, as JSON; - is standard input.")


def on_core(data: Path | None, by: str, work: Callable[[Core], Awaitable[T]], *, begins: bool = False) -> T:
    """Run *work* on the parts of the installation, beside a running serve or alone.

    Args:
        begins: whether it may begin an installation where there is none.
    """
    from adapters.embedded import servers
    from adapters.postgres.schema import migrate
    from bin import logs
    from bin.compose import core

    settings = Settings.load(data=data)
    logs.of_command(settings.log_level, part=by)

    async def run(database_url: str) -> T:
        async with core(settings, database_url) as parts:
            return await work(parts)

    with servers(settings, by=by, begins=begins) as (database_url, _):
        migrate(database_url)
        return asyncio.run(run(database_url))


def as_json(one: Shown) -> dict[str, Any]:
    """An item as --json prints it; a payload that is no text comes as Base64."""
    shown: dict[str, Any] = msgspec.to_builtins(one)
    del shown["payload"]
    if one.payload is not None:
        try:
            shown["payload"] = one.payload.decode()
        except UnicodeDecodeError:
            shown["payload_base64"] = base64.b64encode(one.payload).decode()
    return shown


def print_json(value: Any) -> None:
    """Print one JSON document."""
    import orjson

    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())


async def list_items(core: Core, state: str, limit: int) -> list[Shown]:
    """At most *limit* items, newest first."""
    found: list[Shown] = []
    while len(found) < limit:
        page = await core.rejected.list(
            state=None if state == "all" else state,
            limit=min(PAGE, limit - len(found)),
            before=found[-1].id if found else None,
        )
        found += page
        if len(page) < PAGE:
            break
    return found


async def retry(core: Core, numbers: Sequence[int], corrected: bytes | None) -> list[dict[str, Any]]:
    """Try kept payloads again, the oldest first; what is recorded now, or was already, is settled."""
    from adapters.mending import retried
    from adapters.postgres.api_keys import ApiKeys
    from bin.principal import principal

    who, keys = principal(), ApiKeys(core.pool)
    outcomes = []
    for number in sorted(set(numbers)):
        one = await core.rejected.show(number)
        outcome = await retried(core.ingest, core.rejected, keys, one, who, corrected)
        if one.state not in ("recorded", "duplicate") and outcome["status"] in ("recorded", "duplicate"):
            became = f"{number} is {outcome['status']} at position {outcome['position']:,}"
            await settled_on_record(core, number, "retry", became, corrected=corrected is not None)
        outcomes.append(outcome)
    return outcomes


async def settled_on_record(
    core: Core, number: int, change: str, became: str, *, corrected: bool = False
) -> None:
    """Put on record what became of an item, as the page does."""
    from bin.principal import principal

    act = {"number": number, "change": change, "corrected": corrected, "became": became}
    await core.records.record("rejected.settled", principal=principal().key_id, data=act)


def show_list(items: Sequence[Shown], state: str, open_in_all: int, zone: ZoneInfo) -> None:
    """Print a table, or what an empty one means."""
    from rich.console import Console

    out = Console(highlight=False, soft_wrap=True)
    if not items:
        out.print(
            "Nothing is rejected."
            if state == "all"
            else f"Nothing is {state}."
            + (" Whatever was refused was settled or dismissed." if state == "open" else "")
        )
        return
    for one in items:
        status = one.status if one.state == "open" else f"{one.status}, {one.state}"
        received = f"{in_zone(one.received_at, zone):%Y-%m-%d %H:%M}"
        told = f"{one.id:>6}  {received}  {status:<9} {one.way_in}  by {one.principal}  {one.place or ''}"
        out.print(told.rstrip(), markup=False)
        for problem in one.problems[:3]:
            out.print(
                f"        {problem.pointer} {problem.detail}".replace("         ", "        "),
                markup=False,
                style="dim",
            )
        if len(one.problems) > 3:
            out.print(f"        … and {len(one.problems) - 3:,} more", style="dim")
    if open_in_all > len(items):
        out.print(f"{len(items):,} of {open_in_all:,} open ones; --limit shows more.")
    out.print(
        f"Times in {zone.key}. Look at one: touchlog rejected show NUMBER. Try again: touchlog rejected retry NUMBER.",
        soft_wrap=True,
    )


def show_one(one: Shown, zone: ZoneInfo) -> None:
    """Print an item with its payload, JSON laid out for the eye."""
    import orjson
    from rich.console import Console

    out = Console(highlight=False, soft_wrap=True)
    out.print(f"rejected {one.id}", style="bold")
    facts = {
        "status": one.status if one.state == "open" else f"{one.status}, {one.state}",
        "received": f"{in_zone(one.received_at, zone):%Y-%m-%d %H:%M:%S} ({zone.key})",
        "from": one.way_in,
        "place": one.place,
        "by": one.principal,
        "source": one.source,
        "id": one.source_id,
        "type": one.type,
        "import": one.import_id,
        "position": None if one.position is None else f"{one.position:,}",
    }
    for name, value in facts.items():
        if value is not None:
            out.print(f"  {name:<9} {value}", markup=False)
    for problem in one.problems:
        out.print(
            f"  why       {problem.pointer + ': ' if problem.pointer else ''}{problem.detail}", markup=False
        )
    out.print("  payload")
    if one.payload is None:
        out.print("    (erased: its key was destroyed)")
        return
    try:
        text = orjson.dumps(orjson.loads(one.payload), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        text = one.payload.decode("utf-8", "backslashreplace")
    for line in text.splitlines():
        out.print(
            f"    {''.join(c if c.isprintable() or c == chr(9) else chr(0xFFFD) for c in line)}", markup=False
        )


def register(app: typer.Typer) -> None:
    """Add `touchlog rejected list|show|retry|dismiss`."""
    group = typer.Typer(
        help="What could not be recorded: look at it, correct it, try it again.",
        no_args_is_help=True,
        rich_markup_mode=None,
        epilog="Example: touchlog rejected list",
    )
    app.add_typer(group, name="rejected")

    @group.command("list", epilog="Example: touchlog rejected list --state all --limit 20")
    def list_command(
        state: str = typer.Option("open", help="open, recorded, duplicate, dismissed or all."),
        limit: int = typer.Option(50, min=1, help="At most so many, newest first."),
        data: Path | None = DATA_OPTION,
        json: bool = typer.Option(False, "--json", help="Print one JSON object instead of a table."),
    ) -> None:
        """List what was refused, newest first; payloads stay sealed."""
        if state not in ("open", "recorded", "duplicate", "dismissed", "all"):
            raise typer.BadParameter(
                f"There is no state '{state}'; there are open, recorded, duplicate, dismissed, all."
            )

        async def work(core: Core) -> tuple[list[Shown], dict[str, int]]:
            return await list_items(core, state, limit), await core.rejected.counts()

        _, zone = data_zone(data)
        items, counts = on_core(data, "rejected", work)
        if json:
            print_json({"rejected": [as_json(one) for one in items], "counts": counts})
        else:
            show_list(items, state, counts.get("open", 0) if state == "open" else 0, zone)

    @group.command("show", epilog="Example: touchlog rejected show 17")
    def show_command(
        number: int = typer.Argument(..., help="Its number in the list."),
        data: Path | None = DATA_OPTION,
        json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    ) -> None:
        """Show one with its reasons and its payload, in plain text."""

        async def work(core: Core) -> Shown:
            from bin.commands.reading import on_record

            one = await core.rejected.show(number)
            await on_record(core, "rejected show", about=(), query=f"rejected {number}", count=1)
            return one

        _, zone = data_zone(data)
        one = on_core(data, "rejected", work)
        if json:
            print_json(as_json(one))
        else:
            show_one(one, zone)

    _register_retry(group)
    _register_dismiss(group)


def _register_retry(group: typer.Typer) -> None:
    @group.command("retry", epilog="Example: touchlog rejected retry 17 --with corrected.json")
    def retry_command(
        numbers: list[int] | None = NUMBERS_OR_ALL,
        all_open: bool = typer.Option(False, "--all", help="All that are open."),
        with_file: Path | None = WITH,
        data: Path | None = DATA_OPTION,
        json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    ) -> None:
        """Try kept payloads again; exits 1 when one still cannot be recorded, which then stays open."""
        if all_open == bool(numbers):
            raise typer.BadParameter("Name the numbers, or --all.")
        if with_file is not None and len(numbers or []) != 1:
            raise typer.BadParameter("--with corrects one item: name one number.")
        corrected = _read(with_file)

        async def work(core: Core) -> list[dict[str, Any]]:
            chosen = numbers or [one.id for one in await list_items(core, "open", sys.maxsize)]
            return await retry(core, chosen, corrected)

        outcomes = on_core(data, "rejected", work)
        settled = sum(one["status"] in ("recorded", "duplicate") for one in outcomes)
        if json:
            print_json({"results": outcomes, "settled": settled, "open": len(outcomes) - settled})
        else:
            for one in outcomes:
                at = f" at position {one['position']:,}" if one["position"] is not None else ""
                typer.echo(f"{one['id']}: {one['status']}{at}")
                for error in one["errors"]:
                    typer.echo(
                        f"    {error.get('pointer', '')} {error['detail']}".replace("     ", "    ").rstrip()
                    )
            typer.echo(f"{settled:,} settled, {len(outcomes) - settled:,} still open")
        raise typer.Exit(0 if settled == len(outcomes) else 1)


def _register_dismiss(group: typer.Typer) -> None:
    @group.command("dismiss", epilog="Example: touchlog rejected dismiss 17 18")
    def dismiss_command(
        numbers: list[int] = NUMBERS,
        data: Path | None = DATA_OPTION,
        json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    ) -> None:
        """Close items that will not be recorded; they stay listed under --state dismissed."""

        async def work(core: Core) -> list[int]:
            shown = [await core.rejected.show(number) for number in numbers]
            chosen = [one.id for one in shown if one.state == "open"]
            for number in chosen:
                await core.rejected.settle(number, "dismissed", None)
                await settled_on_record(core, number, "dismiss", f"{number} is dismissed")
            return chosen

        dismissed = on_core(data, "rejected", work)
        if json:
            print_json({"dismissed": dismissed})
        else:
            closed = len(numbers) - len(dismissed)
            typer.echo(f"{len(dismissed):,} dismissed" + (f", {closed:,} closed before" if closed else ""))


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}.") from None
