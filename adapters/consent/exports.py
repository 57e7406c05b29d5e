"""Exports: whom nobody may write to any more, and the whole register; streamed, as known at one position.

Rows come in the order of the log, a batch at a time, from one snapshot. Contact points are surrogates, unless their
values are asked for; every row names the position by whose knowledge it holds.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
import orjson
from psycopg_pool import AsyncConnectionPool

from adapters.answers.history import Histories
from adapters.answers.unsealing import unseal
from adapters.consent.noticed import named_by_notices
from adapters.consent.register import READ_MODELS, Register, batches, load
from adapters.postgres.subjects import Subject, Subjects
from adapters.spreadsheets import plain_text
from domain.consent.facts import RESTRICTIONS, Word, covers, defects
from domain.consent.opt_outs import CONTACT_KINDS
from domain.consent.purposes import CHANNELS, catalogue
from domain.consent.validity import Case, Question
from domain.entry import decode_body, moment
from domain.errors import Invalid, Problem
from domain.identity import Identifier

__all__ = ["DEFECTS", "FORMATS", "REGISTER", "SUPPRESSIONS", "Exports", "Form", "form_of", "written"]

Form = Literal["csv", "jsonl"]
FORMATS: dict[str, str] = {"csv": "text/csv", "jsonl": "application/x-ndjson"}
"""Format to media type."""

Rows = list[dict[str, Any]]
_AT_ONCE = 2_000
_POINTS = frozenset(kind for kinds in CONTACT_KINDS.values() for kind in kinds)

SUPPRESSIONS = (
    "contact",
    "kind",
    "purpose",
    "channel",
    "state",
    "since",
    "except",
    "person",
    "position",
    "event_id",
    "at",
    "known_at",
)
REGISTER = (
    "position",
    "event_id",
    "source",
    "source_id",
    "type",
    "state",
    "effective_at",
    "recorded_at",
    "person",
    "contact",
    "purpose",
    "channel",
    "legal_basis",
    "notice_id",
    "notice_version",
    "notice_language",
    "notice_sha256",
    "method",
    "evidence",
    "jurisdiction",
    "controller",
    "valid_until",
    "double_opt_in",
    "withdrawal_means",
    "actor",
    "recorded_by",
    "of",
    "patch",
    "known_at",
)

DEFECTS = (
    "position",
    "event_id",
    "source",
    "source_id",
    "state",
    "reason",
    "effect",
    "effective_at",
    "recorded_at",
    "person",
    "purpose",
    "channel",
    "known_at",
)

_RESTRICTIONS = """
SELECT subject, contact FROM read.consent_facts
 WHERE state = ANY(%(states)s) AND known_from <= %(known_at)s AND (known_to IS NULL OR known_to > %(known_at)s)
 ORDER BY position
"""
_REGISTER = """
SELECT f.position, f.event_id, f.source, f.source_id, f.state, f.effective_at, f.subject, f.contact, f.purpose, f.channel,
       f.legal_basis, f.notice_id, f.notice_version, f.method, f.jurisdiction, f.controller, f.valid_until, f.double_opt_in,
       f.of, f.patch, e.recorded_at, e.body
  FROM read.consent_facts f JOIN touchpoint_log.events e ON e.position = f.position
 WHERE f.known_from <= %(known_at)s AND (f.known_to IS NULL OR f.known_to > %(known_at)s)
 ORDER BY f.position, f.subject, f.purpose
"""


class Exports:
    """Streams lists out of what is known of consent."""

    def __init__(self, pool: AsyncConnectionPool[Any], subjects: Subjects, histories: Histories) -> None:
        self._pool = pool
        self._subjects = subjects
        self._histories = histories

    async def position(self, known_at: datetime | int | None = None, *, after: int = 0) -> int:
        """The position by whose knowledge an export is made, once the read models have seen it.

        Raises:
            Invalid, FutureTime, Behind.
        """
        position = await self._histories.moments.resolve_known_at(known_at)
        if position is None:
            position = await self._histories.moments.seen(READ_MODELS)
        await self._histories.moments.wait_until(max(position, after), models=READ_MODELS)
        return max(position, after) if known_at is None else position

    async def _batches(self, statement: str, asked: dict[str, Any]) -> AsyncIterator[list[Any]]:
        async with self._pool.connection() as conn, conn.transaction():
            await conn.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            async with conn.cursor(name="export", binary=True) as cursor:
                await cursor.execute(statement.encode(), asked)
                while rows := await cursor.fetchmany(_AT_ONCE):
                    yield rows

    # -- the register

    async def register(self, known_at: int, *, personal: bool = False) -> AsyncIterator[Rows]:
        """Every fact about consent and every notice, as recorded, that was known at position *known_at*."""
        async for rows in self._batches(_REGISTER, {"known_at": known_at}):
            events = [decode_body(bytes(row[21])) for row in rows]
            opened = await unseal(self._subjects, events) if personal else [(e.data, None) for e in events]
            points = {row[7] for row in rows if row[7] is not None}
            named = await self._refs(points) if personal else {}
            found: Rows = []
            for row, event, (data, _) in zip(rows, events, opened, strict=True):
                notice: dict[str, Any] = data["notice"] if isinstance(data.get("notice"), dict) else {}
                evidence = data.get("evidence") if personal else None
                found.append(
                    {
                        "position": row[0],
                        "event_id": str(row[1]),
                        "source": row[2],
                        "source_id": row[3],
                        "type": event.type,
                        "state": row[4],
                        "effective_at": moment(row[5]),
                        "recorded_at": moment(row[20]),
                        "person": None if row[6] is None else str(row[6]),
                        "contact": None if row[7] is None else named.get(row[7]) or str(row[7]),
                        "purpose": row[8],
                        "channel": row[9],
                        "legal_basis": row[10],
                        "notice_id": row[11],
                        "notice_version": row[12],
                        "notice_language": notice.get("language"),
                        "notice_sha256": notice.get("sha256"),
                        "method": row[13],
                        "evidence": evidence if isinstance(evidence, str | None) else _json(evidence),
                        "jurisdiction": row[14],
                        "controller": row[15],
                        "valid_until": None if row[16] is None else moment(row[16]),
                        "double_opt_in": row[17],
                        "withdrawal_means": data.get("withdrawal_means"),
                        "actor": data.get("actor"),
                        "recorded_by": event.principal,
                        "of": None if row[18] is None else str(row[18]),
                        "patch": row[19],
                        "known_at": known_at,
                    }
                )
            yield found

    async def _refs(self, subjects: Collection[UUID]) -> dict[UUID, str]:
        return {s: ref for s, one in (await self._subjects.describe(subjects)).items() if (ref := _ref(one))}

    # -- what deserves a look

    async def defects(self, known_at: int) -> AsyncIterator[Rows]:
        """What is wrong with facts: without evidence, over before they began, speaking of what never came, misspelt perhaps.

        All of them are kept; each says whether it is without effect or in full effect.
        """
        purposes = catalogue(await named_by_notices(self._pool, known_at))
        told: set[tuple[int, str]] = set()  # of a fact that stands in two batches each defect is told once
        async for facts, meant in batches(self._pool, known_at):
            found: Rows = []
            for one in defects(facts, known_at, catalogue=purposes, channels=CHANNELS):
                fact = one.fact
                if fact.position not in meant or (fact.position, one.reason) in told:
                    continue
                told.add((fact.position, one.reason))
                found.append(
                    {
                        "position": fact.position,
                        "event_id": str(fact.event_id),
                        "source": fact.source,
                        "source_id": fact.source_id,
                        "state": fact.state,
                        "reason": one.reason,
                        "effect": "none" if one.without_effect else "full",
                        "effective_at": moment(fact.effective_at),
                        "recorded_at": moment(fact.recorded_at),
                        "person": None if fact.subject is None else str(fact.subject),
                        "purpose": fact.purpose,
                        "channel": fact.channel,
                        "known_at": known_at,
                    }
                )
            if found:
                yield found

    # -- suppressions

    async def suppressions(
        self,
        known_at: int,
        *,
        at: datetime | None = None,
        purpose: str | None = None,
        channel: str | None = None,
        personal: bool = False,
    ) -> AsyncIterator[Rows]:
        """Contact points for which a restriction stands at *at*, as known at position *known_at*.

        Each once a scope; where several persons own it, once for the last word of each: which of them came first says nothing.

        Args:
            purpose, channel: only what stands in the way of this one; without, each restriction with its own scope,
                and in `except` what a later grant has allowed again.
        """
        when = at or datetime.now(UTC)
        states = [*RESTRICTIONS, "corrected", "reviewed"]  # these may bring a restriction to somebody else
        seen: set[tuple[UUID, str, str, int]] = set()
        async for rows in self._batches(_RESTRICTIONS, {"states": states, "known_at": known_at}):
            people = {row[0] for row in rows if row[0] is not None}
            register, points, described = await self._points(
                people, {row[1] for row in rows if row[1] is not None}, known_at
            )
            found: Rows = []
            for subject, contact in dict.fromkeys((row[0], row[1]) for row in rows):
                reached: list[tuple[UUID | None, UUID]] = [] if contact is None else [(subject, contact)]
                if subject is not None:  # a correction may have taken the contact point away
                    reached += points[subject]
                for whose, point in reached:
                    one = described.get(point)
                    for scope, word, lifted in _standing(
                        register, whose, point, when, known_at, purpose, channel
                    ):
                        told = (point, *scope, word.fact.position)
                        if one is None or not _reaches(scope[1], one.kind) or told in seen:
                            continue
                        seen.add(told)
                        found.append(
                            {
                                "contact": (_ref(one) if personal else None) or str(point),
                                "kind": one.kind,
                                "purpose": scope[0],
                                "channel": scope[1],
                                "state": word.fact.state,
                                "since": moment(word.since),
                                "except": " ".join(lifted) or None,
                                "person": None if word.fact.subject is None else str(word.fact.subject),
                                "position": word.fact.position,
                                "event_id": str(word.fact.event_id),
                                "at": moment(when),
                                "known_at": known_at,
                            }
                        )
            if found:
                yield found

    async def _points(
        self, people: set[UUID], contacts: set[UUID], known_at: int
    ) -> tuple[Register, dict[UUID, list[tuple[UUID, UUID]]], dict[UUID, Subject]]:
        """All that is known of some persons and contact points; and by person whom restrictions bind, with each contact point of theirs."""
        register = await load(self._pool, people, contacts, widened=True)
        bound = {person: _bound(register.case(person, None), known_at) for person in people}
        named = {
            member: _named_by(register.case(person, None), members, known_at)
            for person, persons in bound.items()
            for member, members in persons.items()
        }
        members_of = {member: members for persons in bound.values() for member, members in persons.items()}
        described = await self._subjects.describe(contacts.union(*members_of.values(), *named.values()))
        points: dict[UUID, list[tuple[UUID, UUID]]] = {}
        for person, persons in bound.items():
            points[person] = sorted(
                (member, point)
                for member, members in persons.items()
                for point in named[member]
                | {m for m in members if m in described and described[m].kind in _POINTS}
            )
        wanted = contacts.union(point for reached in points.values() for _, point in reached)
        if not wanted <= register.contacts:
            register = await load(self._pool, people, wanted)
        return register, points, described


def _bound(case: Case, known_at: int) -> dict[UUID, frozenset[UUID]]:
    """One subject of each person whom a restriction without contact point binds, with all subjects of that person.

    After a split, or a link that was taken back, it may bind others than its own.
    """
    said = case.known(known_at)
    held = {
        one
        for word in said.restrictions
        if word.fact.contact is None
        for one in case.kin.bound(word.fact, said.reviews.get(word.fact.event_id, ()), known_at)
    }
    persons = {case.kin.person(one, known_at) for one in held}
    return {min(members): members for members in persons}


def _named_by(case: Case, members: Collection[UUID], known_at: int) -> set[UUID]:
    """The contact points that facts of a person name, as recorded or as corrected."""
    said = case.known(known_at)
    known = [
        f for f in case.facts if f.known_from <= known_at and (f.known_to is None or f.known_to > known_at)
    ]
    words = (*said.grants, *said.restrictions)
    facts = [*known, *said.unevidenced, *(word.fact for word in words)]
    return {f.contact for f in facts if f.contact is not None and f.subject in members}


def _standing(
    register: Register,
    subject: UUID | None,
    point: UUID,
    at: datetime,
    known_at: int,
    purpose: str | None,
    channel: str | None,
) -> list[tuple[tuple[str, str], Word, list[str]]]:
    """(scope, the restriction, what a later grant has allowed again) for what stands in the way of one contact point."""
    case = register.case(subject, point)
    said = case.known(known_at)
    scopes = {
        (purpose or word.fact.purpose or "*", channel or word.fact.channel or "*")
        for word in said.restrictions
        if word.since <= at
    }
    found: list[tuple[tuple[str, str], Word, list[str]]] = []
    for scope in sorted(scopes):
        look = case.look(
            Question(subject=subject, purpose=scope[0], channel=scope[1], contact=point), at, known_at
        )
        word = look.word
        if word is None or not word.is_restriction:
            continue
        if all(
            word.fact.position != other.fact.position for _, other, _ in found
        ):  # its own scope came first, and says it
            found.append((scope, word, _lifted(case, subject, point, scope, at, known_at)))
    return found


def _lifted(
    case: Case, subject: UUID | None, point: UUID, scope: tuple[str, str], at: datetime, known_at: int
) -> list[str]:
    """What inside the scope of a restriction is allowed all the same, as purpose/channel."""
    found = set()
    for word in case.known(known_at).grants:
        fact = word.fact
        if fact.contact != point or fact.purpose is None or fact.channel is None:
            continue
        if (fact.purpose, fact.channel) == scope or not covers(scope[0], fact.purpose):
            continue
        if scope[1] not in ("*", fact.channel):
            continue
        question = Question(subject=subject, purpose=fact.purpose, channel=fact.channel, contact=point)
        if case.look(question, at, known_at).valid:
            found.add(f"{fact.purpose}/{fact.channel}")
    return sorted(found)


def _reaches(channel: str, kind: str) -> bool:
    """Whether a channel can reach a contact point of a kind: a telephone number receives no mail."""
    return channel not in CONTACT_KINDS or kind in CONTACT_KINDS[channel]


def _ref(one: Subject) -> str | None:
    return None if one.value is None else str(Identifier(one.kind, one.value, one.namespace))


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def form_of(text: str) -> Form:
    """A format by its name.

    Raises:
        Invalid: there is none of this name.
    """
    if text not in FORMATS:
        raise Invalid([Problem("/format", f"'format' is one of {', '.join(FORMATS)}.", "not_allowed")])
    return "csv" if text == "csv" else "jsonl"


async def written(batches: AsyncIterator[Rows], columns: Sequence[str], form: Form) -> AsyncIterator[bytes]:
    """Rows as bytes of a file: CSV (RFC 4180, with a header) or JSON lines."""
    if form == "jsonl":
        encode = msgspec.json.Encoder().encode
        async for rows in batches:
            yield b"".join(encode(row) + b"\n" for row in rows)
        return
    yield (",".join(columns) + "\r\n").encode()
    async for rows in batches:
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerows([_cell(row[name]) for name in columns] for row in rows)
        yield out.getvalue().encode()


def _cell(value: Any) -> Any:
    """A cell; a text that a spreadsheet would take for a formula is marked as text."""
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value
