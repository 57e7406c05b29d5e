"""Tables in a terminal: whatever its width, a word, an id or an address stands whole."""

from __future__ import annotations

import random

import pytest
from rich.console import Console

from bin.commands.reading import table

TRAIL = ("position", "recorded (UTC)", "by", "type", "source", "id there", "because of")
ROW = (
    "1,204",
    "2026-01-31 09:30",
    "tl_92b2f509",
    "correction.recorded",
    "touchlog/imports",
    "row-17",
    "import 37c6f236",
)


def printed(columns: tuple[str, ...], *rows: tuple[str, ...], width: int) -> list[str]:
    made = table(*columns, right=("position",))
    for row in rows:
        made.add_row(*row)
    out = Console(width=width, highlight=False)
    with out.capture() as kept:
        out.print(made)
    return kept.get().splitlines()


@pytest.mark.parametrize("width", [40, 80, 96, 110, 200])
def test_no_word_of_a_table_is_broken_at_any_width(width: int) -> None:
    lines = printed(TRAIL, ROW, width=width)
    assert {word for line in lines for word in line.split()} >= {
        w for text in (*TRAIL, *ROW) for w in text.split()
    }
    assert max(map(len, lines)) <= width


def test_a_table_that_has_room_gives_each_row_one_line() -> None:
    lines = [line for line in printed(TRAIL, ROW, ROW, width=160) if "1,204" in line]
    assert len(lines) == 2
    assert all("correction.recorded" in line and "import 37c6f236" in line for line in lines)


def test_an_id_beside_a_long_text_stays_whole_and_the_text_is_wrapped() -> None:
    words = "nothing is allowed that needs consent and this is why, told at some length"
    lines = printed(("event id", "why"), ("17e26897-d5eb-4528-ae6f-2e2b6b2a4037", words), width=60)
    assert "17e26897-d5eb-4528-ae6f-2e2b6b2a4037" in " ".join(lines)
    assert len([line for line in lines if line.strip()]) > 3


def test_where_no_word_fits_beside_another_each_row_is_lines_of_title_and_value() -> None:
    # given two rows of which the second lacks a value
    rows = ("e1", "autumn-sale-2026"), ("e" * 30, "")

    # when they are printed narrower than the words side by side
    lines = [line.rstrip() for line in printed(("event id", "campaign"), *rows, width=41)]

    # then each row is told by itself, without what is empty
    assert lines == ["event id  e1", "campaign  autumn-sale-2026", "", "event id  " + "e" * 30, ""]


def test_random_tables_keep_every_word_at_every_width() -> None:
    chance = random.Random(11)
    for _ in range(60):
        titles = tuple(f"t{n} {'x' * chance.randrange(1, 12)}" for n in range(chance.randrange(1, 8)))
        rows = [tuple(" ".join("w" * chance.randrange(1, 20) for _ in range(chance.randrange(4))) for _ in titles)
                for _ in range(3)]  # fmt: skip
        width = chance.randrange(40, 140)
        lines = printed(titles, *rows, width=width)
        words = {word for line in lines for word in line.split()}
        assert words >= {word for row in rows for text in row for word in text.split()}
        assert max(map(len, lines)) <= width
