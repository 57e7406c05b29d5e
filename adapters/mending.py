"""What was kept, looked at and tried again: what a payload would become, and what becomes of it when it is retried."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

import domain.touchpoints  # noqa: F401 - registers every declared type
from adapters.channels import CHANNELS, Channel, Delivery, Translated
from adapters.deliveries import delivery_of, is_letter, take_again
from adapters.intake.cloudevents import Receipt, draft
from adapters.intake.import_runs import retracted_at
from adapters.intake.ingest import Ingest
from adapters.intake.payloads import read_payload
from adapters.postgres.api_keys import ApiKeys
from adapters.postgres.rejected import Rejected, Shown
from adapters.principal import Principal
from domain.errors import Invalid

__all__ = ["looked_at", "not_as_sent", "retried", "tried"]


def tried(channel: Channel, delivery: Delivery, *, region: str | None) -> list[dict[str, Any]]:
    """What *channel* makes of a delivery, item by item, and what ingest would say of it; nothing is recorded."""
    receipt = Receipt.of(datetime.now(UTC))
    shown: list[dict[str, Any]] = []
    for one in channel.read(delivery):
        if not isinstance(one, Translated):
            shown.append({"place": one.place, "errors": msgspec.to_builtins(one.problems)})
            continue
        try:
            checked = draft(one.payload, receipt, region=region)
        except Invalid as wrong:
            shown.append(
                {"place": one.place, "event": one.event, "errors": msgspec.to_builtins(wrong.problems)}
            )
            continue
        shown.append(
            {
                "type": checked.declared.name,
                "id": checked.id,
                "time": one.event.get("time"),
                "event": one.event,
                "warnings": msgspec.to_builtins(checked.warnings),
            }
        )
    return shown


def looked_at(payload: bytes, *, region: str | None) -> list[dict[str, Any]]:
    """What a kept or corrected payload, a whole delivery or one event, would become now; nothing is recorded."""
    read = delivery_of(payload)
    if read is not None:
        name, delivery = read
        if name in CHANNELS:
            return tried(CHANNELS[name], delivery, region=region)
        return [{"place": "", "errors": [{"pointer": "", "detail": f"There is no channel '{name}' here."}]}]
    try:
        event = read_payload(payload)
        checked = draft(event, Receipt.of(datetime.now(UTC)), region=region)
    except Invalid as wrong:
        return [{"place": "", "errors": msgspec.to_builtins(wrong.problems)}]
    return [
        {
            "type": checked.declared.name,
            "id": checked.id,
            "time": event.event.get("time"),
            "event": event.event,
            "warnings": msgspec.to_builtins(checked.warnings),
        }
    ]


async def not_as_sent(ingest: Ingest, rejected: Rejected, keys: ApiKeys, one: Shown) -> list[dict[str, Any]]:
    """Why a kept item may not be recorded as it was sent: its import was taken back, or it is not its sender's to send."""
    _, at = await _standing(rejected, one)
    if at is None:
        return await _not_its_own(ingest, keys, one)
    detail = (
        f"The import that brought it ({one.import_id}) was taken back at {at:%Y-%m-%d %H:%M} UTC: it would not hold. "
        "Dismiss it; where it is right all the same, give it as your own, as a correction."
    )
    return [{"pointer": "", "detail": detail, "code": "retracted"}]


async def _standing(rejected: Rejected, one: Shown) -> tuple[str | None, datetime | None]:
    """(the import that an item becomes part of, when the last that brought it was taken back, where none stands).

    As what several imports brought and was recorded is of the first, so this is of the first that stands.
    """
    back = await retracted_at(rejected.pool, [each for each in one.brought_by if each is not None])
    for each in one.brought_by:
        if each not in back:
            return each, None
    return None, back[one.import_id or ""]


async def _not_its_own(ingest: Ingest, keys: ApiKeys, one: Shown) -> list[dict[str, Any]]:
    """Why a kept event may not be recorded as it was sent: it speaks for a source that is not its sender's.

    Who tries it again may do so, but has not said it: a forged event would come in with the next `retry --all`.
    """
    if one.payload is None or is_letter(one.payload):
        return []
    poster = await keys.poster(one.principal)
    if poster is None:  # somebody at this machine, or a channel
        return []
    try:
        ingest.check(one.payload, poster)
    except Invalid as wrong:
        return [
            msgspec.to_builtins(problem) | {"detail": f"{problem.detail} {_YOUR_OWN}"}
            for problem in wrong.problems
            if problem.code == "forbidden" and problem.pointer != "/type"
        ]
    return []


_YOUR_OWN = (
    "As it was sent it stays refused; where it is right all the same, give it as your own, as a correction."
)


async def retried(
    ingest: Ingest,
    rejected: Rejected,
    keys: ApiKeys,
    one: Shown,
    who: Principal,
    corrected: bytes | None = None,
) -> dict[str, Any]:
    """Try a kept item again, or *corrected* in its place; what is recorded now, or was already, is settled.

    As it was sent it is recorded only where its sender's key may do so (SEMANTICS §7); a correction is the word of *who*.
    What came with an import becomes part of it, and goes with it; of one that was taken back only a correction is
    recorded, which is then none of it.

    Raises:
        Unavailable: the same may be asked again.
    """
    outcome: dict[str, Any] = {"id": one.id, "status": "rejected", "position": None, "errors": []}
    payload = corrected if corrected is not None else one.payload
    if one.state in ("recorded", "duplicate"):
        return outcome | {"status": one.state, "position": one.position, "was_settled": True}
    if payload is None:
        detail = "The key of its payload was destroyed; there is nothing to try again. Dismiss it."
        return outcome | {"errors": [{"pointer": "", "detail": detail, "code": "erased"}]}
    if corrected is None and (reasons := await not_as_sent(ingest, rejected, keys, one)):
        return outcome | {"errors": reasons}
    if corrected is None and one.way_in.startswith("csv") and not payload.lstrip().startswith(b"{"):
        detail = (
            f"This is a row of a file ({one.way_in}, {one.place}), not an event. Put the file right and ingest it again: "
            "rows that are recorded are skipped. Or give an event for it: --with FILE."
        )
        return outcome | {"errors": [{"pointer": "", "detail": detail, "code": "not_an_event"}]}
    if is_letter(payload):
        result = await take_again(ingest, rejected, payload, who, way_in=one.way_in)
    else:
        answer = await ingest.accept(
            [payload],
            who,
            way_in=one.way_in,
            import_id=(await _standing(rejected, one))[0],
            places=[one.place or f"rejected {one.id}"],
            keep=False,
        )
        (result,) = answer.results
    if result.status in ("recorded", "duplicate"):
        await rejected.settle(one.id, result.status, result.position)
    return outcome | {
        "status": result.status,
        "position": result.position,
        "errors": msgspec.to_builtins(result.errors),
    }
