"""Square: payments, refunds, loyalty, customers; the key is `event_id`.

A payment or refund is told again whenever it changes: that it is complete is a touchpoint of its own, once. Amounts are minor
units already. Ids of customers and of loyalty accounts are Square's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapters.channels.channel import Channel, Delivery, Found, compared, json_of, register, touchpoint
from adapters.channels.values import at_time, currency, first, inside, text, whole
from domain.errors import Invalid, Problem

__all__ = ["SQUARE"]

_LOYALTY = {
    "ACCUMULATE_POINTS": ("loyalty.points_earned", "accumulate_points"),
    "ACCUMULATE_PROMOTION_POINTS": ("loyalty.points_earned", "accumulate_promotion_points"),
    "REDEEM_REWARD": ("loyalty.points_redeemed", "redeem_reward"),
    "EXPIRE_POINTS": ("loyalty.points_expired", "expire_points"),
}
_TRAITS = (
    "given_name",
    "family_name",
    "nickname",
    "company_name",
    "birthday",
    "note",
    "address",
    "preferences",
)


def _money(thing: Any, *names: str) -> dict[str, Any]:
    found = next((inside(thing, name) for name in names if inside(thing, name)), None)
    return {"amount_minor": whole(inside(found, "amount")), "currency": currency(inside(found, "currency"))}


def _account(thing: Any, *more: Any) -> list[tuple[str, object]]:
    """Whose it is: the customer, and the account of the loyalty program."""
    phone = text(inside(thing, "mapping", "phone_number"))
    return [
        ("user@square", first(inside(thing, "customer_id"), *more)),
        ("loyalty_card@square", first(inside(thing, "loyalty_account_id"))),
        ("email", first(inside(thing, "buyer_email_address"), inside(thing, "email_address"))),
        ("phone", phone if phone is not None and phone.startswith("+") else None),
    ]


def _loyalty(thing: Any) -> tuple[str | None, dict[str, Any]]:
    found = _LOYALTY.get(text(inside(thing, "type")) or "")
    if found is None:
        return None, {}
    type_, name = found
    told = inside(thing, name)
    points = whole(inside(told, "points"))
    data: dict[str, Any] = {
        "program": text(inside(told, "loyalty_program_id")),
        "order_id": text(inside(told, "order_id")),
        "store": text(inside(thing, "location_id")),
        "points": abs(points) if points is not None and points > -(2**63) else None,
    }
    if type_ == "loyalty.points_redeemed":
        data["reward"] = text(inside(told, "reward_id"))
    return type_, data


def _thing(body: Any) -> tuple[Any, str | None]:
    """(what the event is about, the name that it has inside `object`)."""
    held = inside(body, "data", "object")
    if isinstance(held, dict):
        for name, inner in held.items():
            if isinstance(inner, dict):
                return inner, name
    return held, None


def _complete(delivery: Delivery, kind: str, thing: Any) -> Iterator[Found]:
    """That a payment or a refund is complete, once."""
    id_, status = text(inside(thing, "id")), text(inside(thing, "status"))
    if id_ is None or status != "COMPLETED":
        return
    order = text(inside(thing, "order_id"))
    data: dict[str, Any] = {"order_id": order, "store": text(inside(thing, "location_id"))}
    if kind == "payment":
        type_ = "order.paid"
        data |= _money(thing, "total_money", "amount_money")
        data |= {"payment_id": id_, "payment_method": text(inside(thing, "source_type"))}
    else:
        type_ = "order.refunded"
        data |= _money(thing, "amount_money")
        data |= {"refund_id": id_, "reason": text(inside(thing, "reason"))}
    yield touchpoint(
        delivery,
        id=f"{kind}:{id_}:completed",
        type=type_,
        at=at_time(inside(thing, "updated_at")) or at_time(inside(thing, "created_at")),
        data=data,
        canonical=compared({"id": id_, "status": status}),
        identifiers=[*_account(thing), ("order", order)],
        place=f"/data/object/{kind}",
    )


def _translate(delivery: Delivery) -> Iterator[Found]:
    body = json_of(delivery.body)
    event_id, kind = text(inside(body, "event_id")), text(inside(body, "type"))
    if event_id is None or kind is None:
        raise Invalid(
            [Problem("", "The body is no event of Square: event_id and type are missing.", "missing")]
        )
    thing, name = _thing(body)
    type_: str | None = None
    data: dict[str, Any] = {}
    at = at_time(inside(body, "created_at"))
    whom = _account(thing)
    if kind == "loyalty.event.created":
        type_, data = _loyalty(thing)
        at = at_time(inside(thing, "created_at")) or at
    elif kind == "loyalty.account.created":
        type_ = "loyalty.enrolled"
        data = {
            "program": text(inside(thing, "program_id")),
            "balance_points": whole(inside(thing, "balance")),
        }
        whom = [*whom, ("loyalty_card@square", text(inside(thing, "id")))]
    elif kind in ("customer.created", "customer.updated") and isinstance(thing, dict):
        type_ = "profile.updated"
        traits = {each: thing[each] for each in _TRAITS if thing.get(each) not in (None, "", {}, [])}
        data = {"traits": traits or None, "method": "square"}
        phone = text(thing.get("phone_number"))
        whom = [("user", text(thing.get("reference_id"))), *_account(thing, thing.get("id"))]
        whom.append(("phone", phone if phone is not None and phone.startswith("+") else None))
    order = first(inside(thing, "order_id"), inside(thing, "accumulate_points", "order_id"))
    yield touchpoint(
        delivery,
        id=event_id,
        type=type_ or f"square.{kind}",
        at=at,
        data=data if type_ else {"payload": inside(body, "data")},
        canonical=compared(body),
        identifiers=[*whom, ("order", order)],
    )
    if name in ("payment", "refund") and kind.startswith(f"{name}."):
        yield from _complete(delivery, name, thing)


SQUARE = register(
    Channel(
        name="square",
        meaning="Square: payments, refunds, loyalty, customers",
        translate=_translate,
        scheme="square",
    )
)
