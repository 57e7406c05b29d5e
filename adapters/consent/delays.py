"""Delays: from a withdrawal to the last message that went out all the same, and from a grant to its record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from psycopg_pool import AsyncConnectionPool

__all__ = ["late_grants", "latencies", "percentile"]

_KNOWN = "f.known_from <= %(known_at)s AND (f.known_to IS NULL OR f.known_to > %(known_at)s)"
_KNOWN_OF = _KNOWN.replace("f.", "{0}.")
# An invalidation that is over before it begins has no effect.
_VOID = f"""
EXISTS (SELECT FROM read.consent_facts i WHERE i.of = {{0}}.event_id AND i.state = 'invalidated'
           AND (i.valid_until IS NULL OR i.valid_until > i.effective_at) AND {_KNOWN_OF.format("i")})
"""
# The last correction of a fact that says something of a field; one that takes the value away says null.
_LAST = f"""
SELECT (c.patch::jsonb ->> '{{1}}')::{{2}} FROM read.consent_facts c
 WHERE c.of = {{0}}.event_id AND c.state = 'corrected' AND c.patch::jsonb ? '{{1}}'
   AND {_KNOWN_OF.format("c")} AND NOT {_VOID.format("c")}
 ORDER BY c.effective_at DESC, c.source DESC, c.source_id DESC LIMIT 1
"""  # noqa: S608
# When a fact took effect; a correction that takes the time away leaves the recorded one.
_EFFECTIVE_OF = f"coalesce(({_LAST.format('{0}', 'effective_at', 'timestamptz')}), {{0}}.effective_at)"
_EFFECTIVE = _EFFECTIVE_OF.format("f")


def _corrected(of: str, field: str, kind: str) -> str:
    """A field of a fact as its corrections leave it."""
    last = _LAST.format(of, field, kind)
    return f"CASE WHEN EXISTS ({last}) THEN ({last}) ELSE {of}.{field} END"


# A fact that is over before it begins, as corrected, has no effect.
_ENDS_BEFORE = f"coalesce({_corrected('{0}', 'valid_until', 'timestamptz')} <= {_EFFECTIVE_OF}, false)"
# A grant that asks for double opt-in takes effect with its earliest confirmation, and without one not at all.
_CONFIRMED = f"""
SELECT min({_EFFECTIVE_OF.format("k")}) FROM read.consent_facts k
 WHERE k.of = f.event_id AND k.state = 'confirmed' AND {_KNOWN_OF.format("k")} AND NOT {_VOID.format("k")}
   AND NOT {_ENDS_BEFORE.format("k")}
"""  # noqa: S608
_DOUBLE = _corrected("f", "double_opt_in", "boolean")
_GRANTED = f"""
WITH granted AS (
    SELECT g.position, g.source, CASE WHEN g.double THEN greatest(g.since, g.confirmed) ELSE g.since END AS since FROM (
        SELECT f.position, f.source, {_EFFECTIVE} AS since, {_DOUBLE} AS double, ({_CONFIRMED}) AS confirmed
          FROM read.consent_facts f
         WHERE f.state IN ('given', 'renewed') AND {_KNOWN} AND NOT {_VOID.format("f")} AND NOT {_ENDS_BEFORE.format("f")}) g
     WHERE NOT g.double OR g.confirmed IS NOT NULL
)
"""  # noqa: S608
_SINCE = f"""
SELECT f.position, {_EFFECTIVE} FROM read.consent_facts f WHERE f.position = ANY(%(positions)s) AND {_KNOWN}
"""  # noqa: S608
_WITHDRAWALS = f"""
SELECT count(*) FROM (
    SELECT {_EFFECTIVE} AS since FROM read.consent_facts f
     WHERE f.state IN ('withdrawn', 'objected') AND {_KNOWN} AND NOT {_VOID.format("f")}
       AND NOT {_ENDS_BEFORE.format("f")}) w
 WHERE since >= %(from)s AND since < %(to)s
"""  # noqa: S608
_LATE = f"""
{_GRANTED}
SELECT g.source, coalesce(t.on_behalf_of, t.principal), count(*), percentile_cont(0.5) WITHIN GROUP (
           ORDER BY extract(epoch FROM t.recorded_at - g.since)),
       max(extract(epoch FROM t.recorded_at - g.since)), (array_agg(g.position ORDER BY g.position))[1:5]
  FROM granted g JOIN read.audit_trail t ON t.position = g.position AND t.known_from = t.position
 WHERE t.recorded_at - g.since > make_interval(secs => %(late_s)s)
 GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
"""  # noqa: S608
_GRANTS = f"{_GRANTED} SELECT count(*) FROM granted"  # noqa: S608


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that *share* of *values* do not exceed (nearest rank); None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(round(len(ordered) * share, 9)) - 1)]


async def latencies(
    pool: AsyncConnectionPool[Any],
    breaches: Iterable[dict[str, Any]],
    begin: datetime,
    end: datetime,
    known_at: int,
) -> tuple[list[dict[str, Any]], int]:
    """(for each processor the time from withdrawals to the last message it sent all the same, all withdrawals of the span).

    Args:
        breaches: messages that went out after the withdrawal that decided about them, as a report lists them.
    """
    last: dict[tuple[int, str], datetime] = {}
    for one in breaches:
        decided = one["actual"]["position"]
        if decided is not None and one["reason"] in ("withdrawn", "objected", "stale_decision"):
            key, sent = (decided, one["source"]), datetime.fromisoformat(one["sent_at"])
            last[key] = max(sent, last.get(key, sent))
    asked = {
        "positions": list({position for position, _ in last}),
        "known_at": known_at,
        "from": begin,
        "to": end,
    }
    async with pool.connection() as conn:
        since = dict(await (await conn.execute(_SINCE.encode(), asked)).fetchall())
        row = await (await conn.execute(_WITHDRAWALS.encode(), asked)).fetchone()
    by_source: dict[str, list[float]] = {}
    for (position, source), sent in last.items():
        if position in since and begin <= since[position] < end:
            by_source.setdefault(source, []).append((sent - since[position]).total_seconds())
    found = [
        {
            "processor": source,
            "withdrawals": len(spans),
            "p50_s": percentile(spans, 0.5),
            "p99_s": percentile(spans, 0.99),
            "longest_s": max(spans),
        }
        for source, spans in sorted(by_source.items())
    ]
    return found, int(row[0]) if row is not None else 0


async def late_grants(
    pool: AsyncConnectionPool[Any], late_s: float, known_at: int
) -> tuple[list[dict[str, Any]], int]:
    """(grants recorded more than *late_s* seconds after they took effect, by source and operator; all that took effect)."""
    async with pool.connection() as conn:
        asked = {"late_s": late_s, "known_at": known_at}
        rows = await (await conn.execute(_LATE.encode(), asked)).fetchall()
        row = await (await conn.execute(_GRANTS.encode(), asked)).fetchone()
    found = [
        {
            "source": source,
            "operator": operator,
            "grants": count,
            "median_s": float(median),
            "longest_s": float(longest),
            "positions": positions,
        }
        for source, operator, count, median, longest, positions in rows
    ]
    return found, int(row[0]) if row is not None else 0
