"""Customers who are known twice: what the list of likely duplicates is for."""

from __future__ import annotations

from datetime import datetime, timedelta
from random import Random

from bin.demo.catalogue import AGENTS, Data
from bin.demo.telling import Person, Telling, plainly

KNOWN_TWICE = 12


class Twice(Telling):
    """What the desk types in while somebody is on the telephone."""

    def _known_twice(self) -> None:
        """Orders by telephone under another address of theirs, each time spelt a little otherwise."""
        dice = Random(f"{len(self.persons)} twice")  # noqa: S311 - its own, so that all else stays as it is
        known = [
            (person, person.known_at)
            for person in self.persons
            if person.known_at is not None and person.known_at < self.now - timedelta(days=40)
        ][24:]
        for n, (person, known_at) in enumerate(known[:KNOWN_TWICE]):
            self._typed_in(person, self.soon(known_at, 3_600, 86_400), n, dice)

    def _typed_in(self, person: Person, at: datetime, n: int, dice: Random) -> None:
        street, _, postcode = person.address.rpartition(", ")
        home: Data = {"street": street, "postcode": postcode, "city": person.city}
        born = f"{dice.randint(1948, 2004)}-{dice.randint(1, 12):02d}-{dice.randint(1, 28):02d}"
        said: Data = {"address": home, "birthday": born}
        self.on("shop", person.user)("profile.updated", at, traits=said, method="account_page")
        other = f"{plainly(person.last)}{person.number}@example.org"
        shortened = f"{person.first[:-1] if len(person.first) > 4 else person.first} {person.last}"
        traits: list[Data] = [
            {"name": shortened, "address": home},
            {"name": person.name.upper(), "birthday": born},
            {"first_name": person.first[0] + ".", "last_name": person.last, "phone": person.phones[0]},
            {"name": f"{person.last}, {person.first}", "address": home | {"city": ""}, "birthday": born},
        ]
        tell = self.on("service", f"email:desk.{other}")
        heard = self.later(at, 1, 30, "desk")
        tell(
            "profile.updated",
            heard,
            traits=traits[n % 4],
            method="telephone_order",
            agent=dice.choice(AGENTS),
        )
