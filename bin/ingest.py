"""ingest: import files, with progress, a dry run, and every refused row kept with its reasons."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TextIO
from uuid import uuid4

import msgspec
import typer

from bin.settings import DATA_OPTION, Settings
from domain.errors import Misconfigured, Problem, Refused, TouchlogError

if TYPE_CHECKING:
    from rich.console import Console

    from adapters.imports import Format, Options, Rejection, Row, SourceFile
    from adapters.ingest import Answer, Principal
    from adapters.keys import KeyFile
    from bin.compose import Core

BATCH_EVENTS = 1000
BATCH_BYTES = 8 << 20
IN_FLIGHT = 3
"""Batches under way at once: one is sealed while another is committed and a third is read."""
SHOWN = 20
"""Rows with problems that the terminal shows; --json and --rejected give all."""
PLAIN_EVERY_S = 5.0
EXIT_INTERRUPTED = 130


class Told(msgspec.Struct, omit_defaults=True):
    """A row that was not recorded as it stands, or recorded with a remark."""

    place: str
    status: str
    errors: list[Problem]
    source: str | None = None
    id: str | None = None
    position: int | None = None


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
    remarks: int = 0  # recorded, but an identifier was dropped
    seconds: float = 0.0
    events_per_s: float = 0.0
    interrupted: bool = False
    failed: list[str] = []  # files that could not be read, or not to their end, and why
    problems: list[Told] = []

    @property
    def handled(self) -> int:
        """Rows that were answered for."""
        return self.recorded + self.corrected + self.duplicates + self.conflicts + self.rejected

    @property
    def is_clean(self) -> bool:
        """Whether all is recorded."""
        return not (self.conflicts or self.rejected or self.failed or self.interrupted)


class Target(Protocol):
    """Where batches go: the log, or a trial that only looks."""

    async def take(self, rows: Sequence[Row], format_name: str) -> Answer: ...

    async def keep(self, rejections: Sequence[Rejection], format_name: str) -> None: ...


def principal() -> Principal:
    """Who calls: a person at this machine, named by the operating system."""
    from adapters.ingest import Principal

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return Principal(f"cli:{user}", "admin")


# -- into the log ---------------------------------------------------------------------------------


class Log:
    """Records what it is given, as one import."""

    def __init__(self, core: Core, outcome: Outcome, *, correct: bool = False) -> None:
        from adapters.correcting import Corrections

        self._core = core
        self._outcome = outcome
        self._principal = principal()
        self._import_id = str(uuid4())
        self._corrector = Corrections(core.ingest, core.histories, core.pool) if correct else None
        self._starting = asyncio.Lock()
        self._is_started = False

    async def take(self, rows: Sequence[Row], format_name: str) -> Answer:
        """Record a batch, after the import itself is on record."""
        async with self._starting:
            if not self._is_started:
                await self._start(format_name)
                self._is_started = True
        return await self._core.ingest.accept(
            [row.item for row in rows],
            self._principal,
            way_in=format_name,
            import_id=self._import_id,
            places=[row.place for row in rows],
            corrector=self._corrector,
        )

    async def _start(self, format_name: str) -> None:
        from adapters.import_runs import ImportRuns

        runs = ImportRuns(self._core.pool, self._core.ingest, self._core.histories)
        await runs.started(
            self._import_id, self._principal, format_name=format_name, files=self._outcome.files
        )

    async def keep(self, rejections: Sequence[Rejection], format_name: str) -> None:
        """Keep rows that are no events, sealed."""
        from adapters.postgres.rejected import Kept

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
                )
                for one in rejections
            ]
        )

    @asynccontextmanager
    async def import_on_record(self) -> AsyncIterator[None]:
        """Note the import before its first event, and its counts behind the last."""
        outcome = self._outcome
        outcome.import_id = self._import_id
        async with self._core.pool.connection() as conn:
            await conn.execute(
                "INSERT INTO touchlog.imports (import_id, principal, format, files) VALUES (%s, %s, %s, %s)",
                (self._import_id, self._principal.key_id, "", outcome.files),
            )
        try:
            yield
        finally:
            async with self._core.pool.connection() as conn:
                await conn.execute(
                    "UPDATE touchlog.imports SET finished_at = clock_timestamp(), format = %s, recorded = %s, corrected = %s, "
                    "duplicates = %s, conflicts = %s, rejected = %s WHERE import_id = %s",
                    (
                        ", ".join(outcome.formats),
                        outcome.recorded,
                        outcome.corrected,
                        outcome.duplicates,
                        outcome.conflicts,
                        outcome.rejected,
                        self._import_id,
                    ),
                )


# -- the dry run ------------------------------------------------------------------------------------


class Trial:
    """Tells what the log would answer, and changes nothing: no subject is made, no row kept.

    Args:
        conn: a read-only connection to the log's database; None where there is no log yet.
        keys: the installation's keys, without which no payload hash can be compared.
    """

    def __init__(
        self, conn: Any | None, keys: KeyFile | None, *, region: str | None, correct: bool = False
    ) -> None:
        self._conn = conn
        self._keys = keys
        self._region = region
        self._correct = correct
        self._seen: dict[bytes, bytes] = {}  # event id -> payload hash, of the rows before

    async def take(self, rows: Sequence[Row], format_name: str) -> Answer:
        """Answer for a batch as ingest would."""
        from datetime import UTC, datetime

        from adapters.cloudevents import Payload, Receipt, draft, read_payload
        from adapters.ingest import Answer, Result
        from domain.entry import event_id_of
        from domain.errors import Invalid

        results: list[Result] = []
        wanted: list[tuple[int, bytes, bytes]] = []
        receipt = Receipt.of(datetime.now(UTC))
        for place, row in enumerate(rows):
            payload: Payload | None = None
            try:
                payload = row.item if isinstance(row.item, Payload) else read_payload(row.item)
                one = draft(payload, receipt, region=self._region)
            except Invalid as wrong:
                id_ = payload.event.get("id") if payload is not None else None
                results.append(
                    Result("rejected", id=id_ if isinstance(id_, str) else None, errors=wrong.problems)
                )
                continue
            results.append(Result("recorded", id=one.id, errors=one.warnings))
            wanted.append((place, event_id_of(one.source, one.id), self._hash(payload.canonical)))
        known = await self._known([event_id for _, event_id, _ in wanted])
        for place, event_id, digest in wanted:
            position, before = known.get(event_id, (None, self._seen.get(event_id)))
            if before is None:
                self._seen[event_id] = digest
                continue
            result = results[place]
            result.position = position
            result.status = "duplicate" if before == digest else "conflict"
            if result.status == "conflict" and self._correct:
                result.status = "corrected"
            elif result.status == "conflict":
                where = f"at position {position:,}" if position is not None else "earlier in these files"
                result.errors = [
                    Problem(
                        "/id",
                        f"Another payload with this source and id stands {where}. An event is never overwritten: send a correction, or give this one an id of its own.",
                        "conflict",
                    )
                ]
        count = {
            status: sum(r.status == status for r in results)
            for status in ("recorded", "duplicate", "conflict", "rejected")
        }
        return Answer(results, count["recorded"], count["duplicate"], count["conflict"], count["rejected"], 0)

    async def keep(self, rejections: Sequence[Rejection], format_name: str) -> None:
        """Keep nothing."""

    def _hash(self, canonical: bytes) -> bytes:
        from hashlib import blake2b

        if self._keys is not None:
            return self._keys.payload_hash(canonical)
        return blake2b(canonical, digest_size=16).digest()

    async def _known(self, event_ids: list[bytes]) -> dict[bytes, tuple[int, bytes]]:
        if self._conn is None or not event_ids:
            return {}
        from uuid import UUID

        curs = await self._conn.execute(
            "SELECT stream, position, payload_hash FROM touchpoint_log.keys WHERE stream = ANY(%s) AND version = 1",
            ([UUID(bytes=one) for one in event_ids],),
        )
        return {
            stream.bytes: (position, digest.bytes if digest else b"")
            async for stream, position, digest in curs
        }


@asynccontextmanager
async def trial(
    settings: Settings, database_url: str | None, *, correct: bool = False
) -> AsyncIterator[Trial]:
    """Look at the log, if there is one, through a connection that may only read.

    Raises:
        Misconfigured: the log has events, and the key file that belongs to it is not there.
    """
    import psycopg

    from adapters.keys import KeyFile

    keys = KeyFile.open_or_make(settings.secret_file) if settings.secret_file.exists() else None
    if database_url is None:
        yield Trial(None, keys, region=settings.phone_region, correct=correct)
        return
    options = "-c default_transaction_read_only=on"
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True, options=options) as conn:
        row = await (
            await conn.execute(
                "SELECT to_regclass('touchpoint_log.keys') IS NOT NULL, to_regclass('touchlog.facts') IS NOT NULL"
            )
        ).fetchone()
        if row is None or not all(row):
            yield Trial(None, keys, region=settings.phone_region, correct=correct)
            return
        fact = await (
            await conn.execute("SELECT value FROM touchlog.facts WHERE name = 'key_file'")
        ).fetchone()
        if fact is not None and (keys is None or keys.fingerprint != fact[0]):
            raise Misconfigured(
                f"The key file {settings.secret_file} {'is not there' if keys is None else 'does not belong to this database'}; "
                "restore the right one, or set TOUCHLOG_SECRET_FILE to it."
            )
        yield Trial(conn, keys, region=settings.phone_region, correct=correct)


# -- reading and sending -----------------------------------------------------------------------------


class Batch(msgspec.Struct):
    """What was read at one go, and whether the file goes on."""

    rows: list[Any]
    rejections: list[Any]
    keys: set[tuple[Any, Any]]
    is_last: bool = False
    failed: str | None = None


def read_batch(rows: Iterator[Row | Rejection]) -> Batch:
    """Read on until a batch is full; what was read before an error is not lost."""
    from adapters.cloudevents import Payload
    from adapters.imports import Rejection
    from adapters.imports.source_file import Stopped

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

    async def _send(self, batch: Batch, format_name: str) -> None:
        from adapters.cloudevents import Payload

        outcome = self._outcome
        if batch.rejections:
            await self._target.keep(batch.rejections, format_name)
            outcome.rejected += len(batch.rejections)
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
            for row, result in zip(batch.rows, answer.results, strict=True):
                if not result.errors:
                    continue
                event = row.item.event if isinstance(row.item, Payload) else None
                if result.status in ("recorded", "duplicate"):
                    outcome.remarks += 1
                    self._told(
                        Told(row.place, "remark", result.errors, None, result.id, result.position), None, None
                    )
                    continue
                source = event.get("source") if event else None
                told = Told(
                    row.place,
                    result.status,
                    result.errors,
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


# -- what the person sees ---------------------------------------------------------------------------


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
        parts = [f"{events:,} events", f"{events / spent_s:,.0f}/s"]
        if refused := outcome.rejected + outcome.conflicts - self._refused_before:
            parts.append(f"{refused:,} refused")
        if fraction and not is_last:
            parts.append(f"about {spent_s / fraction - spent_s:,.0f} s left")
        if self._bar is not None:
            self._bar.update(self._task, completed=1.0 if is_last else fraction or 0.0, told=", ".join(parts))
        else:
            self._told_s = now_s
            print(f"{self._file.name}: {', '.join(parts)}", file=sys.stderr, flush=True)


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


INTERRUPTED = (
    "touchlog: interrupted. What the summary calls recorded is in the log. The same command goes on from here: "
    "what is recorded already is told as a duplicate and skipped."
)


def ingest(
    settings: Settings,
    paths: Sequence[Path],
    *,
    format_name: str,
    options: Options,
    dry_run: bool,
    rejected: Path | None,
    quiet: bool,
    correct: bool = False,
) -> Outcome:
    """Import *paths*; see the command.

    Raises:
        TouchlogError: the servers do not come up, or the database went away for long.
    """
    from adapters.embedded import running, servers
    from adapters.postgres.schema import migrate
    from bin.compose import core

    outcome = Outcome(
        [path.name if str(path) != "-" else "standard input" for path in paths], dry_run=dry_run
    )
    progress = Progress(quiet=quiet)
    started_s = time.monotonic()

    async def work(database_url: str | None, plain: TextIO | None) -> None:
        nonlocal started_s

        def told(one: Told, raw: bytes | None, event: Any) -> None:
            outcome.problems.append(one)
            if plain is not None and one.status != "remark":
                plain.write(rejected_line(one, raw, event))

        if dry_run:
            async with trial(settings, database_url, correct=correct) as target:
                started_s = time.monotonic()
                await send_all(target, paths, format_name, options, outcome, told=told, progress=progress)
            return
        assert database_url is not None
        async with core(settings, database_url) as parts:
            log = Log(parts, outcome, correct=correct)
            started_s = time.monotonic()
            async with log.import_on_record():
                await send_all(log, paths, format_name, options, outcome, told=told, progress=progress)

    no_log_yet = (
        not settings.database_url
        and running(settings.data) is None
        and not (settings.data / "postgres").exists()
    )
    try:
        with rejected_file(rejected, paths) as plain:
            reached: Any = (
                nullcontext((None, None)) if dry_run and no_log_yet else servers(settings, by="ingest")
            )
            with reached as (database_url, _):
                if not dry_run:
                    migrate(database_url)
                asyncio.run(work(database_url, plain))
    except KeyboardInterrupt:
        outcome.interrupted = True
    outcome.seconds = round(time.monotonic() - started_s, 3)
    outcome.events_per_s = round(outcome.handled / max(outcome.seconds, 1e-3), 1)
    return outcome


FILES = typer.Argument(
    ..., metavar="FILE...", help="Files, packed (.gz .xz .bz2) or not; - is standard input."
)
MAP = typer.Option(None, "--map", metavar="FILE.toml", help="Which column of a table is what.")
REJECTED = typer.Option(
    None, "--rejected", metavar="FILE", help="Write refused rows there in plain text, as JSON lines."
)


def register(app: typer.Typer) -> None:
    """Add `touchlog ingest`."""

    @app.command("ingest", epilog="Example: touchlog ingest orders.csv.gz --map orders.toml --dry-run")
    def ingest_command(
        files: list[Path] = FILES,
        format: str = typer.Option(
            "auto", help="auto, cloudevents, segment, csv:consents, csv:online_retail, csv:cdnow, csv (with --map) …"
        ),
        map: Path | None = MAP,
        source: str | None = typer.Option(
            None, help="The events' source, in place of the map's; for events without one."
        ),
        encoding: str | None = typer.Option(
            None, help="The files' encoding (default: found by their first bytes, else utf-8)."
        ),
        dry_run: bool = typer.Option(
            False, "--dry-run", help="Tell what would become of each row; write nothing."
        ),
        correct: bool = typer.Option(
            False,
            "--correct",
            help="Where a key stands with other data, record a correction; restore what was retracted.",
        ),
        rejected: Path | None = REJECTED,
        data: Path | None = DATA_OPTION,
        json: bool = typer.Option(False, "--json", help="Print one JSON object instead of tables."),
    ) -> None:
        """Import files: what is recorded already is skipped, what is wrong is told and kept, the rest goes on.

        Exits 0 when everything is recorded, 1 when something was refused. A map for --map says which column is which:

        \b
          source   = "webshop"
          id       = "order_no"          # without it: the row's number
          type     = "order.placed"
          time     = { column = "ordered_at", format = "%d.%m.%Y %H:%M", zone = "Europe/Berlin" }
          subject  = { column = "customer", kind = "crm" }
          group_by = "order_no"          # rows of one order make one event
        \b
          [data]
          order_id     = "order_no"
          currency     = { value = "EUR" }
          amount_minor = { total = ["quantity", "price"], type = "money", currency = "EUR" }
        \b
          [lines]
          sku              = "article"
          quantity         = { column = "quantity", type = "whole" }
          unit_price_minor = { column = "price", type = "money", currency = "EUR" }
        """
        from adapters.imports import FORMATS, Options
        from bin import logs

        if map is not None and format not in ("auto", "csv"):
            raise typer.BadParameter(f"--map goes with --format csv, not with {format}.")
        if format != "auto" and format not in FORMATS:
            raise typer.BadParameter(
                f"There is no format '{format}'; there are: auto, {', '.join(sorted(FORMATS))}."
            )
        settings = Settings.load(data=data)
        logs.configure("debug" if settings.log_level == "debug" else "warning", part="ingest", form="pairs")
        options = Options(source=source, encoding=encoding, map_file=map)
        outcome = ingest(
            settings,
            files,
            format_name=format,
            options=options,
            dry_run=dry_run,
            rejected=rejected,
            quiet=False,
            correct=correct,
        )
        if json:
            import orjson

            typer.echo(orjson.dumps(msgspec.to_builtins(outcome), option=orjson.OPT_INDENT_2).decode())
        else:
            from rich.console import Console

            show_summary(outcome, Console(soft_wrap=False))
        if outcome.interrupted:
            with suppress(OSError):
                print(INTERRUPTED, file=sys.stderr)
            raise typer.Exit(EXIT_INTERRUPTED)
        raise typer.Exit(0 if outcome.is_clean else 1)
