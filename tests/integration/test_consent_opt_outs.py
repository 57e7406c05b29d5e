"""Opt-outs through the log: recorded as what they are, they withdraw at once; lists and files of them."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.consent.consents import Asked
from adapters.consent.exports import DEFECTS, REGISTER, SUPPRESSIONS, Exports, written
from adapters.consent.receipts import Receipts
from domain.entry import moment
from tests.integration.reading_house import OFFICE, House, event, story
from tests.integration.test_consent import ANN, GRANT, consents, fact, mail, now, of, verdict
from tests.integration.test_imports_retract import imported, retracted

PHONE = "phone:+442071838750"
SMS = GRANT | {"contact": PHONE, "channel": "sms"}


def sms(id_: str, text: str, at: Any, **more: Any) -> dict[str, Any]:
    data = {"text": text}
    return (
        event(id_, type="sms.received", source="test/sms", time=moment(at), subject=PHONE, data=data) | more
    )


async def allowed(it: House, contact: str, channel: str) -> bool:
    asked = Asked(contact=contact, purpose="marketing.news", channel=channel)
    return bool((await consents(it).check([asked])).results[0]["allowed"])


@story
async def test_a_stop_withdraws_where_it_stands_and_is_undone_by_what_speaks_of_it(it: House) -> None:
    begin = now() - timedelta(days=2)
    await it.given(
        fact("g", "given", begin, **GRANT),
        fact("s", "given", begin, subject=PHONE, **SMS),
        mail("m", begin + timedelta(hours=5)),
    )
    said = await it.given(sms("stop", "Please stop.", begin + timedelta(hours=1)))
    assert (await allowed(it, PHONE, "sms"), await allowed(it, ANN, "email")) == (False, True)
    left = {"contact": ANN, "list_id": "marketing.news"}
    at = moment(begin + timedelta(hours=2))
    await it.given(event("u", type="email.unsubscribed", source="test/mail", time=at, subject=ANN, data=left))
    assert await verdict(it, "m") == ("breach", "withdrawn")

    shown = await consents(it).person(PHONE)
    (told,) = [f for f in shown.facts if f["state"] == "withdrawn"]
    assert (told["position"], told["method"], told["purpose"]) == (said.head, "keyword:stop", "*")
    receipt = await Receipts(it.core.pool, it.core.subjects, it.core.histories).of(told["event_id"])
    assert receipt["events"][0]["event_state"] == "withdrawn"
    assert receipt["processing"]["purposes"][0]["collection_method"] == "keyword:stop"
    rows = await it.rows("SELECT convert_from(body, 'UTF8') FROM touchpoint_log.events")
    assert not any("Please" in row[0] for row in rows)

    undone = {"of": {"source": "test/sms", "id": "stop"}, "reason": "a driver's message"}
    await it.given(event("i", type="consent.invalidated", source="test/office", data=undone))
    assert await allowed(it, PHONE, "sms")
    digests = await it.digests()
    assert await it.built_anew() == digests


async def lines(exports: Any, columns: Any) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for part in [p async for p in written(exports, columns, "jsonl")]
        for line in part.splitlines()
    ]


@story
async def test_the_suppression_list_names_whom_a_restriction_binds_and_what_was_allowed_again(
    it: House,
) -> None:
    begin = now() - timedelta(days=2)
    hour = timedelta(hours=1)
    await it.given(
        event("who", type="profile.updated", subject=ANN, identifiers=PHONE, data={"method": "form"}),
        fact("o", "objected", begin, purpose="marketing", channel="*"),
        fact("g", "given", begin + hour, **GRANT),
        fact(
            "r", "refused", begin - hour, purpose="marketing.events", channel="email"
        ),  # the objection says it already
        fact(
            "w",
            "withdrawn",
            begin,
            subject="email:bob@example.com",
            contact="email:bob@example.com",
            channel="email",
        ),
        fact(
            "again",
            "given",
            begin + hour,
            subject="email:eve@example.com",
            **GRANT | {"contact": "email:eve@example.com"},
        ),
        fact(
            "gone",
            "withdrawn",
            begin,
            subject="email:eve@example.com",
            contact="email:eve@example.com",
            purpose="marketing.news",
            channel="email",
        ),
    )
    exports = Exports(it.core.pool, it.core.subjects, it.core.histories)
    position = await exports.position()
    everything = await lines(exports.suppressions(position, personal=True), SUPPRESSIONS)
    assert {(r["contact"], r["purpose"], r["channel"], r["except"]) for r in everything} == {
        (ANN, "marketing", "*", "marketing.news/email"),
        (PHONE, "marketing", "*", None),
        ("email:bob@example.com", "*", "email", None),
    }
    news = await lines(
        exports.suppressions(position, purpose="marketing.news", channel="email"), SUPPRESSIONS
    )
    assert [(r["state"], r["known_at"], "@" in r["contact"]) for r in news] == [
        ("withdrawn", position, False)
    ]
    before = await lines(exports.suppressions(2, personal=True), SUPPRESSIONS)
    assert {(r["contact"], r["except"]) for r in before} == {(ANN, None), (PHONE, None)}
    assert await lines(exports.suppressions(position, at=begin - 2 * hour), SUPPRESSIONS) == []


@story
async def test_the_register_is_written_whole_and_a_spreadsheet_takes_no_cell_for_a_formula(it: House) -> None:
    yesterday = now() - timedelta(days=1)
    await it.given(fact("=1+1", "given", yesterday, evidence={"page": "/news"}, **GRANT))
    await it.given(fact("later", "withdrawn", yesterday))
    exports = Exports(it.core.pool, it.core.subjects, it.core.histories)
    parts = [part async for part in written(exports.register(1, personal=True), REGISTER, "csv")]
    (row,) = csv.DictReader(io.StringIO(b"".join(parts).decode(), newline=""))
    assert (row["source_id"], row["contact"], row["notice_sha256"]) == ("'=1+1", ANN, "00")
    assert (row["evidence"], row["recorded_by"], row["known_at"]) == ('{"page":"/news"}', "key:test", "1")
    (sealed, _) = await lines(exports.register(2), REGISTER)
    assert (sealed["evidence"], "@" in sealed["contact"]) == (None, False)


@story
async def test_what_is_odd_is_kept_listed_and_given_the_effect_that_it_can_have(it: House) -> None:
    begin = now() - timedelta(days=2)
    hour = timedelta(hours=1)
    unknown = {"subject": "user:nobody-yet"}
    await it.given(
        fact(
            "n",
            "notice.published",
            begin,
            subject=None,
            notice=GRANT["notice"],
            text="News.",
            purposes=["club.news"],
        ),
        fact("bare", "given", begin, **GRANT | {"notice": None}),
        fact("unmethodical", "given", begin, **GRANT | {"method": None}),
        fact("ends", "given", begin, **GRANT, valid_until=moment(begin - hour)),
        fact("never", "confirmed", begin, subject=None, of={"source": "test/consents", "id": "to come"}),
        fact("odd", "given", begin, **GRANT | {"purpose": "marketing.nwes", "channel": "e-mail"}),
        fact("club", "given", begin, **GRANT | {"purpose": "club.news"}),
        fact("early", "withdrawn", begin + hour, **unknown, purpose="club.news"),
    )
    exports = Exports(it.core.pool, it.core.subjects, it.core.histories)
    found = await lines(exports.defects(await exports.position()), DEFECTS)
    assert [(row["source_id"], row["reason"], row["effect"]) for row in found] == [
        ("bare", "unevidenced", "none"),
        ("unmethodical", "unevidenced", "none"),
        ("ends", "ends_before_it_begins", "none"),
        ("never", "of_unknown", "none"),
        ("odd", "purpose_uncatalogued", "full"),
        ("odd", "channel_unknown", "full"),
    ]
    answers = {
        (a["purpose"], a["channel"]): (a["valid"], a["reason"])
        for a in (await consents(it).person(ANN)).answers
    }
    assert answers == {
        ("marketing.news", "email"): (False, "unevidenced"),
        ("marketing.nwes", "e-mail"): (True, None),
        ("club.news", "email"): (True, None),
    }
    # What it speaks of comes, and whom it names becomes known: both take effect.
    await it.given(
        fact("to come", "given", begin, **GRANT | {"purpose": "marketing.events"}, double_opt_in=True),
        event(
            "who", type="profile.updated", subject=ANN, identifiers="user:nobody-yet", data={"method": "form"}
        ),
    )
    shown = (await consents(it).person(ANN)).answers
    answers = {(a["purpose"], a["channel"]): (a["valid"], a["reason"]) for a in shown}
    assert answers["marketing.events", "email"] == (True, None)
    assert answers["club.news", "email"] == (False, "withdrawn")
    found = await lines(exports.defects(await exports.position()), DEFECTS)
    assert "of_unknown" not in {row["reason"] for row in found}
    naive = fact("naive", "given", begin, **GRANT) | {"time": "2026-01-31T12:00:00"}
    answer = await it.core.ingest.accept([orjson.dumps(naive)], OFFICE, way_in="test")
    assert [(p.pointer, p.code) for p in answer.results[0].errors] == [("/time", "no_zone")]


@story
async def test_a_correction_that_ends_a_grant_before_it_was_made_itself_is_no_defect(it: House) -> None:
    begin = now() - timedelta(days=2)
    earlier = {"valid_until": moment(begin + timedelta(days=1))}
    await it.given(
        fact("n", "notice.published", begin, subject=None, notice=GRANT["notice"]),
        fact("g", "given", begin, **GRANT),
        fact("c", "corrected", now(), subject=None, of=of("g"), patch=earlier),
    )
    (answer,) = (await consents(it).person(ANN)).answers
    assert (answer["valid"], answer["reason"], answer["evidence"]) == (False, "expired", [2, 3])
    exports = Exports(it.core.pool, it.core.subjects, it.core.histories)
    assert await lines(exports.defects(await exports.position()), DEFECTS) == []


@story
async def test_a_purpose_that_a_notice_names_later_leaves_an_earlier_list_of_defects_as_it_was(
    it: House,
) -> None:
    begin = now() - timedelta(days=1)
    early = await it.given(fact("g", "given", begin, **GRANT | {"purpose": "club.news"}))
    exports = Exports(it.core.pool, it.core.subjects, it.core.histories)
    before = await lines(exports.defects(early.head), DEFECTS)
    notice = {"notice": GRANT["notice"], "purposes": ["club.news"]}
    late = await it.given(fact("n", "notice.published", begin, subject=None, **notice))
    assert [row["reason"] for row in before] == ["notice_unpublished", "purpose_uncatalogued"]
    assert await lines(exports.defects(early.head), DEFECTS) == before
    assert await lines(exports.defects(late.head), DEFECTS) == []


@story
async def test_a_notice_that_is_taken_back_takes_its_purposes_out_of_the_catalogue(it: House) -> None:
    begin = now() - timedelta(days=1)
    notice = {"notice": GRANT["notice"], "purposes": ["club.news"]}
    import_id = "00000000-0000-4000-8000-000000000001"
    await imported(it, import_id, fact("n", "notice.published", begin, subject=None, **notice))
    there = await it.given(fact("g", "given", begin, **GRANT | {"purpose": "club.news"}))
    exports = Exports(it.core.pool, it.core.subjects, it.core.histories)

    async def wrong(known_at: int) -> tuple[list[str], list[str]]:
        listed = await lines(exports.defects(known_at), DEFECTS)
        shown = (await consents(it).person(ANN, known_at=known_at)).defects
        return [row["reason"] for row in listed], [row["reason"] for row in shown]

    assert await wrong(there.head) == ([], [])
    await retracted(it, import_id)
    gone = ["notice_unpublished", "purpose_uncatalogued"]
    assert await wrong(await exports.position()) == (gone, gone)
    assert await wrong(there.head) == ([], [])


@story
async def test_the_suppression_list_follows_who_is_bound_when_persons_are_parted(it: House) -> None:
    begin, card = now() - timedelta(days=3), "loyalty_card:7"
    bob = "email:bob@example.com"
    import_id = "00000000-0000-4000-8000-000000000001"
    await it.given(
        event("call"),
        fact("b", "given", begin, subject=bob, **GRANT | {"contact": bob}),
        fact("g", "given", begin, subject="user:cleo", **GRANT | {"contact": "email:cleo@example.com"}),
    )
    links = (event("swipe", identifiers=card), event("both", subject=bob, identifiers="user:cleo"))
    await imported(it, import_id, *links)
    await it.given(fact("o", "objected", begin, subject=card, purpose="*"))
    exports = Exports(it.core.pool, it.core.subjects, it.core.histories)

    async def listed() -> list[str]:
        found = exports.suppressions(await exports.position(), personal=True)
        return [row["contact"] for row in await lines(found, SUPPRESSIONS)]

    assert await listed() == [ANN]
    # Parted from the card, ann stays bound by what it said; bob has nothing to do with what cleo says from now on.
    await retracted(it, import_id)
    assert not await allowed(it, ANN, "email")
    assert await listed() == [ANN]
    await it.given(fact("c", "objected", now(), subject="user:cleo", purpose="*"))
    assert await allowed(it, bob, "email")
    assert await listed() == [ANN, "email:cleo@example.com"]


@pytest.mark.parametrize("first", ["o", "w"])
def test_the_suppression_list_shows_what_each_owner_of_one_contact_point_said_in_any_order_of_arrival(
    tmp_path: Path, database_url: str, first: str
) -> None:
    """Two persons whom nothing links, and one number."""

    @story
    async def told(it: House) -> None:
        begin = now() - timedelta(days=1)
        await it.given(fact("a", "given", begin, subject="user:ann", **SMS))
        await it.given(fact("b", "given", begin, subject="user:bob", **SMS))
        said = [
            fact("o", "objected", begin, subject="user:ann", purpose="*"),
            fact("w", "withdrawn", begin, subject="user:bob", purpose="*"),
        ]
        for one in sorted(said, key=lambda one: one["id"] != first):
            await it.given(one)
        exports = Exports(it.core.pool, it.core.subjects, it.core.histories)
        for purpose, channel in ((None, None), ("marketing.news", "sms")):
            position = await exports.position()
            found = exports.suppressions(position, personal=True, purpose=purpose, channel=channel)
            rows = await lines(found, SUPPRESSIONS)
            assert sorted((row["contact"], row["state"]) for row in rows) == [
                (PHONE, "objected"),
                (PHONE, "withdrawn"),
            ]
            assert len({row["person"] for row in rows}) == 2

    told(tmp_path, database_url)


@story
async def test_a_restriction_that_loses_its_contact_point_by_a_correction_is_listed_for_all_of_the_persons(
    it: House,
) -> None:
    begin = now() - timedelta(days=1)
    await it.given(
        event("call", identifiers=PHONE),
        fact("w", "objected", begin, contact=ANN, purpose="*"),
        fact("c", "corrected", begin, subject=None, of=of("w"), patch={"contact": None}),
    )
    assert not await allowed(it, PHONE, "sms")
    exports = Exports(it.core.pool, it.core.subjects, it.core.histories)
    found = await lines(exports.suppressions(await exports.position(), personal=True), SUPPRESSIONS)
    assert sorted(row["contact"] for row in found) == [ANN, PHONE]
