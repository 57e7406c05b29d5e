"""The records log: who looked at what, and what was done to the installation.

It has the shape of the touchpoint log, its own counter and its own positions; reading a customer's
data appends here, never there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from adapters.keys import KeyFile, associated, seal
from adapters.postgres.event_log import Item
from adapters.postgres.subjects import Subjects
from adapters.postgres.writer import Writer
from domain.entry import event_id_of, moment, uuid_text

__all__ = ["Records"]


class Records:
    """Appends to the records log."""

    def __init__(
        self,
        writer: Writer,
        subjects: Subjects,
        keys: KeyFile,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._writer = writer
        self._subjects = subjects
        self._keys = keys
        self._clock = clock

    async def record(
        self,
        type_: str,
        *,
        principal: str,
        data: Mapping[str, Any],
        personal: Mapping[str, Any] | None = None,
        about: tuple[str, ...] = (),
        once: str | None = None,
    ) -> int:
        """Record one act, durably; returns its position in the records log.

        Args:
            type_: past tense, e.g. `access.recorded`.
            data: plain facts.
            personal: what may name somebody (a search, a REF); sealed under the key of the day.
            about: surrogates of the subjects whom the act is about.
            once: what makes it this act and no other; one that is on record already keeps its first words.
        """
        at = self._clock()
        source, id_ = "touchlog/records", once or os.urandom(16).hex()
        raw_id = event_id_of(source, id_)
        event_id = uuid_text(raw_id)
        body: dict[str, Any] = {
            "event_id": event_id,
            "source": source,
            "id": id_,
            "type": type_,
            "version": 1,
            "occurred_at": moment(at),
            "channel": "records",
            "direction": "internal",
            "principal": principal,
        }
        if data:
            body["data"] = dict(data)
        if about:
            body["subjects"] = [(s, "subject", "") for s in about]
        if personal:
            named = ("source_day", "", f"{at.date().isoformat()} {source}")
            keys = (await self._subjects.resolve({named: None}))[named]
            key_id = uuid_text(keys.subject)
            aad = associated(event_id, type_, 1, "data", key_id)
            sealed = {f"/{name}": value for name, value in personal.items()}
            shut = seal(keys.content, sealed, aad, os.urandom(12)).decode()
            body["sealed"] = [(key_id, "data", shut)]
        encoded = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
        (done,) = await self._writer.append([Item(raw_id, type_, encoded, self._keys.payload_hash(encoded))])
        return done.position

    async def access(
        self,
        principal: str,
        *,
        action: str,
        about: tuple[str, ...] = (),
        query: str | None = None,
        count: int | None = None,
        purpose: str | None = None,
        denied: bool = False,
        detail: Mapping[str, Any] | None = None,
    ) -> int:
        """Record a disclosure of personal data; to be awaited before it leaves.

        Args:
            action: the route or command, e.g. `history`.
            about: surrogates of the person's subjects.
            query: what was asked for, as typed (a REF, a search); sealed.
            count: how many entries or hits leave.
        """
        data: dict[str, Any] = {"action": action}
        if count is not None:
            data["count"] = count
        if purpose:
            data["purpose"] = purpose
        if denied:
            data["denied"] = True
        if detail:
            data.update(detail)
        return await self.record(
            "access.recorded",
            principal=principal,
            data=data,
            personal={"query": query} if query else None,
            about=about,
        )
