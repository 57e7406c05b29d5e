"""Histories: every channel of a person on one page, at any moment of both axes of time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from adapters.answers import history
from adapters.answers.history import Filters
from adapters.answers.moments import READ_MODELS, Moments
from adapters.intake.ingest import Answer
from adapters.postgres.schema import migrate
from adapters.principal import Principal
from bin.compose import Core, core, project_once
from bin.settings import Settings
from domain.errors import Behind, FutureTime, Invalid, NotFound

OFFICE = Principal("key:test", "admin")
ANN = "email:ann@example.com"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def event(id_: str, **more: Any) -> dict[str, Any]:
    """Give a call from ann at noon, with whatever else is asked for."""
    at = more.pop("at", NOON)
    return {
        "specversion": "1.0",
        "id": id_,
        "source": "test/calls",
        "type": "call.ended",
        "time": at.isoformat().replace("+00:00", "Z"),
        "subject": "email:ann@example.com",
        "data": {"duration_s": 60},
    } | more


class House:
    """A log with its read models, for one test."""

    def __init__(self, parts: Core) -> None:
        self.core = parts

    async def given(self, *events: dict[str, Any], projected: bool = True) -> Answer:
        """Record events, and let the projector see them."""
        answer = await self.core.ingest.accept([orjson.dumps(e) for e in events], OFFICE, way_in="test")
        assert answer.rejected == 0, answer.results
        if projected:
            await asyncio.to_thread(project_once, self.core.database_url)
        return answer

    async def ids(self, ref: str = "email:ann@example.com", **asked: Any) -> list[str]:
        """Give the source ids of the entries of a history, as shown."""
        page = await self.core.histories.page(ref, **asked)
        return [entry["provenance"]["source_id"] for entry in page.entries]


@asynccontextmanager
async def house(tmp_path: Path, url: str) -> AsyncIterator[House]:
    """Put the parts together on a database."""
    async with core(Settings.load({}, data=tmp_path), url) as parts:
        yield House(parts)


def story(test: Callable[[House], Coroutine[Any, Any, None]]) -> Callable[[Path, str], None]:
    """Run an asynchronous test on a house of its own."""

    def run(tmp_path: Path, database_url: str) -> None:
        async def whole() -> None:
            async with house(tmp_path, database_url) as it:
                await test(it)

        asyncio.run(whole())

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


@story
async def test_a_history_shows_the_newest_first_whatever_came_in_first(it: House) -> None:
    """Order is by when it happened."""
    await it.given(
        event("b", at=NOON),
        event("c", at=NOON + timedelta(hours=1)),
        event("a", at=NOON - timedelta(hours=1)),
    )

    assert await it.ids() == ["c", "b", "a"]


@story
async def test_ties_are_broken_by_source_and_id_never_by_arrival(it: House) -> None:
    """The same answer, whoever was first."""
    await it.given(event("2"), event("1"), event("1", source="a/other"))

    assert await it.ids() == ["2", "1", "1"]
    page = await it.core.histories.page("email:ann@example.com")
    assert [e["provenance"]["source"] for e in page.entries] == ["test/calls", "test/calls", "a/other"]


@story
async def test_a_person_is_all_its_linked_subjects(it: House) -> None:
    """One feed over all channels."""
    await it.given(
        event("call"),
        event("visit", type="web.page_viewed", subject="anonymous:x-1", data={"path": "/"}),
        event(
            "login",
            type="web.signed_in",
            subject="user:u-1",
            identifiers="anonymous:x-1,email:ann@example.com",
            data={},
        ),
        event("other", subject="email:bob@example.com"),
    )

    assert sorted(await it.ids("user:u-1")) == ["call", "login", "visit"]
    assert await it.ids("anonymous:x-1") == await it.ids("user:u-1") == await it.ids("email:Ann@Example.com ")
    assert await it.ids("email:bob@example.com") == ["other"]


@story
async def test_an_order_belongs_to_the_person_of_the_earliest_event_that_names_both(it: House) -> None:
    """References attach, and never join."""
    await it.given(
        event("placed", type="order.placed", identifiers="order:9", data={}),
        event("shipped", type="order.shipped", subject="order:9", data={}, at=NOON + timedelta(days=1)),
        event(
            "later",
            type="order.paid",
            subject="email:bob@example.com",
            identifiers="order:9",
            data={},
            at=NOON + timedelta(days=2),
        ),
    )

    assert await it.ids() == ["shipped", "placed"]
    assert await it.ids("email:bob@example.com") == ["later"]
    assert await it.ids("order:9") == ["shipped", "placed"]


@story
async def test_an_order_belongs_to_whom_it_belonged_at_the_moment_that_is_asked_for(it: House) -> None:
    """The earliest event that had happened and was known by then, both inclusive; a tie is broken by source and id."""
    bob, later = "email:bob@example.com", NOON + timedelta(days=2)
    first = (
        await it.given(
            event("shipped", type="order.shipped", subject="order:9", data={}),
            event("placed", type="order.placed", identifiers="order:9", data={}),
            event("paid", type="order.paid", subject=bob, identifiers="order:9", data={}, at=later),
            event("tie", identifiers="order:10"),
            event("tie", source="test/a", subject=bob, identifiers="order:10"),
            event("sent", type="order.shipped", subject="order:10", data={}),
        )
    ).head

    async def told(**moment: Any) -> list[list[str]]:
        return [sorted(await it.ids(ref, **moment)) for ref in (ANN, bob, "order:9", "order:10")]

    async def is_of(ref: str, **moment: Any) -> bool:
        person = it.core.histories.identities.person
        return (await person("order:9", **moment)).id == (await person(ref, **moment)).id

    anns, bobs = ["placed", "shipped", "tie"], ["sent", "tie"]
    assert await told() == [anns, ["paid", *bobs], anns, ["paid", *bobs]]
    assert await told(known_at=first) == await told(as_of=later) == await told()
    assert await told(as_of=NOON) == [anns, bobs, anns, bobs]

    # a correction gives what placed it to somebody else, and the order goes along
    of = {"source": "test/calls", "id": "placed"}
    moved = {"of": of, "patch": {"subject": bob}}
    second = (await it.given(event("c", type="correction.recorded", subject=None, data=moved))).head

    everything = ["paid", "placed", "sent", "shipped", "tie"]
    assert await told() == [["tie"], everything, everything, everything]
    assert await told(known_at=second) == await told(as_of=later) == await told()
    assert await told(known_at=first) == [anns, ["paid", *bobs], anns, ["paid", *bobs]]
    assert await told(known_at=first, as_of=NOON) == [anns, bobs, anns, bobs]
    assert [await is_of(ANN), await is_of(bob)] == [False, True]
    assert [await is_of(ANN, known_at=first), await is_of(bob, known_at=second)] == [True, True]


@story
async def test_an_event_of_several_references_belongs_to_the_owner_of_the_first_alone(it: House) -> None:
    """It is sealed under the key of its first reference, which is destroyed with the person it belongs to."""
    bob = "email:bob@example.com"
    await it.given(
        event("placed", type="order.placed", identifiers="order:9", data={}),
        event("opened", type="case.opened", subject=bob, identifiers="case:7", data={}),
        event("both", subject="order:9", identifiers="case:7", at=NOON + timedelta(days=1)),
        event("later", subject="order:10", identifiers="case:7", at=NOON + timedelta(days=2)),
    )

    assert await it.ids() == ["both", "placed"]
    assert await it.ids(bob) == ["opened"]
    assert await it.ids("order:10") == ["later"]


@story
async def test_as_of_cuts_events_and_the_links_that_make_the_person(it: House) -> None:
    """What had not happened yet links nobody."""
    await it.given(
        event("visit", type="web.page_viewed", subject="anonymous:x-1", data={"path": "/"}, at=NOON),
        event("call", at=NOON + timedelta(hours=1)),
        event(
            "login", type="web.signed_in", identifiers="anonymous:x-1", data={}, at=NOON + timedelta(days=1)
        ),
    )

    assert sorted(await it.ids()) == ["call", "login", "visit"]
    assert await it.ids(as_of=NOON + timedelta(hours=2)) == ["call"]
    assert await it.ids("anonymous:x-1", as_of=NOON + timedelta(hours=2)) == ["visit"]
    assert await it.ids(as_of=NOON + timedelta(hours=1)) == ["call"], "as_of is inclusive"
    assert await it.ids(as_of=NOON) == []


@story
async def test_who_was_first_seen_later_is_unknown_at_an_earlier_head_for_ever(it: House) -> None:
    head = (await it.given(event("1"))).head
    bea = "email:bea@example.com"
    with pytest.raises(NotFound) as before:
        await it.ids(bea, known_at=head)

    await it.given(event("2", subject=bea))

    with pytest.raises(NotFound) as after:
        await it.ids(bea, known_at=head)
    assert str(after.value) == str(before.value)
    with pytest.raises(NotFound):
        await it.core.histories.identities.person(bea, known_at=head)
    assert await it.ids(bea, known_at=head + 1) == ["2"]
    assert await it.ids(bea, known_at=head + 1, only=Filters(channel="web")) == []


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
@pytest.mark.parametrize("ahead", [False, True], ids=["corrected afterwards", "corrected ahead"])
def test_whom_an_event_named_is_known_though_a_correction_gave_it_to_another_in_either_order(
    tmp_path: Path, database_url: str, ahead: bool, together: bool
) -> None:
    """The same events, the same answer: an empty history, of all whom it named."""

    @story
    async def told(it: House) -> None:
        bea = "email:bea@example.com"
        named = ("email:ann@example.com", "phone:+442071838750", "order:9")
        call = event("2", identifiers="phone:+442071838750,order:9")
        moved = event(
            "c",
            type="correction.recorded",
            subject=None,
            data={"of": {"source": "test/calls", "id": "2"}, "patch": {"subject": bea}},
        )
        first = (await it.given(event("0", subject=bea))).head
        told = (moved, call) if ahead else (call, moved)
        for some in (told,) if together else ((one,) for one in told):
            await it.given(*some)

        head = first + 2
        for ref in named[:2]:
            for moment in ({}, {"known_at": head}, {"as_of": NOON + timedelta(days=9)}):
                assert await it.ids(ref, **moment) == []
                assert (await it.core.histories.identities.person(ref, **moment)).subjects[0]["kind"] in ref
            with pytest.raises(NotFound, match=f"at position {first}"):
                await it.ids(ref, known_at=first)
        assert await it.ids(bea) == await it.ids("order:9") == ["2", "0"]
        assert None not in (await it.core.histories.identities.persons_of(named))[0].values()

    told(tmp_path, database_url)


def test_whom_events_named_that_were_corrected_ahead_before_that_was_kept_is_found_when_it_is_migrated(
    tmp_path: Path, database_url: str
) -> None:
    """The rows are those that the projector writes."""
    kept = "SELECT subject, position FROM touchlog.named_ahead ORDER BY subject, position"

    @story
    async def told(it: House) -> None:
        patch = {"subject": "email:bea@example.com"}
        moved = {"of": {"source": "test/calls", "id": "2"}, "patch": patch}
        await it.given(event("c", type="correction.recorded", subject=None, data=moved))
        await it.given(event("2", identifiers="order:9"), event("3"))
        assert await it.ids() == ["3"]

    told(tmp_path, database_url)
    with psycopg.connect(database_url, autocommit=True) as owner:
        found = owner.execute(kept).fetchall()
        assert {position for _, position in found} == {2}, (
            "only what came behind its correction is looked into"
        )
        owner.execute("DROP TABLE touchlog.named_ahead")
        owner.execute("ALTER TABLE touchlog.amendments ADD COLUMN ahead boolean NOT NULL DEFAULT true")
        owner.execute("DELETE FROM touchlog.migrations WHERE name LIKE '%0116%'")

        migrate(database_url)

        assert owner.execute(kept).fetchall() == found


@story
async def test_a_text_is_found_with_the_quotes_backslashes_and_lines_that_stand_in_it(it: House) -> None:
    """As somebody reads it, not as JSON spells it."""
    note = 'Said "Grüß dich",\nthen C:\\Temp'
    await it.given(event("1", data={"duration_s": 1, "outcome": note}), event("2", data={"outcome": "then"}))

    for q in ('"grüß DICH"', 'said "', ",\nthen", "c:\\temp", "Grüß"):
        assert await it.ids(only=Filters(q=q)) == ["1"], q
    assert await it.ids(only=Filters(q="then")) == ["2", "1"]
    assert await it.ids(only=Filters(q='"then"')) == [], "no quotes stand around it"


@story
async def test_who_is_only_mentioned_is_nobody_now_as_with_the_known_at_of_now(it: House) -> None:
    """By the correction of an event that has not come, or as a contact point."""
    bea, tel = "email:bea@example.com", "phone:+442071838750"
    of = {"source": "test/calls", "id": "2"}
    correction = {"of": of, "patch": {"subject": bea}}
    refusal = {"contact": tel, "purpose": "*", "channel": "*"}
    head = (
        await it.given(
            event("1"),
            event("c", type="correction.recorded", subject=None, data=correction),
            event("r", type="consent.refused", data=refusal),
        )
    ).head

    for ref in (bea, tel):
        for moment in ({}, {"known_at": head}, {"as_of": NOON}, {"as_of": NOON, "known_at": head}):
            for asked in (it.core.histories.page, it.core.histories.identities.person):
                with pytest.raises(NotFound, match=f"at position {head}"):
                    await asked(ref, **moment)
    assert (await it.core.histories.identities.persons_of([bea, tel]))[0] == {bea: None, tel: None}

    await it.given(event("2"))
    assert await it.ids(bea) == ["2"]
    assert (await it.core.histories.identities.persons_of([bea]))[0][bea] is not None


@story
async def test_a_contact_point_of_an_event_that_was_corrected_ahead_is_nobody(it: House) -> None:
    """The event names its subjects alone, whatever else stands in it."""
    bea = "email:bea@example.com"
    of = {"source": "test/calls", "id": "2"}
    ahead = event("c", type="correction.recorded", subject=None, data={"of": of, "patch": {"channel": "fax"}})
    mail = event("2", type="email.sent", data={"contact": bea})
    head = (await it.given(ahead, mail)).head

    for asked in (it.core.histories.page, it.core.histories.identities.person):
        with pytest.raises(NotFound, match=f"at position {head}"):
            await asked(bea)
    assert (await it.core.histories.identities.persons_of([bea]))[0] == {bea: None}
    assert await it.ids() == ["2"]


@story
async def test_an_order_is_known_from_the_recording_of_the_event_that_named_it_on_and_of_any_time(
    it: House,
) -> None:
    """As whom the event names: before it happened the history is empty, before it was recorded nobody is known."""
    first = (await it.given(event("0"))).head
    await it.given(event("1", identifiers="order:9"))

    for ref in (ANN, "order:9"):
        assert await it.ids(ref, as_of=NOON - timedelta(days=1)) == []
    with pytest.raises(NotFound, match=f"at position {first}"):
        await it.ids("order:9", known_at=first)


@contextmanager
def patient() -> Iterator[None]:
    """Wait for read models as long as a slow machine makes them."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(Moments.wait_until.__kwdefaults__ or {}, "at_most_s", 60)
        yield


@story
async def test_who_was_just_recorded_is_waited_for(it: House) -> None:
    """A history that is empty because its read models are behind would be no answer of any moment."""
    await it.given(event("1"))
    bea = "email:bea@example.com"
    await it.given(event("2", subject=bea), projected=False)

    with patient():
        history = asyncio.create_task(it.ids(bea))
        person = asyncio.create_task(it.core.histories.identities.person(bea))
        await asyncio.to_thread(project_once, it.core.database_url)

        assert await history == ["2"]
        assert (await person).known_at == 2


@story
async def test_while_one_read_model_is_ahead_of_the_other_the_answer_is_of_what_both_have_seen(
    it: House,
) -> None:
    """So that it can be asked again: entries and person are of the one position that is told."""
    first = (await it.given(event("1"))).head
    last = (await it.given(event("2", identifiers="user:u-1"))).head
    seen = "UPDATE touchlog.projections SET position = %s WHERE name = %s AND state = 'live'"

    async def told() -> tuple[Any, ...]:
        page, person = await it.core.histories.page(ANN), await it.core.histories.identities.person(ANN)
        ids = [entry["provenance"]["source_id"] for entry in page.entries]
        return ids, page.known_at, len(person.subjects), person.known_at

    with psycopg.connect(it.core.database_url, autocommit=True) as owner:
        for behind in READ_MODELS:
            owner.execute(seen, (first, behind))
            assert await told() == (["1"], first, 1, first)
            owner.execute(seen, (last, behind))
            assert await told() == (["2", "1"], last, 2, last)


@story
async def test_known_at_answers_as_then_although_more_is_known_now(it: House) -> None:
    """A late event and a late link change nothing of what was known."""
    first = await it.given(
        event("call"), event("visit", type="web.page_viewed", subject="anonymous:x-1", data={"path": "/"})
    )
    before = await it.core.histories.page("email:ann@example.com", known_at=first.head)
    then = datetime.now(UTC)
    now_closed = await it.core.histories.page("email:ann@example.com", known_at=then)
    await it.given(
        event("late", at=NOON - timedelta(days=9)),
        event("login", type="web.signed_in", identifiers="anonymous:x-1", data={}),
    )

    assert sorted(await it.ids()) == ["call", "late", "login", "visit"]
    assert await it.core.histories.page("email:ann@example.com", known_at=first.head) == before
    assert await it.core.histories.page("email:ann@example.com", known_at=then) == now_closed
    assert [e["provenance"]["source_id"] for e in before.entries] == ["call"]
    with pytest.raises(FutureTime):
        await it.ids(known_at=datetime.now(UTC) + timedelta(minutes=5))
    with pytest.raises(Invalid, match="not in the log"):
        await it.ids(known_at=10_000)


@story
async def test_pages_do_not_shift_while_events_arrive(it: House) -> None:
    """A cursor carries its moment."""
    await it.given(*(event(f"{n:02}", at=NOON + timedelta(minutes=n)) for n in range(25)))
    page = await it.core.histories.page("email:ann@example.com", limit=10)
    await it.given(event("new", at=NOON + timedelta(days=1)), event("old", at=NOON - timedelta(days=1)))

    seen = [e["provenance"]["source_id"] for e in page.entries]
    while page.next:
        page = await it.core.histories.page("email:ann@example.com", limit=10, cursor=page.next)
        seen += [e["provenance"]["source_id"] for e in page.entries]

    assert seen == [f"{n:02}" for n in reversed(range(25))]
    with pytest.raises(Invalid, match="cursor"):
        await it.ids(cursor="nonsense")


@story
async def test_pages_of_any_length_put_together_are_the_whole_with_a_text_looked_for_or_not(
    it: House,
) -> None:
    """At every moment, of events most of which happened at one instant, while others arrive."""
    of = [
        (n, f"test/{n % 3}", NOON + timedelta(minutes=n // 6), "tea" if n % 2 else "milk") for n in range(8)
    ]
    given = [
        event(f"{n}", source=source, at=at, data={"duration_s": n, "summary": what})
        for n, source, at, what in of
    ]
    head = (await it.given(*given)).head
    newest = [n for n, *_ in sorted(of, key=lambda one: (one[2], one[1], str(one[0])), reverse=True)]
    cut = NOON + timedelta(seconds=1)

    async def put_together(limit: int, **asked: Any) -> list[int]:
        found, cursor = [], None
        while True:
            page = await it.core.histories.page(ANN, limit=limit, cursor=cursor, **asked)
            assert len(page.entries) == max(1, limit) or page.next is None
            assert page.entries, "no page is promised that has nothing"
            found += [int(e["provenance"]["source_id"]) for e in page.entries]
            told.add((page.as_of, page.known_at, page.head))
            if (cursor := page.next) is None:
                return found
            asked = {"only": asked["only"]}
            more = event(f"9{len(found)}{limit}", data={"duration_s": 1, "summary": "tea"})
            await it.given(more, projected=limit == 3)

    asked_for: tuple[tuple[int, int, str | None, dict[str, Any]], ...] = (
        *((limit, 2, q, {"known_at": head}) for limit in (0, 3, 4, 8) for q in (None, "TEA")),
        *((limit, 1, "tea", {"known_at": head, "as_of": cut}) for limit in (1, 2, 3)),
        (2, 3, None, {"known_at": head, "as_of": cut}),
    )
    for limit, batch, q, moment in asked_for:
        told: set[tuple[Any, ...]] = set()
        expected = [n for n in newest if ("as_of" not in moment or n < 6) and (q is None or n % 2)]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(history, "_SEARCHED", batch)
            assert await put_together(limit, only=Filters(q=q), **moment) == expected, (
                limit,
                batch,
                q,
                moment,
            )
        assert told == {("2026-03-01T12:00:01.000000Z" if "as_of" in moment else None, head, head)}

    # and whoever asks for more than a page may hold is given that, and the way on
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(history, "LARGEST_PAGE", 5)
        page = await it.core.histories.page(ANN, limit=99, known_at=head)
    assert [int(e["provenance"]["source_id"]) for e in page.entries] == newest[:5]
    assert page.next is not None


@story
async def test_a_cursor_is_not_mixed_with_another_moment(it: House) -> None:
    """A cut that contradicts the cursor's is refused by name; the very moment of the page may stand beside it."""
    # given a page of two, as known at 3
    await it.given(*(event(str(n), at=NOON + timedelta(minutes=n)) for n in range(4)))
    cut = NOON + timedelta(minutes=3)

    async def page(**asked: Any) -> list[str]:
        found = await it.core.histories.page("email:ann@example.com", limit=2, **asked)
        return [e["provenance"]["source_id"] for e in found.entries]

    now = (await it.core.histories.page("email:ann@example.com", limit=2, known_at=3)).next
    then = (await it.core.histories.page("email:ann@example.com", limit=2, as_of=cut, known_at=3)).next

    # when / then
    assert await page(cursor=now) == await page(cursor=now, known_at=3) == ["0"]
    assert await page(cursor=then) == await page(cursor=then, as_of=cut, known_at=3) == ["0"]
    for cursor, asked, where in (
        (now, {"known_at": 2}, "/known_at"),
        (now, {"known_at": datetime.now(UTC)}, "/known_at"),
        (now, {"as_of": cut}, "/as_of"),
        (then, {"as_of": cut - timedelta(seconds=1)}, "/as_of"),
    ):
        with pytest.raises(Invalid, match="cursor goes on with") as refused:
            await page(cursor=cursor, **asked)
        assert [p.pointer for p in refused.value.problems] == [where]


@story
async def test_a_history_is_filtered_by_channel_type_direction_and_text(it: House) -> None:
    """Sealed words are found too, with no index of them at rest."""
    await it.given(
        event("call", data={"duration_s": 5, "summary": "asked about the blue kettle"}),
        event("mail", type="email.received", data={"subject": "Kettle broken"}),
        event("sale", type="order.placed", data={}),
    )

    async def ids(**only: Any) -> list[str]:
        return await it.ids(only=Filters(**only))

    assert await ids(channel="phone") == ["call"]
    assert await ids(type_="order.placed") == ["sale"]
    assert await ids(direction="inbound", channel="email") == ["mail"]
    assert await ids(q="KETTLE") == ["mail", "call"]
    assert await ids(q="teapot") == []


@story
async def test_a_history_is_filtered_by_a_span_of_time_as_corrected(it: House) -> None:
    """From its first instant on and before its last, on every page, also where a text is looked for."""
    hours = [NOON + timedelta(hours=n) for n in range(4)]
    await it.given(
        *(event(f"call{n}", at=at, data={"duration_s": 5, "summary": "tea"}) for n, at in enumerate(hours))
    )

    async def ids(since: int | None = None, until: int | None = None, **asked: Any) -> list[str]:
        span: dict[str, Any] = {
            k: None if n is None else hours[n] for k, n in (("since", since), ("until", until))
        }
        return await it.ids(only=Filters(**span, q=asked.pop("q", None)), **asked)

    assert await ids() == ["call3", "call2", "call1", "call0"]
    assert await ids(since=1) == ["call3", "call2", "call1"]
    assert await ids(until=2) == ["call1", "call0"]
    assert await ids(since=1, until=3) == await ids(since=1, until=3, q="TEA") == ["call2", "call1"]
    assert await ids(since=1, until=3, as_of=hours[1]) == await ids(since=1, until=3, known_at=2) == ["call1"]
    first = await it.core.histories.page("email:ann@example.com", only=Filters(since=hours[1]), limit=2)
    assert first.next is not None
    assert await ids(since=1, limit=2, cursor=first.next) == ["call1"]

    moved = {"of": {"source": "test/calls", "id": "call1"}, "patch": {"time": hours[3].isoformat()}}
    await it.given(event("later", type="correction.recorded", at=hours[0], subject=None, data=moved))
    assert await ids(since=1, until=3) == ["call2"]
    assert await ids(since=1, until=3, known_at=4) == ["call2", "call1"]


@pytest.mark.parametrize(
    ("only", "where"),
    [
        (Filters(direction="inwards"), "/direction"),
        (Filters(since=NOON, until=NOON), "/until"),
        (Filters(since=NOON, until=NOON - timedelta(hours=1)), "/until"),
    ],
)
def test_what_no_entry_can_match_is_told(only: Filters, where: str) -> None:
    with pytest.raises(Invalid) as refused:
        only.check()
    assert [p.pointer for p in refused.value.problems] == [where]


@story
async def test_a_history_waits_for_its_read_model_and_says_so_when_it_stays_behind(it: House) -> None:
    """It never answers short."""
    answer = await it.given(event("call"), projected=False)

    with pytest.raises(Behind) as told:
        await it.core.histories.moments.wait_until(answer.head, at_most_s=0.05)

    assert told.value.lag_positions == 1
    with patient():
        asked = asyncio.create_task(it.ids(after=answer.head))
        await asyncio.to_thread(project_once, it.core.database_url)
        assert await asked == ["call"]
    with pytest.raises(Behind, match="seen position 1, asked was 4;") as told:
        await it.core.histories.moments.wait_until(4, at_most_s=0)
    assert told.value.lag_positions == 3


@pytest.mark.parametrize("missing", READ_MODELS)
def test_while_one_read_model_is_not_live_nothing_is_told_by_the_other_alone(
    tmp_path: Path, database_url: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is half of a person would be no answer of any moment: it is waited for, and then told to be behind."""
    monkeypatch.setitem(Moments.wait_until.__kwdefaults__ or {}, "at_most_s", 0)

    @story
    async def told(it: House) -> None:
        await it.given(event("1", identifiers="user:u-1"))
        with psycopg.connect(database_url, autocommit=True) as owner:
            owner.execute("UPDATE touchlog.projections SET state = 'building' WHERE name = %s", (missing,))
        for asked in (it.core.histories.page, it.core.histories.identities.person):
            with pytest.raises(Behind):
                await asked(ANN)

    told(tmp_path, database_url)


@story
async def test_the_positions_of_a_log_are_from_0_on_which_knows_nothing_to_its_head(it: House) -> None:
    moments = it.core.histories.moments
    head = (await it.given(event("1"), event("2"))).head

    assert [await moments.resolve_known_at(at) for at in (None, 0, head)] == [None, 0, head]
    for beyond in (-1, head + 1):
        with pytest.raises(Invalid, match=f"Position {beyond} is not in the log; its newest is {head}"):
            await moments.resolve_known_at(beyond)


@story
async def test_who_is_asked_for_and_unknown_is_told_apart_from_what_is_no_ref(it: House) -> None:
    """Nobody, or nonsense."""
    with pytest.raises(NotFound, match="Nobody was recorded"):
        await it.ids("email:nobody@example.com")
    with pytest.raises(Invalid, match="REF"):
        await it.ids("ann")


@story
async def test_an_entry_tells_its_provenance_and_gives_back_what_was_sent(it: House) -> None:
    """Sealing changes nothing for those who may read."""
    data = {
        "duration_s": 61,
        "summary": "called back",
        "custom": {"email": "x@y.example", "n": [1, "z@y.example", 2]},
    }
    await it.given(event("call", data=data, purpose="support", traceparent="00-1-2-01", unknownext="kept"))

    (entry,) = (await it.core.histories.page("email:ann@example.com")).entries

    assert entry["data"] == data
    assert entry["headline"].startswith("Call of 1 min")
    assert entry["provenance"]["position"] == entry["position"] == 1
    assert entry["provenance"]["principal"] == "key:test"
    assert entry["provenance"]["extensions"] == {
        "purpose": "support",
        "traceparent": "00-1-2-01",
        "unknownext": "kept",
    }


@story
async def test_an_entry_says_what_it_belongs_to_and_that_it_lay_in_the_future_and_else_does_not(
    it: House,
) -> None:
    """A number is an id as well as a text; a list is none."""
    belongs = {"case_id": "c-1", "campaign_id": 7, "visit_id": ["x"]}
    await it.given(
        event("now", type="kiosk.used", data=belongs), event("then", at=datetime.now(UTC) + timedelta(days=1))
    )

    then, now = (await it.core.histories.page(ANN)).entries

    assert (then["future"], "future" in now) == (True, False)
    assert (now["belongs_to"], then["belongs_to"]) == ({"case_id": "c-1", "campaign_id": 7}, {})
