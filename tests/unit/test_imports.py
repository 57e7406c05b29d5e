"""Imports: what a file holds becomes events, what is wrong in it is told with its place, and stops nothing else."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.imports import FORMATS, Options, Rejection, chosen, mapped_table, open_file, source_file, table
from adapters.imports.cloudevents import split
from adapters.imports.mapped_row import joined
from adapters.imports.maps import Map
from adapters.imports.table import rows_of
from adapters.intake.payloads import Payload
from domain.errors import Refused

DATA = Path(__file__).parent.parent / "data"
HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country"


def retail(invoice: object, **other: str) -> str:
    cells = {
        "description": "LAMP",
        "quantity": "6.0",
        "date": "2010-12-01 08:26:00",
        "price": "2.55",
        "customer": "17850.0",
        **other,
    }
    words = (cells[c] for c in ("description", "quantity", "date", "price", "customer"))
    return ",".join((str(invoice), f"S{invoice}", *words, "United Kingdom"))


class Read:
    """What came out of a file."""

    def __init__(self, rows: Iterator[Any]) -> None:
        self.all = list(rows)
        self.rejected = [row for row in self.all if isinstance(row, Rejection)]
        self.rows = [row for row in self.all if not isinstance(row, Rejection)]
        self.events = [row.item.event for row in self.rows if isinstance(row.item, Payload)]
        self.ids = [event["id"] for event in self.events]

    @property
    def told(self) -> str:
        (one,) = self.rejected
        return f"{one.place}: {'; '.join(p.detail for p in one.problems)}"


Reads = Callable[..., Read]


@pytest.fixture
def read(tmp_path: Path) -> Reads:
    def reading(
        content: str | bytes,
        *,
        name: str = "file.csv",
        format: str = "auto",
        map: str | None = None,
        **options: Any,
    ) -> Read:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        if map is not None:
            (tmp_path / "map.toml").write_text(map)
            options["map_file"] = tmp_path / "map.toml"
            format = "csv"  # noqa: A001 - the word of the option
        with open_file(path) as file:
            return Read(chosen(format, file).read(file, Options(**options)))

    return reading


def sample(name: str) -> Read:
    with open_file(DATA / name) as file:
        return Read(chosen("auto", file).read(file, Options()))


# -- the formats known by name ---------------------------------------------------------------------


def test_online_retail_is_one_event_an_invoice() -> None:
    got = sample("online_retail.csv")
    assert not got.rejected
    assert len(got.events) == len(set(got.ids)) == 14
    first = got.events[0]
    assert got.rows[0].place == "online_retail.csv lines 2-8"
    assert (first["source"], first["id"], first["type"]) == ("online_retail", "536365", "order.placed")
    assert first["subject"] == "crm:17850"
    assert first["time"] == "2010-12-01T08:26:00.000000Z"
    assert first["data"]["lines"][0] == {
        "sku": "85123A",
        "name": "WHITE HANGING HEART T-LIGHT HOLDER",
        "quantity": 6,
        "unit_price_minor": 255,
    }
    assert first["data"]["amount_minor"] == 13912
    assert first["data"]["currency"] == "GBP"


def test_an_invoice_that_begins_with_c_is_a_cancellation_and_with_a_an_order() -> None:
    types = {event["id"]: event["type"] for event in sample("online_retail.csv").events}
    assert types["C536379"] == "order.cancelled"
    assert types["A563185"] == "order.placed"
    assert list(types.values()).count("order.cancelled") == 1


def test_an_invoice_has_the_time_of_its_first_line_in_london() -> None:
    events = {event["id"]: event for event in sample("online_retail.csv").events}
    assert events["558644"]["time"] == "2011-06-30T23:00:00.000000Z" or events["558644"]["time"].startswith(
        "2011-07-0"
    )
    lines = [line.split(",") for line in (DATA / "online_retail.csv").read_text().splitlines()]
    first = next(line for line in lines if line[0] == "540185")
    times = {line[-4] for line in lines if line[0] == "540185"}
    assert len(times) == 2
    assert events["540185"]["time"] == first[-4].replace(" ", "T") + ".000000Z"


def test_summer_time_is_an_hour_before(read: Reads) -> None:
    (event,) = read(f"{HEADER}\n{retail(1, date='2011-07-01 08:30:00')}\n").events
    assert event["time"] == "2011-07-01T07:30:00.000000Z"


def test_lines_that_stand_apart_are_one_invoice_in_file_order_and_repeats_stay() -> None:
    events = {event["id"]: event for event in sample("online_retail.csv").events}
    text = (DATA / "online_retail.csv").read_text().splitlines()
    for invoice in ("542806", "536530"):
        skus = [line.split(",")[1] for line in text if line.startswith(f"{invoice},")]
        assert [line["sku"] for line in events[invoice]["data"]["lines"]] == skus
        assert len(skus) == {"542806": 39, "536530": 23}[invoice]


def test_an_invoice_without_customer_names_nobody() -> None:
    events = {event["id"]: event for event in sample("online_retail.csv").events}
    assert "subject" not in events["536414"]


def test_a_price_below_a_penny_is_rounded_and_kept_as_given_beside_it() -> None:
    events = {event["id"]: event for event in sample("online_retail.csv").events}
    charge = events["568375"]["data"]["lines"][-1]
    assert charge["unit_price_minor"] == 0
    assert charge["unit_price"] == "0.001"


def test_cdnow_master_and_sample_are_one_order_a_row() -> None:
    master, small = sample("CDNOW_master.txt"), sample("CDNOW_sample.txt")
    assert master.ids == [str(n) for n in range(1, 31)]
    assert small.ids == [str(n) for n in range(1, 32)]
    assert {event["source"] for event in master.events} == {"cdnow"}
    assert {event["source"] for event in small.events} == {"cdnow_sample"}
    third = master.events[2]
    assert (third["subject"], third["time"]) == ("crm:00002", "1997-01-12T00:00:00.000000Z")
    assert (third["data"]["amount_minor"], third["data"]["currency"]) == (7700, "USD")
    assert third["data"]["lines"] == [{"sku": "cds", "quantity": 5, "amount_minor": 7700}]
    assert master.rows[0].place == "CDNOW_master.txt line 2"
    assert small.events[0]["data"]["sample_customer_id"] == "0001"


# -- what can be wrong with a table ------------------------------------------------------------------


def test_a_mark_of_its_encoding_and_windows_line_ends_are_no_trouble(read: Reads) -> None:
    content = b"\xef\xbb\xbf" + f"{HEADER}\r\n{retail(1)}\r\n{retail(2)}".encode()
    assert read(content).ids == ["1", "2"]


def test_old_line_ends_blank_lines_and_semicolons_are_no_trouble(read: Reads) -> None:
    assert read(f"{HEADER}\r{retail(1)}\r\r{retail(2)}\r").ids == ["1", "2"]
    assert read(f"{HEADER}\n{retail(1)}\n".replace(",", ";")).ids == ["1"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_seen_by_its_first_bytes(read: Reads, encoding: str) -> None:
    got = read(f"{HEADER}\n{retail(1, description='CAFÉ')}\n{retail(2)}\n".encode(encoding))
    assert got.ids == ["1", "2"]
    assert got.events[0]["data"]["lines"][0]["name"] == "CAFÉ"


def test_another_encoding_is_read_when_it_is_named(read: Reads) -> None:
    content = f"{HEADER}\n{retail(1, description='CAFÉ €')}\n".encode("cp1252")
    assert read(content, encoding="cp1252").events[0]["data"]["lines"][0]["name"] == "CAFÉ €"


def test_a_file_that_is_clearly_not_utf_8_is_refused_with_the_cure(read: Reads) -> None:
    rows = "\n".join(retail(n, description=f"CAFÉ {n}") for n in range(40))
    with pytest.raises(Refused, match="--encoding cp1252"):
        read(f"{HEADER}\n{rows}\n".encode("latin-1"))


def test_a_row_of_another_encoding_is_told_and_its_neighbours_are_read(read: Reads) -> None:
    bad = retail(2, description="CAFÉ").encode("latin-1")
    got = read(f"{HEADER}\n{retail(1)}\n".encode() + bad + f"\n{retail(3, description='CAFÉ')}\n".encode())
    assert got.ids == ["1", "3"]
    assert got.rejected[0].raw == bad
    assert got.told.startswith("file.csv line 3: ")
    assert "--encoding" in got.told


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (retail(2, date="01/12/2010 8:26"), "right would be 2026-01-31 12:00:00"),
        (retail(2, quantity="six"), "'Quantity' is no number"),
        (retail(2, quantity="1.5"), "should be a whole number"),
        (retail(2, price='"2,55"'), "a comma where a decimal point should be"),
        (retail(2, price="£2.55"), "without signs of currency"),
        (retail(2, price="1e400"), "'UnitPrice'"),
        (retail(2, price="NaN"), "'UnitPrice' is no number"),
        (retail(2, customer="A1"), "'CustomerID' is no number"),
        ("2,S2,short", "The row has 3 fields, the table 8"),
        (retail(2) + ",more", "The row has 9 fields, the table 8"),
        (retail(2, description='"LAMP'), "never closes it"),
        (retail(2, description='"BIG" LAMP'), "closes in the middle"),
        (retail(2, description="LA\0MP"), "NUL"),
        (retail(""), "'InvoiceNo' is empty"),
    ],
)
def test_a_bad_row_is_told_and_its_neighbours_are_read(read: Reads, row: str, said: str) -> None:
    got = read(f"{HEADER}\n{retail(1)}\n{row}\n{retail(3)}\n")
    assert got.ids == ["1", "3"]
    assert said in got.told
    assert "line 3" in got.told
    assert got.rejected[0].raw.decode() == row
    # Reasons are kept in plain text, so they never hold what stands in the row.
    assert not any(value in got.told for value in ("six", "01/12", "LAMP", "A1"))


@pytest.mark.parametrize(
    "row",
    [
        retail(2).ljust(256, "x")
        + retail(9),  # cut off where it may not be longer, both halves read like rows
        retail(2, description='"' + "L" * 600 + '"'),
    ],
)
def test_a_row_with_a_line_too_long_is_refused_whole(
    read: Reads, monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    # given a table with a line that is longer than one may be
    for module in (source_file, table):
        monkeypatch.setattr(module, "LONGEST_LINE", 256)
    # when it is read
    got = read(f"{HEADER}\n{retail(1)}\n{row}\n{retail(3, price='x')}\n{retail(4)}\n")
    # then nothing of that row is an event, and the others are read where they stand
    assert got.ids == ["1", "4"]
    assert [one.place for one in got.rejected] == ["file.csv line 3", "file.csv line 4"]
    assert "a line of more than 256 characters" in got.rejected[0].problems[0].detail


def test_half_an_invoice_is_not_recorded(read: Reads) -> None:
    got = read(f"{HEADER}\n{retail(1)}\n{retail(2)}\n{retail(2, quantity='x')}\n{retail(2)}\n")
    assert got.ids == ["1"]
    assert "No row with the same InvoiceNo was recorded" in got.told


def test_a_field_in_quotes_reaches_over_lines_and_places_stay_right(read: Reads) -> None:
    two = retail(1, description='"BIG, ""RED""\nLAMP"')
    got = read(f"{HEADER}\n{two}\n{retail(2, quantity='x')}\n{retail(3, description=chr(8232) + 'LAMP')}\n")
    assert got.events[0]["data"]["lines"][0]["name"] == 'BIG, "RED"\nLAMP'
    assert got.rows[0].place == "file.csv lines 2-3"
    assert got.rejected[0].place == "file.csv line 4"


def test_a_quote_that_never_closes_costs_one_row(read: Reads) -> None:
    rows = "\n".join(retail(n) for n in range(3, 3000))
    got = read(f"{HEADER}\n{retail(2, description=chr(34) + 'LAMP')}\n{rows}\n")
    assert len(got.events) == 2997
    assert "never closes it" in got.told


def test_a_column_that_is_read_and_stands_twice_is_refused_by_name_and_any_other_is_not(read: Reads) -> None:
    # given a table with two columns of one name
    columns = 'source = "s"\nid = "no"\ntype = "call.ended"\n[data]\nduration_s = { column = "s", type = "whole" }\n'
    # when the map reads it, then the table is refused: which is meant cannot be known
    with pytest.raises(Refused, match="its first line names s twice"):
        read("no,s,s\n1,60,90\n", map=columns)
    # when it reads another one, or one that its capitals tell apart, then it is read
    (other,) = read("no,s,x,x\n1,60,1,2\n", map=columns).events
    (apart,) = read("no,S,s\n1,60,90\n", map=columns).events
    assert (other["data"], apart["data"]) == ({"duration_s": 60}, {"duration_s": 90})


def test_columns_that_are_named_beyond_what_is_looked_at_of_a_file_are_columns(read: Reads) -> None:
    # given a table whose first line is longer than what is looked at of a file to tell what it is, and a row of its width
    more = [f"a long name of column {n}" for n in range(source_file.HEAD_BYTES // 20)]
    names, cells = HEADER.split(","), retail(1).split(",")
    header = ",".join([*names[:-2], *more, *names[-2:]])
    row = ",".join([*cells[:-2], *("x" for _ in more), *cells[-2:]])
    # when it is read, by a map (which tells a table by nothing but its columns)
    got = read(f"\n{header}\n{row}\n{retail(2)}\n", format="csv:online_retail")
    # then its last columns are found, and only the row of another width is refused
    assert [(one["id"], one["subject"]) for one in got.events] == [("1", "crm:17850")]
    assert f"the table {len(names) + len(more)}" in got.told


def test_a_first_line_that_is_longer_than_a_line_may_be_is_told(
    read: Reads, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (source_file, table, mapped_table):
        monkeypatch.setattr(module, "LONGEST_LINE", 256, raising=False)
    with pytest.raises(Refused, match="its first line is longer than 256 characters"):
        read(f"{HEADER},{'x' * 256}\n{retail(1)}\n")


def test_missing_columns_are_named_with_what_was_found(read: Reads) -> None:
    with pytest.raises(Refused, match=r"Missing: InvoiceDate.*Found: InvoiceNo, When"):
        read(
            f"{HEADER}\n".replace("InvoiceDate", "When").replace("StockCode,Description,Quantity,", "")
            + "1,2\n",
            format="csv:online_retail",
        )


def test_columns_may_stand_elsewhere_and_be_spelled_another_way(read: Reads) -> None:
    got = read(
        "Customer ID,Price,unit_price,invoice no,Stock-Code,Quantity,InvoiceDate,Country,description\n"
        "1,x,2.50,7,S,2,2010-12-01 08:26:00,UK,LAMP\n",
        format="csv:online_retail",
    )
    assert got.events[0]["data"]["amount_minor"] == 500


def test_an_empty_file_is_told(read: Reads) -> None:
    for content in (b"", b"\xef\xbb\xbf"):
        with pytest.raises(Refused, match=r"file\.csv is empty"):
            read(content)
    for each in FORMATS:
        with pytest.raises(Refused, match=r"is empty|--map"):
            read(b"", format=each)


def test_a_file_of_no_known_kind_is_told_with_the_ways_on(read: Reads) -> None:
    with pytest.raises(Refused, match="--map"):
        read("a,b\n1,2\n")
    with pytest.raises(Refused, match="no format 'csv:nope'"):
        read("a,b\n1,2\n", format="csv:nope")


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none", "There is no file"), (tmp_path, "is a folder")):
        with pytest.raises(Refused, match=said), open_file(path):
            pass


@pytest.mark.parametrize("packed", [gzip.compress, lzma.compress, bz2.compress])
def test_packed_files_are_read_as_they_are(read: Reads, packed: Callable[[bytes], bytes]) -> None:
    content = f"{HEADER}\n{retail(1)}\n".encode()
    assert read(packed(content), name="file.anything").ids == ["1"]


def test_a_packed_file_that_is_cut_off_is_told_and_what_stood_before_is_read(tmp_path: Path) -> None:
    lines = b"".join(
        b'{"specversion":"1.0","id":"%d","source":"s","type":"call.ended"}\n' % n for n in range(50_000)
    )
    packed = gzip.compress(lines)
    (tmp_path / "cut.gz").write_bytes(packed[: len(packed) // 2])
    count = 0
    with open_file(tmp_path / "cut.gz") as file, pytest.raises(Refused, match="damaged or cut off"):
        for _ in chosen("auto", file).read(file, Options()):
            count += 1
    assert count > 10_000


# -- maps ----------------------------------------------------------------------------------------------

MAP = """
source = "webshop"
id = ["shop", "no"]
type = { column = "kind", equals = { buy = "order.placed" }, prefixes = { back = "order.returned" } }
direction = { column = "kind", equals = { buy = "inbound" }, otherwise = "internal" }
channel = "store"
time = { column = "at", format = "%d.%m.%Y %H:%M", zone = "Europe/Berlin" }
subject = { column = "mail", kind = "email" }
identifiers = [{ column = "card", kind = "loyalty_card@shop" }]
[data]
order_id = "no"
currency = { value = "EUR" }
amount_minor = { column = "sum", type = "money", currency = "EUR", required = true }
gift = { column = "gift", type = "yes_no" }
note = { column = "note" }
weight = { column = "weight", type = "float" }
"""
COLUMNS = "shop;no;kind;at;mail;card;sum;gift;note;weight"


def test_a_map_makes_events_of_anybodys_table(read: Reads) -> None:
    got = read(f"{COLUMNS}\nB;7;buy;31.01.2026 12:00;ann@example.com;99;1,234.50;yes;;1.5\n", map=MAP)
    assert got.events == [
        {
            "specversion": "1.0",
            "id": "B:7",
            "source": "webshop",
            "type": "order.placed",
            "time": "2026-01-31T11:00:00.000000Z",
            "subject": "email:ann@example.com",
            "channel": "store",
            "direction": "inbound",
            "data": {
                "order_id": "7",
                "currency": "EUR",
                "amount_minor": 123450,
                "gift": True,
                "weight": 1.5,
                "identifiers": {"loyalty_card@shop": ["99"]},
            },
        }
    ]


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ("B;7;swap;31.01.2026 12:00;a@b.cc;;1.00;;;", "'kind' holds none of: buy, back…"),
        ("B;7;buy;31.02.2026 12:00;a@b.cc;;1.00;;;", "right would be 31.01.2026 12:00"),
        ("B;7;buy;31.01.2026 12:00;a@b.cc;;1.005;;;", "more than 2 digits"),
        ("B;7;buy;31.01.2026 12:00;a@b.cc;;;;;", "'sum' is empty"),
        ("B;7;buy;31.01.2026 12:00;a@b.cc;;1.00;maybe;;", "neither yes nor no"),
        (";7;buy;31.01.2026 12:00;a@b.cc;;1.00;;;", "'shop' is empty"),
    ],
)
def test_a_cell_that_is_not_as_the_map_says_is_told(read: Reads, cells: str, said: str) -> None:
    got = read(f"{COLUMNS}\n{cells}\nB;8;backwards;31.01.2026 12:00;;;1;;;\n", map=MAP)
    assert got.ids == ["B:8"]
    assert got.events[0]["type"] == "order.returned"
    assert said in got.told


def test_a_local_time_that_the_clocks_left_out_is_refused_and_one_that_they_showed_twice_is_told(
    read: Reads,
) -> None:
    # given rows in the hours in which the clocks of Berlin are put forward and back, and one that names its offset
    rows = {
        "1": "28.03.2026 02:30", "2": "29.03.2026 02:30", "3": "25.10.2026 02:30", "4": "25.10.2026 03:30",
    }  # fmt: skip
    table_of = "".join(f"B;{no};buy;{at};a@b.cc;;1.00;;;\n" for no, at in rows.items())
    # when they are read
    got = read(f"{COLUMNS}\n{table_of}", map=MAP)
    # then the hour that was not is no event, and the one that was twice is the first of the two, and says so
    assert [event["time"] for event in got.events] == [
        "2026-03-28T01:30:00.000000Z", "2026-10-25T00:30:00.000000Z", "2026-10-25T02:30:00.000000Z",
    ]  # fmt: skip
    assert "line 3" in got.told
    assert "2026-03-29 02:30:00, which the clocks of Europe/Berlin never showed" in got.told
    assert [[p.code for p in row.remarks] for row in got.rows] == [[], ["time_shown_twice"], []]
    (remark,) = got.rows[1].remarks
    assert (remark.pointer, "taken is the first" in remark.detail) == ("/at", True)

    # and with offsets nothing is left to tell; the day of a zone that changes at midnight begins as it begins
    plain = 'source = "s"\nid = "no"\ntype = "thing.seen"\ntime = { column = "at", zone = "%s" }\n'
    exact = read("no,at\n1,2026-10-25T02:30:00+01:00\n", map=plain % "Europe/Berlin")
    day = read("no,at\n1,2018-11-04\n", map=plain % "America/Sao_Paulo")
    assert [e["time"] for e in exact.events + day.events] == [
        "2026-10-25T01:30:00.000000Z", "2018-11-04T03:00:00.000000Z",
    ]  # fmt: skip
    assert [row.remarks for row in exact.rows + day.rows] == [(), ()]

    # and so are the rows of one event: told of once
    grouped = (
        plain % "Europe/Berlin"
        + 'group_by = "no"\n[lines]\nseen = { column = "at", type = "time", zone = "Europe/Berlin" }\n'
    )
    (row,) = read("no,at\n1,2026-10-25 02:30:00\n1,2026-10-25 02:30:00\n", map=grouped).rows
    assert len(row.remarks) == 1


@pytest.mark.parametrize("cell", ["1e400", "-1e999"])
def test_a_number_that_no_float_holds_is_refused_and_never_kept_as_nothing(read: Reads, cell: str) -> None:
    # given tables with a number beyond what 64 bits hold, read as a float and as a total of floats
    plain = 'source = "s"\nid = "no"\ntype = "thing.seen"\n[data]\nw = { column = "w", type = "float" }\n'
    total = plain.replace('column = "w"', 'total = ["w"]').replace("[data]", 'group_by = "no"\n[data]')

    for map_ in (plain, total):
        # when they are read
        got = read(f"no,w\n1,{cell}\n2,1e300\n", map=map_)

        # then the row is told to be wrong, and the one beside it is an event
        assert got.ids == ["2"]
        assert "beyond what a float holds" in got.told


def test_without_an_id_the_number_of_the_row_is_it_even_beside_bad_rows(read: Reads) -> None:
    got = read(
        "a\n1\nx\n\n3\n",
        map='source = "s"\ntype = "call.ended"\n[data]\nduration_s = {column = "a", type = "whole"}',
    )
    assert got.ids == ["1", "3"]
    assert got.rows[1].place == "file.csv line 5"


def test_the_source_of_a_map_can_be_replaced(read: Reads) -> None:
    assert read(f"{HEADER}\n{retail(1)}\n", source="mine").events[0]["source"] == "mine"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("type = ", "is not TOML"),
        ('source = "s"', "missing required field `type`"),
        ('type = "t"\nsauce = "s"', "unknown field `sauce`"),
        ('type = "t"\n[data]\na = {colum = "x"}', "unknown field `colum`"),
        ('type = "t"', "names no source"),
        ('type = "t"\nsource = "s"\ntime = {column = "a", zone = "Mars/Base"}', "no IANA time zone"),
        ('type = "t"\nsource = "s"\ndelimiter = "::"', "delimiter"),
    ],
)
def test_a_wrong_map_is_told(read: Reads, text: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        read("a\n1\n", map=text)


def test_the_table_format_wants_a_map(read: Reads) -> None:
    with pytest.raises(Refused, match="--map"):
        read("a\n1\n", format="csv")


def test_currencies_have_their_own_digits(read: Reads) -> None:
    text = 'source="s"\ntype="t"\n[data]\n' + "\n".join(
        f'{c} = {{column="{c}", type="money", currency="{c.upper()}"}}' for c in ("jpy", "kwd", "eur")
    )
    (event,) = read("jpy,kwd,eur\n120,1.234,-.5\n", map=text).events
    assert event["data"] == {"jpy": 120, "kwd": 1234, "eur": -50}


@given(st.decimals(min_value=-(10**12), max_value=10**12, places=2, allow_nan=False))
def test_money_is_exact(amount: Decimal) -> None:
    from adapters.imports.cells import minor_of, number_of
    from adapters.imports.maps import Field

    field = Field(column="a", type="money", currency="GBP")
    assert minor_of("a", number_of("a", str(amount)), field) == int(amount * 100)


@given(st.lists(st.lists(st.text(alphabet='ab,"\n\r ;', max_size=6), min_size=3, max_size=3), max_size=8))
def test_rows_are_those_that_a_writer_wrote(rows: list[list[str]]) -> None:
    import csv
    import io

    written = io.StringIO(newline="")
    csv.writer(written, quoting=csv.QUOTE_ALL).writerows(rows)
    lines = io.StringIO(written.getvalue(), newline="")
    assert [row.fields for row in rows_of(lines, ",", 3)] == rows


def test_the_named_formats_are_maps() -> None:
    from adapters.imports.cdnow import MASTER, SAMPLE
    from adapters.imports.online_retail import MAP as RETAIL

    assert all(isinstance(one, Map) for one in (MASTER, SAMPLE, RETAIL))


# -- CloudEvents -------------------------------------------------------------------------------------------


def event(id: object, **other: Any) -> str:
    return json.dumps({"specversion": "1.0", "id": str(id), "source": "s", "type": "call.ended", **other})


def test_events_stand_one_a_line(read: Reads) -> None:
    got = read(f"\ufeff{event(1)}\r\n\n{event(2)}", name="events.jsonl")
    assert got.ids == ["1", "2"]
    assert [row.place for row in got.rows] == ["events.jsonl line 1", "events.jsonl line 3"]


@pytest.mark.parametrize("between", ["\n", "\n\n", "\r\n"])
@pytest.mark.parametrize("laid_out", [False, True], ids=["lines", "objects over several lines"])
def test_files_with_a_mark_of_their_encoding_may_be_put_together_to_one(
    read: Reads, between: str, laid_out: bool
) -> None:
    # given files of events, each with the mark at its beginning, of which `cat` made one
    files = [json.dumps(json.loads(event(n)), indent=1) if laid_out else event(n) for n in range(3)]
    got = read(between.join(f"\ufeff{file}" for file in files), name="events.jsonl")
    # when it is read, then every event is one
    assert [row.item for row in got.rows if not isinstance(row.item, Payload)] == []
    assert got.ids == ["0", "1", "2"]


def test_a_line_that_is_no_event_is_left_to_ingest_to_tell(read: Reads) -> None:
    got = read(f'{event(1)}\nnot json\n{{"a":1,"a":2}}\n{event(2)}\n', name="events.jsonl")
    assert got.ids == ["1", "2"]
    assert [row.item for row in got.rows if not isinstance(row.item, Payload)] == [
        b"not json",
        b'{"a":1,"a":2}',
    ]


def test_events_stand_in_one_array_or_laid_out_for_the_eye(read: Reads) -> None:
    pretty = json.dumps([json.loads(event(n, data={"a": ["]", {"b": '"}'}]})) for n in range(3)], indent=2)
    assert read(pretty).ids == ["0", "1", "2"]
    assert read(pretty[1:-1].replace('},\n  {\n    "spec', '}\n  {\n    "spec')).ids == ["0", "1", "2"]
    assert read(pretty.encode("utf-16")).ids == ["0", "1", "2"]
    assert read("[]").all == []


def test_an_array_with_a_broken_item_gives_the_others(read: Reads) -> None:
    got = read(f'[{event(1)}, {{"id":,}}, {event(2)}, 5, {{"a":]}}, {event(3)}]')
    assert got.ids == ["1", "2", "3"]
    assert got.rows[0].place == "file.csv item 1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"[{event(1)}, ", "ends in the middle"),
        (f'[{event(1)}, {{"a": "b', "ends in the middle"),
        (f"[{event(1)},,{event(2)}]", "Between two commas"),
        (f"[{event(1)}] {{}}", "Something follows"),
    ],
)
def test_an_array_that_is_not_whole_is_told(read: Reads, text: str, said: str) -> None:
    got = read(text)
    assert got.ids[0] == "1"
    assert said in got.told


def test_a_source_can_be_given_to_events_that_have_none(read: Reads) -> None:
    lines = '{"specversion":"1.0","id":"1","type":"call.ended"}\n' + event(2)
    assert [e["source"] for e in read(lines, source="mine").events] == ["mine", "s"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\{}[],: é\n', max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(_JSON, max_size=5), st.integers(1, 40), st.sampled_from([None, 1]))
def test_an_array_splits_the_same_in_chunks_of_any_size(
    items: list[Any], size: int, indent: int | None
) -> None:
    body = json.dumps(items, indent=indent, ensure_ascii=False).encode()
    chunks = [body[i : i + size] for i in range(0, len(body), size)]
    found = list(split(chunks, array=True))
    assert all(problem is None for _, problem in found)
    assert [json.loads(raw) for raw, _ in found] == items


def test_a_long_array_is_never_held_whole() -> None:
    def chunks() -> Iterator[bytes]:
        yield b"["
        for n in range(20_000):
            yield (b"," if n else b"") + event(n, data={"pad": "x" * 2000}).encode()
        yield b"]"

    import tracemalloc

    tracemalloc.start()
    try:
        assert sum(1 for _ in split(chunks(), array=True)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@given(
    st.lists(st.lists(st.text(":%;3A25ab", min_size=1, max_size=4), min_size=3, max_size=3), unique_by=tuple)
)
@example([["a:b", "c", "d"], ["a", "b:c", "d"], ["a", "b", "c:d"], ["a%3Ab", "c", "d"], ["a", "b%;c", "d"]])
def test_ids_of_several_columns_are_as_many_as_there_are_keys(keys: list[list[str]]) -> None:
    ids = [joined(parts) for parts in keys]

    assert len(set(ids)) == len(keys)
    for parts, id_ in zip(keys, ids, strict=True):
        if ":" not in "".join(parts):
            assert id_ == ":".join(parts), "files that were imported before are duplicates"
    assert [joined([part]) for part in ("a:b", "a%b")] == ["a:b", "a%b"]
