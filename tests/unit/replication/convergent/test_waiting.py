"""Who waits for a position: told when something is merged, and by nothing else."""

import asyncio

import pytest

from replication.convergent.waiting import PositionWaiters
from replication.engine.stamps import Site, Stamp
from replication.errors import PositionTimeout
from replication.positions import Position
from replication.simulation.loop import VirtualLoop

SITE = Site("a" * 32)
MERGED_AT_S = (10.0, 20.0)


class Node:
    """Merges up to stamp 1 at the one moment, and up to 2 at the other."""

    def __init__(self) -> None:
        self.here = Stamp(0)
        self.looks_at_s: list[float] = []
        self.waiters = PositionWaiters(self.reached)

    def reached(self, position: Position) -> bool:
        self.looks_at_s.append(asyncio.get_running_loop().time())
        return position.stamps[SITE] <= self.here

    async def merge(self) -> None:
        loop = asyncio.get_running_loop()
        for at_s in MERGED_AT_S:
            await asyncio.sleep(at_s - loop.time())
            self.here = Stamp(self.here + 1)
            self.waiters.moved()

    async def wait(self, stamp: int, timeout_s: float) -> float:
        """When it returns."""
        position = Position({SITE: Stamp(stamp)})
        await self.waiters.wait_for(position, timeout_s=timeout_s, behind=lambda: {SITE: self.here})
        return asyncio.get_running_loop().time()


def test_who_waits_goes_on_at_the_moment_of_the_merge_and_nothing_looks_in_between() -> None:
    async def run() -> float:
        node = Node()
        merging = asyncio.create_task(node.merge())
        ended_s = await node.wait(2, timeout_s=1000)
        await merging
        assert node.looks_at_s == [0.0, *MERGED_AT_S]
        return ended_s

    with VirtualLoop() as loop:
        assert loop.run_until_complete(run()) == MERGED_AT_S[-1]


def test_what_does_not_come_in_time_is_told_with_what_is_missing_and_leaves_nobody_waiting() -> None:
    async def run() -> list[float]:
        node = Node()
        merging = asyncio.create_task(node.merge())
        with pytest.raises(PositionTimeout, match=f"{SITE}:3"):
            await node.wait(3, timeout_s=15)
        await merging
        return node.looks_at_s

    with VirtualLoop() as loop:
        assert loop.run_until_complete(run()) == [0.0, MERGED_AT_S[0]]
