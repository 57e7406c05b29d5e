"""An independent judge of messages, written from SEMANTICS §5 alone: slow, obvious, and of no code of ours.

It reads events as they were posted, with the position and time that the log gave them. It knows links by
evidence, but no guards, merges, splits or policies: logs for it name one identifier of a kind, and law of the EU.
"""

from __future__ import annotations

from datetime import datetime
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


def time_of(text: str) -> datetime:
    return datetime.fromisoformat(text)


PRIORITY = ("user", "crm", "loyalty_card", "email", "phone")


def first_subject(event: dict[str, Any]) -> str:
    """To whom an event belongs: of all whom it names the first by kind (SEMANTICS §2)."""
    named: list[str] = [event["subject"], *filter(None, event.get("identifiers", "").split(","))]
    return min(named, key=lambda ref: PRIORITY.index(ref.partition(":")[0]))


def person_of(subject: str, log: list[Entry], as_of: datetime | None = None) -> set[str]:
    """Everybody whom the links make one with *subject*; without *as_of* whatever their time."""
    found = {subject}
    while True:
        before = len(found)
        for entry in log:
            named = [entry.event.get("subject"), *filter(None, entry.event.get("identifiers", "").split(","))]
            if as_of is not None and time_of(entry.event["time"]) > as_of:
                continue
            if found & set(named):
                found |= {one for one in named if one}
        if len(found) == before:
            return found


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
    contact, purpose, channel = message["data"]["contact"], message["purpose"], "email"
    if without_grants_after is not None:
        kinds = {entry.key: entry.event["type"] for entry in log}
        facts = [e for e in log if e.recorded <= without_grants_after or not grants_something(e, kinds)]
    else:
        facts = log
    void = {e.of for e in facts if e.event["type"] == "consent.invalidated" and e.of}
    person = person_of(first_subject(message), log)
    grants, unevidenced, restrictions = [], [], []
    for entry in facts:
        type_ = entry.event["type"]
        if entry.key in void or (type_ not in GRANTS and type_ not in REASONS):
            continue
        said = corrected(entry, facts, void)
        since = time_of(said["effective_at"])
        until = time_of(said["valid_until"]) if said.get("valid_until") else None
        if until is not None and until <= since:
            continue
        if type_ in GRANTS:
            mine = said.get("contact") == contact and said["purpose"] == purpose and said["subject"] in person
            if not mine or said["channel"] != channel:
                continue
            if not said.get("method") or not said.get("notice", {}).get("version"):
                if since <= at:
                    unevidenced.append(entry)
                continue
            if said.get("double_opt_in"):
                times = [
                    time_of(corrected(c, facts, void)["effective_at"])
                    for c in facts
                    if c.event["type"] == "consent.confirmed" and c.of == entry.key and c.key not in void
                ]
                if not times:
                    continue
                since = max(since, min(times))
            if since <= at:
                grants.append(((since, False, *entry.key), entry, said, until))
        else:
            broad = said.get("purpose") or "*"
            covers = broad in ("*", purpose) or purpose.startswith(f"{broad}.")
            binds = said["contact"] == contact if said.get("contact") else said["subject"] in person
            if covers and binds and (said.get("channel") or "*") in ("*", channel) and since <= at:
                restrictions.append(((since, True, *entry.key), type_, said))
    for order, type_, said in sorted(restrictions, key=lambda one: one[0], reverse=True):
        later = [grant for grant in grants if grant[0] > order]
        if not any(lifts(grant, said, log) for grant in later):
            return Look(False, REASONS[type_], None)
    if not grants:
        return Look(False, "unevidenced" if unevidenced else "no_consent", None)
    _, entry, said, until = max(grants, key=lambda one: one[0])
    if until is not None and at >= until:
        return Look(False, "expired", entry.key)
    for notice in facts:
        told = notice.event["data"]
        if notice.event["type"] == "notice.superseded" and notice.key not in void and told.get("material"):
            same = all(told["notice"][name] == said["notice"][name] for name in ("id", "version"))
            if same and time_of(notice.event["time"]) <= at:
                return Look(False, "notice_stale", entry.key)
    return Look(True, None, entry.key)


def grants_something(entry: Entry, kinds: dict[tuple[str, str], str]) -> bool:
    """A grant, a confirmation, or a correction of either."""
    type_ = entry.event["type"]
    if type_ == "consent.corrected" and entry.of:
        type_ = kinds.get(entry.of, "")
    return type_ in GRANTS or type_ == "consent.confirmed"


def lifts(grant: Any, restriction: dict[str, Any], log: list[Entry]) -> bool:
    """Whether a later grant lifts a restriction: by its contact point, its subject, or one person when it took effect."""
    if restriction.get("contact"):
        return True
    (since, *_), _, said, _ = grant
    return said["subject"] == restriction["subject"] or restriction["subject"] in person_of(
        said["subject"], log, since
    )


def verdict(log: list[Entry], message: dict[str, Any], cut: int) -> tuple[str, str | None]:
    """(verdict, reason) of a message, with what is known of consent cut off at a position."""
    at = time_of(message["time"])
    known_log = [e for e in log if e.position <= cut and e.recorded <= at]
    actual = look([e for e in log if e.position <= cut], message)
    known = look(known_log, message)
    used = message.get("snapshot")
    snapshot = known if used is None else look([e for e in log if e.position <= min(used, cut)], message)
    if actual.valid:
        there = known.valid and grant_was_a_word(known_log, message, actual.grant)
        proven = look([e for e in log if e.position <= cut], message, without_grants_after=at).valid
        return ("compliant" if there and proven else "unproven_at_send"), None
    if known.valid:
        return "late_known_breach", actual.reason
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
    links = [e._replace(event={**e.event, "type": "link"}) for e in log if e not in kept]
    found = look([*kept, *links], message)
    return found.valid or found.reason == "expired"
