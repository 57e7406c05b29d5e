"""The list of commands in the help of a group."""

from __future__ import annotations

from typing import Any

import typer.core


class Commands(typer.core.TyperGroup):
    """Lists its commands each with its whole first sentence: one that is cut off says too little to choose by."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the names and what they do, on as many lines as that takes."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.get_short_help_str(_WHOLE)) for name, command in self.commands.items()]
            )


_WHOLE = 1_000
"""Characters of a first sentence: more than any has."""
