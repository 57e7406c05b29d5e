"""A run of an import: how rows become batches, how many are under way, and which wait for which."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from adapters.imports import Rejection
from adapters.imports.format import Row
from adapters.imports.source_file import Stopped
from adapters.intake.import_runs import ImportRun
from adapters.intake.ingest import Answer, Result
from adapters.intake.payloads import event_of
from bin.commands.imports import show_list
from bin.importing import run as import_run
from bin.importing.outcome import Outcome, Told
from bin.importing.progress import Progress
from bin.importing.run import BATCH_BYTES, BATCH_EVENTS, Run, read_batch
from domain.errors import Problem


def row(id_: str, source: str = "shop") -> Row:
    return Row(f"row {id_}", event_of({"source": source, "id": id_}))


def refused(raw: bytes = b"x") -> Rejection:
    return Rejection("row", raw, [Problem("", "wrong", "wrong")])


def sizes(rows: Sequence[Any]) -> list[int]:
    """How many rows and refused rows each batch holds."""
    found, left = list[int](), iter(rows)
    while True:
        batch = read_batch(left)
        found.append(len(batch.rows) + len(batch.rejections))
        if batch.is_last:
            return found


def test_a_batch_ends_at_its_thousandth_row_refused_ones_counted_or_with_the_row_that_fills_its_bytes() -> (
    None
):
    both = [row(str(n)) if n % 2 else refused() for n in range(BATCH_EVENTS + 1)]
    assert sizes(both) == [BATCH_EVENTS, 1]
    assert sizes(both[:-1]) == [BATCH_EVENTS, 0]
    half = bytes(BATCH_BYTES // 2)
    for one in (refused(half), Row("row", half)):
        assert sizes([one] * 5) == [2, 2, 1]
    long = event_of({"source": "shop", "id": "1", "data": "x" * (BATCH_BYTES // 2)})
    assert sizes([Row("row", long)] * 3) == [2, 1]


def test_what_was_read_before_a_file_ended_badly_is_kept_and_told_once() -> None:
    def cut(said: str) -> Iterator[Row]:
        yield row("1")
        raise Stopped(said)

    batch = read_batch(cut("it is cut off"))
    assert (len(batch.rows), batch.is_last, batch.failed) == (1, True, "it is cut off")
    batch = read_batch(cut(""))
    assert (len(batch.rows), batch.is_last, batch.failed) == (1, True, None)


def test_a_file_that_ends_badly_is_told_and_its_refused_rows_are_kept_also_where_no_other_stands_beside_them() -> (
    None
):
    class File:
        is_stopped = False

        def stop(self) -> None:
            self.is_stopped = True

    class Keeping(Slow):
        async def keep(self, rejections: Sequence[Rejection], format_name: str) -> None:
            self.taken += [one.place for one in rejections]

    class Bad(Format):
        def read(self, file: Any, options: Any) -> Iterator[Any]:
            yield refused()
            raise (Stopped("it is cut off") if options is None else ValueError("ours"))

    async def whole() -> None:
        log, outcome, file = Keeping(), Outcome(["f"]), File()
        run = Run(log, outcome, told=lambda *_: None, progress=Progress(quiet=True))
        await run.file(file, Bad([]), None)  # type: ignore[arg-type]
        await run.finish()
        assert (log.taken, outcome.rejected, outcome.failed) == (["row"], 1, ["it is cut off"])
        assert not file.is_stopped
        with pytest.raises(ValueError, match="ours"):
            await run.file(file, Bad([]), "an error of ours")  # type: ignore[arg-type]
        assert file.is_stopped

    asyncio.run(whole())


class Slow:
    """A log that takes batches and answers when it is told to."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.answers: dict[str, asyncio.Event] = {}
        self.most = 0

    async def take(self, rows: Sequence[Row], format_name: str) -> Answer:
        name = rows[0].place
        self.taken.append(name)
        self.answers[name] = asyncio.Event()
        self.most = max(self.most, sum(not answer.is_set() for answer in self.answers.values()))
        await self.answers[name].wait()
        return Answer([Result("recorded", id="1") for _ in rows], len(rows), 0, 0, 0, 0)

    async def keep(self, rejections: Sequence[Rejection], format_name: str) -> None:
        raise AssertionError("nothing is refused here")

    async def has(self, count: int) -> None:
        """Wait until so many batches were taken."""
        async with asyncio.timeout(60):
            while len(self.taken) < count:
                await asyncio.sleep(0)


class Format:
    name = "test"

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def read(self, file: Any, options: Any) -> Iterator[Row]:
        return iter(self.rows)


@pytest.mark.parametrize("same", [False, True])
def test_three_batches_are_under_way_at_once_and_one_that_holds_a_key_again_waits_for_the_first(
    monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    monkeypatch.setattr(import_run, "BATCH_EVENTS", 1)
    ids = ["1", "2", "1" if same else "3", "4", "5"]
    told: Callable[..., None] = lambda *_: None  # noqa: E731

    async def whole() -> None:
        log, outcome = Slow(), Outcome(["f"])
        run = Run(log, outcome, told=told, progress=Progress(quiet=True))
        rows = [Row(f"row {n}", row(id_).item) for n, id_ in enumerate(ids)]
        running = asyncio.create_task(run.file(Any, Format(rows), None))  # type: ignore[arg-type]
        await log.has(2 if same else 3)
        if same:
            log.answers["row 1"].set()  # another's place is free, and is no use
            for _ in range(20):
                await asyncio.sleep(0)
            assert log.taken == ["row 0", "row 1"]
        log.answers["row 0"].set()
        for n in (1, 2, 3):
            await log.has(n + 1)
            log.answers[f"row {n}"].set()
        await log.has(5)
        assert outcome.handled != 5, "the last is still under way"
        log.answers["row 4"].set()
        await running
        await run.finish()
        assert outcome.recorded == 5
        assert log.taken == [f"row {n}" for n in range(5)]
        assert log.most <= 3

    asyncio.run(whole())


def test_what_is_told_of_a_row_is_what_became_of_it_and_of_a_refused_one_what_stood_there() -> None:
    remark, wrong = Problem("/time", "came twice", "ambiguous"), Problem("/id", "wrong", "wrong")
    became = {
        "fine": Result("recorded", 1, "a"),
        "doubtful": Result("duplicate", 2, "b"),
        "dropped": Result("corrected", 3, "c", [wrong]),
        "other": Result("conflict", 4, "d", [wrong]),
        "nonsense": Result("rejected", None, None, [wrong]),
    }

    class Answering(Slow):
        async def take(self, rows: Sequence[Row], format_name: str) -> Answer:
            return Answer([became[one.place] for one in rows], 1, 1, 1, 1, 4)

    async def whole() -> None:
        # given rows of every fate, most of them read with a remark
        payload = event_of({"source": "shop", "id": "d"})
        rows = [
            *(Row("fine", payload), Row("doubtful", payload, (remark,)), Row("dropped", payload, (remark,))),
            *(Row("other", payload, (remark,)), Row("nonsense", b"{", (remark,))),
        ]
        told = list[tuple[Any, ...]]()
        outcome = Outcome(["f"])

        def tell(one: Told, raw: bytes | None, event: Any) -> None:
            told.append((one.place, one.status, one.errors, one.source, one.position, raw, event))

        run = Run(Answering(), outcome, told=tell, progress=Progress(quiet=True))
        # when they are sent
        await run.file(object(), Format(rows), None)  # type: ignore[arg-type]
        await run.finish()
        # then a remark is told of what is in the log alone, and of what is not why, and its payload
        assert told == [
            ("doubtful", "remark", [remark], None, 2, None, None),
            ("dropped", "remark", [remark, wrong], None, 3, None, None),
            ("other", "conflict", [wrong], "shop", 4, None, payload.event),
            ("nonsense", "rejected", [wrong], None, None, b"{", None),
        ]
        counts = (
            outcome.recorded,
            outcome.corrected,
            outcome.duplicates,
            outcome.conflicts,
            outcome.rejected,
        )
        assert (counts, outcome.remarks, outcome.handled, outcome.is_clean) == ((1, 1, 1, 1, 1), 2, 5, False)

    asyncio.run(whole())


@pytest.mark.parametrize("lacking", ["conflicts", "rejected", "failed", "interrupted", "broken_off"])
def test_an_import_is_clean_only_where_all_of_it_is_recorded(lacking: str) -> None:
    outcome = Outcome(["f"], recorded=1, corrected=1, duplicates=1, remarks=1)
    assert outcome.is_clean
    value: Any = ["f"] if lacking == "failed" else 1
    assert not msgspec.structs.replace(outcome, **{lacking: value}).is_clean


def test_of_an_import_that_was_cut_off_before_it_was_counted_the_list_does_not_say_that_it_brought_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # given an import that ended and brought nothing, and one that was killed in its first two seconds
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    ended = ImportRun(
        import_id="aaaa", started_at=at, finished_at=at, principal="cli:x", format="cloudevents", files=["f"],
        recorded=0, corrected=0, duplicates=0, conflicts=0, rejected=0, retracted_at=None,
    )  # fmt: skip
    killed = msgspec.structs.replace(ended, import_id="bbbb", finished_at=None)
    # when they are listed
    show_list([ended, killed], ZoneInfo("UTC"))
    # then the counts of the second are told to be unknown
    first, second = (
        line for line in capsys.readouterr().out.splitlines() if "aaaa" in line or "bbbb" in line
    )
    assert "none" in first
    assert "not counted yet" in second
