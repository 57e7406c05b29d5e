"""Funnels over data sets of others, whole: what is known of them, found by asking."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
import os
import subprocess
import sys
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_ingest_command import whole

ECOM = "ecom_clickstream_synthetic/ecom.csv.gz"
RETAIL = "online_retail/online_retail.csv.xz"
MAP = """
source = "shop"
type = "web.page_viewed"
time = { column = "timestamp", format = "%Y-%m-%d %H:%M:%S", zone = "UTC" }
subject = { column = "user_id", kind = "user" }

[data]
name = "event"
session_id = "session_id"
device = "platform"
utm_source = "acquisition_channel"
"""


class Installation:
    """An installation of which commands speak."""

    def __init__(self, data: Path, url: str) -> None:
        self._data = data
        self._environment = {**os.environ, "TOUCHLOG_DATABASE_URL": url}

    def __call__(self, *words: object) -> Any:
        command = [sys.executable, "-m", "bin.cli", *map(str, words), "--json", "--data", str(self._data)]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def touchlog(tmp_path: Path, database_url: str) -> Installation:
    return Installation(tmp_path / "data", database_url)


def named(*names: str) -> list[dict[str, Any]]:
    """Give steps of pages of these names."""
    return [{"type": "web.page_viewed", "where": {"name": name}} for name in names]


def counts(answer: Any) -> list[int]:
    return [step["count"] for step in answer["steps"]]


def test_of_online_retail_65_58_percent_ordered_more_than_once(
    touchlog: Installation, tmp_path: Path
) -> None:
    # given a year of orders and cancellations
    touchlog("ingest", whole(RETAIL), "--format", "csv:online_retail")

    # when it is asked who placed an order after an order, given away ones (one customer has no other) left out
    paid = {"type": "order.placed", "where": {"amount_minor": {"op": ">", "value": 0}}}
    question = {"steps": [paid, paid], "window": "400d", "entry": "first"}
    answer = touchlog("funnel", written(tmp_path, question))

    # then it is what others have published
    assert counts(answer) == [4_338, 2_845]
    assert round(100 * answer["steps"][1]["conversion"], 2) == 65.58

    # and when it is asked as retention, those who ever returned are the same, and each month's are as counted by hand
    again = {"start": paid, "interval": "month", "timezone": "Europe/London", "as_of": "2011-12-09T23:59:59Z"}
    ever = touchlog("retention", written(tmp_path, again | {"returns": "on_or_after"}))
    assert (ever["total"]["size"], sum(c["intervals"][0]["count"] for c in ever["cohorts"])) == (4_338, 2_845)
    by_month = touchlog("retention", written(tmp_path, again), "--svg", tmp_path / "retention.svg")
    told = {c["cohort"]: (c["size"], [i["count"] for i in c["intervals"]]) for c in by_month["cohorts"]}
    assert told == returns_by_hand(whole(RETAIL))
    assert told["2010-12"][0] == 885
    assert [c["intervals"][-1]["open"] for c in by_month["cohorts"]] == [False] + 12 * [True]
    assert "2010-12" in (tmp_path / "retention.svg").read_text()


def returns_by_hand(lines: Path) -> dict[str, tuple[int, list[int]]]:
    """Give by month of the first paid order how many customers there are, and how many ordered again by month after."""
    invoices: dict[str, tuple[str, str, Decimal]] = {}
    with lzma.open(lines, "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            number = row["InvoiceNo"]
            who, at, paid = invoices.get(number, (row["CustomerID"], row["InvoiceDate"], Decimal(0)))
            invoices[number] = (who, at, paid + Decimal(row["Quantity"]) * Decimal(row["UnitPrice"]))
    months: dict[str, list[int]] = defaultdict(list)
    for number, (who, at, paid) in sorted(invoices.items(), key=lambda i: i[1][1]):
        if who and paid > 0 and not number.startswith("C"):
            months[who].append(int(at[:4]) * 12 + int(at[5:7]) - 1)
    found = {}
    for first in range(2010 * 12 + 11, 2011 * 12 + 12):
        mine = [m for m in months.values() if m[0] == first]
        later = range(first, min(2011 * 12 + 12, first + 12))
        found[f"{first // 12}-{first % 12 + 1:02}"] = (
            len(mine),
            [sum(m in c[1:] for c in mine) for m in later],
        )
    return found


def test_what_went_wrong_on_mobile_in_april_and_may_is_found_by_a_breakdown(
    touchlog: Installation, tmp_path: Path
) -> None:
    # given visits to a shop, in which a fault stood between the last step and the payment of some
    visits = whole(ECOM)
    (tmp_path / "ecom.toml").write_text(MAP)
    touchlog("ingest", visits, "--map", tmp_path / "ecom.toml")
    steps = ("product_view", "cart", "shipping_details", "purchase")
    question = {
        "steps": named(*steps), "window": "30m", "unit": "data.session_id", "range": {"from": "2024-04-01T00:00:00Z", "to": "2024-06-01T00:00:00Z"},
        "breakdown": {"by": "data.device"},
    }  # fmt: skip

    # when the way to the payment is broken down by device, and by where the visitors came from
    answer = touchlog("funnel", written(tmp_path, question), "--svg", tmp_path / "funnel.svg")
    by_device = {v["value"]: counts(v) for v in answer["breakdown"]}
    by_source = touchlog("funnel", written(tmp_path, question | {"breakdown": {"by": "data.utm_source"}}))

    # then both are as counted by hand, and mobile loses most between address and payment
    sessions = by_hand(visits, steps, datetime(2024, 4, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC))
    assert by_device == sums(sessions, "platform")
    assert {v["value"]: counts(v) for v in by_source["breakdown"]} == sums(sessions, "acquisition_channel")
    last = {device: reached[3] / reached[2] for device, reached in by_device.items()}
    assert min(last, key=last.__getitem__) == "mobile"
    assert (tmp_path / "funnel.svg").read_text().startswith("<svg")

    # and the fault is on the way of those who were lost, and of nobody on another device
    fault = question | {"steps": named("shipping_details", "checkout_bug")}
    broken = touchlog("funnel", written(tmp_path, fault))
    assert {v["value"] for v in broken["breakdown"] if v["steps"][1]["count"]} == {"mobile"}

    # and the trend of each device says that it began in April and was over in June
    met: dict[tuple[str, str], int] = {}
    for device in ("desktop", "mobile", "tablet"):
        steps_of = [
            {**s, "where": {**s["where"], "device": device}}
            for s in named("shipping_details", "checkout_bug")
        ]
        of_device = {"steps": steps_of, "window": "30m", "unit": "data.session_id", "trend": "month"}
        course = touchlog("funnel", written(tmp_path, of_device))["trend"]
        met |= {(device, p["period"]): p["steps"][1]["count"] for p in course if p["steps"][1]["count"]}
    assert list(met) == [("mobile", "2024-04"), ("mobile", "2024-05")]


def written(folder: Path, question: dict[str, Any]) -> Path:
    """Write a question as TOML."""

    def told(value: Any) -> str:
        if isinstance(value, dict):
            return "{ " + ", ".join(f"{k} = {told(v)}" for k, v in value.items()) + " }"
        return f"[{', '.join(map(told, value))}]" if isinstance(value, list) else json.dumps(value)

    file = folder / "question.toml"
    file.write_text("".join(f"{k} = {told(v)}\n" for k, v in question.items()))
    return file


Session = tuple[dict[str, str], int]


def by_hand(visits: Path, steps: tuple[str, ...], begin: datetime, end: datetime) -> list[Session]:
    """Give the first event of each session's best attempt of half an hour, and how many steps it reached."""
    of: dict[str, list[tuple[datetime, dict[str, str]]]] = defaultdict(list)
    with gzip.open(visits, "rt") as file:
        for row in csv.DictReader(file):
            of[row["session_id"]].append((datetime.fromisoformat(row["timestamp"] + "Z"), row))
    found = []
    for events in of.values():
        events.sort(key=lambda e: (e[0], steps.index(e[1]["event"]) if e[1]["event"] in steps else 9))
        best: Session | None = None
        for place, (at, row) in enumerate(events):
            if row["event"] == steps[0] and begin <= at < end:
                reached = attempt(events[place:], steps)
                if best is None or reached > best[1]:
                    best = (row, reached)
        if best is not None:
            found.append(best)
    return found


def attempt(events: list[tuple[datetime, dict[str, str]]], steps: tuple[str, ...]) -> int:
    """Count the steps that are reached from an entry, the first of *events*."""
    reached = 0
    for at, row in events:
        if at <= events[0][0] + timedelta(minutes=30) and reached < len(steps):
            reached += row["event"] == steps[reached]
    return reached


def sums(sessions: list[Session], field: str) -> dict[str, list[int]]:
    """Count, by a field of the entry, the sessions that reached each step."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for row, reached in sessions:
        for k in range(reached):
            found[row[field]][k] += 1
    return dict(found)
