"""Segment's HTTP tracking API, as its SDKs and RudderStack's speak it.

Calls become touchpoints: page and screen `web.page_viewed`; identify, group and alias `profile.updated`; of
track the orders, e-mails, leads, loyalty and campaigns of Segment's published specs become ours, all else is
`web.tracked`. Times: `occurred_at` is the time that the client gives; what Segment makes of it,
`receivedAt - (sentAt - originalTimestamp)`, stands beside it as `corrected_at`, where the two differ by a second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from adapters.channels.channel import (
    Channel,
    Delivery,
    Found,
    Untranslated,
    compared,
    json_of,
    register,
    touchpoint,
)
from adapters.channels.consent_fact import consent_fact
from adapters.channels.values import (
    at_epoch,
    at_time,
    currency,
    first,
    inside,
    minor,
    quantity,
    text,
    whole,
)
from domain.entry import moment
from domain.errors import Invalid, Problem

__all__ = ["CALLS", "LARGEST_BATCH_BYTES", "LARGEST_CALL_BYTES", "SEGMENT"]

CALLS = ("track", "identify", "page", "screen", "group", "alias")
"""The kinds of call; `batch` and `import` carry many of them."""
LARGEST_CALL_BYTES = 32 * 2**10
LARGEST_BATCH_BYTES = 500 * 2**10

_OF_THE_WAY = ("sentAt", "writeKey", "receivedAt", "_metadata", "integrations")
"""Members that speak of the way and not of what happened: a retry may change them."""
_LEAST_SKEW = timedelta(seconds=1)
_MILLISECOND = Decimal("0.001")


class _Sent(NamedTuple):
    """What a whole request says of the times of its items."""

    at: datetime | None
    historical: bool  # by /v1/import: sent long after, which is no fault of a clock


def _translate(delivery: Delivery) -> Iterator[Found]:
    if delivery.call in CALLS:
        item = json_of(delivery.body)
        if not isinstance(item, dict):
            raise _none("", "A call is a JSON object.", "not_an_object")
        sent = _Sent(_time(item.get("sentAt")), historical=False)
        yield _item(item, delivery, sent, delivery.call, "")
        yield from _preferences(item, delivery, delivery.call, "")
        return
    try:
        envelope = msgspec.json.decode(delivery.body, type=_Envelope)
        raws = [bytes(raw) for raw in envelope.batch]
        sent = _Sent(_time(envelope.sentAt), historical=delivery.call == "import")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        yield from _slowly(delivery)
        return
    for place, raw in enumerate(raws):
        yield from _raw(raw, delivery, sent, f"/batch/{place}")


class _Envelope(msgspec.Struct):
    batch: list[msgspec.Raw]
    sentAt: str | int | float | None = None  # noqa: N815 - Segment's spelling


def _slowly(delivery: Delivery) -> Iterator[Found]:
    """A batch of which something cannot be decoded, or that is none."""
    body = json_of(delivery.body)
    batch = inside(body, "batch")
    if not isinstance(batch, list):
        raise _none("/batch", "A batch is a JSON object with the calls in the list 'batch'.", "missing")
    sent = _Sent(_time(inside(body, "sentAt")), historical=delivery.call == "import")
    for place, item in enumerate(batch):
        yield from _call(item, delivery, sent, f"/batch/{place}")


def _raw(raw: bytes, delivery: Delivery, sent: _Sent, place: str) -> Iterator[Found]:
    if len(raw) > LARGEST_CALL_BYTES:
        yield Untranslated(
            place,
            [
                Problem(
                    place,
                    f"The call has {len(raw):,} bytes; at most {LARGEST_CALL_BYTES // 1024} KiB are taken, as Segment does.",
                    "too_large",
                )
            ],
        )
        return
    try:
        item = json_of(raw)
    except Invalid as wrong:
        yield Untranslated(place, [msgspec.structs.replace(p, pointer=place) for p in wrong.problems])
        return
    yield from _call(item, delivery, sent, place)


def _call(item: Any, delivery: Delivery, sent: _Sent, place: str) -> Iterator[Found]:
    if not isinstance(item, dict):
        yield Untranslated(place, [Problem(place, "A call is a JSON object.", "not_an_object")])
        return
    kind = item.get("type") or item.get("action")  # `action` is what the first SDKs wrote
    if kind not in CALLS:
        problem = Problem(f"{place}/type", f"'type' is one of {', '.join(CALLS)}.", "not_allowed")
        yield Untranslated(place, [problem])
        return
    yield _item(item, delivery, sent, kind, place)
    yield from _preferences(item, delivery, kind, place)


def _none(pointer: str, detail: str, code: str) -> Invalid:
    return Invalid([Problem(pointer, detail, code)])


def _time(value: Any) -> datetime | None:
    """An ISO 8601 time, by default UTC; or milliseconds (older clients: seconds) since 1970."""
    if value is None:
        return None
    if isinstance(value, str):
        return at_time(value, zone=UTC)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return at_epoch(value, unit_s=_MILLISECOND) if abs(value) > 10**11 else at_epoch(value)
    return None


def _times(item: dict[str, Any], delivery: Delivery, sent: _Sent) -> tuple[datetime | None, datetime | None]:
    """(as the client gave it, corrected by the difference of the two clocks)."""
    given, original = _time(item.get("timestamp")), _time(item.get("originalTimestamp"))
    received = _time(item.get("receivedAt"))
    if original is not None and received is not None and given is not None:
        return original, given  # it went through Segment, which corrected it there
    raw = given or original
    if raw is None:
        return None, None
    sent_at = sent.at or _time(item.get("sentAt"))
    if sent_at is None or sent.historical or received is not None:
        return raw, None
    try:
        corrected = delivery.received_at - (sent_at - raw)
    except OverflowError:
        return raw, None
    return raw, corrected if abs(corrected - raw) >= _LEAST_SKEW else None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _item(item: dict[str, Any], delivery: Delivery, sent: _Sent, kind: str, place: str) -> Found:
    """One call."""
    user, anonymous = text(item.get("userId")), text(item.get("anonymousId"))
    previous = text(item.get("previousId")) if kind == "alias" else None
    group = text(item.get("groupId")) if kind == "group" else None
    problems = []
    if user is None and anonymous is None and not (kind == "alias" and previous):
        problems.append(Problem(f"{place}/userId", "A call has 'userId' or 'anonymousId'.", "missing"))
    name = text(item.get("event")) if kind == "track" else None
    if kind == "track" and name is None:
        problems.append(
            Problem(f"{place}/event", "'event' is missing; a track names what happened.", "missing")
        )
    if kind == "alias" and previous is None:
        problems.append(Problem(f"{place}/previousId", "'previousId' is missing.", "missing"))
    if kind == "group" and group is None:
        problems.append(Problem(f"{place}/groupId", "'groupId' is missing.", "missing"))
    if problems:
        return Untranslated(place, problems)
    context, traits, properties = (_object(item.get(name)) for name in ("context", "traits", "properties"))
    identifiers: list[tuple[str, object]] = [("user", user), ("anonymous", anonymous)]
    if kind != "group":  # the traits of a group are the group's
        for known in (traits, context.get("traits")):
            if known and isinstance(known, dict):
                identifiers += [("email", text(known.get("email"))), ("phone", text(known.get("phone")))]
    channel = None
    if kind == "track":
        assert name is not None
        type_, data = _tracked(name, properties)
    elif kind in ("page", "screen"):
        type_, data = "web.page_viewed", _shown(item, properties)
        channel = "app" if kind == "screen" else None
    else:
        type_ = "profile.updated"
        data = {"traits": traits or None, "method": kind}
        if kind == "group":
            data["traits"] = {"group_id": group, "group": traits or None}
        if kind == "alias":
            identifiers.append(("anonymous", previous))
    if type_.startswith("web."):
        _web(data, properties, context)
    data["context"] = context or None
    raw, corrected = _times(item, delivery, sent)
    if corrected is not None:
        data["corrected_at"] = moment(corrected)
    if raw is None and item.get("timestamp") is not None:
        data["timestamp_given"] = item["timestamp"]  # it is no time; it is kept as it came
    return touchpoint(
        delivery,
        id=text(item.get("messageId")) or f"{delivery.unique}{place}",
        type=type_,
        at=raw,
        data=data,
        canonical=compared(item, but=_OF_THE_WAY),
        identifiers=identifiers,
        place=place,
        channel=channel,
    )


# ---- what is shown, and where ---------------------------------------------------------------------------


_PAGE = ("url", "path", "title", "referrer", "search")
_CAMPAIGN = {"source": "source", "medium": "medium", "name": "campaign", "term": "term", "content": "content"}


def _shown(item: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    rest = {n: v for n, v in properties.items() if not (n in _PAGE and isinstance(v, str))}
    name = first(item.get("name"), properties.get("name"))
    return {"name": name, "category": text(item.get("category")), "properties": rest or None}


def _web(data: dict[str, Any], properties: dict[str, Any], context: dict[str, Any]) -> None:
    """Where it happened: page, campaign and session, as the client says."""
    page, campaign = context.get("page"), context.get("campaign")
    places = (properties, page) if "event" not in data else (page,)
    for place in places:
        if isinstance(place, dict):
            for field in _PAGE:
                value = place.get(field)
                if value and field not in data and isinstance(value, str):
                    data[field] = value
    if "path" not in data and isinstance(data.get("url"), str):
        with suppress(ValueError):
            data["path"] = urlsplit(data["url"]).path or "/"
    if isinstance(campaign, dict):
        for theirs, ours in _CAMPAIGN.items():
            value = text(campaign.get(theirs))
            if value is not None:
                data[f"utm_{ours}"] = value
    session = first(context.get("sessionId"), inside(context, "session", "id"))
    if session is not None:
        data["session_id"] = session


# ---- track ----------------------------------------------------------------------------------------------


class _Of:
    """The properties of one track; what is taken out of them is not told a second time."""

    def __init__(self, properties: dict[str, Any]) -> None:
        self._given = properties
        self._taken: set[str] = set()
        self.currency = currency(properties.get("currency"))

    def text(self, *names: str) -> str | None:
        found: str | None = self._take(text, names)
        return found

    def whole(self, *names: str) -> int | None:
        found: int | None = self._take(whole, names)
        return found

    def money(self, *names: str) -> int | None:
        found: int | None = self._take(lambda value: minor(value, self.currency), names)
        return found

    def _take(self, read: Callable[[Any], Any], names: tuple[str, ...]) -> Any:
        for name in names:
            value = self._given.get(name)
            if value is not None and (found := read(value)) is not None:
                self._taken.add(name)
                return found
        return None

    def lines(self) -> list[dict[str, Any]] | None:
        products = self._given.get("products")
        if not isinstance(products, list) or not all(isinstance(p, dict) for p in products):
            return None
        return [_line(product, self.currency) for product in products] or None

    def rest(self) -> dict[str, Any] | None:
        if self.currency is not None:
            self._taken.add("currency")
        left = {name: value for name, value in self._given.items() if name not in self._taken}
        return left or None


def _line(product: dict[str, Any], code: str | None) -> dict[str, Any]:
    line = {
        "sku": first(product.get("sku"), product.get("product_id")),
        "name": text(product.get("name")),
        "quantity": quantity(product.get("quantity")),
        "unit_price_minor": minor(product.get("price"), code),
        "category": text(product.get("category")),
    }
    return {name: value for name, value in line.items() if value is not None}


def _order(of: _Of) -> dict[str, Any]:
    return {
        "order_id": of.text("order_id", "orderId"),
        "cart_id": of.text("cart_id", "checkout_id"),
        "currency": of.currency,
        "amount_minor": of.money("total", "revenue", "value"),
        "store": of.text("affiliation"),
        "lines": of.lines(),
    }


def _placed(of: _Of) -> dict[str, Any]:
    return _order(of) | {
        "coupon": of.text("coupon"),
        "discount_minor": of.money("discount"),
        "tax_minor": of.money("tax"),
        "shipping_minor": of.money("shipping"),
        "payment_method": of.text("payment_method"),
        "delivery_method": of.text("shipping_method"),
    }


def _reasoned(of: _Of) -> dict[str, Any]:
    return _order(of) | {"reason": of.text("reason")}


def _email(of: _Of) -> dict[str, Any]:
    return {
        "message_id": of.text("email_id", "message_id"),
        "campaign_id": of.text("campaign_id"),
        "subject": of.text("email_subject", "subject"),
    }


def _clicked(of: _Of) -> dict[str, Any]:
    return _email(of) | {"url": of.text("link_url", "url"), "link": of.text("link_id")}


def _unsubscribed(of: _Of) -> dict[str, Any]:
    return _email(of) | {"list_id": of.text("list_id")}


def _promoted(of: _Of) -> dict[str, Any]:
    return {
        "campaign_id": of.text("promotion_id", "campaign_id"),
        "campaign": of.text("campaign", "name", "campaign_name"),
        "offer": of.text("creative"),
        "response": "clicked",
    }


def _lead(of: _Of) -> dict[str, Any]:
    return {
        "lead_id": of.text("lead_id", "leadId", "id"),
        "campaign_id": of.text("campaign_id"),
        "agent": of.text("agent", "owner"),
    }


def _captured(of: _Of) -> dict[str, Any]:
    return _lead(of) | {
        "lead_source": of.text("lead_source", "source"),
        "interest": of.text("interest"),
        "company": of.text("company"),
    }


def _loyalty(of: _Of) -> dict[str, Any]:
    return {
        "program": of.text("program", "program_name"),
        "card_number": of.text("card_number", "loyalty_card"),
        "tier": of.text("tier"),
        "store": of.text("store", "store_id"),
        "order_id": of.text("order_id"),
        "balance_points": of.whole("balance", "balance_points"),
    }


def _points(of: _Of) -> dict[str, Any]:
    return _loyalty(of) | {"points": of.whole("points", "amount"), "reward": of.text("reward")}


_SPECS: dict[str, tuple[str, Callable[[_Of], dict[str, Any]]]] = {
    # https://segment.com/docs/connections/spec/ecommerce/v2/
    "order completed": ("order.placed", _placed),
    "completed order": ("order.placed", _placed),  # version 1 of the spec
    "order cancelled": ("order.cancelled", _reasoned),
    "order canceled": ("order.cancelled", _reasoned),
    "order refunded": ("order.refunded", _reasoned),
    "order paid": ("order.paid", _order),
    "order shipped": ("order.shipped", _order),
    "order delivered": ("order.delivered", _order),
    "order returned": ("order.returned", _reasoned),
    "promotion clicked": ("campaign.responded", _promoted),
    # https://segment.com/docs/connections/spec/email/
    "email sent": ("email.sent", _email),
    "email delivered": ("email.delivered", _email),
    "email opened": ("email.opened", _email),
    "email link clicked": ("email.clicked", _clicked),
    "email bounced": ("email.bounced", _email),
    "email marked as spam": ("email.complained", _email),
    "unsubscribed": ("email.unsubscribed", _unsubscribed),
    "email unsubscribed": ("email.unsubscribed", _unsubscribed),
    # names that the sources of sales and loyalty systems use
    "lead captured": ("lead.captured", _captured),
    "lead generated": ("lead.captured", _captured),
    "lead created": ("lead.captured", _captured),
    "lead assigned": ("lead.assigned", _lead),
    "lead qualified": ("lead.qualified", _lead),
    "campaign responded": ("campaign.responded", _promoted),
    "loyalty enrolled": ("loyalty.enrolled", _loyalty),
    "loyalty program joined": ("loyalty.enrolled", _loyalty),
    "loyalty card swiped": ("loyalty.card_swiped", _loyalty),
    "loyalty points earned": ("loyalty.points_earned", _points),
    "points earned": ("loyalty.points_earned", _points),
    "loyalty points redeemed": ("loyalty.points_redeemed", _points),
    "points redeemed": ("loyalty.points_redeemed", _points),
    "loyalty points expired": ("loyalty.points_expired", _points),
    "points expired": ("loyalty.points_expired", _points),
}


def _tracked(name: str, properties: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(type, data) of a track."""
    spec = _SPECS.get(" ".join(name.lower().replace("_", " ").split()))
    if spec is None:
        return "web.tracked", {"event": name, "properties": properties or None}
    type_, read = spec
    of = _Of(properties)
    data = {field: value for field, value in read(of).items() if value is not None}
    data["properties"] = of.rest()
    return type_, data


_UPDATED = "segment consent preference updated"


def _preferences(item: dict[str, Any], delivery: Delivery, kind: str, place: str) -> Iterator[Found]:
    """What a visitor allows by category, where it says so: `context.consent` of the event that tells of a change.

    Segment stamps the object on every other event too: those repeat it. Categories speak of the web, never of mails or calls.
    """
    if kind != "track" or " ".join((text(item.get("event")) or "").lower().split()) != _UPDATED:
        return
    given = inside(item, "context", "consent", "categoryPreferences")
    user, anonymous, message = (text(item.get(name)) for name in ("userId", "anonymousId", "messageId"))
    whom: list[tuple[str, object]] = [("user", user), ("anonymous", anonymous)]
    if not isinstance(given, dict) or (user or anonymous) is None:
        return
    for category, allowed in given.items():
        name = "_".join(re.findall(r"[^\W_]+", category.casefold()))[:64] if isinstance(category, str) else ""
        if not name or not isinstance(allowed, bool):
            continue
        yield consent_fact(
            delivery,
            id=f"{message or delivery.unique + place}:consent:{name}",
            state="given" if allowed else "withdrawn",
            at=_time(item.get("timestamp")) or _time(item.get("originalTimestamp")),
            whom=whom,
            contact=[each for each in whom if each[1]],
            purpose=name,
            channel="web",
            method="consent_manager",
            evidence={"category": category},
            place=place,
        )


SEGMENT = register(
    Channel(
        name="segment",
        meaning="Segment's HTTP tracking API: its SDKs and RudderStack's",
        translate=_translate,
    )
)
