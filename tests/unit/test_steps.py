"""Steps lead from position to position of what holds, in whatever batches: corrections and retractions included."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from random import Random

import msgspec
import orjson

import domain.touchpoints  # noqa: F401 - registers every declared type
from domain.correction import CORRECTION, RETRACTION, Amendment, amended, target_of, undone_with
from domain.entry import Body, Recorded, event_id_of, uuid_text
from projections.projection import Effective
from projections.steps import TIMELESS, Steps
from tests.unit.test_entry import AT

Pair = tuple[Recorded, bytes]
IMPORTS = ("aaaaaaaa-0000-4000-8000-000000000001", "bbbbbbbb-0000-4000-8000-000000000002")


def any_log(chance: Random, length: int = 20) -> list[Pair]:
    """Calls, splits, corrections (some ahead of their event, some of nothing) and retractions, most of an import."""
    log: list[Pair] = []
    for position in range(1, length + 1):
        kinds = (
            "call.ended",
            "call.ended",
            "call.ended",
            CORRECTION,
            CORRECTION,
            CORRECTION,
            RETRACTION,
            "identity.split",
        )
        type_ = chance.choice(kinds)
        data: dict[str, object] = {"duration_s": position}
        if type_ == CORRECTION:
            patch = {
                "data": {"agent": f"of {position}"},
                "time": (AT + timedelta(hours=chance.randrange(9))).isoformat(),
            }
            of = {"source": "shop", "id": str(chance.randrange(1, chance.choice((8, length + 4))))}
            data = {
                "of": of,
                "patch": {name: patch[name] for name in chance.sample(sorted(patch), chance.randrange(1, 3))},
            }
            if chance.random() < 0.1:
                data = {"patch": patch}
        elif type_ == RETRACTION:
            data = {"import_id": chance.choice(IMPORTS)}
        event = Body(
            event_id=uuid_text(event_id_of("shop", str(position))), source="shop", id=str(position), type=type_, version=1,
            occurred_at=AT + timedelta(hours=chance.randrange(9)), channel="phone", data_json=msgspec.Raw(orjson.dumps(data)),
            import_id=None if type_ == RETRACTION else chance.choice((None, *IMPORTS, *IMPORTS)),
        )  # fmt: skip
        log.append((Recorded(position, AT, event), str(position).encode()))
    return log


def _happened(event: Body, as_of: datetime | None) -> bool:
    return as_of is None or event.occurred_at <= as_of or event.type in TIMELESS


def holding(log: list[Pair], position: int, as_of: datetime | None) -> dict[int, Effective]:
    """What holds of the events up to a position, each with all that was said of it by then: the rule itself."""
    known = log[:position]
    retracted: dict[str, int] = {}
    for recorded, _ in known:
        if recorded.event.type == RETRACTION:
            retracted.setdefault(str(recorded.event.data["import_id"]), recorded.position)
    found = {}
    for recorded, body in known:
        key = (recorded.event.source, recorded.event.id)
        stated = [
            Amendment(r, b)
            for r, b in known
            if (r.event.type == CORRECTION and target_of(r.event) == key)
            or (r.event.type == RETRACTION and r.event.data["import_id"] == recorded.event.import_id)
        ]
        held = amended(recorded, undone_with(stated, retracted))
        if held is not None and _happened(held[0].event, as_of):
            found[recorded.position] = Effective(held[0], body, held[1])
    return found


class Noted:
    """Finds amendments by what steps told of the batches before, as the database does."""

    def __init__(self, log: list[Pair]) -> None:
        self.log = log
        self.notes: set[tuple[str, int]] = set()

    def _said(self, until: int) -> Iterable[tuple[str, Recorded, bytes]]:
        for target, position in sorted(self.notes, key=lambda note: note[1]):
            recorded, body = self.log[position - 1]
            if position <= until and recorded.event.event_id != target:
                yield target, recorded, body

    def of(self, targets: Iterable[str], until: int) -> dict[str, list[Amendment]]:
        wanted, found = set(targets), dict[str, list[Amendment]]()
        first: dict[str, int] = {}
        for target, recorded, body in self._said(until):
            if recorded.event.type == RETRACTION:
                first.setdefault(target, recorded.position)
            if target in wanted:
                found.setdefault(target, []).append(Amendment(recorded, body))
        return {target: undone_with(stated, first) for target, stated in found.items()}

    def waiting(self, until: int) -> set[str]:
        there = {r.event.event_id for r, _ in self.log[:until]}
        return {t for t, r, _ in self._said(until) if r.event.type == CORRECTION} - there

    def retracted(self, until: int) -> set[str]:
        return {t for t, r, _ in self._said(until) if r.event.type == RETRACTION}

    def events(self, targets: Iterable[str], until: int) -> dict[str, Pair]:
        wanted = set(targets)
        return {r.event.event_id: (r, b) for r, b in self.log[:until] if r.event.event_id in wanted}

    def of_import(self, import_id: str, until: int) -> list[Pair]:
        return [(r, b) for r, b in self.log[:until] if r.event.import_id == import_id]


def test_steps_lead_from_position_to_position_of_what_holds_in_any_batches() -> None:
    for seed in range(120):
        chance = Random(seed)
        as_of = chance.choice((None, AT + timedelta(hours=5)))
        begins_anew = chance.random() < 0.5  # as by a projector that is started again behind each batch
        log = any_log(chance)
        amendments = Noted(log)
        steps = Steps(amendments, 0, as_of=as_of)
        held: dict[int, Effective] = {}
        done = 0
        while done < len(log):
            batch = log[done : done + chance.choice((1, 2, 3, 8))]
            made, notes = steps.of(batch)
            for recorded, _ in batch:
                for step in made:
                    if step.position != recorded.position:
                        continue
                    place = step.concerns.position
                    assert held.get(place) == step.before, (seed, step)
                    held.pop(place, None)
                    if step.after is not None:
                        held[place] = step.after
                assert held == holding(log, recorded.position, as_of), (seed, recorded.position)
            ahead = {of for r, _ in log[: done + len(batch)] if (of := target_of(r.event)) and r.event.type == CORRECTION
                     and any(n.event.id == of[1] and n.position >= r.position for n, _ in batch)}  # fmt: skip
            arrived = {
                log[position - 1][0].event.id
                for target, position in notes
                if log[position - 1][0].event.event_id == target
            }
            assert arrived == {id_ for _, id_ in ahead}, seed
            assert [step.position for step in made] == sorted(step.position for step in made)
            amendments.notes |= set(notes)
            done += len(batch)
            if begins_anew:
                steps = Steps(amendments, done, as_of=as_of)
