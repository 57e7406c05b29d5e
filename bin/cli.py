"""touchlog: every command, registered by its module."""

from __future__ import annotations

import errno
import os
import signal
import sys
from importlib import import_module


def _interrupted_early(*_: object) -> None:
    """End at once and without a traceback: while the commands are read nothing is begun yet."""
    os.write(2, b"touchlog: interrupted\n")
    os._exit(130)


if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _interrupted_early)

import typer  # noqa: E402

from bin import __version__  # noqa: E402
from bin.commands.listed import Commands  # noqa: E402
from domain.errors import FutureTime, Invalid, TouchlogError  # noqa: E402

# One line for each module that registers commands; what is heavy it imports when a command runs.
COMMANDS = (
    "bin.commands.serve",
    "bin.settings",
    "bin.commands.migrate",
    "bin.commands.keys",
    "bin.commands.ingest",
    "bin.commands.status",
    "bin.commands.rejected",
    "bin.commands.endpoints",
    "bin.commands.channels",
    "bin.commands.history",
    "bin.commands.imports",
    "bin.commands.persons",
    "bin.commands.volumes",
    "bin.commands.funnel",
    "bin.commands.funnels",
    "bin.commands.retention",
    "bin.commands.paths",
    "bin.commands.segments",
    "bin.commands.sql",
    "bin.commands.exporting",
    "bin.commands.clickhouse",
    "bin.commands.conversations",
    "bin.commands.audit",
    "bin.commands.consent",
    "bin.commands.projections",
    "bin.commands.rebuild",
    "bin.commands.replay",
    "bin.bench",
)


app = typer.Typer(
    name="touchlog",
    cls=Commands,
    help="Every touchpoint with your customers in one immutable log, and answers from it.",
    epilog="Example: touchlog serve --demo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def print_version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        typer.echo(f"touchlog {__version__}")
        raise typer.Exit


@app.callback()
def touchlog(
    version: bool = typer.Option(
        False, "--version", callback=print_version, is_eager=True, help="Print the version."
    ),
) -> None:
    """Hold the options that stand before the command."""


for module in COMMANDS:
    import_module(module).register(app)
for group in app.registered_groups:
    group.cls = Commands


_MAKE_ROOM = (
    "The disk is full: make room, then give the same command again. What was recorded stays recorded."
)
_ADVICE = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EROFS: "The disk can only be read: name another folder, or mount it so that it can be written.",
    errno.EACCES: "Whoever gives this command may not use it: let them, or give it as the user who owns it.",
}
"""What to do about what the operating system refuses, whichever file it meets."""


def told(wrong: Invalid | FutureTime) -> str:
    """What is wrong with what was asked, and where in it; in one line."""
    if isinstance(wrong, FutureTime):
        return str(wrong)
    return "; ".join(f"{p.pointer}: {p.detail}" if p.pointer else p.detail for p in wrong.problems)


def main() -> None:
    """Run one command; exits 0, 1 (failed, or answered no), 2 (wrong use) or 130 (interrupted)."""
    if signal.getsignal(signal.SIGINT) is _interrupted_early:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app(prog_name="touchlog")
    except (Invalid, FutureTime) as wrong:  # never 1, which is the answer "no" of many a question
        print(f"touchlog: {told(wrong)}", file=sys.stderr)
        sys.exit(2)
    except TouchlogError as error:
        sys.exit(f"touchlog: {error}")
    except KeyboardInterrupt:  # before the command itself
        sys.exit(130)
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0)
        if advice is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"touchlog: {where}{error.strerror}. {advice}")
    except Exception as error:
        # By name, for psycopg is not imported where no command needed it.
        if not any(each.__qualname__ == "OperationalError" for each in type(error).__mro__):
            raise
        reason = str(error).strip().partition("\n")[0]
        if type(error).__qualname__ == "DiskFull":
            sys.exit(f"touchlog: {reason}. {_ADVICE[errno.ENOSPC]}")
        # The embedded database goes with the `serve` or the command that ran it; there is no setting to look at.
        from bin.settings import names_database

        advice = (
            "is TOUCHLOG_DATABASE_URL right?"
            if names_database()
            else "what ran it was ended or is being started again: give the same command again."
        )
        sys.exit(f"touchlog: the database does not answer ({reason}); {advice}")


if __name__ == "__main__":
    main()
