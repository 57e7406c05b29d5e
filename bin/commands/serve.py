"""serve: everything in one, or chosen parts, watched over until somebody stops it."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import typer

from bin.settings import DATA_OPTION, NO_BUS, Settings, without_password
from domain.errors import Misconfigured, Unavailable

if TYPE_CHECKING:
    from bin.supervisor import Child, Supervisor

PARTS = ("http", "projectors", "columns", "check", "relay")
PACES = ("live", "later")
"""The projectors are two processes: what is looked at now does not wait for the rest."""
BACKLOG_CONNECTIONS = 2048
ROOT = Path(__file__).resolve().parents[2]


def chosen_parts(text: str) -> tuple[str, ...]:
    """Read `--only`: names of parts with commas between them; '' is all."""
    names = tuple(name.strip() for name in text.split(",") if name.strip()) or PARTS
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise typer.BadParameter(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return tuple(name for name in PARTS if name in names)


def register(app: typer.Typer) -> None:
    """Add `touchlog serve`."""

    @app.command("serve", epilog="Example: touchlog serve --data ./data --port 8080")
    def serve_command(
        data: Path | None = DATA_OPTION,
        host: str | None = typer.Option(None, help="Address to listen on (default: 127.0.0.1)."),
        port: int | None = typer.Option(None, help="Port to listen on, 0 for a free one (default: 8080)."),
        workers: int | None = typer.Option(None, help="HTTP processes (default: 1)."),
        demo: bool = typer.Option(False, "--demo", help="Load a small lifelike history into an empty log."),
        only: str = typer.Option("", metavar="PARTS", help=f"Run these parts only, of: {','.join(PARTS)}."),
        projections: str = typer.Option(
            "",
            metavar="NAMES",
            help="Read models that the projectors keep up, with commas between them (default: all).",
        ),
    ) -> None:
        """Start the servers, migrate, and run all parts until Ctrl-C."""
        parts = chosen_parts(only)
        paces = chosen_paces(projections)
        settings = Settings.load(data=data, host=host, port=port, workers=workers)
        serve(settings, parts=parts, demo=demo, paces=paces)


def chosen_paces(text: str) -> dict[str, str]:
    """Read `--projections`: for each pace that has any of them their names with commas between; '' is all."""
    if not text.strip(", "):
        return dict.fromkeys(PACES, "")
    from bin.processes.projectors import chosen_projections

    names = [name.strip() for name in text.split(",") if name.strip()]
    try:
        chosen = chosen_projections(names=names)
    except Misconfigured as unknown:
        raise typer.BadParameter(str(unknown)) from None
    found: dict[str, list[str]] = {}
    for each in chosen:
        found.setdefault(each.pace, []).append(each.name)
    return {pace: ",".join(found[pace]) for pace in PACES if pace in found}


def serve(
    settings: Settings,
    *,
    parts: tuple[str, ...] = PARTS,
    demo: bool = False,
    paces: Mapping[str, str] | None = None,
) -> None:
    """Run *parts*, and the embedded servers that no URL replaces, until SIGINT or SIGTERM.

    Args:
        paces: the projections to keep up, by pace: names with commas between; all by default.

    Raises:
        Misconfigured: a setting cannot work, or another serve owns the data folder; says which process.
        Unavailable: a part or server does not come up; names its log.
    """
    from adapters.embedded import no_longer_running, prepare_folders
    from bin import logs
    from bin.supervisor import Stopped, Supervisor

    os.umask(0o077)
    logs.configure(settings.log_level, part="serve", form="pairs")
    prepare_folders(settings.data)
    with ExitStack() as stack:
        stack.enter_context(sole_owner(settings.data))
        supervisor = Supervisor(settings.data / "run")
        stack.enter_context(supervisor.signals())
        try:
            for part in parts:
                for name in (part_name("projectors", "later"), *(part_name(part, n) for n in range(64))):
                    supervisor.end_orphan(name)
            _run(settings, parts, paces or dict.fromkeys(PACES, ""), demo, supervisor, stack)
        except Stopped:
            say("stopping ...")
        finally:
            started_s = time.monotonic()
            no_longer_running(settings.data)
            supervisor.stop()
        say(f"stopped in {time.monotonic() - started_s:.1f} s")


def _run(
    settings: Settings,
    parts: tuple[str, ...],
    paces: Mapping[str, str],
    demo: bool,
    supervisor: Supervisor,
    stack: ExitStack,
) -> None:
    """Start everything in order, then watch."""
    from adapters.embedded import RunningServers, own_postgres, set_loading, tell
    from adapters.embedded.nats import bus_answers
    from adapters.embedded.processes import footprint
    from adapters.keys import check_keys
    from adapters.postgres.schema import migrate

    listener = stack.enter_context(listening(settings)) if "http" in parts else None
    if listener is not None:
        settings = replace(settings, port=listener.getsockname()[1])

    if not settings.database_url:
        stack.enter_context(own_postgres(settings.data, by="serve", wait_s=30))
        settings = start_postgres(settings, supervisor)
    with progress("migrating"):
        migrate(settings.database_url or "")
    check_keys(settings.database_url or "", settings.secret_file)
    if not settings.nats_url:
        settings = start_nats(settings, supervisor)
    elif not bus_answers(settings.nats_url):
        say(f"{without_password(settings.nats_url)} {NO_BUS}")

    def tell_others() -> None:
        tell(
            settings.data,
            RunningServers(
                owner=footprint(os.getpid()),
                by="serve",
                database_url=settings.database_url or "",
                nats_url=settings.nats_url,
                http_url=settings.local_url if listener else None,
                pids={child.name: child.process.pid for child in supervisor.children if child.process},
            ),
        )

    for part in parts:
        if part == "projectors":
            for pace, names in paces.items():
                arguments = ["--pace", pace, "--projections", names]
                supervisor.add(part_child(settings, part, pace, None, arguments))
            continue
        for number in range(settings.workers if part == "http" else 1):
            supervisor.add(part_child(settings, part, number, listener))
    supervisor.on_change = tell_others
    set_loading(settings.data, "The demonstration history is being loaded" if demo else "")
    tell_others()
    if listener is not None:
        with progress("starting HTTP"):
            supervisor.wait_for(
                answers(f"{settings.local_url}/{'healthz' if demo else 'readyz'}"), every_s=0.05
            )
    if demo:
        with progress("loading the demonstration history"):
            load_demo(settings, supervisor)
            if "projectors" in parts:
                supervisor.wait_for(caught_up(settings.database_url or ""), every_s=0.1)
        set_loading(settings.data, "")
        if listener is not None:
            supervisor.wait_for(answers(f"{settings.local_url}/readyz"), every_s=0.05)
    supervisor.was_ready = True
    if listener is not None:
        print(
            f"touchlog is ready at {settings.public_url} (sign in with the key in {settings.data / 'admin.key'})",
            flush=True,
        )
    else:
        print(f"touchlog runs {', '.join(parts)}", flush=True)
    supervisor.watch_until_stopped()


def start_postgres(settings: Settings, supervisor: Supervisor) -> Settings:
    """Start the embedded PostgreSQL; gives the settings with its URL."""
    from adapters.embedded.postgres import Postgres
    from bin.supervisor import Child

    log_file = settings.data / "logs" / "postgres.log"
    with progress("starting PostgreSQL"):
        postgres = Postgres(settings.data)
        postgres.prepare(log_file)
        child = Child(
            name="postgres",
            rank=0,
            start=lambda: postgres.start(log_file),
            log_file=log_file,
            stop_signals=postgres.stop_signals,
            stop_timeout_s=6 * settings.stop_timeout_s,
            is_ready=postgres.is_ready,
            after_stop=postgres.tidy,
        )
        supervisor.add(child)
        supervisor.wait_for(lambda: child.stands)
    return replace(settings, database_url=postgres.url)


def start_nats(settings: Settings, supervisor: Supervisor) -> Settings:
    """Start the embedded nats-server; gives the settings with its URL."""
    from adapters.embedded.nats import Nats, users_of
    from bin.supervisor import Child

    log_file = settings.data / "logs" / "nats.log"
    with progress("starting NATS"):
        nats = Nats(settings.data, secret_file=settings.secret_file, subject_prefix=settings.subject_prefix)
        supervisor.end_orphan("nats")
        nats.prepare(users_of(settings.database_url or ""))
        child = Child(
            name="nats",
            rank=1,
            start=lambda: nats.start(log_file),
            log_file=log_file,
            stop_signals=nats.stop_signals,
            stop_timeout_s=settings.stop_timeout_s,
            is_ready=lambda _: nats.is_ready(),
            is_stuck=lambda: nats.is_stuck(log_file),
        )
        supervisor.add(child)
        supervisor.wait_for(lambda: child.stands)
    return replace(settings, nats_url=nats.url)


def load_demo(settings: Settings, supervisor: Supervisor) -> None:
    """Run the loader of the demonstration history to its end; a log that holds something is left alone.

    Raises:
        Unavailable: the loader failed; names its log.
    """
    from adapters.embedded.processes import end

    loader = part_child(settings, "demo", 0, None)
    process = loader.start()
    try:
        supervisor.wait_for(lambda: process.poll() is not None)
    finally:
        end(process, (signal.SIGTERM,), settings.stop_timeout_s)
    if process.returncode != 0:
        raise Unavailable(f"The demonstration history could not be loaded; see {loader.log_file}.")


def caught_up(database_url: str, within_s: float = 60.0) -> Callable[[], bool]:
    """Make the question whether every read model has seen what is in the log now; whoever cannot in time is not waited for."""
    import psycopg

    deadline_s = time.monotonic() + within_s
    wanted: int | None = None

    def asked() -> bool:
        nonlocal wanted
        with (
            suppress(psycopg.Error),
            psycopg.connect(database_url, autocommit=True, connect_timeout=5) as conn,
        ):
            if wanted is None:
                row = conn.execute("SELECT position FROM touchpoint_log.head").fetchone()
                wanted = row[0] if row else 0
            behind = conn.execute(
                "SELECT count(*) FROM touchlog.projections WHERE state = 'live' AND position < %s", (wanted,)
            ).fetchone()
            if behind == (0,):
                return True
        return time.monotonic() > deadline_s

    return asked


def part_name(part: str, which: int | str = 0) -> str:
    """Name the process: http processes are numbered from the second on, projectors that are not live tell their pace."""
    if isinstance(which, int):
        return f"{part}-{which + 1}" if which else part
    return part if which == PACES[0] else f"{part}-{which}"


def part_child(
    settings: Settings,
    part: str,
    which: int | str,
    listener: socket.socket | None,
    arguments: Sequence[str] = (),
) -> Child:
    """Describe one part as a child of the supervisor."""
    from adapters.embedded.processes import spawn
    from bin.supervisor import Child

    log_file = settings.data / "logs" / f"{part}.log"
    command: list[str | Path] = [sys.executable, "-m", "bin.parts", part, "--data", settings.data, *arguments]
    descriptors: list[int] = []
    if part == "http" and listener is not None:
        descriptors = [listener.fileno()]
        command += ["--fd", str(listener.fileno())]
    # The code is found from wherever we were started; a folder named bin/ in the working directory is not.
    # What the caller's PYTHONPATH adds (projections of another distribution) stands behind ours.
    environment = settings.environment()
    paths = [str(ROOT), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    environment |= {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "PYTHONSAFEPATH": "1",
    }

    def start() -> subprocess.Popen[bytes]:
        descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return spawn(
                command,
                log=descriptor,
                death_signal=signal.SIGTERM,
                env=environment,
                pass_fds=descriptors,
            )
        finally:
            os.close(descriptor)

    return Child(
        name=part_name(part, which),
        rank=2,
        start=start,
        log_file=log_file,
        stop_timeout_s=settings.stop_timeout_s,
    )


@contextmanager
def sole_owner(data: Path) -> Iterator[None]:
    """Own the data folder: one serve at a time.

    Raises:
        Misconfigured: another one does; names its process.
    """
    with (data / "serve.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            owner = lock.read().strip() or "unknown"
            raise Misconfigured(
                f"Another serve (process {owner}) runs on {data}. Stop it, or name another folder with --data."
            ) from None
        lock.seek(0)
        lock.truncate()
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextmanager
def listening(settings: Settings) -> Iterator[socket.socket]:
    """Listen on the host and port of *settings*; connections queue from now on.

    Raises:
        Misconfigured: the address is not ours or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        with ExitStack() as undone:
            undone.enter_context(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG_CONNECTIONS)
            undone.pop_all()
    except OSError as error:
        raise Misconfigured(
            f"Cannot listen on {settings.host} port {settings.port} ({error.strerror}); "
            "choose another with --port (0 takes a free one) or --host."
        ) from error
    with listener:
        yield listener


def answers(url: str) -> Callable[[], bool]:
    """Make the question whether *url* answers 200 now; it tells now and then why not."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    told_at_s = time.monotonic()

    def asked() -> bool:
        nonlocal told_at_s
        try:
            with opener.open(url, timeout=1) as answer:
                return bool(answer.status == 200)
        except HTTPError as refusal:
            reason = f"{refusal.code} {refusal.read(300).decode(errors='replace')}"
        except (OSError, HTTPException) as error:
            reason = str(error)
        if time.monotonic() - told_at_s > 10:
            told_at_s = time.monotonic()
            say(f" not yet: {reason} ...")
        return False

    return asked


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def progress(what: str) -> Iterator[None]:
    """Say what is being done and, afterwards, how long it took."""
    print(f"{what} ...", end="", file=sys.stderr, flush=True)
    started_s = time.monotonic()
    try:
        yield
    except BaseException:
        print(file=sys.stderr, flush=True)
        raise
    print(f" ready in {time.monotonic() - started_s:.1f} s", file=sys.stderr, flush=True)
