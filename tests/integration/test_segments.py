"""Paths and segments as they are asked: by persons and moments, kept in versions, on record, and for ever the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from adapters.columns import kernel, spells, walking
from domain.errors import Invalid
from tests.integration.reading_house import House, story
from tests.integration.running import Served, served_http
from tests.integration.test_columns import DAY, given, web


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Served]:
    for compiled in (kernel, spells, walking):  # no question waits for the compiler
        compiled.warm()
    with served_http(tmp_path_factory.mktemp("segments") / "data", module_database_url) as running:
        yield running


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


def asked(served: Served, http: httpx.Client, route: str, **question: Any) -> dict[str, Any]:
    served.project()
    answer = http.post(f"/v1/{route}", json=question)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def looked(path: str, **more: Any) -> dict[str, Any]:
    return {"did": "web.page_viewed", "where": {"path": path}, **more}


def test_paths_go_over_what_persons_are_and_stay_what_they_were(served: Served, http: httpx.Client) -> None:
    # given one who looked under two names
    before = given(
        http, web("a1", "anonymous:a", "/a", 1), web("a2", "user:a", "/b", 2), web("a3", "user:b", "/a", 3)
    )
    question = {"around": {"type": "web.page_viewed", "where": {"path": "/a"}}, "by": "data.path", "after": 2}
    first = asked(served, http, "paths/query", **question)
    assert [(s["before"], [n["value"] for n in s["after"]], s["count"]) for s in first["sequences"]] == [
        ([], [], 2)
    ]
    again = {**question, "known_at": f"@{first['known_at']}"}
    text = http.post("/v1/paths/query", json=again).content

    # when the two are linked by an event
    given(http, web("a4", "user:a", "/c", 4, identifiers="anonymous:a"))

    # then they are one path from then on, and none as known before
    answer = asked(served, http, "paths/query", **question)
    assert {tuple(n["value"] for n in s["after"]): s["count"] for s in answer["sequences"]} == {
        (): 1,
        ("/b", "/c"): 1,
    }
    assert first["known_at"] == before
    assert http.post("/v1/paths/query", json=again).content == text


def test_segments_tell_who_came_and_went_and_stay_what_they_were(served: Served, http: httpx.Client) -> None:
    # given a segment of those who looked at two things and not at a third since
    rules = {"all": [looked("/s/a", at_least=2, within="10d"), looked("/s/z", at_most=0, since=1)]}
    head = given(
        http,
        *(web(f"s{who}{day}", f"user:s-{who}", "/s/a", day) for who in "abc" for day in (1, 2)),
        web("sa3", "user:s-a", "/s/z", 3), web("sb4", "user:s-b", "/s/b", 4), web("sz", "user:s-z", "/s/b", 5),
    )  # fmt: skip
    served.project()
    assert http.put("/v1/segments/keen", json=rules).json()["version"] == 1
    keen = {"segment": "keen", "as_of": DAY.format(5), "trend": "day"}

    # when it is asked how many belong, and who
    answer = asked(served, http, "segments/query", **keen)
    records = served.records()
    persons = asked(served, http, "segments/persons", segment="keen", state="ever", as_of=DAY.format(5))

    # then it is told with dates, and the list is on record
    assert (answer["name"], answer["version"], answer["members"], answer["ever"]) == ("keen", 1, 2, 3)
    assert [(p["period"][-2:], p["entered"], p["left"], p["members"]) for p in answer["trend"]] == [
        ("02", 3, 0, 3), ("03", 0, 1, 2), ("04", 0, 0, 2), ("05", 0, 0, 2),
    ]  # fmt: skip
    spells = sorted(p["spells"][0]["left"] or "" for p in persons["persons"])
    assert spells == ["", "", "2026-03-03T12:00:00.000000Z"]
    assert served.records() == records + 1
    assert asked(served, http, "segments/query", segment="keen", as_of=DAY.format(11))["members"] == 0

    # and a funnel and paths may be narrowed to its persons, or to a cohort of it
    steps = [{"type": "web.page_viewed", "where": {"path": p}} for p in ("/s/a", "/s/b")]
    funnel = {"steps": steps, "window": "P14D", "as_of": DAY.format(5)}
    assert told(asked(served, http, "funnels/query", **funnel)) == [3, 1]
    mine = asked(served, http, "funnels/query", **funnel, segment="keen@1")
    assert (told(mine), mine["segment"]) == ([2, 1], {"name": "keen", "version": 1, "persons": 2})
    cohort = {**rules, "entered": {"from": DAY.format(2), "to": DAY.format(3)}}
    assert told(asked(served, http, "funnels/query", **funnel, segment=cohort)) == [3, 1]
    behind = asked(served, http, "funnels/persons", **funnel, segment="keen", step=1)
    assert behind["count"] == 2
    around = {"around": {"type": "web.page_viewed", "where": {"path": "/s/a"}}, "as_of": DAY.format(5)}
    assert asked(served, http, "paths/query", **around, segment="keen")["units"] == 2

    # and whatever comes later, what was known then is the same
    then = {**keen, "segment": "keen@1", "known_at": f"@{head}"}
    text = http.post("/v1/segments/query", json=then).content
    fault = {
        "specversion": "1.0", "id": "fs", "source": "test/office", "type": "correction.recorded", "time": DAY.format(9),
        "data": {"of": {"source": "test/web", "id": "sb1"}, "patch": {"data": {"path": "/elsewhere"}}},
    }  # fmt: skip
    given(http, fault, web("sc9", "user:s-c", "/s/z", 4))
    assert asked(served, http, "segments/query", **keen)["members"] == 0
    assert http.post("/v1/segments/query", json=then).content == text

    # and a changed segment is a new version beside the old
    assert http.put("/v1/segments/keen", json=rules).json()["version"] == 1
    assert http.put("/v1/segments/keen", json={"any": rules["all"]}).json()["version"] == 2
    assert http.get("/v1/segments/keen?version=1").json()["segment"] == rules
    assert [s["version"] for s in http.get("/v1/segments").json()["segments"]] == [2]
    assert http.get("/v1/segments/none").status_code == 404


def told(answer: dict[str, Any]) -> list[int]:
    return [s["count"] for s in answer["steps"]]


WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("paths/query", {"around": "web.page_viewd"}, "/around/type", "web.page_viewed"),
    ("paths/query", {"around": "web.page_viewed", "segment": "nobody"}, "/segment", "no segment 'nobody'"),
    ("segments/query", {}, "/segment", "missing"),
    ("segments/query", {"segment": {"all": [{"did": "order.place", "at_least": 3}]}}, "/segment/all/0/did", "order.placed"),
    ("segments/query", {"segment": {"all": [looked("/", within="0d")]}}, "/segment/all/0/within", "nothing"),
    ("segments/query", {"segment": {"all": [looked("/")]}, "trends": "day"}, "/trends", "trend"),
    ("segments/persons", {"segment": {"all": [looked("/")]}, "state": "gone"}, "/state", "member"),
    ("segments/persons", {"segment": {"all": [looked("/")]}, "limit": 0}, "/limit", "from 1"),
    ("funnels/query", {"steps": ["order.placed"] * 2, "window": "1d", "unit": "data.path", "segment": "x"}, "/segment", "unit person"),
]  # fmt: skip


def test_what_cannot_be_meant_is_told_where_and_why(served: Served, http: httpx.Client) -> None:
    given(http, web("w1", "user:w", "/w", 1))
    served.project()
    for route, question, pointer, word in WRONG:
        answer = http.post(f"/v1/{route}", json=question)
        assert answer.status_code == 400, answer.text
        assert any(e["pointer"] == pointer and word in e["detail"] for e in answer.json()["errors"]), (
            answer.text
        )


@pytest.mark.parametrize("room", ["funnels", "retention", "segments"])
@pytest.mark.parametrize("name", ["persons", "query"])
def test_nothing_is_kept_under_a_name_that_is_an_address(
    served: Served, http: httpx.Client, room: str, name: str
) -> None:
    """`GET /v1/funnels/persons` could not give it again: that address takes questions."""
    answer = http.put(f"/v1/{room}/{name}", json={})

    assert answer.status_code == 405
    assert answer.headers["allow"] == "OPTIONS, POST"
    assert [(e["pointer"], e["code"]) for e in answer.json()["errors"]] == [("/name", "reserved")]


@story
async def test_a_command_keeps_nothing_under_such_a_name_either(it: House) -> None:
    rules = {"all": [{"did": "order.placed", "at_least": 3}]}
    funnel = {"steps": ["order.placed", "order.shipped"], "window": "1d"}
    weekly = {"start": "order.placed", "interval": "week"}
    await it.projected()
    for kept in (
        it.core.segments.save("query", rules, "key:test"),
        it.core.funnels.save("persons", funnel, "key:test"),
        it.core.retentions.save("query", weekly, "key:test"),
    ):
        with pytest.raises(Invalid, match="an address of its own"):
            await kept


FAULT = {"specversion": "1.0", "source": "test/office", "type": "correction.recorded", "time": DAY.format(9)}


@pytest.mark.parametrize("room", ["funnels", "retention", "segments"])
def test_the_pages_of_a_list_of_persons_are_of_one_moment(
    served: Served, http: httpx.Client, room: str
) -> None:
    # given a list of three, in two pages
    a, z = f"/page/{room}", f"/page/{room}/z"
    given(http, *(web(f"{room}{i}", f"user:{room}-{i}", a, 1) for i in range(3)))
    served.project()
    http.put("/v1/segments/paged", json={"all": [looked(a)]})
    step = {"type": "web.page_viewed", "where": {"path": a}}
    question: dict[str, dict[str, Any]] = {
        "funnels": {"steps": [step, step], "window": "P1D", "segment": "paged"},
        "retention": {"start": step, "interval": "day"},
        "segments": {"segment": {"name": "paged"}},
    }
    asking = {**question[room], "limit": 2}
    whole = asked(served, http, f"{room}/persons", **asking | {"limit": 3})
    first = asked(served, http, f"{room}/persons", **asking)
    assert whole["next"] is None, "exactly a page is the last one"

    # when all but one are corrected away between the pages, and the segment becomes another
    patch = {"data": {"path": z}}
    given(http, *(
        {**FAULT, "id": f"{room}-fault{i}", "data": {"of": {"source": "test/web", "id": f"{room}{i}"}, "patch": patch}}
        for i in range(2)
    ))  # fmt: skip
    served.project()
    http.put("/v1/segments/paged", json={"all": [looked(z)]})
    second = asked(served, http, f"{room}/persons", **asking, cursor=first["next"])

    # then the second goes on where the first ended, and a new list tells what is known now
    assert first["persons"] + second["persons"] == whole["persons"]
    assert {**whole, "persons": 0} == {**second, "persons": 0}
    beside = {**asking, "cursor": first["next"], "known_at": f"@{first['known_at']}"}
    assert asked(served, http, f"{room}/persons", **beside) == second
    for another in ({"known_at": f"@{first['known_at'] + 1}"}, {"as_of": DAY.format(5)}):
        refused = http.post(f"/v1/{room}/persons", json={**asking, "cursor": first["next"], **another})
        assert [e["code"] for e in refused.json()["errors"]] == ["other_moment"]
