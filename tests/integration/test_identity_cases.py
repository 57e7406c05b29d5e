"""What others do with identities, case by case (reference/features.md §4), each with what we do; and bad input."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from adapters.answers.identity_why import Whys
from domain.identity import RULE_VERSION
from tests.integration.reading_house import OFFICE, House, event, story
from tests.integration.test_identity import changes, merged, names, refs_of


async def refused_words(it: House) -> list[str]:
    page = await Whys(it.core.pool, it.core.histories, it.core.subjects).refused()
    return [one["words"] for one in page.refused]


@story
async def test_what_a_rule_of_spelling_made_is_kept_with_the_version_of_that_rule(it: House) -> None:
    await it.given(names("1", "user:u1", "email:Ann@Example.com", "phone:020 7946 0123"))
    assert await it.rows("SELECT rule, count(*) FROM touchlog.subjects GROUP BY rule") == [(RULE_VERSION, 3)]


# --- PostHog ------------------------------------------------------------------------------------------------


@story
async def test_posthog_1_the_same_id_on_both_sides_changes_nothing(it: House) -> None:
    await it.given(names("1", "user:u1", "user:u1"))
    assert await refs_of(it, "user:u1") == {"user:u1"}
    assert await it.rows("SELECT FROM read.links") == []


@story
async def test_posthog_2_an_illegal_id_is_dropped_and_told_and_the_event_is_kept(it: House) -> None:
    words = "anonymous guest distinctid distinct_id id not_authenticated email undefined true false NaN None null 0".split()
    spelled = [f"user:{w}" for word in words for w in (word, word.upper(), f'"{word}"', f"'{word}'")]
    for number, ref in enumerate([*spelled, "user:[object Object]"]):
        answer = await it.given(
            event(f"e{number}", subject="email:ann@example.com", identifiers=ref), projected=False
        )
        assert answer.results[0].errors[0].code == "identifier_refused", ref
    await it.projected()
    assert await refs_of(it, "email:ann@example.com") == {"email:ann@example.com"}
    assert await it.rows("SELECT count(*) FROM touchpoint_log.events") == [(len(spelled) + 1,)]


@story
async def test_posthog_3_and_4_unknown_ids_make_one_person_and_one_known_takes_the_other(it: House) -> None:
    await it.given(names("1", "user:u1", "anonymous:a1"))
    assert await refs_of(it, "user:u1") == {"user:u1", "anonymous:a1"}
    await it.given(names("2", "user:u1", "anonymous:a2"))
    assert await refs_of(it, "anonymous:a1") == {"user:u1", "anonymous:a1", "anonymous:a2"}


@story
async def test_posthog_5_the_same_person_stays_as_it_is(it: House) -> None:
    await it.given(names("1", "user:u1", "anonymous:a1"))
    rows = await it.digests()
    await it.given(names("2", "user:u1", "anonymous:a1", time="2026-03-05T12:00:00Z"))
    assert (await it.digests())["identities"] == rows["identities"]
    assert (await it.digests())["links"] == rows["links"]


@story
async def test_posthog_6_identify_a1_u1_then_a1_u2_the_second_is_refused_and_u1_keeps_a1(it: House) -> None:
    await it.given(
        names("1", "user:u1", "anonymous:a1"),
        names("2", "user:u2", "anonymous:a1", time="2026-03-02T12:00:00Z"),
    )
    assert await refs_of(it, "anonymous:a1") == {"user:u1", "anonymous:a1"}
    assert await refs_of(it, "user:u2") == {"user:u2"}
    assert await refused_words(it) == ["one person would have 2 values of user; the limit is 1"]
    # the event belongs to its first subject
    assert await it.ids("user:u2") == ["2"]


@story
async def test_posthog_6_alias_of_two_identified_users_is_refused_and_a_merge_joins_them(it: House) -> None:
    """`$create_alias` is a link by command, `$merge_dangerously` is our merge, which can be undone."""
    await it.given(names("1", "user:u1", "anonymous:a1"), names("2", "user:u2", "anonymous:a2"))
    await changes(it).link("user:u2", "user:u1", OFFICE, reason="alias")
    await it.projected()
    assert await refs_of(it, "user:u1") == {"user:u1", "anonymous:a1"}
    await merged(it, "user:u2", "user:u1")
    assert len(await refs_of(it, "user:u1")) == 4


@story
async def test_posthog_8_of_concurrent_merges_none_is_lost(it: House) -> None:
    await it.given(*(names(str(n), f"user:u{n}", f"anonymous:a{n}") for n in range(9)))
    asked = (changes(it).merge(f"user:u{n}", f"user:u{n + 1}", OFFICE, reason="chain") for n in range(8))
    done = await asyncio.gather(*asked)
    await it.projected()
    assert {one.status for one in done} == {"recorded"}
    assert len(await refs_of(it, "user:u0")) == 18


@story
async def test_posthog_9_ids_are_case_sensitive_and_no_recorded_event_is_mapped_anew(it: House) -> None:
    await it.given(event("1", subject="user:Ann"), event("2", subject="user:ann"))
    assert await refs_of(it, "user:Ann") == {"user:Ann"}
    before = await it.rows("SELECT * FROM read.contact_history ORDER BY position")
    await merged(it, "user:Ann", "user:ann")
    assert (await it.rows("SELECT * FROM read.contact_history ORDER BY position"))[:2] == before


# --- Segment, Mixpanel, RudderStack ---------------------------------------------------------------------------


@story
async def test_segment_an_address_of_another_user_is_demoted_and_nobody_is_merged(it: House) -> None:
    """Profile {abc123, jane@}, event {abc456, jane@}: a new person abc456, the address stays; with us the link is refused."""
    await it.given(
        names("1", "user:abc123", "email:jane@example.com"),
        names("2", "user:abc456", "email:jane@example.com", time="2026-03-02T12:00:00Z"),
    )
    assert await refs_of(it, "email:jane@example.com") == {"user:abc123", "email:jane@example.com"}
    assert await refs_of(it, "user:abc456") == {"user:abc456"}
    assert len(await refused_words(it)) == 1


@story
async def test_segment_a_sixth_value_of_a_kind_is_refused(it: House) -> None:
    await it.given(
        *(
            names(str(n), "user:u1", f"email:{n}@example.com", time=f"2026-03-0{n}T12:00:00Z")
            for n in range(1, 7)
        )
    )
    assert len(await refs_of(it, "user:u1")) == 6
    assert await refs_of(it, "email:6@example.com") == {"email:6@example.com"}


@pytest.mark.parametrize("value", ["0", "000", "-", "0-0", "-1", "null", "anonymous"])
def test_segment_blocked_values_name_nobody(value: str, tmp_path: Any, database_url: str) -> None:
    async def blocked(it: House) -> None:
        answer = await it.given(event("1", subject=f"user:{value}"))
        assert answer.results[0].errors[0].code == "identifier_refused"

    story(blocked)(tmp_path, database_url)


@story
async def test_rudderstack_a_new_user_after_logout_has_a_new_anonymous_id_and_the_old_one_stays(
    it: House,
) -> None:
    """Also where the SDK kept the anonymous id: what came before stays with the first user."""
    await it.given(
        event("before", subject="anonymous:a1", type="web.page_viewed", time="2026-03-01T08:00:00Z", data={}),
        names("1", "user:u1", "anonymous:a1", time="2026-03-01T09:00:00Z"),
        names("2", "user:u2", "anonymous:a1", time="2026-03-01T10:00:00Z"),
        names("3", "user:u2", "anonymous:a2", time="2026-03-01T11:00:00Z"),
    )
    assert set(await it.ids("user:u1")) == {"before", "1"}
    assert set(await it.ids("user:u2")) == {"2", "3"}


@story
async def test_rudderstack_a_manual_edge_wins_over_the_rule_of_cardinality(it: House) -> None:
    await it.given(
        names("1", "user:u1", "email:ann@example.com"), names("2", "user:u2", "email:ann@example.com")
    )
    await merged(it, "user:u1", "user:u2")
    assert len(await refs_of(it, "email:ann@example.com")) == 3
    # and one that excludes is a split, which evidence never passes again
    await changes(it).part("user:u1", "email:ann@example.com", OFFICE, reason="a shared address")
    await it.projected()
    await it.given(names("3", "user:u2", "email:ann@example.com"))
    assert await refs_of(it, "user:u1") == {"user:u1", "user:u2"}


@story
async def test_mixpanel_events_of_the_device_before_the_first_sign_in_are_of_the_user(it: House) -> None:
    await it.given(
        event("page", subject="anonymous:d1", type="web.page_viewed", time="2026-02-01T08:00:00Z", data={}),
        names("in", "user:u1", "anonymous:d1"),
    )
    assert set(await it.ids("user:u1")) == {"page", "in"}


# --- bad input --------------------------------------------------------------------------------------------------


@story
async def test_bad_identifiers_get_a_clear_answer_each_and_the_event_is_recorded(it: House) -> None:
    bad = {
        "long": ("user:" + "x" * 1025, "identifier_refused"),
        "control": ("user:a\x07b", "identifier_refused"),
        "newline": ("user:a\nb", "identifier_refused"),
        "no kind": ("ann@example.com", "identifier_dropped"),
        "no value": ("user:", "identifier_dropped"),
    }
    for id_, (ref, code) in bad.items():
        answer = await it.given(
            event(
                id_,
                subject="crm:1",
                data={"duration_s": 1, "identifiers": {"user": ref.partition(":")[2]}}
                if id_ != "no kind"
                else {"duration_s": 1},
                **({"identifiers": ref} if id_ == "no kind" else {}),
            )
        )
        (result,) = answer.results
        assert (result.status, [e.code for e in result.errors]) == ("recorded", [code]), id_
        assert "x" * 50 not in result.errors[0].detail


@story
async def test_odd_but_true_identifiers_are_kept_as_they_are(it: House) -> None:
    odd = [
        "user:Аnn",
        "user:Ann",
        "user:\u202eann",  # a right-to-left mark
        "user:\u05d0\u05d1",
        "phone:020 7946 0123",  # no region: stays as given
        'email:"ann (of accounts)"@example.com',
        "email:ann(comment)@example.com",
        "user:" + "x" * 1024,
    ]
    await it.given(*(event(str(n), subject=ref) for n, ref in enumerate(odd)))
    for number, ref in enumerate(odd):
        assert await it.ids(ref) == [str(number)], ref
    (kind,) = (await it.core.histories.identities.person("phone:020 7946 0123")).subjects
    assert kind["kind"] == "phone_raw"


@story
async def test_ten_thousand_identifiers_in_one_event_are_refused_with_the_question(it: House) -> None:
    refs = [f"anonymous:a{n}" for n in range(10_000)]
    for many in (
        {"identifiers": ",".join(refs)},
        {"data": {"identifiers": {"anonymous": [r[10:] for r in refs]}}},
    ):
        answer = await it.core.ingest.accept([orjson.dumps(event("many", **many))], OFFICE, way_in="test")
        (result,) = answer.results
        assert result.status == "rejected"
        assert "10,000 identifiers in one event" in result.errors[0].detail
        assert "Is this one person?" in result.errors[0].detail
