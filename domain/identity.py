"""Who is who: identifiers as sources write them, and persons as sets of linked subjects (SEMANTICS §2).

An identifier is (kind, value), in a namespace where its kind has some; a REF is its spelling in one
text. A subject is the surrogate that stands for one identifier in the log. Persons are never stored
as truth: they are computed from evidence, merges and splits, and arrival order cannot matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from datetime import datetime
from typing import Generic, Literal, TypeVar
from unicodedata import normalize

import msgspec

from domain.errors import Invalid, Problem

__all__ = [
    "KINDS",
    "OWN_KIND",
    "RULE_VERSION",
    "Identifier",
    "Kind",
    "Link",
    "Merge",
    "Persons",
    "RefusedLink",
    "Split",
    "in_priority",
    "kind_of",
    "normalise",
    "parse_ref",
    "persons",
    "split_sides",
]

RULE_VERSION = 1
"""The version of the rule by which `normalise` works, stored with what it made."""

LONGEST = 1024
"""Characters; a longer identifier is refused."""

S = TypeVar("S", bound=Hashable)


class Kind(msgspec.Struct, frozen=True):
    """What is declared about one kind of identifier."""

    priority: int  # place among the identifiers of an event; the first one's person owns the event
    limit: int  # values of this kind, per namespace, that a person may have by evidence
    namespace: bool = False  # whether `kind@namespace:value` may be said
    reference: bool = False  # names a thing of somebody's (order, case), never joins two persons


KINDS: dict[str, Kind] = {
    "subject": Kind(0, 1),  # a surrogate given as REF: it names its subject directly
    "user": Kind(10, 1, namespace=True),
    "crm": Kind(20, 1, namespace=True),
    "loyalty_card": Kind(30, 5, namespace=True),
    "email": Kind(40, 5),
    "phone": Kind(50, 5),
    "phone_raw": Kind(51, 5),
    "whatsapp": Kind(60, 5),
    "anonymous": Kind(80, 100, namespace=True),
    "order": Kind(90, 1, namespace=True, reference=True),
    "case": Kind(91, 1, namespace=True, reference=True),
}

OWN_KIND = Kind(70, 5, namespace=True)
"""Every kind that is not in `KINDS`: a company's own."""


def kind_of(name: str) -> Kind:
    """What holds for the kind *name*."""
    return KINDS.get(name, OWN_KIND)


class Identifier(msgspec.Struct, frozen=True, gc=False):
    """Something that names one person to one source."""

    kind: str
    value: str
    namespace: str = ""

    def __str__(self) -> str:
        """The REF that `parse_ref` reads back."""
        if self.kind == "subject":
            return self.value
        return f"{self.kind}@{self.namespace}:{self.value}" if self.namespace else f"{self.kind}:{self.value}"


_KIND = re.compile(r"[a-z][a-z0-9_]*\Z")
_SUBJECT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def parse_ref(text: str, *, pointer: str = "") -> Identifier:
    """Read a REF: `kind:value`, `kind@namespace:value`, or a subject id.

    Kind and namespace end at the **first** colon and the value is all that follows, colons and all:
    `user@shop:1` is user 1 of shop, `user@shop:1:2` is user `1:2` of shop. A namespace holds no colon.

    Args:
        pointer: where the text stood in a payload, for the error.

    Raises:
        Invalid: saying how to write it.
    """
    text = text.strip()
    head, colon, value = text.partition(":")
    if not colon:
        if _SUBJECT.match(text):
            return Identifier("subject", text)
        raise _no_ref(pointer, f"has no colon; write {_likely(text)}")
    kind, at, namespace = head.partition("@")
    if not _KIND.match(kind):
        fix = f"'{kind.lower()}'" if _KIND.match(kind.lower()) else _likely(text)
        raise _no_ref(
            pointer, f"begins with a kind that is not lower-case letters, digits and _; write {fix}"
        )
    if at and not namespace.strip():
        raise _no_ref(pointer, f"has an empty namespace; write '{kind}:…' or '{kind}@namespace:…'")
    if at and not kind_of(kind).namespace:
        raise _no_ref(pointer, f"gives a namespace, which '{kind}' does not have; write '{kind}:…'")
    if not value.strip():
        raise _no_ref(pointer, f"has no value; write '{head}:' and then the value")
    return Identifier(kind, value.strip(), namespace.strip())


def _no_ref(pointer: str, detail: str) -> Invalid:
    return Invalid([Problem(pointer, f"this is no REF: it {detail}.", "ref")])


def _likely(text: str) -> str:
    """What was probably meant; the text itself is not repeated, it may be personal."""
    if "@" in text:
        return "'email:' before the address"
    if re.match(r"\+?[\d\s().-]{6,}\Z", text):
        return "'phone:' before the number"
    return "'kind:value', e.g. 'user:u-1'"


_NOBODY = frozenset(
    (
        "anonymous",
        "guest",
        "distinctid",
        "distinct_id",
        "id",
        "not_authenticated",
        "email",
        "undefined",
        "true",
        "false",
        "null",
        "none",
        "nan",
        "0",
        "-1",
        "[object object]",
    )
)
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _names_nobody(value: str) -> bool:
    """Whether a trimmed value is one that programs write when they know nobody."""
    if not value.strip("0-") or len(value) > LONGEST or value.lower() in _NOBODY:
        return True
    if value[0] in "\"'" and value[0] == value[-1]:
        inner = value[1:-1].strip()
        return not inner.strip("0-") or inner.lower() in _NOBODY
    return not value.isprintable() and _UNPRINTABLE.search(value) is not None


def normalise(
    identifier: Identifier, *, phone: Callable[[str], str | None], domain_to_ascii: Callable[[str], str]
) -> Identifier | None:
    """The one spelling of an identifier, under which it is looked up; None where it names nobody.

    Args:
        phone: a number in E.164, or None where it cannot be read as one.
        domain_to_ascii: the IDNA form of a domain; a ValueError leaves the domain as it is.
    """
    kind, value = identifier.kind, identifier.value.strip()
    if _names_nobody(value):
        return None
    if kind == "email":
        value = _email(value, domain_to_ascii)
        if len(value) > LONGEST:
            return None
    elif kind == "phone":
        number = phone(value)
        kind, value = ("phone_raw", value) if number is None else (kind, number)
    elif kind == "whatsapp":
        # A WhatsApp id is a number in E.164 without its plus; one that is no number stays as given.
        value = phone(f"+{value}" if value.isdecimal() else value) or value
    if kind is identifier.kind and value == identifier.value:
        return identifier
    return Identifier(kind, value, identifier.namespace)


def _email(value: str, domain_to_ascii: Callable[[str], str]) -> str:
    """Lower case and NFC, the domain in its IDNA form; plus-tags and dots are kept."""
    value = value.lower()
    if value.isascii():
        return value
    value = normalize("NFC", value)
    local, at, domain = value.rpartition("@")
    if not at or domain.isascii():
        return value
    try:
        return f"{local}@{domain_to_ascii(domain)}"
    except ValueError:
        return value


def _place(identifier: Identifier) -> tuple[int, str]:
    return kind_of(identifier.kind).priority, identifier.kind


def in_priority(identifiers: Iterable[Identifier]) -> list[Identifier]:
    """The identifiers of one event, in order of priority: the first one's person owns the event.

    Within a kind they stay as given; repeats are left out.
    """
    return sorted(dict.fromkeys(identifiers), key=_place)


class Link(msgspec.Struct, Generic[S], frozen=True, gc=False):
    """Evidence that two subjects are one person: an event named both, or a command said so."""

    a: S
    b: S
    occurred_at: datetime
    source: str
    source_id: str
    place: int = 0  # within the event: an event that names n subjects states n - 1 links
    position: int = 0  # in the log


class Merge(msgspec.Struct, Generic[S], frozen=True, gc=False):
    """Somebody's decision that the persons of two subjects are one, in spite of the guards."""

    a: S
    b: S
    occurred_at: datetime
    source: str
    source_id: str
    event_id: Hashable
    position: int = 0


class Split(msgspec.Struct, Generic[S], frozen=True, kw_only=True):
    """Somebody's decision that one person is two: it undoes a merge, or keeps a subject from others.

    It acts on what is known: once recorded, at every `as_of`.
    """

    position: int = 0
    merge: Hashable = None  # the event id of the merge that was never in force
    subject: S | None = None
    person_side: frozenset[S] = frozenset()  # those whom evidence never again brings together with *subject*


class RefusedLink(msgspec.Struct, Generic[S], frozen=True):
    """A link or merge that was not followed, and why."""

    evidence: Link[S] | Merge[S]
    reason: Literal["limit", "split"]
    kind: str = ""  # whose limit
    namespace: str = ""
    limit: int = 0
    would_be: int = 0  # values of that kind in one person


class Persons(msgspec.Struct, Generic[S], frozen=True):
    """What a resolution found."""

    members: tuple[frozenset[S], ...]  # in the order in which their first subjects were given
    refused: tuple[RefusedLink[S], ...]  # in the order in which they were looked at
    index: dict[S, int]  # subject -> place in *members*

    def of(self, subject: S) -> frozenset[S]:
        """All subjects of the person whom *subject* names."""
        return self.members[self.index[subject]]


def persons(
    subjects: Mapping[S, tuple[str, str]],
    links: Iterable[Link[S]],
    *,
    merges: Iterable[Merge[S]] = (),
    splits: Collection[Split[S]] = (),
    as_of: datetime | None = None,
    known_at: int | None = None,
    limits: Mapping[str, int] | None = None,
) -> Persons[S]:
    """Resolve *subjects* (each with its kind and namespace) to persons.

    Links and merges are followed in the order of (earliest time of their evidence, source, source id,
    place), whatever the order in which they are given, and never by surrogate. A link is refused where
    it would give a person more values of a kind than its limit, counting only kinds of which both sides
    hold one, or where a split forbids it. References (order, case) join nobody.

    Args:
        links: evidence, in any order, several for one pair if so; without what was retracted.
        as_of: evidence and merges after this time have not happened yet (splits are not asked).
        known_at: what stands at a later position is not known yet.
        limits: values per kind that differ from `KINDS`.
    """
    group = _Grouping(subjects, limits or {}, _known(splits, known_at))
    undone = {split.merge for split in splits if split.merge is not None and _seen(split, known_at)}
    earliest: dict[tuple[int, int], Link[S]] = {}
    for link in links:
        if (as_of is not None and link.occurred_at > as_of) or not _seen(link, known_at) or link.a == link.b:
            continue
        pair = group.pair(link.a, link.b)
        before = earliest.get(pair)
        if before is None or _order(link) < _order(before):
            earliest[pair] = link
    steps: list[Link[S] | Merge[S]] = [*earliest.values()]
    steps += (
        m
        for m in merges
        if m.event_id not in undone and _seen(m, known_at) and (as_of is None or m.occurred_at <= as_of)
    )
    steps.sort(key=_order)
    refused = [no for step in steps if (no := group.follow(step)) is not None]
    return group.persons(tuple(refused))


def split_sides(
    person: S,
    subject: S,
    subjects: Mapping[S, tuple[str, str]],
    links: Iterable[Link[S]],
    *,
    merges: Iterable[Merge[S]] = (),
    splits: Collection[Split[S]] = (),
) -> tuple[frozenset[S], frozenset[S]]:
    """The two sides that a split of *subject* from its person stores: (of *person*, of *subject*).

    The person's side is what evidence and merges that do not touch *subject* keep together with *person*;
    what hung on *subject* alone goes with it.

    Raises:
        Invalid: where the two are not one person, or are one and the same subject.
    """
    links, merges = list(links), list(merges)
    whole = persons(subjects, links, merges=merges, splits=splits).of(subject)
    if person not in whole:
        raise Invalid("There is nothing to split: the subject does not belong to this person.")
    if person == subject:
        raise Invalid("A subject cannot be split from itself; name the person by another of its identifiers.")
    without = persons(
        {s: subjects[s] for s in subjects if s in whole},
        [link for link in links if subject not in (link.a, link.b) and link.a in whole and link.b in whole],
        merges=[m for m in merges if subject not in (m.a, m.b) and m.a in whole and m.b in whole],
        splits=splits,
    )
    side = without.of(person)
    return side, whole - side


def _order(step: Link[S] | Merge[S]) -> tuple[datetime, str, str, int]:
    return step.occurred_at, step.source, step.source_id, step.place if isinstance(step, Link) else 0


def _seen(fact: Link[S] | Merge[S] | Split[S], known_at: int | None) -> bool:
    return known_at is None or fact.position <= known_at


def _known(splits: Iterable[Split[S]], known_at: int | None) -> list[Split[S]]:
    return [split for split in splits if split.subject is not None and _seen(split, known_at)]


_SUBJECT_SIDE, _PERSON_SIDE, _BOTH = 1, 2, 3


class _Grouping(Generic[S]):
    """A union-find whose groups know how many values of each kind they hold, and which splits bind them."""

    def __init__(
        self, subjects: Mapping[S, tuple[str, str]], limits: Mapping[str, int], splits: list[Split[S]]
    ) -> None:
        self._subjects = list(subjects)
        self._number = {subject: n for n, subject in enumerate(self._subjects)}
        self._parent = list(range(len(self._subjects)))
        self._size = [1] * len(self._subjects)
        self._kinds = list(subjects.values())
        self._counts: list[dict[tuple[str, str], int] | None] = [None] * len(self._subjects)
        self._limits = limits
        self._splits = splits
        self._sides: dict[int, dict[int, int]] = {}  # group -> split -> sides of it that the group holds
        for number, split in enumerate(splits):
            for subject in split.person_side:
                self._mark(subject, number, _PERSON_SIDE)
            if split.subject is not None:
                self._mark(split.subject, number, _SUBJECT_SIDE)

    def _mark(self, subject: S, split: int, side: int) -> None:
        n = self._number.get(subject)
        if n is not None:
            self._sides.setdefault(n, {})[split] = side

    def pair(self, a: S, b: S) -> tuple[int, int]:
        """One key for a link, whichever side is named first."""
        x, y = self._number[a], self._number[b]
        return (x, y) if x < y else (y, x)

    def follow(self, step: Link[S] | Merge[S]) -> RefusedLink[S] | None:
        """Join the groups of a link or merge, or say why not."""
        x, y = self._root(self._number[step.a]), self._root(self._number[step.b])
        if x == y:
            return None
        merge = isinstance(step, Merge)
        if self._sides and self._kept_apart(x, y, step.position if merge else None):
            return RefusedLink(step, "split")
        if not merge:
            if kind_of(self._kinds[self._number[step.a]][0]).reference:
                return None
            if kind_of(self._kinds[self._number[step.b]][0]).reference:
                return None
            refused = self._over_limit(x, y, step)
            if refused is not None:
                return refused
        self._join(x, y)
        return None

    def _root(self, n: int) -> int:
        parent = self._parent
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    def _counted(self, group: int) -> dict[tuple[str, str], int]:
        counts = self._counts[group]
        if counts is None:
            counts = self._counts[group] = {self._kinds[group]: 1}
        return counts

    def _limit(self, kind: str) -> int:
        return self._limits.get(kind, kind_of(kind).limit)

    def _over_limit(self, x: int, y: int, step: Link[S] | Merge[S]) -> RefusedLink[S] | None:
        few, many = self._counted(x), self._counted(y)
        if len(few) > len(many):
            few, many = many, few
        over = [k for k, n in few.items() if k in many and n + many[k] > self._limit(k[0])]
        if not over:
            return None
        kind, namespace = worst = min(over, key=lambda k: (kind_of(k[0]).priority, k))
        would_be = few[worst] + many[worst]
        return RefusedLink(step, "limit", kind, namespace, self._limit(kind), would_be)

    def _kept_apart(self, x: int, y: int, merged_at: int | None) -> bool:
        """Whether a split forbids the two groups to join; a merge recorded after the split may."""
        few, many = self._sides.get(x, {}), self._sides.get(y, {})
        if len(few) > len(many):
            few, many = many, few
        for number, side in few.items():
            other = many.get(number, 0)
            # A group that holds both sides was joined by a later merge, which lifted the split.
            newly = side | other == _BOTH and _BOTH not in (side, other)
            if newly and (merged_at is None or merged_at <= self._splits[number].position):
                return True
        return False

    def _join(self, x: int, y: int) -> None:
        if self._size[x] < self._size[y]:
            x, y = y, x
        self._parent[y] = x
        self._size[x] += self._size[y]
        few, many = self._counted(x), self._counted(y)
        if len(few) > len(many):
            few, many = many, few
        for key, n in few.items():
            many[key] = many.get(key, 0) + n
        self._counts[x], self._counts[y] = many, None
        if self._sides and (sides := self._sides.pop(y, None)):
            mine = self._sides.setdefault(x, {})
            for number, side in sides.items():
                mine[number] = mine.get(number, 0) | side

    def persons(self, refused: tuple[RefusedLink[S], ...]) -> Persons[S]:
        """The groups as they stand."""
        places: dict[int, int] = {}
        members: list[list[S]] = []
        index: dict[S, int] = {}
        for n, subject in enumerate(self._subjects):
            root = self._root(n)
            place = places.setdefault(root, len(members))
            if place == len(members):
                members.append([])
            members[place].append(subject)
            index[subject] = place
        return Persons(tuple(frozenset(m) for m in members), refused, index)
