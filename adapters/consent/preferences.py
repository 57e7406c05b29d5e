"""The preference page's side of the log: what one contact point gets, and what its owner changes about that.

A link names a person and a contact point, and shows no other contact point of the person's: mails are forwarded.
To withdraw it works for ever; to allow something anew only while it is young, and only under a notice in force.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec
from psycopg_pool import AsyncConnectionPool

from adapters.consent.consents import Consents
from adapters.consent.register import about_notices
from adapters.consent.sealed_tokens import Tokens, fingerprint
from adapters.intake.ingest import Ingest
from adapters.intake.payloads import event_of
from adapters.keys import KeyFile
from adapters.postgres.subjects import Subjects
from adapters.principal import Principal
from domain.consent.facts import known
from domain.entry import decode_body, moment
from domain.errors import Invalid, NotFound
from domain.identity import Identifier

__all__ = ["SOURCE", "Choice", "Link", "Preferences", "Shown"]

SOURCE = "touchlog/preferences"
MAY_ALLOW = timedelta(days=30)
"""How long a link may be used to allow something anew."""
_ALONE = Principal("touchlog:preferences", "admin", inside=True)
_PUBLISHED = """
SELECT f.notice_id, f.notice_version, e.body FROM read.consent_facts f JOIN touchpoint_log.events e ON e.position = f.position
 WHERE f.state = 'published' AND f.purpose = %(purpose)s AND f.known_to IS NULL AND f.effective_at <= %(now)s
 ORDER BY f.effective_at DESC, f.position DESC LIMIT 200
"""
_EVER = 2**62
"""A position behind everything."""


class Link(msgspec.Struct, frozen=True, array_like=True):
    """Whose preferences a token opens, and when it was made (seconds since 1970)."""

    person: UUID
    contact: UUID
    made_s: int


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the contact point may get.

    Attributes:
        offered: the notice under which it may be allowed anew: `notice` and its `text`; None where there is none.
        scope: controller and jurisdiction of the last grant.
    """

    purpose: str
    channel: str
    allowed: bool
    offered: dict[str, Any] | None = None
    scope: dict[str, Any] = {}

    @property
    def key(self) -> str:
        """Its name in a form."""
        return f"{self.purpose}/{self.channel}"

    @property
    def seen(self) -> str:
        """How a page shows it: as allowed, under which text it may be allowed, or neither."""
        text = sha256(msgspec.json.encode(self.offered, order="deterministic")).hexdigest()
        return f"{self.key} {'allowed' if self.allowed else text if self.offered is not None else 'closed'}"


class Shown(msgspec.Struct, frozen=True):
    """What the page shows: the contact point, told so that only its owner knows it, and the choices."""

    contact: str
    choices: list[Choice]


class Preferences:
    """Makes links, tells what they show, and records what changes.

    Args:
        clock: the time of receipt.
    """

    def __init__(
        self,
        pool: AsyncConnectionPool[Any],
        keys: KeyFile,
        subjects: Subjects,
        ingest: Ingest,
        consents: Consents,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._pool = pool
        self._tokens = Tokens(keys, "preferences")
        self._subjects = subjects
        self._ingest = ingest
        self._consents = consents
        self._clock = clock

    def token(self, person: UUID, contact: UUID) -> str:
        """A new token; no two are equal."""
        return self._tokens.sealed(Link(person, contact, int(self._clock().timestamp())))

    async def shown(self, token: str, *, languages: Collection[str] = ()) -> Shown:
        """What may be chosen; asking changes nothing.

        Args:
            languages: those that the reader understands, the best first.

        Raises:
            NotFound: the token was not made here, or its person was erased.
        """
        link = self._tokens.opened(token, Link)
        ref, _ = await self._named(link)
        found = await self._consents.person(str(link.person), contact=ref, known=False)
        young = self._clock() - datetime.fromtimestamp(link.made_s, UTC) <= MAY_ALLOW
        choices = []
        for one in found.answers:
            grants = [
                fact
                for fact in found.facts
                if fact["is"] == "grant"
                and (fact["purpose"], fact["channel"]) == (one["purpose"], one["channel"])
            ]
            scope = {k: grants[-1][k] for k in ("controller", "jurisdiction") if grants and grants[-1][k]}
            offered = await self._notice(one["purpose"], languages) if young and not one["valid"] else None
            choices.append(
                Choice(
                    purpose=one["purpose"],
                    channel=one["channel"],
                    allowed=one["valid"],
                    offered=offered,
                    scope=scope,
                )
            )
        return Shown(_masked(ref), choices)

    async def save(
        self,
        token: str,
        wanted: Collection[str],
        *,
        seen: Collection[str] = (),
        nothing: bool = False,
        languages: Collection[str] = (),
    ) -> list[tuple[Choice, bool | None]]:
        """Record what changes, effective now; returns (choice, whether it is allowed from now on) of each change.

        None instead of true stands where it was to be allowed under a text that is offered no more: nothing is recorded.

        Args:
            wanted: the keys of the choices that are to be allowed; all others are not.
            seen: how the page showed each choice, where it tells: a box that was left as it was says nothing, whatever
                else was said since, and nobody agrees to a text that was not shown.
            nothing: withdraw everything there is, also what no choice names.

        Raises:
            NotFound, Invalid, Unavailable.
        """
        shown = await self.shown(token, languages=languages)
        link = self._tokens.opened(token, Link)
        contact, person = await self._named(link)
        now = self._clock()
        events: list[dict[str, Any]] = []
        changes: list[tuple[Choice, bool | None]] = []
        if nothing:
            everything = Choice(purpose="*", channel="*", allowed=True)
            changes.append((everything, False))
            events.append(_fact(everything, False, contact, person, token, now))
        else:
            for choice in shown.choices:
                allow = choice.key in wanted
                if seen and allow == (f"{choice.key} allowed" in seen):
                    continue
                if seen and allow and not choice.allowed and choice.seen not in seen:
                    changes.append((choice, None))
                    continue
                if allow == choice.allowed or (allow and choice.offered is None):
                    continue
                changes.append((choice, allow))
                events.append(_fact(choice, allow, contact, person, token, now))
        if events:
            answer = await self._ingest.accept([event_of(e) for e in events], _ALONE, way_in="preferences")
            refused = [
                problem for result in answer.results if result.position is None for problem in result.errors
            ]
            if refused:
                raise Invalid(refused)
        return changes

    async def _named(self, link: Link) -> tuple[str, str]:
        """(REF of the contact point, REF of the person)."""
        described = await self._subjects.describe([link.contact, link.person])
        contact = described.get(link.contact)
        if contact is None or contact.value is None:
            raise NotFound("Whom this link was made for is not known here any more; nothing is sent to them.")
        ref = str(Identifier(contact.kind, contact.value, contact.namespace))
        person = described.get(link.person)
        if person is None or person.value is None:
            return ref, ref
        return ref, str(Identifier(person.kind, person.value, person.namespace))

    async def _notice(self, purpose: str, languages: Collection[str]) -> dict[str, Any] | None:
        """The notice in force for a purpose, in the first of *languages* that it has, or in any."""
        now = self._clock()
        async with self._pool.connection() as conn:
            rows = await (
                await conn.execute(_PUBLISHED.encode(), {"purpose": purpose, "now": now})
            ).fetchall()
        facts = await about_notices(self._pool, {name for name, _, _ in rows if name is not None})
        superseded = {
            (one.notice_id, one.notice_version)
            for one in known(facts, _EVER).superseded
            if one.effective_at <= now
        }
        published = [
            data
            for name, version, body in rows
            if (name, version) not in superseded and (data := decode_body(bytes(body)).data).get("text")
        ]
        if not published:
            return None
        newest = published[0].get("notice", {})
        same = [
            data
            for data in published
            if (data["notice"].get("id"), data["notice"].get("version"))
            == (newest.get("id"), newest.get("version"))
        ]
        for language in languages:
            for data in same:
                if data["notice"].get("language") == language:
                    return data
        return same[0]


def _fact(
    choice: Choice, allow: bool, contact: str, person: str, token: str, now: datetime
) -> dict[str, Any]:
    data: dict[str, Any] = {
        "contact": contact,
        "purpose": choice.purpose,
        "channel": choice.channel,
        "method": "preference_page",
        "evidence": {"token_sha256": fingerprint(token)},
    }
    if allow:
        assert choice.offered is not None
        data |= {**choice.scope, "notice": choice.offered["notice"], "legal_basis": "consent"}
        data["withdrawal_means"] = "preference page, unsubscribe link"
    return {
        "specversion": "1.0",
        "id": os.urandom(16).hex(),
        "source": SOURCE,
        "type": "consent.given" if allow else "consent.withdrawn",
        "time": moment(now),
        "subject": person,
        "data": data,
    }


def _masked(ref: str) -> str:
    """A contact point as its owner knows it and nobody else: a•••@example.com, •••• 8750."""
    _, _, value = ref.partition(":")
    name, at, host = value.rpartition("@")
    if at:
        return f"{name[:1]}•••@{host}"
    return f"•••• {value[-4:]}" if len(value) > 6 else "••••"
