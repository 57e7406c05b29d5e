"""A log of consent facts for tests: times are seconds after an instant, positions follow the order of recording."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from domain.consent.facts import Fact
from domain.consent.kinship import Kin, Tie
from domain.consent.validity import Case, Look, Question
from domain.consent.verdicts import Judgement, Outbound, judge
from domain.resolution import Link, Merge, Split

BEGIN = datetime(2026, 3, 2, tzinfo=UTC)
ANN, BOB, EVE = UUID(int=1), UUID(int=2), UUID(int=3)
MAIL, OTHER_MAIL, PHONE = UUID(int=101), UUID(int=102), UUID(int=103)
EVER = 10**6


def at(second: float) -> datetime:
    """Give the instant so many seconds after the beginning."""
    return BEGIN + timedelta(seconds=second)


class Written(msgspec.Struct):
    """Something recorded: when, and what."""

    recorded: float
    what: Any


class Log:
    """Facts, links, merges and splits in the order in which they were recorded."""

    def __init__(self) -> None:
        self.written: list[Written] = []
        self.kinds: dict[UUID, tuple[str, str]] = {
            ANN: ("email", ""),
            BOB: ("phone", ""),
            EVE: ("crm", ""),
        }

    def fact(self, state: str, eff: float, *, rec: float | None = None, **said: Any) -> UUID:
        """Record a fact that took effect at *eff*, at *rec* (or at once); gives its event id."""
        event_id = UUID(int=10_000 + len(self.written))
        fields: dict[str, Any] = {"source": "test", "source_id": f"{len(self.written):05d}", "subject": ANN}
        if state in ("given", "renewed", "withdrawn", "refused", "revoked"):
            fields |= {"purpose": "marketing.news", "channel": "email", "contact": MAIL}
        if state in ("given", "renewed"):
            fields |= {"notice_id": "privacy", "notice_version": "3", "method": "form"}
        told = fields | said
        fact = Fact(
            position=0,
            known_from=0,
            recorded_at=BEGIN,
            event_id=event_id,
            state=state,
            effective_at=at(eff),
            **told,
        )
        self.written.append(Written(eff if rec is None else rec, fact))
        return event_id

    def given(self, eff: float, **said: Any) -> UUID:
        """Record a grant with all its evidence."""
        return self.fact("given", eff, **said)

    def withdrawn(self, eff: float, **said: Any) -> UUID:
        """Record a withdrawal of the same."""
        return self.fact("withdrawn", eff, **said)

    def corrected(self, of: UUID, eff: float, *, rec: float | None = None, **patch: Any) -> UUID:
        """Record a correction."""
        return self.fact("corrected", eff, rec=rec, of=of, patch=patch)

    def link(
        self, a: UUID, b: UUID, occurred: float, *, rec: float | None = None, until: float | None = None
    ) -> None:
        """Record evidence of a link; *until* is when it was taken back."""
        link = Link(a, b, at(occurred), "test", f"{len(self.written):05d}", 1)
        self.written.append(Written(occurred if rec is None else rec, (link, until)))
        if until is not None:
            self.written.append(Written(until, None))

    def merge(self, a: UUID, b: UUID, occurred: float, *, rec: float | None = None) -> UUID:
        """Record a merge; gives its event id."""
        event_id = UUID(int=10_000 + len(self.written))
        merge = Merge(a, b, at(occurred), "test", f"{len(self.written):05d}", event_id)
        self.written.append(Written(occurred if rec is None else rec, merge))
        return event_id

    def split(self, rec: float, **what: Any) -> None:
        """Record a split of a merge, or of a subject from its person."""
        self.written.append(Written(rec, Split(**what)))

    def spaced(self, count: int) -> None:
        """Record nothings, so that the next fact has an id to which none of the first *count* can refer."""
        self.written += [Written(0, None) for _ in range(count - len(self.written))]

    # -- asked

    def positions(self) -> list[Written]:
        """Everything in the order of the log."""
        return sorted(self.written, key=lambda w: w.recorded)

    def known_at(self, second: float) -> int:
        """Give the newest position recorded by then."""
        return bisect_right([w.recorded for w in self.positions()], second)

    def case(self) -> Case:
        """Give the facts and who was who."""
        facts: list[Fact] = []
        ties: list[Tie] = []
        splits: list[Split[UUID]] = []
        replace = msgspec.structs.replace
        for position, one in enumerate(self.positions(), start=1):
            what = one.what
            if isinstance(what, Fact):
                facts.append(
                    replace(what, position=position, known_from=position, recorded_at=at(one.recorded))
                )
            elif isinstance(what, Merge):
                undone = (
                    n
                    for n, w in enumerate(self.positions(), start=1)
                    if isinstance(w.what, Split) and w.what.merge == what.event_id
                )
                ties.append(Tie(replace(what, position=position), position, next(undone, None)))
            elif isinstance(what, Split):
                if what.subject is None:
                    continue  # it undoes a merge
                splits.append(replace(what, position=position))
            elif what is not None:
                link, until = what
                gone = None if until is None else self.known_at(until)
                ties.append(Tie(replace(link, position=position), position, gone))
        return Case(facts, Kin(self.kinds, ties, splits=splits))

    def outbound(self, sent: float, **how: Any) -> Outbound:
        """Give a message of *sent*."""
        fields: dict[str, Any] = {
            "subject": ANN,
            "purpose": "marketing.news",
            "channel": "email",
            "contact": MAIL,
        }
        snapshot = how.pop("snapshot", None)
        return Outbound(
            position=EVER,
            sent_at=at(sent),
            known_at=self.known_at(sent),
            snapshot=None if snapshot is None else self.known_at(snapshot),
            **(fields | how),
        )

    def send(self, sent: float, *, known: float = EVER, **how: Any) -> Judgement:
        """Judge a message of *sent*, by what was known at *known*."""
        return judge(self.case(), self.outbound(sent, **how), known_at=self.known_at(known))

    def verdict(self, sent: float, *, known: float = EVER, **how: Any) -> tuple[str, str | None]:
        """Give (verdict, reason)."""
        found = self.send(sent, known=known, **how)
        return found.verdict, found.reason

    def look(self, second: float, *, known: float = EVER, **asked: Any) -> Look:
        """Look at consent at a time."""
        fields: dict[str, Any] = {
            "subject": ANN,
            "purpose": "marketing.news",
            "channel": "email",
            "contact": MAIL,
        }
        return self.case().look(Question(**(fields | asked)), at(second), self.known_at(known))


COMPLIANT: tuple[str, None] = ("compliant", None)
UNPROVEN: tuple[str, None] = ("unproven_at_send", None)


def breach(reason: str) -> tuple[str, str]:
    """Give a breach for this reason."""
    return "breach", reason


def late(reason: str) -> tuple[str, str]:
    """Give a breach that was not known when the message went out."""
    return "late_known_breach", reason


def shuffled(log: Log, order: Sequence[int]) -> Log:
    """Give the same log, its entries written down in another order."""
    other = Log()
    other.kinds = log.kinds
    other.written = [log.written[i] for i in order]
    return other
