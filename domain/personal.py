"""What of an event's data is personal, and so is sealed before it is stored (DESIGN 14, SEMANTICS §7).

Declared fields say so on their class. Everything undeclared is looked at: values under keys that
name a personal thing, and values that look like an e-mail address, a phone number in E.164 with its
`+`, an IP address or a URL with a query. Bare digit strings are not taken for phones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from ipaddress import ip_address
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from domain.event import TYPES, Data, EventType, custom_type

__all__ = ["PERSONAL_KEYS", "Parts", "Plan", "merge", "part", "part_by", "plan_of", "suspicious"]

PERSONAL_KEYS = frozenset(
    """email emailaddress mail phone phonenumber mobile mobilephone telephone tel fax whatsapp name firstname lastname
    fullname middlename givenname familyname surname nickname displayname username login address address1 address2
    street streetaddress addressline1 addressline2 postcode postalcode zip zipcode ip ipaddress clientip remoteaddr
    birthday birthdate dateofbirth dob age gender ssn nationalid taxid passport iban bic accountnumber cardnumber
    pan cvv latitude longitude lat lng lon geo avatar photo picture signature devicetoken idfa gaid advertisingid
    useragent password secret token recipient sender to from cc bcc
    customername contactname recipientname sendername billingname shippingname holdername accountholder""".split()
)
"""Keys whose values are sealed in undeclared properties; compared in lower case without `_`, `-` and spaces."""

_TELLING_LAST_WORDS = frozenset(
    """email emailaddress mail phone phonenumber mobile mobilephone telephone tel fax whatsapp address street
    streetaddress postcode postalcode zip zipcode ip ipaddress firstname lastname fullname surname nickname username
    birthday birthdate dateofbirth dob ssn passport iban bic cardnumber cvv useragent password""".split()
)
"""Those of them that tell as much at the end of a longer key: `billing address`, `customer_first_name`; `name`
alone does not (a product has one, too)."""

_EMAIL = re.compile(r"@(?<=[^\s@<>\"',;:()\[\]]@)[^\s@<>\"',;:()\[\]]+\.[^\s@<>\"',;:()\[\]]")
"""Looked for at each @ alone, so that a text of any length is read once: from each of its characters it would take for ever."""
_E164 = re.compile(r"(?<![\w+])\+[1-9](?:[ ().-]?[0-9]){6,14}(?![0-9])")
_URL = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.-]*+://(?=\S+\?)\S++$|^/(?=\S*\?\S)\S++$")
_IP = re.compile(r"[\[\]]*[0-9A-Fa-f:.]+(?:%.*|[\[\]]*)\Z", re.DOTALL)
"""What every IP address is made of and most texts (a time, a URL) are not: to try each as an address costs fifty times as much."""
_IP_BEGINS = frozenset("0123456789ABCDEFabcdef:.[]")
_PLAIN_QUERY = re.compile(
    r"(?:https?://[a-z0-9.-]+(?::[0-9]+)?(?=[/?])|(?=/[^/]))(?:/[\w.~-]+)*/?\?utm_\w+=[\w-]+(?:&utm_\w+=[\w-]+)*\Z",
    re.ASCII,
)
"""URLs of which nothing is to be sealed, as most that have a query: told without taking them apart."""
_FOLD = str.maketrans("", "", "_- ")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+")  # of snake_case, camelCase, kebab-case and prose

Path = tuple[str | int, ...]


def any_type() -> EventType:
    """A type that knows every declared field, each as personal as any type has it.

    For the data of a correction: it may come before the event it corrects, whose type is then unknown.
    """
    personal = frozenset(f for t in TYPES.values() for f in t.personal)
    return msgspec.structs.replace(
        custom_type("any"),
        name="(correction)",
        fields=frozenset(f for t in TYPES.values() for f in t.fields),
        personal=personal,
        others=frozenset(f for t in TYPES.values() for f in t.others) - personal,
    )


class Parts:
    """Data in two: what stays plain, and what is sealed, each sealed value with its path."""

    __slots__ = ("others", "personal", "plain")

    def __init__(self, plain: Data) -> None:
        self.plain = plain
        self.personal: dict[str, Any] = {}  # JSON pointer -> value, for the first subject
        self.others: list[tuple[str, Any]] = []  # (JSON pointer, value that names another person)


@lru_cache(maxsize=10_000)
def pointer(path: Path) -> str:
    """RFC 6901; kept, for sources send the same shapes again and again."""
    return "".join("/" + str(p).replace("~", "~0").replace("/", "~1") for p in path)


_AT, _PLUS, _QUESTION, _DOT = b"@+?."
"""As numbers: to look for bytes in bytes costs thrice as much (CPython takes them for a number first, and fails)."""


def suspicious(plain: bytes, keys: int = 0) -> bool:
    """Whether encoded plain data may hold an undeclared personal value; never False when it does.

    Args:
        keys: how many keys the data has at its top, where that is known: no more colons than keys means that
            no value holds one, which spares the exact count.
    """
    return (
        _AT in plain
        or _PLUS in plain
        or _QUESTION in plain
        or (_DOT in plain and plain.count(_DOT) >= 3)
        or (
            (colons := plain.count(b":")) > keys
            and (colons - plain.count(b'":') >= 2 or plain.find(b'"::') >= 0)
        )
    )


def personal_text(text: str) -> bool:
    """Whether *text* holds an e-mail address or a phone number in E.164, or is an IP address."""
    if "@" in text and _EMAIL.search(text):
        return True
    if "+" in text and _E164.search(text):
        return True
    if (
        2 <= len(text) <= 45
        and (text.count(".") == 3 or ":" in text)
        and text[0] in _IP_BEGINS
        and _IP.match(text)
    ):
        try:
            ip_address(text.strip("[]"))
        except ValueError:
            return False
        return True
    return False


_LONGEST_KEPT = 2_048
"""Characters of a text that is kept with what was told of it: thousands of texts of a body's length are the memory's end."""
_MOST_KEYS_KEPT = 64
"""Keys of an object that are kept together: an object of more is a map, whose keys are others each time."""


def plain_url(text: str) -> str | None:
    """*text* without its query but `utm_*`, when it is a URL (or path) with one to seal; else None."""
    return _plain_url(text) if len(text) <= _LONGEST_KEPT else _plain_url.__wrapped__(text)


@lru_cache(maxsize=4_096)
def _plain_url(text: str) -> str | None:
    if "?" not in text or not _URL.match(text) or _PLAIN_QUERY.match(text):
        return None
    try:
        parts = urlsplit(text)
        kept = [
            (k, v)
            for k, v in parse_qsl(parts.query, keep_blank_values=True)
            if k.startswith("utm_") and not personal_text(v)
        ]
    except ValueError:
        return ""
    netloc = parts.netloc.rpartition("@")[2]
    bare = urlunsplit((parts.scheme, netloc, parts.path, urlencode(kept), ""))
    return None if bare == text else bare


def part(declared: EventType, data: Data, encode: Callable[[Any], bytes]) -> tuple[Parts, bytes]:
    """Part *data* of a declared type into plain and personal; answers with the encoded plain data too.

    *encode* writes canonical JSON; the result is what the entry will hold under `data`.
    """
    keys = {
        field: {name: of[name] for name in ("source", "id") if name in of}
        for field in declared.facts
        if isinstance(of := data.get(field), dict)
    }
    if not keys:
        return part_by(plan_of(declared, data), data, encode)
    # Which fact is meant is asked of the plain data, also where its id is an address, as a mail's is: it stands plain
    # in that fact's own entry. Whatever else a source put beside it is looked at as ever.
    rest = {
        field: {name: inner for name, inner in value.items() if name not in keys[field]}
        if field in keys
        else value
        for field, value in data.items()
    }
    parts, _ = part_by(plan_of(declared, rest), rest, encode)
    plain = dict(parts.plain)
    for field, key in keys.items():
        if field not in plain:  # all that stood beside it is personal
            parts.personal[pointer((field,))] = data[field]
        plain[field] = plain.get(field, {}) | key
    parts.plain = plain
    return parts, encode(plain)


def part_by(plan: Plan | None, data: Data, encode: Callable[[Any], bytes]) -> tuple[Parts, bytes]:  # noqa: C901, PLR0912 - the hot path: calls cost
    """The same by the plan of its shape."""
    loose: tuple[tuple[str, bool, bool], ...] = ()
    if plan is None:  # all fields are declared, and plain
        parts = Parts(data)
        plain = data
        undeclared: frozenset[str] = frozenset()
    else:
        personal, others, undeclared, loose = plan
        plain = dict(data)
        parts = Parts(plain)
        for field, place in personal:
            if plain[field] is not None:
                parts.personal[place] = plain.pop(field)
        for field in others:
            value = plain[field]
            if isinstance(value, list) and value:
                parts.others.extend((f"/{field}/{i}", item) for i, item in enumerate(value))
                del plain[field]
            elif value is not None and value != []:
                parts.others.append((f"/{field}", plain.pop(field)))
        if "identifiers" in plain:
            parts.personal["/identifiers"] = plain.pop("identifiers")
        for field, whole, by_key in loose:
            value = plain.get(field)
            if value is None and field not in plain:
                continue
            if whole or (by_key and value not in _EMPTY):
                parts.personal[pointer((field,))] = plain.pop(field)
                continue
            if type(value) is dict:
                looked = _free_object(value, (field,), parts, True)
            elif _tells_nothing(value):
                continue
            else:
                looked = _free(value, (field,), parts, by_key=True)
            if looked is _GONE:
                del plain[field]
            else:
                plain[field] = looked
    encoded = encode(plain)
    # Where there is something free-form the look at the bytes is spared: they are suspicious nearly always.
    if loose or suspicious(encoded, len(plain)):
        changed: dict[str, Any] = {}
        for field, value in plain.items():
            kind = type(value)
            if kind is str:
                if value.isalnum() or not (
                    "@" in value or "+" in value or "?" in value or ":" in value or value.count(".") == 3
                ):
                    continue
            elif kind is int or value is None or kind is bool or kind is float:
                continue
            if field in undeclared or field in _FREE_FORM:
                continue
            looked = _free(value, (field,), parts, by_key=False)
            if looked is not value:
                changed[field] = looked
        if changed:
            if plain is data:
                parts.plain = plain = dict(data)
            for field, looked in changed.items():
                if looked is _GONE:
                    del plain[field]
                else:
                    plain[field] = looked
            encoded = encode(plain)
    return parts, encoded


Plan = tuple[tuple[tuple[str, str], ...], tuple[str, ...], frozenset[str], tuple[tuple[str, bool, bool], ...]]
_plans: dict[tuple[str, tuple[str, ...]], Plan | None] = {}


def plan_of(declared: EventType, data: Data) -> Plan | None:
    """What to do with data of this shape; None where all of it is declared and plain.

    (personal fields with their pointers, fields about others, undeclared fields, fields to look through, each
    with whether its key is an address, and whether it names something personal).

    Sources send the same fields in the same order again and again: the answer is kept by shape.
    """
    shape = (declared.name, tuple(data))
    try:
        return _plans[shape]
    except KeyError:
        pass
    fields = data.keys()
    undeclared = frozenset(fields - declared.fields)
    loose = (*undeclared, *(f for f in data if f in _FREE_FORM and f in declared.fields))
    plan: Plan | None = (
        tuple((f, "/" + f) for f in data if f in declared.personal),
        tuple(f for f in data if f in declared.others),
        undeclared,
        tuple((f, _personal_word(f), _personal_key(f)) for f in loose),
    )
    if not any(plan or ()) and "identifiers" not in fields:
        plan = None
    if len(_plans) >= 10_000:
        _plans.clear()
    if declared.fields:
        _plans[shape] = plan
    return plan


_FREE_FORM = frozenset({"properties", "traits", "context"})
"""Declared fields that hold properties of the source's own choosing."""


_EMPTY: tuple[Any, ...] = (None, "", [], {})


class _Gone:
    pass


_GONE: Any = _Gone()


def _free(value: Any, path: Path, parts: Parts, *, by_key: bool) -> Any:
    """*value* with its personal parts moved to *parts*; `_GONE` where all of it is personal."""
    if isinstance(value, str):
        return _free_text(value, path, parts)
    if isinstance(value, dict):
        return _free_object(value, path, parts, by_key)
    if isinstance(value, list):
        return _free_list(value, path, parts, by_key=by_key)
    return value


def _free_text(value: str, path: Path, parts: Parts) -> Any:
    if personal_text(value):
        parts.personal[pointer(path)] = value
        return _GONE
    bare = plain_url(value) if "?" in value else None
    if bare is not None:
        parts.personal[pointer(path)] = value
        return bare
    return value


def _free_object(value: dict[str, Any], path: Path, parts: Parts, by_key: bool) -> Any:
    """The same of an object; what most of its values are is told here, for calls cost."""
    keys = tuple(value)
    telling = _telling_keys(keys) if len(keys) <= _MOST_KEYS_KEPT else _telling_keys.__wrapped__(keys)
    if telling is None:  # a key can be an address too: the whole object is sealed
        parts.personal[pointer(path)] = value
        return _GONE
    if not by_key:
        telling = _NONE
    changed = None
    for key, inner in value.items():
        kind = type(inner)
        if key in telling:
            if not inner and inner in _EMPTY:
                continue
            parts.personal[pointer((*path, key))] = inner
            looked = _GONE
        elif kind is str:
            if inner.isalnum() or not (
                "@" in inner or "+" in inner or "?" in inner or ":" in inner or inner.count(".") == 3
            ):
                continue
            looked = _free_text(inner, (*path, key), parts)
        elif kind is dict:
            looked = _free_object(inner, (*path, key), parts, by_key)
        elif kind is int or inner is None or kind is float or kind is bool:
            continue
        else:
            looked = _free(inner, (*path, key), parts, by_key=by_key)
        if looked is not inner:
            if changed is None:
                changed = dict(value)
            if looked is _GONE:
                del changed[key]
            else:
                changed[key] = looked
    return value if changed is None else changed


_NONE: frozenset[str] = frozenset()


def _free_list(value: list[Any], path: Path, parts: Parts, *, by_key: bool) -> Any:
    kept: list[Any] | None = None
    for i, inner in enumerate(value):
        if type(inner) is dict:
            looked = _free_object(inner, (*path, i), parts, by_key)
        elif _tells_nothing(inner):
            continue
        else:
            looked = _free(inner, (*path, i), parts, by_key=by_key)
        if looked is not inner:
            if kept is None:
                kept = list(value)
            kept[i] = None if looked is _GONE else looked
    return value if kept is None else kept


def _tells_nothing(value: Any) -> bool:
    """Whether *value* surely holds nothing personal; most values are seen here, and go no further."""
    if type(value) is str:
        return value.isalnum() or not (
            "@" in value or "+" in value or "?" in value or ":" in value or value.count(".") == 3
        )
    return type(value) is int or value is None or type(value) is bool or type(value) is float


_personal_word = lru_cache(maxsize=10_000)(personal_text)
"""Of keys: sources send the same ones again and again."""


@lru_cache(maxsize=10_000)
def _personal_key(key: str) -> bool:
    """Whether the value under *key* of a source's own properties is taken for personal."""
    if key.lower().translate(_FOLD) in PERSONAL_KEYS:
        return True
    words = [word.lower() for word in _WORD.findall(key)]
    return any("".join(words[at:]) in _TELLING_LAST_WORDS for at in range(len(words)))


@lru_cache(maxsize=10_000)
def _telling_keys(keys: tuple[str, ...]) -> frozenset[str] | None:
    """Those of an object's *keys* whose values are taken for personal; None where a key itself is an address."""
    if any(map(personal_text, keys)):
        return None
    return frozenset(filter(_personal_key, keys))


def _steps(text: str) -> Iterator[str]:
    for step in text.split("/")[1:]:
        yield step.replace("~1", "/").replace("~0", "~")


def merge(plain: Data, sealed: dict[str, Any]) -> Data:
    """The data as it was sent: *plain* with every sealed value back at its JSON pointer."""
    whole: Any = {"": _copy(plain)}
    for place in sorted(sealed):
        at: Any = whole
        steps = ["", *_steps(place)]
        for step, following in pairwise(steps):
            if isinstance(at, list):
                index = int(step)
                if at[index] is None:
                    at[index] = [] if following.isdigit() else {}
                at = at[index]
            else:
                if at.get(step) is None:
                    at[step] = [] if following.isdigit() else {}
                at = at[step]
        last = steps[-1]
        if isinstance(at, list):
            index = int(last)
            at.extend([None] * (index + 1 - len(at)))
            at[index] = sealed[place]
        else:
            at[last] = sealed[place]
    result: Data = whole[""]
    return result


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _copy(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_copy(v) for v in value]
    return value
