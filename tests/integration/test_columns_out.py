"""What leaves the columns, and what holds them to the log: the export other tools read, and the check that counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import httpx
import orjson
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.dataset as ds  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from typer.testing import CliRunner

from adapters.columns import export as exporting
from adapters.columns.shelf import Shelf
from bin import cli
from domain.errors import Refused
from tests.integration.running import Served, served_http
from tests.integration.test_columns import DAY, asked, counts, given, shelf_written, web


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Served]:
    with served_http(tmp_path_factory.mktemp("out") / "data", module_database_url) as running:
        yield running


@pytest.fixture
def http(served: Served) -> Iterator[httpx.Client]:
    with served.client() as client:
        yield client


def run(served: Served, *command: str) -> tuple[int, Any]:
    """Run a command with --json; returns (its exit, what it told)."""
    done = CliRunner().invoke(
        cli.app,
        [*command, "--json", "--data", str(served.settings.data)],
        env={"TOUCHLOG_DATABASE_URL": served.database_url},
    )
    try:
        return done.exit_code, orjson.loads(done.stdout)
    except orjson.JSONDecodeError:
        return done.exit_code, done.output


def tracked(id_: str, who: str, day: int, **properties: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0", "id": id_, "source": "test/app", "type": "web.tracked", "time": DAY.format(day),
        "subject": who, "data": {"event": "used", "properties": properties},
    }  # fmt: skip


def test_an_export_is_read_as_it_is_and_says_what_the_log_says(
    served: Served, http: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given values of several kinds, in files of the shelf and in the tail; a link, a correction, something personal
    mail = {
        "specversion": "1.0", "id": "m1", "source": "test/mail", "type": "email.received", "time": DAY.format(1),
        "subject": "email:secret.person@example.com", "data": {"subject": "my very private words"},
    }  # fmt: skip
    given(http, mail, *(web(f"x{i}", f"user:x-{i % 3}", "/x/a", 1 + i) for i in range(9)), tracked("t1", "user:x-1", 3, size=3, price=2, on=True))  # fmt: skip
    served.project()
    with shelf_written(served):
        pass
    correction = {
        "specversion": "1.0", "id": "cx", "source": "test/office", "type": "correction.recorded", "time": DAY.format(9),
        "data": {"of": {"source": "test/web", "id": "x1"}, "patch": {"data": {"path": "/x/b"}}},
    }  # fmt: skip
    head = given(
        http, correction, tracked("t2", "user:x-2", 4, size="large", price=2.5),
        web("x90", "user:x-0", "/x/c", 20, identifiers="anonymous:x-9"), web("x91", "anonymous:x-9", "/x/d", 21),
    )  # fmt: skip
    served.project()
    folder = tmp_path / "out"

    # when it is cut off behind its second file, and asked for again after more was recorded
    monkeypatch.setattr(exporting, "FILE_POSITIONS", 4)
    swap = exporting._to_disk
    written: list[str] = []

    def cut(path: Path) -> None:
        if path.name.endswith(".parquet.part"):
            written.append(path.name)
            if len(written) == 3:
                raise OSError("the disk is gone")
        swap(path)

    monkeypatch.setattr(exporting, "_to_disk", cut)
    assert run(served, "columns", "export", str(folder))[0] == 1
    assert not folder.exists()
    later = given(http, web("x99", "user:x-1", "/x/later", 25))
    served.project()
    code, made = run(served, "columns", "export", str(folder))

    # then it is of the moment that it began with, each file written once
    assert (code, made["known_at"], made["rows"]) == (0, head, head)
    assert len(written) == len(set(written)) + 1
    assert json.loads((folder / "export.json").read_text())["known_at"] == head

    # and DuckDB, Arrow and the log say the same
    _, expected = run(served, "sql", "SELECT position, type, person, \"data.path\" FROM read.event_log ORDER BY 1", "--known-at", f"@{head}")  # fmt: skip
    files = f"'{folder}/events/*.parquet'"
    with duckdb.connect() as conn:
        told = conn.execute(
            f'SELECT position, type, person, "data.path" FROM {files} ORDER BY 1'  # noqa: S608
        ).fetchall()
    assert [list(row) for row in told] == expected["rows"]
    table = ds.dataset(folder / "events", format="parquet").to_table().sort_by("position")
    assert table["position"].to_pylist() == list(range(1, head + 1))
    assert {tuple(pq.read_schema(f).names) for f in (folder / "events").iterdir()} == {
        tuple(table.column_names)
    }
    assert table.schema.field("data.properties.price").type == pa.float64()
    assert table["data.properties.size#number"].to_pylist()[10] == 3
    assert table["data.properties.size#text"].to_pylist()[-3] == "large"
    described = {c["column"]: c for c in json.loads((folder / "schema.json").read_text())}
    assert list(described) == table.column_names
    for file in folder.rglob("*"):
        if file.is_file():
            assert b"secret.person" not in file.read_bytes()
            assert b"private words" not in file.read_bytes()
    assert "private" not in str(table.to_pylist())

    # and a later one takes its place, but no folder of something else is touched
    assert run(served, "columns", "export", str(folder))[1]["known_at"] == later
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    code, told_why = run(served, "columns", "export", str(tmp_path / "mine"))
    assert code == 1
    assert (tmp_path / "mine" / "thesis.txt").exists(), told_why


@pytest.mark.parametrize("place", ["file", "file/inside", "other"])
def test_an_export_to_what_is_no_folder_or_another_ones_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "export.json").write_text("another program's")

    with pytest.raises(Refused, match="name a new or an empty folder"):
        exporting.begun_at(tmp_path / place, "a log")


def test_an_event_of_very_many_properties_makes_no_column_of_each_and_answers_for_all(
    served: Served, http: httpx.Client, tmp_path: Path
) -> None:
    # given an event of thousands of properties beside one of a single one, which is the last by name
    many = {f"wide_{i:05}": i for i in range(5_000)} | {"zest": "lemon"}
    head = given(
        http, tracked("wide", "user:wide", 1, **many), tracked("narrow", "user:wide", 2, zest="lime")
    )
    served.project()
    folder = tmp_path / "wide"

    def reached(*wheres: dict[str, Any]) -> list[int]:
        steps = [
            {"type": "web.tracked", "where": {f"properties.{name}": value for name, value in where.items()}}
            for where in wheres
        ]
        return counts(asked(served, http, steps=steps, window="P14D"))

    # when it is asked, out of the log and from the shelf, then each of its properties answers
    for _ in range(2):
        assert reached({"wide_00000": 0}, {"zest": "lime"}) == [1, 1]
        assert reached({"wide_04999": 4999, "zest": "lemon"}, {"zest": "lime"}) == [1, 1]
        assert reached({"wide_04999": 1}, {"zest": "lime"}) == [0, 0]
        with shelf_written(served):
            pass

    # and events that come later with a key of its own each are found by them as well
    last = given(http, *(tracked(f"key-{i}", "user:keys", 3, **{f"only_{i:03}": i}) for i in range(300)))
    served.project()
    assert reached({"only_000": 0}, {"only_299": 299}) == [1, 1]

    # and what other tools read has few columns, tells where the rest stands, and holds all of it
    assert run(served, "columns", "export", str(folder))[0] == 0
    table = ds.dataset(folder / "events", format="parquet").to_table()
    assert table.num_columns <= 1_000 + 12
    for i, row in enumerate(table.filter(pc.field("position") > last - 300).to_pylist()):
        told = {name: value for name, value in row.items() if value is not None}
        assert (told | json.loads(told.get("more", "{}")))[f"data.properties.only_{i:03}"] == i
    (row,) = table.filter(pc.field("position") == head - 1).to_pylist()
    told = {name: value for name, value in row.items() if value is not None} | json.loads(row["more"])
    assert {f"data.properties.{name}": value for name, value in many.items()}.items() <= told.items()
    described = {c["column"]: c["meaning"] for c in json.loads((folder / "schema.json").read_text())}
    assert "more than 1,000 properties" in described["more"]

    # and what stands on the shelf is what the log says
    assert run(served, "projections", "check", "columns")[0] == 0


def test_a_row_that_is_missing_twice_there_or_another_is_named(served: Served, http: httpx.Client) -> None:
    given(http, *(web(f"d{i}", f"user:d-{i}", "/d", 1 + i) for i in range(6)))
    served.project()
    with shelf_written(served) as columns:
        head = columns.position
    code, told = run(served, "projections", "check", "columns")
    assert (code, told["rows"]) == (0, 0), told
    assert told["projections"][0]["position"] == head
    shown = {p["name"]: p for p in http.get("/v1/projections").json()["projections"]}
    assert shown["columns"]["written_position"] == head

    # when a file loses a row, has one twice, and tells another path
    shelf = Shelf(served.settings.data / "columns")
    manifest = shelf.read()
    assert manifest is not None
    segment = max(manifest.segments, key=lambda s: s.last)
    file = shelf.folder / segment.name
    whole = file.read_bytes()
    table = pq.read_table(file).sort_by("position")
    paths = table["data.path"].to_pylist()
    rows = table.num_rows
    paths[rows - 2] = "/forged"
    forged = table.set_column(table.column_names.index("data.path"), "data.path", pa.array(paths))
    pq.write_table(pa.concat_tables([forged.slice(0, rows - 1), forged.slice(rows - 3, 1)]), file)

    # then each is named, and the whole installation knows
    code, told = run(served, "projections", "check", "columns")
    assert (code, told["rows"]) == (1, 3)
    (difference,) = told["projections"][0]["differences"]
    found = {row["key"]["position"]: (row["kind"], row.get("columns")) for row in difference["examples"]}
    assert found == {head - 2: ("extra", None), head - 1: ("changed", ["data.path"]), head: ("missing", None)}
    shown = {p["name"]: p for p in http.get("/v1/projections").json()["projections"]}
    assert shown["columns"]["differences"] == 3
    file.write_bytes(whole)
    assert run(served, "projections", "check", "columns")[0] == 0
    shown = {p["name"]: p for p in http.get("/v1/projections").json()["projections"]}
    assert shown["columns"]["differences"] == 0
