"""The figures of paths, and how they are told."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import msgspec

from domain.funnels.property import identity

__all__ = ["Answer", "Level", "Link", "Name", "Rest", "StepCount", "WholePath", "names_in_order"]


class Name(msgspec.Struct, frozen=True):
    """What a step is called: its type, and with `by` the value of that property; null: it has none."""

    type: str
    value: Any = None


class StepCount(msgspec.Struct, frozen=True):
    """How many paths have this step on a level; `share` is of all paths."""

    type: str
    value: Any
    count: int
    share: float


class Rest(msgspec.Struct, frozen=True):
    """The steps of a level, or the sequences, beyond those told one by one, together."""

    names: int
    count: int


class Level(msgspec.Struct, frozen=True):
    """Steps so many places after (below 0: before) the event; `ended`: paths that stop on the level nearer to it."""

    level: int
    steps: list[StepCount]
    rest: Rest | None
    ended: int


class Link(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """Paths that go from a step of `level` to one of the next; places in the levels' `steps`, null: of the rest."""

    level: int
    from_: int | None
    to: int | None
    count: int


class WholePath(msgspec.Struct, frozen=True):
    """A whole path and how many took it; `before` and `after` in the order of time."""

    before: list[Name]
    around: Name
    after: list[Name]
    count: int


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """An answer; asked again with its `as_of` and `known_at`, it is the same, byte for byte."""

    paths: int
    units: int
    levels: list[Level]
    links: list[Link]
    sequences: list[WholePath]
    sequences_rest: Rest | None
    notes: list[str]
    as_of: str | None
    known_at: int
    head: int
    segment: Any = None

    def __post_init__(self) -> None:
        assert self.known_at == self.head, "`head` is the position that `known_at` resolved to"


def names_in_order(name: Name) -> tuple[str, bool, Hashable]:
    """Steps of one count stand in order of their names; without a value last."""
    return name.type, name.value is None, () if name.value is None else identity(name.value)
