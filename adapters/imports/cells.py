"""Cells: the texts of a table as numbers, amounts of money, truths, each exact or refused with its column."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal
from math import isfinite
from typing import Any

import msgspec

from adapters.imports.maps import Field
from domain.errors import Problem, pointed
from domain.units import money

__all__ = ["BadCellError", "Rounded", "converter", "float_of", "minor_of", "number_of", "whole_of"]

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\Z")


class BadCellError(Exception):
    """A cell is not what the map says."""

    def __init__(self, column: str, detail: str, code: str = "invalid") -> None:
        super().__init__(detail)
        self.problem = Problem(f"/{pointed(column)}", detail, code)


class Rounded(msgspec.Struct, frozen=True):
    """Money that has more digits than its currency."""

    minor: int
    exact: str


def number_of(column: str, text: str) -> Decimal:
    """A plain decimal number; `1,234.50` is taken, a comma as decimal sign is not: it would be a guess."""
    stripped = text.strip()
    if _NUMBER.match(stripped):
        return Decimal(stripped)
    plain = stripped.replace(",", "")
    if re.match(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?\Z", stripped):
        return Decimal(plain)
    if re.match(r"[+-]?\d+,\d+\Z", stripped):
        raise BadCellError(
            column, f"'{column}' has a comma where a decimal point should be, such as 12.50.", "not_a_number"
        )
    raise BadCellError(
        column,
        f"'{column}' is no number; right would be digits such as 12 or 12.50, without signs of currency.",
        "not_a_number",
    )


def whole_of(column: str, text: str) -> int:
    number = number_of(column, text)
    if number != number.to_integral_value():
        raise BadCellError(column, f"'{column}' has a fraction; it should be a whole number.", "not_whole")
    if not -(2**63) <= number < 2**63:
        raise BadCellError(column, f"'{column}' is beyond 64 bits; read it as a text.", "too_large")
    return int(number)


def float_of(column: str, number: Decimal) -> float:
    found = float(number)
    if not isfinite(found):  # JSON has no word for it: it would be kept as null
        raise BadCellError(
            column, f"'{column}' is beyond what a float holds (1.8e308); read it as a decimal.", "too_large"
        )
    return found


def minor_of(column: str, number: Decimal, field: Field) -> int | Rounded:
    # domain.units knows the digits of each currency, and shows them: 0.00 GBP, 0 JPY.
    digits = len(money(0, field.currency).split()[0].partition(".")[2])
    scaled = number.scaleb(digits)
    whole = scaled.to_integral_value(ROUND_HALF_EVEN)
    if not -(2**63) <= whole < 2**63:
        raise BadCellError(column, f"'{column}' is beyond 64 bits; this is no amount of money.", "too_large")
    if whole == scaled:
        return int(whole)
    if field.rounding == "refuse":
        raise BadCellError(
            column,
            f"'{column}' has more than {digits} digits behind the point, which {field.currency} does not have; or say rounding = \"half_even\" in the map.",
            "too_precise",
        )
    return Rounded(int(whole), str(number))


_YES = frozenset(("true", "yes", "y", "1", "t"))
_NO = frozenset(("false", "no", "n", "0", "f"))


def converter(column: str, field: Field) -> Callable[[str], Any]:
    match field.type:
        case "whole":
            return lambda text: whole_of(column, text)
        case "money":
            return lambda text: minor_of(column, number_of(column, text), field)
        case "float":
            return lambda text: float_of(column, number_of(column, text))
        case "decimal":
            return lambda text: str(number_of(column, text))
        case _:

            def yes_no(text: str) -> bool:
                word = text.lower()
                if word in _YES or word in _NO:
                    return word in _YES
                raise BadCellError(
                    column,
                    f"'{column}' is neither yes nor no; right would be one of true, false, yes, no, 1, 0.",
                    "not_allowed",
                )

            return yes_no
