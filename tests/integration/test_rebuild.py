"""Rebuilding: beside the read model that answers, as of another moment, over an older one; and what is parked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg import sql

from adapters.postgres import binary_copy, schema
from adapters.postgres.declared_tables import tables_of
from adapters.postgres.event_log import LogRecorder, connect_log
from adapters.postgres.read_models import ReadModels
from adapters.rebuilds import rebuild as rebuilds
from adapters.rebuilds.rebuild import Rebuild, drop
from domain.errors import Refused, Unavailable
from projections.contact_history import ContactHistory, Entry
from projections.projection import PROJECTIONS, Changes, Effective, Projection, Step, Table
from projections.projector import Projector
from tests.integration.test_projector import Running, history

EVENTS = 200
NAMES = sorted(PROJECTIONS)


@pytest.fixture
def log(database_url: str) -> Iterator[LogRecorder]:
    found = connect_log(database_url, role="touchlog_app")
    yield found
    found.datastore.close()


def projected(log: LogRecorder, url: str) -> None:
    """Bring all read models to the head."""
    with Running(log, url) as projector:
        assert projector.take_leases()
        projector.catch_up()
        projector.release_leases()


def digest(url: str, name: str, schema_: str) -> list[Any]:
    """Digest the tables of one read model in one schema."""
    with psycopg.connect(url, autocommit=True) as conn:
        return [
            conn.execute(
                sql.SQL("SELECT count(*), md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {} t").format(
                    sql.Identifier(schema_, table.name)
                )
            ).fetchone()
            for table in tables_of(PROJECTIONS[name])
        ]


def states(url: str, name: str) -> dict[str, tuple[str, int]]:
    """Give (state, position) of every build of one projection, by schema."""
    with psycopg.connect(url, autocommit=True) as conn:
        rows = conn.execute(
            "SELECT schema, state, position FROM touchlog.projections WHERE name = %s", (name,)
        ).fetchall()
    return {schema_: (state, position) for schema_, state, position in rows}


@pytest.mark.parametrize("name", NAMES)
def test_a_rebuild_equals_what_answers_and_takes_its_place(
    log: LogRecorder, database_url: str, name: str
) -> None:
    items = history(8, EVENTS)
    log.append(items[:150])
    projected(log, database_url)
    rebuild = Rebuild(database_url, log, name)
    try:
        assert rebuild.build() == 150
        log.append(items[150:])
        projected(log, database_url)
        live = digest(database_url, name, "read")
        assert [d.only_live + d.only_rebuilt for d in rebuild.compare()] == [0] * len(live)
        retired, _ = rebuild.swap()
    finally:
        rebuild.close()
    assert digest(database_url, name, "read") == live == digest(database_url, name, retired)
    assert states(database_url, name) == {"read": ("live", EVENTS), retired: ("retired", EVENTS)}
    with psycopg.connect(database_url, autocommit=True) as conn:
        assert drop(conn, name, retired)
        with pytest.raises(Refused):
            drop(conn, name, "read")
    log.append(history(9, EVENTS + 20)[EVENTS:])
    projected(log, database_url)
    assert states(database_url, name) == {"read": ("live", EVENTS + 20)}


def test_a_swap_waits_for_who_reads_what_answers_and_comes_again(
    log: LogRecorder, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a long question to the read model that answers, longer than a swap makes others wait behind it
    log.append(history(8, 30))
    projected(log, database_url)
    monkeypatch.setattr(rebuilds, "LOCK_WAIT_MS", 20)
    reader = psycopg.connect(database_url, application_name="the long question")
    reader.execute("SELECT * FROM read.contact_history")
    told: list[str] = []
    asked = Rebuild._held_by

    def and_it_ends(self: Rebuild, live: psycopg.Connection[Any]) -> str:
        told.append(asked(self, live))
        reader.rollback()
        return told[-1]

    monkeypatch.setattr(Rebuild, "_held_by", and_it_ends)
    rebuild = Rebuild(database_url, log, "contact_history")
    try:
        # when it is swapped while that goes on, then it is once that has ended
        rebuild.build()
        rebuild.swap()
        assert len(told) == 1
        assert states(database_url, "contact_history")["read"] == ("live", 30)

        # and where it never ends, it is told that what answered answers, and what to do
        reader.execute("SELECT * FROM read.contact_history")
        monkeypatch.setattr(rebuilds, "SWAP_AGAIN_S", 0)
        monkeypatch.setattr(Rebuild, "_held_by", lambda *_: ", held by the long question")
        rebuild.build()
        with pytest.raises(Unavailable, match=r"held by the long question\. What answered goes on answering"):
            rebuild.swap()
    finally:
        rebuild.close()
        reader.close()
    assert states(database_url, "contact_history")["read"] == ("live", 30)


def test_a_difference_is_named_to_the_row(log: LogRecorder, database_url: str) -> None:
    log.append(history(8, 60))
    projected(log, database_url)
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("DELETE FROM read.contact_history WHERE position = 7")
        conn.execute("UPDATE read.contact_history SET channel = 'fax' WHERE position = 9")
    rebuild = Rebuild(database_url, log, "contact_history")
    try:
        rebuild.build()
        (found,) = rebuild.compare()
    finally:
        rebuild.close()
    assert (found.only_live, found.only_rebuilt) == (1, 2)
    assert sorted((side, row["position"]) for side, row in found.examples) == [
        ("live", 9), ("rebuilt", 7), ("rebuilt", 9),
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_moment_shows_what_was_known_then(log: LogRecorder, database_url: str, name: str) -> None:
    items = history(11, EVENTS)
    log.append(items[:90])
    projected(log, database_url)
    then = digest(database_url, name, "read")
    log.append(items[90:])
    projected(log, database_url)
    rebuild = Rebuild(database_url, log, name, until=90)
    try:
        assert rebuild.build() == 90
        assert digest(database_url, name, rebuild.schema) == then
        with pytest.raises(Refused):
            rebuild.swap()
    finally:
        rebuild.close()
    assert states(database_url, name)[rebuild.schema] == ("moment", 90)


class Later(ContactHistory):
    """The next version of the history."""

    version = ContactHistory.version + 1


def test_a_read_model_of_another_version_is_left_as_it_is(log: LogRecorder, database_url: str) -> None:
    log.append(history(8, 30))
    projected(log, database_url)
    store = ReadModels(database_url)
    try:
        later = Projector(log, store, [Later()])
        assert not later.take_leases()
        assert later.step() == 0
    finally:
        store.close()
    assert states(database_url, "contact_history") == {"read": ("live", 30)}


class Failing(ContactHistory):
    """A history that cannot fold one event."""

    at = 20

    def fold(self, step: Step, changes: Changes) -> None:
        if step.position == self.at:
            raise ValueError("a value nobody thought of")
        super().fold(step, changes)


class CannotHold(ReadModels):
    """A store that cannot hold the row of one event, as PostgreSQL tells it: in the middle of the transaction."""

    at: int | None = 20

    def _write(self, conn: psycopg.Connection[Any], table: Table[Any], changes: Changes) -> None:
        super()._write(conn, table, changes)
        if table.name == "contact_history" and any(
            row.position == self.at for row, _, _ in changes.known_rows(table)
        ):
            conn.execute("SELECT (%s::text || 'x')::int8", ("9" * 30,))


class Mistyped(ContactHistory):
    """A history that makes, of one event, a row with a value that its column cannot be given."""

    at = 20
    channel: Any = None

    def rows(self, event: Effective) -> Iterable[tuple[Table[Entry], Entry]]:
        for table, row in super().rows(event):
            is_it = row.position == self.at
            yield table, msgspec.structs.replace(row, channel=self.channel) if is_it else row


@pytest.mark.parametrize("fails", ["fold", "write", None, "\ud800", 7])
def test_a_failing_event_stops_its_subject_only_and_heals_in_order(
    log: LogRecorder, database_url: str, monkeypatch: pytest.MonkeyPatch, fails: str | int | None
) -> None:
    monkeypatch.setattr(binary_copy, "PIECE_ROWS", 3)
    items = history(8, EVENTS)
    log.append(items)
    projected(log, database_url)
    whole = digest(database_url, "contact_history", "read")
    with psycopg.connect(database_url, autocommit=True) as conn:
        subject, at = next(
            iter(
                conn.execute(
                    "SELECT subject, min(position) FROM read.contact_history GROUP BY 1 HAVING count(*) > 3 ORDER BY 2 LIMIT 1"
                )
            )
        )
        expected = [
            p
            for (p,) in conn.execute(
                "SELECT position FROM read.contact_history WHERE subject = %s ORDER BY 1", (subject,)
            )
        ]
        conn.execute("TRUNCATE read.contact_history")
        conn.execute("DELETE FROM touchlog.projections WHERE name = 'contact_history'")
    store = CannotHold(database_url) if fails == "write" else ReadModels(database_url)

    def run(projection: Projection) -> int:
        projector = Projector(log, store, [projection], batch=17)
        assert projector.take_leases()
        projector.catch_up()
        store.ask_retry()
        healed = projector.retry_parked()
        projector.release_leases()
        return healed

    failing: Projection = ContactHistory()
    if isinstance(store, CannotHold):
        store.at = at
    elif fails == "fold":
        failing = Failing()
        failing.at = at
    else:  # it is met while the rows are packed, behind others that PostgreSQL has been sent already
        failing = Mistyped()
        failing.at, failing.channel = at, fails
    try:
        assert run(failing) == 0
        parked = store.parked("contact_history")
        assert [p.position for p in parked] == expected
        assert [p.culprit for p in parked] == [True] + [False] * (len(expected) - 1)
        with psycopg.connect(database_url, autocommit=True) as conn:
            rows = conn.execute(
                "SELECT count(*) FILTER (WHERE subject = %s), count(*) FROM read.contact_history", (subject,)
            ).fetchone()
        assert rows == (0, whole[0][0] - len(expected))
        if isinstance(store, CannotHold):
            store.at = None
        assert run(ContactHistory()) == len(expected)
        assert store.parked() == []
    finally:
        store.close()
    assert digest(database_url, "contact_history", "read") == whole


OLD_TABLES = """
CREATE TABLE read.contact_history (subject uuid NOT NULL, position bigint NOT NULL, body bytea NOT NULL);
CREATE TABLE read.identities (subject uuid PRIMARY KEY, "cluster" uuid NOT NULL, person uuid NOT NULL);
CREATE TABLE read.links (a uuid, b uuid, position bigint, PRIMARY KEY (a, b, position));
CREATE TABLE read."references" (reference uuid, position bigint, PRIMARY KEY (reference, position));
ALTER TABLE read.contact_history OWNER TO touchlog_app;
ALTER TABLE read.identities OWNER TO touchlog_app;
ALTER TABLE read.links OWNER TO touchlog_app;
ALTER TABLE read."references" OWNER TO touchlog_app;
INSERT INTO touchlog.projections (name, version, position) VALUES ('contact_history', 1, 40), ('identities', 1, 40);
"""


def test_a_database_of_the_first_read_models_migrates_and_builds_them_anew(
    database_server: str, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    every = list(schema._steps())
    latest = {"touchlog": "touchlog/0009_event_log"} | {log: f"{log}/0008_rights" for log in schema.LOGS}
    first = [step for step in every if step[0] <= latest[step[0].partition("/")[0]]]
    assert len(first) == 25, "a migration of the first form was changed or is missing"
    url = new_database()
    with psycopg.connect(url, autocommit=True) as conn:
        for name in ("touchpoint_log", "records_log", "touchlog", "read"):
            conn.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
    with monkeypatch.context() as then:
        then.setattr(schema, "_steps", lambda: iter(first))
        schema.migrate(url)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(OLD_TABLES)
    log = connect_log(url, role="touchlog_app")
    try:
        log.append(history(8, 40))
        assert schema.migrate(url) == [step[0] for step in every if step not in first]
        projected(log, url)
        assert states(url, "contact_history") == {
            "read": ("live", 40),
            "retired_contact_history": ("retired", 40),
        }
        rebuild = Rebuild(url, log, "identities")
        try:
            rebuild.build()
            assert [d.only_live + d.only_rebuilt for d in rebuild.compare()] == [0] * len(
                rebuild.projection.tables
            )
        finally:
            rebuild.close()
        with psycopg.connect(url, autocommit=True, options="-c role=touchlog_app") as conn:
            assert drop(conn, "identities", "retired_identities")
    finally:
        log.datastore.close()
