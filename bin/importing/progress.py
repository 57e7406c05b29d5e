"""How far an import is: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bin.importing.outcome import Outcome
from domain.units import count

if TYPE_CHECKING:
    from adapters.imports import SourceFile

__all__ = ["Progress"]

PLAIN_EVERY_S = 5.0


class Progress:
    """A bar on a terminal, a line every few seconds elsewhere; on standard error."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._file: SourceFile | None = None
        self._started_s = self._told_s = time.monotonic()
        self._before = self._refused_before = 0
        self._bar: Any = None
        self._task: Any = None
        self._quiet = quiet

    @contextmanager
    def on(self, file: SourceFile, outcome: Outcome) -> Iterator[None]:
        """Show how far *file* is."""
        self._file = file
        self._started_s = self._told_s = time.monotonic()
        self._before = outcome.handled
        self._refused_before = outcome.rejected + outcome.conflicts
        with self._shown():
            yield
            self.show(outcome, is_last=True)

    @contextmanager
    def _shown(self) -> Iterator[None]:
        if self._quiet or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.fields[told]}"),
        )
        assert self._file is not None
        with Bar(*columns, console=Console(stderr=True)) as bar:
            self._bar, self._task = bar, bar.add_task(self._file.name, total=1.0, told="")
            ticking = asyncio.get_running_loop().create_task(self._tick())
            try:
                yield
            finally:
                ticking.cancel()
                self._bar = None

    async def _tick(self) -> None:
        """Let the bar follow the reading of a file whose events come only when all of it is read."""
        while True:
            if self._file is not None and self._bar is not None and self._file.expected is None:
                self._bar.update(self._task, completed=self._fraction(0), told="reading")
            await asyncio.sleep(0.2)

    def _fraction(self, events: int) -> float | None:
        file = self._file
        if file is None:
            return None
        if file.expected is not None:
            return events / file.expected if file.expected else 1.0
        return file.read_bytes / file.size_bytes if file.size_bytes else None

    def show(self, outcome: Outcome, *, is_last: bool = False) -> None:
        """Tell the rate, the counts and the time that remains."""
        if self._quiet or self._file is None:
            return
        now_s = time.monotonic()
        if self._bar is None and not is_last and now_s - self._told_s < PLAIN_EVERY_S:
            return
        events = outcome.handled - self._before
        spent_s = max(now_s - self._started_s, 1e-6)
        fraction = self._fraction(events)
        parts = [count(events, "event"), f"{events / spent_s:,.0f}/s"]
        if refused := outcome.rejected + outcome.conflicts - self._refused_before:
            parts.append(f"{refused:,} refused")
        if fraction and not is_last:
            parts.append(f"about {spent_s / fraction - spent_s:,.0f} s left")
        if self._bar is not None:
            self._bar.update(self._task, completed=1.0 if is_last else fraction or 0.0, told=", ".join(parts))
        else:
            self._told_s = now_s
            print(f"{self._file.name}: {', '.join(parts)}", file=sys.stderr, flush=True)
