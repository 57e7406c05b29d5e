"""feed: the whole log is read through GET /v1/events, and the process that serves it stays as large as it was."""

from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import uvloop

from bin.bench.load import PRINCIPAL, payloads
from bin.bench.serving import Serving
from bin.compose import core
from bin.settings import Settings

__all__ = ["Fed", "run_feed"]

BATCH = 1000
IN_FLIGHT = 4
PAGE = 10_000
LOOKS = 20


class Fed(NamedTuple):
    """What a trial found; memory is what is resident and shared out fairly (PSS), in MB."""

    events: int
    seen: int
    out_of_order: int
    seconds: float
    events_per_s: int
    bytes_per_event: int
    memory_first_tenth_mb: float
    memory_last_tenth_mb: float
    memory_most_mb: float
    idle_memory_mb: float  # of everything together, before the first event


class _Told(msgspec.Struct):
    position: int


class _Page(msgspec.Struct):
    events: list[_Told]
    next: int
    head: int


def run_feed(folder: Path, *, events: int, progress: Callable[[str, int], None] | None = None) -> Fed:
    """Record so many events by the whole way in, then read them all through one connection."""
    tell = progress or (lambda *_: None)
    with Serving(folder / "served", "--only", "http,projectors,relay") as serving:
        idle_mb = sum(_pss_mb(pid) for pid in _family(serving.pid))
    with Serving(folder / "served", "--only", "http") as serving:
        settings = Settings.load(environ={}, data=serving.data)
        uvloop.run(_fill(settings, serving.database_url, events, tell))
        server = _http_process(serving)
        host, port = serving.address()
        connection = http.client.HTTPConnection(host, port)
        headers = {"Authorization": f"Bearer {serving.key}"}
        after = seen = out_of_order = size = 0
        memory: list[float] = []
        decode = msgspec.json.Decoder(_Page).decode
        started = time.perf_counter()
        while True:
            connection.request("GET", f"/v1/events?after={after}&limit={PAGE}", headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != http.client.OK:
                raise RuntimeError(f"GET /v1/events?after={after} answered {answer.status}: {body[:200]!r}")
            page = decode(body)
            if not page.events:
                break
            for event in page.events:
                out_of_order += event.position != after + 1
                after = event.position
            seen += len(page.events)
            size += len(body)
            if seen * LOOKS // events > len(memory):
                memory.append(_pss_mb(server))
                tell("read", seen)
        seconds = time.perf_counter() - started
        memory.append(_pss_mb(server))
    tenth = max(1, len(memory) // 10)
    return Fed(
        events=events,
        seen=seen,
        out_of_order=out_of_order,
        seconds=round(seconds, 1),
        events_per_s=round(seen / seconds),
        bytes_per_event=round(size / max(1, seen)),
        memory_first_tenth_mb=max(memory[:tenth]),
        memory_last_tenth_mb=max(memory[-tenth:]),
        memory_most_mb=max(memory),
        idle_memory_mb=round(idle_mb, 1),
    )


async def _fill(settings: Settings, url: str, events: int, tell: Callable[[str, int], None]) -> None:
    async with core(settings, url) as parts:
        starts = iter(range(0, events, BATCH))

        async def lane() -> None:
            for start in starts:
                count = min(BATCH, events - start)
                answer = await parts.ingest.accept(payloads(start, count), PRINCIPAL, way_in="http")
                if answer.recorded != count:
                    raise RuntimeError(f"{answer.recorded} of {count} events were recorded.")
                if start % (events // LOOKS // BATCH * BATCH or BATCH) == 0:
                    tell("recorded", start)

        await asyncio.gather(*(lane() for _ in range(IN_FLIGHT)))


def _family(pid: int) -> list[int]:
    """A process and all below it, as far as they last: a server of a database begins and ends some all the time."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in task.read_text().split():
                found += _family(int(child))
    return found


def _pss_mb(pid: int) -> float:
    """Resident memory of a process with its share of what it shares, in MB; nothing of one that has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def _http_process(serving: Any) -> int:
    for pid in _family(serving.pid):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"bin.parts" in words and b"http" in words:
            return pid
    raise RuntimeError("serve has no HTTP process.")
