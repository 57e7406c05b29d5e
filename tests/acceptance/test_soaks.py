"""Long trials of the read models, run short; the long ones are `bin/soak steal`, `equal`, `statements`, `report`,
`bot`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bin.compose import core
from bin.settings import Settings
from bin.soaks.bot import run_bot
from bin.soaks.equal import run_equal
from bin.soaks.mixed import mixed, recorded
from bin.soaks.report import run_report
from bin.soaks.statements import run_statements
from bin.soaks.steal import run_steal

ROOT = Path(__file__).resolve().parents[2]
DATASETS = ROOT.parent / "shared" / "datasets"
SAMPLES = ROOT / "tests" / "data"


@pytest.mark.parametrize("apart", [False, True], ids=["all at once", "one at a time"])
def test_two_projectors_that_steal_the_lease_from_each_other_write_what_one_would(
    tmp_path: Path, database_url: str, capfd: pytest.CaptureFixture[str], apart: bool
) -> None:
    found = run_steal(database_url, tmp_path, seconds=4, rate=500, every_s=0.25, apart=apart, batch=50)

    assert found.steals >= 8, found
    assert found.batches >= 40, found  # 2,000 events by 50: whatever was lost is not counted
    assert found.differs == [], found
    # `bin/soak steal --json` prints one object: a stolen lease (its second epoch) is told in no other process's words there.
    assert "epoch=2" not in capfd.readouterr().out


def test_a_projector_killed_at_any_statement_of_a_batch_loses_and_doubles_nothing(
    tmp_path: Path, database_url: str
) -> None:
    """A real process each time, killed with -9 before it sends the statement (every fourth here, all by `bin/soak`); the
    commit also when it is sent and answered."""

    async def given() -> None:
        async with core(Settings.load({}, data=tmp_path), database_url) as parts:
            await recorded(parts, mixed(5, 150, persons=10))

    asyncio.run(given())

    found = run_statements(database_url, batch=50, after=50, moments=("before",), every=4)

    assert found.statements > 40, found
    assert found.killed >= found.statements // 4 + 3, found
    assert found.behind >= 1, found  # killed when the commit was answered
    assert (found.torn, found.not_healed) == ([], []), found


def test_read_models_live_rebuilt_and_in_other_batches_are_the_same_on_histories_that_others_made(
    tmp_path: Path, database_url: str
) -> None:
    datasets = DATASETS if DATASETS.is_dir() else SAMPLES

    found = run_equal(
        database_url, tmp_path, datasets, most=1500, persons=60, rebuild_batch=700, zero_batch=89
    )

    assert found.events > 1000, found
    assert (found.rebuilt_differs, found.from_zero_differs) == ([], []), found


def test_reports_of_what_was_known_are_the_same_bytes_whatever_comes_later(
    tmp_path: Path, database_url: str
) -> None:
    """Asked for an earlier head, and for now while events come in; asked again when all are there."""
    found = run_report(database_url, tmp_path, before=500, after=1000, rate=800, persons=30)

    assert found.events_after == 1000, found
    assert found.reports > 50, found
    assert found.asked_under_load >= 3, found
    assert (found.changed, found.changed_since_load) == ([], []), found


def test_a_bot_with_one_email_is_stopped_and_joins_no_users(tmp_path: Path, database_url: str) -> None:
    found = run_bot(database_url, tmp_path, ids=300, identifiers=30, events=300, side_events=60)

    assert found.stopped, found
    assert found.refused >= 200, found  # an e-mail holds 100 anonymous ids
    assert found.bot_identifiers <= 102, found
    assert not found.users_joined, found
    assert found.big_identifiers == 30, found
    assert found.linked_total == 2 * 60 + 2, found
