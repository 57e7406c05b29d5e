"""The list of what happened, and what every story tells it with: customers, time, chance."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple

import msgspec

from bin.demo.catalogue import DAYS, Country, Data, Event
from bin.demo.clocks import CLOCKS, SEASON
from bin.demo.texts import Campaign

Word = tuple[datetime, bool]
"""Yes or no, and since when."""


class Visit(NamedTuple):
    session: str
    device: str


class Told(NamedTuple):
    """An event with the time at which its source sends it."""

    arrives_at: datetime
    number: int
    event: Event
    snapshot: str | None


class Person(msgspec.Struct):
    """A customer as the retailer's systems know them, each under a name of its own."""

    number: int
    country: Country
    first: str
    last: str
    address: str
    city: str
    emails: list[str]
    phones: list[str]
    devices: list[str]
    joined_at: datetime
    user: str = ""  # an account in the web shop
    crm: str = ""  # a record in the sales department's system
    cards: list[str] = msgspec.field(default_factory=list)
    company: str = ""
    known_at: datetime | None = None  # since when the browser's visits are signed in
    wishes: dict[tuple[str, str, str], list[Word]] = msgspec.field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.first} {self.last}"

    @property
    def email(self) -> str:
        return f"email:{self.emails[0]}"

    @property
    def phone(self) -> str:
        return f"phone:{self.phones[0]}"

    @property
    def whatsapp(self) -> str:
        return f"whatsapp:{self.phones[0]}"

    def shopper(self) -> list[str]:
        """How the web shop names a buyer."""
        refs = [self.user, self.email] if self.user else [self.email, self.phone]
        return [ref for ref in refs if ref]

    def wants(self, purpose: str, channel: str, contact: str, at: datetime) -> bool:
        """Whether the last word before *at* was a yes."""
        words = [word for word in self.wishes.get((purpose, channel, contact), ()) if word[0] <= at]
        return max(words)[1] if words else False


def time_text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def numbered(pattern: str, digits: int) -> str:
    """*pattern* with its `#` filled by the last digits of a number."""
    width = pattern.count("#")
    filled = iter(f"{digits:0{width}d}"[-width:])
    return "".join(next(filled) if c == "#" else c for c in pattern)


def plainly(name: str) -> str:
    """A name as it stands in an address: without accents."""
    spelled = name.lower()
    for letters, plain in (
        ("äáàâ", "a"),
        ("éèêë", "e"),
        ("íïîıì", "i"),
        ("öóôò", "o"),
        ("üúùû", "u"),
        ("ñ", "n"),
        ("ç", "c"),
    ):
        for letter in letters:
            spelled = spelled.replace(letter, plain)
    return spelled.replace("ß", "ss")


class Telling:
    """One list of events, and what is needed to add to it: systems, time and chance."""

    persons: list[Person]
    campaigns: list[Campaign]

    def __init__(self, now: datetime, seed: int) -> None:
        self.now = now.astimezone(UTC)
        self.start = (self.now - timedelta(days=DAYS)).replace(hour=0, minute=0, second=0, microsecond=0)
        self.dice = Random(f"{seed}")  # noqa: S311
        self.counters: dict[str, int] = {}
        self.events: list[Told] = []
        self.withdrawn: dict[str, str] = {}  # contact point -> id of the fact
        growth = (0.7 + 0.6 * n / DAYS for n in range(DAYS + 1))
        days = (self.start + timedelta(days=n) for n in range(DAYS + 1))
        busy = (
            g * SEASON[d.month - 1] * (1.25 if d.weekday() > 4 else 1)
            for g, d in zip(growth, days, strict=True)
        )
        self.season = list(accumulate(busy))

    def on(self, source: str, *refs: str, **extensions: str) -> Teller:
        """A teller of what happens in one system to one customer: the subject, then further identifiers."""
        return Teller(self, source, [ref for ref in refs if ref], extensions)

    def told(self) -> Iterator[Event]:
        """All events in order; `snapshot` is the place in this order, which is the position in an empty log."""
        self.events.sort(key=lambda told: (told.arrives_at, told.number))
        places = {told.event["id"]: place for place, told in enumerate(self.events)}
        for place, told in enumerate(self.events):
            if told.snapshot is not None:
                told.event["snapshot"] = min(place, places.get(told.snapshot, place))
            yield told.event

    def day(self, after: datetime, clock: str) -> datetime:
        """A moment after *after*, by season and hour."""
        first = min(max((after - self.start).days, 0), DAYS)
        below = self.season[first - 1] if first else 0.0
        place = bisect_left(self.season, self.dice.uniform(below, self.season[-1]))
        at = self._at(self.start + timedelta(days=min(place, DAYS)), clock)
        return at if at > after else after + timedelta(minutes=self.dice.randint(20, 600))

    def later(self, at: datetime, low_days: float, high_days: float, clock: str) -> datetime:
        """A moment so many days after *at*, at an hour when such things happen."""
        then = self._at(at + timedelta(days=self.dice.uniform(low_days, high_days)), clock)
        return then if then > at else at + timedelta(minutes=self.dice.randint(30, 240))

    def _at(self, day: datetime, clock: str) -> datetime:
        hour = bisect_left(CLOCKS[clock], self.dice.uniform(0.001, CLOCKS[clock][-1]))
        minute, second, ms = self.dice.randrange(60), self.dice.randrange(60), self.dice.randrange(1000)
        return day.replace(hour=hour, minute=minute, second=second, microsecond=ms * 1000)

    def soon(self, at: datetime, low_s: float, high_s: float) -> datetime:
        """A moment so many seconds after *at*."""
        return at + timedelta(seconds=round(self.dice.uniform(low_s, high_s), 3))

    def chance(self, share: float) -> bool:
        """Whether something happens that happens in *share* of all cases."""
        return self.dice.random() < share

    def one_of(self, choices: str) -> str:
        """One of some words; a word that stands twice is twice as likely."""
        return self.dice.choice(choices.split())

    def serial(self, prefix: str, first: int) -> str:
        """The next number of a series of business numbers."""
        number = self.counters[prefix] = self.counters.get(prefix, first - 1) + 1
        return f"{prefix}{number}"


class Teller:
    """Adds events of one system about one customer to the list, unless they have not happened yet."""

    def __init__(self, retailer: Telling, source: str, refs: list[str], extensions: dict[str, str]) -> None:
        self._retailer = retailer
        self._source = source
        self._named: Data = {"subject": refs[0]} if refs else {}
        if len(refs) > 1:
            self._named["identifiers"] = ",".join(refs[1:])
        self._named.update(extensions)

    def __call__(
        self,
        kind: str,
        at: datetime,
        *shared: Data,
        typed_in_at: datetime | None = None,
        snapshot: str | None = None,
        **data: Any,
    ) -> str:
        """Add one event; answers with its id.

        Args:
            typed_in_at: when it was sent, if not at once.
            snapshot: "now", or the id of an event just before which the sender looked at the consents.
        """
        name = self._retailer.serial(f"{self._source}-", 100_001)
        if at >= self._retailer.now:
            return name
        whole: Data = {}
        for part in (*shared, data):
            whole.update(part)
        event: Event = {
            "specversion": "1.0",
            "id": name,
            "source": f"demo/{self._source}",
            "type": kind,
            "time": time_text(at),
            **self._named,
            "data": {field: value for field, value in whole.items() if value is not None and value != ""},
        }
        arrives_at = at if typed_in_at is None else min(typed_in_at, self._retailer.now)
        events = self._retailer.events
        events.append(Told(arrives_at, len(events), event, snapshot))
        return name


def contract(purpose: str) -> dict[str, str]:
    """A message that an order or a question of the customer's calls for."""
    return {"purpose": purpose, "legalbasis": "contract"}


def fact_of(source: str, fact: str) -> Data:
    return {"source": f"demo/{source}", "id": fact}


def sum_of(lines: list[Data]) -> int:
    return sum(line["quantity"] * line["unit_price_minor"] for line in lines)
