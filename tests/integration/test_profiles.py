"""Profiles over the log: folded over a person's subjects, corrected, retracted, at any moment, live as rebuilt."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.answers.persons import Persons
from adapters.answers.profiles import Profile
from bin.compose import core
from bin.settings import Settings
from tests.conftest import NewDatabase
from tests.integration.reading_house import House, correction, event, story
from tests.integration.running import served_http
from tests.integration.test_imports_retract import A, imported, retracted, touchlog

__all__ = ["touchlog"]

ANN = "email:ann@example.com"


def said(id_: str, traits: dict[str, Any], *, minute: int = 0, **more: Any) -> dict[str, Any]:
    """Give an update of ann's profile, so many minutes after noon."""
    return event(
        id_, type="profile.updated", time=f"2026-03-01T12:{minute:02d}:00Z", data={"traits": traits}, **more
    )


async def profile(it: House, ref: str = ANN, **asked: Any) -> Profile:
    """Give the profile of a person."""
    return (await Persons(it.core.pool, it.core.subjects, it.core.histories).one(ref, **asked)).profile


async def values(it: House, ref: str = ANN, **asked: Any) -> dict[str, Any]:
    """Give the values of the traits alone."""
    return {name: trait.value for name, trait in (await profile(it, ref, **asked)).traits.items()}


@story
async def test_each_trait_comes_with_where_it_is_from(it: House) -> None:
    """The latest that happened, whichever arrived last; null removes."""
    await it.given(
        said("2", {"city": "York", "vip": None}, minute=2),
        said("1", {"city": "Leeds", "name": "Ann", "vip": True}, minute=1),
    )

    found = await profile(it)
    assert {name: trait.value for name, trait in found.traits.items()} == {"city": "York", "name": "Ann"}
    assert found.updates == 2
    city, name = found.traits["city"], found.traits["name"]
    assert (city.position, city.source, city.source_id) == (1, "test/calls", "2")
    assert (name.position, name.occurred_at) == (2, "2026-03-01T12:01:00.000000Z")
    assert name.recorded_at > name.occurred_at or name.recorded_at != ""


@story
async def test_the_profile_is_of_the_person_not_of_one_identifier(it: House) -> None:
    """A link that comes later joins profiles; no row is rewritten for it."""
    await it.given(
        said("1", {"city": "Leeds", "name": "Ann"}, minute=1),
        said("2", {"city": "York"}, minute=2, subject="user:u1"),
    )
    before = await it.rows("SELECT xmin, ctid::text FROM read.profile_updates ORDER BY position")
    assert await values(it) == {"city": "Leeds", "name": "Ann"}
    await it.given(event("link", subject="user:u1", identifiers=ANN))

    assert await values(it) == await values(it, "user:u1") == {"city": "York", "name": "Ann"}
    assert await it.rows("SELECT xmin, ctid::text FROM read.profile_updates ORDER BY position") == before
    assert await values(it, known_at=2) == {"city": "Leeds", "name": "Ann"}, "as known before the link"


@story
async def test_an_update_that_names_an_order_is_of_its_person(it: House) -> None:
    """A reference attaches it."""
    await it.given(
        event("placed", type="order.placed", identifiers="order:9", data={}),
        said("1", {"gift_note": "ring twice"}, subject="order:9", minute=5),
    )
    assert await values(it) == {"gift_note": "ring twice"}


@story
async def test_corrections_and_retractions_change_it_from_then_on(it: House) -> None:
    """On the axis of knowledge alone."""
    await imported(it, A, said("1", {"city": "Leeds", "name": "Ann"}, minute=1))
    first = await it.core.histories.moments.seen()
    await it.given(said("2", {"city": "York"}, minute=2))
    second = await it.core.histories.moments.seen()
    patch = {"data": {"traits": {"name": "Anne"}}, "time": "2026-03-01T12:30:00Z"}
    await it.given(correction("c", "1", patch))
    known = await it.core.histories.moments.seen()
    await retracted(it, A)

    assert await values(it, known_at=first) == {"city": "Leeds", "name": "Ann"}
    assert await values(it, known_at=second) == {"city": "York", "name": "Ann"}
    assert await values(it, known_at=known) == {"city": "York", "name": "Anne"}
    assert (await profile(it, known_at=known)).traits["name"].occurred_at == "2026-03-01T12:30:00.000000Z"
    assert await values(it) == {"city": "York"}
    noon = datetime(2026, 3, 1, 12, 10, tzinfo=UTC)
    assert await values(it, known_at=known, as_of=noon) == {"city": "York"}, "the corrected time is later"


@story
async def test_a_correction_of_the_subject_moves_the_traits(it: House) -> None:
    """They were somebody else's all along."""
    await it.given(said("1", {"name": "Bob"}), event("2", subject="email:bob@example.com"))
    await it.given(correction("c", "1", {"subject": "email:bob@example.com"}))
    assert await values(it) == {}
    assert await values(it, "email:bob@example.com") == {"name": "Bob"}


@story
async def test_what_was_erased_is_counted_and_not_shown(it: House) -> None:
    """Its key is gone; nothing fails."""
    await it.given(
        said("1", {"name": "Ann"}), said("2", {"name": "Ann B"}, subject="user:u1", identifiers=ANN)
    )
    await it.rows("UPDATE touchlog.subjects SET bucket_key = '\\xdead' WHERE kind = 'email' RETURNING 1")
    await it.core.subjects.forget()
    found = await profile(it, "user:u1")
    assert (found.updates, found.erased_updates) == (2, 1)
    assert {name: trait.value for name, trait in found.traits.items()} == {"name": "Ann B"}


@story
async def test_no_trait_is_at_rest_in_plain(it: House) -> None:
    """Neither its value nor its name."""
    await it.given(said("1", {"favourite_colour": "aquamarine"}))
    rows = await it.rows("SELECT u::text, encode(u.body, 'escape') FROM read.profile_updates u")
    assert rows
    assert "aquamarine" not in str(rows)
    assert "favourite_colour" not in str(rows)


@story
async def test_the_check_finds_a_row_that_is_not_so(it: House) -> None:
    """The profiles are compared with the log as every read model is."""
    from adapters.checking.checker import check_now

    await it.given(said("1", {"name": "Ann"}), said("2", {"name": "Bo"}, subject="user:u2"))
    with psycopg.connect(it.core.database_url, autocommit=True) as owner:
        owner.execute(
            "UPDATE read.profile_updates SET occurred_at = occurred_at + interval '1 day' WHERE position = 2"
        )
    outcomes = await asyncio.to_thread(check_now, it.core.database_url)
    assert [o.name for o in outcomes if o.rows] == ["profiles"]


UPDATES = st.lists(
    st.tuples(
        st.sampled_from([ANN, "user:u1", "phone:+441614960001"]),
        st.booleans(),  # names a second identifier, too
        st.dictionaries(
            st.sampled_from(["name", "city", "vip"]), st.one_of(st.none(), st.integers(0, 2)), max_size=2
        ),
        st.integers(0, 3),
        st.booleans(),  # corrected later
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=5)
@given(UPDATES, st.randoms(use_true_random=False))
def test_any_order_of_arrival_gives_the_same_profile_live_and_rebuilt(
    tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase, told: Any, random: Any
) -> None:
    events = []
    for n, (who, second, traits, minute, corrected) in enumerate(told):
        more = {"identifiers": "user:u1"} if second and who != "user:u1" else {}
        events.append(said(f"e{n}", traits, minute=minute, subject=who, **more))
        if corrected:
            events.append(correction(f"c{n}", f"e{n}", {"data": {"traits": {"city": n}}}))
    shuffled = list(events)
    random.shuffle(shuffled)

    async def shown(url: str, path: Path, order: list[dict[str, Any]]) -> dict[str, Any]:
        async with core(Settings.load({}, data=path), url) as parts:
            it = House(parts)
            halfway = len(order) // 2
            await it.given(*order[:halfway] or order[:1])
            middle = await it.core.histories.moments.seen()
            then = {}
            for ref in {who for who, *_ in told}:
                try:
                    then[ref] = await profile(it, ref)
                except Exception:  # noqa: BLE001, S112 - nobody known by it yet
                    continue
            await it.given(*order[halfway or 1 :])
            for ref, earlier in then.items():
                assert await profile(it, ref, known_at=middle) == earlier, "as known then is as it was then"
            live = await it.digests()
            assert await it.built_anew() == live
            return {ref: await values(it, ref) for ref in sorted({who for who, *_ in told})}

    path = tmp_path_factory.mktemp("profiles")
    first = asyncio.run(shown(new_database(), path / "a", events))
    second = asyncio.run(shown(new_database(), path / "b", shuffled))
    assert first == second


def test_profiles_are_shown_over_http_and_by_command(
    tmp_path: Path, database_url: str, touchlog: Callable[..., Any]
) -> None:
    """The same traits, wherever they are asked for."""
    file = tmp_path / "e.jsonl"
    file.write_text(json.dumps(said("1", {"name": "Ann", "address": {"street": "Mill Street 1"}})) + "\n")
    assert touchlog("ingest", file).exit_code == 0
    shown = touchlog("persons", "show", ANN).stdout
    assert "Mill Street 1" in shown
    told = json.loads(touchlog("persons", "profile", ANN, "--json").stdout)
    assert "No profile is known" in touchlog("persons", "profile", ANN, "--as-of", "2026-01-01").stdout
    with served_http(tmp_path / "data", database_url) as served, served.client() as client:
        moment = {"known_at": f"@{told['head']}", "as_of": "2026-04-01T00:00:00Z"}
        answer: httpx.Response = client.get(f"/v1/persons/{ANN}", params=moment)
        traits = answer.json()["profile"]["traits"]
        assert traits == told["profile"]["traits"]
        assert traits["address"]["value"] == {"street": "Mill Street 1"}
        assert client.get(f"/v1/persons/{ANN}", params=moment).content == answer.content


def test_of_very_many_traits_the_terminal_shows_the_first_and_the_number_of_the_others(
    tmp_path: Path, database_url: str, touchlog: Callable[..., Any]
) -> None:
    file = tmp_path / "e.jsonl"
    file.write_text(json.dumps(said("1", {f"trait_{n:04}": n for n in range(3_000)})) + "\n")
    assert touchlog("ingest", file).exit_code == 0

    for command in ("show", "profile"):
        shown = touchlog("persons", command, ANN).stdout
        told = json.loads(touchlog("persons", command, ANN, "--json").stdout)

        assert "trait_0099" in shown
        assert "trait_0100" not in shown
        assert "and 2,900 more traits; --json gives all" in shown
        assert len(told["profile"]["traits"]) == 3_000
