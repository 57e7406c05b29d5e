"""Entries of a history, as pages and routes show them: unsealed, corrected, in today's words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from adapters.answers.unsealing import unseal
from adapters.postgres.subjects import Subjects
from domain.correction import Amendment, amended, patched
from domain.entry import Body, Recorded, decode_body, moment
from domain.event import headline, upcast

__all__ = ["Entries"]


class Entries:
    """Opens what histories hold sealed, and writes it as INTERFACES does."""

    def __init__(self, subjects: Subjects) -> None:
        self._subjects = subjects

    async def of(self, rows: Sequence[Any]) -> list[dict[str, Any]]:
        """Entries as a page shows them, of rows (position, recorded_at, _, _, _, body, bodies of its corrections)."""
        found = [
            (Recorded(row[0], row[1], decode_body(bytes(row[5]))), [decode_body(bytes(p)) for p in row[6]])
            for row in rows
        ]
        every = [event for recorded, patches in found for event in (recorded.event, *patches)]
        opened = iter(await unseal(self._subjects, every))
        entries = []
        for recorded, patches in found:
            data, extensions = next(opened)
            if not patches:
                entries.append(
                    _entry(recorded.position, recorded.recorded_at, recorded.event, data, extensions)
                )
                continue
            corrections = [Amendment(Recorded(0, recorded.recorded_at, patch), b"") for patch in patches]
            held = amended(recorded, corrections)
            assert held is not None, "a correction never takes an event away"
            markers = []
            changes: dict[str, Any] = {}
            erased = False
            for patch in patches:
                told, _ = next(opened)
                change = told.get("patch") or {}
                changes |= change.get("data") or {}
                erased = erased or "erased" in told
                fields = sorted(
                    {*(k for k in change if k != "data"), *(f"data.{k}" for k in change.get("data") or {})}
                )
                markers.append(
                    {
                        "event_id": patch.event_id,
                        "at": moment(patch.occurred_at),
                        "source": patch.source,
                        "source_id": patch.id,
                        "principal": patch.principal,
                        "fields": fields,
                        "reason": told.get("reason"),
                    }
                )
            data = patched(data, changes)
            if erased:
                data["erased"] = True
            entry = _entry(recorded.position, recorded.recorded_at, held[0].event, data, extensions)
            entry["corrections"] = markers
            entries.append(entry)
        return entries


_HANDLERS = ("agent", "assignee", "owner", "technician", "handled_by", "host", "sales_rep")
_OUTCOMES = ("outcome", "status", "result", "resolution", "disposition")
_BELONGS = (
    "order_id",
    "case_id",
    "conversation_id",
    "thread_id",
    "campaign_id",
    "visit_id",
    "opportunity_id",
    "subscription_id",
)


def _entry(
    position: int, recorded_at: datetime, event: Body, data: dict[str, Any], extensions: dict[str, Any]
) -> dict[str, Any]:
    """One entry as INTERFACES writes it; `headline` is told in today's words."""
    today = upcast(event.type, event.version, data)
    entry: dict[str, Any] = {
        "position": position,
        "event_id": event.event_id,
        "type": event.type,
        "channel": event.channel,
        "direction": event.direction,
        "occurred_at": moment(event.occurred_at),
        "recorded_at": moment(recorded_at),
        "headline": headline(event.type, today),
        "handled_by": next((today[k] for k in _HANDLERS if isinstance(today.get(k), str)), None),
        "outcome": next((today[k] for k in _OUTCOMES if isinstance(today.get(k), str)), None),
        "belongs_to": {k: today[k] for k in _BELONGS if isinstance(today.get(k), str | int)},
        "data": today,
        "provenance": {
            "position": position,
            "source": event.source,
            "source_id": event.id,
            "version": event.version,
            "principal": event.principal,
            "on_behalf_of": event.on_behalf_of,
            "correlation": event.correlation,
            "causation": event.causation,
            "import": event.import_id,
            "occurred_at_given": event.occurred_at_given,
            "extensions": extensions,
        },
    }
    if event.future:
        entry["future"] = True
    return entry
