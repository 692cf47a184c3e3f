"""What peers, and readers of the change feed, are served from: a second connection, which only reads, so that serving
never waits for a merge."""

import sqlite3
from collections.abc import Callable, Mapping

from replication.convergent.archive import Weight
from replication.engine.journal import Page, page, piece, state_bytes
from replication.engine.stamps import Site, Stamp

PAGE_MAX_BYTES = 1024 * 1024
PAGE_MAX_COUNT = 5_000


class Shelf:
    """See the module. `connect` is called by `open`, in the thread of its engine."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._opened: sqlite3.Connection | None = None

    def open(self) -> None:
        """Opens the connection."""
        self._opened = self._connect()

    def close(self) -> None:
        """Closes it."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            opened.close()

    def page(self, have: Mapping[Site, Stamp]) -> Page:
        """The next changesets for who has merged as far as this."""
        return page(self.connection, have, max_bytes=PAGE_MAX_BYTES, max_count=PAGE_MAX_COUNT)

    def weight(self, have: Mapping[Site, Stamp]) -> Weight:
        """What a snapshot would be, and whether who has merged as far as this needs one."""
        found = page(self.connection, have, max_bytes=1, max_count=1)
        return Weight(joins=not found.beyond, state_bytes=state_bytes(self.connection))

    def piece(self, site: Site, upto: Stamp, at: int, size: int) -> bytes | None:
        """Some bytes of a changeset, if the journal still has it."""
        return piece(self.connection, site, upto, at=at, size=size)

    @property
    def connection(self) -> sqlite3.Connection:
        """The connection, in the thread of its engine."""
        assert self._opened is not None, "the shelf is open"
        return self._opened
