"""Deliveries: what a channel makes of a request is recorded, and what it cannot make anything of is kept.

A dead letter holds the whole request, bytes and headers, sealed, so that it can be translated again after an
update, or by a person. What was recorded of it before answers `duplicate` then.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from adapters.channels import CHANNELS, Channel, Delivery, Translated, Untranslated
from adapters.intake.batches import accept
from adapters.intake.ingest import Answer, Ingest, Result
from adapters.intake.payloads import Payload
from adapters.postgres.channel_counts import Counted
from adapters.postgres.rejected import Kept, Rejected
from adapters.principal import Principal
from domain.errors import Problem

__all__ = ["Taken", "delivery_of", "is_letter", "letter", "take", "take_again"]

_SECRET_HEADERS = frozenset({"authorization", "cookie", "proxy-authorization"})
_MOST_PROBLEMS = 100
"""Problems told of one delivery; the delivery holds them all."""


class Taken(msgspec.Struct):
    """What became of a delivery."""

    answer: Answer
    found: list[Translated | Untranslated]
    received_at: datetime
    letters: int = 0

    @property
    def counted(self) -> Counted:
        """What the channel's health adds up."""
        lags: list[float] = []
        numbers: list[tuple[str, int]] = []
        good = (one for one in self.found if isinstance(one, Translated))
        for one, result in zip(good, self.answer.results, strict=True):
            if result.status == "recorded":
                lags.append(max(0.0, (self.received_at - one.occurred_at).total_seconds()))
                if one.number is not None:
                    numbers.append(one.number)
        answer = self.answer
        return Counted(
            answer.recorded,
            answer.duplicates,
            answer.conflicts,
            self.rejected,
            lags,
            numbers,
            self.received_at,
        )

    @property
    def rejected(self) -> int:
        """Items that are no touchpoint, or none that may be recorded."""
        return self.answer.rejected + sum(isinstance(one, Untranslated) for one in self.found)


class _Letter(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A delivery as it is kept."""

    touchlog_delivery: int | None = None  # 1; absent in the first letters, whose members tell what they are
    channel: str
    source: str
    method: str
    url: str = ""
    call: str = ""
    unique: str
    received_at: datetime
    headers: dict[str, str]
    settings: dict[str, str] = {}
    body: str | None = None
    body_base64: str | None = None


def letter(channel: Channel, delivery: Delivery) -> bytes:
    """*delivery* as one JSON text; its body byte for byte, its credentials left out."""
    body = encoded = None
    try:
        body = delivery.body.decode("utf-8")
    except UnicodeDecodeError:
        encoded = base64.b64encode(delivery.body).decode()
    return msgspec.json.encode(
        _Letter(
            touchlog_delivery=1,
            channel=channel.name,
            source=delivery.source,
            method=delivery.method,
            url=delivery.url,
            call=delivery.call,
            unique=delivery.unique,
            received_at=delivery.received_at,
            headers={n: v for n, v in delivery.headers.items() if n not in _SECRET_HEADERS},
            settings=dict(delivery.settings),
            body=body,
            body_base64=encoded,
        )
    )


def is_letter(payload: bytes) -> bool:
    """Whether a kept payload is a whole delivery and not one event."""
    return delivery_of(payload) is not None


def delivery_of(payload: bytes) -> tuple[str, Delivery] | None:
    """(name of the channel, the delivery) of a letter; None where *payload* is none."""
    if b'"received_at"' not in payload or b'"unique"' not in payload:
        return None
    try:
        read = msgspec.json.decode(payload, type=_Letter)
        raw = (
            base64.b64decode(read.body_base64) if read.body_base64 is not None else (read.body or "").encode()
        )
    except (msgspec.DecodeError, ValueError):
        return None
    return read.channel, Delivery(
        body=raw,
        headers=read.headers,
        received_at=read.received_at,
        source=read.source,
        unique=read.unique,
        method=read.method,
        url=read.url,
        call=read.call,
        settings=read.settings,
    )


async def take(
    ingest: Ingest,
    rejected: Rejected,
    channel: Channel,
    delivery: Delivery,
    principal: Principal,
    *,
    way_in: str,
    keep: bool = True,
) -> Taken:
    """Translate and record *delivery*; returns after the commit of what could be, and of the letter of what could not.

    Raises:
        Unavailable: the same delivery may be sent again.
    """
    found = channel.read(delivery)
    good = [one for one in found if isinstance(one, Translated)]
    payloads = [Payload(one.event, one.canonical) for one in good]  # `read` has checked them
    answer = await accept(ingest, payloads, principal, way_in=way_in, keep=False)
    taken = Taken(answer, found, delivery.received_at)
    if keep:
        letters = _letters(channel, delivery, found, good, answer.results, principal, way_in)
        if letters:
            await rejected.keep(letters)
        taken.letters = len(letters)
    return taken


def _letters(
    channel: Channel,
    delivery: Delivery,
    found: Sequence[Translated | Untranslated],
    good: Sequence[Translated],
    results: Sequence[Result],
    principal: Principal,
    way_in: str,
) -> list[Kept]:
    """One letter for all that could not be recorded, and one for each conflict."""
    kept: list[Kept] = []
    problems: list[Problem] = []
    places: list[str] = []
    event: Mapping[str, Any] = {}
    for one in found:
        if isinstance(one, Untranslated):
            problems += one.problems
            places.append(one.place)
    for translated, result in zip(good, results, strict=True):
        if result.status == "rejected":
            places.append(translated.place)
            problems += [
                msgspec.structs.replace(problem, pointer=f"{translated.place}{problem.pointer}")
                for problem in result.errors
            ]
            event = translated.event
        elif result.status == "conflict":
            kept.append(
                _kept(
                    "conflict",
                    translated.event,
                    channel,
                    delivery,
                    principal,
                    way_in,
                    translated.place,
                    result.errors,
                    result.position,
                )
            )
    if problems:
        alone = event if len(places) == 1 else {}
        place = places[0] if len(places) == 1 else f"{len(places):,} of {len(found):,} items"
        kept.append(
            _kept(
                "rejected",
                alone,
                channel,
                delivery,
                principal,
                way_in,
                place,
                problems[:_MOST_PROBLEMS],
                None,
            )
        )
    return kept


def _kept(
    status: str,
    event: Mapping[str, Any],
    channel: Channel,
    delivery: Delivery,
    principal: Principal,
    way_in: str,
    place: str,
    problems: list[Problem],
    position: int | None,
) -> Kept:
    return Kept(
        status=status,
        source=delivery.source,
        source_id=event.get("id"),
        type=event.get("type"),
        way_in=way_in,
        principal=principal.key_id,
        place=place or None,
        problems=problems,
        position=position,
        payload=letter(channel, delivery),
    )


async def take_again(
    ingest: Ingest, rejected: Rejected, payload: bytes, principal: Principal, *, way_in: str
) -> Result:
    """Translate a kept delivery again and record it; one result for the whole: the worst of its items'."""
    read = delivery_of(payload)
    assert read is not None
    name, delivery = read
    channel = CHANNELS.get(name)
    if channel is None:
        return Result(
            "rejected",
            errors=[
                Problem("", f"This touchlog has no channel '{name}'; update it and retry.", "no_channel")
            ],
        )
    taken = await take(ingest, rejected, channel, delivery, principal, way_in=way_in, keep=False)
    errors = [p for one in taken.found if isinstance(one, Untranslated) for p in one.problems]
    statuses = [result.status for result in taken.answer.results]
    for result in taken.answer.results:
        if result.status in ("rejected", "conflict"):
            errors += result.errors
    status = "duplicate"
    for worse in ("recorded", "conflict", "rejected"):
        if worse in statuses:
            status = worse
    if any(isinstance(one, Untranslated) for one in taken.found):
        status = "rejected"
    positions = [result.position for result in taken.answer.results if result.position is not None]
    return Result(status, positions[0] if positions else None, None, errors)
