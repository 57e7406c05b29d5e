"""Retention over HTTP: identity-aware, the same bytes for ever, drawn, kept, and its lists on record."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.running import Served, served_http
from tests.integration.test_columns import DAY, given, shelf_written, viewed, web


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Served]:
    with served_http(tmp_path_factory.mktemp("retention") / "data", module_database_url) as running:
        yield running


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


def asked(served: Served, http: httpx.Client, **question: Any) -> dict[str, Any]:
    served.project()
    answer = http.post("/v1/retention/query", json=question)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def shown(answer: dict[str, Any]) -> dict[str, tuple[int, list[int]]]:
    return {c["cohort"]: (c["size"], [i["count"] for i in c["intervals"][:4]]) for c in answer["cohorts"]}


def by_day(start: str, back: str) -> dict[str, Any]:
    """Ask who viewed one page, and on which days another."""
    first, second = viewed(start, back)
    return {"start": first, "return": second, "interval": "day", "intervals": 4}


def test_two_identifiers_return_as_one_person_once_they_are_known_to_be_and_what_was_told_stays(
    served: Served, http: httpx.Client
) -> None:
    # given one who started under one name and returned under another
    before = given(http, web("r1", "anonymous:r-1", "/r/a", 1), web("r2", "user:r-2", "/r/b", 3))
    question = by_day("/r/a", "/r/b")
    first = asked(served, http, **question)
    assert shown(first) == {"2026-03-01": (1, [0, 0, 0, 0])}
    assert first["head"] == first["known_at"] == before
    at = {**question, "known_at": f"@{before}"}
    text = http.post("/v1/retention/query", json=at).content

    # when a link makes them one, a late event arrives, and a correction moves a return
    correction = {
        "specversion": "1.0", "id": "r-c", "source": "test/office", "type": "correction.recorded", "time": DAY.format(9),
        "data": {"of": {"source": "test/web", "id": "r2"}, "patch": {"time": DAY.format(2)}},
    }  # fmt: skip
    linked = given(http, web("r3", "user:r-2", "/r/c", 4, identifiers="anonymous:r-1"))
    given(http, web("r4", "user:r-3", "/r/a", 2), correction)

    # then they count from when they are known, and each answer that was given is given again
    assert shown(asked(served, http, **question)) == {
        "2026-03-01": (1, [0, 1, 0, 0]),
        "2026-03-02": (1, [0, 0, 0, 0]),
    }
    assert shown(asked(served, http, **question, known_at=f"@{linked}")) == {"2026-03-01": (1, [0, 0, 1, 0])}
    assert shown(asked(served, http, **question, as_of=DAY.format(3)))["2026-03-01"] == (1, [0, 0, 0])
    assert http.post("/v1/retention/query", json=at).content == text
    with shelf_written(served):
        assert http.post("/v1/retention/query", json=at).content == text


def test_a_cell_lists_its_persons_with_the_events_that_put_them_there_and_is_on_record(
    served: Served, http: httpx.Client
) -> None:
    head = given(
        http, *(web(f"p{i}", f"user:p-{i}", "/p/a", 1) for i in range(3)), web("p9", "user:p-1", "/p/b", 2)
    )
    question = by_day("/p/a", "/p/b")
    asked(served, http, **question)
    before = served.records()

    cell = {**question, "cohort": "2026-03-01", "in_interval": 1}
    back = http.post("/v1/retention/persons", json=cell).json()
    gone = http.post("/v1/retention/persons", json={**cell, "returned": False, "limit": 1}).json()

    assert (back["count"], [p["positions"] for p in back["persons"]]) == (1, [[head - 2, head]])
    assert (gone["count"], len(gone["persons"]), gone["next"] is None) == (2, 1, False)
    assert served.records() > before
    for wrong in ({"cohort": "2026-03-31"}, {"in_interval": 4}, {"returned": 1}, {"value": 1}):
        assert http.post("/v1/retention/persons", json=cell | wrong).status_code == 400, wrong


def test_who_accepts_svg_gets_the_chart_instead_of_the_figures(served: Served, http: httpx.Client) -> None:
    given(http, web("s1", "user:s-1", "/s/a", 1), web("s2", "user:s-1", "/s/b", 3))
    served.project()
    funnel = {"steps": viewed("/s/a", "/s/b"), "window": "P14D", "trend": "day", "breakdown": "channel"}

    for path, question in (
        ("retention", by_day("/s/a", "/s/b") | {"breakdown": "channel"}),
        ("funnels", funnel),
    ):
        answer = http.post(f"/v1/{path}/query", json=question, headers={"Accept": "image/svg+xml"})
        assert answer.headers["content-type"] == "image/svg+xml"
        assert answer.text.startswith("<svg")
        assert "2026-03-01" in answer.text
        refused = http.post(f"/v1/{path}/query", json={}, headers={"Accept": "image/svg+xml"})
        assert refused.headers["content-type"] == "application/problem+json"


def test_a_kept_retention_has_a_new_version_when_it_changes(served: Served, http: httpx.Client) -> None:
    given(http, web("k1", "user:k-1", "/k/a", 1))
    served.project()
    question: dict[str, Any] = {"start": "web.page_viewed", "interval": "week"}

    saved = [question, question, question | {"intervals": 4}]
    versions = [
        http.put("/v1/retention/weekly", json=q | {"known_at": "@1"}).json()["version"] for q in saved
    ]

    assert versions == [1, 1, 2]
    assert http.get("/v1/retention/weekly").json()["retention"] == question | {"intervals": 4}
    assert http.get("/v1/retention/weekly?version=1").json()["retention"] == question
    assert "saved are: weekly" in http.get("/v1/retention/none").json()["detail"]
    assert http.put("/v1/retention/Weekly!", json=question).status_code == 400
    assert http.put("/v1/retention/other", json={"start": "web.page_view"}).status_code == 400
