"""clickhouse: the columns of the log in ClickHouse, and funnels asked there."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bin.commands.funnel import question_of, show, step_names
from bin.commands.reading import JSON_OPTION, asked, console, data_zone, print_json
from bin.settings import DATA_OPTION, Settings
from domain.units import count

if TYPE_CHECKING:
    from adapters.clickhouse.server import Server
    from bin.compose import Core

LOOK_EVERY_S = 1.0


def server_of(settings: Settings) -> Server:
    """The server of the settings.

    Raises:
        Misconfigured: none is named.
    """
    from adapters.clickhouse.server import HttpServer
    from domain.errors import Misconfigured

    if settings.clickhouse_url is None:
        raise Misconfigured(
            "No ClickHouse is named: set TOUCHLOG_CLICKHOUSE_URL=http://user:password@host:8123/database (README: ClickHouse)."
        )
    return HttpServer(settings.clickhouse_url)


def register(app: typer.Typer) -> None:
    """Add `touchlog clickhouse`."""
    clickhouse = typer.Typer(
        help="The columns of the log in ClickHouse, for more events than one machine holds.",
        epilog="Example: touchlog clickhouse load --follow",
        no_args_is_help=True,
    )
    app.add_typer(clickhouse, name="clickhouse")

    @clickhouse.command("tables", epilog="Example: touchlog clickhouse tables > tables.sql")
    def tables_command(
        data: Path | None = DATA_OPTION,  # noqa: ARG001 - every command takes it
        json: bool = JSON_OPTION,
    ) -> None:
        """Print the tables as SQL; `load` makes those that are not there."""
        from adapters import clickhouse as room

        text = (Path(room.__file__).parent / "tables.sql").read_text("utf-8")
        if json:
            print_json({"sql": text})
        else:
            typer.echo(text, nl=False)

    @clickhouse.command("load", epilog="Example: touchlog clickhouse load --follow")
    def load_command(
        follow: bool = typer.Option(False, "--follow", help="Go on with what is recorded, until Ctrl-C."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Load the log into ClickHouse from where it was left; each event is there once, however often this is killed."""
        from adapters.clickhouse.loader import Loader
        from adapters.columns.following import connected
        from adapters.embedded import servers
        from adapters.postgres.schema import migrate

        settings = Settings.load(data=data)
        server = server_of(settings)
        stopping = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stopping.set())
        started_s = time.monotonic()
        with servers(settings, by="clickhouse load", begins=False) as found:
            migrate(found.database_url)
            with connected(found.database_url) as conn:
                loader = Loader(conn, server)
                start = loader.position
                while True:
                    loader.load(stopped=stopping.is_set, progress=None if json else _told)
                    if not follow or stopping.wait(LOOK_EVERY_S):
                        break
        if json:
            print_json({"loaded": loader.position - start, "position": loader.position, "head": loader.head})
            return
        took_s = time.monotonic() - started_s
        console().print(
            f"{count(loader.position - start, 'position')} loaded in {took_s:,.1f} s; ClickHouse holds the log up to position "
            f"{loader.position:,} of {loader.head:,}",
            soft_wrap=True,
        )

    @clickhouse.command("funnel", epilog="Example: touchlog clickhouse funnel checkout.toml --json")
    def funnel_command(
        file: Path = typer.Argument(..., metavar="FILE.toml", help="A question, with the names of the HTTP body; that body as JSON will do."),  # noqa: B008
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:  # fmt: skip
        """Ask ClickHouse a funnel: the answer is that of `touchlog funnel` at the position up to which it is loaded."""
        from adapters.clickhouse.asking import query
        from domain.errors import Invalid

        settings, zone = data_zone(data)
        server = server_of(settings)
        question = question_of(file)
        question.setdefault("window", "14d")
        question.setdefault("timezone", zone.key)

        async def work(parts: Core) -> Any:
            try:
                return await query(parts.funnels, server, question)
            except Invalid as wrong:
                told = "\n".join(f"{p.pointer or '(whole)'}: {p.detail}" for p in wrong.problems)
                raise typer.BadParameter(told, param_hint=str(file)) from None

        answer = asked(settings, "clickhouse", ("identities",), work)
        if json:
            print_json(answer)
        else:
            show(answer, step_names(question))


def _told(position: int, head: int) -> None:
    line = f"{position:,} of {head:,} positions"
    sys.stderr.write(
        f"\r\x1b[2K{line}" + ("\n" if position >= head else "") if sys.stderr.isatty() else line + "\n"
    )
    sys.stderr.flush()
