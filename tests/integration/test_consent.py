"""Consent asked over HTTP's own parts: loaded from the read model as the domain would judge the whole log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from adapters.consent.breaches import Breaches
from adapters.consent.consents import Asked, Consents, EventKey, outbound
from adapters.consent.receipts import Receipts, readable
from adapters.consent.register import load
from domain.consent.validity import Case
from domain.consent.verdicts import judge
from domain.entry import moment
from domain.errors import Invalid, NotFound
from tests.integration.reading_house import House, correction, event, story
from tests.integration.running import served_http
from tests.integration.test_imports_retract import imported, retracted

ANN, BOB, MAIL = "email:ann@example.com", "user:bob", "email:ann@example.com"
NOTICE = {"id": "privacy", "version": "3", "language": "en", "sha256": "00"}
GRANT: dict[str, Any] = {
    "contact": MAIL,
    "purpose": "marketing.news",
    "channel": "email",
    "notice": NOTICE,
    "method": "form",
}


def now() -> datetime:
    return datetime.now(UTC)


def fact(id_: str, state: str, at: datetime, *, subject: str | None = ANN, **data: Any) -> dict[str, Any]:
    """Give a consent fact."""
    found = event(id_, type=state if "." in state else f"consent.{state}", source="test/consents", data=data)
    found |= {"time": moment(at)}
    if subject is None:
        del found["subject"]
    else:
        found["subject"] = subject
    return found


def mail(id_: str, at: datetime, *, subject: str = ANN, contact: str = MAIL, **more: Any) -> dict[str, Any]:
    """Give a newsletter that went out."""
    said = {"purpose": "marketing.news", "direction": "outbound"} | more
    return event(
        id_,
        type="email.sent",
        source="test/mail",
        time=moment(at),
        subject=subject,
        data={"contact": contact},
    ) | {name: value for name, value in said.items() if value is not None}


def of(id_: str) -> dict[str, str]:
    return {"source": "test/consents", "id": id_}


def consents(it: House) -> Consents:
    return Consents(it.core.pool, it.core.subjects, it.core.histories)


async def verdict(it: House, id_: str, **asked: Any) -> tuple[str | None, str | None]:
    """Give (verdict, reason) of a mail."""
    found = await consents(it).verdicts([EventKey("test/mail", id_)], **asked)
    return found.verdicts[0]["verdict"], found.verdicts[0]["reason"]


@story
async def test_a_mail_is_judged_by_what_was_known_when_it_left_and_by_what_is_known_now(it: House) -> None:
    yesterday = now() - timedelta(days=1)
    await it.given(fact("g", "given", yesterday, **GRANT))
    sent = now()
    await it.given(mail("m", sent))
    before = await it.given(mail("late", yesterday + timedelta(hours=1)))
    assert await verdict(it, "m") == ("compliant", None)
    assert await verdict(it, "late") == ("unproven_at_send", None)
    await it.given(fact("w", "withdrawn", sent - timedelta(hours=1), contact=MAIL))
    assert await verdict(it, "m") == ("late_known_breach", "withdrawn")
    assert await verdict(it, "m", known_at=before.head) == ("compliant", None)


@story
async def test_a_correction_keeps_its_persons_sealed_and_counts_by_their_surrogates(it: House) -> None:
    yesterday = now() - timedelta(days=1)
    patch = {"subject": ANN, "contact": MAIL, "evidence": "recording of ann@example.com"}
    await it.given(
        fact("g", "given", yesterday, subject=BOB, **GRANT | {"contact": "email:other@example.com"}),
        fact("c", "corrected", yesterday, subject=None, of=of("g"), patch=patch),
    )
    await it.given(mail("m", now()))
    assert await verdict(it, "m") == ("compliant", None)
    rows = await it.rows("SELECT convert_from(body, 'UTF8') FROM touchpoint_log.events")
    assert not any("ann@" in row[0] or "other@" in row[0] for row in rows)
    found = (await it.entries(ANN))[0]
    assert found["provenance"]["source_id"] == "m"


@story
async def test_a_consent_until_the_end_of_the_calendar_holds_and_one_until_its_beginning_does_not(
    it: House,
) -> None:
    # given grants that lapse at instants which have no date in UTC, one of them by a correction
    yesterday = now() - timedelta(days=1)
    end, beginning = "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"
    other, third = "email:other@example.com", "email:third@example.com"
    await it.given(
        fact("g", "given", yesterday, **GRANT, valid_until=end),
        fact("h", "given", yesterday, subject=other, **GRANT | {"contact": other}, valid_until=beginning),
        fact("i", "given", yesterday, subject=third, **GRANT | {"contact": third}),
        fact("c", "corrected", yesterday, subject=None, of=of("i"), patch={"valid_until": end}),
    )

    # when it is asked who may be written to, and what is held
    asked = [Asked(contact=ref, purpose="marketing.news", channel="email") for ref in (MAIL, other, third)]
    found = await consents(it).check(asked)
    persons = [await consents(it).person(ref) for ref in (ANN, other, third)]

    # then the first holds for ever, the second never did, and each is told
    assert [(one["allowed"], one["reason"]) for one in found.results] == [
        (True, None),
        (False, "no_consent"),
        (True, None),
    ]
    assert [len(person.facts) for person in persons] == [1, 1, 2]


@story
async def test_check_tells_each_recipient_and_the_position_to_keep(it: House) -> None:
    await it.given(fact("g", "given", now() - timedelta(days=1), **GRANT))
    asked = [
        Asked(contact=ref, purpose="marketing.news", channel="email")
        for ref in (MAIL, "email:no@example.com")
    ]
    found = await consents(it).check(asked)
    assert [(r["allowed"], r["reason"]) for r in found.results] == [(True, None), (False, "no_consent")]
    assert (found.allowed_count, found.snapshot) == (1, 1)
    with pytest.raises(Invalid):
        await consents(it).check([Asked(contact="nonsense", purpose="a", channel="b")])


@story
async def test_ten_thousand_recipients_are_answered_at_once_in_their_order_and_one_more_is_refused(
    it: House,
) -> None:
    granted = [0, 2_499, 2_500, 7_777, 9_999]
    refs = [f"email:p{n}@example.com" for n in range(10_000)]
    await it.given(
        *(
            fact(f"g{n}", "given", now() - timedelta(days=1), subject=refs[n], **GRANT | {"contact": refs[n]})
            for n in granted
        )
    )
    asked = [Asked(contact=ref, purpose="marketing.news", channel="email") for ref in refs]
    found = await consents(it).check(asked)
    assert [n for n, result in enumerate(found.results) if result["allowed"]] == granted
    assert [result["contact"] for result in found.results] == refs
    assert (found.allowed_count, found.refused_count) == (5, 9_995)
    with pytest.raises(Invalid):
        await consents(it).check([*asked, asked[0]])
    asked[9_000] = asked[3] = Asked(contact="nonsense", purpose="marketing.news", channel="email")
    asked[8_000] = Asked(contact=refs[0], person="email:", purpose="marketing.news", channel="email")
    with pytest.raises(Invalid) as wrong:
        await consents(it).check(asked)
    assert [p.pointer for p in wrong.value.problems] == ["/recipients/3/contact", "/recipients/8000/person"]


@story
async def test_a_person_is_shown_with_answers_facts_and_defects_and_the_same_again(it: House) -> None:
    yesterday = now() - timedelta(days=1)
    await it.given(
        fact("g", "given", yesterday, **GRANT),
        fact("u", "given", yesterday, **GRANT | {"purpose": "marketing.offers", "method": None}),
        fact("w", "withdrawn", yesterday + timedelta(hours=2), purpose="marketing.news"),
        fact("x", "invalidated", yesterday, of=of("never")),
    )
    found = await consents(it).person(ANN)
    assert [(a["purpose"], a["valid"], a["reason"]) for a in found.answers] == [
        ("marketing.news", False, "withdrawn"),
        ("marketing.offers", False, "unevidenced"),
    ]
    assert {(d["position"], d["reason"]) for d in found.defects} == {
        (1, "notice_unpublished"),
        (2, "unevidenced"),
        (4, "of_unknown"),
    }
    earlier = await consents(it).person(ANN, at=yesterday + timedelta(hours=1), purpose="marketing.news")
    assert [a["valid"] for a in earlier.answers] == [True]
    again = await consents(it).person(ANN, at=datetime.fromisoformat(found.at), known_at=found.known_at)
    assert again == found


@story
async def test_an_import_that_is_taken_back_takes_its_facts_along(it: House) -> None:
    import_id = "00000000-0000-4000-8000-000000000001"
    await imported(it, import_id, fact("g", "given", now() - timedelta(days=1), **GRANT))
    await it.given(mail("m", now()))
    assert await verdict(it, "m") == ("compliant", None)
    await retracted(it, import_id)
    assert await verdict(it, "m") == ("late_known_breach", "no_consent")


@story
async def test_a_person_is_shown_without_the_facts_of_those_who_were_not_one_with_it_then(it: House) -> None:
    """Neither of whom it was linked to later, nor of whom a refused link names."""
    begin = now() - timedelta(days=1)
    await it.given(
        fact("g", "given", begin, **GRANT),
        fact("b", "given", begin, subject="user:bob", **GRANT | {"contact": "phone:+442071838750"}),
        fact("w", "withdrawn", begin, subject="user:bob", purpose="*"),
    )
    at = now()
    before = await consents(it).person(ANN, at=at)
    assert [f["source_id"] for f in before.facts] == ["g"]

    await it.given(
        event("login", type="web.signed_in", subject="user:bob", identifiers=ANN, data={}),
        event("other", subject="user:eve", identifiers=ANN, time="2026-03-02T12:00:00Z"),
        fact("e", "objected", begin, subject="user:eve", purpose="*"),
    )

    assert await consents(it).person(ANN, known_at=before.known_at, at=at) == before
    assert {f["source_id"] for f in (await consents(it).person(ANN)).facts} == {"g", "b", "w"}
    assert {f["source_id"] for f in (await consents(it).person("user:eve")).facts} == {"e"}


@story
async def test_what_others_recorded_for_a_persons_own_contact_point_is_shown(it: House) -> None:
    """As the check before sending says it, whether a fact of the person names that point or not."""
    begin = now() - timedelta(days=1)
    await it.given(
        event("call", identifiers="user:ann"),
        fact("w", "withdrawn", begin, subject=BOB, contact=MAIL, purpose="marketing.news", channel="email"),
    )
    for ref in (ANN, "user:ann", BOB):
        shown = await consents(it).person(ref)
        assert [(a["contact"], a["reason"]) for a in shown.answers] == [(MAIL, "withdrawn")]
        assert [f["source_id"] for f in shown.facts] == ["w"]


@story
async def test_whose_first_event_came_later_is_unknown_to_an_earlier_knowledge_of_consent(it: House) -> None:
    """As before it came; who was written to, or named by a fact, is known."""
    head = (await it.given(event("call"))).head
    with pytest.raises(NotFound) as before:
        await consents(it).person("email:eve@example.com", known_at=head)
    await it.given(
        event("eve", subject="email:eve@example.com"),
        mail("m", now(), contact="email:new@example.com"),
        fact("w", "withdrawn", now(), contact="phone:+442071838750", purpose="*", channel="*"),
    )

    for ref in ("email:eve@example.com", "email:new@example.com", "phone:+442071838750"):
        with pytest.raises(NotFound, match=f"at position {head}"):
            await consents(it).person(ref, known_at=head)
        assert (await consents(it).person(ref)).known_at == head + 3
    with pytest.raises(NotFound) as after:
        await consents(it).person("email:eve@example.com", known_at=head)
    assert str(after.value) == str(before.value)


@story
async def test_a_person_as_known_before_a_correction_of_an_opt_out_is_shown_as_it_was(it: House) -> None:
    yesterday = now() - timedelta(days=1)
    left = event("u", type="email.unsubscribed", time=moment(yesterday), data={})
    early = await it.given(fact("g", "given", yesterday - timedelta(days=1), **GRANT), left)
    asked: dict[str, Any] = {"at": now(), "known_at": early.head}
    before = await consents(it).person(ANN, **asked)
    assert [one["source_id"] for one in before.facts] == ["g", "u"]
    await it.given(correction("c", "u", {"time": moment(yesterday + timedelta(hours=1))}))
    assert await consents(it).person(ANN, **asked) == before


@story
async def test_a_message_whose_contact_point_is_corrected_is_judged_for_that_one(it: House) -> None:
    await it.given(fact("g", "given", now() - timedelta(days=1), **GRANT))
    early = await it.given(mail("m", now(), contact="email:typo@example.com"))
    assert await verdict(it, "m") == ("breach", "no_consent")
    of_mail = {"of_source": "test/mail"}
    await it.given(correction("c", "m", {"data": {"contact": MAIL}}, **of_mail))
    assert await verdict(it, "m") == ("compliant", None)
    later = {"time": "2026-03-03T09:00:00Z"}
    await it.given(correction("d", "m", {"data": {"contact": None}}, **of_mail, **later))
    assert await verdict(it, "m") == ("undeterminable", None)
    span = (now() - timedelta(hours=1), now() + timedelta(hours=1))
    report = Breaches(it.core.pool, it.core.histories).report
    assert (await report(*span, known_at=early.head)).verdicts == {"breach": 1}
    assert (await report(*span)).verdicts == {"undeterminable": 1}
    rows = await it.rows("SELECT convert_from(body, 'UTF8') FROM touchpoint_log.events")
    assert not any("ann@" in row[0] or "typo@" in row[0] for row in rows)


@story
async def test_who_objected_to_everything_is_refused_for_that_at_a_contact_point_never_seen(
    it: House,
) -> None:
    objected = await it.given(fact("o", "objected", now() - timedelta(days=1), subject=BOB, purpose="*"))
    new: dict[str, Any] = {
        "purpose": "marketing.news",
        "channel": "email",
        "contact": "email:new@example.com",
    }
    (shown,) = (await consents(it).person(BOB, **new)).answers
    assert (shown["contact"], shown["valid"], shown["reason"]) == (new["contact"], False, "objected")
    asked = Asked(**new, person=BOB)
    for count in (1, 30):  # few by the whole rule, many plainly
        told = (await consents(it).check([asked] * count)).results[-1]
        assert (told["allowed"], told["reason"], told["position"]) == (False, "objected", objected.head)
    nobody = await consents(it).check([Asked(**new), Asked(**new, person="user:nobody")])
    assert [one["reason"] for one in nobody.results] == ["no_consent"] * 2
    await it.given(mail("m", now(), subject=BOB, contact=new["contact"]))
    assert await verdict(it, "m") == ("breach", "objected")


@story
async def test_what_never_went_out_has_no_verdict(it: House) -> None:
    await it.given(event("call"))
    found = await consents(it).verdicts([EventKey("test/calls", "call"), EventKey("test/calls", "none")])
    assert [v["reason"] for v in found.verdicts] == ["no_outbound_touchpoint"] * 2


@story
async def test_a_fact_is_a_fact_whatever_direction_its_source_gives_it(it: House) -> None:
    await it.given(fact("g", "given", now() - timedelta(days=1), **GRANT) | {"direction": "outbound"})
    await it.given(mail("m", now()))
    assert await verdict(it, "m") == ("compliant", None)


def superseded(id_: str, at: datetime, *, subject: str | None = None, **more: Any) -> dict[str, Any]:
    """Give a notice that was superseded, which speaks of nobody unless told."""
    said = {"notice": {"id": "privacy", "version": "3"}, "material": True} | more
    return fact(id_, "notice.superseded", at, subject=subject, **said)


@story
async def test_what_is_said_of_a_superseded_notice_that_names_nobody_counts(it: House) -> None:
    day = timedelta(days=1)
    await it.given(
        fact("g", "given", now() - 9 * day, **GRANT), mail("m1", now() - 5 * day), mail("m2", now() - 2 * day)
    )
    await it.given(superseded("s", now() - 7 * day))
    assert await verdict(it, "m1") == await verdict(it, "m2") == ("breach", "notice_stale")
    patch = {"effective_at": moment(now() - 3 * day)}
    await it.given(fact("c", "corrected", now(), subject=None, of=of("s"), patch=patch))
    assert await verdict(it, "m1") == ("unproven_at_send", None)
    assert await verdict(it, "m2") == ("breach", "notice_stale")
    await it.given(fact("i", "invalidated", now(), subject=None, of=of("s")))
    assert await verdict(it, "m2") == ("unproven_at_send", None)


@story
async def test_a_superseded_notice_that_is_corrected_to_name_another_counts_for_grants_under_that_one(
    it: House,
) -> None:
    day = timedelta(days=1)
    await it.given(fact("g", "given", now() - 9 * day, **GRANT), mail("m", now() - 2 * day))
    await it.given(superseded("s", now() - 7 * day, notice={"id": "terms", "version": "1"}))
    assert await verdict(it, "m") == ("unproven_at_send", None)
    patch = {"notice": {"id": "privacy", "version": "3"}}
    await it.given(fact("c", "corrected", now(), subject=None, of=of("s"), patch=patch))
    assert await verdict(it, "m") == ("breach", "notice_stale")


REFS = (ANN, BOB, "phone:+442079460018", "crm:7")
POINTS = (MAIL, MAIL, "email:other@example.com", None)


async def given_anything(it: House, chance: Random) -> list[str]:
    """Record a random log of facts, links, corrections and mails, some late; gives the mails' ids."""
    begin = now() - timedelta(minutes=20)
    ids: list[str] = []
    sent: list[str] = []
    for turn in range(8):
        events = []
        for number in range(chance.randrange(2, 6)):
            id_ = f"{turn}.{number}"
            at = begin + timedelta(minutes=chance.randrange(20))
            state = chance.choice(
                "given given given renewed withdrawn objected refused confirmed corrected invalidated reviewed "
                "notice.superseded contact.reassigned".split()
            )
            data: dict[str, Any]
            if state in ("confirmed", "corrected", "invalidated", "reviewed"):
                data = {"of": of(chance.choice([*ids, "0.0", "7.1"]))}
                if state == "corrected":
                    patches: list[dict[str, Any]] = [
                        {"effective_at": moment(begin + timedelta(minutes=chance.randrange(20)))},
                        {"contact": chance.choice(POINTS)},
                        {"subject": chance.choice(REFS)},
                        {"purpose": "marketing.news"},
                        {"notice": {"id": chance.choice(("privacy", "terms")), "version": "3"}},
                    ]
                    data["patch"] = chance.choice(patches)
            elif state == "notice.superseded":
                notice = chance.choice(("privacy", "privacy", "terms"))
                data = {"notice": {"id": notice, "version": "3"}, "material": chance.random() < 0.7}
            elif state == "contact.reassigned":
                data = {"contact": MAIL}
            else:
                contact = chance.choice(POINTS)
                data = GRANT | {"contact": contact, "double_opt_in": chance.random() < 0.3}
                data["purpose"] = chance.choice(("marketing", "marketing.news", "marketing.news"))
            ids.append(id_)
            one = fact(id_, state, at, subject=chance.choice((*REFS, ANN, ANN)), **data)
            if state == "notice.superseded" and chance.random() < 0.7:
                del one["subject"]
            if chance.random() < 0.15:
                one["identifiers"] = chance.choice(REFS)
            events.append(one)
        for number in range(2):
            sent.append(f"{turn}.{number}")
            when = now() if chance.random() < 0.7 else begin + timedelta(minutes=chance.randrange(20))
            snapshot = chance.choice((None, chance.randrange(1, 12)))
            events.append(mail(sent[-1], when, subject=chance.choice((ANN, ANN, *REFS)), snapshot=snapshot))
        await it.given(*events, projected=False)
    await it.projected()
    return sent


@pytest.mark.parametrize("seed", range(6))
def test_verdicts_by_what_was_loaded_for_each_equal_those_by_the_whole_log(
    seed: int, tmp_path: Path, database_url: str
) -> None:
    @story
    async def judged(it: House) -> None:
        await equal(it, await given_anything(it, Random(seed)))

    judged(tmp_path, database_url)


async def equal(it: House, sent: list[str]) -> None:
    """Compare the verdicts one by one, together, and by all facts at once."""
    everybody = [row[0] for row in await it.rows("SELECT subject FROM touchlog.subjects")]
    whole = await load(it.core.pool, everybody, everybody)
    rows = await it.rows(
        "SELECT event_id, position, sent_at, subject, contact, purpose, channel, legal_basis, snapshot, controller, source_id "
        "FROM read.consent_messages"
    )
    for head in (5, 15, 30, 10**6):
        cut = min(head, it.core.writer.head)
        one_by_one = {
            id_: (await consents(it).verdicts([EventKey("test/mail", id_)], known_at=cut)).verdicts[0]
            for id_ in sent
        }
        together = await consents(it).verdicts([EventKey("test/mail", id_) for id_ in sent], known_at=cut)
        assert [v["id"] for v in together.verdicts] == sent
        assert together.verdicts == list(one_by_one.values())
        for row in rows:
            message = outbound(row[:10], whole)
            kin = whole.case(message.subject, None).kin
            found = judge(Case(whole.facts, kin), message, known_at=cut)
            told = one_by_one[row[10]]
            assert (told["verdict"], told["reason"]) == (found.verdict, found.reason), row


@pytest.mark.parametrize("seed", range(3))
def test_many_recipients_are_answered_as_each_alone(seed: int, tmp_path: Path, database_url: str) -> None:
    @story
    async def compared(it: House) -> None:
        chance = Random(100 + seed)
        await given_anything(it, chance)
        await it.given(*(plain for n in range(30) for plain in plainly(n, chance)))
        asked = [
            Asked(contact=contact, person=person, purpose=purpose, channel="email")
            for contact in (*REFS, "email:other@example.com", *(f"email:p{n}@example.com" for n in range(30)))
            for person in (None, BOB, contact, contact.replace("email:p", "crm:p"))
            for purpose in ("marketing.news", "marketing")
        ]
        for cut in (30, it.core.writer.head):
            for at in (now(), now() - timedelta(minutes=10)):
                together = await consents(it).check(asked, known_at=cut, at=at)
                alone = [(await consents(it).check([a], known_at=cut, at=at)).results[0] for a in asked]
                assert together.results == alone

    compared(tmp_path, database_url)


def plainly(number: int, chance: Random) -> list[dict[str, Any]]:
    """Give a few facts about somebody of whom mostly nothing is intricate; in any order of their times."""
    begin = now() - timedelta(minutes=20)
    contact, other = f"email:p{number}@example.com", f"crm:p{number}@example.com"
    found = []
    for turn in range(chance.randrange(5)):
        state = chance.choice(("given", "given", "renewed", "withdrawn", "objected", "refused", "requested"))
        data: dict[str, Any] = dict(GRANT) | {"contact": chance.choice((contact, contact, None, MAIL))}
        data |= {"purpose": chance.choice(("marketing.news", "marketing", "marketing.news"))}
        data |= {
            "method": chance.choice(("form", "form", "form", None)),
            "notice": {"id": "terms", "version": "1"},
        }
        if state == "given" and chance.random() < 0.1:
            data |= {"valid_until": moment(begin + timedelta(minutes=15))}
        if chance.random() < 0.2:
            data |= {"legal_basis": "implied", "jurisdiction": "CA", "method": "purchase"}
        one = fact(
            f"p{number}.{turn}",
            state,
            begin + timedelta(minutes=chance.randrange(20)),
            subject=chance.choice((contact, contact, other)),
            **{name: value for name, value in data.items() if value is not None},
        )
        if chance.random() < 0.3:
            one["identifiers"] = chance.choice((contact, other, f"crm:twin{number}"))
        found.append(one)
    return found


@story
async def test_breaches_are_counted_and_listed_and_an_earlier_report_stays_what_it_was(it: House) -> None:
    begin = now() - timedelta(days=1)
    await it.given(fact("g", "given", begin, **GRANT))
    sent = now()
    first = await it.given(
        mail("m", sent),
        mail("forgotten", sent, purpose=None),
        mail("contract", sent, purpose="service", legalbasis="contract"),
        mail("stranger", sent, subject="email:no@example.com", contact="email:no@example.com"),
    )
    reports = Breaches(it.core.pool, it.core.histories)
    before = await reports.report(begin, now(), known_at=first.head)
    assert before.verdicts == {"breach": 1, "compliant": 1, "not_consent_based": 1, "undeterminable": 1}
    assert (before.messages, before.coverage) == (4, 0.75)
    await it.given(fact("w", "withdrawn", sent - timedelta(hours=1), contact=MAIL))
    now_known = await reports.report(begin, now())
    assert now_known.verdicts["late_known_breach"] == 1
    (changed,) = [b for b in now_known.breaches if b["verdict"] == "late_known_breach"]
    assert (changed["id"], changed["evidence"]) == ("m", [1, 6])
    again = await reports.report(begin, datetime.fromisoformat(before.to), known_at=first.head)
    assert again == before
    with pytest.raises(Invalid):
        await reports.report(begin, begin)


def test_the_routes_answer_as_they_are_described(tmp_path: Path, database_url: str) -> None:
    with served_http(tmp_path / "data", database_url) as served, served.client() as client:
        begin = now() - timedelta(hours=1)
        batch = [fact("g", "given", begin, **GRANT), mail("m", begin + timedelta(minutes=5))]
        told = client.post(
            "/v1/events", json=batch, headers={"Content-Type": "application/cloudevents-batch+json"}
        )
        assert told.json()["recorded"] == 2
        served.project()
        one = {"contact": MAIL, "purpose": "marketing.news", "channel": "email"}
        answer = client.post("/v1/consent/check", json=one).json()
        assert (answer["allowed"], answer["reason"], answer["snapshot"], answer["head"]) == (True, None, 2, 2)
        many = {"purpose": "marketing.news", "channel": "email", "recipients": [{"contact": MAIL}]}
        assert client.post("/v1/consent/check", json=many).json()["allowed_count"] == 1
        wrong = client.post("/v1/consent/check", json={"contact": MAIL})
        assert (wrong.status_code, {e["pointer"] for e in wrong.json()["errors"]}) == (
            400,
            {"/purpose", "/channel"},
        )
        shown = client.get(f"/v1/persons/{ANN}/consent", params={"known_at": "@2"}).json()
        assert [(a["valid"], a["contact"]) for a in shown["answers"]] == [(True, MAIL)]
        person = f"/v1/persons/{ANN}/consent"
        first = client.get(person)
        resolved = {"as_of": first.json()["as_of"], "known_at": f"@{first.json()['known_at']}"}
        assert client.get(person, params=resolved).content == first.content, (
            "asked again with what it answers"
        )
        early = client.get(person, params={"as_of": moment(begin - timedelta(days=400))}).json()
        assert early["answers"] == [], "nothing had been said then"
        assert client.get(person, params=resolved | {"at": moment(begin)}).status_code == 400
        asked = {"events": [{"source": "test/mail", "id": "m"}], "known_at": "@2"}
        (verdict_,) = client.post("/v1/consent/verdicts", json=asked).json()["verdicts"]
        assert (verdict_["verdict"], verdict_["reason"]) == ("unproven_at_send", None)
        assert {"valid", "reason", "position"} <= verdict_["actual"].keys()
        span = {"from": moment(begin), "to": moment(now())}
        report = client.get("/v1/consent/breaches", params=span).json()
        assert [b["id"] for b in report["breaches"]] == ["m"]
        assert client.get("/v1/consent/breaches", params=span | {"from": "2026-01-01"}).status_code == 400
        assert (
            client.get(f"/v1/persons/{ANN}/consent", params={"at": "2026-01-01T00:00:00"}).status_code == 400
        )


def test_a_link_is_withdrawn_by_a_post_alone_and_a_forged_one_not_at_all(
    tmp_path: Path, database_url: str
) -> None:
    with served_http(tmp_path / "data", database_url) as served, served.client() as client:
        begin = now() - timedelta(hours=1)
        batch = [fact("g", "given", begin, **GRANT)]
        client.post("/v1/events", json=batch, headers={"Content-Type": "application/cloudevents-batch+json"})
        wanted = {"contact": MAIL, "purpose": "marketing.news", "channel": "email"}
        link = client.post("/v1/consent/unsubscribe-links", json=wanted).json()
        assert link["headers"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
        path = "/u/" + link["url"].rpartition("/u/")[2]
        with served.client("") as anybody:
            page = anybody.get(path)
            assert (page.status_code, "Unsubscribe" in page.text) == (200, True)
            assert anybody.post(path).status_code == 400  # not the body of a one-click request
            body = {"List-Unsubscribe": "One-Click"}
            forged = path[:-4] + ("AAAA" if path[-4:] != "AAAA" else "BBBB")
            assert [anybody.post(forged, data=body).status_code, anybody.get(forged).status_code] == [
                404,
                404,
            ]
            served.project()
            assert (
                client.post("/v1/consent/check", json=wanted).json()["allowed"] is True
            )  # so far nothing changed
            assert [anybody.post(path, data=body).status_code for _ in range(2)] == [200, 200]
        served.project()
        answer = client.post("/v1/consent/check", json=wanted).json()
        assert (answer["allowed"], answer["reason"]) == (False, "withdrawn")


@story
async def test_a_receipt_tells_what_was_agreed_to_under_which_text(it: House) -> None:
    begin = now() - timedelta(days=1)
    published = {"notice": NOTICE, "text": "We send you news.", "purposes": ["marketing.news"]}
    await it.given(
        fact("n", "notice.published", begin, subject=None, **published),
        fact(
            "g", "given", begin, **GRANT, valid_until=moment(begin + timedelta(days=2)), controller="Harbour"
        ),
    )
    receipts = Receipts(it.core.pool, it.core.subjects, it.core.histories)
    shown = await consents(it).person(ANN)
    assert shown.defects == []
    (fact_,) = [f for f in shown.facts if f["state"] == "given"]
    found = await receipts.of(fact_["event_id"])
    assert found["processing"]["purposes"][0]["contact_point"] == MAIL
    assert found["processing"]["notice_text"] == "We send you news."
    assert found["events"][0]["validity_duration_s"] == 2 * 86_400
    assert all(part in readable(found) for part in ("Consent receipt", "We send you news.", MAIL))
    with pytest.raises(NotFound):
        await receipts.of("00000000-0000-4000-8000-000000000000")
    with pytest.raises(Invalid):
        await receipts.of("nonsense")
