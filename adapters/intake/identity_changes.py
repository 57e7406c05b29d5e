"""Merges, splits and links by command: looked at first, then recorded as events; nothing recorded is ever touched.

A command that is sent again is told what the first one did. Two that are sent at once are both recorded, in the
order of their commits: an event is a decision, and resolution is computed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.answers.history import Histories
from adapters.answers.resolution import Reach
from adapters.intake.ingest import Ingest
from adapters.intake.payloads import event_of
from adapters.postgres.subjects import Subjects, told_subjects
from adapters.principal import Principal
from domain.entry import event_id_of, moment, uuid_text
from domain.errors import Already, Invalid, NotFound, Problem, Refused
from domain.identity import Identifier, kind_of
from domain.resolution import split_sides
from projections.linking import MERGED, SPLIT, Merged, link_of, merge_of, split_of

__all__ = ["SOURCE", "Change", "IdentityChanges", "Side"]

SOURCE = "touchlog/identity"
LINKED = "identity.linked"
_READ_MODELS = ("contact_history", "identities")
_LONGEST_REASON = 2000


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two persons of a change, in numbers."""

    person: str
    identifiers: list[dict[str, Any]]  # {"subject", "kind", "namespace", "value"}
    events: int
    consents: int  # of these, facts about consent
    first_at: str | None
    last_at: str | None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What a command has changed, or would change."""

    change: str  # merge, split, link
    status: str  # recorded, duplicate (the same was recorded before), dry_run
    a: Side
    b: Side
    event_id: str | None
    position: int | None
    undo: dict[str, str] | None  # what POST /v1/persons/split takes to undo it
    told: list[str]  # what is worth knowing before and after
    head: int


_NUMBERS = """
WITH owner AS MATERIALIZED (
    SELECT unnest(%(subjects)s::uuid[]) AS subject UNION SELECT o.reference FROM (
        SELECT DISTINCT ON (r.reference) r.reference, r.subject FROM read.references r
         WHERE r.reference IN (SELECT c.reference FROM read.references c WHERE c.subject = ANY(%(subjects)s)) AND r.known_to IS NULL
         ORDER BY r.reference, r.occurred_at, r.source, r.source_id) o
     WHERE o.subject = ANY(%(subjects)s)
)
SELECT count(*), count(*) FILTER (WHERE h.type LIKE 'consent.%%'), min(h.occurred_at), max(h.occurred_at)
  FROM owner o JOIN read.contact_history h ON h.subject = o.subject AND h.known_to IS NULL
"""


class IdentityChanges:
    """Merges, splits and links persons."""

    def __init__(
        self, pool: AsyncConnectionPool[Any], ingest: Ingest, histories: Histories, subjects: Subjects
    ) -> None:
        self._pool = pool
        self._ingest = ingest
        self._histories = histories
        self._subjects = subjects

    async def merge(
        self, a: str, b: str, principal: Principal, *, reason: str, dry_run: bool = False
    ) -> Change:
        """Join the persons of two REFs in spite of any guard, or with *dry_run* tell what that would join.

        Raises:
            Invalid, NotFound, Behind.
            Already: they are one person already.
        """
        reason = _checked(reason)
        position, reach, one, two = await self._both(a, b)
        found = await reach.persons()
        first = next(
            (m for m in _standing(reach) if {m.a, m.b} == {one, two}), None
        )  # this very merge, sent before
        together = found.of(one) == found.of(two)
        if first is None and together:
            raise Already(
                "These two are one person already; `touchlog persons why` tells by which links. Nothing was recorded."
            )
        if first is not None and together:  # not where a later split parted them: then this is a later merge
            sides = await self._without(reach, first)
            return self._told(
                "merge", "duplicate", sides, str(first.event_id), first.known_from, [], position
            )
        sides = (await self.side(found.of(one)), await self.side(found.of(two)))
        told = _between(sides)
        if dry_run:
            return self._told("merge", "dry_run", sides, None, None, told, position)
        named = await self._named([one, two])
        earlier = sum({m.a, m.b} == {one, two} for m in reach.merges)
        data = {
            "a_subject": str(one),
            "b_subject": str(two),
            "b_kind": named[two].kind,
            "b_namespace": named[two].namespace,
            "a_subjects": _texts(found.of(one)),
            "b_subjects": _texts(found.of(two)),
            "event_count": sides[0].events + sides[1].events,
        }
        status, event_id, at = await self._append(
            MERGED,
            _id("merge", *sorted(map(str, (one, two))), str(earlier)),
            [named[one]],
            data,
            reason,
            principal,
        )
        return self._told("merge", status, sides, event_id, at, told, max(position, at))

    async def undo(
        self,
        merge: str,
        principal: Principal,
        *,
        reason: str,
        of: str | None = None,
        dry_run: bool = False,
    ) -> Change:
        """Undo exactly one merge, named by its event's id or position.

        Args:
            of: a REF whose person the merge has to concern.

        Raises:
            Invalid: no event's name, an event that is no merge, or one that concerns somebody else.
            NotFound: there is no such event.
            Already: it was undone before.
        """
        reason = _checked(reason)
        position = await self._at_head()
        event_id = await self._merge_named(merge)
        row = await self._merged(event_id)
        if row.known_to is not None:
            raise Already(
                f"This merge was undone before, by the event at position {row.known_to:,}. Nothing was recorded."
            )
        reach = await self._histories.identities.resolutions.reach([row.a, row.b], position)
        if of is not None:
            subject = await self._subject(of)
            if subject not in (await reach.persons()).of(row.a):
                raise Invalid(
                    [
                        Problem(
                            "/merge",
                            "This merge does not concern the person of that REF; look at `touchlog persons why`.",
                            "other_person",
                        )
                    ]
                )
        sides = await self._without(reach, row)
        told = (
            [
                "The two stay one person without this merge, by links or other merges; `touchlog persons why` tells by which."
            ]
            if sides[0].person == sides[1].person
            else []
        )
        if dry_run:
            return self._told("split", "dry_run", sides, None, None, told, position)
        named = await self._named([row.a])
        data = {
            "merge": str(event_id),
            "person_subjects": [s["subject"] for s in sides[0].identifiers],
            "subject_subjects": [s["subject"] for s in sides[1].identifiers],
        }
        status, split_id, at = await self._append(
            SPLIT, _id("split", str(event_id)), [named[row.a]], data, reason, principal
        )
        return self._told("split", status, sides, split_id, at, told, max(position, at))

    async def part(
        self, person: str, subject: str, principal: Principal, *, reason: str, dry_run: bool = False
    ) -> Change:
        """Take *subject* (a subject id or a REF) out of its person; no evidence brings the two sides together again.

        Raises:
            Invalid: they are not one person, or one and the same subject.
            NotFound, Behind.
            Already: they were split before.
        """
        reason = _checked(reason)
        position, reach, stays, leaves = await self._both(person, subject)
        splits = [split_of(s) for s in reach.splits]
        found = await reach.persons()
        if stays != leaves and stays not in found.of(leaves):
            before = [s for s in reach.splits if s.subject == leaves and stays in s.person_side]
            if before:
                raise Already(
                    f"The two were split before, by the event at position {before[-1].position:,}. Nothing was recorded."
                )
        sides_of = split_sides(
            stays,
            leaves,
            reach.kinds,
            [link_of(e) for e in reach.evidence],
            merges=[merge_of(m) for m in _standing(reach)],
            splits=splits,
        )
        sides = (await self.side(sides_of[0]), await self.side(sides_of[1]))
        told = ["No link by evidence joins the two sides again; a later merge does."]
        if dry_run:
            return self._told("split", "dry_run", sides, None, None, told, position)
        named = await self._named([stays])
        data = {
            "subject": str(leaves),
            "person_subjects": _texts(sides_of[0]),
            "subject_subjects": _texts(sides_of[1]),
        }
        earlier = sum(s.subject == leaves for s in reach.splits)
        status, event_id, at = await self._append(
            SPLIT, _id("part", str(stays), str(leaves), str(earlier)), [named[stays]], data, reason, principal
        )
        return self._told("split", status, sides, event_id, at, told, max(position, at))

    async def link(
        self, a: str, b: str, principal: Principal, *, reason: str, dry_run: bool = False
    ) -> Change:
        """State that two identifiers are of one person: evidence as any other, which the guards may refuse.

        Raises:
            Invalid, NotFound, Behind.
        """
        reason = _checked(reason)
        position, reach, one, two = await self._both(a, b)
        if one == two:
            raise Invalid("Both REFs name one and the same identifier; there is nothing to link.")
        found = await reach.persons()
        sides = (await self.side(found.of(one)), await self.side(found.of(two)))
        told = [
            "A link is evidence: limits per kind and splits may refuse it, which `touchlog persons refused` lists. A merge joins in spite of them."
        ]
        if dry_run:
            return self._told("link", "dry_run", sides, None, None, told, position)
        named = await self._named([one, two])
        data = {"a_subject": str(one), "b_subject": str(two)}
        status, event_id, at = await self._append(
            LINKED,
            _id("link", *sorted(map(str, (one, two)))),
            [named[one], named[two]],
            data,
            reason,
            principal,
        )
        return self._told("link", status, sides, event_id, at, told, max(position, at))

    # -- what stands now ------------------------------------------------------------------------

    async def side(self, subjects: Collection[UUID]) -> Side:
        """A person in numbers, as known now."""
        described = await self._subjects.describe(subjects)
        async with self._pool.connection() as conn:
            row = await (await conn.execute(_NUMBERS, {"subjects": list(subjects)})).fetchone()
        events, consents, first_at, last_at = row or (0, 0, None, None)
        return Side(
            person=str(min(subjects)),
            identifiers=told_subjects(described.values()),
            events=events,
            consents=consents,
            first_at=moment(first_at) if first_at else None,
            last_at=moment(last_at) if last_at else None,
        )

    async def _at_head(self) -> int:
        async with self._pool.connection() as conn:
            row = await (await conn.execute("SELECT position FROM touchpoint_log.head")).fetchone()
        assert row is not None
        await self._histories.moments.wait_until(row[0], models=_READ_MODELS)
        return int(row[0])

    async def _subject(self, ref: str) -> UUID:
        """The subject that a REF names; of an order or a case, that of the person it belongs to."""
        subject = await self._histories.identities.subject_of(ref)
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(
                    "SELECT s.kind IN ('order', 'case'), (SELECT r.subject FROM read.references r WHERE r.reference = s.subject "
                    "AND r.known_to IS NULL ORDER BY r.occurred_at, r.source, r.source_id LIMIT 1) FROM touchlog.subjects s WHERE s.subject = %s",
                    (subject,),
                )
            ).fetchone()
        if row is not None and row[1] is not None:
            return UUID(str(row[1]))
        if row is not None and row[0]:
            raise NotFound("This order or case was never named together with a person; name the person.")
        return subject

    async def _both(self, a: str, b: str) -> tuple[int, Reach, UUID, UUID]:
        """(position, what bears on both, the two subjects) as known at the head."""
        position = await self._at_head()
        one = await self._subject(a)
        try:
            two = await self._subject(b)
        except NotFound as error:
            raise NotFound(f"The first of the two is known; of the second: {error}") from None
        return position, await self._histories.identities.resolutions.reach([one, two], position), one, two

    async def _without(self, reach: Reach, merge: Merged) -> tuple[Side, Side]:
        """The two sides of a standing merge, as they are without it."""
        kept = [m for m in reach.merges if m.event_id != merge.event_id]
        found = await msgspec.structs.replace(reach, merges=kept).persons()
        return await self.side(found.of(merge.a)), await self.side(found.of(merge.b))

    async def _merge_named(self, text: str) -> UUID:
        """The id of the merge that an event id or a position (`@123`) names."""
        text = text.strip()
        position: int | None = None
        async with self._pool.connection() as conn:
            try:
                found = await (
                    await conn.execute(
                        "SELECT position FROM touchpoint_log.keys WHERE stream = %s AND version = 1",
                        (UUID(text),),
                    )
                ).fetchone()
                position = found[0] if found else None
            except ValueError:
                if not (
                    text.startswith("@") and text[1:].isascii() and text[1:].isdigit() and len(text) < 20
                ):
                    raise Invalid(
                        [
                            Problem(
                                "/merge",
                                "A merge is named by the id of its event, as `merge` and `why` tell it, or by its position, e.g. @123.",
                                "not_an_event",
                            )
                        ]
                    ) from None
                position = int(text[1:])
            row = await (
                await conn.execute(
                    "SELECT stream, type FROM touchpoint_log.events WHERE position = %s", (position,)
                )
            ).fetchone()
        if row is None:
            raise NotFound(
                f"There is no event {text[:60]}; `touchlog persons why` tells the merges of a person."
            )
        if row[1] != MERGED:
            raise Invalid(
                [
                    Problem(
                        "/merge",
                        f"The event {text[:60]} is no merge but {row[1]}; `touchlog persons why` tells the merges of a person.",
                        "not_a_merge",
                    )
                ]
            )
        return UUID(str(row[0]))

    async def _merged(self, event_id: UUID) -> Merged:
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(
                    "SELECT event_id, a, a_kind, a_namespace, b, b_kind, b_namespace, occurred_at, source, source_id, a_cluster, b_cluster, "
                    "known_from, known_to FROM read.merges WHERE event_id = %s",
                    (event_id,),
                )
            ).fetchone()
        if row is None:
            raise NotFound(f"The merge {event_id} is in the log, but joins nobody: it cannot be followed.")
        return Merged(**dict(zip(Merged.__struct_fields__, row, strict=True)))

    async def _named(self, subjects: Sequence[UUID]) -> dict[UUID, Identifier]:
        described = await self._subjects.describe(subjects)
        found = {}
        for subject in subjects:
            one = described[subject]
            if one.value is None:
                raise Refused(f"The identifier of subject {subject} was erased; name the person by another.")
            found[subject] = Identifier(one.kind, one.value, one.namespace)
        return found

    # -- on record --------------------------------------------------------------------------------

    async def _append(
        self,
        type_: str,
        id_: str,
        named: Sequence[Identifier],
        data: dict[str, Any],
        reason: str,
        principal: Principal,
    ) -> tuple[str, str, int]:
        """(recorded or duplicate, event id, position)."""
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": id_,
            "source": SOURCE,
            "type": type_,
            "subject": str(named[0]),
            "data": {**data, "actor": principal.key_id, "reason": reason},
        }
        for other in named[1:]:
            if "," in other.value:  # which would part a list of REFs
                kind = f"{other.kind}@{other.namespace}" if other.namespace else other.kind
                event["data"]["identifiers"] = {kind: other.value}
            else:
                event["identifiers"] = str(other)
        inside = Principal(principal.key_id, principal.role, principal.sources, inside=True)
        answer = await self._ingest.accept([event_of(event)], inside, way_in="identity", keep=False)
        (result,) = answer.results
        if result.position is None:
            raise Refused(f"{type_} was not recorded: {'; '.join(p.detail for p in result.errors)}")
        # A conflict: somebody decided the same at the same moment, in other words.
        status = "recorded" if result.status == "recorded" else "duplicate"
        return status, uuid_text(event_id_of(SOURCE, id_)), result.position

    @staticmethod
    def _told(
        change: str,
        status: str,
        sides: tuple[Side, Side],
        event_id: str | None,
        position: int | None,
        told: list[str],
        head: int,
    ) -> Change:
        undo = {"merge": event_id} if change == "merge" and event_id is not None else None
        return Change(
            change=change,
            status=status,
            a=sides[0],
            b=sides[1],
            event_id=event_id,
            position=position,
            undo=undo,
            told=told,
            head=head,
        )


def _standing(reach: Reach) -> list[Merged]:
    return [m for m in reach.merges if m.known_to is None or m.known_to > reach.known_at]


def _between(sides: tuple[Side, Side]) -> list[str]:
    """What a merge overrides: kinds of which one person would have more values than by evidence."""
    found = []
    counts: dict[tuple[str, str], list[int]] = {}
    for number, side in enumerate(sides):
        for one in side.identifiers:
            counts.setdefault((one["kind"], one["namespace"]), [0, 0])[number] += 1
    for (kind, namespace), (here, there) in sorted(counts.items()):
        limit = kind_of(kind).limit
        if here and there and here + there > limit:
            name = f"{kind}@{namespace}" if namespace else kind
            found.append(
                f"One person will have {here + there:,} values of {name}; by evidence it would be {limit:,} at most."
            )
    return found


def _texts(subjects: Collection[UUID]) -> list[str]:
    return sorted(map(str, subjects))


def _id(*parts: str) -> str:
    """The id of a decision follows from what is decided on, so that a repeat is told by its key."""
    return f"{parts[0]}/{sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"


def _checked(reason: str) -> str:
    reason = reason.strip()
    if not reason or len(reason) > _LONGEST_REASON:
        detail = (
            f"Say why, in at most {_LONGEST_REASON:,} characters; it goes on record."
            if reason
            else "Say why; the reason goes on record."
        )
        raise Invalid([Problem("/reason", detail, "missing" if not reason else "too_long")])
    return reason
