"""Who is who: links, merges and splits that were decided, and what a customer says of themselves."""

from __future__ import annotations

from typing import Any

from domain.event import Personal, Ref, Touchpoint, event
from domain.units import Count, count, tell, words


class _Pair(Touchpoint, frozen=True, kw_only=True):
    a: Personal[Ref] | None = None
    b: Personal[Ref] | None = None
    a_subject: str | None = None  # the surrogate that stands for `a` in the log
    b_subject: str | None = None
    actor: str | None = None
    reason: Personal[str] | None = None


@event("identity.linked", channel="identity", touchpoint=False, internal=True)
class IdentityLinked(_Pair, frozen=True, kw_only=True):
    """A command stated that two identifiers are of one person."""

    def headline(self) -> str:
        return tell("Identifiers linked", self.reason, self.actor)


@event("identity.link_refused", channel="identity", touchpoint=False, internal=True)
class IdentityLinkRefused(_Pair, frozen=True, kw_only=True):
    """A guard kept two persons apart; a report, and no input of any later decision."""

    kind: str | None = None
    namespace: str | None = None
    limit_count: Count | None = None
    would_be_count: Count | None = None

    def headline(self) -> str:
        limit = count(self.limit_count, f"{words(self.kind)} allowed", f"{words(self.kind)} allowed")
        return tell("Link refused", limit or words(self.kind))


@event("identity.merged", channel="identity", touchpoint=False)
class IdentityMerged(_Pair, frozen=True, kw_only=True):
    """Somebody decided that two persons are one, in spite of any guard."""

    # The event names `a` only, and `b` stands in its data: an event that names two subjects would state a link.

    b_kind: str | None = None  # of the identifier of `b`; that of `a` stands with the event's first subject
    b_namespace: str | None = None
    a_subjects: list[str] | None = None  # both sides as resolved when it was recorded
    b_subjects: list[str] | None = None
    event_count: Count | None = None

    def headline(self) -> str:
        return tell("Persons merged", self.reason, self.actor)


@event("identity.split", channel="identity", touchpoint=False)
class IdentitySplit(Touchpoint, frozen=True, kw_only=True):
    """Somebody decided that one person is two: a merge is undone, or a subject taken out."""

    merge: str | None = None  # the event id of the merge that is undone
    person: Personal[Ref] | None = None
    subject: str | None = None  # the subject that is taken out
    person_subjects: list[str] | None = None  # both sides as resolved when it was recorded
    subject_subjects: list[str] | None = None
    actor: str | None = None
    reason: Personal[str] | None = None

    def headline(self) -> str:
        return tell("Merge undone" if self.merge else "Person split", self.reason, self.actor)


@event("profile.updated", channel="identity", touchpoint=False)
class ProfileUpdated(Touchpoint, frozen=True, kw_only=True):
    """What is known of a customer changed: name, address, language, further identifiers."""

    identifiers: Personal[dict[str, str | list[str]]] | None = None
    traits: Personal[dict[str, Any]] | None = None
    method: str | None = None
    agent: str | None = None

    def headline(self) -> str:
        known = sorted(self.traits) if isinstance(self.traits, dict) else []
        return tell("Profile updated", *(words(trait) for trait in known[:6]))
