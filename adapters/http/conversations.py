"""Conversations: those of a person, and one with everything that was said."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response, get
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter, QueryParameter

from adapters.answers.conversations import ConversationAnswer, Conversations, ConversationsPage
from adapters.http.auth import house_of
from adapters.http.persons import access_recorded
from adapters.http.problems import ProblemDocument
from adapters.http.reading import AsOf, KnownAt, after_of, as_of_of, json_answer, known_at_of, timed
from adapters.postgres.outage import through_outages
from adapters.principal import Principal
from domain.errors import NotFound

__all__ = ["ROUTES"]

_PROBLEMS = {
    400: ResponseSpec(ProblemDocument, description="A parameter is not valid", generate_examples=False),
    404: ResponseSpec(ProblemDocument, description="No such person or conversation", generate_examples=False),
    503: ResponseSpec(ProblemDocument, description="The read model is behind", generate_examples=False),
}


@get(
    "/v1/conversations",
    tags=["conversations"],
    summary="Calls, chats, mails and cases that belong together, the latest first",
    description=(
        "Joined by `data.conversation_id`, `thread_id` or `case_id`; as corrected. `as_of` and `known_at` are answered for a person and "
        "for one conversation; everybody's are kept as known now."
    ),
    responses=_PROBLEMS,
)
async def list_conversations(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    person: Annotated[
        str | None, QueryParameter(description="A REF: only conversations of this person")
    ] = None,
    limit: Annotated[
        int, QueryParameter(ge=1, description="At most so many; above 1,000 is taken as 1,000")
    ] = 50,
    cursor: Annotated[str | None, QueryParameter(description="`next` of the page before")] = None,
    as_of: AsOf = None,
    known_at: KnownAt = None,
) -> Response[bytes]:
    """Answer with one page."""
    taken = timed()
    core = house_of(request).core
    after, happened, known = after_of(request), await as_of_of(request, as_of), known_at_of(known_at)

    async def asked() -> ConversationsPage:
        return await Conversations(core.pool, core.histories).page(
            person or None,
            as_of=happened,
            known_at=known,
            limit=limit,
            cursor=cursor or None,
            after=after,
        )

    try:
        page = await through_outages(asked, within_s=3)
    except NotFound:
        await access_recorded(request, reader, (), person or "", 0)
        raise
    about = tuple(dict.fromkeys([*page.about, *(c["subject"] for c in page.conversations if c["subject"])]))
    await access_recorded(request, reader, about, person or "", len(page.conversations))
    return json_answer(page, taken)


@get(
    "/v1/conversations/{key:path}",
    tags=["conversations"],
    summary="One conversation with its events, in the order in which they happened",
    responses=_PROBLEMS,
)
async def show_conversation(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    key: Annotated[
        str, PathParameter(description="conversation:…, thread:… or case:…, as the list gives it")
    ],
    as_of: AsOf = None,
    known_at: KnownAt = None,
) -> Response[bytes]:
    """Answer with the conversation."""
    taken = timed()
    core = house_of(request).core
    after, happened, known = after_of(request), await as_of_of(request, as_of), known_at_of(known_at)
    wanted = str(key).removeprefix("/")

    async def asked() -> ConversationAnswer:
        return await Conversations(core.pool, core.histories).one(
            wanted, as_of=happened, known_at=known, after=after
        )

    try:
        answer = await through_outages(asked, within_s=3)
    except NotFound:
        await access_recorded(request, reader, (), wanted, 0)
        raise
    subject = answer.conversation["subject"]
    await access_recorded(request, reader, (subject,) if subject else (), wanted, len(answer.entries))
    return json_answer(answer, taken)


ROUTES = (list_conversations, show_conversation)
