"""The fold of identities: whatever arrives, in whatever batches, the persons are those of the plain reference."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from uuid import UUID

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.entry import Body, Recorded
from projections import identities
from projections.identities import Identities
from projections.linking import CLUSTERS, IDENTITIES, LINKS, MERGES, SPLITS, resolved
from projections.projection import Changes, Effective, Step, Table
from tests.identity_reference import Joined, Named, Parted, Reference

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
SUBJECTS = [
    *(("user", n) for n in range(4)),
    *(("crm", n) for n in range(2)),
    *(("email", n) for n in range(3)),
    *(("anonymous", n) for n in range(3)),
]
RANK = {"user": 0, "crm": 1, "email": 2, "anonymous": 3}
KINDS: dict[str, str] = {}
for at, (kind, _) in enumerate(SUBJECTS):
    KINDS[str(UUID(int=(at * 7919 + 13) % 97 + 1))] = kind
NAMES = list(KINDS)
TABLES: tuple[Table[Any], ...] = (IDENTITIES, LINKS, MERGES, SPLITS, CLUSTERS)


class Memory:
    """The tables of one projection in memory, and the events that it has seen."""

    def __init__(self, *, large: int) -> None:
        self.tables: dict[str, dict[Any, Any]] = {t.name: {} for t in TABLES}
        self.fold = Identities()
        self.large = large
        self.seen: dict[int, Effective] = {}
        self.loaded = 0
        self._changes = Changes()

    def where(self, table: Any, column: str | tuple[str, ...], values: Iterable[Hashable]) -> list[Any]:
        wanted = set(values)
        columns = (column,) if isinstance(column, str) else column
        rows = [
            row
            for row in self.tables[table.name].values()
            if (tuple(getattr(row, c) for c in columns) if len(columns) > 1 else getattr(row, columns[0]))
            in wanted
        ]
        for row in rows:
            self._changes.brought_in(table, row)
        self.loaded += len(rows)
        return rows

    def effective(self, positions: Iterable[int]) -> list[Effective]:
        return [self.seen[p] for p in positions if p in self.seen]

    def of_subjects(self, subjects: Iterable[Hashable]) -> list[Effective]:
        wanted = {str(s) for s in subjects}
        return [e for e in self.seen.values() if e.recorded.subject in wanted]

    def batch(self, steps: Sequence[Step]) -> None:
        """Fold *steps* as the projector does."""
        self._changes = changes = Changes()
        with patch.object(identities, "LARGE", self.large):
            self.fold.prepare(steps, self)
            for step in steps:
                self.fold.fold(step, changes)
            self.fold.finish(changes)
        for table in TABLES:
            rows, gone = changes.written(table)
            for key in gone:
                del self.tables[table.name][key]
            for row in rows:
                self.tables[table.name][table.key_of(row)] = row
        for step in steps:
            side = step.after or step.before
            assert side is not None
            if step.after is None:
                self.seen.pop(side.recorded.position, None)
            else:
                self.seen[side.recorded.position] = step.after

    def rows(self, table: Any) -> list[Any]:
        return sorted(self.tables[table.name].values(), key=str)

    def all_rows(self) -> dict[str, list[Any]]:
        return {t.name: self.rows(t) for t in TABLES}

    def now(self) -> set[frozenset[str]]:
        """Persons as stored; a subject without a row is one by itself."""
        groups: dict[str, set[str]] = {}
        for name in NAMES:
            row = self.tables["identities"].get((UUID(name),))
            groups.setdefault(str(row.person) if row else name, set()).add(name)
        for person, members in groups.items():
            assert person == min(members), "a person is called by its smallest subject"
        return {frozenset(g) for g in groups.values()}

    def at(self, known_at: int, as_of: datetime | None) -> set[frozenset[str]]:
        found = resolved(
            {UUID(n): (k, "") for n, k in KINDS.items()},
            self.rows(LINKS),
            self.rows(MERGES),
            self.rows(SPLITS),
            as_of=as_of,
            known_at=known_at,
        )
        return {frozenset(map(str, members)) for members in found.members}


def body(
    number: int, type_: str, subjects: Sequence[str], time: datetime, data: dict[str, Any] | None = None
) -> Body:
    ordered = sorted(subjects, key=lambda s: RANK[KINDS[s]])
    return Body(
        event_id=str(UUID(int=10_000 + number)),
        source="s" + str(number % 3),
        id=str(number),
        type=type_,
        version=1,
        occurred_at=time,
        channel="web",
        subjects=tuple((s, KINDS[s], "") for s in ordered),
        data_json=msgspec.Raw(msgspec.json.encode(data or {})),
    )


class Told:
    """A log as it grows: the steps of each position, and the reference beside it."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.position = 0
        self.reference = Reference(kinds=KINDS)
        self._effective: dict[int, Effective] = {}

    def _add(self, recorded: Body) -> Recorded:
        self.position += 1
        found = Recorded(self.position, NEW_YEAR, recorded)
        self._effective[self.position] = Effective(found, b"")
        self.steps.append(Step(self.position, None, self._effective[self.position]))
        return found

    def names(self, subjects: Sequence[str], time: datetime, type_: str = "web.signed_in") -> None:
        event = self._add(body(self.position, type_, subjects, time)).event
        self.reference.events.append(
            Named(self.position, [s[0] for s in event.subjects], time, event.source, event.id)
        )

    def merges(self, a: str, b: str, time: datetime) -> None:
        data = {"b_subject": b, "b_kind": KINDS[b], "b_namespace": ""}
        event = self._add(body(self.position, "identity.merged", [a], time, data)).event
        self.reference.merges.append(Joined(self.position, a, b, time, event.source, event.id))

    def undoes(self, merge: Joined, time: datetime) -> None:
        data = {"merge": self._effective[merge.position].recorded.event.event_id}
        self._add(body(self.position, "identity.split", [merge.a], time, data))
        merge.undone_at = merge.undone_at or self.position

    def parts(self, person: str, subject: str, others: Iterable[str], time: datetime) -> None:
        data = {"subject": subject, "person_subjects": sorted(others), "subject_subjects": [subject]}
        self._add(body(self.position, "identity.split", [person], time, data))
        self.reference.splits.append(Parted(self.position, subject, frozenset(others)))

    def _changed(self, event: Named, after: Effective | None) -> None:
        before = self._effective[event.position]
        self.position += 1
        self.steps.append(Step(self.position, before, after))
        if after is None:
            del self._effective[event.position]
        else:
            self._effective[event.position] = after

    def corrects(self, event: Named, time: datetime) -> None:
        before = self._effective[event.position].recorded
        changed = msgspec.structs.replace(before.event, occurred_at=time)
        self._changed(event, Effective(msgspec.structs.replace(before, event=changed), b""))
        event.times.append((self.position, time))

    def retracts(self, event: Named) -> None:
        self._changed(event, None)
        event.gone_at = self.position


moments = st.integers(0, 12).map(lambda n: NEW_YEAR + timedelta(days=n))


def told_by(data: st.DataObject, *, most: int = 25) -> Told:
    """Any history: events that name several, merges, splits, corrections and retractions, at any time."""
    told = Told()
    reference = told.reference
    acts = "name name name name merge undo part correct retract".split()
    for _ in range(data.draw(st.integers(1, most))):
        act, time = data.draw(st.sampled_from(acts)), data.draw(moments)
        standing = [e for e in reference.events if e.gone_at is None]
        if act == "merge":
            a, b = data.draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=2, unique=True))
            told.merges(a, b, time)
        elif act == "undo" and reference.merges:
            told.undoes(data.draw(st.sampled_from(reference.merges)), time)
        elif act == "part":
            person = data.draw(st.sampled_from(sorted(reference.persons(), key=sorted)))
            if len(person) > 1:
                subject, other = data.draw(st.permutations(sorted(person)))[:2]
                stayed = (
                    data.draw(st.sets(st.sampled_from(sorted(person - {subject, other}))))
                    if len(person) > 2
                    else set()
                )
                told.parts(other, subject, {other, *stayed}, time)
        elif act == "correct" and standing:
            told.corrects(data.draw(st.sampled_from(standing)), time)
        elif act == "retract" and standing:
            told.retracts(data.draw(st.sampled_from(standing)))
        else:
            names = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
            told.names(names, time, data.draw(st.sampled_from(["web.signed_in", "identity.linked"])))
    return told


def in_batches(steps: Sequence[Step], sizes: Sequence[int], *, large: int) -> Memory:
    """Fold the same steps in batches of these sizes, over and over."""
    memory, at, turn = Memory(large=large), 0, 0
    while at < len(steps):
        size = sizes[turn % len(sizes)]
        memory.batch(steps[at : at + size])
        at, turn = at + size, turn + 1
    return memory


@settings(max_examples=150)
@given(data=st.data())
def test_whatever_is_told_persons_are_those_of_the_reference_at_every_moment(data: st.DataObject) -> None:
    told = told_by(data)
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    memory = in_batches(told.steps, sizes, large=data.draw(st.sampled_from([1, 3, 64])))

    assert memory.now() == told.reference.persons()
    for _ in range(6):
        known_at = data.draw(st.integers(0, told.position))
        as_of = data.draw(st.none() | moments)
        assert memory.at(known_at, as_of) == told.reference.persons(known_at, as_of)


@settings(max_examples=150)
@given(data=st.data())
def test_batches_of_any_size_leave_the_same_rows(data: st.DataObject) -> None:
    told = told_by(data)
    large = data.draw(st.sampled_from([1, 3, 64]))
    sizes = data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    assert (
        in_batches(told.steps, sizes, large=large).all_rows()
        == in_batches(told.steps, [len(told.steps)], large=large).all_rows()
    )


@settings(max_examples=100)
@given(data=st.data())
def test_split_after_merge_leaves_the_rows_of_never_merged(data: st.DataObject) -> None:
    told = told_by(data, most=15)
    a, b = data.draw(st.lists(st.sampled_from(NAMES), min_size=2, max_size=2, unique=True))
    large = data.draw(st.sampled_from([1, 3, 64]))
    never = in_batches(told.steps, [3], large=large).all_rows()

    told.merges(a, b, data.draw(moments))
    told.undoes(told.reference.merges[-1], data.draw(moments))
    memory = in_batches(
        told.steps, data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)), large=large
    )

    found = memory.all_rows()
    found["merges"] = [m for m in found["merges"] if m.known_to != told.position]
    assert found == never


def test_a_link_to_a_large_cluster_reads_two_persons_and_no_more() -> None:
    """A bot names one address with 3,000 anonymous ids; each new one costs what the first hundred hold."""
    address = str(UUID(int=2**120))
    steps = []
    for number in range(3_000):
        named = Body(
            event_id=str(UUID(int=2**100 + number)),
            source="bot",
            id=str(number),
            type="web.page_viewed",
            version=1,
            occurred_at=NEW_YEAR + timedelta(seconds=number - (number % 7 > 3) * 5),  # not quite in order
            channel="web",
            subjects=((address, "email", ""), (str(UUID(int=2**121 + number)), "anonymous", "")),
        )
        steps.append(Step(number + 1, None, Effective(Recorded(number + 1, NEW_YEAR, named), b"")))
    memory = Memory(large=64)
    memory.batch(steps[:2_900])
    costs = []
    for step in steps[2_900:]:
        memory.loaded = 0
        memory.batch([step])
        costs.append(memory.loaded)
    assert max(costs) < 400
    assert len({row.person for row in memory.rows(IDENTITIES)}) == 2_901
    (noted,) = memory.rows(CLUSTERS)
    assert noted.refused == 2_900
    assert memory.all_rows() == in_batches(steps, [3_000], large=64).all_rows()
