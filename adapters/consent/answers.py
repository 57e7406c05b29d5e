"""The answers to the twelve questions, each from the queries that there are already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from adapters.consent.breaches import Breaches, BreachReport
from adapters.consent.consents import Consents, EventKey
from adapters.consent.delays import late_grants, latencies
from adapters.consent.holdings import erased_of, held, looks, wholeness
from adapters.consent.questions import MODELS, Answered, Found, Parts, Question, answered
from adapters.consent.standing import Standing, lapse_of, lapsing, resting_on
from domain.entry import moment
from domain.errors import NotFound
from domain.identity import Identifier

__all__ = ["MOST_ROWS", "ask"]

MOST_ROWS = 1_000
"""So many rows are listed; the figures are over all."""

Asked = Mapping[str, Any]


async def ask(parts: Parts, question: Question, asked: Asked, *, after: int = 0) -> Answered:
    """Answer a question.

    Args:
        asked: by the names of its parameters, read by `questions.parsed`.

    Raises:
        Invalid, NotFound, FutureTime, Behind.
    """
    if after:
        await parts.histories.moments.wait_until(after, models=MODELS)
    return answered(question, asked, await _ANSWERS[question.name](parts, asked))


async def _position(parts: Parts, known_at: datetime | int | None) -> int:
    position = await parts.histories.moments.resolve_known_at(known_at)
    if position is None:
        return max(await parts.histories.moments.seen(MODELS), 0)
    await parts.histories.moments.wait_until(position, models=MODELS)
    return position


async def _report(parts: Parts, asked: Asked, known_at: int) -> BreachReport:
    """The one place that asks for what went out without valid consent."""
    return await Breaches(parts.pool, parts.histories).report(
        asked["from"], asked["to"], known_at=known_at, limit=100_000
    )


def _words(text: str | None) -> str:
    return (text or "–").replace("_", " ")


def _minute(text: str) -> str:
    """A moment as a sentence tells it."""
    return f"{text[:10]} {text[11:16]} UTC"


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


async def _refs(parts: Parts, surrogates: Iterable[UUID]) -> dict[UUID, str]:
    found = await parts.subjects.describe(set(surrogates))
    return {
        s: str(Identifier(one.kind, one.value, one.namespace))
        for s, one in found.items()
        if one.value is not None
    }


async def _recorded_by(parts: Parts, positions: Iterable[int]) -> dict[int, str]:
    statement = (
        "SELECT position, principal || coalesce(' for ' || on_behalf_of, '') FROM read.audit_trail "
        "WHERE position = ANY(%s) AND known_from = position"
    )
    async with parts.pool.connection() as conn:
        return dict(await (await conn.execute(statement, (list(positions),))).fetchall())


# -- 1 to 3: was it allowed


async def _valid(parts: Parts, asked: Asked) -> Found:
    consents = Consents(parts.pool, parts.subjects, parts.histories, region=parts.region)
    when = asked["at"] or datetime.now(UTC)
    known_at = await _position(parts, asked["known_at"])
    found = await consents.person(
        asked["person"],
        purpose=asked["purpose"],
        channel=asked["channel"],
        contact=asked["contact"],
        at=when,
        known_at=known_at,
    )
    one = (
        found.answers[0]
        if found.answers
        else {"valid": False, "reason": "no_consent", "resting_on": None, "evidence": []}
    )
    rests = one["resting_on"]
    by = await _recorded_by(parts, one["evidence"])
    facts = [
        {
            "position": fact["position"],
            "state": fact["state"],
            "took_effect": fact["effective_at"],
            "recorded": fact["recorded_at"],
            "notice": " ".join(str(v) for v in (fact["notice"] or {}).values() if v) or None,
            "method": fact["method"],
            "recorded_by": by.get(fact["position"]),
            "receipt": fact["event_id"],
        }
        for fact in found.facts
        if fact["position"] in one["evidence"]
    ]
    if one["valid"]:
        notice = rests["notice"] or {}
        answer = (
            f"Yes: {rests['state']} on {_minute(rests['since'])}, under notice {notice.get('id')} {notice.get('version')}, "
            f"collected by {_words(rests['method'])}."
        )
    else:
        answer = f"No: {_words(one['reason'])}" + (f", since {_minute(rests['since'])}." if rests else ".")
    return Found(
        answer,
        found.known_at,
        {"valid": one["valid"], "reason": one["reason"], "evidence": one["evidence"]},
        ("position", "state", "took_effect", "recorded", "notice", "method", "recorded_by", "receipt"),
        facts,
        ["The proof of each row is its receipt: touchlog consent receipt EVENT."] if facts else [],
        (found.person,),
        at=when,
        says_no=not one["valid"],
    )


async def _known(parts: Parts, asked: Asked) -> Found:
    consents = Consents(parts.pool, parts.subjects, parts.histories, region=parts.region)
    told = await consents.verdicts([EventKey(asked["source"], asked["id"])], known_at=asked["known_at"])
    one = told.verdicts[0]
    if one["verdict"] is None:
        raise NotFound(f"No message that went out has the key {asked['source']} {asked['id']}.")
    looks_ = [
        {
            "look": name,
            "by_what_was_known": meaning,
            **{k: one[name][k] for k in ("valid", "reason", "evidence")},
        }
        for name, meaning in (
            ("actual", "up to the position asked about"),
            ("known", "in the log at the hand-over"),
            ("snapshot", "at the position that the sender used"),
        )
    ]
    knew = {True: "valid", False: f"not valid ({_words(one['known']['reason'])})", None: "not looked at"}
    answer = f"{_words(one['verdict']).capitalize()}" + (
        f", {_words(one['reason'])}" if one["reason"] else ""
    )
    answer += f". What the log held at the hand-over said: {knew[one['known']['valid']]}."
    figures = {"verdict": one["verdict"], "reason": one["reason"], "policy": one["policy"]}
    columns = ("look", "by_what_was_known", "valid", "reason", "evidence")
    allowed = one["verdict"] in ("compliant", "not_consent_based")
    return Found(answer, told.known_at, figures, columns, looks_, says_no=not allowed)


_MESSAGE = (
    "sent_at",
    "verdict",
    "reason",
    "purpose",
    "channel",
    "campaign",
    "source",
    "id",
    "evidence",
    "person",
)


def _messages(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: one[name] for name in _MESSAGE} for one in found[:MOST_ROWS]]


def _persons(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row["person"] for row in rows if row["person"]))


async def _breaches(parts: Parts, asked: Asked) -> Found:
    report = await _report(parts, asked, await _position(parts, asked["known_at"]))
    rows = _messages(report.breaches)
    listed = sum(report.reasons.values())
    answer = f"{_count(listed, 'message', 'messages')} of {report.messages:,} went out without a valid basis or proof."
    figures = {
        "messages": report.messages,
        "coverage": report.coverage,
        "verdicts": report.verdicts,
        "reasons": report.reasons,
        "by_campaign": report.by_campaign,
        "by_sender": report.by_sender,
    }
    more = listed > len(rows)
    return Found(
        answer, report.known_at, figures, _MESSAGE, rows, [], _persons(rows), more, says_no=bool(listed)
    )


# -- 4 and 5: what consent rests on, and until when


async def _standing_rows(parts: Parts, listed: list[Standing]) -> list[dict[str, Any]]:
    refs = await _refs(parts, (s.word.fact.contact for s in listed if s.word.fact.contact is not None))
    rows = []
    for one in listed:
        fact, until = one.word.fact, lapse_of(one.word)
        rows.append(
            {
                "contact": refs.get(fact.contact) or str(fact.contact) if fact.contact else None,
                "purpose": fact.purpose,
                "channel": fact.channel,
                "since": moment(one.word.since),
                "valid_until": moment(until) if until else None,
                "version": fact.notice_version,
                "now": "valid by it"
                if one.decides
                else "valid by another"
                if one.look.valid
                else _words(one.look.reason),
                "position": fact.position,
                "person": str(fact.subject),
            }
        )
    return rows


_STANDING = ("contact", "purpose", "channel", "since", "valid_until", "version", "now", "position", "person")


async def _notice(parts: Parts, asked: Asked) -> Found:
    known_at, when = await _position(parts, asked["known_at"]), asked["at"] or datetime.now(UTC)
    listed: list[Standing] = []
    given = resting = 0
    async for one in resting_on(parts.pool, asked["notice"], asked["version"], when, known_at):
        given += 1
        if one.decides:
            resting += 1
            if len(listed) < MOST_ROWS:
                listed.append(one)
    rows = await _standing_rows(parts, listed)
    name = " ".join(filter(None, (asked["notice"], asked["version"])))
    answer = (
        f"{_count(resting, 'consent rests', 'consents rest')} on notice {name}, of {given:,} given under it."
    )
    figures = {"resting": resting, "given_under_it": given}
    more = resting > len(rows)
    return Found(answer, known_at, figures, _STANDING, rows, [], _persons(rows), more, when)


async def _lapsing(parts: Parts, asked: Asked) -> Found:
    known_at, when = await _position(parts, asked["known_at"]), asked["at"] or datetime.now(UTC)
    listed: list[Standing] = []
    count = 0
    async for one in lapsing(parts.pool, asked["by"], when, known_at):
        count += 1
        if len(listed) < MOST_ROWS:
            listed.append(one)
    rows = sorted(await _standing_rows(parts, listed), key=lambda row: (row["valid_until"], row["position"]))
    answer = f"{_count(count, 'consent that is valid now lapses', 'consents that are valid now lapse')} by {_minute(moment(asked['by']))}."
    return Found(
        answer, known_at, {"lapsing": count}, _STANDING, rows, [], _persons(rows), count > len(rows), when
    )


# -- 6 to 8: delays and changes


async def _latency(parts: Parts, asked: Asked) -> Found:
    known_at = await _position(parts, asked["known_at"])
    to_now = {
        "from": asked["from"],
        "to": max(asked["to"], datetime.now(UTC)),
    }  # they may have been sent much later
    report = await _report(parts, to_now, known_at)
    rows, withdrawals = await latencies(parts.pool, report.breaches, asked["from"], asked["to"], known_at)
    late = sum(row["withdrawals"] for row in rows)
    answer = f"{_count(withdrawals, 'withdrawal', 'withdrawals')}; "
    answer += (
        "no message went out after any of them."
        if not rows
        else f"after {late:,} of them messages went out all the same."
    )
    notes = ["A withdrawal counts once for each processor that still sent; p50 and p99 are over those."]
    if report.more:
        notes.append("The span holds more than 100,000 breaches; the later ones are not in these figures.")
    columns = ("processor", "withdrawals", "p50_s", "p99_s", "longest_s")
    return Found(
        answer, known_at, {"withdrawals": withdrawals, "with_later_messages": late}, columns, rows, notes
    )


async def _late(parts: Parts, asked: Asked) -> Found:
    known_at = await _position(parts, asked["known_at"])
    rows, grants = await late_grants(parts.pool, asked["minutes"] * 60, known_at)
    late = sum(row["grants"] for row in rows)
    answer = f"{late:,} of {_count(grants, 'grant was', 'grants were')} recorded more than {asked['minutes']:,} min after taking effect."
    columns = ("source", "operator", "grants", "median_s", "longest_s", "positions")
    notes = [
        "Times are as corrected; grants that are void, over before they began or not confirmed yet are left out.",
        "Positions are the first five.",
    ]
    return Found(answer, known_at, {"late": late, "grants": grants}, columns, rows, notes)


async def _changed(parts: Parts, asked: Asked) -> Found:
    then, now = await _position(parts, asked["said"]), await _position(parts, asked["known_at"])
    before, after = await _report(parts, asked, then), await _report(parts, asked, now)
    old = {(one["source"], one["id"]): one for one in before.breaches}
    new = {(one["source"], one["id"]): one for one in after.breaches}
    changed: list[dict[str, Any]] = []
    for key in sorted(old.keys() | new.keys(), key=lambda k: (new.get(k) or old[k])["sent_at"]):
        was, is_ = old.get(key), new.get(key)
        one = is_ or was
        assert one is not None
        if (was and (was["verdict"], was["reason"])) == (is_ and (is_["verdict"], is_["reason"])):
            continue
        changed.append(
            {
                "sent_at": one["sent_at"],
                "source": key[0],
                "id": key[1],
                "said": _told_verdict(was),
                "says": _told_verdict(is_),
                "because_of": [p for p in one["evidence"] if p > then]
                or ([one["position"]] if one["position"] > then else []),
                "person": one["person"],
            }
        )
    answer = (
        f"At position {then:,} it said {_count(len(old), 'breach', 'breaches')} of {_count(before.messages, 'message', 'messages')}; "
        f"at {now:,} it says {len(new):,} of {after.messages:,}. {_count(len(changed), 'line differs', 'lines differ')}."
    )
    late = sorted({position for row in changed for position in row["because_of"]})
    facts = await _late_facts(parts, late)
    figures = {
        "said": {"known_at": then, "messages": before.messages, "verdicts": before.verdicts},
        "says": {"known_at": now, "messages": after.messages, "verdicts": after.verdicts},
        "late_facts": facts,
    }
    notes = []
    if any(not row["because_of"] for row in changed):
        notes.append(
            "A line without a late fact changed by links between persons, by a fact taken back, or is no breach any more."
        )
    columns = ("sent_at", "source", "id", "said", "says", "because_of", "person")
    rows = changed[:MOST_ROWS]
    return Found(answer, now, figures, columns, rows, notes, _persons(rows), len(changed) > len(rows))


def _told_verdict(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "no breach"
    return _words(one["verdict"]) + (f": {_words(one['reason'])}" if one["reason"] else "")


async def _late_facts(parts: Parts, positions: list[int]) -> list[dict[str, Any]]:
    statement = (
        "SELECT position, type, source, source_id, occurred_at, recorded_at FROM read.audit_trail "
        "WHERE position = ANY(%s) AND known_from = position ORDER BY position LIMIT 100"
    )
    async with parts.pool.connection() as conn:
        rows = await (await conn.execute(statement, (positions,))).fetchall()
    return [
        {"position": p, "type": t, "source": s, "id": i, "took_effect": moment(o), "recorded": moment(r)}
        for p, t, s, i, o, r in rows
    ]


# -- 9 to 12: what is held, and what shows it


async def _subjects_of(parts: Parts, ref: str, known_at: int | None = None) -> tuple[list[UUID], int]:
    person = await parts.histories.identities.person(ref, known_at=known_at)
    return [UUID(one["subject"]) for one in person.subjects], person.known_at


async def _looked(parts: Parts, asked: Asked) -> Found:
    subjects, known_at = await _subjects_of(parts, asked["person"])
    rows = await looks(parts.pool, subjects, limit=MOST_ROWS)
    who = sorted({row["who"] for row in rows})
    answer = f"{_count(len(rows), 'look', 'looks')} by {_count(len(who), 'reader', 'readers')} {'are' if len(rows) != 1 else 'is'} on record."
    notes = ["Looks at lists and exports name their question and no person; they are not in here."]
    without = sum(row["reason"] is None for row in rows)
    figures = {"looks": len(rows), "readers": who, "without_reason": without}
    columns = ("at", "who", "action", "reason", "denied", "record")
    return Found(
        answer, known_at, figures, columns, rows, notes, tuple(map(str, subjects)), len(rows) == MOST_ROWS
    )


async def _held(parts: Parts, asked: Asked) -> Found:
    known_at = await _position(parts, asked["known_at"])
    subjects, _ = await _subjects_of(parts, asked["person"], known_at)
    rows = await held(parts.pool, subjects, known_at)
    whole = await wholeness(parts.pool, known_at)
    events = sum(row["events"] for row in rows)
    swept = (
        f"last compared with the log as a whole on {_minute(moment(whole.swept_at))}"
        if whole.swept_at
        else "not yet compared as a whole"
    )
    missing = whole.position - whole.counted
    answer = (
        f"{_count(events, 'event', 'events')} under {_count(len(subjects), 'identifier', 'identifiers')}. "
    )
    answer += (
        "No position of the log is missing."
        if not missing
        else f"{missing:,} positions of the log are MISSING."
    )
    notes = [
        f"Read models: {swept}, {_count(whole.differences, 'row differs', 'rows differ')}.",
        "The events themselves: touchlog history REF, or replay --person REF. A signed proof of completeness is not in this version.",
    ]
    figures = {
        "events": events,
        "identifiers": len(subjects),
        "log_positions": whole.position,
        "log_events": whole.counted,
    }
    columns = ("channel", "type", "events", "first_at", "last_at", "first_position", "last_position")
    return Found(answer, known_at, figures, columns, rows, notes, tuple(map(str, subjects)))


async def _remains(parts: Parts, asked: Asked) -> Found:
    subjects, known_at = await _subjects_of(parts, asked["person"])
    states = await erased_of(parts.pool, subjects)
    gone = sum(erased for _, _, erased in states)
    rows = await held(parts.pool, subjects, known_at)
    events = sum(row["events"] for row in rows)
    if not gone:
        answer = f"Nothing of this person was erased: {_count(events, 'event', 'events')} are held whole."
    else:
        answer = f"{gone:,} of {_count(len(states), 'identifier', 'identifiers')} erased; {_count(events, 'event', 'events')} remain as skeletons without personal fields."
    notes = [
        "Skeletons of consent facts are kept as evidence under GDPR art. 17(3)(b) and (e); until when is a retention policy that this version does not hold.",
    ]
    columns = ("channel", "type", "events", "first_at", "last_at", "first_position", "last_position")
    figures = {"identifiers": len(states), "erased": gone, "events": events}
    return Found(answer, known_at, figures, columns, rows, notes, tuple(map(str, subjects)))


async def _untouched(parts: Parts, _asked: Asked) -> Found:
    whole = await wholeness(parts.pool, await _position(parts, None))
    missing = whole.position - whole.counted
    answer = "Not proven yet: this version signs no checkpoints. "
    answer += (
        "No position up to the head is missing." if not missing else f"{missing:,} positions are MISSING."
    )
    notes = [
        "The database refuses updates and deletes of events to every role of touchlog's; whoever owns the database could still do it unseen.",
        f"Read models that were compared with the log differ in {_count(whole.differences, 'row', 'rows')}.",
    ]
    return Found(
        answer,
        whole.position,
        {"log_positions": whole.position, "log_events": whole.counted},
        notes=notes,
        says_no=True,
    )


_ANSWERS: dict[str, Callable[[Parts, Asked], Awaitable[Found]]] = {
    "valid": _valid,
    "known": _known,
    "breaches": _breaches,
    "notice": _notice,
    "lapsing": _lapsing,
    "latency": _latency,
    "late": _late,
    "changed": _changed,
    "looked": _looked,
    "held": _held,
    "remains": _remains,
    "untouched": _untouched,
}
