"""Consents in a table of anybody's: one fact a row, by the names of its columns, whatever of them there is.

    contact,person,state,purpose,channel,time,notice_id,notice_version,method,evidence
    ann@example.com,,given,marketing.news,email,2026-01-31T12:00:00Z,privacy,3,form,https://…
    +442071838750,crm:42,withdrawn,marketing,sms,2026-02-01 09:00:00+01:00,,,call,

`contact` and `state` must be there, and `time`, which names its zone: of consent the instant decides. What is missing
of a grant (notice, method) is imported all the same: such a grant is never valid, and is listed as unevidenced.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from adapters.imports.format import Format, Options, Rejection, Row, Rows, register
from adapters.imports.mapped_table import header_matches, read_table
from adapters.imports.maps import Field, Map, Time
from adapters.imports.source_file import SourceFile
from adapters.imports.table import rows_of
from adapters.intake.payloads import Payload, event_of
from domain.errors import Invalid, Problem, Refused

__all__ = ["STATES", "read"]

STATES = {
    state: f"consent.{state}"
    for state in ("requested", "refused", "given", "renewed", "withdrawn", "revoked", "objected")
} | {
    # what other systems call them
    "granted": "consent.given",
    "opted_in": "consent.given",
    "opt_in": "consent.given",
    "subscribed": "consent.given",
    "opted_out": "consent.withdrawn",
    "opt_out": "consent.withdrawn",
    "unsubscribed": "consent.withdrawn",
    "denied": "consent.refused",
    "reassigned": "contact.reassigned",
}
_NOTICE = ("notice_id", "notice_version", "notice_language", "notice_sha256")
_PLAIN = (
    "purpose",
    "channel",
    "legal_basis",
    "method",
    "evidence",
    "jurisdiction",
    "controller",
    "withdrawal_means",
    "actor",
    "note",
)
_OPTIONAL = ("id", "person", *_PLAIN, *_NOTICE, "valid_until", "double_opt_in")
_NEEDED = ("contact", "state", "time")


def _first_row(file: SourceFile, options: Options) -> list[list[str]]:
    """The fields of the first line, split by each delimiter that a table may have."""
    try:
        encoding = file.encoding(options.encoding)
    except Refused:  # told when the table is read; its header may be plain all the same
        encoding = "latin-1"
    head = file.head.decode(encoding, "replace").lstrip("\ufeff")
    line = next((line for line in head.splitlines() if line.strip()), "")
    return [next(rows_of([line], each)).fields if line else [] for each in (",", ";", "\t", "|")]


def read(file: SourceFile, options: Options) -> Rows:
    """Read facts about consent.

    Raises:
        Refused: the file is empty, or its first line does not name the columns that are needed.
    """
    fields = next((row for row in _first_row(file, options) if header_matches(row, _NEEDED)), None)
    if fields is None:
        raise Refused(
            f"{file.name}: its first line should name the columns {', '.join(_NEEDED)}, and any of {', '.join(_OPTIONAL)}. "
            "Rename yours, or say with --map FILE.toml which column is which (touchlog ingest --help shows one)."
        )
    there = {name for name in _OPTIONAL if header_matches(fields, (name,))}
    data: dict[str, str | Field] = {name: name for name in (*_PLAIN, *_NOTICE, "person") if name in there}
    data |= {"contact": "contact", "state": "state"}
    if "valid_until" in there:
        data["valid_until"] = Field(column="valid_until", type="time")
    if "double_opt_in" in there:
        data["double_opt_in"] = Field(column="double_opt_in", type="yes_no")
    map_ = Map(
        # Without a column of ids a row is named by its place in its file; two files are two sources then.
        source="consents" if "id" in there else f"consents/{file.name}",
        id="id" if "id" in there else None,
        type="consent.requested",  # stands in until the state is read
        time=Time(column="time"),
        data=data,
    )
    return _facts(read_table(file, map_, options))


def _facts(rows: Rows) -> Iterator[Row | Rejection]:
    for row in rows:
        if isinstance(row, Rejection):
            yield row._replace(problems=[_in_our_words(p) for p in row.problems])
            continue
        assert isinstance(row.item, Payload)
        event: dict[str, Any] = dict(row.item.event)
        problems = _finished(event)
        if problems:
            yield Rejection(row.place, orjson.dumps(event), problems, event["source"], event["id"])
            continue
        try:
            yield Row(row.place, event_of(event))
        except Invalid as wrong:
            yield Rejection(row.place, orjson.dumps(event), wrong.problems, event["source"], event["id"])


def _in_our_words(problem: Problem) -> Problem:
    """There is no map here that a person could change; the cell is what has to be put right."""
    if problem.code != "no_zone":
        return problem
    detail = "The time names no zone, so the instant is unknown; write Z for UTC, or an offset: 2026-01-31T12:00:00+01:00."
    return Problem(problem.pointer, detail, problem.code)


def _finished(event: dict[str, Any]) -> list[Problem]:
    """Put notice, contact point and person where they belong; what is wrong with the row otherwise."""
    data = event["data"] = dict(event["data"])
    state = str(data.pop("state", None) or "")
    type_ = STATES.get("_".join(state.casefold().replace("-", " ").split()))
    if type_ is None:
        detail = f"The state '{state}' is none of: {', '.join(STATES)}." if state else "'state' is empty."
        return [Problem("/state", detail, "not_allowed" if state else "missing")]
    event["type"] = type_
    if "time" not in event:
        detail = "'time' is empty; of consent the instant decides, such as 2026-01-31T12:00:00Z."
        return [Problem("/time", detail, "missing")]
    notice = {
        name.removeprefix("notice_"): value for name in _NOTICE if (value := data.pop(name, None)) is not None
    }
    if notice:
        data["notice"] = notice
    contact, person = _ref(data.pop("contact", None)), _ref(data.pop("person", None))
    if contact is not None:
        data["contact"] = contact
    elif person is None:
        detail = "Neither 'contact' nor 'person' says whom the row is about."
        return [Problem("/contact", detail, "missing")]
    if event["type"] != "contact.reassigned":
        event["subject"] = person or contact
    return []


def _ref(text: str | None) -> str | None:
    """A REF; an address or a number is taken as what it looks like."""
    if text is None or ":" in text:
        return text
    return f"email:{text}" if "@" in text else f"phone:{text}"


register(
    Format(
        name="csv:consents",
        meaning="facts about consent: contact, state, time, and what else is known of each",
        read=read,
        recognises=lambda file: any(
            header_matches(row, (*_NEEDED, "purpose")) is not None for row in _first_row(file, Options())
        ),
    )
)
