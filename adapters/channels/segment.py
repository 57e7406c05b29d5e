"""Segment's HTTP tracking API, as its SDKs and RudderStack's speak it.

Calls become touchpoints: page and screen `web.page_viewed`; identify, group and alias `profile.updated`; of
track the orders, e-mails, leads, loyalty and campaigns of Segment's published specs become ours, all else is
`web.tracked`. Times: `occurred_at` is the time that the client gives; what Segment makes of it,
`receivedAt - (sentAt - originalTimestamp)`, stands beside it as `corrected_at`, where the two differ by a second.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from adapters.channels.channel import (
    Channel,
    Delivery,
    Found,
    Untranslated,
    compared_soundly,
    json_of,
    register,
    touchpoint,
    undecodable,
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
from adapters.intake.payloads import items_of, members_of
from domain.entry import moment_once
from domain.errors import Invalid, Problem

__all__ = ["CALLS", "LARGEST_BATCH_BYTES", "LARGEST_CALL_BYTES", "SEGMENT"]

CALLS = ("track", "identify", "page", "screen", "group", "alias")
"""The kinds of call; `batch` and `import` carry many of them."""
LARGEST_CALL_BYTES = 32 * 2**10
LARGEST_BATCH_BYTES = 500 * 2**10

_OF_THE_WAY = frozenset(("sentAt", "writeKey", "receivedAt", "_metadata", "integrations"))
"""Members that speak of the way and not of what happened: a retry may change them."""
_LEAST_SKEW = timedelta(seconds=1)
_MILLISECOND = Decimal("0.001")


class _Sent(NamedTuple):
    """What a whole request says of the times of its items."""

    skew: timedelta | None  # by which our clock is ahead of the client's; None where that is not told
    historical: bool  # by /v1/import: sent long after, which is no fault of a clock

    @classmethod
    def of(cls, told: Any, delivery: Delivery) -> _Sent:
        """Of the member `sentAt`."""
        at = _time(told)
        return cls(None if at is None else delivery.received_at - at, delivery.call == "import")


def _translate(delivery: Delivery) -> Iterator[Found]:
    if delivery.call in CALLS:
        item = json_of(delivery.body)
        if not isinstance(item, dict):
            raise _none("", "A call is a JSON object.", "not_an_object")
        sent = _Sent.of(item.get("sentAt"), delivery)
        yield _item(item, delivery, sent, delivery.call, "")
        yield from _preferences(item, delivery, delivery.call, "")
        return
    calls: Sequence[bytes | msgspec.Raw]
    try:
        envelope = _envelope(delivery.body)
        calls, sent = envelope.batch, _Sent.of(envelope.sentAt, delivery)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        calls, sent = _undecoded(delivery)
    for number, raw in enumerate(calls):
        place = f"/batch/{number}"
        if len(raw) > LARGEST_CALL_BYTES:
            yield _too_large(len(raw), place)
            continue
        try:
            item = _decoded(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
            yield undecodable(bytes(raw), place)
            continue
        yield from _call(item, delivery, sent, place)


class _Envelope(msgspec.Struct):
    batch: list[msgspec.Raw]
    sentAt: str | int | float | None = None  # noqa: N815 - Segment's spelling


_envelope = msgspec.json.Decoder(_Envelope).decode
_decoded: Callable[[bytes | msgspec.Raw], Any] = msgspec.json.Decoder().decode


def _undecoded(delivery: Delivery) -> tuple[list[bytes], _Sent]:
    """The calls of a batch of which something cannot be decoded: one of them spoils no other."""
    members = members_of(delivery.body)
    batch = members.get("batch", b"")
    if batch[:1] != b"[":
        json_of(delivery.body)
        raise _none("/batch", "A batch is a JSON object with the calls in the list 'batch'.", "missing")
    sent_at = None
    with suppress(Invalid):
        sent_at = json_of(members.get("sentAt", b"null"))
    return items_of(batch), _Sent.of(sent_at, delivery)


def _too_large(size: int, place: str) -> Untranslated:
    detail = (
        f"The call has {size:,} bytes; at most {LARGEST_CALL_BYTES // 1024} KiB are taken, as Segment does."
    )
    return Untranslated(place, [Problem(place, detail, "too_large")])


def _call(item: Any, delivery: Delivery, sent: _Sent, place: str) -> Iterable[Found]:
    if not isinstance(item, dict):
        return (Untranslated(place, [Problem(place, "A call is a JSON object.", "not_an_object")]),)
    kind = item.get("type") or item.get("action")  # `action` is what the first SDKs wrote
    if kind not in CALLS:
        problem = Problem(f"{place}/type", f"'type' is one of {', '.join(CALLS)}.", "not_allowed")
        return (Untranslated(place, [problem]),)
    found = _item(item, delivery, sent, kind, place)
    if kind == "track" and type(item.get("context")) is dict and "consent" in item["context"]:
        return (found, *_preferences(item, delivery, kind, place))
    return (found,)


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
    get = item.get
    given, original, received = _time(get("timestamp")), None, None
    if "originalTimestamp" in item:
        original = _time(get("originalTimestamp"))
    if "receivedAt" in item:
        received = _time(get("receivedAt"))
    if original is not None and received is not None and given is not None:
        return original, given  # it went through Segment, which corrected it there
    raw = given or original
    if raw is None:
        return None, None
    skew = sent.skew
    if skew is None and "sentAt" in item:
        skew = _Sent.of(get("sentAt"), delivery).skew
    if skew is None or sent.historical or received is not None or -_LEAST_SKEW < skew < _LEAST_SKEW:
        return raw, None
    try:
        return raw, raw + skew
    except OverflowError:
        return raw, None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _whom(user: str | None, anonymous: str | None, *known: Any) -> list[tuple[str, object]]:
    """Who it was: by the ids, and by what the traits *known* say."""
    found: list[tuple[str, object]] = []
    if user is not None:
        found.append(("user", user))
    if anonymous is not None:
        found.append(("anonymous", anonymous))
    for traits in known:
        if traits and isinstance(traits, dict):
            if "email" in traits:
                found.append(("email", text(traits["email"])))
            if "phone" in traits:
                found.append(("phone", text(traits["phone"])))
    return found


def _item(item: dict[str, Any], delivery: Delivery, sent: _Sent, kind: str, place: str) -> Found:
    """One call."""
    get = item.get
    user, anonymous = text(get("userId")), text(get("anonymousId"))
    name = previous = group = None
    if kind == "track":
        name = named = text(get("event"))
    elif kind == "alias":
        previous = named = text(get("previousId"))
    elif kind == "group":
        group = named = text(get("groupId"))
    else:
        named = kind
    if named is None or (user is None and anonymous is None and previous is None):
        return Untranslated(place, list(_lacking(kind, place, named, user or anonymous)))
    context, properties = _object(get("context")), _object(get("properties"))
    traits = _object(get("traits"))
    if kind == "group":  # the traits of a group are the group's
        identifiers = _whom(user, anonymous)
    else:
        identifiers = _whom(user, anonymous, traits, context.get("traits"))
    channel = None
    if name is not None:
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
    if type_ in _OF_THE_WEB:
        _web(data, properties, context)
    data["context"] = context or None
    raw, corrected = _times(item, delivery, sent)
    if corrected is not None:
        data["corrected_at"] = moment_once(corrected)
    if raw is None and get("timestamp") is not None:
        data["timestamp_given"] = item["timestamp"]  # it is no time; it is kept as it came
    canonical, sound = compared_soundly(item, but=_OF_THE_WAY)
    return touchpoint(
        delivery,
        id=text(get("messageId")) or f"{delivery.unique}{place}",
        type=type_,
        at=raw,
        data=data,
        canonical=canonical,
        identifiers=identifiers,
        place=place,
        channel=channel,
        sound=sound,
    )


_OF_THE_WEB = ("web.page_viewed", "web.tracked")
"""Types that say where on the web it was."""


def _lacking(kind: str, place: str, named: str | None, who: str | None) -> Iterator[Problem]:
    """What a call of this *kind* has to say and does not."""
    if who is None and not (kind == "alias" and named):
        yield Problem(f"{place}/userId", "A call has 'userId' or 'anonymousId'.", "missing")
    if named is not None:
        return
    if kind == "track":
        yield Problem(f"{place}/event", "'event' is missing; a track names what happened.", "missing")
    elif kind == "alias":
        yield Problem(f"{place}/previousId", "'previousId' is missing.", "missing")
    else:
        yield Problem(f"{place}/groupId", "'groupId' is missing.", "missing")


# ---- what is shown, and where ---------------------------------------------------------------------------


_PAGE = frozenset(("url", "path", "title", "referrer", "search"))
_CAMPAIGN = {"source": "source", "medium": "medium", "name": "campaign", "term": "term", "content": "content"}


def _shown(item: dict[str, Any], properties: dict[str, Any]) -> dict[str, Any]:
    rest = {n: v for n, v in properties.items() if n not in _PAGE or not isinstance(v, str)}
    name = first(item.get("name"), properties.get("name"))
    return {"name": name, "category": text(item.get("category")), "properties": rest or None}


def _web(data: dict[str, Any], properties: dict[str, Any], context: dict[str, Any]) -> None:
    """Where it happened: page, campaign and session, as the client says."""
    page, campaign = context.get("page"), context.get("campaign")
    places = (properties, page) if "event" not in data else (page,)
    for place in places:
        if place and isinstance(place, dict):
            for field, value in place.items():
                if field in _PAGE and value and isinstance(value, str) and field not in data:
                    data[field] = value
    url = data.get("url")
    if url is not None and "path" not in data:
        with suppress(ValueError):
            data["path"] = urlsplit(url).path or "/"
    if isinstance(campaign, dict):
        for theirs, ours in _CAMPAIGN.items():
            value = text(campaign.get(theirs))
            if value is not None:
                data[f"utm_{ours}"] = value
    if "sessionId" in context or "session" in context:
        session = first(context.get("sessionId"), inside(context, "session", "id"))
        if session is not None:
            data["session_id"] = session


# ---- track ----------------------------------------------------------------------------------------------


class _Field(NamedTuple):
    """Where a field of ours stands among the properties of a track."""

    name: str
    theirs: tuple[str, ...]  # their names for it, the best first
    read: Callable[..., Any]  # None where it says nothing
    priced: bool = False  # read with the currency


_Fields = tuple[_Field, ...]


def _text(name: str, *theirs: str) -> _Field:
    return _Field(name, theirs or (name,), text)


def _whole(name: str, *theirs: str) -> _Field:
    return _Field(name, theirs or (name,), whole)


def _money(name: str, *theirs: str) -> _Field:
    return _Field(name, theirs, minor, priced=True)


_LINE = (
    _text("sku", "sku", "product_id"),
    _text("name"),
    _Field("quantity", ("quantity",), quantity),
    _money("unit_price_minor", "price"),
    _text("category"),
)


def _lines(products: Any, code: str | None) -> list[dict[str, Any]] | None:
    if not isinstance(products, list) or not all(isinstance(p, dict) for p in products):
        return None
    return [_read(_LINE, product, code, set()) for product in products] or None


_ORDER = (
    _text("order_id", "order_id", "orderId"),
    _text("cart_id", "cart_id", "checkout_id"),
    _Field("currency", ("currency",), lambda _, code: code, priced=True),
    _money("amount_minor", "total", "revenue", "value"),
    _text("store", "affiliation"),
    _Field("lines", ("products",), _lines, priced=True),
)
_PLACED = (
    *_ORDER,
    _text("coupon"),
    _money("discount_minor", "discount"),
    _money("tax_minor", "tax"),
    _money("shipping_minor", "shipping"),
    _text("payment_method"),
    _text("delivery_method", "shipping_method"),
)
_REASONED = (*_ORDER, _text("reason"))
_EMAIL = (
    _text("message_id", "email_id", "message_id"),
    _text("campaign_id"),
    _text("subject", "email_subject", "subject"),
)
_CLICKED = (*_EMAIL, _text("url", "link_url", "url"), _text("link", "link_id"))
_UNSUBSCRIBED = (*_EMAIL, _text("list_id"))
_PROMOTED = (
    _text("campaign_id", "promotion_id", "campaign_id"),
    _text("campaign", "campaign", "name", "campaign_name"),
    _text("offer", "creative"),
)
_LEAD = (_text("lead_id", "lead_id", "leadId", "id"), _text("campaign_id"), _text("agent", "agent", "owner"))
_CAPTURED = (*_LEAD, _text("lead_source", "lead_source", "source"), _text("interest"), _text("company"))
_LOYALTY = (
    _text("program", "program", "program_name"),
    _text("card_number", "card_number", "loyalty_card"),
    _text("tier"),
    _text("store", "store", "store_id"),
    _text("order_id"),
    _whole("balance_points", "balance", "balance_points"),
)
_POINTS = (*_LOYALTY, _whole("points", "points", "amount"), _text("reward"))


_SPECS: dict[str, tuple[str, _Fields]] = {
    # https://segment.com/docs/connections/spec/ecommerce/v2/
    "order completed": ("order.placed", _PLACED),
    "completed order": ("order.placed", _PLACED),  # version 1 of the spec
    "order cancelled": ("order.cancelled", _REASONED),
    "order canceled": ("order.cancelled", _REASONED),
    "order refunded": ("order.refunded", _REASONED),
    "order paid": ("order.paid", _ORDER),
    "order shipped": ("order.shipped", _ORDER),
    "order delivered": ("order.delivered", _ORDER),
    "order returned": ("order.returned", _REASONED),
    "promotion clicked": ("campaign.responded", _PROMOTED),
    # https://segment.com/docs/connections/spec/email/
    "email sent": ("email.sent", _EMAIL),
    "email delivered": ("email.delivered", _EMAIL),
    "email opened": ("email.opened", _EMAIL),
    "email link clicked": ("email.clicked", _CLICKED),
    "email bounced": ("email.bounced", _EMAIL),
    "email marked as spam": ("email.complained", _EMAIL),
    "unsubscribed": ("email.unsubscribed", _UNSUBSCRIBED),
    "email unsubscribed": ("email.unsubscribed", _UNSUBSCRIBED),
    # names that the sources of sales and loyalty systems use
    "lead captured": ("lead.captured", _CAPTURED),
    "lead generated": ("lead.captured", _CAPTURED),
    "lead created": ("lead.captured", _CAPTURED),
    "lead assigned": ("lead.assigned", _LEAD),
    "lead qualified": ("lead.qualified", _LEAD),
    "campaign responded": ("campaign.responded", _PROMOTED),
    "loyalty enrolled": ("loyalty.enrolled", _LOYALTY),
    "loyalty program joined": ("loyalty.enrolled", _LOYALTY),
    "loyalty card swiped": ("loyalty.card_swiped", _LOYALTY),
    "loyalty points earned": ("loyalty.points_earned", _POINTS),
    "points earned": ("loyalty.points_earned", _POINTS),
    "loyalty points redeemed": ("loyalty.points_redeemed", _POINTS),
    "points redeemed": ("loyalty.points_redeemed", _POINTS),
    "loyalty points expired": ("loyalty.points_expired", _POINTS),
    "points expired": ("loyalty.points_expired", _POINTS),
}


def _tracked(name: str, properties: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """(type, data) of a track."""
    spec = _SPECS.get(_folded(name) if len(name) <= _LONGEST_REMEMBERED else _fold(name))
    if spec is None:
        return "web.tracked", {"event": name, "properties": properties or None}
    type_, fields = spec
    code = currency(properties.get("currency"))
    told: set[str] = set()
    data = _read(fields, properties, code, told)
    if type_ == "campaign.responded":
        data["response"] = "clicked"
    # What is told is not told twice; of a product a line holds the main things only.
    data["properties"] = {n: v for n, v in properties.items() if n not in told or n == "products"} or None
    return type_, data


def _read(fields: _Fields, given: dict[str, Any], code: str | None, told: set[str]) -> dict[str, Any]:
    """What *given* says of *fields*; the names that said it are added to *told*."""
    data = {}
    for name, theirs, read, priced in fields:
        for each in theirs:
            value = given.get(each)
            if value is not None:
                found = read(value, code) if priced else read(value)
                if found is not None:
                    data[name] = found
                    told.add(each)
                    break
    return data


def _fold(name: str) -> str:
    return " ".join(name.lower().replace("_", " ").split())


_folded = lru_cache(maxsize=1_000)(_fold)  # a client tracks the same few names again and again
_LONGEST_REMEMBERED = 200  # characters


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
