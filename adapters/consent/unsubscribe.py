"""One-click unsubscribe (RFC 8058): opaque tokens, and the withdrawal that a POST to one records.

A token is sealed under a key of the installation: it tells nothing, cannot be forged, and lasts for ever, for
mails are read years later. Only a POST withdraws, effective at receipt; used again it withdraws again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from adapters.consent.sealed_tokens import Tokens, fingerprint
from adapters.intake.ingest import Ingest
from adapters.intake.payloads import event_of
from adapters.keys import KeyFile
from adapters.postgres.subjects import Subjects
from adapters.principal import Principal
from domain.entry import moment
from domain.errors import Invalid, NotFound
from domain.identity import Identifier

__all__ = ["SOURCE", "Scope", "Unsubscribe", "Withdrawn"]

SOURCE = "touchlog/unsubscribe"
_ALONE = Principal("touchlog:unsubscribe", "admin", inside=True)


class Scope(msgspec.Struct, frozen=True, array_like=True):
    """What a token withdraws: for whom, on which contact point, what for, and on which channel (`*`: all)."""

    person: UUID
    contact: UUID
    purpose: str
    channel: str


class Withdrawn(msgspec.Struct, frozen=True, kw_only=True):
    """What a POST recorded."""

    position: int
    at: str
    purpose: str
    channel: str


class Unsubscribe:
    """Makes tokens, reads them, and records what they withdraw.

    Args:
        clock: the time of receipt.
    """

    def __init__(
        self,
        keys: KeyFile,
        subjects: Subjects,
        ingest: Ingest,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._tokens = Tokens(keys, "unsubscribe")
        self._subjects = subjects
        self._ingest = ingest
        self._clock = clock

    def token(self, scope: Scope) -> str:
        """A new token for *scope*; no two are equal."""
        return self._tokens.sealed(scope)

    def scope(self, token: str) -> Scope:
        """What a token withdraws.

        Raises:
            NotFound: it was not made here.
        """
        return self._tokens.opened(token, Scope)

    async def withdraw(self, token: str) -> Withdrawn:
        """Record the withdrawal, effective now.

        Raises:
            NotFound: the token was not made here, or its person was erased.
        """
        scope = self.scope(token)
        described = await self._subjects.describe([scope.person, scope.contact])
        contact, person = (
            str(Identifier(found.kind, found.value, found.namespace))
            if (found := described.get(one)) is not None and found.value is not None
            else None
            for one in (scope.contact, scope.person)
        )
        if contact is None:
            raise NotFound("Whom this link was made for is not known here any more; nothing is sent to them.")
        at = self._clock()
        event = {
            "specversion": "1.0",
            "id": os.urandom(16).hex(),
            "source": SOURCE,
            "type": "consent.withdrawn",
            "time": moment(at),
            "subject": person or contact,
            "data": {
                "contact": contact,
                "purpose": scope.purpose,
                "channel": scope.channel,
                "method": "one_click",
                "evidence": {"token_sha256": fingerprint(token)},
            },
        }
        answer = await self._ingest.accept([event_of(event)], _ALONE, way_in="unsubscribe")
        (result,) = answer.results
        if result.position is None:
            raise Invalid(result.errors)
        return Withdrawn(
            position=result.position, at=moment(at), purpose=scope.purpose, channel=scope.channel
        )
