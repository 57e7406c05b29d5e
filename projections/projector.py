"""The projector: reads the log onward, folds batches, writes rows and tracking position together.

Projections that stand at the same position share one reading and decoding of the log; one that lags
(new, or rebuilt) catches up by itself first. An event that a projection cannot fold is parked with the
later ones of its subject, and stops nothing else. The projector knows no database: `LogReader` and
`Store` are ports, implemented in adapters/postgres.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import msgspec
import structlog

from domain.entry import Recorded, decode_body
from projections.projection import Changes, Load, Projection, Step
from projections.steps import Amendments, Steps

__all__ = ["LogReader", "Projector", "Store", "Waiting"]

log = structlog.get_logger()

BATCH_EVENTS = 4000
"""Events folded per transaction: 1,000 reach four fifths of the rate of 5,000, beyond which nothing is gained."""


class LogReader(Protocol):
    """How the projector reads the log."""

    def bodies(self, after: int, limit: int) -> list[tuple[int, datetime, bytes]]:
        """(position, recorded_at, body) of the events behind *after*, in order, at most *limit*."""


class Waiting(NamedTuple):
    """A step that waits: it could not be folded, or stands behind one of its subject that could not."""

    projection: str
    position: int  # of the step: the event itself, its correction, or the retraction of its import
    event: int  # position of the event that it concerns
    subject: str | None
    reason: str
    culprit: bool  # its own fold failed


class _Queue:
    """Whom the steps that wait hold back: the later ones of their subjects, and of the events themselves."""

    def __init__(self, parked: Iterable[Any] = ()) -> None:
        self._subjects: set[str] = set()
        self._events: set[int] = set()
        for one in parked:
            self.add(one.event, None if one.subject is None else str(one.subject))

    def __bool__(self) -> bool:
        return bool(self._events)

    def add(self, event: int, subject: str | None) -> None:
        """Hold back what comes behind this event, and behind its subject where it has one."""
        self._events.add(event)
        if subject is not None:
            self._subjects.add(subject)

    def holds(self, step: Step) -> bool:
        """Whether a step must wait. One of an event without a subject waits for that event alone."""
        event = step.concerns
        return event.position in self._events or event.subject in self._subjects


class Store(Protocol):
    """Where rows and tracking positions are kept."""

    @property
    def amendments(self) -> Amendments: ...
    def take(self, projection: Projection) -> Any | None: ...
    def release(self, tracking: Any) -> None: ...
    def renew(self, tracking: Any) -> None: ...
    def load(self, changes: Changes, until: int) -> Load: ...
    def parked(self, name: str | None = None, *, retry: bool | None = None) -> list[Any]: ...
    def save(
        self,
        moves: Sequence[tuple[Any, Projection, Changes]],
        position: int,
        recorded_at: datetime | None,
        *,
        amendments: Sequence[tuple[str, int]] = (),
        parked: Sequence[Waiting] = (),
        healed: Sequence[Waiting] = (),
    ) -> list[Any]: ...
    def try_out(self, projection: Projection, changes: Changes) -> None: ...
    def cannot_hold(self, failed: Exception) -> bool: ...
    def is_away(self, failed: Exception) -> bool: ...


_Events = list[tuple[Recorded, bytes]]
_Batch = tuple[tuple[int, datetime] | None, _Events, int]
"""(position and recorded_at of the last row, events with their bodies, rows read)."""
BEHIND = "waits behind a parked event of its subject"


class Projector:
    """Runs *projections* over one log.

    Args:
        batch: how many events are folded per transaction.
        until: stop at this position; None follows the head.
        as_of: fold only what had happened by then, as corrected.
    """

    def __init__(
        self,
        log_reader: LogReader,
        store: Store,
        projections: Iterable[Projection],
        *,
        batch: int = BATCH_EVENTS,
        until: int | None = None,
        as_of: datetime | None = None,
    ) -> None:
        self._log = log_reader
        self._store = store
        self._projections = {p.name: p for p in projections}
        self._held: dict[str, Any] = {}
        self._batch = batch
        self.until = until
        self._as_of = as_of
        self._steps: dict[int, Steps] = {}  # by the position behind which they continue
        self._parked: dict[str, _Queue] = {}
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
                    self._parked[name] = _Queue(self._store.parked(name))
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
        self._steps = {}
        for projection in self._projections.values():
            projection.forget()

    def step(self) -> int:
        """Fold one batch for the projections that lag most; returns how many events it held, 0 at the head.

        Raises:
            Whatever the store raises: nothing of the batch was written, call `abandon`. What a fold
            raises is not raised here, nor that the store cannot hold a row: either parks the event.
        """
        if not self._held:
            return 0
        start = min(t.position for t in self._held.values())
        names = [name for name, t in self._held.items() if t.position == start]
        ends = [t.position - start for t in self._held.values() if t.position > start]
        if self.until is not None:
            ends.append(self.until - start)
        limit = min(self._batch, *ends) if ends else self._batch
        if limit <= 0:
            return 0
        last, events, count = self._next_batch(start, limit)
        if last is None:
            return 0
        position, recorded_at = last
        if (
            count == self._batch
        ):  # more is likely there: read and decode it while the rows of this one are written
            self._ahead = (position, self._batch, self._reading.submit(self._read, position, self._batch))
        maker = self._steps.pop(start, None) or Steps(self._store.amendments, start, as_of=self._as_of)
        steps, amendments = maker.of(events) if events else ([], [])
        parked: list[Waiting] = []
        moves = [self._move(name, self._fold(name, steps, parked)) for name in names]
        try:
            moved = self._store.save(moves, position, recorded_at, amendments=amendments, parked=parked)
        except Exception as failed:
            if not self._store.cannot_hold(failed):
                raise
            parked = []
            moves = [self._move(name, self._fold_what_can_be_held(name, steps, parked)) for name in names]
            moved = self._store.save(moves, position, recorded_at, amendments=amendments, parked=parked)
        for tracking in moved:
            self._held[tracking.name] = tracking
        self._steps = {position: maker}
        for one in parked:
            self._parked[one.projection].add(one.event, one.subject)
            if one.culprit:
                log.error("event_parked", projection=one.projection, position=one.position, reason=one.reason)
        return count

    def _move(self, name: str, changes: Changes) -> tuple[Any, Projection, Changes]:
        return self._held[name], self._projections[name], changes

    def _going(self, name: str, steps: Sequence[Step], parked: list[Waiting]) -> Sequence[Step]:
        """The steps that stand behind none that is parked; the others join it."""
        waiting = self._parked.get(name)
        if not waiting:
            return steps
        parked += [_waits(name, s) for s in steps if waiting.holds(s)]
        return [s for s in steps if not waiting.holds(s)]

    def _fold(self, name: str, steps: Sequence[Step], parked: list[Waiting]) -> Changes:
        """The changes of one projection; what it cannot fold goes to *parked* with what follows it."""
        going = self._going(name, steps, parked)
        try:
            return self._folded(name, going)
        except Exception as failed:  # whatever a fold raises parks its event
            if self._store.is_away(failed):
                raise
            log.warning(
                "fold_failed",
                projection=name,
                reason=f"{type(failed).__name__}: {failed}"[:300],
                steps=len(going),
            )
            self._projections[name].forget()  # what it remembers of this attempt is not written
        return self._fold_others(name, going, parked, lambda step: self._failure(name, [step]))

    def _fold_what_can_be_held(self, name: str, steps: Sequence[Step], parked: list[Waiting]) -> Changes:
        """As `_fold`, where the store refused to hold the rows: also what makes such rows goes to *parked*."""
        going = self._going(name, steps, parked)
        self._projections[name].forget()
        failures: dict[int, Exception] = {}

        def search(part: Sequence[Step], failed: Exception | None) -> None:
            if failed is None:
                return
            if len(part) == 1:
                failures[id(part[0])] = failed
                return
            for half in (part[: len(part) // 2], part[len(part) // 2 :]):
                search(half, self._failure(name, half, held=True))

        search(going, self._failure(name, going, held=True) if going else None)
        return self._fold_others(name, going, parked, lambda step: failures.get(id(step)))

    def _failure(self, name: str, steps: Sequence[Step], *, held: bool = False) -> Exception | None:
        """Why *steps* cannot be folded by themselves (*held*: nor their rows be held); None where they can."""
        try:
            changes = self._folded(name, steps)
            if held:
                self._store.try_out(self._projections[name], changes)
        except Exception as failed:
            if self._store.is_away(failed):
                raise  # that says nothing of the steps
            return failed
        finally:
            self._projections[name].forget()
        return None

    def _fold_others(
        self,
        name: str,
        going: Sequence[Step],
        parked: list[Waiting],
        failure: Callable[[Step], Exception | None],
    ) -> Changes:
        """The changes of all of *going* but those with a *failure*, and what stands behind them."""
        held_back = _Queue()
        kept: list[Step] = []
        for step in going:
            if held_back.holds(step):
                parked.append(_waits(name, step))
            elif (failed := failure(step)) is not None:
                parked.append(_waits(name, step, failed))
                held_back.add(step.concerns.position, step.concerns.subject)
            else:
                kept.append(step)
        return self._folded(name, kept)

    def _folded(self, name: str, steps: Sequence[Step]) -> Changes:
        projection = self._projections[name]
        changes = Changes()
        steps = projection.handled(steps)
        if self._as_of is not None and not projection.folds_timeless:
            steps = [s for s in steps if _happened(s, self._as_of)]
        if steps:
            projection.prepare(steps, self._store.load(changes, self._held[name].position))
            for step in steps:
                projection.fold(step, changes)
            projection.finish(changes)
        return changes

    def retry_parked(self) -> int:
        """Try again what was asked to be tried again, in order; returns how many events were healed."""
        healed = 0
        for name in list(self._held):
            held_back = _Queue()
            for one in self._store.parked(name, retry=True):
                step = self._parked_step(one.position, one.event)
                if step is not None and held_back.holds(step):
                    self._leave(name, _waits(name, step))
                    continue
                try:
                    changes = self._folded(name, [] if step is None else [step])
                except Exception as failed:  # noqa: BLE001
                    assert step is not None
                    self._projections[name].forget()
                    self._leave(name, _waits(name, step, failed))
                    held_back.add(one.event, step.concerns.subject)
                    continue
                try:
                    self._move_none(
                        name, changes, healed=[Waiting(name, one.position, one.event, None, "", False)]
                    )
                except Exception as failed:
                    if step is None or not self._store.cannot_hold(failed):
                        raise
                    self._projections[name].forget()
                    self._leave(name, _waits(name, step, failed))
                    held_back.add(one.event, step.concerns.subject)
                    continue
                healed += 1
            self._parked[name] = _Queue(self._store.parked(name))
        return healed

    def _parked_step(self, position: int, event: int) -> Step | None:
        """The step of *event* at *position*, made anew from the log; None where it changes nothing any more."""
        ((_, recorded_at, body),) = self._log.bodies(position - 1, 1)
        recorded = _recorded(position, recorded_at, body)
        if recorded is None:
            return None
        steps, _ = Steps(self._store.amendments, position - 1, as_of=self._as_of).of([(recorded, body)])
        return next((s for s in steps if s.concerns.position == event), None)

    def _leave(self, name: str, one: Waiting) -> None:
        self._move_none(name, Changes(), parked=[one])

    def _move_none(
        self, name: str, changes: Changes, *, parked: Sequence[Waiting] = (), healed: Sequence[Waiting] = ()
    ) -> None:
        """Write *changes* where the projection stands."""
        tracking = self._held[name]
        (self._held[name],) = self._store.save(
            [(tracking, self._projections[name], changes)],
            tracking.position,
            None,
            parked=parked,
            healed=healed,
        )

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
        """Fold until the head (or `until`) is reached; returns how many events that were."""
        total = 0
        while count := self.step():
            total += count
            if progress is not None:
                progress(total)
        return total


def _waits(projection: str, step: Step, failed: Exception | None = None) -> Waiting:
    reason = BEHIND if failed is None else f"{type(failed).__name__}: {failed}"[:1000]
    event = step.concerns
    return Waiting(projection, step.position, event.position, event.subject, reason, failed is not None)


def _happened(step: Step, as_of: datetime) -> bool:
    return all(side is None or side.recorded.event.occurred_at <= as_of for side in (step.before, step.after))


def _recorded(position: int, recorded_at: datetime, body: bytes) -> Recorded | None:
    """The event of a row; None for one of the library's raw path, which no read model knows."""
    try:
        return Recorded(position, recorded_at, decode_body(body))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
