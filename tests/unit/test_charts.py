"""Charts read as they are meant."""

from __future__ import annotations

import re

from adapters.analysis import charts
from domain.funnels.answer import Answer, figures
from domain.funnels.times import summary

HOUR_US = 3_600_000_000


def test_a_funnel_of_a_few_persons_is_told_in_whole_numbers() -> None:
    spans = ([HOUR_US], HOUR_US)
    answer = Answer(figures([3, 1], [spans]), summary(*spans), False, [], None, 5, 5)

    drawn = charts.svg(charts.funnel_chart(answer, ["a", "b"]))

    texts = re.findall(r">([^<>]+)</text>", drawn)
    assert texts[: texts.index("reached")] == ["0", "1", "2", "3"]
    assert texts[texts.index("converted") - 2 : texts.index("converted")] == ["0", "1"]
