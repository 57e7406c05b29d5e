"""Endpoints: where vendors deliver to, how they sign, and their secrets, sealed.

A secret is sealed under the content key of a subject of kind `endpoint`, which a bucket key outside the
database wraps: a dump of the database signs nothing.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import orjson
from psycopg_pool import AsyncConnectionPool

from adapters.channels import CHANNELS
from adapters.channels.channel import NAMESPACE
from adapters.keys import KeyFile
from adapters.postgres.subjects import Subjects
from adapters.signatures import SCHEMES
from domain.errors import Invalid, NotFound, Problem, Refused

__all__ = ["Endpoint", "Endpoints"]

CACHED_S = 2.0
"""How long an endpoint that was found is taken at its word: a secret that is taken back works no longer than this."""
TOKENS_KEPT = timedelta(days=30)
_LARGEST_CACHE = 10_000
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}\Z")
_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint; `secrets` only where a delivery is verified."""

    channel: str
    name: str
    scheme: str
    source: str
    url: str = ""
    tolerance_s: float | None = None
    settings: dict[str, str] = {}
    paused_at: datetime | None = None
    created_at: datetime
    secret_count: int = 0
    rotated_at: datetime | None = None  # when the newest secret was given
    until: datetime | None = None  # how long the last of the older ones is still taken
    secrets: tuple[str, ...] = ()


_COLUMNS = "channel, name, scheme, source, url, tolerance_s, settings, paused_at, created_at"
_IN_FORCE = "(valid_until IS NULL OR valid_until > clock_timestamp())"


class Endpoints:
    """The endpoints of one installation, with those asked for lately in memory."""

    def __init__(self, pool: AsyncConnectionPool[Any], subjects: Subjects, keys: KeyFile) -> None:
        self._pool = pool
        self._subjects = subjects
        self._keys = keys
        self._known: dict[tuple[str, str], tuple[float, Endpoint | None]] = {}

    async def add(
        self,
        channel: str,
        name: str,
        secret: str,
        *,
        scheme: str | None = None,
        source: str | None = None,
        url: str = "",
        tolerance_s: float | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Endpoint:
        """Make an endpoint; by default its source is `channel/name` and its scheme the channel's.

        Raises:
            Invalid: no such channel or scheme, or a name, source or setting that cannot be.
            Refused: there is one of this name.
        """
        settings = dict(settings or {})
        scheme = scheme or (CHANNELS[channel].scheme if channel in CHANNELS else "")
        source = source or f"{channel}/{name}"
        _check(channel, name, scheme, source, secret, settings)
        for setting in CHANNELS[channel].settings:
            if setting.secret and setting.name in settings:
                settings[setting.name] = self._keys.digest(settings[setting.name])
        subject, sealed = await self._sealed(channel, name, secret)
        async with self._pool.connection() as conn, conn.transaction():
            made = await (
                await conn.execute(
                    "INSERT INTO touchlog.endpoints (channel, name, scheme, source, url, tolerance_s, settings) "
                    "VALUES (%s, %s, %s, %s, %s, %s, %s::jsonb) ON CONFLICT DO NOTHING RETURNING name",
                    (channel, name, scheme, source, url, tolerance_s, orjson.dumps(settings).decode()),
                )
            ).fetchone()
            if made is None:
                raise Refused(
                    f"There is an endpoint {channel}/{name}; `touchlog endpoints rotate` gives it another secret."
                )
            await self._insert(conn, channel, name, subject, sealed)
        self._known.pop((channel, name), None)
        return await self.get(channel, name)

    async def rotate(self, channel: str, name: str, secret: str, *, keep: timedelta) -> Endpoint:
        """Give an endpoint another secret; the older ones are taken for *keep* longer, and not at all where it is zero.

        Raises:
            NotFound: there is no such endpoint.
        """
        await self.get(channel, name)
        if not secret:
            raise Invalid([Problem("/secret", "The secret is empty.", "empty")])
        subject, sealed = await self._sealed(channel, name, secret)
        async with self._pool.connection() as conn, conn.transaction():
            await conn.execute(
                "UPDATE touchlog.endpoint_secrets SET valid_until = least(coalesce(valid_until, 'infinity'), clock_timestamp() + %s) "
                "WHERE channel = %s AND name = %s",
                (keep, channel, name),
            )
            await self._insert(conn, channel, name, subject, sealed)
            await conn.execute(
                f"DELETE FROM touchlog.endpoint_secrets WHERE channel = %s AND name = %s AND NOT {_IN_FORCE}",  # noqa: S608 - our own words
                (channel, name),
            )
        self._known.pop((channel, name), None)
        return await self.get(channel, name)

    async def pause(self, channel: str, name: str, *, paused: bool) -> Endpoint:
        """Take no deliveries for now (they are answered 503, so that the vendor tries again), or take them again.

        Raises:
            NotFound: there is no such endpoint.
        """
        async with self._pool.connection() as conn:
            done = await conn.execute(
                "UPDATE touchlog.endpoints SET paused_at = CASE WHEN %s THEN coalesce(paused_at, clock_timestamp()) END "
                "WHERE channel = %s AND name = %s",
                (paused, channel, name),
            )
        if not done.rowcount:
            raise _no_endpoint(channel, name)
        self._known.pop((channel, name), None)
        return await self.get(channel, name)

    async def list(self) -> list[Endpoint]:
        """All endpoints, without secrets."""
        async with self._pool.connection() as conn:
            rows = await (
                await conn.execute(
                    f"SELECT {_COLUMNS}, s.* FROM touchlog.endpoints e, LATERAL (SELECT count(*), max(created_at), max(valid_until) "  # noqa: S608 - our own words
                    "FROM touchlog.endpoint_secrets s WHERE s.channel = e.channel AND s.name = e.name "
                    f"AND {_IN_FORCE}) s ORDER BY channel, name"
                )
            ).fetchall()
        return [
            msgspec.structs.replace(_endpoint(row[:-3], row[-3], ()), rotated_at=row[-2], until=row[-1])
            for row in rows
        ]

    async def get(self, channel: str, name: str) -> Endpoint:
        """One endpoint, without secrets.

        Raises:
            NotFound: there is no such endpoint.
        """
        for one in await self.list():
            if (one.channel, one.name) == (channel, name):
                return one
        raise _no_endpoint(channel, name)

    async def with_secrets(self, channel: str, name: str) -> Endpoint | None:
        """One endpoint with the secrets in force; None where there is none."""
        now_s = time.monotonic()
        seen_s, known = self._known.get((channel, name), (-CACHED_S, None))
        if now_s - seen_s < CACHED_S:
            return known
        found = await self._read(channel, name)
        if len(self._known) >= _LARGEST_CACHE:
            self._known.clear()
        self._known[channel, name] = (now_s, found)
        return found

    async def _read(self, channel: str, name: str) -> Endpoint | None:
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(
                    f"SELECT {_COLUMNS} FROM touchlog.endpoints WHERE channel = %s AND name = %s",  # noqa: S608 - our own words
                    (channel, name),
                )
            ).fetchone()
            if row is None:
                return None
            sealed = await (
                await conn.execute(
                    f"SELECT key_subject, secret FROM touchlog.endpoint_secrets WHERE channel = %s AND name = %s AND {_IN_FORCE} "  # noqa: S608 - our own words
                    "ORDER BY id DESC",
                    (channel, name),
                )
            ).fetchall()
        ciphers = await self._subjects.ciphers(str(subject) for subject, _ in sealed)
        secrets = []
        for subject, secret in sealed:
            cipher = ciphers[str(subject)]
            if cipher is not None:
                secrets.append(cipher.decrypt(secret[:12], secret[12:], _bound(channel, name)).decode())
        return _endpoint(row, len(secrets), tuple(secrets))

    async def once(self, endpoint: Endpoint, token: str, body: bytes) -> bool:
        """Whether *token* comes for the first time, or with the very body that it came with first."""
        hashed = self._keys.payload_hash(f"{endpoint.channel}\x00{endpoint.name}\x00{token}".encode())
        told = self._keys.payload_hash(body)
        async with self._pool.connection() as conn:
            await conn.execute(
                "INSERT INTO touchlog.endpoint_tokens (token, body) VALUES (%s, %s) ON CONFLICT DO NOTHING",
                (hashed, told),
            )
            row = await (
                await conn.execute("SELECT body FROM touchlog.endpoint_tokens WHERE token = %s", (hashed,))
            ).fetchone()
            await conn.execute(
                "DELETE FROM touchlog.endpoint_tokens WHERE token IN (SELECT token FROM touchlog.endpoint_tokens "
                "WHERE seen_at < clock_timestamp() - %s LIMIT 100)",
                (TOKENS_KEPT,),
            )
        return row is not None and bytes(row[0]) == told

    async def _sealed(self, channel: str, name: str, secret: str) -> tuple[bytes, bytes]:
        named = ("endpoint", "", f"{channel}/{name}")
        keys = (await self._subjects.resolve({named: None}))[named]
        nonce = os.urandom(12)
        return keys.subject, nonce + keys.content.encrypt(nonce, secret.encode(), _bound(channel, name))

    async def _insert(self, conn: Any, channel: str, name: str, subject: bytes, sealed: bytes) -> None:
        await conn.execute(
            "INSERT INTO touchlog.endpoint_secrets (channel, name, key_subject, secret) "
            "VALUES (%s, %s, encode(%s, 'hex')::uuid, %s)",
            (channel, name, subject, sealed),
        )


def _bound(channel: str, name: str) -> bytes:
    """A secret opens for its own endpoint only."""
    return f"endpoint\x00{channel}\x00{name}".encode()


def _no_endpoint(channel: str, name: str) -> NotFound:
    return NotFound(f"There is no endpoint {channel}/{name}; `touchlog endpoints list` shows them.")


def _endpoint(row: Any, count: int, secrets: tuple[str, ...]) -> Endpoint:
    return Endpoint(
        channel=row[0],
        name=row[1],
        scheme=row[2],
        source=row[3],
        url=row[4],
        tolerance_s=row[5],
        settings=row[6],
        paused_at=row[7],
        created_at=row[8].astimezone(UTC),
        secret_count=count,
        secrets=secrets,
    )


def _check(
    channel: str, name: str, scheme: str, source: str, secret: str, settings: Mapping[str, str]
) -> None:
    problems = []
    found = CHANNELS.get(channel)
    if found is None:
        known = ", ".join(sorted(CHANNELS))
        problems.append(
            Problem("/channel", f"There is no channel '{channel}'; there are {known}.", "not_allowed")
        )
    if scheme not in SCHEMES:
        known = ", ".join(SCHEMES)
        problems.append(
            Problem("/scheme", f"Say how it is signed with --scheme: one of {known}.", "not_allowed")
        )
    if not _NAME.match(name):
        problems.append(
            Problem("/name", "A name is of lower-case letters, digits, - and _; at most 64.", "not_allowed")
        )
    if not source.strip() or len(source) > 1024 or source.startswith("touchlog/"):
        problems.append(Problem("/source", "A source is a text of at most 1,024 characters.", "not_allowed"))
    if not secret:
        problems.append(Problem("/secret", "The secret is empty: give what the vendor shows.", "empty"))
    if found is not None:
        taken = {setting.name for setting in (*found.settings, NAMESPACE)}
        problems += [
            Problem(
                "/settings",
                f"The channel {channel} has no setting '{given}'; it has {', '.join(sorted(taken)) or 'none'}.",
                "not_allowed",
            )
            for given in settings
            if given not in taken
        ]
    if (namespace := settings.get(NAMESPACE.name)) is not None and not _NAMESPACE.fullmatch(namespace):
        problems.append(
            Problem(
                "/settings/namespace",
                "A namespace is of letters, digits, - . and _; at most 64.",
                "not_allowed",
            )
        )
    if problems:
        raise Invalid(problems)
