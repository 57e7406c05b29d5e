"""The officer's twelve questions over HTTP: a route for programs, and plain pages to be read and printed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter

from adapters.consent.answers import ask
from adapters.consent.questions import QUESTIONS, Answered, Parts, Question, parsed, question_of, told
from adapters.http.auth import TAKES_ALSO, house_of, needs_key, unknown_parameters
from adapters.http.persons import access_recorded
from adapters.http.problems import ProblemDocument
from adapters.http.reading import after_of, json_answer, known_at_of, local_time_of, time_of, timed
from adapters.http.rendering import from_our_page, rendered
from adapters.postgres.outage import through_outages
from adapters.principal import Principal
from domain.entry import moment
from domain.errors import Invalid, NotFound, Problem

__all__ = ["PAGES", "ROUTES"]

_PROBLEMS = {
    400: ResponseSpec(
        ProblemDocument, description="A parameter is missing or not valid", generate_examples=False
    ),
    404: ResponseSpec(
        ProblemDocument, description="No such question, person or message", generate_examples=False
    ),
    503: ResponseSpec(ProblemDocument, description="The read model is behind", generate_examples=False),
}
_Name = Annotated[str, PathParameter(description="The number of the question, 1 to 12, or its name")]
_TIMES = frozenset(
    ("sent_at", "since", "valid_until", "took_effect", "recorded", "at", "first_at", "last_at")
)


async def _answer(
    request: Request[Any, Any, Any], reader: Principal, question: Question, asked: Mapping[str, Any]
) -> Answered:
    """Ask, and put the disclosure on record before anything of it leaves."""
    core = house_of(request).core
    parts = Parts(core.pool, core.subjects, core.histories, core.ingest.region)
    after = after_of(request)
    words = f"{question.number} " + " ".join(str(value) for value in asked.values() if value is not None)
    try:
        found = await through_outages(lambda: ask(parts, question, asked, after=after), within_s=3)
    except NotFound:
        await access_recorded(request, reader, (), words, 0)
        raise
    await access_recorded(request, reader, tuple(found.about), words, len(found.rows))
    return found


def _time(text: str, place: str) -> datetime:
    at = time_of(text, place)
    assert at is not None
    return at


def _parameters() -> dict[str, str]:
    """What each parameter of the questions means, and which questions ask for it."""
    found: dict[str, str] = {}
    for name in sorted({one.name for each in QUESTIONS for one in each.parameters}):
        asking = [(each, one) for each in QUESTIONS for one in each.parameters if one.name == name]
        meanings = dict.fromkeys(one.meaning for _, one in asking)
        wanted = ", ".join(f"{each.number}{' (needed)' if one.required else ''}" for each, one in asking)
        found[name] = f"{'; '.join(meanings)}, e.g. {asking[0][1].example}. Of question {wanted}."
    return found


@get(
    "/v1/consent/questions",
    tags=["consent"],
    summary="The officer's twelve questions, and what each wants to know",
    description="Ask one by its number or name; its parameters are those of its query.",
    guards=[needs_key],
)
async def list_questions() -> Response[bytes]:
    """Answer with the questions."""
    return json_answer({"questions": QUESTIONS})


@get(
    "/v1/consent/questions/{question:str}",
    tags=["consent"],
    summary="Ask one of the officer's twelve questions",
    description=(
        "Every answer has one sentence (`answer`), figures, rows, and the position by whose knowledge it holds (`known_at`, `head`); what it "
        "does not show is in `notes`. Asked again with that `known_at` (and `at`) it is the same."
    ),
    responses=_PROBLEMS,
    opt={TAKES_ALSO: _parameters()},
)
async def ask_question(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal], question: _Name
) -> Response[bytes]:
    """Answer one question."""
    taken = timed()
    wanted = question_of(question)
    given = {one.name: request.query_params.get(one.name) for one in wanted.parameters}
    problems = unknown_parameters(request, request.route_handler)
    others = request.query_params.keys() - given.keys() - {one.pointer[1:] for one in problems}
    problems += [
        Problem(f"/{name}", f"Question {wanted.number} does not ask for '{name}'.", "unknown")
        for name in sorted(others)
    ]
    asked: dict[str, Any] = {}
    try:
        asked = parsed(wanted, given, _time, known_at_of)
    except Invalid as wrong:
        problems += wrong.problems
    if problems:
        raise Invalid(problems)
    return json_answer(await _answer(request, reader, wanted, asked), taken)


# -- pages


@get("/consent/questions", include_in_schema=False)
async def questions_page(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal]
) -> Response[str]:
    """Show the twelve questions."""
    return rendered(
        house_of(request), "questions.html", principal=reader, here="consent", questions=QUESTIONS
    )


@get("/consent/questions/{question:str}", include_in_schema=False)
async def question_page(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal], question: _Name
) -> Response[str]:
    """Show what one question wants to know."""
    wanted = question_of(question)
    given = {one.name: request.query_params.get(one.name, "") for one in wanted.parameters}
    return _page(request, reader, wanted, given)


@post("/consent/questions/{question:str}", include_in_schema=False, status_code=200)
async def answer_page(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal], question: _Name
) -> Response[str]:
    """Show the answer; what was asked stands in no address, and so in no proxy's log."""
    from_our_page(request)
    wanted = question_of(question)
    form = await request.form()
    given = {one.name: str(form.get(one.name) or "").strip() for one in wanted.parameters}
    zone = ZoneInfo(house_of(request).core.settings.timezone)
    try:
        asked = parsed(
            wanted,
            given,
            lambda text, place: local_time_of(text, zone, place, ends=place not in ("/from", "/to")),
            lambda text: (
                known_at_of(text)
                if text.startswith("@")
                else local_time_of(text, zone, "/known_at", ends=True)
            ),
        )
        found = await _answer(request, reader, wanted, asked)
    except Invalid as wrong:
        return _page(request, reader, wanted, given, problems=wrong.problems, code=400)
    except NotFound as missing:
        return _page(
            request, reader, wanted, given, problems=[Problem("", str(missing), "not_found")], code=404
        )
    return _page(request, reader, wanted, given, found=found)


def _page(
    request: Request[Any, Any, Any],
    reader: Principal,
    question: Question,
    given: Mapping[str, str],
    *,
    found: Answered | None = None,
    problems: list[Problem] | None = None,
    code: int = 200,
) -> Response[str]:
    return rendered(
        house_of(request),
        "question.html",
        principal=reader,
        code=code,
        here="consent",
        question=question,
        given=given,
        found=found,
        asked_at=moment(datetime.now(UTC)),
        problems=problems or [],
        times=_TIMES,
        value=told,
    )


ROUTES = (list_questions, ask_question)
PAGES = (questions_page, question_page, answer_page)
