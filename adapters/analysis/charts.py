"""Charts as SVG by Vega-Lite, on the server: they print, need no network and no script, and tell shapes apart without colour.

The colours are those of Okabe and Ito, which the colour-blind tell apart; every bar carries its number.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from domain.funnels.answer import Answer
from domain.retention.answer import Cohort, Retained

__all__ = ["funnel_chart", "retention_chart", "svg"]

_COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000"]
_CONFIG = {
    "font": "Helvetica, Arial, sans-serif",
    "view": {"stroke": None},
    "axis": {"grid": False, "labelLimit": 260},
    "range": {"category": _COLOURS},
    "background": "white",
}
_SHOWN_VALUES = 8
_MOST_ROWS = 60
_UNITS = (("seconds", 1, 60), ("minutes", 60, 3600), ("hours", 3600, 86_400), ("days", 86_400, 0))
"""(unit of a time axis, its seconds, seconds of the next): an axis is in a unit until it is three of the next long."""
_SHADES = ["#f2f7fb", "#9ecae9", "#3182bd", "#08306b"]
"""Light to dark, so that a black-and-white print keeps the order."""
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
        "resolve": {"scale": {"color": "independent", "shape": "independent"}},
        "config": _CONFIG,
    }


def retention_chart(answer: Retained) -> dict[str, Any]:
    """The chart of a retention: the grid of its cohorts, below it the course of all (and of the values of a breakdown)."""
    shown = answer.cohorts[-_MOST_ROWS:]
    parts = [_grid(answer, shown)] if shown else []
    if answer.total.intervals:
        parts.append(_courses(answer))
    known = f"known at position {answer.known_at:,}" + (f", as of {answer.as_of}" if answer.as_of else "")
    spans = (
        f"{answer.interval}s from each start on"
        if answer.mode == "rolling"
        else f"calendar {answer.interval}s after the start"
    )
    if any(cell.open for cohort in shown for cell in cohort.intervals):
        spans += "; dashed: not over yet"
    if len(shown) < len(answer.cohorts):
        known += f"; the last {len(shown)} of {len(answer.cohorts):,} cohorts"
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": {
            "text": "Retention",
            "subtitle": [f"Share that returned, by {spans}", known, *_lines(answer.notes)],
            "anchor": "start",
        },
        "vconcat": parts,
        "resolve": {"scale": {"color": "independent", "shape": "independent"}},
        "config": _CONFIG,
    }  # fmt: skip


def _lines(notes: Sequence[str]) -> list[str]:
    """Notes in lines as wide as a chart."""
    return [line for note in notes for line in textwrap.wrap(note, 110)]


def _grid(answer: Retained, shown: Sequence[Cohort]) -> dict[str, Any]:
    """Light to dark by share, each cell with its number, in print as on a screen; a frame for what is not over."""
    names = [f"{c.cohort}  ({c.size:,})" for c in shown]
    rows: list[dict[str, Any]] = [
        {"cohort": name, "interval": k, "share": cell.share, "open": cell.open, "told": _percent(cell.share)}
        for name, c in zip(names, shown, strict=True)
        for k, cell in enumerate(c.intervals)
        if cell.share is not None
    ]
    # Where nearly nobody leaves at once the first column would take all of the shades.
    highest = max((r["share"] for r in rows), default=1) or 1
    across = max((len(c.intervals) for c in shown), default=1)
    on_shade = {"condition": {"test": f"datum.share > {0.64 * highest}", "value": "white"}, "value": "black"}
    return {
        "data": {"values": rows},
        "width": {"step": max(30, min(44, 720 // across))},
        "height": {"step": 20},
        "encoding": {
            "x": {"field": "interval", "type": "ordinal", "title": f"{answer.interval}s after the start", "axis": {"orient": "top", "labelAngle": 0, "domain": False, "ticks": False}},
            "y": {"field": "cohort", "type": "nominal", "sort": names, "title": None, "axis": {"domain": False, "ticks": False}},
        },
        "layer": [
            {
                "mark": {"type": "rect", "stroke": "white", "strokeWidth": 2},
                "encoding": {"color": {"field": "share", "type": "quantitative", "legend": None, "scale": {"domain": [0, highest], "range": _SHADES}}},
            },
            {
                "transform": [{"filter": "datum.open"}],
                "mark": {"type": "rect", "filled": False, "strokeWidth": 1, "strokeDash": [3, 2], "width": {"band": 0.88}, "height": {"band": 0.8}},
                "encoding": {"stroke": on_shade},
            },
            {
                "mark": {"type": "text", "fontSize": 9},
                "encoding": {
                    "text": {"field": "told"},
                    "color": on_shade,
                },
            },
        ],
    }  # fmt: skip


def _percent(share: float | None) -> str:
    """A share, with a decimal where a whole number would hide it."""
    share = share or 0
    return f"{share:.1%}" if 0 < share < 0.095 else f"{share:.0%}"


def _courses(answer: Retained) -> dict[str, Any]:
    """The share of all by interval, over the cohorts for which it is over; of a breakdown a line for each value."""
    lines = [("(none)" if v.value is None else str(v.value), v.intervals) for v in answer.breakdown or []]
    shown = lines[:_SHOWN_VALUES] or [("all", answer.total.intervals)]
    names = [name for name, _ in shown]
    rows = [
        {"value": name, "interval": k, "share": cell.share}
        for name, cells in shown
        for k, cell in enumerate(cells)
        if cell.share is not None
    ]
    blue = {"color": {"value": _COLOURS[0]}}
    by_value: dict[str, Any] = {
        "color": {
            "field": "value",
            "type": "nominal",
            "sort": names,
            "legend": None,
        },  # shapes tell as much in print
        "shape": {"field": "value", "type": "nominal", "sort": names, "title": None},
    }
    told = "the intervals that are over" + (", by value" if lines else "")
    more = f" (the {len(shown)} most frequent of {len(lines)})" if len(lines) > len(shown) else ""
    return {
        "data": {"values": rows},
        "title": {"text": f"All cohorts, {told}{more}", "anchor": "start", "fontSize": 12},
        "width": 560,
        "height": 180,
        "encoding": {
            "x": {"field": "interval", "type": "ordinal", "title": f"{answer.interval}s after the start", "axis": {"labelAngle": 0}},
            "y": {"field": "share", "type": "quantitative", "title": None, "axis": {"format": "%"}},
        },
        "layer": [
            {"mark": "line", "encoding": {"color": by_value["color"]} if lines else blue},
            {"mark": {"type": "point", "filled": True, "size": 50, "opacity": 1}, "encoding": by_value if lines else blue},
        ],
    }  # fmt: skip


def _named(steps: Sequence[str]) -> list[str]:
    return [f"{i}. {name}" for i, name in enumerate(steps, start=1)]


def _whole(counts: Iterable[int]) -> dict[str, Any]:
    """The axis of some counts: of few it tells each whole number, as nobody is half a person."""
    most = max(counts)
    return {"values": list(range(most + 1)), "format": "d"} if most < 10 else {}


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
            "x": {
                "field": "count",
                "type": "quantitative",
                "title": "reached",
                "axis": _whole(s.count for s in answer.steps),
            },
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
        {"value": name, "step": step, "share": s.conversion, "told": _percent(s.conversion)}
        for name, v in zip(names, shown, strict=True)
        for step, s in zip(_named(steps), v.steps, strict=True)
        if s.conversion is not None
    ]
    return {
        "data": {"values": rows},
        "title": {"text": "Share of the first step, by value: bars in the order of the legend", "anchor": "start", "fontSize": 12},
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
                "mark": {"type": "point", "filled": True, "size": 60, "opacity": 1, "color": _COLOURS[0]},
                "encoding": {"shape": {"field": "state", "type": "nominal", "title": None}},
            },
        ],
    }


def _times(answer: Answer) -> dict[str, Any]:
    whole = answer.time_to_convert
    unit, size = next((u for u in _UNITS if whole.histogram[-1].to_s < 3 * u[2]), _UNITS[-1])[:2]
    rows = [{"from": b.from_s / size, "to": b.to_s / size, "count": b.count} for b in whole.histogram]
    told = (
        f": median {(whole.median_s or 0) / size:,.1f}, 90 % within {(whole.p90_s or 0) / size:,.1f} {unit}"
    )
    return {
        "data": {"values": rows},
        "title": {"text": f"Time to convert{told}", "anchor": "start", "fontSize": 12},
        "width": 560,
        "height": 160,
        "mark": {"type": "bar", "color": _COLOURS[2], "stroke": "white"},
        "encoding": {
            "x": {"field": "from", "type": "quantitative", "title": unit, "bin": {"binned": True}},
            "x2": {"field": "to"},
            "y": {
                "field": "count",
                "type": "quantitative",
                "title": "converted",
                "axis": _whole(b.count for b in whole.histogram),
            },
        },
    }
