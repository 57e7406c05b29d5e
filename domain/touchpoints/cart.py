"""Shopping carts: what is chosen but not yet ordered."""

from __future__ import annotations

from domain.event import Touchpoint, event
from domain.touchpoints.order import Line
from domain.units import Currency, Minor, Quantity, count, money, tell, words


@event("cart.updated", channel="web", direction="inbound")
class CartUpdated(Touchpoint, frozen=True, kw_only=True):
    """A cart changed: something was put in, taken out, or the checkout began."""

    cart_id: str | None = None
    session_id: str | None = None
    action: str | None = None  # added, removed, cleared, checkout_started …
    sku: str | None = None
    quantity: Quantity | None = None
    lines: list[Line] | None = None  # the cart after the change
    amount_minor: Minor | None = None
    currency: Currency | None = None
    coupon: str | None = None
    campaign_id: str | None = None

    def headline(self) -> str:
        piece = f"{self.quantity:,} × {self.sku}" if self.quantity is not None and self.sku else self.sku
        lines = "" if self.lines is None else count(len(self.lines), "line")
        return tell("Cart updated", words(self.action), piece, lines, money(self.amount_minor, self.currency))
