"""Pages about channels: how each does, endpoints and their secrets, and what was kept because it could not be recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter

from adapters.channels import CHANNELS, Delivery
from adapters.deliveries import delivery_of
from adapters.http.auth import house_of
from adapters.http.persons import access_recorded
from adapters.http.problems import of_exception
from adapters.http.reading import LARGEST_NUMBER
from adapters.http.rendering import elsewhere, from_our_page, rendered
from adapters.mending import looked_at, not_as_sent, retried, tried
from adapters.postgres.channel_counts import channels_shown
from adapters.postgres.rejected import Shown
from adapters.principal import Principal
from adapters.signatures import SCHEMES
from domain.errors import Invalid, TouchlogError

__all__ = ["ROUTES"]

_SHOWN = 50
_STATES = ("open", "recorded", "duplicate", "dismissed", "all")
_LARGEST_SHOWN = 200_000
"""Characters of a payload that a page shows; the rest by `touchlog rejected show`."""
_KEEPS = {"0": "not at all", "1": "1 hour", "24": "24 hours", "168": "7 days"}
"""How long the old secrets of an endpoint are still taken, in hours."""

Form = Mapping[str, str]


@get("/channels", include_in_schema=False)
async def channels_page(request: Request[Any, Any, Any], reader: NamedDependency[Principal]) -> Response[str]:
    """Show how each channel does."""
    house = house_of(request)
    shown = await channels_shown(house.core.pool)
    return rendered(
        house,
        "channels.html",
        principal=reader,
        here="channels",
        channels=shown,
        known=sorted(CHANNELS.values(), key=lambda channel: channel.name),
        now=datetime.now(UTC),
    )


# ---- endpoints ------------------------------------------------------------------------------------------


@get("/endpoints", include_in_schema=False)
async def endpoints_page(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    done: Annotated[str, QueryParameter()] = "",
) -> Response[str]:
    """Show the endpoints, with what can be done to each."""
    return await _endpoints(request, reader, done=done)


async def _endpoints(
    request: Request[Any, Any, Any],
    reader: Principal,
    *,
    code: int = 200,
    problem: str = "",
    done: str = "",
    form: Form | None = None,
    found: list[dict[str, Any]] | None = None,
) -> Response[str]:
    house = house_of(request)
    endpoints = await house.endpoints.list()
    return rendered(
        house,
        "endpoints.html",
        principal=reader,
        code=code,
        here="channels",
        endpoints=endpoints,
        address=house.core.settings.public_url,
        channels=sorted(CHANNELS.values(), key=lambda channel: channel.name),
        schemes=SCHEMES.values(),
        keeps=_KEEPS,
        hidden={each.name for c in CHANNELS.values() for each in c.settings if each.secret},
        problem=problem,
        done=done if re.fullmatch(r"[a-z0-9_/ -]{1,200}", done) else "",
        form=form or {},
        found=found,
        now=datetime.now(UTC),
    )


@post("/endpoints", include_in_schema=False, status_code=200)
async def endpoints_change(
    request: Request[Any, Any, Any], reader: NamedDependency[Principal]
) -> Response[str]:
    """Make an endpoint, give it another secret, pause it or take deliveries again; or try a body, and record nothing."""
    from_our_page(request)
    form = {name: str(value) for name, value in (await request.form()).items()}
    try:
        if form.get("change") == "test":
            found = await _tested(request, form)
            return await _endpoints(request, reader, form=form, found=found)
        done = await _changed(request, reader, form)
    except TouchlogError as refused:
        told = of_exception(refused, where="POST /endpoints")
        problem = " ".join(each.detail for each in told.errors) or told.detail
        kept = {name: value for name, value in form.items() if name != "secret"}
        return await _endpoints(request, reader, code=told.status, problem=problem, form=kept)
    return elsewhere(f"/endpoints?{urlencode({'done': done})}")


async def _changed(request: Request[Any, Any, Any], reader: Principal, form: Form) -> str:
    """Do what a form asks; answers with what was done."""
    house = house_of(request)
    change, channel, name = (form.get(key, "").strip() for key in ("change", "channel", "name"))
    told: dict[str, Any] = {"channel": channel, "name": name}
    if change == "add":
        made = await house.endpoints.add(
            channel,
            name,
            form.get("secret", "").strip(),
            scheme=form.get("scheme") or None,
            source=form.get("source", "").strip() or None,
            url=form.get("url", "").strip(),
        )
        act, told, said = "endpoint.added", told | {"scheme": made.scheme}, "was made"
    elif change == "rotate":
        if form.get("keep") not in _KEEPS:
            raise Invalid("Say how long the old secrets are still taken.")
        kept = timedelta(hours=int(form["keep"]))
        await house.endpoints.rotate(channel, name, form.get("secret", "").strip(), keep=kept)
        act, told, said = "endpoint.rotated", told | {"keep_s": int(kept.total_seconds())}, "has a new secret"
    elif change in ("pause", "resume"):
        await house.endpoints.pause(channel, name, paused=change == "pause")
        act, told = "endpoint.paused", told | {"paused": change == "pause"}
        said = "is paused" if change == "pause" else "takes deliveries again"
    else:
        raise Invalid("A change is add, rotate, pause, resume or test.")
    await house.core.records.record(act, principal=reader.key_id, data=told)
    return f"{channel}/{name} {said}"


async def _tested(request: Request[Any, Any, Any], form: Form) -> list[dict[str, Any]]:
    """What would become of a body that was put into the form."""
    house = house_of(request)
    one = await house.endpoints.get(form.get("channel", ""), form.get("name", ""))
    body = form.get("body", "").encode()
    is_json = body.lstrip()[:1] in (b"{", b"[")
    headers = {"content-type": "application/json" if is_json else "application/x-www-form-urlencoded"}
    for line in form.get("headers", "").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            headers[key.strip().lower()] = value.strip()
    delivery = Delivery(
        body=body,
        headers=headers,
        received_at=datetime.now(UTC),
        source=one.source,
        unique="test",
        settings=one.settings,
    )
    return tried(CHANNELS[one.channel], delivery, region=house.core.ingest.region)


# ---- what was kept --------------------------------------------------------------------------------------


@get("/rejected", include_in_schema=False)
async def rejected_page(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    before: Annotated[int | None, QueryParameter(ge=1)] = None,
    done: Annotated[str, QueryParameter()] = "",
) -> Response[str]:
    """Show what was kept, newest first; payloads stay sealed."""
    state = request.query_params.get("state", "open")  # `state` as a parameter is the framework's own
    if state not in _STATES:
        raise Invalid(f"There is no state '{state[:40]}'; there are {', '.join(_STATES)}.")
    core = house_of(request).core
    items = await core.rejected.list(state=None if state == "all" else state, limit=_SHOWN + 1, before=before)
    return rendered(
        house_of(request),
        "rejected.html",
        principal=reader,
        here="rejected",
        items=items[:_SHOWN],
        further=items[_SHOWN - 1].id if len(items) > _SHOWN else None,
        counts=await core.rejected.counts(),
        state=state,
        states=_STATES,
        begun=before is not None,
        done=done if re.fullmatch(r"[a-z0-9, ]{1,200}", done) else "",
        now=datetime.now(UTC),
    )


@get("/rejected/{number:int}", include_in_schema=False)
async def rejected_one(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    number: Annotated[int, PathParameter(ge=1, le=LARGEST_NUMBER)],
) -> Response[str]:
    """Show one with its payload, and what would become of it now."""
    return await _one(request, reader, await house_of(request).core.rejected.show(number))


async def _one(
    request: Request[Any, Any, Any],
    reader: Principal,
    one: Shown,
    *,
    code: int = 200,
    corrected: str | None = None,
    problems: list[dict[str, Any]] | None = None,
) -> Response[str]:
    house = house_of(request)
    await access_recorded(request, reader, (), f"rejected {one.id}", 1)
    read = delivery_of(one.payload) if one.payload is not None else None
    payload = None if one.payload is None else _laid_out(read[1].body if read else one.payload)
    asked = corrected.encode() if corrected is not None else one.payload
    would = looked_at(asked, region=house.core.ingest.region) if asked is not None else []
    if corrected is None and (
        reasons := await not_as_sent(house.core.ingest, house.core.rejected, house.keys, one)
    ):
        would = [{"place": "", "errors": reasons}]
    return rendered(
        house,
        "rejected_one.html",
        principal=reader,
        code=code,
        here="rejected",
        one=one,
        delivery=read,
        payload=payload,
        most=_LARGEST_SHOWN,
        corrected=corrected,
        would=would,
        would_do=bool(would) and not any("errors" in item for item in would),
        problems=problems,
        now=datetime.now(UTC),
    )


def _laid_out(raw: bytes) -> str:
    """JSON for the eye, every number as it was written; all else as it is."""
    try:
        text = msgspec.json.format(raw, indent=2).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = raw.decode("utf-8", "backslashreplace")
    return text[:_LARGEST_SHOWN]


@post("/rejected/{number:int}", include_in_schema=False, status_code=200)
async def rejected_change(
    request: Request[Any, Any, Any],
    reader: NamedDependency[Principal],
    number: Annotated[int, PathParameter(ge=1, le=LARGEST_NUMBER)],
) -> Response[str]:
    """Try one again, as it is or corrected; look at a correction first; or dismiss it, and open it again."""
    from_our_page(request)
    form = {name: str(value) for name, value in (await request.form()).items()}
    core = house_of(request).core
    one = await core.rejected.show(number)
    change = form.get("change")
    corrected = form.get("corrected", "").strip() or None
    if change == "look":
        return await _one(request, reader, one, corrected=corrected)
    if change == "retry":
        outcome = await retried(
            core.ingest,
            core.rejected,
            house_of(request).keys,
            one,
            reader,
            None if corrected is None else corrected.encode(),
        )
        if outcome["status"] not in ("recorded", "duplicate"):
            return await _one(request, reader, one, code=400, corrected=corrected, problems=outcome["errors"])
        said = f"{number} is {outcome['status']} at position {outcome['position']:,}"
    elif change == "dismiss" and one.state == "open":
        await core.rejected.settle(number, "dismissed", None)
        said = f"{number} is dismissed"
    elif change == "reopen" and one.state == "dismissed":
        await core.rejected.settle(number, "open", None)
        said = f"{number} is open again"
    else:
        raise Invalid("A change is look, retry, dismiss or reopen, of one whose state allows it.")
    act = {"number": number, "change": change, "corrected": corrected is not None, "became": said}
    await core.records.record("rejected.settled", principal=reader.key_id, data=act)
    return elsewhere(f"/rejected?{urlencode({'done': said})}")


ROUTES = (
    channels_page,
    endpoints_page,
    endpoints_change,
    rejected_page,
    rejected_one,
    rejected_change,
)
