"""Lanes that are kept answer like lanes made anew, whatever came, was corrected or is asked of the past meanwhile."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from adapters.columns.chunk import Chunk, Vocabulary
from adapters.columns.funnels import ask, bar
from adapters.columns.lanes import Lanes
from adapters.columns.rows import Row, table_of
from adapters.columns.view import View
from domain.funnels.question import Funnel
from domain.funnels.reading import Known, read_funnel
from domain.funnels.reference import Happening
from tests.unit.test_funnel_cases import SECOND, rows_from, themselves
from tests.unit.test_funnel_kernel import KNOWN, TYPES

QUESTIONS: tuple[dict[str, Any], ...] = (
    {"steps": [*TYPES[:3]], "window": "200s", "breakdown": {"by": "channel", "attribution": "all_steps"}},
    {"steps": [{"type": TYPES[0], "where": {"k": [1, 2]}}, TYPES[1]], "window": "50s", "breakdown": "data.k"},
    {"steps": [TYPES[0], TYPES[1]], "window": "90s", "unit": "data.session", "order": "strict"},
)


def happened(random: np.random.Generator, first: int, count: int, instants: int = 300) -> list[Happening]:
    return [
        Happening(
            position=i,
            at_us=int(random.integers(0, instants)) * SECOND,
            type=str(random.choice(TYPES[:4])),
            source=str(random.choice(["a", "é", "b"])),
            source_id=f"{random.integers(0, 9)}/{i}",
            unit=f"u{random.integers(0, 40):02}",
            properties={
                "channel": str(random.choice(["web", "call"])), "source": "s", "data.k": int(random.integers(0, 3)),
                "data.session": f"s{random.integers(0, 9)}",
            },
        )
        for i in range(first, first + count)
    ]  # fmt: skip


def in_pairs(owners: Any) -> Any:
    """Each two subjects are a person."""
    numbers: dict[str, int] = {}
    codes = [numbers.setdefault(f"p{int(o[1:]) // 2:02}", len(numbers)) for o in owners]
    return np.array(codes, np.int32), list(numbers)


class Shop:
    """Chunks as a shelf and a tail have them, and the lanes that are kept of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vocabularies: dict[str, Vocabulary] = {}
        self.chunks: list[Chunk] = []
        self.closed: dict[int, list[int]] = {}
        self.version = 0
        self.lanes = Lanes()

    def add(self, rows: list[Row], *, on_disk: bool) -> None:
        table = table_of(rows)
        if on_disk:
            file = self.folder / f"{len(self.chunks)}.parquet"
            pq.write_table(table, file)
            self.chunks.append(Chunk(file, self.vocabularies))
        else:
            self.chunks.append(Chunk(table, self.vocabularies))

    def close(self, position: int, to: int) -> None:
        self.closed = {**self.closed, position: [*self.closed.get(position, []), to]}
        self.version += 1

    def view(self, known_at: int, *, lanes: Lanes | None) -> View:
        known = [c for c in self.chunks if min(c.ints("known_from").tolist()) <= known_at]
        return View(
            known, self.vocabularies, known_at=known_at, closed=self.closed, closed_version=self.version,
            beside=[c for c in self.chunks if c not in known], lanes=lanes,
        )  # fmt: skip

    def answers(self, known_at: int, *, lanes: Lanes | None, owners: Any = in_pairs) -> list[bytes]:
        found = []
        for raw in QUESTIONS:
            view = self.view(known_at, lanes=lanes)
            funnel = read_funnel(raw, KNOWN)
            answer = ask(funnel, view, owners, as_of=None, as_of_us=None, known_us=0)
            behind = bar(funnel, view, owners, step=1, dropped=False)
            found.append(msgspec.json.encode((answer, behind)))
        return found


def test_kept_lanes_answer_like_new_ones_whatever_comes_meanwhile(tmp_path: Path) -> None:
    random, shop = np.random.default_rng(3), Shop(tmp_path)
    rows = rows_from(happened(random, 1, 400))
    shop.add(rows[:200], on_disk=True)
    shop.add(rows[200:300], on_disk=True)
    shop.add(rows[300:], on_disk=False)
    before = {at: shop.answers(at, lanes=shop.lanes) for at in (150, 250, 400)}

    def same_as_new(*moments: int) -> None:
        for at in moments:
            assert shop.answers(at, lanes=shop.lanes) == shop.answers(at, lanes=None)

    shop.add(rows_from(happened(random, 401, 100)), on_disk=False)
    same_as_new(500, 250, 400)
    shop.close(120, 501)  # corrected: it happened at another time, on another channel
    shop.add(
        [msgspec.structs.replace(rows[119], occurred_at=77 * SECOND, channel="app", known_from=501)],
        on_disk=True,
    )
    for position in range(130, 160):
        shop.close(position, 502)  # retracted
    same_as_new(502, 501, 500, 400, 150)
    assert shop.answers(502, lanes=shop.lanes) != shop.answers(501, lanes=shop.lanes)
    assert shop.answers(502, lanes=shop.lanes, owners=themselves) != shop.answers(502, lanes=shop.lanes)
    same_as_new(502)

    assert {at: shop.answers(at, lanes=shop.lanes) for at in before} == before


def test_what_is_kept_beyond_the_budget_is_made_anew_and_the_same(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.add(rows_from(happened(np.random.default_rng(4), 1, 300)), on_disk=True)
    shop.lanes = Lanes(budget=0)

    for _ in range(2):
        assert shop.answers(300, lanes=shop.lanes) == shop.answers(300, lanes=None)

    assert {path for path, _ in shop.lanes._kept} == {"data.session"}


@pytest.mark.parametrize("on_disk", [True, False])
def test_events_of_one_instant_that_come_by_several_segments_stand_by_source_and_id(
    tmp_path: Path, on_disk: bool
) -> None:
    random, shop = np.random.default_rng(9), Shop(tmp_path)
    rows = rows_from(happened(random, 1, 600, instants=3))
    whole, parts = Shop(tmp_path / "whole"), [rows[i::3] for i in range(3)]
    whole.add(rows, on_disk=False)
    for i, part in enumerate(parts):
        shop.add(part, on_disk=on_disk and i < 2)

    assert shop.answers(600, lanes=shop.lanes) == whole.answers(600, lanes=None)


def test_both_threads_put_their_share_in_order_before_ties_are_looked_at(tmp_path: Path) -> None:
    funnel: Funnel = read_funnel(
        {"steps": ["custom.B", "custom.A"], "window": "5s"}, Known(frozenset(TYPES), {})
    )
    events = [
        Happening(
            position=8 * unit + i + 1, at_us=SECOND * (unit >= 2000), type=TYPES[i % 2], source="s", source_id=f"{i}",
            unit=f"u{unit:05}", properties={"channel": "web", "source": "s"},
        )
        for unit in range(4000)
        for i in range(8)
    ]  # fmt: skip
    rows, shop = rows_from(events), Shop(tmp_path)
    shop.add(rows[::3], on_disk=True)
    shop.add([r for i, r in enumerate(rows) if i % 3], on_disk=False)

    with ThreadPoolExecutor(2) as threads:
        for _ in range(5):
            view = shop.view(len(rows), lanes=shop.lanes)
            found = bar(funnel, view, themselves, step=2, dropped=False, threads=threads)
            alone = bar(funnel, view, themselves, step=2, dropped=False)
            assert found == alone
