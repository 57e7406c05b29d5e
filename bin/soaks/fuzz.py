"""fuzz: real payloads with parts replaced, dropped, doubled and flipped, against every channel's translation.

A channel keeps its contract whatever comes: it never raises, says the same each time, and no touchpoint
leaves it without key and time, or with fields of ours that its type does not take.
"""

from __future__ import annotations

import copy
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import domain.touchpoints  # noqa: F401 - registers every declared type
from adapters.channels import CHANNELS, Channel, Delivery, Translated, Untranslated
from adapters.intake.cloudevents import Receipt, draft
from bin.soaks.payloads import FORM, JSON, Sample, samples, strangers
from domain.errors import Invalid

__all__ = ["RECEIVED", "Fuzz", "broken", "delivery", "mutated_body", "run_fuzz", "tried"]

RECEIVED = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
STRANGE_ONE_IN = 10
"""Cases in which a channel is given what was made for another."""
KEPT_ONE_IN = 20
"""Cases for channels of which there is no sample: vendors that are verified and kept."""
TOLD = 12
"""Broken cases after which a trial ends; more would say the same."""

ODD: list[Any] = [
    None, True, False, 0, -1, 1.5, 1e300, 2**53 + 1, 2**64, -(2**70), "", " ", "x", "\x00", "2026-13-45T99:99:99Z",
    "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "1e5", "NaN", "Infinity", "12.345678901234567890123", [], {}, [[]], [None],
    {"id": {}}, "usd", "EURO", "+", "a,b", "é" * 2000, 1621683300, "1621683300123", -99999999999999, "\ud800", "٣", "1" * 5000,
]  # fmt: skip
_ODD_HEADERS = (
    "",
    " ",
    "x" * 5000,
    "\x00",
    "é",
    "a/b/c",
    "/",
    "application/json",
    "multipart/form-data; boundary=x",
)


class Fuzz(NamedTuple):
    """What a trial found."""

    cases: int
    channels: int
    seconds: float
    translated: int  # touchpoints
    untranslated: int  # items that came back with their reason
    per_channel: dict[str, int]
    broken: list[str]  # rule, channel and seed of each, at most TOLD


def run_fuzz(
    *, cases: int, seed: int, only: str | None = None, progress: Callable[[int], None] | None = None
) -> Fuzz:
    """Try *cases* mutated payloads; *seed* and the number of a case make it again."""
    chosen = {name: channel for name, channel in CHANNELS.items() if only in (None, name)}
    every = list(samples())
    known = {name: [s for s in every if s.channel == name] for name in chosen}
    foreign = [*strangers(), *(each.body for each in every)]
    names = sorted(name for name in chosen if known[name])
    mute = sorted(chosen.keys() - set(names))
    found: list[str] = []
    counts: Counter[str] = Counter()
    items: Counter[bool] = Counter()
    started = time.monotonic()
    for number in range(cases):
        name = tried(number, names, mute)
        chance = random.Random(f"{seed}:{number}")  # noqa: S311 - a case that can be made again
        one = _case(name, known[name], foreign, chance)
        counts[name] += 1
        rules = list(broken(chosen[name], one, items))
        if rules:
            found.append(f"{name}, case {number:,} of seed {seed}: {rules[0]}")
        if progress is not None and number % 1000 == 999:
            progress(number + 1)
        if len(found) == TOLD:
            break
    return Fuzz(
        counts.total(),
        len(chosen),
        round(time.monotonic() - started, 1),
        items[True],
        items[False],
        dict(counts),
        found,
    )


def tried(number: int, names: Sequence[str], mute: Sequence[str]) -> str:
    """Whose turn a case is: each as often as the others of *names*; of those that only keep, *mute*, one case in twenty."""
    if not mute or not names:
        return (names or mute)[number % len(names or mute)]
    kept, rest = divmod(number, KEPT_ONE_IN)
    # Each kind counts its own cases: a turn taken from the number of all falls on some channel never, where they are 21.
    return names[(number - kept - 1) % len(names)] if rest else mute[kept % len(mute)]


def _case(name: str, known: list[Sample], foreign: list[bytes], chance: random.Random) -> Delivery:
    if known and (not foreign or chance.randrange(STRANGE_ONE_IN)):
        _, call, body, headers = chance.choice(known)
    else:
        call, body, headers = (
            "batch" if name == "segment" else "",
            chance.choice(foreign),
            chance.choice([JSON, FORM, {}]),
        )
    headers = dict(headers)
    for header in list(headers):
        lot = chance.random()
        if lot < 0.03:
            del headers[header]
        elif lot < 0.08:
            headers[header] = chance.choice(_ODD_HEADERS)
    return delivery(mutated_body(body, chance), headers, call)


def delivery(body: bytes, headers: Mapping[str, str], call: str = "") -> Delivery:
    """A delivery of these, at a time that is always the same."""
    return Delivery(body=body, headers=headers, received_at=RECEIVED, source="them", unique="u", call=call)


def broken(channel: Channel, one: Delivery, items: Counter[bool] | None = None) -> Iterator[str]:
    """The rules of the contract that *channel* breaks with this delivery; counts its items by whether they are touchpoints."""
    own_source = (
        channel.name == "cloudevents"
    )  # whose senders name source and id themselves; a blank is an id there
    found = channel.read(one)
    if channel.read(one) != found:
        yield "the same delivery, read twice, gives two answers"
    for each in found:
        if items is not None:
            items[isinstance(each, Translated)] += 1
        if isinstance(each, Untranslated):
            if not each.problems or not all(problem.detail for problem in each.problems):
                yield "an item is refused without a reason"
            failed = next((p for p in each.problems if p.code == "channel_failed"), None)
            if failed is not None:
                yield f"it raised: {failed.detail}"
            continue
        event = each.event
        id_ = event.get("id")
        if not isinstance(id_, str) or not (id_ if own_source else id_.strip()):
            yield f"a touchpoint has no key: id is {event.get('id')!r}"
        if not own_source and event.get("source") != one.source:
            yield f"the source is {event.get('source')!r}; it is the endpoint's"
        if not event.get("type"):
            yield "a touchpoint has no type"
        if each.occurred_at.tzinfo is None:
            yield "a touchpoint's time has no zone"
        if not each.canonical:
            yield "nothing is left to compare two deliveries by (canonical is empty)"
        try:
            draft(each.payload, Receipt.of(one.received_at))
        except Invalid as refused:
            # Ingest refuses odd keys and times with a reason, and they are kept; a field of ours is never the reason.
            for problem in refused.problems:
                if problem.pointer.startswith("/data/"):
                    yield f"{event['type']} does not take {problem.pointer}: {problem.detail}"


# ---- mutation -------------------------------------------------------------------------------------------


def mutated_body(body: bytes, chance: random.Random) -> bytes:
    """The bytes of a sample, changed: by its JSON, by its fields, or by its bits."""
    if chance.random() < 0.75 and body[:1] in (b"{", b"["):
        try:
            return json.dumps(_mutated(json.loads(body), chance)).encode()
        except ValueError:
            pass
    raw = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        if raw:
            at = chance.randrange(len(raw))
            if chance.random() < 0.5:
                raw[at] ^= 1 << chance.randrange(8)
            else:
                raw[at : at + chance.randint(0, 8)] = chance.randbytes(chance.randint(0, 3))
    return bytes(raw)


def _mutated(value: Any, chance: random.Random) -> Any:
    """A JSON value with some of its parts replaced, dropped, doubled or nested."""
    if chance.random() < 0.06:
        return copy.deepcopy(chance.choice(ODD))
    if isinstance(value, dict):
        found = {}
        for key, inner in value.items():
            lot = chance.random()
            if lot < 0.04:
                continue
            found[key if lot > 0.06 else key + "_"] = _mutated(inner, chance)
        return found
    if isinstance(value, list):
        found_items = [_mutated(inner, chance) for inner in value]
        return found_items * 2 if chance.random() < 0.05 else found_items
    return value
