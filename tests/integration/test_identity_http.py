"""Merge, split and why over HTTP, and many of them at once."""

from __future__ import annotations

import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import psycopg
import pytest

from tests.identity_reference import Joined, Named, Reference
from tests.integration.reading_house import event
from tests.integration.running import Served, served_http
from tests.integration.test_identity import ANN, BOB, names


@pytest.fixture
def served(tmp_path: Path, database_url: str) -> Any:
    with served_http(tmp_path / "d", database_url) as running:
        yield running


def test_the_routes_answer_as_they_are_written(served: Served) -> None:
    batch = [names("1", "user:1", ANN), names("2", "user:2", BOB)]
    with served.client() as client:
        client.post("/v1/events", json=batch, headers={"Content-Type": "application/cloudevents-batch+json"})
        served.project()
        tried = client.post("/v1/persons/merge", json={"a": ANN, "b": BOB, "reason": "r", "dry_run": True})
        assert (tried.status_code, tried.json()["status"]) == (200, "dry_run")
        done = client.post("/v1/persons/merge", json={"a": ANN, "b": BOB, "reason": "r"}).json()
        served.project()
        told = client.get(f"/v1/persons/{ANN}/why").json()
        assert [m["event"]["event_id"] for m in told["merges"]] == [done["event_id"]]
        assert told["merges"][0]["event"]["actor"].startswith("tl_")
        twice = client.post("/v1/persons/merge", json={"a": "user:1", "b": BOB, "reason": "r"})
        assert (twice.status_code, twice.json()["type"]) == (409, "/docs#already")
        undo = client.post("/v1/persons/split", json={**done["undo"], "reason": "wrong"})
        assert undo.json()["status"] == "recorded"
        served.project()
        assert len(client.get(f"/v1/persons/{ANN}").json()["subjects"]) == 2
        for wrong in ({}, {"merge": "x", "person": ANN, "subject": "y"}, {"person": ANN}, {"merges": 1}):
            answer = client.post("/v1/persons/split", json={**wrong, "reason": "r"})
            assert (answer.status_code, answer.json()["type"]) == (400, "/docs#invalid"), wrong
        assert (
            client.post(
                "/v1/persons/merge", json={"a": "email:no@x.example", "b": ANN, "reason": "r"}
            ).status_code
            == 404
        )
        assert client.get("/v1/persons/refused").json()["total"] == 0
        assert {
            "kind": "user",
            "priority": 10,
            "limit": 1,
            "namespace": True,
            "reference": False,
        } in client.get("/v1/persons/kinds").json()["kinds"]
        resolved = client.post("/v1/persons/resolve", json={"refs": [ANN, "user:1", "user:none"]}).json()[
            "persons"
        ]
        assert resolved[0]["person"] == resolved[1]["person"] is not None
        assert resolved[2]["person"] is None


def test_200_links_and_merges_at_once_over_8_connections_give_the_serial_result(served: Served) -> None:
    """One chain of 201 persons, by merges and by links; every other is sent twice."""
    people = [f"loyalty_card:c{n}" for n in range(201)]
    with served.client() as client:
        batch = [event(ref, subject=ref) for ref in people]
        client.post("/v1/events", json=batch, headers={"Content-Type": "application/cloudevents-batch+json"})
    served.project()

    async def all_at_once() -> list[int]:
        jobs = [(("merge", "link")[n % 4 == 0], people[n], people[n + 1]) for n in range(200)]
        jobs += jobs[::2]
        waiting = iter(jobs)
        async with httpx.AsyncClient(
            base_url=served.url,
            headers={"Authorization": f"Bearer {served.key}"},
            timeout=60,
            trust_env=False,
        ) as client:

            async def lane() -> list[int]:
                found = []
                for what, a, b in waiting:
                    while True:
                        answer = await client.post(
                            f"/v1/persons/{what}", json={"a": a, "b": b, "reason": "one"}
                        )
                        if answer.status_code != 503:
                            break
                    found.append(answer.status_code)
                return found

            codes = await asyncio.gather(*(lane() for _ in range(8)))
        return [code for each in codes for code in each]

    finished = asyncio.Event()
    codes: list[int] = []

    async def run() -> None:
        async def projecting() -> None:
            while not finished.is_set():
                await asyncio.to_thread(served.project)

        beside = asyncio.create_task(projecting())
        codes.extend(await all_at_once())
        finished.set()
        await beside

    asyncio.run(run())
    served.project()

    assert set(codes) <= {200, 409}
    with psycopg.connect(served.database_url) as conn:
        row = conn.execute(
            "SELECT count(*) FILTER (WHERE type = 'identity.merged'), count(*) FILTER (WHERE type = 'identity.linked') FROM touchpoint_log.events"
        ).fetchone()
    assert row == (150, 50)
    with served.client() as client:
        whole = client.get(f"/v1/persons/{people[0]}").json()
        # a link is evidence: five cards are the limit, so that a link between two long chains is refused
        told = client.get("/v1/persons/refused", params={"limit": 1000}).json()
    serial = Reference(kinds=dict.fromkeys(people, "loyalty_card"))
    with psycopg.connect(served.database_url) as conn:
        for position, body in conn.execute(
            "SELECT position, body FROM touchpoint_log.events WHERE type LIKE 'identity.%' ORDER BY 1"
        ):
            found = orjson.loads(body)
            when = datetime.fromisoformat(found["occurred_at"])
            ends = (
                [s[0] for s in found["subjects"]]
                if found["type"] == "identity.linked"
                else [found["subjects"][0][0], found["data"]["b_subject"]]
            )
            if found["type"] == "identity.linked":
                serial.events.append(Named(position, ends, when, found["source"], found["id"]))
            else:
                serial.merges.append(Joined(position, ends[0], ends[1], when, found["source"], found["id"]))
    named = [x for e in serial.events for x in e.subjects] + [x for m in serial.merges for x in (m.a, m.b)]
    serial.kinds = dict.fromkeys(named, "loyalty_card")
    persons = serial.persons()
    mine = {s["subject"] for s in whole["subjects"]}
    assert frozenset(mine) in persons
    assert len(told["refused"]) == told["total"]
    with psycopg.connect(served.database_url) as conn:
        stored = {
            frozenset(map(str, members))
            for (members,) in conn.execute("SELECT array_agg(subject) FROM read.identities GROUP BY person")
        }
    assert stored == persons
