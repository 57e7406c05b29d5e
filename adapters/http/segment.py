"""POST /v1/track, identify, page, screen, group, alias, batch, import: Segment's tracking API.

The write key is an API key that may append: as the user of HTTP Basic, as `writeKey` in the body, or as a
bearer. Well-formed calls are answered `{"success": true}`, as Segment does, also where one of them cannot be
recorded: that one is kept (`touchlog rejected list`), for its sender would only send the same again.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from litestar import Request, Response, post
from litestar.openapi import ResponseSpec

from adapters.channels import CHANNELS, Delivery
from adapters.channels.segment import CALLS, LARGEST_BATCH_BYTES, LARGEST_CALL_BYTES
from adapters.deliveries import Taken, take
from adapters.http.auth import bearer_of, unauthorised
from adapters.http.door import Answered, Door, Headers, Receive, Scope
from adapters.http.events import appender
from adapters.http.problems import ProblemDocument
from adapters.intake.bodies import whole_json
from adapters.intake.payloads import members_of
from adapters.principal import Principal
from adapters.refusal import Refusal

__all__ = ["PATHS", "ROUTES", "SegmentDoor"]

PATHS = {f"/v1/{call}": call for call in (*CALLS, "batch", "import")}
_SUCCESS = Answered(b'{"success":true}')
_WRITE_KEY = "Send the write key, an API key of role adapter, as the user of HTTP Basic or as 'writeKey' in the body; `touchlog keys add --role adapter --source …` makes one."


class _Keyed(msgspec.Struct):
    writeKey: str | None = None  # noqa: N815 - Segment's spelling


class SegmentDoor(Door):
    """The ASGI application behind Segment's routes."""

    def route(self, scope: Scope) -> str:
        """By the path, of which there are eight."""
        return f"POST {scope['path']}"

    async def answer(self, scope: Scope, receive: Receive) -> Answered:
        """Answer one request."""
        call = PATHS[scope["path"]]
        headers = Headers(scope["headers"])
        key = bearer_of(headers.authorization) or _basic_user(headers.authorization)
        principal = await appender(self._house, key) if key else None
        largest = LARGEST_CALL_BYTES if call in CALLS else LARGEST_BATCH_BYTES

        async def work(body: bytes) -> Answered:
            nonlocal principal
            whole_json(body)
            if principal is None:
                found = _key_inside(body)
                if not found:
                    raise unauthorised(_WRITE_KEY)
                principal = await appender(self._house, found)
            await self._take(body, call, principal)
            return _SUCCESS

        try:
            return await self.read_and(receive, headers, work, largest=largest)
        except Refusal as refused:
            if refused.status == 413:  # Segment's status for it; its SDKs know no other
                raise Refusal(400, refused.kind, refused.detail) from None
            raise

    async def _take(self, body: bytes, call: str, principal: Principal) -> Taken:
        core, figures = self._house.core, self._house.figures
        started_s = time.perf_counter()
        delivery = Delivery(
            body=_without_key(body),
            headers={},
            received_at=datetime.now(UTC),
            source=source_of(principal),
            unique=os.urandom(12).hex(),
            call=call,
        )
        channel = CHANNELS["segment"]
        taken = await take(core.ingest, core.rejected, channel, delivery, principal, way_in="segment")
        figures.append_s.observe(time.perf_counter() - started_s)
        self._house.channels.count("segment", principal.key_id, taken.counted)
        figures.recorded.inc(taken.answer.recorded)
        figures.duplicates.inc(taken.answer.duplicates)
        figures.conflicts.inc(taken.answer.conflicts)
        figures.rejected.inc(taken.rejected)
        return taken


def source_of(principal: Principal) -> str:
    """The source that a write key stands for: its first; `shop/*` gives `shop/segment`."""
    for source in principal.sources:
        if not source.endswith("*"):
            return source
        if source != "*":
            return f"{source[:-1]}segment"
    return "segment"


def _basic_user(header: str | None) -> str | None:
    scheme, _, encoded = (header or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user = base64.b64decode(encoded.strip(), validate=True).decode("utf-8").partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        raise unauthorised(
            "The Authorization header is no HTTP Basic: Base64 of 'key:' is expected."
        ) from None
    return user or None


def _without_key(body: bytes) -> bytes:
    """The body without the write key, for what cannot be recorded is kept; all else of it stays byte for byte."""
    if b'"writeKey"' not in body:
        return body
    try:
        members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.ValidationError:
        return body
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        left = members_of(body)
        if left.pop("writeKey", None) is None:
            return body
        return b"{%b}" % b",".join(json.dumps(name).encode() + b":" + value for name, value in left.items())
    members.pop("writeKey", None)
    return msgspec.json.encode(members)


def _key_inside(body: bytes) -> str | None:
    try:
        return msgspec.json.decode(body, type=_Keyed).writeKey
    except msgspec.ValidationError:
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _text(members_of(body).get("writeKey", b""))  # a call that cannot be decoded says so itself


def _text(written: bytes) -> str | None:
    try:
        return msgspec.json.decode(written, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


# ---- the same routes, as the documentation sees them ----------------------------------------------------


@post(
    list(PATHS),
    status_code=200,
    tags=["channels"],
    summary="Segment's tracking API",
    description=(
        "As Segment's SDKs speak it: at most 32 KiB a call, 500 KiB a batch, gzip. The write key is an API key: user of HTTP Basic, "
        '`writeKey` in the body, or bearer. The answer `{"success": true}` leaves after the commit; a call that cannot be recorded '
        "is kept as rejected. `messageId` tells a repeat from something new."
    ),
    responses={
        400: ResponseSpec(
            ProblemDocument,
            description="No JSON, or too large; nothing was recorded",
            generate_examples=False,
        ),
        401: ResponseSpec(
            ProblemDocument, description="No write key, or an unknown one", generate_examples=False
        ),
        429: ResponseSpec(
            ProblemDocument, description="Too many requests wait; see Retry-After", generate_examples=False
        ),
    },
)
async def track(request: Request[Any, Any, Any]) -> Response[dict[str, bool]]:
    """Stand for the door, which is in front of this handler, in the documentation."""
    raise NotImplementedError("adapters.http.app.Front sends these routes to the door")


ROUTES = (track,)
