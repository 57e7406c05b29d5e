"""What each vendor sends, and what it is to us: every sample of ours by name, and what two deliveries have in common."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import domain.touchpoints  # noqa: F401 - registers every declared type
from adapters.channels import CHANNELS, Delivery, Translated
from bin.soaks.fuzz import delivery
from bin.soaks.payloads import ADDED, FORM, JSON, added

_TOLD = {
    "chatwoot/contact_updated": "profile.updated",
    "chatwoot/conversation_created": "chat.started",
    "chatwoot/conversation_resolved": "chat.ended",
    "chatwoot/csat": "chatwoot.message_updated survey.answered",
    "chatwoot/message_bot": "chat.message_sent",
    "chatwoot/message_note": "chatwoot.note",
    "chatwoot/message_outgoing": "chat.message_sent",
    "chatwoot/typing": "chatwoot.conversation_typing_on",
    "customerio/customer_subscribed": "customerio.customer.subscribed",
    "customerio/email_bounced": "email.bounced",
    "customerio/email_converted": "customerio.email.converted",
    "customerio/email_sent": "email.sent",
    "customerio/push_opened": "customerio.push.opened",
    "customerio/sms_sent": "sms.sent",
    "hubspot/every_change": "hubspot.contact.creation profile.updated profile.updated hubspot.contact.deletion "
    "hubspot.contact.privacyDeletion opportunity.opened opportunity.stage_changed opportunity.won case.opened "
    "case.closed hubspot.company.propertyChange opportunity.opened hubspot.conversation.newMessage",
    "intercom/admin_closed": "chat.ended",
    "intercom/admin_noted": "intercom.conversation.admin.noted",
    "intercom/admin_replied": "chat.message_sent",
    "intercom/contact_created": "profile.updated",
    "intercom/ping": "intercom.ping",
    "intercom/rating": "survey.answered",
    "intercom/ticket_created": "case.opened",
    "intercom/unsubscribed": "email.unsubscribed",
    "intercom/user_replied": "chat.message_received",
    "mailgun/accepted": "email.sent",
    "mailgun/failed_temporary": "email.bounced",
    "mailgun/list_member_uploaded": "mailgun.list_member_uploaded",
    "mailgun/opened": "email.opened",
    "mailgun/received": "email.received",
    "mandrill/every_event": "email.sent email.delivered mandrill.deferral email.bounced email.bounced email.opened "
    "email.clicked email.complained email.unsubscribed email.bounced email.received mandrill.blacklist.add",
    "sendgrid/every_event": "email.sent email.delivered email.opened email.clicked email.bounced email.bounced "
    "sendgrid.deferred email.complained email.unsubscribed email.unsubscribed sendgrid.group_resubscribe",
    "shopify/order_cancelled": "order.cancelled",
    "shopify/order_created": "order.placed",
    "shopify/order_edited": "shopify.orders.edited",
    "shopify/order_updated": "shopify.orders.updated",
    "shopify/redact": "shopify.customers.redact",
    "shopify/refund": "order.refunded",
    "shopify/shop_redact": "shopify.shop.redact",
    "slack/app_mention": "slack.app_mention",
    "slack/command": "slack.command",
    "slack/interaction": "slack.block_actions",
    "slack/message": "chat.message_received",
    "slack/message_bot": "chat.message_sent",
    "slack/message_changed": "slack.message.message_changed",
    "slack/rate_limited": "slack.app_rate_limited",
    "slack/reaction_added": "slack.reaction_added",
    "slack/team_join": "slack.team_join",
    "sns/click": "email.clicked",
    "sns/complaint": "email.complained",
    "sns/delay": "ses.deliverydelay",
    "sns/delivery": "email.delivered email.delivered",
    "sns/other": "sns.notification",
    "sns/rendering_failure": "ses.rendering_failure ses.rendering_failure",
    "sns/subscription": "email.unsubscribed",
    "square/booking": "square.booking.created",
    "square/customer_created": "profile.updated",
    "square/loyalty_account": "loyalty.enrolled",
    "square/payment_approved": "square.payment.created",
    "square/payment_completed": "square.payment.updated order.paid",
    "square/points_adjusted": "square.loyalty.event.created",
    "square/points_earned": "loyalty.points_earned",
    "square/points_redeemed": "loyalty.points_redeemed",
    "square/refund_completed": "square.refund.updated order.refunded",
    "stripe/dispute": "stripe.charge.dispute.created",
    "stripe/invoice_cycle": "subscription.renewed",
    "stripe/invoice_first": "order.paid",
    "stripe/second_refund": "order.refunded",
    "stripe/session_paid_later": "order.paid",
    "stripe/thin": "stripe.v1.billing.meter.error_report_triggered",
    "twilio/conference_join": "twilio.conference.participant_join",
    "twilio/conversation_message": "twilio.conversation.messageadded",
    "twilio/rcs_read": "twilio.message.read",
    "twilio/sms_scheduled": "twilio.message.scheduled",
    "twilio/task_created": "twilio.task.task.created",
    "twilio/transcription": "call.recorded",
    "whatsapp/call": "call.started call.ended",
    "whatsapp/every_message": " ".join(["message.received"] * 8) + " whatsapp.system",
    "whatsapp/every_status": "message.sent whatsapp.message.delivered whatsapp.message.read whatsapp.message.failed "
    "whatsapp.message.played",
    "whatsapp/messenger": "message.received message.sent messenger.read",
    "whatsapp/number_hidden": "message.received",
    "whatsapp/preference_stop": "consent.withdrawn",
    "whatsapp/template_status": "whatsapp.message_template_status_update",
    "woocommerce/action": "woocommerce.action.woocommerce_add_to_cart",
    "woocommerce/customer_created": "profile.updated",
    "woocommerce/order_cancelled": "woocommerce.order.updated order.paid order.cancelled",
    "woocommerce/order_completed": "woocommerce.order.updated order.paid order.shipped",
    "woocommerce/order_created": "order.placed order.paid",
    "woocommerce/order_deleted": "woocommerce.order.deleted",
    "woocommerce/order_refunded": "woocommerce.order.updated order.paid order.refunded order.refunded",
    "woocommerce/product_updated": "woocommerce.product.updated",
    "zendesk/article": "zendesk.article.published",
    "zendesk/assigned": "case.assigned",
    "zendesk/comment_customer": "case.replied",
    "zendesk/comment_note": "case.replied",
    "zendesk/message_customer": "chat.message_received",
    "zendesk/pending": "zendesk.ticket.status_changed",
    "zendesk/priority": "zendesk.ticket.priority_changed",
    "zendesk/reopened": "case.reopened",
    "zendesk/solved": "case.resolved",
    "zendesk/user_created": "profile.updated",
}


class Known(NamedTuple):
    """A sample with its name."""

    name: str
    channel: str
    body: bytes
    headers: dict[str, str]


def every() -> Iterator[Known]:
    files = sorted(ADDED.glob("*/*"))
    for file, sample in zip(files, added(ADDED), strict=True):
        name = f"{file.parent.name}/{file.stem}"
        yield Known(name, sample.channel, sample.body, sample.headers)


SAMPLES = {known.name: known for known in every()}


def read(known: Known, body: bytes | None = None) -> list[Translated]:
    found = CHANNELS[known.channel].read(delivery(body or known.body, known.headers))
    assert all(isinstance(one, Translated) for one in found), found
    return [one for one in found if isinstance(one, Translated)]


def of(name: str) -> list[Translated]:
    return read(SAMPLES[name])


@pytest.mark.parametrize("name", _TOLD)
def test_what_a_vendor_sends_is_told_in_our_words_or_kept_as_its_own(name: str) -> None:
    found = of(name)

    assert [one.event["type"] for one in found] == _TOLD[name].split()
    assert len({one.event["id"] for one in found}) == len(found)
    assert all("time" in one.event or name in NO_TIME for one in found)


NO_TIME = {"slack/command", "woocommerce/action", "woocommerce/order_deleted", "shopify/redact", "shopify/shop_redact",
           "shopify/order_edited", "twilio/rcs_read", "twilio/sms_scheduled", "twilio/transcription", "slack/team_join",
           "chatwoot/typing"}  # fmt: skip
"""Those whose vendor does not say when."""


def test_each_sample_of_these_vendors_is_looked_at() -> None:
    vendors = {name.partition("/")[0] for name in _TOLD}
    assert {name for name in SAMPLES if name.partition("/")[0] in vendors} == set(_TOLD)


# ---- what two deliveries have in common -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("intercom/user_replied", ("delivery_attempts",), 3),
        ("intercom/user_replied", ("first_sent_at",), 1763809999),
        ("hubspot/every_change", (0, "attemptNumber"), 2),
        ("stripe/second_refund", ("pending_webhooks",), 0),
        ("mailgun/opened", ("signature",), {"token": "u", "timestamp": "1", "signature": "x"}),
        ("sns/click", ("Signature",), "b3RoZXI="),
        ("slack/message", ("token",), "other"),
    ],
)
def test_another_attempt_of_a_delivery_is_the_same(name: str, path: tuple[Any, ...], value: Any) -> None:
    known = SAMPLES[name]
    body = json.loads(known.body)
    inner = body
    for step in path[:-1]:
        inner = inner[step]
    assert inner[path[-1]] != value
    inner[path[-1]] = value

    first, again = of(name), read(known, json.dumps(body).encode())

    assert [(one.event["id"], one.canonical) for one in first] == [
        (one.event["id"], one.canonical) for one in again
    ]


def test_one_act_of_a_merchant_under_several_topics_is_several_touchpoints() -> None:
    names = ("order_created", "order_cancelled", "order_updated", "refund")
    keys = [of(f"shopify/{name}")[0].event["id"] for name in names]

    assert keys[0] == "act-1"
    assert len(set(keys)) == len(names)


def test_the_second_refund_of_a_charge_is_told_by_its_own_amount() -> None:
    (refund,) = of("stripe/second_refund")
    assert refund.event["data"]["amount_minor"] == 2000


@pytest.mark.parametrize(
    ("names", "types"),
    [
        (
            ("woocommerce/order_created", "woocommerce/order_completed", "woocommerce/order_refunded"),
            {"order.paid"},
        ),
        (("square/payment_completed",) * 2, {"order.paid"}),
    ],
)
def test_a_payment_that_many_deliveries_tell_is_one(names: tuple[str, ...], types: set[str]) -> None:
    paid = [
        (one.event["id"], one.canonical) for name in names for one in of(name) if one.event["type"] in types
    ]
    assert len(paid) == len(names)
    assert len(set(paid)) == 1


def test_a_message_of_ses_is_told_of_each_of_its_recipients() -> None:
    assert [one.event["subject"] for one in of("sns/delivery")] == [
        "email:ann@example.com",
        "email:bo@example.com",
    ]


def test_two_refunds_of_an_order_are_two_by_their_own_amounts() -> None:
    amounts = [one.event["data"].get("amount_minor") for one in of("woocommerce/order_refunded")]
    assert amounts[-2:] == [1000, 2990]


def test_an_order_of_woocommerce_is_told_with_its_own_amounts_names_and_person() -> None:
    """The total is not the tax, a name is without entities, and a number of no country is nobody's."""
    known = SAMPLES["woocommerce/order_created"]
    placed, paid = (one.event for one in read(known))
    assert [placed["data"][name] for name in ("amount_minor", "tax_minor", "shipping_minor")] == [
        3990,
        637,
        490,
    ]
    (line,) = placed["data"]["lines"]
    assert (line["name"], line["sku"], line["amount_minor"], line["unit_price_minor"]) == (
        "Salt & Pepper", "SP", 3500, 1750,
    )  # fmt: skip
    assert (paid["data"]["amount_minor"], paid["data"]["payment_id"]) == (3990, "pi_1")
    for event in (placed, paid):
        assert (event["subject"], event["identifiers"]) == (
            "user:17", "email:ann@example.com,phone:+442079460123,order:900",
        )  # fmt: skip
    local = known.body.replace(b"+442079460123", b"020 7946 0123")
    for one in read(known, local):
        assert "phone" not in f"{one.event['subject']},{one.event['identifiers']}"


def test_what_is_said_is_told_in_words() -> None:
    (replied,) = of("intercom/user_replied")
    assert replied.event["data"]["text"] == "Still & waiting\nAnn"
    said = [one.event["data"].get("text") for one in of("whatsapp/every_message")]
    assert said[:8] == ["Where is my parcel?", "broken", None, "Yes", "Returns", "👍", "Shop", None]


def test_who_hides_the_number_is_known_by_the_id_that_is_there() -> None:
    (message,) = of("whatsapp/number_hidden")
    assert message.event["subject"] == "user@whatsapp:GB.1"
    assert "identifiers" not in message.event


def test_a_wish_not_to_be_written_to_is_a_fact_of_consent() -> None:
    (wish,) = of("whatsapp/preference_stop")
    assert wish.event["data"] == {
        "contact": "whatsapp:+442079460123",
        "purpose": "marketing",
        "channel": "whatsapp",
        "method": "whatsapp_preferences",
        "evidence": {"detail": "User requested to stop marketing messages"},
    }


def test_a_guest_of_a_shop_is_nobodys_number() -> None:
    body = json.loads(SAMPLES["woocommerce/order_created"].body)
    found = read(SAMPLES["woocommerce/order_created"], json.dumps({**body, "customer_id": 0}).encode())
    assert found[0].event["subject"] == "email:ann@example.com"


@pytest.mark.parametrize(
    ("channel", "headers", "body"),
    [
        ("sendgrid", JSON, b"[]"),
        ("whatsapp", JSON, b'{"object": "whatsapp_business_account", "entry": []}'),
        ("mandrill", FORM, b"mandrill_events=%5B%5D"),
        ("hubspot", JSON, b"[]"),
    ],
)
def test_a_delivery_of_nothing_is_nothing(channel: str, headers: dict[str, str], body: bytes) -> None:
    one = Delivery(
        body=body, headers=headers, received_at=delivery(b"", {}).received_at, source="them", unique="u"
    )
    assert CHANNELS[channel].read(one) == []


def test_samples_stand_under_the_name_of_a_channel() -> None:
    assert {Path(name).parent.name for name in SAMPLES} <= set(CHANNELS)
