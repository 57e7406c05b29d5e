"""The entry is for ever: its bytes are written down here, and nobody may change them."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.entry import (
    LAST_INSTANT,
    Body,
    decode_body,
    entry,
    event_id_of,
    first_line,
    in_zone,
    leaf_hash,
    moment,
    recorded,
    uuid_bytes,
    uuid_text,
    within_calendar,
)

LOG_ID = "0197f0c5-1111-7000-8000-000000000001"
AT = datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC)
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=20)


def test_an_entry_is_one_line_of_the_commit_a_newline_and_the_body() -> None:
    assert entry(LOG_ID, 7, AT, b'{"a":1}') == (
        b'{"log":"0197f0c5-1111-7000-8000-000000000001","position":7,"recorded_at":"2026-01-31T12:00:00.000005Z"}\n{"a":1}'
    )


def test_a_leaf_is_that_of_rfc_6962() -> None:
    assert leaf_hash(b"") == hashlib.sha256(b"\x00").digest()
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert leaf_hash(b"entry") == hashlib.sha256(b"\x00entry").digest()


def test_the_id_of_an_event_is_written_down_for_ever() -> None:
    assert uuid_text(event_id_of("shop", "1")) == "ae0e10c8-a0b8-893b-8029-c14267d8b2a3"
    assert uuid_text(event_id_of("käse/läden", "№ 7")) == "c99d74c6-4e25-8a47-9ab7-627eada49c8e"


@given(NAMES, NAMES)
def test_the_id_of_an_event_is_a_uuid_of_version_8(source: str, source_id: str) -> None:
    found = UUID(bytes=event_id_of(source, source_id))
    assert found.version == 8
    assert found.variant == "specified in RFC 4122"
    assert str(found) == uuid_text(found.bytes)
    assert uuid_bytes(str(found)) == found.bytes


@given(st.tuples(NAMES, NAMES), st.tuples(NAMES, NAMES))
def test_two_events_have_one_id_only_when_they_are_one(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (event_id_of(*one) == event_id_of(*other)) == (one == other)


def test_where_source_ends_and_id_begins_makes_a_difference() -> None:
    assert event_id_of("ab", "c") != event_id_of("a", "bc")


@given(
    st.integers(-(2**31), 2**34).map(lambda n: datetime.fromtimestamp(n / 4, UTC)),
    st.integers(-14 * 60, 14 * 60),
)
def test_a_time_has_one_spelling_in_every_zone(at: datetime, offset_min: int) -> None:
    text = moment(at)
    assert moment(at.astimezone(timezone(timedelta(minutes=offset_min)))) == text
    assert len(text) == 27
    assert datetime.fromisoformat(text) == at


EAST, WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-12))
FIRST = datetime(1, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "becomes"),
    [
        (datetime(2026, 1, 31, 14, 0, 0, 5, tzinfo=timezone(timedelta(hours=2))), AT),
        (datetime(1, 1, 1, tzinfo=EAST), FIRST),
        (datetime(1, 1, 1, tzinfo=WEST), datetime(1, 1, 1, 12, tzinfo=UTC)),
        (datetime(9999, 12, 31, 23, tzinfo=WEST), LAST_INSTANT),
        (datetime(9999, 12, 31, 23, tzinfo=EAST), datetime(9999, 12, 31, 9, tzinfo=UTC)),
    ],
)
def test_an_instant_beyond_the_calendar_is_its_first_or_its_last(at: datetime, becomes: datetime) -> None:
    assert (within_calendar(at), within_calendar(at).tzinfo) == (becomes, UTC)


@pytest.mark.parametrize(
    ("at", "zone", "shown"),
    [
        (AT, EAST, "2026-02-01T02:00:00.000005+14:00"),
        (LAST_INSTANT, WEST, "9999-12-31T11:59:59.999999-12:00"),
        (LAST_INSTANT, EAST, "9999-12-31T23:59:59.999999+00:00"),
        (FIRST, WEST, "0001-01-01T00:00:00+00:00"),
        (datetime(9999, 12, 31, 20, tzinfo=timezone(timedelta(hours=1))), EAST, "9999-12-31T19:00:00+00:00"),
    ],
)
def test_an_instant_is_shown_in_a_zone_and_in_utc_where_it_has_no_date_there(
    at: datetime, zone: timezone, shown: str
) -> None:
    assert in_zone(at, zone).isoformat() == shown


def test_an_event_is_of_its_first_subject_by_its_surrogate() -> None:
    facts = dict.fromkeys(("event_id", "source", "id", "type", "channel"), "x")
    named = {"version": 1, "occurred_at": moment(AT), "subjects": [["s", "email", ""], ["t", "user", "web"]]}
    assert recorded(3, AT, orjson.dumps(facts | named)).subject == "s"


def test_a_body_is_read_by_the_names_that_stand_in_it_for_ever() -> None:
    facts = {
        "event_id": uuid_text(event_id_of("shop", "1")), "source": "shop", "id": "1", "type": "call.ended", "version": 2,
        "occurred_at": "2026-01-31T12:00:00.000005Z", "occurred_at_given": False, "channel": "phone", "direction": "inbound",
        "subjects": [["s", "email", ""], ["t", "user", "web"]], "references": [["o", "order", ""]], "contact": "c",
        "extensions": {"purpose": "p", "snapshot": 3}, "principal": "key:1", "on_behalf_of": "bob", "correlation": "x",
        "causation": "y", "import": "i", "stream": "z", "future": True, "patched_subject": ["u", "user", ""],
            "data": {"n": 2**64 - 1}, "sealed": [["k", "data", "AA=="]],
    }  # fmt: skip
    body = decode_body(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS))
    renamed = {"data": "data", "sealed": "sealed", "import": "import_id"}
    for name, fact in facts.items():
        found = getattr(body, renamed.get(name, name))
        expected = AT if name == "occurred_at" else fact
        assert orjson.dumps(found) == orjson.dumps(expected), name
    assert facts.keys() == {field.encode_name for field in msgspec.structs.fields(Body)}


def test_what_a_body_leaves_out_is_as_if_it_were_not_there() -> None:
    facts = dict.fromkeys(("event_id", "source", "id", "type", "channel"), "x")
    found = recorded(3, AT, orjson.dumps({**facts, "version": 1, "occurred_at": moment(AT)}))
    assert (found.event.data, found.event.sealed, found.subject, found.event.occurred_at_given) == (
        {},
        [],
        None,
        True,
    )


@pytest.mark.parametrize("raw", [b"", b"state", b"{}", b"[]", b'{"event_id":1}', b"\xff"])
def test_what_touchlog_did_not_write_is_no_body(raw: bytes) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decode_body(raw)


def test_the_first_line_is_canonical_json_itself() -> None:
    line = first_line(LOG_ID, 2**62, AT)
    assert orjson.dumps(orjson.loads(line), option=orjson.OPT_SORT_KEYS) == line
