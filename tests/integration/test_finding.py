"""Persons found by any identifier and by name, and pairs that may be one; names are at rest as keyed tokens only."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.answers.duplicates import Duplicates, DuplicatesPage
from adapters.answers.finding import Finding
from adapters.answers.history import Histories
from adapters.answers.persons import Persons
from adapters.answers.search_index import SearchIndex
from adapters.intake.identity_changes import IdentityChanges
from adapters.principal import Principal
from bin.compose import core
from bin.processes.indexer import search_index
from bin.settings import Settings
from domain.errors import Invalid
from tests.conftest import NewDatabase
from tests.integration.reading_house import House, correction, event, story
from tests.integration.running import served_http
from tests.integration.test_imports_retract import A, imported, retracted, touchlog

__all__ = ["touchlog"]


def person(id_: str, name: str, *, minute: int = 0, **traits: Any) -> dict[str, Any]:
    """Give an update that says what user *id_* is called."""
    return event(
        f"p-{id_}-{minute}",
        type="profile.updated",
        subject=f"user:{id_}",
        time=f"2026-03-01T12:{minute:02d}:00Z",
        data={"traits": {"name": name, **traits}},
    )


def finding(it: House) -> Finding:
    """Give what finds in a house."""
    return Finding(it.core.pool, it.core.keys, it.core.histories)


async def found(it: House, text: str, **asked: Any) -> list[tuple[str, str]]:
    """Give (first identifier, how it was found) of those whom a text names."""
    page = await finding(it).page(text, **asked)
    return [(one.subjects[0]["value"], one.matched) for one in page.persons]


async def duplicates(it: House, **asked: Any) -> DuplicatesPage:
    """Give the pairs of a house."""
    asking = Duplicates(it.core.pool, it.core.keys, it.core.subjects, it.core.histories)
    return await asking.page(await asking.candidates(), **asked)


async def pairs(it: House) -> list[tuple[set[str], set[str]]]:
    """Give the first identifiers of each pair, with its reasons."""
    page = await duplicates(it)
    return [
        ({pair.a.subjects[0]["value"], pair.b.subjects[0]["value"]}, {reason.what for reason in pair.reasons})
        for pair in page.pairs
    ]


# -- by identifier ---------------------------------------------------------------------------------------


@story
async def test_any_identifier_finds_its_person(it: House) -> None:
    """By its bare value, in any spelling, or as REF."""
    named = "email:ann@example.com,loyalty_card:7700,order:1001,case:C-7,crm:9"
    await it.given(event("1", subject="user:u1", identifiers=f"{named},phone:+441614960001"))
    for text in (
        "ann@example.com", " ANN@Example.com ", "email:ann@example.com", "u1", "7700", "1001", "C-7", "9",
        "+441614960001", "+44 161 496-0001", "0044 161 4960001", "phone:+44 (161) 496 0001",
    ):  # fmt: skip
        assert await found(it, text) == [("u1", "identifier")], text
    there = Histories(it.core.pool, it.core.subjects, region="GB")
    page = await Finding(it.core.pool, it.core.keys, there, region="GB").page("0161 496 0001")
    assert len(page.persons) == 1, "a number without country code, where the installation has a region"
    for text in ("nobody@example.com", "1002", "guest", "", "   ", "\n", "x" * 2000, "a:b:c", "@", "%"):
        assert await found(it, text) == [], text


# -- by name ---------------------------------------------------------------------------------------------


@story
async def test_words_of_a_name_find_whole_words_first(it: House) -> None:
    """Without case and accents, in any order, from three letters on."""
    await it.given(
        person("u1", "Jürgen Müller"),
        person("u2", "Maria Mueller-Lüdenscheidt"),
        person("u3", "Ann Mullerson"),
    )
    assert sorted(await found(it, "MULLER")) == [("u1", "name"), ("u2", "name"), ("u3", "name")]
    assert (await found(it, "muller"))[-1] == ("u3", "name"), "beginnings come behind whole words"
    assert await found(it, "müller jurgen") == [("u1", "name")]
    assert await found(it, "mueller jür") == [("u1", "name")]
    assert await found(it, "lud") == [("u2", "name")]
    assert await found(it, "ma") == [], "two letters are too few to be looked for"
    assert await found(it, "ann") == [("u3", "name")]
    assert await found(it, "ullerson") == []
    assert await found(it, "muller ann maria") == []


@story
async def test_a_former_name_finds_the_person_and_says_so(it: House) -> None:
    """Of linked subjects each may have been called otherwise."""
    await it.given(
        person("u1", "Ann Old"),
        event("2", type="profile.updated", subject="email:ann@example.com", time="2026-03-01T13:00:00Z",
              data={"traits": {"name": "Ann New"}}),
        event("3", subject="user:u1", identifiers="email:ann@example.com"),
    )  # fmt: skip
    assert await found(it, "old") == [("u1", "former_name")]
    assert await found(it, "new") == [("u1", "name")]
    assert [one.name for one in (await finding(it).page("old")).persons] == ["Ann New"]


@story
async def test_what_the_profile_of_an_order_says_is_found_as_the_profile_of_its_person_tells_it(
    it: House,
) -> None:
    # given a person whose order said, later, what the person is called
    await it.given(
        person("1", "Ann Smith"),
        event("o", type="order.placed", subject="user:1", identifiers="order:9", data={"order_id": "9"}),
        event(
            "p-9",
            type="profile.updated",
            subject="order:9",
            time="2026-03-01T13:00:00Z",
            data={"traits": {"name": "Ann Leigh"}},
        ),
    )
    profile = (await Persons(it.core.pool, it.core.subjects, it.core.histories).one("user:1")).profile
    # when the person is looked for, by identifier and by both names
    for text, matched in (("user:1", "identifier"), ("Leigh", "name"), ("Smith", "former_name")):
        (one,) = (await finding(it).page(text)).persons
        # then the name is the profile's
        assert (one.name, one.matched) == (profile.traits["name"].value, matched)


@story
async def test_the_index_follows_corrections_retractions_and_removals(it: House) -> None:
    """What no longer holds finds nobody."""
    await imported(it, A, person("u1", "Ann Bell"))
    await it.given(person("u2", "Bo Kerr"), person("u3", "Cy Lund"))
    assert [len(await found(it, text)) for text in ("bell", "kerr", "lund")] == [1, 1, 1]
    await retracted(it, A)
    await it.given(
        correction("c", "p-u2-0", {"data": {"traits": {"name": "Bo Kern"}}}),
        person("u3", "x", minute=5) | {"data": {"traits": {"name": None}}},
    )
    assert [len(await found(it, text)) for text in ("bell", "kerr", "kern", "lund")] == [0, 0, 1, 0]


@story
async def test_pages_of_a_search_hold_those_named_by_an_identifier_too(it: House) -> None:
    """One value may be an identifier of several kinds, and a name: nobody is left out where a page ends among them."""
    # given three persons with an identifier `bell`, and one of that name
    await it.given(
        *(event(kind, subject=f"{kind}:bell") for kind in ("crm", "user", "loyalty_card")),
        person("u9", "Ann Bell"),
    )
    for limit in (1, 2, 3, 4):
        seen: list[str] = []
        cursor = None
        while True:
            # when each page is asked for
            page = await finding(it).page("bell", limit=limit, cursor=cursor)
            seen += [one.matched for one in page.persons]
            cursor = page.next
            if cursor is None:
                break
        # then all are told, once, in one order
        assert (limit, seen) == (limit, ["identifier"] * 3 + ["name"])


@story
async def test_pages_of_a_search_hold_everybody_once(it: House) -> None:
    """A cursor goes on behind the last."""
    await it.given(*(person(f"u{n}", f"Ann Bell{'s' * (n % 3)}") for n in range(25)))
    seen: list[str] = []
    cursor = None
    while True:
        page = await finding(it).page("bell", limit=4, cursor=cursor)
        assert len(page.persons) <= 4
        seen += [one.id for one in page.persons]
        cursor = page.next
        if cursor is None:
            break
    assert len(seen) == len(set(seen)) == 25
    with pytest.raises(Invalid, match="cursor"):
        await finding(it).page("bell", cursor="nonsense")


@story
async def test_no_word_is_at_rest_in_plain(it: House) -> None:
    """Tokens only, and others under another pepper."""
    await it.given(
        person("u1", "Quentin Zephyr", street="Aquamarine Row 4", postcode="QX1 1XQ", email="q@z.example")
    )
    assert await found(it, "zephyr") == [("u1", "name")]
    (row,) = await it.rows("SELECT w::text FROM touchlog.search_words w")
    for word in ("quentin", "zephyr", "aquamarine", "qx1", "q@z"):
        assert word not in row[0].lower()
    assert it.core.keys.token("word", "zephyr") != it.core.keys.token("begins", "zephyr")


@story
async def test_an_index_of_another_rule_is_made_anew(it: House) -> None:
    """Whoever comes first empties it and begins again."""
    await it.given(person("u1", "Ann Bell"))
    assert await found(it, "bell")
    before = await it.rows("SELECT * FROM touchlog.search_words ORDER BY subject")
    await it.rows("UPDATE touchlog.search_words SET names = '{}' RETURNING 1")
    await it.rows("UPDATE touchlog.search_progress SET rule = 0 RETURNING 1")
    assert await found(it, "bell")
    assert await it.rows("SELECT * FROM touchlog.search_words ORDER BY subject") == before


STEPS = st.lists(
    st.tuples(st.sampled_from(["u1", "u2", "u3"]), st.sampled_from(["Ann", "Bo", None]), st.integers(0, 5)),
    min_size=1,
    max_size=8,
    unique_by=lambda step: (step[0], step[2]),
)


@settings(max_examples=6)
@given(STEPS, st.integers(1, 3))
def test_an_index_that_follows_equals_one_made_at_once(
    tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase, steps: Any, window: int
) -> None:
    async def whole() -> None:
        async with core(Settings.load({}, data=tmp_path_factory.mktemp("index")), new_database()) as parts:
            it = House(parts)
            whole_index = search_index(parts)
            following = SearchIndex(parts.pool, parts.keys, whole_index._profiles, window=window)
            for who, name, minute in steps:
                await it.given(person(who, "", minute=minute) | {"data": {"traits": {"name": name}}})
                await asyncio.gather(following.catch_up(), following.catch_up())
            live = await it.rows("SELECT * FROM touchlog.search_words ORDER BY subject")
            await it.rows("UPDATE touchlog.search_progress SET rule = 0 RETURNING 1")
            await whole_index.catch_up()
            assert await it.rows("SELECT * FROM touchlog.search_words ORDER BY subject") == live

    asyncio.run(whole())


# -- likely duplicates ---------------------------------------------------------------------------------


@story
async def test_what_two_persons_share_is_told_with_its_reasons(it: House) -> None:
    """The likeliest first, each with the command that would merge it; nothing is merged."""
    home: dict[str, Any] = {"address": {"street": "Mill Street 4", "postcode": "LS1 4QD", "city": "Leeds"}}
    await it.given(
        event("i", subject="user:mail", identifiers="email:shared@example.com"),
        person("said", "Cy Lund", email="Shared@Example.com"),
        person("p1", "Di Marsh", phone="+44 161 496 0001"),
        person("p2", "Dee Marsh", mobile="+44 (161) 4960001"),
        person("h1", "Ann Bell", **home),
        person("h2", "Anne Bell", **home),
        person("h3", "Theo Okafor", **home),
        person("b1", "Eve Hart", birthday="1980-02-03"),
        person("b2", "Eve Harte", date_of_birth="1980-02-03"),
        event("w", subject="user:w1", identifiers="whatsapp:441614960099"),
        event("x", subject="user:w2", identifiers="phone:+441614960099"),
    )
    before = await it.digests()
    told = await pairs(it)
    assert ({"mail", "said"}, {"same_email"}) in told
    assert ({"p1", "p2"}, {"same_phone"}) in told
    assert ({"h1", "h2"}, {"similar_name", "same_address"}) in told
    assert ({"b1", "b2"}, {"similar_name", "same_birth_date"}) in told
    assert ({"w1", "w2"}, {"same_phone"}) in told
    assert len(told) == 5, told
    page = await duplicates(it)
    assert [pair.score for pair in page.pairs] == sorted((p.score for p in page.pairs), reverse=True)
    assert (
        page.pairs[0].merge
        == f"touchlog persons merge {page.pairs[0].a.id} {page.pairs[0].b.id} --reason '…'"
    )
    assert await it.digests() == before


@story
async def test_an_event_that_named_both_is_told_where_the_link_was_refused(it: House) -> None:
    """The guards hold two users apart; the list says what they share. An anonymous id says nothing."""
    await it.given(
        event("1", subject="user:u1", identifiers="email:ann@example.com"),
        event("2", subject="user:u2", identifiers="email:ann@example.com", time="2026-03-02T12:00:00Z"),
    )
    (told,) = await pairs(it)
    assert told == ({"u1", "u2"}, {"named_together"})
    page = await duplicates(it)
    assert page.pairs[0].reasons[0].told == "email:ann@example.com"


@story
async def test_what_very_many_share_makes_no_pairs(it: House) -> None:
    """A switchboard's number is counted, not listed."""
    await it.given(*(person(f"u{n}", f"{chr(65 + n % 26)}{n} Xu", phone="+441614960001") for n in range(60)))
    page = await duplicates(it)
    assert (page.pairs, page.left_out) == ([], 1)


@story
async def test_a_person_and_its_own_order_are_no_pair_but_what_the_order_says_counts(it: House) -> None:
    # given an order of a person, whose profile says an address that the person has said, too; and somebody else with it
    await it.given(
        person("1", "Ann Leigh", email="ann@x.example"),
        event("o", type="order.placed", subject="user:1", identifiers="order:9", data={"order_id": "9"}),
        event(
            "p-9",
            type="profile.updated",
            subject="order:9",
            data={"traits": {"name": "Ann Leigh", "email": "ann@x.example", "phone": "+442079460001"}},
        ),
        person("2", "Anne Leigh", phone="+442079460001"),
    )
    # then the two persons are one pair, and the order is none
    assert [names for names, _ in await pairs(it)] == [{"1", "2"}]


@story
async def test_persons_that_were_joined_are_no_pair_any_more(it: House) -> None:
    """As resolved now."""
    await it.given(person("u1", "Ann Bell", email="a@b.example"))
    await it.given(
        event("2", type="profile.updated", subject="email:a@b.example", data={"traits": {"name": "A Bell"}})
    )
    assert len(await pairs(it)) == 1
    await it.given(event("3", subject="user:u1", identifiers="email:a@b.example"))
    assert await pairs(it) == []


@story
async def test_a_pair_that_was_joined_since_it_was_found_is_left_out(it: House) -> None:
    """What is kept for a while is looked at again before it is shown."""
    await it.given(person("u1", "Ann Bell", email="a@b.example"), event("1", subject="email:a@b.example"))
    asking = Duplicates(it.core.pool, it.core.keys, it.core.subjects, it.core.histories)
    kept = await asking.candidates()
    page = await asking.page(kept)
    assert len(page.pairs) == 1
    kept = kept.likeliest([(UUID(pair.a.id), UUID(pair.b.id)) for pair in page.pairs])
    assert (await asking.page(kept)).pairs == page.pairs
    await it.given(event("2", subject="user:u1", identifiers="email:a@b.example"))
    assert (await asking.page(kept)).pairs == []


@story
async def test_a_pair_that_somebody_said_is_two_is_left_out(it: House) -> None:
    """By a merge that was undone, or by a split; until then it is told."""
    await it.given(
        person("u1", "Ann Bell", email="a@b.example"),
        person("u2", "Ann Bell", email="a@b.example"),
        person("u3", "Cy Lund", email="c@d.example"),
        event("4", subject="user:u3", identifiers="crm:7"),
        person("u5", "Cy Lund", email="c@d.example"),
    )
    changes = IdentityChanges(it.core.pool, it.core.ingest, it.core.histories, it.core.subjects)
    office = Principal("key:office", "admin")
    assert len(await pairs(it)) == 2

    merged = await changes.merge("user:u1", "user:u2", office, reason="the same name")
    await it.projected()
    assert len(await pairs(it)) == 1
    assert merged.undo is not None
    await changes.undo(merged.undo["merge"], office, reason="father and daughter")
    await it.projected()
    assert [sides for sides, _ in await pairs(it)] == [{"u3", "u5"}]

    await changes.merge("user:u3", "user:u5", office, reason="the same name")
    await it.projected()
    await changes.part("user:u3", "user:u5", office, reason="namesakes")
    await it.projected()
    assert await pairs(it) == []


@story
async def test_fewer_are_compared_where_so_asked(it: House) -> None:
    """Those with a shared contact come first."""
    await it.given(
        person("u1", "Ann Bell", email="a@b.example", birthday="1980-02-03"),
        person("u2", "Ann Bell", birthday="1980-02-03"),
        person("u3", "Cy Lund", email="a@b.example"),
    )
    page = await duplicates(it, most_compared=1)
    assert (page.candidates, page.compared) == (2, 1)
    assert {reason.what for reason in page.pairs[0].reasons} == {"same_email", "other_name"}


MAILS = ["a@x.example", "b@x.example", "c@x.example"]
SAID = st.lists(st.tuples(st.sets(st.sampled_from(MAILS), max_size=2), st.booleans()), min_size=2, max_size=5)


@settings(max_examples=8)
@given(SAID, st.sets(st.sampled_from(MAILS)))
def test_whoever_shares_a_contact_is_told_and_nobody_else(
    tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase, said: Any, owned: Any
) -> None:
    has: dict[str, set[str]] = {f"o{mail[0]}": {mail} for mail in owned}
    told = [event(f"o-{mail}", subject=f"user:o{mail[0]}", identifiers=f"email:{mail}") for mail in owned]
    for n, (mails, calls) in enumerate(said):
        has[f"u{n}"] = {*mails, *(["+441614960001"] if calls else [])}
        phone: dict[str, Any] = {"phone": "+44 161 496 0001"} if calls else {}
        told.append(person(f"u{n}", "", emails=[mail.upper() for mail in sorted(mails)], **phone))
    names = sorted(has)
    expected = {frozenset((a, b)) for a in names for b in names if a < b and has[a] & has[b]}

    async def whole() -> None:
        async with core(Settings.load({}, data=tmp_path_factory.mktemp("pairs")), new_database()) as parts:
            it = House(parts)
            await it.given(*told)
            assert {frozenset(who) for who, _ in await pairs(it)} == expected

    asyncio.run(whole())


# -- over HTTP and by command ----------------------------------------------------------------------------


def test_commands_and_routes_answer_alike(touchlog: Any, tmp_path: Path, database_url: str) -> None:
    """And each look is on record before it is told."""
    file = tmp_path / "e.jsonl"
    told = [person("u1", "Ann Bell", email="a@b.example"), person("u2", "Anna Bell", email="A@b.example")]
    file.write_text("".join(json.dumps(one) + "\n" for one in told))
    assert touchlog("persons", "find", "bell").exit_code == 1
    assert "No two persons" in touchlog("persons", "duplicates").stdout
    assert touchlog("ingest", file).exit_code == 0
    shown = touchlog("persons", "find", "bel")
    assert shown.exit_code == 0
    assert "Anna Bell" in shown.stdout
    listed = touchlog("persons", "duplicates").stdout
    assert "same email: a@b.example" in listed
    assert "touchlog persons merge" in listed
    by_command = json.loads(touchlog("persons", "duplicates", "--json").stdout)
    with served_http(tmp_path / "data", database_url) as served, served.client() as client:
        before = served.records()
        answer = client.get("/v1/persons/duplicates")
        assert answer.json()["pairs"] == by_command["pairs"]
        assert served.records() == before + 1
        page = client.get("/v1/persons", params={"q": "bell", "limit": 1}).json()
        assert len(page["persons"]) == 1
        rest = client.get("/v1/persons", params={"q": "bell", "limit": 1, "cursor": page["next"]}).json()
        assert {page["persons"][0]["name"], rest["persons"][0]["name"]} == {"Ann Bell", "Anna Bell"}
        assert rest["next"] is None
        assert served.records() == before + 3
        with served.client("") as nobody:
            assert nobody.get("/v1/persons/duplicates").status_code == 401
