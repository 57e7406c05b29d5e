"""What a format is: its name, how it knows a file of its kind, and how it reads one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from adapters.imports.source_file import SourceFile
from adapters.intake.payloads import Payload
from domain.errors import Problem, Refused

__all__ = ["FORMATS", "Format", "Options", "Rejection", "Row", "Rows", "chosen", "register"]


class Row(NamedTuple):
    """One event on its way to ingest, and where it stood, for people; with what its reader should know of how it was read."""

    place: str
    item: bytes | Payload
    remarks: tuple[Problem, ...] = ()


class Rejection(NamedTuple):
    """Something in a file that is no event, as it stood there, with the reasons."""

    place: str
    raw: bytes
    problems: list[Problem]
    source: str | None = None
    source_id: str | None = None


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says about the files beside their format."""

    source: str | None = None  # replaces the source of a table's map; fills it in where an event has none
    encoding: str | None = None
    map_file: Path | None = None


Rows = Iterator[Row | Rejection]


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """One format.

    Attributes:
        read: rows of a file; raises Refused where the file as a whole is not of this format.
        recognises: whether a file (its name, its first bytes) is surely of this format.
    """

    name: str
    meaning: str
    read: Callable[[SourceFile, Options], Rows]
    recognises: Callable[[SourceFile], bool] = lambda _file: False


FORMATS: dict[str, Format] = {}


def register(format_: Format) -> Format:
    """Make *format_* known under its name."""
    if format_.name in FORMATS:
        raise ValueError(f"Two formats are named {format_.name!r}.")
    FORMATS[format_.name] = format_
    return format_


def chosen(name: str, file: SourceFile) -> Format:
    """The format called *name*; `auto` is the one that recognises *file*.

    Raises:
        Refused: no format has this name, or none recognises the file.
    """
    known = ", ".join(sorted(FORMATS))
    if name != "auto":
        if name in FORMATS:
            return FORMATS[name]
        raise Refused(f"There is no format '{name}'; there are: auto, {known}.")
    if file.is_empty:
        raise Refused(f"{file.name} is empty: there is nothing to import.")
    for each in FORMATS.values():
        if each.recognises(file):
            return each
    raise Refused(
        f"{file.name} is of no format that touchlog knows by sight. Name it with --format (one of {known}), "
        "or say with --map FILE.toml which column is which (touchlog ingest --help shows how)."
    )
