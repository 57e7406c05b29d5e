"""One run of an import: files are read ahead, sent in batches, and counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import msgspec

from bin.importing.outcome import Outcome, Told, TriedRow
from bin.importing.progress import Progress
from bin.principal import principal
from domain.errors import Refused, TouchlogError, Unavailable

if TYPE_CHECKING:
    from adapters.imports import Format, Options, Rejection, Row, SourceFile
    from adapters.intake.import_runs import ImportRuns
    from adapters.intake.ingest import Answer
    from bin.compose import Core

__all__ = ["Log", "Target", "read_batch", "send_all"]

BATCH_EVENTS = 1000
BATCH_BYTES = 8 << 20
OUTAGE_S = 30.0
"""How long the counts wait for a database that is being started again, as appends do."""
NOTED_EVERY_S = 2.0
"""How old the counts of a running import are at most: what is left of one that is killed."""
_TAKEN = ("recorded", "corrected", "duplicate")
"""What is wrong with such a row is a remark: the row is in the log."""
IN_FLIGHT = 3
"""Batches under way at once: one is sealed while another is committed and a third is read."""


class Target(Protocol):
    """Where batches go: the log, or a trial that only looks."""

    async def take(self, rows: Sequence[Row], format_name: str) -> Answer: ...

    async def keep(self, rejections: Sequence[Rejection], format_name: str) -> None: ...


class Log:
    """Records what it is given, as one import."""

    def __init__(self, core: Core, outcome: Outcome, *, correct: bool = False) -> None:
        from adapters.intake.correcting import Corrections

        self._core = core
        self._outcome = outcome
        self._principal = principal()
        self._import_id = str(uuid4())
        self._corrector = (
            Corrections(core.ingest, core.histories, core.pool, import_id=self._import_id)
            if correct
            else None
        )
        self._starting = asyncio.Lock()
        self._is_started = False
        self._noted_at_s = asyncio.get_running_loop().time()

    async def take(self, rows: Sequence[Row], format_name: str) -> Answer:
        """Record a batch, after the import itself is on record."""
        async with self._starting:
            await self._list()
            if not self._is_started:
                await self._start(format_name)
                self._is_started = True
        now_s = asyncio.get_running_loop().time()
        if now_s - self._noted_at_s >= NOTED_EVERY_S:
            self._noted_at_s = now_s
            await self._note_counts(within_s=OUTAGE_S, is_over=False)
        return await self._core.ingest.accept(
            [row.item for row in rows],
            self._principal,
            way_in=format_name,
            import_id=self._import_id,
            places=[row.place for row in rows],
            corrector=self._corrector,
        )

    def _runs(self) -> ImportRuns:
        from adapters.intake.import_runs import ImportRuns

        return ImportRuns(self._core.pool, self._core.ingest, self._core.histories)

    async def _start(self, format_name: str) -> None:
        await self._runs().started(
            self._import_id, self._principal, format_name=format_name, files=self._outcome.files
        )

    async def keep(self, rejections: Sequence[Rejection], format_name: str) -> None:
        """Keep rows that are no events, sealed."""
        from adapters.postgres.rejected import Kept

        async with self._starting:
            await self._list()
        await self._core.rejected.keep(
            [
                Kept(
                    status="rejected",
                    source=one.source,
                    source_id=one.source_id,
                    type=None,
                    way_in=format_name,
                    principal=self._principal.key_id,
                    place=one.place,
                    problems=one.problems,
                    payload=one.raw,
                    import_id=self._import_id,
                )
                for one in rejections
            ]
        )

    @asynccontextmanager
    async def import_on_record(self) -> AsyncIterator[None]:
        """Note the counts of the import behind its last row."""
        try:
            yield
        except BaseException:
            # What ended the import is told, not that its counts could not be noted as well.
            with suppress(Unavailable):
                await self._note_counts(within_s=1, is_over=True)
            raise
        await self._note_counts(within_s=OUTAGE_S, is_over=True)

    async def _list(self) -> None:
        """List the import before its first row; one whose files could not be read is none.

        Raises:
            Unavailable: the database is away for long.
        """
        from adapters.postgres.outage import through_outages

        outcome = self._outcome
        if outcome.import_id is not None:
            return

        async def note() -> None:
            await self._runs().listed(self._import_id, self._principal, files=outcome.files)

        await through_outages(note, within_s=OUTAGE_S)
        outcome.import_id = self._import_id

    async def _note_counts(self, *, within_s: float, is_over: bool) -> None:
        """Note the counts; a connection that the pool held through an outage is no reason to fail.

        Raises:
            Unavailable: the database did not come back in time.
        """
        from adapters.postgres.outage import through_outages

        outcome = self._outcome
        if outcome.import_id is None:
            return

        async def note() -> None:
            async with self._core.pool.connection() as conn:
                await conn.execute(
                    "UPDATE touchlog.imports SET finished_at = CASE WHEN %s THEN clock_timestamp() END, format = %s, recorded = %s, "
                    "corrected = %s, duplicates = %s, conflicts = %s, rejected = %s WHERE import_id = %s",
                    (
                        is_over,
                        ", ".join(outcome.formats),
                        outcome.recorded,
                        outcome.corrected,
                        outcome.duplicates,
                        outcome.conflicts,
                        outcome.rejected,
                        self._import_id,
                    ),
                )

        await through_outages(note, within_s=within_s)


class Batch(msgspec.Struct):
    """What was read at one go, and whether the file goes on."""

    rows: list[Any]
    rejections: list[Any]
    keys: set[tuple[Any, Any]]
    is_last: bool = False
    failed: str | None = None


def read_batch(rows: Iterator[Row | Rejection]) -> Batch:
    """Read on until a batch is full; what was read before an error is not lost."""
    from adapters.imports import Rejection
    from adapters.imports.source_file import Stopped
    from adapters.intake.payloads import Payload

    batch = Batch([], [], set())
    size = 0
    try:
        while len(batch.rows) + len(batch.rejections) < BATCH_EVENTS and size < BATCH_BYTES:
            row = next(rows, None)
            if row is None:
                batch.is_last = True
                break
            if isinstance(row, Rejection):
                batch.rejections.append(row)
                size += len(row.raw)
                continue
            batch.rows.append(row)
            if isinstance(row.item, Payload):
                size += len(row.item.canonical)
                batch.keys.add((str(row.item.event.get("source")), str(row.item.event.get("id"))))
            else:
                size += len(row.item)
    except (TouchlogError, Stopped) as error:
        batch.failed = str(error) or None
        batch.is_last = True
    return batch


class Run:
    """One run over all files: reads ahead in a thread, keeps some batches in flight, counts."""

    def __init__(
        self,
        target: Target,
        outcome: Outcome,
        *,
        told: Callable[[Told, bytes | None, Any], None],
        progress: Progress,
    ) -> None:
        self._target = target
        self._outcome = outcome
        self._told = told
        self._progress = progress
        self._flying: dict[asyncio.Task[None], set[tuple[Any, Any]]] = {}

    async def file(self, file: SourceFile, format_: Format, options: Options) -> None:
        """Send all rows of *file*.

        Raises:
            Refused: the file is not of this format.
            Unavailable: the database does not answer; the same command may be given again.
        """
        rows = format_.read(file, options)
        try:
            while True:
                batch = await asyncio.to_thread(read_batch, rows)
                await self._room_for(batch)
                if batch.rows or batch.rejections:
                    self._flying[asyncio.create_task(self._send(batch, format_.name))] = batch.keys
                if batch.failed:
                    self._outcome.failed.append(batch.failed)
                if batch.is_last:
                    return
        except BaseException:
            file.stop()
            raise

    async def _room_for(self, batch: Batch) -> None:
        """Wait for a free place, and for batches that hold a key of this one: of two payloads the first counts."""
        while self._flying:
            same = [task for task, keys in self._flying.items() if not keys.isdisjoint(batch.keys)]
            if not same and len(self._flying) < IN_FLIGHT:
                return
            await self._land(asyncio.ALL_COMPLETED if same else asyncio.FIRST_COMPLETED, same or self._flying)

    async def _land(self, until: str, tasks: Iterable[asyncio.Task[None]]) -> None:
        done, _ = await asyncio.wait(list(tasks), return_when=until)
        for task in done:
            self._flying.pop(task, None)
            task.result()

    async def finish(self) -> None:
        """Wait for all that is in flight."""
        while self._flying:
            await self._land(asyncio.ALL_COMPLETED, list(self._flying))

    def _each(self, rows: Iterable[TriedRow]) -> None:
        if self._outcome.rows is not None:
            self._outcome.rows.extend(rows)

    async def _send(self, batch: Batch, format_name: str) -> None:
        from adapters.intake.payloads import Payload

        outcome = self._outcome
        if batch.rejections:
            await self._target.keep(batch.rejections, format_name)
            outcome.rejected += len(batch.rejections)
            self._each(TriedRow(one.place, "rejected", one.source_id) for one in batch.rejections)
            for one in batch.rejections:
                self._told(
                    Told(one.place, "rejected", one.problems, one.source, one.source_id), one.raw, None
                )
        if batch.rows:
            answer = await self._target.take(batch.rows, format_name)
            outcome.recorded += answer.recorded
            outcome.corrected += sum(r.status == "corrected" for r in answer.results)
            outcome.duplicates += answer.duplicates
            outcome.conflicts += answer.conflicts
            outcome.rejected += answer.rejected
            self._each(
                TriedRow(row.place, result.status, result.id, result.position)
                for row, result in zip(batch.rows, answer.results, strict=True)
            )
            for row, result in zip(batch.rows, answer.results, strict=True):
                errors = result.errors
                if row.remarks and result.status in _TAKEN:
                    errors = [*row.remarks, *errors]
                if not errors:
                    continue
                event = row.item.event if isinstance(row.item, Payload) else None
                if result.status in _TAKEN:
                    outcome.remarks += 1
                    self._told(
                        Told(row.place, "remark", errors, None, result.id, result.position), None, None
                    )
                    continue
                source = event.get("source") if event else None
                told = Told(
                    row.place,
                    result.status,
                    errors,
                    source if isinstance(source, str) else None,
                    result.id,
                    result.position,
                )
                self._told(told, None if event is not None else row.item, event)
        self._progress.show(outcome)


async def send_all(
    target: Target,
    paths: Sequence[Path],
    format_name: str,
    options: Options,
    outcome: Outcome,
    *,
    told: Callable[[Told, bytes | None, Any], None],
    progress: Progress,
) -> None:
    """Send all files, one behind the other; a file that cannot be read stops no other."""
    from adapters.imports import chosen, open_file

    run = Run(target, outcome, told=told, progress=progress)
    try:
        for path in paths:
            try:
                with open_file(path) as file, progress.on(file, outcome):
                    format_ = chosen(
                        "csv" if format_name == "auto" and options.map_file else format_name, file
                    )
                    if format_.name not in outcome.formats:
                        outcome.formats.append(format_.name)
                    await run.file(file, format_, options)
                    await run.finish()
            except Refused as error:
                outcome.failed.append(str(error))
    except asyncio.CancelledError:  # Ctrl-C: what is in flight is committed in a moment, and counted
        outcome.interrupted = True
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
        await run.finish()
