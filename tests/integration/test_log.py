"""The log keeps its promises (SEMANTICS §1): gap-free, append-only, once each, and a clock that only goes on."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import orjson
import psycopg
import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg_pool import AsyncConnectionPool

from adapters.answers.feed import Feed
from adapters.keys import KeyFile
from adapters.postgres.check import check_log
from adapters.postgres.event_log import (
    APPEND,
    Appended,
    ErasedMeanwhile,
    Item,
    LogRecorder,
    append_parameters,
    connect_log,
)
from adapters.postgres.read_models import ReadModels
from adapters.postgres.subjects import Subjects
from adapters.postgres.writer import Writer
from domain.entry import entry, event_id_of, leaf_hash, moment, uuid_text
from domain.errors import ClockBehind, FutureTime, StaleEpoch, Unavailable
from projections.contact_history import ContactHistory
from projections.identities import Identities
from projections.projector import Projector
from tests.cut_connection import CuttingProxy
from tests.waiting import wait_until

TABLES = ("events", "keys")


def item(key: object, payload: object = "", *, type_: str = "call.ended") -> Item:
    """Make a touchpoint as ingest would; *key* is its id, *payload* what tells a repeat from a conflict."""
    raw = event_id_of("test", str(key))
    body = {
        "event_id": uuid_text(raw),
        "source": "test",
        "id": str(key),
        "type": type_,
        "version": 1,
        "occurred_at": "2026-01-31T12:00:00.000000Z",
        "channel": "phone",
        "data": {"payload": str(payload)},
    }
    digest = hashlib.blake2b(str(payload).encode(), digest_size=16).digest()
    return Item(raw, type_, orjson.dumps(body, option=orjson.OPT_SORT_KEYS), digest)


@pytest.fixture
def log(database_url: str) -> Iterator[LogRecorder]:
    """Open the log as the application does."""
    found = connect_log(database_url, role="touchlog_app", pool=12)
    yield found
    found.datastore.close()


@pytest.fixture
def owner(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """Connect as the owner of the tables."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        yield conn


def stored(conn: psycopg.Connection[Any]) -> list[tuple[Any, ...]]:
    return conn.execute(
        "SELECT position, recorded_at, stream, body FROM touchpoint_log.events ORDER BY position"
    ).fetchall()


def assert_sound(conn: psycopg.Connection[Any], *, events: int) -> None:
    """The log has so many events, without a gap, and every column follows from its body."""
    assert list(check_log(conn)) == []
    assert [row[0] for row in stored(conn)] == list(range(1, events + 1))
    assert conn.execute("SELECT position FROM touchpoint_log.head").fetchone() == (events,)
    assert conn.execute("SELECT count(*), count(DISTINCT position) FROM touchpoint_log.keys").fetchone() == (
        events,
        events,
    )


# ---- positions ------------------------------------------------------------------------------------------


def test_conflicts_refusals_and_rollbacks_leave_no_gap(
    log: LogRecorder, owner: psycopg.Connection[Any]
) -> None:
    assert log.append([item(1), item(2)]) == [Appended("recorded", 1), Appended("recorded", 2)]
    assert log.append([item(1), item(3), item(2, "other")]) == [
        Appended("duplicate", 1),
        Appended("recorded", 3),
        Appended("conflict", 2),
    ]
    with pytest.raises(IntegrityError):
        log.append([item(4), item(1)], strict=True)
    with pytest.raises(StaleEpoch):
        log.append([item(5)], epoch=99)
    with pytest.raises(ZeroDivisionError), owner.transaction():
        owner.execute(APPEND, append_parameters([item(6), item(7)], epoch=None, erasures=None))
        raise ZeroDivisionError
    assert log.append([item(8)]) == [Appended("recorded", 4)]
    assert_sound(owner, events=4)


def test_the_check_names_every_kind_of_damage(log: LogRecorder, owner: psycopg.Connection[Any]) -> None:
    log.append([item(n) for n in range(1, 6)])
    assert list(check_log(owner)) == []
    damages = {
        "UPDATE touchpoint_log.events SET type = 'call.missed' WHERE position = 2": (2, "type"),
        "UPDATE touchpoint_log.events SET stream = gen_random_uuid() WHERE position = 3": (
            3,
            "stream column",
        ),
        "UPDATE touchpoint_log.events SET version = 2 WHERE position = 1": (1, "version 2"),
        "DELETE FROM touchpoint_log.events WHERE position = 4": (5, "gap"),
        "DELETE FROM touchpoint_log.events WHERE position = 5": (4, "head says 5"),
        "UPDATE touchpoint_log.keys SET position = 9 WHERE position = 2": (2, "key row"),
        "UPDATE touchpoint_log.events SET recorded_at = recorded_at - interval '1 s' WHERE position = 4": (
            4,
            "before it",
        ),
        "UPDATE touchpoint_log.events SET body = body || ' '::bytea WHERE position = 4": (4, "canonical"),
        'UPDATE touchpoint_log.events SET body = replace(convert_from(body, \'UTF8\'), \'"id":"2"\', \'"id":"7"\')::bytea '
        "WHERE position = 2": (2, "event id"),
    }
    for statement, (position, words) in damages.items():
        with pytest.raises(ZeroDivisionError), owner.transaction():
            for table in TABLES:
                owner.execute(f"ALTER TABLE touchpoint_log.{table} DISABLE TRIGGER {table}_append_only")
            owner.execute(statement)
            rows = owner.execute("SELECT 1").fetchall()
            assert rows
            found = _checked_inside(owner)
            assert any(at == position and words in what for at, what in found), (statement, found)
            raise ZeroDivisionError
    assert list(check_log(owner)) == []


def _checked_inside(conn: psycopg.Connection[Any]) -> list[tuple[int, str]]:
    """Run the check inside the transaction that did the damage."""

    class Inside:
        def __getattr__(self, name: str) -> Any:
            return getattr(conn, name)

        def execute(self, statement: Any, *arguments: Any) -> Any:
            if isinstance(statement, str) and statement.startswith("SET TRANSACTION"):
                return None
            return conn.execute(statement, *arguments)

    return list(check_log(Inside()))  # type: ignore[arg-type]


def test_behind_a_head_that_was_set_back_nothing_is_said_to_be_recorded_that_is_not(
    log: LogRecorder, owner: psycopg.Connection[Any], database_url: str
) -> None:
    """Where events stand already, no other can; and of one key given twice none is."""
    log.append([item(1), item(2)])
    before = stored(owner)
    owner.execute("UPDATE touchpoint_log.head SET position = 0")

    async def through_the_writer() -> None:
        writer = Writer(database_url)
        try:
            with pytest.raises(Unavailable, match="nothing was recorded"):
                await writer.append([item(3)])
        finally:
            await writer.close()

    with pytest.raises(IntegrityError, match=r"none of its keys.*\n.*head stand behind"):
        log.append([item(3)])
    asyncio.run(through_the_writer())
    assert log.append([item(2)]) == [Appended("duplicate", 2)]
    owner.execute("UPDATE touchpoint_log.head SET position = 2")
    with pytest.raises(psycopg.errors.UniqueViolation):
        owner.execute(APPEND, append_parameters([item(3), item(3)], epoch=None, erasures=None))
    assert stored(owner) == before
    assert log.append([item(3)]) == [Appended("recorded", 3)]


# ---- append-only ----------------------------------------------------------------------------------------

CHANGES = (
    "UPDATE touchpoint_log.{table} SET position = position",
    "UPDATE touchpoint_log.{table} SET position = 0 WHERE false",
    "DELETE FROM touchpoint_log.{table}",
    "TRUNCATE touchpoint_log.{table}",
    "TRUNCATE touchpoint_log.events, touchpoint_log.keys CASCADE",
    "MERGE INTO touchpoint_log.{table} t USING (VALUES (1)) v (p) ON t.position = v.p WHEN MATCHED THEN DELETE",
    "INSERT INTO touchpoint_log.keys SELECT * FROM touchpoint_log.keys ON CONFLICT (stream, version) DO UPDATE SET position = 0",
)


@pytest.mark.parametrize("role", ["origin", "replica", "local"])
@pytest.mark.parametrize("table", TABLES)
def test_the_owner_can_neither_change_nor_remove_a_fact_in_any_session_role(
    log: LogRecorder, owner: psycopg.Connection[Any], table: str, role: str
) -> None:
    log.append([item(1), item(2)])
    before = stored(owner)
    owner.execute(f"SET session_replication_role = {role}")
    for change in CHANGES:
        with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
            owner.execute(change.format(table=table))
    for change in ("DELETE FROM touchpoint_log.head", "TRUNCATE touchpoint_log.head"):
        with pytest.raises(psycopg.errors.RestrictViolation, match="append-only"):
            owner.execute(change)
    assert stored(owner) == before
    assert_sound(owner, events=2)


def test_a_group_of_which_all_is_known_changes_nothing_not_even_the_clock(log: LogRecorder) -> None:
    log.append([item(1), item(2)])
    before = log.head()
    assert [one.status for one in log.append([item(2), item(1)])] == ["duplicate"] * 2
    assert log.head() == before


def test_the_application_can_only_append(log: LogRecorder, owner: psycopg.Connection[Any]) -> None:
    log.append([item(1)])
    owner.execute("SET ROLE touchlog_app")
    for schema in ("touchpoint_log", "records_log"):
        for change in (
            "INSERT INTO {}.events SELECT * FROM touchpoint_log.events",
            "INSERT INTO {}.keys SELECT * FROM touchpoint_log.keys",
            "INSERT INTO {}.head DEFAULT VALUES",
            "UPDATE {}.head SET position = 7",
            "UPDATE {}.events SET position = 7",
            "DELETE FROM {}.keys",
            "TRUNCATE {}.events",
            "ALTER TABLE {}.events DISABLE TRIGGER ALL",
            "DROP TABLE {}.events",
            "CREATE TABLE {}.more (a int)",
            "CREATE OR REPLACE FUNCTION {}.refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                owner.execute(change.format(schema))
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        owner.execute("SET session_replication_role = replica")
        owner.execute("SET ROLE touchlog_app; DELETE FROM touchpoint_log.events")
    owner.execute("RESET ROLE")
    assert_sound(owner, events=1)


def test_who_analyses_calls_no_function_of_a_log_and_the_application_those_that_number_and_resolve(
    owner: psycopg.Connection[Any],
) -> None:
    """Also of those that a later migration makes: `append` writes with the rights of the owner."""
    may = (
        "SELECT DISTINCT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = %s "
        "AND has_function_privilege(%s, p.oid, 'EXECUTE') ORDER BY 1"
    )
    for schema in ("touchpoint_log", "records_log"):
        assert owner.execute(may, (schema, "touchlog_analyst")).fetchall() == []
        assert [name for (name,) in owner.execute(may, (schema, "touchlog_app"))] == [
            *("append", "known_at", "position_at", "refuse_change"),
        ]


# ---- the log's clock ------------------------------------------------------------------------------------


def test_one_commit_has_one_time_and_each_is_later_than_the_last(
    log: LogRecorder, owner: psycopg.Connection[Any]
) -> None:
    sizes = [1, 5, 1, 100, 2, 3]
    for number, size in enumerate(sizes):
        log.append([item((number, place)) for place in range(size)])
    found = owner.execute(
        "SELECT recorded_at, count(*), min(position) FROM touchpoint_log.events GROUP BY 1 ORDER BY 3"
    ).fetchall()
    assert [count for _, count, _ in found] == sizes
    times = [at for at, _, _ in found]
    assert all(earlier < later for earlier, later in itertools.pairwise(times))


def test_while_the_clock_stands_behind_appends_go_on_by_microseconds_up_to_a_minute(
    log: LogRecorder, owner: psycopg.Connection[Any]
) -> None:
    log.append([item(1)])
    owner.execute("UPDATE touchpoint_log.head SET recorded_at = clock_timestamp() + interval '55 s'")
    ahead = log.head().recorded_at
    assert ahead is not None
    log.append([item(2)])
    log.append([item(3)])
    assert [row[1] for row in stored(owner)[1:]] == [ahead + timedelta(microseconds=n) for n in (1, 2)]


def test_beside_a_known_key_too_a_commit_is_later_than_the_last_while_the_clock_stands_behind(
    log: LogRecorder, owner: psycopg.Connection[Any]
) -> None:
    log.append([item(1)])
    owner.execute("UPDATE touchpoint_log.head SET recorded_at = clock_timestamp() + interval '40 seconds'")
    log.append([item(2)])
    assert log.append([item(1), item(3)]) == [Appended("duplicate", 1), Appended("recorded", 3)]
    assert log.head().recorded_at == stored(owner)[2][1], "the log's clock goes with it"
    log.append([item(4)])
    times = [row[1] for row in stored(owner)]
    assert times[2:] == [times[1] + timedelta(microseconds=n) for n in (1, 2)]


def test_the_time_of_a_commit_is_read_where_the_head_is_locked_and_not_where_its_transaction_began(
    log: LogRecorder, owner: psycopg.Connection[Any]
) -> None:
    log.append([item(1)])
    for group in ([item(2)], [item(1), item(3)]):
        with owner.transaction():
            (began,) = owner.execute("SELECT clock_timestamp()").fetchall()
            answer = owner.execute(APPEND, append_parameters(group, epoch=None, erasures=None)).fetchone()
            assert answer is not None
            assert answer[1] >= began[0]
    assert_sound(owner, events=3)


def test_a_clock_more_than_a_minute_behind_refuses_with_its_reason_and_recovers(
    log: LogRecorder, owner: psycopg.Connection[Any], database_url: str
) -> None:
    log.append([item(1)])
    owner.execute("UPDATE touchpoint_log.head SET recorded_at = clock_timestamp() + interval '90 s'")
    with pytest.raises(ClockBehind, match=r"60 s behind the head.*Set the clock right"):
        log.append([item(2)])

    async def through_the_writer() -> list[Appended]:
        writer = Writer(database_url)
        try:
            with pytest.raises(ClockBehind, match="60 s behind"):
                await writer.append([item(2)])
            owner.execute("UPDATE touchpoint_log.head SET recorded_at = clock_timestamp()")
            return await writer.append([item(2)])
        finally:
            await writer.close()

    assert asyncio.run(through_the_writer()) == [Appended("recorded", 2)]
    assert_sound(owner, events=2)


@pytest.mark.parametrize("seed", range(3))
def test_known_at_is_the_last_event_recorded_by_then(
    log: LogRecorder, owner: psycopg.Connection[Any], seed: int
) -> None:
    chance = random.Random(seed)
    for number in range(chance.randint(1, 60)):
        log.append([item((number, place)) for place in range(chance.randint(1, 4))])
    times = [row[1] for row in stored(owner)]
    first, last = times[0], datetime.now(UTC)
    asked = [*times, *(t - timedelta(microseconds=1) for t in times), first - timedelta(days=9)]
    asked += [first + (last - first) * chance.random() for _ in range(200)]
    for at in asked:
        assert log.known_at(at) == sum(t <= at for t in times)


def test_no_later_commit_falls_at_or_below_a_time_that_was_resolved(
    log: LogRecorder, owner: psycopg.Connection[Any]
) -> None:
    done = Event()
    answers: list[tuple[datetime, int]] = []

    def ask() -> None:
        while not done.is_set():
            at = datetime.now(UTC)
            answers.append((at, log.known_at(at)))

    def write(writer: int) -> None:
        for number in itertools.count():
            if number >= 60 and len(answers) > 20:
                return
            log.append([item((writer, number, place)) for place in range(1 + number % 3)])

    asking = [Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    done.set()
    for thread in asking:
        thread.join()
    times = [row[1] for row in stored(owner)]
    assert [sum(t <= at for t in times) for at, _ in answers] == [position for _, position in answers]
    assert_sound(owner, events=len(times))


def test_an_empty_log_is_closed_too(log: LogRecorder, owner: psycopg.Connection[Any]) -> None:
    at = datetime.now(UTC)
    assert log.known_at(at) == 0
    # The log's own clock has been moved: even if the machine's is set back, nothing can fall below.
    assert log.head().recorded_at == at
    log.append([item(1)])
    assert log.known_at(at) == 0
    assert stored(owner)[0][1] > at


def test_the_future_is_refused(log: LogRecorder, owner: psycopg.Connection[Any]) -> None:
    with pytest.raises(FutureTime, match="future"):
        log.known_at(datetime.now(UTC) + timedelta(seconds=30))
    with pytest.raises(psycopg.Error, match="lies in the future"):
        owner.execute("SELECT touchpoint_log.known_at(clock_timestamp() + interval '0.9 s')")
    assert log.append([item(1)]) == [Appended("recorded", 1)]
    with owner.transaction():  # what was yet to come when its transaction began has passed by now
        owner.execute("SELECT 1")
        assert owner.execute("SELECT touchpoint_log.known_at(clock_timestamp())").fetchone() == (1,)


# ---- fences ---------------------------------------------------------------------------------------------


def test_a_writer_of_an_earlier_epoch_is_fenced(log: LogRecorder, owner: psycopg.Connection[Any]) -> None:
    epoch = log.head().epoch
    assert log.append([item(1)], epoch=epoch) == [Appended("recorded", 1)]
    owner.execute("UPDATE touchpoint_log.head SET epoch = epoch + 1")
    with pytest.raises(StaleEpoch, match="epoch 1, the database is at epoch 2"):
        log.append([item(2)], epoch=epoch)
    assert log.append([item(2)], epoch=epoch + 1) == [Appended("recorded", 2)]


def test_what_was_resolved_before_an_erasure_is_refused_and_spoils_no_neighbour(
    log: LogRecorder, owner: psycopg.Connection[Any], database_url: str
) -> None:
    owner.execute("UPDATE touchpoint_log.head SET erasures = 1")
    for resolved in (0, 2):
        with pytest.raises(ErasedMeanwhile):
            log.append([item(1)], erasures=resolved)

    async def together() -> list[Any]:
        writer = Writer(database_url, in_flight=1)
        try:
            return await asyncio.gather(
                *(writer.append([item(n)], erasures=n % 2) for n in range(10)), return_exceptions=True
            )
        finally:
            await writer.close()

    answers = asyncio.run(together())
    assert [type(a) for a in answers[::2]] == [ErasedMeanwhile] * 5
    assert sorted(a[0].position for a in answers[1::2]) == [1, 2, 3, 4, 5]
    assert_sound(owner, events=5)


def test_a_fence_that_rises_between_the_two_tries_of_one_append_holds_for_the_second(
    log: LogRecorder, owner: psycopg.Connection[Any]
) -> None:
    log.append([item(1)])
    _epoch, _erasures, _strict, *arrays = append_parameters([item(1), item(2)], epoch=1, erasures=0)
    second = (
        "SELECT known_ordinals FROM touchpoint_log.append_with_known(%b, %b, %b::uuid[], %b::bigint[], %b::uuid[], "
        "%b::text[], %b::bytea[])"
    )
    for epoch, erasures, code in ((2, 0, "TL001"), (0, 0, "TL001"), (1, 1, "TL002"), (1, -1, "TL002")):
        with pytest.raises(psycopg.Error) as refused:
            owner.execute(second, (epoch, erasures, *arrays))
        assert refused.value.sqlstate == code
    assert_sound(owner, events=1)
    assert owner.execute(second, (1, 0, *arrays)).fetchall() == [([1],)]
    assert_sound(owner, events=2)


def test_the_second_try_of_an_append_waits_for_the_commit_before_it_and_numbers_behind_it(
    log: LogRecorder, owner: psycopg.Connection[Any], database_url: str
) -> None:
    log.append([item(1)])

    def again(conn: psycopg.Connection[Any], number: int) -> list[Any]:
        _epoch, _erasures, _strict, *arrays = append_parameters([item(1), item(number)], epoch=1, erasures=0)
        return conn.execute(
            "SELECT first_position, known_ordinals FROM touchpoint_log.append_with_known(%b, %b, %b::uuid[], "
            "%b::bigint[], %b::uuid[], %b::text[], %b::bytea[])",
            (1, 0, *arrays),
        ).fetchall()

    with (
        psycopg.connect(database_url, autocommit=True) as other,
        psycopg.connect(database_url, autocommit=True) as watching,
        ThreadPoolExecutor(1) as threads,
    ):
        behind = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
        with owner.transaction():
            assert again(owner, 2) == [(2, [1])]
            waiting = threads.submit(again, other, 3)
            wait_until(
                lambda: watching.execute(behind, (other.info.backend_pid,)).fetchall() == [(True,)],
                "the second to wait for the first",
            )
        assert waiting.result() == [(3, [1])]
    assert_sound(owner, events=3)


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_another_isolation_level_is_refused(owner: psycopg.Connection[Any], level: str) -> None:
    with pytest.raises(psycopg.errors.InvalidTransactionState, match="READ COMMITTED"), owner.transaction():
        owner.execute(f"SET TRANSACTION ISOLATION LEVEL {level}")
        owner.execute(APPEND, append_parameters([item(1)], epoch=None, erasures=None))
    assert stored(owner) == []


# ---- once each ------------------------------------------------------------------------------------------

KEYS = st.integers(0, 5)
PAYLOADS = st.integers(0, 2)
BATCHES = st.lists(st.lists(st.tuples(KEYS, PAYLOADS), max_size=12), max_size=6)


class Oracle:
    """What the log should answer: a dict from key to position and payload."""

    def __init__(self) -> None:
        self.known: dict[Any, tuple[int, Any]] = {}

    def append(self, batch: list[tuple[Any, Any]]) -> list[Appended]:
        answers = []
        for key, payload in batch:
            if key not in self.known:
                self.known[key] = (len(self.known) + 1, payload)
                answers.append(Appended("recorded", len(self.known)))
            else:
                position, first = self.known[key]
                answers.append(Appended("duplicate" if payload == first else "conflict", position))
        return answers


def test_of_one_key_thrice_in_a_group_each_is_answered_for_itself(log: LogRecorder) -> None:
    batch = [item(1, "a"), item(1, "b"), item(1, "a"), item(2)]
    assert log.append(batch) == [
        Appended("recorded", 1),
        Appended("conflict", 1),
        Appended("duplicate", 1),
        Appended("recorded", 2),
    ]
    # Now the first of the group is itself in conflict, and a later one repeats what is recorded.
    again = [item(1, "b"), item(1, "a"), item(1, "c"), item(1, "b")]
    assert [a.status for a in log.append(again)] == ["conflict", "duplicate", "conflict", "conflict"]


def test_a_key_without_a_hash_is_known_with_another_payload_and_not_with_nobody_knows_which(
    log: LogRecorder, owner: psycopg.Connection[Any]
) -> None:
    """Rows that came past our function may have none: whatever carries their key is a conflict, said as false."""
    one = item(1)
    owner.execute(
        "INSERT INTO touchpoint_log.keys (stream, version, position) VALUES (%s, 1, 1)", (one.stream.hex(),)
    )
    answer = owner.execute(APPEND, append_parameters([item(2), one], epoch=None, erasures=None)).fetchone()
    assert answer is not None
    assert answer[2:] == ([2], [1], [False])
    assert log.append([one]) == [Appended("conflict", 1)]


def test_beside_a_known_key_each_new_one_finds_its_own_event(
    log: LogRecorder, owner: psycopg.Connection[Any]
) -> None:
    log.append([item(1)])
    assert log.append([item(2), item(1), item(3)]) == [
        Appended("recorded", 2),
        Appended("duplicate", 1),
        Appended("recorded", 3),
    ]
    assert log.append([item(2), item(3)]) == [Appended("duplicate", 2), Appended("duplicate", 3)]
    assert_sound(owner, events=3)


def test_a_place_in_a_stream_is_known_by_its_version_too(log: LogRecorder) -> None:
    first, second, third = (item(1)._replace(version=version) for version in (1, 2, 3))
    assert [a.status for a in log.append([first, second])] == ["recorded"] * 2
    assert log.append([third, second]) == [Appended("recorded", 3), Appended("duplicate", 2)]


def test_answers_are_those_of_a_dict_for_any_batches(new_database: Callable[[], str]) -> None:
    database_url = new_database()
    log = connect_log(database_url, role="touchlog_app")
    runs = iter(range(10**9))
    oracle = Oracle()

    @settings(max_examples=150)
    @given(BATCHES)
    def hold(batches: list[list[tuple[int, int]]]) -> None:
        run = next(runs)
        for batch in batches:
            found = log.append([item((run, key), payload) for key, payload in batch])
            assert found == oracle.append([((run, key), payload) for key, payload in batch])

    hold()
    with psycopg.connect(database_url, autocommit=True) as owner:
        assert_sound(owner, events=len(oracle.known))
    log.datastore.close()


@pytest.mark.parametrize(("group", "in_flight"), [(1000, 2), (7, 2), (1, 3)])
def test_many_callers_at_once_are_each_answered_right(
    database_url: str, owner: psycopg.Connection[Any], group: int, in_flight: int
) -> None:
    chance = random.Random(group)
    batches = [
        [(chance.randrange(60), chance.randrange(3)) for _ in range(chance.choice([1, 1, 1, 3, 20]))]
        for _ in range(200)
    ]

    async def all_at_once() -> list[list[Appended]]:
        writer = Writer(database_url, group=group, in_flight=in_flight)
        try:
            return await asyncio.gather(
                *(writer.append([item(key, payload) for key, payload in batch]) for batch in batches)
            )
        finally:
            await writer.close()

    answers = asyncio.run(all_at_once())
    assert_answers_agree(batches, answers, owner)


def assert_answers_agree(
    batches: list[list[tuple[Any, Any]]], answers: list[list[Appended]], owner: psycopg.Connection[Any]
) -> None:
    """Every key was recorded once; all who brought it were told its position, and whether theirs is the payload."""
    first: dict[Any, tuple[int, Any]] = {}
    flat = [
        (key, payload, a)
        for batch, told in zip(batches, answers, strict=True)
        for (key, payload), a in zip(batch, told, strict=True)
    ]
    for key, payload, answer in flat:
        if answer.status == "recorded":
            assert key not in first, f"{key} was recorded twice"
            first[key] = (answer.position, payload)
    for key, payload, answer in flat:
        position, winner = first[key]
        assert answer.position == position
        if answer.status != "recorded":
            assert answer.status == ("duplicate" if payload == winner else "conflict")
    assert_sound(owner, events=len(first))
    bodies = {row[0]: orjson.loads(row[3]) for row in stored(owner)}
    assert {bodies[p]["id"]: bodies[p]["data"]["payload"] for p, _ in first.values()} == {
        str(key): str(payload) for key, (_, payload) in first.items()
    }


@pytest.mark.parametrize("type_", ["lone \ud800 surrogate", "with \x00 in it"], ids=["surrogate", "nul"])
@pytest.mark.parametrize("together", [False, True])
def test_an_item_that_cannot_be_sent_spoils_neither_the_writer_nor_its_neighbours(
    database_url: str, owner: psycopg.Connection[Any], together: bool, type_: str
) -> None:
    bad = item(0)._replace(type=type_)

    async def poisoned() -> list[Any]:
        writer = Writer(database_url)
        try:
            async with asyncio.timeout(60):
                calls = [writer.append([each]) for each in (bad, bad, bad, item(1))]
                if together:
                    return await asyncio.gather(*calls, return_exceptions=True)
                return [(await asyncio.gather(call, return_exceptions=True))[0] for call in calls]
        finally:
            async with asyncio.timeout(60):
                await writer.close()

    *poison, sound = asyncio.run(poisoned())
    assert all(isinstance(each, Exception) for each in poison)
    assert sound == [Appended("recorded", 1)]
    assert_sound(owner, events=1)


# ---- ambiguous commits ----------------------------------------------------------------------------------


def test_a_commit_whose_answer_was_lost_is_repeated_and_stands_once(
    database_url: str, owner: psycopg.Connection[Any]
) -> None:
    async def cut_off() -> list[list[Appended]]:
        async with CuttingProxy(database_url) as proxy:
            writer = Writer(proxy.url, in_flight=1)
            answers = [await writer.append([item("first")])]
            for number in range(6):
                # The request arrives and is committed; the answer never leaves the proxy. Or: not even the request arrives.
                proxy.cut("answer" if number % 2 else "request")
                answers.append(await writer.append([item((number, place)) for place in range(3)]))
            assert proxy.cuts == 6
            await writer.close()
            return answers

    answers = asyncio.run(cut_off())
    assert_sound(owner, events=19)
    assert [[a.position for a in told] for told in answers] == [
        [1],
        *([p, p + 1, p + 2] for p in range(2, 20, 3)),
    ]
    # Where the answer was lost the repeat finds its own events: told as duplicates, at their positions.
    assert {a.status for told in answers[2::2] for a in told} == {"duplicate"}
    assert {a.status for told in answers[1::2] for a in told} == {"recorded"}


def test_one_connection_serves_one_append_after_the_other(database_url: str) -> None:
    async def appended() -> int:
        async with CuttingProxy(database_url) as proxy:
            writer = Writer(proxy.url, in_flight=1)
            for number in range(50):
                await writer.append([item(number)])
            await writer.close()
            return proxy.connections

    assert asyncio.run(appended()) == 1


def test_backends_that_are_ended_under_load_cost_no_event_and_double_none(
    database_url: str, owner: psycopg.Connection[Any]
) -> None:
    async def under_load() -> list[list[Appended]]:
        writer = Writer(database_url)
        finished = asyncio.Event()
        ended = 0

        async def end_backends() -> None:
            nonlocal ended
            while not finished.is_set() or ended < 10:
                found = await asyncio.to_thread(
                    owner.execute,
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' "
                    "AND state = 'active'",
                )
                row = found.fetchone()
                ended += row[0] if row else 0
                if ended >= 10:
                    return

        ending = asyncio.create_task(end_backends())
        answers: list[list[Appended]] = []

        async def call(caller: int) -> None:
            number = 0
            while not ending.done() or number < 5:
                answers.append(await writer.append([item((caller, number, place)) for place in range(4)]))
                number += 1

        async with asyncio.timeout(240):
            await asyncio.gather(*(call(caller) for caller in range(8)))
        finished.set()
        await ending
        await writer.close()
        return answers

    answers = asyncio.run(under_load())
    positions = [a.position for told in answers for a in told]
    assert_sound(owner, events=len(positions))
    assert sorted(positions) == list(range(1, len(positions) + 1))


# ---- the entry ------------------------------------------------------------------------------------------


def test_the_entry_and_its_leaf_follow_from_the_columns(
    log: LogRecorder, owner: psycopg.Connection[Any]
) -> None:
    log.append([item(1), item(2)])
    log_id = str(log.head().log_id)
    for row in log.read(0, 10):
        bytes_ = entry(log_id, row.position, row.recorded_at, row.body)
        line, _, body = bytes_.partition(b"\n")
        assert orjson.loads(line) == {
            "log": log_id,
            "position": row.position,
            "recorded_at": moment(row.recorded_at),
        }
        assert body == row.body
        found = owner.execute(
            'SELECT sha256(\'\\x00\'::bytea || convert_to(format(\'{"log":"%%s","position":%%s,"recorded_at":"%%s"}\', h.log_id, e.position, '
            "to_char(e.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')), 'UTF8') || '\\x0a'::bytea || e.body) "
            "FROM touchpoint_log.events e, touchpoint_log.head h WHERE e.position = %s",
            (row.position,),
        ).fetchone()
        assert found == (leaf_hash(bytes_),)


RAW = (b"state", b"{broken", b'{"a":1}', b"\xff\xfe\x00", b"[]", b"", b'{"a":"\\u0000"}', b"{\xff}")


def test_rows_of_the_librarys_raw_path_disturb_no_reader(
    log: LogRecorder, owner: psycopg.Connection[Any], database_url: str, tmp_path: Any
) -> None:
    log.append([item("before")])
    log.insert_events([StoredEvent(uuid4(), 1, "library.topic", state) for state in RAW])
    log.append([item("after")])
    events = len(RAW) + 2
    assert list(check_log(owner)) == []
    # The view of the analysts, the projector and the feed each see the two that are touchlog's.
    shown = owner.execute("SELECT position FROM read.event_log ORDER BY position").fetchall()
    assert shown == [(1,), (events,)]
    models = ReadModels(database_url)
    projector = Projector(log, models, [ContactHistory(), Identities()])
    assert projector.take_leases()
    assert projector.catch_up() == events
    assert set(projector.positions.values()) == {events}
    models.close()

    async def read() -> tuple[list[int], int]:
        async with AsyncConnectionPool(database_url, open=False, kwargs={"autocommit": True}) as pool:
            feed = Feed(pool, Subjects(pool, KeyFile.open_or_make(tmp_path / "secret.key")))
            page = await feed.page(after=0, limit=100)
            return [e["position"] for e in page.events], page.next

    assert asyncio.run(read()) == ([1, events], events)


def test_rows_that_the_library_wrote_past_our_function_are_accepted(
    owner: psycopg.Connection[Any], log: LogRecorder
) -> None:
    # A row without a key row: inserted by a hand of the owner's, as the library's own SQL would.
    log.append([item(1)])
    owner.execute(
        "INSERT INTO touchpoint_log.events SELECT 2, recorded_at, gen_random_uuid(), 1, 'topic', 'state' FROM touchpoint_log.events"
    )
    owner.execute("UPDATE touchpoint_log.head SET position = 2")
    assert log.append([item(2)]) == [Appended("recorded", 3)]
    assert [n.id for n in log.select_notifications(None, 10)] == [1, 2, 3]
    assert list(check_log(owner)) == []


def test_the_raw_path_tells_a_place_that_is_taken(log: LogRecorder) -> None:
    stream = uuid4()
    log.insert_events([StoredEvent(stream, 1, "t", b"a")])
    with pytest.raises(IntegrityError):
        log.insert_events([StoredEvent(stream, 1, "t", b"a")])
    with pytest.raises(IntegrityError):
        log.insert_events([StoredEvent(stream, 2, "t", b"a"), StoredEvent(stream, 2, "t", b"b")])


# ---- plans ----------------------------------------------------------------------------------------------


def test_plans_made_on_empty_tables_still_use_the_index_when_they_are_full(
    owner: psycopg.Connection[Any],
) -> None:
    owner.prepare_threshold = 0

    def append(items: list[Item]) -> None:
        owner.execute(APPEND, append_parameters(items, epoch=None, erasures=None), binary=True)

    def scans() -> dict[str, tuple[int, int]]:
        owner.execute("SELECT pg_stat_force_next_flush()")
        found = owner.execute(
            "SELECT relname, seq_scan, seq_tup_read FROM pg_stat_user_tables WHERE schemaname = 'touchpoint_log' AND relname <> 'head'"
        )
        return {name: (scanned, read) for name, scanned, read in found}

    # More calls than the five that are planned each for itself, and larger than the planner's guess for an
    # array, so that the one plan that is kept is made now, while a scan of the whole table is cheap.
    for number in range(12):
        append([item(("early", number * 30 + place)) for place in range(60)])
    for start in range(0, 20_000, 2000):
        append([item((start, place)) for place in range(2000)])
    before = scans()
    for start in range(0, 20_000, 2000):
        append([item((start, place)) for place in range(0, 2000, 100)] + [item(("new", start))])
    owner.execute("SELECT touchpoint_log.position_at(now())")
    assert scans() == before
    assert_sound(owner, events=390 + 20_000 + 10)
