"""UCI Online Retail (doi 10.1145/1835804.1835882): order lines of a gift shop; one event an invoice."""

from __future__ import annotations

from adapters.imports.format import Format, register
from adapters.imports.mapped_table import read_table
from adapters.imports.maps import Field, Map, Rule, Time, Who

__all__ = ["MAP"]

COLUMNS = (
    "InvoiceNo",
    "StockCode",
    "Description",
    "Quantity",
    "InvoiceDate",
    "UnitPrice",
    "CustomerID",
    "Country",
)

MAP = Map(
    source="online_retail",
    id="InvoiceNo",
    group_by="InvoiceNo",
    type=Rule(column="InvoiceNo", prefixes={"C": "order.cancelled"}, otherwise="order.placed"),
    time=Time(column="InvoiceDate", zone="Europe/London"),
    subject=Who(column="CustomerID", kind="crm", type="whole"),
    data={
        "order_id": "InvoiceNo",
        "country": "Country",
        "currency": Field(value="GBP"),
        "amount_minor": Field(
            total=["Quantity", "UnitPrice"], type="money", currency="GBP", rounding="half_even"
        ),
    },
    lines={
        "sku": "StockCode",
        "name": "Description",
        "quantity": Field(column="Quantity", type="whole"),
        # Four prices are tenths of a penny: rounded, with the price as given beside it.
        "unit_price_minor": Field(column="UnitPrice", type="money", currency="GBP", rounding="half_even"),
    },
)

register(
    Format(
        name="csv:online_retail",
        meaning="UCI Online Retail: one order.placed or order.cancelled an invoice",
        read=lambda file, options: read_table(file, MAP, options),
        recognises=lambda file: all(
            column.encode() in file.head[:512].replace(b"\x00", b"") for column in COLUMNS
        ),
    )
)
