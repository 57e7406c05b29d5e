"""How likely two persons are one, and why: reasons for and against, each with its weight.

Nothing is merged because of this: it is a list for somebody to decide on. The score of a pair is one minus
the product of what each reason leaves in doubt, times what speaks against it:

    score = (1 - (1 - w1)(1 - w2)…) · f1 · f2 …

A name alone makes nobody a duplicate, nor does an address alone: a name counts together with an address or a
birth date, or beside a shared contact.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Literal

import msgspec

from domain.portrait import Address, Portrait, words_in

__all__ = ["LEAST_SCORE", "Facts", "Likeness", "Reason", "compared"]

Similar = Callable[[str, str], float]
"""How alike two texts are, 0 to 100, whatever the order of their words."""

LEAST_SCORE = 0.3
"""Pairs below are not listed."""

_WEIGHTS = {
    "same_email": 0.85,
    "same_phone": 0.75,
    "named_together": 0.6,
    "same_name": 0.4,
    "similar_name": 0.3,
    "same_address": 0.45,
    "similar_address": 0.35,
    "same_birth_date": 0.4,
}
_AGAINST = {"other_name": 0.5, "other_birth_date": 0.4}
_STRONG = frozenset(("same_email", "same_phone", "named_together"))
_SAME, _ALIKE, _UNLIKE = 99.9, 85.0, 60.0

What = Literal[
    "same_email", "same_phone", "named_together", "same_name", "similar_name", "same_address", "similar_address",
    "same_birth_date", "other_name", "other_birth_date",
]  # fmt: skip


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why two persons may be one, or (with `against`) why rather not."""

    what: What
    weight: float  # of a reason against: what the score is multiplied by
    told: str  # the values, as a person says them
    against: bool = False


class Likeness(msgspec.Struct, frozen=True):
    """How alike two persons are."""

    score: float
    reasons: tuple[Reason, ...]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is compared of one person."""

    portrait: Portrait
    emails: Collection[str] = ()  # normalised, of identifiers and traits
    phones: Collection[str] = ()  # E.164
    named: Collection[str] = ()  # REFs in events of this person that belong to the other


def compared(one: Facts, other: Facts, similar: Similar) -> Likeness | None:
    """How alike two persons are; None where nothing but a name, or nothing at all, speaks for it."""
    reasons = [
        *_shared("same_email", one.emails, other.emails),
        *_shared("same_phone", one.phones, other.phones),
    ]
    told = {reason.told for reason in reasons}
    together = sorted({*one.named, *other.named})
    if together and not any(ref.partition(":")[2] in told for ref in together):
        reasons.append(_reason("named_together", ", ".join(together)))
    name = _name(one.portrait, other.portrait, similar)
    address = _address(one.portrait.address, other.portrait.address, similar)
    birth = _birth(one.portrait.birth, other.portrait.birth)
    reasons += [reason for reason in (name, address, birth) if reason is not None]
    for_it = [reason for reason in reasons if not reason.against]
    strong = any(reason.what in _STRONG for reason in for_it)
    by_name = name is not None and not name.against
    beside = any(reason.what.endswith(("_address", "_birth_date")) for reason in for_it)
    if not (strong or (by_name and beside)):
        return None
    doubt, factor = 1.0, 1.0
    for reason in reasons:
        if reason.against:
            factor *= reason.weight
        else:
            doubt *= 1 - reason.weight
    score = round((1 - doubt) * factor, 3)
    return Likeness(score, tuple(reasons)) if score >= LEAST_SCORE else None


def _reason(what: What, told: str) -> Reason:
    if what in _AGAINST:
        return Reason(what=what, weight=_AGAINST[what], told=told, against=True)
    return Reason(what=what, weight=_WEIGHTS[what], told=told)


def _shared(what: What, one: Collection[str], other: Collection[str]) -> list[Reason]:
    """At most one reason, however many are shared."""
    both = sorted(set(one) & set(other))
    return [_reason(what, ", ".join(both[:3]))] if both else []


def _name(one: Portrait, other: Portrait, similar: Similar) -> Reason | None:
    """The two names that are most alike speak; of equally alike ones those that are one, then the first by their letters.

    Which person comes first is decided by surrogates, and which name by arrival: neither may choose what is told.
    """
    pairs = [(a, b, similar(_joined(a), _joined(b))) for a in one.names for b in other.names]
    if not pairs:
        return None
    a, b, most = min(pairs, key=lambda pair: (-pair[2], pair[0] != pair[1], sorted(pair[:2]), pair[:2]))
    if most >= _SAME:
        return _reason("same_name", a if a == b else f"{a} / {b}")
    if most >= _ALIKE:
        return _reason("similar_name", f"{a} / {b}")
    return _reason("other_name", f"{one.name or a} / {other.name or b}") if most < _UNLIKE else None


def _joined(name: str) -> str:
    return " ".join(words_in(name))


def _address(one: Address, other: Address, similar: Similar) -> Reason | None:
    """A street in the same postcode or city; the numbers in it must be the same."""
    if not (one.street and other.street):
        return None
    same_code = bool(one.postcode) and one.postcode == other.postcode
    codes_differ = bool(one.postcode) and bool(other.postcode) and not same_code
    same_city = bool(one.city) and similar(one.city, other.city) >= _ALIKE
    if not (same_code or (same_city and not codes_differ)):
        return None
    if _numbers(one.street) != _numbers(other.street):
        return None
    alike = similar(one.street, other.street)
    told = f"{one.street}, {one.postcode or one.city} / {other.street}, {other.postcode or other.city}"
    if alike >= _SAME:
        return _reason("same_address", f"{one.street}, {one.postcode or one.city}")
    return _reason("similar_address", told) if alike >= _ALIKE - 5 else None


def _numbers(street: str) -> list[str]:
    return [word for word in street.split() if word[0].isdigit()]


def _birth(one: str, other: str) -> Reason | None:
    if not (one and other):
        return None
    return (
        _reason("same_birth_date", one) if one == other else _reason("other_birth_date", f"{one} / {other}")
    )
