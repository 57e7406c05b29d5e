"""The verdict ledger asked: what was said of a message when, what a report said then, and why it says otherwise now.

Every verdict names the position by whose knowledge it was judged, so the ledger at a position says what was
known there, and the event at the position of a verdict that supersedes is the one that changed it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import orjson
from psycopg_pool import AsyncConnectionPool

from adapters.answers.history import Histories
from adapters.answers.moments import WAIT_S
from adapters.consent.register import READ_MODELS
from domain.consent.facts import state_of
from domain.entry import decode_body, moment
from domain.errors import Invalid, NotFound, Problem

__all__ = ["Changes", "Ledger", "MessageVerdicts", "looks_of"]

_JUDGED = "SELECT position, recorded FROM touchlog.judging"
_HISTORY = """
SELECT position, recorded_at, event_id, knowledge, verdict, reason, supersedes, evidence, looks, policy
  FROM read.consent_verdicts WHERE message = %s ORDER BY knowledge, position
"""
_MESSAGE = """
SELECT position, source, source_id, type, sent_at, subject, purpose, channel, campaign, known_to
  FROM read.consent_messages WHERE event_id = %s ORDER BY known_from DESC LIMIT 1
"""
_IN_FORCE = """
LEFT JOIN LATERAL (
    SELECT verdict, reason, knowledge, evidence FROM read.consent_verdicts
     WHERE message = m.event_id AND knowledge <= {known_at} ORDER BY knowledge DESC, position DESC LIMIT 1) v ON true
"""
_SIDE = """
SELECT m.event_id, m.position, m.source, m.source_id, m.type, m.sent_at, m.subject, m.purpose, m.channel, m.campaign,
       v.verdict, v.reason, v.knowledge, v.evidence
  FROM read.consent_messages m
  {in_force}
 WHERE m.sent_at >= %(from)s AND m.sent_at < %(to)s AND m.known_from <= {known_at}
   AND (m.known_to IS NULL OR m.known_to > {known_at})
"""
_SIDES = "\n".join(
    f"{word} {name} AS ({_SIDE.format(in_force=_IN_FORCE.format(known_at=at), known_at=at)})"
    for word, name, at in (("WITH", "before", "%(said_at)s"), (",", "after", "%(known_at)s"))
)
_DIFFERENT = (
    "(b.event_id IS NULL) <> (a.event_id IS NULL) OR b.verdict IS DISTINCT FROM a.verdict "
    "OR b.reason IS DISTINCT FROM a.reason"
)
_COUNTS = f"""
{_SIDES}
SELECT b.verdict, a.verdict, count(*), count(*) FILTER (WHERE {_DIFFERENT})
  FROM before b FULL JOIN after a USING (event_id) GROUP BY 1, 2
"""  # noqa: S608 - constants of ours
_CHANGES = f"""
{_SIDES}
SELECT event_id, coalesce(a.position, b.position), coalesce(a.source, b.source), coalesce(a.source_id, b.source_id),
       coalesce(a.type, b.type), coalesce(a.sent_at, b.sent_at), coalesce(a.subject, b.subject),
       coalesce(a.purpose, b.purpose), coalesce(a.channel, b.channel), coalesce(a.campaign, b.campaign),
       b.event_id IS NOT NULL, b.verdict, b.reason, b.evidence, a.event_id IS NOT NULL, a.verdict, a.reason, a.evidence,
       (SELECT array_agg(DISTINCT c.knowledge ORDER BY c.knowledge) FROM read.consent_verdicts c
         WHERE c.message = coalesce(a.event_id, b.event_id) AND c.knowledge > %(said_at)s AND c.knowledge <= %(known_at)s AND c.supersedes IS NOT NULL)
  FROM before b FULL JOIN after a USING (event_id)
 WHERE {_DIFFERENT} ORDER BY coalesce(a.sent_at, b.sent_at), coalesce(a.position, b.position) LIMIT %(limit)s
"""  # noqa: S608
_CAUSES = """
SELECT v.knowledge, count(*) FROM read.consent_messages m JOIN read.consent_verdicts v ON v.message = m.event_id
 WHERE m.sent_at >= %(from)s AND m.sent_at < %(to)s AND v.supersedes IS NOT NULL AND v.knowledge <= %(known_at)s
   AND m.known_from <= %(known_at)s AND (m.known_to IS NULL OR m.known_to > %(known_at)s) GROUP BY 1 ORDER BY 1 DESC LIMIT %(limit)s
"""
_EVENTS = "SELECT position, recorded_at, body FROM touchpoint_log.events WHERE position = ANY(%s::bigint[])"


class MessageVerdicts(msgspec.Struct, frozen=True, kw_only=True):
    """All that was ever said of one message, the oldest first.

    `because` of a verdict is the event whose arrival brought it: the message itself, and of one that supersedes
    the fact, link, correction, merge or split that changed it.
    """

    message: dict[str, Any]
    verdicts: list[dict[str, Any]]
    known_at: int
    head: int


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """How a report differs from what it said before, and because of what.

    `said` and `says` count verdicts then and now; `because` are the events that were learnt since and changed a
    verdict, with how many each; `changes` the messages, the first ones in the order of sending.
    """

    from_: str = msgspec.field(name="from")
    to: str
    said_at: int
    said: dict[str, int]
    says: dict[str, int]
    changed: int
    because: list[dict[str, Any]]
    changes: list[dict[str, Any]]
    more: bool
    known_at: int
    head: int


def looks_of(text: str, policy: str) -> dict[str, Any]:
    """The three looks behind a verdict, as answers tell them."""
    found: dict[str, Any] = {}
    for name, look in orjson.loads(text).items():  # in the order in which a verdict that is computed tells it
        found[name] = {key: look[key] for key in ("valid", "reason", "position")}
        found[name]["evidence"] = look["evidence_positions"]
    return {**found, "policy": policy}


class Ledger:
    """Answers what was said of messages."""

    def __init__(self, pool: AsyncConnectionPool[Any], histories: Histories) -> None:
        self._pool = pool
        self._histories = histories

    async def judged_to(self) -> int:
        """Up to which position everything is judged and in the ledger, as far as it is there now."""
        async with self._pool.connection() as conn:
            row = await (await conn.execute(_JUDGED, prepare=True)).fetchone()
        assert row is not None, "the migration made the row"
        if row[1] and await self._histories.moments.seen(("verdicts",)) < row[1]:
            await self._histories.moments.wait_until(row[1], models=("verdicts",))
        return int(row[0])

    async def wait_until(self, position: int, *, at_most_s: float = WAIT_S) -> int:
        """Wait until the judge has seen *position*; returns how far it is, which may be less when the time is over."""
        return await self._histories.moments.waited(self.judged_to, position, at_most_s)

    async def of(self, event_id: str, *, after: int = 0) -> MessageVerdicts:
        """All verdicts on the message with this event id.

        Raises:
            NotFound: it names no message that went out.
            Behind.
        """
        try:
            message = UUID(event_id)
        except ValueError:
            raise NotFound(
                f"'{event_id[:60]}' is no event id; the report of breaches lists them, as `event_id`."
            ) from None
        await self._histories.moments.wait_until(after, models=READ_MODELS)
        position = await self.wait_until(after)
        async with self._pool.connection() as conn:
            row = await (await conn.execute(_MESSAGE, [message], prepare=True)).fetchone()
            if row is None:
                raise NotFound(
                    f"No message that went out has the event id {message}. Take one from the report of breaches."
                )
            rows = await (await conn.execute(_HISTORY, [message], prepare=True)).fetchall()
        events = await self.events([r[3] for r in rows])
        return MessageVerdicts(
            message={
                "event_id": str(message),
                "position": row[0],
                "source": row[1],
                "id": row[2],
                "type": row[3],
                "sent_at": moment(row[4]),
                "person": None if row[5] is None else str(row[5]),
                "purpose": row[6],
                "channel": row[7],
                "campaign": row[8],
                "taken_back_at": row[9],
            },
            verdicts=[
                {
                    "event_id": str(r[2]),
                    "position": r[0],
                    "recorded_at": moment(r[1]),
                    "verdict": r[4],
                    "reason": r[5],
                    "known_at": r[3],
                    "supersedes": None if r[6] is None else str(r[6]),
                    "evidence": r[7],
                    **looks_of(r[8], r[9]),
                    "because": events.get(r[3]),
                }
                for r in rows
            ],
            known_at=position,
            head=position,
        )

    async def changes(
        self,
        begin: datetime,
        end: datetime,
        *,
        said_at: datetime | int,
        known_at: datetime | int | None = None,
        limit: int = 1000,
        after: int = 0,
    ) -> Changes:
        """What a report on [begin, end) said at *said_at*, and why it says otherwise at *known_at*.

        Raises:
            Invalid: the span or the two moments are the wrong way round.
            FutureTime, Behind.
        """
        if end <= begin:
            raise Invalid(
                [Problem("/to", "The span ends before it begins; 'to' lies behind 'from'.", "out_of_order")]
            )
        then = await self._histories.moments.resolve_known_at(said_at)
        now = await self._histories.moments.resolve_known_at(known_at)
        assert then is not None
        position = (
            now if now is not None else max(await self._histories.moments.seen(READ_MODELS), then, after)
        )
        await self._histories.moments.wait_until(max(position, after), models=READ_MODELS)
        judged_to = await self.wait_until(position)
        if now is None:
            position = judged_to
        elif judged_to < position:
            raise self._histories.moments.behind(judged_to, position)
        if then > position:
            raise Invalid(
                [
                    Problem(
                        "/said_at", "'said_at' lies behind 'known_at'; it is the earlier one.", "out_of_order"
                    )
                ]
            )
        asked = {"from": begin, "to": end, "said_at": then, "known_at": position, "limit": limit + 1}
        async with self._pool.connection() as conn:
            counts = await (await conn.execute(_COUNTS.encode(), asked, prepare=True)).fetchall()
            rows = await (await conn.execute(_CHANGES.encode(), asked, prepare=True)).fetchall()
        said: dict[str, int] = {}
        says: dict[str, int] = {}
        for before, behind, count, _ in counts:
            if before is not None:
                said[before] = said.get(before, 0) + count
            if behind is not None:
                says[behind] = says.get(behind, 0) + count
        why: dict[int, int] = {}
        for row in rows[:limit]:
            for one in row[18] or ():
                why[one] = why.get(one, 0) + 1
        events = await self.events(why)
        return Changes(
            from_=moment(begin),
            to=moment(end),
            said_at=then,
            said=dict(sorted(said.items())),
            says=dict(sorted(says.items())),
            changed=sum(row[3] for row in counts),
            because=[events[p] | {"verdicts": why[p]} for p in sorted(why) if p in events],
            changes=[_changed(row) for row in rows[:limit]],
            more=len(rows) > limit,
            known_at=position,
            head=position,
        )

    async def causes(
        self, begin: datetime, end: datetime, *, known_at: int, limit: int = 5
    ) -> list[dict[str, Any]]:
        """What last changed verdicts on messages of [begin, end), the newest first, with how many it changed."""
        asked = {"from": begin, "to": end, "known_at": known_at, "limit": limit}
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(_CAUSES.encode(), asked, prepare=True)).fetchall()
        events = await self.events(row[0] for row in rows)
        return [events[row[0]] | {"verdicts": row[1]} for row in rows if row[0] in events]

    async def events(self, positions: Iterable[int]) -> dict[int, dict[str, Any]]:
        """The events at these positions, as the reason for a verdict: what, whose, when it was so and when it was told."""
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(_EVENTS, [list(set(positions))], prepare=True)).fetchall()
        found: dict[int, dict[str, Any]] = {}
        for position, recorded_at, body in rows:
            event = decode_body(bytes(body))
            data = event.data
            late_s = (recorded_at - event.occurred_at).total_seconds()
            patch = data.get("patch")
            told = patch if isinstance(patch, dict) else data
            found[position] = {
                "position": position,
                "type": event.type,
                "state": state_of(event.type),
                "event_id": event.event_id,
                "source": event.source,
                "id": event.id,
                "occurred_at": moment(event.occurred_at),
                "recorded_at": moment(recorded_at),
                "late_s": max(0.0, round(late_s, 3)),
                "purpose": told.get("purpose") or event.extensions.get("purpose"),
                "channel": told.get("channel"),
                "method": told.get("method"),
            }
        return found


def _changed(row: Any) -> dict[str, Any]:
    def side(there: bool, verdict: str | None, reason: str | None, evidence: list[int] | None) -> Any:
        return {"verdict": verdict, "reason": reason, "evidence": evidence or []} if there else None

    return {
        "source": row[2],
        "id": row[3],
        "event_id": str(row[0]),
        "position": row[1],
        "type": row[4],
        "sent_at": moment(row[5]),
        "person": None if row[6] is None else str(row[6]),
        "purpose": row[7],
        "channel": row[8],
        "campaign": row[9],
        "said": side(*row[10:14]),
        "says": side(*row[14:18]),
        "because": row[18] or [],
    }
