"""A file is registered by being there: used for touchpoints, projections and channels."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType


def load_siblings(package: str, path: list[str]) -> list[ModuleType]:
    """Import every module of *package* (its name and `__path__`), in alphabetical order."""
    return [
        import_module(f"{package}.{found.name}") for found in sorted(iter_modules(path), key=lambda m: m.name)
    ]
