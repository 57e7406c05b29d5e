"""Cells of tables that people open in a spreadsheet."""

from __future__ import annotations

import pytest

from adapters.spreadsheets import plain_text


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])  # fmt: skip
def test_a_text_that_a_spreadsheet_could_run_is_marked_as_text(sign: str) -> None:
    assert plain_text(f"{sign}1+1") == f"'{sign}1+1"


@pytest.mark.parametrize("text", ["", "order 1", "1-1", "a=b", "ann@example.com", "'=1"])
def test_any_other_text_is_left_as_it_is(text: str) -> None:
    assert plain_text(text) == text
