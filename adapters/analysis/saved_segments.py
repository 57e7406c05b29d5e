"""Segments kept under names, every version of them; and questions that are narrowed to the persons of one."""

from __future__ import annotations

import re
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import Any

import msgspec
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from adapters.analysis.saved_names import check_name
from domain.entry import moment
from domain.errors import Invalid, NotFound, Problem
from domain.funnels.reading import micros
from domain.segments.answer import Told

__all__ = ["Narrowing", "SavedSegment", "SavedSegments", "in_version"]

_VERSIONED = re.compile(r"([^@]*)@([1-9][0-9]{0,8})")
MOST_TOLD = 20


class SavedSegment(msgspec.Struct, frozen=True):
    """A segment kept under a name."""

    name: str
    version: int
    segment: dict[str, Any]
    saved_by: str
    saved_at: str


class Narrowing(msgspec.Struct, frozen=True):
    """To whose events an answer is narrowed: a segment as it was written; None: to nobody's, it is of everybody.

    `name` and `version` are of a kept one.
    """

    written: dict[str, Any] | None
    name: str | None = None
    version: int | None = None

    def owners(
        self, view: Any, owners: Any, as_of: datetime | None, known_us: int, threads: Executor | None
    ) -> tuple[Any, Told | None]:
        """(*owners* that give events to these persons only, what is told of it).

        Args:
            known_us: when the last known position was recorded: who belongs then is meant where there is no *as_of*.

        Raises:
            Invalid: its rules are not valid; a problem for each mistake, below /segment.
        """
        if self.written is None:
            return owners, None
        from adapters.columns.segments import narrowed
        from domain.segments.reading import read_scope

        scope = read_scope(self.written, view.known, "/segment")
        until = known_us if as_of is None else micros(as_of)
        mine, persons = narrowed(scope, view, owners, until, threads)
        return mine, Told(self.name, self.version, persons)


def in_version(question: dict[str, Any], version: int | None) -> dict[str, Any]:
    """A question about the same *version* of its kept segment as before, where it names one and says no version itself."""
    given = question.get("segment")
    segment: dict[str, Any] = given if isinstance(given, dict) else {"name": given}
    name = segment.get("name")
    if version is None or not isinstance(name, str) or "@" in name:
        return question
    return {**question, "segment": {**segment, "name": f"{name}@{version}"}}


class SavedSegments:
    """The segments of one installation."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool

    async def save(self, name: str, segment: dict[str, Any], by: str) -> SavedSegment:
        """Keep a segment whose rules were checked; one that has changed is a new version.

        Raises:
            Invalid: the name is not valid.
        """
        check_name(name, "loyal-and-silent")
        async with self._pool.connection() as conn, conn.transaction():
            await conn.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"saved_segment {name}",))
            await conn.execute(
                "INSERT INTO touchlog.saved_segments (name, version, segment, saved_by) "
                "SELECT %(name)s, coalesce(max(version), 0) + 1, %(segment)s, %(by)s FROM touchlog.saved_segments WHERE name = %(name)s "
                "HAVING coalesce((array_agg(segment ORDER BY version DESC))[1] <> %(segment)s, true)",
                {"name": name, "segment": Jsonb(segment), "by": by},
            )
        return await self.saved(name)

    async def saved(self, name: str, version: int | None = None) -> SavedSegment:
        """A kept segment, the newest version unless told otherwise.

        Raises:
            NotFound: there is none; names those there are.
        """
        every = await self._read("name = %(name)s", {"name": name})
        mine = [one for one in every if version in (None, one.version)]
        if not mine:
            there = ", ".join(one.name for one in (await self.every())[:MOST_TOLD]) or "none"
            what = f"version {version} of " if version is not None else ""
            raise NotFound(f"There is no {what}segment '{name[:80]}'; saved are: {there}.")
        return mine[-1]

    async def every(self) -> list[SavedSegment]:
        """The newest version of every kept segment, in order of the names."""
        return list({one.name: one for one in await self._read("true", {})}.values())

    async def _read(self, condition: str, asked: dict[str, Any]) -> list[SavedSegment]:
        async with self._pool.connection() as conn:
            rows = await conn.execute(
                "SELECT name, version, segment, saved_by, saved_at FROM touchlog.saved_segments "  # noqa: S608 - our own words
                f"WHERE {condition} ORDER BY name, version",
                asked,
            )
            return [
                SavedSegment(name, version, segment, by, moment(at.astimezone(UTC)))
                for name, version, segment, by, at in await rows.fetchall()
            ]

    async def narrowing(self, raw: Any) -> tuple[Any, Narrowing]:
        """(a question without its `segment`, to whose events it is narrowed).

        `segment` is the name of a kept one, with @ and its version or the newest, or rules as a segment has them, or
        `{"name": …}`; an object may have `entered`, a range, beside it.

        Raises:
            Invalid: there is no such segment, or it is not together with the unit of the question.
        """
        given = raw.get("segment") if isinstance(raw, dict) else None
        if given is None:
            return raw, Narrowing(None)
        if raw.get("unit") not in (None, "person"):
            raise Invalid(
                [
                    Problem(
                        "/segment",
                        "A segment is of persons: it goes together with unit person only.",
                        "not_together",
                    )
                ]
            )
        question = {key: value for key, value in raw.items() if key != "segment"}
        if isinstance(given, str):
            given = {"name": given}
        if (
            not isinstance(given, dict)
            or not isinstance(given.get("name"), str)
            or "all" in given
            or "any" in given
        ):
            return question, Narrowing(given)
        wanted, version = given["name"], None
        if told := _VERSIONED.fullmatch(wanted):
            wanted, version = told[1], int(told[2])
        try:
            kept = await self.saved(wanted, version)
        except NotFound as none:
            raise Invalid([Problem("/segment", str(none), "unknown")]) from None
        written = {**kept.segment, **{k: v for k, v in given.items() if k != "name"}}
        return question, Narrowing(written, kept.name, kept.version)
