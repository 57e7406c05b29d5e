"""CloudEvents, case by case: what the specification 1.0.2 allows is recorded, all else is told what it lacks.

The names of the single events are those of the conformance suite's JSON format, 10 valid and 25 invalid ones; each
is sent through the real HTTP door in every mode in which it can be written, and over NATS.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from nats.aio.client import Client

from adapters.embedded.processes import end
from adapters.nats.requests import Responder
from adapters.postgres.api_keys import ApiKeys
from bin.compose import Core
from tests.integration.running import Served, served_http
from tests.integration.test_nats import Bus, running

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
GONE: Any = object()


class Case(NamedTuple):
    """An event that differs from a minimal one, and what an answer says of it: (pointer, code) where it is refused."""

    name: str
    change: dict[str, Any]
    told: tuple[str, str] | None = None

    def event(self) -> dict[str, Any]:
        minimal = {"specversion": "1.0", "id": uuid4().hex, "type": "com.example.seen", "source": "/cases"}
        return {name: value for name, value in {**minimal, **self.change}.items() if value is not GONE}


_OPTIONAL = ("datacontenttype", "dataschema", "subject", "time")
VALID = [
    Case("minimal", {}),
    Case("null stands for an attribute that is not there", dict.fromkeys(_OPTIONAL)),
    Case(
        "all core attributes",
        {
            "datacontenttype": "text/plain",
            "dataschema": "https://example.com/schema",
            "subject": "user:tests",
            "time": "2018-04-05T17:31:00Z",
        },
    ),
    Case("time in UTC", {"time": "2018-04-05T17:31:00Z"}),
    Case("time to the nanosecond", {"time": "2018-04-05T17:31:00.000000000Z"}),
    Case("time east of Greenwich", {"time": "2018-04-05T18:31:00+01:00"}),
    Case("time west of Greenwich", {"time": "2018-04-05T16:31:00-01:00"}),
    Case("relative source", {"source": "#fragment"}),
    Case("text as data", {"datacontenttype": "text/plain", "data": "Simple text"}),
    Case(
        "extensions of all types",
        {
            "extinteger": 10,
            "extboolean": True,
            "extstring": "text",
            "exturi": "https://example.com",
            "exturiref": "//authority/path",
            "exttimestamp": "2023-03-31T15:12:00Z",
            "extbinary": "TWE=",
        },
    ),
    # beyond the suite's
    Case("null stands for an extension that is not there", {"extstring": None}),
    Case("bytes as data", {"datacontenttype": "image/png", "data_base64": "iVBORw=="}),
    Case("nothing as bytes", {"data_base64": ""}),
    Case("JSON that is no object as data", {"data": [1, "two", None]}),
    Case("null as data", {"data": None}),
    Case("parameters of a media type", {"datacontenttype": 'application/json; charset="utf-8"', "data": {}}),
    Case("a media type of one's own", {"datacontenttype": "application/vnd.shop.v1+json", "data": {"a": 1}}),
    Case("letters that are not ASCII", {"id": GONE, "source": "/läden/%25", "extstring": "Zoë 😀"}),
]
INVALID = [
    Case("no specversion", {"specversion": GONE}, ("/specversion", "specversion")),
    Case("no id", {"id": GONE}, ("/id", "missing")),
    Case("no type", {"type": GONE}, ("/type", "missing")),
    Case("no source", {"source": GONE}, ("/source", "missing")),
    Case("time that is none", {"time": "lunchtime"}, ("/time", "not_a_time")),
    Case("time to the minute", {"time": "2018-04-05T18:31Z"}, ("/time", "not_a_time")),
    Case("time with an offset X", {"time": "2018-04-05T18:31:00X"}, ("/time", "not_a_time")),
    Case("time with an offset of 25 hours", {"time": "2018-04-05T18:31:00+25:00"}, ("/time", "not_a_time")),
    Case("time with an offset of letters", {"time": "2018-04-05T18:31:00+xx:00"}, ("/time", "not_a_time")),
    Case("time with an offset of hours only", {"time": "2018-04-05T18:31:00+05"}, ("/time", "not_a_time")),
    Case("empty id", {"id": ""}, ("/id", "empty")),
    Case("empty type", {"type": ""}, ("/type", "empty")),
    Case("empty source", {"source": ""}, ("/source", "empty")),
    Case("empty specversion", {"specversion": ""}, ("/specversion", "specversion")),
    Case("unknown specversion", {"specversion": "0.9"}, ("/specversion", "specversion")),
    Case("no media type", {"datacontenttype": "xyz"}, ("/datacontenttype", "not_a_media_type")),
    Case("empty media type", {"datacontenttype": ""}, ("/datacontenttype", "empty")),
    Case("empty schema", {"dataschema": ""}, ("/dataschema", "empty")),
    Case("empty subject", {"subject": ""}, ("/subject", "empty")),
    Case("id that is a number", {"id": 25}, ("/id", "wrong_type")),
    Case("id that is an object", {"id": {"xyz": "abc"}}, ("/id", "wrong_type")),
    Case("extension with a capital", {"MyExtension": "bad"}, ("/MyExtension", "attribute_name")),
    Case("extension with a dot", {"my.extension": "bad"}, ("/my.extension", "attribute_name")),
    Case("extension that is a fraction", {"myextension": 1.5}, ("/myextension", "wrong_type")),
    Case("data twice", {"data": "text", "data_base64": "eyAieHl6IjogMTIzIH0="}, ("/data_base64", "both")),
    # beyond the suite's
    Case("time without a zone", {"time": "2018-04-05T18:31:00"}, ("/time", "no_zone")),
    Case("time that is a number", {"time": 1522949460}, ("/time", "wrong_type")),
    Case("time that nobody lived in", {"time": "0018-04-05T18:31:00Z"}, ("/time", "out_of_range")),
    Case("specversion that is a number", {"specversion": 1.0}, ("/specversion", "specversion")),
    Case("null as id", {"id": None}, ("/id", "missing")),
    Case("type that is a number", {"type": 7}, ("/type", "wrong_type")),
    Case("source that is a list", {"source": ["/a"]}, ("/source", "wrong_type")),
    Case("media type that is a number", {"datacontenttype": 7}, ("/datacontenttype", "wrong_type")),
    Case("schema that is an object", {"dataschema": {}}, ("/dataschema", "wrong_type")),
    Case("extension with a dash", {"my-extension": "bad"}, ("/my-extension", "attribute_name")),
    Case("extension with an underscore", {"my_extension": "bad"}, ("/my_extension", "attribute_name")),
    Case("extension with a slash", {"a/b": "bad"}, ("/a~1b", "attribute_name")),
    Case("extension without a name", {"": "bad"}, ("/", "attribute_name")),
    Case("extension that is an object", {"ext": {"a": 1}}, ("/ext", "wrong_type")),
    Case("extension that is a list", {"ext": [1]}, ("/ext", "wrong_type")),
    Case("extension beyond 64 bits", {"ext": 2**70}, ("/ext", "integer_too_large")),
    Case("data twice, one of them null", {"data_base64": None, "data": {}}, ("/data_base64", "both")),
    Case("bytes that are a number", {"data_base64": 7}, ("/data_base64", "wrong_type")),
    Case("bytes of a foreign alphabet", {"data_base64": "%%%%"}, ("/data_base64", "not_base64")),
    Case("bytes without their padding", {"data_base64": "TWE"}, ("/data_base64", "not_base64")),
]
NO_OBJECTS = ["not an object", 7, None, [], True]
CASES = [*VALID, *INVALID]
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Served]:
    with served_http(tmp_path_factory.mktemp("cases") / "data", module_database_url) as started:
        yield started


@pytest.fixture(scope="module")
def http(served: Served) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


def post(http: httpx.Client, body: Any, content_type: str, **headers: str) -> dict[str, Any]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = http.post("/v1/events", content=content, headers={"Content-Type": content_type, **headers})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def assert_told(result: dict[str, Any], case: Case) -> None:
    problems = [(problem["pointer"], problem["code"]) for problem in result["errors"]]
    if case.told is None:
        assert result["status"] == "recorded", result
    else:
        assert result["status"] == "rejected", result
        assert case.told in problems
        assert all(len(problem["detail"]) > 20 for problem in result["errors"])


def test_they_are_the_ten_and_the_twenty_five_of_the_specification_and_more() -> None:
    assert len(VALID) >= 10
    assert len(INVALID) >= 25
    assert len({case.name for case in CASES}) == len(CASES)


# ---- HTTP -----------------------------------------------------------------------------------------------


@each
def test_structured(http: httpx.Client, case: Case) -> None:
    event = case.event()
    if case.told is None:
        event["id"] = uuid4().hex
    (result,) = post(http, event, f"{STRUCTURED}; charset=utf-8")["results"]
    assert_told(result, case)


@each
def test_in_a_batch_it_stands_for_itself(http: httpx.Client, case: Case) -> None:
    # given a neighbour on each side, and what is no event at all
    good = Case("neighbour", {})
    event = case.event() | ({"id": uuid4().hex} if case.told is None else {})

    answer = post(http, [good.event(), event, *NO_OBJECTS, good.event()], BATCH)

    first, told, *no_objects, last = answer["results"]
    assert first["status"] == last["status"] == "recorded"
    assert_told(told, case)
    for result in no_objects:
        assert result["status"] == "rejected"
        assert result["errors"][0]["code"] == "not_an_object"
    assert answer["recorded"] == (3 if case.told is None else 2)


def in_headers(event: dict[str, Any]) -> dict[str, str] | None:
    """The headers of an event in binary mode (HTTP binding §3.1.3); None for one that cannot be written so."""
    found = {}
    for name, value in event.items():
        if name in ("data", "data_base64", "datacontenttype"):
            continue
        if value is None:
            continue
        if not isinstance(value, str | int) or not name.replace("-", "").replace("_", "").isalnum():
            return None
        text = str(value).lower() if isinstance(value, bool) else str(value)
        found[f"ce-{name}"] = quote(text, safe="!#$&'()*+,/:;=?@[]~-._ ")
    return found


BINARY = [
    case
    for case in CASES
    if in_headers(case.event()) is not None
    and not {"data", "data_base64", "datacontenttype"} & case.change.keys()
    # a header is always a text and has no capitals
    and not any(not isinstance(value, str) for value in case.change.values() if value not in (GONE, None))
    and "MyExtension" not in case.change
]


@pytest.mark.parametrize("case", BINARY, ids=lambda case: case.name)
def test_binary(http: httpx.Client, case: Case) -> None:
    event = case.event() | ({"id": uuid4().hex} if case.told is None else {})
    headers = in_headers(event)
    assert headers is not None

    (result,) = post(http, {"a": 1}, "application/json", **headers)["results"]

    told = case.told
    if told is not None and told[1] == "attribute_name":
        told = (told[0].replace("/", "/ce-"), told[1])  # the header is told by its whole name
    assert_told(result, case._replace(told=told))


@pytest.mark.parametrize(
    ("content_type", "body", "data"),
    [
        ("application/json", b'{"a": 1}', {"a": 1}),
        ("application/json; charset=utf-8", b'{"a": 1}', {"a": 1}),
        ("application/vnd.shop+json", b"[1]", [1]),
        ("text/plain", "grüße".encode(), "grüße"),
        ("application/xml", b"<a/>", "<a/>"),
        ("application/octet-stream", b"\x00\xff", None),
        ("application/json", b"", None),
    ],
)
def test_data_of_any_media_type_travels_whole_in_binary_mode(
    http: httpx.Client, content_type: str, body: bytes, data: Any
) -> None:
    id_ = uuid4().hex
    headers = in_headers(Case("", {"id": id_}).event())
    assert headers is not None

    (result,) = post(http, body, content_type, **headers)["results"]

    assert result["status"] == "recorded", result
    params = {"after": result["position"] - 1, "limit": 1}
    (event,) = http.get("/v1/events", params=params).json()["events"]
    if isinstance(data, dict):
        assert event["data"] == data
    elif data is not None:
        assert event["data"] == {"value": data}
    elif body:
        assert event["data"] == {"data_base64": base64.b64encode(body).decode()}


def test_headers_are_percent_decoded_once_and_quotes_are_undone(http: httpx.Client) -> None:
    id_ = uuid4().hex
    headers = {
        "ce-specversion": "1.0",
        "ce-id": f'"{id_} \\"x\\""',
        "ce-source": "/l%C3%A4den/%2525",
        "ce-type": "com.example.seen",
        "ce-comment": "Euro%20%E2%82%AC%20%F0%9F%98%80",
    }

    (result,) = post(http, {}, "application/json", **headers)["results"]

    assert result["status"] == "recorded", result
    (event,) = http.get("/v1/events", params={"after": result["position"] - 1, "limit": 1}).json()["events"]
    assert event["id"] == f'{id_} "x"'
    assert event["source"] == "/läden/%25"
    assert event["comment"] == "Euro € 😀"


@pytest.mark.parametrize("missing", ["ce-id", "ce-source", "ce-type", "ce-specversion"])
def test_a_header_that_is_missing_in_binary_mode_is_named(http: httpx.Client, missing: str) -> None:
    headers = in_headers(Case("", {}).event())
    assert headers is not None
    del headers[missing]

    (result,) = post(http, {}, "application/json", **headers)["results"]

    assert result["status"] == "rejected"
    assert [problem["pointer"] for problem in result["errors"]] == [missing.replace("ce-", "/")]


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        (STRUCTURED, b"{", 400),
        (STRUCTURED, b"", 400),
        (BATCH, b'[{"id": 1}', 400),
        (BATCH, b"[] []", 400),
        ("application/cloudevents+xml", b"<event/>", 415),
        ("application/cloudevents+json; charset=utf-16", b"{}", 415),
        ("text/plain", b"hello", 415),
    ],
)
def test_what_cannot_be_read_at_all_is_refused_as_a_whole(
    http: httpx.Client, content_type: str, body: bytes, status: int
) -> None:
    answer = http.post("/v1/events", content=body, headers={"Content-Type": content_type})
    assert answer.status_code == status, answer.text
    assert answer.json()["detail"]


def test_the_batches_of_the_specification(http: httpx.Client) -> None:
    minimal, core, typed = (VALID[n].event() for n in (0, 2, 9))
    for batch, statuses in (
        ([], []),
        ([minimal], ["recorded"]),
        ([{**minimal, "id": "twice"}] * 2, ["recorded", "duplicate"]),
        ([VALID[0].event(), core], ["recorded"] * 2),
        ([VALID[0].event(), typed], ["recorded"] * 2),
        ([VALID[0].event(), {**minimal, "specversion": "0.9"}], ["recorded", "rejected"]),
        ([INVALID[1].event()], ["rejected"]),
        (["not an object", VALID[0].event()], ["rejected", "recorded"]),
    ):
        assert [result["status"] for result in post(http, batch, BATCH)["results"]] == statuses


# ---- NATS -----------------------------------------------------------------------------------------------


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    started = Bus(tmp_path / "bus")
    yield started
    end(started.process, started.server.stop_signals, 10)


def test_over_nats_the_answers_are_the_same(tmp_path: Path, database_url: str, bus: Bus) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        signed = {"Authorization": f"Bearer {(await keys.add('adapter', sources=['*'])).key}"}
        await Responder(client, "touchlog", parts.ingest, keys, parts.feed, subject_names_key=False).start()

        async def asked(payload: bytes, **headers: str) -> dict[str, Any]:
            answer = await client.request(
                "touchlog.append", payload, timeout=30, headers={**signed, **headers}
            )
            (result,) = json.loads(answer.data)["results"]
            assert isinstance(result, dict)
            return result

        for case in CASES:
            event = case.event() | ({"id": uuid4().hex} if case.told is None else {})
            raw = json.dumps(event).encode()
            assert_told(await asked(raw, **{"Content-Type": STRUCTURED}), case)
        for case in BINARY:
            event = case.event() | ({"id": uuid4().hex} if case.told is None else {})
            headers = in_headers(event)
            assert headers is not None
            result = await asked(b'{"a": 1}', **headers)
            assert result["status"] == ("recorded" if case.told is None else "rejected"), (case, result)

    running(tmp_path, database_url, bus, test)
