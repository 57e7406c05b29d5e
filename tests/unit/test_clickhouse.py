"""ClickHouse answers what the columns answer, byte for byte; its own windowFunnel counts what both count."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.clickhouse import funnels as clickhouse
from adapters.clickhouse.loader import _line, encoded
from adapters.clickhouse.server import literal, make_tables, rows_of
from adapters.clickhouse.statement import _condition
from adapters.columns.funnels import ask
from domain.errors import Refused
from domain.funnels.property import OPS, Condition
from domain.funnels.question import Funnel
from domain.funnels.reading import Known, read_funnel
from domain.funnels.reference import Happening
from tests.unit.test_funnel_cases import SECOND, rows_from, themselves, view_of
from tests.unit.test_funnel_kernel import KNOWN, TYPES, questions

DAY_US = 86_400 * SECOND
EVENTS = 3000


class Engine:
    """ClickHouse's engine in this process, with the statements of a server."""

    def __init__(self) -> None:
        self._session = import_module("chdb.session").Session()
        self._session.query("CREATE DATABASE IF NOT EXISTS touchlog")
        self._session.query("USE touchlog")

    def run(self, statement: str, rows: bytes = b"") -> bytes:
        told = self._session.query(statement + ("\n" + rows.decode() if rows else ""))
        return bytes(told.bytes()) if told is not None else b""

    def close(self) -> None:
        self._session.close()


def happenings() -> list[Happening]:
    """Events of many units at few instants of three days, so that windows end and instants are shared."""
    random = np.random.default_rng(7)
    values = [None, None, 1, 1.0, 2, 2.5, "1", True, "it's \"\\", ["x", 1]]
    found = []
    for i in range(1, EVENTS + 1):
        type_ = str(random.choice([*TYPES[:4], *TYPES]))
        drawn = {
            "data.k": values[random.integers(len(values))],
            "data.session": [None, "s1", "s2"][random.integers(3)],
        }
        source = str(random.choice(["a", "é", "b"]))
        properties: dict[str, Any] = {path: value for path, value in drawn.items() if value is not None}
        properties |= {"channel": str(random.choice(["web", "call"])), "source": source}
        found.append(
            Happening(
                position=i,
                at_us=int(random.integers(0, 13)) * SECOND + int(random.integers(0, 3)) * DAY_US,
                type=type_,
                source=source,
                source_id=f"{random.integers(0, 4)}/{i}",
                unit=f"u{random.integers(0, 150)}",
                properties=properties,
                touchpoint=type_ != "consent.given",
            )
        )
    return found


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = Engine()
    make_tables(made)
    lines = b"\n".join(msgspec.json.encode(_line(row)) for row in rows_from(happenings()))
    made.run("INSERT INTO events FORMAT JSONEachRow", lines)
    yield made
    made.close()


@pytest.fixture(scope="module")
def view() -> Any:
    return view_of(happenings(), 2)


KINDS = Known(KNOWN.types, {**KNOWN.paths, "data.k": frozenset({"number", "text", "flag", "list"})})
MORE = st.sampled_from(
    [None, None, {"k": {"op": "contains", "value": "it's"}}, {"k": {"op": "contains", "value": "x"}}, {"k": 'it\'s "\\'},
     {"k": {"op": "<", "value": "2"}}, {"k": {"op": "<", "value": 2.5}}, {"k": {"op": ">", "value": 1.5}},
     {"k": {"op": "exists", "value": False}}, {"k": True}, {"k": [2.5, "1"]}]
)  # fmt: skip


@given(
    funnel=questions(),
    where=MORE,
    trend=st.sampled_from([None, None, "day"]),
    until=st.sampled_from([None, None, DAY_US + 6 * SECOND]),
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[
        HealthCheck.filter_too_much,
        HealthCheck.too_slow,
        HealthCheck.function_scoped_fixture,
    ],
)
def test_clickhouse_and_the_columns_answer_the_same(
    engine: Engine, view: Any, funnel: Funnel, where: Any, trend: Any, until: int | None
) -> None:
    step = read_funnel(
        {"steps": [{"type": TYPES[0], "where": where}, TYPES[1]], "window": "1d"}, KINDS
    ).steps[0]
    first = msgspec.structs.replace(funnel.steps[0], where=(*funnel.steps[0].where, *step.where))
    asked = msgspec.structs.replace(funnel, steps=(first, *funnel.steps[1:]), trend=trend)
    view._until = 2**63 - 1 if until is None else until
    at: dict[str, Any] = {
        "as_of": None if until is None else "then",
        "as_of_us": until,
        "known_us": 4 * SECOND,
    }

    expected = ask(asked, view, themselves, **at)

    overlapping = len({t for s in asked.steps for t in s.types}) < sum(len(s.types) for s in asked.steps)
    if asked.order == "any" and overlapping:
        with pytest.raises(Refused):
            clickhouse.ask(asked, engine, dict, known_at=EVENTS, **at)
        return
    found = clickhouse.ask(asked, engine, dict, known_at=EVENTS, **at)
    assert msgspec.json.encode(found) == msgspec.json.encode(expected)


@given(
    steps=st.permutations(TYPES[:4]).flatmap(lambda p: st.integers(2, 4).map(lambda n: p[:n])),
    window=st.integers(1, 8),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_where_no_event_matches_two_steps_window_funnel_counts_what_we_count(
    engine: Engine, view: Any, steps: list[str], window: int
) -> None:
    funnel = read_funnel({"steps": steps, "window": f"{window}s"}, KNOWN)
    view._until = 2**63 - 1

    counted = [s.count for s in ask(funnel, view, themselves, as_of=None, as_of_us=None, known_us=0).steps]

    events = ", ".join(f"type = {literal(step)}" for step in steps)
    levels = rows_of(
        engine,
        f"SELECT level, count() FROM (SELECT windowFunnel({window * SECOND})(toUInt64(at_us), {events}) AS level FROM events "  # noqa: S608
        "GROUP BY owner) GROUP BY level",
    )
    assert counted == [sum(n for level, n in levels if level > k) for k in range(len(steps))]


NUMBERS = [
    0,
    -0.0,
    1,
    1.0,
    0.1,
    618.56981313,
    -618.56981313,
    5e-324,
    2**53,
    2**53 + 1,
    float(2**53),
    2**64 - 1,
    1e22,
    1e100,
    -1.7e308,
]
OTHERS = [
    True,
    "",
    "1",
    "1e100",
    'a "b" \\',
    [],
    [1],
    [1.0, "é"],
    [2**53 + 1],
    [float(2**53), True],
    [1e100],
    [618.56981313],
    [["1"]],
]


@pytest.fixture
def values(engine: Engine) -> Iterator[list[Any]]:
    """A table with one row for each value, the first for none; on a server that reads texts as numbers in the fast way."""
    told = [None, *NUMBERS, *OTHERS]
    held = [{} if value is None else {"data.k": encoded(value)} for value in told]
    lines = [msgspec.json.encode({"id": i, "properties": one}) for i, one in enumerate(held)]
    engine.run("CREATE TABLE held (id UInt32, properties Map(String, String)) ENGINE = Memory")
    engine.run("INSERT INTO held FORMAT JSONEachRow", b"\n".join(lines))
    engine.run("SET precise_float_parsing = 0")  # as servers may be set
    yield told
    engine.run("SET precise_float_parsing = 1")
    engine.run("DROP TABLE held")


def test_a_filter_passes_the_same_values_on_clickhouse_whatever_the_number(
    engine: Engine, values: list[Any]
) -> None:
    """Neighbours beyond 2**53, prices that are read in haste, and floating point with hundreds of digits."""
    for op in OPS:
        bounds = [v for v in (*values[1:], 10**400, -(10**400)) if not isinstance(v, list)]
        bounds = [True, False] if op == "exists" else bounds
        conditions = [Condition("data.k", op, [v, "1"] if op == "in" else v) for v in bounds]
        asked = ", ".join(f"countIf({_condition(c)})" for c in conditions)
        rows = rows_of(engine, f"SELECT {asked} FROM held AS e GROUP BY id ORDER BY id")  # noqa: S608
        for place, condition in enumerate(conditions):
            passed = [value for value, row in zip(values, rows, strict=True) if row[place]]
            assert passed == [value for value in values if condition.holds(value)], condition
