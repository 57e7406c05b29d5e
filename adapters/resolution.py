"""Who is who, for everybody at once: the person of each subject at one moment (SEMANTICS §2).

What a history asks about one person, analyses ask about all. Resolving everybody takes a while, so a resolution is
kept and brought to the next moment by looking only at clusters in which evidence came or went.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg

from projections.identities import Evidence, persons_of

__all__ = ["Resolution", "Resolutions"]

_LINKS = """
SELECT a, b, position, occurred_at, source, source_id, place, cluster FROM read.links
 WHERE known_from <= %(known_at)s AND (known_to IS NULL OR known_to > %(known_at)s)
   AND (%(as_of)s::timestamptz IS NULL OR occurred_at <= %(as_of)s)
"""
_CHANGED = """
SELECT DISTINCT cluster FROM read.links
 WHERE (known_from > %(since)s AND known_from <= %(known_at)s) OR (known_to > %(since)s AND known_to <= %(known_at)s)
"""
_OWNERS = """
SELECT DISTINCT ON (reference) reference, subject FROM read.references
 WHERE reference = ANY(%(references)s::uuid[])
   AND known_from <= %(known_at)s AND (known_to IS NULL OR known_to > %(known_at)s)
   AND (%(as_of)s::timestamptz IS NULL OR occurred_at <= %(as_of)s)
 ORDER BY reference, occurred_at, source, source_id
"""
KEPT = 4


class Resolution:
    """The persons of one moment; a subject that stands alone is its own person."""

    def __init__(self, as_of: datetime | None, known_at: int) -> None:
        self.as_of = as_of
        self.known_at = known_at
        self.changes = 0
        """Raised whenever a person changes."""
        self._persons: dict[UUID, str] = {}

    def person(self, subject: str) -> str:
        """The person of a subject: the person's smallest subject."""
        return self._persons.get(UUID(subject), subject)

    def references(self, conn: psycopg.Connection[Any], references: Sequence[str]) -> dict[str, str]:
        """The person of each order or case that is somebody's."""
        rows = conn.execute(
            _OWNERS, {"references": list(references), "known_at": self.known_at, "as_of": self.as_of}
        )
        return {str(reference): self.person(str(subject)) for reference, subject in rows}

    def advance(self, conn: psycopg.Connection[Any], known_at: int) -> None:
        """Go on to a later position."""
        rows = conn.execute(_CHANGED, {"since": self.known_at, "known_at": known_at}).fetchall()
        self.known_at = known_at
        if rows:
            self._resolve(conn, [cluster for (cluster,) in rows])

    def _resolve(self, conn: psycopg.Connection[Any], clusters: Sequence[UUID] | None = None) -> None:
        query = _LINKS if clusters is None else _LINKS + " AND cluster = ANY(%(clusters)s)"
        curs = conn.cursor(binary=True)
        curs.execute(query, {"known_at": self.known_at, "as_of": self.as_of, "clusters": clusters})
        found: dict[UUID, list[Evidence]] = {}
        for a, b, position, occurred_at, source, source_id, place, cluster in curs:
            found.setdefault(cluster, []).append(
                Evidence(
                    a=a, b=b, position=position, occurred_at=occurred_at, source=source, source_id=source_id,
                    place=place, cluster=cluster, known_from=position,
                )
            )  # fmt: skip
        if clusters is not None:  # who was linked there and is no more stands alone again
            curs.execute("SELECT subject FROM read.identities WHERE cluster = ANY(%s)", (list(clusters),))
            for (subject,) in curs:
                self._persons.pop(subject, None)
        named = {s for links in found.values() for link in links for s in (link.a, link.b)}
        kinds = dict(self._kinds(conn, named))
        for links in found.values():
            mine = {s: kinds[s] for link in links for s in (link.a, link.b)}
            for subject, person in persons_of(mine, links).items():
                if subject != person:
                    self._persons[subject] = str(person)
        self.changes += 1

    @staticmethod
    def _kinds(
        conn: psycopg.Connection[Any], subjects: Iterable[UUID]
    ) -> Iterable[tuple[UUID, tuple[str, str]]]:
        curs = conn.cursor(binary=True)
        curs.execute(
            "SELECT subject, kind, namespace FROM read.identities WHERE subject = ANY(%s)", (list(subjects),)
        )
        for subject, kind, namespace in curs:
            yield subject, (kind, namespace)


class Resolutions:
    """The resolutions asked for last."""

    def __init__(self) -> None:
        self._kept: list[Resolution] = []

    def at(self, conn: psycopg.Connection[Any], as_of: datetime | None, known_at: int) -> Resolution:
        """The persons at a moment; the read model of identities has seen *known_at*."""
        same = [r for r in self._kept if r.as_of == as_of and r.known_at <= known_at]
        found = max(same, key=lambda r: r.known_at, default=None)
        if found is None:
            found = Resolution(as_of, known_at)
            found._resolve(conn)  # noqa: SLF001 - its maker
        else:
            self._kept.remove(found)
            found.advance(conn, known_at)
        self._kept = [*self._kept[-KEPT + 1 :], found]
        return found
