"""The Python SDK of CloudEvents, unmodified: what it makes is recorded as it was meant, in each mode."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1.conversion import to_binary as earlier_binary
from cloudevents.v1.conversion import to_json
from cloudevents.v1.conversion import to_structured as earlier_structured
from cloudevents.v1.http import CloudEvent as EarlierEvent

from tests.integration.running import Served, served_http

AT = datetime(2026, 11, 22, 11, 0, 0, 123456, tzinfo=UTC)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Served]:
    with served_http(tmp_path_factory.mktemp("sdk") / "data", module_database_url) as running:
        yield running


def attributes(id_: str, at: Any = AT) -> dict[str, Any]:
    earlier = id_ == "earlier-binary"  # which writes headers as they are: only ASCII without % travels so
    return {
        "specversion": "1.0",
        "id": id_,
        "source": "sdk/shop" if earlier else "sdk/café %25",
        "type": "call.ended",
        "time": at,
        "subject": "email:zoe@example.com" if earlier else "email:zoë@example.com",
        "datacontenttype": "application/json",
        "purpose": "care, all day",
    }


DATA = {"duration_s": 12, "outcome": "résolu"}


def messages() -> Iterator[tuple[str, dict[str, str], bytes]]:
    """(id, headers, body) of each mode, by both generations of the SDK."""
    message: HTTPMessage
    for mode, make in (("binary", to_binary_event), ("structured", to_structured_event)):
        message = make(CloudEvent(attributes(mode), DATA))
        yield mode, message.headers, message.body
    for mode, earlier in (("earlier-binary", earlier_binary), ("earlier-structured", earlier_structured)):
        headers, body = earlier(EarlierEvent(attributes(mode, AT.isoformat()), DATA))
        yield mode, dict(headers), body
    made = [to_json(EarlierEvent(attributes(f"batch-{n}", AT.isoformat()), DATA)) for n in range(3)]
    body = b"[" + b",".join(made) + b"]"
    yield "batch-0", {"content-type": "application/cloudevents-batch+json"}, body


@pytest.mark.parametrize(("id_", "headers", "body"), list(messages()))
def test_what_the_sdk_sends_is_recorded_as_it_was_meant(
    served: Served, id_: str, headers: dict[str, str], body: bytes
) -> None:
    with served.client() as http:
        answer = http.post("/v1/events", content=body, headers=headers)
        count = 3 if id_.startswith("batch") else 1
        assert answer.status_code == 200, answer.text
        assert answer.json()["recorded"] == count, answer.text
        assert http.post("/v1/events", content=body, headers=headers).json()["duplicates"] == count
        events = http.get("/v1/events", params={"limit": 100}).json()["events"]
        recorded = next(event for event in events if event["id"] == id_)
        assert recorded["source"] == attributes(id_)["source"], json.dumps(recorded)
        assert recorded["time"].startswith("2026-11-22T11:00:00.123456")
        assert recorded["purpose"] == "care, all day"
        assert recorded["data"]["duration_s"] == 12
