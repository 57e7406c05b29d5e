"""Ingest: from payloads to recorded events, once each, with an answer per item.

payload → draft (checked) → subjects (resolved or made) → sealed body → writer (group commit).
Every way in ends here: HTTP, NATS, imports, channels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import msgspec
import orjson
import structlog

from adapters.cloudevents import Draft, Payload, Receipt, draft, read_payload
from adapters.identifiers import normalised
from adapters.keys import KeyFile, SubjectKeys, associated, nonces, seal
from adapters.postgres.event_log import Appended, ErasedMeanwhile, Item
from adapters.postgres.rejected import Kept, Rejected
from adapters.postgres.subjects import Named, Subjects
from adapters.postgres.writer import Writer
from domain.correction import CORRECTION
from domain.entry import event_id_of, uuid_text
from domain.errors import Invalid, Problem
from domain.identity import Identifier, parse_ref
from domain.event import EventType
from domain.personal import any_type, part

__all__ = ["Answer", "Corrector", "Ingest", "Principal", "Result"]

log = structlog.get_logger()


class Principal(msgspec.Struct, frozen=True):
    """Who is signed in: a key and what it may do."""

    key_id: str
    role: str
    sources: tuple[str, ...] = ()
    inside: bool = False  # touchlog itself: reserved types and sources are allowed

    def may_append_from(self, source: str) -> bool:
        """Whether this principal may record events of *source*; an adapter only of its own."""
        if self.role == "admin" or self.inside:
            return True
        if self.role != "adapter":
            return False
        return any(source == own or (own.endswith("*") and source.startswith(own[:-1])) for own in self.sources)


class Result(msgspec.Struct, omit_defaults=True):
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


class Corrector(Protocol):
    """Makes corrections of items whose key is known with another payload."""

    async def settle(self, answered: Sequence[tuple[Draft, Result]], principal: Principal) -> None:
        """Change the results of conflicts that became corrections: status `corrected`, or `duplicate` where nothing differs."""


class _Prepared(NamedTuple):
    place: int
    draft: Draft
    canonical: bytes


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
        results: list[Result | None] = [None] * len(items)
        prepared: list[_Prepared] = []
        refused: list[Kept] = []
        receipt = Receipt.of(self.clock())
        for place, item in enumerate(items):
            if place % 500 == 499:
                await asyncio.sleep(0)  # a large batch lets the other callers in between
            payload: Payload | None = None
            try:
                payload = item if isinstance(item, Payload) else read_payload(item)
                one = draft(payload, receipt, inside=principal.inside, region=self.region)
                if "of" in one.declared.fields:
                    _its_own(one, principal)
                if not principal.may_append_from(one.source):
                    raise Invalid([Problem("/source", f"The key {principal.key_id} may not append from source '{one.source}'; its sources are: {', '.join(principal.sources) or 'none'}.", "forbidden")])
            except Invalid as wrong:
                event = payload.event if payload is not None else {}
                results[place] = Result("rejected", id=_text(event.get("id")), errors=wrong.problems)
                refused.append(_kept("rejected", event, item, principal, way_in, places, place, wrong.problems))
                continue
            prepared.append(_Prepared(place, one, payload.canonical))
        if prepared:
            outcome = await self._record(prepared, principal, import_id)
            for each, appended in zip(prepared, outcome, strict=True):
                status, position = appended
                result = Result(status, position, each.draft.id, each.draft.warnings)
                if status == "conflict":
                    result.errors = [
                        Problem("/id", f"Another payload with this source and id stands at position {position}; it was kept, not recorded. An event is never overwritten: send a correction, or give this each an id of its own.", "conflict")
                    ]
                results[each.place] = result
            answered = [(each.draft, told) for each in prepared if (told := results[each.place]) is not None]
            if corrector is not None:
                await corrector.settle(answered, principal)
            for each, (_, result) in zip(prepared, answered, strict=True):
                if result.status == "conflict":
                    refused.append(_kept("conflict", {"source": each.draft.source, "id": each.draft.id, "type": each.draft.declared.name}, items[each.place], principal, way_in, places, each.place, result.errors, result.position))
        if refused and keep:
            await self.rejected.keep(refused)
        done = [r for r in results if r is not None]
        count = [r.status for r in done].count
        return Answer(done, count("recorded"), count("duplicate"), count("conflict"), count("rejected"), self.writer.head)

    async def _record(self, prepared: list[_Prepared], principal: Principal, import_id: str | None) -> list[Appended]:
        for attempt in range(3):
            wanted: dict[Named, None] = {}
            parted = [self._parts(one.draft, wanted) for one in prepared]
            erasures = self.subjects.erasures
            subjects = await self.subjects.resolve(wanted)
            fresh = nonces(len(prepared) * 2)
            bodies = [
                self._item(one, parts, subjects, principal, import_id, fresh)
                for one, parts in zip(prepared, parted, strict=True)
            ]
            try:
                return await self.writer.append(bodies, erasures=erasures)
            except ErasedMeanwhile:
                if attempt == 2:
                    raise
                await self.subjects.forget()
        raise AssertionError("unreachable")

    def _parts(self, one: Draft, wanted: dict[Named, None]) -> _Sealing:
        """Part the data of a draft and note every identifier that its sealing needs."""
        declared = one.declared
        if declared.name == CORRECTION:
            encoded, personal, others = _part_correction(declared, one.data)
        elif declared.fields or not one.data:
            parts, encoded = part(declared, one.data, _canonical)
            personal = parts.personal
            others = parts.others
        else:  # nobody declared this type: its data whole is personal
            encoded = b"{}"
            personal = {"": one.data}
            others = []
        owners: dict[Named, dict[str, Any]] = {}
        for identifier in one.identifiers:
            wanted[identifier.kind, identifier.namespace, identifier.value] = None
        for identifier in one.references:
            wanted[identifier.kind, identifier.namespace, identifier.value] = None
        if one.patched_subject is not None:
            patched = one.patched_subject
            wanted[patched.kind, patched.namespace, patched.value] = None
        contact: Named | None = None
        if one.contact is not None:
            contact = (one.contact.kind, one.contact.namespace, one.contact.value)
            wanted[contact] = None
        for place, value in others:
            named = contact if place == "/contact" else self._other(value)
            if named is None:
                personal[place] = value
            else:
                wanted[named] = None
                owners.setdefault(named, {})[place] = value
        owner: Named | None = None
        if personal or one.personal_extensions:
            if one.identifiers or one.references:
                first = (one.identifiers or one.references)[0]
                owner = (first.kind, first.namespace, first.value)
            elif one.patched_subject is not None:
                owner = (one.patched_subject.kind, one.patched_subject.namespace, one.patched_subject.value)
            else:  # an event that names nobody is sealed under a key of its source and day
                owner = ("source_day", "", f"{one.occurred_at[:10]} {one.source}")
            wanted[owner] = None
        return _Sealing(encoded, personal, one.personal_extensions, owner, owners, contact)

    def _other(self, value: Any) -> Named | None:
        """The identifier of another person whom a value names, if it names one."""
        text = value.get("ref") if isinstance(value, dict) else value
        if not isinstance(text, str):
            return None
        if ":" not in text:
            text = f"email:{text}" if "@" in text else f"phone:{text}" if text.startswith("+") else text
        try:
            found = normalised(parse_ref(text), self.region)
        except Invalid:
            return None
        return (found.kind, found.namespace, found.value) if found is not None else None

    def _item(
        self,
        one: _Prepared,
        sealing: _Sealing,
        subjects: dict[Named, SubjectKeys],
        principal: Principal,
        import_id: str | None,
        nonce: Callable[[], bytes],
    ) -> Item:
        """Seal what is personal and write the body of the entry."""
        event = one.draft
        raw_id = event_id_of(event.source, event.id)
        event_id = uuid_text(raw_id)
        declared = event.declared
        sealed: list[tuple[str, str, str]] = []
        if sealing.owner is not None:
            keys = subjects[sealing.owner]
            key_id = keys.key_id
            if sealing.personal:
                aad = associated(event_id, declared.name, declared.version, "data", key_id)
                sealed.append((key_id, "data", seal(keys.content, sealing.personal, aad, nonce())))
            if sealing.extensions:
                aad = associated(event_id, declared.name, declared.version, "extensions", key_id)
                sealed.append((key_id, "extensions", seal(keys.content, sealing.extensions, aad, nonce())))
        for named, values in sealing.others.items():
            keys = subjects[named]
            aad = associated(event_id, declared.name, declared.version, "data", keys.key_id)
            sealed.append((keys.key_id, "data", seal(keys.content, values, aad, nonce())))
        # Keys are put in sorted order: canonical JSON needs no second sorting.
        body: dict[str, Any] = {}
        if event.causation is not None:
            body["causation"] = event.causation
        body["channel"] = event.channel
        if sealing.contact is not None:
            body["contact"] = subjects[sealing.contact].key_id
        if event.correlation is not None:
            body["correlation"] = event.correlation
        if sealing.plain != b"{}":
            body["data"] = orjson.Fragment(sealing.plain)
        if event.direction is not None:
            body["direction"] = event.direction
        body["event_id"] = event_id
        if event.extensions:
            body["extensions"] = orjson.Fragment(_canonical(event.extensions))
        if event.future:
            body["future"] = True
        body["id"] = event.id
        if import_id is not None:
            body["import"] = import_id
        body["occurred_at"] = event.occurred_at
        if not event.occurred_at_given:
            body["occurred_at_given"] = False
        if event.on_behalf_of is not None and event.on_behalf_of != principal.key_id:
            body["on_behalf_of"] = event.on_behalf_of
        if event.patched_subject is not None:
            body["patched_subject"] = _surrogates([event.patched_subject], subjects)[0]
        body["principal"] = principal.key_id
        if event.references:
            body["references"] = _surrogates(event.references, subjects)
        if sealed:
            body["sealed"] = sealed
        body["source"] = event.source
        if event.identifiers:
            body["subjects"] = _surrogates(event.identifiers, subjects)
        body["type"] = declared.name
        body["version"] = declared.version
        return Item(raw_id, declared.name, orjson.dumps(body), self.keys.payload_hash(one.canonical))


class _Sealing(NamedTuple):
    """How the data of one event is parted, and under whose key each part goes."""

    plain: bytes
    personal: dict[str, Any]
    extensions: dict[str, Any]
    owner: Named | None
    others: dict[Named, dict[str, Any]]
    contact: Named | None


def _its_own(one: Draft, principal: Principal) -> None:
    """Refuse what speaks `of` an event of a source from which *principal* may not append (SEMANTICS §7)."""
    of = one.data.get("of")
    if isinstance(of, dict) and isinstance(of.get("source"), str) and not principal.may_append_from(of["source"]):
        raise Invalid([Problem("/data/of/source", f"The key {principal.key_id} may not speak of events of source '{of['source']}'; its sources are: {', '.join(principal.sources) or 'none'}. Use the key of that source, or one of role admin.", "forbidden")])


def _part_correction(declared: EventType, data: dict[str, Any]) -> tuple[bytes, dict[str, Any], list[tuple[str, Any]]]:
    """(plain data, sealed values, values that name others) of a correction: its patch is parted as an event's data is."""
    patch = data["patch"]
    parts, _ = part(declared, {k: v for k, v in data.items() if k != "patch"}, _canonical)
    inner, _ = part(any_type(), patch.get("data") or {}, _canonical)
    plain: dict[str, Any] = {k: patch[k] for k in ("time", "channel", "direction") if patch.get(k) is not None}
    if patch.get("data"):
        # What is sealed leaves a null: the old value no longer holds, and what holds is nothing for plain eyes.
        plain["data"] = dict.fromkeys(patch["data"]) | inner.plain
    personal = parts.personal | {f"/patch/data{place}": value for place, value in inner.personal.items()}
    others = parts.others + [(f"/patch/data{place}", value) for place, value in inner.others]
    if patch.get("subject") is not None:
        personal["/patch/subject"] = patch["subject"]
    return _canonical({**parts.plain, "patch": plain}), personal, others


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _surrogates(identifiers: Iterable[Identifier], subjects: dict[Named, SubjectKeys]) -> list[tuple[str, str, str]]:
    return [(subjects[i.kind, i.namespace, i.value].key_id, i.kind, i.namespace) for i in identifiers]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _kept(
    status: str,
    event: dict[str, Any],
    item: bytes | Payload,
    principal: Principal,
    way_in: str,
    places: Sequence[str] | None,
    place: int,
    problems: list[Problem],
    position: int | None = None,
) -> Kept:
    return Kept(
        status=status,
        source=_text(event.get("source")),
        source_id=_text(event.get("id")),
        type=_text(event.get("type")),
        way_in=way_in,
        principal=principal.key_id,
        place=places[place] if places is not None else f"item {place + 1}",
        problems=problems,
        position=position,
        payload=item.canonical if isinstance(item, Payload) else bytes(item),
    )


