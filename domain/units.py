"""Quantities with their units, and how a person reads them.

The log keeps whole minor units and seconds; an agent reads `139.12 GBP` and `4 min 5 s`.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = ["Bytes", "Count", "Currency", "Minor", "Percent", "Points", "Quantity", "Seconds"]
__all__ += ["count", "money", "span", "tell", "words"]

Seconds = Annotated[float, msgspec.Meta(ge=0, description="a span in seconds")]
Minor = Annotated[int, msgspec.Meta(description="money in minor units of its currency, e.g. pence")]
Currency = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}$", description="ISO 4217 code, e.g. GBP")]
Count = Annotated[int, msgspec.Meta(ge=0, description="a number of things")]
Quantity = Annotated[int, msgspec.Meta(description="a number of pieces; negative when taken back")]
Points = Annotated[int, msgspec.Meta(description="loyalty points; negative when taken back")]
Percent = Annotated[float, msgspec.Meta(ge=0, le=100, description="per cent, 0 to 100")]
Bytes = Annotated[int, msgspec.Meta(ge=0, description="a size in bytes")]

# ISO 4217: the currencies whose minor unit is not a hundredth.
_DIGITS = {
    **dict.fromkeys(("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG"), 0),
    **dict.fromkeys(("RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
    "CLF": 4,
    "UYW": 4,
}

_LONGEST = 100  # characters of one part of a headline


def money(amount_minor: int | None, currency: str | None) -> str:
    """`139.12 GBP` for 13912 and GBP; empty when no amount is known."""
    if amount_minor is None:
        return ""
    digits = _DIGITS.get(currency or "", 2)
    whole, rest = divmod(abs(amount_minor), 10**digits)
    number = f"{'-' if amount_minor < 0 else ''}{whole:,}" + (f".{rest:0{digits}d}" if digits else "")
    return f"{number} {currency}" if currency else number


def span(seconds: float | None) -> str:
    """`4 min 5 s`, `2 h 10 min`, `3 d 4 h`: the two greatest units; empty when unknown."""
    if seconds is None:
        return ""
    rest = round(seconds)
    for size, unit, size_below, unit_below in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if rest >= size:
            great, small = rest // size, rest % size // size_below
            return f"{great:,} {unit}" + (f" {small} {unit_below}" if small else "")
    return f"{rest} s"


def count(number: int | None, thing: str, things: str | None = None) -> str:
    """`1 line`, `1,200 lines`; empty when unknown."""
    if number is None:
        return ""
    return f"{number:,} {thing if abs(number) == 1 else things or thing + 's'}"


def words(code: str | None) -> str:
    """A stored code as a person says it: `no_answer` is "no answer"."""
    return (code or "").replace("_", " ").replace("-", " ")


def tell(what: str, *details: str | None) -> str:
    """One line, `what: detail, detail`; unknown details are left out, long ones are cut."""
    known = [" ".join(str(d).split()) for d in details if d]
    cut = [d if len(d) <= _LONGEST else d[: _LONGEST - 1].rstrip() + "…" for d in known if d]
    return f"{what}: {', '.join(cut)}" if cut else what
