"""status: how the installation is: head, rate, lags, what was refused, servers, versions, size."""

from __future__ import annotations

import os
import platform
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from bin import __version__
from bin.commands.reading import columns_told
from bin.settings import DATA_OPTION, NO_BUS, Settings, without_password
from domain.units import count


def of_database(database_url: str) -> dict[str, Any]:
    """What the database knows."""
    import psycopg

    from adapters.columns.manifest import columns_differ

    with psycopg.connect(database_url, autocommit=True) as conn:
        head = conn.execute(
            "SELECT position, nullif(recorded_at, '-infinity'), epoch, log_id::text, "
            "position - touchpoint_log.position_at(clock_timestamp() - interval '1 minute') FROM touchpoint_log.head"
        ).fetchone()
        assert head is not None
        projections = [
            {
                "name": name,
                "version": version,
                "state": state,
                "position": position,
                "lag_positions": head[0] - position,
                "lag_s": 0.0 if position >= head[0] else round(lag_s, 1),
                "parked": parked,
                "differences": differences,
                "checked_position": checked_position,
                "checked_at": checked_at,
                "swept_at": swept_at,
                "holder": holder,
            }
            for name, version, state, position, lag_s, parked, differences, checked_position, checked_at, swept_at, holder in conn.execute(
                "SELECT p.name, p.version, p.state, p.position, extract(epoch FROM clock_timestamp() - coalesce("
                "(SELECT e.recorded_at FROM touchpoint_log.events e WHERE e.position = p.position + 1), clock_timestamp()))::float8, "
                "(SELECT count(*) FROM touchlog.parked k WHERE k.name = p.name AND k.schema = p.schema), "
                "CASE WHEN p.schema = 'read' THEN (SELECT coalesce(sum(d.rows), 0)::bigint FROM touchlog.differences d WHERE d.name = p.name) ELSE 0 END, "
                "c.position, c.checked_at, c.swept_at, "
                "CASE WHEN p.leased_to > clock_timestamp() THEN p.holder END FROM touchlog.projections p "
                "LEFT JOIN touchlog.checks c ON c.name = p.name AND p.schema = 'read' "
                "WHERE p.state IN ('live', 'building', 'ready') ORDER BY p.name, p.state <> 'live'"
            )
        ]
        rejected: dict[str, int] = dict(
            conn.execute("SELECT state, count(*) FROM touchlog.rejected GROUP BY state").fetchall()
        )
        imports = conn.execute("SELECT count(*), max(started_at) FROM touchlog.imports").fetchone()
        sizes = conn.execute(
            "SELECT pg_database_size(current_database()), (SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'touchpoint_log' AND c.relkind = 'r')"
        ).fetchone()
        subjects = conn.execute(
            "SELECT count(*) FROM touchlog.subjects WHERE kind <> 'source_day'"
        ).fetchone()
        refused = conn.execute("SELECT touchlog.links_refused()").fetchone()
        differing = columns_differ(conn)
        version = conn.info.parameter_status("server_version")
    return {
        "head": head[0],
        "recorded_at": head[1],
        "epoch": head[2],
        "log_id": head[3],
        "recorded_last_minute": head[4],
        "projections": projections,
        "rejected": rejected,
        "imports": imports[0] if imports else 0,
        "subjects": subjects[0] if subjects else 0,
        "links_refused": refused[0] if refused else 0,
        "database_bytes": sizes[0] if sizes else None,
        "log_bytes": sizes[1] if sizes else None,
        "postgres_version": version,
        "columns_differ": differing,
    }


def columns_of(folder: Path, log_id: str, head: int, differing: int) -> dict[str, Any]:
    """The columns among the read models: their answers reach to the head, the files to `written_position`."""
    from adapters.columns.manifest import VERSION, written_to

    return {
        "name": "columns", "version": VERSION, "state": "live", "position": head, "lag_positions": 0, "lag_s": 0.0,
        "parked": 0, "differences": differing, "checked_position": None, "checked_at": None, "swept_at": None, "holder": None,
        "written_position": written_to(folder, log_id, head),
    }  # fmt: skip


def folder_bytes(folder: Path) -> int | None:
    """What the files under *folder* take on disk; those that vanish meanwhile, or are closed to us, do not count."""
    if not folder.exists():
        return None
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_blocks * 512  # noqa: PTH118 - many files, one call each
            except OSError:
                continue
    return total


def gather(settings: Settings) -> dict[str, Any]:
    """The whole status; starts the embedded PostgreSQL for the moment where nobody runs it."""
    from adapters.embedded import running, servers
    from adapters.embedded.nats import bus_answers
    from adapters.postgres.schema import migrate

    found = running(settings.data)
    with servers(settings, by="status", begins=False) as (database_url, nats_url):
        migrate(database_url)
        known = of_database(database_url)
    known["projections"].append(
        columns_of(settings.data / "columns", known["log_id"], known["head"], known.pop("columns_differ"))
    )
    disk = shutil.disk_usage(settings.data if settings.data.exists() else Path.cwd())
    return {
        **known,
        "data": str(settings.data),
        "data_bytes": folder_bytes(settings.data),
        "disk_free_bytes": disk.free,
        "servers": {
            "run_by": found.by if found is not None else None,
            "http_url": found.http_url if found is not None else None,
            "database": "TOUCHLOG_DATABASE_URL" if settings.database_url else "embedded",
            "database_url": without_password(database_url) if settings.database_url else None,
            "nats_url": without_password(nats_url) if nats_url else None,
            "nats_answers": bus_answers(nats_url) if nats_url else None,
            "mqtt_url": mqtt_url(settings) if found is not None and "nats" in found.pids else None,
            "pids": dict(found.pids) if found is not None else {},
        },
        "versions": {
            "touchlog": __version__,
            "postgres": known["postgres_version"],
            "python": platform.python_version(),
        },
        "at": datetime.now(UTC),
    }


def mqtt_url(settings: Settings) -> str | None:
    """Where tills reach the embedded server by MQTT 3.1.1."""
    from adapters.embedded.nats import Nats

    nats = Nats(settings.data, secret_file=settings.secret_file, subject_prefix=settings.subject_prefix)
    with suppress(OSError, ValueError):
        return f"mqtt://127.0.0.1:{nats.mqtt_port}"
    return None


def size(count: int | None) -> str:
    """`1.4 GiB`; empty when unknown."""
    if count is None:
        return "unknown"
    number = float(count)
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:,.0f} {unit}" if unit == "bytes" else f"{number:,.1f} {unit}"
        number /= 1024
    return f"{number:,.1f} TiB"


def _bus(url: str | None, *, answers: bool | None) -> str:
    """Where NATS is reached; without the user, for everybody signs in with a key of their own."""
    if url is None:
        return "NATS off"
    scheme, _, place = url.partition("://")
    return f"{url} {NO_BUS}" if answers is False else f"{scheme}://{place.rpartition('@')[2]} (NATS)"


def render(status: dict[str, Any]) -> None:
    """Print the status for a person to read."""
    from rich.console import Console
    from rich.table import Table

    out = Console(highlight=False, soft_wrap=True)
    servers = status["servers"]
    recorded_at = status["recorded_at"]
    newest = f", newest {recorded_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if recorded_at else ""
    refused = status["rejected"]
    serving = servers["http_url"] or "HTTP off"
    facts = [
        ("head", f"{status['head']:,}{newest}"),
        ("rate", f"{count(status['recorded_last_minute'], 'event')} in the last minute"),
        ("rejected", ", ".join(f"{n:,} {state}" for state, n in sorted(refused.items())) or "none"),
        ("imports", f"{status['imports']:,}"),
        ("subjects", f"{status['subjects']:,}"),
        (
            "refused",
            f"{count(status['links_refused'], 'link')}: touchlog persons refused"
            if status["links_refused"]
            else "no link",
        ),
        (
            "servers",
            f"run by {servers['run_by']}, {serving}"
            if servers["run_by"]
            else "no serve is running (touchlog serve starts it)",
        ),
        ("bus", _bus(servers["nats_url"], answers=servers["nats_answers"])),
        ("tills", f"{servers['mqtt_url']} (MQTT 3.1.1)" if servers["mqtt_url"] else "MQTT off"),
        (
            "database",
            f"{servers['database']} PostgreSQL {status['versions']['postgres']}, {size(status['database_bytes'])} (log {size(status['log_bytes'])})",
        ),
        (
            "data",
            f"{status['data']}, {size(status['data_bytes'])}; {size(status['disk_free_bytes'])} free on its disk",
        ),
        ("versions", f"touchlog {status['versions']['touchlog']}, Python {status['versions']['python']}"),
    ]
    for name, value in facts:
        out.print(f"{name:<10} {value}", markup=False)
    out.print()
    if len(status["projections"]) == 1:
        out.print("No read model was made yet; `touchlog serve` or a question makes them.")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("projection")
    table.add_column("state")
    for name in ("version", "position", "behind", "lag", "parked", "differ"):
        table.add_column(name, justify="right")
    for one in status["projections"]:
        lag = "" if not one["lag_positions"] else f"{one['lag_s']:,.1f} s"
        table.add_row(
            one["name"],
            one["state"],
            str(one["version"]),
            f"{one['position']:,}",
            f"{one['lag_positions']:,}",
            lag,
            f"{one['parked']:,}",
            f"{one['differences']:,}",
        )
    out.print(table)
    written = status["projections"][-1]["written_position"]
    out.print(columns_told(written, status["head"]))
    if any(one["differences"] for one in status["projections"]):
        out.print("\nRows differ from the log; see them: touchlog projections check")
    if refused.get("open"):
        out.print("\nLook at what was refused: touchlog rejected list")


def register(app: typer.Typer) -> None:
    """Add `touchlog status`."""

    @app.command("status", epilog="Example: touchlog status --json")
    def status_command(
        data: Path | None = DATA_OPTION,
        json: bool = typer.Option(False, "--json", help="Print one JSON object."),
    ) -> None:
        """Tell how the installation is: head, rate, lags, what was refused, servers, versions, size."""
        from bin import logs

        settings = Settings.load(data=data)
        logs.of_command(settings.log_level, part="status")
        status = gather(settings)
        if json:
            import orjson

            typer.echo(orjson.dumps(status, option=orjson.OPT_INDENT_2).decode())
        else:
            render(status)
