"""Identifiers as sources write them, and what is declared about their kinds (SEMANTICS §2).

An identifier is (kind, value), in a namespace where its kind has some; a REF is its spelling in one
text. A subject is the surrogate that stands for one identifier in the log; which subjects are one
person is computed in domain/resolution.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from unicodedata import normalize

import msgspec

from domain.errors import Invalid, Problem

__all__ = [
    "KINDS",
    "LONGEST",
    "OWN_KIND",
    "RULE_VERSION",
    "Identifier",
    "Kind",
    "in_priority",
    "kind_of",
    "normalise",
    "parse_ref",
]

RULE_VERSION = 1
"""The version of the rule by which `normalise` works, stored with what it made."""

LONGEST = 1024
"""Characters; a longer identifier is refused."""


class Kind(msgspec.Struct, frozen=True):
    """What is declared about one kind of identifier."""

    priority: int  # place among the identifiers of an event; the first one's person owns the event
    limit: int  # values of this kind, per namespace, that a person may have by evidence
    namespace: bool = False  # whether `kind@namespace:value` may be said
    reference: bool = False  # names a thing of somebody's (order, case), never joins two persons


KINDS: dict[str, Kind] = {
    "subject": Kind(0, 1),  # a surrogate given as REF: it names its subject directly
    "user": Kind(10, 1, namespace=True),
    "crm": Kind(20, 1, namespace=True),
    "loyalty_card": Kind(30, 5, namespace=True),
    "email": Kind(40, 5),
    "phone": Kind(50, 5),
    "phone_raw": Kind(51, 5),
    "whatsapp": Kind(60, 5),
    "anonymous": Kind(80, 100, namespace=True),
    "order": Kind(90, 1, namespace=True, reference=True),
    "case": Kind(91, 1, namespace=True, reference=True),
}

OWN_KIND = Kind(70, 5, namespace=True)
"""Every kind that is not in `KINDS`: a company's own."""


def kind_of(name: str) -> Kind:
    """What holds for the kind *name*."""
    return KINDS.get(name, OWN_KIND)


class Identifier(msgspec.Struct, frozen=True, gc=False):
    """Something that names one person to one source."""

    kind: str
    value: str
    namespace: str = ""

    def __str__(self) -> str:
        """The REF that `parse_ref` reads back."""
        if self.kind == "subject":
            return self.value
        return f"{self.kind}@{self.namespace}:{self.value}" if self.namespace else f"{self.kind}:{self.value}"


_KIND = re.compile(r"[a-z][a-z0-9_]*\Z")
_SUBJECT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def parse_ref(text: str, *, pointer: str = "") -> Identifier:
    """Read a REF: `kind:value`, `kind@namespace:value`, or a subject id.

    Kind and namespace end at the **first** colon and the value is all that follows, colons and all:
    `user@shop:1` is user 1 of shop, `user@shop:1:2` is user `1:2` of shop. A namespace holds no colon.

    Args:
        pointer: where the text stood in a payload, for the error.

    Raises:
        Invalid: saying how to write it.
    """
    text = text.strip()
    head, colon, value = text.partition(":")
    if not colon:
        if _SUBJECT.match(text):
            return Identifier("subject", text)
        raise _no_ref(pointer, f"has no colon; write {_likely(text)}")
    kind, at, namespace = head.partition("@")
    if not _KIND.match(kind):
        fix = f"'{kind.lower()}'" if _KIND.match(kind.lower()) else _likely(text)
        raise _no_ref(
            pointer, f"begins with a kind that is not lower-case letters, digits and _; write {fix}"
        )
    if at and not namespace.strip():
        raise _no_ref(pointer, f"has an empty namespace; write '{kind}:…' or '{kind}@namespace:…'")
    if at and not kind_of(kind).namespace:
        raise _no_ref(pointer, f"gives a namespace, which '{kind}' does not have; write '{kind}:…'")
    if not value.strip():
        raise _no_ref(pointer, f"has no value; write '{head}:' and then the value")
    return Identifier(kind, value.strip(), namespace.strip())


def _no_ref(pointer: str, detail: str) -> Invalid:
    return Invalid([Problem(pointer, f"this is no REF: it {detail}.", "ref")])


def _likely(text: str) -> str:
    """What was probably meant; the text itself is not repeated, it may be personal."""
    if "@" in text:
        return "'email:' before the address"
    if re.match(r"\+?[\d\s().-]{6,}\Z", text):
        return "'phone:' before the number"
    return "'kind:value', e.g. 'user:u-1'"


_NOBODY = frozenset(
    (
        "anonymous",
        "guest",
        "distinctid",
        "distinct_id",
        "id",
        "not_authenticated",
        "email",
        "undefined",
        "true",
        "false",
        "null",
        "none",
        "nan",
        "0",
        "-1",
        "[object object]",
    )
)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _names_nobody(value: str) -> bool:
    """Whether a trimmed value is one that programs write when they know nobody."""
    if not value.strip("0-") or len(value) > LONGEST or value.lower() in _NOBODY:
        return True
    if value[0] in "\"'" and value[0] == value[-1]:
        inner = value[1:-1].strip()
        return not inner.strip("0-") or inner.lower() in _NOBODY
    return not value.isprintable() and _UNPRINTABLE.search(value) is not None


def normalise(
    identifier: Identifier, *, phone: Callable[[str], str | None], domain_to_ascii: Callable[[str], str]
) -> Identifier | None:
    """The one spelling of an identifier, under which it is looked up; None where it names nobody.

    Args:
        phone: a number in E.164, or None where it cannot be read as one.
        domain_to_ascii: the IDNA form of a domain; a ValueError leaves the domain as it is.
    """
    kind, value = identifier.kind, identifier.value.strip()
    if _names_nobody(value):
        return None
    if kind == "email":
        value = _email(value, domain_to_ascii)
        if len(value) > LONGEST:
            return None
    elif kind == "phone":
        number = phone(value)
        kind, value = ("phone_raw", value) if number is None else (kind, number)
    elif kind == "whatsapp":
        # A WhatsApp id is a number in E.164 without its plus; one that is no number stays as given.
        value = phone(f"+{value}" if value.isdecimal() else value) or value
    if kind is identifier.kind and value == identifier.value:
        return identifier
    return Identifier(kind, value, identifier.namespace)


def _email(value: str, domain_to_ascii: Callable[[str], str]) -> str:
    """Lower case and NFC, the domain in its IDNA form; plus-tags and dots are kept."""
    value = value.lower()
    if value.isascii():
        return value
    value = normalize("NFC", value)
    local, at, domain = value.rpartition("@")
    if not at or domain.isascii():
        return value
    try:
        return f"{local}@{domain_to_ascii(domain)}"
    except ValueError:
        return value


def _place(identifier: Identifier) -> tuple[int, str]:
    return kind_of(identifier.kind).priority, identifier.kind


def in_priority(identifiers: Iterable[Identifier]) -> list[Identifier]:
    """The identifiers of one event, in order of priority: the first one's person owns the event.

    Within a kind they stay as given; repeats are left out.
    """
    return sorted(dict.fromkeys(identifiers), key=_place)
