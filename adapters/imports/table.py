"""Tables in text: rows of fields with their lines, whatever is broken in some of them.

Rows are those of RFC 4180, a field in quotes may reach over lines. A row that cannot be read (a quote
that never closes, bytes of another encoding, NUL, a line too long) comes with its problem; the next line is read
afresh.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from adapters.imports.source_file import LONGEST_LINE, undecodable
from domain.errors import Problem

__all__ = ["DELIMITERS", "TableRow", "is_cut", "rows_of"]

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|", "whitespace": "whitespace"}
MOST_LINES = 1000
"""Lines that one row may reach over; behind them a quote counts as never closed."""

_KEPT = 65_536
"""Characters that are kept of a row with a line too long."""

csv.field_size_limit(LONGEST_LINE)


class TableRow(NamedTuple):
    """One row: its first and last line (from 1), its fields as far as they could be read, and its text."""

    line: int
    last: int
    fields: list[str]
    text: str
    problem: Problem | None = None


def _split(lines: list[str], delimiter: str) -> list[str] | None:
    """The fields of a row; None where a quote is still open. Raises csv.Error for quotes that make no sense."""
    if delimiter == "whitespace":
        return lines[0].split()
    if len(lines) == 1 and '"' not in lines[0]:
        return lines[0].rstrip("\r\n").split(delimiter)
    try:
        return next(csv.reader(lines, delimiter=delimiter, strict=True))
    except csv.Error as error:
        if "unexpected end" in str(error):
            return None
        raise


def rows_of(lines: Iterable[str], delimiter: str, width: int | None = None) -> Iterator[TableRow]:
    """The rows of a table; blank lines are passed over.

    Args:
        width: how many fields a row has; tells a field over several lines from a quote that never closes.
    """
    source = _begun(lines)
    waiting: deque[str] = deque()
    number = 0
    while True:
        line = waiting.popleft() if waiting else next(source, None)
        if line is None:
            return
        number += 1
        if not line.strip():
            continue
        problem: Problem | None = None
        taken = [line]
        try:
            fields = _split(taken, delimiter)
            if fields is None:
                fields = _over_lines(taken, source, waiting, delimiter)
                if fields is None or (width is not None and len(fields) != width):
                    waiting.extendleft(reversed(taken[1:]))
                    taken, fields = [line], None
        except csv.Error:
            if len(taken) == 1:
                problem = Problem(
                    "",
                    'A quotation mark closes in the middle of a field; inside quotes a " is written "".',
                    "quotes",
                )
            waiting.extendleft(reversed(taken[1:]))
            taken, fields = [line], None
        if fields is None:
            problem = problem or Problem(
                "",
                'A quotation mark opens a field and never closes it; close it, or write " inside quotes as "".',
                "quotes",
            )
            fields = line.rstrip("\r\n").split(delimiter)
        text = line if len(taken) == 1 else "".join(taken)
        if len(text) >= LONGEST_LINE and any(map(is_cut, taken)):
            problem = Problem(
                "",
                f"The row holds a line of more than {LONGEST_LINE:,} characters, which is not taken; is a line end missing, or a quote?",
                "too_long",
            )
            text = text[:_KEPT]
        elif not text.isascii() and undecodable(text):
            problem = Problem(
                "",
                "The row holds bytes that are not of the file's encoding; write it again in that encoding, or name the right one with --encoding (cp1252, iso-8859-1, utf-16 …).",
                "encoding",
            )
        elif "\x00" in text:
            problem = Problem(
                "",
                "The row holds a NUL character, which no text may; was the file damaged, or is it UTF-16 (--encoding utf-16)?",
                "nul",
            )
        yield TableRow(number, number + len(taken) - 1, fields, text, problem)
        number += len(taken) - 1


def is_cut(line: str) -> bool:
    """Whether *line* is the first piece of one that is too long."""
    return len(line) >= LONGEST_LINE and not line.endswith(("\n", "\r"))


def _begun(lines: Iterable[str]) -> Iterator[str]:
    """*lines*, of which those that are too long have come in pieces: of each the first."""
    source = iter(lines)
    for line in source:
        yield line
        if is_cut(line):
            for piece in source:
                if not is_cut(piece):
                    break


def _over_lines(
    taken: list[str], source: Iterator[str], waiting: deque[str], delimiter: str
) -> list[str] | None:
    """Add lines to *taken* until its open quote closes; None where it does not."""
    while len(taken) < MOST_LINES:
        line = waiting.popleft() if waiting else next(source, None)
        if line is None:
            return None
        taken.append(line)
        if '"' in line:
            fields = _split(taken, delimiter)
            if fields is not None:
                return fields
    return None
