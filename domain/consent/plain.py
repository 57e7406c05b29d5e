"""Consent where nothing is intricate: looked at for ten thousand at once, and messages judged (SEMANTICS §5).

Most facts are never corrected, confirmed or spoken of, and most persons are plainly one. For these the rule
comes down to a comparison of a few words, without the cases that `validity` builds. Where it does not, the
answer here is None, and the whole rule is asked. Both agree wherever this one answers: property tests hold them together.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from domain.consent.facts import GRANTS, RESTRICTIONS, covers
from domain.consent.policies import grace_until, implied_until
from domain.consent.validity import Look, Reason
from domain.consent.verdicts import GRACIOUS, Judgement, decided

__all__ = ["PlainFact", "PlainLook", "Tied", "plain_judgement", "plain_look"]


class PlainFact(msgspec.Struct, frozen=True, gc=False):
    """A fact as far as it counts here, with persons and contact points by any surrogate.

    Attributes:
        intricate: it was corrected, confirmed or taken back, speaks of another, or waits for a confirmation.
        stale_from: from when on its notice may be superseded; None: it never was.
    """

    position: int
    recorded_at: datetime
    state: str
    effective_at: datetime
    source: str
    source_id: str
    subject: Hashable | None
    contact: Hashable | None
    purpose: str | None
    channel: str | None
    controller: str | None
    notice_version: str | None
    method: str | None
    legal_basis: str | None
    jurisdiction: str | None
    valid_until: datetime | None
    intricate: bool
    notice_id: str | None = None
    stale_from: datetime | None = None


class Tied(NamedTuple):
    """Several subjects that are one person: from when on all of them are, and from where that is known."""

    since: datetime
    known_from: int
    recorded_at: datetime


_Word = tuple[tuple[datetime, bool, str, str], PlainFact]
PlainLook = tuple[bool, Reason | None, int | None]
"""(valid, why not, position of the fact that decided)."""
_Answer = tuple[bool, Reason | None, PlainFact | None, list[_Word]]


def plain_look(
    facts: Sequence[PlainFact],
    person: Collection[Hashable],
    contact: Hashable,
    asked: tuple[str, str, str | None],
    at: datetime,
    *,
    one_since: datetime | None = None,
) -> PlainLook | None:
    """Whether consent holds at *at* by facts that are all known; None where the whole rule has to be asked.

    Args:
        facts: every fact of the person and of the contact point; the same one may stand there twice.
        person: all subjects of the person, who was never parted.
        asked: (purpose, channel, controller).
        one_since: from when on all these subjects were one person; None: it has but one.
    """
    if len(facts) == 1 and _stands_alone(facts[0], person, contact, asked, at):
        return True, None, facts[0].position
    found = _answer(facts, person, contact, asked, at, one_since)
    if found is None:
        return None
    valid, reason, fact, _ = found
    return valid, reason, None if fact is None else fact.position


def plain_judgement(
    facts: Sequence[PlainFact],
    person: Collection[Hashable],
    contact: Hashable,
    asked: tuple[str, str, str | None],
    sent_at: datetime,
    *,
    position: int,
    snapshot: int | None = None,
    tied: Tied | None = None,
) -> Judgement | None:
    """The verdict on a message by what is known at its own *position*; None where the whole rule has to be asked.

    Its looks name what decided by its evidence alone, without the word.

    Args:
        facts, person, asked: as of `plain_look`.
        sent_at: when the message was handed to its carrier.
        snapshot: the position that its sender used.
        tied: what makes the subjects of the person one; None: it has but one.
    """
    known_at_all = True  # by each of the three looks
    if tied is not None:
        if tied.known_from > position:
            return None
        known_at_all = tied.recorded_at <= sent_at and (snapshot is None or tied.known_from <= snapshot)
    one_since = None if tied is None else tied.since
    for fact in facts:
        if fact.position > position:
            return None  # what is learnt behind a message is no plain matter
        if fact.recorded_at > sent_at or (snapshot is not None and fact.position > snapshot):
            known_at_all = False

    def answer(by: Sequence[PlainFact]) -> _Answer | None:
        return _answer(by, person, contact, asked, sent_at, one_since)

    last = answer(facts)
    if last is None:
        return None
    actual = known = used = _look(last)
    proven = True
    if not known_at_all:
        then = [fact for fact in facts if fact.recorded_at <= sent_at]
        seen = then if snapshot is None else [fact for fact in facts if fact.position <= snapshot]
        if tied is not None and (
            (then and tied.recorded_at > sent_at)
            or (seen and snapshot is not None and tied.known_from > snapshot)
        ):
            return None  # something was known of persons who were not known to be one
        relied_on = [fact for fact in facts if fact.recorded_at <= sent_at or fact.state not in GRANTS]
        as_known, as_seen, as_relied_on = answer(then), answer(seen), answer(relied_on)
        if as_known is None or as_seen is None or as_relied_on is None:
            return None
        known, used = _look(as_known), _look(as_seen)
        proven = last[2] in then and as_relied_on[0]
    return decided(
        actual, known, used, proven=lambda: proven, in_grace=lambda: _in_grace(last, asked[1], sent_at)
    )


def _stands_alone(
    fact: PlainFact,
    person: Collection[Hashable],
    contact: Hashable,
    asked: tuple[str, str, str | None],
    at: datetime,
) -> bool:
    """Whether a fact beside which there is no other is a grant that holds, as of most recipients: told in a third of the time."""
    purpose, channel, controller = asked
    return bool(
        fact.state in GRANTS
        and fact.contact == contact
        and fact.purpose == purpose
        and fact.channel == channel
        and fact.subject in person
        and fact.notice_version
        and fact.method
        and fact.effective_at <= at
        and not fact.intricate
        and fact.valid_until is None
        and fact.legal_basis is None
        and fact.stale_from is None
        and (controller is None or fact.controller == controller)
    )


def _look(answer: _Answer) -> Look:
    valid, reason, fact, _ = answer
    return Look(valid, reason, None, () if fact is None else (fact.position,))


def _in_grace(answer: _Answer, channel: str, sent_at: datetime) -> bool:
    _, reason, fact, grants = answer
    if fact is None or reason not in GRACIOUS:
        return False
    where = fact.jurisdiction or (max(grants, key=lambda word: word[0])[1].jurisdiction if grants else None)
    until = grace_until(where, channel, fact.effective_at)
    return until is not None and sent_at < until


def _answer(
    facts: Sequence[PlainFact],
    person: Collection[Hashable],
    contact: Hashable,
    asked: tuple[str, str, str | None],
    at: datetime,
    one_since: datetime | None,
) -> _Answer | None:
    """(valid, why not, the fact that decided, all grants that are words); None where the whole rule has to be asked."""
    purpose, channel, controller = asked
    grants: list[_Word] = []
    restrictions: list[_Word] = []
    unevidenced: list[_Word] = []
    for fact in facts:
        if fact.intricate:
            return None
        since = fact.effective_at
        if since > at or (fact.valid_until is not None and fact.valid_until <= since):
            continue
        if fact.state in GRANTS:
            if (
                fact.contact != contact
                or fact.purpose != purpose
                or fact.channel != channel
                or fact.subject not in person
                or (controller is not None and fact.controller != controller)
            ):
                continue
            words = grants if fact.notice_version and fact.method else unevidenced
            words.append(((since, False, fact.source, fact.source_id), fact))
        elif fact.state in RESTRICTIONS:
            if (
                (fact.contact != contact if fact.contact is not None else fact.subject not in person)
                or not covers(fact.purpose, purpose)
                or fact.channel not in (None, "*", channel)
                or (controller is not None and fact.controller not in (None, controller))
            ):
                continue
            restrictions.append(((since, True, fact.source, fact.source_id), fact))
    for order, fact in sorted(restrictions, key=_order, reverse=True):
        later = [grant for since, grant in grants if since > order]
        if not later:
            return False, fact.state, fact, grants  # type: ignore[return-value]  # a restriction's state is a reason
        if fact.contact is None and not any(_lifts(grant, fact, one_since) for grant in later):
            return None
    if not grants:
        if not unevidenced:
            return False, "no_consent", None, grants
        return False, "unevidenced", max(unevidenced, key=_order)[1], grants
    last = max(grants, key=_order)[1] if len(grants) > 1 else grants[0][1]
    until = last.valid_until
    if until is None and last.legal_basis is not None:
        until = implied_until(last.jurisdiction, last.legal_basis, last.method, last.effective_at)
    if until is not None and at >= until:
        return False, "expired", last, grants
    if last.stale_from is not None and at >= last.stale_from:
        return None
    return True, None, last, grants


def _order(word: _Word) -> tuple[datetime, bool, str, str]:
    return word[0]


def _lifts(grant: PlainFact, restriction: PlainFact, one_since: datetime | None) -> bool:
    """Whether a later grant certainly lifts a restriction that names no contact point."""
    return grant.subject == restriction.subject or (one_since is not None and grant.effective_at >= one_since)
