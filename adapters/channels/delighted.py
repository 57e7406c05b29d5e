"""Delighted: answers to surveys, what was changed in them since, and who unsubscribed.

A response is told with its score the moment it is given, and whole again whenever it changes: the comment comes so,
minutes later. It is one answer nonetheless: `survey.answered` under the response's own id and `created_at`, whichever
delivery is the first, and a `correction.recorded` under each change's `event_id` and `updated_at`. Times are seconds
since 1970. Ids of persons are Delighted's own, so they stand in its namespace.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapters.channels.channel import Channel, Delivery, Found, compared, json_of, register, touchpoint
from adapters.channels.values import at_epoch, first, inside, listed, text, within
from domain.errors import Invalid, Problem

__all__ = ["DELIGHTED"]

_METRICS = ("nps", "csat", "ces")  # stars, smileys, thumbs … are scales of their own, and no metric here

_CHANGING = {"answers": "additional_answers"} | {
    name: name for name in ("score", "comment", "person_properties", "tags", "notes")
}


def _answers(items: Any) -> list[dict[str, Any]] | None:
    answers = []
    for item in listed(items):
        value = inside(item, "value")
        picked = [text(inside(one, "text")) for one in listed(inside(value, "select_many"))]
        answer = {
            "question": text(inside(item, "question", "text")),
            "answer": first(
                inside(value, "free_response"),
                inside(value, "select_one", "text"),
                ", ".join(one for one in picked if one),
            ),
            "score": within(inside(value, "scale"), 0, 100),
        }
        answers.append({name: given for name, given in answer.items() if given is not None})
    return answers or None


def _answer(response: Any) -> dict[str, Any]:
    # An older sample names no type and is of an nps survey; newer ones name it.
    kind = text(inside(response, "survey_type")) or "nps"
    return {
        "metric": kind if kind in _METRICS else None,
        "survey_type": None if kind in _METRICS else kind,
        "score": within(inside(response, "score"), 0, 10 if kind == "nps" else 100),
        "comment": text(inside(response, "comment")),
        "answers": _answers(inside(response, "additional_answers")),
        "permalink": text(inside(response, "permalink")),
        "person_properties": inside(response, "person_properties") or None,
        "tags": listed(inside(response, "tags")) or None,
        "notes": listed(inside(response, "notes")) or None,
    }


def _changed(response: Any, answer: dict[str, Any]) -> dict[str, Any]:
    """What a change may have changed; None, which takes a value away, only where the response says that it is empty."""
    return {
        name: answer[name]
        for name, member in _CHANGING.items()
        if answer[name] is not None
        or (isinstance(response, dict) and member in response and not response[member])
    }


def _person(thing: Any) -> list[tuple[str, object]]:
    person = inside(thing, "person")
    return [
        ("user@delighted", first(inside(person, "id"), inside(thing, "person_id"))),
        ("email", first(inside(person, "email"), inside(thing, "email"))),
        ("phone", text(inside(person, "phone_number"))),
    ]


def _required(body: Any, *names: str) -> str:
    found = text(inside(body, *names))
    if found is None:
        raise Invalid([Problem("/" + "/".join(names), f"The body has no {'.'.join(names)}.", "missing")])
    return found


def _translate(delivery: Delivery) -> Iterator[Found]:
    body = json_of(delivery.body)
    happened = _required(body, "event_type")
    event_id = _required(body, "event_id")
    thing = inside(body, "event_data")
    created_at = at_epoch(inside(thing, "created_at"))
    if happened in ("survey_response.created", "survey_response.updated"):
        response_id = _required(body, "event_data", "id")
        answer = _answer(thing)
        yield touchpoint(
            delivery,
            id=response_id,
            type="survey.answered",
            at=created_at,
            data=answer,
            # All else may change: what changed comes as a correction, and must not make this one a conflict.
            canonical=compared({"id": response_id, "created_at": inside(thing, "created_at")}),
            identifiers=_person(thing),
        )
        if happened == "survey_response.updated":
            yield touchpoint(
                delivery,
                id=event_id,
                type="correction.recorded",
                at=at_epoch(inside(thing, "updated_at")),
                data={
                    "of": {"source": delivery.source, "id": response_id},
                    "patch": {"data": _changed(thing, answer)},
                    "reason": "changed_by_sender",
                },
                canonical=compared(body),
                identifiers=_person(thing),
                place="/event_data",
            )
    elif happened == "unsubscribe.created":
        yield touchpoint(
            delivery,
            id=event_id,
            type="email.unsubscribed",
            at=created_at,
            data={"list_id": "delighted", "method": "link"},
            canonical=compared(body),
            identifiers=_person(thing),
        )
    else:
        yield touchpoint(
            delivery,
            id=event_id,
            type=f"delighted.{happened}",
            at=created_at,
            data={"payload": thing},
            canonical=compared(body),
            identifiers=_person(thing),
        )


DELIGHTED = register(
    Channel(
        name="delighted",
        meaning="Delighted: answers to surveys, unsubscribes",
        translate=_translate,
        scheme="delighted",
    )
)
