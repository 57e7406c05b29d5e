"""The readers of payloads: what is read quickly is read as exactly as in the long way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.channels.values import at_time, currency, minor
from domain.entry import moment_once

DIGITS = {"EUR": 2, "JPY": 0, "KWD": 3, "CLF": 4}


@given(
    st.one_of(
        st.floats(-1e13, 1e13).filter(lambda amount: not 0 < abs(amount) < 1e-20),  # is none
        st.builds(round, st.floats(-2e10, 2e10), st.integers(0, 5)),
        st.builds(lambda n: n / 100, st.integers(-(10**12), 10**12)),
    ),
    st.sampled_from(sorted(DIGITS)),
)
@example(903546279702.8691, "CLF")
@example(2.675, "EUR")
@example(0.575, "EUR")
@example(-0.0, "EUR")
def test_money_in_a_float_is_what_its_digits_say(amount: float, code: str) -> None:
    said = Decimal(repr(amount)).scaleb(DIGITS[code]).to_integral_value(ROUND_HALF_EVEN)
    assert minor(amount, code) == int(said)


@pytest.mark.parametrize(
    ("given_", "code"),
    [
        ("EUR", "EUR"),
        (" eur ", "EUR"),
        ("EURO", None),
        ("", None),
        ("€", None),
        (978, None),
        ("E" * 500, None),
    ],
)
def test_a_currency_is_three_letters(given_: object, code: str | None) -> None:
    assert currency(given_) == code


@given(
    st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29)),  # noqa: DTZ001 - the zone comes on the next line
    st.integers(-14 * 60, 14 * 60),
)
@example(datetime(2026, 1, 31, 12), 0)  # noqa: DTZ001
def test_a_moment_has_one_spelling_whatever_its_zone(at: datetime, minutes: int) -> None:
    there = at.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    spelt = f"{there.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
    assert moment_once(there) == spelt
    assert at_time(spelt) == there


@pytest.mark.parametrize(
    "given_",
    [
        '2026-11-03T04:05:06"Z',
        "2026\\u002d11-03T04:05:06Z",
        "2026-11-03T04:05:06Z\\n"[:-1],
        "2026-13-03T04:05:06Z",
        "2026-11-03T04:05Z",
        "2026-11-03T04:05:06.123X",
        "２026-11-03T04:05:06Z",
        "yesterday, about noon",
    ],
)
def test_what_is_no_time_is_none(given_: str) -> None:
    assert at_time(given_, zone=UTC) is None


@pytest.mark.parametrize(
    ("given_", "at"),
    [
        ("2026-11-03T04:05:06Z", datetime(2026, 11, 3, 4, 5, 6, tzinfo=UTC)),
        ("2026-11-03T04:05:06.123456789Z", datetime(2026, 11, 3, 4, 5, 6, 123456, tzinfo=UTC)),
        ("2026-11-03T05:05:06+0100", datetime(2026, 11, 3, 4, 5, 6, tzinfo=UTC)),
        ("2026-11-03 04:05:06.1Z", datetime(2026, 11, 3, 4, 5, 6, 100000, tzinfo=UTC)),
        ("2026-11-03T04:05:06", datetime(2026, 11, 3, 4, 5, 6, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_in_every_spelling_of_it(given_: str, at: datetime) -> None:
    assert at_time(given_, zone=UTC) == at
