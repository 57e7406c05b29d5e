"""The demonstration history: eighteen months of a fictitious retailer and its customers.

Harbour & Vale sells things for the home in shops and on the web, in Britain, Germany, France and Spain.
Everything is made up and deterministic: addresses end in `.example` or `example.com`, phone numbers
come from ranges that regulators keep for fiction where there are such, and nothing else is read but `now`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from random import Random

from bin.demo.catalogue import CONTROLLER, NEWS, Event
from bin.demo.retailer import Retailer
from bin.demo.telling import time_text

__all__ = ["demo_events", "demo_late_facts", "demo_mailing"]


def demo_events(*, now: datetime, persons: int = 1200, seed: int = 7) -> Iterator[Event]:
    """The history up to *now*, as CloudEvents, in the order in which the retailer would have sent them.

    The order is that of time, but for facts that were written on paper and typed in weeks later.
    """
    yield from Retailer(now, persons, seed).told()


def demo_mailing(*, now: datetime, sent_at: datetime, persons: int = 1200, seed: int = 7) -> Iterator[Event]:
    """One more newsletter, sent after the history up to *now* was recorded; to some who do not want it, too.

    Consents of the history count as known only from its loading on; of this mailing a sender could know.
    """
    retailer = Retailer(now, persons, seed)
    dice = Random(f"{seed} mailing")  # noqa: S311
    wanted = (p for p in retailer.persons if p.wants(NEWS, "email", p.email, now) or dice.random() < 0.02)
    for n, person in enumerate(islice(wanted, 80)):
        yield {
            "specversion": "1.0",
            "id": f"mailing-{n + 1:04d}",
            "source": "demo/mail",
            "type": "email.sent",
            "time": time_text(sent_at + timedelta(milliseconds=n)),
            "subject": person.email,
            "purpose": NEWS,
            "data": {
                "contact": person.email,
                "campaign_id": "CMP-15",
                "subject": "This week at Harbour & Vale",
                "template": "newsletter",
                "language": person.country.language,
                "message_id": f"<mailing-{n + 1}@mail.harbourvale.example>",
            },
        }


def demo_late_facts(mailing: Sequence[Event], *, now: datetime) -> Iterator[Event]:
    """Letters that lay about while the mailing went out: some of those who got it had withdrawn or objected days before.

    They are told after it, so the report on it changes: what looked compliant turns out to be a breach that
    nobody could have known of when it was sent.
    """
    for n, mail in enumerate(mailing[3:60:8]):
        objected = n % 3 == 2
        said = {
            "contact": mail["data"]["contact"],
            "purpose": NEWS,
            "channel": "email",
            "controller": CONTROLLER,
        }
        yield {
            "specversion": "1.0",
            "id": f"late-letter-{n + 1:02d}",
            "source": "demo/consents",
            "type": "consent.objected" if objected else "consent.withdrawn",
            "time": time_text(now - timedelta(days=3 + n, hours=2)),
            "subject": mail["subject"],
            "data": said | {"method": "letter", "evidence": "letter, in the archive"},
        }
