"""Whatever order events come in, every read model says the same in the end (SEMANTICS §1)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from adapters.postgres.event_log import Item, connect_log
from adapters.postgres.read_models import ReadModels
from bin.compose import core
from bin.settings import Settings
from bin.soaks.mixed import Sent, mixed, prepared
from bin.soaks.rows import as_arrived_otherwise, differing, digests, from_zero
from projections.projection import PROJECTIONS, Projection
from projections.projector import Projector
from tests.conftest import NewDatabase

EVENTS = 140


@pytest.fixture
def preparing(tmp_path: Path, database_url: str) -> Iterator[Any]:
    """Give what prepares events by the whole way in, so that all arrivals are of the same bytes."""
    with asyncio.Runner() as runner:
        context = core(Settings.load({}, data=tmp_path), database_url)
        parts = runner.run(context.__aenter__())
        try:
            yield lambda sent: runner.run(prepared(parts, sent))
        finally:
            runner.run(context.__aexit__(None, None, None))


def arrived(url: str, items: list[Item], sizes: list[int]) -> dict[str, list[Any]]:
    """Record *items* in batches of *sizes*, again and again, project after each, and read what the read models say."""
    reader = connect_log(url, pool=1, role="touchlog_app")
    store = ReadModels(url)
    projector = Projector(reader, store, [type(each)() for each in PROJECTIONS.values()], batch=max(sizes))
    try:
        assert projector.take_leases()
        at = turn = 0
        while at < len(items):
            size = sizes[turn % len(sizes)]
            reader.append(items[at : at + size])
            projector.catch_up()
            at, turn = at + size, turn + 1
        assert store.parked() == []
        with psycopg.connect(url, autocommit=True) as conn:
            return as_arrived_otherwise(conn)
    finally:
        store.close()
        reader.datastore.close()


def projected(url: str, chosen: list[type[Projection]], *, batch: int) -> None:
    """Bring some read models to the head, by a projector that knows no others."""
    reader = connect_log(url, pool=1, role="touchlog_app")
    store = ReadModels(url)
    projector = Projector(reader, store, [each() for each in chosen], batch=batch)
    try:
        assert projector.take_leases()
        projector.catch_up()
        projector.release_leases()
        assert store.parked() == []
    finally:
        store.close()
        reader.datastore.close()


@pytest.mark.parametrize("ahead", [280, 300], ids=["histories behind", "no histories yet"])
def test_persons_are_the_same_where_their_projector_runs_ahead_of_that_of_the_histories(
    preparing: Any, database_url: str, ahead: int
) -> None:
    """Each read model may have a process of its own; a link that is stated twice outlives the correction of one event."""
    log = connect_log(database_url, pool=1, role="touchlog_app")
    items = preparing(mixed(3, 300, persons=4))
    every = {name: type(each) for name, each in PROJECTIONS.items()}
    log.append(items[: 300 - ahead] or items[:1])
    if ahead < 300:
        projected(database_url, list(every.values()), batch=1000)
    log.append(items[300 - ahead or 1 :])
    log.datastore.close()

    projected(database_url, [every["identities"]], batch=7)
    projected(database_url, [each for name, each in every.items() if name != "identities"], batch=1000)

    with psycopg.connect(database_url, autocommit=True) as conn:
        apart = digests(conn)
    assert differing(apart, from_zero(database_url, batch=1000)) == []


def test_any_permutation_of_arrival_gives_the_same_rows_of_every_read_model(
    preparing: Any, new_database: NewDatabase
) -> None:
    """With corrections before their events, events after the retraction of their import, links in any order."""

    @settings(max_examples=8, phases=(Phase.explicit, Phase.reuse, Phase.generate))  # to shrink takes minutes
    @given(
        seed=st.integers(0, 10_000),
        chance=st.randoms(use_true_random=False),
        sizes=st.lists(st.sampled_from([1, 2, 5, 20, 150]), min_size=1, max_size=4),
    )
    def whole(seed: int, chance: random.Random, sizes: list[int]) -> None:
        sent: list[Sent] = list(mixed(seed, EVENTS, persons=12))
        items = preparing(sent)
        in_order = arrived(new_database(), items, [EVENTS])
        empty = {name for name, rows in in_order.items() if not rows}
        assert empty == {"merges", "splits", "profile_updates", "consent_facts", "consent_verdicts"}, (
            "commands, or sources that tell of persons"
        )

        shuffled = list(items)
        chance.shuffle(shuffled)
        otherwise = arrived(new_database(), shuffled, sizes)

        for name, rows in in_order.items():
            assert otherwise[name] == rows, name

    whole()
