"""Corrections and retractions, found for the projector (`projections.projector.Amendments` is the port)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import msgspec
import psycopg

from domain.correction import CORRECTION, RETRACTION, Amendment, amended, undone_with
from domain.entry import Recorded, decode_body, event_id_of, uuid_text
from projections.projection import Effective

__all__ = ["StoredAmendments"]

_NOTE_AMENDMENTS = """
INSERT INTO touchlog.amendments (target, position)
SELECT t.target, t.position FROM unnest(%s::uuid[], %s::bigint[]) AS t (target, position)
 WHERE NOT EXISTS (SELECT FROM touchpoint_log.keys k
                    WHERE k.stream = t.target AND k.version = 1 AND k.position = t.position)
ON CONFLICT DO NOTHING
"""
_NOTE_NAMED_AHEAD = """
INSERT INTO touchlog.named_ahead (subject, position)
SELECT DISTINCT found.told[1]::uuid, e.position
  FROM unnest(%s::uuid[], %s::bigint[]) AS t (target, position)
       JOIN touchpoint_log.keys k ON k.stream = t.target AND k.version = 1 AND k.position = t.position
       JOIN touchpoint_log.events e ON e.position = k.position,
       LATERAL regexp_matches(convert_from(e.body, 'UTF8'), '"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})"', 'g') AS found (told)
ON CONFLICT DO NOTHING
"""


class StoredAmendments:
    """Answers from the log and from `touchlog.amendments`, which the projector fills as it passes them.

    Args:
        connection: the connection to use, asked for each time.
    """

    def __init__(self, connection: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connection = connection

    def note(self, conn: psycopg.Connection[Any], found: Iterable[tuple[str, int]]) -> None:
        """Write down which amendment speaks of what, and whom an event may name whose correction was there before.

        Within the transaction that moves the tracking position.
        """
        rows = list(found)
        if rows:
            told = ([t for t, _ in rows], [p for _, p in rows])
            conn.execute(_NOTE_AMENDMENTS, told)
            conn.execute(_NOTE_NAMED_AHEAD, told)

    def of(self, targets: Iterable[str], until: int) -> dict[str, list[Amendment]]:
        """The amendments of each target known at position *until*, by target."""
        wanted = list(targets)
        found: dict[str, list[Amendment]] = {}
        if not wanted:
            return found
        curs = self._connection().cursor(binary=True)
        curs.execute(
            "SELECT a.target, e.position, e.recorded_at, e.body FROM touchlog.amendments a "
            "JOIN touchpoint_log.events e ON e.position = a.position WHERE a.target = ANY(%s::uuid[]) AND a.position <= %s",
            (wanted, until),
            prepare=True,
        )
        for target, position, recorded_at, body in curs:
            found.setdefault(str(target), []).append(
                Amendment(Recorded(position, recorded_at, decode_body(body)), body)
            )
        imports = {a.recorded.event.import_id for stated in found.values() for a in stated} - {None}
        if imports:  # a correction that came with an import goes with it
            retracted = self._retracted_at(imports, until)
            found = {target: undone_with(stated, retracted) for target, stated in found.items()}
        return found

    def _retracted_at(self, imports: Iterable[str | None], until: int) -> dict[str, int]:
        """The position at which each of these imports was first taken back, of those that were by *until*."""
        rows = self._connection().execute(
            "SELECT a.target, min(a.position) FROM touchlog.amendments a JOIN touchpoint_log.events r ON r.position = a.position "
            "WHERE a.target = ANY(%s::uuid[]) AND a.position <= %s AND r.type = %s GROUP BY a.target",
            (list(imports), until, RETRACTION),
        )
        return {str(target): position for target, position in rows}

    def waiting(self, until: int) -> set[str]:
        """Targets of corrections whose event is not in the log up to *until*."""
        rows = self._connection().execute(
            "SELECT DISTINCT a.target FROM touchlog.amendments a JOIN touchpoint_log.events c ON c.position = a.position "
            "WHERE a.position <= %(until)s AND c.type = %(type)s AND NOT EXISTS (SELECT FROM touchpoint_log.keys k "
            "WHERE k.stream = a.target AND k.version = 1 AND k.position <= %(until)s)",
            {"until": until, "type": CORRECTION},
        )
        return {str(target) for (target,) in rows}

    def retracted(self, until: int) -> set[str]:
        """Imports taken back at or before *until*."""
        rows = self._connection().execute(
            "SELECT DISTINCT a.target FROM touchlog.amendments a JOIN touchpoint_log.events r ON r.position = a.position "
            "WHERE a.position <= %s AND r.type = %s",
            (until, RETRACTION),
        )
        return {str(target) for (target,) in rows}

    def events(self, targets: Iterable[str], until: int) -> dict[str, tuple[Recorded, bytes]]:
        """The events with these ids that stand at or below *until*."""
        wanted = list(targets)
        found: dict[str, tuple[Recorded, bytes]] = {}
        if wanted:
            curs = self._connection().cursor(binary=True)
            curs.execute(
                "SELECT e.position, e.recorded_at, e.body FROM touchpoint_log.keys k JOIN touchpoint_log.events e ON e.position = k.position "
                "WHERE k.stream = ANY(%s::uuid[]) AND k.version = 1 AND k.position <= %s",
                (wanted, until),
                prepare=True,
            )
            for one in _read(curs):
                found[one[0].event.event_id] = one
        return found

    def of_import(self, import_id: str, until: int) -> list[tuple[Recorded, bytes]]:
        """The events of one import that stand at or below *until*, in log order."""
        conn = self._connection()
        # Where it started is on record in the log; without that (an early import) all of the log is looked through.
        row = conn.execute(
            "SELECT position FROM touchpoint_log.keys WHERE stream = %s AND version = 1",
            (uuid_text(event_id_of("touchlog/imports", import_id)),),
        ).fetchone()
        curs = conn.cursor(binary=True)
        curs.execute(
            "SELECT position, recorded_at, body FROM touchpoint_log.events WHERE position > %s AND position <= %s "
            "AND position(%s::bytea IN body) > 0 ORDER BY position",
            (row[0] if row else 0, until, f'"import":"{import_id}"'.encode()),
        )
        return [one for one in _read(curs) if one[0].event.import_id == import_id]

    def effective(self, positions: Iterable[int], until: int) -> list[Effective]:
        """The events at *positions* as known at *until*; those taken back are absent."""
        curs = self._connection().cursor(binary=True)
        curs.execute(
            "SELECT position, recorded_at, body FROM touchpoint_log.events WHERE position = ANY(%s) AND position <= %s",
            (list(positions), until),
            prepare=True,
        )
        return self._as_they_hold(list(_read(curs)), until)

    def _as_they_hold(self, events: list[tuple[Recorded, bytes]], until: int) -> list[Effective]:
        targets = [r.event.event_id for r, _ in events] + [
            r.event.import_id for r, _ in events if r.event.import_id
        ]
        known = self.of(targets, until)
        found = []
        for recorded, body in events:
            amendments = known.get(recorded.event.event_id, []) + known.get(
                recorded.event.import_id or "", []
            )
            held = amended(recorded, amendments) if amendments else (recorded, ())
            if held is not None:
                found.append(Effective(held[0], body, held[1]))
        return found


def _read(rows: Iterable[tuple[int, datetime, bytes]]) -> Iterable[tuple[Recorded, bytes]]:
    for position, recorded_at, body in rows:
        try:
            yield Recorded(position, recorded_at, decode_body(body)), body
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # a row of the library's raw path
