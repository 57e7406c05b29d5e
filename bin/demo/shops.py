"""Shops and loyalty cards."""

from __future__ import annotations

from datetime import datetime, timedelta

from bin.demo.catalogue import EVENINGS, SMALL_PRODUCTS, STORES, Data
from bin.demo.telling import Person, sum_of
from bin.demo.web_shop import WebShop


class Shops(WebShop):
    """What happens at the till."""

    def _loyalty(self, person: Person) -> None:
        """A card that is swiped with what is bought; points are earned, spent, and lapse."""
        card, store = person.cards[0], self.dice.choice(STORES[person.country.code])
        at, points = self.day(person.joined_at, "shop"), 0
        known = [person.email] if self.chance(0.8) else [person.phone]
        if self.chance(0.7):
            known.append(person.user)
        program = {"program": "Vale Card", "store": store}
        self.on("loyalty", card, *known)("loyalty.enrolled", at, program, tier="blue", card_number=card[13:])
        for purchase in range(self.dice.choice((1, 1, 2, 2, 3, 3, 5, 8))):
            if purchase == 1 and len(person.cards) > 1:
                card = person.cards[1]
                replaced = self.on("loyalty", person.email, card)
                replaced("profile.updated", at, traits={"vale_card": "replaced"})
            points = self._store_order(person, card, program, at, points)
            at = self.later(at, 15, 90, "shop")
        if points > 0 and self.chance(0.12):
            lapsed = {"points": points, "balance_points": 0}
            self.on("loyalty", card)("loyalty.points_expired", at + timedelta(days=120), program, lapsed)

    def _store_order(self, person: Person, card: str, program: Data, at: datetime, points: int) -> int:
        """A purchase at a till: the card is all the name there is."""
        order, currency = self.serial("T-", 700_001), person.country.currency
        lines = [
            self._line(p) for p in self.dice.sample(SMALL_PRODUCTS, self.dice.choice((1, 1, 1, 2, 2, 3)))
        ]
        where = {"store": program["store"], "till": f"till-{self.dice.randint(1, 4)}", "order_id": order}
        money = {"amount_minor": sum_of(lines), "currency": currency}
        self.on("till", card)("loyalty.card_swiped", at, program, where, money)
        tell = self.on("till", card, f"order:{order}", channel="store")
        tell(
            "order.placed",
            self.soon(at, 5, 60),
            where,
            money,
            lines=lines,
            payment_method=self.one_of("card cash"),
        )
        earned = sum_of(lines) // 100
        points += earned
        tell = self.on("loyalty", card)
        tell(
            "loyalty.points_earned",
            self.soon(at, 60, 90),
            program,
            where,
            points=earned,
            balance_points=points,
        )
        if points > 250 and self.chance(0.5):
            spent = points // 100 * 100
            points -= spent
            worth = {
                "points": spent,
                "balance_points": points,
                "amount_minor": spent * 2,
                "currency": currency,
            }
            tell("loyalty.points_redeemed", self.soon(at, 91, 120), program, where, worth, reward="voucher")
        if self.chance(0.06):
            self._case(person, order, lines, at, self.one_of("damaged damaged invoice product"))
        return points

    def _evening(self, person: Person) -> None:
        at = self.day(person.joined_at, "shop").replace(hour=18, minute=30)
        name, store = self.dice.choice(EVENINGS), self.dice.choice(STORES[person.country.code])
        tell = self.on("events", *person.cards[:1] or [person.email])
        tell("event.attended", at, name=name, store=store, duration_s=self.dice.randrange(3600, 9000, 600))
