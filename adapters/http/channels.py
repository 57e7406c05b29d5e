"""GET /v1/channels: how each channel does."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get

from adapters.http.auth import house_of, needs_key
from adapters.http.reading import json_answer
from adapters.postgres.channel_counts import channels_shown

__all__ = ["ROUTES"]


@get("/v1/channels", tags=["channels"], summary="How each channel does", guards=[needs_key])
async def list_channels(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Answer with last delivery, rate, duplicates, rejected, lag and missing numbers of every channel and endpoint."""
    return json_answer({"channels": await channels_shown(house_of(request).core.pool)})


ROUTES = (list_channels,)
