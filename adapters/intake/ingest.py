"""Ingest: from payloads to recorded events, once each, with an answer per item.

payload → draft (checked) → subjects (resolved or made) → sealed body → writer (group commit).
Every way in ends here: HTTP, NATS, imports, channels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
import structlog

from adapters.intake.cloudevents import Draft, Receipt, draft
from adapters.intake.outlines import Outlines
from adapters.intake.payloads import Payload, read_payload
from adapters.intake.sealing import Sealer
from adapters.keys import KeyFile, nonces
from adapters.postgres.event_log import Appended, ErasedMeanwhile, Item
from adapters.postgres.rejected import Kept, Rejected
from adapters.postgres.subjects import Named, Subjects
from adapters.postgres.writer import Writer
from adapters.principal import Principal
from domain.errors import Invalid, Problem

__all__ = ["Answer", "Corrector", "Ingest", "Result"]

log = structlog.get_logger()


class Result(msgspec.Struct):
    """What became of one item, as INTERFACES writes it."""

    status: str
    position: int | None = None
    id: str | None = None
    errors: list[Problem] = []


class Answer(msgspec.Struct):
    """What became of a batch: per item, in order, and in sum."""

    results: list[Result]
    recorded: int
    duplicates: int
    conflicts: int
    rejected: int
    head: int


SMALL_CALL = 20
"""Items; smaller calls are prepared together with those of other callers."""
PREPARED_TOGETHER = 64
"""Small calls; a few milliseconds of work, after which other callers have their turn."""


WORKED_AT_ONCE = 500
"""Items prepared before the loop has its turn."""


class Corrector(Protocol):
    """Makes corrections of items whose key is known with another payload."""

    async def settle(self, answered: Sequence[tuple[Draft, Result]], principal: Principal) -> None:
        """Change the results of conflicts that became corrections: status `corrected`, or `duplicate` where nothing differs."""


class _Call(msgspec.Struct, eq=False):
    """One caller's items on their way, and what became of them."""

    items: Sequence[bytes | Payload]
    principal: Principal
    way_in: str
    import_id: str | None
    places: Sequence[str] | None
    keep: bool
    corrector: Corrector | None
    results: list[Result | None]
    """One for each item, once it is known."""
    done: asyncio.Future[None] | None = None

    def answer(self, head: int) -> Answer:
        """The results in order and in sum."""
        results = [r for r in self.results if r is not None]
        if len(results) == 1 and results[0].status == "recorded":
            return Answer(results, 1, 0, 0, 0, head)
        count = [r.status for r in results].count
        recorded = count("recorded")
        if recorded == len(results):
            return Answer(results, recorded, 0, 0, 0, head)
        return Answer(results, recorded, count("duplicate"), count("conflict"), count("rejected"), head)


class _Prepared(msgspec.Struct, gc=False):
    """An event on its way: its draft, unless its outline was known, and what is appended once that is ready.

    It has neither while its outline is known and its subject has to be resolved.
    """

    call: _Call
    place: int
    id: str
    draft: Draft | None
    item: Item | None
    decoded: Payload | None = None

    @property
    def payload(self) -> Payload:
        """The event as it was sent; of a known spelling it is decoded only here."""
        sent = self.call.items[self.place]
        return self.decoded or (sent if isinstance(sent, Payload) else read_payload(sent))


class Ingest:
    """Records events for many callers of one process.

    Args:
        clock: the time of receipt, aware; the log's own clock is the database's.
        region: for phone numbers without a country code; None takes only numbers with `+`.
    """

    def __init__(
        self,
        subjects: Subjects,
        writer: Writer,
        keys: KeyFile,
        rejected: Rejected,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        region: str | None = None,
    ) -> None:
        self.subjects = subjects
        self.writer = writer
        self.keys = keys
        self.rejected = rejected
        self.clock = clock
        self.region = region
        self._small: list[_Call] = []
        self._gathering = False
        self._at_work = 0  # small calls that are being recorded
        self._tasks: set[asyncio.Task[None]] = set()
        self._sealer = Sealer(keys, region)
        self._outlines = Outlines(keys, subjects, region)

    async def accept(
        self,
        items: Sequence[bytes | Payload],
        principal: Principal,
        *,
        way_in: str,
        import_id: str | None = None,
        places: Sequence[str] | None = None,
        keep: bool = True,
        corrector: Corrector | None = None,
    ) -> Answer:
        """Record *items*; the answer leaves after the commit.

        Args:
            items: raw JSON of CloudEvents, or payloads already decoded.
            places: where each item stood, for people (file and row); the place in the batch by default.
            keep: whether rejected items and conflicts are kept to be looked at; a retry of a kept one is not.
            corrector: makes corrections of conflicts (`ingest --correct`); without one a conflict is kept.

        Raises:
            Unavailable: nothing is known of these items; the same call may be made again.
        """
        call = _Call(items, principal, way_in, import_id, places, keep, corrector, [None] * len(items))
        if len(items) > SMALL_CALL or import_id is not None or corrector is not None:
            await self._accept([call])
        else:
            call.done = asyncio.get_running_loop().create_future()
            self._small.append(call)
            if not self._gathering:
                self._gathering = True
                asyncio.get_running_loop().call_soon(self._gather)
            await call.done
        return call.answer(self.writer.head)

    def _gather(self) -> None:
        """Begin with all small calls that came in this turn of the loop, some at a time.

        Many callers with one event each cost twice what one caller with many costs, unless their events are
        prepared together; and while one part is on its way to the disk the next is prepared.
        """
        self._gathering = False
        calls, self._small = self._small, []
        self._at_work += len(calls)
        together = min(PREPARED_TOGETHER, max(4, -(-self._at_work // 2)))
        for at in range(0, len(calls), together):
            task = asyncio.get_running_loop().create_task(
                self._accept_small(calls[at : at + together], first=at == 0)
            )
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _accept_small(self, calls: list[_Call], *, first: bool) -> None:
        try:
            if not first:
                await asyncio.sleep(0)  # what was prepared before is sent first
            try:
                await self._accept(calls)
            finally:
                self._at_work -= len(calls)
        except BaseException as failed:
            for call in calls:
                if call.done is not None and not call.done.done():
                    if isinstance(failed, Exception):
                        call.done.set_exception(failed)
                    else:
                        call.done.cancel()
            if not isinstance(failed, Exception):
                raise
        else:
            for call in calls:
                if call.done is not None and not call.done.done():
                    call.done.set_result(None)

    async def _accept(self, calls: Sequence[_Call]) -> None:
        """Record the items of *calls*, and leave each its results."""
        prepared: list[_Prepared] = []
        refused: list[Kept] = []
        receipt = Receipt.of(self.clock())
        erasures = self.subjects.erasures  # before any subject is looked up
        fresh = nonces(2 * sum(len(call.items) for call in calls))
        wanted: dict[Named, None] = {}
        for call in calls:
            for place, item in enumerate(call.items):
                if place % WORKED_AT_ONCE == WORKED_AT_ONCE - 1:
                    await asyncio.sleep(0)
                one = self._prepared(call, place, item, None, receipt, refused, fresh, wanted)
                if one is not None:
                    prepared.append(one)
        if wanted:
            prepared = await self._resolved(prepared, wanted, receipt, refused, fresh)
        if prepared:
            outcome = await self._record(prepared, receipt, erasures, fresh)
            conflicts: list[tuple[_Prepared, Result]] = []
            for ready, (status, position) in zip(prepared, outcome, strict=True):
                draft_ = ready.draft
                if draft_ is None:
                    result = Result(status, position, ready.id)
                else:
                    result = Result(status, position, draft_.id, draft_.warnings)
                if status == "conflict":
                    result.errors = [_conflict(position)]
                    conflicts.append((ready, result))
                ready.call.results[ready.place] = result
            corrector = calls[0].corrector
            if corrector is not None:  # such a call is alone, and all of its items are drafts
                answered = [
                    (one.draft, told)
                    for one in prepared
                    if one.draft is not None and (told := one.call.results[one.place])
                ]
                await corrector.settle(answered, calls[0].principal)
            for ready, result in conflicts:
                if ready.call.keep and result.status == "conflict":
                    event = ready.payload.event
                    assert ready.item is not None
                    named = {"source": event["source"], "id": event["id"], "type": ready.item.type}
                    refused.append(
                        _kept("conflict", named, ready.call, ready.place, result.errors, result.position)
                    )
        if refused:
            await self.rejected.keep(refused)

    def _prepared(
        self,
        call: _Call,
        place: int,
        item: bytes | Payload,
        decoded: Payload | None,
        receipt: Receipt,
        refused: list[Kept],
        nonce: Callable[[], bytes],
        wanted: dict[Named, None] | None,
    ) -> _Prepared | None:
        """One item on its way; None where it is refused, which its call is told.

        Args:
            decoded: what *item* holds, where that is known.
            wanted: where an event of a known outline only lacks its subject that is noted here, and the event waits.
        """
        raw = None if isinstance(item, Payload) else item
        payload = item if isinstance(item, Payload) else decoded
        principal = call.principal
        try:
            is_straight = not principal.inside and call.corrector is None
            if is_straight and raw is not None and payload is None:
                spelled = self._outlines.spelled(
                    raw, principal.may_append_from, principal.key_id, call.import_id, receipt, nonce
                )
                if isinstance(spelled, tuple):
                    return _Prepared(call, place, spelled[0], None, spelled[1])
                if spelled is not None and wanted is not None:
                    wanted[spelled.kind, spelled.namespace, spelled.value] = None
                    return _Prepared(call, place, "", None, None)
            if payload is None:
                assert raw is not None
                payload = read_payload(raw)
            if is_straight:
                ready = self._outlines.item(
                    payload, principal.may_append_from, principal.key_id, call.import_id, receipt, nonce, raw
                )
                if isinstance(ready, Item):
                    return _Prepared(call, place, payload.event["id"], None, ready, payload)
                if ready is not None and wanted is not None:
                    wanted[ready.kind, ready.namespace, ready.value] = None
                    return _Prepared(call, place, "", None, None, payload)
            one = self._drafted(payload, principal, receipt)
            if is_straight:
                self._outlines.learn(payload.event, one)
        except Invalid as wrong:
            event = payload.event if payload is not None else {}
            call.results[place] = Result("rejected", None, _text(event.get("id")), wrong.problems)
            if call.keep:
                refused.append(_kept("rejected", event, call, place, wrong.problems))
            return None
        return _Prepared(call, place, one.id, one, None, payload)

    async def _resolved(
        self,
        prepared: list[_Prepared],
        wanted: dict[Named, None],
        receipt: Receipt,
        refused: list[Kept],
        nonce: Callable[[], bytes],
    ) -> list[_Prepared]:
        """*prepared*, of which those that waited for their subjects are ready or drafted."""
        await self.subjects.resolve(wanted)
        found: list[_Prepared] = []
        for number, one in enumerate(prepared):
            if number % WORKED_AT_ONCE == WORKED_AT_ONCE - 1:
                await asyncio.sleep(0)
            ready: _Prepared | None = one
            if one.item is None and one.draft is None:
                sent = one.call.items[one.place]
                ready = self._prepared(one.call, one.place, sent, one.decoded, receipt, refused, nonce, None)
            if ready is not None:
                found.append(ready)
        return found

    def check(self, raw: bytes, principal: Principal) -> None:
        """Whether *principal* could record an event now; nothing is recorded.

        Raises:
            Invalid: it would be refused.
        """
        self._drafted(read_payload(raw), principal, Receipt.of(self.clock()))

    def _drafted(self, payload: Payload, principal: Principal, receipt: Receipt) -> Draft:
        """The checked draft of one event.

        Raises:
            Invalid: it is refused.
        """
        one = draft(payload, receipt, inside=principal.inside, region=self.region)
        if "of" in one.declared.fields:
            _its_own(one, principal)
        if not principal.may_append_from(one.source):
            raise Invalid(
                [
                    Problem(
                        "/source",
                        f"The key {principal.key_id} may not append from source '{one.source}'; its sources are: {', '.join(principal.sources) or 'none'}.",
                        "forbidden",
                    )
                ]
            )
        return one

    async def _record(
        self, prepared: list[_Prepared], receipt: Receipt, erasures: int, nonce: Callable[[], bytes]
    ) -> list[Appended]:
        for attempt in range(3):
            drafts = [(one, one.draft) for one in prepared if one.item is None and one.draft is not None]
            if drafts:
                wanted: dict[Named, None] = {}
                parted = [self._sealer.parted(draft_, wanted) for _, draft_ in drafts]
                subjects = await self.subjects.resolve(wanted)
                for place, ((one, draft_), parts) in enumerate(zip(drafts, parted, strict=True)):
                    if place % WORKED_AT_ONCE == WORKED_AT_ONCE - 1:
                        await asyncio.sleep(0)
                    one.item = self._sealer.item(
                        draft_,
                        parts,
                        subjects,
                        nonce,
                        canonical=one.payload.canonical,
                        principal=one.call.principal.key_id,
                        import_id=one.call.import_id,
                    )
            try:
                return await self.writer.append(
                    [one.item for one in prepared if one.item is not None], erasures=erasures
                )
            except ErasedMeanwhile:
                if attempt == 2:
                    raise
                await self.subjects.forget()
                erasures = self.subjects.erasures
                for one in prepared:  # what is sealed already is so under a key that may be gone
                    if one.draft is None:
                        one.draft = self._drafted(one.payload, one.call.principal, receipt)
                    one.item = None
        raise AssertionError("unreachable")


def _its_own(one: Draft, principal: Principal) -> None:
    """Refuse what speaks `of` an event of a source from which *principal* may not append (SEMANTICS §7)."""
    of = one.data.get("of")
    if (
        isinstance(of, dict)
        and isinstance(of.get("source"), str)
        and not principal.may_append_from(of["source"])
    ):
        raise Invalid(
            [
                Problem(
                    "/data/of/source",
                    f"The key {principal.key_id} may not speak of events of source '{of['source']}'; its sources are: {', '.join(principal.sources) or 'none'}. Use the key of that source, or one of role admin.",
                    "forbidden",
                )
            ]
        )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _conflict(position: int) -> Problem:
    return Problem(
        "/id",
        f"Another payload with this source and id stands at position {position}; it was kept, not recorded. An event is never overwritten: send a correction, or give this one an id of its own.",
        "conflict",
    )


def _kept(
    status: str,
    event: dict[str, Any],
    call: _Call,
    place: int,
    problems: list[Problem],
    position: int | None = None,
) -> Kept:
    item = call.items[place]
    return Kept(
        status=status,
        source=_text(event.get("source")),
        source_id=_text(event.get("id")),
        type=_text(event.get("type")),
        way_in=call.way_in,
        principal=call.principal.key_id,
        place=call.places[place] if call.places is not None else f"item {place + 1}",
        problems=problems,
        position=position,
        payload=item.canonical if isinstance(item, Payload) else bytes(item),
        import_id=call.import_id,
    )
