"""Touchpoints: every type that the contract names is declared, told, checked, and kept for ever."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import inspect

import domain.touchpoints
from domain.errors import Invalid
from domain.event import TYPES, Data, EventType, Touchpoint, event, headline, upcast, upcaster, validate
from tests.counting import calls_of


def _words(text: str) -> list[str]:
    return text.split()


# The log holds facts under these names for ever. A new line is normal; a changed or missing one is not.
STORED: dict[str, int] = {
    "access.recorded": 1,
    "call.ended": 1,
    "call.missed": 1,
    "call.recorded": 1,
    "call.started": 1,
    "call.transferred": 1,
    "campaign.launched": 1,
    "campaign.member_added": 1,
    "campaign.message_sent": 1,
    "campaign.responded": 1,
    "cart.updated": 1,
    "case.assigned": 1,
    "case.closed": 1,
    "case.escalated": 1,
    "case.opened": 1,
    "case.reopened": 1,
    "case.replied": 1,
    "case.resolved": 1,
    "chat.ended": 1,
    "chat.message_received": 1,
    "chat.message_sent": 1,
    "chat.started": 1,
    "consent.confirmed": 1,
    "consent.corrected": 1,
    "consent.given": 1,
    "consent.invalidated": 1,
    "consent.objected": 1,
    "consent.refused": 1,
    "consent.renewed": 1,
    "consent.requested": 1,
    "consent.reviewed": 1,
    "consent.revoked": 1,
    "consent.withdrawn": 1,
    "contact.reassigned": 1,
    "correction.recorded": 1,
    "email.bounced": 1,
    "email.clicked": 1,
    "email.complained": 1,
    "email.delivered": 1,
    "email.opened": 1,
    "email.received": 1,
    "email.sent": 1,
    "email.unsubscribed": 1,
    "erasure.approved": 1,
    "erasure.key_destroyed": 1,
    "erasure.projection_purged": 1,
    "erasure.recipient_notified": 1,
    "erasure.refused": 1,
    "erasure.requested": 1,
    "erasure.verified": 1,
    "event.attended": 1,
    "followup.done": 1,
    "followup.scheduled": 1,
    "hold.placed": 1,
    "hold.released": 1,
    "identity.link_refused": 1,
    "identity.linked": 1,
    "identity.merged": 1,
    "identity.split": 1,
    "import.retracted": 1,
    "import.started": 1,
    "lead.assigned": 1,
    "lead.captured": 1,
    "lead.qualified": 1,
    "loyalty.card_swiped": 1,
    "loyalty.enrolled": 1,
    "loyalty.points_earned": 1,
    "loyalty.points_expired": 1,
    "loyalty.points_redeemed": 1,
    "meeting.held": 1,
    "message.received": 1,
    "message.sent": 1,
    "notice.published": 1,
    "notice.superseded": 1,
    "opportunity.lost": 1,
    "opportunity.opened": 1,
    "opportunity.stage_changed": 1,
    "opportunity.won": 1,
    "order.cancelled": 1,
    "order.delivered": 1,
    "order.paid": 1,
    "order.placed": 1,
    "order.refunded": 1,
    "order.returned": 1,
    "order.shipped": 1,
    "profile.updated": 1,
    "quote.sent": 1,
    "sms.received": 1,
    "sms.sent": 1,
    "subscription.ended": 1,
    "subscription.renewed": 1,
    "subscription.started": 1,
    "survey.answered": 1,
    "survey.sent": 1,
    "verdict.recorded": 1,
    "visit.cancelled": 1,
    "visit.completed": 1,
    "visit.dispatched": 1,
    "visit.scheduled": 1,
    "visit.started": 1,
    "web.form_submitted": 1,
    "web.page_viewed": 1,
    "web.registered": 1,
    "web.signed_in": 1,
    "web.tracked": 1,
}

# The contract's list of types, in its words and order.
CONTRACT = _words("""
    call.started call.ended call.missed call.transferred call.recorded
    email.sent email.received email.delivered email.opened email.clicked email.bounced email.complained
    email.unsubscribed
    chat.started chat.message_sent chat.message_received chat.ended sms.sent sms.received message.sent
    message.received
    web.page_viewed web.registered web.signed_in web.form_submitted web.tracked
    order.placed order.paid order.shipped order.delivered order.cancelled order.returned order.refunded
    cart.updated subscription.started subscription.renewed subscription.ended
    loyalty.enrolled loyalty.card_swiped loyalty.points_earned loyalty.points_redeemed loyalty.points_expired
    campaign.launched campaign.member_added campaign.message_sent campaign.responded
    case.opened case.assigned case.replied case.escalated case.resolved case.reopened case.closed
    lead.captured lead.assigned lead.qualified opportunity.opened opportunity.stage_changed opportunity.won
    opportunity.lost quote.sent followup.scheduled followup.done
    visit.scheduled visit.dispatched visit.started visit.completed visit.cancelled
    survey.sent survey.answered meeting.held event.attended
    consent.requested consent.refused consent.given consent.confirmed consent.renewed consent.withdrawn
    consent.revoked consent.objected consent.invalidated consent.corrected consent.reviewed notice.published
    notice.superseded contact.reassigned
    identity.linked identity.link_refused identity.merged identity.split profile.updated
    access.recorded verdict.recorded correction.recorded import.started import.retracted
""")

CHANNELS = _words("""phone email chat sms message web shop loyalty campaign service sales field survey meeting
    consent identity records""")

# A number wears its unit: one of these ends its name, or is its name.
UNITS = (
    "_s",
    "_minor",
    "_count",
    "_pct",
    "_bytes",
    "_km",
    "points",
    "quantity",
    "score",
    "position",
    "positions",
)

ALL = sorted(STORED)


def test_the_stored_names_and_versions_are_the_ones_the_log_holds() -> None:
    assert {name: declared.version for name, declared in TYPES.items()} == STORED


@pytest.mark.parametrize("name", CONTRACT)
def test_every_type_of_the_contract_is_declared(name: str) -> None:
    assert name in TYPES


@pytest.mark.parametrize("family", ["erasure", "hold"])
def test_the_families_that_the_contract_leaves_open_are_declared(family: str) -> None:
    assert any(name.startswith(f"{family}.") for name in TYPES)


@pytest.mark.parametrize("name", ALL)
def test_a_type_says_what_happened(name: str) -> None:
    assert (TYPES[name].cls.__doc__ or "").endswith(".")


@pytest.mark.parametrize("name", ALL)
def test_a_type_has_a_channel_of_the_one_vocabulary(name: str) -> None:
    assert TYPES[name].channel in CHANNELS


@pytest.mark.parametrize("name", ALL)
def test_a_type_publishes_the_schema_of_its_data(name: str) -> None:
    schema = TYPES[name].json_schema()
    named = schema["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    assert schema["$schema"].endswith("2020-12/schema")
    assert set(named["properties"]) == TYPES[name].fields


@pytest.mark.parametrize("name", ALL)
def test_a_headline_stands_without_any_data(name: str) -> None:
    assert headline(name, {}).strip()


@pytest.mark.parametrize("name", ALL)
def test_a_headline_stands_when_the_personal_fields_are_erased(name: str) -> None:
    declared = TYPES[name]
    told = headline(name, {field: {"erased": True} for field in declared.personal | declared.others})
    assert told.strip()
    assert "{" not in told


@pytest.mark.parametrize("name", ALL)
def test_nearly_nothing_is_required(name: str) -> None:
    required = {f.encode_name for f in msgspec.structs.fields(TYPES[name].cls) if f.required}
    assert required == {"web.tracked": {"event"}, "correction.recorded": {"of", "patch"}}.get(name, set())


@pytest.mark.parametrize("name", ALL)
def test_unknown_fields_are_welcome(name: str) -> None:
    validate(TYPES[name], {"event": "x", "of": {"source": "s", "id": "1"}, "patch": {}, "not_declared": [1]})


def _numbers(node: inspect.Type, name: str) -> Iterator[str]:
    """The names under which numbers stand in a type."""
    if isinstance(node, inspect.Metadata):
        yield from _numbers(node.type, name)
    elif isinstance(node, inspect.UnionType):
        if not any(isinstance(member, inspect.StrType) for member in node.types):  # `3` or `"3"` is a label
            for member in node.types:
                yield from _numbers(member, name)
    elif isinstance(node, inspect.ListType):
        yield from _numbers(node.item_type, name)
    elif isinstance(node, inspect.StructType):
        for field in node.fields:
            yield from _numbers(field.type, field.encode_name)
    elif isinstance(node, inspect.IntType | inspect.FloatType):
        yield name


@pytest.mark.parametrize("name", ALL)
def test_a_number_wears_its_unit(name: str) -> None:
    assert [n for n in _numbers(inspect.type_info(TYPES[name].cls), "") if not n.endswith(UNITS)] == []


@pytest.mark.parametrize("name", ALL)
def test_a_time_is_named_for_what_it_is(name: str) -> None:
    for field in msgspec.structs.fields(TYPES[name].cls):
        if "Instant" in str(TYPES[name].cls.__annotations__.get(field.name, "")):
            assert field.name.endswith("_at") or field.name in {"valid_until", "time"}


FREE_TEXT = _words("""subject body text summary comment note notes description report transcript from_number to_number
    from_address to_address delivery_address billing_address address ip user_agent card_number evidence traits
    identifiers tracking_number signed_by answers""")


@pytest.mark.parametrize("name", ALL)
def test_free_text_and_addresses_are_personal(name: str) -> None:
    declared = TYPES[name]
    public = {"notice.published": {"text"}, "identity.split": {"subject"}}.get(name, set())
    assert (declared.fields & set(FREE_TEXT)) - public <= declared.personal


@pytest.mark.parametrize("name", ALL)
def test_who_else_took_part_belongs_to_them(name: str) -> None:
    declared = TYPES[name]
    assert declared.fields & {"contact", "cc", "participants"} <= declared.others


def test_only_touchlog_itself_records_identity_verdicts_access_erasure_holds_and_imports() -> None:
    families = ("identity.", "verdict.", "access.", "erasure.", "hold.", "import.")
    expected = {n for n in TYPES if n.startswith(families)} - {"identity.merged", "identity.split"}
    assert {n for n, declared in TYPES.items() if declared.internal} == expected


def test_records_about_records_are_no_touchpoints() -> None:
    families = ("identity.", "profile.", "consent.", "notice.", "contact.", "verdict.", "access.", "erasure.")
    more = ("hold.", "import.", "correction.")
    records = {n for n in TYPES if n.startswith(families + more)}
    assert {n for n, declared in TYPES.items() if not declared.touchpoint} == records


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("email.sent", "outbound"),
        ("email.received", "inbound"),
        ("email.delivered", None),  # what became of a message is not a message
        ("sms.sent", "outbound"),
        ("campaign.message_sent", "outbound"),
        ("chat.message_received", "inbound"),
        ("web.page_viewed", "inbound"),
        ("case.assigned", "internal"),
        ("call.ended", None),
    ],
)
def test_a_direction_is_given_where_the_name_implies_one(name: str, direction: str | None) -> None:
    assert TYPES[name].direction == direction


def test_a_message_we_hand_over_is_outbound_and_nothing_else_is() -> None:
    sent = {name for name, declared in TYPES.items() if declared.direction == "outbound"}
    assert sent == {name for name in TYPES if name.endswith("sent")}


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("call.ended", {"duration_s": 185, "outcome": "no_answer"}, "Call of 3 min 5 s: no answer"),
        ("call.ended", {"duration_s": 0}, "Call of 0 s"),
        (
            "call.missed",
            {"wait_s": 3725, "reason": "abandoned"},
            "Call missed: abandoned, after 1 h 2 min of waiting",
        ),
        (
            "order.placed",
            {
                "order_id": "536365",
                "currency": "GBP",
                "amount_minor": 13912,
                "lines": [{"sku": "85123A"}] * 7,
            },
            "Order 536365: 7 lines, 139.12 GBP",
        ),
        ("order.placed", {"amount_minor": 123456789, "currency": "EUR"}, "Order: 1,234,567.89 EUR"),
        (
            "order.refunded",
            {"order_id": "7", "amount_minor": -5, "currency": "EUR"},
            "Order 7 refunded: -0.05 EUR",
        ),
        ("order.paid", {"amount_minor": 1250, "currency": "JPY"}, "Order paid: 1,250 JPY"),
        ("order.paid", {"amount_minor": 1250, "currency": "KWD"}, "Order paid: 1.250 KWD"),
        (
            "loyalty.points_earned",
            {"points": 1200, "balance_points": 5400},
            "1,200 points earned: balance 5,400",
        ),
        ("loyalty.points_earned", {"points": 1}, "1 point earned"),
        ("survey.answered", {"metric": "nps", "score": 9}, "Survey answered, NPS 9 of 10"),
        ("survey.answered", {"metric": "csat", "score": 80.5}, "Survey answered, CSAT 80.5"),
        ("survey.answered", {"score": 4, "comment": "Quick"}, "Survey answered: 4, Quick"),
        ("email.sent", {"subject": "Your  order\nhas left"}, "E-mail sent: Your order has left"),
        ("email.sent", {"subject": {"erased": True}}, "E-mail sent: (erased)"),
        ("message.received", {"service": "whatsapp", "text": "Hello"}, "Whatsapp received: Hello"),
        ("case.resolved", {"case_id": "C-7", "resolution_s": 273600}, "Case C-7 resolved: after 3 d 4 h"),
        (
            "consent.withdrawn",
            {"purpose": "*", "channel": "*"},
            "Consent withdrawn: all purposes on all channels",
        ),
        (
            "consent.given",
            {"purpose": "marketing.news", "channel": "email"},
            "Consent given: marketing.news by email",
        ),
        (
            "notice.superseded",
            {"notice": {"id": "newsletter", "version": "2"}, "material": True},
            "Notice superseded: newsletter version 2, material change",
        ),
        ("web.tracked", {"event": "Video Played"}, "Video Played"),
        (
            "opportunity.stage_changed",
            {"stage": "quote", "stage_before": "demo"},
            "Opportunity stage: demo → quote",
        ),
    ],
)
def test_a_headline_tells_an_agent_what_happened(name: str, data: Data, told: str) -> None:
    validate(TYPES[name], {k: v for k, v in data.items() if not isinstance(v, dict) or "erased" not in v})
    assert headline(name, data) == told


def test_a_long_text_is_cut_in_a_headline() -> None:
    assert len(headline("email.sent", {"subject": "very long " * 50})) < 130


def test_data_that_does_not_fit_its_type_any_more_is_told_by_its_name() -> None:
    assert headline("call.ended", {"duration_s": "long"}) == "call ended"
    assert headline("custom.door_opened", {}) == "door opened"


@pytest.mark.parametrize(
    ("name", "data", "pointer", "detail"),
    [
        ("web.tracked", {}, "/data/event", "'event' is missing; it should be a text"),
        (
            "call.ended",
            {"duration_s": "185"},
            "/data/duration_s",
            "'duration_s' is a text; it should be a number (a span in seconds; >= 0)",
        ),
        (
            "call.ended",
            {"duration_s": -1},
            "/data/duration_s",
            "'duration_s' is a number out of range; it should be a number (a span in seconds; >= 0)",
        ),
        (
            "call.ended",
            {"duration_s": -0.5},
            "/data/duration_s",
            "'duration_s' is a number out of range; it should be a number (a span in seconds; >= 0)",
        ),
        (
            "order.placed",
            {"currency": "pounds"},
            "/data/currency",
            "'currency' is a text of another form or value; it should be a text (ISO 4217 code, e.g. GBP)",
        ),
        (
            "order.placed",
            {"amount_minor": 139.12},
            "/data/amount_minor",
            (
                "'amount_minor' is a number with a fraction; "
                "it should be a whole number (money in minor units of its currency, e.g. pence)"
            ),
        ),
        (
            "order.placed",
            {"lines": [{"quantity": 1}, {"quantity": "2"}]},
            "/data/lines/1/quantity",
            "'quantity' is a text; it should be a whole number (a number of pieces; negative when taken back)",
        ),
        (
            "survey.answered",
            {"metric": "happiness"},
            "/data/metric",
            "'metric' is a text of another form or value; it should be one of ces, csat, nps",
        ),
        (
            "consent.given",
            {"valid_until": "2027-01-01"},
            "/data/valid_until",
            (
                "'valid_until' is a text of another form or value; "
                "it should be an RFC 3339 time with a zone, e.g. 2026-01-31T12:00:00Z"
            ),
        ),
        (
            "consent.confirmed",
            {"of": {"source": "shop"}},
            "/data/of/id",
            "'id' is missing; it should be a text",
        ),
        (
            "email.received",
            {"cc": "email:bob@example.com"},
            "/data/cc",
            "'cc' is a text; it should be a list of which each is a text",
        ),
    ],
)
def test_a_wrong_field_is_named_with_what_would_be_right(
    name: str, data: Data, pointer: str, detail: str
) -> None:
    with pytest.raises(Invalid) as refused:
        validate(TYPES[name], data)
    (problem,) = refused.value.problems
    assert problem.pointer == pointer
    assert problem.detail.startswith(detail)


def test_every_wrong_field_is_told_at_once() -> None:
    with pytest.raises(Invalid) as refused:
        validate(TYPES["call.ended"], {"duration_s": None, "wait_s": "x", "agent": 7, "queue": "sales"})
    assert [problem.pointer for problem in refused.value.problems] == ["/data/agent", "/data/wait_s"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


@given(st.data())
def test_any_data_is_taken_or_refused_with_reasons(data: st.DataObject) -> None:
    # given any value in any declared field of any type
    declared = TYPES[data.draw(st.sampled_from(sorted(TYPES)))]
    fields = sorted(declared.fields)
    given_: Data = data.draw(st.dictionaries(st.sampled_from(fields), _JSON) if fields else st.just({}))
    # when it is checked, then it fits, or every reason names a place in it
    told = None
    try:
        validate(declared, given_)
    except Invalid as wrong:
        told = wrong.problems
    assert told is None or (told and all(problem.pointer.startswith("/data") for problem in told))


def test_a_wrong_value_inside_an_object_of_free_keys_is_told() -> None:
    with pytest.raises(Invalid) as refused:
        validate(TYPES["profile.updated"], {"identifiers": {"email": ["ann@example.com", []]}})
    (problem,) = refused.value.problems
    assert problem.pointer == "/data/identifiers"
    assert "each value is a text or a list" in problem.detail
    assert "ann@" not in problem.detail


def test_a_refusal_never_quotes_the_value_which_may_be_personal() -> None:
    with pytest.raises(Invalid) as refused:
        validate(TYPES["survey.answered"], {"metric": "zoe@example.com", "contact": "zoe@example.com"})
    assert "zoe@" not in str(refused.value)


def test_what_is_right_is_checked_in_a_few_steps() -> None:
    data: Data = {
        "duration_s": 185.5,
        "outcome": "resolved",
        "agent": "M. Okafor",
        "contact": "phone:+442079460123",
    }
    declared = TYPES["call.ended"]
    validate(declared, data)  # the first makes what the others use
    assert 1 <= calls_of(lambda: validate(declared, data)) <= 8


@pytest.fixture
def toy() -> Iterator[EventType]:
    """A type that was stored in two older shapes, declared for one test."""

    @event("toy.rang", version=3, channel="phone")
    class ToyRang(Touchpoint, frozen=True, kw_only=True):
        """A toy telephone rang."""

        duration_s: int

        def headline(self) -> str:
            return f"Rang for {self.duration_s} s"

    @upcaster("toy.rang", from_version=1)
    def _(data: Data) -> Data:
        """Version 1 kept minutes."""
        return {"duration_min": data["minutes"]}

    @upcaster("toy.rang", from_version=2)
    def _(data: Data) -> Data:
        """Version 2 named the unit, and it was the wrong one."""
        return {"duration_s": data["duration_min"] * 60}

    yield TYPES["toy.rang"]
    del TYPES["toy.rang"]


@pytest.mark.parametrize(
    ("version", "data"), [(1, {"minutes": 2}), (2, {"duration_min": 2}), (3, {"duration_s": 120})]
)
def test_a_fact_of_an_older_shape_reads_as_one_of_today(
    toy: EventType, version: int, data: dict[str, Any]
) -> None:
    today = upcast("toy.rang", version, data)
    validate(toy, today)
    assert headline("toy.rang", today) == "Rang for 120 s"


def test_a_missing_upcaster_says_which_and_where(toy: EventType) -> None:
    del toy.upcasters[2]
    with pytest.raises(LookupError, match=r"toy\.rang.* from 2 to 3: add one below the class"):
        upcast("toy.rang", 1, {"minutes": 2})


def test_a_name_is_declared_once(toy: EventType) -> None:
    with pytest.raises(ValueError, match="declared twice"):
        event("toy.rang", channel="phone")(toy.cls)


def test_a_family_is_registered_by_being_there() -> None:
    assert {f"domain.touchpoints.{name}" for name in ("call", "order", "consent")} <= {
        declared.cls.__module__ for declared in TYPES.values()
    }
    assert domain.touchpoints.__doc__
