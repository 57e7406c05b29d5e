"""The projector: reads the log onward, folds batches, writes rows and tracking position together.

Projections that stand at the same position share one reading and decoding of the log; one that lags
(new, or rebuilt) catches up by itself first. The projector knows no database: `LogReader` and `Store`
are ports, implemented in adapters/postgres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any, Protocol

import msgspec
import structlog

from domain.entry import Recorded, decode_body
from projections.projection import Changes, Load, Projection

__all__ = ["LogReader", "Projector", "Store"]

log = structlog.get_logger()

BATCH_EVENTS = 4000
"""Events folded per transaction: 1,000 reach four fifths of the rate of 5,000, beyond which nothing is gained."""


class LogReader(Protocol):
    """How the projector reads the log."""

    def bodies(self, after: int, limit: int) -> list[tuple[int, datetime, bytes]]:
        """(position, recorded_at, body) of the events behind *after*, in order, at most *limit*."""


class Store(Protocol):
    """Where rows and tracking positions are kept."""

    def take(self, projection: Projection) -> Any | None: ...
    def release(self, tracking: Any) -> None: ...
    def renew(self, tracking: Any) -> None: ...
    def load(self, changes: Changes) -> Load: ...
    def save(
        self, moves: Sequence[tuple[Any, Projection, Changes]], position: int, recorded_at: datetime
    ) -> list[Any]: ...


class Projector:
    """Runs *projections* over one log.

    Args:
        batch: how many events are folded per transaction.
    """

    def __init__(
        self,
        log_reader: LogReader,
        store: Store,
        projections: Iterable[Projection],
        *,
        batch: int = BATCH_EVENTS,
    ) -> None:
        self._log = log_reader
        self._store = store
        self._projections = {p.name: p for p in projections}
        self._held: dict[str, Any] = {}
        self._batch = batch
        self._reading = ThreadPoolExecutor(1, thread_name_prefix="read-ahead")
        self._ahead: tuple[int, int, Future[_Batch]] | None = None

    @property
    def positions(self) -> dict[str, int]:
        """How far each projection has come that this projector holds."""
        return {name: t.position for name, t in self._held.items()}

    def take_leases(self) -> bool:
        """Take the leases that are free; True when all are held."""
        for name, projection in self._projections.items():
            if name not in self._held:
                tracking = self._store.take(projection)
                if tracking is not None:
                    projection.forget()
                    self._held[name] = tracking
                    log.info("lease_taken", projection=name, position=tracking.position, epoch=tracking.epoch)
        return len(self._held) == len(self._projections)

    def renew_leases(self) -> None:
        """Keep the leases while nothing arrives; drops what another projector has taken."""
        for name in list(self._held):
            try:
                self._store.renew(self._held[name])
            except Exception:
                del self._held[name]
                raise

    def release_leases(self) -> None:
        """Give all leases back."""
        for tracking in self._held.values():
            self._store.release(tracking)
        self._held = {}

    def abandon(self) -> None:
        """Forget everything that was read from the store: the last batch failed, or the lease was lost."""
        self._held = {}
        self._ahead = None
        for projection in self._projections.values():
            projection.forget()

    def step(self) -> int:
        """Fold one batch for the projections that lag most; returns how many events it held, 0 at the head.

        Raises:
            Whatever the fold or the store raises: nothing of the batch was written, call `abandon`.
        """
        if not self._held:
            return 0
        start = min(t.position for t in self._held.values())
        names = [name for name, t in self._held.items() if t.position == start]
        ahead = [t.position for t in self._held.values() if t.position > start]
        limit = min(self._batch, min(ahead) - start) if ahead else self._batch
        last, events, count = self._next_batch(start, limit)
        if last is None:
            return 0
        position, recorded_at = last
        if (
            count == self._batch
        ):  # more is likely there: read and decode it while the rows of this one are written
            self._ahead = (position, self._batch, self._reading.submit(self._read, position, self._batch))
        moves = []
        for name in names:
            projection = self._projections[name]
            changes = Changes()
            projection.prepare([recorded for recorded, _ in events], self._store.load(changes))
            fold = projection.fold
            for recorded, body in events:
                fold(recorded, body, changes)
            projection.finish(changes)
            moves.append((self._held[name], projection, changes))
        for tracking in self._store.save(moves, position, recorded_at):
            self._held[tracking.name] = tracking
        return count

    def _next_batch(self, start: int, limit: int) -> _Batch:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[:2] == (start, limit):
            return ahead[2].result()
        return self._read(start, limit)

    def _read(self, start: int, limit: int) -> _Batch:
        rows = self._log.bodies(start, limit)
        events = [(recorded, row[2]) for row in rows if (recorded := _recorded(*row)) is not None]
        return (rows[-1][0], rows[-1][1]) if rows else None, events, len(rows)

    def catch_up(self, *, progress: Callable[[int], None] | None = None) -> int:
        """Fold until the head is reached; returns how many events that were."""
        total = 0
        while count := self.step():
            total += count
            if progress is not None:
                progress(total)
        return total


_Batch = tuple[tuple[int, datetime] | None, list[tuple[Recorded, bytes]], int]
"""(position and recorded_at of the last row, events with their bodies, rows read)."""


def _recorded(position: int, recorded_at: datetime, body: bytes) -> Recorded | None:
    """The event of a row; None for one of the library's raw path, which no read model knows."""
    try:
        return Recorded(position, recorded_at, decode_body(body))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
