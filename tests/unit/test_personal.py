"""What is personal is parted from what is plain, and comes back whole (DESIGN 14, SEMANTICS §7)."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import domain.touchpoints  # noqa: F401 - registers every declared type
from domain import personal
from domain.event import TYPES, EventType
from domain.personal import PERSONAL_KEYS, Parts, merge, part, personal_text, plain_url, suspicious


def canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def parted(type_: str, data: dict[str, Any]) -> tuple[Parts, bytes]:
    before = canonical(data)
    parts, encoded = part(TYPES[type_], data, canonical)
    assert canonical(data) == before, "part changed what it was given"
    assert encoded == canonical(parts.plain)
    return parts, encoded


def whole(parts: Parts) -> dict[str, Any]:
    """Put everything back, as a reader does after unsealing."""
    return merge(parts.plain, {**parts.personal, **dict(parts.others)})


EMAILS = st.builds(
    "{}@{}.{}".format,
    st.sampled_from(["ann", "b.o'b+tag", "jörg", "x_1"]),
    st.sampled_from(["example", "mail-2"]),
    st.sampled_from(["com", "co.uk"]),
)
PHONES = st.sampled_from(["+442071838750", "+44 20 7183 8750", "+1 (212) 555-0100", "+49.30.901820"])
ADDRESSES = st.sampled_from(
    ["192.0.2.7", "2001:db8::1", "::1", "::ffff:192.0.2.7", "[2001:db8::7]", "fe80::1"]
)
WITHIN = st.sampled_from(["{}", "write to {}", "({})", "<{}>", "a {}, b", "mailto:{}"])
SECRETS = st.one_of(
    EMAILS,
    PHONES,
    st.builds(lambda within, word: within.format(word), WITHIN, st.one_of(EMAILS, PHONES)),
    ADDRESSES,
)
URLS = st.builds(
    "{}{}?{}".format,
    st.sampled_from(["https://shop.example", "http://u:p@shop.example:8080", "app://x", ""]),
    st.sampled_from(["/", "/a/b", "/ä"]),
    st.sampled_from(
        [
            "q=ann",
            "utm_source=news",
            "utm_source=news&q=ann%40example.com",
            "utm_term=ann@example.com",
            "a=1&a=2&b=",
            "x",
            "token=s3cr3t#frag",
        ]
    ),
)
HARMLESS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from(
        [
            0.5,
            "",
            "a",
            "12345678",
            "a.b.c",
            "1:2",
            "12:30:45",
            "a?b",
            "/path",
            "a@b",
            "+",
            "1+2",
            "2026-01-31T12:00:00Z",
            '":"',
            "~",
            "/",
            "~1",
        ]
    ),
)
PLAIN_KEYS = st.sampled_from(["a", "0", "1", "", "~", "/", "a/b", "~1", "utm_source", "count", "länge"])
TELLING_KEYS = st.one_of(
    st.sampled_from(sorted(PERSONAL_KEYS)),
    st.sampled_from(["E-Mail", "First_Name", "date of birth", "IP-Address"]),
)
KEYS = st.one_of(PLAIN_KEYS, PLAIN_KEYS, TELLING_KEYS, EMAILS)
TREES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(HARMLESS, HARMLESS, SECRETS, URLS),
    lambda inner: st.one_of(st.lists(inner, max_size=12), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=15,
)


def fields_of(type_: str) -> st.SearchStrategy[dict[str, Any]]:
    """Give data of a declared type: any of its fields and others, with anything in them."""
    return st.dictionaries(
        st.one_of(st.sampled_from(sorted(TYPES[type_].fields) or ["a"]), KEYS), TREES, max_size=5
    )


DATA = st.sampled_from(sorted(TYPES)).flatmap(lambda type_: st.tuples(st.just(type_), fields_of(type_)))


@settings(max_examples=300)
@given(DATA)
def test_what_was_parted_comes_back_whole(case: tuple[str, dict[str, Any]]) -> None:
    type_, data = case
    parts, _ = parted(type_, data)
    assert whole(parts) == data
    assert canonical(whole(parts)) == canonical(data)


def texts(value: Any) -> list[str]:
    """Find every text in *value*, keys too."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for key, inner in value.items() for text in (key, *texts(inner))]
    return [text for inner in value for text in texts(inner)] if isinstance(value, list) else []


@settings(max_examples=300)
@given(DATA)
@example(("web.page_viewed", {"title": "::1"}))
@example(("call.ended", {"ann@example.com": 1}))
@example(("web.tracked", {"properties": {"ann@example.com": 1}}))
@example(("call.ended", {"more": {"a": {"+442071838750": 1}}}))
def test_nothing_that_looks_personal_stays_plain_wherever_it_stood(case: tuple[str, dict[str, Any]]) -> None:
    type_, data = case
    parts, _ = parted(type_, data)
    for text in texts(parts.plain):
        assert not personal_text(text), (text, parts.plain)
        assert plain_url(text) is None, (text, parts.plain)


@settings(max_examples=150)
@given(DATA)
def test_the_values_of_telling_keys_stay_plain_nowhere(case: tuple[str, dict[str, Any]]) -> None:
    type_, data = case
    parts, _ = parted(type_, {**data, "more": {"deep": [data]}})
    for key, value in _members(parts.plain.get("more", {})):
        if key.lower().translate(str.maketrans("", "", "_- ")) in PERSONAL_KEYS:
            assert value in (None, "", [], {})


def _members(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [*value.items(), *(member for inner in value.values() for member in _members(inner))]
    return [member for inner in value for member in _members(inner)] if isinstance(value, list) else []


@pytest.mark.parametrize("declared", TYPES.values(), ids=lambda declared: str(declared.name))
def test_declared_personal_fields_of_every_type_are_sealed_under_their_owner(declared: EventType) -> None:
    data = {field: f"value of {field}" for field in declared.fields}
    parts, encoded = parted(declared.name, data)
    assert {f"/{field}" for field in declared.personal} <= parts.personal.keys()
    assert {place for place, _ in parts.others} == {f"/{field}" for field in declared.others}
    for field in declared.personal | declared.others:
        assert f'"value of {field}"'.encode() not in encoded


NAMING_FACTS = sorted(name for name, declared in TYPES.items() if "of" in declared.fields)


@pytest.mark.parametrize("type_", NAMING_FACTS)
def test_which_fact_is_meant_stays_plain_also_where_its_id_is_an_address_and_what_stands_beside_it_does_not(
    type_: str,
) -> None:
    key = {"source": "mailto:ann@example.com", "id": "<7@mail.example>"}
    for beside, kept in ({}, {}), ({"n": 1, "by": "bea@example.com"}, {"n": 1}), ({"bea@example.com": 1}, {}):
        data = {"of": {**key, **beside}, "reason": "call +442071838750"}
        parts, encoded = parted(type_, data)
        assert parts.plain["of"] == {**key, **kept}
        assert b"bea@" not in encoded
        assert b"+44" not in encoded
        assert whole(parts) == data
    # and of a type that does not name a fact by it, it is looked at as anything else
    assert parted("web.tracked", {"of": key})[0].plain == {"of": {}}


def test_each_of_several_others_goes_its_own_way() -> None:
    parts, encoded = parted("email.sent", {"cc": ["bob@example.com", "eve@example.com"]})
    assert parts.others == [("/cc/0", "bob@example.com"), ("/cc/1", "eve@example.com")]
    assert b"cc" not in encoded
    assert whole(parts) == {"cc": ["bob@example.com", "eve@example.com"]}
    many = {"cc": [f"bob{n}@example.com" for n in range(12)], "bcc": "eve@example.com"}
    assert whole(parted("email.sent", many)[0]) == many


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        (
            "https://shop.example/a?q=ann&utm_source=news&utm_medium=mail",
            "https://shop.example/a?utm_source=news&utm_medium=mail",
        ),
        ("https://shop.example/a?email=ann%40example.com", "https://shop.example/a"),
        ("https://shop.example/a?utm_content=ann%40example.com", "https://shop.example/a"),
        ("/checkout?session=1#step", "/checkout"),
        ("https://ann:secret@localhost/a?utm_source=news", "https://localhost/a?utm_source=news"),
        ("https://shop.example/a?q=ann&utm_source=", "https://shop.example/a?utm_source="),
        ("https://shop.example/a?utm_source=news", None),
        ("https://shop.example/a", None),
        ("is this a url? no", None),
    ],
)
def test_of_a_url_the_query_is_sealed_but_its_campaign(url: str, plain: str | None) -> None:
    assert plain_url(url) == plain
    parts, encoded = parted("web.page_viewed", {"path": "/", "url": url})
    assert parts.plain["url"] == (plain or url)
    assert (b"ann" in encoded) is False
    assert whole(parts)["url"] == url


def test_a_url_that_cannot_be_taken_apart_is_sealed_whole() -> None:
    url = "https://[ann/a?token=s3cr3t"
    parts, encoded = parted("web.page_viewed", {"path": "/", "url": url})
    assert b"s3cr3t" not in encoded
    assert whole(parts) == {"path": "/", "url": url}


@pytest.mark.parametrize(
    "text",
    [
        "::",
        "192.0.2.7",
        "[2001:db8::7]",
        "fe80::1%eth0",
        "0000:0000:0000:0000:0000:ffff:192.168.100.228",
        "+44 20 7183 8750",
        "write to ann@example.com",
    ],
)
def test_addresses_of_every_spelling_are_taken_for_persons(text: str) -> None:
    assert personal_text(text)


def test_who_a_source_lists_as_identifiers_is_sealed_also_where_the_type_declares_none() -> None:
    refs = ["user:u-1", "crm:7"]
    parts, encoded = parted("call.ended", {"identifiers": refs, "agent": "bob"})
    assert (parts.personal, encoded) == ({"/identifiers": refs}, b'{"agent":"bob"}')


def test_nothing_stays_plain_where_there_is_nothing_to_seal() -> None:
    data = {"cc": [], "properties": {"email": "", "phone": None}, "address": {}, "zip": ""}
    parts, encoded = parted("email.sent", data)
    assert (parts.personal, parts.others, encoded) == ({}, [], canonical(data))


@pytest.mark.parametrize(
    "text",
    [
        "442071838750",
        "0123456789",
        "4111111111111111",
        "+",
        "+0123456789",
        "a+44207183875",
        "1.2.3",
        "1.2.3.4.5",
        "12:30",
        "a@b",
        "@",
        "v1.2.3.400",
    ],
)
def test_bare_digits_and_the_like_are_not_taken_for_persons(text: str) -> None:
    assert not personal_text(text)


@given(st.one_of(SECRETS, URLS))
def test_no_secret_escapes_the_first_quick_look(secret: str) -> None:
    for data in (
        {"a": secret},
        {"a": [1, secret]},
        {"a": {"b": f"x {secret}" if not _is_address(secret) else secret}},
    ):
        if any(personal_text(t) or plain_url(t) is not None for t in texts(data)):
            assert suspicious(canonical(data)), data


def _is_address(text: str) -> bool:
    return not any(mark in text for mark in "@+?")


@pytest.mark.parametrize(
    ("key", "personal"),
    [
        ("billing address", True),
        ("shippingAddress", True),
        ("customer_first_name", True),
        ("primaryEmail", True),
        ("email2", True),
        ("Home-Phone", True),
        ("customer name", True),
        ("product_name", False),
        ("campaignName", False),
        ("delivered_to", False),
        ("addressed", False),
        ("phone_count", False),
    ],
)
def test_a_longer_key_tells_by_its_last_word(key: str, personal: bool) -> None:
    parts, _ = parted("web.tracked", {"event": "x", "properties": {key: "Ann, 5 High Street"}})
    assert bool(parts.personal) == personal


@given(
    st.text("aZ0-_.~/", max_size=12),
    st.sampled_from(
        ["", "https://shop.example", "http://shop.example:8080", "https://Shop", "//x", "https://u:p@x"]
    ),
    st.lists(
        st.tuples(
            st.sampled_from(["utm_source", "utm_medium", "q", "utm_", "token", "utm_a.b"]),
            st.text("aé1-_.:@+%&=#", max_size=8),
        ),
        max_size=3,
    ),
)
def test_the_short_look_at_a_url_tells_what_the_long_one_does(
    path: str, origin: str, query: list[tuple[str, str]]
) -> None:
    text = f"{origin}/{path}?" + "&".join(f"{name}={value}" for name, value in query)
    quick = personal.plain_url(text)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(personal, "_PLAIN_QUERY", re.compile(r"(?!)"))
        assert personal.plain_url(text) == quick


@given(
    st.one_of(
        st.ip_addresses().map(str),
        st.ip_addresses().map(lambda ip: f"[{ip}]"),
        st.ip_addresses(v=6).map(lambda ip: f"{ip}%eth0\n"),
        st.text("0aF:.%[] x\n", max_size=46),
    )
)
def test_the_short_look_at_an_address_misses_none(text: str) -> None:
    quick = personal.personal_text(text)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(personal, "_IP", re.compile(""))
        assert personal.personal_text(text) == quick


@given(st.sampled_from(["", "/", "h://", "h-1:/"]), st.text("a@./? :\né", max_size=9))
def test_the_looks_that_read_a_text_once_tell_what_the_plain_ones_do(origin: str, rest: str) -> None:
    word = r"[^\s@<>\"',;:()\[\]]+"
    email = re.compile(rf"{word}@{word}\.{word}")
    url = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S+\?\S*$|/\S*\?\S+$")
    text = origin + rest
    assert (personal._EMAIL.search(text) is None) == (email.search(text) is None)
    assert (personal._URL.match(text) is None) == (url.match(text) is None)


def test_neither_long_texts_nor_the_keys_of_maps_are_kept_in_memory() -> None:
    for cached in (personal._plain_url, personal._telling_keys):
        cached.cache_clear()
    maps = [{f"sku-{n}-{key}": {"n": 1} for key in range(65)} for n in range(10)]
    for n, each in enumerate(maps):
        url = f"https://shop.example/{n}?q={'x' * 3_000}"
        assert plain_url(url) == f"https://shop.example/{n}"
        assert (
            parted("web.tracked", {"event": "x", "properties": {"of": each, "url": url}})[0].plain[
                "properties"
            ]["of"]
            == each
        )
    assert (
        plain_url("https://shop.example/a?q=x")
        == plain_url("https://shop.example/a?q=x")
        == "https://shop.example/a"
    )
    assert personal._plain_url.cache_info().currsize == 1
    assert personal._telling_keys.cache_info().currsize < len(maps)


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000 + " @",
        "b@" + "a" * 1_000_000,
        "h://" + "?" * 1_000_000 + " ",
        "/" + "a?" * 500_000 + " ",
    ],
)
def test_a_text_as_long_as_a_body_is_read_once(text: str) -> None:
    # Read from each of its characters anew, one such text would keep a server for hours.
    assert not personal_text(text)
    assert plain_url(text) is None
