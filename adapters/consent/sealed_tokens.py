"""Opaque tokens for links in messages: sealed under a key of the installation, so that they tell nothing and cannot be forged."""

from __future__ import annotations

import base64
import hashlib
import os
from typing import Any, TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from adapters.keys import KeyFile
from domain.errors import NotFound

__all__ = ["Tokens", "fingerprint"]

_NONCE = 12
T = TypeVar("T")


class Tokens:
    """Makes and reads the tokens of one kind of link.

    Args:
        kind: what the links are for; a token of another kind does not open.
    """

    def __init__(self, keys: KeyFile, kind: str) -> None:
        self._cipher = AESGCM(keys.digest(f"{kind} tokens").encode())  # 32 hex digits: 256 bits of key
        self._aad = f"{kind} token 1".encode()

    def sealed(self, content: Any) -> str:
        """A new token; no two are equal."""
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._cipher.encrypt(nonce, msgspec.msgpack.encode(content), self._aad)
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    def opened(self, token: str, type_: type[T]) -> T:
        """What a token holds.

        Raises:
            NotFound: it was not made here.
        """
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            return msgspec.msgpack.decode(
                self._cipher.decrypt(raw[:_NONCE], raw[_NONCE:], self._aad), type=type_
            )
        except (ValueError, InvalidTag, msgspec.DecodeError):
            raise NotFound(
                "This link was not made here, or was cut off on its way. Open it from the message again, or "
                "answer the message with STOP."
            ) from None


def fingerprint(token: str) -> str:
    """Which link was used, for the proof, without the link."""
    return hashlib.sha256(token.encode()).hexdigest()
