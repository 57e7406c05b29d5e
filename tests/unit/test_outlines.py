"""Events that look like one before take a shorter way, and become the same bytes."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import domain.touchpoints  # noqa: F401 - registers every declared type
from adapters.intake import ingest as ingest_module
from adapters.intake.ingest import Answer, Ingest
from adapters.intake.payloads import Payload, event_of, read_payload
from adapters.keys import KeyFile, SubjectKeys
from adapters.postgres.event_log import Appended, ErasedMeanwhile, Item
from adapters.postgres.subjects import Named
from adapters.principal import Principal
from domain.identity import Identifier

NOW = datetime(2026, 6, 1, 12, 0, 0, 123456, tzinfo=UTC)
ADMIN = Principal("k1", "admin")
ADAPTER = Principal("k2", "adapter", sources=("shop", "app*"))


class Subjects:
    """The subjects of a test: each known once it was asked for, its key made of its name and of how often was forgotten."""

    def __init__(self) -> None:
        self.erasures = self.forgotten = 0
        self.seen: dict[Named, SubjectKeys] = {}
        self.resolutions = 0

    def known(self, named: Named) -> SubjectKeys | None:
        return self.seen.get(named)

    async def resolve(self, wanted: Iterable[Named]) -> dict[Named, SubjectKeys]:
        self.resolutions += 1
        for named in wanted:
            if named not in self.seen:
                made = hashlib.sha256(repr((self.erasures, named)).encode()).digest()
                self.seen[named] = SubjectKeys(made[:16], made)
        return {named: self.seen[named] for named in wanted}

    async def forget(self) -> None:
        self.seen = {}
        self.erasures += 1
        self.forgotten += 1


class Writer:
    """Keeps what it is given; refuses what was resolved before the last erasure."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self.head = 0
        self.refuses = 0

    async def append(self, items: Sequence[Item], *, erasures: int | None = None) -> list[Appended]:
        if self.refuses:
            self.refuses -= 1
            raise ErasedMeanwhile("A person was erased meanwhile.")
        self.items += items
        return [Appended("recorded", self.head + n + 1) for n in range(len(items))]


class Refused:
    """Where refused items would be kept."""

    async def keep(self, kept: Sequence[Any]) -> None:
        pass


class House:
    """An ingest with nothing behind it; one that is whole never takes the shorter way."""

    def __init__(self, keys: KeyFile, *, whole: bool = False, spelled_after: int = 1) -> None:
        self.subjects, self.writer = Subjects(), Writer()
        self.ingest = Ingest(self.subjects, self.writer, keys, Refused(), clock=lambda: NOW, region="GB")  # type: ignore[arg-type]
        self.short = self.undecoded = 0
        outlines = self.ingest._outlines
        outlines.spelled_after, outlines.patience = spelled_after, 10**6
        item, spelled = outlines.item, outlines.spelled

        def counted(*args: Any) -> Item | Identifier | None:
            made = None if whole else item(*args)
            self.short += isinstance(made, Item)
            return made

        def counted_undecoded(*args: Any) -> tuple[str, Item] | Identifier | None:
            made = None if whole else spelled(*args)
            self.undecoded += isinstance(made, tuple)
            return made

        outlines.item = counted  # type: ignore[method-assign, assignment]
        outlines.spelled = counted_undecoded  # type: ignore[method-assign, assignment]

    def answer(self, events: Sequence[bytes | Payload], principal: Principal = ADMIN) -> Answer:
        async def asked() -> Answer:
            return await self.ingest.accept(events, principal, way_in="http")

        return asyncio.run(asked())


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyFile:
    return KeyFile.open_or_make(Path(tmp_path_factory.mktemp("keys")) / "keys.json")


@pytest.fixture(autouse=True, scope="module")
def _same_nonces() -> Any:
    """Sealed bytes of two houses can be compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_module, "nonces", lambda _: lambda: b"0123456789ab")
        yield


def event(type_: str, subject: str, data: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "e-1",
        "source": "shop",
        "type": type_,
        "time": "2026-05-31T10:00:00Z",
        "subject": subject,
        "data": data,
    } | others


CALL = event(
    "call.ended",
    "email:ann@example.com",
    {
        "duration_s": 90,
        "outcome": "resolved",
        "from_number": "+442071838750",
        "summary": "asked",
        "queue": "care",
    },
    direction="inbound",
)
EVENTS = [
    CALL,
    event("call.ended", "phone:+442071838750", {"duration_s": 90}, channel="phone", datacontenttype="application/json"),
    event("call.ended", "order:77", {"duration_s": 1, "queue": "a"}),
    event("order.placed", "user@shop:7", {"order_id": "o-1", "total": 12.5, "currency": "EUR"}),
    event("order.placed", "email:ann@example.com", {"order_id": "o", "lines": [{"sku": "S", "quantity": 2, "price": 5}]}),
    event("web.page_viewed", "anonymous:a-1", {"url": "https://shop.example/?a=1", "properties": {"email": "x@y.example"}}),
    event("web.page_viewed", "anonymous:a-1", {"name": "Shoes", "context": {"ip": "203.0.113.7", "page": {"title": "t"}}}),
    event("stranger.came", "user:9", {"of_all": [1, {"name": "Ann"}], "n": 1}),
    event("custom.stranger", "user:9", {"a": 1}),
    event("profile.updated", "user:9", {"traits": {"name": "Ann"}}),
    event("email.received", "email:ann@example.com", {"subject": "STOP", "text": "please stop"}),
    event("call.ended", "email:ann@example.com", {"duration_s": 3, "participants": [{"ref": "email:bob@example.com"}]}),
    event("consent.given", "email:ann@example.com", {"purpose": "marketing", "contact": "email:ann@example.com"}),
    event("consent.confirmed", "email:ann@example.com", {"purpose": "marketing", "of": {"source": "shop", "id": "1"}}),
    event("call.ended", "email:ann@example.com", {"duration_s": 3, "agent": "agent01", "actor": "agent02"}),
    event("call.ended", "email:ann@example.com", {"duration_s": 3, "undeclared": "x", "mail": "a@b.example"}),
    event("call.ended", "email:ann@example.com", {"duration_s": 3, "identifiers": {"phone": "+442071838750"}}),
    event("call.ended", "email:ann@example.com", {"duration_s": 3}, purpose="care"),
    event("call.ended", "email:ann@example.com", {}),
    event("web.page_viewed", "anonymous:a-1", {"url": "https://shop.example/?a=1"}),
    event("order.placed", "email:ann@example.com", {"order_id": "o-1", "amount_minor": 1999, "currency": "EUR"}),
    event("identity.linked", "email:ann@example.com", {"a": 1}),
]  # fmt: skip

BEFORE = [orjson.dumps(each) for each in EVENTS]

ODD: list[Any] = [
    None, "", " ", "x", 0, 1, -1, 2.5, True, [], {}, [1], {"a": 1}, "a\x00b", "tab\there", "line\nbreak", "\u0085", "ü", "Ａ",
    "ann@example.com", "+442071838750", "write to +44 20 7183 8750", "203.0.113.7", "::1", "https://a.example/?q=1&utm_source=b",
    "https://a.example/p", "2026-05-31T10:00:00Z", "a.b.c.d", "%", "100 %b %s", 'quo"te', "back\\slash", "x" * 1025, "x" * 65, 2**53 + 1,
    {"email": "a@b.example"}, [{"phone": "+442071838750"}], ["a@b.example"], {"a@b.example": 1}, "touchlog/x", "application/json", "1.0",
    "ann\ud800", "\u00a0", "\u3000 ",
]  # fmt: skip
TIMES = [
    "2026-05-31T10:00:00Z", "2026-05-31T10:00:00.5Z", "2026-05-31T10:00:00.123456Z", "2026-05-31T10:00:00.1234567Z", "2026-05-31T10:00:00",
    "2026-05-31t10:00:00z", "2026-05-31 10:00:00Z", "2026-05-31T10:00:00+02:00", "2026-05-31T10:00:00-00:00", "2026-02-30T10:00:00Z",
    "2026-05-31T24:00:00Z", "2026-06-01T12:00:00.123457Z", "2026-06-01T12:00:00Z", "2027-06-02T12:00:00Z", "2027-06-02T12:00:01Z",
    "1899-12-31T23:59:59Z", "1900-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "20260531T100000000Z", "2026-05-31T10:00:60Z", 5, None, "",
]  # fmt: skip
SUBJECTS = [
    "email:ann@example.com", "email:ANN@Example.com", "email:bob@example.com", "phone:+442071838750", "phone:020 7183 8750", "order:77",
    "user@shop:7", "user:9", "user:null", "anonymous:a-1", "nobody", "", 5, "00000000-0000-4000-8000-000000000000", " email:ann@example.com ",
]  # fmt: skip


@st.composite
def changed(draw: st.DrawFn) -> dict[str, Any]:
    """One of the events with some of it replaced, left out or added."""
    one = orjson.loads(orjson.dumps(draw(st.sampled_from(EVENTS))))
    for _ in range(draw(st.integers(0, 2))):
        match draw(st.sampled_from(["time", "subject", "field", "attribute", "name", "less", "more"])):
            case "time":
                one["time"] = draw(st.sampled_from(TIMES))
            case "subject":
                one["subject"] = draw(st.sampled_from(SUBJECTS))
            case "field" if isinstance(one.get("data"), dict) and one["data"]:
                one["data"][draw(st.sampled_from(sorted(one["data"])))] = draw(st.sampled_from(ODD))
            case "attribute":
                one[draw(st.sampled_from(sorted(one)))] = draw(st.sampled_from(ODD))
            case "name":
                one[draw(st.sampled_from(["id", "source"]))] = draw(
                    st.sampled_from(["app-1", "shop", "other", "é", "id 7"])
                )
            case "less":
                del one[draw(st.sampled_from(sorted(one)))]
            case "more":
                one[
                    draw(
                        st.sampled_from(
                            ["channel", "direction", "datacontenttype", "purpose", "data_base64", "zone"]
                        )
                    )
                ] = draw(st.sampled_from(["inbound", "phone", "text/plain", *ODD]))
            case _:
                pass
    return one  # type: ignore[no-any-return]


def written(one: dict[str, Any]) -> bytes:
    """Its JSON, whatever is in it."""
    return orjson.dumps(one) if b"\\ud800" not in (text := _ascii(one)) else text


def _ascii(one: dict[str, Any]) -> bytes:
    import json

    return json.dumps(one).encode()


@settings(max_examples=120, deadline=None)
@given(
    st.lists(changed(), min_size=1, max_size=12),
    st.sampled_from([ADMIN, ADAPTER, Principal("k3", "admin", inside=True)]),
    st.booleans(),
)
def test_any_events_become_what_the_whole_way_makes_of_them(
    keys: KeyFile, events: list[dict[str, Any]], principal: Principal, as_payloads: bool
) -> None:
    # given a house that has seen events of these shapes, and one that never takes the shorter way
    quick, whole = House(keys), House(keys, whole=True)
    for _ in range(2):
        quick.answer(BEFORE)
        whole.answer(BEFORE)
    sent: list[bytes | Payload] = [written(each) for each in events]
    if as_payloads:
        sent = [
            event_of(orjson.loads(each)) for each in sent if isinstance(each, bytes) and b"\\u" not in each
        ]

    # when both are sent any events, one after the other and the same again
    for _ in range(2):
        answers = quick.answer(sent, principal), whole.answer(sent, principal)

        # then they answer the same, and what they append is the same
        assert msgspec.to_builtins(answers[0]) == msgspec.to_builtins(answers[1])
        assert quick.writer.items == whole.writer.items


def test_events_of_which_one_value_is_odd_become_what_the_whole_way_makes_of_them(keys: KeyFile) -> None:
    # given events of every shape, and the same with one value replaced by each of many
    quick, whole = House(keys), House(keys, whole=True)
    sent = []
    for one in EVENTS:
        for name in one:
            odd = {"time": TIMES, "subject": SUBJECTS}.get(name, []) + ODD
            sent += [one | {name: value} for value in odd]
        for field in one["data"]:
            sent += [one | {"data": one["data"] | {field: value}} for value in ODD]
    for principal in (ADMIN, ADAPTER):
        for events in (EVENTS, sent):
            # when both are sent them
            texts = [written(each) for each in events]
            answers = quick.answer(texts, principal), whole.answer(texts, principal)
            # then they answer the same, and what they append is the same
            for each, *told in zip(events, answers[0].results, answers[1].results, strict=True):
                assert told[0] == told[1], each
    for made, item in zip(quick.writer.items, whole.writer.items, strict=True):
        assert made == item
    assert quick.short > 1000


def test_what_touchlog_itself_may_record_is_not_learned_for_others(keys: KeyFile) -> None:
    # given a name that only touchlog uses, and has used
    house = House(keys)
    forged = event("import.guessed", "user:9", {"name": "a"})
    inside = Principal("touchlog", "admin", inside=True)
    assert house.answer([orjson.dumps(forged)], inside).recorded == 1
    # when somebody sends the like
    # then it is refused
    assert house.answer([orjson.dumps(forged | {"id": "e-2"})]).rejected == 1


def test_events_of_a_known_shape_take_the_shorter_way(keys: KeyFile) -> None:
    # given events of which each was seen once
    house = House(keys, spelled_after=64)
    alike = EVENTS[:10]
    house.answer([orjson.dumps(each) for each in alike])
    assert house.short == 0
    # when their like comes again, of the same persons
    house.answer([orjson.dumps(each | {"id": "e-2", "time": "2026-05-30T10:00:00.25Z"}) for each in alike])
    assert house.short == 0, "a time of another spelling takes the whole way"
    house.answer([orjson.dumps(each | {"id": "e-3"}) for each in alike])
    # then all but those of types that are no touchpoints are ready at once
    assert house.short == len(alike) - 1


_VALUE = re.compile(rb'(?<=:)("[^"]*"|-?[0-9.]+|true|false|null)|(?<=\[)-?[0-9.]+')
ODD_BYTES = [
    b"0", b"-0", b"7", b"-7", b"007", b"1.0", b"1.10", b"0.1", b"-0.0", b"12.50", b"1e3", b"1E400", b"5e-324", b"0.30000000000000004",
    b"9007199254740993", b"999999999999999999", b"9223372036854775808", b"18446744073709551616", b"1" * 400, b"NaN", b"nil", b"true", b"false",
    b"null", b"[]", b"{}", b"[1]", b'{"a":1}', b'""', b'" "', b'"a%bc%%"', b'"\xc3\xbc"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\x7f"', b'"\x00"',
    b'"\x1f"', b'"tab\there"', b'"\\u0041"', b'"\\ud83d\\ude00"', b'"\\ud800"', b'"\\u0000"', b'"\\/"', b'"\\""', b'"\xf0\x9f\x98\x80"', b'"\xe2\x80\xa8"',
    b'"ann@example.com"', b'"+442071838750"', b'"203.0.113.7"', b'"::1"', b'"https://a.example/?q=1"', b'"/a?b=c"', b'"a: b"', b'"1.2.3.4.5"',
    b'"x" ', b' "x"', b'"x","n":1', b'"x","id":"e-9"', b'"' + b"x" * 1025 + b'"', b'"2026-02-30T10:00:00Z"', b'"2026-05-31T24:00:00Z"',
    b'"2026-05-31T10:60:00Z"', b'"2026-05-31T10:00:60Z"', b'"2026-05-31T10:00:00.1234567Z"', b'"2026-05-31T10:00:00.123456Z"',
    b'"0000-01-01T00:00:00Z"', b'"1899-12-31T00:00:00Z"', b'"2027-06-02T12:00:01Z"', b'"email:bob@example.com"', b'"order:77"', b'"touchlog/x"',
]  # fmt: skip


@st.composite
def respelled(draw: st.DrawFn) -> bytes:
    """One of the events as bytes, with some of its values replaced, blanks between, or cut."""
    raw = draw(st.sampled_from(BEFORE))
    for _ in range(draw(st.integers(0, 2))):
        values = list(_VALUE.finditer(raw))
        if values:
            at = draw(st.sampled_from(values))
            new = draw(st.sampled_from([b'"e-%d"', b"%d", *ODD_BYTES]))
            if new in (b'"e-%d"', b"%d"):
                new = new % draw(st.integers(-(10**19), 10**19))
            raw = raw[: at.start()] + new + raw[at.end() :]
    match draw(st.integers(0, 9)):
        case 0:
            at_ = draw(st.integers(0, len(raw)))
            return raw[:at_]
        case 1:
            return raw.replace(b",", b", ").replace(b'":', b'": ')
        case 2:
            return draw(st.sampled_from([b"\xef\xbb\xbf", b" ", b"\n"])) + raw
        case 3:
            return raw + draw(st.sampled_from([b"\n", b"}", b"\x00", b" "]))
    return raw


@settings(max_examples=120, deadline=None)
@given(st.lists(respelled(), min_size=1, max_size=12), st.sampled_from([ADMIN, ADAPTER]))
def test_events_of_any_spelling_become_what_the_whole_way_makes_of_them(
    keys: KeyFile, events: list[bytes], principal: Principal
) -> None:
    # given a house that knows how these events are spelled, and one that decodes them all
    quick, whole = House(keys), House(keys, whole=True)
    for _ in range(2):
        quick.answer(BEFORE)
        whole.answer(BEFORE)

    # when both are sent the like, with values written in any way, and the same again
    for _ in range(2):
        answers = quick.answer(events, principal), whole.answer(events, principal)

        # then they answer the same, and what they append is the same
        assert msgspec.to_builtins(answers[0]) == msgspec.to_builtins(answers[1])
        assert quick.writer.items == whole.writer.items


def test_each_value_in_each_odd_spelling_becomes_what_the_whole_way_makes_of_it(keys: KeyFile) -> None:
    # given events of every shape, in two ways of writing, and the same with one value written in each of many ways
    quick, whole = House(keys), House(keys, whole=True)
    spaced = [each.replace(b",", b", ").replace(b'":', b'": ') for each in BEFORE]
    sent = [
        raw[: at.start()] + odd + raw[at.end() :]
        for raw in BEFORE + [each.replace(b": ", b":  ") for each in spaced[:4]]
        for at in _VALUE.finditer(raw)
        for odd in ODD_BYTES
    ]
    for principal in (ADMIN, ADAPTER):
        for events in (BEFORE + spaced, BEFORE + spaced, sent):
            # when both are sent them
            answers = quick.answer(events, principal), whole.answer(events, principal)
            # then they answer the same, and what they append is the same
            for each, *told in zip(events, answers[0].results, answers[1].results, strict=True):
                assert told[0] == told[1], each
    for made, item in zip(quick.writer.items, whole.writer.items, strict=True):
        assert made == item
    assert quick.undecoded > 500


def test_events_that_are_spelled_as_one_before_are_not_decoded(
    keys: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a house that has seen an event of a spelling twice
    house = House(keys)
    for number in (1, 2):
        house.answer([orjson.dumps(CALL | {"id": f"e-{number}"})])
    decoded: list[bytes] = []

    def read(raw: bytes) -> Payload:
        decoded.append(raw)
        return read_payload(raw)

    monkeypatch.setattr(ingest_module, "read_payload", read)
    # when others come, of which one has its attributes in another order, and one is a conflict
    other = dict(reversed(CALL.items()))
    told = house.answer([orjson.dumps(each | {"id": f"f-{n}"}) for n, each in enumerate((CALL, CALL, other))])
    # then only that one is decoded
    assert told.recorded == 3
    assert [result.id for result in told.results] == ["f-0", "f-1", "f-2"]
    assert decoded == [orjson.dumps(other | {"id": "f-2"})]


def test_events_of_persons_who_are_not_in_memory_wait_for_one_look_and_are_not_decoded(
    keys: KeyFile,
) -> None:
    # given a house that knows how two sources spell their events, one of which decodes them
    house = House(keys)
    for number in (1, 2):  # of another person each, so that all of them had to wait
        house.answer([orjson.dumps(CALL | {"id": f"e-{number}", "subject": f"email:{number}@example.com"})])
        house.answer([event_of(EVENTS[6] | {"id": f"w-{number}", "subject": f"anonymous:{number}"})])
    house.undecoded = house.short = house.subjects.resolutions = 0
    # when events of others come, of whom one cannot be named so
    spelled = [
        orjson.dumps(CALL | {"id": f"n-{n}", "subject": f"email:new{n}@example.com"}) for n in range(5)
    ]
    decoded = [event_of(EVENTS[6] | {"id": f"p-{n}", "subject": f"anonymous:new{n}"}) for n in range(5)]
    odd = orjson.dumps(CALL | {"id": "odd", "subject": "nobody"})
    told = house.answer([spelled[0], *decoded, odd, *spelled[1:], spelled[0]])
    # then all stand in the order in which they came, and the log was asked for all persons at once
    assert told.recorded == 12
    assert [str(result.id)[0] for result in told.results] == list("npppppo" + "nnnnn")
    assert (house.undecoded, house.short, house.subjects.resolutions) == (6, 5, 2)
    assert [problem.code for problem in told.results[6].errors] == ["identifier_dropped"]


def test_a_source_that_spells_its_events_otherwise_each_time_is_decoded_without_another_look(
    keys: KeyFile,
) -> None:
    # given a source whose events of one type have another list each
    house = House(keys)

    def order(number: int) -> bytes:
        lines = [{"sku": "S", "quantity": 1}] * number
        return orjson.dumps(EVENTS[4] | {"id": f"o-{number}", "data": {"order_id": "o", "lines": lines}})

    house.ingest._outlines.patience = 256
    # when many of them come
    for number in range(1, 150):
        house.answer([order(number)])
    spelled = next(iter(house.ingest._outlines._spelled.values()))
    # then only a few spellings were learned, and they are tried no longer
    assert 0 < len(spelled.spellings) <= 4
    assert spelled.patience < 0
    assert house.undecoded <= 8


def test_what_a_type_refuses_inside_a_list_is_refused_however_often_the_like_came(keys: KeyFile) -> None:
    # given a house that knows how a source spells its answers, each with a score
    house = House(keys)

    def answered(number: int, score: float) -> bytes:
        answers = [{"question": "again?", "score": score}]
        return orjson.dumps(
            event("survey.answered", "user:9", {"survey_id": "s", "answers": answers}, id=f"s-{number}")
        )

    for number in range(4):
        assert house.answer([answered(number, 7.5)]).recorded == 1
    assert house.undecoded > 0
    # when one comes with a score that is none, and then one that is
    told = house.answer([answered(5, -1.5), answered(6, 9.5)])
    # then that one is refused, with its place
    assert [result.status for result in told.results] == ["rejected", "recorded"]
    assert told.results[0].errors[0].pointer == "/data/answers/0/score"


@pytest.mark.parametrize("spelled_after", [1, 64])
def test_what_was_ready_when_a_person_was_erased_is_sealed_anew(keys: KeyFile, spelled_after: int) -> None:
    # given events of two persons that take the shorter way, one of whom is erased while the next is on its way
    house = House(keys, spelled_after=spelled_after)
    ann, other = CALL, EVENTS[1] | {"id": "o-1"}
    for number in (1, 2):
        house.answer([orjson.dumps(each | {"id": f"{each['id']}-{number}"}) for each in (ann, other)])
    assert house.short >= 2
    before = {keys.key_id.encode() for keys in house.subjects.seen.values()}
    house.writer.refuses = 1
    # when it and more of both are sent
    for number in (3, 4):
        answer = house.answer([orjson.dumps(each | {"id": f"{each['id']}-{number}"}) for each in (ann,) * 2])
        assert answer.recorded == 2
    house.answer([orjson.dumps(other | {"id": "o-5"})])
    # then all stand under keys made since
    after = {keys.key_id.encode() for keys in house.subjects.seen.values()}
    bodies = [item.body for item in house.writer.items[4:]]
    assert len(bodies) == 5
    assert not any(key in body for key in before for body in bodies)
    assert all(any(key in body for key in after) for body in bodies)
