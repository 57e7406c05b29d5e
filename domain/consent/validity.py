"""One look at consent: may this purpose be pursued on this channel to this contact point (SEMANTICS §5).

`valid` is a pure function of facts; `Case` is the same with what many questions about the same facts share.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cached_property
from typing import Literal
from uuid import UUID

import msgspec

from domain.consent.facts import Fact, Known, Word, covers, known
from domain.consent.kinship import Kin
from domain.consent.policies import implied_until

__all__ = ["Case", "Look", "Question", "Reason", "valid"]

Reason = Literal[
    "no_consent",
    "withdrawn",
    "objected",
    "refused",
    "revoked",
    "expired",
    "notice_stale",
    "unevidenced",
    "reassigned",
]


class Question(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """May *purpose* be pursued on *channel* to *contact* of the person whom *subject* names?

    A question without controller looks at the facts of every controller.
    """

    subject: UUID | None
    purpose: str
    channel: str
    contact: UUID
    controller: str | None = None


class Look(msgspec.Struct, frozen=True, gc=False):
    """The answer at one time with one knowledge.

    Attributes:
        reason: why not; None where it is valid.
        word: the word that decided; None where there is none.
        evidence: the positions that decided, in order: the word's, its corrections', its confirmation's, that of
            the superseded notice or of a grant without evidence.
    """

    valid: bool
    reason: Reason | None
    word: Word | None
    evidence: tuple[int, ...]

    @property
    def position(self) -> int | None:
        """The fact that decided."""
        if self.word is not None:
            return self.word.fact.position
        return self.evidence[0] if self.evidence else None


def valid(
    facts: Iterable[Fact],
    question: Question,
    *,
    at: datetime,
    known_at: int,
    kin: Kin | None = None,
) -> Look:
    """Whether consent holds at *at*, as known at position *known_at*.

    Args:
        facts: every fact about the person and the contact point, in any order.
        kin: who was one person; without it every subject is a person of its own.
    """
    return Case(facts, kin).look(question, at, known_at)


_EVERYBODY_ALONE = Kin({})


class Case:
    """All facts about some persons and contact points, asked again and again."""

    def __init__(self, facts: Iterable[Fact], kin: Kin | None = None) -> None:
        self.facts: Sequence[Fact] = list(facts)
        self.kin = kin or _EVERYBODY_ALONE
        self._known: dict[tuple[int, int | None], tuple[Known, list[datetime]]] = {}
        self._looks: dict[tuple[Question, int, int | None, int], Look] = {}
        self._grants: dict[tuple[Question, int, int], list[Word]] = {}

    @cached_property
    def _changes(self) -> list[int]:
        """The positions at which something here became known, or no longer was."""
        found = {f.known_from for f in self.facts}
        found.update(f.known_to for f in self.facts if f.known_to is not None)
        return sorted(found.union(self.kin.changes))

    def knowledge(self, position: int) -> int:
        """What *position* knows of this case, as a number: two of the same number know the same."""
        return bisect_right(self._changes, position)

    def changes(self, after: int, until: int) -> list[int]:
        """The positions behind *after* up to *until* at which something here became known, or no longer was."""
        return self._changes[bisect_right(self._changes, after) : bisect_right(self._changes, until)]

    @cached_property
    def _recorded(self) -> list[datetime]:
        return sorted({f.recorded_at for f in self.facts})

    def _known_at(
        self, known_at: int, without_late_grants: datetime | None = None
    ) -> tuple[tuple[int, int | None], Known, list[datetime]]:
        """(what it is of all that may be known here, as numbers; what the facts say; when that may change an answer)."""
        late = None if without_late_grants is None else bisect_right(self._recorded, without_late_grants)
        place = (self.knowledge(known_at), late)
        found = self._known.get(place)
        if found is None:
            said = known(self.facts, known_at, without_late_grants=without_late_grants)
            found = self._known[place] = said, _moments(said)
        return place, *found

    def known(self, known_at: int) -> Known:
        """What the facts say as known at *known_at*."""
        return self._known_at(known_at)[1]

    def look(
        self,
        question: Question,
        at: datetime,
        known_at: int,
        *,
        without_late_grants: datetime | None = None,
    ) -> Look:
        """Whether consent holds at *at*, as known at position *known_at*; see `facts.known` for the last argument.

        Between two moments at which a word begins or ends the answer is one, and it is found once.
        """
        place, said, moments = self._known_at(known_at, without_late_grants)
        key = (question, *place, bisect_right(moments, at))
        found = self._looks.get(key)
        if found is None:
            found = self._looks[key] = self._look(question, at, known_at, said)
        return found

    def _look(self, question: Question, at: datetime, known_at: int, said: Known) -> Look:
        grants = self._grants_of(question, at, known_at, said)
        restriction = self._standing_restriction(question, at, known_at, said, grants)
        if restriction is not None:
            state: Reason = restriction.fact.state  # type: ignore[assignment]
            return Look(False, state, restriction, restriction.evidence)
        if not grants:
            return self._without_words(question, at, known_at, said)
        last = max(grants, key=lambda word: word.order)
        until = _until(last)
        if until is not None and at >= until:
            return Look(False, "expired", last, last.evidence)
        stale = [
            notice
            for notice in said.superseded
            if notice.material
            and notice.effective_at <= at
            and notice.notice_id == last.fact.notice_id
            and notice.notice_version == last.fact.notice_version
        ]
        if stale:  # of several the first is told, in whatever order they are given
            first = min(stale, key=lambda notice: notice.order)
            return Look(False, "notice_stale", last, tuple(sorted((*last.evidence, first.position))))
        return Look(True, None, last, last.evidence)

    def grants(self, question: Question, at: datetime, known_at: int) -> list[Word]:
        """The grants that are words for *question* at *at*: exactly its purpose, channel, contact point and person."""
        (place, _), said, moments = self._known_at(known_at)
        key = question, place, bisect_right(moments, at)
        found = self._grants.get(key)
        if found is None:
            found = self._grants[key] = self._grants_of(question, at, known_at, said)
        return found

    def _grants_of(self, question: Question, at: datetime, known_at: int, said: Known) -> list[Word]:
        found = [
            word
            for word in said.grants
            if word.fact.contact == question.contact
            and word.fact.purpose == question.purpose
            and word.fact.channel == question.channel
            and word.since <= at
        ]
        return self._of_the_person(found, question, known_at)

    def _of_the_person(self, words: list[Word], question: Question, known_at: int) -> list[Word]:
        if not words or question.subject is None:
            return []
        person = self.kin.person(question.subject, known_at)
        return [
            w
            for w in words
            if w.fact.subject in person
            and (question.controller is None or w.fact.controller == question.controller)
        ]

    def _standing_restriction(
        self, question: Question, at: datetime, known_at: int, said: Known, grants: list[Word]
    ) -> Word | None:
        """The last restriction that no later grant lifts."""
        found: Word | None = None
        for word in said.restrictions:
            if word.since > at or (found is not None and word.order < found.order):
                continue
            if not self._binds(word, question, known_at, said):
                continue
            if any(g.order > word.order and self._lifts(g, word, known_at, said) for g in grants):
                continue
            found = word
        return found

    def _binds(self, word: Word, question: Question, known_at: int, said: Known) -> bool:
        fact = word.fact
        if not covers(fact.purpose, question.purpose):
            return False
        if fact.channel not in (None, "*", question.channel):
            return False
        if question.controller is not None and fact.controller not in (None, question.controller):
            return False
        if fact.contact is not None:
            return fact.contact == question.contact
        if question.subject is None:
            return False
        bound = self.kin.bound(fact, said.reviews.get(fact.event_id, ()), known_at)
        return not bound.isdisjoint(self.kin.person(question.subject, known_at))

    def _lifts(self, grant: Word, word: Word, known_at: int, said: Known) -> bool:
        """Whether a later grant lifts a restriction: its own subject's, its contact point's, or one of the same person then."""
        if word.fact.contact is not None:  # it binds for its contact point alone, which the grant names
            return True
        owners = self.kin.owners_of(word.fact, said.reviews.get(word.fact.event_id, ()))
        subject = grant.fact.subject
        if subject is None:
            return False
        if subject in owners:
            return True
        return not owners.isdisjoint(self.kin.person(subject, known_at, grant.since))

    def _without_words(self, question: Question, at: datetime, known_at: int, said: Known) -> Look:
        candidates = [
            Word(
                fact,
                fact.effective_at,
                False,
                (fact.position,),
                (fact.effective_at, False, fact.source, fact.source_id),
            )
            for fact in said.unevidenced
            if fact.contact == question.contact
            and fact.purpose == question.purpose
            and fact.channel == question.channel
            and fact.effective_at <= at
        ]
        candidates = self._of_the_person(candidates, question, known_at)
        if candidates:
            last = max(candidates, key=lambda word: word.order)
            return Look(False, "unevidenced", last, last.evidence)
        return Look(False, "no_consent", None, ())


def _until(grant: Word) -> datetime | None:
    """When a grant ends: as it says itself, or as law ends what is implied."""
    fact = grant.fact
    return fact.valid_until or implied_until(fact.jurisdiction, fact.legal_basis, fact.method, grant.since)


def _moments(said: Known) -> list[datetime]:
    """Every time with which an answer compares the one it is asked for, in order; each counts from itself on."""
    found = {word.since for word in (*said.grants, *said.restrictions)}
    found.update(until for grant in said.grants if (until := _until(grant)) is not None)
    found.update(fact.effective_at for fact in (*said.unevidenced, *said.superseded))
    return sorted(found)
