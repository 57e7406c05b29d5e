"""Embedded servers: a real PostgreSQL and a real nats-server, so that one command is enough to begin."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Protocol, TextIO

import msgspec

from adapters.embedded.processes import Footprint, end, end_orphan, footprint, read_footprint, write_private
from domain.errors import Misconfigured, NotFound, Unavailable

__all__ = [
    "Installation",
    "RunningServers",
    "Servers",
    "loading",
    "own_postgres",
    "prepare_folders",
    "running",
    "servers",
    "set_loading",
]


class Installation(Protocol):
    """What has to be known of an installation to reach its servers (`bin.settings.Settings` has it)."""

    @property
    def data(self) -> Path: ...
    @property
    def database_url(self) -> str | None: ...
    @property
    def nats_url(self) -> str | None: ...


class RunningServers(msgspec.Struct, frozen=True, kw_only=True):
    """What DIR/run/servers.json says: who runs the servers, and where they are."""

    owner: Footprint
    by: str
    database_url: str
    nats_url: str | None = None
    http_url: str | None = None
    pids: dict[str, int] = {}


class Servers(NamedTuple):
    """Where the log's database is, and the bus when there is one."""

    database_url: str
    nats_url: str | None


def prepare_folders(data: Path) -> None:
    """Make the installation's folders.

    Raises:
        Misconfigured: they cannot be made or written; says which.
    """
    try:
        for folder in (data, data / "run", data / "logs"):
            if folder.exists():
                continue
            folder.mkdir(parents=True)
            # Root's PostgreSQL runs as another user, who has to pass (not list) the way to its files.
            folder.chmod(0o711 if os.geteuid() == 0 and folder.name != "logs" else 0o700)
        if not os.access(data / "run", os.W_OK | os.X_OK):
            refused = errno.EROFS if os.statvfs(data / "run").f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(refused, os.strerror(refused))
    except OSError as error:
        mend = "mount its disk so that it can be written, or " if error.errno == errno.EROFS else ""
        raise Misconfigured(
            f"The data folder {data} cannot be used ({error.strerror}); {mend}name another with --data DIR or TOUCHLOG_DATA."
        ) from error


def running(data: Path) -> RunningServers | None:
    """Read who runs the servers of *data* now; None when nobody does."""
    with suppress(OSError, msgspec.DecodeError):
        found = msgspec.json.decode((data / "run" / "servers.json").read_bytes(), type=RunningServers)
        if found.owner.is_alive():
            return found
    return None


def tell(data: Path, told: RunningServers) -> None:
    """Write DIR/run/servers.json for other commands."""
    write_private(data / "run" / "servers.json", msgspec.json.format(msgspec.json.encode(told)) + b"\n")


def no_longer_running(data: Path) -> None:
    """Take DIR/run/servers.json away."""
    (data / "run" / "servers.json").unlink(missing_ok=True)


def set_loading(data: Path, what: str) -> None:
    """Note in DIR/run/loading what is being loaded, so that nobody takes a log that is filling for a whole one; '' ends it."""
    marker = data / "run" / "loading"
    if what:
        write_private(marker, what.encode())
    else:
        marker.unlink(missing_ok=True)


def loading(data: Path) -> str:
    """What is being loaded into the log before it is ready, '' where nothing is."""
    with suppress(OSError):
        return (data / "run" / "loading").read_text()
    return ""


@contextmanager
def own_postgres(data: Path, *, by: str, wait_s: float) -> Iterator[None]:
    """Be the one who may run the embedded PostgreSQL of *data*; ends an orphan of an earlier run.

    Raises:
        Unavailable: another has it for longer than *wait_s*; names it.
    """
    with (data / "run" / "postgres.lock").open("a+") as lock:
        if not _locked(lock, wait_s):
            lock.seek(0)
            owner = lock.read().strip() or "another command"
            raise Unavailable(f"The servers of {data} are in use by {owner}; wait for it to end, or end it.")
        lock.seek(0)
        lock.truncate()
        lock.write(f"touchlog {by}, process {os.getpid()}")
        lock.flush()
        no_longer_running(data)
        pid_file = data / "run" / "postgres.pid"
        if orphan := read_footprint(pid_file):
            end_orphan(orphan, (signal.SIGINT, signal.SIGQUIT), timeout_s=30)
            pid_file.unlink(missing_ok=True)
        yield


def _locked(lock: TextIO, wait_s: float) -> bool:
    """Take the lock on an open file, waiting at most *wait_s*."""
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        else:
            return True


@contextmanager
def servers(
    installation: Installation, *, by: str = "a command", wait_s: float = 60, begins: bool = True
) -> Iterator[Servers]:
    """Reach the installation's servers, for the length of one command.

    Given URLs are used as they are; else the servers of a running `serve` or of another command; else an
    embedded PostgreSQL is started alone, without a bus, and stopped at the end. Call it from the main
    thread: Linux ends the server with the thread that started it.

    Args:
        by: the command's name, for the error that another command gives.
        wait_s: how long to wait for somebody who is just starting or stopping the servers.
        begins: whether the command may begin an installation where there is none.

    Raises:
        NotFound: there is no installation, and the command begins none.
        Unavailable: the servers do not come up.
    """
    data = installation.data
    found = running(data)
    nats_url = installation.nats_url or (found.nats_url if found else None)
    if installation.database_url:
        yield Servers(installation.database_url, nats_url)
        return
    if not begins and not (data / "run").is_dir():
        raise NotFound(
            f"There is no installation in {data}: name its folder with --data DIR or TOUCHLOG_DATA, "
            f"or begin one there with: touchlog serve --data {data}"
        )
    prepare_folders(data)
    deadline = time.monotonic() + wait_s
    while True:
        with ExitStack() as stack:
            try:
                stack.enter_context(own_postgres(data, by=by, wait_s=0))
            except Unavailable:
                # Shared while it is held: who runs the server alone stops it only after us.
                users = stack.enter_context((data / "run" / "users.lock").open("a"))
                fcntl.flock(users, fcntl.LOCK_SH)
                if found := running(data):
                    yield Servers(found.database_url, installation.nats_url or found.nats_url)
                    return
                if time.monotonic() > deadline:
                    raise
            else:
                url = stack.enter_context(_postgres_alone(data, by))
                yield Servers(url, installation.nats_url)
                return
        time.sleep(0.05)


@contextmanager
def _postgres_alone(data: Path, by: str) -> Iterator[str]:
    """Run the embedded PostgreSQL for the length of one command, and of those that came to share it."""
    from adapters.embedded.postgres import Postgres

    log = data / "logs" / "postgres.log"
    postgres = Postgres(data)
    postgres.prepare(log)
    process = postgres.start(log)
    mine = footprint(process.pid)
    write_private(data / "run" / "postgres.pid", msgspec.json.encode(mine))
    try:
        postgres.wait_until_ready(process, log)
        told = RunningServers(
            owner=footprint(os.getpid()), by=by, database_url=postgres.url, pids={"postgres": process.pid}
        )
        tell(data, told)
        yield postgres.url
    finally:
        # Nobody new comes once the file is gone; who came before is waited for.
        no_longer_running(data)
        with (data / "run" / "users.lock").open("a") as users:
            fcntl.flock(users, fcntl.LOCK_EX)
        end(process, postgres.stop_signals, timeout_s=30)
        postgres.tidy()
        (data / "run" / "postgres.pid").unlink(missing_ok=True)
