"""Identities: clusters, each resolved from the events that state its links, with the merges and splits of its persons."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any
from uuid import UUID

from psycopg import sql

from adapters.checking.rows import Found, stored_structs
from adapters.checking.snapshot import Snapshot
from projections.contact_history import TABLE as HISTORY
from projections.identities import Identities
from projections.linking import (
    CLUSTERS,
    IDENTITIES,
    LINKS,
    MERGED,
    MERGES,
    SPLIT,
    SPLITS,
    merged_of,
)
from projections.linking import stated as links_of
from projections.projection import Changes, Effective, Load, Step, Table

__all__ = [
    "TABLES",
    "compare_subjects",
    "hashes",
    "name_of",
    "named_by",
    "next_subjects",
    "stated",
    "unlinked",
]

SUBJECTS_AT_ONCE = 1000
_WHOSE = {
    IDENTITIES.name: "subject",
    LINKS.name: "a",
    MERGES.name: "a",
    SPLITS.name: "subject",
    CLUSTERS.name: "cluster",
}
"""The column with the subject of whom a row is compared."""
TABLES = (IDENTITIES.name, LINKS.name, MERGES.name, SPLITS.name, CLUSTERS.name)


def name_of(subject: UUID) -> str:
    """What the bucket of one subject is called."""
    return f"subject {subject}"


_Stated = tuple[UUID, UUID, Any, str, str, int]


def stated(steps: Iterable[Step]) -> list[_Stated]:
    """The links that hold by *steps* alone: (a, b, occurred_at, source, id, place)."""
    holding: dict[int, Step] = {}
    for step in steps:
        side = step.after or step.before
        assert side is not None
        holding[side.recorded.position] = step
    found: list[_Stated] = []
    for step in holding.values():
        if step.after is not None:
            for pair, _, order in links_of(step.after.recorded):
                found.append((UUID(pair[0]), UUID(pair[1]), *order))
    return found


def named_by(step: Step) -> set[UUID]:
    """The subjects whose clusters a step may change: of its links, and of a merge or split."""
    found: set[UUID] = set()
    for side in (step.before, step.after):
        if side is None:
            continue
        event = side.recorded.event
        if len(event.subjects) > 1 or event.type in (MERGED, SPLIT):
            found |= {UUID(subject[0]) for subject in event.subjects}
        merge = merged_of(side.recorded)
        if merge is not None:
            found |= {merge.a, merge.b}
    return found


def unlinked(snap: Snapshot, links: Sequence[_Stated]) -> set[UUID]:
    """The subjects of *links* that are not stored as linked by evidence as early."""
    if not links:
        return set()
    columns = list(zip(*links, strict=True))
    rows = snap.conn.execute(
        "SELECT w.a, w.b FROM unnest(%s::uuid[], %s::uuid[], %s::timestamptz[], %s::text[], %s::text[], %s::bigint[]) "
        "AS w (a, b, occurred_at, source, id, place) "
        "LEFT JOIN read.identities i ON i.subject = w.a LEFT JOIN read.identities j ON j.subject = w.b "
        'WHERE i."cluster" IS DISTINCT FROM j."cluster" OR i.subject IS NULL OR NOT EXISTS (SELECT FROM read.links l '
        "WHERE l.a = w.a AND l.b = w.b AND l.known_to IS NULL AND (l.occurred_at, l.source, l.source_id, l.place) "
        '<= (w.occurred_at, w.source COLLATE "C", w.id COLLATE "C", w.place))',
        [list(c) for c in columns],
    ).fetchall()
    return {subject for row in rows for subject in row}


def next_subjects(snap: Snapshot, behind: UUID | None, *, limit: int = SUBJECTS_AT_ONCE) -> list[UUID]:
    """The next subjects that are stored as linked to another, in evidence of a link, or in a merge or split."""
    lowest = behind or UUID(int=0)
    rows = snap.conn.execute(
        "SELECT s FROM ((SELECT subject AS s FROM read.identities WHERE subject > %(at)s OR %(first)s ORDER BY 1 LIMIT %(limit)s) "
        "UNION (SELECT DISTINCT a FROM read.links WHERE a > %(at)s OR %(first)s ORDER BY 1 LIMIT %(limit)s) "
        "UNION (SELECT DISTINCT a FROM read.merges WHERE a > %(at)s OR %(first)s ORDER BY 1 LIMIT %(limit)s) "
        "UNION (SELECT DISTINCT subject FROM read.splits WHERE subject > %(at)s OR %(first)s ORDER BY 1 LIMIT %(limit)s) "
        "UNION (SELECT cluster FROM read.clusters WHERE cluster > %(at)s OR %(first)s ORDER BY 1 LIMIT %(limit)s)) k "
        "ORDER BY 1 LIMIT %(limit)s",
        {"at": lowest, "first": behind is None, "limit": limit},
    ).fetchall()
    return [s for (s,) in rows]


def hashes(snap: Snapshot, subjects: Iterable[UUID]) -> dict[UUID, tuple[Any, ...]]:
    """Count and hash of what is stored of each subject: its identity, evidence and merges as the first of two, splits."""
    found: dict[UUID, tuple[Any, ...]] = {}
    for subject, *hashed in snap.conn.execute(
        "SELECT s, part, count(*), sum(h) FROM (SELECT subject AS s, 0 AS part, hash_record_extended(i, 0) AS h FROM read.identities i "
        "WHERE subject = ANY(%(s)s) UNION ALL SELECT a, 1, hash_record_extended(l, 0) FROM read.links l WHERE a = ANY(%(s)s) "
        "UNION ALL SELECT a, 2, hash_record_extended(m, 0) FROM read.merges m WHERE a = ANY(%(s)s) "
        "UNION ALL SELECT subject, 3, hash_record_extended(p, 0) FROM read.splits p WHERE subject = ANY(%(s)s) "
        "UNION ALL SELECT cluster, 4, hash_record_extended(c, 0) FROM read.clusters c WHERE cluster = ANY(%(s)s)) k "
        "GROUP BY 1, 2 ORDER BY 1, 2",
        {"s": list(subjects)},
    ):
        found[subject] = (*found.get(subject, ()), *hashed)
    return found


class _Nothing:
    """Before the first event there is nothing."""

    def where(
        self, table: Table[Any], column: str | tuple[str, ...], values: Iterable[Hashable]
    ) -> list[Any]:
        return []

    def effective(self, positions: Iterable[int]) -> list[Effective]:
        return []

    def of_subjects(self, subjects: Iterable[Hashable]) -> list[Effective]:
        return []


def compare_subjects(snap: Snapshot, subjects: Iterable[UUID]) -> tuple[set[UUID], list[Found]]:
    """(all subjects that were compared, the rows that differ) of the clusters of *subjects*."""
    name = Identities.name
    members = set(subjects)
    clusters: set[UUID] = set()
    steps: list[Step] = []
    rows: list[Any] = []
    links: list[Any] = []
    merges: list[Any] = []
    splits: list[Any] = []
    while True:
        size = len(members), len(clusters)
        rows = stored_structs(snap.conn, IDENTITIES, "subject", list(members))
        links = stored_structs(snap.conn, LINKS, "a", list(members))
        clusters |= {r.cluster for r in rows} | {link.cluster for link in links} | members
        merges = stored_structs(snap.conn, MERGES, "a_cluster", list(clusters))
        merges += stored_structs(snap.conn, MERGES, "b_cluster", list(clusters))
        clusters |= {c for m in merges for c in (m.a_cluster, m.b_cluster)}
        splits = stored_structs(snap.conn, SPLITS, "cluster", list(clusters))
        rows += stored_structs(snap.conn, IDENTITIES, "cluster", list(clusters))
        links += stored_structs(snap.conn, LINKS, "cluster", list(clusters))
        members |= {r.subject for r in rows} | {s for link in links for s in (link.a, link.b)}
        members |= {s for m in merges for s in (m.a, m.b)} | {s.subject for s in splits}
        positions = {
            p
            for (p,) in snap.conn.execute(
                sql.SQL("SELECT DISTINCT position FROM {} WHERE subject = ANY(%s)").format(
                    sql.Identifier("read", HISTORY.name)
                ),
                (list(members),),
            )
        }
        positions |= {link.position for link in links} | {m.known_from for m in merges}
        positions |= {m.known_to for m in merges if m.known_to is not None} | {s.position for s in splits}
        steps = [s for s in snap.steps_at(positions) if named_by(s)]
        for step in steps:
            members |= named_by(step)
        if (len(members), len(clusters)) == size:
            break
    waiting = snap.live[name].waiting
    if waiting and any(str(m) in waiting for m in members):
        return members, []  # told as parked, not as different
    projection, changes, nothing = Identities(), Changes(), _Nothing()
    load: Load = nothing
    seen = snap.seen_by(name, steps)
    projection.prepare(seen, load)
    for step in seen:
        projection.fold(step, changes)
    projection.finish(changes)
    found: list[Found] = []
    noted = stored_structs(snap.conn, CLUSTERS, "cluster", list(clusters))
    every: tuple[tuple[Table[Any], list[Any]], ...] = (
        (IDENTITIES, rows),
        (LINKS, links),
        (MERGES, merges),
        (SPLITS, splits),
        (CLUSTERS, noted),
    )
    for table, stored in every:
        have = {table.key_of(r): r for r in stored}
        want = {table.key_of(r): r for r in changes.all(table)}
        for key in sorted(have.keys() | want.keys(), key=str):
            one, other = want.get(key), have.get(key)
            if one == other:
                continue
            subject = getattr(one if one is not None else other, _WHOSE[table.name])
            kind = "missing" if other is None else "extra" if one is None else "changed"
            columns = (
                tuple(c for c in table.columns if getattr(one, c) != getattr(other, c))
                if one is not None and other is not None
                else ()
            )
            named = {c: v if isinstance(v, int) else str(v) for c, v in zip(table.key, key, strict=True)}
            found.append(Found(table.name, name_of(subject), kind, named, columns))
    return members, found
