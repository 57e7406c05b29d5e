"""Spellings: how a source writes the events of one outline, byte for byte, learned of one of them.

A program writes its events with the same keys in the same order and the same blanks; only the values
differ. Once a spelling is known, one match of a regular expression finds all values of an event and shows
that nothing else stands in it: it need be decoded no more, and what becomes of it (its canonical JSON, its
plain data, what is sealed) is put together from these bytes. A match costs a third of decoding and
encoding. The pattern takes only what is written as canonical JSON would write it, without escapes; whatever
else comes is decoded (adapters/intake/outlines.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import msgspec
import orjson
from msgspec import inspect

from adapters.intake.cloudevents import LONGEST_NAME
from domain.event import EventType
from domain.personal import Plan, personal_text, plain_url

__all__ = ["Spelling", "spelling_of"]

_LONGEST = 65_536  # bytes of the event that a spelling is learned of
_MOST_VALUES = 200
_DEEPEST = 12

_Groups = tuple[bytes, ...]
_Picked = Callable[[_Groups], _Groups]


class Spelling(msgspec.Struct, frozen=True, gc=False):
    """What one spelling tells of each of its events.

    A template is a pattern for bytes' `%` operator and a function that picks its values from the groups of a
    match; they are put together where they are needed, for calls cost.
    """

    match: Callable[[bytes], re.Match[bytes] | None]
    """Of a whole event; its groups are the values."""
    head: Callable[[_Groups], tuple[bytes, bytes, bytes, bytes, bytes]]
    """(id, source, time, subject, without quotes; data)."""
    canonical: bytes
    canonical_values: _Picked
    plain: bytes
    """The plain data."""
    plain_values: _Picked
    keys: int
    """How many members the plain data has."""
    personal: bytes | None
    """What is sealed."""
    personal_values: _Picked
    texts: _Picked
    """The texts of the plain data, in quotes."""
    fractions: _Picked | None
    """Numbers that canonical JSON may write in another way."""
    check: Callable[[bytes], Any] | None
    """Raises msgspec.ValidationError for data that its type refuses; None where it refuses nothing that is spelled so."""
    channel: str | None
    direction: str | None

    def is_canonical(self, raw: bytes, groups: _Groups) -> bool:
        """Whether each value of *raw* stands as canonical JSON would write it; asked where it is not all ASCII, or has fractions."""
        try:
            raw.decode()
        except UnicodeDecodeError:
            return False
        return self.fractions is None or all(
            orjson.dumps(msgspec.json.decode(each)) == each for each in self.fractions(groups)
        )

    def tells_personal(self, groups: _Groups) -> bool:
        """Whether one of the texts of the plain data holds something that is to be sealed."""
        return any(
            personal_text(text) or plain_url(text) is not None
            for text in (each[1:-1].decode() for each in self.texts(groups))
        )


def spelling_of(raw: bytes, declared: EventType, plan: Plan | None) -> Spelling | None:
    """The spelling of *raw*, one event that was accepted; None where its like has to be decoded.

    Args:
        plan: what of its data is sealed (`domain.personal.plan_of`).
    """
    if len(raw) > _LONGEST:
        return None
    reader = _Reader(raw)
    try:
        event = reader.value((), 0)
    except _Unreadable:
        return None
    data = event["data"] if type(event) is dict else None
    if type(event) is not dict or type(data) is not dict or reader.at != len(raw):
        return None
    head = [reader.named.get((name,)) for name in ("id", "source", "time", "subject", "data")]
    if None in head:
        return None
    if not declared.fields:  # nobody declared the type: its data whole is personal
        plain, personal = {}, {"": data}
    else:
        plain, personal = data, {}
        if plan is not None:
            fields, others, undeclared, loose = plan
            if others or undeclared or loose or any(map(personal_text, reader.inner_keys)):
                return None
            plain = dict(data)
            for field, place in fields:
                if plain[field] != b"null":
                    personal[place] = plain.pop(field)
    texts: list[int] = []
    _texts(plain, reader.texts, texts)
    canonical, canonical_values = _template(event)
    written, values = _template(plain)
    sealed, sealed_values = _template(personal)
    return Spelling(
        match=re.compile(b"".join(reader.pattern)).fullmatch,
        head=itemgetter(*head),
        canonical=canonical,
        canonical_values=canonical_values,
        plain=written,
        plain_values=values,
        keys=len(plain),
        personal=sealed if personal else None,
        personal_values=sealed_values,
        texts=_picker(texts),
        fractions=_picker(reader.fractions) if reader.fractions else None,
        check=None if _is_sure(declared, data, reader) else msgspec.json.Decoder(declared.cls).decode,
        channel=_literal(event.get("channel")),
        direction=_literal(event.get("direction")),
    )


def _is_sure(declared: EventType, data: dict[str, _Tree], reader: _Reader) -> bool:
    """Whether whatever is spelled as *data* is what its type takes: each field is of a kind of which all values are right."""
    if not declared.fields:
        return True  # nobody declared it
    if hasattr(declared.cls, "__post_init__"):
        return False
    shape = inspect.type_info(declared.cls)
    assert isinstance(shape, inspect.StructType)
    taken = {field.encode_name: field.type for field in shape.fields}
    return all(_takes_all(taken[name], tree, reader) for name, tree in data.items())


def _takes_all(taken: inspect.Type, tree: _Tree, reader: _Reader) -> bool:
    """Whether a field of the type *taken* takes every value that is spelled as *tree*."""
    while isinstance(taken, inspect.Metadata):
        taken = taken.type
    if isinstance(taken, inspect.UnionType):
        return any(_takes_all(each, tree, reader) for each in taken.types)
    if tree == b"null":
        return isinstance(taken, inspect.NoneType)
    if not isinstance(tree, _Value):
        return False
    if tree.group in reader.texts:
        return taken == inspect.StrType()
    if tree.group in reader.naturals:
        return taken in _OF_NATURALS
    return False


_OF_NATURALS = (inspect.IntType(), inspect.IntType(ge=0), inspect.FloatType(), inspect.FloatType(ge=0))


class _Unreadable(Exception):
    """The event is spelled in a way of which no pattern is made."""


class _Value(msgspec.Struct, frozen=True):
    """The place of a value: the number of its group."""

    group: int
    is_quoted: bool
    """Its quotes stand outside of the group."""


_Tree = Any
"""dict of trees by key, list of trees, `_Value`, or bytes that are the same in every event."""

_TOKEN = re.compile(rb'"[^"\\\x00-\x1f]*"|-?[0-9]+(?:\.[0-9]+)?|true|false|null|[\[\]{}:,]')
_BLANK = re.compile(rb"[ \t\r\n]*")
_NAME = rb'"([ !#-\[\]-~]{1,%d}+)"' % LONGEST_NAME
_TIME = rb'"([0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3])(?::[0-5][0-9]){2}(?:\.[0-9]{6})?Z)"'
_TEXT = rb'("[^"\\\x00-\x1f]*+")'
_INTEGER = rb"(0|-?[1-9][0-9]{0,17}+)"
_NATURAL = rb"(0|[1-9][0-9]{0,17}+)"
_NUMBER = rb"(-?(?:0|[1-9][0-9]{0,17}+)(?:\.[0-9]{1,20}+)?)"
_HEAD = {("id",): _NAME, ("source",): _NAME, ("subject",): _NAME, ("time",): _TIME}
_SAME = frozenset((name,) for name in ("specversion", "type", "datacontenttype", "channel", "direction"))
"""Attributes that have few values: each has its own spelling."""


class _Reader:
    """Walks over the bytes of one event and writes the pattern of those that are spelled like it."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.at = 0
        self.pattern: list[bytes] = []
        self.groups = 0
        self.named: dict[tuple[str, ...], int] = {}
        self.texts: set[int] = set()
        self.naturals: set[int] = set()
        self.fractions: list[int] = []
        self.inner_keys: list[str] = []

    def value(self, place: tuple[str, ...], depth: int) -> _Tree:
        """The tree of the value that stands here.

        Raises:
            _Unreadable: no pattern is made of it.
        """
        if depth > _DEEPEST or self.groups > _MOST_VALUES:
            raise _Unreadable
        token = self._token()
        if token == b"{":
            return self._object(place, depth)
        if token == b"[":
            return self._list(place, depth)
        if token == b"null" or place in _SAME:
            self.pattern.append(re.escape(token))
            return token
        if token[:1] == b'"':
            if place in _HEAD:
                self.named[place] = self.groups
                return self._group(_HEAD[place], is_quoted=True)
            self.texts.add(self.groups)
            return self._group(_TEXT)
        if token in (b"true", b"false"):
            return self._group(rb"(true|false)")
        if b"." in token:
            self.fractions.append(self.groups)
            return self._group(_NUMBER)
        if token[:1] == b"-":
            return self._group(_INTEGER)
        if token[:1] in b"0123456789":
            self.naturals.add(self.groups)
            return self._group(_NATURAL)
        raise _Unreadable

    def _object(self, place: tuple[str, ...], depth: int) -> dict[str, _Tree]:
        is_data = place == ("data",)
        if is_data:
            self.named[place] = self.groups
            self.groups += 1
            self.pattern.append(b"(")
        self.pattern.append(rb"\{")
        members: dict[str, _Tree] = {}
        token = self._token()
        while token != b"}":
            if token[:1] != b'"':
                raise _Unreadable
            key = token[1:-1].decode()
            self.pattern.append(re.escape(token))
            self._only(b":")
            if depth > 1:
                self.inner_keys.append(key)
            members[key] = self.value((*place, key), depth + 1)
            token = self._token()
            if token == b",":
                self.pattern.append(b",")
                token = self._token()
            elif token != b"}":
                raise _Unreadable
        self.pattern.append(rb"\})" if is_data else rb"\}")
        return members

    def _list(self, place: tuple[str, ...], depth: int) -> list[_Tree]:
        self.pattern.append(rb"\[")
        items: list[_Tree] = []
        if self._is_next(b"]"):
            self._only(b"]")
            return items
        while True:
            items.append(self.value((*place, ""), depth + 1))
            token = self._token()
            self.pattern.append(re.escape(token))
            if token == b"]":
                return items
            if token != b",":
                raise _Unreadable

    def _group(self, pattern: bytes, *, is_quoted: bool = False) -> _Value:
        self.pattern.append(pattern)
        self.groups += 1
        return _Value(self.groups - 1, is_quoted)

    def _token(self) -> bytes:
        blank = _BLANK.match(self.raw, self.at)
        found = _TOKEN.match(self.raw, blank.end() if blank else self.at)
        if found is None:
            raise _Unreadable
        self.pattern.append(re.escape(self.raw[self.at : found.start()]))
        self.at = found.end()
        return found[0]

    def _is_next(self, token: bytes) -> bool:
        blank = _BLANK.match(self.raw, self.at)
        return self.raw.startswith(token, blank.end() if blank else self.at)

    def _only(self, token: bytes) -> None:
        if self._token() != token:
            raise _Unreadable
        self.pattern.append(re.escape(token))


def _template(tree: _Tree) -> tuple[bytes, _Picked]:
    written: list[bytes] = []
    groups: list[int] = []
    _write(tree, written, groups)
    return b"".join(written), _picker(groups)


def _write(tree: _Tree, written: list[bytes], groups: list[int]) -> None:
    """Canonical JSON of *tree*, with a place for each value."""
    if isinstance(tree, dict):
        between = b"{"
        for key in sorted(tree, key=str.encode):
            written.append(between + orjson.dumps(key).replace(b"%", b"%%") + b":")
            _write(tree[key], written, groups)
            between = b","
        written.append(b"}" if tree else b"{}")
    elif isinstance(tree, list):
        between = b"["
        for item in tree:
            written.append(between)
            _write(item, written, groups)
            between = b","
        written.append(b"]" if tree else b"[]")
    elif isinstance(tree, _Value):
        written.append(b'"%b"' if tree.is_quoted else b"%b")
        groups.append(tree.group)
    else:
        written.append(tree.replace(b"%", b"%%"))


def _texts(tree: _Tree, texts: set[int], found: list[int]) -> None:
    """Add to *found* the groups of *tree* that are texts."""
    if isinstance(tree, dict):
        for inner in tree.values():
            _texts(inner, texts, found)
    elif isinstance(tree, list):
        for inner in tree:
            _texts(inner, texts, found)
    elif isinstance(tree, _Value) and tree.group in texts:
        found.append(tree.group)


def _literal(token: _Tree) -> str | None:
    found: str | None = orjson.loads(token) if isinstance(token, bytes) else None
    return found


def _picker(groups: list[int]) -> _Picked:
    """A function that picks these of the groups of a match."""
    if not groups:
        return lambda _: ()
    if len(groups) == 1:
        (only,) = groups
        return lambda all_: (all_[only],)
    return itemgetter(*groups)
