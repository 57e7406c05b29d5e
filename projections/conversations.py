"""Conversations: calls, chats and mails joined by their conversation, thread or case."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from msgspec import Meta

from projections.projection import Effective, Index, Story, Table, projection

__all__ = ["TABLE", "Conversation", "Conversations"]

_JOINED_BY = ("conversation_id", "thread_id", "case_id")
_FAMILIES = ("call.", "chat.", "email.", "sms.", "message.", "case.")


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
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


TABLE = Table("conversations", Conversation, key=("conversation",), indexes=(Index(("subject", "last_at")),))


@projection
class Conversations(Story):
    """Tells each conversation in the order in which it happened."""

    name = "conversations"
    version = 2
    tables: ClassVar[tuple[Table[Conversation], ...]] = (TABLE,)

    def keys(self, event: Effective) -> Iterable[str]:
        """The conversation, thread and case that the event names; its references to a case count too."""
        told = event.recorded.event
        if not told.type.startswith(_FAMILIES):
            return
        found = set()
        data = told.data
        for field in _JOINED_BY:
            value = data.get(field)
            if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                found.add(f"{field.removesuffix('_id')}:{value}")
        yield from sorted(found)

    def told(self, row: Conversation | None, key: str, event: Effective) -> Any:
        """Add one event to its conversation."""
        told = event.recorded.event
        subject = UUID(told.subjects[0][0]) if told.subjects else None
        inbound, outbound = int(told.direction == "inbound"), int(told.direction == "outbound")
        if row is None:
            return Conversation(
                conversation=key,
                subject=subject,
                channels=[told.channel],
                first_type=told.type,
                last_type=told.type,
                started_at=told.occurred_at,
                last_at=told.occurred_at,
                events=1,
                inbound=inbound,
                outbound=outbound,
                last_position=event.recorded.position,
            )
        return msgspec.structs.replace(
            row,
            subject=row.subject or subject,
            channels=row.channels if told.channel in row.channels else [*row.channels, told.channel],
            last_type=told.type,
            last_at=told.occurred_at,
            events=row.events + 1,
            inbound=row.inbound + inbound,
            outbound=row.outbound + outbound,
            last_position=event.recorded.position,
        )
