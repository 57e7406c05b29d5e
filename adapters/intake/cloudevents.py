"""CloudEvents 1.0 in JSON: from a payload to a draft of an event, or to the list of what is wrong with it.

The rules are those of the CloudEvents 1.0.2 specification and its JSON format, and of INTERFACES
"CloudEvents attributes". Nothing here waits or writes.
"""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

import msgspec

from adapters.intake.attributes import is_media_type, not_base64, wrong_extensions
from adapters.intake.named import known_ref, named_by, one_named
from adapters.intake.payloads import Payload, first_told
from domain.consent.opt_outs import EXTENSION as OPT_OUT
from domain.consent.opt_outs import WORDED, understood
from domain.correction import CONSENT_CORRECTION, CORRECTION
from domain.entry import LAST_POSITION, moment
from domain.errors import Invalid, Problem, pointed
from domain.event import TYPES, EventType, custom_type, direction_problems, validate
from domain.identity import Identifier, kind_of
from domain.personal import personal_text, plain_url

__all__ = [
    "CORRECTIONS",
    "LONGEST_NAME",
    "Draft",
    "Receipt",
    "draft",
]

EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST_AFTER = timedelta(days=366)
_PERSONAL_EVENT_TYPES = ("identity.", "verdict.", "access.", "erasure.", "hold.", "import.")
_ANOTHER_WAY = {
    "identity.linked": " Use POST /v1/persons/link, or touchlog persons link.",
    "identity.merged": " Use POST /v1/persons/merge, or touchlog persons merge.",
    "identity.split": " Use POST /v1/persons/split, or touchlog persons split.",
}
_PLAIN_EXTENSIONS = ("purpose", "legalbasis", "traceparent", "dataschema")
_KNOWN = frozenset(
    "specversion id source type time subject data data_base64 datacontenttype channel direction identifiers "
    "purpose legalbasis snapshot traceparent dataschema correlationid causationid recordedtime position touchlogoptout".split()
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LEAP_SECOND = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:60")


class Draft(msgspec.Struct):
    """A checked event before its identifiers are resolved; not yet recorded."""

    source: str
    id: str
    declared: EventType
    occurred_at: str
    occurred_at_given: bool
    future: bool
    channel: str
    direction: str | None
    identifiers: list[Identifier]
    references: list[Identifier]
    contact: Identifier | None
    extensions: dict[str, str | int]
    personal_extensions: dict[str, Any]
    on_behalf_of: str | None
    correlation: str | None
    causation: str | None
    data: dict[str, Any]
    canonical: bytes
    warnings: list[Problem]
    patched_subject: Identifier | None = None


LONGEST_NAME = 1024  # characters
_LONGEST_ACTOR = 500  # characters
_LONGEST_INDEXED_BYTES = 2_600
"""An entry of an index takes some 2,700 bytes; by what causes an event, its effects are found."""


def _text(event: dict[str, Any], name: str, problems: list[Problem], *, limit: int = LONGEST_NAME) -> str:
    value = event.get(name)
    if (
        type(value) is str
        and value
        and not value.isspace()
        and len(value) <= limit
        and (value.isprintable() or not _CONTROL.search(value))
    ):
        return value
    if value is None:
        problems.append(Problem(f"/{name}", f"'{name}' is missing; every CloudEvent has one.", "missing"))
    elif type(value) is not str:
        problems.append(
            Problem(
                f"/{name}",
                f"'{name}' is a text, given was {type(value).__name__}; write it in quotes.",
                "wrong_type",
            )
        )
    elif not value or value.isspace():
        is_ = "blank" if value else "empty"
        problems.append(Problem(f"/{name}", f"'{name}' is {is_}; it must name something.", "empty"))
    elif len(value) > limit:
        problems.append(
            Problem(
                f"/{name}", f"'{name}' has {len(value)} characters; at most {limit} are taken.", "too_long"
            )
        )
    else:
        problems.append(
            Problem(f"/{name}", f"'{name}' holds control characters; leave them out.", "control_character")
        )
    return ""


class Receipt(msgspec.Struct, frozen=True):
    """The time of receipt of a batch, and what follows from it."""

    at: datetime
    text: str
    latest: str

    @classmethod
    def of(cls, at: datetime) -> Receipt:
        """Of an aware time."""
        return cls(at, moment(at), f"{_latest_day(at.date())}T{at.time().isoformat('microseconds')}Z")


@lru_cache(maxsize=4)
def _latest_day(today: date) -> str:
    return (today + LATEST_AFTER).isoformat()


def _when(event: dict[str, Any], receipt: Receipt, problems: list[Problem]) -> tuple[str, bool, bool]:
    """(canonical time, given by the source, in the future)."""
    given = event.get("time")
    if given is None:
        return receipt.text, False, False
    if type(given) is not str:
        problems.append(
            Problem(
                "/time",
                "'time' is an RFC 3339 text such as 2026-01-31T12:00:00Z; a number of seconds is not taken.",
                "wrong_type",
            )
        )
        return "", True, False
    try:
        at = msgspec.convert(given, datetime)
    except msgspec.ValidationError:
        problems.append(
            Problem(
                "/time",
                "'time' names a leap second, which no clock here counts; write second 59, or the minute that follows."
                if _LEAP_SECOND.match(given)
                else "'time' is no RFC 3339 time; right would be 2026-01-31T12:00:00Z or 2026-01-31T13:00:00+01:00.",
                "not_a_time",
            )
        )
        return "", True, False
    if given[-1] == "Z" and (len(given) == 20 or len(given) == 27) and given[10] == "T":
        text = given if len(given) == 27 else f"{given[:19]}.000000Z"
        if "1900" <= text <= receipt.latest:
            return text, True, text > receipt.text
    if at.tzinfo is None:
        problems.append(
            Problem(
                "/time",
                "'time' has no zone, so the instant is unknown; add Z for UTC or an offset such as +01:00.",
                "no_zone",
            )
        )
        return "", True, False
    with suppress(OverflowError):  # beyond the calendar in UTC, and so beyond what is taken
        at = at.astimezone(UTC)
    if not EARLIEST <= at <= receipt.at + LATEST_AFTER:
        problems.append(
            Problem(
                "/time",
                f"'time' lies in {at.year}; taken are times from 1900-01-01 to 366 days after receipt. Check the unit and the century.",
                "out_of_range",
            )
        )
        return "", True, False
    return moment(at), True, at > receipt.at


def _own_type(event: dict[str, Any], problems: list[Problem], *, inside: bool) -> EventType | None:
    name = _text(event, "type", problems, limit=255)
    if not name:
        return None
    if not inside and name.startswith(_PERSONAL_EVENT_TYPES):
        way = _ANOTHER_WAY.get(name, "")
        problems.append(
            Problem(
                "/type",
                f"'{name}' is recorded by touchlog itself and is not taken from outside.{way}",
                "forbidden",
            )
        )
        return None
    return TYPES.get(name) or custom_type(name)


def draft(payload: Payload, receipt: Receipt, *, inside: bool = False, region: str | None = None) -> Draft:
    """Check one event and put its parts in their places.

    Args:
        receipt: when it came; stands in for an absent `time`.
        inside: made by touchlog itself: reserved types and sources are allowed.
        region: the source's region for phone numbers without a country code, e.g. "GB".

    Raises:
        Invalid: with every problem at once.
    """
    event = payload.event
    problems: list[Problem] = []
    warnings: list[Problem] = []
    get = event.get
    if get("specversion") != "1.0":
        problems.append(_wrong_version(get("specversion")))
    source, id_, name = get("source"), get("id"), get("type")
    # isprintable answers for the many; what it doubts is looked at closely, and told.
    if (
        type(source) is not str
        or not source.isprintable()
        or not 0 < len(source) <= LONGEST_NAME
        or source.isspace()
    ):
        source = _text(event, "source", problems)
    if type(id_) is not str or not id_.isprintable() or not 0 < len(id_) <= LONGEST_NAME or id_.isspace():
        id_ = _text(event, "id", problems)
    declared = TYPES.get(name) if type(name) is str else None
    if declared is None or not declared.touchpoint:
        declared = _own_type(event, problems, inside=inside)
    if source.startswith("touchlog/") and not inside:
        problems.append(
            Problem("/source", "Sources that begin with touchlog/ are touchlog's own.", "forbidden")
        )
    occurred_at, given, future = _when(event, receipt, problems)
    direction = get("direction")
    problems += direction_problems(direction)
    channel = get("channel")
    if channel is not None and (
        type(channel) is not str or not channel.strip() or len(channel) > 64 or _CONTROL.search(channel)
    ):
        problems.append(
            Problem("/channel", "'channel' is a short text such as phone, email or store.", "wrong_type")
        )
    data = get("data")
    if type(data) is not dict or "data_base64" in event:
        data = _data(event, declared, problems)
    if declared is not None and declared.fields:
        try:
            validate(declared, data)
        except Invalid as wrong:
            problems.extend(wrong.problems)
    correlation = causation = None
    if (shape := tuple(event)) in _bare_shapes and is_media_type(
        get("datacontenttype")
    ):  # sources send the same attributes in the same order
        extensions = personal_extensions = _NOTHING
    else:
        extensions, personal_extensions = _extensions(event, shape, problems)
        if "correlationid" not in personal_extensions:
            correlation = get("correlationid")
        if "causationid" not in personal_extensions:
            causation = get("causationid")
    subject = get("subject")
    known = known_ref(subject, region) if type(subject) is str else None
    if known is None or "identifiers" in event or "identifiers" in data:
        identifiers, references = named_by(event, data, problems, warnings, region)
    else:  # one identifier, seen lately: what most events name
        identifiers, references = ([], [known[0]]) if known[1] else ([known[0]], [])
    contact = patched = None
    if declared is not None and ("contact" in declared.others or declared.name in CORRECTIONS):
        contact, patched = _spoken_of(declared, data, receipt, problems, warnings, region)
    if problems:
        raise Invalid(problems)
    assert declared is not None
    if declared.name in WORDED and (said := understood(declared.name, data)) is not None:
        extensions = {**extensions, OPT_OUT: str(said)}  # decided while the text is plain
    actor = data.get("actor")
    return Draft(
        source,
        id_,
        declared,
        occurred_at,
        given,
        future,
        channel or declared.channel,
        direction or declared.direction,
        identifiers,
        references,
        contact,
        extensions,
        personal_extensions,
        actor
        if type(actor) is str and len(actor) <= _LONGEST_ACTOR and not personal_text(actor)
        else None,  # longer, it names nobody; the data holds it all the same
        correlation,
        causation,
        data,
        payload.canonical,
        warnings,
        patched,
    )


_PATCHABLE = ("time", "channel", "direction", "subject", "data")


def _patch(
    data: dict[str, Any], receipt: Receipt, problems: list[Problem], region: str | None
) -> Identifier | None:
    """Check what a correction replaces; answers with the subject that it names."""
    patch = data.get("patch")
    if type(patch) is not dict:
        return None
    problems.extend(
        first_told(
            Problem(
                f"/data/patch/{pointed(name)}",
                f"A correction may replace {', '.join(_PATCHABLE)}; never '{name}'.",
                "not_allowed",
            )
            for name in patch.keys() - set(_PATCHABLE)
        )
    )
    if not patch.keys() & set(_PATCHABLE):
        problems.append(
            Problem(
                "/data/patch", f"A correction replaces something: one of {', '.join(_PATCHABLE)}.", "empty"
            )
        )
    if type(patch.get("time")) is str:
        found: list[Problem] = []
        _when({"time": patch["time"]}, receipt, found)
        problems.extend(msgspec.structs.replace(p, pointer="/data/patch/time") for p in found)
    channel = patch.get("channel")
    if type(channel) is str and (not channel.strip() or len(channel) > 64 or _CONTROL.search(channel)):
        problems.append(
            Problem(
                "/data/patch/channel",
                "'channel' is a short text such as phone, email or store.",
                "wrong_type",
            )
        )
    if type(patch.get("subject")) is not str:
        return None
    warnings: list[Problem] = []
    identifier = one_named(patch["subject"], "/data/patch/subject", warnings, region)
    if identifier is None:
        problems.extend(
            Problem(
                "/data/patch/subject",
                "This names nobody: a placeholder, blank, too long, or no REF such as email:ann@example.com. Leave it out, or write whom the event was about.",
                w.code,
            )
            for w in warnings
        )
    elif kind_of(identifier.kind).reference:
        problems.append(
            Problem(
                "/data/patch/subject",
                f"'{identifier.kind}' is a reference, and names no person; write whom the event was about, e.g. email:ann@example.com.",
                "not_allowed",
            )
        )
    return identifier


CORRECTIONS = (CORRECTION, CONSENT_CORRECTION)


def _spoken_of(
    declared: EventType,
    data: dict[str, Any],
    receipt: Receipt,
    problems: list[Problem],
    warnings: list[Problem],
    region: str | None,
) -> tuple[Identifier | None, Identifier | None]:
    """(contact point of the event, or of what it corrects; subject that a correction names)."""
    contact = subject = None
    said, place = data, "/data"
    if declared.name == CORRECTION:
        subject = _patch(data, receipt, problems, region)
        patch = data.get("patch")
        within = patch.get("data") if isinstance(patch, dict) else None
        said, place = within if isinstance(within, dict) else {}, "/data/patch/data"
    elif declared.name == CONSENT_CORRECTION:
        patch = data.get("patch")
        said, place = patch if isinstance(patch, dict) else {}, "/data/patch"
        if isinstance(said.get("subject"), str):
            subject = one_named(said["subject"], f"{place}/subject", warnings, region)
    if isinstance(said.get("contact"), str):
        contact = one_named(said["contact"], f"{place}/contact", warnings, region)
    return contact, subject


def _wrong_version(given: Any) -> Problem:
    return Problem(
        "/specversion",
        "'specversion' is missing; write \"1.0\"."
        if given is None
        else "'specversion' must be \"1.0\"; other versions of CloudEvents are not taken.",
        "specversion",
    )


def _data(event: dict[str, Any], declared: EventType | None, problems: list[Problem]) -> dict[str, Any]:
    data = event.get("data")
    if "data_base64" in event:
        if data is not None:
            problems.append(
                Problem("/data_base64", "An event has 'data' or 'data_base64', not both.", "both")
            )
        elif type(event["data_base64"]) is not str:
            problems.append(Problem("/data_base64", "'data_base64' is a text.", "wrong_type"))
        elif (broken := not_base64(event["data_base64"])) is not None:
            problems.append(broken)
        if declared is not None and declared.fields:
            problems.append(
                Problem(
                    "/data_base64",
                    f"{declared.name} takes its data as a JSON object in 'data', see /v1/types/{declared.name}.",
                    "wrong_type",
                )
            )
        return {"data_base64": event["data_base64"]}
    if data is None:
        return {}
    if type(data) is dict:
        return data
    if declared is not None and declared.fields:
        problems.append(
            Problem(
                "/data",
                f"'data' of {declared.name} is a JSON object, see /v1/types/{declared.name}.",
                "wrong_type",
            )
        )
        return {}
    return {"value": data}


_NO_EXTENSION = frozenset(
    "specversion id source type time subject data datacontenttype channel direction identifiers".split()
)
_bare_shapes: set[tuple[str, ...]] = set()
_NOTHING: dict[str, Any] = {}


def _extensions(
    event: dict[str, Any], shape: tuple[str, ...], problems: list[Problem]
) -> tuple[dict[str, str | int], dict[str, Any]]:
    problems.extend(first_told(wrong_extensions(event, _KNOWN)))
    if _NO_EXTENSION.issuperset(shape):
        if len(_bare_shapes) < 1000:
            _bare_shapes.add(shape)
        return _NOTHING, _NOTHING
    plain: dict[str, str | int] = {}
    personal: dict[str, Any] = {}
    for name in _PLAIN_EXTENSIONS:
        value = event.get(name)
        if value is None:
            continue
        if type(value) is not str or len(value) > 1024:
            problems.append(
                Problem(f"/{name}", f"'{name}' is a text of at most 1,024 characters.", "wrong_type")
            )
        elif personal_text(value) or plain_url(value) is not None:
            personal[name] = value
        else:
            plain[name] = value
    snapshot = event.get("snapshot")
    if snapshot is not None:
        number = (
            (int(snapshot) if len(snapshot) < 20 else LAST_POSITION + 1)
            if type(snapshot) is str and snapshot.isascii() and snapshot.isdigit()
            else snapshot
        )
        if type(number) is not int or number < 0:
            problems.append(
                Problem(
                    "/snapshot",
                    "'snapshot' is the position that the sender used: a whole number, or a text of digits.",
                    "wrong_type",
                )
            )
        elif number > LAST_POSITION:
            problems.append(
                Problem(
                    "/snapshot",
                    "'snapshot' is beyond any position of the log; send the one that POST /v1/consent/check answered.",
                    "out_of_range",
                )
            )
        else:
            plain["snapshot"] = number
    for name in ("correlationid", "causationid"):
        value = event.get(name)
        if value is not None and (type(value) is not str or len(value) > 1024):
            problems.append(
                Problem(f"/{name}", f"'{name}' is a text of at most 1,024 characters.", "wrong_type")
            )
        elif value is not None and personal_text(value):
            personal[name] = value
        elif value is not None and len(value.encode()) > _LONGEST_INDEXED_BYTES:
            problems.append(
                Problem(
                    f"/{name}", f"'{name}' is a text of at most {_LONGEST_INDEXED_BYTES:,} bytes.", "too_long"
                )
            )
    for name in event.keys() - _KNOWN:
        if event[name] is not None:
            personal[name] = event[name]
    return plain, personal
