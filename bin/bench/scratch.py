"""A scratch folder with servers of its own, and the physical limits of its disk."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from adapters.embedded import prepare_folders
from adapters.embedded.postgres import Postgres
from adapters.embedded.processes import end
from adapters.postgres.schema import migrate

__all__ = ["Scratch", "fdatasyncs_per_s"]


class Scratch:
    """One PostgreSQL, tuned as `serve` tunes it, in a folder that is thrown away; databases are made on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._undo = ExitStack()
        self._numbers = count(1)
        self._postgres: Postgres | None = None
        self.server_version = ""

    def __enter__(self) -> Self:
        data = self.folder / "server"
        prepare_folders(data)
        log = data / "logs" / "postgres.log"
        postgres = Postgres(data)
        postgres.prepare(log)
        process = postgres.start(log)
        self._undo.callback(end, process, postgres.stop_signals, timeout_s=60)
        postgres.wait_until_ready(process, log)
        self._postgres = postgres
        with psycopg.connect(postgres.url) as conn:
            self.server_version = conn.info.parameter_status("server_version") or ""
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                found = conn.execute("SELECT current_setting(%s)", (name,)).fetchone()
                assert found == ("on",), f"{name} is {found}: a rate without durability is none"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    @property
    def postgres_url(self) -> str:
        """The server's first database; not for data."""
        assert self._postgres is not None
        return self._postgres.url

    def database(self, *, migrated: bool = True) -> str:
        """Make a database; gives its URL."""
        name = f"bench_{next(self._numbers)}"
        return make_database(self.postgres_url, name, migrated=migrated)

    def checkpoint(self) -> None:
        """Write all pages out: the next change of each page goes to the write-ahead log whole."""
        with psycopg.connect(self.postgres_url, autocommit=True) as conn:
            conn.execute("CHECKPOINT")


def make_database(server_url: str, name: str, *, migrated: bool = True) -> str:
    """Make database *name* on the server of *server_url*; gives its URL."""
    with psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    url = urlsplit(server_url)._replace(path=f"/{name}").geturl()
    if migrated:
        migrate(url)
    return url


def fdatasyncs_per_s(folder: Path, *, seconds: float = 0.3) -> float:
    """How many times a second 8 kB reach the disk of *folder* for certain, one after the other."""
    path = folder / "fdatasync.probe"
    sync: Any = getattr(os, "fdatasync", os.fsync)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        page = os.urandom(8192)
        for number in range(64):  # the file's space exists before, as that of a write-ahead log does
            os.pwrite(descriptor, page, number * 8192)
        os.fsync(descriptor)
        times, started = 0, time.perf_counter()
        while (took := time.perf_counter() - started) < seconds:
            os.pwrite(descriptor, page, times % 64 * 8192)
            sync(descriptor)
            times += 1
        return times / took
    finally:
        os.close(descriptor)
        path.unlink()
