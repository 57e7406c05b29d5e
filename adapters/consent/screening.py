"""Looking at consent for thousands of recipients at once: plainly wherever that says it, by the whole rule where not."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from adapters.consent.plainly import plainly
from adapters.consent.register import load
from domain.consent.plain import PlainLook, plain_look
from domain.consent.validity import Question

__all__ = ["Sought", "looked_at"]

_FEW = 20
"""Questions up to which the whole rule is asked at once."""
_Look = tuple[bool, str | None, int | None, tuple[int, ...]]


class Sought(NamedTuple):
    """A `Question` of which thousands are asked: its person and contact point are the 16 bytes of their surrogates."""

    subject: bytes | None
    contact: bytes
    purpose: str
    channel: str
    controller: str | None

    def question(self) -> Question:
        """The same for the whole rule."""
        return Question(
            subject=None if self.subject is None else UUID(bytes=self.subject),
            purpose=self.purpose,
            channel=self.channel,
            contact=UUID(bytes=self.contact),
            controller=self.controller,
        )


async def looked_at(
    pool: AsyncConnectionPool[Any], recipients: Sequence[Sought | None], at: datetime, known_at: int
) -> list[_Look]:
    """(valid, why not, position of the fact that decided, evidence) of each recipient; one of None has no consent."""
    found: list[_Look] = [(False, "no_consent", None, ())] * len(recipients)
    rest = [(number, sought) for number, sought in enumerate(recipients) if sought is not None]
    if len(rest) > _FEW:
        asked, rest = rest, []
        plain = await _plain_looks(pool, [sought for _, sought in asked], at, known_at)
        for (number, sought), answer in zip(asked, plain, strict=True):
            if answer is None:
                rest.append((number, sought))
            else:
                found[number] = (*answer, () if answer[2] is None else (answer[2],))
    if rest:
        whole = [(number, sought.question()) for number, sought in rest]
        people = {question.subject for _, question in whole if question.subject is not None}
        register = await load(pool, people, {question.contact for _, question in whole})
        for number, question in whole:
            look = register.case(question.subject, question.contact).look(question, at, known_at)
            found[number] = look.valid, look.reason, look.position, look.evidence
    return found


async def _plain_looks(
    pool: AsyncConnectionPool[Any], recipients: Sequence[Sought], at: datetime, known_at: int
) -> list[PlainLook | None]:
    """The plain look at each recipient; None for those of whom the whole rule has to be asked."""
    subjects = {sought.subject for sought in recipients if sought.subject is not None}
    there = await plainly(pool, subjects, {sought.contact for sought in recipients}, known_at)
    found: list[PlainLook | None] = []
    for subject, contact, purpose, channel, controller in recipients:
        plain = there.of(subject, contact)
        if plain is None or (plain[2] is not None and plain[2].known_from > known_at):
            found.append(None)
            continue
        facts, person, tied = plain
        one_since = None if tied is None else tied.since
        found.append(
            plain_look(facts, person, contact, (purpose, channel, controller), at, one_since=one_since)
        )
    return found
