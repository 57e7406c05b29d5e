"""Segment's routes: its SDKs work unmodified, and nothing that they send is lost or doubled."""

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.running import Served, served_http
from tests.integration.test_http import made_key
from tests.integration.test_serve import Serve
from tests.waiting import wait_until

CLIENTS = Path(__file__).resolve().parents[1] / "clients"
NODE_PACKAGES = ("@segment/analytics-node@3.1.0", "@rudderstack/rudder-sdk-node@3.0.13")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Served]:
    with served_http(tmp_path_factory.mktemp("segment") / "data", module_database_url) as running:
        yield running


@pytest.fixture(scope="module")
def node_modules() -> Path:
    """Where the Node SDKs are; installed once into a cache of this machine."""
    home = Path(tempfile.gettempdir()) / f"touchlog-node-{os.getuid()}"
    modules = home / "node_modules"
    if all((modules / package.rpartition("@")[0]).is_dir() for package in NODE_PACKAGES):
        return home
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("Node is not on this machine: the Node SDKs are not run")
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", "--prefix", str(home), *NODE_PACKAGES],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"npm could not install the Node SDKs: they are not run ({done.stderr[-200:]})")
    return home


def basic(key: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(f'{key}:'.encode()).decode()}"}


def track(id: str, **more: Any) -> dict[str, Any]:
    return {"type": "track", "userId": "u-1", "event": "Clicked", "messageId": id, **more}


def recorded(http: httpx.Client, source: str) -> list[dict[str, Any]]:
    """All events of one source, in the order of the log."""
    found: list[dict[str, Any]] = []
    after = 0
    while True:
        page = http.get("/v1/events", params={"after": after, "limit": 10_000}).json()
        found += [event for event in page["events"] if event["source"] == source]
        if not page["events"]:
            return found
        after = page["next"]


# ---- the routes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["track", "identify", "page", "screen", "group", "alias"])
def test_each_call_has_a_route_of_its_own(served: Served, call: str) -> None:
    key = made_key(served, "adapter", f"site/{call}")
    body = {"userId": "u-1", "messageId": f"one-{call}", "event": "x", "groupId": "g", "previousId": "a"}
    with served.client("") as http:
        for _ in range(2):
            answer = http.post(f"/v1/{call}", json=body, headers=basic(key))
            assert (answer.status_code, answer.json()) == (200, {"success": True})
    with served.client() as http:
        (event,) = recorded(http, f"site/{call}")
        assert event["id"] == f"one-{call}"


def test_the_write_key_may_stand_in_the_body_and_is_not_kept(served: Served) -> None:
    key = made_key(served, "adapter", "inside")
    with served.client("") as http:
        body = {"batch": [track("k-1"), {"type": "nothing"}], "writeKey": key}
        assert http.post("/v1/batch", json=body).status_code == 200
        assert http.post("/v1/batch", json={"batch": [track("k-2")]}).status_code == 401
        assert http.post("/v1/batch", json={"batch": [], "writeKey": "tl_no"}).status_code == 401
        assert http.post("/v1/batch", content=b"{}", headers={"Authorization": "Basic %%"}).status_code == 401
    with served.client() as http:
        assert [event["id"] for event in recorded(http, "inside")] == ["k-1"]


def test_a_key_that_may_not_append_is_refused(served: Served) -> None:
    with served.client("") as http:
        answer = http.post("/v1/track", json=track("x"), headers=basic(made_key(served, "analyst")))
        assert answer.status_code == 403


def test_gzip_and_limits_are_segments(served: Served) -> None:
    key = made_key(served, "adapter", "limits")
    with served.client("") as http:
        packed = gzip.compress(json.dumps({"batch": [track("g-1")]}).encode())
        headers = {**basic(key), "Content-Encoding": "gzip", "Content-Type": "application/json"}
        assert http.post("/v1/batch", content=packed, headers=headers).status_code == 200
        large = track("g-2", properties={"x": "y" * 33_000})
        assert http.post("/v1/track", json=large, headers=basic(key)).status_code == 400
        assert (
            http.post("/v1/batch", json={"batch": [large, track("g-3")]}, headers=basic(key)).status_code
            == 200
        )
        many = {"batch": [track(f"m-{n}", properties={"x": "y" * 10_000}) for n in range(60)]}
        assert http.post("/v1/batch", json=many, headers=basic(key)).status_code == 400
        assert http.post("/v1/batch", content=b"{no", headers=basic(key)).status_code == 400
    with served.client() as http:
        assert [event["id"] for event in recorded(http, "limits")] == ["g-1", "g-3"]


def test_a_payload_delivered_three_times_at_once_is_recorded_once(served: Served) -> None:
    key = made_key(served, "adapter", "thrice")
    body = {"batch": [track(f"t-{n}") for n in range(50)]}

    def send(attempt: int) -> int:
        with served.client("") as http:
            return http.post(
                "/v1/batch", json={**body, "sentAt": f"2026-01-01T00:00:0{attempt}Z"}, headers=basic(key)
            ).status_code

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(send, range(3))) == [200, 200, 200]
    with served.client() as http:
        assert sorted(event["id"] for event in recorded(http, "thrice")) == sorted(
            f"t-{n}" for n in range(50)
        )


# ---- the clients ----------------------------------------------------------------------------------------


def command(client: str, url: str, key: str, calls: int, modules: Path | None) -> list[str]:
    if client.endswith("_node"):
        assert modules is not None
        return ["node", str(CLIENTS / f"{client}.cjs"), str(modules), url, key, str(calls)]
    program = [sys.executable, str(CLIENTS / "segment_python.py"), url, key, str(calls)]
    return [*program, "rudder"] if client.startswith("rudder") else program


def assert_all_there(events: list[dict[str, Any]], calls: int) -> None:
    """The events in the log equal the calls made, once."""
    tracks = [e for e in events if e["type"] in ("web.tracked", "order.placed")]
    numbers = [e["data"]["properties"]["n"] for e in tracks]
    assert sorted(numbers) == list(range(calls))
    orders = [e for e in tracks if e["type"] == "order.placed"]
    assert sorted(e["data"]["order_id"] for e in orders) == sorted(f"o-{n}" for n in range(0, calls, 5))
    others = sorted(e["type"] for e in events if e not in tracks)
    assert others == ["profile.updated"] * 3 + ["web.page_viewed"] * 2


def assert_client_works(served: Served, client: str, modules: Path | None) -> None:
    key = made_key(served, "adapter", client)
    done = subprocess.run(
        command(client, served.url, key, 60, modules),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with served.client() as http:
        assert_all_there(recorded(http, client), 60)


@pytest.mark.parametrize("client", ["segment_python", "rudder_python"])
def test_the_python_sdks_work_unmodified(served: Served, client: str) -> None:
    assert_client_works(served, client, None)


@pytest.mark.parametrize("client", ["segment_node", "rudder_node"])
def test_the_node_sdks_work_unmodified(served: Served, node_modules: Path, client: str) -> None:
    assert_client_works(served, client, node_modules)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def test_a_server_killed_in_the_middle_loses_and_doubles_nothing(tmp_path: Path) -> None:
    # given a real serve, and a client that is in the middle of 400 calls
    port, data = free_port(), tmp_path / "data"
    serving = Serve(data, "--port", str(port))
    try:
        serving.ready_line()
        key = (data / "admin.key").read_text().strip()
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {key}"}, trust_env=False, timeout=30
        ) as http:
            client = subprocess.Popen(
                command("segment_python", url, key, 400, None),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            wait_until(lambda: len(recorded(http, "segment")) >= 50, "the first calls to be recorded")
            # when serve is killed, and started again
            serving.process.kill()
            serving.process.wait()
            for pipe in (serving.process.stdout, serving.process.stderr):
                assert pipe is not None
                pipe.close()
            serving = Serve(data, "--port", str(port))
            serving.ready_line()
            # then the client delivers all
            said, complained = client.communicate(timeout=180)
            assert client.returncode == 0, said + complained
            assert_all_there(recorded(http, "segment"), 400)
    finally:
        serving.process.terminate()
        serving.outcome()
