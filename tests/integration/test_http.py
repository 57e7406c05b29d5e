"""HTTP: events come in by every mode of CloudEvents, once each; what was recorded can be read; errors help."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import stat
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from adapters.answers.feed import Feed
from adapters.embedded import prepare_folders, set_loading
from adapters.http.events import Intake
from adapters.http.house import House
from adapters.intake.bodies import events_of, whole_json
from adapters.postgres.api_keys import ApiKeys
from adapters.postgres.lane import Lane
from adapters.refusal import Refusal
from tests.integration.running import Served, served_http
from tests.waiting import wait_until

PAYLOADS = Path(__file__).resolve().parents[3] / "shared" / "payloads"
ONE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Served]:
    with served_http(tmp_path_factory.mktemp("http") / "data", module_database_url) as running:
        yield running


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


def made_key(served: Served, role: str, *sources: str) -> str:
    async def make() -> str:
        pool: AsyncConnectionPool[Any]
        async with AsyncConnectionPool(
            served.database_url, min_size=1, max_size=1, open=False, kwargs={"autocommit": True}
        ) as pool:
            return (await ApiKeys(pool).add(role, sources=sources)).key

    return asyncio.run(make())


def revoke(served: Served, key: str) -> None:
    async def revoked() -> None:
        pool: AsyncConnectionPool[Any]
        async with AsyncConnectionPool(
            served.database_url, min_size=1, max_size=1, open=False, kwargs={"autocommit": True}
        ) as pool:
            await ApiKeys(pool).revoke(key)

    asyncio.run(revoked())


def call(id: str | None = None, **more: Any) -> dict[str, Any]:
    event = {
        "specversion": "1.0",
        "id": id or uuid4().hex,
        "source": "shop",
        "type": "call.ended",
        "time": "2026-01-05T10:00:00Z",
        "subject": "email:ann@example.com",
        "data": {"duration_s": 42, "agent": "Bo", "summary": "about the lamp"},
    }
    return {name: value for name, value in {**event, **more}.items() if value is not None}


def post(client: httpx.Client, body: Any, content_type: str = ONE, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/v1/events", content=content, headers={"Content-Type": content_type, **headers})


def only(answer: httpx.Response) -> dict[str, Any]:
    """Give the one result of an answer."""
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    assert isinstance(result, dict)
    return result


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["type"].startswith("/docs#")
    assert "Traceback" not in answer.text
    return problem


# ---- modes ----------------------------------------------------------------------------------------------


def test_a_structured_event_is_recorded_once(http: httpx.Client) -> None:
    event = call()
    first = post(http, event).json()
    assert first["recorded"] == 1
    assert first["results"][0]["status"] == "recorded"
    assert first["results"][0]["id"] == event["id"]
    assert first["head"] >= first["results"][0]["position"]
    again = post(http, event).json()
    assert again["duplicates"] == 1
    assert again["results"][0]["position"] == first["results"][0]["position"]
    assert again["head"] >= first["head"]
    other = only(post(http, {**event, "data": {"duration_s": 43}}))
    assert other["status"] == "conflict"
    assert other["position"] == first["results"][0]["position"]


def test_a_batch_answers_per_item_in_order(http: httpx.Client) -> None:
    good, known = call(), call()
    post(http, known)
    answer = post(http, [good, known, {**known, "data": {}}, {"no": "event"}, "text", good], BATCH).json()
    statuses = [r["status"] for r in answer["results"]]
    assert statuses == ["recorded", "duplicate", "conflict", "rejected", "rejected", "duplicate"]
    counts = [answer[name] for name in ("recorded", "duplicates", "conflicts", "rejected")]
    assert counts == [1, 2, 1, 2]
    assert all(e["pointer"].startswith("/") for e in answer["results"][3]["errors"])


def test_an_empty_batch_is_no_error(http: httpx.Client) -> None:
    answer = post(http, [], BATCH)
    assert answer.status_code == 200
    assert answer.json()["results"] == []
    assert answer.json()["head"] >= 0


def test_plain_json_is_taken_as_an_event_or_a_batch(http: httpx.Client) -> None:
    assert only(post(http, call(), "application/json"))["status"] == "recorded"
    assert post(http, [call(), call()], "application/json; charset=utf-8").json()["recorded"] == 2


def test_binary_mode_puts_attributes_into_headers(http: httpx.Client) -> None:
    event = call()
    headers = {f"ce-{k}": str(v) for k, v in event.items() if k != "data"}
    first = only(post(http, event["data"], "application/json", **headers))
    assert first["status"] == "recorded"
    # The same event in structured mode is the same event.
    same = only(post(http, {**event, "datacontenttype": "application/json"}))
    assert same == {**first, "status": "duplicate"}


def test_binary_headers_are_unquoted_and_percent_decoded_once() -> None:
    headers = [
        (b"ce-specversion", b"1.0"),
        (b"ce-id", b"Euro%20%E2%82%AC%20%F0%9F%98%80"),
        (b"ce-source", b'"quoted \\"source\\""'),
        (b"ce-type", b"a%2520b"),
    ]
    (event,) = events_of(headers, "application/json", b'{"a":1}')
    found = json.loads(event)
    assert found["id"] == "Euro € 😀"
    assert found["source"] == 'quoted "source"'
    assert found["type"] == "a%20b"
    assert found["data"] == {"a": 1}


@pytest.mark.parametrize(
    ("content_type", "body", "field", "value"),
    [
        ("text/plain", "grüße".encode(), "data", "grüße"),
        ("application/xml", b"<a/>", "data", "<a/>"),
        ("image/png", b"\x89PNG\x00", "data_base64", "iVBORwA="),
        ("text/plain", b"\xff\xfe", "data_base64", "//4="),
        ("text/plain; charset=iso-8859-1", b"gr\xfc\xdfe", "data_base64", "Z3L832U="),
        ("text/plain; charset=utf-16le", b"a\x00", "data_base64", "YQA="),
        ("application/octet-stream", b"\xef\xbb\xbf\x00", "data_base64", "77u/AA=="),
        ("application/vnd.shop+json", b"[1]", "data", [1]),
        ("application/json", b"\xef\xbb\xbf[1]", "data", [1]),
    ],
)
def test_binary_data_follows_its_media_type(content_type: str, body: bytes, field: str, value: Any) -> None:
    (event,) = events_of([(b"ce-specversion", b"1.0"), (b"ce-id", b"1")], content_type, body)
    found = json.loads(event)
    assert found[field] == value
    assert found["datacontenttype"] == content_type


@pytest.mark.parametrize(
    "content_type", ["application/cloudevents+xml", "application/cloudevents; charset=utf-8"]
)
def test_an_event_in_a_format_that_is_not_taken_is_none_in_binary_mode(content_type: str) -> None:
    # given a structured event in another format, with attributes in headers beside it
    headers = [(b"ce-specversion", b"1.0"), (b"ce-id", b"1"), (b"ce-source", b"s"), (b"ce-type", b"t")]

    # when it comes, then it is refused: the whole event would be taken for its data
    with pytest.raises(Refusal) as refused:
        events_of(headers, content_type, b"<event/>")
    assert refused.value.status == 415


def test_data_cannot_break_out_of_its_place() -> None:
    with pytest.raises(Refusal) as refused:
        events_of([(b"ce-specversion", b"1.0"), (b"ce-id", b"1")], "application/json", b'1,"source":"bank"')
    assert refused.value.status == 400


def test_a_binary_header_that_comes_twice_is_refused(http: httpx.Client) -> None:
    event = call()
    headers = [(f"ce-{k}", str(v)) for k, v in event.items() if k != "data"] + [("ce-id", "another")]
    answer = http.post("/v1/events", content=b"{}", headers=[("Content-Type", "application/json"), *headers])
    assert only(answer)["status"] == "rejected"


def test_a_binary_header_that_is_not_utf_8_is_named_with_the_cure(http: httpx.Client) -> None:
    # given a client that writes what is not ASCII into a header as it is (Node: as Latin-1)
    headers = [(f"ce-{k}".encode(), str(v).encode()) for k, v in call().items() if k != "data"]
    headers += [(b"ce-shopname", "Café".encode("latin-1")), (b"Content-Type", b"application/json")]
    # when it posts
    told = only(http.post("/v1/events", content=b"{}", headers=headers))
    # then the answer names the header and what the specification asks for
    assert told["status"] == "rejected"
    assert [(each["pointer"], each["code"]) for each in told["errors"]] == [("/shopname", "not_utf8")]
    assert "header ce-shopname" in told["errors"][0]["detail"]
    assert "percent-encoded" in told["errors"][0]["detail"]


# ---- the specification's own cases ----------------------------------------------------------------------


@pytest.mark.skipif(not PAYLOADS.exists(), reason="the shared payloads are not beside this checkout")
def test_the_events_of_the_specification_are_valid(http: httpx.Client) -> None:
    cases = json.loads((PAYLOADS / "cloudevents" / "valid-events.json").read_bytes())
    for case in cases["tests"]:
        event = {**case["event"], "id": f"{case['event']['id']}-{uuid4().hex}"}
        assert only(post(http, event))["status"] == "recorded", case["id"]


@pytest.mark.skipif(not PAYLOADS.exists(), reason="the shared payloads are not beside this checkout")
def test_the_invalid_batches_of_the_specification_are_refused_item_by_item(http: httpx.Client) -> None:
    for case in json.loads((PAYLOADS / "cloudevents" / "invalid-batches.json").read_bytes())["tests"]:
        answer = post(http, case["batch"], BATCH).json()
        assert answer["rejected"] == 1, case["id"]


@pytest.mark.skipif(not PAYLOADS.exists(), reason="the shared payloads are not beside this checkout")
@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_requests_of_the_javascript_sdk_are_understood(mode: str) -> None:
    raw = (PAYLOADS / "_wire" / f"cloudevents-js-10.0.0__http_{mode}.http").read_bytes()
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = [line.partition(b": ") for line in head.split(b"\r\n")[1:]]
    headers = [(name.lower(), value) for name, _, value in lines]
    (event,) = events_of(headers, dict(headers)[b"content-type"].decode(), body)
    found = json.loads(event)
    assert found["id"] == "ce-js-1"
    assert found["source"] == "/channels/web"
    assert found["data"] == {"url": "/"}


# ---- sizes and encodings --------------------------------------------------------------------------------


def test_a_compressed_body_is_taken(http: httpx.Client) -> None:
    body = json.dumps([call() for _ in range(50)]).encode()
    deflate = zlib.compressobj(wbits=-15)
    for coding, packed in (
        ("gzip", gzip.compress(body)),
        ("gzip", gzip.compress(body[:100]) + gzip.compress(body[100:])),
        ("deflate", zlib.compress(body)),
        ("deflate", deflate.compress(body) + deflate.flush()),
    ):
        answer = post(http, packed, BATCH, **{"Content-Encoding": coding})
        assert answer.status_code == 200, answer.text
        assert answer.json()["rejected"] == 0


def test_what_is_not_compressed_as_it_says_is_told(http: httpx.Client) -> None:
    packed = gzip.compress(json.dumps(call()).encode())
    assert_problem(post(http, b"no gzip", ONE, **{"Content-Encoding": "gzip"}), 400)
    assert_problem(post(http, packed[:-9], ONE, **{"Content-Encoding": "gzip"}), 400)
    answer = post(http, packed, ONE, **{"Content-Encoding": "br"})
    assert_problem(answer, 415)
    assert "gzip" in answer.headers["accept-encoding"]


def test_a_bomb_is_not_inflated(http: httpx.Client) -> None:
    inflate = zlib.compressobj(9, wbits=31)
    bomb = b"".join(inflate.compress(b" " * 2**20) for _ in range(400)) + inflate.flush()
    started_s = time.perf_counter()
    problem = assert_problem(post(http, bomb, BATCH, **{"Content-Encoding": "gzip"}), 413)
    assert "16 MiB" in problem["detail"]
    assert time.perf_counter() - started_s < 5


def test_who_waits_for_100_hears_that_the_body_is_too_large_before_it_is_sent(served: Served) -> None:
    host, _, port = served.url.removeprefix("http://").partition(":")
    for key, length, status in ((served.key, 20 * 2**20, b"413"), ("", 10, b"401")):
        # given a client that asks whether its body is wanted, and sends nothing of it
        with socket.create_connection((host, int(port)), timeout=10) as waiting:
            waiting.sendall(
                f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: {ONE}\r\n"
                f"Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n".encode()
            )
            # when it listens to the end, then the refusal is all that it hears
            told = b"".join(iter(lambda: waiting.recv(65536), b""))
        assert told.startswith(b"HTTP/1.1 " + status), told[:200]
        assert b"connection: close" in told.lower()


def test_a_chunked_body_is_taken_and_bounded(http: httpx.Client) -> None:
    event = json.dumps(call()).encode()

    def chunks() -> Iterator[bytes]:
        yield event[:10]
        yield event[10:]

    assert (
        only(http.post("/v1/events", content=chunks(), headers={"Content-Type": ONE}))["status"] == "recorded"
    )

    def endless() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 2**20

    assert_problem(http.post("/v1/events", content=endless(), headers={"Content-Type": ONE}), 413)


def test_the_largest_batch_is_taken_and_one_more_is_not(http: httpx.Client) -> None:
    run = uuid4().hex
    events = [{**call(f"{run}-{i}"), "data": {}} for i in range(10_001)]
    problem = assert_problem(post(http, events, BATCH), 413)
    assert "10,001" in problem["detail"]
    assert "split" in problem["detail"]
    answer = post(http, events[:10_000], BATCH).json()
    assert answer["recorded"] == 10_000
    assert [r["id"] for r in answer["results"]] == [e["id"] for e in events[:10_000]]
    positions = [r["position"] for r in answer["results"]]
    assert positions == list(range(positions[0], positions[0] + 10_000))


def test_16_mib_are_taken_and_one_byte_more_is_not(http: httpx.Client) -> None:
    event = json.dumps(call(data={"duration_s": 1})).encode()
    full = event + b" " * (16 * 2**20 - len(event))
    assert only(post(http, full))["status"] == "recorded"
    assert_problem(post(http, full + b" "), 413)


@pytest.mark.parametrize(
    "content_type",
    [
        "text/csv",
        "application/cloudevents+avro",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
    ],
)
def test_other_media_types_are_refused(http: httpx.Client, content_type: str) -> None:
    assert_problem(post(http, call(), content_type), 415)


def test_no_media_type_at_all_is_refused(http: httpx.Client) -> None:
    answer = http.post("/v1/events", content=b"{}")
    assert_problem(answer, 415)


# ---- what is wrong with a body --------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", [ONE, BATCH, "application/json"])
@pytest.mark.parametrize("body", [b"", b"{", b'[{"id":"1"},', b"no json", b'{"a":1} x', b"[1,2", b"\xff\xff"])
def test_what_is_no_json_at_all_is_400(http: httpx.Client, content_type: str, body: bytes) -> None:
    problem = assert_problem(post(http, body, content_type), 400)
    assert problem["errors"][0]["code"] == "not_json"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (gzip.compress(b"{}", mtime=0), "Content-Encoding: gzip"),
        ("{}".encode("utf-16"), "UTF-8"),
        ("{}".encode("utf-16-le"), "UTF-8"),
        ("[{}]".encode("utf-32-be"), "UTF-8"),
    ],
    ids=["gzip", "utf-16 with its mark", "utf-16", "utf-32"],
)
def test_what_was_packed_or_encoded_otherwise_is_told_what_to_do(body: bytes, said: str) -> None:
    # given bytes that were packed without a word of it, or are of another encoding
    with pytest.raises(Refusal, match="Nothing was recorded") as refused:
        whole_json(body)
    # then the cure is told, and not a place that has nothing wrong
    assert said in refused.value.detail
    assert "character 0" not in refused.value.detail


@pytest.mark.parametrize("content_type", [ONE, BATCH, "application/json"])
@pytest.mark.parametrize("body", [b'"text"', b"7", b"null", b"{}", b'{"specversion":"1.0"}'])
def test_json_that_is_no_event_is_rejected_as_an_item(
    http: httpx.Client, content_type: str, body: bytes
) -> None:
    assert only(post(http, body, content_type))["status"] == "rejected"


def test_one_lone_surrogate_spoils_none_of_a_thousand(http: httpx.Client) -> None:
    events = [json.dumps(call()) for _ in range(1000)]
    events[500] = events[500].replace("about the lamp", "lone \\ud800 surrogate")
    answer = post(http, f"[{','.join(events)}]".encode(), BATCH).json()
    assert answer["recorded"] == 999
    wrong = answer["results"][500]
    assert wrong["status"] == "rejected"
    assert wrong["errors"][0]["pointer"] == "/data/summary"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (('"id":', '"id":"twice","id":'), "duplicate_key"),
        (("about the lamp", "nul \\u0000"), "nul"),
        ((": 42", ": 18446744073709551616"), "integer_too_large"),
        ((": 42", ": " + "9" * 5000), "integer_too_large"),  # Python reads none of more than 4,300 digits
        ((": 42", ": NaN"), "not_json"),
        (("2026-01-05T10:00:00Z", "2026-01-05T10:00:00"), "no_zone"),
        (("2026-01-05T10:00:00Z", "1767607200"), "not_a_time"),
        (('"1.0"', '"0.3"'), "specversion"),
        (("shop", "touchlog/inside"), "forbidden"),
        (("call.ended", "erasure.requested"), "forbidden"),
        (("call.ended", "access.recorded"), "forbidden"),
        (("call.ended", "verdict.recorded"), "forbidden"),
        (("call.ended", "identity.linked"), "forbidden"),
    ],
)
def test_each_wrong_item_says_what_is_wrong(http: httpx.Client, change: tuple[str, str], code: str) -> None:
    text = json.dumps(call()).replace(*change, 1)
    assert text != json.dumps(call())
    answer = post(http, f"[{text},{json.dumps(call())}]".encode(), BATCH).json()
    assert answer["recorded"] == 1, answer
    assert [e["code"] for e in answer["results"][0]["errors"]] == [code]
    assert answer["results"][0]["errors"][0]["detail"]


def test_bytes_that_are_not_utf_8_spoil_only_their_item(http: httpx.Client) -> None:
    bad = json.dumps(call()).encode().replace(b"lamp", b"l\xe4mp")
    answer = post(http, b"[" + bad + b"," + json.dumps(call()).encode() + b"]", BATCH).json()
    assert [r["status"] for r in answer["results"]] == ["rejected", "recorded"]
    assert answer["results"][0]["errors"][0]["code"] == "not_utf8"


def test_an_item_nested_too_deeply_spoils_only_itself(http: httpx.Client) -> None:
    deep = json.dumps(call()).replace(": 42", ": " + "[" * 50_000 + "]" * 50_000).encode()
    answer = post(http, b"[" + deep + b"," + json.dumps(call()).encode() + b"]", BATCH).json()
    assert [r["status"] for r in answer["results"]] == ["rejected", "recorded"]
    assert only(post(http, deep))["status"] == "rejected"


# ---- keys -----------------------------------------------------------------------------------------------


def test_the_first_key_is_written_for_its_owner_alone(served: Served) -> None:
    file = served.settings.data / "admin.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert re.fullmatch(r"tl_[0-9a-f]{8}_[\w-]{43}\n", file.read_text())


def test_without_a_key_nothing_is_told(served: Served) -> None:
    for key in (
        "",
        "tl_00000000_" + "x" * 43,
        "nonsense",
        served.key[:-1] + ("a" if served.key[-1] != "a" else "b"),
    ):
        with served.client(key) as client:
            for answer in (
                post(client, call()),
                client.get("/v1/events"),
                client.get("/v1/persons/email:ann@example.com/history"),
                client.get("/v1/types"),
                client.get("/openapi.json"),
                client.get("/v1/events/stream"),
            ):
                assert_problem(answer, 401)
                assert answer.headers["www-authenticate"].startswith("Bearer")
            assert client.get("/healthz").status_code == 200
            assert client.get("/readyz").status_code == 200


def test_a_stranger_is_asked_for_a_key_before_being_told_what_the_question_lacks(served: Served) -> None:
    # given questions that lack what their routes want, and one that cannot be read
    questions: list[tuple[str, str, bytes]] = [
        ("GET", "/v1/consent/breaches", b""),
        ("GET", "/v1/consent/breaches/changes?frm=2026-01-01", b""),
        ("GET", "/v1/consent/questions/breaches", b""),
        ("GET", "/v1/events?limit=many", b""),
        ("POST", "/v1/consent/check", b'{"purpose'),
    ]
    # when nobody asks them, then a key comes first
    with served.client("") as stranger:
        for method, path, body in questions:
            answer = stranger.request(method, path, content=body)
            assert_problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
    # and a key that may not read hears that, which is on record
    with served.client(made_key(served, "adapter", "shop")) as adapter:
        before = served.records()
        assert_problem(adapter.get("/v1/consent/breaches"), 403)
        assert served.records() == before + 1
    # while who may read is told what is missing
    with served.client() as admin:
        assert_problem(admin.get("/v1/consent/breaches"), 400)


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/v1/types", "/v1/events?after=0", "/nowhere", "/sign-in"]
)
def test_head_tells_what_get_would_without_the_content(served: Served, path: str) -> None:
    with served.client() as client:
        shown, asked = client.get(path), client.head(path)
        assert (asked.status_code, asked.content) == (shown.status_code, b"")
        assert asked.headers["content-type"] == shown.headers["content-type"]
        # the stream has no end, so it is not for HEAD
        assert client.head("/v1/events/stream").status_code == 405


def test_it_is_not_ready_while_a_demonstration_history_is_being_loaded(served: Served) -> None:
    with served.client() as client:
        # given a log that is being filled, and what is there of it
        there = only(post(client, call()))["position"]
        prepare_folders(served.settings.data)
        set_loading(served.settings.data, "The demonstration history is being loaded")
        try:
            # when somebody asks whether it is ready, then it says what is still to come
            answer = client.get("/readyz")
            assert_problem(answer, 503)
            said = f"The demonstration history is being loaded; {there:,} events are there so far."
            assert answer.json()["detail"] == said
            assert answer.headers["retry-after"] == "1"
        finally:
            set_loading(served.settings.data, "")
        assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("lacks", ["room", "time"])
def test_whoever_asks_whether_it_is_ready_hears_that_appends_are_refused_and_that_they_are_taken_again(
    served: Served, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    def statements(*each: str) -> None:
        with psycopg.connect(served.database_url, autocommit=True) as conn:
            for one in each:
                conn.execute(one)

    async def full(*_: Any) -> None:
        raise psycopg.errors.DiskFull

    with served.client() as client:
        assert only(post(client, call()))["status"] == "recorded"
        assert client.get("/readyz").json()["appends"] == "taken"
        # given a log whose disk is full, or whose clock was set back, so that an append was refused
        statements("CREATE TABLE public.kept_head AS SELECT recorded_at FROM touchpoint_log.head")
        try:
            if lacks == "time":
                statements(
                    "UPDATE touchpoint_log.head SET recorded_at = clock_timestamp() + interval '1 hour'"
                )
            else:
                monkeypatch.setattr(Lane, "append", full)
            refused = post(client, call())
            assert_problem(refused, 503)
            # when somebody asks whether it is ready, then it is, to answer, and says what it does not take and why
            told = client.get("/readyz")
            assert (told.status_code, told.json()["status"], told.json()["appends"]) == (
                200,
                "ready",
                "refused",
            )
            assert told.json()["why"].startswith("The disk" if lacks == "room" else "The database's clock")
            # and who would send on what is to be recorded is told to send it elsewhere
            for_appends = client.get("/readyz", params={"appends": "true"})
            assert_problem(for_appends, 503)
            assert for_appends.json()["detail"] == told.json()["why"]
        finally:
            monkeypatch.undo()
            statements(
                "UPDATE touchpoint_log.head SET recorded_at = (SELECT recorded_at FROM public.kept_head)",
                "DROP TABLE public.kept_head",
            )
        # and once one is recorded all is well
        assert only(post(client, call()))["status"] == "recorded"
        assert client.get("/readyz", params={"appends": "true"}).json()["appends"] == "taken"


def test_an_adapter_appends_from_its_own_sources_and_reads_nothing(served: Served) -> None:
    with served.client(made_key(served, "adapter", "shop", "tills/*")) as adapter:
        assert only(post(adapter, call()))["status"] == "recorded"
        assert only(post(adapter, call(source="tills/7")))["status"] == "recorded"
        wrong = only(post(adapter, call(source="shop2")))
        assert wrong["status"] == "rejected"
        assert wrong["errors"][0]["pointer"] == "/source"
        before = served.records()
        assert_problem(adapter.get("/v1/events"), 403)
        assert_problem(adapter.get("/v1/persons/email:ann@example.com/history"), 403)
        assert served.records() == before + 2  # denied ones are recorded too
        assert adapter.get("/v1/types").status_code == 200


def test_other_roles_may_not_append(served: Served) -> None:
    with served.client(made_key(served, "analyst")) as analyst:
        assert_problem(post(analyst, call()), 403)


def test_a_revoked_key_ends_within_seconds(served: Served) -> None:
    key = made_key(served, "adapter", "*")
    with served.client(key) as client:
        assert only(post(client, call()))["status"] == "recorded"
        revoke(served, key)
        wait_until(lambda: post(client, call()).status_code == 401, "the key to be refused", within_s=6)


def test_too_many_that_wait_are_asked_to_come_again(served: Served) -> None:
    async def asked() -> tuple[int, dict[bytes, bytes]]:
        house = House("test")

        class Keys:
            async def authenticate(self, key: str) -> Any:
                from adapters.principal import Principal

                return Principal(key, "admin")

        house.opened(None, Keys())  # type: ignore[arg-type]
        intake = Intake(house, most_waiting=1)
        never = asyncio.Event()

        async def slow() -> Any:
            await never.wait()

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def empty() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"headers": [(b"authorization", b"Bearer x")]}
        first = asyncio.create_task(intake(scope, slow, send))
        await asyncio.sleep(0.05)
        await intake(scope, empty, send)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return sent[0]["status"], dict(sent[0]["headers"])

    status, headers = asyncio.run(asked())
    assert status == 429
    assert headers[b"retry-after"] == b"1"


# ---- reading --------------------------------------------------------------------------------------------


def test_the_feed_resumes_behind_a_position(http: httpx.Client) -> None:
    positions = [only(post(http, call(data={"duration_s": n})))["position"] for n in range(5)]
    first = http.get("/v1/events", params={"after": positions[0] - 1, "limit": 2}).json()
    assert [e["position"] for e in first["events"]] == positions[:2]
    assert first["next"] == positions[1]
    event = first["events"][0]
    assert event["specversion"] == "1.0"
    assert event["data"] == {"duration_s": 0}
    assert event["recordedtime"].endswith("Z")
    rest = http.get("/v1/events", params={"after": first["next"], "limit": 100_000}).json()
    assert [e["position"] for e in rest["events"]] == positions[2:]
    assert rest["next"] == rest["head"] == positions[-1]
    assert http.get("/v1/events", params={"after": rest["next"]}).json()["events"] == []


def test_the_feed_filters_by_type_and_channel(http: httpx.Client) -> None:
    after = http.get("/v1/events", params={"limit": 1}).json()["head"]
    post(http, [call(), call(type="chat.started", data={}), call(channel="store")], BATCH)
    kinds = http.get("/v1/events", params={"after": after, "type": "chat.started"}).json()["events"]
    assert [e["type"] for e in kinds] == ["chat.started"]
    both = http.get("/v1/events", params={"after": after, "type": "chat.started,call.ended"}).json()["events"]
    assert len(both) == 3
    stores = http.get("/v1/events", params={"after": after, "channel": "store"}).json()["events"]
    assert [e["channel"] for e in stores] == ["store"]


def test_the_feed_waits_for_something_new(served: Served, http: httpx.Client) -> None:
    head = http.get("/v1/events", params={"limit": 1}).json()["head"]
    with ThreadPoolExecutor(1) as pool, served.client() as other:
        waiting = pool.submit(http.get, "/v1/events", params={"after": head, "wait": 10})
        time.sleep(0.2)
        started_s = time.perf_counter()
        recorded = only(post(other, call()))
        found = waiting.result(10).json()["events"]
        assert [e["position"] for e in found] == [recorded["position"]]
        assert time.perf_counter() - started_s < 2


def test_a_key_that_is_revoked_while_it_waits_is_told_nothing_new(
    served: Served, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a key that waits for something new
    head = http.get("/v1/events", params={"limit": 1}).json()["head"]
    at_once, waits = Feed.page, threading.Event()

    async def page(feed: Feed, **question: Any) -> Any:
        if question["wait_s"]:
            waits.set()
        return await at_once(feed, **question)

    monkeypatch.setattr(Feed, "page", page)
    key = made_key(served, "admin")
    with ThreadPoolExecutor(1) as pool, served.client(key) as client, served.client(key) as other:
        waiting = pool.submit(client.get, "/v1/events", params={"after": head, "wait": 30})
        assert waits.wait(10)

        # when it is revoked, and then something is recorded
        revoke(served, key)
        wait_until(lambda: other.get("/v1/events").status_code == 401, "the key to be refused", within_s=10)
        only(post(http, call()))

        # then it is told that it was revoked, and nothing else
        assert_problem(waiting.result(35), 401)


def test_a_wait_that_ends_while_the_head_is_looked_at_gives_an_empty_page(
    served: Served, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = Feed.head

    async def slow(feed: Feed) -> int:
        await asyncio.sleep(0.5)
        return await at_once(feed)

    head = http.get("/v1/events", params={"limit": 1}).json()["head"]
    monkeypatch.setattr(Feed, "head", slow)
    answer = http.get("/v1/events", params={"after": head, "wait": 0.2})
    assert (answer.status_code, answer.json()["events"], answer.json()["next"]) == (200, [], head)


def test_a_filtered_feed_that_waits_reads_on_over_what_is_left_out(
    served: Served, http: httpx.Client
) -> None:
    after = http.get("/v1/events", params={"limit": 1}).json()["head"]
    for _ in range(5):
        only(post(http, call()))
    kiosk = only(post(http, call(channel="kiosk")))
    started_s = time.perf_counter()
    found = http.get(
        "/v1/events", params={"after": after, "limit": 2, "channel": "kiosk", "wait": 10}
    ).json()["events"]
    assert [e["position"] for e in found] == [kiosk["position"]]
    assert time.perf_counter() - started_s < 5


@pytest.mark.parametrize("path", ["/v1/events?wait=20&after=", "/v1/events/stream?after="])
def test_a_position_that_the_log_has_not_reached_is_refused_and_not_waited_behind(
    http: httpx.Client, path: str
) -> None:
    # given a reader that read further than this log goes, which was restored from a backup since
    head = http.get("/v1/events", params={"limit": 1}).json()["head"]
    # when it asks for what comes behind that, or for the whole of a number that no log reaches
    for beyond in (head + 1, 10**18 - 1):
        problem = assert_problem(http.get(f"{path}{beyond}"), 400)
        # then it is told so, with the newest position there is
        assert problem["errors"][0]["pointer"] == "/after"
        assert problem["errors"][0]["code"] == "out_of_range"
        assert f"its newest is {head:,}." in problem["errors"][0]["detail"]


def test_each_page_of_the_feed_is_recorded_once(served: Served, http: httpx.Client) -> None:
    only(post(http, call()))
    before = served.records()
    http.get("/v1/events", params={"limit": 3})
    assert served.records() == before + 1


@pytest.mark.parametrize(
    ("parameter", "value"), [("after", "x"), ("after", "-1"), ("limit", "0"), ("wait", "long")]
)
def test_a_wrong_parameter_is_named(http: httpx.Client, parameter: str, value: str) -> None:
    problem = assert_problem(http.get("/v1/events", params={parameter: value}), 400)
    assert problem["errors"][0]["pointer"] == f"/{parameter}"


def test_every_route_names_the_parameter_that_it_would_pass_over(http: httpx.Client) -> None:
    # Given every documented route that wants a key, but for the doors of events, which vendors call as they like
    doors = "/v1/events /v1/track /v1/identify /v1/page /v1/screen /v1/group /v1/alias /v1/batch /v1/import".split()
    open_to_all = ("/hooks/", "/u/", "/preferences/", "/healthz", "/readyz", "/metrics")
    asked = [
        (method, path)
        for path, methods in http.get("/openapi.json").json()["paths"].items()
        for method in methods
        if not path.startswith(open_to_all) and (method == "get" or path not in doors)
    ]
    assert len(asked) > 40
    # When each is asked with a parameter that none of them takes, beside those that it cannot do without
    wanted = {
        "/v1/consent/breaches": {"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"},
        "/v1/consent/breaches/changes": {
            "from": "2026-01-01T00:00:00Z",
            "to": "2026-01-02T00:00:00Z",
            "said_at": "@1",
        },
    }
    known = {"{question}": "untouched", "{number}": "1", "{name}": "profiles"}
    for method, path in asked:
        address = re.sub(r"\{\w+\}", lambda found: known.get(found[0], "user:u-1"), path)
        params = wanted.get(path, {}) | {"as_off": "2026-01-01T00:00:00Z"}
        answer = http.request(method, address, params=params, json=None if method == "get" else {})
        # Then it is refused by its name, not answered as if nothing had been asked
        problem = assert_problem(answer, 400)
        assert [each["pointer"] for each in problem["errors"]] == ["/as_off"], (method, path, problem)


def test_a_parameter_of_one_value_that_comes_twice_is_named(http: httpx.Client) -> None:
    twice = {"channel": ["phone", "email"]}
    problem = assert_problem(http.get("/v1/persons/email:ann@example.com/history", params=twice), 400)
    assert problem["errors"][0]["pointer"] == "/channel"
    assert http.get("/v1/events", params=twice).status_code == 200  # several of them are its meaning here


def test_a_question_of_the_officer_names_the_parameter_that_is_not_its_own(http: httpx.Client) -> None:
    problem = assert_problem(
        http.get("/v1/consent/questions/valid", params={"from": "2026-01-01T00:00:00Z"}), 400
    )
    assert problem["errors"][0]["pointer"] == "/from"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/funnels/x?version={}", "/v1/retention/x?version={}", "/v1/segments/x?version={}",
        "/v1/funnels/x/snapshots/{}", "/v1/funnels/x/why-changed?snapshot={}",
    ],
)  # fmt: skip
def test_a_number_beyond_any_that_is_counted_is_told_as_such(http: httpx.Client, path: str) -> None:
    for beyond in (2**31, 2**64, -(10**15)):
        assert_problem(http.get(path.format(beyond)), 400)


@pytest.mark.parametrize(
    ("path", "missing"),
    [("/v1/consent/breaches", ["/from", "/to"]), ("/v1/consent/questions/breaches", ["/from", "/to"])],
)
def test_what_is_missing_and_what_stands_there_under_a_misspelt_name_are_both_told(
    http: httpx.Client, path: str, missing: list[str]
) -> None:
    # given a question that wants from and to, when it is asked with their names misspelt
    span = {"frm": "2026-01-01T00:00:00Z", "till": "2026-01-02T00:00:00Z"}
    problem = assert_problem(http.get(path, params=span), 400)
    # then the names that it does not know are told with those that it lacks
    assert sorted(each["pointer"] for each in problem["errors"]) == sorted(["/frm", "/till", *missing])


def streamed(served: Served, count: int, **headers: str) -> list[tuple[int, dict[str, Any]]]:
    """Read *count* messages of the stream."""
    found: list[tuple[int, dict[str, Any]]] = []
    with served.client() as client, client.stream("GET", "/v1/events/stream", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        position = 0
        for line in answer.iter_lines():
            if line.startswith("id: "):
                position = int(line[4:])
            elif line.startswith("data: "):
                found.append((position, json.loads(line[6:])))
                if len(found) == count:
                    break
    return found


def test_the_stream_goes_on_behind_the_last_event_id(served: Served, http: httpx.Client) -> None:
    positions = [only(post(http, call()))["position"] for _ in range(4)]
    before = served.records()
    found = streamed(served, 2, **{"Last-Event-ID": str(positions[0])})
    assert [p for p, _ in found] == positions[1:3]
    assert found[0][1]["position"] == positions[1]
    assert served.records() == before + 1
    rest = streamed(served, 1, **{"Last-Event-ID": str(found[-1][0])})
    assert rest[0][0] == positions[3]


def test_the_stream_tells_what_is_new(served: Served, http: httpx.Client) -> None:
    head = http.get("/v1/events", params={"limit": 1}).json()["head"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(streamed, served, 1, **{"Last-Event-ID": str(head)})
        time.sleep(0.3)
        recorded = only(post(http, call()))
        assert waiting.result(10)[0][0] == recorded["position"]


def test_a_history_is_read_after_ones_own_write(served: Served, http: httpx.Client) -> None:
    who = f"email:{uuid4().hex}@example.com"
    recorded = [only(post(http, call(subject=who, time=f"2026-02-0{n}T00:00:00Z"))) for n in range(1, 4)]
    served.project()
    before = served.records()
    answer = http.get(
        f"/v1/persons/{who}/history",
        headers={"Touchlog-After": str(recorded[-1]["position"]), "Touchlog-Purpose": "care"},
    )
    assert answer.status_code == 200, answer.text
    assert served.records() == before + 1
    assert "server-timing" in answer.headers
    page = answer.json()
    assert [e["position"] for e in page["entries"]] == [r["position"] for r in reversed(recorded)]
    assert page["entries"][0]["provenance"]["source"] == "shop"
    assert page["entries"][0]["data"]["summary"] == "about the lamp"
    assert page["next"] is None
    again = http.get(f"/v1/persons/{who}/history", params={"known_at": f"@{page['head']}"})
    assert again.json()["entries"] == page["entries"]
    assert (
        http.get(f"/v1/persons/{who}/history", params={"known_at": f"@{page['head']}"}).content
        == again.content
    )


def test_pages_of_a_history_follow_each_other(served: Served, http: httpx.Client) -> None:
    who = f"user:{uuid4().hex}"
    for n in range(5):
        only(post(http, call(subject=who, time=f"2026-02-0{n + 1}T00:00:00Z")))
    served.project()
    found: list[int] = []
    cursor: str | None = None
    for _ in range(3):
        page = http.get(
            f"/v1/persons/{who}/history", params={"limit": 2, **({"cursor": cursor} if cursor else {})}
        ).json()
        found += [e["position"] for e in page["entries"]]
        cursor = page["next"]
    assert cursor is None
    assert found == sorted(found, reverse=True)
    assert len(found) == 5


def test_a_read_model_that_is_behind_says_how_far(served: Served, http: httpx.Client) -> None:
    recorded = only(post(http, call()))
    answer = http.get(
        "/v1/persons/email:ann@example.com/history",
        headers={"Touchlog-After": str(recorded["position"] + 1000)},
    )
    problem = assert_problem(answer, 503)
    assert problem["lag_positions"] >= 1000
    assert answer.headers["retry-after"]


def test_persons_are_found_by_their_identifiers(served: Served, http: httpx.Client) -> None:
    mail = f"{uuid4().hex}@example.com"
    only(post(http, call(subject=f"email:{mail}", identifiers="loyalty_card:77-" + mail[:6])))
    served.project()
    for q in (mail, f"email:{mail.upper()}", "77-" + mail[:6]):
        persons = http.get("/v1/persons", params={"q": q}).json()["persons"]
        assert len(persons) == 1, q
        assert {s["kind"] for s in persons[0]["subjects"]} == {"email", "loyalty_card"}
    assert http.get("/v1/persons", params={"q": "nobody@example.com"}).json()["persons"] == []
    person = http.get(f"/v1/persons/email:{mail}").json()
    assert http.get(f"/v1/persons/{person['id']}").json()["id"] == person["id"]


def test_an_event_without_a_time_sent_again_is_a_duplicate_and_with_one_a_conflict(
    http: httpx.Client,
) -> None:
    """What is compared is what was sent, not the time of receipt that stands in."""
    timeless = {name: value for name, value in call().items() if name != "time"}
    first = only(post(http, timeless))
    again = [only(post(http, {**timeless, **more})) for more in ({}, {"time": "2026-01-31T12:00:00Z"}, {})]
    assert first["status"] == "recorded"
    assert [one["status"] for one in again] == ["duplicate", "conflict", "duplicate"]
    assert {one["position"] for one in again} == {first["position"]}


def test_as_of_takes_a_position_for_the_time_at_which_that_was_recorded(
    served: Served, http: httpx.Client
) -> None:
    # given two calls, each of which happened when it was posted
    ref = f"email:{uuid4().hex}@example.com"
    timeless = {name: value for name, value in call(subject=ref).items() if name != "time"}
    positions = [only(post(http, timeless | {"id": uuid4().hex}))["position"] for _ in range(2)]
    served.project()
    # when the history is asked as of the position of each, then it ends there
    path = f"/v1/persons/{ref}/history"
    for count, position in enumerate(positions, start=1):
        answer = http.get(path, params={"as_of": f"@{position}"}).json()
        assert sorted(e["position"] for e in answer["entries"]) == positions[:count]
    for wrong in ("@x", "@999999999"):
        assert_problem(http.get(path, params={"as_of": wrong}), 400)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/persons/email:nobody@example.com", 404),
        ("/v1/persons/email:nobody@example.com/history", 404),
        ("/v1/persons/no-ref/history", 400),
        ("/v1/persons/email:ann@example.com/history?as_of=yesterday", 400),
        ("/v1/persons/email:ann@example.com/history?as_of=2026-01-01T00:00:00", 400),
        ("/v1/persons/email:ann@example.com/history?known_at=@x", 400),
        ("/v1/persons/email:ann@example.com/history?known_at=2999-01-01T00:00:00Z", 400),
        ("/v1/persons/email:ann@example.com/history?cursor=nonsense", 400),
        ("/v1/persons?cursor=nonsense", 400),
        ("/v1/types/no.such", 404),
        ("/nothing/here", 404),
    ],
)
def test_every_error_is_a_problem_document(
    served: Served, http: httpx.Client, path: str, status: int
) -> None:
    served.project()
    assert_problem(http.get(path), status)


@pytest.mark.parametrize(
    ("body", "status", "kind", "pointer", "said"),
    [
        (b'{"contact', 400, "not-json", "", "not JSON"),
        (b"\xff", 400, "not-json", "", "not JSON"),
        (b"", 400, "invalid", "", "body is missing"),
        (b"[]", 400, "invalid", "", "Expected `object`, got `array`"),
        (b'{"contact":5}', 400, "invalid", "/contact", "got `int`"),
        (b'{"misspelt":5}', 400, "invalid", "", "`misspelt`"),
        (b" " * 10_000_001, 413, "too-large", None, "10 MB"),
    ],
    ids=["cut", "no text", "empty", "a list", "wrong kind", "unknown name", "too large"],
)
def test_a_question_that_cannot_be_read_is_told_by_its_place_in_the_body(
    http: httpx.Client, body: bytes, status: int, kind: str, pointer: str | None, said: str
) -> None:
    # given a route whose body the framework reads, when the body is none that it can answer
    problem = assert_problem(http.post("/v1/consent/unsubscribe-links", content=body), status)
    # then what is wrong is said by its own name, and where: never in words of the program's inside
    assert problem["type"] == f"/docs#{kind}"
    told = problem["errors"][0] if pointer is not None else problem
    assert said in told["detail"]
    assert told.get("pointer") == pointer
    assert "'data'" not in told["detail"]


@pytest.mark.parametrize(
    "path", ["/v1/funnels/query", "/v1/retention/query", "/v1/paths/query", "/v1/segments/query"]
)
def test_a_question_of_an_analyst_that_is_no_json_is_not_told_of_another_question(
    http: httpx.Client, path: str
) -> None:
    problem = assert_problem(http.post(path, content=b'{"steps": ['), 400)
    (told,) = problem["errors"]
    assert (told["pointer"], told["code"]) == ("", "not_json")
    assert ("funnel" in told["detail"]) == ("funnels" in path)
    too_large = assert_problem(http.post(path, content=b" " * (2**20 + 1)), 413)
    assert too_large["type"] == "/docs#too-large"


def test_a_method_that_is_not_taken_names_those_that_are(http: httpx.Client) -> None:
    answer = http.delete("/v1/events")
    assert_problem(answer, 405)
    assert "POST" in answer.headers["allow"]
    assert "GET" in answer.headers["allow"]


def test_the_methods_of_an_address_are_told_whole(http: httpx.Client) -> None:
    # given an address that several handlers share, and one that is a stream
    # when they are asked what they take
    every, stream = http.options("/v1/events"), http.options("/v1/events/stream")

    # then each method that is answered stands there, and no other
    assert (every.status_code, every.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    assert http.delete("/v1/events").headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert http.post("/healthz").headers["allow"] == "GET, HEAD, OPTIONS"
    assert stream.headers["allow"] == "GET, OPTIONS"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/events?type=a%00b",
        "/v1/persons/email:nul@example.com/history?type=%00",
        "/v1/funnels/a%00",
        "/v1/conversations/a%00",
    ],
)
def test_nul_in_a_request_is_told_as_the_mistake_that_it_is(
    served: Served, http: httpx.Client, path: str
) -> None:
    # given somebody who is known, and read models
    only(post(http, call(subject="email:nul@example.com")))
    served.project()

    # when a text holds NUL, then the sender hears so: the server did not fail
    assert_problem(http.get(path), 400)


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_time_beyond_the_calendar_is_told_as_such(served: Served, http: httpx.Client, at: str) -> None:
    # given somebody who is known
    only(post(http, call(subject="email:calendar@example.com")))
    served.project()

    # when a history is cut at an instant that has no date in UTC
    answer = http.get("/v1/persons/email:calendar@example.com/history", params={"as_of": at})

    # then the parameter is named
    assert assert_problem(answer, 400)["errors"][0]["pointer"] == "/as_of"


@pytest.mark.parametrize("ref", ["anonymous:aGk/eW8vPz8=", "user:shop/7", "user:100%2F", "user:é/ü"])
def test_a_ref_with_a_slash_is_asked_for_percent_encoded(
    served: Served, http: httpx.Client, ref: str
) -> None:
    # given an event of somebody whose identifier holds a slash
    position = only(post(http, call(subject=ref)))["position"]
    served.project()

    # when the REF is one part of the path, as RFC 3986 encodes it
    place = f"/v1/persons/{quote(ref, safe='')}"
    history, person = http.get(f"{place}/history"), http.get(place)

    # then the person is found by every route
    assert [e["position"] for e in history.json()["entries"]] == [position]
    assert person.status_code == 200
    assert http.get(f"{place}/why").status_code == 200
    assert http.get(f"{place}/consent").status_code == 200


# ---- types, operations, documentation -------------------------------------------------------------------


def test_types_are_published_with_their_schema(http: httpx.Client) -> None:
    listed = {t["name"]: t for t in http.get("/v1/types").json()["types"]}
    shown = http.get("/v1/types/call.ended").json()
    assert listed["call.ended"] == shown
    assert shown["channel"] == "phone"
    assert "duration_s" in json.dumps(shown["schema"])
    assert "summary" in shown["personal"]
    schema = http.get("/v1/types/call.ended", headers={"Accept": "application/schema+json"})
    assert schema.headers["content-type"] == "application/schema+json"
    assert schema.json() == shown["schema"]


def test_projections_tell_their_lag(served: Served, http: httpx.Client) -> None:
    served.project()
    only(post(http, call()))
    answer = http.get("/v1/projections").json()
    *models, columns = answer["projections"]
    for shown in models:
        assert shown["lag_positions"] == answer["head"] - shown["position"] == 1
        assert shown["state"] == "live"
    assert (columns["name"], columns["position"]) == ("columns", answer["head"]), (
        "its answers reach to the head"
    )
    assert columns["lag_positions"] == columns["written_position"] == 0
    assert http.get("/readyz").json()["projections"][-1] == columns


def test_figures_are_told_on_loopback_and_not_through_a_proxy(served: Served) -> None:
    with served.client("") as client:
        told = client.get("/metrics")
        assert told.headers["content-type"].count("charset") == 1
        text = told.text
        assert 'touchlog_events_total{status="recorded"}' in text
        assert "touchlog_append_seconds_bucket" in text
        assert "touchlog_log_head_position" in text
        assert "touchlog_identity_links_refused 0.0" in text
        assert_problem(client.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"}), 401)


def test_the_openapi_document_tells_the_truth_about_the_hot_path(http: httpx.Client) -> None:
    document = http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    route = document["paths"]["/v1/events"]["post"]
    assert {ONE, BATCH} <= route["requestBody"]["content"].keys()
    assert {"200", "400", "413", "415", "429", "503"} <= route["responses"].keys()
    for path in ("/v1/persons/{ref}/history", "/v1/types/{name}", "/v1/events/stream", "/readyz", "/metrics"):
        assert path in document["paths"]
    # and so are the parameters that the officer's questions have, with the questions that ask for them
    asked = document["paths"]["/v1/consent/questions/{question}"]["get"]["parameters"]
    told = {each["name"]: each["description"] for each in asked if each["in"] == "query"}
    assert told.keys() >= {"person", "purpose", "from", "to", "known_at", "minutes", "by"}
    assert told["by"] == "By when, e.g. 2026-12-31T00:00:00Z. Of question 5 (needed)."


def test_every_answer_has_a_status_and_a_media_type_of_the_openapi_document(
    served: Served, http: httpx.Client
) -> None:
    # given every documented route but the stream, which does not end, and read models that are up
    served.project()
    paths = http.get("/openapi.json").json()["paths"]
    asked = [(m, p, o) for p, each in paths.items() for m, o in each.items() if p != "/v1/events/stream"]
    wrong, behind = [], []
    with served.client("") as anybody:
        # when each is asked with a key and without one
        for method, path, operation in asked:
            address = re.sub(r"\{\w+\}", "1", path)
            for client in (http, anybody):
                told = client.request(method, address)
                media_type = told.headers["content-type"]
                behind += [(method, path)] if told.status_code == 503 else []
                # then the status, and the media type under it, are documented, and no charset is named twice
                documented = operation["responses"].get(str(told.status_code), {}).get("content", {})
                if media_type.partition(";")[0] not in documented or media_type.count("charset") > 1:
                    wrong.append((method, path, told.status_code, media_type))
    assert wrong == []
    assert behind == []  # else little of the document was looked at
    assert all("401" in o["responses"] for _, p, o in asked if p.startswith("/v1/"))
    assert all(o["security"] == [] for _, p, o in asked if p.startswith(("/u/", "/preferences/", "/hooks/")))


def test_a_connection_cut_in_the_middle_of_a_body_records_nothing(served: Served, http: httpx.Client) -> None:
    head = http.get("/v1/events", params={"limit": 1}).json()["head"]
    event = json.dumps(call()).encode()
    host, _, port = served.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as cut:
        cut.sendall(
            f"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.key}\r\nContent-Type: {ONE}\r\n"
            f"Content-Length: {len(event)}\r\n\r\n".encode()
            + event[:-5]
        )
        time.sleep(0.1)
    assert http.get("/v1/events", params={"limit": 1}).json()["head"] == head
