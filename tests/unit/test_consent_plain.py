"""The plain look at consent, held to the whole rule: wherever it answers, both say the same."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.consent.facts import Fact
from domain.consent.plain import PlainFact, Tied, plain_judgement, plain_look
from domain.consent.rejudging import said as said_by
from tests.unit.consent_log import ANN, BOB, EVE, EVER, MAIL, OTHER_MAIL, Log, at

said = st.fixed_dictionaries(
    {
        "state": st.sampled_from(
            ("given", "given", "renewed", "withdrawn", "objected", "refused", "requested")
        ),
        "eff": st.integers(0, 12),
        "subject": st.sampled_from((ANN, ANN, BOB, EVE, None)),
        "contact": st.sampled_from((MAIL, MAIL, OTHER_MAIL, None)),
        "purpose": st.sampled_from(("marketing.news", "marketing.news", "marketing", "*", "market")),
        "channel": st.sampled_from(("email", "email", "email", "*", "phone")),
        "controller": st.sampled_from((None, None, "harbour")),
        "method": st.sampled_from(("form", "form", None)),
        "legal_basis": st.sampled_from((None, None, "implied")),
        "jurisdiction": st.sampled_from((None, "CA")),
        "valid_until": st.sampled_from((None, None, at(4), at(8))),
    }
)
linked = st.none() | st.integers(0, 12)
asked = st.tuples(
    st.sampled_from(("marketing.news", "marketing")), st.just("email"), st.sampled_from((None, "harbour"))
)


def plain(fact: Fact) -> PlainFact:
    """Give the same fact as the plain look takes it."""
    own = ("intricate", "stale_from")
    fields = {name: getattr(fact, name) for name in PlainFact.__struct_fields__ if name not in own}
    return PlainFact(**fields, intricate=False)


@given(st.lists(said, max_size=5), linked, asked, st.sampled_from((6, 13, 10**8)))
def test_the_plain_look_says_what_the_whole_rule_says(
    facts: list[dict[str, Any]], link: int | None, question: tuple[str, str, str | None], second: int
) -> None:
    compared(facts, link, question, second)


HOLDS = {
    "state": "given",
    "eff": 3,
    "subject": ANN,
    "contact": MAIL,
    "purpose": "marketing.news",
    "channel": "email",
    "controller": None,
    "notice_version": "3",
    "method": "form",
    "legal_basis": None,
    "jurisdiction": None,
    "valid_until": None,
}


OTHERWISE: dict[str, tuple[Any, ...]] = {
    "state": ("renewed", "withdrawn", "objected", "refused", "requested"),
    "eff": (0, 6, 7),
    "subject": (BOB, None),
    "contact": (OTHER_MAIL, None),
    "purpose": ("marketing", "*"),
    "channel": ("*", "phone"),
    "controller": ("harbour", "office"),
    "method": (None, "purchase"),
    "legal_basis": ("implied_consent",),
    "jurisdiction": ("CA",),
    "valid_until": (at(2), at(6), at(8)),
}


def test_the_plain_look_at_a_fact_that_stands_alone_says_what_the_whole_rule_says() -> None:
    found: Counter[str] = Counter()
    changes = [(name, value) for name, values in OTHERWISE.items() for value in values]
    for one, other in itertools.combinations_with_replacement(changes, 2):
        for controller in (None, "harbour"):
            for second in (6, 10**8):
                fact = HOLDS | dict((one, other))
                found[compared([fact], None, ("marketing.news", "email", controller), second)] += 1
    assert found["valid"] > 100, found


def compared(
    facts: list[dict[str, Any]], link: int | None, question: tuple[str, str, str | None], second: int
) -> str:
    """Compare both looks; gives what the plain one answered."""
    log = Log()
    for one in facts:
        log.fact(one["state"], one["eff"], **{k: v for k, v in one.items() if k not in ("state", "eff")})
    if link is not None:
        log.link(ANN, BOB, link)
    case = log.case()
    found = plain_look(
        [plain(fact) for fact in case.facts],
        (ANN,) if link is None else (ANN, BOB),
        MAIL,
        question,
        at(second),
        one_since=None if link is None else at(link),
    )
    if found is None:
        return "the whole rule has to be asked"
    purpose, channel, controller = question
    whole = log.look(second, known=EVER, purpose=purpose, channel=channel, controller=controller)
    assert found == (whole.valid, whole.reason, whole.position)
    return found[1] or "valid"


GRANT = {"state": "given", "purpose": "marketing.news", "channel": "email", "subject": ANN, "contact": MAIL}
OBJECTION = {"state": "objected", "purpose": "*", "channel": "*", "subject": BOB, "contact": None}


def test_a_grant_lifts_an_objection_of_another_subject_only_once_both_were_one_person() -> None:
    asked_for = ("marketing.news", "email", None)
    facts = [OBJECTION | {"eff": 1}, GRANT | {"eff": 5}]
    assert compared(facts, 3, asked_for, 9) == "valid"
    assert compared(facts, 7, asked_for, 9) == "the whole rule has to be asked"


def test_what_is_intricate_is_left_to_the_whole_rule() -> None:
    log = Log()
    log.given(1)
    facts = [plain(fact) for fact in log.case().facts]
    question = ("marketing.news", "email", None)
    assert plain_look(facts, (ANN,), MAIL, question, at(2)) == (True, None, 1)
    (fact,) = facts
    intricate = replace(fact, intricate=True)
    assert plain_look([intricate], (ANN,), MAIL, question, at(2)) is None
    stale = replace(fact, stale_from=at(3))
    assert plain_look([stale], (ANN,), MAIL, question, at(2.9)) == (True, None, 1)
    assert plain_look([stale], (ANN,), MAIL, question, at(3)) is None


def test_most_of_what_may_be_asked_is_answered_plainly() -> None:
    answers: Counter[str] = Counter()
    for eff in range(6):
        for other in range(6):
            for state in ("given", "withdrawn"):
                facts = [GRANT | {"eff": eff}, GRANT | {"state": state, "eff": other}]
                answers[compared(facts, None, ("marketing.news", "email", None), 9)] += 1
    assert answers["the whole rule has to be asked"] == 0
    assert answers["valid"] > answers["withdrawn"] > 0


# ---- verdicts


@given(
    st.lists(st.tuples(said, st.integers(0, 12)), max_size=5),
    st.none() | st.tuples(st.integers(0, 12), st.integers(0, 12)),
    asked,
    st.integers(1, 13),
    st.none() | st.integers(0, 12),
)
def test_a_message_is_judged_plainly_as_by_the_whole_rule(
    facts: list[tuple[dict[str, Any], int]],
    link: tuple[int, int] | None,
    question: tuple[str, str, str | None],
    sent: int,
    snapshot: int | None,
) -> None:
    judged(facts, link, question, sent, snapshot)


def judged(
    facts: list[tuple[dict[str, Any], int]],
    link: tuple[int, int] | None,
    question: tuple[str, str, str | None],
    sent: int,
    snapshot: int | None = None,
) -> str:
    """Compare both judgements, to the last look; gives the plain one."""
    log = Log()
    for one, rec in facts:
        told = {k: v for k, v in one.items() if k not in ("state", "eff")}
        log.fact(one["state"], one["eff"], rec=rec, **told)
    tied = None
    if link is not None:
        log.link(ANN, BOB, link[0], rec=link[1])
        position = next(n for n, one in enumerate(log.positions(), 1) if isinstance(one.what, tuple))
        tied = Tied(at(link[0]), position, at(link[1]))
    case = log.case()
    found = plain_judgement(
        [plain(fact) for fact in case.facts],
        (ANN,) if link is None else (ANN, BOB),
        MAIL,
        question,
        at(sent),
        position=EVER,
        snapshot=None if snapshot is None else log.known_at(snapshot),
        tied=tied,
    )
    if found is None:
        return "the whole rule has to be asked"
    purpose, channel, controller = question
    whole = log.send(sent, snapshot=snapshot, purpose=purpose, channel=channel, controller=controller)
    assert said_by(found) == said_by(whole)
    return found.verdict


NEWS = ("marketing.news", "email", None)


def test_plain_verdicts_are_of_every_kind() -> None:
    given_, withdrawn = GRANT | {"eff": 1}, GRANT | {"state": "withdrawn", "eff": 3}
    assert judged([(given_, 1)], None, NEWS, 5) == "compliant"
    assert judged([(given_, 9)], None, NEWS, 5) == "unproven_at_send"
    assert judged([(given_, 1), (withdrawn, 9)], None, NEWS, 5) == "late_known_breach"
    assert judged([(given_, 1), (withdrawn, 3)], None, NEWS, 5) == "breach"
    assert judged([(given_, 1), (withdrawn | {"jurisdiction": "US"}, 3)], None, NEWS, 5) == "breach_in_grace"
    laundered = [(given_, 1), (withdrawn, 9), (GRANT | {"eff": 4}, 10)]
    assert judged(laundered, None, NEWS, 5) == "unproven_at_send"


def test_where_a_person_was_not_known_to_be_one_the_whole_rule_is_asked_but_of_nothing_known() -> None:
    given_ = GRANT | {"eff": 1, "subject": BOB}
    assert judged([(given_, 1)], (1, 2), NEWS, 5) == "compliant"
    assert judged([(given_, 1)], (1, 9), NEWS, 5) == "the whole rule has to be asked"
    assert judged([(given_, 9)], (1, 9), NEWS, 5) == "unproven_at_send"


def test_what_was_learnt_behind_a_message_is_left_to_the_whole_rule() -> None:
    log = Log()
    log.given(1)
    facts = [plain(fact) for fact in log.case().facts]

    def at_position(position: int) -> Any:
        return plain_judgement(facts, (ANN,), MAIL, NEWS, at(2), position=position)

    assert at_position(1).verdict == "compliant"
    assert at_position(0) is None
