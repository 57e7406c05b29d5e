"""The key file and the sealing of personal fields (SEMANTICS §7).

A subject has a content key and an evidence key. They are wrapped by one of 4,096 bucket keys that
live only in this file, outside PostgreSQL, so that destroying a bucket key makes every copy of
what it wrapped worthless, in dead rows, write-ahead log and backups alike.
"""

from __future__ import annotations

import base64
import hashlib
import os
from binascii import b2a_base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import orjson
import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from domain.entry import uuid_text
from domain.errors import Misconfigured

__all__ = [
    "BUCKETS",
    "FINGERPRINT",
    "KeyFile",
    "SubjectKeys",
    "check_keys",
    "open_sealed",
    "seal",
    "seal_encoded",
]

BUCKETS = 4096
FINGERPRINT = "SELECT value FROM touchlog.facts WHERE name = 'key_file'"
"""The statement that asks a database which key file it was sealed with."""
_NONCE = 12  # bytes, NIST SP 800-38D §8.2: 96 bits


class BucketKey(msgspec.Struct, frozen=True):
    """One bucket key: its id (8 bytes, hex) and 32 key bytes (hex)."""

    id: str
    key: str


class _Stored(msgspec.Struct, kw_only=True):
    format: str = "touchlog key file 1"
    warning: str = "Whoever holds this file can read every person's data; without it nobody can. Back it up apart from the database."
    pepper: str
    payload: str
    buckets: list[BucketKey]


class SubjectKeys:
    """The content key of one subject.

    The key is kept, not the cipher: a cipher takes 2.5 kB, and a hundred thousand subjects are kept.
    """

    __slots__ = ("_key", "key_id", "subject")

    def __init__(self, subject: bytes, key: bytes) -> None:
        self.subject = subject
        self.key_id = uuid_text(subject)
        self._key = key

    @property
    def content(self) -> AESGCM:
        """The cipher under the content key; made anew each time (2 µs)."""
        return AESGCM(self._key)


class _Hmac:
    """HMAC-SHA-256 under one key, from states that have read the key already (RFC 2104 §4): half the price of `hmac`'s copies."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = hashlib.sha256().block_size
        padded = (hashlib.sha256(key).digest() if len(key) > block else key).ljust(block, b"\x00")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def of(self, text: bytes) -> bytes:
        """The 32 bytes of *text*'s code."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(text)
        outer.update(inner.digest())
        return outer.digest()


class KeyFile:
    """The keys that live outside PostgreSQL: pepper, payload-hash key and bucket keys."""

    def __init__(self, path: Path, stored: _Stored) -> None:
        self.path = path
        self._stored = stored
        self._pepper = bytes.fromhex(stored.pepper)
        self._payload = hashlib.blake2b(key=bytes.fromhex(stored.payload), digest_size=16)
        self._lookup = _Hmac(self._pepper)
        self._by_id = {bytes.fromhex(b.id): AESGCM(bytes.fromhex(b.key)) for b in stored.buckets}
        self._bucket_ids = [bytes.fromhex(b.id) for b in stored.buckets]

    @property
    def fingerprint(self) -> str:
        """Tells this file from another without telling anything about its keys."""
        return hashlib.sha256(b"touchlog key file\x00" + self._pepper).hexdigest()[:32]

    @classmethod
    def open_or_make(cls, path: Path) -> KeyFile:
        """Open the key file at *path*, or make it with new keys (mode 0600) where there is none.

        Raises:
            Misconfigured: the file is readable by others, or is not a key file.
        """
        if not path.exists():
            stored = _Stored(
                pepper=os.urandom(32).hex(),
                payload=os.urandom(32).hex(),
                buckets=[BucketKey(os.urandom(8).hex(), os.urandom(32).hex()) for _ in range(BUCKETS)],
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_new(path, orjson.dumps(msgspec.to_builtins(stored), option=orjson.OPT_INDENT_2))
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise Misconfigured(
                f"The key file {path} can be read by others than its owner; run: chmod 600 {path}"
            )
        try:
            stored = msgspec.json.decode(path.read_bytes(), type=_Stored)
        except (msgspec.DecodeError, UnicodeDecodeError) as wrong:
            raise Misconfigured(
                f"{path} is not a touchlog key file ({wrong}); restore it from its backup."
            ) from None
        return cls(path, stored)

    @classmethod
    def of_database(cls, path: Path, fingerprint: str | None) -> KeyFile:
        """Open the key file of the database that names *fingerprint*; one that names none yet may have a new file.

        Raises:
            Misconfigured: the file is not there, or is another database's; nothing is made in its place.
        """
        if fingerprint is not None and not path.exists():
            raise Misconfigured(
                f"The key file {path} is not there, and what the database holds about persons opens with it alone (fingerprint "
                f"{fingerprint}). Restore it from its backup, with mode 0600, or set TOUCHLOG_SECRET_FILE to where it is."
            )
        keys = cls.open_or_make(path)
        if fingerprint is not None and keys.fingerprint != fingerprint:
            raise Misconfigured(
                f"The key file {path} does not belong to this database (fingerprint {keys.fingerprint}, "
                f"the database's is {fingerprint}). Restore the right file, or set TOUCHLOG_SECRET_FILE to it."
            )
        return keys

    def payload_hash(self, payload: bytes) -> bytes:
        """Keyed BLAKE2b-128 (RFC 7693) of a payload as its source sent it; 16 bytes."""
        state = self._payload.copy()
        state.update(payload)
        return state.digest()

    def lookup(self, kind: str, namespace: str, value: str) -> bytes:
        """HMAC-SHA-256 (RFC 2104) of a normalised identifier under the pepper, cut to 16 bytes."""
        return self._lookup.of(f"{kind}\x00{namespace}\x00{value}".encode())[:16]

    def token(self, kind: str, text: str) -> int:
        """A keyed hash of a word, for tables in which words are looked for: HMAC-SHA-256, cut to 8 bytes, signed."""
        return int.from_bytes(self._lookup.of(f"\x02{kind}\x00{text}".encode())[:8], "big", signed=True)

    def digest(self, text: str) -> str:
        """A keyed hash of *text* for file names and tokens; 32 hex digits."""
        return self._lookup.of(b"\x01" + text.encode())[:16].hex()

    def wrap(self, subject: bytes, keys: bytes, nonce: bytes | None = None) -> tuple[bytes, bytes]:
        """Wrap the 64 bytes of a subject's keys: (id of the bucket key, nonce and ciphertext).

        Args:
            nonce: 12 fresh random bytes, of one who draws for many at once; None draws them here.
        """
        bucket = self._bucket_ids[int.from_bytes(subject[:2], "big") % BUCKETS]
        nonce = nonce or os.urandom(_NONCE)
        return bucket, nonce + self._by_id[bucket].encrypt(nonce, keys, subject + bucket)

    def unwrap(self, subject: bytes, bucket: bytes, wrapped: bytes) -> bytes | None:
        """The 64 bytes of a subject's keys, or None when their bucket key was destroyed."""
        cipher = self._by_id.get(bucket)
        if cipher is None:
            return None
        try:
            return cipher.decrypt(wrapped[:_NONCE], wrapped[_NONCE:], subject + bucket)
        except InvalidTag:
            raise Misconfigured(
                f"A subject's keys do not open with {self.path}: this key file belongs to another database, or was damaged."
            ) from None


def check_keys(database_url: str, path: Path) -> None:
    """Check, before anything is started, that the key file at *path* opens what a migrated database holds.

    Raises:
        Misconfigured: it is not there, or another database's.
    """
    with psycopg.connect(database_url, autocommit=True) as conn:
        row = conn.execute(FINGERPRINT).fetchone()
    if row is not None:
        KeyFile.of_database(path, row[0])


def _write_new(path: Path, content: bytes) -> None:
    """Write *path* whole or not at all, durably, with mode 0600; an existing file is kept (two first starts race)."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)  # all of it: os.write would take what there is room for
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def associated(event_id: str, type_: str, version: int, group: str, key_id: str) -> bytes:
    """The associated data of a sealed group: it opens only in its own event, type, version and place."""
    return f"{event_id}\x00{type_}\x00{version}\x00{group}\x00{key_id}".encode()


def seal(cipher: AESGCM, value: Any, aad: bytes, nonce: bytes) -> bytes:
    """Base64 of nonce and AES-256-GCM ciphertext of *value*'s canonical JSON."""
    return seal_encoded(cipher, orjson.dumps(value, option=orjson.OPT_SORT_KEYS), aad, nonce)


def seal_encoded(cipher: AESGCM, plain: bytes, aad: bytes, nonce: bytes) -> bytes:
    """The same of a value's canonical JSON."""
    return b2a_base64(nonce + cipher.encrypt(nonce, plain, aad), newline=False)


def open_sealed(cipher: AESGCM, sealed: str | bytes, aad: bytes) -> Any:
    """The value that was sealed; raises cryptography's InvalidTag for bytes that were tampered with."""
    raw = base64.b64decode(sealed)
    return orjson.loads(cipher.decrypt(raw[:_NONCE], raw[_NONCE:], aad))


def nonces(count: int) -> Callable[[], bytes]:
    """A source of fresh nonces, *count* from one call of the operating system."""
    pool: list[bytes] = []

    def fresh() -> bytes:
        if not pool:
            drawn = os.urandom(_NONCE * count)
            pool.extend([drawn[at : at + _NONCE] for at in range(0, len(drawn), _NONCE)])
        return pool.pop()

    return fresh
