"""sdks: the clients of others, unmodified, all at once against one `serve` that is killed with -9 meanwhile.

Each client makes numbered calls, with its documented retry options raised (`tests/clients`). At the end the
events of its source in the log must be the calls that it made, each once.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from bin.bench.command import run_command
from bin.soaks.kill import Serve, ask

__all__ = ["CLIENTS", "Client", "Sdks", "Told", "command", "counted", "node_home", "recorded", "run_sdks"]

PROGRAMS = Path(__file__).resolve().parents[2] / "tests" / "clients"
ENDS_WITHIN_S = 300.0


class Client(NamedTuple):
    """A package of others, and the program that uses it."""

    name: str
    package: str
    program: str
    arguments: tuple[str, ...] = ()
    node: str = ""  # the version from npm; Python's are in the environment of the tests
    others: int = 5  # calls beside the numbered ones: identify, page, screen, group, alias


CLIENTS = {
    each.name: each
    for each in (
        Client("segment_python", "segment-analytics-python", "segment_python.py"),
        Client("rudder_python", "rudder-sdk-python", "segment_python.py", ("rudder",)),
        Client("segment_node", "@segment/analytics-node", "segment_node.cjs", node="3.1.0"),
        Client("rudder_node", "@rudderstack/rudder-sdk-node", "rudder_node.cjs", node="3.0.13"),
        Client(
            "cloudevents_python", "cloudevents", "cloudevents_python.py", ("cloudevents_python",), others=0
        ),
        Client(
            "cloudevents_node",
            "cloudevents",
            "cloudevents_node.cjs",
            ("cloudevents_node",),
            node="10.0.0",
            others=0,
        ),
    )
}


class Told(NamedTuple):
    """What became of one client's calls."""

    client: str
    version: str
    calls: int
    events: int  # of its source in the log
    missing: int  # calls that have no event
    doubled: int  # events beyond the first of a call
    unknown: int  # events that are no call
    failed: str  # what the client said when it gave a call up; empty where it did not


class Sdks(NamedTuple):
    """What a trial found."""

    kills: list[str]  # which part, in order
    seconds: float
    clients: list[Told]
    not_run: dict[str, str]  # client: why

    @property
    def broken(self) -> list[Told]:
        """Clients of whose calls not each is in the log once."""
        return [one for one in self.clients if one.missing or one.doubled or one.unknown or one.failed]


def node_home() -> Path | str:
    """Where the Node packages are, installed once into a cache of this machine; or why they are not."""
    home = Path(tempfile.gettempdir()) / f"touchlog-node-{os.getuid()}"
    wanted = [each for each in CLIENTS.values() if each.node]

    def is_whole(folder: Path) -> bool:
        return all(_node_version(folder, each.package) == each.node for each in wanted)

    if is_whole(home):
        return home
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        return "Node is not on this machine"
    packages = [f"{each.package}@{each.node}" for each in wanted]
    # Made beside and moved there: whoever else looks sees all of it or none, also where this is broken off.
    with tempfile.TemporaryDirectory(
        prefix=f"{home.name}-", dir=home.parent, ignore_cleanup_errors=True
    ) as made:
        new, old = Path(made, "new"), Path(made, "old")
        new.mkdir()
        try:
            done = subprocess.run(
                [npm, "install", "--no-audit", "--no-fund", "--prefix", str(new), *packages],
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            return f"npm did not install them within {late.timeout:.0f} s"
        if done.returncode:
            return f"npm could not install them ({done.stderr.strip()[-200:]})"
        if not is_whole(home):  # nobody else has meanwhile
            with suppress(OSError):
                home.rename(old)
            with suppress(OSError):
                new.rename(home)
    return home if is_whole(home) else f"npm did not leave them in {home}"


def _node_version(home: Path, package: str) -> str | None:
    with suppress(OSError, ValueError, KeyError):
        found: str = json.loads((home / "node_modules" / package / "package.json").read_bytes())["version"]
        return found
    return None


def command(
    client: Client, url: str, key: str, calls: int, *, pause_s: float = 0.005, modules: Path | None
) -> list[str]:
    """The command line of *client*'s program: *calls* numbered calls, and so many seconds between two."""
    program = str(PROGRAMS / client.program)
    started = ["node", program, str(modules)] if client.node else [sys.executable, program]
    return [*started, url, key, str(calls), str(pause_s), *client.arguments]


def recorded(port: int, key: str) -> Iterator[dict[str, Any]]:
    """Every event of the log, by the feed."""
    after = 0
    while True:
        headers = {"Authorization": f"Bearer {key}"}
        status, content = ask(port, "GET", f"/v1/events?after={after}&limit=10000", None, headers)
        if status != 200:
            raise OSError(f"the feed answered {status}: {content[:200]!r}")
        page = json.loads(content)
        yield from page["events"]
        if not page["events"]:
            return
        after = page["next"]


def counted(client: Client, calls: int, events: Sequence[dict[str, Any]], failed: str = "") -> Told:
    """Hold the events of a client's source against the calls that it made."""
    numbers: Counter[int] = Counter()
    others = 0
    for event in events:
        number = ((event.get("data") or {}).get("properties") or {}).get("n")
        if isinstance(number, int):
            numbers[number] += 1
        else:
            others += 1
    made = set(range(calls))
    return Told(
        client.name,
        client.node or version(client.package),
        calls + client.others,
        len(events),
        len(made - numbers.keys()) + max(0, client.others - others),
        sum(count - 1 for count in numbers.values()),
        len(numbers.keys() - made) + max(0, others - client.others),
        failed,
    )


def run_sdks(
    folder: Path,
    *,
    clients: Sequence[str],
    calls: int,
    seconds: float,
    kills: int,
    port: int,
    progress: Callable[[str], None] | None = None,
) -> Sdks:
    """Start a `serve` in *folder*, let the *clients* call it for some *seconds*, and kill its HTTP process and itself in turn.

    Raises:
        TimeoutError: a client did not end, or serve did not come back.
    """
    say = progress or (lambda _text: None)
    chosen = [CLIENTS[name] for name in clients]
    modules = node_home() if any(each.node for each in chosen) else "not wanted"
    not_run = {each.name: str(modules) for each in chosen if each.node and isinstance(modules, str)}
    chosen = [each for each in chosen if each.name not in not_run]
    serve = Serve(folder / "data", port)
    say("starting serve")
    serve.start()
    running: list[tuple[Client, subprocess.Popen[str]]] = []
    killed: list[str] = []
    try:
        admin = (serve.data / "admin.key").read_text().strip()
        for each in chosen:
            made = run_command(
                "keys", "add", "--role", "adapter", "--source", each.name, "--json", data=serve.data
            )
            line = command(
                each,
                f"http://127.0.0.1:{port}",
                json.loads(made.said)["key"],
                calls,
                pause_s=seconds / calls,
                modules=modules if isinstance(modules, Path) else None,
            )
            running.append(
                (each, subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
            )
        began = time.monotonic()
        _wait_for_all(port, admin, chosen)
        first = time.monotonic()
        for number in range(kills):
            time.sleep(max(0.0, first + seconds * (number + 0.5) / kills - time.monotonic()))
            target = ("http", "serve")[number % 2]
            say(f"kill -9 of {target}, {number + 1} of {kills}")
            if serve.kill(target):
                killed.append(target)
        failed = {}
        for each, process in running:
            say(f"waiting for {each.name}")
            said, _ = process.communicate(timeout=ENDS_WITHIN_S)
            failed[each.name] = (
                "" if process.returncode == 0 else said.strip()[-300:] or f"exit {process.returncode}"
            )
        took = time.monotonic() - began
        serve.wait_until_ready()
        events: dict[str, list[dict[str, Any]]] = {each.name: [] for each in chosen}
        for event in recorded(port, admin):
            events.setdefault(event["source"], []).append(event)
    finally:
        for _, process in running:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        serve.stop()
    told = [counted(each, calls, events[each.name], failed[each.name]) for each in chosen]
    return Sdks(killed, round(took, 1), told, not_run)


def _wait_for_all(port: int, key: str, clients: Sequence[Client]) -> None:
    """Wait until each client is in the middle of its calls."""
    deadline = time.monotonic() + ENDS_WITHIN_S
    awaited = {each.name for each in clients}
    while awaited:
        with suppress(OSError, http.client.HTTPException):
            awaited -= {event["source"] for event in recorded(port, key)}
        if time.monotonic() > deadline:
            raise TimeoutError(f"Nothing came from {', '.join(sorted(awaited))}.")
        time.sleep(0.1)
