"""Subscriptions: what a customer pays for again and again."""

from __future__ import annotations

from domain.event import Instant, Personal, Touchpoint, event
from domain.units import Count, Currency, Minor, count, money, tell, words


class _Subscription(Touchpoint, frozen=True, kw_only=True):
    subscription_id: str | None = None
    plan: str | None = None
    interval: str | None = None  # month, year …
    seat_count: Count | None = None
    amount_minor: Minor | None = None  # per interval
    currency: Currency | None = None
    order_id: str | None = None
    case_id: str | None = None
    agent: str | None = None


def _price(amount_minor: int | None, currency: str | None, interval: str | None) -> str:
    price = money(amount_minor, currency)
    return f"{price} a {interval}" if price and interval else price


@event("subscription.started", channel="shop", direction="inbound")
class SubscriptionStarted(_Subscription, frozen=True, kw_only=True):
    """A customer began to subscribe."""

    trial: bool | None = None
    trial_ends_at: Instant | None = None
    renews_at: Instant | None = None
    campaign_id: str | None = None
    coupon: str | None = None

    def headline(self) -> str:
        trial = "on trial" if self.trial else ""
        price = _price(self.amount_minor, self.currency, self.interval)
        return tell("Subscription started", self.plan, price, count(self.seat_count, "seat"), trial)


@event("subscription.renewed", channel="shop")
class SubscriptionRenewed(_Subscription, frozen=True, kw_only=True):
    """A subscription went on for another interval."""

    renews_at: Instant | None = None

    def headline(self) -> str:
        return tell(
            "Subscription renewed", self.plan, _price(self.amount_minor, self.currency, self.interval)
        )


@event("subscription.ended", channel="shop")
class SubscriptionEnded(_Subscription, frozen=True, kw_only=True):
    """A subscription ended: called off, not paid, or run out."""

    reason: str | None = None
    note: Personal[str] | None = None

    def headline(self) -> str:
        return tell("Subscription ended", self.plan, words(self.reason))
