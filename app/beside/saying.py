"""Says to programs beside this node what they need to know of it, in mode primary: see `replication.middleware`."""

import asyncio
import contextlib
import logging
from typing import Final

from app.beside.doors import Doors
from app.config import Config
from cluster.node import Node
from cluster.security import derive_token_key
from cluster.seldom import SeldomLog
from cluster.tasks import ended
from replication.middleware.node_file import NodeFileWriter, NodeSays, OtherNode
from replication.opening import resolved
from replication.primary.leading import Leading

log = logging.getLogger(__name__)

BEAT_S: Final = 0.25
"""A quarter of what programs take for a node that is not awake."""


class SayingToPrograms:
    """`start` once the node and its leading run, `stop` after the leading stopped."""

    def __init__(self, config: Config, node: Node, leading: Leading, *, url: str) -> None:
        """`url`: where this node's own pages are."""
        self._config = config
        self._node = node
        self._url = url
        self._leading = leading
        self._doors = Doors(node)
        self._file = NodeFileWriter(resolved(config.database.path))
        self._key = derive_token_key(config.bus.secret, config.cluster.name)
        self._tasks: list[asyncio.Task[None]] = []
        self._seldom: SeldomLog | None = None

    def start(self) -> None:
        """Says it at once, and again whenever it changes."""
        self._seldom = SeldomLog(log, asyncio.get_running_loop().time)
        self._say()
        self._tasks = [
            asyncio.create_task(self._go_on(), name="saying to programs"),
            asyncio.create_task(self._ask_on(), name="asking where programs are"),
        ]

    async def stop(self) -> None:
        """Says last that this node does not write; programs then see no heartbeat any more."""
        tasks, self._tasks = self._tasks, []
        await ended(tasks)
        self._say()

    async def _go_on(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S):
                    await self._leading.next_change()
            self._say()

    async def _ask_on(self) -> None:
        while True:
            await self._doors.ask()
            await asyncio.sleep(BEAT_S)

    def _say(self) -> None:
        config, status = self._config, self._leading.status()
        says = NodeSays(
            node=config.node.name,
            region=config.node.region,
            url=self._url,
            primary=status.primary,
            good_until_s=self._leading.writes_until_s(),
            key=self._key,
            is_secret=config.bus.secret is not None,
            hold_s=config.forwarding.hold_s,
            visible_s=config.forwarding.visible_s,
            others={
                peer.name: OtherNode(region=peer.region, url=self._doors.url_of(peer.incarnation))
                for peer in self._node.peers()
            },
        )
        try:
            self._file.tell(says, awake_s=self._leading.awake_s)
        except OSError as error:
            if self._seldom is not None:
                self._seldom.warning("file", f"programs beside this node cannot be told how it stands: {error}")
