"""consent suppressions, consent register, consent defects: lists out of what is known of consent, as files."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import typer

from bin.commands.reading import asked, data_zone
from bin.settings import DATA_OPTION, Settings
from domain.units import count

if TYPE_CHECKING:
    from adapters.consent.exports import Exports, Form, Rows
    from bin.compose import Core

_EVERY_S = 5.0
_FORMAT = typer.Option("csv", "--format", help="csv, or jsonl: one JSON object a line.")
_JSON = typer.Option(False, "--json", help="The same as --format jsonl.")
_OUTPUT = typer.Option(
    None, "-o", "--output", metavar="FILE", help="Write here; to standard output by default."
)
_FORCE = typer.Option(False, "--force", help="Replace what stands there.")
_PERSONAL = typer.Option(False, "--personal", help="With contact points in plain text; wants --reason.")
_REASON = typer.Option(
    None, "--reason", metavar="TEXT", help="Why personal values are asked for; goes on record."
)
_KNOWN_AT = typer.Option(
    None, "--known-at", metavar="T|@P", help="As known then: a time, or a position such as @123."
)
_QUIET = typer.Option(False, "--quiet", help="No progress and no summary.")


def export(
    settings: Settings,
    what: str,
    columns: Sequence[str],
    rows: Callable[[Exports, int], AsyncIterator[Rows]],
    *,
    form: str,
    output: Path | None,
    force: bool,
    personal: bool,
    reason: str | None,
    known_at: Any,
    quiet: bool,
) -> None:
    """Write one list, with the disclosure on record before anything leaves."""
    from adapters.consent.exports import FORMATS, Exports, written
    from adapters.consent.register import READ_MODELS
    from bin.principal import principal

    if form not in FORMATS:
        raise typer.BadParameter(f"'{form}' is none of: {', '.join(FORMATS)}.", param_hint="--format")
    if personal and not (reason or "").strip():
        raise typer.BadParameter(
            "--personal discloses contact points and wants to know why: add --reason TEXT, which goes on record.",
            param_hint="--reason",
        )
    chosen: Form = "csv" if form == "csv" else "jsonl"

    async def work(parts: Core) -> tuple[int, int]:
        exports = Exports(parts.pool, parts.subjects, parts.histories)
        position = await exports.position(known_at)
        detail = {"known_at": position, "personal": personal, "format": form, "count_known": False}
        await parts.access(principal().key_id, action=f"consent {what}", purpose=reason, detail=detail)
        number = 0
        told_s = started_s = time.monotonic()

        async def counted() -> AsyncIterator[Rows]:
            nonlocal number, told_s
            async for batch in rows(exports, position):
                number += len(batch)
                yield batch
                if not quiet and time.monotonic() - told_s > _EVERY_S:
                    told_s = time.monotonic()
                    typer.echo(f"{count(number, 'row')}, {number / (told_s - started_s):,.0f}/s", err=True)

        with _sink(output, force=force, personal=personal) as out:
            async for part in written(counted(), columns, chosen):
                out.write(part)
        return number, position

    number, position = asked(settings, "consent", READ_MODELS, work)
    if not quiet:
        where = "" if output is None else f" to {output}"
        again = f"--known-at @{position}"
        typer.echo(
            f"{count(number, 'row')}{where} · head and known at position {position:,} · again: {again}",
            err=True,
        )


@contextmanager
def _sink(output: Path | None, *, force: bool, personal: bool) -> Iterator[BinaryIO]:
    """A file that is there whole or not at all, or standard output."""
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    from adapters.destination import Destination

    destination = Destination(output, folder=False, force=force, private=personal)
    with destination.opened() as place, place.open("wb") as out:
        yield out


def register(consent: typer.Typer) -> None:
    """Add `touchlog consent suppressions|register|defects`."""

    @consent.command(
        "suppressions",
        epilog="Example: touchlog consent suppressions --purpose marketing.news --channel email "
        '--personal --reason "list for the mail provider" -o suppressed.csv',
    )
    def suppressions_command(
        purpose: str | None = typer.Option(
            None, metavar="P", help="Only what stands in the way of this purpose."
        ),
        channel: str | None = typer.Option(
            None, metavar="C", help="Only what stands in the way of this channel."
        ),
        at: str | None = typer.Option(None, metavar="T", help="The moment asked about; now by default."),
        known_at: str | None = _KNOWN_AT,
        form: str = _FORMAT,
        json: bool = _JSON,
        output: Path | None = _OUTPUT,
        force: bool = _FORCE,
        personal: bool = _PERSONAL,
        reason: str | None = _REASON,
        quiet: bool = _QUIET,
        data: Path | None = DATA_OPTION,
    ) -> None:
        """Write the contact points that nobody may write to any more, and what was allowed again all the same."""
        from adapters.consent.exports import SUPPRESSIONS
        from bin.commands.history import known_at_of, moment_of

        settings, zone = data_zone(data)
        when = None if at is None else moment_of(at, zone)

        def rows(exports: Exports, position: int) -> AsyncIterator[Rows]:
            return exports.suppressions(
                position, at=when, purpose=purpose, channel=channel, personal=personal
            )

        export(
            settings,
            "suppressions",
            SUPPRESSIONS,
            rows,
            form="jsonl" if json else form,
            output=output,
            force=force,
            personal=personal,
            reason=reason,
            known_at=None if known_at is None else known_at_of(known_at, zone),
            quiet=quiet,
        )

    @consent.command(
        "register",
        epilog="Example: touchlog consent register --known-at 2026-02-05 --format jsonl -o register.jsonl",
    )
    def register_command(
        known_at: str | None = _KNOWN_AT,
        form: str = _FORMAT,
        json: bool = _JSON,
        output: Path | None = _OUTPUT,
        force: bool = _FORCE,
        personal: bool = _PERSONAL,
        reason: str | None = _REASON,
        quiet: bool = _QUIET,
        data: Path | None = DATA_OPTION,
    ) -> None:
        """Write the whole register: every fact about consent and every notice, as recorded and as known then."""
        from adapters.consent.exports import REGISTER
        from bin.commands.history import known_at_of

        settings, zone = data_zone(data)

        def rows(exports: Exports, position: int) -> AsyncIterator[Rows]:
            return exports.register(position, personal=personal)

        export(
            settings,
            "register",
            REGISTER,
            rows,
            form="jsonl" if json else form,
            output=output,
            force=force,
            personal=personal,
            reason=reason,
            known_at=None if known_at is None else known_at_of(known_at, zone),
            quiet=quiet,
        )

    @consent.command("defects", epilog="Example: touchlog consent defects --format jsonl")
    def defects_command(
        known_at: str | None = _KNOWN_AT,
        form: str = _FORMAT,
        json: bool = _JSON,
        output: Path | None = _OUTPUT,
        force: bool = _FORCE,
        quiet: bool = _QUIET,
        data: Path | None = DATA_OPTION,
    ) -> None:
        """Write the facts that have no effect or deserve a look: unevidenced, over before they began, about what never came, misspelt."""
        from adapters.consent.exports import DEFECTS
        from bin.commands.history import known_at_of

        settings, zone = data_zone(data)
        export(
            settings,
            "defects",
            DEFECTS,
            lambda exports, position: exports.defects(position),
            form="jsonl" if json else form,
            output=output,
            force=force,
            personal=False,
            reason=None,
            known_at=None if known_at is None else known_at_of(known_at, zone),
            quiet=quiet,
        )
