"""Consent facts: what a person allowed or forbade, under which notice, proven how.

The state is the name of the fact; its effective time is the time of the event. Nothing is required: a
well-formed fact is always recorded, and whether it has effect is decided when it is read.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from domain.event import FactRef, Instant, Other, Personal, Ref, Touchpoint, event
from domain.units import tell, words


class Notice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The text that was shown, by name, version, language and hash."""

    id: Annotated[str, msgspec.Meta(max_length=500)] | None = None
    version: str | int | None = None
    language: str | None = None
    sha256: str | None = None


class ConsentPatch(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a consent fact that a correction replaces; null takes a value away."""

    subject: Ref | None = None
    effective_at: Instant | None = None
    contact: Ref | None = None
    purpose: str | None = None
    channel: str | None = None
    legal_basis: str | None = None
    notice: Notice | None = None
    method: str | None = None
    evidence: str | dict[str, Any] | None = None
    jurisdiction: str | None = None
    controller: str | None = None
    valid_until: Instant | None = None
    double_opt_in: bool | None = None
    actor: str | None = None


class _Consent(Touchpoint, frozen=True, kw_only=True):
    contact: Other[Ref] | None = None  # the contact point; required for a grant to have effect
    purpose: str | None = None  # dotted: marketing.news; * in a restriction
    channel: str | None = None  # that the fact is about; * in a restriction
    legal_basis: str | None = None
    notice: Notice | None = None
    method: str | None = None  # form, call, paper, import, one_click …
    evidence: Personal[str | dict[str, Any]] | None = None
    jurisdiction: str | None = None
    controller: str | None = None
    valid_until: Instant | None = None
    double_opt_in: bool | None = None
    withdrawal_means: str | None = None  # how the person was told to take it back
    actor: str | None = None
    note: Personal[str] | None = None


class _AboutFact(_Consent, frozen=True, kw_only=True):
    of: FactRef | None = None
    reason: str | None = None


def _fields(patch: object) -> list[str]:
    return [words(field) for field in sorted(patch)] if isinstance(patch, dict) else []


def _scope(purpose: str | None, channel: str | None) -> str:
    what = "all purposes" if purpose == "*" else purpose or ""
    where = "on all channels" if channel == "*" else f"by {words(channel)}" if channel else ""
    return f"{what} {where}".strip()


@event("consent.requested", channel="consent", touchpoint=False)
class ConsentRequested(_Consent, frozen=True, kw_only=True):
    """A person was asked for consent."""

    def headline(self) -> str:
        return tell("Consent requested", _scope(self.purpose, self.channel), words(self.method))


@event("consent.refused", channel="consent", touchpoint=False)
class ConsentRefused(_Consent, frozen=True, kw_only=True):
    """A person said no when asked."""

    def headline(self) -> str:
        return tell("Consent refused", _scope(self.purpose, self.channel), words(self.method))


@event("consent.given", channel="consent", touchpoint=False)
class ConsentGiven(_Consent, frozen=True, kw_only=True):
    """A person said yes."""

    def headline(self) -> str:
        unconfirmed = "to be confirmed" if self.double_opt_in else ""
        return tell("Consent given", _scope(self.purpose, self.channel), words(self.method), unconfirmed)


@event("consent.confirmed", channel="consent", touchpoint=False)
class ConsentConfirmed(_AboutFact, frozen=True, kw_only=True):
    """The second half of a double opt-in: the contact point answered."""

    def headline(self) -> str:
        return tell("Consent confirmed", _scope(self.purpose, self.channel), words(self.method))


@event("consent.renewed", channel="consent", touchpoint=False)
class ConsentRenewed(_Consent, frozen=True, kw_only=True):
    """A person said yes again."""

    def headline(self) -> str:
        return tell("Consent renewed", _scope(self.purpose, self.channel), words(self.method))


@event("consent.withdrawn", channel="consent", touchpoint=False)
class ConsentWithdrawn(_Consent, frozen=True, kw_only=True):
    """A person took consent back."""

    def headline(self) -> str:
        return tell("Consent withdrawn", _scope(self.purpose, self.channel), words(self.method))


@event("consent.revoked", channel="consent", touchpoint=False)
class ConsentRevoked(_Consent, frozen=True, kw_only=True):
    """Somebody other than the person ended a consent."""

    reason: str | None = None

    def headline(self) -> str:
        by = f"by {self.actor}" if self.actor else ""
        return tell("Consent revoked", _scope(self.purpose, self.channel), words(self.reason), by)


@event("consent.objected", channel="consent", touchpoint=False)
class ConsentObjected(_Consent, frozen=True, kw_only=True):
    """A person objected to processing (GDPR Article 21)."""

    def headline(self) -> str:
        return tell("Objection", _scope(self.purpose, self.channel), words(self.method))


@event("consent.invalidated", channel="consent", touchpoint=False)
class ConsentInvalidated(_AboutFact, frozen=True, kw_only=True):
    """A consent fact was void from the start."""

    def headline(self) -> str:
        return tell("Consent fact invalidated", words(self.reason))


@event("consent.corrected", channel="consent", touchpoint=False)
class ConsentCorrected(Touchpoint, frozen=True, kw_only=True):
    """A consent fact was recorded wrongly; this says how it was."""

    of: FactRef | None = None
    patch: ConsentPatch | None = (
        None  # parted at ingest: contact, subject and evidence are sealed, the rest is plain
    )
    reason: str | None = None
    actor: str | None = None
    note: Personal[str] | None = None

    def headline(self) -> str:
        return tell("Consent fact corrected", *_fields(self.patch), words(self.reason))


@event("consent.reviewed", channel="consent", touchpoint=False)
class ConsentReviewed(Touchpoint, frozen=True, kw_only=True):
    """An officer decided for whom a restriction holds after a split."""

    of: FactRef | None = None
    subjects: list[str] | None = None  # subject ids that the restriction goes on to bind
    reason: str | None = None
    actor: str | None = None
    note: Personal[str] | None = None

    def headline(self) -> str:
        return tell("Consent reviewed", words(self.reason), self.actor)


@event("contact.reassigned", channel="consent", touchpoint=False)
class ContactReassigned(Touchpoint, frozen=True, kw_only=True):
    """A number or an address has another owner now: what its old owner allowed ends."""

    contact: Other[Ref] | None = None
    method: str | None = None
    evidence: Personal[str | dict[str, Any]] | None = None
    controller: str | None = None
    actor: str | None = None

    def headline(self) -> str:
        return tell("Contact point reassigned", self.contact, words(self.method))
