"""Consent facts, and what they say as known at one position of the log (SEMANTICS §5).

Knowledge comes first: facts that were not in the log yet are left out. Then corrections are applied, field
by field, the greatest (time, source, id) last; then what was invalidated is dropped; then confirmations
give double opt-ins their time. What is left are the words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

__all__ = [
    "GRANTS",
    "RESTRICTIONS",
    "Defect",
    "Fact",
    "Known",
    "Word",
    "covers",
    "defects",
    "known",
    "state_of",
]

GRANTS = frozenset(("given", "renewed"))
RESTRICTIONS = frozenset(("withdrawn", "objected", "refused", "revoked", "reassigned"))
_STATES = {
    "contact.reassigned": "reassigned",
    "notice.superseded": "superseded",
    "notice.published": "published",
}


def state_of(type_: str) -> str | None:
    """The state that an event of this type states; None for one that is no fact about consent."""
    if type_.startswith("consent."):
        return type_.removeprefix("consent.")
    return _STATES.get(type_)


class Fact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One recorded fact about consent, or a notice, with what its commit gave it.

    Times are aware. `known_from` is the position from which it is known: its own, unless its import was taken
    back and it was restored; `known_to` the one from which it was taken back. `recorded_at` is the time of
    `known_from`. `patch` holds the plain fields that a correction replaces, with surrogates for persons.
    """

    position: int
    known_from: int
    known_to: int | None = None
    recorded_at: datetime
    event_id: UUID
    source: str
    source_id: str
    state: str
    effective_at: datetime
    subject: UUID | None = None
    contact: UUID | None = None
    purpose: str | None = None
    channel: str | None = None
    legal_basis: str | None = None
    notice_id: str | None = None
    notice_version: str | None = None
    method: str | None = None
    jurisdiction: str | None = None
    controller: str | None = None
    valid_until: datetime | None = None
    double_opt_in: bool = False
    of: UUID | None = None  # the event id of the fact that this one speaks of
    patch: Mapping[str, Any] | None = None
    reviewed: tuple[UUID, ...] | None = None  # the subjects whom a reviewed restriction goes on to bind
    material: bool = False  # of a superseded notice

    @property
    def order(self) -> tuple[datetime, str, str]:
        """The place of a correction among those of one fact."""
        return self.effective_at, self.source, self.source_id


class Word(msgspec.Struct, frozen=True, gc=False):
    """A grant or restriction as it counts: corrected, evidenced, confirmed.

    `since` is its effective time (of a double opt-in the later of grant and confirmation); `evidence` the
    positions it rests on: its own, its corrections', its confirmation's.
    """

    fact: Fact
    since: datetime
    is_restriction: bool
    evidence: tuple[int, ...]
    order: tuple[datetime, bool, str, str]


class Known(msgspec.Struct, frozen=True, gc=False):
    """All that the facts say, as known at one position.

    `unevidenced` are grants that would be words, had they a notice version and a method. `reviews` are kept
    by the event id of the restriction that they speak of, in the order of the log.
    """

    grants: tuple[Word, ...]
    restrictions: tuple[Word, ...]
    unevidenced: tuple[Fact, ...]
    superseded: tuple[Fact, ...]
    reviews: Mapping[UUID, tuple[Fact, ...]]


def covers(broad: str | None, narrow: str) -> bool:
    """Whether a restriction's purpose covers another: `*` (or none) all, `marketing` also `marketing.news`."""
    return broad is None or broad in ("*", narrow) or narrow.startswith(f"{broad}.")


_CORRECTABLE = GRANTS | RESTRICTIONS | {"requested", "confirmed", "superseded"}
"""What a correction can speak of; one of a correction, an invalidation or a review has no effect."""
_INVALIDATABLE = _CORRECTABLE | {"corrected", "reviewed"}
"""Invalidating an invalidation has no effect."""


def known(facts: Iterable[Fact], at: int, *, without_late_grants: datetime | None = None) -> Known:
    """What *facts* say as known at position *at*.

    Args:
        without_late_grants: leave out grants, confirmations and corrections of either that were recorded
            after this time: what the log proves that somebody could have relied on then.
    """
    visible = [f for f in facts if f.known_from <= at and (f.known_to is None or f.known_to > at)]
    if without_late_grants is not None:
        states = {f.event_id: f.state for f in visible}
        visible = [
            f
            for f in visible
            if f.recorded_at <= without_late_grants or not _permissive(f, states.get(f.of) if f.of else None)
        ]
    speaking = [f for f in visible if f.of is not None]
    void = {f.of for f in speaking if f.state == "invalidated" and f.of is not None and not _ends_before(f)}
    corrections: dict[UUID, list[Fact]] = {}
    confirmations: dict[UUID, list[Fact]] = {}
    reviews: dict[UUID, list[Fact]] = {}
    for fact in speaking:
        if fact.of is None or fact.event_id in void:
            continue
        if fact.state == "corrected":
            corrections.setdefault(fact.of, []).append(fact)
        elif fact.state == "confirmed":
            confirmations.setdefault(fact.of, []).append(fact)
        elif fact.state == "reviewed" and fact.reviewed is not None:
            reviews.setdefault(fact.of, []).append(fact)
    return _said(visible, void, corrections, confirmations, reviews)


def _said(
    visible: list[Fact],
    void: set[UUID],
    corrections: dict[UUID, list[Fact]],
    confirmations: dict[UUID, list[Fact]],
    reviews: dict[UUID, list[Fact]],
) -> Known:
    grants: list[Word] = []
    restrictions: list[Word] = []
    unevidenced: list[Fact] = []
    superseded: list[Fact] = []
    for recorded in visible:
        state = recorded.state
        if state == "superseded":
            if recorded.event_id not in void:
                superseded.append(_corrected(recorded, corrections.get(recorded.event_id, ())))
            continue
        is_restriction = state in RESTRICTIONS
        if not is_restriction and state not in GRANTS:
            continue
        if recorded.event_id in void:
            continue
        patches = corrections.get(recorded.event_id, ())
        fact = _corrected(recorded, patches)
        if _ends_before(fact):
            continue
        since = fact.effective_at
        evidence = [fact.position, *(p.position for p in patches)]
        if not is_restriction:
            if not fact.notice_version or not fact.method:
                unevidenced.append(fact)
                continue
            if fact.double_opt_in:
                proof = _confirmed(confirmations.get(fact.event_id, ()), corrections)
                if proof is None:
                    continue
                since = max(since, proof[0])
                evidence += proof[1]
        word = Word(
            fact,
            since,
            is_restriction,
            tuple(sorted(evidence)),
            (since, is_restriction, fact.source, fact.source_id),
        )
        (restrictions if is_restriction else grants).append(word)
    return Known(
        tuple(grants),
        tuple(restrictions),
        tuple(unevidenced),
        tuple(superseded),
        {of: tuple(sorted(found, key=lambda f: f.known_from)) for of, found in reviews.items()},
    )


def _permissive(fact: Fact, of: str | None) -> bool:
    return (
        fact.state in GRANTS
        or fact.state == "confirmed"
        or (fact.state == "corrected" and of is not None and (of in GRANTS or of == "confirmed"))
    )


def _ends_before(fact: Fact) -> bool:
    """Whether it was over before it began: such a fact has no effect."""
    return fact.valid_until is not None and fact.valid_until <= fact.effective_at


def _corrected(fact: Fact, corrections: Iterable[Fact]) -> Fact:
    """*fact* with its corrections applied, field by field; a null takes a value away, but a fact has a time."""
    changes: dict[str, Any] = {}
    for correction in sorted(corrections, key=lambda c: c.order):
        changes |= correction.patch or {}
    if not changes:
        return fact
    if changes.get("effective_at", fact) is None:
        changes["effective_at"] = fact.effective_at
    return msgspec.structs.replace(fact, **changes)


def _confirmed(
    confirmations: Iterable[Fact], corrections: Mapping[UUID, list[Fact]]
) -> tuple[datetime, list[int]] | None:
    """(time of the earliest confirmation, the positions it rests on)."""
    first: tuple[datetime, str, str] | None = None
    evidence: list[int] = []
    for recorded in confirmations:
        patches = corrections.get(recorded.event_id, [])
        fact = _corrected(recorded, patches)
        if not _ends_before(fact) and (first is None or fact.order < first):
            first = fact.order
            evidence = [fact.position, *(p.position for p in patches)]
    return None if first is None else (first[0], evidence)


class Defect(msgspec.Struct, frozen=True):
    """Why a fact has no effect, or deserves a look."""

    fact: Fact
    reason: Literal[
        "ends_before_it_begins",
        "of_unknown",
        "of_unsuitable",
        "unevidenced",
        "no_contact_point",
        "names_nobody",
        "notice_unpublished",
        "purpose_uncatalogued",
        "channel_unknown",
    ]
    without_effect: bool


def defects(
    facts: Iterable[Fact], at: int, *, catalogue: Iterable[str] = (), channels: Iterable[str] = ()
) -> list[Defect]:
    """What is wrong with the facts that are known at position *at*, in the order of the log.

    Args:
        catalogue: the purposes that are known; none stands for no catalogue at all.
        channels: the channels that are known; the same.
    """
    visible = sorted(
        (f for f in facts if f.known_from <= at and (f.known_to is None or f.known_to > at)),
        key=lambda f: f.position,
    )
    by_id = {f.event_id: f for f in visible}
    void = {f.of for f in visible if f.state == "invalidated" and f.of is not None and not _ends_before(f)}
    corrections: dict[UUID, list[Fact]] = {}
    for fact in visible:
        if fact.state == "corrected" and fact.of is not None and fact.event_id not in void:
            corrections.setdefault(fact.of, []).append(fact)
    published = {(f.notice_id, f.notice_version) for f in visible if f.state == "published"}
    purposes, ways = frozenset(catalogue), frozenset(channels)
    found: list[Defect] = []
    for recorded in visible:
        fact = recorded
        if recorded.state in _CORRECTABLE:
            fact = _corrected(recorded, corrections.get(recorded.event_id, ()))
        found += _wrong_with(fact, by_id, published, purposes, ways)
    return found


def _wrong_with(
    fact: Fact,
    by_id: Mapping[UUID, Fact],
    published: set[tuple[str | None, str | None]],
    purposes: frozenset[str],
    channels: frozenset[str],
) -> Iterable[Defect]:
    state = fact.state
    if state in ("superseded", "published"):
        return
    if state != "corrected" and _ends_before(fact):  # of a correction it is the end that it gives to another
        yield Defect(fact, "ends_before_it_begins", True)
    if state in ("confirmed", "invalidated", "corrected", "reviewed"):
        target = by_id.get(fact.of) if fact.of is not None else None
        if target is None:
            yield Defect(fact, "of_unknown", True)
        elif not _suits(state, target):
            yield Defect(fact, "of_unsuitable", True)
    elif state in GRANTS:
        if not fact.notice_version or not fact.method:
            yield Defect(fact, "unevidenced", True)
        elif (fact.notice_id, fact.notice_version) not in published:
            yield Defect(fact, "notice_unpublished", False)
        if fact.contact is None:
            yield Defect(fact, "no_contact_point", True)
    elif state in RESTRICTIONS and fact.contact is None and fact.subject is None:
        yield Defect(fact, "names_nobody", True)
    if purposes and state in GRANTS | RESTRICTIONS and fact.purpose not in (None, "*", *purposes):
        yield Defect(fact, "purpose_uncatalogued", False)
    if channels and state in GRANTS | RESTRICTIONS and fact.channel not in (None, "*", *channels):
        yield Defect(fact, "channel_unknown", False)


def _suits(state: str, target: Fact) -> bool:
    if state == "confirmed":
        return target.state in GRANTS
    if state == "corrected":
        return target.state in _CORRECTABLE
    if state == "invalidated":
        return target.state in _INVALIDATABLE
    return target.state in RESTRICTIONS
