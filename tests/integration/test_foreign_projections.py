"""Projections of other distributions: found, run and rebuilt like ours; one that cannot be loaded stops no other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import psycopg
import pytest

from adapters.postgres.event_log import connect_log
from bin.settings import Settings
from domain import event as events
from domain.event import Touchpoint
from projections import projection as registry
from projections.projection import PROJECTIONS, Changes, Effective, PerEvent, Projection, Step, Table
from tests.integration.foreign_distribution import installed, visits
from tests.integration.test_projector import history
from tests.integration.test_rebuild_runs import Parts, live
from tests.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]


class Beside:
    """An installation with a folder of other distributions on its path."""

    def __init__(self, tmp_path: Path, url: str) -> None:
        self.settings = Settings.load({}, data=tmp_path / "data", database_url=url)
        self.folder = tmp_path / "site"
        self.said = tmp_path / "said.log"
        self.settings.data.mkdir()

    def touchlog(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command."""
        return subprocess.run(
            [sys.executable, "-m", "bin.cli", *words, "--data", str(self.settings.data)],
            capture_output=True, text=True, timeout=240, check=False, cwd="/",
            env={**self.settings.environment(), "PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}"},
        )  # fmt: skip


@pytest.fixture
def beside(tmp_path: Path, database_url: str) -> Beside:
    """Give an installation with 60 events."""
    log = connect_log(database_url, role="touchlog_app")
    log.append(history(8, 60))
    log.datastore.close()
    return Beside(tmp_path, database_url)


def names(database_url: str) -> set[str]:
    """Give the read models that answer at the head."""
    with psycopg.connect(database_url) as conn:
        rows = conn.execute("SELECT name FROM touchlog.projections WHERE schema = 'read' AND position = 60")
        return {name for (name,) in rows}


def test_a_projection_of_another_distribution_is_run_listed_and_rebuilt(
    beside: Beside, database_url: str
) -> None:
    installed(beside.folder, "their_pages", visits(1))
    part = Parts(beside.settings, beside.folder, beside.said)
    try:
        wait_until(lambda: live(database_url, "pages_seen") == (1, 60), "it to be run", within_s=180)
    finally:
        part.end()

    listed = json.loads(beside.touchlog("projections", "--json").stdout)
    done = beside.touchlog("rebuild", "pages_seen", "--compare", "--swap", "--json")

    assert "pages_seen" in {p["name"] for p in listed["projections"]}
    assert listed["not_loaded"] == []
    assert json.loads(done.stdout)["differences_total"] == 0, done.stderr


def test_the_example_of_the_readme_runs_as_it_stands(beside: Beside, database_url: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    installed(beside.folder, "our_hours", code)
    part = Parts(beside.settings, beside.folder, beside.said)
    try:
        wait_until(lambda: live(database_url, "our_hours") == (1, 60), "it to be run", within_s=180)
    finally:
        part.end()
    with psycopg.connect(database_url) as conn:
        assert conn.execute("SELECT sum(contacts)::int FROM read.our_hours").fetchone() == (60,)


def test_those_that_cannot_be_loaded_are_told_and_stop_no_other(beside: Beside, database_url: str) -> None:
    """An import that fails, a name taken twice, rows that no column holds."""
    installed(beside.folder, "a_broken", "import there_is_no_such_module\n")
    installed(beside.folder, "b_twin", visits(1).replace('"pages_seen"', '"conversations"', 2))
    installed(beside.folder, "c_odd", visits(1, kind="set").replace("pages_seen", "odd"))
    installed(beside.folder, "d_nothing", "", entry="d_nothing:Missing")
    installed(beside.folder, "their_pages", visits(1))
    part = Parts(beside.settings, beside.folder, beside.said)
    try:
        wait_until(
            lambda: names(database_url) >= {"pages_seen", "conversations", "contact_history"},
            "the others to be run", within_s=180,
        )  # fmt: skip
    finally:
        part.end()

    found = beside.touchlog("projections")

    said = beside.said.read_text()
    assert re.search(r"a_broken = a_broken of a_broken 1.0.*there_is_no_such_module", said)
    assert "read_model_not_made" in said
    assert "odd" not in names(database_url)
    assert found.returncode == 0
    assert "was not loaded: ModuleNotFoundError" in found.stderr
    assert "Two projections are named 'conversations'; give yours another name." in found.stderr
    assert "d_nothing" in found.stderr
    assert "b_twin" in said


# -- base classes ----------------------------------------------------------------------------------------


class Seen(msgspec.Struct, frozen=True):
    """One event."""

    position: int


class Parcel(Touchpoint, frozen=True, kw_only=True):
    """The base of types of parcels."""


def fold_of(handles: tuple[type[Touchpoint], ...]) -> Projection:
    """Give a projection that files what it handles."""
    table = Table("seen", Seen, known=True)

    class Filed(PerEvent):
        name = "filed"
        tables: ClassVar = (table,)

        def rows(self, event: Effective) -> Any:
            return [(table, Seen(event.recorded.position))]

    Filed.handles = handles
    return Filed()


def step_of(position: int, type_: str) -> Step:
    """Give the step of an event of a type."""
    from datetime import UTC, datetime

    from domain.entry import Recorded, decode_body

    body = msgspec.json.encode(
        {
            "event_id": "0" * 32, "source": "s", "id": str(position), "type": type_, "version": 1,
            "occurred_at": "2026-01-01T00:00:00Z", "channel": "post", "principal": "key:test",
        }
    )  # fmt: skip
    recorded = Recorded(position, datetime(2026, 1, 1, tzinfo=UTC), decode_body(body))
    return Step(position, None, Effective(recorded, body))


def test_handling_a_base_class_catches_types_that_nobody_had_invented(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Touchpoint catches all, undeclared ones too; a base of one's own what derives from it, whenever declared."""
    monkeypatch.setattr(events, "TYPES", dict(events.TYPES))
    everything, parcels = fold_of((Touchpoint,)), fold_of((Parcel,))
    types = ["call.ended", "custom.parcel.weighed", "parcel.lost"]

    def filed(one: Projection) -> list[str]:
        changes = Changes()
        for step in one.handled([step_of(n, type_) for n, type_ in enumerate(types, 1)]):
            one.fold(step, changes)
        return [types[row.position - 1] for row, _ in changes.known.get("seen", [])]

    assert filed(parcels) == []

    @events.event("parcel.lost", channel="post")
    class ParcelLost(Parcel, frozen=True, kw_only=True):
        """Invented later."""

    assert filed(parcels) == ["parcel.lost"]
    assert filed(everything) == types
    assert {name for name, one in PROJECTIONS.items() if Touchpoint not in one.handles} == {
        "profiles",
        "verdicts",
    }


def test_two_projections_of_one_name_or_table_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "PROJECTIONS", dict(PROJECTIONS))
    (table,) = PROJECTIONS["conversations"].tables

    class Twin(PerEvent):
        name = "conversations"
        tables: ClassVar = (table,)

    class Sharing(PerEvent):
        name = "talks"
        tables: ClassVar = (table,)

    with pytest.raises(ValueError, match="give yours another name"):
        registry.projection(Twin)
    with pytest.raises(ValueError, match="'conversations' and 'talks' both have a table 'conversations'"):
        registry.projection(Sharing)
