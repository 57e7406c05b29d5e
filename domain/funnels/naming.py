"""What the steps of a question are called, in tables and charts."""

from __future__ import annotations

from typing import Any

__all__ = ["matcher_name", "step_names"]


def step_names(question: dict[str, Any]) -> list[str]:
    """What each step is called: its name, or its types and filters."""
    return [matcher_name(step) for step in question.get("steps", [])]


def matcher_name(step: Any) -> str:
    """What events of some types and filters are called, as a question names them."""
    if isinstance(step, str):
        return step
    if isinstance(step, list):
        return " | ".join(step)
    types = step.get("type", "")
    where = ", ".join(f"{k}={v.get('op', '=')}{v.get('value', '')}" if isinstance(v, dict) else f"{k}={v}" for k, v in (step.get("where") or {}).items())  # fmt: skip
    told = types if isinstance(types, str) else " | ".join(types)
    return step.get("name") or (f"{told} ({where})" if where else told)
