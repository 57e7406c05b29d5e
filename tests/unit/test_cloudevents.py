"""From bytes to a draft, or to the list of what is wrong: every item answered for itself (SEMANTICS §1)."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import domain.touchpoints  # noqa: F401 - registers every declared type
from adapters.intake.cloudevents import Draft, Receipt, draft
from adapters.intake.payloads import event_of, read_payload, split_batch
from domain.errors import Invalid

RECEIVED_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
GOOD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "1",
    "source": "shop",
    "type": "call.ended",
    "time": "2026-01-31T11:00:00Z",
    "subject": "email:ann@example.com",
    "data": {"duration_s": 60},
}


def drafted(event: dict[str, Any] | bytes, **arguments: Any) -> Draft:
    raw = event if isinstance(event, bytes) else orjson.dumps(event)
    return draft(read_payload(raw), Receipt.of(RECEIVED_AT), **arguments)


def codes(event: dict[str, Any] | bytes, **arguments: Any) -> dict[str, str]:
    """What is wrong with *event*: pointer and code of every problem."""
    with pytest.raises(Invalid) as wrong:
        drafted(event, **arguments)
    assert all(problem.detail for problem in wrong.value.problems)
    return {problem.pointer: problem.code for problem in wrong.value.problems}


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in GOOD.items() if name not in names}


# ---- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"id":',
        b'{"id":"1"',
        b'{"id":"1",}',
        b"{'id':1}",
        b"nul",
        b'{"a":01}',
        b'{"a":1} x',
    ],
)
def test_what_is_not_json_is_said_to_be_so(raw: bytes) -> None:
    assert codes(raw) == {"": "not_json"}


@pytest.mark.parametrize("cut", range(1, 120, 7))
def test_truncated_json_is_refused_wherever_it_ends(cut: int) -> None:
    assert codes(orjson.dumps(GOOD)[:-cut]) == {"": "not_json"}


@pytest.mark.parametrize("raw", [b"1", b'"text"', b"null", b"[]", b"[{}]", b"true", b"1.5"])
def test_json_that_is_no_object_is_refused(raw: bytes) -> None:
    assert codes(raw) == {"": "not_an_object"}


@pytest.mark.parametrize("deep", [300, 2000, 100_000])
def test_what_is_nested_too_deeply_is_refused(deep: int) -> None:
    assert codes(b'{"a":' * deep + b"1" + b"}" * deep).keys() == {"/a" * 10}
    assert codes(b'{"a":' + b"[" * deep + b"]" * deep + b"}").keys() == {"/a" + "/0" * 9}


def test_bytes_that_are_no_utf8_are_refused() -> None:
    assert codes(b'{"id":"\xff\xfe"}') == {"/id": "not_utf8"}
    assert codes(orjson.dumps(GOOD).replace(b"shop", "shöp".encode("latin-1"))) == {"/source": "not_utf8"}


@pytest.mark.parametrize(
    ("raw", "place"),
    [
        (b'{"a":{"b":[1,{"c/d":"\xfc"}]}}', "/a/b/1/c~1d"),
        (b'{"a":1,"\xfc":2}', ""),
        (b'{"a":{"x":1,"\xfc":2}}', "/a"),
        (b'{"\\u00fc":"\xfc"}', "/ü"),
        (b'["a","\xfc"]', "/1"),
        (b'"\xfc"', ""),
        (b'{"a":"\xfc', ""),
        (b"\xfc", ""),
        (b'{"a":' * 300 + b'"\xfc"' + b"}" * 300, "/a" * 10),
    ],
)
def test_bytes_that_are_no_utf8_are_told_with_their_place(raw: bytes, place: str) -> None:
    assert codes(raw) == {place: "not_utf8"}


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
def test_what_every_cloudevent_has_is_asked_for(name: str) -> None:
    assert f"/{name}" in codes(without(name))


@pytest.mark.parametrize("name", ["id", "source", "type"])
@pytest.mark.parametrize("value", [1, 1.5, True, [], {}, ["a"], "", "a\nb", "a\x7fb", "x" * 1025])
def test_names_of_another_kind_or_form_are_refused(name: str, value: Any) -> None:
    assert f"/{name}" in codes({**GOOD, name: value})


@pytest.mark.parametrize("name", ["id", "source", "type", "channel"])
@pytest.mark.parametrize("blank", [" ", "   ", "\u00a0", "\u3000 "])
def test_a_name_of_blanks_names_nothing(name: str, blank: str) -> None:
    # given what a template leaves behind where a value is missing: every event of it would have this one name
    (told,) = codes({**GOOD, name: blank}).items()
    assert told == (f"/{name}", "wrong_type" if name == "channel" else "empty")


@pytest.mark.parametrize("version", ["0.3", "1", "1.0.2", 1.0, 1, None, ""])
def test_another_version_of_cloudevents_is_refused(version: Any) -> None:
    assert codes({**GOOD, "specversion": version}) == {"/specversion": "specversion"}


@pytest.mark.parametrize(
    ("time", "code"),
    [
        ("2026-01-31T12:00:00", "no_zone"),
        ("2026-01-31T12:00:00.123456", "no_zone"),
        ("2026-01-31", "not_a_time"),
        ("31.01.2026 12:00", "not_a_time"),
        ("2026-02-30T12:00:00Z", "not_a_time"),
        ("2026-01-31T25:00:00Z", "not_a_time"),
        ("now", "not_a_time"),
        ("", "not_a_time"),
        (1769860800, "wrong_type"),
        (1769860800.5, "wrong_type"),
        ({"$date": 1}, "wrong_type"),
        ("1899-12-31T23:59:59Z", "out_of_range"),
        ("0001-01-01T00:00:00+14:00", "out_of_range"),
        ("9999-12-31T23:59:59-14:00", "out_of_range"),
        ("2027-02-02T12:00:01Z", "out_of_range"),
        ("20260-01-31T12:00:00Z", "not_a_time"),
    ],
)
def test_a_time_that_is_none_or_lies_outside_is_refused(time: Any, code: str) -> None:
    assert codes({**GOOD, "time": time}) == {"/time": code}


@pytest.mark.parametrize(
    ("time", "occurred_at", "future"),
    [
        ("1900-01-01T00:00:00Z", "1900-01-01T00:00:00.000000Z", False),
        ("2026-01-31T13:00:00+01:00", "2026-01-31T12:00:00.000000Z", False),
        ("2026-01-31T12:00:00.000001Z", "2026-01-31T12:00:00.000001Z", True),
        ("2027-02-01T12:00:00Z", "2027-02-01T12:00:00.000000Z", True),
        ("2026-01-31t11:00:00z", "2026-01-31T11:00:00.000000Z", False),
    ],
)
def test_a_time_is_kept_in_one_spelling_and_the_future_is_flagged(
    time: str, occurred_at: str, future: bool
) -> None:
    found = drafted({**GOOD, "time": time})
    assert (found.occurred_at, found.occurred_at_given, found.future) == (occurred_at, True, future)


@pytest.mark.parametrize("event", [without("time"), {**GOOD, "time": None}])
def test_without_a_time_that_of_receipt_stands_in_and_says_so(event: dict[str, Any]) -> None:
    found = drafted(event)
    assert (found.occurred_at, found.occurred_at_given) == ("2026-01-31T12:00:00.000000Z", False)


@pytest.mark.parametrize("where", ["id", "source", "subject", "data", "key", "extension"])
@pytest.mark.parametrize("bad", ["\\u0000", "\\ud800", "\\udfff", "\\ud800x", "\\udc00\\ud800"])
def test_nul_and_lone_surrogates_are_refused_wherever_they_stand(where: str, bad: str) -> None:
    places = {
        "id": {**GOOD, "id": "a?b"},
        "source": {**GOOD, "source": "a?b"},
        "subject": {**GOOD, "subject": "user:a?b"},
        "data": {**GOOD, "data": {"deep": [{"er": "a?b"}]}},
        "key": {**GOOD, "data": {"a?b": 1}},
        "extension": {**GOOD, "own": "a?b"},
    }
    found = codes(json.dumps(places[where]).replace("a?b", f"a{bad}b").encode())
    assert set(found.values()) == {"nul" if bad == "\\u0000" else "lone_surrogate"}


def test_a_whole_surrogate_pair_is_a_character() -> None:
    raw = json.dumps({**GOOD, "id": "?"}).replace("?", "\\ud83d\\ude00").encode()
    assert drafted(raw).id == "😀"


def test_of_a_thousand_one_with_a_lone_surrogate_is_refused_and_the_others_are_not() -> None:
    events = [json.dumps({**GOOD, "id": str(n), "data": {"summary": "?"}}) for n in range(1000)]
    events[617] = events[617].replace("?", "\\ud800")
    found = split_batch(f"[{', '.join(events)}]".encode())
    assert [raw.decode() for raw in found] == events
    assert codes(found[617]) == {"/data/summary": "lone_surrogate"}
    assert [drafted(raw).id for n, raw in enumerate(found) if n != 617] == [
        str(n) for n in range(1000) if n != 617
    ]


def test_of_a_batch_one_with_bytes_that_are_no_utf8_is_refused_and_the_others_are_not() -> None:
    good = orjson.dumps(GOOD)
    found = split_batch(b"[" + b" ,\n".join([good, good.replace(b"shop", b"sh\xf6p"), good]) + b"]")
    assert found == [good, good.replace(b"shop", b"sh\xf6p"), good]
    assert codes(found[1]) == {"/source": "not_utf8"}
    assert drafted(found[2]).id == "1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b'"a"',
        b"[",
        b"[{}",
        b"[{},",
        b"[{},]",
        b"[{}] []",
        b"[{}}",
        b"[{} {}]",
        b'[{"a":}]',
        b'["\xff]',
        b"[1 2]",
    ],
)
def test_a_body_that_is_no_array_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(Invalid):
        split_batch(body)


def test_an_empty_array_is_an_empty_batch() -> None:
    assert split_batch(b" [ ] ") == []


def test_everything_that_is_wrong_is_told_at_once() -> None:
    found = codes(
        {
            "specversion": "2",
            "id": 7,
            "type": "call.ended",
            "time": "x",
            "direction": "up",
            "data": {"duration_s": "long"},
            "snapshot": -1,
        }
    )
    assert found.keys() == {
        "/specversion",
        "/id",
        "/source",
        "/time",
        "/direction",
        "/data/duration_s",
        "/snapshot",
    }


@pytest.mark.parametrize(
    "type_",
    [
        "identity.linked",
        "verdict.recorded",
        "access.recorded",
        "erasure.requested",
        "hold.placed",
        "import.started",
    ],
)
def test_types_of_touchlogs_own_are_refused_from_outside(type_: str) -> None:
    assert codes({**GOOD, "type": type_, "data": {}})["/type"] == "forbidden"
    assert codes({**GOOD, "source": "touchlog/verdicts"}) == {"/source": "forbidden"}


def test_data_and_data_base64_exclude_each_other() -> None:
    assert "/data_base64" in codes({**GOOD, "type": "my.own", "data_base64": "AA=="})
    assert drafted({**without("data"), "type": "my.own", "data_base64": "AA=="}).data == {
        "data_base64": "AA=="
    }


@pytest.mark.parametrize("data", [1, "text", [1], True])
def test_data_of_a_declared_type_is_an_object_and_that_of_others_may_be_anything(data: Any) -> None:
    assert codes({**GOOD, "data": data})["/data"] == "wrong_type"
    assert drafted({**GOOD, "type": "my.own", "data": data}).data == {"value": data}


# ---- numbers --------------------------------------------------------------------------------------------


@given(st.integers(-(2**63), 2**64 - 1))
@example(2**53 + 1)
@example(2**63 - 1)
@example(2**64 - 1)
@example(-(2**63))
def test_integers_are_exact_within_64_bits(number: int) -> None:
    raw = json.dumps({**GOOD, "type": "my.own", "data": {"n": [number]}}).encode()
    found = drafted(raw)
    assert found.data == {"n": [number]}
    assert type(found.data["n"][0]) is int
    assert str(number).encode() in found.canonical


@given(st.one_of(st.integers(min_value=2**64), st.integers(max_value=-(2**63) - 1)))
@example(2**64)
@example(-(2**63) - 1)
@example(10**400)
def test_integers_beyond_are_refused_with_the_advice_to_send_a_text(number: int) -> None:
    raw = json.dumps({**GOOD, "type": "my.own", "data": {"n": [{"m": number}]}}).encode()
    with pytest.raises(Invalid) as wrong:
        drafted(raw)
    assert [(p.pointer, p.code) for p in wrong.value.problems] == [("/data/n/0/m", "integer_too_large")]
    assert "text" in wrong.value.problems[0].detail


@pytest.mark.parametrize("digits", ["9" * 4301, "-" + "9" * 100_000])
def test_an_integer_of_more_digits_than_python_reads_is_refused_as_every_other_and_spoils_no_neighbour(
    digits: str,
) -> None:
    good = orjson.dumps(GOOD)
    bad = json.dumps({**GOOD, "type": "my.own", "data": {"n": [{"m": "?"}]}}).replace('"?"', digits).encode()
    assert codes(bad) == {"/data/n/0/m": "integer_too_large"}
    lone = good.replace(b"shop", b"\\ud800")
    assert split_batch(b"[" + b",".join([good, bad, lone]) + b"]") == [good, bad, lone]


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_of_json_is_told_where_it_stands(constant: str) -> None:
    bad = json.dumps({**GOOD, "data": {"note": "NaN", "n": [0, "?"]}}).replace('"?"', constant).encode()
    with pytest.raises(Invalid) as wrong:
        drafted(bad)
    assert [(p.pointer, p.code) for p in wrong.value.problems] == [("/data/n/1", "not_json")]
    assert constant in wrong.value.problems[0].detail


def test_a_text_that_is_cut_off_is_told_without_a_word_twice() -> None:
    with pytest.raises(Invalid) as wrong:
        drafted(b'{"id":"1')
    assert (
        wrong.value.problems[0].detail
        == "The event is not JSON: Unterminated string starting at character 6."
    )


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1E999", "9" * 400 + ".5"])
def test_a_number_that_no_float_holds_is_named_with_the_advice_to_send_a_text(number: str) -> None:
    # given a number in the grammar of JSON, beyond what 64 bits hold
    raw = json.dumps({**GOOD, "type": "my.own", "data": {"n": [{"a/b": 0}]}}).replace(": 0", f": {number}")

    # when it is read, then its very place is told and what would be right
    with pytest.raises(Invalid) as wrong:
        drafted(raw.encode())
    assert [(p.pointer, p.code) for p in wrong.value.problems] == [("/data/n/0/a~1b", "number_too_large")]
    assert "text" in wrong.value.problems[0].detail


@pytest.mark.parametrize(
    "members",
    ['"data":{' + ",".join(f'"k{n}":1,"k{n}":1' for n in range(250)) + "}"]
    + [f'"data":[{",".join([bad] * 500)}]' for bad in ("99999999999999999999", '"\\u0000"')]
    + [",".join(f'"a_{n}":1' for n in range(500))],
)
def test_of_hundreds_of_mistakes_in_one_event_the_first_are_told(members: str) -> None:
    # given one event that is wrong in hundreds of places
    raw = json.dumps(without("data"))[:-1] + f",{members}}}"

    # when it is refused, then the answer is not many times as long as the event
    with pytest.raises(Invalid) as wrong:
        drafted(raw.encode())
    assert len(wrong.value.problems) == 20


@pytest.mark.parametrize("bad", ["18446744073709551616", "1e400", '"\\u0000"', '"\\ud800"', '0,"m/~":0'])
def test_a_place_is_told_as_a_json_pointer_has_it(bad: str) -> None:
    # given something wrong under a key that holds what separates the steps of a pointer (RFC 6901)
    raw = json.dumps({**GOOD, "type": "my.own", "data": {"m/~": 0}}).replace(": 0", f": {bad}")

    # then slash and tilde are escaped, so that the pointer leads there
    assert codes(raw.encode()).keys() == {"/data/m~1~0"}


def test_a_leap_second_is_told_as_what_it_is() -> None:
    # given a time that RFC 3339 knows, and that no clock of this machine has
    with pytest.raises(Invalid) as wrong:
        drafted({**GOOD, "time": "2016-12-31T23:59:60Z"})

    # then it is not called no time, and its sender hears what to write
    (problem,) = wrong.value.problems
    assert (problem.pointer, problem.code) == ("/time", "not_a_time")
    assert "leap second" in problem.detail
    assert "59" in problem.detail


def test_a_time_beyond_the_calendar_is_told_with_its_own_year() -> None:
    with pytest.raises(Invalid) as wrong:
        drafted({**GOOD, "time": "9999-12-31T23:59:59-14:00"})
    assert "lies in 9999" in wrong.value.problems[0].detail


# ---- a key twice ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "member",
    [
        '"id":"2"',
        '"id" :"2"',
        '"id"  :"2"',
        '"id"\t:"2"',
        '"id"\n:"2"',
        '"id"\r\n : "2"',
        '"\\u0069d":"2"',
        '"i\\u0064" : "2"',
        '"id":"1"',
    ],
)
def test_a_key_that_stands_twice_is_named_in_every_layout(member: str) -> None:
    for raw in (
        f"{orjson.dumps(GOOD).decode()[:-1]},{member}}}",
        f"{json.dumps(GOOD, indent=2)[:-2]},\n  {member}\n}}",
    ):
        with pytest.raises(Invalid) as wrong:
            drafted(raw.encode())
        assert [(p.pointer, p.code) for p in wrong.value.problems] == [("/id", "duplicate_key")]
        assert "'id'" in wrong.value.problems[0].detail


@pytest.mark.parametrize("hides", [r'"x\u0022:":3', r'"v":"\u003a"', r'"v":"\u003A"', r'"b" :3', '"b"\n:3'])
def test_a_key_that_stands_twice_is_found_behind_what_makes_up_for_its_mark(hides: str) -> None:
    with pytest.raises(Invalid) as wrong:
        read_payload(f'{{"a":1,"a":2,{hides}}}'.encode())
    assert [p.code for p in wrong.value.problems] == ["duplicate_key"]


@pytest.mark.parametrize("text", ['a":b', 'a" :b', '\\":', '"', '{"a":1,"a":2}', '":":":'])
def test_texts_that_look_like_keys_are_no_keys(text: str) -> None:
    for separators in ((",", ":"), (", ", " : ")):
        raw = json.dumps({**GOOD, "data": {"summary": text, text: text}}, separators=separators).encode()
        assert drafted(raw).data == {"summary": text, text: text}


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-9, 9),
    st.sampled_from(["", "a", '":', '" :', "\\", '"', "\u00e9", "a:b"]),
)
KEYS = st.sampled_from(["a", "b", "", '"', '":', '" :', "\\", ":", "\u00e9"])
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.lists(st.tuples(KEYS, inner), max_size=4).map(tuple)
    ),
    max_leaves=12,
)


def spelled(tree: Any, chance: Any, *, top: bool = False) -> str:
    """Write *tree* (an object is a tuple of pairs, so that keys can repeat) with any blanks and escapes."""

    def blank() -> str:
        return str(chance.choice(["", "", "", " ", "  ", "\n", "\t", "\r\n", " \t"]))

    def text(value: str) -> str:
        words = ""
        for character in value:
            plain, escaped = (
                json.dumps(character, ensure_ascii=False)[1:-1],
                character.encode("utf-16-be").hex("-", 2),
            )
            escaped = "".join(f"\\u{part}" for part in escaped.split("-"))
            words += chance.choice([plain, plain, escaped, escaped.upper().replace("U", "u")])
        return f'"{words}"'

    if isinstance(tree, tuple):
        members = (f"{blank()}{text(k)}{blank()}:{blank()}{spelled(v, chance)}{blank()}" for k, v in tree)
        return "{" + ",".join(members) + "}"
    if isinstance(tree, list):
        return "[" + ",".join(f"{blank()}{spelled(v, chance)}{blank()}" for v in tree) + "]"
    return text(tree) if isinstance(tree, str) else json.dumps(tree)


def repeats(raw: str) -> bool:
    """Whether any object of *raw* has a key twice, by the slow and sure way."""
    found = []
    json.loads(raw, object_pairs_hook=lambda pairs: found.append(len(dict(pairs)) < len(pairs)))
    return any(found)


@settings(max_examples=600)
@given(st.lists(st.tuples(KEYS, TREES), max_size=5).map(tuple), st.randoms(use_true_random=False))
def test_repeated_keys_are_found_exactly_where_there_are_some(tree: Any, chance: Any) -> None:
    raw = spelled(tree, chance)
    if repeats(raw):
        with pytest.raises(Invalid) as wrong:
            read_payload(raw.encode())
        assert {p.code for p in wrong.value.problems} == {"duplicate_key"}
    else:
        assert read_payload(raw.encode()).event == json.loads(raw)


# ---- repeats and conflicts ------------------------------------------------------------------------------


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=4), SCALARS
    ),
    st.randoms(use_true_random=False),
)
def test_one_payload_has_one_canonical_form_in_every_spelling(data: dict[str, Any], chance: Any) -> None:
    members = list(data.items())
    chance.shuffle(members)
    one = read_payload(spelled(tuple(members), chance).encode())
    other = read_payload(spelled(tuple(data.items()), chance).encode())
    assert one.canonical == other.canonical == event_of(data).canonical
    assert orjson.loads(one.canonical) == data


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"a": "1"}),
        ({"a": 1}, {"a": 1.5}),
        ({"a": None}, {}),
        ({"a": []}, {"a": {}}),
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"time": "2026-01-31T12:00:00Z"}, {}),
        ({"time": "2026-01-31T12:00:00Z"}, {"time": "2026-01-31T13:00:00+01:00"}),
    ],
)
def test_payloads_that_differ_have_different_forms(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert event_of(one).canonical != event_of(other).canonical


# ---- identifiers ----------------------------------------------------------------------------------------


def test_all_that_is_named_is_found_in_order_of_priority() -> None:
    found = drafted(
        {
            **GOOD,
            "subject": "anonymous:x",
            "identifiers": "email:Ann@Example.com, order:7,crm:1",
            "data": {"duration_s": 1, "identifiers": {"phone": ["+442071838750"], "user": 7}},
        }
    )
    assert [(i.kind, i.value) for i in found.identifiers] == [
        ("user", "7"),
        ("crm", "1"),
        ("email", "ann@example.com"),
        ("phone", "+442071838750"),
        ("anonymous", "x"),
    ]
    assert [(i.kind, i.value) for i in found.references] == [("order", "7")]


@pytest.mark.parametrize(
    "ref",
    [
        "user:null",
        "user:anonymous",
        "user:[object Object]",
        "user:0",
        "user: ",
        "nonsense",
        "user:" + "x" * 1025,
        7,
    ],
)
def test_an_identifier_that_names_nobody_is_dropped_and_told_and_the_event_is_kept(ref: Any) -> None:
    found = drafted({**GOOD, "subject": ref})
    assert found.identifiers == []
    assert [(w.pointer, w.code[:11]) for w in found.warnings] == [("/subject", "identifier_")]


def test_more_than_a_thousand_identifiers_are_refused() -> None:
    assert codes({**GOOD, "identifiers": ",".join(f"user:u{n}" for n in range(1001))}) == {
        "/identifiers": "too_many"
    }
    assert (
        len(
            drafted(
                {**without("subject"), "identifiers": ",".join(f"user:u{n}" for n in range(1000))}
            ).identifiers
        )
        == 1000
    )


def test_a_snapshot_is_a_number_or_a_text_of_digits() -> None:
    assert drafted({**GOOD, "snapshot": 12}).extensions["snapshot"] == 12
    assert drafted({**GOOD, "snapshot": "12"}).extensions["snapshot"] == 12
    for wrong in (-1, 1.5, "twelve", "", True, [1], "²"):
        assert codes({**GOOD, "snapshot": wrong}) == {"/snapshot": "wrong_type"}
    assert drafted({**GOOD, "snapshot": 2**63 - 1}).extensions["snapshot"] == 2**63 - 1
    for beyond in (2**63, 2**64 - 1, "9223372036854775808", "1" * 20, "9" * 5000):
        assert codes({**GOOD, "snapshot": beyond}) == {"/snapshot": "out_of_range"}


def test_what_an_event_is_found_by_has_room_in_an_index() -> None:
    # given a cause of as many characters as are taken, each of four bytes, and an actor that is a novel
    # then the first is refused by its place, and of the second the data is kept, which is all that it is
    assert codes({**GOOD, "causationid": "\U0001f600" * 1024}) == {"/causationid": "too_long"}
    assert drafted({**GOOD, "causationid": "x" * 1024}).causation == "x" * 1024
    told = drafted({**GOOD, "type": "my.own", "data": {"actor": "n" * 501}})
    assert (told.on_behalf_of, len(told.data["actor"])) == (None, 501)
    assert drafted({**GOOD, "type": "my.own", "data": {"actor": "n" * 500}}).on_behalf_of == "n" * 500


def test_the_name_of_a_notice_has_room_in_an_index() -> None:
    # given a consent under a notice whose name is longer than any name
    given = {**GOOD, "type": "consent.given", "data": {"notice": {"id": "n" * 501, "version": "1"}}}

    # then it is refused by its place; one that is as long as can be is taken
    assert codes(given).keys() == {"/data/notice/id"}
    assert drafted({**given, "data": {"notice": {"id": "n" * 500, "version": "1"}}}).data


def test_extensions_of_the_sources_own_are_taken_for_personal() -> None:
    found = drafted({**GOOD, "agentnote": "likes tea", "purpose": "marketing.news"})
    assert found.personal_extensions == {"agentnote": "likes tea"}
    assert found.extensions == {"purpose": "marketing.news"}


def test_a_year_before_receipt_and_a_day_after_are_both_taken() -> None:
    for span in (timedelta(days=-365), timedelta(days=1)):
        at = (RECEIVED_AT + span).isoformat()
        assert drafted({**GOOD, "time": at}).occurred_at_given


@pytest.mark.parametrize(
    ("levels", "is_taken"), [(1, True), (252, True), (253, False), (1_100, False), (30_000, False)]
)
def test_what_nests_too_deeply_is_told_with_its_place(levels: int, is_taken: bool) -> None:
    deep = '{"in": [' * (levels // 2) + "{" * (levels % 2) + "}" * (levels % 2) + "]}" * (levels // 2)
    raw = f'{{"id": "1", "note": "a \\"quoted: [{{\\" text", "data": {{"list": [1, {{}}, 2], "a/b": {deep}}}}}'.encode()

    if is_taken:
        assert read_payload(raw).event["id"] == "1"
        return
    with pytest.raises(Invalid) as told:
        read_payload(raw)

    (problem,) = told.value.problems
    assert (problem.pointer[:16], problem.code) == ("/data/a~1b/in/0/", "nested_too_deeply")
    assert "254 levels" in problem.detail


def test_of_a_list_the_item_that_nests_too_deeply_is_told() -> None:
    # given a list with commas of every depth before the item that nests too deeply
    deep = "[" * 300 + "]" * 300
    raw = f'{{"data": {{"list": [1, {{"a": [1, 2], "b": 2}}, "x, y", {deep}, 5]}}}}'.encode()
    # when it is read
    with pytest.raises(Invalid) as told:
        read_payload(raw)
    # then that item is told
    assert told.value.problems[0].pointer.startswith("/data/list/3/0/")


def test_brackets_in_a_text_that_does_not_end_nest_nothing() -> None:
    # given a line that was cut off within a text, which holds escaped quotes and more brackets than may nest
    raw = rb'{"data": {"html": "a \"quoted\" ' + rb"\"[" * 300
    # when it is read
    with pytest.raises(Invalid) as told:
        read_payload(raw)
    # then it is no JSON; nobody is told to nest less
    assert told.value.problems[0].code == "not_json"
