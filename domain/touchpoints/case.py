"""Service cases, from opening to closing."""

from __future__ import annotations

from domain.event import Instant, Other, Personal, Ref, Touchpoint, event
from domain.units import Seconds, span, tell, words


class _Case(Touchpoint, frozen=True, kw_only=True):
    contact: Other[Ref] | None = None
    case_id: str | None = None
    conversation_id: str | None = None
    thread_id: str | None = None
    order_id: str | None = None
    subject: Personal[str] | None = None
    category: str | None = None
    priority: str | None = None
    product: str | None = None
    status: str | None = None
    team: str | None = None
    agent: str | None = None


def _case(case_id: str | None, happened: str) -> str:
    return f"Case {case_id} {happened}" if case_id else f"Case {happened}"


@event("case.opened", channel="service", direction="inbound")
class CaseOpened(_Case, frozen=True, kw_only=True):
    """A customer's question or complaint became a case."""

    description: Personal[str] | None = None
    service_level: str | None = None
    reply_due_at: Instant | None = None
    resolution_due_at: Instant | None = None

    def headline(self) -> str:
        priority = f"{words(self.priority)} priority" if self.priority else ""
        return tell(_case(self.case_id, "opened"), self.subject or words(self.category), priority)


@event("case.assigned", channel="service", direction="internal")
class CaseAssigned(_Case, frozen=True, kw_only=True):
    """A case got somebody who is responsible."""

    reason: str | None = None

    def headline(self) -> str:
        return tell(_case(self.case_id, "assigned"), self.agent or self.team, words(self.reason))


@event("case.replied", channel="service")
class CaseReplied(_Case, frozen=True, kw_only=True):
    """Somebody wrote in a case: we (`author` agent) or the customer."""

    author: str | None = None  # agent or customer
    text: Personal[str] | None = None
    reply_s: Seconds | None = None  # since the customer's last word
    private: bool | None = None  # a note that the customer does not see

    def headline(self) -> str:
        who = self.agent or words(self.author)
        what = _case(self.case_id, "noted" if self.private else "replied")
        after = f"after {span(self.reply_s)}" if self.reply_s else ""
        return tell(what + (f" by {who}" if who else ""), self.text, after)


@event("case.escalated", channel="service", direction="internal")
class CaseEscalated(_Case, frozen=True, kw_only=True):
    """A case went to somebody with more power or knowledge."""

    level: str | None = None
    reason: str | None = None

    def headline(self) -> str:
        return tell(_case(self.case_id, "escalated"), words(self.reason), self.level, self.team)


@event("case.resolved", channel="service")
class CaseResolved(_Case, frozen=True, kw_only=True):
    """The question of a case was answered or its fault mended."""

    resolution: str | None = None  # refunded, replaced, explained …
    summary: Personal[str] | None = None
    resolution_s: Seconds | None = None  # since the opening

    def headline(self) -> str:
        took = f"after {span(self.resolution_s)}" if self.resolution_s else ""
        return tell(_case(self.case_id, "resolved"), self.summary or words(self.resolution), took, self.agent)


@event("case.reopened", channel="service", direction="inbound")
class CaseReopened(_Case, frozen=True, kw_only=True):
    """A resolved case turned out not to be."""

    reason: str | None = None
    text: Personal[str] | None = None

    def headline(self) -> str:
        return tell(_case(self.case_id, "reopened"), self.text or words(self.reason))


@event("case.closed", channel="service")
class CaseClosed(_Case, frozen=True, kw_only=True):
    """A case was put away for good."""

    reason: str | None = None
    open_s: Seconds | None = None

    def headline(self) -> str:
        took = f"open for {span(self.open_s)}" if self.open_s else ""
        return tell(_case(self.case_id, "closed"), words(self.reason), took)
