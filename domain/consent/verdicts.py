"""The verdict on an outbound touchpoint: was it allowed, and did its sender know (SEMANTICS §5).

Consent is looked at three times for the time of hand-over to the carrier: *actual*, by all that is known up
to the cut-off of the audit; *known*, by what the log held then; *snapshot*, by what it held at the position
that the sender says to have used. A verdict is a value: it is recorded elsewhere, and superseded, never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from domain.consent.facts import Word
from domain.consent.policies import VERSION, grace_until
from domain.consent.validity import Case, Look, Question

__all__ = ["GRACIOUS", "Judgement", "Outbound", "Verdict", "decided", "judge", "without_looking"]

Verdict = Literal[
    "compliant",
    "unproven_at_send",
    "late_known_breach",
    "breach",
    "breach_in_grace",
    "undeterminable",
    "not_consent_based",
]


class Outbound(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message as it was handed to its carrier.

    Attributes:
        known_at: the newest position whose `recorded_at` is not behind *sent_at*: what the log held then.
        snapshot: the position that the sender used; None where it does not say.
        erased: the person was erased before the first judgement.
    """

    position: int
    sent_at: datetime
    known_at: int
    subject: UUID | None
    purpose: str | None
    channel: str | None
    contact: UUID | None
    legal_basis: str | None = None
    snapshot: int | None = None
    controller: str | None = None
    erased: bool = False


class Judgement(msgspec.Struct, frozen=True, gc=False):
    """A verdict with its three looks; those are None where nothing could be looked at."""

    verdict: Verdict
    reason: str | None
    actual: Look | None = None
    known: Look | None = None
    snapshot: Look | None = None
    policy_version: str = VERSION

    @property
    def evidence(self) -> tuple[int, ...]:
        """The positions of all facts that decided, in order."""
        looks = (self.actual, self.known, self.snapshot)
        return tuple(sorted({p for look in looks if look is not None for p in look.evidence}))


NOT_CONSENT_BASED = Judgement("not_consent_based", None)
UNDETERMINABLE = Judgement("undeterminable", None)
GRACIOUS = ("withdrawn", "objected")
"""What law may give time for, and what a sender may have overlooked who looked too early."""


def judge(case: Case, sent: Outbound, *, known_at: int) -> Judgement:
    """The verdict on *sent*, with consent knowledge cut off at position *known_at*.

    Args:
        case: every fact about the person and the contact point.
    """
    unlooked = without_looking(sent.legal_basis, sent.purpose, sent.channel, sent.contact)
    if unlooked is not None:
        return unlooked
    if not sent.purpose or not sent.channel or sent.contact is None or sent.erased:
        return UNDETERMINABLE
    question = Question(
        subject=sent.subject,
        purpose=sent.purpose,
        channel=sent.channel,
        contact=sent.contact,
        controller=sent.controller,
    )
    then = min(sent.known_at, known_at)
    used = then if sent.snapshot is None else min(sent.snapshot, known_at)
    looks: dict[int, Look] = {}  # by what is known: most often all three know the same

    def look(position: int) -> Look:
        knowledge = case.knowledge(position)
        if knowledge not in looks:
            looks[knowledge] = case.look(question, sent.sent_at, position)
        return looks[knowledge]

    actual, known, snapshot = look(known_at), look(then), look(used)
    return decided(
        actual,
        known,
        snapshot,
        proven=lambda: _was_in_the_log(case, question, sent.sent_at, actual, then, known_at),
        in_grace=lambda: _in_grace(case, question, sent.sent_at, actual, known_at),
    )


def without_looking(
    legal_basis: str | None, purpose: str | None, channel: str | None, contact: object
) -> Judgement | None:
    """The verdict on a message of another basis than consent, or that does not say what to look at; else None."""
    if legal_basis is not None and legal_basis.strip().lower() != "consent":
        return NOT_CONSENT_BASED
    return UNDETERMINABLE if not purpose or not channel or contact is None else None


def decided(
    actual: Look, known: Look, snapshot: Look, *, proven: Callable[[], bool], in_grace: Callable[[], bool]
) -> Judgement:
    """The verdict that three looks make (the table of SEMANTICS §5).

    Args:
        proven: whether the grant behind a valid *actual* was in the log when the message went out.
        in_grace: whether law still let what is behind an invalid *actual* be on its way.
    """
    if actual.valid:
        verdict: Verdict = "compliant" if known.valid and proven() else "unproven_at_send"
        return Judgement(verdict, None, actual, known, snapshot)
    if known.valid:
        return Judgement("late_known_breach", actual.reason, actual, known, snapshot)
    if in_grace():
        return Judgement("breach_in_grace", actual.reason, actual, known, snapshot)
    stale = snapshot.valid and actual.reason in GRACIOUS
    return Judgement("breach", "stale_decision" if stale else actual.reason, actual, known, snapshot)


def _was_in_the_log(
    case: Case, question: Question, sent_at: datetime, actual: Look, then: int, known_at: int
) -> bool:
    """Whether the grant behind *actual* was a word then, and the look stays valid without what was granted later."""
    if case.knowledge(then) == case.knowledge(known_at):
        return True
    grant = actual.word
    assert grant is not None
    if all(word.fact.event_id != grant.fact.event_id for word in case.grants(question, sent_at, then)):
        return False
    return case.look(question, sent_at, known_at, without_late_grants=sent_at).valid


def _in_grace(case: Case, question: Question, sent_at: datetime, actual: Look, known_at: int) -> bool:
    """Whether law still let the withdrawal or objection be on its way; never under a law that gives no such time."""
    word = actual.word
    if word is None or actual.reason not in GRACIOUS:
        return False
    jurisdiction = word.fact.jurisdiction or _jurisdiction(case.grants(question, sent_at, known_at))
    until = grace_until(jurisdiction, question.channel, word.since)
    return until is not None and sent_at < until


def _jurisdiction(grants: list[Word]) -> str | None:
    """Of the last grant, where the restriction names none."""
    return max(grants, key=lambda word: word.order).fact.jurisdiction if grants else None
