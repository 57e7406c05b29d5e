"""Which snapshots of saved funnels are due; apart from what takes them, for a process that only looks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import psycopg

from domain.funnels.schedule import moments_due
from domain.funnels.span import read_span

__all__ = ["NEWEST", "any_due", "due_of"]

NEWEST = (
    "SELECT DISTINCT ON (f.name) f.name, f.version, f.funnel, greatest(f.saved_at, (SELECT max(s.at) FROM touchlog.funnel_snapshots s "
    "WHERE s.name = f.name AND s.due)) FROM touchlog.saved_funnels f ORDER BY f.name, f.version DESC"
)
"""The newest version of every saved funnel, and since when the schedule took nothing of it."""


def due_of(
    rows: Sequence[tuple[str, int, dict[str, Any], datetime]], zone: ZoneInfo, now: datetime
) -> list[tuple[str, int, datetime]]:
    """(name, version, moment) of what is due, of rows (name, version, question, since when nothing was taken)."""
    found = []
    for name, version, question, after in rows:
        every_us = read_span(str(question.get("snapshot") or ""))
        if every_us:
            own = ZoneInfo(question["timezone"]) if question.get("timezone") else zone
            found += [(name, version, at) for at in moments_due(every_us, own, after=after, until=now)]
    return found


def any_due(conn: psycopg.Connection[Any], zone: ZoneInfo) -> bool:
    """Whether a snapshot is due, asked of a plain connection."""
    return bool(due_of(conn.execute(NEWEST).fetchall(), zone, datetime.now(UTC)))
