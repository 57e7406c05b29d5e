"""The log on the `eventsourcing` library: our recorder, and the factory that chooses it.

The library's recorder locks the table, sends composite arrays and retries blindly. Ours calls the
function `append` (log_migrations/0005, 0009, 0010): a counter row numbers events without gaps, binary arrays
carry them, and a repeat is told by its key. Everything else of the library holds: its recorder
protocol, its subscriptions, its test cases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import repeat
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from eventsourcing.persistence import (
    IntegrityError,
    Notification,
    ProgrammingError,
    StoredEvent,
)
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore, PostgresFactory
from psycopg import sql

from adapters.postgres import arrays
from adapters.postgres.schema import LOGS
from domain.errors import ClockBehind, FutureTime, Misconfigured, StaleEpoch, Unavailable

__all__ = [
    "APPEND",
    "Appended",
    "ErasedMeanwhile",
    "Factory",
    "Head",
    "Item",
    "LogRecorder",
    "Row",
    "append_parameters",
    "append_statement",
    "connect_log",
    "outcomes",
    "refusal",
]


class Item(NamedTuple):
    """One event on its way into the log."""

    stream: bytes  # 16 bytes: the event id, or the stream of a decision
    type: str
    body: bytes  # canonical JSON, see domain/entry.py
    payload_hash: bytes  # 16 bytes: keyed hash of the payload as its source sent it
    version: int = 1


class Appended(NamedTuple):
    """What became of one item: its position, or that of the first event with its key."""

    status: str  # recorded | duplicate | conflict
    position: int


_appended: Callable[[tuple[str, int]], Appended] = partial(tuple.__new__, Appended)  # at a third of the price


class Head(NamedTuple):
    """The newest position of a log and its clock."""

    position: int
    recorded_at: datetime | None
    epoch: int
    erasures: int
    log_id: UUID


class Row(NamedTuple):
    """One event as the log holds it."""

    position: int
    recorded_at: datetime
    stream: UUID
    version: int
    type: str
    body: bytes


class ErasedMeanwhile(Unavailable):
    """A person was erased between the resolution of the subjects and the append; resolve again."""


def append_statement(schema: str) -> bytes:
    """The one statement of the append path, for *schema* of `LOGS`."""
    assert schema in LOGS
    return f"SELECT * FROM {schema}.append(%s::bigint, %s::bigint, %s::boolean, %b, %b, %b, %b, %b)".encode()  # noqa: S608 - one of two names


APPEND = append_statement("touchpoint_log")


def append_parameters(
    items: Sequence[Item], *, epoch: int | None, erasures: int | None, strict: bool = False
) -> tuple[Any, ...]:
    """The parameters of `append`, packed. *items* must not name one (stream, version) twice."""
    streams, types, bodies, hashes, versions = zip(*items, strict=True)
    return (
        epoch,
        erasures,
        strict,
        arrays.uuids(streams),
        arrays.bigints(versions),
        arrays.uuids(hashes),
        arrays.texts(types),
        arrays.byteas(bodies),
    )


def outcomes(count: int, answer: tuple[Any, ...]) -> list[Appended]:
    """What the row that `append` answered means for each of *count* items, in their order."""
    first, _recorded_at, ordinals, positions, same = answer
    if not ordinals:
        return list(map(_appended, zip(repeat("recorded"), range(first, first + count), strict=False)))
    known = {
        o: Appended("duplicate" if s else "conflict", p)
        for o, p, s in zip(ordinals, positions, same, strict=True)
    }
    results = []
    for ordinal in range(1, count + 1):
        if ordinal in known:
            results.append(known[ordinal])
        else:
            results.append(Appended("recorded", first))
            first += 1
    return results


def refusal(error: psycopg.Error) -> Exception:
    """Our error for one that the functions of the log raised, or *error* itself."""
    text = f"{error.diag.message_primary} {error.diag.message_hint or ''}".strip()
    known: dict[str | None, Callable[[str], Exception]] = {
        "TL001": StaleEpoch,
        "TL002": ErasedMeanwhile,
        "TL003": ClockBehind,
        "TL004": FutureTime,
    }
    return known[error.sqlstate](text) if error.sqlstate in known else error


class LogRecorder(PostgresApplicationRecorder):
    """The library's application recorder on our tables.

    `insert_events` is the library's raw path (all or nothing, `IntegrityError` on a known place in a
    stream); `append` is ours, with an answer per item. Positions are gap-free and in commit order.
    """

    def __init__(self, datastore: PostgresDatastore, *, events_table_name: str = "events") -> None:
        super().__init__(datastore, events_table_name=events_table_name)
        schema = datastore.schema
        if schema not in LOGS:
            raise ProgrammingError(f"The schema of a log is one of {', '.join(LOGS)}, not {schema!r}.")
        self.schema = schema
        self.channel_name = f"{schema}_events"
        self.sql_create_statements = []  # tables come from our migrations, see `create_table`
        self._append = append_statement(schema)
        self._notify = sql.SQL("NOTIFY {}").format(sql.Identifier(self.channel_name))
        table = sql.Identifier(schema, "events")
        self._select = sql.SQL(
            "SELECT position AS notification_id, stream AS originator_id, version AS originator_version, "
            "type AS topic, body AS state FROM {}"
        ).format(table)
        self._bodies = sql.SQL(
            "SELECT position, recorded_at, body FROM {} WHERE position > %s ORDER BY position LIMIT %s"
        ).format(table)
        self._select_stream = sql.SQL(
            "SELECT e.stream AS originator_id, e.version AS originator_version, e.type AS topic, e.body AS state "
            "FROM {} k JOIN {} e ON e.position = k.position WHERE k.stream = %(stream)s AND k.version > %(gt)s "
            "AND k.version <= %(lte)s ORDER BY k.version {} LIMIT %(limit)s"
        )

    def create_table(self) -> None:
        """Nothing to create: `schema.migrate` makes the tables, and the owner runs it."""

    def append(
        self,
        items: Sequence[Item],
        *,
        epoch: int | None = None,
        erasures: int | None = None,
        strict: bool = False,
    ) -> list[Appended]:
        """Append *items* in one commit, and answer for each in order: recorded, duplicate or conflict.

        A key that comes twice within *items* is answered for as the later one of two calls would be.

        Raises:
            StaleEpoch, ClockBehind, ErasedMeanwhile: nothing was recorded.
        """
        if not items:
            return []
        fresh, places = without_repeats(items)
        with (
            self.datastore.get_connection() as conn,
            conn.cursor(binary=True, row_factory=psycopg.rows.tuple_row) as curs,
        ):
            try:
                curs.execute(
                    self._append,
                    append_parameters(fresh, epoch=epoch, erasures=erasures, strict=strict),
                    prepare=True,
                )
            except psycopg.Error as error:
                raise refusal(error) from error
            answer = curs.fetchone()
            assert answer is not None
        results = with_repeats(items, fresh, places, outcomes(len(fresh), answer))
        asked = [i for i, result in enumerate(results) if result.status == "ask"]
        for i, result in zip(
            asked, self.append([items[i] for i in asked], epoch=epoch, erasures=erasures), strict=True
        ):
            results[i] = result
        return results

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """The library's raw path: all or nothing, without a payload hash.

        Not retried: after a lost connection nobody knows whether the commit was done, and the library's
        blind retry would turn that into a false conflict. `append` may be retried safely, by key.
        """
        if not stored_events:
            return []
        items = [
            Item(UUID(str(e.originator_id)).bytes, e.topic, e.state, b"\x00" * 16, e.originator_version)
            for e in stored_events
        ]
        if len({(i.stream, i.version) for i in items}) < len(items):
            raise IntegrityError("One place in a stream is named twice.")
        with self.datastore.get_connection() as conn:
            with conn.cursor(binary=True, row_factory=psycopg.rows.tuple_row) as curs:
                curs.execute(self._append, append_parameters(items, epoch=None, erasures=None, strict=True))
                answer = curs.fetchone()
            assert answer is not None
            conn.execute(self._notify)
        return [answer[0] + i for i in range(len(items))]

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The events of one stream, by version."""
        keys, events = sql.Identifier(self.schema, "keys"), sql.Identifier(self.schema, "events")
        statement = self._select_stream.format(keys, events, sql.SQL("DESC" if desc else "ASC"))
        with self.datastore.get_connection() as conn, conn.cursor() as curs:
            curs.execute(
                statement,
                {
                    "stream": originator_id,
                    "gt": -1 if gt is None else gt,
                    "lte": 2**62 if lte is None else lte,
                    "limit": limit,
                },
                prepare=True,
            )
            return [
                StoredEvent(r["originator_id"], r["originator_version"], r["topic"], bytes(r["state"]))
                for r in curs
            ]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """Events in log order from *start* on, at most *limit*."""
        statement = self._select + sql.SQL(
            " WHERE position >= %(start)s AND position <= %(stop)s AND (%(all)s OR type = ANY(%(topics)s)) "
            "ORDER BY position LIMIT %(limit)s"
        )
        begin = 0 if start is None else start + (not inclusive_of_start)
        with self.datastore.get_connection() as conn, conn.cursor(binary=True) as curs:
            curs.execute(
                statement,
                {
                    "start": begin,
                    "stop": 2**62 if stop is None else stop,
                    "all": not topics,
                    "topics": list(topics),
                    "limit": limit,
                },
                prepare=True,
            )
            return [
                Notification(
                    id=r["notification_id"],
                    originator_id=r["originator_id"],
                    originator_version=r["originator_version"],
                    topic=r["topic"],
                    state=bytes(r["state"]),
                )
                for r in curs
            ]

    def max_notification_id(self) -> int | None:
        """The newest position, or None while the log is empty."""
        return self.head().position or None

    def head(self) -> Head:
        """The newest position with the log's clock, epoch, count of erasures and id."""
        with self.datastore.get_connection() as conn, conn.cursor(row_factory=psycopg.rows.tuple_row) as curs:
            curs.execute(
                sql.SQL(
                    "SELECT position, nullif(recorded_at, '-infinity'), epoch, erasures, log_id FROM {}"
                ).format(sql.Identifier(self.schema, "head"))
            )
            row = curs.fetchone()
        assert row is not None
        return Head(*row)

    def known_at(self, at: datetime) -> int:
        """Resolve a time to a position, closing the log up to it when it is at or after the head's.

        Raises:
            FutureTime: *at* lies in the future.
        """
        with self.datastore.get_connection() as conn, conn.cursor(row_factory=psycopg.rows.tuple_row) as curs:
            try:
                curs.execute(f"SELECT {self.schema}.known_at(%s)", (at,))
            except psycopg.Error as error:
                raise refusal(error) from None
            row = curs.fetchone()
        assert row is not None
        return int(row[0])

    def read(self, after: int, limit: int, *, until: int | None = None) -> Iterator[Row]:
        """Events behind position *after* in log order, at most *limit*, as one binary result."""
        with (
            self.datastore.get_connection() as conn,
            conn.cursor(binary=True, row_factory=psycopg.rows.tuple_row) as curs,
        ):
            curs.execute(
                sql.SQL(
                    "SELECT position, recorded_at, stream, version, type, body FROM {} "
                    "WHERE position > %s AND position <= %s ORDER BY position LIMIT %s"
                ).format(sql.Identifier(self.schema, "events")),
                (after, 2**62 if until is None else until, limit),
                prepare=True,
            )
            for row in curs:
                yield Row(*row)

    def bodies(self, after: int, limit: int) -> list[tuple[int, datetime, bytes]]:
        """(position, recorded_at, body) of the events behind *after*, in order, at most *limit*: what a projector reads."""
        with (
            self.datastore.get_connection() as conn,
            conn.cursor(binary=True, row_factory=psycopg.rows.tuple_row) as curs,
        ):
            curs.execute(self._bodies, (after, limit), prepare=True)
            return curs.fetchall()


def without_repeats(items: Sequence[Item]) -> tuple[Sequence[Item], dict[tuple[bytes, int], int]]:
    """*items* without those whose key came before in them, and (where there are such) the place of each key."""
    keys = [(item[0], item[4]) for item in items]
    if len(set(keys)) == len(items):
        return items, {}
    places: dict[tuple[bytes, int], int] = {}
    fresh: dict[tuple[bytes, int], Item] = {}
    for key, item in zip(keys, items, strict=True):
        places.setdefault(key, len(places))
        fresh.setdefault(key, item)
    return list(fresh.values()), places


def with_repeats(
    items: Sequence[Item],
    fresh: Sequence[Item],
    places: dict[tuple[bytes, int], int],
    results: list[Appended],
) -> list[Appended]:
    """*results* of *fresh*, spread over *items*: a repeat is a duplicate of the first, or in conflict with it."""
    if len(fresh) == len(items):
        return results
    seen: set[tuple[bytes, int]] = set()
    spread = []
    for item in items:
        key = (item.stream, item.version)
        place = places[key]
        result = results[place]
        if key in seen and result.status == "recorded":
            same = fresh[place].payload_hash == item.payload_hash
            result = Appended("duplicate" if same else "conflict", result.position)
        elif key in seen and fresh[place].payload_hash != item.payload_hash:
            # The first of the group was answered for against the log; this one carries another payload.
            # Where the first is in conflict this one may be the recorded payload sent again: asked again.
            result = Appended("ask" if result.status == "conflict" else "conflict", result.position)
        seen.add(key)
        spread.append(result)
    return spread


class Factory(PostgresFactory):
    """The library's infrastructure factory, choosing our recorder.

    Raises:
        Misconfigured: `POSTGRES_ENABLE_DB_FUNCTIONS` is set: that path of the library lets a reader
            that follows the log miss events (measured; see tests/integration/test_gap.py).
    """

    application_recorder_class = LogRecorder

    def __init__(self, env: Any) -> None:
        if str(env.get("POSTGRES_ENABLE_DB_FUNCTIONS", "")).lower() in ("y", "yes", "t", "true", "on", "1"):
            raise Misconfigured(
                "POSTGRES_ENABLE_DB_FUNCTIONS is set. That path of the eventsourcing library numbers events without a "
                "lock, so that a reader can miss some for ever; touchlog refuses to start with it. Unset the variable."
            )
        super().__init__(env)

    def application_recorder(self) -> LogRecorder:
        """Our recorder on the schema that the environment names."""
        return LogRecorder(self.datastore)


def connect_log(
    url: str, schema: str = "touchpoint_log", *, pool: int = 4, role: str | None = None
) -> LogRecorder:
    """The recorder of one log, through the library's factory.

    Args:
        url: a PostgreSQL URL or conninfo string.
        role: the role to work as, usually `touchlog_app`; None works as the role of the URL.
    """
    info = psycopg.conninfo.conninfo_to_dict(url)
    env = {
        "POSTGRES_DBNAME": str(info.get("dbname", "")),
        "POSTGRES_HOST": str(info.get("host", "127.0.0.1")),
        "POSTGRES_PORT": str(info.get("port", 5432)),
        "POSTGRES_USER": str(info.get("user", "")),
        "POSTGRES_PASSWORD": str(info.get("password", "")),
        "POSTGRES_SCHEMA": schema,
        "POSTGRES_POOL_SIZE": str(pool),
        "POSTGRES_ORIGINATOR_ID_TYPE": "uuid",
    }
    factory = Factory(env)
    options = "-c default_transaction_isolation=read\\ committed" + (f" -c role={role}" if role else "")
    factory.datastore.pool.kwargs["options"] = options  # type: ignore[index]
    return factory.application_recorder()
