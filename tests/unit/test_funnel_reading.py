"""What is no property is told with the nearest that are; what was once an answer stays one."""

from __future__ import annotations

from typing import Any

import pytest

import domain.touchpoints  # noqa: F401 - declares the types
from domain.errors import Invalid, Problem
from domain.funnels.reading import Known, read_funnel

SEEN = {"data.properties.plan": frozenset({"text"}), "data.device": frozenset({"text"})}


def problems(seen: dict[str, frozenset[str]] | None = None, **options: Any) -> list[Problem]:
    """What is wrong with a question."""
    raw = {"steps": ["web.page_viewed", "cart.updated"], "window": "1h", **options}
    try:
        read_funnel(raw, Known(frozenset(), SEEN if seen is None else seen))
    except Invalid as refused:
        return list(refused.problems)
    return []


@pytest.mark.parametrize(
    ("options", "nearest"),
    [
        ({"breakdown": "data.properties.pan"}, "did you mean data.properties.plan"),
        ({"hold": ["properties.plann"]}, "did you mean data.properties.plan"),
        ({"unit": "data.properties.plam"}, "did you mean data.properties.plan"),
        ({"breakdown": "properties"}, "did you mean data.properties.plan"),
        ({"breakdown": "data.path.name"}, "did you mean data.path"),
        ({"breakdown": "chanel"}, "did you mean channel or data."),
        ({"unit": "persn"}, "did you mean person or data."),
    ],
)
def test_a_property_that_nobody_recorded_is_told_with_the_nearest(
    options: dict[str, Any], nearest: str
) -> None:
    (problem,) = problems(**options)

    assert problem.code == "unknown_property"
    assert nearest in problem.detail


@pytest.mark.parametrize("path", ["data.properties.plan", "data.device", "data.title", "data.notice.id"])
def test_what_was_recorded_or_is_declared_can_be_asked_for(path: str) -> None:
    assert problems(breakdown=path) == []


@pytest.mark.parametrize("types", [["order.placed", "web.page_viewed"], ["custom.x", "web.page_viewed"]])
@pytest.mark.parametrize("seen", [{}, SEEN], ids=["before it was recorded", "after"])
def test_a_filter_of_the_wrong_type_is_refused_before_and_after_the_first_value_came(
    types: list[str], seen: dict[str, frozenset[str]]
) -> None:
    raw = {"steps": [{"type": types, "where": {"device": 5}}, "cart.updated"], "window": "1h"}

    with pytest.raises(Invalid) as refused:
        read_funnel(raw, Known(frozenset({"custom.x"}), seen))

    assert [p.code for p in refused.value.problems] == ["wrong_type"]
