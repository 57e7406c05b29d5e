"""Visits to our pages and our app."""

from __future__ import annotations

from typing import Any

from domain.event import Personal, Touchpoint, event
from domain.units import Seconds, span, tell, words


class _Visit(Touchpoint, frozen=True, kw_only=True):
    session_id: str | None = None
    url: str | None = None  # its query string is sealed but for utm_*
    path: str | None = None
    title: str | None = None
    referrer: str | None = None  # sealed like url
    host: str | None = None
    search: Personal[str] | None = None  # the query string
    utm_source: str | None = None
    utm_medium: str | None = None
    utm_campaign: str | None = None
    utm_term: str | None = None
    utm_content: str | None = None
    campaign_id: str | None = None
    device: str | None = None  # desktop, mobile, tablet
    browser: str | None = None
    os: str | None = None
    app: str | None = None
    language: str | None = None
    country: str | None = None  # ISO 3166 code
    ip: Personal[str] | None = None
    user_agent: Personal[str] | None = None


@event("web.page_viewed", channel="web", direction="inbound")
class PageViewed(_Visit, frozen=True, kw_only=True):
    """A page of ours, or a screen of our app, was shown."""

    name: str | None = None
    category: str | None = None
    sku: str | None = None  # the product that the page shows
    duration_s: Seconds | None = None
    properties: dict[str, Any] | None = None

    def headline(self) -> str:
        return tell("Page viewed", self.title or self.name or self.path or self.url, span(self.duration_s))


@event("web.registered", channel="web", direction="inbound")
class Registered(_Visit, frozen=True, kw_only=True):
    """A visitor made an account."""

    method: str | None = None  # password, google, apple …
    name: Personal[str] | None = None
    plan: str | None = None

    def headline(self) -> str:
        return tell("Registered", self.name, words(self.method), self.plan)


@event("web.signed_in", channel="web", direction="inbound")
class SignedIn(_Visit, frozen=True, kw_only=True):
    """A customer signed in to an account."""

    method: str | None = None

    def headline(self) -> str:
        return tell("Signed in", words(self.method), self.device)


@event("web.form_submitted", channel="web", direction="inbound")
class FormSubmitted(_Visit, frozen=True, kw_only=True):
    """A form was sent: a question, a request, a subscription to news."""

    form: str | None = None
    fields: Personal[dict[str, Any]] | None = None

    def headline(self) -> str:
        return tell("Form submitted", words(self.form) or self.title or self.path)


@event("web.tracked", channel="web", direction="inbound")
class Tracked(_Visit, frozen=True, kw_only=True):
    """Something that a site or an app counts under a name of its own (Segment's track)."""

    event: str
    properties: dict[str, Any] | None = None
    context: Personal[dict[str, Any]] | None = None

    def headline(self) -> str:
        return self.event or ""
