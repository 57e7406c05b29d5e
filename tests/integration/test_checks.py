"""The continuous check: what differs is found and named to the row; what only moves, waits or is corrected is no difference."""

# ruff: noqa: S608 - the statements are our own
from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import psycopg
import pytest
from typer.testing import CliRunner

from adapters.checking.budget import BURST_S, Budget
from adapters.checking.checker import Checker, check_now
from adapters.postgres.event_log import Item, LogRecorder, connect_log
from adapters.postgres.read_models import ReadModels
from adapters.rebuilds.rebuild import Rebuild
from bin import cli
from bin.processes.checking import run_checking
from bin.settings import Settings
from domain.entry import event_id_of, moment, uuid_text
from projections.contact_history import ContactHistory
from projections.projection import PROJECTIONS, Changes, Step
from projections.projector import Projector
from tests.integration.running import served_http
from tests.integration.test_projector import Running, history

STRANGER = "00000000-0000-4000-8000-000000000001"
IMPORT = "00000000-0000-4000-8000-0000000000aa"


@pytest.fixture
def log(database_url: str) -> Iterator[LogRecorder]:
    found = connect_log(database_url, role="touchlog_app")
    yield found
    found.datastore.close()


@pytest.fixture
def owner(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as conn:
        yield conn


def amending(seed: int, items: list[Item], *, share: float = 0.3) -> list[Item]:
    """Put corrections (some before their event), imported events and retractions among *items*, in another order."""
    chance = random.Random(seed)
    whole: list[Item] = []
    for number, item in enumerate(items):
        body = orjson.loads(item.body)
        if chance.random() < 0.2:
            body["import"] = chance.choice((IMPORT, IMPORT[:-2] + "bb"))
        raw = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        whole.append(Item(item.stream, item.type, raw, b"\x00" * 16))
        if chance.random() < share:
            wanted = {
                "channel": chance.choice(("fax", "shop")),
                "time": moment(datetime(2026, 2, 1, tzinfo=UTC) + timedelta(hours=chance.randrange(99))),
                "data": {"conversation_id": chance.choice(("c-1", "c-77", None))},
            }
            patch = {field: value for field, value in wanted.items() if chance.random() < 0.6}
            of = {"source": body["source"], "id": body["id"]}
            whole.append(_act(f"c{seed}-{number}", "correction.recorded", {"of": of, "patch": patch}, chance))
    for number in range(2):
        which = (IMPORT, IMPORT[:-2] + "bb")[number]
        whole.append(_act(f"r{seed}-{number}", "import.retracted", {"import_id": which}, chance))
    chance.shuffle(whole)
    return whole


def varied(number: int, item: Item) -> Item:
    """Turn a third into updates of profiles, a third into what went out and some into verdicts, but for the log's own."""
    body = orjson.loads(item.body)
    if number % 3 == 2 or body["channel"] == "records":
        return item
    if number % 22 == 4:
        told = {"of": {"source": body["source"], "id": body["id"]}, "verdict": "compliant"}
        body |= {
            "type": "verdict.recorded",
            "data": told | {"known_at_position": number, "policy_version": "1"},
        }
        raw = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        return Item(item.stream, "verdict.recorded", raw, b"\x00" * 16)
    if number % 3 == 1:
        body["direction"] = "outbound"
        return Item(item.stream, item.type, orjson.dumps(body, option=orjson.OPT_SORT_KEYS), b"\x00" * 16)
    body["type"] = "profile.updated"
    raw = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return Item(item.stream, "profile.updated", raw, b"\x00" * 16)


def _act(id_: str, type_: str, data: dict[str, Any], chance: random.Random) -> Item:
    body = {
        "event_id": uuid_text(event_id_of("office", id_)),
        "source": "office",
        "id": id_,
        "type": type_,
        "version": 1,
        "occurred_at": moment(datetime(2026, 3, 1, tzinfo=UTC) + timedelta(minutes=chance.randrange(5000))),
        "channel": "records",
        "principal": "key:test",
        "data": data,
    }
    return Item(
        event_id_of("office", id_), type_, orjson.dumps(body, option=orjson.OPT_SORT_KEYS), b"\x00" * 16
    )


def projected(log: LogRecorder, url: str, *, batch: int = 4000) -> None:
    """Bring all read models to the head."""
    with Running(log, url, batch=batch) as projector:
        assert projector.take_leases()
        projector.catch_up()
        projector.release_leases()


def checker(url: str, **more: Any) -> Checker:
    """Make a check that neither waits nor rests."""
    return Checker(
        url, **{"period_s": 86_400.0, "stopping": threading.Event(), "share": 1e9, "every_s": 1e9, **more}
    )


def looked(url: str, **more: Any) -> list[tuple[str, str, int, list[dict[str, Any]]]]:
    """Let a fresh continuous check look at the newest once; gives what is then told."""
    check = checker(url, **more)
    try:
        check.look()
    finally:
        check.close()
    return told(url)


def told(url: str) -> list[tuple[str, str, int, list[dict[str, Any]]]]:
    """Give what the product tells of differences: name, table, rows, examples."""
    with psycopg.connect(url, autocommit=True) as conn:
        return conn.execute(
            "SELECT name, table_name, rows, examples FROM touchlog.differences ORDER BY name, table_name, bucket"
        ).fetchall()


FAULTS: dict[str, tuple[str, tuple[str, str, str, dict[str, Any], list[str] | None]]] = {
    "a changed row of contact_history": (
        "UPDATE read.contact_history SET channel = 'pigeon' WHERE position = 41",
        ("contact_history", "contact_history", "changed", {"position": 41}, ["channel"]),
    ),
    "a missing row of contact_history": (
        "DELETE FROM read.contact_history WHERE position = 41",
        ("contact_history", "contact_history", "missing", {"position": 41}, None),
    ),
    "an extra row of contact_history": (
        "INSERT INTO read.contact_history SELECT * FROM read.contact_history WHERE position = 41 LIMIT 1",
        ("contact_history", "contact_history", "extra", {"position": 41}, None),
    ),
    "a row that is closed too early": (
        "UPDATE read.contact_history SET known_to = known_from + 1 WHERE position = 41",
        ("contact_history", "contact_history", "changed", {"position": 41}, ["known_to"]),
    ),
    "a row of an event that is not there": (
        "INSERT INTO read.audit_trail SELECT (jsonb_populate_record(t, '{\"position\": 999999}')).* FROM read.audit_trail t WHERE position = 3",
        ("audit_trail", "audit_trail", "extra", {"position": 999999}, None),
    ),
    "a changed row of audit_trail": (
        "UPDATE read.audit_trail SET principal = 'key:other' WHERE position = 12",
        ("audit_trail", "audit_trail", "changed", {"position": 12}, ["principal"]),
    ),
    "a missing row of audit_trail": (
        "DELETE FROM read.audit_trail WHERE position = 12",
        ("audit_trail", "audit_trail", "missing", {"position": 12}, None),
    ),
    "a changed sum of daily_volumes": (
        "UPDATE read.daily_volumes SET events = events + 1 WHERE ctid = (SELECT min(ctid) FROM read.daily_volumes)",
        ("daily_volumes", "daily_volumes", "changed", {}, ["events"]),
    ),
    "a missing sum of daily_volumes": (
        "DELETE FROM read.daily_volumes WHERE ctid = (SELECT min(ctid) FROM read.daily_volumes)",
        ("daily_volumes", "daily_volumes", "missing", {}, None),
    ),
    "an extra sum of daily_volumes": (
        "INSERT INTO read.daily_volumes SELECT hour, 'pigeon', type, direction, 0 FROM read.daily_volumes LIMIT 1",
        ("daily_volumes", "daily_volumes", "extra", {"channel": "pigeon"}, None),
    ),
    "a changed sum of persons": (
        "UPDATE read.person_activity SET outbound = 7 WHERE ctid = (SELECT min(ctid) FROM read.person_activity)",
        ("persons", "person_activity", "changed", {}, ["outbound"]),
    ),
    "a missing sum of persons": (
        "DELETE FROM read.person_activity WHERE ctid = (SELECT min(ctid) FROM read.person_activity)",
        ("persons", "person_activity", "missing", {}, None),
    ),
    "an extra sum of persons": (
        f"INSERT INTO read.person_activity VALUES ('{STRANGER}', 'web', 1, 0, 0)",
        ("persons", "person_activity", "extra", {"subject": STRANGER}, None),
    ),
    "a changed story": (
        "UPDATE read.conversations SET events = events + 1 WHERE conversation = 'conversation:c-3'",
        ("conversations", "conversations", "changed", {"conversation": "conversation:c-3"}, ["events"]),
    ),
    "a missing story": (
        "DELETE FROM read.conversations WHERE conversation = 'conversation:c-3'",
        ("conversations", "conversations", "missing", {"conversation": "conversation:c-3"}, None),
    ),
    "an extra story": (
        (
            "INSERT INTO read.conversations SELECT (jsonb_populate_record(t, '{\"conversation\": \"conversation:none\"}')).* "
            "FROM read.conversations t LIMIT 1"
        ),
        ("conversations", "conversations", "extra", {"conversation": "conversation:none"}, None),
    ),
    "a missing event of a story": (
        ("DELETE FROM read.conversations_events WHERE key = 'conversation:c-3' AND position = "
        "(SELECT min(position) FROM read.conversations_events WHERE key = 'conversation:c-3')"),
        ("conversations", "conversations_events", "missing", {"key": "conversation:c-3"}, None),
    ),
    "an extra event of a story": (
        "INSERT INTO read.conversations_events VALUES ('conversation:c-3', 999999, 999999, NULL)",
        ("conversations", "conversations_events", "extra", {"position": 999999}, None),
    ),
    "a missing event of a story, known no longer": (
        (
            "UPDATE read.conversations_events SET known_to = known_from + 1 WHERE key = 'conversation:c-3' AND position = "
            "(SELECT min(position) FROM read.conversations_events WHERE key = 'conversation:c-3')"
        ),
        ("conversations", "conversations_events", "missing", {"key": "conversation:c-3"}, None),
    ),
    "a story that is gone altogether": (
        ("DELETE FROM read.conversations WHERE conversation = 'conversation:c-3'; "
        "DELETE FROM read.conversations_events WHERE key = 'conversation:c-3'"),
        ("conversations", "conversations", "missing", {"conversation": "conversation:c-3"}, None),
    ),
    "a changed identity": (
        f"UPDATE read.identities SET person = '{STRANGER}' WHERE ctid = (SELECT min(ctid) FROM read.identities)",
        ("identities", "identities", "changed", {}, ["person"]),
    ),
    "a missing identity": (
        "DELETE FROM read.identities WHERE ctid = (SELECT min(ctid) FROM read.identities)",
        ("identities", "identities", "missing", {}, None),
    ),
    "an extra identity": (
        f"INSERT INTO read.identities VALUES ('{STRANGER}', 'email', '', '{STRANGER}', '{STRANGER}')",
        ("identities", "identities", "extra", {"subject": STRANGER}, None),
    ),
    "a changed link": (
        "UPDATE read.links SET place = 9 WHERE ctid = (SELECT min(ctid) FROM read.links)",
        ("identities", "links", "changed", {}, ["place"]),
    ),
    "a missing link": (
        "DELETE FROM read.links WHERE ctid = (SELECT min(ctid) FROM read.links)",
        ("identities", "links", "missing", {}, None),
    ),
    "an extra link": (
        (f"INSERT INTO read.links SELECT '{STRANGER}', b, position, occurred_at, source, source_id, place, \"cluster\", known_from, known_to "
        "FROM read.links LIMIT 1"),
        ("identities", "links", "extra", {"a": STRANGER}, None),
    ),
    "a missing reference": (
        'DELETE FROM read."references" WHERE position = (SELECT min(position) FROM read."references")',
        ("identities", "references", "missing", {}, None),
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("how", ["on demand", "of the newest", "of the newest in a longer log"])
def test_what_differs_is_found_and_named_to_the_row(
    log: LogRecorder, owner: psycopg.Connection[Any], database_url: str, fault: str, how: str
) -> None:
    # given a log with its read models, in which a row was tampered with
    log.append(history(8, 200))
    projected(log, database_url)
    assert looked(database_url) == []
    damage, (name, table, kind, key, columns) = FAULTS[fault]
    for statement in damage.split("; "):
        assert owner.execute(statement.encode()).rowcount > 0
    if how == "of the newest in a longer log" and kind == "extra" and "999999" not in str(key):
        pytest.skip("what no event of the newest touches is found by the sweep")

    # when it is checked
    if how == "on demand":
        check_now(database_url)
    else:
        looked(database_url, window=190 if "longer" in how else 100_000)

    # then the row is named, and no other
    found = [(t, e) for _, t, _, examples in told(database_url) for e in examples]
    assert {n for n, *_ in told(database_url)} == {name}
    named = [e for t, e in found if t == table and key.items() <= e["key"].items()]
    assert [(e["kind"], e.get("columns")) for e in named] == [(kind, columns)], found
    if "gone altogether" not in fault and "missing event" not in fault and fault != "a missing identity":
        assert len(found) == 1, found


@pytest.mark.parametrize("seed", range(3))
def test_corrected_retracted_and_late_events_are_no_difference(
    log: LogRecorder, database_url: str, seed: int
) -> None:
    # given corrections, some before their event, and retracted imports, projected in batches of any size
    chance = random.Random(seed)
    items = amending(seed, history(seed, 200))
    check = checker(database_url)
    try:
        while items:
            size = chance.choice((1, 7, 40, 90))
            log.append(items[:size])
            items = items[size:]
            projected(log, database_url, batch=chance.choice((1, 5, 4000)))

            # when the same check looks again and again
            check.look()
            assert told(database_url) == []
    finally:
        check.close()

    # then a look at a part, and one at the whole, find nothing either
    assert looked(database_url, window=60) == []
    assert [(o.rows, o.position > 200) for o in check_now(database_url)] == [(0, True)] * len(PROJECTIONS)
    assert told(database_url) == []


def test_a_read_model_that_moves_is_no_difference(log: LogRecorder, database_url: str) -> None:
    # given a log that grows, with corrections, while it is projected
    items = amending(5, history(5, 600))
    log.append(items[:50])
    projected(log, database_url)
    ended = threading.Event()

    def grow() -> None:
        try:
            chance = random.Random(6)
            with Running(log, database_url, batch=11) as projector:
                assert projector.take_leases()
                at = 50
                while at < len(items):
                    size = chance.choice((1, 3, 20))
                    log.append(items[at : at + size])
                    at += size
                    projector.step()
                projector.catch_up()
                projector.release_leases()
        finally:
            ended.set()

    # when it is checked all the while, the newest and the whole
    looks, found = 0, []
    check = checker(database_url, window=200)
    with ThreadPoolExecutor(1) as thread:
        growing = thread.submit(grow)
        try:
            while not ended.is_set() or looks < 3:
                check.look()
                found += told(database_url)
                check_now(database_url)
                found += told(database_url)
                looks += 1
        finally:
            check.close()
        growing.result()

    # then nothing was ever told as different
    assert found == []


class Failing(ContactHistory):
    """A history that cannot fold what was said at one position, nor anything that corrects it."""

    at = 0

    def fold(self, step: Step, changes: Changes) -> None:
        if step.position == self.at:
            raise ValueError("a value nobody thought of")
        super().fold(step, changes)


def test_what_is_parked_is_told_as_parked_and_not_as_different(
    log: LogRecorder, owner: psycopg.Connection[Any], database_url: str
) -> None:
    # given a history that parked an event with the later ones of its subject
    log.append(history(8, 200))
    projected(log, database_url)
    row = owner.execute(
        "SELECT min(position) FROM read.contact_history GROUP BY subject HAVING count(*) > 3 ORDER BY 1 LIMIT 1"
    ).fetchone()
    assert row
    owner.execute("TRUNCATE read.contact_history")
    owner.execute("DELETE FROM touchlog.projections WHERE name = 'contact_history'")
    failing = Failing()
    failing.at = row[0]
    store = ReadModels(database_url)
    try:
        projector = Projector(log, store, [failing], batch=17)
        assert projector.take_leases()
        projector.catch_up()
        projector.release_leases()
        assert len(store.parked("contact_history")) > 3
    finally:
        store.close()

    # when it is checked, then nothing differs
    assert looked(database_url) == []
    check_now(database_url)
    assert told(database_url) == []

    # but an event that is missing and not parked does
    owner.execute("DELETE FROM touchlog.parked WHERE position = %s", (row[0],))
    assert [(name, rows) for name, _, rows, _ in looked(database_url)] == [("contact_history", 1)]


@pytest.mark.parametrize("seed", [4, 11])
@pytest.mark.parametrize("name", sorted(PROJECTIONS))
def test_every_read_model_may_have_parked_events(
    log: LogRecorder, database_url: str, name: str, seed: int
) -> None:
    # given each read model with parked events, some of them corrected
    log.append([varied(n, item) for n, item in enumerate(amending(seed, history(seed, 150)))])
    form = type(PROJECTIONS[name])

    class FailsNowAndThen(form):  # type: ignore[misc, valid-type]
        def fold(self, step: Step, changes: Changes) -> None:
            if step.position % 11 == 5 and step.before is None:
                raise ValueError("a value nobody thought of")
            super().fold(step, changes)

    store = ReadModels(database_url)
    try:
        others = [type(p)() for n, p in PROJECTIONS.items() if n != name]
        projector = Projector(log, store, [FailsNowAndThen(), *others], batch=20)
        assert projector.take_leases()
        projector.catch_up()
        projector.release_leases()
        assert store.parked(name)
    finally:
        store.close()

    # when it is checked, then nothing differs
    assert looked(database_url) == []
    check_now(database_url)
    assert told(database_url) == []

    # and when the mended projection has tried them again, then nothing waits, and nothing differs
    store = ReadModels(database_url)
    try:
        mended = Projector(log, store, [form()])
        assert mended.take_leases()
        store.ask_retry(name)
        mended.retry_parked()
        mended.release_leases()
        assert store.parked(name) == []
    finally:
        store.close()
    check_now(database_url)
    assert told(database_url) == []


def test_a_difference_is_gone_when_the_row_is_right_again(
    log: LogRecorder, owner: psycopg.Connection[Any], database_url: str
) -> None:
    log.append(history(8, 200))
    projected(log, database_url)
    check = checker(database_url)
    try:
        check.look()
        owner.execute("UPDATE read.daily_volumes SET events = events + 1")
        owner.execute("UPDATE read.audit_trail SET source = 'x' WHERE position = 9")
        check.look()
        assert {name for name, *_ in told(database_url)} == {"daily_volumes", "audit_trail"}
        owner.execute("UPDATE read.daily_volumes SET events = events - 1")
        check.look()
        assert {name for name, *_ in told(database_url)} == {"audit_trail"}
        rebuild = Rebuild(database_url, log, "audit_trail")
        try:
            rebuild.build()
            rebuild.swap()
        finally:
            rebuild.close()
        check.look()
        assert told(database_url) == []
    finally:
        check.close()


def test_a_sweep_goes_on_where_an_earlier_process_left_it_and_begins_anew_with_the_period(
    log: LogRecorder, owner: psycopg.Connection[Any], database_url: str
) -> None:
    # given a log, and a check that was ended within its sweep
    log.append(history(8, 200))
    projected(log, database_url)
    first = checker(database_url)
    first.look()
    assert first.turn()
    first.close()
    assert owner.execute("SELECT ended_at IS NULL FROM touchlog.sweep").fetchone() == (True,)
    owner.execute("UPDATE touchlog.sweep SET stage = 'conversations', position = 200")

    # when another goes on
    second = checker(database_url)
    assert second.alone()
    third = checker(database_url)
    assert not third.alone()
    third.close()
    second.look()
    while second.turn():
        pass

    # then the sweep is ended, its sums are carried on, and none begins before the period is over
    assert owner.execute(
        "SELECT count(*) FROM touchlog.checks WHERE swept_position = 200 AND position = 200"
    ).fetchone() == (len(PROJECTIONS),)
    assert owner.execute("SELECT count(*) FROM touchlog.checks WHERE sums_position = 200").fetchone() == (2,)
    assert owner.execute("SELECT ended_at IS NOT NULL FROM touchlog.sweep").fetchone() == (True,)
    assert not second.turn()
    second.close()
    assert told(database_url) == []


def test_no_more_than_the_share_of_a_core_is_used() -> None:
    # given a clock and work that takes all of a core while it lasts
    now_s = cpu_s = 0.0
    budget = Budget(0.1, cpu_s=lambda: cpu_s, clock_s=lambda: now_s)
    chance = random.Random(1)

    # when pieces of any size are done for an hour, with the rests that are asked for
    while now_s < 3600:
        took_s = chance.choice((0.01, 0.3, 2.0, 9.0))
        now_s += took_s
        cpu_s += took_s
        rest_s = budget.rest_s()
        now_s += rest_s
        budget.rested()

    # then a tenth was used, and what may be used at once
    assert budget.used_s <= 0.1 * now_s + BURST_S
    assert budget.used_s > 0.09 * now_s


@pytest.mark.parametrize("busy", ["folding", "with a statement"])
def test_a_check_that_is_told_to_end_does_so_in_the_midst_of_a_piece(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: str
) -> None:
    went_on: list[Checker] = []

    def turn(self: Checker) -> bool:
        """Be told to end, and have much to do yet."""
        if busy == "folding":
            signal.raise_signal(signal.SIGTERM)
        else:
            teller.start()
            self._conn.execute("SELECT pg_sleep(30)")
        went_on.append(self)
        return True

    def tell() -> None:
        with psycopg.connect(database_url, autocommit=True) as conn:
            while not conn.execute(_ASLEEP).fetchall():
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    # given a check that is in a piece that takes long
    teller = threading.Thread(target=tell)
    monkeypatch.setattr(Checker, "turn", turn)
    monkeypatch.setattr("adapters.priority.stand_back", lambda _: None)
    monkeypatch.setattr("bin.memory.settle", lambda: None)
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        # when it is told to end
        run_checking(Settings.load({"TOUCHLOG_DATABASE_URL": database_url}, data=tmp_path))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    # then it does not go on with it, and leaves no statement behind
    assert went_on == []
    with psycopg.connect(database_url, autocommit=True) as conn:
        assert conn.execute(_ASLEEP).fetchall() == []


_ASLEEP = "SELECT pid FROM pg_stat_activity WHERE application_name = 'touchlog check' AND wait_event = 'PgSleep' AND datname = current_database()"


@pytest.mark.parametrize("is_short", [True, False])
def test_between_two_pieces_a_check_rests_as_long_as_the_pressure_of_that_moment_asks(
    database_url: str, monkeypatch: pytest.MonkeyPatch, is_short: bool
) -> None:
    # given a check whose budget asks for a rest only while processors are short
    waited: list[float | None] = []
    check = checker(database_url)
    try:
        monkeypatch.setattr(check, "_pressure", SimpleNamespace(is_high=lambda: is_short))
        monkeypatch.setattr(check.budget, "rest_s", lambda *, is_short=False: 7.0 if is_short else 0.0)
        monkeypatch.setattr(check, "_stopping", SimpleNamespace(wait=waited.append))
        # when a piece is done
        check.comparison.rest()
    finally:
        check.close()
    # then it waits for as long, and not at all where nobody is in need
    assert waited == ([7.0] if is_short else [])


def test_while_processors_are_short_nothing_is_used_at_once_and_rests_are_longer() -> None:
    # given a budget that has rested for long, and may use something at once
    now_s = cpu_s = 0.0
    budget = Budget(0.1, cpu_s=lambda: cpu_s, clock_s=lambda: now_s)
    now_s += 3600
    budget.rested()

    # when as much is used while processors are not short, and while they are
    now_s += 0.2
    cpu_s += 0.2
    before_s = budget.rest_s()
    now_s += 0.2
    cpu_s += 0.2
    then_s = budget.rest_s(is_short=True)

    # then the second use is rested for, four times as long as a tenth of a core asks
    assert before_s == 0
    assert then_s == pytest.approx(4 * 0.2 / 0.1)


def test_what_the_database_works_counts(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        budget = Budget(0.1)
        budget.watch(conn)
        conn.execute("SELECT sum(length(md5(n::text))) FROM generate_series(1, 500000) n")
        budget.rest_s()
        assert budget.used_s > 0.02


def test_pages_figures_and_commands_tell_what_differs(
    log: LogRecorder,
    owner: psycopg.Connection[Any],
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given a row that was tampered with, and found by the continuous check
    log.append(history(8, 60))
    projected(log, database_url)
    with served_http(tmp_path / "data", database_url) as served, served.client() as client:
        served.project()
        owner.execute("UPDATE read.contact_history SET channel = 'pigeon' WHERE position = 41")
        looked(database_url)

        # then the API, the figures and the page tell it
        shown = {p["name"]: p for p in client.get("/v1/projections").json()["projections"]}
        assert shown["contact_history"]["differences"] == 1
        assert shown["contact_history"]["checked_position"] == shown["contact_history"]["position"]
        assert shown["audit_trail"]["differences"] == 0
        figures = client.get("/metrics").text
        assert 'touchlog_projection_differences{projection="contact_history"} 1.0' in figures
        assert 'touchlog_projection_differences{projection="audit_trail"} 0.0' in figures
        assert 'touchlog_projection_checked_position{projection="contact_history"}' in figures
        page = client.get("/", headers={"Accept": "text/html"}).text
        assert "touchlog projections check contact_history" in page
        assert "touchlog projections check audit_trail" not in page

    # and so do the commands, with exit 1 for a check that finds something
    monkeypatch.setenv("TOUCHLOG_DATABASE_URL", database_url)
    monkeypatch.setenv("TOUCHLOG_DATA", str(tmp_path / "data"))
    run = CliRunner().invoke
    status = orjson.loads(run(cli.app, ["status", "--json"]).stdout)
    assert {p["name"]: p["differences"] for p in status["projections"]}["contact_history"] == 1
    listed = orjson.loads(run(cli.app, ["projections", "--json"]).stdout)
    assert {p["name"]: p["differences"] for p in listed["projections"]}["contact_history"] == 1
    assert run(cli.app, ["projections", "check", "persons", "daily_volumes"]).exit_code == 0
    checked = run(cli.app, ["projections", "check", "contact_history"])
    assert checked.exit_code == 1
    assert "position=41 (channel)" in checked.stdout
    assert "pigeon" not in checked.stdout
    answer = run(cli.app, ["projections", "check", "--json"])
    assert answer.exit_code == 1
    assert orjson.loads(answer.stdout)["rows"] == 1
