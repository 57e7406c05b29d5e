"""Attributes of a CloudEvent that are no attributes, by §3 of its specification 1.0.2 and §2 of its JSON format.

Those that touchlog itself reads (id, source, type, time …) are checked where they are read.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from domain.errors import Problem, pointed

__all__ = ["EMPTY_SUBJECT", "is_media_type", "not_base64", "wrong_extensions"]

_NAME = re.compile(r"[a-z0-9]+\Z")
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"  # noqa: S105 - RFC 9110 §5.6.2
_MEDIA_TYPE = re.compile(rf"\s*{_TOKEN}/{_TOKEN}\s*(;.*)?\Z", re.DOTALL)
_SHOWN = 40  # characters of a name


def wrong_extensions(event: dict[str, Any], known: Iterable[str]) -> Iterator[Problem]:
    """What is wrong with attributes that are not among *known*, with `datacontenttype` and `dataschema`."""
    if not is_media_type(event.get("datacontenttype")):
        yield _wrong_media_type(event["datacontenttype"])
    if event.get("dataschema") == "":
        yield Problem(
            "/dataschema", "'dataschema' is empty; write the URI of the schema, or leave it out.", "empty"
        )
    for name in event.keys() - frozenset(known):
        value = event[name]
        if not _NAME.match(name):
            right = re.sub(r"[^a-z0-9]", "", name.lower())[:_SHOWN]
            yield Problem(
                f"/{pointed(name[:_SHOWN])}",
                f"'{name[:_SHOWN]}' cannot be the name of an attribute, which is made of lower-case letters and digits only; "
                + (f"write '{right}', or put it into 'data'." if right else "put it into 'data'."),
                "attribute_name",
            )
        elif isinstance(value, float | dict | list):
            yield Problem(
                f"/{name}",
                f"'{name[:_SHOWN]}' is a text, a whole number, true or false, as every extension; put anything else into 'data', "
                "or write it as a text.",
                "wrong_type",
            )


EMPTY_SUBJECT = Problem(
    "/subject",
    "'subject' is empty; write whom it is about, such as email:ann@example.com, or leave it out.",
    "empty",
)


def is_media_type(given: Any) -> bool:
    """Whether *given* may be a `datacontenttype`; None is one that is not there."""
    return given is None or (type(given) is str and len(given) <= 1024 and _is_media_type(given))


@lru_cache(maxsize=1_000)  # sources send the same ones again and again
def _is_media_type(text: str) -> bool:
    return _MEDIA_TYPE.match(text) is not None


def _wrong_media_type(given: Any) -> Problem:
    if not isinstance(given, str):
        detail, code = "'datacontenttype' is a text such as application/json.", "wrong_type"
    elif not given:
        detail, code = "'datacontenttype' is empty; write application/json, or leave it out.", "empty"
    else:
        detail, code = (
            "'datacontenttype' is no media type (RFC 2046); right would be application/json or text/plain.",
            "not_a_media_type",
        )
    return Problem("/datacontenttype", detail, code)


def not_base64(given: str) -> Problem | None:
    """What is wrong with the text of a `data_base64` (RFC 4648 §4)."""
    try:
        base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        return Problem(
            "/data_base64",
            "'data_base64' is no Base64 (RFC 4648 §4: letters, digits, + and /, padded with = to four); text and JSON go into 'data'.",
            "not_base64",
        )
    return None
