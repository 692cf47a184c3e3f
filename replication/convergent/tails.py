"""Setting a tail aside when this node finds that it has one. What comes in its place is fetched by catching up."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from replication.convergent.saying import tail_said
from replication.convergent.store import Done, Store, View
from replication.engine.stamps import Site, Stamp

log = logging.getLogger(__name__)


class Here(Protocol):
    """What this needs of the node's replication."""

    def view(self) -> View:
        """How the database is now."""
        ...

    async def work(self, step: Callable[[Store], Done]) -> Done:
        """Has the engine do something."""
        ...

    def has_something_lacking(self) -> None:
        """There is something to be asked for."""
        ...


class Tails:
    """See the module. `due` is set when there is something to do."""

    def __init__(self, here: Here) -> None:
        self.due = asyncio.Event()
        self._here = here
        self._found: Mapping[Site, Stamp] = {}

    def found(self, tail: Mapping[Site, Stamp]) -> None:
        """This node has a tail, which begins after these stamps."""
        self._found = tail
        self.due.set()

    async def step(self) -> None:
        """Sets it aside."""
        await self.due.wait()
        self.due.clear()
        tail = {**self._found, **self._here.view().tail}
        if tail and not self._here.view().is_resetting:
            log.warning("%s. Its rows are taken from a peer again", tail_said(tail))
            await self._here.work(lambda store: store.set_tail_aside(tail))
        self._found = {}
        self._here.has_something_lacking()
