"""From events in log order to steps: what each position changes, corrections and retractions included."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from domain.correction import CORRECTION, RETRACTION, Amendment, amended, target_of, undone_with
from domain.entry import Recorded, event_id_of, uuid_text
from projections.projection import Effective, Step

__all__ = ["TIMELESS", "Amendments", "Steps"]

TIMELESS = frozenset({"identity.split"})
"""Types that count from when they are known, whatever had happened by then; who folds them says so."""


class Amendments(Protocol):
    """What the projector asks about corrections and retractions behind and before it."""

    def of(self, targets: Iterable[str], until: int) -> dict[str, list[Amendment]]:
        """The amendments of each target known at position *until*."""

    def waiting(self, until: int) -> set[str]:
        """Targets of corrections whose event is not in the log up to *until*."""

    def retracted(self, until: int) -> set[str]:
        """Imports taken back at or before *until*."""

    def events(self, targets: Iterable[str], until: int) -> dict[str, tuple[Recorded, bytes]]:
        """The events with these ids at or below *until*."""

    def of_import(self, import_id: str, until: int) -> list[tuple[Recorded, bytes]]:
        """The events of one import at or below *until*."""


class Steps:
    """Makes steps of batches of events.

    Args:
        after: the position behind which the batches begin.
        as_of: events that happened later are left out, as corrected.
    """

    def __init__(self, amendments: Amendments, after: int, *, as_of: datetime | None = None) -> None:
        self._amendments = amendments
        self._waiting = amendments.waiting(after)
        self._retracted = amendments.retracted(after)
        self._as_of = as_of

    def of(self, events: Sequence[tuple[Recorded, bytes]]) -> tuple[list[Step], list[tuple[str, int]]]:
        """(steps in log order, (target, position) of the amendments among *events*, and of what came behind its own)."""
        found: list[tuple[str, int]] = []
        special = False
        for recorded, _ in events:
            event = recorded.event
            if event.type == CORRECTION:
                target = target_of(event)
                if target is not None:
                    found.append((uuid_text(event_id_of(*target)), recorded.position))
                special = True
            elif (
                event.type == RETRACTION
                or event.event_id in self._waiting
                or (event.import_id is not None and event.import_id in self._retracted)
            ):
                special = True
        if not special:
            return [
                Step(r.position, None, Effective(r, body)) for r, body in events if self._happened(r)
            ], found
        return list(self._amended(events, found)), found

    def _happened(self, recorded: Recorded) -> bool:
        event = recorded.event
        return self._as_of is None or event.occurred_at <= self._as_of or event.type in TIMELESS

    def _amended(
        self, events: Sequence[tuple[Recorded, bytes]], found: list[tuple[str, int]]
    ) -> Iterable[Step]:
        start = events[0][0].position - 1
        corrected = {target for target, _ in found}
        imports = {str(r.event.data.get("import_id")) for r, _ in events if r.event.type == RETRACTION}
        mine = {r.event.event_id: (r, body) for r, body in events}
        known = self._amendments.of(
            corrected
            | (mine.keys() & self._waiting)
            | imports
            | {
                r.event.import_id
                for r, _ in events
                if r.event.import_id in self._retracted and r.event.import_id
            },
            start,
        )
        targets = self._amendments.events(corrected - mine.keys(), start)
        passed: dict[str, tuple[Recorded, bytes]] = {}

        def held(recorded: Recorded, body: bytes) -> Effective | None:
            event = recorded.event
            stated = known.get(event.event_id, []) + (
                known.get(event.import_id, []) if event.import_id else []
            )
            whole = amended(recorded, stated) if stated else (recorded, ())
            if whole is None or not self._happened(whole[0]):
                return None
            return Effective(whole[0], body, whole[1])

        for recorded, body in events:
            event = recorded.event
            passed[event.event_id] = (recorded, body)
            if event.event_id in self._waiting:
                self._waiting.discard(event.event_id)
                found.append((event.event_id, recorded.position))
            after = held(recorded, body)
            if after is not None:
                yield Step(recorded.position, None, after)
            if event.type == CORRECTION:
                of = target_of(event)
                if of is None:
                    continue
                target = uuid_text(event_id_of(*of))
                there = passed.get(target) or targets.get(target)
                before = held(*there) if there is not None else None
                undone = recorded.position if event.import_id in self._retracted else None
                known.setdefault(target, []).append(Amendment(recorded, body, undone))
                if there is None:
                    self._waiting.add(target)
                    continue
                if there[0].event.import_id is not None and there[0].event.import_id not in known:
                    known |= self._amendments.of([there[0].event.import_id], start)
                    known[target].pop()
                    before = held(*there)
                    known[target].append(Amendment(recorded, body, undone))
                after = held(*there)
                if before != after:
                    yield Step(recorded.position, before, after)
            elif event.type == RETRACTION:
                import_id = str(event.data.get("import_id"))
                found.append((import_id, recorded.position))
                self._retracted.add(import_id)
                members = self._amendments.of_import(import_id, start)
                members += [one for one in passed.values() if one[0].event.import_id == import_id]
                members += self._corrected_by(members, passed, start)
                named = [m[0].event.event_id for m in members] + [m[0].event.import_id or "" for m in members]
                for target, stated in self._amendments.of(
                    [name for name in named if name and name not in known], start
                ).items():
                    known.setdefault(target, stated)
                befores = [held(*member) for member in members]
                known.setdefault(import_id, []).append(Amendment(recorded, body))
                for target, stated in known.items():  # the corrections that came with it go with it
                    if any(a.recorded.event.import_id == import_id and a.undone is None for a in stated):
                        known[target] = undone_with(stated, {import_id: recorded.position} | _undone(stated))
                for member, before in zip(members, befores, strict=True):
                    after = held(*member)
                    if before != after:
                        yield Step(recorded.position, before, after)

    def _corrected_by(
        self,
        members: Sequence[tuple[Recorded, bytes]],
        passed: Mapping[str, tuple[Recorded, bytes]],
        start: int,
    ) -> list[tuple[Recorded, bytes]]:
        """The events, none of *members*, of which corrections among *members* speak."""
        of = [target_of(r.event) for r, _ in members if r.event.type == CORRECTION]
        targets = {uuid_text(event_id_of(*target)) for target in of if target is not None}
        targets -= {r.event.event_id for r, _ in members}
        if not targets:
            return []
        found = {t: passed[t] for t in targets if t in passed}
        return [*(found | self._amendments.events(targets - found.keys(), start)).values()]


def _undone(stated: Iterable[Amendment]) -> dict[str, int]:
    """The imports that are known to have been taken back, of those that these came with."""
    return {
        a.recorded.event.import_id: a.undone
        for a in stated
        if a.undone is not None and a.recorded.event.import_id is not None
    }
