"""How quantities are told: money by the digits of its currency, spans by their two greatest units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.units import count, money, span, tell, words

WHOLE = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split()
THOUSANDTHS = "BHD IQD JOD KWD LYD OMR TND".split()


@pytest.mark.parametrize(
    ("currency", "told"),
    [
        *((code, "-1,234,567") for code in WHOLE),
        *((code, "-1,234.567") for code in THOUSANDTHS),
        *((code, "-123.4567") for code in ("CLF", "UYW")),
        *((code, "-12,345.67") for code in ("EUR", "GBP", "MGA", "XXX")),
    ],
)
def test_money_has_the_digits_that_iso_4217_gives_its_currency(currency: str, told: str) -> None:
    assert money(-1_234_567, currency) == f"{told} {currency}"


def test_money_without_a_currency_has_hundredths_and_without_an_amount_is_nothing() -> None:
    assert (money(5, None), money(-5, "EUR"), money(0, "JPY"), money(None, "EUR")) == (
        "0.05",
        "-0.05 EUR",
        "0 JPY",
        "",
    )


@given(st.integers(0, 10**9))
def test_a_span_is_told_to_within_its_second_unit(seconds: int) -> None:
    sizes = {"d": 86_400, "h": 3_600, "min": 60, "s": 1}
    parts = span(seconds).replace(",", "").split()
    told = sum(int(n) * sizes[unit] for n, unit in zip(parts[::2], parts[1::2], strict=True))
    finest = {"d": 3_600, "h": 60, "min": 1, "s": 1}[parts[1]]
    assert len(parts) <= 4
    assert 0 <= seconds - told < finest


def test_where_a_quantity_is_unknown_nothing_is_told_and_one_thing_is_told_as_one() -> None:
    assert (span(None), count(None, "line"), words(None)) == ("", "", "")
    assert (count(1, "line"), count(-1, "line"), count(1200, "line"), count(2, "entry", "entries")) == (
        "1 line",
        "-1 line",
        "1,200 lines",
        "2 entries",
    )
    assert (span(59.4), span(59.5), span(60), span(3_600), span(86_399)) == (
        "59 s",
        "1 min",
        "1 min",
        "1 h",
        "23 h 59 min",
    )
    assert words("no_answer-yet") == "no answer yet"


def test_a_detail_of_a_headline_is_one_line_of_a_hundred_characters_at_most() -> None:
    assert tell("Call", None, "", " a \n b ") == "Call: a b"
    assert (tell("Call", " "), tell("Call")) == ("Call", "Call")
    assert tell("Call", "x" * 100) == f"Call: {'x' * 100}"
    assert tell("Call", "x" * 101) == f"Call: {'x' * 99}…"
