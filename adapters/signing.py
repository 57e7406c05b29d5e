"""The engine that verifies webhooks: raw bytes, constant time, several secrets at once; `signatures` is its table."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec

__all__ = [
    "Arrived",
    "Call",
    "Scheme",
    "Unverified",
    "Verified",
    "decoded",
    "mac",
    "moment_of",
    "none_fits",
    "same",
    "verify",
]


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


def same(given: str, right: bytes, encoding: str) -> bool:
    """Compare in constant time, as written: Base64 and hex have spellings that decode to the same bytes."""
    written = right.hex().encode() if encoding == "hex" else base64.b64encode(right)
    return hmac.compare_digest(given.strip().encode(), written)


def decoded(given: str) -> bytes:
    """The bytes of a Base64 in its one right spelling; nothing where it is another."""
    try:
        raw = base64.b64decode(given, validate=True)
    except (ValueError, binascii.Error):
        return b""
    return raw if base64.b64encode(raw) == given.encode() else b""


def mac(secret: str | bytes, message: bytes, algorithm: str) -> bytes:
    key = secret.encode() if isinstance(secret, str) else secret
    return hmac.new(key, message, algorithm).digest()


def none_fits() -> Unverified:
    return Unverified("The signature fits none of the secrets of this endpoint.")


def _elements(header: str) -> list[tuple[str, str]]:
    """`t=1,v1=abc` as pairs."""
    pairs = (part.strip().partition("=") for part in header.split(","))
    return [(name, value) for name, _, value in pairs]


def moment_of(text: str, unit: str) -> datetime:
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
    signed_at = call.in_time(moment_of(timestamp, scheme.unit)) if scheme.timestamp else None
    urls = arrived.urls if "{url}" in scheme.signed else ("",)
    fits = False
    for secret in call.secrets:
        for url in urls:
            right = mac(secret, _text(scheme.signed, timestamp, url, arrived.body), scheme.algorithm)
            for one in given:
                fits |= same(one, right, scheme.encoding)
    if not fits:
        raise none_fits()
    return Verified(signed_at)


def _text(signed: str, timestamp: str, url: str, body: bytes) -> bytes:
    parts = {"timestamp": timestamp.encode(), "url": url.encode(), "body": body}
    return b"".join(
        parts[part[1:-1]] if part.startswith("{") else part.encode()
        for part in re.split(r"(\{\w+\})", signed)
    )
