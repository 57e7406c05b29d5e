"""The dry run of an import: what the log would answer, with nothing changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from bin.settings import Settings
from domain.errors import Problem

if TYPE_CHECKING:
    from adapters.imports import Rejection, Row
    from adapters.intake.cloudevents import Draft
    from adapters.intake.correcting import Comparison
    from adapters.intake.ingest import Answer, Result
    from adapters.keys import KeyFile

__all__ = ["Trial", "trial"]


class _Standing(NamedTuple):
    """A row whose key stands already, in the log or earlier in these files."""

    event_id: bytes
    digest: bytes
    draft: Draft
    result: Result


class Trial:
    """Tells what the log would answer, and changes nothing: no subject is made, no row kept.

    Args:
        conn: a read-only connection to the log's database; None where there is no log yet.
        keys: the installation's keys, without which no payload hash can be compared.
        correct: whether conflicts would be corrected, and what was taken back restored.
        comparison: tells which of them can be; without one nothing stands in the log.
    """

    def __init__(
        self,
        conn: Any | None,
        keys: KeyFile | None,
        *,
        region: str | None,
        correct: bool = False,
        comparison: Comparison | None = None,
    ) -> None:
        self._conn = conn
        self._keys = keys
        self._region = region
        self._correct = correct
        self._comparison = comparison
        self._seen: dict[bytes, bytes] = {}  # event id -> payload hash, of the rows before
        self._made: dict[bytes, bytes] = {}  # the same of those that would be corrections: the last holds

    async def take(self, rows: Sequence[Row], format_name: str) -> Answer:
        """Answer for a batch as ingest would."""
        from datetime import UTC, datetime

        from adapters.intake.cloudevents import Receipt, draft
        from adapters.intake.ingest import Answer, Result
        from adapters.intake.payloads import Payload, read_payload
        from domain.entry import event_id_of
        from domain.errors import Invalid

        results: list[Result] = []
        stand: list[_Standing] = []  # what a correction might change, or restore
        wanted: list[tuple[int, bytes, bytes]] = []
        drafts: dict[int, Draft] = {}
        receipt = Receipt.of(datetime.now(UTC))
        for place, row in enumerate(rows):
            payload: Payload | None = None
            try:
                payload = row.item if isinstance(row.item, Payload) else read_payload(row.item)
                one = draft(payload, receipt, region=self._region)
            except Invalid as wrong:
                id_ = payload.event.get("id") if payload is not None else None
                results.append(
                    Result("rejected", id=id_ if isinstance(id_, str) else None, errors=wrong.problems)
                )
                continue
            results.append(Result("recorded", id=one.id, errors=one.warnings))
            drafts[place] = one
            wanted.append((place, event_id_of(one.source, one.id), self._hash(payload.canonical)))
        known = await self._known([event_id for _, event_id, _ in wanted])
        for place, event_id, digest in wanted:
            position, before = known.get(event_id, (None, self._seen.get(event_id)))
            if before is None:
                self._seen[event_id] = digest
                continue
            result = results[place]
            result.position = position
            result.status = "duplicate" if before == digest else "conflict"
            if self._correct:
                stand.append(_Standing(event_id, digest, drafts[place], result))
        while (
            stand
        ):  # as a run settles them: of several with one key each is compared with what the one before made
            now: dict[bytes, _Standing] = {}
            stand = [one for one in stand if now.setdefault(one.event_id, one) is not one]
            await self._settle(list(now.values()))
        for result in results:
            if result.status == "conflict":
                where = (
                    f"at position {result.position:,}"
                    if result.position is not None
                    else "earlier in these files"
                )
                result.errors = [
                    Problem(
                        "/id",
                        f"Another payload with this source and id stands {where}. An event is never overwritten: send a correction, or give this one an id of its own.",
                        "conflict",
                    ),
                    *result.errors,
                ]
        count = {
            status: sum(r.status == status for r in results)
            for status in ("recorded", "duplicate", "conflict", "rejected")
        }
        return Answer(results, count["recorded"], count["duplicate"], count["conflict"], count["rejected"], 0)

    async def _settle(self, standing: list[_Standing]) -> None:
        """Tell of which of these, each with a key of its own, a correction would be made."""
        asked = []
        for one in standing:
            made = self._made.get(one.event_id)
            if one.digest == made:
                one.result.status = "duplicate"
            elif made is not None and one.result.status == "duplicate":
                continue  # the first payload sent again takes no correction back
            elif one.result.position is not None:
                asked.append(one)
            elif one.result.status == "conflict":
                one.result.status = "corrected"
                self._made[one.event_id] = one.digest
        if not asked or self._comparison is None:
            return
        were = [one.result.status for one in asked]
        remarks = {
            id(made.result): made.remarks
            for made in await self._comparison.compared([(one.draft, one.result) for one in asked])
        }
        for one, was in zip(asked, were, strict=True):
            if id(one.result) in remarks:
                one.result.status, one.result.errors = "corrected", remarks[id(one.result)]
            elif was == "conflict" and one.result.status == "duplicate" and one.event_id in self._made:
                one.result.status = (
                    "corrected"  # back to what holds now, from what a row before would have made of it
                )
            else:
                continue
            self._made[one.event_id] = one.digest

    async def keep(self, rejections: Sequence[Rejection], format_name: str) -> None:
        """Keep nothing."""

    def _hash(self, canonical: bytes) -> bytes:
        from hashlib import blake2b

        if self._keys is not None:
            return self._keys.payload_hash(canonical)
        return blake2b(canonical, digest_size=16).digest()

    async def _known(self, event_ids: list[bytes]) -> dict[bytes, tuple[int, bytes]]:
        if self._conn is None or not event_ids:
            return {}
        from uuid import UUID

        curs = await self._conn.execute(
            "SELECT stream, position, payload_hash FROM touchpoint_log.keys WHERE stream = ANY(%s) AND version = 1",
            ([UUID(bytes=one) for one in event_ids],),
        )
        return {
            stream.bytes: (position, digest.bytes if digest else b"")
            async for stream, position, digest in curs
        }


@asynccontextmanager
async def trial(
    settings: Settings, database_url: str | None, *, correct: bool = False
) -> AsyncIterator[Trial]:
    """Look at the log, if there is one, through a connection that may only read.

    Raises:
        Misconfigured: the log has events, and the key file that belongs to it is not there.
    """
    import psycopg

    from adapters.keys import FINGERPRINT, KeyFile

    keys = KeyFile.open_or_make(settings.secret_file) if settings.secret_file.exists() else None
    if database_url is None:
        yield Trial(None, keys, region=settings.phone_region, correct=correct)
        return
    options = "-c default_transaction_read_only=on"
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True, options=options) as conn:
        row = await (
            await conn.execute(
                "SELECT to_regclass('touchpoint_log.keys') IS NOT NULL, to_regclass('touchlog.facts') IS NOT NULL"
            )
        ).fetchone()
        if row is None or not all(row):
            yield Trial(None, keys, region=settings.phone_region, correct=correct)
            return
        fact = await (await conn.execute(FINGERPRINT)).fetchone()
        if fact is not None:
            keys = KeyFile.of_database(settings.secret_file, fact[0])
        if not correct or keys is None:
            yield Trial(conn, keys, region=settings.phone_region, correct=correct)
            return
        async with _comparison(database_url, keys, options) as comparison:
            yield Trial(conn, keys, region=settings.phone_region, correct=correct, comparison=comparison)


@asynccontextmanager
async def _comparison(database_url: str, keys: KeyFile, options: str) -> AsyncIterator[Comparison]:
    """What compares payloads with what stands, on connections that may only read."""
    from adapters.answers.history import Histories
    from adapters.intake.correcting import Comparison
    from adapters.postgres.reading_pool import ReadingPool
    from adapters.postgres.subjects import Subjects

    pool = ReadingPool(
        database_url, min_size=1, max_size=2, open=False, kwargs={"autocommit": True, "options": options}
    )
    async with pool:
        subjects = Subjects(pool, keys)
        yield Comparison(subjects, Histories(pool, subjects), pool)
