"""Every further sentence of SEMANTICS §5 about facts, words and looks; and what holds of any log at all."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.consent.facts import Defect, defects
from domain.consent.validity import Case, Question
from domain.consent.verdicts import judge
from tests.unit.consent_log import (
    ANN,
    BOB,
    COMPLIANT,
    EVE,
    EVER,
    MAIL,
    OTHER_MAIL,
    UNPROVEN,
    Log,
    at,
    breach,
    late,
    shuffled,
)


@pytest.fixture
def log() -> Log:
    return Log()


# ---- scope


def test_a_grant_that_names_no_contact_point_grants_nothing(log: Log) -> None:
    log.given(100, contact=None)
    assert log.verdict(200) == breach("no_consent")


def test_a_grant_of_everything_is_no_grant_of_something(log: Log) -> None:
    log.given(100, purpose="*", channel="*")
    assert log.verdict(200) == breach("no_consent")


def test_a_restriction_without_contact_point_holds_for_all_of_the_persons(log: Log) -> None:
    log.given(100)
    log.given(100, contact=OTHER_MAIL)
    log.withdrawn(150, contact=None)
    assert log.verdict(200) == log.verdict(200, contact=OTHER_MAIL) == breach("withdrawn")


def test_a_restriction_of_one_contact_point_leaves_the_persons_others(log: Log) -> None:
    log.given(100)
    log.withdrawn(150, contact=OTHER_MAIL)
    assert log.verdict(200) == COMPLIANT


def test_a_restriction_of_a_contact_point_binds_it_under_whatever_subject(log: Log) -> None:
    log.given(100)
    log.withdrawn(150, subject=EVE)
    assert log.verdict(200) == breach("withdrawn")


def test_a_restriction_that_names_nobody_binds_nobody(log: Log) -> None:
    log.given(100)
    log.withdrawn(150, subject=None, contact=None)
    assert log.verdict(200) == COMPLIANT


def test_an_absent_channel_of_a_restriction_is_every_channel(log: Log) -> None:
    log.given(100)
    log.withdrawn(150, channel=None)
    assert log.verdict(200) == breach("withdrawn")


def test_a_question_that_names_a_controller_asks_its_facts_and_those_restrictions_that_name_none(
    log: Log,
) -> None:
    log.given(100, controller="brand a")
    assert log.verdict(200) == log.verdict(200, controller="brand a") == COMPLIANT
    assert log.verdict(200, controller="brand b") == breach("no_consent")
    log.withdrawn(150, controller="brand b")
    assert log.verdict(200, controller="brand a") == COMPLIANT
    log.withdrawn(150)
    assert log.verdict(200, controller="brand a") == breach("withdrawn")


def test_a_request_is_no_word(log: Log) -> None:
    log.given(100)
    log.fact("requested", 150, purpose="marketing.news", channel="email", contact=MAIL)
    assert log.verdict(200) == COMPLIANT


@pytest.mark.parametrize("state", ["withdrawn", "refused", "revoked", "objected"])
def test_every_restriction_is_its_own_reason(log: Log, state: str) -> None:
    log.given(100)
    log.fact(state, 150, purpose="marketing", channel="*", contact=None)
    assert log.verdict(200) == breach(state)


def test_a_message_that_names_no_person_has_nobodys_consent(log: Log) -> None:
    log.given(100)
    assert log.verdict(200, subject=None) == breach("no_consent")
    log.withdrawn(150)
    assert log.verdict(200, subject=None) == breach("withdrawn")


# ---- corrections, invalidations, confirmations


def test_of_several_corrections_the_greatest_in_time_source_and_id_wins_field_by_field(log: Log) -> None:
    fact = log.given(100, purpose="other", channel="sms")
    log.corrected(fact, 120, rec=400, purpose="wrong", channel="email")
    log.corrected(fact, 130, rec=300, purpose="marketing.news")
    assert log.look(200).valid


def test_a_null_in_a_correction_takes_the_value_away(log: Log) -> None:
    fact = log.given(100)
    log.corrected(fact, 120, contact=None)
    assert log.verdict(200) == breach("no_consent")


def test_corrections_count_whatever_their_own_time(log: Log) -> None:
    fact = log.given(100)
    log.corrected(fact, 900, rec=150, purpose="other")
    assert log.verdict(200) == breach("no_consent")


def test_invalidations_count_whatever_their_own_time(log: Log) -> None:
    fact = log.given(100)
    log.fact("invalidated", 900, rec=150, of=fact)
    assert log.verdict(200) == breach("no_consent")


def test_an_invalidated_correction_is_not_applied(log: Log) -> None:
    fact = log.given(100)
    correction = log.corrected(fact, 120, purpose="other")
    log.fact("invalidated", 130, of=correction)
    assert log.verdict(200) == COMPLIANT


def test_an_invalidated_confirmation_confirms_nothing(log: Log) -> None:
    fact = log.given(100, double_opt_in=True)
    proof = log.fact("confirmed", 110, of=fact)
    log.fact("invalidated", 130, of=proof)
    assert log.verdict(200) == breach("no_consent")


def test_invalidating_an_invalidation_changes_nothing(log: Log) -> None:
    fact = log.given(100)
    void = log.fact("invalidated", 120, of=fact)
    log.fact("invalidated", 130, of=void)
    assert log.verdict(200) == breach("no_consent")


def test_an_invalidated_restriction_binds_nobody(log: Log) -> None:
    log.given(100)
    log.fact("invalidated", 160, of=log.withdrawn(150))
    assert log.verdict(200) == COMPLIANT


def test_a_correction_of_a_correction_has_no_effect_and_is_listed(log: Log) -> None:
    fact = log.given(100)
    correction = log.corrected(fact, 120, purpose="other")
    log.corrected(correction, 130, purpose="marketing.news")
    assert log.verdict(200) == breach("no_consent")
    assert wrong(log) == ["notice_unpublished", "of_unsuitable"]


def test_what_refers_to_a_fact_that_comes_later_takes_effect_when_it_comes(log: Log) -> None:
    there = UUID(int=10_001)
    log.fact("invalidated", 90, of=there)
    assert wrong(log) == ["of_unknown"]
    assert log.given(100) == there
    assert log.verdict(200) == breach("no_consent")
    assert wrong(log) == ["notice_unpublished"]


def test_a_confirmation_may_be_corrected(log: Log) -> None:
    fact = log.given(100, double_opt_in=True)
    proof = log.fact("confirmed", 300, of=fact)
    log.corrected(proof, 310, effective_at=at(150))
    assert log.verdict(200) == UNPROVEN  # the confirmation was recorded behind the send
    assert log.look(140).reason == "no_consent"


def test_a_confirmation_before_the_grant_moves_nothing_forward(log: Log) -> None:
    fact = log.given(150, double_opt_in=True)
    log.fact("confirmed", 100, of=fact)
    assert log.look(149).reason == "no_consent"
    assert log.look(150).valid


@pytest.mark.parametrize("until", [99, 100])
def test_a_validity_that_ends_before_it_begins_has_no_effect_and_is_listed(log: Log, until: float) -> None:
    log.given(100, valid_until=at(until))
    assert log.verdict(100) == breach("no_consent")
    assert "ends_before_it_begins" in wrong(log)


def test_a_correction_of_the_validity_gives_a_fact_its_effect(log: Log) -> None:
    fact = log.given(100, valid_until=at(50))
    log.corrected(fact, 110, valid_until=at(500))
    assert log.verdict(200) == COMPLIANT


def test_a_notice_that_was_never_published_is_listed_with_full_effect(log: Log) -> None:
    log.given(100)
    assert wrong(log) == ["notice_unpublished"]
    log.fact("published", 50, subject=None, notice_id="privacy", notice_version="3")
    assert wrong(log) == []
    assert wrong(log, "marketing.offers") == ["purpose_uncatalogued"]
    assert wrong(log, "marketing.news") == []


def wrong(log: Log, *catalogue: str) -> list[str]:
    """List what is wrong with the facts."""
    found: list[Defect] = defects(log.case().facts, EVER, catalogue=catalogue)
    return sorted(defect.reason for defect in found)


# ---- the last word


def test_of_two_words_of_one_instant_source_and_id_decide(log: Log) -> None:
    log.given(100, source="b", valid_until=at(150))
    log.given(100, source="a")
    assert log.verdict(200) == breach("expired")


def test_an_expired_grant_is_the_last_word_before_an_older_one(log: Log) -> None:
    log.given(50)
    log.given(100, valid_until=at(150))
    assert log.verdict(200) == breach("expired")


def test_a_notice_superseded_later_leaves_what_was_sent_before(log: Log) -> None:
    log.given(100)
    log.fact("superseded", 300, subject=None, notice_id="privacy", notice_version="3", material=True)
    assert log.verdict(200) == COMPLIANT


# ---- lifting


def test_a_grant_lifts_no_restriction_of_a_subject_linked_only_later(log: Log) -> None:
    log.withdrawn(150, subject=BOB, contact=None)
    log.given(180)
    log.link(ANN, BOB, 190)
    assert log.verdict(200) == breach("withdrawn")


def test_a_grant_lifts_a_restriction_of_a_subject_linked_before_it(log: Log) -> None:
    log.withdrawn(150, subject=BOB, contact=None)
    log.link(ANN, BOB, 170)
    log.given(180)
    assert log.verdict(200) == COMPLIANT


def test_a_restriction_lifted_once_stays_lifted(log: Log) -> None:
    log.withdrawn(150, subject=BOB, contact=None)
    log.link(ANN, BOB, 170)
    log.given(180)
    log.link(ANN, EVE, 195)
    log.given(190, subject=EVE)
    assert log.verdict(200) == COMPLIANT


def test_a_grant_lifts_a_restriction_of_its_own_contact_point_by_whomever(log: Log) -> None:
    log.withdrawn(150, subject=EVE)
    log.given(180)
    assert log.verdict(200) == COMPLIANT


def test_links_count_by_knowledge_whatever_their_time(log: Log) -> None:
    log.given(100, subject=BOB)
    log.link(ANN, BOB, 900, rec=150)
    assert log.verdict(200) == COMPLIANT


def test_a_grant_that_reaches_the_person_by_a_later_link_was_no_word_then(log: Log) -> None:
    log.given(100, subject=BOB)
    log.link(ANN, BOB, 50, rec=300)
    assert log.verdict(200) == UNPROVEN


# ---- verdicts


def test_a_correction_recorded_later_that_the_grant_needs_leaves_it_unproven(log: Log) -> None:
    fact = log.given(100, purpose="other")
    log.corrected(fact, 300, purpose="marketing.news")
    assert log.verdict(200) == UNPROVEN


def test_a_correction_recorded_later_launders_no_breach(log: Log) -> None:
    fact = log.given(100)
    log.withdrawn(150, rec=300)
    log.corrected(fact, 310, effective_at=at(180))  # the grant itself was in the log, and looked sound
    assert log.look(200).valid
    assert log.verdict(200) == UNPROVEN


def test_a_grant_recorded_later_that_lifts_a_restriction_for_another_launders_no_breach(log: Log) -> None:
    log.link(ANN, BOB, 170)
    log.link(ANN, EVE, 195)
    log.given(190, subject=EVE)
    log.withdrawn(150, rec=300, subject=BOB, contact=None)
    assert log.verdict(200) == late("withdrawn")
    log.given(180, rec=310)
    assert log.verdict(200) == UNPROVEN


def test_a_snapshot_is_of_no_account_for_absence(log: Log) -> None:
    fact = log.given(100)
    log.fact("invalidated", 190, of=fact)
    assert log.verdict(200, snapshot=150) == breach("no_consent")


def test_the_cut_off_cuts_what_was_known_at_the_send_too(log: Log) -> None:
    log.given(100)
    log.withdrawn(150, rec=180)
    assert log.verdict(200, known=170) == COMPLIANT


def test_a_reviewed_restriction_is_lifted_by_a_grant_of_those_whom_it_goes_on_to_bind(log: Log) -> None:
    log.link(ANN, BOB, 50, until=300)
    withdrawal = log.withdrawn(150, subject=BOB, contact=None)
    log.given(400)
    assert log.verdict(450) == breach("withdrawn")
    log.fact("reviewed", 500, of=withdrawal, reviewed=(ANN,))
    assert log.verdict(600) == COMPLIANT


def test_of_several_that_supersede_a_notice_the_first_is_told_in_whatever_order_they_are_given(
    log: Log,
) -> None:
    log.given(100)
    for eff in (170, 150, 160):
        log.fact("superseded", eff, subject=None, notice_id="privacy", notice_version="3", material=True)
    case = log.case()
    question = Question(subject=ANN, purpose="marketing.news", channel="email", contact=MAIL)
    for facts in (case.facts, list(reversed(case.facts))):
        assert Case(facts, case.kin).look(question, at(200), EVER).evidence == (1, 2)


# ---- any log at all

_SUBJECTS = (ANN, BOB, EVE)
_TIMES = st.integers(0, 12)
_FACT = st.fixed_dictionaries(
    {
        "state": st.sampled_from(
            "given given given renewed withdrawn objected refused revoked reassigned confirmed corrected "
            "invalidated reviewed superseded".split()
        ),
        "eff": _TIMES,
        "rec": _TIMES,
        "subject": st.sampled_from((*_SUBJECTS, ANN, ANN)),
        "purpose": st.sampled_from(("marketing", "marketing.news", "marketing.news", "*", None)),
        "channel": st.sampled_from(("email", "email", "sms", "*")),
        "contact": st.sampled_from((MAIL, MAIL, OTHER_MAIL, None)),
        "until": st.sampled_from((None, None, 3, 8)),
        "version": st.sampled_from(("3", "3", "4", None)),
        "double": st.booleans(),
        "of": st.integers(0, 11),
        "patch": st.sampled_from(("effective_at", "purpose", "contact", "valid_until", "subject", "double")),
        "value": _TIMES,
        "material": st.booleans(),
    }
)
_LINK = st.tuples(st.sampled_from(_SUBJECTS), st.sampled_from(_SUBJECTS), _TIMES, _TIMES, st.booleans())


def patched(what: dict[str, Any]) -> dict[str, Any]:
    """Give the patch of a random correction."""
    value = what["value"]
    values: dict[str, Any] = {
        "effective_at": {"effective_at": at(value)},
        "valid_until": {"valid_until": at(value)},
        "purpose": {"purpose": "marketing.news"},
        "contact": {"contact": what["contact"]},
        "subject": {"subject": what["subject"]},
        "double": {"double_opt_in": what["double"]},
    }
    found: dict[str, Any] = values[what["patch"]]
    return found


def add(log: Log, what: dict[str, Any], **fixed: Any) -> None:
    """Record a random fact."""
    what = what | fixed
    state = what["state"]
    said: dict[str, Any] = {"rec": what["rec"]}
    if state in ("confirmed", "corrected", "invalidated", "reviewed"):
        said["of"] = UUID(int=10_000 + what["of"])
        if state == "corrected":
            said["patch"] = patched(what)
        if state == "reviewed":
            said["reviewed"] = (what["subject"],)
    elif state == "superseded":
        said |= {"subject": None, "notice_id": "privacy", "notice_version": "3", "material": what["material"]}
    else:
        until = what["until"]
        said |= {name: what[name] for name in ("subject", "purpose", "channel", "contact")}
        said |= {"valid_until": None if until is None else at(until)}
        if state in ("given", "renewed"):
            said |= {"notice_version": what["version"], "double_opt_in": what["double"]}
    log.fact(state, what["eff"], **said)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Any log of facts and links."""
    log = Log()
    for what in draw(st.lists(_FACT, max_size=9)):
        add(log, what)
    for a, b, occurred, rec, taken_back in draw(st.lists(_LINK, max_size=3)):
        if a != b:
            log.link(a, b, occurred, rec=rec, until=rec + 2 if taken_back else None)
    return log


_SENT = st.integers(1, 12)
_SNAPSHOT = st.one_of(st.none(), _TIMES)


@given(logs(), _SENT, st.integers(0, 15), _SNAPSHOT, st.randoms())
def test_the_order_in_which_facts_are_given_does_not_matter(
    log: Log, sent: int, cut: int, snapshot: int | None, chance: Any
) -> None:
    order = list(range(len(log.written)))
    found = log.send(sent, known=cut, snapshot=snapshot)
    chance.shuffle(order)
    other = shuffled(log, sorted(order, key=lambda i: log.written[i].recorded))
    again = other.send(sent, known=cut, snapshot=snapshot)
    assert (found.verdict, found.reason) == (again.verdict, again.reason)


@given(logs(), _FACT, _SENT, st.integers(0, 11), _SNAPSHOT)
def test_what_is_recorded_behind_the_cut_off_is_irrelevant(
    log: Log, more: dict[str, Any], sent: int, cut: int, snapshot: int | None
) -> None:
    before = log.verdict(sent, known=cut, snapshot=snapshot)
    add(log, more, rec=cut + 1)
    assert log.verdict(sent, known=cut, snapshot=snapshot) == before


@given(logs(), _FACT, st.sampled_from(("withdrawn", "objected", "refused", "revoked", "reassigned")), _SENT)
def test_adding_a_restriction_never_makes_a_message_compliant(
    log: Log, more: dict[str, Any], state: str, sent: int
) -> None:
    before = log.verdict(sent)
    log.spaced(12)
    add(log, more, state=state)
    if log.verdict(sent) == COMPLIANT:
        assert before == COMPLIANT


@given(logs(), _FACT, _SENT)
def test_a_grant_recorded_after_the_send_never_makes_it_compliant(
    log: Log, more: dict[str, Any], sent: int
) -> None:
    before = log.verdict(sent)
    log.spaced(12)
    add(log, more, state="given", rec=sent + 1)
    if log.verdict(sent) == COMPLIANT:
        assert before == COMPLIANT


@given(logs(), _FACT, _SENT, st.sampled_from(("given", "withdrawn", "objected", "superseded")))
def test_what_takes_effect_after_the_send_is_irrelevant(
    log: Log, more: dict[str, Any], sent: int, state: str
) -> None:
    before = log.verdict(sent)
    log.spaced(12)
    add(log, more, state=state, eff=sent + 1)
    assert log.verdict(sent) == before


@settings(max_examples=200)
@given(logs(), st.lists(st.tuples(st.integers(6, 13), _SNAPSHOT), min_size=1, max_size=3), st.randoms())
def test_a_case_that_was_asked_much_answers_as_one_that_was_asked_nothing(
    log: Log, knowledge: list[tuple[int, int | None]], chance: Any
) -> None:
    case = log.case()
    asked = [(sent, cut, snapshot) for sent in range(14) for cut, snapshot in knowledge]
    chance.shuffle(asked)
    for sent, cut, snapshot in asked:
        told, known_at = log.outbound(sent, snapshot=snapshot), log.known_at(cut)
        assert judge(case, told, known_at=known_at) == judge(log.case(), told, known_at=known_at)


def test_a_case_that_was_asked_much_knows_from_when_on_a_grant_lacks_evidence(log: Log) -> None:
    log.given(100, method=None)
    case = log.case()
    reasons = [judge(case, log.outbound(sent), known_at=EVER).reason for sent in (50, 150, 50, 100)]
    assert reasons == ["no_consent", "unevidenced", "no_consent", "unevidenced"]


def test_a_case_that_was_asked_much_knows_what_could_be_relied_on_when(log: Log) -> None:
    grant = log.given(0)
    log.corrected(grant, 50, effective_at=at(2))
    log.withdrawn(1, rec=100)  # overtaken by the grant only as corrected
    case = log.case()
    verdicts = [judge(case, log.outbound(sent), known_at=EVER).verdict for sent in (40, 60, 40, 60)]
    assert verdicts == ["unproven_at_send", "compliant", "unproven_at_send", "compliant"]


def test_a_case_that_was_asked_much_knows_when_what_is_implied_ends(log: Log) -> None:
    log.given(0, legal_basis="implied_consent", method="purchase", jurisdiction="CA")
    case = log.case()
    question = Question(subject=ANN, purpose="marketing.news", channel="email", contact=MAIL)
    day = 86_400
    looks = [case.look(question, at(n * day), EVER).reason for n in (1, 700, 740, 1, 740)]
    assert looks == [None, None, "expired", None, "expired"]


def test_a_withdrawal_of_another_persons_contact_point_known_late_is_told_as_late(log: Log) -> None:
    log.given(100)
    log.withdrawn(150, rec=300, subject=EVE)
    assert log.verdict(200) == late("withdrawn")
