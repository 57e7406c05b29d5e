"""The figures of a segment, and how they are told."""

from __future__ import annotations

import msgspec

__all__ = ["Answer", "Member", "Period", "Told"]


class Told(msgspec.Struct, frozen=True):
    """Which segment an answer is narrowed to; `name` and `version` are null where its rules stand in the question."""

    name: str | None
    version: int | None
    persons: int


class Period(msgspec.Struct, frozen=True):
    """An interval: how often persons came in and went out, how many belonged at its end; `open`: it is not over yet."""

    period: str
    open: bool
    entered: int
    left: int
    members: int


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer; asked again with its `as_of` and `known_at`, it is the same, byte for byte.

    Attributes:
        at: the instant of which it is told: `as_of`, or where none is given when the last position was recorded.
        members: persons who belong at that instant; `ever`: who belonged at any.
        entered, left: how often persons came in and went out, in the range where there is one.
        name, version: of a segment that is kept; null where its rules stand in the question.
    """

    name: str | None
    version: int | None
    at: str
    members: int
    ever: int
    entered: int
    left: int
    notes: list[str]
    as_of: str | None
    known_at: int
    head: int
    trend: list[Period] | None = None

    def __post_init__(self) -> None:
        assert self.known_at == self.head, "`head` is the position that `known_at` resolved to"


class Member(msgspec.Struct, frozen=True):
    """A person of a segment, and every spell in it: [entered, left), null: still in it."""

    person: str
    spells: list[dict[str, str | None]]
