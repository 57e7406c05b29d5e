"""The commands about consent, as somebody types them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from bin import cli
from domain.entry import moment
from tests.integration.reading_house import House, story
from tests.integration.test_consent import ANN, GRANT, fact, mail, now

Run = Callable[..., Any]


@pytest.fixture
def touchlog(tmp_path: Path, database_url: str) -> Iterator[Run]:
    """Run commands on the test's database, and leave the logging as it was."""
    handlers, level = list(logging.root.handlers), logging.root.level
    before = structlog.get_config()

    def run(*words: object) -> Any:
        return CliRunner().invoke(
            cli.app,
            [*map(str, words), "--data", str(tmp_path / "data")],
            env={"COLUMNS": "200", "TOUCHLOG_DATABASE_URL": database_url},
        )

    yield run
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.configure(**before)


def test_consent_is_shown_with_its_breaches_and_receipts(
    touchlog: Run, tmp_path: Path, database_url: str
) -> None:
    begin = now() - timedelta(days=1)

    @story
    async def given(it: House) -> None:
        await it.given(
            fact("g", "given", begin, **GRANT),
            fact("w", "withdrawn", begin + timedelta(hours=2), contact=ANN, purpose="marketing.news"),
            mail("m", begin + timedelta(hours=3)),
        )

    given(tmp_path / "data", database_url)
    shown = touchlog("consent", "show", ANN)
    assert (shown.exit_code, "no: withdrawn" in shown.output) == (0, True), shown.output
    told = json.loads(touchlog("consent", "show", ANN, "--at", moment(begin), "--json").output)
    assert [answer["valid"] for answer in told["answers"]] == [True]
    span = ("--from", moment(begin), "--to", moment(now()))
    listed = touchlog("consent", "breaches", *span)
    assert (listed.exit_code, "breach" in listed.output, "@2" in listed.output) == (1, True, True), (
        listed.output
    )
    before = touchlog("consent", "breaches", *span, "--known-at", "@2")
    assert (before.exit_code, "Nothing went out" in before.output) == (0, True), before.output
    receipt = touchlog("consent", "receipt", told["facts"][0]["event_id"])
    assert (receipt.exit_code, "Consent receipt" in receipt.output) == (0, True), receipt.output
    assert touchlog("consent", "show", "nonsense").exit_code == 2
