"""Answers drawn: who accepts image/svg+xml before JSON gets the chart instead of the figures."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Request, Response

from adapters.http.reading import Timed

__all__ = ["SVG", "drawn", "wants_drawing"]

SVG = "image/svg+xml"


def wants_drawing(request: Request[Any, Any, Any]) -> bool:
    """Whether the answer is to be a chart."""
    return request.headers.get("accept", "").split(",")[0].split(";")[0].strip().lower() == SVG


async def drawn(chart: dict[str, Any], taken: Timed) -> Response[bytes]:
    """A chart as SVG, drawn beside the other answers of this process."""
    from adapters.analysis.charts import svg

    text = await asyncio.to_thread(svg, chart)
    return Response(
        text.encode(), media_type=SVG, headers={"Cache-Control": "no-store", "Vary": "Accept", **taken.header}
    )
