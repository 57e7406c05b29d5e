"""The vendors' own libraries and our engine agree: they sign, we accept; we sign, they accept."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import urlencode

from adapters.signatures import SCHEMES, Arrived, verify

FORM = "application/x-www-form-urlencoded"
NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)


def test_what_the_library_of_stripe_signs_and_accepts_we_accept_and_sign() -> None:
    import stripe

    body, now = '{"id": "evt_1", "object": "event"}', datetime.now(UTC)
    t = int(now.timestamp())
    signature = stripe.WebhookSignature._compute_signature(f"{t}.{body}", "whsec_x")
    verify(
        SCHEMES["stripe"],
        Arrived(body=body.encode(), headers={"stripe-signature": f"t={t},v1={signature}"}),
        ["whsec_x"],
        now=now,
    )
    ours = hmac.new(b"whsec_x", f"{t}.{body}".encode(), hashlib.sha256).hexdigest()
    assert stripe.WebhookSignature.verify_header(body, f"t={t},v1={ours}", "whsec_x", 300)


def test_what_the_library_of_twilio_signs_we_accept_and_it_accepts_what_we_do() -> None:
    from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

    url, form = (
        "https://shop.example:8443/hooks/twilio/calls?a=1",
        {"CallSid": "CA1", "To": "+4420", "Body": "Zoë"},
    )
    signature = RequestValidator("token").compute_signature(url, form)
    assert RequestValidator("token").validate(url, form, signature)
    for seen in (url, "https://shop.example/hooks/twilio/calls?a=1"):
        signature = RequestValidator("token").compute_signature(seen, form)
        arrived = Arrived(
            body=urlencode(form).encode(),
            headers={"content-type": FORM, "x-twilio-signature": signature},
            urls=(url,),
        )
        verify(SCHEMES["twilio"], arrived, ["token"], now=NOW)


def test_what_the_library_of_standard_webhooks_signs_we_accept() -> None:
    from standardwebhooks import Webhook

    secret, body, now = "whsec_" + base64.b64encode(b"k" * 24).decode(), '{"a":1}', datetime.now(UTC)
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", now, body),
    }
    verify(SCHEMES["standard"], Arrived(body=body.encode(), headers=headers), [secret], now=now)
    assert Webhook(secret).verify(body, headers) == {"a": 1}
