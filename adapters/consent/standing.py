"""Consents that stand: those that rest on a notice, and those that lapse by a day; each by the whole rule."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from adapters.consent.register import load
from domain.consent.facts import Fact, Word
from domain.consent.policies import implied_until
from domain.consent.validity import Look, Question

__all__ = ["Standing", "lapse_of", "lapsing", "resting_on"]

_AT_ONCE = 2_000
_KNOWN = "known_from <= %(known_at)s AND (known_to IS NULL OR known_to > %(known_at)s)"
# A correction's columns hold what it replaces: it may bring a grant under a notice, or give it an end.
_ON_NOTICE = f"""
SELECT subject, contact, of FROM read.consent_facts
 WHERE notice_id = %(notice)s AND state IN ('given', 'renewed', 'corrected') AND {_KNOWN} ORDER BY position
"""  # noqa: S608 - constants of ours
_WITH_END = f"""
SELECT subject, contact, of FROM read.consent_facts
 WHERE state IN ('given', 'renewed', 'corrected')
   AND (valid_until IS NOT NULL OR legal_basis LIKE 'implied%%' OR patch::jsonb ?| array['valid_until', 'legal_basis'])
   AND {_KNOWN} ORDER BY position
"""  # noqa: S608
_TARGETS = (
    f"SELECT subject, contact, NULL::uuid FROM read.consent_facts WHERE event_id = ANY(%(of)s) AND {_KNOWN}"  # noqa: S608
)


class Standing(NamedTuple):
    """A grant, and how the question that it answers stands at one moment."""

    word: Word
    look: Look

    @property
    def decides(self) -> bool:
        """Whether consent is valid by this very grant."""
        return (
            self.look.valid
            and self.look.word is not None
            and self.look.word.fact.event_id == self.word.fact.event_id
        )


async def resting_on(
    pool: AsyncConnectionPool[Any], notice: str, version: str | None, at: datetime, known_at: int
) -> AsyncIterator[Standing]:
    """Every grant given under a notice (or one version of it) by *at*, in the order of the log."""

    def under_it(fact: Fact) -> bool:
        return fact.notice_id == notice and version in (None, fact.notice_version)

    async for one in _grants(pool, _ON_NOTICE, {"notice": notice}, under_it, at, known_at):
        yield one


def lapse_of(word: Word) -> datetime | None:
    """When a grant lapses: as it says itself, or as law says of an implied one."""
    fact = word.fact
    return fact.valid_until or implied_until(fact.jurisdiction, fact.legal_basis, fact.method, word.since)


async def lapsing(
    pool: AsyncConnectionPool[Any], by: datetime, at: datetime, known_at: int
) -> AsyncIterator[Standing]:
    """Every grant that consent is valid by at *at*, and that lapses until *by*."""
    async for one in _grants(pool, _WITH_END, {}, lambda _fact: True, at, known_at):
        until = lapse_of(one.word)
        if one.decides and until is not None and at < until <= by:
            yield one


async def _grants(
    pool: AsyncConnectionPool[Any],
    statement: str,
    asked: dict[str, Any],
    wanted: Callable[[Fact], bool],
    at: datetime,
    known_at: int,
) -> AsyncIterator[Standing]:
    seen: set[UUID] = set()
    async with pool.connection() as conn, conn.transaction():
        await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        async with conn.cursor(name="grants", binary=True) as cursor:
            await cursor.execute(statement.encode(), {**asked, "known_at": known_at})
            while rows := await cursor.fetchmany(_AT_ONCE):
                of = [row[2] for row in rows if row[2] is not None]
                if of:
                    told = await conn.execute(_TARGETS.encode(), {"of": of, "known_at": known_at})
                    rows += await told.fetchall()
                pairs = {(row[0], row[1]) for row in rows}
                found = [
                    one
                    for one in await _looked_at(pool, pairs, wanted, at, known_at)
                    if one.word.fact.event_id not in seen
                ]
                seen.update(one.word.fact.event_id for one in found)
                for one in sorted(found, key=lambda each: each.word.fact.position):
                    yield one


async def _looked_at(
    pool: AsyncConnectionPool[Any],
    pairs: set[tuple[UUID | None, UUID | None]],
    wanted: Callable[[Fact], bool],
    at: datetime,
    known_at: int,
) -> list[Standing]:
    people = {subject for subject, _ in pairs if subject is not None}
    contacts = {contact for _, contact in pairs if contact is not None}
    register = await load(pool, people, contacts)
    words: dict[UUID, tuple[Word, Question]] = {}
    for subject, contact in pairs:
        for word in register.case(subject, contact).known(known_at).grants:
            fact = word.fact
            if fact.event_id in words or fact.subject is None or fact.contact is None or not wanted(fact):
                continue
            if fact.purpose is None or fact.channel is None or word.since > at:
                continue
            question = Question(
                subject=fact.subject, purpose=fact.purpose, channel=fact.channel, contact=fact.contact
            )
            words[fact.event_id] = word, question
    # A correction may make a grant somebody else's, or one for another contact point: what binds these counts.
    whose = {q.subject for _, q in words.values() if q.subject is not None}
    where = {question.contact for _, question in words.values()}
    if not (whose <= people and where <= contacts):
        register = await load(pool, people | whose, contacts | where)
    return [
        Standing(word, register.case(question.subject, question.contact).look(question, at, known_at))
        for word, question in words.values()
    ]
