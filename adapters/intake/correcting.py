"""What `ingest --correct` does: a conflict becomes a correction, and what was taken back is restored.

An event is never overwritten. Its key sent again with another payload says how it should have been
recorded: what differs from the event as it holds now is recorded as `correction.recorded`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec
import orjson
from psycopg_pool import AsyncConnectionPool

from adapters.answers.history import Histories
from adapters.intake.cloudevents import Draft
from adapters.intake.ingest import Ingest, Result
from adapters.intake.payloads import event_of
from adapters.postgres.subjects import Subjects
from adapters.principal import Principal
from domain.correction import (
    CORRECTION,
    RETRACTION,
    Amendment,
    amended,
    correctable,
    target_of,
    undone_with,
)
from domain.entry import Body, Recorded, decode_body, event_id_of, moment, uuid_text
from domain.errors import Problem

__all__ = ["SOURCE", "Comparison", "Correctable", "Corrections"]

SOURCE = "touchlog/corrections"


class _Held(msgspec.Struct, frozen=True):
    """An event as it holds now."""

    event: Body
    entry: dict[str, Any]
    is_retracted: bool
    amendments: list[Amendment]


class Correctable(NamedTuple):
    """A payload of which a correction can be made."""

    draft: Draft
    result: Result
    held: _Held
    patch: dict[str, Any]
    remarks: list[Problem]  # what was dropped of it, and what a correction cannot say


class Comparison:
    """Compares payloads with the events that stand under their keys, as these hold now; records nothing.

    Amendments are found where projectors noted them, and behind that by reading the log onward: a run needs no
    projector, and sees what it has corrected itself.
    """

    def __init__(self, subjects: Subjects, histories: Histories, pool: AsyncConnectionPool[Any]) -> None:
        self._subjects = subjects
        self._histories = histories
        self._pool = pool
        self._noted: int | None = None  # up to here touchlog.amendments is whole
        self._read = 0
        self._behind: dict[str, list[Amendment]] = {}  # those that stand further back, by event or import

    async def compared(self, answered: Sequence[tuple[Draft, Result]]) -> list[Correctable]:
        """What a correction would make of payloads whose key stands; of all others the result says it.

        A key stands in it once.
        """
        held = await self._held([result.position for _, result in answered if result.position is not None])
        found = []
        for draft, result in answered:
            one = held.get(result.position or 0)
            if one is None or (result.status == "duplicate" and not one.is_retracted):
                continue
            patch, refused = await self._difference(draft, one)
            if refused is not None:
                result.errors = [*result.errors, refused]
            elif not patch and not one.is_retracted:
                result.status, result.errors = "duplicate", []
            else:
                remarks = [*draft.warnings, *await self._left_out(draft, one, patch)]
                found.append(Correctable(draft, result, one, patch, remarks))
        return found

    async def _difference(self, draft: Draft, held: _Held) -> tuple[dict[str, Any], Problem | None]:
        """(patch that makes the event what the payload says, why that cannot be)."""
        event, entry = held.event, held.entry
        if draft.declared.name != event.type:
            return {}, Problem(
                "/type",
                f"The event that stands is of type {event.type}; a correction never changes the type. Give this one an id of its own.",
                "not_correctable",
            )
        if not correctable(event.type):
            cure = (
                "send consent.corrected with `of`"
                if event.type.startswith("consent.")
                else "record what is right under an id of its own"
            )
            return {}, Problem(
                "/type", f"Events of type {event.type} cannot be corrected; {cure}.", "not_correctable"
            )
        if "erased" in entry["data"]:
            return {}, Problem(
                "/id",
                "The person of this event was erased: what it said is not known any more, and is not recorded again.",
                "erased",
            )
        patch: dict[str, Any] = {}
        if draft.occurred_at_given and draft.occurred_at != moment(event.occurred_at):
            patch["time"] = draft.occurred_at
        if draft.channel != event.channel:
            patch["channel"] = draft.channel
        if draft.direction is not None and draft.direction != event.direction:
            patch["direction"] = draft.direction
        if draft.identifiers:
            first = draft.identifiers[0]
            subject = await self._subjects.find((first.kind, first.namespace, first.value))
            if not event.subjects or str(subject) != event.subjects[0][0]:
                patch["subject"] = str(first)
        was, now = entry["data"], draft.data
        data = {k: now.get(k) for k in {**was, **now} if _canonical(was.get(k)) != _canonical(now.get(k))}
        if data:
            patch["data"] = data
        if not patch:
            if held.is_retracted:
                return {"time": moment(event.occurred_at)}, None
            if not _extends_the_same(draft, held):
                return {}, Problem(
                    "",
                    "Only extensions differ, which a correction does not change; give this event an id of its own.",
                    "not_correctable",
                )
            if not await self._names_the_same(draft, held):
                return {}, Problem(
                    "",
                    "Only whom it names beside its first subject differs, which a correction does not change; give this event an id of its own.",
                    "not_correctable",
                )
        return patch, None

    async def _left_out(self, draft: Draft, held: _Held, patch: dict[str, Any]) -> list[Problem]:
        """What a payload says beside *patch* that no correction can say: it is recorded nowhere, so it is told."""
        left = []
        if not _extends_the_same(draft, held):
            left.append("its extensions, which stay as they were recorded")
        if (
            len({*draft.identifiers, *draft.references}) > 1
            if "subject" in patch
            else not await self._names_the_same(draft, held)
        ):
            left.append("whom it names beside its first subject")
        if not left:
            return []
        return [
            Problem(
                "",
                f"The correction leaves out {' and '.join(left)}; record that under an id of its own.",
                "left_out",
            )
        ]

    async def _names_the_same(self, draft: Draft, held: _Held) -> bool:
        """Whether a payload names all whom the event names, and nobody else; of a corrected subject that one counts alone."""
        if any(a.recorded.event.patched_subject is not None for a in held.amendments):
            return True
        named = {(one.kind, one.namespace, one.value) for one in (*draft.identifiers, *draft.references)}
        found = await self._subjects.find_all(named)
        stand = {surrogate for surrogate, _, _ in (*held.event.subjects, *held.event.references)}
        return len(found) == len(named) and {str(surrogate) for surrogate in found.values()} == stand

    # -- how the events hold now ------------------------------------------------------------------

    async def _held(self, positions: list[int]) -> dict[int, _Held]:
        async with self._pool.connection() as conn:
            curs = conn.cursor(binary=True)
            await curs.execute(
                "SELECT position, recorded_at, body FROM touchpoint_log.events WHERE position = ANY(%s)",
                (positions,),
            )
            events = [
                (Recorded(p, at, decode_body(bytes(body))), bytes(body))
                for p, at, body in await curs.fetchall()
            ]
        known = await self._amendments(
            {t for r, _ in events for t in (r.event.event_id, r.event.import_id) if t}
        )
        rows: list[Any] = []
        found: list[tuple[int, Body, bool, list[Amendment]]] = []
        for recorded, body in events:
            stated = known.get(recorded.event.event_id, []) + known.get(recorded.event.import_id or "", [])
            whole = amended(recorded, stated)
            is_retracted = whole is None
            if whole is None:
                whole = amended(recorded, [a for a in stated if not a.retracts])
                assert whole is not None, "only a retraction takes an event away"
            rows.append((recorded.position, recorded.recorded_at, None, None, None, body, whole[1]))
            found.append((recorded.position, whole[0].event, is_retracted, stated))
        entries = await self._histories.entries.of(rows)
        return {
            position: _Held(event, entry, is_retracted, stated)
            for (position, event, is_retracted, stated), entry in zip(found, entries, strict=True)
        }

    async def _amendments(self, targets: set[str]) -> dict[str, list[Amendment]]:
        found: dict[str, list[Amendment]] = {}
        async with self._pool.connection() as conn:
            curs = conn.cursor(binary=True)
            if self._noted is None:
                await curs.execute(
                    "SELECT coalesce(max(position), 0) FROM touchlog.projections WHERE schema = 'read'"
                )
                row = await curs.fetchone()
                self._noted = self._read = row[0] if row else 0
            await curs.execute(
                "SELECT a.target, e.position, e.recorded_at, e.body FROM touchlog.amendments a "
                "JOIN touchpoint_log.events e ON e.position = a.position WHERE a.target = ANY(%s::uuid[]) AND a.position <= %s",
                (list(targets), self._noted),
            )
            for target, position, at, body in await curs.fetchall():
                found.setdefault(str(target), []).append(_amendment(position, at, bytes(body)))
            await curs.execute("SELECT position FROM touchpoint_log.head")
            row = await curs.fetchone()
            head = row[0] if row else 0
            await curs.execute(
                "SELECT position, recorded_at, body FROM touchpoint_log.events WHERE position > %s AND position <= %s AND type = ANY(%s)",
                (self._read, head, [CORRECTION, RETRACTION]),
            )
            for position, at, body in await curs.fetchall():
                one = _amendment(position, at, bytes(body))
                event = one.recorded.event
                of = target_of(event)
                if event.type == RETRACTION:
                    self._behind.setdefault(str(event.data.get("import_id")), []).append(one)
                elif of is not None:
                    self._behind.setdefault(uuid_text(event_id_of(*of)), []).append(one)
            self._read = head
            for target in targets:
                if target in self._behind:
                    found.setdefault(target, []).extend(self._behind[target])
            imports = {a.recorded.event.import_id for stated in found.values() for a in stated} - {None}
            if not imports:
                return found
            await curs.execute(
                "SELECT a.target, min(a.position) FROM touchlog.amendments a JOIN touchpoint_log.events r ON r.position = a.position "
                "WHERE a.target = ANY(%s::uuid[]) AND a.position <= %s AND r.type = %s GROUP BY a.target",
                (list(imports), self._noted, RETRACTION),
            )
            retracted = {str(target): position for target, position in await curs.fetchall()}
        for name in imports:
            for one in self._behind.get(name or "", []):
                if one.retracts:
                    retracted.setdefault(name or "", one.recorded.position)
        return {target: undone_with(stated, retracted) for target, stated in found.items()}


class Corrections(Comparison):
    """Makes corrections of conflicts, for one run.

    Args:
        import_id: the import that they come with, and go with when it is taken back.
    """

    def __init__(
        self,
        ingest: Ingest,
        histories: Histories,
        pool: AsyncConnectionPool[Any],
        *,
        import_id: str | None = None,
    ) -> None:
        super().__init__(ingest.subjects, histories, pool)
        self._ingest = ingest
        self._import_id = import_id

    async def settle(self, answered: Sequence[tuple[Draft, Result]], principal: Principal) -> None:
        """See `adapters.intake.ingest.Corrector`."""
        waiting = [
            (draft, result) for draft, result in answered if result.status in ("conflict", "duplicate")
        ]
        while waiting:  # of several payloads with one key each is compared with what the one before made
            now: dict[tuple[str, str], tuple[Draft, Result]] = {}
            later = []
            for draft, result in waiting:
                if now.setdefault((draft.source, draft.id), (draft, result))[1] is not result:
                    later.append((draft, result))
            await self._settle(list(now.values()), principal)
            waiting = later

    async def _settle(self, answered: Sequence[tuple[Draft, Result]], principal: Principal) -> None:
        made = [
            (one, self._correction(one.draft, one.held, one.patch)) for one in await self.compared(answered)
        ]
        if not made:
            return
        inside = Principal(principal.key_id, principal.role, principal.sources, inside=True)
        answer = await self._ingest.accept(
            [event_of(event) for _, event in made],
            inside,
            way_in="correction",
            keep=False,
            import_id=self._import_id,
        )
        for (one, _), told in zip(made, answer.results, strict=True):
            result = one.result
            if told.status == "rejected":  # what the payload says is nothing that a correction may say
                result.errors = [*result.errors, *told.errors]
                continue
            # A conflict of the correction: the same was corrected from the same state at the same moment.
            result.status = "corrected" if told.status == "recorded" else "duplicate"
            result.position, result.errors = told.position, one.remarks

    def _correction(self, draft: Draft, held: _Held, patch: dict[str, Any]) -> dict[str, Any]:
        """The event; its id follows from what is corrected, from what state, to which payload: a repeat is a duplicate."""
        last = max(held.amendments, key=lambda a: a.order, default=None)
        made_of = (
            draft.source,
            draft.id,
            self._ingest.keys.payload_hash(draft.canonical).hex(),
            last.recorded.event.event_id if last else "",
        )
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": sha256("\x00".join(made_of).encode()).hexdigest()[:32],
            "source": SOURCE,
            "type": CORRECTION,
            "data": {
                "of": {"source": draft.source, "id": draft.id},
                "patch": patch,
                "reason": "restored" if held.is_retracted else "sent again",
            },
        }
        named = draft.identifiers or draft.references
        if named:  # sealed with the person's key, so that it is forgotten with the person
            event["subject"] = str(named[0])
        if last is not None and last.recorded.event.occurred_at >= self._ingest.clock():
            event["time"] = moment(last.recorded.event.occurred_at + timedelta(microseconds=1))
        return event


def _extends_the_same(draft: Draft, held: _Held) -> bool:
    told = {**draft.extensions, **draft.personal_extensions}
    return _canonical(told) == _canonical(held.entry["provenance"]["extensions"])


def _amendment(position: int, at: datetime, body: bytes) -> Amendment:
    return Amendment(Recorded(position, at.astimezone(UTC), decode_body(body)), body)


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
