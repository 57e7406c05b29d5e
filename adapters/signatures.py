"""Signatures of webhooks: the schemes of the vendors, in one table.

Sources: the vendors' own documentation and verifiers, see each scheme. A secret is what the vendor shows;
of schemes with a public key it is that key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509 import load_pem_x509_certificate

from adapters.channels.forms import fields_of
from adapters.signing import (
    Arrived,
    Call,
    Scheme,
    Unverified,
    Verified,
    decoded,
    mac,
    moment_of,
    none_fits,
    same,
    verify,
)

__all__ = ["SCHEMES", "SNS_HOST", "Arrived", "Scheme", "Unverified", "Verified", "sns_signed", "verify"]

# ---- those that say more --------------------------------------------------------------------------------


def _standard(_scheme: Scheme, call: Call) -> Verified:
    """Standard Webhooks 1.0: `v1` is an HMAC under a Base64 secret, `v1a` an Ed25519 signature; svix-… is the older name."""
    arrived = call.arrived
    family = "webhook" if "webhook-signature" in arrived.headers else "svix"
    id_ = arrived.header(f"{family}-id")
    timestamp = arrived.header(f"{family}-timestamp")
    signed_at = call.in_time(moment_of(timestamp, "s"))
    message = f"{id_}.{timestamp}.".encode() + arrived.body
    given = [part.partition(",") for part in arrived.header(f"{family}-signature").split(" ")]
    fits = False
    for secret in call.secrets:
        for version, _, signature in given:
            if version == "v1" and not secret.startswith("whpk_"):
                fits |= same(signature, mac(_base64_secret(secret), message, "sha256"), "base64")
            elif version == "v1a" and secret.startswith("whpk_"):
                fits |= _ed25519_fits(secret.removeprefix("whpk_"), signature, message)
    if not fits:
        raise none_fits()
    return Verified(signed_at)


def _base64_secret(secret: str) -> bytes:
    bare = secret.removeprefix("whsec_")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (ValueError, binascii.Error):
        return secret.encode()


def _ed25519_fits(key: str, signature: str, message: bytes) -> bool:
    try:
        public = ed25519.Ed25519PublicKey.from_public_bytes(base64.b64decode(key))
        public.verify(decoded(signature), message)
    except (ValueError, binascii.Error, InvalidSignature):
        return False
    return True


def _with_and_without_port(urls: Iterable[str]) -> Iterator[str]:
    """Each address as it is, and with the port of its scheme written out or left out."""
    for url in urls:
        yield url
        parts = urlsplit(url)
        host = parts.netloc
        bare = re.sub(r":\d+\Z", "", host)
        if bare != host:
            yield urlunsplit(parts._replace(netloc=bare))
        else:
            yield urlunsplit(parts._replace(netloc=f"{host}:{443 if parts.scheme == 'https' else 80}"))


def _twilio(_scheme: Scheme, call: Call) -> Verified:
    """Twilio: the address and the sorted fields of the form; of a JSON body its SHA-256 stands in the address."""
    arrived = call.arrived
    given = arrived.header("x-twilio-signature")
    algorithm = (
        "sha256"
        if "HMAC_SHA256" in arrived.headers.get("x-twilio-webhooks-signature-settings", "")
        else "sha1"
    )
    hashed = None
    for url in arrived.urls:
        hashed = hashed or dict(parse_qsl(urlsplit(url).query)).get("bodySHA256")
    fields = b""
    if hashed is not None:
        right_hash = hashlib.sha256(arrived.body).hexdigest()
        if not hmac.compare_digest(hashed.encode(), right_hash.encode()):
            raise Unverified("The body is not the one whose SHA-256 stands in the address.")
    else:
        of: dict[str, set[str]] = {}
        for name, value in fields_of(arrived.body, arrived.headers.get("content-type", "")):
            of.setdefault(name, set()).add(value)
        fields = "".join(name + value for name in sorted(of) for value in sorted(of[name])).encode()
    fits = False
    for secret in call.secrets:
        for url in dict.fromkeys(_with_and_without_port(arrived.urls)):
            fits |= same(given, mac(secret, url.encode() + fields, algorithm), "base64")
    if not fits:
        raise none_fits()
    return Verified()


def _mandrill(_scheme: Scheme, call: Call) -> Verified:
    """Mandrill: the address and the sorted fields of the form, HMAC-SHA1."""
    arrived = call.arrived
    given = arrived.header("x-mandrill-signature")
    pairs = fields_of(arrived.body, arrived.headers.get("content-type", ""))
    fields = "".join(name + value for name, value in sorted(pairs)).encode()
    fits = False
    for secret in call.secrets:
        for url in arrived.urls:
            fits |= same(given, mac(secret, url.encode() + fields, "sha1"), "base64")
    if not fits:
        raise none_fits()
    return Verified()


def _mailgun(_scheme: Scheme, call: Call) -> Verified:
    """Mailgun: three fields inside the body, which do not cover it: a token is good for one body only."""
    body = call.arrived.body
    try:
        inside = json.loads(body).get("signature")
        part = {name: inside[name] for name in ("timestamp", "token", "signature")}
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
        form = dict(fields_of(body, call.arrived.headers.get("content-type", "")))
        part = {name: form.get(name) for name in ("timestamp", "token", "signature")}
    timestamp, token, given = (part[name] for name in ("timestamp", "token", "signature"))
    if not (isinstance(token, str) and token and isinstance(given, str) and timestamp):
        raise Unverified("The body holds no signature with timestamp and token.")
    signed_at = call.in_time(moment_of(str(timestamp), "s"))
    fits = False
    for secret in call.secrets:
        fits |= same(given, mac(secret, f"{timestamp}{token}".encode(), "sha256"), "hex")
    if not fits:
        raise none_fits()
    return Verified(signed_at, once=token)


def _sendgrid(scheme: Scheme, call: Call) -> Verified:
    """SendGrid's event webhook: ECDSA P-256 over the time and the body."""
    arrived = call.arrived
    timestamp = arrived.header(scheme.timestamp)
    signed_at = call.in_time(moment_of(timestamp, "s"))
    message = timestamp.encode() + arrived.body
    signature = decoded(arrived.header(scheme.header))
    for secret in call.secrets:
        try:
            key = serialization.load_der_public_key(base64.b64decode(secret))
            if isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
                return Verified(signed_at)
        except (ValueError, binascii.Error, InvalidSignature):
            continue
    raise none_fits()


_HUBSPOT_DECODED = {f"%{ord(c):02X}": c for c in ":/?@!$'()*,;"}


def _hubspot(_scheme: Scheme, call: Call) -> Verified:
    """HubSpot: version 3 where it is there; 1 and 2 are plain hashes that begin with the secret."""
    arrived = call.arrived
    body = arrived.body
    if "x-hubspot-signature-v3" in arrived.headers:
        timestamp = arrived.header("x-hubspot-request-timestamp")
        signed_at = call.in_time(moment_of(timestamp, "ms"))
        given = arrived.header("x-hubspot-signature-v3")
        fits = False
        for secret in call.secrets:
            for url in arrived.urls:
                for each in (url, re.sub("%[0-9A-Fa-f]{2}", _hubspot_letter, url)):
                    text = arrived.method.encode() + each.encode() + body + timestamp.encode()
                    fits |= same(given, mac(secret, text, "sha256"), "base64")
        if not fits:
            raise none_fits()
        return Verified(signed_at)
    given = arrived.header("x-hubspot-signature")
    version = arrived.headers.get("x-hubspot-signature-version", "")
    fits = False
    for secret in call.secrets:
        if version in ("", "v1"):
            fits |= same(given, hashlib.sha256(secret.encode() + body).digest(), "hex")
        if version in ("", "v2"):
            for url in arrived.urls:
                text = (secret + arrived.method + url).encode() + body
                fits |= same(given, hashlib.sha256(text).digest(), "hex")
    if not fits:
        raise none_fits()
    return Verified()


def _hubspot_letter(found: re.Match[str]) -> str:
    return _HUBSPOT_DECODED.get(found[0].upper(), found[0])


SNS_HOST = re.compile(r"sns\.[a-z0-9-]{3,}\.amazonaws\.com(\.cn)?\Z")
_SNS_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_SNS_SUBSCRIPTION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


def sns_signed(message: Mapping[str, object]) -> bytes:
    """The text that Amazon SNS signs: name and value in lines, in this order."""
    names = _SNS_NOTIFICATION if message.get("Type") == "Notification" else _SNS_SUBSCRIPTION
    return "".join(f"{name}\n{message[name]}\n" for name in names if message.get(name) is not None).encode()


def _sns(_scheme: Scheme, call: Call) -> Verified:
    """Amazon SNS: RSA by a certificate of Amazon's. The secret is the topic's ARN: anybody's topic is signed by Amazon.

    A secret that is a PEM certificate is taken instead of the one at SigningCertURL.
    """
    try:
        message = json.loads(call.arrived.body)
        signature = decoded(str(message["Signature"]))
        topic, address = str(message["TopicArn"]), str(message["SigningCertURL"])
        signed_at = moment_of(str(message["Timestamp"]), "rfc3339")
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError):
        raise Unverified("The body is no message of Amazon SNS.") from None
    call.in_time(signed_at)
    topics = [secret for secret in call.secrets if secret.startswith("arn:")]
    if not any(hmac.compare_digest(topic.encode(), one.encode()) for one in topics):
        raise Unverified("The message is of another topic than this endpoint's.")
    pinned = [secret.encode() for secret in call.secrets if secret.startswith("-----BEGIN")]
    if not pinned:
        parts = urlsplit(address)
        if (
            parts.scheme != "https"
            or not SNS_HOST.match(parts.hostname or "")
            or not parts.path.endswith(".pem")
        ):
            raise Unverified("The certificate's address is none of Amazon SNS.")
        pinned = [call.fetch(address)]
    algorithm: hashes.HashAlgorithm = (
        hashes.SHA256() if str(message.get("SignatureVersion")) == "2" else hashes.SHA1()  # noqa: S303 - Amazon's version 1
    )
    for pem in pinned:
        try:
            key = load_pem_x509_certificate(pem).public_key()
            if isinstance(key, rsa.RSAPublicKey):
                key.verify(signature, sns_signed(message), padding.PKCS1v15(), algorithm)
                return Verified(signed_at)
        except (ValueError, InvalidSignature):
            continue
    raise none_fits()


def _basic(_scheme: Scheme, call: Call) -> Verified:
    """HTTP Basic; the secret is `user:password`."""
    scheme, _, encoded = call.arrived.header("authorization").partition(" ")
    try:
        given = base64.b64decode(encoded.strip(), validate=True) if scheme.lower() == "basic" else b""
    except (ValueError, binascii.Error):
        given = b""
    if not any(hmac.compare_digest(given, secret.encode()) for secret in call.secrets):
        raise Unverified("User and password are not those of this endpoint.")
    return Verified()


def _token(_scheme: Scheme, call: Call) -> Verified:
    """A secret in the address, `?token=…`, for senders that can do nothing else."""
    given = [
        value
        for url in call.arrived.urls[:1]
        for name, value in parse_qsl(urlsplit(url).query)
        if name == "token"
    ]
    if not any(hmac.compare_digest(one.encode(), s.encode()) for one in given for s in call.secrets):
        raise Unverified("The token in the address is not that of this endpoint.")
    return Verified()


# ---- the table ------------------------------------------------------------------------------------------

_HOURS = 3600.0

SCHEMES: dict[str, Scheme] = {
    each.name: each
    for each in (
        Scheme(name="standard", meaning="Standard Webhooks 1.0 and Svix: whsec_… or whpk_…", by=_standard),
        Scheme(name="twilio", meaning="Twilio: the auth token", by=_twilio, tolerance_s=0),
        Scheme(
            name="stripe",
            meaning="Stripe: the endpoint's signing secret, whsec_ and all",
            header="stripe-signature",
            encoding="hex",
            signed="{timestamp}.{body}",
            prefix="v1=",
            timestamp="element:t",
        ),
        Scheme(name="shopify", meaning="Shopify: the app's client secret", header="x-shopify-hmac-sha256"),
        Scheme(
            name="woocommerce", meaning="WooCommerce: the webhook's secret", header="x-wc-webhook-signature"
        ),
        Scheme(
            name="whatsapp",
            meaning="WhatsApp and all of Meta: the app secret",
            header="x-hub-signature-256",
            encoding="hex",
            prefix="sha256=",
        ),
        Scheme(
            name="slack",
            meaning="Slack: the signing secret",
            header="x-slack-signature",
            encoding="hex",
            signed="v0:{timestamp}:{body}",
            prefix="v0=",
            timestamp="x-slack-request-timestamp",
        ),
        Scheme(
            name="intercom",
            meaning="Intercom: the client secret",
            header="x-hub-signature",
            algorithm="sha1",
            encoding="hex",
            prefix="sha1=",
        ),
        Scheme(
            name="chatwoot",
            meaning="Chatwoot 4 and newer: the webhook's secret",
            header="x-chatwoot-signature",
            encoding="hex",
            signed="{timestamp}.{body}",
            prefix="sha256=",
            timestamp="x-chatwoot-timestamp",
        ),
        Scheme(
            name="zendesk",
            meaning="Zendesk: the signing secret",
            header="x-zendesk-webhook-signature",
            signed="{timestamp}{body}",
            timestamp="x-zendesk-webhook-signature-timestamp",
            unit="rfc3339",
        ),
        Scheme(
            name="sendgrid",
            meaning="SendGrid's event webhook: the verification key",
            header="x-twilio-email-event-webhook-signature",
            timestamp="x-twilio-email-event-webhook-timestamp",
            by=_sendgrid,
        ),
        # Mailgun tries again for eight hours, and nobody says that it signs anew; the token is remembered meanwhile.
        Scheme(
            name="mailgun", meaning="Mailgun: the webhook signing key", by=_mailgun, tolerance_s=12 * _HOURS
        ),
        Scheme(
            name="square",
            meaning="Square: the signature key",
            header="x-square-hmacsha256-signature",
            signed="{url}{body}",
        ),
        Scheme(name="hubspot", meaning="HubSpot: the app's client secret", by=_hubspot),
        Scheme(name="mandrill", meaning="Mandrill: the webhook's key", by=_mandrill),
        Scheme(
            name="mailersend", meaning="MailerSend: the signing secret", header="signature", encoding="hex"
        ),
        Scheme(
            name="customerio",
            meaning="Customer.io: the webhook's signing key",
            header="x-cio-signature",
            encoding="hex",
            signed="v0:{timestamp}:{body}",
            timestamp="x-cio-timestamp",
        ),
        Scheme(
            name="delighted",
            meaning="Delighted: the project's API key",
            header="x-delighted-webhook-signature",
            encoding="hex",
            prefix="sha256=",
        ),
        # SNS tries again for up to an hour, and for HTTPS up to 23 days where so set, under the first signature.
        Scheme(name="sns", meaning="Amazon SNS: the topic's ARN", by=_sns, tolerance_s=_HOURS),
        Scheme(name="basic", meaning="HTTP Basic: user:password", by=_basic),
        Scheme(name="token", meaning="a secret in the address: ?token=…", by=_token),
    )
}
"""Every scheme by its name."""
