"""funnels: questions kept under a name, what they told and when, and why they tell something else today."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bin.commands.funnel import question_of, show, step_names
from bin.commands.reading import JSON_OPTION, asked, console, data_zone, print_json, table, when
from bin.settings import DATA_OPTION

if TYPE_CHECKING:
    from adapters.analysis.snapshots import Change
    from bin.compose import Core

NAME = typer.Argument(..., metavar="NAME", help="Of a saved funnel.")
NUMBER = typer.Option(None, "--snapshot", metavar="N", help="Which snapshot (default: the newest).")
_PARTS = {
    "new_events": ("new", "happened after that moment"),
    "late_events": ("late", "had happened by then, recorded since"),
    "corrections": ("corrected", "corrected or taken back since"),
    "identity": ("identity", "linked, merged or split since"),
}


def _signed(n: int) -> str:
    return f"{n:+,}" if n else "0"


def show_change(change: Change, names: list[str]) -> None:
    """Print what a funnel told, what it tells now, and what each kind of entry made of it."""
    from rich.markup import escape

    out = console()
    titles = [f"{i}. {name}" for i, name in enumerate(names, start=1)]
    rows = table("", *titles, "persons or units", "entries", right=(*titles, "persons or units", "entries"))
    rows.add_row("then", *(f"{n:,}" for n in change.then["steps"]), "", "")
    for part in change.parts:
        told = [_signed(n) for n in part.steps]
        rows.add_row(f"  {_PARTS[part.part][0]}", *told, f"{part.units:,}", f"{part.entries:,}")
    rows.add_row("now", *(f"{n:,}" for n in change.now["steps"]), "", "")
    out.print(rows)
    for part in change.parts:
        if part.positions:
            kinds = ", ".join(f"{n:,} {name}" for name, n in part.types.items())
            shown = ", ".join(f"{p:,}" for p in part.positions[:8])
            more = f" and {part.entries - 8:,} more (--json lists 1,000)" if part.entries > 8 else ""
            out.print(
                escape(f"{_PARTS[part.part][0]} ({_PARTS[part.part][1]}): {kinds}; positions {shown}{more}"),
                soft_wrap=True,
            )
    if not any(change.change) and not any(part.units for part in change.parts):
        out.print("Nothing has changed.")
    for note in change.notes:
        out.print(escape(note), style="dim", soft_wrap=True)
    of = f"snapshot {change.snapshot} of version {change.version}" if change.snapshot else "as was known"
    out.print(
        f"{of}, {change.at}, position {change.then['known_at']:,}; now position {change.head:,}",
        style="dim",
        soft_wrap=True,
    )


def register(app: typer.Typer) -> None:  # noqa: C901, PLR0915 - a command after the other
    """Add `touchlog funnels`."""

    funnels = typer.Typer(
        help="Saved funnels: what they told, and why they tell something else today.",
        epilog="Example: touchlog funnels why-changed checkout",
        no_args_is_help=True,
    )
    app.add_typer(funnels, name="funnels")

    def answered(data: Path | None, work: Any, models: tuple[str, ...] = ()) -> Any:
        """Ask, and tell what is wrong with a question as wrong use."""
        from domain.errors import Invalid

        settings, _ = data_zone(data)

        async def run(parts: Core) -> Any:
            try:
                return await work(parts)
            except Invalid as wrong:
                told = "\n".join(f"{p.pointer or '(whole)'}: {p.detail}" for p in wrong.problems)
                raise typer.BadParameter(told, param_hint="the question") from None

        return asked(settings, "funnels", models, run)

    @funnels.command("list", epilog="Example: touchlog funnels list --json")
    def list_command(data: Path | None = DATA_OPTION, json: bool = JSON_OPTION) -> None:
        """Show the saved funnels, and how often each is asked by itself."""
        found = answered(data, lambda parts: parts.funnels.all_saved())
        if json:
            print_json({"funnels": found})
            return
        if not found:
            console().print("No funnel is saved yet. Save one: touchlog funnels save checkout checkout.toml")
            return
        _, zone = data_zone(data)
        rows = table("name", "version", "steps", "snapshots every", f"saved ({zone.key})", right=("version",))
        for one in found:
            rows.add_row(
                one.name, f"{one.version:,}", " → ".join(step_names(one.funnel)),
                one.funnel.get("snapshot") or "–", when(one.saved_at, zone),
            )  # fmt: skip
        console().print(rows)

    @funnels.command("save", epilog="Example: touchlog funnels save checkout checkout.toml --every 1d")
    def save_command(
        name: str = NAME,
        file: Path = typer.Argument(..., metavar="FILE.toml", help="A question, with the names of the HTTP body; that body as JSON will do."),  # noqa: B008
        every: str | None = typer.Option(None, metavar="SPAN", help="Keep its answer so often, e.g. 1d or PT6H; in the file: snapshot = \"P1D\"."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:  # fmt: skip
        """Keep a question under a name; one that has changed is a new version."""
        from bin.principal import principal

        question = question_of(file)
        question.setdefault("window", "14d")
        question.setdefault("timezone", data_zone(data)[1].key)
        if every is not None:
            question["snapshot"] = every
        by = principal().key_id
        saved = answered(data, lambda parts: parts.funnels.save(name, question, by), ("identities",))
        if json:
            print_json(saved)
        else:
            asked_every = saved.funnel.get("snapshot")
            console().print(
                f"{saved.name} is kept as version {saved.version:,}"
                + (
                    f"; serve keeps its answer every {asked_every}"
                    if asked_every
                    else "; no snapshots are scheduled"
                )
            )

    @funnels.command("snapshot", epilog="Example: touchlog funnels snapshot checkout")
    def snapshot_command(name: str = NAME, data: Path | None = DATA_OPTION, json: bool = JSON_OPTION) -> None:
        """Ask a saved funnel now, and keep the answer in the records log."""
        from bin.principal import principal

        by = principal().key_id
        found = answered(data, lambda parts: parts.snapshots.take(name, by), ("identities",))
        _show_snapshot(found, json=json)

    @funnels.command("snapshots", epilog="Example: touchlog funnels snapshots checkout --number 3")
    def snapshots_command(
        name: str = NAME,
        number: int | None = typer.Option(None, metavar="N", help="Show this one whole."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Show the answers of a saved funnel that were kept, the newest first, or one of them as it was told."""
        if number is not None:
            _show_snapshot(answered(data, lambda parts: parts.snapshots.get(name, number)), json=json)
            return
        found = answered(data, lambda parts: parts.snapshots.of(name))
        if json:
            print_json({"name": name, "snapshots": found})
            return
        if not found:
            console().print(
                f"No answer of {name} is kept yet. Keep one: touchlog funnels snapshot {name}", markup=False
            )
            return
        _, zone = data_zone(data)
        rows = table("snapshot", f"of ({zone.key})", "version", "known at position", "taken by",
                     right=("snapshot", "version", "known at position"))  # fmt: skip
        for one in found:
            by = "schedule" if one.due else "hand"
            rows.add_row(f"{one.number:,}", when(one.at, zone), f"{one.version:,}", f"{one.known_at:,}", by)
        console().print(rows)

    @funnels.command("why-changed", epilog="Example: touchlog funnels why-changed checkout --snapshot 3")
    def why_changed_command(
        name: str = NAME,
        snapshot: int | None = NUMBER,
        since: str | None = typer.Option(
            None, metavar="T|@P", help="Instead of a snapshot: what was known then."
        ),
        known_at: str | None = typer.Option(
            None, "--known-at", metavar="T|@P", help="Compare with what was known then (default: now)."
        ),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Show a past answer beside that of now, and what new, late and corrected events and merges made of it."""
        from bin.commands.history import known_at_of

        _, zone = data_zone(data)
        then = None if since is None else known_at_of(since, zone)
        until = None if known_at is None else known_at_of(known_at, zone)

        async def work(parts: Core) -> tuple[Any, Any]:
            change = await parts.snapshots.why_changed(name, snapshot, known_at=until, since=then)
            return change, await parts.funnels.saved(name, change.version)

        change, saved = answered(data, work, ("identities",))
        if json:
            print_json(change)
        else:
            show_change(change, step_names(saved.funnel))


def _show_snapshot(found: Any, *, json: bool) -> None:
    """Print one snapshot."""
    import msgspec

    from domain.funnels.answer import Answer

    if json:
        print_json(found)
        return
    console().print(
        f"snapshot {found.number:,} of {found.name} version {found.version:,}, {found.at}", style="dim"
    )
    show(msgspec.convert(found.answer, Answer), step_names(found.funnel))
