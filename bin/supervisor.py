"""Supervision: children are started, watched, started again when they end, and stopped in reverse order."""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import msgspec
import structlog

from adapters.embedded.processes import end_orphan, footprint, read_footprint, write_private
from domain.errors import Unavailable

log = structlog.get_logger()

STEADY_AFTER_S = 10.0
"""A child that lived this long has started well; its next end is not counted with those before."""
READY_FOR_S = 0.5
"""A child that was ready this long has started well, too."""
LONGEST_PAUSE_S = 5.0
STUCK_ASKED_EVERY_S = 2.0
ENDS_AT_START = 6
"""So many ends in a row before everything was ready once: the start has failed."""
LARGEST_LOG_BYTES = 50 * 2**20


@dataclass(slots=True, kw_only=True)
class Child:
    """One process that has to be there.

    `stop_signals` are sent one after the other, each with `stop_timeout_s`. Children of a higher `rank` are
    stopped before those of a lower one. `is_stuck` is asked now and then, where there is one: such a process is
    killed, and started again as any that ends.
    """

    name: str
    rank: int
    start: Callable[[], subprocess.Popen[bytes]]
    log_file: Path
    stop_signals: Sequence[signal.Signals] = (signal.SIGTERM,)
    stop_timeout_s: float = 10.0
    is_ready: Callable[[subprocess.Popen[bytes]], bool] = field(default=lambda _: True)
    is_stuck: Callable[[], bool] | None = None
    after_stop: Callable[[], None] = lambda: None
    process: subprocess.Popen[bytes] | None = None
    started_at_s: float = 0.0
    start_again_at_s: float = 0.0
    ends_in_a_row: int = 0
    announced: bool = True

    @property
    def stands(self) -> bool:
        """Whether the process runs and is ready."""
        return self.process is not None and self.process.poll() is None and self.is_ready(self.process)


class Stopped(Exception):
    """A signal asked this process to end."""


class Supervisor:
    """Watches children; all in one thread, for Linux ends children with the thread that started them."""

    def __init__(self, run: Path, *, on_change: Callable[[], None] = lambda: None) -> None:
        self.run = run
        self.children: list[Child] = []
        self.on_change = on_change
        self.was_ready = False
        self._wake_up, self._woken = socket.socketpair()
        self._wake_up.setblocking(False)
        self._woken.setblocking(False)
        self._asked_to_stop = False
        self._logs_seen_at_s = 0.0

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Take SIGINT, SIGTERM and SIGHUP as the wish to stop, and hear of children that end, at once; for one time."""
        wanted = [signal.SIGINT, signal.SIGTERM, signal.SIGCHLD]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup ignores it: the terminal may go
            wanted.append(signal.SIGHUP)
        before = {each: signal.signal(each, self._signalled) for each in wanted}
        wake_up_before = signal.set_wakeup_fd(self._wake_up.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(wake_up_before)
            for each, handler in before.items():
                signal.signal(each, handler)
            self._wake_up.close()
            self._woken.close()

    def _signalled(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._asked_to_stop = True

    def add(self, child: Child) -> None:
        """Start *child* and watch it from now on; an orphan that an earlier run left is ended first."""
        self.end_orphan(child.name, child.stop_signals)
        self.children.append(child)
        self._start(child)

    def end_orphan(self, name: str, signals: Sequence[signal.Signals] = (signal.SIGTERM,)) -> None:
        """End the process *name* of an earlier run, where it still runs."""
        pid_file = self.run / f"{name}.pid"
        orphan = read_footprint(pid_file)
        if orphan and end_orphan(orphan, signals, timeout_s=10):
            log.warning("orphan_ended", name=name, pid=orphan.pid)
        pid_file.unlink(missing_ok=True)

    def _start(self, child: Child) -> None:
        child.process = child.start()
        child.started_at_s = time.monotonic()
        write_private(self.run / f"{child.name}.pid", msgspec.json.encode(footprint(child.process.pid)))
        log.debug("part_started", name=child.name, pid=child.process.pid)

    def wait_for(self, condition: Callable[[], bool], *, every_s: float = 0.02) -> None:
        """Watch until *condition* holds.

        Raises:
            Stopped: a signal came.
            Unavailable: a child ends again and again.
        """
        while not condition():
            self.watch(every_s)

    def watch_until_stopped(self) -> None:
        """Watch for as long as nobody asks for the end.

        Raises:
            Stopped: when somebody does.
        """
        while True:
            self.watch(60)

    def watch(self, longest_s: float) -> None:
        """Wait for a signal or until something is due, at most *longest_s*; then do what is due."""
        now = time.monotonic()
        due = [child.start_again_at_s - now for child in self.children if child.process is None]
        announcements = [0.05 for child in self.children if not child.announced]
        questions = [STUCK_ASKED_EVERY_S for child in self.children if child.is_stuck is not None]
        span_s = max(0.0, min([longest_s, *due, *announcements, *questions]))
        if not self._asked_to_stop:
            select.select([self._woken], [], [], span_s)
        with suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass
        if self._asked_to_stop:
            raise Stopped
        changed = False
        for child in self.children:
            changed |= self._look_after(child)
        if changed:
            self.on_change()
        self._keep_logs_small()

    def _look_after(self, child: Child) -> bool:
        """Note an end, start again what is due; gives whether anything changed."""
        now = time.monotonic()
        if child.process is not None and child.process.poll() is None and child.is_stuck and child.is_stuck():
            log.warning("part_stuck", name=child.name, pid=child.process.pid)
            child.process.kill()
            child.process.wait()
        if child.process is not None and child.process.poll() is not None:
            lived_s = now - child.started_at_s
            # One that was ready and then ended was killed, not broken: it is started again at once.
            steady = lived_s > (READY_FOR_S if self.was_ready and child.announced else STEADY_AFTER_S)
            child.ends_in_a_row = 1 if steady else child.ends_in_a_row + 1
            pause_s = 0.0 if child.ends_in_a_row == 1 else min(0.05 * 2**child.ends_in_a_row, LONGEST_PAUSE_S)
            log.warning(
                "part_ended",
                name=child.name,
                pid=child.process.pid,
                code=child.process.returncode,
                lived_s=round(lived_s, 1),
                restart_in_s=pause_s,
            )
            if not self.was_ready and child.ends_in_a_row >= ENDS_AT_START:
                raise Unavailable(
                    f"{child.name} ended {child.ends_in_a_row} times at its start: {_last_line(child.log_file)} "
                    f"(see {child.log_file})."
                )
            child.process = None
            child.start_again_at_s = now + pause_s
        if child.process is None and now >= child.start_again_at_s:
            self._start(child)
            child.announced = False
            return True
        if not child.announced and child.stands:
            child.announced = True
            assert child.process is not None
            log.info(
                "part_restarted",
                name=child.name,
                pid=child.process.pid,
                after_s=round(now - child.started_at_s, 2),
            )
        return False

    def stop(self) -> None:
        """Stop all children, those started last first; a child that does not end in its time is killed."""
        for rank in sorted({child.rank for child in self.children}, reverse=True):
            together = [child for child in self.children if child.rank == rank and child.process is not None]
            for number in range(max((len(child.stop_signals) for child in together), default=0)):
                for child in together:
                    if child.process and child.process.poll() is None and number < len(child.stop_signals):
                        child.process.send_signal(child.stop_signals[number])
                for child in together:
                    with suppress(subprocess.TimeoutExpired):
                        assert child.process is not None
                        child.process.wait(child.stop_timeout_s)
            for child in together:
                assert child.process is not None
                if child.process.poll() is None:
                    log.warning(
                        "part_killed", name=child.name, pid=child.process.pid, after_s=child.stop_timeout_s
                    )
                    child.process.kill()
                    child.process.wait()
                (self.run / f"{child.name}.pid").unlink(missing_ok=True)
                child.after_stop()
        self.children.clear()

    def _keep_logs_small(self) -> None:
        """Set a log file aside that has grown too large; its writers append, so they go on at its new start."""
        now = time.monotonic()
        if now - self._logs_seen_at_s < 60:
            return
        self._logs_seen_at_s = now
        for file in {child.log_file for child in self.children}:
            with suppress(OSError):
                if file.stat().st_size > LARGEST_LOG_BYTES:
                    shutil.copyfile(file, file.with_suffix(".1.log"))
                    os.truncate(file, 0)


def _last_line(file: Path) -> str:
    """Give the last thing that *file* says."""
    with suppress(OSError):
        lines = file.read_bytes()[-20_000:].decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"
    return "it said nothing"
