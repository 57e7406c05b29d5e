"""What is noted of clusters while a batch is folded: which are joined, which are resolved together, and their sums."""

from __future__ import annotations

from uuid import UUID

import msgspec

from domain.resolution import Order, order_of, persons
from projections.linking import (
    IDENTITIES,
    LINKS,
    SPLITS,
    Cluster,
    Merged,
    link_of,
    order_of_link,
    split_of,
)
from projections.projection import Load

__all__ = ["Part", "Sets", "Sum", "row_of", "small_sums", "sum_of"]


class Sets:
    """Disjoint sets of clusters; each is called by its smallest."""

    def __init__(self) -> None:
        self._parent: dict[UUID, UUID] = {}

    def of(self, one: UUID) -> UUID:
        """What the set of *one* is called."""
        parent = self._parent
        while (above := parent.get(one, one)) != one:
            parent[one] = parent.get(above, above)
            one = above
        return one

    def join(self, one: UUID, other: UUID) -> None:
        """Make one set of two."""
        one, other = self.of(one), self.of(other)
        if one != other:
            self._parent[max(one, other)] = min(one, other)


class Sum(msgspec.Struct):
    """What is noted of a cluster."""

    links: int = 0
    refused: int = 0
    joined: Order | None = None

    def joins(self, order: Order | None) -> None:
        """Note that a link of this order joined two groups."""
        if order is not None and (self.joined is None or order > self.joined):
            self.joined = order


class Part(msgspec.Struct):
    """Clusters that are resolved together, because links or merges of this batch or before lead from one to the other."""

    clusters: set[UUID] = msgspec.field(default_factory=set)
    earliest: Order | None = None  # of the new links
    is_whole: bool = False


def small_sums(clusters: set[UUID], standing: dict[UUID, list[Merged]], load: Load) -> dict[UUID, Sum]:
    """What would be noted of small clusters, none of whose links is refused.

    With a merge, which link was the last to join cannot be told from the cluster alone: the last of all is
    taken, which is as late or later. Nothing of that is written down: such a cluster gets no new link here.
    """
    if not clusters:
        return {}
    sums = {c: Sum() for c in clusters}
    rows = load.where(IDENTITIES, "cluster", clusters)
    links = load.where(LINKS, "cluster", clusters)
    of = {row.subject: row.cluster for row in rows}
    for link in links:
        sums[link.cluster].links += 1
        if link.cluster in standing and link.known_to is None:
            sums[link.cluster].joins(order_of_link(link))
    found = persons(
        {row.subject: (row.kind, row.namespace) for row in rows},
        [link_of(link) for link in links if link.known_to is None],
        splits=[split_of(s) for s in load.where(SPLITS, "cluster", clusters)],
    )
    for step in found.joining:
        sums[of[step.a]].joins(order_of(step))
    return sums


def sum_of(row: Cluster) -> Sum:
    """What a row notes."""
    joined = None
    if row.joined_at is not None:
        joined = (row.joined_at, row.joined_source or "", row.joined_id or "", row.joined_place or 0)
    return Sum(row.links, row.refused, joined)


def row_of(cluster: UUID, total: Sum) -> Cluster:
    """The row that notes it."""
    at, source, id_, place = total.joined or (None, None, None, None)
    return Cluster(
        cluster=cluster,
        links=total.links,
        refused=total.refused,
        joined_at=at,
        joined_source=source,
        joined_id=id_,
        joined_place=place,
    )
