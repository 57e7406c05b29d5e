"""Normalisation of identifiers with the libraries that know the rules: phonenumbers and IDNA."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

import idna
import phonenumbers

from domain.identity import LONGEST, Identifier, normalise, parse_ref

__all__ = ["normalised", "read_ref"]


_INTERNATIONAL = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII).fullmatch


@lru_cache(maxsize=100_000)
def _e164(number: str, region: str | None) -> str | None:
    """E.164 of *number*, read in *region* when it has no country code; None where it cannot be parsed."""
    if _INTERNATIONAL(number) and _is_e164(number):
        return number
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def _is_e164(number: str) -> bool:
    """Whether `+` and digits surely are E.164 as they stand, as most are: told in a tenth of the time that reading them takes.

    They are where the country's numbers have this length, and nothing at the beginning is dialled within the country only.
    """
    for end in (2, 3, 4):
        country = _country(int(number[1:end]))
        if country is not None:
            dialled, lengths = country
            own = number[end:]
            return own[0] != "0" and len(own) in lengths and (dialled is None or not dialled(own))
    return False


@lru_cache(maxsize=1_000)
def _country(code: int) -> tuple[Callable[[str], object] | None, frozenset[int]] | None:
    """(what matches a prefix that is dialled within the country only, how long its numbers may be) of a calling code."""
    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(code)
    if regions is None:
        return None
    found = phonenumbers.PhoneMetadata.metadata_for_region_or_calling_code(code, regions[0])
    if found is None or found.general_desc is None:
        return None
    prefix = found.national_prefix_for_parsing
    return re.compile(prefix).match if prefix else None, frozenset(found.general_desc.possible_length)


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
