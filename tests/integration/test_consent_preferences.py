"""The preference page: a GET shows and changes nothing, a POST records what was changed, a forged link does nothing."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.consent.preferences import MAY_ALLOW, Preferences
from domain.errors import NotFound
from tests.integration.reading_house import House, story
from tests.integration.running import Served, served_http
from tests.integration.test_consent import ANN, GRANT, MAIL, NOTICE, consents, fact, now, of, superseded

WANTED = {"contact": MAIL, "purpose": "marketing.news", "channel": "email"}
CLOUDEVENTS = {"Content-Type": "application/cloudevents-batch+json"}


def told(begin: Any) -> list[Any]:
    published = {"notice": NOTICE, "text": "We write <b>once</b> a week.", "purposes": ["marketing.news"]}
    return [
        fact("n", "notice.published", begin, subject=None, **published),
        fact("g", "given", begin, **GRANT, controller="Harbour"),
        fact("o", "given", begin, **GRANT | {"purpose": "marketing.offers"}),
        fact("elsewhere", "given", begin, **GRANT | {"contact": "phone:+442071838750", "channel": "sms"}),
    ]


def allowed(served: Served, client: httpx.Client, **asked: str) -> bool:
    served.project()
    return bool(client.post("/v1/consent/check", json=WANTED | asked).json()["allowed"])


def ticked(page: str) -> list[str]:
    return re.findall(r'value="([^"]+)" checked', page)


def test_a_person_sees_and_changes_what_one_contact_point_gets(tmp_path: Path, database_url: str) -> None:
    with served_http(tmp_path / "data", database_url) as served, served.client() as client:
        client.post("/v1/events", json=told(now() - timedelta(hours=1)), headers=CLOUDEVENTS)
        served.project()
        url = client.post("/v1/consent/preference-links", json={"contact": MAIL}).json()["url"]
        path = "/preferences/" + url.rpartition("/")[2]
        offers = {"purpose": "marketing.offers"}
        with served.client("") as anybody:
            page = anybody.get(path)
            assert ticked(page.text) == ["marketing.news/email", "marketing.offers/email"]
            assert (MAIL.partition(":")[2] in page.text, "a•••@example.com" in page.text) == (False, True)
            # A forwarded mail shows no other contact point, masked or whole (tokens and digests hold any four digits).
            assert "8750" not in re.sub(r"<[^>]+>", " ", page.text)
            assert "71838750" not in page.text
            assert "script" not in page.headers["content-security-policy"]
            assert allowed(served, client)

            saved = anybody.post(path, data={"allow": "marketing.offers/email"})
            assert (saved.status_code, "marketing news" in saved.text) == (200, True)
            assert (allowed(served, client), allowed(served, client, **offers)) == (False, True)
            page = anybody.get(path)
            assert (
                "We write &lt;b&gt;once&lt;/b&gt; a week." in page.text
            )  # the notice under which it is allowed
            both = {"allow": ["marketing.news/email", "marketing.offers/email"]}
            assert anybody.post(path, data=both).status_code == 200
            assert allowed(served, client)
            assert "nothing changed" in anybody.post(path, data=both).text
            given = [
                f
                for f in client.get(f"/v1/persons/{ANN}/consent").json()["facts"]
                if f["method"] == "preference_page"
            ]
            assert [(f["state"], f["notice"], f["controller"]) for f in given] == [
                ("withdrawn", None, None),
                ("given", {"id": "privacy", "version": "3"}, "Harbour"),
            ]

            assert "nothing" in anybody.post(path, data={"nothing": "yes"}).text
            assert [allowed(served, client), allowed(served, client, **offers)] == [False, False]
            assert allowed(served, client, contact="phone:+442071838750", person=ANN, channel="sms")

            forged = path[:-4] + ("AAAA" if path[-4:] != "AAAA" else "BBBB")
            link = client.post("/v1/consent/unsubscribe-links", json=WANTED).json()["url"]
            for wrong in (
                forged,
                "/preferences/" + link.rpartition("/")[2],
                path.replace("/preferences/", "/u/"),
            ):
                answers = [anybody.get(wrong), anybody.post(wrong, data={"List-Unsubscribe": "One-Click"})]
                assert [a.status_code for a in answers] == [404, 404]
                assert all("not made here" in a.text for a in answers)


def filled(page: str) -> dict[str, list[str]]:
    """Give what a browser would send of the choices as they stand on a page."""
    seen = re.findall(r'type="hidden" name="seen" value="([^"]+)"', page)
    assert seen
    languages = re.findall(r'type="hidden" name="languages" value="([^"]*)"', page)
    return {"allow": ticked(page), "seen": seen, "languages": languages}


def test_a_page_that_lay_open_says_only_what_its_reader_changed_on_it(
    tmp_path: Path, database_url: str
) -> None:
    """A box that is left as it was is no word; and nobody agrees to a text that the page did not show."""
    begin = now() - timedelta(hours=1)
    with served_http(tmp_path / "data", database_url) as served, served.client() as client:

        def said(*events: Any) -> None:
            assert client.post("/v1/events", json=list(events), headers=CLOUDEVENTS).json()["rejected"] == 0
            served.project()

        def news_and_offers() -> list[bool]:
            return [allowed(served, client), allowed(served, client, purpose="marketing.offers")]

        said(*told(begin))
        url = client.post("/v1/consent/preference-links", json={"contact": MAIL}).json()["url"]
        path = "/preferences/" + url.rpartition("/")[2]
        with served.client("") as anybody:
            # given a page that shows news and offers as allowed, and lies open
            first = filled(anybody.get(path).text)
            # when news are withdrawn elsewhere, and then offers are unticked on the page
            said(fact("w", "withdrawn", begin + timedelta(minutes=1), **WANTED))
            anybody.post(path, data=first | {"allow": ["marketing.news/email"]})
            # then nobody has allowed news again
            assert news_and_offers() == [False, False]

            # given a page that shows neither as allowed
            page = anybody.get(path).text
            assert "We write &lt;b&gt;once" in page
            second = filled(page)
            # when offers are given elsewhere, and the notice that the page shows gets another text
            said(
                fact("o2", "given", now(), **GRANT | {"purpose": "marketing.offers"}),
                fact(
                    "n2", "notice.published", now(), subject=None, notice={"id": "privacy", "version": "4"},
                    text="We write every day.", purposes=["marketing.news"],
                ),
            )  # fmt: skip
            saved = anybody.post(path, data=second | {"allow": ["marketing.news/email"]})
            # then what was left unticked is no withdrawal, and a tick is none of the other text
            assert news_and_offers() == [False, True]
            assert "has changed since" in saved.text
            # and what the page shows now may be agreed to
            page = anybody.get(path).text
            assert "every day" in page
            anybody.post(
                path, data=filled(page) | {"allow": ["marketing.news/email", "marketing.offers/email"]}
            )
            assert news_and_offers() == [True, True]


def test_who_agrees_agrees_to_the_text_of_the_page_whatever_language_the_browser_asks_for_later(
    tmp_path: Path, database_url: str
) -> None:
    # given a notice in two languages, and a page that was read in the second
    begin = now() - timedelta(hours=1)
    german = {"notice": NOTICE | {"language": "de"}, "text": "Wir schreiben einmal die Woche."}
    with served_http(tmp_path / "data", database_url) as served, served.client() as client:
        events = [
            *told(begin),
            fact("n-de", "notice.published", begin, subject=None, **german, purposes=["marketing.news"]),
        ]
        events.append(fact("w", "withdrawn", begin + timedelta(minutes=1), **WANTED))
        assert client.post("/v1/events", json=events, headers=CLOUDEVENTS).json()["rejected"] == 0
        served.project()
        url = client.post("/v1/consent/preference-links", json={"contact": MAIL}).json()["url"]
        path = "/preferences/" + url.rpartition("/")[2]
        with served.client("") as anybody:
            page = anybody.get(path, headers={"Accept-Language": "de,en;q=0.5"}).text
            assert "Wir schreiben" in page
            # when the answer is sent by a browser that asks for another language meanwhile
            ticked_now = filled(page) | {"allow": ["marketing.news/email", "marketing.offers/email"]}
            saved = anybody.post(path, data=ticked_now, headers={"Accept-Language": "en"})
        # then it is the agreement to the text that was read
        assert "has changed since" not in saved.text
        assert allowed(served, client)


@story
async def test_an_old_link_still_withdraws_but_allows_nothing_anew(it: House) -> None:
    await it.given(*told(now() - timedelta(hours=1)))
    subject = await it.core.histories.identities.subject_of(ANN)
    core = it.core

    def at(later: timedelta) -> Preferences:
        asking = (core.pool, core.keys, core.subjects, core.ingest, consents(it))
        return Preferences(*asking, clock=lambda: now() + later)

    token = at(timedelta()).token(subject, subject)
    await at(timedelta()).save(token, ["marketing.offers/email"])
    await it.projected()
    young, old = (
        await at(timedelta(days=1)).shown(token),
        await at(MAY_ALLOW + timedelta(days=1)).shown(token),
    )
    assert [choice.offered is not None for choice in young.choices] == [True, False]
    assert [choice.offered is not None for choice in old.choices] == [False, False]
    late = at(MAY_ALLOW + timedelta(days=1))
    assert await late.save(token, ["marketing.news/email", "marketing.offers/email"]) == []
    assert [(c.purpose, allow) for c, allow in await late.save(token, [])] == [("marketing.offers", False)]
    with pytest.raises(NotFound):
        await late.shown("nonsense")


@story
async def test_a_notice_is_offered_while_it_is_in_force_by_all_that_was_said_of_its_end(it: House) -> None:
    begin = now() - timedelta(hours=1)
    await it.given(*told(begin))
    subject = await it.core.histories.identities.subject_of(ANN)
    core = it.core
    page = Preferences(core.pool, core.keys, core.subjects, core.ingest, consents(it))
    token = page.token(subject, subject)
    await page.save(token, [])
    await it.projected()

    async def offered() -> bool:
        (news,) = [c for c in (await page.shown(token)).choices if c.key == "marketing.news/email"]
        return news.offered is not None

    assert await offered()
    await it.given(superseded("s", begin))
    assert not await offered()
    await it.given(fact("i", "invalidated", begin, subject=None, of=of("s")))
    assert await offered()
    # One that was said of another notice by mistake: whoever allowed anything under this one would be refused at once.
    await it.given(superseded("t", begin, notice={"id": "terms", "version": "1"}))
    assert await offered()
    await it.given(fact("c", "corrected", begin, subject=None, of=of("t"), patch={"notice": NOTICE}))
    assert not await offered()
