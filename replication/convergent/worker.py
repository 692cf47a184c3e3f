"""The actor under whose name a node's replication is reached. It hands over what comes, and keeps nothing itself."""

from cluster.actor import Actor
from cluster.membership import NodeDown, NodeUp
from cluster.node import Node
from replication.convergent.asking import REPLICATION
from replication.convergent.replication import Replication


class ReplicationWorker(Actor):
    """See the module."""

    name = REPLICATION

    def __init__(self, replication: Replication, node: Node) -> None:
        self._replication = replication
        self._node = node

    async def started(self) -> None:
        """Asks to be told who comes and goes."""
        self._node.monitor_nodes(self.name)

    async def handle_cast(self, message: object, sender: str) -> None:
        """A changeset, or heads."""
        self._replication.cast_from(sender, message)

    async def handle_call(self, message: object, sender: str) -> object:
        """A request for what the peer lacks."""
        return await self._replication.answer(sender, message)

    async def handle_info(self, info: object) -> None:
        """A peer came or went."""
        match info:
            case NodeUp(peer=peer):
                self._replication.came_up(peer.name)
            case NodeDown(peer=peer):
                self._replication.went_down(peer.name)
            case _:
                pass
