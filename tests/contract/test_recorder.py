"""Our recorder against the library's own test cases, and what a stream with expected versions promises.

Of the library's cases these do not apply: the aggregate recorder's expectation that `insert_events` gives
None (ours is an application recorder and gives positions; the case runs on a subclass that keeps them to
itself), and in the factory's case the aggregate, process and tracking recorders (the library's own, which
we do not use).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import InfrastructureFactory, IntegrityError, StoredEvent
from eventsourcing.postgres import (
    PostgresAggregateRecorder,
    PostgresFactory,
    PostgresProcessRecorder,
    PostgresTrackingRecorder,
)
from eventsourcing.tests import persistence as library
from eventsourcing.utils import Environment, get_topic
from psycopg.conninfo import conninfo_to_dict

from adapters.postgres.event_log import Factory, LogRecorder, connect_log
from domain.errors import Misconfigured


class OnOurs:
    """A recorder of ours for a case of the library's."""

    recorder: LogRecorder

    @pytest.fixture(autouse=True)
    def _ours(self, database_url: str) -> Any:
        self.recorder = connect_log(database_url, role="touchlog_app", pool=12)
        yield
        self.recorder.datastore.close()


class TestAsAnApplicationRecorder(OnOurs, library.ApplicationRecorderTestCase[LogRecorder]):
    def create_recorder(self) -> LogRecorder:
        return self.recorder

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestPositionsOfTwoWritersDoNotInterleave(OnOurs, library.NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> LogRecorder:
        return self.recorder


class Taciturn(LogRecorder):
    """Keeps the positions to itself, as an aggregate recorder does."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> None:
        super().insert_events(stored_events, **kwargs)


class TestAsAnAggregateRecorder(OnOurs, library.AggregateRecorderTestCase):
    def create_recorder(self) -> LogRecorder:
        return Taciturn(self.recorder.datastore)


def environment(url: str, **more: str) -> Environment:
    """Give the library's environment for the log at *url*."""
    info = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    return Environment(
        "",
        {
            "PERSISTENCE_MODULE": get_topic(Factory),
            "POSTGRES_DBNAME": info["dbname"],
            "POSTGRES_HOST": info["host"],
            "POSTGRES_PORT": info.get("port", "5432"),
            "POSTGRES_USER": info["user"],
            "POSTGRES_PASSWORD": info.get("password", ""),
            "POSTGRES_SCHEMA": "touchpoint_log",
            "POSTGRES_ORIGINATOR_ID_TYPE": "uuid",
            **more,
        },
    )


class TestOurFactory(library.InfrastructureFactoryTestCase[Factory]):
    @pytest.fixture(autouse=True)
    def _ours(self, database_url: str) -> None:
        self.env = environment(database_url)

    def expected_factory_class(self) -> type[Factory]:
        return Factory

    def expected_application_recorder_class(self) -> type[LogRecorder]:
        return LogRecorder

    def expected_aggregate_recorder_class(self) -> type[PostgresAggregateRecorder]:
        return PostgresAggregateRecorder

    def expected_tracking_recorder_class(self) -> type[PostgresTrackingRecorder]:
        return PostgresTrackingRecorder

    def tracking_recorder_subclass(self) -> type[PostgresTrackingRecorder]:
        return PostgresTrackingRecorder

    def expected_process_recorder_class(self) -> type[PostgresProcessRecorder]:
        return PostgresProcessRecorder


def test_the_factory_is_found_through_the_librarys_environment(database_url: str) -> None:
    factory: Any = InfrastructureFactory.construct(environment(database_url))
    with factory:
        assert type(factory) is Factory
        assert isinstance(factory, PostgresFactory)
        assert type(factory.application_recorder()) is LogRecorder


@pytest.mark.parametrize("word", ["y", "Yes", "true", "ON", "1"])
def test_the_librarys_path_that_loses_events_is_refused_at_the_start(database_url: str, word: str) -> None:
    with pytest.raises(Misconfigured, match="POSTGRES_ENABLE_DB_FUNCTIONS"):
        Factory(environment(database_url, POSTGRES_ENABLE_DB_FUNCTIONS=word))


@pytest.fixture
def recorder(database_url: str) -> Any:
    found = connect_log(database_url, role="touchlog_app", pool=12)
    yield found
    found.datastore.close()


def decided(stream: UUID, version: int, by: str) -> StoredEvent:
    return StoredEvent(stream, version, "consent.given", by.encode())


def test_of_writers_that_decided_on_the_same_version_one_wins_and_the_others_are_told(
    recorder: LogRecorder,
) -> None:
    stream, rivals = uuid4(), 8
    for version in range(1, 11):
        together = Barrier(rivals)

        def decide(rival: int, version: int = version, together: Barrier = together) -> bool:
            together.wait()
            try:
                recorder.insert_events([decided(stream, version, f"rival {rival}")])
            except IntegrityError:
                return False
            return True

        with ThreadPoolExecutor(rivals) as threads:
            won = list(threads.map(decide, range(rivals)))
        assert sum(won) == 1
        assert recorder.select_events(stream)[-1].state == f"rival {won.index(True)}".encode()
    assert [e.originator_version for e in recorder.select_events(stream)] == list(range(1, 11))
    assert recorder.max_notification_id() == 10


def test_a_decision_of_several_events_is_recorded_whole_or_not_at_all(recorder: LogRecorder) -> None:
    stream = uuid4()
    recorder.insert_events([decided(stream, 1, "a"), decided(stream, 2, "a")])
    with pytest.raises(IntegrityError):
        recorder.insert_events([decided(stream, 2, "b"), decided(stream, 3, "b")])
    assert [e.state for e in recorder.select_events(stream)] == [b"a", b"a"]
    assert recorder.insert_events([decided(stream, 3, "c")]) == [3]
