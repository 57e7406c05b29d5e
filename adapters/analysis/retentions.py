"""Retention asked: a question as somebody wrote it, resolved to one moment, answered from the columns; and kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from adapters.analysis.funnels import Funnels, Members, Page
from adapters.analysis.saved_names import check_name
from domain.entry import moment
from domain.errors import Invalid, NotFound, Problem
from domain.funnels.reading import MOMENT, micros
from domain.retention.answer import Retained
from domain.retention.question import Retention
from domain.retention.reading import read_retention

__all__ = ["Retentions", "SavedRetention"]

_OF_A_CELL = ("cohort", "in_interval", "returned", "value", "limit", "cursor")


class SavedRetention(msgspec.Struct, frozen=True):
    """A question kept under a name."""

    name: str
    version: int
    retention: dict[str, Any]
    saved_by: str
    saved_at: str


class Retentions:
    """Answers questions about retention.

    Args:
        funnels: have the columns open.
    """

    def __init__(self, pool: AsyncConnectionPool[Any], funnels: Funnels) -> None:
        self._pool = pool
        self._funnels = funnels

    async def query(self, raw: Any, *, after: int = 0) -> Retained:
        """Answer a question.

        Args:
            after: the read models must have seen this position.

        Raises:
            Invalid: the question is not valid; a problem for each mistake.
            FutureTime, Behind: as everywhere.
        """

        def work(library: Any, as_of: datetime | None, position: int) -> Retained:
            from adapters.columns.retention import ask

            view, owners, known_us = library.view(position, as_of)
            return ask(
                read_retention(raw, view.known), view, owners,
                as_of=moment(as_of) if as_of else None, as_of_us=micros(as_of) if as_of else None,
                known_us=known_us, threads=self._funnels.threads,
            )  # fmt: skip

        return await self._funnels.answered(raw, after, work)

    async def members(self, raw: Any, *, after: int = 0) -> Members:
        """The units behind one cell, in order of their ids, a page at a time.

        Raises:
            Invalid: the question is not valid, or has no such cell.
        """
        raw = raw if isinstance(raw, dict) else {}
        asked = {k: raw[k] for k in _OF_A_CELL if k in raw}
        page = Page(asked)
        question = page.resumed({k: v for k, v in raw.items() if k not in _OF_A_CELL})

        def work(library: Any, as_of: datetime | None, position: int) -> Members:
            from adapters.columns.retention import bar

            view, owners, _ = library.view(position, as_of)
            retention = read_retention(question, view.known)
            _check_cell(retention, asked)
            found = bar(
                retention, view, owners, interval=asked.get("in_interval"), returned=asked.get("returned", True),
                cohort=asked.get("cohort"), value=asked.get("value"), of_value="value" in asked,
                threads=self._funnels.threads,
            )  # fmt: skip
            key = "person" if retention.unit == "person" else "unit"
            shown, more = page.cut(found, as_of, position, None)
            persons = [{key: m.unit, "positions": m.positions} for m in shown]
            return Members(persons, len(found), more, moment(as_of) if as_of else None, position, position)

        return await self._funnels.answered(question, after, work)

    async def save(self, name: str, raw: Any, by: str) -> SavedRetention:
        """Keep a question under a name; one that has changed is a new version.

        Raises:
            Invalid: the name or the question is not valid.
        """
        check_name(name, "monthly-orders")
        question = {k: v for k, v in raw.items() if k not in MOMENT} if isinstance(raw, dict) else raw

        def check(library: Any, as_of: datetime | None, position: int) -> None:
            read_retention(question, library.view(position, as_of)[0].known)

        await self._funnels.answered({}, 0, check)
        async with self._pool.connection() as conn, conn.transaction():
            await conn.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (f"saved_retention {name}",))
            await conn.execute(
                "INSERT INTO touchlog.saved_retentions (name, version, retention, saved_by) "
                "SELECT %(name)s, coalesce(max(version), 0) + 1, %(asked)s, %(by)s FROM touchlog.saved_retentions "
                "WHERE name = %(name)s HAVING coalesce((array_agg(retention ORDER BY version DESC))[1] <> %(asked)s, true)",
                {"name": name, "asked": Jsonb(question), "by": by},
            )
        return await self.saved(name)

    async def saved(self, name: str, version: int | None = None) -> SavedRetention:
        """A kept question, the newest version unless told otherwise.

        Raises:
            NotFound: there is none; names those there are.
        """
        async with self._pool.connection() as conn:
            rows = await conn.execute(
                "SELECT name, version, retention, saved_by, saved_at FROM touchlog.saved_retentions ORDER BY name, version"
            )
            every = [
                SavedRetention(kept, number, question, by, moment(at.astimezone(UTC)))
                for kept, number, question, by, at in await rows.fetchall()
            ]
        mine = [one for one in every if one.name == name and version in (None, one.version)]
        if not mine:
            there = ", ".join(list(dict.fromkeys(one.name for one in every))[:20]) or "none"
            what = f"version {version} of " if version is not None else ""
            raise NotFound(f"There is no {what}retention '{name[:80]}'; saved are: {there}.")
        return mine[-1]


def _check_cell(retention: Retention, asked: dict[str, Any]) -> None:
    """Check what names a cell.

    Raises:
        Invalid: there is no such cell.
    """
    problems = []
    k = asked.get("in_interval")
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or not 0 <= k < retention.intervals):
        told = f"'in_interval' is a number from 0 to {retention.intervals - 1}."
        problems.append(Problem("/in_interval", told, "wrong_type"))
    if not isinstance(asked.get("returned", True), bool):
        problems.append(Problem("/returned", "'returned' is true or false.", "wrong_type"))
    elif "returned" in asked and k is None:
        problems.append(Problem("/returned", "Returned in which interval? Give `in_interval`.", "missing"))
    if not isinstance(asked.get("cohort", ""), str):
        problems.append(
            Problem("/cohort", "'cohort' is the name of one, e.g. 2026-01 or 2026-01-31.", "wrong_type")
        )
    if "value" in asked and retention.breakdown is None:
        told = "A 'value' is of a breakdown; this question has none."
        problems.append(Problem("/value", told, "not_together"))
    if problems:
        raise Invalid(problems)
