"""Campaigns: what was planned, who was asked, who answered."""

from __future__ import annotations

from domain.event import Instant, Other, Personal, Ref, Touchpoint, event
from domain.units import Count, Currency, Minor, count, money, tell, words


class _Campaign(Touchpoint, frozen=True, kw_only=True):
    campaign_id: str | None = None
    campaign: str | None = None  # its name
    variant: str | None = None
    segment: str | None = None
    agent: str | None = None


@event("campaign.launched", channel="campaign", direction="internal")
class CampaignLaunched(_Campaign, frozen=True, kw_only=True):
    """A campaign began."""

    goal: str | None = None
    audience_count: Count | None = None
    budget_minor: Minor | None = None
    currency: Currency | None = None
    starts_at: Instant | None = None
    ends_at: Instant | None = None

    def headline(self) -> str:
        audience = count(self.audience_count, "person", "persons")
        name = self.campaign or self.campaign_id
        return tell("Campaign launched", name, audience, money(self.budget_minor, self.currency))


@event("campaign.member_added", channel="campaign", direction="internal")
class CampaignMemberAdded(_Campaign, frozen=True, kw_only=True):
    """A customer was put on the list of a campaign."""

    reason: str | None = None

    def headline(self) -> str:
        return tell("Added to campaign", self.campaign or self.campaign_id, self.segment, words(self.reason))


@event("campaign.message_sent", channel="campaign", direction="outbound")
class CampaignMessageSent(_Campaign, frozen=True, kw_only=True):
    """A campaign wrote to a customer; `channel` in the event says through what."""

    contact: Other[Ref] | None = None
    message_id: str | None = None
    template: str | None = None
    subject: Personal[str] | None = None
    text: Personal[str] | None = None
    offer: str | None = None

    def headline(self) -> str:
        return tell("Campaign message sent", self.campaign or self.campaign_id, self.subject or self.text)


@event("campaign.responded", channel="campaign", direction="inbound")
class CampaignResponded(_Campaign, frozen=True, kw_only=True):
    """A customer answered a campaign: followed it, replied, bought."""

    message_id: str | None = None
    response: str | None = None  # clicked, replied, bought, declined …
    offer: str | None = None
    order_id: str | None = None
    lead_id: str | None = None
    amount_minor: Minor | None = None
    currency: Currency | None = None
    text: Personal[str] | None = None

    def headline(self) -> str:
        name = self.campaign or self.campaign_id
        return tell("Campaign response", name, words(self.response), money(self.amount_minor, self.currency))
