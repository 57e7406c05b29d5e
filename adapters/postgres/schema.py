"""Migrations: numbered SQL files, applied once and in order by the owner of the database."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg import sql

from domain.errors import Misconfigured

__all__ = ["APP_ROLE", "LOGS", "migrate", "pending"]

LOGS = ("touchpoint_log", "records_log")
"""The two logs of one shape, each a schema of its own: contacts with customers, and acts of operation."""

APP_ROLE = "touchlog_app"
MINIMUM_VERSION = 150000
_HERE = Path(__file__).parent
_REPLACED = frozenset({"touchlog/0013_rebuild_rights"})
"""Migrations that databases from before the first release may have, and that later ones took the place of."""
_LOCK = 7_021_905_117_300_001  # any number, the same in every touchlog


def _steps() -> Iterator[tuple[str, str, str]]:
    """(name, search path, SQL) of every migration in order: both logs first, then what stands beside them."""
    for schema in LOGS:
        for file in sorted((_HERE / "log_migrations").glob("*.sql")):
            text = file.read_text("utf-8").replace(":schema", schema)
            yield f"{schema}/{file.stem}", schema, text
    for file in sorted((_HERE / "migrations").glob("*.sql")):
        yield f"touchlog/{file.stem}", "touchlog", file.read_text("utf-8")


def _prepare(conn: psycopg.Connection) -> None:
    if conn.info.server_version < MINIMUM_VERSION:
        raise Misconfigured(
            f"touchlog needs PostgreSQL 15 or newer; this server is {conn.info.parameter_status('server_version')}. "
            "Point TOUCHLOG_DATABASE_URL to a newer one, or leave it out to use the embedded server."
        )
    for role in (APP_ROLE, "touchlog_analyst"):
        conn.execute(
            sql.SQL(
                "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {name}) THEN CREATE ROLE {role} NOLOGIN; END IF; "
                "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            ).format(name=sql.Literal(role), role=sql.Identifier(role))
        )
    conn.execute(
        "DO $$ BEGIN IF NOT pg_has_role(current_user, 'touchlog_app', 'SET') THEN "
        "EXECUTE format('GRANT touchlog_app TO %I', current_user); END IF; "
        "EXCEPTION WHEN undefined_object OR invalid_parameter_value THEN "
        "EXECUTE format('GRANT touchlog_app TO %I', current_user); END $$"
    )
    for schema in (*LOGS, "touchlog", "read"):
        conn.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
    conn.execute(
        "CREATE TABLE IF NOT EXISTS touchlog.migrations (name text PRIMARY KEY, digest text NOT NULL, "
        "applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
    )


def _applied(conn: psycopg.Connection) -> set[str]:
    known = conn.execute("SELECT to_regclass('touchlog.migrations') IS NOT NULL").fetchone()
    if not known or not known[0]:
        return set()
    return {name for (name,) in conn.execute("SELECT name FROM touchlog.migrations")}


def _refuse_newer(conn: psycopg.Connection) -> None:
    """Leave a database alone that a newer version has changed: this one does not know what its tables mean by now.

    Raises:
        Misconfigured: names what it does not know.
    """
    unknown = sorted(_applied(conn) - {name for name, _, _ in _steps()} - _REPLACED)
    if unknown:
        raise Misconfigured(
            f"The database was migrated by a newer touchlog: this version does not know {', '.join(unknown)}. Start the newer "
            "version, or point to a database restored from a backup made before; nothing was changed."
        )


def pending(url: str) -> list[str]:
    """The migrations that `migrate` would apply, by name."""
    with psycopg.connect(url, autocommit=True) as conn:
        applied = _applied(conn)
    return [name for name, _, _ in _steps() if name not in applied]


def migrate(url: str) -> list[str]:
    """Bring the database at *url* to the shape of this version; returns the names of what was applied.

    Several may call at once: one does the work, the others wait. Each file is applied in one
    transaction of its own with its record.

    Raises:
        Misconfigured: the server is too old, the role may not create roles and schemas, a file
            that was applied before has been changed since, or a newer touchlog has migrated the database.
    """
    done: list[str] = []
    try:
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            _refuse_newer(conn)
            _prepare(conn)
            applied: dict[str, str] = dict(
                conn.execute("SELECT name, digest FROM touchlog.migrations").fetchall()
            )
            for name, schema, text in _steps():
                digest = hashlib.sha256(text.encode()).hexdigest()
                if name in applied:
                    if applied[name] != digest:
                        raise Misconfigured(
                            f"Migration {name} was applied with another text than this version carries. "
                            "A migration is never edited: restore its file, and put the change into a new one."
                        )
                    continue
                with conn.transaction():
                    conn.execute(
                        sql.SQL("SET LOCAL search_path = {}, pg_catalog").format(sql.Identifier(schema))
                    )
                    conn.execute(text)  # our own files
                    conn.execute(
                        "INSERT INTO touchlog.migrations (name, digest) VALUES (%s, %s)", (name, digest)
                    )
                done.append(name)
    except psycopg.errors.InsufficientPrivilege as refused:
        raise Misconfigured(
            f"The role of the database URL may not migrate: {refused.diag.message_primary}. Use a role that owns the "
            "database and has CREATEROLE, or have its administrator run: CREATE ROLE touchlog_app NOLOGIN; "
            "CREATE ROLE touchlog_analyst NOLOGIN; GRANT touchlog_app TO <that role>."
        ) from None
    return done
