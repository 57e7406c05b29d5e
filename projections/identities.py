"""Identities: which subjects are one person, by the links that events state (SEMANTICS §2).

`links` keeps the evidence, `identities` the person of every subject that was ever linked, as resolved
now. A question about an earlier time cuts the evidence and resolves again, with the same function.
A *cluster* is what all evidence together would join if no guard refused a link; persons never reach
across clusters, so that one cluster is all that a new link has to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, ClassVar
from uuid import UUID

import msgspec
from msgspec import Meta

from domain.entry import Recorded
from domain.identity import Link, persons
from projections.projection import Changes, Index, Load, Projection, Table, projection

__all__ = [
    "IDENTITIES",
    "LINKS",
    "REFERENCES",
    "Evidence",
    "Identities",
    "Identity",
    "Reference",
    "persons_of",
]


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """A subject that was linked to another, and the person it belongs to."""

    subject: Annotated[UUID, Meta(description="The subject")]
    kind: Annotated[str, Meta(description="Kind of its identifier")]
    namespace: Annotated[str, Meta(description="Namespace of its identifier")]
    cluster: Annotated[UUID, Meta(description="All that the evidence would join if nothing were refused")]
    person: Annotated[UUID, Meta(description="The person as resolved now: its smallest subject")]


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """An event that states a link; kept while no earlier-known event states it from an earlier time."""

    a: Annotated[UUID, Meta(description="First subject of the event")]
    b: Annotated[UUID, Meta(description="Another subject of the event")]
    position: Annotated[int, Meta(description="The event")]
    occurred_at: Annotated[datetime, Meta(description="From when the link is in force")]
    source: Annotated[str, Meta(description="Source of the event")]
    source_id: Annotated[str, Meta(description="Id of the event at its source")]
    place: Annotated[int, Meta(description="Place of the link in the event, from 1")]
    cluster: Annotated[UUID, Meta(description="The cluster of both subjects")]


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """An event that names a reference (order, case) and an identifier: the earliest says whose it is."""

    reference: Annotated[UUID, Meta(description="Surrogate of the reference")]
    position: Annotated[int, Meta(description="The event")]
    subject: Annotated[UUID, Meta(description="First subject of the event")]
    occurred_at: Annotated[datetime, Meta(description="When it happened")]
    source: Annotated[str, Meta(description="Source of the event")]
    source_id: Annotated[str, Meta(description="Id of the event at its source")]


IDENTITIES = Table(
    "identities", Identity, key=("subject",), indexes=(Index(("cluster",)), Index(("person",)))
)
LINKS = Table("links", Evidence, key=("a", "b", "position"), indexes=(Index(("cluster",)),))
REFERENCES = Table("references", Reference, key=("reference", "position"), indexes=(Index(("subject",)),))


def persons_of(kinds: dict[UUID, tuple[str, str]], evidence: Iterable[Evidence]) -> dict[UUID, UUID]:
    """The person of every subject of *kinds* by these links: the person's smallest subject."""
    links = [
        Link(
            a=e.a,
            b=e.b,
            occurred_at=e.occurred_at,
            source=e.source,
            source_id=e.source_id,
            place=e.place,
            position=e.position,
        )
        for e in evidence
    ]
    found: dict[UUID, UUID] = {}
    for members in persons(kinds, links).members:
        person = min(members)
        for subject in members:
            found[subject] = person
    return found


@projection
class Identities(Projection):
    """Keeps the evidence of links and the persons that follow from it."""

    name = "identities"
    version = 1
    tables: ClassVar[tuple[Table[msgspec.Struct], ...]] = (IDENTITIES, LINKS, REFERENCES)  # type: ignore[assignment]

    def __init__(self) -> None:
        self._earliest: dict[tuple[str, str], _Order] = {}
        self._new: set[tuple[str, str]] = set()
        self._touched: set[UUID] = set()
        self._members: dict[UUID, list[UUID]] = {}
        self._links: dict[UUID, list[tuple[UUID, UUID, int]]] = {}
        self._referred: dict[UUID, tuple[datetime, str, str]] = {}

    def forget(self) -> None:
        self._earliest = {}

    def prepare(self, events: Sequence[Recorded], load: Load) -> None:
        self._new, self._touched = set(), set()
        self._members, self._links, self._referred = {}, {}, {}
        references: dict[UUID, None] = {}
        for recorded in events:
            event = recorded.event
            if len(event.subjects) > 1:
                first = event.subjects[0][0]
                for place, other in enumerate(event.subjects[1:], start=1):
                    known = self._earliest.get((first, other[0]))
                    if known is None or _order(recorded, place) < known:
                        self._new.add((first, other[0]))
            if event.references and event.subjects:
                for surrogate, _, _ in event.references:
                    references[UUID(surrogate)] = None
        if self._new:
            named = {UUID(s) for pair in self._new for s in pair}
            clusters = {row.cluster for row in load.where(IDENTITIES, "subject", named)}
            if clusters:
                for row in load.where(IDENTITIES, "cluster", clusters):
                    self._members.setdefault(row.cluster, []).append(row.subject)
                for link in load.where(LINKS, "cluster", clusters):
                    self._links.setdefault(link.cluster, []).append((link.a, link.b, link.position))
                    pair = (str(link.a), str(link.b))
                    if pair in self._new:
                        self._remember(pair, _stored_order(link))
        if references:
            for stated in load.where(REFERENCES, "reference", references):
                self._owned_since(stated.reference, (stated.occurred_at, stated.source, stated.source_id))

    def fold(self, recorded: Recorded, body: bytes, changes: Changes) -> None:
        event = recorded.event
        if not event.subjects:
            return
        if len(event.subjects) > 1:
            first = event.subjects[0]
            for place, other in enumerate(event.subjects[1:], start=1):
                if (first[0], other[0]) in self._new:
                    self._link(first, other, place, recorded, changes)
        for surrogate, _, _ in event.references:
            self._refer(UUID(surrogate), UUID(event.subjects[0][0]), recorded, changes)

    def _link(
        self,
        first: tuple[str, str, str],
        other: tuple[str, str, str],
        place: int,
        recorded: Recorded,
        changes: Changes,
    ) -> None:
        pair = (first[0], other[0])
        order = _order(recorded, place)
        if not self._remember(pair, order):
            return
        a, b = UUID(first[0]), UUID(other[0])
        one, two = self._identity(a, first, changes), self._identity(b, other, changes)
        cluster, gone = min(one.cluster, two.cluster), max(one.cluster, two.cluster)
        if cluster != gone:
            for subject in self._members.pop(gone):
                row = changes.get(IDENTITIES, (subject,))
                assert row is not None
                changes.put(IDENTITIES, msgspec.structs.replace(row, cluster=cluster))
                self._members[cluster].append(subject)
            for key in self._links.pop(gone, []):
                link = changes.get(LINKS, key)
                assert link is not None
                changes.put(LINKS, msgspec.structs.replace(link, cluster=cluster))
                self._links.setdefault(cluster, []).append(key)
            self._touched.discard(gone)
        self._touched.add(cluster)
        self._links.setdefault(cluster, []).append((a, b, recorded.position))
        event = recorded.event
        changes.put(
            LINKS,
            Evidence(
                a=a,
                b=b,
                position=recorded.position,
                occurred_at=event.occurred_at,
                source=event.source,
                source_id=event.id,
                place=place,
                cluster=cluster,
            ),
        )

    def _identity(self, subject: UUID, named: tuple[str, str, str], changes: Changes) -> Identity:
        found = changes.get(IDENTITIES, (subject,))
        if found is None:
            found = Identity(
                subject=subject, kind=named[1], namespace=named[2], cluster=subject, person=subject
            )
            changes.put(IDENTITIES, found)
            self._members[subject] = [subject]
        return found

    def _remember(self, pair: tuple[str, str], order: _Order) -> bool:
        """Note evidence of a link; True when no evidence that was known before is as early."""
        known = self._earliest.get(pair)
        if known is not None and known <= order:
            return False
        if known is None and len(self._earliest) >= REMEMBERED:
            self._earliest = {p: o for p, o in self._earliest.items() if p in self._new}
        self._earliest[pair] = order
        return True

    def _owned_since(self, reference: UUID, order: tuple[datetime, str, str]) -> bool:
        known = self._referred.get(reference)
        if known is not None and known <= order:
            return False
        self._referred[reference] = order
        return True

    def _refer(self, reference: UUID, subject: UUID, recorded: Recorded, changes: Changes) -> None:
        event = recorded.event
        if self._owned_since(reference, (event.occurred_at, event.source, event.id)):
            changes.put(
                REFERENCES,
                Reference(
                    reference=reference,
                    position=recorded.position,
                    subject=subject,
                    occurred_at=event.occurred_at,
                    source=event.source,
                    source_id=event.id,
                ),
            )

    def finish(self, changes: Changes) -> None:
        for cluster in self._touched:
            rows = [row for s in self._members[cluster] if (row := changes.get(IDENTITIES, (s,))) is not None]
            links = [link for key in self._links[cluster] if (link := changes.get(LINKS, key)) is not None]
            found = persons_of({row.subject: (row.kind, row.namespace) for row in rows}, links)
            for row in rows:
                if row.person != found[row.subject]:
                    changes.put(IDENTITIES, msgspec.structs.replace(row, person=found[row.subject]))


REMEMBERED = 500_000
"""Links whose earliest evidence is kept in memory, so that the same link stated again costs nothing."""

_Order = tuple[datetime, str, str, int]


def _order(recorded: Recorded, place: int) -> _Order:
    event = recorded.event
    return (event.occurred_at, event.source, event.id, place)


def _stored_order(evidence: Evidence) -> _Order:
    return (evidence.occurred_at, evidence.source, evidence.source_id, evidence.place)
