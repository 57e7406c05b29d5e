"""Which messages a stretch of the log can have touched: those that came, and those to whom a fact, a link or a split speaks.

A fact touches by person, contact point, purpose, channel and time, with all that speaks of it; a change of
who is one person touches all that this person was sent. Nothing else is loaded, and nothing else judged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.consent.register import COLUMNS, ask, fact_of, packed
from domain.consent.facts import Fact
from domain.consent.rejudging import ANYTHING, Scope, scope_of

__all__ = ["MESSAGE_COLUMNS", "Sent", "touched", "uuid_of"]

_IN_WINDOW = "(known_from > %(after)s AND known_from <= %(to)s)"
_GONE_IN_WINDOW = "(known_to > %(after)s AND known_to <= %(to)s)"
MESSAGE_COLUMNS = (
    "uuid_send(event_id), position, sent_at, uuid_send(subject), uuid_send(contact), purpose, channel, legal_basis, "
    "snapshot, controller, known_from, known_to, source, source_id"
)
_NEW = f"SELECT {MESSAGE_COLUMNS} FROM read.consent_messages WHERE {_IN_WINDOW}"  # noqa: S608 - constants of ours
# Most new facts are of somebody who was sent nothing since; they are left out where that is plain to see: nothing
# speaks of them, they speak of nothing, and nobody else was ever one person with theirs.
_MAY_TOUCH = """
of IS NOT NULL OR state IN ('superseded', 'published', 'reviewed', 'corrected') OR EXISTS (
    SELECT FROM read.consent_facts s WHERE s.of = f.event_id AND s.of IS NOT NULL) OR EXISTS (
    SELECT FROM read.identities i WHERE i.subject = f.subject) OR EXISTS (
    SELECT FROM read.merges m WHERE m.a_cluster = f.subject) OR EXISTS (
    SELECT FROM read.merges m WHERE m.b_cluster = f.subject) OR EXISTS (
    SELECT FROM read.references r WHERE r.reference = f.subject) OR EXISTS (
    SELECT FROM read.references r WHERE r.subject = f.subject) OR EXISTS (
    SELECT FROM read.consent_messages m WHERE m.subject = f.subject AND m.sent_at >= f.effective_at
       AND m.known_from <= %(after)s) OR EXISTS (
    SELECT FROM read.consent_messages m WHERE m.contact = f.contact AND m.sent_at >= f.effective_at
       AND m.known_from <= %(after)s)
"""
_CHANGED = f"""
SELECT {COLUMNS} FROM (
    SELECT * FROM read.consent_facts WHERE {_IN_WINDOW}
    UNION ALL SELECT * FROM read.consent_facts WHERE {_GONE_IN_WINDOW} AND NOT {_IN_WINDOW}) f
 WHERE {_MAY_TOUCH}
"""  # noqa: S608
_CLUSTERS = f"""
SELECT cluster FROM read.links WHERE {_IN_WINDOW}
UNION SELECT cluster FROM read.links WHERE {_GONE_IN_WINDOW}
UNION SELECT unnest(ARRAY[a_cluster, b_cluster]) FROM read.merges WHERE {_IN_WINDOW} OR {_GONE_IN_WINDOW}
UNION SELECT cluster FROM read.splits WHERE position > %(after)s AND position <= %(to)s
UNION SELECT subject FROM read.references WHERE {_IN_WINDOW}
UNION SELECT subject FROM read.references WHERE {_GONE_IN_WINDOW}
"""  # noqa: S608
_SPEAKING = f"""
SELECT {COLUMNS} FROM read.consent_facts WHERE of = ANY(%(events)b::uuid[])
UNION ALL SELECT {COLUMNS} FROM read.consent_facts WHERE event_id = ANY(%(targets)b::uuid[])
UNION ALL SELECT {COLUMNS} FROM read.consent_facts WHERE notice_id = ANY(%(notices)s)
"""  # noqa: S608
_PEOPLE = """
WITH RECURSIVE asked (subject) AS (
    SELECT unnest(%(subjects)b::uuid[])
), owned AS (
    SELECT subject AS named, subject FROM asked
    UNION SELECT r.reference, r.subject FROM read.references r JOIN asked a ON a.subject = r.reference
), reach (named, cluster) AS (
    SELECT o.named, coalesce(i.cluster, o.subject) FROM owned o LEFT JOIN read.identities i ON i.subject = o.subject
    UNION
    SELECT r.named, m.cluster FROM reach r, LATERAL (
        SELECT b_cluster AS cluster FROM read.merges WHERE a_cluster = r.cluster
        UNION ALL SELECT a_cluster FROM read.merges WHERE b_cluster = r.cluster) m
), people AS (
    SELECT named, cluster AS subject FROM reach
    UNION SELECT r.named, i.subject FROM reach r JOIN read.identities i ON i.cluster = r.cluster
    UNION SELECT named, named FROM owned
)
SELECT named, subject FROM people
UNION SELECT p.named, r.reference FROM people p JOIN read.references r ON r.subject = p.subject
"""
_TOUCHED = f"""
SELECT {MESSAGE_COLUMNS} FROM read.consent_messages
 WHERE (subject = ANY(%(subjects)b::uuid[]) OR contact = ANY(%(contacts)b::uuid[]))
   AND known_from <= %(after)s AND (known_to IS NULL OR known_to > %(after)s) AND sent_at >= %(since)s
"""  # noqa: S608


class Sent(msgspec.Struct, frozen=True, gc=False):
    """A message as one row tells it: from which to which position it was known as this.

    Its event, person and contact point are the 16 bytes of a UUID, which most of them never need to become.
    """

    event_id: bytes
    position: int
    sent_at: datetime
    subject: bytes | None
    contact: bytes | None
    purpose: str | None
    channel: str
    legal_basis: str | None
    snapshot: int | None
    controller: str | None
    known_from: int
    known_to: int | None
    source: str
    source_id: str

    def row(self) -> tuple[Any, ...]:
        """As `consents.outbound` takes it, which does not look at the event's id."""
        return (
            self.event_id,
            self.position,
            self.sent_at,
            uuid_of(self.subject),
            uuid_of(self.contact),
            self.purpose,
            self.channel,
            self.legal_basis,
            self.snapshot,
            self.controller,
        )


@lru_cache(maxsize=10_000)
def uuid_of(raw: bytes | None) -> UUID | None:
    """The surrogate of 16 bytes; kept, since most messages of a moment are to few persons or name one twice."""
    return None if raw is None else UUID(bytes=raw)


class _Touches:
    """Scopes by person and by contact point."""

    def __init__(self) -> None:
        self.subjects: dict[UUID, list[Scope]] = {}
        self.contacts: dict[UUID, list[Scope]] = {}

    def add(self, whole: Sequence[Fact]) -> None:
        """A fact with all that speaks of it touches whomever any of these names."""
        scope = scope_of(whole)
        for fact in whole:
            patch = fact.patch or {}
            subjects: set[UUID | None] = {fact.subject, patch.get("subject"), *(fact.reviewed or ())}
            contacts: set[UUID | None] = {fact.contact, patch.get("contact")}
            for named, scopes in ((subjects, self.subjects), (contacts, self.contacts)):
                for one in named:
                    if one is not None:
                        scopes.setdefault(one, []).append(scope)

    def of(self, sent: Sent) -> bool:
        """Whether a message is touched."""
        subject, contact = uuid_of(sent.subject), uuid_of(sent.contact)
        scopes = self.subjects.get(subject, ()) if subject is not None else ()
        more = self.contacts.get(contact, ()) if contact is not None else ()
        return any(
            scope.touches(sent.purpose, sent.channel, contact, sent.sent_at)
            for each in (scopes, more)
            for scope in each
        )


async def touched(pool: AsyncConnectionPool[Any], after: int, to: int) -> list[Sent]:
    """The messages that what became known behind *after* up to *to* may have touched, the new ones among them."""
    window = {"after": after, "to": to}
    async with pool.connection() as conn, conn.pipeline(), conn.transaction():
        await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # Planned anew for each window: a plan made while the tables were small would not do when they are not.
        asked = [
            await ask(conn, statement, window, prepare=False) for statement in (_NEW, _CHANGED, _CLUSTERS)
        ]
        new, changed, clusters = [await each.fetchall() for each in asked]
        found = [Sent(*row) for row in new]
        touches = _Touches()
        for (cluster,) in clusters:
            touches.subjects.setdefault(cluster, []).append(ANYTHING)
        for whole in await _wholes(conn, changed):
            touches.add(whole)
        if touches.subjects or touches.contacts:
            await _everybody(conn, touches)
            scopes = [
                s for each in (touches.subjects, touches.contacts) for many in each.values() for s in many
            ]
            times = [scope.since for scope in scopes]
            named: dict[str, Any] = {
                "after": after,
                "subjects": packed(touches.subjects),
                "contacts": packed(touches.contacts),
                "since": "-infinity" if None in times else min(t for t in times if t is not None),
            }
            rows = await (await ask(conn, _TOUCHED, named)).fetchall()
            found += [sent for row in rows if touches.of(sent := Sent(*row))]
    return found


async def _everybody(conn: Any, touches: _Touches) -> None:
    """Spread what touches a subject over all that were ever one person with it, references of theirs included."""
    rows = await (await ask(conn, _PEOPLE, {"subjects": packed(touches.subjects)})).fetchall()
    spread: dict[UUID, list[Scope]] = {}
    for named, subject in rows:
        if named != subject:
            spread.setdefault(subject, []).extend(touches.subjects[named])
    for subject, scopes in spread.items():
        touches.subjects[subject] = list({*touches.subjects.get(subject, ()), *scopes})


async def _wholes(conn: Any, fresh: list[Any]) -> list[list[Fact]]:
    """The changed facts, each with all that speaks of it, that it speaks of, or that rests on the notice it is about."""
    found: dict[tuple[int, int], list[Any]] = {}
    asked: set[UUID] = set()
    told: set[str] = set()
    while fresh:
        for row in fresh:
            rows = found.setdefault((row[0], row[1]), [])
            if row not in rows:
                rows.append(row)
        events = {row[4] for row in fresh} - asked
        targets = {row[21] for row in fresh if row[21] is not None} - asked
        notices = _superseded(row for rows in found.values() for row in rows) - told
        if not events and not targets and not notices:
            break
        asked |= events
        told |= notices
        named = {"events": packed(events), "targets": packed(targets), "notices": list(notices)}
        fresh = await (await ask(conn, _SPEAKING, named)).fetchall()
        fresh = [row for row in fresh if row not in found.get((row[0], row[1]), ())]
    facts = [fact_of(rows) for rows in found.values()]
    by_key: dict[Any, list[Fact]] = {}
    root_of: dict[Any, Any] = {}

    def root(key: Any) -> Any:
        root_of.setdefault(key, key)
        while root_of[key] != key:
            root_of[key] = key = root_of[root_of[key]]
        return key

    superseded = _superseded(row for rows in found.values() for row in rows)
    for fact in facts:
        if fact.of is not None:
            root_of[root(fact.of)] = root(fact.event_id)
        names = {fact.notice_id, (fact.patch or {}).get("notice_id")} - {None}
        for name in names & superseded:
            root_of[root(name)] = root(fact.event_id)
    for fact in facts:
        by_key.setdefault(root(fact.event_id), []).append(fact)
    return list(by_key.values())


def _superseded(rows: Iterable[Any]) -> set[str]:
    """The notices that these facts supersede, as recorded or as any correction has it."""
    kept = list(rows)
    told = {row[4] for row in kept if row[7] == "superseded"}
    return {
        row[14]
        for row in kept
        if row[14] is not None and (row[4] in told or (row[7] == "corrected" and row[21] in told))
    }
