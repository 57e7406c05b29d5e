"""The catalogue of purposes: dotted names, each with versions; a purpose that is not in it is listed, with full effect.

A company's own purposes are those that its published notices name. These are the ones that touchlog ships.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import msgspec

__all__ = ["CHANNELS", "PURPOSES", "Purpose", "catalogue"]


class Purpose(msgspec.Struct, frozen=True, kw_only=True):
    """What personal data is used for; *means* is the text of this version, in force from a day on."""

    name: str
    version: int
    effective_from: date
    means: str


CHANNELS = frozenset(
    "email sms mms phone call whatsapp message messenger push app web chat post letter fax store campaign".split()
)
"""Channels that consent is asked for. A fact that names another has full effect, and is listed: it may be misspelt."""

_FIRST = date(2018, 5, 25)

PURPOSES: tuple[Purpose, ...] = tuple(
    Purpose(name=name, version=1, effective_from=_FIRST, means=means)
    for name, means in (
        ("marketing", "Advertising of any kind, to one person."),
        ("marketing.news", "A newsletter that the person subscribed to."),
        ("marketing.offers", "Offers and discounts."),
        ("marketing.events", "Invitations to events."),
        ("marketing.partners", "Advertising for other companies."),
        ("marketing.survey", "Surveys that advertise, or that advertising rests on."),
        ("analytics", "Measuring how a service is used."),
        ("profiling", "Guessing interests from what a person did, to choose what it is shown."),
        ("service", "What a person asked for: orders, cases, appointments, security."),
    )
)


def catalogue(named_by_notices: Iterable[str] = ()) -> frozenset[str]:
    """Every purpose that is known: shipped, or named by a notice that was published."""
    return frozenset(purpose.name for purpose in PURPOSES) | frozenset(named_by_notices)
