"""The pages of channels, endpoints and what was rejected: what a person does there is done, and nothing else."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.posting import made_key
from tests.integration.running import Served, served_http

PAGE = {"Accept": "text/html"}
EVENT: dict[str, Any] = {
    "specversion": "1.0",
    "source": "till/7",
    "type": "order.placed",
    "time": "2026-10-14T09:00:00Z",
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, module_database_url: str) -> Iterator[Served]:
    with served_http(tmp_path_factory.mktemp("channel-pages") / "data", module_database_url) as running:
        yield running


def text_of(answer: httpx.Response, status: int = 200) -> str:
    assert answer.status_code == status, answer.text[:2000]
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text)))


def test_an_endpoint_is_made_tried_paused_and_given_another_secret_on_its_page(served: Served) -> None:
    with served.client() as http:
        http.headers.update(PAGE)
        assert "There is no endpoint yet" in text_of(http.get("/endpoints"))
        form = {"channel": "shopify", "name": "shop", "secret": "first"}

        # made: it takes what is signed so, and shows its secret nowhere
        http.follow_redirects = True
        page = http.post("/endpoints", data={"change": "add", **form})
        assert "shopify/shop was made" in text_of(page)
        assert "first" not in re.sub(r"<[^>]+>", " ", page.text)
        again = http.post("/endpoints", data={"change": "add", **form})
        assert "There is an endpoint shopify/shop" in text_of(again, 400)

        # tried: told what would become of it, exactly, and nothing is recorded
        head = http.get("/v1/events", headers={"Accept": "application/json"}).json()["head"]
        body = '{"id": 820982911946154508, "created_at": "2026-09-10T04:26:51-04:00", "currency": "USD", "total_price": "1.50"}'
        tried = http.post(
            "/endpoints",
            data={"change": "test", **form, "body": body, "headers": "X-Shopify-Topic: orders/create"},
        )
        assert "would be recorded order.placed orders/create:820982911946154508" in text_of(tried)
        assert "1.50 USD" in text_of(tried)
        lacking = http.post("/endpoints", data={"change": "test", **form, "body": body})
        assert "would be kept The header X-Shopify-Topic is missing" in text_of(lacking)
        assert http.get("/v1/events", headers={"Accept": "application/json"}).json()["head"] == head

        # paused, and taken back; another secret beside the old one
        assert "shopify/shop is paused" in text_of(http.post("/endpoints", data={"change": "pause", **form}))
        assert http.post("/hooks/shopify/shop", content=b"{}").status_code == 503
        assert "takes deliveries again" in text_of(http.post("/endpoints", data={"change": "resume", **form}))
        rotated = text_of(
            http.post("/endpoints", data={"change": "rotate", **form, "secret": "second", "keep": "24"})
        )
        assert "has a new secret" in rotated
        assert "2 secrets in force" in rotated
        assert "the old one is taken until" in rotated
        assert "shopify/ shop" in text_of(http.get("/channels"))


def test_a_form_of_another_site_or_of_who_may_not_changes_nothing(served: Served) -> None:
    form = {"change": "add", "channel": "shopify", "name": "other", "secret": "s"}
    with served.client() as http:
        http.headers.update(PAGE)
        assert http.post("/endpoints", data=form, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert "shopify/other" not in http.get("/endpoints").text
    with served.client("") as http:
        assert http.post("/endpoints", data=form).status_code in (303, 401)
        assert http.get("/rejected").status_code in (303, 401)


@pytest.mark.parametrize("inside", ["[" * 50_000 + "]" * 50_000, "9" * 5_000])
def test_what_was_rejected_because_nobody_can_decode_it_is_shown_as_it_is_and_dismissed(
    served: Served, inside: str
) -> None:
    with served.client() as http:
        body = json.dumps(EVENT | {"id": "deep", "data": {"n": "?"}}).replace('"?"', inside)
        headers = {"Content-Type": "application/cloudevents+json"}
        assert http.post("/v1/events", content=body, headers=headers).json()["rejected"] == 1
        http.headers.update(PAGE)
        http.follow_redirects = True
        number = re.findall(r'href="/rejected/(\d+)"', http.get("/rejected").text)[0]

        assert inside[:100] in http.get(f"/rejected/{number}").text
        assert "still not recorded" in text_of(
            http.post(f"/rejected/{number}", data={"change": "retry"}), 400
        )
        assert "is dismissed" in text_of(http.post(f"/rejected/{number}", data={"change": "dismiss"}))


def test_what_was_rejected_is_corrected_looked_at_and_recorded_or_dismissed_and_opened_again(
    served: Served,
) -> None:
    with served.client() as http:
        # given two refused events
        for id_ in ("r-1", "r-2"):
            data = {"order_id": 123456789012345678, "amount_minor": "a lot"}
            assert http.post("/v1/events", json=EVENT | {"id": id_, "data": data}).json()["rejected"] == 1
        http.headers.update(PAGE)
        listed = http.get("/rejected")
        assert "'amount_minor' is a text" in text_of(listed)
        second, first = re.findall(r'href="/rejected/(\d+)"', listed.text)[:2]

        # one is shown as it was sent, and would be refused again
        shown = text_of(http.get(f"/rejected/{first}"))
        assert '"order_id": 123456789012345678' in shown
        assert "would be refused again" in shown
        assert "still not recorded" in text_of(http.post(f"/rejected/{first}", data={"change": "retry"}), 400)

        # when a correction is looked at nothing is recorded; when it is sure, it is, once
        right = json.dumps(
            EVENT | {"id": "r-1", "data": {"order_id": "1", "amount_minor": 1999, "currency": "EUR"}}
        )
        looked = http.post(f"/rejected/{first}", data={"change": "look", "corrected": right})
        assert "19.99 EUR" in text_of(looked)
        http.follow_redirects = True
        done = text_of(http.post(f"/rejected/{first}", data={"change": "retry", "corrected": right}))
        assert re.search(rf"{first} is recorded at position [\d,]+", done), done
        events = http.get("/v1/events?limit=100", headers={"Accept": "application/json"}).json()["events"]
        assert [e["data"]["amount_minor"] for e in events if e["id"] == "r-1"] == [1999]

        # and the other is dismissed, listed as such, and opened again
        assert "is dismissed" in text_of(http.post(f"/rejected/{second}", data={"change": "dismiss"}))
        assert f"/rejected/{second}" in http.get("/rejected?state=dismissed").text
        assert f"/rejected/{second}" not in http.get("/rejected").text
        assert "is open again" in text_of(http.post(f"/rejected/{second}", data={"change": "reopen"}))
        assert http.get("/rejected/999999").status_code == 404
        for beyond in (0, 2**63, 10**30):  # no number that anything is counted by
            assert http.get(f"/rejected/{beyond}").status_code == 400
            assert http.post(f"/rejected/{beyond}", data={"change": "dismiss"}).status_code == 400
        assert http.get("/rejected?state=lost").status_code == 400


def test_what_an_adapter_sent_in_the_name_of_another_source_stays_refused_until_it_is_given_as_ones_own(
    served: Served,
) -> None:
    # given an event of a source that is not its sender's, and one that speaks of an event of such a source
    forged = EVENT | {"id": "f-1", "source": "till/8", "data": {"order_id": "1"}}
    of = {"source": "till/8", "id": "f-1"}
    patch = EVENT | {
        "id": "f-2",
        "type": "correction.recorded",
        "data": {"of": of, "patch": {"channel": "web"}},
    }
    with served.client(made_key(served, "adapter", "till/7")) as till:
        assert till.post("/v1/events", json=[forged, patch]).json()["rejected"] == 2
    with served.client() as http:
        http.headers.update(PAGE)
        second, first = re.findall(r'href="/rejected/(\d+)"', http.get("/rejected").text)[:2]

        # when an admin tries them again as they were sent
        # then they stay refused, as the page says before
        for number in (first, second):
            assert "would be refused again" in text_of(http.get(f"/rejected/{number}"))
            told = text_of(http.post(f"/rejected/{number}", data={"change": "retry"}), 400)
            assert "its sources are: till/7" in told
            assert "give it as your own" in told

        # and when the admin gives one as a correction it is the admin's, and recorded
        http.follow_redirects = True
        own = {"change": "retry", "corrected": json.dumps(forged)}
        assert f"{first} is recorded" in text_of(http.post(f"/rejected/{first}", data=own))
