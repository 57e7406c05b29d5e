"""Selling to companies, subscriptions, and customers who move."""

from __future__ import annotations

from datetime import datetime, timedelta

from bin.demo.catalogue import CONTROLLER, ROOMS, SELLERS, STORES, Data
from bin.demo.telling import Person, Telling, contract, time_text


class Selling(Telling):
    """What the sales department does."""

    def _sale(self, person: Person) -> None:
        """A company furnishes its rooms: from lead to quote, won or lost."""
        at, how = self.day(person.joined_at, "desk"), self.one_of("web_form trade_fair referral")
        shared = {"lead_id": self.serial("L-", 601), "agent": self.dice.choice(SELLERS)}
        if how == "web_form":
            fields = {"name": person.name, "company": person.company, "email": person.emails[0]}
            tell = self.on("web", person.email, person.devices[0])
            tell("web.form_submitted", at, form="business_enquiry", path="/business", fields=fields)
        who = {"name": person.name, "company": person.company, "lead_source": how, "interest": "furnishing"}
        found = self.soon(at, 60, 4000)
        self.on("crm", person.crm, person.email, person.phone)(
            "lead.captured", found, shared, who, agent=None
        )
        tell = self.on("crm", person.crm)
        tell("lead.assigned", self.soon(found, 60, 9000), shared, territory=person.country.code)
        at, good = self.later(found, 1, 6, "desk"), self.chance(0.65)
        tell("lead.qualified", at, shared, qualified=good, rating="warm" if good else "cold")
        if not good:
            return
        shared["opportunity_id"] = self.serial("O-", 401)
        deal: Data = {"amount_minor": self.dice.randrange(200_000, 4_000_000, 5_000)}
        deal |= {
            "currency": person.country.currency,
            "opportunity": f"{person.company}: {self.dice.choice(ROOMS)}",
        }
        at = self.soon(at, 60, 900)
        tell("opportunity.opened", at, shared, deal, stage="discovery", probability_pct=20)
        at = self.later(at, 2, 12, "desk")
        other = f"{self.dice.choice(person.country.first)} {self.dice.choice(person.country.last)}"
        guest = {"ref": f"email:facilities{person.number}@example.org", "name": other, "role": "facilities"}
        met: Data = {
            "meeting_id": self.serial("M-", 501),
            "subject": "Measuring up and samples",
            "participants": [guest],
        }
        met |= {
            "store": self.dice.choice(STORES[person.country.code]),
            "duration_s": 300 * self.dice.randint(6, 24),
        }
        self.on("crm", person.crm, person.email)("meeting.held", at, shared, met)
        self._quote(person, shared, deal, at)

    def _quote(self, person: Person, shared: Data, deal: Data, at: datetime) -> None:
        tell, quote = self.on("crm", person.crm), self.serial("Q-", 801)
        at = self.later(at, 1, 7, "desk")
        moved = {"stage": "quote", "stage_before": "discovery", "probability_pct": 50}
        tell("opportunity.stage_changed", at, shared, deal, moved)
        money: Data = {"amount_minor": deal["amount_minor"], "currency": deal["currency"]}
        money["line_count"] = self.dice.randint(3, 18)
        offer = {"quote_id": quote, "discount_pct": self.dice.choice((0, 5, 10)), "contact": person.email}
        send = self.on("crm", person.crm, person.email, channel="email", **contract("sales.quote"))
        valid_until = time_text(at + timedelta(days=30))
        send("quote.sent", self.soon(at, 60, 3000), shared, money, offer, valid_until=valid_until)
        follow = shared | {"followup_id": f"F-{quote[2:]}", "quote_id": quote, "task": "call"}
        tell(
            "followup.scheduled", self.soon(at, 3100, 4000), follow, due_at=time_text(at + timedelta(days=5))
        )
        at = self.later(at, 4, 8, "desk")
        tell("followup.done", at, follow, outcome="asked_for_changes", note="Wants the chairs in walnut")
        at = self.later(at, 3, 20, "desk")
        moved = {"stage": "negotiation", "stage_before": "quote", "probability_pct": 70}
        tell("opportunity.stage_changed", at, shared, deal, moved)
        at = self.later(at, 2, 15, "desk")
        if self.chance(0.55):
            order = self.serial("HV-", 100_001)
            tell("opportunity.won", at, shared, deal, order_id=order, probability_pct=100)
            buy = self.on("shop", person.crm, person.email, f"order:{order}", channel="sales")
            placed = {"order_id": order, "payment_method": "invoice", "agent": shared["agent"]}
            buy("order.placed", self.soon(at, 600, 9000), money, placed)
        else:
            reason = self.one_of("price timing competitor")
            rival = "Nordlund" if reason == "competitor" else None
            tell("opportunity.lost", at, shared, deal, reason=reason, competitor=rival)

    def _subscription(self, person: Person) -> None:
        """Coffee, every month, until it is too much."""
        at, months = self.day(person.joined_at, "web"), self.dice.randint(1, 12)
        plan: Data = {
            "subscription_id": self.serial("SUB-", 1201),
            "plan": "Coffee club",
            "interval": "month",
        }
        plan |= {"amount_minor": self.dice.choice((1490, 1990, 2490)), "currency": person.country.currency}
        renews_at = time_text(at + timedelta(days=30))
        self.on("shop", *person.shopper())("subscription.started", at, plan, renews_at=renews_at)
        tell = self.on("shop", person.email)
        for month in range(1, months):
            tell("subscription.renewed", at + timedelta(days=30 * month), plan)
        if self.chance(0.6):
            reason = self.one_of("too_much_coffee price card_expired")
            tell("subscription.ended", at + timedelta(days=30 * months), plan, reason=reason)

    def _moved(self, person: Person) -> None:
        """A new address; and sometimes the old number goes to somebody else."""
        at = self.day(person.joined_at, "web")
        city, street = self.dice.choice(person.country.cities), self.dice.choice(person.country.streets)
        traits = {"city": city, "address": f"{self.dice.randint(1, 99)} {street}"}
        tell = self.on("shop", person.user or person.email)
        tell(
            "profile.updated", at, identifiers={"email": person.emails}, traits=traits, method="account_page"
        )
        if self.chance(0.15):
            lost = {"contact": person.phone, "method": "carrier_notice", "controller": CONTROLLER}
            self.on("consents")("contact.reassigned", self.later(at, 20, 60, "desk"), lost)
