"""The two actors of primary mode: who is the primary, and what it is to write. They keep nothing themselves."""

import asyncio
import logging
import sqlite3

from cluster.actor import Actor
from cluster.errors import LeaseError, LeaseUnusable
from cluster.membership import NodeUp
from cluster.node import Node
from cluster.seldom import SeldomLog
from replication.errors import CannotPromote, ReplicationError
from replication.primary.carrying_out import CarryingOut
from replication.primary.forwarding import WRITES
from replication.primary.leading import Leading
from replication.primary.standing import PRIMARY
from replication.primary.under_way import UnderWay

log = logging.getLogger(__name__)


class PrimaryWorker(Actor):
    """Hears who is the primary, and says to candidates what this node has."""

    name = PRIMARY

    def __init__(self, leading: Leading, node: Node, seldom: SeldomLog) -> None:
        self._leading = leading
        self._node = node
        self._seldom = seldom

    async def started(self) -> None:
        """Asks to be told who comes."""
        self._node.monitor_nodes(self.name)

    async def handle_cast(self, message: object, sender: str) -> None:
        """Whether a peer is the primary."""
        if not self._leading.cast_from(sender, message):
            self._seldom.warning(f"bad {sender}", f"dropped a cast from {sender} that says nothing of who is primary")

    async def handle_call(self, message: object, sender: str) -> object:
        """A candidate asks for the heads, or somebody that this primary hands over."""
        match message:
            case ["promote", str(node)]:
                try:
                    await self._leading.hand_over(node)
                except (CannotPromote, LeaseError, LeaseUnusable, sqlite3.Error, OSError, ReplicationError) as error:
                    return ["refused", str(error)]
                return ["done"]
            case _:
                return await self._leading.answer(message)

    async def handle_info(self, info: object) -> None:
        """A peer came, or went, which means nothing here."""
        if isinstance(info, NodeUp):
            self._leading.came_up(info.peer.name)


class WritesWorker(Actor):
    """Carries out what peers forward, in the order in which it comes."""

    name = WRITES

    def __init__(self, carrying_out: CarryingOut, under_way: UnderWay) -> None:
        self._carrying_out = carrying_out
        self._under_way = under_way

    async def handle_cast(self, message: object, sender: str) -> None:
        """Nobody casts a write: who forwards one wants to know."""

    async def handle_call(self, message: object, sender: str) -> object:
        """A write, which is answered once it is carried out."""
        return asyncio.create_task(self._carry_out(message), name="carrying out a forwarded write")

    async def _carry_out(self, message: object) -> list[object]:
        with self._under_way.one():
            return await self._carrying_out.answer(message)
