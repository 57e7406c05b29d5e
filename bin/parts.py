"""The children of `serve`, each a process of its own: http, projectors, columns, check, relay; the demo's loader; and a rebuild."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

import structlog

from bin import logs
from bin.settings import Settings
from domain.errors import TouchlogError

PARTS = ("http", "projectors", "columns", "check", "relay", "demo", "rebuild")

log = structlog.get_logger()


def run_http(settings: Settings, listen_fd: int) -> None:
    """Serve HTTP on the listening socket *listen_fd* until SIGTERM.

    The supervisor holds that socket too: while this process is started again, connections queue in it.
    """
    from bin.processes.http import serve_http

    serve_http(settings, socket.socket(fileno=listen_fd))


def run_projectors(settings: Settings, pace: str | None, names: str) -> None:
    """Run projectors until SIGTERM: of one pace, or of some names with commas between them."""
    from bin.processes import projectors

    projectors.run_projectors(settings, pace, names.split(",") if names else ())  # type: ignore[arg-type]


def run_columns(settings: Settings) -> None:
    """Write the analysts' columns until SIGTERM."""
    from bin.processes import columns

    columns.run_columns(settings)


def run_relay(settings: Settings) -> None:
    """Relay the log to the bus, and requests on the bus to the log, until SIGTERM."""
    from bin.processes.relay import relay

    relay(settings)


def run_check(settings: Settings) -> None:
    """Compare the log with every read model until SIGTERM."""
    from bin.processes.checking import run_checking

    run_checking(settings)


def run_demo(settings: Settings) -> None:
    """Load a small lifelike history into an empty log, then return."""
    from bin.processes.demo_loader import load_demo

    load_demo(settings)


def run_rebuild(settings: Settings, run_id: int) -> None:
    """Run one rebuild that was asked for; when told to end it is left where it stands, and goes on later."""
    from bin.processes.rebuilder import run_one

    run_one(settings, run_id)


def main() -> None:
    """Run one part; for `serve`, which gives the settings through the environment."""
    parser = argparse.ArgumentParser(prog="python -m bin.parts", description="Run one part of touchlog.")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--data", type=Path, required=True, help="the installation's folder")
    parser.add_argument("--fd", type=int, help="http: the listening socket")
    parser.add_argument("--id", type=int, help="rebuild: which one")
    parser.add_argument("--pace", choices=("live", "later"), help="projectors: of this pace only")
    parser.add_argument("--projections", default="", metavar="NAMES", help="projectors: these only")
    arguments = parser.parse_args()
    os.umask(0o077)  # what a part writes is the installation's alone
    settings = Settings.load(data=arguments.data)
    part = f"{arguments.part}-later" if arguments.pace == "later" else arguments.part
    logs.configure(settings.log_level, part=part, form="json")
    try:
        match arguments.part:
            case "http":
                if arguments.fd is None:
                    parser.error("http needs --fd")
                run_http(settings, arguments.fd)
            case "projectors":
                run_projectors(settings, arguments.pace, arguments.projections)
            case "columns":
                run_columns(settings)
            case "check":
                run_check(settings)
            case "relay":
                run_relay(settings)
            case "rebuild":
                if arguments.id is None:
                    parser.error("rebuild needs --id")
                run_rebuild(settings, arguments.id)
            case "demo":
                run_demo(settings)
    except TouchlogError as error:
        log.error("part_failed", reason=str(error))  # noqa: TRY400 - expected: its text is enough
        sys.exit(1)
    except Exception:
        log.exception("part_failed")
        sys.exit(1)


if __name__ == "__main__":
    main()
