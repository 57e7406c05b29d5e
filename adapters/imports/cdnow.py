"""CDNOW (Fader & Hardie): purchases of CDs, 1997 to 1998; one order.placed a row, in dollars."""

from __future__ import annotations

import re

from adapters.imports.format import Format, Options, Rows, register
from adapters.imports.mapped_table import read_table
from adapters.imports.maps import Field, Map, Time, Who
from adapters.imports.source_file import SourceFile

__all__ = ["MASTER", "SAMPLE"]

_DATA: dict[str, str | Field] = {
    "currency": Field(value="USD"),
    "amount_minor": Field(column="dollar_value", type="money", currency="USD", required=True),
}
_LINES: dict[str, str | Field] = {
    "sku": Field(value="cds"),
    "quantity": Field(column="number_of_cds", type="whole", required=True),
    "amount_minor": Field(column="dollar_value", type="money", currency="USD", required=True),
}

MASTER = Map(
    source="cdnow",
    type="order.placed",
    time=Time(column="date", format="%Y%m%d", zone="UTC"),
    subject=Who(column="customer_id", kind="crm"),
    data=_DATA,
    lines=_LINES,
    delimiter="whitespace",
    header="optional",
    columns=["customer_id", "date", "number_of_cds", "dollar_value"],
)

SAMPLE = Map(
    source="cdnow_sample",
    type="order.placed",
    time=Time(column="date", format="%Y%m%d", zone="UTC"),
    subject=Who(column="customer_id", kind="crm"),
    data={**_DATA, "sample_customer_id": "sample_id"},
    lines=_LINES,
    delimiter="whitespace",
    header="optional",
    columns=["customer_id", "sample_id", "date", "number_of_cds", "dollar_value"],
)

_HEADER = re.compile(rb"\s*customer_id\s+date\s+number_of_cds\s+dollar_value\s")
_SAMPLE = re.compile(rb"\s*\d{5}\s+\d{4}\s+\d{8}\s+\d+\s+\d+\.\d\d\s")


def read(file: SourceFile, options: Options) -> Rows:
    """Read the master file (4 columns), or the sample (5: the customer's number in the sample too)."""
    first = next((line for line in file.head.split(b"\n") if line.strip()), b"")
    return read_table(file, SAMPLE if len(first.split()) == len(SAMPLE.columns or ()) else MASTER, options)


register(
    Format(
        name="csv:cdnow",
        meaning="CDNOW master or sample: one order.placed a row",
        read=read,
        recognises=lambda file: bool(_HEADER.match(file.head) or _SAMPLE.match(file.head)),
    )
)
