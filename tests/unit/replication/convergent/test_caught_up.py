"""When a node that has just started holds what its peers held."""

import asyncio

from replication.convergent.caught_up import caught_up
from replication.convergent.status import Progress, ReplicationStatus, Tally
from replication.engine.stamps import Site, Stamp
from replication.errors import PositionTimeout
from replication.positions import Position

A, B = Site("a" * 32), Site("b" * 32)
PATIENCE_S = 2.0


class FakeReplication:
    """Each time that it is waited for, the next of `news` happens; without any, time runs out."""

    def __init__(self, peers: dict[Site, int], *news: "dict[Site, int] | int | None") -> None:
        self.peers = {site: Stamp(stamp) for site, stamp in peers.items()}
        self.here: dict[Site, Stamp] = {}
        self.news = list(news)
        self.tally = Tally()
        self.rows = 0
        self.waits: list[float] = []
        self.has_joined = asyncio.Event()
        self.has_joined.set()

    async def joined(self) -> None:
        await self.has_joined.wait()

    def missing(self) -> Position:
        return Position({site: stamp for site, stamp in self.peers.items() if self.here.get(site, -1) < stamp})

    def stamps(self) -> dict[Site, Stamp]:
        return dict(self.here)

    def status(self) -> ReplicationStatus:
        return ReplicationStatus(
            site=A, ready=True, joined=True, problem="", sites=0, behind={}, waiting=0, waiting_bytes=0,
            catching_up=Progress(peer="b", since_s=0, rows=self.rows),
        )  # fmt: skip

    async def wait_for(self, position: Position, *, timeout_s: float) -> None:
        self.waits.append(timeout_s)
        match self.news.pop(0) if self.news else None:
            case dict() as merged:
                self.here |= {site: Stamp(stamp) for site, stamp in merged.items()}
            case int() as rows:
                self.rows += rows
            case None:
                pass
        if any(self.here.get(site, -1) < stamp for site, stamp in position.stamps.items()):
            raise PositionTimeout(str(position), timeout_s)


async def test_who_has_everything_does_not_wait() -> None:
    assert not await caught_up(FakeReplication({}), patience_s=PATIENCE_S)


async def test_it_waits_for_all_that_peers_had() -> None:
    replication = FakeReplication({A: 3, B: 5}, {A: 3, B: 5})
    assert not await caught_up(replication, patience_s=PATIENCE_S)
    assert replication.waits == [PATIENCE_S]


async def test_nothing_is_looked_at_before_the_node_has_joined() -> None:
    replication = FakeReplication({A: 3}, {A: 3})
    replication.has_joined.clear()
    waiting = asyncio.create_task(caught_up(replication, patience_s=PATIENCE_S))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert not replication.waits
    replication.has_joined.set()
    assert not await waiting


async def test_as_long_as_something_comes_it_goes_on_waiting() -> None:
    replication = FakeReplication({A: 9}, {A: 1}, {A: 2}, 5_000, 5_000, {A: 9})
    assert not await caught_up(replication, patience_s=PATIENCE_S)
    assert len(replication.waits) == 5


async def test_when_nothing_comes_any_more_it_says_what_is_missing() -> None:
    replication = FakeReplication({A: 9, B: 5}, {A: 9}, None, {B: 5})
    assert await caught_up(replication, patience_s=PATIENCE_S) == Position({B: Stamp(5)})
    assert len(replication.waits) == 2


async def test_what_is_written_meanwhile_is_not_waited_for() -> None:
    class Busy(FakeReplication):
        async def wait_for(self, position: Position, *, timeout_s: float) -> None:
            self.peers[A] = Stamp(self.peers[A] + 1)  # the peer writes on
            await super().wait_for(position, timeout_s=timeout_s)

    busy = Busy({A: 3}, {A: 3}, {A: 4}, {A: 5})
    assert not await caught_up(busy, patience_s=PATIENCE_S)
    assert len(busy.waits) == 1


async def test_what_nobody_has_any_more_is_not_waited_for() -> None:
    class PeerLeaves(FakeReplication):
        async def wait_for(self, position: Position, *, timeout_s: float) -> None:
            self.peers.clear()
            await super().wait_for(position, timeout_s=timeout_s)

    replication = PeerLeaves({A: 3})
    assert not await caught_up(replication, patience_s=PATIENCE_S)
    assert len(replication.waits) == 1
