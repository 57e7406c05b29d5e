"""Names under which funnels, retentions and segments are kept, and which none of them may bear."""

from __future__ import annotations

import re

from domain.errors import Invalid, Problem

__all__ = ["check_name", "taken"]

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,79}")
_ADDRESSES = ("persons", "query")
"""Where questions are asked, `POST /v1/funnels/query`: what had such a name could not be read at `GET /v1/funnels/query`."""


def taken(name: str) -> Problem | None:
    """What is wrong with a name that is an address of its own; None where it is none."""
    if name not in _ADDRESSES:
        return None
    rule = (
        f"'{name}' is an address of its own, where questions are asked; choose another name, e.g. {name}-1."
    )
    return Problem("/name", rule, "reserved")


def check_name(name: str, example: str) -> None:
    """Check a name under which something is to be kept.

    Args:
        example: a name that would be right.

    Raises:
        Invalid: it is not valid.
    """
    if not _NAME.fullmatch(name):
        rule = f"A name is of small letters, digits, _ and -, at most 80, e.g. {example}."
        raise Invalid([Problem("/name", rule, "name")])
    if reserved := taken(name):
        raise Invalid([reserved])
