"""Stripes of the log folded side by side: the rows of a rebuild in order, whatever is cut off, killed or fails."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from adapters.postgres.event_log import LogRecorder, connect_log
from adapters.postgres.read_models import LeaseLost, ReadModels
from adapters.rebuilds import rebuild
from adapters.rebuilds import stripes as rebuild_stripes
from adapters.rebuilds.rebuild import Rebuild, drop
from adapters.rebuilds.stripe import Dealt
from bin.compose import core, project_once
from bin.settings import Settings
from bin.soaks.mixed import FROM, mixed, recorded
from bin.soaks.rows import Digest, digests
from projections.audit_trail import AuditTrail
from projections.contact_history import ContactHistory, Entry
from projections.projection import PROJECTIONS, Effective, Table, foldable_apart
from tests.integration.test_rebuild import states

EVENTS = 400
APART = sorted(name for name, each in PROJECTIONS.items() if foldable_apart(each))


@pytest.fixture(scope="module")
def url(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give a log of late, corrected, retracted and linked events, and its read models."""

    async def filled(folder: Path) -> None:
        async with core(Settings.load({}, data=folder), module_database_url) as parts:
            await recorded(parts, mixed(41, EVENTS, persons=30, retracted=0.03))

    asyncio.run(filled(tmp_path_factory.mktemp("keys")))
    project_once(module_database_url)
    return module_database_url


@pytest.fixture(scope="module")
def log(url: str) -> Iterator[LogRecorder]:
    found = connect_log(url, role="touchlog_app")
    yield found
    found.datastore.close()


@pytest.fixture(autouse=True)
def two_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fold in stripes from two of them on, by two processes, however many processors there are."""
    monkeypatch.setattr(rebuild_stripes, "FEWEST_STRIPES", 2)
    monkeypatch.setattr(rebuild_stripes, "MOST_PROCESSES", 2)


def told(url: str, name: str, schema: str) -> dict[str, Digest]:
    """Digest the tables of one read model in one schema."""
    with psycopg.connect(url, autocommit=True) as conn:
        return digests(conn, schemas={name: schema}, names=[name])


def built(log: LogRecorder, url: str, name: str, *, again: bool = True, **how: Any) -> dict[str, Digest]:
    """Rebuild, digest and drop."""
    one = Rebuild(url, log, name, **how)
    try:
        one.build(again=again)
        found = told(url, name, one.schema)
        assert one.connection.execute(
            "SELECT (SELECT count(*) FROM touchlog.rebuild_stripes), (SELECT count(*) FROM touchlog.rebuild_closes)"
        ).fetchone() == (0, 0)
        drop(one.connection, name, one.schema)
    finally:
        one.close()
    return found


def test_the_histories_the_audit_trail_consent_and_verdicts_are_folded_apart_and_nothing_that_keeps_more() -> (
    None
):
    assert APART == ["audit_trail", "consent", "contact_history", "profiles", "verdicts"]

    class Looks(ContactHistory):
        def prepare(self, steps: Any, load: Any) -> None:
            """Looks at other rows, so that their order matters."""

    assert not foldable_apart(Looks())


@pytest.mark.parametrize("name", APART)
@settings(max_examples=4)
@given(stripe=st.integers(9, EVENTS // 2))
def test_stripes_of_any_size_give_the_rows_that_the_projectors_gave(
    log: LogRecorder, url: str, name: str, stripe: int
) -> None:
    assert built(log, url, name, stripe=stripe) == told(url, name, "read")


@pytest.mark.parametrize("name", APART)
def test_another_moment_is_the_same_in_stripes_and_in_order(
    log: LogRecorder, url: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments: list[dict[str, Any]] = [
        {"until": 333},
        {"as_of": datetime.fromisoformat("2026-01-20T00:00:00Z")},
        {"until": 250, "as_of": FROM.replace(month=2)},
    ]
    striped = [built(log, url, name, stripe=40, **moment) for moment in moments]
    monkeypatch.setattr(rebuild, "foldable_apart", lambda _: False)
    assert [built(log, url, name, **moment) for moment in moments] == striped


def test_what_no_projector_has_noted_yet_is_folded_in_order(log: LogRecorder, url: str) -> None:
    folded = []
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("UPDATE touchlog.projections SET position = least(position, 100) WHERE schema = 'read'")
        one = Rebuild(url, log, "contact_history", stripe=30)
        one._stripes._close = lambda _: folded.append(one.position)  # type: ignore[assignment]
        try:
            one.build()
            drop(one.connection, "contact_history", one.schema)
        finally:
            one.close()
            head = log.head().position
            conn.execute("UPDATE touchlog.projections SET position = %s WHERE schema = 'read'", (head,))
    assert folded == [90]


class Cut(Exception):
    """Stands for whatever ends a rebuild."""


def test_a_rebuild_that_was_cut_off_folds_the_missing_stripes_only(
    log: LogRecorder, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dealt: list[list[int]] = [[], []]
    turn = 0
    deal = rebuild_stripes._Hands.deal

    def noted(hands: Any, stripe: Dealt) -> None:
        if turn == 0 and stripe.after == 210:
            raise Cut
        dealt[turn].append(stripe.after)
        deal(hands, stripe)

    monkeypatch.setattr(rebuild_stripes._Hands, "deal", noted)

    first = Rebuild(url, log, "contact_history", stripe=30)
    with pytest.raises(Cut):
        first.build()
    first.close()
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("UPDATE touchlog.projections SET leased_to = '-infinity', holder = NULL")
    turn = 1
    assert built(log, url, "contact_history", again=False, stripe=30) == told(url, "contact_history", "read")
    assert dealt[0] == list(range(0, 210, 30))
    again = set(dealt[0]) & set(dealt[1])
    assert len(again) <= 2, f"only what was under way is folded again: {sorted(again)}"
    assert 210 in dealt[1]


def test_a_process_that_is_killed_loses_and_doubles_nothing(
    log: LogRecorder, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deal = rebuild_stripes._Hands.deal
    killed = []

    def murderous(hands: Any, stripe: Dealt) -> None:
        deal(hands, stripe)
        if stripe.after in (60, 150, 300) and stripe.after not in killed:
            killed.append(stripe.after)
            victim = next(process for process, its in hands.at_work.items() if its == stripe)
            os.kill(victim.pid, signal.SIGKILL)

    monkeypatch.setattr(rebuild_stripes._Hands, "deal", murderous)
    assert built(log, url, "contact_history", stripe=30) == told(url, "contact_history", "read")
    assert killed == [60, 150, 300]


def test_who_lost_the_lease_writes_no_more(log: LogRecorder, url: str) -> None:
    one = Rebuild(url, log, "contact_history", stripe=30)
    thief = ReadModels(url, schema=one.schema)
    rows: list[int] = []

    def written(position: int) -> tuple[int, int]:
        """Count the rows up to *position*, and those behind it that are of no stripe that is told as done."""
        row = thief.connection.execute(
            sql.SQL(
                "SELECT count(*) FILTER (WHERE known_from <= %(at)s), count(*) FILTER (WHERE known_from > %(at)s AND NOT EXISTS "
                "(SELECT FROM touchlog.rebuild_stripes s WHERE known_from > s.after AND known_from <= s.until)) FROM {}"
            ).format(sql.Identifier(one.schema, "contact_history")),
            {"at": position},
        ).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    def stolen(position: int, _target: int) -> None:
        if position and not rows:
            thief.steal(one.projection)
            rows.append(written(position)[0])

    try:
        with pytest.raises(LeaseLost):
            one.build(progress=stolen)
        assert one.position > 0
        assert written(one.position) == (rows[0], 0)
        drop(one.connection, "contact_history", one.schema)
    finally:
        thief.close()
        one.close()


class Stumbling(ContactHistory):
    """A history that cannot make the rows of one event."""

    def rows(self, event: Effective) -> Iterable[tuple[Table[Entry], Entry]]:
        print("told to whoever listens")  # noqa: T201 - what a projection prints is no answer
        if event.recorded.position == 123:
            raise ValueError("a value nobody thought of")
        return super().rows(event)


def parked_in(url: str, schema: str) -> list[Any]:
    """Give what is parked in one schema."""
    with psycopg.connect(url, autocommit=True) as conn:
        return conn.execute(
            "SELECT position, subject, culprit FROM touchlog.parked WHERE schema = %s ORDER BY 1, 2",
            (schema,),
        ).fetchall()


def test_where_a_fold_fails_all_is_folded_in_order_and_the_same_events_wait(
    log: LogRecorder, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PROJECTIONS, "contact_history", Stumbling())
    found = []
    for apart in (True, False):
        monkeypatch.setattr(rebuild, "foldable_apart", lambda _, apart=apart: apart)
        one = Rebuild(url, log, "contact_history", stripe=30)
        try:
            one.build()
            found.append((told(url, "contact_history", one.schema), parked_in(url, one.schema)))
            drop(one.connection, "contact_history", one.schema)
        finally:
            one.close()
    assert found[0] == found[1]
    assert [culprit for _, _, culprit in found[0][1]].count(True) >= 1


def test_a_projection_that_no_other_process_can_find_is_folded_in_order(
    log: LogRecorder, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Here(AuditTrail):
        """Known to this function only."""

    monkeypatch.setitem(PROJECTIONS, "audit_trail", Here())
    assert built(log, url, "audit_trail", stripe=30) == told(url, "audit_trail", "read")


def test_a_swap_after_stripes_leaves_nothing_behind(log: LogRecorder, url: str) -> None:
    live = told(url, "audit_trail", "read")
    one = Rebuild(url, log, "audit_trail", stripe=50)
    try:
        one.build()
        retired, _ = one.swap()
        drop(one.connection, "audit_trail", retired)
    finally:
        one.close()
    assert told(url, "audit_trail", "read") == live
    assert states(url, "audit_trail") == {"read": ("live", log.head().position)}
