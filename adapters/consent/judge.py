"""The judge: a verdict on every message that went out, and another wherever what was learnt later changes it.

It follows the read models of consent and identity, judges what a stretch of the log touches, and records each
verdict that differs from the one in force as an event that supersedes it. Verdicts, the judge's memory and its
position change in one transaction; whoever else judges meanwhile has moved the position, and then nothing is
written. Building read models anew comes nowhere near here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b, sha256
from typing import Any, NamedTuple
from uuid import UUID

import orjson
from psycopg_pool import AsyncConnectionPool

from adapters.answers.history import Histories
from adapters.consent.consents import outbound
from adapters.consent.plainly import plainly
from adapters.consent.register import READ_MODELS, Register, load
from adapters.consent.touched import MESSAGE_COLUMNS, Sent, touched
from adapters.keys import KeyFile
from adapters.postgres import arrays
from adapters.postgres.event_log import Item, append_parameters
from domain.consent.plain import plain_judgement
from domain.consent.policies import VERSION
from domain.consent.rejudging import judgements, said
from domain.consent.validity import Look
from domain.consent.verdicts import Judgement, judge, without_looking
from domain.entry import event_id_of, moment, uuid_text

__all__ = ["SOURCE", "Judge", "Judging"]

SOURCE = "touchlog/verdicts"
WINDOW_POSITIONS = 5_000
"""Positions of the log that are gone through at a time."""
MOST_AT_ONCE = 5_000
"""Messages that are loaded, judged and written together: the log's counter is held for no more."""


class Judging(NamedTuple):
    """How far the judge has come."""

    position: int
    recorded: int
    policy: str | None
    swept: int


class _Said(NamedTuple):
    """One verdict on its way into the log."""

    message: bytes
    event_id: bytes
    knowledge: int
    digest: bytes
    item: Item


class _InForce(NamedTuple):
    verdict: bytes
    knowledge: int
    digest: bytes


class _Worded(NamedTuple):
    """What a judgement says, put into words: its digest and the parts of its event."""

    judgement: Judgement
    digest: bytes
    evidence: list[int]
    actual: orjson.Fragment
    known: orjson.Fragment
    snapshot: orjson.Fragment


class _Writing(NamedTuple):
    """Verdicts that are being written, while the next are judged.

    `position` is where the judge stands when they are, `in_force` what is then in force on their messages.
    """

    done: asyncio.Task[Judging | None]
    position: int
    in_force: dict[bytes, _InForce]


class _Chunk(NamedTuple):
    """Messages that are judged together: those that are plain, by their places, and what the whole rule needs for the others."""

    messages: Sequence[Sent]
    plain: dict[int, Judgement]
    register: Register | None


_Loaded = tuple[list[Sent], _Chunk]
_PROGRESS = "SELECT position, recorded, policy, swept FROM touchlog.judging"
_IN_FORCE = (
    "SELECT uuid_send(message), uuid_send(verdict), knowledge, uuid_send(said) FROM touchlog.verdicts_in_force "
    "WHERE message = ANY(%b::uuid[])"
)
_REMEMBER = """
INSERT INTO touchlog.verdicts_in_force AS f (message, verdict, knowledge, said)
SELECT * FROM unnest(%b::uuid[], %b::uuid[], %b::bigint[], %b::uuid[])
ON CONFLICT (message) DO UPDATE SET verdict = EXCLUDED.verdict, knowledge = EXCLUDED.knowledge, said = EXCLUDED.said
"""
_APPEND = """
WITH appended AS (
    SELECT * FROM touchpoint_log.append(%s::bigint, %s::bigint, %s::boolean, %b, %b, %b, %b, %b)
)
UPDATE touchlog.judging
   SET position = %s, recorded = greatest(recorded, first_position + %s - 1 - coalesce(cardinality(known_ordinals), 0))
  FROM appended RETURNING position, recorded, policy, swept
"""
_MOVE = "UPDATE touchlog.judging SET position = %s RETURNING position, recorded, policy, swept"
_SWEPT = f"""
SELECT {MESSAGE_COLUMNS} FROM read.consent_messages
 WHERE position > %s AND known_from <= %s AND (known_to IS NULL OR known_to > %s) ORDER BY position LIMIT %s
"""  # noqa: S608 - constants of ours


class Judge:
    """Judges what went out.

    Args:
        window: positions that are gone through at a time.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Any],
        histories: Histories,
        keys: KeyFile,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        window: int = WINDOW_POSITIONS,
        policy: str = VERSION,
    ) -> None:
        self._pool = pool
        self._histories = histories
        self._keys = keys
        self._clock = clock
        self._window = window
        self._policy = policy
        self._ahead: tuple[int, int, asyncio.Task[_Loaded]] | None = (
            None  # the next window, while this one is written
        )
        self._writing: _Writing | None = None
        self.judged = 0  # judgements made
        self.recorded = 0  # verdicts written

    async def stands(self) -> Judging:
        """How far judging has come."""
        async with self._pool.connection() as conn:
            row = await (await conn.execute(_PROGRESS, prepare=True)).fetchone()
        assert row is not None, "the migration made the row"
        return Judging(*row)

    async def catch_up(
        self,
        *,
        windows: int | None = None,
        within_s: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> bool:
        """Judge up to where the read models are; False where that is not reached in so many windows, or that time.

        Args:
            progress: called with (position reached, position of the read models).
        """
        started_s = time.monotonic()
        stands: Judging | None = None
        try:
            while True:
                if stands is None:  # nothing is being written
                    stands = await self.stands()
                    if stands.policy != self._policy:
                        await self._by_other_policy(stands)
                        stands = None
                        continue
                seen = await self._histories.moments.seen(READ_MODELS)
                if progress is not None:
                    progress(stands.position, seen)
                arrived = stands.position >= seen
                late = within_s is not None and time.monotonic() - started_s > within_s
                if arrived or late or windows == 0:
                    if await self._written(stands) is None:
                        stands = None  # another judge was first
                        continue
                    await self.settled()
                    return arrived
                windows = None if windows is None else windows - 1
                stands = await self._advance(stands, min(seen, stands.position + self._window), seen)
        finally:
            await self._let_go()

    async def _written(self, stands: Judging) -> Judging | None:
        """Wait until what is being written is; gives where the judge stands then, or None where another judge was first."""
        writing, self._writing = self._writing, None
        return stands if writing is None else await writing.done

    async def _let_go(self) -> None:
        """After a failure: what is being written is not waited for any longer than it takes, and nothing rests on it."""
        writing, self._writing = self._writing, None
        if writing is not None:
            await asyncio.wait([writing.done])
            if not writing.done.cancelled():
                writing.done.exception()

    async def settled(self) -> None:
        """Wait for what is being loaded ahead; it is kept."""
        if self._ahead is not None:
            await asyncio.wait([self._ahead[2]])

    async def _loaded(self, after: int, to: int) -> _Loaded:
        """The messages of a window, and what is needed to judge the first of them."""
        messages = await touched(self._pool, after, to)
        messages.sort(key=lambda sent: (sent.position, sent.known_from))
        return messages, await self._chunk(messages[: _end_of_chunk(messages, 0)], after, to)

    async def _window_of(self, after: int, to: int) -> _Loaded:
        """The window that was loaded ahead, if it is this one, or this one loaded now."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[:2] == (after, to):
            return await ahead[2]
        if ahead is not None:
            ahead[2].cancel()
        return await self._loaded(after, to)

    async def _chunk(self, messages: Sequence[Sent], after: int, to: int) -> _Chunk:
        """These messages with what is needed to judge them; those that came behind *after* plainly, where they are plain."""
        plain = await self._judged_plainly(messages, after, to)
        rest = [sent for place, sent in enumerate(messages) if place not in plain]
        return _Chunk(messages, plain, await self._register(rest) if rest else None)

    async def _judged_plainly(self, messages: Sequence[Sent], after: int, to: int) -> dict[int, Judgement]:
        """The judgements, by place, on messages that came behind *after*, are as they came, and are plain up to *to*."""
        found: dict[int, Judgement] = {}
        asked: list[tuple[int, Sent, bytes]] = []
        for place, sent in enumerate(messages):
            if sent.position <= after or sent.known_from != sent.position or sent.known_to is not None:
                continue
            unlooked = without_looking(sent.legal_basis, sent.purpose, sent.channel, sent.contact)
            if unlooked is not None:
                found[place] = unlooked
            elif sent.contact is not None:
                asked.append((place, sent, sent.contact))
        if not asked:
            return found
        subjects = {sent.subject for _, sent, _ in asked if sent.subject is not None}
        there = await plainly(self._pool, subjects, {contact for _, _, contact in asked}, to)
        for place, sent, contact in asked:
            plain = there.of(sent.subject, contact)
            if plain is None:
                continue
            facts, person, tied = plain
            judgement = plain_judgement(
                facts,
                person,
                contact,
                (sent.purpose or "", sent.channel, sent.controller),
                sent.sent_at,
                position=sent.position,
                snapshot=sent.snapshot,
                tied=tied,
            )
            if judgement is not None:
                found[place] = judgement
        return found

    async def _register(self, messages: Sequence[Sent]) -> Register:
        subjects = {UUID(bytes=s) for s in {sent.subject for sent in messages} if s is not None}
        contacts = {UUID(bytes=c) for c in {sent.contact for sent in messages} if c is not None}
        return await load(self._pool, subjects, contacts)

    async def _advance(self, stands: Judging, to: int, seen: int) -> Judging | None:
        """Judge what became known behind the judge's position up to *to*; meanwhile load what comes next.

        Gives where the judge stands once all is written, the last of which still is; None where another judge was first.
        """
        after = stands.position
        messages, chunk = await self._window_of(after, to)
        if to < seen:
            next_to = min(seen, to + self._window)
            self._ahead = to, next_to, asyncio.create_task(self._loaded(to, next_to))

        def found(sent: Sent, register: Register) -> Iterable[tuple[int, Judgement]]:
            told = outbound(sent.row(), register)
            case = register.case(told.subject, told.contact)
            return judgements(case, told, since=sent.known_from, until=sent.known_to, after=after, to=to)

        at = 0
        while True:
            until = _end_of_chunk(messages, at)
            if at:
                chunk = await self._chunk(messages[at:until], after, to)
            is_last, at = until >= len(messages), until
            verdicts, in_force = await self._judge(stands, chunk, found)
            written = await self._written(stands)
            if written is None:
                return None
            position = to if is_last else after
            done = asyncio.create_task(self._record(written, verdicts, position))
            self._writing = _Writing(done, position, in_force)
            stands = written._replace(position=position)
            if is_last:
                return stands

    async def _by_other_policy(self, stands: Judging) -> None:
        """Judge every message anew, by what is known now, because the policy tables are others than they were."""
        position = stands.position
        while stands.policy is not None:
            async with self._pool.connection() as conn:
                curs = conn.cursor(binary=True)
                known = (stands.swept, position, position, MOST_AT_ONCE)
                await curs.execute(_SWEPT.encode(), known, prepare=True)
                messages = [Sent(*row) for row in await curs.fetchall()]
            if not messages:
                break

            def found(sent: Sent, register: Register) -> Iterable[tuple[int, Judgement]]:
                told = outbound(sent.row(), register)
                case = register.case(told.subject, told.contact)
                return ((position, judge(case, told, known_at=position)),)

            chunk = _Chunk(messages, {}, await self._register(messages))
            verdicts, _ = await self._judge(stands, chunk, found)
            if await self._record(stands, verdicts, position) is None:
                return
            async with self._pool.connection() as conn:
                await conn.execute(
                    "UPDATE touchlog.judging SET swept = %s WHERE swept = %s AND position = %s",
                    (messages[-1].position, stands.swept, stands.position),
                )
            stands = await self.stands()
        async with self._pool.connection() as conn:
            await conn.execute(
                "UPDATE touchlog.judging SET policy = %s, swept = 0 WHERE policy IS NOT DISTINCT FROM %s AND position = %s",
                (self._policy, stands.policy, stands.position),
            )

    async def _judge(
        self,
        stands: Judging,
        chunk: _Chunk,
        found: Callable[[Sent, Register], Iterable[tuple[int, Judgement]]],
    ) -> tuple[list[_Said], dict[bytes, _InForce]]:
        """The verdicts on some messages that differ from those in force; and what is in force with them."""
        in_force = await self._in_force({sent.event_id for sent in chunk.messages}) if chunk.messages else {}
        if self._writing is not None:
            in_force |= self._writing.in_force
        verdicts: list[_Said] = []
        at = moment(self._clock())
        sweeping = stands.policy != self._policy
        worded: dict[tuple[Any, ...], _Worded] = {}
        for place, sent in enumerate(chunk.messages):
            if place % 100 == 0:
                await asyncio.sleep(0)  # what is being written goes on meanwhile
            plain = chunk.plain.get(place)
            if plain is not None:
                judged: Iterable[tuple[int, Judgement]] = ((sent.known_from, plain),)
            else:
                assert chunk.register is not None, "it is there for whatever is not plain"
                judged = found(sent, chunk.register)
            before = in_force.get(sent.event_id)
            for knowledge, judgement in judged:
                if before is not None and knowledge <= before.knowledge and not sweeping:
                    continue  # of a run that was cut off
                self.judged += 1
                words = _words(judgement, worded)
                if before is not None and before.digest == words.digest:
                    continue
                verdict = self._verdict(sent, knowledge, words, before, at)
                verdicts.append(verdict)
                before = in_force[sent.event_id] = _InForce(verdict.event_id, knowledge, words.digest)
        return verdicts, in_force

    async def _in_force(self, messages: Iterable[bytes]) -> dict[bytes, _InForce]:
        async with self._pool.connection() as conn:
            curs = conn.cursor(binary=True)
            # Planned anew each time: a plan made while little was in force would read all of it for each message.
            await curs.execute(_IN_FORCE.encode(), [arrays.uuids(list(messages))], prepare=False)
            return {row[0]: _InForce(row[1], row[2], row[3]) for row in await curs.fetchall()}

    def _verdict(
        self,
        sent: Sent,
        knowledge: int,
        words: _Worded,
        before: _InForce | None,
        at: str,
    ) -> _Said:
        """The event of a verdict. Its id follows from the message, what it supersedes, the evidence and the policy."""
        message = uuid_text(sent.event_id)
        supersedes = None if before is None else uuid_text(before.verdict)
        judgement = words.judgement
        key = f"{message} {supersedes} {words.evidence} {self._policy}"
        id_ = sha256(key.encode()).hexdigest()[:32]
        raw = event_id_of(SOURCE, id_)
        data: dict[str, Any] = {
            "of": {"source": sent.source, "id": sent.source_id},
            "verdict": judgement.verdict,
            "known_at_position": knowledge,
            "evidence_positions": words.evidence,
            "policy_version": self._policy,
            "actual": words.actual,
            "known": words.known,
            "snapshot": words.snapshot,
            "channel": sent.channel,
        }
        if judgement.reason is not None:
            data["reason"] = judgement.reason
        if supersedes is not None:
            data["supersedes"] = supersedes
        if sent.purpose is not None:
            data["purpose"] = sent.purpose
        body = {
            "event_id": uuid_text(raw),
            "source": SOURCE,
            "id": id_,
            "type": "verdict.recorded",
            "version": 1,
            "occurred_at": at,
            "channel": "records",
            "direction": "internal",
            "principal": "touchlog",
            "causation": message,
            "data": data,
        }
        encoded = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        item = Item(raw, "verdict.recorded", encoded, self._keys.payload_hash(orjson.dumps(data)))
        return _Said(sent.event_id, raw, knowledge, words.digest, item)

    async def _record(self, stands: Judging, verdicts: Sequence[_Said], position: int) -> Judging | None:
        """Write verdicts, memory and the judge's position in one transaction; None where another judge was first.

        The log's counter is taken last.
        """
        last = {one.message: one for one in verdicts}.values()
        async with self._pool.connection() as conn, conn.transaction():
            row = await (await conn.execute(f"{_PROGRESS} FOR UPDATE", prepare=True)).fetchone()
            assert row is not None
            if Judging(*row) != stands:
                return None
            curs = conn.cursor(binary=True)
            if not verdicts:
                await curs.execute(_MOVE.encode(), [position], prepare=True)
                return Judging(*(await curs.fetchall())[0])
            await curs.execute(
                _REMEMBER.encode(),
                (
                    arrays.uuids([one.message for one in last]),
                    arrays.uuids([one.event_id for one in last]),
                    arrays.bigints([one.knowledge for one in last]),
                    arrays.uuids([one.digest for one in last]),
                ),
                prepare=True,
            )
            items = [one.item for one in verdicts]
            # A verdict that is there already, because the memory was lost, is told by its key and not written twice.
            parameters = append_parameters(items, epoch=None, erasures=None)
            await curs.execute(_APPEND.encode(), (*parameters, position, len(items)), prepare=True)
            row = await curs.fetchone()
        assert row is not None
        self.recorded += len(verdicts)
        return Judging(*row)


def _words(judgement: Judgement, worded: dict[tuple[Any, ...], _Worded]) -> _Worded:
    """What a judgement says; of thousands about one person most say the same, with the same looks."""
    actual, known, snapshot = judgement.actual, judgement.known, judgement.snapshot
    key = (judgement.verdict, judgement.reason, id(actual), id(known), id(snapshot))
    found = worded.get(key)
    if found is None:
        found = worded[key] = _Worded(  # holds the looks, so that no other can come to their ids
            judgement,
            blake2b(said(judgement), digest_size=16).digest(),
            list(judgement.evidence),
            _look(actual),
            _look(known),
            _look(snapshot),
        )
    return found


def _look(look: Look | None) -> orjson.Fragment:
    told: dict[str, Any] = {"evidence_positions": [], "position": None, "reason": None, "valid": None}
    if look is not None:
        told["evidence_positions"], told["position"] = list(look.evidence), look.position
        told["reason"], told["valid"] = look.reason, look.valid
    return orjson.Fragment(orjson.dumps(told))


def _end_of_chunk(messages: Sequence[Sent], at: int) -> int:
    """Where a chunk ends that begins at *at*: all that is told of one message is judged together."""
    until = at + MOST_AT_ONCE
    while until < len(messages) and messages[until].position == messages[until - 1].position:
        until += 1
    return min(until, len(messages))
