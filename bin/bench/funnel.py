"""funnel: five steps in 14 days, by channel, over the columns; beside DuckDB's SQL and ClickHouse's windowFunnel."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from shutil import rmtree
from typing import Any

import msgspec
import psycopg

from adapters.analysis.funnels import READ_MODELS
from bin.bench.funnel_load import fill
from bin.bench.report import Report
from bin.bench.scratch import Scratch
from bin.compose import project_once
from domain.errors import Unavailable

ENGINES = ("columns", "duckdb", "clickhouse", "clickhouse_table")
GROWTH = ((0.1, "tenth"), (0.3, "three_tenths"), (1, "whole"), (3, "threefold"))
"""1, 3, 10 and 30 million of the usual 10 million."""
ROOT = Path(__file__).resolve().parents[2]


def bench(report: Report, scratch: Scratch) -> None:
    """Measure `funnel`."""
    folder = scratch.folder / "funnel"
    folder.mkdir()
    report.say(f"funnel: making {report.events:,} events")
    url = scratch.database()
    project_once(url, READ_MODELS)
    log_id = _log_of(url, 3 * report.events)
    fill(folder, report.events, log_id)
    engines = [e for e in ENGINES if "clickhouse" not in e or find_spec("chdb") is not None]
    answers: dict[str, Any] = {}
    for engine in engines:
        report.say(f"funnel: {engine}, {report.rounds} rounds")
        told = _told(engine, folder, report.rounds, url)
        answers[engine] = told["answer"]
        note = report.figure if engine == "columns" else report.baseline
        note(f"{engine}_first_ms", told["first_ms"])
        note(f"{engine}_peak_mb", told["peak_mb"])
        for took_ms in told["took_ms"]:
            note(f"{engine}_ms", took_ms)
    _agree(answers)
    for part, shown in GROWTH:
        if part == 1:
            continue
        events = round(report.events * part)
        report.say(f"funnel: {shown} as many events, {events:,}")
        grown = folder / "grown"
        grown.mkdir()
        fill(grown, events, log_id)
        told = {
            engine: _told(engine, grown, report.rounds if engine == "columns" else 0, url)
            for engine in engines
        }
        _agree({engine: each["answer"] for engine, each in told.items()})
        rmtree(grown)
        report.figure(f"columns_{shown}_peak_mb", told["columns"]["peak_mb"])
        for took_ms in told["columns"]["took_ms"]:
            report.figure(f"columns_{shown}_ms", took_ms)
    report.versions |= {
        name: version(name) for name in ("duckdb", "numba", "numpy", "pyarrow", "chdb") if find_spec(name)
    }
    report.ratio("funnel.over_duckdb", "duckdb_ms", "columns_ms")
    report.ratio("funnel.over_clickhouse", "clickhouse_ms", "columns_ms")
    report.ratio("funnel.over_clickhouse_table", "clickhouse_table_ms", "columns_ms")
    report.load = {
        "events": report.events,
        "distinct_subjects": max(1, report.events // 50),
        "types": 40,
        "steps": 5,
        "window_days": 14,
        "breakdown": "channel",
        "counts": answers["columns"],
        "engines_agree": len(engines),
        "grown_to": [round(report.events * part) for part, _ in GROWTH],
    }
    report.notes.append(
        "Warm, each engine in a process of its own, ours as `POST /v1/funnels/query` asks it, another funnel asked before every round;  the same counts by step and channel (load.counts) at every size; first: with opening its files. "
        "duckdb and clickhouse read one Parquet file in order of time; clickhouse_table a MergeTree sorted by person, channel and time, its filling not counted. "
        "tenth, three_tenths, threefold: how ours grows with the events. "
        "The ratios tell how many times longer the baseline takes."
        + ("" if "clickhouse" in engines else " ClickHouse was not run: chdb is not installed.")
    )


def _log_of(url: str, head: int) -> str:
    """The id of a log that says it has *head* events; the columns hold them, and nobody reads them from the log."""
    with psycopg.connect(url) as conn:
        row = conn.execute(
            "UPDATE touchpoint_log.head SET position = %s RETURNING log_id::text", (head,)
        ).fetchone()
    assert row is not None
    return str(row[0])


def _agree(answers: dict[str, Any]) -> None:
    if any(answer != answers["columns"] for answer in answers.values()):
        raise AssertionError(f"The engines do not agree: {answers}")


def _told(engine: str, folder: Path, rounds: int, url: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "bin.bench.funnel_engine", engine, str(folder), str(rounds), url],
        check=False, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    if done.returncode:
        raise Unavailable(f"{engine} failed: {done.stderr.strip()[-500:]}")
    found: dict[str, Any] = msgspec.json.decode(done.stdout.strip().splitlines()[-1])
    return found
