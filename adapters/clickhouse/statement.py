"""A funnel as one SELECT for ClickHouse.

`windowFunnel` tells how far a unit came, and nothing of when: an answer needs the times between the steps, and knows
exclusions, held properties, `first`, `total` and spans of their own. So the statement builds the attempts themselves:
events are gathered by unit, in order, as arrays; for every entry the place of each next step is looked up in them; then
the attempts that count are chosen. What `windowFunnel` can say is the same (a test holds them against each other).
"""

from __future__ import annotations

import math
from typing import Any

import domain.touchpoints  # noqa: F401 - registers every declared type, and whether it is a touchpoint
from adapters.clickhouse.loader import encoded
from adapters.clickhouse.server import literal
from domain.errors import Refused
from domain.event import TYPES
from domain.funnels.property import ENVELOPE, Condition, kind_of_value
from domain.funnels.question import Funnel, Matcher

__all__ = ["Seen", "attempts_sql", "entries_sql", "moment_of"]


class Seen:
    """What a question sees: known at a position, happened by a time (µs; None: no cut)."""

    def __init__(self, known_at: int, as_of_us: int | None) -> None:
        self.known_at = known_at
        self.as_of_us = as_of_us


def moment_of(seen: Seen) -> str:
    """The name under which the persons of a moment stand."""
    return f"@{seen.known_at} {'' if seen.as_of_us is None else seen.as_of_us}".strip()


def _property(path: str) -> str:
    """A property: the bare text of the envelope, JSON of data; empty: none."""
    return f"e.{path}" if path in ENVELOPE else f"e.properties[{literal(path)}]"


_DIGITS = 70
"""Whole numbers of so many digits are read exactly; the log's have 20 at most, longer ones stand for floating point."""
_WHOLE = f"^-?[0-9]{{1,{_DIGITS}}}$"
_BEYOND = 10**_DIGITS


def _number(column: str, op: str, bound: float) -> str:
    """Whether a JSON number compares so; whole numbers exactly."""
    below = math.floor(bound) if op in ("<=", ">") else math.ceil(bound)
    below = max(-_BEYOND, min(below, _BEYOND))
    return (
        f"if(match({column}, '{_WHOLE}'), toInt256OrZero({column}) {op} toInt256({literal(str(below))}), "
        f"match({column}, '^-?[0-9]') AND toFloat64OrZero({column}) {op} {_float(bound)})"
    )


def _same_number(column: str, value: float) -> str:
    """Whether JSON, as it was sent, is this number: 1 and 1.0 are one, two neighbours beyond 2**53 are not."""
    whole = f"toInt256OrZero({column}) = toInt256({literal(str(int(value)))})"
    if value != int(value) or abs(value) >= _BEYOND:
        whole = "false"
    return f"if(match({column}, '{_WHOLE}'), {whole}, match({column}, '^-?[0-9]') AND toFloat64OrZero({column}) = {_float(value)})"


def _float(value: float) -> str:
    """A number beside floating point; a whole one that is none of the log's would be too long to be read."""
    if abs(value) < _BEYOND:
        return repr(value)
    try:
        return repr(float(value))
    except OverflowError:
        return "inf" if value > 0 else "-inf"


def _condition(condition: Condition) -> str:
    """A filter (`Condition.holds`) as SQL."""
    column, value, op = _property(condition.path), condition.value, condition.op
    bare = condition.path in ENVELOPE
    if op == "exists":
        return f"({column} != '') = {'true' if value else 'false'}"
    if op == "in":
        same = [v for v in value if not bare or isinstance(v, str)]
        listed = ", ".join(literal(v if bare else encoded(v)) for v in same)
        return f"{column} IN ({listed})" if same else "false"
    if op in ("=", "!="):
        if bare and not isinstance(value, str):
            return "false" if op == "=" else "true"
        return f"{column} {op} {literal(value if bare else encoded(value))}"
    kind = kind_of_value(value)
    if op == "contains":
        text = f"position({column if bare else f'JSONExtractString({column})'}, {literal(value)}) > 0" if kind == "text" else "false"  # fmt: skip
        if bare:
            return text
        one = f"v = {literal(encoded(value))}"
        if kind == "number":
            one = _same_number("v", value)
        among = f"arrayExists(v -> {one}, JSONExtractArrayRaw({column}))"
        return f"if(startsWith({column}, '['), {among}, startsWith({column}, '\"') AND {text})"
    if kind == "number":
        return "false" if bare else f"({_number(column, op, value)})"
    if kind == "text":
        told = (
            f"{column} {op} {literal(value)}"
            if bare
            else f"JSONExtractString({column}) {op} {literal(value)}"
        )
        return f"({column} != '' AND {told})" if bare else f"(startsWith({column}, '\"') AND {told})"
    return "false" if bare else f"({column} IN ('true', 'false') AND {column} {op} {literal(encoded(value))})"


def _matches(matcher: Matcher) -> str:
    types = ", ".join(map(literal, matcher.types))
    return " AND ".join([f"e.type IN ({types})", *(f"({_condition(c)})" for c in matcher.where)])


def _mask(matchers: tuple[Any, ...]) -> str:
    """The bits of those that an event matches."""
    bits = [f"if({_matches(m)}, {1 << k}, 0)" for k, m in enumerate(matchers)]
    return f"toUInt32({' + '.join(bits) or '0'})"


def _rows(funnel: Funnel, seen: Seen) -> str:
    """The events that a question looks at."""
    strict = funnel.order == "strict"
    named = ", ".join(map(literal, sorted(funnel.named)))
    if strict:
        others = ", ".join(
            map(literal, sorted(t for t in TYPES if not TYPES[t].touchpoint and t not in funnel.named))
        )
        wanted = f"e.type NOT IN ({others})" if others else "true"
    else:
        wanted = f"e.type IN ({named})"
    ended = f"SELECT position FROM closed WHERE known_to <= {seen.known_at}"
    since = f"SELECT position, max(known_to) FROM closed WHERE known_to <= {seen.known_at} GROUP BY position"
    joined, unit = "", _property(funnel.unit)
    if funnel.unit == "person":
        joined = f"LEFT ANY JOIN (SELECT owner, person FROM persons WHERE moment = {literal(moment_of(seen))}) AS p ON e.owner = p.owner"
        unit = "if(p.person != '', p.person, if(startsWith(e.owner, 'reference:'), '', e.owner))"
    value = _property(funnel.breakdown) if funnel.breakdown is not None else "''"
    held = [_property(path) for path in funnel.hold]
    lacks = " OR ".join(f"{h} = ''" for h in held) or "true"
    together = f"concat({', char(0), '.join(held)})" if len(held) > 1 else (held or ["''"])[0]
    return (
        f"SELECT {unit} AS unit, e.at_us AS at, {_mask(funnel.steps)} AS m, {_mask(funnel.exclude)} AS x, "
        f"e.source AS source, e.source_id AS source_id, toString({value}) AS value, toString(if({lacks}, '', {together})) AS held "
        f"FROM events AS e {joined} WHERE {wanted} AND e.known_from <= {seen.known_at} "
        f"AND (e.position NOT IN ({ended}) OR (e.position, e.known_from) IN ({since})) "
        + (f"AND e.at_us <= {seen.as_of_us} " if seen.as_of_us is not None else "")
        + "AND unit != ''"
        + ("" if strict else " AND (m != 0 OR x != 0)")
    )


def _opens(funnel: Funnel, mask: str) -> str:
    return f"{mask} != 0" if funnel.order == "any" else f"bitAnd({mask}, 1) != 0"


def _in_range(funnel: Funnel, at: str) -> str:
    begin = "true" if funnel.from_us is None else f"{at} >= {funnel.from_us}"
    return begin if funnel.to_us is None else f"{begin} AND {at} < {funnel.to_us}"


def entries_sql(funnel: Funnel, seen: Seen) -> str:
    """(events that match the first step, of these in the range; events that open an attempt in the range, their first and last time).

    Of held properties events that lack one do not count as matching.
    """
    mine = _in_range(funnel, "at")
    first = "bitAnd(m, 1) != 0" + (" AND held != ''" if funnel.hold else "")
    opens = f"{_opens(funnel, 'm')} AND {mine}"
    return (
        f"SELECT countIf({first}), countIf({first} AND {mine}), countIf({opens}), minIf(at, {opens}), maxIf(at, {opens}) "
        f"FROM ({_rows(funnel, seen)})"
    )


def _units(funnel: Funnel, seen: Seen, *, by_value: bool) -> str:
    """Units (or their parts: by value, by combination of held values) with their events in order, as arrays."""
    lowest = "if(m = 0, 4294967295, bitAnd(m, toUInt32(4294967296 - m)))"
    group = ", value AS part" if by_value else ", '' AS part"
    units = (
        f"SELECT unit{group}, arraySort(groupArray((at, {lowest}, source, source_id, m, x, value, held))) AS es "
        f"FROM ({_rows(funnel, seen)}) GROUP BY unit, part"
    )
    masks = "es.5"
    if funnel.hold:
        units = (
            "SELECT unit, part, es, arrayJoin(arrayDistinct(arrayMap(e -> e.8, arrayFilter(e -> e.5 != 0 AND e.8 != '', es)))) AS together "
            f"FROM ({units})"
        )
        masks = "arrayMap(e -> if(e.8 = together, e.5, toUInt32(0)), es)"
    return f"SELECT unit, part, es.1 AS at, {masks} AS m, es.6 AS x, es.7 AS value, arrayEnumerate(es) AS idx FROM ({units})"


def _next(funnel: Funnel, k: int) -> str:
    """The place of step *k* (from 1) of each entry's attempt; 0: it does not reach it."""
    step, bit = funnel.steps[k - 1], 1 << (k - 1)
    if funnel.order == "any":
        return (
            f"arrayMap(i -> arrayFirstIndex((j, t, b) -> j >= i AND bitAnd(b, {bit}) != 0 AND t <= at[i] + {funnel.window_us}, idx, at, m), entries) "
            f"AS p{k}"
        )
    until = f"at[i] + {funnel.window_us}"
    if funnel.order == "strict":
        return (
            f"arrayMap((i, a) -> if(a > 0 AND bitAnd(m[a + 1], {bit}) != 0 AND at[a + 1] <= {until}, a + 1, 0), entries, p{k - 1}) "
            f"AS p{k}"
        )
    if step.within_us is not None:
        until = f"least({until}, at[a] + {step.within_us})"
    return (
        f"arrayMap((i, a) -> if(a = 0, 0, arrayFirstIndex((j, t, b) -> j > a AND bitAnd(b, {bit}) != 0 AND t <= {until}, idx, at, m)), "
        f"entries, p{k - 1}) AS p{k}"
    )


def _taint(funnel: Funnel, names: str) -> str:
    """Of each entry's attempt twice the place of the event that taints it, and 1 more where it keeps its steps; 0: none."""
    found = []
    for number, exclusion in enumerate(funnel.exclude):
        begin, end = f"p{exclusion.from_step}_", f"p{exclusion.to_step}_"
        first = (
            f"arrayFirstIndex((j, t, b) -> j > {begin} AND bitAnd(b, {1 << number}) != 0 "
            f"AND if({end} > 0, j < {end}, t <= at[i] + {funnel.window_us}), idx, at, x)"
        )
        found.append(f"if({begin} = 0, 0, 2 * {first} + {int(exclusion.policy == 'drop_off')})")
    n = len(funnel.steps)
    of = ", ".join(f"p{k}_" for k in range(1, n + 1))
    return f"arrayMap((i, {of}) -> arrayMin(arrayFilter(v -> v > 1, [{', '.join(found)}])), entries, {names}) AS taint"


def attempts_sql(funnel: Funnel, seen: Seen, *, edges: tuple[int, ...] = (), by_value: bool = False) -> str:
    """The counted attempts: (period from 0, steps reached, value, time of each step in µs; 0: not reached).

    Args:
        edges: begin of each period in µs, and the end of the last; none: the range is one.
        by_value: the whole funnel once for each value of the breakdown; else the value is that of its attribution.

    Raises:
        Refused: ClickHouse cannot be asked so; says who can.
    """
    n = len(funnel.steps)
    every = [type_ for step in funnel.steps for type_ in step.types]
    if funnel.order == "any" and len(set(every)) < len(every):
        raise Refused(
            "On ClickHouse `order: any` needs steps of types that no other step names; ask the columns: touchlog funnel."
        )
    query = _units(funnel, seen, by_value=by_value)
    opens = _opens(funnel, "b")
    if edges:
        listed = f"[{', '.join(map(str, edges))}]::Array(Int64)"
        mine = f"t >= {edges[0]} AND t < {edges[-1]}"
        query = (
            f"SELECT *, arrayFilter((i, t, b) -> {opens} AND {mine}, idx, at, m) AS every, "
            f"arrayMap(i -> arrayCount(g -> g <= at[i], {listed}), every) AS whens, arrayJoin(arrayDistinct(whens)) AS period, "
            f"arrayFilter((i, w) -> w = period, every, whens) AS entries FROM ({query})"
        )
    else:
        query = f"SELECT *, 1 AS period, arrayFilter((i, t, b) -> {opens} AND {_in_range(funnel, 't')}, idx, at, m) AS entries FROM ({query})"
    if funnel.entry == "first":
        query = f"SELECT * EXCEPT entries, arraySlice(entries, 1, 1) AS entries FROM ({query})"
    first = _next(funnel, 1) if funnel.order == "any" else "entries AS p1"
    query = f"SELECT *, {first} FROM ({query}) WHERE notEmpty(entries)"
    for k in range(2, n + 1):
        query = f"SELECT *, {_next(funnel, k)} FROM ({query})"
    names = ", ".join(f"p{k}" for k in range(1, n + 1))
    of = ", ".join(f"p{k}_" for k in range(1, n + 1))
    taint = _taint(funnel, names) if funnel.exclude else "arrayMap(i -> 0, entries) AS taint"
    query = f"SELECT *, {taint} FROM ({query})"
    filled = f"arrayFilter(p -> p > 0 AND (taint_ = 0 OR p < intDiv(taint_, 2)), [{of}])"
    if funnel.order == "any":
        filled = f"arraySort({filled})"
    keeps = f"if(taint_ > 0 AND taint_ % 2 = 0, [], {filled})"
    query = f"SELECT *, arrayMap((taint_, {of}) -> {keeps}, taint, {names}) AS places FROM ({query})"
    query = f"SELECT *, {_chosen(funnel)} AS one FROM ({query})"
    which = {"first": "1", "last": "length(path)", "step": str(funnel.step)}.get(funnel.attribution, "1")
    value = "part" if by_value else f"value[path[{which}]]"
    times = ", ".join(f"if(length(path) >= {k}, at[path[{k}]], 0) AS t{k}" for k in range(1, n + 1))
    query = f"SELECT unit, part, period, places[one] AS path, length(path) AS reached, path[1] AS entry, {value} AS value_, {times} FROM ({query})"
    if funnel.hold and funnel.count == "unique":
        query += " ORDER BY reached DESC, entry LIMIT 1 BY unit, part, period"
    columns = ", ".join(f"t{k}" for k in range(1, n + 1))
    return f"SELECT period - 1, reached, value_, {columns} FROM ({query})"


def _chosen(funnel: Funnel) -> str:
    """The numbers (among the entries) of the attempts that count, a row for each."""
    numbers = "arrayEnumerate(entries)"
    if funnel.count == "total":
        last = f"arrayCount(t -> t <= at[i] + {funnel.window_us}, at)"
        n = len(funnel.steps)
        ends = f"arrayMap((i, a, z) -> if(a > 0, intDiv(a, 2), if(z > 0, z, {last})), entries, taint, p{n})"
        moves = "arrayMap(j -> false, entries)"
        if funnel.entry == "latest":
            moves = (
                "arrayMap((j, b, e) -> j < length(entries) AND entries[j + 1] <= e AND (b = 0 OR entries[j + 1] < b), "
                f"{numbers}, p2, {ends})"
            )
        picked = (
            "arrayFold((acc, j, i, mv, e) -> if(i <= acc.1 OR mv, acc, (toUInt64(e), arrayPushBack(acc.2, toUInt64(j)))), "
            f"{numbers}, entries, {moves}, {ends}, (toUInt64(0), []::Array(UInt64))).2"
        )
        return f"arrayJoin(arrayFilter(j -> notEmpty(places[j]), {picked}))"
    counts = "notEmpty(places[j])"
    if funnel.entry == "latest" and funnel.order != "any":
        counts += " AND NOT (b > 0 AND j < length(entries) AND entries[j + 1] < b)"
    best = f"arraySort(j -> (-toInt64(length(places[j])), j), arrayFilter((j, b) -> {counts}, {numbers}, p2))"
    return f"arrayJoin(arraySlice({best}, 1, 1))"
