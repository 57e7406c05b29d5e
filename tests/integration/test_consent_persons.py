"""Consent over persons that are linked, merged and split in the real log, asked over HTTP (SEMANTICS §5)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx
import psycopg
import pytest

from adapters.checking.checker import check_now
from domain.entry import moment
from tests.integration.reading_house import House, event, story
from tests.integration.running import Served, served_http
from tests.integration.test_checks import told
from tests.integration.test_consent import (
    ANN,
    GRANT,
    MAIL,
    consents,
    fact,
    given_anything,
    mail,
    now,
    of,
    verdict,
)
from tests.integration.test_imports_retract import imported, retracted

CARD, PHONE = "loyalty_card:7", "phone:+442079460018"
EVERYTHING: dict[str, Any] = {"purpose": "*", "channel": "*"}
"""What a restriction says that holds for all contact points of its person."""


class Office:
    """Somebody who records events and asks, each time once the read models have seen all."""

    def __init__(self, served: Served, client: httpx.Client) -> None:
        self._served = served
        self._client = client

    def given(self, *events: dict[str, Any]) -> int:
        """Record events; gives the head."""
        kind = {"Content-Type": "application/cloudevents-batch+json"}
        told = self._client.post("/v1/events", json=list(events), headers=kind).json()
        assert told["recorded"] == len(events), told
        self._served.project()
        return int(told["head"])

    def changed(self, what: str, **asked: Any) -> dict[str, Any]:
        """Merge or split; gives the answer."""
        told = self._client.post(f"/v1/persons/{what}", json=asked | {"reason": "looked at"})
        assert told.status_code == 200, told.text
        self._served.project()
        found: dict[str, Any] = told.json()
        return found

    def verdict(self, id_: str, **asked: Any) -> tuple[str, str | None]:
        """Give (verdict, reason) of a mail."""
        asked["events"] = [{"source": "test/mail", "id": id_}]
        (found,) = self._client.post("/v1/consent/verdicts", json=asked).json()["verdicts"]
        return found["verdict"], found["reason"]

    def stands(self, ref: str, **asked: Any) -> list[tuple[str, bool, str | None]]:
        """Give (contact point, valid, reason) of every answer about a person."""
        told = self._client.get(f"/v1/persons/{ref}/consent", params=asked).json()
        return [(a["contact"], a["valid"], a["reason"]) for a in told["answers"]]

    def subject_of(self, kind: str) -> str:
        """Give the surrogate of the one identifier of a kind."""
        with psycopg.connect(self._served.database_url) as conn:
            rows = conn.execute("SELECT subject FROM touchlog.subjects WHERE kind = %s", (kind,)).fetchall()
        ((subject,),) = rows
        return str(subject)


@pytest.fixture
def office(tmp_path: Path, database_url: str) -> Iterator[Office]:
    with served_http(tmp_path / "data", database_url) as served, served.client() as client:
        yield Office(served, client)


def test_a_merge_brings_the_other_sides_objection_and_is_known_only_from_then(office: Office) -> None:
    # given somebody by card who objected to everything, before ann gave her consent
    begin = now() - timedelta(days=2)
    office.given(fact("o", "objected", begin, subject=CARD, **EVERYTHING))
    office.given(fact("g", "given", begin + timedelta(days=1), **GRANT))
    before = office.given(mail("m", now()))
    assert office.verdict("m") == ("compliant", None)
    # when both are found to be one person
    office.changed("merge", a=ANN, b=CARD)
    # then the objection holds for her, for they were not linked when she gave it; and nobody knew
    assert office.verdict("m") == ("late_known_breach", "objected")
    assert office.stands(ANN) == [(MAIL, False, "objected")]
    assert office.verdict("m", known_at=f"@{before}") == ("compliant", None)
    assert office.stands(ANN, known_at=f"@{before}") == [(MAIL, True, None)]
    # and a grant given since then lifts it
    office.given(fact("g2", "given", now(), **GRANT))
    office.given(mail("m2", now()))
    assert office.verdict("m2") == ("compliant", None)


def test_an_undone_merge_gives_grants_back_and_leaves_restrictions_on_both_until_reviewed(
    office: Office,
) -> None:
    # given a merge, and under it a grant by card for ann's address and an objection by card
    begin = now() - timedelta(days=2)
    office.given(event("call"), event("swipe", subject=CARD))
    merge = office.changed("merge", a=ANN, b=CARD)
    office.given(fact("g", "given", begin, subject=CARD, **GRANT))
    office.given(mail("m", now()))
    assert office.verdict("m") == ("compliant", None)
    office.given(fact("o", "objected", now(), subject=CARD, purpose="profiling", channel="*"))
    # when it is undone
    undone = office.changed("split", **merge["undo"])
    # then the grant is the card's again
    assert office.verdict("m") == ("late_known_breach", "no_consent")
    assert office.verdict("m", known_at=f"@{undone['position'] - 1}") == ("compliant", None)
    # and the objection still binds ann
    profile = GRANT | {"purpose": "profiling", "contact": PHONE}
    office.given(fact("g2", "given", begin, **profile))
    said = mail("m2", now(), contact=PHONE, purpose="profiling")
    office.given(said)
    assert office.verdict("m2")[1] == "objected"
    # until an officer finds that it was the card's alone
    office.given(
        fact("r", "reviewed", now(), subject=None, of=of("o"), subjects=[office.subject_of("loyalty_card")])
    )
    assert office.verdict("m2")[1] is None


def test_a_subject_that_is_split_off_takes_its_grants_and_leaves_restrictions_on_both(office: Office) -> None:
    # given ann and a card, linked by a call, with a grant by card and a withdrawal by ann
    begin = now() - timedelta(days=3)
    office.given(event("call", identifiers=CARD, time=moment(begin)))
    office.given(fact("g", "given", begin + timedelta(days=1), subject=CARD, **GRANT))
    office.given(mail("m", now(), subject=ANN))
    assert office.verdict("m") == ("compliant", None)
    office.given(fact("w", "withdrawn", now(), subject=ANN, purpose="marketing", channel="phone"))
    # when the card is taken out
    office.changed("split", person=ANN, subject=office.subject_of("loyalty_card"))
    # then its grant no longer is ann's
    assert office.verdict("m") == ("late_known_breach", "no_consent")
    # and what ann withdrew binds the card as well
    call = GRANT | {"contact": PHONE, "channel": "phone"}
    office.given(fact("g2", "given", begin, subject=CARD, **call))
    office.given(mail("m2", now(), subject=CARD, contact=PHONE, channel="phone"))
    assert office.verdict("m2")[1] == "withdrawn"
    # and no link by evidence gives the grant back, only a merge
    office.given(event("again", identifiers=CARD))
    assert office.verdict("m") == ("late_known_breach", "no_consent")
    office.changed("merge", a=ANN, b=CARD)
    assert office.verdict("m") == ("compliant", None)


def test_links_count_by_knowledge_whatever_their_time(office: Office) -> None:
    # given a grant by card for ann's address, and a mail to ann
    begin = now() - timedelta(days=3)
    before = office.given(fact("g", "given", begin, subject=CARD, **GRANT), mail("m", now()))
    assert office.verdict("m") == ("breach", "no_consent")
    # when a call links them that happened, as its source says, after the mail
    office.given(event("call", identifiers=CARD, time=moment(now() + timedelta(hours=1))))
    # then the grant is ann's, though nobody could have known
    assert office.verdict("m") == ("unproven_at_send", None)
    assert office.verdict("m", known_at=f"@{before}") == ("breach", "no_consent")
    assert office.stands(ANN) == [(MAIL, True, None)]
    assert office.stands(ANN, known_at=f"@{before}") == []


@story
async def test_a_link_that_is_taken_back_gives_grants_back_and_leaves_restrictions_on_both(it: House) -> None:
    # given a link by an import
    begin = now() - timedelta(days=3)
    import_id = "00000000-0000-4000-8000-000000000001"
    await imported(it, import_id, event("call", identifiers=CARD, time=moment(begin)))
    await it.given(
        fact("g", "given", begin + timedelta(days=1), subject=CARD, **GRANT),
        fact("o", "objected", begin, subject=CARD, purpose="profiling", channel="*"),
        fact("g2", "given", begin + timedelta(days=1), **GRANT | {"purpose": "profiling"}),
    )
    await it.given(mail("m", now()), mail("m2", now(), purpose="profiling"))
    linked = it.core.writer.head
    assert await verdict(it, "m") == ("compliant", None)
    assert await verdict(it, "m2") == ("compliant", None)  # they were linked when ann gave it: it lifts
    # when the import is taken back
    await retracted(it, import_id)
    # then the grant is the card's, and its objection, that nothing of ann's own lifts, binds both
    assert await verdict(it, "m") == ("late_known_breach", "no_consent")
    assert await verdict(it, "m2") == ("late_known_breach", "objected")
    assert await verdict(it, "m", known_at=linked) == ("compliant", None)
    (answer,) = (await consents(it).person(ANN, purpose="profiling")).answers
    assert (answer["valid"], answer["reason"]) == (False, "objected")


@story
async def test_the_person_of_an_order_is_asked_for_a_mail_that_names_the_order_alone(it: House) -> None:
    begin = now() - timedelta(days=1)
    await it.given(
        fact("g", "given", begin, **GRANT),
        event("placed", type="order.placed", identifiers="order:55"),
    )
    await it.given(mail("m", now(), subject="order:55"))
    assert await verdict(it, "m") == ("compliant", None)


def test_rows_of_consent_are_the_same_when_built_anew_and_one_that_was_tampered_with_is_named(
    tmp_path: Path, database_url: str
) -> None:
    @story
    async def recorded(it: House) -> None:
        await given_anything(it, Random(7))
        live = await it.digests()
        assert await it.built_anew() == live

    recorded(tmp_path, database_url)
    check_now(database_url)
    assert told(database_url) == []
    for table, column in (("consent_facts", "method"), ("consent_messages", "purpose")):
        with psycopg.connect(database_url, autocommit=True) as conn:
            changed = conn.execute(
                f"UPDATE read.{table} SET {column} = 'x' WHERE position = (SELECT min(position) FROM read.{table}) "  # noqa: S608
                "AND known_to IS NULL"
            ).rowcount
        assert changed == 1
        check_now(database_url)
        assert (table, 1) in [(name, rows) for _, name, rows, _ in told(database_url)]
