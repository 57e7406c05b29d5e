"""The entry of an event: the bytes that the log keeps for ever and that proofs hash (SEMANTICS §1).

An entry is one line with what only the commit knows, a newline, and the body: canonical JSON
(sorted keys, as orjson writes it) of every other fact. Facts that an event does not have are left
out of the body. The leaf of the tree is SHA-256(0x00 ‖ entry), RFC 6962 §2.1.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec

__all__ = [
    "LAST_INSTANT",
    "LAST_POSITION",
    "Body",
    "Recorded",
    "decode_body",
    "entry",
    "event_id_of",
    "first_line",
    "in_zone",
    "leaf_hash",
    "moment",
    "moment_once",
    "recorded",
    "surrogate_of",
    "uuid_bytes",
    "uuid_of",
    "uuid_text",
    "within_calendar",
]


LAST_POSITION = 2**63 - 1
"""Positions are whole numbers of 64 bits with a sign, as PostgreSQL has them."""


class Body(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    gc=False,  # it holds no cycle, and there are millions of them
    rename={"import_id": "import", "data_json": "data", "sealed_json": "sealed"},
):
    """The body of an entry, as stored; field names are those of the canonical JSON, for ever.

    `data` and `sealed` are decoded when they are asked for: most readers look at neither.
    """

    event_id: str
    source: str
    id: str
    type: str
    version: int
    occurred_at: datetime
    occurred_at_given: bool = True  # False: the source gave no time, and the time of receipt stands in
    channel: str
    direction: str | None = None
    subjects: tuple[tuple[str, str, str], ...] = ()  # (surrogate, kind, namespace), in order of priority
    references: tuple[tuple[str, str, str], ...] = ()
    contact: str | None = None  # surrogate of the contact point
    extensions: dict[str, str | int] = {}
    principal: str = ""
    on_behalf_of: str | None = None
    correlation: str | None = None
    causation: str | None = None
    import_id: str | None = None
    stream: str | None = None  # of a decision; a touchpoint is a stream of its own
    future: bool = False  # occurred_at lay after the time of receipt
    patched_subject: tuple[str, str, str] | None = None  # of a correction: whom the event was really about
    data_json: msgspec.Raw = msgspec.Raw(b"{}")
    sealed_json: msgspec.Raw = msgspec.Raw(b"[]")

    @property
    def data(self) -> dict[str, Any]:
        """The plain properties."""
        found: dict[str, Any] = msgspec.json.decode(self.data_json)
        return found

    @property
    def sealed(self) -> list[tuple[str, str, str]]:
        """The sealed ones: (key id, field group, base64 of nonce and ciphertext)."""
        return _decode_sealed(self.sealed_json)


class Recorded(msgspec.Struct, frozen=True, gc=False):
    """An event with what its commit gave it: the type that says it is in the log."""

    position: int
    recorded_at: datetime
    event: Body

    @property
    def subject(self) -> str | None:
        """The first subject, to whose person the event belongs; None for an event that names nobody."""
        return self.event.subjects[0][0] if self.event.subjects else None


_decode = msgspec.json.Decoder(Body).decode
_decode_sealed = msgspec.json.Decoder(list[tuple[str, str, str]]).decode


def decode_body(body: bytes) -> Body:
    """Read a body; raises msgspec.ValidationError for one that touchlog did not write."""
    return _decode(body)


def recorded(position: int, recorded_at: datetime, body: bytes) -> Recorded:
    """An event as read from the log."""
    return Recorded(position, recorded_at, _decode(body))


_written = msgspec.json.Encoder().encode


def moment_once(at: datetime) -> str:
    """`moment`, of a time that is not asked for again: it is not remembered."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    text = _written(at).decode()  # a fifth of the cost of isoformat
    return text[1:-1] if len(text) == 29 else f"{text[1:20]}.000000Z"


_FIRST = datetime(1, 1, 1, tzinfo=UTC)
LAST_INSTANT = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
"""The last of the calendar."""


def within_calendar(at: datetime) -> datetime:
    """*at*; an instant that has no date in UTC is the calendar's first or last, which every store can give back."""
    try:
        return at.astimezone(UTC)
    except OverflowError:
        return LAST_INSTANT if at.year > 1 else _FIRST


def in_zone(at: datetime, zone: tzinfo) -> datetime:
    """*at* as clocks show it in *zone*; an instant that has no date there is shown in UTC."""
    try:
        return at.astimezone(zone)
    except OverflowError:  # "for ever" is often written 9999-12-31T23:59:59Z
        return at.astimezone(UTC)


@lru_cache(maxsize=4096)  # all events of one commit share a time, and readers ask for one after the other
def moment(at: datetime) -> str:
    """The one spelling of a time in entries: UTC, six decimals, `Z`."""
    return moment_once(at)


def first_line(log_id: str, position: int, recorded_at: datetime) -> bytes:
    """The line of an entry that only the commit knows."""
    return f'{{"log":"{log_id}","position":{position},"recorded_at":"{moment(recorded_at)}"}}'.encode()


def entry(log_id: str, position: int, recorded_at: datetime, body: bytes) -> bytes:
    """The bytes that stand for one event in proofs."""
    return first_line(log_id, position, recorded_at) + b"\n" + body


def leaf_hash(entry_bytes: bytes) -> bytes:
    """SHA-256(0x00 ‖ entry), the leaf of RFC 6962 §2.1; 32 bytes."""
    return hashlib.sha256(b"\x00" + entry_bytes).digest()


_NAMESPACE = hashlib.sha256(b"touchlog:event\x00")


def event_id_of(source: str, source_id: str) -> bytes:
    """The id of the event with this key: 16 bytes, a UUID of version 8 (RFC 9562 §5.8).

    Made of source and id alone, so that an event sent twice is the same event, on every machine.
    Neither may hold NUL, which parts them.
    """
    state = _NAMESPACE.copy()
    state.update(f"{source}\x00{source_id}".encode())
    raw = bytearray(state.digest()[:16])
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return bytes(raw)


def uuid_text(raw: bytes) -> str:
    """16 bytes as the text of a UUID; half the cost of building a UUID object."""
    h = raw.hex()
    return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"


def uuid_of(text: str) -> UUID:
    """The UUID that *text* writes; a quarter of the price of its own constructor.

    Raises:
        msgspec.ValidationError: it writes none.
    """
    return msgspec.convert(text, UUID)


surrogate_of = lru_cache(maxsize=200_000)(uuid_of)
"""`uuid_of` for surrogates: the same subjects come again, in one read model after another."""


def uuid_bytes(text: str) -> bytes:
    """The 16 bytes of a UUID's text."""
    return UUID(text).bytes
