"""The retailer whole: its customers, and each one's life over eighteen months."""

from __future__ import annotations

from datetime import datetime

from bin.demo.campaigns import Campaigns
from bin.demo.catalogue import COMPANIES, COUNTRIES
from bin.demo.consent import Consents
from bin.demo.selling import Selling
from bin.demo.shops import Shops
from bin.demo.telling import Person, numbered, plainly
from bin.demo.texts import CAMPAIGNS
from bin.demo.twice import Twice


class Retailer(Shops, Campaigns, Selling, Consents, Twice):
    """The retailer's systems over eighteen months; every story adds events to one list."""

    def __init__(self, now: datetime, persons: int, seed: int) -> None:
        super().__init__(now, seed)
        self.persons = [self._person(n) for n in range(persons)]
        self.campaigns = [self._themed(campaign) for campaign in CAMPAIGNS]
        self._notices()
        self._campaigns_launched()
        for person in self.persons:
            self._life(person)
        self._strangers(persons // 4)
        self._shared_devices()
        for campaign in self.campaigns:
            self._campaign(campaign)
        self._corrections()
        self._known_twice()

    def _person(self, n: int) -> Person:
        dice = self.dice
        country = dice.choices(COUNTRIES, [c.weight for c in COUNTRIES])[0]
        first, last = dice.choice(country.first), dice.choice(country.last)
        street = f"{dice.randint(1, 120)} {dice.choice(country.streets)}"
        emails = [f"{plainly(first)}.{plainly(last)}{n}@example.com"]
        if self.chance(0.22):
            emails.append(f"{plainly(last)}{n}@example.org")
        if self.chance(0.03):
            emails.append(f"{plainly(first)}{n}@example.net")
        phones = [numbered(country.mobile, n)]
        if self.chance(0.3):
            phones.append(numbered(country.landline, n))
        person = Person(
            number=n,
            country=country,
            first=first,
            last=last,
            address=f"{street}, {numbered(country.postcode, dice.randrange(10**4))}",
            city=dice.choice(country.cities),
            emails=emails,
            phones=phones,
            devices=[
                f"anonymous:{dice.getrandbits(64):016x}" for _ in range(dice.choice((1, 1, 1, 2, 2, 3)))
            ],
            joined_at=self.start if self.chance(0.5) else self.day(self.start, "web"),
        )
        if self.chance(0.62):
            person.user = f"user:u-{10_000 + n}"
        if self.chance(0.45):
            person.cards = [f"loyalty_card:63{n:08d}"]
            if self.chance(0.06):
                person.cards.append(f"loyalty_card:64{n:08d}")  # it replaced a lost one
        if self.chance(0.07):
            person.company = f"{dice.choice(COMPANIES)} {self.one_of('Hotel Interiors Cafe Studio Lettings')}"
            person.crm = f"crm:C-{5000 + n}"
        return person

    def _life(self, person: Person) -> None:
        """What one customer does: visits, buys, asks, answers, wants and no longer wants."""
        if person.cards:
            self._loyalty(person)
        for _ in range(self.dice.choices((0, 1, 2, 3, 5, 8), (14, 24, 24, 20, 12, 6))[0]):
            self._web_visit(person, self.day(person.joined_at, "web"))
        self._consents(person)
        if person.company:
            self._sale(person)
        for share, story in (
            (0.3, self._enquiry),
            (0.05, self._subscription),
            (0.06, self._question_by_whatsapp),
            (0.08, self._missed_call),
            (0.04, self._evening),
            (0.06, self._moved),
        ):
            if self.chance(share):
                story(person)
