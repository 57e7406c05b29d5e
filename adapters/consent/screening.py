"""Looking at consent for thousands of recipients at once: plainly wherever that says it, by the whole rule where not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg_pool import AsyncConnectionPool

from adapters.consent.plainly import plainly
from adapters.consent.register import load
from domain.consent.plain import PlainLook, plain_look
from domain.consent.validity import Question

__all__ = ["looked_at"]

_FEW = 20
"""Questions up to which the whole rule is asked at once."""
_Look = tuple[bool, str | None, int | None, tuple[int, ...]]


async def looked_at(
    pool: AsyncConnectionPool[Any], questions: Sequence[Question | None], at: datetime, known_at: int
) -> list[_Look]:
    """(valid, why not, position of the fact that decided, evidence) of each question; a question of None has no consent."""
    found: list[_Look] = [(False, "no_consent", None, ())] * len(questions)
    rest = [(number, question) for number, question in enumerate(questions) if question is not None]
    if len(rest) > _FEW:
        asked, rest = rest, []
        plain = await _plain_looks(pool, [question for _, question in asked], at, known_at)
        for (number, question), answer in zip(asked, plain, strict=True):
            if answer is None:
                rest.append((number, question))
            else:
                found[number] = (*answer, () if answer[2] is None else (answer[2],))
    if rest:
        people = {question.subject for _, question in rest if question.subject is not None}
        register = await load(pool, people, {question.contact for _, question in rest})
        for number, question in rest:
            look = register.case(question.subject, question.contact).look(question, at, known_at)
            found[number] = look.valid, look.reason, look.position, look.evidence
    return found


async def _plain_looks(
    pool: AsyncConnectionPool[Any], questions: Sequence[Question], at: datetime, known_at: int
) -> list[PlainLook | None]:
    """The plain look at each question; None for those of which the whole rule has to be asked."""
    recipients = [(None if q.subject is None else q.subject.bytes, q.contact.bytes, q) for q in questions]
    subjects = {subject for subject, _, _ in recipients if subject is not None}
    there = await plainly(pool, subjects, {contact for _, contact, _ in recipients}, known_at)
    found: list[PlainLook | None] = []
    for subject, contact, question in recipients:
        plain = there.of(subject, contact)
        if plain is None:
            found.append(None)
            continue
        facts, person, tied = plain
        if tied is not None and tied.known_from > known_at:
            found.append(None)
            continue
        wanted = (question.purpose, question.channel, question.controller)
        one_since = None if tied is None else tied.since
        found.append(plain_look(facts, person, contact, wanted, at, one_since=one_since))
    return found
