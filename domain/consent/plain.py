"""The look at consent where nothing is intricate, for ten thousand at once (SEMANTICS §5).

Most facts are never corrected, confirmed or spoken of, and most persons are plainly one. For these the rule
comes down to a comparison of a few words, without the cases that `validity` builds. Where it does not, the
answer here is None, and the whole rule is asked. Both agree wherever this one answers: a property test holds them together.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from datetime import datetime

import msgspec

from domain.consent.facts import GRANTS, RESTRICTIONS, covers
from domain.consent.policies import implied_until

__all__ = ["PlainFact", "PlainLook", "plain_look"]


class PlainFact(msgspec.Struct, frozen=True, gc=False):
    """A fact as far as it counts here, with persons and contact points by any surrogate.

    `intricate`: it was corrected, confirmed or taken back, lapses, or waits for a confirmation, or its notice was superseded.
    """

    position: int
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
    intricate: bool


_Word = tuple[tuple[datetime, bool, str, str], PlainFact]
PlainLook = tuple[bool, str | None, int | None]
"""(valid, why not, position of the fact that decided)."""


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
        facts: every fact of the person and of the contact point.
        person: all subjects of the person, who was never parted.
        asked: (purpose, channel, controller).
        one_since: from when on all these subjects were one person; None: it has but one.
    """
    purpose, channel, controller = asked
    grants: list[_Word] = []
    restrictions: list[_Word] = []
    unevidenced: list[_Word] = []
    for fact in facts:
        if fact.intricate:
            return None
        if fact.effective_at > at:
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
            words.append(((fact.effective_at, False, fact.source, fact.source_id), fact))
        elif fact.state in RESTRICTIONS:
            if (
                (fact.contact != contact if fact.contact is not None else fact.subject not in person)
                or not covers(fact.purpose, purpose)
                or fact.channel not in (None, "*", channel)
                or (controller is not None and fact.controller not in (None, controller))
            ):
                continue
            restrictions.append(((fact.effective_at, True, fact.source, fact.source_id), fact))
    for order, fact in sorted(restrictions, key=lambda word: word[0], reverse=True):
        later = [grant for since, grant in grants if since > order]
        if not later:
            return False, fact.state, fact.position
        if fact.contact is None and not any(_lifts(grant, fact, one_since) for grant in later):
            return None
    if not grants:
        if not unevidenced:
            return False, "no_consent", None
        return False, "unevidenced", max(unevidenced, key=lambda word: word[0])[1].position
    last = max(grants, key=lambda word: word[0])[1] if len(grants) > 1 else grants[0][1]
    if last.legal_basis is not None:
        until = implied_until(last.jurisdiction, last.legal_basis, last.method, last.effective_at)
        if until is not None and at >= until:
            return False, "expired", last.position
    return True, None, last.position


def _lifts(grant: PlainFact, restriction: PlainFact, one_since: datetime | None) -> bool:
    """Whether a later grant certainly lifts a restriction that names no contact point."""
    return grant.subject == restriction.subject or (one_since is not None and grant.effective_at >= one_since)
