"""The judge, run by a thread beside the later projectors; and judging once, for commands that stand alone."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

from adapters.consent.judge import Judge
from bin.compose import Core, project_once
from bin.processes.follower import Follower
from bin.settings import Settings

__all__ = ["judge_of", "judged_once", "judging"]

LOOK_EVERY_S = 0.2
WINDOWS = 4
"""Windows that are judged between two looks at whether to stop: one is written while the next is judged."""


def judge_of(parts: Core) -> Judge:
    """The judge of an installation."""
    return Judge(parts.pool, parts.histories, parts.keys)


async def judged_once(parts: Core) -> None:
    """Judge up to where the read models are, and file the verdicts; beside a running serve there is little left to do."""
    judge = judge_of(parts)
    filed = -1
    while (
        filed != judge.recorded
    ):  # the verdicts are positions of the log, too; on them there is nothing to judge
        filed = judge.recorded
        await judge.catch_up()
        if filed != judge.recorded:
            await asyncio.to_thread(project_once, parts.database_url)


def judging(settings: Settings, stopping: threading.Event, waiting: threading.Event) -> Follower:
    """The thread that judges what went out until *stopping* is set; it stands still while *waiting* is."""
    return Follower(
        settings,
        stopping,
        name="judging",
        making=lambda parts: partial(judge_of(parts).catch_up, windows=WINDOWS),
        look_every_s=LOOK_EVERY_S,
        waiting=waiting,
    )
