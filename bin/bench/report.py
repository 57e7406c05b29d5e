"""What a bench measures and how it is told: samples by round, medians, ranges, ratios."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import orjson

from bin import __version__, logs
from bin.bench.scratch import Scratch
from domain.errors import Misconfigured

__all__ = ["Report", "run"]

SHOWN_PACKAGES = (
    "eventsourcing",
    "psycopg",
    "psycopg-binary",
    "orjson",
    "msgspec",
    "cryptography",
    "uvicorn",
    "uvloop",
)


class Report:
    """The samples of one bench."""

    def __init__(self, name: str, *, rounds: int, events: int, seconds: float, quiet: bool) -> None:
        self.name = name
        self.rounds = rounds
        self.events = events
        self.seconds = seconds
        self.load: dict[str, Any] = {}
        self.notes: list[str] = []
        self.versions: dict[str, str] = {}
        self._figures: dict[str, list[float]] = {}
        self._baselines: dict[str, list[float]] = {}
        self._ratios: dict[str, tuple[str, str]] = {}
        self._quiet = quiet

    def say(self, text: str) -> None:
        """Tell the person at the terminal what is being done."""
        if not self._quiet:
            print(text, file=sys.stderr, flush=True)

    def figure(self, name: str, value: float) -> None:
        """Note one sample of ours; the unit stands at the end of *name* (`_per_s`, `_ms`), events/s by default."""
        self._figures.setdefault(name, []).append(value)

    def baseline(self, name: str, value: float) -> None:
        """Note one sample of a baseline."""
        self._baselines.setdefault(name, []).append(value)

    def ratio(self, name: str, over: str, under: str) -> None:
        """Declare the ratio of two names, taken round by round."""
        self._ratios[name] = (over, under)

    def _samples(self, name: str) -> list[float]:
        return self._figures.get(name) or self._baselines.get(name) or []

    def ratios(self) -> dict[str, dict[str, float]]:
        """Give each declared ratio that has samples: the median of the rounds' ratios, least and greatest."""
        found = {}
        for name, (over, under) in self._ratios.items():
            one, other = self._samples(over), self._samples(under)
            if not one or not other:
                continue
            pairs = (
                [a / b for a, b in zip(one, other, strict=True)]
                if len(one) == len(other)
                else [statistics.median(one) / statistics.median(other)]
            )
            found[name] = _spread(pairs, 3)
        return found

    def result(self, took_s: float) -> dict[str, Any]:
        """Give the one JSON object of this bench."""
        ratios = self.ratios()
        return {
            "bench": self.name,
            "figures": {name: _spread(samples, 1) for name, samples in self._figures.items()},
            "baselines": {name: _spread(samples, 1) for name, samples in self._baselines.items()},
            "ratios": {name: spread["median"] for name, spread in ratios.items()},
            "ratio_ranges": {name: [spread["min"], spread["max"]] for name, spread in ratios.items()},
            "load": self.load,
            "rounds": self.rounds,
            "seconds": round(took_s, 1),
            "notes": self.notes,
            "versions": {**_versions(), **self.versions},
        }


def _spread(samples: Sequence[float], digits: int) -> dict[str, float]:
    return {
        "median": round(statistics.median(samples), digits),
        "min": round(min(samples), digits),
        "max": round(max(samples), digits),
    }


def _versions() -> dict[str, str]:
    found = {
        "touchlog": __version__,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    for package in SHOWN_PACKAGES:
        found[package] = metadata.version(package)
    return found


def run(
    names: Sequence[str], *, rounds: int, events: int, seconds: float, folder: Path | None, only_json: bool
) -> None:
    """Run the benches *names*, each with servers of its own, and print what they found."""
    logs.configure("warning", part="bench", form="pairs")
    if folder is not None and not folder.is_dir():
        raise Misconfigured(
            f"There is no folder {folder}; name one that exists with --data, on the disk to be measured."
        )
    for name in names:
        report = Report(name, rounds=rounds, events=events, seconds=seconds, quiet=only_json)
        bench: Callable[[Report, Scratch], None] = import_module(f"bin.bench.{name}").bench
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="touchlog-bench-", dir=folder) as scratch:
            Path(scratch).chmod(0o711)  # root's PostgreSQL runs as another user, who has to pass
            with Scratch(Path(scratch)) as opened:
                report.versions["postgresql"] = opened.server_version
                bench(report, opened)
        result = report.result(time.monotonic() - started)
        if not only_json:
            _print_table(result)
        print(orjson.dumps(result).decode(), flush=True)


def _print_table(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=max(100, Console().width))
    table = Table(
        title=f"bench {result['bench']}: {result['rounds']} rounds, {result['seconds']} s",
        title_justify="left",
    )
    table.add_column("what")
    for column in ("median", "min", "max"):
        table.add_column(column, justify="right")
    for kind in ("figures", "baselines"):
        for name, spread in result[kind].items():
            shown = name if kind == "figures" else f"baseline {name}"
            table.add_row(shown, *(f"{spread[column]:,.1f}" for column in ("median", "min", "max")))
    table.add_section()
    for name, value in result["ratios"].items():
        least, greatest = result["ratio_ranges"][name]
        table.add_row(f"ratio {name}", f"{value:.3f}", f"{least:.3f}", f"{greatest:.3f}")
    console.print(table)
    for note in result["notes"]:
        console.print(f"- {note}", highlight=False)
