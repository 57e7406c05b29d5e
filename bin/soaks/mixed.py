"""A history in which everything happens that makes read models hard: late events, links, corrections, retractions.

What is given can arrive in any order: corrections name events by key, retractions name imports, and the
time of each says which of several wins.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from adapters.intake.ingest import Ingest
from adapters.postgres.event_log import Appended, Item
from adapters.principal import Principal
from bin.compose import Core
from domain.correction import RETRACTION

__all__ = ["FROM", "OFFICE", "Sent", "mixed", "prepared", "recorded"]

FROM = datetime(2026, 1, 1, tzinfo=UTC)
OFFICE = Principal("key:soak", "admin", inside=True)
SOURCES = ("soak/shop", "soak/desk")
CHANNELS = ("phone", "web", "store")
EVENTS_PER_IMPORT = 60


class Sent(NamedTuple):
    """An event as its source sends it, and the import that brings it."""

    event: dict[str, Any]
    import_id: str | None = None


def mixed(
    seed: int,
    count: int,
    *,
    persons: int | None = None,
    first: int = 0,
    earlier: int = 0,
    retracted: float = 0.02,
) -> Iterator[Sent]:
    """*count* events, the same for the same arguments.

    Args:
        persons: how many e-mail addresses they speak of.
        first: number of the first; ids follow from numbers, so that two histories with other numbers share no key.
        earlier: so many events with lower numbers (of another call) may be corrected, too.
        retracted: share of events that take an import back.
    """
    chance = random.Random(f"{seed} {first}")  # noqa: S311 - a history, not a secret
    people = persons or max(3, count // 8)
    for number in range(first, first + count):
        kind = chance.random()
        if kind < 0.12 and number > first - earlier:
            yield Sent(_correction(number, chance, chance.randrange(first - earlier, number), people))
        elif kind < 0.12 + retracted and number - first > EVENTS_PER_IMPORT:
            yield Sent(_retraction(number, chance, chance.randrange(first, number) // EVENTS_PER_IMPORT))
        else:
            imported = number // EVENTS_PER_IMPORT % 3 == 0
            yield Sent(_touchpoint(number, chance, people), _import_id(number) if imported else None)


def _import_id(number: int) -> str:
    return str(UUID(int=0xA1 << 120 | 4 << 76 | 2 << 62 | number // EVENTS_PER_IMPORT))


def _at(chance: random.Random) -> str:
    """A time; hours are few, so that some events happen at the same."""
    return (FROM + timedelta(hours=chance.randrange(1000))).isoformat().replace("+00:00", "Z")


def _who(chance: random.Random, people: int) -> str:
    number = chance.randrange(people)
    return chance.choice(
        (
            f"email:p{number}@example.com",
            f"email:p{number}@example.com",
            f"user:u-{number}",
            f"crm:c-{number}",
        )
    )


def _source(number: int) -> str:
    return SOURCES[number % len(SOURCES)]


def _touchpoint(number: int, chance: random.Random, people: int) -> dict[str, Any]:
    type_, data = chance.choice(
        (
            ("call.ended", {"duration_s": number % 900}),
            ("email.received", {"subject": "Where is it?"}),
            ("order.placed", {"order_id": f"o-{number}", "amount_minor": number % 9000, "currency": "EUR"}),
            ("web.page_viewed", {"path": f"/{number % 7}", "url": f"https://shop.example/{number % 7}"}),
        )
    )
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": f"n-{number}",
        "source": _source(number),
        "type": type_,
        "time": _at(chance),
        "channel": chance.choice(CHANNELS),
        "direction": chance.choice(("inbound", "outbound")),
        "data": dict(data),
    }
    if chance.random() < 0.35:
        event["data"]["conversation_id"] = f"k-{chance.randrange(max(2, people))}"
    names = [_who(chance, people)] if chance.random() < 0.9 else []
    if names and chance.random() < 0.3:  # links
        names.append(_who(chance, people))
    if chance.random() < 0.25:
        names.append(f"order:o-{chance.randrange(max(2, people))}")
    if names:
        event["subject"], *more = names
        if more:
            event["identifiers"] = ",".join(more)
    return event


def _correction(number: int, chance: random.Random, of: int, people: int) -> dict[str, Any]:
    said: dict[str, Any] = {
        "time": _at(chance),
        "channel": chance.choice(CHANNELS),
        "direction": chance.choice(("inbound", "outbound", "internal")),
        "subject": _who(chance, people),
        "data": chance.choice(
            (
                {"conversation_id": f"k-{chance.randrange(max(2, people))}"},
                {"conversation_id": None},
                {"summary": f"as corrected by {number}"},
            )
        ),
    }
    names = chance.sample(sorted(said), chance.choice((1, 1, 2, 3)))
    return {
        "specversion": "1.0",
        "id": f"n-{number}",
        "source": "soak/office",
        "type": "correction.recorded",
        "time": _at(chance),
        "data": {
            "of": {"source": _source(of), "id": f"n-{of}"},
            "patch": {name: said[name] for name in names},
        },
    }


def _retraction(number: int, chance: random.Random, import_: int) -> dict[str, Any]:
    import_id = _import_id(import_ // 3 * 3 * EVENTS_PER_IMPORT)
    return {
        "specversion": "1.0",
        "id": f"n-{number}",
        "source": "touchlog/imports",
        "type": RETRACTION,
        "time": _at(chance),
        "data": {"import_id": import_id, "reason": "soak", "event_count": 0, "actor": "soak"},
    }


class _Kept:
    """Stands where the writer does and keeps what would be written."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.head = 0

    async def append(self, items: Sequence[Item], **_: Any) -> list[Appended]:
        self.items += items
        return [Appended("recorded", 0)] * len(items)


async def prepared(parts: Core, sent: Iterable[Sent]) -> list[Item]:
    """Prepare events by the whole way in, sealed and with their subjects, without writing them; their order is kept."""
    kept = _Kept()
    await recorded(parts, sent, ingest=Ingest(parts.subjects, kept, parts.keys, parts.rejected))  # type: ignore[arg-type]
    return kept.items


async def recorded(
    parts: Core, sent: Iterable[Sent], *, ingest: Ingest | None = None, batch: int = 500
) -> int:
    """Record events in their order, in batches of those of one import; returns how many."""
    count = 0
    together: list[Sent] = []

    async def send() -> None:
        nonlocal count
        if together:
            answer = await (ingest or parts.ingest).accept(
                [orjson.dumps(one.event) for one in together],
                OFFICE,
                way_in="soak",
                import_id=together[0].import_id,
                keep=False,
            )
            wrong = next((r for r in answer.results if r.status != "recorded"), None)
            assert wrong is None, f"the load is sound, and yet: {wrong}"
            count += len(together)
            together.clear()

    for one in sent:
        if together and (one.import_id != together[0].import_id or len(together) >= batch):
            await send()
        together.append(one)
    await send()
    return count
