"""Segment's routes; that its SDKs work unmodified shows `tests/acceptance/test_sdks.py`."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from adapters.http.segment import _without_key
from tests.integration.posting import made_key
from tests.integration.running import Served, served_http


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Served]:
    with served_http(tmp_path_factory.mktemp("segment") / "data", module_database_url) as running:
        yield running


def basic(key: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{key}:'.encode()).decode()}"}


def track(id: str, **more: Any) -> dict[str, Any]:
    return {"type": "track", "userId": "u-1", "event": "Clicked", "messageId": id, **more}


def recorded(http: httpx.Client, source: str) -> list[dict[str, Any]]:
    """All events of one source, in the order of the log."""
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        page = http.get("/v1/events", params={"after": after, "limit": 10_000}).json()
        found += [event for event in page["events"] if event["source"] == source]
        if not page["events"]:
            return found
        after = page["next"]


# ---- the routes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["track", "identify", "page", "screen", "group", "alias"])
def test_each_call_has_a_route_of_its_own(served: Served, call: str) -> None:
    key = made_key(served, "adapter", f"site/{call}")
    body = {"userId": "u-1", "messageId": f"one-{call}", "event": "x", "groupId": "g", "previousId": "a"}
    with served.client("") as http:
        for _ in range(2):
            answer = http.post(f"/v1/{call}", json=body, headers=basic(key))
            assert (answer.status_code, answer.json()) == (200, {"success": True})
    with served.client() as http:
        (event,) = recorded(http, f"site/{call}")
        assert event["id"] == f"one-{call}"


def test_the_write_key_may_stand_in_the_body_and_is_not_kept(served: Served) -> None:
    key = made_key(served, "adapter", "inside")
    with served.client("") as http:
        body = {"batch": [track("k-1"), {"type": "nothing"}], "writeKey": key}
        assert http.post("/v1/batch", json=body).status_code == 200
        assert http.post("/v1/batch", json={"batch": [track("k-2")]}).status_code == 401
        assert http.post("/v1/batch", json={"batch": [], "writeKey": "tl_no"}).status_code == 401
        assert http.post("/v1/batch", content=b"{}", headers={"Authorization": "Basic %%"}).status_code == 401
    with served.client() as http:
        assert [event["id"] for event in recorded(http, "inside")] == ["k-1"]


def test_a_call_that_cannot_be_decoded_spoils_neither_its_neighbours_nor_the_write_key(
    served: Served,
) -> None:
    # given a batch with a call whose text was cut within an emoji, as programs in JavaScript do, and the key inside
    key = made_key(served, "adapter", "cut")
    body = {"batch": [track("c-1"), track("c-2", properties={"x": "\ud83d"}), track("c-3")], "writeKey": key}
    raw = json.dumps(body).encode()
    # when it is sent
    with served.client("") as http:
        assert http.post("/v1/batch", content=raw).status_code == 200
        assert http.post("/v1/track", content=raw.replace(key.encode(), b"tl_no")).status_code == 401
    # then its neighbours are recorded, and what is kept of it holds all but the key
    with served.client() as http:
        assert [event["id"] for event in recorded(http, "cut")] == ["c-1", "c-3"]
    assert json.loads(_without_key(raw)) == {"batch": body["batch"]}


def test_a_key_that_may_not_append_is_refused(served: Served) -> None:
    with served.client("") as http:
        answer = http.post("/v1/track", json=track("x"), headers=basic(made_key(served, "analyst")))
        assert answer.status_code == 403


def test_gzip_and_limits_are_segments(served: Served) -> None:
    key = made_key(served, "adapter", "limits")
    with served.client("") as http:
        packed = gzip.compress(json.dumps({"batch": [track("g-1")]}).encode())
        headers = {**basic(key), "Content-Encoding": "gzip", "Content-Type": "application/json"}
        assert http.post("/v1/batch", content=packed, headers=headers).status_code == 200
        large = track("g-2", properties={"x": "y" * 33_000})
        assert http.post("/v1/track", json=large, headers=basic(key)).status_code == 400
        assert (
            http.post("/v1/batch", json={"batch": [large, track("g-3")]}, headers=basic(key)).status_code
            == 200
        )
        many = {"batch": [track(f"m-{n}", properties={"x": "y" * 10_000}) for n in range(60)]}
        assert http.post("/v1/batch", json=many, headers=basic(key)).status_code == 400
        assert http.post("/v1/batch", content=b"{no", headers=basic(key)).status_code == 400
    with served.client() as http:
        assert [event["id"] for event in recorded(http, "limits")] == ["g-1", "g-3"]


def test_a_payload_delivered_three_times_at_once_is_recorded_once(served: Served) -> None:
    key = made_key(served, "adapter", "thrice")
    body = {"batch": [track(f"t-{n}") for n in range(50)]}

    def send(attempt: int) -> int:
        with served.client("") as http:
            return http.post(
                "/v1/batch", json={**body, "sentAt": f"2026-01-01T00:00:0{attempt}Z"}, headers=basic(key)
            ).status_code

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(send, range(3))) == [200, 200, 200]
    with served.client() as http:
        assert sorted(event["id"] for event in recorded(http, "thrice")) == sorted(
            f"t-{n}" for n in range(50)
        )
