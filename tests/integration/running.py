"""Parts that run for the length of some tests: HTTP in a thread of this process, projectors on demand."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg

import projections  # noqa: F401 - registers every projection
from adapters.postgres.event_log import connect_log
from adapters.postgres.read_models import ReadModels
from bin.processes.http import HttpPart
from bin.processes.http import run as run_http
from bin.settings import Settings
from projections.projection import PROJECTIONS
from projections.projector import Projector
from tests.waiting import wait_until


@dataclass
class Served:
    """HTTP as it runs: where, with which key, on which database."""

    url: str
    key: str
    database_url: str
    settings: Settings

    def client(self, key: str | None = None) -> httpx.Client:
        """Make a client with a key, the admin's unless told otherwise; '' is none."""
        key = self.key if key is None else key
        return httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=60,
            trust_env=False,
        )

    def project(self) -> None:
        """Bring every read model up to the head."""
        store = ReadModels(self.database_url)
        reader = connect_log(self.database_url, role="touchlog_app", pool=1)
        projector = Projector(reader, store, PROJECTIONS.values())
        try:
            assert projector.take_leases()
            projector.catch_up()
            projector.release_leases()
        finally:
            store.close()
            reader.datastore.close()

    def records(self) -> int:
        """Count the records log."""
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute("SELECT position FROM records_log.head").fetchone()
        assert row
        return int(row[0])


@contextmanager
def served_http(
    data: Path,
    database_url: str,
    *,
    nats_url: str | None = None,
    subject_prefix: str = "touchlog",
    timezone: str | None = None,
) -> Iterator[Served]:
    """Run HTTP on a free port until the block ends."""
    data.mkdir(parents=True, exist_ok=True)
    environ = {"TOUCHLOG_TIMEZONE": timezone} if timezone else {}
    settings = Settings.load(
        environ,
        data=data,
        database_url=database_url,
        nats_url=nats_url,
        subject_prefix=subject_prefix,
        port=0,
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    parts: list[HttpPart] = []

    def run() -> None:
        async def serve() -> None:
            parts.append(HttpPart(settings))
            await parts[0].serve_on(listener)

        run_http(serve)

    thread = threading.Thread(target=run, name="http", daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with httpx.Client(trust_env=False) as asking:

            def ready() -> bool:
                try:
                    return asking.get(f"{url}/readyz", timeout=20).status_code == 200
                except httpx.TransportError:
                    return False

            wait_until(ready, "HTTP to be ready")
        yield Served(url, (data / "admin.key").read_text().strip(), database_url, settings)
    finally:
        if parts:
            parts[0].should_exit = True
        thread.join(60)
        listener.close()
        assert not thread.is_alive(), "HTTP did not stop"
