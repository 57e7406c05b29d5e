"""The plain look at consent, held to the whole rule: wherever it answers, both say the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from domain.consent.facts import Fact
from domain.consent.plain import PlainFact, plain_look
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
    }
)
linked = st.none() | st.integers(0, 12)
asked = st.tuples(
    st.sampled_from(("marketing.news", "marketing")), st.just("email"), st.sampled_from((None, "harbour"))
)


def plain(fact: Fact) -> PlainFact:
    """Give the same fact as the plain look takes it."""
    fields = {name: getattr(fact, name) for name in PlainFact.__struct_fields__ if name != "intricate"}
    return PlainFact(**fields, intricate=False)


@given(st.lists(said, max_size=5), linked, asked, st.sampled_from((6, 13, 10**8)))
def test_the_plain_look_says_what_the_whole_rule_says(
    facts: list[dict[str, Any]], link: int | None, question: tuple[str, str, str | None], second: int
) -> None:
    compared(facts, link, question, second)


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
    fields = {name: getattr(facts[0], name) for name in PlainFact.__struct_fields__}
    assert plain_look([PlainFact(**fields | {"intricate": True})], (ANN,), MAIL, question, at(2)) is None


def test_most_of_what_may_be_asked_is_answered_plainly() -> None:
    answers: Counter[str] = Counter()
    for eff in range(6):
        for other in range(6):
            for state in ("given", "withdrawn"):
                facts = [GRANT | {"eff": eff}, GRANT | {"state": state, "eff": other}]
                answers[compared(facts, None, ("marketing.news", "email", None), 9)] += 1
    assert answers["the whole rule has to be asked"] == 0
    assert answers["valid"] > answers["withdrawn"] > 0
