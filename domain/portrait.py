"""What a profile tells of who somebody is: names, address, birth date, e-mail addresses and phone numbers.

Sources call traits as they like (`first_name`, `firstName`, `Given Name`): what a trait is about is told by its
name without `_`, `-`, spaces and case. Words are compared with case and accents folded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from unicodedata import category, normalize

import msgspec

__all__ = ["Address", "Portrait", "folded_text", "portrait_of", "sound_of", "spellings", "words_in"]

_WHOLE = ("name", "fullname", "displayname", "customername", "contactname")
_GIVEN = ("firstname", "givenname")
_MIDDLE = ("middlename",)
_FAMILY = ("lastname", "familyname", "surname")
_ALSO = ("nickname", "maidenname", "formername", "preferredname")
_STREET = ("street", "streetaddress", "address1", "addressline1", "line1")
_POSTCODE = ("postcode", "postalcode", "zip", "zipcode")
_CITY = ("city", "town", "locality")
_BIRTH = ("birthday", "birthdate", "dateofbirth", "dob")
_EMAIL = ("email", "emailaddress", "mail", "emails")
_PHONE = (
    "phone",
    "phonenumber",
    "mobile",
    "mobilephone",
    "mobilenumber",
    "telephone",
    "tel",
    "whatsapp",
    "phones",
)
_PLAIN = str.maketrans("", "", "_- .")
# Letters that no decomposition makes plain (Unicode has none for them).
_LETTERS = str.maketrans({"ł": "l", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})
_SPELT_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa"})
_SPELT = re.compile("([aou])e")
_WORD = re.compile(r"[^\W_]+")
_MOST_WORDS = 12
"""Of one name; longer ones are no names."""


class Address(msgspec.Struct, frozen=True, gc=False):
    """Where somebody lives, folded; what was not said is empty."""

    street: str = ""
    postcode: str = ""
    city: str = ""


class Portrait(msgspec.Struct, frozen=True, kw_only=True):
    """Who somebody is by their traits."""

    name: str = ""  # as it is shown
    names: tuple[str, ...] = ()  # every name that was said, as it was said
    address: Address = Address()
    birth: str = ""  # ISO date
    emails: tuple[str, ...] = ()  # as said, not normalised
    phones: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """The folded words of all names."""
        return list(dict.fromkeys(word for name in self.names for word in words_in(name)))


def folded_text(text: str) -> str:
    """*text* without case and accents: `Łukasz MÜLLER` is `lukasz muller`."""
    parts = normalize("NFKD", normalize("NFKD", text).casefold())  # what decomposes may be in upper case
    return normalize("NFC", "".join(c for c in parts if category(c) != "Mn")).translate(_LETTERS)


def words_in(text: str) -> list[str]:
    """The folded words of a text; an apostrophe parts none (`O'Brien` is one word), a hyphen does."""
    return _WORD.findall(folded_text(text.replace("'", "").replace("’", "")))[:_MOST_WORDS]


def spellings(text: str) -> list[list[str]]:
    """For each word of a name its folded spellings: `Müller` and `Mueller` are both `muller` and `mueller`."""
    plain = words_in(text)
    spelt = words_in(normalize("NFC", text.casefold()).translate(_SPELT_OUT))
    if len(spelt) != len(plain):
        spelt = plain
    return [
        list(dict.fromkeys((word, longer, _SPELT.sub(r"\1", word))))
        for word, longer in zip(plain, spelt, strict=True)
    ]


_CODES = {
    letter: code
    for code, letters in {"1": "bfpvw", "2": "cgjkqsxz", "3": "dt", "4": "l", "5": "mn", "6": "r"}.items()
    for letter in letters
}


def sound_of(word: str) -> str:
    """How a folded word sounds, roughly: alike for `meyer`, `maier`, `mayr`; of American Soundex's classes.

    Its first letter is a class, too (`philip`, `filip`); a word in another script sounds as it is written.
    """
    word = word.replace("ph", "f").replace("th", "t")
    if not word.isascii() or not word.isalpha():
        return word
    codes = [_CODES.get(letter, "0" if letter in "aeiouy" else "") for letter in word]
    found = codes[0] or word[0]
    last = codes[0]
    for code in codes[1:]:
        if code and code not in (last, "0"):
            found += code
        last = code or last
    return found[:5]


def portrait_of(traits: Mapping[str, Any]) -> Portrait:
    """What *traits* (the values of a profile) tell of who somebody is."""
    said: dict[str, list[str]] = {}
    for name, value in _flat(traits):
        said.setdefault(name, []).append(value)

    def first(names: tuple[str, ...]) -> str:
        return next((value for name in names for value in said.get(name, ())), "")

    parts = " ".join(filter(None, (first(_GIVEN), first(_MIDDLE), first(_FAMILY))))
    whole = first(_WHOLE)
    names = dict.fromkeys(
        name for name in (whole, parts, *(v for key in _ALSO for v in said.get(key, ()))) if name
    )
    return Portrait(
        name=whole or parts,
        names=tuple(names),
        address=Address(
            street=" ".join(words_in(first(_STREET) or first(("address",)))),
            postcode="".join(words_in(first(_POSTCODE))),
            city=" ".join(words_in(first(_CITY))),
        ),
        birth=_date(first(_BIRTH)),
        emails=tuple(dict.fromkeys(v for key in _EMAIL for v in said.get(key, ()) if "@" in v)),
        phones=tuple(dict.fromkeys(v for key in _PHONE for v in said.get(key, ()))),
    )


def _flat(traits: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(folded name, text) of traits, of those inside an address, and of the members of lists."""
    for name, value in traits.items():
        key = name.lower().translate(_PLAIN)
        if isinstance(value, Mapping):
            if key.endswith("address") and value.get("erased") is not True:
                yield from _flat(value)
            continue
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, str) and one.strip() and len(one) <= 200:
                yield key, one.strip()
            elif isinstance(one, int) and not isinstance(one, bool):
                yield key, str(one)


def _date(text: str) -> str:
    """The ISO date that a text begins with, or nothing."""
    return text[:10] if re.match(r"\d{4}-\d{2}-\d{2}(?!\d)", text) else ""
