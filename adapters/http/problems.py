"""Every error as a problem document (RFC 9457): what is wrong, where, and what to do next; never a stack trace."""

from __future__ import annotations

import re
import traceback
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, SerializationException, ValidationException
from psycopg.errors import DataError, UndefinedTable, UntranslatableCharacter
from psycopg_pool import PoolTimeout

from adapters.analysis.saved_names import taken
from adapters.postgres.outage import DATABASE_AWAY
from adapters.refusal import Refusal
from domain.errors import (
    Already,
    Behind,
    Forbidden,
    FutureTime,
    Invalid,
    NotFound,
    Problem,
    Refused,
    StreamMoved,
    TouchlogError,
    Unavailable,
    Underway,
)

__all__ = [
    "MEDIA_TYPE",
    "ProblemDocument",
    "answer_problem",
    "document",
    "of_exception",
    "refusal",
]

MEDIA_TYPE = "application/problem+json"
log = structlog.get_logger()


class ProblemDocument(msgspec.Struct, omit_defaults=True, kw_only=True):
    """RFC 9457, with `errors`: one entry for each thing that is wrong, with a JSON pointer to it."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[Problem] = []
    lag_positions: int | None = None


def document(refused: Refusal) -> bytes:
    """Write the problem document of *refused*."""
    return msgspec.json.encode(
        ProblemDocument(
            type=f"/docs#{refused.kind}",
            title=TITLES.get(refused.kind) or HTTPStatus(refused.status).phrase,
            status=refused.status,
            detail=refused.detail,
            errors=refused.errors,
            lag_positions=refused.lag_positions,
        )
    )


TITLES = {
    "not-json": "The body is not JSON",
    "too-large": "Too much for one request",
    "unsupported": "This media type or encoding is not taken",
    "no-key": "A key is needed",
    "not-signed": "The sender is not who it should be",
    "forbidden": "This key may not do that",
    "too-many-waiting": "Too many requests wait",
    "unavailable": "touchlog cannot answer now",
    "behind": "The read model is behind",
    "invalid": "The request is not valid",
    "not-found": "There is no such thing",
    "method-not-allowed": "This method is not allowed here",
    "future-time": "Nobody knows yet what will be known then",
    "moved": "Somebody decided first",
    "already": "It is so already",
    "underway": "The same is being done already",
    "internal": "touchlog failed",
}
"""What /docs lists, too."""


def _refused(refused: Refused) -> Refusal:
    """The answer for what its sender can mend."""
    text = str(refused)
    match refused:
        case Invalid():
            return Refusal(400, "invalid", "The request is not valid; see errors.", errors=refused.problems)
        case Forbidden():
            return Refusal(403, "forbidden", text)
        case NotFound():
            return Refusal(404, "not-found", text)
        case FutureTime():
            return Refusal(400, "future-time", text, errors=[Problem("/known_at", text, "future")])
        case StreamMoved():
            return Refusal(409, "moved", text)
        case Already():
            return Refusal(409, "already", text)
        case Underway():
            return Refusal(409, "underway", text)
    return Refusal(400, "invalid", text)


def refusal(error: Exception) -> Refusal | None:
    """The answer for an error that this house raises on purpose; None for a mishap."""
    match error:
        case Refusal():
            return error
        case Refused():
            return _refused(error)
        case Behind():
            return Refusal(
                503, "behind", str(error), headers={"Retry-After": "1"}, lag_positions=error.lag_positions
            )
        case Unavailable():
            return Refusal(503, "unavailable", str(error), headers={"Retry-After": "2"})
        case TouchlogError():
            return Refusal(500, "internal", str(error))
    if isinstance(error, DATABASE_AWAY):
        text = (
            "All connections to the database are busy; send the same request again in a moment."
            if isinstance(error, PoolTimeout)
            else "The database does not answer; send the same request again in a moment."
        )
        return Refusal(503, "unavailable", text, headers={"Retry-After": "2"})
    if _holds_nul(error):
        text = "A text of the request holds NUL (\\u0000, %00), which no text may; leave it out."
        return Refusal(400, "invalid", text, errors=[Problem("", text, "nul")])
    if isinstance(error, UndefinedTable):
        text = "The read models are not built yet: no projector has run. Ask again in a moment, or start `touchlog serve`."
        return Refusal(503, "behind", text, headers={"Retry-After": "1"})
    return None


def _holds_nul(error: Exception) -> bool:
    """Whether the database refused a text for its NUL: psycopg before it is sent, PostgreSQL inside of JSON."""
    return isinstance(error, UntranslatableCharacter) or (
        isinstance(error, DataError) and error.sqlstate is None and "NUL" in str(error)
    )


def of_exception(error: Exception, *, where: str) -> Refusal:
    """The answer for any error; a mishap is logged whole and told without its inside."""
    found = refusal(error)
    if found is not None:
        return found
    if isinstance(error, ValidationException):
        return Refusal(400, "invalid", "The request is not valid; see errors.", errors=_each(error))
    if isinstance(error.__cause__, SerializationException):
        what = f"The body is not JSON: {error.__cause__}. /docs shows what this route takes."
        return Refusal(400, "not-json", what, errors=[Problem("", what, "not_json")])
    if isinstance(error, HTTPException):
        status = error.status_code
        kind, detail = {
            404: ("not-found", "There is nothing at this address; /docs lists what there is."),
            405: (
                "method-not-allowed",
                "This address does not take this method; the header Allow names those it takes.",
            ),
            413: (
                "too-large",
                "The body is larger than 10 MB, which no question is; ask in parts.",
            ),
        }.get(status, ("invalid" if status < 500 else "internal", error.detail))
        return Refusal(status, kind, detail, headers=error.headers)
    # Its own words are left out: those of a database may quote what a person is called.
    log.error(
        "request_failed",
        where=where,
        reason=type(error).__name__,
        trace=traceback.format_tb(error.__traceback__),
    )
    return Refusal(
        500,
        "internal",
        "touchlog failed at this request; the log of part http tells why. Nothing that was answered for is lost.",
    )


def _each(error: ValidationException) -> list[Problem]:
    """Litestar's findings as ours."""
    problems = []
    for found in error.extra if isinstance(error.extra, list) else []:
        if isinstance(found, dict):
            key, source = str(found.get("key") or ""), found.get("source")
            place = "/" + key.replace(".", "/") if key else ""
            kind = {"query": "query parameter", "path": "part of the path", "header": "header"}.get(
                str(source), "value"
            )
            message = re.sub(r" - at `.*`$", "", str(found.get("message", "")))
            if key == "data" and source == "body":  # the framework's name for the body whole
                place, key = "", ""
                if message == "'data'":
                    message = "The body is missing; /docs shows what this route takes."
            problems.append(Problem(place, f"{kind} '{key}': {message}" if key else message, "invalid"))
    return problems or [Problem("", error.detail, "invalid")]


def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's handler of all exceptions."""
    route = (
        getattr(request.scope.get("route_handler"), "name", None)
        or request.scope.get("path_template")
        or "unknown"
    )
    refused = of_exception(error, where=f"{request.method} {route}")
    if refused.status == 405 and request.method == "PUT":
        reserved = taken(request.url.path.rpartition("/")[2])
        refused.errors += [reserved] if reserved else []
    return Response(
        document(refused), status_code=refused.status, media_type=MEDIA_TYPE, headers=refused.headers
    )
