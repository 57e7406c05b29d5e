"""bench: how fast this touchlog is here, each rate beside what the machine could do at best.

Every bench works in a scratch folder of its own with its own servers (PostgreSQL tuned as `serve` tunes
it), never in an installation's. Ours and the baselines run in turns, round by round; what is told is the
median of the rounds with its range, and the ratios are taken round by round, because machines wander.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import typer

BENCHES = (
    "append",
    "ingest",
    "project",
    "replay",
    "rebuild",
    "freshness",
    "history",
    "identity",
    "consent",
    "funnel",
)
"""In the order of `bench all`; each is a module of this package with a function `bench`."""

EVENTS = {
    "replay": 1_000_000,
    "rebuild": 300_000,
    "identity": 300_000,
    "consent": 1_000_000,
    "funnel": 10_000_000,
}
"""In the log of a bench by itself, where it is not 5,000,000; of identity, the persons; of consent, the facts and as many messages."""

FOLDER_OPTION = typer.Option(
    None,
    "--data",
    metavar="DIR",
    show_default=False,
    help="Make the scratch folder in DIR, on the disk to be measured; nothing else there is touched "
    "(default: the system's temporary folder).",
)

__all__ = ["BENCHES", "register"]


def register(app: typer.Typer) -> None:
    """Add `touchlog bench`."""

    @app.command("bench", epilog="Example: touchlog bench append --rounds 7")
    def bench_command(
        name: str = typer.Argument(
            "all", metavar="[NAME]", help=f"One of {', '.join(BENCHES)}; all by default."
        ),
        rounds: int = typer.Option(7, min=1, help="Rounds of ours and the baselines in turns."),
        events: int | None = typer.Option(
            None,
            min=1000,
            help="Events in the log where a bench fills one (default: 5,000,000; replay 1,000,000; consent 1,000,000 facts and as many messages; rebuild and identity 300,000; funnel 10,000,000; with all: 200,000).",
        ),
        seconds: float = typer.Option(20, min=1, help="How long freshness posts."),
        data: Path | None = FOLDER_OPTION,
        json: bool = typer.Option(False, "--json", help="Print only the JSON objects, one a line."),
    ) -> None:
        """Measure, against baselines taken in the same minutes; prints a table and one JSON object for each bench."""
        from bin.bench.report import run

        names = BENCHES if name == "all" else (name,)
        if unknown := [each for each in names if each not in BENCHES]:
            raise typer.BadParameter(f"no such bench: {unknown[0]}; there are {', '.join(BENCHES)} and all")
        # Ended as by Ctrl-C: what it started does not outlive it.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        events = events or (200_000 if name == "all" else EVENTS.get(name, 5_000_000))
        run(names, rounds=rounds, events=events, seconds=seconds, folder=data, only_json=json)
