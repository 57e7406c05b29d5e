"""A reader that follows the log by position never misses an event; on a recorder that is known to lose some, the trial finds it."""

from __future__ import annotations

from bin.soaks.gap import run_gap
from tests.conftest import NewDatabase


def test_with_eight_writer_processes_a_live_reader_misses_nothing(database_url: str) -> None:
    found = run_gap(database_url, writers=8, seconds=4)
    assert found.events > 500
    assert (found.missed, found.out_of_order, found.jumps) == (0, 0, 0)
    assert found.seen == found.events == found.acknowledged == found.head


def test_on_the_librarys_path_that_loses_events_the_trial_finds_a_loss(new_database: NewDatabase) -> None:
    found = None
    for _ in range(3):
        found = run_gap(new_database(migrated=False), writers=8, seconds=15, library=True, until_missed=True)
        if found.missed:
            return
    raise AssertionError(
        f"The loss could not be shown in three trials (the last: {found}): either the library has mended its path, and "
        "we may take it, or this trial does not try hard enough, and then it proves nothing about our own log."
    )
