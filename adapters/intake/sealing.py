"""Sealing: from a checked draft to the item that the log takes.

The data of an event is parted into what stays plain and what is personal; each personal part is sealed under the
key of the subject whom it is of (SEMANTICS §7), and the canonical body of the entry is written (§1).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import orjson

from adapters.identifiers import normalised
from adapters.intake.cloudevents import Draft
from adapters.intake.frames import Frames
from adapters.keys import KeyFile, SubjectKeys, associated, seal
from adapters.postgres.event_log import Item
from adapters.postgres.subjects import Named
from domain.correction import CONSENT_CORRECTION, CORRECTION
from domain.entry import event_id_of, uuid_text
from domain.errors import Invalid
from domain.event import TYPES, EventType
from domain.identity import parse_ref
from domain.personal import any_type, part

__all__ = ["Parted", "Sealer"]


class Parted(msgspec.Struct, gc=False):
    """How the data of one event is parted, and under whose key each part goes."""

    plain: bytes
    personal: dict[str, Any]
    extensions: dict[str, Any]
    owner: Named | None
    others: dict[Named, dict[str, Any]]
    identifiers: list[Named]
    references: list[Named]
    contact: Named | None


class Sealer:
    """Seals events whose whole way is taken; those of a known outline are sealed by `adapters.intake.outlines`.

    Args:
        region: for phone numbers without a country code; None takes only numbers with `+`.
    """

    def __init__(self, keys: KeyFile, region: str | None) -> None:
        self._keys = keys
        self._region = region
        self._frames = Frames()

    def parted(self, one: Draft, wanted: dict[Named, None]) -> Parted:
        """Part the data of a draft and note every identifier that its sealing needs."""
        declared = one.declared
        if declared.name == CORRECTION:
            encoded, personal, others = _part_correction(declared, one.data)
        elif declared.name == CONSENT_CORRECTION:
            encoded, personal, others = _part_consent_correction(declared, one.data)
        elif declared.fields or not one.data:
            parts, encoded = part(declared, one.data, _canonical)
            personal = parts.personal
            others = parts.others
        else:  # nobody declared this type: its data whole is personal
            encoded = b"{}"
            personal = {"": one.data}
            others = []
        owners: dict[Named, dict[str, Any]] = {}
        identifiers: list[Named] = []
        for identifier in one.identifiers:
            named = (identifier.kind, identifier.namespace, identifier.value)
            identifiers.append(named)
            wanted[named] = None
        references: list[Named] = []
        for identifier in one.references:
            named = (identifier.kind, identifier.namespace, identifier.value)
            references.append(named)
            wanted[named] = None
        if one.patched_subject is not None:
            patched = one.patched_subject
            wanted[patched.kind, patched.namespace, patched.value] = None
        contact: Named | None = None
        if one.contact is not None:
            contact = (one.contact.kind, one.contact.namespace, one.contact.value)
            wanted[contact] = None
        for place, value in others:
            other = contact if place in ("/contact", "/patch/contact") else self._other(value)
            if other is None:
                personal[place] = value
            else:
                wanted[other] = None
                owners.setdefault(other, {})[place] = value
        owner: Named | None = None
        if personal or one.personal_extensions:
            if identifiers:
                owner = identifiers[0]
            elif references:
                owner = references[0]
            elif one.patched_subject is not None:
                owner = (one.patched_subject.kind, one.patched_subject.namespace, one.patched_subject.value)
            else:  # an event that names nobody is sealed under a key of its source and day
                owner = ("source_day", "", f"{one.occurred_at[:10]} {one.source}")
                wanted[owner] = None
        return Parted(
            encoded, personal, one.personal_extensions, owner, owners, identifiers, references, contact
        )

    def _other(self, value: Any) -> Named | None:
        """The identifier of another person whom a value names, if it names one."""
        text = value.get("ref") if isinstance(value, dict) else value
        if not isinstance(text, str):
            return None
        if ":" not in text:
            text = f"email:{text}" if "@" in text else f"phone:{text}" if text.startswith("+") else text
        try:
            found = normalised(parse_ref(text), self._region)
        except Invalid:
            return None
        return (found.kind, found.namespace, found.value) if found is not None else None

    def item(
        self,
        event: Draft,
        parted: Parted,
        subjects: dict[Named, SubjectKeys],
        nonce: Callable[[], bytes],
        *,
        canonical: bytes,
        principal: str,
        import_id: str | None,
    ) -> Item:
        """Seal what is personal and write the body of the entry.

        Args:
            subjects: the keys of every identifier that `parted` noted.
            nonce: gives 12 bytes that were never used with a key before.
            canonical: the payload as its source sent it, in canonical JSON: what tells a repeat from a conflict.
            principal: the id of the API key that appends.
        """
        declared = event.declared
        raw_id = event_id_of(event.source, event.id)
        event_id = uuid_text(raw_id)
        sealed: list[bytes] = []
        if parted.owner is not None:
            keys = subjects[parted.owner]
            if parted.personal:
                sealed.append(_shut(keys, event_id, declared, "data", parted.personal, nonce()))
            if parted.extensions:
                sealed.append(_shut(keys, event_id, declared, "extensions", parted.extensions, nonce()))
        for named, values in parted.others.items():
            sealed.append(_shut(subjects[named], event_id, declared, "data", values, nonce()))
        # The facts of this one event, in the order of their names; all else stands in the frame.
        facts: list[bytes] = []
        there = 0
        if event.causation is not None:
            facts.append(orjson.dumps(event.causation))
            there |= Frames.CAUSATION
        if parted.contact is not None:
            facts.append(subjects[parted.contact].key_id.encode())
            there |= Frames.CONTACT
        if event.correlation is not None:
            facts.append(orjson.dumps(event.correlation))
            there |= Frames.CORRELATION
        if parted.plain != b"{}":
            facts.append(parted.plain)
            there |= Frames.DATA
        facts.append(event_id.encode())
        if event.extensions:
            facts.append(_canonical(event.extensions))
            there |= Frames.EXTENSIONS
        facts.append(orjson.dumps(event.id))
        facts.append(event.occurred_at.encode())
        if event.on_behalf_of is not None and event.on_behalf_of != principal:
            facts.append(orjson.dumps(event.on_behalf_of))
            there |= Frames.ON_BEHALF_OF
        if event.patched_subject is not None:
            patched = event.patched_subject
            facts.append(_surrogates([(patched.kind, patched.namespace, patched.value)], subjects)[1:-1])
            there |= Frames.PATCHED_SUBJECT
        if parted.references:
            facts.append(_surrogates(parted.references, subjects))
            there |= Frames.REFERENCES
        if sealed:
            facts.append(b"[%b]" % b",".join(sealed))
            there |= Frames.SEALED
        if parted.identifiers:
            facts.append(_surrogates(parted.identifiers, subjects))
            there |= Frames.SUBJECTS
        if event.future:
            there |= Frames.FUTURE
        if not event.occurred_at_given:
            there |= Frames.TIME_NOT_GIVEN
        frame = self._frames.of(
            there, declared, event.channel, event.direction, event.source, principal, import_id
        )
        body = frame % tuple(facts)
        return _new_item(Item, (raw_id, declared.name, body, self._keys.payload_hash(canonical), 1))


def _shut(
    keys: SubjectKeys, event_id: str, declared: EventType, group: str, values: dict[str, Any], nonce: bytes
) -> bytes:
    """The JSON of one sealed group: key id, group, and what is sealed."""
    key_id = keys.key_id
    aad = associated(event_id, declared.name, declared.version, group, key_id)
    return b'["%b","%b","%b"]' % (
        key_id.encode(),
        group.encode(),
        seal(keys.content, values, aad, nonce),
    )


_new_item = tuple.__new__  # of a named tuple, at half the price of its own constructor


def _part_correction(
    declared: EventType, data: dict[str, Any]
) -> tuple[bytes, dict[str, Any], list[tuple[str, Any]]]:
    """(plain data, sealed values, values that name others) of a correction: its patch is parted as an event's data is."""
    patch = data["patch"]
    parts, _ = part(declared, {k: v for k, v in data.items() if k != "patch"}, _canonical)
    inner, _ = part(any_type(), patch.get("data") or {}, _canonical)
    plain: dict[str, Any] = {
        k: patch[k] for k in ("time", "channel", "direction") if patch.get(k) is not None
    }
    if patch.get("data"):
        # What is sealed leaves a null: the old value no longer holds, and what holds is nothing for plain eyes.
        plain["data"] = dict.fromkeys(patch["data"]) | inner.plain
    personal = parts.personal | {f"/patch/data{place}": value for place, value in inner.personal.items()}
    others = parts.others + [(f"/patch/data{place}", value) for place, value in inner.others]
    if patch.get("subject") is not None:
        personal["/patch/subject"] = patch["subject"]
    return _canonical({**parts.plain, "patch": plain}), personal, others


def _part_consent_correction(
    declared: EventType, data: dict[str, Any]
) -> tuple[bytes, dict[str, Any], list[tuple[str, Any]]]:
    """The same of a correction of a consent fact: what its patch says of scope and time stays plain, for every look asks it."""
    patch = data.get("patch") or {}
    parts, _ = part(declared, {k: v for k, v in data.items() if k != "patch"}, _canonical)
    inner, _ = part(TYPES["consent.given"], {k: v for k, v in patch.items() if k != "subject"}, _canonical)
    plain = dict.fromkeys(patch) | inner.plain  # what is sealed leaves a null
    personal = parts.personal | {f"/patch{place}": value for place, value in inner.personal.items()}
    if patch.get("subject") is not None:
        personal["/patch/subject"] = patch["subject"]
    others = parts.others + [(f"/patch{place}", value) for place, value in inner.others]
    return _canonical({**parts.plain, "patch": plain}), personal, others


_canonical = partial(orjson.dumps, option=orjson.OPT_SORT_KEYS)


def _surrogates(identifiers: list[Named], subjects: dict[Named, SubjectKeys]) -> bytes:
    """The JSON of [(surrogate, kind, namespace)]; kind and namespace of a REF need quoting where they are odd."""
    found = []
    for named in identifiers:
        kind, namespace, _ = named
        behind = _kinds.get((kind, namespace))
        if behind is None:
            behind = b"," + orjson.dumps([kind, namespace])[1:]
            if len(_kinds) < 10_000:
                _kinds[kind, namespace] = behind
        found.append(b'["%b"%b' % (subjects[named].key_id.encode(), behind))
    return b"[%b]" % b",".join(found)


_kinds: dict[tuple[str, str], bytes] = {}
"""How the entry of an identifier ends, by kind and namespace."""
