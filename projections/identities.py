"""Identities: which subjects are one person, by the links that events state (SEMANTICS §2).

`links` keeps the evidence, `identities` the person of every subject that was ever linked, as resolved
now. A question about an earlier time cuts the evidence and resolves again, with the same function.
A *cluster* is what all evidence together would join if no guard refused a link; persons never reach
across clusters, so that one cluster is all that a new link has to look at.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from msgspec import Meta

from domain.entry import Recorded
from domain.identity import Link, persons
from projections.projection import Changes, Effective, Index, Load, Projection, Step, Table, projection

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
    """An event that states a link; kept where no event known before states it from as early a time."""

    a: Annotated[UUID, Meta(description="First subject of the event")]
    b: Annotated[UUID, Meta(description="Another subject of the event")]
    position: Annotated[int, Meta(description="The event")]
    occurred_at: Annotated[datetime, Meta(description="From when the link is in force")]
    source: Annotated[str, Meta(description="Source of the event")]
    source_id: Annotated[str, Meta(description="Id of the event at its source")]
    place: Annotated[int, Meta(description="Place of the link in the event, from 1")]
    cluster: Annotated[UUID, Meta(description="The cluster of both subjects")]
    known_from: Annotated[int, Meta(description="Position from which this evidence counts")]
    known_to: Annotated[
        int | None, Meta(description="Position from which it no longer does; null: it still does")
    ] = None


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """An event that names a reference (order, case) and an identifier: of these the earliest says whose it is."""

    reference: Annotated[UUID, Meta(description="Surrogate of the reference")]
    position: Annotated[int, Meta(description="The event")]
    subject: Annotated[UUID, Meta(description="First subject of the event")]
    occurred_at: Annotated[datetime, Meta(description="When it happened")]
    source: Annotated[str, Meta(description="Source of the event")]
    source_id: Annotated[str, Meta(description="Id of the event at its source")]


IDENTITIES = Table(
    "identities", Identity, key=("subject",), indexes=(Index(("cluster",)), Index(("person",)))
)
LINKS = Table("links", Evidence, key=("a", "b", "position", "known_from"), indexes=(Index(("cluster",)),))
REFERENCES = Table(
    "references",
    Reference,
    indexes=(Index(("reference",)), Index(("subject",)), Index(("position",), "brin")),
    known=True,
)


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


REMEMBERED = 500_000
"""Links whose earliest evidence is kept in memory, so that the same link stated again costs nothing."""

_Order = tuple[datetime, str, str, int]
_Pair = tuple[str, str]
_Named = tuple[str, str, str]


@projection
class Identities(Projection):
    """Keeps the evidence of links and the persons that follow from it."""

    name = "identities"
    version = 2
    pace = "live"
    tables: ClassVar[tuple[Table[Any], ...]] = (IDENTITIES, LINKS, REFERENCES)

    def __init__(self) -> None:
        self._earliest: dict[_Pair, _Order] = {}
        self._begin()

    def _begin(self) -> None:
        self._new: set[_Pair] = set()
        self._touched: set[UUID] = set()
        self._members: dict[UUID, list[UUID]] = {}
        self._links: dict[UUID, list[tuple[UUID, UUID, int, int]]] = {}
        self._open: dict[_Pair, list[tuple[UUID, UUID, int, int]]] = {}
        self._stated: dict[_Pair, dict[int, tuple[_Order, Recorded]]] = {}

    def forget(self) -> None:
        self._earliest = {}

    def prepare(self, steps: Sequence[Step], load: Load) -> None:
        self._begin()
        unstated: set[_Pair] = set()
        for step in steps:
            if step.before is not None:
                unstated.update(pair for pair, _, _ in _stated(step.before.recorded))
            if step.after is not None:
                for pair, _, order in _stated(step.after.recorded):
                    known = self._earliest.get(pair)
                    if known is None or order < known:
                        self._new.add(pair)
        self._new |= unstated
        if not self._new:
            return
        clusters = {
            row.cluster
            for row in load.where(IDENTITIES, "subject", {UUID(s) for pair in self._new for s in pair})
        }
        if clusters:
            for row in load.where(IDENTITIES, "cluster", clusters):
                self._members.setdefault(row.cluster, []).append(row.subject)
            for link in load.where(LINKS, "cluster", clusters):
                key = (link.a, link.b, link.position, link.known_from)
                self._links.setdefault(link.cluster, []).append(key)
                pair = (str(link.a), str(link.b))
                if link.known_to is None and pair in self._new:
                    self._open.setdefault(pair, []).append(key)
                    self._remember(pair, _stored_order(link))
        if unstated:  # what else states these links, now that one event no longer does?
            for event in load.of_subjects({UUID(pair[0]) for pair in unstated}):
                for pair, _, order in _stated(event.recorded):
                    if pair in unstated:
                        self._stated.setdefault(pair, {})[event.recorded.position] = (order, event.recorded)

    def fold(self, step: Step, changes: Changes) -> None:
        if step.before is not None:
            self._unsay(step.before, step.position, changes)
        if step.after is None:
            return
        recorded = step.after.recorded
        for pair, named, order in _stated(recorded):
            if pair in self._new:
                self._stated.setdefault(pair, {})[recorded.position] = (order, recorded)
                self._link(pair, named, order, recorded, step.position, changes)
        event = recorded.event
        if event.subjects:
            for surrogate, _, _ in event.references:
                changes.know(
                    REFERENCES,
                    Reference(
                        reference=UUID(surrogate),
                        position=recorded.position,
                        subject=UUID(event.subjects[0][0]),
                        occurred_at=event.occurred_at,
                        source=event.source,
                        source_id=event.id,
                    ),
                    step.position,
                )

    def _unsay(self, before: Effective, at: int, changes: Changes) -> None:
        """Close the evidence of an event that was corrected or taken back, and open what it had made needless."""
        recorded = before.recorded
        changes.close(REFERENCES, recorded.position, at)
        for pair, named, _ in _stated(recorded):
            self._stated.get(pair, {}).pop(recorded.position, None)
            for key in list(self._open.get(pair, ())):
                if key[2] == recorded.position:
                    link = changes.get(LINKS, key)
                    assert link is not None
                    changes.put(LINKS, msgspec.structs.replace(link, known_to=at))
                    self._open[pair].remove(key)
                    self._touched.add(link.cluster)
            self._earliest.pop(pair, None)
            for key in self._open.get(pair, ()):
                link = changes.get(LINKS, key)
                assert link is not None
                self._remember(pair, _stored_order(link))
            others = self._stated.get(pair)
            if others:
                order, other = min(others.values(), key=lambda found: found[0])
                self._link(pair, named, order, other, at, changes)

    def _link(
        self,
        pair: _Pair,
        named: tuple[_Named, _Named],
        order: _Order,
        recorded: Recorded,
        since: int,
        changes: Changes,
    ) -> None:
        if not self._remember(pair, order):
            return
        a, b = UUID(pair[0]), UUID(pair[1])
        one, two = self._identity(a, named[0], changes), self._identity(b, named[1], changes)
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
        key = (a, b, recorded.position, since)
        self._links.setdefault(cluster, []).append(key)
        self._open.setdefault(pair, []).append(key)
        changes.put(
            LINKS,
            Evidence(
                a=a,
                b=b,
                position=recorded.position,
                occurred_at=order[0],
                source=order[1],
                source_id=order[2],
                place=order[3],
                cluster=cluster,
                known_from=since,
            ),
        )

    def _identity(self, subject: UUID, named: _Named, changes: Changes) -> Identity:
        found = changes.get(IDENTITIES, (subject,))
        if found is None:
            found = Identity(
                subject=subject, kind=named[1], namespace=named[2], cluster=subject, person=subject
            )
            changes.put(IDENTITIES, found)
            self._members[subject] = [subject]
        return found

    def _remember(self, pair: _Pair, order: _Order) -> bool:
        """Note evidence of a link; True when no evidence that was known before is as early."""
        known = self._earliest.get(pair)
        if known is not None and known <= order:
            return False
        if known is None and len(self._earliest) >= REMEMBERED:
            self._earliest = {p: o for p, o in self._earliest.items() if p in self._new}
        self._earliest[pair] = order
        return True

    def finish(self, changes: Changes) -> None:
        for cluster in self._touched:
            rows = [row for s in self._members[cluster] if (row := changes.get(IDENTITIES, (s,))) is not None]
            links = [
                link
                for key in self._links.get(cluster, ())
                if (link := changes.get(LINKS, key)) is not None and link.known_to is None
            ]
            found = persons_of({row.subject: (row.kind, row.namespace) for row in rows}, links)
            for row in rows:
                if row.person != found[row.subject]:
                    changes.put(IDENTITIES, msgspec.structs.replace(row, person=found[row.subject]))


def _stated(recorded: Recorded) -> Iterable[tuple[_Pair, tuple[_Named, _Named], _Order]]:
    """The links that an event states: from its first subject to each other one."""
    event = recorded.event
    if len(event.subjects) > 1:
        first = event.subjects[0]
        for place, other in enumerate(event.subjects[1:], start=1):
            yield (first[0], other[0]), (first, other), (event.occurred_at, event.source, event.id, place)


def _stored_order(evidence: Evidence) -> _Order:
    return (evidence.occurred_at, evidence.source, evidence.source_id, evidence.place)
