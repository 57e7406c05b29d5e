"""Breaches: every message of a span of time that went out without valid consent, by what was known at a moment.

The report is computed from facts, at any knowledge: asked again with the `known_at` that it names it is the same
for ever, and two of them tell what has changed and because of which positions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.consent.consents import judged, outbound
from adapters.consent.register import READ_MODELS, load
from adapters.history import Histories
from domain.consent.verdicts import Judgement, judge
from domain.entry import moment
from domain.errors import Invalid, Problem

__all__ = ["BREACHES", "BreachReport", "Breaches"]

BREACHES = ("breach", "late_known_breach", "breach_in_grace", "unproven_at_send", "undeterminable")
"""The verdicts that a report lists; the others are only counted."""

_AT_ONCE = 5_000
_SENT = """
SELECT event_id, position, sent_at, subject, contact, purpose, channel, legal_basis, snapshot, controller,
       source, source_id, type, campaign
  FROM read.consent_messages
 WHERE sent_at >= %(from)s AND sent_at < %(to)s AND known_from <= %(known_at)s
   AND (known_to IS NULL OR known_to > %(known_at)s) AND (sent_at, position) > (%(after_at)s, %(after)s)
 ORDER BY sent_at, position LIMIT %(limit)s
"""


class BreachReport(msgspec.Struct, frozen=True, kw_only=True):
    """Messages that went out in [from, to), judged by what was known at one position.

    `coverage` is the share that could be judged; null without any message. `breaches` are the first ones in the
    order of sending, `more` says whether there are others; all counts are over all messages.
    """

    from_: str = msgspec.field(name="from")
    to: str
    messages: int
    coverage: float | None
    verdicts: dict[str, int]
    reasons: dict[str, int]
    by_sender: dict[str, int]
    by_campaign: dict[str, int]
    by_day: dict[str, int]
    breaches: list[dict[str, Any]]
    more: bool
    known_at: int
    head: int


class Breaches:
    """Answers what went out without valid consent."""

    def __init__(self, pool: AsyncConnectionPool[Any], histories: Histories) -> None:
        self._pool = pool
        self._histories = histories

    async def report(
        self,
        begin: datetime,
        end: datetime,
        *,
        known_at: datetime | int | None = None,
        limit: int = 1000,
        after: int = 0,
    ) -> BreachReport:
        """The report for messages handed over in [begin, end).

        Args:
            limit: so many breaches are listed; all are counted.

        Raises:
            Invalid: it ends before it begins.
            FutureTime, Behind.
        """
        if end <= begin:
            raise Invalid(
                [Problem("/to", "The span ends before it begins; 'to' lies behind 'from'.", "out_of_order")]
            )
        position = await self._histories.resolve_known_at(known_at)
        if position is None:
            position = await self._histories.seen(READ_MODELS)
        position = max(position, 0)
        await self._histories.wait_until(max(position, after), models=READ_MODELS)
        verdicts: Counter[str] = Counter()
        counts: dict[str, Counter[str]] = {
            name: Counter() for name in ("reasons", "by_sender", "by_campaign", "by_day")
        }
        found: list[dict[str, Any]] = []
        more = False
        async for row, one in self._judged(begin, end, position):
            verdicts[one.verdict] += 1
            if one.verdict not in BREACHES:
                continue
            counts["reasons"][one.reason or one.verdict] += 1
            counts["by_sender"][row[10]] += 1
            counts["by_campaign"][row[13] or "(none)"] += 1
            counts["by_day"][moment(row[2])[:10]] += 1
            if len(found) < limit:
                found.append(_told(row, one))
            else:
                more = True
        messages = sum(verdicts.values())
        unjudged = verdicts["undeterminable"]
        return BreachReport(
            from_=moment(begin),
            to=moment(end),
            messages=messages,
            coverage=(messages - unjudged) / messages if messages else None,
            verdicts=dict(sorted(verdicts.items())),
            **{name: dict(sorted(count.items())) for name, count in counts.items()},
            breaches=found,
            more=more,
            known_at=position,
            head=position,
        )

    async def _judged(
        self, begin: datetime, end: datetime, known_at: int
    ) -> AsyncIterator[tuple[Any, Judgement]]:
        """Every message of the span with its verdict, in the order of sending."""
        asked: dict[str, Any] = {"from": begin, "to": end, "known_at": known_at, "limit": _AT_ONCE}
        last: tuple[datetime, int] = (begin, 0)
        while True:
            async with self._pool.connection() as conn:
                curs = conn.cursor(binary=True)
                asked |= {"after_at": last[0], "after": last[1]}
                await curs.execute(_SENT.encode(), asked, prepare=True)
                rows = await curs.fetchall()
            register = await load(
                self._pool,
                {row[3] for row in rows if row[3] is not None},
                {row[4] for row in rows if row[4] is not None},
            )
            for row in rows:
                sent = outbound(row[:10], register)
                yield row, judge(register.case(sent.subject, sent.contact), sent, known_at=known_at)
            if len(rows) < _AT_ONCE:
                return
            last = (rows[-1][2], rows[-1][1])


def _told(row: Any, one: Judgement) -> dict[str, Any]:
    return {
        "source": row[10],
        "id": row[11],
        "event_id": str(row[0]),
        "position": row[1],
        "type": row[12],
        "sent_at": moment(row[2]),
        "person": None if row[3] is None else str(row[3]),
        "purpose": row[5],
        "channel": row[6],
        "campaign": row[13],
        "verdict": one.verdict,
        "reason": one.reason,
        **judged(one),
        "evidence": list(one.evidence),
    }
