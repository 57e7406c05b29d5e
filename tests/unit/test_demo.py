"""The demonstration history: the same every time, valid, lifelike, and of the past."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest

import domain.touchpoints  # noqa: F401  (declares the types)
from bin.demo import demo_events, demo_mailing
from domain.event import TYPES, headline, validate
from domain.identity import in_priority, kind_of, parse_ref
from domain.resolution import Link, persons
from tests.counting import calls_of

NOW = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)
Event = dict[str, Any]


@pytest.fixture(scope="module")
def history() -> list[Event]:
    return list(demo_events(now=NOW))


def refs_of(event: Event) -> list[str]:
    named = [event["subject"]] if "subject" in event else []
    named += event.get("identifiers", "").split(",") if "identifiers" in event else []
    for kind, values in event["data"].get("identifiers", {}).items():
        named += [f"{kind}:{value}" for value in ([values] if isinstance(values, str) else values)]
    return named


def when(event: Event) -> datetime:
    return datetime.fromisoformat(event["time"])


def digest(events: list[Event]) -> str:
    return hashlib.sha256(msgspec.json.encode(events, order="sorted")).hexdigest()


def test_the_same_question_gives_the_same_history(history: list[Event]) -> None:
    assert digest(list(demo_events(now=NOW))) == digest(history)
    assert digest(list(demo_events(now=NOW, seed=8))) != digest(history)


def test_the_history_is_small_and_quickly_made() -> None:
    made: list[Event] = []
    calls = calls_of(lambda: made.extend(demo_events(now=NOW)))
    assert 25_000 <= len(made) <= 40_000
    assert calls < 140 * len(made)  # some 70 each


@pytest.mark.parametrize(
    "now", [datetime(2026, 3, 1, 0, 0, tzinfo=UTC), datetime(2028, 2, 29, 23, 59, tzinfo=UTC)]
)
def test_the_history_ends_whenever_it_is_asked_for(now: datetime) -> None:
    few = list(demo_events(now=now, persons=60))
    assert all(when(event) < now for event in few)
    assert max(when(event) for event in few) > now - timedelta(days=10)


def test_all_happened_in_the_eighteen_months_before_now(history: list[Event]) -> None:
    assert all(NOW - timedelta(days=550) < when(event) < NOW for event in history)


def test_every_event_is_valid(history: list[Event]) -> None:
    for event in history:
        assert set(event) <= {
            *("specversion", "id", "source", "type", "time", "subject", "identifiers", "data"),
            *("channel", "direction", "purpose", "legalbasis", "snapshot"),
        }
        assert event["source"].startswith("demo/")
        assert not TYPES[event["type"]].internal
        validate(TYPES[event["type"]], event["data"])
        for ref in refs_of(event):
            assert str(parse_ref(ref)) == ref


def test_every_event_uses_the_fields_of_its_type(history: list[Event]) -> None:
    strange = {
        (event["type"], field)
        for event in history
        for field in event["data"].keys() - TYPES[event["type"]].fields
    }
    assert not strange


def test_no_key_is_used_twice(history: list[Event]) -> None:
    assert len({(event["source"], event["id"]) for event in history}) == len(history)


def test_every_type_from_outside_is_there_but_officers_acts(history: list[Event]) -> None:
    outside = {name for name, declared in TYPES.items() if not declared.internal}
    assert outside - {event["type"] for event in history} == {
        "identity.merged",
        "identity.split",
        "consent.reviewed",
    }


def test_all_channels_are_there(history: list[Event]) -> None:
    channels = {event.get("channel") or TYPES[event["type"]].channel for event in history}
    assert channels >= {
        *(
            "phone",
            "email",
            "chat",
            "sms",
            "whatsapp",
            "web",
            "shop",
            "store",
            "loyalty",
            "campaign",
            "service",
        ),
        *("sales", "field", "survey", "meeting", "consent", "identity", "records"),
    }


def test_more_than_a_thousand_persons_are_behind_it(history: list[Event]) -> None:
    known: dict[str, tuple[str, str]] = {}
    links: list[Link[str]] = []
    for event in history:
        named = [i for i in in_priority(map(parse_ref, refs_of(event))) if not kind_of(i.kind).reference]
        known.update((str(i), (i.kind, i.namespace)) for i in named)
        links += [
            Link(str(named[0]), str(other), when(event), event["source"], event["id"], place)
            for place, other in enumerate(named[1:], 1)
        ]
    resolved = persons(known, links)
    kinds = [Counter(known[subject][0] for subject in members) for members in resolved.members]
    assert sum(bool(k.keys() - {"anonymous"}) for k in kinds) >= 1000
    assert sum(len(k) >= 4 for k in kinds) > 200  # known under many names
    assert sum(k["email"] > 1 for k in kinds) > 50
    assert sum(k["phone"] > 1 for k in kinds) > 20
    assert sum(k["loyalty_card"] > 1 for k in kinds) > 5
    assert sum(k.keys() == {"anonymous"} for k in kinds) > 200  # visitors whom nobody knows
    assert {(refused.kind, refused.reason) for refused in resolved.refused} == {("user", "limit")}


def test_cases_and_orders_are_spoken_of_without_naming_anybody(history: list[Event]) -> None:
    for family, reference in (("case.", "case:"), ("order.", "order:")):
        bare = [e for e in history if e["type"].startswith(family) and e["subject"].startswith(reference)]
        assert len(bare) > 100
    owners: dict[str, set[str]] = defaultdict(set)
    for event in history:
        named = refs_of(event)
        for ref in named:
            if ref.startswith(("order:", "case:")):
                owners[ref].update(other for other in named if not other.startswith(("order:", "case:")))
    assert all(owners.values())


def test_a_case_joins_calls_mails_and_chats(history: list[Event]) -> None:
    ways = defaultdict(set)
    for event in history:
        ways[event["data"].get("case_id")].add(event["type"].partition(".")[0])
    joined = set.union(*(way for case, way in ways.items() if case))
    assert joined >= {"call", "email", "chat", "case", "survey"}


def test_visitors_become_buyers_step_by_step(history: list[Event]) -> None:
    steps = [set[str]() for _ in range(5)]
    for event in history:
        session, data = event["data"].get("session_id"), event["data"]
        if session is None:
            continue
        reached = {
            "web.page_viewed": 1 if "sku" in data else 0,
            "cart.updated": 3 if data.get("action") == "checkout_started" else 2,
            "order.placed": 4,
        }.get(event["type"])
        if reached is not None:
            steps[reached].add(session)
    counts = [len(step) for step in steps]
    assert counts == sorted(counts, reverse=True)
    assert counts[4] > 200
    assert 0.03 < counts[4] / counts[0] < 0.3
    for before, after in pairwise(steps):
        assert after <= before


def test_an_account_says_who_the_browser_was(history: list[Event]) -> None:
    first_seen: dict[str, datetime] = {}
    earlier = 0
    for event in history:
        for ref in refs_of(event):
            if ref.startswith("anonymous:"):
                first_seen.setdefault(ref, when(event))
                if event["type"] == "web.registered" and first_seen[ref] < when(event):
                    earlier += 1
    assert earlier > 200


def test_november_and_december_are_busy(history: list[Event]) -> None:
    orders = Counter(when(e).strftime("%Y-%m") for e in history if e["type"] == "order.placed")
    assert orders["2025-12"] > orders["2025-08"]


def test_consent_facts_name_what_the_law_wants(history: list[Event]) -> None:
    for event in history:
        if event["type"] == "consent.given":
            data = event["data"]
            assert {
                "contact",
                "purpose",
                "channel",
                "legal_basis",
                "notice",
                "method",
                "evidence",
            } <= data.keys()
            assert re.fullmatch("[0-9a-f]{64}", data["notice"]["sha256"])
    notices = {
        (n["id"], n["version"], n["language"], n["sha256"]) for n in _notices(history, "notice.published")
    }
    assert {
        (n["id"], n["version"], n["language"], n["sha256"]) for n in _notices(history, "consent.given")
    } <= notices


def _notices(history: list[Event], kind: str) -> list[dict[str, str]]:
    return [event["data"]["notice"] for event in history if event["type"] == kind]


def test_some_facts_are_recorded_long_after_they_took_effect(history: list[Event]) -> None:
    latest, late = NOW - timedelta(days=600), Counter[str]()
    for event in history:
        if when(event) < latest - timedelta(days=2):
            late[event["type"]] += 1
        latest = max(latest, when(event))
    assert late["consent.given"] > 50
    assert late["consent.withdrawn"] > 3
    assert set(late) <= {"consent.given", "consent.withdrawn"}


def test_some_messages_were_sent_without_consent(history: list[Event]) -> None:
    """The plain look: the last word on the contact point, purpose and channel before the message."""
    words: dict[tuple[str, str, str], list[tuple[datetime, str]]] = defaultdict(list)
    of_all: dict[str, datetime] = {}
    for event in history:
        data = event["data"]
        if event["type"] in {"consent.given", "consent.renewed", "consent.withdrawn", "consent.revoked"}:
            words[data["contact"], data["purpose"], data["channel"]].append((when(event), event["type"]))
        elif event["type"] == "consent.objected":
            of_all[event["subject"]] = when(event)
    looks = Counter[str]()
    for event in history:
        if not event.get("purpose", "").startswith("marketing."):
            continue
        assert "snapshot" in event
        channel = event.get("channel") or TYPES[event["type"]].channel
        contact = event["data"]["contact"]
        before = [w for w in words[contact, event["purpose"], channel] if w[0] <= when(event)]
        looks[max(before)[1] if before else "nothing"] += 1
    assert looks["consent.given"] > 1000
    assert looks["nothing"] > 20
    assert looks["consent.withdrawn"] + looks["consent.revoked"] > 0


def test_a_sender_who_looked_at_an_old_list_has_an_older_snapshot(history: list[Event]) -> None:
    behind = [place - event["snapshot"] for place, event in enumerate(history) if "snapshot" in event]
    assert min(behind) == 0
    assert max(behind) > 100


def test_every_event_has_a_headline_without_braces(history: list[Event]) -> None:
    for event in history:
        told = headline(event["type"], event["data"])
        assert told
        assert not re.search(r"[{}]|None|\bdict\b", told)


def test_people_and_places_of_four_countries_are_there(history: list[Event]) -> None:
    told = " ".join(str(event["data"].get("traits", "")) for event in history)
    assert all(city in told for city in ("London", "Berlin", "Lyon", "Madrid"))
    assert {event["data"].get("currency") for event in history} == {None, "GBP", "EUR"}


def test_contact_points_are_made_up(history: list[Event]) -> None:
    for event in history:
        for ref in refs_of(event):
            if ref.startswith("email:"):
                assert re.search(r"@example\.(com|org|net)$", ref)
                assert ref.isascii()
            elif ref.startswith(("phone:", "whatsapp:")):
                assert re.fullmatch(r"\w+:\+\d{11,13}", ref)


def test_a_mailing_after_the_history_reaches_some_who_do_not_want_it(history: list[Event]) -> None:
    mails = list(demo_mailing(now=NOW, sent_at=NOW + timedelta(minutes=5)))
    assert len(mails) == 80
    assert not {m["id"] for m in mails} & {e["id"] for e in history}
    for mail in mails:
        assert when(mail) > NOW
        validate(TYPES[mail["type"]], mail["data"])
    given = {e["data"]["contact"] for e in history if e["type"] == "consent.given"}
    assert 0 < sum(m["subject"] not in given for m in mails) < 20


def test_some_customers_are_known_twice(history: list[Event]) -> None:
    typed_in = [e for e in history if e["data"].get("method") == "telephone_order"]
    assert 8 <= len(typed_in) <= 12
    told = {ref for e in history if e not in typed_in for ref in refs_of(e)}
    assert not {ref for e in typed_in for ref in refs_of(e)} & told, "under addresses that nothing else names"
