"""Snapshots: what a saved funnel told at a moment, kept in the records log, and why it tells something else today."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import structlog
from psycopg_pool import AsyncConnectionPool

from adapters.analysis.funnels import Funnels
from adapters.analysis.saved_segments import in_version
from adapters.analysis.snapshot_schedule import NEWEST, due_of
from adapters.records import Records
from domain.entry import moment
from domain.errors import Invalid, NotFound, Problem, TouchlogError
from domain.funnels.answer import Answer
from domain.funnels.reading import micros, read_funnel

__all__ = ["Change", "PartOfChange", "Snapshot", "SnapshotShown", "Snapshots"]

TYPE = "funnel.snapshot_taken"
MOST_POSITIONS = 1000
"""Positions that a part of a change lists; how many there are is told besides."""
_EVIDENCE = """
SELECT unnest(ARRAY[known_from, known_to]) AS p FROM read.links WHERE a = ANY(%(subjects)s::uuid[]) AND b = ANY(%(subjects)s::uuid[])
UNION SELECT unnest(ARRAY[known_from, known_to]) FROM read.references WHERE reference = ANY(%(references)s::uuid[])
"""
_DECISIONS = """
UNION SELECT unnest(ARRAY[known_from, known_to]) FROM read.merges WHERE a = ANY(%(subjects)s::uuid[]) OR b = ANY(%(subjects)s::uuid[])
UNION SELECT position FROM read.splits WHERE subject = ANY(%(subjects)s::uuid[])
"""

log = structlog.get_logger()


class SnapshotShown(msgspec.Struct, frozen=True, kw_only=True):
    """Which snapshot: `at` is the moment it speaks of, `version` of the saved funnel; `due`: taken by the schedule."""

    name: str
    number: int
    version: int
    at: str
    known_at: int
    due: bool
    record: int


class Snapshot(SnapshotShown, frozen=True, kw_only=True):
    """A snapshot with the question and the answer as it was told."""

    funnel: dict[str, Any]
    answer: dict[str, Any]


class PartOfChange(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of entry made of the answer.

    `steps`: by how much each count changed; `units`: whose attempts are others; `entries`: how many entries of the log
    did it, `positions` these (the first 1,000), `types` how many of each type; `breakdown`: value and `steps`.
    """

    part: str
    steps: list[int]
    units: int
    entries: int
    types: dict[str, int]
    positions: list[int]
    breakdown: list[dict[str, Any]] | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A past answer beside that of now. The `steps` of `parts` add up to `change`, which is `now` less `then`."""

    name: str
    version: int
    snapshot: int | None
    at: str
    then: dict[str, Any]
    now: dict[str, Any]
    change: list[int]
    parts: list[PartOfChange]
    notes: list[str]
    as_of: None
    known_at: int
    head: int


class Snapshots:
    """Takes snapshots of saved funnels, and compares them with what is known now."""

    def __init__(self, pool: AsyncConnectionPool[Any], funnels: Funnels, records: Records) -> None:
        self._pool = pool
        self._funnels = funnels
        self._records = records

    async def take(
        self, name: str, by: str, *, at: datetime | None = None, version: int | None = None
    ) -> Snapshot:
        """Ask a saved funnel and keep the answer.

        Args:
            at: the moment that the answer speaks of; now by default. One that the schedule names is taken once.

        Raises:
            NotFound: there is no such funnel.
            Invalid: the question has become invalid.
        """
        saved = await self._funnels.saved(name, version)
        spoken_of = at or datetime.now(UTC)
        answer = await self._funnels.query(
            {**saved.funnel, "known_at": moment(at)} if at is not None else saved.funnel
        )
        data = {
            "name": saved.name, "version": saved.version, "at": moment(spoken_of), "known_at": answer.known_at,
            "due": at is not None, "funnel": saved.funnel, "answer": msgspec.to_builtins(answer),
        }  # fmt: skip
        once = None if at is None else f"snapshot {saved.name} {saved.version} {moment(at)}"
        record = await self._records.record(TYPE, principal=by, data=data, once=once)
        async with self._pool.connection() as conn, conn.transaction():
            await conn.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"funnel_snapshot {name}",))
            await conn.execute(
                "INSERT INTO touchlog.funnel_snapshots (name, number, version, at, known_at, due, record) "
                "SELECT %(name)s, coalesce(max(number), 0) + 1, %(version)s, %(at)s, %(known_at)s, %(due)s, %(record)s "
                "FROM touchlog.funnel_snapshots WHERE name = %(name)s ON CONFLICT DO NOTHING",
                {**{k: data[k] for k in ("name", "version", "known_at", "due")}, "at": spoken_of, "record": record},
            )  # fmt: skip
            row = await (
                await conn.execute(
                    "SELECT number FROM touchlog.funnel_snapshots WHERE record = %s", (record,)
                )
            ).fetchone()
        assert row is not None
        return await self.get(name, row[0])

    async def of(self, name: str, limit: int = 100) -> list[SnapshotShown]:
        """The snapshots of a funnel, the newest first.

        Raises:
            NotFound: there is no such funnel.
        """
        await self._funnels.saved(name)
        async with self._pool.connection() as conn:
            rows = await (
                await conn.execute(
                    "SELECT name, number, version, at, known_at, due, record FROM touchlog.funnel_snapshots "
                    "WHERE name = %s ORDER BY number DESC LIMIT %s",
                    (name, limit),
                )
            ).fetchall()
        return [_shown(row) for row in rows]

    async def get(self, name: str, number: int | None = None) -> Snapshot:
        """One snapshot, the newest by default, as it stands in the records log.

        Raises:
            NotFound: there is none; says how to take one.
        """
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(
                    "SELECT s.name, s.number, s.version, s.at, s.known_at, s.due, s.record, e.body FROM touchlog.funnel_snapshots s "
                    "JOIN records_log.events e ON e.position = s.record WHERE s.name = %(name)s AND "
                    "(%(number)s::int IS NULL OR s.number = %(number)s) ORDER BY s.number DESC LIMIT 1",
                    {"name": name, "number": number},
                )
            ).fetchone()
        if row is None:
            await self._funnels.saved(name)
            which = "has no snapshot yet" if number is None else f"has no snapshot {number}"
            raise NotFound(f"Funnel '{name}' {which}; take one: touchlog funnels snapshot {name}")
        data = msgspec.json.decode(row[7])["data"]
        shown = msgspec.structs.asdict(_shown(row[:7]))
        return Snapshot(**shown, funnel=data["funnel"], answer=data["answer"])

    async def take_due(self, zone: ZoneInfo, now: datetime | None = None) -> int:
        """Take what the schedules of saved funnels name up to now; returns how many that were.

        A funnel that cannot be asked holds up no other; why is told in the log.
        """
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(NEWEST)).fetchall()
        taken = 0
        for name, version, at in due_of(rows, zone, now or datetime.now(UTC)):
            try:
                await self.take(name, "touchlog/schedule", at=at, version=version)
                taken += 1
            except TouchlogError as failed:
                log.warning("snapshot_not_taken", funnel=name, at=moment(at), reason=str(failed)[:300])
        return taken

    async def why_changed(
        self, name: str, number: int | None = None, *, known_at: Any = None, since: Any = None
    ) -> Change:
        """Why a saved funnel tells something else than it did.

        Args:
            number: of the snapshot; the newest by default.
            since: instead of a snapshot: what was known at this time or position.
            known_at: instead of now.

        Raises:
            NotFound: there is no such funnel, or no such snapshot.
            Invalid: *since* lies behind *known_at*.
        """
        if since is None:
            snapshot = await self.get(name, number)
            of_segment = (snapshot.answer.get("segment") or {}).get("version")
            question, version = in_version(snapshot.funnel, of_segment), snapshot.version
            position = snapshot.known_at
            at: datetime | None = datetime.fromisoformat(snapshot.at)
            told = [step["count"] for step in snapshot.answer["steps"]]
            number = snapshot.number
        else:
            saved = await self._funnels.saved(name)
            question, version, told, number = saved.funnel, saved.version, None, None
            position = await self._funnels.position_of(since, "/since")
            at = since if isinstance(since, datetime) else None
        until = await self._funnels.position_of(known_at, "/known_at")
        if until < position:
            raise Invalid(
                [Problem("/known_at", f"Position {until:,} lies before that of then, {position:,}.", "order")]
            )

        plain, narrowing = await self._funnels.segments.narrowing(question)

        def work(library: Any) -> tuple[Any, Any, int]:
            from adapters.columns.why import concerned, why_changed

            then, then_owners, then_us = library.view(position, None)
            now, now_owners, now_us = library.view(until, None)
            known_us = {position: then_us, until: now_us}
            then_us = micros(at) if at is not None else then_us
            why = why_changed(
                read_funnel(plain, now.known), then, then_owners, now, now_owners,
                then_us=then_us, now_us=now_us, threads=self._funnels.threads,
                narrow=lambda view, owners: narrowing.owners(
                    view, owners, None, known_us[view.known_at], self._funnels.threads
                )[0],
            )  # fmt: skip
            of_whom = why.parts["identity"].owners
            people = concerned(of_whom, library.persons(position), library.persons(until))
            return why, people if of_whom else ([], []), then_us

        why, (subjects, references), then_us = await self._funnels.at(work)
        decided = (
            await self._identity(subjects, references, position, until) if subjects or references else []
        )
        parts = []
        before: Answer = why.then
        for part, one in why.parts.items():
            positions = decided if part == "identity" else one.positions
            parts.append(
                PartOfChange(
                    part=part,
                    steps=_less(one.answer, before),
                    units=one.units,
                    entries=len(positions),
                    types=await self._types(positions),
                    positions=positions[:MOST_POSITIONS],
                    breakdown=_by_value(one.answer, before),
                )
            )
            before = one.answer
        notes = [
            "Each part is what its entries changed after those of the parts before it; the parts add up to the change."
        ]
        again = [step.count for step in why.then.steps]
        if told is not None and told != again:
            notes.append(
                f"The snapshot told {told}; asked again as of then the answer is {again}, from which the parts are counted: "
                "fields were erased since, or touchlog counts otherwise than it did."
            )
        spoken_of = at if at is not None else datetime.fromtimestamp(then_us // 1_000_000, UTC)
        return Change(
            name=name, version=version, snapshot=number, at=moment(spoken_of.astimezone(UTC)),
            then={"known_at": position, "steps": again},
            now={"known_at": until, "steps": [step.count for step in before.steps]},
            change=_less(before, why.then), parts=parts, notes=notes, as_of=None, known_at=until, head=until,
        )  # fmt: skip

    async def _identity(
        self, subjects: Sequence[str], references: Sequence[str], since: int, until: int
    ) -> list[int]:
        """The positions of what came or went of the evidence and decisions about some subjects and references."""
        async with self._pool.connection() as conn:
            row = await (await conn.execute("SELECT to_regclass('read.merges') IS NOT NULL")).fetchone()
            query = _EVIDENCE + (_DECISIONS if row and row[0] else "")
            rows = await (
                await conn.execute(
                    f"SELECT p FROM ({query}) e WHERE p > %(since)s AND p <= %(until)s ORDER BY p",  # noqa: S608 - our own words
                    {
                        "subjects": list(subjects),
                        "references": list(references),
                        "since": since,
                        "until": until,
                    },
                )
            ).fetchall()
        return [p for (p,) in rows]

    async def _types(self, positions: Sequence[int]) -> dict[str, int]:
        if not positions:
            return {}
        async with self._pool.connection() as conn:
            rows = await (
                await conn.execute(
                    "SELECT type, count(*) FROM touchpoint_log.events WHERE position = ANY(%s) GROUP BY type ORDER BY 2 DESC, 1",
                    (list(positions),),
                )
            ).fetchall()
        return dict(rows)


def _shown(row: Any) -> SnapshotShown:
    name, number, version, at, known_at, due, record = row
    return SnapshotShown(
        name=name, number=number, version=version, at=moment(at.astimezone(UTC)), known_at=known_at, due=due, record=record
    )  # fmt: skip


def _less(after: Answer, before: Answer) -> list[int]:
    return [a.count - b.count for a, b in zip(after.steps, before.steps, strict=True)]


def _by_value(after: Answer, before: Answer) -> list[dict[str, Any]] | None:
    """What changed of the values that both or either tell one by one."""
    if after.breakdown is None or before.breakdown is None:
        return None
    values: dict[bytes, tuple[Any, list[int]]] = {}
    for sign, answer in ((1, after), (-1, before)):
        for one in answer.breakdown or []:
            _, steps = values.setdefault(msgspec.json.encode(one.value), (one.value, [0] * len(answer.steps)))
            for k, step in enumerate(one.steps):
                steps[k] += sign * step.count
    return [{"value": value, "steps": steps} for value, steps in values.values() if any(steps)]
