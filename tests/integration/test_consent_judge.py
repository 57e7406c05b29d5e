"""Verdicts over HTTP are those of a judge that was written from the rules alone and shares no code with ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import httpx
import pytest

from domain.entry import event_id_of, moment
from tests.consent_judge import CHANNELS, Entry, time_of, verdict
from tests.integration.running import Served, served_http
from tests.integration.test_consent import now

BATCH = {"Content-Type": "application/cloudevents-batch+json"}
STATES = (
    "given given given given given given given given renewed renewed withdrawn objected refused revoked "
    "confirmed confirmed corrected corrected corrected invalidated reviewed notice.superseded notice.superseded contact.reassigned"
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
    """A person of one seed with five identifiers, of which events link some, and what was told of it."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.name = f"s{seed}"
        self.begin = now() - timedelta(minutes=20)
        self.law = self.chance.choice(("DE", "DE", "US"))
        self.is_merged_often = self.chance.random() < 0.5
        self.points = [f"email:{self.name}@example.com", f"phone:+44207946{seed:04}"]
        self.refs = [*(f"{kind}:{self.name}" for kind in ("user", "crm", "loyalty_card")), *self.points]
        self.ids: list[str] = []
        self.grants: list[str] = []
        self.notices: list[str] = []
        self.count = 0

    def at(self) -> str:
        if self.law == "US" and self.chance.random() < 0.3:
            return moment(self.begin - timedelta(days=60 + self.chance.randrange(3)))
        return moment(self.begin + timedelta(minutes=self.chance.randrange(20)))

    def event(self, type_: str, data: dict[str, Any], **more: Any) -> dict[str, Any]:
        self.count += 1
        found: dict[str, Any] = {"specversion": "1.0", "id": f"{self.count:03}"}
        found |= {"source": f"test/{self.name}", "type": type_}
        subject = self.chance.choice((*self.refs, *self.refs[:1] * 6))
        found |= {"time": self.at(), "subject": subject, "data": data} | more
        if self.chance.random() < 0.15:
            found["identifiers"] = self.chance.choice(self.refs)
        return {name: value for name, value in found.items() if value is not None}

    def fact(self) -> dict[str, Any]:
        chance, state = self.chance, self.chance.choice(STATES)
        notice = {"id": f"{chance.choice('nnnt')}-{self.name}", "version": chance.choice("12")}
        point = chance.choice((*self.points[:1] * 3, self.points[1]))
        scope: dict[str, Any] = {
            "contact": chance.choice((*(point,) * 9, None)),
            "purpose": "marketing.news",
            "channel": "email" if point == self.points[0] else "sms",
            "jurisdiction": self.law,
        }
        if state in ("given", "renewed"):
            scope |= {"notice": chance.choice((notice, notice, notice, notice, {"id": notice["id"]}, None))}
            scope |= {"method": chance.choice(("form", "form", "form", "form", None))}
            scope["double_opt_in"] = chance.random() < 0.3
            if chance.random() < 0.2:
                scope["valid_until"] = self.at()
        elif state in ("confirmed", "corrected", "invalidated", "reviewed"):
            others = [*self.ids[-8:], *self.grants[-4:], f"{self.count + 2:03}", "001"]
            if state == "confirmed":
                others = [*self.grants, *self.grants, *others]
            elif self.notices and chance.random() < 0.3:
                others = self.notices[-3:]
            scope = {"of": {"source": f"test/{self.name}", "id": chance.choice(others)}}
            if state == "corrected":
                scope["patch"] = {}
                for _ in range(chance.choice((1, 1, 2))):
                    scope["patch"] |= self.patch(notice)
            if state == "reviewed":
                scope["subjects"] = chance.sample(self.refs, chance.randrange(1, 3))
            elif chance.random() < 0.1:
                scope["valid_until"] = self.at()
        elif state == "notice.superseded":
            scope = {"notice": notice, "material": chance.random() < 0.6}
        elif state == "contact.reassigned":
            scope = {"contact": self.points[1]}
        else:
            scope["purpose"] = chance.choice(("marketing", "marketing.news", "*", "service", "market", None))
            if chance.random() < (0.8 if self.is_merged_often else 0.4):
                del scope["contact"]
            if chance.random() < 0.3:
                scope["channel"] = chance.choice(("*", None))
            if chance.random() < 0.1:
                scope["valid_until"] = self.at()
        nobody = state in ("notice.superseded", "reviewed", "contact.reassigned") and chance.random() < 0.5
        scope = {name: value for name, value in scope.items() if value is not None}
        more = {"subject": None} if nobody else {}
        found = self.event(state if "." in state else f"consent.{state}", scope, **more)
        self.ids.append(found["id"])
        if state in ("given", "renewed"):
            self.grants.append(found["id"])
        if state == "notice.superseded":
            self.notices.append(found["id"])
        return found

    def patch(self, notice: dict[str, Any]) -> dict[str, Any]:
        chance = self.chance
        patches: list[dict[str, Any]] = [
            {"effective_at": self.at()},
            {"contact": chance.choice(self.points)},
            {"contact": None},
            {"subject": chance.choice(self.refs)},
            {"purpose": chance.choice(("marketing.news", "marketing", "*"))},
            {"channel": chance.choice(("email", "sms"))},
            {"method": chance.choice(("call", None))},
            {"notice": notice},
            {"valid_until": chance.choice((self.at(), None))},
            {"double_opt_in": chance.random() < 0.5},
        ]
        return chance.choice(patches)

    def message(self, head: int) -> dict[str, Any]:
        chance = self.chance
        time = moment(now()) if chance.random() < 0.7 else self.at()
        more: dict[str, Any] = {"time": time, "purpose": chance.choice(("marketing.news",) * 9 + (None,))}
        if head and chance.random() < 0.5:
            position = chance.randrange(max(1, head - 12), head + 1)
            more["snapshot"] = chance.choice((position, str(position)))
        if chance.random() < 0.05:
            more["legalbasis"] = "contract"
        if chance.random() < 0.3:
            return self.event("sms.sent", {"contact": self.points[1]}, **more)
        return self.event("email.sent", {"contact": self.points[0]}, **more)


class Told:
    """The log of one person, in ours and as the other judge reads it."""

    def __init__(self, seed: int, served: Served, client: httpx.Client) -> None:
        self.someone = Someone(seed)
        self.log: list[Entry] = []
        self.head = 0
        self.surrogates: dict[str, str] = {}
        self.merges: list[Entry] = []
        self._served = served
        self._client = client

    def surrogate(self, ref: str) -> str | None:
        """The surrogate of a REF; None where nothing was recorded under it."""
        if ref not in self.surrogates:
            kind, _, value = ref.partition(":")
            told = self._client.get(f"/v1/persons/{ref}").json()
            for one in told.get("subjects", ()):
                if (one["kind"], one["value"]) == (kind, value):
                    self.surrogates[ref] = one["subject"]
        return self.surrogates.get(ref)

    def given(self, events: list[dict[str, Any]]) -> None:
        """Record events, the subjects of reviews by their surrogates."""
        posted, kept = [], []
        for one in events:
            data = one["data"]
            if one["type"] == "consent.reviewed":
                known = [ref for ref in data["subjects"] if self.surrogate(ref)]
                posted.append(one | {"data": data | {"subjects": [self.surrogates[ref] for ref in known]}})
                kept.append(one | {"reviewed": known})
            else:
                posted.append(one)
                kept.append(one)
        told = self._client.post("/v1/events", json=posted, headers=BATCH).json()
        assert told["recorded"] == len(events), told
        self.head = told["head"]
        feed = self.feed(told["results"][0]["position"], len(events))
        self.log += [
            Entry(result["position"], time_of(found["recordedtime"]), one)
            for result, found, one in zip(told["results"], feed, kept, strict=True)
        ]

    def feed(self, position: int, count: int) -> list[dict[str, Any]]:
        """Give what the log holds from a position on."""
        asked = {"after": position - 1, "limit": count}
        found: list[dict[str, Any]] = self._client.get("/v1/events", params=asked).json()["events"]
        return found

    def changed(self, what: str, event: dict[str, Any], **asked: Any) -> None:
        """Merge or split, where that can be."""
        self._served.project()
        answer = self._client.post(f"/v1/persons/{what}", json=asked | {"reason": "looked at"})
        position = answer.json().get("position") if answer.status_code == 200 else None
        if position is None or position in [entry.position for entry in self.log]:
            return  # there is nothing to change
        self.head = position
        (found,) = self.feed(self.head, 1)
        key = {name: found[name] for name in ("source", "id", "time")}
        entry = Entry(self.head, time_of(found["recordedtime"]), {**event, **key, "data": {}})
        self.log.append(entry)
        if what == "merge":
            self.merges.append(entry)

    def persons_changed(self) -> None:
        """Merge two, undo a merge, or split one off."""
        chance = self.someone.chance
        a, b = chance.sample(self.someone.refs, 2)
        what = chance.choice(("merge", "merge", "undo", "split"))
        if self.someone.is_merged_often:  # the one to whom most is sent, with somebody, and apart again
            a, b = self.someone.refs[0], chance.choice(self.someone.refs[1:])
            what = "undo" if self.merges else "merge"
        if what == "merge":
            self.changed("merge", {"type": "merge", "a": a, "b": b}, a=a, b=b)
        elif what == "undo" and self.merges:
            merge = self.merges.pop(chance.randrange(len(self.merges)))
            event_id = str(UUID(bytes=event_id_of(*merge.key)))
            self.changed("split", {"type": "split", "merge": merge.key}, merge=event_id)
        elif what == "split" and (surrogate := self.surrogate(b)):
            self.changed("split", {"type": "split", "person": a, "subject": b}, person=a, subject=surrogate)

    def compared(self) -> Counter[str]:
        """Compare all verdicts at several cuts; gives how many of each there were."""
        self._served.project()
        sent = [entry.event for entry in self.log if entry.event["type"] in CHANNELS]
        asked = [{"source": one["source"], "id": one["id"]} for one in sent]
        found: Counter[str] = Counter()
        cuts = (self.log[4].position, self.log[len(self.log) // 2].position, self.log[-5].position, self.head)
        for cut in cuts:
            answer = self._client.post(
                "/v1/consent/verdicts", json={"events": asked, "known_at": f"@{cut}"}
            ).json()
            for one, ours in zip(sent, answer["verdicts"], strict=True):
                assert (ours["verdict"], ours["reason"]) == verdict(self.log, one, cut), (one, cut)
                found[ours["verdict"]] += 1
        return found


def lived(seed: int, served: Served, client: httpx.Client) -> Counter[str]:
    """Record the log of a seed and compare."""
    told = Told(seed, served, client)
    for _ in range(9):
        events = [told.someone.fact() for _ in range(told.someone.chance.randrange(1, 5))]
        told.given(events + [told.someone.message(told.head) for _ in range(2)])
        if told.someone.chance.random() < (0.9 if told.someone.is_merged_often else 0.4):
            told.persons_changed()
    return told.compared()


@pytest.mark.parametrize("seed", range(9))
def test_a_judge_written_from_the_rules_alone_says_the_same_of_every_message_at_every_cut(
    seed: int, office: tuple[Served, httpx.Client]
) -> None:
    assert lived(seed, *office).total() == 4 * 18
