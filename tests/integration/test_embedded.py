"""Embedded servers: real ones, reached by every command, closed to those without a key."""

import asyncio
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import LiteralString

import nats
import nats.errors
import psycopg
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from adapters.embedded import prepare_folders, running, servers
from adapters.embedded.nats import Nats, NatsUser, password_hash
from adapters.embedded.processes import end
from adapters.nats.connection import connected_at_once
from bin.settings import Settings
from bin.supervisor import Child, Supervisor
from domain.errors import Misconfigured, Unavailable

SECRET = "a-long-random-secret"


def ask(database_url: str, question: LiteralString) -> object:
    with psycopg.connect(database_url) as connection:
        row = connection.execute(question).fetchone()
    return row[0] if row else None


def test_a_command_alone_brings_the_database_up_and_takes_it_down(tmp_path: Path) -> None:
    settings = Settings.load({}, data=tmp_path / "data")
    with servers(settings, by="history") as (database_url, nats_url):
        assert nats_url is None
        assert ask(database_url, "SHOW data_checksums") == "on"
        assert ask(database_url, "SHOW listen_addresses") == ""
        for durable in ("fsync", "synchronous_commit", "full_page_writes"):
            assert ask(database_url, f"SHOW {durable}") == "on"
    assert running(settings.data) is None
    with pytest.raises(psycopg.OperationalError):
        ask(database_url, "SELECT 1")


def test_a_second_command_shares_it_and_is_waited_for(tmp_path: Path) -> None:
    settings = Settings.load({}, data=tmp_path / "data")
    first_may_end, second_has_it = threading.Event(), threading.Event()
    answers: list[object] = []

    def second() -> None:
        with servers(settings, by="second") as (database_url, _):
            second_has_it.set()
            first_may_end.wait(60)
            answers.append(ask(database_url, "SELECT 7"))

    with servers(settings, by="first"):
        other = threading.Thread(target=second)
        other.start()
        assert second_has_it.wait(60)
        first_may_end.set()
    other.join(60)
    assert answers == [7]


def test_a_wrong_password_is_refused(tmp_path: Path) -> None:
    settings = Settings.load({}, data=tmp_path / "data")
    with servers(settings) as (database_url, _):
        wrong = database_url.replace("@", "x@")
        with pytest.raises(psycopg.OperationalError, match="password"):
            ask(wrong, "SELECT 1")


def test_a_path_too_long_for_a_socket_is_no_hindrance_and_the_url_stays(tmp_path: Path) -> None:
    settings = Settings.load({}, data=tmp_path / ("a-long-name-" * 10) / "data")
    urls = []
    for _ in range(2):
        with servers(settings) as (database_url, _nats_url):
            assert ask(database_url, "SELECT 1") == 1
            urls.append(database_url)
            socket_directory = Path((settings.data / "run" / "postgres.socket").read_text())
            assert stat.S_IMODE(socket_directory.stat().st_mode) == 0o700
        assert not socket_directory.exists()
    assert urls[0] == urls[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start it for another user")
def test_root_starts_it_as_the_folders_owner(tmp_path: Path) -> None:
    settings = Settings.load({}, data=tmp_path / "data")
    settings.data.mkdir()
    os.chown(settings.data, 65534, 65534)
    settings.data.chmod(0o700)
    with servers(settings) as (database_url, _):
        assert ask(database_url, "SELECT 1") == 1
        assert (settings.data / "postgres").stat().st_uid == 65534


def test_a_pid_file_left_by_a_crash_does_not_keep_the_server_down(tmp_path: Path) -> None:
    settings = Settings.load({}, data=tmp_path / "data")
    with servers(settings):
        pass
    # The number in it is another program's by now: it runs, but is no server.
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as other:
        lines = [other.pid, settings.data / "postgres", 1700000000, 5432, "/nowhere", "", "1 1", "ready"]
        left = settings.data / "postgres" / "postmaster.pid"
        left.write_text("".join(f"{line}\n" for line in lines))
        left.chmod(0o600)
        owner = left.parent.stat()
        os.chown(left, owner.st_uid, owner.st_gid)
        try:
            with servers(settings) as (database_url, _):
                assert ask(database_url, "SELECT 1") == 1
        finally:
            other.kill()


def test_a_given_database_is_used_as_it_is(tmp_path: Path) -> None:
    settings = Settings.load({}, data=tmp_path / "none", database_url="postgresql://elsewhere/db")
    with servers(settings) as (database_url, _):
        assert database_url == "postgresql://elsewhere/db"
    assert not (tmp_path / "none").exists()


@contextmanager
def bus(data: Path, *users: NatsUser) -> Iterator[tuple[Nats, int]]:
    """Run the embedded nats-server."""
    data.mkdir(parents=True, exist_ok=True)
    server = Nats(data, secret_file=data / "secret.key", subject_prefix="touchlog")
    server.prepare(users)
    process = server.start(data / "nats.log")
    try:
        server.wait_until_ready(process, data / "nats.log")
        yield server, process.pid
    finally:
        end(process, server.stop_signals, timeout_s=10)


async def connected(server: Nats, user: str = "", password: str = "") -> Client:
    """Connect, as touchlog itself or with a key; a client that was refused is closed."""
    url = f"nats://{user}:{password}@127.0.0.1:{server.port}" if user else server.url
    return await connected_at_once(url, timeout_s=30)


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for *condition*, at most a minute."""
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.02)


def test_a_key_may_ask_for_an_append_and_nothing_else(tmp_path: Path) -> None:
    keys = [NatsUser(name=name, password_hash=password_hash(SECRET)) for name in ("k1", "k2")]

    async def talk(server: Nats) -> None:
        own = await connected(server)

        async def append(message: Msg) -> None:
            await message.respond(message.subject.encode() + b" " + message.data)

        await own.subscribe("touchlog.append.*", cb=append)
        await own.flush()
        k1, k2 = await connected(server, "k1", SECRET), await connected(server, "k2", SECRET)
        overheard: list[bytes] = []

        async def listen(message: Msg) -> None:
            overheard.append(message.data)

        await k2.subscribe("_INBOX.>", cb=listen)
        await k2.subscribe("touchlog.>", cb=listen)
        await k2.flush()
        answer = await k1.request("touchlog.append", b"x" * 2**20, timeout=30)
        assert answer.data == b"touchlog.append.k1 " + b"x" * 2**20
        with pytest.raises((nats.errors.TimeoutError, nats.errors.NoRespondersError)):
            await k1.request("touchlog.append.k2", b"in another's name", timeout=0.3)
        await k2.flush()
        assert overheard == []
        for client in (own, k1, k2):
            await client.close()

    with bus(tmp_path, *keys) as (server, _):
        asyncio.run(talk(server))


def test_a_revoked_key_is_cut_off_and_a_new_one_let_in(tmp_path: Path) -> None:
    old, new = (NatsUser(name=name, password_hash=password_hash(SECRET)) for name in ("old", "new"))

    async def talk(server: Nats, pid: int) -> None:
        client = await connected(server, "old", SECRET)
        server.reload([new], pid)

        async def is_cut_off() -> bool:
            return client.is_closed

        async def is_let_in() -> bool:
            try:
                await (await connected(server, "new", SECRET)).close()
            except (nats.errors.Error, OSError):
                return False
            return True

        await until(is_cut_off)
        await until(is_let_in)
        with pytest.raises(nats.errors.Error):
            await connected(server, "old", SECRET)

    with bus(tmp_path, old) as (server, pid):
        asyncio.run(talk(server, pid))


def test_streams_are_sealed_at_rest_and_kept_over_a_restart(tmp_path: Path) -> None:
    async def put(server: Nats) -> None:
        client = await connected(server)
        stream = client.jetstream()
        await stream.add_stream(name="buffer", subjects=["touchlog.in.>"])
        await stream.publish("touchlog.in.x", b"Ann Example, ann@example.com")
        await client.close()

    async def take(server: Nats) -> bytes:
        client = await connected(server)
        message = await client.jetstream().get_msg("buffer", 1)
        await client.close()
        return message.data or b""

    with bus(tmp_path) as (server, _):
        asyncio.run(put(server))
    stored = [file for file in (tmp_path / "nats" / "store").rglob("*") if file.is_file()]
    assert stored
    assert not any(b"ann@example.com" in file.read_bytes() for file in stored)
    with bus(tmp_path) as (server, _):
        assert asyncio.run(take(server)) == b"Ann Example, ann@example.com"


@pytest.mark.parametrize(
    ("mounted", "told"),
    [(os.ST_RDONLY, "Read-only file system.*mount its disk"), (0, "Permission denied.*name another")],
    ids=["of a disk that can only be read", "of somebody else"],
)
def test_a_folder_that_cannot_be_written_is_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounted: int, told: str
) -> None:
    # given the folder of an installation, of which the system says that it is not to be written
    prepare_folders(tmp_path)
    monkeypatch.setattr("adapters.embedded.os.access", lambda *_: False)
    monkeypatch.setattr("adapters.embedded.os.statvfs", lambda _: SimpleNamespace(f_flag=mounted))
    # when something begins there, then it says why not
    with pytest.raises(Misconfigured, match=told):
        prepare_folders(tmp_path)


def test_a_server_that_does_not_start_says_where_to_look(tmp_path: Path) -> None:
    server = Nats(tmp_path, secret_file=tmp_path / "secret.key", subject_prefix="touchlog")
    server.prepare()
    (tmp_path / "nats" / "nats.conf").write_text("listen: nowhere:none")
    process = server.start(tmp_path / "nats.log")
    with pytest.raises(Unavailable, match=r"nats\.log"):
        server.wait_until_ready(process, tmp_path / "nats.log")


def test_a_server_that_met_a_full_disk_is_killed_and_started_again_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as it runs, a stream of it that could not be written takes nothing more."""
    # given a server that tells of a stream that could not be written, and a disk that is full
    free = 0
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("adapters.embedded.nats.shutil.disk_usage", lambda _: usage._replace(free=free))
    log = tmp_path / "nats.log"
    log.write_bytes(b"no space left on device\n")  # of an earlier run
    server = Nats(tmp_path, secret_file=tmp_path / "secret.key", subject_prefix="touchlog")
    server.prepare()
    (tmp_path / "run").mkdir()
    supervisor = Supervisor(tmp_path / "run")
    child = Child(
        name="nats",
        rank=1,
        start=lambda: server.start(log),
        log_file=log,
        is_ready=lambda _: server.is_ready(),
        is_stuck=lambda: server.is_stuck(log),
    )
    with supervisor.signals(), ExitStack() as stack:
        stack.callback(supervisor.stop)
        supervisor.add(child)
        supervisor.wait_for(lambda: child.stands)
        first = child.process
        free = usage.total
        supervisor.watch(0)
        assert child.process is first
        free = 0
        with log.open("ab") as said:
            said.write(b"[ERR] JetStream failed to store a msg: write 4.blk: no space left on device\n")
        supervisor.watch(0)
        assert child.process is first
        # when there is room again
        free = usage.total
        supervisor.watch(0)
        # then another takes its place, which has met none
        supervisor.wait_for(lambda: child.stands)
        second = child.process
        assert second is not first
        supervisor.watch(0)
        assert child.process is second
