"""Consent: notices, what customers want, and no longer want."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from bin.demo.catalogue import CONTROLLER, NEWS, OFFERS, PROFILING, SHOP, Data
from bin.demo.telling import Person, Telling, Word, fact_of, time_text
from bin.demo.texts import LANGUAGES, MAILS, NOTICES


class Consents(Telling):
    """What is asked and answered about data."""

    def _notice(self, name: str, version: str, language: str) -> Data:
        text = f"[{language}] {NOTICES[name, version][2]}"
        named = {"id": name, "version": version, "language": language}
        return {**named, "sha256": hashlib.sha256(text.encode()).hexdigest()}

    def _notices(self) -> None:
        """Texts come into use, and one changes so much that what was given under it ends."""
        tell = self.on("consents")
        for (name, version), (day, purpose, text) in NOTICES.items():
            at = self.start + timedelta(days=day, hours=8)
            for language in LANGUAGES:
                shown = {"notice": self._notice(name, version, language), "text": f"[{language}] {text}"}
                shown |= {"title": f"{name.capitalize()}, version {version}", "purposes": [purpose]}
                tell("notice.published", at, shown, controller=CONTROLLER)
            if version == "2":
                change = {"notice": {"id": name, "version": "1"}, "by": {"id": name, "version": "2"}}
                material = name == "offers"
                tell(
                    "notice.superseded",
                    self.soon(at, 60, 600),
                    change,
                    material=material,
                    controller=CONTROLLER,
                )

    def _consents(self, person: Person) -> None:
        if self.chance(0.66):
            self._consent(person, NEWS, "email", person.email, "newsletter")
        elif self.chance(0.3):
            self._refused(person)
        if self.chance(0.4):
            self._consent(person, OFFERS, "email", person.email, "offers")
        if self.chance(0.2):
            self._consent(person, OFFERS, "sms", person.phone, "offers")
        if self.chance(0.06):
            self._consent(person, OFFERS, "whatsapp", person.whatsapp, "offers")
        if person.user and self.chance(0.15):
            self._consent(person, PROFILING, "web", person.email, "profiling")
        if self.chance(0.015):
            at = self.day(person.joined_at, "desk")
            all_of_it = {"purpose": "*", "channel": "*", "controller": CONTROLLER, "method": "letter"}
            self.on("consents", person.email)(
                "consent.objected", at, all_of_it, jurisdiction=person.country.code
            )
            for words in person.wishes.values():
                words.append((at, False))

    def _fact(self, person: Person, purpose: str, channel: str, contact: str) -> Data:
        scope = {"contact": contact, "purpose": purpose, "channel": channel}
        return {**scope, "controller": CONTROLLER, "jurisdiction": person.country.code}

    def _shown(self, person: Person, name: str, at: datetime) -> Data:
        """The notice that was in use at *at*."""
        newer = NOTICES.get((name, "2"))
        version = "2" if newer and at >= self.start + timedelta(days=newer[0], hours=8) else "1"
        return {"legal_basis": "consent", "notice": self._notice(name, version, person.country.language)}

    def _refused(self, person: Person) -> None:
        at = self.day(person.joined_at, "web")
        asked = self._fact(person, NEWS, "email", person.email) | self._shown(person, "newsletter", at)
        tell = self.on("consents", person.email)
        tell("consent.requested", at, asked, method="checkout")
        if self.chance(0.6):
            tell("consent.refused", self.soon(at, 20, 200), asked, method="checkout")

    def _consent(self, person: Person, purpose: str, channel: str, contact: str, notice: str) -> None:
        """One consent, from giving to taking back, proven as the way of giving allows."""
        at = self.day(person.joined_at, "web")
        method = self.one_of("form form form form checkout checkout call paper")
        scope = self._fact(person, purpose, channel, contact)
        given = scope | self._shown(person, notice, at) | {"method": method}
        online = method in {"form", "checkout"}
        given["evidence"] = (
            {"page": f"{SHOP}/{method}"} if online else f"{method} of {at:%Y-%m-%d}, in the archive"
        )
        if self.chance(0.3):
            given["valid_until"] = time_text(at + timedelta(days=self.dice.choice((180, 365, 730))))
        # What was signed on paper is typed in weeks later: mails in between could not be proven when sent.
        typed_in_at = self.later(at, 9, 45, "desk") if method == "paper" else None
        twice = method == "form" and channel == "email" and person.country.code != "GB"
        tell = self.on("consents", contact, person.user if online else "")
        fact = tell(
            "consent.given", at, given, typed_in_at=typed_in_at, double_opt_in=True if twice else None
        )
        if twice:
            ask = {
                "contact": contact,
                "subject": MAILS["confirm"][person.country.language],
                "template": "confirm",
            }
            basis = {"purpose": "service.confirmation", "legalbasis": "legal_obligation"}
            self.on("mail", contact, **basis)("email.sent", self.soon(at, 5, 30), ask)
            if self.chance(0.14):
                return  # never confirmed
            at = self.soon(at, 60, 90_000)
            proof = {"method": "link", "evidence": "confirmation link followed"}
            self.on("consents", contact)("consent.confirmed", at, proof, of=fact_of("consents", fact))
        words = person.wishes.setdefault((purpose, channel, contact), [])
        words.append((at, True))
        self._change_of_mind(person, scope, given, fact, at, words)

    def _change_of_mind(
        self, person: Person, scope: Data, given: Data, fact: str, at: datetime, words: list[Word]
    ) -> None:
        """What becomes of a consent; most stay as they are."""
        fate, then = self.dice.random(), self.later(at, 20, 300, "web")
        tell = self.on("consents", scope["contact"])
        if fate < 0.13:
            self._withdrawn(person, scope, then)
            words.append((then, False))
        elif fate < 0.19:
            tell("consent.renewed", then, given, method="account", evidence="preference page")
            words.append((then, True))
        elif fate < 0.205:
            tell("consent.revoked", then, scope, reason="hard_bounces", method="rule", actor="list hygiene")
            words.append((then, False))
        elif fate < 0.22:
            tell(
                "consent.invalidated", then, of=fact_of("consents", fact), reason="box_was_ticked_beforehand"
            )
            words.append((then, False))
        elif fate < 0.235:
            patch = {"method": "call", "evidence": "recording found"}
            tell("consent.corrected", then, of=fact_of("consents", fact), patch=patch, reason="typing_error")

    def _withdrawn(self, person: Person, scope: Data, at: datetime) -> None:
        """By a click, a word, or a letter that lay about for a while."""
        channel, contact = scope["channel"], scope["contact"]
        letter = self.chance(0.12)
        method = "letter" if letter else {"email": "one_click", "sms": "stop_word"}.get(channel, "account")
        typed_in_at = self.later(at, 3, 20, "desk") if letter else None
        if method == "one_click":
            left = {"contact": contact, "list_id": scope["purpose"], "method": method}
            self.on("mail", contact)("email.unsubscribed", at, left)
        elif method == "stop_word":
            self.on("sms", contact)("sms.received", at, from_number=person.phones[0], text="STOP")
        tell = self.on("consents", contact)
        fact = tell("consent.withdrawn", self.soon(at, 0.1, 2), scope, typed_in_at=typed_in_at, method=method)
        self.withdrawn[contact] = fact
