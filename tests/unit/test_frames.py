"""Frames: a body written into a frame has the very bytes that the encoder would write."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

import domain.touchpoints  # noqa: F401 - declares the types
from adapters.intake.frames import Frames
from domain.event import TYPES

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
_MEMBERS: dict[str, tuple[int, st.SearchStrategy[Any]]] = {
    "causation": (Frames.CAUSATION, _TEXT),
    "contact": (Frames.CONTACT, st.uuids().map(str)),
    "correlation": (Frames.CORRELATION, _TEXT),
    "data": (Frames.DATA, st.dictionaries(_TEXT, _TEXT, max_size=3)),
    "extensions": (Frames.EXTENSIONS, st.dictionaries(_TEXT, _TEXT, max_size=2)),
    "on_behalf_of": (Frames.ON_BEHALF_OF, _TEXT),
    "patched_subject": (Frames.PATCHED_SUBJECT, st.lists(_TEXT, min_size=3, max_size=3)),
    "references": (Frames.REFERENCES, st.lists(_TEXT, max_size=2)),
    "sealed": (Frames.SEALED, st.lists(_TEXT, max_size=2)),
    "subjects": (Frames.SUBJECTS, st.lists(_TEXT, max_size=2)),
}
_BARE = {"contact", "event_id", "occurred_at"}  # their quotes stand in the frame


@given(
    facts=st.fixed_dictionaries({}, optional={name: of for name, (_, of) in _MEMBERS.items()}),
    constants=st.fixed_dictionaries({"channel": _TEXT, "source": _TEXT, "principal": _TEXT}),
    direction=st.none() | st.just("inbound"),
    import_id=st.none() | _TEXT,
    future=st.booleans(),
    given_time=st.booleans(),
    source_id=_TEXT,
)
def test_a_filled_frame_equals_the_canonical_json_of_the_body(
    facts: dict[str, Any],
    constants: dict[str, str],
    direction: str | None,
    import_id: str | None,
    future: bool,
    given_time: bool,
    source_id: str,
) -> None:
    # given a body with any of its members
    declared = TYPES["call.ended"]
    single: dict[str, Any] = {
        **facts,
        "event_id": "01234567-89ab-8def-8123-456789abcdef",
        "id": source_id,
        "occurred_at": "2026-01-31T12:00:00.000000Z",
    }
    body: dict[str, Any] = {**single, **constants, "type": declared.name, "version": declared.version}
    there = sum(flag for name, (flag, _) in _MEMBERS.items() if name in facts)
    if direction is not None:
        body["direction"] = direction
    if import_id is not None:
        body["import"] = import_id
    if future:
        body["future"] = True
        there |= Frames.FUTURE
    if not given_time:
        body["occurred_at_given"] = False
        there |= Frames.TIME_NOT_GIVEN
    # when its facts are filled into the frame
    frame = Frames().of(
        there,
        declared,
        constants["channel"],
        direction,
        constants["source"],
        constants["principal"],
        import_id,
    )
    filled = frame % tuple(
        value.encode() if name in _BARE else orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        for name, value in sorted(single.items())
    )
    # then it is what the encoder writes of the whole
    assert filled == orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
