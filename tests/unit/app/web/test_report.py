import asyncio

import pytest

from app.report import TOP_PAGES, NodeReport, PageReader, PageReport, drift, pages_by_count, parse_answer
from cluster.counters import Counters
from tests.unit.app.web.fakes import BUSY, FakeCluster, FakeRepo, until


async def test_each_node_says_what_it_holds(cluster: FakeCluster) -> None:
    cluster.nodes["alpha"].repo.set("home", 3)
    cluster.nodes["beta"].repo.set("home", 7)
    cluster.nodes["beta"].repo.set("only-here", 1)
    beliefs = await cluster.report("alpha").beliefs()
    assert list(beliefs) == ["alpha", "beta", "gamma"]
    assert [report.count("home") for report in beliefs.values()] == [3, 7, 0]
    assert [report.count("only-here") for report in beliefs.values()] == [0, 1, 0]
    assert drift(list(beliefs.values()), "home") == 7
    assert pages_by_count(list(beliefs.values())) == ["home", "only-here"]


async def test_node_that_does_not_answer_in_time_is_shown_as_last_known(cluster: FakeCluster) -> None:
    cluster.nodes["beta"].repo.set("home", 7)
    report = cluster.report("alpha")
    assert not (await report.beliefs())["beta"].stale
    cluster.nodes["beta"].hangs = True
    beta = (await report.beliefs())["beta"]
    assert beta.stale
    assert beta.count("home") == 7
    assert not (await report.beliefs())["gamma"].stale


async def test_hung_nodes_are_waited_for_together_and_not_one_after_the_other() -> None:
    cluster = FakeCluster("alpha", *(f"n{i}" for i in range(10)))
    for name, node in cluster.nodes.items():
        node.hangs = name != "alpha"
    loop = asyncio.get_running_loop()
    began = loop.time()
    await cluster.report("alpha", deadline_s=0.2).beliefs()
    assert loop.time() - began < 1.0
    cluster.close()


async def test_node_that_is_down_is_not_asked_and_takes_no_part_in_the_drift(cluster: FakeCluster) -> None:
    report = cluster.report("alpha")
    cluster.nodes["beta"].repo.set("home", 7)
    await report.beliefs()
    cluster.member("beta").state = "down"
    asked = cluster.nodes["beta"].calls
    beliefs = await report.beliefs()
    assert cluster.nodes["beta"].calls == asked
    assert beliefs["beta"].stale
    assert beliefs["beta"].count("home") == 7
    assert drift(list(beliefs.values()), "home") == 0


async def test_member_without_a_name_is_shown_by_its_address(cluster: FakeCluster) -> None:
    cluster.members[1].name = ""
    cluster.members[1].state = "connecting"
    beliefs = await cluster.report("alpha").beliefs()
    assert beliefs["tcp://127.0.0.1:7401"].count("home") is None


async def test_callers_that_come_during_a_round_share_the_next_one(cluster: FakeCluster) -> None:
    report = cluster.report("alpha")
    await asyncio.gather(*(report.beliefs() for _ in range(50)))
    assert cluster.nodes["beta"].calls == 1


async def test_caller_sees_what_was_written_before_its_call(cluster: FakeCluster) -> None:
    report = cluster.report("alpha", deadline_s=0.1)
    cluster.nodes["gamma"].hangs = True
    early = asyncio.create_task(report.beliefs())
    await until(lambda: cluster.nodes["gamma"].calls > 0)
    cluster.nodes["beta"].repo.set("home", 9)
    late = await report.beliefs()
    assert (await early)["beta"].count("home") == 0
    assert late["beta"].count("home") == 9


async def test_cancelled_caller_leaves_the_others_their_answer(cluster: FakeCluster) -> None:
    report = cluster.report("alpha")
    one, other = asyncio.create_task(report.beliefs()), asyncio.create_task(report.beliefs())
    await asyncio.sleep(0)
    one.cancel()
    assert set(await other) == {"alpha", "beta", "gamma"}


async def test_closed_report_leaves_nothing_running(cluster: FakeCluster) -> None:
    report = cluster.report("alpha", deadline_s=30)
    cluster.nodes["beta"].hangs = True
    waiting = asyncio.create_task(report.beliefs())
    await until(lambda: cluster.nodes["beta"].calls > 0)
    await report.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "pages",
        [],
        {},
        {"error": "busy"},
        {"pages": {"home": "1"}, "complete": True, "counters": {}},
        {"pages": {"home": True}, "complete": True, "counters": {}},
        {"pages": {"home": 2**63}, "complete": True, "counters": {}},
        {"pages": {"x" * 201: 1}, "complete": True, "counters": {}},
        {"pages": {str(i): 1 for i in range(200)}, "complete": True, "counters": {}},
        {"pages": {}, "complete": 1, "counters": {}},
        {"pages": {}, "complete": True, "counters": {str(i): 1 for i in range(100)}},
    ],
)
async def test_answer_that_is_no_report_is_not_believed(cluster: FakeCluster, answer: object) -> None:
    assert parse_answer(answer, 0.0) is None
    cluster.nodes["beta"].answers = lambda: answer
    assert (await cluster.report("alpha").beliefs())["beta"].at_s is None


@pytest.mark.parametrize("message", [None, 5, [], {"pages": 5}, {"pages": [1]}, {"pages": ["x" * 10_000]}, {}])
async def test_no_question_crashes_the_actor(message: object) -> None:
    repo = FakeRepo()
    answer = await PageReport(PageReader(repo, Counters())).handle_call(message, "mallory")
    assert isinstance(answer, dict)
    repo.failing = BUSY
    answer = await PageReport(PageReader(repo, Counters())).handle_call(message, "mallory")
    assert isinstance(answer, dict)
    assert answer["error"]
    repo.close()


async def test_report_is_bounded_and_pages_asked_for_are_always_in_it(cluster: FakeCluster) -> None:
    for node in cluster.nodes.values():
        for i in range(300):
            node.repo.set(f"page {i:03}", 1000 - i)
    cluster.nodes["beta"].repo.set("rare", 2)
    answer = await cluster.nodes["beta"].reader.read(["rare", "never"])
    pages = answer["pages"]
    assert isinstance(pages, dict)
    assert len(pages) == TOP_PAGES + 2
    assert (pages["rare"], pages["never"]) == (2, 0)
    report = cluster.report("alpha")
    report.note("rare")
    beliefs = await report.beliefs()
    assert [beliefs[name].count("rare") for name in ("alpha", "beta", "gamma")] == [0, 2, 0]
    assert beliefs["beta"].count("page 299") is None
    assert len(pages_by_count(list(beliefs.values()))) == TOP_PAGES


async def test_page_in_the_top_of_one_node_is_asked_of_all_the_next_time() -> None:
    cluster = FakeCluster("alpha", "beta")
    for i in range(TOP_PAGES + 10):
        cluster.nodes["alpha"].repo.set(f"a{i}", 100)
        cluster.nodes["beta"].repo.set(f"a{i}", 100)
    cluster.nodes["beta"].repo.set("a59", 500)
    report = cluster.report("alpha")
    await report.beliefs()
    beliefs = await report.beliefs()
    assert beliefs["alpha"].count("a59") == 100
    assert drift(list(beliefs.values()), "a59") == 400
    cluster.close()


async def test_scan_for_the_largest_counts_takes_a_tenth_of_the_time_at_most() -> None:
    repo = FakeRepo()
    now = 0.0

    def slow() -> float:
        nonlocal now
        now += 0.5  # each look at the clock is half a second later: a scan takes that long
        return now

    reader = PageReader(repo, Counters(), monotonic=slow)
    for _ in range(40):
        await reader.read()
    assert repo.reads <= 5
    repo.close()


async def test_row_that_another_program_wrote_does_not_hide_the_others() -> None:
    repo = FakeRepo()
    repo.set("home", 4)
    repo.set("x" * 500, 9)
    repo.connection.execute("INSERT INTO page_counts (page, count) VALUES ('odd', 'many')")
    answer = parse_answer(await PageReader(repo, Counters()).read(["odd"]), 0.0)
    assert answer is not None
    assert answer.pages == {"home": 4, "odd": 0}
    repo.close()


def test_one_node_alone_has_no_drift() -> None:
    report = NodeReport(name="alpha", region="x", state="up", at_s=1.0, complete=True, pages={"home": 5})
    assert drift([report], "home") == 0
    assert drift([], "home") == 0
