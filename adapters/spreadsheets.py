"""Tables for spreadsheets: a text of somebody else's that one would run as a formula is marked as text."""

from __future__ import annotations

__all__ = ["plain_text"]

# Wide signs are taken for narrow ones where Japanese and Chinese are written; a line's end is skipped by some.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "\t", "\r", "\n")


def plain_text(text: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula: an apostrophe before what one could begin with."""
    return f"'{text}" if text.startswith(_FORMULA) else text
