"""Looking at consent for thousands of recipients at once: plainly wherever that says it, by the whole rule where not."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from datetime import datetime
from typing import Any

from psycopg_pool import AsyncConnectionPool

from adapters.consent.register import load
from adapters.postgres import arrays
from domain.consent.plain import PlainFact, PlainLook, plain_look
from domain.consent.validity import Question

__all__ = ["looked_at"]

_FEW = 20
"""Questions up to which the whole rule is asked at once."""
_Look = tuple[bool, str | None, int | None, tuple[int, ...]]


_IDENTITIES = (
    "SELECT uuid_send(subject), uuid_send(cluster) FROM read.identities WHERE subject = ANY(%b::uuid[])"
)
_MEMBERS = (
    "SELECT uuid_send(cluster), uuid_send(subject) FROM read.identities WHERE cluster = ANY(%b::uuid[])"
)
_ONE_SINCE = """
SELECT uuid_send(cluster), max(occurred_at), max(known_from) <= %(known_at)s AND bool_and(known_to IS NULL)
  FROM read.links WHERE cluster = ANY(%(clusters)b::uuid[]) GROUP BY cluster
"""
_INTRICATE = """
SELECT uuid_send(a_cluster) FROM read.merges WHERE a_cluster = ANY(%(clusters)b::uuid[])
UNION ALL SELECT uuid_send(b_cluster) FROM read.merges WHERE b_cluster = ANY(%(clusters)b::uuid[])
UNION ALL SELECT uuid_send(cluster) FROM read.splits WHERE cluster = ANY(%(linked)b::uuid[])
UNION ALL SELECT uuid_send(cluster) FROM read.clusters WHERE cluster = ANY(%(linked)b::uuid[]) AND refused > 0
UNION ALL SELECT uuid_send(reference) FROM read.references WHERE reference = ANY(%(clusters)b::uuid[])
"""
_FACTS = """
SELECT f.position, f.state, f.effective_at, f.source, f.source_id, uuid_send(f.subject), uuid_send(f.contact), f.purpose,
       f.channel, f.controller, f.notice_version, f.method, f.legal_basis, f.jurisdiction,
       f.known_to IS NOT NULL OR f.known_from <> f.position OR f.double_opt_in OR f.valid_until IS NOT NULL
       OR f.of IS NOT NULL OR EXISTS (SELECT FROM read.consent_facts s WHERE s.of = f.event_id), f.notice_id
  FROM read.consent_facts f
 WHERE f.known_from <= %(known_at)s AND (f.subject = ANY(%(subjects)b::uuid[]) OR f.contact = ANY(%(contacts)b::uuid[]))
"""
_SUPERSEDED = (
    "SELECT DISTINCT notice_id FROM read.consent_facts WHERE notice_id = ANY(%s) AND state = 'superseded'"
)


async def looked_at(
    pool: AsyncConnectionPool[Any], questions: Sequence[Question | None], at: datetime, known_at: int
) -> list[_Look]:
    """(valid, why not, position of the fact that decided, evidence) of each question; a question of None has no consent."""
    found: list[_Look] = [(False, "no_consent", None, ())] * len(questions)
    rest = [(number, question) for number, question in enumerate(questions) if question is not None]
    if len(rest) > _FEW:
        asked, rest = rest, []
        plain = await _plain_looks(pool, [question for _, question in asked], at, known_at)
        for (number, question), answer in zip(asked, plain, strict=True):
            if answer is None:
                rest.append((number, question))
            else:
                found[number] = (*answer, () if answer[2] is None else (answer[2],))
    if rest:
        people = {question.subject for _, question in rest if question.subject is not None}
        register = await load(pool, people, {question.contact for _, question in rest})
        for number, question in rest:
            look = register.case(question.subject, question.contact).look(question, at, known_at)
            found[number] = look.valid, look.reason, look.position, look.evidence
    return found


async def _plain_looks(
    pool: AsyncConnectionPool[Any], questions: Sequence[Question], at: datetime, known_at: int
) -> list[PlainLook | None]:
    """The plain look at each question; None for those of which the whole rule has to be asked."""
    # By the 16 bytes of surrogates: of so many, making UUIDs of them costs more than the query.
    recipients = [(None if q.subject is None else q.subject.bytes, q.contact.bytes, q) for q in questions]
    subjects = {subject for subject, _, _ in recipients if subject is not None}
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        curs = conn.cursor(binary=True)
        cluster_of = dict(await _rows(curs, _IDENTITIES, [_packed(subjects)]))
        linked = set(cluster_of.values())
        persons: dict[bytes, list[bytes]] = {}
        since: dict[bytes, datetime] = {}
        intricate: set[bytes] = set()
        if linked:
            for cluster, subject in await _rows(curs, _MEMBERS, [_packed(linked)]):
                persons.setdefault(cluster, []).append(subject)
            asked = {"clusters": _packed(linked), "known_at": known_at}
            for cluster, latest, is_plain in await _rows(curs, _ONE_SINCE, asked):
                since[cluster] = latest
                if not is_plain:
                    intricate.add(cluster)
        clusters = linked | (subjects - cluster_of.keys())
        asked = {"clusters": _packed(clusters | subjects), "linked": _packed(linked)}
        intricate |= {row[0] for row in await _rows(curs, _INTRICATE, asked)}
        everybody = subjects.union(*persons.values())
        named = {
            "subjects": _packed(everybody),
            "contacts": _packed({contact for _, contact, _ in recipients}),
            "known_at": known_at,
        }
        rows = await _rows(curs, _FACTS, named)
        notices = {row[15] for row in rows if row[15] is not None}
        superseded = {row[0] for row in await _rows(curs, _SUPERSEDED, [list(notices)])} if notices else set()
    by_subject: dict[Hashable, list[PlainFact]] = {}
    by_contact: dict[Hashable, list[PlainFact]] = {}
    for row in rows:
        said: Any = (*row[:14], row[14] or row[15] in superseded)
        fact = PlainFact(*said)
        if fact.subject is not None:
            by_subject.setdefault(fact.subject, []).append(fact)
        if fact.contact is not None:
            by_contact.setdefault(fact.contact, []).append(fact)
    found: list[PlainLook | None] = []
    for subject, contact, question in recipients:
        cluster = None if subject is None else cluster_of.get(subject, subject)
        if subject is None or cluster is None or cluster in intricate or subject in intricate:
            found.append(None)
            continue
        person: Collection[bytes] = persons.get(cluster) or (subject,)
        # The same fact may stand here twice, by subject and by contact point; it says no more for that.
        facts = list(by_contact.get(contact, ()))
        for one in person:
            facts += by_subject.get(one, ())
        wanted = (question.purpose, question.channel, question.controller)
        found.append(plain_look(facts, person, contact, wanted, at, one_since=since.get(cluster)))
    return found


def _packed(surrogates: Collection[bytes]) -> Any:
    return arrays.uuids(list(surrogates))


async def _rows(curs: Any, statement: str, parameters: Any) -> list[Any]:
    await curs.execute(statement.encode(), parameters, prepare=True)
    found: list[Any] = await curs.fetchall()
    return found
