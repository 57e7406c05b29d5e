"""Charts as SVG by Vega-Lite, on the server: they print, need no network and no script, and tell shapes apart without colour.

The colours are those of Okabe and Ito, which the colour-blind tell apart; every bar carries its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from domain.funnels.answer import Answer

__all__ = ["funnel_chart", "svg"]

_COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
_CONFIG = {
    "font": "Helvetica, Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {"grid": False, "labelLimit": 260},
    "range": {"category": _COLOURS},
    "background": "white",
}
_SHOWN_VALUES = 8
_SHARE = {"axis": {"format": "%"}, "scale": {"domain": [0, 1]}}


def svg(chart: dict[str, Any]) -> str:
    """A Vega-Lite chart as SVG text."""
    import vl_convert

    text: str = vl_convert.vegalite_to_svg(chart)
    return text


def funnel_chart(answer: Answer, steps: Sequence[str]) -> dict[str, Any]:
    """The chart of an answer: its steps; with a breakdown its values side by side, with a trend its course below."""
    parts = [_steps(answer, steps)]
    if answer.breakdown:
        parts.append(_breakdown(answer, steps))
    if answer.trend:
        parts.append(_trend(answer))
    if answer.time_to_convert.histogram:
        parts.append(_times(answer))
    known = f"known at position {answer.known_at:,}" + (f", as of {answer.as_of}" if answer.as_of else "")
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": {"text": "Funnel", "subtitle": known, "anchor": "start"},
        "vconcat": parts,
        "config": _CONFIG,
    }


def _named(steps: Sequence[str]) -> list[str]:
    return [f"{i}. {name}" for i, name in enumerate(steps, start=1)]


def _steps(answer: Answer, steps: Sequence[str]) -> dict[str, Any]:
    rows = [
        {"step": name, "count": s.count, "told": f"{s.count:,}" + (f"  {s.conversion:.1%}" if s.conversion is not None else "")}
        for name, s in zip(_named(steps), answer.steps, strict=True)
    ]  # fmt: skip
    return {
        "data": {"values": rows},
        "width": 560,
        "height": {"step": 30},
        "encoding": {
            "y": {"field": "step", "type": "nominal", "sort": None, "title": None},
            "x": {"field": "count", "type": "quantitative", "title": "reached"},
        },
        "layer": [
            {"mark": {"type": "bar", "color": _COLOURS[0]}},
            {"mark": {"type": "text", "align": "left", "dx": 5}, "encoding": {"text": {"field": "told"}}},
        ],
    }


def _breakdown(answer: Answer, steps: Sequence[str]) -> dict[str, Any]:
    shown = (answer.breakdown or [])[:_SHOWN_VALUES]
    names = ["(none)" if v.value is None else str(v.value) for v in shown]
    rows = [
        {"value": name, "step": step, "share": s.conversion, "told": f"{s.conversion:.0%}"}
        for name, v in zip(names, shown, strict=True)
        for step, s in zip(_named(steps), v.steps, strict=True)
        if s.conversion is not None
    ]
    return {
        "data": {"values": rows},
        "title": {"text": "Share of the first step, by value", "anchor": "start", "fontSize": 12},
        "width": 560,
        "height": 220,
        "encoding": {
            "x": {"field": "step", "type": "nominal", "sort": None, "title": None, "axis": {"labelAngle": 0}},
            "xOffset": {"field": "value", "type": "nominal", "sort": names},
            "y": {"field": "share", "type": "quantitative", "title": None, **_SHARE},
            "color": {"field": "value", "type": "nominal", "sort": names, "title": None},
        },
        "layer": [
            {"mark": {"type": "bar", "stroke": "white"}},
            {"mark": {"type": "text", "dy": -6, "fontSize": 8}, "encoding": {"text": {"field": "told"}, "color": {"value": "black"}}},
        ],
    }  # fmt: skip


def _trend(answer: Answer) -> dict[str, Any]:
    rows = [
        {
            "period": p.period,
            "share": p.steps[-1].conversion,
            "state": "window still open" if p.open else "complete",
        }
        for p in answer.trend or []
    ]
    return {
        "data": {"values": rows},
        "title": {"text": "Conversion by begin", "anchor": "start", "fontSize": 12},
        "width": 560,
        "height": 180,
        "encoding": {
            "x": {"field": "period", "type": "ordinal", "title": None, "axis": {"labelOverlap": True}},
            "y": {"field": "share", "type": "quantitative", "title": None, "axis": {"format": ".1%"}},
        },
        "layer": [
            {"mark": {"type": "line", "color": _COLOURS[0]}},
            {
                "mark": {"type": "point", "filled": True, "size": 40, "color": _COLOURS[0]},
                "encoding": {"shape": {"field": "state", "type": "nominal", "title": None}},
            },
        ],
    }


def _times(answer: Answer) -> dict[str, Any]:
    rows = [
        {"from": b.from_s / 3600, "to": b.to_s / 3600, "count": b.count}
        for b in answer.time_to_convert.histogram
    ]
    return {
        "data": {"values": rows},
        "title": {"text": "Time to convert", "anchor": "start", "fontSize": 12},
        "width": 560,
        "height": 160,
        "mark": {"type": "bar", "color": _COLOURS[2], "stroke": "white"},
        "encoding": {
            "x": {"field": "from", "type": "quantitative", "title": "hours", "bin": {"binned": True}},
            "x2": {"field": "to"},
            "y": {"field": "count", "type": "quantitative", "title": None},
        },
    }
