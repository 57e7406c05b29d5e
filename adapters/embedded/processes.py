"""Programs that we start: they end with us, are found again after a crash, and need no root of their own."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from domain.errors import Misconfigured

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAP_SETPCAP = 8
CAPABILITY_VERSION_3 = 0x20080522

CANNOT_REACH = 77
"""Exit code of a child that could not reach its files under the unprivileged user."""

# Loaded before any fork: a child between fork and exec must not take locks that a thread of ours may hold.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class Footprint(msgspec.Struct, frozen=True):
    """What finds a process again: its number and when it started, for numbers are used again."""

    pid: int
    started: str

    def is_alive(self) -> bool:
        """Say whether this very process still runs (a zombie does not)."""
        return self.started != "" and started(self.pid) == self.started


def started(pid: int) -> str:
    """Say when process *pid* started, in words only good for comparison; '' where none runs."""
    return _started_by_proc(pid) if Path("/proc/self/stat").exists() else _started_by_ps(pid)


def _started_by_proc(pid: int) -> str:
    try:
        # The second field is the name in brackets, which may hold anything; the others follow the last one.
        values = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    if values[0] in (b"Z", b"X"):
        return ""
    return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {values[19].decode()}"


def _started_by_ps(pid: int) -> str:
    command = ["/bin/ps", "-o", "lstart=,stat=", "-p", str(pid)]
    words = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return "" if not words or words[-1].startswith("Z") else " ".join(words[:-1])


def command_line(pid: int) -> bytes:
    """Give the words that process *pid* was started with, in one; b'' where none runs."""
    with suppress(OSError):
        if Path("/proc/self/stat").exists():
            return Path(f"/proc/{pid}/cmdline").read_bytes()
        command = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
        return subprocess.run(command, capture_output=True, check=False).stdout
    return b""


def footprint(pid: int) -> Footprint:
    """Take the footprint of a process that runs now."""
    return Footprint(pid=pid, started=started(pid))


def write_private(path: Path, content: bytes) -> None:
    """Write *path* whole or not at all, readable by its owner only."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def read_footprint(path: Path) -> Footprint | None:
    """Read a footprint that an earlier run left; None where there is none, or nothing that can be read."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(path.read_bytes(), type=Footprint)
    return None


@dataclass(frozen=True, slots=True)
class Unprivileged:
    """The user that a program runs as when we are root, and what it has to reach there."""

    uid: int
    gid: int
    name: str

    @classmethod
    def for_data(cls, data: Path, existing: Path) -> Unprivileged | None:
        """Choose the user for programs that refuse root; None when we are not root.

        The owner of *existing* (files of an earlier start) stays; else the owner of *data*,
        else the system's user postgres, else nobody.
        """
        if os.geteuid() != 0:
            return None
        candidates: list[pwd.struct_passwd] = []
        for path in (existing, data):
            with suppress(OSError):
                status = path.stat()
                if status.st_uid != 0:
                    return cls(status.st_uid, status.st_gid, f"uid {status.st_uid}")
        for name in ("postgres", "nobody"):
            with suppress(KeyError):
                candidates.append(pwd.getpwnam(name))
        if not candidates:
            return cls(65534, 65534, "uid 65534")
        return cls(candidates[0].pw_uid, candidates[0].pw_gid, candidates[0].pw_name)


def spawn(
    command: Sequence[str | Path],
    *,
    log: int,
    death_signal: signal.Signals,
    env: Mapping[str, str],
    user: Unprivileged | None = None,
    reach: Sequence[Path] = (),
    stdin: int = subprocess.DEVNULL,
    stdout: int | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start *command* in a session of its own; it gets *death_signal* when this process ends, however it ends.

    Call it from the main thread: Linux counts the thread that forks as the parent.

    Args:
        log: file descriptor for standard error (and standard output, unless *stdout* is given).
        user: run as this user; where its files (*reach*) lie below folders closed to it, it keeps the
            capability to pass them. The child exits with `CANNOT_REACH` and a sentence on *log* where it cannot.
    """
    parent = os.getpid()
    return subprocess.Popen(
        [str(word) for word in command],
        stdin=stdin,
        stdout=log if stdout is None else stdout,
        stderr=log,
        env=dict(env),
        cwd="/",
        start_new_session=True,
        pass_fds=pass_fds,
        preexec_fn=_in_child(  # noqa: PLW1509 - nothing there takes a lock
            parent, death_signal, user, tuple(reach)
        ),
    )


def _in_child(
    parent: int, death_signal: signal.Signals, user: Unprivileged | None, reach: tuple[Path, ...]
) -> Callable[[], None]:
    """Make the function that runs between fork and exec."""

    def prepare() -> None:
        if user is not None:
            problem = _become(user, reach)
            if problem:
                os.write(2, f"{problem}\n".encode())
                os._exit(CANNOT_REACH)
        # After the change of user, which would clear it.
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return prepare


def _become(user: Unprivileged, reach: tuple[Path, ...]) -> str:
    """Change from root to *user*; gives a sentence when that fails or *reach* stays out of reach."""
    try:
        if _libc is not None:
            _libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([user.gid])
        os.setgid(user.gid)
        os.setuid(user.uid)
    except OSError as error:
        return (
            f"PostgreSQL does not run as root, and changing to user {user.name} failed ({error.strerror}). "
            "Start touchlog as an ordinary user, or with the capabilities SETUID and SETGID."
        )
    closed = _out_of_reach(reach, user, may_override=False)
    # No more than is needed: reading and passing folders first, running files closed to others only then.
    for override in (False, True):
        if closed and _libc is not None:
            _keep_capabilities(override=override)
            closed = _out_of_reach(reach, user, may_override=override)
    if closed:
        return (
            f"PostgreSQL does not run as root, and user {user.name} cannot reach {closed}: a folder above it is "
            "closed to others. Choose another place with --data, or open that folder (chmod o+x)."
        )
    return ""


def _out_of_reach(reach: tuple[Path, ...], user: Unprivileged, *, may_override: bool) -> str:
    """Name the first of *reach* that this process cannot read (folders) or run (files); '' when it can all."""
    for path in reach:
        try:
            if path.is_dir():
                next(path.iterdir(), None)
                continue
            with path.open("rb"):
                mode = path.stat()
        except OSError:
            return str(path)
        is_open = mode.st_mode & stat.S_IXOTH or (mode.st_uid == user.uid and mode.st_mode & stat.S_IXUSR)
        if not is_open and not may_override:
            return str(path)
    return ""


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityWords(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _keep_capabilities(*, override: bool) -> None:
    """Hold, across exec, the right to pass closed folders and read files (*override*: and to run them).

    What fails here shows when the files are tried again.
    """
    assert _libc is not None
    kept = [CAP_DAC_READ_SEARCH, *([CAP_DAC_OVERRIDE] if override else [])]
    bits = sum(1 << capability for capability in kept)
    # access(2) drops the capabilities of an ordinary user unless this bit stands, and initdb asks by access(2).
    # What is permitted beyond *kept* goes at exec: there an ordinary user keeps the ambient ones only.
    permitted = 1 << CAP_DAC_READ_SEARCH | 1 << CAP_DAC_OVERRIDE
    if (
        _set_capabilities(
            permitted | 1 << CAP_SETPCAP, effective=permitted | 1 << CAP_SETPCAP, inheritable=bits
        )
        == 0
    ):
        _libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)
    _set_capabilities(permitted | 1 << CAP_SETPCAP, effective=bits, inheritable=bits)
    for capability in kept:
        _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0)


def _set_capabilities(permitted: int, *, effective: int, inheritable: int) -> int:
    """Set this thread's capabilities; gives 0 when the kernel agreed."""
    assert _libc is not None
    header = _CapabilityHeader(CAPABILITY_VERSION_3, 0)
    words = (_CapabilityWords * 2)()
    words[0] = _CapabilityWords(effective, permitted, inheritable)
    return int(_libc.capset(ctypes.byref(header), ctypes.byref(words)))


def end(process: subprocess.Popen[bytes], how: Sequence[signal.Signals], timeout_s: float) -> None:
    """End a child of ours: the signals of *how* one after the other, each with *timeout_s*, at last SIGKILL."""
    for each in how:
        if process.poll() is not None:
            return
        process.send_signal(each)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout_s)
    if process.poll() is None:
        process.kill()
        process.wait()


def end_orphan(orphan: Footprint, how: Sequence[signal.Signals], timeout_s: float) -> bool:
    """End a process of an earlier run that is not our child; gives whether it still ran."""
    if not orphan.is_alive():
        return False
    for each in (*how, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(orphan.pid, each)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if not orphan.is_alive():
                return True
            time.sleep(0.02)
    raise Misconfigured(
        f"Process {orphan.pid} of an earlier start cannot be ended; end it, then start again."
    )
