"""soak: the long trials, run by hand and reported; the test suite runs short versions of them."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path
from typing import Any

import typer

app = typer.Typer(
    help="Long trials of what must never happen, against real processes, in a scratch folder of their own.",
    epilog="Example: bin/soak kill --target postgres --kills 20",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)
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
        help="postgres, nats, http, projectors, projectors-later, relay, serve, each in turn, or all: one at random each time.",
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
                else lambda n, one=one: print(f"\r{one}: {n} of {kills} kills", end="", flush=True),  # type: ignore[misc]
            )
        if not json:
            print()
        _tell(found._asdict(), json)
        failed |= bool(
            found.lost
            or found.doubled
            or found.unknown
            or found.misplaced
            or found.gaps
            or found.contradicted
            or found.damaged
            or not found.rebuilt_equal
        )
    if failed:
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
    app(prog_name="soak")


if __name__ == "__main__":
    main()
