"""Corrections: an event answers as corrected from the correction's recording on, and as before until then."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.answers.history import Filters
from adapters.intake.correcting import Corrections
from adapters.intake.ingest import Result
from adapters.principal import Principal
from bin.compose import core
from bin.settings import Settings
from domain.entry import decode_body, moment
from tests.integration.reading_house import OFFICE, House, correction, event, story

_numbers = itertools.count()
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "channel": st.sampled_from(["phone", "fax", "store"]),
    "direction": st.sampled_from(["inbound", "outbound"]),
    "time": st.sampled_from(["2026-02-01T10:00:00.000000Z", "2026-02-02T10:00:00.000000Z"]),
    "data": st.dictionaries(
        st.sampled_from(["duration_s", "summary", "conversation_id"]),
        st.sampled_from(["a", "b", "c"]),
        min_size=1,
    ).map(lambda d: {k: len(v) * 7 if k == "duration_s" else v for k, v in d.items()}),
}
_PATCHES = st.dictionaries(st.sampled_from(sorted(_FIELDS)), st.none(), min_size=1).flatmap(
    lambda chosen: st.fixed_dictionaries({name: _FIELDS[name] for name in chosen})
)


@settings(max_examples=8)
@given(data=st.data())
def _any_arrival(it: House, runner: asyncio.Runner, data: st.DataObject) -> None:
    number = next(_numbers)
    who, of = f"email:p{number}@example.com", f"call-{number}"
    patches = data.draw(st.lists(_PATCHES, min_size=1, max_size=4))
    corrections = [
        correction(
            f"{number}-{i}",
            of,
            patch,
            time=data.draw(st.sampled_from(["2026-03-02T09:00:00Z", "2026-03-03T09:00:00Z"])),
            source=data.draw(st.sampled_from(["test/office", "test/agents"])),
        )
        for i, patch in enumerate(patches)
    ]
    call = event(
        of, subject=who, direction="inbound", data={"duration_s": 60, "summary": "s", "conversation_id": of}
    )
    arriving = data.draw(st.permutations([call, *corrections]))
    batches = data.draw(st.lists(st.booleans(), min_size=len(arriving), max_size=len(arriving)))

    for one, ends in zip(arriving, batches, strict=True):
        runner.run(it.given(one, projected=ends))
    runner.run(it.projected())

    expected: dict[str, Any] = {
        "channel": "phone",
        "direction": "inbound",
        "time": "2026-03-01T12:00:00.000000Z",
    }
    told = dict(call["data"])
    for one in sorted(corrections, key=lambda c: (c["time"], c["source"], c["id"])):
        patch = one["data"]["patch"]
        expected |= {k: v for k, v in patch.items() if k != "data"}
        told |= patch.get("data", {})
    (entry,) = runner.run(it.entries(who))
    assert (entry["channel"], entry["direction"], entry["occurred_at"], entry["data"]) == (
        expected["channel"],
        expected["direction"],
        expected["time"],
        told,
    )
    assert len(entry["corrections"]) == len(corrections)


def test_of_several_corrections_the_greatest_wins_field_by_field_in_any_order_of_arrival(
    tmp_path: Path, database_url: str
) -> None:
    """A correction before its event, several at once, or each by itself."""
    with asyncio.Runner() as runner:
        context = core(Settings.load({}, data=tmp_path), database_url)
        it = House(runner.run(context.__aenter__()))
        try:
            _any_arrival(it, runner)
            live = runner.run(it.digests())
            assert runner.run(it.built_anew(batch=7)) == live
            assert runner.run(it.built_anew(batch=1)) == live
        finally:
            runner.run(context.__aexit__(None, None, None))


@story
async def test_before_its_recording_the_old_value_answers(it: House) -> None:
    """On the axis of knowledge."""
    first = await it.given(event("call", direction="inbound"))
    await it.given(
        correction(
            "c", "call", {"channel": "store", "time": "2026-02-01T08:00:00+05:30", "data": {"duration_s": 90}}
        )
    )

    (old,) = await it.entries(known_at=first.head)
    (now,) = await it.entries()

    assert (old["channel"], old["data"]["duration_s"], old["occurred_at"]) == (
        "phone",
        60,
        "2026-03-01T12:00:00.000000Z",
    )
    assert "corrections" not in old
    assert (now["channel"], now["data"]["duration_s"], now["occurred_at"]) == (
        "store",
        90,
        "2026-02-01T02:30:00.000000Z",
    )
    assert await it.ids(as_of=_at("2026-02-15T00:00:00+00:00")) == ["call"]
    assert await it.rows("SELECT hour::text, channel FROM read.daily_volumes WHERE type = 'call.ended'") == [
        ("2026-02-01 02:00:00+00", "store")
    ], "hours are full hours of UTC, whatever zone the correction wrote"


@story
async def test_a_history_tells_who_corrected_what_and_when(it: House) -> None:
    """A marker for each correction."""
    await it.given(event("call"))
    await it.given(correction("c", "call", {"channel": "store", "data": {"summary": "about tea"}}))

    ((marker,),) = [e["corrections"] for e in await it.entries()]

    assert marker["fields"] == ["channel", "data.summary"]
    assert (marker["principal"], marker["at"]) == ("key:test", "2026-03-02T09:00:00.000000Z")


@story
async def test_sealed_fields_can_be_corrected_and_read_back(it: House) -> None:
    """And stand nowhere in plain."""
    await it.given(event("call", data={"summary": "about the red kettle", "duration_s": 1}))
    await it.given(
        correction("c", "call", {"data": {"summary": "about the blue kettle", "agent": "bob@example.com"}})
    )

    (entry,) = await it.entries()

    assert entry["data"] == {"summary": "about the blue kettle", "duration_s": 1, "agent": "bob@example.com"}
    assert await it.ids(only=Filters(q="BLUE KETTLE")) == ["call"]
    assert await it.ids(only=Filters(q="red kettle")) == []
    bodies = await it.rows("SELECT string_agg(convert_from(body, 'UTF8'), '') FROM touchpoint_log.events")
    assert "kettle" not in bodies[0][0]
    assert "bob@" not in bodies[0][0]


@story
async def test_a_correction_whose_words_were_erased_is_told_to_be_so_and_the_rest_of_it_holds(
    it: House,
) -> None:
    """Whom the correction itself was about was erased, and not whom the event names; an entry beside it is whole."""
    patch = {"channel": "fax", "data": {"summary": "asked about the kettle", "duration_s": 5}}
    await it.given(event("1"), event("2"), correction("c", "1", patch, subject="email:bea@example.com"))
    (bea,) = (await it.core.histories.identities.person("email:bea@example.com")).subjects
    with psycopg.connect(it.core.database_url, autocommit=True) as owner:
        owner.execute("DELETE FROM touchlog.subjects WHERE subject = %s", (bea["subject"],))
    await it.core.subjects.forget()

    whole, corrected = await it.entries()

    assert whole["data"] == {"duration_s": 60}
    assert (corrected["channel"], corrected["data"]) == ("fax", {"duration_s": 5, "erased": True})


@story
async def test_an_event_whose_id_holds_an_address_is_corrected_as_any_other(it: House) -> None:
    """The id of a mail is one: it names no person, and says which event is meant."""
    await it.given(event("<7@mail.example>"), correction("c", "<7@mail.example>", {"channel": "fax"}))

    assert [one["channel"] for one in await it.entries()] == ["fax"]


@story
async def test_an_event_that_was_corrected_to_have_happened_is_in_the_future_no_more(it: House) -> None:
    """And one that was corrected into it is: the mark is of the time that is shown."""
    past, ahead = "2026-03-01T12:00:00Z", moment(datetime.now(UTC) + timedelta(days=1))
    await it.given(event("1", time=ahead), event("2", time=past))
    assert [(e["provenance"]["source_id"], e.get("future")) for e in await it.entries()] == [
        ("1", True),
        ("2", None),
    ]

    await it.given(correction("c1", "1", {"time": past}), correction("c2", "2", {"time": ahead}))

    assert [(e["provenance"]["source_id"], e.get("future")) for e in await it.entries()] == [
        ("2", True),
        ("1", None),
    ]


@story
async def test_a_null_takes_a_value_away_and_what_becomes_sealed_leaves_the_plain_read_models(
    it: House,
) -> None:
    """The old value holds nowhere."""
    await it.given(
        event("1", data={"conversation_id": "k", "duration_s": 2}), event("2", data={"conversation_id": "k"})
    )
    await it.given(
        correction("c1", "1", {"data": {"conversation_id": None}}),
        correction("c2", "2", {"data": {"conversation_id": "ann@example.com"}}),
    )

    assert [e["data"] for e in await it.entries()] == [
        {"conversation_id": "ann@example.com"},
        {"duration_s": 2},
    ]
    assert await it.rows("SELECT conversation FROM read.conversations") == []


@story
async def test_whom_an_event_was_about_can_be_corrected(it: House) -> None:
    """It moves to the other's history, and takes its links along."""
    first = await it.given(
        event("call", subject="email:ann@example.com", identifiers="phone:+4420123456"),
        event("other", subject="email:bob@example.com"),
    )
    await it.given(correction("c", "call", {"subject": "email:bob@example.com"}))

    assert await it.ids() == []
    assert await it.ids("phone:+4420123456") == []
    assert await it.ids("email:bob@example.com") == ["other", "call"]
    assert await it.ids(known_at=first.head) == ["call"]


@story
async def test_type_source_and_id_are_never_patched(it: House) -> None:
    """Nor is anything that a touchpoint may not be."""
    for patch in (
        {"type": "call.missed"},
        {"source": "x"},
        {"id": "2"},
        {},
        {"time": "2926-01-01T00:00:00Z"},
        {"time": "9999-12-31T23:00:00-05:00"},
        {"channel": ""},
        {"subject": "ann"},
        {"subject": "order:1"},
    ):
        answer = await it.core.ingest.accept(
            [orjson.dumps(correction("c", "call", patch))], OFFICE, way_in="test"
        )
        assert answer.rejected == 1, patch
        assert all(p.detail and p.pointer.startswith("/data/patch") for p in answer.results[0].errors)


@story
async def test_consent_and_identity_facts_are_not_correctable(it: House) -> None:
    """Such a correction is recorded, and has no effect."""
    inside = Principal("key:test", "admin", inside=True)
    await it.given(event("split", type="identity.split", data={"merge": "x"}), by=inside)
    await it.given(
        event(
            "yes",
            type="consent.given",
            data={"purpose": "marketing.news", "contact": "email:ann@example.com"},
        ),
        correction("c1", "yes", {"channel": "fax", "data": {"purpose": "billing"}}),
        correction("c2", "split", {"channel": "fax"}),
        correction("c3", "c1", {"data": {"reason": "none"}}, of_source="test/office"),
    )

    for entry in await it.entries():
        assert entry["channel"] != "fax"
        assert "corrections" not in entry


@story
async def test_a_key_corrects_only_events_of_its_own_sources(it: House) -> None:
    """Also for what `of` names."""
    shop = Principal("tl_shop", "adapter", ("shop/*",))
    asked = [
        correction("a", "call", {"channel": "fax"}, source="shop/1"),
        correction("b", "call", {"channel": "fax"}, source="shop/1", of_source="shop/2"),
        event("w", type="consent.invalidated", source="shop/1", data={"of": {"source": "crm", "id": "1"}}),
    ]

    answer = await it.core.ingest.accept([orjson.dumps(e) for e in asked], shop, way_in="test")

    assert [r.status for r in answer.results] == ["rejected", "recorded", "rejected"]
    (problem,) = answer.results[0].errors
    assert problem.pointer == "/data/of/source"
    assert "test/calls" in problem.detail
    assert "shop/*" in problem.detail


@pytest.mark.parametrize("batch", [1, 100])
def test_read_models_after_corrections_equal_those_built_from_scratch(
    tmp_path: Path, database_url: str, batch: int
) -> None:
    """Whatever was patched, moved and linked."""

    async def whole() -> None:
        async with core(Settings.load({}, data=tmp_path), database_url) as parts:
            it = House(parts)
            await it.given(correction("early", "late", {"channel": "store"}))
            for n in range(12):
                await it.given(
                    event(
                        f"{n}",
                        identifiers=f"phone:+44201234{n % 3}00",
                        data={"conversation_id": f"k{n % 2}"},
                        time=f"2026-03-01T{n:02}:00:00Z",
                    ),
                    correction(
                        f"c{n}",
                        f"{n // 2}",
                        {"subject": f"user:u{n % 4}", "data": {"conversation_id": f"k{n % 3}"}},
                    ),
                )
            await it.given(event("late"))
            live = await it.digests()
            assert await it.built_anew(batch=batch) == live

    asyncio.run(whole())


# -- ingest --correct ---------------------------------------------------------------------------------


async def _sent_again(it: House, *events: dict[str, Any]) -> list[Result]:
    corrector = Corrections(it.core.ingest, it.core.histories, it.core.pool)
    answer = await it.core.ingest.accept(
        [orjson.dumps(e) for e in events], OFFICE, way_in="test", corrector=corrector
    )
    await it.projected()
    return answer.results


@story
async def test_a_conflict_becomes_a_correction_of_what_differs(it: House) -> None:
    """And the same again is a duplicate."""
    await it.given(event("call", data={"duration_s": 60, "summary": "tea", "agent": "bob"}))
    right = event("call", time="2026-03-01T13:00:00Z", data={"duration_s": 60, "summary": "coffee"})

    assert [r.status for r in await _sent_again(it, right)] == ["corrected"]
    assert [r.status for r in await _sent_again(it, right)] == ["duplicate"]

    (entry,) = await it.entries()
    assert entry["data"] == right["data"]
    assert entry["occurred_at"].startswith("2026-03-01T13:00")
    ((marker,),) = [e["corrections"] for e in await it.entries()]
    assert marker["fields"] == ["data.agent", "data.summary", "time"]
    assert await it.rows("SELECT count(*) FROM touchlog.rejected") == [(0,)]


@story
async def test_corrected_there_and_back_the_last_payload_holds(it: House) -> None:
    """Without a projector in between, and two in one batch."""
    await it.given(event("call", channel="phone"), projected=False)
    one, two = event("call", channel="store"), event("call", channel="fax")

    assert [r.status for r in await _sent_again(it, one, two)] == ["corrected", "corrected"]
    assert [e["channel"] for e in await it.entries()] == ["fax"]
    assert [r.status for r in await _sent_again(it, one)] == ["corrected"]
    assert [e["channel"] for e in await it.entries()] == ["store"]


@story
async def test_what_no_correction_can_say_stays_a_conflict_and_says_why(it: House) -> None:
    """The type, a consent fact, an extension."""
    await it.given(
        event("1"), event("2", type="consent.given", data={"purpose": "news"}), event("3", purpose="support")
    )

    answers = await _sent_again(
        it,
        event("1", type="call.missed"),
        event("2", type="consent.given", data={"purpose": "ads"}),
        event("3", purpose="ads"),
    )

    assert [r.status for r in answers] == ["conflict"] * 3
    assert [
        "never changes the type" in answers[0].errors[-1].detail,
        "consent.corrected" in answers[1].errors[-1].detail,
    ] == [True, True]
    assert "Only extensions differ" in answers[2].errors[-1].detail
    assert await it.rows("SELECT count(*) FROM touchlog.rejected WHERE status = 'conflict'") == [(3,)]


@story
async def test_a_payload_that_names_others_beside_its_first_subject_stays_a_conflict_and_says_why(
    it: House,
) -> None:
    """No correction can name them; said to be a duplicate, they would be lost without a word."""
    phone, order = "phone:+442079460018", "order:7"
    await it.given(event("1"), event("2", identifiers=phone), event("3", identifiers=f"{phone},{order}"))

    answers = await _sent_again(it, event("1", identifiers=phone), event("2"), event("3", identifiers=phone))

    assert [r.status for r in answers] == ["conflict"] * 3
    assert all("Only whom it names" in r.errors[-1].detail for r in answers)
    moved = event("1", subject="user:ann", identifiers=phone)
    assert [r.status for r in await _sent_again(it, moved)] == ["corrected"]
    assert [r.status for r in await _sent_again(it, moved)] == ["duplicate"]


@story
async def test_a_time_and_a_direction_that_a_payload_sent_again_leaves_unsaid_stay_as_they_were(
    it: House,
) -> None:
    await it.given(event("call", direction="inbound"))
    same, again = event("call"), event("call", channel="store")
    del same["time"], again["time"]

    assert [r.status for r in await _sent_again(it, same, again)] == ["duplicate", "corrected"]

    (entry,) = await it.entries()
    assert (entry["channel"], entry["direction"]) == ("store", "inbound")
    assert entry["occurred_at"] == "2026-03-01T12:00:00.000000Z"
    assert entry["corrections"][0]["fields"] == ["channel"]


@story
async def test_an_event_that_named_nobody_is_of_whom_the_payload_that_is_sent_again_names(it: House) -> None:
    await it.given(event("call", subject=None), event("0"))

    assert [r.status for r in await _sent_again(it, event("call"))] == ["corrected"]

    assert await it.ids() == ["call", "0"]


@story
async def test_what_is_sent_again_holds_also_behind_a_correction_that_was_given_a_later_time(
    it: House,
) -> None:
    """And is forgotten with the person, under whose key it is sealed."""
    later = moment(datetime.now(UTC) + timedelta(days=1))
    await it.given(event("call"), correction("c", "call", {"channel": "fax"}, time=later))

    again = event("call", channel="store", data={"duration_s": 60, "summary": "tea"})
    assert [r.status for r in await _sent_again(it, again)] == ["corrected"]

    (entry,) = await it.entries()
    assert (entry["channel"], entry["data"]["summary"]) == ("store", "tea")
    ((body,),) = await it.rows("SELECT body FROM touchpoint_log.events WHERE position = 3")
    told = decode_body(bytes(body))
    ((ann, kind, _),) = told.subjects
    assert (kind, {key for key, _, _ in told.sealed}) == ("email", {ann})


@story
async def test_what_an_erased_person_said_is_not_recorded_again_when_it_is_sent_again(it: House) -> None:
    await it.given(event("call", data={"duration_s": 60, "summary": "tea"}))
    with psycopg.connect(it.core.database_url, autocommit=True) as owner:
        owner.execute("DELETE FROM touchlog.subjects")
    await it.core.subjects.forget()

    (answer,) = await _sent_again(it, event("call", data={"duration_s": 60, "summary": "coffee"}))

    assert (answer.status, [p.code for p in answer.errors]) == ("conflict", ["conflict", "erased"])
    assert await it.rows("SELECT count(*) FROM touchpoint_log.events WHERE type = 'correction.recorded'") == [
        (0,)
    ]


@story
async def test_what_a_correction_leaves_out_of_a_payload_is_told_beside_it(it: House) -> None:
    """It changes one subject and no extension: what else was sent would be lost without a word."""
    phone = "phone:+442079460018"
    await it.given(*(event(str(n), purpose="support") for n in range(6)))

    answers = await _sent_again(
        it,
        event("0", purpose="support", channel="store"),
        event("1", purpose="support", channel="store", identifiers=phone),
        event("2", purpose="support", subject="user:ann"),
        event("3", purpose="support", subject="user:ann", identifiers=phone),
        event("4", purpose="ads", channel="store"),
        event("5", purpose="support", channel="store", identifiers="user:null"),
    )

    assert [r.status for r in answers] == ["corrected"] * 6
    assert [[p.code for p in r.errors] for r in answers] == [
        *([], ["left_out"], [], ["left_out"], ["left_out"]),
        ["identifier_refused"],
    ]
    assert "whom it names beside its first subject" in answers[1].errors[0].detail
    assert "whom it names beside its first subject" in answers[3].errors[0].detail
    assert "its extensions" in answers[4].errors[0].detail


def _at(text: str) -> Any:
    from datetime import datetime

    return datetime.fromisoformat(text)
