"""What adapters leave on the bus by JetStream and tills by MQTT: recorded once, by whom it was, through any kill."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import nats
import paho.mqtt.client as mqtt
import pytest
from nats.aio.client import Client
from nats.errors import Error
from paho.mqtt.enums import CallbackAPIVersion

from adapters.embedded.nats import MAX_RESERVED_BYTES, users_of
from adapters.embedded.processes import end
from adapters.nats import inbound
from adapters.nats.connection import connected, connected_at_once
from adapters.nats.doors import Doors
from adapters.nats.inbound import MQTT_STREAM, Inbound, inbound_stream, prepare
from adapters.postgres.api_keys import ApiKeys, NewKey
from adapters.postgres.channel_counts import ChannelCounts, channels_shown
from bin.compose import Core
from tests.integration.test_nats import Bus, event, eventually, running


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Bus]:
    started = Bus(tmp_path / "bus")
    yield started
    end(started.process, started.server.stop_signals, 10)


class Counter:
    """The ways in of one process of touchlog."""

    def __init__(self, bus: Bus, parts: Core, keys: ApiKeys, database_url: str) -> None:
        self.counts = ChannelCounts()
        self.keys = keys
        self._bus = bus
        self._url = database_url

        def taker(client: Client, key_id: str) -> Inbound:
            return Inbound(client, "touchlog", parts.ingest, parts.rejected, keys, self.counts, key_id=key_id)

        self.doors = Doors(bus.server, "touchlog", taker, self.tell)

    def tell(self) -> None:
        self._bus.server.reload(users_of(self._url), self._bus.process.pid)

    async def open(self) -> None:
        for _ in range(2):
            await asyncio.to_thread(self.tell)
        ids = list(await self.keys.nats_users())

        async def opened() -> bool:
            await self.doors.keep(ids)
            return set(ids) <= self._bus.server.opened

        await eventually(opened, "doors into all accounts")


async def adapter(keys: ApiKeys, *sources: str) -> NewKey:
    return await keys.add("adapter", sources=sources or ["till"])


async def signed_in(bus: Bus, key: NewKey) -> Client:
    return await nats.connect(f"nats://{key.key_id}:{key.key}@127.0.0.1:{bus.server.port}")


async def at_head(
    parts: Core, position: int, within_s: float = 120, *, through: Counter | None = None
) -> None:
    """Wait for the log to come to *position*; the doors are looked at meanwhile, as the relay does."""

    async def reached() -> bool:
        if through is not None:
            await through.doors.keep(list(await through.keys.nats_users()))
        return await parts.feed.head() >= position

    await eventually(reached, f"position {position}", within_s)


async def ids_of(parts: Core) -> list[str]:
    events, _, _ = await parts.feed.encoded(after=0, limit=5000)
    return [json.loads(one.json)["id"] for one in events]


async def left(bus: Bus, key: NewKey) -> int:
    """Messages that still lie in the account of *key*."""
    client = await connected(bus.server.url_in_account(key.key_id), name="looking")
    js = client.jetstream()
    found = [await js.stream_info(name) for name in (inbound_stream("touchlog"), MQTT_STREAM)]
    await client.close()
    return sum(info.state.messages for info in found)


async def emptied(bus: Bus, *keys: NewKey) -> None:
    async def empty() -> bool:
        try:
            return all([await left(bus, key) == 0 for key in keys])
        except Error:
            return False

    await eventually(empty, "the queues to be empty", 120)


async def kept(parts: Core) -> list[Any]:
    return list(await parts.rejected.list())


# ---- JetStream ------------------------------------------------------------------------------------------


def test_structured_binary_and_batch_messages_are_recorded_and_then_deleted(
    tmp_path: Path, database_url: str, bus: Bus
) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        key = await adapter(keys)
        ways = Counter(bus, parts, keys, database_url)
        await ways.open()
        till = await signed_in(bus, key)
        js = till.jetstream()
        structured = {"Content-Type": "application/cloudevents+json; charset=utf-8"}
        first = event()
        await js.publish("touchlog.inbound", first, headers={**structured, "Nats-Msg-Id": "till|1"})
        assert (
            await js.publish("touchlog.inbound", first, headers={**structured, "Nats-Msg-Id": "till|1"})
        ).duplicate
        await js.publish(
            "touchlog.inbound", first, headers=structured
        )  # without an id for the bus: told by its key
        binary = {
            "ce-specversion": "1.0",
            "ce-id": "b1",
            "ce-source": "till",
            "ce-type": "call.ended",
            "ce-time": "2026-01-05T10:00:00Z",
            "ce-subject": "email:b%40example.com",
            "Content-Type": "application/json",
        }
        await js.publish("touchlog.inbound", b'{"duration_s":7}', headers=binary)
        await js.publish("touchlog.inbound", b"[" + event() + b"," + event() + b"]")
        await at_head(parts, 4)
        await emptied(bus, key)
        assert await parts.feed.head() == 4
        events, _, _ = await parts.feed.encoded(after=0, limit=10)
        told = {json.loads(one.json)["id"]: json.loads(one.json) for one in events}
        assert told["b1"]["data"] == {"duration_s": 7}
        assert told["b1"]["time"].startswith("2026-01-05T10:00:00")
        assert not await kept(parts)
        await till.close()
        await ways.doors.shut()

    running(tmp_path, database_url, bus, test)


def test_a_message_that_is_no_event_of_its_sender_is_kept_whole(
    tmp_path: Path, database_url: str, bus: Bus
) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        key, other = await adapter(keys), await adapter(keys, "shop")
        ways = Counter(bus, parts, keys, database_url)
        await ways.open()
        till = await signed_in(bus, key)
        js = till.jetstream()
        await js.publish("touchlog.inbound", b"{ not JSON", headers={"x-shop": "12"})
        await js.publish("touchlog.inbound", event(source="shop"))  # the other key's source
        await js.publish("touchlog.inbound", event(type="verdict.recorded"))
        good = event()
        await js.publish("touchlog.inbound", b"[" + good + b',{"specversion":"1.0"}]')
        await emptied(bus, key, other)
        assert await parts.feed.head() == 1
        assert await ids_of(parts) == [json.loads(good)["id"]]
        letters = await kept(parts)
        assert len(letters) == 4
        assert {letter.principal for letter in letters} == {key.key_id}
        reasons = [problem.code for letter in letters for problem in letter.problems]
        assert "forbidden" in reasons
        shown = [(await parts.rejected.show(letter.id)).payload for letter in letters]
        assert any("{ not JSON" in str(payload) and "x-shop" in str(payload) for payload in shown)
        await till.close()
        await ways.doors.shut()

    running(tmp_path, database_url, bus, test)


def test_a_key_reaches_neither_streams_nor_messages_of_another(
    tmp_path: Path, database_url: str, bus: Bus
) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        key, other = await adapter(keys), await adapter(keys, "shop")
        ways = Counter(bus, parts, keys, database_url)
        await ways.open()
        till = await signed_in(bus, key)
        for subject in (
            "$JS.API.STREAM.PURGE.TOUCHLOG_INBOUND",
            "$JS.API.STREAM.NAMES",
            "_touchlog.MQTT_msgs",
        ):
            with pytest.raises(Error):
                await till.request(subject, b"", timeout=0.5)
        with pytest.raises(
            Error
        ):  # the streams of touchlog itself, and what others may append to, are elsewhere
            await till.request(f"touchlog.append.{other.key_id}", event(source="shop"), timeout=0.5)
        with pytest.raises(Error):
            await till.jetstream().publish(
                f"touchlog.inbound.{other.key_id}", event(source="shop"), timeout=0.5
            )
        assert await parts.feed.head() == 0
        await till.close()
        await ways.doors.shut()

    running(tmp_path, database_url, bus, test)


def test_every_key_has_its_queue_however_little_room_the_disk_has(
    tmp_path: Path, database_url: str, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        # given queues that together may hold far more than the disk, as those of a dozen keys do on a small one
        monkeypatch.setattr(inbound, "MOST_BYTES", 2**46)
        made = [await adapter(keys) for _ in range(3)]
        ways = Counter(bus, parts, keys, database_url)
        await ways.open()

        # when a message is left by each key
        for key in made:
            till = await signed_in(bus, key)
            await till.jetstream().publish("touchlog.inbound", event(), timeout=30)
            await till.close()

        # then all are recorded
        await at_head(parts, 3)
        await ways.doors.shut()

    running(tmp_path, database_url, bus, test)


def test_a_connection_that_the_bus_refuses_is_closed(bus: Bus) -> None:
    """A door asks twenty times a second until the server knows its account: each would stay open until its memory is looked through."""

    def sockets() -> set[str]:
        return {to for fd in Path("/proc/self/fd").iterdir() if (to := _link(fd)).startswith("socket:")}

    async def ask() -> None:
        before = sockets()
        for _ in range(3):
            with pytest.raises(Error):
                await connected_at_once(f"nats://nobody:wrong@127.0.0.1:{bus.server.port}")
        assert sockets() <= before

    gc.disable()
    try:
        asyncio.run(ask())
    finally:
        gc.enable()


def _link(file: Path) -> str:
    with suppress(OSError):
        return str(file.readlink())
    return ""


def test_on_a_server_with_little_room_a_queue_is_as_large_as_it_has_room_for(
    tmp_path: Path, database_url: str, bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        # given a server that cannot reserve what a queue may ever hold, as one of somebody's own on a small disk
        monkeypatch.setattr(inbound, "MOST_BYTES", 3 * MAX_RESERVED_BYTES)
        # when the queue is asked for
        await prepare(client, "touchlog", mqtt=False)
        # then there is one, half of a half of that, and it is left as it is the next time
        for _ in range(2):
            info = await client.jetstream().stream_info(inbound_stream("touchlog"))
            assert info.config.max_bytes == 3 * MAX_RESERVED_BYTES // 4
            await prepare(client, "touchlog", mqtt=False)

    running(tmp_path, database_url, bus, test)


def test_nothing_is_lost_or_doubled_while_server_and_consumer_are_killed(
    tmp_path: Path, database_url: str, bus: Bus
) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        key = await adapter(keys)
        ways = Counter(bus, parts, keys, database_url)
        await ways.open()
        till = await signed_in(bus, key)
        sent: list[str] = []

        async def publish(count: int) -> None:
            nonlocal till
            for _ in range(count):
                one = event()
                id_ = json.loads(one)["id"]
                while True:  # as an adapter that buffers does: until it is acknowledged
                    try:
                        if till.is_closed:
                            till = await signed_in(bus, key)
                        await till.jetstream(timeout=1).publish(
                            "touchlog.inbound", one, headers={"Nats-Msg-Id": f"till|{id_}"}
                        )
                        break
                    except (Error, OSError):
                        await asyncio.sleep(0.05)
                sent.append(id_)

        publishing = asyncio.create_task(publish(600))
        for _ in range(2):
            await at_head(parts, min(await parts.feed.head() + 50, 600), through=ways)
            await asyncio.to_thread(bus.kill)
            await asyncio.to_thread(bus.start_again)
        # The consumer ends in the middle, and another begins: what was handed to the first comes again.
        for held, _ in list(ways.doors._open.values()):
            with suppress(OSError):
                await held.close()
        ways = Counter(bus, parts, keys, database_url)
        await ways.doors.keep(list(await keys.nats_users()))
        await publishing
        await at_head(parts, 600, through=ways)
        await emptied(bus, key)
        assert sorted(await ids_of(parts)) == sorted(sent)
        assert not await kept(parts)
        await till.close()
        await ways.doors.shut()

    running(tmp_path, database_url, bus, test, within_s=360)


def test_queues_that_the_server_lost_stand_again_and_no_till_is_acknowledged_before(
    tmp_path: Path, database_url: str, bus: Bus
) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        # given a key whose queues stand, and a server whose storage is taken away while it is killed
        key = await adapter(keys)
        ways = Counter(bus, parts, keys, database_url)
        await ways.open()
        await asyncio.to_thread(bus.kill)
        shutil.rmtree(bus.server.directory / "store")
        # when it is started again, then it lets no till in: nothing would hold what it acknowledged
        await asyncio.to_thread(bus.start_again)
        assert not bus.server.opened
        with pytest.raises(AssertionError):
            await asyncio.to_thread(by_mqtt, bus, key, "early")

        # and when the doors are looked at, as the relay does
        async def opened() -> bool:
            await ways.doors.keep([key.key_id])
            return key.key_id in bus.server.opened

        await eventually(opened, "the doors to be open again")
        # then what is left there by either way is recorded
        till = await signed_in(bus, key)
        await till.jetstream().publish("touchlog.inbound", event(id="by JetStream"), timeout=30)
        await till.close()
        await asyncio.to_thread(by_mqtt, bus, key, "by MQTT")
        await at_head(parts, 2)
        assert sorted(await ids_of(parts)) == ["by JetStream", "by MQTT"]
        await ways.doors.shut()

    running(tmp_path, database_url, bus, test)


def by_mqtt(bus: Bus, key: NewKey, id_: str) -> None:
    """Sign a till in and publish one event until it is acknowledged."""
    till = Till(bus.server.mqtt_port, key, f"till-{id_}".replace(" ", "-"))
    try:
        while not till.signed_in.wait(0.02):
            assert not till.refused.is_set()
        assert till.acknowledged({till.client.publish("pos/1/loyalty", event(id=id_), qos=1).mid}, 60)
    finally:
        till.close()


def test_a_message_that_waits_is_sealed_on_the_disk(tmp_path: Path, database_url: str, bus: Bus) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        key = await adapter(keys)
        ways = Counter(bus, parts, keys, database_url)
        await ways.open()
        await ways.doors.shut()  # nobody takes
        by_nats = await signed_in(bus, key)
        await by_nats.jetstream().publish("touchlog.inbound", event())
        till = Till(bus.server.mqtt_port, key, "till")
        assert await asyncio.to_thread(till.signed_in.wait, 60)
        told = till.client.publish("touchlog/inbound", event(), qos=1)
        assert await asyncio.to_thread(till.acknowledged, {told.mid}, 60)
        assert await left(bus, key) == 3  # what came by MQTT stands in both
        await asyncio.to_thread(till.close)
        await by_nats.close()
        written = [file.read_bytes() for file in bus.server.directory.rglob("*") if file.is_file()]
        assert not any(b"ann@example.com" in each or b"secret" in each for each in written)
        await ways.open()
        await at_head(parts, 2)
        await emptied(bus, key)
        await ways.doors.shut()

    running(tmp_path, database_url, bus, test)


def test_on_a_server_that_is_not_ours_each_message_names_its_key(
    tmp_path: Path, database_url: str, bus: Bus
) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        key = await adapter(keys)
        await prepare(client, "touchlog", mqtt=False)
        inbound = Inbound(
            client, "touchlog", parts.ingest, parts.rejected, keys, ChannelCounts(), key_id=None
        )
        await inbound.start()
        js = client.jetstream()
        await js.publish("touchlog.inbound", event(), headers={"Authorization": f"Bearer {key.key}"})
        await js.publish(
            "touchlog.inbound", event(source="shop"), headers={"Authorization": f"Bearer {key.key}"}
        )
        await js.publish("touchlog.inbound", event())

        async def taken() -> bool:
            return (await js.stream_info(inbound_stream("touchlog"))).state.messages == 0

        await eventually(taken, "the queue to be empty")
        assert await parts.feed.head() == 1
        letters = await kept(parts)
        assert sorted(letter.problems[0].code for letter in letters) == ["forbidden", "unauthorised"]
        for letter in letters:
            assert key.key not in str(await parts.rejected.show(letter.id))
        await inbound.finish()

    running(tmp_path, database_url, bus, test)


# ---- MQTT -----------------------------------------------------------------------------------------------


class Till:
    """A till as paho makes it: QoS 1, kept until acknowledged, sent again after a lost connection."""

    def __init__(self, port: int, key: NewKey, name: str) -> None:
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id=name, clean_session=False, protocol=mqtt.MQTTv311
        )
        self.client.username_pw_set(key.key_id, key.key)
        self.client.reconnect_delay_set(min_delay=1, max_delay=1)
        self.signed_in = threading.Event()
        self.refused = threading.Event()

        def on_connect(_client: Any, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
            (self.refused if reason.is_failure else self.signed_in).set()

        self._acknowledged: set[int] = set()
        self._changed = threading.Condition()

        def on_publish(_client: Any, _data: Any, mid: int, _reason: Any, _properties: Any) -> None:
            with self._changed:
                self._acknowledged.add(mid)
                self._changed.notify_all()

        self.client.on_connect = on_connect
        self.client.on_publish = on_publish
        self.client.connect("127.0.0.1", port, keepalive=20)
        self.client.loop_start()

    def acknowledged(self, mids: set[int], within_s: float) -> bool:
        """Wait until the server has acknowledged these messages, also those queued while it was away."""
        with self._changed:
            return self._changed.wait_for(lambda: mids <= self._acknowledged, within_s)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


def test_a_hundred_tills_at_once_lose_nothing_over_a_restart_of_the_server(
    tmp_path: Path, database_url: str, bus: Bus
) -> None:
    tills, events_each = 100, 10

    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        key = await adapter(keys, "till*")
        ways = Counter(bus, parts, keys, database_url)
        await ways.open()
        expected = {f"{till}-{n}" for till in range(tills) for n in range(events_each)}
        half = threading.Barrier(tills + 1, timeout=180)

        def work(number: int) -> None:
            till = Till(bus.server.mqtt_port, key, f"till-{number}")
            try:
                assert till.signed_in.wait(120)
                pending = set()
                for n in range(events_each):
                    payload = event(n, id=f"{number}-{n}", source=f"till/{number}")
                    told = till.client.publish(f"pos/{number}/loyalty/card_swiped", payload, qos=1)
                    pending.add(told.mid)
                    if n == events_each // 2:
                        half.wait()
                assert till.acknowledged(pending, 240)
            finally:
                till.close()

        with ThreadPoolExecutor(tills) as pool:
            loop = asyncio.get_running_loop()
            working = [loop.run_in_executor(pool, work, number) for number in range(tills)]
            await asyncio.to_thread(half.wait)
            await asyncio.to_thread(bus.kill)
            await asyncio.to_thread(bus.start_again)
            await asyncio.gather(*working)
        await at_head(parts, len(expected), 240)
        await emptied(bus, key)
        found = await ids_of(parts)
        assert len(found) == len(expected)
        assert set(found) == expected
        await ways.doors.shut()

    running(tmp_path, database_url, bus, test, within_s=600)


def test_a_till_signs_in_with_its_key_only_and_speaks_for_its_own_sources(
    tmp_path: Path, database_url: str, bus: Bus
) -> None:
    async def test(parts: Core, keys: ApiKeys, client: Client) -> None:
        key = await adapter(keys)
        ways = Counter(bus, parts, keys, database_url)
        await ways.open()
        port = bus.server.mqtt_port
        stranger = Till(port, NewKey(key.key_id, "tl_00000000_" + "x" * 43), "stranger")
        assert await asyncio.to_thread(stranger.refused.wait, 60)
        stranger.close()
        till = Till(port, key, "till")
        assert await asyncio.to_thread(till.signed_in.wait, 60)
        for payload in (event(), event(source="shop"), b"card 123 swiped"):
            told = till.client.publish("touchlog/inbound", payload, qos=1)
            await asyncio.to_thread(told.wait_for_publish, 60)
        await asyncio.to_thread(till.client.publish("touchlog/inbound", event(), qos=0).wait_for_publish, 60)
        await at_head(parts, 2)
        await emptied(bus, key)
        assert await parts.feed.head() == 2
        await ways.counts.write(parts.pool)  # each of QoS 1 was taken once, though two streams saw it
        shown = [each for each in await channels_shown(parts.pool) if each.channel == "mqtt"]
        assert [(each.name, each.deliveries, each.recorded, each.duplicates) for each in shown] == [
            (key.key_id, 4, 2, 0)
        ]
        assert len(await kept(parts)) == 2
        await asyncio.to_thread(till.close)
        await ways.doors.shut()

    running(tmp_path, database_url, bus, test)
