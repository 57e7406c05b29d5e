"""The feed: what the relay sends is what a reader of the feed is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from adapters.answers.feed import _encoded, cloud_event
from domain.entry import decode_body, moment

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_TIMES = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
_SURROGATES = st.lists(st.tuples(st.uuids().map(str), st.just("email"), _TEXT).map(list), max_size=3)
_BODIES = st.fixed_dictionaries(
    {
        "event_id": st.uuids().map(str),
        "source": _TEXT,
        "id": _TEXT,
        "type": _TEXT,
        "version": st.integers(1, 3),
        "occurred_at": _TIMES.map(moment),
        "channel": _TEXT,
    },
    optional={
        "data": st.dictionaries(_TEXT, st.one_of(_TEXT, st.integers(-5, 5)), max_size=3),
        "direction": st.sampled_from(["inbound", "outbound"]),
        "subjects": _SURROGATES,
        "references": _SURROGATES,
        "extensions": st.dictionaries(st.sampled_from(["purpose", "snapshot"]), st.integers(0, 9)),
        "correlation": _TEXT,
        "causation": _TEXT,
        "sealed": st.just([["k", "data", "AAAA"]]),
        "occurred_at_given": st.just(False),
        "future": st.just(True),
    },
)


@given(_BODIES, st.integers(1, 2**40), _TIMES)
def test_an_event_that_is_relayed_has_the_members_of_the_feed_without_the_sealed_ones(
    body: dict[str, Any], position: int, recorded_at: datetime
) -> None:
    # given the body of any event
    stored = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    # when it is encoded for the relay
    relayed = _encoded(position, recorded_at, stored)
    # then it has the members of the feed's event
    event = decode_body(stored)
    assert orjson.loads(relayed.json) == cloud_event(
        position, recorded_at, event, event.data, event.extensions
    )
    assert (relayed.position, relayed.type) == (position, event.type)
