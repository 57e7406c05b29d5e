"""What could not be recorded: kept sealed with its reasons, listed, shown, corrected and tried again."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg_pool import AsyncConnectionPool

from adapters.keys import KeyFile
from adapters.postgres.subjects import Subjects
from domain.errors import NotFound, Problem
from domain.personal import personal_text

__all__ = ["Kept", "Rejected", "Shown"]


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One item that was not recorded, on its way to be kept."""

    status: str  # rejected | conflict
    source: str | None
    source_id: str | None
    type: str | None
    way_in: str
    principal: str
    place: str | None
    problems: list[Problem]
    payload: bytes
    position: int | None = None
    import_id: str | None = None


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One kept item, for people; `payload` only where it was asked for, and None once its key is gone."""

    id: int
    received_at: datetime
    status: str
    state: str
    source: str | None
    source_id: str | None
    type: str | None
    way_in: str
    principal: str
    place: str | None
    problems: list[Problem]
    position: int | None
    brought_by: tuple[
        str | None, ...
    ]  # the imports that brought it, in that order; None: it came by another way
    payload: bytes | None = None

    @property
    def import_id(self) -> str | None:
        """The import that brought it, the last of several."""
        return self.brought_by[-1]


_COLUMNS = "id, received_at, status, state, source, source_id, type, way_in, principal, place, reasons, position, brought_by"
_PLACE = "key_subject, sealed_place, digest"


class Rejected:
    """The kept items of one installation."""

    def __init__(self, pool: AsyncConnectionPool[Any], subjects: Subjects, keys: KeyFile) -> None:
        self.pool = pool
        self._subjects = subjects
        self._keys = keys

    async def keep(self, items: Sequence[Kept]) -> None:
        """Keep *items*; the same payload refused again for the same reasons is kept once, with every import that brought it."""
        day = datetime.now(UTC).date().isoformat()
        named = {("source_day", "", f"{day} {item.source or 'unknown source'}"): None for item in items}
        subjects = await self._subjects.resolve(named)
        rows = []
        for item in items:
            keys = subjects["source_day", "", f"{day} {item.source or 'unknown source'}"]
            reasons = orjson.dumps(
                [msgspec.to_builtins(_without_values(problem)) for problem in item.problems]
            )
            digest = self._keys.payload_hash(
                b"\x00".join(
                    (
                        item.status.encode(),
                        (item.source or "").encode("utf-8", "replace"),
                        item.payload,
                        reasons,
                    )
                )
            )
            nonce = os.urandom(12)
            sealed = nonce + keys.content.encrypt(nonce, item.payload, b"rejected\x00" + digest)
            place = None
            if item.place is not None:  # the name of a file can be a person's
                nonce = os.urandom(12)
                told = item.place.encode("utf-8", "replace")
                place = nonce + keys.content.encrypt(nonce, told, b"rejected place\x00" + digest)
            rows.append(
                (
                    item.status,
                    _stored(item.source),
                    _stored(item.source_id),
                    _stored(item.type),
                    item.way_in,
                    item.principal,
                    place,
                    reasons.decode(),
                    item.position,
                    [item.import_id],
                    keys.subject,
                    sealed,
                    digest,
                )
            )
        rows.sort(key=lambda row: row[-1])  # two that keep the same items wait for each other in one order
        async with self.pool.connection() as conn, conn.cursor() as curs:
            await curs.executemany(
                "INSERT INTO touchlog.rejected (status, source, source_id, type, way_in, principal, sealed_place, reasons, position, brought_by, key_subject, payload, digest) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s::jsonb, %s, %s::uuid[], encode(%s, 'hex')::uuid, %s, %s) "
                "ON CONFLICT (digest) DO UPDATE SET brought_by = rejected.brought_by || EXCLUDED.brought_by "
                "WHERE rejected.state IN ('open', 'dismissed') AND array_position(rejected.brought_by, EXCLUDED.brought_by[1]) IS NULL",
                rows,
            )

    async def list(
        self, *, state: str | None = "open", limit: int = 100, before: int | None = None
    ) -> list[Shown]:
        """Newest first, without payloads."""
        async with self.pool.connection() as conn:
            rows = await (
                await conn.execute(
                    f"SELECT {_COLUMNS}, {_PLACE} FROM touchlog.rejected WHERE (%s::text IS NULL OR state = %s) "  # noqa: S608 - our own columns
                    "AND (%s::bigint IS NULL OR id < %s) ORDER BY id DESC LIMIT %s",
                    (state, state, before, before, limit),
                )
            ).fetchall()
        ciphers = await self._subjects.ciphers({str(row[-3]) for row in rows})
        return [_shown(row, ciphers[str(row[-3])]) for row in rows]

    async def counts(self) -> dict[str, int]:
        """How many are kept, by state."""
        async with self.pool.connection() as conn:
            rows = await (
                await conn.execute("SELECT state, count(*) FROM touchlog.rejected GROUP BY state")
            ).fetchall()
        return dict(rows)

    async def show(self, id_: int) -> Shown:
        """One kept item with its payload.

        Raises:
            NotFound: no item has this number.
        """
        async with self.pool.connection() as conn:
            row = await (
                await conn.execute(
                    f"SELECT {_COLUMNS}, payload, {_PLACE} FROM touchlog.rejected WHERE id = %s",  # noqa: S608 - our own columns
                    (id_,),
                )
            ).fetchone()
        if row is None:
            raise NotFound(f"No rejected item has the number {id_}; `touchlog rejected list` shows them.")
        sealed, subject, _, digest = row[-4:]
        cipher: AESGCM | None = (await self._subjects.ciphers([str(subject)]))[str(subject)]
        payload = (
            None if cipher is None else cipher.decrypt(sealed[:12], sealed[12:], b"rejected\x00" + digest)
        )
        return msgspec.structs.replace(_shown(row, cipher), payload=payload)

    async def settle(self, id_: int, state: str, position: int | None) -> None:
        """Note what became of a retried item: recorded, duplicate or dismissed."""
        async with self.pool.connection() as conn:
            await conn.execute(
                "UPDATE touchlog.rejected SET state = %s, position = coalesce(%s, position), retried_at = clock_timestamp() WHERE id = %s",
                (state, position, id_),
            )


_TELLING = re.compile(r"[A-Za-z0-9_~.-]{0,64}")


def _without_values(problem: Problem) -> Problem:
    """A problem as it may stand in plain: the sender's keys can be names and addresses themselves."""
    steps = (
        step if _TELLING.fullmatch(step) and not personal_text(step) else "…"
        for step in problem.pointer.split("/")
    )
    detail = problem.detail
    if problem.code == "duplicate_key":
        detail = "A key stands twice in one object; the payload shows which."
    elif personal_text(detail):
        detail = "See the payload: the reason names a personal value."
    return Problem("/".join(steps), detail.replace("\x00", ""), problem.code)


def _stored(text: str | None) -> str | None:
    """A text that PostgreSQL can hold; what it cannot stands in the sealed payload."""
    return None if text is None else text.encode("utf-8", "replace").decode().replace("\x00", "")[:1024]


def _shown(row: Sequence[Any], cipher: AESGCM | None) -> Shown:
    """An item, with the place where it stood, which is sealed; None once its key is gone."""
    place, (_, sealed, digest) = row[9], row[-3:]
    if sealed is not None:
        named = cipher and cipher.decrypt(sealed[:12], sealed[12:], b"rejected place\x00" + digest)
        place = named and named.decode()
    return Shown(
        id=row[0],
        received_at=row[1],
        status=row[2],
        state=row[3],
        source=row[4],
        source_id=row[5],
        type=row[6],
        way_in=row[7],
        principal=row[8],
        place=place,
        problems=msgspec.convert(row[10], list[Problem]),
        position=row[11],
        brought_by=tuple(None if each is None else str(each) for each in row[12]),
    )
