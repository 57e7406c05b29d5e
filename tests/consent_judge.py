"""An independent judge of messages, written from SEMANTICS §5 alone: slow, obvious, and of no code of ours.

It reads events as they were posted, with the position and time that the log gave them; a merge is
`{"type": "merge", "a", "b"}`, a split `{"type": "split", "merge": key}` or `{…, "person", "subject"}`. It knows no
guards: logs for it name one identifier of a kind. Of law it knows that the United States give ten business days
for an opt-out, and that a minute is less and two months are more.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple

GRANTS = ("consent.given", "consent.renewed")
REASONS = {
    "consent.withdrawn": "withdrawn",
    "consent.objected": "objected",
    "consent.refused": "refused",
    "consent.revoked": "revoked",
    "contact.reassigned": "reassigned",
}


class Entry(NamedTuple):
    """An event as it was posted, with what the log gave it."""

    position: int
    recorded: datetime
    event: dict[str, Any]

    @property
    def key(self) -> tuple[str, str]:
        return self.event["source"], self.event["id"]

    @property
    def of(self) -> tuple[str, str] | None:
        of = self.event["data"].get("of")
        return (of["source"], of["id"]) if of else None


class Look(NamedTuple):
    valid: bool
    reason: str | None
    grant: tuple[str, str] | None
    in_grace: bool = False


def time_of(text: str) -> datetime:
    return datetime.fromisoformat(text)


PRIORITY = ("user", "crm", "loyalty_card", "email", "phone")
CHANNELS = {"email.sent": "email", "sms.sent": "sms"}


def named_by(event: dict[str, Any]) -> list[str]:
    """Whom an event names, in the order of their kinds (SEMANTICS §2)."""
    named = {event.get("subject"), *event.get("identifiers", "").split(",")} - {None, ""}
    return sorted(named, key=lambda ref: PRIORITY.index(ref.partition(":")[0]))


def first_subject(event: dict[str, Any]) -> str | None:
    """To whom an event belongs: of all whom it names the first by kind."""
    return next(iter(named_by(event)), None)


def persons(log: list[Entry], as_of: datetime | None = None) -> list[set[str]]:
    """Who is one, by what this log says, whatever the time of it or as of a time."""
    undone = {entry.event.get("merge") for entry in log if entry.event["type"] == "split"}
    splits = [(entry.position, *sides(entry, log)) for entry in log if "person" in entry.event]
    steps: list[
        tuple[Any, ...]
    ] = []  # in their order: (time, source, id, place), who, and of a merge its position
    for entry in log:
        event = entry.event
        if as_of is not None and time_of(event["time"]) > as_of:
            continue
        if event["type"] == "merge":
            if entry.key not in undone:
                steps.append((time_of(event["time"]), *entry.key, 0, event["a"], event["b"], entry.position))
        elif event["type"] != "split":
            named = named_by(event)
            for place, linked in enumerate(named[1:], 1):
                steps.append((time_of(event["time"]), *entry.key, place, named[0], linked, None))
    found: list[set[str]] = []
    for *_, a, b, merged in sorted(steps, key=lambda step: step[:4]):
        one = next((group for group in found if a in group), {a})
        other = next((group for group in found if b in group), {b})
        if one is other or any(
            forbidden(one, other, subject, side) and (merged is None or merged <= position)
            for position, subject, side in splits
        ):
            continue
        found = [group for group in found if group is not one and group is not other] + [one | other]
    return found


def forbidden(one: set[str], other: set[str], subject: str, side: set[str]) -> bool:
    """Whether joining these would bring a subject back to those from whom it was split."""
    apart = [(subject in group, bool(side & group)) for group in (one, other)]
    return (True, True) not in apart and any(a for a, _ in apart) and any(b for _, b in apart)


def sides(split: Entry, log: list[Entry]) -> tuple[str, set[str]]:
    """A subject that was split off, and with whom its person was left, by what was known then."""
    person, subject = split.event["person"], split.event["subject"]
    before = []
    for entry in log:
        merged = {entry.event.get("a"), entry.event.get("b")}
        if entry.position < split.position and subject not in merged:
            before.append(without(entry, subject) if subject in named_by(entry.event) else entry)
    return subject, person_of(person, before)


def without(entry: Entry, subject: str) -> Entry:
    """An event as if it did not name a subject; if that is its first, it links nobody."""
    named = named_by(entry.event)
    left = [] if named[:1] == [subject] else [one for one in named if one != subject]
    return entry._replace(event={**entry.event, "subject": None, "identifiers": ",".join(left)})


def person_of(subject: str | None, log: list[Entry], as_of: datetime | None = None) -> set[str]:
    """Everybody who is one with *subject*; nobody is one with None."""
    if subject is None:
        return set()
    return next((group for group in persons(log, as_of) if subject in group), {subject})


def bound(restriction: Entry, said: dict[str, Any], log: list[Entry], void: set[tuple[str, str]]) -> set[str]:
    """Whom a restriction of a person binds: after a split both sides, until an officer's review says whom."""
    held = {said["subject"]} - {None}
    for entry in sorted(log):
        if entry.position > restriction.position and entry.event["type"] == "split":
            before = [e for e in log if e.position < entry.position]
            held = held.union(*(person_of(one, before) for one in held))
        if (
            entry.event["type"] == "consent.reviewed"
            and entry.of == restriction.key
            and entry.key not in void
        ):
            held = set(entry.event["reviewed"])
    return held.union(*(person_of(one, log) for one in held))


def owners(
    restriction: Entry, said: dict[str, Any], log: list[Entry], void: set[tuple[str, str]]
) -> set[str]:
    """Whose a restriction is: its subject's, or theirs whom the last review names."""
    found = {said["subject"]} - {None}
    for entry in sorted(log):
        if (
            entry.event["type"] == "consent.reviewed"
            and entry.of == restriction.key
            and entry.key not in void
        ):
            found = set(entry.event["reviewed"])
    return found


def over_before_it_began(said: dict[str, Any]) -> bool:
    """Whether a fact has no effect because its validity ends before it begins."""
    until = said.get("valid_until")
    return until is not None and time_of(until) <= time_of(said["effective_at"])


def corrected(entry: Entry, log: list[Entry], void: set[tuple[str, str]]) -> dict[str, Any]:
    """The fields of a fact, as its corrections leave them."""
    fields = {
        **entry.event["data"],
        "subject": first_subject(entry.event),
        "effective_at": entry.event["time"],
    }
    corrections = [
        c for c in log if c.event["type"] == "consent.corrected" and c.of == entry.key and c.key not in void
    ]
    for correction in sorted(corrections, key=lambda c: (time_of(c.event["time"]), *c.key)):
        fields.update(correction.event["data"]["patch"])
    return fields


def look(  # noqa: C901 - the rule in one piece, as it is read
    log: list[Entry], message: dict[str, Any], *, without_grants_after: datetime | None = None
) -> Look:
    """May the message go out, by what this log says?"""
    at = time_of(message["time"])
    contact, purpose, channel = message["data"]["contact"], message["purpose"], CHANNELS[message["type"]]
    if without_grants_after is not None:
        kinds = {entry.key: entry.event["type"] for entry in log}
        facts = [e for e in log if e.recorded <= without_grants_after or not grants_something(e, kinds)]
    else:
        facts = log
    void = {
        e.of
        for e in facts
        if e.event["type"] == "consent.invalidated"
        and e.of
        and not over_before_it_began({**e.event["data"], "effective_at": e.event["time"]})
    }
    person = person_of(first_subject(message), log)
    grants, unevidenced, restrictions = [], [], []
    for entry in facts:
        type_ = entry.event["type"]
        if entry.key in void or (type_ not in GRANTS and type_ not in REASONS):
            continue
        said = corrected(entry, facts, void)
        since = time_of(said["effective_at"])
        until = time_of(said["valid_until"]) if said.get("valid_until") else None
        if over_before_it_began(said):
            continue
        if type_ in GRANTS:
            mine = (
                said.get("contact") == contact
                and said.get("purpose") == purpose
                and said["subject"] in person
            )
            if not mine or said.get("channel") != channel:
                continue
            if not said.get("method") or not (said.get("notice") or {}).get("version"):
                if since <= at:
                    unevidenced.append(entry)
                continue
            if said.get("double_opt_in"):
                confirmed = [
                    corrected(c, facts, void)
                    for c in facts
                    if c.event["type"] == "consent.confirmed" and c.of == entry.key and c.key not in void
                ]
                times = [time_of(c["effective_at"]) for c in confirmed if not over_before_it_began(c)]
                if not times:
                    continue
                since = max(since, min(times))
            if since <= at:
                grants.append(((since, False, *entry.key), entry, said, until))
        else:
            broad = said.get("purpose") or "*"
            covers = broad in ("*", purpose) or purpose.startswith(f"{broad}.")
            binds = (
                said["contact"] == contact
                if said.get("contact")
                else bool(bound(entry, said, facts_and_links(facts, log), void) & person)
            )
            if covers and binds and (said.get("channel") or "*") in ("*", channel) and since <= at:
                restrictions.append(((since, True, *entry.key), type_, said, entry))
    for order, type_, said, entry in sorted(restrictions, key=lambda one: one[0], reverse=True):
        later = [grant for grant in grants if grant[0] > order]
        whose = owners(entry, said, facts, void)
        if not any(lifts(grant, said, whose, log) for grant in later):
            law = said.get("jurisdiction")
            if not law and grants:
                law = max(grants, key=lambda one: one[0])[2].get("jurisdiction")
            return Look(False, REASONS[type_], None, law == "US" and at < order[0] + timedelta(days=10))
    if not grants:
        return Look(False, "unevidenced" if unevidenced else "no_consent", None)
    _, entry, said, until = max(grants, key=lambda one: one[0])
    if until is not None and at >= until:
        return Look(False, "expired", entry.key)
    for notice in facts:
        if notice.event["type"] != "notice.superseded" or notice.key in void:
            continue
        told = corrected(notice, facts, void)
        if told.get("material") and told.get("notice"):
            same = all(told["notice"].get(name) == said["notice"].get(name) for name in ("id", "version"))
            if same and time_of(told["effective_at"]) <= at:
                return Look(False, "notice_stale", entry.key)
    return Look(True, None, entry.key)


def grants_something(entry: Entry, kinds: dict[tuple[str, str], str]) -> bool:
    """A grant, a confirmation, or a correction of either."""
    type_ = entry.event["type"]
    if type_ == "consent.corrected" and entry.of:
        type_ = kinds.get(entry.of, "")
    return type_ in GRANTS or type_ == "consent.confirmed"


def facts_and_links(facts: list[Entry], log: list[Entry]) -> list[Entry]:
    """The facts that count, and of those that are left out who is who."""
    kept = {entry.key for entry in facts}
    return [e if e.key in kept else as_link(e) for e in log]


def as_link(entry: Entry) -> Entry:
    """What an event says of who is who, and nothing else."""
    kept = entry.event["type"] in ("merge", "split")
    return entry if kept else entry._replace(event={**entry.event, "type": "link"})


def lifts(grant: Any, restriction: dict[str, Any], whose: set[str], log: list[Entry]) -> bool:
    """Whether a later grant lifts a restriction: by its contact point, its subject, or one person when it took effect."""
    if restriction.get("contact"):
        return True
    (since, *_), _, said, _ = grant
    return bool(whose & person_of(said["subject"], log, since))


def verdict(log: list[Entry], message: dict[str, Any], cut: int) -> tuple[str, str | None]:
    """(verdict, reason) of a message, with what is known of consent cut off at a position."""
    at = time_of(message["time"])
    if message.get("legalbasis", "consent") != "consent":
        return "not_consent_based", None
    if not message.get("purpose") or not message["data"].get("contact"):
        return "undeterminable", None
    known_log = [e for e in log if e.position <= cut and e.recorded <= at]
    actual = look([e for e in log if e.position <= cut], message)
    known = look(known_log, message)
    used = message.get("snapshot")
    snapshot = known if used is None else look([e for e in log if e.position <= min(int(used), cut)], message)
    if actual.valid:
        there = known.valid and grant_was_a_word(known_log, message, actual.grant)
        proven = look([e for e in log if e.position <= cut], message, without_grants_after=at).valid
        return ("compliant" if there and proven else "unproven_at_send"), None
    if known.valid:
        return "late_known_breach", actual.reason
    if actual.in_grace and actual.reason in ("withdrawn", "objected"):
        return "breach_in_grace", actual.reason
    if snapshot.valid and actual.reason in ("withdrawn", "objected"):
        return "breach", "stale_decision"
    return "breach", actual.reason


def grant_was_a_word(log: list[Entry], message: dict[str, Any], grant: tuple[str, str] | None) -> bool:
    """Whether this very grant counted by this log: alone with what speaks of it, it would have made the message valid."""
    about = {grant}
    kept = []
    while True:
        more = [e for e in log if (e.key in about or e.of in about) and e not in kept]
        if not more:
            break
        kept += more
        about |= {e.key for e in more}
    links = [as_link(e) for e in log if e not in kept]
    found = look([*kept, *links], message)
    return found.valid or found.reason == "expired"
