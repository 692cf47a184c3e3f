"""A node in a process of its own, for tests that stop and kill processes.

    python -m tests.support.bus_process NAME BIND [PEER ...]

Prints its address, then one line for each peer that comes and goes. Ends in order at SIGTERM.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Sequence

from cluster.actor import Actor
from cluster.address import Address, parse_address
from cluster.membership import NodeDown, NodeUp
from cluster.node import Node
from cluster.supervisor import ActorChild
from cluster.zeromq import ZeroMqTransport
from tests.support.clusters import DIALS, FAST, Listed


class Echo(Actor):
    """Answers what it is asked and prints what it hears."""

    name = "recorder"

    def __init__(self, node: Callable[[], Node]) -> None:
        self._node = node

    async def started(self) -> None:
        self._node().monitor_nodes(self.name)

    async def handle_call(self, message: object, sender: str) -> object:
        return message

    async def handle_cast(self, message: object, sender: str) -> None:
        print("cast", sender, message, flush=True)

    async def handle_info(self, info: object) -> None:
        if isinstance(info, NodeUp):
            print("up", info.peer.name, flush=True)
        elif isinstance(info, NodeDown):
            print("down", info.peer.name, flush=True)


async def run(name: str, bind: Address, peers: Sequence[Address]) -> None:
    """Run the node until SIGTERM."""
    nodes: list[Node] = []
    nodes.append(
        Node(
            name=name,
            cluster="test",
            transport=ZeroMqTransport(bind),
            discovery=Listed(peers),
            children=[ActorChild(Echo.name, lambda: Echo(lambda: nodes[0]))],
            detector=FAST,
            dialing=DIALS,
        )
    )
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with nodes[0] as node:
        print("address", node.address, flush=True)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], parse_address(sys.argv[2]), [parse_address(peer) for peer in sys.argv[3:]]))
