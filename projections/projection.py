"""How a read model is declared: its rows, and the pure fold that makes them from events.

A projection is one file in this package: row types (tables, columns and comments follow), a name, a
version, a fold, and the queries that ask it. It is registered by being there; one of your own is
found through the entry point group `touchlog.projections`.

Four forms cover most read models, and bring lateness, corrections, retractions, rebuilds and
checks with them:

* `PerEvent`: rows that follow from one event alone, any number of them. Rows carry from which and to
  which position they were known, so that a question may be asked as known then.
* `Counting`: sums by key. The order of events cannot matter, and what is corrected is subtracted.
* `Joining`: one row per key, joined from the rows of its single events, whichever comes first: firsts,
  lasts, sets and sums. An event that arrives late costs no more than any other.
* `Story`: one row per key, folded over the key's events in the order in which they *happened*; an event
  that arrives late is put in its place.

Its `pace` says how soon its rows follow the log: what people look at while they talk to somebody is `live`,
all else comes `later`, and lags for a while where events come faster than the machine can fold them all.

The projector hands a projection `Step`s in log order. Nothing here reads a clock or a database.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import get_args

import structlog

from projections.changes import Changes, Effective, Index, Load, Step, Table, indexable
from projections.forms import Counting, Pace, PerEvent, Projection, foldable_apart
from projections.keyed import Joining, Keyed, Story, StoryEnd, story_order

__all__ = [
    "PROJECTIONS",
    "Changes",
    "Counting",
    "Effective",
    "Index",
    "Joining",
    "Keyed",
    "Load",
    "Pace",
    "PerEvent",
    "Projection",
    "Step",
    "Story",
    "StoryEnd",
    "Table",
    "foldable_apart",
    "indexable",
    "load_foreign",
    "projection",
    "story_order",
]

log = structlog.get_logger()

PROJECTIONS: dict[str, Projection] = {}


def projection(cls: type[Projection]) -> type[Projection]:
    """Register a projection under its name.

    Raises:
        ValueError: another projection has its name, or a table of the same name.
    """
    if cls.name in PROJECTIONS and type(PROJECTIONS[cls.name]) is not cls:
        raise ValueError(f"Two projections are named {cls.name!r}; give yours another name.")
    if cls.pace not in get_args(Pace):
        raise ValueError(f"The pace of {cls.name} is {cls.pace!r}; write one of {', '.join(get_args(Pace))}.")
    mine = {table.name for table in cls.tables}
    for other in PROJECTIONS.values():
        if other.name != cls.name and (shared := mine & {table.name for table in other.tables}):
            raise ValueError(
                f"The projections {other.name!r} and {cls.name!r} both have a table {min(shared)!r}; rename yours."
            )
    PROJECTIONS[cls.name] = cls()
    return cls


_failed: dict[str, str] = {}
_loaded: set[str] = set()


def load_foreign() -> list[str]:
    """Load the projections that other distributions declare under `touchlog.projections`.

    An entry point names a class decorated with `@projection`, or the module that holds some. One that cannot be
    loaded is told, and stops no other; returns a line for each of these.
    """
    for found in entry_points(group="touchlog.projections"):
        whose = f"{found.dist.name} {found.dist.version}" if found.dist else "an unknown distribution"
        place = f"{found.name} = {found.value} of {whose}"
        if place in _loaded:
            continue
        _loaded.add(place)
        try:
            loaded = found.load()
            if isinstance(loaded, type) and issubclass(loaded, Projection):
                projection(loaded)
        except Exception as failed:  # noqa: BLE001 - whatever another's code raises, it is told and the rest goes on
            _failed[place] = (
                f"The projection {place} was not loaded: {type(failed).__name__}: {failed} "
                "It is left out; mend or uninstall that distribution, and start again."
            )
            log.error(  # noqa: TRY400 - its text is enough
                "foreign_projection_not_loaded",
                entry_point=place,
                reason=f"{type(failed).__name__}: {failed}",
            )
    return list(_failed.values())
