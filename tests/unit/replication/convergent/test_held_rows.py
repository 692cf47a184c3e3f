"""Whom a node asks for all they have, when rows came that it cannot show."""

import asyncio

from replication.convergent.held_rows import FIRST_PAUSE_S, HeldRows
from replication.convergent.schemas import PeerSchemas
from replication.simulation.loop import VirtualLoop

OWN = {"pages": "1"}


class Node:
    """One whose peers all have its schema. `mark`: which rows are held there."""

    def __init__(self) -> None:
        self.mark: object = None
        self.asked: list[str] = []
        self.peers = PeerSchemas()
        self.rows = HeldRows(self.peers, mark=self._mark, want=self._want)

    async def _mark(self) -> object:
        return self.mark

    def _want(self, peer: str) -> asyncio.Future[bool]:
        self.asked.append(peer)
        return asyncio.get_running_loop().create_future()

    async def seconds(self, count: float) -> list[str]:
        """Whom it asked in that time."""
        self.asked.clear()
        for _ in range(int(count)):
            await self.rows.look(OWN)
            await asyncio.sleep(1)
        return list(self.asked)


def test_who_has_migrated_is_asked_once_and_all_again_when_other_rows_are_held() -> None:
    async def run() -> None:
        node = Node()
        node.peers.heard("b", OWN)
        assert await node.seconds(2) == []
        node.mark = 1
        node.peers.heard("c", OWN)  # it has just migrated, and b may have the rows as well
        assert await node.seconds(3) == ["b", "c"]
        node.peers.heard("d", OWN)
        assert await node.seconds(3) == ["d"]

    with VirtualLoop() as loop:
        loop.run_until_complete(run())


def test_who_may_have_held_the_same_rows_is_asked_again_more_and_more_seldom() -> None:
    async def run() -> None:
        node = Node()
        node.mark = 1
        node.peers.heard("b", OWN)
        assert await node.seconds(FIRST_PAUSE_S) == ["b"]
        assert await node.seconds(3 * FIRST_PAUSE_S) == ["b", "b"]
        assert len(await node.seconds(24 * 3600)) < 40
        node.mark = None
        assert await node.seconds(7_200) == []

    with VirtualLoop() as loop:
        loop.run_until_complete(run())
