"""The actor through which nodes tell each other what they have durably. It keeps nothing itself."""

from cluster.actor import Actor
from cluster.membership import NodeDown
from cluster.node import Node
from cluster.seldom import SeldomLog
from replication.acknowledging.confirming import CONFIRMING, Confirming


class ConfirmingWorker(Actor):
    """See the module."""

    name = CONFIRMING

    def __init__(self, confirming: Confirming, node: Node, seldom: SeldomLog) -> None:
        self._confirming = confirming
        self._node = node
        self._seldom = seldom

    async def started(self) -> None:
        """Asks to be told who goes."""
        self._node.monitor_nodes(self.name)

    async def handle_cast(self, message: object, sender: str) -> None:
        """A peer waits for something, or has it."""
        if not self._confirming.cast_from(sender, message):
            self._seldom.warning(f"bad {sender}", f"dropped a cast from {sender} that neither wants nor has anything")

    async def handle_info(self, info: object) -> None:
        """A peer went."""
        if isinstance(info, NodeDown):
            self._confirming.went_down(info.peer.name)
