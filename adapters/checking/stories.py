"""Keys: rows that each follow from the events of their key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg import sql

from adapters.checking.rows import Found, stored_structs
from adapters.checking.snapshot import Snapshot
from projections.projection import Effective, Keyed, Step, Story, StoryEnd, story_order

__all__ = ["compare_keys", "hashes", "keys_of", "missing_members", "name_of", "next_keys", "pairs_of"]

KEYS_AT_ONCE = 1000


def name_of(key: str) -> str:
    """What the bucket of one key is called."""
    return f"key {key}"


def pairs_of(snap: Snapshot, name: str, steps: Sequence[Step]) -> dict[str, set[int]]:
    """Which of the events of *steps* belong to which keys, as the projector of *name* should have it."""
    projection = snap.live[name].projection
    assert isinstance(projection, Keyed)
    found: dict[str, set[int]] = {}
    for step in snap.seen_by(name, steps):
        try:
            before = list(projection.keys(step.before)) if step.before is not None else []
            after = list(projection.keys(step.after)) if step.after is not None else []
        except Exception:  # noqa: BLE001, S112 - parked by the projector
            continue
        for key in before:
            assert step.before is not None
            found.get(key, set()).discard(step.before.recorded.position)
        for key in after:
            assert step.after is not None
            found.setdefault(key, set()).add(step.after.recorded.position)
    return {key: positions for key, positions in found.items() if positions}


def missing_members(snap: Snapshot, name: str, pairs: Mapping[str, set[int]]) -> dict[str, set[int]]:
    """Those of *pairs* that are not stored."""
    projection = snap.live[name].projection
    assert isinstance(projection, Keyed)
    flat = [(key, position) for key, positions in pairs.items() for position in positions]
    rows = snap.conn.execute(
        sql.SQL(
            "SELECT w.key, w.position FROM unnest(%s::text[], %s::bigint[]) AS w (key, position) "
            'WHERE NOT EXISTS (SELECT FROM {} e WHERE e.key = w.key COLLATE "C" AND e.position = w.position AND e.known_to IS NULL)'
        ).format(sql.Identifier("read", projection.events_table.name)),
        ([k for k, _ in flat], [p for _, p in flat]),
    ).fetchall()
    found: dict[str, set[int]] = {}
    for key, position in rows:
        found.setdefault(key, set()).add(position)
    return found


def next_keys(snap: Snapshot, name: str, behind: str | None, *, limit: int = KEYS_AT_ONCE) -> list[str]:
    """The next keys that are stored in any of a story's tables."""
    projection = snap.live[name].projection
    assert isinstance(projection, Keyed)
    (table,) = projection.tables
    sources = ((table.name, table.key[0]), *((beside.name, "key") for beside in projection.beside))
    parts = [
        sql.SQL("(SELECT DISTINCT {0} AS key FROM {1} WHERE {2} OR {0} > {3} ORDER BY 1 LIMIT {4})").format(
            sql.Identifier(column),
            sql.Identifier("read", table_name),
            sql.Literal(behind is None),
            sql.Literal(behind or ""),
            sql.Literal(limit),
        )
        for table_name, column in sources
    ]
    question = sql.SQL("SELECT key FROM ({}) k ORDER BY 1 LIMIT {}").format(
        sql.SQL(" UNION ").join(parts), sql.Literal(limit)
    )
    return [key for (key,) in snap.conn.execute(question, prepare=False)]


def compare_keys(
    snap: Snapshot, name: str, keys: Sequence[str], *, more: Mapping[str, Iterable[int]] | None = None
) -> list[Found]:
    """The rows of *keys* that are not what their events tell.

    Args:
        more: events that belong to a key whether that is stored or not.
    """
    live = snap.live[name]
    story = live.projection
    assert isinstance(story, Keyed)
    (table,) = story.tables
    stored_pairs: dict[str, set[int]] = {key: set() for key in keys}
    for pair in stored_structs(snap.conn, story.events_table, "key", keys):
        stored_pairs[pair.key].add(pair.position)
    candidates = {p for ps in (*stored_pairs.values(), *(more or {}).values()) for p in ps}
    holding = {e.recorded.position: e for e in snap.amendments.effective(candidates, live.position)}
    waiting = _parked_keys(snap, name)
    by_key: dict[str, list[Effective]] = {key: [] for key in keys}
    for position in candidates:
        effective = holding.get(position)
        if effective is not None:
            for key in keys_of(story, effective):
                if key in by_key:
                    by_key[key].append(effective)
    rows = {getattr(r, table.key[0]): r for r in stored_structs(snap.conn, table, table.key[0], keys)}
    ends = (
        {e.key: e for e in stored_structs(snap.conn, story.ends_table, "key", keys)}
        if isinstance(story, Story)
        else {}
    )
    found: list[Found] = []
    for key in keys:
        if key in waiting:
            continue
        events = sorted(by_key[key], key=story_order)
        try:
            row = story.whole(key, events)
        except Exception:  # noqa: BLE001, S112 - the projector parks what its story cannot tell
            continue
        found += _compared(table.name, key, {table.key[0]: key}, row, rows.get(key))
        if isinstance(story, Story):
            end = StoryEnd(key, *story_order(events[-1])) if events else None
            found += _compared(story.ends_table.name, key, {"key": key}, end, ends.get(key))
        expected = {e.recorded.position for e in events}
        for kind, differing in (
            ("missing", expected - stored_pairs[key]),
            ("extra", stored_pairs[key] - expected),
        ):
            found += [
                Found(story.events_table.name, name_of(key), kind, {"key": key, "position": position})
                for position in sorted(differing)
            ]
    return found


def hashes(snap: Snapshot, name: str, keys: Sequence[str]) -> dict[str, tuple[Any, ...]]:
    """Count and hash of what is stored of each key, over all tables of a story."""
    story = snap.live[name].projection
    assert isinstance(story, Keyed)
    (table,) = story.tables
    sources = ((table.name, table.key[0]), *((beside.name, "key") for beside in story.beside))
    parts = [
        sql.SQL(
            "SELECT {0} AS key, {3} AS part, hash_record_extended(t, 0) AS h FROM {1} t WHERE {0} = ANY({2})"
        ).format(
            sql.Identifier(column), sql.Identifier("read", source), sql.Placeholder("keys"), sql.Literal(part)
        )
        for part, (source, column) in enumerate(sources)
    ]
    found: dict[str, tuple[Any, ...]] = {}
    for key, *hashed in snap.conn.execute(
        sql.SQL("SELECT key, part, count(*), sum(h) FROM ({}) k GROUP BY 1, 2 ORDER BY 1, 2").format(
            sql.SQL(" UNION ALL ").join(parts)
        ),
        {"keys": list(keys)},
    ):
        found[key] = (*found.get(key, ()), *hashed)
    return found


def keys_of(story: Keyed, event: Effective) -> Iterable[str]:
    """The keys of an event; none where the projection fails on it."""
    try:
        return list(story.keys(event))
    except Exception:  # noqa: BLE001 - parked by the projector
        return ()


def _parked_keys(snap: Snapshot, name: str) -> set[str]:
    """Keys that wait for a parked event: they are told as parked, not as different."""
    live = snap.live[name]
    story = live.projection
    assert isinstance(story, Keyed)
    if not live.parked:
        return set()
    found: set[str] = set()
    for step in snap.parked_steps(name):
        for side in (step.before, step.after):
            if side is not None:
                found.update(keys_of(story, side))
    return found


def _compared(
    table: str, key: str, named: dict[str, Any], wanted: Any | None, stored: Any | None
) -> list[Found]:
    if wanted == stored:
        return []
    if stored is None:
        return [Found(table, name_of(key), "missing", named)]
    if wanted is None:
        return [Found(table, name_of(key), "extra", named)]
    columns = tuple(c for c in wanted.__struct_fields__ if getattr(wanted, c) != getattr(stored, c))
    return [Found(table, name_of(key), "changed", named, columns)]
