"""Read models: the same rows live and rebuilt, in whatever batches, raced, killed, in whatever order events came (SEMANTICS §8)."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pytest
from eventsourcing.persistence import StoredEvent
from psycopg import sql

import projections  # noqa: F401 - registers every projection
from adapters.postgres.declared_tables import tables_of
from adapters.postgres.event_log import Item, LogRecorder, connect_log
from adapters.postgres.read_models import LeaseLost, ReadModels
from domain.entry import event_id_of, moment, uuid_text
from projections.projection import PROJECTIONS, Projection
from projections.projector import Projector
from tests.waiting import wait_until

KINDS = ("user", "crm", "loyalty_card", "email", "phone", "anonymous")


def history(seed: int, events: int) -> list[Item]:
    """Make a history in which persons are linked, unlinked ones meet later, orders belong to somebody."""
    chance = random.Random(seed)
    subjects = [
        (str(UUID(int=chance.getrandbits(128), version=4)), chance.choice(KINDS))
        for _ in range(max(4, events // 6))
    ]
    orders = [str(UUID(int=chance.getrandbits(128), version=4)) for _ in range(max(2, events // 10))]
    items = []
    for number in range(events):
        source, at = (
            chance.choice(("shop", "desk")),
            datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=chance.randrange(500)),
        )
        named = chance.sample(subjects, chance.choice((0, 1, 1, 1, 2, 2, 3)))
        named.sort(key=lambda subject: KINDS.index(subject[1]))
        body: dict[str, Any] = {
            "event_id": uuid_text(event_id_of(source, str(number))),
            "source": source,
            "id": str(number),
            "type": chance.choice(("call.ended", "order.placed", "web.page_viewed")),
            "version": 1,
            "occurred_at": moment(at),
            "channel": chance.choice(("phone", "web")),
            "principal": "key:test",
            "data": {"n": number}
            | ({"conversation_id": f"c-{chance.randrange(9)}"} if chance.random() < 0.3 else {}),
        }
        if named:
            body["subjects"] = [(subject, kind, "") for subject, kind in named]
        if chance.random() < 0.3:
            body["references"] = [(chance.choice(orders), "order", "")]
        raw = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        items.append(Item(event_id_of(source, str(number)), body["type"], raw, b"\x00" * 16))
    return items


@pytest.fixture
def log(database_url: str) -> Iterator[LogRecorder]:
    found = connect_log(database_url, role="touchlog_app")
    yield found
    found.datastore.close()


@pytest.fixture
def owner(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as conn:
        yield conn


def fresh() -> list[Projection]:
    """Make instances of all projections that remember nothing."""
    return [type(each)() for each in PROJECTIONS.values()]


class Running:
    """One projector with its own connection; `other` makes it a stranger to the others of this process."""

    def __init__(
        self,
        log: LogRecorder,
        url: str,
        *,
        batch: int = 4000,
        other: str = "",
        store: type[ReadModels] = ReadModels,
    ) -> None:
        self.store = store(url)
        self.store.holder += other
        self.projector = Projector(log, self.store, fresh(), batch=batch)

    def __enter__(self) -> Projector:
        return self.projector

    def __exit__(self, *_: object) -> None:
        self.store.close()


def digest(conn: psycopg.Connection[Any]) -> dict[str, Any]:
    """Read every read model, each table in the order of its rows."""
    return {
        table.name: conn.execute(
            sql.SQL("SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {} t").format(
                sql.Identifier("read", table.name)
            )
        ).fetchone()
        for each in PROJECTIONS.values()
        for table in tables_of(each)
    }


def reset(conn: psycopg.Connection[Any]) -> None:
    """Empty all read models, so that the next projector builds them from zero."""
    for each in PROJECTIONS.values():
        for table in tables_of(each):
            conn.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier("read", table.name)))
    conn.execute("DELETE FROM touchlog.projections")


def rebuilt(
    log: LogRecorder, conn: psycopg.Connection[Any], url: str, *, batch: int = 4000
) -> dict[str, Any]:
    """Build all read models from zero, and give their digest."""
    reset(conn)
    with Running(log, url, batch=batch) as projector:
        assert projector.take_leases()
        projector.catch_up()
        projector.release_leases()
    return digest(conn)


@pytest.mark.parametrize("seed", range(3))
def test_rebuilding_gives_the_rows_of_live_in_batches_of_any_size(
    log: LogRecorder, owner: psycopg.Connection[Any], database_url: str, seed: int
) -> None:
    chance = random.Random(seed)
    items = history(seed, 300)
    with Running(log, database_url, batch=chance.choice((3, 50))) as live:
        assert live.take_leases()
        at = 0
        while at < len(items):
            size = chance.choice((1, 2, 7, 60))
            log.append(items[at : at + size])
            at += size
            if chance.random() < 0.2:
                log.insert_events([StoredEvent(UUID(int=chance.getrandbits(128)), 1, "raw", b"state")])
            if chance.random() < 0.7:
                live.catch_up()
        live.catch_up()
        live.release_leases()
    as_live = digest(owner)
    # but for what only commands, or sources that tell of persons, make
    empty = {name for name, (count, _) in as_live.items() if count == 0}
    assert empty <= {
        "merges",
        "splits",
        "clusters",
        "profile_updates",
        "consent_facts",
        "consent_messages",
        "consent_verdicts",
    }, as_live
    for batch in (1, chance.randint(2, 20), 97, 4000):
        assert rebuilt(log, owner, database_url, batch=batch) == as_live, f"batches of {batch}"


def test_a_projection_that_was_added_later_catches_up_and_then_goes_along(
    log: LogRecorder, owner: psycopg.Connection[Any], database_url: str
) -> None:
    log.append(history(1, 100))
    with Running(log, database_url) as projector:
        projector.take_leases()
        projector.release_leases()
    whole = rebuilt(log, owner, database_url)
    for late in PROJECTIONS:
        owner.execute("DELETE FROM touchlog.projections WHERE name = %s", (late,))
        for table in tables_of(PROJECTIONS[late]):
            owner.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier("read", table.name)))
        with Running(log, database_url, batch=7) as projector:
            assert projector.take_leases()
            projector.catch_up()
            assert set(projector.positions.values()) == {100}
            projector.release_leases()
        assert digest(owner) == whole


def test_while_one_holds_the_lease_another_does_nothing_and_takes_over_when_it_ends(
    log: LogRecorder, owner: psycopg.Connection[Any], database_url: str
) -> None:
    log.append(history(2, 60))
    with (
        Running(log, database_url, batch=10) as first,
        Running(log, database_url, batch=10, other="other") as second,
    ):
        assert first.take_leases()
        first.step()
        assert not second.take_leases()
        assert second.step() == 0
        # The first stops answering; its lease ends.
        owner.execute("UPDATE touchlog.projections SET leased_to = '-infinity'")
        assert second.take_leases()
        second.step()
        with pytest.raises(LeaseLost):
            first.step()
        first.abandon()
        assert not first.take_leases()
        second.catch_up()
        second.release_leases()
        assert first.take_leases()
        assert first.step() == 0
    as_raced = digest(owner)
    assert rebuilt(log, owner, database_url) == as_raced


def done(conn: psycopg.Connection[Any], events: int) -> bool:
    """Say whether all read models have come to the end of the log."""
    found = conn.execute(
        "SELECT count(*) FROM touchlog.projections WHERE position = %s", (events,)
    ).fetchone()
    return found == (len(PROJECTIONS),)


def test_projectors_that_race_for_the_lease_all_the_time_double_nothing_and_lose_nothing(
    log: LogRecorder, owner: psycopg.Connection[Any], database_url: str
) -> None:
    items = [*history(3, 240), *history(4, 4800)[240:]]
    written: list[int] = []  # when all are
    lost: list[int] = []
    together = threading.Barrier(4, timeout=120)

    def race(number: int) -> None:
        chance = random.Random(number)
        with Running(log, database_url, batch=chance.choice((17, 40)), other=str(number)) as projector:
            together.wait()
            while not (written and done(owner, written[0])):
                try:
                    if len(projector.positions) < len(PROJECTIONS):
                        if (
                            chance.random() < 0.05
                        ):  # as if the holder had not answered for the length of a lease
                            owner.execute("UPDATE touchlog.projections SET leased_to = '-infinity'")
                        projector.take_leases()
                    projector.step()
                except (LeaseLost, psycopg.errors.DeadlockDetected, psycopg.errors.UniqueViolation):
                    lost.append(number)
                    projector.abandon()

    def write() -> None:
        at = 0

        def raced() -> bool:
            return bool(lost) or done(owner, at)

        together.wait()
        try:
            while at < 240 or (not lost and at < len(items)):
                log.append(items[at : at + 20])
                at += 20
                if (
                    at >= 240
                ):  # as few as will do: more come only where all are there and nobody lost a race yet
                    wait_until(raced, "a race to be lost, or all to be projected")
        finally:
            written.append(at)

    with ThreadPoolExecutor(4) as threads:
        for each in [threads.submit(write), *(threads.submit(race, n) for n in range(3))]:
            each.result()
    assert lost, "nobody ever lost a race: the test tried nothing"
    as_raced = digest(owner)
    assert rebuilt(log, owner, database_url) == as_raced


class Crash(Exception):
    """What a test throws where a process would be killed."""


class CrashesBeforeTheCommit(ReadModels):
    chance: random.Random  # a test's own: each begins with the same draws, whatever ran before

    def _write(self, conn: psycopg.Connection[Any], *arguments: Any) -> None:
        super()._write(conn, *arguments)
        if self.chance.random() < 0.03:  # a dozen tables are written per batch
            raise Crash


class LosesTheConnectionBeforeTheCommit(ReadModels):
    chance: random.Random

    def _write(self, conn: psycopg.Connection[Any], *arguments: Any) -> None:
        super()._write(conn, *arguments)
        if self.chance.random() < 0.03:
            conn.execute("SET ROLE NONE")
            conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")


class LosesTheAnswerOfTheCommit(ReadModels):
    chance: random.Random

    def save(self, *arguments: Any, **more: Any) -> Any:
        saved = super().save(*arguments, **more)
        if self.chance.random() < 0.3:
            raise Crash
        return saved


@pytest.mark.parametrize(
    ("store", "seed"),
    [(CrashesBeforeTheCommit, 5), (LosesTheConnectionBeforeTheCommit, 6), (LosesTheAnswerOfTheCommit, 7)],
)
def test_a_projector_that_dies_around_the_commit_doubles_nothing_and_loses_nothing(
    log: LogRecorder,
    owner: psycopg.Connection[Any],
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    store: type[ReadModels],
    seed: int,
) -> None:
    monkeypatch.setattr(store, "chance", random.Random(seed), raising=False)
    log.append(history(4, 200))
    crashes, finished = 0, False
    while not finished:
        with Running(log, database_url, batch=9, store=store) as projector:
            try:
                projector.take_leases()
                projector.catch_up()
                finished = True
            except (Crash, psycopg.OperationalError):
                crashes += 1
    assert crashes > 3
    as_crashed = digest(owner)
    assert rebuilt(log, owner, database_url) == as_crashed


def test_a_projector_that_was_abandoned_goes_on_where_its_rows_are(
    log: LogRecorder, owner: psycopg.Connection[Any], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.append(history(6, 200))
    store = CrashesBeforeTheCommit
    monkeypatch.setattr(store, "chance", random.Random(8), raising=False)
    with Running(log, database_url, batch=9, store=store) as projector:
        while not projector.positions or min(projector.positions.values()) < 200:
            try:
                projector.take_leases()
                projector.catch_up()
            except Crash:
                projector.abandon()
    as_abandoned = digest(owner)
    assert rebuilt(log, owner, database_url) == as_abandoned


def known_at_the_end(conn: psycopg.Connection[Any]) -> dict[str, list[Any]]:
    """Read what the read models say in the end, without positions and times of recording.

    Evidence that came before an earlier one is kept beside it (a question about what was known then needs
    it), so of the evidence of one link only the earliest is compared.
    """
    return {
        "contact_history": conn.execute(
            "SELECT subject, occurred_at, type, channel, direction, source, source_id, body FROM read.contact_history ORDER BY source, source_id, subject"
        ).fetchall(),
        "identities": conn.execute(
            "SELECT subject, kind, namespace, cluster, person FROM read.identities ORDER BY subject"
        ).fetchall(),
        "links": conn.execute(
            'SELECT DISTINCT ON (a, b) a, b, occurred_at, source, source_id, place, "cluster" FROM read.links '
            "ORDER BY a, b, occurred_at, source, source_id, place"
        ).fetchall(),
        "references": conn.execute(
            'SELECT DISTINCT ON (reference) reference, occurred_at, source, source_id, subject FROM read."references" '
            "ORDER BY reference, occurred_at, source, source_id"
        ).fetchall(),
    }


@pytest.mark.parametrize("seed", range(3))
def test_events_that_come_in_another_order_give_the_same_rows(
    new_database: Callable[[], str], seed: int
) -> None:
    items = history(seed, 150)
    found = []
    for order in range(3):
        url = new_database()
        log = connect_log(url, role="touchlog_app")
        shuffled = list(items)
        if order:
            random.Random(order).shuffle(shuffled)
        log.append(shuffled)
        with (
            psycopg.connect(url, autocommit=True) as conn,
            Running(log, url, batch=(4000, 40, 7)[order]) as projector,
        ):
            projector.take_leases()
            projector.catch_up()
            found.append(known_at_the_end(conn))
        log.datastore.close()
    for name, rows in found[0].items():
        assert rows, name
        assert found[1][name] == rows, name
        assert found[2][name] == rows, name
