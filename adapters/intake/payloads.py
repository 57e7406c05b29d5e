"""An event as it was sent: from bytes to the object that they hold, or to what is wrong with them.

JSON alone is looked at here; what a CloudEvent has to say is checked behind it (adapters/intake/cloudevents.py).
Nothing here waits or writes.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from math import isfinite
from typing import Any

import msgspec
import orjson

from domain.errors import Invalid, Problem, pointed

__all__ = [
    "Payload",
    "event_of",
    "first_told",
    "items_of",
    "json_error",
    "members_of",
    "not_json",
    "read_payload",
    "split_batch",
]

MOST_NESTED = 254
"""Levels of objects and lists of one event; what is kept of it is written by orjson, which knows no more."""
_MOST_DIGITS = 20
"""Characters of an integer that may fit into 64 bits, its sign included."""
_STEPS_TOLD = 10
"""Steps of the way to what nests too deeply: who reads the answer looks there, and not 250 levels further down."""
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},:]', re.DOTALL)
"""A text that does not end is one token, too: else each quote in it would be looked at to the end of the body anew."""
MOST_TOLD = 20
"""Problems of one kind that are told of one event."""
_ESCAPE = ord("\\")  # a number is found in bytes at a third of the price of bytes


class Payload(msgspec.Struct, frozen=True):
    """One event as its source sent it: the object, and its canonical JSON, which tells repeats from conflicts."""

    event: dict[str, Any]
    canonical: bytes


def split_batch(body: bytes) -> list[bytes]:
    """The items of a JSON array, each as its own bytes; a lone item that cannot be decoded spoils no other.

    Raises:
        Invalid: the body is not a JSON array at all.
        RecursionError: an item nests too deeply to be decoded, which says nothing of the others.
    """
    try:
        return [bytes(raw) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return list(_split_slowly(body))


def _split_slowly(body: bytes) -> Iterator[bytes]:
    """Item by item, for a body with a text in it that is no Unicode."""
    text = body.decode("utf-8", "surrogateescape")
    blank = re.compile(r"[ \t\r\n]*")
    decoder = json.JSONDecoder(parse_int=_whole)

    def skip(at: int) -> int:
        found = blank.match(text, at)
        assert found is not None
        return found.end()

    at = skip(0)
    if text[at : at + 1] != "[":
        raise Invalid("The body is not a JSON array of events.")
    at = skip(at + 1)
    if text[at : at + 1] == "]":
        if skip(at + 1) != len(text):
            raise Invalid("The body is not JSON: something follows the array.")
        return
    while True:
        try:
            _, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as wrong:
            raise Invalid(
                f"The body is not JSON: {not_json(wrong)} at byte {len(text[:at].encode('utf-8', 'surrogateescape'))}."
            ) from None
        yield text[at:end].encode("utf-8", "surrogateescape")
        at = skip(end)
        if text[at : at + 1] == "]":
            if skip(at + 1) != len(text):
                raise Invalid("The body is not JSON: something follows the array.")
            return
        if text[at : at + 1] != ",":
            raise Invalid(
                "The body is not JSON: an item is followed neither by a comma nor by the end of the array."
            )
        at = skip(at + 1)


def json_error(body: bytes) -> json.JSONDecodeError | None:
    """Why *body* is no JSON at all; None where it is, or where only something inside it cannot be decoded."""
    try:
        json.loads(body.decode("utf-8", "surrogateescape"))
    except json.JSONDecodeError as wrong:
        return wrong
    except (ValueError, RecursionError):
        return None  # nested too deeply, or a number of thousands of digits: told per event
    return None


def items_of(raw: bytes) -> list[bytes]:
    """The items of the JSON array *raw*, none of them decoded: of what holds something that cannot be."""
    return [item for _, item in _pieces(raw)]


def members_of(raw: bytes) -> dict[str, bytes]:
    """The members of the JSON object *raw*, none of them decoded; empty where it is no object."""
    return {name: value for key, value in _pieces(raw) if (name := _named(key)) is not None}


def _named(key: bytes) -> str | None:
    """The name of a member; None where none stands: *key* is whatever came before a colon."""
    with suppress(ValueError):
        name = json.loads(key.decode("utf-8", "surrogateescape"), strict=False)
        return name if isinstance(name, str) else None
    return None


def _pieces(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of each member of an object, (nothing, item) of an array, found by their brackets."""
    depth = begin = 0
    key = b""
    for token in _TOKENS.finditer(raw):
        match token[0]:
            case b"{" | b"[":
                depth += 1
                begin = token.end() if depth == 1 else begin
                continue
            case b":" if depth == 1:
                key, begin = raw[begin : token.start()].strip(), token.end()
                continue
            case b"}" | b"]":
                depth -= 1
                if depth > 0:
                    continue
            case b"," if depth == 1:
                pass
            case _:
                continue
        if piece := raw[begin : token.start()].strip():
            yield key, piece
        key, begin = b"", token.end()
        if depth < 1:
            return


def read_payload(raw: bytes) -> Payload:
    """Decode one event.

    Raises:
        Invalid: not JSON, not an object, a text that is no Unicode or holds NUL, a key twice, an
            integer beyond 64 bits; each names the place and the cure.
    """
    try:
        event = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
        raise Invalid([_undecodable(raw, wrong)]) from None
    if type(event) is not dict:
        raise Invalid(
            [
                Problem(
                    "",
                    "An event is a JSON object with at least specversion, id, source and type.",
                    "not_an_object",
                )
            ]
        )
    try:
        payload = event_of(event)
    except Invalid:
        if deep := _too_deep(raw):
            raise Invalid([deep]) from None
        raise
    # A key that stands twice leaves fewer colons behind. That count misleads only where an escape hides a
    # colon: then the slow, exact look is taken.
    if raw.count(b":") != payload.canonical.count(b":") or (_ESCAPE in raw and raw.find(b"\\u00") >= 0):
        twice = first_told(_repeated_keys(raw))
        if twice:
            raise Invalid(twice)
    return payload


def event_of(event: dict[str, Any]) -> Payload:
    """A payload of an object that this process made (an import, a translation)."""
    try:
        canonical = orjson.dumps(event, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        raise Invalid(first_told(_unencodable(event)) or "The event cannot be written as JSON.") from None
    if _ESCAPE in canonical and canonical.find(b"\\u0000") >= 0:
        nul = first_told(_nul(event))
        if nul:
            raise Invalid(nul)
    return Payload(event, canonical)


def first_told(problems: Iterator[Problem]) -> list[Problem]:
    """The first of *problems*: one body has room for millions, and the answer would be many times as long."""
    return list(itertools.islice(problems, MOST_TOLD))


def _undecodable(raw: bytes, wrong: Exception) -> Problem:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as at:
        return _not_utf8(raw, at.start)
    if deep := _too_deep(raw):
        return deep
    event: Any = None
    try:
        event = json.loads(text, parse_int=_whole, parse_constant=_Constant)
        if (beyond := _beyond(event)) is not None:
            return beyond
        orjson.dumps(event)
    except json.JSONDecodeError as at:
        return Problem("", f"The event is not JSON: {not_json(at)} at character {at.pos}.", "not_json")
    except (TypeError, RecursionError):
        for place, value in _texts(event):
            try:
                value.encode("utf-8")
            except UnicodeEncodeError:
                return Problem(
                    place,
                    "The text holds a lone surrogate (\\ud800 to \\udfff), which is no Unicode character; send the whole pair or leave it out.",
                    "lone_surrogate",
                )
        if too_large := next(_unencodable(event), None):
            return too_large
    return Problem("", f"The event cannot be read: {wrong}.", "not_json")


def _not_utf8(raw: bytes, at: int) -> Problem:
    """Where the bytes stand that are not UTF-8, as deep as people look; of an attribute how a header carries it."""
    place, value = "", raw
    for _ in range(_STEPS_TOLD):
        if value[:1] not in (b"{", b"["):
            break
        broken = (
            (number, *pair) for number, pair in enumerate(_pieces(value)) if not all(map(_is_utf8, pair))
        )
        number, key, piece = next(broken, (0, b"", b""))
        step = str(number) if value[:1] == b"[" else _named(key)
        if not piece or step is None or not _is_utf8(key):
            break  # a name that is no Unicode has no place that could be told
        place, value = f"{place}/{pointed(step)}", piece
    if not place:
        return Problem(
            "", f"The event holds bytes that are not UTF-8 (at byte {at}); send UTF-8.", "not_utf8"
        )
    detail = "The text holds bytes that are not UTF-8; send UTF-8."
    if place.count("/") == 1 and place != "/data":
        detail += (
            f" In binary mode the header ce-{place[1:]} carries what is not ASCII percent-encoded "
            "(CloudEvents HTTP binding, 3.1.3.2)."
        )
    return Problem(place, detail, "not_utf8")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


class _Constant(str):
    """NaN, Infinity or -Infinity, which many write and JSON does not have."""

    __slots__ = ()


def _whole(digits: str) -> int:
    """An integer, as far as one may be kept: Python itself refuses to read one of more than 4,300 digits."""
    return int(digits) if len(digits) <= _MOST_DIGITS else 1 << 64


def not_json(wrong: json.JSONDecodeError) -> str:
    """What is wrong, in words that a place follows: some of Python's end in "at" themselves, one speaks of Python."""
    if wrong.doc.startswith("\ufeff"):
        return "a byte order mark stands before it, which belongs to the beginning of a file alone,"
    return wrong.msg.removesuffix(" at")


def _too_deep(raw: bytes) -> Problem | None:
    """The first place at which an event nests deeper than can be kept; it is looked for without decoding it."""
    way: list[str | int] = []
    text = b""
    for token in _TOKENS.finditer(raw):
        match token[0]:
            case b"{":
                way.append("")
            case b"[":
                way.append(0)
            case b"}" | b"]" if way:
                way.pop()
            case b":" if way:
                way[-1] = text.decode("utf-8", "replace")
            case b"," if way and isinstance(way[-1], int):
                way[-1] += 1
            case _:
                text = token[0][1:-1]
        if len(way) > MOST_NESTED:
            place = "".join(f"/{pointed(str(step))}" for step in way[:_STEPS_TOLD])
            return Problem(
                place,
                f"What stands here nests beyond the limit of {MOST_NESTED} levels, counted from the event itself; "
                "send its inner part as a text.",
                "nested_too_deeply",
            )
    return None


def _beyond(event: Any) -> Problem | None:
    """The first number of *event* that no float can hold, or that is none."""
    for place, value in _leaves(event):
        if isinstance(value, _Constant):
            return Problem(place, f"{value} is no number of JSON; send null, or leave it out.", "not_json")
        if isinstance(value, float) and not isfinite(value):
            return Problem(
                place,
                "The number is beyond what 64 bits hold (some 1.8e308) and cannot be kept; send it as a text.",
                "number_too_large",
            )
    return None


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}/{pointed(key)}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _leaves(inner, f"{place}/{i}")
    else:
        yield place, value


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield place, key
            yield from _texts(inner, f"{place}/{pointed(key)}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _texts(inner, f"{place}/{i}")


def _nul(event: Any) -> Iterator[Problem]:
    for place, text in _texts(event):
        if "\x00" in text:
            yield Problem(place, "The text holds NUL (\\u0000), which no text may; leave it out.", "nul")


def _unencodable(value: Any, place: str = "") -> Iterator[Problem]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _unencodable(inner, f"{place}/{pointed(key)}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _unencodable(inner, f"{place}/{i}")
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        yield Problem(
            place,
            "The integer is beyond 64 bits and would lose digits; send it as a text.",
            "integer_too_large",
        )
    elif isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            yield Problem(
                place, "The text holds a lone surrogate, which is no Unicode character.", "lone_surrogate"
            )


class _Object(dict[str, Any]):
    """A JSON object that remembers which of its keys stood twice."""

    twice: tuple[str, ...] = ()


def _repeated_keys(raw: bytes) -> Iterator[Problem]:
    def read(members: list[tuple[str, Any]]) -> _Object:
        made = _Object(members)
        if len(made) < len(members):
            made.twice = tuple(key for key, times in Counter(key for key, _ in members).items() if times > 1)
        return made

    yield from _twice(json.loads(raw, object_pairs_hook=read))


def _twice(value: Any, place: str = "") -> Iterator[Problem]:
    if isinstance(value, _Object):
        for key in value.twice:
            yield Problem(
                f"{place}/{pointed(key)}",
                f"The key {key!r} stands twice in one object; which of the two is meant cannot be known. Send it once.",
                "duplicate_key",
            )
        for key, inner in value.items():
            yield from _twice(inner, f"{place}/{pointed(key)}")
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from _twice(inner, f"{place}/{i}")
