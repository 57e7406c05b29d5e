"""The load of every bench: 600-byte events of 100,000 persons with three sealed fields each."""

from __future__ import annotations

import copy
import hashlib
import os
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psycopg

from adapters.intake.cloudevents import Receipt, draft
from adapters.intake.ingest import Ingest
from adapters.intake.payloads import read_payload
from adapters.postgres.event_log import Appended, Item
from adapters.principal import Principal
from bin.compose import Core, core
from bin.settings import Settings
from domain.entry import event_id_of, uuid_text

__all__ = [
    "PRINCIPAL",
    "Templates",
    "copy_rows",
    "data_of",
    "described",
    "know_persons",
    "know_users",
    "make_baseline_tables",
    "parts_of",
    "payloads",
    "person_of",
    "segment_calls",
    "template_numbers",
    "templates",
]

PERSONS = 100_000
PAYLOAD_BYTES = 600
SEALED_FIELDS = 3
SOURCE = "bench/shop"
PRINCIPAL = Principal("key:bench", "admin")
_STRIDE = 48_271  # coprime to PERSONS: a walk over all persons that looks random


def payload(
    number: int, *, persons: int = PERSONS, new_subjects: bool = False, new_identifier: bool = False
) -> bytes:
    """One call as a telephone system would report it, 600 bytes of JSON; *number* makes it one of its kind.

    Args:
        new_subjects: it names two identifiers that were never seen.
        new_identifier: it names one that was never seen.
    """
    person = number * _STRIDE % persons
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": f"call-{number:010}",
        "source": SOURCE,
        "type": "call.ended",
        "time": f"2026-{1 + number % 12:02}-{1 + number % 28:02}T{number % 24:02}:{number % 60:02}:{number // 60 % 60:02}Z",
        "subject": f"email:new{number}@example.com"
        if new_subjects or new_identifier
        else f"email:person{person:06}@example.com",
        "direction": "inbound",
        "data": {
            "duration_s": number % 1800,
            "wait_s": number % 90,
            "outcome": "resolved",
            "reason": "delivery",
            "queue": "customer care",
            "agent": f"agent{number % 40:02}",
            "case_id": f"case-{number % 5000:05}",
            "from_number": f"+44207{person:07}",
            "to_number": "+442079460000",
            "summary": "",
        },
    }
    if new_subjects:
        event["identifiers"] = f"crm:new{number}"
    bare = len(orjson.dumps(event))
    event["data"]["summary"] = ("asked where the parcel is, was told tomorrow; " * 9)[
        : max(0, PAYLOAD_BYTES - bare)
    ]
    return orjson.dumps(event)


def payloads(start: int, count: int, **how: Any) -> list[bytes]:
    """*count* payloads with numbers from *start* on."""
    return [payload(number, **how) for number in range(start, start + count)]


def segment_call(number: int) -> bytes:
    """One call of Segment's API, 600 bytes of JSON: pages, orders and tracks of other kinds, as many of each."""
    person = number * _STRIDE % PERSONS
    call: dict[str, Any] = {
        "messageId": f"ajs-next-{number:010}",
        "userId": f"u{person:06}",
        "timestamp": f"2026-11-{1 + number % 20:02}T{number % 24:02}:{number % 60:02}:00.123Z",
        "context": {
            "library": {"name": "analytics.js", "version": "next-1.70.0"},
            "ip": "203.0.113.7",
            "userAgent": "",
            "page": {"path": "/shoes", "title": "Shoes", "url": "https://shop.example/shoes?utm_source=mail"},
        },
    }
    match number % 3:
        case 0:
            call |= {"type": "page", "name": "Shoes", "properties": {"category": "shoes"}}
        case 1:
            product = {"sku": "S-1", "name": "Runner", "price": 59.9, "quantity": 1}
            order = {"order_id": f"o-{number}", "total": 59.9, "currency": "EUR", "products": [product]}
            call |= {"type": "track", "event": "Order Completed", "properties": order}
        case _:
            seen = {"product_id": "S-1", "list": "shoes", "position": number % 30}
            call |= {"type": "track", "event": "Product Viewed", "properties": seen}
    bare = len(orjson.dumps(call))
    call["context"]["userAgent"] = ("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 " * 9)[
        : max(0, PAYLOAD_BYTES - bare)
    ]
    return orjson.dumps(call)


def segment_calls(start: int, count: int) -> list[bytes]:
    """*count* calls with numbers from *start* on."""
    return [segment_call(number) for number in range(start, start + count)]


def data_of(folder: Path, database_url: str) -> Path:
    """The folder of the installation that `parts_of` makes for a database."""
    return folder / database_url.rpartition("/")[2].partition("?")[0]


@asynccontextmanager
async def parts_of(folder: Path, database_url: str) -> AsyncIterator[Core]:
    """The parts of an installation, with a key file of its own for this database."""
    settings = Settings.load(environ={}, data=data_of(folder, database_url))
    async with core(settings, database_url) as parts:
        yield parts


class _Catching:
    """Stands where the writer does and keeps what would be written."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.head = 0

    async def append(self, items: Sequence[Item], **_: Any) -> list[Appended]:
        self.items += items
        return [Appended("recorded", 0)] * len(items)


class Templates:
    """Bodies as ingest writes them, to be given new keys: a stored event costs 4 µs so, and 15 by the whole way in."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._parts = []
        for item in items:
            body = orjson.loads(item.body)
            one, _, rest = item.body.partition(f'"event_id":"{body["event_id"]}"'.encode())
            two, _, three = rest.partition(f'"id":"{body["id"]}"'.encode())
            self._parts.append((one + b'"event_id":"', b'"' + two + b'"id":"', b'"' + three))
        self.stored_bytes = sum(len(item.body) for item in items) / len(items)
        self._start()

    def items(self, count: int) -> list[Item]:
        """*count* events that were never given before, each with the key that its id makes."""
        found = []
        parts, kinds = self._parts, len(self._parts)
        for number in range(self._next, self._next + count):
            source_id = f"{self._batch}-{number:010}"
            raw = event_id_of(SOURCE, source_id)
            one, two, three = parts[number % kinds]
            body = b"".join((one, uuid_text(raw).encode(), two, source_id.encode(), three))
            found.append(Item(raw, "call.ended", body, hashlib.blake2b(raw, digest_size=16).digest()))
        self._next += count
        return found

    def another(self) -> Templates:
        """The same bodies with keys of their own, for another process."""
        found = copy.copy(self)
        found._start()  # noqa: SLF001 - one of us
        return found

    def _start(self) -> None:
        self._batch = os.urandom(4).hex()
        self._next = 0

    def batches(self, count: int, size: int) -> list[list[Item]]:
        """*count* batches of *size* events."""
        return [self.items(size) for _ in range(count)]


async def know_persons(parts: Core) -> None:
    """Make the subjects of all persons, and have this process know them, as one that has run for a while does."""
    for start in range(0, PERSONS, 5000):
        await parts.subjects.resolve(
            [("email", "", f"person{n:06}@example.com") for n in range(start, start + 5000)]
        )
    receipt = Receipt.of(datetime.now(UTC))
    for number in range(PERSONS):  # what they are named by was read before, too
        draft(read_payload(payload(number)), receipt)


async def know_users(parts: Core) -> None:
    """Make the subjects of all users of `segment_calls`."""
    for start in range(0, PERSONS, 5000):
        await parts.subjects.resolve([("user", "", f"u{n:06}") for n in range(start, start + 5000)])


def template_numbers(count: int = 5000) -> list[int]:
    """Numbers of the payloads that `templates` prepares."""
    return random.Random(1).sample(range(PERSONS), count)  # noqa: S311 - a load, not a secret


def person_of(number: int) -> str:
    """Who the payload with this number is about."""
    return f"email:person{number * _STRIDE % PERSONS:06}@example.com"


async def templates(parts: Core, count: int = 5000) -> Templates:
    """Prepare *count* events by the whole way in, without writing them."""
    caught = _Catching()
    ingest = Ingest(parts.subjects, caught, parts.keys, parts.rejected)  # type: ignore[arg-type]
    await ingest.accept([payload(number) for number in template_numbers(count)], PRINCIPAL, way_in="http")
    return Templates(caught.items)


def described(rows: int, stored_bytes: float, **more: Any) -> dict[str, Any]:
    """The `load` of a result."""
    return {
        "rows": rows,
        "bytes_per_event": len(payload(1)),
        "stored_bytes_per_event": round(stored_bytes),
        "distinct_subjects": PERSONS,
        "sealed_fields": SEALED_FIELDS,
        **more,
    }


# ---- the baseline: packed binary COPY of the same bytes into tables of the same shape -----------------------

_HEADER = b"PGCOPY\n\xff\r\n\x00" + b"\x00" * 8
_TRAILER = b"\xff\xff"
_AT = 845_000_000_000_000


def make_baseline_tables(database_url: str) -> None:
    """Make tables of the shape of the log's, with the same indexes and storage, and nothing else."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(
            "CREATE TABLE copied_events (position bigint PRIMARY KEY, recorded_at timestamptz NOT NULL, stream uuid NOT NULL, "
            'version bigint NOT NULL, type text COLLATE "C" NOT NULL, body bytea NOT NULL)'
        )
        conn.execute("ALTER TABLE copied_events ALTER COLUMN body SET STORAGE EXTERNAL")
        conn.execute(
            "CREATE TABLE copied_keys (stream uuid, version bigint, position bigint NOT NULL, payload_hash uuid, "
            "PRIMARY KEY (stream, version))"
        )


def _packed(items: Sequence[Item], position: int) -> tuple[bytes, bytes]:
    """(events, keys) as binary COPY streams, by struct: the quickest form that Python has."""
    from struct import Struct

    event = Struct("!hiqiqi16siqi").pack
    length = Struct("!i").pack
    key = Struct("!hi16siqiqi16s").pack
    events, keys = [_HEADER], [_HEADER]
    for at, item in enumerate(items, position):
        stream, type_, body, payload_hash, version = item
        name = type_.encode()
        events += (event(6, 8, at, 8, _AT, 16, stream, 8, version, len(name)), name, length(len(body)), body)
        keys.append(key(4, 16, stream, 8, version, 8, at, 16, payload_hash))
    events.append(_TRAILER)
    keys.append(_TRAILER)
    return b"".join(events), b"".join(keys)


def packed_batches(batches: Sequence[Sequence[Item]], position: int) -> Iterator[tuple[bytes, bytes]]:
    """Pack each batch, with positions from *position* on."""
    for batch in batches:
        yield _packed(batch, position)
        position += len(batch)


def copy_rows(conn: psycopg.Connection[Any], streams: tuple[bytes, bytes]) -> None:
    """Copy one batch into both tables in one transaction: one wait for the disk, as ours has."""
    with conn.transaction(), conn.cursor() as curs:
        with curs.copy("COPY copied_events FROM STDIN (FORMAT binary)") as copy:
            copy.write(streams[0])
        with curs.copy("COPY copied_keys FROM STDIN (FORMAT binary)") as copy:
            copy.write(streams[1])
