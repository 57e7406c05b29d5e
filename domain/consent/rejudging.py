"""When a message is judged, and again: at its own position, and at each at which what bears on it changes.

A verdict follows from what is known, so it can only change where that does. Judged at every such position, and
at no other, a message has the same history of verdicts however far the judge lags or how often it is killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from domain.consent.facts import GRANTS, Fact, covers
from domain.consent.validity import Case, Look
from domain.consent.verdicts import Judgement, Outbound, judge

__all__ = ["ANYTHING", "Scope", "judgements", "said", "scope_of"]


class Scope(msgspec.Struct, frozen=True, gc=False):
    """Which messages a fact can touch, of those to its persons and contact points; None stands for any."""

    purposes: frozenset[str] | None = None
    channels: frozenset[str] | None = None
    contacts: frozenset[UUID] | None = None
    since: datetime | None = None

    def touches(self, purpose: str | None, channel: str, contact: UUID | None, sent_at: datetime) -> bool:
        """Whether a message of these can be judged otherwise because of it."""
        if self.since is not None and sent_at < self.since:
            return False
        if self.channels is not None and channel not in self.channels:
            return False
        if self.contacts is not None and contact not in self.contacts:
            return False
        if self.purposes is None or purpose is None:
            return True
        return any(covers(one, purpose) for one in self.purposes)


ANYTHING = Scope()
"""What a link, a merge or a split can touch."""


def scope_of(whole: Iterable[Fact]) -> Scope:
    """What a fact can touch, given with all that speaks of it or that it speaks of, known or not.

    Every value that any correction may give it counts; before the earliest of its times nothing is touched.
    """
    purposes: set[str | None] = set()
    channels: set[str | None] = set()
    contacts: set[UUID | None] = set()
    times: set[datetime] = set()
    for fact in whole:
        if fact.state in ("corrected", "confirmed", "invalidated", "reviewed", "published", "requested"):
            patch = fact.patch or {}
            purposes |= {patch["purpose"]} if "purpose" in patch else set()
            channels |= {patch["channel"]} if "channel" in patch else set()
            contacts |= {patch["contact"]} if "contact" in patch else set()
            times |= {patch["effective_at"]} if patch.get("effective_at") is not None else set()
            continue
        times.add(fact.effective_at)
        if fact.state == "superseded":
            continue
        # A grant that names none of it is no word, unless a correction names it.
        unnamed: set[Any] = set() if fact.state in GRANTS else {None}
        purposes |= unnamed if fact.purpose is None else {fact.purpose}
        channels |= unnamed if fact.channel is None else {fact.channel}
        contacts |= unnamed if fact.contact is None else {fact.contact}
    return Scope(_named(purposes), _named(channels), _named(contacts), min(times, default=None))


_N = TypeVar("_N", str, UUID)


def _named(values: set[_N | None]) -> frozenset[_N] | None:
    """These names; None where they are any, or none is told."""
    if not values or None in values or "*" in values:
        return None
    return frozenset(value for value in values if value is not None)


def judgements(
    case: Case, sent: Outbound, *, since: int, until: int | None, after: int, to: int
) -> Iterator[tuple[int, Judgement]]:
    """(position, judgement by what is known there) wherever behind *after* up to *to* it may be another one.

    Args:
        case: every fact about the person and the contact point.
        since: from which position the message is known as *sent*.
        until: from which it no longer is: corrected, or taken back; None: it still is.
    """
    last = to if until is None else min(to, until - 1)
    if after < since <= last:
        yield since, judge(case, sent, known_at=since)
    for position in case.changes(max(after, since), last):
        yield position, judge(case, sent, known_at=position)


def _look(look: Look | None) -> tuple[bool | None, str | None, int | None, tuple[int, ...]]:
    if look is None:
        return None, None, None, ()
    return look.valid, look.reason, look.position, look.evidence


def said(judgement: Judgement) -> bytes:
    """What a judgement says, in bytes: two that say the same are one verdict, whatever policy version spoke."""
    looks = [_look(look) for look in (judgement.actual, judgement.known, judgement.snapshot)]
    return msgspec.json.encode((judgement.verdict, judgement.reason, looks))
