"""What filters, units and breakdowns see of an event: its channel, direction, source, and plain properties by path."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Literal

import msgspec

__all__ = ["ENVELOPE", "OPS", "Condition", "Op", "flat", "identity", "kind_of_value", "path_of", "shown"]

ENVELOPE = ("channel", "direction", "source")
"""Properties that every event has beside its `data`."""
Op = Literal["=", "!=", "in", "<", "<=", ">", ">=", "contains", "exists"]
OPS: tuple[Op, ...] = ("=", "!=", "in", "<", "<=", ">", ">=", "contains", "exists")


def path_of(key: str) -> str:
    """The property that a key names: `channel`, `direction`, `source`, or `data.<path>`; without prefix a field of data."""
    return key if key in ENVELOPE or key.startswith("data.") else f"data.{key}"


def flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves of *data* by path (`data.cart.id`); lists are leaves, nulls and empty objects are absent."""
    found: dict[str, Any] = {}
    _flatten(data, "data", found)
    return found


def _flatten(data: Mapping[str, Any], prefix: str, found: dict[str, Any]) -> None:
    for key in sorted(data):
        value = data[key]
        if isinstance(value, dict):
            _flatten(value, f"{prefix}.{key}", found)
        elif value is not None:
            found.setdefault(f"{prefix}.{key}", value)


def kind_of_value(value: Any) -> str:
    """The JSON kind of a value: text, number, flag or list."""
    if isinstance(value, bool):
        return "flag"
    if isinstance(value, int | float):
        return "number"
    return "text" if isinstance(value, str) else "list"


def identity(value: Any) -> Hashable:
    """What two values share that are the same: 1 and 1.0 are, 1 and true are not."""
    kind = kind_of_value(value)
    return (kind, msgspec.json.encode(value, order="sorted") if kind == "list" else value)


def shown(value: Any) -> Any:
    """The one spelling of a value in answers: a number without a fraction is a whole number."""
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value


_COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}


class Condition(msgspec.Struct, frozen=True):
    """A filter on one property.

    An absent property is different from every value (`!=` holds), and fulfils nothing else but `exists: false`.
    Values of different kinds are never equal and never compare.
    """

    path: str
    op: Op
    value: Any

    def holds(self, value: Any | None) -> bool:
        """Whether an event with this value of the property (None: it has none) passes."""
        if self.op == "exists":
            return (value is not None) == bool(self.value)
        if value is None:
            return self.op == "!="
        if self.op == "=":
            return identity(value) == identity(self.value)
        if self.op == "!=":
            return identity(value) != identity(self.value)
        if self.op == "in":
            return any(identity(value) == identity(one) for one in self.value)
        if self.op == "contains":
            if isinstance(value, list):
                return any(identity(one) == identity(self.value) for one in value)
            return isinstance(value, str) and isinstance(self.value, str) and self.value in value
        return kind_of_value(value) == kind_of_value(self.value) and bool(
            _COMPARED[self.op](value, self.value)
        )
