"""How tests post events over HTTP, and what they hold an answer to."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import uuid4

import httpx
from psycopg_pool import AsyncConnectionPool

from adapters.postgres.api_keys import ApiKeys
from tests.integration.running import Served

ONE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


def made_key(served: Served, role: str, *sources: str) -> str:
    async def make() -> str:
        pool: AsyncConnectionPool[Any]
        async with AsyncConnectionPool(
            served.database_url, min_size=1, max_size=1, open=False, kwargs={"autocommit": True}
        ) as pool:
            return (await ApiKeys(pool).add(role, sources=sources)).key

    return asyncio.run(make())


def revoke(served: Served, key: str) -> None:
    async def revoked() -> None:
        pool: AsyncConnectionPool[Any]
        async with AsyncConnectionPool(
            served.database_url, min_size=1, max_size=1, open=False, kwargs={"autocommit": True}
        ) as pool:
            await ApiKeys(pool).revoke(key)

    asyncio.run(revoked())


def call(id: str | None = None, **more: Any) -> dict[str, Any]:
    event = {
        "specversion": "1.0",
        "id": id or uuid4().hex,
        "source": "shop",
        "type": "call.ended",
        "time": "2026-01-05T10:00:00Z",
        "subject": "email:ann@example.com",
        "data": {"duration_s": 42, "agent": "Bo", "summary": "about the lamp"},
    }
    return {name: value for name, value in {**event, **more}.items() if value is not None}


def post(client: httpx.Client, body: Any, content_type: str = ONE, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/v1/events", content=content, headers={"Content-Type": content_type, **headers})


def only(answer: httpx.Response) -> dict[str, Any]:
    """Give the one result of an answer."""
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    assert isinstance(result, dict)
    return result


def assert_problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["type"].startswith("/docs#")
    assert "Traceback" not in answer.text
    return problem
