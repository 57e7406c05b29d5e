"""funnel: five steps in 14 days, by channel, over the columns; beside DuckDB's SQL and ClickHouse's windowFunnel."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from bin.bench.funnel_load import fill
from bin.bench.report import Report
from bin.bench.scratch import Scratch
from domain.errors import Unavailable

ENGINES = ("columns", "duckdb", "clickhouse")
ROOT = Path(__file__).resolve().parents[2]


def bench(report: Report, scratch: Scratch) -> None:
    """Measure `funnel`."""
    folder = scratch.folder / "funnel"
    folder.mkdir()
    report.say(f"funnel: making {report.events:,} events")
    fill(folder, report.events)
    engines = [e for e in ENGINES if e != "clickhouse" or find_spec("chdb") is not None]
    answers: dict[str, Any] = {}
    for engine in engines:
        report.say(f"funnel: {engine}, {report.rounds} rounds")
        told = _told(engine, folder, report.rounds)
        answers[engine] = told["answer"]
        note = report.figure if engine == "columns" else report.baseline
        note(f"{engine}_first_ms", told["first_ms"])
        note(f"{engine}_peak_mb", told["peak_mb"])
        for took_ms in told["took_ms"]:
            note(f"{engine}_ms", took_ms)
    if any(answer != answers["columns"] for answer in answers.values()):
        raise AssertionError(f"The engines do not agree: {answers}")
    report.ratio("funnel.over_duckdb", "duckdb_ms", "columns_ms")
    report.ratio("funnel.over_clickhouse", "clickhouse_ms", "columns_ms")
    report.load = {
        "events": report.events,
        "distinct_subjects": max(1, report.events // 50),
        "types": 40,
        "steps": 5,
    }
    report.notes.append(
        "Warm, each engine in a process of its own, the same counts by step and channel; first: with opening its files. "
        "The ratios tell how many times longer the baseline takes."
        + ("" if "clickhouse" in engines else " ClickHouse was not run: chdb is not installed.")
    )


def _told(engine: str, folder: Path, rounds: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bin.bench.funnel_engine", engine, str(folder), str(rounds)],
        check=False, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    if done.returncode:
        raise Unavailable(f"{engine} failed: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = msgspec.json.decode(done.stdout.strip().splitlines()[-1])
    return found
