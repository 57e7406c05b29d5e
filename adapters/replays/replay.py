"""Replay: history out of the log, in position order, streamed (SEMANTICS §1).

Events come as they hold at one position (`known_at`): corrected ones corrected, those taken back left
out. Amendments are looked for in the log itself, so that the answer needs no projector and is the same
for ever. Only a few thousand events are in memory at a time; of a correction its place is kept, some
200 bytes, and the rest is fetched when its event comes by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from struct import Struct
from threading import Event
from typing import Any

import msgspec
import orjson
import psycopg
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg import sql
from psycopg_pool import AsyncConnectionPool

from adapters.answers.history import Histories
from adapters.answers.identities import Person
from adapters.answers.unsealing import key_ids, opened
from adapters.postgres.schema import APP_ROLE
from domain.correction import CORRECTION, RETRACTION, Amendment, amended, patched, target_of
from domain.entry import Body, Recorded, decode_body, event_id_of, moment, uuid_text

__all__ = [
    "BATCH_BYTES",
    "BATCH_EVENTS",
    "Ciphers",
    "Line",
    "Replay",
    "Selection",
    "Stopped",
    "Tally",
    "owners_of",
]

BATCH_EVENTS = 250
"""Events read at one go (so few stay in the processor's cache: 5,000 are a third slower) …"""
BATCH_BYTES = 8 << 20
"""… or bytes of bodies, whichever comes first."""

Ciphers = Callable[[set[str]], Mapping[str, AESGCM | None]]
"""Gives the content key of each key id; None where it was destroyed (`Subjects.ciphers`)."""


class Stopped(Exception):
    """Somebody asked the replay to stop."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """What of the log is asked for.

    `first` and `last` are positions, inclusive; `since` and `until` cut `occurred_at` (as it holds) to
    `[since, until)`; `owners` are surrogates: events that belong to one of them.
    """

    known_at: int
    first: int = 1
    last: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    types: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    owners: frozenset[str] | None = None
    as_recorded: bool = False

    @property
    def end(self) -> int:
        """The last position that can be in the answer."""
        return self.known_at if self.last is None else min(self.last, self.known_at)


class Named(msgspec.Struct, array_like=True, gc=False):
    """A subject or reference that an event names."""

    surrogate: str
    kind: str
    namespace: str


class Line(msgspec.Struct, gc=False):
    """One event on its way out: of the body what leaves, and nothing that costs time to decode.

    `occurred_at` is text in the one spelling of entries, which sorts as time does; `recorded_us` counts
    microseconds since 1970-01-01 UTC; `data` is JSON.
    """

    event_id: str
    source: str
    id: str
    type: str
    version: int
    occurred_at: str
    channel: str
    direction: str | None = None
    subjects: tuple[Named, ...] = ()
    references: tuple[Named, ...] = ()
    extensions: dict[str, Any] | None = None
    correlation: str | None = None
    causation: str | None = None
    import_id: str | None = msgspec.field(default=None, name="import")
    data: msgspec.Raw = msgspec.Raw(b"{}")
    position: int = 0
    recorded_us: int = 0
    recorded_at: str = ""
    body: bytes = b""  # what it was read from

    @property
    def subject(self) -> str | None:
        """The first subject; None for an event that names nobody."""
        return self.subjects[0].surrogate if self.subjects else None

    @property
    def owner(self) -> str | None:
        """The subject, or reference, in whose history the event stands."""
        named = self.subjects or self.references
        return named[0].surrogate if named else None


class Tally(msgspec.Struct):
    """What was read and what left."""

    events: int = 0
    read: int = 0
    corrected: int = 0  # of those that left
    retracted: int = 0  # left out: their import was taken back
    unreadable: int = 0  # left out: rows that touchlog did not write
    first_position: int | None = None
    last_position: int | None = None
    types: Counter[str] = msgspec.field(default_factory=Counter)


# -- corrections and retractions -----------------------------------------------------------------------


class _Amendments:
    """The amendments known at one position: corrections by place, retractions whole."""

    def __init__(self) -> None:
        self.corrections: dict[str, tuple[int, ...]] = {}  # event id -> positions
        self.retractions: dict[str, list[Amendment]] = {}  # import id -> retractions
        self.moved: set[str] = (
            set()
        )  # event ids of which a correction says that they were about somebody else

    def __bool__(self) -> bool:
        return bool(self.corrections or self.retractions)

    @classmethod
    def known_at(cls, conn: psycopg.Connection[Any], position: int) -> _Amendments:
        """Look through the log up to *position*."""
        found = cls()
        query = sql.SQL(
            "SELECT position, recorded_at, body FROM touchpoint_log.events WHERE type IN ({}, {}) AND position <= {}"
        ).format(CORRECTION, RETRACTION, position)
        for at, recorded_us, raw in _rows(conn, query):
            try:
                body = decode_body(raw)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if body.type == RETRACTION:
                amendment = Amendment(Recorded(at, _time(recorded_us), body), b"")
                found.retractions.setdefault(str(body.data.get("import_id")), []).append(amendment)
                continue
            target = target_of(body)
            if target is None:
                continue
            event_id = uuid_text(event_id_of(*target))
            found.corrections[event_id] = (*found.corrections.get(event_id, ()), at)
            if body.patched_subject is not None:
                found.moved.add(event_id)
        return found

    def fetch(self, conn: psycopg.Connection[Any], event_ids: Iterable[str]) -> dict[str, list[Amendment]]:
        """The corrections of these events, by event id."""
        places = {at: one for one in event_ids for at in self.corrections[one]}
        found: dict[str, list[Amendment]] = {}
        curs = conn.cursor(binary=True)
        curs.execute(
            "SELECT position, recorded_at, body FROM touchpoint_log.events WHERE position = ANY(%s)",
            (list(places),),
            prepare=True,
        )
        for at, recorded_at, body in curs:
            one = Amendment(Recorded(at, recorded_at, decode_body(body)), b"")
            if one.recorded.event.import_id not in self.retractions:  # else it went with its import
                found.setdefault(places[at], []).append(one)
        return found


# -- reading -------------------------------------------------------------------------------------------

_HEADER = b"PGCOPY\n\xff\r\n\x00"
_UNIX_2000_US = 946_684_800_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_fields = Struct(
    "!hiqiqi"
).unpack_from  # number of fields, then length and value of two bigints, length of the body
_BODY_AT = Struct("!hiqiqi").size
_decode_line = msgspec.json.Decoder(Line).decode


def _rows(conn: psycopg.Connection[Any], query: sql.Composable) -> Iterator[tuple[int, int, bytes]]:
    """(position, recorded_at in µs since 1970, body) of each row, as binary COPY: twice as fast as a cursor.

    The server sends one message a row; a row cut in two would be seen.
    """
    with (
        conn.cursor() as curs,
        curs.copy(sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(query)) as copy,
    ):
        for message in copy:
            block = message
            if block[:11] == _HEADER:
                block = block[19:]
            if len(block) <= 2:
                continue  # the trailer
            count, _, position, _, recorded, length = _fields(block)
            body = bytes(block[_BODY_AT:])
            assert count == 3 and len(body) == length, "one message of COPY is one row"  # noqa: PT018
            yield position, recorded + _UNIX_2000_US, body


def _time(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


class Replay:
    """One pass over the log.

    Args:
        url: the database.
        ciphers: where the keys come from, to unseal personal fields; None leaves sealed fields out. Whoever
            gives it has put the disclosure on record before.
    """

    def __init__(self, url: str, selection: Selection, *, ciphers: Ciphers | None = None) -> None:
        self.selection = selection
        self.tally = Tally()
        self.position = selection.first - 1
        self._url = url
        self._ciphers = ciphers
        self._amendments = _Amendments()
        self._stop = Event()
        self._reading: psycopg.Connection[Any] | None = None

    def stop(self) -> None:
        """Let `batches` raise `Stopped` soon; from another thread."""
        self._stop.set()
        if self._reading is not None:
            with suppress(psycopg.Error):
                self._reading.cancel_safe(timeout=5)

    def _connect(self) -> psycopg.Connection[Any]:
        options = f"-c role={APP_ROLE} -c default_transaction_read_only=on"
        return psycopg.connect(self._url, autocommit=True, options=options)

    def batches(self) -> Iterator[list[Line]]:
        """The events asked for, in log order; an empty list where a stretch of the log holds none.

        Raises:
            Stopped: `stop` was called.
            Misconfigured: a sealed field does not open although its key is there.
        """
        asked = self.selection
        try:
            with self._connect() as conn, self._connect() as aside:
                self._reading = conn
                if not asked.as_recorded or asked.owners is not None:
                    self._amendments = _Amendments.known_at(conn, asked.known_at)
                for batch in self._read(conn, self._query(aside)):
                    if self._stop.is_set():
                        raise Stopped
                    yield self._selected(batch, aside)
        except psycopg.errors.QueryCanceled:
            raise Stopped from None
        finally:
            self._reading = None

    def _query(self, conn: psycopg.Connection[Any]) -> sql.Composable:
        asked = self.selection
        parts: list[sql.Composable] = [
            sql.SQL(
                "SELECT position, recorded_at, body FROM touchpoint_log.events WHERE position BETWEEN {} AND {}"
            ).format(asked.first, asked.end)
        ]
        if asked.types:  # no correction changes the type
            parts.append(sql.SQL(" AND type = ANY({}::text[])").format(list(asked.types)))
        if asked.owners is not None:
            parts.append(sql.SQL(" AND position = ANY({}::bigint[])").format(self._candidates(conn)))
        return sql.Composed([*parts, sql.SQL(" ORDER BY position")])

    def _candidates(self, conn: psycopg.Connection[Any]) -> list[int]:
        """Positions among which are all events of the owners, as recorded and as corrected; `_selected` looks closer.

        The history has both, but of an event whose correction came before it only what it is corrected to, and
        nothing of one whose import was taken back before it came.
        """
        rows = conn.execute(
            "SELECT position FROM read.contact_history WHERE subject = ANY(%s::uuid[]) "
            "UNION SELECT position FROM touchpoint_log.keys WHERE stream = ANY(%s::uuid[]) AND version = 1",
            (list(self.selection.owners or ()), list(self._amendments.moved)),
        ).fetchall()
        if self.selection.as_recorded:
            for import_id, retractions in self._amendments.retractions.items():
                rows += conn.execute(
                    "SELECT position FROM touchpoint_log.events WHERE position > %s AND position <= %s "
                    "AND position(%s::bytea IN body) > 0",
                    (
                        min(retraction.recorded.position for retraction in retractions),
                        self.selection.end,
                        f'"import":"{import_id}"'.encode(),
                    ),
                ).fetchall()
        return list({position for (position,) in rows})

    def _read(self, conn: psycopg.Connection[Any], query: sql.Composable) -> Iterator[list[Line]]:
        batch: list[Line] = []
        size, seen_us, text = 0, None, ""
        for position, recorded_us, body in _rows(conn, query):
            if recorded_us != seen_us:  # one time a commit
                seen_us, text = recorded_us, moment(_time(recorded_us))
            self.position = position
            try:
                line = _decode_line(body)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.tally.unreadable += 1  # a row of the library's raw path
                continue
            line.position, line.recorded_us, line.recorded_at, line.body = position, recorded_us, text, body
            batch.append(line)
            size += len(body)
            if len(batch) >= BATCH_EVENTS or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
        yield batch

    def _selected(self, batch: list[Line], aside: psycopg.Connection[Any]) -> list[Line]:
        """The lines that leave, as they hold."""
        tally, asked = self.tally, self.selection
        tally.read += len(batch)
        patches: dict[str, tuple[Body, list[Body]]] = {}  # event id -> (as it holds, its corrections)
        if self._amendments and not asked.as_recorded:
            batch = self._amended(batch, aside, patches)
        since = moment(asked.since) if asked.since is not None else ""
        until = moment(asked.until) if asked.until is not None else "~"
        if since or until != "~":
            batch = [line for line in batch if since <= line.occurred_at < until]
        if asked.channels:
            batch = [line for line in batch if line.channel in asked.channels]
        if asked.owners is not None:
            batch = [line for line in batch if line.owner in asked.owners]
        if self._ciphers is not None:
            self._unseal(batch, patches)
        if batch:
            if tally.first_position is None:
                tally.first_position = batch[0].position
            tally.last_position = batch[-1].position
            tally.events += len(batch)
            tally.types.update([line.type for line in batch])
            if patches:
                tally.corrected += sum(line.event_id in patches for line in batch)
        return batch

    def _amended(
        self,
        batch: list[Line],
        aside: psycopg.Connection[Any],
        patches: dict[str, tuple[Body, list[Body]]],
    ) -> list[Line]:
        known = self._amendments
        touched = [line.event_id for line in batch if line.event_id in known.corrections]
        corrections = known.fetch(aside, touched) if touched else {}
        held: list[Line] = []
        for line in batch:
            stated = corrections.get(line.event_id, [])
            if line.import_id is not None and line.import_id in known.retractions:
                stated = stated + known.retractions[line.import_id]
            if not stated:
                held.append(line)
                continue
            whole = amended(Recorded(line.position, _time(line.recorded_us), decode_body(line.body)), stated)
            if whole is None:
                self.tally.retracted += 1
                continue
            applied = [a for a in stated if not a.retracts] if whole[1] else []
            if not applied:
                held.append(line)
                continue
            event = whole[0].event
            ordered = [a.recorded.event for a in sorted(applied, key=lambda a: a.order)]
            patches[line.event_id] = (event, ordered)
            held.append(_line_of(event, like=line))
        return held

    def _unseal(self, batch: list[Line], patches: dict[str, tuple[Body, list[Body]]]) -> None:
        """Put personal fields in, the keys of the batch fetched at one go."""
        assert self._ciphers is not None
        bodies = [decode_body(line.body) for line in batch]
        corrections = [
            patch for line in batch if line.event_id in patches for patch in patches[line.event_id][1]
        ]
        ciphers = self._ciphers(key_ids([*bodies, *corrections]))
        for line, body in zip(batch, bodies, strict=True):
            data, extensions = opened(body, ciphers)
            for patch in patches[line.event_id][1] if line.event_id in patches else ():
                told, _ = opened(patch, ciphers)
                data = patched(data, (told.get("patch") or {}).get("data") or {})
                if told.get("erased"):
                    data["erased"] = True
            line.data = msgspec.Raw(orjson.dumps(data, option=orjson.OPT_SORT_KEYS))
            line.extensions = extensions


def _line_of(event: Body, *, like: Line) -> Line:
    """A corrected event as a line, at the place of the one that it corrects."""
    return Line(
        event_id=event.event_id,
        source=event.source,
        id=event.id,
        type=event.type,
        version=event.version,
        occurred_at=moment(event.occurred_at),
        channel=event.channel,
        direction=event.direction,
        subjects=tuple(Named(*one) for one in event.subjects),
        references=tuple(Named(*one) for one in event.references),
        extensions=event.extensions,
        correlation=event.correlation,
        causation=event.causation,
        import_id=event.import_id,
        data=msgspec.Raw(orjson.dumps(event.data, option=orjson.OPT_SORT_KEYS)),
        position=like.position,
        recorded_us=like.recorded_us,
        recorded_at=like.recorded_at,
        body=like.body,
    )


_OWNED = """
SELECT o.reference FROM (
    SELECT DISTINCT ON (r.reference) r.reference, r.subject FROM read.references r
     WHERE r.reference IN (SELECT c.reference FROM read.references c WHERE c.subject = ANY(%(subjects)s::uuid[]))
       AND r.known_from <= %(known_at)s AND (r.known_to IS NULL OR r.known_to > %(known_at)s)
     ORDER BY r.reference, r.occurred_at, r.source, r.source_id) o
 WHERE o.subject = ANY(%(subjects)s::uuid[])
"""


async def owners_of(
    pool: AsyncConnectionPool[Any], histories: Histories, ref: str, known_at: int
) -> tuple[Person, frozenset[str]]:
    """(the person whom *ref* names as known at a position, its subjects and the references that are its own).

    Raises:
        Invalid, NotFound, Behind: as `Identities.person`.
    """
    person = await histories.identities.person(ref, known_at=known_at, known=False)
    subjects = [subject["subject"] for subject in person.subjects]
    async with pool.connection() as conn:
        rows = await (await conn.execute(_OWNED, {"subjects": subjects, "known_at": known_at})).fetchall()
    return person, frozenset([*subjects, *(str(reference) for (reference,) in rows)])
