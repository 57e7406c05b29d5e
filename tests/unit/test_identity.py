"""Identity: identifiers are read and normalised; persons are computed, and arrival order cannot matter."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.identifiers import _e164, normalised, read_ref
from domain.errors import Invalid
from domain.identity import KINDS, Identifier, in_priority, kind_of, normalise, parse_ref
from domain.resolution import Link, Merge, Persons, RefusedLink, Split, persons, split_sides
from tests.counting import calls_of

JAN = datetime(2026, 1, 1, tzinfo=UTC)
Kinds = dict[str, tuple[str, str]]


def day(number: int) -> datetime:
    return JAN + timedelta(days=number)


# --- REFs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "namespace", "value"),
    [
        ("email:ann@example.com", "email", "", "ann@example.com"),
        ("phone:+442079460123", "phone", "", "+442079460123"),
        ("user:u-1", "user", "", "u-1"),
        ("user@shop:1", "user", "shop", "1"),
        ("user@shop:1:2", "user", "shop", "1:2"),
        ("anonymous:urn:uuid:7", "anonymous", "", "urn:uuid:7"),
        ("till_receipt@north:7", "till_receipt", "north", "7"),
        ("  crm : 42 ".replace(" :", ":"), "crm", "", "42"),
        ("5d41402a-bc4b-4a76-b971-9d911017c592", "subject", "", "5d41402a-bc4b-4a76-b971-9d911017c592"),
    ],
)
def test_a_ref_is_read_and_written(text: str, kind: str, namespace: str, value: str) -> None:
    identifier = parse_ref(text)
    assert identifier == Identifier(kind, value, namespace)
    assert parse_ref(str(identifier)) == identifier


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("ann@example.com", "'email:' before the address"),
        ("+44 20 7946 0123", "'phone:' before the number"),
        ("u-1", "'kind:value', e.g. 'user:u-1'"),
        ("Email:ann@example.com", "write 'email'"),
        ("user@:1", "write 'user:…' or 'user@namespace:…'"),
        ("email@shop:ann@example.com", "'email' does not have; write 'email:…'"),
        ("email:", "write 'email:' and then the value"),
        ("crm@shop: ", "write 'crm@shop:' and then the value"),
        (":1", "'kind:value'"),
        ("", "'kind:value'"),
    ],
)
def test_what_is_no_ref_is_refused_with_the_fix(text: str, fix: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_ref(text, pointer="/subject")
    (problem,) = refused.value.problems
    assert problem.pointer == "/subject"
    assert fix in problem.detail
    assert "ann@" not in problem.detail


_names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)


@given(
    kind=_names.filter(lambda k: k != "subject"),
    namespace=st.from_regex(r"[A-Za-z0-9./_-]{0,8}", fullmatch=True),
    value=st.text(min_size=1).map(str.strip).filter(bool),
)
def test_every_ref_survives_being_written_and_read(kind: str, namespace: str, value: str) -> None:
    identifier = Identifier(kind, value, namespace if kind_of(kind).namespace else "")
    assert parse_ref(str(identifier)) == identifier


# --- normalisation ------------------------------------------------------------------------------------------


def british_phone(text: str) -> str | None:
    """A phone rule of the test's own: `0…` is British, `+…` is as given, the rest no number."""
    digits = "".join(c for c in text if c.isdecimal())
    if not 7 <= len(digits) <= 15 or any(c.isalpha() for c in text):
        return None
    return f"+{digits}" if text.strip().startswith("+") else f"+44{digits.lstrip('0')}"


def idna(domain: str) -> str:
    return domain.encode("idna").decode()


def normal(kind: str, value: str, namespace: str = "") -> Identifier | None:
    return normalise(Identifier(kind, value, namespace), phone=british_phone, domain_to_ascii=idna)


@pytest.mark.parametrize(
    ("kind", "given_as", "becomes"),
    [
        ("email", "  Ann.Lee+News@Example.COM ", Identifier("email", "ann.lee+news@example.com")),
        ("email", "jörg@bücher.example", Identifier("email", "jörg@xn--bcher-kva.example")),
        ("email", "jo\u0308rg@example.com", Identifier("email", "jörg@example.com")),
        ("email", "not an address", Identifier("email", "not an address")),
        ("phone", "020 7946 0123", Identifier("phone", "+442079460123")),
        ("phone", "+49 30 901820", Identifier("phone", "+4930901820")),
        ("phone", " ask at the desk ", Identifier("phone_raw", "ask at the desk")),
        ("whatsapp", "447911123456", Identifier("whatsapp", "+447911123456")),
        ("whatsapp", "+44 7911 123456", Identifier("whatsapp", "+447911123456")),
        ("whatsapp", "GB.13491208655302741918", Identifier("whatsapp", "GB.13491208655302741918")),
        ("user", " U-1 ", Identifier("user", "U-1")),
        ("loyalty_card", "0012", Identifier("loyalty_card", "0012")),
    ],
)
def test_an_identifier_has_one_spelling(kind: str, given_as: str, becomes: Identifier) -> None:
    assert normal(kind, given_as) == becomes


def test_a_namespace_is_kept() -> None:
    assert normal("user", " 1 ", "shop") == Identifier("user", "1", "shop")


def test_a_domain_that_has_no_idna_form_stays() -> None:
    assert normal("email", "a@ü..example") == Identifier("email", "a@ü..example")


NOBODY = "anonymous guest distinctid distinct_id id not_authenticated email undefined true false null none nan 0 -1"


@pytest.mark.parametrize("word", [*NOBODY.split(" "), "[object Object]"])
@pytest.mark.parametrize("kind", ["user", "email", "phone", "whatsapp", "anonymous", "till_receipt"])
def test_what_programs_write_when_they_know_nobody_is_refused(kind: str, word: str) -> None:
    for spelled in (word, word.upper(), word.title(), f" {word} ", f'"{word}"', f"'{word.upper()}'"):
        assert normal(kind, spelled) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "\t\n",
        '""',
        "''",
        '" "',
        "-",
        "000",
        "0-0",
        "00000000-0000-0000-0000-000000000000",
        "x" * 1025,
        "a\x00b",
        "a\nb",
    ],
)
def test_blanks_zeros_long_and_unprintable_values_are_refused(value: str) -> None:
    assert normal("user", value) is None


@pytest.mark.parametrize("value", ["x" * 1024, "guests", "a-0", "O'Brien", "id7", "1", "Zoë", "a b"])
def test_what_names_somebody_is_kept(value: str) -> None:
    assert normal("user", value) == Identifier("user", value)


@given(kind=st.sampled_from(sorted(KINDS)), value=st.text(max_size=40))
def test_normalising_twice_is_normalising_once(kind: str, value: str) -> None:
    once = normal(kind, value)
    if once is not None:
        assert normal(once.kind, once.value) == once


def test_a_plain_identifier_is_normalised_in_a_few_steps() -> None:
    identifier = Identifier("user", "u-123456", "shop")

    def work() -> None:
        assert normalise(identifier, phone=british_phone, domain_to_ascii=idna) == identifier

    assert 2 <= calls_of(work) <= 13


def test_identifiers_are_ordered_by_priority_and_each_is_kept_once() -> None:
    refs = """anonymous:a tills:9 whatsapp:+1 phone_raw:x phone:+2 app_id:1 email:b@x email:a@x loyalty_card:7
        crm:1 user@b:2 user:1 email:b@x"""
    assert [str(i) for i in in_priority(parse_ref(ref) for ref in refs.split())] == [
        *(
            "user@b:2",
            "user:1",
            "crm:1",
            "loyalty_card:7",
            "email:b@x",
            "email:a@x",
            "phone:+2",
            "phone_raw:x",
        ),
        *("whatsapp:+1", "app_id:1", "tills:9", "anonymous:a"),
    ]


# --- persons ------------------------------------------------------------------------------------------------


def kinds(*subjects: str) -> Kinds:
    """`user1`, `email@shop_2` …: a subject is named by its kind, so that the tests can be read."""
    found: Kinds = {}
    for subject in subjects:
        head = subject.rstrip("0123456789")
        kind, _, namespace = head.partition("@")
        found[subject] = (kind, namespace)
    return found


def link(a: str, b: str, on: int = 1, **more: Any) -> Link[str]:
    return Link(a, b, day(on), more.pop("source", "shop"), more.pop("source_id", f"{a}-{b}-{on}"), **more)


def merge(a: str, b: str, on: int = 1, position: int = 0) -> Merge[str]:
    return Merge(a, b, day(on), "touchlog", f"merge-{a}-{b}-{on}", f"merge-{a}-{b}", position)


def groups(resolved: Persons[str]) -> set[frozenset[str]]:
    return set(resolved.members)


def together(*members: str) -> frozenset[str]:
    return frozenset(members)


def test_an_anonymous_visitor_who_signs_in_is_that_user() -> None:
    known = kinds("anonymous1", "user1", "email1")
    resolved = persons(known, [link("user1", "anonymous1"), link("user1", "email1", 2)])
    assert resolved.members == (together("anonymous1", "user1", "email1"),)
    assert resolved.of("anonymous1") == resolved.of("email1")
    assert resolved.refused == ()


def test_two_users_never_become_one_by_evidence() -> None:
    known = kinds("user1", "user2", "anonymous1")
    resolved = persons(known, [link("user2", "anonymous1", 2), link("user1", "anonymous1", 1)])
    assert groups(resolved) == {together("user1", "anonymous1"), together("user2")}
    (refused,) = resolved.refused
    assert (refused.reason, refused.kind, refused.limit, refused.would_be) == ("limit", "user", 1, 2)
    assert refused.evidence.a == "user2"


def test_a_user_and_a_crm_record_may_become_one() -> None:
    assert len(persons(kinds("user1", "crm1"), [link("user1", "crm1")]).members) == 1


def test_two_crm_records_never_become_one_by_evidence() -> None:
    resolved = persons(kinds("crm1", "crm2", "email1"), [link("crm1", "email1"), link("crm2", "email1", 2)])
    assert groups(resolved) == {together("crm1", "email1"), together("crm2")}


def test_users_of_two_namespaces_may_be_one_person() -> None:
    known = kinds("user@shop1", "user@app1", "user1", "email1")
    resolved = persons(known, [link(s, "email1") for s in known if s != "email1"])
    assert len(resolved.members) == 1


def test_the_hundred_and_first_anonymous_id_stays_outside() -> None:
    known = kinds("email1", *(f"anonymous{n}" for n in range(101)))
    links = [link("email1", f"anonymous{n}", n) for n in range(101)]
    random.Random(4).shuffle(links)
    resolved = persons(known, links)
    assert sorted(map(len, resolved.members)) == [1, 101]
    assert resolved.of("anonymous100") == together("anonymous100")
    assert [(r.kind, r.limit, r.would_be) for r in resolved.refused] == [("anonymous", 100, 101)]


@pytest.mark.parametrize("kind", ["email", "phone", "phone_raw", "whatsapp", "loyalty_card", "till"])
def test_a_person_has_five_values_of_other_kinds(kind: str) -> None:
    known = kinds("user1", *(f"{kind}{n}" for n in range(6)))
    resolved = persons(known, [link("user1", f"{kind}{n}", n) for n in range(6)])
    assert sorted(map(len, resolved.members)) == [1, 6]


def test_a_limit_may_be_set() -> None:
    known = kinds("user1", "email1", "email2")
    links = [link("user1", "email1"), link("user1", "email2", 2)]
    assert len(persons(known, links, limits={"email": 1}).members) == 2


def test_only_kinds_of_which_both_sides_hold_a_value_are_counted() -> None:
    """A merge put two users into one person; a card that has no user may still join."""
    known = kinds("user1", "user2", "loyalty_card1", "user3")
    resolved = persons(
        known,
        [link("user1", "loyalty_card1", 3), link("user3", "loyalty_card1", 4)],
        merges=[merge("user1", "user2", 2)],
    )
    assert groups(resolved) == {together("user1", "user2", "loyalty_card1"), together("user3")}


def test_the_earliest_evidence_wins_not_the_first_to_arrive() -> None:
    known = kinds("user1", "user2", "email1")
    late_word = [link("user2", "email1", 5), link("user1", "email1", 9), link("user1", "email1", 1)]
    assert persons(known, late_word).of("email1") == together("user1", "email1")


def test_ties_are_broken_by_source_then_source_id_then_place() -> None:
    known = kinds("user1", "user2", "email1")
    by_source = [link("user1", "email1", source="b"), link("user2", "email1", source="a")]
    by_id = [link("user1", "email1", source_id="9"), link("user2", "email1", source_id="10")]
    by_place = [
        link("user1", "email1", source_id="1", place=2),
        link("user2", "email1", source_id="1", place=1),
    ]
    for links in (by_source, by_id, by_place):
        assert persons(known, links).of("email1") == together("user2", "email1")


def test_a_link_is_in_force_from_its_earliest_evidence_on() -> None:
    known = kinds("user1", "email1")
    links = [link("user1", "email1", 5), link("email1", "user1", 3)]
    assert len(persons(known, links, as_of=day(2)).members) == 2
    assert len(persons(known, links, as_of=day(3)).members) == 1


def test_a_link_is_known_from_its_position_on() -> None:
    known = kinds("user1", "email1")
    links = [link("user1", "email1", 5, position=7), link("user1", "email1", 3, position=9)]
    assert len(persons(known, links, known_at=6).members) == 2
    assert len(persons(known, links, known_at=7).members) == 1
    assert len(persons(known, links, known_at=8, as_of=day(4)).members) == 2
    assert len(persons(known, links, known_at=9, as_of=day(4)).members) == 1


@pytest.mark.parametrize("reference", ["order1", "case1"])
def test_a_reference_never_joins_two_persons(reference: str) -> None:
    known = kinds("user1", "crm1", reference)
    assert len(persons(known, [link("user1", reference), link("crm1", reference, 2)]).members) == 3


def test_a_merge_joins_in_spite_of_the_guards() -> None:
    known = kinds("user1", "user2", "email1")
    resolved = persons(known, [link("user2", "email1")], merges=[merge("user1", "user2", 2)])
    assert len(resolved.members) == 1


def test_a_merge_is_in_force_from_its_time_on() -> None:
    known = kinds("user1", "user2")
    merges = [merge("user1", "user2", 5, position=4)]
    assert len(persons(known, [], merges=merges, as_of=day(4)).members) == 2
    assert len(persons(known, [], merges=merges, as_of=day(5)).members) == 1
    assert len(persons(known, [], merges=merges, known_at=3).members) == 2


def test_a_split_undoes_its_merge_at_every_as_of_once_it_is_known() -> None:
    known = kinds("user1", "user2", "email1", "email2")
    links = [link("user1", "email1"), link("user2", "email2", 9)]
    merges = [merge("user1", "user2", 3, position=4)]
    undo = [Split[str](position=8, merge="merge-user1-user2")]
    for when in (None, day(4), day(30)):
        without = persons(known, links, as_of=when)
        assert persons(known, links, merges=merges, splits=undo, as_of=when) == without
    assert len(persons(known, links, merges=merges, splits=undo, known_at=7).members) == 1


def test_after_a_split_evidence_never_brings_the_two_sides_together_again() -> None:
    known = kinds("user1", "email1", "phone1", "anonymous1")
    links = [link("user1", "email1", 1), link("user1", "phone1", 2), link("user1", "email1", 30)]
    links += [link("email1", "anonymous1", 31), link("phone1", "anonymous1", 32)]
    apart = [Split(position=8, subject="email1", person_side=together("user1", "phone1"))]
    resolved = persons(known, links, splits=apart)
    assert groups(resolved) == {together("user1", "phone1"), together("email1", "anonymous1")}
    assert {r.reason for r in resolved.refused} == {"split"}
    assert len(persons(known, links, splits=apart, known_at=7).members) == 1


def test_only_a_later_merge_lifts_a_split() -> None:
    known = kinds("user1", "email1", "phone1")
    links = [link("user1", "email1"), link("user1", "phone1", 9)]
    apart = [Split(position=8, subject="email1", person_side=together("user1", "phone1"))]
    before = persons(known, links, merges=[merge("user1", "email1", 3, position=7)], splits=apart)
    assert groups(before) == {together("user1", "phone1"), together("email1")}
    after = persons(known, links, merges=[merge("user1", "email1", 3, position=9)], splits=apart)
    assert len(after.members) == 1


def test_a_split_stores_both_sides_as_they_were() -> None:
    known = kinds("user1", "email1", "email2", "phone1", "anonymous1", "user2")
    links = [link("user1", "email1"), link("user1", "phone1", 2), link("email1", "email2", 3)]
    links.append(link("email2", "anonymous1", 4))
    person_side, subject_side = split_sides("user1", "email1", known, links)
    assert person_side == together("user1", "phone1")
    assert subject_side == together("email1", "email2", "anonymous1")
    apart = [Split(position=8, subject="email1", person_side=person_side)]
    resolved = persons(known, links, splits=apart)
    assert groups(resolved) == {person_side, subject_side, together("user2")}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("evidence", [False, True])
def test_of_a_person_that_was_split_before_another_subject_is_split_off_as_well(
    turned: bool, evidence: bool
) -> None:
    """What had joined both sides of the earlier split touches this person with one end only, and is left out."""
    known = kinds("user1", "email1", "phone1")
    links = [link("user1", "phone1", 2)]
    merges: list[Merge[str]] = []
    ends = ("email1", "user1") if turned else ("user1", "email1")
    if evidence:
        links.append(link(*ends, 3))
    else:
        merges.append(Merge(*ends, day(3), "cli", "m", "m", position=3))
    apart = [Split(position=4, subject="email1", person_side=together("user1", "phone1"))]
    sides = split_sides("user1", "phone1", known, links, merges=merges, splits=apart)
    assert sides == (together("user1"), together("phone1"))


def test_a_split_of_what_is_apart_is_refused() -> None:
    known = kinds("user1", "user2")
    with pytest.raises(Invalid, match="nothing to split"):
        split_sides("user1", "user2", known, [])
    with pytest.raises(Invalid, match="cannot be split from itself"):
        split_sides("user1", "user1", known, [])


def test_ten_times_as_many_anonymous_ids_of_one_address_are_ten_times_the_work() -> None:
    """Minutes for the last where each link looks at all those refused."""

    def steps(many: int) -> int:
        known = kinds("email1", *(f"anonymous{n}" for n in range(many)))
        links = [
            Link("email1", f"anonymous{n}", JAN + timedelta(seconds=n * 7919 % many), "web", str(n))
            for n in range(many)
        ]

        def work() -> None:
            resolved = persons(known, links)
            assert len(resolved.of("email1")) == 101
            assert len(resolved.refused) == many - 100

        return calls_of(work)

    assert steps(50_000) < 11 * steps(5_000) < 11 * 11 * steps(500)


# --- any order, any surrogate -------------------------------------------------------------------------------


def slow_persons(
    known: Kinds, links: list[Link[str]], merges: list[Merge[str]], splits: list[Split[str]]
) -> tuple[set[frozenset[str]], list[tuple[str, str]]]:
    """The rules once more, as plain as they are written, for comparison."""
    undone = {s.merge for s in splits}
    pairs: dict[frozenset[str], Link[str]] = {}
    for one in links:
        pair = frozenset((one.a, one.b))
        if len(pair) == 2 and (pair not in pairs or _when(one) < _when(pairs[pair])):
            pairs[pair] = one
    group = {s: frozenset((s,)) for s in known}
    refused = []
    steps: list[Link[str] | Merge[str]] = [*pairs.values()]
    steps += [m for m in merges if m.event_id not in undone]
    for step in sorted(steps, key=_when):
        x, y = group[step.a], group[step.b]
        if x == y:
            continue
        is_merge = isinstance(step, Merge)
        apart = False
        for s in splits:
            for here, there in ((x, y), (y, x)):
                brings = s.subject in here and there & s.person_side and not here & s.person_side
                apart |= bool(
                    brings and s.subject not in there and not (is_merge and step.position > s.position)
                )
        over = False
        for kind in set(known.values()):
            here_count = sum(known[s] == kind for s in x)
            there_count = sum(known[s] == kind for s in y)
            both = here_count and there_count
            over |= bool(not is_merge and both and here_count + there_count > kind_of(kind[0]).limit)
        if apart or over:
            refused.append((step.source, step.source_id))
            continue
        for member in x | y:
            group[member] = x | y
    return set(group.values()), refused


def _when(step: Link[str] | Merge[str]) -> tuple[datetime, str, str, int]:
    return step.occurred_at, step.source, step.source_id, step.place if isinstance(step, Link) else 0


SUBJECTS = kinds(
    *("user1", "user2", "crm1", "crm2", "user@shop1", "loyalty_card1"),
    *(f"email{n}" for n in range(1, 5)),
    *(f"anonymous{n}" for n in range(1, 5)),
)
_subject = st.sampled_from(sorted(SUBJECTS))
_link = st.builds(
    lambda a, b, on, n: Link(a, b, day(on), "shop", f"{n}", place=1, position=n),
    *(_subject, _subject, st.integers(0, 5), st.integers(0, 10**9)),
)
_merge = st.builds(
    lambda a, b, on, n: Merge(a, b, day(on), "touchlog", f"{n}", f"m{n % 4}", n),
    *(_subject, _subject, st.integers(0, 5), st.integers(0, 10)),
)
_split = st.one_of(
    st.builds(lambda n: Split[str](position=20, merge=f"m{n}"), st.integers(0, 3)),
    st.builds(
        lambda s, others, n: Split(position=n, subject=s, person_side=frozenset(others) - {s}),
        *(_subject, st.sets(_subject, min_size=1), st.integers(0, 10)),
    ),
)
_evidence = st.lists(_link, max_size=25, unique_by=lambda one: one.source_id)
_merges = st.lists(_merge, max_size=4, unique_by=lambda m: m.source_id)
_splits = st.lists(_split, max_size=3)


def _told(refused: tuple[RefusedLink[str], ...]) -> list[tuple[str, str]]:
    return [(r.evidence.source, r.evidence.source_id) for r in refused]


@settings(max_examples=300, deadline=None)
@given(links=_evidence, merges=_merges, splits=_splits)
def test_a_resolution_is_what_the_rules_say(
    links: list[Link[str]], merges: list[Merge[str]], splits: list[Split[str]]
) -> None:
    resolved = persons(SUBJECTS, links, merges=merges, splits=splits)
    expected, refused = slow_persons(SUBJECTS, links, merges, splits)
    assert groups(resolved) == expected
    assert _told(resolved.refused) == refused


@settings(max_examples=200, deadline=None)
@given(links=_evidence, merges=_merges, splits=_splits, seed=st.integers())
def test_neither_arrival_order_nor_surrogates_change_a_resolution(
    links: list[Link[str]], merges: list[Merge[str]], splits: list[Split[str]], seed: int
) -> None:
    dice = random.Random(seed)
    once = persons(SUBJECTS, links, merges=merges, splits=splits)
    numbers = list(range(len(SUBJECTS)))
    dice.shuffle(numbers)
    surrogate = dict(zip(SUBJECTS, numbers, strict=True))
    moved = [
        Link(surrogate[o.b], surrogate[o.a], o.occurred_at, o.source, o.source_id, o.place) for o in links
    ]
    moved_merges = [
        Merge(surrogate[m.a], surrogate[m.b], m.occurred_at, m.source, m.source_id, m.event_id, m.position)
        for m in merges
    ]
    moved_splits = [
        Split(
            position=s.position,
            merge=s.merge,
            subject=None if s.subject is None else surrogate[s.subject],
            person_side=frozenset(surrogate[p] for p in s.person_side),
        )
        for s in splits
    ]
    for given_in_any_order in (moved, moved_merges, moved_splits):
        dice.shuffle(given_in_any_order)
    mixed = sorted(SUBJECTS, key=lambda _: dice.random())
    again = persons(
        {surrogate[s]: SUBJECTS[s] for s in mixed}, moved, merges=moved_merges, splits=moved_splits
    )
    back = {number: name for name, number in surrogate.items()}
    assert {frozenset(back[n] for n in members) for members in again.members} == groups(once)
    assert [
        (r.evidence.source, r.evidence.source_id, r.reason, r.kind, r.would_be) for r in again.refused
    ] == [(r.evidence.source, r.evidence.source_id, r.reason, r.kind, r.would_be) for r in once.refused]


@settings(max_examples=100, deadline=None)
@given(links=_evidence)
def test_no_person_by_evidence_has_two_users_or_two_crm_records(links: list[Link[str]]) -> None:
    for members in persons(SUBJECTS, links).members:
        for kind in ("user", "crm"):
            assert sum(SUBJECTS[s] == (kind, "") for s in members) <= 1


@settings(max_examples=100, deadline=None)
@given(links=_evidence, merges=_merges)
def test_a_merge_and_its_split_leave_what_was_before(
    links: list[Link[str]], merges: list[Merge[str]]
) -> None:
    undo = [Split[str](position=99, merge=m.event_id) for m in merges]
    assert persons(SUBJECTS, links, merges=merges, splits=undo) == persons(SUBJECTS, links)


@given(
    st.one_of(
        st.from_regex(r"email:[-A-Za-z0-9._+%'\" @]{0,12}@?[-a-zA-Z0-9.ß]{0,8}\n?", fullmatch=True),
        st.sampled_from(
            (
                "email:ann@example.com",
                "email:0@0",
                "email:Ann@example.com",
                "phone:+442079460123",
                "email:null",
            )
        ),
        st.text(max_size=12),
    )
)
def test_a_ref_that_is_read_is_parsed_and_then_normalised(text: str) -> None:
    def asked(read: Callable[[], Identifier | None]) -> object:
        try:
            return read()
        except Invalid as wrong:
            return wrong.problems

    assert asked(lambda: read_ref(text)) == asked(lambda: normalised(parse_ref(text)))


CODES = st.one_of(st.sampled_from(sorted(phonenumbers.COUNTRY_CODE_TO_REGION_CODE)), st.integers(1, 999))


@settings(max_examples=1_000)
@given(CODES, st.text("0123456789", min_size=3, max_size=12))
def test_any_number_with_its_country_code_is_read_as_the_library_reads_it(code: int, own: str) -> None:
    number = f"+{code}{own}"
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        expected = None
    else:
        form = phonenumbers.PhoneNumberFormat.E164
        expected = (
            phonenumbers.format_number(parsed, form) if phonenumbers.is_possible_number(parsed) else None
        )
    assert _e164(number, None) == expected
