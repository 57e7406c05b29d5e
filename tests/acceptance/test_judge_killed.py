"""kill -9 of the judge, again and again while facts and mails come in: its ledger is that of one who judged all at once."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

from adapters.consent.judge import Judge
from domain.entry import moment
from tests.integration.reading_house import House, story
from tests.integration.test_consent import GRANT, fact, mail, now, of
from tests.integration.test_verdicts import as_owner, judged, verdict_events

ROOT = Path(__file__).resolve().parents[2]
PERSONS = 12
KILLS = 3
WITHIN_S = 120


class Killed:
    """A judge as a process of its own."""

    def __init__(self, it: House) -> None:
        command = [sys.executable, "-m", "tests.acceptance.judging", str(it.core.settings.data)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{it.core.database_url}\n".encode())
        self._process.stdin.close()

    def kill(self) -> None:
        """End it with -9, if it did not fail before."""
        assert self._process.poll() is None
        self._process.kill()
        self._process.wait()


def anything(chance: Random, turn: int) -> list[dict[str, Any]]:
    """Give facts, most of them late, and mails."""
    begin = now() - timedelta(minutes=30)
    found = []
    for number in range(60):
        id_, person = f"{turn}.{number}", f"email:p{chance.randrange(PERSONS)}@example.com"
        at = begin + timedelta(minutes=chance.randrange(30))
        if chance.random() < 0.5:
            found.append(mail(id_, chance.choice((at, now())), subject=person, contact=person))
            continue
        state = chance.choice("given given given withdrawn objected corrected invalidated".split())
        data: dict[str, Any] = GRANT | {"contact": person}
        if state in ("corrected", "invalidated"):
            data = {"of": of(f"{chance.randrange(turn + 1)}.{chance.randrange(60)}")}
            if state == "corrected":
                data["patch"] = {"effective_at": moment(at)}
        more = {"identifiers": f"crm:p{chance.randrange(PERSONS)}"} if chance.random() < 0.1 else {}
        found.append(fact(id_, state, at, subject=person, **data) | more)
    return found


async def position(it: House) -> int:
    """Give how far judging has come."""
    ((found,),) = await it.rows("SELECT position FROM touchlog.judging")
    return int(found)


async def ledger(it: House) -> list[Any]:
    """Give the verdict in force on every message: its id follows from all before it."""
    return await it.rows(
        "SELECT message, verdict, knowledge, said FROM touchlog.verdicts_in_force ORDER BY message"
    )


def test_the_ledger_of_a_judge_that_was_killed_again_and_again_is_that_of_one_who_judged_all_at_once(
    tmp_path: Path, database_url: str
) -> None:
    @story
    async def killed_under_load(it: House) -> None:
        chance = Random(7)
        await it.given(*anything(chance, 0))
        for turn in range(1, KILLS + 1):
            process = Killed(it)
            # what is judged next comes in while it judges, and it is killed somewhere in it
            until = await position(it) + chance.randrange(1, 60)
            more = asyncio.create_task(it.given(*anything(chance, turn)))
            async with asyncio.timeout(WITHIN_S):
                while await position(it) < until:
                    await asyncio.sleep(0)
            process.kill()
            await more
        await judged(it)
        told, events = await ledger(it), await verdict_events(it)
        assert all(times == 1 for _, times in events)
        assert len(events) > len(told) > PERSONS
        as_owner(it, "TRUNCATE touchlog.verdicts_in_force")
        as_owner(it, "UPDATE touchlog.judging SET position = 0, recorded = 0")
        assert await Judge(it.core.pool, it.core.histories, it.core.keys).catch_up()
        assert (await ledger(it), await verdict_events(it)) == (told, events)

    killed_under_load(tmp_path, database_url)
