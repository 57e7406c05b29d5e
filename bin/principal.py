"""Who calls a command: a person at this machine."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adapters.principal import Principal

__all__ = ["principal"]


def principal() -> Principal:
    """Who calls: a person at this machine, named by the operating system."""
    from adapters.principal import Principal

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    return Principal(f"cli:{user}", "admin")
