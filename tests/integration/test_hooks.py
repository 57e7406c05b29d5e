"""Webhooks end to end: signed payloads become history, once; what is not signed leaves nothing behind."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, TypeVar
from urllib.parse import urlencode

import psycopg
import pytest
from psycopg import sql

from adapters.channels import CHANNELS, Channel, Delivery
from adapters.channels.channel import Found, json_of, touchpoint
from adapters.channels.values import at_time
from adapters.endpoints import Endpoints
from bin.commands.rejected import retry
from bin.compose import core
from tests.contract.test_vendors import SAMPLES, Known
from tests.integration.running import Served, served_http
from tests.unit.test_signatures import VECTORS_OF_ALL, Vector, passes, with_body
from tests.waiting import wait_until

T = TypeVar("T")
ORDER = {
    "id": 820982911946154508,
    "email": "jon@example.com",
    "created_at": "2026-09-10T04:26:51-04:00",
    "updated_at": "2026-09-10T04:26:51-04:00",
    "order_number": 1234,
    "total_price": "254.98",
    "currency": "USD",
    "customer": {"id": 115310627314723954, "email": "jon@example.com", "phone": None},
    "line_items": [
        {"id": 866550311766439020, "title": "IPod Nano", "quantity": 1, "price": "199.00", "sku": "IPOD"}
    ],
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Served]:
    with served_http(tmp_path_factory.mktemp("hooks") / "data", module_database_url) as running:
        yield running


def with_endpoints(served: Served, work: Callable[[Endpoints], Awaitable[T]]) -> T:
    async def run() -> T:
        async with core(served.settings, served.database_url, pool_size=2) as parts:
            return await work(Endpoints(parts.pool, parts.subjects, parts.keys))

    return asyncio.run(run())


def added(served: Served, channel: str, name: str, secret: str, **more: Any) -> str:
    with_endpoints(served, lambda endpoints: endpoints.add(channel, name, secret, **more))
    return f"/hooks/{channel}/{name}"


def shopify(
    body: dict[str, Any], secret: str, event: str = "e-1", **more: str
) -> tuple[bytes, dict[str, str]]:
    raw = json.dumps(body).encode()
    mac = base64.b64encode(hmac.new(secret.encode(), raw, hashlib.sha256).digest()).decode()
    headers = {"X-Shopify-Topic": "orders/create", "X-Shopify-Event-Id": event, "X-Shopify-Hmac-Sha256": mac}
    return raw, {"Content-Type": "application/json", **headers, **more}


def counts(served: Served) -> tuple[int, int]:
    """(events, rejected) in the database."""
    with psycopg.connect(served.database_url) as conn:
        row = conn.execute(
            "SELECT (SELECT position FROM touchpoint_log.head), (SELECT count(*) FROM touchlog.rejected)"
        ).fetchone()
    assert row
    return int(row[0]), int(row[1])


def history(served: Served, ref: str) -> list[dict[str, Any]]:
    served.project()
    with served.client() as http:
        entries: list[dict[str, Any]] = http.get(f"/v1/persons/{ref}/history").json()["entries"]
        return entries


def test_a_shopify_order_delivered_three_times_at_once_is_one_entry_of_a_history(served: Served) -> None:
    path = added(served, "shopify", "main", "hush")
    body, headers = shopify(ORDER, "hush")

    def deliver(n: int) -> dict[str, int]:
        with served.client("") as http:
            answer = http.post(path, content=body, headers={**headers, "X-Shopify-Webhook-Id": f"d-{n}"})
            assert answer.status_code == 200, answer.text
            told: dict[str, int] = answer.json()
            return told

    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(deliver, range(3)))
    assert sum(answer["recorded"] for answer in answers) == 1
    assert sum(answer["duplicates"] for answer in answers) == 2
    (entry,) = history(served, "email:jon@example.com")
    assert entry["type"] == "order.placed"
    assert entry["data"]["order_id"] == "820982911946154508"
    assert entry["data"]["amount_minor"] == 25498
    assert history(served, "user:115310627314723954") == [entry]


def test_a_stripe_charge_and_a_twilio_call_are_entries_too(served: Served) -> None:
    stripe = added(served, "stripe", "pay", "whsec_x")
    charge = {
        "object": "charge",
        "id": "ch_1",
        "amount": 4200,
        "currency": "eur",
        "receipt_email": "sue@example.com",
    }
    event = {"id": "evt_1", "type": "charge.succeeded", "created": 1773500000, "data": {"object": charge}}
    raw, t = json.dumps(event).encode(), str(int(time.time()))
    mac = hmac.new(b"whsec_x", t.encode() + b"." + raw, hashlib.sha256).hexdigest()
    with served.client("") as http:
        answer = http.post(stripe, content=raw, headers={"Stripe-Signature": f"t={t},v1={mac}"})
        assert answer.json()["recorded"] == 1
    (entry,) = history(served, "email:sue@example.com")
    assert (entry["type"], entry["data"]["amount_minor"]) == ("order.paid", 4200)

    twilio = added(served, "twilio", "calls", "token")
    form = {
        "CallSid": "CA1", "SequenceNumber": "3", "CallStatus": "completed", "CallDuration": "49", "Duration": "1",
        "Direction": "outbound-api", "From": "+16465550100", "To": "+442079460000", "Timestamp": "Sun, 25 Mar 2018 09:53:19 +0000",
    }  # fmt: skip
    signed = served.url + twilio + "".join(k + form[k] for k in sorted(form))
    signature = base64.b64encode(hmac.new(b"token", signed.encode(), hashlib.sha1).digest()).decode()
    with served.client("") as http:
        headers = {"X-Twilio-Signature": signature, "Content-Type": "application/x-www-form-urlencoded"}
        answer = http.post(twilio, content=urlencode(form), headers=headers)
        assert answer.json()["recorded"] == 1, answer.text
    (entry,) = history(served, "phone:+442079460000")
    assert (entry["type"], entry["data"]["duration_s"], entry["direction"]) == ("call.ended", 49, "outbound")


def test_what_is_not_signed_or_not_now_leaves_nothing_behind(served: Served) -> None:
    path = added(served, "shopify", "strict", "right")
    stripe = added(served, "stripe", "strict", "whsec_y")
    before = counts(served)
    body, headers = shopify(ORDER, "wrong", "never")
    good, right = shopify(ORDER, "right", "never")
    raw, t = b'{"id":"evt_2"}', str(int(time.time()) - 301)
    stale = hmac.new(b"whsec_y", t.encode() + b"." + raw, hashlib.sha256).hexdigest()
    with served.client("") as http:
        assert http.post(path, content=body, headers=headers).status_code == 401
        assert http.post(path, content=good[:-1] + b" ", headers=right).status_code == 401
        assert http.post(path, content=good).status_code == 401
        assert (
            http.post(stripe, content=raw, headers={"Stripe-Signature": f"t={t},v1={stale}"}).status_code
            == 401
        )
        assert http.post("/hooks/shopify/nobody", content=good, headers=right).status_code == 404
    assert counts(served) == before


@pytest.mark.parametrize(
    "vector", [v for v in VECTORS_OF_ALL if v.arrived.method == "POST"], ids=lambda vector: vector.name
)
def test_each_vendors_vector_is_taken_and_changed_stale_or_under_another_secret_it_leaves_nothing_behind(
    served: Served, vector: Vector
) -> None:
    # given endpoints that take it at any time, only now, and under another secret
    channel = "webhook" if vector.scheme == "standard" else vector.scheme
    url = vector.arrived.urls[0] if vector.arrived.urls else ""
    other = vector.secret[:-3] + ("abc" if not vector.secret.endswith("abc") else "abd")
    ends = (("any", vector.secret, 0.0), ("now", vector.secret, None), ("other", other, 0.0))

    async def made(endpoints: Endpoints) -> None:
        for kind, secret, tolerance_s in ends:
            name = f"{vector.name}-{kind}"
            await endpoints.add(channel, name, secret, url=url, tolerance_s=tolerance_s)

    with_endpoints(served, made)
    body, headers = vector.arrived.body, dict(vector.arrived.headers)

    def post(kind: str, content: bytes) -> int:
        with served.client("") as http:
            answer = http.post(f"/hooks/{channel}/{vector.name}-{kind}", content=content, headers=headers)
        return answer.status_code

    def behind() -> Any:
        with psycopg.connect(served.database_url) as conn:
            return conn.execute(
                "SELECT (SELECT count(*) FROM touchpoint_log.events), (SELECT count(*) FROM touchlog.rejected), "
                "(SELECT count(*) FROM touchlog.endpoint_tokens), (SELECT count(*) FROM touchlog.channel_numbers)"
            ).fetchone()

    before = behind()
    flipped = (with_body(vector.arrived, _one_bit_off(body, at)) for at in range(len(body)))
    forged = next(one for one in flipped if not passes(vector, arrived=one))

    # then only what is signed is taken
    assert post("any", forged.body) == 401
    assert post("other", body) == 401
    if vector.timed:
        assert post("now", body) == 401
    assert behind() == before
    assert post("any", body) == 200


def _one_bit_off(body: bytes, at: int) -> bytes:
    at = (at + len(body) // 2) % len(body)  # from the middle on
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


@pytest.mark.parametrize(
    "vendor", sorted({known.channel for known in SAMPLES.values()} - {"delighted", "webhook"})
)
def test_all_that_a_vendor_sends_is_answered_200_and_recorded_once(served: Served, vendor: str) -> None:
    # given an endpoint for a vendor, and each of our samples of what it sends
    path = f"{added(served, vendor, 'samples', 's3cret', scheme='token')}?token=s3cret"
    known = [sample for sample in SAMPLES.values() if sample.channel == vendor]

    def post(sample: Known) -> dict[str, int]:
        with served.client("") as http:
            answer = http.post(path, content=sample.body, headers=sample.headers)
        assert answer.status_code == 200, (sample.name, answer.text)
        told: dict[str, int] = answer.json()
        return told

    # when all of it comes, and comes again
    first, again = [post(sample) for sample in known], [post(sample) for sample in known]

    # then nothing is refused, and nothing is there twice
    assert sum(told["rejected"] + told["conflicts"] for told in first + again) == 0
    assert sum(told["recorded"] for told in first) > 0
    assert sum(told["recorded"] for told in again) == 0
    with served.client("") as http:
        assert http.post(path[:-1], content=known[0].body, headers=known[0].headers).status_code == 401


def test_a_rotated_secret_is_taken_beside_the_old_one_for_as_long_as_was_said(served: Served) -> None:
    path = added(served, "shopify", "rotated", "old")
    with_endpoints(served, lambda e: e.rotate("shopify", "rotated", "new", keep=timedelta(hours=1)))

    def status(secret: str) -> int:
        body, headers = shopify(ORDER, secret, "rotated")
        with served.client("") as http:
            return http.post(path, content=body, headers=headers).status_code

    assert (status("new"), status("old")) == (200, 200)
    with_endpoints(served, lambda e: e.rotate("shopify", "rotated", "newest", keep=timedelta(0)))
    wait_until(lambda: status("old") == 401, "the old secret to be taken no longer")
    assert (status("newest"), status("new")) == (200, 401)


def test_a_paused_endpoint_asks_for_a_later_delivery(served: Served) -> None:
    path = added(served, "shopify", "paused", "s")
    with_endpoints(served, lambda e: e.pause("shopify", "paused", paused=True))
    body, headers = shopify(ORDER, "s", "paused")
    with served.client("") as http:
        assert http.post(path, content=body, headers=headers).status_code == 503


def test_secrets_are_nowhere_in_the_database_in_plain(served: Served) -> None:
    added(served, "shopify", "sealed", "a-very-telling-secret")
    added(served, "whatsapp", "sealed", "app-secret-x", settings={"verify_token": "tell-nobody"})
    with psycopg.connect(served.database_url) as conn:
        tables = conn.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'touchlog'"
        )
        for (table,) in tables.fetchall():
            query = sql.SQL("SELECT t::text FROM touchlog.{} t").format(sql.Identifier(table))
            rows = str(conn.execute(query).fetchall())
            for secret in ("a-very-telling-secret", "app-secret-x", "tell-nobody"):
                assert secret not in rows, table
                assert secret.encode().hex() not in rows, table


def test_handshakes_are_answered(served: Served) -> None:
    meta = added(served, "whatsapp", "meta", "app", settings={"verify_token": "vt"})
    asked = {"hub.mode": "subscribe", "hub.challenge": "1158201444"}
    with served.client("") as http:
        assert http.get(meta, params={**asked, "hub.verify_token": "vt"}).text == "1158201444"
        assert http.get(meta, params={**asked, "hub.verify_token": "no"}).status_code == 403
    slack = added(served, "slack", "app", "sign")
    raw, t = b'{"type":"url_verification","challenge":"c-1"}', str(int(time.time()))
    mac = hmac.new(b"sign", b"v0:" + t.encode() + b":" + raw, hashlib.sha256).hexdigest()
    with served.client("") as http:
        answer = http.post(
            slack, content=raw, headers={"X-Slack-Request-Timestamp": t, "X-Slack-Signature": f"v0={mac}"}
        )
        assert answer.json() == {"challenge": "c-1"}
        assert http.post(slack, content=raw).status_code == 401


def test_a_mailgun_token_is_good_for_one_body_only(served: Served) -> None:
    path = added(served, "mailgun", "mail", "key")
    t = str(int(time.time()))
    signature = {
        "timestamp": t,
        "token": "tok",
        "signature": hmac.new(b"key", f"{t}tok".encode(), hashlib.sha256).hexdigest(),
    }
    with served.client("") as http:
        first = json.dumps({"signature": signature, "event-data": {"id": "1"}}).encode()
        forged = json.dumps({"signature": signature, "event-data": {"id": "2"}}).encode()
        assert [http.post(path, content=c).status_code for c in (first, forged, first)] == [200, 401, 200]


def test_a_dead_letter_is_kept_whole_and_recorded_once_it_can_be_translated(served: Served) -> None:
    # given a signed delivery whose time is out of range: its event is refused, the delivery kept
    path = added(served, "shopify", "letters", "s")
    body, headers = shopify({**ORDER, "created_at": "1066-10-14T09:00:00Z"}, "s", "letter-1")
    with served.client("") as http:
        answer = http.post(path, content=body, headers=headers)
    assert (answer.status_code, answer.json()["rejected"]) == (200, 1)

    async def work() -> tuple[list[Any], list[dict[str, Any]], list[dict[str, Any]]]:
        async with core(served.settings, served.database_url, pool_size=2) as parts:
            (kept,) = [one for one in await parts.rejected.list() if one.way_in == "hooks/shopify/letters"]
            shown = await parts.rejected.show(kept.id)
            still = await retry(parts, [kept.id], None)
            corrected = json.dumps(
                {
                    "specversion": "1.0",
                    "id": "letter-1",
                    "source": "shopify/letters",
                    "type": "order.placed",
                    "time": "2026-10-14T09:00:00Z",
                    "data": {"order_id": "1"},
                }
            ).encode()
            mended = await retry(parts, [kept.id], corrected)
            return [shown], still, mended

    (shown,), still, mended = asyncio.run(work())
    assert json.loads(json.loads(shown.payload)["body"]) == {**ORDER, "created_at": "1066-10-14T09:00:00Z"}
    assert still[0]["status"] == "rejected"
    assert mended[0]["status"] == "recorded"


def test_what_a_vendor_sent_before_its_channel_was_there_is_recorded_by_a_retry_after_the_update(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a delivery of a vendor that this version verifies and keeps
    path = added(served, "mailersend", "early", "s")
    body = b'{"id": "ms-1", "at": "2026-10-14T09:00:00Z"}'
    headers = {"signature": hmac.new(b"s", body, "sha256").hexdigest()}
    with served.client("") as http:
        assert http.post(path, content=body, headers=headers).json()["rejected"] == 1

    # when its channel has come
    def translate(delivery: Delivery) -> Iterator[Found]:
        told = json_of(delivery.body)
        yield touchpoint(
            delivery,
            id=told["id"],
            type="email.opened",
            at=at_time(told["at"]),
            data={},
            canonical=delivery.body,
        )

    monkeypatch.setitem(
        CHANNELS,
        "mailersend",
        Channel(name="mailersend", meaning="try", translate=translate, scheme="mailersend"),
    )

    async def work() -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
        async with core(served.settings, served.database_url, pool_size=2) as parts:
            (kept,) = [one for one in await parts.rejected.list() if one.way_in == "hooks/mailersend/early"]
            first, again = await retry(parts, [kept.id], None), await retry(parts, [kept.id], None)
            return first, again, (await parts.rejected.show(kept.id)).state

    first, again, state = asyncio.run(work())

    # then it is recorded by its own key and time, once, and settled
    assert first[0]["status"] == "recorded", first
    assert again[0]["was_settled"]
    assert state == "recorded"
    with served.client() as http:
        event = next(e for e in http.get("/v1/events?limit=1000").json()["events"] if e["id"] == "ms-1")
    assert (event["source"], event["type"], event["time"][:19]) == (
        "mailersend/early",
        "email.opened",
        "2026-10-14T09:00:00",
    )


def test_the_health_of_a_channel_counts_what_came_and_what_is_missing(served: Served) -> None:
    from adapters.postgres.channel_counts import channels_shown

    path = added(served, "shopify", "health", "s")
    for number in (1, 2, 5):
        body, headers = shopify({**ORDER, "id": number, "order_number": number}, "s", f"h-{number}")
        with served.client("") as http:
            for _ in range(2):
                assert http.post(path, content=body, headers=headers).status_code == 200

    async def shown() -> Any:
        async with core(served.settings, served.database_url, pool_size=2) as parts:
            return next(one for one in await channels_shown(parts.pool) if one.name == "health")

    one = wait_until(
        lambda: (found := asyncio.run(shown())).deliveries == 6 and found, "the counts to be written"
    )
    assert (one.recorded, one.duplicates, one.rejected, one.holes) == (3, 3, 0, 2)
    assert one.mean_lag_s > 0
