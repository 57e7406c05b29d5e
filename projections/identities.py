"""Identities: which subjects are one person, by the links that events state, and by merges and splits (SEMANTICS §2).

A batch looks at what its new links, merges and splits touch, and at each of that once. A small cluster is resolved
whole. In a large one a new link that comes behind the last that joined anything changes only the two persons at its
ends, whatever else the cluster holds: what was refused before stays refused. A question about an earlier time cuts
the evidence and resolves again, with the same function.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from domain.entry import Recorded, surrogate_of
from domain.resolution import Link, Order, Persons, order_of, persons
from projections.clusters import Part, Sets, Sum, row_of, small_sums, sum_of
from projections.linking import (
    CLUSTERS,
    IDENTITIES,
    LINKS,
    MERGED,
    MERGES,
    REFERENCES,
    SPLIT,
    SPLITS,
    Cluster,
    Evidence,
    Identity,
    Merged,
    Pair,
    Reference,
    kept_apart_of,
    link_of,
    merge_of,
    merged_of,
    order_of_link,
    split_of,
    stated,
    undone_by,
)
from projections.projection import Changes, Effective, Load, Projection, Step, Table, projection

__all__ = ["LARGE", "Identities"]

REMEMBERED = 500_000
"""Links whose earliest evidence is kept in memory, so that the same link stated again costs nothing."""
LARGE = 64
"""Rows of evidence from which on a cluster is not read whole because of a new link."""

_Named = tuple[str, str, str]
_Key = tuple[UUID, UUID, int, int]


@projection
class Identities(Projection):
    """Keeps the evidence of links, the merges and splits, and the persons that follow from them."""

    name = "identities"
    version = 3
    pace = "live"
    folds_timeless = True
    tables: ClassVar[tuple[Table[Any], ...]] = (IDENTITIES, LINKS, REFERENCES, MERGES, SPLITS, CLUSTERS)

    def __init__(self) -> None:
        self._earliest: dict[Pair, Order] = {}
        self._begin()

    def _begin(self) -> None:
        self._new: set[Pair] = set()
        self._open: dict[Pair, list[_Key]] = {}
        self._stated: dict[Pair, dict[int, tuple[Order, Recorded]]] = {}
        self._before: set[frozenset[UUID]] = set()  # pairs with evidence before this batch
        self._cluster: dict[UUID, UUID] = {}  # by subject, before this batch
        self._labels = Sets()  # clusters, as the links of this batch join them
        self._reach = Sets()  # the same over merges: what is resolved together
        self._parts: dict[UUID, Part] = {}
        self._sums: dict[UUID, Sum] = {}  # by cluster, of those that are not resolved whole
        self._fresh: list[_Key] = []
        self._touched = False

    def forget(self) -> None:
        self._earliest = {}

    # ---- what a batch looks at

    def prepare(self, steps: Sequence[Step], load: Load) -> None:
        self._begin()
        said: dict[Pair, Order] = {}  # the earliest that this batch says of a link
        unstated: set[Pair] = set()
        decided: set[UUID] = set()
        undone: set[UUID] = set()
        merges: list[Merged] = []
        for step in steps:
            if step.before is not None:
                unstated.update(pair for pair, _, _ in stated(step.before.recorded))
            if step.after is None:
                continue
            recorded = step.after.recorded
            for pair, _, order in stated(recorded):
                known = self._earliest.get(pair)
                if (known is None or order < known) and (pair not in said or order < said[pair]):
                    said[pair] = order
            if recorded.event.type in (MERGED, SPLIT):
                if (merge := merged_of(recorded)) is not None:
                    merges.append(merge)
                    decided |= {merge.a, merge.b}
                if (event_id := undone_by(recorded)) is not None:
                    undone.add(event_id)
                if (apart := kept_apart_of(recorded)) is not None:
                    decided.add(apart.subject)
        for row in load.where(MERGES, "event_id", undone) if undone else ():
            decided |= {row.a, row.b}
        if not (said or unstated or decided):
            return
        self._find_pairs(said, unstated, load)
        self._new = said.keys() | unstated
        named = {surrogate_of(s) for pair in self._new for s in pair} | decided
        if not named:
            return
        self._touched = True
        for one in load.where(IDENTITIES, "subject", named):
            self._cluster[one.subject] = one.cluster
        self._find_parts(said, unstated, decided, merges, named, load)
        if unstated:  # what else states these links, now that one event no longer does?
            for event in load.of_subjects({surrogate_of(pair[0]) for pair in unstated}):
                for pair, _, order in stated(event.recorded):
                    if pair in unstated:
                        self._stated.setdefault(pair, {})[event.recorded.position] = (order, event.recorded)

    def _find_pairs(self, said: dict[Pair, Order], unstated: set[Pair], load: Load) -> None:
        """Bring in the stored evidence of these links, and forget what is said of them but no earlier."""
        ends = {(surrogate_of(a), surrogate_of(b)) for a, b in (*said, *unstated)}
        for link in load.where(LINKS, ("a", "b"), ends | {(b, a) for a, b in ends}):
            if link.known_to is None:
                pair = (str(link.a), str(link.b))
                self._before.add(frozenset((link.a, link.b)))
                self._open.setdefault(pair, []).append(_key(link))
                if pair in said or pair in unstated:
                    self._remember(pair, order_of_link(link))
        for pair in list(said):
            known = self._earliest.get(pair)
            if known is not None and known <= said[pair]:
                del said[pair]

    def _cluster_of(self, subject: UUID) -> UUID:
        return self._cluster.get(subject, subject)

    def _find_parts(
        self,
        said: dict[Pair, Order],
        unstated: set[Pair],
        decided: set[UUID],
        merges: Iterable[Merged],
        named: set[UUID],
        load: Load,
    ) -> None:
        """Find what is resolved together, and bring in of each part what its resolution needs."""
        seen: set[UUID] = set()
        frontier = {self._cluster_of(s) for s in named}
        standing: dict[UUID, list[Merged]] = {}
        while frontier:
            seen |= frontier
            found = load.where(MERGES, "a_cluster", frontier) + load.where(MERGES, "b_cluster", frontier)
            frontier = set()
            for merge in found:
                if merge.known_to is None:
                    self._reach.join(merge.a_cluster, merge.b_cluster)
                    standing.setdefault(merge.a_cluster, []).append(merge)
                    standing.setdefault(merge.b_cluster, []).append(merge)
                    frontier |= {merge.a_cluster, merge.b_cluster} - seen
        for a, b in said:
            self._labels.join(self._cluster_of(surrogate_of(a)), self._cluster_of(surrogate_of(b)))
            self._reach.join(self._cluster_of(surrogate_of(a)), self._cluster_of(surrogate_of(b)))
        for merge in merges:
            self._reach.join(self._cluster_of(merge.a), self._cluster_of(merge.b))
        for cluster in seen:
            self._parts.setdefault(self._reach.of(cluster), Part()).clusters.add(cluster)
        for pair, order in said.items():
            part = self._parts[self._reach.of(self._cluster_of(surrogate_of(pair[0])))]
            part.earliest = order if part.earliest is None else min(part.earliest, order)
        for subject in decided | {surrogate_of(pair[0]) for pair in unstated}:
            self._parts[self._reach.of(self._cluster_of(subject))].is_whole = True
        noted = {row.cluster: row for row in load.where(CLUSTERS, "cluster", seen)}
        load.where(SPLITS, "cluster", seen)
        self._choose(
            noted, standing, {self._cluster_of(surrogate_of(s)) for pair in said for s in pair}, load
        )
        whole = {c for part in self._parts.values() if part.is_whole for c in part.clusters}
        # Clusters that lose their name are written again, so they are read whole as well.
        losing = {c for c in seen - whole if self._labels.of(c) != c}
        load.where(IDENTITIES, "cluster", whole | losing)
        load.where(LINKS, "cluster", whole | losing)
        ends = {s for s in named if self._cluster_of(s) not in whole}
        people = {row.person for row in load.where(IDENTITIES, "subject", ends)}
        load.where(IDENTITIES, "person", people)

    def _choose(
        self,
        noted: dict[UUID, Cluster],
        standing: dict[UUID, list[Merged]],
        linked: set[UUID],
        load: Load,
    ) -> None:
        """Decide which parts are resolved whole: those where it is cheap, and those where it is needed."""
        stored = set(self._cluster.values())
        small: set[UUID] = set()
        for part in self._parts.values():
            if not part.is_whole and part.earliest is not None and part.clusters & noted.keys():
                alone = {c for c in part.clusters - noted.keys() if c in stored or c in standing}
                part.is_whole = any(c in standing and c in linked for c in alone)
                small |= set() if part.is_whole else alone
            else:
                part.is_whole = True
        self._sums = {c: sum_of(row) for c, row in noted.items()} | small_sums(small, standing, load)
        for part in self._parts.values():
            if part.is_whole:
                continue
            assert part.earliest is not None
            joined = [s.joined for c in part.clusters if (s := self._sums.get(c)) and s.joined]
            joined += [order_of(merge_of(m)) for c in part.clusters for m in standing.get(c, ())]
            part.is_whole = bool(joined) and part.earliest <= max(joined)

    # ---- what each step says

    def fold(self, step: Step, changes: Changes) -> None:
        if step.before is not None:
            self._unsay(step.before, step.position, changes)
        if step.after is None:
            return
        recorded = step.after.recorded
        for pair, named, order in stated(recorded):
            if pair in self._new:
                self._stated.setdefault(pair, {})[recorded.position] = (order, recorded)
                self._link(pair, named, order, recorded, step.position, changes)
        event = recorded.event
        if event.type in (MERGED, SPLIT):
            self._decide(recorded, step.position, changes)
        if event.subjects:
            for surrogate, _, _ in event.references:
                changes.know(
                    REFERENCES,
                    Reference(
                        reference=surrogate_of(surrogate),
                        position=recorded.position,
                        subject=surrogate_of(event.subjects[0][0]),
                        occurred_at=event.occurred_at,
                        source=event.source,
                        source_id=event.id,
                    ),
                    step.position,
                )

    def _decide(self, recorded: Recorded, at: int, changes: Changes) -> None:
        """A merge, or what undoes one, or a split of a subject from its person."""
        if (merge := merged_of(recorded)) is not None:
            self._identity(merge.a, ("", merge.a_kind, merge.a_namespace), changes)
            self._identity(merge.b, ("", merge.b_kind, merge.b_namespace), changes)
            changes.put(
                MERGES,
                msgspec.structs.replace(
                    merge, a_cluster=self._label(merge.a), b_cluster=self._label(merge.b)
                ),
            )
        if (event_id := undone_by(recorded)) is not None:
            undone = changes.get(MERGES, (event_id,))
            if undone is not None and undone.known_to is None:
                changes.put(MERGES, msgspec.structs.replace(undone, known_to=at))
        if (apart := kept_apart_of(recorded)) is not None:
            changes.put(SPLITS, msgspec.structs.replace(apart, cluster=self._label(apart.subject)))

    def _unsay(self, before: Effective, at: int, changes: Changes) -> None:
        """Close the evidence of an event that was corrected or taken back, and open what it had made needless."""
        recorded = before.recorded
        changes.close(REFERENCES, recorded.position, at)
        for pair, named, _ in stated(recorded):
            self._stated.get(pair, {}).pop(recorded.position, None)
            for key in list(self._open.get(pair, ())):
                if key[2] == recorded.position:
                    link = changes.get(LINKS, key)
                    assert link is not None
                    changes.put(LINKS, msgspec.structs.replace(link, known_to=at))
                    self._open[pair].remove(key)
            self._earliest.pop(pair, None)
            for key in self._open.get(pair, ()):
                link = changes.get(LINKS, key)
                assert link is not None
                self._remember(pair, order_of_link(link))
            others = self._stated.get(pair)
            if others:
                order, other = min(others.values(), key=lambda found: found[0])
                self._link(pair, named, order, other, at, changes)

    def _link(
        self,
        pair: Pair,
        named: tuple[_Named, _Named],
        order: Order,
        recorded: Recorded,
        since: int,
        changes: Changes,
    ) -> None:
        if not self._remember(pair, order):
            return
        a, b = surrogate_of(pair[0]), surrogate_of(pair[1])
        self._identity(a, named[0], changes)
        self._identity(b, named[1], changes)
        row = Evidence(
            a=a,
            b=b,
            position=recorded.position,
            occurred_at=order[0],
            source=order[1],
            source_id=order[2],
            place=order[3],
            cluster=self._label(a),
            known_from=since,
        )
        changes.put(LINKS, row)
        self._open.setdefault(pair, []).append(_key(row))
        self._fresh.append(_key(row))

    def _label(self, subject: UUID) -> UUID:
        return self._labels.of(self._cluster_of(subject))

    def _identity(self, subject: UUID, named: _Named, changes: Changes) -> None:
        if changes.get(IDENTITIES, (subject,)) is None:
            changes.put(
                IDENTITIES,
                Identity(
                    subject=subject,
                    kind=named[1],
                    namespace=named[2],
                    cluster=self._label(subject),
                    person=subject,
                ),
            )

    def _remember(self, pair: Pair, order: Order) -> bool:
        """Note evidence of a link; True when no evidence that was known before is as early."""
        known = self._earliest.get(pair)
        if known is not None and known <= order:
            return False
        if known is None and len(self._earliest) >= REMEMBERED:
            self._earliest = {p: o for p, o in self._earliest.items() if p in self._new}
        self._earliest[pair] = order
        return True

    # ---- the persons that follow

    def finish(self, changes: Changes) -> None:
        if not self._touched:
            return
        self._rename(changes)
        whole = {self._labels.of(c) for part in self._parts.values() if part.is_whole for c in part.clusters}
        rows: list[Identity] = []
        going: list[Identity] = []
        for row in changes.all(IDENTITIES):
            (rows if row.cluster in whole else going).append(row)
        links: dict[UUID, int] = {}
        opened = []
        for link in changes.all(LINKS):
            if link.cluster in whole:
                links[link.cluster] = links.get(link.cluster, 0) + 1
                if link.known_to is None:
                    opened.append(link_of(link))
        splits = [split_of(s) for s in changes.all(SPLITS)]
        merges = [m for m in changes.all(MERGES) if m.known_to is None]
        if rows:
            here = {row.subject for row in rows}
            found = persons(
                {row.subject: (row.kind, row.namespace) for row in rows},
                opened,
                merges=[merge_of(m) for m in merges if m.a in here and m.b in here],
                splits=splits,
            )
            sums = {cluster: Sum(links.get(cluster, 0)) for cluster in whole}
            self._note(found, sums, rows, changes)
            merged = {s for m in merges for s in (m.a, m.b)}
            for row in rows:  # a subject that nothing but a merge had joined, and now is undone
                if row.cluster not in links and row.subject not in merged:
                    changes.remove(IDENTITIES, (row.subject,))
        if going:
            self._go_on(going, splits, changes)

    def _go_on(self, rows: Sequence[Identity], splits: Iterable[Any], changes: Changes) -> None:
        """Follow the new links of large clusters from the persons at their ends."""
        fresh: dict[frozenset[UUID], Link[UUID]] = {}
        sums: dict[UUID, Sum] = {}
        for part in self._parts.values():
            if not part.is_whole:
                for cluster in part.clusters:
                    if (before := self._sums.get(cluster)) is not None:
                        one = sums.setdefault(self._labels.of(cluster), Sum())
                        one.links += before.links
                        one.refused += before.refused
                        one.joins(before.joined)
        going = {row.cluster for row in rows}
        for key in self._fresh:
            link = changes.get(LINKS, key)
            assert link is not None
            if link.cluster not in going:
                continue
            sums.setdefault(link.cluster, Sum()).links += 1
            ends = frozenset((link.a, link.b))
            if ends not in self._before:
                one_way = link_of(link)
                if ends not in fresh or order_of(one_way) < order_of(fresh[ends]):
                    fresh[ends] = one_way
        people = {
            row.person
            for link in fresh.values()
            for s in (link.a, link.b)
            if (row := changes.get(IDENTITIES, (s,)))
        }
        kept = [row for row in rows if row.person in people]
        groups: dict[UUID, list[UUID]] = {}
        for row in kept:
            groups.setdefault(row.person, []).append(row.subject)
        found = persons(
            {row.subject: (row.kind, row.namespace) for row in kept},
            fresh.values(),
            splits=list(splits),
            joined=groups.values(),
        )
        self._note(found, sums, kept, changes)

    @staticmethod
    def _note(
        found: Persons[UUID], sums: dict[UUID, Sum], rows: Sequence[Identity], changes: Changes
    ) -> None:
        """Write down the persons of *rows*, and what is noted of their clusters."""
        names = [min(members) for members in found.members]
        cluster = {}
        for row in rows:
            cluster[row.subject] = row.cluster
            person = names[found.index[row.subject]]
            if row.person != person:
                changes.put(IDENTITIES, msgspec.structs.replace(row, person=person))
        for refused in found.refused:
            if isinstance(refused.evidence, Link):
                sums[cluster[refused.evidence.a]].refused += 1
        for step in found.joining:
            if isinstance(step, Link):
                sums[cluster[step.a]].joins(order_of(step))
        for name, total in sums.items():
            if total.links >= LARGE or total.refused:
                changes.put(CLUSTERS, row_of(name, total))
            else:
                changes.remove(CLUSTERS, (name,))

    def _rename(self, changes: Changes) -> None:
        """Give the rows of clusters that were joined the name of the joined one."""
        of, replace = self._labels.of, msgspec.structs.replace
        if all(of(c) == c for part in self._parts.values() for c in part.clusters):
            return
        for row in changes.all(IDENTITIES):
            if (label := of(row.cluster)) != row.cluster:
                changes.put(IDENTITIES, replace(row, cluster=label))
        for link in changes.all(LINKS):
            if (label := of(link.cluster)) != link.cluster:
                changes.put(LINKS, replace(link, cluster=label))
        for merge in changes.all(MERGES):
            ends = of(merge.a_cluster), of(merge.b_cluster)
            if ends != (merge.a_cluster, merge.b_cluster):
                changes.put(MERGES, replace(merge, a_cluster=ends[0], b_cluster=ends[1]))
        for apart in changes.all(SPLITS):
            if (label := of(apart.cluster)) != apart.cluster:
                changes.put(SPLITS, replace(apart, cluster=label))
        for noted in changes.all(CLUSTERS):
            if of(noted.cluster) != noted.cluster:
                changes.remove(CLUSTERS, (noted.cluster,))


def _key(link: Evidence) -> _Key:
    return link.a, link.b, link.position, link.known_from
