"""Normalisation of identifiers with the libraries that know the rules: phonenumbers and IDNA."""

from __future__ import annotations

import re
from functools import lru_cache

import idna
import phonenumbers

from domain.identity import LONGEST, Identifier, normalise, parse_ref

__all__ = ["normalised", "read_ref"]


@lru_cache(maxsize=100_000)
def _e164(number: str, region: str | None) -> str | None:
    """E.164 of *number*, read in *region* when it has no country code; None where it cannot be parsed."""
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


@lru_cache(maxsize=10_000)
def _ascii_domain(domain: str) -> str:
    """The IDNA 2008 A-label form (RFC 5891) of a domain; *domain* itself where it has none."""
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError:
        return domain


def normalised(identifier: Identifier, region: str | None = None) -> Identifier | None:
    """The identifier as it is looked up, or None where it names nobody (SEMANTICS §2)."""
    return normalise(identifier, phone=lambda number: _e164(number, region), domain_to_ascii=_ascii_domain)


_NORMAL_EMAIL = re.compile(r"email:[a-z0-9][a-z0-9._+-]*@[a-z0-9.-]*[a-z0-9]").fullmatch


def read_ref(text: str, region: str | None = None, *, pointer: str = "") -> Identifier | None:
    """The identifier that a REF names, as it is looked up, or None where it names nobody; a subject id stays as it is.

    Args:
        pointer: where the text stood in a payload, for the error.

    Raises:
        Invalid: this is no REF.
    """
    if len(text) <= LONGEST and _NORMAL_EMAIL(text):  # most are written as they are looked up
        return Identifier("email", text[6:])
    identifier = parse_ref(text, pointer=pointer)
    return identifier if identifier.kind == "subject" else normalised(identifier, region)
