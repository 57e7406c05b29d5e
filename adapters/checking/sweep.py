"""The sweep: every row of every read model against the whole log, one short piece after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg

from adapters.checking import identities, positions, stories, sums
from adapters.checking.findings import Checked, keep, remembered
from adapters.checking.rows import Found
from adapters.checking.snapshot import Snapshot, snapshot
from adapters.postgres.declared_tables import tables_of
from projections.contact_history import ContactHistory
from projections.identities import Identities
from projections.projection import Counting, Keyed, Projection

__all__ = ["Comparison", "Sweep"]

REMEMBERED = 1_000_000
"""Subjects that are not compared again with the same cluster."""


class Comparison:
    """Compares pieces of read models, keeps what was found and counts it.

    Args:
        rest: called between two pieces, with no snapshot open.
        helping: projections that are read where those need them, and not compared.
    """

    def __init__(
        self,
        conn: psycopg.Connection[Any],
        projections: Iterable[Projection],
        *,
        rest: Callable[[], None] = lambda: None,
        helping: Iterable[Projection] = (),
    ) -> None:
        self.conn = conn
        self.projections = {p.name: p for p in projections}
        self._readable = {**{p.name: p for p in helping}, **self.projections}
        self.rest = rest
        self.differing = 0

    @contextmanager
    def seen(self, *names: str) -> Iterator[Snapshot]:
        """A snapshot of these read models, or of all that are compared, with the history, which others need."""
        wanted = (*(names or self.projections), ContactHistory.name)
        with snapshot(self.conn, [p for n, p in self._readable.items() if n in wanted]) as snap:
            yield snap

    @property
    def stories(self) -> list[str]:
        """The names of the stories."""
        return [n for n, p in self.projections.items() if isinstance(p, Keyed)]

    @property
    def counting(self) -> dict[str, Counting]:
        """The projections that count."""
        return {n: p for n, p in self.projections.items() if isinstance(p, Counting)}

    def keep(self, checked: Sequence[Checked]) -> None:
        """Keep what was found."""
        for each in checked:
            self.differing += keep(self.conn, each)

    def positions(self, bucket: int, *, newest: bool) -> None:
        """Compare what follows from the events of one bucket of positions."""
        if all(isinstance(p, Counting) for p in self.projections.values()):
            return
        with self.seen() as snap:
            checked = list(self.of_positions(snap, bucket, newest=newest))
        self.keep(checked)

    def of_positions(
        self, snap: Snapshot, bucket: int, *, newest: bool, names: Iterable[str] | None = None
    ) -> Iterator[Checked]:
        """The same within a snapshot."""
        steps = snap.steps(bucket * positions.BUCKET + 1, (bucket + 1) * positions.BUCKET)
        for name, live in snap.live.items():
            if name not in self.projections or (names is not None and name not in names):
                continue
            tables = positions.tables_by_position(live.projection)
            if tables:
                found = positions.compare_positions(snap, name, bucket, steps, newest=newest)
                yield Checked(name, tuple(t.name for t in tables), found, [positions.name_of(bucket)])
            if isinstance(live.projection, Keyed):
                missing = stories.missing_members(snap, name, stories.pairs_of(snap, name, steps))
                if missing:
                    yield self.of_keys(snap, name, list(missing), missing)
            if isinstance(live.projection, Identities) and resolvable(snap):
                apart = identities.unlinked(snap, identities.stated(snap.seen_by(name, steps)))
                if apart:
                    yield self.of_subjects(snap, apart)

    def of_keys(
        self, snap: Snapshot, name: str, keys: Sequence[str], more: dict[str, set[int]] | None = None
    ) -> Checked:
        """Compare keys of a story; what was found missing of them before is looked at again."""
        found = stories.compare_keys(snap, name, keys, more=more)
        tables = tuple(t.name for t in tables_of(snap.live[name].projection))
        return Checked(name, tables, found, [stories.name_of(k) for k in keys])

    @staticmethod
    def of_subjects(snap: Snapshot, subjects: Iterable[UUID]) -> Checked:
        """Compare the clusters of subjects."""
        return Comparison.checked_subjects(*identities.compare_subjects(snap, subjects))

    @staticmethod
    def checked_subjects(members: set[UUID], found: list[Found]) -> Checked:
        """What was found of subjects."""
        return Checked(Identities.name, identities.TABLES, found, [identities.name_of(m) for m in members])

    def keys(self, name: str, behind: str | None) -> str | None:
        """Compare the next keys of a story; returns the last of them, None at the end."""
        known = remembered(self.conn, name, "key ")
        with self.seen(name) as snap:
            if name not in snap.live:
                return None
            keys = stories.next_keys(snap, name, behind)
            last = keys[-1] if len(keys) == stories.KEYS_AT_ONCE else None
            again = {
                key: {e["key"]["position"] for e in examples if "position" in e["key"]}
                for key, examples in known.items()
                if (behind is None or key > behind) and (last is None or key <= last)
            }
            checked = self.of_keys(snap, name, sorted({*keys, *again}), again)
        self.keep([checked])
        return last

    def subjects(self, behind: str | None, done: set[UUID]) -> str | None:
        """Compare the clusters of the next subjects; returns the last of them, None at the end.

        Args:
            done: subjects whose cluster was compared with one before them; kept up here.
        """
        name = Identities.name
        known = [UUID(s) for s in remembered(self.conn, name, "subject ")]
        at = UUID(behind) if behind else None
        with self.seen(name) as snap:
            if name not in snap.live or not resolvable(snap):
                return None
            found = identities.next_subjects(snap, at)
            last = found[-1] if len(found) == identities.SUBJECTS_AT_ONCE else None
            again = [s for s in known if (at is None or s > at) and (last is None or s <= last)]
            members, differing = identities.compare_subjects(
                snap, {*again, *(s for s in found if s not in done)}
            )
            checked = self.checked_subjects(members, differing)
        self.keep([checked])
        done |= members
        done -= set(found)
        if len(done) > REMEMBERED:
            done.clear()
        return str(last) if last else None

    def sums(self, carried: sums.Sums, told: frozenset[int] | None = None) -> frozenset[int] | None:
        """Compare sums by key; returns the buckets that differ, None where the read model does not answer.

        The rows of those that were not told before are named by reading the log once more.

        Args:
            told: the buckets whose rows were named before.
        """
        name = carried.projection.name
        with self.seen(name) as snap:
            if name not in snap.live or carried.position > snap.live[name].position:
                return None
            buckets = sums.differing(snap, carried)
            until = snap.live[name].position
        self.rest()
        everything = [sums.name_of(b) for b in range(sums.BUCKETS)]
        if not buckets:
            self.keep([Checked(name, (carried.table.name,), [], everything)])
            return buckets
        if buckets == told:
            return buckets
        # A sum that is wrong is worth one reading of the log, which is not waited for bit by bit.
        named = sums.Sums(type(carried.projection)(), only=buckets)
        while not named.advance(self.conn, until):
            pass
        with self.seen(name) as snap:
            if name not in snap.live:
                return None
            found = sums.differing_rows(snap, named, buckets)
        self.keep([Checked(name, (carried.table.name,), found, everything)])
        return buckets


def resolvable(snap: Snapshot) -> bool:
    """Whether the events of a subject are found: the history, by which they are, is as far as the identities."""
    history, resolved = snap.live.get(ContactHistory.name), snap.live.get(Identities.name)
    return history is not None and resolved is not None and history.position >= resolved.position


class Sweep:
    """One sweep, as far as it has come.

    Args:
        carried: hashes of sums by name, where an earlier process left them.
    """

    def __init__(
        self,
        comparison: Comparison,
        *,
        stage: str = "positions",
        position: int = 0,
        mark: str = "",
        carried: dict[str, sums.Sums] | None = None,
    ) -> None:
        self.comparison = comparison
        self.stage, self.position, self.mark = stage, position, mark
        self.carried = {
            name: (carried or {}).get(name) or sums.Sums(type(p)()) for name, p in comparison.counting.items()
        }
        self.target = position
        self._done: set[UUID] = set()

    @property
    def _stages(self) -> list[str]:
        return ["positions", *self.comparison.stories, Identities.name, "sums"]

    def piece(self) -> bool:
        """Compare one more piece; False when all is compared."""
        if self.stage not in self._stages:
            return False
        comparison = self.comparison
        if self.stage == "positions":
            with comparison.seen() as snap:
                self.target = snap.position
            bucket = self.position // positions.BUCKET
            end = (bucket + 1) * positions.BUCKET
            newest = end >= self.target
            comparison.positions(bucket, newest=newest)
            comparison.rest()
            for each in self.carried.values():
                each.advance(comparison.conn, min(end, self.target))
            self.position = min(end, self.target)
            if newest:
                self._next()
        elif self.stage == "sums":
            for each in self.carried.values():
                while not each.advance(comparison.conn, self._safe(each.projection.name)):
                    comparison.rest()
                comparison.sums(each)
                comparison.rest()
            self._next()
        else:
            behind = self.mark or None
            if self.stage in comparison.stories:
                last = comparison.keys(self.stage, behind)
            elif Identities.name in comparison.projections:
                last = comparison.subjects(behind, self._done)
            else:
                last = None
            if last is None:
                self._next()
            else:
                self.mark = last
        comparison.rest()
        return self.stage in self._stages

    def _safe(self, name: str) -> int:
        with self.comparison.seen(name) as snap:
            return snap.live[name].position if name in snap.live else 0

    def _next(self) -> None:
        stages = [*self._stages, "ended"]
        self.stage, self.mark = stages[stages.index(self.stage) + 1], ""
