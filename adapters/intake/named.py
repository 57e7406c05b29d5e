"""Whom an event names: its subject, the extension `identifiers` and `data.identifiers` (INTERFACES, SEMANTICS §3).

A value that names nobody is dropped with a warning; the event is recorded all the same.
"""

from __future__ import annotations

import itertools
from typing import Any

from adapters.identifiers import normalised
from adapters.intake.attributes import EMPTY_SUBJECT
from domain.errors import Invalid, Problem, pointed
from domain.identity import Identifier, in_priority, kind_of, parse_ref

__all__ = ["known_ref", "named_by", "one_named", "told_ref"]

MAX_IDENTIFIERS = 1000


def one_named(text: Any, place: str, warnings: list[Problem], region: str | None) -> Identifier | None:
    """The identifier that a REF names; what is to be said of one that names nobody is added to *warnings*."""
    if type(text) is not str:
        warnings.append(
            Problem(
                place,
                "An identifier is a text kind:value, such as email:ann@example.com; it was dropped.",
                "identifier_dropped",
            )
        )
        return None
    known = known_ref(text, region)
    if known is not None:
        return known[0]
    try:
        identifier = normalised(parse_ref(text), region)
    except Invalid as wrong:
        warnings.append(
            Problem(
                place,
                f"{wrong.problems[0].detail} The identifier was dropped, the event is recorded.",
                "identifier_dropped",
            )
        )
        return None
    if identifier is None:
        warnings.append(
            Problem(
                place,
                "This value names nobody (a placeholder, blank, too long, or with control characters in it); it was dropped, the event is recorded.",
                "identifier_refused",
            )
        )
    else:
        _remember(text, identifier, region)
    return identifier


_KnownRefs = dict[str, tuple[Identifier, bool]]
_known_refs: dict[str | None, _KnownRefs] = {}
"""REFs read lately, by region: what each names, and whether that is a reference. A pure function's answers,
so that they may be dropped at any time."""
_MOST_KNOWN_REFS = 200_000


def known_ref(text: str, region: str | None) -> tuple[Identifier, bool] | None:
    """What a REF that was read lately names, and whether that is a reference; None of any other."""
    known = _known_refs.get(region)
    return None if known is None else known.get(text)


def told_ref(text: str, region: str | None) -> tuple[Identifier, bool] | None:
    """What a REF names, and whether that is a reference; None where there is something to be said of it."""
    known = known_ref(text, region)
    if known is None and one_named(text, "", [], region) is not None:
        known = known_ref(text, region)
    return known


def _remember(text: str, identifier: Identifier, region: str | None) -> None:
    known = _known_refs.setdefault(region, {})
    if len(known) >= _MOST_KNOWN_REFS:  # the older half goes: dicts keep the order in which they were filled
        for old in list(itertools.islice(known, _MOST_KNOWN_REFS // 2)):
            del known[old]
    known[text] = (identifier, kind_of(identifier.kind).reference)


def named_by(
    event: dict[str, Any],
    data: dict[str, Any],
    problems: list[Problem],
    warnings: list[Problem],
    region: str | None,
) -> tuple[list[Identifier], list[Identifier]]:
    """(identifiers in the order of their priority, references) of an event; what is wrong is added to *problems*."""
    subject = event.get("subject")
    found: list[Identifier] = []

    def take(text: Any, place: str) -> None:
        identifier = one_named(text, place, warnings, region)
        if identifier is not None:
            found.append(identifier)

    if subject == "":
        problems.append(EMPTY_SUBJECT)
    elif subject is not None:
        take(subject, "/subject")
    listed = event.get("identifiers")
    if listed is not None:
        if type(listed) is not str:
            problems.append(
                Problem(
                    "/identifiers",
                    "The extension 'identifiers' is one text of comma-separated REFs; an object belongs into data.identifiers.",
                    "wrong_type",
                )
            )
        else:
            refs = listed.split(",")
            if len(refs) > MAX_IDENTIFIERS:
                problems.append(_too_many("/identifiers", len(refs)))
            else:
                for ref in refs:
                    if ref.strip():
                        take(ref.strip(), "/identifiers")
    named = data.get("identifiers")
    if named is not None:
        if type(named) is not dict:
            problems.append(
                Problem(
                    "/data/identifiers",
                    "'identifiers' is an object of kind and value (or list of values).",
                    "wrong_type",
                )
            )
        else:
            values = [
                (kind, v)
                for kind, value in named.items()
                for v in (value if isinstance(value, list) else [value])
            ]
            if len(values) > MAX_IDENTIFIERS:
                problems.append(_too_many("/data/identifiers", len(values)))
            else:
                for kind, value in values:
                    if value is None:
                        continue
                    text = str(value) if type(value) is int else value
                    if type(text) is not str:
                        warnings.append(
                            Problem(
                                f"/data/identifiers/{pointed(kind)}",
                                "An identifier's value is a text; it was dropped, the event is recorded.",
                                "identifier_dropped",
                            )
                        )
                    else:
                        take(f"{kind}:{text}", f"/data/identifiers/{pointed(kind)}")
    if not found:
        return [], []
    if len(found) == 1:
        return ([], found) if kind_of(found[0].kind).reference else (found, [])
    references = [i for i in found if kind_of(i.kind).reference]
    return in_priority([i for i in found if not kind_of(i.kind).reference]), list(dict.fromkeys(references))


def _too_many(place: str, count: int) -> Problem:
    return Problem(
        place,
        f"{count:,} identifiers in one event; at most {MAX_IDENTIFIERS:,} are taken. Is this one person?",
        "too_many",
    )
