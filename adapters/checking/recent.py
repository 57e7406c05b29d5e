"""The newest positions: looked at again and again, by hashes that PostgreSQL computes; what has changed is folded anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from psycopg import sql

from adapters.checking import identities, positions, stories, sums
from adapters.checking.findings import forget
from adapters.checking.snapshot import Snapshot, events_between
from adapters.checking.sweep import Comparison, resolvable
from adapters.postgres.amendments import StoredAmendments
from projections.identities import Identities
from projections.projection import Keyed, Step
from projections.steps import Steps

__all__ = ["WINDOW", "Recent"]

log = structlog.get_logger()

WINDOW = 100_000
"""Positions within which a difference is told within a minute."""
AT_ONCE = 1000

_Hash = tuple[Any, ...]


class Recent:
    """Compares what the newest positions touch, and remembers by hash what was found right.

    Args:
        carried: hashes of sums by name, carried along with the log.
        stopping: asked between two pieces whether to stop.
    """

    def __init__(
        self,
        comparison: Comparison,
        carried: dict[str, sums.Sums],
        *,
        window: int = WINDOW,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._comparison = comparison
        self._conn = comparison.conn
        self.carried = carried
        self._window = window
        self._stopping = stopping
        self._builds: dict[str, datetime] = {}
        self._buckets: dict[tuple[str, int], _Hash] = {}
        self._told: dict[str, frozenset[int]] = {}
        self._steps: Steps | None = None
        self._followed = 0
        self._pairs: dict[str, dict[str, set[int]]] = {}
        self._keys: dict[str, dict[str, _Hash]] = {}
        self._touched: dict[UUID, int] = {}
        self._subjects: dict[UUID, _Hash] = {}
        self._stated: list[Any] = []

    def look(self) -> dict[str, tuple[int, datetime]]:
        """Compare once; returns by name (the position up to which it was compared, which build it was)."""
        comparison = self._comparison
        with comparison.seen() as snap:
            found = {name: (live.position, live.build) for name, live in snap.live.items()}
            until = min((live.position for live in snap.live.values()), default=0)
        self._forget_others({name: build for name, (_, build) in found.items()})
        self._follow(until)
        self._look_at_positions()
        for name in comparison.stories:
            if name in found:
                self._look_at_keys(name)
        self._look_at_subjects()
        for name, each in self.carried.items():
            if name not in found or self._stopping():
                continue
            while not each.advance(self._conn, found[name][0]):
                comparison.rest()
                if self._stopping():
                    return found
            differing = comparison.sums(each, self._told.get(name))
            if differing is not None:
                self._told[name] = differing
            comparison.rest()
        return found

    def _forget_others(self, builds: dict[str, datetime]) -> None:
        """A read model that was put in the place of another is looked at afresh."""
        changed = [n for n, build in builds.items() if self._builds.get(n, build) != build]
        if changed:
            forget(self._conn, changed)
            self._buckets = {k: v for k, v in self._buckets.items() if k[0] not in changed}
            for name in changed:
                self._keys.pop(name, None)
                self._told.pop(name, None)
            if Identities.name in changed:
                self._subjects.clear()
            log.info("read_model_checked_afresh", projections=changed)
        self._builds |= builds

    # ---- following the log: what the newest positions touch

    def _follow(self, until: int) -> None:
        start = max(0, until - self._window)
        if self._steps is None or self._followed < start - self._window:
            self._followed, self._steps = start, Steps(StoredAmendments(lambda: self._conn), start)
            self._pairs, self._touched, self._stated = {}, {}, []
        while self._followed < until and not self._stopping():
            last = min(until, self._followed + positions.BUCKET)
            events = events_between(self._conn, self._followed + 1, last)
            steps = self._steps.of(events)[0] if events else []
            self._note(steps)
            self._followed = last
            self._comparison.rest()
        if until > self._window:
            for pairs in self._pairs.values():
                for key in [k for k, ps in pairs.items() if max(ps) <= start]:
                    del pairs[key]
            self._touched = {s: p for s, p in self._touched.items() if p > start}
            self._buckets = {k: v for k, v in self._buckets.items() if (k[1] + 1) * positions.BUCKET > start}

    def _note(self, steps: Iterable[Step]) -> None:
        telling = [
            (name, projection)
            for name, projection in self._comparison.projections.items()
            if isinstance(projection, Keyed)
        ]
        for step in steps:
            for side in (step.before, step.after):
                if side is None:
                    continue
                for name, story in telling:
                    for key in stories.keys_of(story, side):
                        self._pairs.setdefault(name, {}).setdefault(key, set()).add(side.recorded.position)
                        self._keys.get(name, {}).pop(key, None)
            for subject in identities.named_by(step):
                self._touched[subject] = step.position
                if step.before is not None:
                    self._subjects.pop(subject, None)
            if step.before is not None:  # corrected or taken back: what was found right of it is no more
                bucket = (step.before.recorded.position - 1) // positions.BUCKET
                for at in [k for k in self._buckets if k[1] == bucket]:
                    del self._buckets[at]
            elif step.after is not None and len(step.after.recorded.event.subjects) > 1:
                self._stated += identities.stated([step])

    # ---- rows that follow from one event

    def _look_at_positions(self) -> None:
        with self._comparison.seen() as snap:
            first = max(0, snap.position - self._window) // positions.BUCKET
            last = max(0, snap.position - 1) // positions.BUCKET
            stale: dict[int, list[str]] = {}
            for name in list(snap.live):
                for bucket, hashed in self._hashes(snap, name, first, last).items():
                    if self._buckets.get((name, bucket)) != hashed:
                        stale.setdefault(bucket, []).append(name)
        self._comparison.rest()
        for bucket in sorted(stale, reverse=True):
            if self._stopping():
                return
            with self._comparison.seen() as snap:
                last = max(0, snap.position - 1) // positions.BUCKET
                newest = bucket >= last
                checked = list(
                    self._comparison.of_positions(snap, bucket, newest=newest, names=stale[bucket])
                )
                for name in stale[bucket]:
                    if name in snap.live:
                        for at, hashed in self._hashes(snap, name, bucket, bucket, newest=newest).items():
                            self._buckets[name, at] = hashed
            self._comparison.keep(checked)
            self._comparison.rest()

    def _hashes(
        self, snap: Snapshot, name: str, first: int, last: int, *, newest: bool = True
    ) -> dict[int, _Hash]:
        """By bucket: counts and hashes of the log and of the rows that follow from it, and what is parked."""
        live = snap.live[name]
        tables = positions.tables_by_position(live.projection)
        if not tables:
            return {}
        parked = hash(live.parked)
        found: dict[int, list[Any]] = {b: [parked] for b in range(first, last + 1)}
        events = sql.SQL("(SELECT * FROM touchpoint_log.events WHERE position <= {})").format(
            sql.Literal(live.position)
        )
        for source in (events, *(sql.Identifier("read", t.name) for t in tables)):
            rows = snap.conn.execute(
                sql.SQL(
                    "SELECT least((position - 1) / {size}, {last}), count(*), sum(hash_record_extended(t, 0)) "
                    "FROM {source} AS t WHERE position > {low} AND ({newest} OR position <= {high}) GROUP BY 1"
                ).format(
                    size=sql.Literal(positions.BUCKET),
                    last=sql.Literal(last),
                    source=source,
                    low=sql.Literal(first * positions.BUCKET),
                    high=sql.Literal((last + 1) * positions.BUCKET),
                    newest=sql.Literal(newest),
                ),
                prepare=False,
            ).fetchall()
            by_bucket = {int(bucket): (count, total) for bucket, count, total in rows}
            for bucket, parts in found.items():
                parts.append(by_bucket.get(bucket))
        return {bucket: tuple(parts) for bucket, parts in found.items()}

    # ---- stories

    def _look_at_keys(self, name: str) -> None:
        behind: str | None = None
        pairs = self._pairs.get(name, {})
        known = self._keys.setdefault(name, {})
        queue = sorted(pairs)
        while not self._stopping():
            with self._comparison.seen(name) as snap:
                if name not in snap.live:
                    return
                if snap.position <= self._window:  # the whole log is new: so is every key that is stored
                    stored = stories.next_keys(snap, name, behind, limit=AT_ONCE)
                    behind = stored[-1] if len(stored) == AT_ONCE else None
                    keys = sorted({*stored, *queue[:AT_ONCE]})
                    more = behind is not None
                else:
                    keys, more = queue[:AT_ONCE], False
                queue = queue[AT_ONCE:]
                hashed = stories.hashes(snap, name, keys)
                stale = [k for k in keys if known.get(k) != hashed.get(k, ())]
                checked = (
                    [self._comparison.of_keys(snap, name, stale, {k: pairs[k] for k in stale if k in pairs})]
                    if stale
                    else []
                )
            known.update((k, hashed.get(k, ())) for k in stale)
            self._comparison.keep(checked)
            self._comparison.rest()
            if not queue and not more:
                break
        if len(known) > 4 * self._window:
            known.clear()

    # ---- identities

    def _look_at_subjects(self) -> None:
        name = Identities.name
        behind: UUID | None = None
        queue = sorted(self._touched)
        while not self._stopping():
            with self._comparison.seen(name) as snap:
                if not resolvable(snap):
                    return
                apart = identities.unlinked(snap, self._stated[: 10 * AT_ONCE])
                parked = snap.live[name].waiting
                more = False
                if snap.live[name].position <= self._window:
                    stored = identities.next_subjects(snap, behind, limit=AT_ONCE)
                    more = len(stored) == AT_ONCE
                    behind = stored[-1] if more else None
                    subjects = {*stored, *queue[:AT_ONCE]}
                else:
                    subjects = set(queue[:AT_ONCE])
                hashed = identities.hashes(snap, subjects)
                stale = {s for s in subjects if self._subjects.get(s) != hashed.get(s, ())} | apart
                stale = {s for s in stale if str(s) not in parked}
                checked = []
                if stale:
                    members, found = identities.compare_subjects(snap, stale)
                    checked.append(self._comparison.checked_subjects(members, found))
                    hashed = identities.hashes(snap, members | stale)
                    for subject in members | stale:
                        self._subjects[subject] = hashed.get(subject, ())
            self._comparison.keep(checked)
            self._stated = self._stated[10 * AT_ONCE :]
            queue = queue[AT_ONCE:]
            self._comparison.rest()
            if not queue and not more and not self._stated:
                break
        if len(self._subjects) > 6 * self._window:
            self._subjects.clear()
