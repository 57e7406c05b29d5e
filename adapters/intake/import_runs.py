"""Imports as things: each run of `touchlog ingest` is started on record, listed, and taken back as one.

Nothing of an import is ever removed from the log. `import.retracted` says that from its recording on none
of its events holds; what a later correction says of one of them restores that one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg_pool import AsyncConnectionPool

from adapters.answers.history import Histories
from adapters.intake.ingest import Ingest
from adapters.intake.payloads import event_of
from adapters.principal import Principal
from domain.correction import RETRACTION
from domain.entry import event_id_of, moment
from domain.errors import NotFound, Refused

__all__ = ["SOURCE", "STARTED", "ImportRun", "ImportRuns", "Retraction", "retracted_at"]

SOURCE = "touchlog/imports"
STARTED = "import.started"
_READ_MODELS = ("audit_trail", "contact_history", "conversations", "identities")


class ImportRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of `touchlog ingest`."""

    import_id: str
    started_at: datetime
    finished_at: datetime | None  # None: it is running, or was cut off
    principal: str
    format: str
    files: list[str]
    recorded: int
    corrected: int
    duplicates: int
    conflicts: int
    rejected: int
    retracted_at: datetime | None


class Retraction(msgspec.Struct, frozen=True, kw_only=True):
    """What taking an import back changes, or has changed."""

    import_id: str
    applied: bool  # False: a dry run, or nothing was left to take back
    recorded_events: int  # all that the import brought
    events: int  # those that hold now, and so are taken back
    corrected_events: int  # of these, how many carry corrections, which then apply no more
    persons: int
    persons_left_empty: int  # persons of whom nothing else is known
    conversations: int  # that lose events
    first_at: datetime | None
    last_at: datetime | None
    types: dict[str, int]
    channels: dict[str, int]
    retracted_at: datetime | None  # when it was taken back before
    position: int | None = None


class ImportRuns:
    """Lists imports and takes them back."""

    def __init__(self, pool: AsyncConnectionPool[Any], ingest: Ingest, histories: Histories) -> None:
        self._pool = pool
        self._ingest = ingest
        self._histories = histories

    async def listed(self, import_id: str, principal: Principal, *, files: Sequence[str]) -> None:
        """Note that an import begins, before its first row; once, however often that is asked."""
        named = ("source_day", "", f"{self._ingest.clock().date().isoformat()} {SOURCE}")
        keys = (await self._ingest.subjects.resolve({named: None}))[named]
        nonce = os.urandom(12)
        written = orjson.dumps([name.encode("utf-8", "replace").decode() for name in files])
        sealed = nonce + keys.content.encrypt(nonce, written, _bound(import_id))  # a name can be a person's
        async with self._pool.connection() as conn:
            await conn.execute(
                "INSERT INTO touchlog.imports (import_id, principal, format, key_subject, sealed_files) "
                "VALUES (%s, %s, '', encode(%s, 'hex')::uuid, %s) ON CONFLICT DO NOTHING",
                (import_id, principal.key_id, keys.subject, sealed),
            )

    async def started(
        self, import_id: str, principal: Principal, *, format_name: str, files: Sequence[str]
    ) -> int:
        """Put the begin of an import on record, before its first event; returns its position."""
        event = {
            "specversion": "1.0",
            "id": import_id,
            "source": SOURCE,
            "type": STARTED,
            "data": {
                "import_id": import_id,
                "format": format_name,
                "files": list(files),
                "actor": principal.key_id,
            },
        }
        return await self._append(event, principal)

    async def list(self, *, limit: int = 1000) -> list[ImportRun]:
        """The newest imports first."""
        async with self._pool.connection() as conn:
            rows = await (
                await conn.execute(
                    "SELECT import_id, started_at, finished_at, principal, format, files, recorded, corrected, duplicates, conflicts, rejected, "
                    "key_subject, sealed_files "
                    "FROM touchlog.imports ORDER BY started_at DESC, import_id LIMIT %s",
                    (limit,),
                )
            ).fetchall()
        taken_back = await retracted_at(self._pool, [str(r[0]) for r in rows])
        ciphers = await self._ingest.subjects.ciphers({str(r[11]) for r in rows if r[11] is not None})
        return [
            ImportRun(
                import_id=str(r[0]),
                started_at=r[1],
                finished_at=r[2],
                principal=r[3],
                format=r[4],
                files=r[5] if r[12] is None else _files(str(r[0]), r[12], ciphers[str(r[11])]),
                recorded=r[6],
                corrected=r[7],
                duplicates=r[8],
                conflicts=r[9],
                rejected=r[10],
                retracted_at=taken_back.get(str(r[0])),
            )
            for r in rows
        ]

    async def retract(
        self, import_id: str, principal: Principal, *, reason: str, dry_run: bool = False
    ) -> Retraction:
        """Take back every event of an import, or with *dry_run* tell what that would change.

        Taken back already, and nothing restored since: the answer says so and nothing is recorded.

        Raises:
            NotFound: there is no such import.
            Behind: the read models do not come up to the head.
        """
        import_id = await self._known(import_id)
        found, last_at = await self._looked_at(import_id)
        if dry_run or (found.retracted_at is not None and not found.events):
            return found
        data: dict[str, Any] = {
            "import_id": import_id,
            "reason": reason,
            "event_count": found.events,
            "actor": principal.key_id,
        }
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": await self._free_id(import_id),
            "source": SOURCE,
            "type": RETRACTION,
            "data": data,
        }
        if (
            last_at is not None and last_at >= self._ingest.clock()
        ):  # behind corrections that were given a later time
            event["time"] = moment(last_at + timedelta(microseconds=1))
        position = await self._append(event, principal)
        return msgspec.structs.replace(found, applied=True, position=position)

    async def _append(self, event: dict[str, Any], principal: Principal) -> int:
        inside = Principal(principal.key_id, principal.role, principal.sources, inside=True)
        answer = await self._ingest.accept([event_of(event)], inside, way_in="import", keep=False)
        (result,) = answer.results
        if result.position is None:
            raise Refused(f"{event['type']} was not recorded: {'; '.join(p.detail for p in result.errors)}")
        return result.position  # a conflict: somebody did the same at the same moment

    async def _known(self, text: str) -> str:
        """The id of an import of which *text* is the id, or its beginning."""
        async with self._pool.connection() as conn:
            rows = await (
                await conn.execute(
                    "SELECT import_id FROM touchlog.imports WHERE starts_with(import_id::text, %s) LIMIT 2",
                    (text.strip().lower() or "-",),
                )
            ).fetchall()
        if len(rows) != 1:
            what = "There is no import" if not rows else "Several imports have an id that begins with"
            raise NotFound(f"{what} '{text[:60]}'; `touchlog imports list` shows them all.")
        return str(rows[0][0])

    async def _free_id(self, import_id: str) -> str:
        """The id of the next retraction: an import may be taken back again after parts of it were restored."""
        number = 0
        async with self._pool.connection() as conn:
            while True:
                number += 1
                id_ = _retraction_id(import_id, number)
                row = await (
                    await conn.execute(
                        "SELECT FROM touchpoint_log.keys WHERE stream = %s AND version = 1",
                        (UUID(bytes=event_id_of(SOURCE, id_)),),
                    )
                ).fetchone()
                if row is None:
                    return id_

    async def _looked_at(self, import_id: str) -> tuple[Retraction, datetime | None]:
        """(what stands of an import now, the latest time of a correction or retraction of it)."""
        async with self._pool.connection() as conn:
            row = await (await conn.execute("SELECT position FROM touchpoint_log.head")).fetchone()
            assert row is not None
            await self._histories.moments.wait_until(row[0], models=_READ_MODELS)
            async with conn.transaction():
                await conn.execute(
                    "CREATE TEMPORARY TABLE mine (position bigint PRIMARY KEY, event_id uuid, holds boolean) ON COMMIT DROP"
                )
                await conn.execute(
                    "INSERT INTO mine SELECT position, event_id, bool_or(known_to IS NULL) FROM read.audit_trail "
                    "WHERE import_id = %s GROUP BY position, event_id",
                    (import_id,),
                )
                await conn.execute("ANALYZE mine")
                row = await (await conn.execute(_SUMS)).fetchone()
                assert row is not None
                types = await (await conn.execute(_BY.format("type"))).fetchall()  # one of two words
                channels = await (await conn.execute(_BY.format("channel"))).fetchall()
                last = await (await conn.execute(_LAST, {"import": import_id})).fetchone()
        before = (await retracted_at(self._pool, [import_id])).get(import_id)
        return Retraction(
            import_id=import_id,
            applied=False,
            recorded_events=row[0],
            events=row[1],
            corrected_events=row[2],
            persons=row[3],
            persons_left_empty=row[4],
            conversations=row[5],
            first_at=row[6],
            last_at=row[7],
            types=dict(types),
            channels=dict(channels),
            retracted_at=before,
        ), last[0] if last else None


async def retracted_at(pool: AsyncConnectionPool[Any], import_ids: Sequence[str]) -> dict[str, datetime]:
    """When each import was first taken back; asked of the log itself, so that no read model need be up."""
    streams = {UUID(bytes=event_id_of(SOURCE, _retraction_id(one, 1))): one for one in import_ids}
    async with pool.connection() as conn:
        rows = await (
            await conn.execute(
                "SELECT k.stream, e.recorded_at FROM touchpoint_log.keys k JOIN touchpoint_log.events e ON e.position = k.position "
                "WHERE k.stream = ANY(%s) AND k.version = 1",
                (list(streams),),
            )
        ).fetchall()
    return {streams[stream]: at for stream, at in rows}


def _bound(import_id: str) -> bytes:
    """What the sealed names of an import's files are bound to."""
    return b"import files\x00" + import_id.encode()


def _files(import_id: str, sealed: bytes, cipher: AESGCM | None) -> list[str]:
    """The names of an import's files; none once their key is gone."""
    if cipher is None:
        return []
    return msgspec.json.decode(cipher.decrypt(sealed[:12], sealed[12:], _bound(import_id)), type=list[str])


def _retraction_id(import_id: str, number: int) -> str:
    return f"{import_id}/retracted/{number}"


_SUMS = """
WITH gone AS (SELECT h.* FROM read.contact_history h JOIN mine m ON m.position = h.position AND m.holds WHERE h.known_to IS NULL),
persons AS (SELECT DISTINCT touchlog.person_of(subject) AS person FROM gone),
left_over AS (
    SELECT p.person, EXISTS (
        SELECT FROM read.contact_history h WHERE h.known_to IS NULL
           AND h.subject IN (SELECT i.subject FROM read.identities i WHERE i.person = p.person UNION ALL SELECT p.person)
           AND NOT EXISTS (SELECT FROM mine m WHERE m.position = h.position AND m.holds)) AS stays
      FROM persons p)
SELECT (SELECT count(*) FROM mine), (SELECT count(*) FROM mine WHERE holds),
       (SELECT count(*) FROM mine m WHERE holds AND EXISTS (SELECT FROM touchlog.amendments a WHERE a.target = m.event_id)),
       (SELECT count(*) FROM persons), (SELECT count(*) FROM left_over WHERE NOT stays),
       (SELECT count(DISTINCT c.key) FROM read.conversations_events c JOIN mine m ON m.position = c.position AND m.holds WHERE c.known_to IS NULL),
       (SELECT min(t.occurred_at) FROM read.audit_trail t JOIN mine m ON m.position = t.position AND m.holds WHERE t.known_to IS NULL),
       (SELECT max(t.occurred_at) FROM read.audit_trail t JOIN mine m ON m.position = t.position AND m.holds WHERE t.known_to IS NULL)
"""
_BY = """
SELECT t.{0}, count(*) FROM read.audit_trail t JOIN mine m ON m.position = t.position AND m.holds
 WHERE t.known_to IS NULL GROUP BY 1 ORDER BY 2 DESC, 1
"""
_LAST = """
SELECT max(t.occurred_at) FROM touchlog.amendments a JOIN read.audit_trail t ON t.position = a.position
 WHERE a.target = %(import)s::uuid OR a.target IN (SELECT event_id FROM mine)
"""
