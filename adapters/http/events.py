"""POST /v1/events: CloudEvents in, an answer per event after the commit.

This one route is a thin one in front of the framework. Measured with 100 events a request on 16
connections, without the recording itself: thin route 3,200 requests a second, the framework's handler
reading the body 2,600, its typed handler 900. The OpenAPI document describes it all the same: the
framework has a handler of that name, which nothing reaches.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
import orjson
from litestar import Request, Response, post
from litestar.openapi import ResponseSpec

from adapters.cloudevents import Payload, split_batch
from adapters.http.auth import bearer_of, unauthorised
from adapters.http.door import (
    DATABASE_BACK_WITHIN_S,
    LARGEST_BODY_BYTES,
    Answered,
    Door,
    Headers,
    Receive,
    Scope,
)
from adapters.http.house import House
from adapters.http.problems import ProblemDocument, Refusal
from adapters.ingest import Answer, Ingest, Principal
from adapters.postgres.outage import through_outages
from domain.errors import Invalid, Problem

__all__ = [
    "LARGEST_BATCH",
    "LARGEST_BODY_BYTES",
    "Intake",
    "accept",
    "appender",
    "encode_answer",
    "events_of",
    "may_append",
    "record",
    "whole_json",
]

LARGEST_BATCH = 10_000
_AT_ONCE = 1_000
"""Events prepared between two breaths of the event loop: a large batch must not hold up the small ones."""

encode_answer = msgspec.json.Encoder().encode
_NAME = re.compile(r"[a-z0-9]{1,64}\Z")
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)
_QUOTED = re.compile(r'\A"((?:[^"\\]|\\.)*)"\Z', re.DOTALL)


def may_append(principal: Principal) -> None:
    """Refuse a key that may not append at all.

    Raises:
        Refusal: 403.
    """
    if principal.role not in ("admin", "adapter"):
        raise Refusal(
            403,
            "forbidden",
            f"The key {principal.key_id} is of role {principal.role} and may not append; use one of role adapter or admin.",
        )


async def accept(
    ingest: Ingest,
    items: Sequence[bytes | Payload],
    principal: Principal,
    *,
    way_in: str,
    keep: bool = True,
) -> Answer:
    """Record *items* in order; a long batch in parts, and through a short outage of the database.

    Raises:
        Unavailable: the same items may be sent again: what was recorded answers `duplicate` then.
    """
    whole: Answer | None = None
    for start in range(0, max(len(items), 1), _AT_ONCE):
        part = items[start : start + _AT_ONCE]
        places = [f"item {start + i + 1}" for i in range(len(part))] if start else None

        async def record_part(
            part: Sequence[bytes | Payload] = part, places: list[str] | None = places
        ) -> Answer:
            return await ingest.accept(part, principal, way_in=way_in, places=places, keep=keep)

        answer = await through_outages(record_part, within_s=DATABASE_BACK_WITHIN_S)
        if whole is None:
            whole = answer
        else:
            whole.results += answer.results
            whole.recorded += answer.recorded
            whole.duplicates += answer.duplicates
            whole.conflicts += answer.conflicts
            whole.rejected += answer.rejected
            whole.head = max(whole.head, answer.head)
    assert whole is not None
    return whole


# ---- what the body holds --------------------------------------------------------------------------------


def events_of(headers: Iterable[tuple[bytes, bytes]], content_type: str | None, body: bytes) -> list[bytes]:
    """The events of a request, each as JSON, by the HTTP protocol binding of CloudEvents 1.0.2.

    Raises:
        Refusal: 400 (no JSON), 413 (too many), 415 (not a media type that is taken).
    """
    media_type, _, parameters = (content_type or "").partition(";")
    body = body.removeprefix(b"\xef\xbb\xbf")
    media_type = media_type.strip().lower()
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", parameters, re.IGNORECASE)
    if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise Refusal(415, "unsupported", f"JSON travels as UTF-8; charset {charset[1][:40]!r} is not taken.")
    if media_type == "application/cloudevents+json":
        return [whole_json(body)]
    if media_type == "application/cloudevents-batch+json":
        return _batch(body)
    attributes = [(n, v) for n, v in headers if n[:3] == b"ce-"]
    if attributes:
        return [_binary(attributes, content_type, media_type, body)]
    if media_type == "application/json":
        return _batch(body)
    raise Refusal(
        415,
        "unsupported",
        "Send CloudEvents as application/cloudevents+json, application/cloudevents-batch+json, application/json, "
        "or in binary mode with ce-… headers"
        + (f"; {media_type[:80]!r} is not taken." if media_type else "; the request has no Content-Type."),
    )


def _batch(body: bytes) -> list[bytes]:
    """The items of an array; a body that is no array is one item."""
    if body.lstrip(b" \t\r\n")[:1] != b"[":
        return [whole_json(body)]
    try:
        items = split_batch(body)
    except RecursionError:
        items = _split_by_brackets(body)
    except Invalid as wrong:
        whole_json(body)
        raise _not_json(wrong.problems[0].detail) from None
    if len(items) > LARGEST_BATCH:
        raise Refusal(
            413,
            "too-large",
            f"The batch holds {len(items):,} events; at most {LARGEST_BATCH:,} are taken at once. Nothing was recorded: "
            "split it and send the parts one after the other.",
        )
    return items


def _split_by_brackets(body: bytes) -> list[bytes]:
    """The items of an array of which one is nested too deeply to be decoded; that one is refused alone, later."""
    items: list[bytes] = []
    depth = begin = 0
    for token in _TOKENS.finditer(body):
        match token[0]:
            case b"[" | b"{":
                depth += 1
                begin = token.end() if depth == 1 else begin
            case b"]" | b"}":
                depth -= 1
                if depth == 0:
                    items.append(body[begin : token.start()].strip())
                    if body[token.end() :].strip():
                        raise _not_json("The body is not JSON: something follows the array.")
                    return items
            case b"," if depth == 1:
                items.append(body[begin : token.start()].strip())
                begin = token.end()
    raise _not_json("The body is not JSON: the array does not end.")


def _not_json(detail: str) -> Refusal:
    return Refusal(
        400, "not-json", f"{detail} Nothing was recorded.", errors=[Problem("", detail, "not_json")]
    )


def whole_json(body: bytes) -> bytes:
    """*body*, which is one JSON text; what is wrong inside it is told by the ingest, per event.

    Raises:
        Refusal: 400, it is not JSON at all.
    """
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            json.loads(body.decode("utf-8", "surrogateescape"))
        except json.JSONDecodeError as at:
            what = (
                "The body is empty"
                if not body.strip()
                else f"The body is not JSON: {at.msg} at character {at.pos}"
            )
            raise _not_json(f"{what}.") from None
        except (ValueError, RecursionError):
            return body  # nested too deeply, or a number of thousands of digits: told per event
    return body


def _binary(
    attributes: list[tuple[bytes, bytes]], content_type: str | None, media_type: str, body: bytes
) -> bytes:
    """One event in binary mode as its JSON; a header that comes twice is told as the repeated key that it is."""
    members: list[bytes] = []
    for name, value in attributes:
        attribute = name[3:].decode("latin-1")
        if attribute == "datacontenttype":
            continue
        if not _NAME.match(attribute) or attribute in ("data", "data_base64"):
            attribute = f"ce-{attribute}"  # no attribute of that name can be; it is kept as it came
        members.append(orjson.dumps(attribute) + b":" + _header_text(value))
    if content_type is not None:
        members.append(b'"datacontenttype":' + orjson.dumps(content_type))
    if body:
        if not media_type or media_type in ("application/json", "text/json") or media_type.endswith("+json"):
            members.append(b'"data":' + whole_json(body))
        else:
            text = None
            if media_type.startswith("text/") or media_type.endswith(("/xml", "+xml")):
                try:
                    text = body.decode("utf-8")
                except UnicodeDecodeError:
                    text = None
            members.append(
                b'"data_base64":' + orjson.dumps(base64.b64encode(body).decode())
                if text is None
                else b'"data":' + orjson.dumps(text)
            )
    return b"{" + b",".join(members) + b"}"


def _header_text(value: bytes) -> bytes:
    """The JSON text of an attribute's header: quotes undone (RFC 9110 §5.6.4), then percent-encoding, once."""
    quoted = _QUOTED.match(value.decode("latin-1"))
    if quoted:
        value = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL).encode("latin-1")
    raw = unquote_to_bytes(value) if b"%" in value else value
    try:
        return orjson.dumps(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return (
            b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
        )  # told by the ingest: not UTF-8


# ---- the route ------------------------------------------------------------------------------------------


class Intake(Door):
    """The ASGI application behind POST /v1/events."""

    def route(self, scope: Scope) -> str:
        """There is one."""
        return "POST /v1/events"

    async def answer(self, scope: Scope, receive: Receive) -> Answered:
        """Answer one request."""
        raw = scope["headers"]
        headers = Headers(raw)
        house = self._house
        key = bearer_of(headers.authorization)
        if key is None:
            raise unauthorised(
                "Send a key: Authorization: Bearer tl_…; `touchlog keys add --role adapter` makes one."
            )
        principal = await appender(house, key)

        async def work(body: bytes) -> Answered:
            started_s = time.perf_counter()
            items = events_of(raw, headers.content_type, body)
            del body
            answer = await record(house, items, principal, way_in="http")
            if not answer.recorded:  # then no commit of ours told the newest position

                async def head() -> int:
                    return await house.core.feed.head()

                answer.head = max(answer.head, await through_outages(head, within_s=5))
            house.figures.append_s.observe(time.perf_counter() - started_s)
            return Answered(encode_answer(answer))

        return await self.read_and(receive, headers, work)


async def appender(house: House, key: str) -> Principal:
    """Whose key this is, who may append; through a short outage of the database.

    Raises:
        Refusal: 401 or 403.
    """
    if not house.is_open:
        await house.until_open(DATABASE_BACK_WITHIN_S)

    async def known() -> Principal | None:
        return await house.keys.authenticate(key)

    principal = await through_outages(known, within_s=DATABASE_BACK_WITHIN_S)
    if principal is None:
        raise unauthorised("This key is unknown or was revoked; `touchlog keys list` shows those in force.")
    may_append(principal)
    return principal


async def record(
    house: House, items: Sequence[bytes | Payload], principal: Principal, *, way_in: str
) -> Answer:
    """Record *items* and count what became of them."""
    answer = await accept(house.core.ingest, items, principal, way_in=way_in)
    figures = house.figures
    figures.recorded.inc(answer.recorded)
    figures.duplicates.inc(answer.duplicates)
    figures.conflicts.inc(answer.conflicts)
    figures.rejected.inc(answer.rejected)
    return answer


# ---- the same route, as the framework and its documentation see it --------------------------------------


@post(
    "/v1/events",
    status_code=200,
    tags=["events"],
    summary="Record events",
    description=(
        "CloudEvents 1.0 in binary (`ce-…` headers), structured or batch mode; plain `application/json` is taken as an event or, "
        "an array, as a batch. 1 to 10,000 events, 16 MiB after decompression (`Content-Encoding: gzip` or `deflate`). "
        "The answer leaves after the commit, with one result per event, in order. Sending again is safe: what was recorded "
        "answers `duplicate` with the position of the first. One bad event never spoils its neighbours."
    ),
    responses={
        400: ResponseSpec(
            ProblemDocument,
            description="The body is not JSON at all; nothing was recorded",
            generate_examples=False,
        ),
        413: ResponseSpec(
            ProblemDocument, description="More than 10,000 events or 16 MiB", generate_examples=False
        ),
        415: ResponseSpec(
            ProblemDocument, description="Another media type or encoding", generate_examples=False
        ),
        429: ResponseSpec(
            ProblemDocument, description="Too many requests wait; see Retry-After", generate_examples=False
        ),
        503: ResponseSpec(
            ProblemDocument,
            description="The log cannot take events now; see Retry-After",
            generate_examples=False,
        ),
    },
)
async def record_events(request: Request[Any, Any, Any]) -> Response[Answer]:
    """Stand for the intake, which is in front of this handler, in the documentation."""
    raise NotImplementedError("adapters.http.app.Front sends this route to the intake")


ROUTES = (record_events,)
