"""The path diagram: steps by level as bars, what goes from one to the next as bands; numbers stand beside every bar.

Kinds of bar differ in lightness and outline, not in hue alone, so that they print and the colour-blind tell them
apart; the colours are those of Okabe and Ito.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from domain.paths.answer import Answer, Level

__all__ = ["naming", "path_chart"]

_COLUMN, _BAR, _HEIGHT = 210, 12, 460
_CURVE = 12
_LONGEST = 20
_GAP = 0.09
"""Space between bars, as a share of the height of all paths."""
_FILLS = {"event": "#003A5D", "step": "#0072B2", "others": "#9ACBE8", "no more": "#FFFFFF"}


class _Bar(NamedTuple):
    level: int
    place: int | None  # in the level's steps; None: the others; -1: no more
    kind: str
    text: str
    low: float
    high: float


def naming(answer: Answer) -> Callable[[Any], str]:
    """What steps are called: by their types, or where a value tells them apart by that; both where types differ."""
    types = {s.type for level in answer.levels for s in level.steps}

    def name(step: Any) -> str:
        if step.value is None:
            return str(step.type)
        return str(step.value) if len(types) == 1 else f"{step.type.rpartition('.')[2]}: {step.value}"

    return name


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _bars(answer: Answer, level: Level, name: Callable[[Any], str]) -> list[_Bar]:
    """The bars of a level from the top down."""
    told: list[tuple[int | None, str, str, int]] = [
        (i, "step" if level.level else "event", _short(name(s)), s.count) for i, s in enumerate(level.steps)
    ]
    if level.rest:
        told.append((None, "others", f"{level.rest.names:,} others", level.rest.count))
    if level.ended:
        told.append((-1, "no more", "no later step" if level.level > 0 else "no earlier step", level.ended))
    found, top = [], 0.0
    for place, kind, text, count in told:
        label = f"{text}  {count:,} ({count / answer.paths:.0%})"
        found.append(_Bar(level.level, place, kind, label, top, top + count))
        top += count + answer.paths * _GAP
    return found


def path_chart(answer: Answer, unit: str = "person") -> dict[str, Any]:
    """The diagram of an answer to a question of this unit, as Vega-Lite."""
    whose = "persons" if unit == "person" else f"values of {unit}"
    told = f"{answer.paths:,} paths of {answer.units:,} {whose}"
    known = f"known at position {answer.known_at:,}" + (f", as of {answer.as_of}" if answer.as_of else "")
    name = naming(answer)
    bars = {level.level: _bars(answer, level, name) for level in answer.levels} if answer.paths else {}
    lowest = max((b.high for some in bars.values() for b in some), default=1)
    boxes = [
        {"x": b.level * _COLUMN, "x2": b.level * _COLUMN + _BAR, "y": b.low, "y2": b.high, "kind": b.kind, "text": b.text, "middle": (b.low + b.high) / 2}
        for some in bars.values()
        for b in some
    ]  # fmt: skip
    heads = [
        {"x": level.level * _COLUMN, "text": "the event" if not level.level else f"{abs(level.level)} {'after' if level.level > 0 else 'before'}"}
        for level in answer.levels
    ]  # fmt: skip
    left, right = answer.levels[0].level * _COLUMN - 8, (answer.levels[-1].level + 1) * _COLUMN
    x = {
        "field": "x",
        "type": "quantitative",
        "axis": None,
        "scale": {"domain": [left, right], "nice": False},
    }
    y = {"field": "y", "type": "quantitative", "axis": None, "scale": {"domain": [-lowest * 0.06, lowest * 1.02], "reverse": True, "nice": False}}  # fmt: skip
    label = {"x": x, "y": {**y, "field": "middle"}, "text": {"field": "text"}}
    written = {"type": "text", "align": "left", "dx": _BAR + 5, "fontSize": 11}
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": {"text": "Paths", "subtitle": [told, known], "anchor": "start"},
        "width": right - left,
        "height": _HEIGHT,
        "background": "white",
        "config": {"font": "Helvetica, Arial, sans-serif", "view": {"stroke": None}},
        "layer": [
            {
                "data": {"values": _bands(answer, bars)},
                "mark": {"type": "area", "color": "#B8C4CC", "opacity": 0.55, "stroke": "white", "strokeWidth": 0.5},
                "encoding": {"x": x, "y": y, "y2": {"field": "y2"}, "detail": {"field": "band", "type": "nominal"}},
            },
            {
                "data": {"values": boxes},
                "mark": {"type": "rect", "stroke": "#333333", "strokeWidth": 0.8},
                "encoding": {
                    "x": x, "x2": {"field": "x2"}, "y": y, "y2": {"field": "y2"},
                    "color": {"field": "kind", "type": "nominal", "legend": None, "scale": {"domain": list(_FILLS), "range": list(_FILLS.values())}},
                },
            },
            {"data": {"values": boxes}, "mark": {**written, "stroke": "white", "strokeWidth": 3, "strokeOpacity": 0.85}, "encoding": label},
            {"data": {"values": boxes}, "mark": {**written, "color": "#111111"}, "encoding": label},
            {
                "data": {"values": heads},
                "mark": {"type": "text", "align": "left", "fontWeight": "bold", "fontSize": 12, "baseline": "top"},
                "encoding": {"x": x, "y": {"value": 0}, "text": {"field": "text"}},
            },
        ],
    }  # fmt: skip


def _bands(answer: Answer, bars: dict[int, list[_Bar]]) -> list[dict[str, Any]]:
    """The outlines of what goes from one bar to another: smooth, each as thick as it is many."""
    leaves = {(b.level, b.place): b.low for some in bars.values() for b in some}
    comes = dict(leaves)
    points = []
    last = {level: len(some) for level, some in bars.items()}

    def rank(level: int, place: int | None) -> int:
        return last[level] if place is None else place

    links = sorted(answer.links, key=lambda k: (k.level, rank(k.level, k.from_), rank(k.level + 1, k.to)))
    for number, link in enumerate(links):
        begin, end = (link.level, link.from_), (link.level + 1, link.to)
        low, to = leaves[begin], comes[end]
        leaves[begin] += link.count
        comes[end] += link.count
        span = _COLUMN - _BAR
        for step in range(_CURVE + 1):
            t = step / _CURVE
            y = low + (to - low) * (3 * t * t - 2 * t * t * t)
            points.append(
                {"band": number, "x": link.level * _COLUMN + _BAR + span * t, "y": y, "y2": y + link.count}
            )
    return points
