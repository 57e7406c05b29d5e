"""Notices: the texts under which consent is asked, and when they changed."""

from __future__ import annotations

from domain.event import Instant, Touchpoint, event
from domain.touchpoints.consent import Notice
from domain.units import tell


def _named(notice: object) -> str:
    """The name, version and language of a notice, as data read from the log give it."""
    if not isinstance(notice, dict):
        return ""
    version = f"version {notice['version']}" if notice.get("version") is not None else ""
    return " ".join(part for part in (notice.get("id"), version, notice.get("language")) if part)


@event("notice.published", channel="consent", touchpoint=False)
class NoticePublished(Touchpoint, frozen=True, kw_only=True):
    """A notice came into use."""

    notice: Notice | None = None
    title: str | None = None
    text: str | None = None  # as shown; its SHA-256 stands in the notice
    url: str | None = None
    purposes: list[str] | None = None
    channels: list[str] | None = None
    controller: str | None = None
    jurisdiction: str | None = None
    effective_at: Instant | None = None
    actor: str | None = None

    def headline(self) -> str:
        return tell("Notice published", _named(self.notice), self.title)


@event("notice.superseded", channel="consent", touchpoint=False)
class NoticeSuperseded(Touchpoint, frozen=True, kw_only=True):
    """A notice gave way to a newer one; consents under it end when the change is material."""

    notice: Notice | None = None
    by: Notice | None = None
    material: bool | None = None
    reason: str | None = None
    controller: str | None = None
    actor: str | None = None

    def headline(self) -> str:
        change = "" if self.material is None else "material change" if self.material else "no material change"
        return tell("Notice superseded", _named(self.notice), change)
