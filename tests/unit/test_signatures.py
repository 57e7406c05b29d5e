"""Signatures: the vendors' vectors pass; one flipped bit, a stale time and another secret do not."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from adapters.signatures import SCHEMES, Arrived, Unverified, sns_signed, verify

PAYLOADS = Path(__file__).resolve().parents[3] / "shared" / "payloads"
VECTORS = PAYLOADS / "_vectors"
FORM = "application/x-www-form-urlencoded"


class Vector(NamedTuple):
    """One signed delivery: by which scheme, what arrived, under which secret, when."""

    name: str
    scheme: str
    arrived: Arrived
    secret: str
    now: datetime
    signature: str  # the header that holds the signature; "body" where it stands inside
    timed: bool = False


def at(seconds: str | int) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def told(file: str) -> Any:
    path = VECTORS / file
    return json.loads(path.read_bytes()) if path.exists() else None


def body_of(vector: dict[str, Any]) -> bytes | None:
    path = (VECTORS / vector["body_file"]).resolve()
    return path.read_bytes() if path.exists() else None


NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)


def computed() -> Iterator[Vector]:
    headers = {
        "stripe": ("stripe-signature", ""),
        "shopify": ("x-shopify-hmac-sha256", ""),
        "woocommerce": ("x-wc-webhook-signature", ""),
        "whatsapp": ("x-hub-signature-256", ""),
        "intercom": ("x-hub-signature", ""),
        "zendesk": ("x-zendesk-webhook-signature", "x-zendesk-webhook-signature-timestamp"),
        "chatwoot": ("x-chatwoot-signature", "x-chatwoot-timestamp"),
    }
    for scheme, vector in (told("computed.json") or {"vectors": {}})["vectors"].items():
        body = body_of(vector)
        if body is None:
            continue  # the body is not among the samples of this machine
        signature, timestamp = headers[scheme]
        found = {signature: vector["expected"]}
        now = NOW
        if "timestamp" in vector:
            given = vector["timestamp"]
            now = at(given) if given.isdigit() else datetime.fromisoformat(given)
            if timestamp:
                found[timestamp] = given
        yield Vector(
            f"computed-{scheme}",
            scheme,
            Arrived(body=body, headers=found),
            vector["secret"],
            now,
            signature,
            "timestamp" in vector,
        )


def published() -> Iterator[Vector]:
    for n, v in enumerate((told("sendgrid.json") or {"vectors": []})["vectors"]):
        headers = {
            "x-twilio-email-event-webhook-signature": v["signature"],
            "x-twilio-email-event-webhook-timestamp": v["timestamp"],
        }
        yield Vector(
            f"sendgrid-{n}",
            "sendgrid",
            Arrived(body=v["body"].encode(), headers=headers),
            v["public_key"],
            at(v["timestamp"]),
            "x-twilio-email-event-webhook-signature",
            True,
        )
    for v in (told("standard-webhooks.json") or {"vectors": []})["vectors"]:
        headers = {
            "webhook-id": v["id"],
            "webhook-timestamp": str(v["timestamp"]),
            "webhook-signature": v["expected"],
        }
        yield Vector(
            "standard",
            "standard",
            Arrived(body=v["body"].encode(), headers=headers),
            v["secret"],
            at(v["timestamp"]),
            "webhook-signature",
            True,
        )
    if (v := told("slack.json")) and (body := body_of(v)):
        headers = {"x-slack-signature": v["expected"], "x-slack-request-timestamp": v["timestamp"]}
        yield Vector(
            "slack",
            "slack",
            Arrived(body=body, headers=headers),
            v["secret"],
            at(v["timestamp"]),
            "x-slack-signature",
            True,
        )
    if (v := told("square.json")) and (body := body_of(v)):
        arrived = Arrived(
            body=body, headers={"x-square-hmacsha256-signature": v["expected"]}, urls=(v["notification_url"],)
        )
        yield Vector("square", "square", arrived, v["secret"], NOW, "x-square-hmacsha256-signature")
    hubspot = told("hubspot.json") or {"vectors": []}
    for n, v in enumerate(hubspot["vectors"]):
        headers = {"x-hubspot-signature": v["expected"], "x-hubspot-signature-version": v["version"]}
        arrived = Arrived(
            body=v["body"].encode(), headers=headers, method=v.get("method", "POST"), urls=(v.get("url", ""),)
        )
        yield Vector(f"hubspot-{n}", "hubspot", arrived, hubspot["secret"], NOW, "x-hubspot-signature")
    twilio = told("twilio.json") or {"vectors": []}
    for n, v in enumerate(twilio["vectors"]):
        params = v.get("params") or ("params_of" in v and twilio["vectors"][v["params_of"]]["params"]) or []
        body = (
            v["json_body"].encode()
            if "json_body" in v
            else urlencode([tuple(pair) for pair in params]).encode()
        )
        headers = {
            "x-twilio-signature": v["expected"],
            "content-type": "application/json" if "json_body" in v else FORM,
        }
        yield Vector(
            f"twilio-{n}",
            "twilio",
            Arrived(body=body, headers=headers, urls=(v["url"],)),
            twilio["secret"],
            NOW,
            "x-twilio-signature",
        )


def recorded() -> Iterator[Vector]:
    esp = told("esp-recorded.json") or {}
    if v := esp.get("mailgun"):
        inside = {name: v[name] for name in ("timestamp", "token", "signature")}
        yield Vector(
            "mailgun",
            "mailgun",
            Arrived(body=json.dumps({"signature": inside}).encode(), headers={}),
            v["secret"],
            at(v["timestamp"]),
            "body",
            True,
        )
    if (v := esp.get("mandrill")) and (body := body_of(v)):
        kept = json.loads((VECTORS / v["body_file"]).with_suffix(".headers.json").read_bytes())
        type_ = kept["content_type"]
        arrived = Arrived(
            body=body,
            headers={"content-type": type_, "x-mandrill-signature": v["expected"]},
            urls=(v["signed_url"],),
        )
        yield Vector("mandrill", "mandrill", arrived, v["secret"], NOW, "x-mandrill-signature")
    if (v := esp.get("mailersend")) and (body := body_of(v)):
        yield Vector(
            "mailersend",
            "mailersend",
            Arrived(body=body, headers={"signature": v["expected"]}),
            v["secret"],
            NOW,
            "signature",
        )
    if (v := esp.get("resend")) and (body := body_of(v)):
        headers = {"svix-id": v["id"], "svix-timestamp": v["timestamp"], "svix-signature": v["expected"]}
        yield Vector(
            "resend",
            "standard",
            Arrived(body=body, headers=headers),
            v["secret"],
            at(v["timestamp"]),
            "svix-signature",
            True,
        )


def b64mac(secret: bytes, message: bytes, algorithm: str = "sha256") -> str:
    return base64.b64encode(hmac.new(secret, message, algorithm).digest()).decode()


def made() -> Iterator[Vector]:
    """Signed here, each as its vendor's documentation says, in other words than the engine's."""
    body = '{"id": "1", "name": "Zoë"}\r\n'.encode()
    now, t = NOW, str(int(NOW.timestamp()))

    def hexmac(secret: bytes, message: bytes, algorithm: str = "sha256") -> str:
        return hmac.new(secret, message, algorithm).hexdigest()

    def plain(scheme: str, header: str, value: str, *, timed: bool = False, **more: str) -> Vector:
        names = {name.replace("_", "-"): text for name, text in more.items()}
        return Vector(
            f"made-{scheme}",
            scheme,
            Arrived(body=body, headers={header: value, **names}),
            "s3cret",
            now,
            header,
            timed,
        )

    yield plain("shopify", "x-shopify-hmac-sha256", b64mac(b"s3cret", body))
    yield plain("woocommerce", "x-wc-webhook-signature", b64mac(b"s3cret", body))
    yield plain("whatsapp", "x-hub-signature-256", "sha256=" + hexmac(b"s3cret", body))
    yield plain("mailersend", "signature", hexmac(b"s3cret", body))
    yield plain("intercom", "x-hub-signature", "sha1=" + hexmac(b"s3cret", body, "sha1"))
    yield plain("delighted", "x-delighted-webhook-signature", "sha256=" + hexmac(b"s3cret", body))
    yield plain(
        "stripe",
        "stripe-signature",
        f"t={t},v1={hexmac(b's3cret', t.encode() + b'.' + body)},v0=x",
        timed=True,
    )
    yield plain(
        "slack",
        "x-slack-signature",
        "v0=" + hexmac(b"s3cret", b"v0:" + t.encode() + b":" + body),
        timed=True,
        x_slack_request_timestamp=t,
    )
    yield plain(
        "chatwoot",
        "x-chatwoot-signature",
        "sha256=" + hexmac(b"s3cret", t.encode() + b"." + body),
        timed=True,
        x_chatwoot_timestamp=t,
    )
    z = "2026-03-14T15:09:26Z"
    yield plain(
        "zendesk",
        "x-zendesk-webhook-signature",
        b64mac(b"s3cret", z.encode() + body),
        timed=True,
        x_zendesk_webhook_signature_timestamp=z,
    )
    yield plain(
        "customerio",
        "x-cio-signature",
        hexmac(b"s3cret", b"v0:" + t.encode() + b":" + body),
        timed=True,
        x_cio_timestamp=t,
    )
    url = "https://shop.example/hooks/hubspot/main?a=b"
    ms = t + "000"
    v3 = b64mac(b"s3cret", b"POST" + url.encode() + body + ms.encode())
    headers = {"x-hubspot-signature-v3": v3, "x-hubspot-request-timestamp": ms}
    yield Vector(
        "made-hubspot-v3",
        "hubspot",
        Arrived(body=body, headers=headers, urls=(url,)),
        "s3cret",
        now,
        "x-hubspot-signature-v3",
        True,
    )
    private = ed25519.Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    public = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    signature = base64.b64encode(private.sign(f"msg_1.{t}.".encode() + body)).decode()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": t, "webhook-signature": f"v1a,{signature}"}
    yield Vector(
        "made-standard-v1a",
        "standard",
        Arrived(body=body, headers=headers),
        "whpk_" + base64.b64encode(public).decode(),
        now,
        "webhook-signature",
        True,
    )
    p256 = ec.derive_private_key(12345, ec.SECP256R1())
    der = p256.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    ecdsa = base64.b64encode(p256.sign(t.encode() + body, ec.ECDSA(hashes.SHA256()))).decode()
    headers = {"x-twilio-email-event-webhook-signature": ecdsa, "x-twilio-email-event-webhook-timestamp": t}
    yield Vector(
        "made-sendgrid",
        "sendgrid",
        Arrived(body=body, headers=headers),
        base64.b64encode(der).decode(),
        now,
        "x-twilio-email-event-webhook-signature",
        True,
    )


VECTORS_OF_ALL = [*computed(), *published(), *recorded(), *made()]
by_name = pytest.mark.parametrize("vector", VECTORS_OF_ALL, ids=lambda v: v.name)


def passes(vector: Vector, **changed: Any) -> bool:
    arrived = changed.get("arrived", vector.arrived)
    secrets = changed.get("secrets", [vector.secret])
    try:
        verify(SCHEMES[vector.scheme], arrived, secrets, now=changed.get("now", vector.now))
    except Unverified:
        return False
    return True


def altered(arrived: Arrived, **headers: str) -> Arrived:
    return Arrived(
        body=arrived.body, headers={**arrived.headers, **headers}, urls=arrived.urls, method=arrived.method
    )


def with_body(arrived: Arrived, body: bytes) -> Arrived:
    return Arrived(body=body, headers=arrived.headers, urls=arrived.urls, method=arrived.method)


@by_name
def test_a_vector_passes(vector: Vector) -> None:
    assert passes(vector)


@by_name
def test_an_older_secret_beside_the_new_one_still_fits(vector: Vector) -> None:
    assert passes(vector, secrets=["another", vector.secret])


@by_name
def test_another_secret_or_none_does_not_fit(vector: Vector) -> None:
    assert not passes(
        vector, secrets=[vector.secret[:-3] + ("abc" if not vector.secret.endswith("abc") else "abd")]
    )
    assert not passes(vector, secrets=["another"])
    assert not passes(vector, secrets=[])


@by_name
def test_no_bit_of_the_body_may_differ(vector: Vector) -> None:
    if vector.scheme == "mailgun":
        return  # its signature does not cover the body: the endpoint remembers its tokens instead
    body = vector.arrived.body
    for place in range(0, len(body) * 8, max(1, len(body) * 8 // 64)):
        raw = bytearray(body)
        raw[place // 8] ^= 1 << place % 8
        changed = bytes(raw)
        if vector.scheme in ("twilio", "mandrill") and changed.lower().replace(
            b"%20", b"+"
        ) == body.lower().replace(b"%20", b"+"):
            continue  # %2b and %2B are one letter of a form
        if vector.scheme == "mandrill" and vector.arrived.headers["content-type"].startswith("multipart"):
            break  # what stands between the fields is not signed; fields are tried below
        assert not passes(vector, arrived=with_body(vector.arrived, changed)), place


@by_name
def test_no_bit_of_the_signature_may_differ(vector: Vector) -> None:
    if vector.signature == "body":
        given = json.loads(vector.arrived.body)["signature"]
        for place in range(len(given["signature"])):
            for bit in range(7):
                letter = chr(ord(given["signature"][place]) ^ 1 << bit)
                forged = {
                    **given,
                    "signature": given["signature"][:place] + letter + given["signature"][place + 1 :],
                }
                assert not passes(
                    vector, arrived=with_body(vector.arrived, json.dumps({"signature": forged}).encode())
                )
        return
    text = vector.arrived.headers[vector.signature]
    begin = text.find("v1=") if vector.scheme == "stripe" else 0
    end = text.find(",v0") if ",v0" in text else len(text)
    for place in range(begin, end):
        for bit in range(7):
            letter = chr(ord(text[place]) ^ 1 << bit)
            changed = text[:place] + letter + text[place + 1 :]
            assert not passes(vector, arrived=altered(vector.arrived, **{vector.signature: changed})), (
                place,
                bit,
            )
    assert not passes(vector, arrived=altered(vector.arrived, **{vector.signature: ""}))


@by_name
def test_a_stale_time_is_refused_and_so_is_one_to_come(vector: Vector) -> None:
    if vector.timed:
        tolerance = timedelta(seconds=SCHEMES[vector.scheme].tolerance_s)
        assert passes(vector, now=vector.now + tolerance)
        assert not passes(vector, now=vector.now + tolerance + timedelta(seconds=2))
        assert not passes(vector, now=vector.now - tolerance - timedelta(seconds=2))


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared vectors are not beside this checkout")
def test_every_scheme_that_was_asked_for_has_a_vector() -> None:
    tried = {vector.scheme for vector in VECTORS_OF_ALL} | {"sns", "basic", "token"}
    assert tried >= set(SCHEMES)


def listed(found: Any) -> Iterator[dict[str, Any]]:
    """The vectors of a file, wherever they stand in it."""
    if isinstance(found, dict) and ("expected" in found or "signature" in found):
        yield found
    elif isinstance(found, dict | list):
        for inner in found.values() if isinstance(found, dict) else found:
            yield from listed(inner)


@pytest.mark.skipif(not VECTORS.is_dir(), reason="the shared vectors are not beside this checkout")
def test_every_vector_of_every_file_is_tried() -> None:
    # given all signatures that are tried, in headers or in bodies
    tried = [*computed(), *published(), *recorded()]
    signed = {text for one in tried for text in one.arrived.headers.values()}
    signed |= {
        json.loads(one.arrived.body)["signature"]["signature"] for one in tried if one.signature == "body"
    }

    for file in sorted(VECTORS.iterdir()):
        vectors = list(listed(json.loads(file.read_bytes())))
        assert vectors, f"{file.name} holds no vector that is understood"
        for vector in vectors:
            if "body_file" in vector and body_of(vector) is None:
                continue  # its body is not among the samples of this machine: a like one is in `made`
            assert vector.get("expected", vector.get("signature")) in signed, (file.name, vector)


# ---- Amazon SNS, with a certificate of our own ----------------------------------------------------------

TOPIC = "arn:aws:sns:eu-west-1:123456789012:mail"


def sns(version: str = "2", **more: str) -> tuple[dict[str, str], bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(datetime(2020, 1, 1)).not_valid_after(datetime(2040, 1, 1))  # noqa: DTZ001
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    message = {
        "Type": "Notification", "MessageId": "m-1", "TopicArn": TOPIC, "Subject": "s", "Message": "{}", "Timestamp": "2026-03-14T15:09:00.000Z",
        "SignatureVersion": version, "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem", **more,
    }  # fmt: skip
    digest = hashes.SHA256() if version == "2" else hashes.SHA1()  # noqa: S303
    message["Signature"] = base64.b64encode(
        key.sign(sns_signed(message), padding.PKCS1v15(), digest)
    ).decode()
    return message, certificate.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_message_of_our_topic_passes_by_the_certificate_at_amazon_or_a_pinned_one(version: str) -> None:
    message, pem = sns(version)
    arrived = Arrived(body=json.dumps(message).encode(), headers={})
    asked: list[str] = []

    def fetch(address: str) -> bytes:
        asked.append(address)
        return pem

    verify(SCHEMES["sns"], arrived, [TOPIC], now=NOW, fetch=fetch)
    assert asked == [message["SigningCertURL"]]
    verify(SCHEMES["sns"], arrived, [TOPIC, pem.decode()], now=NOW)


@pytest.mark.parametrize(
    ("changed", "secrets"),
    [
        ({"Message": '{"a":1}'}, [TOPIC]),
        ({}, ["arn:aws:sns:eu-west-1:123456789012:other"]),
        ({"SigningCertURL": "https://sns.eu-west-1.amazonaws.com.evil.example/x.pem"}, [TOPIC]),
        ({"SigningCertURL": "http://sns.eu-west-1.amazonaws.com/x.pem"}, [TOPIC]),
        ({"SigningCertURL": "https://evil.example/sns.eu-west-1.amazonaws.com/x.pem"}, [TOPIC]),
        ({"Timestamp": "2026-03-13T15:09:00.000Z"}, [TOPIC]),
    ],
)
def test_a_message_that_was_changed_or_is_of_another_topic_or_certificate_is_refused(
    changed: dict[str, str], secrets: list[str]
) -> None:
    message, pem = sns()
    with pytest.raises(Unverified):
        verify(
            SCHEMES["sns"],
            Arrived(body=json.dumps({**message, **changed}).encode(), headers={}),
            secrets,
            now=NOW,
            fetch=lambda _: pem,
        )
