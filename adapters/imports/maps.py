"""Maps: which column of a table becomes which field of an event, declared as data.

A map is written in TOML for `touchlog ingest orders.csv --map orders.toml`:

    source   = "webshop"                      # with the id it makes the key of each event
    id       = "order_no"                     # a column, or several: ["shop", "order_no"] make "shop:17"; without it, the row number
    type     = "order.placed"                 # or a rule on a column, see below
    time     = { column = "ordered_at", format = "%d.%m.%Y %H:%M", zone = "Europe/Berlin" }
    subject  = { column = "customer", kind = "crm" }
    group_by = "order_no"                     # rows of one order become one event, with `lines`

    [data]                                    # fields of the event, from the first row of a group
    order_id     = "order_no"                 # a text from this column
    currency     = { value = "EUR" }          # a constant
    amount_minor = { total = ["quantity", "price"], type = "money", currency = "EUR" }

    [lines]                                   # fields of each line
    sku              = "article"
    quantity         = { column = "quantity", type = "whole" }
    unit_price_minor = { column = "price", type = "money", currency = "EUR" }

A rule chooses by what a column holds: `type = { column = "no", prefixes = { C = "order.cancelled" },
otherwise = "order.placed" }`, or `equals = { in = "inbound", out = "outbound" }`; type, channel and
direction take one. An empty cell leaves its field out. Money is read as a decimal number of the
currency's unit and kept in whole minor units, exactly: more digits than the currency has are refused, or,
with `rounding = "half_even"`, rounded, with the number as given kept beside it (`unit_price` beside
`unit_price_minor`). Rows of a group need not stand together. A group one of whose rows cannot be read is
not recorded at all, for half an order could never be mended: put the row right and repeat the command.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from domain.errors import Refused

__all__ = ["Field", "Map", "Rule", "Time", "Who", "load_map"]


class _Declared(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a map is made of; a word that is not known is refused by name."""


class Field(_Declared, frozen=True, kw_only=True):
    """Where the value of one field comes from, and what it is."""

    column: str | None = None
    value: Any = None  # a constant
    total: list[str] | None = None  # the product of these columns, summed over the lines of an event
    type: Literal["text", "whole", "decimal", "float", "money", "time", "yes_no"] = "text"
    currency: str | None = None  # of money: ISO 4217, says how many digits the minor unit has
    rounding: Literal["refuse", "half_even"] = "refuse"
    format: str = "iso"  # of a time
    zone: str | None = None
    required: bool = False


class Rule(_Declared, frozen=True, kw_only=True):
    """A word chosen by what a column holds: an equal text first, then the longest prefix, then `otherwise`."""

    column: str
    equals: dict[str, str] = {}
    prefixes: dict[str, str] = {}
    otherwise: str | None = None


class Time(_Declared, frozen=True, kw_only=True):
    """When it happened: `format` as strptime has it, or `iso`, `unix`, `unix_ms`; `zone` where the text names none.

    A local time that the clocks show twice is taken as the first of the two, and told; one that they leave out is refused.
    """

    column: str
    format: str = "iso"
    zone: str | None = None


class Who(_Declared, frozen=True, kw_only=True):
    """An identifier: the kind (`crm`, `email`, `user@shop`, …) of what a column holds; empty cells name nobody."""

    column: str
    kind: str
    type: Literal["text", "whole"] = "text"  # whole: 17850.0 is 17850


class Map(_Declared, frozen=True, kw_only=True):
    """How the rows of a table become events."""

    type: str | Rule
    source: str | None = None
    id: str | list[str] | None = None
    time: Time | None = None
    subject: Who | None = None
    identifiers: list[Who] = []
    channel: str | Rule | None = None
    direction: str | Rule | None = None
    group_by: str | None = None
    data: dict[str, str | Field] = {}
    lines: dict[str, str | Field] = {}
    delimiter: str = "auto"
    encoding: str | None = None
    columns: list[str] | None = None  # names of the columns of a file that has no header
    header: Literal["yes", "no", "optional"] | None = None  # by default yes, or no where `columns` are given

    def wanted(self) -> list[str]:
        """The columns that the map speaks of, each once."""
        named: list[str | None] = [self.id] if isinstance(self.id, str) else list(self.id or [])
        named += [part.column for part in (self.time, self.subject, *self.identifiers) if part is not None]
        named += [rule.column for rule in (self.type, self.channel, self.direction) if isinstance(rule, Rule)]
        named.append(self.group_by)
        for field in (*self.data.values(), *self.lines.values()):
            if isinstance(field, str):
                named.append(field)
            else:
                named += [field.column, *(field.total or [])]
        return list(dict.fromkeys(name for name in named if name is not None))


def load_map(path: Path) -> Map:
    """Read a map from a TOML file.

    Raises:
        Refused: it cannot be read, or is no map; says which word is wrong.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8-sig")), Map)
    except OSError as error:
        raise Refused(f"The map {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Refused(f"The map {path} is not TOML: {error}.") from None
    except msgspec.ValidationError as error:
        raise Refused(
            f"The map {path} is not as it should be: {error}. A map has type, and may have "
            f"{', '.join(f for f in Map.__struct_fields__ if f != 'type')}; `touchlog ingest --help` shows one."
        ) from None
