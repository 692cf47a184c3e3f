"""Drift is measured while somebody looks, when something changed, and else not at all."""

import asyncio
from collections.abc import Coroutine, Iterator

import pytest

from replication.drift import DriftReport
from replication.engine.comparing import Verdict
from replication.measuring.looking import Looks
from replication.measuring.mending import ClusterRepair
from replication.measuring.meter import Effort
from replication.measuring.questions import Look, Repair
from replication.measuring.repairing import NodeRepair, TableRepair
from replication.measuring.watching import INTEREST_S, INTERVAL_S, DriftWatch
from replication.simulation.loop import VirtualLoop


class Found:
    """A meter that finds what it is told to find, in the time that it is told to take."""

    def __init__(self, *, takes_s: float = 0.0) -> None:
        self.takes_s = takes_s
        self.mark = 0
        self.looks: list[float] = []
        self.measured: list[float] = []
        self.repaired: list[Repair] = []
        self.outcome = ClusterRepair()
        self.exchanges = 0
        self.verdict = Verdict.EQUAL
        self.fails = False

    async def look(self, *, timeout_s: float) -> Looks:
        self.looks.append(asyncio.get_running_loop().time())
        return Looks(nodes={"alpha": Look(mark=str(self.mark))}, lost={})

    async def measure(self, effort: Effort) -> DriftReport:
        self.measured.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.takes_s)
        if self.fails:
            raise OSError("nobody thought of this")
        return DriftReport(verdict=self.verdict, tables=(), nodes=(str(self.mark),))

    async def repair(self, how: Repair) -> ClusterRepair:
        self.repaired.append(how)
        await asyncio.sleep(self.takes_s)
        self.mark += 1
        return self.outcome

    async def exchange(self) -> None:
        self.exchanges += 1
        self.verdict = Verdict.EQUAL


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    with VirtualLoop() as loop:
        yield loop
        assert loop.unhandled == []


def run(loop: VirtualLoop, work: Coroutine[None, None, None]) -> None:
    loop.run_until_complete(work)


def test_nobody_is_asked_while_nobody_looks(loop: VirtualLoop) -> None:
    found = Found()

    async def main() -> None:
        watch = DriftWatch(found)
        await asyncio.sleep(3600)
        assert watch.latest is None
        await watch.close()

    run(loop, main())
    assert (found.looks, found.measured) == ([], [])


def test_it_is_measured_at_once_and_then_only_when_something_changed(loop: VirtualLoop) -> None:
    found = Found()

    async def main() -> None:
        watch = DriftWatch(found, clock=lambda: 7.0)
        watch.looked()
        await asyncio.sleep(0.1)
        assert watch.latest is not None
        assert (watch.latest.report.nodes, watch.latest.at_s) == (("0",), 7.0)
        await asyncio.sleep(2.5 * INTERVAL_S)
        assert len(found.measured) == 1
        found.mark += 1
        await asyncio.sleep(INTERVAL_S)
        assert watch.latest.report.nodes == ("1",)
        await watch.close()

    run(loop, main())
    assert len(found.measured) == 2
    assert [later - earlier for earlier, later in zip(found.looks, found.looks[1:], strict=False)] == [INTERVAL_S] * 3


def test_it_ends_a_while_after_the_last_look_and_begins_again_at_the_next(loop: VirtualLoop) -> None:
    found = Found()

    async def main() -> None:
        watch = DriftWatch(found)
        watch.looked()
        await asyncio.sleep(3600)
        assert max(found.looks) < INTEREST_S
        watch.looked()
        await asyncio.sleep(1)
        assert max(found.looks) == 3600
        await watch.close()

    run(loop, main())


def test_what_takes_long_is_done_seldom(loop: VirtualLoop) -> None:
    found = Found(takes_s=4)

    async def main() -> None:
        watch = DriftWatch(found)
        for _ in range(100):
            watch.looked()
            found.mark += 1
            await asyncio.sleep(10)
        await watch.close()

    run(loop, main())
    assert sum(found.takes_s for _ in found.measured) <= 1000 / 10


def test_what_failed_is_tried_again(loop: VirtualLoop) -> None:
    found = Found()
    found.fails = True

    async def main() -> None:
        watch = DriftWatch(found)
        watch.looked()
        await asyncio.sleep(1)
        assert watch.latest is None
        found.fails = False
        await asyncio.sleep(INTERVAL_S)
        assert watch.latest is not None
        await watch.close()

    run(loop, main())


def test_who_asks_waits_for_what_is_found_from_then_on_and_shares_it(loop: VirtualLoop) -> None:
    found = Found(takes_s=3)

    async def main() -> None:
        watch = DriftWatch(found)
        first = asyncio.create_task(watch.measure())
        await asyncio.sleep(1)
        found.mark = 1
        later = [asyncio.create_task(watch.measure()) for _ in range(20)]
        await asyncio.gather(first, *later)
        assert [task.result().nodes for task in later] == [("1",)] * 20
        assert watch.latest is not None
        await watch.close()

    run(loop, main())
    assert found.measured == [0, 3]


def test_after_a_repair_it_is_measured_anew(loop: VirtualLoop) -> None:
    found = Found(takes_s=3)

    async def main() -> None:
        watch = DriftWatch(found)
        both = [asyncio.create_task(watch.repair(how)) for how in (Repair.ADOPT, Repair.RESTORE)]
        await asyncio.sleep(1)
        assert found.repaired == [Repair.ADOPT], "one at a time"
        first, second = await asyncio.gather(*both)
        assert first[1].nodes <= ("2",)
        assert second[1].nodes == ("2",)
        await watch.close()

    run(loop, main())


@pytest.mark.parametrize(("left", "exchanges"), [(0, 1), (2, 0)])
def test_nodes_that_differ_without_damage_exchange_all_that_they_have(
    loop: VirtualLoop, left: int, exchanges: int
) -> None:
    found = Found()
    found.verdict = Verdict.DRIFT
    found.outcome = ClusterRepair(nodes={"a": NodeRepair(tables=(TableRepair(name="t", found=2, left=left),))})

    async def main() -> None:
        watch = DriftWatch(found)
        _, report = await watch.repair(Repair.RESTORE)
        assert report.verdict is (Verdict.EQUAL if exchanges else Verdict.DRIFT)
        await watch.close()

    run(loop, main())
    assert found.exchanges == exchanges
