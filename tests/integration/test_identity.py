"""Merge, split, link and why, through the real log and read models: who is one person, decided and explained."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.answers.identity_why import Whys
from adapters.checking.checker import Checker
from adapters.columns.following import connected
from adapters.columns.persons import Moments
from adapters.intake.identity_changes import Change, IdentityChanges
from adapters.principal import Principal
from domain.errors import Already, Invalid, NotFound
from tests.identity_reference import Joined, Named, Parted, Reference
from tests.integration.reading_house import OFFICE, House, event, story

ANN, BOB = "email:ann@example.com", "email:bob@example.com"


def names(id_: str, *refs: str, **more: Any) -> dict[str, Any]:
    """Give an event that names these."""
    return event(id_, type="web.signed_in", subject=refs[0], data={}, identifiers=",".join(refs[1:]), **more)


def changes(it: House) -> IdentityChanges:
    return IdentityChanges(it.core.pool, it.core.ingest, it.core.histories, it.core.subjects)


async def merged(it: House, a: str, b: str, **more: Any) -> Change:
    done = await changes(it).merge(a, b, OFFICE, reason="the same customer", **more)
    await it.projected()
    return done


async def undone(it: House, merge: str | None, **more: Any) -> Change:
    done = await changes(it).undo(str(merge), OFFICE, reason="two customers", **more)
    await it.projected()
    return done


async def refs_of(it: House, ref: str, **asked: Any) -> set[str]:
    person = await it.core.histories.identities.person(ref, **asked)
    return {f"{s['kind']}:{s['value']}" for s in person.subjects}


async def why(it: House, ref: str, **asked: Any) -> Any:
    return await Whys(it.core.pool, it.core.histories, it.core.subjects).why(ref, **asked)


# --- merge and split ----------------------------------------------------------------------------------------


@story
async def test_a_merge_joins_in_spite_of_the_guards_and_shows_first_what_it_joins(it: House) -> None:
    # given two persons with a user each
    await it.given(
        names("1", "user:1", ANN),
        names("2", "user:2", BOB),
        event("call", subject=BOB),
        event("yes", type="consent.given", subject=BOB, data={"purpose": "news", "contact": BOB}),
    )

    # when a merge is tried, then nothing changes, and both sides are told
    shown = await merged(it, ANN, "user:2", dry_run=True)
    assert (shown.status, shown.event_id, shown.undo) == ("dry_run", None, None)
    assert (shown.a.events, shown.a.consents, shown.b.events, shown.b.consents) == (1, 0, 3, 1)
    assert {s["value"] for s in shown.b.identifiers} == {"2", "bob@example.com"}
    assert any("2 values of user" in told for told in shown.told)
    assert await refs_of(it, ANN) == {"user:1", ANN}

    # and when it is done, then the two have one history, and the records of before are as they were
    before = await it.rows("SELECT position, body FROM touchpoint_log.events ORDER BY 1")
    done = await merged(it, ANN, "user:2")
    assert done.status == "recorded"
    assert await refs_of(it, BOB) == {"user:1", "user:2", ANN, BOB}
    assert set(await it.ids(ANN)) >= {"1", "2", "call"}
    after = await it.rows("SELECT position, body FROM touchpoint_log.events ORDER BY 1")
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1


@story
async def test_the_same_merge_sent_again_is_told_as_a_duplicate(it: House) -> None:
    await it.given(names("1", "user:1", ANN), names("2", "user:2", BOB))
    first = await merged(it, ANN, BOB)
    again = await merged(it, BOB, ANN)
    assert (again.status, again.event_id, again.position) == ("duplicate", first.event_id, first.position)
    with pytest.raises(Already):
        await merged(it, "user:1", "user:2")
    assert len(await it.rows("SELECT FROM touchpoint_log.events WHERE type = 'identity.merged'")) == 1


@story
async def test_a_split_undoes_a_merge_on_the_axis_of_knowledge(it: House) -> None:
    await it.given(names("1", "user:1", ANN), names("2", "user:2", BOB))
    start = (await it.core.histories.identities.person(ANN)).known_at
    done = await merged(it, ANN, BOB)
    undo = await undone(it, done.event_id)
    assert undo.position is not None
    assert {s["value"] for s in undo.a.identifiers} == {"1", "ann@example.com"}

    assert await refs_of(it, ANN) == {"user:1", ANN}
    assert await refs_of(it, ANN, known_at=done.position) == {"user:1", "user:2", ANN, BOB}
    assert await refs_of(it, ANN, known_at=start) == {"user:1", ANN}
    assert await refs_of(it, ANN, known_at=done.position, as_of=datetime(2026, 4, 1, tzinfo=UTC)) == {
        "user:1",
        ANN,
    }
    assert await refs_of(it, ANN, known_at=undo.position, as_of=datetime.now(UTC)) == {"user:1", ANN}
    with pytest.raises(Already):
        await undone(it, done.event_id)

    # and they may be merged once more
    again = await merged(it, ANN, BOB)
    assert again.status == "recorded"
    assert again.event_id != done.event_id
    assert len(await refs_of(it, BOB)) == 4


@story
async def test_split_after_merge_equals_never_merged_in_every_read_model(it: House) -> None:
    await it.given(
        names("1", "user:1", ANN, "anonymous:a"),
        names("2", "user:2", BOB),
        event("call", subject="crm:9"),
        event("mail", subject=BOB, type="email.opened", data={}),
    )

    async def without_records() -> dict[str, Any]:
        found = {}
        for table in await it.digests():
            columns = {
                c
                for (c,) in await it.rows(
                    "SELECT column_name FROM information_schema.columns WHERE table_schema = 'read' AND table_name = %s",
                    table,
                )
            }
            kept = "true"
            if "type" in columns:
                kept = "type NOT LIKE 'identity.%%'"
            elif "channel" in columns:
                kept = "channel <> 'identity'"
            elif table == "merges":
                kept = "known_to IS NULL"
            found[table] = await it.rows(f"SELECT t::text FROM read.{table} t WHERE {kept} ORDER BY 1")  # noqa: S608
        return found

    never = await without_records()
    for a, b in ((ANN, BOB), (ANN, "crm:9"), ("crm:9", BOB)):
        done = await merged(it, a, b)
        assert await without_records() != never
        await undone(it, done.event_id)
        assert await without_records() == never


@story
async def test_a_subject_that_was_split_off_stays_away_from_evidence_but_not_from_a_merge(it: House) -> None:
    # given one address that two in a household use
    await it.given(names("1", "crm:1", "email:home@example.com", "phone:+442079460123"))
    whole = await refs_of(it, "crm:1")

    # when the phone is taken out
    part = await changes(it).part("crm:1", "phone:+442079460123", OFFICE, reason="her sister's")
    await it.projected()
    assert part.status == "recorded"
    assert await refs_of(it, "crm:1") == whole - {"phone:+442079460123"}

    # then the same evidence again, or other, brings nothing together
    await it.given(
        names("2", "phone:+442079460123", "email:home@example.com"),
        names("3", "crm:1", "phone:+442079460123"),
    )
    assert await refs_of(it, "crm:1") == whole - {"phone:+442079460123"}
    assert await refs_of(it, "crm:1", known_at=1) == whole
    told = await why(it, "crm:1")
    assert {r["reason"] for r in told.refused} == {"split"}
    assert [s["event"]["reason"] for s in told.splits] == ["her sister's"]
    with pytest.raises(Already):
        await changes(it).part("crm:1", "phone:+442079460123", OFFICE, reason="again")

    # and a merge does
    await merged(it, "crm:1", "phone:+442079460123")
    assert await refs_of(it, "crm:1") == whole


@story
async def test_the_same_merge_after_a_split_of_the_subject_is_a_later_one_and_joins_again(it: House) -> None:
    # given a merge, and a subject that was taken out after it: the merge stands, and no longer joins
    await it.given(names("1", "user:1", ANN), event("call", subject=BOB))
    first = await merged(it, ANN, BOB)
    await changes(it).part(ANN, BOB, OFFICE, reason="his own")
    await it.projected()
    assert await refs_of(it, BOB) == {BOB}

    # when the same two are merged again
    tried = await merged(it, ANN, BOB, dry_run=True)
    again = await merged(it, ANN, BOB)

    # then that is recorded, and they are one person
    assert (tried.status, again.status) == ("dry_run", "recorded")
    assert again.event_id != first.event_id
    assert await refs_of(it, BOB) == {"user:1", ANN, BOB}


@story
async def test_who_was_named_and_whose_link_was_refused_is_known_at_the_position_that_was_told(
    it: House,
) -> None:
    # given a second customer number for one user: the link is refused, and no event is the number's own
    await it.given(names("1", "user:1", "crm:1"), names("2", "user:1", "crm:2", "order:7"))
    now = await it.core.histories.page("crm:2")

    # when it is asked again with what was resolved, then the answer is the same
    assert await it.core.histories.page("crm:2", known_at=now.head) == now
    assert await refs_of(it, "crm:2", known_at=now.head) == {"crm:2"}

    # and before it was named, nobody was known
    with pytest.raises(NotFound):
        await it.core.histories.page("crm:2", known_at=1)
    with pytest.raises(NotFound):
        await it.core.histories.identities.person("crm:2", known_at=1)


@story
async def test_what_cannot_be_done_is_refused_with_the_reason(it: House) -> None:
    await it.given(
        names("1", "user:1", ANN), names("2", "user:2", BOB), event("o", subject="order:77", data={})
    )
    done = await merged(it, ANN, BOB)
    change = changes(it)
    (call_id,) = (await it.rows("SELECT stream FROM touchpoint_log.keys WHERE position = 1"))[0]
    refused: list[tuple[Any, type[Exception], str]] = [
        (change.merge("email:nobody@example.com", ANN, OFFICE, reason="x"), NotFound, "Nobody was recorded"),
        (
            change.merge(ANN, "email:nobody@example.com", OFFICE, reason="x"),
            NotFound,
            "of the second: Nobody",
        ),
        (change.merge("ann", ANN, OFFICE, reason="x"), Invalid, "no REF"),
        (change.merge("order:77", ANN, OFFICE, reason="x"), NotFound, "never named together with a person"),
        (change.merge(ANN, BOB, OFFICE, reason=" "), Invalid, "Say why"),
        (change.undo("x", OFFICE, reason="x"), Invalid, "named by the id of its event"),
        (change.undo(str(call_id), OFFICE, reason="x"), Invalid, "is no merge but web.signed_in"),
        (change.undo("@99999", OFFICE, reason="x"), NotFound, "no event"),
        (change.undo("00000000-0000-4000-8000-000000000000", OFFICE, reason="x"), NotFound, "no event"),
        (change.part(ANN, ANN, OFFICE, reason="x"), Invalid, "cannot be split from itself"),
        (change.link(ANN, ANN, OFFICE, reason="x"), Invalid, "nothing to link"),
    ]
    for asked, kind, words in refused:
        with pytest.raises(kind) as told:
            await asked
        assert words in str(told.value)
    assert await refs_of(it, ANN) == {"user:1", "user:2", ANN, BOB}
    assert done.position is not None
    assert (await undone(it, f"@{done.position}")).status == "recorded"


@story
async def test_identity_events_are_taken_from_nobody_outside(it: House) -> None:
    """Not even from an admin: merge and split are commands."""
    for type_ in ("identity.merged", "identity.split", "identity.linked", "identity.link_refused"):
        forged = orjson.dumps(event("f", type=type_, data={}))
        for who in (OFFICE, Principal("tl_shop", "adapter", ("*",))):
            answer = await it.core.ingest.accept([forged], who, way_in="test")
            (result,) = answer.results
            assert result.status == "rejected"
            assert result.errors[0].pointer == "/type"


# --- why, and what was refused ------------------------------------------------------------------------------


@story
async def test_why_tells_every_link_with_its_evidence_and_who_stated_it(it: House) -> None:
    await it.given(
        names("1", "user:1", ANN),
        names("again", "user:1", ANN, time="2026-03-02T12:00:00Z"),
        names("2", "user:2", ANN),
    )
    await it.given(event("p", subject="phone:+442079460123"))
    await changes(it).link(ANN, "phone:+442079460123", OFFICE, reason="told on the phone")
    await it.projected()

    told = await why(it, ANN)
    by = {(link["a"]["ref"], link["b"]["ref"]): link for link in told.links}
    sourced, commanded = by["user:1", ANN], by[ANN, "phone:+442079460123"]
    assert (sourced["stated_by"], commanded["stated_by"]) == ("source", "command")
    assert sourced["evidence"][0]["source_id"] == "1"
    assert commanded["evidence"][0]["reason"] == "told on the phone"
    (refused,) = told.refused
    assert (refused["a"]["ref"], refused["kind"], refused["limit"], refused["would_be"]) == (
        "user:2",
        "user",
        1,
        2,
    )
    assert [one["what"] for one in told.history] == ["linked", "linked by a command"]

    page = await Whys(it.core.pool, it.core.histories, it.core.subjects).refused()
    assert (page.total, page.next) == (1, None)
    assert page.refused == told.refused
    # what was known before is told for ever
    assert await why(it, ANN, known_at=1) == await why(it, ANN, known_at=1)
    assert [link["b"]["ref"] for link in (await why(it, ANN, known_at=1)).links] == [ANN]


@story
async def test_why_tells_the_links_of_one_event_in_its_order_whatever_came_first(it: House) -> None:
    # given evidence of the second link of an event that arrives before the event itself
    await it.given(
        names("late", "crm:1", "phone:+442079460123", time="2026-02-01T10:00:00Z"),
        names("early", "crm:1", ANN, "phone:+442079460123", time="2026-01-01T10:00:00Z"),
    )
    assert [link["b"]["ref"] for link in (await why(it, "crm:1")).links] == [ANN, "phone:+442079460123"]


@story
async def test_refused_links_are_listed_page_by_page_each_once(it: House) -> None:
    await it.given(
        *(names(f"{n}-{m}", f"user:u{m}", f"email:{n}@example.com") for n in range(4) for m in range(4))
    )
    whys = Whys(it.core.pool, it.core.histories, it.core.subjects)
    whole = (await whys.refused(limit=1000)).refused
    found, cursor = [], None
    while True:
        page = await whys.refused(limit=5, cursor=cursor)
        found += page.refused
        cursor = page.next
        if cursor is None:
            break
    assert found == whole
    assert page.total == len(whole) == 12
    with pytest.raises(Invalid):
        await whys.refused(cursor="x")


@story
async def test_of_refused_links_those_come_once_whose_identifiers_nothing_changes_between_two_pages(
    it: House,
) -> None:
    # given refused links in six clusters, of which one page after the other is asked for
    await it.given(
        *(
            names(f"{n}-{m}", f"user:u{m}", f"email:{n}@example.com")
            for n in range(6)
            for m in range(n, n + 3)
        )
    )
    await it.given(
        *(names(f"{n}+{m}", f"user:{n}v{m}", f"email:v{n}@example.com") for n in range(6) for m in range(3))
    )
    whys = Whys(it.core.pool, it.core.histories, it.core.subjects)
    whole = (await whys.refused(limit=1000)).refused
    found: list[dict[str, Any]] = []
    cursor, heads = None, set()
    for number in range(100):
        page = await whys.refused(limit=2, cursor=cursor)
        found += page.refused
        heads.add(page.head)
        cursor = page.next
        if cursor is None:
            break
        # when between two pages some clusters are joined, and one hears of an earlier link
        early = f"2025-12-{1 + number:02}T00:00:00Z"
        await it.given(
            names(f"x{number}", f"email:{number % 2}@example.com", "email:v0@example.com", time=early)
        )
    # then all links of the others come once, and each page tells of which moment it is
    changed = {f"email:{n}@example.com" for n in range(6)} | {"email:v0@example.com"}
    others = [r for r in whole if r["b"]["ref"] not in changed]
    assert len(others) == 10
    assert [r for r in found if r["b"]["ref"] not in changed] == others
    assert len(heads) > 3


@story
async def test_a_bot_with_one_address_is_stopped_at_a_hundred_and_reported(it: House) -> None:
    bot = [names(f"b{n}", "email:bot@example.com", f"anonymous:v{n}") for n in range(1_500)]
    await it.given(names("u1", "user:1", "anonymous:v3"), names("u2", "user:2", "anonymous:v4"), *bot)
    assert sum(r.startswith("anonymous:") for r in await refs_of(it, "email:bot@example.com")) == 100
    users = [await refs_of(it, u) for u in ("user:1", "user:2")]
    assert not users[0] & users[1], "it joins no two persons that have a user"
    assert (await Whys(it.core.pool, it.core.histories, it.core.subjects).refused()).total >= 1_398


@story
async def test_many_refs_are_resolved_together(it: House) -> None:
    await it.given(names("1", "user:1", ANN, "order:7"), event("2", subject=BOB))
    asked = [
        ANN,
        "user:1",
        "order:7",
        BOB,
        "email:none@example.com",
        "email:none",
        "Email@x:"[:0] or "user:null",
    ]
    found, head = await it.core.histories.identities.persons_of(asked)
    ann, bob = await it.core.histories.identities.person(ANN), await it.core.histories.identities.person(BOB)
    assert [str(p) if (p := found[ref]) else None for ref in asked] == [ann.id] * 3 + [bob.id] + [None] * 3
    assert head == 2
    assert await it.core.histories.identities.persons_of([]) == ({}, 2)


# --- the check --------------------------------------------------------------------------------------------------


@story
async def test_the_check_finds_whatever_is_not_as_merges_and_splits_say(it: House) -> None:
    await it.given(
        names("1", "user:1", ANN),
        names("2", "user:2", BOB),
        names("3", "user:2", ANN),
        event("4", subject="crm:1"),
    )
    first = await merged(it, ANN, BOB)
    await undone(it, first.event_id)
    await merged(it, "crm:1", BOB)
    await changes(it).part("user:2", BOB, OFFICE, reason="not his")
    await it.projected()

    def looked() -> set[str]:
        """Let a fresh check look once; gives the tables of identities that differ."""
        check = Checker(
            it.core.database_url, period_s=86_400.0, stopping=threading.Event(), share=1e9, every_s=1e9
        )
        try:
            check.look()
        finally:
            check.close()
        with psycopg.connect(it.core.database_url, autocommit=True) as conn:
            return {
                table
                for (table,) in conn.execute(
                    "SELECT table_name FROM touchlog.differences WHERE name = 'identities'"
                )
            }

    assert await asyncio.to_thread(looked) == set()
    for planted in (
        "UPDATE read.identities SET person = subject WHERE person <> subject",
        "UPDATE read.merges SET known_to = NULL",
        "DELETE FROM read.merges",
        "UPDATE read.splits SET person_side = '{}'",
        "UPDATE read.clusters SET refused = 9",
    ):
        await it.built_anew()
        assert await asyncio.to_thread(looked) == set()
        with psycopg.connect(it.core.database_url, autocommit=True) as conn:
            conn.execute(planted)
        assert planted.split()[2 if planted.startswith("DELETE") else 1] in {
            f"read.{t}" for t in await asyncio.to_thread(looked)
        }


# --- any order, any moment --------------------------------------------------------------------------------------

REFS = [
    "user:1",
    "user:2",
    "user:3",
    "crm:1",
    "email:a@x.example",
    "email:b@x.example",
    "anonymous:a",
    "anonymous:b",
]


def everybody_at(
    url: str, moments: Moments, noted: dict[str, str], known_at: int, as_of: datetime | None
) -> set[frozenset[str]]:
    """Give the persons as analyses see them."""
    with connected(url) as conn:
        then = moments.at(conn, as_of, known_at)
    found: dict[str, set[str]] = {}
    for subject, ref in noted.items():
        found.setdefault(then.person(subject), set()).add(ref)
    return {frozenset(g) for g in found.values()}


@settings(max_examples=8)
@given(data=st.data())
def test_whatever_is_told_persons_are_those_of_the_reference(
    data: st.DataObject, new_database: Any, tmp_path_factory: Any
) -> None:
    days = st.integers(0, 9)
    acts = data.draw(
        st.lists(
            st.sampled_from(["name", "name", "name", "merge", "undo", "part", "link"]),
            min_size=2,
            max_size=12,
        )
    )

    @story
    async def whole(it: House) -> None:
        reference = Reference()
        noted: dict[str, str] = {}  # subject -> REF

        async def subject(ref: str) -> str:
            found = str(await it.core.histories.identities.subject_of(ref))
            noted[found] = ref
            return found

        await it.given(*(event(f"first {ref}", subject=ref) for ref in REFS))
        reference.kinds = {ref: ref.partition(":")[0] for ref in REFS}
        for ref in REFS:
            await subject(ref)
        position = len(REFS)
        # One keeper of moments, while the log grows; taken to earlier and later ones at the end.
        everybody = partial(everybody_at, it.core.database_url, Moments(), noted)
        for number, act in enumerate(acts):
            if act == "name":
                chosen = data.draw(st.lists(st.sampled_from(REFS), min_size=2, max_size=3, unique=True))
                chosen.sort(key=lambda r: ["user", "crm", "email", "anonymous"].index(r.partition(":")[0]))
                at = datetime(2026, 2, 1, tzinfo=UTC) + timedelta(days=data.draw(days))
                source = data.draw(st.sampled_from(["s/1", "s/2"]))
                told = names(str(number), *chosen, source=source, time=at.isoformat())
                await it.given(told, told, projected=False)  # and repeated
                position += 1
                reference.events.append(Named(position, chosen, at, source, str(number)))
                continue
            await it.projected()
            a = b = ""
            if act in ("merge", "link"):
                a, b = data.draw(st.lists(st.sampled_from(REFS), min_size=2, max_size=2, unique=True))
                try:
                    done = await getattr(changes(it), act)(a, b, OFFICE, reason="r")
                except Already:
                    continue
                if done.status == "duplicate":
                    continue
            elif act == "undo":
                open_ = [m for m in reference.merges if m.undone_at is None]
                if not open_:
                    continue
                one = data.draw(st.sampled_from(open_))
                done = await changes(it).undo(f"@{one.position}", OFFICE, reason="r")
                one.undone_at = done.position
            else:
                person = data.draw(st.sampled_from(sorted(reference.persons(), key=sorted)))
                if len(person) < 2:
                    continue
                a, b = data.draw(st.permutations(sorted(person)))[:2]
                done = await changes(it).part(a, b, OFFICE, reason="r")
                sides = [{noted[s["subject"]] for s in side.identifiers} for side in (done.a, done.b)]
                assert sides[0] | sides[1] == person
                reference.splits.append(Parted(int(done.position or 0), b, frozenset(sides[0])))
            position = int(done.position or 0)
            (row,) = await it.rows("SELECT body FROM touchpoint_log.events WHERE position = %s", position)
            body = orjson.loads(row[0])
            at = datetime.fromisoformat(body["occurred_at"])
            if act == "merge":
                reference.merges.append(Joined(position, a, b, at, body["source"], body["id"]))
            elif act == "link":
                reference.events.append(
                    Named(position, [noted[s[0]] for s in body["subjects"]], at, body["source"], body["id"])
                )
            await it.projected()
            if data.draw(st.booleans()):
                assert everybody(position, None) == reference.persons(position)
        await it.projected()
        asked: list[tuple[int | None, datetime | None]] = [(None, None)]
        asked += [
            (
                data.draw(st.integers(len(REFS), position)),
                data.draw(
                    st.none() | days.map(lambda d: datetime(2026, 2, 1, tzinfo=UTC) + timedelta(days=d))
                ),
            )
            for _ in range(3)
        ]
        for known_at, as_of in asked:
            found = {frozenset(await refs_of(it, ref, known_at=known_at, as_of=as_of)) for ref in REFS}
            assert found == reference.persons(known_at, as_of), (known_at, as_of)
            assert everybody(known_at or position, as_of) == found, (known_at, as_of)

    whole(tmp_path_factory.mktemp("d"), new_database())
