"""Everything touchlog refuses or fails at, as one tree.

TouchlogError
├── Refused                 the caller can mend it
│   ├── Invalid             a value is not what the contract says (carries `Problem`s)
│   ├── Forbidden           the key may not do this
│   ├── NotFound            no such person, event, projection
│   ├── StreamMoved         somebody decided first: read again, decide again
│   ├── Already             it is so already: nothing was left to do
│   ├── Underway            the same is being done already: wait for its end
│   └── FutureTime          nobody knows yet what will be known then
└── Unavailable             touchlog or the world around it must recover first
    ├── ClockBehind         the clock stands more than a minute behind the log's head
    ├── NoRoom              the disk of the database is full
    ├── StaleEpoch          this writer belongs to an earlier generation of the database
    ├── Behind              a read model has not yet seen the position that was asked for
    └── Misconfigured       a setting or file cannot work as it is
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

__all__ = [
    "Already",
    "Behind",
    "ClockBehind",
    "Forbidden",
    "FutureTime",
    "Invalid",
    "Misconfigured",
    "NoRoom",
    "NotFound",
    "Problem",
    "Refused",
    "StaleEpoch",
    "StreamMoved",
    "TouchlogError",
    "Unavailable",
    "Underway",
    "pointed",
]


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that is wrong with a payload.

    `pointer` is a JSON pointer (RFC 6901) to the value, `detail` says what is wrong and what
    would be right, `code` is a stable word for programs.
    """

    pointer: str
    detail: str
    code: str = "invalid"


def pointed(key: str) -> str:
    """A key as a step of a JSON pointer (RFC 6901 §3)."""
    return key.replace("~", "~0").replace("/", "~1") if "~" in key or "/" in key else key


class TouchlogError(Exception):
    """The root; its text says what, where, and what to do next."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())


class Refused(TouchlogError):
    """The request cannot be done as it was put; put it another way."""


class Invalid(Refused):
    """A value is not what the contract says."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        if isinstance(problems, str):
            problems = [Problem("", problems)]
        self.problems = list(problems)
        super().__init__("; ".join(f"{p.pointer or '(whole)'}: {p.detail}" for p in self.problems))


class Forbidden(Refused):
    """The key that was used may not do this."""


class NotFound(Refused):
    """There is no such thing."""


class StreamMoved(Refused):
    """Somebody appended to the stream since it was read; read again and decide again."""


class Already(Refused):
    """It is so already; nothing was left to do."""


class Underway(Refused):
    """The same is being done already; wait for it to end."""


class FutureTime(Refused):
    """`known_at` lies in the future: nobody knows yet what will be known then."""


class Unavailable(TouchlogError):
    """touchlog cannot answer now; the same request may be sent again later."""


class ClockBehind(Unavailable):
    """The database's clock stands more than 60 s behind the log's head; set the clock right."""


class NoRoom(Unavailable):
    """The disk of the database is full: make room; touchlog goes on by itself."""


class StaleEpoch(Unavailable):
    """This writer belongs to an earlier generation of the database; restart it."""


class Behind(Unavailable):
    """The read model has not yet seen the position that was asked for; ask again in a moment."""

    def __init__(self, message: str, *, lag_positions: int) -> None:
        self.lag_positions = lag_positions
        super().__init__(message)


class Misconfigured(Unavailable):
    """A setting or a file cannot work as it is."""
