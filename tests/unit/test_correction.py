"""Corrections and retractions of one event: what holds, in whatever order they arrived (SEMANTICS §1)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import domain.touchpoints  # noqa: F401 - registers every declared type
from domain.correction import CORRECTION, RETRACTION, Amendment, amended, target_of, undone_with
from domain.entry import Body, Recorded
from tests.unit.test_entry import AT


def event(type_: str = "call.ended", id_: str = "1", /, **facts: Any) -> Body:
    """Give an event of shop, at noon."""
    data = facts.pop("data", {})
    whole: dict[str, Any] = {"event_id": f"{type_}/{id_}", "source": "shop", "id": id_, "type": type_, "version": 1, "occurred_at": AT,
             "channel": "phone", "data_json": msgspec.Raw(orjson.dumps(data))}  # fmt: skip
    return Body(**(whole | facts))


CALL = Recorded(
    1,
    AT,
    event(data={"duration_s": 60, "note": None}, subjects=(("ann", "user", ""),), occurred_at_given=False),
)


def correction(order: tuple[int, str, str], patch: dict[str, Any], /, **facts: Any) -> Amendment:
    """Give a correction by its place: (seconds behind noon, source, id)."""
    seconds, source, id_ = order
    of = {"source": "shop", "id": "1"}
    told = event(CORRECTION, id_, source=source, occurred_at=AT + timedelta(seconds=seconds),
                 data={"of": of, "patch": patch}, **facts)  # fmt: skip
    return Amendment(Recorded(2, AT, told), f"{order}".encode())


def retraction(seconds: int) -> Amendment:
    told = event(RETRACTION, "r", source="touchlog/imports", occurred_at=AT + timedelta(seconds=seconds))
    return Amendment(Recorded(3, AT, told), b"")


def held(*amendments: Amendment, of: Recorded = CALL) -> Body | None:
    found = amended(of, amendments)
    return None if found is None else found[0].event


ORDERS = st.tuples(st.integers(0, 1), st.sampled_from(["a", "b", "é"]), st.sampled_from(["1", "2", "10"]))
PATCHES = st.fixed_dictionaries(
    {},
    optional={
        "channel": st.sampled_from(["web", "shop"]),
        "direction": st.sampled_from(["inbound", "outbound"]),
        "data": st.dictionaries(st.sampled_from(["duration_s", "agent"]), st.sampled_from([1, "x"])),
    },
)


@given(st.dictionaries(ORDERS, PATCHES, max_size=5), st.randoms())
def test_of_several_corrections_the_greatest_by_time_source_and_id_wins_field_by_field(
    patches: dict[tuple[int, str, str], dict[str, Any]], random: Any
) -> None:
    """The same in any order of arrival; ids compare as code points."""
    arrived = list(patches)
    random.shuffle(arrived)

    found = amended(CALL, [correction(order, patches[order]) for order in arrived])

    assert found is not None
    expected: dict[str, Any] = {
        "channel": "phone",
        "direction": None,
        "data": {"duration_s": 60, "note": None},
    }
    for order in sorted(patches):
        patch = patches[order]
        expected |= {**patch, "data": {**expected["data"], **patch.get("data", {})}}
    told = found[0].event
    assert {"channel": told.channel, "direction": told.direction, "data": told.data} == expected
    assert found[1] == tuple(f"{order}".encode() for order in sorted(patches))


def test_a_patched_time_is_one_that_was_given_and_a_null_takes_only_its_own_field_away() -> None:
    told = held(
        correction((0, "a", "1"), {"time": "2026-02-01T01:00:00+01:00", "data": {"duration_s": None}})
    )

    assert told is not None
    assert (told.occurred_at.isoformat(), told.occurred_at_given) == ("2026-02-01T00:00:00+00:00", True)
    assert told.data == {"note": None}


def test_a_correction_behind_a_retraction_restores_the_event_and_one_before_it_does_not() -> None:
    early, late = correction((0, "a", "1"), {"channel": "web"}), correction((2, "a", "2"), {})

    assert held(early, retraction(1)) is None
    told = held(retraction(1), late, early)
    assert told is not None
    assert told.channel == "web"
    assert held(early, retraction(1), late, retraction(3)) is None


def test_a_correction_whose_own_import_was_taken_back_is_none() -> None:
    undone = undone_with([correction((0, "a", "1"), {"channel": "web"}, import_id="i")], {"i": 9})
    other = undone_with([correction((0, "a", "1"), {"channel": "web"}, import_id="j")], {"i": 9})

    assert held(*undone) == CALL.event
    assert held(*other, retraction(1)) is None
    assert held(retraction(-1), *undone) is None
    assert (told := held(*other)) is not None
    assert told.channel == "web"


@pytest.mark.parametrize("type_", ["consent.given", "contact.reassigned", "identity.merged", "verdict.recorded", "import.started",
                                   "erasure.requested", "hold.placed", "access.recorded", "correction.recorded"])  # fmt: skip
def test_facts_of_consent_identity_and_the_log_itself_are_not_corrected_but_taken_back_with_their_import(
    type_: str,
) -> None:
    fact = Recorded(1, AT, event(type_))

    assert held(correction((0, "a", "1"), {"channel": "web"}), of=fact) == fact.event
    assert held(retraction(0), correction((1, "a", "1"), {}), of=fact) is None


def test_a_patched_contact_point_is_that_of_types_which_have_one() -> None:
    patch = correction(
        (0, "a", "1"), {"data": {"contact": "x"}}, contact="other", patched_subject=("bea", "user", "")
    )
    mail = Recorded(
        1, AT, event("email.sent", contact="mine", subjects=(("ann", "user", ""), ("a", "email", "")))
    )

    page = Recorded(1, AT, event("web.page_viewed"))

    told, other = held(patch, of=mail), held(patch, of=page)
    assert told is not None
    assert other is not None
    assert (told.contact, other.contact) == ("other", None)
    assert told.subjects == other.subjects == (("bea", "user", ""),)


@pytest.mark.parametrize("of", [None, "shop/1", {}, {"source": "shop"}, {"id": "1"}, {"source": 1, "id": "1"}, {"source": "shop", "id": 1}])  # fmt: skip
def test_a_correction_that_names_no_event_by_two_texts_is_of_none(of: Any) -> None:
    assert target_of(event(CORRECTION, data={"of": of})) is None
    assert target_of(event(CORRECTION, data={"of": {"source": "shop", "id": "1"}})) == ("shop", "1")


def test_of_a_patch_only_what_an_event_can_have_is_taken() -> None:
    """Null as a time, a channel, a direction or as data says nothing: an event is never without one."""
    nothing = {"time": None, "channel": None, "direction": "sideways", "data": None}
    other = {"direction": "internal", "data": {"agent": "bob"}}

    assert held(correction((0, "a", "1"), nothing)) == CALL.event
    told = held(correction((0, "a", "1"), nothing), correction((1, "a", "1"), other))
    assert told is not None
    assert (told.occurred_at, told.channel, told.direction) == (AT, "phone", "internal")
    assert told.data == {"duration_s": 60, "note": None, "agent": "bob"}
