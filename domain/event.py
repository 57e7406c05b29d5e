"""How facts are declared: a stored name, a version, personal fields, a headline, upcasters.

A type of event is a class in `domain/touchpoints/`; its fields are the `data` of the event. The
name in `@event` is what the log stores: it is never derived from a Python path, and never changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import inspect

from domain.errors import Invalid, Problem

__all__ = [
    "DIRECTIONS",
    "TYPES",
    "Channel",
    "Data",
    "Direction",
    "EventType",
    "FactRef",
    "Instant",
    "Other",
    "Participant",
    "Personal",
    "Ref",
    "Touchpoint",
    "class_of",
    "custom_type",
    "direction_problems",
    "event",
    "headline",
    "upcast",
    "upcaster",
    "validate",
]

Direction = Literal["inbound", "outbound", "internal"]
DIRECTIONS: tuple[str, ...] = get_args(Direction)
Channel = str
Data = dict[str, Any]
T = TypeVar("T")

_SEALED = msgspec.Meta(extra={"personal": "subject"})
_OTHERS = msgspec.Meta(extra={"personal": "other"})

Personal = Annotated[T, _SEALED]
"""A personal field: sealed under the key of the event's first subject (SEMANTICS §7)."""

Other = Annotated[T, _OTHERS]
"""A personal field about another named person (cc, participant): sealed under that person's key."""

Instant = Annotated[datetime, msgspec.Meta(tz=True, description="RFC 3339 time with a zone")]
Ref = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[a-z][a-z0-9_]*(@[^:]*(:[^:]*)?)?:.+$|^[0-9a-f-]{36}$",
        description="kind:value, e.g. email:ann@example.com; or a subject id",
    ),
]


class Participant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Another person who took part; named by a REF (`email:…`, `phone:…`), never linked to the customer."""

    ref: str
    name: str | None = None
    role: str | None = None


class FactRef(msgspec.Struct, frozen=True, kw_only=True):
    """Another recorded fact, by the key under which its source sent it."""

    source: str
    id: str


class Touchpoint(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The root of all facts; a projection that handles it catches types nobody has invented yet."""

    def headline(self) -> str:
        """One line for an agent; reads the fields of the event, never fails on a missing one."""
        return ""


class EventType(msgspec.Struct, frozen=True):
    """What is declared about one stored name."""

    name: str
    version: int
    cls: type[Touchpoint]
    channel: Channel
    direction: Direction | None
    fields: frozenset[str]
    personal: frozenset[str]  # fields sealed whole, under the first subject
    others: frozenset[str]  # fields sealed under the person whom they name
    facts: frozenset[str]  # fields that name another fact by its key, which stays plain
    defaults: dict[str, Any]
    touchpoint: bool  # False: a record about records (identity, consent, import …), not a contact
    internal: bool  # True: rejected from outside (SEMANTICS §7)
    upcasters: dict[int, Callable[[Data], Data]]

    def json_schema(self) -> dict[str, Any]:
        """The JSON Schema (2020-12) of `data`, as published at `/v1/types/{name}`."""
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(self.cls)}


TYPES: dict[str, EventType] = {}


def _marks(node: inspect.Type) -> set[str]:
    """Which personal marks stand anywhere inside the type of one field."""
    found: set[str] = set()
    if isinstance(node, inspect.Metadata):
        mark = (node.extra or {}).get("personal")
        if mark:
            found.add(mark)
        return found | _marks(node.type)
    if isinstance(node, inspect.UnionType):
        for member in node.types:
            found |= _marks(member)
    elif isinstance(node, inspect.ListType | inspect.SetType | inspect.VarTupleType | inspect.FrozenSetType):
        found |= _marks(node.item_type)
    elif isinstance(node, inspect.DictType):
        found |= _marks(node.value_type)
    return found


def _names_fact(node: inspect.Type) -> bool:
    """Whether a field of this type is a `FactRef`, or none."""
    if isinstance(node, inspect.UnionType):
        return any(map(_names_fact, node.types))
    return isinstance(node, inspect.StructType) and node.cls is FactRef


def direction_problems(direction: object) -> list[Problem]:
    """What is wrong with *direction*: nothing, where it is one of `DIRECTIONS` or absent."""
    if direction is None or direction in DIRECTIONS:
        return []
    return [Problem("/direction", f"'direction' is one of {', '.join(DIRECTIONS)}.", "not_allowed")]


def event(
    name: str,
    *,
    version: int = 1,
    channel: Channel,
    direction: Direction | None = None,
    touchpoint: bool = True,
    internal: bool = False,
) -> Callable[[type[Touchpoint]], type[Touchpoint]]:
    """Declare a type of event under its stored *name*.

    Args:
        version: the version of the shape of `data`, from 1; raising it wants an `upcaster`.
        channel, direction: what an event has when its source says nothing else.
        touchpoint: False for records about records, which fill no funnel step and no feed of contacts.
        internal: True for types that only touchlog itself appends.
    """

    def declare(cls: type[Touchpoint]) -> type[Touchpoint]:
        if name in TYPES:
            raise ValueError(f"The stored name {name!r} is declared twice: {TYPES[name].cls} and {cls}.")
        info = inspect.type_info(cls)
        if not isinstance(info, inspect.StructType):
            raise TypeError(f"{cls} is no msgspec.Struct; derive it from Touchpoint.")
        marks = {f.encode_name: _marks(f.type) for f in info.fields}
        TYPES[name] = EventType(
            name=name,
            version=version,
            cls=cls,
            channel=channel,
            direction=direction,
            fields=frozenset(marks),
            personal=frozenset(f for f, m in marks.items() if "subject" in m),
            others=frozenset(f for f, m in marks.items() if m == {"other"}),
            facts=frozenset(f.encode_name for f in info.fields if _names_fact(f.type)),
            defaults={
                f.encode_name: None if f.default is msgspec.NODEFAULT else f.default for f in info.fields
            },
            touchpoint=touchpoint,
            internal=internal,
            upcasters={},
        )
        return cls

    return declare


def upcaster(name: str, *, from_version: int) -> Callable[[Callable[[Data], Data]], Callable[[Data], Data]]:
    """Declare how `data` of version *from_version* becomes version *from_version* + 1."""

    def declare(function: Callable[[Data], Data]) -> Callable[[Data], Data]:
        TYPES[name].upcasters[from_version] = function
        return function

    return declare


def upcast(name: str, version: int, data: Data) -> Data:
    """Bring *data*, recorded as *version* of type *name*, to the shape of today."""
    declared = TYPES.get(name)
    if declared is None:
        return data
    while version < declared.version:
        step = declared.upcasters.get(version)
        if step is None:
            raise LookupError(
                f"{name} was recorded as version {version}, today's is {declared.version}, and no upcaster "
                f"leads from {version} to {version + 1}: add one below the class in domain/touchpoints/."
            )
        data = step(data)
        version += 1
    return data


def custom_type(name: str) -> EventType:
    """The type of an undeclared event: stored as `custom.<name>`, its data whole and personal."""
    return EventType(
        name=name if name.startswith("custom.") else f"custom.{name}",
        version=1,
        cls=Touchpoint,
        channel="custom",
        direction=None,
        fields=frozenset(),
        personal=frozenset(),
        others=frozenset(),
        facts=frozenset(),
        defaults={},
        touchpoint=True,
        internal=False,
        upcasters={},
    )


def class_of(name: str) -> type[Touchpoint]:
    """The class that declares the stored *name*; of one that nobody declared, the root of all."""
    declared = TYPES.get(name)
    return declared.cls if declared is not None else Touchpoint


def headline(name: str, data: Mapping[str, Any]) -> str:
    """One line that tells an agent what happened; *data* is unsealed and of today's version.

    Erased fields read as the word (erased); a type that nobody declared is told by its name.
    """
    declared = TYPES.get(name)
    words = name.removeprefix("custom.").replace(".", " ").replace("_", " ")
    if declared is None:
        return words
    shown = {k: "(erased)" if isinstance(v, dict) and v.get("erased") is True else v for k, v in data.items()}
    try:
        return declared.cls.headline(SimpleNamespace(**{**declared.defaults, **shown})) or words  # type: ignore[arg-type]
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):  # data older than its type
        return words


def validate(declared: EventType, data: Data) -> None:
    """Check *data* against its declared type.

    Raises:
        Invalid: with one problem per wrong field, each saying what was given and what would be right.
    """
    try:
        msgspec.convert(data, declared.cls)
    except msgspec.ValidationError:
        raise Invalid(list(_each_problem(declared, data))) from None


def _each_problem(declared: EventType, data: Data) -> Iterator[Problem]:
    """Field by field, because msgspec stops at the first one."""
    schema = msgspec.json.schema(declared.cls)
    defs = schema.get("$defs", {})
    hints = get_type_hints(declared.cls, include_extras=True)
    told = False
    for field in msgspec.structs.fields(declared.cls):
        name = field.encode_name
        wanted: Data = {"$ref": schema["$ref"]} if "$ref" in schema else schema
        if name not in data:
            if field.required:
                told = True
                yield _missing(f"/data/{name}", name, _step(wanted, name, defs), defs)
            continue
        try:
            msgspec.convert(data[name], hints[field.name])
        except msgspec.ValidationError as wrong:
            told = True
            yield _wrong(name, data[name], _step(wanted, name, defs), defs, str(wrong))
    if not told:
        detail = f"does not fit the schema of {declared.name}; see GET /v1/types/{declared.name}"
        yield Problem("/data", detail)


def _wrong(name: str, value: Any, wanted: Data, defs: Data, text: str) -> Problem:
    """Follow msgspec's path to the very value that is wrong; its words are left: they may quote the value."""
    pointer = f"/data/{name}"
    _, _, where = text.partition(" - at `$")
    for index, key in re.findall(r"\[(\d+|\.\.\.)\]|\.(\w+)", where):
        if index == "...":  # some member of an object with free keys; msgspec does not say which
            kinds = [part.get("additionalProperties") for part in wanted.get("anyOf", [wanted])]
            right = " or ".join(_schema_words(each, defs) for each in kinds if isinstance(each, dict))
            return Problem(
                pointer, f"'{name}' is an object of which each value is {right}; one of them is not"
            )
        step: int | str = int(index) if index else key
        pointer, value, name = f"{pointer}/{step}", value[step], key or f"{name}[{index}]"
        wanted = _step(wanted, step, defs)
    missing = re.match(r"Object missing required field `(\w+)`", text)
    if missing:
        return _missing(f"{pointer}/{missing[1]}", missing[1], _step(wanted, missing[1], defs), defs)
    given, right = _shown(value), _schema_words(wanted, defs)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and right.startswith((given, "a number")):
        given = "a number out of range"
    elif right.startswith(given) or (given == "a text" and right.startswith(("an RFC 3339", "one of"))):
        given += " of another form or value"
    return Problem(pointer, f"'{name}' is {given}; it should be {right}")


def _missing(pointer: str, name: str, wanted: Data, defs: Data) -> Problem:
    return Problem(pointer, f"'{name}' is missing; it should be {_schema_words(wanted, defs)}", "missing")


def _shown(value: Any) -> str:
    """The kind of a wrong value, never the value itself: it may be personal."""
    kinds = {
        str: "a text",
        bool: "true or false",
        int: "a whole number",
        float: "a number with a fraction",
        dict: "an object",
        list: "a list",
        type(None): "null",
    }
    return kinds.get(type(value), type(value).__name__)


def _step(schema: Data, step: int | str, defs: Data) -> Data:
    """The part of a JSON Schema that speaks of one member; an empty schema where nothing is said."""
    if "$ref" in schema:
        schema = defs[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return next((found for part in schema["anyOf"] if (found := _step(part, step, defs))), {})
    inner: Any = schema.get("items") if isinstance(step, int) else schema.get("properties", {}).get(step)
    return inner if isinstance(inner, dict) else {}


def _schema_words(schema: Data, defs: Data) -> str:
    if "anyOf" in schema:
        return " or ".join(_schema_words(s, defs) for s in schema["anyOf"] if s.get("type") != "null")
    if "$ref" in schema:
        members = defs[schema["$ref"].rpartition("/")[2]].get("properties", {})
        return "an object with " + ", ".join(members)
    if "enum" in schema:
        return "one of " + ", ".join(str(v) for v in schema["enum"])
    kinds = {
        "string": "a text",
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "object": "an object",
        "array": "a list",
    }
    words = kinds.get(schema.get("type", ""), "any value")
    if schema.get("format") == "date-time":
        return "an RFC 3339 time with a zone, e.g. 2026-01-31T12:00:00Z"
    if schema.get("items"):
        words += f" of which each is {_schema_words(schema['items'], defs)}"
    signs = {"minimum": ">=", "maximum": "<=", "minLength": "at least", "maxLength": "at most"}
    bounds = [f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema]
    if "description" in schema:
        bounds.insert(0, schema["description"])
    elif "pattern" in schema:
        bounds.insert(0, f"matching {schema['pattern']}")
    return words + (f" ({'; '.join(bounds)})" if bounds else "")
