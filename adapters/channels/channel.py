"""What a channel is: its name, how it translates a delivery, its signature scheme and its settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec
import orjson
import structlog

from adapters.channels.values import inside
from adapters.intake.payloads import Payload, event_of, items_of, json_error, members_of, read_payload
from domain.entry import moment_once
from domain.errors import Invalid, Problem, pointed
from domain.identity import kind_of

__all__ = [
    "CHANNELS",
    "NAMESPACE",
    "Channel",
    "Delivery",
    "Setting",
    "Translated",
    "Untranslated",
    "compared",
    "compared_soundly",
    "items_in",
    "json_of",
    "register",
    "touchpoint",
    "undecodable",
    "unnamed",
]

log = structlog.get_logger()


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it came, and what the installation says about its sender."""

    body: bytes
    headers: Mapping[str, str]  # names in lower case
    received_at: datetime
    source: str  # the CloudEvents source of what comes out of it
    unique: str  # made at receipt: part of the id of an item that its sender gave none
    method: str = "POST"
    url: str = ""  # as the sender knows it, with its query
    call: str = ""  # which call of an API it was, where a channel has several
    settings: Mapping[str, str] = {}


class Translated(msgspec.Struct, frozen=True):
    """One touchpoint: its CloudEvent, and the bytes that tell a repeat from a conflict.

    `event["time"]` is absent where the sender gave no time: then it is `occurred_at`, the time of receipt.
    """

    place: str
    event: dict[str, Any]
    canonical: bytes
    occurred_at: datetime
    number: tuple[str, int] | None = None  # (series, number) in the sender's own numbering
    sound: bool = False  # every value of `event` stands in `canonical`, which holds nothing that no event may

    @property
    def payload(self) -> Payload:
        """What ingest takes.

        Raises:
            Invalid: it holds what no event may (NUL, integers beyond 64 bits, lone surrogates).
        """
        event_of(self.event)
        return Payload(self.event, self.canonical)


class Untranslated(msgspec.Struct, frozen=True):
    """One item that is no touchpoint, and why."""

    place: str
    problems: list[Problem]


class Setting(msgspec.Struct, frozen=True):
    """Something that an endpoint of a channel can be told."""

    name: str
    meaning: str
    default: str = ""
    secret: bool = False  # kept as a keyed hash only


NAMESPACE = Setting(
    "namespace",
    "whose numbers the sender's own ids are: user 17 becomes user@NAMESPACE:17 (letters, digits, - . _)",
)
"""A setting of every channel: customer 17 of one shop is not customer 17 of another (SEMANTICS §2)."""
Found = Translated | Untranslated


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """One channel.

    Attributes:
        meaning: what it takes, in a line.
        translate: the touchpoints of a delivery; raises Invalid where a delivery cannot be read at all.
        scheme: the name of its signature scheme in `signatures.SCHEMES`; empty where it has none of its own.
        nothing: whether a delivery is rightly without touchpoints (a ping, a handshake).
    """

    name: str
    meaning: str
    translate: Callable[[Delivery], Iterable[Found]]
    scheme: str = ""
    settings: tuple[Setting, ...] = ()

    def read(self, delivery: Delivery) -> list[Found]:
        """Every item of *delivery*, translated or with the reason why not; never raises."""
        found: list[Found] = []
        try:
            for one in self.translate(delivery):
                found.append(_checked(one) if isinstance(one, Translated) and not one.sound else one)  # noqa: PERF401 - what came before an error stays
        except Invalid as wrong:
            found.append(Untranslated("", wrong.problems))
        except Exception as error:
            # A fault of ours, told without values; the delivery is kept and translated again once it is mended.
            log.exception("translation_failed", channel=self.name)
            found.append(
                Untranslated(
                    "",
                    [
                        Problem(
                            "",
                            f"The channel {self.name} failed at this payload ({type(error).__name__}). It is kept; update touchlog and retry it.",
                            "channel_failed",
                        )
                    ],
                )
            )
        return found


CHANNELS: dict[str, Channel] = {}


def register(channel: Channel) -> Channel:
    """Make *channel* known under its name."""
    if channel.name in CHANNELS:
        raise ValueError(f"Two channels are named {channel.name!r}.")
    CHANNELS[channel.name] = channel
    return channel


def _checked(one: Translated) -> Found:
    try:
        encoded = orjson.dumps(one.event)
    except TypeError:
        encoded = b""
    if encoded and b"\\u0000" not in encoded:
        return one
    try:
        _ = one.payload
    except Invalid as wrong:
        return Untranslated(one.place, wrong.problems)
    return one


def touchpoint(
    delivery: Delivery,
    *,
    id: str,
    type: str,
    at: datetime | None,
    data: Mapping[str, Any],
    canonical: bytes,
    identifiers: Iterable[tuple[str, object]] = (),
    place: str = "",
    channel: str | None = None,
    direction: str | None = None,
    number: tuple[str, int] | None = None,
    sound: bool = False,
) -> Translated:
    """One touchpoint of *delivery*.

    Args:
        id: the sender's own id of what happened; never of the delivery.
        at: when it happened, aware; None where the sender does not say.
        identifiers: (kind, value) of the person; what is None or blank is left out.
        data: by the type's schema; members that are None are left out.
        canonical: what two deliveries of the same thing have in common (`compared`).
        sound: of `compared_soundly`, where *id*, *identifiers* and *data* hold nothing that is not in *canonical*:
            then they are not looked through a second time.
    """
    event: dict[str, Any] = {"specversion": "1.0", "id": id, "source": delivery.source, "type": type}
    if at is not None:
        event["time"] = moment_once(at)
    refs = []
    namespace = delivery.settings.get("namespace") if delivery.settings else None
    odd: dict[str, list[str]] | None = None
    for kind, value in identifiers:
        if value is None or value is True or value is False:
            continue
        text = value.strip() if isinstance(value, str) else str(value).strip()
        if not text:
            continue
        if namespace and "@" not in kind and kind_of(kind).namespace and not kind_of(kind).reference:
            kind = f"{kind}@{namespace}"  # noqa: PLW2901 - said more exactly
        if "," in text:
            odd = {} if odd is None else odd
            odd.setdefault(kind, []).append(text)
        else:
            refs.append(f"{kind}:{text}")
    if refs:
        event["subject"] = refs[0]
        if len(refs) > 1:
            event["identifiers"] = ",".join(dict.fromkeys(refs[1:]))
    if channel is not None:
        event["channel"] = channel
    if direction is not None:
        event["direction"] = direction
    told = {name: value for name, value in data.items() if value is not None}
    if odd is not None:
        told["identifiers"] = odd
    event["data"] = told
    occurred_at = at if at is not None else delivery.received_at
    return Translated(place, event, canonical, occurred_at, number, sound)


def json_of(body: bytes) -> Any:
    """The JSON of *body*, integers exact.

    Raises:
        Invalid: it is not JSON, or holds what cannot be decoded: that is told with its place.
    """
    body = body.removeprefix(b"\xef\xbb\xbf")
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        read_payload(body)  # tells what is wrong, and where
        raise Invalid([Problem("", "The payload is not JSON.", "not_json")]) from None


def items_in(body: bytes, *path: str | int) -> Iterator[tuple[str, Any]]:
    """(place, item) of each item of the list under *path*; where no list stands, what is there, alone.

    An item that cannot be decoded is `Untranslated` and spoils none of its neighbours.

    Raises:
        Invalid: *body* is not JSON at all, or what cannot be decoded stands outside the list.
    """
    root = "".join(f"/{pointed(str(step))}" for step in path)
    try:
        found = inside(json_of(body), *path)
    except Invalid:
        raw = body.removeprefix(b"\xef\xbb\xbf").strip()
        if json_error(raw) is not None:
            raise
        for step in path:
            raw = _piece(raw, step)
        if raw[:1] != b"[":
            raise
        for number, item in enumerate(items_of(raw)):
            place = f"{root}/{number}"
            try:
                yield place, json_of(item)
            except Invalid:
                yield place, undecodable(item, place)
        return
    if not isinstance(found, list):
        yield root, found
        return
    for number, item in enumerate(found):
        yield f"{root}/{number}", item


def _piece(raw: bytes, step: str | int) -> bytes:
    """What stands at *step* of an object or a list, as it was sent; nothing where nothing does."""
    if isinstance(step, str):
        return members_of(raw).get(step, b"") if raw[:1] == b"{" else b""
    items = items_of(raw) if raw[:1] == b"[" else []
    return items[step] if -len(items) <= step < len(items) else b""


def undecodable(raw: bytes, place: str) -> Untranslated:
    """An item that is no JSON, or holds what cannot be decoded, with what is wrong in it."""
    problems = [Problem("", "The item is not JSON.", "not_json")]
    try:
        json_of(raw)
    except Invalid as wrong:
        problems = wrong.problems
    return Untranslated(
        place, [msgspec.structs.replace(each, pointer=place + each.pointer) for each in problems]
    )


def unnamed(canonical: bytes) -> str:
    """The id of what its sender gave none: the same for every delivery of the same payload."""
    return hashlib.blake2b(canonical, digest_size=16).hexdigest()


def compared(item: Any, *, but: Iterable[str] = ()) -> bytes:
    """What two deliveries of the same *item* have in common: its canonical JSON, but for members that count deliveries."""
    return compared_soundly(item, but=but)[0]


def compared_soundly(item: Any, *, but: Iterable[str] = ()) -> tuple[bytes, bool]:
    """`compared`, and whether all that it holds may stand in an event: no NUL, no integer beyond 64 bits."""
    if isinstance(item, dict):
        left = but if isinstance(but, frozenset) else frozenset(but)
        if not left.isdisjoint(item):
            item = {name: value for name, value in item.items() if name not in left}
    try:
        written = orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # integers beyond 64 bits
        return json.dumps(item, sort_keys=True, separators=(",", ":")).encode(), False
    return written, b"\\u0000" not in written
