"""The bus: requests are answered after the commit, every event leaves in order, and a killed server loses nothing."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import nats
import psycopg
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error, NoRespondersError

import adapters.nats.relay as relay_module
from adapters.embedded.nats import Nats, users_of
from adapters.embedded.processes import end
from adapters.nats.connection import connected
from adapters.nats.heads import HeadListener, announce
from adapters.nats.relay import Relay, stream_name, subject_of
from adapters.nats.requests import Responder
from adapters.postgres.api_keys import ApiKeys
from adapters.principal import Principal
from bin.compose import Core, core
from bin.settings import Settings
from tests.integration.test_embedded import connected as signed_in
from tests.waiting import wait_until

T = TypeVar("T")


class Bus:
    """A real nats-server, which a test may kill."""

    def __init__(self, data: Path) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self.server = Nats(data, secret_file=data / "secret.key", subject_prefix="touchlog")
        self.server.prepare()
        self.log = data / "nats.log"
        self.process: subprocess.Popen[bytes] = self.server.start(self.log)
        self.server.wait_until_ready(self.process, self.log)

    @property
    def url(self) -> str:
        return self.server.url

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def start_again(self) -> None:
        self.process = self.server.start(self.log)
        self.server.wait_until_ready(self.process, self.log)


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    running = Bus(tmp_path / "bus")
    yield running
    end(running.process, running.server.stop_signals, 10)


def event(n: int = 0, **more: Any) -> bytes:
    return json.dumps(
        {
            "specversion": "1.0",
            "id": uuid4().hex,
            "source": "till",
            "type": "call.ended",
            "time": "2026-01-05T10:00:00Z",
            "subject": "email:ann@example.com",
            "data": {"duration_s": n, "summary": "a secret word"},
            **more,
        }
    ).encode()


def running(
    tmp_path: Path,
    database_url: str,
    bus: Bus,
    test: Callable[[Core, ApiKeys, Client], Awaitable[T]],
    within_s: float = 240,
) -> T:
    """Run *test* with the parts, and a connection that is touchlog's own."""
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    settings = Settings.load({}, data=data, database_url=database_url, nats_url=bus.url)

    async def run() -> T:
        async with core(settings, database_url, pool_size=4) as parts:
            client = await connected(bus.url, name="test")
            try:
                return await asyncio.wait_for(test(parts, ApiKeys(parts.pool), client), within_s)
            finally:
                await client.close()

    return asyncio.run(run())


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline, f"Waited in vain: {what}."
        await asyncio.sleep(0.05)


# ---- requests -------------------------------------------------------------------------------------------


def test_a_request_is_answered_as_http_answers(tmp_path: Path, database_url: str, bus: Bus) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        key = (await keys.add("adapter", sources=["till"])).key
        await Responder(client, "touchlog", parts.ingest, keys, parts.feed, subject_names_key=False).start()
        signed = {"Authorization": f"Bearer {key}"}

        async def ask(payload: bytes, headers: dict[str, str] | None = None) -> Msg:
            return await client.request(
                "touchlog.append", payload, timeout=30, headers=signed if headers is None else headers
            )

        one = event()
        answer = await ask(one)
        assert json.loads(answer.data)["results"][0]["status"] == "recorded"
        assert json.loads(answer.data)["head"] == 1
        batch = b"[" + one + b"," + event(source="bank") + b"," + event() + b"]"
        statuses = [r["status"] for r in json.loads((await ask(batch)).data)["results"]]
        assert statuses == ["duplicate", "rejected", "recorded"]
        assert await parts.feed.head() == 2
        for headers in ({}, {"Authorization": "Bearer tl_00000000_" + "x" * 43}):
            refused = await ask(event(), headers)
            assert json.loads(refused.data)["status"] == 401
            assert refused.headers
            assert refused.headers["Nats-Service-Error-Code"] == "401"
        broken = await ask(b"{")
        assert json.loads(broken.data)["status"] == 400
        analyst = (await keys.add("analyst")).key
        assert json.loads((await ask(event(), {"Authorization": f"Bearer {analyst}"})).data)["status"] == 403
        binary = {
            **signed,
            "ce-specversion": "1.0",
            "ce-id": "b1",
            "ce-source": "till",
            "ce-type": "call.ended",
        }
        assert json.loads((await ask(b'{"duration_s":1}', binary)).data)["recorded"] == 1

        # and of data that is no JSON, whichever header names its kind
        text = {**binary, "ce-id": "b2", "ce-type": "till.note", "ce-datacontenttype": "text/plain"}
        assert json.loads((await ask(b"grown quiet", text)).data)["recorded"] == 1

        # and a header that is not UTF-8, in which the client library puts a sign for what it lost
        lost = b"Caf\xe9".decode("utf-8", "replace")
        (told,) = json.loads((await ask(b"{}", {**binary, "ce-id": "b3", "ce-shop": lost})).data)["results"]
        assert told["status"] == "rejected"
        assert [(each["pointer"], each["code"]) for each in told["errors"]] == [("/shop", "not_utf8")]

    running(tmp_path, database_url, bus, test)


def test_an_answer_tells_the_head_of_the_log_whoever_moved_it(
    tmp_path: Path, database_url: str, bus: Bus
) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        # given a log that another process has written to
        signed = {"authorization": f"Bearer {(await keys.add('admin')).key}"}
        one = event()
        async with core(parts.settings, database_url) as other:
            admin = Principal("k", "admin")
            await other.ingest.accept([one, event()], admin, way_in="test")
        await Responder(client, "touchlog", parts.ingest, keys, parts.feed, subject_names_key=False).start()

        # when this one records nothing of what it is asked
        answers = [
            json.loads((await client.request("touchlog.append", body, timeout=30, headers=signed)).data)
            for body in (one, b"[]", b"{}")
        ]

        # then the newest position is told all the same
        assert [answer["head"] for answer in answers] == [2, 2, 2]

    running(tmp_path, database_url, bus, test)


def test_an_answer_that_the_server_does_not_carry_is_told_in_short(
    tmp_path: Path, database_url: str, bus: Bus
) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        # given a server whose largest message is smaller than the answer to a batch (1 MiB by default)
        signed = {"Authorization": f"Bearer {(await keys.add('admin')).key}"}
        await Responder(client, "touchlog", parts.ingest, keys, parts.feed, subject_names_key=False).start()
        client._max_payload = 20_000

        # when the batch is recorded
        batch = b"[" + b",".join([event(), *([b"{}"] * 100)]) + b"]"
        answer = await client.request("touchlog.append", batch, timeout=30, headers=signed)

        # then the requester hears what became of it and what to do, instead of nothing
        problem = json.loads(answer.data)
        assert problem["status"] == 413
        assert "1 event was recorded" in problem["detail"]
        assert "100 rejected" in problem["detail"]
        assert "smaller batches" in problem["detail"]
        assert await parts.feed.head() == 1

    running(tmp_path, database_url, bus, test)


def test_a_key_signs_in_to_the_bus_itself(tmp_path: Path, database_url: str, bus: Bus) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        made = await keys.add("adapter", sources=["till"])
        await Responder(client, "touchlog", parts.ingest, keys, parts.feed, subject_names_key=True).start()

        async def told() -> None:
            bus.server.reload(await asyncio.to_thread(users_of, database_url), bus.process.pid)

        async def asked() -> dict[str, Any]:
            till = await signed_in(bus.server, made.key_id, made.key)
            try:
                found: dict[str, Any] = json.loads(
                    (await till.request("touchlog.append", event(), timeout=30)).data
                )
            finally:
                await till.close()
            return found

        answer: dict[str, Any] = {}

        async def answered() -> bool:
            try:
                answer.update(await asked())
            except NoRespondersError:
                await told()  # nats-server joins a new account's import with its service at the second
                return False
            except (Error, OSError):
                return False  # the reload is under way
            return True

        await told()
        await eventually(answered, "an answer")
        assert answer["recorded"] == 1
        await keys.revoke(made.key_id)
        assert (await asked())["status"] == 401

    running(tmp_path, database_url, bus, test)


def test_responders_share_the_requests(tmp_path: Path, database_url: str, bus: Bus) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        key = (await keys.add("admin")).key
        other = await connected(bus.url, name="second")
        for each in (client, other):
            await Responder(each, "touchlog", parts.ingest, keys, parts.feed, subject_names_key=False).start()
        await client.flush()
        await other.flush()
        heads = {"Authorization": f"Bearer {key}"}
        answers = await asyncio.gather(
            *(client.request("touchlog.append", event(n), timeout=30, headers=heads) for n in range(100))
        )
        positions = sorted(json.loads(a.data)["results"][0]["position"] for a in answers)
        assert positions == list(range(1, 101))
        await other.close()

    running(tmp_path, database_url, bus, test)


# ---- relay ----------------------------------------------------------------------------------------------


async def record(parts: Core, count: int) -> None:
    answer = await parts.ingest.accept(
        [event(n) for n in range(count)], Principal("test", "admin"), way_in="test"
    )
    assert answer.recorded == count


async def relayed(client: Client) -> list[Msg]:
    """Read the whole stream, oldest first."""
    js = client.jetstream()
    info = await js.stream_info(stream_name("touchlog"))
    subscription = await js.subscribe("touchlog.events.>", ordered_consumer=True)
    found = [await subscription.next_msg(timeout=30) for _ in range(info.state.messages)]
    await subscription.unsubscribe()
    return found


def positions(messages: list[Msg]) -> list[int]:
    return [json.loads(m.data)["position"] for m in messages]


async def at_position(relay: Relay, position: int) -> None:
    async def reached() -> bool:
        return relay.position >= position

    await eventually(reached, f"the relay to reach {position}")


def test_every_event_leaves_in_order_without_a_personal_word(
    tmp_path: Path, database_url: str, bus: Bus
) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        await record(parts, 1200)
        relay = Relay(client, "touchlog", parts.feed, parts.pool)
        task = asyncio.create_task(relay.run())
        await at_position(relay, 1200)
        await record(parts, 5)
        await at_position(relay, 1205)
        messages = await relayed(client)
        assert positions(messages) == list(range(1, 1206))
        with psycopg.connect(database_url) as connection:
            row = connection.execute("SELECT log_id FROM touchpoint_log.head").fetchone()
        assert row
        first = messages[0]
        assert first.subject == "touchlog.events.call.ended"
        assert first.headers
        assert first.headers["Nats-Msg-Id"] == f"{row[0]}:1"
        told = json.loads(first.data)
        assert told["data"] == {"duration_s": 0}
        assert told["recordedtime"]
        assert not any(b"secret" in m.data or b"ann@example.com" in m.data for m in messages)
        task.cancel()

    running(tmp_path, database_url, bus, test)


class Rushing:
    """A log in a rush for which processors are short, until that is over."""

    def __init__(self) -> None:
        self.is_over = False
        self.asked = 0

    def is_on(self, head: int) -> bool:
        self.asked += 1
        return not self.is_over


def test_a_relay_lets_a_rush_pass_and_loses_nothing(
    tmp_path: Path, database_url: str, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        # given a log of some pages, in a rush
        await record(parts, 2200)
        monkeypatch.setattr(relay_module, "LOOKED_AT_EVERY_S", 0.001)
        rush = Rushing()
        relay = Relay(client, "touchlog", parts.feed, parts.pool, rush)  # type: ignore[arg-type]
        # when it is relayed
        task = asyncio.create_task(relay.run())
        while rush.asked < 20:
            await asyncio.sleep(0.001)
        # then nothing leaves while the rush lasts, and everything behind it
        assert relay.published == 0
        rush.is_over = True
        await at_position(relay, 2200)
        assert positions(await relayed(client)) == list(range(1, 2201))
        # and one that is far behind waits no more
        task.cancel()
        monkeypatch.setattr(relay_module, "MOST_BEHIND", 0)
        await client.jetstream().delete_stream(stream_name("touchlog"))
        again = Relay(client, "touchlog", parts.feed, parts.pool, Rushing())  # type: ignore[arg-type]
        task = asyncio.create_task(again.run())
        await at_position(again, 2200)
        task.cancel()

    running(tmp_path, database_url, bus, test)


def test_another_relay_goes_on_where_the_stream_ends(tmp_path: Path, database_url: str, bus: Bus) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        await record(parts, 10)
        first = Relay(client, "touchlog", parts.feed, parts.pool)
        task = asyncio.create_task(first.run())
        await at_position(first, 10)
        task.cancel()
        await record(parts, 10)
        two = [Relay(client, "touchlog", parts.feed, parts.pool) for _ in range(2)]
        tasks = [asyncio.create_task(relay.run()) for relay in two]  # both at once: neither doubles nor skips
        for _ in range(20):
            await record(parts, 10)
        for relay in two:
            await at_position(relay, 220)
        assert positions(await relayed(client)) == list(range(1, 221))
        for task in tasks:
            task.cancel()

    running(tmp_path, database_url, bus, test)


def test_a_killed_bus_is_caught_up_with_and_hinders_no_append(
    tmp_path: Path, database_url: str, bus: Bus
) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        key = (await keys.add("admin")).key
        await Responder(client, "touchlog", parts.ingest, keys, parts.feed, subject_names_key=False).start()
        relay = Relay(client, "touchlog", parts.feed, parts.pool)
        task = asyncio.create_task(relay.run())
        await record(parts, 300)
        await at_position(relay, 300)
        for _ in range(3):
            bus.kill()
            async with asyncio.timeout(30):
                await record(parts, 50)
            bus.start_again()
            await record(parts, 50)
            await at_position(relay, await parts.feed.head())
        assert positions(await relayed(client)) == list(range(1, 601))
        answer = await client.request(
            "touchlog.append", event(), timeout=30, headers={"Authorization": f"Bearer {key}"}
        )
        assert json.loads(answer.data)["recorded"] == 1
        task.cancel()

    running(tmp_path, database_url, bus, test)


def test_a_stream_that_was_lost_is_published_again(tmp_path: Path, database_url: str, bus: Bus) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        relay = Relay(client, "touchlog", parts.feed, parts.pool)
        task = asyncio.create_task(relay.run())
        await record(parts, 20)
        await at_position(relay, 20)
        await client.jetstream().delete_stream(stream_name("touchlog"))
        await record(parts, 1)

        async def whole() -> bool:
            try:
                return positions(await relayed(client)) == list(range(1, 22))
            except nats.errors.Error:
                return False

        await eventually(whole, "the stream to be whole again")
        task.cancel()

    running(tmp_path, database_url, bus, test)


def test_a_stream_that_was_lost_with_the_server_s_storage_is_whole_again_before_anything_new_is_recorded(
    tmp_path: Path, database_url: str, bus: Bus
) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        # given a relay that has published all there is
        back = asyncio.Event()
        own = await connected(bus.url, name="relay", on_return=back.set)
        relay = Relay(own, "touchlog", parts.feed, parts.pool, back=back)
        task = asyncio.create_task(relay.run())
        await record(parts, 20)
        await at_position(relay, 20)
        # when the server is killed, and comes back without its storage
        await asyncio.to_thread(bus.kill)
        shutil.rmtree(bus.server.directory / "store")
        await asyncio.to_thread(bus.start_again)

        # then all stands in the stream again
        async def whole() -> bool:
            try:
                return positions(await relayed(client)) == list(range(1, 21))
            except nats.errors.Error:
                return False

        await eventually(whole, "the stream to be whole again")
        task.cancel()
        await own.close()

    running(tmp_path, database_url, bus, test)


@pytest.mark.parametrize(
    ("type_", "subject"),
    [
        ("call.ended", "p.events.call.ended"),
        ("custom.my type*>", "p.events.custom.my_type__"),
        ("a..b", "p.events.a._.b"),
    ],
)
def test_any_type_has_a_subject(type_: str, subject: str) -> None:
    assert subject_of("p", type_) == subject


# ---- heads ----------------------------------------------------------------------------------------------


def test_the_head_is_told_and_heard(bus: Bus) -> None:
    head = 0

    async def tell(listener: HeadListener) -> None:
        nonlocal head
        telling = asyncio.create_task(announce(bus.url, "touchlog", lambda: head))
        while not listener.news.is_set():  # until it hears one, which it can once it is connected
            head += 1
            await asyncio.sleep(0.02)
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)

    with HeadListener(bus.url, "touchlog") as listener:
        thread = threading.Thread(target=lambda: asyncio.run(tell(listener)), daemon=True)
        thread.start()
        wait_until(listener.news.is_set, "the listener to hear of a head")
        thread.join()
        assert listener.wait(0)
    # and it ends with its context, as it does where nobody answers: it would call there for ever
    assert "head-listener" not in [each.name for each in threading.enumerate()]
    bus.kill()
    with HeadListener(bus.url, "touchlog") as listener:
        assert not listener.wait(0.01)
    assert "head-listener" not in [each.name for each in threading.enumerate()]


def test_without_a_bus_the_listener_only_waits() -> None:
    assert not HeadListener(None, "touchlog").wait(0.01)
