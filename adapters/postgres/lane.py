"""One connection that sends one prepared statement over and over: the append path, without a cursor's cost.

psycopg's asynchronous cursor costs half a millisecond a statement, which a group of eight callers pays
for dearly. Here the parameters go to libpq as they are packed, and the answer is read as it comes.
"""

from __future__ import annotations

import asyncio
from struct import Struct, unpack_from
from typing import Any

import psycopg
from psycopg import errors, pq

from adapters.postgres.arrays import BinaryArray
from adapters.postgres.schema import LOGS

__all__ = ["Lane"]

_INT8 = Struct("!q").pack
_NAME = b"append"
_TYPES = "bigint, bigint, boolean, uuid[], bigint[], uuid[], text[], bytea[]"


class Lane:
    """A connection on which `append` of one log is prepared.

    Args:
        url, options: as for psycopg's connect.
    """

    def __init__(self, url: str, schema: str, options: str) -> None:
        assert schema in LOGS
        self._url = url
        self._schema = schema
        self._options = options
        self._conn: psycopg.AsyncConnection[Any] | None = None
        self._news: asyncio.Future[None] | None = None
        self._watched = -1

    @property
    def lost(self) -> bool:
        """Whether there is no connection to send on."""
        return self._conn is None or self._conn.closed

    async def append(self, parameters: tuple[Any, ...]) -> tuple[Any, ...]:
        """Send one group; answers with the row that `append` returns.

        Raises:
            psycopg.Error: as the server told it, or OperationalError where the connection was lost.
        """
        if self.lost:
            await self._connect()
        assert self._conn is not None
        epoch, erasures, strict, *packed = parameters
        values: list[bytes | None] = [
            None if epoch is None else _INT8(epoch),
            None if erasures is None else _INT8(erasures),
            b"\x01" if strict else b"\x00",
        ]
        values += [array.data for array in packed if isinstance(array, BinaryArray)]
        pgconn = self._conn.pgconn
        pgconn.send_query_prepared(_NAME, values, [1] * len(values), result_format=1)
        try:
            while pgconn.flush():
                await self._ready(writing=True)
                pgconn.consume_input()
            found: pq.abc.PGresult | None = None
            while True:
                while pgconn.is_busy():
                    await self._ready()
                    pgconn.consume_input()
                result = pgconn.get_result()
                if result is None:
                    break
                found = found or result
        except asyncio.CancelledError:
            await self.close()  # an answer may still be on its way: this connection cannot be used again
            raise
        assert found is not None
        if found.status != pq.ExecStatus.TUPLES_OK:
            raise errors.error_from_result(found, encoding="utf-8")
        return _row(found)

    async def close(self) -> None:
        """Let go of the connection."""
        if self._watched >= 0:
            asyncio.get_running_loop().remove_reader(self._watched)
            self._watched = -1
        if self._conn is not None:
            await self._conn.close()
            self._conn = None

    async def _connect(self) -> None:
        await self.close()
        conn = await psycopg.AsyncConnection.connect(self._url, autocommit=True, options=self._options)
        numbered = ", ".join(f"${n}" for n in range(1, 9))
        await conn.execute(
            f"PREPARE {_NAME.decode()} ({_TYPES}) AS SELECT * FROM {self._schema}.append({numbered})"  # noqa: S608 - one of two names
        )
        self._conn = conn
        self._watched = conn.pgconn.socket
        asyncio.get_running_loop().add_reader(self._watched, self._heard)

    def _heard(self) -> None:
        if self._news is not None:
            if not self._news.done():
                self._news.set_result(None)
        elif self._watched >= 0 and self._conn is not None:
            # Nobody asked. Either the answer that was just read is reported once more (the loop looked at the
            # socket before it was read), or the server is gone; then the next append connects again.
            try:
                self._conn.pgconn.consume_input()
            except psycopg.OperationalError:
                asyncio.get_running_loop().remove_reader(self._watched)
                self._watched = -1
                self._conn.pgconn.finish()

    async def _ready(self, *, writing: bool = False) -> None:
        """Wait until there is something to read (or room to write)."""
        loop = asyncio.get_running_loop()
        self._news = loop.create_future()
        if writing:
            loop.add_writer(self._watched, self._heard)
        try:
            await self._news
        finally:
            self._news = None
            if writing:
                loop.remove_writer(self._watched)


def _row(result: pq.abc.PGresult) -> tuple[Any, ...]:
    """(first position, nothing, ordinals, positions, same) from the binary answer."""
    first = result.get_value(0, 0)
    assert first is not None
    ordinals = result.get_value(0, 2)
    if ordinals is None:
        return int.from_bytes(first, "big"), None, None, None, None
    return (
        int.from_bytes(first, "big"),
        None,
        _integers(ordinals),
        _integers(result.get_value(0, 3)),
        [bool(flag) for flag in _integers(result.get_value(0, 4))],
    )


def _integers(array: bytes | None) -> list[int]:
    """The elements of a binary array of integers or booleans, none of them null."""
    assert array is not None
    dimensions, _, _ = unpack_from("!iiI", array)
    if not dimensions:
        return []
    (count,) = unpack_from("!i", array, 12)
    found, at = [], 20
    for _ in range(count):
        (length,) = unpack_from("!i", array, at)
        found.append(int.from_bytes(array[at + 4 : at + 4 + length], "big"))
        at += 4 + length
    return found
