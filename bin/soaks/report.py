"""report: what was answered for a moment of knowledge is answered for it again, byte by byte, whatever came since."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import msgspec
import psycopg

from adapters.answers.audit_trail import AuditTrails
from adapters.answers.persons import Persons
from adapters.postgres.event_log import connect_log
from adapters.postgres.schema import APP_ROLE
from adapters.rebuilds.rebuild import Rebuild, drop
from bin.commands.replay import Asked
from bin.commands.replay import run as replayed
from bin.compose import Core, core
from bin.settings import Settings
from bin.soaks.following import Following
from bin.soaks.mixed import FROM, Sent, mixed, recorded
from bin.soaks.rows import digests
from domain.errors import Behind
from projections.projection import PROJECTIONS

__all__ = ["Report", "run_report"]

PERSONS_SHOWN = 6
CATCH_UP_S = 600
PERIOD = 400
FEWEST_MOMENTS = 3
"""Asked while events come in, however slow the machine."""
Reports = dict[str, str]
"""Name of a report -> SHA-256 of its bytes."""


class Report(NamedTuple):
    """What a trial found."""

    events_before: int
    events_after: int
    reports: int  # asked for the earlier head
    bytes: int  # that these held
    changed: list[str]  # of these: those that are other bytes now
    asked_under_load: int  # moments, each with some reports
    refused: int  # times that a report was refused because the read model was behind, and asked again
    changed_since_load: list[str]  # moment and name of those that are other bytes once the dust has settled
    slowest_s: float  # longest set of reports under load
    seconds: float


def run_report(
    url: str, folder: Path, *, before: int, after: int, rate: float = 2000, persons: int | None = None
) -> Report:
    """Record *before* events, ask; record *after* more, asking for now meanwhile; ask all of it again.

    Args:
        url: a migrated database of its own.
        folder: where its key file is made, and replays are written.
        rate: events per second of the second part: late ones, links, corrections of both parts, retractions.
    """
    return asyncio.run(_trial(url, folder, before, after, rate, persons or max(20, before // 25)))


async def _trial(url: str, folder: Path, before: int, after: int, rate: float, persons: int) -> Report:
    started = time.monotonic()
    async with core(Settings.load({}, data=folder), url) as parts:
        following = Following(url)
        try:
            asking = _Asking(parts, folder)
            await recorded(parts, mixed(21, before, persons=persons, retracted=0.001))
            head = await parts.feed.head()
            then = datetime.now(UTC)
            first = await asking.all(head) | await asking.all(then)
            size = asking.bytes
            late = mixed(22, after, persons=persons, first=before, earlier=before, retracted=0.0005)
            enough = asyncio.Event()
            loading = asyncio.create_task(_paced(parts, late, rate, after - after // 4, enough))
            under_load: list[tuple[datetime, Reports]] = []
            slowest = 0.0
            while not loading.done() or not under_load:
                began, moment = time.monotonic(), datetime.now(UTC)
                under_load.append((moment, await asking.some(moment)))
                slowest = max(slowest, time.monotonic() - began)
                if len(under_load) >= FEWEST_MOMENTS:
                    enough.set()
                await asyncio.wait([loading], timeout=after / rate / 12)
            await loading
            await parts.histories.moments.wait_until(
                await parts.feed.head(), at_most_s=CATCH_UP_S, models=tuple(PROJECTIONS)
            )
            again = await asking.all(head) | await asking.all(then)
            changed_since = [
                f"{moment.isoformat()} {name}"
                for moment, told in under_load
                for name in _changed(told, await asking.some(moment))
            ]
            return Report(
                events_before=before,
                events_after=await parts.feed.head() - head,
                reports=len(first),
                bytes=size,
                changed=_changed(first, again),
                asked_under_load=len(under_load),
                refused=asking.refused,
                changed_since_load=changed_since,
                slowest_s=round(slowest, 2),
                seconds=round(time.monotonic() - started, 1),
            )
        finally:
            await asyncio.to_thread(following.end)


def _changed(one: Reports, other: Reports) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


async def _paced(
    parts: Core, sent: Iterator[Sent], rate: float, held_back: int, enough: asyncio.Event
) -> None:
    """Record *sent* at *rate*; those behind *held_back* only when *enough* has been asked meanwhile."""
    next_s, done = time.monotonic(), 0
    while batch := list(islice(sent, PERIOD)):
        if done >= held_back:
            await enough.wait()
        await recorded(parts, batch)
        done += len(batch)
        next_s += PERIOD / rate
        await asyncio.sleep(max(0.0, next_s - time.monotonic()))


class _Asking:
    """Asks for reports, and keeps of each the hash of its bytes."""

    def __init__(self, parts: Core, folder: Path) -> None:
        self._parts = parts
        self._folder = folder / "replayed"
        self._trails = AuditTrails(parts.pool, parts.histories, zone=ZoneInfo("Europe/Vienna"))
        self._persons = Persons(parts.pool, parts.subjects, parts.histories)
        self.refused = 0
        self.bytes = 0

    async def some(self, known_at: datetime | int) -> Reports:
        """The reports that are quick: histories, persons, the audit trail, a replay to JSON lines."""
        found: Reports = {}
        told = f"@{known_at}" if isinstance(known_at, int) else known_at.isoformat()
        for number in range(PERSONS_SHOWN):
            ref = f"email:p{number}@example.com"
            for as_of in (None, FROM + timedelta(hours=500)):
                pages = self._pages(self._parts.histories.page, ref, as_of=as_of, known_at=known_at)
                found[f"history {ref} {as_of} {told}"] = await self._of(pages)
                one = self._persons.one(ref, as_of=as_of, known_at=known_at)
                found[f"person {ref} {as_of} {told}"] = await self._of(_once(one))
            pages = self._pages(self._trails.page, person=ref, known_at=known_at)
            found[f"trail {ref} {told}"] = await self._of(pages)
        found[f"trail {told}"] = await self._of(self._pages(self._trails.page, known_at=known_at))
        found[f"trail @7 {told}"] = await self._of(
            self._pages(self._trails.page, event="@7", known_at=known_at)
        )
        found[f"replay jsonl {told}"] = await self._replay("jsonl", "one.jsonl", known_at)
        return found

    async def all(self, known_at: datetime | int) -> Reports:
        """Those, replays in every format, and every read model rebuilt as it was known."""
        found = await self.some(known_at)
        told = f"@{known_at}" if isinstance(known_at, int) else known_at.isoformat()
        for format_, name in (("csv", "one.csv"), ("arrow", "one.arrow"), ("parquet", "one.parquet")):
            found[f"replay {format_} {told}"] = await self._replay(format_, name, known_at)
        found[f"replay parquet folder {told}"] = await self._replay("parquet", "columns", known_at)
        found[f"replay of a person {told}"] = await self._replay(
            "jsonl", "one.jsonl", known_at, person="email:p0@example.com"
        )
        position = await self._parts.histories.moments.resolve_known_at(known_at)
        assert position is not None
        for name in PROJECTIONS:
            found[f"rebuilt {name} {told}"] = await asyncio.to_thread(self._rebuilt, name, position)
        return found

    async def _of(self, pages: AsyncIterator[bytes]) -> str:
        digest = hashlib.sha256()
        async for page in pages:
            digest.update(page)
            self.bytes += len(page)
        return digest.hexdigest()

    async def _pages(
        self, page: Callable[..., Awaitable[Any]], *who: str, **asked: Any
    ) -> AsyncIterator[bytes]:
        """All pages; asked again where the read model is behind: an answer may be refused, never short."""
        cursor: str | None = None
        while True:
            try:
                found = await page(*who, **asked, limit=1000, cursor=cursor)
            except Behind:
                self.refused += 1
                continue
            yield msgspec.json.encode(found)
            cursor = found.next
            if cursor is None:
                return

    async def _replay(self, format_: str, name: str, known_at: datetime | int, **more: Any) -> str:
        self._folder.mkdir(exist_ok=True)
        output = self._folder / name
        asked = Asked(format=format_, output=output, known_at=known_at, force=True, **more)
        await replayed(self._parts.settings, self._parts.database_url, asked, lambda _replay, _is_last: None)
        digest = hashlib.sha256()
        for file in sorted(output.iterdir()) if output.is_dir() else [output]:
            content = file.read_bytes()
            digest.update(file.name.encode() + b"\0" + content)
            self.bytes += len(content)
        shutil.rmtree(self._folder)
        return digest.hexdigest()

    def _rebuilt(self, name: str, position: int) -> str:
        url = self._parts.database_url
        reader = connect_log(url, pool=2, role=APP_ROLE)
        rebuild = Rebuild(url, reader, name, until=position)
        try:
            rebuild.build()
            with psycopg.connect(url, autocommit=True) as conn:
                found = digests(conn, schemas={name: rebuild.schema}, names=[name])
            drop(rebuild.connection, name, rebuild.schema)
        finally:
            rebuild.close()
            reader.datastore.close()
        return hashlib.sha256(repr(found).encode()).hexdigest()


async def _once(answer: Awaitable[Any]) -> AsyncIterator[bytes]:
    yield msgspec.json.encode(await answer)
