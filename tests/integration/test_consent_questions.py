"""The officer's twelve questions, on one history whose answers are known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from adapters.consent.answers import ask
from adapters.consent.delays import percentile
from adapters.consent.questions import QUESTIONS, Answered, Parts, parsed, question_of
from adapters.http.reading import known_at_of, time_of
from bin.commands.reading import when
from domain.entry import moment
from domain.errors import Invalid, NotFound
from tests.integration.reading_house import House, event, story
from tests.integration.running import served_http
from tests.integration.test_consent import ANN, GRANT, MAIL, fact, mail, now, of

DAY = timedelta(days=1)


def time(text: str, place: str) -> datetime:
    found = time_of(text, place)
    assert found is not None
    return found


async def told(it: House, name: str, **given: str) -> Answered:
    """Give the answer to a question."""
    question = question_of(name)
    parts = Parts(it.core.pool, it.core.subjects, it.core.histories)
    return await ask(parts, question, parsed(question, given, time, known_at_of))


@story
async def test_each_of_the_twelve_is_answered_by_the_facts_and_the_same_again(it: House) -> None:
    begin = now() - 10 * DAY
    span = {"from": moment(begin), "to": moment(now() + DAY)}
    bob = {"subject": "email:bob@example.com"}
    end = moment(now() + 5 * DAY)
    bobs = GRANT | {
        "contact": "email:bob@example.com",
        "valid_until": end,
        "notice": {"id": "privacy", "version": "4"},
    }
    first = await it.given(
        fact("g", "given", begin, **GRANT),
        fact("b", "given", begin, **bob, **bobs),
        fact(
            "s",
            "given",
            begin,
            subject="phone:+442071838750",
            **GRANT | {"contact": "phone:+442071838750", "channel": "sms"},
        ),
        fact(
            "c",
            "corrected",
            begin,
            subject=None,
            of={"source": "test/consents", "id": "s"},
            patch={"valid_until": moment(now() + 2 * DAY)},
        ),
        mail("m", begin + 3 * DAY),
        mail("n", begin + 5 * DAY),
    )
    late = await it.given(fact("w", "withdrawn", begin + 2 * DAY, contact=MAIL, purpose="marketing.news"))

    asked = {"person": ANN, "purpose": "marketing.news", "channel": "email", "contact": MAIL}
    no = await told(it, "valid", **asked)
    assert (no.says_no, no.figures["reason"], no.figures["evidence"]) == (True, "withdrawn", [late.head])
    yes = await told(it, "1", **asked, at=moment(begin + DAY))
    assert (yes.says_no, yes.rows[0]["notice"], yes.rows[0]["method"], yes.rows[0]["recorded_by"]) == (
        False,
        "privacy 3",
        "form",
        "key:test",
    )
    knew = await told(it, "known", source="test/mail", id="m")
    assert knew.figures["verdict"] in ("breach", "late_known_breach")
    with pytest.raises(NotFound):
        await told(it, "known", source="test/mail", id="never")

    listed = await told(it, "breaches", **span)
    assert [row["id"] for row in listed.rows] == ["m", "n"]
    under = await told(it, "notice", notice="privacy")
    assert (under.figures, [row["version"] for row in under.rows]) == (
        {"resting": 2, "given_under_it": 3},
        ["4", "3"],
    )
    assert (await told(it, "notice", notice="privacy", version="4")).figures["resting"] == 1
    assert [r["contact"] for r in (await told(it, "lapsing", by=moment(now() + 3 * DAY))).rows] == [
        "phone:+442071838750"
    ]
    assert (await told(it, "lapsing", by=moment(now() + 6 * DAY))).figures == {"lapsing": 2}

    latency = await told(it, "latency", **span)
    assert (latency.figures["withdrawals"], latency.rows[0]["processor"]) == (1, "test/mail")
    assert latency.rows[0]["p99_s"] == pytest.approx(3 * 86_400, abs=1)
    backdated = await told(it, "late", minutes="60")
    assert [(r["source"], r["operator"], r["grants"]) for r in backdated.rows] == [
        ("test/consents", "key:test", 3)
    ]

    changed = await told(it, "changed", **span, said=f"@{first.head}")
    assert [(r["id"], r["says"].split(":")[0], r["because_of"]) for r in changed.rows] == [
        ("m", "breach", [late.head]),
        ("n", "breach", [late.head]),
    ]
    assert [f["id"] for f in changed.figures["late_facts"]] == ["w"]

    await it.core.records.access("key:eve", action="history", about=(no.about[0],), purpose="a complaint")
    looked = await told(it, "looked", person=ANN)
    assert [(r["who"], r["reason"]) for r in looked.rows] == [("key:eve", "a complaint")]
    held = await told(it, "held", person=ANN)
    assert (held.figures["events"], held.figures["log_positions"] - held.figures["log_events"]) == (4, 0)
    assert (await told(it, "remains", person=ANN)).figures["erased"] == 0
    assert (await told(it, "untouched")).says_no

    # Asked again by the knowledge that an answer names, it is the same whatever came later.
    await it.given(fact("later", "objected", begin, purpose="*"), mail("o", begin + DAY))
    for before in (yes, listed, under, latency, backdated, changed, held):
        given = {
            name: f"@{v}" if name == "said" else str(v)
            for name, v in before.asked.items()
            if name != "known_at"
        }
        given["known_at"] = f"@{before.known_at}"
        if before.at is not None:
            given["at"] = before.at
        again = await told(it, before.name, **given)
        assert (again.answer, again.figures, again.rows) == (before.answer, before.figures, before.rows)


@story
async def test_a_grant_that_was_corrected_to_be_anothers_rests_on_its_notice_only_if_it_binds_that_one(
    it: House,
) -> None:
    begin, end = now() - 2 * DAY, moment(now() + DAY)
    await it.given(
        fact("w", "withdrawn", begin + DAY),
        fact("g", "given", begin, subject="user:bob", **GRANT, valid_until=end),
        fact("c", "corrected", begin, subject=None, of=of("g"), patch={"subject": ANN}),
        fact("n", "given", begin, subject=None, **GRANT | {"notice": {"id": "n", "version": 1}}),
        fact("d", "corrected", begin, subject=None, of=of("n"), patch={"subject": "user:eve"}),
    )
    resting = await told(it, "notice", notice="privacy")
    assert resting.figures == {"resting": 0, "given_under_it": 1}
    assert (await told(it, "lapsing", by=end)).figures == {"lapsing": 0}
    resting = await told(it, "notice", notice="n")
    assert resting.figures == {"resting": 1, "given_under_it": 1}


@story
async def test_withdrawals_are_counted_and_timed_as_corrected_and_not_those_that_are_void(it: House) -> None:
    begin = now() - 10 * DAY
    everything = {"purpose": "marketing.news", "contact": MAIL}
    await it.given(
        fact("g", "given", begin, **GRANT),
        fact("w", "withdrawn", begin + DAY, **everything),
        fact("void", "withdrawn", begin + DAY, subject="user:bob", purpose="*"),
        fact("i", "invalidated", begin, subject=None, of=of("void")),
        fact(
            "c", "corrected", begin, subject=None, of=of("w"), patch={"effective_at": moment(begin + 5 * DAY)}
        ),
        fact(
            "d", "corrected", now(), subject=None, of=of("w"), patch={"effective_at": moment(begin + 2 * DAY)}
        ),
        fact("j", "invalidated", begin, subject=None, of=of("d")),
        mail("m", begin + 6 * DAY),
    )
    early = await told(it, "latency", **{"from": moment(begin), "to": moment(begin + 4 * DAY)})
    assert early.figures == {"withdrawals": 0, "with_later_messages": 0}
    late = await told(it, "latency", **{"from": moment(begin + 4 * DAY), "to": moment(begin + 6 * DAY)})
    assert late.figures == {"withdrawals": 1, "with_later_messages": 1}
    assert late.rows[0]["longest_s"] == DAY.total_seconds()


@story
async def test_withdrawals_that_are_over_before_they_begin_are_none(it: House) -> None:
    """As corrected: an end may be given, moved and taken away."""
    begin = now() - 10 * DAY
    over = {"purpose": "*", "valid_until": moment(begin)}

    def patched(id_: str, of_id: str, **patch: Any) -> dict[str, Any]:
        return fact(id_, "corrected", begin, subject=None, of=of(of_id), patch=patch)

    await it.given(
        fact("w", "withdrawn", begin + DAY, **over),
        fact("o", "objected", begin + DAY, **over),
        fact("x", "withdrawn", begin + DAY, **over),
        fact("y", "withdrawn", begin + DAY, purpose="*"),
        fact("z", "withdrawn", begin + DAY, purpose="*"),
        patched("o1", "o", valid_until=moment(begin + 3 * DAY)),
        patched("x1", "x", valid_until=None),
        patched("y1", "y", valid_until=moment(begin + DAY)),
    )
    span = {"from": moment(begin), "to": moment(now())}
    assert (await told(it, "latency", **span)).figures == {"withdrawals": 3, "with_later_messages": 0}


@story
async def test_grants_are_late_by_when_they_took_effect_as_corrected_and_not_those_that_never_did(
    it: House,
) -> None:
    begin = now() - 10 * DAY
    twice = GRANT | {"double_opt_in": True}
    await it.given(
        fact("late", "given", begin, **GRANT),
        fact("void", "given", begin, **GRANT),
        fact("i", "invalidated", begin, subject=None, of=of("void")),
        fact("over", "given", begin, **GRANT | {"valid_until": moment(begin)}),
        fact("moved", "given", begin, **GRANT),
        fact("m", "corrected", begin, subject=None, of=of("moved"), patch={"effective_at": moment(now())}),
        fact("waits", "given", begin, **twice),
        fact("once", "given", begin, **twice),
        fact("once2", "confirmed", now(), subject=None, of=of("once")),
        fact("again", "given", begin, **twice),
        fact("again2", "confirmed", now(), subject=None, of=of("again")),
        fact("again1", "confirmed", begin + DAY, subject=None, of=of("again")),
    )
    late = await told(it, "late", minutes="60")
    assert late.figures == {"late": 2, "grants": 4}
    assert late.rows[0]["positions"] == [1, 10], "that which was confirmed now is not late"
    assert late.rows[0]["longest_s"] == pytest.approx(10 * DAY.total_seconds(), abs=60)
    assert late.rows[0]["median_s"] == pytest.approx(9.5 * DAY.total_seconds(), abs=60)


def test_percentiles_are_values_that_occurred() -> None:
    assert percentile([], 0.5) is None
    assert [percentile([3, 1, 2], share) for share in (0.5, 0.99, 1.0)] == [2, 3, 3]
    assert percentile(list(range(1, 101)), 0.99) == 99


def test_what_a_question_wants_to_know_is_told_all_at_once() -> None:
    with pytest.raises(Invalid) as wrong:
        parsed(question_of("changed"), {"from": "2026-01-01T00:00:00", "said": "@x"}, time, known_at_of)
    assert [(p.pointer, p.code) for p in wrong.value.problems] == [
        ("/from", "no_zone"),
        ("/to", "missing"),
        ("/known_at", "not_a_position"),
    ]
    with pytest.raises(NotFound, match="1 to 12"):
        question_of("13")
    assert [q.number for q in QUESTIONS] == list(range(1, 13))


def test_questions_and_files_are_served_on_record_and_as_pages(tmp_path: Path, database_url: str) -> None:
    with served_http(tmp_path / "data", database_url) as served, served.client() as client:
        begin = datetime.now(UTC) - DAY
        batch: list[Any] = [
            fact("g", "given", begin, **GRANT),
            mail("m", begin + DAY / 2),
            event(
                "u",
                type="email.unsubscribed",
                source="mail",
                time=moment(begin + DAY / 4),
                subject=ANN,
                data={"contact": MAIL},
            ),
        ]
        client.post("/v1/events", json=batch, headers={"Content-Type": "application/cloudevents-batch+json"})
        served.project()
        assert len(client.get("/v1/consent/questions").json()["questions"]) == 12
        assert client.get("/v1/consent/questions/99").status_code == 404
        missing = client.get("/v1/consent/questions/3")
        assert (missing.status_code, [e["pointer"] for e in missing.json()["errors"]]) == (
            400,
            ["/from", "/to"],
        )
        span = {"from": moment(begin), "to": moment(now())}
        answer = client.get("/v1/consent/questions/breaches", params=span).json()
        assert (answer["rows"][0]["reason"], answer["known_at"], answer["head"]) == ("withdrawn", 3, 3)

        for asked in (
            {"question": "breaches"} | span,
            {"question": "held", "person": ANN},
            {
                "question": "valid",
                "person": ANN,
                "purpose": "marketing.news",
                "channel": "email",
                "contact": MAIL,
            },
        ):
            path = f"/v1/consent/questions/{asked.pop('question')}"
            first = client.get(path, params=asked)
            moment_of = first.json()
            again = (
                asked
                | {"known_at": f"@{moment_of['known_at']}"}
                | ({"at": moment_of["at"]} if moment_of["at"] else {})
            )
            assert client.get(path, params=again).content == first.content, "to the byte, whenever"

        pages = {"Accept": "text/html"}
        assert "12. " in client.get("/consent/questions", headers=pages).text
        form = client.get("/consent/questions/breaches", headers=pages).text
        assert 'name="from"' in form
        assert "known at position" not in form
        shown = client.post("/consent/questions/breaches", headers=pages, data=span)
        assert shown.status_code == 200
        assert all(text in shown.text for text in ("1 message of 1", "known at position", "head position"))
        empty = client.post("/consent/questions/breaches", headers=pages, data={"from": "yesterday"})
        assert (empty.status_code, "is no time" in empty.text) == (400, True)
        gone = client.post("/consent/questions/held", headers=pages, data={"person": "email:no@example.com"})
        assert (gone.status_code, "Nobody was recorded" in gone.text) == (404, True)

        listed = client.get("/v1/consent/suppressions", params={"format": "jsonl"})
        assert (listed.headers["touchlog-known-at"], listed.headers["touchlog-head"]) == ("3", "3")
        assert (listed.json()["state"], "@" in listed.text) == ("withdrawn", False)
        wanted = {"personal": "true", "purpose": "marketing.news", "channel": "email"}
        assert client.get("/v1/consent/suppressions", params=wanted).status_code == 400
        plain = client.get(
            "/v1/consent/suppressions", params=wanted, headers={"Touchlog-Purpose": "an audit"}
        )
        assert (plain.status_code, MAIL in plain.text) == (200, True)
        assert client.get("/v1/consent/register", params={"format": "xlsx"}).status_code == 400
        assert len(client.get("/v1/consent/register").text.splitlines()) == 3
        assert client.get("/v1/consent/register", params={"known_at": "@1"}).text.count("\n") == 2


def test_a_consent_for_ever_is_shown_in_a_zone_in_which_that_instant_has_no_date(
    tmp_path: Path, database_url: str
) -> None:
    for_ever = "9999-12-31T23:59:59.999999Z"  # of the year 10000 in Berlin
    with (
        served_http(tmp_path / "data", database_url, timezone="Europe/Berlin") as served,
        served.client() as client,
    ):
        given = fact("g", "given", now() - DAY, **GRANT | {"valid_until": "9999-12-31T23:59:59Z"})
        client.post(
            "/v1/events", json=[given], headers={"Content-Type": "application/cloudevents-batch+json"}
        )
        served.project()
        pages = {"Accept": "text/html"}

        lapsing = client.post("/consent/questions/5", headers=pages, data={"by": for_ever})
        breaches = client.get(
            "/consent/breaches", headers=pages, params={"from": "2026-01-01", "to": for_ever}
        )
        person = client.get(f"/persons/{ANN}", headers=pages, params={"as_of": for_ever})
        too_early = client.get(
            "/consent/breaches", headers=pages, params={"from": "0001-01-01", "to": "2026-01-01"}
        )
        before_time = client.post("/consent/questions/5", headers=pages, data={"by": "0001-01-01T00:30"})

    assert (lapsing.status_code, "31 December 9999, 23:59:59 UTC" in lapsing.text) == (200, True)
    assert (breaches.status_code, person.status_code) == (200, 200)
    assert (too_early.status_code, before_time.status_code) == (400, 400)
    assert when("9999-12-31T23:59:59.000000Z", ZoneInfo("Europe/Berlin")) == "9999-12-31 23:59"
