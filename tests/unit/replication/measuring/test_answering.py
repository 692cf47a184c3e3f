"""What a node answers about its own database: in parts, later if need be, and never with a crash."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from replication.engine.comparable import DigestTable
from replication.engine.digests import Digest
from replication.engine.listings import RowListing
from replication.engine.row_values import RowValues
from replication.measuring.answering import Digests
from replication.measuring.jobs import JOBS_MAX, Jobs, TooManyJobs
from replication.measuring.questions import (
    AskDigest,
    AskExchange,
    AskLook,
    AskNext,
    AskRepair,
    AskRows,
    AskValues,
    Look,
    Repair,
    parse_question,
)
from tests.support.comparing import ComparedNode, ComparedNodes

PAGES = DigestTable(name="pages", ignore=("seen",), counters=("count",))
QUESTIONS = (
    AskLook(),
    AskDigest(tables=(PAGES,), covered={}, buckets_max=16),
    AskRows(table=PAGES, buckets=4, numbers=(0, 3), after=("a", 1), covered={}),
    AskValues(table=PAGES, keys=(("home",), (b"\0",), (1.5,))),
    AskRepair(how=Repair.ADOPT),
    AskExchange(),
    AskNext(ref=3, number=1),
)


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[ComparedNode]:
    nodes = ComparedNodes(tmp_path, "alpha")
    nodes.write("INSERT INTO pages VALUES ('home', 'x', 3, NULL)")
    yield nodes["alpha"]
    await nodes.close()


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: type(question).__name__)
def test_a_question_survives_the_trip(question: Any) -> None:
    assert parse_question(question.plain()) == question


async def test_each_question_has_its_answer(node: ComparedNode) -> None:
    async def part(question: Any) -> Any:
        answer = await node.desk.answer(question.plain())
        assert answer[:1] + answer[2:4] == ["part", 0, 1], answer
        return answer[4]

    assert Look.parse(await part(AskLook())).tables == ()
    found = Digest.parse(await part(AskDigest(tables=(PAGES,), covered={}, buckets_max=1)))
    assert found.tables["pages"].rows == (1,)
    listing = RowListing.parse(await part(AskRows(table=PAGES, buckets=1, numbers=(0,), after=None, covered={})))
    assert list(listing.rows) == [("home",)]
    values = RowValues.parse(await part(AskValues(table=PAGES, keys=(("home",), ("never",)))))
    assert values.rows == {("home",): {"count": 3, "title": "x"}, ("never",): None}


@pytest.mark.parametrize(
    "message",
    [
        None,
        5,
        "look",
        [],
        {},
        ["look", 1],
        ["look"] * 9,
        ["digest"],
        ["digest", [["pages"]], {}, 1],
        ["digest", [["pages", [1], []]], {}, 1],
        ["digest", [], {"x": 1}, 1],
        ["digest", [], {}, 3],
        ["digest", [], {}, 2**40],
        ["rows", ["pages", [], []], 4, [4], None, {}],
        ["rows", ["pages", [], []], 4, [0], b"\xc1", {}],
        ["values", ["pages", [], []], b"\xc1"],
        ["values", ["nothing", [], []], b"\x90"],
        ["repair", "burn"],
        ["repair", "adopt"],
        ["exchange"],
        ["next", 99, 0],
        ["next", "1", 0],
    ],
)
async def test_no_question_crashes_the_actor(node: ComparedNode, message: object) -> None:
    answer: Any = await Digests(node.desk).handle_call(message, "mallory")
    assert answer[0] == "error"
    assert len(answer[1]) > 5


async def test_an_error_of_the_database_is_an_answer(node: ComparedNode) -> None:
    node.write("ALTER TABLE pages RENAME TO other")
    answer = await node.desk.answer(AskValues(table=PAGES, keys=(("home",),)).plain())
    assert answer == ["error", "there is no such table"]


# --- jobs


async def test_what_takes_long_is_said_to_be_under_way_and_fetched_later() -> None:
    jobs = Jobs(moment_s=0.01)
    go_on = asyncio.Event()

    async def work() -> Sequence[object]:
        await go_on.wait()
        return ["one", "two"]

    ref = jobs.begin(work())
    assert await jobs.part(ref, 0) == ["working", ref]
    go_on.set()
    assert await jobs.part(ref, 0) == ["part", ref, 0, 2, "one"]
    assert await jobs.part(ref, 0) == ["part", ref, 0, 2, "one"], "an answer may be lost on the way"
    assert await jobs.part(ref, 1) == ["part", ref, 1, 2, "two"]
    assert (await jobs.part(ref, 1))[0] == "error", "the last part is not kept"


async def test_work_that_fails_is_told_once() -> None:
    jobs = Jobs()

    async def work() -> Sequence[object]:
        raise OSError("the disk is full")

    ref = jobs.begin(work())
    assert await jobs.part(ref, 0) == ["error", "the disk is full"]
    assert (await jobs.part(ref, 0))[0] == "error"


async def test_what_nobody_fetches_is_forgotten() -> None:
    jobs = Jobs(kept_s=-1.0)
    done = asyncio.Event()

    async def work() -> Sequence[object]:
        done.set()
        return [1]

    first = jobs.begin(work())
    await done.wait()
    jobs.begin(work())
    assert (await jobs.part(first, 0))[0] == "error"
    await jobs.close()


async def test_work_is_bounded() -> None:
    jobs = Jobs(moment_s=0.0)
    never = asyncio.Event()

    async def work() -> Sequence[object]:
        await never.wait()
        return []

    refs = [jobs.begin(work()) for _ in range(JOBS_MAX)]
    with pytest.raises(TooManyJobs):
        jobs.begin(work())
    closing = asyncio.ensure_future(jobs.part(refs[0], 0))
    await jobs.close()
    assert (await closing)[0] in ("working", "error")
