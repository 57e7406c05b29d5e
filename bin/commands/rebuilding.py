"""What `touchlog rebuild` does, step by step, with progress."""

from __future__ import annotations

import asyncio
import sys
import time
from contextlib import ExitStack
from datetime import datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from adapters.embedded import servers
from bin.settings import Settings
from domain.units import count

__all__ = ["Wish", "asked", "perform", "run"]


class Wish(NamedTuple):
    """What was asked for at the command line."""

    name: str
    known_at: str | None = None
    as_of: str | None = None
    compare: bool = False
    swap: bool = False
    drop: str | None = None


def run(settings: Settings, wish: Wish, *, quiet: bool = False) -> dict[str, Any]:
    """Do as wished; returns what was done, for `--json`.

    Raises:
        Refused, NotFound, Underway, Unavailable, Invalid: with what to do next.
    """
    import domain.touchpoints  # noqa: F401 - registers every declared type
    import projections  # noqa: F401 - registers every projection
    from adapters.postgres.schema import migrate
    from adapters.rebuilds.rebuild import drop
    from adapters.rebuilds.runs import ask, connected
    from bin import logs
    from bin.compose import act_recorded
    from bin.principal import principal
    from projections.projection import load_foreign

    logs.of_command(settings.log_level, part="rebuild")
    load_foreign()
    say = _silent if quiet else _say
    with servers(settings, by="rebuild", begins=False) as found:
        url = found.database_url
        migrate(url)
        by = principal().key_id
        if wish.drop is not None:
            with connected(url) as conn:
                gone = drop(conn, wish.name, wish.drop)
            if gone:
                act_recorded(settings, url, "rebuild.dropped", by, {"name": wish.name, "schema": wish.drop})
            say(
                f"Schema {wish.drop} is dropped."
                if gone
                else f"There is no schema {wish.drop} of {wish.name}."
            )
            return {"dropped": gone, "schema": wish.drop}
        until, as_of = asyncio.run(_moment(settings, url, wish))
        with connected(url) as conn:
            run_id = ask(
                conn,
                wish.name,
                by=by,
                known_at=until,
                as_of=as_of,
                compare=wish.compare,
                swap=wish.swap,
                goes_on=False,
            )
        act_recorded(settings, url, "rebuild.started", by, asked(run_id, wish.name, until, as_of, wish.swap))
        return perform(settings, url, run_id, say=say, quiet=quiet)


def asked(run_id: int, name: str, known_at: int | None, as_of: datetime | None, swap: bool) -> dict[str, Any]:
    """What the records log tells of a rebuild that starts."""
    from domain.entry import moment

    told: dict[str, Any] = {"rebuild": run_id, "name": name, "swap": swap}
    if known_at is not None:
        told["known_at"] = known_at
    if as_of is not None:
        told["as_of"] = moment(as_of)
    return told


def perform(
    settings: Settings, url: str, run_id: int, *, say: Any = None, quiet: bool = True
) -> dict[str, Any]:
    """Run a rebuild that was asked for, from where it was cut off if it was; returns what came of it.

    Raises:
        Refused, NotFound, Underway, Unavailable: with what to do next; the rebuild is told as failed.
    """
    from adapters.postgres.event_log import connect_log
    from adapters.postgres.schema import APP_ROLE
    from adapters.rebuilds.rebuild import Rebuild
    from adapters.rebuilds.runs import running
    from adapters.rebuilds.stripe import peak_mb
    from bin.compose import act_recorded

    say = say or _silent
    with running(url, run_id) as wish, ExitStack() as stack:
        reader = connect_log(url, pool=2, role=APP_ROLE)
        stack.callback(reader.datastore.close)
        rebuild = Rebuild(url, reader, wish.name, until=wish.known_at, as_of=wish.as_of)
        stack.callback(rebuild.close)
        started = time.monotonic()
        position = rebuild.build(again=not wish.goes_on_from, progress=None if quiet else _progress(started))
        seconds = time.monotonic() - started
        say(
            f"{wish.name} version {rebuild.projection.version} is built in schema {rebuild.schema}: "
            f"{count(position, 'position')} in {seconds:.1f} s ({position / max(seconds, 0.001):,.0f}/s)."
        )
        outcome: dict[str, Any] = {
            "name": wish.name,
            "schema": rebuild.schema,
            "version": rebuild.projection.version,
            "position": position,
            "seconds": round(seconds, 3),
            "events_per_s": round(position / max(seconds, 0.001)),
            "known_at": wish.known_at,
            "as_of": wish.as_of,
            "peak_memory_mb": round(peak_mb() + rebuild.stripes_peak_mb),
        }
        if wish.compare:
            _compare(rebuild, outcome, say)
        if wish.swap:
            retired, waited = rebuild.swap()
            outcome |= {"swapped": True, "retired": retired, "waited_s": round(waited, 4)}
            say(
                f"Swapped in; its projector waited {waited * 1000:,.0f} ms. The old rows are in schema {retired}:"
            )
            say(f"drop them with  touchlog rebuild {wish.name} --drop {retired}")
        elif rebuild.moment:
            table = rebuild.projection.tables[0].name
            say(f"Ask it in SQL:  SELECT * FROM {rebuild.schema}.{table} LIMIT 10")  # noqa: S608 - for people to read
            say(f"and drop it with  touchlog rebuild {wish.name} --drop {rebuild.schema}")
        else:
            say(f"It does not answer yet: touchlog rebuild {wish.name} --compare --swap  puts it in.")
        if wish.swap:
            told = {"rebuild": run_id, "name": wish.name, "version": rebuild.projection.version}
            act_recorded(
                settings, url, "rebuild.swapped", wish.asked_by, told | {"retired": outcome["retired"]}
            )
        wish.done(outcome)  # told last: who sees it done finds its act on record
        return outcome


def _compare(rebuild: Any, outcome: dict[str, Any], say: Any) -> None:
    differences = rebuild.compare()
    total = sum(d.only_live + d.only_rebuilt for d in differences)
    outcome["differences_total"] = total
    outcome["differences"] = [
        d._asdict() | {"examples": [(side, _shown(row)) for side, row in d.examples]} for d in differences
    ]
    if not total:
        say("Row by row it equals the read model that answers.")
        return
    for difference in differences:
        if difference.only_live or difference.only_rebuilt:
            say(
                f"{difference.table}: {count(difference.only_live, 'row')} only in the one that answers, {difference.only_rebuilt:,} only in the rebuilt one"
            )
            for side, row in difference.examples:
                say(f"  only {side}: " + ", ".join(f"{k}={v}" for k, v in _shown(row).items()))


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row for people: without sealed bytes and empty columns."""
    return {
        k: v
        for k, v in row.items()
        if v is not None and not isinstance(v, bytes | bytearray | memoryview | list)
    }


async def _moment(settings: Settings, url: str, wish: Wish) -> tuple[int | None, datetime | None]:
    from bin.commands.history import happened_by_then, known_at_of
    from bin.compose import core

    zone = ZoneInfo(settings.timezone)
    as_of = None if wish.as_of is None else known_at_of(wish.as_of, zone)
    known = None if wish.known_at is None else known_at_of(wish.known_at, zone)
    if known is None and not isinstance(as_of, int):
        return None, as_of
    async with core(settings, url) as parts:
        happened = await happened_by_then(parts, as_of)
        return None if known is None else await parts.histories.moments.resolve_known_at(known), happened


def _say(text: str) -> None:
    print(text)


def _silent(text: str) -> None:
    """For --json: the object at the end says it all."""


def _progress(started: float) -> Any:
    told = [0.0]

    def show(position: int, target: int) -> None:
        now = time.monotonic()
        if now - told[0] < (0.5 if sys.stderr.isatty() else 5) and position < target:
            return
        told[0] = now
        rate = position / max(now - started, 0.001)
        left = max(target - position, 0) / rate if rate else 0
        line = f"{position:,} of {target:,} positions, {rate:,.0f}/s, {left:,.0f} s remain"
        sys.stderr.write(f"\r\x1b[2K{line}" if sys.stderr.isatty() else line + "\n")
        if position >= target and sys.stderr.isatty():
            sys.stderr.write("\n")
        sys.stderr.flush()

    return show
