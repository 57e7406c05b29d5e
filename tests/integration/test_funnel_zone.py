"""Days, weeks and months of a question are cut in the installation's time zone unless it names another (DESIGN 13)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.running import served_http


@pytest.mark.parametrize(
    ("named", "begins"),
    [(None, "2026-02"), ("UTC", "2026-01")],
    ids=["the installation's", "the question's"],
)
def test_a_month_is_cut_in_the_zone_of_the_installation_unless_the_question_names_one(
    tmp_path: Path, database_url: str, named: str | None, begins: str
) -> None:
    with (
        served_http(tmp_path / "data", database_url, timezone="Europe/Berlin") as served,
        served.client() as client,
    ):
        # given an order in the last hour of January in London, which is February in Berlin
        event = {
            "specversion": "1.0",
            "id": "1",
            "source": "s",
            "type": "order.placed",
            "time": "2026-01-31T23:30:00Z",
        }
        event |= {"subject": "user:u-1"}
        assert (
            client.post(
                "/v1/events", json=[event], headers={"Content-Type": "application/cloudevents-batch+json"}
            ).json()["recorded"]
            == 1
        )
        served.project()
        # when its month is asked for
        question: dict[str, Any] = {
            "steps": [{"type": "order.placed"}, {"type": "order.placed"}],
            "window": "P1D",
            "trend": "month",
            "range": {"from": "2026-01-01T00:00:00Z", "to": "2026-03-01T00:00:00Z"},
        }
        if named is not None:
            question["timezone"] = named
        answer = client.post("/v1/funnels/query", json=question)
        assert answer.status_code == 200, answer.text
        # then it is that of the zone
        (counted,) = [one["period"] for one in answer.json()["trend"] if one["steps"][0]["count"]]
        assert counted == begins
