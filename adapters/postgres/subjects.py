"""Identifiers to subjects: looked up by keyed hash, made where they are new, with their keys.

One row and one statement make a subject with its lookup, its wrapped keys and its sealed value; a
subject of identifiers that were all seen lately costs no statement at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg_pool import AsyncConnectionPool

from adapters.keys import KeyFile, SubjectKeys
from adapters.postgres import arrays
from domain.identity import RULE_VERSION, kind_of

__all__ = ["Named", "Subject", "Subjects", "told_subjects"]

Named = tuple[str, str, str]
"""(kind, namespace, normalised value): an identifier as it is looked up."""


class Subject(NamedTuple):
    """What is known of one subject; `value` is None once it was erased."""

    subject: UUID
    kind: str
    namespace: str
    value: str | None


_FIND = b"SELECT lookup, subject, bucket_key, wrapped FROM touchlog.subjects WHERE lookup = ANY(%b::bytea[])"
_MAKE = (
    b"INSERT INTO touchlog.subjects (subject, lookup, kind, namespace, rule, bucket_key, wrapped, value) "
    b"SELECT u.subject, u.lookup, u.kind, u.namespace, "
    + str(RULE_VERSION).encode()
    + b", u.bucket_key, u.wrapped, u.value "
    b"FROM unnest(%b::uuid[], %b::bytea[], %b::text[], %b::text[], %b::bytea[], %b::bytea[], %b::bytea[]) "
    b"AS u (subject, lookup, kind, namespace, bucket_key, wrapped, value) "
    b"ON CONFLICT (lookup) DO NOTHING RETURNING lookup"
)

_DESCRIBE = (
    b"SELECT subject, kind, namespace, value, bucket_key, wrapped FROM touchlog.subjects "
    b"WHERE subject = ANY(%b::uuid[])"
)


class Subjects:
    """The registry of subjects, with the subjects seen lately in memory.

    Args:
        cached: how many subjects each of two generations holds; about half a KiB each.
    """

    def __init__(self, pool: AsyncConnectionPool[Any], keys: KeyFile, *, cached: int = 300_000) -> None:
        self._pool = pool
        self._keys = keys
        self._cached = cached
        self._young: dict[Named, SubjectKeys] = {}
        self._old: dict[Named, SubjectKeys] = {}
        self._read_keys: dict[bytes, bytes | None] = {}
        self.erasures = 0
        self.forgotten = 0  # how often: what others keep of subjects holds until then

    async def forget(self) -> None:
        """Drop everything from memory and read how many erasures there were: the next resolution is fresh."""
        self._young, self._old, self._read_keys = {}, {}, {}
        self.forgotten += 1
        async with self._pool.connection() as conn:
            row = await (await conn.execute("SELECT erasures FROM touchpoint_log.head")).fetchone()
        assert row is not None
        self.erasures = row[0]

    def known(self, named: Named) -> SubjectKeys | None:
        """The subject of an identifier when it is in memory."""
        found = self._young.get(named)
        if found is None:
            found = self._old.get(named)
            if found is not None:
                self._keep(named, found)
        return found

    def _keep(self, named: Named, keys: SubjectKeys) -> None:
        if len(self._young) >= self._cached:
            self._old, self._young = self._young, {}
        self._young[named] = keys

    async def resolve(self, wanted: Iterable[Named]) -> dict[Named, SubjectKeys]:
        """The subject of every identifier of *wanted*, made where it is new."""
        found: dict[Named, SubjectKeys] = {}
        missing: dict[bytes, Named] = {}
        young = self._young.get
        for named in wanted:
            keys = young(named) or self.known(named)
            if keys is not None:
                found[named] = keys
            elif named not in found:
                missing[self._keys.lookup(*named)] = named
        if not missing:
            return found
        async with self._pool.connection() as conn:
            await self._find(conn, missing, found)
            if missing:
                await self._make(conn, missing, found)
            if missing:  # others made them between the two statements
                await self._find(conn, missing, found)
        assert not missing, "a subject that conflicts must be found"
        return found

    async def _find(self, conn: Any, missing: dict[bytes, Named], found: dict[Named, SubjectKeys]) -> None:
        async with conn.cursor(binary=True) as curs:
            await curs.execute(_FIND, (arrays.byteas(list(missing)),), prepare=True)
            for lookup, subject, bucket, wrapped in await curs.fetchall():
                named = missing.pop(bytes(lookup))
                keys = self._open(subject.bytes, bytes(bucket), bytes(wrapped))
                found[named] = keys
                self._keep(named, keys)

    def _open(self, subject: bytes, bucket: bytes, wrapped: bytes) -> SubjectKeys:
        content = self._keys.unwrap(subject, bucket, wrapped)
        assert content is not None, "an identifier that can be looked up has its keys"
        return SubjectKeys(subject, content[:32])

    async def _make(self, conn: Any, missing: dict[bytes, Named], found: dict[Named, SubjectKeys]) -> None:
        """Make the subjects of *missing*, in the order of their lookups, so that two makers cannot wait for each other."""
        rows = []
        made: dict[bytes, SubjectKeys] = {}
        random = os.urandom(len(missing) * 104)
        for i, lookup in enumerate(sorted(missing)):
            kind, namespace, value = missing[lookup]
            raw = random[i * 104 : i * 104 + 104]
            subject = _uuid4(raw[:16])
            secret = raw[16:80]
            bucket, wrapped = self._keys.wrap(subject, secret, raw[92:])
            content = AESGCM(secret[:32])
            nonce = raw[80:92]
            sealed = nonce + content.encrypt(nonce, value.encode(), b"identifier\x00" + subject)
            rows.append((subject, lookup, kind, namespace, bucket, wrapped, sealed))
            made[lookup] = SubjectKeys(subject, secret[:32])
        columns = list(zip(*rows, strict=True))
        async with conn.cursor(binary=True) as curs:
            await curs.execute(
                _MAKE,
                (
                    arrays.uuids(columns[0]),
                    arrays.byteas(columns[1]),
                    arrays.texts(columns[2]),
                    arrays.texts(columns[3]),
                    arrays.byteas(columns[4]),
                    arrays.byteas(columns[5]),
                    arrays.byteas(columns[6]),
                ),
                prepare=True,
            )
            for (lookup,) in await curs.fetchall():
                named = missing.pop(bytes(lookup))
                found[named] = made[bytes(lookup)]
                self._keep(named, made[bytes(lookup)])

    def lookup(self, named: Named) -> bytes:
        """The keyed hash under which an identifier is looked up; for asking after many at once."""
        return self._keys.lookup(*named)

    async def find(self, named: Named) -> UUID | None:
        """The subject of an identifier, or None: asking makes nothing."""
        keys = self.known(named)
        if keys is not None:
            return UUID(bytes=keys.subject)
        async with self._pool.connection() as conn:
            row = await (
                await conn.execute(
                    "SELECT subject FROM touchlog.subjects WHERE lookup = %s",
                    (self._keys.lookup(*named),),
                    prepare=True,
                )
            ).fetchone()
        return row[0] if row else None

    async def find_all(self, wanted: Iterable[Named]) -> dict[Named, UUID]:
        """The subject of every identifier of *wanted* that has one, in one statement; asking makes nothing."""
        found: dict[Named, UUID] = {}
        missing: dict[bytes, Named] = {}
        for named in wanted:
            keys = self.known(named)
            if keys is not None:
                found[named] = UUID(bytes=keys.subject)
            else:
                missing[self._keys.lookup(*named)] = named
        if missing:
            async with self._pool.connection() as conn, conn.cursor(binary=True) as curs:
                await curs.execute(
                    b"SELECT lookup, subject FROM touchlog.subjects WHERE lookup = ANY(%b::bytea[])",
                    (arrays.byteas(list(missing)),),
                    prepare=True,
                )
                for lookup, subject in await curs.fetchall():
                    found[missing[bytes(lookup)]] = subject
        return found

    async def ciphers(self, subjects: Iterable[str]) -> Mapping[str, AESGCM | None]:
        """The content key of each subject (a UUID's text); None where it was destroyed or never was."""
        wanted = list(dict.fromkeys(subjects))
        raw = {s: UUID(s).bytes for s in wanted}
        unknown = [r for r in raw.values() if r not in self._read_keys]
        if unknown:
            if len(self._read_keys) > self._cached:
                self._read_keys = {}
                unknown = list(raw.values())
            async with self._pool.connection() as conn, conn.cursor(binary=True) as curs:
                await curs.execute(
                    b"SELECT subject, bucket_key, wrapped FROM touchlog.subjects WHERE subject = ANY(%b::uuid[])",
                    (arrays.uuids(unknown),),
                    prepare=True,
                )
                for subject, bucket, wrapped in await curs.fetchall():
                    self._read(subject.bytes, bucket, wrapped)
            for one in unknown:
                self._read_keys.setdefault(one, None)
        found: dict[str, AESGCM | None] = {}
        for text, one in raw.items():
            key = self._read_keys[one]
            found[text] = None if key is None else AESGCM(key)
        return found

    def _read(self, subject: bytes, bucket: bytes, wrapped: bytes) -> None:
        """Remember the content key of a row that was read."""
        content = self._keys.unwrap(subject, bytes(bucket), bytes(wrapped))
        self._read_keys[subject] = None if content is None else content[:32]

    async def describe(self, subjects: Iterable[UUID]) -> dict[UUID, Subject]:
        """Kind, namespace and unsealed value of each subject that exists."""
        wanted = arrays.uuids([subject.bytes for subject in subjects])
        async with self._pool.connection() as conn, conn.cursor(binary=True) as curs:
            await curs.execute(_DESCRIBE, (wanted,), prepare=True)
            rows = await curs.fetchall()
        for subject, _, _, _, bucket, wrapped in rows:
            if subject.bytes not in self._read_keys:
                self._read(subject.bytes, bucket, wrapped)
        ciphers = await self.ciphers(str(r[0]) for r in rows)  # no statement: all were read
        found = {}
        for subject, kind, namespace, value, _, _ in rows:
            cipher = ciphers.get(str(subject))
            plain: str | None = None
            if cipher is not None and value is not None:
                try:
                    plain = cipher.decrypt(value[:12], value[12:], b"identifier\x00" + subject.bytes).decode()
                except InvalidTag:
                    plain = None
            found[subject] = Subject(subject, kind, namespace, plain)
        return found


def told_subjects(subjects: Iterable[Subject]) -> list[dict[str, Any]]:
    """Subjects as answers tell them: in the order of their kinds' priority; a value of null is erased."""
    ordered = sorted(
        subjects, key=lambda s: (kind_of(s.kind).priority, s.kind, s.namespace, s.value or "", s.subject)
    )
    return [
        {"subject": str(s.subject), "kind": s.kind, "namespace": s.namespace, "value": s.value}
        for s in ordered
    ]


def _uuid4(raw: bytes) -> bytes:
    """16 random bytes as a UUID of version 4 (RFC 9562 §5.4)."""
    return raw[:6] + bytes((raw[6] & 0x0F | 0x40,)) + raw[7:8] + bytes((raw[8] & 0x3F | 0x80,)) + raw[9:16]
