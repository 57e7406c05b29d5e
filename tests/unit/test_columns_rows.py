"""The columns hold all of every row, however many properties the rows have between them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.columns import rows as columns
from adapters.columns.chunk import Chunk
from adapters.columns.rows import Row, counted, merged, table_of
from domain.funnels.property import identity, kind_of_value, shown

PATHS = tuple(f"data.{name}" for name in ("a", "b", "c", "d.e", "d.f.g", "h#text", "é", "z"))
VALUES = st.sampled_from([0, 1, 1.0, -2.5, 2**53 + 1, 2**64 - 1, "1", "", True, False, ["x", 1], [], 'a"\\'])
PROPERTIES = st.dictionaries(st.sampled_from(PATHS), VALUES)
FEW = 3


def row(position: int, properties: dict[str, Any]) -> Row:
    return Row(
        position=position, occurred_at=position, recorded_at=0, type="web.tracked", channel="web", direction=None,
        source="shop", source_id=str(position), subject=None, owner=None, known_from=position, properties=properties,
    )  # fmt: skip


def held(table: Any) -> dict[int, dict[str, Any]]:
    """Of each row its properties, as whoever asks the columns sees them."""
    vocabularies: dict[str, Any] = {}
    chunk = Chunk(table, vocabularies)
    found: dict[int, dict[str, Any]] = {position: {} for position in table["position"].to_pylist()}
    for path in chunk.kinds:
        for position, code in zip(found, chunk.codes(path).tolist(), strict=True):
            if code >= 0:
                found[position][path] = vocabularies[path].values[code]
    return found


@given(st.lists(st.lists(PROPERTIES, min_size=1, max_size=4), min_size=1, max_size=4))
def test_nothing_of_a_row_is_lost_where_only_a_few_properties_have_columns(
    segments: list[list[dict[str, Any]]],
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(columns, "MOST_COLUMNS", FEW)
        told = [properties for segment in segments for properties in segment]
        numbered = iter(enumerate(told, start=1))
        tables = [table_of([row(*next(numbered)) for _ in segment]) for segment in segments]
        for pieces in (tables, [merged(tables)], [merged([merged(tables[:2]), *tables[2:]])]):
            found = {position: properties for table in pieces for position, properties in held(table).items()}
            assert all(len(counted(table)) <= FEW for table in pieces)
            for position, properties in enumerate(told, start=1):
                same = {path: (kind_of_value(v), identity(shown(v))) for path, v in properties.items()}
                assert {p: (kind_of_value(v), identity(v)) for p, v in found[position].items()} == same


def test_columns_are_of_the_properties_that_most_rows_have_then_of_the_least_deep_then_by_name() -> None:
    given = [
        {"data.z": 1, "data.d.e": 1, "data.b": 1, "data.c": 1, "data.a.x": 1},
        {"data.z": 2},
        {"data.d.e": 2},
    ]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(columns, "MOST_COLUMNS", FEW)
        table = table_of([row(i, properties) for i, properties in enumerate(given, start=1)])

    assert counted(table) == {"data.b": 1, "data.d.e": 2, "data.z": 2}
    assert [msgspec.json.decode(m) if m else None for m in table["more"].to_pylist()] == [
        {"data.a.x": 1, "data.c": 1},
        None,
        None,
    ]


def test_segments_of_other_keys_each_are_merged_into_few_columns() -> None:
    """Each event with a key of its own: a column for each would cost every row of the merged segment."""
    tables = [
        table_of([row(i, {"data.path": "/", f"data.k_{i}": i}) for i in range(first, first + 300)])
        for first in range(1, 1_501, 300)
    ]

    whole = merged(tables)

    assert len(counted(whole)) == columns.MOST_COLUMNS
    assert held(whole) == {i: {"data.path": "/", f"data.k_{i}": i} for i in range(1, 1_501)}
    assert Counter(len(properties) for properties in held(whole).values()) == {2: 1_500}
