"""The profile of a person: of each trait the value that was said last, in whatever order it arrived."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from domain.profile import ProfileUpdate, folded_profile

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def update(traits: dict[str, Any], *, minute: int = 0, source: str = "shop", id_: str = "1") -> ProfileUpdate:
    """Give what one event says."""
    at = NOON + timedelta(minutes=minute)
    return ProfileUpdate(
        position=1,
        event_id=f"{source}/{id_}",
        source=source,
        source_id=id_,
        occurred_at=at,
        recorded_at=NOON,
        traits=traits,
    )


def values(*updates: ProfileUpdate) -> dict[str, Any]:
    """Give the values alone."""
    return {name: trait.value for name, trait in folded_profile(updates).items()}


def test_each_trait_is_the_one_that_happened_last() -> None:
    early = update({"city": "Leeds", "name": "Ann"}, minute=1, id_="1")
    late = update({"city": "York"}, minute=2, id_="2")
    assert values(late, early) == {"city": "York", "name": "Ann"}
    assert folded_profile([late, early])["name"].event_id == "shop/1", (
        "where each comes from is told by trait"
    )


def test_ties_are_broken_by_source_and_then_by_id() -> None:
    assert values(update({"a": 1}, source="b"), update({"a": 2}, source="a", id_="9")) == {"a": 1}
    assert values(update({"a": 1}, id_="10"), update({"a": 2}, id_="9")) == {"a": 2}


def test_a_trait_of_null_is_removed_until_it_is_said_again() -> None:
    said, removed, again = (
        update({"vip": True}, minute=1),
        update({"vip": None}, minute=2),
        update({"vip": False}, minute=3),
    )
    assert values(said, removed) == {}
    assert values(said, removed, again) == {"vip": False}
    assert values(removed) == {}


def test_a_trait_that_is_an_object_is_replaced_whole() -> None:
    one = update({"address": {"street": "Mill Street 1", "city": "York"}}, minute=1)
    assert values(one, update({"address": {"city": "Leeds"}}, minute=2)) == {"address": {"city": "Leeds"}}


UPDATES = st.lists(
    st.builds(
        lambda traits, minute, source, n: update(traits, minute=minute, source=source, id_=str(n)),
        st.dictionaries(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(0, 3)), max_size=3),
        st.integers(0, 3),
        st.sampled_from(["a", "b"]),
        st.integers(0, 20),
    ),
    max_size=12,
    unique_by=lambda u: (u.source, u.source_id),
)


@given(UPDATES, st.randoms())
def test_the_order_of_arrival_does_not_matter(updates: list[ProfileUpdate], random: Any) -> None:
    shuffled = list(updates)
    random.shuffle(shuffled)
    assert folded_profile(shuffled) == folded_profile(updates)


@given(UPDATES)
def test_the_fold_equals_going_through_the_updates_in_order(updates: list[ProfileUpdate]) -> None:
    told: dict[str, Any] = {}
    for each in sorted(updates, key=lambda u: u.order):
        told |= each.traits
    assert values(*updates) == {name: value for name, value in told.items() if value is not None}
