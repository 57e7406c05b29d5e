"""The principal: who asks or records, and from which sources it may record (SEMANTICS §7)."""

from __future__ import annotations

import msgspec

__all__ = ["Principal"]


class Principal(msgspec.Struct, frozen=True):
    """Who is signed in: a key and what it may do."""

    key_id: str
    role: str
    sources: tuple[str, ...] = ()
    inside: bool = False  # touchlog itself: reserved types and sources are allowed

    def may_append_from(self, source: str) -> bool:
        """Whether this principal may record events of *source*; an adapter only of its own."""
        if self.role == "admin" or self.inside:
            return True
        if self.role != "adapter":
            return False
        return any(
            source == own or (own.endswith("*") and source.startswith(own[:-1])) for own in self.sources
        )
