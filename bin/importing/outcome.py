"""What became of an import: counts, rows with problems, and how a person is told of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from domain.errors import Problem, Refused

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Outcome", "Told", "TriedRow", "rejected_file", "rejected_line", "show_summary"]

SHOWN = 20
"""Rows with problems that the terminal shows; --json and --rejected give all."""


class Told(msgspec.Struct, omit_defaults=True):
    """A row that was not recorded as it stands, or recorded with a remark."""

    place: str
    status: str
    errors: list[Problem]
    source: str | None = None
    id: str | None = None
    position: int | None = None


class TriedRow(msgspec.Struct, omit_defaults=True):
    """What would become of one row."""

    place: str
    status: str
    id: str | None = None
    position: int | None = None  # of the event that stands under its key


class Outcome(msgspec.Struct):
    """What became of all files together."""

    files: list[str]
    formats: list[str] = []
    dry_run: bool = False
    import_id: str | None = None
    recorded: int = 0
    corrected: int = 0  # conflicts that became corrections (--correct)
    duplicates: int = 0
    conflicts: int = 0
    rejected: int = 0
    remarks: int = (
        0  # taken, but an identifier or what no correction can say was dropped, or its local time came twice
    )
    seconds: float = 0.0
    events_per_s: float = 0.0
    interrupted: bool = False
    broken_off: str | None = None  # why it ended before the end of its files
    failed: list[str] = []  # files that could not be read, or not to their end, and why
    problems: list[Told] = []
    rows: list[TriedRow] | None = None  # each row of a dry run that tells them

    @property
    def handled(self) -> int:
        """Rows that were answered for."""
        return self.recorded + self.corrected + self.duplicates + self.conflicts + self.rejected

    @property
    def is_clean(self) -> bool:
        """Whether all is recorded."""
        return not (self.conflicts or self.rejected or self.failed or self.interrupted or self.broken_off)


@contextmanager
def rejected_file(path: Path | None, inputs: Sequence[Path]) -> Iterator[TextIO | None]:
    """Open the file for rejected rows in plain text, readable by its owner only.

    Raises:
        Refused: it is one of the files to be imported, or cannot be written.
    """
    if path is None:
        yield None
        return
    if any(one.exists() and path.exists() and one.samefile(path) for one in inputs):
        raise Refused(f"--rejected names {path}, which is to be imported; name another file.")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        raise Refused(f"The file {path} for rejected rows cannot be written: {error.strerror}.") from None
    with open(descriptor, "w", encoding="utf-8") as opened:  # noqa: PTH123 - a descriptor, not a path
        yield opened


def rejected_line(told: Told, raw: bytes | None, event: Any) -> str:
    """One JSON line for a refused row, with its payload in plain text (or Base64 where it is none)."""
    import base64

    import orjson

    line: dict[str, Any] = {
        "place": told.place,
        "status": told.status,
        "source": told.source,
        "id": told.id,
        "errors": msgspec.to_builtins(told.errors),
    }
    if event is not None:
        line["payload"] = event
    elif raw is not None:
        try:
            line["payload"] = raw.decode()
        except UnicodeDecodeError:
            line["payload_base64"] = base64.b64encode(raw).decode()
    return orjson.dumps(line).decode() + "\n"


def show_summary(outcome: Outcome, out: Console) -> None:
    """Print the counts, and what to do about what was refused."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    would = "would be " if outcome.dry_run else ""
    rows: list[tuple[str, str]] = [
        (f"{would}recorded", f"{outcome.recorded:,}"),
        *([(f"{would}corrected", f"{outcome.corrected:,}")] if outcome.corrected else []),
        ("would be duplicates" if outcome.dry_run else "duplicates", f"{outcome.duplicates:,}"),
        ("would be in conflict" if outcome.dry_run else "conflicts", f"{outcome.conflicts:,}"),
        (f"{would}rejected", f"{outcome.rejected:,}"),
        ("seconds", f"{outcome.seconds:,.1f}"),
        ("events/s", f"{outcome.events_per_s:,.0f}"),
    ]
    for row in rows:
        table.add_row(*row)
    out.print(table)
    for told in outcome.problems[:SHOWN]:
        for error in told.errors:
            where = f" {error.pointer}" if error.pointer else ""
            out.print(
                f"{told.place}: {told.status}{where}: {error.detail}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
    if (more := len(outcome.problems) - SHOWN) > 0:
        out.print(f"… and {more:,} more rows; --json or --rejected FILE gives all.", markup=False)
    for failed in outcome.failed:
        out.print(f"not read: {failed}", markup=False, highlight=False, soft_wrap=True)
    if outcome.dry_run:
        out.print("This was a dry run: nothing was written.")
    elif outcome.rejected or outcome.conflicts:
        out.print("What was refused is kept sealed; look at it with: touchlog rejected list", soft_wrap=True)
        if outcome.conflicts:
            out.print(
                "Is what these files say right? Then give the same command with --correct.", soft_wrap=True
            )
