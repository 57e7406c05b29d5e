"""Receipts of consent: one for each fact, with the fields of ISO/IEC TS 27560, in JSON and to be read.

The text that was shown is named by its SHA-256, and given where the log holds the notice.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

from adapters.answers.history import Histories
from adapters.answers.unsealing import unseal
from adapters.consent.register import READ_MODELS
from adapters.postgres.subjects import Subjects
from domain.consent.facts import state_of
from domain.entry import Recorded, decode_body, moment
from domain.errors import Invalid, NotFound, Problem
from domain.event import headline

__all__ = ["SCHEMA_VERSION", "Receipts", "readable"]

SCHEMA_VERSION = "ISO/IEC TS 27560:2023"
_FACT = (
    "SELECT e.position, e.recorded_at, e.body, f.state, f.purpose, f.channel, f.method FROM read.consent_facts f "
    "JOIN touchpoint_log.events e ON e.position = f.position WHERE f.event_id = %s ORDER BY f.known_from LIMIT 1"
)
_NOTICE = (
    "SELECT e.body FROM read.consent_facts f JOIN touchpoint_log.events e ON e.position = f.position "
    "WHERE f.notice_id = %s AND f.notice_version = %s AND f.state = 'published' AND f.known_to IS NULL ORDER BY f.position"
)
_NO_FACT = "No consent fact has this event id; `touchlog consent show REF` lists a person's."


class Receipts:
    """Issues receipts."""

    def __init__(self, pool: AsyncConnectionPool[Any], subjects: Subjects, histories: Histories) -> None:
        self._pool = pool
        self._subjects = subjects
        self._histories = histories

    async def of(self, event_id: str, *, after: int = 0) -> dict[str, Any]:
        """The receipt of the fact with this event id; asked again it is the same, but for what was erased since.

        Raises:
            Invalid: this is no event id.
            NotFound: no consent fact has it.
        """
        try:
            wanted = UUID(event_id)
        except ValueError:
            raise Invalid(
                [
                    Problem(
                        "/event_id",
                        "An event id is a UUID, as every answer about consent names it.",
                        "not_an_id",
                    )
                ]
            ) from None
        if after:
            await self._histories.moments.wait_until(after, models=READ_MODELS)
        async with self._pool.connection() as conn:
            row = await (await conn.execute(_FACT, (wanted,))).fetchone()
        if row is None:
            raise NotFound(_NO_FACT)
        recorded = Recorded(row[0], row[1], decode_body(bytes(row[2])))
        state = row[3]
        if state in ("published", "superseded"):
            raise NotFound(_NO_FACT)
        ((data, _),) = await unseal(self._subjects, [recorded.event])
        if state_of(recorded.event.type) is None:  # a touchpoint that opts out: it says so by what it is
            data = {**data, "purpose": row[4], "channel": row[5], "method": row[6]}
        return self._receipt(recorded, state, data, await self._text(data.get("notice")))

    async def _text(self, notice: Any) -> dict[str, Any] | None:
        """The notice as it was published in the language in which it was shown."""
        if not isinstance(notice, dict) or notice.get("id") is None or notice.get("version") is None:
            return None
        async with self._pool.connection() as conn:
            rows = await (await conn.execute(_NOTICE, (str(notice["id"]), str(notice["version"])))).fetchall()
        for (body,) in rows:
            published: dict[str, Any] = decode_body(bytes(body)).data
            if published.get("notice", {}).get("language") == notice.get("language"):
                return published
        return None

    @staticmethod
    def _receipt(
        recorded: Recorded, state: str, data: dict[str, Any], published: dict[str, Any] | None
    ) -> dict[str, Any]:
        event = recorded.event
        notice = data.get("notice") or {}
        return {
            "schema_version": SCHEMA_VERSION,
            "receipt_id": event.event_id,
            "consent_record_id": event.event_id,
            "pii_principal_id": event.subjects[0][0] if event.subjects else None,
            "processing": {
                "privacy_notice": notice or None,
                "notice_text": (published or {}).get("text"),
                "notice_url": (published or {}).get("url"),
                "language": notice.get("language"),
                "purposes": [
                    {
                        "purpose": data.get("purpose"),
                        "lawful_basis": data.get("legal_basis"),
                        "channel": data.get("channel"),
                        "contact_point": data.get("contact"),
                        "collection_method": data.get("method"),
                        "withdrawal_method": data.get("withdrawal_means"),
                    }
                ],
                "jurisdiction": data.get("jurisdiction"),
            },
            "parties": {"pii_controllers": [data["controller"]] if data.get("controller") else []},
            "events": [
                {
                    "event_time": moment(event.occurred_at),
                    "recorded_at": moment(recorded.recorded_at),
                    "valid_until": data.get("valid_until"),
                    "validity_duration_s": _span_s(event.occurred_at, data.get("valid_until")),
                    "entity_id": data.get("actor") or event.principal,
                    "event_type": "explicit" if state in ("given", "renewed") else state,
                    "event_state": state,
                    "evidence": data.get("evidence"),
                    "of": data.get("of"),
                }
            ],
            "headline": headline(event.type, data),
            "log_position": recorded.position,
            "source": event.source,
            "source_id": event.id,
            "erased": data.get("erased") is True,
        }


def _span_s(since: datetime, until: Any) -> int | None:
    if not isinstance(until, str):
        return None
    return int((datetime.fromisoformat(until) - since).total_seconds())


def readable(receipt: dict[str, Any]) -> str:
    """A receipt as a page of text, to be printed or sent to the person; what is not known is left out."""
    lines = [f"Consent receipt {receipt['receipt_id']}", "", receipt["headline"], ""]
    processing = receipt["processing"]
    (purpose,), (event,) = processing["purposes"], receipt["events"]
    notice = processing["privacy_notice"] or {}
    for name, value in (
        ("State", event["event_state"]),
        ("Took effect", event["event_time"]),
        ("Recorded", f"{event['recorded_at']}, position {receipt['log_position']:,}"),
        ("Valid until", event["valid_until"]),
        ("Purpose", purpose["purpose"]),
        ("Channel", purpose["channel"]),
        ("Contact point", purpose["contact_point"]),
        ("Legal basis", purpose["lawful_basis"]),
        ("Collected by", purpose["collection_method"]),
        ("To withdraw", purpose["withdrawal_method"]),
        ("Controller", ", ".join(receipt["parties"]["pii_controllers"])),
        ("Jurisdiction", processing["jurisdiction"]),
        ("Notice", " ".join(str(notice[k]) for k in ("id", "version", "language") if notice.get(k))),
        ("SHA-256 of the text", notice.get("sha256")),
        ("Recorded by", event["entity_id"]),
    ):
        if value:
            lines.append(f"{name:<20} {value}")
    if processing["notice_text"]:
        lines += ["", "The text that was shown:", "", processing["notice_text"]]
    if receipt["erased"]:
        lines += ["", "Some fields were erased at the person's request."]
    return "\n".join(lines) + "\n"
