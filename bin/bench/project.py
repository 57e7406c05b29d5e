"""project: how fast the log becomes read models, beside the library's own runner on the same work."""

from __future__ import annotations

import time
from typing import Any, ClassVar
from uuid import UUID

import msgspec
import psycopg
import uvloop
from eventsourcing.application import Application
from eventsourcing.domain import datetime_now_with_tzinfo
from eventsourcing.persistence import StoredEvent, Tracking, Transcoder
from eventsourcing.postgres import PostgresDatastore, PostgresTrackingRecorder
from eventsourcing.projection import Projection as LibraryProjection
from eventsourcing.projection import ProjectionRunner
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

import projections  # noqa: F401 - registers every projection
from adapters.postgres.declared_tables import tables_of
from adapters.postgres.event_log import connect_log
from adapters.postgres.read_models import ReadModels
from bin.bench.load import described, parts_of, templates
from bin.bench.report import Report
from bin.bench.scratch import Scratch
from bin.memory import settle
from domain.entry import Recorded, decode_body
from projections.contact_history import ContactHistory
from projections.projection import PROJECTIONS, Projection
from projections.projector import Projector

EVENTS = 100_000
RUNNER_EVENTS = 2_000


def bench(report: Report, scratch: Scratch) -> None:
    """Measure `project`."""
    url, library_url = scratch.database(), scratch.database(migrated=False)

    async def prepared() -> Any:
        async with parts_of(scratch.folder, url) as parts:
            return await templates(parts)

    made = uvloop.run(prepared())
    settle()  # as the projectors' own process does
    log = connect_log(url, pool=2, role="touchlog_app")
    report.say(f"project: filling the log with {EVENTS:,} events")
    for batch in made.batches(EVENTS // 1000, 1000):
        log.append(batch)
    fill_library(library_url, [(UUID(bytes=item.stream), item.body) for item in made.items(RUNNER_EVENTS)])
    for number in range(report.rounds):
        report.say(f"project: round {number + 1} of {report.rounds}")
        report.baseline("runner", runner_rate(library_url))
        report.figure("history", _ours(url, log, [ContactHistory()]))
        report.figure("all_read_models", _ours(url, log, [type(each)() for each in PROJECTIONS.values()]))
    log.datastore.close()
    report.load = described(
        EVENTS, made.stored_bytes, runner_events=RUNNER_EVENTS, read_models=sorted(PROJECTIONS)
    )
    report.ratio("project.over_runner", "history", "runner")
    report.notes += [
        "history: reading, decoding, a history row per event and the tracking position, from zero, by our projector.",
        (
            "runner: the library's ProjectionRunner with a PostgresTrackingRecorder, the same bodies, decoding and rows, "
            f"one event a transaction as it works; {RUNNER_EVENTS:,} events a round, from its first event to its last."
        ),
    ]


def _ours(url: str, log: Any, chosen: list[Projection]) -> float:
    with psycopg.connect(url, autocommit=True) as conn:
        for each in PROJECTIONS.values():
            for table in tables_of(each):
                conn.execute(
                    sql.SQL("DROP TABLE IF EXISTS {} CASCADE").format(sql.Identifier("read", table.name))
                )
        conn.execute("DELETE FROM touchlog.projections")
    store = ReadModels(url)
    projector = Projector(log, store, chosen)
    projector.take_leases()
    started = time.perf_counter()
    count = projector.catch_up()
    took = time.perf_counter() - started
    projector.release_leases()
    store.close()
    return count / took


# ---- the library's runner ---------------------------------------------------------------------------------


class BenchEvent(msgspec.Struct, frozen=True):
    """An event as the runner hands it on: the body decoded, as our projector has it."""

    originator_id: UUID
    originator_version: int
    event: Recorded
    body: bytes


class BodyMapper:
    """The library's mapper for bodies that are JSON already: decoding is the same as ours."""

    def to_domain_event(self, stored: StoredEvent) -> BenchEvent:
        """Decode one body."""
        event = Recorded(0, datetime_now_with_tzinfo(), decode_body(stored.state))
        return BenchEvent(UUID(str(stored.originator_id)), stored.originator_version, event, stored.state)


class BenchApplication(Application[UUID]):
    """The library's application on its own tables."""

    name = "bench"

    def construct_mapper(self) -> Any:
        return BodyMapper()

    def construct_transcoder(self) -> Transcoder:
        return super().construct_transcoder()


class HistoryView(PostgresTrackingRecorder):
    """The runner's read model: the columns and indexes of ours, one row and the tracking position a transaction."""

    def __init__(self, datastore: PostgresDatastore, **kwargs: Any) -> None:
        super().__init__(datastore, **kwargs)
        self.sql_create_statements += [
            sql.SQL(
                "CREATE TABLE IF NOT EXISTS runner_history (subject uuid NOT NULL, occurred_at timestamptz NOT NULL, "
                "position bigint NOT NULL, recorded_at timestamptz NOT NULL, type text NOT NULL, channel text NOT NULL, "
                "direction text, source text NOT NULL, source_id text NOT NULL, body bytea NOT NULL)"
            ).format(),
            sql.SQL(
                "CREATE INDEX IF NOT EXISTS runner_history_subject ON runner_history (subject, occurred_at)"
            ).format(),
        ]

    def add(self, row: tuple[Any, ...], tracking: Tracking) -> None:
        """Insert one row and move the tracking position."""
        with self.datastore.transaction(commit=True) as curs:
            self._insert_tracking(curs, tracking)
            curs.execute(
                "INSERT INTO runner_history VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                row,
                prepare=True,
            )


class HistoryProjection(LibraryProjection[HistoryView]):
    """A history row per event."""

    name: ClassVar[str] = "runner_history"  # type: ignore[misc]

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        event = domain_event.event.event
        self.view.add(
            (
                UUID(event.subjects[0][0]), event.occurred_at, tracking.notification_id, domain_event.event.recorded_at,
                event.type, event.channel, event.direction, event.source, event.id, domain_event.body,
            ),
            tracking,
        )  # fmt: skip


def _environment(url: str) -> dict[str, str]:
    info = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": info["dbname"],
        "POSTGRES_HOST": info["host"],
        "POSTGRES_PORT": info.get("port", "5432"),
        "POSTGRES_USER": info["user"],
        "POSTGRES_PASSWORD": info.get("password", ""),
        "POSTGRES_ORIGINATOR_ID_TYPE": "uuid",
    }


def fill_library(url: str, events: list[tuple[UUID, bytes]]) -> None:
    application = BenchApplication(env=_environment(url))
    for at in range(0, len(events), 200):
        application.recorder.insert_events(
            [StoredEvent(stream, 1, "call.ended", body) for stream, body in events[at : at + 200]]
        )
    application.close()


def runner_rate(url: str) -> float:
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("DROP TABLE IF EXISTS runner_history")
        for (table,) in conn.execute(
            "SELECT tablename FROM pg_tables WHERE tablename LIKE '%tracking%' AND schemaname = 'public'"
        ).fetchall():
            conn.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(table)))
    with ProjectionRunner(
        application_class=BenchApplication,
        projection_class=HistoryProjection,
        view_class=HistoryView,
        env=_environment(url),
    ) as runner:
        first = None
        while True:
            reached = runner.projection.view.max_tracking_id("bench") or 0
            if first is None and reached:
                first = (reached, time.perf_counter())
            if reached >= RUNNER_EVENTS:
                assert first is not None
                return (reached - first[0]) / (time.perf_counter() - first[1])
            if runner.is_interrupted.is_set():
                runner.run_forever()  # raises what went wrong
            time.sleep(0.002)
