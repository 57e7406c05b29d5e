"""Tills and buffering adapters against a real `serve`, whose nats-server and relay are killed (-9) meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import nats
from nats.errors import Error

from adapters.postgres.api_keys import NewKey
from tests.integration.test_nats import event
from tests.integration.test_nats_inbound import Till
from tests.integration.test_serve import ROOT, Serve
from tests.waiting import wait_until

EVENTS = 300


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "bin.cli", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.stdout


async def publish(port: int, key: NewKey, ids: list[str]) -> None:
    """Publish as an adapter that buffers: each message until it is acknowledged."""
    client = await nats.connect(
        f"nats://{key.key_id}:{key.key}@127.0.0.1:{port}", max_reconnect_attempts=-1, reconnect_time_wait=0.2
    )
    js = client.jetstream(timeout=1)
    for id_ in ids:
        while True:
            try:
                await js.publish("touchlog.inbound", event(id=id_, source="till/js"))
                break
            except (Error, OSError):
                await asyncio.sleep(0.05)
    await client.close()


def test_what_was_acknowledged_is_in_the_log_once_whatever_was_killed(tmp_path: Path) -> None:
    # given a serve, and a key that was made beside it: it is good for MQTT as soon as it is shown
    data = tmp_path / "data"
    serving = Serve(data)
    try:
        serving.ready_line()
        made = json.loads(
            run("keys", "add", "--role", "adapter", "--source", "till/*", "--data", str(data), "--json")
        )
        key = NewKey(made["key_id"], made["key"])
        servers = json.loads(run("status", "--data", str(data), "--json"))["servers"]
        till = Till(int(servers["mqtt_url"].rpartition(":")[2]), key, "till-1")
        assert till.signed_in.wait(60)
        by_mqtt = [f"mqtt-{n}" for n in range(EVENTS)]
        by_jetstream = [f"js-{n}" for n in range(EVENTS)]

        def recorded() -> list[str]:
            answer = http.get("/v1/events", params={"limit": 5000}).raise_for_status().json()
            return [each["id"] for each in answer["events"]]

        def kill(name: str) -> None:
            pid = serving.told()["pids"][name]
            os.kill(pid, signal.SIGKILL)
            wait_until(
                lambda: serving.told()["pids"].get(name, pid) != pid, f"{name} to have another process"
            )

        admin = (data / "admin.key").read_text().strip()
        with httpx.Client(
            base_url=serving.told()["http_url"],
            headers={"Authorization": f"Bearer {admin}"},
            timeout=60,
            trust_env=False,
        ) as http:
            publishing = subprocess.Popen(
                [sys.executable, "-c", "import sys; from tests.integration.test_nats_served import main; main()"],
                cwd=ROOT, stdin=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
            )  # fmt: skip
            assert publishing.stdin is not None
            publishing.stdin.write(
                json.dumps([int(servers["nats_url"].rpartition(":")[2]), *key, by_jetstream])
            )
            publishing.stdin.close()
            pending = set()
            # when server and consumer are killed in the middle
            for n, id_ in enumerate(by_mqtt):
                told = till.client.publish("pos/1/loyalty", event(id=id_, source="till/mqtt"), qos=1)
                pending.add(told.mid)
                if n == 100:
                    wait_until(lambda: len(recorded()) > 20, "the first events")
                    kill("relay")
                if n == 200:
                    kill("nats")
            assert till.acknowledged(pending, 180)
            assert publishing.wait(180) == 0
            # then each stands in the log once
            expected = sorted(by_mqtt + by_jetstream)
            wait_until(lambda: len(recorded()) >= len(expected), "all events", within_s=180)
            assert sorted(recorded()) == expected

            # and both are told as channels, a moment later, with nothing refused
            def shown() -> dict[str, Any]:
                told = http.get("/v1/channels").raise_for_status().json()["channels"]
                return {each["channel"]: each for each in told if each["name"] == key.key_id}

            wait_until(lambda: set(shown()) == {"mqtt", "nats"}, "the counts of both channels")
            assert not any(each["rejected"] for each in shown().values())
        till.close()
    finally:
        serving.process.terminate()
        serving.outcome()


def main() -> None:
    """Publish what standard input says, in a process of its own."""
    port, key_id, key, ids = json.load(sys.stdin)
    asyncio.run(publish(port, NewKey(key_id, key), ids))
