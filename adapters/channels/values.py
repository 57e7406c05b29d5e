"""Reading values out of the payloads of others, which may hold anything anywhere: none of these ever fails."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

import msgspec

from domain.units import money

__all__ = [
    "at_epoch",
    "at_mail_date",
    "at_time",
    "currency",
    "first",
    "inside",
    "listed",
    "minor",
    "quantity",
    "seconds",
    "text",
    "whole",
    "within",
]

_LONGEST_DIGITS = 30
_CURRENCY = re.compile(r"[A-Z]{3}\Z")
_EXACT = 1e10
"""Below it a float tells amounts apart to four digits behind the point and more: it holds one such amount at most."""
_EARLIEST = datetime(1, 1, 2, tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def inside(value: Any, *names: str | int) -> Any:
    """What lies under *names* in objects and lists within one another; None where it is not."""
    for name in names:
        if isinstance(name, int):
            value = value[name] if isinstance(value, list) and -len(value) <= name < len(value) else None
        else:
            value = value.get(name) if isinstance(value, dict) else None
    return value


def listed(value: Any) -> list[Any]:
    """*value* where it is a list; else nothing."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """A text that says something; whole numbers are told in digits, exactly. None for all else."""
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return str(value)
        except ValueError:  # thousands of digits
            return None
    return None


def first(*values: Any) -> str | None:
    """The first of *values* that says something."""
    for value in values:
        found = text(value)
        if found is not None:
            return found
    return None


def whole(value: Any) -> int | None:
    """A whole number within 64 bits, given as such or in digits."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    if isinstance(value, str):
        value = int(value) if re.fullmatch(r"\s*-?\d{1,19}\s*", value, re.ASCII) else None
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else None


def quantity(value: Any) -> int | None:
    """A number of pieces."""
    return whole(value)


def seconds(value: Any) -> float | None:
    """A span that is not negative, in seconds."""
    number = decimal(value)
    if number is None or not 0 <= number < 10**12:
        return None
    return int(number) if number == number.to_integral_value() else float(number)


def decimal(value: Any) -> Decimal | None:
    """A number, exactly as it was written."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        try:
            value = repr(value)
        except ValueError:
            return None
    if not isinstance(value, str) or len(value) > 2 * _LONGEST_DIGITS:
        return None
    try:
        number = Decimal(value.strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < _LONGEST_DIGITS else None


def within(value: Any, least: float, most: float) -> float | None:
    """A number from *least* to *most*, both included, given as such or in digits: a score, a share, a rating."""
    number = decimal(value)
    if number is None or not least <= number <= most:
        return None
    return int(number) if number == number.to_integral_value() else float(number)


def currency(value: Any) -> str | None:
    """An ISO 4217 code."""
    return _code(value) if isinstance(value, str) and len(value) <= 16 else None


@lru_cache(maxsize=1_000)
def _code(text: str) -> str | None:
    code = text.strip().upper()
    return code if _CURRENCY.match(code) else None


@lru_cache(maxsize=1_000)
def _digits(code: str) -> int:
    """How many digits of a currency are minor: domain.units knows, and shows them: 0.00 GBP, 0 JPY."""
    return len(money(0, code).split()[0].partition(".")[2])


def minor(amount: Any, code: str | None) -> int | None:
    """An amount of money in minor units of its currency; None without a currency, for its unit is then unknown."""
    if code is None:
        return None
    if type(amount) is float and -_EXACT < amount < _EXACT:
        scale: int = 10 ** _digits(code)
        found: int = round(amount * scale)
        if found / scale == amount:  # it has no more digits: nothing is to be rounded
            return found
    number = decimal(amount)
    if number is None:
        return None
    scaled = int(number.scaleb(_digits(code)).to_integral_value(ROUND_HALF_EVEN))
    return scaled if -(2**63) <= scaled < 2**63 else None


_time = msgspec.json.Decoder(datetime).decode
"""Of a text in quotes; a third of the cost of `convert`."""


def at_time(value: Any, *, zone: tzinfo | None = None) -> datetime | None:
    """An RFC 3339 time, fractions of any length; without a zone in *zone*, or None where that is None."""
    if not isinstance(value, str) or not 10 <= len(value) <= 64:
        return None
    given = value.strip()
    try:
        if given[-1:] == "Z" and len(given) <= 27 and given.isascii() and "\\" not in given:  # as most are
            return _in_utc(_time(f'"{given}"'))
        given = re.sub(r"(\.\d{6})\d+", r"\1", given, count=1)
        given = re.sub(r"([+-]\d\d)(\d\d)\Z", r"\1:\2", given, count=1)
        at = msgspec.convert(given, datetime)
    except (msgspec.DecodeError, ValueError):
        return None
    if at.tzinfo is None:
        if zone is None:
            return None
        at = at.replace(tzinfo=zone)
    return _in_utc(at)


def _in_utc(at: datetime) -> datetime | None:
    if at.tzinfo is not UTC:
        try:
            at = at.astimezone(UTC)
        except (OverflowError, ValueError):
            return None
    return at if at >= _EARLIEST else None


def at_epoch(value: Any, *, unit_s: Decimal = Decimal(1)) -> datetime | None:
    """A time in units since 1970, as a number or in digits; by default seconds, with a fraction or without."""
    number = decimal(value)
    if number is None:
        return None
    try:
        return _in_utc(_EPOCH + timedelta(microseconds=int(number * unit_s * 1_000_000)))
    except (OverflowError, ValueError):
        return None


def at_mail_date(value: Any) -> datetime | None:
    """An RFC 2822 time, such as `Sun, 25 Mar 2018 09:53:19 +0000`."""
    if not isinstance(value, str) or not 10 <= len(value) <= 64:
        return None
    try:
        at = parsedate_to_datetime(value)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
    return _in_utc(at if at.tzinfo is not None else at.replace(tzinfo=UTC))


def only(data: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Members of *data* that are not among *names*."""
    left = frozenset(names)
    return {name: value for name, value in data.items() if name not in left}
