"""Consent asked: how one person stands, whom a sender may write to, and what is to be said of messages that went out."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.answers.history import Histories
from adapters.consent.noticed import named_by_notices
from adapters.consent.register import (
    ABOUT_NOTICES,
    READ_MODELS,
    Register,
    contacts_of,
    load,
    notices_of,
    people_of,
)
from adapters.consent.screening import Sought, looked_at
from adapters.consent.touched import uuid_of
from adapters.identifiers import read_ref
from adapters.postgres import arrays
from adapters.postgres.subjects import Subjects
from domain.consent.facts import GRANTS, RESTRICTIONS, Fact, defects
from domain.consent.purposes import CHANNELS, catalogue
from domain.consent.validity import Case, Look, Question
from domain.consent.verdicts import Judgement, Outbound, judge
from domain.entry import event_id_of, moment
from domain.errors import Invalid, Problem
from domain.identity import Identifier

__all__ = [
    "MOST_RECIPIENTS",
    "Asked",
    "Checked",
    "Consents",
    "EventKey",
    "PersonConsent",
    "Verdicts",
    "judged",
    "outbound",
]

MOST_RECIPIENTS = 10_000
_PART = 2_500
"""Recipients that are checked together."""
_PARTS_AT_ONCE = 2
_UNSEEN = UUID(int=0)
"""A contact point of which nothing was recorded: a restriction that names none holds for it all the same."""


class EventKey(msgspec.Struct, frozen=True):
    """The key of an event."""

    source: str
    id: str


class Asked(msgspec.Struct, frozen=True, gc=False):
    """One recipient: whom, where to and what for; `person` absent: the person of the contact point itself."""

    contact: str
    purpose: str
    channel: str
    person: str | None = None
    controller: str | None = None


class PersonConsent(msgspec.Struct, frozen=True, kw_only=True):
    """How a person stands at one moment of both axes."""

    person: str
    at: str
    answers: list[dict[str, Any]]
    facts: list[dict[str, Any]]
    defects: list[dict[str, Any]]
    as_of: str
    known_at: int
    head: int


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """Who may be written to. `snapshot` is the position to send along with each message."""

    results: list[dict[str, Any]]
    allowed_count: int
    refused_count: int
    at: str
    snapshot: int
    known_at: int
    head: int


class Verdicts(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said of messages, in the order in which they were asked for."""

    verdicts: list[dict[str, Any]]
    known_at: int
    head: int


_FIND = "SELECT lookup, uuid_send(subject) FROM touchlog.subjects WHERE lookup = ANY(%b::bytea[])"
_WRITTEN_TO = (
    "SELECT EXISTS (SELECT FROM read.consent_messages WHERE contact = ANY(%s::uuid[]) AND known_from <= %s)"
)
_MESSAGES = """
SELECT event_id, position, sent_at, subject, contact, purpose, channel, legal_basis, snapshot, controller
  FROM read.consent_messages WHERE event_id = ANY(%s::uuid[]) AND known_to IS NULL
"""


class Consents:
    """Answers questions about consent.

    Args:
        region: for phone numbers without a country code.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Any],
        subjects: Subjects,
        histories: Histories,
        *,
        region: str | None = None,
    ) -> None:
        self._pool = pool
        self._subjects = subjects
        self._histories = histories
        self._region = region

    async def _position(self, known_at: datetime | int | None, after: int = 0) -> int:
        """The position that *known_at* resolves to, once the read models have seen it."""
        if (
            isinstance(known_at, int)
            and known_at >= 0
            and max(known_at, after) <= await self._histories.moments.seen(READ_MODELS)
        ):
            return known_at  # one look says that it is in the log, and seen
        position = await self._histories.moments.resolve_known_at(known_at)
        if position is None:
            if after:
                return await self._histories.moments.wait_until(after, models=READ_MODELS)
            return await self._histories.moments.seen(READ_MODELS)
        await self._histories.moments.wait_until(max(position, after), models=READ_MODELS)
        return position

    # -- before sending

    async def check(
        self,
        recipients: Sequence[Asked],
        *,
        at: datetime | None = None,
        known_at: datetime | int | None = None,
        after: int = 0,
    ) -> Checked:
        """Whether each recipient may be written to.

        Args:
            at: when the message would go out; now by default.

        Raises:
            Invalid: a REF is none, or there are too many.
        """
        if len(recipients) > MOST_RECIPIENTS:
            raise Invalid(
                [
                    Problem(
                        "/recipients",
                        f"{len(recipients):,} recipients in one question; at most {MOST_RECIPIENTS:,} are taken. Ask in parts.",
                        "too_many",
                    )
                ]
            )
        when = at or datetime.now(UTC)
        position = await self._position(known_at, after)
        named = self._named(recipients)
        turns = asyncio.Semaphore(_PARTS_AT_ONCE)

        async def checked(part: Sequence[Asked]) -> list[dict[str, Any]]:
            async with turns:  # while the database answers one part, another is thought about
                return await self._checked(part, named, when, position)

        parts = [
            asyncio.ensure_future(checked(recipients[start : start + _PART]))
            for start in range(0, len(recipients), _PART)
        ]
        try:
            await asyncio.gather(*parts)
        finally:
            for part in parts:
                part.cancel()  # where one failed, nobody waits for the others
        results = [result for part in parts for result in part.result()]
        allowed = sum(result["allowed"] for result in results)
        return Checked(
            results=results,
            allowed_count=allowed,
            refused_count=len(results) - allowed,
            at=moment(when),
            snapshot=position,
            known_at=position,
            head=position,
        )

    async def _checked(
        self,
        recipients: Sequence[Asked],
        named: Mapping[str, Identifier | None],
        when: datetime,
        position: int,
    ) -> list[dict[str, Any]]:
        texts = {asked.contact for asked in recipients}
        texts.update(asked.person for asked in recipients if asked.person)
        surrogates = await self._surrogates({text: named[text] for text in texts})
        sought: list[Sought | None] = []
        for asked in recipients:
            contact = surrogates[asked.contact]
            subject = surrogates[asked.person] if asked.person else contact
            if contact is None:
                if subject is None:
                    sought.append(None)
                    continue
                contact = _UNSEEN.bytes
            sought.append(Sought(subject, contact, asked.purpose, asked.channel, asked.controller))
        looks = await looked_at(self._pool, sought, when, position)
        results = []
        for asked, (valid, reason, decided, evidence) in zip(recipients, looks, strict=True):
            found: dict[str, Any] = {"contact": asked.contact}
            if asked.person is not None:
                found["person"] = asked.person
            found["allowed"], found["reason"] = valid, reason
            found["position"], found["evidence"] = decided, evidence
            results.append(found)
        return results

    def _named(self, recipients: Sequence[Asked]) -> dict[str, Identifier | None]:
        """The identifier of each REF that recipients name; None where it names nobody.

        Raises:
            Invalid: with a problem for each that is no REF.
        """
        problems: list[Problem] = []
        found: dict[str, Identifier | None] = {}
        for number, asked in enumerate(recipients):
            for member, text in (("contact", asked.contact), ("person", asked.person)):
                if text is None or text in found:
                    continue
                try:
                    found[text] = read_ref(text, self._region)
                except Invalid:
                    found[text] = None
                    problems += _wrong(text, self._region, f"/recipients/{number}/{member}")
        if problems:
            raise Invalid(problems)
        return found

    async def _surrogates(self, named: Mapping[str, Identifier | None]) -> dict[str, bytes | None]:
        """The 16 bytes of each REF's surrogate; None where nobody was recorded under it."""
        found: dict[str, bytes | None] = dict.fromkeys(named)
        missing: dict[bytes, str | list[str]] = {}  # most are named in one way alone
        for text, one in named.items():
            if one is None:
                continue
            if one.kind == "subject":
                found[text] = UUID(one.value).bytes
                continue
            lookup = self._subjects.lookup((one.kind, one.namespace, one.value))
            before = missing.setdefault(lookup, text)
            if before is not text:
                missing[lookup] = [text, *([before] if isinstance(before, str) else before)]
        if missing:
            async with self._pool.connection() as conn:
                curs = conn.cursor(binary=True)
                await curs.execute(_FIND.encode(), (arrays.byteas(list(missing)),), prepare=True)
                for key, subject in await curs.fetchall():
                    texts = missing[key]
                    for text in (texts,) if isinstance(texts, str) else texts:
                        found[text] = subject
        return found

    # -- what went out

    async def verdicts(
        self, events: Sequence[EventKey], *, known_at: datetime | int | None = None, after: int = 0
    ) -> Verdicts:
        """The verdict on each message, as it is known now, with consent knowledge cut off at *known_at*."""
        position = await self._position(known_at, after)
        ids = [UUID(bytes=event_id_of(event.source, event.id)) for event in events]
        rows = await self._messages(ids)
        if len(rows) < len(set(ids)):  # perhaps the read model has not seen them yet: they are taken as given
            await self._histories.moments.wait_until(await self._head(), models=READ_MODELS)
            rows = await self._messages(ids)
        register = await load(
            self._pool,
            {row[3] for row in rows.values() if row[3] is not None},
            {row[4] for row in rows.values() if row[4] is not None},
        )
        told = []
        for event, event_id in zip(events, ids, strict=True):
            row = rows.get(event_id)
            found: dict[str, Any] = {"source": event.source, "id": event.id}
            if row is None:
                told.append(found | {"verdict": None, "reason": "no_outbound_touchpoint"} | judged(None))
                continue
            sent = outbound(row, register)
            judgement = judge(register.case(sent.subject, sent.contact), sent, known_at=position)
            told.append(
                found | {"verdict": judgement.verdict, "reason": judgement.reason} | judged(judgement)
            )
        return Verdicts(verdicts=told, known_at=position, head=position)

    async def _written_to(self, points: Collection[UUID], position: int) -> bool:
        """Whether a message that is known at *position* went to one of these contact points."""
        async with self._pool.connection() as conn:
            row = await (await conn.execute(_WRITTEN_TO, [list(points), position], prepare=True)).fetchone()
        return row is not None and bool(row[0])

    async def _messages(self, ids: Sequence[UUID]) -> dict[UUID, Sequence[Any]]:
        async with self._pool.connection() as conn:
            curs = conn.cursor(binary=True)
            await curs.execute(_MESSAGES.encode(), [list(ids)], prepare=True)
            return {row[0]: row for row in await curs.fetchall()}

    async def _head(self) -> int:
        async with self._pool.connection() as conn:
            row = await (await conn.execute("SELECT position FROM touchpoint_log.head")).fetchone()
        assert row is not None
        return int(row[0])

    # -- one person

    async def person(
        self,
        ref: str,
        *,
        purpose: str | None = None,
        channel: str | None = None,
        contact: str | None = None,
        at: datetime | None = None,
        known_at: datetime | int | None = None,
        known: bool = True,
        after: int = 0,
    ) -> PersonConsent:
        """How the person whom *ref* names stands: an answer for every purpose, channel and contact point that facts name.

        Args:
            purpose, channel, contact: only these; with all three the answer is one, whether facts name them or not.
            at: the moment asked about; now by default.
            known: whether somebody must have been known by then; a link that was sent asks of whom it was made for.

        Raises:
            Invalid, NotFound, FutureTime, Behind.
        """
        when = at or datetime.now(UTC)
        finding = asyncio.ensure_future(self._histories.identities.subject_then(ref, known_at))
        try:
            position = await self._position(known_at, after)
            subject = await finding
        finally:
            finding.cancel()
        point = None
        refs: dict[UUID, str | None] = {}
        if contact is not None:
            identifier = read_ref(contact, self._region, pointer="/contact")
            if contact == ref:
                point = subject  # one surrogate, whatever is asked of it
            else:
                point = uuid_of((await self._surrogates({contact: identifier}))[contact]) or _UNSEEN
            if identifier is None or identifier.kind != "subject":
                refs[point] = contact if identifier is None else str(identifier)
        register = await load(
            self._pool, {subject}, {point} if point is not None else (), widened=contact is None
        )  # what others recorded for the person's contact points binds here too
        own = register.case(subject, None)
        people = own.kin.person(subject, position)
        if point is not None:
            points = {point}
        else:
            points = contacts_of(_bearing([own], people, (), position)) | people
            if not points <= register.contacts:
                register = await load(self._pool, {subject}, points)
            points = register.named(points)  # of a hundred identifiers few are contact points
        keys = _keys(register, subject, people, points, when, position)
        if purpose is not None and channel is not None and point is not None:
            keys = {(purpose, channel, point)}
        cases = [register.case(subject, p) for p in (*points, None)]
        facts = sorted(
            _bearing(cases, people, points, position),
            key=lambda f: (f.effective_at, f.source, f.source_id),
        )
        if known and not facts and not await self._written_to(people, position):
            await self._histories.moments.wait_until(position)
            if not await self._histories.identities.known(
                ref, list(people), position, waits=known_at is None
            ):
                position = await self._histories.moments.wait_until(
                    await self._histories.moments.seen(), models=READ_MODELS
                )
                return await self.person(
                    ref, purpose=purpose, channel=channel, contact=contact, at=when, known_at=position
                )
        unnamed = {key[2] for key in keys} | {f.contact for f in facts if f.contact is not None}
        if unnamed := unnamed - refs.keys():
            refs |= {s: _ref(found) for s, found in (await self._subjects.describe(unnamed)).items()}
        answers = []
        for key in sorted(keys, key=lambda k: (k[0], k[1], refs.get(k[2]) or "", str(k[2]))):
            if (purpose is not None and key[0] != purpose) or (channel is not None and key[1] != channel):
                continue
            question = Question(subject=subject, purpose=key[0], channel=key[1], contact=key[2])
            look = register.case(subject, key[2]).look(question, when, position)
            answers.append(
                {"purpose": key[0], "channel": key[1], "contact": refs.get(key[2]) or str(key[2])}
                | _look(look)
                | {"resting_on": _resting_on(look)}
            )
        named = await named_by_notices(self._pool, position)
        return PersonConsent(
            person=str(min(people)),
            at=moment(when),
            answers=answers,
            facts=[_told(fact, refs) for fact in facts],
            defects=[
                {"position": d.fact.position, "reason": d.reason, "without_effect": d.without_effect}
                for d in defects(facts, position, catalogue=catalogue(named), channels=CHANNELS)
            ],
            as_of=moment(when),
            known_at=position,
            head=position,
        )


def _bearing(
    cases: Sequence[Case], people: Collection[UUID], points: Collection[UUID], position: int
) -> list[Fact]:
    """The facts that bear on a person or contact points, each with all that speaks of it, as known at *position*.

    A case holds more: what was told of others who are, were or will be linked to the person.
    """
    # One that was corrected as a touchpoint, or restored, stands there once for each of its times.
    seen = {(f.position, f.known_from): f for case in cases for f in case.facts}
    known = [
        f for f in seen.values() if f.known_from <= position and (f.known_to is None or f.known_to > position)
    ]
    bound = {
        word.fact.event_id
        for case in cases
        for said in (case.known(position),)
        for word in said.restrictions
        if word.fact.contact is None
        and not case.kin.bound(word.fact, said.reviews.get(word.fact.event_id, ()), position).isdisjoint(
            people
        )
    }
    spoken_of = {f.event_id: f.of for f in known}

    def root(fact: Fact) -> UUID:
        found, passed = fact.event_id, {fact.event_id}
        while (of := spoken_of.get(found)) in spoken_of and of not in passed:
            assert of is not None
            found = of
            passed.add(of)
        return found

    roots = {
        root(f)
        for f in known
        if f.event_id in bound
        or not people_of(f).isdisjoint(people)
        or not contacts_of([f]).isdisjoint(points)
    }
    notices = {name for f in known if root(f) in roots for name in notices_of(f)}
    roots |= {root(f) for f in known if f.state in ABOUT_NOTICES and not notices.isdisjoint(notices_of(f))}
    return [f for f in known if root(f) in roots]


def _wrong(text: str, region: str | None, place: str) -> Sequence[Problem]:
    """What is wrong with a REF that is none, told for its place."""
    try:
        read_ref(text, region, pointer=place)
    except Invalid as wrong:
        return wrong.problems
    return ()


def outbound(row: Sequence[Any], register: Register) -> Outbound:
    """A message as the domain judges it, of a row of `read.consent_messages`."""
    _, position, sent_at, subject, contact, purpose, channel, legal_basis, snapshot, controller = row
    return Outbound(
        position=position,
        sent_at=sent_at,
        known_at=register.known_at(sent_at),
        subject=subject,
        purpose=purpose,
        channel=channel,
        contact=contact,
        legal_basis=legal_basis,
        snapshot=snapshot,
        controller=controller,
    )


def _keys(
    register: Register,
    subject: UUID,
    people: frozenset[UUID],
    points: set[UUID],
    when: datetime,
    position: int,
) -> set[tuple[str, str, UUID]]:
    """Every purpose, channel and contact point that a grant of the person, or a restriction, names."""
    found: set[tuple[str, str, UUID]] = set()
    for point in points:
        case: Case = register.case(subject, point)
        said = case.known(position)
        facts = [w.fact for w in (*said.grants, *said.restrictions)] + list(said.unevidenced)
        for fact in facts:
            mine = fact.contact == point and (fact.subject in people or fact.state in RESTRICTIONS)
            named = fact.purpose not in (None, "*") and fact.channel not in (None, "*")
            if mine and named and fact.effective_at <= when:
                found.add((str(fact.purpose), str(fact.channel), point))
    return found


def _ref(described: Any) -> str | None:
    if described.value is None:
        return None
    return str(Identifier(described.kind, described.value, described.namespace))


def _look(look: Look | None) -> dict[str, Any]:
    if look is None:
        return {"valid": None, "reason": None, "position": None, "evidence": []}
    return {
        "valid": look.valid,
        "reason": look.reason,
        "position": look.position,
        "evidence": list(look.evidence),
    }


def judged(judgement: Judgement | None) -> dict[str, Any]:
    """The three looks behind a verdict, as answers tell them."""
    if judgement is None:
        return {"actual": _look(None), "known": _look(None), "snapshot": _look(None), "policy": None}
    return {
        "actual": _look(judgement.actual),
        "known": _look(judgement.known),
        "snapshot": _look(judgement.snapshot),
        "policy": judgement.policy_version,
    }


def _resting_on(look: Look) -> dict[str, Any] | None:
    """The word that decided, for people: under which notice, collected how, since and until when."""
    if look.word is None:
        return None
    fact = look.word.fact
    return {
        "state": fact.state,
        "since": moment(look.word.since),
        "valid_until": moment(fact.valid_until) if fact.valid_until else None,
        "notice": {"id": fact.notice_id, "version": fact.notice_version} if fact.notice_id else None,
        "method": fact.method,
        "event_id": str(fact.event_id),
        "source": fact.source,
        "source_id": fact.source_id,
    }


def _told(fact: Fact, refs: dict[UUID, str | None]) -> dict[str, Any]:
    """A fact as it was recorded."""
    return {
        "position": fact.position,
        "event_id": str(fact.event_id),
        "source": fact.source,
        "source_id": fact.source_id,
        "state": fact.state,
        "is": "grant" if fact.state in GRANTS else "restriction" if fact.state in RESTRICTIONS else None,
        "effective_at": moment(fact.effective_at),
        "recorded_at": moment(fact.recorded_at),
        "purpose": fact.purpose,
        "channel": fact.channel,
        "contact": None if fact.contact is None else refs.get(fact.contact) or str(fact.contact),
        "notice": {"id": fact.notice_id, "version": fact.notice_version} if fact.notice_id else None,
        "method": fact.method,
        "legal_basis": fact.legal_basis,
        "jurisdiction": fact.jurisdiction,
        "controller": fact.controller,
        "valid_until": moment(fact.valid_until) if fact.valid_until else None,
        "double_opt_in": fact.double_opt_in,
        "of": None if fact.of is None else str(fact.of),
    }
