"""Tables that never break a word: narrower columns first, then less between them, then a row as lines of its own."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table

_WIDE, _TIGHT, _EDGES = 3, 2, 2
"""What stands between two columns, as usual and where room is short; and what stands at both ends."""
_UNBOUNDED = 1_000_000


class Fitting(Table):
    """A table as wide as the terminal at most, in which each word, id and address stands whole and can be copied.

    Rich narrows the widest columns first, whatever stands in them, and breaks an id where a text beside it could
    have been wrapped. Here no column gets narrower than its longest word; where not even that fits, each row is
    told as lines of `title  value`.
    """

    def __init__(self, columns: Sequence[str], *, right: Sequence[str] = ()) -> None:
        super().__init__(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            self.add_column(column, justify="right" if column in right else "left", overflow="fold")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the first of the three forms that fits."""
        needs = [self._needs(console, options, n) for n in range(len(self.columns))]
        least, between = sum(n.minimum for n in needs), len(needs) - 1
        room = options.max_width - _WIDE * between - _EDGES
        tight = room < least
        if tight:
            room = options.max_width - _TIGHT * between
        if room < least:
            yield from self._lines()
            return
        self.padding, self.show_edge = ((0, 1, 0, 0) if tight else (0, 1)), not tight
        spare, left = room - least, len(needs)
        for need, column in sorted(zip(needs, self.columns, strict=True), key=lambda each: each[0].span):
            more = min(need.span, spare // left)  # what lacks little gets all of it first
            column.width, spare, left = need.minimum + more, spare - more, left - 1
        yield from super().__rich_console__(console, options)

    def _needs(self, console: Console, options: ConsoleOptions, n: int) -> Measurement:
        """Width of the longest word of a column, and of its longest line."""
        column, unbounded = self.columns[n], options.update(max_width=_UNBOUNDED)
        widths = [Measurement.get(console, unbounded, cell) for cell in (column.header, *column.cells)]
        return Measurement(max(w.minimum for w in widths), max(w.maximum for w in widths))

    def _lines(self) -> RenderResult:
        """Each row as lines of title and value; what is empty is left out."""
        for n in range(self.row_count):
            lines = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
            lines.add_column(no_wrap=True, style="dim")
            lines.add_column(overflow="fold")
            for column in self.columns:
                if cell := list(column.cells)[n]:
                    lines.add_row(column.header, cell)
            yield lines
            yield ""
