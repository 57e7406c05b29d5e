"""Selling: leads, opportunities, quotes, follow-ups."""

from __future__ import annotations

from domain.event import Instant, Other, Personal, Ref, Touchpoint, event
from domain.touchpoints.order import Line
from domain.units import Count, Currency, Minor, Percent, count, money, tell, words


class _Sales(Touchpoint, frozen=True, kw_only=True):
    contact: Other[Ref] | None = None
    lead_id: str | None = None
    opportunity_id: str | None = None
    campaign_id: str | None = None
    conversation_id: str | None = None
    agent: str | None = None
    note: Personal[str] | None = None


class _Opportunity(_Sales, frozen=True, kw_only=True):
    opportunity: Personal[str] | None = None  # its name, which often names the customer
    stage: str | None = None
    amount_minor: Minor | None = None
    currency: Currency | None = None
    probability_pct: Percent | None = None
    closes_at: Instant | None = None  # expected


@event("lead.captured", channel="sales", direction="inbound")
class LeadCaptured(_Sales, frozen=True, kw_only=True):
    """Somebody showed interest."""

    name: Personal[str] | None = None
    company: Personal[str] | None = None
    lead_source: str | None = None  # web_form, trade_fair, referral …
    interest: str | None = None

    def headline(self) -> str:
        return tell("Lead captured", self.name or self.company, words(self.interest), words(self.lead_source))


@event("lead.assigned", channel="sales", direction="internal")
class LeadAssigned(_Sales, frozen=True, kw_only=True):
    """A lead got a salesperson."""

    team: str | None = None
    territory: str | None = None
    reason: str | None = None

    def headline(self) -> str:
        return tell("Lead assigned", self.agent or self.team, self.territory, words(self.reason))


@event("lead.qualified", channel="sales", direction="internal")
class LeadQualified(_Sales, frozen=True, kw_only=True):
    """A lead was judged: worth pursuing, or not."""

    qualified: bool | None = None
    rating: str | None = None
    reason: str | None = None

    def headline(self) -> str:
        return tell(
            "Lead disqualified" if self.qualified is False else "Lead qualified",
            words(self.rating),
            words(self.reason),
        )


@event("opportunity.opened", channel="sales", direction="internal")
class OpportunityOpened(_Opportunity, frozen=True, kw_only=True):
    """A chance of a sale was recognised."""

    def headline(self) -> str:
        return tell(
            "Opportunity opened", self.opportunity, money(self.amount_minor, self.currency), self.agent
        )


@event("opportunity.stage_changed", channel="sales", direction="internal")
class OpportunityStageChanged(_Opportunity, frozen=True, kw_only=True):
    """An opportunity moved on, or back."""

    stage_before: str | None = None

    def headline(self) -> str:
        moved = (
            f"{words(self.stage_before)} → {words(self.stage)}" if self.stage_before else words(self.stage)
        )
        likely = "" if self.probability_pct is None else f"{self.probability_pct:g} %"
        return tell("Opportunity stage", moved, money(self.amount_minor, self.currency), likely)


@event("opportunity.won", channel="sales")
class OpportunityWon(_Opportunity, frozen=True, kw_only=True):
    """An opportunity became a sale."""

    order_id: str | None = None

    def headline(self) -> str:
        return tell("Opportunity won", self.opportunity, money(self.amount_minor, self.currency), self.agent)


@event("opportunity.lost", channel="sales")
class OpportunityLost(_Opportunity, frozen=True, kw_only=True):
    """An opportunity came to nothing."""

    reason: str | None = None
    competitor: str | None = None

    def headline(self) -> str:
        amount = money(self.amount_minor, self.currency)
        return tell("Opportunity lost", self.opportunity, amount, words(self.reason), self.competitor)


@event("quote.sent", channel="sales", direction="outbound")
class QuoteSent(_Sales, frozen=True, kw_only=True):
    """We made an offer in writing."""

    quote_id: str | None = None
    lines: list[Line] | None = None
    line_count: Count | None = None
    amount_minor: Minor | None = None
    currency: Currency | None = None
    discount_pct: Percent | None = None
    valid_until: Instant | None = None

    def headline(self) -> str:
        lines = self.line_count if self.lines is None else len(self.lines)
        what = f"Quote {self.quote_id} sent" if self.quote_id else "Quote sent"
        return tell(what, count(lines, "line"), money(self.amount_minor, self.currency), self.agent)


class _FollowUp(_Sales, frozen=True, kw_only=True):
    followup_id: str | None = None
    quote_id: str | None = None
    case_id: str | None = None
    order_id: str | None = None
    task: str | None = None  # call, mail, visit …


@event("followup.scheduled", channel="sales", direction="internal")
class FollowUpScheduled(_FollowUp, frozen=True, kw_only=True):
    """Somebody promised to come back to the customer."""

    due_at: Instant | None = None

    def headline(self) -> str:
        due = f"due {str(self.due_at)[:10]}" if self.due_at else ""
        return tell("Follow-up scheduled", words(self.task), self.note, due, self.agent)


@event("followup.done", channel="sales")
class FollowUpDone(_FollowUp, frozen=True, kw_only=True):
    """The promise to come back was kept."""

    outcome: str | None = None

    def headline(self) -> str:
        return tell("Follow-up done", words(self.task), self.note, words(self.outcome), self.agent)
