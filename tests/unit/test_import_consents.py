"""Consents in a table: one fact a row; a bad row is told with its cell and stops nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adapters.imports import Options, Rejection, chosen, open_file
from adapters.intake.payloads import Payload
from domain.errors import Refused

FILE = """Contact;Person;State;Purpose;Channel;Time;Notice ID;notice_version;Method;Valid until;double_opt_in
ann@example.com;;Given;marketing.news;email;2026-01-31T12:00:00Z;privacy;3;form;2027-01-31T12:00:00Z;yes
+442071838750;crm:42;opted out;marketing;sms;2026-02-01 09:00:00+01:00;;;call;;
;crm:43;objected;*;*;2026-02-01T09:00:00Z;;;letter;;
bob@example.com;;given;marketing.news;email;2026-02-01 09:00:00;privacy;3;form;;
bob@example.com;;maybe;marketing.news;email;2026-02-01T09:00:00Z;privacy;3;form;;
bob@example.com;;given;marketing.news;email;;privacy;3;form;;
;;given;marketing.news;email;2026-02-01T09:00:00Z;privacy;3;form;;
"""


def rows(tmp_path: Path, text: str, format_: str = "auto") -> list[Any]:
    path = tmp_path / "consents.csv"
    path.write_text(text, "utf-8")
    with open_file(path) as file:
        return list(chosen(format_, file).read(file, Options()))


def test_each_row_is_a_fact_and_what_is_wrong_is_told_with_its_cell(tmp_path: Path) -> None:
    found = rows(tmp_path, FILE)
    events = [
        row.item.event for row in found if not isinstance(row, Rejection) and isinstance(row.item, Payload)
    ]
    assert [(e["type"], e["subject"], e["source"], e["id"]) for e in events] == [
        ("consent.given", "email:ann@example.com", "consents/consents.csv", "1"),
        ("consent.withdrawn", "crm:42", "consents/consents.csv", "2"),
        ("consent.objected", "crm:43", "consents/consents.csv", "3"),
    ]
    assert events[0]["data"] == {
        "contact": "email:ann@example.com",
        "purpose": "marketing.news",
        "channel": "email",
        "method": "form",
        "notice": {"id": "privacy", "version": "3"},
        "valid_until": "2027-01-31T12:00:00.000000Z",
        "double_opt_in": True,
    }
    assert events[1]["time"] == "2026-02-01T08:00:00.000000Z"
    refused = [
        (row.place, row.problems[0].pointer, row.problems[0].code)
        for row in found
        if isinstance(row, Rejection)
    ]
    assert refused == [
        ("consents.csv line 5", "/time", "no_zone"),
        ("consents.csv line 6", "/state", "not_allowed"),
        ("consents.csv line 7", "/time", "missing"),
        ("consents.csv line 8", "/contact", "missing"),
    ]


def test_a_time_that_is_none_is_answered_with_one_that_would_be_taken(tmp_path: Path) -> None:
    # given a consent whose time is no time
    (told,) = rows(tmp_path, "contact,state,time\nann@example.com,withdrawn,y\n", "csv:consents")
    # when the time of the advice is put in its place
    advised = told.problems[0].detail.partition("right would be ")[2].rstrip(".")
    (row,) = rows(tmp_path, f"contact,state,time\nann@example.com,withdrawn,{advised}\n", "csv:consents")
    # then the row is a fact
    assert row.item.event["time"] == "2026-01-31T12:00:00.000000Z"


def test_a_column_of_ids_makes_the_keys_and_missing_columns_are_named(tmp_path: Path) -> None:
    (row,) = rows(
        tmp_path,
        "id,contact,state,time\nc-1,ann@example.com,withdrawn,2026-01-31T12:00:00Z\n",
        "csv:consents",
    )
    assert (row.item.event["source"], row.item.event["id"]) == ("consents", "c-1")
    with pytest.raises(Refused, match="contact, state, time"):
        rows(tmp_path, "email,agreed\nann@example.com,yes\n", "csv:consents")
