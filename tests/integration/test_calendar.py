"""Times at the edges of the calendar are answered or refused by name, in whatever zone; nothing fails."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from adapters.http.verdicts import _moment
from domain.entry import LAST_INSTANT, in_zone
from domain.funnels.answer import periods
from domain.funnels.reading import micros
from tests.integration.reading_house import event
from tests.integration.running import served_http

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EDGES = (
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+14:00",
    "0001-01-01T00:00:00-12:00",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59+14:00",
    "9999-12-31T23:59:59-12:00",
)
DAYS = ("0001-01-01", "9999-12-31")
TIMES = {"as_of", "known_at", "at", "from", "to", "said_at", "day", "since", "by"}
PAGES = {
    "/persons/email:ann@example.com": ("as_of", "known_at"),
    "/persons/email:ann@example.com/why": ("as_of", "known_at"),
    "/consent/breaches": ("from", "to", "known_at", "said_at"),
}
SPAN = {"from": "2026-01-01T00:00:00Z", "to": "2026-04-01T00:00:00Z"}
GIVEN = SPAN | {"person": "email:ann@example.com", "contact": "email:ann@example.com", "minutes": "5"}
STEPS = [{"type": "call.ended"}, {"type": "email.sent"}]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_no_question_fails_at_the_edges_of_the_calendar_in_the_east_and_in_the_west(
    tmp_path: Path, database_url: str, zone: str
) -> None:
    """Each time parameter of each route, the pages, the officer's questions, and the bodies of the analysts' ones."""
    failed: list[tuple[Any, ...]] = []
    with served_http(tmp_path / "data", database_url, timezone=zone) as served, served.client() as client:

        def ask(method: str, path: str, **asked: Any) -> None:
            answer = client.request(method, path, **asked)
            if answer.status_code == 500:
                failed.append((method, path, asked, answer.status_code))

        structured = {"Content-Type": "application/cloudevents+json"}
        assert client.post("/v1/events", json=event("1"), headers=structured).status_code == 200
        served.project()
        for route, operations in client.get("/openapi.json").json()["paths"].items():
            named = {one["name"] for one in operations.get("get", {}).get("parameters", ())} & TIMES
            path = (
                route.replace("{ref}", "email:ann@example.com").replace("{name}", "x").replace("{key}", "k")
            )
            given = {name: at for name, at in SPAN.items() if name in named}
            for name, edge in product(named, (*EDGES, *DAYS)):
                ask("GET", path, params=given | {name: edge})
            if given:
                for begin, end in product(EDGES, repeat=2):
                    ask("GET", path, params={"from": begin, "to": end})
        for path, names in PAGES.items():
            for name, edge in product(names, (*EDGES, *DAYS)):
                if (
                    name != "said_at" or edge[0] == "9"
                ):  # for an earlier one the judge is waited for, who is not there
                    ask("GET", path, params={name: edge}, headers={"Accept": "text/html"})
        for one in client.get("/v1/consent/questions").json()["questions"]:
            given = {each["name"]: GIVEN.get(each["name"], "x") for each in one["parameters"]}
            for name, edge in product(given.keys() & TIMES, (*EDGES, *DAYS)):
                ask("GET", f"/v1/consent/questions/{one['number']}", params=given | {name: edge})
                form = {"data": given | {name: edge}, "headers": {"Origin": served.url}}
                ask("POST", f"/consent/questions/{one['number']}", **form)
        spans: list[dict[str, Any]] = [{"range": {"from": a}} for a in EDGES] + [
            {"range": {"to": a}} for a in EDGES
        ]
        spans += [
            {"range": {"from": a, "to": b}}
            for a, b in ((EDGES[0], EDGES[3]), (EDGES[4], EDGES[3]), (EDGES[0], EDGES[2]))
        ]
        spans += [{name: edge} for name, edge in product(("as_of", "known_at"), EDGES)]
        for span, trend in product(spans, ("day", "week", "month")):
            ask(
                "POST",
                "/v1/funnels/query",
                json=span | {"steps": STEPS, "window": "P14D", "trend": trend, "timezone": zone},
            )
            start = {"start": STEPS[0], "return": STEPS[1], "interval": trend, "timezone": zone}
            ask("POST", "/v1/retention/query", json=span | start)
        for span in spans:
            ask("POST", "/v1/paths/query", json=span | {"around": "call.ended", "before": 2})
        assert failed == []


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Etc/GMT+12"])
@pytest.mark.parametrize("trend", ["day", "week", "month"])
def test_intervals_of_a_trend_reach_from_the_first_to_the_last_day_of_the_calendar(
    zone: str, trend: Any
) -> None:
    """They grow, begin with a day, a Monday or a month there, and the last ends behind what was asked for, or with the calendar."""
    for begin in (datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 11, 17, 12, tzinfo=UTC)):
        end = min(begin.replace(year=1 if begin.year == 1 else 9999, month=12), LAST_INSTANT)
        for until in (end, LAST_INSTANT) if begin.year == 9999 else (end,):
            found = [at for at, _ in periods(trend, ZoneInfo(zone), micros(begin), micros(until))]
            begun = [in_zone(EPOCH + timedelta(microseconds=at), ZoneInfo(zone)) for at in found[:-1]]
            assert all(at.isoweekday() == 1 for at in begun if trend == "week")
            assert all(at.day == 1 for at in begun if trend == "month")
            assert micros(begin) < found[1]
            assert found[0] <= micros(begin) or begin.year == 1, "before it no zone has a date"
            assert found == sorted(set(found))
            assert found[-2] < micros(until) <= found[-1]


def test_a_day_of_twenty_five_hours_is_known_until_its_end() -> None:
    """As the page of breaches takes a day for what was said on it."""
    berlin = ZoneInfo("Europe/Berlin")
    assert _moment("2025-10-26", berlin) == datetime(2025, 10, 26, 22, 59, 59, 999_999, tzinfo=UTC)
    assert _moment("2025-03-30", berlin) == datetime(2025, 3, 30, 21, 59, 59, 999_999, tzinfo=UTC)
