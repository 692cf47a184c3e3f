"""The change feed of a node: who reads, waits for the next fold or merge, and costs nothing meanwhile.

A reader keeps no place here that could overflow: it has one page, and asks for the next when that is used up. So a slow
one holds up nobody and loses nothing; it reads from the journal, as one does that comes back after a while."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol, Self

from replication.convergent.engine import Engine
from replication.convergent.shelf import Shelf
from replication.convergent.store import View
from replication.engine.stamps import Site, Stamp
from replication.errors import PositionTimeout, StartOver
from replication.feed.change import Change
from replication.feed.position import FeedPosition
from replication.feed.reading import Durable, FeedPage, FeedReader, here
from replication.positions import Position
from replication.translation import translated

REACH_TIMEOUT_S: Final = 5.0
"""So long a node is given to merge what a reader was told elsewhere."""


_NODES_MAX: Final = 10_000
"""A node has a new site now and then, and never thousands."""


class Here(Protocol):
    """What the feed needs of this node's replication."""

    def view(self) -> View:
        """How the database is now."""
        ...

    def is_moving_state(self) -> bool:
        """Whether a peer's state is being merged, piece by piece."""
        ...


class Feed:
    """See the module. `moved` is called after each fold and merge, `stop` when the node stops."""

    def __init__(self, around: Here, shelf: Shelf, engine: Engine) -> None:
        self.nodes: dict[Site, str] = {}
        """Which node writes under a site, as far as this one has heard."""
        self.is_stopped = False
        self._here = around
        self._shelf = shelf
        self._engine = engine
        self._moved = asyncio.Event()

    def writes_under(self, site: Site, node: str) -> None:
        """A node said that it writes under this site."""
        if len(self.nodes) < _NODES_MAX:
            self.nodes[site] = node

    def moved(self) -> None:
        """Something was folded or merged: readers look."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    def stop(self) -> None:
        """Ends all reading."""
        self.is_stopped = True
        self.moved()

    @property
    def next_move(self) -> asyncio.Event:
        """Is set when something is folded or merged from now on."""
        return self._moved

    def is_whole(self) -> bool:
        """False while a peer's state is being merged: what is read then is between two states."""
        return not self._here.is_moving_state()

    async def read(self, reader: FeedReader, position: FeedPosition | None) -> FeedPage:
        """A reader's next page. Raises what reading raises."""
        durable = self._durable()
        return await self._engine.run(lambda: reader.read(self._shelf.connection, position, durable))

    async def position(self) -> FeedPosition:
        """That of who was told of everything so far. Raises sqlite3.Error."""
        durable = self._durable()
        return await self._engine.run(lambda: here(self._shelf.connection, durable))

    def lacks(self, stamps: Mapping[Site, Stamp]) -> bool:
        """Whether any of these is not merged here."""
        heads = self._here.view().vector
        return any(site not in heads or heads[site].stamp < stamp for site, stamp in stamps.items())

    def _durable(self) -> Durable:
        view = self._here.view()
        own = view.vector.get(view.site)
        return Durable(site=view.site, upto=None if own is None else own.stamp)


class ChangeFeed:
    """The changes of a table, from a position on: `async for change in feed`. Made by `Repo.changes`.

    It ends only when the node stops. Raises NotReplicated; StartOver; PositionTimeout, if this node has not merged in
    time what the reader was told on another one; DatabaseError. A task that waits for the next change may be cancelled:
    the change comes next time."""

    def __init__(self, feed: Feed, table: str, since: FeedPosition | None, *, path: Path) -> None:
        self.position = since
        """Where to go on: after the change that was given last, and past what other tables changed. None before the
        first, if it begins with the rows."""
        self._feed = feed
        self._table = table
        self._path = path
        self._reader = FeedReader(table, feed.nodes)
        self._changes: deque[Change] = deque()
        self._next = since
        self._move: asyncio.Event | None = None
        """What to wait for before reading on."""
        self._has_begun = False

    @property
    def buffered(self) -> int:
        """How many changes it has read ahead: a page at most."""
        return len(self._changes)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        while not self._changes:
            if self._has_begun:
                self.position = self._next
            if self._feed.is_stopped:
                raise StopAsyncIteration
            await self._read_on()
        change = self._changes.popleft()
        self.position = change.position
        return change

    async def begin(self) -> None:
        """Reads the first page: what is wrong with the table or the position is raised here, and not later."""
        while not self._has_begun and not self._feed.is_stopped:
            await self._read_on()

    async def _read_on(self) -> None:
        if self._move is not None:
            await self._move.wait()
            self._move = None
        move = self._feed.next_move
        if not self._feed.is_whole():
            self._move = move
            return
        try:
            page = await self._feed.read(self._reader, self._next)
        except sqlite3.Error as error:
            raise translated(error, path=self._path, busy_timeout_s=0, table=self._table) from error
        if page.missing:
            await self._reach(page.missing)
            return
        self._has_begun = True
        self._next = page.position
        self._changes.extend(page.changes)
        if not page.more:
            self._move = move

    async def _reach(self, missing: Mapping[Site, Stamp]) -> None:
        """Waits until this node has merged what the reader was told elsewhere."""
        if self._has_begun:
            raise StartOver(self._table, "the database was put back to an older state")
        try:
            async with asyncio.timeout(REACH_TIMEOUT_S):
                while not self._feed.is_stopped and self._feed.lacks(missing):
                    await self._feed.next_move.wait()
        except TimeoutError:
            raise PositionTimeout(str(Position(missing)), REACH_TIMEOUT_S) from None
