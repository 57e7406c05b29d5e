"""Conversations: calls, chats and mails joined by their conversation, thread or case."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from msgspec import Meta

from domain.entry import moment, surrogate_of
from projections.projection import Effective, Index, Joining, Table, indexable, projection

__all__ = ["TABLE", "Conversation", "Conversations", "conversation_key"]

_FAMILIES = ("call.", "chat.", "email.", "sms.", "message.", "case.")


class Conversation(msgspec.Struct, frozen=True, gc=False):
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
    first_event: Annotated[str, Meta(description="Source and id of its first event")]
    last_event: Annotated[str, Meta(description="Source and id of its last event")]
    named_by: Annotated[
        str | None,
        Meta(
            description="Time, source and id of its first event that names somebody; null where its first event does"
        ),
    ]
    channels_first: Annotated[
        list[str],
        Meta(description="Time, source and id of the first event over each of its channels but the first"),
    ]


TABLE = Table("conversations", Conversation, key=("conversation",), indexes=(Index(("subject", "last_at")),))


def conversation_key(text: str) -> str:
    """The key of the conversation that *text* names: the field that joins it and its value, `thread:…`."""
    kept = indexable(text)
    return kept if kept is text else f"{text.partition(':')[0]}:{kept}"


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
    version = 2
    tables: ClassVar[tuple[Table[Conversation], ...]] = (TABLE,)

    def rows(self, event: Effective) -> Iterable[Conversation]:
        """A row for the conversation, the thread and the case that the event names."""
        told = event.recorded.event
        if not told.type.startswith(_FAMILIES):
            return ()
        by = _joined_by(told.data_json)
        keys = [
            conversation_key(f"{field}:{value}")
            for field, value in (
                ("case", by.case_id),
                ("conversation", by.conversation_id),
                ("thread", by.thread_id),
            )
            if value is not None and (type(value) is int or (type(value) is str and value))
        ]
        if not keys:
            return ()
        at = told.occurred_at
        place = f"{told.source}\x1f{told.id}"  # neither holds a control character
        subject = surrogate_of(told.subjects[0][0]) if told.subjects else None
        channels = [told.channel]
        inbound, outbound = int(told.direction == "inbound"), int(told.direction == "outbound")
        position = event.recorded.position
        return [
            # In the order of its fields: naming them would cost as much again.
            Conversation(
                key, subject, channels, told.type, told.type, at, at, 1, inbound, outbound, position,
                place, place, None, [],
            )
            for key in keys
        ]  # fmt: skip

    def joined(self, one: Conversation, other: Conversation) -> Conversation:
        """The conversation of both rows' events: what was first and last, and the sums."""
        at, other_at = one.started_at, other.started_at
        if at < other_at or (at == other_at and one.first_event <= other.first_event):
            first, second = one, other
        else:
            first, second = other, one
        at, other_at = one.last_at, other.last_at
        last = one if at > other_at or (at == other_at and one.last_event >= other.last_event) else other
        subject, named_by = first.subject, first.named_by
        if second.subject is not None and (subject is None or named_by is not None):
            by = second.named_by or _begun(second)
            if named_by is None or by < named_by:
                subject, named_by = second.subject, by
        channels, channels_first = first.channels, first.channels_first
        # A single channel that the earlier row begins with, too, changes nothing.
        if second.channels != channels[:1]:
            uses = dict(zip(second.channels, (_begun(second), *second.channels_first), strict=True))
            for channel, place in zip(channels, (_begun(first), *channels_first), strict=True):
                uses[channel] = min(place, uses.get(channel, place))
            channels = sorted(uses, key=uses.__getitem__)
            channels_first = [uses[channel] for channel in channels[1:]]
        return Conversation(
            one.conversation,
            subject,
            channels,
            first.first_type,
            last.last_type,
            first.started_at,
            last.last_at,
            one.events + other.events,
            one.inbound + other.inbound,
            one.outbound + other.outbound,
            last.last_position,
            first.first_event,
            last.last_event,
            named_by,
            channels_first,
        )


def _begun(row: Conversation) -> str:
    """The place of its first event among all events: they are in order as these texts are."""
    return f"{moment(row.started_at)}\x1f{row.first_event}"
