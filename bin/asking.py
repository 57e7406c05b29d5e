"""What the commands that put a question share: its moment and range from options, and its mistakes told line by line."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import typer

from bin.reading import asked
from bin.settings import Settings

if TYPE_CHECKING:
    from bin.compose import Core

T = TypeVar("T")


def at_moment(question: dict[str, Any], zone: ZoneInfo, as_of: str | None, known_at: str | None) -> None:
    """Put `--as-of` and `--known-at` into a question.

    Raises:
        typer.BadParameter: one is no time.
    """
    from bin.history import known_at_of, moment_of

    if as_of is not None:
        question["as_of"] = moment_of(as_of, zone)
    if known_at is not None:
        known = known_at_of(known_at, zone)
        question["known_at"] = f"@{known}" if isinstance(known, int) else known


def span_of(zone: ZoneInfo, begin: str | None, end: str | None) -> dict[str, Any]:
    """A range from two options; a date is its begin.

    Raises:
        typer.BadParameter: one is no time.
    """
    from bin.history import moment_of

    return {k: moment_of(v, zone, ends=False) for k, v in (("from", begin), ("to", end)) if v is not None}


def answered(settings: Settings, by: str, hint: str, work: Callable[[Core], Awaitable[T]]) -> T:
    """Ask the parts of the installation, as `bin.reading.asked` does.

    Raises:
        typer.BadParameter: the question is not valid; a line for each mistake, under *hint*.
    """
    from domain.errors import Invalid

    async def told(parts: Core) -> T:
        try:
            return await work(parts)
        except Invalid as wrong:
            lines = "\n".join(f"{p.pointer or '(whole)'}: {p.detail}" for p in wrong.problems)
            raise typer.BadParameter(lines, param_hint=hint) from None

    return asked(settings, by, ("identities",), told)
