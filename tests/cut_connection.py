"""A proxy before PostgreSQL that loses a request or an answer at the moment a test chooses."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class CuttingProxy:
    """Listens on loopback and passes bytes on, until it is told to cut."""

    def __init__(self, database_url: str) -> None:
        self._to = conninfo_to_dict(database_url)
        self._server: asyncio.Server | None = None
        self._armed: str | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.cuts = 0
        self.connections = 0
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        known = {name: str(value) for name, value in self._to.items() if value is not None}
        self.url = make_conninfo(**{**known, "host": "127.0.0.1", "port": str(port)})
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()

    def cut(self, what: str) -> None:
        """Lose the next `request` (the server never sees it) or the next `answer` (the client never sees it)."""
        self._armed = what

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        self.connections += 1
        host, port = str(self._to["host"]), self._to.get("port", 5432)
        if host.startswith("/"):
            to_server = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            to_server = await asyncio.open_connection(host, int(str(port)))
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, to_server[1], "request", writer))
                both.create_task(self._pump(to_server[0], writer, "answer", writer))
        finally:
            for end in (writer, to_server[1]):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()
            self._open.discard(task)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        what: str,
        client: asyncio.StreamWriter,
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if self._armed == what:
                    self._armed = None
                    self.cuts += 1
                    client.transport.abort()
                    break
                sink.write(data)
                await sink.drain()
        sink.close()
