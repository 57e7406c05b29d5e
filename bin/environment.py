"""The environment: a Python of touchlog's own, made from the lock on first use.

Run by the launchers with any Python 3.11 or newer; standard library only. Prints the path of the
environment's interpreter on standard output, and what it does on standard error.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median

# A file in the environment that names the Python it was made with; a stamp of each lock lies beside it.
VERSION = "python.stamp"
# A lock whose packages contain those of another: an environment made for the first serves the second.
CONTAINS = {"requirements": ("requirements-test",), "requirements-test": ()}


def say(text: str) -> None:
    """Tell the person who waits, beside the path that the launcher reads."""
    print(f"touchlog: {text}", file=sys.stderr, flush=True)


def version() -> str:
    """Name the Python that runs this, as the stamps do."""
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def stamp_of(lock: Path, made_with: str) -> str:
    """Name exactly what an environment must hold: the lock's bytes and Python's minor version."""
    return f"{hashlib.sha256(lock.read_bytes()).hexdigest()} {made_with}"


def stamped_version(home: Path) -> str:
    """Give the Python version that *home* was made with, '' where none was."""
    with suppress(OSError):
        return (home / VERSION).read_text()
    return ""


def is_ready(home: Path, root: Path, name: str) -> bool:
    """Say whether *home* holds the packages of the lock *name* and its interpreter can be run by us."""
    made_with = stamped_version(home)
    for lock in (name, *CONTAINS[name]):
        with suppress(OSError):
            if (home / f"{lock}.stamp").read_text() == stamp_of(root / f"{lock}.lock", made_with):
                # The interpreter that runs us knows its version; another one has to be asked.
                if Path(sys.prefix) == home:
                    return made_with == version()
                return runs(home / "bin" / "python", made_with)
    return False


def runs(python: Path, made_with: str) -> bool:
    """Say whether *python* starts and is still the version it was (a system upgrade may have changed what it links to)."""
    question = "import sys; print(f'python{sys.version_info.major}.{sys.version_info.minor}')"
    try:
        answer = subprocess.run(
            [python, "-I", "-S", "-c", question], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.stdout.strip() == made_with


def homes(root: Path) -> Iterator[Path]:
    """Give the places where an environment may stand, best first: beside the code, else the user's cache."""
    yield root / ".venv"
    name = hashlib.sha256(os.fsencode(root)).hexdigest()[:12]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - may have no home
    yield Path(cache) / "touchlog" / name
    yield Path(tempfile.gettempdir()) / f"touchlog-{os.getuid()}" / name


def is_trusted(home: Path) -> bool:
    """Say whether nobody else can have put code of theirs into *home*, or could.

    In the shared temporary folder somebody else could have taken the name first.
    """
    if home.parent.parent != Path(tempfile.gettempdir()):
        return True
    try:
        status = home.parent.lstat()
    except FileNotFoundError:
        return True
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and status.st_mode & 0o022 == 0


def is_ours_to_write(home: Path) -> bool:
    """Say whether we may make or change an environment at *home*; makes the folder above it."""
    try:
        if home.exists():
            return home.stat().st_uid == os.getuid() and os.access(home, os.W_OK | os.X_OK)
        home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(home.parent, os.W_OK | os.X_OK) and is_trusted(home)


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the lock beside *home*; two first starts at once make one environment, one after the other."""
    with home.with_name(home.name + ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say(f"another start is making the environment in {home}; waiting for it ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def a_sign_of_life(every_s: float = 15) -> Iterator[None]:
    """Say now and then that the work goes on, so that nobody thinks it hangs."""
    done = threading.Event()
    started = time.monotonic()

    def speak() -> None:
        while not done.wait(every_s):
            say(f"... still installing, {time.monotonic() - started:.0f} s")

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    try:
        yield
    finally:
        done.set()
        speaker.join()


def make(home: Path, root: Path, name: str) -> None:
    """Make or bring up to date the environment at *home* from the lock *name*.

    Raises:
        SystemExit: with a sentence that says what is missing and what to install.
    """
    lock = root / f"{name}.lock"
    python = home / "bin" / "python"
    fresh = stamped_version(home) != version() or not runs(python, version())
    count = sum("==" in line for line in lock.read_text().splitlines())
    say(
        f"{'making' if fresh else 'updating'} its environment in {home}: {count} packages, about a minute ..."
    )
    started = time.monotonic()
    for other in CONTAINS:
        # What is right stays so: a superset changes none of it. What is not must not become right by chance.
        stamp = home / f"{other}.stamp"
        if fresh or (stamp.exists() and stamp.read_text() != stamp_of(root / f"{other}.lock", version())):
            stamp.unlink(missing_ok=True)
    if fresh:
        make_empty(home)
    command: list[str | Path] = [
        *(python, "-I", "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"),
        *("--require-hashes", "--no-deps", "--progress-bar", "off", "--no-warn-script-location"),
        *("--root-user-action", "ignore", "-r", lock),
    ]
    # Settings that would send the packages elsewhere; where pip looks for them is the caller's to say.
    elsewhere = {"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_REQUIRE_VIRTUALENV", "PIP_DRY_RUN"}
    surroundings = {name: value for name, value in os.environ.items() if name not in elsewhere}
    with a_sign_of_life():
        code = subprocess.run(command, stdout=sys.stderr, env=surroundings, check=False).returncode
    if code != 0:
        sys.exit(
            f"touchlog: pip could not install the packages of {lock.name} (exit {code}, see above). "
            "It needs the package index that pip is configured for; start again when it can be reached."
        )
    (home / f"{name}.stamp").write_text(stamp_of(lock, version()))
    say(f"environment ready in {time.monotonic() - started:.0f} s")


def make_empty(home: Path) -> None:
    """Make an environment at *home* that holds nothing but pip."""
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            number = version().removeprefix("python")
            sys.exit(
                f"touchlog: {sys.executable} has no module {module}, which makes environments. "
                f"Install it, for example: apt install python{number}-venv"
            )
    # From within an environment (our own, half made) its base has to do it.
    base = getattr(sys, "_base_executable", None) or sys.executable
    command = [base, "-I", "-m", "venv", "--clear", home]
    code = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    if code != 0:
        sys.exit(f"touchlog: {base} -m venv {home} failed (exit {code}, see above).")
    (home / VERSION).write_text(version())


# Half of what every process of ours does is interpreting, and builds of one version differ by a quarter or
# more (with or without profile-guided optimisation), so a new environment is made with the quickest at hand.
QUICKER = 0.9
LOOKS = 8
NAMES = ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python")
PLACES = ("/usr/bin/python3", "/usr/local/bin/python3", "/opt/homebrew/bin/python3")
TRIAL = """
import importlib.util, sys, time
if sys.version_info < (3, 11) or not all(map(importlib.util.find_spec, ("venv", "ensurepip"))):
    sys.exit(1)
class Thing:
    def __init__(self, name, place):
        self.name = name
        self.place = place
    def told(self, known):
        return known.get(self.name) or (self.name, self.place)
def work():
    known = {}
    for n in range(2_000):
        thing = Thing(f"name {n}", n)
        known[thing.name] = thing.told(known)
        if isinstance(thing.place, int) and thing.name.isprintable():
            known.pop(thing.name, None)
def took():
    started = time.process_time()
    work()
    return time.process_time() - started
print(min(took() for _ in range(25)), getattr(sys, "_base_executable", None) or sys.executable)
"""


def trial(python: str) -> tuple[float, str]:
    """Give the seconds that *python* takes for a small piece of work and its own path; endless where it will not do."""
    try:
        said = subprocess.run(
            [python, "-I", "-S", "-c", TRIAL], capture_output=True, text=True, timeout=30, check=True
        )
        seconds, _, path = said.stdout.strip().partition(" ")
        return float(seconds), path
    except (OSError, ValueError, subprocess.SubprocessError):
        return float("inf"), python


def quickest(ours: str) -> str:
    """Give the interpreter to make an environment with: *ours*, unless another is clearly quicker."""
    others = [path for name in NAMES if (path := shutil.which(name))] + [
        p for p in PLACES if Path(p).exists()
    ]
    _, ours = trial(ours)
    # In turns and by the median of turns: what else is at work here halves everybody's speed for seconds, and a
    # wrong choice costs every process of ours a third.
    took: dict[str, list[float]] = {}
    for python in (ours, *others):
        seconds, path = trial(python)
        if seconds < float("inf"):
            took.setdefault(path, [seconds])
    for _ in range(LOOKS if len(took) > 1 else 0):
        for path, seen in took.items():
            seen.append(trial(path)[0])
    if ours not in took:
        return ours
    times_ours = {
        path: median(a / b for a, b in zip(seen, took[ours], strict=True)) for path, seen in took.items()
    }
    path = min(times_ours, key=times_ours.__getitem__)
    if times_ours[path] >= QUICKER:
        return ours
    say(f"taking {path}: it runs {1 / times_ours[path]:.1f} times as fast as {ours}")
    return path


def interpreter(root: Path, name: str, *, chosen: bool = False) -> Path:
    """Give the interpreter of an environment that holds the lock *name*, made now where there is none.

    Args:
        chosen: this very interpreter is to make it; else a quicker one takes over where there is one.
    """
    places = list(homes(root))
    for home in places:
        if is_trusted(home) and is_ready(home, root, name):
            return home / "bin" / "python"
    for home in places:
        if is_trusted(home) and is_ours_to_write(home):
            if not chosen and not stamped_version(home):
                best = quickest(sys.executable)
                os.execv(best, [best, "-I", __file__, str(root), name, "chosen"])  # noqa: S606 - no shell is wanted
            with only_one(home):
                if not is_ready(home, root, name):
                    make(home, root, name)
            return home / "bin" / "python"
    sys.exit("touchlog: no writable place for its environment; tried " + ", ".join(map(str, places)))


if __name__ == "__main__":
    print(interpreter(Path(sys.argv[1]), sys.argv[2], chosen="chosen" in sys.argv[3:]))
