"""Segments and paths asked: a question as somebody wrote it, resolved to one moment, answered from the columns."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.analysis.funnels import Funnels, Page
from adapters.analysis.saved_segments import Narrowing, SavedSegment, SavedSegments
from domain.entry import moment
from domain.errors import Invalid, Problem
from domain.funnels.question import Trend
from domain.funnels.reading import MOMENT, Reader, micros
from domain.paths.answer import Answer as PathsAnswer
from domain.paths.reading import read_paths
from domain.segments.answer import Answer, Member
from domain.segments.question import Scope
from domain.segments.reading import read_scope, read_segment

__all__ = ["Members", "Segments"]

T = TypeVar("T")
_QUERY = ("segment", "range", "trend", "timezone", *sorted(MOMENT))
_PERSONS = ("segment", "state", "limit", "cursor", *sorted(MOMENT))


class Members(msgspec.Struct, frozen=True):
    """The persons of a segment, each with every spell in it."""

    persons: list[Member]
    count: int
    next: str | None
    at: str
    as_of: str | None
    known_at: int
    head: int


class Segments:
    """Answers questions about segments, and about paths.

    Args:
        funnels: have the columns open.
    """

    def __init__(self, pool: AsyncConnectionPool[Any], funnels: Funnels) -> None:
        self._funnels = funnels
        self._saved = SavedSegments(pool)

    async def paths(self, raw: Any, *, after: int = 0) -> PathsAnswer:
        """Answer a question about paths.

        Args:
            after: the read models must have seen this position.

        Raises:
            Invalid: the question is not valid; a problem for each mistake.
            FutureTime, Behind: as everywhere.
        """
        question, narrowing = await self._saved.narrowing(raw)

        def work(library: Any, as_of: datetime | None, position: int) -> PathsAnswer:
            from adapters.columns.paths import ask_paths

            view, owners, known_us = library.view(position, as_of)
            asked = read_paths(question, view.known)
            threads = self._funnels.threads
            owners, told = narrowing.owners(view, owners, as_of, known_us, threads)
            cut = moment(as_of) if as_of else None
            return ask_paths(asked, view, owners, as_of=cut, threads=threads, segment=told)

        return await self._funnels.answered(question, after, work)

    async def query(self, raw: Any, *, after: int = 0) -> Answer:
        """Answer how many belong to a segment, and how they came and went.

        Raises:
            Invalid: the question is not valid; a problem for each mistake.
            FutureTime, Behind: as everywhere.
        """

        def work(library: Any, narrowing: Narrowing, as_of: datetime | None, position: int) -> Answer:
            from adapters.columns.segments import ask_segment

            view, owners, known_us = library.view(position, as_of)
            reader = Reader(view.known)
            reader.keys(raw, "", _QUERY)
            begin, end = reader.range_of(raw)
            trend = reader.one_of(raw, "trend", Trend, None)
            zone = reader.zone(raw.get("timezone") or "UTC")
            if reader.problems:
                raise Invalid(reader.problems)
            scope = _scope(narrowing, view)
            if scope.cohort:
                raise Invalid(
                    [
                        Problem(
                            "/segment/entered",
                            "Here 'range' says when persons came and went.",
                            "not_together",
                        )
                    ]
                )
            return ask_segment(
                scope.segment, view, owners, until_us=known_us if as_of is None else micros(as_of), from_us=begin, to_us=end,
                trend=trend, zone=ZoneInfo(zone), as_of=moment(as_of) if as_of else None,
                name=narrowing.name, version=narrowing.version, threads=self._funnels.threads,
            )  # fmt: skip

        return await self._asked(raw, after, work)

    async def members(self, raw: Any, *, after: int = 0) -> Members:
        """The persons of a segment in order of their ids, a page at a time, each with every spell in it.

        Raises:
            Invalid: the question is not valid; a problem for each mistake.
            FutureTime, Behind: as everywhere.
        """

        def work(library: Any, narrowing: Narrowing, as_of: datetime | None, position: int) -> Members:
            from adapters.columns.segments import STATES, instant, members_of

            view, owners, known_us = library.view(position, as_of)
            reader = Reader(view.known)
            reader.keys(raw, "", _PERSONS)
            state = raw.get("state") or ("ever" if "entered" in (narrowing.written or {}) else "member")
            if state not in STATES:
                reader.wrong("/state", f"'state' is one of {', '.join(STATES)}.", "not_allowed")
            if reader.problems:
                raise Invalid(reader.problems)
            until = known_us if as_of is None else micros(as_of)
            found = members_of(_scope(narrowing, view), view, owners, until, state, self._funnels.threads)
            shown, more = page.cut(found, as_of, position, narrowing.version)
            cut = moment(as_of) if as_of else None
            return Members(list(shown), len(found), more, instant(until), cut, position, position)

        raw = raw if isinstance(raw, dict) else {}
        page = Page(raw)
        return await self._asked(page.resumed(raw), after, work)

    async def _asked(
        self, raw: Any, after: int, work: Callable[[Any, Narrowing, datetime | None, int], T]
    ) -> T:
        if not isinstance(raw, dict) or raw.get("segment") is None:
            wanted = '\'segment\' is missing: the name of a kept one, or rules, {"all": [{"did": "order.placed", "at_least": 3}]}.'
            raise Invalid([Problem("/segment", wanted, "missing")])
        _, narrowing = await self._saved.narrowing(raw)
        return await self._funnels.answered(
            raw, after, lambda library, as_of, position: work(library, narrowing, as_of, position)
        )

    # -- saved ------------------------------------------------------------------------------------

    async def save(self, name: str, raw: Any, by: str) -> SavedSegment:
        """Keep a segment under a name; one that has changed is a new version.

        Raises:
            Invalid: the name or the rules are not valid.
        """

        def check(library: Any, as_of: datetime | None, position: int) -> None:
            view, _, _ = library.view(position, as_of)
            read_segment(raw, view.known)

        await self._funnels.answered({}, 0, check)
        return await self._saved.save(name, raw, by)

    async def saved(self, name: str, version: int | None = None) -> SavedSegment:
        """A kept segment, the newest version unless told otherwise.

        Raises:
            NotFound: there is none; names those there are.
        """
        return await self._saved.saved(name, version)

    async def every(self) -> list[SavedSegment]:
        """The newest version of every kept segment."""
        return await self._saved.every()


def _scope(narrowing: Narrowing, view: Any) -> Scope:
    return read_scope(narrowing.written, view.known, "/segment")
