"""What the body of a request or message holds: events, by the HTTP and NATS bindings of CloudEvents 1.0.2."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from urllib.parse import unquote_to_bytes

import msgspec
import orjson

from adapters.intake.payloads import json_error, not_json, split_batch
from adapters.refusal import Refusal
from domain.errors import Invalid, Problem

__all__ = ["LARGEST_BATCH", "events_of", "events_of_message", "whole_json"]

LARGEST_BATCH = 10_000
_LOST = "\ufffd".encode()
"""What a client library of the bus puts where bytes of a header were not UTF-8."""
_NAME = re.compile(r"[a-z0-9]{1,64}\Z")
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
"""A text that does not end is one token, too: else each quote in it would be looked at to the end of the body anew."""
_QUOTED = re.compile(r'\A"((?:[^"\\]|\\.)*)"\Z', re.DOTALL)


def events_of(headers: Iterable[tuple[bytes, bytes]], content_type: str | None, body: bytes) -> list[bytes]:
    """The events of a request, each as JSON, by the HTTP protocol binding of CloudEvents 1.0.2.

    Raises:
        Refusal: 400 (no JSON), 413 (too many), 415 (not a media type that is taken).
    """
    media_type, _, parameters = (content_type or "").partition(";")
    media_type = media_type.strip().lower()
    if not media_type or _is_json(media_type):
        body = body.removeprefix(b"\xef\xbb\xbf")
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", parameters, re.IGNORECASE)
    utf8 = charset is None or charset[1].lower() in ("utf-8", "utf8", "us-ascii")
    if charset and not utf8 and _is_json(media_type):
        raise Refusal(415, "unsupported", f"JSON travels as UTF-8; charset {charset[1][:40]!r} is not taken.")
    if media_type == "application/cloudevents+json":
        return [whole_json(body)]
    if media_type == "application/cloudevents-batch+json":
        return _batch(body)
    attributes = [(n, v) for n, v in headers if n[:3] == b"ce-"]
    if attributes and not media_type.startswith("application/cloudevents"):  # such a one is structured (§3)
        return [_binary(attributes, content_type, media_type, body, utf8=utf8)]
    if media_type == "application/json":
        return _batch(body)
    raise Refusal(
        415,
        "unsupported",
        "Send CloudEvents as application/cloudevents+json, application/cloudevents-batch+json, application/json, "
        "or in binary mode with ce-… headers"
        + (f"; {media_type[:80]!r} is not taken." if media_type else "; the request has no Content-Type."),
    )


def events_of_message(headers: Mapping[str, str], body: bytes) -> list[bytes]:
    """The events of a message of a bus, each as JSON; *headers* by their names in lower case, decoded by its library.

    A header that was not UTF-8 is told as such: the sign in it stands for any bytes, so that two ids would be one.

    Raises:
        Refusal: as `events_of`.
    """
    media_type = headers.get("content-type") or headers.get("ce-datacontenttype") or None
    if media_type is None and not any(name.startswith("ce-") for name in headers):
        media_type = "application/json"
    attributes = [
        (name.encode(), value.encode("utf-8", "surrogateescape").replace(_LOST, b"\xff"))
        for name, value in headers.items()
    ]
    return events_of(attributes, media_type, body)


def _batch(body: bytes) -> list[bytes]:
    """The items of an array; a body that is no array is one item."""
    if body.lstrip(b" \t\r\n")[:1] != b"[":
        return [whole_json(body)]
    try:
        items = split_batch(body)
    except RecursionError:
        items = _split_by_brackets(body)
    except Invalid as wrong:
        whole_json(body)
        raise _not_json(wrong.problems[0].detail) from None
    if len(items) > LARGEST_BATCH:
        raise Refusal(
            413,
            "too-large",
            f"The batch holds {len(items):,} events; at most {LARGEST_BATCH:,} are taken at once. Nothing was recorded: "
            "split it and send the parts one after the other.",
        )
    return items


def _split_by_brackets(body: bytes) -> list[bytes]:
    """The items of an array of which one is nested too deeply to be decoded; that one is refused alone, later."""
    items: list[bytes] = []
    depth = begin = 0
    for token in _TOKENS.finditer(body):
        match token[0]:
            case b"[" | b"{":
                depth += 1
                begin = token.end() if depth == 1 else begin
            case b"]" | b"}":
                depth -= 1
                if depth == 0:
                    items.append(body[begin : token.start()].strip())
                    if body[token.end() :].strip():
                        raise _not_json("The body is not JSON: something follows the array.")
                    return items
            case b"," if depth == 1:
                items.append(body[begin : token.start()].strip())
                begin = token.end()
    raise _not_json("The body is not JSON: the array does not end.")


def _not_json(detail: str) -> Refusal:
    return Refusal(
        400, "not-json", f"{detail} Nothing was recorded.", errors=[Problem("", detail, "not_json")]
    )


def whole_json(body: bytes) -> bytes:
    """*body*, which is one JSON text; what is wrong inside it is told by the ingest, per event.

    Raises:
        Refusal: 400, it is not JSON at all.
    """
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        if (at := json_error(body)) is not None:
            raise _not_json(
                "The body is empty."
                if not body.strip()
                else _packed_or_encoded(body)
                or f"The body is not JSON: {not_json(at)} at character {at.pos}."
            ) from None
    return body


def _packed_or_encoded(body: bytes) -> str | None:
    """What to do with bytes that were JSON before they were packed, or written in another encoding."""
    if body.startswith(b"\x1f\x8b"):
        return "The body is packed by gzip: send it as it is, or over HTTP packed once, with Content-Encoding: gzip."
    if body.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in body[:4]:
        return "The body begins as UTF-16 or UTF-32 do; JSON travels as UTF-8."
    return None


def _is_json(media_type: str) -> bool:
    return media_type in ("application/json", "text/json") or media_type.endswith("+json")


def _binary(
    attributes: list[tuple[bytes, bytes]],
    content_type: str | None,
    media_type: str,
    body: bytes,
    *,
    utf8: bool,
) -> bytes:
    """One event in binary mode as its JSON; a header that comes twice is told as the repeated key that it is."""
    members: list[bytes] = []
    for name, value in attributes:
        attribute = name[3:].decode("latin-1")
        if attribute == "datacontenttype":
            continue
        if not _NAME.match(attribute) or attribute in ("data", "data_base64"):
            attribute = f"ce-{attribute}"  # no attribute of that name can be: the ingest tells so
        members.append(orjson.dumps(attribute) + b":" + _header_text(value))
    if content_type is not None:
        members.append(b'"datacontenttype":' + orjson.dumps(content_type))
    if body:
        if not media_type or _is_json(media_type):
            members.append(b'"data":' + whole_json(body))
        else:
            text = None
            if utf8 and (media_type.startswith("text/") or media_type.endswith(("/xml", "+xml"))):
                try:
                    text = body.decode("utf-8")
                except UnicodeDecodeError:
                    text = None
            members.append(
                b'"data_base64":' + orjson.dumps(base64.b64encode(body).decode())
                if text is None
                else b'"data":' + orjson.dumps(text)
            )
    return b"{" + b",".join(members) + b"}"


def _header_text(value: bytes) -> bytes:
    """The JSON text of an attribute's header: quotes undone (RFC 9110 §5.6.4), then percent-encoding, once."""
    quoted = _QUOTED.match(value.decode("latin-1"))
    if quoted:
        value = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL).encode("latin-1")
    raw = unquote_to_bytes(value) if b"%" in value else value
    try:
        return orjson.dumps(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return (
            b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
        )  # told by the ingest: not UTF-8
