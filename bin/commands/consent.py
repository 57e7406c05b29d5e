"""consent: how a person stands, and what went out without valid consent."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import typer

from bin.commands import consent_verdicts
from bin.commands.reading import (
    JSON_OPTION,
    asked,
    console,
    data_zone,
    on_record,
    print_json,
    readable_ref,
    table,
    when,
)
from bin.settings import DATA_OPTION
from domain.units import count

if TYPE_CHECKING:
    from adapters.consent.breaches import BreachReport
    from adapters.consent.consents import PersonConsent
    from bin.compose import Core

_KNOWN_AT = typer.Option(
    None, "--known-at", metavar="T|@P", help="As known then: a time, or a position such as @123."
)


def show(found: PersonConsent, zone: ZoneInfo) -> None:
    """Print how a person stands, and the facts behind it."""
    from rich.markup import escape

    out = console()
    if not found.answers:
        out.print(
            "No purpose, channel and contact point is named by any fact: nothing is allowed that needs consent."
        )
    else:
        answers = table(
            "purpose", "channel", "contact point", "valid", "by", f"since ({zone.key})", "under notice"
        )
        for one in found.answers:
            rests = one["resting_on"] or {}
            notice = rests.get("notice")
            answers.add_row(
                escape(one["purpose"]),
                escape(one["channel"]),
                escape(one["contact"]),
                "yes" if one["valid"] else f"no: {one['reason']}",
                f"{rests['state']} @{one['position']:,}" if rests else "–",
                when(rests.get("since"), zone),
                escape(f"{notice['id']} {notice['version']}") if notice else "–",
            )
        out.print(answers)
    facts = table(
        "position",
        f"took effect ({zone.key})",
        "recorded",
        "state",
        "purpose",
        "channel",
        "how",
        right=("position",),
    )
    for fact in found.facts:
        facts.add_row(
            f"{fact['position']:,}",
            when(fact["effective_at"], zone),
            when(fact["recorded_at"], zone),
            fact["state"],
            escape(fact["purpose"] or "–"),
            escape(fact["channel"] or "–"),
            escape(fact["method"] or "–"),
        )
    if found.facts:
        out.print(facts)
    for defect in found.defects:
        effect = "without effect" if defect["without_effect"] else "in full effect"
        out.print(f"@{defect['position']:,} {defect['reason'].replace('_', ' ')} ({effect})", style="yellow")
    out.print(f"At {found.at} · known at position {found.known_at:,}", style="dim", soft_wrap=True)


def show_breaches(found: BreachReport, zone: ZoneInfo) -> None:
    """Print what went out without valid consent."""
    from rich.markup import escape

    out = console()
    if not found.messages:
        out.print("Nothing went out in this span. Take a longer one, or leave --known-at out.")
    elif not found.breaches:
        out.print(f"{count(found.messages, 'message')} went out, and none without valid consent.")
    else:
        rows = table(
            f"sent ({zone.key})", "verdict", "reason", "purpose", "channel", "campaign", "sender", "evidence"
        )
        for one in found.breaches:
            rows.add_row(
                when(one["sent_at"], zone),
                one["verdict"].replace("_", " "),
                (one["reason"] or "–").replace("_", " "),
                escape(one["purpose"] or "–"),
                escape(one["channel"]),
                escape(one["campaign"] or "–"),
                escape(f"{one['source']} {one['id']}"),
                " ".join(f"@{p:,}" for p in one["evidence"]) or "–",
            )
        out.print(rows)
    counted = " · ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in found.verdicts.items())
    more = ", there are more: --limit shows them" if found.more else ""
    out.print(
        f"{count(found.messages, 'message')}: {counted or 'none'}{more} · known at position {found.known_at:,}",
        style="dim",
        soft_wrap=True,
    )


def register(app: typer.Typer) -> None:
    """Add `touchlog consent …`."""
    from bin.commands import consent_exports, consent_questions

    consent = typer.Typer(
        help="Consent: was it allowed, and did the sender know.",
        epilog="Example: touchlog consent show email:ann@example.com",
        no_args_is_help=True,
    )

    @consent.command(
        "show", epilog="Example: touchlog consent show email:ann@example.com --at 2026-01-31 --known-at @1200"
    )
    def show_command(
        ref: str = typer.Argument(metavar="REF", help="Whom: email:…, phone:…, user:…, or a subject id."),
        purpose: str | None = typer.Option(None, metavar="P", help="Only this purpose."),
        channel: str | None = typer.Option(None, metavar="C", help="Only this channel."),
        contact: str | None = typer.Option(None, metavar="REF", help="Only this contact point."),
        at: str | None = typer.Option(None, metavar="T", help="The moment asked about; now by default."),
        known_at: str | None = _KNOWN_AT,
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Tell how a person stands: allowed or not, under which notice, collected how, and by which facts."""
        from adapters.consent.consents import Consents
        from adapters.consent.register import READ_MODELS

        settings, zone = data_zone(data)
        readable_ref(ref)
        readable_ref(contact)
        moment, known = _moments(at, known_at, zone)

        async def work(parts: Core) -> PersonConsent:
            consents = Consents(parts.pool, parts.subjects, parts.histories, region=settings.phone_region)
            found = await consents.person(
                ref, purpose=purpose, channel=channel, contact=contact, at=moment, known_at=known
            )
            await on_record(parts, "consent show", about=(found.person,), query=ref, count=len(found.facts))
            return found

        found = asked(settings, "consent", READ_MODELS, work)
        if json:
            print_json(found)
        else:
            show(found, zone)

    @consent.command(
        "breaches", epilog="Example: touchlog consent breaches --from 2026-01-01 --to 2026-02-01"
    )
    def breaches_command(
        begin: str = typer.Option(..., "--from", metavar="T", help="The first day or instant."),
        end: str = typer.Option(..., "--to", metavar="T", help="The first day or instant behind the span."),
        known_at: str | None = _KNOWN_AT,
        limit: int = typer.Option(50, min=1, help="List so many; all are counted."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """List what went out without valid consent, why, and by which positions; exits 1 where there is any."""
        from adapters.consent.breaches import Breaches
        from bin.commands.history import moment_of
        from bin.processes.judging import judged_once

        settings, zone = data_zone(data)
        first, behind = moment_of(begin, zone, ends=False), moment_of(end, zone, ends=False)
        _, known = _moments(None, known_at, zone)

        async def work(parts: Core) -> BreachReport:
            await judged_once(parts)
            found = await Breaches(parts.pool, parts.histories).report(
                first, behind, known_at=known, limit=limit
            )
            about = [one["person"] for one in found.breaches if one["person"]]
            await on_record(
                parts, "consent breaches", about=about, query=f"{begin} {end}", count=len(found.breaches)
            )
            return found

        found = asked(settings, "consent", consent_verdicts.MODELS, work)
        if json:
            print_json(found)
        else:
            show_breaches(found, zone)
        if found.breaches:
            raise typer.Exit(1)

    @consent.command(
        "receipt", epilog="Example: touchlog consent receipt 0b1c2d3e-4f50-8617-8293-a4b5c6d7e8f9"
    )
    def receipt_command(
        event: str = typer.Argument(metavar="EVENT", help="The event id of a consent fact."),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """Print the receipt of a consent fact: what was agreed to or refused, under which text, proven how."""
        from adapters.consent.receipts import Receipts, readable
        from adapters.consent.register import READ_MODELS

        settings, _ = data_zone(data)

        async def work(parts: Core) -> dict[str, Any]:
            found = await Receipts(parts.pool, parts.subjects, parts.histories).of(event)
            about = [found["pii_principal_id"]] if found["pii_principal_id"] else []
            await on_record(parts, "consent receipt", about=about, query=event, count=1)
            return found

        found = asked(settings, "consent", READ_MODELS, work)
        if json:
            print_json(found)
        else:
            typer.echo(readable(found), nl=False)

    consent_exports.register(consent)
    consent_questions.register(consent)
    consent_verdicts.add(consent)
    app.add_typer(consent, name="consent")


def _moments(at: str | None, known_at: str | None, zone: ZoneInfo) -> tuple[datetime | None, Any]:
    from bin.commands.history import known_at_of, moment_of

    return (
        None if at is None else moment_of(at, zone),
        None if known_at is None else known_at_of(known_at, zone),
    )
