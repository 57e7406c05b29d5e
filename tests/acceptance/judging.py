"""A judge as a process of its own, to be killed: `python -m tests.acceptance.judging DATA`, its database's URL on stdin."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from adapters.consent.judge import Judge
from bin.compose import core
from bin.settings import Settings

WINDOW_POSITIONS = 4


async def main(data: Path, database_url: str) -> None:
    """Judge until killed."""
    async with core(Settings.load({}, data=data), database_url) as parts:
        judge = Judge(parts.pool, parts.histories, parts.keys, window=WINDOW_POSITIONS)
        while True:
            if await judge.catch_up(windows=4):
                await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.stdin.readline().strip()))
