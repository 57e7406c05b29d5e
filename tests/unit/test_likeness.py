"""Who somebody is by traits, and how likely two are one: folded words, sounds, reasons and scores."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rapidfuzz.fuzz import token_sort_ratio

from domain.likeness import LEAST_SCORE, Facts, Likeness, compared
from domain.portrait import folded_text, portrait_of, sound_of, spellings, words_in


def facts(emails: tuple[str, ...] = (), phones: tuple[str, ...] = (), **traits: Any) -> Facts:
    """Give a person with these traits."""
    return Facts(portrait=portrait_of(traits), emails=emails, phones=phones)


def why(found: Likeness | None) -> set[str]:
    """Give the reasons of a pair."""
    return {reason.what for reason in found.reasons} if found else set()


def pair(one: Facts, other: Facts) -> Likeness | None:
    """Compare as the list does."""
    return compared(one, other, token_sort_ratio)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Łukasz MÜLLER", ["lukasz", "muller"]),
        ("Anne-Marie O'Brien", ["anne", "marie", "obrien"]),
        ("Straße", ["strasse"]),
        ("İpek Yılmaz", ["ipek", "yilmaz"]),
        ("山田 太郎", ["山田", "太郎"]),
        ("  ", []),
    ],
)
def test_case_and_accents_are_folded(text: str, words: list[str]) -> None:
    assert words_in(text) == words


def test_an_umlaut_may_be_spelt_out() -> None:
    assert spellings("Jürgen Müller") == [["jurgen", "juergen"], ["muller", "mueller"]]
    assert spellings("Mueller") == [["mueller", "muller"]]


@given(st.text(max_size=40))
@example("㉐")
@example("ΐ")
def test_folding_twice_is_folding_once(text: str) -> None:
    assert folded_text(folded_text(text)) == folded_text(text)


@pytest.mark.parametrize(("one", "other"), [("meyer", "maier"), ("smith", "smyth"), ("philip", "filip")])
def test_words_that_sound_alike_have_one_sound(one: str, other: str) -> None:
    assert sound_of(one) == sound_of(other)
    assert sound_of(one) != sound_of("garcia")


def test_sources_call_traits_as_they_like() -> None:
    one = portrait_of(
        {"firstName": "Ann", "last_name": "Bell", "address": {"postalCode": "LS1 4QD", "city": "Leeds"}}
    )
    other = portrait_of({"Given Name": "Ann", "family-name": "Bell", "zip": "ls14qd", "city": "LEEDS"})
    assert one.name == other.name == "Ann Bell"
    assert one.address == other.address


def test_a_name_alone_makes_nobody_a_duplicate() -> None:
    assert pair(facts(name="Ann Bell"), facts(name="Ann Bell")) is None


def test_an_address_alone_makes_nobody_a_duplicate() -> None:
    home: dict[str, Any] = {"street": "Mill Street 4", "postcode": "LS1 4QD"}
    assert pair(facts(name="Ann Bell", **home), facts(name="Tom Bell", **home)) is None


def test_a_similar_name_at_a_similar_address_does() -> None:
    found = pair(
        facts(name="Ann Bell", street="Mill Street 4", postcode="LS1 4QD"),
        facts(name="Anne Bell", street="Mill Stret 4", postcode="LS1 4QD"),
    )
    assert why(found) == {"similar_name", "similar_address"}


def test_another_house_number_is_another_address() -> None:
    one = facts(name="Ann Bell", street="Mill Street 4", postcode="LS1 4QD")
    assert pair(one, facts(name="Ann Bell", street="Mill Street 14", postcode="LS1 4QD")) is None


def test_the_same_contact_is_enough_and_another_name_speaks_against() -> None:
    same = pair(facts(emails=("a@b.example",)), facts(emails=("a@b.example",)))
    assert same is not None
    assert (why(same), same.score) == ({"same_email"}, 0.85)
    family = pair(
        facts(phones=("+441614960001",), name="Ann Bell"),
        facts(phones=("+441614960001",), name="Theo Okafor"),
    )
    assert family is not None
    assert why(family) == {"same_phone", "other_name"}
    assert family.score < same.score


NAMES = st.sampled_from(["Ann Bell", "Anne Bell", "Bell, Ann", "Theo Okafor", ""])
PEOPLE = st.builds(
    facts,
    emails=st.sampled_from([(), ("a@b.example",), ("c@d.example",)]),
    phones=st.sampled_from([(), ("+441614960001",)]),
    name=NAMES,
    street=st.sampled_from(["Mill Street 4", "Mill St 4", ""]),
    postcode=st.sampled_from(["LS1 4QD", ""]),
    birthday=st.sampled_from(["1980-01-01", "1981-01-01", ""]),
)


@given(PEOPLE, PEOPLE)
def test_a_pair_is_as_likely_the_other_way_round(one: Facts, other: Facts) -> None:
    there, back = pair(one, other), pair(other, one)
    assert (there is None) == (back is None)
    if there is not None and back is not None:
        assert there.score == back.score
        assert why(there) == why(back)
        assert LEAST_SCORE <= there.score <= 1


def named(*names: str) -> Facts:
    """Give a person at one address who goes by several names."""
    one = facts(emails=("home@example.com",))
    return msgspec.structs.replace(one, portrait=msgspec.structs.replace(one.portrait, names=names))


@given(
    st.permutations(["Ann Lee", "Lee Ann", "ann lee", "ANN LEE"]),
    st.permutations(["Lee, Ann", "Ann Lee", "Lee ann"]),
)
@example(["ann lee", "Lee Ann"], ["Lee ann", "Lee, Ann"])
def test_which_of_equally_alike_names_is_told_is_no_matter_of_order(one: list[str], other: list[str]) -> None:
    # Given persons of whom several names are equally alike
    there, back = pair(named(*one), named(*other)), pair(named(*other), named(*one))
    settled = pair(named(*sorted(one)), named(*sorted(other)))
    # When they are compared in any order of persons and of names
    assert there is not None
    assert back is not None
    # Then the same two names are told
    names = [
        sorted(next(reason.told for reason in found.reasons if reason.what == "same_name").split(" / "))
        for found in (there, back, settled)
        if found is not None
    ]
    assert names == [names[0]] * 3


@given(PEOPLE, PEOPLE)
def test_the_score_is_what_the_reasons_say(one: Facts, other: Facts) -> None:
    found = pair(one, other)
    if found is not None:
        doubt, factor = 1.0, 1.0
        for reason in found.reasons:
            if reason.against:
                factor *= reason.weight
            else:
                doubt *= 1 - reason.weight
        assert found.score == round((1 - doubt) * factor, 3)
