"""Verdicts over HTTP are those of a judge that was written from the rules alone and shares no code with ours."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random
from typing import Any

import httpx
import pytest

from domain.entry import moment
from tests.consent_judge import Entry, time_of, verdict
from tests.integration.running import Served, served_http
from tests.integration.test_consent import now

BATCH = {"Content-Type": "application/cloudevents-batch+json"}
STATES = (
    "given given given given renewed withdrawn objected refused revoked confirmed corrected corrected "
    "invalidated notice.superseded contact.reassigned"
).split()


@pytest.fixture(scope="module")
def office(
    tmp_path_factory: pytest.TempPathFactory, module_database_url: str
) -> Iterator[tuple[Served, httpx.Client]]:
    with (
        served_http(tmp_path_factory.mktemp("office") / "data", module_database_url) as served,
        served.client() as client,
    ):
        yield served, client


class Someone:
    """A person of one seed with four identifiers, of which events link some, and what was told of it."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.name = f"s{seed}"
        self.begin = now() - timedelta(minutes=20)
        self.refs = [f"{kind}:{self.name}" for kind in ("user", "crm", "loyalty_card")]
        self.points = [f"email:{self.name}@example.com", f"phone:+4420794600{seed:02}"]
        self.refs.append(self.points[0])
        self.ids: list[str] = []
        self.count = 0

    def at(self) -> str:
        return moment(self.begin + timedelta(minutes=self.chance.randrange(20)))

    def event(self, type_: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
        self.count += 1
        found = {"specversion": "1.0", "id": f"{self.count:03}", "source": f"test/{self.name}", "type": type_}
        subject = self.chance.choice((*self.refs, self.refs[0], self.refs[0]))
        found |= {"time": self.at(), "subject": subject, "data": data} | more
        if self.chance.random() < 0.08:
            found["identifiers"] = self.chance.choice(self.refs)
        return found

    def fact(self, positions: int) -> dict[str, Any]:
        chance, state = self.chance, self.chance.choice(STATES)
        notice = {"id": f"n-{self.name}", "version": chance.choice("12")}
        scope: dict[str, Any] = {
            "contact": chance.choice((*self.points[:1] * 4, self.points[1])),
            "purpose": "marketing.news",
            "channel": "email",
            "jurisdiction": "DE",
        }
        if state in ("given", "renewed"):
            scope |= {"notice": notice, "method": chance.choice(("form", "form", "form", None))}
            scope["double_opt_in"] = chance.random() < 0.3
            if chance.random() < 0.2:
                scope["valid_until"] = self.at()
        elif state in ("confirmed", "corrected", "invalidated"):
            scope = {"of": {"source": f"test/{self.name}", "id": chance.choice([*self.ids, "001", "030"])}}
            if state == "corrected":
                patches: list[dict[str, Any]] = [
                    {"effective_at": self.at()},
                    {"contact": self.points[0]},
                    {"subject": chance.choice(self.refs)},
                    {"method": "call"},
                    {"double_opt_in": False},
                ]
                scope["patch"] = chance.choice(patches)
        elif state == "notice.superseded":
            scope = {"notice": notice, "material": chance.random() < 0.6}
        elif state == "contact.reassigned":
            scope = {"contact": self.points[1]}
        else:
            scope["purpose"] = chance.choice(("marketing", "marketing.news", "*", "service"))
            if chance.random() < 0.4:
                del scope["contact"]
            if chance.random() < 0.3:
                scope["channel"] = "*"
        found = self.event(state if "." in state else f"consent.{state}", scope)
        self.ids.append(found["id"])
        return found

    def mail(self, head: int) -> dict[str, Any]:
        time = moment(now()) if self.chance.random() < 0.7 else self.at()
        more: dict[str, Any] = {"time": time, "purpose": "marketing.news"}
        if head and self.chance.random() < 0.5:
            more["snapshot"] = self.chance.randrange(max(1, head - 12), head + 1)
        return self.event("email.sent", {"contact": self.points[0]}, **more)


@pytest.mark.parametrize("seed", range(8))
def test_a_judge_written_from_the_rules_alone_says_the_same_of_every_message_at_every_cut(
    seed: int, office: tuple[Served, httpx.Client]
) -> None:
    served, client = office
    someone = Someone(seed)
    log: list[Entry] = []
    head = 0
    for _ in range(9):
        events = [someone.fact(head) for _ in range(someone.chance.randrange(1, 5))]
        events += [someone.mail(head) for _ in range(2)]
        told = client.post("/v1/events", json=events, headers=BATCH).json()
        assert told["recorded"] == len(events), told
        head = told["head"]
        feed = client.get("/v1/events", params={"after": head - len(events), "limit": len(events)}).json()
        recorded: list[datetime] = [time_of(one["recordedtime"]) for one in feed["events"]]
        log += [
            Entry(result["position"], at, event)
            for result, at, event in zip(told["results"], recorded, events, strict=True)
        ]
    served.project()
    sent = [entry.event for entry in log if entry.event["type"] == "email.sent"]
    asked = [{"source": one["source"], "id": one["id"]} for one in sent]
    for cut in (log[0].position + 4, log[len(log) // 2].position, head):
        answer = client.post("/v1/consent/verdicts", json={"events": asked, "known_at": f"@{cut}"}).json()
        for one, ours in zip(sent, answer["verdicts"], strict=True):
            assert (ours["verdict"], ours["reason"]) == verdict(log, one, cut), (one, cut)
