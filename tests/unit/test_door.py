"""The doors of HTTP: what a request hears that is cut off."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from adapters.http.door import Answered, Door, Receive, Scope
from adapters.http.house import House


class Waiting(Door):
    """A door behind which nothing comes."""

    def route(self, scope: Scope) -> str:
        return "POST /v1/events"

    async def answer(self, scope: Scope, receive: Receive) -> Answered:
        await asyncio.Event().wait()
        raise AssertionError


async def cut_off(*, closing: bool) -> list[dict[str, Any]]:
    """What is sent of a request that waits, and is cancelled."""
    house, sent = House("0"), []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    asked = asyncio.create_task(Waiting(house)({"type": "http", "headers": []}, receive, send))
    await asyncio.sleep(0)
    if closing:
        house.closing.set()
    asked.cancel()
    await asked
    return sent


def test_a_request_that_waits_when_the_time_to_stop_is_over_is_told_to_come_again() -> None:
    # when serve stops while a request waits, for a database that is away, say
    start, body = asyncio.run(cut_off(closing=True))
    # then it hears so as every other refusal is told
    headers = dict(start["headers"])
    assert (start["status"], headers[b"content-type"]) == (503, b"application/problem+json")
    assert headers[b"retry-after"] == b"2"
    assert orjson.loads(body["body"])["detail"].startswith("touchlog is stopping: nothing")


def test_a_request_that_is_cancelled_for_another_reason_ends_as_it_was_asked_to() -> None:
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cut_off(closing=False))
