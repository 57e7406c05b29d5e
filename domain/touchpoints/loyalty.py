"""The loyalty card: swipes and points."""

from __future__ import annotations

from domain.event import Instant, Personal, Touchpoint, event
from domain.units import Currency, Minor, Points, count, money, tell, words


class _Loyalty(Touchpoint, frozen=True, kw_only=True):
    program: str | None = None
    card_number: Personal[str] | None = None
    tier: str | None = None
    store: str | None = None
    till: str | None = None
    order_id: str | None = None
    balance_points: Points | None = None  # after the event


def _balance(balance_points: int | None) -> str:
    return "" if balance_points is None else f"balance {balance_points:,}"


@event("loyalty.enrolled", channel="loyalty", direction="inbound")
class LoyaltyEnrolled(_Loyalty, frozen=True, kw_only=True):
    """A customer joined the loyalty program."""

    campaign_id: str | None = None
    agent: str | None = None

    def headline(self) -> str:
        return tell("Joined the loyalty program", self.program, self.tier, self.store)


@event("loyalty.card_swiped", channel="loyalty", direction="inbound")
class CardSwiped(_Loyalty, frozen=True, kw_only=True):
    """A loyalty card was shown at a till."""

    amount_minor: Minor | None = None
    currency: Currency | None = None

    def headline(self) -> str:
        return tell("Loyalty card swiped", self.store, money(self.amount_minor, self.currency))


@event("loyalty.points_earned", channel="loyalty")
class PointsEarned(_Loyalty, frozen=True, kw_only=True):
    """Points were credited."""

    points: Points | None = None
    reason: str | None = None
    expires_at: Instant | None = None

    def headline(self) -> str:
        earned = count(self.points, "point") or "Points"
        return tell(f"{earned} earned", words(self.reason), _balance(self.balance_points))


@event("loyalty.points_redeemed", channel="loyalty", direction="inbound")
class PointsRedeemed(_Loyalty, frozen=True, kw_only=True):
    """Points were spent."""

    points: Points | None = None
    reward: str | None = None
    amount_minor: Minor | None = None
    currency: Currency | None = None

    def headline(self) -> str:
        spent = count(self.points, "point") or "Points"
        worth = money(self.amount_minor, self.currency)
        return tell(f"{spent} redeemed", words(self.reward), worth, _balance(self.balance_points))


@event("loyalty.points_expired", channel="loyalty")
class PointsExpired(_Loyalty, frozen=True, kw_only=True):
    """Points lapsed unused."""

    points: Points | None = None

    def headline(self) -> str:
        return tell(f"{count(self.points, 'point') or 'Points'} expired", _balance(self.balance_points))
