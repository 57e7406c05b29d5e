"""WooCommerce webhooks: orders, their payment, fulfilment, cancellation and refunds, and customers.

The topic stands in a header, the body is the resource; the key is topic, id and `date_modified_gmt`, which is UTC without
saying so. An order is told whole whenever anything changes in it: that it was paid, completed or cancelled is a touchpoint
of its own, once, whichever delivery tells it first. `customer_id` 0 is a guest.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from typing import Any

from adapters.channels.channel import Channel, Delivery, Found, compared, json_of, register, touchpoint
from adapters.channels.values import at_time, currency, first, inside, listed, minor, quantity, text
from domain.errors import Invalid, Problem

__all__ = ["WOOCOMMERCE"]

Body = dict[str, Any]

_HAPPENED = (
    ("paid", "order.paid", "date_paid_gmt"),
    ("completed", "order.shipped", "date_completed_gmt"),
)
"""What an order's members say has happened: a word for its key, the type, the member that tells when."""
_TRAITS = ("first_name", "last_name", "username", "role", "is_paying_customer")


def _at(body: Body, *names: str) -> datetime | None:
    for name in names:
        found = at_time(body.get(name), zone=UTC)
        if found is not None:
            return found
    return None


def _name(value: Any) -> str | None:
    given = text(value)
    return text(unescape(given)) if given is not None else None


def _address(value: Any) -> str | None:
    names = ("address_1", "address_2", "postcode", "city", "state", "country")
    return ", ".join(part for name in names if (part := text(inside(value, name)))) or None


def _lines(body: Body, code: str | None) -> list[dict[str, Any]] | None:
    lines = []
    for item in listed(body.get("line_items")):
        line = {
            "sku": first(
                inside(item, "sku"), inside(item, "variation_id") or None, inside(item, "product_id")
            ),
            "name": _name(inside(item, "name")),
            "quantity": quantity(inside(item, "quantity")),
            "unit_price_minor": minor(inside(item, "price"), code),
            "tax_minor": minor(inside(item, "total_tax"), code),
            "amount_minor": minor(inside(item, "total"), code),
        }
        lines.append({name: value for name, value in line.items() if value is not None})
    return lines or None


def _order(body: Body) -> dict[str, Any]:
    code = currency(body.get("currency"))
    return {
        "order_id": text(body.get("id")),
        "order_number": text(body.get("number")),
        "currency": code,
        "amount_minor": minor(body.get("total"), code),
        "status": text(body.get("status")),
    }


def _placed(body: Body) -> dict[str, Any]:
    code = currency(body.get("currency"))
    shipping = body.get("shipping")
    names = (text(inside(shipping, "first_name")), text(inside(shipping, "last_name")))
    return _order(body) | {
        "lines": _lines(body, code),
        "note": text(body.get("customer_note")),
        "discount_minor": minor(body.get("discount_total"), code),
        "tax_minor": minor(body.get("total_tax"), code),
        "shipping_minor": minor(body.get("shipping_total"), code),
        "coupon": text(inside(body, "coupon_lines", 0, "code")),
        "payment_method": first(body.get("payment_method"), body.get("payment_method_title")),
        "delivery_method": _name(inside(body, "shipping_lines", 0, "method_title")),
        "delivery_name": " ".join(name for name in names if name) or None,
        "delivery_address": _address(shipping),
        "billing_address": _address(body.get("billing")),
        "sales_channel": text(body.get("created_via")),
    }


def _whom(body: Body, *, customer: bool) -> list[tuple[str, object]]:
    known = text(body.get("id" if customer else "customer_id"))
    phone = text(inside(body, "billing", "phone"))
    return [
        ("user", known if known != "0" else None),
        ("email", first(body.get("email"), inside(body, "billing", "email"))),
        ("phone", phone if phone is not None and phone.startswith("+") else None),
    ]


def _happened(delivery: Delivery, body: Body, order: str) -> Iterator[Found]:
    """What an order, as it is now, says has happened to it: each once."""
    whom = [*_whom(body, customer=False), ("order", order)]
    told: list[tuple[str, str, datetime | None]] = [
        (word, type_, at) for word, type_, name in _HAPPENED if (at := _at(body, name)) is not None
    ]
    if body.get("status") == "cancelled":
        told.append(("cancelled", "order.cancelled", _at(body, "date_modified_gmt")))
    for word, type_, at in told:
        data = _order(body)
        if word == "paid":
            data |= {
                "payment_id": text(body.get("transaction_id")),
                "payment_method": text(body.get("payment_method")),
            }
        yield touchpoint(
            delivery,
            id=f"order:{order}:{word}",
            type=type_,
            at=at,
            data=data,
            canonical=compared({"id": order, "happened": word}),
            identifiers=whom,
            place=f"/{word}",
        )
    code = currency(body.get("currency"))
    for number, refund in enumerate(listed(body.get("refunds"))):
        refund_id, amount = text(inside(refund, "id")), minor(inside(refund, "total"), code)
        if refund_id is None:
            continue
        yield touchpoint(
            delivery,
            id=f"order:{order}:refund:{refund_id}",
            type="order.refunded",
            at=_at(body, "date_modified_gmt"),
            data={
                "order_id": order,
                "refund_id": refund_id,
                "currency": code,
                "amount_minor": abs(amount) if amount is not None and amount > -(2**63) else None,
                "reason": text(inside(refund, "reason")),
            },
            canonical=compared({"id": order, "refund": refund}),
            identifiers=whom,
            place=f"/refunds/{number}",
        )


def _translate(delivery: Delivery) -> Iterator[Found]:
    topic = delivery.headers.get("x-wc-webhook-topic", "").strip().lower()
    if not topic or len(topic) > 100:
        raise Invalid(
            [
                Problem(
                    "", "The header X-WC-Webhook-Topic is missing: nobody knows what the body is.", "missing"
                )
            ]
        )
    body = json_of(delivery.body)
    if not isinstance(body, dict):
        raise Invalid([Problem("", "The body is no JSON object.", "not_an_object")])
    resource = first(body.get("id"), body.get("arg"))
    if resource is None:
        raise Invalid([Problem("/id", "The body has no id.", "missing")])
    whom = _whom(body, customer=topic.startswith("customer."))
    changed = first(body.get("date_modified_gmt"), body.get("date_created_gmt")) or ""
    type_ = f"woocommerce.{topic}"
    data: dict[str, Any] = {"payload": body}
    at = _at(body, "date_modified_gmt", "date_created_gmt")
    if topic == "order.created":
        type_, data, at = "order.placed", _placed(body), _at(body, "date_created_gmt")
    elif topic in ("customer.created", "customer.updated"):
        traits = {name: body[name] for name in _TRAITS if body.get(name) not in (None, "")}
        address = _address(body.get("billing"))
        traits |= {"address": address} if address else {}
        type_, data = "profile.updated", {"traits": traits or None, "method": "woocommerce"}
    order = resource if topic.startswith("order.") else None
    yield touchpoint(
        delivery,
        id=f"{topic}:{resource}:{changed}",
        type=type_,
        at=at,
        data=data,
        canonical=topic.encode() + b"\n" + compared(body),
        identifiers=[*whom, ("order", order)],
    )
    if order is not None and topic in ("order.created", "order.updated"):
        yield from _happened(delivery, body, order)


WOOCOMMERCE = register(
    Channel(
        name="woocommerce",
        meaning="WooCommerce webhooks: orders, customers",
        translate=_translate,
        scheme="woocommerce",
    )
)
