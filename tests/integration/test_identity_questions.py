"""Every question about a person follows merges and splits, at the moment that it is asked for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from adapters.answers.audit_trail import AuditTrails
from adapters.answers.conversations import Conversations
from adapters.answers.persons import Persons
from bin.commands.replay import Asked, run
from bin.settings import Settings
from tests.integration.reading_house import House, event, story
from tests.integration.test_identity import ANN, BOB, merged, names, undone


async def told(it: House, **when: Any) -> dict[str, Any]:
    """What is told of the person whom ANN names, by every way there is."""
    core = it.core
    persons = Persons(core.pool, core.subjects, core.histories)
    known = await persons.one(ANN, **when)
    trail = await AuditTrails(core.pool, core.histories, zone=ZoneInfo("UTC")).page(person=ANN, **when)
    talks = await Conversations(core.pool, core.histories).page(ANN, **when)
    return {
        "history": sorted(e["provenance"]["source_id"] for e in await it.entries(ANN, **when)),
        "events": known.events,
        "profile": {name: trait.value for name, trait in known.profile.traits.items()},
        "trail": sorted(e["source_id"] for e in trail.entries if not e["type"].startswith("identity.")),
        "conversations": sorted(c["conversation"] for c in talks.conversations),
    }


async def replayed(it: House, folder: Path, **when: Any) -> list[str]:
    """The ids that `replay --person` gives."""
    file = folder / "out.jsonl"
    asked = Asked(format="jsonl", output=file, force=True, person=ANN, **when)
    await run(Settings.load({}, data=folder), it.core.database_url, asked, lambda *_: None)
    lines = [orjson.loads(line) for line in (await asyncio.to_thread(file.read_bytes)).splitlines()]
    return sorted(one["id"] for one in lines if not one["type"].startswith("identity."))


@story
async def test_every_question_follows_a_merge_and_its_split(it: House) -> None:
    # given two persons, each with a call, a conversation and a profile
    await it.given(
        names("1", "user:1", ANN),
        names("2", "user:2", BOB),
        event("3", subject=ANN, data={"conversation_id": "c-ann"}),
        event("4", subject=BOB, data={"conversation_id": "c-bob"}),
        event("5", type="profile.updated", subject=BOB, data={"traits": {"city": "York"}}),
    )
    folder = it.core.settings.data
    apart, alone = await told(it), await replayed(it, folder)
    assert (apart["history"], apart["profile"], alone) == (["1", "3"], {}, ["1", "3"])
    before = (await it.core.histories.identities.person(ANN)).known_at

    # when they are merged, then every question is about both
    merge = await merged(it, ANN, BOB)
    joined = await told(it)
    everything = ["1", "2", "3", "4", "5"]
    own = [id_ for id_ in joined["history"] if id_ in everything]
    assert (own, joined["trail"]) == (everything, everything)
    assert joined["conversations"] == ["conversation:c-ann", "conversation:c-bob"]
    assert joined["profile"] == {"city": "York"}
    assert await replayed(it, folder) == everything
    then = (await it.core.histories.identities.person(ANN)).known_at

    # and as known before it, about one
    assert await told(it, known_at=before) == apart
    assert await replayed(it, folder, known_at=before) == alone

    # when the merge is undone, then every question is as it was, and as known meanwhile still about both
    await undone(it, merge.event_id)
    after = await told(it)
    assert {**after, "history": ["1", "3"], "events": 2} == apart
    assert [id_ for id_ in after["history"] if id_ in everything] == ["1", "3"]
    assert await replayed(it, folder) == alone
    assert await told(it, known_at=then) == joined
