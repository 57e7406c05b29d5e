"""The right to be forgotten, step by step, and the legal holds that put it off."""

from __future__ import annotations

from typing import Any

from domain.event import Instant, Personal, Ref, Touchpoint, event
from domain.units import Count, count, tell, words


class _Erasure(Touchpoint, frozen=True, kw_only=True):
    erasure_id: str | None = None
    subjects: list[str] | None = None
    actor: str | None = None
    reason: str | None = None
    article: str | None = None  # the article of law that it rests on
    note: Personal[str] | None = None


class _Hold(Touchpoint, frozen=True, kw_only=True):
    hold_id: str | None = None
    subjects: list[str] | None = None
    actor: str | None = None
    reason: str | None = None
    article: str | None = None
    note: Personal[str] | None = None


@event("erasure.requested", channel="records", touchpoint=False, internal=True)
class ErasureRequested(_Erasure, frozen=True, kw_only=True):
    """Somebody asked that a person be forgotten."""

    person: Personal[Ref] | None = None

    def headline(self) -> str:
        return tell("Erasure requested", words(self.reason), self.article, self.actor)


@event("erasure.approved", channel="records", touchpoint=False, internal=True)
class ErasureApproved(_Erasure, frozen=True, kw_only=True):
    """Another person agreed to the erasure."""

    def headline(self) -> str:
        return tell("Erasure approved", self.actor)


@event("erasure.refused", channel="records", touchpoint=False, internal=True)
class ErasureRefused(_Erasure, frozen=True, kw_only=True):
    """The erasure was refused, under the article that is named."""

    def headline(self) -> str:
        return tell("Erasure refused", words(self.reason), self.article, self.actor)


@event("erasure.key_destroyed", channel="records", touchpoint=False, internal=True)
class ErasureKeyDestroyed(_Erasure, frozen=True, kw_only=True):
    """The keys were destroyed: from now on the sealed fields of the person are unreadable everywhere."""

    key_fingerprints: list[str] | None = None
    checkpoint: str | None = None  # of the log, before

    def headline(self) -> str:
        keys = None if self.key_fingerprints is None else len(self.key_fingerprints)
        return tell("Keys destroyed", count(keys, "key"))


@event("erasure.projection_purged", channel="records", touchpoint=False, internal=True)
class ErasureProjectionPurged(_Erasure, frozen=True, kw_only=True):
    """A read model holds nothing of the person any more."""

    projection: str | None = None
    position: int | None = None
    row_count: Count | None = None

    def headline(self) -> str:
        return tell("Read model purged", self.projection, count(self.row_count, "row"))


@event("erasure.recipient_notified", channel="records", touchpoint=False, internal=True)
class ErasureRecipientNotified(_Erasure, frozen=True, kw_only=True):
    """Somebody who had received the data was told of the erasure (GDPR Article 19)."""

    recipient: str | None = None
    method: str | None = None

    def headline(self) -> str:
        return tell("Recipient notified of erasure", self.recipient, words(self.method))


@event("erasure.verified", channel="records", touchpoint=False, internal=True)
class ErasureVerified(_Erasure, frozen=True, kw_only=True):
    """The erasure was probed and certified."""

    certificate: dict[str, Any] | None = None
    checkpoint: str | None = None  # of the log, after
    probe_count: Count | None = None

    def headline(self) -> str:
        return tell("Erasure verified", count(self.probe_count, "probe"), self.actor)


@event("hold.placed", channel="records", touchpoint=False, internal=True)
class HoldPlaced(_Hold, frozen=True, kw_only=True):
    """A legal hold keeps a person's data, whatever erasure is asked for."""

    person: Personal[Ref] | None = None
    ends_at: Instant | None = None

    def headline(self) -> str:
        return tell("Legal hold placed", words(self.reason), self.article, self.actor)


@event("hold.released", channel="records", touchpoint=False, internal=True)
class HoldReleased(_Hold, frozen=True, kw_only=True):
    """A legal hold ended; an erasure that waited for it is carried out."""

    def headline(self) -> str:
        return tell("Legal hold released", words(self.reason), self.actor)
