"""soak: the long trials, run by hand and reported; the test suite runs short versions of them."""

from __future__ import annotations

import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import typer

from bin import logs
from bin.commands.listed import Commands

app = typer.Typer(
    cls=Commands,
    help="Long trials of what must never happen, against real processes, in a scratch folder of their own.",
    epilog="Example: bin/soak kill --target postgres --kills 20",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
ROOT = Path(__file__).resolve().parents[1]
DATASETS = ROOT.parent / "shared" / "datasets"
SAMPLES = ROOT / "tests" / "data"
DATASETS_OPTION = typer.Option(
    DATASETS,
    metavar="DIR",
    help="Folder with online_retail/ and cdnow/; where there is none, the samples of the tests are used.",
    show_default=False,
)
CLIENTS_OPTION = typer.Option([], help="A client; all by default. May be given several times.")
JSON_OPTION = typer.Option(False, "--json", help="Print one JSON object.")


@app.command("gap", epilog="Example: bin/soak gap --seconds 60 --writers 8")
def gap(
    seconds: float = typer.Option(60, help="How long to write."),
    writers: int = typer.Option(8, help="Writer processes."),
    library: bool = typer.Option(
        False,
        "--library",
        help="Try the eventsourcing library's recorder with its database functions, which misses events.",
    ),
    json: bool = JSON_OPTION,
) -> None:
    """Many writer processes and one live reader: 0 missed, 0 out of order, head = rows. Exits 1 when something was missed."""
    from adapters.postgres.schema import migrate
    from bin.soaks.gap import run_gap

    with _database() as url:
        if not library:
            migrate(url)
        found = run_gap(url, writers=writers, seconds=seconds, library=library)
    _tell(found._asdict(), json)
    if (
        found.missed
        or found.out_of_order
        or (not library and not found.head == found.events == found.acknowledged)
    ):
        raise typer.Exit(1)


@app.command("kill", epilog="Example: bin/soak kill --target all --kills 40")
def kill(
    target: str = typer.Option(
        "all",
        help="postgres, nats, http, projectors, projectors-later, relay, serve, each in turn, or all: each once in a round, in random orders.",
    ),
    kills: int = typer.Option(20, help="How many times."),
    rate: float = typer.Option(1500, help="Events per second that the clients offer."),
    json: bool = JSON_OPTION,
) -> None:
    """Kill -9 under load; every acknowledged event must be in the log once. Exits 1 when one is not."""
    from bin.soaks.kill import TARGETS, run_kill

    failed = False
    for one in TARGETS if target == "each" else (target,):
        with tempfile.TemporaryDirectory(prefix="touchlog-soak-", ignore_cleanup_errors=True) as scratch:
            Path(scratch).chmod(0o711)
            found = run_kill(
                Path(scratch),
                one,
                kills=kills,
                rate=rate,
                port=_free_port(),
                progress=None
                if json
                else lambda n, one=one: print(  # type: ignore[misc]
                    f"\r{one}: {n} of {kills} kills", end="", file=sys.stderr, flush=True
                ),
            )
        if not json:
            print(file=sys.stderr)
        _tell(found._asdict(), json)
        failed |= bool(
            found.lost
            or found.doubled
            or found.unknown
            or found.misplaced
            or found.gaps
            or found.contradicted
            or found.damaged
            or found.differing
        )
    if failed:
        raise typer.Exit(1)


@app.command("feed", epilog="Example: bin/soak feed --events 5000000")
def feed(
    events: int = typer.Option(1_000_000, min=1000, help="How many events the log holds."),
    json: bool = JSON_OPTION,
) -> None:
    """Read a whole log through GET /v1/events: nothing missed, and the server's memory stays as it was. Exits 1 when not."""
    from bin.soaks.feed import run_feed

    with tempfile.TemporaryDirectory(prefix="touchlog-soak-", ignore_cleanup_errors=True) as scratch:
        Path(scratch).chmod(0o711)
        found = run_feed(
            Path(scratch),
            events=events,
            progress=None
            if json
            else lambda what, count: print(
                f"\r{what} {count:,} of {events:,}", end="", file=sys.stderr, flush=True
            ),
        )
    if not json:
        print(file=sys.stderr)
    _tell(found._asdict(), json)
    if (
        found.seen != events
        or found.out_of_order
        or found.memory_last_tenth_mb > 1.2 * found.memory_first_tenth_mb
    ):
        raise typer.Exit(1)


@app.command("steal", epilog="Example: bin/soak steal --seconds 60 --rate 1000")
def steal(
    seconds: float = typer.Option(60, min=1, help="How long to write."),
    rate: float = typer.Option(1000, min=10, help="Events per second that are recorded."),
    every: float = typer.Option(1.0, min=0.05, help="Seconds between two steals."),
    apart: bool = typer.Option(
        False, "--apart", help="Steal one read model at a time, so that each projector holds some."
    ),
    json: bool = JSON_OPTION,
) -> None:
    """Two projectors steal the lease from each other under load; the rows must equal those built from zero. Exits 1 when not."""
    from adapters.postgres.schema import migrate
    from bin.soaks.steal import run_steal

    with tempfile.TemporaryDirectory(prefix="touchlog-soak-") as folder, _database() as url:
        migrate(url)
        found = run_steal(url, Path(folder), seconds=seconds, rate=rate, every_s=every, apart=apart)
    _tell(found._asdict(), json)
    if found.differs:
        raise typer.Exit(1)


@app.command("equal", epilog="Example: bin/soak equal --datasets ~/datasets")
def equal(
    datasets: Path = DATASETS_OPTION,
    most: int | None = typer.Option(None, min=1, help="At most so many rows of each file."),
    json: bool = JSON_OPTION,
) -> None:
    """Online Retail, CDNOW and the demo history: live rows equal rebuilt ones, whatever the batches. Exits 1 when not."""
    from adapters.postgres.schema import migrate
    from bin.soaks.equal import run_equal

    with tempfile.TemporaryDirectory(prefix="touchlog-soak-") as folder, _database() as url:
        migrate(url)
        found = run_equal(
            url,
            Path(folder),
            datasets if datasets.is_dir() else SAMPLES,
            most=most,
            progress=None if json else lambda text: print(text, file=sys.stderr, flush=True),
        )
    _tell(found._asdict(), json)
    if found.rebuilt_differs or found.from_zero_differs:
        raise typer.Exit(1)


@app.command("report", epilog="Example: bin/soak report --after 100000")
def report(
    before: int = typer.Option(
        20_000, min=100, help="Events that are there when the reports are first asked."
    ),
    after: int = typer.Option(
        100_000, min=100, help="Late, linking, corrected and retracted ones that come afterwards."
    ),
    rate: float = typer.Option(2000, min=10, help="Of these, how many a second."),
    json: bool = JSON_OPTION,
) -> None:
    """Reports asked for a moment of knowledge are the same bytes for ever. Exits 1 when one is not."""
    from adapters.postgres.schema import migrate
    from bin.soaks.report import run_report

    with tempfile.TemporaryDirectory(prefix="touchlog-soak-") as folder, _database() as url:
        migrate(url)
        found = run_report(url, Path(folder), before=before, after=after, rate=rate)
    _tell(found._asdict(), json)
    if found.changed or found.changed_since_load:
        raise typer.Exit(1)


@app.command("statements", epilog="Example: bin/soak statements --batch 200")
def statements(
    batch: int = typer.Option(200, min=10, help="Events of the batch."),
    json: bool = JSON_OPTION,
) -> None:
    """A projector killed with -9 at every statement of one batch: nothing is torn, lost or doubled. Exits 1 when something is."""
    import asyncio

    from adapters.postgres.schema import migrate
    from bin.compose import core
    from bin.settings import Settings
    from bin.soaks.mixed import mixed, recorded
    from bin.soaks.statements import run_statements

    with tempfile.TemporaryDirectory(prefix="touchlog-soak-") as folder, _database() as url:
        migrate(url)

        async def given() -> None:
            async with core(Settings.load({}, data=Path(folder)), url) as parts:
                await recorded(parts, mixed(5, 3 * batch))

        asyncio.run(given())
        found = run_statements(url, batch=batch, after=batch)
    _tell(found._asdict(), json)
    if found.torn or found.not_healed:
        raise typer.Exit(1)


@app.command("bot", epilog="Example: bin/soak bot --ids 50000 --events 100000")
def bot(
    ids: int = typer.Option(50_000, min=200, help="Anonymous ids that one e-mail is sent with."),
    identifiers: int = typer.Option(1001, min=10, help="Identifiers of the biggest person."),
    events: int = typer.Option(100_000, min=100, help="Events of the biggest person."),
    side_events: int = typer.Option(10_000, min=10, help="Events of each of two persons who are linked."),
    json: bool = JSON_OPTION,
) -> None:
    """A bot with one e-mail is stopped, and the biggest person hurts nobody. Exits 1 when two users are joined by the bot."""
    from adapters.postgres.schema import migrate
    from bin.soaks.bot import run_bot

    with tempfile.TemporaryDirectory(prefix="touchlog-soak-") as folder, _database() as url:
        migrate(url)
        found = run_bot(
            url, Path(folder), ids=ids, identifiers=identifiers, events=events, side_events=side_events
        )
    _tell(found._asdict(), json)
    if found.users_joined or not found.stopped:
        raise typer.Exit(1)


@app.command("sdks", epilog="Example: bin/soak sdks --calls 5000 --seconds 120 --kills 8")
def sdks(
    client: list[str] = CLIENTS_OPTION,
    calls: int = typer.Option(2_000, min=10, help="Calls of each client."),
    seconds: float = typer.Option(60, min=1, help="How long they take to make them."),
    kills: int = typer.Option(4, min=0, help="How many times; the HTTP process and serve itself in turn."),
    json: bool = JSON_OPTION,
) -> None:
    """SDKs of Segment, RudderStack and CloudEvents, unmodified, while serve is killed: each call in the log, once. Exits 1 when one is not."""
    from bin.soaks.sdks import CLIENTS, run_sdks

    if unknown := [name for name in client if name not in CLIENTS]:
        raise typer.BadParameter(f"no such client: {unknown[0]}; there are {', '.join(CLIENTS)}")
    with tempfile.TemporaryDirectory(prefix="touchlog-soak-", ignore_cleanup_errors=True) as scratch:
        Path(scratch).chmod(0o711)
        found = run_sdks(
            Path(scratch),
            clients=client or list(CLIENTS),
            calls=calls,
            seconds=seconds,
            kills=kills,
            port=_free_port(),
            progress=None if json else lambda text: print(text, file=sys.stderr, flush=True),
        )
    if json:
        told = found._asdict() | {"clients": [one._asdict() for one in found.clients]}
        _tell(told, json)
    else:
        _tell({"kills": ", ".join(found.kills), "seconds": found.seconds}, json)
        print(
            f"  {'client':<20} {'version':<8} {'calls':>8} {'events':>8} {'missing':>8} {'doubled':>8} {'unknown':>8}"
        )
        for one in found.clients:
            print(
                f"  {one.client:<20} {one.version:<8} {one.calls:>8,} {one.events:>8,} {one.missing:>8,} {one.doubled:>8,} {one.unknown:>8,}"
                + (f"  gave up: {one.failed}" if one.failed else "")
            )
        for name, why in found.not_run.items():
            print(f"  {name:<20} not run: {why}")
    if found.broken:
        raise typer.Exit(1)


@app.command("fuzz", epilog="Example: bin/soak fuzz --cases 100000")
def fuzz(
    cases: int = typer.Option(100_000, min=1, help="How many mutated payloads."),
    seed: int = typer.Option(1, help="Another number, other mutations; the same one, the same."),
    channel: str | None = typer.Option(None, help="Try this channel only."),
    json: bool = JSON_OPTION,
) -> None:
    """Mutated real payloads against every channel: never an exception, never a touchpoint without key and time. Exits 1 when one is."""
    from adapters.channels import CHANNELS
    from bin.soaks.fuzz import run_fuzz

    if channel is not None and channel not in CHANNELS:
        raise typer.BadParameter(f"there is no channel {channel!r}; there are {', '.join(sorted(CHANNELS))}")
    found = run_fuzz(
        cases=cases,
        seed=seed,
        only=channel,
        progress=None
        if json
        else lambda done: print(f"\r{done:,} of {cases:,} cases", end="", file=sys.stderr, flush=True),
    )
    if not json:
        print(file=sys.stderr)
    _tell(found._asdict(), json)
    if found.broken:
        raise typer.Exit(1)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _database() -> Any:
    """An embedded PostgreSQL in a scratch folder; gives its URL."""
    from contextlib import contextmanager

    from adapters.embedded import servers
    from bin.settings import Settings

    @contextmanager
    def run() -> Any:
        with tempfile.TemporaryDirectory(prefix="touchlog-soak-", ignore_cleanup_errors=True) as scratch:
            Path(scratch).chmod(0o711)
            with servers(Settings.load({}, data=Path(scratch) / "data"), by="soak") as found:
                yield found.database_url

    return run()


def _tell(found: dict[str, Any], json: bool) -> None:
    if json:
        import orjson

        print(orjson.dumps(found).decode())
        return
    width = max(len(name) for name in found)
    for name, value in found.items():
        shown = f"{value:,}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        print(f"  {name.replace('_', ' '):<{width}}  {shown}")


def main() -> None:
    """Run one trial."""
    logs.configure("warning", part="soak", form="pairs")
    app(prog_name="soak")


if __name__ == "__main__":
    main()
