"""Funnels asked of ClickHouse: the same question, the same answer, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from adapters.clickhouse.server import Server, literal, rows_of
from adapters.clickhouse.statement import Seen, attempts_sql, entries_sql, moment_of
from adapters.columns.funnels import Asked, Found, periods_of, told
from adapters.columns.kernel import NEVER, Attempts
from adapters.columns.view import Stream
from domain.funnels.answer import Answer
from domain.funnels.property import ENVELOPE
from domain.funnels.question import Funnel
from domain.funnels.reading import Known

__all__ = ["Persons", "ask", "known"]

Persons = Callable[[], Mapping[str, str]]
"""Gives the person of each subject that is not its own, and of each order or case (`reference:…`) that is somebody's."""
_BATCH = 100_000


def known(server: Server) -> Known:
    """The types and properties there are to ask for."""
    types = rows_of(server, "SELECT DISTINCT type FROM events")
    paths = rows_of(server, "SELECT path, groupUniqArray(kind) FROM paths GROUP BY path")
    return Known(frozenset(t for (t,) in types), {path: frozenset(kinds) for path, kinds in paths})


def ask(
    funnel: Funnel,
    server: Server,
    persons: Persons,
    *,
    known_at: int,
    as_of: str | None,
    as_of_us: int | None,
    known_us: int,
) -> Answer:
    """Answer a question.

    Args:
        persons: asked where the server does not know the persons of this moment yet.
        known_at: up to there the log is loaded.
        known_us: when *known_at* was recorded, in µs.

    Raises:
        Invalid: the trend has too many intervals.
        Refused: ClickHouse cannot be asked so.
        Unavailable: the server is away.
    """
    seen = Seen(known_at, as_of_us)
    if funnel.unit == "person":
        _put_persons(server, seen, persons)
    ((matching, in_range, opening, first_us, last_us),) = rows_of(server, entries_sql(funnel, seen))
    whole, values, codes = _attempts(funnel, server, attempts_sql(funnel, seen))
    if not len(whole.attempts.reached):
        whole = whole._replace(stream=_crafted(funnel, int(matching), int(in_range)))
    by_value, code = None, None
    if funnel.breakdown is not None and funnel.attribution == "all_steps":
        by_value, values, code = _attempts(funnel, server, attempts_sql(funnel, seen, by_value=True))
    elif funnel.breakdown is not None:
        which = (
            whole.attempts.reached >= funnel.step
            if funnel.attribution == "step"
            else whole.attempts.reached > 0
        )
        by_value, code = whole.where(which), codes[which]
    by_period, names = None, []
    if funnel.trend is not None:
        names = periods_of(funnel, np.array([first_us, last_us] if opening else [], np.int64))
        if names:
            begin = -NEVER if funnel.from_us is None else funnel.from_us
            end = NEVER if funnel.to_us is None else funnel.to_us
            edges = (max(names[0][0], begin), *(at for at, _ in names[1:-1]), min(names[-1][0], end))
            by_period, _, _ = _attempts(funnel, server, attempts_sql(funnel, seen, edges=edges))
    asked = Asked(whole, by_value, code, by_period, names)
    cut = known_us if as_of_us is None else min(as_of_us, known_us)
    return told(funnel, asked, values, as_of=as_of, known_at=known_at, cut_us=cut)


def _attempts(funnel: Funnel, server: Server, query: str) -> tuple[Found, list[Any], NDArray[np.int64]]:
    """(attempts, values, of each attempt the code of its value; -1: none)."""
    n = len(funnel.steps)
    rows = rows_of(server, query)
    table = np.array([[row[0], row[1], *row[3:]] for row in rows], np.int64).reshape(len(rows), n + 2)
    reached = table[:, 1]
    steps = np.arange(len(rows) * n, dtype=np.int64).reshape(len(rows), n)
    places = np.where(np.arange(n) < reached[:, None], steps, -1)
    texts = sorted({row[2] for row in rows} - {""})
    bare = funnel.breakdown in ENVELOPE
    number = {text: code for code, text in enumerate(texts)} | {"": -1}
    codes = np.array([number[row[2]] for row in rows], np.int64)
    values = [text if bare else msgspec.json.decode(text) for text in texts]
    stream = _stream(table[:, 2:].ravel(), np.ones(len(rows) * n, np.uint32))
    attempts = Attempts(np.zeros(len(rows), np.int64), table[:, 0], reached, places)
    return Found(stream, attempts), values, codes


def _stream(at: NDArray[np.int64], steps: NDArray[np.uint32]) -> Stream:
    none = np.empty(0, np.int64)
    return Stream(none, none, none, at, steps, steps, np.empty(0, np.uint32), [], [])


def _crafted(funnel: Funnel, matching: int, in_range: int) -> Stream:
    """Events that tell why there is no attempt: none matches the first step, none of these lies in the range, or all do."""
    inside = funnel.from_us if funnel.from_us is not None else (funnel.to_us or 1) - 1
    outside = inside - 1 if funnel.from_us is not None else (funnel.to_us or 0)
    at = [inside] if in_range else [outside] if matching else []
    return _stream(np.array(at, np.int64), np.ones(len(at), np.uint32))


def _put_persons(server: Server, seen: Seen, persons: Persons) -> None:
    """Make the persons of a moment known to the server; the row in `moments` comes last."""
    moment = literal(moment_of(seen))
    ((complete, told_of),) = rows_of(
        server, f"SELECT count(), max(owners) FROM moments WHERE moment = {moment}"
    )
    ((there,),) = rows_of(server, f"SELECT uniqExact(owner) FROM persons WHERE moment = {moment}")
    if complete and there == told_of:
        return
    if there:  # left by one that was cut off, or some have grown too old
        server.run(f"ALTER TABLE persons DELETE WHERE moment = {moment} SETTINGS mutations_sync = 2")
    found: Sequence[tuple[str, str]] = list(persons().items())
    name = moment_of(seen)
    for start in range(0, len(found), _BATCH):
        lines = (
            msgspec.json.encode({"moment": name, "owner": owner, "person": person})
            for owner, person in found[start : start + _BATCH]
        )
        server.run("INSERT INTO persons FORMAT JSONEachRow", b"\n".join(lines))
    server.run(f"INSERT INTO moments (moment, owners) VALUES ({moment}, {len(found)})")
