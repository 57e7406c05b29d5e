"""No personal plaintext is at rest anywhere, whatever comes in (DESIGN 7, SEMANTICS §7)."""

from __future__ import annotations

import asyncio
import itertools
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

from adapters.intake.ingest import Answer
from adapters.principal import Principal
from bin.compose import core, project_once
from bin.settings import Settings
from domain.event import TYPES

# One of the two stands in every secret that a test makes, and nowhere else. Ciphertext and hashes are random bytes, and
# the files of a server that a whole test process shares hold a gigabyte of them: four letters are met there by chance,
# six digits in the microseconds of some time.
MARK = "zq7xkw4jvhd2"
PHONE = "20718364"  # of a number, what stands behind its country's code
ADMIN = Principal("key:test", "admin")
_numbers = itertools.count(1)

EMAILS = st.builds(lambda n: f"Ann.{MARK}{n}@example.com", st.integers(0, 99))
PHONES = st.builds(lambda n: f"+44{PHONE}{n:02}", st.integers(0, 99))
NAMES = st.builds(lambda n: f"Ann {MARK.capitalize()} the {n}th", st.integers(0, 99))
WITHIN = st.builds(lambda email: f"please write to {email}, thanks", EMAILS)
URLS = st.builds(lambda name, email: f"https://shop.example/a?name={name}&utm_source={email}", NAMES, EMAILS)
VISIBLE = st.one_of(EMAILS, PHONES, WITHIN, URLS)
TELLING = st.sampled_from(["email", "Phone", "first_name", "billing address", "ip", "user-agent"])
PROPERTIES = st.one_of(
    st.dictionaries(st.sampled_from(["a", "b"]), VISIBLE, max_size=2),
    st.dictionaries(TELLING, NAMES, max_size=2),
    st.dictionaries(EMAILS, st.integers(), max_size=1),
    st.builds(lambda inner: {"deep": [1, {"er": inner}]}, VISIBLE),
)
REFS = st.one_of(
    st.builds("email:{}".format, EMAILS),
    st.builds("phone:{}".format, PHONES),
    st.builds("user@shop:{}".format, NAMES),
    st.builds("loyalty_card:{}".format, NAMES),
    st.builds("order:{}".format, NAMES),
)


@st.composite
def data_of(draw: Any, type_: str) -> dict[str, Any]:
    """Draw data with a secret in every personal field, and more of the source's own."""
    valid: dict[str, dict[str, Any]] = {
        "call.ended": {"duration_s": 1, "summary": draw(NAMES), "from_number": draw(PHONES)},
        "email.sent": {"subject": draw(NAMES), "cc": [draw(EMAILS), draw(EMAILS)]},
        "web.page_viewed": {"path": draw(URLS), "url": draw(URLS), "title": draw(WITHIN)},
        "web.tracked": {"event": "x", "properties": draw(PROPERTIES)},
        "profile.updated": {"identifiers": {"email": draw(EMAILS)}, "traits": draw(PROPERTIES)},
        "order.placed": {"order_id": "7"},
        "my.own": {draw(NAMES): [draw(NAMES)]},
    }
    data = {
        name: value
        for name, value in valid[type_].items()
        if type_ not in TYPES or name in TYPES[type_].fields | {"cc"}
    }
    return {**data, **draw(PROPERTIES)}


@st.composite
def events(draw: Any) -> bytes:
    """Draw one event as its source sends it; some are refused, and some are in conflict with another."""
    type_ = draw(
        st.sampled_from(
            [
                "call.ended",
                "email.sent",
                "web.page_viewed",
                "web.tracked",
                "profile.updated",
                "order.placed",
                "my.own",
            ]
        )
    )
    event: dict[str, Any] = {
        "specversion": "1.0",
        "source": "shop",
        "id": str(draw(st.integers(1, 5))),
        "type": type_,
    }
    event["subject"] = draw(st.one_of(st.none(), REFS))
    event["identifiers"] = draw(st.one_of(st.none(), st.builds(",".join, st.lists(REFS, max_size=3))))
    event["data"] = draw(data_of(type_))
    event.update(draw(st.sampled_from([{}, {}, {}, {"time": "never"}, {"direction": "up"}])))
    event.update(
        draw(st.dictionaries(st.sampled_from(["agentnote", "ownone"]), st.one_of(NAMES, VISIBLE), max_size=1))
    )
    event.update(
        draw(
            st.one_of(
                st.just({}),
                st.builds(
                    lambda ref: {"data": {"duration_s": 1, "contact": ref}, "type": "consent.given"}, REFS
                ),
            )
        )
    )
    event.update(
        draw(
            st.one_of(
                st.just({}), st.builds(lambda mail: {"correlationid": mail, "causationid": mail}, EMAILS)
            )
        )
    )
    if draw(st.integers(0, 3)) == 0:
        event["data"]["actor"] = draw(EMAILS)
    raw = json.dumps({name: value for name, value in event.items() if value is not None})
    if draw(st.integers(0, 7)) == 0:  # a key twice: refused, and neither key nor value may be told in plain
        raw = f"{raw[:-1]}, {json.dumps(draw(EMAILS))}: 1, {json.dumps(draw(EMAILS))}: 2}}"
    if draw(st.integers(0, 7)) == 0:
        raw = raw[: -draw(st.integers(1, 40))]
    return raw.encode()


def everything(conn: psycopg.Connection[Any]) -> dict[str, bytes]:
    """Read every table of the database whole, bytes as they are."""
    found = {}
    tables = conn.execute(
        "SELECT table_schema, table_name, array_agg(format('%I', column_name) || CASE data_type WHEN 'bytea' THEN '' ELSE '::text::bytea' END) "
        "FROM information_schema.columns JOIN information_schema.tables USING (table_schema, table_name) "
        "WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema') GROUP BY 1, 2"
    ).fetchall()
    for schema, table, columns in tables:
        rows = conn.execute(
            sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ".join(columns)), sql.Identifier(schema, table)),
            binary=True,
        ).fetchall()
        found[f"{schema}.{table}"] = b"\n".join(b"|".join(value or b"" for value in row) for row in rows)
    return found


def secrets_in(content: bytes, mark: str = MARK) -> bytes | None:
    """Give the surroundings of a secret in *content*, if there is one; phone numbers as their digits too."""
    lower = content.lower()
    for needle in (mark.encode(), mark.encode("utf-16-le"), PHONE.encode()):
        at = lower.find(needle)
        if at >= 0:
            return content[max(0, at - 80) : at + 80]
    return None


def files_with_secrets(conn: psycopg.Connection[Any], mark: str = MARK) -> list[Path]:
    """Name the files of the server, its tables' and its write-ahead log's, in which *mark* stands."""
    conn.execute("CHECKPOINT")
    row = conn.execute("SHOW data_directory").fetchone()
    assert row is not None
    found = []
    for file in itertools.chain((Path(row[0]) / "base").rglob("*"), (Path(row[0]) / "pg_wal").glob("0*")):
        with suppress(FileNotFoundError):  # the server removes its own files as it goes
            if file.is_file() and mark.encode() in file.read_bytes().lower():
                found.append(file)
    return found


IN_CONFLICT = [
    json.dumps(
        {
            "specversion": "1.0", "source": "shop", "id": "6", "type": "call.ended", "subject": "email:ann@example.com",
            "data": {"duration_s": 1, "summary": f"{MARK} {said}"},
        }
    ).encode()
    for said in ("first", "then")
]  # fmt: skip
"""What is drawn may be in conflict or not; of these the second always is."""


async def accepted(database_url: str, folder: Path, batches: list[list[bytes]]) -> list[Answer]:
    async with core(Settings.load(environ={}, data=folder), database_url) as parts:
        return [await parts.ingest.accept(batch, ADMIN, way_in="http") for batch in batches]


def test_whatever_comes_in_no_secret_stands_in_any_table(database_url: str, tmp_path: Path) -> None:
    seen = {"recorded": 0, "rejected": 0, "conflict": 0}

    @settings(max_examples=50, phases=[Phase.generate])  # a secret once stored stays: nothing can be shrunk
    @given(st.lists(events(), min_size=1, max_size=12))
    def hold(batch: list[bytes]) -> None:
        batch = [*batch, *IN_CONFLICT]
        # Each example has a source of its own, so that it meets its own conflicts only.
        source = f"shop{next(_numbers)}".encode()
        batch = [raw.replace(b'"source": "shop"', b'"source": "' + source + b'"') for raw in batch]
        (answer,) = asyncio.run(accepted(database_url, tmp_path, [batch]))
        for result in answer.results:
            seen[result.status] = seen.get(result.status, 0) + 1
        with psycopg.connect(database_url) as conn:
            for table, content in everything(conn).items():
                assert secrets_in(content) is None, (table, secrets_in(content))

    hold()
    assert min(seen.values()) > 0, seen
    project_once(database_url)
    with psycopg.connect(database_url, autocommit=True) as conn:
        tables = everything(conn)
        assert tables["read.contact_history"]
        for table, content in tables.items():
            assert secrets_in(content) is None, (table, secrets_in(content))
        assert files_with_secrets(conn) == []


def test_the_search_finds_a_secret_where_one_stands(database_url: str) -> None:
    """Its mark is its own: what it writes stays in the write-ahead log that the test above searches."""
    mark = MARK[::-1]
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("INSERT INTO touchlog.facts VALUES ('a', %s)", (f"Ann.{mark.upper()}@example.com",))
        assert [table for table, content in everything(conn).items() if secrets_in(content, mark)] == [
            "touchlog.facts"
        ]
        assert {file.parts[-2] for file in files_with_secrets(conn, mark)} >= {"pg_wal"}
        assert [file for file in files_with_secrets(conn, mark) if "base" in file.parts]


@pytest.mark.parametrize("status", ["rejected", "conflict"])
def test_what_was_not_recorded_is_shown_with_its_payload_to_those_who_may(
    database_url: str, tmp_path: Path, status: str
) -> None:
    event = {
        "specversion": "1.0",
        "source": "shop",
        "id": "1",
        "type": "my.own",
        "data": {"name": f"Ann {MARK}"},
    }
    bad = {**event, "time": "never"} if status == "rejected" else {**event, "data": {"name": f"Bob {MARK}"}}

    async def show() -> tuple[str, bytes | None]:
        async with core(Settings.load(environ={}, data=tmp_path), database_url) as parts:
            await parts.ingest.accept([json.dumps(event).encode()], ADMIN, way_in="http")
            await parts.ingest.accept([json.dumps(bad).encode()], ADMIN, way_in="http")
            (kept,) = await parts.rejected.list()
            assert kept.payload is None
            shown = await parts.rejected.show(kept.id)
            return shown.status, shown.payload

    found, payload = asyncio.run(show())
    assert found == status
    assert payload is not None
    assert json.loads(payload) == bad
