"""What is packed for COPY is read back as it was, whatever the fields of the row are and however they stand together."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from uuid import UUID

import msgspec
import psycopg
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.postgres import binary_copy
from adapters.postgres.binary_copy import pack_known, pack_rows


class Everything(msgspec.Struct, frozen=True):
    """Every kind of field, alone and beside others of a fixed length, null or not."""

    number: int
    who: UUID
    at: datetime
    name: str
    again: datetime
    body: bytes
    share: float
    sure: bool
    data: dict[str, Any]
    names: list[str]
    bodies: list[bytes]
    no_number: int | None
    no_name: str | None
    no_time: datetime | None
    no_one: UUID | None
    last: int


COLUMNS = (
    "number bigint, who uuid, at timestamptz, name text, again timestamptz, body bytea, share float8, sure boolean, data jsonb, "
    "names text[], bodies bytea[], no_number bigint, no_name text, no_time timestamptz, no_one uuid, last bigint"
)
numbers = st.integers(-(2**63), 2**63 - 1)
times = st.datetimes(timezones=st.just(UTC)).filter(lambda at: 1 < at.year < 9999)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
# Long ones are not drawn byte by byte: an example is allowed some 8,000 of them, and a few rows would hold more.
long = st.integers(5000, 5010).map(lambda size: (bytes(range(256)) * 20)[:size])
bodies = st.binary(max_size=30) | long
ROWS = st.builds(
    Everything,
    number=numbers,
    who=st.uuids(),
    at=times,
    name=texts,
    again=times,
    body=bodies,
    share=st.floats(allow_nan=False),
    sure=st.booleans(),
    data=st.dictionaries(texts, st.integers(-1000, 1000) | texts, max_size=3),
    names=st.lists(texts, max_size=3),
    bodies=st.lists(bodies, max_size=2),
    no_number=st.none() | numbers,
    no_name=st.none() | texts,
    no_time=st.none() | times,
    no_one=st.none() | st.uuids(),
    last=numbers,
)


def read_back(conn: psycopg.Connection[Any], packed: Iterable[bytes], more: str = "") -> list[Any]:
    """Copy into a table of these columns and read it."""
    conn.execute("DROP TABLE IF EXISTS everything")
    conn.execute(f"CREATE TEMPORARY TABLE everything ({COLUMNS}{more})".encode())
    with conn.cursor() as curs:
        with curs.copy("COPY everything FROM STDIN (FORMAT binary)") as copy:
            for piece in packed:
                copy.write(piece)
        return list(curs.execute("SELECT * FROM everything"))


@settings(max_examples=40)
@given(
    piece_rows=st.integers(1, 5),
    rows=st.lists(ROWS, max_size=4),
    known=st.tuples(numbers, st.none() | numbers),
)
def test_rows_come_back_as_they_were_from_pieces_of_any_number_of_rows(
    database_url: str, piece_rows: int, rows: list[Everything], known: tuple[int, int | None]
) -> None:
    expected = [msgspec.structs.astuple(row) for row in rows]
    with (
        psycopg.connect(database_url, autocommit=True, options="-c timezone=UTC") as conn,
        patch.object(binary_copy, "PIECE_ROWS", piece_rows),
    ):
        assert read_back(conn, pack_rows(Everything, rows)) == expected
        packed = pack_known(Everything, [(row, *known) for row in rows])
        found = read_back(conn, packed, ", known_from bigint, known_to bigint")
        assert found == [(*row, *known) for row in expected]
