"""Who is who, for everybody at once: the person of each subject at one moment of both axes (SEMANTICS §2).

What a history asks about one person, analyses ask about all. Nobody is resolved whose evidence is the same at two
moments: a moment is reached from another by resolving anew only the clusters in which a link, merge or split came or
went between the two, and those that merges lead to from there. The first start from the persons as the read model
holds them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql

from projections.linking import LINKS, MERGES, SPLITS, resolved
from projections.projection import Table

__all__ = ["Everybody", "Moments"]

KEPT = 4
_HELD = """
SELECT (SELECT position FROM touchlog.projections WHERE name = 'identities' AND state = 'live'),
       to_regclass('read.merges') IS NOT NULL
"""
_NOW = "SELECT subject::text, person::text FROM read.identities WHERE person <> subject"
_BETWEEN = """
   (known_from > %(low)s AND known_from <= %(high)s) OR (known_to > %(low)s AND known_to <= %(high)s)
   OR occurred_at > %(after)s
"""
_LINKED = f"SELECT DISTINCT cluster FROM read.links WHERE {_BETWEEN}"  # noqa: S608 - our own words
_MERGED = f"SELECT unnest(ARRAY[a_cluster, b_cluster]) FROM read.merges WHERE {_BETWEEN}"  # noqa: S608 - our own words
_SPLIT = "SELECT cluster FROM read.splits WHERE position > %(low)s AND position <= %(high)s"
_CHANGED = f"{_LINKED} UNION {_MERGED} UNION {_SPLIT}"
_REACHED = """
WITH RECURSIVE reach (cluster) AS (
    SELECT unnest(%(clusters)s::uuid[])
    UNION
    SELECT CASE WHEN m.a_cluster = r.cluster THEN m.b_cluster ELSE m.a_cluster END
      FROM reach r JOIN read.merges m ON (m.a_cluster = r.cluster OR m.b_cluster = r.cluster)
     WHERE m.known_from <= %(known_at)s AND (m.known_to IS NULL OR m.known_to > %(known_at)s)
)
SELECT cluster FROM reach
"""
_OWNERS = """
SELECT DISTINCT ON (reference) reference, subject FROM read.references
 WHERE reference = ANY(%(references)s::uuid[])
   AND known_from <= %(known_at)s AND (known_to IS NULL OR known_to > %(known_at)s)
   AND (%(as_of)s::timestamptz IS NULL OR occurred_at <= %(as_of)s)
 ORDER BY reference, occurred_at, source, source_id
"""


class Everybody(NamedTuple):
    """The persons of one moment. Two moments at which everybody is the same share *persons*.

    Attributes:
        persons: of each subject that is not its person's smallest, that smallest subject.
    """

    as_of: datetime | None
    known_at: int
    persons: Mapping[str, str]

    def person(self, subject: str) -> str:
        """The person of a subject; one that stands alone is its own person."""
        return self.persons.get(subject, subject)

    def of_references(self, conn: psycopg.Connection[Any], references: Sequence[str]) -> dict[str, str]:
        """The person of each order or case that is somebody's."""
        asked = {"references": list(references), "known_at": self.known_at, "as_of": self.as_of}
        rows = conn.execute(_OWNERS, asked)
        return {str(reference): self.person(str(subject)) for reference, subject in rows}


class Moments:
    """Everybody at the moments asked for last."""

    def __init__(self) -> None:
        self._kept: list[Everybody] = []

    def at(self, conn: psycopg.Connection[Any], as_of: datetime | None, known_at: int) -> Everybody:
        """Everybody at a moment; the read model of identities has seen *known_at*."""
        near = [one for one in self._kept if one.as_of == as_of] or [
            one for one in self._kept if one.as_of is None
        ]
        start = min(near, key=lambda one: abs(one.known_at - known_at), default=None)
        if start is not None and (start.as_of, start.known_at) == (as_of, known_at):
            self._kept.remove(start)
            found = start
        else:
            with conn.transaction():  # one snapshot: clusters that are joined meanwhile change their name
                conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                found = _reached(conn, start, as_of, known_at)
        self._kept = [*self._kept[-KEPT + 1 :], found]
        return found


def _reached(
    conn: psycopg.Connection[Any], start: Everybody | None, as_of: datetime | None, known_at: int
) -> Everybody:
    row = conn.execute(_HELD).fetchone()
    assert row is not None
    position, decided = row  # no merges: the version that knows them is being built beside this one
    if start is None:
        start = Everybody(None, position or 0, dict(conn.execute(_NOW).fetchall()))
    low, high = sorted((start.known_at, known_at))
    asked = {"low": low, "high": high, "after": None if as_of == start.as_of else as_of}
    rows = conn.execute(_CHANGED if decided else _LINKED, asked).fetchall()
    clusters = {cluster for (cluster,) in rows}
    if not clusters:
        return Everybody(as_of, known_at, start.persons)
    if decided:
        rows = conn.execute(_REACHED, {"clusters": list(clusters), "known_at": known_at}).fetchall()
        clusters = {cluster for (cluster,) in rows}
    persons = dict(start.persons)
    for subject, person in _resolved(conn, clusters, as_of, known_at, decided=decided).items():
        if subject == person:
            persons.pop(str(subject), None)
        else:
            persons[str(subject)] = str(person)
    return Everybody(as_of, known_at, persons)


def _resolved(
    conn: psycopg.Connection[Any],
    clusters: Collection[UUID],
    as_of: datetime | None,
    known_at: int,
    *,
    decided: bool,
) -> dict[UUID, UUID]:
    """The person of every subject of some clusters, among them all that merges in force lead to."""
    mine = {"clusters": list(clusters)}
    kinds = {
        subject: (kind, namespace)
        for subject, kind, namespace in conn.execute(
            "SELECT subject, kind, namespace FROM read.identities WHERE cluster = ANY(%(clusters)s)", mine
        )
    }
    evidence = _rows(conn, LINKS, sql.SQL("cluster = ANY(%(clusters)s)"), mine)
    merges, splits = [], []
    if decided:
        of_mine = sql.SQL("a_cluster = ANY(%(clusters)s) OR b_cluster = ANY(%(clusters)s)")
        merges = _rows(conn, MERGES, of_mine, mine)
        splits = _rows(conn, SPLITS, sql.SQL("cluster = ANY(%(clusters)s)"), mine)
    # Whom nothing but a merge had joined is no longer among the identities once it is undone.
    for merge in merges:
        if merge.a_cluster in clusters:
            kinds.setdefault(merge.a, (merge.a_kind, merge.a_namespace))
        if merge.b_cluster in clusters:
            kinds.setdefault(merge.b, (merge.b_kind, merge.b_namespace))
    found = resolved(kinds, evidence, merges, splits, as_of=as_of, known_at=known_at)
    return {subject: first for one in found.members for first in (min(one),) for subject in one}


def _rows(
    conn: psycopg.Connection[Any], table: Table[Any], condition: sql.SQL, parameters: Mapping[str, Any]
) -> list[Any]:
    curs = conn.cursor(binary=True)
    curs.execute(
        sql.SQL("SELECT {} FROM {} WHERE {}").format(
            sql.SQL(", ").join(map(sql.Identifier, table.columns)),
            sql.Identifier("read", table.name),
            condition,
        ),
        parameters,
    )
    made, names = table.row, table.columns
    return [made(**dict(zip(names, row, strict=True))) for row in curs]
