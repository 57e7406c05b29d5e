"""Another's distribution with a projection of its own, as `pip install` would leave it in a folder."""

from __future__ import annotations

from pathlib import Path

VISITS = '''
from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from domain.event import Touchpoint
from projections.projection import PerEvent, Table, projection


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """One page that somebody saw."""

    position: Annotated[int, Meta(description="Place in the log")]
    {column}: Annotated[{kind}, Meta(description="What was seen")]


SEEN = Table("pages_seen", Visit, known=True)


@projection
class PagesSeen(PerEvent):
    """Files every page that was seen."""

    name = "pages_seen"
    version = {version}
    tables: ClassVar = (SEEN,)
    handles: ClassVar = (Touchpoint,)

    def rows(self, event):
        told = event.recorded.event
        if told.type == "web.page_viewed":
            yield SEEN, Visit(position=event.recorded.position, {column}={value})
'''


def visits(version: int, *, column: str = "path", kind: str = "str", value: str = "told.channel") -> str:
    """Give the module of a projection `pages_seen` in one version."""
    return (
        VISITS.replace("{version}", str(version))
        .replace("{column}", column)
        .replace("{kind}", kind)
        .replace("{value}", value)
    )


def installed(folder: Path, name: str, module: str, *, entry: str | None = None) -> Path:
    """Install distribution *name* with one module of its name in *folder*, for PYTHONPATH."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(module)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[touchlog.projections]\n{name} = {entry or name}\n")
    return folder
