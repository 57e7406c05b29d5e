"""POST /hooks/{channel}/{name}: webhooks of vendors; signed, or 401 and nothing is left behind.

The signature is checked over the raw bytes before anything is parsed. 2xx leaves after the commit: of the
touchpoints, and of the letter of what is none. GET answers the handshakes that ask by GET.
"""

from __future__ import annotations

import asyncio
import hmac
import os
import re
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import structlog
from litestar import Request, Response, post
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter

from adapters.channels import CHANNELS, Channel, Delivery
from adapters.channels.channel import json_of
from adapters.deliveries import Taken, take
from adapters.endpoints import Endpoint
from adapters.http.door import Answered, Door, Headers, Receive, Scope
from adapters.http.problems import ProblemDocument
from adapters.keys import KeyFile
from adapters.postgres.outage import DATABASE_BACK_WITHIN_S, through_outages
from adapters.principal import Principal
from adapters.refusal import Refusal
from adapters.signatures import SCHEMES, SNS_HOST, Arrived, Unverified, verify
from domain.errors import Invalid

__all__ = ["PREFIX", "ROUTES", "HooksDoor"]

PREFIX = "/hooks/"
_PATH = re.compile(r"/hooks/([a-z0-9_]{1,64})/([a-z0-9][a-z0-9_-]{0,63})\Z")
_CERTIFICATE_WITHIN_S = 4.0
log = structlog.get_logger()


class HooksDoor(Door):
    """The ASGI application behind every endpoint."""

    def route(self, scope: Scope) -> str:
        """One for all endpoints: their names are made by people."""
        return f"{scope['method']} /hooks/{{channel}}/{{name}}"

    async def answer(self, scope: Scope, receive: Receive) -> Answered:
        """Answer one request."""
        if not self._house.is_open:
            await self._house.until_open(DATABASE_BACK_WITHIN_S)
        endpoint = await self._endpoint(scope["path"])
        if scope["method"] in ("GET", "HEAD"):
            return _asked(endpoint, scope, self._house.core.keys)
        if endpoint.paused_at is not None:
            raise Refusal(
                503,
                "unavailable",
                f"The endpoint {endpoint.channel}/{endpoint.name} is paused; deliver again later.",
                headers={"Retry-After": "300"},
            )
        raw: dict[str, str] = {}
        for name, value in scope["headers"]:
            text = value.decode("latin-1")
            key = name.decode("latin-1")
            raw[key] = f"{raw[key]}, {text}" if key in raw else text
        received_at = datetime.now(UTC)
        urls = self._urls(endpoint, scope, raw)

        async def work(body: bytes) -> Answered:
            await self._verified(endpoint, Arrived(body=body, headers=raw, urls=urls), received_at)
            shaken = await _shaken(endpoint, body)
            if shaken is not None:
                return shaken
            delivery = Delivery(
                body=body,
                headers=raw,
                received_at=received_at,
                source=endpoint.source,
                unique=os.urandom(12).hex(),
                method="POST",
                url=urls[0],
                settings=endpoint.settings,
            )
            taken = await self._take(CHANNELS[endpoint.channel], endpoint, delivery)
            return Answered(
                msgspec.json.encode(
                    {
                        "recorded": taken.answer.recorded,
                        "duplicates": taken.answer.duplicates,
                        "conflicts": taken.answer.conflicts,
                        "rejected": taken.rejected,
                    }
                )
            )

        if _unsigned_ping(endpoint, raw):
            return Answered(b'{"recorded":0}')
        return await self.read_and(receive, Headers(scope["headers"]), work)

    async def _endpoint(self, path: str) -> Endpoint:
        found = _PATH.match(path)
        endpoint = None
        if found is not None and found[1] in CHANNELS:
            channel, name = found[1], found[2]

            async def known() -> Endpoint | None:
                return await self._house.endpoints.with_secrets(channel, name)

            endpoint = await through_outages(known, within_s=DATABASE_BACK_WITHIN_S)
        if endpoint is None:
            raise Refusal(
                404,
                "not-found",
                "There is no such endpoint; `touchlog endpoints add` makes one, `list` shows them.",
            )
        return endpoint

    def _urls(self, endpoint: Endpoint, scope: Scope, headers: Mapping[str, str]) -> tuple[str, ...]:
        """The address as the vendor may know it: as configured, by the public URL, or as it was asked for."""
        query = scope.get("query_string", b"").decode("latin-1")
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
        tail = path + (f"?{query}" if query else "")
        if endpoint.url:
            bare = endpoint.url.partition("?")[0]
            return (endpoint.url, bare + (f"?{query}" if query else ""))
        host = headers.get("host", "")
        public = self._house.core.settings.public_url
        return (f"{public}{tail}", *(f"{scheme}://{host}{tail}" for scheme in ("https", "http") if host))

    async def _verified(self, endpoint: Endpoint, arrived: Arrived, now: datetime) -> None:
        """Refuse what is not signed, or was signed for another body before.

        Raises:
            Refusal: 401.
        """
        scheme = SCHEMES[endpoint.scheme]

        def check() -> str | None:
            return verify(
                scheme,
                arrived,
                endpoint.secrets,
                now=now,
                tolerance_s=endpoint.tolerance_s,
                fetch=certificate,
            ).once

        try:
            once = await asyncio.to_thread(check) if scheme.name == "sns" else check()
            if once is not None and not await self._house.endpoints.once(endpoint, once, arrived.body):
                raise Unverified("This signature came with another body before.")
        except Unverified as why:
            log.warning("delivery_refused", channel=endpoint.channel, endpoint=endpoint.name, reason=str(why))
            self._house.figures.refused.labels(endpoint.channel, endpoint.name).inc()
            raise Refusal(
                401,
                "not-signed",
                f"{why} Nothing was recorded.",
                headers={"WWW-Authenticate": f'Signature scheme="{scheme.name}"'},
            ) from None

    async def _take(self, channel: Channel, endpoint: Endpoint, delivery: Delivery) -> Taken:
        core, figures = self._house.core, self._house.figures
        principal = Principal(f"hook:{endpoint.channel}/{endpoint.name}", "adapter", (endpoint.source,))
        way_in = f"hooks/{endpoint.channel}/{endpoint.name}"
        taken = await take(core.ingest, core.rejected, channel, delivery, principal, way_in=way_in)
        self._house.channels.count(endpoint.channel, endpoint.name, taken.counted)
        figures.recorded.inc(taken.answer.recorded)
        figures.duplicates.inc(taken.answer.duplicates)
        figures.conflicts.inc(taken.answer.conflicts)
        figures.rejected.inc(taken.rejected)
        return taken


# ---- handshakes -----------------------------------------------------------------------------------------


def _asked(endpoint: Endpoint, scope: Scope, keys: KeyFile) -> Answered:
    """Meta asks by GET whether we know the verify token, and wants its challenge back; others ask whether we live."""
    asked = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
    if asked.get("hub.mode") == "subscribe":
        right = endpoint.settings.get("verify_token", "")
        given = keys.digest(asked.get("hub.verify_token", ""))
        if not right or not hmac.compare_digest(given.encode(), right.encode()):
            raise Refusal(
                403, "forbidden", "The verify token is not that of this endpoint (setting verify_token)."
            )
        return Answered(asked.get("hub.challenge", "").encode(), media_type=b"text/plain")
    return Answered(b'{"endpoint":"ready"}')


def _unsigned_ping(endpoint: Endpoint, headers: Mapping[str, str]) -> bool:
    """WooCommerce's first ping is a form `webhook_id=N` without a topic: answered, and nothing more."""
    form = "application/x-www-form-urlencoded" in headers.get("content-type", "")
    return endpoint.scheme == "woocommerce" and form and "x-wc-webhook-topic" not in headers


async def _shaken(endpoint: Endpoint, body: bytes) -> Answered | None:
    """The answer to a handshake that is signed like all else; None for a delivery."""
    if endpoint.scheme == "slack" and b'"url_verification"' in body:
        told = _object(body)
        if told.get("type") == "url_verification":
            return Answered(msgspec.json.encode({"challenge": told.get("challenge")}))
    if endpoint.scheme == "mandrill" and body.strip() in (b"", b"mandrill_events=%5B%5D"):
        return Answered(b'{"recorded":0}')
    if endpoint.scheme == "sns":
        told = _object(body)
        if told.get("Type") == "SubscriptionConfirmation":
            await asyncio.to_thread(confirm, str(told.get("SubscribeURL")))
            return Answered(b'{"confirmed":true}')
        if told.get("Type") == "UnsubscribeConfirmation":
            return Answered(b'{"recorded":0}')
    return None


def _object(body: bytes) -> dict[str, Any]:
    try:
        told = json_of(body)
    except Invalid:
        return {}
    return told if isinstance(told, dict) else {}


class _Nowhere(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it could lead anywhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Answer that there is nowhere to go."""


_amazon = urllib.request.build_opener(_Nowhere)


def _of_sns(address: str) -> None:
    parts = urlsplit(address)
    if parts.scheme != "https" or not SNS_HOST.match(parts.hostname or ""):
        raise Unverified("The address is none of Amazon SNS.")


@lru_cache(maxsize=64)
def certificate(address: str) -> bytes:
    """The certificate at an address of Amazon SNS; kept, for it never changes."""
    _of_sns(address)
    try:
        with _amazon.open(address, timeout=_CERTIFICATE_WITHIN_S) as answer:
            got: bytes = answer.read(100_000)
    except OSError as error:
        raise Refusal(
            503,
            "unavailable",
            f"The certificate of Amazon SNS could not be fetched ({type(error).__name__}); deliver again.",
            headers={"Retry-After": "20"},
        ) from None
    return got


def confirm(address: str) -> None:
    """Tell Amazon SNS that the subscription is wanted, by asking for the address that it gave."""
    try:
        _of_sns(address)
        with _amazon.open(address, timeout=_CERTIFICATE_WITHIN_S) as answer:
            answer.read(100_000)
    except (Unverified, OSError) as error:
        raise Refusal(
            503,
            "unavailable",
            f"The subscription could not be confirmed ({type(error).__name__}); deliver again.",
        ) from None


# ---- the same route, as the documentation sees it -------------------------------------------------------


@post(
    "/hooks/{channel:str}/{name:str}",
    status_code=200,
    tags=["channels"],
    summary="Webhooks of vendors",
    description=(
        "The vendor signs, by the scheme of the endpoint (`touchlog endpoints add`); no key is asked for. The answer leaves after "
        "the commit. What is signed but cannot be recorded is kept as rejected, whole, and answered 200."
    ),
    responses={
        401: ResponseSpec(
            ProblemDocument,
            description="Not signed, or not now; nothing is left behind",
            generate_examples=False,
        ),
        404: ResponseSpec(ProblemDocument, description="No such endpoint", generate_examples=False),
        503: ResponseSpec(ProblemDocument, description="Paused, or the log is away", generate_examples=False),
    },
)
async def deliver(
    request: Request[Any, Any, Any],
    channel: Annotated[str, PathParameter()],
    name: Annotated[str, PathParameter()],
) -> Response[dict[str, int]]:
    """Stand for the door, which is in front of this handler, in the documentation."""
    raise NotImplementedError("adapters.http.app.Front sends these routes to the door")


ROUTES = (deliver,)
