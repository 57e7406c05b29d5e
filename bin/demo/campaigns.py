"""Campaigns: who is written to, who reads, who answers; and what was counted wrongly."""

from __future__ import annotations

from datetime import datetime, timedelta

from bin.demo.catalogue import SHOP, Data
from bin.demo.telling import Person
from bin.demo.texts import TEXTS, THEMES, Campaign
from bin.demo.web_shop import WebShop


class Campaigns(WebShop):
    """What is sent, and what becomes of it."""

    def _themed(self, campaign: Campaign) -> Campaign:
        """With the name and subject of its month."""
        name, subject = THEMES[(self.start + timedelta(days=campaign.day)).month - 1]
        return campaign._replace(name=name, subject=subject)

    def _campaigns_launched(self) -> None:
        for campaign in self.campaigns:
            at = self.start + timedelta(days=campaign.day, hours=8)
            plan = {"goal": "orders", "budget_minor": 150_000, "currency": "GBP", "segment": campaign.way}
            self.on("campaigns")("campaign.launched", at, campaign.named(), plan)

    def _campaign(self, campaign: Campaign) -> None:
        """To those who agreed, and by mistake to some who did not."""
        began = self.start + timedelta(days=campaign.day, hours=9)
        channel = {"newsletter": "email", "offer": "email"}.get(campaign.way, campaign.way)
        for person in self.persons:
            contact = {"email": person.email, "sms": person.phone, "whatsapp": person.whatsapp}[channel]
            wanted = person.wants(campaign.purpose, channel, contact, began)
            if person.joined_at > began or not self.chance(0.85 if wanted else 0.012):
                continue
            if campaign.way == "whatsapp" or self.chance(0.05):
                tell = self.on("campaigns", contact)
                added = began - timedelta(hours=3)
                tell("campaign.member_added", added, campaign.named(), segment=campaign.way)
            self._send(person, contact, campaign, self.soon(began, 0, 3600))

    def _send(self, person: Person, contact: str, campaign: Campaign, at: datetime) -> None:
        """One message; a sender looks at the consents just before, or has an old list."""
        language = person.country.language
        message = {"contact": contact, "message_id": f"<{self.serial('m', 1)}@mail.harbourvale.example>"}
        purpose = {"purpose": campaign.purpose} if self.chance(0.995) else {}  # now and then it is forgotten
        looked = "now" if self.chance(0.8) else self.withdrawn.get(contact, "now")
        offer = {"text": TEXTS["offer"][language], "offer": campaign.name}
        if campaign.way == "sms":
            text = {"text": TEXTS["offer"][language], "to_number": person.phones[0], "part_count": 1}
            tell = self.on("sms", contact, **purpose)
            tell("sms.sent", at, message, text, snapshot=looked, campaign_id=campaign.id)
        elif campaign.way == "whatsapp":
            tell = self.on("campaigns", contact, channel="whatsapp", **purpose)
            tell("campaign.message_sent", at, message, campaign.named(), offer, snapshot=looked)
        elif campaign.way == "offer":
            tell = self.on("campaigns", contact, channel="email", **purpose)
            tell(
                "campaign.message_sent",
                at,
                message,
                campaign.named(),
                offer,
                snapshot=looked,
                subject=campaign.subject,
            )
        else:
            letter = {"subject": campaign.subject, "template": "newsletter", "language": language}
            tell = self.on("mail", contact, **purpose)
            tell("email.sent", at, message, letter, snapshot=looked, campaign_id=campaign.id)
        self._response(person, message, campaign, at)

    def _response(self, person: Person, message: Data, campaign: Campaign, at: datetime) -> None:
        if campaign.way in {"newsletter", "offer"}:
            clicked = self._read(message | {"campaign_id": campaign.id, "subject": campaign.subject}, at)
        else:
            clicked = self.soon(at, 60, 9000) if self.chance(0.06) else None
        if clicked is None:
            return
        tell = self.on("campaigns", message["contact"])
        about = campaign.named() | {"message_id": message["message_id"]}
        tell("campaign.responded", clicked, about, response="clicked")
        self._web_visit(person, self.soon(clicked, 1, 5))

    def _read(self, mail: Data, at: datetime) -> datetime | None:
        """What becomes of a mail; when its link was followed, if it was."""
        tell = self.on("mail", mail["contact"])
        if self.chance(0.02):
            reason = {"bounce": "permanent", "reason": "unknown_user", "smtp_code": "5.1.1"}
            tell("email.bounced", self.soon(at, 2, 60), mail, reason)
            return None
        if self.chance(0.25):
            tell("email.delivered", self.soon(at, 1, 30), mail)
        if not self.chance(0.3):
            return None
        opened = self.soon(at, 300, 90_000)
        tell("email.opened", opened, mail)
        if self.chance(0.006):
            tell("email.complained", self.soon(opened, 5, 60), mail)
        if not self.chance(0.22):
            return None
        clicked = self.soon(opened, 5, 120)
        url = f"{SHOP}/?utm_source=newsletter&utm_medium=email&utm_campaign={mail['campaign_id']}"
        tell("email.clicked", clicked, mail, url=url, link="hero")
        return clicked

    def _corrections(self) -> None:
        """Telephony once counted some waiting as talking."""
        calls = (told.event for told in self.events if told.event["type"] == "call.ended")
        for event in [call for call in calls if call["data"].get("wait_s", 0) > 200][:8]:
            talk_s = max(event["data"]["duration_s"] - 60, 1)
            patch = {"data": {**event["data"], "duration_s": talk_s}}
            at = datetime.fromisoformat(event["time"]) + timedelta(days=2)
            of = {"source": event["source"], "id": event["id"]}
            self.on("telephony")(
                "correction.recorded", at, of=of, patch=patch, reason="waiting_counted_as_talking"
            )
