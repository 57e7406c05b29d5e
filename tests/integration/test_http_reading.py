"""HTTP, the ways out: what was recorded can be read, resumed and waited for; errors help; the document tells the truth."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from adapters.answers.feed import Feed
from tests.integration.posting import BATCH, ONE, assert_problem, call, made_key, only, post, revoke
from tests.integration.running import Served, served_http
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Served]:
    with served_http(tmp_path_factory.mktemp("http") / "data", module_database_url) as running:
        yield running


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


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


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set once somebody waits for something new."""
    at_once, waits = Feed.page, threading.Event()

    async def page(feed: Feed, **question: Any) -> Any:
        if question["wait_s"]:
            waits.set()
        return await at_once(feed, **question)

    monkeypatch.setattr(Feed, "page", page)
    return waits


def test_the_feed_waits_for_something_new(served: Served, http: httpx.Client, waits: threading.Event) -> None:
    head = http.get("/v1/events", params={"limit": 1}).json()["head"]
    with ThreadPoolExecutor(1) as pool, served.client() as other:
        waiting = pool.submit(http.get, "/v1/events", params={"after": head, "wait": 25})
        assert waits.wait(60)
        recorded = only(post(other, call()))
        # the news ends the wait, which itself is longer than the answer is waited for
        found = waiting.result(20).json()["events"]
        assert [e["position"] for e in found] == [recorded["position"]]


def test_a_key_that_is_revoked_while_it_waits_is_told_nothing_new(
    served: Served, http: httpx.Client, waits: threading.Event
) -> None:
    # given a key that waits for something new
    head = http.get("/v1/events", params={"limit": 1}).json()["head"]
    key = made_key(served, "admin")
    with ThreadPoolExecutor(1) as pool, served.client(key) as client, served.client(key) as other:
        waiting = pool.submit(client.get, "/v1/events", params={"after": head, "wait": 30})
        assert waits.wait(60)

        # when it is revoked, and then something is recorded
        revoke(served, key)
        wait_until(lambda: other.get("/v1/events").status_code == 401, "the key to be refused", within_s=25)
        only(post(http, call()))

        # then it is told that it was revoked, and nothing else
        assert_problem(waiting.result(60), 401)


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
    # what waits before it reads on waits longer than this client does
    found = http.get(
        "/v1/events", params={"after": after, "limit": 2, "channel": "kiosk", "wait": 30}, timeout=25
    ).json()["events"]
    assert [e["position"] for e in found] == [kiosk["position"]]


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


def test_the_stream_tells_what_is_new(served: Served, http: httpx.Client, waits: threading.Event) -> None:
    head = http.get("/v1/events", params={"limit": 1}).json()["head"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(streamed, served, 1, **{"Last-Event-ID": str(head)})
        assert waits.wait(60)
        recorded = only(post(http, call()))
        assert waiting.result(60)[0][0] == recorded["position"]


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

    def between(**span: str) -> list[int]:
        page = http.get(f"/v1/persons/{who}/history", params=span)
        return [e["position"] for e in page.json()["entries"]]

    assert between(since="2026-02-02T00:00:00Z", until="2026-02-05T00:00:00Z") == found[1:4]
    refused = http.get(
        f"/v1/persons/{who}/history",
        params={"since": "2026-02-02T00:00:00Z", "until": "2026-02-02T00:00:00Z"},
    )
    assert [e["pointer"] for e in assert_problem(refused, 400)["errors"]] == ["/until"]
    assert assert_problem(http.get("/v1/volumes", params={"direction": "in"}), 400)


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
        cut.shutdown(socket.SHUT_WR)
        cut.settimeout(60)
        while cut.recv(4096):  # until the server has seen the end, and closes
            pass
    assert http.get("/v1/events", params={"limit": 1}).json()["head"] == head
