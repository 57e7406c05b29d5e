"""Consent: what was stated about it, and the messages it is asked for, as known at every position (SEMANTICS §5).

`consent_facts` holds one row a fact, `consent_messages` one a message that went out. Whether a message was allowed
is computed from these, and from who was one person (projections/linking.py), at any knowledge, by domain/consent.
No personal field is here: persons and contact points are surrogates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import product
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from msgspec import Meta

from domain.consent.facts import state_of
from domain.consent.opt_outs import EXTENSION, MAY_OPT_OUT, WORDED, OptOut, may_say_no, opt_out
from domain.entry import LAST_POSITION, Body, Recorded, event_id_of, surrogate_of, within_calendar
from domain.event import TYPES
from projections.projection import Effective, Index, PerEvent, Step, Table, indexable, projection

__all__ = ["FACTS", "MESSAGES", "Consent", "ConsentFact", "Message"]


class ConsentFact(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One fact about consent, or a notice; of a correction the columns hold what it replaces."""

    position: Annotated[int, Meta(description="Place in the log")]
    recorded_at: Annotated[datetime, Meta(description="When the log took it")]
    event_id: Annotated[UUID, Meta(description="Id of the event")]
    source: Annotated[str, Meta(description="Who reported it")]
    source_id: Annotated[str, Meta(description="The event's id at its source")]
    state: Annotated[str, Meta(description="given, withdrawn, corrected, superseded …")]
    effective_at: Annotated[datetime, Meta(description="When it took effect, as the source says")]
    subject: Annotated[
        UUID | None, Meta(description="Whose fact it is; of a review: a subject it goes on to bind")
    ]
    contact: Annotated[UUID | None, Meta(description="Surrogate of the contact point it holds for")]
    purpose: Annotated[str | None, Meta(description="Dotted purpose; * is all")]
    channel: Annotated[str | None, Meta(description="Channel that it is about; * is all")]
    legal_basis: Annotated[str | None, Meta(description="Legal basis")]
    notice_id: Annotated[
        str | None, Meta(description="Notice under which it was asked, or that is spoken of")
    ]
    notice_version: Annotated[str | None, Meta(description="Version of that notice")]
    method: Annotated[str | None, Meta(description="How it was stated: form, call, paper …")]
    jurisdiction: Annotated[str | None, Meta(description="Whose law holds")]
    controller: Annotated[str | None, Meta(description="Who asked")]
    valid_until: Annotated[datetime | None, Meta(description="When it lapses")]
    double_opt_in: Annotated[bool, Meta(description="Whether it waits for a confirmation")]
    of: Annotated[UUID | None, Meta(description="Id of the event that it speaks of")]
    patch: Annotated[
        str | None, Meta(description="JSON of what a correction replaces, persons as surrogates")
    ]
    material: Annotated[bool, Meta(description="Of a superseded notice: whether the change is material")]


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message that went out to a person."""

    position: Annotated[int, Meta(description="Place in the log")]
    event_id: Annotated[UUID, Meta(description="Id of the event")]
    source: Annotated[str, Meta(description="Who reported it")]
    source_id: Annotated[str, Meta(description="The event's id at its source")]
    type: Annotated[str, Meta(description="Stored name of the event")]
    sent_at: Annotated[datetime, Meta(description="When it was handed to its carrier")]
    subject: Annotated[UUID | None, Meta(description="First subject of the event, or first reference")]
    contact: Annotated[UUID | None, Meta(description="Surrogate of the contact point it went to")]
    purpose: Annotated[str | None, Meta(description="Dotted purpose")]
    channel: Annotated[str, Meta(description="Channel of the contact")]
    legal_basis: Annotated[str | None, Meta(description="Legal basis that its sender claims; null: consent")]
    snapshot: Annotated[int | None, Meta(description="Position that its sender looked at")]
    controller: Annotated[str | None, Meta(description="In whose name it went out")]
    campaign: Annotated[str | None, Meta(description="Campaign that it belongs to")]


FACTS = Table(
    "consent_facts",
    ConsentFact,
    indexes=(
        Index(("subject",)),
        Index(("contact",)),
        Index(("event_id",)),
        Index(("of",)),
        Index(("notice_id", "state")),  # a notice has many grants, and few words about itself
        Index(("position",), "brin"),
        Index(("known_from",)),  # the judge asks what became known, or no longer is
        Index(("known_to",)),
    ),
    known=True,
)
MESSAGES = Table(
    "consent_messages",
    Message,
    indexes=(
        Index(("event_id",)),
        Index(("subject", "sent_at")),
        Index(("contact",)),
        Index(("sent_at",), "brin"),
        Index(("position",), "brin"),
        Index(("known_from",)),
        Index(("known_to",)),
    ),
    known=True,
)
_Rows = Iterable[tuple[Table[Any], msgspec.Struct]]


@projection
class Consent(PerEvent):
    """Files facts about consent under whom they concern, and messages under whom they went to."""

    name = "consent"
    version = 3  # a correction of a message's contact point counts
    pace = "live"
    tables: ClassVar[tuple[Table[Any], ...]] = (FACTS, MESSAGES)

    def handled(self, steps: Sequence[Step]) -> Sequence[Step]:
        """Facts and what went out: by two look-ups an event, for most events are neither."""
        return [step for step in steps if _concerns(step)]

    def rows(self, event: Effective) -> _Rows:
        """The row of a fact or a message; none of anything else."""
        told = event.recorded.event
        state = _state(
            told.type
        )  # before its direction: somebody may be asked for consent by an outbound fact
        if state is not None:
            return _facts(event.recorded, state)
        if told.type in MAY_OPT_OUT and (left := _left(told)) is not None:
            return ((FACTS, _withdrawal(event.recorded, left)),)
        if told.direction == "outbound" and _is_touchpoint(told.type):
            return ((MESSAGES, _message(event.recorded)),)
        return ()


_state = lru_cache(maxsize=10_000)(state_of)


@lru_cache(maxsize=10_000)
def _is_touchpoint(type_: str) -> bool:
    declared = TYPES.get(type_)
    return declared is None or declared.touchpoint


def _concerns(step: Step) -> bool:
    """Whether a side of it makes a row: a correction may turn what came in to what went out."""
    before, after = step.before, step.after
    if after is not None:
        event = after.recorded.event
        if event.direction == "outbound" or _speaks(event.type):
            return True
    if before is not None:
        event = before.recorded.event
        return event.direction == "outbound" or _speaks(event.type)
    return False


@lru_cache(maxsize=10_000)
def _speaks(type_: str) -> bool:
    """Whether an event of this type may be a fact about consent."""
    return state_of(type_) is not None or type_ in MAY_OPT_OUT


def _left(event: Body) -> OptOut | None:
    if EXTENSION not in event.extensions and (
        event.type in WORDED or not may_say_no(event.type, event.data_json)
    ):
        return None  # most messages and calls say nothing of it; their data need not be read
    return opt_out(event.type, event.channel, event.data, event.extensions, event.contact, event.subjects)


def _withdrawal(recorded: Recorded, left: OptOut) -> ConsentFact:
    """The fact that an unsubscription, a complaint or a STOP is."""
    event = recorded.event
    return ConsentFact(
        position=recorded.position,
        recorded_at=recorded.recorded_at,
        event_id=UUID(event.event_id),
        source=event.source,
        source_id=event.id,
        state="withdrawn",
        effective_at=event.occurred_at,
        subject=_owner(event),
        contact=None if left.contact is None else surrogate_of(left.contact),
        purpose=left.purpose,
        channel=left.channel,
        legal_basis=None,
        notice_id=None,
        notice_version=None,
        method=left.method,
        jurisdiction=None,
        controller=None,
        valid_until=None,
        double_opt_in=False,
        of=None,
        patch=None,
        material=False,
    )


def _owner(event: Body) -> UUID | None:
    owners = event.subjects or event.references
    return surrogate_of(owners[0][0]) if owners else None


def _text(value: Any) -> str | None:
    return (
        str(value) if isinstance(value, str | int) and not isinstance(value, bool) and value != "" else None
    )


def _time(value: Any) -> datetime | None:
    return within_calendar(msgspec.convert(value, datetime)) if isinstance(value, str) else None


def _notice(value: Any) -> tuple[str | None, str | None]:
    if not isinstance(value, dict):
        return None, None
    name = _text(value.get("id"))
    return None if name is None else indexable(name), _text(value.get("version"))


def _facts(recorded: Recorded, state: str) -> _Rows:
    event = recorded.event
    data = event.data
    of = data.get("of")
    patch = _patched(event, data.get("patch")) if state == "corrected" else None
    said = data if patch is None else patch
    notice_id, notice_version = (
        _notice(data.get("notice"))
        if patch is None
        else (patch.get("notice_id"), patch.get("notice_version"))
    )
    subjects: list[UUID | None] = [_owner(event)]
    contact = None if event.contact is None else surrogate_of(event.contact)
    if patch is not None:
        subjects = [None if event.patched_subject is None else surrogate_of(event.patched_subject[0])]
    elif state == "reviewed":
        listed = data.get("subjects")
        if not isinstance(listed, list):
            return
        subjects = [s for text in listed if (s := _uuid(text)) is not None] or [None]
    purposes: list[str | None] = [_text(said.get("purpose"))]
    if state == "published" and isinstance(
        data.get("purposes"), list
    ):  # a notice brings purposes into the catalogue
        purposes = [_text(named) for named in data["purposes"]] or [None]
    for subject, purpose in product(subjects, purposes):
        yield (
            FACTS,
            ConsentFact(
                position=recorded.position,
                recorded_at=recorded.recorded_at,
                event_id=UUID(event.event_id),
                source=event.source,
                source_id=event.id,
                state=state,
                effective_at=event.occurred_at,
                subject=subject,
                contact=contact,
                purpose=purpose,
                channel=_text(said.get("channel")),
                legal_basis=_text(said.get("legal_basis")),
                notice_id=notice_id,
                notice_version=notice_version,
                method=_text(said.get("method")),
                jurisdiction=_text(said.get("jurisdiction")),
                controller=_text(said.get("controller")),
                valid_until=_time(said.get("valid_until")),
                double_opt_in=said.get("double_opt_in") is True,
                of=UUID(bytes=event_id_of(of["source"], of["id"])) if isinstance(of, dict) else None,
                patch=None if patch is None else msgspec.json.encode(patch).decode(),
                material=data.get("material") is True,
            ),
        )


_PATCHED = ("purpose", "channel", "legal_basis", "method", "jurisdiction", "controller")


def _patched(event: Body, patch: Any) -> dict[str, Any]:
    """What a correction replaces, by the names of `domain.consent.facts.Fact`."""
    if not isinstance(patch, dict):
        return {}
    found: dict[str, Any] = {name: _text(patch[name]) for name in _PATCHED if name in patch}
    found |= {name: patch[name] for name in ("effective_at", "valid_until") if name in patch}
    if "double_opt_in" in patch:
        found["double_opt_in"] = patch["double_opt_in"] is True
    if "notice" in patch:
        found["notice_id"], found["notice_version"] = _notice(patch["notice"])
    if "contact" in patch:
        found["contact"] = event.contact
    if "subject" in patch:
        found["subject"] = None if event.patched_subject is None else event.patched_subject[0]
    return found


def _message(recorded: Recorded) -> Message:
    event = recorded.event
    data = event.data
    purpose, basis = event.extensions.get("purpose"), event.extensions.get("legalbasis")
    snapshot = event.extensions.get("snapshot")
    campaign = data.get("campaign_id") or data.get("campaign")
    return Message(
        position=recorded.position,
        event_id=UUID(event.event_id),
        source=event.source,
        source_id=event.id,
        type=event.type,
        sent_at=event.occurred_at,
        subject=_owner(event),
        contact=None if event.contact is None else surrogate_of(event.contact),
        purpose=_text(purpose),
        channel=event.channel,
        legal_basis=_text(basis),
        # What was recorded before the door refused it: beyond every position, and beyond what a column holds.
        snapshot=min(snapshot, LAST_POSITION) if isinstance(snapshot, int) else None,
        controller=_text(data.get("controller")),
        campaign=campaign if isinstance(campaign, str) else None,
    )


def _uuid(text: Any) -> UUID | None:
    try:
        return UUID(text) if isinstance(text, str) else None
    except ValueError:
        return None
