"""Pages: a browser signs in, looks, and is kept from what it should not see; no page asks another host."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import pytest

from bin.commands.rebuilding import perform
from tests.integration.running import Served, served_http

HTML = {"Accept": "text/html"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Served]:
    with served_http(tmp_path_factory.mktemp("pages") / "data", module_database_url) as running:
        yield running


def stranger(served: Served) -> httpx.Client:
    """A browser in which nobody has signed in."""
    return httpx.Client(base_url=served.url, headers=HTML, timeout=60, trust_env=False)


@pytest.fixture
def browser(served: Served) -> Iterator[httpx.Client]:
    """A browser that has signed in."""
    with stranger(served) as client:
        assert client.post("/sign-in", data={"key": served.key, "next": "/"}).status_code == 303
        yield client


def recorded(served: Served, **more: object) -> str:
    """Record one call and project it; gives the REF of its person."""
    who = f"email:{uuid4().hex}@example.com"
    event = {
        "specversion": "1.0",
        "id": uuid4().hex,
        "source": "shop",
        "type": "call.ended",
        "time": "2026-01-05T10:00:00Z",
        "subject": who,
        "direction": "inbound",
        "data": {"duration_s": 84, "agent": "Bo", "summary": "<b>the lamp</b>", "case_id": "C-7"},
        **more,
    }
    with served.client() as client:
        answer = client.post(
            "/v1/events", content=json.dumps(event), headers={"Content-Type": "application/cloudevents+json"}
        )
        assert answer.json()["recorded"] == 1, answer.text
    served.project()
    return who


def test_who_is_not_signed_in_comes_to_the_door(served: Served) -> None:
    with stranger(served) as client:
        for path in ("/", "/docs", "/persons/email:ann@example.com?q=x"):
            answer = client.get(path)
            assert answer.status_code == 303
            assert answer.headers["location"].startswith("/sign-in")
        assert client.get("/sign-in").status_code == 200
        wrong = client.post("/sign-in", data={"key": "tl_wrong"})
        assert wrong.status_code == 401
        assert "set-cookie" not in wrong.headers


def test_signing_in_leads_back_to_the_address_that_was_asked_for(served: Served) -> None:
    # given the page of somebody whose identifier holds what parts an address
    asked = "/persons/anonymous%3Aa%2Fb%3Fc%23d%25?type=call.ended"

    with stranger(served) as client:
        # when it is asked for by somebody who then signs in
        (next_,) = parse_qs(urlsplit(client.get(asked).headers["location"]).query)["next"]
        answer = client.post("/sign-in", data={"key": served.key, "next": next_})

    # then the browser is sent to that very address
    assert answer.headers["location"] == next_ == asked


def test_the_session_cookie_is_kept_from_scripts_and_other_sites(served: Served) -> None:
    with stranger(served) as client:
        cookie = client.post("/sign-in", data={"key": served.key, "next": "/"}).headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert served.key not in cookie
        assert client.get("/").status_code == 200
        forged = re.sub(r"\.[0-9a-f]{8}", ".00000000", client.cookies["touchlog_session"])
        client.cookies.clear()
        client.cookies.set("touchlog_session", forged)
        assert client.get("/").status_code == 303


def test_signing_in_leads_to_no_other_site(served: Served) -> None:
    with stranger(served) as client:
        for elsewhere in ("https://evil.example/", "//evil.example", "/\\evil.example", "evil"):
            answer = client.post("/sign-in", data={"key": served.key, "next": elsewhere})
            assert answer.headers["location"] == "/"
        foreign = client.post(
            "/sign-in", data={"key": served.key}, headers={"Origin": "https://evil.example"}
        )
        assert foreign.status_code == 403


def test_signing_out_ends_the_session(browser: httpx.Client) -> None:
    assert browser.get("/").status_code == 200
    browser.post("/sign-out")
    assert browser.get("/").status_code == 303


def test_the_overview_shows_how_the_log_stands(served: Served, browser: httpx.Client) -> None:
    recorded(served)
    page = browser.get("/")
    assert page.status_code == 200
    assert "Events in the log" in page.text
    assert "contact history" in page.text
    status = browser.get("/pages/status").json()
    assert status["head"] >= 1
    assert status["lag"] == 0


def test_the_overview_looks_further_back_while_few_of_the_newest_are_contacts(
    served: Served, browser: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given contacts, of which the newest position alone holds one
    for _ in range(3):
        recorded(served, channel="shop_floor")
    monkeypatch.setattr("adapters.http.overview._SAMPLED", (1, 3, 4))
    for enough, counted in ((1, 1), (2, 3), (3, 3)):
        # when so many are enough, then no more is looked at than holds as many
        monkeypatch.setattr("adapters.http.overview._ENOUGH", enough)
        assert f"of the newest {counted} ·" in browser.get("/").text


def test_the_overview_shows_a_rebuild_until_it_is_done(served: Served, browser: httpx.Client) -> None:
    # given a rebuild that was asked for and that no projector has begun
    recorded(served)
    assert "Rebuilds" not in browser.get("/").text
    with served.client() as client:
        run = client.post("/v1/projections/daily_volumes/rebuild", json={}).json()["rebuild"]

    # when somebody looks, then it is shown as asked for
    page = browser.get("/").text
    assert "Rebuilds" in page
    assert "asked" in page

    # and once it is done, no more
    perform(served.settings, served.database_url, run["id"])
    assert "Rebuilds" not in browser.get("/").text


def test_a_search_leads_to_the_person_without_a_name_in_the_address(
    served: Served, browser: httpx.Client
) -> None:
    who = recorded(served)
    before = served.records()
    answer = browser.post("/search", data={"q": who.removeprefix("email:")})
    assert answer.status_code == 303
    assert re.fullmatch(r"/persons/[0-9a-f-]{36}", answer.headers["location"])
    assert served.records() == before + 1
    assert "Nobody was recorded" in browser.post("/search", data={"q": "nobody@example.com"}).text


def test_a_timeline_shows_what_happened_and_escapes_it(served: Served, browser: httpx.Client) -> None:
    who = recorded(served)
    before = served.records()
    page = browser.get(f"/persons/{who}")
    assert page.status_code == 200, page.text
    assert served.records() == before + 1
    assert who.removeprefix("email:") in page.text
    assert "1 min 24 s" in page.text
    assert "&lt;b&gt;the lamp" in page.text
    assert "<b>the lamp" not in page.text
    assert "case C-7" in page.text
    assert "inbound" in page.text
    assert "no-store" in page.headers["cache-control"]
    empty = browser.get(f"/persons/{who}", params={"channel": "web"})
    assert "No contact matches" in empty.text
    for span, is_there in (
        ({"since": "2026-01-05", "until": "2026-01-05"}, True),
        ({"since": "2026-01-06"}, False),
        ({"until": "2026-01-04"}, False),
        ({"until": "9999-12-31"}, True),
    ):
        asked = browser.get(f"/persons/{who}", params=span).text
        assert ('<ol class="timeline">' in asked) is is_there, span
        assert ("No contact matches" in asked) is not is_there
    all_of_it, some = (browser.get(f"/persons/{who}", params=p).text for p in ({}, {"since": "2026-01-05"}))
    assert ("This is the beginning." in all_of_it, "This is the beginning." in some) == (True, False)
    assert "No earlier contact matches these filters." in some
    # On paper the fields are not there; what was asked for is told instead.
    assert 'class="on-paper">Asked for were contacts: from 2026-01-05.' in some
    assert "on-paper" not in all_of_it
    turned = browser.get(f"/persons/{who}", params={"since": "2026-01-05", "until": "2026-01-01"})
    assert (turned.status_code, "To (2026-01-01) is before From (2026-01-05)" in turned.text) == (400, True)
    assert ("see errors" in turned.text, f'href="/persons/{who}">Ask anew' in turned.text) == (False, True)
    wrong = browser.get(f"/persons/{who}", params={"as_of": "yesterday"})
    assert wrong.status_code == 400
    assert "RFC 3339" in wrong.text
    assert browser.get("/persons/email:nobody@example.com").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/channels", 405)]
)
def test_at_an_address_without_a_route_who_is_signed_in_keeps_the_navigation_and_a_stranger_sees_none(
    served: Served, browser: httpx.Client, method: str, path: str, status: int
) -> None:
    # given somebody who has signed in, and a stranger
    with stranger(served) as somebody:
        # when both come to an address that no route answers
        mine, theirs = browser.request(method, path), somebody.request(method, path)
    # then both hear so, and the first can go on from there
    assert (mine.status_code, theirs.status_code) == (status, status)
    for page, navigation in ((mine, True), (theirs, False)):
        assert page.headers["content-type"].startswith("text/html")
        assert ('<nav aria-label="Main">' in page.text) is navigation
        assert int(page.headers["content-length"]) == len(page.content)
        assert page.headers["x-frame-options"] == "DENY"
    assert mine.headers.get("allow") == theirs.headers.get("allow")
    # and a key that is none does not become another error
    with served.client("tl_none") as nobody:
        wrong = nobody.request(method, path, headers=HTML)
    assert (wrong.status_code, "<nav" in wrong.text) == (status, False)


def test_a_text_that_would_turn_its_order_round_is_shown_in_the_order_in_which_it_is_written(
    served: Served, browser: httpx.Client
) -> None:
    # given a name and a subject line with an override of the direction, and right-to-left words with their marks
    who = said(served, "Ann \u202egpj.exe")
    recorded(
        served,
        subject=who,
        type="email.received",
        data={"subject": "\u202ddrow \u2067\u05e9\u05dc\u05d5\u05dd\u2069\u200f \u202eexe"},
    )
    # when their page is looked at
    page = browser.get(f"/persons/{who}").text
    # then no override is on it, one can see that there was, and the words keep what they need
    assert not {"\u202d", "\u202e"} & set(page)
    assert "Ann \ufffdgpj.exe" in page
    assert page.count("\ufffddrow \u2067\u05e9\u05dc\u05d5\u05dd\u2069\u200f \ufffdexe") >= 2


def test_no_part_of_a_page_is_shown_at_another_place_than_the_tabulator_comes_to_it(
    browser: httpx.Client,
) -> None:
    style = browser.get("/pages/style.css").text
    assert re.findall(r"[{;\s]order:[^;}]*|[a-z-]+:[^;}]*-reverse", style) == []


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node here")
def test_a_part_that_can_scroll_is_a_stop_of_the_tabulator_only_while_it_does(browser: httpx.Client) -> None:
    # given a page with a part that shows all, one too wide, one too high, and one that shows all and has the focus
    assert re.search(r'<script src="/pages/scrolling\.js\?\w+" defer>', browser.get("/docs").text)
    there = """
    const part = (width, height) => ({
      clientWidth: 100, clientHeight: 100, scrollWidth: width, scrollHeight: height, stop: true,
      setAttribute() { this.stop = true; }, removeAttribute() { this.stop = false; },
    });
    const parts = [part(100, 100), part(101, 100), part(100, 101), part(100, 100)];
    globalThis.document = { querySelectorAll: () => parts, activeElement: parts[3] };
    let resized;
    globalThis.ResizeObserver = class { constructor(tell) { resized = tell; } observe() {} };
    """
    # when it is shown, and then made narrower
    narrower = "console.log(parts.map(p => p.stop)); parts[0].scrollWidth = 200; resized(); console.log(parts.map(p => p.stop));"
    script = there + browser.get("/pages/scrolling.js").text + narrower
    told = subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True)  # noqa: S607
    # then those are stops that scroll, and none is taken from under who stands on it
    assert told.stdout.splitlines() == ["[ false, true, true, true ]", "[ true, true, true, true ]"]


def said(served: Served, name: str, **traits: object) -> str:
    """Record what somebody is called; gives the REF."""
    data = {"traits": {"name": name, **traits}}
    return recorded(served, type="profile.updated", data=data, time="2026-01-06T09:00:00Z")


def test_a_person_is_found_by_name_and_shown_with_profile_and_provenance(
    served: Served, browser: httpx.Client
) -> None:
    who = said(served, "Zoë <i>Quill</i>", address={"street": "Mill Street 4"})
    answer = browser.post("/search", data={"q": "zoe quill"})
    assert answer.status_code == 303, answer.text
    page = browser.get(answer.headers["location"]).text
    assert who.removeprefix("email:") in page
    assert "Zoë &lt;i&gt;Quill&lt;/i&gt;" in page
    assert "<i>Quill" not in page
    assert "Mill Street 4" in page
    assert "said by shop" in page
    assert "6 January 2026" in page
    earlier = browser.get(answer.headers["location"], params={"as_of": "2026-01-01T00:00:00Z"}).text
    assert "Nothing was said yet" in earlier
    assert "None yet" in earlier


def test_an_event_nested_as_deeply_as_the_log_takes_leaves_its_persons_page(
    served: Served, browser: httpx.Client
) -> None:
    deep: object = "the <bottom>"
    for _ in range(250):
        deep = {"in": deep}
    who = recorded(served, type="custom.nested", data={"deep": deep})

    page = browser.get(f"/persons/{who}")

    assert (page.status_code, "the \\u003cbottom\\u003e" in page.text) == (200, True)


def test_of_very_many_fields_the_first_are_shown_and_the_number_of_the_others(
    served: Served, browser: httpx.Client
) -> None:
    # given a person of whom more was said than anybody reads
    who = said(served, "Wide", **{f"trait_{n:04}": f"worth {n:04}" for n in range(3_000)})

    # when its page is opened
    page = browser.get(f"/persons/{who}").text

    # then profile and timeline show the first, how many more there are, and where all is to be had
    assert "worth 0001" in page
    assert "worth 2999" not in page
    assert page.count(">2,901</span> more") == 2
    assert page.count("gives all") == 2


def test_more_than_a_page_is_found_page_by_page(served: Served, browser: httpx.Client) -> None:
    for n in range(23):
        said(served, f"Yorick Number{n:02d}")
    first = browser.post("/search", data={"q": "yorick"})
    assert "20 or more persons found" in first.text
    cursor = re.findall(r'name="cursor" value="([^"]+)"', first.text)
    second = browser.post("/search", data={"q": "yorick", "cursor": cursor[0]}).text
    names = set(re.findall(r"Yorick Number\d\d", first.text)) | set(re.findall(r"Yorick Number\d\d", second))
    assert len(names) == 23
    assert (
        "from their first three letters on" in browser.post("/search", data={"q": "nobody of this name"}).text
    )


def test_likely_duplicates_are_shown_with_their_reasons(
    served: Served, browser: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what was found by a look that took long is told for a while, which is for those of many persons
    monkeypatch.setattr("adapters.http.duplicates._WORTH_KEEPING_S", 3600.0)
    served.project()
    empty = browser.get("/duplicates")
    assert "No two persons look like one" in empty.text
    mail = f"{uuid4().hex}@example.com"
    said(served, "Ann <b>Bell", email=mail)
    said(served, "Theo Okafor", email=mail)
    before = served.records()
    page = browser.get("/duplicates").text
    assert served.records() == before + 1
    assert f"same email: {mail}" in page
    assert "against" in page
    assert "touchlog persons merge" in page
    assert "<b>Bell" not in page


def test_no_page_asks_another_host(served: Served, browser: httpx.Client) -> None:
    who = recorded(served)
    for path in ("/", "/docs", f"/persons/{who}", "/duplicates", "/sign-in", "/nothing"):
        page = browser.get(path)
        assert "default-src 'none'" in page.headers["content-security-policy"]
        links = re.findall(r'(?:src|href|action)="([^"]+)"', page.text)
        assert links
        assert all(link.startswith(("/", "#", "?")) and not link.startswith("//") for link in links), path
        for file in {link for link in links if link.startswith("/pages/")}:
            assert browser.get(file.partition("#")[0]).status_code == 200, file


def test_the_api_is_explained(browser: httpx.Client) -> None:
    page = browser.get("/docs").text
    assert "/v1/persons/{ref}/history" in page
    assert 'id="not-json"' in page
    assert "call.ended" in page


def identifiers(served: Served, ref: str) -> list[dict[str, str]]:
    """All identifiers of a person."""
    with served.client() as client:
        found: list[dict[str, str]] = client.get(f"/v1/persons/{ref}").json()["subjects"]
    return found


def changed(browser: httpx.Client, **form: str) -> httpx.Response:
    """Send the form of a change, as the page does."""
    return browser.post("/persons/change", data=form)


def test_a_merge_is_looked_at_then_made_then_undone_in_the_browser(
    served: Served, browser: httpx.Client
) -> None:
    # given two persons
    one, two = recorded(served), recorded(served)

    # when somebody looks at merging them, then both are shown and nothing is recorded
    look = changed(browser, change="merge", a=one, b=two)
    assert look.status_code == 200
    assert one.partition(":")[2] in look.text
    assert two.partition(":")[2] in look.text
    assert len(identifiers(served, one)) == 1

    # and without a reason nothing is recorded either
    assert "Say why" in changed(browser, change="merge", a=one, b=two, sure="yes").text

    # when it is made, then the page tells why they are one person, by whom and what for
    made = changed(browser, change="merge", a=one, b=two, sure="yes", reason="same <lamp>")
    assert made.status_code == 303
    served.project()
    page = browser.get(made.headers["location"]).text
    assert "same &lt;lamp&gt;" in page
    assert "Undo …" in page

    # and undone, the two are two again, and it is still told what was
    (merge,) = re.findall(r'name="merge" value="([0-9a-f-]{36})"', page)
    assert changed(browser, change="split", merge=merge).status_code == 200
    undone = changed(browser, change="split", merge=merge, sure="yes", reason="two lamps")
    served.project()
    page = browser.get(undone.headers["location"]).text
    assert "undone by" in page
    assert len(identifiers(served, two)) == 1
    assert changed(browser, change="split", merge=merge, sure="yes", reason="again").status_code == 409


def test_a_change_of_nobody_is_told_and_one_from_another_site_refused(
    served: Served, browser: httpx.Client
) -> None:
    one = recorded(served)
    nobody = changed(browser, change="merge", a=one, b="email:nobody@example.com")
    assert nobody.status_code == 404
    assert "Nothing was recorded" in nobody.text
    assert changed(browser, change="merge", a=one, b="ann").status_code == 400
    assert changed(browser, change="", a=one).status_code == 400
    foreign = browser.post(
        "/persons/change",
        data={"change": "merge", "a": one, "b": one},
        headers={"Origin": "https://evil.example"},
    )
    assert foreign.status_code == 403


def test_an_identifier_that_was_taken_out_stays_out(served: Served, browser: httpx.Client) -> None:
    # given a person of two identifiers
    other = f"crm:{uuid4().hex}"
    one = recorded(served, identifiers=other)
    page = browser.get(f"/persons/{one}/why").text
    assert "Take out …" in page
    (subject,) = {s["subject"] for s in identifiers(served, one) if s["kind"] == "crm"}

    # when one is taken out
    done = changed(browser, change="split", person=one, subject=subject, sure="yes", reason="her sister's")
    assert done.status_code == 303
    served.project()

    # then the page tells it, and the link that is refused because of it
    page = browser.get(done.headers["location"]).text
    assert "kept apart from" in page
    assert "her sister&#39;s" in page
    assert "a split keeps the two apart" in page
    assert "a split keeps the two apart" in browser.get("/refused").text
