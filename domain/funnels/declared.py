"""What the types declare of their properties, down to the leaves: the kinds of value at a path."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from domain.event import TYPES
from domain.funnels.property import kind_of_value

__all__ = ["declared_kinds"]

_WORDS = {"string": "text", "integer": "number", "number": "number", "boolean": "flag", "array": "list"}
_ANY = frozenset(_WORDS.values())


@lru_cache(maxsize=4096)
def declared_kinds(type_: str, path: str) -> frozenset[str]:
    """The kinds of value that a type declares at a path such as `data.notice.id`.

    Empty where it declares no value there: no such field, an object (only its leaves have values), or a place
    below a free object, of which nothing is known before it was recorded.
    """
    if type_ not in TYPES:
        return frozenset()
    schema = msgspec.json.schema(TYPES[type_].cls)
    return _kinds(schema, schema.get("$defs", {}), tuple(path.split(".")[1:]))


def _kinds(schema: dict[str, Any], definitions: dict[str, Any], below: tuple[str, ...]) -> frozenset[str]:
    if "$ref" in schema:
        return _kinds(definitions[schema["$ref"].rpartition("/")[2]], definitions, below)
    if "anyOf" in schema:
        return frozenset[str]().union(*(_kinds(one, definitions, below) for one in schema["anyOf"]))
    if below:
        field = schema.get("properties", {}).get(below[0])
        return frozenset() if field is None else _kinds(field, definitions, below[1:])
    if "enum" in schema:
        return frozenset(kind_of_value(value) for value in schema["enum"] if value is not None)
    if "type" not in schema:
        return _ANY
    named = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return frozenset(_WORDS[word] for word in named if word in _WORDS)
