"""Opt-outs that come as touchpoints, whatever channel brought them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

import domain.touchpoints  # noqa: F401 - registers every declared type
from adapters.channels import CHANNELS, Delivery, Translated
from adapters.intake.cloudevents import Receipt, draft
from adapters.intake.payloads import event_of
from domain.consent.opt_out_words import KEYWORDS, NOT_BY_MAIL
from domain.consent.opt_outs import EXTENSION, may_say_no, opt_out, understood, words_of

RECEIVED = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def said(text: str, type_: str = "sms.received") -> str | None:
    """Give which words were understood."""
    found = understood(type_, {"body" if type_ == "email.received" else "text": text})
    return None if found is None else f"{found.reach} {found.words}"


@pytest.mark.parametrize("word", sorted({word for many in KEYWORDS.values() for word in many}))
def test_every_keyword_is_understood_in_any_case_with_any_signs_around_it(word: str) -> None:
    plain = " ".join(words_of(word))
    for written in (word, word.upper(), f"  {word}!! ", f"«{word}».", f"Please {word}, thanks"):
        assert (said(written) or "").endswith(f" {plain}"), written
    by_mail = said(word, "email.received")
    assert (by_mail is None) == (plain in NOT_BY_MAIL)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("STOPALL", "everywhere stopall"),
        ("stop all", "everywhere stop all"),
        ("S T O P", "channel stop"),
        ("Stop stop STOP", "channel stop"),
        ("Would you please stop texting me about linen", "channel stop texting"),
        ("Bitte keine SMS mehr!", "channel keine sms mehr"),
        ("Je ne veux plus de messages, veuillez me désabonner", "channel me desabonner"),
        ("Please don't unsubscribe me", None),
        ("Never stop texting me, I love it", None),
        ("Where does the bus stop?", None),
        ("Can I cancel my order?", None),
        ("Yes", None),
        ("", None),
        ("unsubscribe " * 50, None),
    ],
)
def test_any_reasonable_means_is_understood_and_its_opposite_is_not(text: str, found: str | None) -> None:
    assert said(text) == found


def test_of_a_mail_only_what_its_writer_added_counts() -> None:
    quoted = "\n\nOn Sun, 22 Nov 2026 at 12:00 Shop <news@shop.example> wrote:\n> Click here to unsubscribe"
    assert said(f"STOP{quoted}", "email.received") == "channel stop"
    assert said(f"Lovely colours, thank you.{quoted}", "email.received") is None
    assert said("> STOP", "email.received") is None
    assert understood("email.received", {"subject": "Re: unsubscribe", "body": ""}) is not None
    assert understood("sms.sent", {"text": "Reply STOP to opt out"}) is None


@given(text=st.text(), body=st.text())
def test_any_text_is_either_understood_or_not_and_nothing_fails(text: str, body: str) -> None:
    for type_ in ("sms.received", "email.received"):
        found = understood(type_, {"text": text, "subject": text, "body": body})
        assert found is None or str(found).count(" ") == 4


def withdrawal(event: dict[str, Any]) -> Any:
    """Give the withdrawal that follows from a posted event, as the projection finds it."""
    one = draft(event_of({"specversion": "1.0", "id": "1", "source": "s"} | event), Receipt.of(RECEIVED))
    subjects = [(str(i), i.kind, i.namespace) for i in one.identifiers]
    contact = None if one.contact is None else str(one.contact)
    plain = {k: v for k, v in one.data.items() if k not in ("text", "body", "subject")}
    return opt_out(one.declared.name, one.channel, plain, one.extensions, contact, subjects)


def test_a_touchpoint_of_an_opting_out_kind_withdraws_for_its_contact_point_channel_and_purpose() -> None:
    sms = withdrawal({"type": "sms.received", "subject": "phone:+442071838750", "data": {"text": "Stop."}})
    assert (sms.contact, sms.purpose, sms.channel, sms.method) == (
        "phone:+442071838750",
        "*",
        "sms",
        "keyword:stop",
    )
    everywhere = withdrawal({"type": "sms.received", "subject": "user:1", "data": {"text": "STOPALL"}})
    assert (everywhere.contact, everywhere.channel) == (None, "*")
    mail = {"type": "email.unsubscribed", "subject": "user:1", "purpose": "marketing.news"}
    left = withdrawal(mail | {"data": {"contact": "email:ann@example.com"}})
    assert (left.contact, left.purpose, left.channel) == ("email:ann@example.com", "marketing.news", "email")
    assert (
        withdrawal({"type": "email.unsubscribed", "data": {"list_id": "marketing.offers"}}).purpose
        == "marketing.offers"
    )
    assert withdrawal({"type": "email.complained", "data": {"list_id": "L-7"}}).purpose == "*"
    assert withdrawal({"type": "call.ended", "data": {"outcome": "do_not_call"}}).channel == "phone"
    whatsapp = {
        "type": "message.received",
        "data": {"service": "whatsapp", "opt_out_type": "STOP", "text": "Basta così"},
    }
    assert withdrawal(whatsapp).channel == "whatsapp"
    for innocent in ("sms.received", "call.ended", "email.received", "email.opened"):
        assert withdrawal({"type": innocent, "data": {}}) is None


def test_the_decision_cannot_be_sent_along_by_somebody_else() -> None:
    event = {"type": "sms.received", "data": {"text": "Hello"}, EXTENSION: "everywhere keyword en stopall 1"}
    assert withdrawal(event) is None


def translated(channel: str, body: bytes, **more: Any) -> list[tuple[str, dict[str, Any]]]:
    """Give (type, data) of what a channel makes of a payload, without its first touchpoint."""
    given: dict[str, Any] = {"headers": {}, "received_at": RECEIVED, "source": "s", "unique": "u"} | more
    found = CHANNELS[channel].read(Delivery(body=body, **given))
    assert all(isinstance(one, Translated) for one in found), found
    return [(one.event["type"], one.event["data"]) for one in found[1:] if isinstance(one, Translated)]


def test_what_vendors_tell_of_consent_becomes_facts() -> None:
    customer = {
        "id": 7,
        "email": "ann@example.com",
        "phone": "+442071838750",
        "updated_at": "2026-01-31T12:00:00Z",
        "email_marketing_consent": {"state": "unsubscribed", "consent_updated_at": "2026-01-30T12:00:00Z"},
        "sms_marketing_consent": {
            "state": "subscribed",
            "opt_in_level": "single_opt_in",
            "consent_updated_at": None,
        },
    }
    mail, sms = translated(
        "shopify", json.dumps(customer).encode(), headers={"x-shopify-topic": "customers/update"}
    )
    assert (mail[0], mail[1]["contact"], mail[1]["channel"]) == (
        "consent.withdrawn",
        "email:ann@example.com",
        "email",
    )
    assert (sms[0], sms[1]["contact"], "notice" in sms[1]) == ("consent.given", "phone:+442071838750", False)

    session = {"object": "checkout.session", "id": "cs_1", "customer_details": {"email": "ann@example.com"}}
    event = {"id": "evt_1", "type": "checkout.session.completed", "created": 1621683300}
    (refused,) = translated(
        "stripe",
        json.dumps(event | {"data": {"object": session | {"consent": {"promotions": "opt_out"}}}}).encode(),
    )
    assert (refused[0], refused[1]["contact"]) == ("consent.refused", "email:ann@example.com")

    form = b"MessageSid=SM1&MessageStatus=failed&ErrorCode=21610&To=%2B442071838750&From=%2B15005550006"
    headers = {"content-type": "application/x-www-form-urlencoded"}
    (told,) = translated("twilio", form, headers=headers)
    assert (told[0], told[1]["contact"], told[1]["method"]) == (
        "consent.withdrawn",
        "phone:+442071838750",
        "carrier",
    )

    preferences = {"Advertising": False, "Site analytics": True, "odd": 3}
    call = {
        "type": "track",
        "event": "Segment Consent Preference Updated",
        "messageId": "m",
        "anonymousId": "a",
        "context": {"consent": {"categoryPreferences": preferences}},
    }
    found = translated("segment", json.dumps({"batch": [call]}).encode(), call="batch")
    assert [(t, d["purpose"], d["channel"]) for t, d in found] == [
        ("consent.withdrawn", "advertising", "web"),
        ("consent.given", "site_analytics", "web"),
    ]
    assert (
        translated("segment", json.dumps({"batch": [call | {"event": "Viewed"}]}).encode(), call="batch")
        == []
    )


@given(
    st.sampled_from(["call.ended", "call.missed", "email.unsubscribed", "email.complained"]),
    st.dictionaries(
        st.sampled_from(["outcome", "method", "note"]),
        st.sampled_from(["do_not_call", "do_not_contact", "opted_out", "resolved", "do not call", "é"])
        | st.text(max_size=20),
    ),
)
def test_nothing_that_is_an_opt_out_is_passed_over_unread(type_: str, data: dict[str, str]) -> None:
    # given any call or unsubscription, its plain data as entries hold them
    plain = orjson.dumps(data, option=orjson.OPT_SORT_KEYS)
    # when it is an opt-out, then it is worth a look
    if opt_out(type_, "phone", data, {}, None, [("s", "phone", "")]) is not None:
        assert may_say_no(type_, plain)


def test_a_call_that_says_nothing_of_it_is_not_read() -> None:
    assert not may_say_no("call.ended", b'{"outcome":"resolved"}')
    assert may_say_no("call.ended", b'{"outcome":"do_not_call"}')
