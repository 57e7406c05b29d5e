"""HTTP, the way in: events come by every mode of CloudEvents, once each; what is wrong is told; keys."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import socket
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from adapters.embedded import prepare_folders, set_loading
from adapters.http import door
from adapters.http.events import Intake
from adapters.http.house import House
from adapters.intake.bodies import events_of, whole_json
from adapters.postgres import api_keys
from adapters.postgres.lane import Lane
from adapters.refusal import Refusal
from tests.integration.posting import BATCH, ONE, assert_problem, call, made_key, only, post, revoke
from tests.integration.running import Served, served_http
from tests.waiting import wait_until

PAYLOADS = Path(__file__).resolve().parents[3] / "shared" / "payloads"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Served]:
    with served_http(tmp_path_factory.mktemp("http") / "data", module_database_url) as running:
        yield running


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


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


def test_a_bomb_is_not_inflated(http: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    # given 400 MiB in a body of half a MiB, and somebody who counts what is made of it
    inflated = 0

    class Counted:
        def __init__(self, form: int) -> None:
            self._inflate = zlib.decompressobj(form)

        def decompress(self, data: bytes, most: int) -> bytes:
            nonlocal inflated
            out = self._inflate.decompress(data, most)
            inflated += len(out)
            return out

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inflate, name)

    monkeypatch.setattr(door, "zlib", SimpleNamespace(decompressobj=Counted, error=zlib.error))
    inflate = zlib.compressobj(9, wbits=31)
    bomb = b"".join(inflate.compress(b" " * 2**20) for _ in range(400)) + inflate.flush()
    # when it is sent, then it is refused, and no more was inflated than shows that it is too large
    problem = assert_problem(post(http, bomb, BATCH, **{"Content-Encoding": "gzip"}), 413)
    assert "16 MiB" in problem["detail"]
    assert inflated == door.LARGEST_BODY_BYTES + 1


def test_who_waits_for_100_hears_that_the_body_is_too_large_before_it_is_sent(served: Served) -> None:
    host, _, port = served.url.removeprefix("http://").partition(":")
    for key, length, status in ((served.key, 20 * 2**20, b"413"), ("", 10, b"401")):
        # given a client that asks whether its body is wanted, and sends nothing of it
        with socket.create_connection((host, int(port)), timeout=60) as waiting:
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


@pytest.mark.parametrize("wrong", ["lone \\ud800", "\xff"])
def test_an_item_nested_too_deeply_beside_one_whose_text_is_no_unicode_spoils_no_neighbour(
    http: httpx.Client, wrong: str
) -> None:
    # given a batch of which one item holds a text that is no Unicode, and a later one nests too deeply
    spoilt = json.dumps(call()).replace("about the lamp", wrong).encode("latin-1")
    deep = json.dumps(call()).replace(": 42", ": " + "[" * 1_500 + "]" * 1_500).encode()
    good, last = (json.dumps(call()).encode() for _ in range(2))
    # when it is posted
    answer = post(http, b"[" + b",".join([good, spoilt, deep, last]) + b"]", BATCH)
    # then these two alone are rejected
    assert answer.status_code == 200, answer.text
    told = answer.json()["results"]
    assert [r["status"] for r in told] == ["recorded", "rejected", "rejected", "recorded"]
    assert told[2]["errors"][0]["code"] == "nested_too_deeply"


def test_a_text_that_does_not_end_behind_what_nests_too_deeply_is_read_once(http: httpx.Client) -> None:
    # given an array that ends within a text, in which many escaped quotes stand, behind an item that nests too deeply
    deep = json.dumps(call()).replace(": 42", ": " + "[" * 1_500 + "]" * 1_500).encode()
    # when it is posted: looked at anew from each of the quotes, it would keep the server for hours
    answer = post(http, b"[" + deep + b',"' + rb"\"" * 20_000 + b"]", BATCH)
    # then it is told that this is no JSON
    assert answer.status_code == 400
    assert "the array does not end" in answer.json()["detail"]


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
        wait_until(lambda: post(client, call()).status_code == 401, "the key to be refused")
    assert api_keys.CACHED_S <= 5, "which it is once it is no longer remembered"


def test_too_many_that_wait_are_asked_to_come_again(served: Served) -> None:
    async def told() -> tuple[int, dict[bytes, bytes]]:
        house = House("test")

        class Keys:
            async def authenticate(self, key: str) -> Any:
                from adapters.principal import Principal

                return Principal(key, "admin")

        house.opened(None, Keys())  # type: ignore[arg-type]
        intake = Intake(house, most_waiting=1)
        asked, never = asyncio.Event(), asyncio.Event()

        async def slow() -> Any:
            asked.set()
            await never.wait()

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def empty() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"headers": [(b"authorization", b"Bearer x")]}
        first = asyncio.create_task(intake(scope, slow, send))
        await asked.wait()  # it is in the middle of its body
        await intake(scope, empty, send)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        return sent[0]["status"], dict(sent[0]["headers"])

    status, headers = asyncio.run(told())
    assert status == 429
    assert headers[b"retry-after"] == b"1"
