"""Funnels asked: a question as somebody wrote it, resolved to one moment, answered from the columns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from adapters.analysis.saved_names import check_name
from adapters.analysis.saved_segments import SavedSegments, in_version
from adapters.answers.cursors import hold_moment, read_cursor, write_cursor
from adapters.answers.history import Histories
from domain.entry import moment
from domain.errors import Invalid, NotFound, Problem
from domain.funnels.answer import Answer
from domain.funnels.reading import MOMENT, micros, read_funnel

__all__ = ["Funnels", "Members", "Page", "SavedFunnel"]

T = TypeVar("T")
MOST_MEMBERS = 10_000
_INTERRUPTED_EVERY_S = 0.05
_MOST_SHOWN = 1 << 62
READ_MODELS = ("identities",)
_OF_A_BAR = ("step", "dropped", "value", "period", "limit", "cursor")


class Members(msgspec.Struct, frozen=True):
    """The units behind a bar, each with the positions of the events that put it there, by step."""

    persons: list[dict[str, Any]]
    count: int
    next: str | None
    as_of: str | None
    known_at: int
    head: int


class SavedFunnel(msgspec.Struct, frozen=True):
    """A question kept under a name."""

    name: str
    version: int
    funnel: dict[str, Any]
    saved_by: str
    saved_at: str


class Funnels:
    """Answers questions about funnels.

    Args:
        folder: of the columns.

    What counts and compiles is loaded with the first question: a process that is asked none stays small.
    """

    def __init__(
        self, pool: AsyncConnectionPool[Any], histories: Histories, *, database_url: str, folder: Path
    ) -> None:
        self._pool = pool
        self._histories = histories
        self._database_url = database_url
        self._folder = folder
        self.segments = SavedSegments(pool)
        self._library: Any = None
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="funnel")
        self._opening = asyncio.Lock()

    def close(self) -> None:
        """Let go of the database and the threads."""
        self._threads.shutdown(wait=False)
        if self._library is not None:
            self._library.close()

    async def query(self, raw: Any, *, after: int = 0) -> Answer:
        """Answer a question.

        Args:
            after: the read models must have seen this position.

        Raises:
            Invalid: the question is not valid; a problem for each mistake.
            FutureTime, Behind: as everywhere.
        """
        as_of, position = await self.moment(raw, after)
        question, narrowing = await self.segments.narrowing(raw)

        def work(library: Any) -> Answer:
            from adapters.columns.funnels import ask

            view, owners, known_us = library.view(position, as_of)
            funnel = read_funnel(question, view.known)
            owners, segment = narrowing.owners(view, owners, as_of, known_us, self._threads)
            answer = ask(
                funnel, view, owners,
                as_of=moment(as_of) if as_of else None, as_of_us=micros(as_of) if as_of else None,
                known_us=known_us, threads=self._threads,
            )  # fmt: skip
            return answer if segment is None else msgspec.structs.replace(answer, segment=segment)

        return await self.at(work)

    async def members(self, raw: Any, *, after: int = 0) -> Members:
        """The units behind one bar of a funnel, in order of their ids, a page at a time.

        Raises:
            Invalid: the question is not valid, or has no such bar.
        """
        raw = raw if isinstance(raw, dict) else {}
        asked = {k: raw[k] for k in _OF_A_BAR if k in raw}
        page = Page(asked)
        question = page.resumed({k: v for k, v in raw.items() if k not in _OF_A_BAR})
        as_of, position = await self.moment(question, after)
        question, narrowing = await self.segments.narrowing(question)

        def work(library: Any) -> Members:
            from adapters.columns.funnels import bar

            view, owners, known_us = library.view(position, as_of)
            funnel = read_funnel(question, view.known)
            owners, _ = narrowing.owners(view, owners, as_of, known_us, self._threads)
            step, dropped = asked.get("step", 1), asked.get("dropped", False)
            problems = []
            if isinstance(step, bool) or not isinstance(step, int) or not 1 <= step <= len(funnel.steps):
                problems.append(
                    Problem("/step", f"'step' is a number from 1 to {len(funnel.steps)}.", "steps")
                )
            elif dropped is True and step == 1:
                problems.append(
                    Problem("/dropped", "Nobody drops before the first step; ask from step 2 on.", "steps")
                )
            if not isinstance(dropped, bool):
                problems.append(Problem("/dropped", "'dropped' is true or false.", "wrong_type"))
            if "value" in asked and funnel.breakdown is None:
                problems.append(
                    Problem("/value", "A 'value' is of a breakdown; this question has none.", "not_together")
                )
            if "period" in asked and funnel.trend is None:
                problems.append(
                    Problem("/period", "A 'period' is of a trend; this question has none.", "not_together")
                )
            if problems:
                raise Invalid(problems)
            found = bar(
                funnel, view, owners, step=step, dropped=dropped, value=asked.get("value"),
                of_value="value" in asked, period=asked.get("period"), threads=self._threads,
            )  # fmt: skip
            key = "person" if funnel.unit == "person" else "unit"
            shown, more = page.cut(found, as_of, position, narrowing.version)
            persons = [{key: m.unit, "positions": m.positions} for m in shown]
            return Members(persons, len(found), more, moment(as_of) if as_of else None, position, position)

        return await self.at(work)

    @property
    def threads(self) -> ThreadPoolExecutor:
        """What counting may be spread over."""
        return self._threads

    async def at(self, work: Callable[[Any], T]) -> T:
        """Do some work with the library of the columns, in a thread of its own."""
        async with self._opening:
            if self._library is None:
                self._library = await asyncio.to_thread(self._open)
        return await asyncio.to_thread(work, self._library)

    async def answered(self, raw: Any, after: int, work: Callable[[Any, datetime | None, int], T]) -> T:
        """Do some work with the library at the moment that a question names: its `as_of`, and the position known.

        Raises:
            Invalid, FutureTime, Behind: as everywhere.
        """
        as_of, position = await self.moment(raw, after)
        return await self.at(lambda library: work(library, as_of, position))

    def _open(self) -> Any:
        from adapters.columns.following import connected
        from adapters.columns.library import Library
        from adapters.columns.shelf import Shelf, Taken
        from adapters.columns.writer import Columns

        shelf = Shelf(self._folder)
        # Where no `serve` keeps the columns, a long way is written down once, not read anew for every question.
        with suppress(Taken), shelf.written(), connected(self._database_url) as conn:
            Columns(conn, shelf).step()
        return Library(self._database_url, self._folder)

    async def position_of(self, known: Any, pointer: str) -> int:
        """What `known_at`, a time or a position, resolves to: the head of the log where none is given.

        Raises:
            Invalid, FutureTime, Behind: as everywhere.
        """
        position = await self._histories.moments.resolve_known_at(
            known if isinstance(known, int) else _time(known, pointer)
        )
        if position is None:
            position = await self._head()
        await self._histories.moments.wait_until(position, models=READ_MODELS)
        return position

    async def _head(self) -> int:
        async with self._pool.connection() as conn:
            row = await (await conn.execute("SELECT position FROM touchpoint_log.head")).fetchone()
        assert row is not None
        return int(row[0])

    async def recorded_us(self, position: int) -> int:
        """When a position was recorded, in µs since 1970; 0 before the first."""
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(
                    "SELECT recorded_at FROM touchpoint_log.events WHERE position = %s", (position,)
                )
            ).fetchone()
        return micros(row[0]) if row else 0

    async def moment(self, raw: Any, after: int) -> tuple[datetime | None, int]:
        """(as_of, the position that known_at of a question resolves to: the head of the log where none is given)."""
        given = raw if isinstance(raw, dict) else {}
        wanted = given.get("as_of")
        if isinstance(wanted, str) and wanted[:1] == "@" and wanted[1:].isdigit() and len(wanted) < 20:
            as_of: datetime | None = await self._histories.moments.recorded_at(int(wanted[1:]), "/as_of")
        else:
            as_of = _time(wanted, "/as_of")
        known = given.get("known_at")
        if isinstance(known, str) and known.startswith("@") and known[1:].isascii() and known[1:].isdigit():
            known = int(known[1:20])
        elif isinstance(known, bool) or not isinstance(known, int):
            known = _time(known, "/known_at")
        position = await self._histories.moments.resolve_known_at(known)
        if position is None:
            position = await self._head()
        await self._histories.moments.wait_until(max(position, after), models=READ_MODELS)
        return as_of, position

    async def sql(
        self, query: str, *, as_of: datetime | None = None, known_at: datetime | int | None = None
    ) -> Any:
        """Run one SQL statement over the columns (`adapters.columns.sql.ask_sql`); who stops waiting ends it.

        Raises:
            Invalid: the statement is refused; in DuckDB's words.
        """
        from adapters.columns.sql import Running, ask_sql

        known = f"@{known_at}" if isinstance(known_at, int) else known_at
        cut, position = await self.moment({"as_of": as_of, "known_at": known}, 0)

        running = Running()

        def work(library: Any) -> Any:
            return ask_sql(library, query, known_at=position, as_of=cut, running=running)

        working = asyncio.ensure_future(self.at(work))
        try:
            return await asyncio.shield(working)
        except (
            asyncio.CancelledError
        ):  # Ctrl-C: its thread would go on, and the end of the process wait for it
            while not working.done():
                running.interrupt()
                await asyncio.wait([working], timeout=_INTERRUPTED_EVERY_S)
            with suppress(Invalid):  # what it came to does not matter any more
                working.result()
            raise

    async def export(
        self,
        folder: Path,
        *,
        known_at: datetime | int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Any:
        """Write the log as it holds at a moment as Parquet (`adapters.columns.export.export`).

        An export that was cut off goes on at its own moment, unless another is asked for.

        Raises:
            Refused: the folder holds something else.
        """
        log_id = await self._log_id()
        if known_at is None:

            def cut_off(_: Any) -> int | None:
                from adapters.columns.export import begun_at

                return begun_at(folder, log_id)

            known_at = await self.at(cut_off)
        position = await self.position_of(known_at, "/known_at")

        def work(library: Any) -> Any:
            from adapters.columns.export import export

            view, owners, _ = library.view(position, None)
            return export(folder, view, owners, log_id, progress=progress)

        return await self.at(work)

    async def _log_id(self) -> str:
        async with self._pool.connection() as conn:
            row = await (await conn.execute("SELECT log_id::text FROM touchpoint_log.head")).fetchone()
        assert row is not None
        return str(row[0])

    # -- saved ------------------------------------------------------------------------------------

    async def save(self, name: str, raw: Any, by: str) -> SavedFunnel:
        """Keep a question under a name; one that has changed is a new version.

        Raises:
            Invalid: the name or the question is not valid.
        """
        check_name(name, "checkout")
        question = {k: v for k, v in raw.items() if k not in MOMENT} if isinstance(raw, dict) else raw
        question = msgspec.to_builtins(question)  # a file of TOML has times of its own
        head = (await self.moment({}, 0))[1]
        plain, narrowing = await self.segments.narrowing(question)

        def check(library: Any) -> None:
            view, owners, known_us = library.view(head, None)
            read_funnel(plain, view.known)
            narrowing.owners(view, owners, None, known_us, self._threads)

        await self.at(check)
        async with self._pool.connection() as conn, conn.transaction():
            await conn.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"saved_funnel {name}",))
            await conn.execute(
                "INSERT INTO touchlog.saved_funnels (name, version, funnel, saved_by) "
                "SELECT %(name)s, coalesce(max(version), 0) + 1, %(funnel)s, %(by)s FROM touchlog.saved_funnels WHERE name = %(name)s "
                "HAVING coalesce((array_agg(funnel ORDER BY version DESC))[1] <> %(funnel)s, true)",
                {"name": name, "funnel": Jsonb(question), "by": by},
            )
        return await self.saved(name)

    async def saved(self, name: str, version: int | None = None) -> SavedFunnel:
        """A kept question, the newest version unless told otherwise.

        Raises:
            NotFound: there is none; names those there are.
        """
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(
                    "SELECT name, version, funnel, saved_by, saved_at FROM touchlog.saved_funnels "
                    "WHERE name = %s AND (%s::int IS NULL OR version = %s) ORDER BY version DESC LIMIT 1",
                    (name, version, version),
                )
            ).fetchone()
            if row is None:
                rows = await (
                    await conn.execute(
                        "SELECT DISTINCT name FROM touchlog.saved_funnels ORDER BY name LIMIT 20"
                    )
                ).fetchall()
                there = ", ".join(r[0] for r in rows) or "none"
                what = f"version {version} of " if version is not None else ""
                raise NotFound(f"There is no {what}funnel '{name[:80]}'; saved are: {there}.")
        return _kept(row)

    async def all_saved(self) -> list[SavedFunnel]:
        """Every kept question in its newest version, in order of the names."""
        async with self._pool.connection() as conn:
            rows = await (
                await conn.execute(
                    "SELECT DISTINCT ON (name) name, version, funnel, saved_by, saved_at FROM touchlog.saved_funnels "
                    "ORDER BY name, version DESC"
                )
            ).fetchall()
        return [_kept(row) for row in rows]


def _kept(row: Any) -> SavedFunnel:
    name, version, funnel, saved_by, saved_at = row
    return SavedFunnel(name, version, funnel, saved_by, moment(saved_at.astimezone(UTC)))


class _Place(msgspec.Struct, frozen=True):
    """Where a page ended: how many were shown, at which moment, of which version of a kept segment."""

    shown: Annotated[int, msgspec.Meta(ge=0, le=_MOST_SHOWN)]
    known_at: Annotated[int, msgspec.Meta(ge=0, le=_MOST_SHOWN)]
    as_of: datetime | None = None
    version: int | None = None


class Page:
    """Which part of a list is asked for; pages of one list are of one moment, whatever arrives between them.

    Args:
        asked: has `limit` and `cursor`.

    Raises:
        Invalid: one of them is not valid.
    """

    def __init__(self, asked: Mapping[str, Any]) -> None:
        limit, cursor = asked.get("limit", 1000), asked.get("cursor")
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise Invalid([Problem("/limit", "'limit' is a whole number from 1.", "wrong_type")])
        if not (cursor is None or isinstance(cursor, str)):
            raise Invalid([Problem("/cursor", "Use `next` of the page before as it is.", "cursor")])
        self._limit = min(limit, MOST_MEMBERS)
        self._place = read_cursor(cursor, _Place) if cursor else None

    def resumed(self, question: dict[str, Any]) -> dict[str, Any]:
        """A question at the moment of its cursor and of that version of a kept segment, where it names none itself."""
        if self._place is None:
            return question
        held = {"known_at": self._place.known_at, "as_of": self._place.as_of}
        named = {k: question[k] for k in MOMENT if question.get(k) is not None}
        return {**in_version(question, self._place.version), **held, **named}

    def cut(
        self, found: Sequence[T], as_of: datetime | None, known_at: int, version: int | None
    ) -> tuple[Sequence[T], str | None]:
        """(this part of all that was found, the cursor of the next).

        Raises:
            Invalid: another moment is asked for than the cursor's.
        """
        if self._place is not None:
            hold_moment((self._place.as_of, self._place.known_at), as_of, known_at)
        begin = self._place.shown if self._place is not None else 0
        end = begin + self._limit
        more = len(found) > end
        return found[begin:end], write_cursor(_Place(end, known_at, as_of, version)) if more else None


def _time(raw: Any, pointer: str) -> datetime | None:
    if raw is None:
        return None
    try:
        at = raw if isinstance(raw, datetime) else msgspec.convert(raw, datetime)
    except msgspec.ValidationError:
        at = None
    if at is None or at.tzinfo is None:
        position = " or a position such as @123" if pointer in ("/known_at", "/as_of") else ""
        raise Invalid(
            [
                Problem(
                    pointer,
                    f"Right would be an RFC 3339 time with its zone, 2026-01-31T12:00:00Z{position}.",
                    "not_a_time",
                )
            ]
        )
    try:
        return at.astimezone(UTC)
    except OverflowError:  # within the first or last day of the calendar
        detail = "The time lies outside the years 1 to 9999 in UTC."
        raise Invalid([Problem(pointer, detail, "out_of_range")]) from None
