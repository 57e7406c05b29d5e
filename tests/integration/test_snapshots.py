"""Snapshots of saved funnels: kept as they were told, once each, and every change of theirs explained to its last unit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import psycopg
import pytest
from typer.testing import CliRunner

from bin import cli
from bin.compose import core
from tests.integration.reading_house import House
from tests.integration.running import Served, served_http
from tests.integration.test_columns import DAY, given, viewed, web
from tests.integration.test_imports_retract import A, imported, retracted


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Served]:
    with served_http(tmp_path_factory.mktemp("snapshots") / "data", module_database_url) as running:
        yield running


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


def saved(served: Served, http: httpx.Client, name: str, **more: Any) -> None:
    served.project()
    question = {"steps": viewed(f"/{name}/a", f"/{name}/b"), "window": "P14D", **more}
    answer = http.put(f"/v1/funnels/{name}", json=question)
    assert answer.status_code == 200, answer.text


def taken(http: httpx.Client, name: str) -> dict[str, Any]:
    answer = http.post(f"/v1/funnels/{name}/snapshots")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def changed(served: Served, http: httpx.Client, name: str, **asked: Any) -> dict[str, Any]:
    served.project()
    answer = http.get(f"/v1/funnels/{name}/why-changed", params=asked)
    assert answer.status_code == 200, answer.text
    told = dict(answer.json())
    parts = [part["steps"] for part in told["parts"]]
    assert [sum(of_step) for of_step in zip(*parts, strict=True)] == told["change"]
    assert told["change"] == [n - t for n, t in zip(told["now"]["steps"], told["then"]["steps"], strict=True)]
    return told


def parts(told: dict[str, Any]) -> dict[str, tuple[list[int], list[int]]]:
    """Of each part that changed something, by how much, and the positions that did it."""
    return {
        p["part"]: (p["steps"], p["positions"])
        for p in told["parts"]
        if any(p["steps"]) or p["positions"] or p["units"]
    }


def correction(id_: str, of: str, path: str) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": id_, "source": "test/office", "type": "correction.recorded", "time": DAY.format(9),
        "data": {"of": {"source": "test/web", "id": of}, "patch": {"data": {"path": path}}},
    }  # fmt: skip


def test_each_entry_is_counted_for_the_kind_of_change_that_it_is(served: Served, http: httpx.Client) -> None:
    # given a report over five: w, x and y looked twice, z once, v under a second name
    given(
        http,
        *(web(f"y{who}1", f"user:y-{who}", "/y/a", 1) for who in "vwxyz"),
        *(web(f"y{who}2", f"user:y-{who}", "/y/b", 2) for who in "wxy"),
        web("yu2", "user:y-u", "/y/b", 2),
        web("yo", "user:y-other", "/elsewhere", 2),
    )
    saved(served, http, "y", breakdown="data.path")
    before = taken(http, "y")
    assert [s["count"] for s in before["answer"]["steps"]] == [5, 3]
    assert parts(changed(served, http, "y")) == {}

    # when each kind of entry comes, each with one that changes nothing
    today = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    late = given(http, web("yz2", "user:y-z", "/y/b", 3))
    given(http, web("yz3", "user:y-z", "/y/other", 3), web("yw3", "user:y-w", "/y/b", 5))
    new = given(http, web("yn1", "user:y-n", "/y/a", 1, time=today))
    amended = given(http, correction("yc1", "yw2", "/elsewhere"))
    given(http, correction("yc2", "yo", "/y/nowhere"))
    served.project()
    merged = http.post("/v1/persons/merge", json={"a": "user:y-v", "b": "user:y-u", "reason": "one"}).json()

    # then each is told for itself: w converts all the same, by its later look
    told = changed(served, http, "y")
    assert told["then"]["steps"] == [5, 3]
    assert told["now"]["steps"] == [6, 5]
    found = parts(told)
    assert found.pop("corrections") == ([0, 0], [amended]), "w converts by another event"
    assert found == {
        "new_events": ([1, 0], [new]),
        "late_events": ([0, 1], [late]),
        "identity": ([0, 1], [merged["position"]]),
    }
    types = {p["part"]: p["types"] for p in told["parts"]}
    assert types["identity"] == {"identity.merged": 1}
    assert types["corrections"] == {"correction.recorded": 1}
    by_value = {p["part"]: p["breakdown"] for p in told["parts"]}
    assert by_value["new_events"] == [{"value": "/y/a", "steps": [1, 0]}]

    # and what undoes it comes back as identity, seen from a snapshot taken between
    between = taken(http, "y")
    undone = http.post("/v1/persons/split", json={**merged["undo"], "reason": "two"}).json()
    told = changed(served, http, "y", snapshot=between["number"])
    assert parts(told) == {"identity": ([0, -1], [undone["position"]])}
    # the first snapshot knows of neither
    assert "identity" not in parts(changed(served, http, "y", snapshot=before["number"]))
    # and the past of the comparison itself can be asked again
    at = changed(served, http, "y", snapshot=before["number"], known_at=f"@{merged['position']}")
    assert at["now"]["steps"] == [6, 5]
    assert http.get(f"/v1/funnels/y/snapshots/{before['number']}").json() == before


def test_links_by_evidence_and_retractions_are_told_too(served: Served, http: httpx.Client) -> None:
    given(http, web("k1", "anonymous:k-1", "/k/a", 1), web("k2", "user:k-2", "/k/b", 2))
    file = [web(f"ki{n}", f"user:k-i{n}", "/k/a", 1) for n in range(3)]
    in_house(served, lambda it: imported(it, A, *file))
    saved(served, http, "k")
    taken(http, "k")

    link = given(http, web("k3", "user:k-2", "/k/c", 3, identifiers="anonymous:k-1"))
    assert parts(changed(served, http, "k")) == {"identity": ([0, 1], [link])}

    in_house(served, lambda it: retracted(it, A))
    told = changed(served, http, "k")
    (taken_back,) = [part for part in told["parts"] if part["part"] == "corrections"]
    assert (taken_back["steps"], taken_back["entries"], taken_back["units"]) == ([-3, 0], 1, 3)
    assert taken_back["types"] == {"import.retracted": 1}


def in_house(served: Served, work: Callable[[House], Coroutine[Any, Any, Any]]) -> None:
    """Do something that has no route."""

    async def whole() -> None:
        async with core(served.settings, served.database_url, pool_size=2) as parts_:
            await work(House(parts_))

    asyncio.run(whole())


def test_a_funnel_of_a_segment_is_explained_by_who_belongs_in_each_view(
    served: Served, http: httpx.Client
) -> None:
    # given those who looked at c twice or more; one of two belongs
    given(
        http,
        *(web(f"s{who}{n}", f"user:s-{who}", "/belong/c", n) for who, looks in (("a", 2), ("b", 1)) for n in range(1, looks + 1)),
        *(web(f"s{who}{n}", f"user:s-{who}", f"/belong/{'ab'[n - 5]}", n) for who in "ab" for n in (5, 6)),
    )  # fmt: skip
    rules = {"all": [{"did": "web.page_viewed", "where": {"path": "/belong/c"}, "at_least": 2}]}
    saved(served, http, "belong", segment=rules)
    assert [s["count"] for s in taken(http, "belong")["answer"]["steps"]] == [1, 1]

    # when it is learnt late that the other looked again
    late = given(http, web("sb3", "user:s-b", "/belong/c", 2))

    # then the answer changed by a late event
    told = changed(served, http, "belong")
    assert (told["then"]["steps"], told["now"]["steps"]) == ([1, 1], [2, 2])
    assert parts(told)["late_events"][0] == [1, 1], late


def test_a_snapshot_is_explained_in_the_version_of_the_segment_that_it_was_taken_of(
    served: Served, http: httpx.Client
) -> None:
    """As in the version of its funnel: what came in since is told, not that somebody saved other rules."""
    # given a snapshot of a funnel of a segment that is kept
    given(http, web("v1", "user:v-a", "/version/a", 1), web("v2", "user:v-b", "/version/a", 1))
    served.project()
    rules = {"all": [{"did": "web.page_viewed", "where": {"path": "/version/a"}}]}
    http.put("/v1/segments/version", json=rules)
    saved(served, http, "version", segment="version")
    assert [s["count"] for s in taken(http, "version")["answer"]["steps"]] == [2, 0]

    # when the segment gets other rules, to which nobody belongs, and one of the two goes on
    nobody = {"all": [{"did": "web.page_viewed", "where": {"path": "/version/a"}, "at_least": 9}]}
    assert http.put("/v1/segments/version", json=nobody).json()["version"] == 2
    given(http, web("v3", "user:v-a", "/version/b", 2))

    # then the change is what that one did
    told = changed(served, http, "version")
    assert (told["then"]["steps"], told["now"]["steps"]) == ([2, 0], [2, 1])
    assert len(told["notes"]) == 1


def test_the_schedule_takes_each_moment_once_as_it_was_then(served: Served, http: httpx.Client) -> None:
    given(http, web("s1", "user:s-1", "/s/a", 1))
    saved(served, http, "s", snapshot="1h")
    then = datetime.now(UTC)
    with psycopg.connect(
        served.database_url
    ) as conn:  # saved three hours ago, on whichever side of an hour it was
        conn.execute(
            "UPDATE touchlog.saved_funnels SET saved_at = %s WHERE name = 's'", (then - timedelta(hours=3),)
        )

    async def all_at_once() -> list[int]:
        async with core(served.settings, served.database_url, pool_size=4) as parts_:
            records = served.records()
            zone = ZoneInfo("UTC")
            counts = await asyncio.gather(*(parts_.snapshots.take_due(zone, then) for _ in range(2)))
            counts.append(await parts_.snapshots.take_due(zone, then))
            return [*counts, served.records() - records]

    *_, again, records = asyncio.run(all_at_once())

    assert again == 0
    assert records == 3
    shown = http.get("/v1/funnels/s/snapshots").json()["snapshots"]
    assert [s["due"] for s in shown] == [True] * 3
    hours = [then.replace(minute=0, second=0, microsecond=0) - timedelta(hours=h) for h in range(3)]
    assert [datetime.fromisoformat(s["at"]) for s in shown] == hours
    newest = http.get(f"/v1/funnels/s/snapshots/{shown[0]['number']}").json()
    assert newest["answer"]["known_at"] == newest["known_at"] == shown[0]["known_at"]
    question = {"steps": viewed("/s/a", "/s/b"), "window": "P14D"}
    asked = {**question, "known_at": f"@{newest['known_at']}"}
    assert http.post("/v1/funnels/query", json=asked).json() == newest["answer"]


def test_what_there_is_not_is_told_with_what_to_do(served: Served, http: httpx.Client) -> None:
    saved(served, http, "none", steps=["web.page_viewed", "order.placed"])

    assert "touchlog funnels snapshot none" in http.get("/v1/funnels/none/why-changed").json()["detail"]
    assert http.get("/v1/funnels/nobody/snapshots").status_code == 404
    assert http.post("/v1/funnels/nobody/snapshots").status_code == 404
    behind = taken(http, "none")
    wrong = http.get("/v1/funnels/none/why-changed", params={"known_at": "@0", "snapshot": behind["number"]})
    assert wrong.status_code == 400
    assert "none" in [f["name"] for f in http.get("/v1/funnels").json()["funnels"]]


def test_the_commands_save_ask_and_explain(served: Served, http: httpx.Client, tmp_path: Path) -> None:
    given(http, web("o1", "user:o-1", "/o/a", 1))
    served.project()
    file = tmp_path / "o.toml"
    steps = ", ".join(f'{{type = "web.page_viewed", where = {{path = "/o/{x}"}}}}' for x in "ab")
    file.write_text(f'steps = [{steps}]\nwindow = "14d"\n[range]\nfrom = 2026-01-01T00:00:00Z\n')

    def run(*command: str) -> str:
        done = CliRunner().invoke(
            cli.app,
            ["funnels", *command, "--data", str(served.settings.data)],
            env={"TOUCHLOG_DATABASE_URL": served.database_url},
        )
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "version 1; serve keeps its answer every 1d" in run("save", "o", str(file), "--every", "1d")
    assert "snapshot 1 of o version 1" in run("snapshot", "o")
    late = given(http, web("o2", "user:o-1", "/o/b", 2))
    told = run("why-changed", "o")
    assert f"late (had happened by then, recorded since): 1 web.page_viewed; positions {late}" in told
    assert run("list").count("1d") == run("snapshots", "o").count("hand") == 1
