"""Conversations: calls, chats and mails joined by their conversation, thread or case."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from msgspec import Meta

from domain.entry import moment
from projections.projection import Effective, Index, Joining, Table, projection

__all__ = ["TABLE", "Conversation", "Conversations"]

_FAMILIES = ("call.", "chat.", "email.", "sms.", "message.", "case.")


class Conversation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Contacts that belong together."""

    conversation: Annotated[str, Meta(description="What joins them: the field and its value")]
    subject: Annotated[UUID | None, Meta(description="First subject of its first event that names somebody")]
    channels: Annotated[list[str], Meta(description="Channels over which it went, in order of first use")]
    first_type: Annotated[str, Meta(description="What it began with")]
    last_type: Annotated[str, Meta(description="What it ended with so far")]
    started_at: Annotated[datetime, Meta(description="When its first event happened")]
    last_at: Annotated[datetime, Meta(description="When its last event happened")]
    events: Annotated[int, Meta(description="How many events it has")]
    inbound: Annotated[int, Meta(description="How many of them came from the customer")]
    outbound: Annotated[int, Meta(description="How many of them went to the customer")]
    last_position: Annotated[int, Meta(description="The event that happened last: the way back into the log")]
    first_event: Annotated[
        str, Meta(description="Its first event: time, source and id, which tell the order")
    ]
    last_event: Annotated[str, Meta(description="Its last event: time, source and id")]
    named_by: Annotated[str | None, Meta(description="Its first event that names somebody")]
    channels_first: Annotated[list[str], Meta(description="The first event over each of its channels")]


TABLE = Table("conversations", Conversation, key=("conversation",), indexes=(Index(("subject", "last_at")),))

_surrogate = lru_cache(maxsize=200_000)(UUID)


class _Joined(msgspec.Struct, gc=False):
    """What of an event's data joins it to others."""

    conversation_id: Any = None
    thread_id: Any = None
    case_id: Any = None


_joined_by = msgspec.json.Decoder(_Joined).decode


@projection
class Conversations(Joining):
    """Joins each conversation from its events, in whatever order they come."""

    name = "conversations"
    version = 1
    tables: ClassVar[tuple[Table[Conversation], ...]] = (TABLE,)

    def rows(self, event: Effective) -> Iterable[Conversation]:
        """A row for the conversation, the thread and the case that the event names."""
        told = event.recorded.event
        if not told.type.startswith(_FAMILIES):
            return ()
        by = _joined_by(told.data_json)
        keys = [
            f"{name}:{value}"
            for name, value in (
                ("case", by.case_id),
                ("conversation", by.conversation_id),
                ("thread", by.thread_id),
            )
            if value is not None
            and isinstance(value, str | int)
            and not isinstance(value, bool)
            and value != ""
        ]
        if not keys:
            return ()
        at = told.occurred_at
        place = f"{moment(at)}\x1f{told.source}\x1f{told.id}"  # neither holds a control character
        subject = _surrogate(told.subjects[0][0]) if told.subjects else None
        return [
            Conversation(
                conversation=key,
                subject=subject,
                channels=[told.channel],
                first_type=told.type,
                last_type=told.type,
                started_at=at,
                last_at=at,
                events=1,
                inbound=int(told.direction == "inbound"),
                outbound=int(told.direction == "outbound"),
                last_position=event.recorded.position,
                first_event=place,
                last_event=place,
                named_by=None if subject is None else place,
                channels_first=[place],
            )
            for key in keys
        ]

    def joined(self, one: Conversation, other: Conversation) -> Conversation:
        """The conversation of both rows' events: what was first and last, and the sums."""
        first, second = (one, other) if one.first_event <= other.first_event else (other, one)
        last = one if one.last_event >= other.last_event else other
        if one.named_by is None or (other.named_by is not None and other.named_by < one.named_by):
            naming = other
        else:
            naming = one
        channels, channels_first = first.channels, first.channels_first
        # A single channel that the earlier row begins with, too, changes nothing.
        if second.channels != channels[:1]:
            uses = dict(zip(second.channels, second.channels_first, strict=True))
            for channel, place in zip(channels, channels_first, strict=True):
                uses[channel] = min(place, uses.get(channel, place))
            channels = sorted(uses, key=uses.__getitem__)
            channels_first = [uses[channel] for channel in channels]
        return Conversation(
            conversation=one.conversation,
            subject=naming.subject,
            channels=channels,
            first_type=first.first_type,
            last_type=last.last_type,
            started_at=first.started_at,
            last_at=last.last_at,
            events=one.events + other.events,
            inbound=one.inbound + other.inbound,
            outbound=one.outbound + other.outbound,
            last_position=last.last_position,
            first_event=first.first_event,
            last_event=last.last_event,
            named_by=naming.named_by,
            channels_first=channels_first,
        )
