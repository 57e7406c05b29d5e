"""bot: one e-mail with tens of thousands of anonymous ids, and a person of a thousand identifiers.

The guards of SEMANTICS 2 stop the first: so many links as its kind allows, the rest refused, counted and listed, and
no two persons who have a user are joined by it. The second is a person as others are, and must not hurt them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import psycopg

from adapters.principal import Principal
from bin.compose import Core, core, project_once
from bin.settings import Settings

__all__ = ["Bot", "run_bot"]

PRINCIPAL = Principal("key:soak", "admin", inside=True)
BATCH = 1000
BOT, BIG = "email:bot@example.com", "loyalty_card:big"
USERS = ("user:u-1", "user:u-2")
SIDES = ("email:left@example.com", "email:right@example.com")
BRIDGE = "phone:+441614960001"
OTHERS = 5000
PAGE = 50


class Bot(NamedTuple):
    """What a trial found; times end when the read models of people have it."""

    anonymous_ids: int
    bot_identifiers: int  # of the person that the e-mail names
    refused: int  # links that the guard of the kind refused
    users_joined: bool  # whether two users seen with that e-mail became one person
    projected_s: float  # the events of the bot
    late_link_s: float  # one more link, older than all the others
    big_identifiers: int
    big_events: int
    big_projected_s: float
    big_page_ms: float  # its history, first page
    others_s: float  # events of other people behind it
    link_s: float  # a link of two persons of *side_events* each, to the page that shows both
    linked_total: int  # events on that page's whole history that were reached by paging
    side_events: int

    @property
    def stopped(self) -> bool:
        """Whether every link above the limit of its kind was refused and counted."""
        return self.bot_identifiers + self.refused >= self.anonymous_ids and self.refused > 0


def run_bot(url: str, folder: Path, *, ids: int, identifiers: int, events: int, side_events: int) -> Bot:
    """Record and project all of it; *url* is a migrated database of its own.

    Args:
        ids: anonymous ids that the bot sends with one e-mail.
        identifiers: how many the big person has.
        events: how many the big person has.
        side_events: how many each of two persons has who are linked at last.
    """
    return asyncio.run(_trial(url, folder, ids, identifiers, events, side_events))


async def _trial(url: str, folder: Path, ids: int, identifiers: int, events: int, side_events: int) -> Bot:
    async with core(Settings.load({}, data=folder), url) as parts:
        numbers = iter(range(1_000_000_000))

        async def told(*sent: tuple[str, str | None], at: str = "2026-02-01T12:00:00Z") -> None:
            """Record one event for each (subject, identifiers)."""
            for batch in _batches([_event(next(numbers), *one, at=at) for one in sent]):
                answer = await parts.ingest.accept(batch, PRINCIPAL, way_in="soak")
                assert answer.recorded == len(batch), answer.results[0]

        async def projected() -> float:
            started = time.perf_counter()
            await asyncio.to_thread(project_once, url)
            return time.perf_counter() - started

        await told(*((BOT, f"anonymous:a{n}") for n in range(ids)))
        projected_s = await projected()
        bot_identifiers = len((await parts.histories.identities.person(BOT)).subjects)
        await told(*((user, BOT) for user in USERS))
        await projected()
        persons = {(await parts.histories.identities.person(user)).id for user in USERS}
        await told((BOT, "anonymous:late"), at="2025-01-01T00:00:00Z")
        late_link_s = await projected()

        # One of the identifiers is the card itself.
        await told(*((BIG, f"own{n % (identifiers - 1)}:x") for n in range(events)))
        big_projected_s = await projected()
        big_identifiers = len((await parts.histories.identities.person(BIG)).subjects)
        started = time.perf_counter()
        await parts.histories.page(BIG, limit=PAGE)
        big_page_ms = (time.perf_counter() - started) * 1000
        await told(*((f"user:s{n % 500}", f"email:s{n % 500}@example.com") for n in range(OTHERS)))
        others_s = await projected()

        await told(*((side, None) for side in SIDES for _ in range(side_events)))
        await projected()
        await told(*((side, BRIDGE) for side in SIDES))
        started = time.perf_counter()
        await projected()
        await parts.histories.page(SIDES[0], limit=PAGE)
        link_s = time.perf_counter() - started
        linked_total = await _entries(parts, SIDES[0])
    with psycopg.connect(url) as conn:
        row = conn.execute("SELECT touchlog.links_refused()").fetchone()
    return Bot(
        anonymous_ids=ids,
        bot_identifiers=bot_identifiers,
        refused=row[0] if row else 0,
        users_joined=len(persons) < len(USERS),
        projected_s=round(projected_s, 2),
        late_link_s=round(late_link_s, 2),
        big_identifiers=big_identifiers,
        big_events=events,
        big_projected_s=round(big_projected_s, 2),
        big_page_ms=round(big_page_ms, 1),
        others_s=round(others_s, 2),
        link_s=round(link_s, 2),
        linked_total=linked_total,
        side_events=side_events,
    )


async def _entries(parts: Core, ref: str) -> int:
    """Entries of a whole history, page by page."""
    count, cursor = 0, None
    while True:
        page = await parts.histories.page(ref, limit=1000, cursor=cursor)
        count += len(page.entries)
        cursor = page.next
        if cursor is None:
            return count


def _event(number: int, subject: str, identifiers: str | None, *, at: str) -> bytes:
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": f"e{number}",
        "source": "soak/bot",
        "type": "web.page_viewed",
        "time": at,
        "subject": subject,
        "data": {"path": "/"},
    }
    if identifiers:
        event["identifiers"] = identifiers
    return orjson.dumps(event)


def _batches(events: list[bytes]) -> Iterator[list[bytes]]:
    for start in range(0, len(events), BATCH):
        yield events[start : start + BATCH]
