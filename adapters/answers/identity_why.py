"""Why somebody is one person: identifiers, links with their evidence, merges, splits, and what was refused.

Every link says whether a source stated it or a command, and from which events it follows; the history of the
identity tells the same in the order in which it came to be known.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.answers.history import Histories
from adapters.answers.unsealing import unseal
from adapters.postgres.subjects import Subject, Subjects
from domain.entry import Body, decode_body, moment
from domain.errors import Invalid, Problem
from domain.identity import KINDS, OWN_KIND, Identifier
from domain.resolution import Link, RefusedLink
from projections.linking import Evidence, order_of_link

__all__ = ["Kinds", "Refusals", "Why", "Whys", "kinds_table"]

MOST_REFUSED = 1_000
"""Refused links that `why` tells of one person; it says how many there are."""


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why somebody is one person, at one moment."""

    person: str
    identifiers: list[dict[str, Any]]
    links: list[dict[str, Any]]  # in force, in the order in which they are followed
    merges: list[dict[str, Any]]  # that concern the person, those undone, too
    splits: list[dict[str, Any]]
    refused: list[dict[str, Any]]
    refused_total: int
    history: list[dict[str, Any]]  # what became known of the identity, in that order
    as_of: str | None
    known_at: int
    head: int


class Refusals(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the links that are refused as resolved now."""

    refused: list[dict[str, Any]]
    total: int  # of all pages
    next: str | None
    head: int


class Kinds(msgspec.Struct, frozen=True):
    """What is declared about every kind of identifier."""

    kinds: list[dict[str, Any]]


def kinds_table() -> Kinds:
    """The one table of settings by kind, in the order of priority."""
    rows = [
        {
            "kind": name,
            "priority": kind.priority,
            "limit": None if kind.reference else kind.limit,
            "namespace": kind.namespace,
            "reference": kind.reference,
        }
        for name, kind in [*((n, k) for n, k in KINDS.items() if n != "subject"), ("(your own)", OWN_KIND)]
    ]
    return Kinds(sorted(rows, key=lambda row: (row["priority"], row["kind"])))


class Whys:
    """Answers why."""

    def __init__(self, pool: AsyncConnectionPool[Any], histories: Histories, subjects: Subjects) -> None:
        self._pool = pool
        self._histories = histories
        self._subjects = subjects

    async def why(
        self,
        ref: str,
        *,
        as_of: datetime | None = None,
        known_at: datetime | int | None = None,
        after: int = 0,
    ) -> Why:
        """Why the person of *ref* is one person, at one moment.

        Args:
            after: wait until the read models have seen this position.

        Raises:
            Invalid, NotFound, FutureTime, Behind.
        """
        if after:
            await self._histories.moments.wait_until(after)
        known_at = known_at if known_at is not None else await self._histories.moments.seen()
        person = await self._histories.identities.person(ref, as_of=as_of, known_at=known_at)
        members = {UUID(s["subject"]) for s in person.subjects}
        reach = await self._histories.identities.resolutions.reach(members, person.known_at)
        found = await reach.persons(as_of)
        by_pair: dict[frozenset[UUID], list[Evidence]] = {}
        for row in reach.evidence:
            if row.a in members and row.b in members and (as_of is None or row.occurred_at <= as_of):
                by_pair.setdefault(frozenset((row.a, row.b)), []).append(row)
        refused = [r for r in found.refused if {r.evidence.a, r.evidence.b} & members]
        merges = [
            m for m in reach.merges if {m.a, m.b} & members and (as_of is None or m.occurred_at <= as_of)
        ]
        splits = [s for s in reach.splits if {s.subject, *s.person_side} & members]
        shown = refused[:MOST_REFUSED]
        events = await self._events(
            {row.position for rows in by_pair.values() for row in rows}
            | {p for m in merges for p in (m.known_from, m.known_to) if p and p <= person.known_at}
            | {s.position for s in splits}
        )
        named = await self._subjects.describe(
            members
            | {s for r in shown for s in (r.evidence.a, r.evidence.b)}
            | {s for m in merges for s in (m.a, m.b)}
            | {x for s in splits for x in (s.subject, *s.person_side, *s.subject_side)}
        )
        joining = {frozenset((s.a, s.b)) for s in found.joining if isinstance(s, Link)}
        refused_pairs = {frozenset((r.evidence.a, r.evidence.b)) for r in refused}
        links: list[dict[str, Any]] = []
        for rows in by_pair.values():
            rows.sort(key=order_of_link)
        # by their place in the event, too: the order of arrival is no order
        for pair, rows in sorted(by_pair.items(), key=lambda item: order_of_link(item[1][0])):
            if pair in refused_pairs:
                continue
            links.append(
                {
                    "a": _end(rows[0].a, named),
                    "b": _end(rows[0].b, named),
                    "since": moment(rows[0].occurred_at),
                    "stated_by": "command" if _is_command(events[rows[0].position]) else "source",
                    "joins": pair in joining,
                    "evidence": [events[row.position] for row in rows],
                }
            )
        told_merges = []
        for m in merges:
            undone = events[m.known_to] if m.known_to is not None and m.known_to <= person.known_at else None
            told_merges.append(
                {
                    "a": _end(m.a, named),
                    "b": _end(m.b, named),
                    "since": moment(m.occurred_at),
                    "stands": undone is None,
                }
                | {"event": events[m.known_from], "undone_by": undone}
            )
        told_splits = [
            {
                "subject": _end(s.subject, named),
                "person_side": [_end(x, named) for x in s.person_side],
                "subject_side": [_end(x, named) for x in s.subject_side],
                "event": events[s.position],
            }
            for s in splits
        ]
        return Why(
            person=person.id,
            identifiers=person.subjects,
            links=links,
            merges=told_merges,
            splits=told_splits,
            refused=[refusal_told(r, named) for r in shown],
            refused_total=len(refused),
            history=_history(links, told_merges, told_splits),
            as_of=person.as_of,
            known_at=person.known_at,
            head=person.head,
        )

    async def refused(self, *, limit: int = 50, cursor: str | None = None, after: int = 0) -> Refusals:
        """Links that are refused as resolved now, with the reason of each.

        Each page is of its own moment: who is found refusing at an earlier one would take resolving all that changed
        since. What a change between two pages does not touch comes once all the same.

        Raises:
            Invalid: the cursor was not made here.
            Behind.
        """
        if after:
            await self._histories.moments.wait_until(after)
        limit = max(1, min(limit, 1000))
        found, total, following, head = await self._histories.identities.resolutions.refused(
            limit=limit, behind=_read_cursor(cursor) if cursor else None
        )
        named = await self._subjects.describe({s for r in found for s in (r.evidence.a, r.evidence.b)})
        return Refusals(
            refused=[refusal_told(r, named) for r in found],
            total=total,
            next=_write_cursor(following) if following else None,
            head=head,
        )

    async def _events(self, positions: Iterable[int]) -> dict[int, dict[str, Any]]:
        """The events at *positions* as `why` tells them; the reason of a decision is unsealed."""
        async with self._pool.connection() as conn:
            curs = conn.cursor(binary=True)
            await curs.execute(
                "SELECT position, recorded_at, body FROM touchpoint_log.events WHERE position = ANY(%s)",
                (list(positions),),
            )
            rows = [(p, at, decode_body(bytes(body))) for p, at, body in await curs.fetchall()]
        decided = [body for _, _, body in rows if body.type.startswith("identity.")]
        opened = dict(zip((b.event_id for b in decided), await unseal(self._subjects, decided), strict=True))
        return {p: _event(p, at, body, opened.get(body.event_id)) for p, at, body in rows}


def _event(
    position: int, recorded_at: datetime, body: Body, opened: tuple[dict[str, Any], dict[str, Any]] | None
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "event_id": body.event_id,
        "position": position,
        "type": body.type,
        "source": body.source,
        "source_id": body.id,
        "occurred_at": moment(body.occurred_at),
        "recorded_at": moment(recorded_at),
        "principal": body.principal,
    }
    if opened is not None:
        found["actor"] = opened[0].get("actor")
        found["reason"] = opened[0].get("reason")
    return found


def _is_command(event: dict[str, Any]) -> bool:
    return bool(event["type"] == "identity.linked")


def _end(subject: UUID, named: dict[UUID, Subject]) -> dict[str, Any]:
    one = named.get(subject)
    ref = (
        str(Identifier(one.kind, one.value, one.namespace))
        if one is not None and one.value is not None
        else None
    )
    return {"subject": str(subject), "ref": ref}


def _history(
    links: Iterable[dict[str, Any]], merges: Iterable[dict[str, Any]], splits: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What became known of an identity, in the order in which it was recorded."""
    told = []
    for link in links:
        first = min(link["evidence"], key=lambda e: e["position"])
        what = "linked by a command" if link["stated_by"] == "command" else "linked"
        told.append({"what": what, "a": link["a"], "b": link["b"], "event": first})
    for merge in merges:
        told.append({"what": "merged", "a": merge["a"], "b": merge["b"], "event": merge["event"]})
        if merge["undone_by"] is not None:
            told.append(
                {"what": "merge undone", "a": merge["a"], "b": merge["b"], "event": merge["undone_by"]}
            )
    for split in splits:
        first_kept = split["person_side"][0] if split["person_side"] else None
        told.append({"what": "split", "a": first_kept, "b": split["subject"], "event": split["event"]})
    return sorted(told, key=lambda one: (one["event"]["position"], one["what"]))


def refusal_told(refused: RefusedLink[UUID], named: dict[UUID, Subject]) -> dict[str, Any]:
    """A refused link for people and programs: which, by which event, and why."""
    step = refused.evidence
    found: dict[str, Any] = {
        "a": _end(step.a, named),
        "b": _end(step.b, named),
        "reason": refused.reason,
        "is_merge": not isinstance(step, Link),
        "since": moment(step.occurred_at),
        "position": step.position,
        "source": step.source,
        "source_id": step.source_id,
    }
    if refused.reason == "limit":
        kind = f"{refused.kind}@{refused.namespace}" if refused.namespace else refused.kind
        found |= {"kind": refused.kind, "namespace": refused.namespace}
        found |= {"limit": refused.limit, "would_be": refused.would_be}
        found["words"] = (
            f"one person would have {refused.would_be:,} values of {kind}; the limit is {refused.limit:,}"
        )
    else:
        found["words"] = "a split keeps the two apart; only a later merge joins them"
    return found


def _write_cursor(place: tuple[UUID, int]) -> str:
    return base64.urlsafe_b64encode(place[0].bytes + place[1].to_bytes(8, "big")).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[UUID, int]:
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        if len(raw) != 24:
            raise ValueError
        return UUID(bytes=raw[:16]), int.from_bytes(raw[16:], "big")
    except ValueError:
        raise Invalid(
            [
                Problem(
                    "/cursor",
                    "This cursor was not made here; use `next` of the page before as it is.",
                    "cursor",
                )
            ]
        ) from None
