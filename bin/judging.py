"""The thread that judges what went out, beside the later projectors; and judging once, for commands that stand alone."""

from __future__ import annotations

import asyncio
import threading

import structlog

from adapters.consent.judge import Judge
from bin.compose import Core, core, project_once
from bin.settings import Settings

__all__ = ["JudgeThread", "judge_of", "judged_once"]

LOOK_EVERY_S = 0.2
LONGEST_PAUSE_S = 10.0

log = structlog.get_logger()


def judge_of(parts: Core) -> Judge:
    """The judge of an installation."""
    return Judge(parts.pool, parts.histories, parts.keys)


async def judged_once(parts: Core) -> None:
    """Judge up to where the read models are, and file the verdicts; beside a running serve there is little left to do."""
    judge = judge_of(parts)
    await judge.catch_up()
    if judge.recorded:
        await asyncio.to_thread(project_once, parts.database_url)


class JudgeThread(threading.Thread):
    """Judges until *stopping* is set; a lost database is waited for."""

    def __init__(self, settings: Settings, stopping: threading.Event) -> None:
        super().__init__(name="judge", daemon=True)
        self._settings = settings
        self._stopping = stopping

    def run(self) -> None:
        """Judge, and begin again after whatever fails."""
        pause_s = LOOK_EVERY_S
        while not self._stopping.is_set():
            try:
                asyncio.run(self._follow())
                pause_s = LOOK_EVERY_S
            except Exception as error:  # noqa: BLE001 - whatever it is, it is told and tried again
                log.warning("judging_interrupted", reason=f"{type(error).__name__}: {error}"[:300])
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            self._stopping.wait(pause_s)

    async def _follow(self) -> None:
        async with core(self._settings, self._settings.database_url or "", pool_size=2) as parts:
            judge = judge_of(parts)
            while not self._stopping.is_set():
                if await judge.catch_up(windows=1):
                    await asyncio.to_thread(self._stopping.wait, LOOK_EVERY_S)
