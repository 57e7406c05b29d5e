"""The twelve questions of a data protection officer: one catalogue, one form of answer, for command, route and page.

Each answer says its sentence first, then the figures and the rows behind it, and names the position by whose
knowledge it holds: asked again with that, it is the same. What cannot be shown yet is said, never left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.answers.history import Histories
from adapters.consent.register import READ_MODELS
from adapters.postgres.subjects import Subjects
from domain.entry import moment
from domain.errors import Invalid, NotFound, Problem
from domain.units import span

__all__ = [
    "MODELS",
    "QUESTIONS",
    "Answered",
    "Found",
    "Parameter",
    "Parts",
    "Question",
    "parsed",
    "question_of",
]

MODELS = (*READ_MODELS, "audit_trail", "contact_history")
"""The read models that answers come from."""


class Parameter(msgspec.Struct, frozen=True):
    """Something that a question wants to know first."""

    name: str
    kind: Literal["ref", "text", "time", "known", "whole"]
    meaning: str
    example: str
    required: bool = True
    default: str | None = None


_PERSON = Parameter("person", "ref", "Whom it is about", "email:ann@example.com")
_KNOWN = Parameter("known_at", "known", "As known then; now by default", "@1200", required=False)
_AT = Parameter(
    "at", "time", "The moment asked about; now by default", "2026-01-31T12:00:00Z", required=False
)
_FROM = Parameter("from", "time", "The first instant", "2026-10-01T00:00:00Z")
_TO = Parameter("to", "time", "The first instant behind", "2026-11-01T00:00:00Z")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One question."""

    number: int
    name: str
    asks: str
    parameters: tuple[Parameter, ...]


QUESTIONS = (
    Question(
        number=1,
        name="valid",
        asks="Was consent valid for this purpose, channel and contact point then: under which notice, collected how, by whom, with what proof?",
        parameters=(
            _PERSON,
            Parameter("purpose", "text", "What for", "marketing.news"),
            Parameter("channel", "text", "By which channel", "email"),
            Parameter("contact", "ref", "To which contact point", "email:ann@example.com"),
            _AT,
            _KNOWN,
        ),
    ),
    Question(
        number=2,
        name="known",
        asks="Was this message allowed, and did its sender know at dispatch?",
        parameters=(
            Parameter("source", "text", "Who reported the message", "shop/mail"),
            Parameter("id", "text", "The message's id there", "m-1"),
            _KNOWN,
        ),
    ),
    Question(
        number=3,
        name="breaches",
        asks="What went out in this span without a valid basis, and why?",
        parameters=(_FROM, _TO, _KNOWN),
    ),
    Question(
        number=4,
        name="notice",
        asks="Which consents rest on this notice?",
        parameters=(
            Parameter("notice", "text", "The notice", "privacy"),
            Parameter("version", "text", "Only this version", "3", required=False),
            _AT,
            _KNOWN,
        ),
    ),
    Question(
        number=5,
        name="lapsing",
        asks="Whose consent lapses by this day?",
        parameters=(Parameter("by", "time", "By when", "2026-12-31T00:00:00Z"), _AT, _KNOWN),
    ),
    Question(
        number=6,
        name="latency",
        asks="How long from a withdrawal to the last message that went out all the same, by processor?",
        parameters=(_FROM, _TO, _KNOWN),
    ),
    Question(
        number=7,
        name="late",
        asks="Which grants were recorded long after they took effect, by source and operator?",
        parameters=(
            Parameter("minutes", "whole", "Later than so many minutes", "60", required=False, default="60"),
            _KNOWN,
        ),
    ),
    Question(
        number=8,
        name="changed",
        asks="What did the report for this span say on that day, and why has it changed?",
        parameters=(
            _FROM,
            _TO,
            Parameter("said", "known", "The day of the report, or its position", "2026-11-05T00:00:00Z"),
            _KNOWN,
        ),
    ),
    Question(
        number=9, name="looked", asks="Who looked at this person, and for what reason?", parameters=(_PERSON,)
    ),
    Question(
        number=10,
        name="held",
        asks="What is held on this person, and what shows that nothing is missing?",
        parameters=(_PERSON, _KNOWN),
    ),
    Question(
        number=11,
        name="remains",
        asks="What remains of this person after erasure, under which article, until when?",
        parameters=(_PERSON,),
    ),
    Question(
        number=12,
        name="untouched",
        asks="What proves that nothing before a checkpoint was altered, dropped or inserted?",
        parameters=(),
    ),
)


def question_of(text: str) -> Question:
    """The question of a number or a name.

    Raises:
        NotFound: there is none.
    """
    for question in QUESTIONS:
        if text.strip().lower() in (str(question.number), question.name):
            return question
    raise NotFound(
        f"There is no question '{text}'; they are numbered 1 to 12, `touchlog consent questions` lists them."
    )


def parsed(
    question: Question,
    given: Mapping[str, str | None],
    time: Callable[[str, str], datetime],
    known: Callable[[str], datetime | int | None],
) -> dict[str, Any]:
    """The values of a question's parameters.

    Args:
        time: reads a time that stands at a JSON pointer; known: reads a time or a position.

    Raises:
        Invalid: with every parameter that is missing or is not what it should be.
    """
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    for one in question.parameters:
        text = (given.get(one.name) or "").strip() or one.default
        if text is None:
            if one.required:
                detail = f"Question {question.number} wants '{one.name}': {one.meaning.lower()}, e.g. {one.example}."
                problems.append(Problem(f"/{one.name}", detail, "missing"))
            found[one.name] = None
            continue
        try:
            if one.kind == "time":
                found[one.name] = time(text, f"/{one.name}")
            elif one.kind == "known":
                found[one.name] = known(text)
            elif one.kind == "whole":
                if not (text.isascii() and text.isdigit() and len(text) < 10):
                    detail = f"'{one.name}' is a whole number, e.g. {one.example}."
                    raise Invalid([Problem(f"/{one.name}", detail, "not_a_number")])
                found[one.name] = int(text)
            else:
                found[one.name] = text
        except Invalid as wrong:
            problems += wrong.problems
    if problems:
        raise Invalid(problems)
    if isinstance(found.get("from"), datetime) and found["to"] <= found["from"]:
        detail = "The span ends before it begins; 'to' lies behind 'from'."
        raise Invalid([Problem("/to", detail, "out_of_order")])
    return found


class Found(msgspec.Struct, frozen=True):
    """What an answer consists of, before it is told when and by whose knowledge it holds."""

    answer: str
    known_at: int
    figures: dict[str, Any] = {}
    columns: tuple[str, ...] = ()
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    about: tuple[str, ...] = ()
    more: bool = False
    at: datetime | None = None
    says_no: bool = False  # consent was not valid, something went out without it, or nothing proves it


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one question.

    Attributes:
        answer: one sentence.
        notes: what it does not show, and where to look further.
        asked: what was asked for, but for the moment, which stands resolved in *at* and *known_at*: asked again with
            these, the answer is the same to the byte.
        about: the persons whom it tells of, for the record of access.
    """

    question: int
    name: str
    asks: str
    asked: dict[str, Any]
    answer: str
    figures: dict[str, Any]
    columns: list[str]
    rows: list[dict[str, Any]]
    more: bool
    notes: list[str]
    about: list[str]
    at: str | None
    says_no: bool
    known_at: int
    head: int


_POSITIONS = frozenset(("evidence", "because_of", "positions", "position", "record", "known_at", "known"))


def told(value: Any, name: str) -> str:
    """A value of an answer as people read it; times stay as they are, for the reader's zone is its own."""
    if value is None or value in ([], {}, ""):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return " · ".join(f"{key.replace('_', ' ')} {told(one, key)}" for key, one in value.items())
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            return "; ".join(told(one, name) for one in value)
        return " ".join(told(one, name) for one in value)
    if isinstance(value, int | float):
        return _number(value, name)
    if name in ("verdict", "reason", "state", "method"):
        return str(value).replace("_", " ")
    return str(value)


def _number(value: float, name: str) -> str:
    if name in _POSITIONS:
        return f"@{value:,}"
    if name.endswith("_s"):
        return span(value)
    return f"{value:.1%}" if name == "coverage" else f"{value:,}"


class Parts(NamedTuple):
    """What answers are made with."""

    pool: AsyncConnectionPool[Any]
    subjects: Subjects
    histories: Histories
    region: str | None = None


def answered(question: Question, asked: Mapping[str, Any], found: Found) -> Answered:
    """An answer with the question that it belongs to."""

    def plain(value: Any) -> Any:
        return moment(value) if isinstance(value, datetime) else value

    resolved = ("known_at",) if found.at is None else ("known_at", "at")
    return Answered(
        question=question.number,
        name=question.name,
        asks=question.asks,
        asked={
            name: plain(value) for name, value in asked.items() if value is not None and name not in resolved
        },
        answer=found.answer,
        figures=found.figures,
        columns=list(found.columns),
        rows=found.rows,
        more=found.more,
        notes=found.notes,
        about=list(found.about),
        at=None if found.at is None else moment(found.at),
        says_no=found.says_no,
        known_at=found.known_at,
        head=found.known_at,
    )
