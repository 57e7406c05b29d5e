"""The edge cases of consent, each told as given, when, then; numbers are seconds, see `consent_log`."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from domain.consent.business_days import after_business_days, holidays
from domain.consent.policies import POLICIES, grace_until, policy_of
from domain.consent.quiet_hours import in_quiet_hours
from domain.consent.validity import Question, valid
from tests.unit.consent_log import (
    ANN,
    BOB,
    COMPLIANT,
    MAIL,
    OTHER_MAIL,
    PHONE,
    UNPROVEN,
    Log,
    at,
    breach,
    late,
)


@pytest.fixture
def log() -> Log:
    return Log()


def test_01_a_grant_holds_from_its_very_instant(log: Log) -> None:
    log.given(100)
    assert log.verdict(100) == COMPLIANT
    assert log.verdict(99) == breach("no_consent")


def test_02_a_withdrawal_holds_from_its_very_instant(log: Log) -> None:
    log.given(100)
    log.withdrawn(200)
    assert log.verdict(199) == COMPLIANT
    assert log.verdict(200) == breach("withdrawn")


@pytest.mark.parametrize("first", ["grant", "withdrawal"])
def test_03_of_a_grant_and_a_withdrawal_of_one_instant_the_withdrawal_wins(log: Log, first: str) -> None:
    steps = [log.given, log.withdrawn] if first == "grant" else [log.withdrawn, log.given]
    for step in steps:
        step(100, rec=100)
    assert log.verdict(200) == breach("withdrawn")


def test_04_validity_ends_before_its_last_instant(log: Log) -> None:
    log.given(100, valid_until=at(200))
    assert log.verdict(199) == COMPLIANT
    assert log.verdict(200) == breach("expired")


def test_05_nothing_recorded_is_no_consent(log: Log) -> None:
    assert log.verdict(200) == breach("no_consent")


def test_06_a_withdrawal_that_becomes_known_later_makes_a_late_known_breach(log: Log) -> None:
    log.given(100)
    log.withdrawn(150, rec=300)
    assert log.verdict(200, known=250) == COMPLIANT
    assert log.verdict(200, known=400) == late("withdrawn")


def test_07_a_grant_recorded_after_the_send_proves_nothing(log: Log) -> None:
    log.given(100, rec=300)
    assert log.verdict(200, known=250) == breach("no_consent")
    assert log.verdict(200) == UNPROVEN


def test_08_a_backdated_grant_launders_no_breach(log: Log) -> None:
    log.given(100)
    log.withdrawn(150, rec=300)
    log.given(180, rec=310)
    assert log.verdict(200) == UNPROVEN


def test_09_a_newer_grant_stands_over_a_late_withdrawal_of_before(log: Log) -> None:
    log.given(100)
    log.given(180)
    log.withdrawn(150, rec=300)
    assert log.verdict(200) == COMPLIANT


def test_10_a_sender_who_looked_before_the_withdrawal_decided_on_stale_knowledge(log: Log) -> None:
    log.given(100)
    log.withdrawn(190)
    assert log.verdict(200, snapshot=180) == breach("stale_decision")
    assert log.verdict(200, snapshot=195) == breach("withdrawn")


def test_11_inside_the_grace_of_the_law_a_withdrawal_is_a_breach_in_grace_and_under_gdpr_never(
    log: Log,
) -> None:
    log.given(100, jurisdiction="US")
    log.withdrawn(190)
    assert log.verdict(200) == ("breach_in_grace", "withdrawn")
    assert log.verdict(200, snapshot=180) == ("breach_in_grace", "withdrawn")
    european = Log()
    european.given(100, jurisdiction="DE")
    european.withdrawn(190, jurisdiction="DE")
    assert european.verdict(200) == breach("withdrawn")


def test_11_grace_is_never_for_absence_or_expiry(log: Log) -> None:
    assert log.verdict(200) == breach("no_consent")
    log.given(100, jurisdiction="US", valid_until=at(150))
    assert log.verdict(200) == breach("expired")


def test_12_a_double_opt_in_counts_from_its_confirmation(log: Log) -> None:
    fact = log.given(100, double_opt_in=True)
    assert log.verdict(200) == breach("no_consent")
    log.fact("confirmed", 250, of=fact)
    assert log.verdict(200) == breach("no_consent")
    assert log.verdict(260) == COMPLIANT
    log.fact("confirmed", 120, of=fact)
    assert log.verdict(200) == COMPLIANT
    assert log.verdict(110) == breach("no_consent")


def test_13_a_grant_for_mail_is_none_for_sms(log: Log) -> None:
    log.given(100)
    assert log.verdict(200, channel="sms") == breach("no_consent")


def test_14_a_grant_for_one_purpose_is_none_for_another(log: Log) -> None:
    log.given(100)
    assert log.verdict(200, purpose="marketing.offers") == breach("no_consent")
    assert log.verdict(200, purpose="marketing.news.weekly") == breach("no_consent")


@pytest.mark.parametrize("purpose", ["marketing", "*", None])
def test_15_a_withdrawal_covers_what_lies_below_its_purpose(log: Log, purpose: str | None) -> None:
    log.given(100)
    log.withdrawn(150, purpose=purpose, channel="*")
    assert log.verdict(200) == breach("withdrawn")


def test_15_a_withdrawal_of_a_longer_name_covers_nothing_else(log: Log) -> None:
    log.given(100)
    log.withdrawn(150, purpose="marketing.new")
    assert log.verdict(200) == COMPLIANT


def test_16_a_grant_for_one_address_is_none_for_another(log: Log) -> None:
    log.given(100)
    assert log.verdict(200, contact=OTHER_MAIL) == breach("no_consent")


def test_17_a_withdrawal_of_another_subject_binds_once_both_are_known_as_one(log: Log) -> None:
    log.given(100)
    log.withdrawn(150, subject=BOB, contact=None)
    log.link(ANN, BOB, 50, rec=180)
    assert log.verdict(200) == breach("withdrawn")
    assert log.verdict(170) == late("withdrawn")
    assert log.verdict(170, known=175) == COMPLIANT


def test_18_after_a_split_restrictions_bind_both_sides_until_reviewed_and_grants_go_back(log: Log) -> None:
    merge = log.merge(ANN, BOB, 50)
    log.given(100, subject=BOB, contact=MAIL)
    withdrawal = log.withdrawn(150, subject=BOB, contact=None, purpose="marketing.offers")
    log.given(120, purpose="marketing.offers")
    assert log.verdict(160) == COMPLIANT  # the other's grant counts while they are one
    log.split(300, merge=merge)
    assert log.verdict(400) == breach("no_consent")  # it went back
    assert log.verdict(400, subject=BOB) == COMPLIANT
    assert log.verdict(400, purpose="marketing.offers") == breach("withdrawn")  # it stays on both
    assert log.verdict(400, purpose="marketing.offers", subject=BOB) == breach("withdrawn")
    log.fact("reviewed", 500, of=withdrawal, reviewed=(BOB,))
    assert log.verdict(400, purpose="marketing.offers") == UNPROVEN  # its sender did not know of the review
    assert log.verdict(600, purpose="marketing.offers") == COMPLIANT
    assert log.verdict(600, purpose="marketing.offers", subject=BOB) == breach("withdrawn")


def test_18_a_link_that_is_taken_back_is_a_split_too(log: Log) -> None:
    log.link(ANN, BOB, 50, until=300)
    log.given(100)
    log.withdrawn(150, subject=BOB, contact=None)
    assert log.verdict(400) == breach("withdrawn")


def test_18_a_restriction_recorded_after_the_split_binds_one_side(log: Log) -> None:
    log.link(ANN, BOB, 50, until=300)
    log.given(100)
    log.withdrawn(310, subject=BOB, contact=None)
    assert log.verdict(400) == COMPLIANT


def test_18_a_split_of_a_subject_keeps_restrictions_on_it(log: Log) -> None:
    log.link(ANN, BOB, 50)
    log.given(100)
    log.withdrawn(150, subject=BOB, contact=None)
    log.split(300, subject=BOB, person_side=frozenset((ANN,)))
    assert log.verdict(400) == breach("withdrawn")


def test_19_a_material_change_of_the_notice_ends_what_rests_on_it(log: Log) -> None:
    log.given(100)
    log.fact("superseded", 120, subject=None, notice_id="privacy", notice_version="3", material=False)
    assert log.verdict(200) == COMPLIANT
    log.fact("superseded", 150, subject=None, notice_id="privacy", notice_version="3", material=True)
    assert log.verdict(149) == COMPLIANT
    assert log.verdict(150) == breach("notice_stale")
    log.fact("renewed", 180, notice_version="4")
    assert log.verdict(200) == COMPLIANT


def test_20_a_grant_without_notice_version_or_method_is_no_word(log: Log) -> None:
    log.given(150, notice_version=None)
    log.given(160, method=None)
    assert log.verdict(200) == breach("unevidenced")
    log.given(100)
    assert log.verdict(200) == COMPLIANT


def test_21_a_grant_that_was_void_from_the_start_makes_a_late_known_breach(log: Log) -> None:
    fact = log.given(100)
    log.fact("invalidated", 300, of=fact)
    assert log.verdict(200) == late("no_consent")
    assert log.verdict(200, known=250) == COMPLIANT


def test_22_a_correction_moves_the_grant_behind_the_send(log: Log) -> None:
    fact = log.given(100)
    log.corrected(fact, 300, effective_at=at(210))
    assert log.verdict(200) == late("no_consent")
    assert log.verdict(200, known=250) == COMPLIANT


def test_23_a_late_withdrawal_corrected_to_another_person_binds_that_one(log: Log) -> None:
    log.given(100)
    fact = log.withdrawn(150, rec=300, contact=None)
    log.corrected(fact, 350, subject=BOB)
    assert [log.verdict(200, known=known) for known in (250, 320, 400)] == [
        COMPLIANT,
        late("withdrawn"),
        COMPLIANT,
    ]


def test_24_an_objection_to_everything_ends_all_marketing_and_no_contract(log: Log) -> None:
    log.given(100)
    log.fact("objected", 150, purpose="*", channel="*")
    assert log.verdict(200) == breach("objected")
    assert log.verdict(200, purpose="service", legal_basis="contract") == ("not_consent_based", None)


def test_25_a_reassigned_number_has_no_consent_under_whatever_subject(log: Log) -> None:
    log.given(100, channel="sms", contact=PHONE)
    log.fact("reassigned", 150, subject=None, contact=PHONE)
    assert log.verdict(200, channel="sms", contact=PHONE) == breach("reassigned")
    assert log.verdict(149, channel="sms", contact=PHONE) == COMPLIANT


@pytest.mark.parametrize("missing", ["purpose", "channel", "contact"])
def test_26_what_does_not_say_its_purpose_cannot_be_judged(log: Log, missing: str) -> None:
    log.given(100)
    without: dict[str, Any] = {missing: None}
    assert log.verdict(200, **without) == ("undeterminable", None)


def test_27_a_person_erased_before_the_first_judgement_cannot_be_judged(log: Log) -> None:
    log.given(100)
    assert log.verdict(200, erased=True) == ("undeterminable", None)


def test_28_a_new_grant_lifts_a_withdrawal(log: Log) -> None:
    log.given(100)
    log.withdrawn(150)
    log.given(180)
    assert log.verdict(200) == COMPLIANT
    assert log.verdict(160) == breach("withdrawn")


def test_29_every_attempt_of_one_message_is_judged_by_itself(log: Log) -> None:
    log.given(100)
    log.withdrawn(150)
    assert [log.verdict(sent) for sent in (140, 160)] == [COMPLIANT, breach("withdrawn")]


def test_30_a_withdrawal_that_a_carrier_knew_before_judges_earlier_sends_again(log: Log) -> None:
    log.given(100, channel="sms", contact=PHONE)
    log.withdrawn(150, rec=210, channel="sms", contact=PHONE, method="carrier_error_21610")
    assert log.verdict(200, channel="sms", contact=PHONE, known=205) == COMPLIANT
    assert log.verdict(200, channel="sms", contact=PHONE) == late("withdrawn")


def test_31_a_one_click_withdrawal_holds_from_its_receipt(log: Log) -> None:
    log.given(100)
    log.withdrawn(150, method="one_click")
    assert [log.verdict(sent) for sent in (149, 150)] == [COMPLIANT, breach("withdrawn")]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [(datetime(2026, 2, 28, 23, tzinfo=UTC), None), (datetime(2026, 3, 1, 6, tzinfo=UTC), "expired")],
)
def test_32_consent_implied_by_a_purchase_on_a_leap_day_lapses_behind_february(
    log: Log, sent: datetime, reason: str | None
) -> None:
    bought = (datetime(2024, 2, 29, 15, tzinfo=UTC) - at(0)).total_seconds()
    log.given(bought, legal_basis="implied_consent", method="purchase", jurisdiction="CA")
    assert log.look((sent - at(0)).total_seconds()).reason == reason


def test_32_an_inquiry_implies_consent_for_six_months(log: Log) -> None:
    asked = (datetime(2025, 8, 31, 15, tzinfo=UTC) - at(0)).total_seconds()
    log.given(asked, legal_basis="implied_consent", method="inquiry", jurisdiction="CA")
    last = (datetime(2026, 2, 28, 15, tzinfo=UTC) - at(0)).total_seconds()
    assert log.look(last).valid
    assert log.look(last + 86_400).reason == "expired"


def test_33_quiet_hours_are_those_of_the_person_called(log: Log) -> None:
    called = datetime(2026, 3, 3, 2, 59, tzinfo=UTC)  # 20:59 in Chicago, 21:59 in New York
    assert not in_quiet_hours("US", "phone", called, ["America/Chicago"])
    assert in_quiet_hours("US", "phone", called, ["America/New_York"])
    assert in_quiet_hours("US", "phone", called)  # nobody knows where: the strictest decides
    assert not in_quiet_hours("US", "email", called)
    assert not in_quiet_hours("DE", "phone", called)


def test_33_an_hour_that_comes_twice_is_quiet_twice() -> None:
    zone = ZoneInfo("America/New_York")
    for fold in (0, 1):
        twice = datetime(2025, 11, 2, 1, 30, tzinfo=zone, fold=fold)
        assert in_quiet_hours("US-NY", "sms", twice, ["America/New_York"])


def test_34_marketing_inside_a_service_mail_is_judged_as_marketing(log: Log) -> None:
    assert log.verdict(200, purpose="marketing.news", legal_basis="consent") == breach("no_consent")
    assert log.verdict(200, purpose="service.receipt", legal_basis="contract") == ("not_consent_based", None)


def test_35_ten_business_days_step_over_holidays_by_the_policy_in_force_at_receipt() -> None:
    # Friday before Thanksgiving week: 27 November is a holiday.
    received = datetime(2025, 11, 21, 15, tzinfo=UTC)
    assert grace_until("US", "email", received) == datetime(2025, 12, 8, 15, tzinfo=UTC)
    assert grace_until("CA", "sms", received) == datetime(2025, 12, 5, 15, tzinfo=UTC)
    # The same word by phone: thirty days until April 2025, ten business days since.
    before = datetime(2025, 4, 10, 15, tzinfo=UTC)
    assert grace_until("US", "sms", before) == datetime(2025, 5, 10, 15, tzinfo=UTC)
    assert grace_until("US", "sms", before.replace(day=11)) == datetime(2025, 4, 25, 15, tzinfo=UTC)
    assert grace_until("GB", "email", received) is None
    assert grace_until(None, "email", received) is None


def test_holidays_are_kept_on_the_day_the_law_says() -> None:
    assert date(2026, 7, 3) in holidays("US", 2026)  # the 4th is a Saturday
    assert date(2021, 12, 31) in holidays("US", 2021)  # New Year's Day 2022 is one
    assert {date(2027, 12, 27), date(2027, 12, 28)} <= holidays("CA", 2027)
    assert date(2026, 4, 3) in holidays("CA", 2026)  # Good Friday
    assert after_business_days(date(2026, 12, 24), 1, "CA") == date(2026, 12, 29)


def test_every_policy_names_its_source_and_no_two_hold_for_one_day() -> None:
    for policy in POLICIES:
        assert policy.sources
        for country in policy.jurisdictions:
            assert (
                policy_of(country, policy.channels[0].replace("*", "email"), policy.effective_from) is policy
            )


def test_the_pure_function_answers_with_the_word_that_decided(log: Log) -> None:
    log.given(100)
    case = log.case()
    question = Question(subject=ANN, purpose="marketing.news", channel="email", contact=MAIL)
    found = valid(case.facts, question, at=at(150), known_at=1)
    assert (found.valid, found.reason, found.position) == (True, None, 1)
    assert valid(case.facts, question, at=at(150), known_at=0).reason == "no_consent"
