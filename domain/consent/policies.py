"""What law adds to consent, as dated data with its sources: engineering input, not legal advice.

A policy holds for a jurisdiction and some channels from a day on. Code asks for the one in force; a change
of law is another row here, and messages of earlier days go on being judged by the row of their day.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from domain.consent.business_days import Calendar, after_business_days

__all__ = ["POLICIES", "VERSION", "Policy", "grace_until", "implied_until", "policy_of"]

VERSION = "2026-11-22"
"""The version of this table; every verdict names the one by which it was judged."""

_EMAIL = ("email",)
_CALLS = ("sms", "phone", "call", "whatsapp", "mms", "fax")
_ANY = ("*",)


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """What one law says of marketing messages on some channels, from a day on."""

    name: str
    jurisdictions: tuple[str, ...]  # ISO 3166 codes; EU and EEA countries each by its own
    channels: tuple[str, ...]  # "*" is any
    effective_from: date
    effective_to: date | None = None
    zone: str = "UTC"  # in which its days are counted
    calendar: Calendar | None = None
    opt_out_grace_business_days: int = 0  # within which a withdrawal or objection may still be on its way
    opt_out_grace_days: int = 0  # the same in calendar days
    quiet_from: time | None = None  # local time of the person called; no solicitation from here
    quiet_to: time | None = None  # until here
    implied_by_purchase_months: int | None = None  # how long a purchase or contract implies consent
    implied_by_inquiry_months: int | None = None
    soft_opt_in: bool = False  # own similar products after a sale, opt-out offered then and in every message
    sources: tuple[str, ...]


_EU = tuple(
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE SI SK EU".split()
)

POLICIES: tuple[Policy, ...] = (
    Policy(
        name="GDPR and ePrivacy",
        jurisdictions=_EU,
        channels=_ANY,
        effective_from=date(2018, 5, 25),
        soft_opt_in=True,
        sources=(
            "Regulation (EU) 2016/679 art. 4(11), 7(3), 21(2)-(3)",
            "Directive 2002/58/EC art. 13(2)",
        ),
    ),
    Policy(
        name="UK GDPR and PECR",
        jurisdictions=("GB", "UK"),
        channels=_ANY,
        effective_from=date(2003, 12, 11),
        soft_opt_in=True,
        sources=("SI 2003/2426 reg. 21, 22", "UK GDPR art. 7(3), 21(2)-(3)"),
    ),
    Policy(
        name="CAN-SPAM",
        jurisdictions=("US",),
        channels=_EMAIL,
        effective_from=date(2004, 1, 1),
        zone="America/New_York",
        calendar="US",
        opt_out_grace_business_days=10,
        sources=("15 USC 7704(a)(4)(A)",),
    ),
    Policy(
        name="TCPA, before April 2025",
        jurisdictions=("US",),
        channels=_CALLS,
        effective_from=date(2012, 10, 16),
        effective_to=date(2025, 4, 11),
        zone="America/New_York",
        calendar="US",
        opt_out_grace_days=30,
        quiet_from=time(21),
        quiet_to=time(8),
        sources=("47 CFR 64.1200(c)(1), (d)(3) as in force until 10 April 2025",),
    ),
    Policy(
        name="TCPA",
        jurisdictions=("US",),
        channels=_CALLS,
        effective_from=date(2025, 4, 11),
        zone="America/New_York",
        calendar="US",
        opt_out_grace_business_days=10,
        quiet_from=time(21),
        quiet_to=time(8),
        sources=("47 CFR 64.1200(a)(10), (c)(1)", "89 FR 15756"),
    ),
    Policy(
        name="CASL",
        jurisdictions=("CA",),
        channels=_ANY,
        effective_from=date(2014, 7, 1),
        zone="America/Toronto",
        calendar="CA",
        opt_out_grace_business_days=10,
        implied_by_purchase_months=24,
        implied_by_inquiry_months=6,
        sources=("SC 2010, c. 23, s. 10(9)-(10), 11(3)",),
    ),
)


@lru_cache(maxsize=4096)
def policy_of(jurisdiction: str | None, channel: str, on: date) -> Policy | None:
    """The policy in force on a day; None where the table has none, and then nothing is granted by law.

    Args:
        jurisdiction: an ISO 3166 code, with a subdivision or without (`US-FL` is `US`).
    """
    if jurisdiction is None:
        return None
    country = jurisdiction.strip().upper().partition("-")[0]
    for policy in POLICIES:
        if (
            country in policy.jurisdictions
            and ("*" in policy.channels or channel in policy.channels)
            and policy.effective_from <= on
            and (policy.effective_to is None or on < policy.effective_to)
        ):
            return policy
    return None


def grace_until(jurisdiction: str | None, channel: str, received_at: datetime) -> datetime | None:
    """Until when law lets an opt-out be on its way; None where it gives no such time.

    The policy is the one in force when the opt-out was received. Its window ends at the same local time on the
    last day, and excludes that instant.
    """
    policy = policy_of(jurisdiction, channel, received_at.astimezone(UTC).date())
    if policy is None or not (policy.opt_out_grace_business_days or policy.opt_out_grace_days):
        return None
    local = received_at.astimezone(ZoneInfo(policy.zone))
    day = date.fromordinal(local.date().toordinal() + policy.opt_out_grace_days)
    if policy.opt_out_grace_business_days and policy.calendar is not None:
        day = after_business_days(local.date(), policy.opt_out_grace_business_days, policy.calendar)
    return local.replace(year=day.year, month=day.month, day=day.day).astimezone(UTC)


_INQUIRIES = frozenset(("inquiry", "application"))


@lru_cache(maxsize=100_000)
def implied_until(
    jurisdiction: str | None, legal_basis: str | None, method: str | None, since: datetime
) -> datetime | None:
    """When consent that was implied by a purchase or an inquiry lapses; None for any other, or where law sets no end.

    A message may go out on every day whose day so many months earlier is not behind the purchase: for one of
    29 February 2024 the last is 28 February 2026 (SC 2010, c. 23, s. 10(10)).
    """
    if legal_basis is None or not legal_basis.startswith("implied"):
        return None
    policy = policy_of(jurisdiction, "email", since.astimezone(UTC).date())
    if policy is None:
        return None
    months = policy.implied_by_inquiry_months if method in _INQUIRIES else policy.implied_by_purchase_months
    if months is None:
        return None
    zone = ZoneInfo(policy.zone)
    began = since.astimezone(zone).date()
    day = _months_after(began, months)
    while _months_after(day, -months) <= began:
        day = date.fromordinal(day.toordinal() + 1)
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _months_after(day: date, months: int) -> date:
    """The same day some months later or earlier; the last of the month where it has no such day."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    for last in (day.day, 30, 29, 28):
        try:
            return date(year, month + 1, min(day.day, last))
        except ValueError:
            continue
    raise AssertionError("every month has 28 days")
