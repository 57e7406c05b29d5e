"""What is kept of who is who, and how persons follow from it: the rows behind `identities` (SEMANTICS §2).

`links` keeps the evidence, `merges` and `splits` what somebody decided, `identities` the person of every
subject that was ever linked, as resolved now. A *cluster* is what all evidence together would join if no
guard refused a link: it never shrinks, and evidence never reaches across. Merges do: persons are resolved
over a cluster and those that merges in force lead to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from domain.entry import Recorded
from domain.resolution import Link, Merge, Order, Persons, Split, persons
from projections.projection import Index, Table

__all__ = [
    "CLUSTERS",
    "IDENTITIES",
    "LINKS",
    "MERGED",
    "MERGES",
    "REFERENCES",
    "SPLIT",
    "SPLITS",
    "Cluster",
    "Evidence",
    "Identity",
    "KeptApart",
    "Merged",
    "Pair",
    "Reference",
    "kept_apart_of",
    "link_of",
    "merge_of",
    "merged_of",
    "order_of_link",
    "resolved",
    "split_of",
    "stated",
    "undone_by",
]

MERGED, SPLIT = "identity.merged", "identity.split"
Pair = tuple[str, str]
"""Two subjects as an event names them: its first, and another."""
Named = tuple[str, str, str]


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


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody's decision that the persons of two subjects are one."""

    event_id: Annotated[UUID, Meta(description="Id of the event that records it")]
    a: Annotated[UUID, Meta(description="A subject of the one person")]
    a_kind: Annotated[str, Meta(description="Kind of its identifier")]
    a_namespace: Annotated[str, Meta(description="Namespace of its identifier")]
    b: Annotated[UUID, Meta(description="A subject of the other")]
    b_kind: Annotated[str, Meta(description="Kind of its identifier")]
    b_namespace: Annotated[str, Meta(description="Namespace of its identifier")]
    occurred_at: Annotated[datetime, Meta(description="From when it is in force")]
    source: Annotated[str, Meta(description="Source of the event")]
    source_id: Annotated[str, Meta(description="Id of the event at its source")]
    a_cluster: Annotated[UUID, Meta(description="The cluster of the one subject")]
    b_cluster: Annotated[UUID, Meta(description="The cluster of the other")]
    known_from: Annotated[int, Meta(description="Position of the event")]
    known_to: Annotated[
        int | None, Meta(description="Position of the split that undid it; null: it stands")
    ] = None


class KeptApart(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody's decision that a subject and a person are two, which no evidence brings together again."""

    event_id: Annotated[UUID, Meta(description="Id of the event that records it")]
    position: Annotated[int, Meta(description="The event")]
    subject: Annotated[UUID, Meta(description="The subject that was taken out")]
    person_side: Annotated[list[UUID], Meta(description="The subjects that stayed, as resolved then")]
    subject_side: Annotated[list[UUID], Meta(description="The subjects that left, as resolved then")]
    cluster: Annotated[UUID, Meta(description="The cluster of the subject that was taken out")]


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster that is large, or in which links are refused as resolved now."""

    cluster: Annotated[UUID, Meta(description="Its smallest subject")]
    links: Annotated[int, Meta(description="How many rows of evidence it has")]
    refused: Annotated[int, Meta(description="How many of its links are refused as resolved now")]
    joined_at: Annotated[
        datetime | None, Meta(description="Time of the last link that joined two groups of subjects")
    ]
    joined_source: Annotated[str | None, Meta(description="Source of that link")]
    joined_id: Annotated[str | None, Meta(description="Id of that link at its source")]
    joined_place: Annotated[int | None, Meta(description="Place of that link in its event")]


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
LINKS = Table(
    "links",
    Evidence,
    key=("a", "b", "position", "known_from"),
    indexes=(Index(("cluster",)), Index(("known_from",)), Index(("known_to",))),
)
REFERENCES = Table(
    "references",
    Reference,
    indexes=(
        Index(("reference",)),
        Index(("subject",)),
        Index(("position",), "brin"),
        Index(("known_from",)),
        Index(("known_to",)),
    ),
    known=True,
)
MERGES = Table("merges", Merged, key=("event_id",), indexes=(Index(("a_cluster",)), Index(("b_cluster",))))
SPLITS = Table("splits", KeptApart, key=("event_id",), indexes=(Index(("cluster",)),))
CLUSTERS = Table("clusters", Cluster, key=("cluster",))


def stated(recorded: Recorded) -> Iterable[tuple[Pair, tuple[Named, Named], Order]]:
    """The links that an event states: from its first subject to each other one."""
    event = recorded.event
    if len(event.subjects) > 1:
        first = event.subjects[0]
        for place, other in enumerate(event.subjects[1:], start=1):
            yield (first[0], other[0]), (first, other), (event.occurred_at, event.source, event.id, place)


def order_of_link(evidence: Evidence) -> Order:
    """The place of stored evidence among all."""
    return (evidence.occurred_at, evidence.source, evidence.source_id, evidence.place)


def merged_of(recorded: Recorded) -> Merged | None:
    """The merge that an event records; None where it records none that can be followed."""
    event = recorded.event
    if event.type != MERGED or not event.subjects:
        return None
    data = event.data
    a, b = UUID(event.subjects[0][0]), _uuid(data.get("b_subject"))
    if b is None or b == a or not isinstance(data.get("b_kind"), str):
        return None
    return Merged(
        event_id=UUID(event.event_id),
        a=a,
        a_kind=event.subjects[0][1],
        a_namespace=event.subjects[0][2],
        b=b,
        b_kind=data["b_kind"],
        b_namespace=str(data.get("b_namespace") or ""),
        occurred_at=event.occurred_at,
        source=event.source,
        source_id=event.id,
        a_cluster=a,
        b_cluster=b,
        known_from=recorded.position,
    )


def undone_by(recorded: Recorded) -> UUID | None:
    """The merge that an event undoes."""
    return _uuid(recorded.event.data.get("merge")) if recorded.event.type == SPLIT else None


def kept_apart_of(recorded: Recorded) -> KeptApart | None:
    """The split of a subject from its person that an event records."""
    event = recorded.event
    if event.type != SPLIT:
        return None
    data = event.data
    subject, sides = (
        _uuid(data.get("subject")),
        (_uuids(data.get("person_subjects")), _uuids(data.get("subject_subjects"))),
    )
    if subject is None or not sides[0]:
        return None
    return KeptApart(
        event_id=UUID(event.event_id),
        position=recorded.position,
        subject=subject,
        person_side=sides[0],
        subject_side=sides[1],
        cluster=subject,
    )


def link_of(row: Evidence) -> Link[UUID]:
    """Stored evidence as resolution takes it."""
    return Link(row.a, row.b, row.occurred_at, row.source, row.source_id, row.place, row.position)


def merge_of(row: Merged) -> Merge[UUID]:
    """A stored merge as resolution takes it."""
    return Merge(row.a, row.b, row.occurred_at, row.source, row.source_id, row.event_id, row.known_from)


def split_of(row: KeptApart) -> Split[UUID]:
    """A stored split of a subject as resolution takes it."""
    return Split(position=row.position, subject=row.subject, person_side=frozenset(row.person_side))


def resolved(
    kinds: Mapping[UUID, tuple[str, str]],
    evidence: Iterable[Evidence],
    merges: Iterable[Merged],
    splits: Iterable[KeptApart],
    *,
    as_of: datetime | None = None,
    known_at: int,
) -> Persons[UUID]:
    """The persons of *kinds* at one moment of both axes, by the rows of their clusters, in any order."""

    def known(row: Evidence | Merged) -> bool:
        return row.known_from <= known_at and (row.known_to is None or row.known_to > known_at)

    return persons(
        kinds,
        [link_of(row) for row in evidence if known(row)],
        merges=[merge_of(row) for row in merges if known(row)],
        splits=[split_of(row) for row in splits if row.position <= known_at],
        as_of=as_of,
    )


def _uuid(text: Any) -> UUID | None:
    try:
        return UUID(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _uuids(texts: Any) -> list[UUID]:
    return [s for t in texts if (s := _uuid(t)) is not None] if isinstance(texts, list) else []
