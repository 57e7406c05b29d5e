"""Orders of the web shop: payment, delivery, returns, technicians."""

from __future__ import annotations

from datetime import datetime, timedelta

from bin.demo.catalogue import CARRIERS, PLACES, TECHNICIANS, Data
from bin.demo.service import Service
from bin.demo.telling import Person, Visit, contract, sum_of, time_text
from bin.demo.texts import MAILS, TEXTS


class Orders(Service):
    """What becomes of an order."""

    def _web_order(self, person: Person, visit: Visit, at: datetime, cart: Data) -> None:
        order, shipping = self.serial("HV-", 100_001), 0 if cart["amount_minor"] >= 5000 else 495
        paid = self.one_of("card card paypal invoice")
        money = {
            "amount_minor": cart["amount_minor"] + shipping,
            "currency": cart["currency"],
            "order_id": order,
        }
        where = {"delivery_name": person.name, "delivery_address": f"{person.address} {person.city}"}
        where |= {"delivery_method": "parcel", "country": person.country.code, "session_id": visit.session}
        tell = self.on("shop", *person.shopper(), visit.device, f"order:{order}")
        tell("order.placed", at, cart, money, where, shipping_minor=shipping, payment_method=paid)
        self._service_mail(person, "order", order, self.soon(at, 20, 90))
        if self.chance(0.04):
            reason = self.one_of("changed_mind ordered_twice payment_failed")
            tell = self.on("shop", f"order:{order}")
            tell("order.cancelled", self.soon(at, 900, 40_000), money, reason=reason, cancelled_by="customer")
            return
        self.on("shop", person.email, f"order:{order}")(
            "order.paid", self.soon(at, 5, 400), money, payment_method=paid
        )
        self._delivery(person, money, at, cart["lines"])

    def _service_mail(self, person: Person, template: str, order: str, at: datetime) -> None:
        subject = MAILS[template][person.country.language].format(order=order)
        message = {"message_id": f"<{self.serial('m', 1)}@mail.harbourvale.example>", "subject": subject}
        message |= {"contact": person.email, "to_address": person.emails[0], "order_id": order}
        tell = self.on("mail", person.email, f"order:{order}", **contract("service.order"))
        tell("email.sent", at, message, template=template)
        if self.chance(0.015):
            reason = {"bounce": "temporary", "reason": "mailbox_full", "smtp_code": "4.2.2"}
            self.on("mail", person.email)("email.bounced", self.soon(at, 5, 90), message, reason)

    def _delivery(self, person: Person, money: Data, at: datetime, lines: list[Data]) -> None:
        """The carrier knows the number of the order, and nobody's name."""
        order = money["order_id"]
        tell = self.on("carrier", f"order:{order}")
        shipped = self.later(at, 0.6, 2.5, "desk")
        shared = {"order_id": order, "carrier": self.dice.choice(CARRIERS)}
        tell("order.shipped", shipped, shared, tracking_number=f"NW{self.dice.randrange(10**9):09d}")
        if self.chance(0.35):
            self._service_mail(person, "shipped", order, self.soon(shipped, 60, 600))
        arrived = self.later(shipped, 1, 4, "desk")
        if self.chance(0.3):
            text = TEXTS["today"][person.country.language].format(hour=arrived.hour, later=arrived.hour + 2)
            message = {"contact": person.phone, "to_number": person.phones[0], "text": text, "part_count": 1}
            sms = self.on("sms", person.phone, **contract("service.order"))
            sms("sms.sent", arrived.replace(hour=7), message, order_id=order, template="delivery_today")
        tell("order.delivered", arrived, shared, place=self.dice.choice(PLACES))
        if any(line["category"] == "furniture" for line in lines):
            self._field_visit(person, order, arrived)
        if self.chance(0.32):
            self._case(person, order, lines, arrived, self.one_of("delivery damaged invoice product"))
        if self.chance(0.11):
            self._returned(person, money, arrived, lines)
        elif self.chance(0.3):
            asked = self.soon(arrived, 90_000, 180_000)
            self._survey(person, "nps", "delivery", asked, {"order_id": order}, usual=8.2)

    def _returned(self, person: Person, money: Data, at: datetime, lines: list[Data]) -> None:
        order, back = money["order_id"], self.later(at, 4, 16, "shop")
        value = money | {
            "amount_minor": sum_of(lines[:1]),
            "reason": self.one_of("too_large colour damaged changed_mind"),
        }
        tell = self.on("shop", person.email, f"order:{order}")
        tell("order.returned", back, value, lines=lines[:1], return_id=f"R-{order[3:]}")
        paid_back = self.later(back, 2, 12, "desk")
        self.on("shop", f"order:{order}")("order.refunded", paid_back, value, refund_id=f"RF-{order[3:]}")
        if (paid_back - back).days > 8:
            self._case(person, order, lines, back + timedelta(days=8), "refund")

    def _field_visit(self, person: Person, order: str, at: datetime) -> None:
        """Furniture is put up by a technician."""
        starts = self.later(at, 2, 9, "desk").replace(minute=0, second=0, microsecond=0)
        shared = {"visit_id": self.serial("V-", 3001), "order_id": order, "task": "assemble"}
        shared["agent"] = self.dice.choice(TECHNICIANS)
        planned = {"starts_at": time_text(starts), "ends_at": time_text(starts + timedelta(hours=2))}
        tell = self.on("field", person.phone, person.email, f"order:{order}")
        address = f"{person.address} {person.city}"
        tell(
            "visit.scheduled",
            self.soon(at, 600, 9000),
            shared,
            planned,
            address=address,
            skills=["furniture"],
        )
        tell = self.on("field", person.phone, f"order:{order}")
        if self.chance(0.1):
            cancelled = starts - timedelta(hours=20)
            tell("visit.cancelled", cancelled, shared, reason="customer_away", cancelled_by="customer")
            return
        distance = {"distance_km": round(self.dice.uniform(2, 60), 1), "reason": "nearest_with_skill"}
        self.on("field", f"order:{order}")(
            "visit.dispatched", starts - timedelta(minutes=50), shared, distance
        )
        late_s, took_s = max(0, round(self.dice.gauss(120, 900))), self.dice.randint(1500, 7200)
        begun = starts + timedelta(seconds=late_s)
        tell("visit.started", begun, shared, late_s=late_s)
        report = {"report": "Assembled and levelled, packaging taken away", "signed_by": person.name}
        tell(
            "visit.completed",
            begun + timedelta(seconds=took_s),
            shared,
            report,
            duration_s=took_s,
            outcome="done",
        )
        about = {"visit_id": shared["visit_id"], "agent": shared["agent"]}
        self._survey(person, "csat", "visit", begun + timedelta(hours=6), about, usual=4.4)
