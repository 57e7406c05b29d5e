"""Orders, from placing to refund."""

from __future__ import annotations

import msgspec

from domain.event import Instant, Other, Personal, Ref, Touchpoint, event
from domain.units import Count, Currency, Minor, Quantity, count, money, tell, words


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of an order: so many pieces of one product."""

    sku: str | None = None
    name: str | None = None
    quantity: Quantity | None = None
    unit_price_minor: Minor | None = None
    discount_minor: Minor | None = None
    tax_minor: Minor | None = None
    amount_minor: Minor | None = None  # the line's total, where the source gives one
    category: str | None = None


class _Order(Touchpoint, frozen=True, kw_only=True):
    contact: Other[Ref] | None = None
    order_id: str | None = None
    cart_id: str | None = None
    case_id: str | None = None
    agent: str | None = None
    store: str | None = None
    till: str | None = None
    country: str | None = None
    currency: Currency | None = None
    amount_minor: Minor | None = None
    lines: list[Line] | None = None
    note: Personal[str] | None = None


def _order(order_id: str | None, happened: str = "") -> str:
    return " ".join(part for part in ("Order", order_id, happened) if part)


@event("order.placed", channel="shop", direction="inbound")
class OrderPlaced(_Order, frozen=True, kw_only=True):
    """A customer ordered or bought."""

    session_id: str | None = None
    campaign_id: str | None = None
    coupon: str | None = None
    discount_minor: Minor | None = None
    tax_minor: Minor | None = None
    shipping_minor: Minor | None = None
    line_count: Count | None = None
    payment_method: str | None = None
    delivery_method: str | None = None
    delivery_name: Personal[str] | None = None
    delivery_address: Personal[str] | None = None
    billing_address: Personal[str] | None = None

    def headline(self) -> str:
        lines = self.line_count if self.lines is None else len(self.lines)
        return tell(
            _order(self.order_id), count(lines, "line"), money(self.amount_minor, self.currency), self.store
        )


@event("order.paid", channel="shop")
class OrderPaid(_Order, frozen=True, kw_only=True):
    """An order was paid, in whole or in part."""

    payment_id: str | None = None
    payment_method: str | None = None

    def headline(self) -> str:
        amount = money(self.amount_minor, self.currency)
        return tell(_order(self.order_id, "paid"), amount, words(self.payment_method))


@event("order.shipped", channel="shop")
class OrderShipped(_Order, frozen=True, kw_only=True):
    """Goods left for the customer."""

    shipment_id: str | None = None
    carrier: str | None = None
    tracking_number: Personal[str] | None = None
    delivery_address: Personal[str] | None = None
    expected_at: Instant | None = None

    def headline(self) -> str:
        return tell(_order(self.order_id, "shipped"), self.carrier, self.tracking_number)


@event("order.delivered", channel="shop")
class OrderDelivered(_Order, frozen=True, kw_only=True):
    """Goods reached the customer."""

    shipment_id: str | None = None
    carrier: str | None = None
    place: Personal[str] | None = None  # door, neighbour, locker …
    signed_by: Personal[str] | None = None

    def headline(self) -> str:
        signed = f"signed by {self.signed_by}" if self.signed_by else ""
        return tell(_order(self.order_id, "delivered"), self.carrier, self.place, signed)


@event("order.cancelled", channel="shop")
class OrderCancelled(_Order, frozen=True, kw_only=True):
    """An order was called off, by the customer or by us."""

    reason: str | None = None
    cancelled_by: str | None = None

    def headline(self) -> str:
        amount = money(self.amount_minor, self.currency)
        return tell(_order(self.order_id, "cancelled"), words(self.reason), amount)


@event("order.returned", channel="shop", direction="inbound")
class OrderReturned(_Order, frozen=True, kw_only=True):
    """Goods came back."""

    return_id: str | None = None
    reason: str | None = None
    condition: str | None = None

    def headline(self) -> str:
        lines = "" if self.lines is None else count(len(self.lines), "line")
        amount = money(self.amount_minor, self.currency)
        return tell(_order(self.order_id, "returned"), lines, amount, words(self.reason))


@event("order.refunded", channel="shop")
class OrderRefunded(_Order, frozen=True, kw_only=True):
    """Money went back to the customer."""

    refund_id: str | None = None
    payment_method: str | None = None
    reason: str | None = None

    def headline(self) -> str:
        return tell(
            _order(self.order_id, "refunded"), money(self.amount_minor, self.currency), words(self.reason)
        )
