"""One engine of `bench funnel` in a process of its own: how long each answer took, and the most memory held."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from adapters.columns.manifest import MANIFEST, Manifest
from bin.bench.funnel_load import CHANNELS, EVENTS_FILE, OTHER_STEPS, STEPS, WINDOW_S

Counts = dict[str, list[int]]
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


def _of_rows(rows: list[tuple[str, int, int]]) -> Counts:
    """Units that reached at least each step, of rows (channel, level, units)."""
    found = {channel: [0] * len(STEPS) for channel in CHANNELS}
    for channel, level, units in rows:
        for k in range(level):
            found[channel][k] += units
    return found


def columns(folder: Path, url: str) -> Callable[[], Counts]:
    """Ours: the question as it comes in, answered whole, as JSON: what a server does that was asked before."""
    from concurrent.futures import ThreadPoolExecutor

    from adapters.columns.funnels import ask
    from adapters.columns.library import Library
    from domain.funnels.answer import Answer
    from domain.funnels.reading import read_funnel

    library = Library(url, folder)
    threads = ThreadPoolExecutor(2)
    known_at = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest).position

    def told(steps: list[str]) -> bytes:
        question = {
            "steps": steps, "window": f"{WINDOW_S}s", "breakdown": {"by": "channel", "attribution": "all_steps"},
        }  # fmt: skip
        view, owners, known_us = library.view(known_at, None)
        funnel = read_funnel(question, view.known)
        answer = ask(funnel, view, owners, as_of=None, as_of_us=None, known_us=known_us, threads=threads)
        return msgspec.json.encode(answer)

    def answer() -> Counts:
        found = msgspec.json.decode(told(STEPS), type=Answer)
        counts = {str(v.value): [s.count for s in v.steps] for v in found.breakdown or []}
        return {channel: counts.get(channel, [0] * len(STEPS)) for channel in CHANNELS}

    def another() -> None:
        told(OTHER_STEPS)

    answer.between = another  # type: ignore[attr-defined]
    return answer


def duckdb(folder: Path) -> Callable[[], Counts]:
    """The running maximum of the latest chain that reached each level, in one ordering."""
    import duckdb as engine

    conn = engine.connect(config={"threads": 2})
    cases = " ".join(f"WHEN '{step}' THEN {k}" for k, step in enumerate(STEPS, start=1))
    levels = ["SELECT *, CASE WHEN step = 1 THEN t END AS c1 FROM e"]
    levels += [
        (
            f"SELECT *, CASE WHEN step = {k} AND t - r{k - 1} <= {WINDOW_S} THEN r{k - 1} END AS c{k} FROM "  # noqa: S608 - our own words
            f"(SELECT *, max(c{k - 1}) OVER (PARTITION BY person, channel ORDER BY t, step "
            f"ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS r{k - 1} FROM l{k - 1})"
        )
        for k in range(2, len(STEPS) + 1)
    ]
    tables = ", ".join(f"l{k} AS ({level})" for k, level in enumerate(levels, start=1))
    reached = " ".join(f"WHEN count(c{k}) > 0 THEN {k}" for k in range(len(STEPS), 0, -1))
    query = (
        f"WITH e AS (SELECT person, channel, events.at::BIGINT AS t, CASE type {cases} END AS step FROM '{folder / EVENTS_FILE}' AS events "  # noqa: S608 - our own words
        f"WHERE type IN ({', '.join(repr(s) for s in STEPS)})), {tables}, "
        f"u AS (SELECT channel, CASE {reached} ELSE 0 END AS level FROM l{len(STEPS)} GROUP BY person, channel) "
        "SELECT channel, level, count(*) FROM u GROUP BY ALL"
    )
    return lambda: _of_rows(conn.execute(query).fetchall())


def clickhouse(folder: Path, *, table: bool = False) -> Callable[[], Counts]:
    """ClickHouse's own function, by its engine in this process; over the file, or a table of its own sorted for it."""
    from importlib import import_module

    conn = import_module("chdb.session").Session()
    source = f"file('{folder / EVENTS_FILE}', Parquet)"
    if table:
        conn.query("CREATE DATABASE bench")
        conn.query(
            "CREATE TABLE bench.events (person UInt32, at UInt32, type LowCardinality(String), channel LowCardinality(String)) "
            "ENGINE = MergeTree ORDER BY (person, channel, at)"
        )
        conn.query(f"INSERT INTO bench.events SELECT person, at, type, channel FROM {source}")  # noqa: S608 - our own words
        source = "bench.events"
    events = ", ".join(f"type = '{step}'" for step in STEPS)
    query = (
        f"SELECT channel, level, count() FROM (SELECT channel, windowFunnel({WINDOW_S})(at, {events}) AS level "  # noqa: S608 - our own words
        f"FROM {source} WHERE type IN ({', '.join(repr(s) for s in STEPS)}) "
        "GROUP BY person, channel) GROUP BY channel, level SETTINGS max_threads = 2"
    )

    def answer() -> Counts:
        rows = msgspec.json.decode(str(conn.query(query, "JSONCompact")))["data"]
        return _of_rows([(str(c), int(level), int(n)) for c, level, n in rows])

    return answer


def _peak_mb() -> float:
    """Most memory that this process held; what it was forked from does not count where the system tells that apart."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT / 1e6


def main() -> None:
    """Run one engine: `ENGINE FOLDER ROUNDS URL`, the last of the database of our columns."""
    engine, folder, rounds, url = sys.argv[1:]
    started = time.perf_counter()
    engines: dict[str, Callable[[Path], Callable[[], Counts]]] = {
        "columns": partial(columns, url=url),
        "duckdb": duckdb,
        "clickhouse": clickhouse,
        "clickhouse_table": partial(clickhouse, table=True),
    }
    ask = engines[engine](Path(folder))
    answer = ask()
    first_ms = (time.perf_counter() - started) * 1000
    took_ms = []
    for _ in range(int(rounds)):
        getattr(ask, "between", lambda: None)()  # so that nobody is told what was kept of the answer before
        started = time.perf_counter()
        ask()
        took_ms.append((time.perf_counter() - started) * 1000)
    peak_mb = _peak_mb()
    print(
        msgspec.json.encode(
            {"answer": answer, "first_ms": first_ms, "took_ms": took_ms, "peak_mb": peak_mb}
        ).decode()
    )


if __name__ == "__main__":
    main()
