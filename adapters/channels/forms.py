"""Forms as vendors post them: urlencoded and multipart, every field in order, a field that comes twice twice."""

from __future__ import annotations

from email.parser import BytesParser
from email.policy import HTTP
from urllib.parse import parse_qsl

__all__ = ["fields_of"]


def fields_of(body: bytes, content_type: str) -> list[tuple[str, str]]:
    """The (name, value) pairs of a form; of a file its bytes as text. Nothing where *body* is no form; never fails."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return _multipart(body, content_type)
    try:
        return parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=10_000)
    except ValueError:
        return []


def _multipart(body: bytes, content_type: str) -> list[tuple[str, str]]:
    head = f"Content-Type: {content_type}\r\n\r\n".encode("utf-8", "replace")
    try:
        message = BytesParser(policy=HTTP).parsebytes(head + body)
        if not message.is_multipart():
            return []
        found = []
        for part in message.iter_parts():
            name = part.get_param("name", header="content-disposition")
            if isinstance(name, str):
                raw = part.get_payload(decode=True)
                found.append((name, raw.decode("utf-8", "replace") if isinstance(raw, bytes) else ""))
    except (ValueError, LookupError, AttributeError, KeyError, IndexError, TypeError):  # malformed in any way
        return []
    return found
