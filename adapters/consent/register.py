"""Loading what is needed to judge: facts about many persons and contact points, and who was one person.

A register is loaded with a few statements, however many persons it holds; a case of it holds only what can
bear on one person and one contact point. Everything carries positions, so that any knowledge can be asked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.postgres import arrays
from domain.consent.facts import Fact
from domain.consent.kinship import Kin, Tie
from domain.consent.validity import Case
from domain.entry import within_calendar
from domain.resolution import Link, Merge, Split

__all__ = [
    "ABOUT_NOTICES",
    "COLUMNS",
    "READ_MODELS",
    "Register",
    "about_notices",
    "ask",
    "batches",
    "contacts_of",
    "fact_of",
    "load",
    "notices_of",
    "packed",
    "people_of",
]

READ_MODELS = ("consent", "identities")

COLUMNS = (
    "position, known_from, known_to, recorded_at, event_id, source, source_id, state, effective_at, subject, contact, "
    "purpose, channel, legal_basis, notice_id, notice_version, method, jurisdiction, controller, valid_until, "
    "double_opt_in, of, patch, material"
)
# A notice's own facts, and corrections by which a fact about another notice becomes one about this.
_OF_NOTICES = f"""
SELECT {COLUMNS} FROM read.consent_facts f WHERE notice_id IN (SELECT notice_id FROM named) AND (
    state IN ('superseded', 'published') OR state = 'corrected' AND EXISTS (
        SELECT FROM read.consent_facts s WHERE s.event_id = f.of AND s.state IN ('superseded', 'published')))
"""  # noqa: S608 - constants of ours
_SPEAKING = f"""
WITH named AS (SELECT unnest(%(notices)s::text[]) AS notice_id)
SELECT {COLUMNS} FROM read.consent_facts WHERE of = ANY(%(events)b::uuid[])
UNION ALL SELECT {COLUMNS} FROM read.consent_facts WHERE event_id = ANY(%(targets)b::uuid[])
UNION ALL SELECT {COLUMNS} FROM read.consent_facts WHERE contact = ANY(%(contacts)b::uuid[])
UNION ALL {_OF_NOTICES}
"""  # noqa: S608 - constants of ours
_IN_ORDER = f"""
SELECT {COLUMNS} FROM read.consent_facts
 WHERE known_from <= %(known_at)s AND (known_to IS NULL OR known_to > %(known_at)s) ORDER BY position
"""  # noqa: S608
_NAMING = f"""
WITH own AS MATERIALIZED (
    SELECT {COLUMNS} FROM read.consent_facts WHERE contact = ANY(%(contacts)b::uuid[])
    UNION ALL
    SELECT {COLUMNS} FROM read.consent_facts WHERE subject IN (
        SELECT unnest(%(subjects)b::uuid[]) UNION SELECT unnest(%(clusters)b::uuid[])
        UNION SELECT subject FROM read.identities WHERE cluster = ANY(%(clusters)b::uuid[])
        UNION SELECT reference FROM read.references WHERE subject = ANY(%(subjects)b::uuid[])
        UNION SELECT reference FROM read.references WHERE subject = ANY(%(clusters)b::uuid[])
        UNION SELECT r.reference FROM read.identities i JOIN read.references r ON r.subject = i.subject
               WHERE i.cluster = ANY(%(clusters)b::uuid[]))
), named AS (SELECT DISTINCT notice_id FROM own)
SELECT * FROM own
UNION ALL SELECT {COLUMNS} FROM read.consent_facts WHERE of IN (SELECT event_id FROM own)
UNION ALL SELECT {COLUMNS} FROM read.consent_facts WHERE event_id IN (SELECT of FROM own)
UNION ALL {_OF_NOTICES}
"""  # noqa: S608
_REACH = """
WITH RECURSIVE reach (cluster) AS (
    SELECT coalesce(i.cluster, s.subject)
      FROM (SELECT unnest(%(subjects)b::uuid[]) AS subject
            UNION SELECT subject FROM read.references WHERE reference = ANY(%(subjects)b::uuid[])) s
      LEFT JOIN read.identities i ON i.subject = s.subject
    UNION
    SELECT m.cluster FROM reach r, LATERAL (
        SELECT b_cluster AS cluster FROM read.merges WHERE a_cluster = r.cluster
        UNION ALL SELECT a_cluster FROM read.merges WHERE b_cluster = r.cluster) m
)
SELECT cluster, EXISTS (SELECT FROM read.identities i WHERE i.cluster = reach.cluster)
             OR EXISTS (SELECT FROM read.merges m WHERE m.a_cluster = reach.cluster)
             OR EXISTS (SELECT FROM read.splits s WHERE s.cluster = reach.cluster)
  FROM reach
"""
_MERGES = """
SELECT event_id, a, a_kind, a_namespace, b, b_kind, b_namespace, occurred_at, source, source_id, known_from, known_to
  FROM read.merges WHERE a_cluster = ANY(%b::uuid[])
"""
_MEMBERS = "SELECT subject, kind, namespace FROM read.identities WHERE cluster = ANY(%b::uuid[])"
_LINKS = (
    "SELECT a, b, occurred_at, source, source_id, place, position, known_from, known_to FROM read.links "
    "WHERE cluster = ANY(%b::uuid[])"
)
_SPLITS = "SELECT position, subject, person_side FROM read.splits WHERE cluster = ANY(%b::uuid[])"
_OWNERS = (
    "SELECT reference, subject, known_from, known_to FROM read.references WHERE reference = ANY(%b::uuid[]) "
    "ORDER BY occurred_at, source, source_id"
)

_FEW = 20
"""Persons and contact points for which planning the statements would take longer than running them."""
# One plan for all of few: by indexes, however small the tables were when it was made.
_PLANNED_ONCE = "SELECT set_config('plan_cache_mode', 'force_generic_plan', true), set_config('enable_seqscan', 'off', true)"


ABOUT_NOTICES = ("superseded", "published")


class Register:
    """Facts and kinship of some persons and contact points; see `load`."""

    def __init__(
        self,
        facts: Sequence[Fact],
        component: dict[UUID, UUID],
        kin: dict[UUID, Kin],
        times: Sequence[tuple[datetime, int]],
        contacts: frozenset[UUID],
    ) -> None:
        self.facts = facts
        self.contacts = contacts  # of which everything is here
        self._component = component
        self._kin = kin
        self._times = times
        self._notices: dict[str, list[Fact]] = {}  # what was said of a notice, with all that speaks of that
        self._of_person: dict[UUID, list[Fact]] = {}
        self._of_contact: dict[UUID, list[Fact]] = {}
        self._file(facts)
        self._cases: dict[tuple[UUID | None, UUID | None], Case] = {}

    def _file(self, facts: Sequence[Fact]) -> None:
        """File every fact, with all that speaks of it, under each person and contact point that any of these names."""
        speaking: dict[UUID, list[Fact]] = {}
        spoken_of = {fact.of for fact in facts if fact.of is not None}
        there = {fact.event_id for fact in facts if fact.event_id in spoken_of} if spoken_of else set()
        roots: list[Fact] = []
        for fact in facts:
            if fact.of is not None and fact.of in there and fact.of != fact.event_id:
                speaking.setdefault(fact.of, []).append(fact)
            else:
                roots.append(fact)
        for root in roots:
            if (
                root.event_id not in speaking and root.state != "reviewed"
            ):  # what most facts are: nothing speaks of them
                if root.subject is not None and root.state != "corrected":
                    self._of_person.setdefault(self.component_of(root.subject), []).append(root)
                if root.contact is not None and root.state != "corrected":
                    self._of_contact.setdefault(root.contact, []).append(root)
                if root.state in ABOUT_NOTICES:
                    self._notices.setdefault(root.notice_id or "", []).append(root)
                continue
            whole = [root]
            for fact in whole:
                whole += speaking.get(fact.event_id, ())
            subjects = {self.component_of(s) for fact in whole for s in people_of(fact)}
            for subject in subjects:
                self._of_person.setdefault(subject, []).extend(whole)
            for contact in contacts_of(whole):
                self._of_contact.setdefault(contact, []).extend(whole)
            if root.state in ABOUT_NOTICES:
                for name in {name for fact in whole for name in notices_of(fact)}:
                    self._notices.setdefault(name, []).extend(whole)

    def component_of(self, subject: UUID) -> UUID:
        """One of all subjects that *subject* was ever one person with, the same for each of them."""
        return self._component.get(subject, subject)

    def case(self, subject: UUID | None, contact: UUID | None) -> Case:
        """All that can bear on a person and a contact point; without a contact point, on all of the person's."""
        component = None if subject is None else self.component_of(subject)
        found = self._cases.get((component, contact))
        if found is None:
            facts = {
                (fact.position, fact.known_from): fact
                for fact in (
                    *(self._of_person.get(component, ()) if component is not None else ()),
                    *(self._of_contact.get(contact, ()) if contact is not None else ()),
                )
            }
            if self._notices:
                spoken = {n for fact in facts.values() for n in notices_of(fact)}
                facts |= {
                    (n.position, n.known_from): n for name in spoken for n in self._notices.get(name, ())
                }
            kin = None if component is None else self._kin.get(component)
            found = self._cases[component, contact] = Case(facts.values(), kin)
        return found

    def named(self, contacts: Iterable[UUID]) -> set[UUID]:
        """Those of *contacts* that any fact names."""
        return {contact for contact in contacts if contact in self._of_contact}

    def known_at(self, at: datetime) -> int:
        """A position that knows of this register what the log held at a time, both inclusive."""
        place = bisect_right(self._times, at, key=lambda one: one[0])
        return self._times[place - 1][1] if place else 0


def people_of(fact: Fact) -> frozenset[UUID]:
    """Whom a fact names, or what it says of another makes it name."""
    if fact.state == "corrected":
        subject = (fact.patch or {}).get("subject")
        return frozenset(() if subject is None else (subject,))
    if fact.state == "reviewed":
        return frozenset(fact.reviewed or ())
    return frozenset(() if fact.subject is None else (fact.subject,))


def contacts_of(facts: Iterable[Fact]) -> set[UUID]:
    """The contact points that facts name, or that what they say of others makes these name."""
    named = ((f.patch or {}).get("contact") if f.state == "corrected" else f.contact for f in facts)
    return {contact for contact in named if contact is not None}


def notices_of(fact: Fact) -> set[str]:
    """The notices that a fact names, or makes another name."""
    named = (fact.notice_id, (fact.patch or {}).get("notice_id"))
    return {name for name in named if name is not None}


async def load(
    pool: AsyncConnectionPool[Any],
    subjects: Collection[UUID],
    contacts: Collection[UUID],
    *,
    widened: bool = False,
) -> Register:
    """Everything recorded that can bear on these persons and contact points, at any knowledge.

    Args:
        widened: on all contact points, too, that the facts of these persons name, and that they are themselves.
    """
    # One snapshot, asked in few round trips: what does not wait for another answer is sent along with it.
    async with pool.connection() as conn, conn.pipeline(), conn.transaction():
        await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        if len(subjects) + len(contacts) <= _FEW:
            await conn.execute(_PLANNED_ONCE, prepare=True)
        given = packed(subjects)
        asked = [await ask(conn, _OWNERS, [given]), await ask(conn, _REACH, {"subjects": given})]
        owners, reached = [await each.fetchall() for each in asked]
        everybody = {*subjects, *(owner for _, owner, _, _ in owners)}
        asked = []
        if tied := [cluster for cluster, is_tied in reached if is_tied]:
            kinship, clusters = (_MERGES, _MEMBERS, _LINKS, _SPLITS), packed(tied)
            asked = [await ask(conn, statement, [clusters]) for statement in kinship]
        named = {"subjects": packed(everybody), "contacts": packed(contacts)}
        named["clusters"] = packed(cluster for cluster, _ in reached)
        asked.append(await ask(conn, _NAMING, named))
        *found, told = [await each.fetchall() for each in asked]
        merged, members, linked, parted = found or ([], [], [], [])  # of whom nothing ties to anybody
        component, kinds, ties, splits = _kinship(merged, members, linked, parted)
        facts, points = await _facts(conn, told, set(component) | everybody, set(contacts), widened=widened)
        # Whose the references are under which something was told: an order is of whoever placed it.
        strangers = {f.subject for f in facts if f.subject is not None} - set(component) - everybody
        if strangers:
            owned = await (await ask(conn, _OWNERS, [packed(strangers)])).fetchall()
            owners += [row for row in owned if row not in owners]
        _owned(component, owners)
        times = await _times(conn, facts, ties, splits, owners)
    facts = _at_their_times(facts, {position: at for at, position in times})
    parts: dict[UUID, tuple[list[Tie], list[Split[UUID]], list[Any]]] = {}
    for tie in ties:
        parts.setdefault(component[tie.by.a], ([], [], []))[0].append(tie)
    for split in splits:
        if split.subject in component:
            parts.setdefault(component[split.subject], ([], [], []))[1].append(split)
    for row in owners:
        parts.setdefault(component[row[0]], ([], [], []))[2].append(tuple(row))
    under = {row[0] for row in owners} & {fact.subject for fact in facts}
    kin = {
        one: Kin(kinds, tied, splits=parted, owners=owned, told_under=under)
        for one, (tied, parted, owned) in parts.items()
    }
    return Register(facts, component, kin, times, points)


async def batches(
    pool: AsyncConnectionPool[Any], known_at: int, *, at_once: int = 2_000
) -> AsyncIterator[tuple[list[Fact], frozenset[int]]]:
    """Every fact that is known at *known_at*, some at a time: with all that they speak of or that speaks of them, and which are meant."""
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        async with conn.cursor(name="facts", binary=True) as cursor:
            await cursor.execute(_IN_ORDER.encode(), {"known_at": known_at})
            while rows := await cursor.fetchmany(at_once):
                facts, _ = await _facts(conn, rows, set(), set(), widened=False)
                yield facts, frozenset(row[0] for row in rows)


async def about_notices(pool: AsyncConnectionPool[Any], notices: Collection[str]) -> list[Fact]:
    """When these notices were published and superseded, with all that speaks of it, at any knowledge."""
    named = {"events": packed(()), "targets": packed(()), "contacts": packed(()), "notices": list(notices)}
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        rows = await (await ask(conn, _SPEAKING, named)).fetchall()
        facts, _ = await _facts(conn, rows, set(), set(), widened=False)
    return facts


def packed(subjects: Iterable[UUID]) -> Any:
    """An array as the database reads it: of ten thousand subjects the driver's own costs more than the query."""
    return arrays.uuids([subject.bytes for subject in subjects])


async def ask(conn: Any, statement: str, parameters: Any, *, prepare: bool = True) -> Any:
    """A cursor that was asked; not prepared, the statement is planned for these very parameters."""
    curs = conn.cursor(binary=True)
    await curs.execute(statement.encode(), parameters, prepare=prepare)
    return curs


async def _facts(
    conn: Any, fresh: list[Any], subjects: set[UUID], contacts: set[UUID], *, widened: bool
) -> tuple[list[Fact], frozenset[UUID]]:
    """The facts that were found, with all that speak of them or that they speak of; and the contact points asked for."""
    found: dict[
        tuple[int, int], list[Any]
    ] = {}  # by position and known from: one row, or of a review several
    own_rows = [row for row in fresh if row[9] in subjects or row[10] in contacts]
    asked = {row[4] for row in own_rows}  # events of which it was asked what speaks of them
    sought = {row[21] for row in own_rows if row[21] is not None}  # those that were asked for by id
    told = {row[14] for row in own_rows if row[14] is not None}
    own = {row[4] for row in own_rows if row[9] in subjects} if widened else set()
    points = set(contacts)
    themselves = subjects - points if widened else set()
    while fresh or themselves:
        events: set[UUID] = set()
        targets: set[UUID] = set()
        notices: set[str] = set()
        near, themselves = themselves, set()
        for row in fresh:
            if row[4] not in asked:
                events.add(row[4])
            if row[21] is not None and row[21] not in sought:
                targets.add(row[21])
            if row[14] is not None and row[14] not in told:
                notices.add(row[14])
            if own and (row[4] in own or row[21] in own):
                own.add(row[4])
                if row[10] is not None and row[10] not in points:
                    near.add(row[10])
            rows = found.setdefault((row[0], row[1]), [])
            if row not in rows:
                rows.append(row)
        if not events and not targets and not notices and not near:
            break
        speaking = await ask(
            conn,
            _SPEAKING,
            {
                "events": packed(events | targets),
                "targets": packed(targets),
                "contacts": packed(near),
                "notices": list(notices),
            },
        )
        asked |= events | targets
        sought |= targets
        told |= notices
        points |= near
        fresh = [row for row in await speaking.fetchall() if row not in found.get((row[0], row[1]), ())]
    return [fact_of(rows) for rows in found.values()], frozenset(points)


_patch = msgspec.json.Decoder(dict[str, Any]).decode


def fact_of(rows: list[Any]) -> Fact:
    """The fact of its rows: one, or of a review one for each subject."""
    row = rows[0]
    patch = None if row[22] is None else _patch(row[22])
    if patch is not None:
        for name in ("effective_at", "valid_until"):
            if patch.get(name) is not None:
                patch[name] = within_calendar(msgspec.convert(patch[name], datetime))
        for name in ("contact", "subject"):
            if patch.get(name) is not None:
                patch[name] = UUID(patch[name])
    return Fact(
        position=row[0],
        known_from=row[1],
        known_to=row[2],
        recorded_at=row[3],
        event_id=row[4],
        source=row[5],
        source_id=row[6],
        state=row[7],
        effective_at=row[8],
        subject=row[9],
        contact=row[10],
        purpose=row[11],
        channel=row[12],
        legal_basis=row[13],
        notice_id=row[14],
        notice_version=row[15],
        method=row[16],
        jurisdiction=row[17],
        controller=row[18],
        valid_until=row[19],
        double_opt_in=row[20],
        of=row[21],
        patch=patch,
        reviewed=tuple(r[9] for r in rows if r[9] is not None) if row[7] == "reviewed" else None,
        material=row[23],
    )


def _kinship(
    merged: Iterable[Any], members: Iterable[Any], linked: Iterable[Any], parted: Iterable[Any]
) -> tuple[dict[UUID, UUID], dict[UUID, tuple[str, str]], list[Tie], list[Split[UUID]]]:
    """(subject -> its component, subject -> its kind, …) by the rows of all clusters that were reached."""
    kinds = {s: (kind, namespace) for s, kind, namespace in members}
    ties = [Tie(Link(*link), since, until) for *link, since, until in linked]
    for (
        event_id,
        a,
        a_kind,
        a_namespace,
        b,
        b_kind,
        b_namespace,
        at,
        source,
        source_id,
        since,
        until,
    ) in merged:
        kinds[a], kinds[b] = (a_kind, a_namespace), (b_kind, b_namespace)
        ties.append(Tie(Merge(a, b, at, source, source_id, event_id, since), since, until))
    splits = [Split(position=at, subject=s, person_side=frozenset(stayed)) for at, s, stayed in parted]
    return _components(ties), kinds, ties, splits


def _components(ties: Iterable[Tie]) -> dict[UUID, UUID]:
    """What all evidence would join if nothing had ever been refused or taken back."""
    parent: dict[UUID, UUID] = {}

    def root(s: UUID) -> UUID:
        parent.setdefault(s, s)
        while parent[s] != s:
            parent[s] = s = parent[parent[s]]
        return s

    for tie in ties:
        one, other = root(tie.by.a), root(tie.by.b)
        parent[one] = other
    return {s: root(s) for s in list(parent)}


def _owned(component: dict[UUID, UUID], owners: Iterable[Any]) -> None:
    """Put each reference into one component with all whose it was ever said to be."""
    joined: dict[UUID, UUID] = {}

    def root(of: UUID) -> UUID:
        while of in joined:
            of = joined[of]
        return of

    for reference, owner, _, _ in owners:
        other = root(component.setdefault(owner, owner))
        one = root(component.setdefault(reference, other))
        if one != other:
            joined[one] = other
    if joined:
        component.update({subject: root(found) for subject, found in component.items()})


async def _times(
    conn: Any,
    facts: Sequence[Fact],
    ties: Sequence[Tie],
    splits: Sequence[Split[UUID]],
    owners: Sequence[Any],
) -> list[tuple[datetime, int]]:
    """(recorded_at, position) of every position at which anything here became known, in order."""
    known = {fact.position: fact.recorded_at for fact in facts if fact.known_from == fact.position}
    wanted = {p for f in facts for p in (f.known_from, f.known_to) if p is not None and p not in known}
    wanted |= {p for t in ties for p in (t.known_from, t.known_to) if p is not None}
    wanted |= {s.position for s in splits}
    wanted |= {p for row in owners for p in row[2:4] if p is not None}
    wanted -= known.keys()
    if wanted:
        statement = (
            "SELECT position, recorded_at FROM touchpoint_log.events WHERE position = ANY(%s::bigint[])"
        )
        known |= dict(await (await ask(conn, statement, [list(wanted)])).fetchall())
    return sorted((at, position) for position, at in known.items())


def _at_their_times(facts: Sequence[Fact], times: dict[int, datetime]) -> list[Fact]:
    """Facts with the time from which they are known, which is later where they were restored."""
    replace = msgspec.structs.replace
    return [
        fact if fact.known_from == fact.position else replace(fact, recorded_at=times[fact.known_from])
        for fact in facts
    ]
