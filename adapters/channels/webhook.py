"""Any webhook with a JSON body, by settings that say where its key, its type, its time and its person stand.

By default as Standard Webhooks writes it: `{"type": …, "timestamp": …, "data": {…}}` with the id in a header.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from adapters.channels.channel import (
    Channel,
    Delivery,
    Found,
    Setting,
    Untranslated,
    compared,
    items_in,
    register,
    touchpoint,
)
from adapters.channels.values import at_epoch, at_mail_date, at_time, first, inside, text
from domain.errors import Problem

__all__ = ["WEBHOOK"]

_MILLISECOND = Decimal("0.001")


def _at(body: Any, path: str) -> Any:
    """What stands at a path such as `event.items.0.id`; `header:webhook-id` is told apart before."""
    return inside(body, *_steps(path))


def _steps(path: str) -> list[str | int]:
    return (
        [int(step) if step.isdigit() and len(step) < 9 else step for step in path.split(".")] if path else []
    )


def _given(delivery: Delivery, body: Any, name: str, default: str) -> Any:
    """The first that is there of the paths of a setting, with `|` between them."""
    for path in map(str.strip, delivery.settings.get(name, default).split("|")):
        if path.startswith("header:"):
            found: Any = delivery.headers.get(path.partition(":")[2].lower())
        else:
            found = _at(body, path) if path else None
        if found is not None:
            return found
    return None


def _time(value: Any) -> datetime | None:
    if isinstance(value, str) and not value.strip().lstrip("-").replace(".", "", 1).isdigit():
        return at_time(value, zone=UTC) or at_mail_date(value)
    seconds = at_epoch(value)
    return at_epoch(value, unit_s=_MILLISECOND) if seconds is None or seconds.year > 3000 else seconds


def _translate(delivery: Delivery) -> Iterator[Found]:
    where = delivery.settings.get("items", "")
    for at, body in items_in(delivery.body, *_steps(where)):
        if isinstance(body, Untranslated):
            yield body
            continue
        if not isinstance(body, dict):
            yield Untranslated(at, [Problem(at, "An item is a JSON object.", "not_an_object")])
            continue
        id_ = first(_given(delivery, body, "id", "id|header:webhook-id|header:svix-id"))
        type_ = first(_given(delivery, body, "type", "type"), "received")
        if id_ is None:
            problem = Problem(f"{at}/id", "There is no id where the setting 'id' says.", "missing")
            yield Untranslated(at, [problem])
            continue
        identifiers = [(kind, text(_given(delivery, body, kind, ""))) for kind in ("user", "email", "phone")]
        yield touchpoint(
            delivery,
            id=id_,
            type=f"webhook.{type_}",
            at=_time(_given(delivery, body, "time", "timestamp|time|created_at")),
            data=body if "identifiers" not in body else {"payload": body},
            canonical=compared(body),
            identifiers=identifiers,
            place=at,
        )


WEBHOOK = register(
    Channel(
        name="webhook",
        meaning="any webhook with a JSON body, by settings; by default Standard Webhooks",
        translate=_translate,
        scheme="standard",
        settings=(
            Setting("items", "path of the list of events in a body that holds several"),
            Setting("id", "paths of the id, with | between them", "id|header:webhook-id|header:svix-id"),
            Setting("type", "path of the type", "type"),
            Setting(
                "time",
                "path of the time: RFC 3339, RFC 2822, seconds or milliseconds",
                "timestamp|time|created_at",
            ),
            Setting("user", "path of the sender's own id of the person"),
            Setting("email", "path of the person's e-mail address"),
            Setting("phone", "path of the person's telephone number, with its +"),
        ),
    )
)
