"""Two nodes of Litecast. The far one counts the casts that its actor gets, and echoes calls.

Casts promise nothing, and a sender that is faster than the receiver for long would fill the outbox and then lose.
So the near end paces itself: the counting actor casts back how many it has, every `ACK_EVERY`, and no more than
`WINDOW` are ever on their way: below every bound of queues on it (200,000 in the outbox, 100,000 in the mailbox).
The clock stops when the count of the last cast has come back, so whatever was lost would show as a time-out.
"""

import asyncio
import logging
from random import Random
from time import perf_counter, perf_counter_ns
from typing import Any

from benchmarks.ends.load import PAYLOAD, percentiles
from benchmarks.ends.parent import requests_async, settings, tell
from cluster.actor import Actor
from cluster.address import Address, parse_address
from cluster.discovery.static import StaticDiscovery
from cluster.membership import NodeUp
from cluster.node import Node
from cluster.security import Secret, derive_curve_keys
from cluster.supervisor import ActorChild
from cluster.zeromq import ZeroMqTransport

CLUSTER = "benchmarks"
ACK_EVERY = 1_000
WINDOW = 50_000
ARRIVE_TIMEOUT_S = 30.0
POLL_INTERVAL_S = 5.0


class Counting(Actor):
    """Counts what it gets and tells the sender; echoes calls."""

    name = "counting"

    def __init__(self) -> None:
        self.node: Node | None = None
        self._count = 0

    async def handle_cast(self, message: object, sender: str) -> None:
        self._count += 1
        if not self._count % ACK_EVERY:
            assert self.node is not None
            self.node.cast(sender, Counted.name, self._count)

    async def handle_call(self, message: object, sender: str) -> object:
        return message


class Counted(Actor):
    """Knows how many casts have arrived at the far end, and whether there is one."""

    name = "counted"

    def __init__(self) -> None:
        self.node: Node | None = None
        self.up = asyncio.Event()
        self.count = 0
        self._awaited: tuple[int, asyncio.Future[None]] | None = None

    async def handle_cast(self, message: object, sender: str) -> None:
        assert isinstance(message, int)
        self.count = message
        if self._awaited is not None and message >= self._awaited[0]:
            self._awaited[1].set_result(None)
            self._awaited = None

    async def handle_info(self, info: object) -> None:
        if isinstance(info, NodeUp):
            self.up.set()

    async def reach(self, count: int) -> None:
        """Wait until as many have arrived. Raises TimeoutError."""
        if self.count < count:
            self._awaited = count, asyncio.get_running_loop().create_future()
            async with asyncio.timeout(ARRIVE_TIMEOUT_S):
                await self._awaited[1]


def _node(name: str, actor: Counting | Counted, given: dict[str, Any], far: Address | None) -> Node:
    secret = given.get("secret")
    node = Node(
        name=name,
        cluster=CLUSTER,
        transport=ZeroMqTransport(
            parse_address("127.0.0.1:0"), keys=None if secret is None else derive_curve_keys(Secret(secret), CLUSTER)
        ),
        discovery=StaticDiscovery(
            [] if far is None else [far],
            poll_interval_s=POLL_INTERVAL_S,
            log=logging.getLogger(__name__),
            random=Random(),
            count_failure=lambda: None,
        ),
        children=[ActorChild(actor.name, lambda: actor)],
    )
    actor.node = node
    node.monitor_nodes(actor.name)
    return node


async def _far(given: dict[str, Any]) -> None:
    async with _node("far", Counting(), given, None) as node:
        tell(address=str(node.address))
        async for _ in requests_async():
            pass


async def _near(given: dict[str, Any]) -> None:
    counted = Counted()
    async with _node("near", counted, given, parse_address(given["far"]["address"])) as node:
        await asyncio.wait_for(counted.up.wait(), ARRIVE_TIMEOUT_S)
        tell()
        async for request in requests_async():
            if "casts" in request:
                tell(casts_per_s=await _casts(node, counted, request["casts"], request["burst"]))
            else:
                tell(**await _calls(node, request["calls"]))


async def _casts(node: Node, counted: Counted, casts: int, burst: int) -> float:
    """Casts per second that arrived: bursts of as many, each followed by a turn of the event loop."""
    before, cast = counted.count, node.cast
    began = perf_counter()
    for sent in range(0, casts, burst):
        if before + sent + burst - counted.count > WINDOW:
            await counted.reach(before + sent + burst - WINDOW)
        for _ in range(burst):
            cast("far", "counting", PAYLOAD)
        await asyncio.sleep(0)
    await counted.reach(before + casts)
    elapsed_s = perf_counter() - began
    assert node.counters.dropped == 0, node.counters.snapshot()
    return casts / elapsed_s


async def _calls(node: Node, calls: int) -> dict[str, float]:
    times_ns = []
    for _ in range(calls):
        began_ns = perf_counter_ns()
        await node.call("far", "counting", PAYLOAD)
        times_ns.append(perf_counter_ns() - began_ns)
    return percentiles(times_ns)


if __name__ == "__main__":
    started_with = settings()
    asyncio.run(_far(started_with) if started_with["end"] == "far" else _near(started_with))
