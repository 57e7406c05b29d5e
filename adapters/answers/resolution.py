"""Who is one person at a moment of both axes: the rows of the clusters concerned, cut and resolved.

By the same function that keeps the read model (domain/resolution.py). What is asked as of now and known now
is answered from the read model by whoever asks; this is for every other moment, and for why.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import psycopg
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from domain.resolution import Link, Persons, RefusedLink
from projections.linking import (
    LINKS,
    MERGES,
    SPLITS,
    Evidence,
    KeptApart,
    Merged,
    resolved,
)
from projections.projection import Table

__all__ = ["Reach", "Resolutions"]

AT_LENGTH = 2_000
"""Rows of evidence from which on resolving is done in a thread, so that others have their turn."""


class Reach(msgspec.Struct, frozen=True):
    """All that may bear on who one person is: the rows of its cluster, and of those that merges lead to."""

    kinds: dict[UUID, tuple[str, str]]
    evidence: list[Evidence]
    merges: list[Merged]  # those undone, too
    splits: list[KeptApart]
    known_at: int

    def cut(self, as_of: datetime | None = None) -> Persons[UUID]:
        """Who is one person, by what had happened by *as_of*."""
        return resolved(
            self.kinds, self.evidence, self.merges, self.splits, as_of=as_of, known_at=self.known_at
        )

    async def persons(self, as_of: datetime | None = None) -> Persons[UUID]:
        """The same, and others have their turn meanwhile."""
        if len(self.evidence) < AT_LENGTH:
            return self.cut(as_of)
        return await asyncio.to_thread(self.cut, as_of)


_CLUSTERS = """
WITH RECURSIVE reach (cluster) AS (
    SELECT coalesce(i.cluster, s.subject) FROM unnest(%(subjects)s::uuid[]) AS s (subject)
           LEFT JOIN read.identities i ON i.subject = s.subject
    UNION
    SELECT CASE WHEN m.a_cluster = r.cluster THEN m.b_cluster ELSE m.a_cluster END
      FROM reach r JOIN read.merges m ON (m.a_cluster = r.cluster OR m.b_cluster = r.cluster)
     WHERE m.known_from <= %(known_at)s AND (m.known_to IS NULL OR m.known_to > %(known_at)s)
)
SELECT array_agg(cluster) FROM reach
"""
_ALONE = "SELECT array_agg(cluster) FROM read.identities WHERE subject = ANY(%(subjects)s)"
_REFUSED_IN_ALL = """
SELECT (SELECT position FROM touchlog.projections WHERE name = 'identities' AND state = 'live'),
       (SELECT coalesce(sum(refused), 0)::bigint FROM read.clusters)
"""
_REFUSING = "SELECT cluster FROM read.clusters WHERE refused > 0 AND cluster >= %s ORDER BY cluster LIMIT %s"


class Resolutions:
    """Resolves persons at any moment."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def reach(self, subjects: Collection[UUID], known_at: int) -> Reach:
        """What bears on the persons of *subjects*, as known at a position."""
        async with self._pool.connection() as conn, conn.transaction():
            # One snapshot: clusters that are joined meanwhile change their name.
            await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return await self._reach(conn, subjects, known_at)

    async def _reach(self, conn: Any, subjects: Collection[UUID], known_at: int) -> Reach:
        asked = {"subjects": list(subjects), "known_at": known_at}
        decided = True
        try:
            async with conn.transaction():
                row = await (await conn.execute(_CLUSTERS, asked, prepare=True)).fetchone()
        except psycopg.errors.UndefinedTable:  # the version that knows merges is being built beside this one
            decided = False
            row = await (await conn.execute(_ALONE, asked, prepare=True)).fetchone()
        clusters = (row[0] if row else None) or []
        evidence = await _rows(
            conn,
            LINKS,
            sql.SQL("cluster = ANY(%s) AND known_from <= %s AND (known_to IS NULL OR known_to > %s)"),
            (clusters, known_at, known_at),
        )
        merges: list[Merged] = []
        splits: list[KeptApart] = []
        if decided:
            merges = await _rows(
                conn,
                MERGES,
                sql.SQL("(a_cluster = ANY(%s) OR b_cluster = ANY(%s)) AND known_from <= %s"),
                (clusters, clusters, known_at),
            )
            splits = await _rows(
                conn, SPLITS, sql.SQL("cluster = ANY(%s) AND position <= %s"), (clusters, known_at)
            )
        kinds = {
            s: (kind, namespace)
            for s, kind, namespace in await (
                await conn.execute(
                    "SELECT subject, kind, namespace FROM read.identities WHERE cluster = ANY(%s)",
                    (clusters,),
                    prepare=True,
                )
            ).fetchall()
        }
        for merge in merges:
            kinds.setdefault(merge.a, (merge.a_kind, merge.a_namespace))
            kinds.setdefault(merge.b, (merge.b_kind, merge.b_namespace))
        for subject in subjects:
            kinds.setdefault(subject, ("", ""))  # never linked: nothing asks for its kind
        return Reach(kinds, evidence, merges, splits, known_at)

    async def members(self, subject: UUID, *, as_of: datetime | None, known_at: int) -> list[UUID]:
        """The subjects of the person of *subject* at one moment."""
        found = await (await self.reach([subject], known_at)).persons(as_of)
        return list(found.of(subject))

    async def refused(
        self, *, limit: int, behind: tuple[UUID, int] | None = None
    ) -> tuple[list[RefusedLink[UUID]], int, tuple[UUID, int] | None, int]:
        """(links refused as resolved now, how many there are in all, where the next page begins, position).

        Args:
            behind: where the page before ended: a cluster, and how many of its refusals were told.
        """
        start, told = behind or (UUID(int=0), 0)
        found: list[tuple[RefusedLink[UUID], UUID, int]] = []
        async with self._pool.connection() as conn, conn.transaction():
            await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            position, total = await (await conn.execute(_REFUSED_IN_ALL)).fetchone()
            clusters = await (await conn.execute(_REFUSING, (start, limit + 2))).fetchall()
            for (cluster,) in clusters:
                if len(found) > limit:
                    break
                mine = await self._refused_in(conn, cluster, position)
                first = told if cluster == start else 0
                found += [
                    (each, cluster, number)
                    for number, each in enumerate(mine[first : first + limit + 1 - len(found)], first + 1)
                ]
        following = found[limit - 1][1:] if len(found) > limit else None
        return [each for each, _, _ in found[:limit]], total, following, position

    async def _refused_in(self, conn: Any, cluster: UUID, known_at: int) -> list[RefusedLink[UUID]]:
        reach = await self._reach(conn, [cluster], known_at)
        of = {(e.a, e.b, e.position): e.cluster for e in reach.evidence}
        return [
            each
            for each in (await reach.persons()).refused
            if isinstance(each.evidence, Link)
            and of[each.evidence.a, each.evidence.b, each.evidence.position] == cluster
        ]


async def _rows(conn: Any, table: Table[Any], condition: sql.SQL, parameters: tuple[Any, ...]) -> list[Any]:
    curs = conn.cursor(binary=True)
    await curs.execute(
        sql.SQL("SELECT {} FROM {} WHERE {}").format(
            sql.SQL(", ").join(map(sql.Identifier, table.columns)),
            sql.Identifier("read", table.name),
            condition,
        ),
        parameters,
        prepare=True,
    )
    made = table.row
    names = table.columns
    return [made(**dict(zip(names, row, strict=True))) for row in await curs.fetchall()]
