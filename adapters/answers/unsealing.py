"""Opening sealed fields on reading: what was erased reads as a marker, never as an error (SEMANTICS §7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from adapters.keys import associated, open_sealed
from adapters.postgres.subjects import Subjects
from domain.entry import Body
from domain.errors import Misconfigured
from domain.personal import merge

__all__ = ["ERASED", "key_ids", "unseal"]

ERASED: dict[str, Any] = {"erased": True}
"""Stands where a personal value was whose key is destroyed."""


def key_ids(events: Iterable[Body]) -> set[str]:
    """The ids of all keys that *events* need to be read."""
    return {key_id for event in events for key_id, _, _ in event.sealed}


async def unseal(subjects: Subjects, events: list[Body]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(data, extensions) of every event as its source sent them."""
    ciphers = await subjects.ciphers(key_ids(events))
    return [opened(event, ciphers) for event in events]


def opened(event: Body, ciphers: Mapping[str, AESGCM | None]) -> tuple[dict[str, Any], dict[str, Any]]:
    """(data, extensions) of one event; groups whose key is gone are told under `erased`."""
    data: dict[str, Any] = {}
    extensions: dict[str, Any] = dict(event.extensions)
    sealed: dict[str, Any] = {}
    erased = False
    for key_id, group, text in event.sealed:
        cipher = ciphers.get(key_id)
        if cipher is None:
            erased = True
            continue
        aad = associated(event.event_id, event.type, event.version, group, key_id)
        try:
            values = open_sealed(cipher, text, aad)
        except InvalidTag:
            raise Misconfigured(
                f"A sealed field of event {event.event_id} does not open: the entry or its key was tampered with."
            ) from None
        (extensions if group == "extensions" else sealed).update(values)
    if "" in sealed:  # an undeclared type: all of its data is sealed as one
        data = sealed[""]
    else:
        data = merge(event.data, sealed) if sealed else dict(event.data)
    if erased:
        data["erased"] = ERASED["erased"]
    return data, extensions
