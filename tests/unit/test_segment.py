"""Segment's calls become touchpoints: what they say, of whom, when; and none without a key and a time."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import domain.touchpoints  # noqa: F401 - registers every declared type
from adapters.channels import CHANNELS, Delivery, Translated, Untranslated
from adapters.intake.cloudevents import Receipt, draft

PAYLOADS = Path(__file__).resolve().parents[3] / "shared" / "payloads"
RECEIVED = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def delivery(body: Any, call: str = "batch", received_at: datetime = RECEIVED) -> Delivery:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Delivery(body=raw, headers={}, received_at=received_at, source="shop", unique="u", call=call)


def read(body: Any, call: str = "batch") -> list[Translated | Untranslated]:
    return CHANNELS["segment"].read(delivery(body, call))


def one(body: dict[str, Any], call: str = "track", **more: Any) -> dict[str, Any]:
    """The event of one call, which ingest would take as it is."""
    item = {"messageId": "m-1", "userId": "u-1", "timestamp": "2026-11-22T11:00:00.000Z", **body, **more}
    (found,) = read(item, call)
    assert isinstance(found, Translated), found
    assert draft(found.payload, Receipt.of(RECEIVED)).warnings == []
    return found.event


def refs(event: dict[str, Any]) -> list[str]:
    return [event["subject"], *(r for r in event.get("identifiers", "").split(",") if r)]


def test_an_order_of_the_ecommerce_spec_is_an_order_placed_with_its_lines_in_minor_units() -> None:
    event = one(
        {
            "event": "Order Completed",
            "properties": {
                "order_id": "50314b8e9bcf000000000000",
                "total": 27.5,
                "revenue": 25,
                "shipping": 3,
                "tax": 2,
                "discount": 2.5,
                "coupon": "hasbros",
                "currency": "USD",
                "affiliation": "Google Store",
                "products": [
                    {"product_id": "507f", "sku": "45790-32", "name": "Monopoly", "price": 19, "quantity": 1}
                ],
                "colour of the box": "red",
            },
        }
    )
    assert event["type"] == "order.placed"
    data = event["data"]
    assert (data["order_id"], data["amount_minor"], data["currency"]) == (
        "50314b8e9bcf000000000000",
        2750,
        "USD",
    )
    assert (data["shipping_minor"], data["tax_minor"], data["discount_minor"]) == (300, 200, 250)
    assert data["lines"] == [{"sku": "45790-32", "name": "Monopoly", "quantity": 1, "unit_price_minor": 1900}]
    assert data["properties"] == {
        "revenue": 25,
        "colour of the box": "red",
        "products": data["properties"]["products"],
    }


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("Order Completed", "order.placed"),
        ("Order Refunded", "order.refunded"),
        ("Order Cancelled", "order.cancelled"),
        ("Email Opened", "email.opened"),
        ("Email Link Clicked", "email.clicked"),
        ("Email Marked as Spam", "email.complained"),
        ("Email Bounced", "email.bounced"),
        ("Unsubscribed", "email.unsubscribed"),
        ("Promotion Clicked", "campaign.responded"),
        ("lead_captured", "lead.captured"),
        ("Loyalty Points Earned", "loyalty.points_earned"),
        ("Product Viewed", "web.tracked"),
        ("Some Thing Of Theirs", "web.tracked"),
    ],
)
def test_a_track_is_of_the_type_that_its_spec_says_and_else_of_web_tracked(name: str, type_: str) -> None:
    assert one({"event": name, "properties": {"x": 1}})["type"] == type_


@pytest.mark.parametrize(("name", "told"), [("Email Opened", False), ("Order Completed", True)])
def test_what_a_type_of_ours_has_no_place_for_stays_among_the_properties(name: str, told: bool) -> None:
    event = one({"event": name, "properties": {"currency": "EUR", "total": 1, "seat": "4a"}})
    assert ("currency" in event["data"]["properties"]) is not told
    assert event["data"]["properties"]["seat"] == "4a"
    assert event["data"].get("currency") == ("EUR" if told else None)


def test_a_name_is_the_same_however_it_is_spaced() -> None:
    for name in (
        "Order Completed",
        "order_completed",
        "ORDER  Completed ",
        "order" + " " * 300 + "completed",
    ):
        assert one({"event": name, "properties": {}})["type"] == "order.placed"


@pytest.mark.parametrize(("bad", "code"), [({"n": 2**70}, "integer_too_large"), ({"s": "a\x00b"}, "nul")])
def test_what_no_event_may_hold_is_told_of_its_call_alone(bad: dict[str, Any], code: str) -> None:
    good = {"type": "page", "userId": "u", "messageId": "1", "properties": {"a": 1}}
    first, wrong, last = read(
        {"batch": [good, {**good, "messageId": "2", "properties": bad}, {**good, "messageId": "3"}]}
    )
    assert isinstance(first, Translated)
    assert isinstance(last, Translated)
    assert isinstance(wrong, Untranslated)
    assert [problem.code for problem in wrong.problems] == [code]


@pytest.mark.parametrize(
    ("value", "place", "code"),
    [
        (rb'"cut \ud83d"', "/batch/1/properties/a", "lone_surrogate"),
        (b"NaN", "/batch/1/properties/a", "not_json"),
        (b"1e999", "/batch/1/properties/a", "number_too_large"),
        (b'"gr\xfcn"', "/batch/1/properties/a", "not_utf8"),
        (b"[" * 2_000 + b"]" * 2_000, "/batch/1/properties/a" + "/0" * 8, "nested_too_deeply"),
        (b"9" * 5_000, "/batch/1/properties/a", "integer_too_large"),
    ],
    ids=["half a pair", "NaN", "beyond a float", "no UTF-8", "too deep", "beyond 64 bits"],
)
@pytest.mark.parametrize(
    "head", [b'{"sentAt":"2026-11-22T10:00:00Z","batch":[', b'\xef\xbb\xbf{"x":{"batch":[1]},"batch": [ ']
)
def test_a_call_that_cannot_be_decoded_spoils_none_of_a_batch(
    head: bytes, value: bytes, place: str, code: str
) -> None:
    # given a batch of which one call holds what some languages write and JSON has not
    call = b'{"type":"track","event":"x, \\"y","userId":"u","timestamp":"2026-11-22T10:00:00Z","messageId":"%b","properties":{"a":%b}}'
    batch = b" , ".join([call % (b"1", b"[1,{}]"), call % (b"2", value), call % (b"3", b'"]}"')])
    tail = b"]}" if b"sentAt" in head else b' ],"sentAt":"2026-11-22T10:00:00Z"}\n'
    # when it is read
    first, wrong, last = read(head + batch + tail)
    # then that one is told with its place, and its neighbours are touchpoints, their times corrected as ever
    assert isinstance(wrong, Untranslated)
    assert [(problem.pointer, problem.code) for problem in wrong.problems] == [(place, code)]
    for good, id_ in ((first, "1"), (last, "3")):
        assert isinstance(good, Translated)
        assert good.event["id"] == id_
        assert good.event["data"]["corrected_at"] == "2026-11-22T12:00:00.000000Z"


def test_a_lone_call_that_cannot_be_decoded_is_told_with_its_place() -> None:
    (found,) = read(rb'{"event":"x","userId":"u","properties":{"name":"cut \ud83d"}}', "track")
    assert isinstance(found, Untranslated)
    assert [(p.pointer, p.code) for p in found.problems] == [("/properties/name", "lone_surrogate")]


def test_all_calls_say_whom_they_are_about() -> None:
    tracked = one({"event": "x", "anonymousId": "a-1", "context": {"traits": {"email": "ann@example.com"}}})
    assert refs(tracked) == ["user:u-1", "anonymous:a-1", "email:ann@example.com"]
    identified = one({"traits": {"email": "ann@example.com", "phone": "+4420", "plan": "gold"}}, "identify")
    assert identified["type"] == "profile.updated"
    assert refs(identified) == ["user:u-1", "email:ann@example.com", "phone:+4420"]
    assert identified["data"]["traits"]["plan"] == "gold"
    aliased = one({"previousId": "a-9"}, "alias")
    assert refs(aliased) == ["user:u-1", "anonymous:a-9"]
    grouped = one({"groupId": "g-9", "traits": {"email": "office@example.com"}}, "group")
    assert refs(grouped) == ["user:u-1"]
    assert grouped["data"]["traits"]["group_id"] == "g-9"


def test_a_page_tells_where_it_is() -> None:
    event = one(
        {
            "name": "Home",
            "properties": {"url": "https://example.com/a?utm_source=x", "title": "T", "colour": 1},
        },
        "page",
    )
    assert event["type"] == "web.page_viewed"
    assert event["data"]["path"] == "/a"
    assert event["data"]["title"] == "T"
    assert event["data"]["properties"] == {"colour": 1}
    assert one({"name": "Cart"}, "screen")["channel"] == "app"


def test_the_corrected_time_stands_beside_the_one_that_the_client_gave() -> None:
    # given a client whose clock is an hour behind: it sends at 11:00 what arrives at 12:00
    event = one({"event": "x", "timestamp": "2026-11-22T10:50:00Z", "sentAt": "2026-11-22T11:00:00Z"})
    assert event["time"] == "2026-11-22T10:50:00.000000Z"
    assert event["data"]["corrected_at"] == "2026-11-22T11:50:00.000000Z"
    # and where the clocks agree there is nothing to correct
    assert "corrected_at" not in one({"event": "x", "sentAt": "2026-11-22T12:00:00Z"})["data"]


def test_history_that_is_imported_is_not_corrected() -> None:
    item = {
        "type": "track",
        "event": "x",
        "userId": "u",
        "messageId": "m",
        "timestamp": "2020-01-01T00:00:00Z",
    }
    body = {"batch": [item], "sentAt": "2026-11-22T11:00:00Z"}
    (imported,) = read(body, "import")
    (sent,) = read(body, "batch")
    assert isinstance(imported, Translated)
    assert isinstance(sent, Translated)
    assert "corrected_at" not in imported.event["data"]
    assert "corrected_at" in sent.event["data"]


def test_what_segment_forwards_keeps_the_clients_own_time() -> None:
    event = one(
        {
            "event": "x",
            "originalTimestamp": "2026-11-22T10:50:00Z",
            "timestamp": "2026-11-22T11:50:00Z",
            "receivedAt": "2026-11-22T12:00:00Z",
            "sentAt": "2026-11-22T11:00:00Z",
        }
    )
    assert event["time"] == "2026-11-22T10:50:00.000000Z"
    assert event["data"]["corrected_at"] == "2026-11-22T11:50:00.000000Z"


def test_a_retry_that_was_sent_at_another_time_is_the_same_thing() -> None:
    item = {
        "type": "track",
        "event": "x",
        "userId": "u",
        "messageId": "m",
        "timestamp": "2026-11-22T11:00:00Z",
    }
    (first,) = read({"batch": [{**item, "sentAt": "2026-11-22T11:00:01Z"}], "sentAt": "2026-11-22T11:00:01Z"})
    (again,) = read({"sentAt": "2026-11-22T11:05:01Z", "batch": [{**item, "sentAt": "2026-11-22T11:05:01Z"}]})
    assert isinstance(first, Translated)
    assert isinstance(again, Translated)
    assert first.canonical == again.canonical
    (other,) = read({"batch": [{**item, "event": "y"}]})
    assert isinstance(other, Translated)
    assert other.canonical != first.canonical


def test_null_ids_are_none_and_one_bad_call_spoils_no_neighbour() -> None:
    good = {"type": "track", "event": "x", "userId": None, "anonymousId": "a", "messageId": "1"}
    nobody = {"type": "track", "event": "x", "userId": None, "anonymousId": None, "messageId": "2"}
    unnamed = {"type": "track", "userId": "u", "messageId": "3"}
    big = {**good, "messageId": "4", "properties": {"x": "y" * 33_000}}
    found = read({"batch": [good, nobody, unnamed, "text", big, {**good, "messageId": "5"}]})
    assert [isinstance(f, Translated) for f in found] == [True, False, False, False, False, True]
    assert isinstance(found[0], Translated)
    assert refs(found[0].event) == ["anonymous:a"]
    assert [f.problems[0].pointer for f in found if isinstance(f, Untranslated)] == [
        "/batch/1/userId",
        "/batch/2/event",
        "/batch/3",
        "/batch/4",
    ]


def test_a_call_without_message_id_has_a_key_of_its_own() -> None:
    item = {"type": "track", "event": "x", "userId": "u"}
    found = read({"batch": [item, item]})
    ids = [f.event["id"] for f in found if isinstance(f, Translated)]
    assert len(set(ids)) == 2


@pytest.mark.parametrize("file", sorted(p.name for p in (PAYLOADS / "_wire").glob("*batch*.http")))
def test_the_requests_of_real_clients_translate_whole(file: str) -> None:
    head, _, body = (PAYLOADS / "_wire" / file).read_bytes().partition(b"\r\n\r\n")
    if b"gzip" in head.lower().split(b"content-encoding")[-1][:10]:
        body = gzip.decompress(body)
    batch = json.loads(body)["batch"]
    found = read(body)
    assert len(found) == len(batch)
    for sent, told in zip(batch, found, strict=True):
        assert isinstance(told, Translated), told
        assert told.event["id"] == sent["messageId"]
        draft(told.payload, Receipt.of(RECEIVED))
