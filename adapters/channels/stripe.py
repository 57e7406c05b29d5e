"""Stripe events: charges, payments, invoices, checkouts, refunds, subscriptions and customers.

The key is the event's id (evt_…); times are seconds since 1970; events come out of order by design, and each
delivery may count its `pending_webhooks` anew. Amounts are minor units already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from adapters.channels.channel import Channel, Delivery, Found, compared, json_of, register, touchpoint
from adapters.channels.consent_fact import State, consent_fact
from adapters.channels.values import at_epoch, at_time, currency, first, inside, text, whole
from domain.errors import Invalid, Problem

__all__ = ["STRIPE"]

Body = dict[str, Any]
_PROMOTIONS: dict[str | None, State] = {"opt_in": "given", "opt_out": "refused"}
_OF_THE_DELIVERY = ("pending_webhooks", "request")


def _money(thing: Body, *names: str) -> dict[str, Any]:
    amounts = (whole(thing.get(name)) for name in names)
    return {
        "currency": currency(thing.get("currency")),
        "amount_minor": next((amount for amount in amounts if amount is not None), None),
    }


def _order_id(thing: Body) -> str | None:
    metadata = thing.get("metadata")
    return first(
        inside(metadata, "order_id"),
        inside(metadata, "order"),
        thing.get("order"),
        thing.get("client_reference_id"),
    )


def _paid(thing: Body) -> dict[str, Any]:
    return _money(thing, "amount_received", "amount", "amount_total", "amount_paid") | {
        "order_id": _order_id(thing),
        "payment_id": text(thing.get("id")),
        "payment_method": first(
            inside(thing, "payment_method_details", "type"),
            inside(thing, "payment_method_types", 0),
            inside(thing, "source", "brand"),
        ),
    }


def _refunded(thing: Body) -> dict[str, Any]:
    refund = inside(thing, "refunds", "data", 0)
    return _money(thing, "amount_refunded", "amount") | {
        "order_id": _order_id(thing),
        "refund_id": first(inside(refund, "id"), thing.get("id")),
        "reason": first(inside(refund, "reason"), thing.get("reason")),
    }


def _checkout(thing: Body) -> dict[str, Any]:
    return _money(thing, "amount_total") | {
        "order_id": _order_id(thing),
        "cart_id": text(thing.get("id")),
        "payment_method": text(inside(thing, "payment_method_types", 0)),
    }


def _subscription_id(invoice: Body) -> str | None:
    """The subscription that an invoice is of; since API 2025-03-31 its parent tells it."""
    return first(
        invoice.get("subscription"),
        inside(invoice, "subscription", "id"),
        inside(invoice, "parent", "subscription_details", "subscription"),
    )


def _subscription(thing: Body) -> dict[str, Any]:
    price = inside(thing, "items", "data", 0, "price") or thing.get("plan")
    return {
        "subscription_id": _subscription_id(thing) or text(thing.get("id")),
        "plan": first(inside(price, "nickname"), inside(price, "id")),
        "currency": currency(inside(price, "currency")) or currency(thing.get("currency")),
        "amount_minor": next(
            (
                a
                for a in (
                    whole(inside(price, "unit_amount")),
                    whole(inside(price, "amount")),
                    whole(thing.get("amount_paid")),
                )
                if a is not None
            ),
            None,
        ),
        "status": text(thing.get("status")),
        "reason": first(inside(thing, "cancellation_details", "reason")),
    }


def _customer(thing: Body) -> dict[str, Any]:
    traits = {
        name: thing[name]
        for name in ("name", "description", "currency", "preferred_locales", "address", "metadata")
        if thing.get(name) not in (None, "", {}, [])
    }
    return {"traits": traits or None, "method": "stripe"}


_TYPES: dict[str, tuple[str, Callable[[Body], dict[str, Any]]]] = {
    "charge.succeeded": ("order.paid", _paid),
    "charge.refunded": ("order.refunded", _refunded),
    "invoice.paid": ("subscription.renewed", _subscription),
    "checkout.session.completed": ("order.placed", _checkout),
    "checkout.session.async_payment_succeeded": ("order.paid", _paid),
    "customer.subscription.created": ("subscription.started", _subscription),
    "customer.subscription.deleted": ("subscription.ended", _subscription),
    "customer.created": ("profile.updated", _customer),
    "customer.updated": ("profile.updated", _customer),
}


def _whom(thing: Body) -> list[tuple[str, object]]:
    customer = thing.get("customer")
    is_customer = thing.get("object") == "customer"
    known = thing.get("id") if is_customer else first(customer, inside(customer, "id"))
    details = thing.get("customer_details") or thing.get("billing_details") or thing
    return [
        ("user", text(known)),
        ("email", first(thing.get("receipt_email"), thing.get("customer_email"), inside(details, "email"))),
        ("phone", text(inside(details, "phone"))),
    ]


def _translate(delivery: Delivery) -> Iterator[Found]:
    event = json_of(delivery.body)
    if not isinstance(event, dict):
        raise Invalid([Problem("", "The body is no JSON object.", "not_an_object")])
    id_, type_, thing = text(event.get("id")), text(event.get("type")), inside(event, "data", "object")
    if id_ is None or type_ is None:
        raise Invalid([Problem("", "The body is no event of Stripe: id or type is missing.", "missing")])
    if not isinstance(thing, dict):  # of API v2: it names what it is about, and says no more
        yield touchpoint(
            delivery,
            id=id_,
            type=f"stripe.{type_}",
            at=at_epoch(event.get("created")) or at_time(event.get("created")),
            data={"payload": event},
            canonical=compared(event, but=_OF_THE_DELIVERY),
        )
        return
    name, read = _TYPES.get(type_, (f"stripe.{type_}", lambda thing: {"payload": thing}))
    if name == "subscription.renewed" and (
        _subscription_id(thing) is None or thing.get("billing_reason") == "subscription_create"
    ):
        name, read = "order.paid", _paid  # an invoice of no subscription, or the one that it began with
    order = _order_id(thing)
    data = read(thing) | ({"test": True} if event.get("livemode") is False else {})
    if name == "order.refunded" and data["amount_minor"] is not None:
        # `amount_refunded` is the sum of all refunds of a charge; the event tells what it was before this one.
        before = whole(inside(event, "data", "previous_attributes", "amount_refunded"))
        if before is not None and 0 <= before <= data["amount_minor"]:
            data["amount_minor"] -= before
    yield touchpoint(
        delivery,
        id=id_,
        type=name,
        at=at_epoch(event.get("created")),
        data=data,
        canonical=compared(event, but=_OF_THE_DELIVERY),
        identifiers=[*_whom(thing), ("order", order)],
    )
    promotions = text(inside(thing, "consent", "promotions"))
    if promotions in _PROMOTIONS:
        yield consent_fact(
            delivery,
            id=f"{id_}:consent",
            state=_PROMOTIONS[promotions],
            at=at_epoch(event.get("created")),
            whom=_whom(thing),
            contact=[each for each in _whom(thing) if each[0] == "email"],
            purpose="marketing",
            channel="email",
            method="checkout",
            evidence={"checkout_session": text(thing.get("id")), "promotions": promotions},
        )


STRIPE = register(
    Channel(
        name="stripe",
        meaning="Stripe events: payments, subscriptions, customers",
        translate=_translate,
        scheme="stripe",
    )
)
