"""conversations: calls, chats, mails and cases that belong together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec
import typer

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
    from adapters.answers.conversations import ConversationAnswer, ConversationsPage
    from bin.compose import Core

JOINED_BY = ("conversation:", "thread:", "case:")
"""How keys of conversations begin. `case:` begins a REF too; it is read as a key."""


def show_list(page: ConversationsPage, zone: ZoneInfo, *, filtered: bool) -> None:
    """Print conversations, or what an empty list means."""
    from rich.markup import escape

    out = console()
    if not page.conversations:
        out.print(
            "This person has no conversation. Leave the REF out to see all."
            if filtered
            else "There is no conversation yet: calls, chats, mails and cases are joined by data.conversation_id, thread_id or case_id.",
            soft_wrap=True,
        )
        return
    rows = table(
        "conversation",
        f"began ({zone.key})",
        "last",
        "channels",
        "began with",
        "ended with",
        "events",
        "in",
        "out",
        right=("events", "in", "out"),
    )
    for one in page.conversations:
        rows.add_row(
            escape(one["conversation"]),
            when(one["started_at"], zone),
            when(one["last_at"], zone),
            escape(", ".join(one["channels"])),
            escape(one["first_type"]),
            escape(one["last_type"]),
            f"{one['events']:,}",
            f"{one['inbound']:,}",
            f"{one['outbound']:,}",
        )
    out.print(rows)
    more = ", there are more: --limit shows them" if page.next else ""
    out.print(
        f"{count(len(page.conversations), 'conversation')}{more} · known at position {page.known_at:,}",
        style="dim",
        soft_wrap=True,
    )


def show_one(answer: ConversationAnswer, zone: ZoneInfo) -> None:
    """Print one conversation from its beginning."""
    from rich.markup import escape
    from rich.table import Table

    from bin.commands.history import cells

    out = console()
    told = answer.conversation
    out.print(escape(told["conversation"]), style="bold")
    out.print(
        f"{count(told['events'], 'event')} over {escape(', '.join(told['channels']))}: {told['inbound']:,} in, {told['outbound']:,} out"
    )
    rows = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in range(3):
        rows.add_column(no_wrap=True)
    rows.add_column(ratio=1, overflow="fold")
    for entry in answer.entries:
        rows.add_row(*cells(entry, zone, escape))
    out.print(rows)
    out.print(f"times in {zone.key} · known at position {answer.known_at:,}", style="dim")


def register(app: typer.Typer) -> None:
    """Add `touchlog conversations`."""

    @app.command("conversations", epilog="Example: touchlog conversations email:ann@example.com")
    def conversations_command(
        of: str | None = typer.Argument(
            None,
            metavar="[REF|KEY]",
            help="A person's REF, or a key: conversation:…, thread:…, case:…",
            show_default=False,
        ),
        limit: int = typer.Option(50, min=1, help="At most so many conversations."),
        as_of: str | None = typer.Option(None, "--as-of", metavar="T|@P", help="What had happened by then."),
        known_at: str | None = typer.Option(
            None, "--known-at", metavar="T|@P", help="What was known by then: a time, or a position."
        ),
        data: Path | None = DATA_OPTION,
        json: bool = JSON_OPTION,
    ) -> None:
        """List conversations, all or a person's, the latest first; or show one with everything that was said."""
        from adapters.answers.conversations import READ_MODELS, Conversations
        from bin.commands.history import happened_by_then, known_at_of

        settings, zone = data_zone(data)
        happened = None if as_of is None else known_at_of(as_of, zone)
        known = None if known_at is None else known_at_of(known_at, zone)
        is_key = of is not None and of.startswith(JOINED_BY)
        if not is_key:
            readable_ref(of)

        async def one(parts: Core) -> ConversationAnswer:
            answer = await Conversations(parts.pool, parts.histories).one(
                of or "", as_of=await happened_by_then(parts, happened), known_at=known
            )
            subject = answer.conversation["subject"]
            await on_record(
                parts, "conversation", about=[subject] if subject else [], query=of, count=len(answer.entries)
            )
            return answer

        async def several(parts: Core) -> ConversationsPage:
            asking = Conversations(parts.pool, parts.histories)
            page = await asking.page(
                of, as_of=await happened_by_then(parts, happened), known_at=known, limit=limit
            )
            while page.next and len(page.conversations) < limit:
                more = await asking.page(
                    of,
                    as_of=await happened_by_then(parts, happened),
                    known_at=known,
                    limit=limit - len(page.conversations),
                    cursor=page.next,
                )
                page = msgspec.structs.replace(more, conversations=[*page.conversations, *more.conversations])
            await on_record(parts, "conversations", about=page.about, query=of, count=len(page.conversations))
            return page

        if is_key:
            answer = asked(settings, "conversations", READ_MODELS, one)
            if json:
                print_json(answer)
            else:
                show_one(answer, zone)
            return
        page = asked(settings, "conversations", READ_MODELS, several)
        if json:
            print_json(page)
        else:
            show_list(page, zone, filtered=of is not None)
