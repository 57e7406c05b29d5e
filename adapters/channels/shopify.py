"""Shopify webhooks: orders, fulfilments, refunds, carts, checkouts and customers.

The topic stands in a header; the body is the resource. The key is X-Shopify-Event-Id, which all subscriptions
to one event share; without it topic, id and updated_at. One act of a merchant may be told under several topics
with the same id, so that the key has the topic, too; but for orders/create, whose key is the bare id.
Amounts are texts, ids go over 2^53.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from adapters.channels.channel import (
    Channel,
    Delivery,
    Found,
    compared,
    json_of,
    register,
    touchpoint,
    unnamed,
)
from adapters.channels.consent_fact import State, consent_fact
from adapters.channels.values import at_time, currency, first, inside, listed, minor, quantity, text, whole
from domain.errors import Invalid, Problem

__all__ = ["SHOPIFY"]

Body = dict[str, Any]


class _Topic(NamedTuple):
    type: str
    read: Callable[[Body], dict[str, Any]]
    at: tuple[str, ...]  # members that say when, the best first


def _lines(body: Body, code: str | None) -> list[dict[str, Any]] | None:
    lines = []
    for item in listed(body.get("line_items")):
        line = {
            "sku": first(inside(item, "sku"), inside(item, "variant_id")),
            "name": first(inside(item, "title"), inside(item, "name")),
            "quantity": quantity(inside(item, "quantity")),
            "unit_price_minor": minor(inside(item, "price"), code),
            "discount_minor": minor(inside(item, "total_discount"), code),
        }
        lines.append({name: value for name, value in line.items() if value is not None})
    return lines or None


def _address(value: Any) -> str | None:
    parts = (
        text(inside(value, name)) for name in ("address1", "address2", "zip", "city", "province", "country")
    )
    return ", ".join(part for part in parts if part) or None


def _order(body: Body) -> dict[str, Any]:
    code = currency(body.get("currency"))
    return {
        "order_id": text(body.get("id")),
        "cart_id": first(body.get("cart_token"), body.get("checkout_token")),
        "store": text(body.get("location_id")),
        "currency": code,
        "amount_minor": minor(body.get("total_price"), code),
        "lines": _lines(body, code),
        "note": text(body.get("note")),
        "order_number": first(body.get("name"), body.get("order_number")),
        "financial_status": text(body.get("financial_status")),
        "fulfillment_status": text(body.get("fulfillment_status")),
        "sales_channel": text(body.get("source_name")),
        "test": True if body.get("test") is True else None,
    }


def _placed(body: Body) -> dict[str, Any]:
    code = currency(body.get("currency"))
    shipping = body.get("shipping_address")
    return _order(body) | {
        "discount_minor": minor(body.get("total_discounts"), code),
        "tax_minor": minor(body.get("total_tax"), code),
        "shipping_minor": minor(inside(body, "total_shipping_price_set", "shop_money", "amount"), code),
        "coupon": text(inside(body, "discount_codes", 0, "code")),
        "payment_method": text(inside(body, "payment_gateway_names", 0)),
        "delivery_method": text(inside(body, "shipping_lines", 0, "title")),
        "delivery_name": text(inside(shipping, "name")),
        "delivery_address": _address(shipping),
        "billing_address": _address(body.get("billing_address")),
    }


def _cancelled(body: Body) -> dict[str, Any]:
    reason = text(body.get("cancel_reason"))
    return _order(body) | {
        "reason": reason,
        "cancelled_by": reason if reason in ("customer", "staff") else None,
    }


def _paid(body: Body) -> dict[str, Any]:
    return _order(body) | {"payment_method": text(inside(body, "payment_gateway_names", 0))}


def _fulfilled(body: Body) -> dict[str, Any]:
    return {
        "order_id": text(body.get("order_id")),
        "shipment_id": text(body.get("id")),
        "carrier": text(body.get("tracking_company")),
        "tracking_number": first(body.get("tracking_number"), inside(body, "tracking_numbers", 0)),
        "delivery_address": _address(body.get("destination")),
        "lines": _lines(body, None),
        "status": first(body.get("shipment_status"), body.get("status")),
    }


def _refunded(body: Body) -> dict[str, Any]:
    paid = [t for t in listed(body.get("transactions")) if inside(t, "kind") in ("refund", None)]
    code = currency(inside(paid, 0, "currency"))
    amounts = [minor(inside(t, "amount"), code) for t in paid]
    return {
        "order_id": text(body.get("order_id")),
        "refund_id": text(body.get("id")),
        "currency": code,
        "amount_minor": sum(a for a in amounts if a is not None) if amounts else None,
        "payment_method": text(inside(paid, 0, "gateway")),
        "reason": text(body.get("note")),
    }


def _cart(body: Body) -> dict[str, Any]:
    code = currency(body.get("currency")) or currency(
        inside(body, "line_items", 0, "price_set", "shop_money", "currency_code")
    )
    return {
        "cart_id": first(body.get("cart_token"), body.get("token"), body.get("id")),
        "currency": code,
        "amount_minor": minor(body.get("total_price"), code),
        "lines": _lines(body, code),
    }


def _checkout(body: Body) -> dict[str, Any]:
    return _cart(body) | {"action": "checkout_started", "checkout_id": text(body.get("id"))}


_TRAITS = (
    "first_name",
    "last_name",
    "state",
    "tags",
    "currency",
    "verified_email",
    "orders_count",
    "total_spent",
    "note",
)


def _customer(body: Body) -> dict[str, Any]:
    traits = {name: body[name] for name in _TRAITS if body.get(name) not in (None, "")}
    address = _address(body.get("default_address"))
    return {"traits": traits | ({"address": address} if address else {}) or None, "method": "shopify"}


_TOPICS = {
    "orders/create": _Topic("order.placed", _placed, ("created_at",)),
    "orders/paid": _Topic("order.paid", _paid, ("updated_at", "processed_at")),
    "orders/cancelled": _Topic("order.cancelled", _cancelled, ("cancelled_at", "updated_at")),
    "orders/fulfilled": _Topic("order.shipped", _order, ("updated_at",)),
    "refunds/create": _Topic("order.refunded", _refunded, ("processed_at", "created_at")),
    "fulfillments/create": _Topic("order.shipped", _fulfilled, ("created_at", "updated_at")),
    "carts/create": _Topic("cart.updated", _cart, ("created_at",)),
    "carts/update": _Topic("cart.updated", _cart, ("updated_at",)),
    "checkouts/create": _Topic("cart.updated", _checkout, ("created_at",)),
    "checkouts/update": _Topic("cart.updated", _cart, ("updated_at",)),
    "customers/create": _Topic("profile.updated", _customer, ("created_at",)),
    "customers/update": _Topic("profile.updated", _customer, ("updated_at",)),
}


def _other(topic: str) -> _Topic:
    """A topic that we have no type for: it is recorded whole, as one of the vendor's own."""
    if topic == "fulfillments/update":
        return _Topic("order.delivered", _fulfilled, ("updated_at",))
    family, _, happened = topic.partition("/")
    return _Topic(
        f"shopify.{family}.{happened or 'sent'}", lambda body: {"payload": body}, ("updated_at", "created_at")
    )


def _whom(topic: str, body: Body) -> list[tuple[str, object]]:
    """Who: the customer of the shop, and how the order may be reached."""
    if topic.startswith("customers/"):
        customer: Any = body
    else:
        customer = body.get("customer")
    found: list[tuple[str, object]] = [("user", text(inside(customer, "id")))]
    for each in (customer, body):
        found += [("email", text(inside(each, "email"))), ("phone", text(inside(each, "phone")))]
    return found


def _order_ref(topic: str, body: Body) -> str | None:
    if topic.startswith("orders/"):
        return text(body.get("id"))
    return text(body.get("order_id"))


def _translate(delivery: Delivery) -> Iterator[Found]:
    topic = delivery.headers.get("x-shopify-topic", "").strip().lower()
    if not topic or len(topic) > 100:
        raise Invalid(
            [Problem("", "The header X-Shopify-Topic is missing: nobody knows what the body is.", "missing")]
        )
    body = json_of(delivery.body)
    if not isinstance(body, dict):
        raise Invalid([Problem("", "The body is no JSON object.", "not_an_object")])
    known = _TOPICS.get(topic)
    if topic == "fulfillments/update" and body.get("shipment_status") != "delivered":
        known = _Topic("order.shipped", _fulfilled, ("updated_at",))
    chosen = known or _other(topic)
    at = next((found for name in chosen.at if (found := at_time(body.get(name)))), None)
    if at is None:
        at = at_time(delivery.headers.get("x-shopify-triggered-at"))
    resource = first(
        *(
            body.get(name)
            for name in ("id", "token", "admin_graphql_api_id", "name", "order_id", "customer_id")
        )
    )
    event_id = text(delivery.headers.get("x-shopify-event-id"))
    if event_id is not None and topic != "orders/create":
        event_id = f"{event_id}:{topic}"
    if resource is None:  # as the requests of data protection, which name a customer of a shop
        resource = first(
            inside(body, "customer", "id"), body.get("shop_id"), inside(body, "order_edit", "id")
        )
    canonical = topic.encode() + b"\n" + compared(body)
    changed = first(body.get("updated_at"), body.get("created_at")) or ""
    number = whole(body.get("order_number")) if topic == "orders/create" else None
    yield touchpoint(
        delivery,
        id=event_id or (f"{topic}:{resource}:{changed}" if resource is not None else unnamed(canonical)),
        type=chosen.type,
        at=at,
        data=chosen.read(body),
        canonical=canonical,
        identifiers=[*_whom(topic, body), ("order", _order_ref(topic, body))],
        number=None if number is None else ("orders", number),
    )
    if topic.startswith("customers"):
        yield from _consents(delivery, topic, body, at)


_STATES: dict[str, State] = {
    "subscribed": "given",
    "pending": "requested",
    "unsubscribed": "withdrawn",
    "redacted": "withdrawn",
}
"""What Shopify calls them; `not_subscribed` is what a customer is who was never asked: it states nothing."""


def _consents(delivery: Delivery, topic: str, body: Body, at: datetime | None) -> Iterator[Found]:
    """What the customer allows by e-mail and by SMS, as it stands; told again it is a duplicate."""
    customer = first(body.get("customer_id"), body.get("id"))
    whom = _whom(topic, body)
    for channel, kind, address in (("email", "email", "email_address"), ("sms", "phone", "phone")):
        consent = body.get(f"{channel}_marketing_consent")
        state = _STATES.get(text(inside(consent, "state")) or "")
        if state is None or customer is None:
            continue
        since = at_time(inside(consent, "consent_updated_at")) or at
        reached = first(body.get(kind), body.get(address))
        yield consent_fact(
            delivery,
            id=f"consent:{customer}:{channel}:{state}:{since.isoformat() if since else ''}",
            state=state,
            at=since,
            whom=[("user", customer), *whom, (kind, reached)],
            contact=[(kind, reached)],
            purpose="marketing",
            channel=channel,
            method=(first(inside(consent, "consent_collected_from")) or "shopify").lower(),
            evidence={"opt_in_level": inside(consent, "opt_in_level"), "topic": topic},
        )


SHOPIFY = register(
    Channel(
        name="shopify",
        meaning="Shopify webhooks: orders, carts, customers",
        translate=_translate,
        scheme="shopify",
    )
)
