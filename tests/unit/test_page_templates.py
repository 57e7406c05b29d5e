"""Pages as they are written: what they owe to a small screen, a keyboard, a screen reader, and a name in any script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

import adapters.http

PAGES = Path(adapters.http.__file__).parent / "pages"
TEMPLATES = sorted(PAGES.glob("*.html"))
STYLE = (PAGES / "style.css").read_text(encoding="utf-8")


def declared(selector: str) -> dict[str, str]:
    """What the style sheet says of exactly *selector*, outside of any medium."""
    (body,) = re.findall(rf"(?m)^{re.escape(selector)} \{{([^}}]*)\}}", STYLE)
    return dict(re.findall(r"([\w-]+):\s*([^;]+);", body))


@pytest.mark.parametrize("page", TEMPLATES, ids=lambda p: p.name)
def test_every_column_of_a_table_has_a_name(page: Path) -> None:
    assert not re.search(r"<th[^>]*>\s*</th>", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", TEMPLATES, ids=lambda p: p.name)
def test_what_scrolls_sideways_can_be_scrolled_with_the_keyboard(page: Path) -> None:
    assert not re.search(r"<pre(?![^>]*tabindex)", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", TEMPLATES, ids=lambda p: p.name)
def test_a_control_that_is_not_seen_is_no_stop_of_the_tabulator(page: Path) -> None:
    for control in re.findall(
        r"<(?:button|a|input)\b[^>]*\bclass=\"hidden\"[^>]*>", page.read_text(encoding="utf-8")
    ):
        assert 'tabindex="-1"' in control


def test_what_is_for_screen_readers_only_widens_no_page() -> None:
    # given that a button has padding, a border and a least height, and a card scrolls sideways
    hidden = declared(".hidden")

    # then a hidden one has none of them, and scrolls along with its card
    assert (hidden["padding"], hidden["border"], hidden["min-height"]) == ("0", "0", "0")
    assert declared("main .card") == {"overflow-x": "auto", "position": "relative"}


def test_what_hides_its_filters_on_paper_says_there_what_was_asked_for() -> None:
    # given that no field of a form is printed, and a sentence for paper is on no screen
    on_paper = STYLE.partition("@media print {")[2]
    assert declared(".on-paper") == {"display": "none"}
    assert re.search(r"\.filters,[^{]*\{ display: none", on_paper)
    assert ".on-paper { display: block; }" in on_paper

    # then each page that is asked by fields tells them in such a sentence, or in its answer
    asked = [page for page in TEMPLATES if 'class="filters card"' in page.read_text(encoding="utf-8")]
    assert {page.name for page in asked} == {"person.html", "why.html", "breaches.html", "question.html"}
    for page in asked:
        told = 'class="on-paper"' if page.name in ("person.html", "breaches.html") else "known at position"
        assert told in page.read_text(encoding="utf-8"), page.name


@pytest.mark.parametrize("at_night", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("ground", ["paper", "card", "faint"])
def test_a_text_stands_out_from_its_ground_also_the_example_in_an_empty_field(
    ground: str, *, at_night: bool
) -> None:
    # given the colours of day or night, and how much of its own an example in a field keeps
    colours = dict(
        re.findall(r"--([\w-]+): #([0-9a-f]{6})", re.findall(r":root \{([^}]*)\}", STYLE)[at_night])
    )
    kept = float(declared("input::placeholder").get("opacity", "1"))

    def channels(name: str) -> list[int]:
        return [int(colours[name][n : n + 2], 16) for n in (0, 2, 4)]

    def brightness(rgb: Sequence[float]) -> float:
        linear = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    # then each has the contrast of 4.5 that WCAG 2 asks of a text
    below = channels(ground)
    example = [kept * own + (1 - kept) * under for own, under in zip(channels("soft"), below, strict=True)]
    texts: list[Sequence[float]] = [example]
    texts += map(channels, ("ink", "soft", "accent", "good", "busy", "bad"))
    for text in texts:
        darker, lighter = sorted(map(brightness, (text, below)))
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def test_a_word_of_ten_thousand_letters_breaks_and_widens_no_page() -> None:
    assert declared("body")["overflow-wrap"] == "anywhere"
    # A column is not to be a letter wide for it; its widest is bounded instead.
    assert declared("table")["overflow-wrap"] == "break-word"
    assert "max-width" in declared("td, th")


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("found.html", "s.value"),
        ("duplicates.html", "s.value"),
        ("why.html", "e.ref"),
        ("refused.html", "e.ref"),
    ],
)
def test_a_name_of_another_direction_does_not_turn_the_words_around_it(page: str, told: str) -> None:
    text = (PAGES / page).read_text(encoding="utf-8")
    assert re.search(rf"<bdi>\{{\{{ {re.escape(told)}\b[^}}]*\}}\}}</bdi>", text)
