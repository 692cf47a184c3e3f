"""The actor under whose name a node's backup is reached. It hands over what comes, and keeps nothing itself."""

from cluster.actor import Actor
from cluster.membership import NodeDown, NodeUp
from cluster.node import Node
from replication.backup.saying import BACKUP
from replication.backup.uploading import Backup


class BackupWorker(Actor):
    """See the module."""

    name = BACKUP

    def __init__(self, backup: Backup, node: Node) -> None:
        self._backup = backup
        self._node = node

    async def started(self) -> None:
        """Asks to be told who comes and goes."""
        self._node.monitor_nodes(self.name)

    async def handle_cast(self, message: object, sender: str) -> None:
        """What a peer says of the bucket."""
        self._backup.heard(sender, message)

    async def handle_call(self, message: object, sender: str) -> object:
        """Nobody has anything to ask."""
        return ["error", "not a question"]

    async def handle_info(self, info: object) -> None:
        """A peer came or went."""
        match info:
            case NodeUp(peer=peer):
                self._backup.came_up(peer.name)
            case NodeDown(peer=peer):
                self._backup.went_down(peer.name)
            case _:
                pass
