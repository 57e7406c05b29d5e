"""Frames: what bodies of events that look alike have in common, written once.

Sources send events of one type with the same attributes again and again. The body of an entry is
canonical JSON (domain/entry.py); of its members most are the same for all of these, and stand in a
frame, with a place left for each fact of the single event. Filling a frame costs a third of
encoding the body anew, and gives the same bytes, because the encoder wrote the frame.
"""

from __future__ import annotations

import orjson

from domain.event import EventType

__all__ = ["Frames"]

_MOST = 10_000
_PLACE = b"\x00"  # no JSON text holds it


class Frames:
    """The frames used lately. The flags say which members a body has."""

    CAUSATION, CONTACT, CORRELATION, DATA = 1, 2, 4, 8
    EXTENSIONS, ON_BEHALF_OF, REFERENCES, SEALED, SUBJECTS = 16, 32, 64, 128, 256
    FUTURE, TIME_NOT_GIVEN, PATCHED_SUBJECT = 512, 1024, 2048

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], bytes] = {}

    def of(
        self,
        there: int,
        declared: EventType,
        channel: str,
        direction: str | None,
        source: str,
        principal: str,
        import_id: str | None,
    ) -> bytes:
        """A pattern for bytes' `%` operator, with `%b` for each fact, in the order of the members' names.

        Args:
            there: the sum of the flags of what the body has. The facts are the JSON of each member, but for
                `contact`, `event_id` and `occurred_at`, whose quotes stand in the frame.
        """
        look = (there, declared.name, declared.version, channel, direction, source, principal, import_id)
        frame = self._known.get(look)
        if frame is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            frame = self._known[look] = _written(
                there, declared, channel, direction, source, principal, import_id
            )
        return frame


def _written(
    there: int,
    declared: EventType,
    channel: str,
    direction: str | None,
    source: str,
    principal: str,
    import_id: str | None,
) -> bytes:
    fact, quoted = orjson.Fragment(_PLACE), orjson.Fragment(b'"%b"' % _PLACE)
    body: dict[str, object] = {
        "channel": channel,
        "event_id": quoted,
        "id": fact,
        "occurred_at": quoted,
        "principal": principal,
        "source": source,
        "type": declared.name,
        "version": declared.version,
    }
    for flag, name in (
        (Frames.CAUSATION, "causation"),
        (Frames.CORRELATION, "correlation"),
        (Frames.DATA, "data"),
        (Frames.EXTENSIONS, "extensions"),
        (Frames.ON_BEHALF_OF, "on_behalf_of"),
        (Frames.PATCHED_SUBJECT, "patched_subject"),
        (Frames.REFERENCES, "references"),
        (Frames.SEALED, "sealed"),
        (Frames.SUBJECTS, "subjects"),
    ):
        if there & flag:
            body[name] = fact
    if there & Frames.CONTACT:
        body["contact"] = quoted
    if there & Frames.FUTURE:
        body["future"] = True
    if there & Frames.TIME_NOT_GIVEN:
        body["occurred_at_given"] = False
    if direction is not None:
        body["direction"] = direction
    if import_id is not None:
        body["import"] = import_id
    written = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return written.replace(b"%", b"%%").replace(_PLACE, b"%b")
