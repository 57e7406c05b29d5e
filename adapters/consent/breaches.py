"""Breaches: every message of a span of time that went out without valid consent, by what was known at a moment.

The report is read from the ledger of verdicts: asked again with the `known_at` that it names it is the same for
ever. What the judge has not seen yet is judged for the answer, by the same rule, and nothing is recorded for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.answers.history import Histories
from adapters.consent.consents import judged, outbound
from adapters.consent.ledger import Ledger, looks_of
from adapters.consent.register import READ_MODELS, load
from domain.consent.verdicts import Judgement, judge
from domain.entry import moment
from domain.errors import Invalid, Problem

__all__ = ["BREACHES", "BreachReport", "Breaches"]

BREACHES = ("breach", "late_known_breach", "breach_in_grace", "unproven_at_send", "undeterminable")
"""The verdicts that a report lists; the others are only counted."""

JUDGED_WITHIN_S = 1.0
"""How long a report of now waits for the judge to see what the read models have."""
_AT_ONCE = 5_000
_SENT = """
SELECT event_id, position, sent_at, subject, contact, purpose, channel, legal_basis, snapshot, controller,
       source, source_id, type, campaign
  FROM read.consent_messages
 WHERE sent_at >= %(from)s AND sent_at < %(to)s AND known_from <= %(known_at)s
   AND (known_to IS NULL OR known_to > %(known_at)s) AND (sent_at, position) > (%(after_at)s, %(after)s)
 ORDER BY sent_at, position LIMIT %(limit)s
"""
_IN_FORCE = """
SELECT {columns}
  FROM read.consent_messages m CROSS JOIN LATERAL (
        SELECT verdict, reason, evidence, looks, policy FROM read.consent_verdicts
         WHERE message = m.event_id AND knowledge <= %(known_at)s ORDER BY knowledge DESC, position DESC LIMIT 1) v
 WHERE m.sent_at >= %(from)s AND m.sent_at < %(to)s AND m.known_from <= %(known_at)s
   AND (m.known_to IS NULL OR m.known_to > %(known_at)s)
"""
_COUNTS = (
    _IN_FORCE.format(
        columns="v.verdict, v.reason, m.source, m.campaign, (m.sent_at AT TIME ZONE 'UTC')::date::text, count(*)"
    )
    + " GROUP BY 1, 2, 3, 4, 5"
)
_LISTED = (
    _IN_FORCE.format(
        columns="m.event_id, m.position, m.sent_at, m.subject, m.contact, m.purpose, m.channel, m.legal_basis, m.snapshot, "
        "m.controller, m.source, m.source_id, m.type, m.campaign, v.verdict, v.reason, v.evidence, v.looks, v.policy"
    )
    + " AND v.verdict = ANY(%(listed)s) ORDER BY m.sent_at, m.position LIMIT %(limit)s"
)


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


class _Counted:
    """A report on its way: counts over all messages, and the first breaches."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.verdicts: Counter[str] = Counter()
        self.counts: dict[str, Counter[str]] = {
            name: Counter() for name in ("reasons", "by_sender", "by_campaign", "by_day")
        }
        self.breaches: list[dict[str, Any]] = []
        self.more = False

    def count(
        self, verdict: str, reason: str | None, sender: str, campaign: str | None, day: str, messages: int
    ) -> None:
        """Count so many messages of one kind."""
        self.verdicts[verdict] += messages
        if verdict not in BREACHES:
            return
        for name, key in (
            ("reasons", reason or verdict),
            ("by_sender", sender),
            ("by_campaign", campaign or "(none)"),
            ("by_day", day),
        ):
            self.counts[name][key] += messages

    def list(self, told: dict[str, Any]) -> None:
        """List a breach, or tell that there are more."""
        if len(self.breaches) < self.limit:
            self.breaches.append(told)
        else:
            self.more = True


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
        position = await self._histories.moments.resolve_known_at(known_at)
        if position is None:
            position = max(await self._histories.moments.seen(READ_MODELS), after)
        await self._histories.moments.wait_until(max(position, after), models=READ_MODELS)
        ledger = Ledger(self._pool, self._histories)
        judged_to = await ledger.judged_to()
        if 0 < judged_to < position:
            judged_to = await ledger.wait_until(position, at_most_s=JUDGED_WITHIN_S)
        found = _Counted(limit)
        if judged_to >= position:
            await self._read(found, begin, end, position)
        else:
            async for row, one in self._judged(begin, end, position):
                found.count(one.verdict, one.reason, row[10], row[13], moment(row[2])[:10], 1)
                if one.verdict in BREACHES:
                    found.list(_told(row, one.verdict, one.reason, judged(one), list(one.evidence)))
        messages = sum(found.verdicts.values())
        unjudged = found.verdicts["undeterminable"]
        return BreachReport(
            from_=moment(begin),
            to=moment(end),
            messages=messages,
            coverage=(messages - unjudged) / messages if messages else None,
            verdicts=dict(sorted(found.verdicts.items())),
            **{name: dict(sorted(count.items())) for name, count in found.counts.items()},
            breaches=found.breaches,
            more=found.more,
            known_at=position,
            head=position,
        )

    async def _read(self, found: _Counted, begin: datetime, end: datetime, known_at: int) -> None:
        """What the ledger says."""
        asked = {"from": begin, "to": end, "known_at": known_at, "listed": list(BREACHES)}
        asked["limit"] = found.limit + 1
        async with self._pool.connection() as conn:
            for row in await (await conn.execute(_COUNTS.encode(), asked, prepare=True)).fetchall():
                found.count(*row)
            for row in await (await conn.execute(_LISTED.encode(), asked, prepare=True)).fetchall():
                found.list(_told(row, row[14], row[15], looks_of(row[17], row[18]), row[16]))

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


def _told(
    row: Any, verdict: str, reason: str | None, looks: dict[str, Any], evidence: list[int]
) -> dict[str, Any]:
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
        "verdict": verdict,
        "reason": reason,
        **looks,
        "evidence": evidence,
    }
