"""Outlines: what events that look alike have in common, learned of the first of them.

Sources send events of one type with the same attributes and the same fields again and again. Of the
first of each kind `draft` and `part` find out which rules concern it at all; of those behind it only
these are asked, in a straight line, and their body is written into the frame of the first. The whole
way (adapters/intake/ingest.py) gives the same bytes: whatever is doubtful about an event, and whatever is
rare, takes it, and is told there what is wrong. Events of an outline that is used often are not even
decoded, where they are spelled as one before was (adapters/intake/spellings.py).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from functools import partial
from typing import Any

import msgspec
import orjson

from adapters.intake.attributes import is_media_type
from adapters.intake.cloudevents import CORRECTIONS, LONGEST_NAME, Draft, Receipt
from adapters.intake.frames import Frames
from adapters.intake.named import told_ref
from adapters.intake.payloads import Payload
from adapters.intake.spellings import Spelling, spelling_of
from adapters.keys import KeyFile, SubjectKeys, associated, seal_encoded
from adapters.postgres.event_log import Item
from adapters.postgres.subjects import Subjects
from domain.consent.opt_outs import WORDED
from domain.entry import event_id_of, uuid_text
from domain.event import DIRECTIONS, EventType
from domain.identity import Identifier
from domain.personal import Plan, part_by, plan_of, suspicious

__all__ = ["Outlines"]

_MOST = 10_000
_MOST_SPELLINGS = 4
"""Of one type."""
_MOST_SPELLED = 256
"""Types with spellings, all in all."""
_TYPE_KEY = b'"type":'
_ATTRIBUTES = frozenset(
    "specversion id source type time subject data datacontenttype channel direction".split()
)
_NEEDED = frozenset("specversion id source type time subject data".split())
_FIELDS_OF_THE_WHOLE_WAY = frozenset("identifiers actor contact of patch".split())
"""Of data: they name somebody, or speak of another event."""
_PLACE = b"\x01"  # no JSON text and no associated data holds it

_Owner = tuple[SubjectKeys, bytes, bool, str, str]
"""(keys, their id, whether it is a reference, kind, namespace)."""
_MOST_OWNERS = 400_000

_Shape = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Of an event: its type, and the names of its attributes and of the fields of its data, in their order."""


class _Outline(msgspec.Struct, gc=False):
    declared: EventType
    plan: Plan | None
    is_free: bool
    """Nobody declared the type: its data whole is personal."""
    has_media_type: bool
    associated: bytes
    """The associated data of what is sealed, with places for the id of the event and that of the key."""
    frames: dict[tuple[Any, ...], bytes]
    decoded: int = 0
    """How many of its events were decoded."""


class _Spelled(msgspec.Struct, gc=False):
    """The spellings of a type, the last that matched in front."""

    spellings: list[tuple[Spelling, _Outline]]
    patience: int
    """Below zero nothing is matched any more: most events of this type are spelled otherwise each time."""


class Outlines:
    """The outlines learned lately.

    Args:
        spelled_after: events of an outline that have to be decoded before the spelling of one is learned, for
            that costs some milliseconds.
        patience: of a type, how many more events may have to be decoded after all than four of five before none
            of its spellings is tried any more.
    """

    def __init__(
        self,
        keys: KeyFile,
        subjects: Subjects,
        region: str | None,
        *,
        spelled_after: int = 64,
        patience: int = 256,
    ) -> None:
        self.spelled_after = spelled_after
        self.patience = patience
        self._keys = keys
        self._subjects = subjects
        self._region = region
        self._frames = Frames()
        self._known: dict[_Shape, _Outline | None] = {}
        self._spelled: dict[bytes, _Spelled] = {}
        self._owners: dict[str, _Owner] = {}
        self._days: set[str] = set()
        self._forgotten = subjects.forgotten

    def learn(self, event: dict[str, Any], one: Draft) -> None:
        """Note what holds for all events of the shape of *event*, whose draft the whole way made."""
        shape = _shape_of(event)
        if shape is None or shape in self._known:
            return
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[shape] = _outlined(event, one)

    def spelled(
        self,
        raw: bytes,
        may_append_from: Callable[[str], bool],
        principal: str,
        import_id: str | None,
        receipt: Receipt,
        nonce: Callable[[], bytes],
    ) -> tuple[str, Item] | Identifier | None:
        """(its id, what is appended) for an event of a known spelling, not decoded; None for any other.

        Where only its subject has to be resolved first it is that.
        """
        at = raw.find(_TYPE_KEY) + len(_TYPE_KEY)
        of_type = self._spelled.get(raw[at : raw.find(b'"', at + 2)])
        if of_type is None or of_type.patience < 0:
            return None
        spelling, outline = of_type.spellings[0]
        found = spelling.match(raw)
        if found is None:
            if not _another_matches(of_type, raw):
                return None
            spelling, outline = of_type.spellings[0]
            found = spelling.match(raw)
            assert found is not None
        elif of_type.patience < self.patience:
            of_type.patience += 1
        groups = found.groups()
        id_, from_source, written_time, subject, data = spelling.head(groups)
        source, name, time = from_source.decode(), id_.decode(), written_time.decode()
        occurred_at = time if len(time) == 27 else f"{time[:19]}.000000Z"
        if (
            source.startswith("touchlog/")
            or source.isspace()
            or name.isspace()
            or not may_append_from(source)
            or not "1900" <= occurred_at <= receipt.latest
            or (
                (spelling.fractions is not None or not raw.isascii())
                and not spelling.is_canonical(raw, groups)
            )
            or (time[:10] not in self._days and not self._is_day(time[:10]))
        ):
            return None
        if spelling.check is not None:
            try:
                spelling.check(data)
            except msgspec.ValidationError:
                return None
        plain = spelling.plain % spelling.plain_values(groups)
        if suspicious(plain, spelling.keys) and spelling.tells_personal(groups):
            return None
        ref = subject.decode()
        whose = self._owners.get(ref)
        if whose is None or self._forgotten != self._subjects.forgotten:
            looked_up = self._owner(ref)
            if not isinstance(looked_up, tuple):
                return looked_up
            whose = looked_up
        personal = None if spelling.personal is None else spelling.personal % spelling.personal_values(groups)
        raw_id = event_id_of(source, name)
        look = spelling.channel, spelling.direction, source, principal, import_id
        body = self._body(
            outline, whose, raw_id, b'"%b"' % id_, occurred_at, plain, personal, look, receipt, nonce
        )
        hashed = self._keys.payload_hash(spelling.canonical % spelling.canonical_values(groups))
        return name, _new_item(Item, (raw_id, outline.declared.name, body, hashed, 1))

    def item(
        self,
        payload: Payload,
        may_append_from: Callable[[str], bool],
        principal: str,
        import_id: str | None,
        receipt: Receipt,
        nonce: Callable[[], bytes],
        raw: bytes | None = None,
    ) -> Item | Identifier | None:
        """What is appended for an event, ready and sealed; None where it has to take the whole way.

        Where only its subject has to be resolved first it is that.

        Args:
            may_append_from: whether the principal may append events of a source.
            principal: the id of its key.
            raw: the event as it came, of which the spelling can be learned.
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
        direction, channel = get("direction"), get("channel")
        if (
            get("specversion") != "1.0"
            or type(source) is not str
            or not source.isprintable()
            or not 0 < len(source) <= LONGEST_NAME
            or source.isspace()
            or source.startswith("touchlog/")
            or type(id_) is not str
            or not id_.isprintable()
            or not 0 < len(id_) <= LONGEST_NAME
            or id_.isspace()
            or (direction is not None and direction not in DIRECTIONS)
            or (
                channel is not None
                and (
                    type(channel) is not str
                    or not 0 < len(channel) <= 64
                    or not channel.isprintable()
                    or channel.isspace()
                )
            )
            or (outline.has_media_type and not is_media_type(get("datacontenttype")))
            or type(time) is not str
            or type(subject) is not str
            or not may_append_from(source)
        ):
            return None
        occurred_at = _occurred_at(time, receipt)
        if occurred_at is None:
            return None
        try:
            msgspec.convert(time, datetime)
            if not outline.is_free:
                msgspec.convert(data, outline.declared.cls)
        except msgspec.ValidationError:
            return None
        whose = self._owners.get(subject)
        if whose is None or self._forgotten != self._subjects.forgotten:
            looked_up = self._owner(subject)
            if not isinstance(looked_up, tuple):
                return looked_up
            whose = looked_up

        personal: bytes | None
        if outline.is_free:
            plain, personal = b"{}", _canonical({"": data})
        else:
            parts, plain = part_by(outline.plan, data, _canonical)
            personal = _canonical(parts.personal) if parts.personal else None
        raw_id = event_id_of(source, id_)
        look = channel, direction, source, principal, import_id
        body = self._body(
            outline, whose, raw_id, orjson.dumps(id_), occurred_at, plain, personal, look, receipt, nonce
        )
        made = _new_item(
            Item, (raw_id, outline.declared.name, body, self._keys.payload_hash(payload.canonical), 1)
        )
        outline.decoded += 1
        if raw is not None and outline.decoded % self.spelled_after == 0:
            self._learn_spelling(raw, payload, outline, receipt)
        return made

    def _body(
        self,
        outline: _Outline,
        whose: _Owner,
        raw_id: bytes,
        id_: bytes,
        occurred_at: str,
        plain: bytes,
        personal: bytes | None,
        look: tuple[str | None, ...],
        receipt: Receipt,
        nonce: Callable[[], bytes],
    ) -> bytes:
        """The body of the entry: the facts of the event, sealed where they are personal, in the frame of its like."""
        owner, key_id, is_reference, kind, namespace = whose
        event_id = uuid_text(raw_id).encode()
        there = Frames.REFERENCES if is_reference else Frames.SUBJECTS
        if plain == b"{}":
            facts = [event_id, id_, occurred_at.encode()]
        else:
            there |= Frames.DATA
            facts = [plain, event_id, id_, occurred_at.encode()]
        if is_reference:
            facts.append(key_id)
        if personal is not None:
            there |= Frames.SEALED
            bound = outline.associated % (event_id, key_id)
            facts += (key_id, seal_encoded(owner.content, personal, bound, nonce()))
        if not is_reference:
            facts.append(key_id)
        if occurred_at > receipt.text:
            there |= Frames.FUTURE
        whole_look = there, kind, namespace, *look
        frame = outline.frames.get(whole_look)
        if frame is None:
            frame = self._framed(outline, whole_look)
        return frame % tuple(facts)

    def _learn_spelling(self, raw: bytes, payload: Payload, outline: _Outline, receipt: Receipt) -> None:
        """Note how *raw* is spelled, an event that was just decoded, if that gives the same bytes."""
        at = raw.find(_TYPE_KEY) + len(_TYPE_KEY)
        key = raw[at : raw.find(b'"', at + 2)]
        of_type = self._spelled.get(key)
        if of_type is not None and (of_type.patience < 0 or len(of_type.spellings) >= _MOST_SPELLINGS):
            return
        spelling = spelling_of(raw, outline.declared, outline.plan)
        if spelling is None:
            return
        if of_type is None:
            if len(self._spelled) >= _MOST_SPELLED:
                self._spelled.clear()
            of_type = self._spelled[key] = _Spelled([], self.patience)
        of_type.spellings.insert(0, (spelling, outline))
        again = _everywhere, "", None, receipt, _no_nonce  # what is sealed here is thrown away
        decoded, spelled = self.item(payload, *again), self.spelled(raw, *again)
        if not isinstance(spelled, tuple) or spelled[1] != decoded:
            of_type.spellings = [each for each in of_type.spellings if each[0] is not spelling]
            if not of_type.spellings:
                del self._spelled[key]

    def _is_day(self, written: str) -> bool:
        """Whether the calendar has this day; kept, for most events happen on few."""
        try:
            date.fromisoformat(written)
        except ValueError:
            return False
        if len(self._days) >= _MOST:
            self._days.clear()
        self._days.add(written)
        return True

    def _owner(self, subject: str) -> _Owner | Identifier | None:
        """Whose event it is, by the REF that it names; kept until the subjects are forgotten.

        Where that subject is not in memory it is the identifier; where something is wrong with the REF, None.
        """
        if self._forgotten != self._subjects.forgotten or len(self._owners) >= _MOST_OWNERS:
            self._owners.clear()
            self._forgotten = self._subjects.forgotten
        known = told_ref(subject, self._region)
        if known is None:
            return None
        identifier, is_reference = known
        kind, namespace = identifier.kind, identifier.namespace
        owner = self._subjects.known((kind, namespace, identifier.value))
        if owner is None:
            return identifier
        found = self._owners[subject] = owner, owner.key_id.encode(), is_reference, kind, namespace
        return found

    def _framed(self, outline: _Outline, look: tuple[Any, ...]) -> bytes:
        """The pattern of bodies of an outline, with a place for each fact of the single event."""
        there, kind, namespace, channel, direction, source, principal, import_id = look
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


def _another_matches(of_type: _Spelled, raw: bytes) -> bool:
    """Whether another spelling than the first matches *raw*; it is the first then."""
    for number, (spelling, _) in enumerate(of_type.spellings):
        if number and spelling.match(raw) is not None:
            of_type.spellings.insert(0, of_type.spellings.pop(number))
            return True
    of_type.patience -= 4
    return False


def _everywhere(_: str) -> bool:
    return True


def _no_nonce() -> bytes:
    return bytes(12)


def _occurred_at(time: str, receipt: Receipt) -> str | None:
    """A time that is written as it will stand; any other is read by the whole way."""
    if len(time) == 20:
        text = f"{time[:19]}.000000Z"
    elif len(time) == 27:
        text = time
    else:
        return None
    return text if time[-1] == "Z" and time[10] == "T" and "1900" <= text <= receipt.latest else None


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
