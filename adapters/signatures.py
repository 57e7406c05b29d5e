"""Signatures of webhooks: one engine and a table of schemes; raw bytes, constant time, several secrets at once.

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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509 import load_pem_x509_certificate

from adapters.channels.forms import fields_of

__all__ = ["SCHEMES", "SNS_HOST", "Arrived", "Scheme", "Unverified", "Verified", "sns_signed", "verify"]


class Unverified(Exception):
    """A delivery that its sender did not sign, or not now, or not for us; says which, never a secret."""


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """What a signature can cover."""

    body: bytes
    headers: Mapping[str, str]  # names in lower case
    urls: tuple[str, ...] = ()  # the address as its sender may know it, with its query
    method: str = "POST"

    def header(self, name: str) -> str:
        """One header; raises Unverified where it is absent."""
        value = self.headers.get(name)
        if not value:
            raise Unverified(f"The header {name} is missing.")
        return value


class Verified(msgspec.Struct, frozen=True):
    """A delivery that is signed; `once` names what may come with this very body only."""

    signed_at: datetime | None = None
    once: str | None = None


Fetch = Callable[[str], bytes]


class Call(msgspec.Struct, frozen=True):
    """One verification: what arrived, the secrets in force, the time, and who fetches certificates."""

    arrived: Arrived
    secrets: tuple[str, ...]
    now: datetime
    tolerance_s: float
    fetch: Fetch

    def in_time(self, signed_at: datetime) -> datetime:
        """Refuse what was signed too long ago, or too far in the future; 0 seconds is any time."""
        off_s = abs((self.now - signed_at).total_seconds())
        if self.tolerance_s and off_s > self.tolerance_s:
            raise Unverified(
                f"It was signed {off_s:,.0f} s from now; at most {self.tolerance_s:,.0f} s are taken. Is one of the clocks wrong, or is it a replay?"
            )
        return signed_at


class Scheme(msgspec.Struct, frozen=True, kw_only=True):
    """How a vendor signs.

    Attributes:
        header: where the signature stands; a plain scheme is an HMAC of `signed` under the secret.
        signed: the signed text: {timestamp}, {id}, {url} and {body} stand for their bytes.
        prefix: what stands before each signature; others in the header are left aside.
        separator: between several signatures in one header.
        timestamp: the header of the time of signing; `element:t` is an element of the signature's header.
        unit: of the timestamp: s, ms or rfc3339.
        tolerance_s: how far that time may be from now.
        by: verifies where the table's columns cannot say it.
    """

    name: str
    meaning: str
    header: str = ""
    algorithm: str = "sha256"
    encoding: str = "base64"
    signed: str = "{body}"
    prefix: str = ""
    separator: str = ""
    timestamp: str = ""
    unit: str = "s"
    tolerance_s: float = 300
    by: Callable[[Scheme, Call], Verified] | None = None


def verify(
    scheme: Scheme,
    arrived: Arrived,
    secrets: Sequence[str],
    *,
    now: datetime,
    tolerance_s: float | None = None,
    fetch: Fetch | None = None,
) -> Verified:
    """Say that *arrived* was signed by who holds one of *secrets*.

    Args:
        tolerance_s: instead of the scheme's; 0 takes any time.
        fetch: gets a certificate by its address (SNS); without it only configured ones are taken.

    Raises:
        Unverified: why not.
    """
    if not secrets:
        raise Unverified("The endpoint has no secret.")
    call = Call(
        arrived,
        tuple(secrets),
        now,
        scheme.tolerance_s if tolerance_s is None else tolerance_s,
        fetch or _nobody_fetches,
    )
    return (scheme.by or _by_table)(scheme, call)


def _nobody_fetches(address: str) -> bytes:
    raise Unverified(f"The certificate at {address} was not fetched.")


# ---- the engine -----------------------------------------------------------------------------------------


def _same(given: str, right: bytes, encoding: str) -> bool:
    """Compare in constant time, as written: Base64 and hex have spellings that decode to the same bytes."""
    written = right.hex().encode() if encoding == "hex" else base64.b64encode(right)
    return hmac.compare_digest(given.strip().encode(), written)


def _decoded(given: str) -> bytes:
    """The bytes of a Base64 in its one right spelling; nothing where it is another."""
    try:
        raw = base64.b64decode(given, validate=True)
    except (ValueError, binascii.Error):
        return b""
    return raw if base64.b64encode(raw) == given.encode() else b""


def _mac(secret: str | bytes, message: bytes, algorithm: str) -> bytes:
    key = secret.encode() if isinstance(secret, str) else secret
    return hmac.new(key, message, algorithm).digest()


def _none_fits() -> Unverified:
    return Unverified("The signature fits none of the secrets of this endpoint.")


def _elements(header: str) -> list[tuple[str, str]]:
    """`t=1,v1=abc` as pairs."""
    pairs = (part.strip().partition("=") for part in header.split(","))
    return [(name, value) for name, _, value in pairs]


def _moment(text: str, unit: str) -> datetime:
    try:
        if unit == "rfc3339":
            at = msgspec.convert(text, datetime)
            return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
        if not re.fullmatch(r"\d{1,15}", text, re.ASCII):
            raise ValueError(text)
        return datetime.fromtimestamp(int(text) / (1000 if unit == "ms" else 1), UTC)
    except (ValueError, OverflowError, OSError, msgspec.ValidationError):
        raise Unverified("The time of signing is no time.") from None


def _by_table(scheme: Scheme, call: Call) -> Verified:
    """An HMAC, as the columns say."""
    arrived = call.arrived
    header = arrived.header(scheme.header)
    timestamp = ""
    if scheme.timestamp.startswith("element:"):
        wanted = scheme.timestamp.partition(":")[2]
        elements = _elements(header)
        timestamp = next((value for name, value in elements if name == wanted), "")
        given = [value for name, value in elements if f"{name}=" == scheme.prefix]
    else:
        if scheme.timestamp:
            timestamp = arrived.header(scheme.timestamp)
        parts = header.split(scheme.separator) if scheme.separator else [header.strip()]
        given = [part.removeprefix(scheme.prefix) for part in parts if part.startswith(scheme.prefix)]
    signed_at = call.in_time(_moment(timestamp, scheme.unit)) if scheme.timestamp else None
    urls = arrived.urls if "{url}" in scheme.signed else ("",)
    fits = False
    for secret in call.secrets:
        for url in urls:
            right = _mac(secret, _text(scheme.signed, timestamp, url, arrived.body), scheme.algorithm)
            for one in given:
                fits |= _same(one, right, scheme.encoding)
    if not fits:
        raise _none_fits()
    return Verified(signed_at)


def _text(signed: str, timestamp: str, url: str, body: bytes) -> bytes:
    parts = {"timestamp": timestamp.encode(), "url": url.encode(), "body": body}
    return b"".join(
        parts[part[1:-1]] if part.startswith("{") else part.encode()
        for part in re.split(r"(\{\w+\})", signed)
    )


# ---- those that say more --------------------------------------------------------------------------------


def _standard(_scheme: Scheme, call: Call) -> Verified:
    """Standard Webhooks 1.0: `v1` is an HMAC under a Base64 secret, `v1a` an Ed25519 signature; svix-… is the older name."""
    arrived = call.arrived
    family = "webhook" if "webhook-signature" in arrived.headers else "svix"
    id_ = arrived.header(f"{family}-id")
    timestamp = arrived.header(f"{family}-timestamp")
    signed_at = call.in_time(_moment(timestamp, "s"))
    message = f"{id_}.{timestamp}.".encode() + arrived.body
    given = [part.partition(",") for part in arrived.header(f"{family}-signature").split(" ")]
    fits = False
    for secret in call.secrets:
        for version, _, signature in given:
            if version == "v1" and not secret.startswith("whpk_"):
                fits |= _same(signature, _mac(_base64_secret(secret), message, "sha256"), "base64")
            elif version == "v1a" and secret.startswith("whpk_"):
                fits |= _ed25519_fits(secret.removeprefix("whpk_"), signature, message)
    if not fits:
        raise _none_fits()
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
        public.verify(_decoded(signature), message)
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
            fits |= _same(given, _mac(secret, url.encode() + fields, algorithm), "base64")
    if not fits:
        raise _none_fits()
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
            fits |= _same(given, _mac(secret, url.encode() + fields, "sha1"), "base64")
    if not fits:
        raise _none_fits()
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
    signed_at = call.in_time(_moment(str(timestamp), "s"))
    fits = False
    for secret in call.secrets:
        fits |= _same(given, _mac(secret, f"{timestamp}{token}".encode(), "sha256"), "hex")
    if not fits:
        raise _none_fits()
    return Verified(signed_at, once=token)


def _sendgrid(scheme: Scheme, call: Call) -> Verified:
    """SendGrid's event webhook: ECDSA P-256 over the time and the body."""
    arrived = call.arrived
    timestamp = arrived.header(scheme.timestamp)
    signed_at = call.in_time(_moment(timestamp, "s"))
    message = timestamp.encode() + arrived.body
    signature = _decoded(arrived.header(scheme.header))
    for secret in call.secrets:
        try:
            key = serialization.load_der_public_key(base64.b64decode(secret))
            if isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
                return Verified(signed_at)
        except (ValueError, binascii.Error, InvalidSignature):
            continue
    raise _none_fits()


_HUBSPOT_DECODED = {f"%{ord(c):02X}": c for c in ":/?@!$'()*,;"}


def _hubspot(_scheme: Scheme, call: Call) -> Verified:
    """HubSpot: version 3 where it is there; 1 and 2 are plain hashes that begin with the secret."""
    arrived = call.arrived
    body = arrived.body
    if "x-hubspot-signature-v3" in arrived.headers:
        timestamp = arrived.header("x-hubspot-request-timestamp")
        signed_at = call.in_time(_moment(timestamp, "ms"))
        given = arrived.header("x-hubspot-signature-v3")
        fits = False
        for secret in call.secrets:
            for url in arrived.urls:
                for each in (url, re.sub("%[0-9A-Fa-f]{2}", _hubspot_letter, url)):
                    text = arrived.method.encode() + each.encode() + body + timestamp.encode()
                    fits |= _same(given, _mac(secret, text, "sha256"), "base64")
        if not fits:
            raise _none_fits()
        return Verified(signed_at)
    given = arrived.header("x-hubspot-signature")
    version = arrived.headers.get("x-hubspot-signature-version", "")
    fits = False
    for secret in call.secrets:
        if version in ("", "v1"):
            fits |= _same(given, hashlib.sha256(secret.encode() + body).digest(), "hex")
        if version in ("", "v2"):
            for url in arrived.urls:
                text = (secret + arrived.method + url).encode() + body
                fits |= _same(given, hashlib.sha256(text).digest(), "hex")
    if not fits:
        raise _none_fits()
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
        signature = _decoded(str(message["Signature"]))
        topic, address = str(message["TopicArn"]), str(message["SigningCertURL"])
        signed_at = _moment(str(message["Timestamp"]), "rfc3339")
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
    raise _none_fits()


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
        # SNS tries again for up to an hour, and for HTTPS up to 23 days where so set, under the first signature.
        Scheme(name="sns", meaning="Amazon SNS: the topic's ARN", by=_sns, tolerance_s=_HOURS),
        Scheme(name="basic", meaning="HTTP Basic: user:password", by=_basic),
        Scheme(name="token", meaning="a secret in the address: ?token=…", by=_token),
    )
}
"""Every scheme by its name."""
