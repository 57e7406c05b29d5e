"""Loading what is needed to look at consent plainly: facts and who is plainly one person, for thousands at once.

Persons and contact points are the 16 bytes of their surrogates here: of so many, making UUIDs of them costs
more than the query. Whoever was merged, split or refused a link is no plain matter, nor what any fact speaks of.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace
from psycopg.rows import args_row
from psycopg_pool import AsyncConnectionPool

from adapters.postgres import arrays
from domain.consent.plain import PlainFact, Tied

__all__ = ["Plainly", "plainly"]

_IDENTITIES = (
    "SELECT uuid_send(subject), uuid_send(cluster) FROM read.identities WHERE subject = ANY(%b::uuid[])"
)
_MEMBERS = (
    "SELECT uuid_send(cluster), uuid_send(subject) FROM read.identities WHERE cluster = ANY(%b::uuid[])"
)
_TIED = """
SELECT uuid_send(l.cluster), l.since, l.known_from, l.still, e.recorded_at FROM (
    SELECT cluster, max(occurred_at) AS since, max(known_from) AS known_from, bool_and(known_to IS NULL) AS still
      FROM read.links WHERE cluster = ANY(%b::uuid[]) GROUP BY cluster) l
  JOIN touchpoint_log.events e ON e.position = l.known_from
"""
_INTRICATE = """
SELECT uuid_send(a_cluster) FROM read.merges WHERE a_cluster = ANY(%(clusters)b::uuid[])
UNION ALL SELECT uuid_send(b_cluster) FROM read.merges WHERE b_cluster = ANY(%(clusters)b::uuid[])
UNION ALL SELECT uuid_send(cluster) FROM read.splits WHERE cluster = ANY(%(linked)b::uuid[])
UNION ALL SELECT uuid_send(cluster) FROM read.clusters WHERE cluster = ANY(%(linked)b::uuid[]) AND refused > 0
UNION ALL SELECT uuid_send(reference) FROM read.references WHERE reference = ANY(%(clusters)b::uuid[])
UNION ALL SELECT uuid_send(coalesce(i.cluster, r.subject)) FROM read.references r
            LEFT JOIN read.identities i ON i.subject = r.subject
           WHERE r.subject = ANY(%(everybody)b::uuid[])
             AND EXISTS (SELECT FROM read.consent_facts f WHERE f.subject = r.reference)
"""
_FACTS = """
SELECT f.position, f.recorded_at, f.state, f.effective_at, f.source, f.source_id, uuid_send(f.subject), uuid_send(f.contact),
       f.purpose, f.channel, f.controller, f.notice_version, f.method, f.legal_basis, f.jurisdiction, f.valid_until,
       f.known_to IS NOT NULL OR f.known_from <> f.position OR f.double_opt_in OR f.of IS NOT NULL
       OR EXISTS (SELECT FROM read.consent_facts s WHERE s.of = f.event_id AND s.of IS NOT NULL), f.notice_id
  FROM read.consent_facts f
 WHERE f.known_from <= %(known_at)s AND (f.subject = ANY(%(subjects)b::uuid[]) OR f.contact = ANY(%(contacts)b::uuid[]))
"""
# What speaks of a superseded notice may change what it says; a correction may make it one of another notice.
_SUPERSEDED = """
SELECT notice_id, notice_version, effective_at, spoken_of OR known_to IS NOT NULL FROM (
    SELECT f.*, EXISTS (SELECT FROM read.consent_facts s WHERE s.of = f.event_id AND s.of IS NOT NULL) AS spoken_of
      FROM read.consent_facts f WHERE f.notice_id = ANY(%(notices)s) AND f.state = 'superseded') f
 WHERE material OR spoken_of
UNION ALL
SELECT notice_id, notice_version, effective_at, true FROM read.consent_facts f
 WHERE notice_id = ANY(%(notices)s) AND state = 'corrected'
   AND EXISTS (SELECT FROM read.consent_facts s WHERE s.event_id = f.of AND s.state = 'superseded')
"""
_EVER = datetime(1, 1, 1, tzinfo=UTC)


_Plain = tuple[list[PlainFact], Collection[Hashable], Tied | None]


class Plainly:
    """Plain facts by person and contact point; see `plainly`."""

    def __init__(
        self,
        facts: Sequence[PlainFact],
        cluster_of: dict[bytes, bytes],
        persons: dict[bytes, list[bytes]],
        tied: dict[bytes, Tied],
        intricate: Collection[bytes],
    ) -> None:
        self._cluster_of = cluster_of
        self._persons = persons
        self._tied = tied
        self._intricate = intricate
        self._by_subject: dict[Hashable, list[PlainFact]] = {}
        self._by_contact: dict[Hashable, list[PlainFact]] = {}
        for fact in facts:
            if fact.subject is not None:
                self._by_subject.setdefault(fact.subject, []).append(fact)
            if fact.contact is not None:
                self._by_contact.setdefault(fact.contact, []).append(fact)

    def of(self, subject: bytes | None, contact: bytes) -> _Plain | None:
        """(facts, person, how it is one) of whom *subject* names; None where it is no plain matter who that is.

        The same fact may stand there twice, by person and by contact point.
        """
        if subject is None or subject in self._intricate:
            return None
        cluster = self._cluster_of.get(subject)
        if cluster is None:
            facts = self._by_contact.get(contact, [])
            if subject == contact:  # the contact point's own person, of which most facts are the same
                mine = [fact for fact in self._by_subject.get(subject, ()) if fact.contact != contact]
            else:
                mine = self._by_subject.get(subject, [])
            return [*facts, *mine] if mine else facts, (subject,), None
        if cluster in self._intricate:
            return None
        person = self._persons[cluster]
        facts = list(self._by_contact.get(contact, ()))
        for one in person:
            facts += self._by_subject.get(one, ())
        return facts, person, self._tied.get(cluster)


async def plainly(
    pool: AsyncConnectionPool[Any], subjects: Collection[bytes], contacts: Collection[bytes], known_at: int
) -> Plainly:
    """What is known at a position of these persons and contact points, as far as it is plain."""
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        curs = conn.cursor(binary=True)
        cluster_of: dict[bytes, bytes] = dict(await _rows(curs, _IDENTITIES, [_packed(subjects)]))
        linked = set(cluster_of.values())
        persons: dict[bytes, list[bytes]] = {}
        tied: dict[bytes, Tied] = {}
        intricate: set[bytes] = set()
        if linked:
            for cluster, subject in await _rows(curs, _MEMBERS, [_packed(linked)]):
                persons.setdefault(cluster, []).append(subject)
            for cluster, since, known_from, still, recorded_at in await _rows(curs, _TIED, [_packed(linked)]):
                tied[cluster] = Tied(since, known_from, recorded_at)
                if not still:
                    intricate.add(cluster)
            intricate |= linked - tied.keys()  # by merges alone
        everybody = set(subjects).union(*persons.values()) if persons else subjects
        asked = {"clusters": _packed({*subjects, *linked}), "linked": _packed(linked)}
        asked["everybody"] = _packed(everybody)
        intricate |= {row[0] for row in await _rows(curs, _INTRICATE, asked)}
        named = {
            "subjects": _packed(everybody),
            "contacts": _packed(contacts),
            "known_at": known_at,
        }
        facts: list[PlainFact] = await _rows(
            conn.cursor(binary=True, row_factory=args_row(PlainFact)), _FACTS, named
        )
        notices = {fact.notice_id for fact in facts if fact.notice_id is not None}
        stale: dict[tuple[str, str | None], datetime] = {}
        for notice, version, at, always in (
            await _rows(curs, _SUPERSEDED, {"notices": list(notices)}) if notices else ()
        ):
            # A correction may give another version: then any of them may be superseded.
            key, since = (notice, None if always else version), _EVER if always else at
            stale[key] = min(since, stale.get(key, since))
        if stale:
            facts = [replace(fact, stale_from=_stale_from(stale, fact)) for fact in facts]
    return Plainly(facts, cluster_of, persons, tied, intricate)


def _stale_from(stale: dict[tuple[str, str | None], datetime], fact: PlainFact) -> datetime | None:
    notice = fact.notice_id
    if notice is None:
        return None
    versions = fact.notice_version, None
    found = [at for version in versions if (at := stale.get((notice, version))) is not None]
    return min(found, default=None)


def _packed(surrogates: Collection[bytes]) -> Any:
    return arrays.uuids(list(surrogates))


async def _rows(curs: Any, statement: str, parameters: Any) -> list[Any]:
    # Planned anew each time, for so many: a plan made while the tables were small would not do when they are not.
    await curs.execute(statement.encode(), parameters, prepare=False)
    found: list[Any] = await curs.fetchall()
    return found
