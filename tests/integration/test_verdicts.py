"""The ledger of verdicts: whatever is learnt late, it says at every position what was known there."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest

from adapters.consent.breaches import Breaches
from adapters.consent.consents import Asked, Consents
from adapters.consent.judge import Judge
from adapters.consent.ledger import Ledger
from bin.compose import core
from bin.processes.judging import judged_once
from domain.consent import policies
from domain.entry import moment
from domain.errors import Already
from tests.integration.reading_house import OFFICE, House, event, story
from tests.integration.running import served_http
from tests.integration.test_consent import ANN, BOB, GRANT, MAIL, fact, given_anything, mail, now
from tests.integration.test_identity import changes
from tests.integration.test_imports_retract import imported, retracted

ONE = {"Content-Type": "application/cloudevents+json"}


def judge_of(it: House, **how: Any) -> Judge:
    return Judge(it.core.pool, it.core.histories, it.core.keys, **how)


async def judged(it: House, **how: Any) -> Judge:
    """Judge all that is there, and let the projector see the verdicts."""
    judge = judge_of(it, **how)
    assert await judge.catch_up()
    await it.projected()
    return judge


def as_owner(it: House, statement: str) -> None:
    """Do what no part of touchlog may."""
    with psycopg.connect(it.core.database_url) as conn:
        conn.execute(statement.encode())


async def verdict_events(it: House) -> list[tuple[str, int]]:
    """Give (id, times it is in the log) of every verdict."""
    rows = await it.rows(
        "SELECT convert_from(body, 'UTF8')::jsonb ->> 'id', count(*) FROM touchpoint_log.events "
        "WHERE type = 'verdict.recorded' GROUP BY 1 ORDER BY 1"
    )
    return [(row[0], row[1]) for row in rows]


EVER = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2920, 1, 1, tzinfo=UTC))


async def by_the_rule(it: House, known_at: int) -> dict[str, Any]:
    """Judge every message anew, by the rule alone."""
    breaches, verdicts = Breaches(it.core.pool, it.core.histories), {}
    begin, end = EVER
    async for row, one in breaches._judged(begin, end, known_at):
        verdicts[str(row[0])] = (one.verdict, one.reason, list(one.evidence), one.actual)
    return verdicts


async def ledger_equals_the_rule(it: House) -> None:
    """Compare, at every position, what the ledger says with what the rule says, to the last look."""
    (head,) = [row[0] for row in await it.rows("SELECT position FROM touchlog.judging")]
    for position in range(1, head + 1):
        expected = await by_the_rule(it, position)
        assert await Ledger(it.core.pool, it.core.histories).judged_to() >= position
        rows = await it.rows(
            "SELECT m.event_id, v.verdict, v.reason, v.evidence, v.looks::jsonb -> 'actual' "
            "FROM read.consent_messages m CROSS JOIN LATERAL (SELECT * FROM read.consent_verdicts WHERE message = m.event_id "
            "AND knowledge <= %s ORDER BY knowledge DESC, position DESC LIMIT 1) v "
            "WHERE m.known_from <= %s AND (m.known_to IS NULL OR m.known_to > %s)",
            position,
            position,
            position,
        )
        said = {str(row[0]): tuple(row[1:4]) for row in rows}
        assert said == {key: one[:3] for key, one in expected.items()}, position
        for row in rows:
            look = expected[str(row[0])][3]
            assert row[4]["valid"] == (None if look is None else look.valid)


@story
async def test_what_is_said_of_a_superseded_notice_judges_again_whoever_was_sent_something_under_it(
    it: House,
) -> None:
    day = timedelta(days=1)
    await it.given(fact("g", "given", now() - 9 * day, **GRANT), mail("m", now() - 2 * day))
    notice = {"notice": {"id": "terms", "version": "1"}, "material": True}
    await it.given(fact("s", "notice.superseded", now() - 7 * day, subject=None, **notice))
    await judged(it)
    of = {"source": "test/consents", "id": "s"}
    patch = {"notice": {"id": "privacy", "version": "3"}}
    await it.given(fact("c", "corrected", now(), subject=None, of=of, patch=patch))
    await judged(it)
    await it.given(fact("i", "invalidated", now(), subject=None, of=of))
    await judged(it)
    rows = await it.rows("SELECT verdict, reason FROM read.consent_verdicts ORDER BY knowledge")
    assert rows == [("unproven_at_send", None), ("breach", "notice_stale"), ("unproven_at_send", None)]
    await ledger_equals_the_rule(it)


@pytest.mark.parametrize("seed", range(2))
def test_at_every_position_the_ledger_says_what_the_rule_says_however_the_judge_was_interrupted(
    seed: int, tmp_path: Path, database_url: str
) -> None:
    @story
    async def any_log(it: House) -> None:
        chance = Random(seed)
        await given_anything(it, chance)
        while not await judge_of(it, window=chance.randrange(1, 9)).catch_up(windows=chance.randrange(1, 4)):
            await it.projected()
        await it.projected()
        await given_anything_late(it, chance)
        # Two at once, and one that is cut off behind its verdicts but before its position moves.
        await asyncio.gather(judge_of(it).catch_up(), judge_of(it, window=7).catch_up())
        as_owner(it, "UPDATE touchlog.judging SET position = 0")
        await judged(it, window=11)
        await ledger_equals_the_rule(it)
        events = await verdict_events(it)
        assert all(times == 1 for _, times in events)
        # Its memory is lost: what is recorded already is told by its key.
        as_owner(it, "TRUNCATE touchlog.verdicts_in_force")
        as_owner(it, "UPDATE touchlog.judging SET position = 0, recorded = 0, policy = NULL")
        await judged(it)
        assert await verdict_events(it) == events
        digests = await it.digests()
        assert await it.built_anew() == digests
        assert await verdict_events(it) == events  # building anew files verdicts, and judges nothing

    any_log(tmp_path, database_url)


async def given_anything_late(it: House, chance: Random) -> None:
    """Merge, split, retract, correct a message, and tell late facts; the judge comes by now and then."""
    begin = now() - timedelta(minutes=15)
    import_id = "00000000-0000-4000-8000-000000000001"
    one = fact("late-g", "given", begin, subject=chance.choice((ANN, BOB)), **GRANT)
    await imported(it, import_id, one, mail("late-m", begin + timedelta(minutes=5)))
    await judged(it)
    await retracted(it, import_id)
    try:
        merge = await changes(it).merge(ANN, BOB, OFFICE, reason="one customer")
        assert merge.event_id
        await it.projected()
        late = fact("late-o", "objected", begin, subject=chance.choice((ANN, BOB)), purpose="*", channel="*")
        await it.given(late, mail("late-n", now(), subject=BOB))
        await judged(it)
        await changes(it).undo(merge.event_id, OFFICE, reason="two after all")
    except Already:
        pass  # links had made them one before
    patches = ({"data": {"contact": "email:other@example.com"}}, {"subject": BOB}, {"time": moment(begin)})
    of = {"source": "test/mail", "id": "0.0"}
    corrected = event("c", type="correction.recorded", source="test/office")
    corrected["data"] = {"of": of, "patch": chance.choice(patches)}
    del corrected["subject"]
    await it.given(
        corrected, fact("late-w", "withdrawn", begin, subject=chance.choice((ANN, BOB)), contact=MAIL)
    )


async def said_of(it: House, id_: str) -> list[str]:
    """Give every verdict that was recorded on a mail, the oldest first."""
    rows = await it.rows(
        "SELECT v.verdict FROM read.consent_verdicts v JOIN read.consent_messages m ON m.event_id = v.message "
        "WHERE m.source_id = %s ORDER BY v.knowledge, v.position",
        id_,
    )
    return [row[0] for row in rows]


@story
async def test_a_link_a_merge_and_its_undoing_rejudge_whom_they_join_and_nobody_else(it: House) -> None:
    card = "loyalty_card:7"
    await it.given(fact("g", "given", now() - timedelta(days=1), **GRANT), event("bob", subject=BOB))
    await it.given(
        mail("to-card", now(), subject=card),
        mail("to-bob", now(), subject=BOB),
        mail("to-eve", now(), subject="user:eve", contact="email:eve@example.com"),
    )
    assert (await judged(it)).judged == 3
    await it.given(event("link", identifiers=card))
    assert (await judged(it)).judged == 1
    assert await said_of(it, "to-card") == ["breach", "unproven_at_send"]
    merge = await changes(it).merge(ANN, BOB, OFFICE, reason="one customer")
    assert merge.event_id
    await it.projected()
    await judged(it)
    await changes(it).undo(merge.event_id, OFFICE, reason="two after all")
    await it.projected()
    await judged(it)
    assert await said_of(it, "to-bob") == ["breach", "unproven_at_send", "breach"]
    assert await said_of(it, "to-card") == ["breach", "unproven_at_send"]
    assert await said_of(it, "to-eve") == ["breach"]


@story
async def test_a_late_withdrawal_rejudges_its_own_purpose_channel_contact_and_time_alone(it: House) -> None:
    begin = now() - timedelta(days=2)
    await it.given(
        fact("g", "given", begin, **GRANT),
        mail("before", begin + timedelta(hours=1)),
        mail("of-it", now()),
        mail("offers", now(), purpose="marketing.offers"),
        mail("elsewhere", now(), contact="email:other@example.com"),
    )
    await judged(it)
    scope = {"contact": MAIL, "purpose": "marketing.news", "channel": "email"}
    await it.given(fact("w", "withdrawn", begin + timedelta(hours=2), **scope))
    judge = await judged(it)
    assert (judge.judged, judge.recorded) == (1, 1)
    assert (await said_of(it, "of-it"))[-1] in ("late_known_breach", "breach")


@story
async def test_a_withdrawal_that_names_an_order_alone_binds_the_person_of_the_order(it: House) -> None:
    begin = now() - timedelta(days=2)
    everything = {"purpose": "*", "channel": "*"}
    await it.given(event("o", identifiers="order:17", time=moment(begin)), fact("g", "given", begin, **GRANT))
    await it.given(mail("m", now()), mail("to-bob", now(), subject=BOB))
    assert (await judged(it)).judged == 2
    await it.given(fact("w", "withdrawn", begin + timedelta(hours=1), subject="order:17", **everything))
    assert (await judged(it)).judged == 1
    assert await said_of(it, "m") == ["compliant", "late_known_breach"]
    await it.given(mail("n", now()))
    await judged(it)
    assert await said_of(it, "n") == ["breach"]
    asked = [Asked(contact=MAIL, purpose="marketing.news", channel="email")]
    for many in (asked, asked * 30):
        found = await Consents(it.core.pool, it.core.subjects, it.core.histories).check(many)
        assert {one["reason"] for one in found.results} == {"withdrawn"}
    await it.given(fact("w2", "withdrawn", begin, subject="order:99", **everything), mail("k", now()))
    await it.given(event("p", identifiers="order:99", subject=BOB, time=moment(begin)))
    await judged(it)
    await ledger_equals_the_rule(it)


@story
async def test_what_is_judged_while_a_verdict_is_being_written_supersedes_that_verdict(it: House) -> None:
    begin = now() - timedelta(days=2)
    await it.given(fact("g", "given", begin, **GRANT))
    await it.given(mail("m", now()))
    await it.given(fact("w", "withdrawn", begin + timedelta(hours=1), contact=MAIL))
    judge = judge_of(it, window=1)
    in_force, record = judge._in_force, judge._record
    asked_again = asyncio.Event()
    written: list[int] = []

    async def asking(*what: Any) -> Any:
        found = await in_force(*what)
        if written:
            asked_again.set()
        return found

    async def writing(stands: Any, verdicts: Any, position: int) -> Any:
        written.extend([position] * len(verdicts))
        if written == [2]:
            await asked_again.wait()  # the next window asks what is in force before this is
        return await record(stands, verdicts, position)

    replaced: Any = judge
    replaced._in_force, replaced._record = asking, writing
    async with asyncio.timeout(60):
        assert await judge.catch_up()
    await it.projected()
    rows = await it.rows("SELECT event_id, supersedes, verdict FROM read.consent_verdicts ORDER BY position")
    assert [(row[1], row[2]) for row in rows] == [(None, "compliant"), (rows[0][0], "late_known_breach")]
    assert written == [2, 3]


class CutOffError(Exception):
    """A judge was killed."""


def test_by_another_policy_every_message_is_judged_anew_once_also_when_it_is_cut_off(
    tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    @story
    async def other_law(it: House) -> None:
        # given consents under the law of the United States, two of them withdrawn, and mails within ten days of it
        begin = now() - timedelta(days=2)
        for name in ("eve", "bob", "ann"):
            contact = f"email:{name}@example.com"
            told = GRANT | {"contact": contact, "jurisdiction": "US"}
            await it.given(fact(f"g-{name}", "given", begin, subject=contact, **told))
            if name != "eve":
                gone = {"contact": contact, "jurisdiction": "US"}
                await it.given(
                    fact(f"w-{name}", "withdrawn", begin + timedelta(hours=1), subject=contact, **gone)
                )
            await it.given(mail(name, now(), subject=contact, contact=contact))
        assert (await judged(it)).recorded == 3
        assert await said_of(it, "ann") == ["breach_in_grace"]
        before = await verdict_events(it)
        # when a table comes that gives no such time, and its judge is killed behind the second message
        monkeypatch.setattr(policies, "POLICIES", ())
        policies.policy_of.cache_clear()
        monkeypatch.setattr("adapters.consent.judge.MOST_AT_ONCE", 1)
        killed = judge_of(it, policy="of tomorrow")
        record, left = killed._record, iter((True, True, False))

        async def once(*what: Any) -> Any:
            if not next(left):
                raise CutOffError
            return await record(*what)

        monkeypatch.setattr(killed, "_record", once)
        with pytest.raises(CutOffError):
            await killed.catch_up()
        # then the next one says of every message what the new law says, once, and of what did not change nothing
        judge = await judged(it, policy="of tomorrow")
        assert [await said_of(it, name) for name in ("ann", "bob", "eve")] == [
            ["breach_in_grace", "breach"],
            ["breach_in_grace", "breach"],
            ["compliant"],
        ]
        assert (killed.recorded, judge.recorded) == (1, 1)
        events = await verdict_events(it)
        assert len(events) == len(before) + 2
        assert all(times == 1 for _, times in events)
        ((policy, swept),) = await it.rows("SELECT policy, swept FROM touchlog.judging")
        assert (policy, swept) == ("of tomorrow", 0)
        assert (await judged(it, policy="of tomorrow")).judged == 0

    try:
        other_law(tmp_path, database_url)
    finally:
        policies.policy_of.cache_clear()


def test_a_report_is_asked_what_it_said_and_names_the_late_fact_that_changed_it(
    tmp_path: Path, database_url: str
) -> None:
    def judged_by_the_thread() -> None:
        async def once() -> None:
            async with core(served.settings, database_url) as parts:
                await judged_once(parts)

        served.project()
        asyncio.run(once())

    with served_http(tmp_path / "data", database_url) as served, served.client() as client:
        begin = now() - timedelta(days=3)
        given = fact("g", "given", begin, **GRANT)
        assert client.post("/v1/events", json=given, headers=ONE).json()["recorded"] == 1
        assert client.post("/v1/events", json=mail("m", now()), headers=ONE).json()["recorded"] == 1
        judged_by_the_thread()
        said_at = 2
        withdrawn = fact("w", "withdrawn", begin + timedelta(days=1), contact=MAIL, method="letter")
        late = client.post("/v1/events", json=withdrawn, headers=ONE).json()["head"]
        judged_by_the_thread()
        span = {"from": moment(begin), "to": moment(now())}
        found = client.get("/v1/consent/breaches/changes", params=span | {"said_at": f"@{said_at}"}).json()
        assert (found["said"], found["says"]) == ({"compliant": 1}, {"late_known_breach": 1})
        assert [(one["position"], one["id"], one["verdicts"]) for one in found["because"]] == [(late, "w", 1)]
        assert found["because"][0]["late_s"] > 86_400
        (changed,) = found["changes"]
        history = client.get(f"/v1/consent/verdicts/{changed['event_id']}").json()["verdicts"]
        assert [(v["verdict"], v["known_at"]) for v in history] == [
            ("compliant", 2),
            ("late_known_breach", late),
        ]
        assert history[1]["supersedes"] == history[0]["event_id"]
        assert client.get("/v1/consent/verdicts/nonsense").status_code == 404
        assert (
            client.get("/v1/consent/breaches/changes", params=span | {"said_at": "soon"}).status_code == 400
        )
        page = {"Accept": "text/html"}
        asked = {"from": str(begin.date()), "said_at": f"@{said_at}"}
        shown = client.get("/consent/breaches", params=asked, headers=page)
        assert (shown.status_code, "Learnt since then" in shown.text) == (200, True)
        shown = client.get(f"/consent/messages/{changed['event_id']}", headers=page)
        assert (shown.status_code, "Changed by" in shown.text) == (200, True)
        assert client.get("/consent/breaches", params={"from": "May"}, headers=page).status_code == 400


@story
async def test_what_changed_a_report_is_told_the_same_after_its_messages_were_taken_back(it: House) -> None:
    yesterday = now() - timedelta(days=1)
    await it.given(fact("g", "given", yesterday, **GRANT))
    import_id = "00000000-0000-4000-8000-000000000001"
    await imported(it, import_id, mail("m", now()))
    late = await it.given(fact("w", "withdrawn", yesterday + timedelta(hours=1), contact=MAIL))
    await judged(it)
    ledger, known_at = Ledger(it.core.pool, it.core.histories), late.head
    before = await ledger.causes(*EVER, known_at=known_at)
    assert [(one["id"], one["verdicts"]) for one in before] == [("w", 1)]
    await retracted(it, import_id)
    await judged(it)
    assert await ledger.causes(*EVER, known_at=known_at) == before
    assert await ledger.causes(*EVER, known_at=it.core.writer.head) == []
