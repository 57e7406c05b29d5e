"""API keys: who may append and who may ask; made once, shown once, revoked within seconds.

A key is `tl_<8 hex digits>_<43 characters>`: the first two parts are its id, which logs and records
name, the last part is 256 random bits. The database holds a SHA-256 of the whole (no slow hash is
needed for random bits) and a bcrypt, because that is what nats-server asks for.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import bcrypt
import msgspec
import psycopg
import structlog
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from adapters.principal import Principal
from domain.errors import Invalid, NotFound, Problem

__all__ = ["ROLES", "ApiKey", "ApiKeys", "NewKey"]

ROLES = ("adapter", "agent", "analyst", "officer", "admin")
CACHED_S = 4.0
"""How long a key that was found is taken at its word: a revoked one works no longer than this."""
TRUSTED_WITHOUT_DATABASE_S = 60.0
"""While the database does not answer nothing can be read or recorded; who waits for it need not sign in anew."""
_UNKNOWN_CACHED_S = 1.0
_LARGEST_CACHE = 10_000
_FORM = re.compile(r"(tl_[0-9a-f]{8})_[A-Za-z0-9_-]{43}\Z")
_ADMIN_LOCK = 7_021_905_117_300_002

log = structlog.get_logger()


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key, for people; the key itself is known to nobody."""

    key_id: str
    role: str
    sources: tuple[str, ...]
    name: str
    created_at: datetime
    revoked_at: datetime | None = None


class NewKey(NamedTuple):
    """A key that was just made: the only time that it is seen."""

    key_id: str
    key: str


class _Known(NamedTuple):
    digest: bytes
    principal: Principal | None
    seen_at_s: float


_NOBODY = _Known(b"\x00" * 32, None, 0.0)


class ApiKeys:
    """The keys of one installation, with those seen lately in memory."""

    def __init__(self, pool: AsyncConnectionPool[Any]) -> None:
        self._pool = pool
        self._known: dict[str, _Known] = {}

    async def authenticate(self, key: str) -> Principal | None:
        """Say whose key this is; None for one that is unknown or revoked."""
        form = _FORM.match(key)
        if form is None:
            return None
        known = await self._look_up(form[1])
        digest = hashlib.sha256(key.encode()).digest()
        return known.principal if hmac.compare_digest(digest, known.digest) else None

    async def principal(self, key_id: str) -> Principal | None:
        """Say what the key with this id may do now; None once it is revoked. For sessions, which were signed."""
        return (await self._look_up(key_id)).principal

    async def poster(self, key_id: str) -> Principal | None:
        """Say whose rights an event had that came with the key of this id, revoked or not; None where there is no such key."""
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute("SELECT role, sources FROM touchlog.api_keys WHERE key_id = %s", (key_id,))
            ).fetchone()
        return None if row is None else Principal(key_id, row[0], tuple(row[1]))

    async def _look_up(self, key_id: str) -> _Known:
        now_s = time.monotonic()
        known = self._known.get(key_id)
        if known is not None and now_s - known.seen_at_s < (
            CACHED_S if known.principal else _UNKNOWN_CACHED_S
        ):
            return known
        try:
            async with self._pool.connection(timeout=5) as conn:
                row = await (
                    await conn.execute(
                        "SELECT secret, role, sources FROM touchlog.api_keys WHERE key_id = %s AND revoked_at IS NULL",
                        (key_id,),
                    )
                ).fetchone()
        except (psycopg.OperationalError, PoolTimeout):
            if known is not None and known.principal and now_s - known.seen_at_s < TRUSTED_WITHOUT_DATABASE_S:
                return known
            raise
        if len(self._known) >= _LARGEST_CACHE:
            self._known.clear()
        if row is None:
            found = _NOBODY._replace(seen_at_s=now_s)
        else:
            found = _Known(bytes(row[0]), Principal(key_id, row[1], tuple(row[2])), now_s)
        self._known[key_id] = found
        return found

    async def add(self, role: str, *, sources: Sequence[str] = (), name: str = "") -> NewKey:
        """Make a key.

        Args:
            sources: of an adapter: where it may append from; one that ends in `*` stands for all that begin so.

        Raises:
            Invalid: no such role, an adapter without sources, or sources for another role.
        """
        _check(role, sources)
        key = _random_key()
        async with self._pool.connection() as conn:
            await self._insert(conn, key, role, sources, name)
        return NewKey(_key_id(key), key)

    async def _insert(
        self, conn: psycopg.AsyncConnection[Any], key: str, role: str, sources: Sequence[str], name: str
    ) -> None:
        await conn.execute(
            "INSERT INTO touchlog.api_keys (key_id, role, sources, name, secret, bcrypt) VALUES (%s, %s, %s, %s, %s, %s)",
            (_key_id(key), role, list(sources), name, hashlib.sha256(key.encode()).digest(), _bcrypt(key)),
        )
        self._known.pop(_key_id(key), None)

    async def list(self) -> list[ApiKey]:
        """All keys, the oldest first."""
        async with self._pool.connection() as conn:
            rows = await (
                await conn.execute(
                    "SELECT key_id, role, sources, name, created_at, revoked_at FROM touchlog.api_keys "
                    "ORDER BY created_at, key_id"
                )
            ).fetchall()
        return [
            ApiKey(key_id=r[0], role=r[1], sources=tuple(r[2]), name=r[3], created_at=r[4], revoked_at=r[5])
            for r in rows
        ]

    async def revoke(self, key_id: str) -> None:
        """Take a key back; what it recorded stays.

        Raises:
            NotFound: there is no such key, or it was revoked before.
        """
        key_id = _key_id(key_id)
        async with self._pool.connection() as conn:
            done = await conn.execute(
                "UPDATE touchlog.api_keys SET revoked_at = clock_timestamp() WHERE key_id = %s AND revoked_at IS NULL",
                (key_id,),
            )
        self._known.pop(key_id, None)
        if done.rowcount != 1:
            raise NotFound(f"No key in force has the id {key_id}; `touchlog keys list` shows them all.")

    async def nats_users(self) -> dict[str, str]:
        """The keys that may append, as nats-server wants them: id and bcrypt."""
        async with self._pool.connection() as conn:
            rows = await (
                await conn.execute(
                    "SELECT key_id, bcrypt FROM touchlog.api_keys "
                    "WHERE revoked_at IS NULL AND role IN ('adapter', 'admin') ORDER BY key_id"
                )
            ).fetchall()
        return dict(rows)

    async def ensure_admin(self, file: Path) -> None:
        """See to it that *file* (mode 0600) holds an admin's key that works.

        A missing file, or one whose key was revoked, gets a new key; the key of a file that this database
        has never seen is made known to it. Several processes may call at once.
        """
        async with self._pool.connection() as conn, conn.transaction():
            await conn.execute("SELECT pg_advisory_xact_lock(%s)", (_ADMIN_LOCK,))
            key = _read(file)
            if _FORM.match(key):
                row = await (
                    await conn.execute(
                        "SELECT secret, revoked_at FROM touchlog.api_keys WHERE key_id = %s", (_key_id(key),)
                    )
                ).fetchone()
                if row is None:
                    await self._insert(conn, key, "admin", (), "admin.key")
                    return
                if row[1] is None and hmac.compare_digest(
                    bytes(row[0]), hashlib.sha256(key.encode()).digest()
                ):
                    return
            key = _random_key()
            await self._insert(conn, key, "admin", (), "admin.key")
            _write_private(file, key.encode() + b"\n")
            log.info("admin_key_written", key_id=_key_id(key))


def _random_key() -> str:
    return f"tl_{secrets.token_hex(4)}_{secrets.token_urlsafe(32)}"


def _key_id(key: str) -> str:
    """The id that a whole key begins with; an id is its own."""
    return key[:11]


def _bcrypt(key: str) -> str:
    """The least cost is enough, and quick: nobody finds 256 random bits by guessing."""
    return bcrypt.hashpw(key.encode(), bcrypt.gensalt(rounds=4, prefix=b"2a")).decode()


def _check(role: str, sources: Sequence[str]) -> None:
    problems = []
    if role not in ROLES:
        problems.append(
            Problem("/role", f"There is no role '{role}'; there are {', '.join(ROLES)}.", "not_allowed")
        )
    if role == "adapter" and not sources:
        problems.append(
            Problem(
                "/sources",
                "A key of role adapter needs the sources it may append from, e.g. --source shop; * is any.",
                "missing",
            )
        )
    if role != "adapter" and sources:
        problems.append(
            Problem(
                "/sources", f"A key of role {role} takes no sources; only adapters have them.", "not_allowed"
            )
        )
    for place, source in enumerate(sources):
        if not source.strip() or len(source) > 1024 or "*" in source[:-1]:
            problems.append(
                Problem(
                    f"/sources/{place}",
                    "A source is a text of at most 1,024 characters; * may stand at its end only.",
                    "not_allowed",
                )
            )
    if problems:
        raise Invalid(problems)


def _read(file: Path) -> str:
    return file.read_text().strip() if file.exists() else ""


def _write_private(file: Path, content: bytes) -> None:
    """Put *file* in place whole, with mode 0600 from its first byte on, in place of an earlier one."""
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as written:
        written.write(content)  # all of it: os.write would take what there is room for
        written.flush()
        os.fsync(written.fileno())
    draft.replace(file)
