"""Outlines: what events that look alike have in common, learned of the first of them.

Sources send events of one type with the same attributes and the same fields again and again. Of the
first of each kind `draft` and `part` find out which rules concern it at all; of those behind it only
these are asked, in a straight line, and their body is written into the frame of the first. The whole
way (adapters/ingest.py) gives the same bytes: whatever is doubtful about an event, and whatever is
rare, takes it, and is told there what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
import orjson

from adapters.attributes import is_media_type
from adapters.cloudevents import CORRECTIONS, DIRECTIONS, LONGEST_NAME, Draft, Payload, Receipt, known_ref
from adapters.frames import Frames
from adapters.keys import KeyFile, SubjectKeys, associated, seal
from adapters.postgres.event_log import Item
from adapters.postgres.subjects import Subjects
from domain.consent.opt_outs import WORDED
from domain.entry import event_id_of, uuid_text
from domain.event import EventType
from domain.personal import Plan, part_by, plan_of

__all__ = ["Outlines"]

_MOST = 10_000
_ATTRIBUTES = frozenset(
    "specversion id source type time subject data datacontenttype channel direction".split()
)
_NEEDED = frozenset("specversion id source type time subject data".split())
_FIELDS_OF_THE_WHOLE_WAY = frozenset("identifiers actor contact of patch".split())
"""Of data: they name somebody, or speak of another event."""
_PLACE = b"\x01"  # no JSON text and no associated data holds it

_Owner = tuple[SubjectKeys, bytes, bool, str, str]
"""(keys, their id, whether it is a reference, kind, namespace)."""
_MOST_OWNERS = 200_000

_Shape = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Of an event: its type, and the names of its attributes and of the fields of its data, in their order."""


class _Outline(msgspec.Struct, frozen=True, gc=False):
    declared: EventType
    plan: Plan | None
    is_free: bool
    """Nobody declared the type: its data whole is personal."""
    has_media_type: bool
    associated: bytes
    """The associated data of what is sealed, with places for the id of the event and that of the key."""
    frames: dict[tuple[Any, ...], bytes]


class Outlines:
    """The outlines learned lately."""

    def __init__(self, keys: KeyFile, subjects: Subjects, region: str | None) -> None:
        self._keys = keys
        self._subjects = subjects
        self._region = region
        self._frames = Frames()
        self._known: dict[_Shape, _Outline | None] = {}
        self._owners: dict[str, _Owner] = {}
        self._forgotten = subjects.forgotten

    def learn(self, event: dict[str, Any], one: Draft) -> None:
        """Note what holds for all events of the shape of *event*, whose draft the whole way made."""
        shape = _shape_of(event)
        if shape is None or shape in self._known:
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[shape] = _outlined(event, one)

    def item(
        self,
        payload: Payload,
        may_append_from: Callable[[str], bool],
        principal: str,
        import_id: str | None,
        receipt: Receipt,
        nonce: Callable[[], bytes],
    ) -> Item | None:
        """What is appended for an event, ready and sealed; None where it has to take the whole way.

        Args:
            may_append_from: whether the principal may append events of a source.
            principal: the id of its key.
        """
        event = payload.event
        get = event.get
        data, name, source, id_, time, subject = (
            get("data"),
            get("type"),
            get("source"),
            get("id"),
            get("time"),
            get("subject"),
        )
        if type(data) is not dict or type(name) is not str:
            return None
        outline = self._known.get((name, tuple(event), tuple(data)))
        if outline is None:
            return None
        declared = outline.declared
        direction, channel = get("direction"), get("channel")
        if (
            get("specversion") != "1.0"
            or type(source) is not str
            or not source.isprintable()
            or not 0 < len(source) <= LONGEST_NAME
            or source.startswith("touchlog/")
            or type(id_) is not str
            or not id_.isprintable()
            or not 0 < len(id_) <= LONGEST_NAME
            or (direction is not None and direction not in DIRECTIONS)
            or (
                channel is not None
                and (type(channel) is not str or not 0 < len(channel) <= 64 or not channel.isprintable())
            )
            or (outline.has_media_type and not is_media_type(get("datacontenttype")))
            or type(time) is not str
            or type(subject) is not str
            or not may_append_from(source)
        ):
            return None
        # A time that is written as it will stand; any other is read by the whole way.
        if len(time) == 20:
            occurred_at = f"{time[:19]}.000000Z"
        elif len(time) == 27:
            occurred_at = time
        else:
            return None
        if time[-1] != "Z" or time[10] != "T" or not "1900" <= occurred_at <= receipt.latest:
            return None
        whose = self._owners.get(subject)
        if whose is None or self._forgotten != self._subjects.forgotten:
            whose = self._owner(subject)
            if whose is None:
                return None
        owner, key_id, is_reference, kind, namespace = whose
        try:
            msgspec.convert(time, datetime)
            if not outline.is_free:
                msgspec.convert(data, declared.cls)
        except msgspec.ValidationError:
            return None

        there = Frames.REFERENCES if is_reference else Frames.SUBJECTS
        if outline.is_free:
            plain, personal = b"{}", {"": data}
        else:
            parts, plain = part_by(outline.plan, data, _canonical)
            personal = parts.personal
        raw_id = event_id_of(source, id_)
        event_id = uuid_text(raw_id).encode()
        facts = [plain] if plain != b"{}" else []
        facts += (event_id, orjson.dumps(id_), occurred_at.encode())
        if is_reference:
            facts.append(key_id)
        if personal:
            there |= Frames.SEALED
            facts += (key_id, seal(owner.content, personal, outline.associated % (event_id, key_id), nonce()))
        if not is_reference:
            facts.append(key_id)
        if plain != b"{}":
            there |= Frames.DATA
        if occurred_at > receipt.text:
            there |= Frames.FUTURE
        look = (
            there,
            channel,
            direction,
            source,
            principal,
            import_id,
            kind,
            namespace,
        )
        frame = outline.frames.get(look)
        if frame is None:
            frame = self._framed(outline, look)
        body = frame % tuple(facts)
        return _new_item(Item, (raw_id, declared.name, body, self._keys.payload_hash(payload.canonical), 1))

    def _owner(self, subject: str) -> _Owner | None:
        """Whose event it is, by the REF that it names, where that was read and found lately; kept until the subjects are forgotten."""
        if self._forgotten != self._subjects.forgotten or len(self._owners) >= _MOST_OWNERS:
            self._owners.clear()
            self._forgotten = self._subjects.forgotten
        known = known_ref(subject, self._region)
        if known is None:
            return None
        identifier, is_reference = known
        kind, namespace = identifier.kind, identifier.namespace
        owner = self._subjects.known((kind, namespace, identifier.value))
        if owner is None:
            return None
        found = self._owners[subject] = owner, owner.key_id.encode(), is_reference, kind, namespace
        return found

    def _framed(self, outline: _Outline, look: tuple[Any, ...]) -> bytes:
        """The pattern of bodies of an outline, with a place for each fact of the single event."""
        there, channel, direction, source, principal, import_id, kind, namespace = look
        declared = outline.declared
        named = b'[["%b",%b' % (_PLACE, orjson.dumps([kind, namespace])[1:] + b"]")
        facts = [_PLACE] if there & Frames.DATA else []
        facts += [_PLACE] * 3
        if there & Frames.REFERENCES:
            facts.append(named)
        if there & Frames.SEALED:
            facts.append(b'[["%b","data","%b"]]' % (_PLACE, _PLACE))
        if there & Frames.SUBJECTS:
            facts.append(named)
        frame = self._frames.of(
            there,
            declared,
            channel or declared.channel,
            direction or declared.direction,
            source,
            principal,
            import_id,
        )
        if len(outline.frames) >= _MOST:
            outline.frames.clear()
        written = outline.frames[look] = _pattern(frame % tuple(facts))
        return written


_canonical = partial(orjson.dumps, option=orjson.OPT_SORT_KEYS)
_new_item = tuple.__new__  # of a named tuple, at half the price of its own constructor


def _shape_of(event: dict[str, Any]) -> _Shape | None:
    data, name = event.get("data"), event.get("type")
    if type(data) is not dict or type(name) is not str:
        return None
    return name, tuple(event), tuple(data)


def _outlined(event: dict[str, Any], one: Draft) -> _Outline | None:
    """The outline of all events of the shape of *event*; None where they have to take the whole way."""
    declared, fields = one.declared, event["data"].keys()
    if (
        not _NEEDED <= event.keys() <= _ATTRIBUTES
        or declared.name in CORRECTIONS
        or declared.name in WORDED
        or not declared.touchpoint
        or declared.internal
        or fields & _FIELDS_OF_THE_WHOLE_WAY
        or fields & declared.others
        or not fields
    ):
        return None
    is_free = not declared.fields
    plan = None if is_free else plan_of(declared, event["data"])
    place = _PLACE.decode()
    bound = associated(place, declared.name, declared.version, "data", place)
    return _Outline(declared, plan, is_free, "datacontenttype" in event, _pattern(bound), {})


def _pattern(written: bytes) -> bytes:
    """*written* as a pattern of bytes' `%` operator, with `%b` for each place."""
    return written.replace(b"%", b"%%").replace(_PLACE, b"%b")
