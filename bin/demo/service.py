"""Service: questions, cases, calls, chats, surveys."""

from __future__ import annotations

from datetime import datetime, timedelta

from bin.demo.catalogue import AGENTS, Data
from bin.demo.telling import Person, Telling, contract, time_text
from bin.demo.texts import ANSWERS, COMMENTS, SUMMARIES, TEXTS, TOPICS


class Service(Telling):
    """What the service desk does."""

    def _case(self, person: Person, order: str, lines: list[Data], at: datetime, topic: str) -> None:
        """A question becomes a case; calls, mails and chats about it carry its number."""
        opened, case, language = (
            self.later(at, 0.2, 5, "desk"),
            self.serial("C-", 20_001),
            person.country.language,
        )
        shared = {"case_id": case, "order_id": order, "agent": self.dice.choice(AGENTS)}
        if topic == "product" and lines[0]["category"] != "kitchen":
            topic = "invoice"
        subject, text = TOPICS[topic][language]
        subject = subject.format(order=order, product=lines[0]["name"])
        way = self.one_of("email email email phone phone phone chat")
        self._asked(person, way, opened, topic, subject, text, shared)
        hours, days = (4, 3) if topic in {"damaged", "refund"} else (24, 5)
        due = {
            "reply_due_at": time_text(opened + timedelta(hours=hours)),
            "service_level": f"reply within {hours} h",
        }
        due["resolution_due_at"] = time_text(opened + timedelta(days=days))
        what = {"subject": subject, "description": text, "category": topic, "team": "Customer care"}
        what["priority"] = "high" if hours == 4 else "normal"
        tell = self.on("service", person.email, f"case:{case}", f"order:{order}")
        tell("case.opened", self.soon(opened, 30, 300), shared, what, due, agent=None)
        tell = self.on("service", f"case:{case}")  # from here on the service desk names the case only
        tell(
            "case.assigned", self.soon(opened, 310, 2400), shared, team="Customer care", reason="round_robin"
        )
        reply_s = 2500 + round(self.dice.lognormvariate(9.0, 0.9))
        replied = opened + timedelta(seconds=reply_s)
        answer = self.on("service", f"case:{case}", direction="outbound", **contract("service.case"))
        answer("case.replied", replied, shared, author="agent", text=ANSWERS[language], reply_s=reply_s)
        if way == "email":
            mail = self.on("mail", person.email, f"case:{case}", **contract("service.case"))
            letter = {"contact": person.email, "thread_id": f"thread-{case}", "body": ANSWERS[language]}
            mail("email.sent", self.soon(replied, 1, 20), shared, letter, subject=f"Re: {subject}")
        if reply_s > hours * 3600 or self.chance(0.07):
            reason = "reply_overdue" if reply_s > hours * 3600 else "complaint"
            tell("case.escalated", self.soon(replied, 60, 4000), shared, level="second", reason=reason)
        self._case_ends(person, shared, topic, opened, replied)

    def _asked(
        self, person: Person, way: str, at: datetime, topic: str, subject: str, text: str, shared: Data
    ) -> None:
        """How the customer turned to us."""
        case = f"case:{shared['case_id']}"
        if way == "phone":
            self._call(person, at, topic, shared)
        elif way == "chat":
            self._chat(person, person.devices[0], at, text, shared)
        else:
            sender = self.dice.choice(person.emails)
            letter: Data = {
                "from_address": sender,
                "subject": subject,
                "body": text,
                "language": person.country.language,
            }
            letter["message_id"] = f"<{self.dice.getrandbits(48):x}@example.com>"
            if topic == "damaged":
                sizes = [self.dice.randint(200_000, 3_000_000) for _ in range(2)]
                photos = [{"name": f"photo{n}.jpg", "size_bytes": size} for n, size in enumerate(sizes, 1)]
                letter["attachments"] = [{**photo, "media_type": "image/jpeg"} for photo in photos]
            tell = self.on(
                "mail", f"email:{sender}", "" if sender == person.emails[0] else person.email, case
            )
            mailbox = {"mailbox": "care@harbourvale.example", "thread_id": f"thread-{shared['case_id']}"}
            tell("email.received", at, shared, letter, mailbox, agent=None)

    def _call(self, person: Person, at: datetime, topic: str, shared: Data) -> None:
        wait_s, talk_s = round(self.dice.expovariate(1 / 70)), round(self.dice.lognormvariate(5.4, 0.6))
        number, queue = self.dice.choice(person.phones), f"care-{person.country.language}"
        call = {"conversation_id": self.serial("call-", 300_001), "from_number": number}
        tell = self.on("telephony", f"phone:{number}", direction="inbound")
        tell("call.started", at, call, queue=queue, to_number="+441614960000")
        if self.chance(0.08):
            tell(
                "call.transferred",
                self.soon(at, 60, 200),
                call,
                to_queue="specialists",
                reason="needs_specialist",
            )
        done = at + timedelta(seconds=wait_s + talk_s)
        talk = {
            "duration_s": talk_s,
            "wait_s": wait_s,
            "queue": queue,
            "reason": topic,
            "summary": SUMMARIES[topic][0],
        }
        known = person.email if shared.get("case_id") or self.chance(0.5) else ""
        ended = self.on("telephony", f"phone:{number}", known, direction="inbound")
        ended(
            "call.ended", done, shared, call, talk, outcome=self.one_of("resolved resolved callback_agreed")
        )
        if self.chance(0.1):
            sound = {"recording": f"recordings/{call['conversation_id']}.ogg", "size_bytes": talk_s * 4000}
            tell("call.recorded", self.soon(done, 60, 400), call, sound, duration_s=talk_s)

    def _chat(
        self, person: Person, device: str, at: datetime, text: str = "", shared: Data | None = None
    ) -> None:
        """From the help page; whoever asks about an order says who they are."""
        language = person.country.language
        about = (
            {"agent": self.dice.choice(AGENTS)}
            | (shared or {})
            | {"conversation_id": self.serial("chat-", 80_001)}
        )
        case = f"case:{shared['case_id']}" if shared else ""
        named = [person.email] if shared or self.chance(0.4) else []
        tell, lasted = self.on("chat", *named, device, case), self.soon(at, 210, 900)
        topic = "order" if shared else "product"
        tell("chat.started", at, about, topic=topic, path="/help", wait_s=round(self.dice.uniform(2, 90)))
        said = text or TOPICS["product"][language][1]
        self.on("chat", device)(
            "chat.message_received", self.soon(at, 5, 60), about, text=said, language=language
        )
        answer = self.on("chat", device, **contract("service.chat"))
        answer("chat.message_sent", self.soon(at, 70, 200), about, text=ANSWERS[language])
        whole = {
            "duration_s": round((lasted - at).total_seconds()),
            "message_count": self.dice.randint(3, 14),
        }
        tell("chat.ended", lasted, about, whole, outcome="answered")
        if self.chance(0.3):
            self._survey(person, "ces", "chat", self.soon(lasted, 20, 60), about, usual=5.4)

    def _case_ends(
        self, person: Person, shared: Data, topic: str, opened: datetime, replied: datetime
    ) -> None:
        summary, resolution = SUMMARIES[topic]
        desk = self.on("service", f"case:{shared['case_id']}")
        customer = self.on("service", person.email, f"case:{shared['case_id']}", direction="inbound")
        if self.chance(0.3):
            customer(
                "case.replied",
                self.soon(replied, 3000, 90_000),
                shared,
                author="customer",
                text="👍",
                agent=None,
            )
        solved = self.later(replied, 0.1, 4, "desk")
        outcome = {**shared, "resolution": resolution, "summary": summary}
        desk("case.resolved", solved, outcome, resolution_s=round((solved - opened).total_seconds()))
        if self.chance(0.09):
            again = self.later(solved, 1, 3, "desk")
            customer("case.reopened", again, shared, reason="not_solved")
            solved = self.later(again, 0.5, 2, "desk")
            desk("case.resolved", solved, outcome, resolution_s=round((solved - opened).total_seconds()))
        closed = solved + timedelta(days=3)
        desk("case.closed", closed, shared, reason="solved", open_s=round((closed - opened).total_seconds()))
        if self.chance(0.55):
            self._survey(person, "csat", "case", self.soon(solved, 3600, 7200), shared, usual=4.1)

    def _survey(
        self, person: Person, metric: str, about: str, at: datetime, shared: Data, *, usual: float
    ) -> None:
        best = {"csat": 5, "nps": 10, "ces": 7}[metric]
        asked = {**shared, "metric": metric, "about": about, "survey_id": f"{metric}-{about}"}
        asked["invitation_id"] = self.serial("inv-", 1)
        basis = {"purpose": "service.feedback", "legalbasis": "legitimate_interests", "channel": "email"}
        self.on("surveys", person.email, **basis)("survey.sent", at, asked, contact=person.email)
        if not self.chance(0.48):
            return
        score = max(0 if metric == "nps" else 1, min(best, round(self.dice.gauss(usual, best / 5))))
        praise, blame = COMMENTS[person.country.language]
        comment = self.dice.choice(praise if score >= usual else blame) if self.chance(0.4) else ""
        answered = self.soon(at, 300, 200_000)
        self.on("surveys", person.email)(
            "survey.answered", answered, asked, score=score, best_score=best, comment=comment
        )

    def _enquiry(self, person: Person) -> None:
        """A call about nothing that was ordered."""
        self._call(person, self.day(person.joined_at, "desk"), "product", {"agent": self.dice.choice(AGENTS)})

    def _missed_call(self, person: Person) -> None:
        """Nobody answered; we called back."""
        at, conversation = self.day(person.joined_at, "desk"), self.serial("call-", 300_001)
        call = {"conversation_id": conversation, "wait_s": self.dice.randint(90, 600), "reason": "abandoned"}
        self.on("telephony", person.phone)(
            "call.missed", at, call, from_number=person.phones[0], queue="care-en"
        )
        talk_s = self.dice.choice((0, 0, 95, 240, 410))
        back = {"conversation_id": conversation, "contact": person.phone, "to_number": person.phones[0]}
        tell = self.on("telephony", person.phone, direction="outbound", **contract("service.callback"))
        outcome = "answered" if talk_s else "no_answer"
        agent = self.dice.choice(AGENTS)
        tell(
            "call.ended",
            self.later(at, 0.05, 0.8, "desk"),
            back,
            duration_s=talk_s,
            outcome=outcome,
            agent=agent,
        )

    def _question_by_whatsapp(self, person: Person) -> None:
        at, language, contact = self.day(person.joined_at, "web"), person.country.language, person.whatsapp
        shared = {"conversation_id": self.serial("wa-", 9001), "service": "whatsapp"}
        tell = self.on("whatsapp", contact, person.email if self.chance(0.7) else "", channel="whatsapp")
        said = {"text": TEXTS["open"][language], "language": language}
        tell("message.received", at, shared, said, from_number=person.phones[0])
        answer = self.on("whatsapp", contact, channel="whatsapp", **contract("service.question"))
        text, agent = TEXTS["hours"][language], self.dice.choice(AGENTS)
        answer("message.sent", self.soon(at, 200, 4000), shared, contact=contact, text=text, agent=agent)
