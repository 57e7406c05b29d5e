"""Columns: what the log holds plainly, whole, to its head, corrected and taken back; killed anywhere, never wrong."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from adapters.columns.following import connected
from adapters.columns.funnels import ask
from adapters.columns.library import Library
from adapters.columns.shelf import Shelf
from adapters.columns.writer import Columns
from domain.funnels.reading import read_funnel
from tests.integration.running import Served, served_http
from tests.waiting import wait_until

BATCH = {"Content-Type": "application/cloudevents-batch+json"}
DAY = "2026-03-{:02}T12:00:00Z"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Served]:
    with served_http(tmp_path_factory.mktemp("columns") / "data", module_database_url) as running:
        yield running


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


def web(id_: str, who: str | None, path: str, day: int, **more: Any) -> dict[str, Any]:
    found = {
        "specversion": "1.0", "id": id_, "source": "test/web", "type": "web.page_viewed", "time": DAY.format(day),
        "data": {"path": path, "url": f"https://shop.example{path}", **more.pop("data", {})},
    } | more  # fmt: skip
    return found if who is None else found | {"subject": who}


def given(http: httpx.Client, *events: dict[str, Any]) -> int:
    """Record events; returns the head."""
    answer = http.post("/v1/events", json=list(events), headers=BATCH)
    assert answer.status_code == 200, answer.text
    assert answer.json()["rejected"] == 0, answer.text
    return int(answer.json()["head"])


def asked(served: Served, http: httpx.Client, **question: Any) -> dict[str, Any]:
    served.project()
    answer = http.post("/v1/funnels/query", json=question)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def viewed(*paths: str) -> list[dict[str, Any]]:
    return [{"type": "web.page_viewed", "where": {"path": p}} for p in paths]


def counts(answer: dict[str, Any]) -> list[int]:
    return [s["count"] for s in answer["steps"]]


def test_an_event_acknowledged_a_moment_ago_is_in_the_answer(served: Served, http: httpx.Client) -> None:
    head = given(http, web("t1", "user:tail", "/t/a", 1), web("t2", "user:tail", "/t/b", 2))

    answer = asked(served, http, steps=viewed("/t/a", "/t/b"), window="P14D")

    assert counts(answer) == [1, 1]
    assert answer["head"] == answer["known_at"] == head
    assert answer["steps"][0]["time_to_next"]["avg_s"] == 86_400


def test_a_whole_number_beyond_63_bits_is_asked_for_exactly(served: Served, http: httpx.Client) -> None:
    # given whole numbers up to the last that the log takes, beside small ones and fractions
    numbers = [1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1, 0.5]
    events = [
        web(f"big{n}", f"user:big{n}", "/big", 1, data={"size": number}) for n, number in enumerate(numbers)
    ]
    given(http, *events, *(web(f"big-end{n}", f"user:big{n}", "/big/end", 2) for n in range(len(numbers))))

    def counted(condition: Any) -> list[int]:
        first = {"type": "web.page_viewed", "where": {"path": "/big", "size": condition}}
        return counts(asked(served, http, steps=[first, *viewed("/big/end")], window="P14D"))

    # when they are asked for, then each is itself, and they are in order
    assert [counted(number) for number in numbers] == [[1, 1]] * len(numbers)
    assert counted({"op": ">", "value": 2**63 - 1}) == [3, 3]
    assert counted({"op": ">=", "value": 2**64 - 1}) == [1, 1]
    assert counted({"op": "<", "value": 2}) == [2, 2]


def test_a_key_that_ends_as_a_kind_does_is_a_property_like_any_other(
    served: Served, http: httpx.Client, tmp_path: Path
) -> None:
    # given keys of a sender that end as columns of several kinds are called, beside such a property
    given(
        http,
        web("kind1", "user:kind", "/kind", 1, data={"n": 1, "n#number": "t", "n#list": 2}),
        web("kind2", "user:kind", "/kind", 2, data={"n": "x", "n#number": 3}),
        web("kind3", "user:kind", "/kind", 3, data={"n#number": "u", "n": 2.5}),
    )

    def counted(**where: Any) -> list[int]:
        step = {"type": "web.page_viewed", "where": {"path": "/kind", **where}}
        return counts(asked(served, http, steps=[step, step], window="P14D", count="total"))[:1]

    # when they are asked for, out of the log and from the shelf
    for _ in range(2):
        assert [counted(n=1), counted(n="x"), counted(n="t"), counted(n=3)] == [[1], [1], [0], [0]]
        assert [counted(**{"n#number": v}) for v in ("t", 3, "u", 1)] == [[1], [1], [1], [0]]
        with shelf_written(served):
            pass


def test_links_make_two_identifiers_one_person_from_the_moment_they_are_known(
    served: Served, http: httpx.Client
) -> None:
    before = given(http, web("l1", "anonymous:l-1", "/l/a", 1), web("l2", "user:l-2", "/l/b", 2))
    question = {"steps": viewed("/l/a", "/l/b"), "window": "P14D"}
    assert counts(asked(served, http, **question)) == [1, 0]

    given(http, web("l3", "user:l-2", "/l/c", 3, identifiers="anonymous:l-1"))

    assert counts(asked(served, http, **question)) == [1, 1]
    assert counts(asked(served, http, **question, known_at=f"@{before}")) == [1, 0]
    assert counts(asked(served, http, **question, as_of=DAY.format(2))) == [1, 0]


def test_the_same_question_at_the_same_moment_is_byte_equal_whatever_comes(
    served: Served, http: httpx.Client
) -> None:
    given(
        http,
        web("e1", "user:e-1", "/e/a", 1),
        web("e2", "user:e-1", "/e/b", 2),
        web("e3", "user:e-2", "/e/a", 2),
    )
    question = {
        "steps": viewed("/e/a", "/e/b"), "window": "P14D", "breakdown": {"by": "data.path"}, "trend": "day",
    }  # fmt: skip
    first = asked(served, http, **question)
    at = {**question, "known_at": f"@{first['known_at']}"}
    text = http.post("/v1/funnels/query", json=at).content
    assert counts(first) == [2, 1]

    correction = {
        "specversion": "1.0", "id": "c-e2", "source": "test/office", "type": "correction.recorded", "time": DAY.format(9),
        "data": {"of": {"source": "test/web", "id": "e2"}, "patch": {"data": {"path": "/elsewhere"}}},
    }  # fmt: skip
    given(http, correction, web("e4", "user:e-2", "/e/b", 1))  # corrected, and one that arrived late
    assert counts(asked(served, http, **question)) == [2, 0]
    assert http.post("/v1/funnels/query", json=at).content == text

    with shelf_written(served) as _:
        assert http.post("/v1/funnels/query", json=at).content == text
        assert counts(asked(served, http, **question)) == [2, 0]


class shelf_written:  # noqa: N801 - reads as what it does
    """Write all of the log to the shelf, and be its writer while the block lasts."""

    def __init__(self, served: Served) -> None:
        self._shelf = Shelf(served.settings.data / "columns")
        self._url = served.database_url

    def __enter__(self) -> Columns:
        self._hold = self._shelf.written()
        self._hold.__enter__()
        self._conn = connected(self._url)
        columns = Columns(self._conn, self._shelf)
        while columns.step(all_of_it=True):
            pass
        return columns

    def __exit__(self, *_: object) -> None:
        self._conn.close()
        self._hold.__exit__(None, None, None)


@pytest.mark.parametrize("on_the_shelf", [False, True], ids=["read from the log", "written down"])
def test_what_can_be_asked_for_at_a_moment_does_not_hang_on_what_was_read_before(
    served: Served, http: httpx.Client, on_the_shelf: bool
) -> None:
    field = f"first_seen_{on_the_shelf}"
    question = {"steps": [{"type": "web.page_viewed", "where": {f"properties.{field}": 1}}, "cart.updated"]}
    before = given(http, web(f"q1-{on_the_shelf}", "user:q", "/q", 1))
    if on_the_shelf:
        with shelf_written(served):
            pass
    given(http, web(f"q2-{on_the_shelf}", "user:q", "/q", 2, data={"properties": {field: 1}}))
    if on_the_shelf:
        with shelf_written(served):
            pass
    served.project()

    library = Library(served.database_url, served.settings.data / "columns")
    try:
        view, owners, known_us = library.view(before, None)
        funnel = read_funnel({**question, "window": "1h"}, view.known)
        answer = ask(funnel, view, owners, as_of=None, as_of_us=None, known_us=known_us)
    finally:
        library.close()

    assert [s.count for s in answer.steps] == [0, 0]


@pytest.mark.parametrize("on_the_shelf", [False, True], ids=["read from the log", "written down"])
def test_merges_and_splits_count_from_when_they_are_known_and_change_no_answer_of_before(
    served: Served, http: httpx.Client, on_the_shelf: bool
) -> None:
    # given one who looked under two names that evidence may not join, and whose second name has a device
    of = f"m{int(on_the_shelf)}"
    one, two, device = f"user:{of}-1", f"user:{of}-2", f"anonymous:{of}"
    told: dict[int, tuple[list[int], bytes]] = {}
    question = {"steps": viewed(f"/{of}/a", f"/{of}/b", f"/{of}/c"), "window": "P14D"}

    def holds(position: int, expected: list[int]) -> None:
        """Ask as of now, and again whatever was asked before."""
        answer = asked(served, http, **question)
        assert (counts(answer), answer["known_at"]) == (expected, position)
        told[position] = (expected, again(position))
        assert {at: again(at) for at in told} == {at: text for at, (_, text) in told.items()}

    def again(position: int) -> bytes:
        return http.post("/v1/funnels/query", json={**question, "known_at": f"@{position}"}).content

    def decided(way: str, **said: str) -> dict[str, Any]:
        answer = http.post(f"/v1/persons/{way}", json={**said, "reason": "test"})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    start = given(
        http,
        web(f"{of}1", one, f"/{of}/a", 1),
        web(f"{of}2", two, f"/{of}/b", 2),
        web(f"{of}3", two, f"/{of}/z", 2, identifiers=device),
        web(f"{of}4", device, f"/{of}/c", 3),
    )
    holds(start, [1, 0, 0])

    # when the two are merged, then they are one whenever it is asked, but not as of a time before the merge
    merge = decided("merge", a=one, b=two)
    holds(merge["position"], [1, 1, 1])
    assert counts(asked(served, http, **question, as_of=DAY.format(20))) == [1, 0, 0]

    # when the device is split off, and the merge undone, then both were never so
    apart = decided("split", person=one, subject=device)
    holds(apart["position"], [1, 1, 0])
    if on_the_shelf:
        with shelf_written(served):
            holds(apart["position"], [1, 1, 0])
    undone = decided("split", **merge["undo"])
    holds(undone["position"], [1, 0, 0])
    assert counts(asked(served, http, **question, as_of=DAY.format(20))) == [1, 0, 0]

    # and evidence does not bring the device back
    last = given(http, web(f"{of}5", two, f"/{of}/y", 4, identifiers=device))
    holds(last, [1, 0, 0])
    rest = {"steps": viewed(f"/{of}/b", f"/{of}/c"), "window": "P14D"}
    assert counts(asked(served, http, **rest)) == [1, 0]
    assert counts(asked(served, http, **rest, known_at=f"@{start}")) == [1, 1]

    # and who asks for the first time is answered the same
    library = Library(served.database_url, served.settings.data / "columns")
    try:
        for position, (expected, _) in told.items():
            view, owners, _ = library.view(position, None)
            funnel = read_funnel(question, view.known)
            answer = ask(funnel, view, owners, as_of=None, as_of_us=None, known_us=0)
            assert [s.count for s in answer.steps] == expected
    finally:
        library.close()


def test_an_order_that_names_nobody_belongs_to_the_person_of_that_order(
    served: Served, http: httpx.Client
) -> None:
    shipped = {
        "specversion": "1.0", "id": "o2", "source": "test/shop", "type": "order.shipped", "time": DAY.format(3),
        "identifiers": "order:o-77", "data": {"order_id": "o-77"},
    }  # fmt: skip
    lost = {**shipped, "id": "o3", "identifiers": "order:o-nobody", "data": {"order_id": "o-nobody"}}
    placed = {
        "specversion": "1.0", "id": "o1", "source": "test/shop", "type": "order.placed", "time": DAY.format(2),
        "subject": "user:o-1", "identifiers": "order:o-77", "data": {"order_id": "o-77", "amount_minor": 5, "currency": "EUR"},
    }  # fmt: skip
    given(http, shipped, lost, placed)

    answer = asked(
        served,
        http,
        steps=[{"type": "order.placed", "where": {"order_id": "o-77"}}, "order.shipped"],
        window="P7D",
    )

    assert counts(answer) == [1, 1]
    alone = asked(served, http, steps=["order.shipped", "order.placed"], window="P7D")
    assert counts(alone) == [1, 0]


def test_persons_behind_a_bar_are_as_many_as_it_counts_and_on_record(
    served: Served, http: httpx.Client
) -> None:
    given(http, *(web(f"p{i}", f"user:p-{i}", "/p/a", 1) for i in range(5)), web("p9", "user:p-1", "/p/b", 2))
    question = {"steps": viewed("/p/a", "/p/b"), "window": "P14D"}
    answer = asked(served, http, **question)
    records = served.records()

    dropped = http.post(
        "/v1/funnels/persons", json={**question, "step": 2, "dropped": True, "limit": 3}
    ).json()

    assert dropped["count"] == counts(answer)[0] - counts(answer)[1] == 4
    assert len(dropped["persons"]) == 3
    assert all(len(p["positions"]) == 1 for p in dropped["persons"])
    assert served.records() == records + 1
    rest = http.post(
        "/v1/funnels/persons",
        json={**question, "step": 2, "dropped": True, "limit": 3, "cursor": dropped["next"]},
    ).json()
    assert len(rest["persons"]) == 1
    assert rest["next"] is None


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"steps": ["web.page_viewd", "order.placed"]}, "/steps/0/type", "web.page_viewed"),
    ({"window": "0s"}, "/window", "nothing"),
    ({"window": "-1d"}, "/window", "negative"),
    ({"window": "soon"}, "/window", "P14D"),
    ({"steps": ["order.placed"]}, "/steps", "2 to 20"),
    ({"steps": ["order.placed"] * 21}, "/steps", "2 to 20"),
    (
        {"steps": [{"type": "web.page_viewed", "where": {"path": 3}}, "order.placed"]},
        "/steps/0/where/path",
        "text",
    ),
    (
        {"steps": [{"type": "web.page_viewed", "where": {"pth": "/"}}, "order.placed"]},
        "/steps/0/where/pth",
        "data.path",
    ),
    ({"range": {"from": DAY.format(2), "to": DAY.format(2)}}, "/range", "empty"),
    ({"order": "any", "entry": "first"}, "/entry", "any"),
    ({"hold": ["path"], "order": "strict"}, "/hold", "strict"),
    ({"timezone": "Mars/Olympus"}, "/timezone", "Mars"),
    ({"windw": "1d"}, "/windw", "window"),
    ({"breakdown": {"by": "data.path", "attribution": "step:3"}}, "/breakdown/attribution", "1 to 2"),
]


@pytest.mark.parametrize(("change", "pointer", "word"), WRONG, ids=[str(w[0])[:50] for w in WRONG])
def test_a_question_that_cannot_be_meant_is_told_where_and_why(
    served: Served, http: httpx.Client, change: dict[str, Any], pointer: str, word: str
) -> None:
    served.project()

    answer = http.post(
        "/v1/funnels/query", json={"steps": ["web.page_viewed", "order.placed"], "window": "P1D"} | change
    )

    assert answer.status_code == 400, answer.text
    told = [e for e in answer.json()["errors"] if e["pointer"] == pointer]
    assert told, answer.text
    assert word in told[0]["detail"]


def test_a_saved_funnel_has_a_new_version_when_it_changes(served: Served, http: httpx.Client) -> None:
    served.project()
    question = {"steps": ["web.page_viewed", "order.placed"], "window": "P1D"}

    versions = [
        http.put("/v1/funnels/checkout", json=q).json()["version"]
        for q in (question, question, {**question, "window": "P2D"})
    ]

    assert versions == [1, 1, 2]
    assert http.get("/v1/funnels/checkout").json()["funnel"]["window"] == "P2D"
    assert http.get("/v1/funnels/checkout?version=1").json()["funnel"] == question
    assert http.get("/v1/funnels/none").status_code == 404


WRITE = """
import sys
from pathlib import Path
from adapters.columns import writer
from adapters.columns.following import connected
from adapters.columns.funnels import ask
from adapters.columns.shelf import Shelf
from adapters.columns import following
following.BATCH_EVENTS = 3
writer.AT_ONCE_ROWS = 3
shelf = Shelf(Path(sys.argv[2]))
with shelf.written(), connected(sys.argv[1]) as conn:
    columns = writer.Columns(conn, shelf)
    print("begun", flush=True)
    while columns.step(all_of_it=True):
        pass
print("done", flush=True)
"""


def _killed_behind_a_segment(process: subprocess.Popen[str], folder: Path) -> None:
    """Kill a writer at some place behind the next segment that it writes."""

    def written() -> int:
        found = Shelf(folder).read()
        return found.next if found else 0

    start = written()
    wait_until(lambda: process.poll() is not None or written() > start, "a segment")
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)


def test_a_writer_that_is_killed_anywhere_leaves_columns_that_count_every_event_once(
    served: Served, http: httpx.Client, tmp_path: Path
) -> None:
    head = given(http, *(web(f"k{i}", f"user:k-{i % 7}", "/k", 1 + i % 20) for i in range(120)))
    folder = tmp_path / "columns"
    done = False
    for attempt in range(200):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE, served.database_url, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        if attempt < 8:
            _killed_behind_a_segment(process, folder)
        done = process.wait(300) == 0
        process.stdout.close()
        if done:
            break
    assert done
    manifest = Shelf(folder).read()
    assert manifest is not None
    assert manifest.position == head
    assert len(manifest.segments) < 30, "small segments are merged"
    library = Library(served.database_url, folder)
    try:
        served.project()
        view, _, _ = library.view(head, None)
        pairs = [
            (int(p), int(since))
            for chunk in view.chunks
            for p, since in zip(chunk.ints("position"), chunk.ints("known_from"), strict=True)
        ]
    finally:
        library.close()
    with psycopg.connect(served.database_url) as conn:
        logged = [p for (p,) in conn.execute("SELECT position FROM touchpoint_log.events ORDER BY position")]
    assert sorted(p for p, since in pairs if p == since) == logged
    assert len(set(pairs)) == len(pairs)


def test_no_personal_field_is_in_the_columns(served: Served, http: httpx.Client) -> None:
    mail = {
        "specversion": "1.0", "id": "m1", "source": "test/mail", "type": "email.received", "time": DAY.format(1),
        "subject": "email:secret.person@example.com", "data": {"subject": "my very private words", "from": "email:secret.person@example.com"},
    }  # fmt: skip
    given(http, mail)
    served.project()
    with shelf_written(served):
        for file in (served.settings.data / "columns").iterdir():
            assert b"secret.person" not in file.read_bytes()
            assert b"private words" not in file.read_bytes()


def test_asking_at_once_gives_every_asker_the_same(served: Served) -> None:
    served.project()
    question = {"steps": ["web.page_viewed", "order.placed"], "window": "P1D"}

    async def all_at_once() -> list[bytes]:
        async with httpx.AsyncClient(
            base_url=served.url,
            headers={"Authorization": f"Bearer {served.key}"},
            timeout=120,
            trust_env=False,
        ) as client:
            answers = await asyncio.gather(
                *(client.post("/v1/funnels/query", json=question) for _ in range(8))
            )
            return [a.content for a in answers]

    assert len(set(asyncio.run(all_at_once()))) == 1


SQL = 'SELECT "data.path" AS path, count(DISTINCT person) AS persons FROM read.event_log WHERE "data.path" LIKE \'/q/%\' GROUP BY ALL ORDER BY 1'


def test_sql_sees_the_log_as_it_holds_and_nothing_else_of_the_machine(
    served: Served, http: httpx.Client, tmp_path: Path
) -> None:
    from adapters.columns.sql import ask_sql
    from domain.errors import Invalid

    before = given(http, web("q1", "user:q-1", "/q/a", 1), web("q2", "user:q-2", "/q/a", 2))
    correction = {
        "specversion": "1.0", "id": "c-q2", "source": "test/office", "type": "correction.recorded", "time": DAY.format(9),
        "data": {"of": {"source": "test/web", "id": "q2"}, "patch": {"data": {"path": "/q/b"}}},
    }  # fmt: skip
    head = given(http, correction)
    served.project()
    library = Library(served.database_url, served.settings.data / "columns")
    try:
        for _ in range(2):  # out of the log, and from the shelf
            assert ask_sql(library, SQL, known_at=head).rows == [("/q/a", 1), ("/q/b", 1)]
            assert ask_sql(library, SQL, known_at=before).rows == [("/q/a", 2)]
            times = "SELECT max(occurred_at), count(*), sum(position - position) FROM read.event_log WHERE source_id LIKE 'q_'"
            assert ask_sql(library, times, known_at=head).rows == [
                (datetime(2026, 3, 2, 12, tzinfo=UTC), 2, 0)
            ]
            with shelf_written(served):
                pass
        for refused in (
            "SELECT * FROM read_csv('/etc/passwd')",
            f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
            "SET enable_external_access = true",
            "SELEC 1",
            " ;\n",
        ):
            with pytest.raises(Invalid):
                ask_sql(library, refused, known_at=head)
    finally:
        library.close()


@pytest.mark.parametrize("table", ["persons", "columns", "event_log"])
def test_sql_asked_again_at_its_moment_answers_the_same_whatever_came_since(
    served: Served, http: httpx.Client, table: str
) -> None:
    from adapters.columns.sql import ask_sql

    # given what was known then, and what had happened by the second day
    query = f"SELECT * FROM read.{table} ORDER BY ALL"  # noqa: S608 - our own words
    then = given(http, web(f"w1{table}", "user:w-1", "/w/a", 1), web(f"w2{table}", "user:w-2", "/w/a", 2))
    served.project()
    library = Library(served.database_url, served.settings.data / "columns")
    day = datetime(2026, 3, 2, tzinfo=UTC)
    try:
        told = [ask_sql(library, query, known_at=then, as_of=cut).rows for cut in (None, day)]
        assert told[0]

        # when others come, are linked, and a correction changes what was
        correction = {
            "specversion": "1.0", "id": f"c-w2{table}", "source": "test/office", "type": "correction.recorded", "time": DAY.format(9),
            "data": {"of": {"source": "test/web", "id": f"w2{table}"}, "patch": {"data": {"path": "/w/b"}}},
        }  # fmt: skip
        new = web(f"w3{table}", f"user:w-3{table}", "/w/c", 1, identifiers="anonymous:w-1")
        head = given(http, correction, new)
        served.project()

        # then the files hold it, and the answers of then do not
        assert ask_sql(library, query, known_at=head).rows != told[0]
        assert [ask_sql(library, query, known_at=then, as_of=cut).rows for cut in (None, day)] == told
    finally:
        library.close()


@pytest.mark.parametrize(
    "query",
    [
        "SELECT occurred_at + INTERVAL 20000 YEAR FROM read.event_log",
        "SELECT 'infinity'::TIMESTAMPTZ FROM read.event_log",
    ],
)
def test_sql_refuses_a_time_beyond_the_calendar_by_its_words(
    served: Served, http: httpx.Client, query: str
) -> None:
    from adapters.columns.sql import ask_sql
    from domain.errors import Invalid

    head = given(http, web("far", "user:far", "/far", 1))
    served.project()
    library = Library(served.database_url, served.settings.data / "columns")
    try:
        with pytest.raises(Invalid, match="VARCHAR"):
            ask_sql(library, query, known_at=head)
        nanoseconds = "SELECT occurred_at, TIMESTAMP_NS '2026-01-01 00:00:00.123456789' FROM read.event_log WHERE source_id = 'far'"
        assert ask_sql(library, nanoseconds, known_at=head).rows == [
            (datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 0, 0, 0, 123456))  # noqa: DTZ001 - as asked
        ]
    finally:
        library.close()


def test_sql_asks_one_question_and_refuses_two_rather_than_answer_the_last(
    served: Served, http: httpx.Client
) -> None:
    from adapters.columns.sql import ask_sql
    from domain.errors import Invalid

    # given a log, and statements of which the first has an answer of its own
    head = given(http, web("one", "user:one", "/one", 1))
    served.project()
    library = Library(served.database_url, served.settings.data / "columns")
    try:
        for several in (
            "SELECT 1; SELECT 2",
            "SHOW TABLES; SELECT 1",
            "SELECT 1; SET threads = 1; SELECT 2;",
        ):
            # when they are asked, then they are refused
            with pytest.raises(Invalid, match="one by one"):
                ask_sql(library, several, known_at=head)
        # and what only prepares may stand before the question
        prepared = "CREATE TEMP MACRO twice(n) AS 2 * n; SELECT twice(21); -- that is all"
        assert ask_sql(library, prepared, known_at=head).rows == [(42,)]
    finally:
        library.close()


def test_a_statement_that_nobody_waits_for_any_more_is_ended(
    served: Served, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ctrl-C does it: the task is cancelled, and the end of the process would wait for the statement's thread."""
    from adapters.columns import sql
    from bin.compose import core

    given(http, web("long", "user:long", "/long", 1))
    served.project()
    begun, ended = threading.Event(), threading.Event()
    ask_sql = sql.ask_sql

    def seen(*asked: Any, **more: Any) -> Any:
        begun.set()
        try:
            return ask_sql(*asked, **more)
        finally:
            ended.set()

    monkeypatch.setattr(sql, "ask_sql", seen)

    async def whole() -> None:
        async with core(served.settings, served.database_url, pool_size=2) as parts:
            long = "SELECT count(*) FROM range(20000000000) r WHERE hash(range) = 1"
            task = asyncio.ensure_future(parts.funnels.sql(long))
            assert await asyncio.to_thread(begun.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert ended.is_set()

    asyncio.run(whole())


def test_an_answer_is_drawn_as_svg(served: Served, http: httpx.Client) -> None:
    import msgspec

    from adapters.analysis import charts
    from domain.funnels.answer import Answer

    given(
        http,
        *(web(f"s{i}", f"user:s-{i}", "/s/a", 1 + i) for i in range(3)),
        web("s9", "user:s-1", "/s/b", 4),
    )
    told = asked(
        served, http, steps=viewed("/s/a", "/s/b"), window="P14D", breakdown="data.path", trend="day"
    )

    drawn = charts.svg(charts.funnel_chart(msgspec.convert(told, Answer), ["a", "b"]))

    assert drawn.startswith("<svg")
    assert "1. a" in drawn
    assert "Time to convert" in drawn
