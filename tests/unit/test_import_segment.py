"""Files of Segment's calls: each becomes what its route makes of it, under the same key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from adapters.channels import CHANNELS, Delivery, Translated
from adapters.deliveries import delivery_of
from adapters.imports import Options, Rejection, chosen, open_file
from adapters.intake.payloads import Payload

ORDER: dict[str, Any] = {
    "type": "track",
    "event": "Order Completed",
    "messageId": "m-1",
    "userId": "u-1",
    "timestamp": "2026-01-02T03:04:05Z",
    "properties": {"order_id": "o-1", "total": 10.5, "currency": "EUR", "batch": [1]},
}
PAGE: dict[str, Any] = {
    "type": "page",
    "anonymousId": "a-1",
    "name": "Home",
    "timestamp": "2026-01-02T03:04:05Z",
}


class Read:
    """What came out of a file."""

    def __init__(self, path: Path, text: str, name: str = "segment") -> None:
        path.write_text(text)
        with open_file(path) as file:
            found = list(chosen(name, file).read(file, Options(source="app/web")))
        self.rejected = [row for row in found if isinstance(row, Rejection)]
        self.payloads = [
            row.item for row in found if not isinstance(row, Rejection) and isinstance(row.item, Payload)
        ]
        self.places = [row.place for row in found]

    @property
    def ids(self) -> list[str]:
        return [payload.event["id"] for payload in self.payloads]


def posted(call: dict[str, Any]) -> Iterator[Payload]:
    """What the route makes of a call."""
    delivery = Delivery(
        body=json.dumps({"batch": [call], "sentAt": "2026-11-22T12:00:00Z"}).encode(),
        headers={},
        received_at=datetime.now(UTC),
        source="app/web",
        unique="x",
        call="batch",
    )
    for one in CHANNELS["segment"].read(delivery):
        assert isinstance(one, Translated)
        yield one.payload


@pytest.mark.parametrize(
    "text",
    [
        f"{json.dumps(ORDER)}\n\n{json.dumps(PAGE)}\n",
        json.dumps([ORDER, PAGE], indent=2),
        json.dumps({"batch": [ORDER, PAGE], "sentAt": "2026-01-02T03:04:06Z"}),
    ],
    ids=["lines", "array", "a body of the batch route"],
)
@pytest.mark.parametrize("format_name", ["segment", "auto"])
def test_a_file_of_calls_holds_what_the_route_would_have_recorded(
    tmp_path: Path, text: str, format_name: str
) -> None:
    # given calls in any form, when they are read, named or known by sight
    read = Read(tmp_path / "calls.json", text, format_name)
    # then each is an event under the key, and with the payload, that it has when it is posted
    (over_http,) = posted(ORDER)
    assert [p.event["type"] for p in read.payloads] == ["order.placed", "web.page_viewed"]
    assert read.payloads[0].event["id"] == over_http.event["id"] == "m-1"
    assert read.payloads[0].canonical == over_http.canonical
    assert read.payloads[0].event["data"]["order_id"] == "o-1"
    assert not read.rejected


def test_a_call_without_an_id_of_its_own_has_its_place_as_id_again_and_again(tmp_path: Path) -> None:
    text = "\n".join(json.dumps({**PAGE, "name": name}) for name in ("Home", "Home", "Shoes"))
    first, again = (Read(tmp_path / f"{n}.jsonl", text).ids for n in range(2))
    assert first == again
    assert len(set(first)) == 3


def test_what_is_no_call_is_told_with_its_place_and_can_be_tried_again(tmp_path: Path) -> None:
    # given bad calls beside good ones
    lines = [
        json.dumps(ORDER),
        '{"type":"page"}',
        '{"type":"nope","userId":"u"}',
        '{"type":"track",',
        json.dumps(PAGE),
    ]
    # when they are read
    read = Read(tmp_path / "calls.jsonl", "\n".join(lines))
    # then the good are there, and each bad one is told as it stands in the file
    assert len(read.payloads) == 2
    told = [(r.place, r.problems[0].pointer, r.problems[0].code) for r in read.rejected]
    assert told == [
        ("calls.jsonl line 2", "/userId", "missing"),
        ("calls.jsonl line 3", "/type", "not_allowed"),
        ("calls.jsonl line 4", "", "not_json"),
    ]
    # and is kept so that the channel can translate it again
    for one in read.rejected:
        kept = delivery_of(one.raw)
        assert kept is not None
        assert kept[0] == "segment"
        assert kept[1].source == "app/web"


def test_calls_in_bodies_of_the_batch_route_have_places_of_their_own_and_their_clocks_time(
    tmp_path: Path,
) -> None:
    # given a body that was sent long ago, with a bad call in it, and one that nests too deeply
    body = {"batch": [ORDER, {"type": "page"}, PAGE], "sentAt": "2026-01-02T03:04:06Z"}
    # when they are read
    read = Read(tmp_path / "calls.jsonl", f'{json.dumps(body)}\n{{"a":{"[" * 9_000}{"]" * 9_000}}}\n')
    # then each call is told by its place in the body, and no clock is blamed for the time that has passed
    assert read.places[:3] == [f"calls.jsonl line 1/batch/{n}" for n in range(3)]
    assert [r.place for r in read.rejected] == ["calls.jsonl line 1/batch/1", "calls.jsonl line 2"]
    assert not any("corrected_at" in p.event["data"] for p in read.payloads)


def test_a_call_that_cannot_be_decoded_spoils_no_neighbour_in_its_body(tmp_path: Path) -> None:
    # given a body of which one call holds half a character, as programs in JavaScript cut them
    cut = {**PAGE, "messageId": "cut", "properties": {"path": "/\ud83d"}}
    body = json.dumps({"batch": [ORDER, cut, PAGE]})
    # when it is read, beside lines that are no JSON, also where they would close what is opened around them
    read = Read(tmp_path / "calls.jsonl", "\n".join([body, json.dumps(PAGE) + "]", '{"type":']), "segment")
    # then the others are there, and what is wrong is told where it stands in the file
    assert [payload.event["type"] for payload in read.payloads] == ["order.placed", "web.page_viewed"]
    told = [(r.place, r.problems[0].pointer, r.problems[0].code) for r in read.rejected]
    assert told == [
        ("calls.jsonl line 1/batch/1", "/batch/1/properties/path", "lone_surrogate"),
        ("calls.jsonl line 2", "", "not_json"),
        ("calls.jsonl line 3", "", "not_json"),
    ]
    assert "at character 8." in read.rejected[2].problems[0].detail


def test_cloudevents_are_never_taken_for_calls(tmp_path: Path) -> None:
    event = {"specversion": "1.0", "id": "1", "source": "s", "type": "call.ended", "data": {"userId": "u"}}
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(event))
    with open_file(path) as file:
        assert chosen("auto", file).name == "cloudevents"
    path.write_text(json.dumps(PAGE))
    with open_file(path) as file:
        assert chosen("auto", file).name == "segment"
