"""The subjects of many persons at once, as resolved now: what lists are made from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from psycopg_pool import AsyncConnectionPool

__all__ = ["OWNERS_AT", "members_now"]

OWNERS_AT = """
WITH owner AS MATERIALIZED (
    SELECT unnest(%(subjects)s::uuid[]) AS subject UNION SELECT o.reference FROM (
        SELECT DISTINCT ON (r.reference) r.reference, r.subject FROM read.references r
         WHERE r.reference IN (SELECT c.reference FROM read.references c WHERE c.subject = ANY(%(subjects)s))
           AND r.known_from <= %(known_at)s AND (r.known_to IS NULL OR r.known_to > %(known_at)s)
           AND (%(as_of)s::timestamptz IS NULL OR r.occurred_at <= %(as_of)s)
         ORDER BY r.reference, r.occurred_at, r.source, r.source_id) o
     WHERE o.subject = ANY(%(subjects)s)
)
"""
"""Begins a statement: whose rows are a person's at one moment: its subjects, and the orders and cases that are its own."""


async def members_now(pool: AsyncConnectionPool[Any], persons: Iterable[UUID]) -> dict[UUID, list[UUID]]:
    """The subjects of each person (named by its smallest subject); one that was never linked is its own."""
    found: dict[UUID, list[UUID]] = {person: [] for person in persons}
    async with pool.connection() as conn:
        rows = await (
            await conn.execute(
                "SELECT person, subject FROM read.identities WHERE person = ANY(%s) ORDER BY subject",
                (list(found),),
                prepare=True,
            )
        ).fetchall()
    for person, subject in rows:
        found[person].append(subject)
    return {person: subjects or [person] for person, subjects in found.items()}
