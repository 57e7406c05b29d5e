"""A key that comes twice in one append is answered for as in two appends, one after the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adapters.postgres.event_log import Appended, Item, with_repeats, without_repeats

Key = tuple[bytes, int]
ITEMS = st.lists(
    st.builds(
        Item,
        stream=st.sampled_from([b"one", b"two"]),
        type=st.just("call.ended"),
        body=st.just(b"{}"),
        payload_hash=st.sampled_from([b"p", b"q", b"r"]),
        version=st.sampled_from([1, 2]),
    ),
    max_size=8,
)


class Log:
    """The rule of idempotency (SEMANTICS §1): the first with a key is recorded, later ones are held against it."""

    def __init__(self) -> None:
        self.kept: dict[Key, tuple[int, bytes]] = {}

    def append(self, items: list[Item]) -> list[Appended]:
        return [self._one(item) for item in items]

    def _one(self, item: Item) -> Appended:
        key = (item.stream, item.version)
        if key not in self.kept:
            self.kept[key] = (len(self.kept) + 1, item.payload_hash)
            return Appended("recorded", len(self.kept))
        position, kept = self.kept[key]
        return Appended("duplicate" if kept == item.payload_hash else "conflict", position)


@given(before=ITEMS, items=ITEMS)
def test_items_of_one_append_are_answered_for_as_if_they_came_one_by_one(
    before: list[Item], items: list[Item]
) -> None:
    one_by_one, at_once = Log(), Log()
    one_by_one.append(before)
    at_once.append(before)
    expected = one_by_one.append(items)

    fresh, places = without_repeats(items)
    assert len({(item.stream, item.version) for item in fresh}) == len(fresh)
    found = with_repeats(items, fresh, places, at_once.append(list(fresh)))
    asked = [i for i, result in enumerate(found) if result.status == "ask"]
    for i, result in zip(asked, at_once.append([items[i] for i in asked]), strict=True):
        found[i] = result

    assert found == expected
    assert at_once.kept == one_by_one.kept
