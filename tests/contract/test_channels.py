"""What every channel keeps: never an exception, never a touchpoint without key and time; the same bytes, the same events.

A new channel is tested here by being there. Samples of its vendor are files in `samples/<channel>/`, see
`bin/soaks/payloads.py`; `bin/soak fuzz --channel <channel>` tries as many mutated ones as you like.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

import adapters.channels
from adapters.channels import CHANNELS, Channel, Delivery, Translated, Untranslated
from adapters.channels.channel import touchpoint
from adapters.signatures import SCHEMES
from bin.soaks.fuzz import broken, delivery, run_fuzz, tried
from bin.soaks.payloads import FORM, JSON, Sample, added, samples

SAMPLES = list(samples())
TEMPLATE = Path(adapters.channels.__file__).parent / "template.txt"
ACME = b'{"id": 820982911946154508, "score": "9", "comment": "Fast", "created_at": "2026-11-22T11:00:00Z", "attempt": 2, "person": {"email": "ann@example.com"}}'


@pytest.mark.parametrize("name", sorted(CHANNELS))
def test_a_channel_says_what_it_is_and_how_it_is_signed(name: str) -> None:
    channel = CHANNELS[name]
    assert channel.meaning
    assert channel.scheme in {"", *SCHEMES}
    assert all(setting.meaning for setting in channel.settings)


@pytest.mark.parametrize("name", sorted(CHANNELS))
@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b"\xff\xfe", b"a=b&c=d", b"[" * 5000, b'{"id": 1e999}', b'{"a": "\\ud800"}'],
)
def test_whatever_comes_no_channel_raises(name: str, body: bytes) -> None:
    for headers in (
        {},
        JSON,
        FORM,
        {"content-type": "multipart/form-data; boundary=x"},
        {"x-shopify-topic": "orders/create"},
    ):
        assert list(broken(CHANNELS[name], delivery(body, headers))) == []


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.channel)
def test_a_sample_is_translated_whole_and_the_same_each_time(sample: Sample) -> None:
    channel, one = CHANNELS[sample.channel], delivery(sample.body, sample.headers, sample.call)
    found = channel.read(one)

    assert list(broken(channel, one)) == []
    assert found
    assert all(isinstance(each, Translated) for each in found), found


_LISTS = {
    "sendgrid": (b"[%b]", b'{"event":"open","sg_event_id":"%b","timestamp":1,"useragent":"%b"}', ""),
    "hubspot": (
        b"[%b]",
        b'{"subscriptionType":"deal.creation","eventId":"%b","occurredAt":1,"changeSource":"%b"}',
        "",
    ),
    "mandrill": (b"mandrill_events=[%b]", b'{"event":"open","_id":"%b","ts":1,"user_agent":"%b"}', ""),
    "webhook": (b'{"a":{"b":[%b]}}', b'{"id":"%b","text":"%b"}', "/a/b"),
    "whatsapp": (
        b'{"object":"instagram","entry":[%b]}',
        b'{"messaging":[{"sender":{"id":"7"},"recipient":{"id":"8"},"timestamp":1,"message":{"mid":"%b","text":"%b"}}]}',
        "/entry",
    ),
}
"""Of each channel that takes several in one body: the body around them, one of them, where they stand."""


def _sent(name: str, body: bytes) -> Delivery:
    if name == "mandrill":
        return delivery(body, FORM)
    came = delivery(body, JSON)
    return msgspec.structs.replace(came, settings={"items": "a.b"}) if name == "webhook" else came


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [(name, rb"cut \ud83d", "lone_surrogate") for name in sorted(_LISTS)]
    # a form is read with a sign for what is not UTF-8 in it
    + [(name, b"gr\xfcn", "not_utf8") for name in sorted(_LISTS.keys() - {"mandrill"})],
)
def test_an_item_that_cannot_be_decoded_spoils_none_of_its_list(name: str, text: bytes, code: str) -> None:
    # given a delivery of three, of which one holds a text that is no Unicode
    around, item, root = _LISTS[name]
    body = around % b" , ".join([item % (b"1", b"a"), item % (b"2", text), item % (b"3", b'], {\\"')])
    # when it is read
    first, wrong, last = CHANNELS[name].read(_sent(name, body))
    # then that one is told with its place, and its neighbours are touchpoints as ever
    assert isinstance(wrong, Untranslated)
    assert wrong.place == f"{root}/1"
    assert [problem.code for problem in wrong.problems] == [code]
    assert all(problem.pointer.startswith(f"{root}/1/") for problem in wrong.problems)
    alone = around % item % (b"3", b'], {\\"')
    (same,) = CHANNELS[name].read(_sent(name, alone))
    assert isinstance(same, Translated)
    assert isinstance(first, Translated)
    assert isinstance(last, Translated)
    assert last.event == same.event


@pytest.mark.parametrize("name", sorted(_LISTS))
def test_of_a_list_that_is_cut_off_nothing_is_taken(name: str) -> None:
    # given a body that ends in the middle, with a text that could not be decoded anyhow
    around, item, _ = _LISTS[name]
    body = (around % (item % (b"1", b"a") + b"," + item % (b"2", rb"\ud83d")))[:-9]
    # when it is read, then it is refused as a whole: what came of it is no delivery
    (told,) = CHANNELS[name].read(_sent(name, body))
    assert isinstance(told, Untranslated)
    assert told.place == ""


@pytest.mark.parametrize("mute", [[], ["m"], ["m", "n"]], ids=len)
def test_mutated_payloads_are_tried_on_each_channel_alike_however_many_there_are(mute: list[str]) -> None:
    for many in range(1, 60):
        names = [str(n) for n in range(many)]
        turns = Counter(tried(number, names, mute) for number in range(1_200))
        of_names = [turns[name] for name in names]
        assert max(of_names) - min(of_names) <= 1, many
        assert sum(turns[name] for name in mute) == (60 if mute else 0)


def test_mutated_payloads_never_raise_and_never_lose_key_or_time() -> None:
    found = run_fuzz(cases=6_000, seed=1)

    assert found.broken == []
    assert found.translated > 1_000, found
    assert set(found.per_channel) == set(CHANNELS)


# ---- the kit itself -------------------------------------------------------------------------------------


@contextmanager
def registered(source: str) -> Iterator[Channel]:
    """A copy of the template, as a file among the channels would be."""
    exec(compile(source, str(TEMPLATE), "exec"), {"__name__": "adapters.channels.acme"})  # noqa: S102 - our own text
    try:
        yield CHANNELS["acme"]
    finally:
        del CHANNELS["acme"]


@pytest.fixture
def acme() -> Iterator[Channel]:
    with registered(TEMPLATE.read_text("utf-8")) as channel:
        yield channel


def test_a_copy_of_the_template_keeps_the_contract(acme: Channel, tmp_path: Path) -> None:
    # given a stranger's samples, as files
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "answered.json").write_bytes(ACME)
    request = b"POST /hooks/acme/x HTTP/1.1\r\nX-Acme: 1\r\nContent-Type: application/json\r\n\r\n" + ACME
    (tmp_path / "acme" / "whole.http").write_bytes(request)
    bare, whole = added(tmp_path)

    # then both are the same body, and it is translated as its fields say
    assert whole.headers == {"x-acme": "1", "content-type": "application/json"}
    assert bare.body == whole.body == ACME
    (told,) = acme.read(delivery(bare.body, bare.headers))
    assert isinstance(told, Translated)
    assert (told.event["id"], told.event["time"]) == ("820982911946154508", "2026-11-22T11:00:00.000000Z")
    assert told.event["data"] == {"metric": "nps", "score": 9, "comment": "Fast"}
    # and another attempt of the delivery is the same, whatever its number
    (again,) = acme.read(delivery(ACME.replace(b'"attempt": 2', b'"attempt": 3'), bare.headers))
    assert isinstance(again, Translated)
    assert again.canonical == told.canonical
    assert run_fuzz(cases=300, seed=2, only="acme").broken == []


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ('text(inside(body, "id"))', 'body["id"]', "it raised"),
        (
            'within(inside(body, "score"), 0, 10)',
            'inside(body, "score")',
            "survey.answered does not take /data/score",
        ),
        ('compared(body, but=("attempt",))', 'b""', "nothing is left to compare"),
    ],
)
def test_the_contract_tells_a_channel_that_breaks_it(right: str, wrong: str, said: str) -> None:
    whole = TEMPLATE.read_text("utf-8")
    assert right in whole
    with registered(whole.replace(right, wrong)) as channel:
        bodies = (b"{}", ACME, ACME.replace(b'"9"', b'"nine"'))
        told = [rule for body in bodies for rule in broken(channel, delivery(body, JSON))]
    assert any(rule.startswith(said) for rule in told), told


def test_ids_of_a_sender_stand_in_the_namespace_that_its_endpoint_gives() -> None:
    delivery = Delivery(
        body=b"{}", headers={}, received_at=datetime(2026, 1, 1, tzinfo=UTC), source="shop/uk", unique="1",
        settings={"namespace": "uk"},
    )  # fmt: skip
    whom = [("user", 17), ("email", "ann@example.com"), ("user@till", 3), ("order", "9")]

    found = touchpoint(
        delivery, id="1", type="order.placed", at=None, data={}, canonical=b"", identifiers=whom
    )

    assert found.event["subject"] == "user@uk:17"
    assert found.event["identifiers"] == "email:ann@example.com,user@till:3,order:9"
