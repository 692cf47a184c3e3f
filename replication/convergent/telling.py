"""Telling peers how far this node has merged (its heads) and which schemas it has: each second, and to newcomers."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Final

from replication.convergent.messages import Heads
from replication.convergent.schemas import Schemas, plain_schemas

HEADS_INTERVAL_S: Final = 1.0
HEADS_UNCHANGED_EVERY: Final = 5
"""So many seconds apart are heads told when nothing has changed: a lost one must not be the last."""
SCHEMAS_EVERY: Final = 10
"""So many seconds apart is said which schemas this node has, when they have not changed."""


class Telling:
    """See the module. `heads` and `schemas` say what may be told now: what is durable."""

    def __init__(
        self,
        *,
        peers: Callable[[], Sequence[str]],
        cast: Callable[[str, object], None],
        heads: Callable[[], Heads | None],
        schemas: Callable[[], Schemas],
    ) -> None:
        self.due = asyncio.Event()
        """Somebody is to be told at once."""
        self._peers = peers
        self._cast = cast
        self._heads = heads
        self._schemas = schemas
        self._newcomers: set[str] = set()
        """Peers that came up and have not heard how far this node is."""
        self._told: Heads | None = None
        self._untold_s = 0
        self._changed_before = False
        self._schemas_told: Schemas | None = None
        self._schemas_told_s = 0

    def greet(self, peer: str) -> None:
        """A peer came up: it is told at once."""
        self._newcomers.add(peer)
        self.due.set()

    async def wait(self) -> None:
        """Until a second is over, or somebody has come up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEADS_INTERVAL_S):
                await self.due.wait()
        self.due.clear()

    def tell_newcomers(self) -> bool:
        """Tells them all. False if there are none."""
        newcomers, self._newcomers = sorted(self._newcomers), set()
        if newcomers:
            self.tell(newcomers)
            self._tell_schemas(newcomers)
        return bool(newcomers)

    def tell_what_is_new(self) -> None:
        """To be called each second. What has changed is said twice, for who does not ask at once for what may be on its
        way; what has not, seldom."""
        heads, told = self._heads(), self._told
        changed = heads is None or told is None or (told.vector, told.closed) != (heads.vector, heads.closed)
        self._untold_s += 1
        if changed or self._changed_before or self._untold_s >= HEADS_UNCHANGED_EVERY:
            self.tell(self._peers())
            self._untold_s = 0
        self._changed_before = changed
        self._schemas_told_s += 1
        schemas = self._schemas()
        if schemas != self._schemas_told or self._schemas_told_s >= SCHEMAS_EVERY:
            self._tell_schemas(self._peers())
            self._schemas_told, self._schemas_told_s = schemas, 0

    def tell(self, peers: Sequence[str]) -> None:
        """Tells these peers the heads."""
        heads = self._heads()
        if heads is None:
            return
        if len(peers) == len(self._peers()):
            self._told = heads
        message = heads.plain()
        for peer in peers:
            self._cast(peer, message)

    def _tell_schemas(self, peers: Sequence[str]) -> None:
        for peer in peers:
            self._cast(peer, plain_schemas(self._schemas()))
